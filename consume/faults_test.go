package consume

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"drain/cluster"
	"drain/trial/authority"
	"drain/trial/stalls"
)

// gate is the network in front of a broker.
type gate struct {
	net.Listener

	mu    sync.Mutex // guards the following
	conns map[*gated]struct{}
	down  bool
	quiet chan struct{} // closed to end a silence; nil for none
}

// gates are to be given to kfake as its ListenFn.
type gates struct {
	mu  sync.Mutex // guards all
	all []*gate
}

func (g *gates) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	one := &gate{Listener: l, conns: make(map[*gated]struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, one)
	return one, nil
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		if g.down {
			g.mu.Unlock()
			c.Close()
			continue
		}
		conn := &gated{Conn: c, gate: g, closed: make(chan struct{})}
		g.conns[conn] = struct{}{}
		g.mu.Unlock()
		return conn, nil
	}
}

// gated is a connection as the broker has it.
type gated struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

// pass waits while the gate is quiet.
func (c *gated) pass() {
	c.gate.mu.Lock()
	quiet := c.gate.quiet
	c.gate.mu.Unlock()
	if quiet != nil {
		select {
		case <-quiet:
		case <-c.closed:
		}
	}
}

func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.pass()
	return n, err
}

func (c *gated) Write(b []byte) (int, error) {
	c.pass()
	return c.Conn.Write(b)
}

func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// set takes the broker away, or brings it back.
func (g *gate) set(down bool) {
	g.mu.Lock()
	g.down = down
	var conns []*gated
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	if down {
		for _, c := range conns {
			c.Close()
		}
	}
}

// silence makes the broker silent until it is called again: connections are made, and nothing
// is answered.
func (g *gate) silence(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if on {
		g.quiet = make(chan struct{})
	} else if g.quiet != nil {
		close(g.quiet)
		g.quiet = nil
	}
}

// gated makes a world with gates before its brokers.
func pretendGated(t testing.TB, brokers, partitions int) (*world, []*gate) {
	g := new(gates)
	w := pretend(t, partitions, kfake.NumBrokers(brokers), kfake.ListenFn(g.listen))
	t.Cleanup(func() {
		for _, one := range g.all {
			one.silence(false)
		}
	})
	return w, g.all
}

func TestKafkaAwayAndBack(t *testing.T) {
	for name, brokers := range map[string]int{"all of it": 1, "the coordinator": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, gates := pretendGated(t, brokers, 4)
			coordinator := w.fake.CoordinatorFor(w.group)
			if err := w.fake.MoveTopicPartition(w.topic, 0, int32(brokers-1)-coordinator); err != nil {
				t.Fatal(err)
			}
			l := newLedger(t)
			r := w.join(l, func(cfg *Config, _ *bookkeeper) { cfg.SessionTimeout = 30 * time.Second })
			w.write(0, "before")
			eventually(t, "it is read", func() bool { return l.count() == 1 })
			gates[coordinator].set(true)
			eventually(t, "it is not ready", func() bool { return r.Ready() != nil })
			time.Sleep(3 * time.Second) // the outage
			if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "closed the connection") {
				t.Errorf("ready while Kafka is away, or not for that: %v", err)
			}
			gates[coordinator].set(false)
			watch := stalls.Start()
			w.write(0, "after")
			eventually(t, "reading goes on", func() bool { return l.count() == 2 })
			// Not a session's time, in which the group would wait for the member that we were.
			if took := watch.Took(); took > 8*time.Second {
				t.Errorf("after %s", took)
			}
			l.holds(0, "before", "after")
			r.ready()
			if n := strings.Count(r.log.String(), "\n"); n > 12 {
				t.Errorf("%d lines in the log", n)
			}
			if !r.log.Says("takes part in the group again") {
				t.Error("the recovery is not told")
			}
		})
	}
}

func TestRealKafkaKilledAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, err := script(dir, "start", "--port", "0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = script(dir, "stop") }()
	w := at(t, []string{strings.TrimPrefix(strings.TrimSpace(url), "KAFKA_URL=kafka://")}, 4)
	l := newLedger(t)
	r := w.join(l, nil)
	for id := range 4 {
		w.write(id, "before")
	}
	eventually(t, "they are read", func() bool { return l.count() == 4 })
	status, err := script(dir, "status")
	if err != nil {
		t.Fatal(err)
	}
	kill(t, strings.Fields(status)[3])
	eventually(t, "it is not ready", func() bool { return r.Ready() != nil })
	if _, err := script(dir, "revive"); err != nil {
		t.Fatal(err)
	}
	for id := range 4 {
		w.write(id, "after")
	}
	eventually(t, "reading goes on", func() bool { return l.count() == 8 })
	for id := range 4 {
		l.holds(id, "before", "after")
	}
	r.stopsWithin(2 * time.Second)
}

