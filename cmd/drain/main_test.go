package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"drain/settings"
	"drain/trial/check"
	"drain/trial/journal"
)

var must, eventually = check.Must, check.Eventually

func TestMain(m *testing.M) {
	status := m.Run()
	installed.Remove()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// program is drain, running in this process.
type program struct {
	t                    *testing.T
	ingest, admin, kafka string
	stop                 context.CancelFunc
	ended                chan struct{}
	err                  error            // once it has ended
	out                  *journal.Journal // its log
	hints                *journal.Journal
	hup                  chan os.Signal
}

// ports lets the system choose them all.
func ports(t *testing.T) vars {
	return vars{"LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "BROKER_LISTEN": "127.0.0.1:0", "DATA_DIR": t.TempDir()}
}

// with is s with other settings.
// start runs drain until it listens, or has ended.
func start(t *testing.T, env vars, args ...string) *program {
	t.Helper()
	p := &program{t: t, ended: make(chan struct{}), out: new(journal.Journal), hints: new(journal.Journal), hup: make(chan os.Signal)}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.ended)
		p.err = run(ctx, args, environ{env.Lookup, p.hints, p.out, p.hup})
	}()
	t.Cleanup(func() {
		p.stop()
		<-p.ended
		if t.Failed() {
			t.Logf("drain said:\n%s\nand %v", p.out, p.err)
		}
	})
	eventually(t, "drain listens", func() bool { return p.listens() || p.hasEnded() })
	return p
}

var addresses = regexp.MustCompile(`msg="drain listens" listen=(\S+) kafka=(\S+) .*?(?: admin=(\S+))?(?: syslog=\S+ syslog_tls=\w+)?\n`)

func (p *program) listens() bool {
	found := addresses.FindStringSubmatch(p.out.String())
	if found != nil {
		p.ingest, p.kafka, p.admin = found[1], found[2], found[3]
	}
	return found != nil
}

func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// end stops drain as a signal does, and returns what it ends with.
func (p *program) end() error {
	p.t.Helper()
	p.stop()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Fatal("does not stop")
	}
	return p.err
}

// refused fails unless drain ended at once with status 1 and one line that says
// all of these.
func (p *program) refused(says ...string) {
	p.t.Helper()
	if !p.hasEnded() {
		p.t.Fatal("runs")
	}
	var shown strings.Builder
	if status := settings.ExitStatus("drain", p.err, &shown); status != 1 {
		p.t.Errorf("exit status %d", status)
	}
	text := p.out.String() + shown.String()
	if strings.Count(text, "\n") != 1 {
		p.t.Errorf("%q is not one line", text)
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			p.t.Errorf("%q does not say %q", text, want)
		}
	}
}

// get asks for a page and returns its status and text; 0 when nobody is there.
func get(url string, headers ...string) (status int, text string) {
	return send("GET", url, "", headers...)
}

func send(method, url, body string, headers ...string) (status int, text string) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(all)
}

// line is a router line with this path.
func line(path string) string {
	return `<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - at=info method=GET path="` + path +
		`" host=a.example.com request_id=8601b555 fwd="203.0.113.7" dyno=web.1 connect=0ms service=3ms status=200 bytes=1024 protocol=http1.1` + "\n"
}

func (p *program) post(body string, headers ...string) (status int) {
	status, _ = send("POST", "http://"+p.ingest+"/logs", body, headers...)
	return status
}

// ready waits until /readyz says so.
func (p *program) ready() {
	p.t.Helper()
	eventually(p.t, "ready", func() bool { status, _ := get("http://" + p.admin + "/readyz"); return status == 200 })
}

// stored reads all records of a topic with a client that is not ours.
func stored(t *testing.T, kafka, topic string) (values []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(50*time.Millisecond), kgo.FetchMaxBytes(8<<20))
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	total, next := ends(ctx, t, client, topic), int64(0)
	for int64(len(values)) < total {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v after %d of %d records (%d)", err, len(values), total, next)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

// ends is how many records a topic has.
func ends(ctx context.Context, t *testing.T, client *kgo.Client, topic string) (total int64) {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	about := kmsg.NewMetadataRequestTopic()
	about.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, about)
	meta, err := req.RequestWith(ctx, client)
	must(t, err)
	must(t, kerr.ErrorForCode(meta.Topics[0].ErrorCode))
	list := kmsg.NewPtrListOffsetsRequest()
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic = topic
	for _, p := range meta.Topics[0].Partitions {
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = p.Partition, -1
		of.Partitions = append(of.Partitions, one)
	}
	list.Topics = append(list.Topics, of)
	for _, shard := range client.RequestSharded(ctx, list) {
		must(t, shard.Err)
		for _, p := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			total += p.Offset
		}
	}
	return total
}

