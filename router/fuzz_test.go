package router_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"drain/router"
)

var keys = map[string]router.Key{
	"at": router.At, "code": router.Code, "desc": router.Desc, "sock": router.Sock, "cause": router.Cause,
	"method": router.Method, "path": router.Path, "host": router.Host, "request_id": router.RequestID, "fwd": router.Fwd,
	"dyno": router.Dyno, "connect": router.Connect, "service": router.Service, "status": router.Status,
	"bytes": router.Bytes, "protocol": router.Protocol, "tls_version": router.TLSVersion, "agent": router.Agent, "tls": router.TLS,
}

func FuzzParse(f *testing.F) {
	for _, l := range goldenLines(f) {
		f.Add([]byte(l.text), l.cut)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut bool) {
		var p router.Parser
		var r router.Record
		for range 2 { // the second time as what follows itself
			p.Parse(&r, text, cut)
			for name, k := range keys {
				if v := r.Value(k); !bytes.Contains(text, v) {
					t.Errorf("%s is %q, which is not in the line", name, v)
				} else if len(v) > 0 && !bytes.Contains(text, []byte(name+"=")) {
					t.Errorf("%s is %q, but the line has no such key", name, v)
				}
			}
		}
	})
}

// FuzzParseOrdered builds lines in the router's order: every value comes back as
// it was, whatever the client wrote into path and fwd.
func FuzzParseOrdered(f *testing.F) {
	f.Add("Request timeout", "GET", "/a?b=c", "a.example.com", "r-1", "1.2.3.4", "web.1", "200")
	f.Add(`a "b" c`, "GET", `/x" status=200" host=evil`, "h", "", `1" dyno=evil connect=1, 2`, "", "")
	f.Add("", "", "", "", "", "", "", "")
	f.Add("\"", "\xff", "\" \"", "a=b", "=", "\",\"", "\x00", "-1")
	f.Add("d", "G", `" request_id=1`, `h"`, `i"`, `" host=`, "d\"", "9")
	f.Fuzz(func(t *testing.T, desc, method, path, host, id, fwd, dyno, status string) {
		for _, token := range []string{method, host, id, dyno, status} {
			if strings.ContainsRune(token, ' ') || strings.HasPrefix(token, `"`) {
				return
			}
		}
		if quoteBeforeKey.MatchString(desc) || strings.Contains(path+fwd, `" host=`) || strings.Contains(fwd, `" dyno=`) {
			return
		}
		for _, end := range []string{"", " protocol=http1.1 tls=true tls_version=tls1.3", " protocol=https"} {
			text := fmt.Sprintf(`sock=client at=error code=H12 desc="%s" method=%s path="%s" host=%s request_id=%s fwd="%s" dyno=%s connect=1ms service=2ms status=%s bytes=3%s`,
				desc, method, path, host, id, fwd, dyno, status, end)
			var p router.Parser
			var r router.Record
			p.Parse(&r, []byte(text), false)
			for _, c := range []struct {
				k    router.Key
				want string
			}{
				{router.Sock, "client"}, {router.At, "error"}, {router.Code, "H12"}, {router.Desc, desc}, {router.Method, method}, {router.Path, path},
				{router.Host, host}, {router.RequestID, id}, {router.Fwd, fwd}, {router.Dyno, dyno}, {router.Connect, "1ms"}, {router.Status, status}, {router.Bytes, "3"},
			} {
				if got := string(r.Value(c.k)); got != c.want {
					t.Errorf("key %d is %q, not %q, in %s", c.k, got, c.want, text)
				}
			}
			if r.Truncated || r.Forged {
				t.Errorf("truncated %t, forged %t: %s", r.Truncated, r.Forged, text)
			}
		}
	})
}

var quoteBeforeKey = regexp.MustCompile(`" +[\w.-]+=`)

var recordKeys = []string{
	"id", "time", "drain", "app", "at", "code", "desc", "sock", "cause", "method", "path", "host", "request_id", "fwd", "dyno",
	"connect_ms", "service_ms", "status", "bytes", "protocol", "tls_version", "agent", "tls", "extra", "truncated", "raw",
}

