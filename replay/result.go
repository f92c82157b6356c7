package replay

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"drain/routes"
	"drain/window"
)

// Result is what a Report comes to. Times are in milliseconds, shares from 0 to 1.
type Result struct {
	Target string `json:"target"`
	Source string `json:"source"` // the topic, or the file
	// Ended is why: "end", "interrupted" or "error".
	Ended string `json:"ended"`
	// Note is what else is to be known, "" for nothing.
	Note string `json:"note,omitempty"`

	Speed    float64   `json:"speed"` // 0 for max
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`  // from the first request to the end
	Recorded *Span     `json:"recorded"` // null where nothing was sent that has a time
	Requests Requests  `json:"requests"`
	Late     Lateness  `json:"late"`
	Pauses   Stretches `json:"pauses"`  // because the target failed
	Stalls   Stretches `json:"stalled"` // because there was nothing to read
	Gaps     Stretches `json:"gaps_shortened"`
	Network  Network   `json:"network"`
	Compared Compared  `json:"compared"`
	Status   []Pair    `json:"status"`
	Times    *Times    `json:"times"`
	Routes   []Route   `json:"routes"`
	Series   Series    `json:"series"`
	Verdict  Verdict   `json:"verdict"`
}

// Span is from the first to the last request that was sent, as recorded.
type Span struct {
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Seconds float64   `json:"seconds"`
}

// Requests counts records: those read are those sent, those skipped, and those that were read ahead.
type Requests struct {
	Read       int64            `json:"read"`
	Sent       int64            `json:"sent"`
	Skipped    map[string]int64 `json:"skipped"` // by Reason
	Ahead      int64            `json:"ahead"`   // read, and to be sent when the replay ended
	Escaped    int64            `json:"escaped"`
	Stopped    int64            `json:"stopped"` // sent at the end, and not counted as such: their answers were not waited for
	OutOfOrder int64            `json:"out_of_order"`
	Rounds     int              `json:"rounds"` // with --loop
}

// Lateness is how long after they were due requests were sent.
type Lateness struct {
	Requests int64            `json:"requests"` // by more than 5 ms
	Share    float64          `json:"share"`
	By       map[string]int64 `json:"by"` // what they waited for
	P50      float64          `json:"p50_ms"`
	P99      float64          `json:"p99_ms"`
	Max      float64          `json:"max_ms"`
}

// Stretches are times that were left out.
type Stretches struct {
	Times   int64   `json:"times"`
	Seconds float64 `json:"seconds"`
}

func (s Stretch) shown() Stretches { return Stretches{int64(s.Times), s.Long.Seconds()} }

// Network is what the way to the target takes: the time in which a connection was made, the shortest, which is one
// round trip without what either end was busy with. It is 0 where none was made.
type Network struct {
	RoundTrip   float64 `json:"round_trip_ms"`
	Connections int64   `json:"connections"`
	Resent      int64   `json:"resent"` // requests that met the end of a kept connection, and were sent on a new one
}

// Compared counts answers beside what was recorded.
type Compared struct {
	Same          int64            `json:"same"`
	Other         int64            `json:"other_status"`
	NoAnswer      int64            `json:"no_answer"`
	Failures      map[string]int64 `json:"failures"`
	NotRecorded   int64            `json:"no_recorded_status"`
	Unconditional int64            `json:"unconditional"` // of Same: 304 or 206 as recorded, 200 as answered
	Share         float64          `json:"differ"`        // Other and NoAnswer of all that were sent
}

// Pair is how often a status was answered where another, or the same, was recorded. 0 is none.
type Pair struct {
	Recorded int   `json:"recorded"`
	Answered int   `json:"answered"`
	Requests int64 `json:"requests"`
	Differs  bool  `json:"differs"`
}

// Quantiles are of service times.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
}

// Times compares service times, of the answers with the status that was recorded.
type Times struct {
	Requests int64     `json:"requests"`
	Recorded Quantiles `json:"recorded_ms"`
	Measured Quantiles `json:"measured_ms"` // with the network's share
	// Verdict is "slower", "faster" or "".
	Verdict string `json:"verdict"`
	// Curves are, for the page, the times that 0, 1, … 100 % are not above.
	Curves *Curves `json:"-"`
}

// Curves are quantiles in milliseconds, 101 of each.
type Curves struct{ Recorded, Measured []float64 }

// Example is a request that differs.
type Example struct {
	ID       string `json:"request_id"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Recorded int    `json:"recorded"`
	Answered int    `json:"answered"`
	Failure  string `json:"failure,omitempty"`
}

