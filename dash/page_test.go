package dash_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"drain/router"
	"drain/trial/browser"
)

// One browser for all of them: it is slow to start.
func TestPage(t *testing.T) {
	browser := browser.Start(t)
	open := func(t *testing.T, s *service, address string, v view) *tab { return openTab(t, browser, s, address, v) }
	for _, tt := range []struct {
		promise string
		test    func(t *testing.T, open opener)
	}{
		{"shows the API's numbers", showsNumbers},
		{"shows the exact values of a moment in all charts", showsMoment},
		{"filters by what is clicked, in the address and back again", filtersByClick},
		{"filters by what has no name", filtersUnnamed},
		{"filters by what is typed", filtersByWord},
		{"comes back after a break without a gap or a double", comesBack},
		{"comes back when nothing is heard", comesBackFromSilence},
		{"fetches anew after a break longer than an hour", comesBackAfterHours},
		{"replaces a second that is corrected", corrects},
		{"stands still while paused, and misses nothing", pauses},
		{"draws long windows in few points, refreshed in place", drawsLongWindows},
		{"is worked by keys", keys},
		{"is dark or light as wished", themes},
		{"fits a phone and a wall", fits},
		{"can be read and heard", readable},
		{"takes all names for text", hostile},
		{"tells an empty topic how to send the first line", empty},
		{"leads to the login and back", login},
		{"says in place what could not be fetched, and recovers", saysErrors},
		{"asks one thing at a time", asksOnce},
		{"keeps what it draws and no more", keeps},
		{"rests while it is hidden", hidden},
		{"saves what is shown", saves},
		{"paints within a second", paintsSoon},
		{"takes less than a frame for an update", drawsFast},
		{"does not grow", doesNotGrow},
	} {
		t.Run(tt.promise, func(t *testing.T) {
			tt.test(t, func(s *service, address string, v view) *tab { return open(t, s, address, v) })
		})
	}
}

type opener func(s *service, address string, v view) *tab

// shown is a point as the page holds it.
type shown struct {
	Start    time.Time           `json:"start"`
	Requests *int                `json:"requests"`
	Bytes    *int                `json:"bytes"`
	Status   map[string]*int     `json:"status"`
	Codes    map[string]int      `json:"codes"`
	Service  map[string]*float64 `json:"service_ms"`
	Connect  map[string]*float64 `json:"connect_ms"`
}

func (p *tab) shown() []shown {
	p.t.Helper()
	return get[[]shown](p, "drain.shown().points")
}

// upTo waits until the page draws a second.
func (p *tab) upTo(second int64) {
	p.t.Helper()
	p.until(fmt.Sprintf(`Date.parse(drain.shown().points.at(-1)?.start) === %d`, second*1000))
}

func (p *tab) follows() {
	p.t.Helper()
	p.upTo(p.s.second() - 1)
}

func (s *service) second() (now int64) {
	s.with(func() { now = s.now })
	return now
}

// holds compares all that the page holds with what the service has: every second of the window once.
func (p *tab) holds(seconds int, want filters) {
	p.t.Helper()
	all := p.shown()
	if len(all) != seconds {
		p.t.Fatalf("%d points, want %d", len(all), seconds)
	}
	p.s.with(func() {
		for i, got := range all {
			second := p.s.now - int64(seconds) + int64(i)
			want := p.s.point(second, 1, want)
			if !got.Start.Equal(want.Start) || got.Requests == nil || *got.Requests != want.Requests || *got.Bytes != want.Bytes || !equal(got.Service["p95"], want.Service.P95) ||
				!equal(got.Connect["p99"], want.Connect.P99) || *got.Status["2xx"] != class(want, "2xx") || fmt.Sprint(got.Codes) != fmt.Sprint(want.Codes) {
				p.t.Fatalf("point %d:\n got %s\nwant %s", i, asJSON(got), asJSON(want))
			}
		}
	})
}

