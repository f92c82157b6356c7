package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"drain/replay"
	"drain/router"
	"drain/routes"
)

// plan is what a replay would do.
type plan struct {
	Target string  `json:"target"` // "" where none was given
	Source string  `json:"source"`
	Speed  float64 `json:"speed"` // 0 for max
	Read   int64   `json:"read"`
	Send   int64   `json:"send"`
	// Interrupted tells that not all was read.
	Interrupted bool             `json:"interrupted"`
	Skipped     map[string]int64 `json:"skipped"`
	Recorded    *replay.Span     `json:"recorded"`
	// Seconds is how long it would take, MostPerSecond the most requests that are due in one of them; 0 with speed max.
	Seconds       float64   `json:"seconds"`
	MostPerSecond int64     `json:"most_per_second"`
	Deny          []string  `json:"deny"`
	First         []planned `json:"first"`
	Routes        []route   `json:"routes"`
}

// planned is one request.
type planned struct {
	Due    float64 `json:"due_s"`
	Method string  `json:"method"`
	Path   string  `json:"path"`
	ID     string  `json:"request_id"`
}

type route struct {
	Method   string `json:"method"`
	Route    string `json:"route"`
	Requests int64  `json:"requests"`
}

// firstShown is how many requests a plan shows.
const firstShown = 10

// routesShown is how many routes its text lists.
const routesShown = 30

// plan reads what there is, sends nothing, and says what would be sent.
func (r *replaying) plan(ctx context.Context) error {
	cfg := r.cfg
	p := &plan{Source: cfg.source(), Speed: cfg.pace.Speed, Deny: cfg.choice.Deny, First: []planned{}}
	if cfg.target != nil {
		p.Target = cfg.target.String()
	}
	pace, table, counts := cfg.pace, routes.NewTable(cfg.rules), make(map[routes.Name]int)
	first, last := int64(math.MaxInt64), int64(math.MinInt64) // recorded
	var second, inSecond int64
	for {
		request, err := r.next(ctx)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		if !r.source.take(request) {
			request.Release()
			continue
		}
		due := pace.Due(request.Time)
		if len(p.First) < firstShown {
			p.First = append(p.First, planned{due.Seconds(), request.Method, string(request.Target), string(request.ID)})
		}
		p.Send++
		if request.Time != router.NoTime {
			first, last = min(first, request.Time), max(last, request.Time)
		}
		if at := int64(due / time.Second); at > second {
			second, inSecond = at, 0
		}
		inSecond++
		if p.Speed > 0 {
			p.MostPerSecond = max(p.MostPerSecond, inSecond)
			p.Seconds = max(p.Seconds, due.Seconds())
		}
		counts[table.Route([]byte(request.Method), request.Path, int(max(request.Status, 0))).Name]++
		r.source.sent(request)
		request.Release()
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	p.Interrupted = ctx.Err() != nil
	if first <= last {
		p.Recorded = &replay.Span{First: time.UnixMicro(first).UTC(), Last: time.UnixMicro(last).UTC(), Seconds: float64(last-first) / 1e6}
	}
	if rps := cfg.play.MaxRPS; rps > 0 {
		p.Seconds = max(p.Seconds, float64(p.Send)/rps)
		p.MostPerSecond = min(p.MostPerSecond, int64(math.Ceil(rps)))
	}
	p.Read, p.Skipped = r.report.read()
	if err := r.holdsNone(p.Read, p.Skipped); err != nil {
		return err
	}
	folded := make(map[routes.Name]int64)
	for from, to := range routes.Fold(counts, cfg.rules) {
		folded[to] += int64(counts[from])
	}
	for name, n := range folded {
		p.Routes = append(p.Routes, route{name.Method, name.Template, n})
	}
	slices.SortFunc(p.Routes, func(a, b route) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Method, b.Method))
	})
	if cfg.json {
		encoder := json.NewEncoder(r.env.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(p)
	}
	return p.write(r.env.stdout)
}

func (p *plan) write(w io.Writer) error {
	var b bytes.Buffer
	to := p.Target
	if to == "" {
		to = "a target"
	}
	fmt.Fprintf(&b, "would send %s of %s records of %s to %s", humanize.Comma(p.Send), humanize.Comma(p.Read), replay.Shown(p.Source), to)
	if p.Speed > 0 {
		fmt.Fprintf(&b, " in %s, %s in the busiest second", time.Duration(p.Seconds*1e9).Round(time.Millisecond), humanize.Comma(p.MostPerSecond))
	}
	if p.Interrupted {
		b.WriteString("; interrupted, so there is more")
	}
	fmt.Fprintln(&b)
	if p.Read == 0 && !p.Interrupted {
		b.WriteString(replay.NothingRead + "\n")
	}
	for _, reason := range slices.Sorted(maps.Keys(p.Skipped)) {
		fmt.Fprintf(&b, "  not %s: %s\n", humanize.Comma(p.Skipped[reason]), strings.ReplaceAll(reason, "_", " "))
	}
	if p.Recorded != nil {
		fmt.Fprintf(&b, "recorded from %s to %s\n\n", p.Recorded.First.Format(time.RFC3339), p.Recorded.Last.Format(time.RFC3339))
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range p.First {
		fmt.Fprintf(table, "+%.3fs\t%s %s\t%s\n", f.Due, replay.Shown(f.Method), replay.Shown(f.Path), replay.Shown(f.ID))
	}
	if p.Send > int64(len(p.First)) {
		fmt.Fprintf(table, "… and %s more\n", humanize.Comma(p.Send-int64(len(p.First))))
	}
	table.Flush()
	table = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, r := range p.Routes {
		if i == 0 {
			fmt.Fprint(table, "\nROUTE\tREQUESTS\n")
		}
		if i == routesShown {
			fmt.Fprintf(table, "… and %d more: --json has all\n", len(p.Routes)-i)
			break
		}
		fmt.Fprintf(table, "%s\t%s\n", replay.Shown(strings.TrimSpace(r.Method+" "+r.Route)), humanize.Comma(r.Requests))
	}
	table.Flush()
	_, err := w.Write(b.Bytes())
	return err
}
