package stream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// failure is why a connection ended, or lost a message, as it should not have.
type failure uint8

const (
	failedHandshake failure = iota
	failedConnection
	failedMemory
	failedByFault
	numFailures
)

var failures = [numFailures]string{"handshake", "connection", "memory", "fault"}

// metrics are the door's figures, every label value made beforehand. What the messages
// are, package intake counts.
type metrics struct {
	connections prometheus.Gauge
	bytes       prometheus.Counter
	commit      prometheus.Histogram
	failures    [numFailures]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		connections: auto.NewGauge(prometheus.GaugeOpts{Name: "drain_syslog_connections", Help: "Syslog drains that are connected."}),
		bytes:       auto.NewCounter(prometheus.CounterOpts{Name: "drain_syslog_bytes_total", Help: "Bytes that syslog drains sent."}),
		commit: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_syslog_commit_seconds", Help: "Time from reading messages of a syslog drain to their commit.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}),
	}
	failed := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_syslog_failures_total", Help: "Connections of syslog drains, or messages of theirs, that failed, by reason.",
	}, []string{"reason"})
	for i, reason := range failures {
		m.failures[i] = failed.WithLabelValues(reason)
	}
	return m
}
