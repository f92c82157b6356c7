package publish

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/semaphore"
)

// What is measured: records of 300 bytes, 100 to a call, by four callers, with no
// more under way than 200 calls have. The sink is another process: its work is not
// counted, the kernel's for our end of the connections is.
const (
	perCall  = 100
	callers  = 4
	underWay = 20_000
)

// values300 are as near as what a request has just made of its body.
func values300() [][]byte {
	all := make([][]byte, 1000)
	for i := range all {
		all[i] = make([]byte, 300)
		for j := range all[i] {
			all[i][j] = byte(' ' + rand.N(90))
		}
	}
	return all
}

// cpu is what this process has spent of processors, in user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// publishCalls sends so many calls' records and waits until they are committed.
func publishCalls(s *service, values [][]byte, calls int) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			records := make([]Record, perCall)
			var receipts []*Receipt
			settle := func(keep int) {
				for ; len(receipts) > keep; receipts = receipts[1:] {
					if err := receipts[0].Wait(context.Background(), time.Now().Add(time.Minute)); err != nil {
						s.t.Error(err)
					}
				}
			}
			for i := next.Add(1); i <= int64(calls); i = next.Add(1) {
				for j := range records {
					records[j].Value = values[(int(i)*perCall+j)%len(values)]
				}
				receipts = append(receipts, s.publish(uint64(i), records...))
				settle(underWay / perCall / callers)
			}
			settle(0)
		})
	}
	wg.Wait()
}

// writeCalls does the same with kafka-go's Writer.
func writeCalls(b testing.TB, w *kafka.Writer, values [][]byte, calls int) {
	ctx := context.Background()
	places := semaphore.NewWeighted(underWay)
	w.Completion = func(messages []kafka.Message, err error) {
		if err != nil {
			b.Error(err)
		}
		places.Release(int64(len(messages)))
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(calls); i = next.Add(1) {
				messages := make([]kafka.Message, perCall)
				for j := range messages {
					messages[j].Value = values[(int(i)*perCall+j)%len(values)]
				}
				_ = places.Acquire(ctx, perCall)
				if err := w.WriteMessages(ctx, messages...); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = places.Acquire(ctx, underWay) // all are settled
}

func newWriter(addr string) (w *kafka.Writer, closeIt func()) {
	transport := &kafka.Transport{MetadataTopics: []string{testTopic}}
	w = &kafka.Writer{Addr: kafka.TCP(addr), Topic: testTopic, Async: true, BatchSize: 3000, BatchBytes: 950_000,
		BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireAll, Transport: transport}
	return w, func() { w.Close(); transport.CloseIdleConnections() }
}

func BenchmarkPublish(b *testing.B) {
	s := serve(b, []string{startSink(b)}, options{}).known()
	values := values300()
	publishCalls(s, values, 5000)
	batches := s.metric("drain_batch_records")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	b.ResetTimer()
	spent := cpu()
	publishCalls(s, values, b.N)
	spent = cpu() - spent
	b.StopTimer()
	runtime.ReadMemStats(&after)
	records := float64(b.N * perCall)
	b.ReportMetric(records/spent.Seconds(), "records/cpu-s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/(s.metric("drain_batch_records")-batches), "allocs/batch")
	b.ReportMetric(records/(s.metric("drain_batch_records")-batches), "records/batch")
}

func BenchmarkWriter(b *testing.B) {
	w, closeIt := newWriter(startSink(b))
	defer closeIt()
	values := values300()
	writeCalls(b, w, values, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	spent := cpu()
	writeCalls(b, w, values, b.N)
	spent = cpu() - spent
	b.ReportMetric(float64(b.N*perCall)/spent.Seconds(), "records/cpu-s")
}

// BenchmarkPublishAgainstWriter alternates, so that both have the same machine. The
// ratio is of records for the same processor time.
func BenchmarkPublishAgainstWriter(b *testing.B) {
	addr := startSink(b)
	s := serve(b, []string{addr}, options{}).known()
	w, closeIt := newWriter(addr)
	defer closeIt()
	values := values300()
	publishCalls(s, values, 5000)
	writeCalls(b, w, values, 1000)
	measure := func(what func()) time.Duration {
		runtime.GC()
		before := cpu()
		what()
		return cpu() - before
	}
	const calls = 20_000
	var ours, theirs time.Duration
	for b.Loop() {
		ours += measure(func() { publishCalls(s, values, calls) })
		theirs += measure(func() { writeCalls(b, w, values, calls) })
	}
	records := float64(b.N * calls * perCall)
	b.ReportMetric(records/ours.Seconds(), "our-records/cpu-s")
	b.ReportMetric(records/theirs.Seconds(), "their-records/cpu-s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-as-many")
}
