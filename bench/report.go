package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// reportCommand writes tables and plots.
type reportCommand struct {
	In string `default:"docs/benchmarks.json" help:"File with the figures."`
}

// Run writes them.
func (c *reportCommand) Run() error {
	root, err := repository()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, c.In))
	if err != nil {
		return err
	}
	var r Results
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read %s: %w", c.In, err)
	}
	return report(root, &r)
}

// report puts the tables into docs/benchmarks.md, each between its marks, and the
// plots beside it.
func report(root string, r *Results) error {
	file := filepath.Join(root, "docs/benchmarks.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	page := string(text)
	tables := map[string]string{"machine": r.Machine + ", " + r.Date + "\n", "reading": readingTable(r.Reading), "lone": loneTable(r.Lone)}
	for name, all := range r.Experiments {
		tables[name] = seriesTable(name, all)
	}
	for name, table := range tables {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		front, rest, ok := strings.Cut(page, begin)
		_, back, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			return fmt.Errorf("%s has no place for the table %s: put %q and %q in it", file, name, strings.TrimSpace(begin), end)
		}
		page = front + begin + "\n" + table + "\n" + end + back
	}
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		return err
	}
	dir := filepath.Join(root, "docs")
	if err := plots(dir, r); err != nil {
		return err
	}
	return bars(filepath.Join(dir, "variants.svg"), r.Experiments["variants"])
}

// bars draws what a line costs in each variant, with kfake and by wrk.
func bars(file string, all []Series) error {
	var values plotter.Values
	var names []string
	for i := range all {
		if s := &all[i]; s.Broker == "kfake" && s.Generator == "wrk" {
			values = append(values, s.median(func(r *Run) float64 { return r.CPU })/1000)
			names = append(names, strings.Replace(s.what(), ", ", ",\n", 1))
		}
	}
	if len(values) == 0 {
		return nil
	}
	p := plot.New()
	p.Y.Label.Text = "µs of processor a line"
	chart, err := plotter.NewBarChart(values, 1.5*vg.Centimeter)
	if err != nil {
		return err
	}
	chart.Color, chart.LineStyle.Width = plotutil.Color(2), 0
	p.Add(plotter.NewGrid(), chart)
	p.NominalX(names...)
	p.X.Min, p.X.Max, p.Y.Max = -0.5, float64(len(names))-0.5, 1.08*p.Y.Max
	return p.Save(18*vg.Centimeter, 8*vg.Centimeter, file)
}

// spread is a median with the least and the most.
func spread(values []float64, form string) string {
	m := middle(values)
	return fmt.Sprintf(form+" ("+form+"–"+form+")", m, values[0], values[len(values)-1])
}

func readingTable(all []Reading) string {
	if len(all) < 3 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| way | what it does | ns a line | allocations a line | times as fast as the idiomatic |\n|---|---|---|---|---|\n")
	base := middle(all[2].NsPerLine)
	for i := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.1f |\n", all[i].Way, all[i].What, spread(all[i].NsPerLine, "%.0f"), all[i].Allocations, base/middle(all[i].NsPerLine))
	}
	return b.String()
}

func loneTable(l *Lone) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("| of %d in turn | p50 | p99 |\n|---|---|---|\n| a line, posted and answered | %.2f ms | %.2f ms |\n| the same record, produced alone | %.2f ms | %.2f ms |\n", l.Times, l.P50, l.P99, l.ProduceP50, l.ProduceP99)
}

func (s *Series) values(of func(*Run) float64) []float64 {
	values := make([]float64, len(s.Runs))
	for i := range s.Runs {
		values[i] = of(&s.Runs[i])
	}
	return values
}

func (s *Series) median(of func(*Run) float64) float64 { return middle(s.values(of)) }

// what says what is special about a point.
func (s *Series) what() string {
	text := s.Variant
	switch s.Variant {
	case "writer":
		text = "kafka-go's Writer, drain's reading"
	case "idiomatic":
		text = "kafka-go's Writer, idiomatic reading"
	}
	if s.Compression != "none" {
		text += ", " + s.Compression
	}
	if s.LineBytes > 0 {
		text += fmt.Sprintf(", lines of %d bytes", s.LineBytes)
	}
	if s.Procs > 0 {
		text += fmt.Sprintf(", GOMAXPROCS=%d", s.Procs)
	}
	if n := s.median(func(r *Run) float64 { return r.Refused }); n > 0 {
		text += fmt.Sprintf(", %.2f %% answered 503", 100*n)
	}
	if s.Generator == "logplex" {
		text += ", load by logplex"
		if s.Rate > 0 {
			text += fmt.Sprintf(" at %d lines/s", s.Rate)
		}
	}
	return text
}

func seriesTable(name string, all []Series) string {
	var b strings.Builder
	if name == "grid" {
		return gridTable(all)
	}
	b.WriteString("| | broker | partitions | connections × lines, drains | lines/s | CPU of the service, ns/line | of the broker | of the generator | allocations/line | MiB | p50, p99, p99.9 ms | bytes/line to Kafka |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range all {
		s := &all[i]
		size := "–"
		if n := s.median(func(r *Run) float64 { return r.SentBytes }); n > 0 {
			size = fmt.Sprintf("%.0f", n)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d × %d, %d | %s | %s | %.0f | %.0f | %.2f | %.0f | %.1f, %.1f, %.1f | %s |\n", s.what(), s.Broker, s.Partitions, s.Connections, s.Lines, s.Drains,
			spread(s.values(func(r *Run) float64 { return r.LinesPerSecond }), "%.0f"), spread(s.values(func(r *Run) float64 { return r.CPU }), "%.0f"),
			s.median(func(r *Run) float64 { return r.BrokerCPU }), s.median(func(r *Run) float64 { return r.GeneratorCPU }),
			s.median(func(r *Run) float64 { return r.Allocations }), s.median(func(r *Run) float64 { return r.Resident }),
			s.median(func(r *Run) float64 { return r.P50 }), s.median(func(r *Run) float64 { return r.P99 }), s.median(func(r *Run) float64 { return r.P999 }), size)
	}
	return b.String()
}

