// Package consume reads a topic as a member of a consumer group. Whoever uses it keeps the
// offsets: a Handler says where each partition begins, and is lent batch after batch.
//
//	Kafka ─▶ link ─▶ answer ─▶ scan ─▶ │ ─▶ decoder ─▶ Batch ─▶ Handler.Consume
//	         └── reader, 1 a partition ┘   └── 1 a partition, blocks as it likes ──┘
//
// kafka-go's ConsumerGroup is the member: it joins, shares the partitions out and sends
// heartbeats (membership.go). A generation of the group is a session (session.go).
package consume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"drain/cluster"
	"drain/grumble"
)

// Batch is what was read of a partition, in the order of the offsets. It and all its bytes
// are lent to Consume until that returns, and must not be changed.
type Batch struct {
	Partition int
	// Records may be none, where there were only marks of transactions.
	Records []Record
	// Next is the offset where reading goes on: behind the records, and behind what is no
	// record (marks of transactions, what compaction took away).
	Next int64
	// End is the offset behind the partition's last record when this was fetched.
	End int64
}

// Partition is one that was assigned to this member.
type Partition struct {
	ID int
	// TopicID tells a topic from another one that was made with the same name, as Kafka's
	// tools write it. Brokers before 2.8 have none: it is "" then.
	TopicID string
	// Committed is the offset that the group has in Kafka, -1 for none.
	Committed int64
	// First and End are the offsets of the oldest record that is still there, and behind
	// the last one.
	First, End int64
	// Offset is where reading begins. The handler may change it, to any from First to End;
	// one before First means that records were deleted before they were read, which is
	// counted. Before, it is Committed, or First without that, or End where Committed is
	// beyond it.
	Offset int64
}

// Handler takes what a Group reads. Its methods do not run at the same time, but for
// Consume: there is one of each partition at a time.
type Handler interface {
	// Assigned is told which partitions are this member's, at least one, and says where
	// reading begins. After an error it is asked again, later. It is also asked again, for
	// the same partitions and with no Revoked between, after ErrReassign, and when Kafka
	// does not have the offsets any more. ctx ends with the assignment.
	Assigned(ctx context.Context, partitions []Partition) error
	// Consume takes a batch. While it blocks, its partition is not read on, and the group
	// goes on. An error other than ErrReassign is told, and the same batch given again
	// later. ctx ends with the assignment; it must return soon then.
	Consume(ctx context.Context, batch *Batch) error
	// Revoked is called after Assigned, once the assignment has ended and no Consume runs
	// any more: other members get the partitions when it returns. ctx ends when they
	// would be given to others without it.
	Revoked(ctx context.Context)
}

// ErrReassign is what Consume returns to have Assigned asked again: all partitions stop, and
// what was fetched is dropped.
var ErrReassign = errors.New("the assignment is to be asked for again")

// Config says what is read, by whom, and how.
type Config struct {
	// Cluster is how to reach Kafka. Its Topics and Prefix are not looked at.
	Cluster *cluster.Config
	// Topic and Group are whole names, with the prefix.
	Topic, Group string
	Handler      Handler
	Logger       *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	// SessionTimeout is after what silence the group goes on without this member: 10 s
	// unless set. Kafka takes 6 s to 30 min.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long members may take to let go of their partitions: 30 s
	// unless set. This one takes half of it at most.
	RebalanceTimeout time.Duration
	// HeartbeatInterval is how often the group is asked, and so how soon this member knows
	// of a new one: 1 s unless set. It must be well under SessionTimeout.
	HeartbeatInterval time.Duration
	// MaxBytes is the most that is fetched at once of a partition: 1 MiB unless set. A
	// single batch may be larger.
	MaxBytes int
	// Memory bounds in bytes what is held of all partitions: 64 MiB unless set. See Group.
	Memory int64
	// CommitNothing leaves the group's offsets in Kafka as they are.
	CommitNothing bool
	// MaxRecords is the most that the Handler is given at once: 4,096 unless set, and no more.
	MaxRecords int
	// Alone has this member read all partitions, beside the group: it begins where that is, takes nothing away
	// from its members, and commits nothing.
	Alone bool
}

