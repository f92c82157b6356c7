// Package publish turns records into batches and batches into produce requests:
// one after another for each partition, idempotent, repeated until Kafka has
// committed them. It is the only place that knows how Kafka is written to.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"drain/grumble"
	"drain/pool"
)

// Config is what a Publisher needs. All fields are required but Prefix and Logger.
type Config struct {
	// Topics are the names of the topics that are written to; Publish takes a
	// topic's index in it.
	Topics []string
	// A batch is sealed at BatchRecords records, at BatchBytes bytes, or when its
	// turn comes; one that has waited for BatchDelay then counts as sealed by it.
	BatchRecords int
	BatchBytes   int
	BatchDelay   time.Duration
	// Compression is what batches are compressed with, by its number in
	// Compressions.
	Compression int
	// Stuck is the age of an uncommitted batch from which on Ready fails.
	Stuck time.Duration
	// Prefix is put before the names of topics by whoever made Topics. It is for what
	// the errors advise.
	Prefix string
	// Budget holds the records' bytes until they are committed.
	Budget *Budget
	// Pool lends the clients for produce requests.
	Pool *pool.Pool
	// Connect makes the client with which the topics are watched.
	Connect func(context.Context) (*kafka.Client, error)
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Publisher writes records to Kafka. It is safe for concurrent use.
type Publisher struct {
	cfg       Config
	metrics   *metrics
	producers producers
	codec     *codec
	packers   chan struct{} // places for those who compress ahead
	topics    []*topic
	slow      chan struct{} // places for slow partitions, see produce
	silent    chan struct{} // of these, for silent ones
	unready   atomic.Bool   // a stop has begun: Ready fails, Publish still takes
	stopping  atomic.Bool   // Shutdown was called
	adding    atomic.Int64  // calls of Publish under way
	watcher   watcher
	back      atomic.Pointer[chan struct{}] // closed when Kafka is ready again
	grumble   *grumble.Grumble[*partition]
	throttle  throttle

	running context.Context // ends with stop
	stop    context.CancelFunc
	senders sync.WaitGroup // a goroutine for each partition
	ended   chan struct{}  // closed when Run has returned
}

// topic is one topic that is written to.
type topic struct {
	name       string
	partitions atomic.Pointer[[]*partition] // nil until Kafka has told
	parking    parking                      // of frames, until then
	retired    atomic.Pointer[[]*partition] // those that it had once; they hold something only for a moment
	limit      atomic.Int64                 // most bytes that it takes in a batch, as far as is known
	committed  prometheus.Counter
	failed     prometheus.Counter
	duplicate  prometheus.Counter
}

// New makes a Publisher; it starts nothing.
func New(cfg Config) *Publisher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{
		cfg:       cfg,
		metrics:   newMetrics(cfg.Registerer),
		producers: producers{pool: cfg.Pool},
		codec:     newCodec(cfg.Compression),
		packers:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		ended:     make(chan struct{}),
		grumble: grumble.New[*partition](grumble.Config{
			Logger: cfg.Logger, Bad: "a batch could not be stored; it is kept and sent again", Better: "Kafka stores batches again", Count: "failing_partitions"}),
	}
	p.throttle = throttle{seconds: p.metrics.throttled, log: cfg.Logger, hurry: make(chan struct{}), brokers: make(map[int32]*patience)}
	for _, name := range cfg.Topics {
		t := &topic{
			name:      name,
			committed: p.metrics.records.WithLabelValues(name, "committed"),
			failed:    p.metrics.records.WithLabelValues(name, "failed"),
			duplicate: p.metrics.records.WithLabelValues(name, "duplicate"),
		}
		t.limit.Store(math.MaxInt32)
		p.topics = append(p.topics, t)
	}
	back := make(chan struct{})
	p.back.Store(&back)
	// Slow partitions leave a quarter of the clients to the others, silent ones
	// a quarter of the rest to the slow, at least one each where there are three.
	slow := threeQuarters(cfg.Pool.Size())
	p.slow, p.silent = make(chan struct{}, slow), make(chan struct{}, threeQuarters(slow))
	p.running, p.stop = context.WithCancel(context.Background())
	return p
}

