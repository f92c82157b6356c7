// Package dash serves what was counted: a page, the JSON it is made of, and a point a
// second as server-sent events. It reads the ledger, and writes nothing.
package dash

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"drain/ledger"
	"drain/routes"
	"drain/window"
)

// Config says what is served.
type Config struct {
	Ledger *ledger.Ledger
	Rules  *routes.Rules // the user's own routes, or nil
	// Lag tells the partitions that this process reads, with the log's end as it is now.
	Lag func() []ledger.Position
	// Ready tells why nothing is counted now, nil when all is well.
	Ready func() error
	// Password is asked for, everywhere but for health; with "" nobody is asked, and only
	// requests to a loopback name are answered, so that no web page elsewhere can have its
	// visitors' browsers ask.
	Password string
	// Anonymous answers everybody without a Password.
	Anonymous bool
	// Proxied tells that requests come by a router that appends the client's address to
	// X-Forwarded-For, as Heroku's does.
	Proxied bool
	Metrics http.Handler
	Logger  *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// Server answers requests. Make it with New, and let Run run beside.
type Server struct {
	cfg     Config
	login   *login
	hub     *hub
	places  chan struct{} // taken while an answer is made
	streams prometheus.Gauge
	damaged prometheus.Counter
	failed  http.Handler // the login form that says so
}

const (
	// computations are how many answers are made at once; who finds no place within
	// waitFor is told so.
	computations = 4
	waitFor      = 10 * time.Second
	// answerWithin is what the ledger may take for one.
	answerWithin = 20 * time.Second
	// smallAnswer is one of which many may wait to be taken.
	smallAnswer = 128 << 10
)

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, login: newLogin(cfg.Password, cfg.Proxied), hub: newHub(cfg.Ledger), places: make(chan struct{}, computations), failed: LoginPage(true)}
	s.streams = prometheus.NewGauge(prometheus.GaugeOpts{Name: "drain_metrics_streams", Help: "Pages and others that are sent a point a second."})
	s.damaged = prometheus.NewCounter(prometheus.CounterOpts{Name: "drain_metrics_damaged_windows_total", Help: "Windows in Redis that could not be read and were left out of an answer."})
	cfg.Registerer.MustRegister(s.streams, s.damaged)
	return s
}

// Run looks for what is new until ctx ends, which ends the streams too.
func (s *Server) Run(ctx context.Context) { s.hub.run(ctx) }

// Handler answers all requests.
func (s *Server) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(s.guard, middleware.GetHead)
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.cfg.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	page := Static()
	r.Get("/login", LoginPage(false).ServeHTTP)
	r.Post("/login", s.enter)
	r.Post("/logout", s.leave)
	r.Group(func(r chi.Router) {
		r.Use(s.login.required)
		r.Handle("/metrics", s.cfg.Metrics)
		r.Route("/api/v1", func(r chi.Router) {
			r.Get("/series", s.answer(s.series, append([]string{"step", "last"}, filterNames...)))
			r.Get("/routes", s.answer(s.routes, []string{"last", "limit", "sort", "app", "method", "route", "status"}))
			r.Get("/dynos", s.answer(s.dynos, []string{"last", "limit", "sort", "app", "dyno", "status"}))
			r.Get("/apps", s.answer(s.apps, []string{"last", "limit", "sort", "app", "dyno", "status"}))
			r.Get("/methods", s.answer(s.methods, []string{"last", "app", "method", "route", "status"}))
			r.Get("/lag", s.answer(s.lag, nil))
			r.Get("/stream", s.stream)
			r.NotFound(func(w http.ResponseWriter, r *http.Request) {
				plain(w, http.StatusNotFound, "no such thing: there are series, routes, dynos, apps, methods, lag and stream")
			})
		})
		r.Get("/", page.ServeHTTP)
	})
	r.NotFound(page.ServeHTTP) // scripts and styles, which are no secret
	return r
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// guard refuses names that are not this machine's, where no password is asked for.
func (s *Server) guard(next http.Handler) http.Handler {
	if s.cfg.Password != "" || s.cfg.Anonymous {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && !strings.HasSuffix(host, ".localhost") && (ip == nil || !ip.IsLoopback()) {
			plain(w, http.StatusForbidden, "without DASH_PASSWORD this answers to localhost only, not to the name in the request's Host")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer is a handler that makes JSON of what ask returns, for requests with parameters of
// these names.
func (s *Server) answer(ask func(context.Context, *query) (any, error), names []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), waitFor)
		defer cancel()
		if !s.enterPlace(ctx) {
			s.fail(w, r, errBusy)
			return
		}
		left := sync.OnceFunc(func() { <-s.places })
		defer left()
		ctx, cancel = context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		q := readQuery(r, names...)
		value, err := ask(ctx, q)
		if err == nil {
			err = q.err
		}
		var body bytes.Buffer
		if err == nil {
			err = json.NewEncoder(&body).Encode(value)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		within := writeWithin
		if body.Len() < smallAnswer {
			left() // who does not read it keeps nobody else waiting
		} else {
			within /= 2
		}
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(within))
		defer control.SetWriteDeadline(time.Time{})
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if _, err := w.Write(body.Bytes()); err != nil {
			s.cfg.Logger.Debug("an answer was not taken", "error", err)
		}
	}
}

