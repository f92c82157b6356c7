// Package replay tries the replay command from outside: the built program, drain's broker or a real Kafka, and
// targets that keep what they get.
package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"drain/replay"
	"drain/trial/check"
	"drain/trial/program"
)

var long = flag.Bool("long", false, "run in full what is run in short")

var programs string // folder of the built commands

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drain-replay")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	if err := program.Build(dir, "drain/cmd/drain", "drain/cmd/replay", "drain/e2e/replay/target"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// start starts a command with flags, and settings (`NAME=value`) and nothing else in its environment.
func start(t *testing.T, name string, settings []string, flags ...string) *program.Program {
	t.Helper()
	return program.Start(t, filepath.Join(programs, name), settings, flags...)
}

// ends waits for the end of a replay, and reads its --json.
func ends(t *testing.T, p *program.Program, status int) *replay.Result {
	t.Helper()
	if got := p.Wait(5 * time.Minute); got != status {
		t.Fatalf("it ended with status %d, want %d", got, status)
	}
	r := new(replay.Result)
	check.Must(t, json.Unmarshal(p.Output(), r))
	return r
}

// broker is drain with a broker of its own.
func broker(t *testing.T) (kafka, logs string) {
	t.Helper()
	drain := start(t, "drain", []string{"LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "BROKER_LISTEN=127.0.0.1:0"})
	kafka = drain.Saying(`msg="drain listens".* kafka=(\S+)`)
	return kafka, "http://" + drain.Saying(`msg="drain listens" listen=(\S+)`) + "/logs"
}

var began = time.Now().UTC().Add(-30 * time.Hour).Truncate(time.Second) // brokers delete what is old

// record is that of the i-th request, so long after the first.
func record(i int, after time.Duration, padding string) []byte {
	return fmt.Appendf(nil, `{"id":"%x-0","time":"%s","drain":"d.1","app":"shop","at":"info","method":"GET","path":"/users/%d/orders?page=%d%s","host":"shop.example.com","request_id":"%d","fwd":"203.0.%d.%d","dyno":"web.%d","connect_ms":1,"service_ms":%d,"status":200,"bytes":3}`,
		i, began.Add(after).Format("2006-01-02T15:04:05.000000Z"), i%1000, i%7, padding, i, i>>8&255, i&255, i%4, 1+i%5)
}

// fill writes n records into a topic, one each so long after the one before.
func fill(t *testing.T, kafka string, n int, apart time.Duration, padding string, options ...kgo.Opt) {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.TrimPrefix(kafka, "kafka://")), kgo.DefaultProduceTopic("router"), kgo.MaxBufferedRecords(20_000), kgo.ProducerBatchMaxBytes(900_000))...)
	check.Must(t, err)
	defer client.Close()
	for i := range n {
		after := time.Duration(i) * apart
		client.Produce(t.Context(), &kgo.Record{Value: record(i, after, padding), Timestamp: began.Add(after)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	check.Must(t, client.Flush(t.Context()))
}

// target is a process that requests are sent to.
type target struct {
	t   *testing.T
	url string
}

func startTarget(t *testing.T) *target {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "target"))
	stdin, err := cmd.StdinPipe()
	check.Must(t, err)
	stdout, err := cmd.StdoutPipe()
	check.Must(t, err)
	check.Must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	check.Must(t, err)
	return &target{t, strings.TrimSpace(url)}
}

// arrivals are when each request came, by the record's number, since some moment; it forgets them.
func (g *target) arrivals() (at map[int][]time.Duration, all int) {
	g.t.Helper()
	answer, err := http.Get(g.url + "/-/arrivals")
	check.Must(g.t, err)
	defer answer.Body.Close()
	at = make(map[int][]time.Duration)
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); all++ {
		id, ns, _ := strings.Cut(lines.Text(), " ")
		i, err := strconv.Atoi(id)
		check.Must(g.t, err)
		n, err := strconv.ParseInt(ns, 10, 64)
		check.Must(g.t, err)
		at[i] = append(at[i], time.Duration(n))
	}
	return at, all
}

