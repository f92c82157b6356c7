// Package e2e tries drain from outside: the built program, a real Apache Kafka,
// curl as the sender, and consumers that are not ours.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/check"
	"drain/trial/journal"
)

var freePort = check.FreePort

var (
	program  string // the built drain
	kafkaURL string // KAFKA_URL of the real Kafka that the tests share
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drain-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "drain")
	if out, err := exec.Command("go", "build", "-o", program, "drain/cmd/drain").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build drain: %v\n%s", err, out)
		return 1
	}
	brokers := filepath.Join(dir, "kafka")
	kafkaURL, err = startKafka(brokers, "--port", "0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer script("stop", "--dir", brokers)
	kafkaDir = brokers
	return m.Run()
}

var kafkaDir string

// script runs scripts/kafka.
func script(args ...string) (string, error) {
	cmd := exec.Command("../scripts/kafka", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/kafka %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

func startKafka(dir string, args ...string) (url string, err error) {
	out, err := script(append([]string{"start", "--dir", dir}, args...)...)
	return strings.TrimPrefix(strings.TrimSpace(out), "KAFKA_URL="), err
}

// makeTopic makes a topic of the real Kafka that only this test uses.
func makeTopic(t *testing.T, partitions int) string {
	t.Helper()
	name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-")
	if _, err := script("create", name, "--partitions", fmt.Sprint(partitions), "--dir", kafkaDir); err != nil {
		t.Fatal(err)
	}
	return name
}

// service is a running drain.
type service struct {
	t          *testing.T
	cmd        *exec.Cmd
	url, admin string
	broker     string // of the embedded broker

	journal.Journal // of drain's log
	ended           chan error
}

// startDrain starts drain with settings (`NAME=value`) on free ports, and waits
// until it is alive.
func startDrain(t *testing.T, settings ...string) *service {
	t.Helper()
	return startDrainBy(t, exec.Command(program), settings...)
}

// startDrainBy is startDrain with a command that becomes drain.
func startDrainBy(t *testing.T, cmd *exec.Cmd, settings ...string) *service {
	t.Helper()
	s := &service{t: t, cmd: cmd, ended: make(chan error, 1)}
	s.cmd.Env = append([]string{"HOME=" + t.TempDir(), "LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "BROKER_LISTEN=127.0.0.1:0"}, settings...)
	s.cmd.Stderr = s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		if t.Failed() {
			t.Logf("drain's log:\n%s", s.String())
		}
	})
	field := func(name string) string {
		return eventually(t, "drain to say where it listens", func() (string, error) {
			m := regexp.MustCompile(`msg="drain listens".* ` + name + `=(\S+)`).FindStringSubmatch(s.String())
			if m == nil {
				return "", fmt.Errorf("its log: %s", s.String())
			}
			return m[1], nil
		})
	}
	s.url, s.admin, s.broker = "http://"+field("listen"), "http://"+field("admin"), field("kafka")
	return s
}

// eventually repeats get until it succeeds.
func eventually[T any](t *testing.T, what string, get func() (T, error)) T {
	t.Helper()
	return check.Within(t, 20*time.Second, what, get)
}

func (s *service) awaitReady() {
	s.t.Helper()
	eventually(s.t, "drain to be ready", func() (string, error) { return get(s.admin + "/readyz") })
}

func get(url string) (string, error) {
	res, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

// stop ends drain as Heroku does and returns its exit status.
func (s *service) stop() int {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		s.t.Fatal("drain did not stop within 20 s")
		return -1
	}
}

// metric reads one value of drain's metrics, by its name with labels.
func (s *service) metric(name string) string {
	s.t.Helper()
	text, err := get(s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "no such metric"
}

// curl posts a file as a person would and returns the status.
func curl(t *testing.T, url, file string, args ...string) string {
	t.Helper()
	args = append([]string{"-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@" + file, url}, args...)
	out, err := exec.Command("curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, out)
	}
	return string(out)
}

// postFrame posts the captured frame as Heroku does: a 503 has it sent again, twice at most. It returns how often
// it was sent. args are curl's.
func postFrame(t *testing.T, s *service, args ...string) (tries int) {
	t.Helper()
	status := ""
	for tries < 3 && status != "200" {
		tries++
		if status = curl(t, s.url+"/logs/myapp", "testdata/frame.body", append(args, "-H", frameID, "-H", drainToken)...); status != "200" && status != "503" {
			break
		}
	}
	if status != "200" {
		t.Fatalf("answered %s", status)
	}
	return tries
}

// consume reads the n records that a topic holds with franz-go's client, and checks
// for a moment that there are no more.
func consume(t *testing.T, brokers, topic string, n int) []*kgo.Record {
	t.Helper()
	records := consumeAll(t, brokers, topic, n)
	if len(records) != n {
		t.Fatalf("topic %s holds %d records, want %d", topic, len(records), n)
	}
	return records
}

// consumeAll reads a topic that should hold n records at least.
func consumeAll(t *testing.T, brokers, topic string, n int) []*kgo.Record {
	t.Helper()
	brokers = strings.TrimPrefix(brokers, "kafka://")
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for len(records) < n && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	more, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	return append(records, client.PollFetches(more).Records()...)
}