func equal(a, b *float64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// class sums the statuses of a class; "none" is what has no status.
func class(p point, name string) int {
	sum, all := 0, 0
	for status, n := range p.Status {
		if all += n; status[:1]+"xx" == name {
			sum += n
		}
	}
	if name == "none" {
		return p.Requests - all
	}
	return sum
}

func number[T int | float64](v T) string { return strconv.FormatFloat(float64(v), 'f', -1, 64) }

func measured(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

// same compares a number on the page with one of the API: the page computes in floats.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	g, err1 := strconv.ParseFloat(got, 64)
	w, err2 := strconv.ParseFloat(want, 64)
	if got != want && (err1 != nil || err2 != nil || math.Abs(g-w) > 1e-9*math.Abs(w)) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func showsNumbers(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "", desk).ready()
	s.tick(12)
	p.follows()
	// The tables are asked for every few seconds: their next answer is of now.
	p.until(`drain.shown().saved`)
	p.key("p", "p")
	var routes, dynos, apps, minute []row
	var methods []row
	tens, lastTen, lastMinute := []point{}, 0, 0
	s.with(func() {
		routes, dynos, apps, minute = s.routeRows(900, filters{}, "requests"), s.dynoRows(900, filters{}), s.appRows(900, filters{}), s.appRows(60, filters{})
		methods = s.methodRows(900, filters{})
		tens = s.series(10, 300, filters{})
		for i := range int64(60) {
			n := s.point(s.now-1-i, 1, filters{}).Requests
			if lastMinute += n; i < 10 {
				lastTen += n
			}
		}
	})
	p.until(fmt.Sprintf(`drain.shown().routes?.[0].requests === %d && drain.shown().dynos?.length === %d`, routes[0].Requests, len(dynos)))
	bad, all := 0, 0
	for _, r := range minute {
		bad, all = bad+r.Errors, all+r.Requests
	}
	p.until(fmt.Sprintf(`document.querySelector('#kpi-errors b').dataset.value === %q`, number(float64(bad)/float64(all))))
	if p95 := tens[len(tens)-2].Service.P95; p95 != nil { // it is drawn a frame later than what was asked for
		p.until(fmt.Sprintf(`Math.abs(document.querySelector('#kpi-p95 b').dataset.value - %[1]s) < 1e-9 * %[1]s`, number(*p95)))
	}
	same(t, "requests a second", p.value("#kpi-requests b"), number(float64(lastTen)/10))
	same(t, "p95", p.value("#kpi-p95 b"), measured(tens[len(tens)-2].Service.P95))
	same(t, "lag", p.value("#kpi-lag b"), "12")
	if got, want := p.text("#kpi-errors .under"), fmt.Sprintf("%d of %s in the last minute", bad, thousands(all)); got != want {
		t.Errorf("errors: %q, want %q", got, want)
	}
	if got := p.text("#kpi-lag .under"); got != "shown 420 ms late" {
		t.Errorf("lag: %q", got)
	}

	rowsOf := func(id string) (rows [][]string) {
		return get[[][]string](p, fmt.Sprintf(`[...document.querySelectorAll('#%s tbody tr')].map(tr => [...tr.cells].map(c => c.dataset.value ?? c.textContent))`, id))
	}
	check := func(id string, want [][]string) {
		t.Helper()
		got := rowsOf(id)
		if len(got) != len(want) {
			t.Errorf("%s: %d rows, want %d: %v", id, len(got), len(want), got)
			return
		}
		for i := range want {
			for j, cell := range want[i] {
				if cell != "*" {
					same(t, fmt.Sprintf("%s, row %d, column %d", id, i, j), got[i][j], cell)
				}
			}
		}
	}
	times := func(r row) []string {
		return []string{measured(r.Service.P50), measured(r.Service.P95), measured(r.Service.P99)}
	}
	var want [][]string
	for _, r := range routes {
		want = append(want, slices.Concat([]string{*r.Method + " " + *r.Route, number(r.Requests), number(r.Errors), number(float64(r.Errors) / float64(r.Requests)), "*"}, times(r),
			[]string{number(*r.Service.Mean * float64(r.Requests)), number(r.Bytes)}))
	}
	check("routes", want)

	slices.SortFunc(dynos, func(a, b row) int { return cmp.Or(strings.Compare(*a.App, *b.App), strings.Compare(*a.Dyno, *b.Dyno)) })
	want = nil
	for _, r := range dynos {
		want = append(want, slices.Concat([]string{*r.App + " " + *r.Dyno, number(r.Requests), number(r.Errors), "*"}, times(r), []string{measured(r.Connect.P95)}))
	}
	check("dynos", want)

	want = nil
	status, codes := map[string]int{}, map[string]int{}
	for _, r := range apps {
		want = append(want, slices.Concat([]string{*r.App, number(r.Requests), number(r.Errors), "*"}, times(r), []string{number(r.Bytes)}))
		for name, n := range r.Status {
			status[name] += n
		}
		for name, n := range r.Codes {
			codes[name] += n
		}
	}
	check("apps", want)
	counted := func(sums map[string]int, last func(int) string) (rows [][]string) {
		for name, n := range sums {
			rows = append(rows, []string{name, number(n), last(n)})
		}
		slices.SortFunc(rows, func(a, b []string) int {
			x, _ := strconv.Atoi(a[1])
			y, _ := strconv.Atoi(b[1])
			return cmp.Or(y-x, strings.Compare(a[0], b[0]))
		})
		return rows
	}
	share := func(sums map[string]int) func(int) string {
		all := 0
		for _, n := range sums {
			all += n
		}
		return func(n int) string { return number(float64(n) / float64(all)) }
	}
	check("statuses", counted(status, share(status)))
	check("codes", counted(codes, func(int) string { return "*" }))
	sums := map[string]int{}
	for _, r := range methods {
		sums[*r.Method] = r.Requests
	}
	check("methods", counted(sums, share(sums)))
	if got := p.text("#codes tbody tr:first-child td:last-child"); !strings.Contains(got, "30 s") {
		t.Errorf("what H12 means: %q", got)
	}

	// Sorting asks the API for another order.
	p.click("#routes thead th:nth-child(3) button")
	p.wait("routes by errors", func() bool { u := s.lastAsked("routes"); return u.Query().Get("sort") == "errors" })
	p.until(`document.querySelector('#routes [aria-sort=descending]').textContent === 'Errors'`)
	s.with(func() { routes = s.routeRows(900, filters{}, "errors") })
	p.until(fmt.Sprintf(`document.querySelector('#routes tbody tr td:nth-child(3)').dataset.value === '%d' && location.search === '?sort=errors'`, routes[0].Errors))
	p.screenshot("light")
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// point moves the pointer to a part of a chart, 0 its left, 1 its right end.
func (p *tab) point(chart string, at float64) {
	p.t.Helper()
	p.do(fmt.Sprintf(`document.querySelector('#chart-%s').scrollIntoView({block: 'center'})`, chart))
	box := get[[]float64](p, fmt.Sprintf(`(r => [r.left, r.top, r.width, r.height])(document.querySelector('#chart-%s .u-over').getBoundingClientRect())`, chart))
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, box[0]+box[2]*at, box[1]+box[3]/2))
}

// legend gives what a chart's legend says: the start in ms, and the exact values by name.
func (p *tab) legend(chart string) (start int64, values map[string]string) {
	p.t.Helper()
	values = get[map[string]string](p, fmt.Sprintf(`Object.fromEntries([['', document.querySelector('#chart-%s .legend').dataset.start],
		...[...document.querySelectorAll('#chart-%s .legend li:not([hidden])')].map(li => [li.firstChild.textContent, li.lastChild.dataset.value])])`, chart, chart))
	start, _ = strconv.ParseInt(values[""], 10, 64)
	return start, values
}

func showsMoment(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=15m", desk).ready()
	s.tick(2)
	p.follows()
	slow := s.second() - 900
	for slow%700 != 500 { // when there were many errors
		slow++
	}
	for _, at := range []float64{0.2, 0.77, float64(slow-(s.second()-900)) / 899} {
		p.point("requests", at)
		var want point
		start, got := p.legend("requests")
		s.with(func() { want = s.point(start/1000, 1, filters{}) })
		same(t, "all", got["all"], number(want.Requests))
		for _, name := range []string{"2xx", "3xx", "4xx", "5xx"} {
			same(t, name, got[name], number(class(want, name)))
		}
		same(t, "no status", got["no status"], number(class(want, "none")))
		// The cursor is one for all of them.
		for chart, values := range map[string]map[string]string{
			"service": {"p50": measured(want.Service.P50), "p95": measured(want.Service.P95), "p99": measured(want.Service.P99)},
			"connect": {"p50": measured(want.Connect.P50), "p95": measured(want.Connect.P95), "p99": measured(want.Connect.P99)},
			"bytes":   {"sent": number(want.Bytes)},
		} {
			at, got := p.legend(chart)
			if at != start {
				t.Errorf("%s is at %d, the cursor at %d", chart, at, start)
			}
			for name, value := range values {
				same(t, chart+" "+name, got[name], value)
			}
		}
		// Errors are in bars of 10 s.
		bar, got := p.legend("codes")
		if start < bar || start >= bar+10000 || bar%10000 != 0 {
			t.Errorf("the bar of %d begins at %d", start, bar)
		}
		codes, all5xx := map[string]int{}, 0
		s.with(func() {
			for i := range int64(10) {
				p := s.point(bar/1000+i, 1, filters{})
				all5xx += class(p, "5xx")
				for code, n := range p.Codes {
					codes[code] += n
				}
			}
		})
		for _, code := range []string{"H12", "H13", "H18", "H27"} {
			same(t, code, got[code], number(codes[code]))
		}
		same(t, "all 5xx", got["all 5xx"], number(all5xx))
		shownAt := get[[]string](p, `[document.querySelector('#chart-requests time').textContent, document.querySelector('#chart-requests time').title]`)
		moment := time.UnixMilli(start)
		if shownAt[0] != moment.Format("15:04:05") || shownAt[1] != moment.UTC().Format("2006-01-02 15:04:05")+" UTC" {
			t.Errorf("the moment is %q", shownAt)
		}
	}
	// Without the pointer: the newest second, and the sums of the window.
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 2, 2))
	p.until(fmt.Sprintf(`[...document.querySelectorAll('.legend')].every(l => l.dataset.start && (+l.dataset.start === %d || l.parentElement.parentElement.id === 'chart-codes'))`, 1000*(s.second()-1)))
	start, got := p.legend("requests")
	var want point
	s.with(func() { want = s.point(s.now-1, 1, filters{}) })
	if start != want.Start.UnixMilli() || got["all"] != number(want.Requests) {
		t.Errorf("the newest is %d with %s, want %d with %d", start, got["all"], want.Start.UnixMilli(), want.Requests)
	}
	sum := 0
	s.with(func() {
		for second := s.now - 900; second < s.now; second++ {
			sum += s.point(second, 1, filters{}).Codes["H12"]
		}
	})
	_, got = p.legend("codes")
	same(t, "H12 in the window", got["H12"], number(sum))

	// By keyboard, for those who hear the page.
	p.do(`document.querySelector('#chart-service .plot').focus()`)
	p.run(chromedp.KeyEvent(kb.ArrowLeft))
	p.until(`document.querySelector('#chart-service .plot').getAttribute('aria-valuetext').includes('p95')`)
}

