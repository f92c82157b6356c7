package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/usual"
)

// quotaKafka is a real Kafka whose quotas can be set.
type quotaKafka struct {
	t     *testing.T
	url   string
	admin *kadm.Client
}

// smallestPlan is what Heroku's smallest plan for Kafka lets through, in bytes a second.
const smallestPlan = 64_000

func startQuotaKafka(t *testing.T) *quotaKafka {
	t.Helper()
	dir := t.TempDir()
	url, err := startKafka(dir, "--port", "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = script("stop", "--dir", dir) }) // its folder goes with the test's
	if _, err := script("create", "router", "--partitions", "4", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimPrefix(url, "kafka://")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &quotaKafka{t, url, kadm.NewClient(client)}
}

// quota bounds the bytes a second that drain produces, 0 for not.
func (k *quotaKafka) quota(bytes float64) {
	k.t.Helper()
	name := "drain"
	altered, err := k.admin.AlterClientQuotas(context.Background(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &name}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: bytes, Remove: bytes == 0}},
	}})
	if err != nil || len(altered) != 1 || altered[0].Err != nil {
		k.t.Fatal(altered, err)
	}
}

// A Kafka whose quota is used up: nothing is lost, it can be seen how long records wait,
// and what to do is said once.
func TestQuota_slowsAndLosesNothing(t *testing.T) {
	k := startQuotaKafka(t)
	k.quota(smallestPlan)
	s := startDrain(t, "KAFKA_URL="+k.url)
	s.awaitReady()
	load := startLoad(t, s.url, k.url, []float64{100, 400}, 8*time.Second) // more than three times that
	throttled := func() (seconds float64) {
		fmt.Sscan(s.metric("drain_throttled_seconds_total"), &seconds)
		return seconds
	}
	eventually(t, "Kafka to ask for time", func() (float64, error) {
		seconds := throttled()
		if seconds == 0 {
			return 0, os.ErrNotExist
		}
		return seconds, nil
	})
	eventually(t, "records to wait", func() (string, error) {
		_, err := get(s.admin + "/readyz")
		if err == nil || !strings.Contains(err.Error(), "quota is used up: set KAFKA_COMPRESSION=zstd") {
			return "", fmt.Errorf("/readyz: %w", err)
		}
		return "", nil
	})
	for _, sending := range load.sendings {
		sending.Wait()
	}
	k.quota(0)
	load.accounted(t, "a quota of 64 kB/s")
	t.Logf("Kafka asked for %.1f s", throttled())
	if n := s.metric(`drain_produce_retries_total{reason="timeout"}`); n != "0" {
		t.Errorf("%s requests timed out", n)
	}
	if n := strings.Count(s.String(), "Kafka slows us down"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// With zstd, what Heroku's smallest plan lets through is more than 1,000 lines a second.
func TestQuota_ofTheSmallestPlan(t *testing.T) {
	k := startQuotaKafka(t)
	k.quota(smallestPlan)
	s := startDrain(t, "KAFKA_URL="+k.url, "KAFKA_COMPRESSION=zstd")
	s.awaitReady()
	number := func(name string) (n float64) {
		fmt.Sscan(s.metric(name), &n)
		return n
	}
	stored := func() float64 { return number(`drain_records_total{result="committed",topic="router"}`) }
	const rate, seconds = 1050, 15
	frames := usual.Frames(usual.Shop(rate*seconds, 1), 310) // as many as a frame of Logplex's has
	tick := time.NewTicker(310 * time.Second / rate)
	defer tick.Stop()
	longest := time.Duration(0)
	for _, frame := range frames {
		<-tick.C
		began := time.Now()
		if status, err := post(s.url+"/logs", string(frame)); status != 200 || err != nil {
			t.Errorf("answered %d, %v", status, err)
		}
		longest = max(longest, time.Since(began))
	}
	each := number("drain_batch_bytes_sum") / stored()
	t.Logf("%d lines/s: %.1f bytes a line; throttled for %.1f s; longest answer %s", rate, each, number("drain_throttled_seconds_total"), longest)
	if n := stored(); n != rate*seconds {
		t.Errorf("%v of %d lines stored", n, rate*seconds)
	}
	if each > 5.5*1024/100 {
		t.Errorf("%.0f bytes for 100 lines, want 5.5 KB", 100*each)
	}
	if s.stop() != 0 {
		t.Error("drain did not stop well")
	}
}

// What each compression makes is read back by Java's client and by franz-go's.
func TestCompression_isReadByOthers(t *testing.T) {
	want := golden(t)
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			topic := makeTopic(t, 1)
			s := startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+topic, "KAFKA_COMPRESSION="+name)
			postFrame(t, s)
			records := consume(t, kafkaURL, topic, len(want))
			if got := strings.Join(values(records), "\n"); got != strings.Join(want, "\n") {
				t.Errorf("franz-go reads\n%s", got)
			}
			if used := int(records[0].Attrs.CompressionType()); used != codec {
				t.Errorf("compressed by %d, want %d", used, codec)
			}
			out, err := script("tail", topic, "--max", fmt.Sprint(len(want)), "--timeout", "10000", "--dir", kafkaDir)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out); got != strings.Join(want, "\n") {
				t.Errorf("Java's consumer reads\n%s", got)
			}
			if s.stop() != 0 {
				t.Error("drain did not stop well")
			}
		})
	}
}
