package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/usual"
)

// Setup is one way to run a service.
type Setup struct {
	// Variant is drain, or a reference: writer (kafka-go's Writer with drain's
	// reading), idiomatic (Writer and idiomatic reading).
	Variant string
	// Broker is kfake, kfake with TLS, or kafka.
	Broker      string
	Compression string
	Partitions  int
	// Procs is GOMAXPROCS of the service, 0 for what there is.
	Procs int `json:",omitempty"`
	// Profiles has drain serve profiles.
	Profiles bool `json:",omitempty"`
}

// Load is what is sent to it.
type Load struct {
	// Generator is wrk, or logplex.
	Generator string
	// Connections send at once, each a request of Lines lines after the other.
	Connections, Lines int
	// LineBytes is the length of a line's text, 0 for usual lines.
	LineBytes int `json:",omitempty"`
	// Drains are the tokens that take turns.
	Drains int
	// Rate is in lines a second, 0 for as many as are taken; logplex only.
	Rate int `json:",omitempty"`
}

// Point is what is measured.
type Point struct {
	Setup
	Load
	// Fresh has the service started anew for each run, so that its memory is that of
	// this load alone.
	Fresh bool `json:"-"`
}

// Run is one measurement of a Point.
type Run struct {
	LinesPerSecond float64 // answered 200, which is after the commit
	Refused        float64 `json:",omitempty"` // share of the requests answered 503, which are kept and committed later
	CPU            float64 // ns a line: of the service,
	BrokerCPU      float64 // of the broker,
	GeneratorCPU   float64 // and of wrk or logplex
	Allocations    float64 // a line
	Resident       float64 // MiB, at the end
	P50, P99, P999 float64 // of the answers, ms
	SentBytes      float64 `json:",omitempty"` // to Kafka, a line; drain only
}

// Series is a Point with its runs.
type Series struct {
	Point
	Runs []Run
}

// bench runs the processes.
type bench struct {
	ctx      context.Context
	dir      string // for what it needs
	root     string // of the repository
	duration time.Duration
	brokers  map[string]*broker
	services map[Setup]*service
	bodies   map[Load]int // how many there are in its folder
}

// broker is a running one.
type broker struct {
	addr   string
	pid    int
	client *kgo.Client
	admin  *kadm.Client
	stop   func()
	topics map[int]bool // by partitions
}

// service is a running one.
type service struct {
	*process
	url, metrics, profiles string
	topic                  string
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// build builds what is measured.
func (b *bench) build() error {
	for name, from := range map[string]string{"drain": "./cmd/drain", "logplex": "./cmd/logplex"} {
		cmd := exec.CommandContext(b.ctx, "go", "build", "-o", b.path(name), from)
		cmd.Dir = b.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", from, err, out)
		}
	}
	return nil
}

// close ends all processes.
func (b *bench) close() {
	for setup := range b.services {
		b.drop(setup)
	}
	for name, br := range b.brokers {
		br.client.Close()
		br.stop()
		delete(b.brokers, name)
	}
}

func (b *bench) drop(setup Setup) {
	if s := b.services[setup]; s != nil {
		s.stop()
		delete(b.services, setup)
	}
}

// broker gives a broker by its name, started if it has to be.
func (b *bench) broker(name string) (*broker, error) {
	if br := b.brokers[name]; br != nil {
		return br, nil
	}
	br := &broker{topics: make(map[int]bool)}
	var opts []kgo.Opt
	switch name {
	case "kafka":
		if err := b.startKafka(br); err != nil {
			return nil, err
		}
	default:
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		args := []string{"broker", "--port", strconv.Itoa(port)}
		if name == "kfake with TLS" {
			args = append(args, "--tls", b.dir)
		}
		p, err := start(b.ctx, name, self, args, nil)
		if err != nil {
			return nil, err
		}
		br.addr, br.pid, br.stop = fmt.Sprintf("127.0.0.1:%d", port), p.cmd.Process.Pid, p.stop
		listens := func() bool {
			c, err := net.Dial("tcp", br.addr)
			if err == nil {
				c.Close()
			}
			return err == nil
		}
		if err := p.until(b.ctx, listens); err != nil {
			return nil, err
		}
		if name == "kfake with TLS" {
			cfg, err := trusting(b.path("trusted.pem"))
			if err != nil {
				return nil, err
			}
			opts = append(opts, kgo.DialTLSConfig(cfg))
		}
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(br.addr))...)
	if err != nil {
		return nil, err
	}
	br.client, br.admin = client, kadm.NewClient(client)
	b.brokers[name] = br
	return br, nil
}