// slash presses the key as a keyboard does: what the page takes is not typed.
func (p *tab) slash() {
	p.t.Helper()
	call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Code: "Slash", Text: "/"})
	call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: "/", Code: "Slash"})
}

// asks tells whether the newest request for a path has these parameters, given as name=value; name= means none.
func (s *service) asks(what string, parameters ...string) bool {
	u := s.lastAsked(what)
	if u == nil {
		return false
	}
	for _, parameter := range parameters {
		if name, value, _ := strings.Cut(parameter, "="); u.Query().Get(name) != value {
			return false
		}
	}
	return true
}

func filtersByClick(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=5m", desk).ready()
	asked := func(parameters ...string) {
		t.Helper()
		asked := []string{"series", "stream", "routes", "methods", "dynos", "apps"}
		if strings.HasPrefix(parameters[len(parameters)-1], "route=/") {
			asked = asked[:4] // the others do not know of routes
		} else if slices.ContainsFunc(parameters, func(p string) bool { return strings.HasPrefix(p, "dyno=web") }) {
			asked = append(asked[:2], "dynos", "apps")
		}
		for _, what := range asked {
			p.wait(fmt.Sprintf("%s with %q", what, parameters), func() bool { return s.asks(what, parameters...) })
		}
	}
	address := func(want ...string) {
		t.Helper()
		q, err := url.ParseQuery(strings.TrimPrefix(get[string](p, "location.search"), "?"))
		if err != nil {
			t.Fatal(err)
		}
		for _, parameter := range want {
			if name, value, _ := strings.Cut(parameter, "="); q.Get(name) != value {
				t.Errorf("the address has %s=%q, want %q", name, q.Get(name), value)
			}
		}
	}
	p.click("#routes tbody tr:nth-child(2) button")
	_, label, _ := strings.Cut(p.text("#chips .chip"), " ")
	method, path, _ := strings.Cut(label, " ")
	asked("method="+method, "route="+path)
	address("method="+method, "route="+path, "last=5m")
	p.ready().until(`document.querySelectorAll('#routes tbody tr').length === 1`)
	s.tick(3)
	p.follows()
	p.holds(300, filters{method: method, route: path})
	// Dynos are not counted by route, and say so; the rest is the route's.
	p.until(`document.querySelector('#dynos .note').textContent.startsWith('Not counted by route') && !document.querySelector('#dynos tbody tr') && document.querySelector('#apps .note').textContent.startsWith('Not counted')`)
	var only []row
	s.with(func() { only = s.routeRows(300, filters{method: method, route: path}, "requests") })
	p.key("p", "p")
	p.until(fmt.Sprintf(`document.querySelector('#statuses tbody td').dataset.value === '%d'`, only[0].Status["200"]))
	p.click(`#chips .chip[aria-label^="remove the filter route"]`)
	p.ready().until(`document.querySelectorAll('#dynos tbody tr').length === 12`)

	// A dyno takes the route's place.
	dyno := p.text("#dynos tbody tr:last-child button")
	p.click("#dynos tbody tr:last-child button")
	app, name, _ := strings.Cut(dyno, " ")
	asked("app="+app, "dyno="+name, "route=", "method=")
	address("app="+app, "dyno="+name, "route=", "method=")
	p.ready().until(`document.querySelector('#routes .note').textContent.startsWith('Not counted by dyno') && document.querySelector('#methods .note').textContent.startsWith('Not counted')`)

	// One more filter, from a chart's legend.
	p.click(`#chart-requests .legend li[data-series="4xx"] button`)
	asked("app="+app, "dyno="+name, "status=4xx")
	if n := get[int](p, `document.querySelectorAll('#chips .chip').length`); n != 3 {
		t.Errorf("%d filters shown, want 3", n)
	}
	p.ready()
	s.tick(3)
	p.follows()
	p.holds(300, filters{app: app, dyno: name, status: "4xx"})

	// Back, and forward.
	p.do("history.back()")
	asked("dyno="+name, "status=")
	p.do("history.go(-2)") // dyno, then the route's filter off
	asked("dyno=", "method="+method, "route="+path)
	p.until(`document.querySelector('#chips').innerText.includes('route')`)
	p.do("history.go(2)")
	asked("dyno="+name, "route=")
	p.ready()

	// A filter is taken off, then all.
	p.click(`#chips .chip[aria-label^="remove the filter dyno"]`)
	asked("app="+app, "dyno=")
	p.ready()
	p.click(`#statuses tbody tr:first-child button`)
	asked("app="+app, "status=200")
	p.ready()
	p.click(`#chips .plain`)
	asked("app=", "status=")
	address("app=", "status=", "last=5m")
	p.ready()
	p.click(`#apps tbody tr:first-child button`)
	p.wait("an app", func() bool { return s.lastAsked("dynos").Query().Get("app") != "" })
	// The address alone is enough.
	before := get[string](p, "location.search")
	p.run(chromedp.Reload())
	p.ready()
	if after := get[string](p, "location.search"); after != before || p.text("#chips .chip") == "" {
		t.Errorf("loaded again: %q, want %q", after, before)
	}
}

// What has no name can be asked for as well.
func filtersUnnamed(t *testing.T, open opener) {
	s := newService(t)
	for i := range s.routes {
		if s.routes[i].app == "blog" {
			s.routes[i].app = ""
		}
	}
	s.dynos = []string{"", "web.1"}
	p := open(s, "?last=1m", desk).ready()
	p.do(`[...document.querySelectorAll('#apps tbody button')].find(b => b.textContent === '(no name)').click()`)
	p.wait("the unnamed app", func() bool { u := s.lastAsked("stream"); return u.Query().Has("app") && u.Query().Get("app") == "" })
	p.ready().until(`location.search === '?last=1m&app=' && document.querySelectorAll('#apps tbody tr').length === 1 && document.querySelector('#chips').innerText.includes('app (none)')`)
	p.do(`[...document.querySelectorAll('#dynos tbody button')].find(b => b.textContent === '(no dyno)').click()`)
	p.ready().until(`location.search === '?last=1m&app=&dyno='`)
	p.until(`!document.querySelector('#chart-connect .plot').hasAttribute('data-nothing')`)
	s.tick(2)
	p.follows()
	p.holds(60, filters{app: unnamed, dyno: unnamed})
	p.key(kb.Escape)
	p.until(`location.search === '?last=1m'`)
}

