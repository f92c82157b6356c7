package usual

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Shop makes n router lines as one app's drain carries them: a few routes have most of the
// requests, clients come back, assets have always the same size, and every request has an
// id of its own. They are what a compression's figures should be told of.
func Shop(n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 2))
	route, client := rand.NewZipf(r, 1.2, 2, uint64(len(shop)-1)), rand.NewZipf(r, 1.1, 50, 20_000)
	item := rand.NewZipf(r, 1.1, 20, 3_000)
	lines := make([]string, n)
	for i := range lines {
		at := &shop[route.Uint64()]
		path := at.path
		if at.items > 0 {
			path = fmt.Sprintf(path, int(item.Uint64())*7919%at.items)
		}
		size := at.bytes
		if size < 0 { // a page, of about 8 KB
			size = int(math.Exp(9 + r.NormFloat64()))
		}
		from := client.Uint64() * 2654435761
		lines[i] = fmt.Sprintf(`at=info method=%s path="%s" host=www.example.org request_id=%08x-%04x-4%03x-%04x-%012x fwd="%d.%d.%d.%d" dyno=web.%d connect=%dms service=%dms status=%d bytes=%d protocol=http1.1 tls=true tls_version=tls1.3`,
			at.method, path, r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), 0x8000+r.IntN(1<<14), r.Int64N(1<<48),
			from%223+1, from>>8&255, from>>16&255, from>>24&255, r.IntN(4)+1, r.IntN(2), int(at.ms*math.Exp(0.5*r.NormFloat64())), at.status, size)
	}
	return lines
}

// shop is its routes, the most usual first.
var shop = []struct {
	method, path string
	items        int // in path
	bytes        int // -1: another each time
	ms           float64
	status       int
}{
	{"GET", "/", 0, -1, 40, 200},
	{"GET", "/products/%d", 3_000, -1, 60, 200},
	{"GET", "/cart", 0, -1, 30, 200},
	{"POST", "/cart/items", 0, 98, 45, 302},
	{"GET", "/assets/application-8f3a21.css", 0, 48_213, 2, 200},
	{"GET", "/assets/application-1c9e07.js", 0, 391_022, 3, 200},
	{"GET", "/api/v1/products/%d/reviews", 3_000, -1, 25, 200},
	{"GET", "/search?q=%d&page=2", 500, -1, 120, 200},
	{"GET", "/favicon.ico", 0, 1_150, 1, 200},
	{"POST", "/login", 0, 98, 90, 302},
	{"GET", "/api/v1/session", 0, 312, 8, 200},
	{"GET", "/images/%d.jpg", 3_000, 0, 4, 304},
	{"GET", "/health", 0, 2, 1, 200},
	{"PUT", "/api/v1/cart/items/%d", 90_000, -1, 35, 200},
	{"GET", "/wp-login.php", 0, 1_532, 5, 404},
}
