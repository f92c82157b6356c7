package consume

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// partition is one that is read.
type partition struct {
	g     *Group
	s     *session
	id    int
	done  atomic.Int64 // by the handler
	end   atomic.Int64
	heard atomic.Int64 // when of end, in ns since 1970

	// The reader's:
	next    int64 // to be fetched
	began   int64 // where the handler wanted to begin, before what was lost
	link    *link // to the leader, nil for none
	moved   time.Time
	failing bool
	broken  int // how often the batch at next was
	out     chan answered

	batch Batch // deliver's
}

func newPartition(s *session, p *Partition) *partition {
	pt := &partition{g: s.g, s: s, id: p.ID, next: p.Offset, began: p.Offset, out: make(chan answered)}
	pt.hear(p.End)
	if p.Offset < p.First {
		pt.lose(p.First)
	}
	pt.done.Store(pt.next)
	return pt
}

// hear notes where the partition ends now.
func (p *partition) hear(end int64) {
	p.end.Store(end)
	p.heard.Store(time.Now().UnixNano())
}

// lose notes that the records before first were deleted before they were read.
func (p *partition) lose(first int64) {
	p.g.metrics.lost.Add(float64(first - p.next))
	p.g.log.Error("records were deleted before they were read: the topic keeps them for less time than the consumer was behind",
		"partition", p.id, "records", first-p.next, "from", p.next, "to", first)
	p.next = first
}

// answered is what the reader gives on.
type answered struct {
	*answer           // nil where there is only a next
	good       []byte // of answer: batches
	from, next int64
}

// give gives back what an answer took.
func (g *Group) give(a *answer) {
	if a == nil {
		return
	}
	if cap(a.buf) > 2*g.cfg.MaxBytes {
		a.buf = nil // that was a large one
	}
	g.answers.Put(a)
	<-g.places
}

// Kafka's errors that kafka-go has no names for.
const (
	unknownTopicID      = kafka.Error(100)
	inconsistentTopicID = kafka.Error(103)
)

// read fetches until ctx ends. Whatever fails is tried again.
func (p *partition) read(ctx context.Context) {
	defer close(p.out)
	defer p.hangUp()
	if p.next > p.began {
		p.skip(ctx, p.next)
	}
	wait := newBackoff(50*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		worked := p.link != nil
		err := p.fetch(ctx)
		if err != nil {
			err = p.mend(ctx, err)
		}
		switch {
		case ctx.Err() != nil:
		case err == nil:
			wait.Reset()
			if p.failing {
				p.failing = false
				p.g.fetching.Relent(p.id)
			}
		case worked && p.link == nil && !p.failing:
			p.failing = true // connections end: only if the next does too, it is told
		default:
			p.failing = true
			p.g.fetching.Complain(p.id, err, "partition", p.id)
			sleep(ctx, wait.NextBackOff())
		}
	}
}

// mend does what can be done about an error of fetch: nil if that was enough.
func (p *partition) mend(ctx context.Context, err error) error {
	var code kafka.Error
	var bad *batchError
	switch {
	case errors.As(err, &bad):
		return p.leaveOut(ctx, bad)
	case !errors.As(err, &code):
	case code == kafka.OffsetOutOfRange:
		p.g.metrics.failed(whatOffset)
		return p.relocate(ctx, err)
	case code == kafka.UnknownTopicOrPartition, code == unknownTopicID, code == inconsistentTopicID:
		// The topic was deleted, and perhaps made again.
		p.s.again(fmt.Errorf("partition %d: %w", p.id, err))
		<-ctx.Done()
		return nil
	case code == kafka.TopicAuthorizationFailed:
		p.g.metrics.failed(whatFetch)
		return p.g.topicError(code)
	}
	p.g.metrics.failed(whatFetch)
	p.hangUp()
	p.moved = time.Now()
	return err
}

func (p *partition) hangUp() {
	if p.link != nil {
		p.link.close()
		p.link = nil
	}
}

// connect connects to the leader.
func (p *partition) connect(ctx context.Context) error {
	found, err := p.g.look(ctx, p.moved)
	if err != nil {
		return err
	}
	if found.id != p.s.id {
		return fmt.Errorf("another topic has the name: %w", unknownTopicID)
	}
	address := found.leaders[p.id]
	if address == "" {
		return fmt.Errorf("find its leader: %w", kafka.LeaderNotAvailable)
	}
	p.link, err = connect(ctx, p.g.cfg.Cluster, address)
	return err
}

