// Package usual makes router lines of the kinds that drains carry, for tests and
// benchmarks: many different ones, since few flatter whoever reads them.
package usual

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Lines makes n different router lines of the kinds that drains carry, the
// same for the same seed: both routers, three in ten paths with a query, a third
// of these with a secret in it, three in a hundred requests failed.
func Lines(n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line(r)
	}
	return lines
}

func line(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	newer := r.IntN(2) == 0
	failed := r.IntN(100) < 3

	var b strings.Builder
	status, dyno, connect := r.IntN(60)+200, fmt.Sprintf("web.%d", r.IntN(20)+1), fmt.Sprintf("%dms", r.IntN(3))
	service, size := fmt.Sprintf("%dms", r.IntN(400)), fmt.Sprint(r.IntN(90_000))
	if failed {
		switch status = 503; r.IntN(3) {
		case 0:
			b.WriteString(`at=error code=H10 desc="App crashed"`)
			dyno, connect, service, size = "", "", "", ""
		case 1:
			b.WriteString(`at=error code=H12 desc="Request timeout"`)
			service = "30000ms"
		case 2:
			b.WriteString(`sock=backend at=error code=H18 desc="Server Request Interrupted"`)
		}
	} else {
		b.WriteString("at=info")
	}
	fmt.Fprintf(&b, ` method=%s path="%s" host=%s`, pick("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"), path(r),
		pick("www.example.org", "api.example.com", "cryptic-cliffs-27764.herokuapp.com"))
	fmt.Fprintf(&b, ` request_id=%08x-%04x-%04x-%04x-%012x fwd="%s"`, r.Uint32(), r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), r.Int64N(1<<48),
		pick(address(r), address(r), address(r)+","+address(r), address(r)+", "+address(r), fmt.Sprintf("2001:db8:%x::%x", r.IntN(1<<16), r.IntN(1<<16))))
	fmt.Fprintf(&b, " dyno=%s connect=%s service=%s status=%d bytes=%s", dyno, connect, service, status, size)
	if newer {
		b.WriteString(pick(" protocol=http1.1 tls=true tls_version=unknown", " protocol=http2.0 tls=true tls_version=tls1.3", " protocol=http1.1 tls=false"))
	} else {
		b.WriteString(pick(" protocol=https", " protocol=https", " protocol=http"))
	}
	return b.String()
}

func path(r *rand.Rand) string {
	words := []string{"api", "v1", "users", "orders", "static", "search", "assets", "conversations", "available", "jobs", "en", "report.pdf"}
	var b strings.Builder
	for range r.IntN(5) + 1 {
		b.WriteString("/" + words[r.IntN(len(words))])
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "/%d", r.IntN(1_000_000))
		}
	}
	if r.IntN(10) >= 3 {
		return b.String()
	}
	params := []string{fmt.Sprintf("page=%d", r.IntN(90)), "sort=created_at", fmt.Sprintf("q=%x%%20%x", r.Uint32(), r.Uint32())}[:r.IntN(3)+1]
	if r.IntN(3) == 0 {
		name := []string{"token", "access_token", "api_key", "code", "X-Amz-Signature"}[r.IntN(5)]
		params = append(params, fmt.Sprintf("%s=%016x%016x", name, r.Uint64(), r.Uint64()))
	}
	r.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	return b.String() + "?" + strings.Join(params, "&")
}

func address(r *rand.Rand) string {
	return fmt.Sprintf("%d.%d.%d.%d", r.IntN(223)+1, r.IntN(256), r.IntN(256), r.IntN(254)+1)
}

// Frames puts lines behind Logplex's header and into frames of as many as given, as
// they come at some 1,400 a second.
func Frames(lines []string, each int) [][]byte {
	var frames [][]byte
	var frame []byte
	start := time.Date(2025, 11, 2, 9, 13, 44, 0, time.UTC)
	for i, line := range lines {
		at := start.Add(time.Duration(i) * 731 * time.Microsecond)
		message := "<158>1 " + at.Format("2006-01-02T15:04:05.000000-07:00") + " host heroku router - " + line + "\n"
		frame = fmt.Appendf(frame, "%d %s", len(message), message)
		if (i+1)%each == 0 || i+1 == len(lines) {
			frames = append(frames, frame)
			frame = nil
		}
	}
	return frames
}

// Sized makes a line of about size bytes of one: by a longer path, or by leaving out
// what it can.
func Sized(line string, size int) string {
	if len(line) > size {
		line = `at=info method=GET path="/" host=h request_id=1 fwd="1.2.3.4" dyno=web.1 connect=0ms service=1ms status=200 bytes=1`
	}
	front, rest, _ := strings.Cut(line, ` path="`)
	return front + ` path="` + strings.Repeat("/item", max(0, size-len(line))/5) + rest
}
