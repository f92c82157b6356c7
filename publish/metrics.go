package publish

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the publisher's figures, with every label value made beforehand:
// the hot path looks nothing up.
type metrics struct {
	records      *prometheus.CounterVec
	recovered    prometheus.Counter
	batchRecords prometheus.Histogram
	batchBytes   prometheus.Histogram
	sealed       [numSealReasons]prometheus.Counter
	retries      map[string]prometheus.Counter
	throttled    prometheus.Counter
	produce      prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		records: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "drain_records_total", Help: "Records by topic and by what became of them.",
		}, []string{"topic", "result"}),
		recovered: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_recovered_total", Help: "Records committed although their request had been answered 503.",
		}),
		batchRecords: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_batch_records", Help: "Records in a committed batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		batchBytes: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_batch_bytes", Help: "Bytes of a committed batch as sent.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 7),
		}),
		produce: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "drain_produce_seconds", Help: "Time of the produce request that committed a batch.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		throttled: auto.NewCounter(prometheus.CounterOpts{
			Name: "drain_throttled_seconds_total", Help: "Time for which brokers asked not to be written to, because a quota is used up.",
		}),
		retries: make(map[string]prometheus.Counter),
	}
	sealed := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_batches_total", Help: "Batches by what sealed them.",
	}, []string{"sealed_by"})
	for i, reason := range sealReasons {
		m.sealed[i] = sealed.WithLabelValues(reason)
	}
	retries := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_produce_retries_total", Help: "Attempts at a batch that have to be repeated, by reason.",
	}, []string{"reason"})
	for _, reason := range retryReasons {
		m.retries[reason] = retries.WithLabelValues(reason)
	}
	return m
}
