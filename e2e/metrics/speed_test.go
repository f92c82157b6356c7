package metrics

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/redisserver"
)

// One process folds a topic that is full, with its redis-server and its broker (drain's) on the same
// processors.
func TestSpeed_ofABacklog(t *testing.T) {
	records := 800_000
	if *long {
		records = 4_000_000
	}
	drain := start(t, "drain")
	broker := drain.Saying(`msg="drain listens".* kafka=(\S+)`)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("router"), kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchMaxBytes(900_000))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	began := time.Now()
	for i := range records {
		at := began.Add(-time.Duration(records-i) * 5 * time.Microsecond) // 200,000 a second
		value := fmt.Sprintf(`{"id":"%016x-%d","time":"%s","drain":"d.0123456789","app":"app-%d","at":"info","method":"GET","path":"/shop%d/%d/items/%d?page=%d","host":"shop.example.com","request_id":"8601b555-6a83-4c12-8269-97c8e32cdb22","fwd":"203.0.113.%d","dyno":"web.%d","connect_ms":%d,"service_ms":%d,"status":%d,"bytes":%d,"protocol":"http1.1","tls":true,"tls_version":"tls1.3"}`,
			i/100, 99-i%100, at.UTC().Format("2006-01-02T15:04:05.000000Z"), i%3, i*7%90, i%5000, i%777, i%50, i%250, i%12, i%3, i*i%1900, []int{200, 200, 304, 404, 500}[i%5], i%40_000)
		client.Produce(t.Context(), &kgo.Record{Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	redis := redisserver.Start(t)
	metrics := start(t, "metrics", "KAFKA_URL="+broker, "REDIS_URL="+redis.URL())
	counted := func() int64 {
		l, err := ask[lag](metrics.page() + "/api/v1/lag")
		if err != nil {
			t.Fatal(err)
		}
		return l.Records
	}
	var first, last time.Time
	var before int64
	for {
		n := counted()
		if n > 0 && first.IsZero() {
			first, before = time.Now(), n
		}
		if n == int64(records) {
			last = time.Now()
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%d of %d are counted", n, records)
		}
		time.Sleep(20 * time.Millisecond)
	}
	rate := float64(int64(records)-before) / last.Sub(first).Seconds()
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%d records in %v: %.0f a second; the machine's load %s", int64(records)-before, last.Sub(first).Round(time.Millisecond), rate, strings.TrimSpace(string(load)))
	if rate < 100_000 {
		t.Errorf("%.0f records a second are folded", rate)
	}
	underMemory(t, metrics, 128<<20)
}
