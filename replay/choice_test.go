package replay

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// record is a usual record, with some values replaced: `path=/x`; `path` alone takes it out.
func record(changes ...string) []byte {
	values := map[string]string{
		"id": `"f-0"`, "time": `"2026-01-02T15:04:05.000000Z"`, "app": `"shop"`, "at": `"info"`, "method": `"GET"`, "path": `"/users/7?page=2"`,
		"host": `"shop.example.com"`, "request_id": `"r-1"`, "fwd": `"203.0.113.7, 10.0.0.1"`, "dyno": `"web.1"`, "connect_ms": "1", "service_ms": "12", "status": "200", "bytes": "512",
	}
	for _, c := range changes {
		key, value, set := strings.Cut(c, "=")
		switch {
		case !set:
			delete(values, key)
		case strings.HasSuffix(key, "_ms") || key == "status" || key == "truncated":
			values[key] = value
		default:
			values[key] = fmt.Sprintf("%q", value)
		}
	}
	var out []string
	for _, key := range []string{"id", "time", "app", "at", "method", "path", "host", "request_id", "fwd", "dyno", "connect_ms", "service_ms", "status", "bytes", "truncated"} {
		if v, has := values[key]; has {
			out = append(out, fmt.Sprintf("%q:%s", key, v))
		}
	}
	return []byte("{" + strings.Join(out, ",") + "}")
}

var recordedAt = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func TestReader_chooses(t *testing.T) {
	for _, c := range []struct {
		name   string
		choice Choice
		record []byte
		reason Reason
	}{
		{"all", Choice{}, record(), Chosen},
		{"HEAD", Choice{}, record("method=HEAD"), Chosen},
		{"POST", Choice{}, record("method=POST"), OtherMethod},
		{"POST that is wanted", Choice{Methods: []string{"POST"}}, record("method=POST"), Chosen},
		{"GET that is not", Choice{Methods: []string{"POST"}}, record(), OtherMethod},
		{"small letters", Choice{}, record("method=get"), OtherMethod},
		{"no method", Choice{}, record("method"), OtherMethod},
		{"text", Choice{}, []byte("hello"), NotJSON},
		{"cut", Choice{}, record()[:60], NotJSON},
		{"nothing", Choice{}, nil, NotJSON},
		{"another shape", Choice{}, []byte(`{"level":"info"}`), OtherShape},
		{"a wrong type", Choice{}, []byte(`{"id":"1","path":7}`), OtherShape},
		{"from", Choice{From: recordedAt}, record(), Chosen},
		{"too early", Choice{From: recordedAt.Add(time.Microsecond)}, record(), OtherTime},
		{"until", Choice{Until: recordedAt.Add(time.Microsecond)}, record(), Chosen},
		{"too late", Choice{Until: recordedAt}, record(), OtherTime},
		{"app", Choice{Apps: []string{"blog", "shop"}}, record(), Chosen},
		{"another app", Choice{Apps: []string{"blog"}}, record(), OtherApp},
		{"no app", Choice{Apps: []string{"blog"}}, record("app"), OtherApp},
		{"status", Choice{Statuses: []Statuses{{404, 404}, {200, 299}}}, record(), Chosen},
		{"another status", Choice{Statuses: []Statuses{{404, 404}, {200, 299}}}, record("status=500"), OtherStatus},
		{"no status", Choice{Statuses: []Statuses{{200, 299}}}, record("status"), OtherStatus},
		{"no status, none asked for", Choice{}, record("status"), Chosen},
		{"prefix", Choice{Prefixes: []string{"/x", "/users/"}}, record(), Chosen},
		{"another prefix", Choice{Prefixes: []string{"/x"}}, record(), OtherPath},
		{"no path", Choice{}, record("path"), Incomplete},
		{"empty path", Choice{}, record("path="), Incomplete},
		{"no path of a site", Choice{}, record("path=*"), Incomplete},
		{"an address for a path", Choice{}, record("path=http://evil.example.com/"), Incomplete},
		{"no host", Choice{}, record("host"), Incomplete},
		{"truncated", Choice{}, record("truncated=true"), Cut},
		{"redacted", Choice{}, record("path=/x?key=[REDACTED]&a=b"), Redacted},
		{"redacted, with a value for it", Choice{RedactedValue: "test"}, record("path=/x?key=[REDACTED]&a=b"), Chosen},
		{"a WebSocket", Choice{}, record("status=101"), Upgraded},
		{"denied", Choice{Deny: DefaultDeny}, record("path=/users/logout"), Denied},
		{"denied in capitals", Choice{Deny: DefaultDeny}, record("path=/Users/LogOut?x"), Denied},
		{"denied behind percents", Choice{Deny: DefaultDeny}, record("path=/users/%6cog%4Fut"), Denied},
		{"denied in the query", Choice{Deny: DefaultDeny}, record("path=/x?a=b&unsubscribe=1"), Denied},
		{"denied token", Choice{Deny: DefaultDeny}, record("path=/x?a=b&token=x"), Denied},
		{"a token in the place of a redacted one", Choice{Deny: DefaultDeny, RedactedValue: "x"}, record("path=/x?a=b&token=[REDACTED]"), Chosen},
		{"denied beside a redacted token", Choice{Deny: DefaultDeny, RedactedValue: "x"}, record("path=/logout?token=[REDACTED]&a=b"), Denied},
		{"denied name of a redacted value", Choice{Deny: DefaultDeny, RedactedValue: "x"}, record("path=/x?log%6fut=[REDACTED]"), Denied},
		{"denied value for a redacted one", Choice{Deny: DefaultDeny, RedactedValue: "logout"}, record("path=/x?key=[REDACTED]"), Denied},
		{"denied by nobody", Choice{}, record("path=/logout"), Chosen},
		{"denied by a list of one's own", Choice{Deny: []string{"/admin"}}, record("path=/admin/x"), Denied},
		{"not denied by it", Choice{Deny: []string{"/admin"}}, record("path=/logout"), Chosen},
	} {
		t.Run(c.name, func(t *testing.T) {
			request, seen := NewReader(&c.choice).Read(c.record, recordedAt.UnixMicro())
			if seen.Reason != c.reason || (request != nil) != (c.reason == Chosen) {
				t.Errorf("%s: %v, want %v", c.record, seen.Reason, c.reason)
			}
		})
	}
}

