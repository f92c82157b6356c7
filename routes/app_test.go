package routes

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// application is one with 300 routes, of which few have most of the requests: the
// last has one in 1,900.
type application struct {
	routes []Name
	share  []float64 // summed up
}

func newApplication() *application {
	a := new(application)
	add := func(template string, methods ...string) {
		for _, m := range methods {
			a.routes = append(a.routes, Name{m, template})
		}
	}
	add("/", "GET")
	for _, page := range strings.Fields("about pricing contact terms privacy login logout signup search cart checkout health robots.txt favicon.ico sitemap.xml feed help press jobs status") {
		add("/"+page, "GET")
	}
	add("/login", "POST")
	add("/users/me", "GET", "PUT")
	add("/users/settings", "GET", "POST")
	for _, resource := range strings.Fields("users orders products invoices carts reviews tags teams projects comments") {
		add("/"+resource, "GET", "POST")
		add("/"+resource+"/new", "GET")
		add("/"+resource+"/:id", "GET", "PATCH", "DELETE")
		add("/"+resource+"/:id/edit", "GET")
	}
	for _, resource := range strings.Fields("users orders products invoices carts reviews tags teams projects comments sessions webhooks tokens events files folders images videos prices stocks shipments returns refunds coupons") {
		add("/api/v1/"+resource, "GET", "POST")
		add("/api/v1/"+resource+"/:id", "GET", "PUT", "DELETE")
		add("/api/v1/"+resource+"/:id/history", "GET")
	}
	for _, kind := range strings.Fields("daily weekly monthly yearly sales stock staff taxes costs returns risks leads") {
		add("/admin/reports/"+kind, "GET", "POST")
		add("/admin/reports/"+kind+"/:id.csv", "GET")
	}
	add("/assets/application-:id.css", "GET")
	add("/assets/application-:id.js", "GET")
	for i := range 300 - len(a.routes) {
		add("/docs/"+word(uint64(i)*7919+12345), "GET")
	}
	a.routes = a.routes[:300]
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(a.routes), func(i, j int) { a.routes[i], a.routes[j] = a.routes[j], a.routes[i] })
	sum := 0.0
	for i := range a.routes {
		sum += 1 / float64(i+1)
		a.share = append(a.share, sum)
	}
	return a
}

// request is one of a route's, by their shares.
func (a *application) request(r *rand.Rand) (Name, []byte) {
	at := r.Float64() * a.share[len(a.share)-1]
	low, high := 0, len(a.share)-1
	for low < high {
		if mid := (low + high) / 2; a.share[mid] < at {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return a.routes[low], a.path(low, r)
}

// path is one of a route.
func (a *application) path(i int, r *rand.Rand) []byte {
	path := []byte(a.routes[i].Template)
	for {
		at := strings.Index(string(path), ":id")
		if at < 0 {
			break
		}
		id := fmt.Appendf(nil, "%d", r.IntN(1e6))
		if path[at-1] == '-' {
			id = fmt.Appendf(nil, "%032x", r.Uint64())
		}
		path = append(append(append([]byte(nil), path[:at]...), id...), path[at+3:]...)
	}
	if r.IntN(4) == 0 {
		path = append(path, "?page=2&sort=name"...)
	}
	return path
}

// word is another one for each n: letters, which nothing tells from a name's.
func word(n uint64) string {
	const consonants, vowels = "bdfglmnprst", "aeiou"
	var b [24]byte
	w := append(b[:0], "wo"...) // else some would be hexadecimal
	for i := 0; i < 4 || n > 0; i++ {
		w = append(w, consonants[n%11], vowels[n/11%5])
		n /= 55
	}
	return string(w)
}

// attack makes paths that were never seen before, of many kinds.
type attack struct {
	r   *rand.Rand
	n   uint64
	buf []byte
}

func (a *attack) path() []byte {
	a.n++
	w := word(a.n)
	b := append(a.buf[:0], '/')
	switch a.r.IntN(16) {
	case 0, 1, 2:
		b = append(b, w...)
	case 3, 4:
		b = append(append(b, "users/"...), w...)
	case 5:
		b = append(append(b, "api/v1/"...), w...)
	case 6:
		b = append(append(append(b, "api/v1/users/7/"...), w...), "?a=b"...)
	case 7:
		b = append(append(append(b, "admin/"...), w...), ".php"...)
	case 8: // deep
		for range a.r.IntN(12) + 1 {
			b = append(append(b, word(a.r.Uint64N(1e9))...), '/')
		}
		b = append(b, w...)
	case 9: // few words, deep
		for range 3 {
			b = append(append(b, word(a.r.Uint64N(40))...), '/')
		}
		b = append(b, w...)
	case 10: // long
		for range a.r.IntN(20) {
			b = append(b, w...)
		}
	case 11:
		b = append(append(append(b, "users/é"...), w...), "/日本"...)
	case 12:
		b = append(append(append(b, "search/<script>alert('"...), w...), "')</script>"...)
	case 13:
		b = append(append(append(b, "wp-content/plugins/"...), w...), "/readme.txt"...)
	case 14:
		b = append(append(append(b, "orders/"...), w...), "/edit"...)
	default:
		b = append(append(append(b, w...), "%2e%00/\xff\xfe"...), w...)
	}
	a.buf = b
	return b
}
