package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drain/replay"
	"drain/settings"
	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/variables"
)

// vars is an environment.
type vars = variables.Vars

var must, eventually = check.Must, check.Eventually

// asCommand has this test's program be replay: what depends on the environment of a whole process is
// tried in one of its own.
const asCommand = "REPLAY_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Setenv("GOMEMLIMIT", "off") // the bound of one replay is not for all of these
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// program is a replay in this process.
type program struct {
	t              *testing.T
	stdout, stderr journal.Journal
	stop           context.CancelFunc
	ended          chan struct{}
	err            error // once it has ended
}

// start starts a replay, which is stopped with the test.
func start(t *testing.T, env vars, args ...string) *program {
	t.Helper()
	return startOn(t, false, env, args...)
}

// startOn does so on a terminal, or not.
func startOn(t *testing.T, terminal bool, env vars, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &program{t: t, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx, args, environ{env.Lookup, &p.stdout, &p.stderr, terminal})
	}()
	t.Cleanup(func() {
		stop()
		<-p.ended
		if t.Failed() {
			t.Logf("replay %q said:\n%s%s\nand %v", args, &p.stdout, &p.stderr, p.err)
		}
	})
	return p
}

// wait waits for the end, and is the exit status; the line that the shell would see is in stderr.
func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Fatal("does not end")
	}
	return settings.ExitStatus("replay", p.err, &p.stderr)
}

// end stops it as Ctrl-C does.
func (p *program) end() int {
	p.t.Helper()
	p.stop()
	return p.wait()
}

// result is the report of --json.
func (p *program) result() *replay.Result {
	p.t.Helper()
	r := new(replay.Result)
	if err := json.Unmarshal([]byte(p.stdout.String()), r); err != nil {
		p.t.Fatalf("no report: %v: %s", err, &p.stdout)
	}
	return r
}

// play runs a replay to its end; the exit status must be the one that is wanted.
func play(t *testing.T, want int, args ...string) *program {
	t.Helper()
	p := start(t, nil, args...)
	if got := p.wait(); got != want {
		t.Fatalf("exit status %d, want %d", got, want)
	}
	return p
}

// entry is a record of a request. What is empty gets the usual value; a status of -1 is none.
type entry struct {
	at                               time.Duration // since 2026-01-02T15:04:05Z
	method, path, host, id, fwd, app string
	status, service                  int
	raw                              string // instead of all this
}

// nobody is a fwd of which no client can be told: requests of one client wait for each other.
const nobody = "[REDACTED]"

var recordedAt = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// record is the entry as drain writes it.
func (e entry) record() string {
	if e.raw != "" {
		return e.raw
	}
	or := func(text, usual string) string {
		if text == "" {
			return usual
		}
		return text
	}
	status := &e.status
	switch *status {
	case 0:
		*status = 200
	case -1:
		status = nil
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(struct { // strings and numbers
		ID        string `json:"id"`
		Time      string `json:"time"`
		App       string `json:"app"`
		At        string `json:"at"`
		Method    string `json:"method"`
		Path      string `json:"path"`
		Host      string `json:"host"`
		RequestID string `json:"request_id"`
		Fwd       string `json:"fwd"`
		Dyno      string `json:"dyno"`
		Connect   int    `json:"connect_ms"`
		Service   int    `json:"service_ms"`
		Status    *int   `json:"status,omitempty"`
		Bytes     int    `json:"bytes"`
	}{"f-0", recordedAt.Add(e.at).Format("2006-01-02T15:04:05.000000Z"), or(e.app, "shop"), "info", or(e.method, "GET"), or(e.path, "/"),
		or(e.host, "shop.example.com"), or(e.id, "r-1"), or(e.fwd, "203.0.113.7"), "web.1", 0, e.service, status, 2})
	return strings.TrimSuffix(b.String(), "\n")
}

// paths are entries of these paths, a millisecond apart, with the ids r-0, r-1, …
func paths(all ...string) (entries []entry) {
	for i, path := range all {
		entries = append(entries, entry{at: time.Duration(i) * time.Millisecond, path: path, id: "r-" + strconv.Itoa(i)})
	}
	return entries
}

// recorded is a recording of entries, as JSON lines.
func recorded(t *testing.T, entries ...entry) (file string) {
	t.Helper()
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.record() + "\n")
	}
	return written(t, "recording.jsonl", b.String())
}