func FuzzJSON(f *testing.F) {
	for i, l := range goldenLines(f) {
		f.Add([]byte(l.text), l.cut, uint16(i), uint8(i))
	}
	many := "at=info"
	for i := range 80 {
		many += fmt.Sprintf(" k%d=\x01\x02\xff", i)
	}
	f.Add([]byte(many), false, uint16(0), uint8(4))
	every := ""
	for name := range keys {
		every += name + "=" + strings.Repeat("\x01", 9) + " "
	}
	f.Add([]byte(every), false, uint16(0), uint8(1))
	f.Add([]byte(strings.Repeat("\"\xff ", 5000)), true, uint16(900), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, cut bool, room uint16, mode uint8) {
		redaction, fwd := router.Redaction(mode%3), router.FwdRedaction(mode/3%3)
		var p router.Parser
		var r router.Record
		var env router.Envelope
		env.Reset([]byte("0123456789abcdef-09C557EAFCFB6CF2740EE62F62971098"), []byte("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"), []byte("shop"))
		e := router.Encoder{Redactor: router.NewRedactor(redaction, fwd, nil)}
		p.Parse(&r, text, cut)
		full := e.Append([]byte("before"), &env, &r, 7, 1655131943_622778, true)[len("before"):]
		object := checkJSON(t, full)

		if redaction == router.RedactOff && fwd == router.FwdKeep {
			for name, k := range keys {
				if s, ok := object[name].(string); ok && s != asJSON(r.Value(k)) {
					t.Errorf("%s is %q, not %q", name, s, r.Value(k))
				}
			}
			if raw, ok := object["raw"].(string); ok && raw != asJSON(text) {
				t.Errorf("raw is %q, not %q", raw, text)
			}
			if p := string(e.Path()); p != string(r.Value(router.Path)) {
				t.Errorf("Path is %q", p)
			}
		}

		e.Limit = 512 + int(room)
		short := e.Append(nil, &env, &r, 7, 1655131943_622778, true)
		object = checkJSON(t, short)
		switch {
		case len(full) <= e.Limit && !bytes.Equal(short, full):
			t.Errorf("shortened without need: %s", short)
		case len(short) > e.Limit:
			t.Errorf("%d bytes of %d: %s", len(short), e.Limit, short)
		case len(full) > e.Limit && object["truncated"] != true:
			t.Errorf("shortened in silence: %s", short)
		}
	})
}

// asJSON is what encoding/json makes of a string of these bytes.
func asJSON(b []byte) string { return string(bytes.Runes(b)) }

// checkJSON checks what holds for every record, and decodes it.
func checkJSON(t *testing.T, record []byte) map[string]any {
	t.Helper()
	if !utf8.Valid(record) || bytes.ContainsAny(record, "\n\r") {
		t.Fatalf("not one line of UTF-8: %q", record)
	}
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if err := d.Decode(&object); err != nil || d.More() {
		t.Fatalf("%v in %s", err, record)
	}
	top := orderOfKeys(t, record)
	if last := slices.IndexFunc(top, func(k string) bool { return !slices.Contains(recordKeys, k) }); last >= 0 {
		t.Errorf("unknown key %s in %s", top[last], record)
	}
	if !slices.IsSortedFunc(top, func(a, b string) int { return slices.Index(recordKeys, a) - slices.Index(recordKeys, b) }) || hasTwice(top) {
		t.Errorf("keys out of order: %s", record)
	}
	var raw struct{ Extra json.RawMessage }
	if json.Unmarshal(record, &raw); raw.Extra != nil {
		extra := orderOfKeys(t, raw.Extra)
		if len(extra) == 0 || hasTwice(extra) {
			t.Errorf("an empty extra, or a key twice in it: %s", record)
		}
	}
	return object
}

// orderOfKeys lists the keys of a JSON object as they stand.
func orderOfKeys(t *testing.T, object []byte) (keys []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func hasTwice(keys []string) bool {
	sorted := slices.Sorted(slices.Values(keys))
	return len(slices.Compact(sorted)) < len(keys)
}

// FuzzAppendString compares with encoding/json, byte for byte but for one thing:
// U+2028, U+2029, and U+FFFD where a byte is not UTF-8, stand as they are and not
// as \u…, which JSON allows.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", "12345678", "1234567\"", "\\\"/<>&'", "\x00\x01\x1f\x20\x7f\x80\xff", "\b\f\n\r\t", "é🐢\u2028\u2029\uFFFD", "\xed\xa0\x80 \xf0\x9f\x90", `\u2028`} {
		f.Add([]byte(s))
		f.Add([]byte("1234567" + s + "12345678" + s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		want := `"`
		for _, c := range asJSON(s) {
			if c == '\u2028' || c == '\u2029' || c == utf8.RuneError {
				want += string(c)
				continue
			}
			var encoded strings.Builder
			e := json.NewEncoder(&encoded)
			e.SetEscapeHTML(false)
			if err := e.Encode(string(c)); err != nil {
				t.Fatal(err)
			}
			want += strings.Trim(encoded.String(), "\n")[1 : encoded.Len()-2]
		}
		if got := string(router.AppendString([]byte("before"), s)); got != "before"+want+`"` {
			t.Errorf("%q became %s, not %s", s, got, want)
		}
	})
}