const (
	defaultSession   = 10 * time.Second
	defaultRebalance = 30 * time.Second
	defaultHeartbeat = time.Second
	defaultMaxBytes  = 1 << 20
	defaultMemory    = 64 << 20
)

// Group is a member of a consumer group. Make it with New.
//
// A partition holds two answers of MaxBytes at most, and what is being delivered, all
// partitions together as many as go into Memory. An answer counts with MaxBytes and what it
// may become when it is decoded, whatever it has; single batches that are larger come on
// top. Handlers that block for long hold their share: with the defaults that of 14
// partitions at least, and while all of them block the others wait.
type Group struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	answers  sync.Pool // *answer
	decoders sync.Pool // *decoder
	places   chan struct{}

	lookups  chan struct{} // taken by who looks at or renews layout
	layout   *layout
	unknown  error // why there is no layout
	lookedAt time.Time
	asking   *link // for layouts
	address  int   // of the cluster's, that is asked next

	dealt  atomic.Int64 // partitions that this member shared out as the group's leader, -1 if another did
	member atomic.Pointer[member]

	current atomic.Pointer[map[int]*partition] // that are read, or are to be committed
	again   chan struct{}                      // wants Assigned to be asked again
	state   atomic.Pointer[state]

	outside, assigning, fetching, committing, handling *grumble.Grumble[int] // by partition, or alone
}

// state is why a group does not read, nil err if it does.
type state struct{ err error }

// alone is the key of what is not of one partition.
const alone = -1

func newGrumble(log *slog.Logger, bad, better string) *grumble.Grumble[int] {
	return grumble.New[int](grumble.Config{Logger: log, Bad: bad, Better: better})
}

// newGrumbles is for what may fail for several partitions.
func newGrumbles(log *slog.Logger, bad, better string) *grumble.Grumble[int] {
	return grumble.New[int](grumble.Config{Logger: log, Bad: bad, Better: better, Count: "failing_partitions"})
}

// New makes a Group. It panics where the metrics are registered already, as promauto does.
func New(cfg Config) *Group {
	cfg.SessionTimeout = cmp.Or(cfg.SessionTimeout, defaultSession)
	cfg.RebalanceTimeout = cmp.Or(cfg.RebalanceTimeout, defaultRebalance)
	cfg.HeartbeatInterval = cmp.Or(cfg.HeartbeatInterval, defaultHeartbeat)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	cfg.Memory = cmp.Or(cfg.Memory, defaultMemory)
	cfg.MaxRecords = min(cmp.Or(cfg.MaxRecords, mostRecords), mostRecords)
	cfg.CommitNothing = cfg.CommitNothing || cfg.Alone
	log := cfg.Logger.With("topic", cfg.Topic, "group", cfg.Group)
	g := &Group{
		cfg:        cfg,
		log:        log,
		places:     make(chan struct{}, max(2, cfg.Memory/int64(cfg.MaxBytes+decoded))),
		lookups:    make(chan struct{}, 1),
		again:      make(chan struct{}, 1),
		outside:    newGrumble(log, "cannot take part in the group; tried again", "takes part in the group again"),
		assigning:  newGrumble(log, "reading cannot begin; tried again", "reading begins"),
		fetching:   newGrumbles(log, "a partition cannot be read; tried again", "all partitions are read again"),
		committing: newGrumble(log, "offsets cannot be committed to Kafka; tried again", "offsets are committed again"),
		handling:   newGrumbles(log, "what was read cannot be handled; tried again", "what is read is handled again"),
	}
	g.metrics = newMetrics(cfg.Registerer, g)
	g.answers.New = func() any { return new(answer) }
	g.decoders.New = func() any { return &decoder{most: cfg.MaxRecords} }
	g.dealt.Store(-1)
	g.current.Store(new(map[int]*partition))
	g.state.Store(&state{errStarting})
	return g
}

// decoded is what the decoding of one answer takes, about: records, and what is decompressed.
const decoded = mostRecords*64 + 2*enoughInflated

var errStarting = errors.New("not started yet")

// Ready says why nothing is read, nil while this member takes part in the group and reads its
// partitions, or has none because there are more members than partitions.
func (g *Group) Ready() error {
	if s := g.state.Load(); s.err != nil {
		return s.err
	}
	if partition, age, err := g.fetching.Longest(); err != nil && age > stuckAfter {
		return fmt.Errorf("partition %d cannot be read for %s: %w", partition, age.Round(time.Second), err)
	}
	return nil
}

