package dash_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"drain/dash"
)

// A service answers as the API does, with figures that follow from the second
// and the route alone. Its clock stands still until a test calls tick: then a
// second ends, and goes to the streams.
type service struct {
	*httptest.Server
	t testing.TB

	mu sync.Mutex // guards the following
	// now is the second that is being filled.
	now     int64
	routes  []route
	asked   []*url.URL
	more    map[int64]int // late requests of a second
	streams map[chan event]filters
	sent    map[int64]int // how often a second was sent to any stream
	refuse  map[string]answer
	records int
	lag     int
	late    int
	silent  bool
	delay   time.Duration // of each answer
	busy    map[string]int
	most    map[string]int // questions at once
	empty   bool
	redis   string
	ready   string
	dynos   []string
	mangle  func(status, codes map[string]int) // puts odd names among them
}

type answer struct {
	code int
	line string
}

type event struct {
	name, id string
	data     any
}

type route struct{ method, path, app string }

// filters say what is wanted: anything, a name, or what is unnamed.
type filters struct{ app, dyno, method, route, status string }

type times struct {
	Mean *float64 `json:"mean"`
	P50  *float64 `json:"p50"`
	P95  *float64 `json:"p95"`
	P99  *float64 `json:"p99"`
	Max  *float64 `json:"max"`
}

type point struct {
	Start    time.Time      `json:"start"`
	Requests int            `json:"requests"`
	Status   map[string]int `json:"status"`
	Codes    map[string]int `json:"codes"`
	Bytes    int            `json:"bytes"`
	Service  times          `json:"service_ms"`
	Connect  times          `json:"connect_ms"`
}

// A row of routes, dynos or apps; each leaves out what is not its own.
type row struct {
	App      *string        `json:"app,omitempty"`
	Dyno     *string        `json:"dyno,omitempty"`
	Method   *string        `json:"method,omitempty"`
	Route    *string        `json:"route,omitempty"`
	Requests int            `json:"requests"`
	Errors   int            `json:"errors"`
	Status   map[string]int `json:"status"`
	Codes    map[string]int `json:"codes"`
	Bytes    int            `json:"bytes"`
	Service  times          `json:"service_ms"`
	Connect  *times         `json:"connect_ms,omitempty"`
	sum      cell
}

// A cell is what a route had in one second, or a sum of such.
type cell struct {
	dyno                     int
	n, bytes, errors         int
	status                   [len(statuses)]int
	codes                    [len(codes)]int
	service, connect, slowed float64 // the first two are sums over the requests
}

var (
	statuses = [...]string{"200", "301", "404", "499", "500", "503"}
	codes    = [...]string{"H12", "H13", "H18", "H27"}
)

func usualRoutes() []route {
	var all []route
	for i := range 50 {
		r := route{"GET", fmt.Sprintf("/%s/:id", []string{"users", "orders", "carts", "items", "search", "reviews", "images", "stock", "login", "prices"}[i%10]), []string{"shop", "api", "blog"}[i%3]}
		if i >= 10 {
			r.path += fmt.Sprintf("/%s", []string{"", "edit", "history", "related", "summary"}[i/10])
		}
		if i%4 == 3 {
			r.method = "POST"
		}
		all = append(all, r)
	}
	return all
}

