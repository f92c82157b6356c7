package tally_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"drain/consume"
	"drain/ledger"
	"drain/tally"
	"drain/trial/journal"
	"drain/trial/redisserver"
	"drain/trial/samples"
	"drain/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// group is the group of a Tally under test.
type group struct {
	done     atomic.Int64 // the highest offset that was told
	reassign chan struct{}
}

func (g *group) Done(_ int, next int64) { g.done.Store(next) }
func (g *group) Reassign()              { g.reassign <- struct{}{} }

// trial is a Tally on a redis-server.
type trial struct {
	*tally.Tally
	t      testing.TB
	server *redisserver.Server
	ledger *ledger.Ledger
	group  *group
	reg    *prometheus.Registry
	log    journal.Journal
	next   int64
}

func newTrial(t testing.TB, server *redisserver.Server) *trial {
	c := &trial{t: t, server: server, ledger: ledger.New(server.Client(t), "g", "t"), group: &group{reassign: make(chan struct{}, 100)}, reg: prometheus.NewRegistry()}
	c.Tally = tally.New(tally.Config{Ledger: c.ledger, Logger: slog.New(slog.NewTextHandler(&c.log, nil)), Registerer: c.reg})
	c.Attach(c.group)
	return c
}

// assign gives partition 0, and tells where reading begins.
func (c *trial) assign(first, end int64) int64 {
	c.t.Helper()
	p := []consume.Partition{{First: first, End: end, TopicID: "one"}}
	if err := c.Assigned(c.t.Context(), p); err != nil {
		c.t.Fatal(err)
	}
	c.next = p[0].Offset
	return c.next
}

// take gives a batch of these values.
func (c *trial) take(values ...string) {
	c.t.Helper()
	if err := c.Consume(c.t.Context(), c.batch(values...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *trial) batch(values ...string) *consume.Batch {
	b := &consume.Batch{}
	for _, v := range values {
		b.Records = append(b.Records, consume.Record{Offset: c.next, Time: time.Now().UnixMilli(), Value: []byte(v)})
		c.next++
	}
	b.Next, b.End = c.next, c.next
	return b
}

func (c *trial) eventually(what string, is func() bool) {
	c.t.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			c.t.Fatalf("waited in vain for %s; the log: %s", what, c.log.String())
		}
	}
}

// flushed waits until all that was taken is in the ledger.
func (c *trial) flushed() {
	c.t.Helper()
	c.eventually("the ledger", func() bool { return c.group.done.Load() == c.next })
}

