package logplex

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Fate is what became of a line, as far as its sender knows.
type Fate uint8

const (
	// Acknowledged lines were answered 2xx.
	Acknowledged Fate = iota
	// Overflow: the sender's own buffer was full, and the line the oldest in it.
	Overflow
	// Refused: answered with a 4xx.
	Refused
	// Dropped: after three tries.
	Dropped
	// Unfinished: the sender ended before.
	Unfinished
	numFates
)

var fates = [numFates]string{"acknowledged", "overflow", "refused", "dropped", "unfinished"}

func (f Fate) String() string { return fates[f] }

// Stretch is lines From to To (not included) of a drain, which share a fate.
type Stretch struct {
	Drain    uint16
	From, To int64
	Fate     Fate
}

// Report is what became of the lines that were sent. It is safe for concurrent
// use.
type Report struct {
	cfg   Config
	began time.Time

	mu        sync.Mutex // guards the following
	stretches []Stretch
	lastOf    map[uint16]int // a drain's last stretch
	sent      int64
	count     [numFates]int64
	retried   int64
	bytes     int64
	frames    int64
	answers   map[string]int64
	refusal   string                  // the last one
	latency   *hdrhistogram.Histogram // µs, of acknowledged lines from when they were due
	answer    *hdrhistogram.Histogram // µs, of requests, however they ended
	took      time.Duration           // once it has ended
}

// maxLatency is what the histogram can tell, in µs.
const maxLatency = int64(time.Hour / time.Microsecond)

func newReport(cfg Config) *Report {
	return &Report{cfg: cfg, lastOf: make(map[uint16]int), answers: make(map[string]int64), latency: hdrhistogram.New(1, maxLatency, 3), answer: hdrhistogram.New(1, maxLatency, 3)}
}

func (r *Report) send(n int64) {
	r.mu.Lock()
	r.sent += n
	r.mu.Unlock()
}

func (r *Report) retry() {
	r.mu.Lock()
	r.retried++
	r.mu.Unlock()
}

func (r *Report) answered(status int, text string, err error, took time.Duration) {
	name, refusal := strconv.Itoa(status), ""
	switch {
	case err != nil:
		name = "error"
		refusal = err.Error()
		var inner *url.Error
		if errors.As(err, &inner) {
			refusal = inner.Err.Error() // without the URL, in which there may be a secret
		}
	case status/100 != 2:
		refusal = name + " " + text
	}
	r.mu.Lock()
	if refusal != "" && (r.refusal == "" || !errors.Is(err, context.Canceled)) { // the end of the run says nothing of the endpoint
		r.refusal = refusal
	}
	r.answers[name]++
	_ = r.answer.RecordValue(min(maxLatency, max(1, took.Microseconds()))) // in its range
	r.mu.Unlock()
}

func (r *Report) lose(drain uint16, lines []line, fate Fate) {
	r.mu.Lock()
	r.note(drain, lines, fate)
	r.mu.Unlock()
}

// acknowledge notes a frame that was taken at now: each line's latency is from the
// moment at which it was due.
func (r *Report) acknowledge(drain uint16, lines []line, now time.Time, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(drain, lines, Acknowledged)
	r.bytes += int64(bytes)
	r.frames++
	for i := 0; i < len(lines); {
		same := i + 1
		for same < len(lines) && lines[same].due.Equal(lines[i].due) {
			same++
		}
		_ = r.latency.RecordValues(min(maxLatency, max(1, now.Sub(lines[i].due).Microseconds())), int64(same-i)) // in its range
		i = same
	}
}

func (r *Report) note(drain uint16, lines []line, fate Fate) {
	r.count[fate] += int64(len(lines))
	for i := 0; i < len(lines); {
		j := i + 1
		for j < len(lines) && lines[j].n == lines[j-1].n+1 {
			j++
		}
		from, to := lines[i].n, lines[j-1].n+1
		i = j
		if k, ok := r.lastOf[drain]; ok && r.stretches[k].Fate == fate && r.stretches[k].To == from {
			r.stretches[k].To = to
			continue
		}
		r.lastOf[drain] = len(r.stretches)
		r.stretches = append(r.stretches, Stretch{drain, from, to, fate})
	}
}

func (r *Report) end() {
	r.mu.Lock()
	r.took = time.Since(r.began)
	r.mu.Unlock()
}

// Stretches are all lines and their fates, in no order. It is called once all has
// ended.
func (r *Report) Stretches() []Stretch { return r.stretches }

// Summary is a report in figures.
type Summary struct {
	Sent         int64            `json:"sent"`
	Acknowledged int64            `json:"acknowledged"`
	Lost         int64            `json:"lost"`
	LostBy       map[string]int64 `json:"lost_by"`
	Frames       int64            `json:"frames"` // acknowledged
	Retried      int64            `json:"retried"`
	Answers      map[string]int64 `json:"answers"`
	LastError    string           `json:"last_error,omitempty"` // or refusal, with what it said
	Bytes        int64            `json:"bytes"`
	Seconds      float64          `json:"seconds"`
	LinesPerS    float64          `json:"lines_per_s"` // acknowledged
	LatencyMS    Latency          `json:"latency_ms"`  // of acknowledged lines, from when they were due
	AnswerMS     Latency          `json:"answer_ms"`   // of requests, however they ended
	Histogram    []Bucket         `json:"histogram"`   // of LatencyMS
}

// Bucket counts the lines whose latency was at most MS, and more than the bucket's
// before it, which is half of that.
type Bucket struct {
	MS    float64 `json:"ms"`
	Lines int64   `json:"lines"`
}

// buckets doubles from 1/4 ms on until all of h is in.
func buckets(h *hdrhistogram.Histogram) (all []Bucket) {
	bars := h.Distribution()
	for limit, i := int64(250), 0; i < len(bars); limit *= 2 {
		b := Bucket{MS: float64(limit) / 1000}
		for ; i < len(bars) && bars[i].To <= limit; i++ {
			b.Lines += bars[i].Count
		}
		if b.Lines > 0 || len(all) > 0 {
			all = append(all, b)
		}
	}
	for len(all) > 0 && all[len(all)-1].Lines == 0 {
		all = all[:len(all)-1]
	}
	return all
}

// Latency is a distribution in ms.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func (r *Report) summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	took := r.took
	if took == 0 {
		took = time.Since(r.began)
	}
	s := Summary{Sent: r.sent, Acknowledged: r.count[Acknowledged], LostBy: make(map[string]int64), Frames: r.frames,
		Retried: r.retried, LastError: r.refusal, Answers: make(map[string]int64), Bytes: r.bytes, Seconds: took.Seconds()}
	s.LinesPerS = float64(s.Acknowledged) / s.Seconds
	for f := Overflow; f < numFates; f++ {
		s.Lost += r.count[f]
		s.LostBy[f.String()] = r.count[f]
	}
	for name, n := range r.answers {
		s.Answers[name] = n
	}
	s.LatencyMS, s.AnswerMS = distribution(r.latency), distribution(r.answer)
	s.Histogram = buckets(r.latency)
	return s
}

func distribution(h *hdrhistogram.Histogram) (l Latency) {
	if h.TotalCount() == 0 {
		return l
	}
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Latency{at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1000}
}

// Summary is the report in figures.
func (r *Report) Summary() Summary { return r.summary() }
