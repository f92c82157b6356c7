package router_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"drain/router"
)

// The names that must be on the list, however long the list is.
var mustBeListed = []string{
	"token", "access_token", "id_token", "refresh_token", "code", "state", "key", "api_key", "apikey", "secret", "client_secret",
	"password", "passwd", "pwd", "auth", "authorization", "jwt", "session", "sid", "email", "signature", "sig",
	"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "AWSAccessKeyId",
	"accessToken", "refreshToken", "clientSecret", "token%00", "%09token",
}

var listed = router.NewRedactor(router.RedactListed, router.FwdKeep, nil)

// inPath gives the path back as a record has it, and how many values were taken
// out of it.
func inPath(t *testing.T, d *router.Redactor, path string) (string, int) {
	t.Helper()
	out, n := convert(d, whole(path))
	return out["path"].(string), n
}

// whole is a usual line with this path.
func whole(path string) line {
	return line{text: `at=info method=GET path="` + path + `" host=a.example.com request_id=r-1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=3 protocol=https`}
}

func cut(text string) line { return line{text, true} }

// convert makes the record of the last of lines, which are one frame's.
func convert(d *router.Redactor, lines ...line) (record map[string]any, redactions int) {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	env.Reset([]byte("f"), nil, nil)
	e := router.Encoder{Redactor: d}
	for _, l := range lines {
		p.Parse(&r, []byte(l.text), l.cut)
		e.Redactions, record = 0, nil
		if err := json.Unmarshal(e.Append(nil, &env, &r, 0, 0, false), &record); err != nil {
			panic(err)
		}
	}
	return record, e.Redactions
}

// percent encodes every byte of s, so many times over.
func percent(s string, times int) string {
	for range times {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, "%%%02x", s[i])
		}
		s = b.String()
	}
	return s
}

func TestEveryListedNameIsRedactedInEverySpelling(t *testing.T) {
	for _, name := range mustBeListed {
		for _, spelled := range []string{
			name, strings.ToUpper(name), strings.ToLower(name), strings.ToUpper(name[:1]) + name[1:],
			strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "_", "-"),
			percent(name, 1), percent(name, 2), name[:1] + percent(name[1:2], 1) + name[2:], name[:2] + percent(name[2:], 2),
			"a[" + name + "]", "a%5B" + name + "%5d", name + "[]", name + "%5B%5D", "a[b][" + name + "][c]", "user." + name,
			"+" + name, name + "%20", strings.Repeat("x", 80) + "[" + name + "]",
		} {
			for _, form := range []string{
				"/p?%s=VALUE", "/p?a=b&%s=VALUE", "/p?a=b;%s=VALUE", "/p;%s=VALUE", "/p#%s=VALUE", "/p?&&%s=VALUE",
				"/p?a=b&amp;%s=VALUE", "/p?a=b%%26%s=VALUE", "/p?a=b%%2526%s=VALUE", "/p%%3F%s%%3DVALUE", "/p?%s%%3DVALUE",
				"/p?to=https://h/q?%s=VALUE", "/p?to=https%%3A%%2F%%2Fh%%2Fq%%3F%s%%3DVALUE", "/p?to=h%%253Fa%%253Db%%2526%s%%253DVALUE",
			} {
				path := fmt.Sprintf(form, spelled)
				want := strings.Replace(path, "VALUE", router.Redacted, 1)
				if got, n := inPath(t, listed, path); got != want || n != 1 {
					t.Errorf("%s became %s, %d redactions", path, got, n)
				}
			}
		}
	}
}