// startKafka starts a real one with scripts/kafka, its data in memory where the
// system has a folder for that: what is measured is not the disk.
func (b *bench) startKafka(br *broker) error {
	dir := b.path("brokers/kafka")
	if memory, err := os.MkdirTemp("/dev/shm", "bench-kafka"); err == nil {
		dir = filepath.Join(memory, "kafka")
	}
	script := filepath.Join(b.root, "scripts/kafka")
	cmd := exec.CommandContext(b.ctx, script, "start", "--port", "0", "--dir", dir)
	cmd.Env = append(os.Environ(), "KAFKA_PROPERTIES=log.segment.bytes=33554432\nlog.retention.bytes=67108864\nlog.retention.check.interval.ms=500\nlog.segment.delete.delay.ms=100")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	_, addr, _ := strings.Cut(strings.TrimSpace(string(out)), "kafka://")
	pid, err := os.ReadFile(filepath.Join(dir, "node-1.pid"))
	if err == nil {
		br.pid, err = strconv.Atoi(strings.TrimSpace(string(pid)))
	}
	if err != nil {
		return fmt.Errorf("find Kafka's process: %w", err)
	}
	br.addr = addr
	br.stop = func() {
		_ = exec.Command(script, "stop", "--dir", dir).Run() // it says so itself
		_ = os.RemoveAll(filepath.Dir(dir))
	}
	return nil
}

// topic makes a topic of so many partitions, once.
func (br *broker) topic(ctx context.Context, partitions int) (string, error) {
	name := fmt.Sprintf("router-%d", partitions)
	if br.topics[partitions] {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := br.admin.CreateTopic(ctx, int32(partitions), 1, nil, name); err != nil {
		return "", fmt.Errorf("make topic %s: %w", name, err)
	}
	br.topics[partitions] = true
	return name, nil
}

// stored is how many records were ever in the topic.
func (br *broker) stored(ctx context.Context, topic string) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := br.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the ends of %s: %w", topic, err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n, nil
}

// service gives a service by its setup, started if it has to be.
func (b *bench) service(setup Setup) (*service, error) {
	if s := b.services[setup]; s != nil {
		return s, nil
	}
	br, err := b.broker(setup.Broker)
	if err != nil {
		return nil, err
	}
	topic, err := br.topic(b.ctx, setup.Partitions)
	if err != nil {
		return nil, err
	}
	ports := [2]int{}
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	s := &service{topic: topic, url: fmt.Sprintf("http://127.0.0.1:%d", ports[0])}
	var env, args []string
	if setup.Procs > 0 {
		env = append(env, fmt.Sprintf("GOMAXPROCS=%d", setup.Procs))
	}
	file, ready := b.path("drain"), ""
	switch setup.Variant {
	case "drain":
		s.metrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", ports[1])
		s.profiles = fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile", ports[1])
		ready = fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[1])
		kafkaURL := "kafka://" + br.addr
		if setup.Broker == "kfake with TLS" {
			text, err := os.ReadFile(b.path("trusted.pem"))
			if err != nil {
				return nil, err
			}
			kafkaURL = "kafka+ssl://" + br.addr
			env = append(env, "KAFKA_TRUSTED_CERT="+string(text))
		}
		env = append(env, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+topic, "KAFKA_COMPRESSION="+setup.Compression,
			fmt.Sprintf("LISTEN=127.0.0.1:%d", ports[0]), fmt.Sprintf("ADMIN_LISTEN=127.0.0.1:%d", ports[1]), fmt.Sprintf("PPROF=%t", setup.Profiles))
	case "writer", "idiomatic":
		if file, err = os.Executable(); err != nil {
			return nil, err
		}
		way := map[string]string{"writer": "drain", "idiomatic": "idiomatic"}[setup.Variant]
		args = []string{"service", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--kafka", br.addr, "--topic", topic, "--read", way}
		s.metrics = s.url + "/metrics"
		ready = s.metrics
	default:
		return nil, fmt.Errorf("no variant %q", setup.Variant)
	}
	if s.process, err = start(b.ctx, setup.Variant, file, args, env); err != nil {
		return nil, err
	}
	b.services[setup] = s
	return s, s.until(b.ctx, func() bool { return answers(ready) })
}

