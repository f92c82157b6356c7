package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tables and plots of a measurement that never was.
func TestReport_putsEveryTableInItsPlaceAndDraws(t *testing.T) {
	root := t.TempDir()
	page := "# Page\n"
	r := &Results{Machine: "a machine", Date: "2026-01-02", Lone: &Lone{10, 0.5, 0.7, 0.2, 0.3}, Experiments: make(map[string][]Series)}
	for i, way := range []string{"drain", "general", "idiomatic"} {
		r.Reading = append(r.Reading, Reading{way, "all", []float64{float64(300 + 100*i), float64(100 + 100*i), float64(200 + 100*i)}, 0})
	}
	for name, points := range map[string]func() []Point{"variants": variants, "growth": growth, "grid": grid, "tls": secured, "memory": memory} {
		for i, p := range points() {
			run := Run{LinesPerSecond: float64(1_000_000 + i), CPU: 900, P50: 1, P99: 2, P999: 3, Resident: 50}
			faster := run
			faster.LinesPerSecond += 1000
			r.Experiments[name] = append(r.Experiments[name], Series{p, []Run{run, faster, run}})
		}
	}
	for _, name := range []string{"machine", "reading", "lone", "variants", "growth", "grid", "tls", "memory"} {
		page += "<!-- " + name + " -->\nold\n<!-- end of " + name + " -->\nbetween\n"
	}
	file := filepath.Join(root, "docs/benchmarks.md")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time over the first
		if err := report(root, r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a machine, 2026-01-02", "| drain | all | 200 (100–300) | 0.00 | 2.0 |", "| a line, posted and answered | 0.50 ms | 0.70 ms |",
		"| kafka-go's Writer, idiomatic reading | kafka | 4 | 128 × 100, 16 | 1000006 (1000006–1001006) |", "| 256 × 310 |", "lines of 10000 bytes", "GOMAXPROCS=1",
	} {
		if strings.Count(string(text), want) != 1 {
			t.Errorf("%d times %q", strings.Count(string(text), want), want)
		}
	}
	if strings.Contains(string(text), "old") || strings.Count(string(text), "between") != 8 {
		t.Errorf("the page is now\n%s", text)
	}
	for _, axis := range []string{"connections", "drains", "partitions", "line-length", "cores"} {
		for _, panel := range []string{"lines", "memory"} {
			svg, err := os.ReadFile(filepath.Join(root, "docs", axis+"-"+panel+".svg"))
			if err != nil || !strings.Contains(string(svg), "<svg") {
				t.Errorf("%s of %s: %v", panel, axis, err)
			}
		}
	}
	r.Experiments["nowhere"] = nil
	if err := report(root, r); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a table without a place: %v", err)
	}
}

// Each point of an axis differs from the base in that alone, and none is missing.
func TestGrowth_hasAPointForEachPlaceOfEachAxis(t *testing.T) {
	if got, want := len(growth()), 6+5+6+5+2; got != want {
		t.Errorf("%d points, want %d", got, want)
	}
	if got, want := len(grid()), 2*2*2*4*4; got != want {
		t.Errorf("%d combinations, want %d", got, want)
	}
}
