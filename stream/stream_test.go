package stream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosyslog "github.com/influxdata/go-syslog/v3"
	"github.com/influxdata/go-syslog/v3/octetcounting"
	"github.com/influxdata/go-syslog/v3/rfc5424"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/cluster"
	"drain/intake"
	"drain/pool"
	"drain/publish"
	"drain/router"
	"drain/trial/authority"
	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/samples"
	"drain/trial/usual"
)

var must, eventually = check.Must, check.Eventually

const token = "d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc"

// door is a Server with all that is behind it.
type door struct {
	t         testing.TB
	addr      string
	server    *Server
	broker    *kfake.Cluster
	publisher *publish.Publisher
	budget    *publish.Budget
	reg       *prometheus.Registry
	logged    *journal.Journal
	served    chan error
}

type setup struct {
	inflight int64
	noLogs   bool // only router lines make records
	Config
}

// open opens a door and shuts it when t ends; then nothing may be held any more, and the
// metrics must add up.
func open(t testing.TB, change ...func(*setup)) *door {
	t.Helper()
	d := &door{t: t, reg: prometheus.NewRegistry(), logged: new(journal.Journal), served: make(chan error, 1)}
	s := setup{inflight: 64 << 20, Config: Config{MaxMessage: 1 << 20, Stalled: 10 * time.Second}}
	for _, c := range change {
		c(&s)
	}
	topics := []string{"router", "logs"}
	d.broker = kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topics...))
	t.Cleanup(d.broker.Close)
	d.budget = publish.NewBudget(s.inflight)
	at := cluster.Config{Addresses: d.broker.ListenAddrs(), Topics: topics}
	clients, err := pool.New(pool.Config{Size: 4, Addr: at.Addr(), Transport: at.Transport, ConnectTimeout: time.Second})
	must(t, err)
	t.Cleanup(clients.Close)
	log := slog.New(slog.NewTextHandler(d.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.publisher = publish.New(publish.Config{Topics: topics, BatchRecords: 3000, BatchBytes: 950_000, BatchDelay: 5 * time.Millisecond, Stuck: time.Minute,
		Budget: d.budget, Pool: clients, Registerer: d.reg, Logger: log,
		Connect: func(ctx context.Context) (*kafka.Client, error) { return pool.Connect(ctx, at.Addr(), at.Transport()) }})
	s.Intake = intake.New(intake.Config{Publisher: d.publisher, Logs: !s.noLogs, Redactor: router.NewRedactor(router.RedactListed, router.FwdKeep, nil), MaxRecord: 900_000, Registerer: d.reg})
	s.Publisher, s.Budget, s.Registerer, s.Logger = d.publisher, d.budget, d.reg, log
	d.server = New(s.Config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d.addr = listener.Addr().String()
	var running sync.WaitGroup
	running.Go(d.publisher.Run)
	go func() { d.served <- d.server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := d.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		must(t, <-d.served)
		if err := d.publisher.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		running.Wait()
		if n := d.budget.Used(); n != 0 {
			t.Errorf("%d bytes are held in the end", n)
		}
		if messages, records := d.metric("drain_messages_total", "kind=router"), d.metric("drain_records_total", "topic=router"); messages != records {
			t.Errorf("%v router messages, %v records", messages, records)
		}
		if n := d.metric("drain_syslog_failures_total", "reason=fault"); n > 0 {
			t.Errorf("%v faults:\n%s", n, d.logged.String())
		}
	})
	eventually(t, "the topics are known", d.publisher.Known)
	return d
}

// metric is the sum of a metric's values that have the labels; a histogram's count.
func (d *door) metric(name string, labels ...string) float64 {
	sum, _ := samples.Sum(d.t, d.reg, name, labels...)
	return sum
}

func (d *door) dial() net.Conn {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	must(d.t, err)
	d.t.Cleanup(func() { conn.Close() })
	return conn
}

// records are the next n of a topic, from its beginning, as JSON.
func (d *door) records(topic string, n int) (all []map[string]any) {
	d.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(d.broker.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	must(d.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for len(all) < n && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			var rec map[string]any
			must(d.t, json.Unmarshal(r.Value, &rec))
			all = append(all, rec)
		})
	}
	if len(all) != n {
		d.t.Fatalf("%s holds %d records, want %d", topic, len(all), n)
	}
	return all
}