// folder makes the bodies of a load, once.
func (b *bench) folder(l Load) (dir string, count int, err error) {
	kind := Load{Lines: l.Lines, LineBytes: l.LineBytes}
	dir = b.path(fmt.Sprintf("bodies-%d-%d", l.Lines, l.LineBytes))
	if count = b.bodies[kind]; count > 0 {
		return dir, count, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", 0, err
	}
	const all, most = 50_000, 2000
	lines := usual.Lines(max(l.Lines, min(all, most*l.Lines)), 1)
	if l.LineBytes > 0 {
		for i, line := range lines[:min(len(lines), 10_000)] {
			lines[i] = usual.Sized(line, l.LineBytes)
		}
		lines = lines[:min(len(lines), 10_000)]
	}
	for _, body := range usual.Frames(lines, l.Lines) {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(count)), body, 0o600); err != nil {
			return "", 0, err
		}
		if count++; len(lines)-count*l.Lines < l.Lines {
			break // a last one would be smaller
		}
	}
	b.bodies[kind] = count
	return dir, count, nil
}

// run measures a point once.
func (b *bench) run(p Point) (r Run, err error) {
	if p.Fresh {
		b.drop(p.Setup)
	}
	known := b.services[p.Setup] != nil
	s, err := b.service(p.Setup)
	if err != nil {
		return r, err
	}
	if !known { // the first seconds are for connections, pools and caches
		if _, err := b.load(s, p.Load, b.duration/2); err != nil {
			return r, err
		}
	}
	br := b.brokers[p.Broker]
	before, err := b.state(s, br)
	if err != nil {
		return r, err
	}
	sent, err := b.load(s, p.Load, b.duration)
	if err != nil {
		return r, err
	}
	after, err := b.state(s, br)
	if err != nil {
		return r, err
	}
	lines := float64(after.stored - before.stored)
	if lines == 0 {
		return r, fmt.Errorf("nothing was stored: %s", s.log)
	}
	if lines < float64(sent.lines) {
		return r, fmt.Errorf("%d lines were answered 200, %.0f are in the topic", sent.lines, lines)
	}
	perLine := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / lines }
	r = Run{
		LinesPerSecond: float64(sent.lines) / sent.took.Seconds(), Refused: sent.refused,
		CPU: perLine(after.cpu - before.cpu), BrokerCPU: perLine(after.brokerCPU - before.brokerCPU), GeneratorCPU: perLine(sent.cpu),
		Allocations: (after.samples["go_memstats_mallocs_total"] - before.samples["go_memstats_mallocs_total"]) / lines,
		Resident:    float64(after.resident) / (1 << 20),
		P50:         sent.p50, P99: sent.p99, P999: sent.p999,
		SentBytes: (after.samples["drain_batch_bytes_sum"] - before.samples["drain_batch_bytes_sum"]) / lines,
	}
	if p.Fresh {
		b.drop(p.Setup)
	}
	return r, nil
}

// state is what is read before and after a load.
type state struct {
	cpu, brokerCPU time.Duration
	resident       int64
	samples        map[string]float64
	stored         int64
}

// state reads it when all that was sent is stored: what is under way when a load
// ends would else be the next one's.
func (b *bench) state(s *service, br *broker) (st state, err error) {
	for before := int64(-1); st.stored != before; {
		if before = st.stored; before > 0 {
			time.Sleep(50 * time.Millisecond)
		}
		if st.stored, err = br.stored(b.ctx, s.topic); err != nil {
			return st, err
		}
	}
	pid := s.cmd.Process.Pid
	var errs [4]error
	st.resident, errs[0] = resident(pid)
	st.cpu, errs[1] = processorTime(pid)
	st.brokerCPU, errs[2] = processorTime(br.pid)
	st.samples, errs[3] = scrape(s.metrics, "go_memstats_mallocs_total", "drain_batch_bytes_sum")
	if err := errors.Join(errs[:]...); err != nil {
		return st, fmt.Errorf("read the state of %s: %w", s.name, err)
	}
	return st, nil
}

