package tally

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// result is what became of a record.
type result int

const (
	counted result = iota
	repeated
	notJSON
	otherShape
	tooOld
	numResults
)

var resultNames = [numResults]string{"counted", "repeated", "not_json", "other_shape", "too_old"}

type metrics struct {
	records   [numResults]prometheus.Counter
	moved     prometheus.Counter
	forgotten prometheus.Counter
	movedOn   prometheus.Counter
	failures  prometheus.Counter
	commit    prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		moved:     counter("drain_metrics_moved_total", "Records counted at the time at which Kafka got them, since their own was missing or in the future."),
		forgotten: counter("drain_metrics_seen_forgotten_total", "Frames (of more than 64 records: each 64) forgotten before ten minutes were over, for want of room: if their senders repeat them now, they count twice."),
		movedOn:   counter("drain_metrics_moved_on_total", "Times that another process had counted what this one was about to; it was not counted again."),
		failures:  counter("drain_metrics_redis_failures_total", "Attempts to add to Redis that failed; they are repeated."),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_metrics_commit_seconds", Help: "From when records were taken together until they and their offsets were in Redis.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
	r.MustRegister(m.commit)
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_metrics_records_total", Help: "Records that are in Redis with their offsets, by what became of them: counted, repeated (not counted), not_json, other_shape, too_old (left out).",
	}, []string{"result"})
	r.MustRegister(records)
	for i, name := range resultNames {
		m.records[i] = records.WithLabelValues(name)
	}
	return m
}

func (m *metrics) appended(p *pending, took time.Duration) {
	for i, n := range p.counts {
		m.records[i].Add(float64(n))
	}
	m.moved.Add(float64(p.moved))
	m.commit.Observe(took.Seconds())
}

// atomicError holds an error or none.
type atomicError struct{ p atomic.Pointer[error] }

func (a *atomicError) set(err error) { a.p.Store(&err) }
func (a *atomicError) get() error    { return *a.p.Load() }
