package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"drain/window"
)

// tidy knows the windows that consist of many chunks by our doing, for Tidy to make
// one of them. If the process ends, they stay as they are: larger, and not wrong.
type tidy struct {
	mu sync.Mutex // guards the following
	// windows that grew, by key
	windows map[string]grown
}

type grown struct {
	ends   int64     // of the window, seconds since 1970 UTC
	last   time.Time // when it grew
	size   int64     // bytes
	whole  int64     // bytes when it was one chunk last, 0 where it never was
	chunks int       // that we added since
}

// A window is made one chunk once nothing came to it for quiet after its end, and
// before that whenever it has doubled by many chunks. No more than maxGrown are kept in mind.
const (
	quiet      = 15 * time.Second
	manyChunks = 32
	maxGrown   = 50_000
)

// grew notes that a chunk of added bytes made a window's value size bytes.
func (t *tidy) grew(key string, c *window.Chunk, size int64, added int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, known := t.windows[key]
	if !known {
		if size == int64(added) || len(t.windows) >= maxGrown {
			if len(t.windows) < maxGrown {
				t.windows[key] = grown{ends: c.Start + c.Resolution.Step, last: now, size: size, whole: size}
			}
			return
		}
		g.ends = c.Start + c.Resolution.Step
	}
	g.last, g.size = now, size
	g.chunks++
	t.windows[key] = g
}

// dueWindow is one to be made one chunk.
type dueWindow struct {
	key    string
	chunks int // that we had added
}

// due are the windows to be made one chunk now.
func (t *tidy) due(now time.Time) (all []dueWindow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, g := range t.windows {
		over := now.Sub(g.last) > quiet && now.Unix() > g.ends
		switch {
		case over && g.chunks == 0:
			delete(t.windows, key)
		case over, g.chunks >= manyChunks && g.size > 2*g.whole:
			all = append(all, dueWindow{key, g.chunks})
		}
	}
	return all
}

// done notes that the window is one chunk of size bytes.
func (t *tidy) done(w dueWindow, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.windows[w.key]
	g.chunks -= w.chunks // not those that were added meanwhile
	g.size, g.whole = size, size
	t.windows[w.key] = g
}

// drop forgets a window that cannot be made one chunk.
func (t *tidy) drop(w dueWindow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.windows, w.key)
}

// Tidy makes one chunk of each window that has become many by this process' Appends, and
// tells of how many. A window that cannot be read stays as it is, and is the error. It is to be
// called every second or so, never twice at once.
func (l *Ledger) Tidy(ctx context.Context, now time.Time) (int, error) {
	var m window.Merger
	var damaged error
	n := 0
	for _, w := range l.tidy.due(now) {
		size, err := l.compact(ctx, w.key, &m)
		switch {
		case errors.Is(err, window.ErrChunk):
			damaged = err
			l.tidy.drop(w)
		case err == redis.Nil: // it has expired
			l.tidy.drop(w)
		case err != nil:
			return n, err
		case size > 0:
			l.tidy.done(w, size)
			n++
		}
	}
	return n, damaged
}

// compact tells how large the window is then, 0 where something was added to it meanwhile.
// It is redis.Nil where there is none.
func (l *Ledger) compact(ctx context.Context, key string, m *window.Merger) (int64, error) {
	value, err := l.client.Get(ctx, key).Bytes()
	if err == redis.Nil {
		return 0, err
	} else if err != nil {
		return 0, fmt.Errorf("read %s in Redis: %w", key, err)
	}
	chunk, err := m.Merge(value)
	if err != nil {
		return 0, fmt.Errorf("read %s in Redis: %w", key, err)
	}
	done, err := compactScript.Run(ctx, l.client, []string{key}, digest(value), chunk).Int()
	if err != nil || done == 0 {
		return 0, err
	}
	return int64(len(chunk)), nil
}
