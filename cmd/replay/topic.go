package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
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
	// take asks whether a request may be sent still; the source then waits for sent or dropped.
	take(*replay.Request) bool
	// keep asks whether one that was taken, and has waited since, may still be sent.
	keep(*replay.Request) bool
	// sent tells that it was, and answered or not.
	sent(*replay.Request)
	// dropped tells that it was not.
	dropped(*replay.Request)
	// again begins once more where it began.
	again()
	// shared tells that others may have a part of it.
	shared() bool
	// progress is how many records there are to read, 0 where there is no end, and how many were.
	progress() (all, read int64)
	// note is what else the report is to say, "" for nothing.
	note() string
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
	asking  atomic.Bool // where to begin

	mu      sync.Mutex // guards the following
	parts   map[int]*part
	epoch   int
	places  map[int]*place
	rewind  bool // the partitions that it has are to begin where this process began with them
	revoked bool
	lost    bool // revoked, and what was under way is given up: others may have its partitions
	all     int  // partitions of the topic
	noted   string
	flying  int        // requests that were taken, of this epoch
	landed  *sync.Cond // flying became 0
}

// part is a partition while it is assigned.
type part struct {
	reader      *replay.Reader // Consume's
	offsets     *replay.Offsets
	begin, stop int64 // stop is -1 where there is no end
	finished    bool
}

// place is what this process knows of a partition, also when it is taken away.
type place struct {
	topic       string // its id: one that was made again has other records
	begin, stop int64  // where it began, and where it is to end
	next        int64  // where it goes on, if the group does not know
	left        int64  // the first record that --until left for the next replay, none if there is none
	counted     int64  // up to where it has counted what it read
}

const (
	noEnd = -1 // the stop of a partition that is followed
	none  = -1
)

// justNow is how old a record may be in Kafka for a replay that is late to be so because of the record.
const justNow = 10 * time.Second

// late is for how long what was recorded before --until is waited for, and how far Kafka's clock may be behind: senders try for some time.
const late = time.Minute

func (t *topic) run(ctx context.Context) error { return t.group.Run(ctx) }

// ready says nothing while it asks where to begin: many questions take their time where Kafka is far away.
func (t *topic) ready() error {
	if t.asking.Load() {
		return nil
	}
	return t.group.Ready()
}

// Assigned says where each partition begins and ends.
func (t *topic) Assigned(ctx context.Context, partitions []consume.Partition) error {
	t.letGo(ctx)
	t.asking.Store(true)
	defer t.asking.Store(false)
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
	limitMemory(len(partitions))
	all := len(partitions)
	if t.cfg.loop { // nobody else asks whether they are shared
		n, err := t.group.Partitions(ctx)
		if err != nil {
			return err
		}
		all = n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.all = all
	t.flying, t.revoked, t.lost = 0, false, false
	t.parts = make(map[int]*part)
	lanes := make([]replay.Lane, 0, len(partitions))
	for i := range partitions {
		p := &partitions[i]
		at := t.places[p.ID]
		if at == nil {
			at = &place{topic: p.TopicID, begin: p.Offset, stop: p.End, left: none}
			if t.cfg.follow {
				at.stop = noEnd
			}
			t.places[p.ID] = at
		}
		// A topic that was made again may never reach where its predecessor ended.
		own := &part{reader: replay.NewReader(&t.cfg.choice), offsets: replay.NewOffsets(p.Offset), begin: p.Offset, stop: min(at.stop, p.End)}
		own.finished = own.stop != noEnd && p.Offset >= own.stop
		t.parts[p.ID] = own
		lanes = append(lanes, replay.Lane{Partition: p.ID, AtEnd: p.Offset >= p.End, Finished: own.finished})
	}
	t.merge.Begin(lanes)
	return nil
}

// glance looks at some records of each partition, from the first one that will be sent to the newest, for the
// target's host: all are looked at when they are read, but by then some may have been sent.
func (t *topic) glance(ctx context.Context, partitions []consume.Partition) error {
	if len(t.watch.hosts) == 0 {
		return nil
	}
	const (
		glances = 5
		apart   = 1000 // records
		newest  = 50
	)
	reader := replay.NewReader(&replay.Choice{})
	for _, p := range partitions {
		first := max(p.Offset, p.First) // what the group has not read may be deleted
		last := max(first, p.End-newest)
		step := max(apart, (last-first)/(glances-1))
		for offset := last; offset >= first && offset < p.End; offset -= step {
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
				<-ctx.Done()
				return ctx.Err()
			}
		}
	}
	return nil
}