func count(messages ...string) []byte {
	var b []byte
	for _, m := range messages {
		b = fmt.Appendf(b, "%d %s", len(m), m)
	}
	return b
}

func routerLine(id string) string {
	return "<158>1 2022-06-13T14:52:23.622778+00:00 " + token + ` heroku router - at=info method=GET path="/?token=s3cret" host=h request_id=` + id + " dyno=web.1 connect=0ms service=1ms status=200 bytes=1\n"
}

func TestDrain_overTCP(t *testing.T) {
	d := open(t)
	conn := d.dial()
	_, err := conn.Write(count(routerLine("r1"), routerLine("r2"), "<40>1 2022-06-13T14:52:24+00:00 "+token+" app web.1 - hello\n",
		strings.Replace(routerLine("r3"), token, "d.00000000-0000-0000-0000-000000000000", 1),
		"<172>1 2022-06-13T14:52:25+00:00 "+token+" heroku logplex - Error L10 (output buffer overflow): 7 messages dropped since 2022-06-13T14:52:22+00:00."))
	must(t, err)
	ids := make(map[string]bool)
	for _, rec := range d.records("router", 3) {
		want := token
		if rec["request_id"] == "r3" {
			want = "d.00000000-0000-0000-0000-000000000000"
		}
		if rec["drain"] != want || rec["path"] != "/?token=[REDACTED]" || rec["time"] != "2022-06-13T14:52:23.622778Z" || rec["app"] != nil {
			t.Errorf("%v", rec)
		}
		ids[rec["id"].(string)] = true
	}
	for _, rec := range d.records("logs", 2) {
		if rec["drain"] != token || rec["message"] != "hello" && rec["process"] != "logplex" {
			t.Errorf("%v", rec)
		}
		ids[rec["id"].(string)] = true
	}
	if len(ids) != 5 {
		t.Errorf("ids %v", ids)
	}
	for name, want := range map[string]float64{"drain_syslog_connections": 1, "drain_redactions_total": 3, "drain_lost_upstream_total": 7, "drain_messages_total": 5} {
		if got := d.metric(name); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	conn.Close()
	eventually(t, "the connection is gone", func() bool { return d.metric("drain_syslog_connections") == 0 })
	if d.metric("drain_syslog_commit_seconds") == 0 {
		t.Error("no commit was timed")
	}
}

// However the bytes come, and however many at once, each line is a record once.
func TestBytes_comeAsTheyMay(t *testing.T) {
	d := open(t)
	var senders sync.WaitGroup
	const each = 400
	for i, size := range []int{1, 7, 100, 4 << 10, 64 << 10, 1 << 20} {
		senders.Go(func() {
			lines := usual.Lines(each, uint64(i))
			body := bytes.Join(usual.Frames(lines, 100), nil)
			conn := d.dial()
			for r := rand.New(rand.NewPCG(uint64(i), 1)); len(body) > 0; {
				n := min(len(body), size, 1+r.IntN(2*size))
				if _, err := conn.Write(body[:n]); err != nil {
					t.Error(err)
					return
				}
				body = body[n:]
			}
			must(t, conn.(*net.TCPConn).CloseWrite())
			if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
				t.Errorf("%d bytes back, %v", n, err)
			}
		})
	}
	senders.Wait()
	ids, requests := make(map[any]bool), make(map[any]bool)
	for _, rec := range d.records("router", 6*each) {
		ids[rec["id"]], requests[rec["request_id"]] = true, true
	}
	if len(ids) != 6*each || len(requests) != 6*each {
		t.Errorf("%d ids, %d requests", len(ids), len(requests))
	}
}

// While Kafka takes nothing, nothing is read but what memory allows, and the sender waits.
// Then all of it comes, once.
func TestBackpressure(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight = 2 << 20 })
	stop := d.kafkaTakesNothing()
	conn := d.dial()
	const lines = 20_000 // some 7 MB
	all := bytes.Join(usual.Frames(usual.Lines(lines, 1), 300), nil)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(all)
		sent <- err
	}()
	read := 0.0
	eventually(t, "the sender waits", func() bool {
		before := read
		read = d.metric("drain_syslog_bytes_total")
		time.Sleep(300 * time.Millisecond)
		return read > 0 && read == before
	})
	if int(read) > len(all)/3 {
		t.Errorf("%v of %d bytes were read", read, len(all))
	}
	if held := d.budget.Used(); held > 2<<20 {
		t.Errorf("%d bytes are held", held)
	}
	// Others still get in.
	other := d.dial()
	_, err := other.Write(count(routerLine("other")))
	must(t, err)
	stop.Remove()
	must(t, <-sent)
	seen := make(map[any]int)
	for _, rec := range d.records("router", lines+1) {
		seen[rec["id"]]++
	}
	if len(seen) != lines+1 {
		t.Errorf("%d of %d", len(seen), lines+1)
	}
}