// newService starts one whose clock stands at a fixed second.
func newService(t testing.TB) *service {
	s := &service{
		t: t, now: 1795262437, routes: usualRoutes(), more: map[int64]int{}, streams: map[chan event]filters{}, sent: map[int64]int{},
		refuse: map[string]answer{}, busy: map[string]int{}, most: map[string]int{}, records: 123456, lag: 12, late: 420, redis: "ok", ready: "ok", dynos: []string{"web.1", "web.2", "web.3", "web.4"},
	}
	pages, login, failed := dash.Static(), dash.LoginPage(false), dash.LoginPage(true)
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("GET /login", login)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "open sesame" {
			failed.ServeHTTP(w, r)
			return
		}
		s.with(func() { clear(s.refuse) })
		http.Redirect(w, r, "./", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /api/v1/{what}", s.api)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.cut()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *service) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// unnamed is the filter of an empty parameter.
const unnamed = "\x00"

func wanted(want, name string) bool {
	return want == "" || want == name || want == unnamed && name == ""
}

// cells adds what fits to the sum that into names, of the seconds from to before to: of every stride-th, which then
// counts as so many.
func (s *service) cells(from, to, stride int64, want filters, into func(route, dyno int) *cell) {
	if s.empty {
		return
	}
	for i, r := range s.routes {
		if !wanted(want.app, r.app) || !wanted(want.route, r.path) || !wanted(want.method, r.method) {
			continue
		}
		for second := from; second < to; second += stride {
			c := s.cell(second, i)
			if c.n == 0 || !wanted(want.dyno, s.dynos[c.dyno]) || want.status != "" && !c.keep(want.status) {
				continue
			}
			c.bytes = c.n * (700 + i*40)
			into(i, c.dyno).add(c, int(stride))
		}
	}
}

// cell is what a route has in a second: it follows from the two.
func (s *service) cell(second int64, i int) cell {
	seed := uint64(second)*1009 + uint64(i)
	roll := func(n int) int { // splitmix64
		seed += 0x9e3779b97f4a7c15
		z := (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return int((z ^ z>>31) >> 33 % uint64(n))
	}
	c := cell{dyno: roll(len(s.dynos)), n: roll(2 + (60-i)*(4+int(second)/40%5)/60)}
	c.service, c.connect, c.slowed = float64(6+i%7*6+roll(9)), float64(roll(3)), float64(40+i*3+roll(60))
	often := 1
	if second%700 > 480 && second%700 < 540 { // now and then an app is slow
		often = 12
		c.slowed += float64(900 + roll(400))
	}
	if i == 0 {
		c.n += s.more[second]
	}
	c.service, c.connect = c.service*float64(c.n), c.connect*float64(c.n)
	c.status[0] = c.n
	odd := func(status, code int, bad bool) {
		c.status[0]--
		if status >= 0 {
			c.status[status]++
		}
		if code >= 0 {
			c.codes[code]++
		}
		if bad {
			c.errors++
		}
	}
	switch one := roll(9000); {
	case c.n == 0:
	case one < 3*often:
		odd(5, 0, true)
	case one < 5*often:
		odd(3, 3, true)
	case one < 6*often:
		odd(5, 2, true)
	case one < 7*often:
		odd(-1, 1, true) // the router logged no status
	case one < 20*often:
		odd(4, -1, true)
	case one < 700:
		odd(2, -1, false)
	case one < 2200:
		odd(1, -1, false)
	}
	return c
}

// add adds another cell, k times.
func (c *cell) add(o cell, k int) {
	c.n, c.bytes, c.errors = c.n+k*o.n, c.bytes+k*o.bytes, c.errors+k*o.errors
	for i, n := range o.status {
		c.status[i] += k * n
	}
	for i, n := range o.codes {
		c.codes[i] += k * n
	}
	c.service, c.connect, c.slowed = c.service+float64(k)*o.service, c.connect+float64(k)*o.connect, max(c.slowed, o.slowed)
}

// keep leaves of a cell of one second what has one status or is of its class, and tells whether that is anything.
func (c *cell) keep(want string) bool {
	share, coded := float64(c.n), c.codes != [len(codes)]int{}
	c.n, c.errors = 0, 0
	for i, n := range c.status {
		if statuses[i] != want && want != statuses[i][:1]+"xx" {
			c.status[i] = 0
			continue
		}
		c.n += n
		if statuses[i] >= "500" || coded && statuses[i] == "499" {
			c.errors += n
		}
	}
	if c.errors == 0 {
		c.codes = [len(codes)]int{}
	}
	share = float64(c.n) / share
	c.service, c.connect = c.service*share, c.connect*share
	return c.n > 0
}

// counts gives the cell's statuses and codes their names.
func (s *service) counts(c cell) (status, coded map[string]int) {
	status, coded = map[string]int{}, map[string]int{}
	for i, n := range c.status {
		if n > 0 {
			status[statuses[i]] = n
		}
	}
	for i, n := range c.codes {
		if n > 0 {
			coded[codes[i]] = n
		}
	}
	if s.mangle != nil && c.n > 0 {
		s.mangle(status, coded)
	}
	return status, coded
}

// times are made up from what was counted; nulls when nothing was.
func (c cell) times() (service, connect times) {
	if c.n == 0 {
		return
	}
	at := func(v float64) *float64 { v = float64(int(v*10)) / 10; return &v }
	m, k := c.service/float64(c.n), c.connect/float64(c.n)
	return times{at(m), at(m * 0.8), at(m + c.slowed/3), at(m + c.slowed), at(c.slowed * 9)}, times{at(k), at(k / 2), at(k * 2), at(k*3 + 1), at(k*5 + 9)}
}

func (s *service) point(start, step int64, want filters) point {
	p := point{Start: time.Unix(start, 0).UTC()}
	stride := int64(1)
	if step > 10 {
		stride = step / 3
	}
	var sum cell
	s.cells(start, min(start+step, s.now+1), stride, want, func(int, int) *cell { return &sum })
	p.Requests, p.Bytes = sum.n, sum.bytes
	p.Status, p.Codes = s.counts(sum)
	p.Service, p.Connect = sum.times()
	return p
}

// series is without gaps, oldest first, the last one still being filled.
func (s *service) series(step, last int64, want filters) []point {
	var all []point
	newest := s.now / step * step
	for start := newest - (last/step-1)*step; start <= newest; start += step {
		all = append(all, s.point(start, step, want))
	}
	return all
}

// rows sums by what key makes of a route and a dyno.
func (s *service) rows(last int64, want filters, key func(r *route, dyno *string) row) []row {
	sums := make([]cell, len(s.routes)*len(s.dynos))
	stride := int64(1)
	if last > 3600 {
		stride = last / 600
	}
	s.cells(s.now-last+1, s.now+1, stride, want, func(route, dyno int) *cell { return &sums[route*len(s.dynos)+dyno] })
	byName := map[string]*row{}
	for i, sum := range sums {
		if sum.n == 0 {
			continue
		}
		r := key(&s.routes[i/len(s.dynos)], &s.dynos[i%len(s.dynos)])
		if byName[r.name()] == nil {
			byName[r.name()] = &r
		}
		byName[r.name()].sum.add(sum, 1)
	}
	all := []row{}
	for _, r := range byName {
		var connect times
		r.Requests, r.Errors, r.Bytes = r.sum.n, r.sum.errors, r.sum.bytes
		r.Status, r.Codes = s.counts(r.sum)
		r.Service, connect = r.sum.times()
		if r.Dyno != nil {
			r.Connect = &connect
		}
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Or(b.Requests-a.Requests, strings.Compare(a.name(), b.name())) })
	return all
}

func (r row) name() string {
	name := ""
	for _, part := range []*string{r.App, r.Dyno, r.Method, r.Route} {
		if part != nil {
			name += *part + "\x00"
		}
	}
	return name
}

func (s *service) routeRows(last int64, want filters, sort string) []row {
	all := s.rows(last, want, func(r *route, _ *string) row { return row{Method: &r.method, Route: &r.path} })
	by := map[string]func(row) float64{
		"errors": func(r row) float64 { return float64(r.Errors) }, "p95": func(r row) float64 { return *r.Service.P95 },
		"time": func(r row) float64 { return *r.Service.Mean * float64(r.Requests) }, "requests": func(r row) float64 { return float64(r.Requests) },
	}[sort]
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(by(b), by(a)) })
	return all
}

