package httpapi

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drain/publish"
)

// frameResult is what became of a frame.
type frameResult uint8

const (
	frameCommitted frameResult = iota
	frameDuplicate
	frameQueued
	frameRefused
	frameUnauthorized
	frameMalformed
	numFrameResults
)

var frameResults = [numFrameResults]string{"committed", "duplicate", "queued", "refused", "unauthorized", "malformed"}

var answers = []int{200, 400, 401, 404, 405, 413, 500, 503}

// metrics are the door's figures, every label value made beforehand.
type metrics struct {
	requests map[int]prometheus.Counter
	closed   prometheus.Counter
	frames   [numFrameResults]prometheus.Counter
	ack      prometheus.Histogram
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, b *publish.Budget) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		requests: make(map[int]prometheus.Counter),
		panics:   auto.NewCounter(prometheus.CounterOpts{Name: "drain_panics_total", Help: "Requests that ended in a fault of drain's own."}),
		ack: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_ack_seconds", Help: "Time from a body's last byte to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_inflight_bytes", Help: "Bytes held for requests: bodies being read, records not committed yet.",
	}, func() float64 { return float64(b.Used()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_inflight_limit_bytes", Help: "MAX_INFLIGHT: what drain_inflight_bytes can be at most.",
	}, func() float64 { return float64(b.Size()) })
	requests := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_requests_total", Help: "Requests by the status they were answered with.",
	}, []string{"code"})
	for _, code := range answers {
		m.requests[code] = requests.WithLabelValues(strconv.Itoa(code))
	}
	m.closed = requests.WithLabelValues("closed")
	frames := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_frames_total", Help: "Frames by what became of them.",
	}, []string{"result"})
	for i, result := range frameResults {
		m.frames[i] = frames.WithLabelValues(result)
	}
	return m
}
