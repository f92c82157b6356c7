package tally_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drain/consume"
	"drain/ledger"
	"drain/tally"
	"drain/trial/redisserver"
)

func TestMain(m *testing.M) { os.Exit(m.Run()) }

// group is the group of a Tally under test.
type group struct {
	done     chan [2]int64
	reassign chan struct{}
}

func (g *group) Done(partition int, next int64) {
	select {
	case g.done <- [2]int64{int64(partition), next}:
	default:
	}
}
func (g *group) Reassign() { g.reassign <- struct{}{} }

func newTally(t testing.TB, l *ledger.Ledger, log io.Writer) (*tally.Tally, *group, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	g := &group{make(chan [2]int64, 10_000), make(chan struct{}, 100)}
	c := tally.New(tally.Config{Ledger: l, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: reg})
	c.Attach(g)
	return c, g, reg
}

func record(offset int64, at time.Time, more string) consume.Record {
	value := fmt.Sprintf(`{"id":"f%d-0","time":"%s","app":"shop","at":"info","method":"GET","path":"/users/%d?a=b","host":"h","dyno":"web.1","connect_ms":1,"service_ms":%d,"status":200,"bytes":10%s}`,
		offset, at.UTC().Format("2006-01-02T15:04:05.000000Z"), offset, offset%500, more)
	return consume.Record{Offset: offset, Time: at.UnixMilli(), Value: []byte(value)}
}

// count is how many requests the ledger has in windows of a minute.
func BenchmarkConsume(b *testing.B) {
	s := redisserver.Start(b)
	l := ledger.New(s.Client(b), "g", "t")
	c, _, _ := newTally(b, l, io.Discard)
	ctx := context.Background()
	if err := c.Assigned(ctx, []consume.Partition{{ID: 0, End: 1 << 40}}); err != nil {
		b.Fatal(err)
	}
	file, err := os.ReadFile("testdata/records.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	now := time.Now()
	n := int64(0)
	for b.Loop() {
		batch := &consume.Batch{Next: n + 2500}
		for range 2500 {
			batch.Records = append(batch.Records, consume.Record{Offset: n, Time: now.UnixMilli(), Value: []byte(lines[n%int64(len(lines))])})
			n++
		}
		if err := c.Consume(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	c.Revoked(ctx)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}