// enterPlace waits for a place among those that make answers; leave it by taking from s.places.
func (s *Server) enterPlace(ctx context.Context) bool {
	select {
	case s.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// fail says what went wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var mendable badRequest
	switch {
	case errors.As(err, &mendable):
		plain(w, http.StatusBadRequest, err.Error())
	case r.Context().Err() != nil:
	default:
		s.cfg.Logger.Warn("a question could not be answered", "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "1")
		plain(w, http.StatusServiceUnavailable, err.Error())
	}
}

func (s *Server) series(ctx context.Context, q *query) (any, error) {
	f, p := q.filter(), q.pace(time.Now().Unix())
	if q.err != nil {
		return nil, q.err
	}
	answer := struct {
		StepMS int64   `json:"step_ms"`
		Points []point `json:"points"`
	}{StepMS: p.step * 1000, Points: make([]point, 0, (p.until-p.from)/p.step+1)}
	err := s.points(ctx, p, &f, func(start int64, sum *window.Stats) error {
		answer.Points = append(answer.Points, pointOf(start, sum))
		return nil
	})
	return answer, err
}

// tableQuery is what is asked of a table.
type tableQuery struct {
	filter      filter
	last, limit int
	sort        string
}

func (q *query) table(limit int) tableQuery {
	return tableQuery{q.filter(), int(q.seconds("last", 15*60)), q.number("limit", limit, 10_000), q.choice("sort", "requests", "errors", "p95", "time")}
}

func (t *tableQuery) rows(rows []row) []row {
	sortRows(rows, t.sort)
	return rows[:min(len(rows), t.limit)]
}

func (s *Server) routes(ctx context.Context, q *query) (any, error) {
	t := q.table(50)
	if q.err != nil {
		return nil, q.err
	}
	rows, err := s.routeRows(ctx, int64(t.last), &t.filter)
	return t.rows(rows), err
}

func (s *Server) dynos(ctx context.Context, q *query) (any, error) {
	type key struct{ app, dyno string }
	t := q.table(1000)
	return tableOf(ctx, s, q, &t, tableBy[key]{
		of: func(k *window.Key) key { return key{k.App, k.Dyno} }, name: func(k key, r *row) { r.App, r.Dyno = &k.app, &k.dyno }, rest: key{window.Other, window.Other},
	})
}

func (s *Server) apps(ctx context.Context, q *query) (any, error) {
	t := q.table(1000)
	return tableOf(ctx, s, q, &t, tableBy[string]{of: func(k *window.Key) string { return k.App }, name: func(k string, r *row) { r.App = &k }, rest: window.Other})
}

// tableBy says by what a table is.
type tableBy[K comparable] struct {
	of   func(*window.Key) K
	name func(K, *row) // puts it into a row
	rest K             // stands for what is too much
}

func tableOf[K comparable](ctx context.Context, s *Server, q *query, t *tableQuery, by tableBy[K]) (any, error) {
	if q.err != nil {
		return nil, q.err
	}
	sums, err := grouped(ctx, s, int64(t.last), false, func(k *window.Key) (K, bool) { return by.of(k), t.filter.takes(k) }, by.rest)
	if err != nil {
		return nil, err
	}
	rows := make([]row, 0, len(sums))
	for k, sum := range sums {
		r := rowOf(sum)
		connect := timesOf(&sum.Connect)
		r.Connect = &connect
		by.name(k, &r)
		rows = append(rows, r)
	}
	return t.rows(rows), nil
}

func (s *Server) methods(ctx context.Context, q *query) (any, error) {
	type method struct {
		Method   string `json:"method"`
		Requests int64  `json:"requests"`
	}
	f, last := q.filter(), q.seconds("last", 15*60)
	if q.err != nil {
		return nil, q.err
	}
	sums, err := grouped(ctx, s, last, true, func(k *window.Key) (string, bool) { return k.Method, f.takes(k) }, window.Other)
	if err != nil {
		return nil, err
	}
	answer := []method{}
	for name, sum := range sums {
		answer = append(answer, method{name, sum.Requests})
	}
	slices.SortFunc(answer, func(a, b method) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Method, b.Method))
	})
	return answer, nil
}

func (s *Server) lag(ctx context.Context, _ *query) (any, error) {
	p, err := s.progress(ctx)
	if err != nil {
		return nil, err
	}
	type partition struct {
		Partition int     `json:"partition"`
		Next      int64   `json:"next"`
		End       int64   `json:"end"`
		Lag       int64   `json:"lag"`
		At        *string `json:"at"` // null before anything was counted
	}
	answer := struct {
		Lag        int64       `json:"lag"`
		Partitions []partition `json:"partitions"`
		Records    int64       `json:"records"`
		Skipped    int64       `json:"skipped"`
		Repeated   int64       `json:"repeated"`
	}{Partitions: []partition{}, Records: p.Records, Skipped: p.Skipped, Repeated: p.Repeated}
	for _, x := range p.Positions {
		lag := max(x.End-x.Next, 0)
		answer.Lag += lag
		p := partition{Partition: x.Partition, Next: x.Next, End: x.End, Lag: lag}
		if !x.At.IsZero() {
			at := x.At.UTC().Format(time.RFC3339Nano)
			p.At = &at
		}
		answer.Partitions = append(answer.Partitions, p)
	}
	return answer, nil
}

// progress is the ledger's, with the ends of the log as this process knows them.
func (s *Server) progress(ctx context.Context) (ledger.Progress, error) {
	p, err := s.cfg.Ledger.Progress(ctx)
	if err != nil {
		return p, err
	}
	return withEnds(p, s.cfg.Lag()), nil
}

// withEnds puts the newer ends of own into p, and partitions of which nothing was counted yet.
func withEnds(p ledger.Progress, own []ledger.Position) ledger.Progress {
	for _, o := range own {
		known := false
		for i := range p.Positions {
			if p.Positions[i].Partition == o.Partition {
				p.Positions[i].End, known = max(p.Positions[i].End, o.End), true
			}
		}
		if !known {
			p.Positions = append(p.Positions, o)
		}
	}
	slices.SortFunc(p.Positions, func(a, b ledger.Position) int { return cmp.Compare(a.Partition, b.Partition) })
	return p
}