// TestSilentBroker: what one broker does not answer is noticed, its partitions are read
// again when it does, and the others' are read all the time.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	w, gates := pretendGated(t, 3, 3)
	coordinator := w.fake.CoordinatorFor(w.group)
	for id := range int32(3) {
		if err := w.fake.MoveTopicPartition(w.topic, id, id); err != nil {
			t.Fatal(err)
		}
	}
	silent := (coordinator + 1) % 3
	well := (coordinator + 2) % 3
	l := newLedger(t)
	r := w.join(l, nil)
	for id := range 3 {
		w.write(id, "before")
	}
	eventually(t, "they are read", func() bool { return l.count() == 3 })
	gates[silent].silence(true)
	unharmed := 0
	eventually(t, "the silence is noticed", func() bool {
		w.write(int(well), "meanwhile")
		unharmed++
		eventually(t, "the others are read", func() bool { return l.count() == 3+unharmed })
		return r.metric("drain_consumer_errors_total", "what=fetch") > 0
	})
	eventually(t, "it is not ready", func() bool { return r.Ready() != nil })
	if n := r.metric("drain_consumer_rebalances_total"); n != 1 {
		t.Errorf("%v generations", n)
	}
	gates[silent].silence(false)
	w.write(int(silent), "after")
	eventually(t, "the silent one is read again", func() bool { return l.count() == 4+unharmed })
	l.holds(int(silent), "before", "after")
	r.ready()
}

func TestSilentCoordinator(t *testing.T) {
	t.Parallel()
	w, gates := pretendGated(t, 1, 1)
	l := newLedger(t)
	r := w.join(l, nil)
	r.ready()
	gates[0].silence(true)
	eventually(t, "it is noticed", func() bool { return r.Ready() != nil })
	gates[0].silence(false)
	w.write(0, "after")
	eventually(t, "reading goes on", func() bool { return l.count() == 1 })
	gates[0].silence(true)
	r.stopsWithin(2*leaveTimeout + time.Second)
}

// TestSilentFirstAddress: an address that takes connections and says nothing does not keep us
// from the cluster.
func TestSilentFirstAddress(t *testing.T) {
	t.Parallel()
	w, gates := pretendGated(t, 3, 3)
	coordinator := w.fake.CoordinatorFor(w.group)
	silent := (coordinator + 1) % 3
	for id := range int32(3) {
		if err := w.fake.MoveTopicPartition(w.topic, id, coordinator); err != nil {
			t.Fatal(err)
		}
	}
	w.write(0, "x")
	gates[silent].silence(true)
	l := newLedger(t)
	w.join(l, func(cfg *Config, _ *bookkeeper) {
		cfg.Cluster.Addresses = []string{w.addrs[silent], w.addrs[coordinator]}
	})
	eventually(t, "it is read", func() bool { return l.count() == 1 })
	gates[silent].silence(false)
}

