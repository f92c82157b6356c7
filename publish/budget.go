package publish

import (
	"container/list"
	"context"
	"sync"
)

// Budget bounds the bytes that drain holds for requests: their bodies while they
// are read, their records until Kafka has committed them.
//
// It is a weighted semaphore that knows who holds how much. One account may hold
// all there is while nobody else needs some; while others wait, none gets more
// than a quarter. Those within their quarter go first, in the order they came.
type Budget struct {
	size, share int

	mu      sync.Mutex // guards the following, and Accounts
	used    int
	waiting list.List // of *request, oldest first
}

// Account is what a drain holds of a Budget. The zero Account is ready.
type Account struct{ held int }

// request is one that waits for room.
type request struct {
	account *Account
	n       int
	more    bool          // it holds some already: nobody waits behind it
	granted chan struct{} // closed when it has its bytes
}

// NewBudget makes a Budget of size bytes.
func NewBudget(size int64) *Budget { return &Budget{size: int(size), share: int(size / 4)} }

// within tells whether a would hold no more than its share with n more bytes.
func (b *Budget) within(a *Account, n int) bool { return a.held+n <= b.share }

func (b *Budget) take(a *Account, n int) {
	b.used += n
	a.held += n
}

// TryAcquire takes n bytes for a if they are free, and nobody waits who goes
// first.
func (b *Budget) TryAcquire(a *Account, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tryAcquire(a, n, false)
}

func (b *Budget) tryAcquire(a *Account, n int, more bool) bool {
	if n > b.size-b.used {
		return false
	}
	if more {
		b.take(a, n)
		b.grant() // a's own requests may no longer be within its share, and go last
		return true
	}
	within := b.within(a, n)
	for e := b.waiting.Front(); e != nil; e = e.Next() {
		if w := e.Value.(*request); !w.more && (!within || b.within(w.account, w.n)) {
			return false
		}
	}
	b.take(a, n)
	b.grant()
	return true
}

// Acquire takes n bytes for a, waiting for them until ctx ends; then it returns
// ctx's error and has taken nothing.
//
// With more, the caller holds bytes that others may wait for: it is served when
// what it wants is free, and keeps nobody waiting who wants less. Two such callers
// can wait for each other, so that ctx must end soon.
func (b *Budget) Acquire(ctx context.Context, a *Account, n int, more bool) error {
	b.mu.Lock()
	if b.tryAcquire(a, n, more) {
		b.mu.Unlock()
		return nil
	}
	w := &request{a, n, more, make(chan struct{})}
	e := b.waiting.PushBack(w)
	b.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.granted: // meanwhile
		return nil
	default:
	}
	b.waiting.Remove(e)
	b.grant() // what waited behind it may fit
	return ctx.Err()
}

// grant gives room to those that wait: first to those that hold some already, which
// others wait for; then to those within their share. One that does not fit keeps
// those behind it waiting, or it would never get its turn.
func (b *Budget) grant() {
	const more, within, rest = 0, 1, 2
	for class := more; class <= rest; class++ {
		var next *list.Element
		for e := b.waiting.Front(); e != nil; e = next {
			next = e.Next()
			w := e.Value.(*request)
			if w.more != (class == more) || class == within && !b.within(w.account, w.n) {
				continue
			}
			if w.n > b.size-b.used {
				if class == more {
					continue
				}
				return
			}
			b.take(w.account, w.n)
			b.waiting.Remove(e)
			close(w.granted)
		}
	}
}

// Release gives n bytes of a's back.
func (b *Budget) Release(a *Account, n int) {
	b.mu.Lock()
	b.release(a, n)
	b.grant()
	b.mu.Unlock()
}

func (b *Budget) release(a *Account, n int) {
	b.used -= n
	a.held -= n
}

// releaseClaims gives back what the records of a batch hold.
func (b *Budget) releaseClaims(claims []claim) {
	b.mu.Lock()
	for _, c := range claims {
		b.release(c.receipt.owner.Account(), int(c.bytes))
	}
	b.grant()
	b.mu.Unlock()
}

// Size is what there is in all, in bytes.
func (b *Budget) Size() int64 { return int64(b.size) }

// Used is what is taken now, in bytes.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.used)
}