func filtersByWord(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "", desk).ready()
	for _, tt := range []struct{ typed, address string }{
		{"shop", "?app=shop"}, {"app:web.1", "?app=web.1"}, {"web.2", "?dyno=web.2"}, {"dyno web.3", "?dyno=web.3"}, {"POST /users/:id", "?method=POST&route=/users/:id"},
		{"/users/:id", "?route=/users/:id"}, {"route:other", "?route=other"}, {"404", "?status=404"}, {"5XX", "?status=5xx"}, {"status=2xx", "?status=2xx"},
	} {
		p.do(`document.querySelector('#filter-text').value = ` + quoted(tt.typed) + `; document.querySelector('#filter').requestSubmit()`)
		if got, _ := url.QueryUnescape(get[string](p, "location.search")); got != tt.address {
			t.Errorf("%q leads to %q, want %q", tt.typed, got, tt.address)
		}
		p.key(kb.Escape)
		p.until(`location.search === ''`)
	}
	p.slash()
	p.run(chromedp.KeyEvent("blog"))
	p.key(kb.Enter)
	p.until(`location.search === '?app=blog'`)
	p.slash()
	p.run(chromedp.KeyEvent("status:666"))
	p.key(kb.Enter)
	p.until(`document.querySelector('#filter-text').validationMessage.includes('404')`)
	// What an address by hand may not combine is mended, not refused.
	open(s, "?"+url.Values{"dyno": {"web.1"}, "route": {"/users/:id"}, "status": {"drop"}, "last": {"9y"}, "method": {"GET"}}.Encode(), desk).ready()
	if !s.asks("methods", "dyno=", "route=/users/:id", "status=", "last=15m") {
		t.Errorf("asked %s", s.lastAsked("methods"))
	}
}

func comesBack(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=5m", desk).ready()
	s.tick(5)
	p.follows()
	p.holds(300, filters{})
	// The connection breaks, time goes on.
	broken := time.Now()
	s.cut()
	s.tick(20)
	p.wait("a second connection", func() bool { return s.listeners() == 1 })
	if took := time.Since(broken); took > 8*time.Second {
		t.Errorf("a break was noticed after %v only", took)
	}
	s.tick(3)
	p.follows()
	p.holds(300, filters{})
	// The server is away for a while: it refuses, and says why.
	s.with(func() {
		s.refuse["stream"] = answer{http.StatusServiceUnavailable, "Redis is away"}
		s.refuse["lag"] = s.refuse["stream"]
		s.cutNow()
	})
	p.until(`document.querySelector('#state').dataset.state === 'reconnecting' && document.querySelector('#state').innerText.includes('Redis is away')`)
	s.tick(40)
	// A correction that nobody heard.
	s.correct(s.second()-50, 7)
	s.with(func() { clear(s.refuse) })
	p.wait("a third connection", func() bool { return s.listeners() == 1 })
	s.tick(1)
	p.follows()
	p.until(`document.querySelector('#state').dataset.state === 'live'`)
	p.holds(300, filters{})
}

// shiftClock lets a test move the page's clock on.
const shiftClock = `{ const now = Date.now.bind(Date); window.shift = 0; Date.now = () => now() + window.shift; }`

func comesBackFromSilence(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	v.before = shiftClock
	p := open(s, "?last=1m", v).ready()
	s.tick(1)
	p.follows()
	connections := func() (n int) {
		s.with(func() {
			for _, u := range s.asked {
				if strings.HasSuffix(u.Path, "/stream") {
					n++
				}
			}
		})
		return n
	}
	before := connections()
	s.with(func() { s.silent = true })
	s.tick(15)
	p.do("shift += 11e3") // the connection stands, and nothing comes
	p.wait("another connection", func() bool { return connections() > before })
	s.with(func() { s.silent = false })
	s.tick(1)
	p.follows()
	p.holds(60, filters{})
}

func comesBackAfterHours(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	v.before = shiftClock
	p := open(s, "?last=5m", v).ready()
	s.tick(2)
	p.follows()
	s.with(func() { s.now += 3 * 3600; s.cutNow() })
	p.do("shift += 3 * 3600e3")
	p.wait("another connection", func() bool { return s.listeners() == 1 })
	s.tick(1)
	p.follows()
	p.holds(300, filters{})
	if u := s.lastAsked("stream"); u.Query().Get("after") < strconv.FormatInt(s.second()-100, 10) {
		t.Errorf("asked for hours of points: %s", u)
	}
}

func corrects(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=5m", desk).ready()
	s.tick(3)
	p.follows()
	late := s.second() - 30
	before := *p.shown()[270].Requests
	s.correct(late, 42)
	p.until(fmt.Sprintf(`drain.shown().points[270].requests === %d`, before+42))
	p.holds(300, filters{})
}

func pauses(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=1m", desk).ready()
	s.tick(2)
	p.follows()
	p.key("p")
	p.until(`document.querySelector('#state').dataset.state === 'paused' && document.querySelector('#pause').getAttribute('aria-pressed') === 'true'`)
	frozen := `JSON.stringify([drain.shown().points, document.querySelector('main').innerText])`
	before := get[string](p, frozen)
	s.tick(30)
	p.wait("the page hears them", func() bool { return get[bool](p, "true") && s.queued() == 0 })
	p.do(`document.querySelector('#theme').click()`) // all is drawn anew, from what was shown
	if after := get[string](p, frozen); after != before {
		t.Errorf("paused, it shows\n%s\nafter\n%s", after, before)
	}
	asked := s.count("routes")
	p.click("#pause")
	p.follows()
	p.holds(60, filters{})
	p.wait("fresh tables", func() bool { return s.count("routes") > asked })
	if p.text("#pause") != "Pause" {
		t.Errorf("the button says %q", p.text("#pause"))
	}
}

// queued is how many events wait to be written.
func (s *service) queued() (n int) {
	s.with(func() {
		for stream := range s.streams {
			n += len(stream)
		}
	})
	return n
}

func (s *service) count(what string) (n int) {
	s.with(func() {
		for _, u := range s.asked {
			if strings.HasSuffix(u.Path, "/"+what) {
				n++
			}
		}
	})
	return n
}

