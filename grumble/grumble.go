// Package grumble keeps a log readable while something fails again and again: the first failure
// is told, then one line now and then, and at last that it works again.
package grumble

import (
	"log/slog"
	"sync"
	"time"
)

// Config says what is told, and how often.
type Config struct {
	Logger *slog.Logger
	// Bad is told of a failure as a warning, Better when nothing fails any more.
	Bad, Better string
	// Count is the name by which Bad tells how many fail; "" where that is one.
	Count string
	// Every is how often Bad is told: 5 s unless set.
	Every time.Duration
}

const defaultEvery = 5 * time.Second

// Grumble tells of what fails, by key. It is for concurrent use.
type Grumble[K comparable] struct {
	cfg Config

	mu      sync.Mutex // guards the following
	failing map[K]failure
	last    time.Time
}

type failure struct {
	since time.Time
	err   error
}

// New makes one of which nothing fails.
func New[K comparable](cfg Config) *Grumble[K] {
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	return &Grumble[K]{cfg: cfg, failing: make(map[K]failure)}
}

// Complain tells that key failed, with further arguments of slog.
func (g *Grumble[K]) Complain(key K, err error, args ...any) {
	now := time.Now()
	g.mu.Lock()
	f, known := g.failing[key]
	if !known {
		f.since = now
	}
	f.err = err
	g.failing[key] = f
	silent := now.Sub(g.last) < g.cfg.Every
	if !silent {
		g.last = now
	}
	n := len(g.failing)
	g.mu.Unlock()
	if silent {
		return
	}
	args = append(args, "error", err, "for", now.Sub(f.since).Round(time.Millisecond))
	if g.cfg.Count != "" {
		args = append(args, g.cfg.Count, n)
	}
	g.cfg.Logger.Warn(g.cfg.Bad, args...)
}

// Relent tells that key did not fail this time.
func (g *Grumble[K]) Relent(key K) {
	g.mu.Lock()
	f, known := g.failing[key]
	delete(g.failing, key)
	last := known && len(g.failing) == 0
	g.mu.Unlock()
	if last {
		g.cfg.Logger.Info(g.cfg.Better, "after", time.Since(f.since).Round(time.Millisecond))
	}
}

// Forget forgets what failed, without a word: it is not tried any more.
func (g *Grumble[K]) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.failing)
}

// Longest is what has failed for the longest time, and with what last; nothing fails where err is nil.
func (g *Grumble[K]) Longest() (key K, age time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, f := range g.failing {
		if a := time.Since(f.since); err == nil || a > age {
			key, age, err = k, a, f.err
		}
	}
	return key, age, err
}
