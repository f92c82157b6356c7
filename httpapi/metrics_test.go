package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// what is what a client can write nowhere but into its own requests.
const what = "wh4t-a-client-says"

// everything posts requests of every kind, each naming what.
func (d *door) everything() {
	d.t.Helper()
	auth, app := "Authorization: Bearer "+secret, "/logs/"+what
	frames := 0
	send := func(method, path, body string, headers ...string) {
		frames++
		d.do(method, path, strings.NewReader(body), append(headers, "User-Agent: "+what, "Logplex-Drain-Token: "+what, fmt.Sprintf("X-Request-Id: %s-%032d", what, frames))...)
	}
	good := frame(notice, line("/"+what), strings.ReplaceAll(appLine, "web.1", what))
	send("POST", app, good, auth)
	frames-- // the same again
	send("POST", app, good, auth)
	send("POST", app, frame(appLine), auth)
	send("POST", app, frame("<1>"+what), auth)
	send("POST", app, what, auth)
	send("POST", app, what, "Authorization: Bearer "+what)
	send("POST", app, strings.Repeat(good, 1000), auth)
	send("PUT", app, what)
	send(strings.ToUpper(what), app, what)
	send("GET", "/"+what, "")
}

func TestTheMetricsOfTheContract(t *testing.T) {
	d := open(t, func(s *setup) { s.secrets, s.MaxBody, s.Logs = secret, 64<<10, true })
	d.everything()
	got := d.metrics()
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, want := range []string{
		`drain_ack_seconds`, `drain_batch_bytes`, `drain_batch_records`, `drain_inflight_bytes`, `drain_recovered_total`, `drain_redactions_total`,
		`drain_batches_total{sealed_by="bytes"}`, `drain_batches_total{sealed_by="count"}`, `drain_batches_total{sealed_by="delay"}`,
		`drain_batches_total{sealed_by="idle"}`, `drain_batches_total{sealed_by="stop"}`,
		`drain_frames_total{result="committed"}`, `drain_frames_total{result="duplicate"}`, `drain_frames_total{result="malformed"}`,
		`drain_frames_total{result="queued"}`, `drain_frames_total{result="refused"}`, `drain_frames_total{result="unauthorized"}`,
		`drain_lost_upstream_total{code="L10"}`, `drain_lost_upstream_total{code="L12"}`, `drain_lost_upstream_total{code="L13"}`,
		`drain_messages_total{kind="malformed"}`, `drain_messages_total{kind="other"}`, `drain_messages_total{kind="router"}`,
		`drain_records_total{result="committed",topic="logs"}`, `drain_records_total{result="duplicate",topic="router"}`, `drain_records_total{result="failed",topic="router"}`,
		`drain_requests_total{code="200"}`, `drain_requests_total{code="503"}`, `drain_produce_retries_total{reason="timeout"}`,
	} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s", want)
		}
	}
	d.counts(map[string]float64{
		`drain_requests_total{code="200"}`: 4, `drain_requests_total{code="400"}`: 1, `drain_requests_total{code="401"}`: 1,
		`drain_requests_total{code="404"}`: 1, `drain_requests_total{code="405"}`: 2, `drain_requests_total{code="413"}`: 1,
		`drain_frames_total{result="committed"}`: 3, `drain_frames_total{result="duplicate"}`: 1, `drain_frames_total{result="malformed"}`: 1,
		`drain_frames_total{result="unauthorized"}`: 1, `drain_frames_total{result="refused"}`: 1,
		`drain_messages_total{kind="router"}`: 2, `drain_messages_total{kind="other"}`: 5, `drain_messages_total{kind="malformed"}`: 1,
		`drain_lost_upstream_total{code="L10"}`:                  7,
		`drain_records_total{result="committed",topic="router"}`: 1, `drain_records_total{result="duplicate",topic="router"}`: 1,
		`drain_records_total{result="committed",topic="logs"}`: 4, `drain_records_total{result="duplicate",topic="logs"}`: 2,
		`drain_ack_seconds`: 5, `drain_inflight_bytes`: 0,
	})
	if text := strings.Join(names, "\n"); strings.Contains(strings.ToLower(text), what) {
		t.Errorf("a label is a client's: %s", text)
	}
	label := regexp.MustCompile(`^drain_\w+(\{(code|result|kind|topic|sealed_by|reason|app)="\w*"(,topic="\w+")?\})?$`)
	for _, name := range names {
		if !label.MatchString(name) {
			t.Errorf("%s is of another form", name)
		}
	}
}

// At rest every router message is a record that was committed, failed or was a
// duplicate, whatever became of other frames.
func TestTheMetricsAddUpAtRest(t *testing.T) {
	t.Parallel()
	d := open(t, func(s *setup) { s.secrets, s.MaxBody, s.Hold = secret, 64<<10, 500*time.Millisecond })
	auth := "Authorization: Bearer " + secret
	d.everything()
	fault := d.refuseProduce()
	for range 3 {
		d.want(503, frame(hello, hello, "<1>x"), auth)
	}
	release := d.fill()
	d.want(503, frame(hello), auth)
	release()
	fault.Remove()
	eventually(t, "what was kept is committed", func() bool { return d.metrics()["drain_recovered_total"] == 2 })
	d.want(200, frame(hello), auth)
	d.restsWithNothingHeld()
	m := d.metrics()
	if router, duplicate := m[`drain_messages_total{kind="router"}`], m[`drain_records_total{result="duplicate",topic="router"}`]; router != 9 || duplicate != 5 || len(d.records(routerTopic)) != 4 {
		t.Errorf("%v router messages, %v duplicates, %d records", router, duplicate, len(d.records(routerTopic)))
	}
}

// failing is a body that ends in a fault of drain's own.
type failing struct{ io.Reader }

func (f failing) Read(b []byte) (int, error) {
	if n, err := f.Reader.Read(b); err == nil {
		return n, nil
	}
	panic(what)
}

func (f failing) Close() error { return nil }

func TestAFaultHarmsItsOwnRequestOnly(t *testing.T) {
	d := open(t)
	handler := d.server.Handler()
	fail := func(headers ...string) (status int, fault any) {
		defer func() { fault = recover() }()
		r := httptest.NewRequest("POST", "/logs", failing{strings.NewReader(frame(hello))})
		r.ContentLength = 100_000
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code, nil
	}
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for range 20 {
				if a, err := d.try("POST", "/logs", strings.NewReader(frame(hello))); err != nil || a.status != 200 {
					t.Errorf("another request: %v %d", err, a.status)
				}
			}
		})
	}
	for range 10 {
		if status, fault := fail(); status != 500 || fault != nil {
			t.Errorf("answered %d, %v", status, fault)
		}
		// For a sender that takes any status for delivered the connection ends.
		if status, fault := fail(shuttles); status != 0 || fault != http.ErrAbortHandler {
			t.Errorf("log-shuttle is answered %d, %v", status, fault)
		}
	}
	others.Wait()
	d.counts(map[string]float64{
		"drain_panics_total": 20, `drain_requests_total{code="500"}`: 10, `drain_requests_total{code="closed"}`: 10,
		`drain_requests_total{code="200"}`: 80, "drain_inflight_bytes": 0,
	})
	log := d.logged.String()
	if strings.Contains(log, what) || strings.Count(log, "\n") != strings.Count(log, "level=") {
		t.Errorf("the log shows what a client sent, or more than a line an event:\n%s", log)
	}
}