func drawsLongWindows(t *testing.T, open opener) {
	for _, tt := range []struct {
		last  string
		step  int64
		total int64
	}{{"6h", 30, 6 * 3600}, {"24h", 60, 24 * 3600}, {"3d", 300, 72 * 3600}, {"14d", 900, 14 * 24 * 3600}} {
		s := newService(t)
		p := open(s, "?last="+tt.last, desk).ready()
		p.until(`drain.shown().points.length > 100`)
		all := p.shown()
		if n := int64(len(all)); n != tt.total/tt.step-1 || n > 1500 {
			t.Errorf("%s: %d points of %d s", tt.last, n, tt.step)
		}
		var want []point
		s.with(func() { want = s.series(tt.step, tt.total, filters{}) })
		for i, got := range all {
			if !got.Start.Equal(want[i].Start) || *got.Requests != want[i].Requests {
				t.Fatalf("%s, point %d: %s, want %s", tt.last, i, asJSON(got), asJSON(want[i]))
			}
		}
		// Only the end is asked for again; the figures on top go on by the second.
		s.tick(int(tt.step))
		p.do(`document.querySelector('#pause').click(), document.querySelector('#pause').click()`)
		p.until(fmt.Sprintf(`Date.parse(drain.shown().points.at(-1).start) === %d`, want[len(want)-1].Start.UnixMilli()))
		if u := s.lastOf("series", fmt.Sprint(tt.step)); u == nil || u.Query().Get("last") != fmt.Sprintf("%ds", 4*tt.step) {
			t.Errorf("%s: asked %v", tt.last, u)
		}
		if n := len(p.shown()); int64(n) > tt.total/tt.step {
			t.Errorf("%s: %d points", tt.last, n)
		}
		p.until(fmt.Sprintf(`document.querySelector('#kpi-requests b').dataset.value === %q`, s.rate()))
	}
}

// lastOf is the newest request for a path with a step of so many seconds.
func (s *service) lastOf(what, step string) (found *url.URL) {
	s.with(func() {
		for _, u := range s.asked {
			d, _ := time.ParseDuration(u.Query().Get("step"))
			if strings.HasSuffix(u.Path, "/"+what) && fmt.Sprint(d.Seconds()) == step {
				found = u
			}
		}
	})
	return found
}

// rate is the requests a second of the last ten.
func (s *service) rate() string {
	sum := 0
	s.with(func() {
		for i := range int64(10) {
			sum += s.point(s.now-1-i, 1, filters{}).Requests
		}
	})
	return number(float64(sum) / 10)
}

func keys(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?app=shop", desk).ready()
	for i, name := range []string{"1m", "5m", "15m", "1h", "6h", "24h", "3d", "14d"} {
		p.key(strconv.Itoa(i + 1))
		p.until(fmt.Sprintf(`document.querySelector('#windows [aria-pressed=true]').textContent === %q`, name))
	}
	p.key("3")
	p.key("l")
	p.until(`new URLSearchParams(location.search).get('scale') === 'log' && document.querySelector('#scale').getAttribute('aria-pressed') === 'true'`)
	p.key("l")
	p.until(`!location.search.includes('scale')`)
	p.key("?")
	p.until(`document.querySelector('#help').open && document.querySelectorAll('#all-codes tr').length >= 25`)
	p.screenshot("help")
	p.key("1") // does nothing behind the help
	p.key(kb.Escape)
	p.until(`!document.querySelector('#help').open && document.querySelector('#windows [aria-pressed=true]').textContent === '15m'`)
	p.slash()
	p.until(`document.activeElement.id === 'filter-text' && document.querySelectorAll('#filter-known option').length > 20`)
	p.key("p", "1", kb.Escape)
	p.until(`document.activeElement === document.body && document.querySelector('#filter-text').value === '' && document.querySelector('#state').dataset.state === 'live'`)
	p.key(kb.Escape)
	p.until(`location.search === ''`)
	// Everything that can be clicked can be reached, and shows where one is.
	p.do(`document.querySelector('#windows button').focus()`)
	p.key(kb.Tab)
	if style := get[string](p, `getComputedStyle(document.activeElement).outlineStyle + document.activeElement.matches(':focus-visible')`); style != "solidtrue" {
		t.Errorf("the focus is %s", style)
	}
}

func themes(t *testing.T, open opener) {
	s := newService(t)
	ground := `getComputedStyle(document.body).backgroundColor`
	dark := view{width: 1440, height: 900, scale: 1, dark: true}
	light := get[string](open(s, "", desk).ready(), ground)
	p := open(s, "?last=1h&scale=log", dark).ready()
	black := get[string](p, ground)
	if light == black {
		t.Fatalf("dark and light are both %s", light)
	}
	p.screenshot("dark")
	ink := func() string {
		return get[string](p, `(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let best = 0, at = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && d[i] + d[i + 1] + d[i + 2] > best) best = d[i] + d[i + 1] + d[i + 2], at = i; return best > 600 ? 'bright' : 'dim'; })(document.querySelector('#chart-service canvas'))`)
	}
	if ink() != "bright" {
		t.Error("a dark page's chart has dim labels")
	}
	// Auto, dark, light, and kept for the next time.
	p.key("d")
	p.until(`document.documentElement.dataset.theme === 'dark'`)
	p.key("d")
	p.until(`document.documentElement.dataset.theme === 'light' && ` + ground + ` === ` + quoted(light))
	p.run(chromedp.Reload())
	p.ready().until(ground + ` === ` + quoted(light))
	p.key("d")
	p.until(`!document.documentElement.dataset.theme && ` + ground + ` === ` + quoted(black))
	// The address wins: for a wall.
	p = open(s, "?theme=dark", desk).ready()
	if got := get[string](p, ground); got != black {
		t.Errorf("?theme=dark is %s", got)
	}
	p.key("d")
	p.until(`location.search === '?theme=light'`)
	p.key("d")
	p.until(`location.search === '?theme=auto'`)
	// The system's change is followed while the page is open.
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	p.until(ground + ` === ` + quoted(black))
	p.do(`localStorage.clear()`)
}

func fits(t *testing.T, open opener) {
	s := newService(t)
	for _, tt := range []struct {
		name    string
		address string
		view    view
		big     float64 // px, at least, of the big figures
	}{
		{"phone", "?status=5xx&app=shop", view{width: 360, height: 740, scale: 2, touch: true}, 28},
		{"phone-busy", "", view{width: 360, height: 740, scale: 2, touch: true, dark: true}, 28},
		{"tablet", "", view{width: 820, height: 1180, scale: 1, touch: true}, 30},
		{"desk", "", desk, 40},
		{"wall", "?theme=dark", view{width: 3840, height: 2160, scale: 1}, 130},
	} {
		p := open(s, tt.address, tt.view).ready()
		s.tick(1)
		p.follows()
		if wide := get[[]float64](p, `[document.documentElement.scrollWidth, innerWidth, Math.max(...[...document.querySelectorAll('main > *, .card, .scroll, .top, .top > *, #chips, .u-over')].map(e => e.getBoundingClientRect().right))]`); wide[0] > float64(tt.view.width) || wide[2] > float64(tt.view.width)+0.5 {
			t.Errorf("%s: %v px wide on a screen of %d", tt.name, wide, tt.view.width)
		}
		if size := get[float64](p, `Math.min(...[...document.querySelectorAll('.big b')].map(e => parseFloat(getComputedStyle(e).fontSize)))`); size < tt.big {
			t.Errorf("%s: the big figures are %v px", tt.name, size)
		}
		if cut := get[[]string](p, `[...document.querySelectorAll('.big')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)`); len(cut) > 0 {
			t.Errorf("%s: cut off: %q", tt.name, cut)
		}
		p.screenshot(tt.name)
	}
}

