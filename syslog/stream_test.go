package syslog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drip gives a stream its bytes in pieces, as a connection does, and returns the
// messages, each with its form.
func drip(most int, body []byte, pieces func(left int) int) (messages []string, bad int) {
	s := Stream{Most: most, Limit: 3}
	var buf []byte
	take := func(final bool) {
		for again := true; again; {
			spans, rest := s.Split(nil, buf, final)
			for _, span := range spans {
				messages = append(messages, fmt.Sprint(span.Form)+" "+string(buf[span.Start:span.End]))
				if span.BadCount {
					bad++
				}
			}
			buf = buf[rest:]
			again = len(spans) == s.Limit
		}
		if final && len(bytes.TrimSpace(buf)) > 0 {
			panic(fmt.Sprintf("left over: %q", buf))
		}
	}
	for len(body) > 0 {
		n := min(max(1, pieces(len(body))), len(body))
		buf = append(buf[:len(buf):len(buf)], body[:n]...)
		body = body[n:]
		take(false)
	}
	take(true)
	return messages, bad
}

func whole(body []byte) (messages []string, bad int) {
	for _, span := range Split(nil, body) {
		messages = append(messages, fmt.Sprint(span.Form)+" "+string(body[span.Start:span.End]))
		if span.BadCount {
			bad++
		}
	}
	return messages, bad
}

// anyMessage is one as drains carry it, with its newline, if it has one.
func anyMessage(t *rapid.T) string {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab 0189<>-[]\"=\n\t")), 0, 80, -1).Draw(t, "text")
	head := rapid.SampledFrom([]string{"<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - ", "<40>1 2012-11-30T06:45:29+00:00 d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc app web.3 - ", "<13>1 - - - - - - "}).Draw(t, "head")
	return head + text + rapid.SampledFrom([]string{"\n", "\n", "\n", ""}).Draw(t, "end")
}

// However the bytes come, a stream has the messages that the same body has.
func TestStream_isSplitAsABody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var body []byte
		var want []string
		for range rapid.IntRange(1, 8).Draw(t, "messages") {
			m := anyMessage(t)
			body = fmt.Appendf(body, "%d %s", len(m), m)
			want = append(want, "0 "+m)
		}
		if got, bad := whole(body); strings.Join(got, "\x00") != strings.Join(want, "\x00") || bad > 0 {
			t.Skip("counts can be read in two ways") // text like a head behind a message without newline
		}
		got, bad := drip(1000, body, func(int) int { return rapid.IntRange(1, 60).Draw(t, "piece") })
		if strings.Join(got, "\x00") != strings.Join(want, "\x00") || bad > 0 {
			t.Errorf("%q, %d bad, want %q", got, bad, want)
		}
	})
}