// Route is the requests of one route template.
type Route struct {
	Method    string    `json:"method"`
	Route     string    `json:"route"`
	Sent      int64     `json:"sent"`
	Differ    int64     `json:"differ"`
	Share     float64   `json:"share"`
	Status    []Pair    `json:"status"`
	Times     *Times    `json:"times"`          // null where no answer was as recorded
	BytesThen float64   `json:"recorded_bytes"` // the mean
	BytesNow  float64   `json:"measured_bytes"`
	Examples  []Example `json:"examples,omitempty"`
}

// Series is what happened over time, in steps of equal length.
type Series struct {
	StepSeconds float64 `json:"step_s"`
	Points      []Point `json:"points"`
}

// Point is one step. Times are null where there is none.
type Point struct {
	Sent     int64    `json:"sent"`
	Differ   int64    `json:"differ"`
	Failed   int64    `json:"failed"`
	Late     float64  `json:"late_ms"` // the longest
	Recorded *float64 `json:"recorded_p95_ms"`
	Measured *float64 `json:"measured_p95_ms"`
}

// Verdict is what the replay is judged by.
type Verdict struct {
	Limit  float64  `json:"fail_on_diff"` // 0 for none
	Failed bool     `json:"failed"`
	Why    []string `json:"why,omitempty"`
}

// Frame is what a Report does not know of a replay.
type Frame struct {
	Target, Source, Ended string
	Note                  string
	Speed                 float64
	Began                 time.Time
	OutOfOrder            int64
	Rounds                int
	Took                  time.Duration // from the first request to the end
	Pauses, Stalls        Stretch
	Pace                  *Pace
	RoundTrip             time.Duration
	Connections, Resent   int64
	FailOnDiff            float64 // a share; negative for none
	FailOnSlower          bool
}

// Result is what was gathered so far.
func (r *Report) Result(f Frame) *Result {
	out := &Result{
		Target: f.Target, Source: f.Source, Ended: f.Ended, Note: f.Note, Speed: f.Speed, Began: f.Began.UTC(), Seconds: f.Took.Seconds(),
		Requests: Requests{Sent: r.all.sent, Escaped: r.counts.Escaped, Stopped: r.stopped, OutOfOrder: f.OutOfOrder, Rounds: f.Rounds},
		Pauses:   f.Pauses.shown(),
		Stalls:   f.Stalls.shown(),
		Gaps:     Stretches{f.Pace.Gaps, f.Pace.Cut.Seconds()},
		Network:  Network{ms(f.RoundTrip), f.Connections, f.Resent},
		Status:   r.all.status(),
		Times:    r.all.times(f.RoundTrip),
		Routes:   r.byRoute(f.RoundTrip),
		Series:   r.series.points(),
	}
	if r.first <= r.last {
		out.Recorded = &Span{moment(r.first), moment(r.last), (float64(r.last) - float64(r.first)) / 1e6}
	}
	out.Requests.Read, out.Requests.Skipped = r.Read()
	out.Requests.Ahead = max(r.counts.Reasons[Chosen]-r.all.sent-r.stopped, 0)
	out.Late = r.lateness()
	out.Compared = r.all.compared()
	out.Verdict = verdict(out, f)
	return out
}

// moment is a recorded time, or the first or the last one that JSON can have.
func moment(micros int64) time.Time {
	const first, last = -62_167_219_200e6, 253_402_300_800e6 - 1 // the years 0 to 9999
	return time.UnixMicro(min(max(micros, first), last)).UTC()
}