func TestItTakesLogsAndStops(t *testing.T) {
	p := start(t, ports(t).With("LOGS_TOPIC", "logs"))
	p.ready()
	if status := p.post(line("/a") + "<13>1 - host app web.1 - hello\n"); status != 200 {
		t.Errorf("answered %d", status)
	}
	if got := stored(t, p.kafka, "router"); len(got) != 1 || !strings.Contains(got[0], `"path":"/a"`) {
		t.Errorf("router records: %q", got)
	}
	if got := stored(t, p.kafka, "logs"); len(got) != 1 || !strings.Contains(got[0], `"message":"hello"`) {
		t.Errorf("other records: %q", got)
	}
	status, metrics := get("http://" + p.admin + "/metrics")
	for _, want := range []string{`drain_records_total{result="committed",topic="router"} 1`, "drain_pool_acquired", "drain_pool_idle", "drain_pool_waits_total", "go_goroutines", "process_cpu_seconds_total"} {
		if status != 200 || !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s (%d)", want, status)
		}
	}
	for url, want := range map[string]int{
		p.ingest + "/healthz": 200, p.ingest + "/readyz": 200, p.ingest + "/metrics": 404, p.ingest + "/debug/pprof/": 404,
		p.admin + "/healthz": 200, p.admin + "/logs": 404, p.admin + "/debug/pprof/": 404,
	} {
		if status, _ := get("http://" + url); status != want {
			t.Errorf("%s is answered %d, want %d", url, status, want)
		}
	}
	began := time.Now()
	if err := p.end(); err != nil || time.Since(began) > 3*time.Second {
		t.Errorf("ends with %v after %v", err, time.Since(began))
	}
	for _, addr := range []string{p.ingest, p.admin, p.kafka} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Errorf("%s is still open", addr)
		}
	}
}

func TestTheAdminListener(t *testing.T) {
	off := start(t, ports(t).With("ADMIN_LISTEN", "", "METRICS_TOKEN", "token", "DRAIN_SECRETS", "a-secret-of-sixteen"))
	if off.admin != "" {
		t.Errorf("listens on %s", off.admin)
	}
	if status, _ := get("http://" + off.ingest + "/metrics"); status != 401 {
		t.Errorf("without the token, answered %d", status)
	}
	if status, text := get("http://"+off.ingest+"/metrics", "Authorization: Bearer token"); status != 200 || strings.Contains(text, "a-secret") {
		t.Errorf("with the token, answered %d", status)
	}
	on := start(t, ports(t), "--pprof")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/profile?seconds=1"} {
		if status, _ := get("http://" + on.admin + path); status != 200 {
			t.Errorf("%s is answered %d", path, status)
		}
	}
}

// shell runs a line as it is pasted.
func shell(t *testing.T, line string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output() // curl shows its progress on the other one
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func TestTheCurlLineOfTheStartWorksAsItStands(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("there is no curl")
	}
	const secret = `it's-a"$ecret&of\sixteen`
	for name, env := range map[string]vars{
		"as it starts by itself": {},
		"with secrets":           {"DRAIN_SECRETS": secret},
		"on all addresses":       {"LISTEN": "0.0.0.0:0", "ALLOW_ANONYMOUS": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			all := ports(t)
			maps.Copy(all, env)
			p := start(t, all)
			p.ready()
			said := p.hints.String()
			post := regexp.MustCompile(`(?m)^ +curl .* -d .*$`).FindString(said)
			if out := shell(t, post, "SECRET="+secret); out != "" {
				t.Errorf("%s says %q", post, out)
			}
			got := stored(t, p.kafka, "router")
			if len(got) != 1 || !strings.Contains(got[0], `"path":"/hello?token=[REDACTED]&page=2"`) {
				t.Errorf("%s gives %q", post, got)
			}
			look := regexp.MustCompile(`(?m)^ +curl .*/metrics.*$`).FindString(said)
			if out := shell(t, look); !strings.Contains(out, `drain_requests_total{code="200"} 1`) {
				t.Errorf("%s says %q", look, out)
			}
			for line := range strings.Lines(p.out.String()) {
				if !strings.HasPrefix(line, "time=") {
					t.Errorf("the log has a line that is no event: %s", line)
				}
			}
			if !strings.Contains(said, p.kafka) || !strings.Contains(said, all["DATA_DIR"]) {
				t.Errorf("does not say where the records are:\n%s", said)
			}
		})
	}
}