func TestTLS(t *testing.T) {
	ours := authority.New(t, "ours")
	pair := ours.Pair("127.0.0.1", time.Now().Add(time.Hour))
	d := open(t, func(s *setup) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	})
	conn, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: ours.Pool()})
	must(t, err)
	defer conn.Close()
	lines := usual.Lines(2000, 1)
	_, err = conn.Write(bytes.Join(usual.Frames(lines, 100), nil))
	must(t, err)
	d.records("router", len(lines))
	// Who speaks no TLS is not heard, and who speaks an old one.
	plain := d.dial()
	_, err = plain.Write(count(routerLine("plain")))
	must(t, err)
	if _, err := plain.Read(make([]byte, 1)); err == nil {
		_, _ = io.Copy(io.Discard, plain) // an alert may come first
	}
	if old, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: ours.Pool(), MaxVersion: tls.VersionTLS11}); err == nil {
		old.Close()
		t.Error("TLS 1.1 is taken")
	}
	eventually(t, "both are counted", func() bool { return d.metric("drain_syslog_failures_total", "reason=handshake") == 2 })
	d.records("router", len(lines))
}

// A sender that speaks TLS to a door without is not taken for messages, and said of.
func TestTLS_whereThereIsNone(t *testing.T) {
	d := open(t)
	for range 3 {
		if conn, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
			conn.Close()
			t.Error("a handshake succeeds")
		}
	}
	eventually(t, "all are counted", func() bool { return d.metric("drain_syslog_failures_total", "reason=handshake") == 3 })
	if n := d.metric("drain_messages_total"); n > 0 {
		t.Errorf("%v messages", n)
	}
	if n := strings.Count(d.logged.String(), "the sender speaks TLS: set SYSLOG_TLS_CERT"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// At a stop the sender is told, what it has sent is taken, and committed.
func TestStop(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ours := authority.New(t, "ours")
		d := open(t, func(s *setup) {
			if secure {
				s.TLS = &tls.Config{Certificates: []tls.Certificate{ours.Pair("127.0.0.1", time.Now().Add(time.Hour))}}
			}
		})
		conn := d.dial()
		if secure {
			conn = tls.Client(conn, &tls.Config{RootCAs: ours.Pool(), ServerName: "127.0.0.1"})
		}
		quiet := d.dial() // says nothing, and does not go
		var sent int
		told := make(chan struct{})
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // EOF, or the end of the connection
			close(told)
		}()
		stopped := make(chan struct{})
		_, err := conn.Write(count(routerLine("first")))
		must(t, err)
		sent++
		d.records("router", 1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		go func() {
			if err := d.server.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			close(stopped)
		}()
		for asked := false; !asked; sent++ {
			_, err := conn.Write(count(routerLine(fmt.Sprint("more", sent))))
			must(t, err)
			select {
			case <-told:
				asked = true
			default:
			}
		}
		_, err = conn.Write(count(routerLine("last")))
		must(t, err)
		sent++
		conn.Close()
		<-stopped
		if took := time.Since(began); took > lastTime+2*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := len(d.records("router", sent)); n != sent {
			t.Errorf("%d of %d records", n, sent)
		}
		if _, err := quiet.Read(make([]byte, 1)); err == nil {
			t.Error("a quiet connection is left open")
		}
		if _, err := net.Dial("tcp", d.addr); err == nil {
			t.Error("new connections are taken")
		}
	}
}

