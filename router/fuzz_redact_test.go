package router_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"drain/router"
)

// FuzzRedact puts a secret as the value of a listed name into a path, and looks
// for it in every record that can come of the line, whole, cut or in pieces. The
// bytes of a fuzz input are choices.
func FuzzRedact(f *testing.F) {
	for i := range 64 {
		seed := make([]byte, 96)
		for j := range seed {
			seed[j] = byte(i*j*j + 7*j + i)
		}
		f.Add(seed)
	}
	redactors := []*router.Redactor{
		listed,
		router.NewRedactor(router.RedactListed, router.FwdDrop, []string{"wholly"}),
		router.NewRedactor(router.RedactAll, router.FwdDrop, nil),
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		secret := c.secret()
		front, back := c.path()
		l := c.line(front + secret + back)
		check := leakChecker(t, l, secret)

		d := redactors[c.of(len(redactors))]
		var p router.Parser
		var r router.Record
		var env router.Envelope
		env.Reset(nil, nil, nil)
		e := router.Encoder{Redactor: d, Limit: []int{0, 512, 600}[c.of(3)]}
		convert := func(what, text string, cut bool) {
			p.Parse(&r, []byte(text), cut)
			check(what, decoded(t, e.Append(nil, &env, &r, 0, 0, false)))
			check("Path() of "+what, string(e.Path()))
		}

		convert("whole", l, false)
		end := c.of(len(l) + 1)
		p.Reset()
		convert("cut", l[:end], true)
		p.Reset()
		convert("cut, as printed", l[:end], false)
		p.Reset()
		convert("cut and forged", "status=z status=y "+l[:end], true)
		for _, text := range []string{l, l[:end], `path="` + l[strings.Index(l, front):]} {
			malformed, _ := d.AppendMalformed(nil, []byte("<158>1 never host heroku router - "+text))
			check("malformed", string(malformed))
		}

		// In pieces of which all but the last exceed 4 KB.
		at := strings.Index(l, front) + 1
		l = l[:at] + strings.Repeat("/longer", 700) + l[at:]
		first := 4096 + c.of(len(l)-4096)
		p.Reset()
		convert("first piece", l[:first], true)
		convert("second piece", l[first:], false)
		if beginsWithKey(l[first:]) || strings.Contains(l[first:], " path=") {
			return // nothing tells that piece, alone, from a line of its own
		}
		p.Reset()
		convert("first piece, as printed", l[:first], false)
		convert("second piece, as printed", l[first:], false)
		p.Reset()
		convert("second piece alone", l[first:], false)
	})
}

// leakChecker finds the pieces of secret that stand nowhere else in line.
func leakChecker(t *testing.T, line, secret string) func(what, got string) {
	const size = 6
	elsewhere := strings.ReplaceAll(line, secret, "\x00")
	return func(what, got string) {
		t.Helper()
		for i := range len(secret) - size + 1 {
			if piece := secret[i : i+size]; strings.Contains(got, piece) && !strings.Contains(elsewhere, piece) {
				t.Fatalf("%s shows %q of %q: %s\nline: %s", what, piece, secret, got, line)
			}
		}
	}
}

// decoded is the text of a record's keys and values.
func decoded(t *testing.T, record []byte) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(record, &object); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for key, value := range object {
		if key != "extra" {
			fmt.Fprintf(&b, "%s\x00%v\x00", key, value)
		}
	}
	extra, _ := object["extra"].(map[string]any)
	for key, value := range extra {
		fmt.Fprintf(&b, "%s\x00%v\x00", key, value)
	}
	return b.String()
}

// choices are the bytes that a fuzz input chooses by.
type choices []byte

func (c *choices) of(n int) int {
	if len(*c) < 2 {
		return 0
	}
	b := int((*c)[0])
	if *c = (*c)[1:]; n > 256 {
		b, *c = b<<8|int((*c)[0]), (*c)[1:]
	}
	return b % n
}

