package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"drain/trial/browser"
	"drain/trial/check"
)

// One browser for all of them: it is slow to start.
func TestPage(t *testing.T) {
	browser := browser.Start(t)
	for _, tt := range []struct {
		promise string
		test    func(*testing.T, context.Context)
	}{
		{"shows the numbers", showsNumbers},
		{"tells shares from none and all", showsShares},
		{"draws its charts", draws},
		{"opens a route's details, and closes them", opensDetails},
		{"finds routes", findsRoutes},
		{"takes what was recorded for text", takesForText},
		{"may ask for nothing", asksForNothing},
		{"says of nothing that it is nothing", saysNothing},
		{"can be read without scripts", readsWithoutScripts},
	} {
		t.Run(tt.promise, func(t *testing.T) { tt.test(t, browser) })
	}
}

// A tab shows a report. What must never happen fails the test when it ends: an exception, a dialog, a violation of the
// page's policy, a request for anything but the page.
type tab struct {
	t     testing.TB
	ctx   context.Context
	lured bool // the test itself has it do what must never happen

	mu     sync.Mutex // guards the following
	faults []string
	asked  []string
}

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

func openPage(t *testing.T, browser context.Context, r *Result, scripts bool) *tab {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(path)
	if err == nil {
		if err = r.WriteHTML(f); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, closeTab := chromedp.NewContext(browser)
	p := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		defer closeTab()
		if p.lured {
			return
		}
		var refused []string
		if scripts {
			refused = get[[]string](p, `window.refused`)
			if get[bool](p, `"pwned" in window`) {
				t.Error("something of the report was run")
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range append(p.faults, refused...) {
			t.Errorf("in the page: %s", fault)
		}
		if len(p.asked) != 1 || !strings.HasSuffix(p.asked[0], "/report.html") {
			t.Errorf("the page asked for %q", p.asked)
		}
	})
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, cdplog.Enable, cdp.Empty{})
	call(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{
		Source: `window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective + ' ' + e.blockedURI));`})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts})
	p.run(chromedp.Navigate("file://" + path))
	return p
}

func (p *tab) hear(e any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		fault := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
		p.faults = append(p.faults, fault)
	case *runtime.EventConsoleAPICalled:
		p.faults = append(p.faults, fmt.Sprintf("console.%s", e.Type))
	case *cdplog.EventEntryAdded:
		p.faults = append(p.faults, e.Entry.Text)
	case *cdppage.EventJavascriptDialogOpening:
		p.faults = append(p.faults, "a dialog: "+e.Message)
	case *network.EventRequestWillBeSent:
		p.asked = append(p.asked, e.Request.URL)
	}
}

// call runs a command of the protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
}

func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// get evaluates an expression of JavaScript.
func get[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.run(chromedp.Click(chromedp.CSS(selector)))
}

// rows are the texts of a table's cells.
func (p *tab) rows(table string) [][]string {
	p.t.Helper()
	return get[[][]string](p, fmt.Sprintf(`[...document.querySelectorAll(%s + " tr")].filter((tr) => !tr.hidden).map((tr) => [...tr.cells].map((c) => c.textContent))`, quoted(table)))
}

// painted tells whether the canvas in a place has pixels of each of these colours of the page.
func (p *tab) painted(place string, colors ...string) bool {
	p.t.Helper()
	return get[bool](p, fmt.Sprintf(`(() => {
		const drawn = document.querySelector(%s + " canvas"), { width, height } = drawn;
		const canvas = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
		canvas.drawImage(drawn, 0, 0);
		const data = canvas.getImageData(0, 0, width, height).data;
		return %s.every((name) => {
			const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
			const want = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
			for (let i = 0, found = 0; i < data.length; i += 4) {
				if (data[i + 3] > 200 && want.every((v, j) => Math.abs(v - data[i + j]) < 12) && ++found > 20) return true;
			}
			return false;
		});
	})()`, quoted(place), quoted(colors)))
}