// A stop that cannot wait for Kafka ends in its time. What was read is the publisher's then.
func TestStop_withoutKafka(t *testing.T) {
	d := open(t)
	stop := d.kafkaTakesNothing()
	conn := d.dial()
	sent := 0
	for range 4 * window { // each a read of its own
		n, err := conn.Write(count(routerLine("r1")))
		must(t, err)
		sent += n
		time.Sleep(10 * time.Millisecond)
	}
	eventually(t, "the window is full", func() bool { return d.metric("drain_messages_total") >= window })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	if err := d.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	stop.Remove()
	read := int(d.metric("drain_syslog_bytes_total")) / (sent / (4 * window))
	d.records("router", read)
	if n := d.metric("drain_recovered_total"); n > 0 {
		t.Errorf("%v are said to be recovered", n)
	}
}

// What there is no memory for at a stop is said.
func TestStop_withoutMemory(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight = 1 << 20 })
	var other publish.Account
	must(t, d.budget.Acquire(t.Context(), &other, 1<<20, false))
	defer d.budget.Release(&other, 1<<20)
	conn := d.dial()
	_, err := conn.Write(count(routerLine("r1"), routerLine("r2")))
	must(t, err)
	eventually(t, "they are read", func() bool { return d.metric("drain_syslog_bytes_total") > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := d.server.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "2 messages of syslog drains") {
		t.Error(err)
	}
	if n := d.metric("drain_syslog_failures_total", "reason=memory"); n != 2 {
		t.Errorf("%v are counted", n)
	}
	d.server.lost.Store(0) // that was this test's matter
}

// longLine is a router line with a path of n bytes.
func longLine(id string, n int) string {
	return strings.Replace(routerLine(id), "/?token=s3cret", "/"+strings.Repeat("x", n), 1)
}

// kafkaTakesNothing lets no record be stored until it is removed.
func (d *door) kafkaTakesNothing() *kfake.FaultHandle {
	return d.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
}

// A message for which there is no memory waits, however long, and harms nobody.
func TestLargeMessage_waitsForMemory(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight, s.Stalled = 4<<20, 300*time.Millisecond })
	stop := d.kafkaTakesNothing()
	var other publish.Account
	must(t, d.budget.Acquire(t.Context(), &other, 4<<20-60_000, false))
	conn := d.dial()
	_, err := conn.Write(count(longLine("large", 9_000)))
	must(t, err)
	time.Sleep(1500 * time.Millisecond) // several times Stalled
	stop.Remove()
	d.budget.Release(&other, 4<<20-60_000)
	_, err = conn.Write(count(routerLine("next")))
	must(t, err)
	d.records("router", 2)
	for _, name := range []string{"drain_truncated_total", "drain_bad_counts_total", "drain_syslog_failures_total"} {
		if n := d.metric(name); n > 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	if n := d.metric("drain_messages_total", "kind=malformed"); n > 0 {
		t.Errorf("%v messages are malformed", n)
	}
}

// The same where Kafka is away and others hold the memory for buffers.
func TestLargeMessage_whileKafkaIsAway(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight, s.Stalled = 8<<20, 300*time.Millisecond })
	stop := d.kafkaTakesNothing()
	body := bytes.Join(usual.Frames(usual.Lines(1000, 1), 300), nil)
	for range 30 {
		conn := d.dial()
		go func() { _, _ = conn.Write(body) }() // until it is closed
	}
	read := 0.0
	eventually(t, "all wait", func() bool {
		before := read
		read = d.metric("drain_syslog_bytes_total")
		time.Sleep(300 * time.Millisecond)
		return read > 0 && read == before
	})
	conn := d.dial()
	_, err := conn.Write(count(longLine("large", 9_000)))
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	stop.Remove()
	for _, rec := range d.records("router", 30*1000+1) {
		if rec["truncated"] != nil {
			t.Errorf("%v", rec)
		}
	}
}

// A wrong count holds up those behind it for no longer than the rest of a message is waited
// for, however they come.
func TestWrongCount_holdsNobodyForLong(t *testing.T) {
	d := open(t, func(s *setup) { s.Stalled = 300 * time.Millisecond })
	conn := d.dial()
	_, err := fmt.Fprintf(conn, "900000 %s", routerLine("first"))
	must(t, err)
	for i := range 15 {
		_, err := conn.Write(count(routerLine(fmt.Sprint("r", i))))
		must(t, err)
		time.Sleep(100 * time.Millisecond)
	}
	d.records("router", 16)
}

