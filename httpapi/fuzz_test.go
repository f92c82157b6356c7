package httpapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/gzip"

	"drain/intake"
	"drain/publish"
)

func bodies(f *testing.F, add func(body []byte)) {
	for _, body := range []string{
		"", "x", lines, hello, frame(notice) + lines, "83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n",
		"99999999999999999999 " + hello, "-5 " + hello, "0 <1>", "<1>x\n<2>", "\x1f\x8b", zipped(lines), zipped(lines)[:40], zipped(lines) + zipped("x") + "y",
		zipped(zipped(lines)), "2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info path=\"/?token=x\" host=h\n",
		frame(head+`at=info method=GET path="/?token=s3" host=h dyno=x`, head), strings.Repeat("1 <", 1000),
	} {
		add([]byte(body))
	}
}

// FuzzABodyIsReadAsTheLibraryReadsIt compares with io and gzip.
func FuzzABodyIsReadAsTheLibraryReadsIt(f *testing.F) {
	bodies(f, func(body []byte) { f.Add(body, true, uint16(4096)) })
	f.Fuzz(func(t *testing.T, body []byte, chunks bool, limit uint16) {
		all := publish.NewBudget(64 << 20)
		in := &post{budget: budget{all: all, account: new(publish.Account), weight: 4, ctx: t.Context(), deadline: time.Now().Add(time.Second)}}
		r := httptest.NewRequest("POST", "/logs", io.NopCloser(iotest.HalfReader(bytes.NewReader(body))))
		r.ContentLength = int64(len(body))
		if chunks {
			r.ContentLength = -1
		}
		err := in.readBody(httptest.NewRecorder(), r, int(limit))
		want, most := body, int(limit)
		if plain, zerr := gzip.NewReader(bytes.NewReader(body)); zerr == nil {
			want, zerr = io.ReadAll(io.LimitReader(plain, int64(limit)*inflateFactor+1))
			if most = inflateFactor * int(limit); zerr != nil && !in.damaged && err == nil {
				t.Error("what is damaged is taken for whole")
			}
		}
		switch tooLarge := len(body) > int(limit) || len(want) > most; {
		case tooLarge != errors.Is(err, errTooLarge):
			t.Errorf("%d bytes of at most %d, %d inflated: %v", len(body), limit, len(want), err)
		case tooLarge:
		case err != nil:
			t.Error(err)
		case !bytes.Equal(in.body, want):
			t.Errorf("%q, want %q", in.body, want)
		}
		if in.budget.held < min(len(in.body), int(all.Size())) && err == nil {
			t.Errorf("holds %d for %d bytes", in.budget.held, len(in.body))
		}
		in.budget.shrink(0)
		if all.Used() != 0 {
			t.Errorf("%d bytes are not given back", all.Used())
		}
	})
}

// FuzzNoBodyHarmsTheDoor posts anything: the answer is one of the contract's,
// nothing stays held, and the metrics add up.
func FuzzNoBodyHarmsTheDoor(f *testing.F) {
	d := open(f, func(s *setup) { s.Logs, s.MaxBody, s.Hold, s.Key = true, 256<<10, 20*time.Second, intake.KeyHost })
	handler := d.server.Handler()
	bodies(f, func(body []byte) { f.Add(body, "09C557EAFCFB6CF2740EE62F62971098", "d.1", false) })
	f.Fuzz(func(t *testing.T, body []byte, frameID, drain string, zip bool) {
		if zip {
			body = []byte(zipped(string(body)))
		}
		post := func(length int64) int {
			r := httptest.NewRequest("POST", "/logs/app", bytes.NewReader(body))
			r.ContentLength = length
			r.Header["Logplex-Frame-Id"], r.Header["Logplex-Drain-Token"] = []string{frameID}, []string{drain}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Code
		}
		began := time.Now()
		code := post(int64(len(body)))
		if code != 200 && code != 400 && code != 413 {
			t.Errorf("answered %d", code)
		}
		if again := post(-1); again != code {
			t.Errorf("answered %d, in chunks %d", code, again)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		d.in(t).restsWithNothingHeld()
	})
}

// What a header shows is what net/http reads of it.
func FuzzAuthorization(f *testing.F) {
	for _, header := range []string{"", "Basic", "Basic Og==", "basic dXNlcjpzZWNyZXQ=", "Bearer x", "Basic dXNlcg==",
		"Basic " + strings.Repeat("QUFB", 400), "Basic " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 900)+":b"))} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		var buf [1024]byte
		shown := showing(buf[:], header)
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
		if scheme, token, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Bearer") {
			user = strings.TrimSpace(token)
		}
		if string(shown[0]) != user || string(shown[1]) != password {
			t.Errorf("%q: %q, want %q %q", header, shown, user, password)
		}
	})
}
