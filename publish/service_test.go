package publish

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/pool"
	"drain/trial/journal"
	"drain/trial/samples"
	"drain/trial/stalls"
)

const (
	testTopic = "router"
	hold      = 4200 * time.Millisecond // HOLD's default
)

// service is a publisher wired as cmd/drain does it.
type service struct {
	*Publisher
	t       testing.TB
	clients *pool.Pool
	reg     *prometheus.Registry
	log     *journal.Journal
	account Account
}

// options are what tests vary; the zero value is the service's defaults on one
// broker.
type options struct {
	topics  []string
	records int
	bytes   int
	delay   time.Duration
	clients int
	budget  int64
	stuck   time.Duration
	dial    func(net.Conn) net.Conn // wraps our connections
	dials   *atomic.Int64           // counts their attempts

	compression int
}

// or gives v the service's default unless it is set.
func or[T comparable](v *T, def T) {
	if *v == *new(T) {
		*v = def
	}
}

// serve starts a publisher on the brokers at addrs, and stops it with the test.
func serve(t testing.TB, addrs []string, o options) *service {
	t.Helper()
	or(&o.records, 3000)
	or(&o.bytes, 950_000)
	or(&o.clients, 4*len(addrs))
	if o.topics == nil {
		o.topics = []string{testTopic}
	}
	or(&o.delay, 5*time.Millisecond)
	or(&o.stuck, hold)
	or(&o.budget, 64<<20)
	if o.dial == nil {
		o.dial = func(c net.Conn) net.Conn { return c }
	}
	or(&o.dials, new(atomic.Int64))
	at := cluster.Config{Addresses: addrs, Topics: o.topics}
	transport := func() *kafka.Transport {
		tr := at.Transport()
		dial := tr.Dial
		tr.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			o.dials.Add(1)
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return o.dial(c), nil
		}
		return tr
	}
	clients, err := pool.New(pool.Config{Size: o.clients, Addr: at.Addr(), Transport: transport, ConnectTimeout: 2 * cluster.ConnectTimeout})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, clients: clients, reg: prometheus.NewRegistry(), log: new(journal.Journal)}
	s.Publisher = New(Config{
		Topics: o.topics, BatchRecords: o.records, BatchBytes: o.bytes, BatchDelay: o.delay, Compression: o.compression, Stuck: o.stuck,
		Budget: NewBudget(o.budget), Pool: clients, Registerer: s.reg, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
		Connect: func(ctx context.Context) (*kafka.Client, error) { return pool.Connect(ctx, at.Addr(), transport()) },
	})
	go s.Run()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // again, where the test has done it: it only says the same
		clients.Close()
	})
	return s
}

// known waits for the topics.
func (s *service) known() *service {
	s.t.Helper()
	s.eventually(10*time.Second, "the topics are known", s.Known)
	return s
}

// publish gives records to a partition, their memory acquired.
func (s *service) publish(partition uint64, records ...Record) *Receipt {
	s.t.Helper()
	r := s.receipt()
	err := s.add(r, partition, records...)
	if err != nil {
		s.t.Error(err)
	}
	return r
}

func (s *service) Account() *Account { return &s.account }
func (s *service) Settled(bool)      {}

func (s *service) receipt() *Receipt { return NewReceipt(s) }

func (s *service) add(r *Receipt, partition uint64, records ...Record) error {
	size := 0
	for i := range records {
		size += records[i].Size()
	}
	if err := s.cfg.Budget.Acquire(s.t.Context(), &s.account, size, false); err != nil {
		return err
	}
	_, err := s.Publish(r, partition, records)
	if err != nil {
		s.cfg.Budget.Release(&s.account, size)
	}
	return err
}

// send publishes one record and waits for it as a request does. It tells how long
// that took, less what the machine was busy with else.
func (s *service) send(partition uint64, value string) (time.Duration, error) {
	s.t.Helper()
	return s.wait(s.publish(partition, record(value)))
}

