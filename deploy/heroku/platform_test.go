package heroku_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	apiToken = "HRKU-0123456789abcdef0123"
	drainApp = "my-drain"
	// What the Deploy button makes, and what another app has.
	buttonSecret = "8c7f0de1d9d3a2b54c6f1e0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c"
	otherEntry   = "other-app=5f4dcc3b5aa765d61d8327deb882cf99"
)

// logDrain is one as the Platform API tells of it.
type logDrain struct {
	Addon     any    `json:"addon"`
	CreatedAt string `json:"created_at"`
	ID        string `json:"id"`
	Token     string `json:"token"`
	UpdatedAt string `json:"updated_at"`
	URL       string `json:"url"`
}

func (d *logDrain) secret() string {
	at, _ := url.Parse(d.URL)
	password, _ := at.User.Password()
	return password
}

// platform is a Heroku: those endpoints of its Platform API that attach needs, with the
// shapes that its reference documents, and an app that runs drain, which it starts again
// with each change of its config vars.
type platform struct {
	t      *testing.T
	api    *httptest.Server
	port   string        // of the drain
	runs   chan struct{} // one place: held while a dyno is exchanged
	kafka  string
	change sync.WaitGroup // dynos that are being exchanged

	mu      sync.Mutex // guards the following
	vars    map[string]string
	drains  []*logDrain // of the app my-shop
	calls   []string    // METHOD PATH, in their order
	secrets []string    // all that DRAIN_SECRETS ever held
	made    int         // log drains ever made
	dyno    *dyno
	hook    func(call int, carriedOut bool) (fail bool)
}

// newPlatform starts a drain with these secrets.
func newPlatform(t *testing.T, secrets string) *platform {
	t.Helper()
	p := &platform{t: t, port: freePort(t), kafka: newKafka(t), runs: make(chan struct{}, 1), drains: []*logDrain{},
		vars: map[string]string{"DRAIN_SECRETS": secrets, "KAFKA_URL": "…"}}
	p.note(secrets)
	p.dyno = p.begin(secrets)
	p.api = httptest.NewServer(p)
	t.Cleanup(func() {
		p.api.Close()
		p.change.Wait()
	})
	eventually(t, "drain is ready", p.ready)
	return p
}

func (p *platform) begin(secrets string) *dyno {
	return start(p.t, "drain", p.port, "KAFKA_URL="+p.kafka, "KAFKA_TOPIC=router", "DRAIN_SECRETS="+secrets)
}

func (p *platform) ready() bool {
	status, _ := send("GET", "http://127.0.0.1:"+p.port+"/readyz", "")
	return status == 200
}

func (p *platform) note(secrets string) {
	for entry := range strings.FieldsFuncSeq(secrets, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		if app, secret, named := strings.Cut(entry, "="); named {
			p.secrets = append(p.secrets, secret)
		} else {
			p.secrets = append(p.secrets, app)
		}
	}
}

// exchange has the old dyno go on for a while, then starts one with the new settings.
func (p *platform) exchange(secrets string) {
	p.change.Go(func() {
		p.runs <- struct{}{}
		defer func() { <-p.runs }()
		time.Sleep(60 * time.Millisecond) // the old one still answers
		p.mu.Lock()
		old := p.dyno
		p.mu.Unlock()
		old.stop()
		fresh := p.begin(secrets)
		p.mu.Lock()
		p.dyno = fresh
		p.mu.Unlock()
	})
}

// knows tells whether the running drain takes a secret.
func (p *platform) knows(secret string) bool {
	r, err := http.NewRequest("POST", "http://127.0.0.1:"+p.port+"/logs", nil)
	must(p.t, err)
	r.SetBasicAuth("drain", secret)
	res, err := client.Do(r)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusBadRequest // the body is empty
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, r.Method+" "+r.URL.Path)
	call := len(p.calls)
	if p.hook != nil && p.hook(call, false) {
		problem(w, 503, "service_unavailable", "Heroku API is unavailable.")
		return
	}
	answer := httptest.NewRecorder()
	p.carryOut(answer, r)
	p.coherent()
	if p.hook != nil {
		p.hook(call, true)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = io.Copy(w, answer.Body)
}