func TestNothingButTheSecretIsTouched(t *testing.T) {
	for _, c := range []struct {
		path, want string
		redactions int
	}{
		{"/", "/", 0},
		{"/token=abc/code", "/token=abc/code", 0},
		{"/a%2Fb%3f/token", "/a%2Fb%3f/token", 0},
		{"/a?q=token=abc", "/a?q=token=abc", 0},
		{"/a?tokens=abc&mytoken=1&token_x=2", "/a?tokens=abc&mytoken=1&token_x=2", 0},
		{"/a?token=", "/a?token=", 0},
		{"/a?token=&b=c", "/a?token=&b=c", 0},
		{"/a?token=;b=c", "/a?token=;b=c", 0},
		{"/a?token", "/a?token", 0},
		{"/a?token&b=c", "/a?token&b=c", 0},
		{"/a?=abc", "/a?=abc", 0},
		{"/a?b[]=c&[]=d&a[]b=e", "/a?b[]=c&[]=d&a[]b=e", 0},
		{"/%/a%2?%zz=%&b=%4&%", "/%/a%2?%zz=%&b=%4&%", 0},
		{"/a?b=%20%26+\xff&token=abc&c=%41%&d", "/a?b=%20%26+\xff&token=[REDACTED]&c=%41%&d", 1},
		{"/a?x=1;token=abc;y=2&z=3", "/a?x=1;token=[REDACTED];y=2&z=3", 1},
		{"/a?token=abc&b=c&key=d&e=f", "/a?token=[REDACTED]&b=c&key=[REDACTED]&e=f", 2},
		{"/a?token=abc&token=&token=d", "/a?token=[REDACTED]&token=&token=[REDACTED]", 2},
		{"/a?token=a&rest;rest&b=c", "/a?token=[REDACTED]&b=c", 1},
		{"/a?token=&rest&b=c", "/a?token=&[REDACTED]&b=c", 1},
		{"/a?token=a%26b%3Bc%3D&b=c", "/a?token=[REDACTED]&b=c", 1},
		{"/a?token=a=b==&b=c", "/a?token=[REDACTED]&b=c", 1},
		{"/a?token=a?b#c/d&b=c", "/a?token=[REDACTED]&b=c", 1},
		{"/a?token=[REDACTED]&b=c", "/a?token=[REDACTED]&b=c", 1},
	} {
		want := strings.ToValidUTF8(c.want, "\uFFFD")
		if got, n := inPath(t, listed, c.path); got != want || n != c.redactions {
			t.Errorf("%s became %s, %d redactions", c.path, got, n)
		}
	}
}

func TestRedactNamesAreAddedInAnyCase(t *testing.T) {
	long := strings.Repeat("long", 30)
	d := router.NewRedactor(router.RedactListed, router.FwdKeep, []string{" Card-Number ", "ssn", "user.pin", long, "", " "})
	for path, want := range map[string]string{
		"/?card_number=1234&a=b":         "/?card_number=[REDACTED]&a=b",
		"/?CARD%2DNUMBER=1234":           "/?CARD%2DNUMBER=[REDACTED]",
		"/?user[ssn]=1":                  "/?user[ssn]=[REDACTED]",
		"/?user.pin=1&pin=2":             "/?user.pin=[REDACTED]&pin=2",
		"/?" + long + "=1&a=b":           "/?" + long + "=[REDACTED]&a=b",
		"/?token=1":                      "/?token=[REDACTED]",
		"/?=1&a[]=2&+=3":                 "/?=1&a[]=2&+=3",
		"/?" + long[:60] + "=1":          "/?" + long[:60] + "=1",
		"/?x" + long + "=1&[" + long[1:]: "/?x" + long + "=1&[" + long[1:],
	} {
		if got, _ := inPath(t, d, path); got != want {
			t.Errorf("%s became %s", path, got)
		}
	}
}