// readable is what can be tested of it: contrast of all texts in both themes, names of all controls, tables that are.
func readable(t *testing.T, open opener) {
	s := newService(t)
	for _, dark := range []bool{false, true} {
		v := desk
		v.dark = dark
		p := open(s, "?app=shop&status=5xx", v).ready()
		weak := get[[]string](p, `(() => {
			const parse = c => (c.match(/[\d.]+/g) ?? []).map(Number), found = [];
			const lum = c => c.slice(0, 3).map(v => (v /= c.unit ?? 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
			for (const e of document.querySelectorAll('body *')) {
				if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length || e.closest('.hidden')) continue;
				let under = e, ground;
				while (under && !(ground = parse(getComputedStyle(under).backgroundColor))[2] && ground[3] === 0) under = under.parentElement;
				ground = under ? parse(getComputedStyle(under).backgroundColor) : [255, 255, 255];
				const a = lum(parse(getComputedStyle(e).color)), b = lum(ground), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
				if (ratio < 4.5) found.push(ratio.toFixed(2) + ' ' + e.tagName + '.' + e.className + ' ' + e.innerText.slice(0, 30));
			}
			return [...new Set(found)];
		})()`)
		for _, w := range weak {
			t.Errorf("dark %v: contrast %s", dark, w)
		}
		if unnamed := get[[]string](p, `[...document.querySelectorAll('button, input, [tabindex="0"], canvas:not(.plot canvas), img, time')].filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title || e.getAttribute('aria-hidden') || e.alt === '' || e.tagName === 'TIME')).map(e => e.outerHTML.slice(0, 90))`); len(unnamed) > 0 {
			t.Errorf("without a name: %q", unnamed)
		}
		if odd := get[int](p, `[...document.querySelectorAll('main table')].filter(t => !t.caption || [...t.tHead.rows[0].cells].some(c => c.scope !== 'col') || [...t.tBodies[0].rows].some(r => r.cells[0].scope !== 'row')).length`); odd != 0 {
			t.Errorf("%d tables without caption or heads", odd)
		}
	}
}

func hostile(t *testing.T, open opener) {
	evil := []string{
		`<img src=x onerror="window.pwned=1">`, `"><script>window.pwned=1</script>`, `</title><svg onload=window.pwned=1>`, `javascript:window.pwned=1`, `__proto__`, `constructor`,
		"\u202e/drow", `{{7*7}}${window.pwned=1}`, `'; window.pwned=1; '`, strings.Repeat("/long", 1000), "tab\tand\nline", `&lt;b&gt;&amp;`, " ",
	}
	s := newService(t)
	s.routes, s.dynos = nil, evil
	for i, name := range evil {
		s.routes = append(s.routes, route{evil[(i+1)%len(evil)], name, evil[(i+2)%len(evil)]})
	}
	s.redis = "away since <img src=x onerror=window.pwned=1>"
	s.mangle = func(status, codes map[string]int) {
		for _, name := range evil {
			status[name]++
			codes[name]++
		}
	}
	search := url.Values{"app": {evil[2]}, "sort": {evil[0]}, "theme": {evil[1]}}
	for _, address := range []string{"", "?" + search.Encode()} {
		p := open(s, address, desk).ready()
		s.tick(3)
		p.follows()
		p.point("codes", 0.5)
		p.slash() // the suggestions are made of it, too
		if seen := get[string](p, `document.querySelector('#routes').textContent + document.querySelector('#chips').textContent`); !strings.Contains(seen, evil[0]) && !strings.Contains(seen, evil[2]) {
			t.Error("the names do not stand on the page as they are")
		}
		if found := get[[]string](p, `[window.pwned, Object.prototype.pwned, ({}).requests, document.querySelectorAll('img:not([src="icon.svg"])').length || undefined, document.querySelectorAll('script:not([src="theme.js"]):not([src="app.js"]):not([src="vendor/uPlot.iife.min.js"])').length || undefined,
			document.querySelectorAll('[onload],[onerror],iframe,object').length || undefined].filter(v => v !== undefined).map(String)`); len(found) > 0 {
			t.Errorf("%q: markup was made of a name: %q", address, found)
		}
		if turned := get[int](p, `[...document.body.innerText].filter(c => c === '\u202e').length`); turned > 0 {
			t.Error("a name turns the text around it")
		}
		if wide := get[float64](p, `document.documentElement.scrollWidth`); wide > 1440 {
			t.Errorf("a long name makes the page %v px wide", wide)
		}
		if address == "" {
			p.screenshot("hostile")
			if got := get[int](p, `document.querySelectorAll('#routes tbody tr').length`); got != len(evil) {
				t.Errorf("%d routes shown, want %d", got, len(evil))
			}
		}
	}
	// The server's own line is text as well.
	p := open(s, "", desk).ready()
	s.with(func() { s.refuse["routes"] = answer{http.StatusServiceUnavailable, evil[0]} })
	p.do(`document.querySelector('#routes thead th:nth-child(3) button').click()`)
	p.until(`document.querySelector('#routes .note').textContent.includes(` + quoted(evil[0]) + `)`)
	if get[bool](p, `'pwned' in window`) {
		t.Error("a server's error was run")
	}
}

func empty(t *testing.T, open opener) {
	s := newService(t)
	s.empty, s.records, s.lag = true, 0, 0
	p := open(s, "", desk)
	p.until(`!document.querySelector('#empty').hidden && document.querySelector('#state').dataset.state === 'live'`)
	p.screenshot("empty")
	if title := p.text("#empty h2"); title != "Waiting for the first line" {
		t.Errorf("it says %q", title)
	}
	if got := p.text("#how-drain"); got != "go run ./cmd/drain" {
		t.Errorf("how to start: %q", got)
	}
	// The command is run as it stands there, but for the address: what it sends is a line of now.
	posted := make(chan string, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && r.URL.Path == "/logs" {
			posted <- string(body)
		}
	}))
	defer endpoint.Close()
	command := p.text("#how-line")
	if !strings.Contains(command, "http://127.0.0.1:8080/logs") {
		t.Fatalf("the command is %q", command)
	}
	if out, err := exec.Command("sh", "-c", strings.Replace(command, "http://127.0.0.1:8080", endpoint.URL, 1)).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	stamp, rest, _ := strings.Cut(<-posted, " heroku[router]: ")
	at, err := time.Parse("2006-01-02T15:04:05.999999Z07:00", stamp)
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("the line is of %q: %v", stamp, err)
	}
	var record router.Record
	new(router.Parser).Parse(&record, []byte(rest), false)
	if path, status := string(record.Value(router.Path)), string(record.Value(router.Status)); path != "/hello?page=2" || status != "200" {
		t.Errorf("the line %q has path %q and status %q", rest, path, status)
	}
	// The first line fills the page.
	s.with(func() { s.empty, s.records = false, 1 })
	s.tick(2)
	p.until(`document.querySelector('#empty').hidden`)
	p.ready()

	// Nothing that fits is another thing.
	p = open(s, "?app=nobody", desk)
	p.until(`document.querySelector('#chart-connect .plot').hasAttribute('data-nothing')`)
	p.until(`document.querySelector('#empty h2').textContent === 'No request fits these filters'`)
	p.click("#empty-actions button")
	p.until(`location.search === ''`)
	p.ready()
	s.with(func() { s.empty = true })
	p = open(s, "?last=1m", desk)
	p.until(`document.querySelector('#empty h2').textContent === 'Nothing in the last 1 minute' && document.querySelector('#empty-how').hidden`)
	p.click("#empty-actions button")
	p.until(`location.search === '?last=14d'`)
}

