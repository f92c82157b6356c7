package httpapi

import (
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"drain/intake"
	"drain/publish"
)

// source is one sender: a drain, or all that say nothing of a drain and post for
// the same app.
type source struct {
	account publish.Account

	oldest, newest *flight // under way; guarded by frames.mu

	mu    sync.Mutex // guards the following
	lines float64    // seen, the older the less: those of rateWindow ago by 1/e
	first time.Time
	last  time.Time // when lines was reckoned
}

// sources are the senders that were seen last. What is forgotten of one is its rate,
// and how much it holds.
type sources struct {
	known *lru.Cache[sourceKey, *source]
}

const maxSources = 4096

type sourceKey struct{ drain, app string }

func newSources() sources {
	known, err := lru.New[sourceKey, *source](maxSources)
	if err != nil {
		panic(err) // the size is no size
	}
	return sources{known}
}

// of is the sender of r.
func (s sources) of(r *http.Request, app string) *source {
	key := sourceKey{drain: intake.Clip(header(r, "Logplex-Drain-Token"))}
	if key.drain == "" {
		key.app = intake.Clip(app)
	}
	if src, ok := s.known.Get(key); ok {
		return src
	}
	src := new(source)
	key = sourceKey{strings.Clone(key.drain), strings.Clone(key.app)}
	if before, ok, _ := s.known.PeekOrAdd(key, src); ok {
		return before
	}
	return src
}

// rateWindow is over what time a sender's rate is observed, in seconds.
const rateWindow = 5.0

// observe notes that a frame of so many lines came.
func (s *source) observe(now time.Time, lines int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first, s.last = now, now
	}
	s.lines = s.lines*math.Exp(-max(0, now.Sub(s.last).Seconds())/rateWindow) + float64(lines)
	s.last = now
}

// rate is the lines a second that were observed until at; known is false when none
// were.
func (s *source) rate(at time.Time) (rate float64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		return 0, false
	}
	lines := s.lines * math.Exp(-max(0, at.Sub(s.last).Seconds())/rateWindow)
	// In the first seconds there was less time to see lines in; a first frame
	// says little.
	age := max(1, at.Sub(s.first).Seconds())
	return lines / (rateWindow * (1 - math.Exp(-age/rateWindow))), true
}

// While one of its requests is held, a sender gathers lines in a buffer of so many,
// and loses the oldest when it is full. A part of it is used.
const (
	senderBuffer = 1024
	bufferUsed   = 0.3
	leastHold    = 200 * time.Millisecond
	// A sender that has a frame stuck for longer than it may be held was held
	// once. Its next frames are not held one after the other, unless their
	// partition has committed since: they are looked at for so long, and twice the
	// time that their partition took last.
	glance = 30 * time.Millisecond
	// blindHold is for a sender of which nothing is known yet, at a Kafka that
	// was not seen yet.
	blindHold = 400 * time.Millisecond
)

// patience is how long a request of src may wait for its commit, by the rate that
// was observed until at.
func (s *Server) patience(r *http.Request, src *source, at time.Time) time.Duration {
	most := s.cfg.Hold
	if header(r, "Logplex-Drain-Token") == "" && !strings.HasPrefix(header(r, "User-Agent"), "Logplex") {
		return most // not a sender with a buffer of lines
	}
	rate, known := src.rate(at)
	switch {
	case !known && !s.cfg.Publisher.Known():
		most = min(most, blindHold)
	case known:
		fill := time.Duration(min(bufferUsed*senderBuffer/rate, most.Seconds()) * float64(time.Second))
		most = min(most, max(fill, leastHold))
	}
	return most
}
