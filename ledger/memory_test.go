package ledger

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"drain/trial/redisserver"
	"drain/window"
)

// busy is a request of an application with 500 routes and 50 dynos: few routes have most of
// the requests, times are spread as real ones are.
func busy(r *rand.Rand, zipf *rand.Zipf, second int64) window.Request {
	q := window.Request{
		Second: second, App: []byte("shop"), Dyno: fmt.Appendf(nil, "web.%d", 1+r.IntN(50)), Bytes: int64(r.ExpFloat64() * 8000),
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

// A day of windows of 10 s takes at most 200 MB of Redis, for 500 routes and 50 dynos.
func TestMemory_ofADay(t *testing.T) {
	for _, c := range []struct {
		name       string
		perSecond  int
		windows    int
		evenRoutes bool
		most       float64 // MB a day
	}{
		{"100/s", 100, 10, false, 200},
		{"1,000/s", 1000, 8, false, 200},
		{"1,000/s, all routes alike", 1000, 5, true, 250},
		{"10,000/s", 10_000, 2, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := redisserver.Start(t).Client(t)
			l := New(client, "metrics", "router")
			r := rand.New(rand.NewPCG(1, 2))
			v := 1.0
			if c.evenRoutes {
				v = 1e9
			}
			zipf := rand.NewZipf(r, 1.1, v, 499)
			begin := time.Now().Unix()/60*60 - 600
			now := time.Unix(begin, 0)
			f := window.NewFold()
			next := int64(None)
			flush := func() {
				if err := l.Append(t.Context(), &Entry{Now: now, Chunks: f.Chunks(time.Now().Unix()), Records: int64(f.Requests), Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}); err != nil {
					t.Fatal(err)
				}
				next = max(next, 0) + 1
				f.Reset()
				if _, err := l.Tidy(t.Context(), now); err != nil {
					t.Fatal(err)
				}
			}
			for second := range int64(10 * c.windows) {
				now = time.Unix(begin+second, 0)
				for i := range c.perSecond {
					q := busy(r, zipf, begin+second)
					if f.Add(&q); i%(c.perSecond/4) == 0 || f.Full() {
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
			bytes, count := map[string]int64{}, map[string]int64{}
			for _, key := range keys {
				n, err := client.MemoryUsage(t.Context(), key).Result()
				if err != nil {
					t.Fatal(err)
				}
				name := strings.Split(key, ":")[2]
				bytes[name] += n
				count[name]++
			}
			a := func(name string) int64 { return bytes[name] / (count[name] / 2) }
			day := float64(a("10s")) * 8640 / 1e6
			t.Logf("bytes a window, both tables: 1s %d, 10s %d, 1m %d, 1h %d; a day of 10s windows %.0f MB, all that is kept %.0f MB", a("1s"), a("10s"), a("1m"), a("1h"), day,
				(float64(a("1s"))*3600+float64(a("10s"))*8640+float64(a("1m"))*14*1440+float64(a("1h"))*365*24)/1e6)
			if c.most > 0 && day > c.most {
				t.Errorf("a day of windows of 10 s takes %.0f MB", day)
			}
		})
	}
}
