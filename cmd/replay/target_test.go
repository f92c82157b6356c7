package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drain/replay"
	"drain/trial/authority"
	"drain/trial/check"
)

// hostile are paths as they may be recorded, and as they are sent.
var hostile = []struct{ recorded, sent string }{
	{"/", "/"},
	{"/a?b=c&d=e", "/a?b=c&d=e"},
	{"/?", "/?"},
	{"/a??b=?", "/a??b=?"},
	{"/a//b/../c/./d", "/a//b/../c/./d"},
	{"/../../etc/passwd", "/../../etc/passwd"},
	{"/%2e%2e/%2E", "/%2e%2e/%2E"},
	{"/a%2fb%2Fc%00", "/a%2fb%2Fc%00"},
	{"/a?b=c&d=%zz", "/a?b=c&d=%zz"},
	{"/%zz%", "/%zz%"},
	{"/é", "/%C3%A9"},
	{"/\ufffd", "/%EF%BF%BD"},
	{"/a b c", "/a%20b%20c"},
	{`/"a"'b'<c>\d{e}|f^[g]` + "`", `/"a"'b'<c>\d{e}|f^[g]` + "`"},
	{"/a#b?c", "/a%23b?c"},
	{"/a HTTP/1.1\r\nHost: evil.example.com\r\nX-Evil: 1\r\n\r\nGET /b", "/a%20HTTP/1.1%0D%0AHost:%20evil.example.com%0D%0AX-Evil:%201%0D%0A%0D%0AGET%20/b"},
	{"/\x00\x01\t\x1b[31m\x7f", "/%00%01%09%1B[31m%7F"},
	{"/http://evil.example.com/", "/http://evil.example.com/"},
	{"/a;b=c:80@d,e!$&()*+", "/a;b=c:80@d,e!$&()*+"},
	{"//", "//"},
	{"///", "///"},
	{"//evil.example.com/x", "//evil.example.com/x"},
	{"//u:p@evil.example.com:80/x?a=//b", "//u:p@evil.example.com:80/x?a=//b"},
	{"//x?", "//x?"},
	{"//x/%2F/%zz?%zz{}", "//x/%2F/%25zz?%zz{}"},
	{"//é {}[]", "//%C3%A9%20%7B%7D[]"},
	{"//[::1]:1/../x", "//[::1]:1/../x"},
	{"/" + strings.Repeat("0123456789abcde/", 512), "/" + strings.Repeat("0123456789abcde/", 512)},
}

// recordedHostile is a recording of hostile; request i has the id r-i.
func recordedHostile(t *testing.T) (file string) {
	var all []string
	for _, h := range hostile {
		all = append(all, h.recorded)
	}
	return recorded(t, paths(all...)...)
}

func TestPathsAreSentByteForByte(t *testing.T) {
	s := newServer(t)
	p := play(t, 0, "--file="+recordedHostile(t), "--target="+s.url, "--deny=none", "--json")
	got := make(map[string]received)
	for _, q := range s.received() {
		got[q.header.Get("X-Replay")] = q
	}
	if len(got) != len(hostile) || len(s.received()) != len(hostile) {
		t.Errorf("%d of %d came", len(s.received()), len(hostile))
	}
	for i, h := range hostile {
		q := got[fmt.Sprintf("r-%d", i)]
		if q.line != "GET "+h.sent+" HTTP/1.1" || !slices.Equal(q.header["Host"], []string{s.addr}) || q.header["X-Evil"] != nil {
			t.Errorf("%.80q is sent as %.200q, want %.80q", h.recorded, q.head, h.sent)
		}
	}
	escaped := 0
	for _, h := range hostile {
		if h.recorded != h.sent {
			escaped++
		}
	}
	if r := p.result(); r.Requests.Escaped != int64(escaped) || r.Compared.Same != int64(len(hostile)) {
		t.Errorf("%+v, %+v", r.Requests, r.Compared)
	}
}

