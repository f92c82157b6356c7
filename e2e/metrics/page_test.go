package metrics

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"drain/trial/browser"
	"drain/trial/check"
	"drain/trial/redisserver"
)

// tab is a page in a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func open(t *testing.T, in context.Context, address string, width, height int64) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(in)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil { // opens the tab, for longer than a command's time
		t.Fatal(err)
	}
	p := &tab{t, ctx}
	p.run(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
		return err
	})
	p.goTo(address)
	return p
}

func (p *tab) run(do func(context.Context) error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) goTo(address string) {
	p.t.Helper()
	p.run(func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.Navigate(address)) })
}

// js evaluates an expression, a promise too.
func js[T any](p *tab, expression string) (value T) {
	p.t.Helper()
	p.run(func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err != nil {
			err = fmt.Errorf("%s: %w", expression, err)
		}
		return err
	})
	return value
}

// until waits for an expression to be true.
func (p *tab) until(condition string) {
	p.t.Helper()
	eventually(p.t, condition, func() (int, error) {
		if !js[bool](p, "Boolean("+condition+")") {
			return 0, fmt.Errorf("the page says %.2000s", js[string](p, "document.body?.innerText ?? ''"))
		}
		return 0, nil
	})
}

// picture keeps what the page looks like, in the folder that SCREENSHOTS names.
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	p.run(func(ctx context.Context) error {
		shot, err := chromedp.Call(ctx, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{})
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".png"), shot.Data, 0o644)
	})
}

// total is how many requests the page shows.
const total = `drain.shown().points.reduce((n, p) => n + (p.requests ?? 0), 0)`