func TestLeaderMoves(t *testing.T) {
	t.Parallel()
	w := pretend(t, 2, kfake.NumBrokers(3))
	l := newLedger(t)
	r := w.join(l, nil)
	for i := range 6 {
		for id := range 2 {
			w.write(id, fmt.Sprint(i))
		}
		eventually(t, "they are read", func() bool { return l.count() == 2*i+2 })
		if err := w.fake.MoveTopicPartition(w.topic, 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
	}
	l.holds(0, numbered0(6)...)
	l.holds(1, numbered0(6)...)
	if n := r.metric("drain_consumer_rebalances_total"); n != 1 {
		t.Errorf("%v generations", n)
	}
}

func TestCoordinatorMoves(t *testing.T) {
	t.Parallel()
	w := pretend(t, 2, kfake.NumBrokers(3))
	l := newLedger(t)
	r := w.join(l, nil)
	for i := range 4 {
		w.write(0, fmt.Sprint(i))
		eventually(t, "it is read", func() bool { return l.count() == i+1 })
		before := w.fake.CoordinatorFor(w.group)
		generations := r.metric("drain_consumer_rebalances_total")
		for w.fake.CoordinatorFor(w.group) == before {
			w.fake.RehashCoordinators()
		}
		eventually(t, "the group goes on elsewhere", func() bool { return r.metric("drain_consumer_rebalances_total") > generations && r.Ready() == nil })
	}
	l.holds(0, numbered0(4)...)
}

func TestTopicMissingThenMade(t *testing.T) {
	both(t, 0, func(t *testing.T, w *world) {
		l := newLedger(t)
		r := w.join(l, nil)
		eventually(t, "it is told what is missing", func() bool {
			err := r.Ready()
			return err != nil && strings.Contains(err.Error(), "topic create "+w.topic)
		})
		w.make(2)
		w.write(1, "x")
		eventually(t, "it is read", func() bool { return l.count() == 1 })
		r.ready()
	})
}

func TestPartitionsAdded(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		l := newLedger(t)
		a, b := w.join(l, nil), w.join(l, nil)
		eventually(t, "one of both has it", func() bool { return len(a.Lag())+len(b.Lag()) == 1 && a.Ready() == nil && b.Ready() == nil })
		w.grow(4)
		eventually(t, "both have two", func() bool { return len(a.Lag()) == 2 && len(b.Lag()) == 2 })
		for id := range 4 {
			w.write(id, "x")
		}
		eventually(t, "all are read", func() bool { return l.count() == 4 })
	})
}

func TestTopicMadeAgain(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		w.write(0, numbered("old", 10)...)
		l := newLedger(t)
		r := w.join(l, func(_ *Config, b *bookkeeper) {
			id := ""
			b.assigned = func(all []Partition) error {
				l.mu.Lock()
				defer l.mu.Unlock()
				if id != "" && id != all[0].TopicID {
					l.next[0] = 0
				}
				id = all[0].TopicID
				return nil
			}
		})
		eventually(t, "they are read", func() bool { return l.count() == 10 })
		w.remove()
		eventually(t, "that is told", func() bool { return r.Ready() != nil })
		w.make(1)
		want := append(numbered("old", 10), numbered("new", 20)...)
		at(t, w.addrs, 0).write(0, numbered("new", 20)...) // by one who does not know the old one
		eventually(t, "the new ones are read", func() bool { return l.count() >= 30 })
		l.holds(0, want...)
	})
}

// TestTopicMadeAgainUnseen: while the handler is busy nothing is fetched, so that nobody sees that
// the topic is another one when it goes on, but for the id.
func TestTopicMadeAgainUnseen(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	l := newLedger(t)
	next := make(chan struct{})
	r := w.join(l, func(_ *Config, b *bookkeeper) {
		id := ""
		b.assigned = func(all []Partition) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if id != "" && id != all[0].TopicID {
				l.next[0] = 0
			}
			id = all[0].TopicID
			return nil
		}
		b.consume = func(ctx context.Context, _ *Batch) error {
			select {
			case <-next:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	r.ready()
	fetches := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	w.write(0, "old-0") // held by the handler
	eventually(t, "it is delivered", func() bool { return r.metric("drain_consumer_bytes_total") > 0 })
	delivered := r.metric("drain_consumer_bytes_total")
	w.write(0, "old-1") // held by the reader
	eventually(t, "it is fetched", func() bool { return r.metric("drain_consumer_bytes_total") > delivered })
	before := fetches.Hits()
	if err := w.fake.DeleteTopic(w.topic); err != nil {
		t.Fatal(err)
	}
	if err := w.fake.CreateTopic(w.topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	at(t, w.addrs, 0).write(0, numbered("new", 10)...)
	if n := fetches.Hits(); n != before {
		t.Fatalf("%d fetches meanwhile", n-before)
	}
	close(next)
	eventually(t, "the new ones are read", func() bool { return l.count() >= 12 })
	l.holds(0, append(numbered("old", 2), numbered("new", 10)...)...)
}

// TestTopicMadeAgainUnderOldBrokers: without ids it is the offsets that tell.
func TestTopicMadeAgainUnderOldBrokers(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1, kfake.MaxVersions(kversion.V2_4_0()))
	w.write(0, numbered("old", 10)...)
	l := newLedger(t)
	hold := make(chan struct{})
	w.join(l, func(_ *Config, b *bookkeeper) {
		b.assigned = func(all []Partition) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if all[0].TopicID != "" {
				t.Errorf("an id %q", all[0].TopicID)
			}
			l.next[0] = min(l.next[0], all[0].End)
			return nil
		}
		b.consume = func(context.Context, *Batch) error { <-hold; return nil }
	})
	eventually(t, "it is assigned", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.told) > 0 })
	hold <- struct{}{}
	eventually(t, "they are read", func() bool { return l.count() == 10 })
	close(hold)
	if err := w.fake.DeleteTopic(w.topic); err != nil {
		t.Fatal(err)
	}
	if err := w.fake.CreateTopic(w.topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Assigned is asked again", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.next[0] == 0
	})
	w.write(0, "new")
	eventually(t, "the new one is read", func() bool { return l.count() == 11 })
}

func TestOffsetBeyondTheEndIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	w.write(0, numbered("x", 10)...)
	l := newLedger(t)
	var asked atomic.Int32
	r := w.join(l, func(_ *Config, b *bookkeeper) {
		b.assigned = func(all []Partition) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.next[0] = 100; asked.Add(1) == 4 {
				l.next[0] = all[0].End - 2
			}
			return nil
		}
	})
	began := time.Now()
	eventually(t, "they are read", func() bool { return l.count() == 2 })
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("asked %d times in %s", asked.Load(), took)
	}
	if !r.log.Says("offset 100, where it has those from 0 to 10") {
		t.Error("it is not told")
	}
}

func TestRecordsDeletedBeforeTheyAreRead(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		w.write(0, numbered("a", 10)...)
		w.drop(0, 4)
		l := newLedger(t)
		l.next[0] = 1
		hold := make(chan struct{})
		r := w.join(l, func(_ *Config, b *bookkeeper) {
			b.consume = func(ctx context.Context, _ *Batch) error {
				select {
				case <-hold:
				case <-ctx.Done():
				}
				return ctx.Err()
			}
		})
		eventually(t, "those are counted that the handler wanted", func() bool { return r.metric("drain_consumer_lost_total") == 3 })
		hold <- struct{}{} // it is told, with a batch of none
		l.mu.Lock()
		if l.next[0] > 4 {
			t.Errorf("told of %d, want 4", l.next[0])
		}
		l.mu.Unlock()
		eventually(t, "the others are fetched", func() bool { return r.metric("drain_consumer_bytes_total") > 0 })
		fetched := func() float64 { return r.metric("drain_consumer_bytes_total") }
		for i := range 10 {
			before := fetched()
			w.write(0, numbered(fmt.Sprint("b", i), 10)...)
			if i == 0 { // what comes after this is not fetched ahead
				eventually(t, "it is fetched", func() bool { return fetched() > before })
			}
		}
		eventually(t, "all is written", func() bool { return r.Lag()[0].End == 110 })
		w.drop(0, 110) // nothing is left that would tell
		close(hold)
		eventually(t, "what is left is read", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.next[0] == 110 })
		lost := int(r.metric("drain_consumer_lost_total"))
		if n := l.count(); n != 6+10 || lost != 3+90 {
			t.Errorf("%d read and %d lost", n, lost)
		}
		r.stop()
		before := l.count()
		w.write(0, numbered("c", 10)...)
		w.drop(0, 120)
		r = w.join(l, nil)
		eventually(t, "there is no lag", func() bool { all := r.Lag(); return len(all) == 1 && all[0] == Lag{0, 120, 120, 0} })
		if n := r.metric("drain_consumer_lost_total"); n != 10 || l.count() != before {
			t.Errorf("%v lost, %d read", n, l.count()-before)
		}
	})
}

func TestExpelledMemberComesBack(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.CoordinatorNotAvailable, kerr.UnknownServerError} {
		t.Run(e.Message, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 2)
			l := newLedger(t)
			var revoked atomic.Int32
			r := w.join(l, func(_ *Config, b *bookkeeper) {
				b.revoked = func(context.Context) { revoked.Add(1) }
			})
			w.write(0, "before")
			eventually(t, "it is read", func() bool { return l.count() == 1 })
			h := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: w.group, Err: e})
			eventually(t, "the member is told", func() bool { return h.Hits() > 0 })
			eventually(t, "Revoked is called", func() bool { return revoked.Load() == 1 })
			w.write(0, "after")
			eventually(t, "reading goes on", func() bool { return l.count() == 2 })
			l.holds(0, "before", "after")
			r.ready()
		})
	}
}

func TestRefusalsAreToldAndTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault kfake.Fault
		says  string
	}{
		{"group: coordinator", kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.GroupAuthorizationFailed}, "allow this user to read as the group"},
		{"group: join", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed}, "heroku kafka:consumer-groups:create"},
		{"session", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InvalidSessionTimeout}, "group.min.session.timeout.ms"},
		{"protocol", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InconsistentGroupProtocol}, "a group of its own"},
		{"loading", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.CoordinatorLoadInProgress}, "loading"},
		{"topic: metadata", kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.TopicAuthorizationFailed}, "allow this user to read it"},
		{"topic: offsets", kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.TopicAuthorizationFailed}, "offsets of partition"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 1)
			w.write(0, "x")
			test.fault.Count = -1
			h := w.fake.Fault(test.fault)
			l := newLedger(t)
			r := w.join(l, nil)
			eventually(t, "it says why: "+test.says, func() bool { err := r.Ready(); return err != nil && strings.Contains(err.Error(), test.says) })
			eventually(t, "it is told", func() bool { return r.log.Says(test.says[:7]) })
			h.Remove()
			eventually(t, "it is read", func() bool { return l.count() == 1 })
			r.ready()
		})
	}
}

func TestFailingFetchesAreTriedAgain(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID,
		kerr.KafkaStorageError, kerr.OffsetOutOfRange, kerr.OffsetNotAvailable, kerr.TopicAuthorizationFailed, kerr.UnknownServerError, kerr.CorruptMessage} {
		t.Run(e.Message, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 1)
			l := newLedger(t)
			l.next[0] = 0
			w.write(0, "before")
			h := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: w.topic, Err: e, Count: 5})
			r := w.join(l, nil)
			began := time.Now()
			eventually(t, "it is read", func() bool { return l.count() == 1 })
			if took := time.Since(began); took < 150*time.Millisecond || h.Hits() < 5 {
				t.Errorf("tried %d times in %s", h.Hits(), took)
			}
			if n := strings.Count(r.log.String(), "\n"); n > 8 {
				t.Errorf("%d lines in the log", n)
			}
			r.ready()
		})
	}
}

func TestFailingCommitsHarmNothing(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	h := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: 2})
	l := newLedger(t)
	r := w.join(l, nil)
	w.write(0, "x")
	eventually(t, "it is tried twice", func() bool { return h.Hits() == 2 })
	eventually(t, "it is committed", func() bool { return w.committed()[0] == 1 })
	if n := r.metric("drain_consumer_errors_total", "what=commit"); n != 2 {
		t.Errorf("%v errors counted", n)
	}
	if n := r.metric("drain_consumer_rebalances_total"); n != 1 {
		t.Errorf("%v generations", n)
	}
}

// TestBrokenBatchIsLeftOut: a batch that arrives broken is fetched again, and left out when that
// does not help; one that arrives whole then is read.
func TestBrokenBatchIsLeftOut(t *testing.T) {
	for _, test := range []struct {
		name  string
		times int32
		left  bool
	}{{"once", 1, false}, {"always", 1000, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 1)
			var times atomic.Int32
			w.fake.ControlKey(int16(kmsg.Fetch), func(m kmsg.Request) (kmsg.Response, error, bool) {
				w.fake.KeepControl()
				req := m.(*kmsg.FetchRequest)
				at := req.Topics[0].Partitions[0].FetchOffset
				if at > 2 || times.Add(1) > test.times {
					return nil, nil, false
				}
				res := req.ResponseKind().(*kmsg.FetchResponse)
				topic := kmsg.NewFetchResponseTopic()
				topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
				p := kmsg.NewFetchResponseTopicPartition()
				p.RecordBatches = recordBatch{offset: 0, records: some(0, 3)}.bytes()
				p.RecordBatches[len(p.RecordBatches)-1] ^= 1
				p.HighWatermark = 6
				topic.Partitions = append(topic.Partitions, p)
				res.Topics = append(res.Topics, topic)
				return res, nil, true
			})
			w.write(0, numbered("a", 3)...)
			w.write(0, numbered("b", 3)...)
			l := newLedger(t)
			r := w.join(l, nil)
			eventually(t, "it is read to the end", func() bool { all := r.Lag(); return len(all) == 1 && all[0] == Lag{0, 6, 6, 0} })
			want := append(numbered("a", 3), numbered("b", 3)...)
			if test.left {
				want = want[3:]
				if n := times.Load(); n != mostBroken {
					t.Errorf("fetched %d times", n)
				}
			}
			l.holds(0, want...)
			if n := r.metric("drain_consumer_errors_total", "what=corrupt"); (n == 1) != test.left || r.log.Says("records=3 next=3") != test.left {
				t.Errorf("%v left out", n)
			}
		})
	}
}

