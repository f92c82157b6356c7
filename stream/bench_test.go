package stream

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"drain/trial/usual"
)

// Lines a second from connections to the commit, with the broker in this process. Try it
// with -benchtime 1000000x.
func BenchmarkLines(b *testing.B) {
	const lines = 50_000
	body := bytes.Join(usual.Frames(usual.Lines(lines, 1), 300), nil)
	for _, connections := range []int{1, 16} {
		b.Run(fmt.Sprint(connections, " connections"), func(b *testing.B) {
			d := open(b, func(s *setup) { s.noLogs = true })
			each := max(1, b.N/lines/connections)
			b.ReportAllocs()
			b.ResetTimer()
			var senders sync.WaitGroup
			for range connections {
				conn := d.dial()
				senders.Go(func() {
					for range each {
						if _, err := conn.Write(body); err != nil {
							b.Error(err)
						}
					}
				})
			}
			senders.Wait()
			all := connections * each * lines
			eventually(b, "all is committed", func() bool {
				return d.metric("drain_records_total", "topic=router", "result=committed") == float64(all)
			})
			b.ReportMetric(float64(all)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
