package window

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// request makes one of a usual kind.
func request(r *rand.Rand, second int64) Request {
	q := Request{
		Second: second, App: []byte("shop"), Dyno: fmt.Appendf(nil, "web.%d", r.IntN(8)), Method: "GET", Route: fmt.Sprintf("/r/%d", r.IntN(40)),
		Status: []int{200, 200, 200, 304, 404, 503}[r.IntN(6)], Bytes: int64(r.IntN(5000)), Service: int64(math.Exp(r.NormFloat64()*1.5 + 4)), Connect: int64(r.IntN(4)),
	}
	if q.Status == 503 {
		q.Code = []byte("H12")
	}
	return q
}

// failer is a testing.T or rapid's.
type failer interface {
	Helper()
	Fatal(...any)
}

// all adds up every cell of the chunks of one resolution, by window and key.
func all(t failer, chunks []Chunk, resolution string, byRoute bool) map[int64]map[Key]Stats {
	t.Helper()
	sums := make(map[int64]map[Key]Stats)
	var reader Reader
	for _, c := range chunks {
		if c.Resolution.Name != resolution {
			continue
		}
		if sums[c.Start] == nil {
			sums[c.Start] = make(map[Key]Stats)
		}
		bytes := c.ByDyno
		if byRoute {
			bytes = c.ByRoute
		}
		if err := reader.Each(bytes, func(k *Key, c2 *Cell) {
			s := sums[c.Start][*k]
			s.Add(k, c2)
			sums[c.Start][*k] = s
		}); err != nil {
			t.Fatal(err)
		}
	}
	return sums
}

// Whatever way requests are split over folds, chunks and merges, the sums are equal,
// and equal to those of the requests.
func TestFold_addsUpExactly(t *testing.T) {
	const now = 1_800_000_000
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		parts := rapid.IntRange(1, 5).Draw(t, "parts")
		var requests []Request
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			requests = append(requests, request(r, now-1-int64(r.IntN(rapid.SampledFrom([]int{1, 90, 4000}).Draw(t, "span")))))
		}
		var split []Chunk
		whole := NewFold()
		folds := make([]*Fold, parts)
		for i := range folds {
			folds[i] = NewFold()
		}
		for i := range requests {
			whole.Add(&requests[i])
			f := folds[r.IntN(parts)]
			f.Add(&requests[i])
			if r.IntN(30) == 0 {
				split = append(split, f.Chunks(now)...)
				f.Reset()
			}
		}
		for _, f := range folds {
			split = append(split, f.Chunks(now)...)
		}
		one := whole.Chunks(now)
		for _, resolution := range Resolutions {
			for _, byRoute := range []bool{false, true} {
				want := make(map[int64]map[Key]Stats)
				for i := range requests {
					q := &requests[i]
					k := Key{App: string(q.App), Dyno: string(q.Dyno), Code: string(q.Code), Status: q.Status}
					if byRoute {
						k.Dyno, k.Method, k.Route = "", q.Method, q.Route
					}
					start := q.Second / resolution.Step * resolution.Step
					if !resolution.Kept(start, now) {
						continue
					}
					if want[start] == nil {
						want[start] = make(map[Key]Stats)
					}
					c := Cell{Requests: 1, Bytes: q.Bytes}
					c.Service.Add(q.Service)
					if !byRoute {
						c.Connect.Add(q.Connect)
					}
					s := want[start][k]
					s.Add(&k, &c)
					want[start][k] = s
				}
				for name, chunks := range map[string][]Chunk{"one fold": one, "split": split} {
					got := all(t, chunks, resolution.Name, byRoute)
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("%s, %s, by route %v:\n got %v\nwant %v", name, resolution.Name, byRoute, got, want)
					}
				}
			}
		}
		// One chunk of many is the same as many.
		joined := make(map[int64][]byte)
		for _, c := range split {
			if c.Resolution.Step == 60 {
				joined[c.Start] = append(joined[c.Start], c.ByRoute...)
			}
		}
		var m Merger
		var merged []Chunk
		for start, chunks := range joined {
			chunk, err := m.Merge(chunks)
			if err != nil {
				t.Fatal(err)
			}
			merged = append(merged, Chunk{Resolution: Resolutions[2], Start: start, ByRoute: chunk})
		}
		if got, want := all(t, merged, "1m", true), all(t, one, "1m", true); !reflect.DeepEqual(got, want) {
			t.Fatalf("merged:\n got %v\nwant %v", got, want)
		}
	})
}