func (p *platform) carryOut(w http.ResponseWriter, r *http.Request) {
	const shop, drain = "/apps/my-shop", "/apps/" + drainApp
	switch {
	case r.Header.Get("Authorization") != "Bearer "+apiToken:
		problem(w, 401, "unauthorized", "Invalid credentials provided.")
		return
	case r.Header.Get("Accept") != "application/vnd.heroku+json; version=3":
		problem(w, 404, "not_found", "The requested API endpoint was not found. Are you using the right HTTP verb (i.e. `GET` vs. `POST`), and did you specify your intended version with the `Accept` header?")
		return
	}
	var body map[string]string
	if r.Method == "POST" || r.Method == "PATCH" {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
			problem(w, 400, "bad_request", "Unable to parse request body.")
			return
		}
	}
	id, one := strings.CutPrefix(r.URL.Path, shop+"/log-drains/")
	switch route := r.Method + " " + r.URL.Path; {
	case route == "GET "+drain:
		reply(w, 200, map[string]any{"id": "01234567-89ab-cdef-0123-456789abcdef", "name": drainApp, "web_url": "https://127.0.0.1:" + p.port + "/",
			"stack": map[string]string{"name": "heroku-24"}, "archived_at": nil, "maintenance": false})
	case route == "GET "+drain+"/config-vars":
		reply(w, 200, p.vars)
	case route == "PATCH "+drain+"/config-vars":
		p.vars["DRAIN_SECRETS"] = body["DRAIN_SECRETS"]
		p.note(body["DRAIN_SECRETS"])
		p.exchange(body["DRAIN_SECRETS"])
		reply(w, 200, p.vars)
	case route == "GET "+shop+"/log-drains":
		reply(w, 200, p.drains)
	case route == "POST "+shop+"/log-drains":
		if slices.ContainsFunc(p.drains, func(d *logDrain) bool { return d.URL == body["url"] }) {
			problem(w, 422, "invalid_params", "Url has already been taken")
			return
		}
		d := p.makeDrain(body["url"])
		if !p.knows(d.secret()) {
			p.t.Errorf("a drain is attached with a secret that drain does not take yet: %s", d.URL)
		}
		reply(w, 201, d)
	case r.Method == "DELETE" && one:
		i := slices.IndexFunc(p.drains, func(d *logDrain) bool { return d.ID == id })
		if i < 0 {
			problem(w, 404, "not_found", "Couldn't find that log drain.")
			return
		}
		if p.drains[i].Addon != nil {
			p.t.Error("an add-on's drain is removed")
		}
		reply(w, 200, p.drains[i])
		p.drains = slices.Delete(p.drains, i, i+1)
	case strings.HasPrefix(r.URL.Path, "/apps/nobodys"):
		problem(w, 404, "not_found", "Couldn't find that app.")
	default:
		p.t.Errorf("attach calls %s", route)
		problem(w, 404, "not_found", "The requested API endpoint was not found.")
	}
}

// byHand makes a log drain as somebody may by hand, or an add-on.
func (p *platform) byHand(at string, addon any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.makeDrain(at).Addon = addon
}

// makeDrain is with p.mu held.
func (p *platform) makeDrain(at string) *logDrain {
	p.made++
	d := &logDrain{CreatedAt: "2026-01-01T12:00:00Z", UpdatedAt: "2026-01-01T12:00:00Z", URL: at,
		ID: fmt.Sprintf("01234567-89ab-cdef-0123-%012d", p.made), Token: fmt.Sprintf("d.01234567-89ab-cdef-0123-%012d", p.made)}
	p.drains = append(p.drains, d)
	return d
}

// coherent checks what must hold at every moment: Heroku has no drain of ours whose
// secret is not among drain's, and the other apps' secrets are where they were.
func (p *platform) coherent() {
	for _, d := range p.ours() {
		if !strings.Contains(p.vars["DRAIN_SECRETS"], d.secret()) {
			p.t.Errorf("a log drain has a secret that drain was told to forget: %s", p.calls)
		}
	}
	if !strings.Contains(p.vars["DRAIN_SECRETS"], otherEntry) {
		p.t.Errorf("the secret of another app is gone: %s", p.calls)
	}
}

// ours are the drains that lead to our drain; it is with p.mu held.
func (p *platform) ours() (found []*logDrain) {
	for _, d := range p.drains {
		if strings.HasSuffix(d.URL, "@127.0.0.1:"+p.port+"/logs") {
			found = append(found, d)
		}
	}
	return found
}

// state is what attach is to bring about: the URL of the one drain, and the secrets.
func (p *platform) state() (drain, secrets string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := p.ours()
	if len(ours) != 1 {
		p.t.Errorf("%d drains lead to drain", len(ours))
		return "", p.vars["DRAIN_SECRETS"]
	}
	return ours[0].URL, p.vars["DRAIN_SECRETS"]
}

func (p *platform) count() (calls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// settled waits until the dyno runs with what was set last.
func (p *platform) settled() {
	p.t.Helper()
	p.change.Wait()
	eventually(p.t, "drain is ready", p.ready)
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func problem(w http.ResponseWriter, status int, id, message string) {
	reply(w, status, map[string]string{"id": id, "message": message})
}