// Tiny messages leave no large memory behind.
func TestTinyMessages_keepNoMemory(t *testing.T) {
	d := open(t, func(s *setup) { s.noLogs = true }) // they would be kept in the broker
	attack := append([]byte("1000000 <1"), bytes.Repeat([]byte("1 <1>"), 200_100)...)
	var conns []net.Conn
	for range 4 {
		conn := d.dial()
		go func() { _, _ = conn.Write(attack) }() // until it is closed
		conns = append(conns, conn)
	}
	eventually(t, "all is read", func() bool {
		return d.metric("drain_syslog_bytes_total") == float64(len(conns)*len(attack)) && d.budget.Used() < 1<<20
	})
	runtime.GC()
	runtime.GC() // what pools keep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 40<<20 {
		t.Errorf("%d MiB are kept", m.HeapAlloc>>20)
	}
}

// However little memory there may be, what fits into it at all is taken.
func TestLittleMemory(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight = 768 << 10 })
	body := bytes.Join(usual.Frames(usual.Lines(5000, 1), 300), nil)
	var senders sync.WaitGroup
	for range 3 {
		conn := d.dial()
		senders.Go(func() {
			if _, err := conn.Write(body); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	d.records("router", 15_000)
	if n := d.metric("drain_syslog_failures_total"); n > 0 {
		t.Errorf("%v failures", n)
	}
}

// A commit is timed when it is there, not when the next message comes.
func TestCommitSeconds(t *testing.T) {
	d := open(t)
	conn := d.dial()
	for i := range 3 {
		_, err := conn.Write(count(routerLine("r")))
		must(t, err)
		eventually(t, "the commit is timed", func() bool { return d.metric("drain_syslog_commit_seconds") == float64(i+1) })
	}
}

// No more connections are taken than are allowed; the others wait for a place.
func TestMaxConnections(t *testing.T) {
	d := open(t, func(s *setup) { s.MaxConnections = 2 })
	first, second, third := d.dial(), d.dial(), d.dial()
	for _, conn := range []net.Conn{first, second, third} {
		_, err := conn.Write(count(routerLine("r")))
		must(t, err)
	}
	d.records("router", 2)
	time.Sleep(50 * time.Millisecond)
	if n := d.metric("drain_syslog_connections"); n != 2 {
		t.Errorf("%v connections", n)
	}
	first.Close()
	d.records("router", 3)
}

// A stop that comes with the first connection.
func TestServeAndShutdownAtOnce(t *testing.T) {
	for range 20 {
		s := New(Config{Budget: publish.NewBudget(1 << 20), Registerer: prometheus.NewRegistry()})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() {
			if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
				conn.Close()
			}
		}()
		served := make(chan error)
		go func() { served <- s.Serve(l) }()
		must(t, s.Shutdown(t.Context()))
		must(t, <-served)
	}
}

// A message of which no more comes is taken as it is.
func TestRest_isTaken(t *testing.T) {
	d := open(t, func(s *setup) { s.Stalled = 200 * time.Millisecond })
	half := strings.Replace(routerLine("whole"), "?token=s3cret", "", 1)
	cut := count(half)[:len(half)-20]
	conn := d.dial()
	_, err := conn.Write(cut)
	must(t, err)
	if rec := d.records("router", 1)[0]; rec["truncated"] != true || rec["request_id"] != "whole" {
		t.Errorf("%v", rec)
	}
	_, err = conn.Write(count(routerLine("next")))
	must(t, err)
	d.records("router", 2)
	_, err = conn.Write(cut)
	must(t, err)
	conn.Close()
	d.records("router", 3)
}

// Senders that begin large messages and do not end them keep nobody out.
func TestHalfMessages_keepNobodyOut(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight, s.Stalled = 8<<20, time.Second })
	half := append([]byte("1000000 <158>1 2022-06-13T14:52:23+00:00 host app web.1 - "), bytes.Repeat([]byte("x"), 900_000)...)
	for range 40 {
		conn := d.dial()
		go func() {
			for range 3 {
				if _, err := conn.Write(half); err != nil {
					return
				}
			}
		}()
	}
	good := d.dial()
	longest := time.Duration(0)
	for i := range 50 {
		began := time.Now()
		_, err := good.Write(count(routerLine(fmt.Sprint("good", i))))
		must(t, err)
		eventually(t, "a good line is taken", func() bool {
			return d.metric("drain_records_total", "topic=router", "result=committed") == float64(i+1)
		})
		longest = max(longest, time.Since(began))
		if held := d.budget.Used(); held > 8<<20 {
			t.Fatalf("%d bytes are held", held)
		}
	}
	if longest > 3*time.Second {
		t.Errorf("a good line waited for %s", longest)
	}
}