// Each case is one request.
func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   vars
		entry entry
		args  []string
		want  string // ADDR is the server's
	}{
		{"by themselves", nil, entry{}, nil, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"HEAD", nil, entry{method: "HEAD"}, nil, "HEAD / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"POST has no body", nil, entry{method: "POST"}, []string{"--methods=POST", "--unsafe"}, "POST / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nContent-Length: 0\r\nX-Replay: r-1\r\n"},
		{"PUT has none either", nil, entry{method: "PUT"}, []string{"--methods=put", "--unsafe"}, "PUT / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nContent-Length: 0\r\nX-Replay: r-1\r\n"},
		{"DELETE", nil, entry{method: "DELETE"}, []string{"--methods=DELETE", "--unsafe"}, "DELETE / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"another host", nil, entry{}, []string{"--header=Host: www.example.com:8"}, "GET / HTTP/1.1\r\nHost: www.example.com:8\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"another host for what looks like one", nil, entry{path: "//x"}, []string{"--header=host: www.example.com"}, "GET //x HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"another agent", nil, entry{}, []string{"--header=user-agent: me/1.0 (x)"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: me/1.0 (x)\r\nX-Replay: r-1\r\n"},
		{"several, and of the same name", vars{"SECRET_HEADERS": "X-C: 3\nX-A: 4"}, entry{}, []string{"--header=X-A: 1", "--header=x-a: 2,5", "--header=X-B:"},
			"GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-A: 1\r\nX-A: 2,5\r\nX-A: 4\r\nX-B: \r\nX-C: 3\r\nX-Replay: r-1\r\n"},
		{"those of users, if they are given", nil, entry{}, []string{"--header=Cookie: a=b", "--header=Accept-Encoding: gzip", "--header=Referer: x", "--header=Range: bytes=0-1"},
			"GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\nRange: bytes=0-1\r\nReferer: x\r\nX-Replay: r-1\r\n"},
		{"a hostile id", nil, entry{id: " a\r\nX-Evil: 1\x00é\x7f\" "}, nil, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: a??X-Evil: 1???\"\r\n"},
		{"no request_id", nil, entry{raw: `{"id":"f-9","time":"2026-01-02T15:04:05Z","method":"GET","path":"/","host":"h","status":200}`}, nil, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: f-9\r\n"},
		{"who asked", nil, entry{fwd: "203.0.113.7"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Forwarded-For: 203.0.113.7\r\nX-Replay: r-1\r\n"},
		{"who asked, in a chain", nil, entry{fwd: "203.0.113.7, 2001:db8::1,10.0.0.1"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Forwarded-For: 203.0.113.7, 2001:db8::1,10.0.0.1\r\nX-Replay: r-1\r\n"},
		{"who asked wins over a header", nil, entry{fwd: "203.0.113.7"}, []string{"--forwarded-for", "--header=X-Forwarded-For: 1.1.1.1"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Forwarded-For: 203.0.113.7\r\nX-Replay: r-1\r\n"},
		{"who asked is not known", nil, entry{fwd: "[REDACTED]"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"who asked lies", nil, entry{fwd: "unknown, 203.0.113.7"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"who asked forges", nil, entry{fwd: "203.0.113.7\r\nX-Evil: 1"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"who asked forges at the end", nil, entry{fwd: "203.0.113.7\n, 10.0.0.1\r\n"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"who asked forges a zone", nil, entry{fwd: "fe80::1%\r\nX-Evil: 1"}, []string{"--forwarded-for"}, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
		{"who asked is nobody's affair", nil, entry{fwd: "203.0.113.7"}, nil, "GET / HTTP/1.1\r\nHost: ADDR\r\nUser-Agent: drain-replay\r\nX-Replay: r-1\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			p := start(t, tt.env, append(tt.args, "--file="+recorded(t, tt.entry), "--target="+s.url, "--json")...)
			if status := p.wait(); status != 0 {
				t.Fatalf("exit status %d", status)
			}
			if got, want := s.only().head, strings.ReplaceAll(tt.want, "ADDR", s.addr); got != want {
				t.Errorf("\n%q, want\n%q", got, want)
			}
			if r := p.result(); r.Compared.Same != 1 {
				t.Errorf("%+v", r.Compared)
			}
		})
	}
}

// As browsers and curl do.
func TestTheTargetsUserAndPasswordAreSentAndNotShown(t *testing.T) {
	const loot, basic = "sw%40rdfish", "Basic dTpzd0ByZGZpc2g=" // u:sw@rdfish
	s := newServer(t)
	file, page := recorded(t, entry{}), t.TempDir()+"/page.html"
	with := func(user string) string { return strings.Replace(s.url, "//", "//"+user+"@", 1) }
	for _, tt := range []struct {
		name string
		env  vars
		args []string
		want string
	}{
		{"a variable", vars{"TARGET": with("u:" + loot)}, nil, basic},
		{"a flag", nil, []string{"--target=" + with("u:"+loot)}, basic},
		{"a user alone", vars{"TARGET": with(loot)}, nil, "Basic c3dAcmRmaXNoOg=="},
		{"a header wins", vars{"TARGET": with("u:" + loot), "SECRET_HEADERS": "authorization: Bearer sw@rdfish"}, nil, "Bearer sw@rdfish"},
		{"none", vars{"TARGET": s.url}, nil, ""},
	} {
		for _, way := range [][]string{{"--json"}, {"--html=" + page}, {"--dry-run", "--json"}, {"--dry-run"}} {
			before := len(s.received())
			p := start(t, tt.env, slices.Concat(tt.args, way, []string{"--file=" + file, "--log-level=debug"})...)
			if status := p.wait(); status != 0 {
				t.Fatalf("%s: exit status %d", tt.name, status)
			}
			for _, q := range s.received()[before:] {
				if q.header.Get("Authorization") != tt.want || q.header.Get("Host") != s.addr {
					t.Errorf("%s: %q", tt.name, q.head)
				}
			}
			shown := p.stdout.String() + p.stderr.String()
			if html, err := os.ReadFile(page); err == nil {
				shown += string(html)
			}
			for _, secret := range []string{"rdfish", "dTpz", "c3dA"} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s, %s: shows %s: %s", tt.name, way, secret, shown)
				}
			}
			if !strings.Contains(shown, s.addr) {
				t.Errorf("%s, %s: the target is not told: %s", tt.name, way, shown)
			}
		}
	}
	if n := len(s.received()); n != 10 {
		t.Errorf("%d came", n)
	}
}

func TestARedirectIsAnAnswer(t *testing.T) {
	s, elsewhere := newServer(t), newServer(t)
	s.on("/away", text("HTTP/1.1 302 Found\r\nLocation: "+elsewhere.url+"/x\r\nContent-Length: 0\r\n\r\n"))
	s.on("/here", text("HTTP/1.1 301 Moved\r\nLocation: /x\r\nRefresh: 0; url=/x\r\nContent-Length: 0\r\n\r\n"))
	s.on("/kept", text("HTTP/1.1 307 Temporary\r\nLocation: //"+elsewhere.addr+"/x\r\nContent-Length: 0\r\n\r\n"))
	entries := paths("/away", "/here", "/kept")
	entries[0].status, entries[1].status, entries[2].status = 302, 301, 307
	r := play(t, 0, "--file="+recorded(t, entries...), "--target="+s.url, "--json").result()
	if got := s.targets(); !slices.Equal(got, []string{"/away", "/here", "/kept"}) || len(elsewhere.received()) > 0 || r.Compared.Same != 3 {
		t.Errorf("%q came, and elsewhere %q; %+v", got, elsewhere.targets(), r.Compared)
	}
}

// resets ends a connection without an answer, by a reset.
func resets(c net.Conn, _ *received) bool {
	_ = c.(*net.TCPConn).SetLinger(0)
	return false
}

// first writes, and then does the rest.
func first(bytes string, rest answer) answer {
	return func(c net.Conn, q *received) bool { return text(bytes)(c, q) && rest(c, q) }
}

func closes(net.Conn, *received) bool { return false }

// forEver writes the same again and again, with pauses.
func forEver(bytes string, pause time.Duration) answer {
	return func(c net.Conn, _ *received) bool {
		for {
			if _, err := io.WriteString(c, bytes); err != nil {
				return false
			}
			time.Sleep(pause)
		}
	}
}

// All of them at once: none keeps another from being answered.
func TestAnswersThatFail(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	answers := []struct {
		path   string
		answer answer
		want   string // the failure, or the status
	}{
		{"/hangs", hangs, "timeout"},
		{"/hangs/head", first(ok, hangs), "timeout"},
		{"/hangs/body", first(ok+"Content-Length: 5\r\n\r\nabc", hangs), "timeout"},
		{"/hangs/chunk", first(ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", hangs), "timeout"},
		{"/slow/head", first(ok, forEver("X: y\r\n", 50*time.Millisecond)), "timeout"},
		{"/slow/body", first(ok+"\r\n", forEver("x", 50*time.Millisecond)), "timeout"},
		{"/endless/body", first(ok+"\r\n", forEver(strings.Repeat("x", 64<<10), time.Millisecond)), "timeout"},
		{"/endless/chunks", first(ok+"Transfer-Encoding: chunked\r\n\r\n", forEver("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", time.Millisecond)), "timeout"},
		{"/switches", first("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", hangs), "101"},
		{"/closes", closes, "reset"},
		{"/closes/head", first(ok, closes), "reset"},
		{"/closes/body", first(ok+"Content-Length: 5\r\n\r\nabc", closes), "reset"},
		{"/closes/chunk", first(ok+"Transfer-Encoding: chunked\r\n\r\n3\r\na", closes), "reset"},
		{"/closes/chunks", first(ok+"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", closes), "reset"},
		{"/resets", resets, "reset"},
		{"/resets/head", first(ok, resets), "reset"},
		{"/resets/body", first(ok+"Content-Length: 5\r\n\r\nabc", resets), "reset"},
		{"/garbled", first("hello\r\n\r\n", closes), "not_http"},
		{"/garbled/bytes", first("\x16\x03\x01\x00\xff\xfe\r\n\r\n", closes), "not_http"},
		{"/garbled/version", first("HTTP/x.y 200 OK\r\n\r\n", closes), "not_http"},
		{"/garbled/status", first("HTTP/1.1 OK\r\n\r\n", closes), "not_http"},
		{"/garbled/header", first(ok+"nonsense\r\n\r\n", closes), "not_http"},
		{"/garbled/length", first(ok+"Content-Length: x\r\n\r\n", closes), "not_http"},
		{"/garbled/lengths", first(ok+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", closes), "not_http"},
		{"/garbled/coding", first(ok+"Transfer-Encoding: magic\r\n\r\n", closes), "not_http"},
		{"/garbled/chunk", first(ok+"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", hangs), "not_http"},
		{"/huge/header", first(ok+"X: "+strings.Repeat("y", 300<<10)+"\r\n\r\n", closes), "other"},
		{"/huge/headers", first(ok+strings.Repeat("X: y\r\n", 60<<10)+"\r\n", closes), "other"},
		{"/early", text("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok"), "200"},
		{"/large/header", text(ok + "X: " + strings.Repeat("y", 200<<10) + "\r\nContent-Length: 0\r\n\r\n"), "200"},
		{"/empty", text("HTTP/1.1 204 No Content\r\n\r\n"), "204"},
		{"/old", first("HTTP/1.0 404 Not Found\r\n\r\nnobody", closes), "404"},
		{"/strange", text("HTTP/1.1 799 X\r\nContent-Length: 0\r\n\r\n"), "799"},
	}
	s := newServer(t)
	entries := paths("/fine/0")
	for i, a := range answers {
		s.on(a.path, a.answer)
		entries = append(entries, paths(a.path, fmt.Sprint("/fine/", i+1))...)
	}
	for i := range entries {
		entries[i].status, entries[i].at, entries[i].fwd = 418, 0, nobody // all differ, at once
		if strings.HasPrefix(entries[i].path, "/fine/") {
			entries[i].status = 200
		}
	}
	const timeout = 2 * time.Second
	rules := ""
	for _, a := range answers {
		rules += a.path + "\n"
	}
	began := time.Now()
	p := play(t, 0, "--file="+recorded(t, entries...), "--target="+s.url, "--json", "--breaker=off", "--timeout="+timeout.String(), "--routes-file="+written(t, "routes", rules))
	if took := time.Since(began); took > timeout+5*time.Second {
		t.Errorf("it took %v", took)
	}
	r := p.result()
	got := make(map[string]string)
	for _, route := range r.Routes {
		for _, e := range route.Examples {
			if got[e.Path] = e.Failure; e.Failure == "" {
				got[e.Path] = fmt.Sprint(e.Answered)
			}
		}
	}
	failures := make(map[string]int64)
	for _, a := range answers {
		if got[a.path] != a.want {
			t.Errorf("%s: %q, want %s", a.path, got[a.path], a.want)
		}
		if a.want > "a" {
			failures[a.want]++
		}
	}
	if fmt.Sprint(r.Compared.Failures) != fmt.Sprint(failures) || r.Compared.Same != int64(len(answers)+1) || r.Requests.Sent != int64(len(entries)) || r.Ended != "end" {
		t.Errorf("%+v, %+v", r.Compared, r.Requests)
	}
}

// What ends a connection at an unlucky moment only.
func TestFailuresBetweenAnswers(t *testing.T) {
	for _, text := range []string{
		"http: server closed idle connection",
		"http: unexpected EOF reading trailer",
		`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=""`,
	} {
		if got := failure(t.Context(), errors.New(text)); got != replay.Reset {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// The connection is closed after each answer, without a word before: then the request goes over another one.
func TestATargetThatKeepsNoConnections(t *testing.T) {
	s := newServer(t)
	const n = 300
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("/", i)
		s.on(all[i], first("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", closes))
	}
	p := play(t, 0, "--file="+recorded(t, paths(all...)...), "--target="+s.url, "--json", "--speed=max", "--concurrency=4")
	if r := p.result(); r.Compared.Same != n {
		t.Errorf("%+v", r.Compared)
	}
	if got := slices.Compact(s.targets()); len(got) != n {
		t.Errorf("%d of %d came", len(got), n)
	}
}

// A target that nobody can be reached at: every request fails by the same name, in the text, too.
func TestTargetsThatCannotBeReached(t *testing.T) {
	ours := authority.New(t, "ours")
	secure := func(t *testing.T, c *tls.Config) *server {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		s := newServerOn(t, tls.NewListener(l, c))
		s.url = "https://" + s.addr
		return s
	}
	cert := ours.Pair("127.0.0.1", time.Now().Add(time.Hour))
	for _, tt := range []struct {
		name   string
		target func(*testing.T) string
		want   string
	}{
		{"nobody listens", func(t *testing.T) string { return "http://127.0.0.1:" + check.FreePort(t) }, "refused"},
		{"nobody listens with TLS", func(t *testing.T) string { return "https://127.0.0.1:" + check.FreePort(t) }, "refused"},
		{"no host has this name", func(*testing.T) string { return "http://" + strings.Repeat("x", 64) + ".example.com" }, "dns"},
		{"a certificate of somebody", func(t *testing.T) string { return secure(t, &tls.Config{Certificates: []tls.Certificate{cert}}).url }, "tls"},
		{"an old TLS", func(t *testing.T) string {
			return secure(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS11}).url
		}, "tls"},
		{"no TLS", func(t *testing.T) string {
			s := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(s.Close)
			return "https://" + s.Listener.Addr().String()
		}, "tls"},
		{"TLS only", func(t *testing.T) string {
			s := newServer(t)
			for _, path := range []string{"/a", "/b", "/c"} {
				s.on(path, first("\x15\x03\x01\x00\x02\x02\x16", closes)) // as OpenSSL says it
			}
			return s.url
		}, "not_http"},
		{"it does not shake hands", func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			t.Cleanup(func() { l.Close() })
			return "https://" + l.Addr().String()
		}, "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := tt.target(t)
			file := recorded(t, paths("/a", "/b", "/c")...)
			r := play(t, 0, "--file="+file, "--target="+target, "--json", "--timeout=1s").result()
			if len(r.Compared.Failures) != 1 || r.Compared.Failures[tt.want] != 3 || r.Compared.Share != 1 || r.Ended != "end" {
				t.Errorf("%+v, %+v", r.Compared, r.Requests)
			}
			p := play(t, 0, "--file="+file, "--target="+target, "--timeout=1s")
			if want := fmt.Sprintf("0 as recorded, 3 differ (100%%); no answer: 3 %s\n", strings.ReplaceAll(tt.want, "_", " ")); !p.stdout.Says(want) {
				t.Errorf("the text does not say %q", want)
			}
		})
	}
}

// spawn runs replay in a process of its own.
func spawn(t *testing.T, env vars, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	for name, value := range env.With(asCommand, "1") {
		c.Env = append(c.Env, name+"="+value)
	}
	var out, said strings.Builder
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), said.String()
}

// net/http itself sends nothing again while it is not known yet what the target speaks.
func TestTarget_theFirstRequestsComeOnce(t *testing.T) {
	t.Parallel()
	ours := authority.New(t, "ours")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	pair := ours.Pair("127.0.0.1", time.Now().Add(time.Hour))
	var crashes, connections atomic.Int32
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			number := connections.Add(1)
			serving.Go(func() {
				defer c.Close()
				if number > 4 {
					time.Sleep(2 * time.Second) // so that a connection is kept before its own is there
				}
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				for in := bufio.NewReader(s); ; {
					q, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if q.URL.Path == "/crash" {
						crashes.Add(1)
						return
					}
					time.Sleep(300 * time.Millisecond)
					_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
		}
	})
	var all []entry
	for i := range 4 {
		all = append(all, entry{path: fmt.Sprint("/", i), id: fmt.Sprint(i), at: time.Duration(i) * time.Millisecond, fwd: nobody})
	}
	all = append(all, entry{path: "/crash", id: "crash", at: 50 * time.Millisecond, fwd: nobody})
	_, stdout, _ := spawn(t, vars{"SSL_CERT_FILE": written(t, "ca.pem", ours.PEM)}, "--file="+recorded(t, all...), "--target=https://"+l.Addr().String(), "--json", "--breaker=off", "--timeout=5s")
	var r replay.Result
	must(t, json.Unmarshal([]byte(stdout), &r))
	if n := int64(crashes.Load()); n != 1+r.Network.Resent || n > 2 || r.Requests.Sent != 5 {
		t.Errorf("one request came %d times, and %d of %d were sent once more", n, r.Network.Resent, r.Requests.Sent)
	}
}

// net/http itself sends nothing again because of the method, or a header.
func TestTarget_otherMethodsComeOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range [][]string{{"OPTIONS"}, {"TRACE"}, {"POST", "--header=Idempotency-Key: x"}, {"PUT", "--header=x-idempotency-key: x"}} {
		t.Run(tt[0], func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.on("/crash", func(net.Conn, *received) bool { return false })
			s.on("/slow", func(c net.Conn, q *received) bool { time.Sleep(200 * time.Millisecond); return status(200)(c, q) })
			var all []entry
			for i := range 8 { // as many connections are kept
				all = append(all, entry{path: "/slow", id: fmt.Sprint(i), fwd: nobody})
			}
			all = append(all, entry{path: "/crash", id: "c", at: 600 * time.Millisecond, method: tt[0], fwd: nobody})
			play(t, 0, append([]string{"--file=" + recorded(t, all...), "--target=" + s.url, "--breaker=off", "--methods=GET," + tt[0], "--unsafe"}, tt[1:]...)...)
			came := slices.DeleteFunc(s.targets(), func(target string) bool { return target != "/crash" })
			if len(came) != 1 {
				t.Errorf("it came %d times", len(came))
			}
		})
	}
}

// A target behind a balancer may speak HTTP/1 on one connection and HTTP/2 on the next.
func TestTarget_speaksWhatItsConnectionDoes(t *testing.T) {
	t.Parallel()
	ours := authority.New(t, "ours")
	var got sync.Map
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got.Store(q.Header.Get("X-Replay"), fmt.Sprint(q.Proto, " ", q.ContentLength))
		if q.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
	}))
	s.EnableHTTP2 = true
	var connections atomic.Int32
	pair := []tls.Certificate{ours.Pair("127.0.0.1", time.Now().Add(time.Hour))}
	s.TLS = &tls.Config{Certificates: pair, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if connections.Add(1) == 1 {
			return &tls.Config{Certificates: pair, NextProtos: []string{"http/1.1"}}, nil
		}
		return nil, nil
	}}
	s.StartTLS()
	defer s.Close()
	var all []entry
	for i := range 4 {
		all = append(all, entry{id: fmt.Sprint(i), at: time.Duration(i) * 100 * time.Millisecond})
	}
	spawn(t, vars{"SSL_CERT_FILE": written(t, "ca.pem", ours.PEM)}, "--file="+recorded(t, all...), "--target="+s.URL, "--json")
	for id, want := range map[string]string{"0": "HTTP/1.1 0", "2": "HTTP/2.0 0", "3": "HTTP/2.0 0"} {
		if v, _ := got.Load(id); v != want {
			t.Errorf("%s came as %v, want %s", id, v, want)
		}
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	ours := authority.New(t, "ours")
	var mu sync.Mutex
	got := make(map[string]string)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		mu.Lock()
		got[q.Header.Get("X-Replay")] = fmt.Sprintln(q.Proto, q.Method, q.RequestURI, q.Host, q.UserAgent(), q.ContentLength, n, q.Header["X-A"], q.Header["Accept-Encoding"])
		mu.Unlock()
		if q.URL.Path == "/resets" {
			panic(http.ErrAbortHandler)
		}
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ours.Pair("127.0.0.1", time.Now().Add(time.Hour))}}
	s.StartTLS()
	defer s.Close()
	entries := append(paths("/resets"), entry{id: "head", method: "HEAD"}, entry{id: "post", method: "POST"})
	for i, h := range hostile {
		if _, err := url.ParseRequestURI(h.sent); err == nil { // or Go's server would not have it
			entries = append(entries, entry{id: fmt.Sprint("h-", i), path: h.recorded})
		}
	}
	status, stdout, stderr := spawn(t, vars{"SSL_CERT_FILE": written(t, "ca.pem", ours.PEM)},
		"--file="+recorded(t, entries...), "--target="+s.URL, "--json", "--deny=none", "--header=X-A: 1", "--header=X-A: 2", "--methods=GET,HEAD,POST", "--unsafe")
	p := &program{t: t}
	fmt.Fprint(&p.stdout, stdout)
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	host := strings.TrimPrefix(s.URL, "https://")
	for id, line := range map[string]string{"r-0": "GET /resets", "head": "HEAD /", "post": "POST /"} {
		if want := fmt.Sprintf("HTTP/2.0 %s %s drain-replay 0 0 [1 2] []\n", line, host); got[id] != want {
			t.Errorf("%q, want %q", got[id], want)
		}
	}
	for i, h := range hostile {
		if _, err := url.ParseRequestURI(h.sent); err != nil {
			continue
		}
		if want := fmt.Sprintf("HTTP/2.0 GET %s %s drain-replay 0 0 [1 2] []\n", h.sent, host); got[fmt.Sprint("h-", i)] != want {
			t.Errorf("%.100q, want %.100q", got[fmt.Sprint("h-", i)], want)
		}
	}
	if r := p.result(); r.Compared.Same != int64(len(entries)-1) || r.Compared.Failures[replay.Reset.String()] != 1 {
		t.Errorf("%+v", r.Compared)
	}
}

// What connects to a proxy is only what TLS protects from it.
func TestProxies(t *testing.T) {
	t.Parallel()
	ours := authority.New(t, "ours")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	staging := newServerOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ours.Pair("staging.example.com", time.Now().Add(time.Hour))}}))
	proxy := newServer(t)
	proxy.on("staging.example.com:443", func(c net.Conn, q *received) bool {
		to, err := net.Dial("tcp", staging.addr)
		if err != nil {
			return false
		}
		defer to.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connected\r\n\r\n")
		go func() {
			_, _ = io.Copy(to, c)
			to.Close()
		}()
		_, _ = io.Copy(c, to)
		return false
	})
	env := vars{"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": written(t, "ca.pem", ours.PEM)}
	file := recorded(t, paths("/a//b", "//c")...)
	status, stdout, stderr := spawn(t, env, "--file="+file, "--target=https://staging.example.com", "--json")
	if got := staging.targets(); status != 0 || !slices.Equal(got, []string{"//c", "/a//b"}) || !strings.Contains(stdout, `"same":2`) {
		t.Errorf("exit status %d, %q came: %s%s", status, got, stdout, stderr)
	}
	for _, q := range proxy.received() {
		if q.method != "CONNECT" || strings.Contains(q.head, "X-Replay") {
			t.Errorf("the proxy got %q", q.head)
		}
	}
	before := len(proxy.received())
	status, stdout, stderr = spawn(t, env, "--file="+file, "--target=http://"+strings.Repeat("x", 64)+".example.com", "--json")
	if status != 0 || len(proxy.received()) != before || !strings.Contains(stdout, `"dns":2`) {
		t.Errorf("exit status %d, the proxy got %q: %s%s", status, proxy.targets(), stdout, stderr)
	}
}

