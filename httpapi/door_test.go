package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"drain/cluster"
	"drain/intake"
	"drain/pool"
	"drain/publish"
	"drain/router"
	"drain/trial/check"
	"drain/trial/journal"
)

var must, eventually = check.Must, check.Eventually

func TestMain(m *testing.M) {
	if os.Getenv(beBroker) != "" {
		broker := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, routerTopic, logsTopic))
		fmt.Println(broker.ListenAddrs()[0])
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
		os.Exit(0)
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		_ = flag.Set("test.parallel", "32") // those that are parallel mostly wait
	}
	goleak.VerifyTestMain(m)
}

const (
	routerTopic = "router"
	logsTopic   = "logs"
)

// beBroker makes this test binary a broker and nothing else.
const beBroker = "HTTPAPI_TEST_IS_A_BROKER"

// setup is how a door is made; a test changes what it is about.
type setup struct {
	Logs      bool
	Key       intake.Key
	Redactor  *router.Redactor
	MaxRecord int
	Config
	secrets, secretsFile string
	inflight             int64
	partitions           int
	kafka                string // in place of a broker of the test's own
}

// door is a Server on a real listener with all that stands behind it, down to a
// broker in this process.
type door struct {
	t         testing.TB
	addr      string
	client    *http.Client
	server    *Server
	broker    *kfake.Cluster // nil with setup.kafka
	publisher *publish.Publisher
	budget    *publish.Budget
	reg       *prometheus.Registry
	logged    *journal.Journal
}

// open opens a door and shuts it when t ends; then nothing may be held any more,
// and the metrics must add up.
func open(t testing.TB, change ...func(*setup)) *door {
	t.Helper()
	s := setup{inflight: 64 << 20, partitions: 3, MaxRecord: 900_000,
		Redactor: router.NewRedactor(router.RedactListed, router.FwdKeep, nil),
		Config:   Config{Hold: 20 * time.Second, MaxBody: 4 << 20}}
	for _, c := range change {
		c(&s)
	}
	d := &door{t: t, reg: prometheus.NewRegistry(), budget: publish.NewBudget(s.inflight), logged: new(journal.Journal)}
	log := slog.New(slog.NewTextHandler(d.logged, nil))
	topics := []string{routerTopic}
	if s.Logs {
		topics = append(topics, logsTopic)
	}
	if s.kafka == "" {
		d.broker = kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(s.partitions), routerTopic, logsTopic))
		t.Cleanup(d.broker.Close)
		s.kafka = d.broker.ListenAddrs()[0]
	}
	at := cluster.Config{Addresses: []string{s.kafka}, Topics: topics}
	clients, err := pool.New(pool.Config{Size: 4, Addr: at.Addr(), Transport: at.Transport, ConnectTimeout: time.Second})
	must(t, err)
	t.Cleanup(clients.Close)
	d.publisher = publish.New(publish.Config{
		Topics: topics, BatchRecords: 3000, BatchBytes: 950_000, BatchDelay: 5 * time.Millisecond, Stuck: time.Minute,
		Budget: d.budget, Pool: clients, Registerer: d.reg, Logger: log,
		Connect: func(ctx context.Context) (*kafka.Client, error) { return pool.Connect(ctx, at.Addr(), at.Transport()) },
	})
	credentials, err := NewCredentials(s.secrets, s.secretsFile, log, d.reg)
	must(t, err)
	s.Publisher, s.Budget, s.Credentials, s.Registerer, s.Logger = d.publisher, d.budget, credentials, d.reg, log
	s.Intake = intake.New(intake.Config{Publisher: d.publisher, Logs: s.Logs, Redactor: s.Redactor, Key: s.Key, MaxRecord: s.MaxRecord, Registerer: d.reg})
	s.Metrics = promhttp.HandlerFor(d.reg, promhttp.HandlerOpts{})
	d.server = New(s.Config)
	d.serve(t)
	if d.broker != nil {
		d.known()
	}
	return d
}

// known waits for the topics.
func (d *door) known() {
	d.t.Helper()
	eventually(d.t, "the topics are known", d.publisher.Known)
}

// fill takes all the room there is, for nobody's requests; the function that it
// returns gives it back.
func (d *door) fill() (release func()) {
	var account publish.Account
	n := int(d.budget.Size() - d.budget.Used())
	if !d.budget.TryAcquire(&account, n) {
		d.t.Fatal("no room to fill")
	}
	return func() { d.budget.Release(&account, n) }
}

// serve runs publisher and listener until t ends.
func (d *door) serve(t testing.TB) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d.addr = listener.Addr().String()
	server := NewHTTPServer(d.server.Handler(), d.server.cfg.MaxBody, d.server.cfg.Hold, nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	d.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(d.publisher.Run)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("requests do not end: %v", err)
			server.Close()
		}
		err := d.publisher.Shutdown(ctx)
		running.Wait()
		if err == nil && !t.Failed() {
			d.restsWithNothingHeld()
		}
	})
}

// in is d for a subtest.
func (d *door) in(t testing.TB) *door {
	sub := *d
	sub.t = t
	return &sub
}

