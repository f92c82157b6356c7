// Package deploy_test tries the image and the services of systemd as far as that can be done
// without Docker and without systemd as the first process.
package deploy_test

import (
	"bufio"
	"debug/elf"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.yaml.in/yaml/v3"

	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/redisserver"
)

var must = check.Must

// dockerfile is what the tests read of deploy/Dockerfile.
type dockerfile struct {
	build  string // the command that builds
	env    []string
	user   string
	expose []string
	starts string // what it runs unless another command is named
	text   string
}

func readDockerfile(t *testing.T) (d dockerfile) {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	must(t, err)
	d.text = string(text)
	for line := range strings.Lines(d.text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "RUN":
			if strings.Contains(rest, "go build") {
				d.build = rest
			}
		case "ENV":
			d.env = strings.Fields(rest)
		case "USER":
			d.user = rest
		case "CMD", "ENTRYPOINT": // only one is in use: behind an ENTRYPOINT no other command could be named
			d.starts += strings.TrimSpace(line)
		case "EXPOSE":
			d.expose = strings.Fields(rest)
		}
	}
	return d
}

// ignored tells whether .dockerignore leaves a file out. It knows what stands there:
// names at the root, and patterns of names anywhere.
func ignored(t *testing.T, patterns []string, name string) bool {
	t.Helper()
	for _, p := range patterns {
		if anywhere, ok := strings.CutPrefix(p, "**/"); ok {
			for part := range strings.SplitSeq(name, "/") {
				if match, err := filepath.Match(anywhere, part); err != nil || match {
					must(t, err)
					return true
				}
			}
		} else if name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}

// buildContext is what Docker is given to build from: the tracked files but for those of
// .dockerignore.
func buildContext(t *testing.T) (dir string) {
	t.Helper()
	text, err := os.ReadFile("../.dockerignore")
	must(t, err)
	var patterns []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = ".."
	names, err := list.Output()
	must(t, err)
	dir = t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if ignored(t, patterns, name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(list.Dir, name))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	return dir
}

// The image's programs need nothing but the kernel: drain and metrics work in a root folder
// that holds only them, as an unprivileged user, with the image's settings.
func TestTheImagesPrograms(t *testing.T) {
	d, root := readDockerfile(t), t.TempDir()
	must(t, os.Chmod(root, 0o755))
	if !strings.HasPrefix(d.build, "CGO_ENABLED=0 go build ") || !strings.Contains(d.build, " -o /out/ ") {
		t.Fatalf("it builds by %q", d.build)
	}
	// Without -trimpath and the profile: all would be compiled once more for each.
	build := exec.Command("sh", "-euc", strings.NewReplacer("/out/", filepath.Join(root, "bin")+"/", " -trimpath", "").Replace(d.build))
	build.Dir = buildContext(t)
	build.Env = append(os.Environ(), "GOFLAGS=-pgo=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", d.build, err, out)
	}
	programs, err := os.ReadDir(filepath.Join(root, "bin"))
	must(t, err)
	for _, p := range programs {
		f, err := elf.Open(filepath.Join(root, "bin", p.Name()))
		must(t, err)
		libraries, err := f.ImportedLibraries()
		if interpreted := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }); interpreted || len(libraries) > 0 || err != nil {
			t.Errorf("%s is not static: %v %v", p.Name(), libraries, err)
		}
		f.Close()
	}
	if d.user != "65532:65532" || !slices.Equal(d.expose, []string{"8080", "8081"}) || !slices.Contains(d.env, "LISTEN=:8080") || !slices.Contains(d.env, "ADMIN_LISTEN=:8081") {
		t.Errorf("%+v", d)
	}

	if d.starts != `CMD ["drain"]` || !slices.Contains(d.env, "PATH=/bin") {
		t.Errorf("it starts %s with %s", d.starts, d.env)
	}

	run := func(program string, settings ...string) *exec.Cmd {
		cmd := exec.Command("/bin/" + program) // where PATH leads to
		cmd.Dir, cmd.Env = "/", append(slices.Clone(d.env), settings...)
		// What Docker does: another root, another user.
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		if os.Getuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
		} else {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		}
		return cmd
	}
	// They can be reached from outside, so they want a secret.
	for program, wants := range map[string]string{"drain": "DRAIN_SECRETS", "metrics": "DASH_PASSWORD"} {
		out, err := run(program, "KAFKA_URL=127.0.0.1:1").CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), program+": "+wants+": not set, while LISTEN (:8080) can be reached from outside") {
			t.Errorf("%s without secrets: %v, %s", program, err, out)
		}
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "router"))
	must(t, err)
	defer kafka.Close()
	url := "KAFKA_URL=" + kafka.ListenAddrs()[0]
	drain := begin(t, run("drain", "LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", url, "DRAIN_SECRETS=0123456789abcdef"), "Kafka is ready")
	metrics := begin(t, run("metrics", "LISTEN=127.0.0.1:0", url, "REDIS_URL="+redisserver.Start(t).URL(), "DASH_PASSWORD=x"), "takes part in the group")
	res, err := http.Post("http://drain:0123456789abcdef@"+drain.at+"/logs", "", strings.NewReader(time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00")+" heroku[router]: at=info method=GET path=\"/\" status=200\n"))
	must(t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("drain answers %d", res.StatusCode)
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://x:x@" + metrics.at + "/api/v1/lag")
		must(t, err)
		text, err := io.ReadAll(res.Body)
		must(t, err)
		res.Body.Close()
		if strings.Contains(string(text), `"records":1,`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("metrics does not count the line: %s\n%s", text, metrics)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	for _, p := range []*process{drain, metrics} {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // Docker's way to stop
		select {
		case <-p.ended:
		case <-time.After(15 * time.Second):
			t.Fatal("does not stop")
		}
		if p.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("ends with %d:\n%s", p.cmd.ProcessState.ExitCode(), p)
		}
	}
}