func (s *service) dynoRows(last int64, want filters) []row {
	return s.rows(last, want, func(r *route, dyno *string) row { return row{App: &r.app, Dyno: dyno} })
}

func (s *service) appRows(last int64, want filters) []row {
	return s.rows(last, want, func(r *route, _ *string) row { return row{App: &r.app} })
}

func (s *service) methodRows(last int64, want filters) []row {
	return s.rows(last, want, func(r *route, _ *string) row { return row{Method: &r.method} })
}

func (s *service) api(w http.ResponseWriter, r *http.Request) {
	q, what := r.URL.Query(), r.PathValue("what")
	filter := func(name string) string {
		if q.Has(name) && q.Get(name) == "" {
			return unnamed
		}
		return q.Get(name)
	}
	want := filters{filter("app"), filter("dyno"), filter("method"), filter("route"), q.Get("status")}
	if by := map[string]string{"routes": "dyno", "methods": "dyno", "dynos": "route", "apps": "route"}[what]; q.Has(by) {
		s.t.Errorf("the page asked %s: %s are not counted by %s", r.URL, what, by)
	}
	seconds := func(name string) int64 {
		if q.Get(name) == "" {
			return 0
		}
		d, err := time.ParseDuration(q.Get(name))
		if err != nil || d < time.Second {
			s.t.Errorf("the page asked %s: %s is no duration", r.URL, name)
		}
		return int64(d / time.Second)
	}
	last, step := seconds("last"), seconds("step")
	s.mu.Lock()
	s.asked = append(s.asked, r.URL)
	s.busy[what]++
	s.most[what] = max(s.most[what], s.busy[what])
	defer s.with(func() { s.busy[what]-- })
	if delay := s.delay; delay > 0 && what != "stream" {
		s.mu.Unlock()
		select {
		case <-time.After(delay): // a slow server is slow in real time
		case <-r.Context().Done():
		}
		s.mu.Lock()
	}
	refused, ok := s.refuse[what]
	if !ok {
		refused, ok = s.refuse["*"]
	}
	if !ok && want.dyno != "" && want.route != "" {
		refused, ok = answer{http.StatusBadRequest, "dyno and route do not combine"}, true
	}
	if ok {
		s.mu.Unlock()
		http.Error(w, refused.line, refused.code)
		return
	}
	if what == "stream" {
		s.stream(w, r, want) // unlocks
		return
	}
	var body any
	switch what {
	case "series":
		if last/step > 3600 {
			s.t.Errorf("the page asked %s: %d points", r.URL, last/step)
		}
		body = map[string]any{"step_ms": step * 1000, "points": s.series(step, last, want)}
	case "routes":
		limit, _ := strconv.Atoi(q.Get("limit"))
		all := s.routeRows(last, want, q.Get("sort"))
		body = all[:min(limit, len(all))]
	case "dynos":
		body = s.dynoRows(last, want)
	case "apps":
		body = s.appRows(last, want)
	case "methods":
		body = s.methodRows(last, want)
	case "lag":
		body = map[string]any{"lag": s.lag, "partitions": []any{}, "records": s.records, "skipped": 0, "repeated": 0}
	default:
		s.t.Errorf("the page asked %s", r.URL)
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

func (s *service) pointEvent(second int64, want filters) event {
	s.sent[second]++
	return event{id: strconv.FormatInt(second, 10), data: s.point(second, 1, want)}
}

func (s *service) statusEvent() event {
	return event{name: "status", data: map[string]any{"now": time.Unix(s.now, 4e8).UTC(), "lag": s.lag, "records": s.records, "skipped": 0, "late_ms": s.late, "redis": s.redis, "ready": s.ready}}
}

func (s *service) stream(w http.ResponseWriter, r *http.Request, want filters) {
	events := make(chan event, 8192)
	after := r.URL.Query().Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after = id
	}
	if after != "" {
		from, err := strconv.ParseInt(after, 10, 64)
		if err != nil {
			s.t.Errorf("the page asked %s: after %q", r.URL, after)
		}
		for second := max(from+1, s.now-3600); second < s.now; second++ {
			events <- s.pointEvent(second, want)
		}
	}
	events <- s.statusEvent()
	s.streams[events] = want
	s.mu.Unlock()
	defer s.with(func() { delete(s.streams, events) })
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	pulse := time.NewTicker(2 * time.Second)
	defer pulse.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			data, _ := json.Marshal(e.data)
			if e.name != "" {
				fmt.Fprintf(w, "event: %s\n", e.name)
			}
			if e.id != "" {
				fmt.Fprintf(w, "id: %s\n", e.id)
			}
			fmt.Fprintf(w, "data: %s\n\n", data)
			if len(events) > 0 {
				continue
			}
		case <-pulse.C:
			s.with(func() {
				if !s.silent {
					s.send(s.statusEvent())
				}
			})
			fmt.Fprint(w, ": heartbeat\n\n")
		case <-r.Context().Done():
			return
		}
		flush.Flush()
	}
}

