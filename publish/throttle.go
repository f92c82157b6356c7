package publish

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// throttle holds back partitions whose leader says that a quota is used up. Brokers
// answer such a request at once, with the time for which they will read no more from
// its connection (KIP-219). A batch that was sent all the same would wait there, time
// out, and be sent again by another connection.
//
// The time that brokers ask for may be short while batches are small, and small batches
// cost most: each has a head, and is compressed alone. So each partition pauses between
// its batches, too, the longer the more often brokers complain. A pause lets batches grow
// until they fit the quota.
type throttle struct {
	seconds prometheus.Counter
	log     *slog.Logger
	hurry   chan struct{} // closed when drain stops: then nobody is held back
	said    atomic.Bool   // a broker asks for time, or did lately: else there is nothing to look at

	mu      sync.Mutex // guards the following
	brokers map[int32]*patience
	warned  time.Time
	last    time.Time // when a broker last said so
}

// patience is what one broker wants.
type patience struct {
	until time.Time     // it is not to be asked before
	pause time.Duration // between a partition's batches, at since
	since time.Time     // its last complaint
}

// now is the pause at a time.
func (p *patience) now(at time.Time) time.Duration { return p.pause >> (at.Sub(p.since) / quietTime) }

const (
	// longestThrottle bounds what a broker is believed: it has a window of ten
	// seconds by default (quota.window.num × quota.window.size.seconds).
	longestThrottle = 30 * time.Second
	throttleWarning = time.Minute
	// A pause begins with shortestPause, is doubled when a broker complains, at most
	// once in its own time, and wanes by 1/pauseWane with each batch that passes, and by
	// half with each quietTime without a complaint.
	shortestPause = 25 * time.Millisecond
	longestPause  = time.Second
	pauseWane     = 64
	quietTime     = 5 * time.Second
)

// note takes in what a broker said with its answer: that it asks for so much time, or 0.
func (t *throttle) note(broker int32, asked time.Duration) {
	if asked == 0 && !t.said.Load() {
		return
	}
	asked = min(asked, longestThrottle)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.brokers[broker]
	if asked == 0 {
		if p == nil {
			return
		}
		if p.pause -= p.pause / pauseWane; p.now(now) < shortestPause/2 && now.After(p.until) {
			delete(t.brokers, broker)
			t.said.Store(len(t.brokers) > 0)
		}
		return
	}
	t.said.Store(true)
	t.seconds.Add(asked.Seconds())
	if p == nil {
		p = &patience{since: now}
		t.brokers[broker] = p
	}
	if !now.Before(p.until) { // else what it says is of a batch that was sent before
		p.pause = min(max(2*p.now(now), shortestPause), longestPause)
	}
	p.since = now
	if until := now.Add(max(asked, p.pause)); until.After(p.until) {
		p.until = until
	}
	t.last = now
	if now.Sub(t.warned) < throttleWarning {
		return
	}
	t.warned = now
	t.log.Warn("Kafka slows us down: more is produced than its quota lets through; records wait in memory",
		"broker", broker, "wait", asked, "do", throttleAdvice)
}

const throttleAdvice = "set KAFKA_COMPRESSION=zstd, or get a larger quota (on Heroku a larger plan)"

// wait holds a partition back, until its leader may be asked again, or one of the
// others ends it.
func (t *throttle) wait(ctx context.Context, pt *partition) {
	for t.holds(pt) {
		// It may grow meanwhile, or the leader be another.
		left := min(t.left(pt), watchEvery)
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

// holds tells whether wait would wait.
func (t *throttle) holds(pt *partition) bool {
	select {
	case <-t.hurry:
		return false
	case <-pt.retired:
		return false
	default:
		return t.left(pt) > 0
	}
}

// left is for how long the partition is to be held back.
func (t *throttle) left(pt *partition) time.Duration {
	if !t.said.Load() {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.brokers[pt.leader.Load()]
	if p == nil {
		return 0
	}
	now := time.Now()
	return max(p.until.Sub(now), pt.answered.Add(p.now(now)).Sub(now))
}

// lately tells whether a broker has asked for time within so much of it.
func (t *throttle) lately(within time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.last.IsZero() && time.Since(t.last) < within
}
