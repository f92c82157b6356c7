package publish

import (
	"context"
	"sync"
	"time"
)

// limits gives the steps of one goroutine, one after another, a context with a
// limit each. A context of the standard library costs four allocations a step;
// this one is used again as long as steps end well inside their limits.
type limits struct {
	parent context.Context
	unused *limited // for the next step; nil when one has to be made
}

// start begins a step that may take at most d.
func (l *limits) start(d time.Duration) *limited {
	c := l.unused
	l.unused = nil
	if c == nil {
		c = &limited{Context: l.parent, done: make(chan struct{})}
		c.timer = time.AfterFunc(d, func() { c.end(context.DeadlineExceeded) })
		c.unhook = context.AfterFunc(l.parent, func() { c.end(l.parent.Err()) })
	} else {
		c.timer.Reset(d)
	}
	c.deadline = time.Now().Add(d)
	return c
}

// end ends the step of c. Only one that went well leaves nobody behind who might
// still look at c: kafka-go and puddle go on with what they were asked for after
// the one who asked has given up.
func (l *limits) end(c *limited, well bool) {
	if c.timer.Stop() && well {
		l.unused = c
		return
	}
	c.unhook()
	c.end(context.Canceled)
}

// close gives back what is kept for the next step.
func (l *limits) close() {
	if l.unused != nil {
		l.unused.unhook()
		l.unused = nil
	}
}

// limited is the context of a step.
type limited struct {
	context.Context // the parent: its values
	deadline        time.Time
	timer           *time.Timer
	unhook          func() bool // from the parent
	done            chan struct{}

	mu  sync.Mutex // guards err
	err error
}

func (c *limited) Deadline() (time.Time, bool) { return c.deadline, true }
func (c *limited) Done() <-chan struct{}       { return c.done }

func (c *limited) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *limited) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}
