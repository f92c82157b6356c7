package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// limitMemory makes the garbage collector work harder before drain takes much more
// memory than MAX_INFLIGHT says, unless GOMEMLIMIT says how much it may take. Records
// that are held need 1.25 times their bytes; the rest is for requests and for what
// was remembered of frames (some 10 MB), and own bytes for what drain keeps besides. It also has garbage collected when there is
// half as much of it as is in use, unless GOGC says otherwise.
func limitMemory(maxInflight, own int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(mostGarbage)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		const rest = 64 << 20
		debug.SetMemoryLimit(min(maxInflight, math.MaxInt64/4)*5/2 + rest + own)
	}
}

// Garbage is collected when there is mostGarbage per cent of what is in use, or
// enoughGarbage bytes, but not under leastGarbage per cent. There is little of it: Go's
// 100 % would save 1 to 2 % of the processor and take a fifth more memory.
const (
	mostGarbage   = 50
	leastGarbage  = 20
	enoughGarbage = 16 << 20
)

// garbage is the percentage for a heap of so many bytes in use.
func garbage(live uint64) int {
	return int(max(leastGarbage, min(mostGarbage, 100*enoughGarbage/max(live, 1))))
}

// Memory is given back when drain has been quiet for tendEvery: an outage leaves
// much of it, and Go keeps it for as long as nothing is allocated. Twice, because
// what pools keep outlives one collection.
const (
	tendEvery  = 2 * time.Second
	quietBytes = 3 << 20 // allocated in tendEvery
	calmTimes  = 2
)

// tend gives unused memory back to the system after busy times, and fits the garbage
// to the heap, until ctx ends.
func tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	fitted, percent := os.Getenv("GOGC") == "", mostGarbage
	before, left := uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(heap)
		if now := garbage(heap[1].Value.Uint64()); fitted && max(now-percent, percent-now) >= 5 {
			percent = now
			debug.SetGCPercent(percent)
		}
		now := heap[0].Value.Uint64()
		switch quiet := now-before < quietBytes; {
		case !quiet:
			left = calmTimes
		case left > 0:
			left--
			debug.FreeOSMemory()
		}
		before = now
	}
}