func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func showsNumbers(t *testing.T, browser context.Context) {
	p := openPage(t, browser, shopReport().Result(shopFrame()), true)
	for selector, want := range map[string]string{
		"h1":       "Replay of router to https://staging.example.com",
		"#when":    "Recorded 2026-01-02 03:04:05 to 2026-01-02 03:07:55 UTC (00:03:50); sent at speed 2, in 00:01:55 from 2026-01-03 10:00:00 UTC, ended: interrupted",
		"#verdict": "Failed: 4.3% of the answers differ, more than 1.0%; GET /search is slower",
	} {
		if got := get[string](p, `document.querySelector(`+quoted(selector)+`).textContent`); got != want {
			t.Errorf("%s: %q, want %q", selector, got, want)
		}
	}
	tiles := get[[][]string](p, `[...document.querySelectorAll(".tile")].map((t) => [t.children[0].textContent, t.children[1].textContent, t.className])`)
	if want := [][]string{
		{"2,303", "sent of 10,096 records", "tile"}, {"2,200", "answered as recorded", "tile"}, {"93", "with another status", "tile bad"}, {"7", "without an answer", "tile bad"},
		{"19.1 %", "late by more than 5 ms", "tile bad"}, {"900 → 480", "p95, recorded → measured, ms", "tile"}, {"1.2", "network's round trip, ms", "tile"}, {"2.5 s", "paused, the target failed", "tile bad"},
	}; !reflect.DeepEqual(tiles, want) {
		t.Errorf("tiles: %q, want %q", tiles, want)
	}
	if got, want := p.rows("#matrix"), [][]string{
		{"", "no answer", "200", "301", "400", "401", "403", "404", "410", "500"},
		{"none", "·", "3", "·", "·", "·", "·", "·", "·", "·"},
		{"200", "7", "1,850", "·", "·", "·", "·", "·", "·", "60"},
		{"301", "·", "·", "10", "1", "1", "1", "·", "30", "·"},
		{"304", "·", "300", "·", "·", "·", "·", "·", "·", "·"},
		{"404", "·", "·", "·", "·", "·", "·", "40", "·", "·"},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("statuses: %q, want %q", got, want)
	}
	if marked := get[[]string](p, `[...document.querySelectorAll("#matrix .differs")].filter((td) => td.style.background).map((td) => td.textContent)`); !reflect.DeepEqual(marked, []string{"7", "60", "1", "1", "1", "30"}) {
		t.Errorf("marked: %q", marked)
	}
	if got, want := p.rows("#routes tbody"), [][]string{
		{"GET /products/:id", "1,270", "67 (5.3 %)", "200→no answer 7, 200→500 60", "30.0", "33.0", "30.0", "33.0", "30.0", "33.0", ""},
		{"GET /legacy", "43", "33 (76.7 %)", "301→400 1, 301→401 1, 301→403 1, 301→410 30", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", ""},
		{"GET /search", "400", "–", "", "120", "480", "120", "480", "120", "480", "slower"},
		{"GET /app.js", "300", "–", "", "", "–", "", "–", "", "–", ""},
		{"GET /report", "250", "–", "", "900", "90.0", "900", "90.0", "900", "90.0", "faster"},
		{" other", "40", "–", "", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", ""},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("routes: %q, want %q", got, want)
	}
	if got, want := p.rows("#skipped"), [][]string{{"other method", "7,777"}, {"denied", "12"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("left out: %q, want %q", got, want)
	}
	if got := get[string](p, `document.title`); got != "Replay of router to https://staging.example.com" {
		t.Errorf("title: %q", got)
	}
}

func showsShares(t *testing.T, browser context.Context) {
	r := shopReport().Result(shopFrame())
	r.Verdict = Verdict{}
	r.Compared.Share, r.Late.Share, r.Routes[0].Share, r.Routes[1].Share = 0.000_012, 0.9997, 1, 0.05
	p := openPage(t, browser, r, true)
	got := get[[]string](p, `[document.querySelector("#verdict").textContent, document.querySelectorAll(".tile b")[4].textContent, ...[...document.querySelectorAll("#routes td:nth-child(3).differs")].map((td) => td.textContent)]`)
	if want := []string{"0.0012 % of the answers differ", "99.970 %", "67 (100 %)", "33 (5.0 %)"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func draws(t *testing.T, browser context.Context) {
	p := openPage(t, browser, shopReport().Result(shopFrame()), true)
	if n := get[int](p, `document.querySelectorAll("canvas").length`); n != 3 {
		t.Errorf("%d charts", n)
	}
	for place, colors := range map[string][]string{"#sent": {"--now", "--bad", "--none"}, "#times": {"--then", "--now"}, "#late": {"--bad"}} {
		if !p.painted(place, colors...) {
			t.Errorf("%s is not drawn in %v", place, colors)
		}
	}
	for place, color := range map[string]string{"#late": "--now", "#times": "--none"} {
		if p.painted(place, color) {
			t.Errorf("%s is drawn in %s: colours prove nothing", place, color)
		}
	}
}

func opensDetails(t *testing.T, browser context.Context) {
	p := openPage(t, browser, shopReport().Result(shopFrame()), true)
	const button = "#routes tbody tr:first-child button"
	open := func(selector string) string {
		return get[string](p, `document.querySelector(`+quoted(selector)+`).getAttribute("aria-expanded") + document.querySelectorAll(".more").length`)
	}
	if got := open(button); got != "false0" {
		t.Errorf("at first: %s", got)
	}
	p.click(button)
	if got := open(button); got != "true1" {
		t.Errorf("opened: %s", got)
	}
	if got, want := get[[]string](p, `[...document.querySelectorAll(".more p")].map((p) => p.textContent)`), []string{
		"Answers: none→200 3, 200→no answer 7, 200→200 1,200, 200→500 60",
		"Bytes of an answer, the mean: 100 → 200",
		"GET /products/17 200 → refused, request r-1", "GET /products/17 200 → refused, request r-1", "GET /products/17 200 → 500, request r-1", "GET /products/17 200 → 500, request r-1", "GET /products/17 200 → 500, request r-1",
		"Service time, ms, that so many percent of the answers did not exceed",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("details: %q, want %q", got, want)
	}
	if !p.painted(".more .curve", "--then", "--now") {
		t.Error("the curve is not drawn")
	}
	// By the keyboard, too; and of what has no times there is no curve.
	p.run(chromedp.Focus(chromedp.CSS(button)), chromedp.KeyEvent("\r"))
	if got := open(button); got != "false0" {
		t.Errorf("closed: %s", got)
	}
	const untimed = "#routes tbody tr:nth-child(4) button"
	p.click(untimed)
	if got := open(untimed); got != "true1" {
		t.Errorf("opened: %s", got)
	}
	if n := get[int](p, `document.querySelectorAll(".more canvas").length`); n != 0 {
		t.Errorf("%d curves of no times", n)
	}
}

func findsRoutes(t *testing.T, browser context.Context) {
	p := openPage(t, browser, shopReport().Result(shopFrame()), true)
	shown := func() (names []string) {
		for _, row := range p.rows("#routes tbody") {
			names = append(names, row[0])
		}
		return names
	}
	p.click("#routes tbody tr:first-child button")
	p.click("#find")
	p.run(chromedp.KeyEvent("SEAR"))
	if got := shown(); !reflect.DeepEqual(got, []string{"GET /search"}) {
		t.Errorf("found %q", got)
	}
	p.run(chromedp.KeyEvent("xyz"))
	if got := shown(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	p.run(chromedp.KeyEvent("\b\b\b\b\b\b\b"))
	if got := shown(); len(got) != 6 {
		t.Errorf("found %q", got)
	}
}

// Nothing that a client, a file's name or a target can hold is more than text.
func takesForText(t *testing.T, browser context.Context) {
	evil := []string{
		`<img src=x onerror="window.pwned=1">`, `</script><script>window.pwned=1;alert(1)</script>`, `"><svg onload=window.pwned=1>`, `'; window.pwned=1; '`, "${window.pwned=1}{{7*7}}",
		"</title></style></noscript></pre><script>window.pwned=1</script>", "<!--<script>", "-->]]>", "a\u2028b\u2029c", "\\u003c/script\\u003e\\", "&lt;b&gt;&amp;", "__proto__", "\u202eevil", "\xff\xfe",
		"javascript:window.pwned=1", strings.Repeat("long", 500), "\x00\x1b[2J\r\n",
	}
	r := shopReport().Result(shopFrame())
	template := r.Routes[0]
	r.Routes = nil
	for _, text := range evil {
		route := template
		route.Route, route.Method = "/"+text, "GET"
		route.Examples = []Example{{text, text, text, 200, 500, ""}, {text, text, text, 200, 0, text}}
		r.Routes = append(r.Routes, route)
	}
	r.Source, r.Target, r.Ended = strings.Join(evil[:9], ""), strings.Join(evil[9:15], ""), evil[1]
	r.Verdict.Why = evil
	r.Requests.Skipped = map[string]int64{evil[0]: 1, evil[1]: 2, "__proto__": 3}
	p := openPage(t, browser, r, true)
	valid := func(s string) string { return string([]rune(s)) }
	for i, row := range p.rows("#routes tbody") {
		if want := valid("GET /" + evil[i]); row[0] != want {
			t.Errorf("route %d is %q, want %q", i, row[0], want)
		}
	}
	for i := range evil {
		p.run(chromedp.Focus(chromedp.CSS(fmt.Sprintf("#routes tbody tr:nth-child(%d) button", 2*i+1))), chromedp.KeyEvent("\r"))
	}
	if got := get[[]string](p, `[...document.querySelectorAll(".more code")].map((c) => c.textContent)`); len(got) != 2*len(evil) || got[2] != evil[1]+" "+evil[1] || got[17] != evil[8]+" "+evil[8] {
		t.Errorf("examples: %q", got)
	}
	if got := get[string](p, `document.querySelector("h1").textContent`); got != valid("Replay of "+r.Source+" to "+r.Target) {
		t.Errorf("headline: %q", got)
	}
	if got := get[string](p, `document.getElementById("verdict").textContent`); !strings.Contains(got, evil[1]) {
		t.Errorf("verdict: %q", got)
	}
	if found := get[[]string](p, `[...document.querySelectorAll("img, svg, iframe, object, [onload], [onerror], [src], [href], main script, b script")].map((e) => e.outerHTML)`); len(found) > 0 {
		t.Errorf("markup was made of a name: %q", found)
	}
	if n := get[int](p, `document.scripts.length`); n != 3 {
		t.Errorf("%d scripts", n)
	}
	if wide := get[float64](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		t.Errorf("a long name makes the page %v px too wide", wide)
	}
}

// Even if markup were made of a name: the page's policy lets it ask nobody.
func asksForNothing(t *testing.T, browser context.Context) {
	p := openPage(t, browser, shopReport().Result(shopFrame()), true)
	p.lured = true
	get[bool](p, `(() => {
		for (const [tag, name] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["link", "href"]]) {
			const e = document.createElement(tag);
			e.rel = "stylesheet";
			e[name] = "http://127.0.0.1:9/" + tag;
			document.body.append(e);
		}
		fetch("http://127.0.0.1:9/fetch").catch(() => {});
		return true;
	})()`)
	check.Eventually(t, "the policy refuses five", func() bool { return get[int](p, `new Set(window.refused).size`) >= 5 })
}

func saysNothing(t *testing.T, browser context.Context) {
	for name, r := range map[string]*Result{"nothing": of(NewReport(nil)), "without a pace": NewReport(nil).Result(Frame{Pace: new(Pace)})} {
		t.Run(name, func(t *testing.T) {
			p := openPage(t, browser, r, true)
			if got := get[string](p, `document.querySelector("#skipped caption").textContent`); got != "None" {
				t.Errorf("left out: %q", got)
			}
			if got := get[string](p, `document.querySelector("#verdict").textContent`); got != "0 % of the answers differ" && r.Verdict.Limit == 0 && !r.Verdict.Failed {
				t.Errorf("verdict: %q", got)
			}
			if n := get[int](p, `document.querySelectorAll("canvas").length`); n != 0 {
				t.Errorf("%d charts", n)
			}
		})
	}
}

func readsWithoutScripts(t *testing.T, browser context.Context) {
	r := shopReport().Result(shopFrame())
	r.Routes[0].Route = "/</pre></noscript><script>window.pwned=1</script>"
	p := openPage(t, browser, r, false)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("noscript pre")))
	if err != nil {
		t.Fatal(err)
	}
	if want := written(t, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
