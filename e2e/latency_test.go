package e2e

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// A lone line on an idle service waits for no timer: its answer takes at most
// 2 ms more than producing one record of its size does by itself. Medians of
// alternating rounds against the same broker.
func TestLoneLineIsAnsweredAtOnce(t *testing.T) {
	const rounds = 200
	brokers := map[string]func() *service{
		"embedded": func() *service { return startDrain(t) },
		"real":     func() *service { return startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+makeTopic(t, 1)) },
	}
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			s := start()
			s.awaitReady()
			transport := &kafka.Transport{}
			defer transport.CloseIdleConnections()
			bare := &kafka.Client{Addr: kafka.TCP(strings.TrimPrefix(s.broker, "kafka://")), Timeout: 10 * time.Second, Transport: transport}
			topic := "router"
			if name == "real" {
				topic = makeTopic(t, 1)
			}
			line := `<158>1 2026-01-02T15:04:05Z host heroku router - at=info method=GET path="/" host=example.com request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="203.0.113.7" dyno=web.1 connect=0ms service=12ms status=200 bytes=1024` + "\n"
			var posts, produces []time.Duration
			for range rounds {
				began := time.Now()
				res, err := http.Post(s.url+"/logs", "application/logplex-1", strings.NewReader(line))
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				posts = append(posts, time.Since(began))
				if res.StatusCode != http.StatusOK {
					t.Fatal(res.Status)
				}
				began = time.Now()
				answer, err := bare.Produce(context.Background(), &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
					Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte(line + line))})})
				if err != nil || answer.Error != nil {
					t.Fatal(err, answer)
				}
				produces = append(produces, time.Since(began))
			}
			slices.Sort(posts)
			slices.Sort(produces)
			post, produce := posts[rounds/2], produces[rounds/2]
			t.Logf("median of %d: answer %s, bare produce %s, difference %s; p99 %s and %s",
				rounds, post, produce, post-produce, posts[rounds*99/100], produces[rounds*99/100])
			if post-produce > 2*time.Millisecond {
				t.Errorf("the answer takes %s more than a bare produce, want at most 2ms", post-produce)
			}
		})
	}
}