// What no message can be is counted, and ends nothing but itself.
func TestGarbage(t *testing.T) {
	d := open(t, func(s *setup) { s.Stalled = 300 * time.Millisecond })
	r := rand.New(rand.NewPCG(1, 2))
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00"), bytes.Repeat([]byte("9"), 10_000), bytes.Repeat([]byte("1 <"), 10_000),
		bytes.Repeat([]byte("99999999999999999999 <1>"), 1000), make([]byte, 3<<20), []byte("0 <1>0 <1>-5 <1>"),
	} {
		conn := d.dial()
		if _, err := conn.Write(garbage); err != nil {
			t.Errorf("%.20q: %v", garbage, err)
		}
		conn.Close()
	}
	for range 50 {
		conn := d.dial()
		b := count(routerLine("x"))
		for range r.IntN(5) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		_, err := conn.Write(b)
		must(t, err)
		conn.Close()
	}
	eventually(t, "all are gone", func() bool { return d.metric("drain_syslog_connections") == 0 })
	if d.metric("drain_messages_total", "kind=malformed") < 7 {
		t.Error("not counted")
	}
	before := int(d.metric("drain_records_total", "topic=router", "result=committed"))
	conn := d.dial()
	_, err := conn.Write(count(routerLine("good")))
	must(t, err)
	if !slices.ContainsFunc(d.records("router", before+1), func(rec map[string]any) bool { return rec["request_id"] == "good" }) {
		t.Error("a good line is not taken")
	}
}

// What go-syslog writes and reads, drain reads.
func TestCompliantMessages(t *testing.T) {
	d := open(t)
	var body bytes.Buffer
	var want []string
	for i := range 40 {
		m := &rfc5424.SyslogMessage{}
		m.SetPriority(uint8(i)).SetVersion(1).SetTimestamp("2003-10-11T22:14:15.003Z").SetHostname("mymachine.example.com").SetAppname("su").SetProcID(fmt.Sprint(i))
		if i%2 == 1 {
			m.SetMsgID("ID47")
		}
		if i%3 > 0 {
			m.SetElementID("exampleSDID@32473").SetParameter("exampleSDID@32473", "eventSource", `Appli"cat]ion`)
		}
		if i%3 > 1 {
			m.SetParameter("other@32473", "class", "high")
		}
		text := fmt.Sprintf("'su root' failed for %d [x] - \xc3\xa4", i)
		m.SetMessage(text)
		line, err := m.String()
		must(t, err)
		fmt.Fprintf(&body, "%d %s", len(line), line)
		want = append(want, text)
	}
	read := 0
	octetcounting.NewParser(gosyslog.WithListener(func(r *gosyslog.Result) {
		must(t, r.Error)
		read++
	})).Parse(bytes.NewReader(body.Bytes()))
	if read != len(want) {
		t.Fatalf("go-syslog reads %d of its own", read)
	}
	conn := d.dial()
	_, err := conn.Write(body.Bytes())
	must(t, err)
	var got []string
	for _, rec := range d.records("logs", len(want)) {
		if rec["source"] != "su" || rec["time"] != "2003-10-11T22:14:15.003000Z" || rec["drain"] != nil {
			t.Errorf("%v", rec)
		}
		got = append(got, rec["message"].(string))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// A connection whose sender does not say more costs little.
func TestQuietConnections(t *testing.T) {
	d := open(t)
	for range 200 {
		conn := d.dial()
		_, err := conn.Write(count(routerLine("x")))
		must(t, err)
	}
	d.records("router", 200)
	eventually(t, "nothing is held", func() bool { return d.budget.Used() == 0 })
	if n := d.metric("drain_syslog_connections"); n != 200 {
		t.Errorf("%v connections", n)
	}
}

// A listener that fails ends Serve with what it was.
func TestServe_says(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l.Close()
	d := open(t)
	if err := d.server.Serve(l); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "take syslog connections on 127.0.0.1:") {
		t.Error(err)
	}
}
