package replay

import (
	"cmp"
	"math"
	"strings"
	"time"

	"drain/router"
	"drain/routes"
	"drain/window"
)

// Report gathers what became of the requests, in memory that does not grow with their number.
// It is not for concurrent use.
type Report struct {
	rules  *routes.Rules
	table  *routes.Table
	routes map[routes.Name]*tally
	all    tally
	counts Counts
	late   window.Times // tenths of a millisecond
	isLate [numHeld]int64
	series series
	first  int64 // recorded, microseconds since 1970
	last   int64
	// stopped counts those whose answers were not waited for.
	stopped int64
}

// tally is of the requests of one route, or of all.
type tally struct {
	sent     int64
	pairs    map[pair]int64
	failures [numFailures]int64
	// recorded and measured are in tenths of a millisecond, of the answers that have the status
	// that was recorded.
	recorded, measured  window.Times
	bytesThen, bytesNow float64
	examples            []Example
}

// pair is a status as recorded, 0 for none, and as answered, 0 for no answer.
type pair struct{ recorded, answered int16 }

// maxRoutes bounds the routes that are kept, with those that the table has given up: of more, those that would not be
// shown are put together.
const maxRoutes = 2 * routes.MaxRoutes

// maxPairs bounds the pairs of a route: of more, statuses are their classes' lowest, and an answer that differs within its
// class is the highest.
const maxPairs = 100

// maxExamples is how many requests that differ are kept of a route.
const maxExamples = 5

// unit is what times are counted in.
const unit = 100 * time.Microsecond

// units are milliseconds in units. What clients can forge may be any number: beyond some days it does not matter.
func units(ms int64) int64 { return min(ms, math.MaxInt32) * int64(time.Millisecond/unit) }

// NewReport makes a Report; rules may be nil.
func NewReport(rules *routes.Rules) *Report {
	return &Report{rules: rules, table: routes.NewTable(rules), routes: make(map[routes.Name]*tally), first: math.MaxInt64, last: math.MinInt64}
}

// Counts are records that were read, by what became of them.
type Counts struct {
	Reasons [numReasons]int64
	Escaped int64 // of those chosen
}

// Add counts a record.
func (c *Counts) Add(s Seen) {
	c.Reasons[s.Reason]++
	if s.Escaped {
		c.Escaped++
	}
}

// Saw counts records that were read.
func (r *Report) Saw(c *Counts) {
	for reason, n := range c.Reasons {
		r.counts.Reasons[reason] += n
	}
	r.counts.Escaped += c.Escaped
}

// Read is how many records were read, and why some are not sent.
func (r *Report) Read() (all int64, skipped map[string]int64) {
	skipped = make(map[string]int64)
	for reason, n := range r.counts.Reasons {
		all += n
		if n > 0 && Reason(reason) != Chosen {
			skipped[Reason(reason).String()] = n
		}
	}
	return all, skipped
}

// Sent counts a request, which stays the caller's.
func (r *Report) Sent(s *Sent) {
	if s.Failure == Stopped {
		r.stopped++
		return
	}
	if s.Time != router.NoTime {
		r.first, r.last = min(r.first, s.Time), max(r.last, s.Time)
	}
	name := r.table.Route([]byte(s.Method), s.Path, int(max(s.Request.Status, 0))).Name
	t := r.routes[name]
	if t == nil && len(r.routes) >= maxRoutes {
		r.routes = r.folded()
		t = r.routes[name]
	}
	if t == nil {
		t = new(tally)
		r.routes[name] = t
	}
	p := pair{status(s.Request.Status), 0}
	if s.Failure == Answered {
		p.answered = status(int64(s.Outcome.Status))
	}
	t.add(s, p)
	r.all.add(s, p)
	if differs(p) && len(t.examples) < maxExamples {
		t.examples = append(t.examples, Example{ID: text(s.ID), Method: s.Method, Path: text(s.Target), Recorded: int(p.recorded), Answered: int(p.answered), Failure: failure(s.Failure)})
	}
	r.late.Add(int64(s.Late / unit))
	if s.Late > LateAfter {
		r.isLate[s.Held]++
	}
	r.series.add(s, differs(p))
}