// process is a program that runs.
type process struct {
	cmd *exec.Cmd
	journal.Journal
	at    string // where it listens
	ended chan struct{}
}

// begin starts a program, and waits until it says that it is ready.
func begin(t *testing.T, cmd *exec.Cmd, ready string) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = p
	must(t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-p.ended
	})
	for end := time.Now().Add(15 * time.Second); !p.Says(ready); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not ready:\n%s", p)
		}
	}
	p.at = regexp.MustCompile(` listen=(\S+)`).FindStringSubmatch(p.String())[1]
	return p
}

// compose.yaml names files that are there and settings that drain has.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile("compose.yaml")
	must(t, err)
	var compose struct {
		Name     string
		Services map[string]struct {
			Image, Restart string
			Command        []string
			Build          struct{ Context, Dockerfile string }
			Ports          []string
			Environment    map[string]string
			Volumes        []string
			Depends        []string `yaml:"depends_on"`
			Grace          string   `yaml:"stop_grace_period"`
		}
		Volumes map[string]any
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	must(t, decoder.Decode(&compose))
	drain, metrics, kafka, topic, redis := compose.Services["drain"], compose.Services["metrics"], compose.Services["kafka"], compose.Services["topic"], compose.Services["redis"]
	for name, wants := range map[string]string{"drain": "DRAIN_SECRETS", "metrics": "DASH_PASSWORD"} {
		service := compose.Services[name]
		for _, file := range []string{service.Build.Dockerfile, "go.mod"} {
			if _, err := os.Stat(filepath.Join(service.Build.Context, file)); err != nil {
				t.Error(err)
			}
		}
		if runs := strings.Join(service.Command, " "); runs != "" && runs != name {
			t.Errorf("%s runs %s", name, runs)
		}
		help, err := exec.Command("go", "run", "drain/cmd/"+name, "--help").CombinedOutput()
		must(t, err)
		for setting := range service.Environment {
			if flag := "--" + strings.ToLower(strings.ReplaceAll(setting, "_", "-")); !strings.Contains(string(help), flag) && !strings.Contains(string(help), setting+" ") {
				t.Errorf("%s has no setting %s", name, setting)
			}
		}
		for _, port := range service.Ports {
			if parts := strings.Split(port, ":"); parts[0] != "127.0.0.1" || !slices.Contains(readDockerfile(t).expose, parts[2]) {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		if grace, err := time.ParseDuration(service.Grace); err != nil || grace < 15*time.Second {
			t.Errorf("%s is killed after %s", name, service.Grace)
		}
		if !strings.HasPrefix(service.Environment[wants], "${"+wants+":?") {
			t.Errorf("%s of %s: a secret that everybody can read here is no secret", wants, name)
		}
	}
	if len(metrics.Command) != 1 {
		t.Error("metrics runs drain")
	}
	if drain.Environment["KAFKA_URL"] != metrics.Environment["KAFKA_URL"] || drain.Environment["KAFKA_TOPIC"] != metrics.Environment["KAFKA_TOPIC"] {
		t.Errorf("metrics reads %v, drain writes %v", metrics.Environment, drain.Environment)
	}
	// The options of Redis are those that a real one takes, and it keeps what it has.
	if metrics.Environment["REDIS_URL"] != "redis://redis:6379" || len(redis.Command) == 0 || redis.Command[0] != "redis-server" {
		t.Errorf("metrics looks for %s, Redis runs %s", metrics.Environment["REDIS_URL"], redis.Command)
	}
	c := redisserver.Start(t, redis.Command[1:]...).Client(t)
	for name, want := range map[string]string{"maxmemory-policy": "noeviction", "maxmemory": "536870912", "appendonly": "yes"} {
		if got, err := c.ConfigGet(t.Context(), name).Result(); err != nil || got[name] != want {
			t.Errorf("Redis has %s %s, %v; want %s", name, got[name], err, want)
		}
	}
	advertised := strings.TrimPrefix(kafka.Environment["KAFKA_ADVERTISED_LISTENERS"], "PLAINTEXT://")
	if drain.Environment["KAFKA_URL"] != "kafka://"+advertised || !slices.Contains(topic.Command, advertised) || !slices.Contains(topic.Command, drain.Environment["KAFKA_TOPIC"]) {
		t.Errorf("Kafka is at %s, drain looks for %v, the topic is made by %s", advertised, drain.Environment, topic.Command)
	}
	for _, s := range compose.Services {
		for _, name := range s.Depends {
			if _, ok := compose.Services[name]; !ok {
				t.Errorf("there is no service %s", name)
			}
		}
		for _, v := range s.Volumes {
			name, _, _ := strings.Cut(v, ":")
			if _, ok := compose.Volumes[name]; !ok {
				t.Errorf("there is no volume %s", name)
			}
		}
	}
}

// The units are understood by systemd, and leave services that can do little harm.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("systemd-analyze is missing: scripts/test installs it")
	}
	for _, tt := range []struct {
		name, installed string
		settings        map[string]string
	}{
		// drain needs 10 s to stop, and metrics 12; both say with 2 that their settings cannot be used.
		{"drain", "/usr/local/bin/drain", map[string]string{"TimeoutStopSec": "20 ", "RestartPreventExitStatus": "2 ", "Restart": "on-failure ", "User": "drain ",
			"StateDirectory": "drain ", "Environment": "DRAIN_SECRETS_FILE=/etc/drain/secrets DATA_DIR=/var/lib/drain ", "EnvironmentFile": "-/etc/drain/environment "}},
		{"metrics", "/usr/local/bin/drain-metrics", map[string]string{"TimeoutStopSec": "20 ", "RestartPreventExitStatus": "2 ", "Restart": "on-failure ", "User": "drain-metrics ",
			"StateDirectory": "", "Environment": "", "EnvironmentFile": "-/etc/drain-metrics/environment "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := os.ReadFile("systemd/" + tt.name + ".service")
			must(t, err)
			program, unit := filepath.Join(t.TempDir(), tt.name), filepath.Join(t.TempDir(), tt.name+".service")
			must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
			installed := "ExecStart=" + tt.installed + "\n"
			if !strings.Contains(string(text), installed) || !strings.Contains(string(text), " "+tt.installed+"\n") && tt.name != "drain" {
				t.Fatal("it starts something else than is installed")
			}
			must(t, os.WriteFile(unit, []byte(strings.Replace(string(text), installed, "ExecStart="+program+"\n", 1)), 0o644))
			for _, args := range [][]string{{"verify", unit}, {"security", "--offline=yes", "--threshold=20", unit}} {
				out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
				if err != nil || args[0] == "verify" && len(out) > 0 { // of what it does not know it only warns
					t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
			settings := make(map[string]string)
			for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
				if name, value, ok := strings.Cut(lines.Text(), "="); ok && lines.Text()[0] != '#' {
					settings[name] += value + " "
				}
			}
			for name, want := range tt.settings {
				if settings[name] != want {
					t.Errorf("%s=%s, want %s", name, settings[name], want)
				}
			}
		})
	}
}