func TestStream(t *testing.T) {
	const a, b, c = "<40>1 2012-11-30T06:45:29+00:00 host app web.1 - first\n", "<40>1 2012-11-30T06:45:30+00:00 host app web.1 - second\n", "<40>1 2012-11-30T06:45:31+00:00 host app web.1 - third\n"
	framed := func(messages ...string) string {
		body := ""
		for _, m := range messages {
			body += fmt.Sprintf("%d %s", len(m), m)
		}
		return body
	}
	for _, test := range []struct {
		name, body string
		want       []string
		bad        int
	}{
		{"counted", framed(a, b, c), []string{"0 " + a, "0 " + b, "0 " + c}, 0},
		{"without newlines", framed(strings.TrimSpace(a), strings.TrimSpace(b)), []string{"0 " + strings.TrimSpace(a), "0 " + strings.TrimSpace(b)}, 0},
		{"newlines between", framed(a) + "\n\n" + framed(b), []string{"0 " + a, "0 " + b}, 0},
		{"lines", a + b + c, []string{"1 " + a, "1 " + b, "1 " + c}, 0},
		{"lines, the last without its end", a + strings.TrimSpace(b), []string{"1 " + a, "1 " + strings.TrimSpace(b)}, 0},
		{"as printed", "2022-06-13T14:52:23.6+00:00 heroku[router]: at=info\n2022-06-13T14:52:24.6+00:00 app[web.1]: x\n",
			[]string{"2 2022-06-13T14:52:23.6+00:00 heroku[router]: at=info\n", "2 2022-06-13T14:52:24.6+00:00 app[web.1]: x\n"}, 0},
		{"cut off", framed(a) + "99 <40>1 2012", []string{"0 " + a, "0 <40>1 2012"}, 1},
		{"cut off in its head", framed(a) + "99 <4", []string{"0 " + a, "0 <4"}, 1},
		{"cut off in its count", framed(a) + "9", []string{"0 " + a, "3 9"}, 0},
		{"a count too long", framed(a) + "60 " + b + framed(c), []string{"0 " + a, "0 " + b, "0 " + c}, 1},
		{"a count too short", framed(a) + "20 " + b + framed(c), []string{"0 " + a, "0 " + b, "0 " + c}, 1},
		{"a count beyond all bounds", framed(a) + "999999999 " + b + framed(c), []string{"0 " + a, "0 " + b, "0 " + c}, 1},
		{"a count of 20 digits", framed(a) + "99999999999999999999 " + b + framed(c), []string{"0 " + a, "0 " + b, "0 " + c}, 1},
		{"no count", framed(a) + b + framed(c), []string{"0 " + a, "0 " + b, "0 " + c}, 1},
		{"garbage in front", "GET / HTTP/1.1\r\n\r\n" + framed(a), []string{"3 GET / HTTP/1.1\r\n\r\n", "0 " + a}, 0},
		{"garbage between", framed(a) + "garbage" + framed(b), []string{"0 " + a, "3 garbage", "0 " + b}, 0},
		{"garbage alone", "garbage and more of it, but no message at all", []string{"3 garbage and more of it, but no message at all"}, 0},
		{"nothing", "", nil, 0},
		{"white space", " \r\n\t", nil, 0},
	} {
		for _, size := range []int{1, 2, 3, 7, 20, 64, 100_000} {
			got, bad := drip(1000, []byte(test.body), func(int) int { return size })
			if strings.Join(got, "\x00") != strings.Join(test.want, "\x00") || bad != test.bad {
				t.Errorf("%s, by %d:\n%q, %d bad, want\n%q, %d", test.name, size, got, bad, test.want, test.bad)
			}
		}
	}
}

// One wrong count costs what it costs in a body, and no neighbour: where Split mends it, so
// does a stream.
func TestStream_mendsWhatSplitMends(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	texts := []string{"state=up", "bytes=1", "5 <1>", "x 12", "-", "", "status=200 bytes=17"}
	const bodies = 30_000
	mended, failed := 0, 0
	for range bodies {
		var body []byte
		var want []string
		wrong := r.IntN(5)
		for i := range 6 {
			m := "<158>1 2022-06-13T14:52:23+00:00 host heroku router - " + texts[r.IntN(len(texts))] + "\n"
			n := len(m)
			if i == wrong {
				for n == len(m) || n <= 0 {
					n = len(m) - 2 + r.IntN(303)
				}
			}
			body = fmt.Appendf(body, "%d %s", n, m)
			want = append(want, "0 "+m)
		}
		if got, bad := whole(body); bad != 1 || strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			continue
		}
		mended++
		if got, _ := drip(1000, body, func(int) int { return 1 + r.IntN(100) }); strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			if failed++; failed < 5 {
				t.Errorf("%q\ncame as %q", body, got)
			}
		}
	}
	if failed > 0 || mended < bodies/2 {
		t.Errorf("%d of %d that Split mends are not mended", failed, mended)
	}
}

// Garbage decides nothing, however long the pause behind it is.
func TestStream_garbageDecidesNothing(t *testing.T) {
	s := Stream{Most: 1000, Limit: 1000}
	if spans, rest := s.Split(nil, []byte("hello\n"), true); len(spans) != 1 || spans[0].Form != Unreadable || rest != 6 {
		t.Fatal(spans, rest)
	}
	lines := []byte("<40>1 - host app web.1 - a\n<40>1 - host app web.1 - b\n")
	if spans, rest := s.Split(nil, lines, false); len(spans) != 2 || rest != len(lines) {
		t.Error(spans, rest)
	}
}

