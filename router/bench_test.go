package router_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

const benchLines = 50_000

// usualFrames puts the lines behind Logplex's header and into frames of 310.
func usualFrames(lines []string) [][]byte {
	var frames [][]byte
	var frame []byte
	start := time.Date(2025, 11, 2, 9, 13, 44, 0, time.UTC)
	for i, line := range lines {
		at := start.Add(time.Duration(i) * 731 * time.Microsecond)
		message := "<158>1 " + at.Format("2006-01-02T15:04:05.000000-07:00") + " host heroku router - " + line + "\n"
		frame = fmt.Appendf(frame, "%d %s", len(message), message)
		if (i+1)%310 == 0 || i+1 == len(lines) {
			frames = append(frames, frame)
			frame = nil
		}
	}
	return frames
}

// BenchmarkParseEncode goes from a frame's bytes to its records: framing, header,
// line, redaction, JSON.
func BenchmarkParseEncode(b *testing.B) { benchmark(b, newOurs()) }

// BenchmarkGeneral does the same without the express lane.
func BenchmarkGeneral(b *testing.B) { benchmark(b, newGeneral()) }

// BenchmarkIdiomatic does the same with go-syslog, go-logfmt and encoding/json.
func BenchmarkIdiomatic(b *testing.B) { benchmark(b, newIdiomatic()) }

func benchmark(b *testing.B, c converter) {
	frames := usualFrames(usualLines(benchLines, 1))
	size := 0
	for _, frame := range frames {
		size += len(frame)
	}
	dst := make([]byte, 0, 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		for _, frame := range frames {
			dst = c.convert(dst[:0], frame)
		}
	}
	runtime.ReadMemStats(&after)
	lines := float64(b.N) * benchLines
	b.SetBytes(int64(size))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/lines, "ns/line")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/lines, "allocs/line")
}

// BenchmarkTimesIdiomatic tells how many times as fast we are as the idiomatic
// way, with the express lane and without, all in turns so that the machine's moods
// meet each.
func BenchmarkTimesIdiomatic(b *testing.B) {
	frames := usualFrames(usualLines(benchLines, 1))
	ways := []converter{newOurs(), newGeneral(), newIdiomatic()}
	times := make([]time.Duration, len(ways))
	dst := make([]byte, 0, 1<<20)
	for b.Loop() {
		for i, way := range ways {
			start := time.Now()
			for _, frame := range frames {
				dst = way.convert(dst[:0], frame)
			}
			times[i] += time.Since(start)
		}
	}
	b.ReportMetric(times[2].Seconds()/times[0].Seconds(), "times")
	b.ReportMetric(times[2].Seconds()/times[1].Seconds(), "times-general")
}

// The comparison is fair only while both make the same records of usual lines.
func TestTheIdiomaticWayMakesTheSameRecords(t *testing.T) {
	for _, frame := range usualFrames(usualLines(2000, 2)) {
		our := strings.Split(string(newOurs().convert(nil, frame)), "\n")
		other := strings.Split(string(newIdiomatic().convert(nil, frame)), "\n")
		if len(our) != len(other) {
			t.Fatalf("%d records, the idiomatic way makes %d", len(our)-1, len(other)-1)
		}
		for i := range our[:len(our)-1] {
			if a, b := fields(t, our[i]), fields(t, other[i]); !reflect.DeepEqual(a, b) {
				t.Fatalf("\n%v, the idiomatic way makes\n%v", a, b)
			}
		}
	}
}

// fields are a record's, but for what is ours alone: the id, and the form of the
// time.
func fields(t *testing.T, record string) map[string]any {
	t.Helper()
	var f map[string]any
	if err := json.Unmarshal([]byte(record), &f); err != nil {
		t.Fatalf("%v in %s", err, record)
	}
	at, err := time.Parse(time.RFC3339Nano, f["time"].(string))
	if err != nil {
		t.Fatal(err)
	}
	f["time"] = at
	delete(f, "id")
	return f
}
