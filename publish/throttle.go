package publish

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// throttle holds back partitions whose leader says that a quota is used up. Brokers
// answer such a request at once, with the time for which they will read no more from
// its connection (KIP-219). A batch that was sent all the same would wait there, time
// out, and be sent again by another connection.
type throttle struct {
	seconds prometheus.Counter
	log     *slog.Logger
	hurry   chan struct{} // closed when drain stops: then nobody is held back

	mu     sync.Mutex          // guards the following
	until  map[int32]time.Time // by broker, as many as there are leaders
	warned time.Time
	last   time.Time // when a broker last said so
}

const (
	// longestThrottle bounds what a broker is believed: it has a window of ten
	// seconds by default (quota.window.num × quota.window.size.seconds).
	longestThrottle = 30 * time.Second
	throttleWarning = time.Minute
)

// note takes in that a broker asks for so much time.
func (t *throttle) note(broker int32, d time.Duration) {
	d = min(d, longestThrottle)
	now := time.Now()
	t.seconds.Add(d.Seconds())
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := now.Add(d); until.After(t.until[broker]) {
		t.until[broker] = until
	}
	t.last = now
	if now.Sub(t.warned) < throttleWarning {
		return
	}
	t.warned = now
	t.log.Warn("Kafka slows us down: more is produced than its quota lets through; records wait in memory",
		"broker", broker, "wait", d, "do", throttleAdvice)
}

const throttleAdvice = "set KAFKA_COMPRESSION=zstd, or get a larger quota (on Heroku a larger plan)"

// wait holds a partition back, until its leader may be asked again, or one of the
// others ends it.
func (t *throttle) wait(ctx context.Context, pt *partition) {
	for left := t.left(pt); left > 0; left = t.left(pt) { // it may have grown meanwhile
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
			continue
		case <-t.hurry:
		case <-pt.retired:
		case <-ctx.Done():
		}
		timer.Stop()
		return
	}
}

// left is for how long the partition's leader is not to be asked.
func (t *throttle) left(pt *partition) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Until(t.until[pt.leader.Load()])
}

// lately tells whether a broker has asked for time within so much of it.
func (t *throttle) lately(within time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.last.IsZero() && time.Since(t.last) < within
}
