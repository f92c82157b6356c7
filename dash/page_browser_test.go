package dash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
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
)

// A tab shows a page of the service. What must never happen fails the test when it ends: an exception, a violation of
// the page's policy, a request to another origin.
type tab struct {
	t   testing.TB
	ctx context.Context
	s   *service

	mu      sync.Mutex // guards the following
	faults  []string
	foreign []string
}

type view struct {
	width, height int64
	scale         float64
	dark          bool
	touch         bool
	// before runs in the page before its own scripts.
	before string
}

var desk = view{width: 1440, height: 900, scale: 1}

// watchPolicy collects what the page's policy refused.
const watchPolicy = `window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective + ' ' + e.blockedURI));`

func openTab(t testing.TB, browser context.Context, s *service, address string, v view) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	p := &tab{t: t, ctx: ctx, s: s}
	t.Cleanup(func() {
		p.check()
		closeTab()
	})
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, cdplog.Enable, cdp.Empty{})
	call(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: watchPolicy + v.before})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: v.width, Height: v.height, DeviceScaleFactor: v.scale, Mobile: v.touch})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: v.touch})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	p.run(chromedp.Navigate(s.URL + "/" + address))
	return p
}

// call runs a command of the protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// hear notes what must never happen.
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
	case *cdplog.EventEntryAdded:
		if e.Entry.Source == cdplog.EntrySourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") {
			p.faults = append(p.faults, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "data" && u.Scheme != "blob" && u.Host != strings.TrimPrefix(p.s.URL, "http://") && e.Request.URL != "about:blank" {
			p.foreign = append(p.foreign, e.Request.URL)
		}
	}
}

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// check fails the test for what must never happen.
func (p *tab) check() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	refused, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`window.refused ?? []`))
	if err != nil {
		p.t.Errorf("looking for violations of the policy: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range append(p.faults, refused...) {
		p.t.Errorf("in the page: %s", fault)
	}
	for _, u := range p.foreign {
		p.t.Errorf("the page asked another origin: %s", u)
	}
	p.faults, p.foreign = nil, nil
}

// get evaluates an expression of JavaScript, a promise too.
func get[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// do runs statements.
func (p *tab) do(statements string) {
	p.t.Helper()
	get[bool](p, "(() => {"+statements+"; return true})()")
}

// until waits for a condition, an expression of JavaScript.
func (p *tab) until(condition string) {
	p.t.Helper()
	p.wait(condition, func() bool { return get[bool](p, "Boolean("+condition+")") })
}

func (p *tab) wait(what string, condition func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not in time: %s\nthe page: %s", what, get[string](p, `JSON.stringify([document.hidden, document.querySelector('#state')?.innerText, window.drain?.shown().points.at(-1)]) + document.body.innerText.slice(0, 700)`))
		}
	}
}

// ready waits until the page shows points and tables.
func (p *tab) ready() *tab {
	p.t.Helper()
	p.until(`document.querySelector('#state')?.dataset.state === 'live' && drain.shown().points.length && drain.shown().routes && drain.shown().dynos && drain.shown().apps
		&& drain.shown().methods && document.querySelector('#kpi-errors .under').textContent && document.querySelector('#kpi-p95 .under').textContent && document.querySelector('#kpi-lag b').dataset.value && !('loading' in document.body.dataset)`)
	return p
}

func (p *tab) text(selector string) string {
	p.t.Helper()
	return get[string](p, fmt.Sprintf("document.querySelector(%s).innerText", quoted(selector)))
}

// value is what an element shows, unrounded.
func (p *tab) value(selector string) string {
	p.t.Helper()
	return get[string](p, fmt.Sprintf("document.querySelector(%s).dataset.value", quoted(selector)))
}

func (p *tab) key(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.run(chromedp.KeyEvent(k))
	}
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.run(chromedp.Click(chromedp.CSS(selector)))
}

// screenshot keeps the page's picture where DASH_SCREENSHOTS says.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("DASH_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
