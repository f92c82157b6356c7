package router_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"drain/router"
	"drain/trial/usual"
)

// bothWays converts lines as they come by a Converter, and by Parser and Encoder
// alone, and compares all that either of them tells.
type bothWays struct {
	lines  router.Converter
	parser router.Parser
	record router.Record
	alone  router.Encoder
	behind string // what stands behind each line
}

func newBothWays(redaction router.Redaction, fwd router.FwdRedaction, limit int, behind string) *bothWays {
	d := router.NewRedactor(redaction, fwd, []string{"own-name"})
	w := &bothWays{alone: router.Encoder{Redactor: d, Limit: limit}, behind: behind}
	w.lines.Begin(d, limit)
	w.lines.Envelope.Reset([]byte("09C557EAFCFB6CF2740EE62F62971098"), []byte("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"), []byte("shop"))
	return w
}

// compare tells whether the line took the express lane.
func (w *bothWays) compare(t testing.TB, text string, cut bool, index int, micros int64, hasTime bool) (express bool, record string) {
	t.Helper()
	body := []byte("before" + text + w.behind)
	line := body[len("before"):][:len(text)]
	before := w.lines.Express
	const front = "the record before\n"
	got := w.lines.Append([]byte(front), line, cut, index, micros, hasTime)
	express = w.lines.Express > before
	if !bytes.HasPrefix(got, []byte(front)) {
		t.Fatalf("%q: what stood before is now %q", text, got)
	}
	record = string(got[len(front):])

	alone := []byte(strings.Clone(text))
	w.parser.Parse(&w.record, alone, cut)
	want := string(w.alone.Append(nil, &w.lines.Envelope, &w.record, index, micros, hasTime))
	if record != want {
		t.Fatalf("%q (cut %t) became\n%s, the general way makes\n%s", text, cut, record, want)
	}
	if a, b := w.lines.Encoder.Redactions, w.alone.Redactions; a != b {
		t.Fatalf("%q: %d redactions, %d in the general way", text, a, b)
	}
	if a, b := w.lines.Forged(), w.record.Forged; a != b {
		t.Fatalf("%q: forged %t, %t in the general way", text, a, b)
	}
	if a, b := w.lines.Truncated(), w.record.Truncated || w.alone.Shortened(); a != b {
		t.Fatalf("%q: truncated %t, %t in the general way", text, a, b)
	}
	if a, b := string(w.lines.Path(got)), string(w.alone.Path()); a != b {
		t.Fatalf("%q: path %q, %q in the general way", text, a, b)
	}
	for _, k := range []router.Key{router.Host, router.RequestID, router.Dyno} {
		if a, b := string(w.lines.Visible(k)), string(w.alone.Visible(&w.record, k)); a != b {
			t.Fatalf("%q: key %d is %q, %q in the general way", text, k, a, b)
		}
	}
	if string(body) != "before"+text+w.behind {
		t.Fatalf("%q: the body was changed", text)
	}
	return express, record
}

// room is a newline and what else the lane wants behind a line: the next message.
const room = "\n327 <158>1 2025-11"

func FuzzExpress(f *testing.F) {
	for i, l := range goldenLines(f) {
		f.Add([]byte(l.text), l.cut, []byte("at=info"), []byte(room), uint8(i))
	}
	for i, text := range usual.Lines(200, 7) {
		f.Add([]byte(text), i%9 == 0, []byte(text[:len(text)/2]), []byte(room), uint8(i))
	}
	f.Fuzz(func(t *testing.T, text []byte, cut bool, first, behind []byte, mode uint8) {
		limit := 0
		if mode > 128 {
			limit = 300 + 4*int(mode)
		}
		w := newBothWays(router.Redaction(mode%3), router.FwdRedaction(mode/3%3), limit, string(behind))
		w.compare(t, string(first), cut, 1, 0, false)
		w.compare(t, string(text), false, 0, 1655131943_622778, true)
		w.compare(t, string(text), cut, 12, 1655131944_000001, true)
	})
}