// TestLongGoodbye: while a member lets go for longer than its session, it stays in the group, and
// nobody gets its partitions.
func TestLongGoodbye(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		short := func(cfg *Config, _ *bookkeeper) {
			cfg.SessionTimeout, cfg.RebalanceTimeout = 3*time.Second, 20*time.Second
		}
		l := newLedger(t)
		var letGo atomic.Bool
		a := w.join(l, func(cfg *Config, b *bookkeeper) {
			short(cfg, b)
			b.name = "a"
			b.revoked = func(ctx context.Context) {
				if !letGo.Load() {
					time.Sleep(5 * time.Second)
				}
				letGo.Store(true)
				if ctx.Err() != nil {
					t.Error("its time was over")
				}
			}
		})
		a.ready()
		before := a.metric("drain_consumer_errors_total", "what=group") // the group's topic is made
		b := w.join(l, func(cfg *Config, b *bookkeeper) {
			short(cfg, b)
			b.name = "b"
			b.assigned = func([]Partition) error {
				if !letGo.Load() {
					t.Error("b has partitions that a has not let go of")
				}
				return nil
			}
		})
		eventually(t, "both have one", func() bool { return len(a.Lag()) == 1 && len(b.Lag()) == 1 })
		if n := a.metric("drain_consumer_rebalances_total"); n != 2 {
			t.Errorf("%v generations", n)
		}
		if n := a.metric("drain_consumer_errors_total", "what=group"); n != before {
			t.Errorf("%v errors of the group", n-before)
		}
	})
}

func TestGoodbyeHasALimit(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	var took atomic.Int64
	r := w.join(newLedger(t), func(cfg *Config, b *bookkeeper) {
		cfg.RebalanceTimeout = 2 * time.Second
		b.revoked = func(ctx context.Context) {
			began := time.Now()
			<-ctx.Done()
			took.Store(int64(time.Since(began)))
		}
	})
	r.ready()
	r.stopsWithin(3 * time.Second)
	if d := time.Duration(took.Load()); d < 500*time.Millisecond || d > 1500*time.Millisecond {
		t.Errorf("it had %s, want a second", d)
	}
}

// TestSlowHandlerStays: a handler that blocks for longer than the session keeps its partitions,
// even while it does not notice that it is to let go.
func TestSlowHandlerStays(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		l := newLedger(t)
		blocked := make(chan struct{})
		var once sync.Once
		session := func(cfg *Config) { cfg.SessionTimeout = 5 * time.Second } // a machine may stand still for two
		a := w.join(l, func(cfg *Config, b *bookkeeper) {
			session(cfg)
			b.consume = func(ctx context.Context, _ *Batch) error {
				once.Do(func() {
					close(blocked)
					time.Sleep(7 * time.Second)
					if ctx.Err() != nil {
						t.Error("the assignment has ended")
					}
					<-ctx.Done()
					time.Sleep(7 * time.Second)
				})
				return ctx.Err()
			}
		})
		w.write(0, "x")
		<-blocked
		generations, errs := a.metric("drain_consumer_rebalances_total"), a.metric("drain_consumer_errors_total", "what=group")
		time.Sleep(7 * time.Second)
		b := w.join(l, func(cfg *Config, _ *bookkeeper) { session(cfg) })
		eventually(t, "both have one", func() bool { return len(a.Lag()) == 1 && len(b.Lag()) == 1 })
		if n := a.metric("drain_consumer_rebalances_total"); n != generations+1 {
			t.Errorf("%v generations more", n-generations)
		}
		if n := a.metric("drain_consumer_errors_total", "what=group"); n != errs {
			t.Errorf("%v errors of the group", n-errs)
		}
		eventually(t, "it is read", func() bool { return l.count() == 1 })
	})
}