// A syslog drain is taken beside the others, and what it sent until a stop is stored.
func TestSyslogDrainsAreTakenAndStopped(t *testing.T) {
	p := start(t, ports(t).With("SYSLOG_LISTEN", "127.0.0.1:0"))
	p.ready()
	conn, err := net.Dial("tcp", regexp.MustCompile(` syslog=(\S+)`).FindStringSubmatch(p.out.String())[1])
	must(t, err)
	defer conn.Close()
	for i := range 2 {
		message := line(fmt.Sprint("/", i))
		_, err = fmt.Fprintf(conn, "%d %s", len(message), message)
		must(t, err)
		eventually(t, "it is stored", func() bool { return len(stored(t, p.kafka, "router")) == i+1 })
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the connection is left open")
	}
}

// What is unsafe is said at the start.
func TestTheStartWarns(t *testing.T) {
	sasl := []string{"KAFKA_SASL_MECHANISM", "PLAIN", "KAFKA_SASL_USERNAME", "u", "KAFKA_SASL_PASSWORD", "swordfish", "KAFKA_URL", "127.0.0.1:1", "HOLD", "100ms"}
	for warning, env := range map[string][]string{
		"PLAIN without TLS":                         sasl,
		"everybody who reaches this address can po": {"LISTEN", ":0", "ALLOW_ANONYMOUS", "true"},
		"everybody who reaches this address can se": {"SYSLOG_LISTEN", ":0", "ALLOW_ANONYMOUS", "true"},
		"ACK=queued: a 200 does not mean":           {"ACK", "queued"},
	} {
		p := start(t, ports(t).With(env...))
		if !strings.Contains(p.out.String(), warning) {
			t.Errorf("%q is not said", warning)
		}
		if quiet := start(t, ports(t)); strings.Contains(quiet.out.String(), warning) {
			t.Errorf("%q is said for nothing", warning)
		}
	}
}

func TestATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	for _, name := range []string{"LISTEN", "ADMIN_LISTEN", "BROKER_LISTEN", "SYSLOG_LISTEN"} {
		t.Run(name, func(t *testing.T) {
			start(t, ports(t).With(name, addr)).refused(name, addr, "in use")
		})
	}
	t.Run("LISTEN and ADMIN_LISTEN alike", func(t *testing.T) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		free.Close()
		addr := free.Addr().String()
		start(t, ports(t).With("LISTEN", addr, "ADMIN_LISTEN", addr)).refused("ADMIN_LISTEN", addr)
	})
}

func TestAFolderThatCannotBeUsed(t *testing.T) {
	env := ports(t)
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	first := start(t, env)
	start(t, env).refused("DATA_DIR", env["DATA_DIR"], "in use")
	must(t, first.end())
	start(t, env.With("DATA_DIR", file)).refused("DATA_DIR", file)
	start(t, env.With("DATA_DIR", filepath.Join(file, "x"))).refused("DATA_DIR", file)
	start(t, env.With("DATA_DIR", "/proc/drain")).refused("DATA_DIR", "/proc/drain")
	if p := start(t, env); p.hasEnded() {
		t.Errorf("the first one's folder is not free again: %v", p.err)
	}
}

func TestAStopBeforeTheStartIsAStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, nil, environ{ports(t).Lookup, io.Discard, new(journal.Journal), nil}); err != nil {
		t.Error(err)
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	env := ports(t)
	for i := range 3 {
		p := start(t, env)
		p.ready()
		if status := p.post(line(fmt.Sprint("/", i))); status != 200 {
			t.Fatalf("answered %d", status)
		}
		if got := stored(t, p.kafka, "router"); len(got) != i+1 {
			t.Errorf("%d records after %d starts", len(got), i+1)
		}
		must(t, p.end())
	}
	// A topic that the folder lacks is made.
	p := start(t, env.With("LOGS_TOPIC", "logs", "KAFKA_TOPIC", "requests", "KAFKA_PREFIX", "p."))
	p.ready()
	if status := p.post(line("/3") + "<13>1 - host app web.1 - hello\n"); status != 200 {
		t.Errorf("answered %d", status)
	}
	for topic, n := range map[string]int{"router": 3, "p.requests": 1, "p.logs": 1} {
		if got := stored(t, p.kafka, topic); len(got) != n {
			t.Errorf("%d records in %s, want %d", len(got), topic, n)
		}
	}
}

