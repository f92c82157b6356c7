// Package child starts a test's program once more, as a process whose work is not counted with
// the test's: a broker, for example.
package child

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Start starts this test's program with an environment variable set to 1, by which its TestMain knows
// what to be, and returns the first line that it writes. Its standard input ends with the test, and
// it must end with that.
func Start(t testing.TB, variable string) (line string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	line, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