// However small the pieces, what is held back costs no more than its bytes.
func TestStream_isLinear(t *testing.T) {
	const n = 1 << 20
	for name, body := range map[string]string{
		"a right count": "1000000 <1>" + strings.Repeat("<", n-20), "garbage": "x" + strings.Repeat("<", n), "digits": "x" + strings.Repeat("9", n),
		"heads": "x" + strings.Repeat("1 <1", n/4), "garbage behind a message": "5 <1>1\nx" + strings.Repeat("<", n), "heads behind a message": "5 <1>1\nx" + strings.Repeat("1 <123", n/6),
		"a line": "<1>" + strings.Repeat("x", n), "newlines": "x" + strings.Repeat("\n2", n/2), "times": "x" + strings.Repeat("\n2022-06-13", n/11),
		"a wrong count": "5 <1>1\n999999999 <1>" + strings.Repeat("<", n), "a head that is not complete": "5 <1>1\n99 <1>" + strings.Repeat("x", 90) + strings.Repeat("1 <1>", n/5),
	} {
		s := Stream{Most: n, Limit: 1000}
		const reads = 5000
		all := []byte(body)
		came := len(all) - reads
		_, begin := s.Split(nil, all[:came], false)
		began := time.Now()
		for range reads { // each brings one byte more
			came++
			_, rest := s.Split(nil, all[begin:came], false)
			begin += rest
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: %s a read", name, took/reads)
		}
	}
}

// What is whole is not waited with.
func TestStream_takesAMessageAtOnce(t *testing.T) {
	const newline, without = "<40>1 - host app web.1 - text\n", "<40>1 - host app web.1 - text"
	for _, body := range []string{fmt.Sprintf("%d %s", len(newline), newline), fmt.Sprintf("%d %s", len(without), without), newline} {
		s := Stream{Most: 1000, Limit: 1000}
		if !strings.HasSuffix(body, "\n") {
			s.Split(nil, []byte(body), true) // of the first it is not known how the sender ends them
		}
		for range 2 {
			if spans, rest := s.Split(nil, []byte(body), false); len(spans) != 1 || rest != len(body) {
				t.Errorf("%q: %v, %d", body, spans, rest)
			}
		}
	}
}

// A message without a newline behind some that have one is waited with, shortly.
func TestStream_waitsForAnOddEnd(t *testing.T) {
	const newline, without = "<40>1 - host app web.1 - text\n", "<40>1 - host app web.1 - text"
	s := Stream{Most: 1000, Limit: 1000}
	body := fmt.Appendf(nil, "%d %s%d %s", len(newline), newline, len(without), without)
	spans, rest := s.Split(nil, body, false)
	if len(spans) != 1 || !s.Whole {
		t.Fatal(spans, s.Whole)
	}
	body = body[rest:]
	if spans, _ := s.Split(nil, append(body[:len(body):len(body)], fmt.Sprintf("%d %s", len(newline), newline)...), false); len(spans) != 2 || s.Whole {
		t.Error("with the next message", spans, s.Whole)
	}
	if spans, rest := s.Split(nil, body, true); len(spans) != 1 || rest != len(body) || s.Whole {
		t.Error("with nothing more", spans, rest)
	}
}

