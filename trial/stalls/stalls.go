// Package stalls measures time without that in which the machine was busy with else: it is not the
// fault of what is tested.
package stalls

import (
	"sync/atomic"
	"time"
)

// stalled counts the nanoseconds in which this process did not get to run when it wanted to.
var stalled atomic.Int64

// Watch begins to count, for as long as the process lives. Without it a Stopwatch is a clock.
func Watch() {
	go func() {
		const tick = 5 * time.Millisecond
		for last := time.Now(); ; {
			time.Sleep(tick)
			now := time.Now()
			if late := now.Sub(last) - tick; late > tick {
				stalled.Add(int64(late))
			}
			last = now
		}
	}()
}

// Stopwatch measures from Start on.
type Stopwatch struct {
	began time.Time
	lost  int64
}

// Start starts one.
func Start() Stopwatch { return Stopwatch{time.Now(), stalled.Load()} }

// Took is the time since.
func (s Stopwatch) Took() time.Duration {
	return time.Since(s.began) - time.Duration(stalled.Load()-s.lost)
}
