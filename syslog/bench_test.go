package syslog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/go-syslog/v3/rfc5424"
)

const benchLines = 50_000

// variedFrames answers n messages in frames of about 100 KB, as Logplex sends
// them: the same ones on every run.
func variedFrames(n int) (frames [][]byte, size int) {
	random := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2022, 6, 13, 14, 52, 23, 0, time.UTC)
	var body []byte
	for i := range n {
		at = at.Add(time.Duration(random.IntN(6_000)) * time.Microsecond)
		message := variedMessage(random, at.Format("2006-01-02T15:04:05.000000+00:00"))
		body = fmt.Appendf(body, "%d %s", len(message), message)
		if len(body) > 100_000 || i == n-1 {
			frames, size, body = append(frames, body), size+len(body), nil
		}
	}
	return frames, size
}

func variedMessage(random *rand.Rand, stamp string) string {
	dyno := random.IntN(12) + 1
	switch random.IntN(10) {
	case 0:
		return fmt.Sprintf("<190>1 %s host app web.%d - [GIN] | %d | %9dµs | GET \"/users/%d\"\n", stamp, dyno, 200+random.IntN(300), random.IntN(1e6), random.IntN(1e6))
	case 1:
		return fmt.Sprintf("<190>1 %s host app worker.%d - %s\n", stamp, dyno, strings.Repeat("job done; ", random.IntN(40)))
	case 2:
		return fmt.Sprintf("<45>1 %s host heroku web.%d - source=web.%d dyno=heroku.35930502.%08x sample#load_avg_1m=%.2f\n", stamp, dyno, dyno, random.Uint32(), random.Float64())
	}
	return fmt.Sprintf("<158>1 %s host heroku router - at=info method=GET path=\"/%s/%d?page=%d\" host=example-%d.herokuapp.com request_id=%08x-2bc4-4143-8677-%012x fwd=\"%d.%d.87.140\" dyno=web.%d connect=%dms service=%dms status=%d bytes=%d protocol=https\n",
		stamp, strings.Repeat("p", 1+random.IntN(60)), random.IntN(1e6), random.IntN(100), random.IntN(50), random.Uint32(), random.Uint64N(1<<48),
		random.IntN(256), random.IntN(256), dyno, random.IntN(3), random.IntN(30_000), 200+random.IntN(300), random.IntN(1e6))
}

// perLine runs work on all the lines in every round, and reports what a line takes.
func perLine(b *testing.B, size int, work func()) {
	work() // what is allocated once
	b.SetBytes(int64(size))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		work()
	}
	runtime.ReadMemStats(&after)
	lines := float64(b.N) * benchLines
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/lines, "ns/line")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/lines, "allocs/line")
}

func BenchmarkSplit(b *testing.B) {
	frames, size := variedFrames(benchLines)
	var spans []Span
	perLine(b, size, func() {
		lines := 0
		for _, body := range frames {
			spans = Split(spans[:0], body)
			lines += len(spans)
		}
		if lines != benchLines {
			b.Fatalf("%d lines", lines)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	frames, size := variedFrames(benchLines)
	spans := make([][]Span, len(frames))
	for i, body := range frames {
		spans[i] = Split(nil, body)
	}
	var p Parser
	var m Message
	perLine(b, size, func() {
		for i, body := range frames {
			for _, s := range spans[i] {
				if p.Parse(&m, body, s); m.Malformed {
					b.Fatalf("%q", m.Raw)
				}
			}
		}
	})
}

// BenchmarkParseGoSyslog gives go-syslog the same headers: the six fields that
// it would take, and the `-` that Logplex leaves out, without any text.
func BenchmarkParseGoSyslog(b *testing.B) {
	frames, size := variedFrames(benchLines)
	var headers [][]byte
	for _, body := range frames {
		for _, s := range Split(nil, body) {
			fields := bytes.SplitN(body[s.Start:s.End], []byte(" "), 7)
			headers = append(headers, append(bytes.Join(fields[:6], []byte(" ")), " -"...))
		}
	}
	machine := rfc5424.NewMachine()
	perLine(b, size, func() {
		for _, header := range headers {
			if _, err := machine.Parse(header); err != nil {
				b.Fatalf("%q: %v", header, err)
			}
		}
	})
}

func TestUsualLinesAllocateNothing(t *testing.T) {
	frames, _ := variedFrames(2_000)
	frames = append(frames, []byte(frame(corpus(t)...)), []byte(strings.Join(corpus(t), "")),
		[]byte(strings.Repeat("2022-06-13T14:52:23.6+00:00 heroku[router]: at=info method=GET\r\n", 100)))
	var spans []Span
	var p Parser
	var m Message
	for i, body := range frames {
		spans = Split(spans[:0], body)
		if n := testing.AllocsPerRun(5, func() {
			spans = Split(spans[:0], body)
			for _, s := range spans {
				p.Parse(&m, body, s)
				m.Loss()
				m.Router()
			}
		}); n != 0 {
			t.Errorf("frame %d: %v allocations", i, n)
		}
	}
}
