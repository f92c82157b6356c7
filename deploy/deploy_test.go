// Package deploy_test tries the image and the service of systemd as far as that can be done
// without Docker and without systemd as the first process.
package deploy_test

import (
	"bufio"
	"debug/elf"
	"fmt"
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

	"drain/trial/journal"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dockerfile is what the tests read of deploy/Dockerfile.
type dockerfile struct {
	build  string // the command that builds
	env    []string
	user   string
	expose []string
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

// The image's programs need nothing but the kernel: drain works in a root folder that
// holds only them, as an unprivileged user, with the image's settings.
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

	run := func(settings ...string) *exec.Cmd {
		cmd := exec.Command("/bin/drain")
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
	// It can be reached from outside, so it wants a secret.
	out, err := run("KAFKA_URL=127.0.0.1:1").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "drain: DRAIN_SECRETS: not set, while LISTEN (:8080) can be reached from outside") {
		t.Errorf("without secrets: %v, %s", err, out)
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "router"))
	must(t, err)
	defer kafka.Close()
	cmd, log := run("LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "KAFKA_URL="+kafka.ListenAddrs()[0], "DRAIN_SECRETS=0123456789abcdef"), new(journal.Journal)
	cmd.Stderr = log
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}()
	for end := time.Now().Add(15 * time.Second); !log.Says("Kafka is ready"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("drain is not ready:\n%s", log)
		}
	}
	at := regexp.MustCompile(` listen=(\S+)`).FindStringSubmatch(log.String())[1]
	res, err := http.Post("http://drain:0123456789abcdef@"+at+"/logs", "", strings.NewReader("2026-01-01T12:00:00.000000+00:00 heroku[router]: at=info method=GET path=\"/\" status=200\n"))
	must(t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	_ = cmd.Process.Signal(syscall.SIGTERM) // Docker's way to stop
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Fatal("does not stop")
	}
	if res.StatusCode != 200 || cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("answers %d, ends with %d:\n%s", res.StatusCode, cmd.ProcessState.ExitCode(), log)
	}
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
	drain, kafka, topic := compose.Services["drain"], compose.Services["kafka"], compose.Services["topic"]
	if _, err := os.Stat(filepath.Join(drain.Build.Context, drain.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(drain.Build.Context, "go.mod")); err != nil {
		t.Error(err)
	}
	help, err := exec.Command("go", "run", "drain/cmd/drain", "--help").CombinedOutput()
	must(t, err)
	for name := range drain.Environment {
		if flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-")); !strings.Contains(string(help), flag) && !strings.Contains(string(help), name+" ") {
			t.Errorf("drain has no setting %s", name)
		}
	}
	for _, port := range drain.Ports {
		if parts := strings.Split(port, ":"); parts[0] != "127.0.0.1" || !slices.Contains(readDockerfile(t).expose, parts[2]) {
			t.Errorf("it publishes %s", port)
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
	if grace, err := time.ParseDuration(drain.Grace); err != nil || grace < 15*time.Second {
		t.Errorf("drain is killed after %s", drain.Grace)
	}
	if !strings.HasPrefix(drain.Environment["DRAIN_SECRETS"], "${DRAIN_SECRETS:?") {
		t.Error("a secret that everybody can read here is no secret")
	}
}

// The unit is understood by systemd, and leaves a service that can do little harm.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("systemd-analyze is missing: scripts/test installs it")
	}
	text, err := os.ReadFile("systemd/drain.service")
	must(t, err)
	program := filepath.Join(t.TempDir(), "drain")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	unit := filepath.Join(t.TempDir(), "drain.service")
	const installed = "ExecStart=/usr/local/bin/drain\n"
	if !strings.Contains(string(text), installed) {
		t.Fatal("it starts something else")
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
	// drain needs 10 s to stop, and says with 2 that its settings cannot be used.
	for name, want := range map[string]string{"TimeoutStopSec": "20 ", "RestartPreventExitStatus": "2 ", "Restart": "on-failure ", "User": "drain "} {
		if settings[name] != want {
			t.Errorf("%s=%s, want %s", name, settings[name], want)
		}
	}
	if want := fmt.Sprint("DRAIN_SECRETS_FILE=/etc/drain/secrets DATA_DIR=/var/lib/", strings.TrimSpace(settings["StateDirectory"]), " "); settings["Environment"] != want {
		t.Errorf("Environment=%s, want %s", settings["Environment"], want)
	}
}