func threeQuarters(n int) int { return max(1, n-max(1, n/4)) }

// ErrStopping says that Shutdown was called.
var ErrStopping = errors.New("stopping")

// Known tells whether Kafka has told the partitions of all topics.
func (p *Publisher) Known() bool {
	for _, t := range p.topics {
		if t.all() == nil {
			return false
		}
	}
	return true
}

// Publish takes a frame's records into batches, records[i] into those of Topics[i],
// and makes r follow them. A record with a key goes to the partition that the Java
// client would choose, one without to the partition that frame says. It copies what
// it takes; the Budget's bytes for the records (Record.Size), which the caller has
// acquired for the frame's account, belong to the Publisher when the error is nil.
//
// It never waits, and is called once for r. The error is ErrStopping; nothing was
// taken then, and r has failed.
func (p *Publisher) Publish(r *Receipt, frame uint64, records ...[]Record) (all Progress, err error) {
	p.adding.Add(1)
	defer p.adding.Add(-1)
	if p.stopping.Load() {
		p.finish(r, 0, true)
		return all, ErrStopping
	}
	for i, records := range records {
		if len(records) == 0 {
			continue
		}
		t := p.topics[i]
		if partitions := t.all(); partitions != nil {
			all.add(publish(r, partitions, frame, records))
		} else {
			all.add(t.park(r, frame, records))
		}
	}
	p.finish(r, 0, false)
	return all, nil
}

// Progress tells how the partitions are that a frame's records went to: of all of
// them the worst.
type Progress struct {
	// Oldest is when the oldest record came that is not committed yet; zero where
	// there are no records.
	Oldest time.Time
	// Stored is when the last batch was committed, zero if none was, and Took how
	// long its request took.
	Stored time.Time
	Took   time.Duration
}

// add makes p that of one more partition.
func (p *Progress) add(o Progress) {
	if p.Oldest.IsZero() {
		*p = o
		return
	}
	if o.Oldest.Before(p.Oldest) {
		p.Oldest = o.Oldest
	}
	if o.Stored.Before(p.Stored) {
		p.Stored = o.Stored
	}
	p.Took = max(p.Took, o.Took)
}

func publish(r *Receipt, partitions []*partition, frame uint64, records []Record) Progress {
	home := int(frame % uint64(len(partitions)))
	for i := range records {
		if records[i].Key != nil {
			return publishKeyed(r, partitions, home, records)
		}
	}
	return partitions[home].add(r, records, 0, nil)
}

// chains sort a request's records by partition: first and last of each partition,
// and which one comes next in it.
type chains struct{ first, last, next []int32 }

var chainsPool = sync.Pool{New: func() any { return new(chains) }}

// publishKeyed gives each partition its records, one lock for each partition.
func publishKeyed(r *Receipt, all []*partition, home int, records []Record) (worst Progress) {
	const none = -1
	c := chainsPool.Get().(*chains)
	defer chainsPool.Put(c)
	c.first = append(c.first[:0], make([]int32, len(all))...)
	c.last = append(c.last[:0], c.first...)
	c.next = append(c.next[:0], make([]int32, len(records))...)
	for i := range c.first {
		c.first[i] = none
	}
	for i := range records {
		to := home
		if key := records[i].Key; key != nil {
			to = int(murmur2(key)&0x7fffffff) % len(all)
		}
		c.next[i] = none
		if c.first[to] == none {
			c.first[to] = int32(i)
		} else {
			c.next[c.last[to]] = int32(i)
		}
		c.last[to] = int32(i)
	}
	for i, pt := range all {
		if c.first[i] != none {
			worst.add(pt.add(r, records, c.first[i], c.next))
		}
	}
	return worst
}

// Duplicate counts records that were not published because the same ones
// already are.
func (p *Publisher) Duplicate(topic, records int) { p.topics[topic].duplicate.Add(float64(records)) }

// minLimit is the least that a topic is believed to take.
const minLimit = 16 << 10

// tooLarge learns that the topic takes no batch of n bytes, before compression, so
// that the next ones need not be refused first.
func (t *topic) tooLarge(n int, log *slog.Logger) {
	most := int64(max(n/2, minLimit))
	if t.limit.Load() <= most {
		return
	}
	t.limit.Store(most)
	log.Warn("Kafka takes no batch of this size; drain makes smaller ones, and shortens records that are larger",
		"topic", t.name, "bytes", n, "now", most, "do", "raise max.message.bytes of the topic, and start drain again")
}

