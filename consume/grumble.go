package consume

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// grumble keeps the log readable while something fails for one or many: the first failure is
// told, then one line every grumbleEvery with how many fail, then the recovery of all.
type grumble struct {
	log         *slog.Logger
	bad, better string

	mu      sync.Mutex // guards the following
	failing map[int]failure
	last    time.Time
}

type failure struct {
	since time.Time
	err   error
}

const grumbleEvery = 5 * time.Second

// alone is the key of what is not of one partition.
const alone = -1

func newGrumble(log *slog.Logger, bad, better string) *grumble {
	return &grumble{log: log, bad: bad, better: better, failing: make(map[int]failure)}
}

// complain tells that a partition failed, or alone.
func (g *grumble) complain(partition int, err error) {
	now := time.Now()
	g.mu.Lock()
	f, known := g.failing[partition]
	if !known {
		f.since = now
	}
	f.err = err
	g.failing[partition] = f
	silent := now.Sub(g.last) < grumbleEvery
	if !silent {
		g.last = now
	}
	n := len(g.failing)
	g.mu.Unlock()
	if silent {
		return
	}
	args := []any{"error", err, "for", now.Sub(f.since).Round(time.Millisecond)}
	if partition != alone {
		args = append(args, "partition", partition, "failing_partitions", n)
	}
	g.log.Warn(g.bad, args...)
}

// relent tells that it did not fail this time.
func (g *grumble) relent(partition int) {
	g.mu.Lock()
	f, known := g.failing[partition]
	delete(g.failing, partition)
	last := known && len(g.failing) == 0
	g.mu.Unlock()
	if last {
		g.log.Info(g.better, "after", time.Since(f.since).Round(time.Millisecond))
	}
}

// forget forgets what failed: it is not tried any more.
func (g *grumble) forget() {
	g.mu.Lock()
	clear(g.failing)
	g.mu.Unlock()
}

// lasting says what has failed for longer than d, nil if nothing has.
func (g *grumble) lasting(d time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for partition, f := range g.failing {
		if age := time.Since(f.since); age > d {
			return fmt.Errorf("partition %d cannot be read for %s: %w", partition, age.Round(time.Second), f.err)
		}
	}
	return nil
}
