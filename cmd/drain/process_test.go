package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"drain/embedded"
	"drain/trial/binary"
	"drain/trial/journal"
)

// installed is drain, as it is installed.
var installed binary.Binary

// process is drain, running in a process of its own.
type process struct {
	*exec.Cmd
	ingest string
	out    *journal.Journal
	ended  chan error
}

func spawn(t *testing.T, env vars) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(installed.Path(t)), out: new(journal.Journal), ended: make(chan error, 1)}
	for name, value := range env {
		p.Env = append(p.Env, name+"="+value)
	}
	p.Stderr = p.out
	must(t, p.Start())
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	eventually(t, "drain is ready", func() bool { return strings.Contains(p.out.String(), "Kafka is ready") })
	p.ingest = addresses.FindStringSubmatch(p.out.String())[1]
	return p
}

const linesOfAFrame = 20

// load posts frames from many senders, until each has failed.
type load struct {
	senders sync.WaitGroup
	mu      sync.Mutex      // guards the following
	taken   map[string]bool // paths of lines that were answered 200
	silent  map[string]bool // of lines that were not answered
	other   []int           // answers that were not 200
}

func (p *process) load() *load {
	l := &load{taken: make(map[string]bool), silent: make(map[string]bool)}
	for sender := range 16 {
		l.senders.Go(func() {
			for frame := 0; ; frame++ {
				var body bytes.Buffer
				var paths []string
				for i := range linesOfAFrame {
					path := fmt.Sprintf("/%d/%d/%d", sender, frame, i)
					paths = append(paths, path)
					body.WriteString(line(path))
				}
				status, _ := send("POST", "http://"+p.ingest+"/logs", body.String(),
					fmt.Sprintf("Logplex-Frame-Id: %016x%016x", sender, frame))
				if !l.answered(status, paths) {
					return
				}
			}
		})
	}
	return l
}

func (l *load) answered(status int, paths []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, path := range paths {
		switch status {
		case 200:
			l.taken[path] = true
		case 0:
			l.silent[path] = true
		}
	}
	if status != 200 && status != 0 {
		l.other = append(l.other, status)
	}
	return status != 0
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken)
}

var pathOf = regexp.MustCompile(`"path":"([^"]+)"`)

// compare checks that values are the lines that were answered 200, each once, and
// returns how many others there are. Only lines without an answer may be there: a
// connection can be closed at the very moment at which a request comes on it.
func (l *load) compare(t *testing.T, values []string) (others int) {
	t.Helper()
	times := make(map[string]int)
	for _, v := range values {
		times[pathOf.FindStringSubmatch(v)[1]]++
	}
	for path := range l.taken {
		if times[path] != 1 {
			t.Fatalf("%s was answered 200 and is stored %d times", path, times[path])
		}
		delete(times, path)
	}
	for path := range times {
		if !l.silent[path] {
			t.Fatalf("%s is stored and was refused", path)
		}
	}
	if l.other != nil {
		t.Errorf("answered %v", l.other)
	}
	return len(times)
}

func TestASignalUnderLoadLosesNothing(t *testing.T) {
	broker := kfake.MustCluster(kfake.NumBrokers(1))
	defer broker.Close()
	for i, signals := range [][]os.Signal{
		{syscall.SIGTERM}, {syscall.SIGINT}, {syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM},
		{syscall.SIGTERM}, {syscall.SIGINT}, {syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGHUP, syscall.SIGTERM}, {syscall.SIGTERM}, {syscall.SIGINT},
	} {
		t.Run(fmt.Sprint(i, signals), func(t *testing.T) {
			topic := fmt.Sprint("router", i)
			env := ports(t).With("KAFKA_TOPIC", topic)
			kafka, external := "", i%2 == 0
			if external {
				kafka = broker.ListenAddrs()[0]
				env["KAFKA_URL"] = kafka
				must(t, broker.CreateTopic(topic, 8, nil))
			}
			p := spawn(t, env)
			l := p.load()
			eventually(t, "there is load", func() bool { return l.count() > 2000 })
			began := time.Now()
			for _, signal := range signals {
				_ = p.Process.Signal(signal)     // it may have ended by the first
				time.Sleep(3 * time.Millisecond) // so that it is not taken for the one before
			}
			err := <-p.ended
			if took := time.Since(began); err != nil || took > 5*time.Second {
				t.Errorf("ends with %v after %v:\n%s", err, took, p.out)
			}
			l.senders.Wait()
			if !external {
				b, err := embedded.Start(t.Context(), embedded.Config{Dir: env["DATA_DIR"], Listen: "127.0.0.1:0", Topics: []string{topic}, Partitions: 8})
				must(t, err)
				defer b.Close()
				kafka = b.Addr()
			}
			// That is rare: were it more than a sender or two, the stop would be at fault.
			if others := l.compare(t, stored(t, kafka, topic)); others > 2*linesOfAFrame {
				t.Errorf("%d lines are stored that were not answered", others)
			}
		})
	}
}

// The embedded broker writes what it acknowledges, so that it survives the death
// of the process.
func TestAKillUnderLoadLosesNothingThatWasAcknowledged(t *testing.T) {
	env := ports(t)
	for i := range 5 {
		env["KAFKA_TOPIC"] = fmt.Sprint("router", i)
		p := spawn(t, env)
		l := p.load()
		eventually(t, "there is load", func() bool { return l.count() > 2000*(i+1) })
		must(t, p.Process.Kill())
		<-p.ended
		l.senders.Wait()
		b, err := embedded.Start(context.Background(), embedded.Config{Dir: env["DATA_DIR"], Listen: "127.0.0.1:0", Topics: []string{env["KAFKA_TOPIC"]}, Partitions: 8})
		must(t, err)
		others := l.compare(t, stored(t, b.Addr(), env["KAFKA_TOPIC"]))
		t.Logf("%d lines were answered 200, %d others are stored too", l.count(), others)
		b.Close()
	}
}

func TestTheExitStatusOfTheProgram(t *testing.T) {
	for _, tt := range []struct {
		env    vars
		args   []string
		status int
	}{
		{nil, []string{"--help"}, 0},
		{nil, []string{"--nope"}, 2},
		{vars{"HOLD": "x"}, nil, 2},
		{vars{"DRAIN_SECRETS": "short"}, nil, 2},
		{vars{"DRAIN_SECRETS": " , "}, nil, 2},
		{vars{"DRAIN_SECRETS_FILE": "/nowhere"}, nil, 2},
		{vars{"LISTEN": "192.0.2.1:1", "ALLOW_ANONYMOUS": "1"}, nil, 1},
	} {
		cmd := exec.Command(installed.Path(t), tt.args...)
		for name, value := range ports(t).With("HOME", t.TempDir()) {
			if _, set := tt.env[name]; !set {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		for name, value := range tt.env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if status := cmd.ProcessState.ExitCode(); status != tt.status || status != 0 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%v %v: exit status %d, want %d: %s", tt.env, tt.args, status, tt.status, stderr.String())
		}
	}
}