func TestRedactOffAndAll(t *testing.T) {
	for _, c := range []struct {
		path, all  string
		redactions int
	}{
		{"/a/b", "/a/b", 0},
		{"/a?b=c&token=d", "/a?b=[REDACTED]&token=[REDACTED]", 2},
		{"/a?b&c=&=d", "/a?[REDACTED]&c=&=[REDACTED]", 2},
		{"/a;v=1?b=c d#e", "/a;v=[REDACTED]", 1},
		{"/a#b=c", "/a#b=[REDACTED]", 1},
		{"/a%3Fb%3Dc", "/a%3Fb%3D[REDACTED]", 1},
	} {
		all := router.NewRedactor(router.RedactAll, router.FwdKeep, nil)
		if got, n := inPath(t, all, c.path); got != c.all || n != c.redactions {
			t.Errorf("all: %s became %s, %d redactions", c.path, got, n)
		}
		off := router.NewRedactor(router.RedactOff, router.FwdKeep, []string{"b"})
		if got, n := inPath(t, off, c.path); got != c.path || n != 0 {
			t.Errorf("off: %s became %s, %d redactions", c.path, got, n)
		}
	}
}

// What the router decodes, or the wire cuts off, is a secret all the same: here
// every `SECRET` is, whatever it stands between.
func TestNoSecretComesThroughAQuoteOrACut(t *testing.T) {
	t.Parallel()
	const front, back = `at=info method=GET path="`, `" host=a.example.com request_id=r-1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=3`
	for _, secret := range []string{
		`SECRET`, `SECRET"SECRET`, `"SECRET`, `SECRET"`, `SECRET SECRET`, `SECRET&SECRET`, `&SECRET`, `SECRET;SECRET&SECRET`, `SECRET=SECRET`,
		`SECRET" b=SECRET`, `" b=SECRET`, `SECRET" host=SECRET`, `" host=SECRET`, `SECRET" host=SECRET request_id=1 x=SECRET`, `SECRET" dyno=SECRET`,
		`SECRET" at=SECRET`, `SECRET" status=SECRET`, `SECRET" path="SECRET`, `SECRET" path="/x?token=SECRET`, `SECRET" fwd="SECRET" dyno=SECRET`,
		`SECRET&" b=SECRET`, `SECRET" =SECRET`, `SECRET" SECRET SECRET`, `SECRET&SECRET%3dSECRET`, `SECRET?SECRET#SECRET'<SECRET>,SECRET`, `%53SECRET%`,
		"SECRET\tSECRET\rSECRET\nSECRET\x00SECRET",
	} {
		for _, path := range []string{"/p?token=" + secret, "/p?a=b&TOKEN=" + secret + "&c=d", "/p?q=\" b=1&token=" + secret, "/p?q=\" b=1?token=" + secret} {
			check := func(what, got string) {
				t.Helper()
				if strings.Contains(got, "SECRET") {
					t.Fatalf("%s of %s: %s", what, path, got)
				}
			}
			wholeLine := front + path + back
			for _, d := range []*router.Redactor{listed, router.NewRedactor(router.RedactAll, router.FwdKeep, nil)} {
				check("record", text(convert(d, line{text: wholeLine})))
				check("forged", text(convert(d, line{text: wholeLine + " status=404"})))
				malformed, _ := d.AppendMalformed(nil, []byte("<158>1 yesterday host heroku router - "+wholeLine))
				check("malformed", string(malformed))
				malformed, _ = d.AppendMalformed(nil, []byte(`router - path="`+path+back))
				check("malformed", string(malformed))
				for end := range len(wholeLine) {
					check("cut record", text(convert(d, cut(wholeLine[:end]))))
					check("record", text(convert(d, line{text: wholeLine[:end]}))) // as `heroku logs` prints it
					check("forged and cut", text(convert(d, cut("status=404 status=200 "+wholeLine[:end]))))
					malformed, _ := d.AppendMalformed(nil, []byte("heroku router - "+wholeLine[:end]))
					check("malformed and cut", string(malformed))
				}
			}
		}
	}
}

func text(record map[string]any, _ int) string { return fmt.Sprint(record) }