// TestStopWhileJoining: the group waits for another member, and a stop does not.
func TestStopWhileJoining(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		stuck := make(chan struct{})
		a := w.join(newLedger(t), func(cfg *Config, b *bookkeeper) {
			b.revoked = func(context.Context) { <-stuck }
		})
		a.ready()
		b := w.join(newLedger(t), nil)
		eventually(t, "the group waits for a", func() bool { _, state := w.members(); return state == "PreparingRebalance" })
		b.stopsWithin(leaveTimeout + time.Second)
		close(stuck)
	})
}

func TestStopWhileALeaderIsSilent(t *testing.T) {
	t.Parallel()
	w, gates := pretendGated(t, 2, 1)
	silent := 1 - w.fake.CoordinatorFor(w.group)
	if err := w.fake.MoveTopicPartition(w.topic, 0, silent); err != nil {
		t.Fatal(err)
	}
	l := newLedger(t)
	r := w.join(l, nil)
	w.write(0, "x")
	eventually(t, "it is read", func() bool { return l.count() == 1 })
	gates[silent].silence(true)
	time.Sleep(longPoll) // a fetch is under way that would have been answered
	r.stopsWithin(time.Second)
}

func TestStopBeforeKafkaIsThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it takes connections, and says nothing
	w := at(t, []string{l.Addr().String()}, 0)
	r := w.join(newLedger(t), nil)
	eventually(t, "it says why", func() bool { err := r.Ready(); return err != nil && strings.Contains(err.Error(), "i/o timeout") })
	r.stopsWithin(time.Second)
}

