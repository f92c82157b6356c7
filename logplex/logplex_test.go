package logplex

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"

	"drain/router"
	"drain/syslog"
)

// got is a request as an endpoint sees it.
type got struct {
	at       time.Time
	headers  http.Header
	messages []string
	conn     string
}

// endpoint answers with what answer says and keeps what it was sent.
type endpoint struct {
	*httptest.Server
	mu  sync.Mutex // guards all
	all []got
}

func listen(t *testing.T, answer func(n int, w http.ResponseWriter)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.Method != "POST" || r.ContentLength != int64(len(body)) {
			t.Errorf("%s of %d bytes that announces %d", r.Method, len(body), r.ContentLength)
		}
		e.mu.Lock()
		e.all = append(e.all, got{at, r.Header, split(t, body), r.RemoteAddr})
		n := len(e.all)
		e.mu.Unlock()
		answer(n, w)
	}))
	t.Cleanup(e.Close)
	return e
}

// split reads the frame by its octet counts alone.
func split(t *testing.T, body []byte) (messages []string) {
	for r := bufio.NewReader(bytes.NewReader(body)); ; {
		count, err := r.ReadString(' ')
		if err == io.EOF && count == "" {
			return messages
		}
		n, err := strconv.Atoi(strings.TrimSuffix(count, " "))
		if err != nil {
			t.Errorf("count %q", count)
			return nil
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			t.Errorf("a message of %d bytes is cut", n)
		}
		messages = append(messages, string(message))
	}
}