// restsWithNothingHeld checks what is true of a door with nothing under way.
func (d *door) restsWithNothingHeld() {
	d.t.Helper()
	if used := d.budget.Used(); used != 0 {
		d.t.Errorf("%d bytes of the budget were not given back", used)
	}
	m := d.metrics()
	router := m[`drain_messages_total{kind="router"}`]
	records := m[`drain_records_total{result="committed",topic="router"}`] +
		m[`drain_records_total{result="failed",topic="router"}`] + m[`drain_records_total{result="duplicate",topic="router"}`]
	if router != records {
		d.t.Errorf("the metrics do not add up: %v router messages, %v records", router, records)
	}
}

// answer is what a client sees of an answer.
type answer struct {
	status int
	header http.Header
	body   string
}

// post sends body; headers are `Name: value`.
func (d *door) post(body string, headers ...string) answer {
	d.t.Helper()
	return d.do("POST", "/logs", strings.NewReader(body), headers...)
}

func (d *door) do(method, path string, body io.Reader, headers ...string) answer {
	d.t.Helper()
	a, err := d.try(method, path, body, headers...)
	must(d.t, err)
	return a
}

func (d *door) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, "http://"+d.addr+path, body)
	if err != nil {
		return answer{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
	}
	res, err := d.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}

// want posts body and fails unless the answer has this status.
func (d *door) want(status int, body string, headers ...string) {
	d.t.Helper()
	if a := d.post(body, headers...); a.status != status {
		d.t.Fatalf("answered %d %q, want %d", a.status, a.body, status)
	}
}

// wire is a TCP connection to the door, for what a http.Client would not send.
type wire struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (d *door) dial() *wire {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	must(d.t, err)
	d.t.Cleanup(func() { conn.Close() })
	must(d.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &wire{conn, d.t, bufio.NewReader(conn)}
}

func (w *wire) send(format string, args ...any) {
	w.t.Helper()
	_, err := fmt.Fprintf(w, format, args...)
	must(w.t, err)
}

// head is the next answer's head as it stands on the wire.
func (w *wire) head() string {
	w.t.Helper()
	var head strings.Builder
	for {
		line, err := w.r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			w.t.Fatalf("after %q: %v", head.String(), err)
		}
		if line == "\r\n" {
			return head.String()
		}
	}
}

// rest is all that comes until the server closes the connection.
func (w *wire) rest() string {
	w.t.Helper()
	text, err := io.ReadAll(w.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		w.t.Fatalf("the connection stays open after %q", text)
	}
	return string(text)
}

// metrics are all figures by `name{label="value"}`.
func (d *door) metrics() map[string]float64 {
	d.t.Helper()
	families, err := d.reg.Gather()
	must(d.t, err)
	all := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// counts checks figures: name, value, name, value …
func (d *door) counts(want map[string]float64) {
	d.t.Helper()
	m := d.metrics()
	for name, value := range want {
		if got, ok := m[name]; !ok || got != value {
			d.t.Errorf("%s is %v (%v), want %v", name, got, ok, value)
		}
	}
}

// stored is a record as Kafka has it.
type stored struct {
	partition  int
	key, value string
}

func (s stored) field(name string) string {
	var all map[string]any
	if json.Unmarshal([]byte(s.value), &all) != nil {
		return "not JSON: " + s.value
	}
	if all[name] == nil {
		return ""
	}
	return fmt.Sprint(all[name])
}

// records reads all that topic holds, with a client that is not ours.
func (d *door) records(topic string) []stored {
	d.t.Helper()
	var total int64
	for _, p := range d.broker.PartitionInfos(topic) {
		total += p.HighWatermark
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(d.broker.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	must(d.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer cancel()
	var all []stored
	for int64(len(all)) < total {
		fetches := client.PollFetches(ctx)
		must(d.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, stored{int(r.Partition), string(r.Key), string(r.Value)})
		})
	}
	return all
}

// ids are the ids of all records of the router's topic, in their order.
func (d *door) ids() (ids []string) {
	d.t.Helper()
	for _, r := range d.records(routerTopic) {
		ids = append(ids, r.field("id"))
	}
	return ids
}

// Messages as Logplex writes them; a message without its newline is a piece of a
// long line, or a loss notice.
const (
	head      = "<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - "
	hello     = head + `at=info method=GET path="/hello" host=a.example.com request_id=8601b555 fwd="203.0.113.7" dyno=web.1 connect=0ms service=3ms status=200 bytes=1024 protocol=http1.1 tls=true tls_version=tls1.3` + "\n"
	appLine   = "<190>1 2022-06-13T14:52:23.621815+00:00 host app web.1 - [GIN] 200\n"
	notice    = "<172>1 2019-09-13T20:01:06+00:00 host heroku logplex - Error L10 (output buffer overflow): 7 messages dropped since 2019-09-13T20:01:04+00:00."
	frameName = "Logplex-Frame-Id: 09C557EAFCFB6CF2740EE62F62971098"
	drainName = "Logplex-Drain-Token: d.fc6b856b-3332-4546-93de-7d0ee272c3bd"
)

// frame counts the octets of each message, as Logplex does.
func frame(messages ...string) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "%d %s", len(m), m)
	}
	return b.String()
}

// line is a router line with this path.
func line(path string) string { return strings.Replace(hello, "/hello", path, 1) }