// MaxRecord is the size in bytes, key and value together, of the largest record
// that Topics[topic] is believed to take. It can fall when Kafka refuses one.
func (p *Publisher) MaxRecord(topic int) int {
	return int(p.topics[topic].limit.Load()) - batchHead - recordOverhead
}

// commit settles a batch that is stored.
func (p *Publisher) commit(pt *partition, b *batch, took time.Duration) {
	p.metrics.batchRecords.Observe(float64(b.records))
	p.metrics.batchBytes.Observe(float64(len(b.wire()) - 4))
	p.metrics.produce.Observe(took.Seconds())
	p.metrics.sealed[b.sealedBy].Inc()
	pt.topic.committed.Add(float64(b.records))
	pt.relent()
	p.settle(b, false)
}

// refuse settles a batch of one record that Kafka will never take.
func (p *Publisher) refuse(pt *partition, b *batch, err error) {
	pt.topic.failed.Add(float64(b.records))
	p.cfg.Logger.Error("Kafka refuses a record for its size; it is lost, unless its sender repeats it: the next such one is shortened",
		"topic", pt.topic.name, "partition", pt.id, "bytes", len(b.wire()), "error", err,
		"do", "raise max.message.bytes of the topic")
	p.settle(b, true)
}

func (p *Publisher) settle(b *batch, failed bool) {
	p.cfg.Budget.releaseClaims(b.receipts)
	for _, c := range b.receipts {
		p.finish(c.receipt, c.records, failed)
	}
	b.free()
}

func (p *Publisher) finish(r *Receipt, records int32, failed bool) {
	if recovered := r.finish(records, failed); recovered > 0 {
		p.metrics.recovered.Add(float64(recovered))
	}
}

// Run watches the topics and sends until Shutdown ends it. It is called once.
func (p *Publisher) Run() {
	defer close(p.ended)
	p.watcher.run(p)
	p.senders.Wait()
}

// Unready says that a stop has begun: Ready fails from now on, and nothing is held back for
// a quota.
func (p *Publisher) Unready() {
	if !p.unready.Swap(true) {
		close(p.throttle.hurry)
	}
}

// Shutdown takes no more records, waits until all that were taken are committed,
// at most until ctx ends, and ends Run, which must be running. The error says how
// many are left. No Publish may be under way.
func (p *Publisher) Shutdown(ctx context.Context) error {
	p.Unready()
	p.stopping.Store(true)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for (p.adding.Load() > 0 || p.uncommitted() > 0) && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	p.stop()
	<-p.ended
	left := 0
	for _, t := range p.topics {
		n := t.countLeft()
		t.failed.Add(float64(n))
		left += n
	}
	if left > 0 {
		return fmt.Errorf("%d records were not committed and are lost with this process", left)
	}
	return nil
}

// uncommitted counts the partitions that hold records, and the topics whose
// partitions are not known.
func (p *Publisher) uncommitted() (n int) {
	for _, t := range p.topics {
		if _, ok := t.parking.oldest(); ok {
			n++
		}
		for _, pt := range t.everyPartition() {
			if _, ok := pt.oldest(); ok {
				n++
			}
		}
	}
	return n
}

func (t *topic) all() []*partition {
	if partitions := t.partitions.Load(); partitions != nil {
		return *partitions
	}
	return nil
}

// everyPartition is those that the topic has, and those that it had.
func (t *topic) everyPartition() []*partition {
	if retired := t.retired.Load(); retired != nil {
		return append(slices.Clone(t.all()), *retired...)
	}
	return t.all()
}

// countLeft counts the records that are held after the senders have ended.
func (t *topic) countLeft() (n int) {
	n = t.parking.records()
	for _, pt := range t.everyPartition() {
		pt.mu.Lock()
		for _, b := range pt.sealed {
			n += b.records
		}
		if pt.open != nil {
			n += pt.open.records
		}
		pt.mu.Unlock()
	}
	return n
}