// requests is how many the ledger has in the last year, by status, dyno and route.
func (c *trial) requests() map[string]int64 {
	c.t.Helper()
	counts := make(map[string]int64)
	var reader window.Reader
	now := time.Now().Unix()
	for _, byRoute := range []bool{false, true} {
		for _, span := range window.Cover(now-364*24*3600, now+1, now) {
			if err := c.ledger.Windows(c.t.Context(), span, byRoute, func(start int64, chunks []byte) error {
				return reader.Each(chunks, func(k *window.Key, cell *window.Cell) {
					if byRoute {
						counts[k.Method+" "+k.Route] += cell.Requests
						return
					}
					counts["all"] += cell.Requests
					counts[k.Dyno] += cell.Requests
					if start > now-60 {
						counts["now"] += cell.Requests
					}
				})
			}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	return counts
}

func (c *trial) records(result string) float64 {
	return c.metric("drain_metrics_records_total", "result="+result)
}

func (c *trial) metric(name string, labels ...string) float64 {
	c.t.Helper()
	value, found := samples.Sum(c.t, c.reg, name, labels...)
	if !found {
		c.t.Fatalf("there is no %s %s", name, labels)
	}
	return value
}

func record(id string, at time.Time, more string) string {
	return fmt.Sprintf(`{"id":"%s","time":"%s","app":"shop","at":"info","method":"GET","path":"/users/7?a=b","host":"h","dyno":"web.1","connect_ms":1,"service_ms":5,"status":200,"bytes":10%s}`,
		id, at.UTC().Format("2006-01-02T15:04:05.000000Z"), more)
}

func TestConsume_countsEachRecordOnceAndSaysWhatBecameOfTheOthers(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	if at := c.assign(3, 100); at != 3 {
		t.Errorf("an empty ledger begins at %d, want the first offset", at)
	}
	now := time.Now()
	year := 365 * 24 * time.Hour
	c.take(
		record("f-2", now, ""), record("f-1", now, ""), record("f-0", now, ""),
		record("f-1", now, ""), record("f-0", now, ""), // repeated
		record("", now, ""), record("", now, ""), // without an id nobody knows
		record("g-0", now.Add(-3*time.Hour), ""), record("g-1", now.Add(-year+24*time.Hour), ""), // late
		record("h-0", now.Add(-year-2*time.Hour), ""), record("h-1", now.Add(-40*year), ""), // too old
		record("i-0", now.Add(time.Hour), ""), record("i-1", now.Add(5000*24*time.Hour), ""), // clocks that are ahead
		`{"id":"j-0","method":"GET","dyno":"web.9","status":200}`, // no time
		`hello`, `{"a":`, ``, `[]`, `null`, // no JSON object
		`{"id":"k-0","time":"2026-01-01T00:00:00Z","severity":6,"message":"hello"}`, `{"status":"200"}`, `{"hello":1}`,
	)
	c.flushed()
	for result, want := range map[string]float64{"counted": 10, "repeated": 2, "too_old": 2, "not_json": 5, "other_shape": 3} {
		if n := c.records(result); n != want {
			t.Errorf("%s: %v, want %v", result, n, want)
		}
	}
	counts := c.requests()
	if counts["all"] != 10 || counts["web.9"] != 1 || counts["now"] != 8 || counts["GET /users/:id"] != 9 {
		t.Errorf("the windows have %v", counts)
	}
	if n := c.metric("drain_metrics_moved_total"); n != 3 {
		t.Errorf("%v records were moved to their arrival, want 3", n)
	}
	if n := c.metric("drain_metrics_commit_seconds"); n < 1 {
		t.Errorf("%v commits were timed", n)
	}
	p, err := c.ledger.Progress(t.Context())
	if err != nil || p.Records != 10 || p.Repeated != 2 || p.Skipped != 10 {
		t.Errorf("progress is %+v, %v", p, err)
	}
	if n := strings.Count(c.log.String(), "no router's"); n != 1 {
		t.Errorf("the log tells %d times of odd records: %s", n, c.log.String())
	}
	c.Revoked(t.Context())
}

// What was not found is told apart as long as it is little: another process may know it.
func TestConsume_tellsABoundedPartOfWhatWasNotFound(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	c.assign(0, 0)
	now := time.Now().UTC().Format(time.RFC3339)
	var values []string
	for i := range 300 {
		values = append(values, fmt.Sprintf(`{"id":"%d-0","time":"%s","method":"GET","path":"/nobody-knows-%c%c","dyno":"web.1","status":404}`, i, now, 'a'+i%26, 'a'+i/26))
	}
	c.take(values...)
	c.flushed()
	unsure := 0
	counts := c.requests()
	for route := range counts {
		if strings.HasPrefix(route, "GET "+window.Unsure) {
			unsure++
		}
	}
	if unsure < 10 || unsure > 50 || counts["GET "+window.Other] != int64(300-unsure) {
		t.Errorf("%d routes are unsure, %d requests of others", unsure, counts["GET "+window.Other])
	}
	c.Revoked(t.Context())
}

// What is left out is held back too.
func TestConsume_isBoundedByWhatIsLeftOut(t *testing.T) {
	server := redisserver.Start(t)
	c := newTrial(t, server)
	c.assign(0, 0)
	server.Freeze(t)
	defer server.Thaw(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	values := make([]string, 10_000)
	taken := 0
	for ctx.Err() == nil {
		for i := range values {
			values[i] = record(fmt.Sprintf("%x-0", taken+i), time.Now().Add(-3*365*24*time.Hour), "")
		}
		if c.Consume(ctx, c.batch(values...)) != nil {
			break
		}
		if taken += len(values); taken > 400_000 {
			t.Fatalf("%d records were taken while Redis is silent", taken)
		}
	}
	end, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c.Revoked(end)
}

// Kafka's times are the producer's word.
func TestConsume_takesAnyTimeOfKafka(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	c.assign(0, 0)
	b := c.batch(`{"id":"a-0","method":"GET"}`, `{"id":"b-0","method":"GET"}`, `{"id":"c-0","method":"GET"}`)
	b.Records[0].Time, b.Records[1].Time = math.MaxInt64, math.MinInt64
	b.Records[2].Time = -1
	if err := c.Consume(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	c.flushed()
	if counts := c.requests(); counts["now"] != 3 {
		t.Errorf("the windows have %v", counts)
	}
	c.Revoked(t.Context())
}

// Hostile bytes are text, of bounded length.
func TestConsume_takesHostileText(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	c.assign(0, 0)
	now := time.Now().UTC().Format(time.RFC3339)
	long := strings.Repeat("é", 5000)
	for i, text := range []string{`<script>alert(1)</script>`, long, `\u0000\n\"`, `\ud800`, "\xff\xfe", `'; DROP TABLE`, `{{.}}`} {
		c.take(fmt.Sprintf(`{"id":"%d-0","time":"%s","app":"%s","method":"%s","path":"/%s","host":"%s","dyno":"%s","code":"%s","status":200}`, i, now, text, text, text, text, text, text))
	}
	c.flushed()
	if counts := c.requests(); counts["all"] != 7 {
		t.Errorf("the windows have %v", counts)
	}
	for key := range c.requests() {
		if len(key) > 300 {
			t.Errorf("a key has %d bytes", len(key))
		}
	}
	c.Revoked(t.Context())
}

func TestAssigned_goesOnWhereTheLedgerIs(t *testing.T) {
	server := redisserver.Start(t)
	now := time.Now()
	c := newTrial(t, server)
	c.assign(0, 0)
	c.take(record("a-1", now, ""), record("a-0", now, ""))
	c.Revoked(t.Context()) // appends what is left

	other := newTrial(t, server)
	if at := other.assign(0, 10); at != 2 {
		t.Fatalf("another process begins at %d, want 2", at)
	}
	other.take(record("b-0", now, ""), record("a-1", now, ""), record("a-0", now, "")) // the last two the first one knew
	other.flushed()
	if counts := other.requests(); counts["all"] != 3 {
		t.Errorf("the windows have %v", counts)
	}
	if n := other.records("repeated"); n != 2 {
		t.Errorf("%v repeated, want 2", n)
	}
	other.Revoked(t.Context())

	shorter := newTrial(t, server)
	if at := shorter.assign(0, 4); at != 4 || !strings.Contains(shorter.log.String(), "lost records") {
		t.Errorf("where Kafka has lost its end it begins at %d, want 4; the log: %s", at, shorter.log.String())
	}
	shorter.take(record("c-0", now, ""))
	shorter.flushed()
	if counts := shorter.requests(); counts["all"] != 4 {
		t.Errorf("the windows have %v", counts)
	}
	shorter.Revoked(t.Context())
}

// Whoever is told that another has moved on starts again from there, and nothing is counted twice.
func TestConsume_startsAgainWhereAnotherHasMovedOn(t *testing.T) {
	server := redisserver.Start(t)
	now := time.Now()
	slow, fast := newTrial(t, server), newTrial(t, server)
	slow.assign(0, 0)
	fast.assign(0, 0)
	fast.take(record("a-0", now, ""), record("b-0", now, ""))
	fast.flushed()
	slow.take(record("a-0", now, ""))
	select {
	case <-slow.group.reassign:
	case <-time.After(20 * time.Second):
		t.Fatal("the slow one was not told to start again")
	}
	if at := slow.assign(0, 2); at != 2 {
		t.Errorf("it starts again at %d, want 2", at)
	}
	slow.take(record("c-0", now, ""))
	slow.flushed()
	slow.take(record("d-0", now, "")) // read, and dropped with the assignment
	if at := slow.assign(0, 4); at != 3 && at != 4 {
		t.Errorf("it starts again at %d, want 3", at)
	} else if at == 3 {
		slow.take(record("d-0", now, ""))
	}
	slow.flushed()
	if counts := slow.requests(); counts["all"] != 4 {
		t.Errorf("the windows have %v", counts)
	}
	slow.Revoked(t.Context())
	fast.Revoked(t.Context())
}

func TestConsume_waitsForRedisAndLosesNothing(t *testing.T) {
	server := redisserver.Start(t)
	c := newTrial(t, server)
	c.assign(0, 0)
	c.take(record("a-0", time.Now(), ""))
	c.flushed()
	if err := c.Ready(); err != nil {
		t.Errorf("it is not ready: %v", err)
	}
	server.Kill()
	for range 3 {
		c.take(record("", time.Now(), ""))
	}
	c.eventually("the log to say that Redis is away", func() bool { return strings.Contains(c.log.String(), "reading waits") })
	if c.Ready() == nil {
		t.Error("it says that it is ready")
	}
	// A Redis without memory has forgotten all: nothing of it is counted.
	server.Run(t)
	select {
	case <-c.group.reassign:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on where the ledger is not")
	}
	if at := c.assign(0, 4); at != 0 {
		t.Errorf("it begins at %d, want 0", at)
	}
	for range 4 {
		c.take(record("", time.Now(), ""))
	}
	c.flushed()
	if counts := c.requests(); counts["all"] != 4 {
		t.Errorf("the windows have %v", counts)
	}
	if n := strings.Count(c.log.String(), "reading waits"); n != 1 {
		t.Errorf("the log says %d times that Redis is away", n)
	}
	if c.metric("drain_metrics_redis_failures_total") < 1 || c.metric("drain_metrics_moved_on_total") != 1 {
		t.Error("the metrics do not tell of it")
	}
	c.Revoked(t.Context())
}

// frozen is what a Redis does that does not answer.
func TestConsume_isBoundedWhileRedisIsSilent(t *testing.T) {
	server := redisserver.Start(t)
	c := newTrial(t, server)
	c.assign(0, 0)
	server.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	values := make([]string, 10_000)
	r := rand.New(rand.NewPCG(1, 1))
	taken := 0
	for ctx.Err() == nil {
		for i := range values {
			values[i] = record(fmt.Sprintf("%x-0", r.Uint64()), time.Now(), "")
		}
		err := c.Consume(ctx, c.batch(values...))
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		if taken += len(values); taken > 400_000 {
			t.Fatalf("%d records were taken while Redis is silent", taken)
		}
	}
	if taken < 10_000 {
		t.Errorf("%d records were taken", taken)
	}
	// At a stop it waits as long as it may, and not longer.
	began := time.Now()
	end, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c.Revoked(end)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("letting go took %v", took)
	}
	server.Thaw(t)
	at := c.assign(0, 1<<40)
	if counts := c.requests(); counts["all"] != at {
		t.Errorf("the windows have %d records, and begin again at %d", counts["all"], at)
	}
	c.Revoked(t.Context())
}

func TestTidy_endsWithItsContext(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.Tidy(ctx); close(ended) }()
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestMetrics_areWellFormed(t *testing.T) {
	c := newTrial(t, redisserver.Start(t))
	problems, err := testutil.GatherAndLint(c.reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// What a process does to a record between Kafka and Redis.
func BenchmarkConsume(b *testing.B) {
	c := newTrial(b, redisserver.Start(b))
	c.assign(0, 1<<40)
	r := rand.New(rand.NewPCG(1, 1))
	now := time.Now()
	values := make([]string, 50_000)
	for i := range values {
		values[i] = fmt.Sprintf(`{"id":"%016x-%d","time":"%s","drain":"d.0123456789","app":"shop","at":"info","method":"GET","path":"/shop/%d/items/%d?page=%d","host":"shop.example.com","request_id":"8601b555-6a83-4c12-8269-97c8e32cdb22","fwd":"203.0.113.%d","dyno":"web.%d","connect_ms":%d,"service_ms":%d,"status":%d,"bytes":%d,"protocol":"http1.1","tls":true,"tls_version":"tls1.3"}`,
			i/100, 99-i%100, now.UTC().Format("2006-01-02T15:04:05.000000Z"), r.IntN(1000), r.IntN(100_000), r.IntN(50), r.IntN(250), r.IntN(8), r.IntN(3), r.IntN(900), []int{200, 200, 304, 404}[r.IntN(4)], r.IntN(40_000))
	}
	n := 0
	var bytes int64
	for b.Loop() {
		batch := &consume.Batch{Next: int64(n + 2500), End: int64(n + 2500)}
		for range 2500 {
			v := values[n%len(values)]
			bytes += int64(len(v))
			batch.Records = append(batch.Records, consume.Record{Offset: int64(n), Time: now.UnixMilli() + int64(n/len(values))*15*60_000, Value: []byte(v)})
			n++
		}
		if err := c.Consume(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	c.Revoked(context.Background())
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}
