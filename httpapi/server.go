// Package httpapi is the door: a POST in, an answer out. It reads a frame's body,
// has its messages made into records, hands them to the publisher and answers
// when they are committed. It knows nothing of how Kafka is written to.
package httpapi

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"drain/intake"
	"drain/publish"
	"drain/syslog"
)

// Config is what a Server needs.
type Config struct {
	// Intake makes records of bodies, and Publisher takes them.
	Intake    *intake.Intake
	Publisher *publish.Publisher
	// Budget bounds the memory; bodies are acquired from it.
	Budget *publish.Budget
	// Credentials are asked for before a body is read.
	Credentials *Credentials
	// Queued answers 200 before the commit (ACK=queued).
	Queued bool
	// Hold is the longest a request waits for room and for the commit.
	Hold time.Duration
	// MaxBody is the largest body in bytes, as sent.
	MaxBody int
	// Metrics serves /metrics, to those who show MetricsToken where it is set.
	Metrics      http.Handler
	MetricsToken string
	Registerer   prometheus.Registerer
	Logger       *slog.Logger
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	cfg     Config
	metrics *metrics
	frames  *frames
	sources sources
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, metrics: newMetrics(cfg.Registerer, cfg.Budget), frames: newFrames(), sources: newSources()}
}

// Handler serves the ingest listener.
func (s *Server) Handler() http.Handler {
	mux := chi.NewRouter()
	mux.Use(s.recover)
	mux.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusNotFound, "no such path: post to /logs or /logs/{app}")
	})
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		allow := "GET, HEAD"
		if strings.HasPrefix(r.URL.Path, "/logs") {
			allow = "POST"
		}
		w.Header().Set("Allow", allow)
		s.answer(w, http.StatusMethodNotAllowed, "use "+allow)
	})
	mux.Post("/logs", s.logs)
	mux.Post("/logs/", s.logs)
	mux.Post("/logs/{app}", s.logs)
	mux.Post("/logs/{app}/", s.logs)
	s.health(mux)
	if s.cfg.MetricsToken != "" {
		mux.Get("/metrics", s.guardedMetrics)
		mux.Head("/metrics", s.guardedMetrics)
	}
	return mux
}

// Admin serves the admin listener; with pprof, profiles too.
func (s *Server) Admin(pprof http.Handler) http.Handler {
	mux := chi.NewRouter()
	s.health(mux)
	mux.Handle("/metrics", s.cfg.Metrics)
	if pprof != nil {
		mux.Handle("/debug/pprof/*", pprof)
	}
	return mux
}

func (s *Server) health(mux chi.Router) {
	get := func(path string, handler http.HandlerFunc) {
		mux.Get(path, handler)
		mux.Head(path, handler)
	}
	get("/healthz", func(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "alive") })
	get("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.cfg.Publisher.Ready(); err != nil {
			reason := strings.ReplaceAll(err.Error(), "\n", "; ") // one line, whatever was joined
			plainText(w, http.StatusServiceUnavailable, "not ready: "+reason)
			return
		}
		plainText(w, http.StatusOK, "ready")
	})
}

func (s *Server) guardedMetrics(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(header(r, "Authorization"), " ")
	if !sameSecret(token, s.cfg.MetricsToken) || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		s.answer(w, http.StatusUnauthorized, "missing or wrong token: show METRICS_TOKEN as Authorization: Bearer")
		return
	}
	s.cfg.Metrics.ServeHTTP(w, r)
}

// logs takes one frame.
//
//	credentials ─▶ room ─▶ body ─▶ messages ─▶ records ─▶ publisher ─▶ commit ─▶ 200
//	    401         503   413,400     400                                  503
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	deadline := time.Now().Add(s.cfg.Hold)
	app, ok := s.cfg.Credentials.Check(r)
	if !ok {
		s.metrics.frames[frameUnauthorized].Inc()
		// Without this the server would read on before it answers.
		w.Header().Set("Connection", "close")
		w.Header().Set("WWW-Authenticate", `Basic realm="drain"`)
		s.answer(w, http.StatusUnauthorized, "missing or wrong credentials: show a secret of DRAIN_SECRETS as user name, as password, or as Authorization: Bearer")
		return
	}
	if app == "" {
		app = pathApp(r)
	}
	frame, err := s.take(w, r, app, deadline)
	if err == nil && frame.receipt != nil {
		err = frame.receipt.Wait(r.Context(), frame.deadline)
	}
	if !frame.ready.IsZero() {
		s.metrics.ack.Observe(time.Since(frame.ready).Seconds())
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.metrics.frames[frame.result].Inc()
	s.metrics.requests[http.StatusOK].Inc()
	w.WriteHeader(http.StatusOK)
}

// taken is a frame that was read.
type taken struct {
	result   frameResult      // what it is once the receipt says so
	receipt  *publish.Receipt // nil when there is nothing to wait for
	ready    time.Time        // when its body had come
	deadline time.Time        // for its commit
}

