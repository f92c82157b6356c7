package consume

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"drain/cluster"
	"drain/trial/journal"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("DRAIN_TEST_BROKER") != "" {
		runBroker()
		return 0
	}
	before := goleak.IgnoreCurrent()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

const testTopic, testGroup = "router", "metrics"

// ledger is what handlers keep beside their offsets, as a store would that does both at
// once: a batch that does not begin where the one before ended changes nothing.
type ledger struct {
	t testing.TB

	mu     sync.Mutex // guards the following
	next   map[int]int64
	values map[int][]string
	wrong  int // batches that were not taken
	told   [][]Partition
	events []string
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, next: make(map[int]int64), values: make(map[int][]string)}
}

// bookkeeper is a handler that writes into a ledger.
type bookkeeper struct {
	*ledger
	name  string
	group *Group
	// Called, unless nil, before what the ledger does.
	assigned func([]Partition) error
	consume  func(context.Context, *Batch) error
	revoked  func(context.Context)

	mu   sync.Mutex // guards the following
	mine map[int]int64
}

func (b *bookkeeper) Assigned(_ context.Context, partitions []Partition) error {
	if b.assigned != nil {
		if err := b.assigned(partitions); err != nil {
			return err
		}
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, slices.Clone(partitions))
	b.mine = make(map[int]int64)
	for i := range partitions {
		p := &partitions[i]
		if next, known := l.next[p.ID]; known {
			p.Offset = next
		}
		l.next[p.ID] = p.Offset
		b.mine[p.ID] = p.Offset
		l.events = append(l.events, fmt.Sprintf("%s+%d", b.name, p.ID))
	}
	return nil
}

func (b *bookkeeper) Consume(ctx context.Context, batch *Batch) error {
	if b.consume != nil {
		if err := b.consume(ctx, batch); err != nil {
			return err
		}
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	id := batch.Partition
	if b.mine[id] != l.next[id] {
		l.wrong++
		return ErrReassign
	}
	for _, r := range batch.Records {
		if r.Offset < l.next[id] || r.Offset >= batch.Next {
			l.t.Errorf("%s: partition %d: offset %d, after %d, in a batch up to %d", b.name, id, r.Offset, l.next[id]-1, batch.Next)
		}
		l.next[id] = r.Offset + 1
		l.values[id] = append(l.values[id], string(r.Value))
	}
	l.next[id], b.mine[id] = batch.Next, batch.Next
	b.group.Done(id, batch.Next)
	return nil
}

func (b *bookkeeper) Revoked(ctx context.Context) {
	if b.revoked != nil {
		b.revoked(ctx)
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range b.mine {
		l.events = append(l.events, fmt.Sprintf("%s-%d", b.name, id))
	}
	b.mine = nil
}

// count is how many values are written.
func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, all := range l.values {
		n += len(all)
	}
	return n
}

// reading is a member that runs.
type reading struct {
	*Group
	*bookkeeper
	t    testing.TB
	reg  *prometheus.Registry
	log  *journal.Journal
	stop func() // and wait
}

// join starts a member that writes into l, and stops it with the test.
func join(t testing.TB, addrs []string, l *ledger, change func(*Config, *bookkeeper)) *reading {
	t.Helper()
	r := &reading{t: t, reg: prometheus.NewRegistry(), log: new(journal.Journal), bookkeeper: &bookkeeper{ledger: l, name: "a"}}
	cfg := Config{
		Cluster: &cluster.Config{Addresses: addrs}, Topic: testTopic, Group: testGroup, Handler: r.bookkeeper,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.reg,
		HeartbeatInterval: 100 * time.Millisecond, SessionTimeout: 6 * time.Second,
	}
	if change != nil {
		change(&cfg, r.bookkeeper)
	}
	r.Group = New(cfg)
	r.bookkeeper.group = r.Group
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("%s's log:\n%s", r.name, r.log)
		}
	})
	return r
}

const soon = 30 * time.Second

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > soon {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// metric is a sample's value, or a histogram's count; labels as `name=value`.
func (r *reading) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := func(l string) bool {
				return slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetName()+"="+p.GetValue() == l })
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !has(l) }) {
				continue
			}
			if f.GetType() == dto.MetricType_HISTOGRAM {
				return float64(m.GetHistogram().GetSampleCount())
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

// fake starts a cluster, of one broker with a topic of 4 partitions unless opts say otherwise.
func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, testTopic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// producer makes a client that writes to the partitions that records name.
func producer(t testing.TB, addrs []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// write writes n values to a partition, and waits for them.
func write(t testing.TB, client *kgo.Client, partition int, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: testTopic, Partition: int32(partition), Value: []byte(v)})
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered are n values that say where they belong.
func numbered(name string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%d", name, i))
	}
	return all
}

// holds fails the test unless the ledger has just these values of a partition, in this order.
func (l *ledger) holds(partition int, want []string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.values[partition]; !slices.Equal(got, want) {
		l.t.Errorf("partition %d: %d values %.200q, want %d", partition, len(got), got, len(want))
	}
}

func TestEveryRecordOnceInOrder(t *testing.T) {
	c := fake(t)
	p := producer(t, c.ListenAddrs())
	l := newLedger(t)
	for id := range 4 {
		write(t, p, id, numbered("before", 1000)...)
	}
	r := join(t, c.ListenAddrs(), l, nil)
	eventually(t, "what was there before is read", func() bool { return l.count() == 4000 })
	for id := range 4 {
		write(t, p, id, numbered("after", 1000)...)
	}
	eventually(t, "what came is read", func() bool { return l.count() == 8000 })
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("stopped after %s", took)
	}
	for id := range 4 {
		l.holds(id, append(numbered("before", 1000), numbered("after", 1000)...))
	}
}