func send(t *testing.T, cfg Config) *Report {
	t.Helper()
	if cfg.Drains == 0 {
		cfg.Drains = 1
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s.Wait()
}

var notice = regexp.MustCompile(`^<172>1 \S+ host heroku logplex - Error L10 \(output buffer overflow\): drain 'd\.[0-9a-f-]{36}' dropped (\d+) messages since \S+\.$`)

func TestFramesAreThoseOfASender(t *testing.T) {
	t.Parallel()
	e := listen(t, func(int, http.ResponseWriter) {})
	r := send(t, Config{URL: strings.Replace(e.URL, "://", "://user:s3cret@", 1) + "/logs/app?x=1", Rate: 500, Duration: time.Second, Seed: 7})
	n := int64(0)
	ids := make(map[string]bool)
	for _, g := range e.all {
		user, password, _ := (&http.Request{Header: g.headers}).BasicAuth()
		if user != "user" || password != "s3cret" || g.headers.Get("Content-Type") != "application/logplex-1" || g.headers.Get("User-Agent") != "Logplex/v49" ||
			g.headers.Get("Logplex-Drain-Token") != "d.00000007-0000-0000-0000-000000000000" || g.headers.Get("Logplex-Msg-Count") != strconv.Itoa(len(g.messages)) {
			t.Fatalf("headers %v", g.headers)
		}
		if id := g.headers.Get("Logplex-Frame-Id"); len(id) != 32 || ids[id] {
			t.Errorf("frame id %q", id)
		} else {
			ids[id] = true
		}
		if g.conn != e.all[0].conn {
			t.Error("more than one connection")
		}
		for _, m := range g.messages {
			if !strings.Contains(m, " request_id="+RequestID(7, 0, n)+" ") || !strings.HasSuffix(m, "\n") {
				t.Fatalf("line %d is %q", n, m)
			}
			n++
		}
	}
	s := r.Summary()
	if n < 495 || n > 500 || s.Sent != n || s.Acknowledged != n || s.Lost != 0 || s.Frames != int64(len(e.all)) || s.Answers["200"] != s.Frames {
		t.Errorf("%d lines came: %+v", n, s)
	}
}

// The lines are what the service reads, every one with all that the router says.
func TestLinesAreTheRouters(t *testing.T) {
	l := madeUp(1, 3)
	var p syslog.Parser
	var m syslog.Message
	var lines router.Parser
	var r router.Record
	for n := range int64(2000) {
		at := time.Unix(1_700_000_000, n*1000)
		body := l.append(nil, n, at)
		spans := syslog.Split(nil, body)
		if len(spans) != 1 || spans[0].BadCount {
			t.Fatalf("%s", body)
		}
		p.Parse(&m, body, spans[0])
		lines.Parse(&r, m.Text, m.Cut)
		id := string(r.Value(router.RequestID))
		seed, drain, number, ok := ParseRequestID(id)
		if !m.Router() || m.Time != at.UnixMicro() || r.Truncated || r.Forged || !ok || seed != 1 || drain != 3 || number != n {
			t.Fatalf("%s", body)
		}
		for _, k := range []router.Key{router.Method, router.Path, router.Host, router.Service, router.Status, router.Bytes, router.TLSVersion} {
			if len(r.Value(k)) == 0 {
				t.Fatalf("without its key %d: %s", k, body)
			}
		}
		if n >= 20 {
			continue
		}
		if again := madeUp(1, 3).append(nil, n, at); !bytes.Equal(again, body) {
			t.Fatalf("%s, then %s", body, again)
		}
	}
	if other := madeUp(2, 3).append(nil, 5, time.Unix(0, 0)); bytes.Equal(other, l.append(nil, 5, time.Unix(0, 0))) {
		t.Error("another seed makes the same line")
	}
	for _, id := range []string{"", "8601b555-6a83-4c12-8269-97c8e32cdb22", strings.Repeat("x", 36), "0000000x-0003-4000-8000-000000000001", "00000000-0003-4000-8000-00000000000-"} {
		if _, _, _, ok := ParseRequestID(id); ok {
			t.Errorf("%q is a number", id)
		}
	}
}

func TestAFrameIsTriedThreeTimesAtOnce(t *testing.T) {
	t.Parallel()
	e := listen(t, func(n int, w http.ResponseWriter) {
		if n <= 3 {
			w.WriteHeader(503)
		}
	})
	r := send(t, Config{URL: e.URL, Rate: 20, Duration: 500 * time.Millisecond})
	first := e.all[:3]
	for _, g := range first[1:] {
		if g.headers.Get("Logplex-Frame-Id") != first[0].headers.Get("Logplex-Frame-Id") || !slices.Equal(g.messages, first[0].messages) {
			t.Error("another frame")
		}
		if g.conn == first[0].conn {
			t.Error("over the same connection")
		}
	}
	if took := first[2].at.Sub(first[0].at); took > time.Second {
		t.Errorf("within %s", took)
	}
	if e.all[3].headers.Get("Logplex-Frame-Id") == first[0].headers.Get("Logplex-Frame-Id") {
		t.Error("a fourth time")
	}
	s := r.Summary()
	if s.LostBy["dropped"] != int64(len(first[0].messages)) || s.Retried != 2 || s.Answers["503"] != 3 || s.Sent != s.Acknowledged+s.Lost {
		t.Errorf("%+v", s)
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for status, want := range map[int]struct{ tries, taken int }{
		200: {1, 1}, 204: {1, 1}, 400: {1, 0}, 401: {1, 0}, 413: {1, 0}, 429: {3, 0}, 302: {3, 0}, 500: {3, 0},
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			e := listen(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(status) })
			r := send(t, Config{URL: e.URL, Rate: 1, Duration: 10 * time.Millisecond})
			s := r.Summary()
			if len(e.all) != want.tries || s.Sent != 1 || s.Acknowledged != int64(want.taken) || s.Lost != int64(1-want.taken) {
				t.Errorf("%d requests: %+v", len(e.all), s)
			}
		})
	}
}

