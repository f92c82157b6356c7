// Package dash is the live page of the router's records: its files, its API and its stream.
package dash

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"drain/uplot"
)

//go:embed static
var embedded embed.FS

// What a page may do: talk to the host it came from, and nothing else. No script or style stands in the HTML.
const contentPolicy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// An asset is a file of the page as it is sent: plain and, where that is worth it, compressed.
type asset struct {
	contentType, tag string
	plain, packed    []byte
}

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".LICENSE": "text/plain; charset=utf-8",
}

// newAsset names content by what it is: the tag changes when it does. It panics on a file whose kind it does
// not know, which is a fault of the build and found by any test.
func newAsset(name string, content []byte) asset {
	a := asset{contentType: contentTypes[path.Ext(name)], plain: content}
	if a.contentType == "" {
		panic(fmt.Sprintf("dash: %s: no content type for it", name))
	}
	sum := sha256.Sum256(content)
	a.tag = hex.EncodeToString(sum[:12])
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is a valid one
	w.Write(content)
	w.Close() // a Buffer takes all
	if packed.Len() < len(content)*9/10 {
		a.packed = packed.Bytes()
	}
	return a
}

// serve answers with the asset and status: 200, or another that is no answer to a condition or a range.
func (a asset) serve(w http.ResponseWriter, r *http.Request, status int) {
	header := w.Header()
	pageHeaders(header)
	header.Set("Content-Type", a.contentType)
	header.Set("Vary", "Accept-Encoding")
	body, tag := a.plain, a.tag
	if a.packed != nil && takesGzip(r) {
		body, tag = a.packed, a.tag+"-gz"
		header.Set("Content-Encoding", "gzip")
	}
	if status != http.StatusOK {
		header.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			w.Write(body)
		}
		return
	}
	// Always asked for, seldom sent: a page of yesterday must not meet an API of today.
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// pageHeaders sets what every answer to a browser bears.
func pageHeaders(header http.Header) {
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
}

func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.TrimSpace(name) == "gzip" {
			q := strings.TrimPrefix(strings.TrimSpace(quality), "q=")
			return q == "" || strings.Trim(q, "0.") != "" // q=0, q=0.000: not wanted
		}
	}
	return false
}

// Static serves the files of the page: / is the page, and its scripts and styles lie beside it, so that it works
// below any prefix that the caller strips. The login form is not among them: see [LoginPage]. It holds no secret, so it
// needs no login itself: the page goes to the form when the API answers 401. Unknown paths are 404, other methods than
// GET and HEAD 405.
func Static() http.Handler {
	assets := make(map[string]asset)
	root, err := fs.Sub(embedded, "static")
	if err != nil {
		panic("dash: " + err.Error()) // the name is a constant
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "login.html" {
			return err
		}
		content, err := fs.ReadFile(root, name)
		assets["/"+name] = newAsset(name, content)
		return err
	})
	if err != nil {
		panic("dash: " + err.Error()) // the files are in the program
	}
	for name, content := range map[string]string{"uPlot.iife.min.js": uplot.Script, "uPlot.min.css": uplot.Style, "uPlot.LICENSE": uplot.License} {
		assets["/vendor/"+name] = newAsset(name, []byte(content))
	}
	assets["/"] = assets["/index.html"]
	delete(assets, "/index.html")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[r.URL.Path]
		switch {
		case !ok:
			pageHeaders(w.Header())
			http.NotFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			pageHeaders(w.Header())
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		default:
			a.serve(w, r, http.StatusOK)
		}
	})
}

// LoginPage is the login form: a password that is posted to "login", beside the page. failed makes the form that says that
// the password was wrong, answered with 401; the other is answered with 200. What was posted is not looked at here.
func LoginPage(failed bool) http.Handler {
	content, err := embedded.ReadFile("static/login.html")
	if err != nil {
		panic("dash: " + err.Error()) // the file is in the program
	}
	status := http.StatusOK
	if failed {
		status = http.StatusUnauthorized
		content = bytes.Replace(content, []byte(`role="alert" hidden`), []byte(`role="alert"`), 1)
	}
	a := newAsset("login.html", content)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, status) })
}