// A line of 25,000 bytes comes in three pieces; the second and the third begin
// inside a secret.
func TestNoSecretComesThroughThePiecesOfALine(t *testing.T) {
	const size = 10_000
	for _, filler := range []string{"SECRET", `SECRET" b=SECRET`, `SECRET" host=SECRET`, "SECRET&SECRET ", `SECRET" status=1 SECRET`, "SECRET code=SECRET", `SECRET"SECRET path=SECRET`} {
		t.Run(filler, func(t *testing.T) {
			t.Parallel() // it is much to compute
			for _, name := range []string{"token", "code", percent("token", 2)} {
				secret := strings.Repeat(filler, 16_000/len(filler))
				for offset := 0; offset < 60; offset++ {
					if name != "token" && offset%5 > 0 {
						continue // names differ in little more than their length
					}
					start := size - 30 + offset // of the secret, around the first cut
					path := "/p?x=" + strings.Repeat("y", start-len(`at=info method=GET path="/p?x=`)-len("&=")-len(name)) + "&" + name + "=" + secret
					l := whole(path).text
					pieces := []line{cut(l[:size]), cut(l[size : 2*size]), {text: l[2*size:]}}
					printed := []line{{text: l[:size]}, {text: l[size : 2*size]}, {text: l[2*size:]}} // as `heroku logs` does
					frames := [][]line{pieces[:1], pieces[:2], pieces, pieces[1:2], pieces[1:], printed[:1], printed[:2], printed}
					// Nothing tells such a piece, alone, from a line that begins with the key.
					if !beginsWithKey(printed[1].text) {
						frames = append(frames, printed[1:2], printed[1:])
					}
					if !beginsWithKey(pieces[2].text) {
						frames = append(frames, pieces[2:])
					}
					for _, frame := range frames {
						last := frame[len(frame)-1]
						got, _ := convert(listed, frame...)
						if strings.Contains(fmt.Sprint(got), "SECRET") {
							t.Fatalf("%s=, cut at %d: the piece %.40s… became %.200v", name, offset, last.text, got)
						}
						if last == pieces[2] && (got["status"] != 200. || got["truncated"] != true) {
							t.Fatalf("%s=, cut at %d: the last piece lost its keys: %.200v", name, offset, got)
						}
					}
				}
			}
		})
	}
}

func beginsWithKey(text string) bool {
	key, _, _ := strings.Cut(strings.TrimLeft(text, " "), "=")
	_, known := keys[key]
	return known && key != "code"
}

func TestAMiddlePieceIsPathAlone(t *testing.T) {
	path := strings.Repeat("/longer", 1000) + " status=200 method=GET "
	for _, frame := range [][]line{{cut(path)}, {cut(`at=info method=GET path="/a`), cut(path)}} {
		if got, _ := convert(listed, frame...); len(got) != 2 || got["raw"] == nil {
			t.Errorf("%.200v", got)
		}
	}
}

// A piece may begin with `code=`, which is a key of the router's as well as a
// secret's name.
func TestAPieceThatBeginsWithASecretsName(t *testing.T) {
	rest := `code=SECRET&x=1" host=a.example.com request_id=r-1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=3`
	got, _ := convert(listed, line{text: rest})
	if strings.Contains(fmt.Sprint(got), "SECRET") || got["host"] != "a.example.com" {
		t.Error(got)
	}
	got, _ = convert(listed, cut("code=SECRET"+strings.Repeat("x", 9_000)))
	if strings.Contains(fmt.Sprint(got), "SECRET") {
		t.Error(got)
	}
	got, _ = convert(listed, whole("/p"), line{text: `code=H10 desc="App crashed" at=error method=GET path="/p" host=h`})
	if got["code"] != "H10" || got["path"] != "/p" {
		t.Error(got)
	}
}

