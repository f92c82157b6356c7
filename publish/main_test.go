package publish

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("DRAIN_TEST_SINK") != "" {
		runSink()
		return
	}
	_ = flag.Set("test.parallel", "16") // they wait for a broker, hardly for a processor
	go watchStalls()
	before := goleak.IgnoreCurrent()
	code := m.Run()
	// A connection that kafka-go was making to a silent broker ends after 2 s.
	for end := time.Now().Add(10 * time.Second); code == 0; {
		err := goleak.Find(before)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// stalled counts the nanoseconds in which this process did not get to run when it
// wanted to: a busy machine is not the service's fault.
var stalled atomic.Int64

func watchStalls() {
	const tick = 5 * time.Millisecond
	for last := time.Now(); ; {
		time.Sleep(tick)
		now := time.Now()
		if late := now.Sub(last) - tick; late > tick {
			stalled.Add(int64(late))
		}
		last = now
	}
}