// take reads a frame and publishes its records, or finds that it was brought
// before. What that takes of memory is free for the next request when it returns: a
// request that waits for its commit holds nothing but what the publisher copied.
func (s *Server) take(w http.ResponseWriter, r *http.Request, app string, deadline time.Time) (frame taken, err error) {
	src := s.sources.of(r, app)
	p := s.newPost(r, app, src)
	defer p.free()
	p.budget.deadline = deadline
	switch err := p.readBody(w, r, s.cfg.MaxBody); {
	case err == errKnown:
		return s.takeKnown(p, r, src, deadline)
	case err != nil:
		return frame, err
	}
	p.budget.isKnown = nil
	frame.ready = time.Now()
	// A body that took long on its way still gets a moment for its commit, unless it
	// was the room for it that took long: its sender has waited for us.
	if moment := frame.ready.Add(min(s.cfg.Hold, time.Second)); deadline.Before(moment) && !p.budget.waited {
		deadline = moment
		p.budget.deadline = moment
	}
	if len(p.body) == 0 {
		return frame, errEmptyBody
	}
	p.desk = s.cfg.Intake.Sit()
	p.desk.Spans = syslog.Split(p.desk.Spans, p.body)
	if p.desk.Messages() == 0 {
		return frame, errNothing
	}
	id, err := p.read(r)
	if err != nil {
		return frame, err
	}
	sizes := p.desk.Finish()
	if err := p.budget.Grow(sizes); err != nil {
		return frame, err
	}
	p.budget.shrink(sizes)
	receipt, was, known := s.frames.enter(id, src, frame.ready, &p.desk.Loss)
	switch known {
	case isCommitted:
		frame.result = frameDuplicate
	case isUnderWay:
		frame.result = frameDuplicate
	default:
		records, logs := p.desk.Records()
		was.progress, err = s.cfg.Publisher.Publish(receipt, id.partition(), records, logs)
		if err != nil {
			receipt.Forget()
			return frame, err
		}
		s.frames.published(id, was.progress)
		p.budget.held = 0 // the publisher's now
		if s.cfg.Queued {
			frame.result = frameQueued
		}
	}
	p.desk.Count(known != isNew)
	s.hold(&frame, r, src, receipt, was, deadline)
	if known == isNew {
		src.observe(frame.ready, p.desk.Messages())
	}
	return frame, nil
}

// hold says for how long a request waits for its commit: not at all where there is
// nothing to wait for, and no receipt.
func (s *Server) hold(frame *taken, r *http.Request, src *source, receipt *publish.Receipt, was standing, deadline time.Time) {
	switch {
	case receipt == nil:
		return
	case s.cfg.Queued:
		receipt.Forget()
		return
	}
	// The rate is that of the time before anything was stuck: a sender that is held
	// sends less.
	patience := s.patience(r, src, was.oldest)
	// What is stuck for longer than this one would wait is not worth waiting for.
	switch {
	case !was.progress.Oldest.IsZero() && frame.ready.Sub(was.progress.Oldest) > patience:
		patience = 0
	case frame.ready.Sub(was.oldest) > patience && !was.progress.Stored.After(was.oldest):
		look := min(glance+2*was.progress.Took, leastHold) // all tries together
		patience = min(patience, look-frame.ready.Sub(was.since))
	}
	frame.receipt = receipt
	frame.deadline = frame.ready.Add(patience)
	if deadline.Before(frame.deadline) {
		frame.deadline = deadline
	}
}

// takeKnown takes a frame for whose body there is no room, but which is known: what
// is committed or kept already needs none.
func (s *Server) takeKnown(p *post, r *http.Request, src *source, deadline time.Time) (frame taken, err error) {
	if _, err := io.Copy(io.Discard, io.LimitReader(&p.paced, int64(s.cfg.MaxBody))); err != nil {
		return frame, errCutOff
	}
	id, _ := p.identifyByHeaders(r)
	receipt, was, known := s.frames.find(id)
	if known == isNew {
		return frame, errNoRoom // it failed in this very moment
	}
	frame.ready = time.Now()
	frame.result = frameDuplicate
	s.hold(&frame, r, src, receipt, was, deadline)
	return frame, nil
}

// refuse is the one place that turns an error into an answer: 503 for whatever a
// sender can mend by sending the frame again, and nothing to a sender that takes
// any status for delivered.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errNothing) {
		s.metrics.frames[frameMalformed].Inc()
		s.answer(w, http.StatusBadRequest, err.Error())
		return
	}
	s.metrics.frames[frameRefused].Inc()
	switch {
	case errors.Is(err, errTooLarge):
		w.Header().Set("Connection", "close") // the rest is not read
		s.answer(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	case errors.Is(err, errCutOff):
		// Nobody is there to be answered, or a sender that is too slow.
		s.hangUp()
	case shuttle(r):
		s.hangUp()
	case errors.Is(err, errNoRoom):
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Retry-After", "1")
	s.answer(w, http.StatusServiceUnavailable, err.Error())
}

// hangUp closes the connection without an answer; it does not return.
func (s *Server) hangUp() {
	s.metrics.closed.Inc()
	panic(http.ErrAbortHandler)
}

// answer writes one plain line.
func (s *Server) answer(w http.ResponseWriter, code int, text string) {
	s.metrics.requests[code].Inc()
	plainText(w, code, text)
}

func plainText(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // whoever asked may be gone
}

// recover keeps a fault in one request from harming the others. What the request
// held has been given back by then.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault == http.ErrAbortHandler {
				panic(fault)
			}
			s.metrics.panics.Inc()
			// The fault's own text could hold what a client sent.
			s.cfg.Logger.Error("a request failed by a fault of drain's own; its sender will repeat it",
				"stack", string(debug.Stack()))
			if shuttle(r) {
				s.hangUp()
			}
			w.Header().Set("Connection", "close")
			s.answer(w, http.StatusInternalServerError, "internal fault")
		}()
		next.ServeHTTP(w, r)
	})
}

// pathApp is the app that the path names. chi looks at the path as it was sent
// only where that says more than the decoded one.
func pathApp(r *http.Request) string {
	app := chi.URLParam(r, "app")
	if r.URL.RawPath == "" {
		return app
	}
	if decoded, err := url.PathUnescape(app); err == nil {
		return decoded
	}
	return app
}
