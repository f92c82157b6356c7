package publish

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// partition gathers records into batches and sends them, one produce request
// after another.
//
//	requests ──add──▶ open ──seal──▶ sealed ──take──▶ sender ──▶ Kafka
//	          (lock)   1 batch        a queue          1 goroutine, 1 request
//
// A batch is sent at once when nothing is under way. While something is, records
// gather until the batch is full or its turn has come. So batches grow with the
// load and with the time that Kafka takes, by themselves. To seal one earlier, when
// it has waited for BATCH_DELAY, could not send it any sooner: it would only make
// the records that come next wait for one request more.
type partition struct {
	topic  *topic
	id     int
	p      *Publisher
	leader atomic.Int32  // the broker that has it, as far as is known
	wake   chan struct{} // one token when there may be something to send
	full   chan struct{} // one token when there may be something to compress ahead

	mu     sync.Mutex    // guards the following
	open   *batch        // takes records; nil when there are none
	sealed []*batch      // full ones, oldest first
	busy   bool          // the sender has a batch
	gone   bool          // the topic has it no longer
	stored time.Time     // when the last batch was committed …
	took   time.Duration // … and how long its request took
	taken  time.Time     // when the batch that the sender has was opened

	// The rest is the sender's own.
	producer *producer     // nil until there is one
	lost     *producer     // the one before, which no longer works
	sequence int32         // of the next record under producer
	timeout  time.Duration // for one attempt
	answered time.Time     // when its leader last was heard
	slow     bool          // the last request took long …
	silent   bool          // … and was not even answered
	failing  bool          // complained about
	limits   limits        // of its steps
	retired  chan struct{} // closed with gone
	call     *call         // nil while kafka-go may hold the last one
}

func newPartition(t *topic, id int, p *Publisher) *partition {
	pt := &partition{topic: t, id: id, p: p, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), timeout: minAttempt, limits: limits{parent: p.running}, retired: make(chan struct{})}
	pt.leader.Store(noLeader)
	return pt
}

// noLeader is in the place of a broker's id where there is none, or it is not known.
const noLeader = -1

// add puts records in batches, those that next links from first on, or all of
// them without next. It never waits.
func (pt *partition) add(r *Receipt, records []Record, first int32, next []int32) (p Progress) {
	now := time.Now()
	maxRecords, maxBytes := pt.p.cfg.BatchRecords, min(pt.p.cfg.BatchBytes, int(pt.topic.limit.Load()))
	pt.mu.Lock()
	if pt.gone {
		pt.mu.Unlock()
		return pt.heir().add(r, records, first, next)
	}
	run := 0 // records of r in the open batch that are not claimed yet
	for i := first; i >= 0 && int(i) < len(records); {
		rec := &records[i]
		if pt.open != nil && (pt.open.records == maxRecords || len(pt.open.buf)+rec.Size() > maxBytes) {
			reason := byBytes
			if pt.open.records == maxRecords {
				reason = byCount
			}
			if run > 0 {
				pt.open.claimFor(r, run)
				run = 0
			}
			pt.seal(reason)
		}
		if pt.open == nil {
			pt.open = newBatch(now)
		}
		pt.open.add(rec)
		run++
		if next == nil {
			i++
		} else {
			i = next[i]
		}
	}
	pt.open.claimFor(r, run)
	idle := !pt.busy
	p.Oldest, _ = pt.first()
	p.Stored, p.Took = pt.stored, pt.took
	pt.mu.Unlock()
	if idle {
		pt.signal()
	}
	return p
}

// seal moves the open batch to the sealed ones. mu is held.
func (pt *partition) seal(reason sealReason) {
	pt.open.sealedBy = reason
	pt.sealed = append(pt.sealed, pt.open)
	pt.open = nil
	if pt.p.codec != nil {
		signal(pt.full)
	}
}

func (pt *partition) signal() { signal(pt.wake) }

// signal puts a token in c, unless there is one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take hands the next batch to the sender, nil if there is none.
func (pt *partition) take() *batch {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	var b *batch
	switch {
	case len(pt.sealed) > 0:
		b, pt.sealed[0] = pt.sealed[0], nil
		if pt.sealed = pt.sealed[1:]; len(pt.sealed) == 0 {
			pt.sealed = nil
		} else if pt.p.codec != nil {
			signal(pt.full)
		}
	case pt.open != nil:
		b, pt.open = pt.open, nil
		switch {
		case pt.p.stopping.Load():
			b.sealedBy = byStop
		case pt.busy && time.Since(b.opened) >= pt.p.cfg.BatchDelay:
			b.sealedBy = byDelay
		default:
			b.sealedBy = byIdle
		}
	default:
		pt.busy = false
		return nil
	}
	pt.busy, pt.taken = true, b.opened
	return b
}

// putBack makes b the next batch again.
func (pt *partition) putBack(b *batch) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	pt.sealed = append([]*batch{b}, pt.sealed...)
}

// oldest is when the first record that is not committed came.
func (pt *partition) oldest() (t time.Time, ok bool) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return pt.first()
}

// first is oldest with mu held.
func (pt *partition) first() (t time.Time, ok bool) {
	switch {
	case pt.busy:
		return pt.taken, true
	case len(pt.sealed) > 0:
		return pt.sealed[0].opened, true
	case pt.open != nil:
		return pt.open.opened, true
	}
	return t, false
}

