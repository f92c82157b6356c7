package intake

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drain/syslog"
)

// kinds of messages, as drain_messages_total counts them.
const (
	kindRouter = iota
	kindOther
	kindMalformed
	numKinds
)

var (
	kinds     = [numKinds]string{"router", "other", "malformed"}
	lossCodes = [...]string{"L10", "L12", "L13"}
)

// Loss is how many messages a sender says it lost: L10, L12 and L13.
type Loss [len(lossCodes)]int64

// maxLoss bounds what one notice is believed, so that no frame's sum overflows.
const maxLoss = 1 << 32

// notice adds what a message says, if it is a notice.
func (l *Loss) notice(m *syslog.Message) {
	if code, n, ok := m.Loss(); ok {
		for i := range lossCodes {
			if lossCodes[i] == code {
				l[i] += min(n, maxLoss)
			}
		}
	}
}

// metrics are what intakes count, every label value made beforehand.
type metrics struct {
	messages   [numKinds]prometheus.Counter
	loss       [len(lossCodes)]prometheus.Counter
	redactions prometheus.Counter
	forged     prometheus.Counter
	truncated  prometheus.Counter
	badCounts  prometheus.Counter
	unusual    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		redactions: counter("drain_redactions_total", "Values taken out of records because they may be secrets."),
		forged:     counter("drain_forged_total", "Router lines in which a client wrote fields of its own; their records carry the line."),
		truncated:  counter("drain_truncated_total", "Router records of lines that were cut, or that were too large."),
		badCounts:  counter("drain_bad_counts_total", "Messages whose octet count did not fit; they are read all the same."),
		unusual:    counter("drain_unusual_lines_total", "Router lines that are not as the router writes most today, and took the general way."),
	}
	messages := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_messages_total", Help: "Messages that were taken.",
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