func (s *service) wait(r *Receipt) (time.Duration, error) {
	watch := stalls.Start()
	err := r.Wait(s.t.Context(), time.Now().Add(soon))
	return watch.Took(), err
}

// unharmed fails the test unless partitions take records as they always do.
func (s *service) unharmed(partitions ...uint64) {
	s.t.Helper()
	const n = 200
	var sum time.Duration
	for i := range n {
		took, err := s.send(partitions[i%len(partitions)], fmt.Sprint(i))
		if sum += took; err != nil || sum > n*100*time.Millisecond {
			s.t.Fatalf("record %d: %v, %s for all\n%s", i, err, sum, s.log)
		}
	}
}

// commits fails the test unless a record is committed within limit.
func (s *service) commits(partition uint64, value string, limit time.Duration) {
	s.t.Helper()
	switch took, err := s.send(partition, value); {
	case err != nil:
		s.t.Errorf("%s: %v after %s\n%s", value, err, took, s.log)
	case took > limit:
		s.t.Errorf("%s: committed after %s, more than %s\n%s", value, took, limit, s.log)
	}
}

func record(value string) Record { return Record{Value: []byte(value)} }

// metric is a sample's value, or a histogram's count; labels as `name=value`.
func (s *service) metric(name string, labels ...string) float64 {
	s.t.Helper()
	value, found := samples.Sum(s.t, s.reg, name, labels...)
	if !found {
		s.t.Fatalf("no metric %s %s", name, labels)
	}
	return value
}

// sum is what a histogram's observations add up to.
func (s *service) sum(name string) (sum float64) {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetHistogram().GetSampleSum()
			}
		}
	}
	return sum
}

// is fails the test unless a metric has a value.
func (s *service) is(want float64, name string, labels ...string) {
	s.t.Helper()
	if got := s.metric(name, labels...); got != want {
		s.t.Errorf("%s%s is %v, want %v", name, labels, got, want)
	}
}

const (
	// noticed is how long the watcher may take to see that something changed.
	noticed = 2*watchEvery + watchTimeout
	// soon is for what only has to happen at all.
	soon = 30 * time.Second
)

// eventually waits until ok, and fails the test when that takes more than limit, less
// what the machine was busy with else.
func (s *service) eventually(limit time.Duration, what string, ok func() bool) {
	s.t.Helper()
	for watch := stalls.Start(); !ok(); time.Sleep(time.Millisecond) {
		if watch.Took() > limit {
			s.t.Fatalf("not within %s: %s\n%s", limit, what, s.log)
		}
	}
}

// fake starts a cluster, of one broker with a topic of 4 partitions unless opts
// say otherwise.
func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, testTopic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stored reads all that the topic holds, by partition, with a client that shares
// nothing with ours.
func stored(t testing.TB, c *kfake.Cluster) map[int32][]*kgo.Record {
	t.Helper()
	missing := make(map[int32]int64)
	for _, p := range c.PartitionInfos(testTopic) {
		if p.HighWatermark > 0 {
			missing[p.Partition] = p.HighWatermark
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(testTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all := make(map[int32][]*kgo.Record)
	for len(missing) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all[r.Partition] = append(all[r.Partition], r)
			if r.Offset+1 == missing[r.Partition] {
				delete(missing, r.Partition)
			}
		})
	}
	return all
}

// values are the records' values in a partition, in their order.
func values(records []*kgo.Record) (all []string) {
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return all
}

// holds fails the test unless a partition holds just these values, in this order.
func holds(t testing.TB, c *kfake.Cluster, partition int32, want ...string) {
	t.Helper()
	if got := values(stored(t, c)[partition]); !slices.Equal(got, want) {
		t.Errorf("partition %d holds %q, want %q", partition, got, want)
	}
}

// numbered are n values that say where they belong.
func numbered(name string, n int) (all []Record) {
	for i := range n {
		all = append(all, record(fmt.Sprintf("%s-%d", name, i)))
	}
	return all
}

func portOf(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return n
}
