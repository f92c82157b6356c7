package dash_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"drain/dash"
)

// ask asks a handler, with headers given as "Name: value".
func ask(h http.Handler, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestStaticFiles(t *testing.T) {
	files := dash.Static()
	for _, tt := range []struct {
		method, path string
		code         int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"}, {"HEAD", "/", 200, "text/html; charset=utf-8"}, {"GET", "/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/style.css", 200, "text/css; charset=utf-8"}, {"GET", "/icon.svg", 200, "image/svg+xml"}, {"GET", "/vendor/uPlot.iife.min.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/vendor/uPlot.LICENSE", 200, "text/plain; charset=utf-8"}, {"GET", "/index.html", 404, ""}, {"GET", "/login.html", 404, ""}, {"GET", "/../static.go", 404, ""},
		{"GET", "/vendor", 404, ""}, {"GET", "/nothing", 404, ""}, {"POST", "/", 405, ""}, {"DELETE", "/app.js", 405, ""},
	} {
		a := ask(files, tt.method, tt.path)
		body, _ := io.ReadAll(a.Body)
		if a.StatusCode != tt.code || tt.contentType != "" && a.Header.Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s: %d, %s", tt.method, tt.path, a.StatusCode, a.Header.Get("Content-Type"))
		}
		if (len(body) == 0) != (tt.method == "HEAD") {
			t.Errorf("%s %s: %d bytes", tt.method, tt.path, len(body))
		}
	}
}

func TestNothingElseMayRunInThePage(t *testing.T) {
	for name, a := range map[string]*http.Response{
		"page": ask(dash.Static(), "GET", "/"), "script": ask(dash.Static(), "GET", "/app.js"), "not found": ask(dash.Static(), "GET", "/x"), "not allowed": ask(dash.Static(), "PUT", "/"),
		"login": ask(dash.LoginPage(false), "GET", "/login"), "failed login": ask(dash.LoginPage(true), "POST", "/login"),
	} {
		policy := a.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "object-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %s", name, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", name, policy)
		}
		if h := a.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", name, h)
		}
	}
	// Names come from outside: none of our scripts makes markup of text, and no markup holds a script or a style.
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|setHTML|createContextualFragment|srcdoc`)
	inline := regexp.MustCompile(`(?i)<script(?:\s+(?:data-login|defer|type="module"|src="[^":]*"))*>[^<]|<style|\sstyle=|\son\w+=|javascript:|(?:src|href)="(?:https?:)?//`)
	err := filepath.WalkDir("static", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "vendor") {
			return err
		}
		content, err := os.ReadFile(path)
		if found := markup.Find(content); found != nil && strings.HasSuffix(path, ".js") {
			t.Errorf("%s: %s", path, found)
		}
		if found := inline.Find(content); found != nil && strings.HasSuffix(path, ".html") {
			t.Errorf("%s: %s", path, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreSentOnceAndSmall(t *testing.T) {
	files := dash.Static()
	plain := ask(files, "GET", "/app.js")
	whole, _ := io.ReadAll(plain.Body)
	for _, tt := range []struct {
		accept string
		packed bool
	}{{"", false}, {"gzip", true}, {"br, gzip;q=0.5", true}, {"deflate, gzip ; q=1.0, *;q=0", true}, {"gzip;q=0", false}, {"gzip; q=0.000", false}, {"br", false}, {"xgzip", false}} {
		a := ask(files, "GET", "/app.js", "Accept-Encoding: "+tt.accept)
		body, _ := io.ReadAll(a.Body)
		if packed := a.Header.Get("Content-Encoding") == "gzip"; packed != tt.packed {
			t.Errorf("%q: packed is %v", tt.accept, packed)
			continue
		}
		if a.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: Vary is %q", tt.accept, a.Header.Get("Vary"))
		}
		if tt.packed {
			if len(body) > len(whole)/2 {
				t.Errorf("%d bytes, packed %d", len(whole), len(body))
			}
			r, err := gzip.NewReader(strings.NewReader(string(body)))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if string(body) != string(whole) {
			t.Errorf("%q: other bytes", tt.accept)
		}
		// What the browser has is not sent again, and another form is not taken for it.
		tag := a.Header.Get("ETag")
		if again := ask(files, "GET", "/app.js", "Accept-Encoding: "+tt.accept, "If-None-Match: "+tag); tag == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%q with the tag %s: %d", tt.accept, tag, again.StatusCode)
		}
		if tt.packed == (tag == plain.Header.Get("ETag")) {
			t.Errorf("%q: the tag %s does not tell the forms apart", tt.accept, tag)
		}
	}
	// Small enough for a phone: all of the page, packed.
	sum := 0
	for _, path := range append(pageFiles(t), "/") {
		a := ask(files, "GET", path, "Accept-Encoding: gzip")
		body, _ := io.ReadAll(a.Body)
		sum += len(body)
	}
	if sum > 64<<10 {
		t.Errorf("the page takes %d bytes", sum)
	}
	t.Logf("the page takes %d bytes, packed", sum)
}

// pageFiles are the files that the page names.
func pageFiles(t *testing.T) (paths []string) {
	content, err := os.ReadFile("static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:src|href)="([\w./]+)"`).FindAllStringSubmatch(string(content), -1) {
		if path := "/" + m[1]; strings.Contains(m[1], ".") && !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	// Every module is named there, so that none waits for another to be read.
	modules, err := filepath.Glob("static/*.js")
	if err != nil || len(modules) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, module := range modules {
		if !seen["/"+filepath.Base(module)] {
			t.Errorf("index.html does not name %s", module)
		}
	}
	return paths
}

func TestTheLoginForm(t *testing.T) {
	for _, tt := range []struct {
		failed bool
		code   int
		said   bool
	}{{false, http.StatusOK, false}, {true, http.StatusUnauthorized, true}} {
		for _, coding := range []string{"", "gzip"} {
			a := ask(dash.LoginPage(tt.failed), "GET", "/login", "Accept-Encoding: "+coding)
			body := io.Reader(a.Body)
			if a.Header.Get("Content-Encoding") == "gzip" {
				r, err := gzip.NewReader(body)
				if err != nil {
					t.Fatal(err)
				}
				body = r
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(string(text), `<p id="failed" role="alert">`); a.StatusCode != tt.code || said != tt.said || !strings.Contains(string(text), `method="post" action="login"`) {
				t.Errorf("failed %v: %d, %s", tt.failed, a.StatusCode, text)
			}
		}
	}
}

// A library's licence goes with it.
func TestTheLicenceOfTheChartsIsKept(t *testing.T) {
	a := ask(dash.Static(), "GET", "/vendor/uPlot.LICENSE")
	if body, _ := io.ReadAll(a.Body); !strings.Contains(string(body), "Leon Sorokin") || !strings.Contains(string(body), "MIT License") {
		t.Errorf("%s", body)
	}
}
