package publish

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"drain/trial/stalls"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("DRAIN_TEST_SINK") != "" {
		runSink()
		return
	}
	_ = flag.Set("test.parallel", "16") // they wait for a broker, hardly for a processor
	stalls.Watch()
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