// exactly fails the test unless the numbers from 0 to n came once each.
func exactly(t *testing.T, came map[int][]time.Duration, n int) {
	t.Helper()
	missing, repeated := 0, 0
	for i := range n {
		switch len(came[i]) {
		case 0:
			missing++
		case 1:
		default:
			repeated++
		}
	}
	if missing > 0 || repeated > 0 || len(came) != n {
		t.Errorf("of %d requests %d are missing, %d came more than once; %d came", n, missing, repeated, len(came))
	}
}

// A thousand requests a second were recorded: at every speed they come when they are due, and all together take as long as
// they should. In short it is fewer, and half of them may come late: other tests are at work beside it.
func TestPace_isThatOfTheRecording(t *testing.T) {
	rate, seconds, tries, share := 250, 3.0, 5, 0.5
	if *long {
		rate, seconds, tries, share = 1000, 60, 1, 0.99
	}
	kafka, _ := broker(t)
	fill(t, kafka, int(seconds*10*float64(rate))+1, time.Second/time.Duration(rate), "")
	g := startTarget(t)
	for _, speed := range []float64{0.5, 1, 2, 10} {
		t.Run(fmt.Sprint(speed), func(t *testing.T) {
			n := int(seconds * speed * float64(rate))
			until := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
			for try := 1; ; try++ {
				r := ends(t, start(t, "replay", []string{"KAFKA_URL=" + kafka, fmt.Sprintf("KAFKA_GROUP=at-%v-%d", speed, try)},
					"--target="+g.url, fmt.Sprint("--speed=", speed), "--json", "--until="+until.Format(time.RFC3339Nano)), 0)
				came, _ := g.arrivals()
				exactly(t, came, n)
				late, whole := lateness(came, n, speed*float64(rate))
				wanted := time.Duration(float64(n-1) / speed * float64(time.Second) / float64(rate))
				in := func(limit time.Duration) float64 {
					i, _ := slices.BinarySearch(late, limit)
					return float64(i) / float64(n)
				}
				off := float64(whole-wanted) / float64(wanted)
				t.Logf("speed %v: %d requests; %.2f%% within 5 ms, p50 %v, p99 %v, at most %v; %v for %v, %+.4f%%; replay itself says p99 %.1f ms late", speed, n, 100*in(5*time.Millisecond),
					late[n/2], late[n*99/100], late[n-1], whole, wanted, 100*off, r.Late.P99)
				tolerance := wanted / 1000
				if !*long {
					tolerance = 50 * time.Millisecond // either end may be late
				}
				if in(5*time.Millisecond) >= share && (whole-wanted).Abs() <= tolerance {
					return
				}
				if try == tries {
					t.Fatal("requests do not come when they are due")
				}
			}
		})
	}
}

// lateness is how far from its time each request came, in order, and how long it took from the first to the last. What all of them take
// is none.
func lateness(came map[int][]time.Duration, n int, perSecond float64) (late []time.Duration, whole time.Duration) {
	first, last := came[0][0], came[0][0]
	for i, at := range came {
		late = append(late, at[0]-time.Duration(float64(i)/perSecond*float64(time.Second)))
		first, last = min(first, at[0]), max(last, at[0])
	}
	slices.Sort(late)
	usual := late[n/20] // one of the soonest
	for i := range late {
		late[i] = (late[i] - usual).Abs()
	}
	slices.Sort(late)
	return late, last - first
}

// Requests a second from one process, beside its target and drain's broker on the same processors.
func TestSpeed_ofOneProcess(t *testing.T) {
	n, least := 40_000, 2_000.0
	if *long {
		n, least = 1_000_000, 20_000
	}
	kafka, _ := broker(t)
	fill(t, kafka, n, time.Millisecond, "")
	g := startTarget(t)
	p := start(t, "replay", []string{"KAFKA_URL=" + kafka}, "--target="+g.url, "--speed=max", "--json")
	r := ends(t, p, 0)
	came, _ := g.arrivals()
	exactly(t, came, n)
	rate := float64(r.Requests.Sent) / r.Seconds
	t.Logf("%d requests in %.1f s: %.0f a second, %.1f µs of processor each", n, r.Seconds, rate, float64(p.Processor())/float64(n)/1e3)
	if rate < least {
		t.Errorf("%.0f a second, want %.0f", rate, least)
	}
}