// After a line that was cut in its path, the frame's other lines are read as
// usual, whether its rest comes or not.
func TestALineBehindACutOneIsItsOwn(t *testing.T) {
	begin := cut(`at=info method=GET path="/a?token=SECRET`)
	for _, l := range []line{whole("/p"), {text: "  " + whole("/p").text}, {text: "edge=fra " + whole("/p").text}, {text: `at=info method=GET path=/p host=a.example.com bytes=3`}} {
		if got, _ := convert(listed, begin, l); got["path"] != "/p" || got["host"] != "a.example.com" || got["bytes"] != 3. {
			if !strings.HasPrefix(l.text, "edge") {
				t.Errorf("%s became %v", l.text, got)
			}
		}
	}
	rest := line{text: `SECRET&b=c" host=a.example.com request_id=r-1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=3`}
	if got, _ := convert(listed, begin, whole("/p"), rest); got["status"] != 200. || strings.Contains(fmt.Sprint(got), "SECRET") {
		t.Errorf("the rest behind another line became %v", got)
	}
	begin = cut(`at=info method=GET path=/a?token=SECRET`)
	rest = line{text: `SECRET=SECRET host=a.example.com status=200 bytes=3`}
	if got, _ := convert(listed, begin, whole("/p"), rest); got["status"] != 200. || strings.Contains(fmt.Sprint(got), "SECRET") {
		t.Errorf("the rest of an unquoted path behind another line became %v", got)
	}
	if got, _ := convert(listed, begin, rest, line{text: "edge=fra " + whole("/p").text}); got["path"] != "/p" {
		t.Errorf("behind the rest, a line became %v", got)
	}
}

func TestRedactionsAreCountedOnce(t *testing.T) {
	for _, c := range []struct {
		line line
		want int
	}{
		{whole("/p"), 0},
		{whole("/p?token=&a=b"), 0},
		{whole("/p?token=a&b=c&key=d"), 2},
		{whole("/p?token=a&rest&&rest&b=c"), 1},
		{line{text: whole("/p?token=a&b=c&key=d").text + " status=404"}, 2}, // they stand in raw again
		{line{text: `at=info token=a note="/x?key=b" sid=`}, 2},
		{line{text: `look at /x?token=a&key=b`}, 1}, // the key is /x?token
		{cut(`at=info method=GET path="/p?token=a`), 1},
	} {
		if got, n := convert(listed, c.line); n != c.want {
			t.Errorf("%d redactions in %v", n, got)
		}
	}
}

func TestTheRoutersCodeIsNoSecret(t *testing.T) {
	for _, c := range []struct{ code, want string }{
		{"code=H12 desc", "code=H12 desc"}, {`code="H12" desc`, `code="H12" desc`},
		{"code=H1234 desc", "code=[REDACTED] desc"}, {"code=h12 desc", "code=[REDACTED] desc"},
	} {
		l := line{text: `at=error ` + c.code + `="Request timeout" method=GET path="/" host=a.example.com status=503 status=200 bytes=3`}
		if got, _ := convert(listed, l); !strings.HasPrefix(got["raw"].(string), "at=error "+c.want) {
			t.Errorf("raw is %s", got["raw"])
		}
		if got, _ := listed.AppendMalformed(nil, []byte("router - "+l.text)); !strings.HasPrefix(string(got), "router - at=error "+c.want) {
			t.Errorf("malformed: %s", got)
		}
	}
}

func TestRedactionsAreCountedOnceInAShortenedRecord(t *testing.T) {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	e := router.Encoder{Redactor: listed, Limit: 512}
	p.Parse(&r, []byte(whole("/p?token=a&key=b&x="+strings.Repeat("c", 5000)).text), false)
	if got := e.Append(nil, &env, &r, 0, 0, false); e.Redactions != 2 {
		t.Errorf("%d redactions in %s", e.Redactions, got)
	}
}