// post posts lines to a drain, and waits for its answer.
func post(t *testing.T, url string, lines ...string) {
	t.Helper()
	res, err := http.Post(url+"/logs/shop", "text/plain", strings.NewReader(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("drain answers %s: %s", res.Status, body)
	}
}

func routerLine(at time.Time, more string) string {
	return at.UTC().Format("2006-01-02T15:04:05.000000-07:00") + ` heroku[router]: at=info method=GET path="/users/7?page=2" host=h.example.com request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="203.0.113.7" dyno=web.1 connect=0ms service=12ms status=200 bytes=1024 protocol=http1.1 tls=true tls_version=tls1.3` + more
}

// From a line posted to drain to the page, everything real.
func TestPage_showsALineSoon(t *testing.T) {
	drain := start(t, "drain")
	ingest, broker := "http://"+drain.Saying(`msg="drain listens" listen=(\S+)`), drain.Saying(`msg="drain listens".* kafka=(\S+)`)
	metrics := start(t, "metrics", "KAFKA_URL="+broker)
	p := open(t, browser.Start(t), metrics.page()+"/?last=1m", 1440, 900)
	p.until(`document.querySelector('#empty:not([hidden])')`)
	p.picture("empty")
	post(t, ingest, routerLine(time.Now(), ""))
	p.until(total + " === 1")
	p.until(`document.querySelector('#empty[hidden]')`)

	var took []time.Duration
	rounds := 12
	if *long {
		rounds = 60
	}
	for i := range rounds {
		time.Sleep(time.Duration(i*137%1000) * time.Millisecond) // at any moment of a second
		shown := make(chan float64, 1)
		go func() {
			shown <- js[float64](p, fmt.Sprintf(`new Promise(done => { const look = () => %s >= %d ? done(Date.now()) : setTimeout(look, 5); look(); })`, total, i+2))
		}()
		post(t, ingest, routerLine(time.Now(), ""))
		answered := float64(time.Now().UnixMicro()) / 1000
		took = append(took, time.Duration((<-shown-answered)*1000)*time.Microsecond)
	}
	slices.Sort(took)
	t.Logf("from drain's answer to the page: median %v, 90th of a hundred %v, longest %v, of %d", took[len(took)/2], took[len(took)*9/10], took[len(took)-1], len(took))
	if took[len(took)/2] > 1500*time.Millisecond {
		t.Errorf("a line is shown after %v (median), longer than 1.5 s", took[len(took)/2])
	}

	// What the page shows is what the API says.
	var lines []string
	for i := range 40 {
		status, code := 200, ""
		if i%8 == 0 {
			status, code = 503, "code=H12 desc=\"Request timeout\" "
		}
		lines = append(lines, strings.NewReplacer("at=info ", "at=info "+code, "status=200", fmt.Sprintf("status=%d", status), "web.1", fmt.Sprintf("web.%d", i%3), "/users/7", fmt.Sprintf("/orders/%d/items", i)).Replace(routerLine(time.Now(), "")))
	}
	post(t, ingest, lines...)
	p.until(fmt.Sprintf("%s === %d", total, rounds+1+len(lines)))
	routes := get[[]line](t, metrics.page()+"/api/v1/routes?last=1m")
	if len(routes) != 2 || routes[0].Route != "/orders/:id/items" || routes[0].Requests != 40 || routes[0].Codes["H12"] != 5 {
		t.Errorf("the API's routes are %+v", routes)
	}
	for _, id := range []string{"routes", "dynos", "codes", "statuses", "apps", "methods"} {
		p.until(fmt.Sprintf(`document.querySelectorAll('#%s tbody tr').length > 0`, id))
	}
	p.until(`document.querySelector('#routes tbody').innerText.includes('/orders/:id/items')`)
	p.until(`document.querySelector('#dynos tbody').innerText.includes('web.2')`)
	p.until(`document.querySelector('#codes tbody').innerText.includes('H12')`)
	underMemory(t, metrics, 128<<20)
}

// A page that was left alone with a dead server goes on where it was.
func TestPage_goesOnAfterACrash(t *testing.T) {
	drain := start(t, "drain")
	ingest, broker := "http://"+drain.Saying(`msg="drain listens" listen=(\S+)`), drain.Saying(`msg="drain listens".* kafka=(\S+)`)
	redis := redisserver.Start(t)
	metrics := start(t, "metrics", "KAFKA_URL="+broker, "REDIS_URL="+redis.URL())
	p := open(t, browser.Start(t), metrics.page()+"/?last=5m", 1440, 900)
	p.until(`document.querySelector('#state').dataset.state === 'live'`)
	n := 0
	say := func(rounds int) {
		for range rounds {
			post(t, ingest, routerLine(time.Now(), ""), routerLine(time.Now(), ""))
			n += 2
			time.Sleep(100 * time.Millisecond)
		}
	}
	say(20)
	metrics.Kill()
	p.until(`document.querySelector('#state').dataset.state !== 'live'`)
	say(20) // nobody counts
	again := start(t, "metrics", "KAFKA_URL="+broker, "REDIS_URL="+redis.URL(), "LISTEN="+strings.TrimPrefix(metrics.page(), "http://"))
	again.page()
	say(20)
	p.until(`document.querySelector('#state').dataset.state === 'live'`)
	check.Within(t, time.Minute, "the page to show all", func() (int, error) {
		if got := js[int](p, total); got != n {
			return 0, fmt.Errorf("%d of %d", got, n)
		}
		return 0, nil
	})
	starts := js[[]string](p, `drain.shown().points.map(p => p.start)`)
	for i := 1; i < len(starts); i++ {
		before, err := time.Parse(time.RFC3339, starts[i-1])
		if err != nil {
			t.Fatal(err)
		}
		if after, err := time.Parse(time.RFC3339, starts[i]); err != nil || after.Sub(before) != time.Second {
			t.Fatalf("%s follows %s", starts[i], starts[i-1])
		}
	}
}

func TestPage_asksForThePassword(t *testing.T) {
	brokers := fakeKafka(t, "router", 1)
	metrics := start(t, "metrics", "KAFKA_URL="+strings.Join(brokers, ","), "DASH_PASSWORD=sesame, open")
	p := open(t, browser.Start(t), metrics.page()+"/", 1440, 900)
	p.until(`location.pathname === '/login' && document.querySelector('input[type=password]')`)
	p.picture("login")
	enter := func(password string) {
		js[bool](p, fmt.Sprintf(`(document.querySelector('input[type=password]').value = %q, document.querySelector('form').requestSubmit(), true)`, password))
	}
	enter("wrong")
	p.until(`document.querySelector('[role=alert]:not([hidden])')`)
	enter("sesame, open")
	p.until(`location.pathname === '/' && document.querySelector('#state')?.dataset.state === 'live'`)
	if log := metrics.String(); strings.Contains(log, "sesame") {
		t.Errorf("the log betrays the password: %s", log)
	}
}