// Percentiles are within 1 % of the exact ones, the mean and the maximum are exact.
func TestHistogram_isWithinOnePercent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000, 100_000} {
		var times []int64
		var h Histogram
		var parts [3]Times
		var sum int64
		for range n {
			ms := int64(math.Exp(r.NormFloat64()*2 + 5))
			times = append(times, ms)
			sum += ms
			parts[r.IntN(3)].Add(ms)
		}
		for i := range parts {
			h.Add(&parts[i])
		}
		slices.Sort(times)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
			exact := float64(times[max(int(math.Ceil(q*float64(n)-1e-9)), 1)-1])
			if got := h.Quantile(q); math.Abs(got-exact) > exact*0.01 || exact < 128 && got != exact {
				t.Errorf("%d times: quantile %v is %v, exactly %v", n, q, got, exact)
			}
		}
		if h.Max != times[n-1] || h.Mean() != float64(sum)/float64(n) || h.Count != int64(n) {
			t.Errorf("%d times: max %d of %d, mean %v of %v, count %d", n, h.Max, times[n-1], h.Mean(), float64(sum)/float64(n), h.Count)
		}
	}
	var empty Histogram
	if !math.IsNaN(empty.Quantile(0.5)) || !math.IsNaN(empty.Mean()) {
		t.Error("an empty histogram has percentiles")
	}
}

func TestBuckets_holdEveryTime(t *testing.T) {
	if n := bucketOf(60_000) + 1; n != 694 {
		t.Errorf("%d buckets up to 60 s, want 694", n)
	}
	for _, ms := range []int64{-5, 0, 1, 127, 128, 129, 255, 256, 60_000, maxTime - 1, maxTime, maxTime + 1, math.MaxInt64} {
		low, width := bounds(bucketOf(ms))
		if clamped := min(max(ms, 0), maxTime); clamped < low || clamped >= low+width {
			t.Errorf("%d ms is in the bucket [%d,%d)", ms, low, low+width)
		}
	}
	for b := range numBuckets {
		if low, width := bounds(b); bucketOf(low) != b || bucketOf(low+width-1) != b || float64(width-1)/2 > float64(low)/128 {
			t.Fatalf("bucket %d is [%d,%d)", b, low, low+width)
		}
	}
}

// A cover has every second of its range once, from windows that are kept.
func TestCover_isExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1_800_000_000) + rapid.Int64Range(0, 7200).Draw(t, "now")
		from := now - rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, 90_000), rapid.Int64Range(0, 20*86400)).Draw(t, "ago")
		until := min(now+1, from+rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, 20*86400)).Draw(t, "length"))
		spans := Cover(from, until, now)
		at := spans[0].Start
		windows := 0
		for _, s := range spans {
			if s.Start != at || s.Windows < 1 || s.Resolution.Start(s.Start) != s.Start {
				t.Fatalf("[%d,%d) is covered by %v", from, until, spans)
			}
			for i := range s.Windows {
				if !s.Resolution.Kept(s.Start+int64(i)*s.Resolution.Step, now) {
					t.Fatalf("[%d,%d) is covered by %v, not kept at %d", from, until, spans, now)
				}
			}
			windows += s.Windows
			at += int64(s.Windows) * s.Resolution.Step
		}
		// Not more than asked for, but where nothing finer is kept.
		finest := func(at int64) int64 {
			for _, r := range Resolutions {
				if start := r.Start(at); r.Kept(start, now) {
					return start
				}
			}
			return -1
		}
		if spans[0].Start != finest(from) || at < until || finest(at-1) >= until {
			t.Fatalf("[%d,%d) is covered by [%d,%d)", from, until, spans[0].Start, at)
		}
		if windows > 24*14+24+2*(59+5+9)+1440 {
			t.Fatalf("[%d,%d) is covered by %d windows", from, until, windows)
		}
	})
}

