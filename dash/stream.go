package dash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"drain/ledger"
	"drain/window"
)

// hub looks into the ledger for all streams, a few times a second, as long as there
// are any.
type hub struct {
	ledger *ledger.Ledger

	mu      sync.Mutex // guards the following
	streams map[*listener]struct{}
	ended   bool
	since   int64 // sequence of the ledger, -1 when it is not known
	failure error
	failed  time.Time
}

// listener is a stream that waits for what is new.
type listener struct {
	touched map[int64]struct{} // seconds, guarded by the hub's mu
	wake    chan struct{}      // of one, closed at the end
}

const (
	lookEvery = 250 * time.Millisecond
	// settled is how long a second is waited for after its end: records take as long from drain's answer
	// into the ledger.
	settled = 350 * time.Millisecond
	// maxStreams bounds them, maxTouched what one of them is told at once: all seconds that are kept, and those
	// of clocks that are ahead.
	maxStreams = 200
	maxTouched = 3700
	// recent is how far back changes are looked for before the second after which a stream goes on.
	recent = 10 * time.Second
	// readAtOnce is how many seconds of a stream are read together, in a place among the answers where
	// they are more than a few.
	readAtOnce, few = 300, 10
	// statusEvery, heartbeatEvery: on Heroku a stream that is silent for 55 s is cut.
	statusEvery    = 2 * time.Second
	heartbeatEvery = 15 * time.Second
	writeWithin    = 10 * time.Second
)

func newHub(l *ledger.Ledger) *hub {
	return &hub{ledger: l, streams: make(map[*listener]struct{}), since: -1}
}

// join adds a stream, nil where there are too many.
func (h *hub) join() *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || len(h.streams) >= maxStreams {
		return nil
	}
	l := &listener{make(map[int64]struct{}), make(chan struct{}, 1)}
	h.streams[l] = struct{}{}
	return l
}

func (h *hub) leave(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, l)
}

// take is what a stream was told since the last time.
func (h *hub) take(l *listener) []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(l.touched) == 0 {
		return nil
	}
	seconds := make([]int64, 0, len(l.touched))
	for s := range l.touched {
		seconds = append(seconds, s)
	}
	clear(l.touched)
	slices.Sort(seconds)
	return seconds
}

// redis tells how the ledger was when it was looked at last.
func (h *hub) redis() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure == nil {
		return "ok"
	}
	return "away since " + h.failed.UTC().Format(time.RFC3339)
}

func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.mu.Lock()
			h.ended = true
			for l := range h.streams {
				close(l.wake)
				delete(h.streams, l)
			}
			h.mu.Unlock()
			return
		case <-tick.C:
			h.look(ctx)
		}
	}
}

// look asks what is new, and wakes the streams.
func (h *hub) look(ctx context.Context) {
	h.mu.Lock()
	since, idle := h.since, len(h.streams) == 0
	if idle {
		h.since = -1 // who comes reads the windows first
	}
	h.mu.Unlock()
	if idle {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	seconds, next, err := h.ledger.Touched(ctx, since)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if h.failure == nil {
			h.failed = time.Now()
		}
		h.failure = err
	} else {
		h.failure, h.since = nil, next
	}
	for l := range h.streams {
		for _, s := range seconds {
			if len(l.touched) < maxTouched {
				l.touched[s] = struct{}{}
			}
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// stream sends a point a second.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	q := readQuery(r, append([]string{"after"}, filterNames...)...)
	e := &events{w: w, control: http.NewResponseController(w), server: s, filter: q.filter(), next: time.Now().Unix(), late: make(map[int64]struct{})}
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = q.values.Get("after")
	}
	if after != "" {
		second, err := strconv.ParseInt(after, 10, 64)
		if err != nil || second < 0 {
			q.fail("after=%.40s: the id of an event is wanted, seconds since 1970", after)
		}
		e.next = min(max(second+1, e.next-window.Resolutions[0].Keep+1), e.next)
	}
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	e.listener = s.hub.join()
	if e.listener == nil {
		w.Header().Set("Retry-After", "5")
		plain(w, http.StatusServiceUnavailable, "stopping, or too many streams: try again")
		return
	}
	defer s.hub.leave(e.listener)
	if after != "" { // what came to earlier seconds since that one was sent
		e.since = time.Unix(e.next, 0).Add(-recent).UnixMicro()
	}
	s.streams.Inc()
	defer s.streams.Dec()
	if err := e.send(r.Context()); err != nil && r.Context().Err() == nil {
		s.cfg.Logger.Debug("a stream ended", "error", err)
	}
}

// events is a stream that is being sent.
type events struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	server   *Server
	filter   filter
	listener *listener
	next     int64              // second to be sent next
	since    int64              // sequence from which changes of earlier seconds are still to be looked for, 0 for none
	late     map[int64]struct{} // seconds to be sent again
	told     time.Time
	beat     time.Time
}