func (r *Report) lateness() Lateness {
	l := Lateness{By: make(map[string]int64)}
	for held, n := range r.isLate {
		if n > 0 {
			l.Requests += n
			l.By[Held(held).String()] = n
		}
	}
	if r.all.sent > 0 {
		var h window.Histogram
		h.Add(&r.late)
		l.Share = float64(l.Requests) / float64(r.all.sent)
		l.P50, l.P99, l.Max = tenths(h.Quantile(0.5)), tenths(h.Quantile(0.99)), tenths(h.Quantile(1))
	}
	return l
}

// tenths is a number of units in milliseconds.
func tenths(units float64) float64 { return units / float64(time.Millisecond/unit) }

func ms(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }

func (t *tally) status() []Pair {
	out := make([]Pair, 0, len(t.pairs))
	for p, n := range t.pairs {
		out = append(out, Pair{int(p.recorded), int(p.answered), n, differs(p)})
	}
	slices.SortFunc(out, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.Recorded, b.Recorded), cmp.Compare(a.Answered, b.Answered))
	})
	return out
}

func (t *tally) compared() Compared {
	c := Compared{Failures: make(map[string]int64)}
	for p, n := range t.pairs {
		switch {
		case p.answered == 0:
			c.NoAnswer += n
		case p.recorded == 0:
			c.NotRecorded += n
		case differs(p):
			c.Other += n
		default:
			c.Same += n
			if p.recorded != p.answered {
				c.Unconditional += n
			}
		}
	}
	for f, n := range t.failures {
		if n > 0 && Failure(f) != Answered {
			c.Failures[Failure(f).String()] = n
		}
	}
	if t.sent > 0 {
		c.Share = float64(c.Other+c.NoAnswer) / float64(t.sent)
	}
	return c
}

// The routes' times differ when it is certain enough that they do, and much: the intervals in which the quantiles are, of
// three standard errors of their rank, are further apart than tolerance or a quarter. A quantile is not judged by where fewer than
// tail answers are beyond it: it has no such interval then.
const (
	errors3   = 3
	tolerance = 20 // ms
	aQuarter  = 0.25
	tail      = 10
)

func (t *tally) times(network time.Duration) *Times {
	var then, now window.Histogram
	then.Add(&t.recorded)
	now.Add(&t.measured)
	if then.Count == 0 {
		return nil
	}
	out := &Times{Requests: then.Count, Recorded: quantiles(&then), Measured: quantiles(&now), Curves: curves(&then, &now)}
	way := ms(network)
	for _, q := range []float64{0.5, 0.95, 0.99} {
		if (1-q)*float64(then.Count) < tail-1e-9 {
			break
		}
		step := errors3 * math.Sqrt(q*(1-q)/float64(then.Count))
		low := func(h *window.Histogram) float64 { return tenths(h.Quantile(max(q-step, 0))) }
		high := func(h *window.Histogram) float64 { return tenths(h.Quantile(min(q+step, 1))) }
		much := max(tolerance, aQuarter*tenths(then.Quantile(q)))
		if low(&now)-way > high(&then)+much {
			out.Verdict = Slower
			break
		}
		if high(&now)-way < low(&then)-much && out.Verdict == "" {
			out.Verdict = Faster
		}
	}
	return out
}

// What Times say of a route.
const (
	Slower = "slower"
	Faster = "faster"
)

func quantiles(h *window.Histogram) Quantiles {
	return Quantiles{tenths(h.Quantile(0.5)), tenths(h.Quantile(0.95)), tenths(h.Quantile(0.99)), tenths(h.Mean()), tenths(float64(h.Max))}
}

// curves asks both at the same places.
func curves(then, now *window.Histogram) *Curves {
	c := new(Curves)
	for i := range 101 {
		q := float64(i) / 100
		c.Recorded, c.Measured = append(c.Recorded, tenths(then.Quantile(q))), append(c.Measured, tenths(now.Quantile(q)))
	}
	return c
}

// folded is the routes as they are shown.
func (r *Report) folded() map[routes.Name]*tally {
	counts := make(map[routes.Name]int, len(r.routes))
	for name, t := range r.routes {
		counts[name] = int(t.sent)
	}
	names := routes.Fold(counts, r.rules)
	folded := make(map[routes.Name]*tally)
	for _, from := range slices.SortedFunc(maps.Keys(names), func(a, b routes.Name) int {
		return cmp.Or(cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method))
	}) {
		into := folded[names[from]]
		if into == nil {
			into = new(tally)
			folded[names[from]] = into
		}
		into.merge(r.routes[from])
	}
	return folded
}