// gridTable has a row for connections and lines, a column for each setup.
func gridTable(all []Series) string {
	var setups []Setup
	var loads []Load
	cells := make(map[Point]*Series)
	for i := range all {
		s := &all[i]
		if !slices.Contains(setups, s.Setup) {
			setups = append(setups, s.Setup)
		}
		if !slices.Contains(loads, s.Load) {
			loads = append(loads, s.Load)
		}
		cells[s.Point] = s
	}
	var b strings.Builder
	b.WriteString("Thousand lines/s; CPU of drain in ns/line; p50 / p99 of the answers in ms.\n\n| connections × lines |")
	for _, s := range setups {
		fmt.Fprintf(&b, " %s, %s, %d partitions |", s.Broker, s.Compression, s.Partitions)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(setups)) + "\n")
	for _, l := range loads {
		fmt.Fprintf(&b, "| %d × %d |", l.Connections, l.Lines)
		for _, setup := range setups {
			s := cells[Point{Setup: setup, Load: l}]
			if s == nil {
				b.WriteString(" |")
				continue
			}
			refused := ""
			if n := s.median(func(r *Run) float64 { return r.Refused }); n > 0 {
				refused = fmt.Sprintf(" (%.1f %% 503)", 100*n)
			}
			fmt.Fprintf(&b, " %.1f; %.0f; %.1f / %.1f%s |", s.median(func(r *Run) float64 { return r.LinesPerSecond })/1000, s.median(func(r *Run) float64 { return r.CPU }),
				s.median(func(r *Run) float64 { return r.P50 }), s.median(func(r *Run) float64 { return r.P99 }), refused)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// plots draws how cost grows.
func plots(dir string, r *Results) error {
	all := r.Experiments["growth"]
	same := func(s *Series, but func(*Series)) bool {
		base := Series{Point: Point{Setup: plain("drain", "kfake", 4), Load: full}}
		got := Series{Point: s.Point}
		got.Fresh = false
		but(&got)
		but(&base)
		return got.Point == base.Point
	}
	axes := []struct {
		file, label string
		but         func(*Series) // takes out what may differ
		x           func(*Series) float64
	}{
		{"connections", "connections", func(s *Series) { s.Connections = 0 }, func(s *Series) float64 { return float64(s.Connections) }},
		{"drains", "drains, each with a connection", func(s *Series) { s.Connections, s.Drains = 0, 0 }, func(s *Series) float64 { return float64(s.Drains) }},
		{"partitions", "partitions", func(s *Series) { s.Partitions = 0 }, func(s *Series) float64 { return float64(s.Partitions) }},
		{"line-length", "bytes of a line", func(s *Series) { s.LineBytes, s.Lines = 0, 0 }, func(s *Series) float64 { return float64(s.LineBytes) }},
		{"cores", "GOMAXPROCS", func(s *Series) { s.Procs = 0 }, func(s *Series) float64 { return float64(s.Procs) }},
	}
	for _, a := range axes {
		points := make(map[float64]*Series)
		for i := range all {
			s := &all[i]
			if !same(s, a.but) || a.x(s) == 0 || a.file == "drains" && s.Connections != max(s.Drains, 16) {
				continue
			}
			points[a.x(s)] = s
		}
		if len(points) < 2 {
			continue
		}
		panels := []struct {
			file, label string
			of          func(*Run) float64
		}{
			{"lines", "lines/s, thousands", func(r *Run) float64 { return r.LinesPerSecond / 1000 }},
			{"memory", "resident memory, MiB", func(r *Run) float64 { return r.Resident }},
		}
		for _, p := range panels {
			if err := draw(filepath.Join(dir, a.file+"-"+p.file+".svg"), a.label, p.label, points, p.of); err != nil {
				return err
			}
		}
	}
	return nil
}

// draw draws medians, with bars from the least to the most.
func draw(file, x, y string, points map[float64]*Series, of func(*Run) float64) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Y.Min = 0
	var line withBars
	var ticks []plot.Tick
	for at, s := range points {
		values := s.values(of)
		m := middle(values)
		line = append(line, bar{at, m, m - values[0], values[len(values)-1] - m})
		ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprint(at)})
	}
	slices.SortFunc(line, func(a, b bar) int { return int(a.x - b.x) })
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(ticks)
	if err := plotutil.AddLinePoints(p, line); err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(line)
	if err != nil {
		return err
	}
	p.Add(plotter.NewGrid(), bars)
	p.Y.Min, p.Y.Max = 0, 1.08*p.Y.Max
	p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.3
	return p.Save(14*vg.Centimeter, 8*vg.Centimeter, file)
}

// bar is a value with how far below and above it others were.
type bar struct{ x, y, below, above float64 }

type withBars []bar

func (w withBars) Len() int                         { return len(w) }
func (w withBars) XY(i int) (x, y float64)          { return w[i].x, w[i].y }
func (w withBars) YError(i int) (low, high float64) { return w[i].below, w[i].above }
