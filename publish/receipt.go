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
	left   atomic.Int32  // batches not decided yet, and one until Wait or Forget
	failed atomic.Bool   // a record was given up
	late   atomic.Bool   // the request was answered without waiting for the commit
	done   chan struct{} // one token when left falls to zero
	timer  *time.Timer
}

var receipts = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &Receipt{done: make(chan struct{}, 1), timer: timer}
}}

// NewReceipt makes a Receipt for one request. It ends with Wait or Forget.
func NewReceipt() *Receipt {
	r := receipts.Get().(*Receipt)
	r.failed.Store(false)
	r.late.Store(false)
	r.left.Store(1)
	return r
}

func (r *Receipt) finish() {
	if r.left.Add(-1) == 0 {
		r.done <- struct{}{}
	}
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
	if r.left.Add(-1) > 0 {
		r.timer.Reset(time.Until(deadline))
		select {
		case <-r.done:
			r.timer.Stop()
		case <-r.timer.C:
			r.late.Store(true)
			return ErrUncommitted // its batches still hold r: it is not reused
		case <-ctx.Done():
			r.timer.Stop()
			r.late.Store(true)
			return ErrUncommitted
		}
	}
	failed := r.failed.Load()
	receipts.Put(r)
	if failed {
		return ErrRefused
	}
	return nil
}

// Forget is done with r without waiting.
func (r *Receipt) Forget() { r.left.Add(-1) }
