package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"drain/bench/reading"
	"drain/cluster"
	"drain/trial/usual"
)

// runCommand measures.
type runCommand struct {
	Short    bool          `help:"Only what shows that nothing was lost since: ratios of drain to the references. Ends with status 1 where one is."`
	Only     []string      `help:"Only these experiments: reading, variants, grid, growth, lone, half, memory, tls."`
	Rounds   int           `default:"5" help:"Runs of each point."`
	Duration time.Duration `default:"2s" help:"Of a run."`
	Out      string        `default:"docs/benchmarks.json" help:"File for the figures."`
}

// Results are all that was measured.
type Results struct {
	Machine     string
	Date        string
	Reading     []Reading           `json:",omitempty"`
	Lone        *Lone               `json:",omitempty"`
	Experiments map[string][]Series `json:",omitempty"`
}

// Reading is what one way of reading costs.
type Reading struct {
	Way, What   string
	NsPerLine   []float64 // of each run
	Allocations float64   // a line
}

func trusting(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return cluster.Certificates{Trusted: string(text)}.TLS()
}

// repository finds the repository's root above the working directory.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "drain").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// newBench makes a bench of an empty folder; done ends what it started.
func newBench(ctx context.Context, duration time.Duration) (b *bench, done func(), err error) {
	root, err := repository()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "drain-bench")
	if err != nil {
		return nil, nil, err
	}
	b = &bench{ctx: ctx, dir: dir, root: root, duration: duration, brokers: make(map[string]*broker), services: make(map[Setup]*service), bodies: make(map[Load]int)}
	return b, func() { b.close(); os.RemoveAll(dir) }, nil
}