// byRoute is the routes, those that differ most first, then the slower ones, then the busiest.
func (r *Report) byRoute(network time.Duration) []Route {
	folded := r.folded()
	out := make([]Route, 0, len(folded))
	for name, t := range folded {
		c := t.compared()
		route := Route{Method: name.Method, Route: name.Template, Sent: t.sent, Differ: c.Other + c.NoAnswer, Share: c.Share, Status: t.status(), Times: t.times(network), Examples: t.examples}
		if route.Times != nil {
			route.BytesThen, route.BytesNow = t.bytesThen/float64(route.Times.Requests), t.bytesNow/float64(route.Times.Requests)
		}
		out = append(out, route)
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Differ, a.Differ), cmp.Compare(b.excess(), a.excess()), cmp.Compare(b.Sent, a.Sent),
			cmp.Compare(a.Route, b.Route), cmp.Compare(a.Method, b.Method))
	})
	return out
}

// excess is how much slower a route is, if it is called slower: the means' difference for each request.
func (r *Route) excess() float64 {
	if r.Times == nil || r.Times.Verdict != Slower {
		return 0
	}
	return max(r.Times.Measured.Mean-r.Times.Recorded.Mean, 0) * float64(r.Sent)
}

func (t *tally) merge(other *tally) {
	t.sent += other.sent
	for _, p := range other.status() {
		t.count(pair{int16(p.Recorded), int16(p.Answered)}, p.Requests)
	}
	for f, n := range other.failures {
		t.failures[f] += n
	}
	t.recorded.Merge(&other.recorded)
	t.measured.Merge(&other.measured)
	t.bytesThen += other.bytesThen
	t.bytesNow += other.bytesNow
	t.examples = append(t.examples, other.examples[:min(len(other.examples), maxExamples-len(t.examples))]...)
}

func (s *series) points() Series {
	out := Series{StepSeconds: s.width.Seconds(), Points: make([]Point, 0, len(s.slots))}
	p95 := func(t *window.Times) *float64 {
		var h window.Histogram
		if h.Add(t); h.Count == 0 {
			return nil
		}
		v := tenths(h.Quantile(0.95))
		return &v
	}
	for i := range s.slots {
		at := &s.slots[i]
		out.Points = append(out.Points, Point{at.sent, at.differ, at.failed, ms(at.late), p95(&at.recorded), p95(&at.measured)})
	}
	return out
}

// verdict judges by what was asked for.
func verdict(out *Result, f Frame) Verdict {
	v := Verdict{Limit: max(f.FailOnDiff, 0)}
	if (f.FailOnDiff >= 0 || f.FailOnSlower) && out.Requests.Sent == 0 {
		v.Why = append(v.Why, "nothing was sent, so nothing was compared")
	}
	// 0.7 % are less than 7 of 1000 as floats.
	if f.FailOnDiff >= 0 && float64(out.Compared.Other+out.Compared.NoAnswer) > f.FailOnDiff*float64(out.Requests.Sent)+1e-6 {
		v.Why = append(v.Why, fmt.Sprintf("%s of the answers differ, more than %s", percent(out.Compared.Share), percent(f.FailOnDiff)))
	}
	if f.FailOnSlower {
		for i := range out.Routes {
			if r := &out.Routes[i]; r.Times != nil && r.Times.Verdict == Slower {
				v.Why = append(v.Why, fmt.Sprintf("%s is slower", r.name()))
			}
		}
	}
	v.Failed = len(v.Why) > 0
	return v
}

// percent shows a share with as many places as it needs to be told from 0 and 100 %.
func percent(share float64) string {
	p := share * 100
	switch rest := min(p, 100-p); {
	case rest <= 0:
		return fmt.Sprintf("%.0f%%", p)
	case rest < 1:
		return strings.TrimRight(strconv.FormatFloat(p, 'f', 1-int(math.Floor(math.Log10(rest))), 64), "0") + "%"
	default:
		return fmt.Sprintf("%.1f%%", p)
	}
}