// loads waits for a condition of another document: the one that is left may go in the middle of the question.
func (p *tab) loads(condition string) {
	p.t.Helper()
	p.wait(condition, func() bool {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		return err == nil && ok
	})
}

func (p *tab) onLogin() {
	p.t.Helper()
	p.loads(`location.pathname === '/login' && document.activeElement?.id === 'password'`)
}

func login(t *testing.T, open opener) {
	s := newService(t)
	s.refuse["*"] = answer{http.StatusUnauthorized, "log in"}
	p := open(s, "?app=shop", desk)
	p.onLogin()
	p.screenshot("login")
	if get[bool](p, `!document.querySelector('#failed').hidden`) {
		t.Error("the form says that something failed")
	}
	p.run(chromedp.KeyEvent("sesame"))
	p.key(kb.Enter)
	p.loads(`document.querySelector('#failed')?.hidden === false`)
	p.run(chromedp.SendKeys(chromedp.CSS("#password"), "open sesame\r"))
	p.loads(`location.pathname === '/' && window.drain`)
	p.ready()
	if got := get[string](p, "location.search"); got != "?app=shop" || !s.asks("routes", "app=shop") {
		t.Errorf("back at %q", got)
	}
	// A session that ends while the page is open.
	s.with(func() { s.refuse["*"] = answer{http.StatusUnauthorized, "log in"}; s.cutNow() })
	p.onLogin()
	p.run(chromedp.Navigate(s.URL + "/login?theme=dark"))
	p.until(`document.documentElement.dataset.theme === 'dark'`)
}

func saysErrors(t *testing.T, open opener) {
	s := newService(t)
	s.refuse["routes"] = answer{http.StatusServiceUnavailable, "Redis is away since 12:00"}
	s.refuse["series"] = s.refuse["routes"]
	p := open(s, "?last=1m", desk)
	p.until(`document.querySelector('#routes .note').textContent === 'not up to date: Redis is away since 12:00'`)
	p.until(`!document.querySelector('#notice').hidden && document.querySelector('#notice').textContent.includes('Redis is away since 12:00')`)
	p.until(`document.querySelectorAll('#dynos tbody tr').length === 12`) // the others are not held up
	s.with(func() { clear(s.refuse); s.late, s.lag = 0, 0; s.send(s.statusEvent()) })
	p.until(`document.querySelector('#kpi-lag .under').textContent === 'up to date'`)
	s.with(func() { s.ready = "Kafka is away"; s.send(s.statusEvent()) })
	p.until(`document.querySelector('#kpi-lag .under').textContent === 'Kafka is away' && document.querySelector('#kpi-lag .verdict').textContent === 'not ready'`)
	s.with(func() { s.ready = "ok"; s.send(s.statusEvent()) })
	p.key("p", "p") // asks for all tables, at once
	p.ready()
	p.wait("no errors", func() bool {
		return get[bool](p, `document.querySelector('#notice').hidden && document.querySelector('#routes .note').hidden && document.querySelectorAll('#routes tbody tr').length === 50`)
	})
	s.tick(1)
	p.follows()
	p.holds(60, filters{})
}

func asksOnce(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	// Every wait of seconds is one of 10 ms: were the next question not to wait for the answer, they would pile up.
	v.before = `{ const later = setTimeout.bind(window); window.setTimeout = (f, ms, ...a) => later(f, ms >= 2500 ? 10 : ms, ...a); }`
	s.delay = 100 * time.Millisecond
	p := open(s, "?last=1m", v).ready()
	before := s.count("routes")
	p.wait("more questions", func() bool { return s.count("routes") > before+5 })
	s.with(func() {
		for what, n := range s.most {
			if most := map[string]int{"series": 3, "apps": 2}[what]; n > max(1, most) && what != "stream" { // of these there are several kinds
				t.Errorf("%d questions for %s at once", n, what)
			}
		}
	})
}