// send is the partition's goroutine: it sends batch after batch until ctx ends.
func (pt *partition) send(ctx context.Context) {
	defer pt.limits.close()
	for {
		pt.p.throttle.wait(ctx, pt) // before the batch is taken: it can grow
		if pt.leave() {
			return
		}
		b := pt.take()
		if b == nil {
			select {
			case <-pt.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !pt.deliver(ctx, b) {
			pt.mu.Lock()
			pt.busy = false
			pt.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// One attempt is given minAttempt, so that three of them fit into a request's
// hold, and longer for a Kafka that was seen to take longer: a fixed limit would
// cut off a slow broker's every answer for ever. The wait for a client comes before
// it, and is longer than any client is lent: who gives up loses its place.
const (
	minAttempt   = 1200 * time.Millisecond
	maxAttempt   = 10 * time.Second
	maxWait      = 2 * maxAttempt // for the client and the attempt
	slowAttempt  = 250 * time.Millisecond
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// retire says that the topic has no such partition any more.
func (pt *partition) retire() {
	pt.mu.Lock()
	pt.gone = true
	pt.mu.Unlock()
	close(pt.retired)
	pt.signal()
}

func (pt *partition) isGone() bool {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return pt.gone
}

// heir is the partition that takes what belonged to one that is gone.
func (pt *partition) heir() *partition {
	all := pt.topic.all()
	return all[pt.id%len(all)]
}

// complain tells that a batch could not be stored.
func (pt *partition) complain(err error) {
	pt.failing = true
	args := []any{"topic", pt.topic.name, "partition", pt.id}
	if do := advice(err, pt.topic.name, pt.p.cfg.Prefix); do != "" {
		args = append(args, "do", do)
	}
	pt.p.grumble.Complain(pt, err, args...)
}

// relent tells that a batch was stored.
func (pt *partition) relent() {
	if pt.failing {
		pt.failing = false
		pt.p.grumble.Relent(pt)
	}
}

// leave ends a partition that is gone: its batches go to another one.
func (pt *partition) leave() bool {
	if !pt.isGone() {
		return false
	}
	pt.relent()
	pt.mu.Lock()
	if pt.open != nil {
		pt.seal(byDelay)
	}
	left := pt.sealed
	pt.sealed = nil
	pt.mu.Unlock()
	heir := pt.heir()
	heir.mu.Lock()
	for heir.gone { // meanwhile
		heir.mu.Unlock()
		heir = heir.heir()
		heir.mu.Lock()
	}
	heir.sealed = append(heir.sealed, left...)
	heir.mu.Unlock()
	heir.signal()
	signal(heir.full)
	return true
}

// deliver sends b until it is stored, or false when ctx ends first or the
// partition is gone; b is then back in its place.
func (pt *partition) deliver(ctx context.Context, b *batch) bool {
	var wait *backoff.ExponentialBackOff
	for {
		var took time.Duration
		err := pt.prepare(ctx, b)
		if err == nil {
			took, err = pt.attempt(ctx, b)
		}
		v, reason := judge(err)
		switch {
		case v == committed:
			pt.sequence = (pt.sequence + int32(b.records)) & 0x7fffffff
			pt.mu.Lock()
			pt.stored, pt.took = time.Now(), took
			pt.mu.Unlock()
			pt.p.commit(pt, b, took)
			return true
		case ctx.Err() != nil, pt.isGone():
			pt.putBack(b)
			return false
		case v == split && b.records > 1:
			pt.topic.tooLarge(len(b.buf), pt.p.cfg.Logger)
			first, second := b.split()
			pt.p.metrics.retries[reason].Inc()
			pt.putBack(second)
			b = first
			continue
		case v == split:
			pt.topic.tooLarge(len(b.buf), pt.p.cfg.Logger)
			pt.p.refuse(pt, b, err)
			return true
		case v == renew:
			pt.producer, pt.lost = nil, pt.producer
		}
		pt.p.metrics.retries[reason].Inc()
		pt.complain(err)
		if wait == nil {
			wait = backoff.NewExponentialBackOff()
			wait.InitialInterval, wait.Multiplier, wait.MaxInterval = firstBackoff, 2, maxBackoff
			wait.RandomizationFactor = 0.3
		}
		back := *pt.p.back.Load()
		select {
		case <-time.After(wait.NextBackOff()):
		case <-back:
		case <-pt.retired:
		case <-ctx.Done():
			pt.putBack(b)
			return false
		}
	}
}

// learn takes from an attempt how to make the next one.
func (pt *partition) learn(v verdict, reason string, took time.Duration) {
	pt.slow, pt.silent = took > slowAttempt, reason == "timeout"
	switch {
	case v == committed:
		pt.timeout = min(max(minAttempt, 2*took), maxAttempt)
	case pt.silent:
		pt.timeout = min(2*pt.timeout, maxAttempt)
	}
}

// prepare gives b a producer and its sequence.
func (pt *partition) prepare(ctx context.Context, b *batch) error {
	if pt.producer == nil {
		id, err := pt.p.producers.after(ctx, pt.lost)
		if err != nil {
			return err
		}
		pt.producer, pt.lost, pt.sequence = id, nil, 0
	}
	b.packing.Wait()
	pt.p.codec.pack(b)
	b.seal(*pt.producer, pt.sequence)
	return nil
}