func TestForwardedAddresses(t *testing.T) {
	for _, c := range []struct{ fwd, truncated string }{
		{"1.2.3.4", "1.2.3.0"},
		{"1.2.3.4, 5.6.7.8", "1.2.3.0,5.6.7.0"},
		{"1.2.3.4,5.6.7.8", "1.2.3.0,5.6.7.0"},
		{"2001:db8:aaaa:bbbb::1", "2001:db8:aaaa::"},
		{"2001:db8:aaaa:bbbb::1%eth0, ::ffff:1.2.3.4", "2001:db8:aaaa::,1.2.3.0"},
		{"1.2.3.4:5678, [2001:db8:aaaa:bbbb::1]:80", "1.2.3.0,2001:db8:aaaa::"},
		{"unknown, 1.2.3.4, 1.2.3.4.5, _x, 10.0.0.300, ", "1.2.3.0"},
		{"unknown", ""},
		{`6.6.6.6" dyno=evil, 1.2.3.4`, "1.2.3.0"},
	} {
		l := line{text: `at=info method=GET path="/" host=a.example.com request_id=r-1 fwd="` + c.fwd + `" dyno=web.1 connect=0ms service=1ms status=200 bytes=3`}
		got, _ := convert(router.NewRedactor(router.RedactOff, router.FwdTruncate, nil), l)
		if fwd, _ := got["fwd"].(string); fwd != c.truncated || got["dyno"] != "web.1" {
			t.Errorf("truncate: %s became %v", c.fwd, got)
		}
		got, _ = convert(router.NewRedactor(router.RedactOff, router.FwdDrop, nil), l)
		if _, kept := got["fwd"]; kept || got["dyno"] != "web.1" {
			t.Errorf("drop: %s became %v", c.fwd, got)
		}
	}
}

// Neither in raw, nor in a piece, nor in a message that could not be parsed.
func TestNoAddressIsKeptInTheTextOfALine(t *testing.T) {
	for _, redaction := range []router.Redaction{router.RedactListed, router.RedactOff, router.RedactAll} {
		for mode, want := range map[router.FwdRedaction]string{router.FwdTruncate: `fwd="1.2.3.0"`, router.FwdDrop: `fwd=""`} {
			d := router.NewRedactor(redaction, mode, nil)
			l := line{text: `at=info method=GET path="/" host=a.example.com request_id=r-1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=3 status=404`}
			if got, _ := convert(d, l); !strings.Contains(fmt.Sprint(got["raw"]), want) {
				t.Errorf("raw is %s", got["raw"])
			}
			if got, _ := d.AppendMalformed(nil, []byte("<158>1 yesterday "+l.text)); !strings.Contains(string(got), want) {
				t.Errorf("malformed: %s", got)
			}
			for _, l := range []line{
				{text: `at=info fwd="1.2.3.4" fwd="1.2.3.4" dyno=web.1`},
				{text: `at=info fwd=1.2.3.4 path="/" fwd="x" path="/"`},
				{text: `2.3.4, 1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 status=404 bytes=3`},
				cut(`at=info method=GET path="/" host=a.example.com request_id=r-1 status=1 status=2 fwd="1.2.3.4`),
				cut(strings.Repeat("1.2.3.4, ", 1000)),
			} {
				got, _ := convert(d, l)
				malformed, _ := d.AppendMalformed(nil, []byte(l.text))
				if !l.cut || len(l.text) < 1000 { // a message of addresses alone is no line of the router's
					if l.text[0] == 'a' && strings.Contains(string(malformed), "1.2.3.4") {
						t.Errorf("malformed: %s", malformed)
					}
				}
				if strings.Contains(fmt.Sprint(got), "1.2.3.4") {
					t.Errorf("%.60s became %.300v", l.text, got)
				}
			}
		}
	}
}