// keeps looks at the store itself, and at the line of lags, which holds five minutes.
func keeps(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "", desk).ready()
	top := `(c => { const d = c.getContext('2d').getImageData(c.width - 3, 0, 1, c.height).data; for (let y = 0; y < c.height; y++) if (d[y * 4 + 3] > 128) return y / c.height; return 1; })(document.querySelector('#kpi-lag canvas'))`
	lags := func(n, lag int) {
		s.with(func() {
			for s.lag = lag; n > 0; n-- {
				s.send(s.statusEvent())
			}
		})
		p.until(fmt.Sprintf(`document.querySelector('#kpi-lag b').dataset.value === '%d'`, lag))
	}
	lags(1, 1e6)
	lags(100, 5)
	p.until(top + ` > 0.9`) // beside a million, five are nothing
	lags(60, 5)
	p.until(top + ` < 0.3`)
	got := get[map[string]any](p, `import('/points.js').then(({Points}) => {
		const at = (second, requests) => ({start: new Date(second * 1000).toISOString(), requests, status: {200: requests}, codes: {}, bytes: 0, service_ms: {}, connect_ms: {}}), seen = {};
		const points = new Points(1000, 100);
		for (let i = 0; i < 10000; i++) points.put(at(i, i));
		seen.bound = points.length <= 160 && Object.values(points.columns).every(c => c.length === points.length) && points.codes.length === points.length;
		seen.newest = points.newest === 9999e3 && points.view(3000).requests.join() === '9997,9998,9999';
		points.put(at(1, 1)); // older than all that is kept
		points.put({start: 'never'});
		seen.old = points.newest === 9999e3 && !points.columns.requests.includes(1);
		points.put(at(10004, 5)); // what is missing stays open, and may come later
		seen.gap = points.view(6000).requests.join() === '9999,,,,,5';
		points.put(at(10002, 7));
		points.put(at(10002, 8));
		seen.late = points.view(6000).requests.join() === '9999,,,8,,5';
		points.put(at(90000, 3)); // nothing of what was fits with it
		seen.far = points.length === 1 && points.sum('requests', 10) === 3;
		return seen;
	})`)
	for _, name := range []string{"bound", "newest", "old", "gap", "late", "far"} {
		if got[name] != true {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func hidden(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	// The test says when a minute is over.
	v.before = `window.veiled = false; Object.defineProperty(document, 'hidden', {get: () => window.veiled}); { const later = setTimeout.bind(window); window.sleepers = []; window.setTimeout = (f, ms, ...a) => ms === 60e3 ? sleepers.push(f) : later(f, ms, ...a); }`
	p := open(s, "?last=1m", v).ready()
	s.tick(1)
	p.follows()
	before := p.shown()
	p.do(`veiled = true; document.dispatchEvent(new Event('visibilitychange'))`)
	s.tick(5)
	p.wait("the page hears them", func() bool { return s.queued() == 0 })
	get[bool](p, `new Promise(done => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => done(true))), 300))`) // room for what must not happen
	if after := p.shown(); !after[len(after)-1].Start.Equal(before[len(before)-1].Start) {
		t.Error("drawn while hidden")
	}
	p.do(`sleepers.forEach(f => f())`)
	p.wait("it lets go of the stream", func() bool { return s.listeners() == 0 })
	s.tick(30)
	p.do(`veiled = false; document.dispatchEvent(new Event('visibilitychange'))`)
	p.follows()
	p.holds(60, filters{})
}

func saves(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	v.before = `window.saved = []; { const make = URL.createObjectURL; URL.createObjectURL = b => (b.text().then(text => saved.push(text)), make.call(URL, b)); HTMLAnchorElement.prototype.click = function() { saved.push(this.download); }; }`
	p := open(s, "?last=1m&app=shop", v).ready()
	s.tick(1)
	p.follows()
	p.key("e")
	p.until(`saved.length === 2`)
	files := get[[]string](p, `saved`)
	slices.SortFunc(files, func(a, b string) int { return len(a) - len(b) })
	var file struct {
		Window  string            `json:"window"`
		Filters map[string]string `json:"filters"`
		Points  []shown           `json:"points"`
		Routes  []row             `json:"routes"`
	}
	if err := json.Unmarshal([]byte(files[1]), &file); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(files[0], "drain-1m-") || !strings.HasSuffix(files[0], ".json") || file.Window != "1m" || file.Filters["app"] != "shop" || len(file.Points) != 60 || len(file.Routes) == 0 {
		t.Errorf("saved %s: %.300s", files[0], files[1])
	}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func paintsSoon(t *testing.T, open opener) {
	s := newService(t)
	var first, filled []float64
	for range 3 {
		p := open(s, "?last=1h", desk)
		p.until(`performance.getEntriesByName('first-contentful-paint').length`)
		first = append(first, get[float64](p, `performance.getEntriesByName('first-contentful-paint')[0].startTime`))
		p.ready()
		filled = append(filled, get[float64](p, `performance.now()`))
	}
	t.Logf("first contentful paint %.0f ms (%.0f); with an hour of points and all tables after %.0f ms", median(first), first, median(filled))
	if median(first) > 1000 {
		t.Errorf("the first paint took %.0f ms", median(first))
	}
}

// measureFrames notes for each frame how long its script took, and how long until style, layout and paint were done
// as well: a message that is posted in the frame is handled right after it.
const measureFrames = `window.frames_ = [];
{
	const request = requestAnimationFrame.bind(window), channel = new MessageChannel();
	let began = 0, script = 0;
	channel.port1.onmessage = () => frames_.push([script, performance.now() - began]);
	window.requestAnimationFrame = f => request(t => { began = performance.now(); f(t); script = performance.now() - began; channel.port2.postMessage(0); });
}`

func drawsFast(t *testing.T, open opener) {
	s := newService(t)
	v := desk
	v.before = measureFrames
	p := open(s, "?last=1h", v).ready()
	p.until(`drain.shown().points.length >= 3599 && document.querySelectorAll('#routes tbody tr').length === 50`)
	drawn := func() {
		p.until(fmt.Sprintf(`document.querySelector('#chart-bytes .legend').dataset.start === '%d'`, 1000*(s.second()-1)))
	}
	for range 5 {
		s.tick(1)
		drawn()
	}
	const updates, tries = 30, 3 // a machine that is busy with else may need another one
	for try := 1; ; try++ {
		p.do(`frames_.length = 0`)
		for range updates {
			s.tick(1)
			drawn()
		}
		var script, frame []float64
		for _, f := range get[[][]float64](p, `frames_`) {
			script, frame = append(script, f[0]), append(frame, f[1])
		}
		sum := 0.0
		for _, f := range script {
			sum += f
		}
		t.Logf("%d updates with 50 routes and 3,600 points in %d frames: script p50 %.1f ms, p90 %.1f ms, %.1f ms an update; with style, layout and paint p50 %.1f ms, p90 %.1f ms, most %.1f ms", updates, len(frame),
			median(script), quantile(script, 0.9), sum/updates, median(frame), quantile(frame, 0.9), slices.Max(frame))
		if len(frame) < updates {
			t.Fatalf("%d updates in %d frames", updates, len(frame))
		}
		if median(frame) < 16 {
			return
		}
		if try == tries {
			t.Fatalf("a frame takes %.1f ms", median(frame))
		}
	}
}

// doesNotGrow sends 600 seconds at once, or with DASH_SOAK=10m one a second for so long, to a page that holds an hour.
func doesNotGrow(t *testing.T, open opener) {
	s := newService(t)
	p := open(s, "?last=1h", desk).ready()
	p.until(`drain.shown().points.length >= 3599`)
	type size struct{ heap, nodes, listeners float64 }
	measure := func() size {
		call(p, heapprofiler.CollectGarbage, cdp.Empty{})
		call(p, heapprofiler.CollectGarbage, cdp.Empty{})
		heap, dom := call(p, runtime.GetHeapUsage, cdp.Empty{}), call(p, memory.GetDOMCounters, cdp.Empty{})
		return size{heap.UsedSize, float64(dom.Nodes), float64(dom.JsEventListeners)}
	}
	batch, pace := 10, time.Duration(0)
	seconds := 600
	if long := os.Getenv("DASH_SOAK"); long != "" {
		d, err := time.ParseDuration(long)
		if err != nil {
			t.Fatalf("DASH_SOAK: %v", err)
		}
		batch, pace, seconds = 1, time.Second, int(d.Seconds())
	}
	run := func(seconds int) {
		for range seconds / batch {
			began := time.Now()
			s.tick(batch)
			p.follows()
			if pace > 0 {
				<-time.After(pace - time.Since(began)) // in real time, as people leave it open
			}
		}
	}
	run(120)
	before := measure()
	run(seconds)
	after := measure()
	for range 4 { // what is garbage is found in time, if the machine has any
		if after.nodes <= before.nodes+100 && after.heap-before.heap <= 1e6 {
			break
		}
		run(batch)
		after = measure()
	}
	t.Logf("after %d seconds: heap %.2f MB, then %.2f MB; %.0f nodes, then %.0f; %.0f listeners, then %.0f", seconds, before.heap/1e6, after.heap/1e6, before.nodes, after.nodes, before.listeners, after.listeners)
	if grown := after.heap - before.heap; grown > 1e6 {
		t.Errorf("the heap grew by %.2f MB", grown/1e6)
	}
	if after.nodes > before.nodes+100 || after.listeners > before.listeners+20 {
		t.Errorf("the document grew")
	}
}
