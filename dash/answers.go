package dash

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"drain/routes"
	"drain/window"
)

// times is how times are told: in ms, null where nothing was measured.
type times struct {
	Mean *float64 `json:"mean"`
	P50  *float64 `json:"p50"`
	P95  *float64 `json:"p95"`
	P99  *float64 `json:"p99"`
	Max  *float64 `json:"max"`
}

func timesOf(h *window.Histogram) times {
	number := func(f float64) *float64 {
		if math.IsNaN(f) {
			return nil
		}
		f = math.Round(f*1000) / 1000
		return &f
	}
	if h.Count == 0 {
		return times{}
	}
	return times{number(h.Mean()), number(h.Quantile(0.5)), number(h.Quantile(0.95)), number(h.Quantile(0.99)), number(float64(h.Max))}
}

// point is what happened in a window.
type point struct {
	Start    string           `json:"start"`
	Requests int64            `json:"requests"`
	Status   map[string]int64 `json:"status"`
	Codes    map[string]int64 `json:"codes"`
	Bytes    int64            `json:"bytes"`
	Service  times            `json:"service_ms"`
	Connect  times            `json:"connect_ms"`
}

func pointOf(start int64, s *window.Stats) point {
	return point{
		Start: time.Unix(start, 0).UTC().Format(time.RFC3339), Requests: s.Requests, Status: statuses(s), Codes: codes(s), Bytes: s.Bytes,
		Service: timesOf(&s.Service), Connect: timesOf(&s.Connect),
	}
}

func statuses(s *window.Stats) map[string]int64 {
	m := make(map[string]int64, len(s.Status))
	for status, n := range s.Status {
		m[strconv.Itoa(status)] = n
	}
	return m
}

func codes(s *window.Stats) map[string]int64 {
	m := make(map[string]int64, len(s.Codes)) // Stats are used again
	maps.Copy(m, s.Codes)
	return m
}

// points calls each with a point for every step, also where nothing happened, in
// order. What each is given is valid until it returns.
func (s *Server) points(ctx context.Context, p pace, f *filter, each func(start int64, s *window.Stats) error) error {
	var sum window.Stats
	var reader window.Reader
	at := p.from
	flush := func(until int64) error {
		for ; at < until; at += p.step {
			if err := each(at, &sum); err != nil {
				return err
			}
			sum.Reset()
		}
		return nil
	}
	span := window.Span{Resolution: p.resolution, Start: p.from, Windows: int((p.until - p.from + p.resolution.Step - 1) / p.resolution.Step)}
	err := s.cfg.Ledger.Windows(ctx, span, f.byRoute(), func(start int64, chunks []byte) error {
		if err := flush(start - (start-p.from)%p.step); err != nil {
			return err
		}
		return s.readable(reader.Each(chunks, func(k *window.Key, c *window.Cell) {
			if f.takes(k) {
				sum.Add(k, c)
			}
		}))
	})
	if err != nil {
		return err
	}
	return flush(p.until)
}

// readable leaves a window out that cannot be read: the others tell enough.
func (s *Server) readable(err error) error {
	if errors.Is(err, window.ErrChunk) {
		s.damaged.Inc()
		s.cfg.Logger.Debug("a window in Redis cannot be read", "error", err)
		return nil
	}
	return err
}

// maxGroups bounds what one answer tells apart: hostile names differ from window to window.
const maxGroups = 3000