func (c *choices) pick(of ...string) string { return of[c.of(len(of))] }

// secret is text in lower-case hex, which stands nowhere else, with what else
// secrets hold: quotes, spaces, and what the router decodes. Only a decoded `&`
// or `;` with a `name=` behind it is left out: that is the next parameter.
func (c *choices) secret() string {
	hex := func() string {
		var b strings.Builder
		for range 6 + c.of(10) {
			b.WriteByte("0123456789abcdef"[c.of(16)])
		}
		return b.String()
	}
	pairs := []string{"=", "==", `" b=`, `" host=`, `" dyno=`, `" at=`, `" status=`, `" path="`, `" fwd="`, ` x=`, ` "key=`}
	rest := []string{"", `"`, ` `, `" `, `&`, `;`, `&" b=`, `& b=`, `?`, `#`, `%`, `%26`, `%3D`, `%22`, `%25`, `,`, `'`, `[`, `]`, `.`, `<`, "\t", "\xff", `\`, `/`, `" "`, `+`}
	var b strings.Builder
	b.WriteString(c.pick("", "", `"`, ` `, `&`, `=`, `" b=`))
	for range 1 + c.of(4) {
		b.WriteString(hex())
		if strings.ContainsAny(b.String(), "&;") {
			b.WriteString(c.pick(rest...))
		} else {
			b.WriteString(c.pick(append(pairs, rest...)...))
		}
	}
	return b.String()
}

// path is what stands before and behind the secret.
func (c *choices) path() (front, back string) {
	name := c.spell(c.pick(mustBeListed...))
	switch c.of(8) {
	case 0:
		name = c.pick("u", "user", "") + c.pick("[", "%5B", "%5b", "%255b") + name + c.pick("]", "%5D")
	case 1:
		name += c.pick("[]", "%5B%5D", "[x]")
	case 2:
		name = "u." + name
	case 3:
		name = "+" + name
	}
	params := func(separators ...string) string {
		var b strings.Builder
		for range c.of(4) {
			b.WriteString(c.pick("n=1", "q=", "flag", "x[y]=z", "u=%41%2", `w=" v=`, `w=" host=z`, "tok=n", "q=a b", "to=https://h/q?z=y"))
			b.WriteString(c.pick(separators...))
		}
		return b.String()
	}
	front = c.pick("/", "/p/q", `/p"q`, `/p" w=`, "/p q", "*") + c.pick("?", "?", "?", ";", "#", "%3F", "%253f")
	front += params("&", ";", "&&", "%26", "&amp;") + name + c.pick("=", "=", "=", "%3D", "%253d")
	if c.of(2) == 0 {
		back = c.pick("&", ";") + params("&", ";") + c.pick("", `" host=z`, `" w=z`, "#z")
	}
	return front, back
}

// spell writes name in any case, percent-encoded here and there.
func (c *choices) spell(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch s := name[i : i+1]; c.of(6) {
		case 0:
			b.WriteString(strings.ToUpper(s))
		case 1:
			b.WriteString(percent(s, 1))
		case 2:
			b.WriteString(percent(s, 2))
		case 3:
			b.WriteString(strings.Replace(percent(s, 1), "%", "%25", 1))
		default:
			b.WriteString(s)
		}
	}
	return b.String()
}

// line is a line with this path, in the router's order.
func (c *choices) line(path string) string {
	return c.pick("at=info", `at=error code=H12 desc="Request timeout"`, "sock=client at=warning") + ` method=GET path="` + path +
		`" host=h.example.org` + c.pick(" request_id=r-1", " request_id=") + ` fwd="` + c.pick("", "1.2.3.4", `6.6.6.6" dyno=z, 1.2.3.4`) +
		`" dyno=web.1 connect=0ms service=1ms status=200 bytes=3` + c.pick("", " protocol=https", " protocol=http1.1 tls=false", ` status=404`)
}