// Run measures, and keeps what other experiments found before.
func (c *runCommand) Run(ctx context.Context) error {
	b, done, err := newBench(ctx, c.Duration)
	if err != nil {
		return err
	}
	defer done()
	if err := b.build(); err != nil {
		return err
	}
	if c.Short {
		return b.short()
	}
	out := filepath.Join(b.root, c.Out)
	results := Results{Experiments: make(map[string][]Series)}
	if text, err := os.ReadFile(out); err == nil {
		if err := json.Unmarshal(text, &results); err != nil {
			return fmt.Errorf("read %s: %w", out, err)
		}
	}
	results.Machine, results.Date = machine(), time.Now().UTC().Format("2006-01-02")
	for _, e := range experiments {
		if len(c.Only) > 0 && !slices.Contains(c.Only, e.name) {
			continue
		}
		if err := e.run(b, c.Rounds, &results); err != nil {
			return err
		}
		b.close() // the next one begins with a machine at rest
		text, err := json.MarshalIndent(&results, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return report(b.root, &results)
}

// machine says what was measured on.
func machine() string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		s := bufio.NewScanner(bytes.NewReader(info))
		for s.Scan() {
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d processors (%s), %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

// experiments in the order of a whole measurement.
var experiments = []struct {
	name string
	run  func(b *bench, rounds int, r *Results) error
}{
	{"reading", func(b *bench, rounds int, r *Results) error { r.Reading = readings(rounds); return nil }},
	{"variants", series("variants", variants)},
	{"tls", series("tls", secured)},
	{"memory", series("memory", memory)},
	{"lone", func(b *bench, rounds int, r *Results) (err error) { r.Lone, err = b.lone(); return err }},
	{"half", half},
	{"growth", series("growth", growth)},
	{"grid", series("grid", grid)},
}

func series(name string, points func() []Point) func(*bench, int, *Results) error {
	return func(b *bench, rounds int, r *Results) (err error) {
		r.Experiments[name], err = b.rounds(name, rounds, points())
		return err
	}
}

// full is the load at which drain has the most to do.
var full = Load{Generator: "wrk", Connections: 128, Lines: 100, Drains: 16}

func plain(variant, broker string, partitions int) Setup {
	return Setup{Variant: variant, Broker: broker, Compression: "none", Partitions: partitions}
}

// variants are drain and the references, on both brokers.
func variants() (all []Point) {
	for _, broker := range []string{"kfake", "kafka"} {
		for _, variant := range []string{"drain", "writer", "idiomatic"} {
			all = append(all, Point{Setup: plain(variant, broker, 4), Load: full})
		}
		packed := plain("drain", broker, 4)
		packed.Compression = "zstd"
		all = append(all, Point{Setup: packed, Load: full})
	}
	wide := full
	wide.Connections = 512
	all = append(all, Point{Setup: plain("drain", "kafka", 4), Load: wide})
	own := Load{Generator: "logplex", Connections: 128, Drains: 128, Lines: 310}
	all = append(all, Point{Setup: plain("drain", "kfake", 4), Load: own})
	return all
}

// secured compares TLS to the broker with none.
func secured() []Point {
	return []Point{{Setup: plain("drain", "kfake", 4), Load: full}, {Setup: plain("drain", "kfake with TLS", 4), Load: full}}
}

// memory is what drain takes, each time from its start.
func memory() []Point {
	few, many := full, full
	few.Connections, many.Connections, many.Drains, many.Lines = 64, 2000, 2000, 10
	calm := Load{Generator: "logplex", Connections: 2000, Drains: 2000, Lines: 5, Rate: 100_000}
	setup := plain("drain", "kfake", 8)
	return []Point{{Setup: setup, Load: few, Fresh: true}, {Setup: setup, Load: calm, Fresh: true}, {Setup: setup, Load: many, Fresh: true}}
}

// growth changes one thing at a time.
func growth() (all []Point) {
	add := func(setup Setup, load Load) { all = append(all, Point{Setup: setup, Load: load, Fresh: true}) }
	base := plain("drain", "kfake", 4)
	for _, n := range []int{1, 4, 16, 64, 256, 512} {
		load := full
		load.Connections = n
		add(base, load)
	}
	for _, n := range []int{1, 10, 100, 500, 2000} {
		load := full
		load.Drains, load.Connections = n, max(n, 16)
		add(base, load)
	}
	for _, n := range []int{1, 2, 8, 32, 128, 256} {
		add(plain("drain", "kfake", n), full)
	}
	for _, n := range []int{120, 300, 1000, 3000, 10_000} {
		load := full
		load.LineBytes, load.Lines = n, max(1, min(100, 100_000/n))
		add(base, load)
	}
	for _, procs := range []int{1, 2} {
		setup := base
		setup.Procs = procs
		add(setup, full)
	}
	return all
}

// grid is every combination of connections, lines a request, brokers, compressions
// and partitions.
func grid() (all []Point) {
	for _, broker := range []string{"kfake", "kafka"} {
		for _, partitions := range []int{1, 32} {
			for _, compression := range []string{"none", "zstd"} {
				for _, connections := range []int{1, 16, 64, 256} {
					for _, lines := range []int{1, 10, 100, 310} {
						setup := plain("drain", broker, partitions)
						setup.Compression = compression
						// Of many drains: a busy one is not held for long (docs/ingest-design.md).
						all = append(all, Point{Setup: setup, Load: Load{Generator: "wrk", Connections: connections, Lines: lines, Drains: 2000}})
					}
				}
			}
		}
	}
	return all
}

// half is the answers' time at half of the highest load that logplex reaches.
func half(b *bench, rounds int, r *Results) error {
	setup := plain("drain", "kfake", 4)
	load := Load{Generator: "logplex", Connections: 64, Drains: 64, Lines: 310}
	most, err := b.rounds("half", rounds, []Point{{Setup: setup, Load: load}})
	if err != nil {
		return err
	}
	load.Rate = int(median(most[0].Runs, func(r *Run) float64 { return r.LinesPerSecond }) / 2)
	at, err := b.rounds("half", rounds, []Point{{Setup: setup, Load: load}})
	r.Experiments["half"] = append(most, at...)
	return err
}

// readings measures each way of reading, in turns.
func readings(rounds int) []Reading {
	frames := usual.Frames(usual.Lines(50_000, 1), 310)
	all := make([]Reading, len(reading.Ways))
	converters := make([]reading.Converter, len(all))
	for i, way := range reading.Ways {
		all[i].Way, all[i].What, converters[i] = way.Name, way.What, way.New()
	}
	dst := make([]byte, 0, 1<<20)
	for round := range rounds + 1 {
		for i, c := range converters {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			passes := 0
			for ; time.Since(start) < time.Second; passes++ {
				for _, frame := range frames {
					dst = c.Convert(dst[:0], frame)
				}
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if round > 0 {
				lines := float64(passes) * 50_000
				all[i].NsPerLine = append(all[i].NsPerLine, float64(took.Nanoseconds())/lines)
				all[i].Allocations = float64(after.Mallocs-before.Mallocs) / lines
			}
		}
	}
	return all
}

func median(runs []Run, of func(*Run) float64) float64 {
	values := make([]float64, len(runs))
	for i := range runs {
		values[i] = of(&runs[i])
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
