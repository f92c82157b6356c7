// Package samples reads metrics for tests.
package samples

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Sum is the sum of a metric's values that have the labels, each `name=value`; of a histogram its count. found
// tells whether there are any.
func Sum(t testing.TB, from prometheus.Gatherer, name string, labels ...string) (sum float64, found bool) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := func(label string) bool {
				return slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetName()+"="+p.GetValue() == label })
			}
			if !slices.ContainsFunc(labels, func(label string) bool { return !has(label) }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				found = true
			}
		}
	}
	return sum, found
}
