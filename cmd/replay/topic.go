package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"drain/consume"
	"drain/replay"
	"drain/router"
	"drain/settings"
)

// source gives the requests of a recording, in the order of recorded time.
type source interface {
	// run reads until ctx ends.
	run(ctx context.Context) error
	// take asks whether a request may be sent still; the source then waits for sent.
	take(*replay.Request) bool
	// sent tells that it was, and answered or not.
	sent(*replay.Request)
	// again begins once more where it began.
	again()
	// progress is how many records there are to read, 0 where there is no end, and how many were.
	progress() (all, read int64)
	// ready is nil while the source can be read, or says why not.
	ready() error
}

// topic reads a topic as a member of a group. It is the group's handler, too.
type topic struct {
	cfg     *config
	log     *slog.Logger
	merge   *replay.Merge
	watch   *watch
	commits bool
	group   *consume.Group

	mu      sync.Mutex // guards the following
	parts   map[int]*part
	epoch   int
	begun   map[int]int64 // where this process began, by partition
	rewind  bool
	revoked bool
	flying  int        // requests that were taken, of this epoch
	landed  *sync.Cond // flying became 0
}

// part is a partition while it is assigned.
type part struct {
	reader      *replay.Reader // Consume's
	offsets     *replay.Offsets
	begin, stop int64 // stop is -1 where there is no end
	next        int64
	finished    bool
}

// noEnd is the stop of a partition that is followed.
const noEnd = -1

// justNow is how old a record may be in Kafka for a replay that is late to be so because of the record.
const justNow = 10 * time.Second

// late is how long after a line was written its record may come to Kafka: senders try for some time.
const late = time.Minute

func (t *topic) run(ctx context.Context) error { return t.group.Run(ctx) }
func (t *topic) ready() error                  { return t.group.Ready() }

// Assigned says where each partition begins and ends.
func (t *topic) Assigned(ctx context.Context, partitions []consume.Partition) error {
	starts, err := t.starts(ctx, partitions)
	if err != nil {
		return err
	}
	for i := range partitions {
		p := &partitions[i]
		if start, ok := starts[p.ID]; ok {
			p.Offset = min(max(start, p.First), p.End)
		}
	}
	if err := t.glance(ctx, partitions); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.flying, t.revoked = 0, false
	t.parts = make(map[int]*part)
	lanes := make([]replay.Lane, 0, len(partitions))
	for i := range partitions {
		p := &partitions[i]
		if _, known := t.begun[p.ID]; !known {
			t.begun[p.ID] = p.Offset
		}
		own := &part{reader: replay.NewReader(&t.cfg.choice), offsets: replay.NewOffsets(p.Offset), begin: p.Offset, next: p.Offset, stop: p.End}
		if t.cfg.follow {
			own.stop = noEnd
		}
		own.finished = own.stop != noEnd && p.Offset >= own.stop
		t.parts[p.ID] = own
		lanes = append(lanes, replay.Lane{Partition: p.ID, AtEnd: p.Offset >= p.End, Finished: own.finished})
	}
	t.rewind = false
	t.merge.Begin(lanes)
	return nil
}

// glance looks at some records of each partition, from the first one that will be sent to the newest, for the
// target's host: all are looked at when they are read, but by then some may have been sent.
func (t *topic) glance(ctx context.Context, partitions []consume.Partition) error {
	if t.watch.host == "" {
		return nil
	}
	const (
		glances = 5
		apart   = 1000 // records
		newest  = 50
	)
	reader := replay.NewReader(&replay.Choice{})
	for _, p := range partitions {
		last := max(p.Offset, p.End-newest)
		step := max(apart, (last-p.Offset)/(glances-1))
		for offset := last; offset >= p.Offset && offset < p.End; offset -= step {
			stopped := false
			err := t.group.Peek(ctx, p.ID, offset, func(records []consume.Record) {
				for i := range records {
					r, seen := reader.Read(records[i].Value, router.NoTime)
					if r != nil {
						r.Release()
					}
					stopped = stopped || !t.watch.allows(seen.Host)
				}
			})
			switch {
			case err != nil:
				return fmt.Errorf("look for the target's host in partition %d: %w", p.ID, err)
			case stopped:
				return errStopped
			}
		}
	}
	return nil
}

// starts are the offsets to begin with, of those partitions that do not go on where the group is.
func (t *topic) starts(ctx context.Context, partitions []consume.Partition) (map[int]int64, error) {
	t.mu.Lock()
	rewind, first, begun := t.rewind, t.epoch == 0, t.begun
	t.mu.Unlock()
	switch {
	case rewind:
		return begun, nil
	case !first || t.cfg.from == nil:
		return nil, nil
	}
	all, err := t.group.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	if len(partitions) < all {
		t.log.Warn("others of the group are at work already: goes on where the group is, and not --from", "partitions", len(partitions), "of", all)
		return nil, nil
	}
	return t.seek(ctx, partitions, *t.cfg.from)
}

// seek finds a position in all partitions.
func (t *topic) seek(ctx context.Context, partitions []consume.Partition, from settings.Position) (map[int]int64, error) {
	starts, ids := make(map[int]int64, len(partitions)), make([]int, 0, len(partitions))
	var oldest, newest int64
	for _, p := range partitions {
		starts[p.ID] = p.End
		ids = append(ids, p.ID)
		oldest += p.First
		newest += p.End
	}
	switch {
	case from.Beginning || from.Newest > 0 && newest-oldest <= int64(from.Newest):
		for _, p := range partitions {
			starts[p.ID] = p.First
		}
	case from.Newest > 0:
		return t.newest(ctx, ids, newest, int64(from.Newest))
	case !from.At.IsZero():
		// A record comes after its time, if the clocks agree to a minute.
		return t.group.Find(ctx, ids, from.At.Add(-late))
	}
	return starts, nil
}