// fetch fetches once, and gives on what came.
func (p *partition) fetch(ctx context.Context) error {
	if p.link == nil {
		if err := p.connect(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	w := want{p.g.cfg.Topic, p.s.id, p.id, p.next, p.g.cfg.MaxBytes}
	version, size, err := w.ask(p.link)
	if err != nil {
		return err
	}
	// Only now, that there is something, it takes memory.
	select {
	case p.g.places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	a := p.g.answers.Get().(*answer)
	if a.buf, err = p.link.receive(a.buf, size, p.g.cfg.MaxBytes); err != nil {
		p.g.give(a)
		return fmt.Errorf("fetch from the broker %s: %w", p.link.address, err)
	}
	if err := a.read(version); err != nil {
		p.g.give(a)
		return fmt.Errorf("fetch from the broker %s: %w", p.link.address, err)
	}
	p.hear(a.end)
	rest := min(a.throttle, mostThrottle)
	if len(a.batches) < fewBytes {
		rest = max(rest, pace-time.Since(began))
	}
	good, next, err := scan(a.batches, p.next)
	switch {
	case next > p.next:
		p.broken = 0
		p.g.metrics.bytes.Add(float64(len(good)))
		given := answered{a, good, p.next, next}
		p.next = next
		p.hand(ctx, given)
	default:
		if err == nil && len(a.batches) > 0 {
			err = &batchError{p.next, p.next + 1, 0, errHead} // nothing whole, or nothing that was asked for
		}
		p.g.give(a)
	}
	if rest > 0 && err == nil {
		sleep(ctx, rest)
	}
	return err
}

const (
	// mostThrottle bounds how long a broker's wish not to be asked is followed.
	mostThrottle = 30 * time.Second
	// pace is how often a partition is fetched from at the most, while it has fewBytes
	// each time: a broker's work is by the request. What comes after a pause comes at once.
	pace     = 5 * time.Millisecond
	fewBytes = 64 << 10
)

// hand gives an answer to deliver, which may be busy for as long as it likes.
func (p *partition) hand(ctx context.Context, a answered) {
	select {
	case p.out <- a:
	case <-ctx.Done():
		p.g.give(a.answer)
	}
}

// skip goes on at next, and tells the handler, who may wait in vain for a record behind it.
func (p *partition) skip(ctx context.Context, next int64) {
	p.next = next
	p.hand(ctx, answered{from: next, next: next})
}

// relocate goes on where Kafka does not have the offset that was asked for.
func (p *partition) relocate(ctx context.Context, cause error) error {
	first, err := p.link.offsets(p.g.cfg.Topic, []int{p.id}, kafka.FirstOffset)
	if err == nil {
		var end map[int]int64
		if end, err = p.link.offsets(p.g.cfg.Topic, []int{p.id}, kafka.LastOffset); err == nil {
			p.hear(end[p.id])
		}
	}
	switch {
	case err != nil:
		p.hangUp()
		p.moved = time.Now()
		return err
	case p.next < first[p.id]:
		p.lose(first[p.id])
		p.skip(ctx, p.next)
		return nil
	case p.next > p.end.Load():
		p.s.again(fmt.Errorf("partition %d ends at %d, and was read to %d: records were taken back, or the topic was made again", p.id, p.end.Load(), p.next))
		<-ctx.Done()
		return nil
	}
	return cause // the leader does not know yet how far it may go
}

// mostBroken is how often a batch is fetched that arrives broken.
const mostBroken = 3

// leaveOut goes on behind a batch that cannot be read, if to fetch it again does not help.
func (p *partition) leaveOut(ctx context.Context, bad *batchError) error {
	if p.broken++; p.broken < mostBroken && (errors.Is(bad, errCRC) || errors.Is(bad, errHead)) {
		p.g.metrics.failed(whatFetch)
		p.hangUp()
		return bad
	}
	p.broken = 0
	p.tellLeftOut(bad)
	p.skip(ctx, max(p.next+1, bad.next))
	return nil
}

func (p *partition) tellLeftOut(bad *batchError) {
	p.g.metrics.failed(whatCorrupt)
	p.g.log.Error("a record batch cannot be read and is left out", "partition", p.id, "error", bad, "records", bad.records, "next", bad.next)
}

// deliver gives the handler what the reader found, until ctx ends.
func (p *partition) deliver(ctx context.Context) {
	for a := range p.out {
		ok := p.decode(ctx, &a)
		p.g.give(a.answer)
		if !ok {
			return
		}
	}
}

// decode delivers an answer's records; false if no more are wanted.
func (p *partition) decode(ctx context.Context, a *answered) bool {
	next := a.from
	if a.answer != nil {
		d := p.g.decoders.Get().(*decoder)
		defer func() {
			if cap(d.inflated) > 8*enoughInflated {
				d.inflated = nil // that was a large one
			}
			p.g.decoders.Put(d)
		}()
		d.start(a.good, a.from, a.aborted)
		for {
			more, err := d.more()
			var bad *batchError
			if errors.As(err, &bad) {
				p.tellLeftOut(bad)
			}
			if !more {
				break
			}
			if d.next > next && !p.consume(ctx, d.records, d.next) {
				return false
			}
			next = d.next
		}
	}
	return a.answer != nil && a.next == next || p.consume(ctx, nil, a.next)
}

// consume gives the handler records until it takes them; false if no more are wanted.
func (p *partition) consume(ctx context.Context, records []Record, next int64) bool {
	wait := newBackoff(100*time.Millisecond, 5*time.Second)
	defer func() { p.batch = Batch{} }() // it would keep the answer
	for failed := false; ctx.Err() == nil; failed = true {
		p.batch = Batch{p.id, records, next, p.end.Load()}
		err := p.g.cfg.Handler.Consume(ctx, &p.batch)
		switch {
		case err == nil:
			p.g.metrics.records.Add(float64(len(records)))
			if failed {
				p.g.handling.Relent(p.id)
			}
			return true
		case ctx.Err() != nil:
			continue
		case errors.Is(err, ErrReassign):
			p.s.again(err)
			return false
		}
		p.g.metrics.failed(whatHandler)
		p.g.handling.Complain(p.id, err, "partition", p.id)
		sleep(ctx, wait.NextBackOff())
	}
	return false
}