// What is shown of a recording moves no cursor.
func TestNothingHostileIsShown(t *testing.T) {
	b, err := os.ReadFile(recordedHostile(t))
	must(t, err)
	id := entry{id: "\x1b[31m\r\n"}.record() + "\n"
	file := written(t, "\x1b[31m\r.jsonl", id+string(b))
	for _, more := range [][]string{nil, {"--json"}, {"--dry-run"}, {"--dry-run", "--json"}} {
		p := play(t, 0, append(more, "--file="+file, "--target="+newServer(t).url)...)
		for line := range strings.Lines(p.stderr.String()) {
			if !regexp.MustCompile(`^time=\S+ level=INFO msg=`).MatchString(line) {
				t.Errorf("%q", line)
			}
		}
		if strings.ContainsAny(p.stdout.String()+p.stderr.String(), "\x00\x1b\r\x7f") {
			t.Errorf("%q shows %q", more, p.stdout.String())
		}
	}
}

// A request that a kept connection ends on is sent once more, on a new one, and not on each that is kept: it may be what ends
// them. One that changes something is not.
func TestARequestMeetsTheEndOfAConnectionOnce(t *testing.T) {
	s := newServer(t)
	s.on("/crash", first("", closes))
	var all []entry
	for i := range 60 {
		all = append(all, entry{path: fmt.Sprint("/", i)})
		if i%10 == 9 {
			all = append(all, entry{path: "/crash"}, entry{path: "/crash", method: "POST"})
		}
	}
	p := play(t, 0, "--file="+recorded(t, all...), "--target="+s.url, "--json", "--speed=max", "--concurrency=8", "--methods=GET,POST", "--unsafe", "--breaker=off")
	r := p.result()
	came := make(map[string]int64)
	for _, q := range s.received() {
		if q.target == "/crash" {
			came[q.method]++
		}
	}
	if came["POST"] != 6 || came["GET"] <= 6 || came["GET"] > 12 || r.Network.Resent < came["GET"]-6 {
		t.Errorf("of 6 each %v came, %d were sent once more", came, r.Network.Resent)
	}
	if r.Compared.Failures["reset"] != 12 || r.Compared.Same != 60 {
		t.Errorf("%+v", r.Compared)
	}
}

// Whoever is asked for www.example.com answers for it, wherever it is.
func TestTheHostHeaderMayNotNameARecordedHost(t *testing.T) {
	s := newServer(t)
	args := []string{"--file=" + recorded(t, paths("/")...), "--target=" + s.url, "--header=Host: SHOP.example.com:80"}
	p := play(t, 2, args...)
	if text := p.stderr.String(); !strings.HasSuffix(text, "replay: HEADER: records were made by shop.example.com itself, which would get its own requests again: use another host, or --force\n") {
		t.Error(text)
	}
	if got := s.received(); len(got) > 0 {
		t.Errorf("%d came", len(got))
	}
	play(t, 0, append(args, "--force")...)
	s.only()
}
