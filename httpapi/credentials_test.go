package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"drain/trial/journal"
	"drain/trial/samples"
)

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestCredentialsThatAreTaken(t *testing.T) {
	const next, shop, base, till = "the-next-secret-16", "the-secret-of-shop", "c2VjcmV0IHNlY3JldA==", "c2VjcmV0IHRpbGxzIA=="
	d := open(t, func(s *setup) {
		s.secrets = secret + "," + next + "\n shop=" + shop + "\t" + base + " till=" + till
	})
	for name, tt := range map[string]struct {
		header, app string
		status      int
	}{
		"the user":                        {basic(secret, ""), "path", 200},
		"the user of https://TOKEN@":      {basic(secret, ""), "path", 200},
		"the password":                    {basic("anybody", secret), "path", 200},
		"the password of https://:TOKEN@": {basic("", secret), "path", 200},
		"both":                            {basic(secret, secret), "path", 200},
		"a bearer":                        {"Authorization: Bearer " + secret, "path", 200},
		"a bearer in small letters":       {"Authorization: bearer " + secret, "path", 200},
		"a bearer with spaces":            {"Authorization: Bearer   " + secret + " ", "path", 200},
		"the next one, at the same time":  {basic(next, ""), "path", 200},
		"one that names an app":           {basic(shop, ""), "shop", 200},
		"one that ends like base64":       {basic(base, ""), "path", 200},
		"the same behind an app":          {basic("", till), "till", 200},

		"none":                    {"X-None: x", "", 401},
		"an empty one":            {basic("", ""), "", 401},
		"an empty bearer":         {"Authorization: Bearer ", "", 401},
		"another one":             {basic("user", "another-secret-16"), "", 401},
		"a part of one":           {basic(secret[:16], ""), "", 401},
		"more than one":           {basic(secret+"y", ""), "", 401},
		"other letters":           {basic(strings.ToUpper(secret), ""), "", 401},
		"the entry with its app":  {basic("shop="+shop, ""), "", 401},
		"the app":                 {basic("shop", ""), "", 401},
		"the list":                {basic(secret+","+next, ""), "", 401},
		"the hash":                {basic("shop=", ""), "", 401},
		"another scheme":          {"Authorization: Digest " + secret, "", 401},
		"the secret alone":        {"Authorization: " + secret, "", 401},
		"basic that is no base64": {"Authorization: Basic " + secret, "", 401},
		"basic without a colon":   {"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(secret)), "", 401},
		"in another header":       {"X-Authorization: Bearer " + secret, "", 401},
		"for a proxy":             {"Proxy-Authorization: Bearer " + secret, "", 401},
	} {
		t.Run(name, func(t *testing.T) {
			d := d.in(t)
			a := d.do("POST", "/logs/path", strings.NewReader(frame(line("/"+strings.ReplaceAll(name, " ", "-")))), tt.header)
			if a.status != tt.status {
				t.Fatalf("answered %d", a.status)
			}
			if a.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Error("does not say how to authenticate")
			}
			for _, r := range d.records(routerTopic) {
				if r.field("path") == "/"+strings.ReplaceAll(name, " ", "-") && r.field("app") != tt.app {
					t.Errorf("app is %q, want %q", r.field("app"), tt.app)
				}
			}
		})
	}
	if m := d.metrics(); m[`drain_frames_total{result="unauthorized"}`] != 17 || m[`drain_requests_total{code="401"}`] != 17 {
		t.Errorf("counted %v", m)
	}
}

// Who still uses which secret is seen before one is taken away.
func TestSecretsAreCountedByTheirApp(t *testing.T) {
	const shop, till, plain = "the-secret-of-shop", "the-secret-of-till", "a-secret-without-app"
	d := open(t, func(s *setup) { s.secrets = "shop=" + shop + " shop=the-next-one-of-shop till=" + till + " " + plain })
	for i, password := range []string{shop, shop, "the-next-one-of-shop", plain, "a-wrong-one-of-shop"} {
		want := 200
		if i == 4 {
			want = 401
		}
		d.want(want, frame(line(fmt.Sprint(i))), basic("", password))
	}
	d.counts(map[string]float64{`drain_authorized_total{app="shop"}`: 3, `drain_authorized_total{app="till"}`: 0, `drain_authorized_total{app=""}`: 1})
}

func TestWithoutSecretsEverybodyMayPost(t *testing.T) {
	d := open(t)
	d.want(200, frame(hello))
	d.want(200, frame(hello), basic("anybody", "anything"))
}

func TestSecretsThatAreRefusedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, tt := range map[string]struct{ secrets, file, says string }{
		"short":                 {secret + ",swordfish", "", "DRAIN_SECRETS: entry 2"},
		"short behind an app":   {"shop=swordfish", "", "DRAIN_SECRETS: entry 1"},
		"an app without one":    {"a-name-longer-than-that=", "", "DRAIN_SECRETS: entry 1"},
		"nothing but commas":    {" , ,\n", "", "DRAIN_SECRETS: "},
		"a short one in a file": {"", file("short", "swordfish"), "DRAIN_SECRETS_FILE: "},
		"an empty file":         {"", file("empty", " \n"), "DRAIN_SECRETS_FILE: "},
		"no file":               {secret, filepath.Join(dir, "none"), "DRAIN_SECRETS_FILE: "},
		"a folder":              {"", dir, "DRAIN_SECRETS_FILE: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewCredentials(tt.secrets, tt.file, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err == nil {
				t.Fatal("taken")
			}
			text := err.Error()
			if !strings.HasPrefix(text, tt.says) || strings.Contains(text, "\n") {
				t.Errorf("says %q, want %q", text, tt.says)
			}
			if strings.Contains(text, "swordfish") || strings.Contains(text, secret) {
				t.Errorf("shows a secret: %q", text)
			}
		})
	}
}

// secretsFile is a file that Credentials watch; hup makes them look at it.
type watched struct {
	*Credentials
	t    *testing.T
	path string
	hup  chan os.Signal
	log  *journal.Journal
	reg  *prometheus.Registry
}

func watch(t *testing.T, fixed, text string) *watched {
	w := &watched{t: t, path: filepath.Join(t.TempDir(), "secrets"), hup: make(chan os.Signal), log: new(journal.Journal), reg: prometheus.NewRegistry()}
	w.write(text)
	var err error
	w.Credentials, err = NewCredentials(fixed, w.path, slog.New(slog.NewTextHandler(w.log, nil)), w.reg)
	must(t, err)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { w.Run(ctx, w.hup) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return w
}

func (w *watched) write(text string) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.path, []byte(text), 0o600))
}

// reload makes the file be read: the second signal is taken when the first is
// done with.
func (w *watched) reload() {
	w.hup <- os.Interrupt
	w.hup <- os.Interrupt
}

func (w *watched) takes(secret string) bool {
	r, _ := http.NewRequest("POST", "/logs", nil)
	r.SetBasicAuth("", secret)
	_, ok := w.Check(r)
	return ok
}

func (w *watched) broken() bool {
	value, found := samples.Sum(w.t, w.reg, "drain_secrets_file_broken")
	if !found {
		w.t.Fatal("no such metric")
	}
	return value == 1
}

func TestTheFileOfSecretsIsReadAgain(t *testing.T) {
	const first, second, fixed = "the-first-secret-of", "the-second-secret-of", "the-secret-that-stays"
	w := watch(t, fixed, first+"\n")
	if !w.takes(first) || !w.takes(fixed) || w.takes(second) {
		t.Fatal("at the start")
	}
	w.write(first + "\n" + second)
	w.reload()
	if !w.takes(first) || !w.takes(fixed) || !w.takes(second) || w.broken() {
		t.Fatal("both are live while a secret is changed for another")
	}
	w.write(second)
	w.reload()
	if w.takes(first) || !w.takes(fixed) || !w.takes(second) {
		t.Fatal("the first one was withdrawn")
	}
}

func TestAFileOfSecretsThatCannotBeUsedChangesNothing(t *testing.T) {
	const good, next = "the-good-secret-of-all", "the-next-secret-of-all"
	for name, spoil := range map[string]func(w *watched){
		"emptied":          func(w *watched) { w.write("") },
		"only white space": func(w *watched) { w.write(" \n,\n") },
		"a short secret":   func(w *watched) { w.write(next + "\nswordfish\n") },
		"removed":          func(w *watched) { must(w.t, os.Remove(w.path)) },
		"a folder": func(w *watched) {
			must(w.t, os.Remove(w.path))
			must(w.t, os.Mkdir(w.path, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "", good)
			spoil(w)
			for range 3 { // however often it is looked at
				w.reload()
				if !w.takes(good) || w.takes(next) || w.takes("") || !w.Any() {
					t.Fatal("the last good list is not kept")
				}
				if !w.broken() {
					t.Fatal("nobody is told")
				}
			}
			if n := strings.Count(w.log.String(), "level=ERROR"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, w.log)
			}
			if strings.Contains(w.log.String(), "swordfish") {
				t.Errorf("shows a secret: %s", w.log)
			}
			must(t, os.RemoveAll(w.path))
			w.write(good) // the same as before
			w.reload()
			if w.broken() || !w.takes(good) {
				t.Error("it is mended, and nobody is told")
			}
		})
	}
}

func TestTheFileOfSecretsIsWatched(t *testing.T) {
	t.Parallel()
	w := watch(t, "", secret)
	w.write("another-secret-for-all")
	eventually(t, "the change is seen without a signal", func() bool { return w.takes("another-secret-for-all") })
}

