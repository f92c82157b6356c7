package reading

import (
	"encoding/json"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"drain/trial/usual"
)

const lines = 50_000

func frames() [][]byte { return usual.Frames(usual.Lines(lines, 1), 310) }

// BenchmarkReading measures each way, alone.
func BenchmarkReading(b *testing.B) {
	frames := frames()
	for _, way := range Ways {
		b.Run(way.Name, func(b *testing.B) {
			c := way.New()
			dst := make([]byte, 0, 1<<20)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				for _, frame := range frames {
					dst = c.Convert(dst[:0], frame)
				}
			}
			runtime.ReadMemStats(&after)
			all := float64(b.N) * lines
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/all, "ns/line")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/all, "allocs/line")
		})
	}
}

// The comparison is fair only while both make the same records of usual lines.
func TestTheIdiomaticWayMakesTheSameRecords(t *testing.T) {
	for _, frame := range usual.Frames(usual.Lines(2000, 2), 310) {
		our := strings.Split(string(newOurs(false).Convert(nil, frame)), "\n")
		other := strings.Split(string(newIdiomatic().Convert(nil, frame)), "\n")
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
