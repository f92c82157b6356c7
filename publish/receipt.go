package publish

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Receipt is what one request waits on: all batches that hold records of it.
type Receipt struct {
	left   atomic.Int32  // batches not settled yet, one until Wait or Forget, and a mark
	failed atomic.Bool   // a record was given up
	done   chan struct{} // one token when left falls to zero
	timer  *time.Timer
}

// Marks in Receipt.left. A batch that is settled takes itself off left and sees in
// the same step whether it came too late for the answer.
const (
	answered  int32 = 1 << 30 // without waiting for the commit any longer
	forgotten int32 = 1 << 29 // nobody waits
)

var receipts = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &Receipt{done: make(chan struct{}, 1), timer: timer}
}}

// NewReceipt makes a Receipt for one request. It ends with Wait or Forget.
func NewReceipt() *Receipt {
	r := receipts.Get().(*Receipt)
	r.failed.Store(false)
	r.left.Store(1)
	return r
}

// finish takes one batch off r. It tells whether the request was answered before.
func (r *Receipt) finish() (late bool) {
	left := r.left.Add(-1)
	if left == 0 {
		r.done <- struct{}{}
	}
	return left >= answered
}

// ErrUncommitted says that Kafka has not committed all records yet. They are
// kept, and delivered when it can be.
var ErrUncommitted = errors.New("not committed in time")

// ErrRefused says that Kafka refused a record for good.
var ErrRefused = errors.New("refused by Kafka")

// Wait waits until every record of r is committed, at most until deadline or
// ctx's end, and then is done with r. The error is nil, ErrUncommitted or
// ErrRefused.
func (r *Receipt) Wait(ctx context.Context, deadline time.Time) error {
	if r.left.Add(-1) > 0 && !r.wait(ctx, deadline) {
		return ErrUncommitted
	}
	failed := r.failed.Load()
	receipts.Put(r)
	if failed {
		return ErrRefused
	}
	return nil
}

// wait tells whether the last batch of r was settled in time.
func (r *Receipt) wait(ctx context.Context, deadline time.Time) bool {
	r.timer.Reset(time.Until(deadline))
	select {
	case <-r.done:
		r.timer.Stop()
		return true
	case <-r.timer.C:
	case <-ctx.Done():
		r.timer.Stop()
	}
	return r.leave(answered)
}

// Forget is done with r without waiting.
func (r *Receipt) Forget() {
	if r.left.Add(-1) == 0 || r.leave(forgotten) {
		receipts.Put(r)
	}
}

// leave marks r, which its batches go on holding: what it would wait with is taken
// off it, since an outage may leave many receipts. It tells whether the last batch
// was settled just now, so that nothing holds r.
func (r *Receipt) leave(mark int32) (settled bool) {
	if r.left.Add(mark) == mark {
		<-r.done
		return true
	}
	receipts.Put(&Receipt{done: r.done, timer: r.timer})
	r.done, r.timer = nil, nil
	return false
}