func TestMalformedMessagesKeepWhatIsNoSecret(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"hello world", "hello world"},
		{"\xff\x00 <158>1 - - -", "\xff\x00 <158>1 - - -"},
		{"GET /a?token=abc&b=c HTTP/1.1", "GET /a?token=[REDACTED]&b=c HTTP/1.1"},
		{"token=abc host=h", "token=[REDACTED] host=h"},
		{"app " + strings.Repeat("long ", 2000) + "?token=a", "app " + strings.Repeat("long ", 2000) + "?token=[REDACTED]"},
		{"code=5 " + strings.Repeat("long ", 2000) + "a=b c", "code=[REDACTED] a=b c"},
		{`<158>1 now host heroku router - SECRET b=SECRET&c=d" host=a.example.com request_id=r-1 bytes=3`, `[REDACTED]&c=d" host=a.example.com request_id=r-1 bytes=3`},
		{`<158>1 now host heroku router - ` + whole("/p?token=a b&c=d").text, `<158>1 now host heroku router - ` + whole("/p?token=[REDACTED]&c=d").text},
		{`<158>1 now host heroku router - ` + whole("/p?c=d&token=a b").text, `<158>1 now host heroku router - ` + whole("/p?c=d&token=[REDACTED]").text},
	} {
		if got, _ := listed.AppendMalformed([]byte("before "), []byte(c.text)); string(got) != "before "+c.want {
			t.Errorf("%q became %q", c.text, got)
		}
	}
	off := router.NewRedactor(router.RedactOff, router.FwdKeep, nil)
	if got, n := off.AppendMalformed(nil, []byte(whole("/p?token=a").text)); string(got) != whole("/p?token=a").text || n != 0 {
		t.Errorf("off: %s", got)
	}
}

// Whoever takes a value from a Record must know that the record leaves it out.
func TestARecordSaysWhatItLeavesOut(t *testing.T) {
	for _, c := range []struct {
		line  line
		limit int
		want  bool
	}{
		{whole("/p?token=a"), 0, false},
		{whole("/p?token=a"), 1000, false},
		{whole("/" + strings.Repeat("p", 1000)), 1000, true},
		{line{text: strings.Repeat("unreadable ", 100)}, 1000, true},
		{cut(`at=info method=GET path="/p" host=a.example.com`), 0, false},
		{cut(`at=info method=GET path="/p?token=a" host=a.example.com`), 0, true},
		{line{text: `at=info method=GET path="/p?token=a" host=a.example.com`}, 0, true},
		{line{text: `at=info bytes=3 method=GET path="/p?token=a" b=c`}, 0, true},
	} {
		var p router.Parser
		var r router.Record
		var env router.Envelope
		env.Reset(nil, nil, nil)
		e := router.Encoder{Redactor: listed, Limit: c.limit}
		p.Parse(&r, []byte(c.line.text), c.line.cut)
		record := string(e.Append(nil, &env, &r, 0, 0, false))
		says := strings.Contains(record, `"truncated":true`)
		if e.Shortened() != c.want || says != (c.want || r.Truncated) || c.limit == 0 && c.want && strings.Contains(record, "a.example.com") {
			t.Errorf("Shortened is %t: %s", e.Shortened(), record)
		}
	}
}

func TestALongKeyCostsNoOtherValue(t *testing.T) {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	e := router.Encoder{Redactor: listed, Limit: 2000}
	path := strings.Repeat("/p", 200)
	p.Parse(&r, []byte(whole(path).text+" "+strings.Repeat("k", 10_000)+"=1 other=2"), false)
	if got := string(e.Append(nil, &env, &r, 0, 0, false)); !strings.Contains(got, path) || !strings.Contains(got, `"other":"2"`) || strings.Contains(got, "kk") {
		t.Errorf("%s", got)
	}
}

func TestPathIsTheLastRecordsPath(t *testing.T) {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	e := router.Encoder{Redactor: listed}
	for _, c := range []struct {
		line line
		want string
	}{
		{whole("/p?token=a&b=\""), `/p?token=[REDACTED]&b="`},
		{line{text: "nothing to read"}, ""},
		{whole("/q"), "/q"},
		{line{text: "at=info"}, ""},
	} {
		p.Parse(&r, []byte(c.line.text), false)
		e.Append(nil, &env, &r, 0, 0, false)
		if got := string(e.Path()); got != c.want {
			t.Errorf("the path of %s is %s", c.line.text, got)
		}
	}
}
