// Package program starts built commands for the tests that try them from outside.
package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"drain/trial/check"
	"drain/trial/journal"
)

// Build builds packages into a folder, for TestMain.
func Build(dir string, packages ...string) error {
	if out, err := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", packages, err, out)
	}
	return nil
}

// Program is a running command. It says what is in its Journal, the standard error.
type Program struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	journal.Journal
	out   bytes.Buffer
	ended chan struct{}
}

// Start starts a built command with flags, and settings (`NAME=value`) and nothing else in its environment. It is killed with
// the test, which shows what it said if it failed.
func Start(t testing.TB, path string, settings []string, flags ...string) *Program {
	t.Helper()
	p := &Program{t: t, name: filepath.Base(path), cmd: exec.Command(path, flags...), ended: make(chan struct{})}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir()}, settings...)
	p.cmd.Stderr, p.cmd.Stdout = p, &p.out
	check.Must(t, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%.20000s", p.name, p.String())
		}
	})
	return p
}

// Kill ends it at once.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Signal sends it a signal.
func (p *Program) Signal(s syscall.Signal) {
	p.t.Helper()
	check.Must(p.t, p.cmd.Process.Signal(s))
}

// Stop ends it as Heroku does, and tells its exit status.
func (p *Program) Stop() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.Wait(20 * time.Second)
}

// Wait waits for its end, and tells its exit status.
func (p *Program) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %s", p.name, limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// HasEnded tells whether it has.
func (p *Program) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Output is what it wrote to standard output, once it has ended.
func (p *Program) Output() []byte { return p.out.Bytes() }

// Processor is how much of the processors it took, once it has ended.
func (p *Program) Processor() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Saying waits until it says something, and returns what the group in it matched.
func (p *Program) Saying(pattern string) string {
	p.t.Helper()
	is := regexp.MustCompile(pattern)
	return check.Within(p.t, 30*time.Second, p.name+" to say "+pattern, func() (string, error) {
		if m := is.FindStringSubmatch(p.String()); m != nil {
			return m[len(m)-1], nil
		}
		if p.HasEnded() {
			p.t.Fatalf("%s has ended: %s", p.name, p.String())
		}
		return "", errors.New("it did not")
	})
}

// Peak is the most memory that it had so far, in bytes; ok is false when it has ended.
func (p *Program) Peak() (bytes int64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0, false
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kB << 10, err == nil
}