// However long the recording: at its pace and as fast as can be, with all of it or a sample.
func TestMemory_doesNotGrowWithTheRecording(t *testing.T) {
	n := 150_000
	if *long {
		n = 5_000_000
	}
	kafka, _ := broker(t)
	fill(t, kafka, n, 20*time.Millisecond, "&q="+strings.Repeat("x", 200))
	g := startTarget(t)
	for name, flags := range map[string][]string{
		"a sample":          {"--sample=0.5%", "--speed=max"},
		"as fast as can be": {"--speed=max", "--until=" + began.Add(time.Duration(min(n, 1_000_000))*20*time.Millisecond/2).Format(time.RFC3339)},
		"at its pace":       {"--speed=100", "--until=" + began.Add(3*time.Minute).Format(time.RFC3339)},
		"a dry run":         {"--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "replay", []string{"KAFKA_URL=" + kafka, "KAFKA_GROUP=" + strings.ReplaceAll(name, " ", "-")}, append(flags, "--target="+g.url, "--json")...)
			var most int64
			for ; !p.HasEnded(); time.Sleep(50 * time.Millisecond) {
				if bytes, ok := p.Peak(); ok {
					most = max(most, bytes)
				}
			}
			if status := p.Wait(time.Second); status != 0 {
				t.Errorf("it ended with status %d", status)
			}
			g.arrivals()
			t.Logf("%d MiB at most", most>>20)
			if most == 0 || most >= 64<<20 {
				t.Errorf("%d bytes at most, want less than 64 MiB", most)
			}
		})
	}
}

// On a real Kafka: stopped in the middle, by one Ctrl-C or by several, and started again, every request is sent once.
func TestRealKafka_goesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("../../scripts/kafka", "start", "--dir", dir, "--port", "0").Output()
	if err != nil {
		t.Fatalf("start Kafka: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("../../scripts/kafka", "stop", "--dir", dir).Run() })
	kafka := strings.TrimPrefix(strings.TrimSpace(string(out)), "KAFKA_URL=")
	if out, err := exec.Command("../../scripts/kafka", "create", "router", "--partitions", "4", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("make the topic: %v: %s", err, out)
	}
	const n = 3000
	fill(t, kafka, n, time.Millisecond, "")
	var mu sync.Mutex // guards the following
	came := make(map[int][]time.Duration)
	all := 0
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.Header.Get("X-Replay"))
		mu.Lock()
		defer mu.Unlock()
		came[i] = append(came[i], 0)
		all++
	}))
	defer server.Close()
	settings := []string{"KAFKA_URL=" + kafka, "TARGET=" + server.URL, "KAFKA_SESSION_TIMEOUT=6s"}
	for round, signals := range []int{1, 3} {
		p := start(t, "replay", settings, "--json")
		check.Within(t, 60*time.Second, "some requests", func() (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if all <= (round+1)*500 {
				return 0, fmt.Errorf("%d came", all)
			}
			return all, nil
		})
		for range signals {
			p.Signal(syscall.SIGINT)
		}
		if r := ends(t, p, 0); r.Ended != "interrupted" || r.Requests.Sent == 0 || r.Requests.Sent >= n {
			t.Errorf("it ended with %s, and had sent %d", r.Ended, r.Requests.Sent)
		}
	}
	if r := ends(t, start(t, "replay", settings, "--json"), 0); r.Ended != "end" {
		t.Errorf("it ended with %s", r.Ended)
	}
	exactly(t, came, n)
	// It has all been sent: nothing is left, and --fail-on-diff is not content with that.
	if r := ends(t, start(t, "replay", settings, "--json", "--fail-on-diff=1%"), 1); r.Requests.Sent != 0 {
		t.Errorf("%d were sent once more", r.Requests.Sent)
	}
}