// send gives an event to every stream; its caller holds the lock.
func (s *service) send(e event) {
	for stream := range s.streams {
		select {
		case stream <- e:
		default:
			s.t.Error("a stream of the page is not read")
		}
	}
}

// tick ends n seconds, one after the other.
func (s *service) tick(n int) {
	s.with(func() {
		for range n {
			s.now++
			s.records += 100
			if s.silent {
				continue
			}
			for stream, want := range s.streams {
				stream <- s.pointEvent(s.now-1, want)
			}
			if s.now%2 == 0 {
				s.send(s.statusEvent())
			}
		}
	})
}

// correct lets late requests of a second arrive, and says so.
func (s *service) correct(second int64, n int) {
	s.with(func() {
		s.more[second] += n
		for stream, want := range s.streams {
			stream <- event{name: "correction", data: s.point(second, 1, want)}
		}
	})
}

// cut ends all streams.
func (s *service) cut() {
	s.with(s.cutNow)
}

// cutNow is cut for a caller that holds the lock.
func (s *service) cutNow() {
	for stream := range s.streams {
		close(stream)
		delete(s.streams, stream)
	}
}

func (s *service) listeners() (n int) {
	s.with(func() { n = len(s.streams) })
	return n
}

// lastAsked is the newest request for a path, or nil.
func (s *service) lastAsked(what string) (u *url.URL) {
	s.with(func() {
		for _, a := range s.asked {
			if a.Path == "/api/v1/"+what {
				u = a
			}
		}
	})
	return u
}
