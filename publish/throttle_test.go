package publish

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newThrottle(log *bytes.Buffer) *throttle {
	return &throttle{seconds: prometheus.NewCounter(prometheus.CounterOpts{Name: "seconds"}), log: slog.New(slog.NewTextHandler(log, nil)),
		hurry: make(chan struct{}), brokers: make(map[int32]*patience)}
}

func TestThrottle(t *testing.T) {
	var log bytes.Buffer
	// held is for how long a partition of a broker is held back, while do happens.
	held := func(t *testing.T, th *throttle, broker int32, do func(pt *partition, cancel func())) time.Duration {
		pt := &partition{retired: make(chan struct{})}
		pt.leader.Store(broker)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		if do != nil {
			go do(pt, cancel)
		}
		th.wait(ctx, pt)
		return time.Since(began)
	}
	for _, test := range []struct {
		name   string
		noted  []time.Duration // of broker 1, at once
		broker int32
		do     func(th *throttle, pt *partition, cancel func())
		want   time.Duration
	}{
		{"nothing said", nil, 1, nil, 0},
		{"as long as it says", []time.Duration{3 * time.Second}, 1, nil, 3 * time.Second},
		{"the longest counts", []time.Duration{3 * time.Second, time.Second}, 1, nil, 3 * time.Second},
		{"another broker is not meant", []time.Duration{3 * time.Second}, 2, nil, 0},
		{"within bounds", []time.Duration{time.Hour}, 1, nil, longestThrottle},
		{"what is said meanwhile", []time.Duration{3 * time.Second}, 1, func(th *throttle, _ *partition, _ func()) {
			time.Sleep(2 * time.Second)
			th.note(1, 4*time.Second)
		}, 6 * time.Second},
		{"a stop", []time.Duration{3 * time.Second}, 1, func(th *throttle, _ *partition, _ func()) {
			time.Sleep(time.Second)
			close(th.hurry)
		}, time.Second},
		{"a partition that goes", []time.Duration{3 * time.Second}, 1, func(_ *throttle, pt *partition, _ func()) {
			time.Sleep(time.Second)
			close(pt.retired)
		}, time.Second},
		{"the end", []time.Duration{3 * time.Second}, 1, func(_ *throttle, _ *partition, cancel func()) {
			time.Sleep(time.Second)
			cancel()
		}, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				th := newThrottle(&log)
				for _, d := range test.noted {
					th.note(1, d)
				}
				var do func(*partition, func())
				if test.do != nil {
					do = func(pt *partition, cancel func()) { test.do(th, pt, cancel) }
				}
				if got := held(t, th, test.broker, do); got != test.want {
					t.Errorf("held for %s, want %s", got, test.want)
				}
				if got := testutil.ToFloat64(th.seconds); got == 0 && len(test.noted) > 0 {
					t.Error("not counted")
				}
			})
		})
	}
}

func TestThrottle_warnsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		th := newThrottle(&log)
		for range 10 {
			if th.lately(time.Second) {
				t.Error("before anything was said")
			}
		}
		for range 125 {
			th.note(1, 100*time.Millisecond)
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "Kafka slows us down"); n != 3 {
			t.Errorf("warned %d times", n)
		}
		if got := testutil.ToFloat64(th.seconds); got < 12.4 || got > 12.6 {
			t.Errorf("%v s counted", got)
		}
		if !th.lately(2*time.Second) || th.lately(500*time.Millisecond) {
			t.Error("lately")
		}
	})
}

// The more often a broker complains, the longer partitions pause between their batches;
// when it does not, less and less, until all is as before.
func TestThrottle_pausesBetweenBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		th := newThrottle(&log)
		pt := &partition{retired: make(chan struct{})}
		pt.leader.Store(1)
		// send sends a batch, to which the broker answers; it tells for how long the
		// partition was held back before it.
		send := func(asked time.Duration) time.Duration {
			began := time.Now()
			th.wait(t.Context(), pt)
			held := time.Since(began)
			pt.answered = time.Now()
			th.note(1, asked)
			return held
		}
		for range 3 {
			if held := send(0); held != 0 {
				t.Fatalf("held for %s before any complaint", held)
			}
		}
		want := shortestPause
		send(time.Millisecond)
		for range 10 {
			if held := send(time.Millisecond); held != want {
				t.Fatalf("held for %s, want %s", held, want)
			}
			want = min(2*want, longestPause)
			// What other connections are told meanwhile is of the same.
			th.note(1, time.Millisecond)
			th.note(1, time.Millisecond)
		}
		if want != longestPause {
			t.Fatal("the longest pause was not reached")
		}
		last := send(0)
		for range 30 {
			held := send(0)
			if held >= last {
				t.Fatalf("held for %s after %s", held, last)
			}
			last = held
		}
		for range 1000 {
			last = send(0)
		}
		if last != 0 || th.said.Load() {
			t.Errorf("held for %s in the end", last)
		}
	})
}
