package ledger

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"drain/trial/redisserver"
	"drain/window"
)

var long = flag.Bool("long", false, "measure every figure of docs/metrics.md, for minutes")

// application is one whose routes have few most of the requests, unless they are even, and
// whose times are spread as real ones are.
type application struct {
	routes, dynos int
	even          bool
}

// requests makes requests of it.
func (a application) requests() func(second int64) window.Request {
	r := rand.New(rand.NewPCG(1, 2))
	v := 1.0
	if a.even {
		v = 1e9
	}
	zipf := rand.NewZipf(r, 1.1, v, uint64(a.routes-1))
	return func(second int64) window.Request {
		q := window.Request{
			Second: second, App: []byte("shop"), Dyno: fmt.Appendf(nil, "web.%d", 1+r.IntN(a.dynos)), Bytes: int64(r.ExpFloat64() * 8000),
			Service: int64(math.Exp(r.NormFloat64()*0.9 + 3.5)), Connect: int64(r.ExpFloat64()), Status: 200,
		}
		n := zipf.Uint64()
		q.Method, q.Route = []string{"GET", "GET", "GET", "POST"}[n%4], fmt.Sprintf("/%s/:id/%s/%d", []string{"users", "orders", "products", "api/v1/carts"}[n%4], []string{"edit", "items", "history"}[n%3], n)
		switch p := r.IntN(1000); {
		case p < 2:
			q.Status, q.Code = 503, []byte("H12")
		case p < 6:
			q.Status = 500
		case p < 40:
			q.Status = 404
		case p < 140:
			q.Status = 302
		case p < 200:
			q.Status = 304
		}
		return q
	}
}

// A day of windows of 10 s takes at most 200 MB of Redis, for 500 routes and 50 dynos.
func TestMemory_ofADay(t *testing.T) {
	type figure struct {
		name      string
		perSecond int
		seconds   int64
		app       application
		most      float64 // MB a day
	}
	figures := []figure{
		{"100 a second", 100, 60, application{500, 50, false}, 200},
		{"1,000 a second", 1000, 40, application{500, 50, false}, 200},
		{"1,000 a second, all routes alike", 1000, 20, application{500, 50, true}, 250},
	}
	if *long {
		figures = append(figures, figure{"10,000 a second", 10_000, 20, application{500, 50, false}, 1000},
			figure{"100 a second, 30 routes, 4 dynos", 100, 60, application{30, 4, false}, 30})
	}
	for _, f := range figures {
		t.Run(f.name, func(t *testing.T) {
			short := kept(t, f.app, f.perSecond, f.seconds, 4)
			day := float64(short["10s"]) * 8640 / 1e6
			t.Logf("bytes a window, both tables: 1s %d, 10s %d; a day of windows of 10 s: %.0f MB", short["1s"], short["10s"], day)
			if day > f.most {
				t.Errorf("a day of windows of 10 s takes %.0f MB", day)
			}
			if !*long {
				return
			}
			whole := kept(t, f.app, f.perSecond, 3600, 0)
			t.Logf("1m %d, 1h %d; a fortnight of windows of 1 min and a year of windows of 1 h: %.0f and %.0f MB", whole["1m"], whole["1h"],
				float64(whole["1m"])*14*1440/1e6, float64(whole["1h"])*365*24/1e6)
		})
	}
}

// kept is how many bytes of Redis a window takes, by its resolution, after so many seconds of requests from
// the beginning of an hour, appended so many times a second, or, if 0, whenever a fold is full.
func kept(t *testing.T, app application, perSecond int, seconds int64, flushes int) map[string]int64 {
	client := redisserver.Start(t).Client(t)
	l := New(client, "metrics", "router")
	begin := time.Now().Unix() / 3600 * 3600
	now := time.Unix(begin, 0)
	fold := window.NewFold()
	next := int64(None)
	flush := func() {
		if err := l.Append(t.Context(), &Entry{Now: now, Chunks: fold.Chunks(now.Unix()), Records: int64(fold.Requests), Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}); err != nil {
			t.Fatal(err)
		}
		next = max(next, 0) + 1
		fold.Reset()
		if _, err := l.Tidy(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	request := app.requests()
	for second := begin; second < begin+seconds; second++ {
		now = time.Unix(second, 0)
		for i := range perSecond {
			q := request(second)
			if fold.Add(&q); flushes > 0 && i%(perSecond/flushes) == 0 || fold.Full() {
				flush()
			}
		}
	}
	flush()
	now = now.Add(time.Hour)
	if _, err := l.Tidy(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	bytes, windows := map[string]int64{}, map[string]int64{}
	for _, key := range keys {
		n, err := client.MemoryUsage(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Split(key, ":")[2]
		bytes[name] += n
		windows[name]++
	}
	for name := range bytes {
		bytes[name] /= max(windows[name]/2, 1) // two tables
	}
	return bytes
}
