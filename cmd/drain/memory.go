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
// was remembered of frames (some 10 MB). It also has garbage collected at half as much
// more than is in use: there is little of it, so that it costs 1 to 2 % of the
// processor, while twice as much would be a tenth more memory. GOGC says otherwise.
func limitMemory(maxInflight int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		const rest = 64 << 20
		debug.SetMemoryLimit(min(maxInflight, math.MaxInt64/4)*5/2 + rest)
	}
}

// Memory is given back when drain has been quiet for calmEvery: an outage leaves
// much of it, and Go keeps it for as long as nothing is allocated. Twice, because
// what pools keep outlives one collection.
const (
	calmEvery  = 5 * time.Second
	quietBytes = 8 << 20 // allocated in calmEvery
	calmTimes  = 2
)

// calm gives unused memory back to the system after busy times, until ctx ends.
func calm(ctx context.Context) {
	tick := time.NewTicker(calmEvery)
	defer tick.Stop()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	before, left := uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
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