// Lines that differ from usual ones in one place are where the lane could go wrong.
func TestMutatedUsualLinesTakeBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	pieces := []string{" ", "  ", `"`, `\`, "\n", "\r", "\t", "\x00", "\x1f", "\x7f", "\x80", "\xff", "é", "=", "&", ";", "?", "#", "%", "!", "$", "0", "00", "ms", "s",
		`" host=`, `" host=x request_id=`, `" dyno=`, ` path="`, " status=", " at=info", " tls=true", " tls_version=x", " bytes=", "token=a", "&token=a&", "%26token%3Da", "123456789012345678901"}
	express, all := 0, 0
	for i, line := range usual.Lines(150, 13) {
		w := newBothWays(router.Redaction(i%3), router.FwdRedaction(i/3%3), 0, room)
		check := func(text string) {
			taken, _ := w.compare(t, text, false, i, int64(i)*1_003_001, true)
			if all++; taken {
				express++
			}
		}
		check(line)
		for range 60 {
			at := r.IntN(len(line) + 1)
			end := min(len(line), at+r.IntN(4))
			piece := pieces[r.IntN(len(pieces))]
			check(line[:at] + piece + line[at:])
			check(line[:at] + piece + line[end:])
			check(line[:at] + line[end:])
			if from := r.IntN(len(line)); from < at {
				check(line[:at] + line[from:at] + line[at:])
			}
		}
	}
	if share := float64(express) / float64(all); share < 0.1 || share > 0.9 {
		t.Errorf("%.2f of the mutants took the lane: this test proves little", share)
	}
}

// Every value of every key, cut to nothing, of one byte, at each length around a word.
func TestValuesOfEveryLengthTakeBothWays(t *testing.T) {
	const form = `sock=S at=A code=C desc="D" method=M path="P" host=H request_id=R fwd="F" dyno=Y connect=1ms service=2ms status=200 bytes=3 protocol=O tls=true tls_version=V`
	w := newBothWays(router.RedactListed, router.FwdKeep, 0, room)
	for _, letter := range []string{"S", "A", "C", "D", "M", "P", "H", "R", "F", "Y", "O", "V"} {
		for n := range 40 {
			for _, filler := range []string{"x", "7", "/", "?", "\xc3"} {
				text := strings.Replace(form, letter, strings.Repeat(filler, n), 1)
				if taken, _ := w.compare(t, text, false, n, 0, true); !taken && filler == "x" {
					t.Errorf("did not take the lane: %s", text)
				}
			}
		}
	}
	for n := range 25 {
		for _, digit := range []string{"0", "1", "9"} {
			number := strings.Repeat(digit, n)
			for _, text := range []string{
				strings.Replace(form, "1ms", number+"ms", 1), strings.Replace(form, "1ms", number, 1), strings.Replace(form, "2ms", number+"m", 1),
				strings.Replace(form, "200", number, 1), strings.Replace(form, "bytes=3", "bytes="+number, 1), strings.Replace(form, "bytes=3", "bytes=-"+number, 1),
			} {
				w.compare(t, text, false, n, 0, true)
			}
		}
	}
}

// A line takes the lane only where its end is known, and at every capacity.
func TestTheLaneNeedsRoomBehindTheLine(t *testing.T) {
	line := usual.Lines(1, 5)[0]
	for n := range len(room) {
		w := newBothWays(router.RedactListed, router.FwdKeep, 0, "")
		body := append(make([]byte, 0, len(line)+n), line+room[:n]...)[: len(line) : len(line)+n]
		w.lines.Append(nil, body, false, 0, 0, false)
		if taken := w.lines.Express == 1; taken != (n >= router.Slack) {
			t.Errorf("with %d bytes behind it: took the lane %t", n, taken)
		}
		if n > 0 {
			w.behind = "x" + room[:n]
			if taken, _ := w.compare(t, line, false, 0, 0, true); taken {
				t.Errorf("took the lane although no newline ends the line")
			}
		}
	}
}

// oracle is an independent reading of the lines that the lane takes.
var oracle = regexp.MustCompile(`^(?:sock=(?<sock>[!#-\[\]-~]*) )?at=(?<at>[!#-\[\]-~]*)(?: code=(?<code>[!#-\[\]-~]*))?(?: desc="(?<desc>[ !#-\[\]-\x7f]*)")?` +
	` method=(?<method>[!#-\[\]-\x7f]*) path="(?<path>[ !#-\[\]-\x7f]*)" host=(?<host>[!#-\[\]-\x7f]*) request_id=(?<request_id>[!#-\[\]-\x7f]*) fwd="(?<fwd>[ !#-\[\]-\x7f]*)"` +
	` dyno=(?<dyno>[!#-\[\]-\x7f]*) connect=(?<connect_ms>\d{0,18})(?:ms)? service=(?<service_ms>\d{0,18})(?:ms)? status=(?<status>\d{0,18}) bytes=(?<bytes>\d{0,18})` +
	`(?: protocol=(?<protocol>[!#-\[\]-\x7f]*))?(?: tls=(?<tls>true|false))?(?: tls_version=(?<tls_version>[!#-\[\]-\x7f]*))?$`)

func TestTheLaneAgreesWithARegexp(t *testing.T) {
	order := []string{"at", "code", "desc", "sock", "method", "path", "host", "request_id", "fwd", "dyno", "connect_ms", "service_ms", "status", "bytes", "protocol", "tls_version", "tls"}
	w := newBothWays(router.RedactOff, router.FwdKeep, 0, room)
	lines := usual.Lines(4_000, 17)
	for i, line := range lines {
		taken, record := w.compare(t, line, false, i, 0, false)
		if !taken {
			t.Fatalf("did not take the lane: %s", line)
		}
		match := oracle.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("took the lane, but is not as the oracle knows it: %s", line)
		}
		want := fmt.Sprintf(`{"id":"09C557EAFCFB6CF2740EE62F62971098-%d","drain":"d.fc6b856b-3332-4546-93de-7d0ee272c3bd","app":"shop"`, i)
		for _, key := range order {
			switch value := match[oracle.SubexpIndex(key)]; {
			case value == "":
			case key == "tls", key == "status", key == "bytes", strings.HasSuffix(key, "_ms"):
				want += fmt.Sprintf(",%q:%s", key, value)
			default:
				want += fmt.Sprintf(`,%q:"%s"`, key, value)
			}
		}
		if want += "}"; record != want {
			t.Fatalf("%s became\n%s, not\n%s", line, record, want)
		}
	}
}

func TestTheEnvelopeTellsEveryTime(t *testing.T) {
	var e router.Envelope
	e.Reset([]byte("f"), nil, []byte("a"))
	r := rand.New(rand.NewPCG(3, 3))
	at := int64(1655131943_622778)
	for range 5_000 {
		switch r.IntN(4) {
		case 0:
			at += r.Int64N(3e6)
		case 1:
			at -= r.Int64N(100_000e6)
		case 2:
			at = r.Int64N(maxMicros-minMicros) + minMicros
		}
		at = max(minMicros, min(maxMicros-1, at))
		want := fmt.Sprintf(`{"id":"f-1","time":"%s","app":"a"`, timeOf(at))
		if got := string(e.Append(nil, 1, at, true)); got != want {
			t.Fatalf("%d became %s, not %s", at, got, want)
		}
	}
}

var (
	minMicros = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxMicros = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

func timeOf(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}
