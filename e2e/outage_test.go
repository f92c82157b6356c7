package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drain/cluster"
	"drain/embedded"
	"drain/logplex"
)

// long makes the tests of this folder run for as long as the figures in docs/proof.md
// ask for; without it they are a short form of the same.
var long = flag.Bool("long", false, "run outages and kills in full, for half an hour")

// broker is a Kafka that can go away and come back.
type broker struct {
	url        string
	away, back func(t *testing.T)
}

// fakeKafka is the embedded broker, closed and opened again.
func fakeKafka(t *testing.T, topic string) broker {
	dir, listen := t.TempDir(), "127.0.0.1:"+freePort(t)
	var running *embedded.Broker
	open := func(t *testing.T) {
		b, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Listen: listen, Topics: []string{topic}, Partitions: 8, Keep: 1 << 30, KeepEvery: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		running = b
	}
	open(t)
	t.Cleanup(func() { running.Close() })
	return broker{url: listen, away: func(*testing.T) { running.Close() }, back: open}
}

// realKafka is a Kafka of one node that is frozen, or killed and started again.
func realKafka(t *testing.T, topic string, signal syscall.Signal) broker {
	t.Helper()
	dir := t.TempDir()
	url, err := startKafka(dir, "--port", "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = script("stop", "--dir", dir) })
	if _, err := script("create", topic, "--partitions", "8", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	tell := func(t *testing.T, signal syscall.Signal) {
		if err := syscall.Kill(nodes(t, dir)[0].pid, signal); err != nil {
			t.Fatal(err)
		}
	}
	b := broker{url: url, away: func(t *testing.T) { tell(t, signal) }}
	if signal == syscall.SIGSTOP {
		b.back = func(t *testing.T) { tell(t, syscall.SIGCONT) }
	} else {
		b.back = func(t *testing.T) { revive(t, dir) }
	}
	return b
}

// node is one of a real Kafka.
type node struct {
	id, pid int
	port    string
	alive   bool
}

func nodes(t *testing.T, dir string) (all []node) {
	t.Helper()
	out, err := script("status", "--dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var n node
		var state string
		if _, err := fmt.Sscanf(line, "node %d pid %d port %s %s", &n.id, &n.pid, &n.port, &state); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		n.alive = state == "alive"
		all = append(all, n)
	}
	return all
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func revive(t *testing.T, dir string) {
	t.Helper()
	if _, err := script("revive", "--dir", dir); err != nil {
		t.Fatal(err)
	}
}

// A busy, a usual and a quiet drain, and one at the limit: the model of contract and
// docs/ingest-design.md says that none of them loses a line.
var rates = []float64{20, 100, 500, 2000}

// Kafka goes away while drains send, and comes back: what their senders lost is
// counted against the topic.
func TestOutage_losesNothing(t *testing.T) {
	type outage struct {
		name  string
		kafka func(*testing.T, string) broker
		away  time.Duration
		rates []float64
	}
	frozen := func(t *testing.T, topic string) broker { return realKafka(t, topic, syscall.SIGSTOP) }
	killed := func(t *testing.T, topic string) broker { return realKafka(t, topic, syscall.SIGKILL) }
	outages := []outage{{"embedded broker closed", fakeKafka, 2 * time.Second, rates}, {"real Kafka frozen", frozen, 8 * time.Second, rates}}
	if *long {
		outages = nil
		for name, kafka := range map[string]func(*testing.T, string) broker{"embedded broker closed": fakeKafka, "real Kafka frozen": frozen, "real Kafka killed": killed} {
			for _, away := range []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second} {
				outages = append(outages, outage{name, kafka, away, rates})
			}
			outages = append(outages, outage{name, kafka, 2 * time.Minute, []float64{500}})
		}
	}
	for _, o := range outages {
		t.Run(fmt.Sprintf("%s for %s", o.name, o.away), func(t *testing.T) {
			kafka := o.kafka(t, "router")
			s := startDrain(t, "KAFKA_URL="+kafka.url)
			s.awaitReady()
			load := startLoad(t, s.url, kafka.url, o.rates, o.away+10*time.Second)
			time.Sleep(4 * time.Second)
			kafka.away(t)
			time.Sleep(o.away)
			kafka.back(t)
			load.accounted(t, fmt.Sprintf("%s for %s", o.name, o.away))
			if s.stop() != 0 {
				t.Error("drain did not end well")
			}
		})
	}
}

// load is drains that send, each at its own rate.
type load struct {
	rates    []float64
	sendings []*logplex.Sending
	topics   []*logplex.Topic
}

// seeds makes each drain's lines its own.
var seeds = uint32(os.Getpid()) << 12

func startLoad(t *testing.T, url, brokers string, rates []float64, d time.Duration) *load {
	t.Helper()
	l := &load{rates: rates}
	for _, rate := range rates {
		seeds++
		topic, err := logplex.OpenTopic(t.Context(), &cluster.Config{Addresses: strings.Split(strings.TrimPrefix(brokers, "kafka://"), ",")}, "router")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(topic.Close)
		sending, err := logplex.Start(t.Context(), logplex.Config{URL: url + "/logs", Rate: rate, Drains: 1, Duration: d, Seed: seeds})
		if err != nil {
			t.Fatal(err)
		}
		l.sendings, l.topics = append(l.sendings, sending), append(l.topics, topic)
	}
	return l
}

// accounted fails the test unless every line that was sent is in the topic, once.
func (l *load) accounted(t *testing.T, what string) {
	t.Helper()
	var readers sync.WaitGroup
	for i := range l.rates {
		readers.Go(func() {
			report := l.sendings[i].Wait()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			a, err := l.topics[i].Account(ctx, report, 20*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			s := report.Summary()
			t.Logf("%s, %v lines/s: %d sent, %d acknowledged, %d stored (%d of them not acknowledged), %d lost, %d twice; answers %v; longest answer %.0f ms",
				what, l.rates[i], s.Sent, s.Acknowledged, a.Stored, a.Recovered, a.Lost, a.Twice, s.Answers, s.AnswerMS.Max)
			if s.AnswerMS.Max > 4900 {
				t.Errorf("an answer took %.0f ms", s.AnswerMS.Max)
			}
			// A sender of 2,000 lines/s has a buffer for half a second: where it shares the cores with other tests,
			// it overflows by itself now and then. With -long the machine is ours.
			lost := a.Lost
			if own := a.LostBy["overflow"]; !*long && l.rates[i] >= 2000 && own < s.Sent/20 {
				lost -= own
			}
			if a.Betrayed+lost+a.Twice+a.TwiceOther > 0 || a.Stored != s.Sent-(a.Lost-lost) {
				t.Errorf("%v lines/s: %+v of %+v", l.rates[i], a, s)
			}
		})
	}
	readers.Wait()
}