func written(t *testing.T, name, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// server is a target that keeps what it gets, byte for byte.
type server struct {
	t        *testing.T
	url      string // http://127.0.0.1:port
	addr     string // 127.0.0.1:port
	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex // guards the following
	got     []received
	replied int
	made    int
	answers map[string]answer
	conns   map[net.Conn]bool
}

// received is a request as it came.
type received struct {
	at     time.Time // when its head was complete
	conn   int       // which connection it came on, counted from 1
	line   string    // GET /x HTTP/1.1
	method string
	target string
	header textproto.MIMEHeader
	head   string // all up to the empty line
}

// answer answers a request, and tells whether the connection goes on.
type answer func(c net.Conn, q *received) bool

// text is an answer of these bytes.
func text(bytes string) answer {
	return func(c net.Conn, _ *received) bool {
		_, err := io.WriteString(c, bytes)
		return err == nil
	}
}

// status is an answer with a status and two bytes; HEAD gets none.
func status(code int) answer {
	return func(c net.Conn, q *received) bool {
		body := "ok"
		if q.method == "HEAD" {
			body = ""
		}
		return text(fmt.Sprintf("HTTP/1.1 %d Status\r\nContent-Length: 2\r\n\r\n%s", code, body))(c, q)
	}
}

// hangs is no answer, for as long as the client stays.
func hangs(c net.Conn, _ *received) bool {
	_, _ = io.Copy(io.Discard, c)
	return false
}

// newServer starts one, that ends with the test. What has no answer of its own, by path without query, gets 200.
func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return newServerOn(t, l)
}

// newServerOn does so on a listener, which may speak TLS.
func newServerOn(t *testing.T, l net.Listener) *server {
	s := &server{t: t, listener: l, addr: l.Addr().String(), answers: make(map[string]answer), conns: make(map[net.Conn]bool)}
	s.url = "http://" + s.addr
	t.Cleanup(s.close)
	s.serving.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c], s.made = true, n
			s.mu.Unlock()
			s.serving.Go(func() { s.serve(c, n) })
		}
	})
	return s
}

func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *server) serve(c net.Conn, number int) {
	defer c.Close()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	lines := bufio.NewReaderSize(c, 64<<10)
	for {
		q := received{conn: number}
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		q.at, q.head = time.Now(), strings.TrimSuffix(head.String(), "\r\n")
		var rest string
		q.line, rest, _ = strings.Cut(q.head, "\r\n")
		q.method, q.target, _ = strings.Cut(strings.TrimSuffix(q.line, " HTTP/1.1"), " ")
		q.header, _ = textproto.NewReader(bufio.NewReader(strings.NewReader(rest + "\r\n"))).ReadMIMEHeader()
		path, _, _ := strings.Cut(q.target, "?")
		s.mu.Lock()
		s.got = append(s.got, q)
		reply := s.answers[path]
		s.mu.Unlock()
		if reply == nil {
			reply = status(200)
		}
		stays := reply(c, &q)
		s.mu.Lock()
		s.replied++
		s.mu.Unlock()
		if !stays {
			return
		}
	}
}

// on sets the answer for a path.
func (s *server) on(path string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = a
}

// received is what came so far, in the order in which it came.
func (s *server) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// answered is how many of them were, or were to be.
func (s *server) answered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replied
}

// accepted is how many connections were made.
func (s *server) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// targets are those of what came, sorted: those that are due at the same time come as the connections have it.
func (s *server) targets() (all []string) {
	for _, q := range s.received() {
		all = append(all, q.target)
	}
	slices.Sort(all)
	return all
}

// count waits until n requests have come.
func (s *server) count(n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprint(n, " requests"), func() bool { return len(s.received()) >= n })
}

// only is the one request that came.
func (s *server) only() received {
	s.t.Helper()
	got := s.received()
	if len(got) != 1 {
		s.t.Fatalf("%d requests came: %+v", len(got), got)
	}
	return got[0]
}

// Everything else rests on this.
func TestSendsARecordingAndReports(t *testing.T) {
	s := newServer(t)
	s.on("/b", status(500))
	p := play(t, 0, "--file="+recorded(t, paths("/a", "/b?x=1", "/c")...), "--target="+s.url, "--json")
	r := p.result()
	got := s.received()
	slices.SortFunc(got, func(a, b received) int { return strings.Compare(a.target, b.target) })
	if len(got) != 3 || r.Requests.Sent != 3 || r.Compared.Same != 2 || r.Compared.Other != 1 || r.Ended != "end" {
		t.Fatalf("%+v, %+v", got, r)
	}
	if q := got[1]; q.line != "GET /b?x=1 HTTP/1.1" || q.header.Get("X-Replay") != "r-1" || q.header.Get("Host") != s.addr {
		t.Errorf("%+v", q)
	}
	if !p.stderr.Says("msg=replay from=") {
		t.Errorf("it said %s", &p.stderr)
	}
}
