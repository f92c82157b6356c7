package dash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"drain/ledger"
	"drain/trial/redisserver"
	"drain/window"
)

// shown is a Server under test, over a redis-server.
type shown struct {
	t      *testing.T
	redis  *redisserver.Server
	ledger *ledger.Ledger
	server *httptest.Server
	next   int64
	ready  error
	stop   context.CancelFunc
}

func show(t *testing.T, change func(*Config)) *shown {
	t.Helper()
	s := &shown{t: t, redis: redisserver.Start(t), next: ledger.None}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr, MaxRetries: -1})
	s.ledger = ledger.New(client, "g", "t")
	cfg := Config{
		Ledger: s.ledger, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Metrics: http.NotFoundHandler(),
		Ready: func() error { return s.ready },
		Lag:   func() []ledger.Position { return []ledger.Position{{Partition: 0, Next: 0, End: 50}} },
	}
	if change != nil {
		change(&cfg)
	}
	page := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { page.Run(ctx); close(ran) }()
	s.stop = func() { cancel(); <-ran }
	s.server = httptest.NewServer(page.Handler())
	t.Cleanup(func() { s.stop(); s.server.Close(); client.Close() })
	return s
}

// request is one of a usual kind.
func request(second int64, change func(*window.Request)) window.Request {
	r := window.Request{Second: second, App: []byte("shop"), Dyno: []byte("web.1"), Method: "GET", Route: "/users/:id", Status: 200, Bytes: 10, Service: 20, Connect: 1}
	if change != nil {
		change(&r)
	}
	return r
}

