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

// kinds of messages, as drain_messages_total counts them.
const (
	kindRouter = iota
	kindOther
	kindMalformed
	numKinds
)

var (
	kinds     = [numKinds]string{"router", "other", "malformed"}
	lossCodes = [3]string{"L10", "L12", "L13"}
	answers   = []int{200, 400, 401, 404, 405, 413, 500, 503}
)

// metrics are the door's figures, every label value made beforehand.
type metrics struct {
	requests   map[int]prometheus.Counter
	closed     prometheus.Counter
	frames     [numFrameResults]prometheus.Counter
	messages   [numKinds]prometheus.Counter
	loss       [len(lossCodes)]prometheus.Counter
	redactions prometheus.Counter
	forged     prometheus.Counter
	truncated  prometheus.Counter
	badCounts  prometheus.Counter
	unusual    prometheus.Counter
	ack        prometheus.Histogram
	panics     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, b *publish.Budget) *metrics {
	auto := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		requests:   make(map[int]prometheus.Counter),
		redactions: counter("drain_redactions_total", "Values taken out of records because they may be secrets."),
		forged:     counter("drain_forged_total", "Router lines in which a client wrote fields of its own; their records carry the line."),
		truncated:  counter("drain_truncated_total", "Router records of lines that were cut, or that were too large."),
		badCounts:  counter("drain_bad_counts_total", "Messages whose octet count did not fit; they are read all the same."),
		unusual:    counter("drain_unusual_lines_total", "Router lines that are not as the router writes most today, and took the general way."),
		panics:     counter("drain_panics_total", "Requests that ended in a fault of drain's own."),
		ack: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_ack_seconds", Help: "Time from a body's last byte to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_inflight_bytes", Help: "Bytes held for requests: bodies being read, records not committed yet.",
	}, func() float64 { return float64(b.Used()) })
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
	messages := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_messages_total", Help: "Messages of the frames that were taken.",
	}, []string{"kind"})
	for i, kind := range kinds {
		m.messages[i] = messages.WithLabelValues(kind)
	}
	loss := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_lost_upstream_total", Help: "Messages that the sender says it lost, by its code.",
	}, []string{"code"})
	for i, code := range lossCodes {
		m.loss[i] = loss.WithLabelValues(code)
	}
	return m
}