// TestMemoryIsBounded: however many partitions have records that nobody takes, what is held
// stays within Memory, and all are read when somebody does.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const partitions, each, size = 40, 10, 100_000
	w := pretend(t, partitions)
	for id := range partitions {
		values := make([]string, each)
		for i := range values {
			values[i] = strings.Repeat("x", size)
		}
		for _, v := range values {
			w.write(id, v) // a batch each
		}
	}
	const places = 8
	l := newLedger(t)
	hold := make(chan struct{})
	r := w.join(l, func(cfg *Config, b *bookkeeper) {
		cfg.MaxBytes = size * 2
		cfg.Memory = places * (size*2 + decoded)
		b.consume = func(ctx context.Context, _ *Batch) error {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	held := func() float64 { return r.metric("drain_consumer_bytes_total") }
	eventually(t, "as much is held as may be", func() bool { return len(r.places) == places && held() > size })
	time.Sleep(time.Second)
	if n := held(); n > places*size*3 {
		t.Errorf("%.0f bytes held", n)
	}
	close(hold)
	eventually(t, "all are read", func() bool { return l.count() == partitions*each })
}

// TestIdlePartitionsTakeNoMemory: what was held of many partitions is given back.
func TestIdlePartitionsTakeNoMemory(t *testing.T) {
	const partitions = 100
	apache.once.Do(startKafka) // whose own memory does not count
	if apache.err != nil {
		t.Fatal(apache.err)
	}
	w := at(t, []string{apache.addr}, partitions)
	value := strings.Repeat("x", 500_000)
	var writing sync.WaitGroup
	for id := range partitions {
		writing.Go(func() { w.write(id, value) })
	}
	writing.Wait()
	inUse := func() int64 {
		runtime.GC()
		runtime.GC() // pools keep what they have through one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	before := inUse()
	l := newLedger(t)
	r := w.join(l, nil)
	eventually(t, "all are read", func() bool { return l.count() == partitions })
	l.mu.Lock()
	clear(l.values)
	l.mu.Unlock()
	eventually(t, "nothing is held", func() bool { return len(r.places) == 0 })
	if more := inUse() - before; more > 10<<20 {
		t.Errorf("%d MiB more than before for %d idle partitions", more>>20, partitions)
	}
}

// TestSmallFetchesAreFew: records that come one by one do not make a request each.
func TestSmallFetchesAreFew(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	l := newLedger(t)
	r := w.join(l, nil)
	r.ready()
	fetches := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	began := time.Now()
	for i := range 400 {
		w.write(0, fmt.Sprint(i))
	}
	eventually(t, "they are read", func() bool { return l.count() == 400 })
	if n, most := fetches.Hits(), int64(time.Since(began)/pace)+5; int64(n) > most {
		t.Errorf("%d fetches in %s, more than %d", n, time.Since(began), most)
	}
}

func TestAbortedTransactionsAreNotRead(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		client, err := kgo.NewClient(kgo.SeedBrokers(w.addrs...), kgo.TransactionalID(w.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		l := newLedger(t)
		r := w.join(l, nil)
		var want []string
		for i := range 6 {
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			values := numbered(fmt.Sprint(i), 3)
			if err := client.ProduceSync(t.Context(), w.records(0, values...)...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			commit := kgo.TransactionEndTry(i%2 == 0)
			if commit {
				want = append(want, values...)
			}
			if err := client.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "there is no lag", func() bool { all := r.Lag(); return len(all) == 1 && all[0] == Lag{0, 24, 24, 0} })
		l.holds(0, want...)
	})
}

func TestOldBrokers(t *testing.T) {
	for name, v := range map[string]*kversion.Versions{"0.11": kversion.V0_11_0(), "1.0": kversion.V1_0_0(), "1.1": kversion.V1_1_0(), "2.0": kversion.V2_0_0(),
		"2.1": kversion.V2_1_0(), "2.3": kversion.V2_3_0(), "2.7": kversion.V2_7_0(), "2.8": kversion.V2_8_0(), "3.1": kversion.V3_1_0(), "4.0": kversion.V4_0_0()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 2, kfake.MaxVersions(v))
			l := newLedger(t)
			r := w.join(l, nil)
			for i := range 3 {
				w.write(0, fmt.Sprint(i))
				eventually(t, "it is read", func() bool { return l.count() == i+1 })
			}
			r.stop()
			if c := w.committed(); c[0] != 3 {
				t.Errorf("committed: %v", c)
			}
		})
	}
}

func TestEveryCompressionArrives(t *testing.T) {
	both(t, 5, func(t *testing.T, w *world) {
		var want []string
		for i := range 2000 {
			want = append(want, fmt.Sprint("a value that can be packed ", i))
		}
		codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
		for id, codec := range codecs {
			client, err := kgo.NewClient(kgo.SeedBrokers(w.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
			if err != nil {
				t.Fatal(err)
			}
			if err := client.ProduceSync(t.Context(), w.records(id, want...)...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			client.Close()
		}
		l := newLedger(t)
		w.join(l, nil)
		eventually(t, "all are read", func() bool { return l.count() == len(codecs)*len(want) })
		for id := range codecs {
			l.holds(id, want...)
		}
	})
}

// TestSecuredCluster: all connections are made by cluster.Config.Dial.
func TestSecuredCluster(t *testing.T) {
	t.Parallel()
	ca := authority.New(t, "cluster")
	pair := ca.Pair("127.0.0.1", time.Now().Add(time.Hour))
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "router"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "drain", "swordfish"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sasl, err := cluster.NewSASL("SCRAM-SHA-256", "drain", "swordfish")
	if err != nil {
		t.Fatal(err)
	}
	secure := &cluster.Config{Addresses: c.ListenAddrs(), TLS: &tls.Config{RootCAs: ca.Pool()}, SASL: sasl}
	w := &world{t: t, addrs: c.ListenAddrs(), topic: "router", group: "metrics"}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.Dialer(secure.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w.client = client
	w.write(1, "x")
	l := newLedger(t)
	w.join(l, func(cfg *Config, _ *bookkeeper) { cfg.Cluster = secure })
	eventually(t, "it is read", func() bool { return l.count() == 1 })
	sasl, err = cluster.NewSASL("SCRAM-SHA-256", "drain", "wrong")
	if err != nil {
		t.Fatal(err)
	}
	r := w.join(newLedger(t), func(cfg *Config, _ *bookkeeper) {
		cfg.Cluster = &cluster.Config{Addresses: c.ListenAddrs(), TLS: &tls.Config{RootCAs: ca.Pool()}, SASL: sasl}
	})
	eventually(t, "it says what to look at", func() bool { return strings.Contains(fmt.Sprint(r.Ready()), "KAFKA_SASL_PASSWORD") })
	if err := r.Ready(); !errors.Is(err, cluster.ErrLogin) {
		t.Errorf("%v", err)
	}
}