// count puts requests into the ledger.
func (s *shown) count(requests ...window.Request) {
	s.t.Helper()
	f := window.NewFold()
	for i := range requests {
		f.Add(&requests[i])
	}
	now := time.Now()
	from := s.next
	s.next = max(s.next, 0) + int64(len(requests))
	if err := s.ledger.Append(s.t.Context(), &ledger.Entry{Now: now, Chunks: f.Chunks(now.Unix()), Records: int64(len(requests)), Partitions: []ledger.Advance{{Partition: 0, From: from, Next: s.next, End: s.next}}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shown) get(path string, header ...string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// read gets JSON.
func read[T any](s *shown, path string) T {
	s.t.Helper()
	status, body := s.get(path)
	var v T
	if err := json.Unmarshal([]byte(body), &v); status != http.StatusOK || err != nil {
		s.t.Fatalf("%s: %d %.300s: %v", path, status, body, err)
	}
	return v
}

type answerOfSeries struct {
	StepMS int64 `json:"step_ms"`
	Points []point
}

func TestSeries_hasAPointForEveryStep(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	s.count(
		request(now-3, nil), request(now-3, func(r *window.Request) { r.Status, r.Code, r.Service = 503, []byte("H12"), 30_000 }),
		request(now-100, func(r *window.Request) { r.App, r.Dyno = []byte("other"), []byte("web.2") }),
	)
	for _, c := range []struct {
		query        string
		step, points int64
		requests     int64
	}{
		{"step=1s&last=15m", 1, 901, 3},
		{"step=10s&last=15m", 10, 91, 3},
		{"step=30s&last=15m", 30, 31, 3},
		{"step=1m&last=1h", 60, 61, 3},
		{"step=1h&last=14d", 3600, 337, 3},
		{"step=1s&last=30s", 1, 31, 2},
		{"", 10, 91, 3},
		{"last=1m", 1, 61, 2},
		{"app=shop", 10, 91, 2},
		{"app=", 10, 91, 0},
		{"app=shop&dyno=web.2", 10, 91, 0},
		{"dyno=web.2", 10, 91, 1},
		{"status=503", 10, 91, 1},
		{"status=2xx", 10, 91, 2},
		{"route=%2Fusers%2F%3Aid&method=GET", 10, 91, 3},
		{"route=%2Fusers%2F*&app=shop", 10, 91, 2},
		{"route=%2Fusers", 10, 91, 0},
		{"method=POST", 10, 91, 0},
	} {
		got := read[answerOfSeries](s, "/api/v1/series?"+c.query)
		sum := int64(0)
		for i, p := range got.Points {
			sum += p.Requests
			start, err := time.Parse(time.RFC3339, p.Start)
			if err != nil || start.Unix()%c.step != 0 || !strings.HasSuffix(p.Start, "Z") {
				t.Errorf("%s: a point starts at %q", c.query, p.Start)
			}
			if i > 0 {
				if before, _ := time.Parse(time.RFC3339, got.Points[i-1].Start); start.Sub(before) != time.Duration(c.step)*time.Second {
					t.Errorf("%s: %s follows %s", c.query, p.Start, got.Points[i-1].Start)
				}
			}
			if p.Status == nil || p.Codes == nil || (p.Requests == 0) != (p.Service.P50 == nil) {
				t.Errorf("%s: a point is %+v", c.query, p)
			}
		}
		// A second may pass between.
		if n := int64(len(got.Points)); got.StepMS != c.step*1000 || n != c.points && n != c.points+1 || sum != c.requests {
			t.Errorf("%s: steps of %d ms, %d points, %d requests; want %d, %d, %d", c.query, got.StepMS, n, sum, c.step*1000, c.points, c.requests)
		}
	}
	two := read[answerOfSeries](s, "/api/v1/series?step=10s&last=20s&app=shop")
	var of point
	for _, p := range two.Points {
		if p.Requests > 0 {
			of = p
		}
	}
	if of.Status["200"] != 1 || of.Status["503"] != 1 || of.Codes["H12"] != 1 || of.Bytes != 20 || *of.Service.Mean != 15_010 || *of.Service.P50 != 20 || *of.Service.Max != 30_000 || *of.Connect.P99 != 1 {
		t.Errorf("the point is %+v", of)
	}
}

func TestTables_sumUpAndSort(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	var all []window.Request
	for i := range 30 {
		at := now - int64(i*25)
		all = append(all, request(at, nil))
		if i%3 == 0 {
			all = append(all, request(at, func(r *window.Request) {
				r.Route, r.Dyno, r.Status, r.Service, r.App = "/slow", []byte("web.2"), 500, 900, []byte("api")
			}))
		}
	}
	all = append(all, request(now, func(r *window.Request) { r.Route, r.Status = window.Unsure+"/users/:id", 404 }), // another process knows it
		request(now, func(r *window.Request) { r.Route, r.Status = window.Unsure+"/wp-login.php", 404 }), // nobody does
		request(now, func(r *window.Request) { r.Route, r.Method = window.Other, "POST" }))
	s.count(all...)
	for path, want := range map[string]string{
		"/api/v1/routes":                          "GET /users/:id 31 0; GET /slow 10 10;  other 2 0",
		"/api/v1/routes?sort=errors":              "GET /slow 10 10; GET /users/:id 31 0;  other 2 0",
		"/api/v1/routes?sort=p95&limit=1":         "GET /slow 10 10",
		"/api/v1/routes?sort=time&limit=1":        "GET /slow 10 10",
		"/api/v1/routes?app=api":                  "GET /slow 10 10",
		"/api/v1/routes?status=404":               " other 2 0",
		"/api/v1/routes?last=14d":                 "GET /users/:id 31 0; GET /slow 10 10;  other 2 0",
		"/api/v1/routes?route=%2Fslow&method=GET": "GET /slow 10 10",
		"/api/v1/dynos":                           "shop web.1 33 0; api web.2 10 10",
		"/api/v1/dynos?app=api":                   "api web.2 10 10",
		"/api/v1/apps?sort=errors":                "api 10 10; shop 33 0",
		"/api/v1/methods":                         "GET 42; POST 1",
		"/api/v1/methods?app=api":                 "GET 10",
	} {
		got := ""
		for _, r := range read[[]row](s, path) {
			words := []string{}
			for _, p := range []*string{r.App, r.Dyno, r.Method} {
				if p != nil {
					words = append(words, *p)
				}
			}
			if r.Route != "" {
				words = append(words, r.Route)
			}
			words = append(words, fmt.Sprint(r.Requests))
			if !strings.Contains(path, "methods") {
				words = append(words, fmt.Sprint(r.Errors))
			}
			got += "; " + strings.Join(words, " ")
		}
		if strings.TrimPrefix(got, "; ") != want {
			t.Errorf("%s\n got %s\nwant %s", path, strings.TrimPrefix(got, "; "), want)
		}
	}
}

func TestAPI_saysWhatIsWrongWithAQuestion(t *testing.T) {
	s := show(t, nil)
	for path, want := range map[string]string{
		"/api/v1/series?step=0s":          "step=0s: a duration",
		"/api/v1/series?step=soon":        "step=soon: a duration",
		"/api/v1/series?step=1500ms":      "step=1500ms: a duration",
		"/api/v1/series?last=-5m":         "last=-5m: a duration",
		"/api/v1/series?last=99999d":      "last=99999d: a duration",
		"/api/v1/series?step=1s&last=2h":  "step=1s and last=2h: windows of 1s are kept for 1h only: take a step of 10s",
		"/api/v1/series?step=10s&last=3d": "take a step of 1m",
		"/api/v1/series?status=4":         "status=4: a status such as 404",
		"/api/v1/series?status=6xx":       "status=6xx: a status",
		"/api/v1/series?status=xx":        "status=xx: a status",
		"/api/v1/series?dyno=a&route=b":   "dyno and route (or method) cannot be asked for together",
		"/api/v1/series?dino=a":           `"dino" is no parameter here: there are step, last, app, dyno`,
		"/api/v1/routes?sort=size":        "sort=size: one of requests, errors, p95, time is wanted",
		"/api/v1/routes?limit=0":          "limit=0: a number from 1 to 10000 is wanted",
		"/api/v1/routes?dyno=web.1":       `"dyno" is no parameter here`,
		"/api/v1/dynos?route=x":           `"route" is no parameter here`,
		"/api/v1/series?last=%zz":         "the query cannot be read",
		"/api/v1/series?last=1h&last=2h":  "last is there 2 times",
		"/api/v1/stream?after=now":        "after=now: the id of an event is wanted",
	} {
		status, body := s.get(path)
		if status != http.StatusBadRequest || !strings.Contains(body, want) || strings.Count(body, "\n") != 1 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := s.get("/api/v1/serie"); status != http.StatusNotFound || !strings.Contains(body, "there are series, routes") {
		t.Errorf("an unknown question: %d %s", status, body)
	}
}

func TestAPI_survivesHostileText(t *testing.T) {
	s := show(t, nil)
	const script = `"><script>alert(1)</script>` + "\u2028\x00"
	s.count(request(time.Now().Unix(), func(r *window.Request) {
		r.App, r.Dyno, r.Route, r.Method = []byte(script), []byte(script), "/"+script, script
	}))
	rows := read[[]row](s, "/api/v1/dynos?app="+url.QueryEscape(script))
	if len(rows) != 1 || *rows[0].App != script || *rows[0].Dyno != script {
		t.Errorf("got %+v", rows)
	}
	if _, body := s.get("/api/v1/routes"); strings.Contains(body, "<script") {
		t.Errorf("markup in the answer: %s", body)
	}
}

func TestLag_knowsWhatIsNotCountedYet(t *testing.T) {
	s := show(t, nil)
	type lag struct{ Lag, Records int64 }
	if got := read[lag](s, "/api/v1/lag"); got.Lag != 50 {
		t.Errorf("before anything is counted: %+v", got)
	}
	s.count(request(time.Now().Unix(), nil), request(time.Now().Unix(), nil))
	if got := read[lag](s, "/api/v1/lag"); got.Lag != 48 || got.Records != 2 {
		t.Errorf("after 2 of 50: %+v", got)
	}
}

func TestHealth_tellsWhy(t *testing.T) {
	s := show(t, func(c *Config) { c.Password = "a password" })
	if status, body := s.get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %s", status, body)
	}
	if status, body := s.get("/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("readyz: %d %s", status, body)
	}
	s.ready = errors.New("Kafka is away")
	if status, body := s.get("/readyz"); status != 503 || !strings.Contains(body, "Kafka is away") {
		t.Errorf("readyz: %d %s", status, body)
	}
}

func TestAPI_saysThatRedisIsAway(t *testing.T) {
	s := show(t, nil)
	s.redis.Kill()
	if status, body := s.get("/api/v1/series"); status != 503 || !strings.Contains(body, "read windows in Redis") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestLogin_isAskedForEverywhereButForHealth(t *testing.T) {
	s := show(t, func(c *Config) { c.Password = "sesame, open" })
	for path, want := range map[string]int{
		"/": http.StatusSeeOther, "/api/v1/series": 401, "/api/v1/stream": 401, "/metrics": 401, "/login": 200, "/healthz": 200, "/app.js": 200,
	} {
		if status, body := s.get(path); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
	for _, header := range []string{"Bearer sesame, open", "Basic OnNlc2FtZSwgb3Blbg=="} {
		if status, body := s.get("/api/v1/lag", "Authorization", header); status != 200 {
			t.Errorf("%s: %d %s", header, status, body)
		}
	}
	began := time.Now()
	if status, _ := s.get("/api/v1/lag", "Authorization", "Bearer sesame"); status != 401 || time.Since(began) < punishment {
		t.Errorf("a wrong password: %d after %v", status, time.Since(began))
	}
	if status, _ := s.get("/api/v1/lag", "Cookie", cookieName+"="+newLogin("another", false).session(time.Now().Add(time.Hour))); status != 401 {
		t.Errorf("a session of another password: %d", status)
	}
	if status, _ := s.get("/api/v1/lag", "Cookie", cookieName+"="+newLogin("sesame, open", false).session(time.Now().Add(-time.Second))); status != 401 {
		t.Errorf("a session that is over: %d", status)
	}

	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.PostForm(s.server.URL+"/login", url.Values{"password": {"open, sesame"}})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 401 || len(res.Cookies()) > 0 || !strings.Contains(string(body), "<form") {
		t.Errorf("a wrong password in the form: %d %v %s", res.StatusCode, res.Cookies(), body)
	}
	res, err = client.PostForm(s.server.URL+"/login", url.Values{"password": {"sesame, open"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "./" && res.Header.Get("Location") != "/" || len(res.Cookies()) != 1 {
		t.Fatalf("the right one: %d to %q, %v", res.StatusCode, res.Header.Get("Location"), res.Cookies())
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || strings.Contains(c.Value, "sesame") {
		t.Errorf("the cookie is %v", c)
	}
	if status, body := s.get("/", "Cookie", c.Name+"="+c.Value); status != 200 || !strings.Contains(body, "<html") {
		t.Errorf("with the session: %d %.100s", status, body)
	}
	if status, _ := s.get("/api/v1/lag", "Cookie", c.Name+"="+c.Value); status != 200 {
		t.Errorf("with the session the API says %d", status)
	}
}

// A web page elsewhere cannot have its visitors' browsers read what is shown without a password.
func TestGuard_refusesForeignNames(t *testing.T) {
	s := show(t, nil)
	for host, want := range map[string]int{"localhost:8090": 200, "127.0.0.1": 200, "[::1]:8090": 200, "metrics.localhost": 200, "evil.example.com": 403, "127.0.0.1.evil.example.com": 403, "10.0.0.1": 403} {
		if status, body := s.get("/api/v1/lag", "Host", host); status != want {
			t.Errorf("%s: %d, want %d: %s", host, status, want, body)
		}
	}
	open := show(t, func(c *Config) { c.Anonymous = true })
	if status, _ := open.get("/api/v1/lag", "Host", "metrics.example.com"); status != 200 {
		t.Errorf("with ALLOW_ANONYMOUS: %d", status)
	}
}

// Who guesses wrong waits, a few at a time; others from elsewhere do not wait for them, nor do sessions.
func TestLogin_keepsGuessersFew(t *testing.T) {
	s := show(t, func(c *Config) { c.Password, c.Proxied = "sesame, open", true })
	answers := make(chan int, 100)
	for range 100 {
		go func() {
			status, _ := s.get("/api/v1/lag", "Authorization", "Bearer guess", "X-Forwarded-For", "1.2.3.4, 203.0.113.7")
			answers <- status
		}()
	}
	waited, turned := 0, 0
	for range 100 {
		switch status := <-answers; status {
		case 401:
			waited++
		case 429:
			turned++
		default:
			t.Errorf("a guess is answered %d", status)
		}
	}
	if waited == 0 || waited > 4*guessers || turned == 0 {
		t.Errorf("%d guesses were looked at, %d turned away", waited, turned)
	}
	if status, _ := s.get("/api/v1/lag", "Authorization", "Bearer sesame, open", "X-Forwarded-For", "203.0.113.7, 198.51.100.9"); status != 200 {
		t.Errorf("from elsewhere: %d", status)
	}
}

// One window that cannot be read is left out.
func TestAnswers_leaveDamagedWindowsOut(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	s.count(request(now-3, nil), request(now-40, nil))
	c := s.redis.Client(t)
	c.Set(t.Context(), fmt.Sprintf("{g:t}:1s:dynos:%d", now-3), "hello", time.Hour)
	sum := int64(0)
	for _, p := range read[answerOfSeries](s, "/api/v1/series?step=1s&last=1m").Points {
		sum += p.Requests
	}
	if sum != 1 {
		t.Errorf("%d requests, want the one of the other window", sum)
	}
	events := s.events(fmt.Sprintf("/api/v1/stream?after=%d", now-10))
	for range 9 {
		s.next1(events, "")
	}
}

// Names that differ from window to window, codes and statuses of all kinds make no answer large.
func TestAnswers_areBounded(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	n := 0
	for hour := range int64(8) {
		var all []window.Request
		for range 1000 {
			n++
			all = append(all, request(now-hour*3600-60, func(r *window.Request) {
				r.Dyno, r.Route = fmt.Appendf(nil, "web.%d", n), fmt.Sprintf("/r/%d", n)
				r.Code, r.Status = fmt.Appendf(nil, "%c%02d", 'A'+n%26, n%100), 100+n%900
			}))
		}
		s.count(all...)
	}
	for _, path := range []string{"dynos", "routes"} {
		rows, sum := read[[]row](s, "/api/v1/"+path+"?last=14h&limit=10000"), int64(0)
		for _, r := range rows {
			sum += r.Requests
		}
		if len(rows) > maxGroups+1 || sum != int64(n) {
			t.Errorf("%s: %d rows, %d requests of %d", path, len(rows), sum, n)
		}
	}
	for _, p := range read[answerOfSeries](s, "/api/v1/series?step=1h&last=14h").Points {
		if len(p.Status) > 100 || len(p.Codes) > 100 {
			t.Errorf("a point has %d statuses, %d codes", len(p.Status), len(p.Codes))
		}
	}
}

// Who does not read an answer keeps nobody else waiting for long.
func TestAnswers_doNotWaitForSlowReaders(t *testing.T) {
	s := show(t, nil)
	for range computations {
		c, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(c, "GET /api/v1/series?step=1m&last=14d HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	time.Sleep(time.Second)
	if status, body := s.get("/api/v1/lag"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// event is one of a stream.
type event struct{ name, id, data string }

// events reads a stream, until its end or the test's.
func (s *shown) events(path string, header ...string) <-chan event {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%s: %s", path, res.Status)
	}
	events := make(chan event, 10_000)
	go func() {
		defer res.Body.Close()
		defer close(events)
		var e event
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if lines.Text() == "" && e.data != "" {
					events <- e
				}
				e = event{}
			}
		}
	}()
	return events
}

func (s *shown) next1(events <-chan event, names ...string) (event, point) {
	s.t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				s.t.Fatal("the stream has ended")
			}
			for _, name := range names {
				if e.name == name {
					var p point
					if err := json.Unmarshal([]byte(e.data), &p); err != nil {
						s.t.Fatal(err)
					}
					return e, p
				}
			}
		case <-time.After(10 * time.Second):
			s.t.Fatalf("waited in vain for an event %q", names)
		}
	}
}

func TestStream_sendsEachSecondOnceAndCorrectsIt(t *testing.T) {
	s := show(t, nil)
	began := time.Now()
	events := s.events("/api/v1/stream?app=shop")
	s.count(request(began.Unix(), nil), request(began.Unix(), func(r *window.Request) { r.App = []byte("api") }))
	last := int64(0)
	for i := range 3 {
		e, p := s.next1(events, "")
		start, err := time.Parse(time.RFC3339, p.Start)
		if err != nil || fmt.Sprint(start.Unix()) != e.id || last > 0 && start.Unix() != last+1 {
			t.Fatalf("after %d came id %s, %s", last, e.id, p.Start)
		}
		late := time.Since(start.Add(time.Second))
		if last = start.Unix(); late < settled || late > settled+time.Second {
			t.Errorf("%s came %v after its end", p.Start, late)
		}
		if i == 0 && (last != began.Unix() || p.Requests != 1) {
			t.Errorf("the first is %+v, at %v", p, began)
		}
	}
	s.count(request(last-1, nil), request(last-2000, nil))
	corrected := map[string]int64{}
	for range 2 {
		e, p := s.next1(events, "correction")
		corrected[p.Start] = p.Requests
		if e.id != "" {
			t.Errorf("a correction has the id %s: a reconnect would go on there", e.id)
		}
	}
	for _, second := range []int64{last - 1, last - 2000} {
		at := time.Unix(second, 0).UTC().Format(time.RFC3339)
		want := int64(1)
		if second == began.Unix() {
			want++
		}
		if corrected[at] != want {
			t.Errorf("%s is corrected to %d: %v", at, corrected[at], corrected)
		}
	}
	e, _ := s.next1(events, "status")
	var status struct {
		Records, Lag int64
		Redis, Now   string
	}
	if err := json.Unmarshal([]byte(e.data), &status); err != nil || status.Redis != "ok" || status.Now == "" {
		t.Errorf("the status is %s", e.data)
	}
}

func TestStream_goesOnWithoutAGap(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	for _, c := range []struct {
		path   string
		header []string
		first  int64
	}{
		{"/api/v1/stream", []string{"Last-Event-ID", fmt.Sprint(now - 100)}, now - 99},
		{fmt.Sprintf("/api/v1/stream?after=%d", now-50), nil, now - 49},
		{"/api/v1/stream?after=5", nil, now - 3599},
		{fmt.Sprintf("/api/v1/stream?after=%d", now+500), nil, now},
	} {
		events := s.events(c.path, c.header...)
		e, p := s.next1(events, "")
		start, _ := time.Parse(time.RFC3339, p.Start)
		if got := start.Unix(); got < c.first || got > c.first+2 {
			t.Errorf("%s %v: the first is %s, want %d", c.path, c.header, e.id, c.first)
		}
		for last := start.Unix(); last < now-1; last++ {
			e, _ := s.next1(events, "")
			if e.id != fmt.Sprint(last+1) {
				t.Fatalf("%s: %s follows %d", c.path, e.id, last)
			}
		}
	}
}

// What changed while a stream was away is corrected when it goes on.
func TestStream_correctsWhatChangedMeanwhile(t *testing.T) {
	s := show(t, nil)
	now := time.Now().Unix()
	s.count(request(now-600, nil))
	time.Sleep(time.Second)
	events := s.events("/api/v1/stream", "Last-Event-ID", fmt.Sprint(now-2))
	for {
		if _, p := s.next1(events, "correction"); p.Start == time.Unix(now-600, 0).UTC().Format(time.RFC3339) {
			if p.Requests != 1 {
				t.Errorf("it is corrected to %d", p.Requests)
			}
			return
		}
	}
}

// The first point of a series is whole: what is not kept any more is left out.
func TestPace_beginsWithWhatIsKept(t *testing.T) {
	for _, query := range []string{"step=30s&last=24h", "step=7s&last=1h", "step=3599s&last=1h", "step=5m&last=14d", "step=50m&last=14d", "step=10s&last=24h"} {
		r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
		for now := int64(1_800_000_000); now < 1_800_003_600; now++ {
			q := readQuery(r, "step", "last")
			p := q.pace(now)
			if q.err != nil || !p.resolution.Kept(p.from, now) {
				t.Fatalf("%s at %d: %v, begins %d s ago in windows of %s", query, now, q.err, now-p.from, p.resolution.Name)
			}
		}
	}
}

func TestStream_waitsForRedisAndGoesOn(t *testing.T) {
	s := show(t, nil)
	events := s.events("/api/v1/stream")
	e, _ := s.next1(events, "")
	s.redis.Kill()
	for {
		e, _ := s.next1(events, "status")
		if strings.Contains(e.data, "away since") {
			break
		}
	}
	s.redis.Run(t)
	var last int64
	if _, err := fmt.Sscan(e.id, &last); err != nil {
		t.Fatal(err)
	}
	for range 4 { // some of these passed while it was away
		e, _ := s.next1(events, "")
		if last++; e.id != fmt.Sprint(last) {
			t.Fatalf("%s follows %d", e.id, last-1)
		}
	}
}

func TestStream_isBounded(t *testing.T) {
	s := show(t, nil)
	for range maxStreams {
		s.events("/api/v1/stream")
	}
	if status, body := s.get("/api/v1/stream"); status != 503 || !strings.Contains(body, "too many") {
		t.Errorf("one more: %d %s", status, body)
	}
}

func TestRun_endsTheStreams(t *testing.T) {
	s := show(t, nil)
	events := s.events("/api/v1/stream")
	s.next1(events, "status")
	s.stop()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case _, ok := <-events:
			if !ok {
				if status, _ := s.get("/api/v1/stream"); status != 503 {
					t.Errorf("after the end: %d", status)
				}
				return
			}
		case <-deadline:
			t.Fatal("the stream goes on")
		}
	}
}

func TestAnswers_areMadeAFewAtATime(t *testing.T) {
	s := show(t, nil)
	s.redis.Freeze(t)
	defer s.redis.Thaw(t)
	busy := make(chan int, 3*computations)
	for range 3 * computations {
		go func() {
			res, err := http.Get(s.server.URL + "/api/v1/series")
			if err != nil {
				busy <- 0
				return
			}
			res.Body.Close()
			busy <- res.StatusCode
		}()
	}
	for range 3 * computations {
		select {
		case status := <-busy:
			if status != 503 {
				t.Errorf("while Redis is silent: %d", status)
			}
		case <-time.After(waitFor + answerWithin + 5*time.Second):
			t.Fatal("no answer")
		}
	}
}
