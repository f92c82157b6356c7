// Package metrics tries the metrics command from outside: the built program, redis-server, Kafka, and a
// browser.
package metrics

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/embedded"
	"drain/trial/check"
	"drain/trial/program"
	"drain/trial/redisserver"
)

var long = flag.Bool("long", false, "run in full what is run in short")

var programs string // folder of the built commands

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drain-metrics")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	if err := program.Build(dir, "drain/cmd/..."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// process is a running command.
type process struct {
	*program.Program
	t    *testing.T
	name string
	url  string
}

// start starts a command with settings (`NAME=value`) and nothing else in its
// environment, on a free port.
func start(t *testing.T, name string, settings ...string) *process {
	t.Helper()
	settings = append([]string{"LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "BROKER_LISTEN=127.0.0.1:0"}, settings...)
	return &process{Program: program.Start(t, filepath.Join(programs, name), settings), t: t, name: name}
}

// page waits until metrics shows its page, and tells where.
func (p *process) page() string {
	p.t.Helper()
	if p.url == "" {
		p.url = "http://" + p.Saying(`msg="metrics shows its page" listen=(\S+)`)
	}
	return p.url
}

func eventually[T any](t *testing.T, what string, get func() (T, error)) T {
	t.Helper()
	return check.Within(t, 30*time.Second, what, get)
}

// ask gets JSON from the API.
func ask[T any](address string) (T, error) {
	var v T
	res, err := http.Get(address)
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}

// get is ask, which must succeed.
func get[T any](t *testing.T, address string) T {
	t.Helper()
	v, err := ask[T](address)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type times struct{ Mean, P50, P95, P99, Max *float64 }

type line struct {
	Start     time.Time
	App, Dyno string
	Method    string
	Route     string
	Requests  int64
	Errors    int64
	Status    map[string]int64
	Codes     map[string]int64
	Bytes     int64
	ServiceMS times `json:"service_ms"`
	ConnectMS times `json:"connect_ms"`
}

type series struct {
	StepMS int64 `json:"step_ms"`
	Points []line
}

type lag struct {
	Lag, Records, Skipped, Repeated int64
	Partitions                      []struct{ Partition, Next, End, Lag int64 }
}

// known is what must have been counted of requests.
type known struct {
	requests, bytes int64
	status, codes   map[string]int64
	service         []int64
}

func (k *known) add(status int, code string, bytes, service int64) {
	if k.status == nil {
		k.status, k.codes = make(map[string]int64), make(map[string]int64)
	}
	k.requests++
	k.bytes += bytes
	k.status[fmt.Sprint(status)]++
	if code != "" {
		k.codes[code]++
	}
	k.service = append(k.service, service)
}

// equals tells where what was counted differs from what is known.
func (k *known) equals(got line) error {
	if got.Requests != k.requests || got.Bytes != k.bytes || !sameCounts(got.Status, k.status) || !sameCounts(got.Codes, k.codes) {
		return fmt.Errorf("got %d requests, %d bytes, %v %v; want %d, %d, %v %v", got.Requests, got.Bytes, got.Status, got.Codes, k.requests, k.bytes, k.status, k.codes)
	}
	slices.Sort(k.service)
	n := float64(len(k.service))
	for _, q := range []struct {
		name string
		at   float64
		got  *float64
	}{{"p50", .5, got.ServiceMS.P50}, {"p95", .95, got.ServiceMS.P95}, {"p99", .99, got.ServiceMS.P99}, {"max", 1, got.ServiceMS.Max}} {
		exact := float64(k.service[max(int(math.Ceil(q.at*n-1e-9)), 1)-1])
		if q.got == nil || math.Abs(*q.got-exact) > exact*0.01 || q.at == 1 && *q.got != exact {
			return fmt.Errorf("%s is %v, exactly %v", q.name, deref(q.got), exact)
		}
	}
	return nil
}

func deref(f *float64) float64 {
	if f == nil {
		return math.NaN()
	}
	return *f
}

func sameCounts(a, b map[string]int64) bool {
	for k, n := range a {
		if b[k] != n {
			return false
		}
	}
	return len(a) == len(b)
}

// traffic makes records with known counts: frames of a hundred, every fiftieth of which its
// sender repeats.
type traffic struct {
	client *kgo.Client
	topic  string
	parts  int
	began  time.Time
	frames int

	records, repeated, junk int64
	total                   known
	byApp, byDyno, byRoute  map[string]*known
	byMinute                map[int64]int64
	older                   [][]*kgo.Record // frames to be repeated
}

func newTraffic(t *testing.T, brokers []string, topic string, parts int) *traffic {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &traffic{
		client: client, topic: topic, parts: parts, began: time.Now().Add(-20 * time.Minute),
		byApp: map[string]*known{}, byDyno: map[string]*known{}, byRoute: map[string]*known{}, byMinute: map[int64]int64{},
	}
}

func of(m map[string]*known, key string) *known {
	if m[key] == nil {
		m[key] = new(known)
	}
	return m[key]
}

// frame makes the next frame's records.
func (f *traffic) frame() []*kgo.Record {
	f.frames++
	if f.frames%50 == 0 && len(f.older) > 0 {
		again := f.older[0]
		f.older = f.older[1:]
		f.repeated += int64(len(again))
		return again
	}
	partition := int32(f.frames % f.parts)
	var frame []*kgo.Record
	for i := 99; i >= 0; i-- {
		n := int64(f.frames*100 + i)
		at := f.began.Add(time.Duration(n*7919%1_000_000) * time.Millisecond)
		status, code := []int{200, 200, 200, 201, 301, 304, 404, 500, 503}[n%9], ""
		if status == 503 {
			code = []string{"H12", "H13", "H10"}[n/9%3]
		}
		app, dyno, method := fmt.Sprintf("app-%d", n%3), fmt.Sprintf("web.%d", n%7), []string{"GET", "POST"}[n%2]
		service, bytes := n*n%3000, n%1000
		route := fmt.Sprintf("/r%d/:id", n%40)
		value := fmt.Sprintf(`{"id":"%016x-%d","time":"%s","app":"%s","at":"info",`, f.frames, i, at.UTC().Format("2006-01-02T15:04:05.000000Z"), app)
		if code != "" {
			value += fmt.Sprintf(`"code":"%s",`, code)
		}
		value += fmt.Sprintf(`"method":"%s","path":"/r%d/%d?q=1","host":"h.example.com","dyno":"%s","connect_ms":1,"service_ms":%d,"status":%d,"bytes":%d}`, method, n%40, n, dyno, service, status, bytes)
		frame = append(frame, &kgo.Record{Topic: f.topic, Partition: partition, Value: []byte(value)})
		f.records++
		for _, k := range []*known{&f.total, of(f.byApp, app), of(f.byDyno, app+" "+dyno), of(f.byRoute, method+" "+route)} {
			k.add(status, code, bytes, service)
		}
		f.byMinute[at.Unix()/60*60]++
	}
	if f.frames%25 == 0 {
		f.older = append(f.older, frame)
	}
	if f.frames%200 == 0 { // what is no router record
		frame = append(frame, &kgo.Record{Topic: f.topic, Partition: partition, Value: []byte(`{"hello`)},
			&kgo.Record{Topic: f.topic, Partition: partition, Value: []byte(`{"id":"m","time":"2026-01-01T00:00:00Z","severity":6,"message":"GET"}`)})
		f.junk += 2
	}
	return frame
}

// produce produces n frames, within about d.
func (f *traffic) produce(t *testing.T, n int, d time.Duration) {
	t.Helper()
	var failed error
	var mu sync.Mutex
	for i := range n {
		time.Sleep(time.Until(f.paced(i, n, d)))
		for _, r := range f.frame() {
			again := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Value: r.Value}
			f.client.Produce(context.Background(), again, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
	}
	if err := f.client.Flush(context.Background()); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

var pacedSince time.Time

func (f *traffic) paced(i, n int, d time.Duration) time.Time {
	if i == 0 {
		pacedSince = time.Now()
	}
	return pacedSince.Add(d * time.Duration(i) / time.Duration(n))
}

// caughtUp waits until all that was produced is counted.
func (f *traffic) caughtUp(t *testing.T, page string) {
	t.Helper()
	check.Within(t, 2*time.Minute, "all records to be counted", func() (int, error) {
		l, err := ask[lag](page + "/api/v1/lag")
		var done int64
		for _, p := range l.Partitions {
			done += p.Next
		}
		if want := f.records + f.repeated + f.junk; err == nil && done < want {
			err = fmt.Errorf("%d of %d", done, want)
		}
		return 0, err
	})
}

// equal compares all that was counted with what was produced.
func (f *traffic) equal(t *testing.T, page string) {
	t.Helper()
	l := get[lag](t, page+"/api/v1/lag")
	if l.Records != f.records || l.Repeated != f.repeated || l.Skipped != f.junk || l.Lag != 0 {
		t.Errorf("counted %d, repeated %d, skipped %d, lag %d; want %d, %d, %d, 0", l.Records, l.Repeated, l.Skipped, l.Lag, f.records, f.repeated, f.junk)
	}
	for _, step := range []string{"10s", "1m", "1h", "1s"} {
		s := get[series](t, page+"/api/v1/series?last=1h&step="+step)
		sum := line{Status: map[string]int64{}, Codes: map[string]int64{}}
		minutes := map[int64]int64{}
		for _, p := range s.Points {
			sum.Requests += p.Requests
			sum.Bytes += p.Bytes
			for k, n := range p.Status {
				sum.Status[k] += n
			}
			for k, n := range p.Codes {
				sum.Codes[k] += n
			}
			if p.Requests > 0 {
				minutes[p.Start.Unix()/60*60] += p.Requests
			}
		}
		if sum.Requests != f.total.requests || sum.Bytes != f.total.bytes || !sameCounts(sum.Status, f.total.status) || !sameCounts(sum.Codes, f.total.codes) {
			t.Errorf("in steps of %s: %d requests of %d, %d bytes of %d, %v of %v, %v of %v", step, sum.Requests, f.total.requests, sum.Bytes, f.total.bytes, sum.Status, f.total.status, sum.Codes, f.total.codes)
		}
		for minute, n := range f.byMinute {
			if step != "1h" && minutes[minute] != n {
				t.Errorf("in steps of %s: minute %d has %d requests, want %d", step, minute, minutes[minute], n)
			}
		}
	}
	check := func(what string, rows []line, name func(line) string, want map[string]*known) {
		t.Helper()
		if len(rows) != len(want) {
			t.Errorf("%s: %d rows, want %d", what, len(rows), len(want))
		}
		for _, row := range rows {
			k := want[name(row)]
			if k == nil {
				t.Errorf("%s: %q is not known", what, name(row))
			} else if err := k.equals(row); err != nil {
				t.Errorf("%s: %s: %v", what, name(row), err)
			}
		}
	}
	check("apps", get[[]line](t, page+"/api/v1/apps?last=1h"), func(l line) string { return l.App }, f.byApp)
	check("dynos", get[[]line](t, page+"/api/v1/dynos?last=1h"), func(l line) string { return l.App + " " + l.Dyno }, f.byDyno)
	check("routes", get[[]line](t, page+"/api/v1/routes?last=1h&limit=1000"), func(l line) string { return l.Method + " " + l.Route }, f.byRoute)
	one := get[series](t, page+"/api/v1/series?last=2h&step=1h&app=app-1")
	requests := int64(0)
	for _, p := range one.Points {
		requests += p.Requests
	}
	if requests != f.byApp["app-1"].requests {
		t.Errorf("filtered by app: %d requests, want %d", requests, f.byApp["app-1"].requests)
	}
}

// fakeKafka is a broker in this process, whose groups let go of the dead soon.
func fakeKafka(t *testing.T, topic string, parts int) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(parts), topic), kfake.GroupMinSessionTimeout(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Cleanup(embedded.KeepSessions(c))
	return c.ListenAddrs()
}

// Every record is counted once: a process is killed at random, another one joins and leaves.
func TestCounts_areExactWhateverDies(t *testing.T) {
	const parts = 8
	brokers := fakeKafka(t, "router", parts)
	redis := redisserver.Start(t)
	records, kills, joins := 300_000, 8, 3
	if *long {
		records, kills, joins = 1_000_000, 20, 5
	}
	settings := []string{"KAFKA_URL=" + strings.Join(brokers, ","), "REDIS_URL=" + redis.URL(), "KAFKA_SESSION_TIMEOUT=1s"}
	f := newTraffic(t, brokers, "router", parts)
	began := time.Now()
	var killed, joined sync.WaitGroup
	stop := make(chan struct{})
	seed := uint64(began.UnixNano())
	t.Logf("seed %d", seed)
	killed.Go(func() {
		r := rand.New(rand.NewPCG(seed, 1))
		for range kills {
			p := start(t, "metrics", settings...)
			time.Sleep(time.Duration(300+r.IntN(3000)) * time.Millisecond)
			p.Kill()
		}
		close(stop)
	})
	joined.Go(func() {
		r := rand.New(rand.NewPCG(seed, 2))
		for range joins {
			p := start(t, "metrics", settings...)
			time.Sleep(time.Duration(500+r.IntN(5000)) * time.Millisecond)
			if status := p.Stop(); status != 0 {
				t.Errorf("the second process ended with status %d: %s", status, p.String())
			}
			time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		}
	})
	f.produce(t, records/100, time.Duration(kills)*1500*time.Millisecond)
	joined.Wait()
	<-stop
	last := start(t, "metrics", settings...)
	f.caughtUp(t, last.page())
	t.Logf("%d records, %d repeated, %d killed, %d joined and left, in %v", f.records, f.repeated, kills, joins, time.Since(began).Round(time.Second))
	f.equal(t, last.page())
	underMemory(t, last, 128<<20)
}

// The same with a real Kafka, which waits for a dead process for six seconds at least.
func TestCounts_areExactOnARealKafka(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("../../scripts/kafka", "start", "--dir", dir, "--port", "0").Output()
	if err != nil {
		t.Fatalf("start Kafka: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("../../scripts/kafka", "stop", "--dir", dir).Run() })
	kafka := strings.TrimPrefix(strings.TrimSpace(string(out)), "KAFKA_URL=")
	const parts = 4
	if out, err := exec.Command("../../scripts/kafka", "create", "router", "--partitions", fmt.Sprint(parts), "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("make the topic: %v: %s", err, out)
	}
	redis := redisserver.Start(t)
	settings := []string{"KAFKA_URL=" + kafka, "REDIS_URL=" + redis.URL(), "KAFKA_SESSION_TIMEOUT=6s"}
	f := newTraffic(t, []string{strings.TrimPrefix(kafka, "kafka://")}, "router", parts)
	first := start(t, "metrics", settings...)
	first.Saying(`takes part in the group`)
	second := start(t, "metrics", settings...)
	f.produce(t, 300, 2*time.Second)
	first.Kill()
	f.produce(t, 300, 2*time.Second)
	third := start(t, "metrics", settings...)
	f.produce(t, 300, time.Second)
	if status := second.Stop(); status != 0 {
		t.Errorf("the second one ended with status %d", status)
	}
	f.caughtUp(t, third.page())
	f.equal(t, third.page())
	l := get[lag](t, third.page()+"/api/v1/lag")
	if l.Lag != 0 {
		t.Errorf("a lag of %d is left", l.Lag)
	}
}

// underMemory checks the most memory that a process had.
func underMemory(t *testing.T, p *process, most int64) {
	t.Helper()
	if bytes := peak(t, p); bytes > most {
		t.Errorf("%s had %d MiB, more than %d", p.name, bytes>>20, most>>20)
	}
}

// peak is how many bytes of memory a process had at most.
func peak(t *testing.T, p *process) int64 {
	t.Helper()
	bytes, ok := p.Peak()
	if !ok {
		t.Fatalf("%s has ended", p.name)
	}
	t.Logf("%s had %d MiB at most", p.name, bytes>>20)
	return bytes
}