// sent is what a generator tells.
type sent struct {
	lines          int64
	took, cpu      time.Duration
	p50, p99, p999 float64 // ms
	refused        float64 // share of the requests
}

func (b *bench) load(s *service, l Load, d time.Duration) (sent, error) {
	if l.Generator == "logplex" {
		return b.logplex(s, l, d)
	}
	return b.wrk(s, l, d)
}

func (b *bench) wrk(s *service, l Load, d time.Duration) (r sent, err error) {
	dir, count, err := b.folder(l)
	if err != nil {
		return r, err
	}
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	cmd := exec.CommandContext(b.ctx, "wrk", "-t1", fmt.Sprintf("-c%d", l.Connections), fmt.Sprintf("-d%ds", seconds), "--timeout", "10s",
		"-s", filepath.Join(b.root, "bench/load.lua"), s.url)
	cmd.Env = append(os.Environ(), "BODIES="+dir, fmt.Sprintf("COUNT=%d", count), fmt.Sprintf("DRAINS=%d", l.Drains))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	_, result, _ := strings.Cut(string(out), "result ")
	var requests, micros, refused, failed int64
	var p50, p99, p999 float64
	if _, err := fmt.Sscan(result, &requests, &micros, &refused, &failed, &p50, &p99, &p999); err != nil {
		return r, fmt.Errorf("wrk said %q: %w", out, err)
	}
	if failed > 0 {
		return r, fmt.Errorf("%d requests failed: %s\n%s", failed, out, s.log)
	}
	return sent{(requests - refused) * int64(l.Lines), time.Duration(micros) * time.Microsecond, used(cmd), p50 / 1000, p99 / 1000, p999 / 1000,
		float64(refused) / float64(requests)}, nil
}

func (b *bench) logplex(s *service, l Load, d time.Duration) (r sent, err error) {
	rate := "--max"
	if l.Rate > 0 {
		rate = fmt.Sprintf("--rate=%d", l.Rate)
	}
	cmd := exec.CommandContext(b.ctx, b.path("logplex"), "--url", s.url+"/logs", rate, fmt.Sprintf("--drains=%d", l.Drains), "--duration", d.String(), "--json")
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("logplex: %w\n%s", err, out)
	}
	var said struct {
		Acknowledged int64   `json:"acknowledged"`
		Seconds      float64 `json:"seconds"`
		Latency      struct {
			P50  float64 `json:"p50"`
			P99  float64 `json:"p99"`
			P999 float64 `json:"p99.9"`
		} `json:"answer_ms"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return r, fmt.Errorf("logplex said %q: %w", out, err)
	}
	return sent{said.Acknowledged, time.Duration(said.Seconds * float64(time.Second)), used(cmd), said.Latency.P50, said.Latency.P99, said.Latency.P999, 0}, nil
}

// used is the processor time of a command that has ended.
func used(cmd *exec.Cmd) time.Duration {
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rounds measures all points n times, in turns: A B C A B C …
func (b *bench) rounds(name string, n int, points []Point) ([]Series, error) {
	all := make([]Series, len(points))
	for i, p := range points {
		all[i].Point = p
	}
	for round := range n {
		for i, p := range points {
			r, err := b.run(p)
			if err != nil {
				return nil, fmt.Errorf("%s: %+v: %w", name, p, err)
			}
			all[i].Runs = append(all[i].Runs, r)
			fmt.Fprintf(os.Stderr, "%s %d/%d, %d/%d: %-9s %-14s %-4s %3d partitions, %4d x %3d: %8.0f lines/s %6.0f ns/line %6.2f ms\n",
				name, round+1, n, i+1, len(points), p.Variant, p.Broker, p.Compression, p.Partitions, p.Connections, p.Lines, r.LinesPerSecond, r.CPU, r.P99)
		}
	}
	return all, nil
}