// stuckAfter is how long a partition may fail before the group is not ready.
const stuckAfter = 5 * time.Second

func (g *Group) become(err error) { g.state.Store(&state{err}) }

// Done notes that the handler has finished all records of a partition before next. The lag is
// counted from there, and it is committed to Kafka about once a second and before the
// partition is given away. A partition that is not assigned now is ignored. It may be
// called by any goroutine.
func (g *Group) Done(partition int, next int64) {
	if p := (*g.current.Load())[partition]; p != nil {
		p.done.Store(next)
	}
}

// Reassign has Assigned asked again, as ErrReassign does.
func (g *Group) Reassign() {
	select {
	case g.again <- struct{}{}:
	default: // it is to be already
	}
}

// Partitions is how many the topic has, as far as this member knows; it is for the Handler's Assigned.
func (g *Group) Partitions(ctx context.Context) (int, error) {
	found, err := g.look(ctx, time.Now().Add(-time.Minute))
	if err != nil {
		return 0, err
	}
	return found.partitions, nil
}

// Find gives, for partitions, the offset of the first record that Kafka has of a time or later, or else
// the one behind the last; it is for the Handler's Assigned.
func (g *Group) Find(ctx context.Context, partitions []int, at time.Time) (map[int]int64, error) {
	found, err := g.look(ctx, time.Now().Add(-time.Minute))
	if err != nil {
		return nil, err
	}
	offsets, err := g.offsets(ctx, found, partitions, max(at.UnixMilli(), 0)) // negative times mean others
	if err != nil {
		return nil, err
	}
	var none []int
	for id, offset := range offsets {
		if offset < 0 {
			none = append(none, id)
		}
	}
	if len(none) == 0 {
		return offsets, nil
	}
	ends, err := g.offsets(ctx, found, none, kafka.LastOffset)
	if err != nil {
		return nil, err
	}
	maps.Copy(offsets, ends)
	return offsets, nil
}

// Peek lets see have some records of a partition from an offset on, as many as one fetch finds; they are lent. It is
// for the Handler's Assigned. Where there are none yet it waits for half a second.
func (g *Group) Peek(ctx context.Context, partition int, offset int64, see func([]Record)) error {
	found, err := g.look(ctx, time.Now().Add(-time.Minute))
	if err != nil {
		return err
	}
	address := found.leaders[partition]
	if address == "" {
		return fmt.Errorf("partition %d: %w", partition, kafka.LeaderNotAvailable)
	}
	l, err := connect(ctx, g.cfg.Cluster, address)
	if err != nil {
		return err
	}
	defer l.close()
	w := want{g.cfg.Topic, found.id, partition, offset, g.cfg.MaxBytes}
	version, size, err := w.ask(l)
	if err != nil {
		return err
	}
	var a answer
	if a.buf, err = l.receive(nil, size, g.cfg.MaxBytes); err == nil {
		err = a.read(version)
	}
	if err != nil {
		return fmt.Errorf("fetch from the broker %s: %w", address, err)
	}
	good, _, _ := scan(a.batches, offset) // what is broken is found again by who reads it
	d := &decoder{most: g.cfg.MaxRecords}
	for d.start(good, offset, a.aborted); ; see(d.records) {
		if more, _ := d.more(); !more {
			return nil
		}
	}
}

// Lag is how far a partition is behind, in records.
type Lag struct {
	Partition int
	// Next is the first offset that is not done, End is behind the last record, as of two
	// seconds ago at most while Kafka answers.
	Next, End int64
	// Lag is how many offsets are between them.
	Lag int64
}

// Lag tells it for each partition that is assigned, in their order.
func (g *Group) Lag() []Lag {
	var all []Lag
	for id, p := range *g.current.Load() {
		next, end := p.done.Load(), p.end.Load()
		all = append(all, Lag{id, next, end, max(0, end-next)})
	}
	slices.SortFunc(all, func(a, b Lag) int { return cmp.Compare(a.Partition, b.Partition) })
	return all
}