// As a Heroku app's lines come in and are played again: with other answers of one route, and a slower one, which
// are found, and no others.
func TestDrainedLines_areComparedWithAnswers(t *testing.T) {
	kafka, logs := broker(t)
	var lines strings.Builder
	now := time.Now().UTC()
	const each = 150
	for i := range each {
		at := now.Add(time.Duration(i-each) * 10 * time.Millisecond)
		for _, path := range []string{"/", "/users/%d", "/reviews/%d", "/search?q=%d", "/cart?token=s3cret%d", "/logout?%d"} {
			if strings.Contains(path, "%d") {
				path = fmt.Sprintf(path, i)
			}
			fmt.Fprintf(&lines, "%s heroku[router]: at=info method=GET path=\"%s\" host=shop.example.com request_id=%s-%d fwd=\"203.0.113.%d\" dyno=web.1 connect=0ms service=%dms status=200 bytes=3 protocol=https\n",
				at.Format("2006-01-02T15:04:05.000000+00:00"), path, strings.Trim(regexp.MustCompile(`[^a-z]`).ReplaceAllString(path, ""), "/"), i, i%200, 5+i%10)
		}
	}
	answer, err := http.Post(logs, "text/plain", strings.NewReader(lines.String()))
	check.Must(t, err)
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Fatalf("drain answers %d", answer.StatusCode)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * time.Millisecond)
		switch {
		case strings.HasPrefix(r.URL.Path, "/reviews/") && strings.HasSuffix(r.URL.Path, "7"):
			w.WriteHeader(500)
		case r.URL.Path == "/search":
			time.Sleep(150 * time.Millisecond)
		}
		fmt.Fprint(w, "ok\n")
	}))
	defer server.Close()
	page := filepath.Join(t.TempDir(), "report.html")
	p := start(t, "replay", []string{"KAFKA_URL=" + kafka}, "--target="+server.URL, "--json", "--html="+page, "--fail-on-diff=1%", "--fail-on-slower")
	r := ends(t, p, 1)
	if r.Requests.Read != 6*each || r.Requests.Sent != 4*each || r.Requests.Skipped["redacted"] != each || r.Requests.Skipped["denied"] != each {
		t.Errorf("%+v", r.Requests)
	}
	differ, slower := map[string]int64{}, []string{}
	for _, route := range r.Routes {
		if route.Differ > 0 {
			differ[route.Route] = route.Differ
		}
		if route.Times != nil && route.Times.Verdict != "" {
			slower = append(slower, route.Route+" "+route.Times.Verdict)
		}
	}
	if len(differ) != 1 || differ["/reviews/:id"] != each/10 || !slices.Equal(slower, []string{"/search slower"}) || r.Routes[0].Route != "/reviews/:id" {
		t.Errorf("differ: %v, times: %v; first %s", differ, slower, r.Routes[0].Route)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("/reviews/:id")) {
		t.Errorf("the page: %v", err)
	}
	if want := "replay: 2.5% of the answers differ, more than 1.0%; GET /search is slower\n"; !strings.HasSuffix(p.String(), want) {
		t.Errorf("it says %s", p.String())
	}
}

// One of two processes is killed: nothing is lost, and no more is sent twice than what it had not committed.
func TestKill_losesNothing(t *testing.T) {
	kafka, _ := broker(t)
	const n, each = 6000, 2 * time.Millisecond
	// Each partition has records to the end, or the other one could be at its end before the group misses the first.
	fill(t, kafka, n, each, "", kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	g := startTarget(t)
	settings := []string{"KAFKA_URL=" + kafka, "KAFKA_SESSION_TIMEOUT=6s"}
	first := start(t, "replay", settings, "--target="+g.url)
	first.Saying("takes part in the group")
	second := start(t, "replay", settings, "--target="+g.url)
	second.Saying("takes part in the group")
	time.Sleep(3 * time.Second) // of 12
	first.Kill()
	if status := second.Wait(time.Minute); status != 0 {
		t.Errorf("the other one ended with status %d", status)
	}
	came, all := g.arrivals()
	if len(came) != n {
		t.Errorf("%d of %d are lost", n-len(came), n)
	}
	if twice := all - len(came); twice > n/4 {
		t.Errorf("%d were sent twice", twice)
	} else {
		t.Logf("%d of %d were sent twice", twice, n)
	}
}
