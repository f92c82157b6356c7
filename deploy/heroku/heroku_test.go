// Package heroku_test tries what is for Heroku: the build that the Go buildpack would make
// of this repository, drain as a dyno, app.json, and the scripts attach and check, against
// a real drain and a Heroku of our own that answers as its documentation says.
package heroku_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"drain/trial/check"
	"drain/trial/journal"
)

var must, eventually, freePort = check.Must, check.Eventually, check.FreePort

// slug is the build of the repository, made once for all tests.
var slug struct {
	root string // a copy of the tracked files
	bin  string // what the buildpack installed, as /app/bin
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drain-heroku")
	if err == nil {
		defer os.RemoveAll(dir)
		slug.root, slug.bin = filepath.Join(dir, "build"), filepath.Join(dir, "app", "bin")
		err = errors.Join(checkout(slug.root), buildpack(slug.root, slug.bin))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// checkout copies what git tracks: what is only on this machine is not on Heroku.
func checkout(dir string) error {
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = "../.."
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		from, to := filepath.Join(list.Dir, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not yet committed
		}
		var content []byte
		if err == nil {
			content, err = os.ReadFile(from)
		}
		err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755))
		if err := errors.Join(err, os.WriteFile(to, content, info.Mode())); err != nil {
			return err
		}
	}
	return nil
}

// directive reads `// +heroku NAME VALUE…` of a go.mod as the buildpack's awk does: the
// first line whose first three words are these, and its other words.
func directive(gomod, name string) string {
	for line := range strings.Lines(gomod) {
		if words := strings.Fields(line); len(words) > 3 && slices.Equal(words[:3], []string{"//", "+heroku", name}) {
			return strings.Join(words[3:], " ")
		}
	}
	return ""
}

// buildpack builds as bin/compile of heroku-buildpack-go does for a repository with a
// go.mod and without vendor/.
func buildpack(root, bin string) error {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	packages := strings.Fields(directive(string(gomod), "install"))
	if packages == nil {
		return errors.New("go.mod has no line `// +heroku install`")
	}
	install := exec.Command("go", append([]string{"install", "-tags", "heroku"}, packages...)...)
	install.Dir = root
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=", "GOWORK=off")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", install, err, out)
	}
	return nil
}

// dyno is a process that runs as Heroku would run it.
type dyno struct {
	t *testing.T
	*exec.Cmd
	journal.Journal // of what it says
	port            string
	ended           chan struct{}
}

// start runs a program of the slug with these settings (`NAME=value`), and none of ours.
func start(t *testing.T, command, port string, settings ...string) *dyno {
	t.Helper()
	d := &dyno{t: t, Cmd: exec.Command(filepath.Join(slug.bin, command)), port: port, ended: make(chan struct{})}
	d.Env = append([]string{"DYNO=web.1", "PORT=" + port, "ADMIN_LISTEN=127.0.0.1:0"}, settings...)
	d.Stdout, d.Stderr = &d.Journal, &d.Journal
	d.Dir = "/proc" // no folder to write into, not even for root
	must(t, d.Start())
	go func() {
		_ = d.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.Process.Kill() // it may have ended
		<-d.ended
		if t.Failed() {
			t.Logf("the dyno said:\n%s", d)
		}
	})
	return d
}

func (d *dyno) String() string { return d.Journal.String() }

// stop sends SIGTERM twice, as Heroku may, and returns the exit status.
func (d *dyno) stop() int {
	d.t.Helper()
	for range 2 {
		_ = d.Process.Signal(syscall.SIGTERM) // the first may have ended it
	}
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		d.t.Fatal("does not stop")
	}
	return d.ProcessState.ExitCode()
}

// get asks drain for a page; status 0 when nobody is there.
func (d *dyno) get(path string, headers ...string) (status int, text string) {
	return send("GET", "http://127.0.0.1:"+d.port+path, "", headers...)
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func send(method, url, body string, headers ...string) (status int, text string) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(all)
}

// tools are the programs that attach and check may start. They find no others.
var tools = []string{"curl", "jq", "openssl", "sed", "tr", "cat", "od", "date", "sleep"}

// arguments notes the arguments of every program that a script starts.
type arguments struct{ path, log string }

// newArguments makes a PATH on which each of tools notes its arguments first. sleep does
// not sleep long.
func newArguments(t *testing.T) *arguments {
	t.Helper()
	dir := t.TempDir()
	a := &arguments{path: filepath.Join(dir, "bin"), log: filepath.Join(dir, "arguments")}
	must(t, os.Mkdir(a.path, 0o755))
	for _, tool := range tools {
		program, err := exec.LookPath(tool)
		if err != nil {
			t.Fatalf("%s is missing: scripts/test installs it", tool)
		}
		run := fmt.Sprintf("exec %s \"$@\"", program)
		if tool == "sleep" {
			run = fmt.Sprintf("exec %s 0.005", program)
		}
		a.add(t, tool, run)
	}
	return a
}

func (a *arguments) add(t *testing.T, tool, run string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(a.path, tool),
		fmt.Appendf(nil, "#!/bin/sh\nprintf '%%s ' '%s' \"$@\" >>'%s'; echo >>'%s'\n%s\n", tool, a.log, a.log, run), 0o755))
}

func (a *arguments) String() string {
	noted, _ := os.ReadFile(a.log)
	return string(noted)
}

// script runs attach or check with these variables, and waits for its end.
func (a *arguments) script(t *testing.T, name string, env []string, args ...string) (status int, out string) {
	t.Helper()
	return a.command(t, name, env, args...).run(t)
}

type command struct {
	*exec.Cmd
	cancel  context.CancelFunc
	started chan struct{}
}

// command is attach or check, in a process group of its own.
func (a *arguments) command(t *testing.T, name string, env []string, args ...string) *command {
	t.Helper()
	bash, err := exec.LookPath("bash")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	c := &command{exec.CommandContext(ctx, bash, append([]string{name}, args...)...), cancel, make(chan struct{})}
	c.Env = append([]string{"PATH=" + a.path}, env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = c.kill
	return c
}

// kill ends the script and what it started.
func (c *command) kill() error {
	<-c.started
	return syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
}

func (c *command) run(t *testing.T) (status int, out string) {
	t.Helper()
	defer c.cancel()
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	must(t, c.Start())
	close(c.started)
	_ = c.Wait() // its exit status tells
	return c.ProcessState.ExitCode(), said.String()
}

var manySpaces = regexp.MustCompile(`\s+`)

// says fails unless text holds each of these, with spaces of any length.
func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(manySpaces.ReplaceAllString(text, " "), w) {
			t.Errorf("does not say %q:\n%s", w, text)
		}
	}
}
