package publish

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Budget bounds the bytes that drain holds for requests: their bodies while they
// are read, their records until Kafka has committed them.
type Budget struct {
	size int64
	sem  *semaphore.Weighted
	used atomic.Int64
}

// NewBudget makes a Budget of size bytes.
func NewBudget(size int64) *Budget {
	return &Budget{size: size, sem: semaphore.NewWeighted(size)}
}

// TryAcquire takes n bytes if they are free and nobody waits for some.
func (b *Budget) TryAcquire(n int) bool {
	if !b.sem.TryAcquire(int64(n)) {
		return false
	}
	b.used.Add(int64(n))
	return true
}

// Acquire takes n bytes, waiting for them until ctx ends; then it returns ctx's
// error and has taken nothing.
func (b *Budget) Acquire(ctx context.Context, n int) error {
	if err := b.sem.Acquire(ctx, int64(n)); err != nil {
		return err
	}
	b.used.Add(int64(n))
	return nil
}

// Release gives n bytes back.
func (b *Budget) Release(n int) {
	b.used.Add(int64(-n))
	b.sem.Release(int64(n))
}

// Size is what there is in all, in bytes.
func (b *Budget) Size() int64 { return b.size }

// Used is what is taken now, in bytes.
func (b *Budget) Used() int64 { return b.used.Load() }