// starts are the offsets to begin with, of those partitions that do not go on where the group is.
func (t *topic) starts(ctx context.Context, partitions []consume.Partition) (map[int]int64, error) {
	starts := make(map[int]int64)
	var others []consume.Partition // that this process did not have yet
	t.mu.Lock()
	for i := range partitions {
		p := &partitions[i]
		if at := t.places[p.ID]; at != nil && at.topic != p.TopicID {
			delete(t.places, p.ID)
			starts[p.ID] = p.First
			continue
		}
		switch at := t.places[p.ID]; {
		case at == nil:
			others = append(others, *p)
		case !t.commits:
			starts[p.ID] = at.next
		default:
			starts[p.ID] = max(at.next, p.Offset) // another member was further, or a commit failed
		}
	}
	first := t.epoch == 0
	t.mu.Unlock()
	if t.cfg.from == nil || len(others) == 0 || t.commits && !first {
		return starts, nil
	}
	if t.commits {
		all, err := t.group.Partitions(ctx)
		if err != nil {
			return nil, err
		}
		if len(partitions) < all {
			t.log.Warn("others of the group are at work already: goes on where the group is, and not --from", "partitions", len(partitions), "of", all)
			t.mu.Lock()
			t.noted = fmt.Sprintf("others of the group were at work: this is of %d of %d partitions at first, from where the group was and not --from", len(partitions), all)
			t.mu.Unlock()
			return starts, nil
		}
	}
	sought, err := t.seek(ctx, others, *t.cfg.from)
	maps.Copy(starts, sought)
	return starts, err
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
	low, high := int64(0), int64(1)<<60
	middle := time.Now().Add(24 * time.Hour).UnixMilli() // hardly any is later
	var starts, later map[int]int64
	for starts == nil || later == nil || high-low > 1 {
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
		middle = low + (high-low)/2
		switch {
		case high-low > 1:
		case starts == nil:
			middle = low
		default:
			middle = high
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
	p, at, epoch := t.parts[b.Partition], t.places[b.Partition], t.epoch
	counted, left := at.counted, at.left
	t.mu.Unlock()
	if p.finished {
		<-ctx.Done() // nothing more is wanted
		return ctx.Err()
	}
	read, next, live := replay.Read{Newest: router.NoTime}, b.Next, time.Now().Add(-justNow).UnixMilli()
	var counts replay.Counts
	var open []int64
	until, arrival := t.cfg.choice.Until, t.cfg.arrival()
	for i := range b.Records {
		record := &b.Records[i]
		if p.stop != noEnd && record.Offset >= p.stop {
			next = record.Offset
			break
		}
		if !arrival.IsZero() && record.Time > arrival.UnixMilli() {
			next, read.Finished = record.Offset, true
			break
		}
		arrived := int64(router.NoTime)
		if record.Time >= 0 {
			arrived = record.Time * 1000
		}
		r, seen := p.reader.Read(record.Value, arrived)
		if !t.watch.allows(seen.Host) {
			<-ctx.Done()
			return ctx.Err()
		}
		if record.Offset >= counted {
			counts.Add(seen)
		}
		read.Newest = max(read.Newest, seen.Time)
		switch {
		case r != nil:
			r.Partition, r.Offset, r.Epoch = b.Partition, record.Offset, epoch
			r.Live = record.Time >= live
			read.Requests = append(read.Requests, r)
			open = append(open, r.Offset)
		case left == none && !until.IsZero() && seen.Time >= until.UnixMicro():
			left = record.Offset // who goes on behind until must find it
		}
	}
	read.Taken = func() { t.watch.saw(&counts) } // and not after the report, if it is the last
	read.AtEnd = b.Next >= b.End
	read.Finished = read.Finished || p.stop != noEnd && next >= p.stop
	t.mu.Lock()
	for _, offset := range open {
		p.offsets.Open(offset)
	}
	p.offsets.Read(next)
	at.left = left
	p.finished = read.Finished
	t.mu.Unlock()
	if err := t.merge.Add(ctx, b.Partition, read); err != nil {
		return err
	}
	t.mu.Lock()
	at.counted = max(counted, next)
	t.done(b.Partition, p)
	t.mu.Unlock()
	return nil
}

// done tells the group what of a partition is done with. It needs t.mu: what is told must not be less than before.
func (t *topic) done(id int, p *part) {
	if t.commits {
		next := p.offsets.Next()
		if at := t.places[id]; at != nil && at.left != none {
			next = min(next, at.left)
		}
		t.group.Done(id, next)
	}
}

// Revoked gives the partitions up.
func (t *topic) Revoked(ctx context.Context) { t.letGo(ctx) }

// letGo drops what is held of the partitions, and waits for what was sent; where all begins anew it is not waited for.
func (t *topic) letGo(ctx context.Context) {
	t.merge.Begin(nil)
	defer context.AfterFunc(ctx, func() {
		t.mu.Lock() // or the one below could look before and wait after
		defer t.mu.Unlock()
		t.landed.Broadcast()
	})()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.revoked = true; t.flying > 0 && !t.rewind && ctx.Err() == nil; {
		t.landed.Wait()
	}
	for id, p := range t.parts {
		at := t.places[id]
		if at == nil {
			continue // it is of a topic that is gone
		}
		if at.next = p.offsets.Next(); t.rewind {
			at.next, at.left, at.counted = at.begin, none, 0
		}
	}
	if t.flying == 0 || t.rewind {
		t.parts = nil // else what lands counts still
	}
	t.lost, t.rewind = t.flying > 0 && !t.rewind, false
}

func (t *topic) keep(r *replay.Request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.lost || r.Epoch != t.epoch
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

func (t *topic) sent(r *replay.Request)    { t.land(r, true) }
func (t *topic) dropped(r *replay.Request) { t.land(r, false) }

// land notes what became of a request that was taken.
func (t *topic) land(r *replay.Request, sent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Epoch != t.epoch {
		return
	}
	if p := t.parts[r.Partition]; sent && p != nil {
		p.offsets.Done(r.Offset)
		t.done(r.Partition, p)
	}
	if t.flying--; t.flying == 0 {
		t.landed.Broadcast()
	}
}

func (t *topic) again() {
	t.mu.Lock()
	t.rewind = true
	t.mu.Unlock()
	t.group.Reassign()
}

func (t *topic) shared() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.parts == nil || len(t.parts) < t.all
}

func (t *topic) note() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.noted
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
	t := &topic{cfg: cfg, log: log, merge: merge, watch: watch, commits: cfg.sends() && !cfg.loop, places: make(map[int]*place)}
	t.landed = sync.NewCond(&t.mu)
	return t
}