func TestReader_readsARequest(t *testing.T) {
	r := NewReader(&Choice{RedactedValue: "a b", KeepRecords: true})
	b := record("path=/x?key=[REDACTED]&é=\"")
	q, seen := r.Read(b, recordedAt.UnixMicro())
	if q == nil || string(q.Target) != "/x?key=a%20b&%C3%A9=\"" || string(q.Path) != "/x?key=[REDACTED]&é=\"" || !seen.Escaped || string(q.ID) != "r-1" || q.Method != "GET" ||
		q.Time != recordedAt.UnixMicro() || q.Status != 200 || q.Service != 12 || q.Connect != 1 || q.Bytes != 512 || string(q.Record) != string(b) || string(q.Fwd) != "203.0.113.7, 10.0.0.1" || q.Client == 0 {
		t.Errorf("%+v %+v", q, seen)
	}
	same, _ := r.Read(record("fwd=203.0.113.7"), 0)
	other, _ := r.Read(record("fwd=203.0.113.8"), 0)
	nobody, _ := r.Read(record("fwd"), 0)
	dropped, _ := r.Read(record("fwd=[REDACTED]"), 0)
	if same.Client != q.Client || other.Client == q.Client || nobody.Client != 0 || dropped.Client != 0 {
		t.Error("clients are not told apart")
	}
	if q, _ := r.Read(record("request_id"), 0); string(q.ID) != "f-0" {
		t.Errorf("without request_id the id is %s", q.ID)
	}
}

func TestReader_timesThatCannotBe(t *testing.T) {
	r := NewReader(&Choice{})
	arrived := recordedAt.UnixMicro()
	for change, want := range map[string]int64{
		"time":                             arrived,
		"time=2026-01-02T15:05:05.000000Z": arrived + 60e6,
		"time=2026-01-02T15:05:05.000001Z": arrived,
		"time=9999-01-02T15:05:05.000001Z": arrived,
		"time=2025-01-02T15:04:05.000000Z": arrived - 365*86400e6,
	} {
		if q, seen := r.Read(record(change), arrived); q == nil || q.Time != want || seen.Time != want {
			t.Errorf("%s: %+v, want %d", change, seen, want)
		}
	}
}

func TestReader_samples(t *testing.T) {
	before, after, _ := bytes.Cut(record("request_id=NUMBER"), []byte("NUMBER"))
	chosen := func(share float64) map[int]bool {
		r, out := NewReader(&Choice{Sample: share}), make(map[int]bool)
		for i := range 20_000 {
			if q, _ := r.Read(fmt.Appendf(nil, "%sr-%d%s", before, i, after), 0); q != nil {
				out[i] = true
			}
		}
		return out
	}
	tenth, again, half := chosen(0.1), chosen(0.1), chosen(0.5)
	if len(tenth) < 1850 || len(tenth) > 2150 || len(half) < 9700 || len(half) > 10300 || len(chosen(1)) != 20_000 || len(chosen(0)) != 20_000 {
		t.Errorf("%d of a tenth, %d of a half", len(tenth), len(half))
	}
	for i := range tenth {
		if !again[i] || !half[i] {
			t.Fatalf("%d is in the tenth, and not again, or not in the half", i)
		}
	}
}

// A target is what a server gets, byte for byte, and never another host's.
func FuzzAppendTarget(f *testing.F) {
	for _, path := range []string{"/", "/a?b=c&d=%zz", "//evil.example.com/x", "/a b", "/é", "/\x00\n\r", "/#", "/\"<>\\^`{|}", "/%", "/..//.././", "/?", "/a?#", "/:@!$&'()*+,;=~-_.", "///", "//?", "//a?b#c^", "//a^%2f%zz%"} {
		f.Add([]byte(path))
	}
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer server.Close()
	base, _ := url.Parse(server.URL)
	f.Fuzz(func(t *testing.T, path []byte) {
		if len(path) == 0 || path[0] != '/' {
			return
		}
		target, escaped := AppendTarget(nil, path)
		if !escaped && string(target) != string(path) || string(unescape([]byte(string(target)))) != string(unescape([]byte(string(path)))) {
			t.Fatalf("%q became %q", path, target)
		}
		if again, escaped := AppendTarget(nil, target); escaped || string(again) != string(target) {
			t.Fatalf("%q became %q, and that %q", path, target, again)
		}
		request := &http.Request{Method: "GET", URL: Address(base.Scheme, base.Host, string(target)), Header: http.Header{}}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest && got != string(target) {
			t.Fatalf("%q arrived as %q", target, got)
		}
	})
}