func TestKept_endsWithItsTime(t *testing.T) {
	for _, r := range Resolutions {
		start := r.Start(1_800_000_000)
		if end := start + r.Step + r.Keep; !r.Kept(start, end-1) || r.Kept(start, end) {
			t.Errorf("%s: kept at its end: %v, a second before: %v", r.Name, r.Kept(start, end), r.Kept(start, end-1))
		}
		if r.Start(-1) != -r.Step || r.Start(0) != 0 || r.Start(r.Step-1) != 0 {
			t.Errorf("%s: windows begin at %d, %d, %d", r.Name, r.Start(-1), r.Start(0), r.Start(r.Step-1))
		}
	}
}

// Names are text of bounded length, and a code is a letter and two digits.
func TestFold_takesNamesAsTheyShouldBe(t *testing.T) {
	f := NewFold()
	long := strings.Repeat("é", maxNameLength)
	for i := range 3 {
		f.Add(&Request{Second: 5, App: []byte("a\xff"), Dyno: []byte(long + fmt.Sprint(i)), Code: []byte("H12"), Status: 99})
		f.Add(&Request{Second: 5, Code: []byte([]string{"h12", "H1x", "H123"}[i]), Status: 1000})
	}
	for i := range 2 * maxApps {
		f.Add(&Request{Second: 5, App: fmt.Append(nil, "app", i), Code: []byte("R14"), Status: 200})
	}
	apps := map[string]bool{}
	var odd Stats
	if err := new(Reader).Each(f.Chunks(5)[0].ByDyno, func(k *Key, c *Cell) {
		if k.Code == "R14" {
			apps[k.App] = true
			return
		}
		odd.Add(k, c)
		if !utf8.ValidString(k.App) || !utf8.ValidString(k.Dyno) || len(k.Dyno) > maxNameLength || k.Status != 0 || k.App == "a\xff" {
			t.Errorf("a key is %+v", k)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if odd.Requests != 6 || odd.Codes["H12"] != 3 || odd.Codes[Other] != 3 {
		t.Errorf("%d requests, codes %v", odd.Requests, odd.Codes)
	}
	if len(apps) > maxApps+1 || !apps[Other] {
		t.Errorf("%d apps are told apart", len(apps))
	}
}

func TestResolutions_divideEachOther(t *testing.T) {
	for i, r := range Resolutions[1:] {
		if r.Step%Resolutions[i].Step != 0 || r.Keep <= Resolutions[i].Keep {
			t.Errorf("%v after %v", r, Resolutions[i])
		}
	}
}

// Whatever comes, a window's tables stay small, and every request is counted.
func TestTables_areBounded(t *testing.T) {
	f := NewFold()
	r := rand.New(rand.NewPCG(1, 1))
	text := func(prefix string) []byte {
		return fmt.Appendf(nil, "%s%d%s", prefix, r.Uint32(), strings.Repeat("é", r.IntN(90)))
	}
	var chunks []byte
	n := 0
	for range 40 {
		for range 3000 {
			f.Add(&Request{Second: 1_800_000_000, App: text("a"), Dyno: text("web."), Code: text("H"), Method: "GET", Route: string(text("/")), Status: r.IntN(2000), Service: 5, Connect: -1})
			n++
			if f.Full() {
				break
			}
		}
		if cells := f.cells; cells > maxFoldCells+2 {
			t.Fatalf("%d cells in a fold", cells)
		}
		for _, s := range f.seconds {
			if len(s.byDyno.cells) > maxCells*5/4 || len(s.byRoute.cells) > maxCells*5/4 {
				t.Fatalf("%d and %d cells in a second", len(s.byDyno.cells), len(s.byRoute.cells))
			}
		}
		chunks = append(chunks, f.Chunks(1_800_000_000)[0].ByRoute...)
		f.Reset()
	}
	var m Merger
	merged, err := m.Merge(chunks)
	if err != nil {
		t.Fatal(err)
	}
	var sum Stats
	apps, routes, cells := map[string]bool{}, map[string]bool{}, 0
	if err := new(Reader).Each(merged, func(k *Key, c *Cell) {
		sum.Add(k, c)
		cells++
		apps[k.App] = true
		if k.Route == Other {
			k.Method = ""
		}
		routes[k.Method+" "+k.Route] = true
	}); err != nil {
		t.Fatal(err)
	}
	if sum.Requests != int64(n) || sum.Service.Count != int64(n) {
		t.Errorf("%d requests of %d, %d times", sum.Requests, n, sum.Service.Count)
	}
	if len(routes) > maxRoutes || cells > maxCells*5/4 {
		t.Errorf("%d routes, %d cells", len(routes), cells)
	}
	if len(f.free) > keptCells || len(f.unused) > keptSeconds {
		t.Errorf("%d cells and %d seconds are kept for later", len(f.free), len(f.unused))
	}
}

// Numbers as large as the decoder lets them through leave windows readable.
func TestChunks_stayReadable(t *testing.T) {
	f := NewFold()
	for range 20 {
		f.Add(&Request{Second: 5, Bytes: 999_999_999_999_999_999, Service: math.MaxInt64, Connect: math.MaxInt64})
	}
	chunks := f.Chunks(5)[0].ByDyno
	var m Merger
	for range 3 {
		merged, err := m.Merge(append(slices.Clone(chunks), chunks...))
		if err != nil {
			t.Fatal(err)
		}
		chunks = merged
	}
	var sum Stats
	if err := new(Reader).Each(chunks, func(k *Key, c *Cell) { sum.Add(k, c) }); err != nil || sum.Requests != 160 || sum.Bytes != maxSum {
		t.Errorf("%d requests, %d bytes, %v", sum.Requests, sum.Bytes, err)
	}
}

// The routes with the most requests stay.
func TestMerge_keepsTheBusiestRoutes(t *testing.T) {
	f := NewFold()
	var chunks []byte
	for i := range 3 {
		for j := range 900 {
			f.Add(&Request{Second: 1, Route: fmt.Sprintf("/hostile/%d/%d", i, j), Method: "GET"})
		}
		for j := range 300 {
			f.Add(&Request{Second: 1, Route: fmt.Sprintf("/app/%d", j), Method: "GET"})
		}
		chunks = append(chunks, f.Chunks(1)[0].ByRoute...)
		f.Reset()
	}
	var m Merger
	merged, err := m.Merge(chunks)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	if err := new(Reader).Each(merged, func(k *Key, c *Cell) { got[k.Route] += c.Requests }); err != nil {
		t.Fatal(err)
	}
	for j := range 300 {
		// The last one of the three chunks had none of them thrown away: no chunk had more than the most.
		if n := got[fmt.Sprintf("/app/%d", j)]; n < 1 {
			t.Errorf("/app/%d has %d requests", j, n)
		}
	}
	if len(got) > maxRoutes || got[Other] == 0 {
		t.Errorf("%d routes, %d requests of others", len(got), got[Other])
	}
}

func TestFold_saysWhenItIsFull(t *testing.T) {
	f := NewFold()
	for at := int64(0); !f.Full(); at++ {
		if at > maxSeconds {
			t.Fatalf("%d seconds", at)
		}
		f.Add(&Request{Second: at})
	}
	f.Reset()
	if f.Full() || f.Requests != 0 || len(f.Chunks(5)) != 0 {
		t.Error("a fold that was reset holds something")
	}
}

func TestReader_refusesWhatIsNoChunk(t *testing.T) {
	f := NewFold()
	r := rand.New(rand.NewPCG(3, 1))
	for range 500 {
		q := request(r, 5)
		f.Add(&q)
	}
	chunk := f.Chunks(5)[0].ByRoute
	each := func(*Key, *Cell) {}
	for n := 1; n < len(chunk); n++ {
		if err := new(Reader).Each(chunk[:n], each); !errors.Is(err, ErrChunk) {
			t.Fatalf("%d bytes of %d: %v", n, len(chunk), err)
		}
	}
	if err := new(Reader).Each([]byte("\x15hello"), each); !errors.Is(err, ErrChunk) {
		t.Error(err)
	}
}

func FuzzReader(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, n := range []int{1, 3, 50} {
		fold := NewFold()
		for range n {
			q := request(r, 5)
			fold.Add(&q)
		}
		f.Add(fold.Chunks(5)[0].ByRoute)
	}
	f.Fuzz(func(t *testing.T, chunks []byte) {
		var sum Stats
		err := new(Reader).Each(chunks, func(k *Key, c *Cell) { sum.Add(k, c) })
		if err != nil {
			if !errors.Is(err, ErrChunk) {
				t.Fatal(err)
			}
			return
		}
		if math.IsNaN(sum.Service.Quantile(0.5)) != (sum.Service.Count == 0) {
			t.Fatalf("%d times, their median is %v", sum.Service.Count, sum.Service.Quantile(0.5))
		}
		var m Merger
		merged, err := m.Merge(chunks)
		if err != nil {
			t.Fatal(err)
		}
		var again Stats
		if err := new(Reader).Each(merged, func(k *Key, c *Cell) { again.Add(k, c) }); err != nil {
			t.Fatal(err)
		}
		if again.Requests != sum.Requests || again.Service.Count != sum.Service.Count {
			t.Fatalf("%d requests and %d times became %d and %d", sum.Requests, sum.Service.Count, again.Requests, again.Service.Count)
		}
	})
}

func TestFilter_takes(t *testing.T) {
	p := func(s string) *string { return &s }
	k := &Key{App: "shop", Dyno: "web.1", Status: 503, Code: "H12"}
	route := &Key{App: "shop", Method: "GET", Route: "/a", Status: 404}
	for _, c := range []struct {
		filter Filter
		key    *Key
		takes  bool
	}{
		{Filter{}, k, true},
		{Filter{App: p("shop"), Dyno: p("web.1"), Status: 503}, k, true},
		{Filter{Status: 5}, k, true},
		{Filter{Status: 4}, k, false},
		{Filter{Status: 404}, k, false},
		{Filter{App: p("")}, k, false},
		{Filter{Dyno: p("web.2")}, k, false},
		{Filter{Route: p("/a")}, route, true},
		{Filter{Route: p("/a"), Method: p("POST")}, route, false},
		{Filter{Route: p("/b"), Method: p("GET")}, route, false},
	} {
		if c.filter.Takes(c.key) != c.takes {
			t.Errorf("%+v takes %+v: %v", c.filter, c.key, !c.takes)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 1))
	requests := make([]Request, 50_000)
	for i := range requests {
		requests[i] = request(r, 5+int64(i/25_000))
	}
	f := NewFold()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f.Add(&requests[i])
		if i++; i == len(requests) {
			i = 0
			b.StopTimer()
			f.Chunks(5)
			f.Reset()
			b.StartTimer()
		}
	}
}

func BenchmarkChunks(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 1))
	f := NewFold()
	for i := range 100_000 {
		q := request(r, 5+int64(i/50_000))
		f.Add(&q)
	}
	for b.Loop() {
		f.Chunks(5)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/request")
}
