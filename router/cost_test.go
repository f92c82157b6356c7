package router_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"drain/router"
	"drain/trial/usual"
)

// Whatever a client writes, a line of 16 times the length takes about 16 times as
// long, and not 256 times.
func TestTheTimeOfALineGrowsWithItsLengthOnly(t *testing.T) {
	const small, large, limit = 8 << 10, 128 << 10, 96
	check := func(what string, line func(size int) []byte) {
		t.Helper()
		short, long := line(small), line(large)
		short, long = append(short, room...)[:len(short)], append(long, room...)[:len(long)]
		for way, convert := range ways() {
			if ratio := slowdown(func() { convert(short) }, func() { convert(long) }, limit); ratio > limit {
				t.Errorf("%s of %s: %.0f times the time for 16 times the length", way, what, ratio)
			}
		}
	}
	for _, pattern := range []string{
		`"`, `" `, ` `, `" host=`, `" host= request_id=`, `" host=" dyno=`, `" dyno= connect=`, `" b=c`, `" b`, `" =`,
		`&`, `;`, `?`, `?&;#`, `%`, `%25`, `%2525`, `%3F`, `,`, `1.2.3.4,`, `=`, `a=`, `a= `, ` a=b`, `a`, `a `, `a. `, `[`, `]token[`,
		`?token=`, `&token=&`, `?token=a b"`, `%26token%3D`, ` token="`, ` token="a"`, ` path="`, ` method= path="`, ` method= path="x"`,
		` path=/`, ` fwd="`, ` request_id= fwd="`, ` request_id= fwd="1"`, ` host=h fwd="" path="/?token=a" method=`, ` status=x`,
		` desc=a b`, ` desc="`, "\xff", "\xff=\xfe ", "\x00", `\`, "\t", "é",
	} {
		for _, front := range []string{"", `at=info method=GET path="/?token=`} {
			check(front+pattern+"…", func(size int) []byte { return []byte(front + strings.Repeat(pattern, size/len(pattern))) })
		}
	}
	check("different keys", func(size int) (line []byte) {
		for i := 0; len(line) < size; i++ {
			line = fmt.Appendf(line, "k%d=\xff%d ", i, i)
		}
		return line
	})
}

// slowdown is how many times as much of the processor long takes as short: the
// best of some tries, since collecting garbage takes some too.
func slowdown(short, long func(), limit float64) (ratio float64) {
	best := [2]time.Duration{time.Hour, time.Hour}
	for range 5 {
		for i, f := range []func(){short, long} {
			start := processorTime()
			f()
			best[i] = min(best[i], processorTime()-start)
		}
		if ratio = best[1].Seconds() / max(best[0], time.Microsecond).Seconds(); ratio < limit/2 {
			break
		}
	}
	return ratio
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ways are those in which a line's bytes are gone through.
func ways() map[string]func(line []byte) {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	var dst []byte
	ways := map[string]func([]byte){
		"Parse": func(line []byte) { p.Reset(); p.Parse(&r, line, false) },
		"malformed": func(line []byte) {
			dst, _ = router.NewRedactor(router.RedactListed, router.FwdTruncate, nil).AppendMalformed(dst[:0], line)
		},
	}
	for name, redaction := range map[string]router.Redaction{"listed": router.RedactListed, "all": router.RedactAll, "off": router.RedactOff} {
		e := router.Encoder{Redactor: router.NewRedactor(redaction, router.FwdTruncate, nil), Limit: 900_000}
		if name == "listed" {
			var lines router.Converter
			lines.Begin(e.Redactor, e.Limit)
			ways["Converter"] = func(line []byte) { dst = lines.Append(dst[:0], line, false, 0, 0, false) }
		}
		ways[name] = func(line []byte) {
			p.Reset()
			p.Parse(&r, line, true)
			dst = e.Append(dst[:0], &env, &r, 0, 0, false)
		}
	}
	return ways
}

func TestAUsualLineAllocatesNothing(t *testing.T) {
	lines := usual.Lines(3000, 3)
	texts := make([][]byte, len(lines))
	for i, l := range lines {
		texts[i] = []byte(l + room)[:len(l)]
	}
	for _, redaction := range []router.Redaction{router.RedactListed, router.RedactAll, router.RedactOff} {
		var p router.Parser
		var r router.Record
		var env router.Envelope
		env.Reset([]byte("f"), []byte("d.1"), []byte("shop"))
		e := router.Encoder{Redactor: router.NewRedactor(redaction, router.FwdKeep, nil), Limit: 900_000}
		dst := make([]byte, 0, 4096)
		convert := func() {
			for i, text := range texts {
				p.Parse(&r, text, false)
				dst = e.Append(dst[:0], &env, &r, i, 1655131943_622778, true)
			}
		}
		if n := testing.AllocsPerRun(5, convert); n > 0 {
			t.Errorf("mode %d: %v allocations in %d lines", redaction, n, len(lines))
		}
		var c router.Converter
		c.Begin(e.Redactor, 900_000)
		convert = func() {
			for i, text := range texts {
				dst = c.Append(dst[:0], text, false, i, 1655131943_622778, true)
			}
		}
		if n := testing.AllocsPerRun(5, convert); n > 0 || c.Express != 6*len(lines) {
			t.Errorf("mode %d: %v allocations in %d lines, of which %d took the lane", redaction, n, 6*len(lines), c.Express)
		}
		if hidden := e.Redactions > 0; hidden != (redaction != router.RedactOff) {
			t.Errorf("mode %d: %d redactions", redaction, e.Redactions)
		}
	}
}