// newest finds the offsets of the newest n records of all partitions: by Kafka's time, which is searched for. There are more than n
// behind its beginning, 0.
func (t *topic) newest(ctx context.Context, ids []int, end, n int64) (map[int]int64, error) {
	// From low on there are n at least, from high on fewer.
	low, high := int64(0), time.Now().Add(24*time.Hour).UnixMilli()
	var starts, later map[int]int64
	for starts == nil || later == nil || high-low > 1 {
		middle := low + (high-low)/2
		switch {
		case high-low > 1:
		case starts == nil:
			middle = low
		default:
			middle = high
		}
		found, err := t.group.Find(ctx, ids, time.UnixMilli(middle))
		if err != nil {
			return nil, fmt.Errorf("look for the newest %d records: %w", n, err)
		}
		after := end
		for _, offset := range found {
			after -= offset
		}
		if middle == low || middle != high && after >= n {
			low, starts = middle, found
		} else {
			high, later = middle, found
		}
	}
	// Of those that came in the same millisecond some are too many.
	more := end - n
	for _, id := range ids {
		more -= starts[id]
	}
	for _, id := range ids {
		skip := min(more, later[id]-starts[id])
		starts[id] += skip
		more -= skip
	}
	return starts, nil
}

// Consume reads a batch's records for the merge, and waits while that is full.
func (t *topic) Consume(ctx context.Context, b *consume.Batch) error {
	t.mu.Lock()
	p, epoch := t.parts[b.Partition], t.epoch
	t.mu.Unlock()
	if p.finished {
		<-ctx.Done() // nothing more is wanted
		return ctx.Err()
	}
	read, next, live := replay.Read{Newest: router.NoTime}, b.Next, time.Now().Add(-justNow).UnixMilli()
	var counts replay.Counts
	for i := range b.Records {
		record := &b.Records[i]
		if p.stop != noEnd && record.Offset >= p.stop {
			next = record.Offset
			break
		}
		if until := t.cfg.choice.Until; !until.IsZero() && record.Time > until.Add(late).UnixMilli() {
			next, read.Finished = record.Offset, true
			break
		}
		r, seen := p.reader.Read(record.Value, record.Time*1000)
		if !t.watch.allows(seen.Host) {
			return errStopped
		}
		counts.Add(seen)
		read.Newest = max(read.Newest, seen.Time)
		if r != nil {
			r.Partition, r.Offset, r.Epoch = b.Partition, record.Offset, epoch
			r.Live = record.Time >= live
			read.Requests = append(read.Requests, r)
		}
	}
	read.AtEnd = b.Next >= b.End
	read.Finished = read.Finished || p.stop != noEnd && next >= p.stop
	t.mu.Lock()
	for _, r := range read.Requests {
		p.offsets.Open(r.Offset)
	}
	p.offsets.Read(next)
	p.next, p.finished = next, read.Finished
	done := p.offsets.Next()
	t.mu.Unlock()
	if err := t.merge.Add(ctx, b.Partition, read); err != nil {
		return err
	}
	t.watch.saw(&counts)
	t.done(b.Partition, done)
	return nil
}

// done tells the group what of a partition is done with.
func (t *topic) done(partition int, next int64) {
	if t.commits {
		t.group.Done(partition, next)
	}
}

// Revoked gives the partitions up: what is held of them is dropped, what was sent is waited for.
func (t *topic) Revoked(ctx context.Context) {
	t.merge.Begin(nil)
	defer context.AfterFunc(ctx, t.landed.Broadcast)()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.revoked = true; t.flying > 0 && ctx.Err() == nil; {
		t.landed.Wait()
	}
	t.parts = nil
}

func (t *topic) take(r *replay.Request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Epoch != t.epoch || t.revoked {
		return false // whoever gets the partition sends it
	}
	t.flying++
	return true
}

func (t *topic) sent(r *replay.Request) {
	t.mu.Lock()
	p := t.parts[r.Partition]
	if r.Epoch != t.epoch || p == nil {
		t.mu.Unlock()
		return
	}
	p.offsets.Done(r.Offset)
	next := p.offsets.Next()
	if t.flying--; t.flying == 0 {
		t.landed.Broadcast()
	}
	t.mu.Unlock()
	t.done(r.Partition, next)
}

func (t *topic) again() {
	t.mu.Lock()
	t.rewind = true
	t.mu.Unlock()
	t.group.Reassign()
}

func (t *topic) progress() (all, read int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		if p.stop == noEnd {
			return 0, 0
		}
		all += p.stop - p.begin
		read += min(p.offsets.Next(), p.stop) - p.begin
	}
	return all, read
}

func newTopic(cfg *config, log *slog.Logger, merge *replay.Merge, watch *watch) *topic {
	t := &topic{cfg: cfg, log: log, merge: merge, watch: watch, commits: cfg.sends() && !cfg.loop, begun: make(map[int]int64)}
	t.landed = sync.NewCond(&t.mu)
	return t
}
