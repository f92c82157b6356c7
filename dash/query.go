package dash

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"drain/window"
)

// badRequest is an error that the client can mend, told as it stands.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

// query reads the parameters of a request. The first error stays.
type query struct {
	values url.Values
	err    error
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = bad(format, args...)
	}
}

// readQuery reads the parameters of a request, of those that have these names.
func readQuery(r *http.Request, names ...string) *query {
	q := new(query)
	var err error
	if q.values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		q.fail("the query cannot be read: %v", err)
	}
	for name, values := range q.values {
		if len(values) > 1 {
			q.fail("%.40s is there %d times", name, len(values))
		}
		if !slices.Contains(names, name) {
			q.fail("%.40q is no parameter here: there are %s", name, strings.Join(names, ", "))
		}
	}
	return q
}

func (q *query) text(name string) *string {
	if !q.values.Has(name) {
		return nil
	}
	v := q.values.Get(name)
	return &v
}

// seconds reads a duration of whole seconds.
func (q *query) seconds(name string, otherwise int64) int64 {
	text := q.values.Get(name)
	if text == "" {
		return otherwise
	}
	d, err := duration(text)
	if err != nil || d < time.Second || d%time.Second != 0 || d > 366*24*time.Hour {
		q.fail("%s=%.40s: a duration of whole seconds, up to a year, is wanted: 10s, 15m, 24h, 14d, 365d", name, text)
		return otherwise
	}
	return int64(d / time.Second)
}

// duration reads what time.ParseDuration reads, and days.
func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

func (q *query) choice(name string, of ...string) string {
	text := q.values.Get(name)
	if text == "" {
		return of[0]
	}
	if !slices.Contains(of, text) {
		q.fail("%s=%.40s: one of %s is wanted", name, text, strings.Join(of, ", "))
	}
	return text
}

func (q *query) number(name string, otherwise, most int) int {
	text := q.values.Get(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		q.fail("%s=%.40s: a number from 1 to %d is wanted", name, text, most)
		return otherwise
	}
	return n
}

// filterNames are the parameters that filter reads.
var filterNames = []string{"app", "dyno", "method", "route", "status"}

// filter reads which requests are asked for.
func (q *query) filter() filter {
	f := filter{Filter: window.Filter{App: q.text("app"), Dyno: q.text("dyno"), Method: q.text("method")}, route: q.text("route")}
	if f.Dyno != nil && (f.route != nil || f.Method != nil) {
		q.fail("dyno and route (or method) cannot be asked for together: leave one of them out")
	}
	if text := q.values.Get("status"); text != "" {
		digits, class := strings.CutSuffix(text, "xx")
		n, err := strconv.Atoi(digits)
		if err != nil || class && (n < 1 || n > 5) || !class && (n < 100 || n > 999) {
			q.fail("status=%.40s: a status such as 404, or a class such as 5xx, is wanted", text)
		}
		f.Status = n
	}
	return f
}

// filter is a window.Filter, whose route may have segments that stand for any.
type filter struct {
	window.Filter
	route *string
}

func (f *filter) byRoute() bool { return f.route != nil || f.ByRoute() }

func (f *filter) takes(k *window.Key) bool {
	return f.Takes(k) && (f.route == nil || covers(*f.route, strings.TrimPrefix(k.Route, window.Unsure)))
}

// covers tells whether a route is the template, or was folded into it since: `*`
// stands for any segment.
func covers(template, route string) bool {
	if template == route {
		return true
	}
	if !strings.Contains(template, "*") {
		return false
	}
	a, b := strings.Split(template, "/"), strings.Split(route, "/")
	return len(a) == len(b) && slices.EqualFunc(a, b, func(x, y string) bool { return x == "*" || x == y })
}

// pace is how a span of time is cut into points.
type pace struct {
	step, from, until int64 // seconds; from is a multiple of step
	resolution        window.Resolution
}

// maxPoints is the most that one answer has: a fortnight of minutes.
const maxPoints = 21_000

// pace reads step and last.
func (q *query) pace(now int64) pace {
	last := q.seconds("last", 15*60)
	step := q.seconds("step", usualStep(last))
	p := pace{step: step, from: window.Resolution{Step: step}.Start(now - last), until: now + 1}
	for _, r := range window.Resolutions {
		if step%r.Step == 0 {
			p.resolution = r
		}
	}
	if kept := p.resolution.Keep; last > kept {
		longer := "shorter last"
		for _, r := range window.Resolutions {
			if r.Keep >= last {
				longer = "step of " + r.Name
				break
			}
		}
		q.fail("step=%s and last=%s: windows of %s are kept for %s only: take a %s", words(step), words(last), p.resolution.Name, words(kept), longer)
	}
	if !p.resolution.Kept(p.from, now) { // else the first point would tell too little
		p.from += step
	}
	if last/step > maxPoints {
		q.fail("step=%s and last=%s: these are %d points, and %d are the most: take a longer step", words(step), words(last), last/step, maxPoints)
	}
	return p
}

// words writes seconds as durations are written here.
func words(seconds int64) string {
	for _, unit := range []struct {
		seconds int64
		name    string
	}{{24 * 3600, "d"}, {3600, "h"}, {60, "m"}} {
		if seconds%unit.seconds == 0 {
			return strconv.FormatInt(seconds/unit.seconds, 10) + unit.name
		}
	}
	return strconv.FormatInt(seconds, 10) + "s"
}

// usualStep is the step where none is asked for: some hundred points.
func usualStep(last int64) int64 {
	for _, step := range []int64{1, 10, 60, 600} {
		if last/step <= 360 {
			return step
		}
	}
	return 3600
}

var errBusy = errors.New("too many requests at once: try again")