// No secret is shown, whatever is done with it.
func TestSecretsAreNotShown(t *testing.T) {
	const token = "the-metrics-token-of-all"
	d := open(t, func(s *setup) { s.secrets, s.MetricsToken = "shop="+secret, token })
	shown := new(strings.Builder)
	for _, body := range []string{frame(hello), "GIF89a", "", "999 <1>1 -"} {
		for _, h := range []string{basic(secret, ""), basic("x", secret), "Authorization: Bearer " + secret, "Authorization: Bearer x" + secret} {
			for _, path := range []string{"/logs", "/logs/app", "/nowhere", "/metrics"} {
				a := d.do("POST", path, strings.NewReader(body), h)
				shown.WriteString(a.body)
				for name, values := range a.header {
					shown.WriteString(name + strings.Join(values, ""))
				}
			}
		}
	}
	a := d.do("GET", "/metrics", nil, "Authorization: Bearer "+token)
	if a.status != 200 || !strings.Contains(a.body, "drain_frames_total") {
		t.Fatalf("answered %d", a.status)
	}
	shown.WriteString(a.body)
	shown.WriteString(d.logged.String())
	for _, r := range d.records(routerTopic) {
		shown.WriteString(r.key + r.value)
	}
	for _, s := range []string{secret, token, base64.StdEncoding.EncodeToString([]byte(secret + ":"))} {
		if strings.Contains(shown.String(), s) {
			t.Errorf("%s is shown", s)
		}
	}
}

func TestMetricsAreForThoseWhoShowTheToken(t *testing.T) {
	const token = "the-metrics-token-of-all"
	d := open(t, func(s *setup) { s.MetricsToken, s.secrets = token, secret })
	for header, status := range map[string]int{
		"X-None: x":                            401,
		"Authorization: Bearer " + token:       200,
		"Authorization: Bearer " + token + "s": 401,
		"Authorization: Bearer " + token[:20]:  401,
		"Authorization: Bearer ":               401,
		"Authorization: Bearer " + secret:      401,
		basic("", token):                       401,
	} {
		if a := d.do("GET", "/metrics", nil, header); a.status != status || status == 401 && strings.Contains(a.body, "drain_") {
			t.Errorf("%s: answered %d %.40q", header, a.status, a.body)
		}
	}
	if a := d.do("HEAD", "/metrics", nil, "Authorization: Bearer "+token); a.status != 200 {
		t.Errorf("HEAD is answered %d", a.status)
	}
	if a := d.do("POST", "/metrics", nil); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST is answered %d %v", a.status, a.header)
	}
	if a := open(t).do("GET", "/metrics", nil, "Authorization: Bearer "); a.status != 404 {
		t.Errorf("without a token set, answered %d", a.status)
	}
}

func FuzzSecretsAreReadAsTheyAreWritten(f *testing.F) {
	for _, s := range []string{secret, "a=" + secret, "a,b", "=", "====", "a=====================", "\xff=" + secret, " , ", "c2VjcmV0IHNlY3JldA=="} {
		f.Add(s, "Basic "+s, s)
	}
	f.Fuzz(func(t *testing.T, list, header, password string) {
		found, err := parseSecrets(list)
		if err != nil {
			for entry := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
				if len(entry) > 4 && strings.Contains(err.Error(), entry) && !strings.Contains("entry has a secret of characters: use at least names an app without", entry) {
					t.Errorf("%q is shown by %q", entry, err)
				}
			}
			return
		}
		c, err := NewCredentials(list, "", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			if len(found) > 0 {
				t.Fatal(err)
			}
			return
		}
		r := &http.Request{Header: http.Header{"Authorization": {header}}}
		if app, ok := c.Check(r); ok && c.Any() && !strings.Contains(list, app) {
			t.Errorf("app %q of nowhere", app)
		}
		r.SetBasicAuth("", password)
		_, ok := c.Check(r)
		if c.Any() && ok != holds(list, password) {
			t.Errorf("%q is taken: %v, by the list %q", password, ok, list)
		}
	})
}

// holds tells whether password is an entry of list, or what stands behind the
// first `=` of one.
func holds(list, password string) bool {
	for entry := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		_, behind, named := strings.Cut(entry, "=")
		if strings.Trim(behind, "=") == "" {
			named = false
		}
		if named && behind == password || !named && entry == password {
			return true
		}
	}
	return false
}

// A secret that Heroku's sender cannot carry is warned of, not refused: curl can.
func TestASecretThatNoURLHoldsIsWarnedOf(t *testing.T) {
	for secret, warned := range map[string]bool{"0123456789abcdef": false, "app=0123456789abcdef": false, "0123456789abcde:": true, "0123456789abcde@": true,
		"0123456789abcde/": true, "app=0123456789abcde%": true} {
		log := new(journal.Journal)
		if _, err := NewCredentials("0123456789abcdeg "+secret, "", slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "cannot stand in a drain's URL") != warned || strings.Contains(log.String(), "0123456789abc") {
			t.Errorf("%q: %s", secret, log.String())
		}
	}
}