// grouped sums up what happened in the last seconds before now by what of returns, in as few windows as
// there are for it. What is too much is of the group rest.
func grouped[K comparable](ctx context.Context, s *Server, last int64, byRoute bool, of func(*window.Key) (K, bool), rest K) (map[K]*window.Stats, error) {
	now := time.Now().Unix()
	sums := make(map[K]*window.Stats)
	var reader window.Reader
	for _, span := range window.Cover(now-last, now+1, now) {
		err := s.cfg.Ledger.Windows(ctx, span, byRoute, func(_ int64, chunks []byte) error {
			return s.readable(reader.Each(chunks, func(k *window.Key, c *window.Cell) {
				key, ok := of(k)
				if !ok {
					return
				}
				sum := sums[key]
				if sum == nil && len(sums) >= maxGroups {
					key = rest
					sum = sums[key]
				}
				if sum == nil {
					sum = new(window.Stats)
					sums[key] = sum
				}
				sum.Add(k, c)
			}))
		})
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// row is one line of a table: of a route, a dyno or an app.
type row struct {
	App      *string          `json:"app,omitempty"`
	Dyno     *string          `json:"dyno,omitempty"`
	Method   *string          `json:"method,omitempty"`
	Route    string           `json:"route,omitempty"`
	Requests int64            `json:"requests"`
	Errors   int64            `json:"errors"`
	Status   map[string]int64 `json:"status"`
	Codes    map[string]int64 `json:"codes"`
	Bytes    int64            `json:"bytes"`
	Service  times            `json:"service_ms"`
	Connect  *times           `json:"connect_ms,omitempty"`

	sum int64 // of the service times
}

func rowOf(s *window.Stats) row {
	return row{Requests: s.Requests, Errors: s.Errors, Status: statuses(s), Codes: codes(s), Bytes: s.Bytes, Service: timesOf(&s.Service), sum: s.Service.Sum}
}

// routeRows are the routes of the last seconds.
func (s *Server) routeRows(ctx context.Context, last int64, f *filter) ([]row, error) {
	found, err := grouped(ctx, s, last, true, func(k *window.Key) (routes.Name, bool) {
		return routes.Name{Method: k.Method, Template: k.Route}, f.takes(k)
	}, routes.Other)
	if err != nil {
		return nil, err
	}
	is := s.listed(found)
	sums := make(map[routes.Name]*window.Stats)
	for name, sum := range found {
		route := is[name]
		if sums[route] == nil {
			sums[route] = new(window.Stats)
		}
		sums[route].Merge(sum)
	}
	rows := make([]row, 0, len(sums))
	for name, sum := range sums {
		r := rowOf(sum)
		r.Method, r.Route = &name.Method, name.Template
		rows = append(rows, r)
	}
	return rows, nil
}

// listed tells which route each name that was found is of.
func (s *Server) listed(found map[routes.Name]*window.Stats) map[routes.Name]routes.Name {
	counts := make(map[routes.Name]int)
	for name, sum := range found {
		if name.Template != routes.Other.Template && !strings.HasPrefix(name.Template, window.Unsure) {
			counts[name] = int(sum.Requests)
		}
	}
	is := routes.Fold(counts, s.cfg.Rules)
	for name := range found {
		if _, known := is[name]; !known {
			is[name] = routes.Other
			if template, unsure := strings.CutPrefix(name.Template, window.Unsure); unsure {
				is[name] = sure(is, routes.Name{Method: name.Method, Template: template})
			}
		}
	}
	return is
}

// sure is the route of a name that some writer was not sure of.
func sure(is map[routes.Name]routes.Name, name routes.Name) routes.Name {
	if route, known := is[name]; known {
		return route
	}
	for _, route := range is {
		if route.Method == name.Method && covers(route.Template, name.Template) {
			return route
		}
	}
	return routes.Other
}

// sorters order rows, the most of it first.
var sorters = map[string]func(*row) float64{
	"requests": func(r *row) float64 { return float64(r.Requests) },
	"errors":   func(r *row) float64 { return float64(r.Errors) },
	"time":     func(r *row) float64 { return float64(r.sum) },
	"p95": func(r *row) float64 {
		if r.Service.P95 == nil {
			return -1
		}
		return *r.Service.P95
	},
}

func sortRows(rows []row, by string) {
	name := func(r *row) string {
		s := r.Route
		for _, p := range []*string{r.Method, r.App, r.Dyno} {
			if p != nil {
				s += "\x00" + *p
			}
		}
		return s
	}
	value := sorters[by]
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(value(&b), value(&a)), cmp.Compare(b.Requests, a.Requests), cmp.Compare(name(&a), name(&b)))
	})
}
