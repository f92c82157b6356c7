package publish

import (
	"sync"
	"time"
)

// grumble keeps the log readable while Kafka fails: the first failure is told, then
// one line every grumbleEvery with how many partitions fail, then the recovery.
type grumble struct {
	mu      sync.Mutex // guards the following
	failing map[*partition]time.Time
	last    time.Time
}

const grumbleEvery = 5 * time.Second

func (p *Publisher) complain(pt *partition, err error) {
	g := &p.grumble
	now := time.Now()
	pt.failing = true
	g.mu.Lock()
	if g.failing == nil {
		g.failing = make(map[*partition]time.Time)
	}
	since, known := g.failing[pt]
	if !known {
		since = now
		g.failing[pt] = now
	}
	silent := now.Sub(g.last) < grumbleEvery
	if !silent {
		g.last = now
	}
	partitions := len(g.failing)
	g.mu.Unlock()
	if silent {
		return
	}
	args := []any{"topic", pt.topic.name, "partition", pt.id, "error", err,
		"failing_partitions", partitions, "for", now.Sub(since).Round(time.Millisecond)}
	if do := advice(err, pt.topic.name, p.cfg.Prefix); do != "" {
		args = append(args, "do", do)
	}
	p.cfg.Logger.Warn("a batch could not be stored; it is kept and sent again", args...)
}

// relent notes that a batch of pt was stored.
func (g *grumble) relent(p *Publisher, pt *partition) {
	if !pt.failing {
		return
	}
	pt.failing = false
	g.mu.Lock()
	since := g.failing[pt]
	delete(g.failing, pt)
	left := len(g.failing)
	g.mu.Unlock()
	if left == 0 {
		p.cfg.Logger.Info("Kafka stores batches again", "after", time.Since(since).Round(time.Millisecond))
	}
}