func (e *events) send(ctx context.Context) error {
	if err := e.write(": drain\nretry: 2000\n\n"); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, on := <-e.listener.wake:
			if !on {
				return nil // stopping
			}
		}
		if err := e.tell(ctx); err != nil {
			return err
		}
	}
}

// tell sends what is new. What the ledger does not answer comes later.
func (e *events) tell(ctx context.Context) error {
	touched := e.server.hub.take(e.listener)
	now := time.Now()
	if e.since > 0 {
		if earlier, _, err := e.server.cfg.Ledger.Touched(ctx, e.since); err == nil {
			touched, e.since = append(touched, earlier...), 0
		}
	}
	for _, second := range touched {
		if second < e.next {
			e.late[second] = struct{}{}
		}
	}
	until := now.Add(-settled).Unix() // it has not ended
	for from := e.next; from < until; from = e.next {
		if err := e.points(ctx, from, min(until, from+readAtOnce), ""); err != nil {
			return err
		}
		if e.next == from {
			break // Redis is away
		}
	}
	late := slices.Sorted(maps.Keys(e.late))
	for len(late) > 0 { // seconds that follow each other are read together
		n := 1
		for n < len(late) && n < readAtOnce && late[n] == late[n-1]+1 {
			n++
		}
		if late[0] < now.Unix()-window.Resolutions[0].Keep {
			delete(e.late, late[0])
			n = 1
		} else if err := e.points(ctx, late[0], late[n-1]+1, "correction"); err != nil {
			return err
		}
		late = late[n:]
	}
	if now.Sub(e.told) >= statusEvery {
		e.told = now
		if err := e.status(ctx, now); err != nil {
			return err
		}
	}
	if now.Sub(e.beat) >= heartbeatEvery {
		e.beat = now
		return e.write(":\n\n")
	}
	return nil
}

// points sends the points from a second until another, or none of them where Redis does not answer.
func (e *events) points(ctx context.Context, from, until int64, event string) error {
	if until-from > few {
		if !e.server.enterPlace(ctx) {
			return ctx.Err()
		}
	}
	var text bytes.Buffer
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := e.server.points(within, pace{1, from, until, window.Resolutions[0]}, &e.filter, func(start int64, sum *window.Stats) error {
		data, err := json.Marshal(pointOf(start, sum))
		if event != "" {
			fmt.Fprintf(&text, "event: %s\ndata: %s\n\n", event, data)
		} else {
			fmt.Fprintf(&text, "id: %d\ndata: %s\n\n", start, data)
		}
		return err
	})
	if until-from > few {
		<-e.server.places
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		e.server.cfg.Logger.Debug("a stream waits for Redis", "error", err)
		return nil
	}
	if err := e.write(text.String()); err != nil {
		return err
	}
	for second := from; second < until; second++ {
		delete(e.late, second)
	}
	e.next = max(e.next, until)
	return nil
}

// status tells how the counting goes.
func (e *events) status(ctx context.Context, now time.Time) error {
	var s struct {
		Now      string `json:"now"`
		Lag      int64  `json:"lag"`
		Records  int64  `json:"records"`
		Skipped  int64  `json:"skipped"`
		Repeated int64  `json:"repeated"`
		LateMS   int64  `json:"late_ms"`
		Redis    string `json:"redis"`
		Ready    string `json:"ready"`
	}
	s.Now, s.Redis, s.Ready = now.UTC().Format(time.RFC3339Nano), e.server.hub.redis(), "ok"
	if err := e.server.cfg.Ready(); err != nil {
		s.Ready = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, statusEvery)
	defer cancel()
	if p, err := e.server.progress(ctx); err == nil {
		s.Records, s.Skipped, s.Repeated = p.Records, p.Skipped, p.Repeated
		for _, x := range p.Positions {
			if lag := x.End - x.Next; lag > 0 {
				s.Lag += lag
				if !x.At.IsZero() {
					s.LateMS = max(s.LateMS, now.Sub(x.At).Milliseconds())
				}
			}
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return e.write(fmt.Sprintf("event: status\ndata: %s\n\n", data))
}

// write sends text at once. Who does not take it in time is left.
func (e *events) write(text string) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	if _, err := e.w.Write([]byte(text)); err != nil {
		return err
	}
	return e.control.Flush()
}