// An endpoint that is silent costs 5 s a try; meanwhile the buffer overflows, and
// the next frame that is taken tells of it.
func TestASilentEndpoint(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	e := listen(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			<-end
		}
	})
	t.Cleanup(func() { close(end) })
	r := send(t, Config{URL: e.URL, Rate: 1000, Duration: 6 * time.Second})
	e.mu.Lock()
	defer e.mu.Unlock()
	if took := e.all[1].at.Sub(e.all[0].at); took < answerTimeout || took > answerTimeout+time.Second {
		t.Errorf("tried again after %s", took)
	}
	s := r.Summary()
	said := 0
	for i, g := range e.all {
		if found := notice.FindStringSubmatch(g.messages[0]); found != nil {
			n, _ := strconv.Atoi(found[1])
			said += n
		} else if i == 1 {
			t.Fatalf("no notice in front of the next try: %q", g.messages[0])
		}
	}
	if lost := int(s.LostBy["overflow"]); lost < 3500 || said != lost || s.Lost != int64(lost) {
		t.Errorf("%d lines are lost, the notices say %d: %+v", lost, said, s)
	}
	if strings.Contains(strings.Join(e.all[0].messages, ""), "Error L10") || len(e.all[1].messages) != len(e.all[0].messages)+1 {
		t.Error("the first try has the notice, or the second has other lines")
	}
	if s.LatencyMS.Max < 5000 || s.LatencyMS.P50 > 3000 {
		t.Errorf("from the moment a line was due it took %+v", s.LatencyMS)
	}
}

// A connect that fails costs no try.
func TestAnEndpointThatComesLater(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	come := time.AfterFunc(time.Second, func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		t.Cleanup(func() { server.Close() })
		_ = server.Serve(l)
	})
	defer come.Stop()
	s := send(t, Config{URL: "http://" + addr, Rate: 100, Duration: 2 * time.Second}).Summary()
	if s.Lost != 0 || s.Acknowledged < 195 || s.Answers["error"] < 4 || s.Answers["error"] > 20 {
		t.Errorf("%+v", s)
	}
}

