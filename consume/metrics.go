package consume

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are a group's figures.
type metrics struct {
	records, bytes, lost, rebalances prometheus.Counter
	errors                           map[string]prometheus.Counter
	commit                           prometheus.Histogram
}

// What can fail, as the metric says it.
const (
	whatGroup      = "group"
	whatFetch      = "fetch"
	whatOffset     = "offset"
	whatCorrupt    = "corrupt"
	whatCommit     = "commit"
	whatAssignment = "assignment"
	whatHandler    = "handler"
)

var whats = []string{whatGroup, whatFetch, whatOffset, whatCorrupt, whatCommit, whatAssignment, whatHandler}

func newMetrics(reg prometheus.Registerer, g *Group) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		records: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_consumer_records_total", Help: "Records that were given to the handler, and taken.",
		}),
		bytes: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_consumer_bytes_total", Help: "Bytes of record batches that were fetched, as they are stored.",
		}),
		lost: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_consumer_lost_total", Help: "Records that Kafka deleted before they were read.",
		}),
		rebalances: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_consumer_rebalances_total", Help: "Generations of the group that this member took part in.",
		}),
		commit: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_consumer_commit_seconds", Help: "Time that a commit of offsets to Kafka took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}),
		errors: make(map[string]prometheus.Counter),
	}
	errors := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_consumer_errors_total", Help: "What failed and was tried again, but corrupt: record batches that were left out.",
	}, []string{"what"})
	for _, what := range whats {
		m.errors[what] = errors.WithLabelValues(what)
	}
	reg.MustRegister(lags{g})
	return m
}

func (m *metrics) failed(what string) { m.errors[what].Inc() }

// lags are collected of the partitions that are assigned at the time, and of no others.
type lags struct{ *Group }

var lagDesc = prometheus.NewDesc("drain_consumer_lag_records", "Records of an assigned partition that are not done yet.", []string{"partition"}, nil)

// Describe implements prometheus.Collector.
func (l lags) Describe(ch chan<- *prometheus.Desc) { ch <- lagDesc }

// Collect implements prometheus.Collector.
func (l lags) Collect(ch chan<- prometheus.Metric) {
	for _, p := range l.Lag() {
		ch <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, float64(p.Lag), strconv.Itoa(p.Partition))
	}
}
