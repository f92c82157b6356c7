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
)

// A Kafka whose quota is used up: nothing is lost, it can be seen how long records wait,
// and what to do is said once.
func TestQuota_slowsAndLosesNothing(t *testing.T) {
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
	defer client.Close()
	quota := func(bytes float64, off bool) {
		t.Helper()
		name := "drain"
		altered, err := kadm.NewClient(client).AlterClientQuotas(context.Background(), []kadm.AlterClientQuotaEntry{{
			Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &name}},
			Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: bytes, Remove: off}},
		}})
		if err != nil || len(altered) != 1 || altered[0].Err != nil {
			t.Fatal(altered, err)
		}
	}
	quota(64_000, false) // what Heroku's smallest plan has
	s := startDrain(t, "KAFKA_URL="+url)
	s.awaitReady()
	load := startLoad(t, s.url, url, []float64{100, 400}, 8*time.Second) // more than three times that
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
	quota(0, true)
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

// What each compression makes is read back by Java's client and by franz-go's.
func TestCompression_isReadByOthers(t *testing.T) {
	want := golden(t)
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			topic := makeTopic(t, 1)
			s := startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+topic, "KAFKA_COMPRESSION="+name)
			if status := curl(t, s.url+"/logs/myapp", "testdata/frame.body", "-H", frameID, "-H", drainToken); status != "200" {
				t.Fatalf("answered %s", status)
			}
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