func TestTheEndIsBounded(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := send(t, Config{URL: "http://127.0.0.1:1", Rate: 100, Duration: 200 * time.Millisecond, Finish: 300 * time.Millisecond}).Summary()
	if took := time.Since(began); took < 500*time.Millisecond || took > 2*time.Second || s.LostBy["unfinished"] != s.Sent || s.Sent < 15 {
		t.Errorf("ended after %s: %+v", took, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	e := listen(t, func(int, http.ResponseWriter) {})
	sending, err := Start(ctx, Config{URL: e.URL, Rate: 100, Drains: 1, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if s := sending.Wait().Summary(); s.Lost != 0 || s.Sent < 20 || s.Sent > 40 || s.Seconds > 2 {
		t.Errorf("stopped early: %+v", s)
	}
}

// No line comes due after the end, whatever is under way then.
func TestNoLineComesDueAfterTheEnd(t *testing.T) {
	t.Parallel()
	e := listen(t, func(_ int, w http.ResponseWriter) {
		time.Sleep(700 * time.Millisecond)
		w.WriteHeader(503)
	})
	if s := send(t, Config{URL: e.URL, Rate: 100, Duration: time.Second}).Summary(); s.Sent < 99 || s.Sent > 101 || s.Lost != s.Sent {
		t.Errorf("%+v", s)
	}
}

func TestAnAnswerInChunksIsNone(t *testing.T) {
	t.Parallel()
	e := listen(t, func(_ int, w http.ResponseWriter) { w.(http.Flusher).Flush() })
	if s := send(t, Config{URL: e.URL, Rate: 1, Duration: 10 * time.Millisecond}).Summary(); s.Acknowledged != 0 || s.Answers["error"] != 3 {
		t.Errorf("%+v", s)
	}
}

// The account tells lines that are stored, missing, stored twice, and betrayed.
func TestTheAccount(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "router"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	topic, err := OpenTopic(t.Context(), &cluster.Config{Addresses: c.ListenAddrs()}, "router")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("router"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := func(id string, n int64) {
		value := fmt.Sprintf(`{"id":%q,"request_id":%q}`, id, RequestID(5, 0, n))
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	const lines = 1000
	for n := range int64(lines) {
		if n != 3 && n != 950 {
			store(fmt.Sprint("id-", n), n)
		}
	}
	for n := range int64(10) { // behind the last first copy
		if n != 3 {
			store(fmt.Sprint("id-", n), n)
		}
	}
	store("another", 20)
	store("of another seed", lines+5)
	r := newReport(Config{Seed: 5, Drains: 1})
	r.stretches = []Stretch{{0, 0, 900, Acknowledged}, {0, 900, 990, Dropped}, {0, 990, lines, Overflow}}
	a, err := topic.Account(t.Context(), r, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if a.Stored != lines-2 || a.Twice != 9 || a.TwiceOther != 1 || a.Recovered != 99 || a.Betrayed != 1 || a.Lost != 1 || a.LostBy["dropped"] != 1 {
		t.Errorf("%+v", a)
	}
}

func TestManyDrainsAtFullSpeed(t *testing.T) {
	t.Parallel()
	e := listen(t, func(int, http.ResponseWriter) {})
	r := send(t, Config{URL: e.URL, Drains: 5, Duration: 300 * time.Millisecond})
	drains := make(map[string]int)
	for _, g := range e.all {
		drains[g.headers.Get("Logplex-Drain-Token")] += len(g.messages)
		size := 0
		for _, m := range g.messages {
			size += len(m)
		}
		if size > frameBytes+1000 {
			t.Errorf("a frame of %d bytes", size)
		}
	}
	s, sum := r.Summary(), int64(0)
	for _, x := range r.Stretches() {
		if x.Fate != Acknowledged {
			t.Errorf("%+v", x)
		}
		sum += x.To - x.From
	}
	lines := int64(0)
	for i, b := range s.Histogram {
		if lines += b.Lines; i > 0 && b.MS != 2*s.Histogram[i-1].MS {
			t.Errorf("bucket %v behind %v", b, s.Histogram[i-1])
		}
	}
	if lines != s.Acknowledged {
		t.Errorf("%d of %d lines are in the histogram", lines, s.Acknowledged)
	}
	if len(drains) != 5 || s.Acknowledged < 5000 || sum != s.Sent || s.Lost != 0 {
		t.Errorf("%d drains, %d lines in stretches: %+v", len(drains), sum, s)
	}
}

func TestLinesThatAPersonGives(t *testing.T) {
	l, err := given([]byte("2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info path=\"/\"\n\n" +
		"2022-06-13T14:52:23+00:00 app[web.1]: hello: [x] world\r\n<45>1 2012-11-30T06:45:29+00:00 host heroku web.3 - State changed\nat=info path=\"/x\"\nanything"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	const stamp = "2023-11-14T22:13:20.000000+00:00"
	for n, want := range []string{
		"<158>1 " + stamp + " host heroku router - at=info path=\"/\"\n", "<190>1 " + stamp + " host app web.1 - hello: [x] world\n",
		"<45>1 " + stamp + " host heroku web.3 - State changed\n", "<158>1 " + stamp + " host heroku router - at=info path=\"/x\"\n",
		"<190>1 " + stamp + " host app web.1 - anything\n", "<158>1 " + stamp + " host heroku router - at=info path=\"/\"\n",
	} {
		if got := string(l.append(nil, int64(n), at)); got != fmt.Sprintf("%d %s", len(want), want) {
			t.Errorf("line %d is %q, want %q", n, got, want)
		}
	}
	if _, err := given([]byte("\n \n")); err == nil {
		t.Error("an empty file is used")
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	for _, cfg := range []Config{{URL: "", Drains: 1}, {URL: "ftp://h/", Drains: 1}, {URL: "http:///x", Drains: 1}, {URL: "http://u:s3cret@h:x/", Drains: 1}, {URL: "http://h/"}, {URL: "http://h/", Drains: 1 << 17}} {
		if _, err := Start(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	l, now := madeUp(1, 1), time.Now()
	var buf []byte
	n := int64(0)
	for b.Loop() {
		n++
		buf = l.append(buf[:0], n, now)
	}
}
