package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/logplex"
)

var minutes = flag.Float64("minutes", 0.45, "how long the soak goes on")

// Faults at random on every side at once, as scripts/soak runs them: in the end every
// line is accounted for.
func TestSoak_accountsForEveryLine(t *testing.T) {
	url, dir := threeNodes(t)
	brokers := strings.Split(strings.TrimPrefix(url, "kafka://"), ",")
	topic, err := logplex.OpenTopic(t.Context(), &cluster.Config{Addresses: brokers}, "router")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	listen := "127.0.0.1:" + freePort(t)
	drain := func() *service { return startDrain(t, "KAFKA_URL="+url, "LISTEN="+listen) }
	s := drain()
	s.awaitReady()
	way := newBadWay(t, listen)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seed := rand.Uint32()
	sending, err := logplex.Start(ctx, logplex.Config{URL: "http://" + way.addr + "/logs", Rate: 1500, Drains: 12, Duration: 100 * time.Hour, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(r.Int64N(int64(high-low))) }
	victim := func() node { return nodes(t, dir)[r.IntN(3)] }
	faults := []struct {
		name  string
		cause func()
	}{
		{"drain killed", func() {
			_ = s.cmd.Process.Kill()
			<-s.ended
			time.Sleep(between(0, time.Second))
			s = drain()
		}},
		{"drain stopped and started", func() {
			s.stop()
			s = drain()
		}},
		{"broker frozen", func() {
			n := victim()
			_ = syscall.Kill(n.pid, syscall.SIGSTOP)
			time.Sleep(between(time.Second, 6*time.Second))
			_ = syscall.Kill(n.pid, syscall.SIGCONT)
		}},
		{"broker killed", func() {
			kill(t, victim().pid)
			time.Sleep(between(time.Second, 12*time.Second))
			revive(t, dir)
		}},
		{"leaders moved", func() { preferLeaders(t, brokers) }},
		{"connections reset", way.reset},
		{"connections stalled", func() {
			way.stall(true)
			time.Sleep(between(100*time.Millisecond, 3*time.Second))
			way.stall(false)
		}},
	}
	for end := time.Now().Add(time.Duration(*minutes * float64(time.Minute))); time.Now().Before(end); {
		f := faults[r.IntN(len(faults))]
		t.Logf("%s %s", time.Now().Format("15:04:05"), f.name)
		f.cause()
		time.Sleep(between(200*time.Millisecond, 4*time.Second))
	}
	time.Sleep(time.Second)
	stop()
	a := betraysNothing(t, topic, sending.Wait())
	t.Logf("seed %d: %+v", seed, *a)
	s.stop()
}

// preferLeaders gives each partition back to the node that should lead it.
func preferLeaders(t *testing.T, brokers []string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, _ = kadm.NewClient(client).ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{}) // nodes may be away
}

// badWay is a way to drain on which connections stall and are reset.
type badWay struct {
	addr string
	to   string

	mu      sync.Mutex // guards the following
	open    map[net.Conn]bool
	stalled chan struct{} // closed when nothing stalls
}

func newBadWay(t *testing.T, to string) *badWay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &badWay{addr: l.Addr().String(), to: to, open: make(map[net.Conn]bool), stalled: make(chan struct{})}
	close(w.stalled)
	t.Cleanup(func() { l.Close(); w.reset() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", w.to)
			if err != nil {
				in.Close()
				continue
			}
			w.mu.Lock()
			w.open[in], w.open[out] = true, true
			w.mu.Unlock()
			go w.carry(in, out)
			go w.carry(out, in)
		}
	}()
	return w
}

func (w *badWay) carry(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		stalled := w.stalled
		w.mu.Unlock()
		<-stalled
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	w.mu.Lock()
	delete(w.open, to)
	delete(w.open, from)
	w.mu.Unlock()
}

// reset breaks every connection, whatever is on it.
func (w *badWay) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (w *badWay) stall(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.stalled = make(chan struct{})
	} else {
		close(w.stalled)
	}
}