func (t *tally) add(s *Sent, p pair) {
	t.sent++
	t.failures[s.Failure]++
	t.count(p, 1)
	if !alike(s) {
		return
	}
	t.recorded.Add(units(s.Service))
	t.measured.Add(int64(s.Took / unit))
	t.bytesThen += float64(max(s.Request.Bytes, 0))
	t.bytesNow += float64(s.Outcome.Bytes)
}

// count counts requests of a pair, or of its classes'.
func (t *tally) count(p pair, n int64) {
	if t.pairs == nil {
		t.pairs = make(map[pair]int64)
	}
	if _, known := t.pairs[p]; !known && len(t.pairs) >= maxPairs {
		p = p.coarse()
	}
	t.pairs[p] += n
}

// coarse is a pair of classes that differs if p does.
func (p pair) coarse() pair {
	c := pair{p.recorded / 100 * 100, p.answered / 100 * 100}
	switch {
	case p.answered == 200 && !differs(p):
		return p // for 304 and 206
	case differs(p) && !differs(c):
		c.answered += 99
	}
	return c
}

// status keeps a status to those that HTTP can have; 0 is none.
func status(s int64) int16 {
	if s < 100 || s > 999 {
		return 0
	}
	return int16(s)
}

// differs tells whether an answer is another one than was recorded. 304 and 206 answer requests with conditions and
// ranges (RFC 9110, 13 and 14), which are not recorded: without those, 200 is the same answer. Where no
// status was recorded there is nothing to compare with.
func differs(p pair) bool {
	switch {
	case p.answered == 0:
		return true
	case p.recorded == 0, p.recorded == p.answered:
		return false
	case p.answered == 200:
		return p.recorded != 304 && p.recorded != 206
	}
	return true
}

// alike tells whether the times of an answer and of the recorded one say something of each other: both have the
// same status. What is answered by 304 takes another time than 200.
func alike(s *Sent) bool {
	recorded := status(s.Request.Status)
	return s.Failure == Answered && recorded != 0 && recorded == status(int64(s.Outcome.Status)) && s.Service >= 0
}

func failure(f Failure) string {
	if f == Answered {
		return ""
	}
	return f.String()
}

// text is a request's bytes as text of a bounded length.
func text(b []byte) string {
	const most = 200
	if len(b) > most {
		return strings.ToValidUTF8(string(b[:most]), "") + "…" // not a part of a rune
	}
	return string(b)
}

// series is what happened over time, in slots that become wider as the replay becomes longer.
type series struct {
	width time.Duration
	slots []slot
}

type slot struct {
	sent, differ, failed int64
	late                 time.Duration // the longest
	recorded, measured   window.Times
}

const maxSlots = 600

func (s *series) add(sent *Sent, differs bool) {
	s.width = cmp.Or(s.width, time.Second)
	for int64(sent.At/s.width) >= maxSlots {
		for i := range len(s.slots) {
			if i%2 == 0 {
				s.slots[i/2] = s.slots[i]
			} else {
				s.slots[i/2].merge(&s.slots[i])
			}
		}
		s.slots = s.slots[:(len(s.slots)+1)/2]
		s.width *= 2
	}
	i := int(sent.At / s.width)
	if i >= len(s.slots) {
		s.slots = append(s.slots, make([]slot, i+1-len(s.slots))...)
	}
	at := &s.slots[i]
	at.sent++
	at.late = max(at.late, sent.Late)
	switch {
	case sent.Failure != Answered:
		at.failed++
	case differs:
		at.differ++
	case alike(sent):
		at.recorded.Add(units(sent.Service))
		at.measured.Add(int64(sent.Took / unit))
	}
}

func (s *slot) merge(other *slot) {
	s.sent += other.sent
	s.differ += other.differ
	s.failed += other.failed
	s.late = max(s.late, other.late)
	s.recorded.Merge(&other.recorded)
	s.measured.Merge(&other.measured)
}