func TestABrokerThatIsNotThereYet(t *testing.T) {
	place, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := place.Addr().(*net.TCPAddr).Port
	place.Close()
	env := ports(t).With("KAFKA_URL", fmt.Sprintf("kafka://127.0.0.1:%d", port), "HOLD", "300ms")
	p := start(t, env)
	eventually(t, "it says that Kafka is not ready", func() bool { return strings.Contains(p.out.String(), "Kafka is not ready") })
	if status, text := get("http://" + p.admin + "/readyz"); status != 503 || strings.Count(text, "\n") != 1 {
		t.Errorf("/readyz is answered %d %q", status, text)
	}
	if status, _ := get("http://" + p.admin + "/healthz"); status != 200 {
		t.Errorf("/healthz is answered %d", status)
	}
	if status := p.post(line("/early")); status != 503 {
		t.Errorf("answered %d", status)
	}
	broker := kfake.MustCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(2, "router"))
	defer broker.Close()
	p.ready()
	if status := p.post(line("/late")); status != 200 {
		t.Errorf("answered %d", status)
	}
	if files, _ := os.ReadDir(env["DATA_DIR"]); len(files) > 0 {
		t.Errorf("an embedded broker was there too: %v", files)
	}
	must(t, p.end())
}

func TestTheFileOfSecretsIsReadOnHUP(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	must(t, os.WriteFile(file, []byte("the-first-secret-of-all"), 0o600))
	p := start(t, ports(t).With("LISTEN", "0.0.0.0:0", "DRAIN_SECRETS_FILE", file))
	p.ready()
	if status := p.post(line("/"), "Authorization: Bearer the-first-secret-of-all"); status != 200 {
		t.Errorf("answered %d", status)
	}
	must(t, os.WriteFile(file, []byte("the-second-secret-of-all"), 0o600))
	p.hup <- os.Interrupt
	p.hup <- os.Interrupt // taken when the first is done with
	if status := p.post(line("/"), "Authorization: Bearer the-first-secret-of-all"); status != 401 {
		t.Errorf("answered %d", status)
	}
	if status := p.post(line("/"), "Authorization: Bearer the-second-secret-of-all"); status != 200 {
		t.Errorf("answered %d", status)
	}
	if said := p.out.String(); strings.Contains(said, "secret-of-all") {
		t.Errorf("shows a secret:\n%s", said)
	}
}

// Connections that send nothing, or not all, do not hold up a stop.
func TestAStopWaitsForNoOneThatSendsNothing(t *testing.T) {
	p := start(t, ports(t).With("HOLD", "500ms"))
	p.ready()
	for _, text := range []string{"", "POST /lo", "POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n<1>1"} {
		conn, err := net.Dial("tcp", p.ingest)
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, text)
		must(t, err)
	}
	if status := p.post(line("/")); status != 200 { // by now the others were accepted
		t.Fatalf("answered %d", status)
	}
	began := time.Now()
	if err := p.end(); err != nil || time.Since(began) > 3*time.Second {
		t.Errorf("ends with %v after %v", err, time.Since(began))
	}
}

func TestAStopWithoutKafkaSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	broker := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "router"))
	defer broker.Close()
	p := start(t, ports(t).With("KAFKA_URL", broker.ListenAddrs()[0], "HOLD", "300ms"))
	p.ready()
	broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	for i := range 3 {
		if status := p.post(line(fmt.Sprint("/", i)) + line("/x")); status != 503 {
			t.Errorf("answered %d", status)
		}
	}
	began := time.Now()
	err := p.end()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("ends after %v", took)
	}
	var shown strings.Builder
	if status := settings.ExitStatus("drain", err, &shown); status != 1 || !strings.Contains(shown.String(), "6 records") {
		t.Errorf("status %d: %s", status, shown.String())
	}
}