// FuzzStream compares a stream that comes in pieces with what comes at once: no byte is
// lost, and each is in one message.
func FuzzStream(f *testing.F) {
	f.Add([]byte("54 <40>1 2012-11-30T06:45:29+00:00 host app web.1 - first\n"), uint64(1))
	f.Add([]byte("5 <40>1 2012\n9 <40>1 -\nx 99999 <1>"), uint64(2))
	f.Add([]byte("<40>1 -\n<40>1"), uint64(3))
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := Stream{Most: 500, Limit: 100}
		var buf, seen []byte
		left := body
		for final := false; ; {
			spans, rest := s.Split(nil, buf, final)
			at := 0
			for _, span := range spans {
				if int(span.Start) < at || span.End <= span.Start || int(span.End) > rest {
					t.Fatalf("%v of %q, rest %d", spans, buf, rest)
				}
				at = int(span.End)
				seen = append(seen, buf[span.Start:span.End]...)
			}
			if len(spans) == s.Limit {
				buf = buf[rest:]
				continue
			}
			if final {
				if rest != len(buf) {
					t.Fatalf("%q is left over", buf[rest:])
				}
				break
			}
			buf = buf[rest:]
			n := min(len(left), 1+r.IntN(100))
			buf = append(buf[:len(buf):len(buf)], left[:n]...)
			left = left[n:]
			final = len(left) == 0
		}
		// What is missing are counts and white space.
		i := 0
		for _, c := range body {
			if i < len(seen) && seen[i] == c {
				i++
			} else if !isDigit(c) && !bytes.ContainsRune([]byte(" \r\n\t+-\xef\xbb\xbf"), rune(c)) && c < 0x80 {
				t.Fatalf("%q of %q came as %q", c, body, seen)
			}
		}
		if i != len(seen) {
			t.Fatalf("%q came as %q", body, seen)
		}
	})
}

func TestDrainToken(t *testing.T) {
	for message, want := range map[string]string{
		"<40>1 2012-11-30T06:45:29+00:00 d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc app web.3 - x": "d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc",
		"<40>1 2012-11-30T06:45:29+00:00 host app web.3 - x":                                   "",
		"<40>1 2012-11-30T06:45:29+00:00 d.example.com app web.3 - x":                          "",
		"<40>1 2012-11-30T06:45:29+00:00 d.":                                                   "",
		"<40>1 2012-11-30T06:45:29+00:00 d." + strings.Repeat("a", 100) + " app":               "",
		"<40>1": "", "": "",
	} {
		if got := string(DrainToken([]byte(message))); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
}

// What RFC 5424 senders write between header and text is left out, and nothing of
// Heroku's messages.
func TestStrict(t *testing.T) {
	const head = "<34>1 2003-10-11T22:14:15.003Z "
	for _, test := range []struct{ message, text string }{
		{head + "mymachine su router - - at=info", "at=info"},
		{head + "mymachine su router - -", ""},
		{head + "mymachine su router ID47 - - two dashes", "- two dashes"},
		{head + `mymachine su router ID47 [exampleSDID@32473 iut="3" eventSource="a\]b"] at=info`, "at=info"},
		{head + `mymachine su router - [timeQuality tzKnown="1" isSynced="1"] at=info`, "at=info"},
		{head + `mymachine su router - [a b="1"][c d="2"] [x] at=info`, "[x] at=info"},
		{head + `mymachine su router - [a b="1"]`, ""},
		{head + "mymachine su router - - \xef\xbb\xbftext", "text"},
		{head + "mymachine su router ID47 - \xef\xbb\xbftext", "text"},
		{head + "mymachine su router - [not structured data", "[not structured data"},
		{head + "mymachine su router - plain", "plain"},
		{"<34>1 - mymachine su router - - no time", "no time"},
		{"<34>1 - mymachine su router - [a b=\"1\"] no time", "no time"},
		{"<34>1 - host su router - - no time", "- no time"},
		{head + "host heroku router - - dash", "- dash"},
		{head + `host app web.1 - [a b="1"] text`, `[a b="1"] text`},
		{head + `d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc app web.1 - [GIN] text`, `[GIN] text`},
	} {
		p := Parser{Strict: true}
		for range 2 { // the second time with what is remembered of headers
			var m Message
			p.Parse(&m, []byte(test.message), Span{End: int32(len(test.message))})
			if m.Malformed || string(m.Text) != test.text {
				t.Errorf("%q: %q (malformed %v), want %q", test.message, m.Text, m.Malformed, test.text)
			}
		}
	}
}
