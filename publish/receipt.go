package publish

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Receipt follows the records of one frame until all batches that hold some of
// them are settled. Requests wait on it: the one that published the frame, and
// those that bring it again meanwhile.
//
// It is held by each of them until Wait or Forget, and by its batches until they
// are settled; then it is used again.
type Receipt struct {
	owner Owner

	mu        sync.Mutex // guards the following
	waiters   *waiter    // the last one that came
	left      int32      // batches not settled yet, and one until Publish has returned
	holders   int32
	committed int32 // records
	settled   bool  // nothing is left
	failed    bool  // a record was given up
	late      bool  // a request was answered before, without the commit
}

// Owner is the frame itself, as whoever publishes it knows it.
type Owner interface {
	// Account is what the bytes of the frame's records were acquired for.
	Account() *Account
	// Settled is called once, when all records are committed or given up
	// (failed), before any request that waits is told.
	Settled(failed bool)
}

// waiter is what one request waits with.
type waiter struct {
	told  chan struct{} // holds one token
	timer *time.Timer
	next  *waiter // the one that came before it
}

var (
	receipts = sync.Pool{New: func() any { return new(Receipt) }}
	waiters  = sync.Pool{New: func() any {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return &waiter{told: make(chan struct{}, 1), timer: timer}
	}}
)

// NewReceipt makes a Receipt for a frame. Publish must follow, and Wait or Forget.
func NewReceipt(owner Owner) *Receipt {
	r := receipts.Get().(*Receipt)
	r.owner = owner
	r.left, r.holders = 1, 2
	return r
}

// Join makes one more request hold r; Wait or Forget must follow. The caller knows
// that r is not settled, or holds it.
func (r *Receipt) Join() {
	r.mu.Lock()
	r.holders++
	r.mu.Unlock()
}

// finish takes one batch off r, in which it had so many records. It tells how many
// records of r were committed although a request was answered without them: all,
// once the last batch is settled.
func (r *Receipt) finish(records int32, failed bool) (recovered int32) {
	r.mu.Lock()
	if failed {
		r.failed = true
	} else {
		r.committed += records
	}
	r.left--
	last, failed := r.left == 0, r.failed
	r.mu.Unlock()
	if !last {
		return 0
	}
	r.owner.Settled(failed)
	r.mu.Lock()
	r.settled = true
	for w := r.waiters; w != nil; w = w.next {
		w.told <- struct{}{}
	}
	if r.late {
		recovered = r.committed
	}
	r.release()
	return recovered
}

// batch makes r wait for one more batch.
func (r *Receipt) batch() {
	r.mu.Lock()
	r.left++
	r.mu.Unlock()
}

// release ends a holder's hold, and mu's.
func (r *Receipt) release() {
	r.holders--
	unused := r.holders == 0
	r.mu.Unlock()
	if unused {
		*r = Receipt{}
		receipts.Put(r)
	}
}

// ErrUncommitted says that Kafka has not committed all records yet. They are
// kept, and delivered when it can be.
var ErrUncommitted = errors.New("not committed in time; it is kept, and delivered when Kafka takes it")

// ErrRefused says that Kafka refused a record for good.
var ErrRefused = errors.New("refused by Kafka")

// Wait waits until every record of r is committed, at most until deadline or
// ctx's end, and holds r no longer. The error is nil, ErrUncommitted or
// ErrRefused.
func (r *Receipt) Wait(ctx context.Context, deadline time.Time) error {
	r.mu.Lock()
	if left := time.Until(deadline); !r.settled && left > 0 {
		w := waiters.Get().(*waiter)
		w.next, r.waiters = r.waiters, w
		r.mu.Unlock()
		w.wait(ctx, deadline, left)
		r.mu.Lock()
		at := &r.waiters
		for *at != w {
			at = &(*at).next
		}
		*at, w.next = w.next, nil
		select {
		case <-w.told: // meanwhile
		default:
		}
		waiters.Put(w)
	}
	var err error
	switch {
	case !r.settled:
		r.late, err = true, ErrUncommitted
	case r.failed:
		err = ErrRefused
	}
	r.release()
	return err
}

// blink is how long a request waits before it looks whether anybody waits for it:
// a context's channel costs an allocation.
const blink = 50 * time.Millisecond

// wait waits until w is told, for left until deadline, or until ctx ends.
func (w *waiter) wait(ctx context.Context, deadline time.Time, left time.Duration) {
	var gone <-chan struct{}
	w.timer.Reset(min(left, blink))
	defer w.timer.Stop()
	for {
		select {
		case <-w.told:
			return
		case <-gone:
			return
		case <-w.timer.C:
		}
		if left = time.Until(deadline); left <= 0 {
			return
		}
		gone = ctx.Done()
		w.timer.Reset(left)
	}
}

// Forget holds r no longer, without waiting.
func (r *Receipt) Forget() {
	r.mu.Lock()
	r.release()
}
