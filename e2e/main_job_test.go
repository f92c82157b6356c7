package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	frameID    = "Logplex-Frame-Id: 09C557EAFCFB6CF2740EE62F62971098"
	drainToken = "Logplex-Drain-Token: d.fc6b856b-3332-4546-93de-7d0ee272c3bd"
)

func golden(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/frame.records")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func values(records []*kgo.Record) (lines []string) {
	for _, r := range records {
		lines = append(lines, string(r.Value))
	}
	return lines
}

// The captured lines, posted with curl, are read back from a real Kafka by
// franz-go's client and by Java's, byte for byte.
func TestCapturedFrameReachesARealKafka(t *testing.T) {
	topic := makeTopic(t, 8)
	s := startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+topic)
	tries := postFrame(t, s)
	want := golden(t)
	if got := values(consume(t, kafkaURL, topic, len(want))); !slices.Equal(got, want) {
		t.Errorf("franz-go reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	out, err := script("tail", topic, "--max", fmt.Sprint(len(want)), "--timeout", "10000", "--dir", kafkaDir)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSpace(out), "\n"); !slices.Equal(got, want) {
		t.Errorf("Java's consumer reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, value := range map[string]string{
		`drain_messages_total{kind="router"}`:                           fmt.Sprint(8 * tries),
		`drain_messages_total{kind="other"}`:                            fmt.Sprint(7 * tries),
		`drain_records_total{result="committed",topic="` + topic + `"}`: "8",
		`drain_lost_upstream_total{code="L10"}`:                         "1",
		`drain_inflight_bytes`:                                          "0",
	} {
		if got := s.metric(name); got != value {
			t.Errorf("%s is %s, want %s", name, got, value)
		}
	}
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// The same on the embedded broker, whose records outlive a restart.
func TestCapturedFrameReachesTheEmbeddedBrokerAndStays(t *testing.T) {
	folder := "DATA_DIR=" + t.TempDir()
	s := startDrain(t, folder)
	postFrame(t, s)
	want := golden(t)
	for range 2 {
		if got := values(consume(t, s.broker, "router", len(want))); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if status := s.stop(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		s = startDrain(t, folder)
	}
}

// A Kafka that is not there keeps drain from being ready, not from starting; what
// is posted meanwhile gets 503, and 200 once Kafka has come.
func TestKafkaMayComeLater(t *testing.T) {
	dir, port := filepath.Join(t.TempDir(), "kafka"), freePort(t)
	s := startDrain(t, "KAFKA_URL=kafka://127.0.0.1:"+port, "HOLD=300ms")
	if status := curl(t, s.url+"/logs", "testdata/frame.body"); status != "503" {
		t.Errorf("answered %s without Kafka", status)
	}
	if _, err := get(s.admin + "/readyz"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("ready says %v", err)
	}
	if _, err := startKafka(dir, "--port", port); err != nil {
		t.Fatal(err)
	}
	defer script("stop", "--dir", dir)
	eventually(t, "drain to miss the topic", func() (string, error) {
		if _, err := get(s.admin + "/readyz"); err == nil || !strings.Contains(err.Error(), "make the topic router") {
			return "", fmt.Errorf("ready says %v", err)
		}
		return "", nil
	})
	if _, err := script("create", "router", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	s.awaitReady()
	if status := curl(t, s.url+"/logs", "testdata/frame.body"); status != "200" {
		t.Errorf("answered %s with Kafka", status)
	}
	consume(t, "127.0.0.1:"+port, "router", len(golden(t)))
}

// What was answered 200 is in the topic, once, when drain is stopped in the middle
// of load, and nothing else is but frames without an answer (a connection can be
// closed at the very moment at which a request comes on it) or with 503, which
// keeps what it was told.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	const senders, lines = 8, 10
	runs := times(50, 12)
	for _, broker := range []string{"embedded", "real"} {
		t.Run(broker, func(t *testing.T) {
			total, unanswered := 0, 0
			for i := range runs {
				settings := []string{"DATA_DIR=" + t.TempDir()}
				topic := "router"
				if broker == "real" {
					topic = fmt.Sprintf("stop-%d", i)
					if _, err := script("create", topic, "--partitions", "4", "--dir", kafkaDir); err != nil {
						t.Fatal(err)
					}
					settings = []string{"KAFKA_URL=" + kafkaURL, "KAFKA_TOPIC=" + topic}
				}
				s := startDrain(t, settings...)
				s.awaitReady()
				var mu sync.Mutex // guards answers
				answers := make(map[string]int)
				var load sync.WaitGroup
				for sender := range senders {
					load.Go(func() {
						for n := 0; ; n++ {
							path := fmt.Sprintf("/%d/%d", sender, n)
							body := strings.Repeat(fmt.Sprintf("<158>1 2026-01-02T15:04:05Z host heroku router - at=info method=GET path=%q status=200 bytes=1\n", path), lines)
							status, err := post(s.url+"/logs", body)
							mu.Lock()
							answers[path] = status
							mu.Unlock()
							if err != nil {
								return // stopped
							}
						}
					})
				}
				time.Sleep(time.Duration(20+i*5) * time.Millisecond) // another moment each time
				began := time.Now()
				if status := s.stop(); status != 0 {
					t.Errorf("run %d: exit status %d", i, status)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("run %d: stopped after %s", i, took)
				}
				load.Wait()
				acknowledged := 0
				for _, status := range answers {
					if status == http.StatusOK {
						acknowledged += lines
					}
				}
				brokers := kafkaURL
				if broker == "embedded" {
					s = startDrain(t, settings...)
					brokers = s.broker
				}
				stored := make(map[string]int)
				for _, r := range consumeAll(t, brokers, topic, acknowledged) {
					var record struct{ Path string }
					if err := json.Unmarshal(r.Value, &record); err != nil {
						t.Fatal(err)
					}
					stored[record.Path]++
				}
				if broker == "embedded" {
					s.stop()
				}
				for path, status := range answers {
					switch n := stored[path]; {
					case status == http.StatusOK && n != lines, n > lines:
						t.Errorf("run %d: frame %s of %d lines was answered %d and is there %d times", i, path, lines, status, n)
					case status != http.StatusOK:
						unanswered += n
					}
				}
				total += acknowledged
			}
			t.Logf("%d runs, %d lines acknowledged, all of them in the topic, once; %d more of frames without an answer, or with 503", runs, total, unanswered)
		})
	}
}

// post posts a body; the status is 0 where there was no answer.
func post(url, body string) (status int, err error) {
	res, err := http.Post(url, "application/logplex-1", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
