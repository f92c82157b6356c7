package consume

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/child"
)

const (
	testTopic, testGroup = "router", "metrics"

	benchPartitions = 4
	benchRecords    = 100_000 // a partition
	benchSize       = 400
)

// runBroker is the broker of the benchmarks, in a process of its own so that its work is not
// measured. It has a topic full of records.
func runBroker() {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(benchPartitions, testTopic))
	if err != nil {
		panic(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(10*time.Millisecond), kgo.ProducerBatchMaxBytes(950_000), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		panic(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range benchPartitions * benchRecords {
		value := make([]byte, benchSize)
		for i := range value {
			value[i] = 'a' + byte(random.Uint32()%26)
		}
		client.Produce(context.Background(), &kgo.Record{Topic: testTopic, Partition: int32(i % benchPartitions), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				panic(err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		panic(err)
	}
	client.Close()
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startBroker starts this test's program as the broker.
func startBroker(t testing.TB) (addr string) { return child.Start(t, "DRAIN_TEST_BROKER") }

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter is a handler that counts.
type counter struct {
	bytes atomic.Int64
	left  atomic.Int64
	end   chan struct{}
}

func (c *counter) Assigned(_ context.Context, all []Partition) error {
	for i := range all {
		all[i].Offset = 0
	}
	return nil
}

func (c *counter) Consume(_ context.Context, b *Batch) error {
	n := 0
	for i := range b.Records {
		n += len(b.Records[i].Value)
	}
	c.bytes.Add(int64(n))
	if c.left.Add(-int64(len(b.Records))) == 0 {
		close(c.end)
	}
	return nil
}

func (c *counter) Revoked(context.Context) {}

// BenchmarkRead reads a topic of 400,000 records of 400 bytes in 4 partitions: what a record
// costs of this process's time, and how many allocations.
func BenchmarkRead(b *testing.B) {
	addr := startBroker(b)
	const all = benchPartitions * benchRecords
	for _, by := range []struct {
		name string
		read func(b *testing.B)
	}{
		{"consume", func(b *testing.B) {
			c := &counter{end: make(chan struct{})}
			c.left.Store(all)
			w := &world{t: b, addrs: []string{addr}, topic: testTopic, group: testGroup}
			r := w.join(newLedger(b), func(cfg *Config, _ *bookkeeper) { cfg.Handler = c })
			<-c.end
			r.stop()
		}},
		{"kafka.Reader", func(b *testing.B) {
			var reading sync.WaitGroup
			for id := range benchPartitions {
				reading.Go(func() {
					r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: testTopic, Partition: id, MaxBytes: 1 << 20, QueueCapacity: 4096})
					defer r.Close()
					for range benchRecords {
						if _, err := r.ReadMessage(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			reading.Wait()
		}},
		{"kgo", func(b *testing.B) {
			client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(testTopic), kgo.FetchMaxPartitionBytes(1<<20))
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			for n := 0; n < all; {
				n += client.PollFetches(b.Context()).NumRecords()
			}
		}},
	} {
		b.Run(by.name, func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began, used := time.Now(), cpu()
			for b.Loop() {
				by.read(b)
			}
			runtime.ReadMemStats(&after)
			n := float64(b.N * all)
			b.ReportMetric(float64(cpu()-used)/n, "cpu-ns/record")
			b.ReportMetric(n/time.Since(began).Seconds(), "records/s")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/record")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "bytes/record")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkDecode decodes an answer of 2,500 records of 400 bytes.
func BenchmarkDecode(b *testing.B) {
	records := make([]Record, 2500)
	for i := range records {
		records[i] = Record{Offset: int64(i), Time: baseTime, Value: make([]byte, benchSize)}
	}
	raw := recordBatch{records: records}.bytes()
	d := decoder{most: mostRecords}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		good, _, err := scan(raw, 0)
		if err != nil {
			b.Fatal(err)
		}
		d.start(good, 0, nil)
		for more := true; more; {
			if more, err = d.more(); err != nil {
				b.Fatal(err)
			}
			n += len(d.records)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}
