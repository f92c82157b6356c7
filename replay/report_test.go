package replay

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"drain/router"
	"drain/routes"
)

// answer is a request that was recorded with a status and a service time, and what the target made of it.
func answer(path string, recorded, answered int, service, took time.Duration) *Sent {
	q := &Request{Time: 1_700_000_000_000_000, Method: "GET", Path: []byte(path), Target: []byte(path), ID: []byte("r-1"), Service: service.Milliseconds(), Status: int64(recorded), Bytes: 100}
	if recorded == 0 {
		q.Status = -1
	}
	s := &Sent{Request: q, Outcome: Outcome{Status: answered, Took: took, Bytes: 200}}
	if answered == 0 {
		s.Failure = Reset
	}
	return s
}

func usual(path string) *Sent {
	return answer(path, 200, 200, 10*time.Millisecond, 12*time.Millisecond)
}

// of is the result of a replay that lasted as long as its longest At.
func of(r *Report) *Result {
	return r.Result(Frame{Target: "http://staging", Source: "router", Ended: "end", Speed: 1, Pace: new(Pace), FailOnDiff: -1})
}

// A shape is how long the answers of a route take.
type shape struct {
	name string
	draw func(*rand.Rand) float64 // ms
	// much is a delay, in ms, that must be found even if few requests have it all.
	much float64
}

var shapes = []shape{
	{"constant", func(*rand.Rand) float64 { return 4 }, 60},
	{"narrow", func(r *rand.Rand) float64 { return max(30+3*r.NormFloat64(), 0) }, 80},
	{"wide", func(r *rand.Rand) float64 { return 40 * math.Exp(r.NormFloat64()) }, 500},
	{"bimodal", func(r *rand.Rand) float64 {
		if r.IntN(10) < 7 {
			return 8 + 2*r.Float64()
		}
		return 250 + 30*r.NormFloat64()
	}, 700},
	{"with outliers", func(r *rand.Rand) float64 {
		if r.IntN(100) == 0 {
			return 5000 * r.Float64()
		}
		return 25 + 10*r.Float64()
	}, 120},
}

// The promise of the whole: of a target that is like production but for what is planted in it, that is found, and
// nothing else. Production's times are whole milliseconds, and the target's have the network and some noise in them.
func TestReport_findsWhatWasPlantedAndNothingElse(t *testing.T) {
	type planted struct {
		sent, differ int64
		verdict      string
	}
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 8))
		report, want := NewReport(nil), make(map[string]planted)
		const roundTrip = 30 * time.Millisecond
		for i, n := range []int{20, 60, 200, 1000} {
			for _, shape := range shapes {
				for _, plant := range []string{"nothing", "little", "slower", "tail", "faster", "statuses", "failures", "statuses and slower"} {
					path := strings.ReplaceAll(fmt.Sprintf("/%c/%s/%s", 'a'+i, shape.name, plant), " ", "-")
					if i%2 == 1 && r.IntN(3) > 0 {
						plant = "nothing" // most targets are well
					}
					p := planted{sent: int64(n)}
					for k := range n {
						recorded, measured := shape.draw(r), shape.draw(r)
						then, now := 200, 200
						switch plant {
						case "little":
							measured += 12
						case "slower", "statuses and slower":
							measured += shape.much
							p.verdict = Slower // of 20 that can be compared, and more
							if n == 20 && plant != "slower" {
								p.verdict = ""
							}
						case "tail": // one in five, where enough are beyond p95 to tell
							if n >= 200 && k%5 == 0 {
								measured += 5 * (shape.much + 5000)
								p.verdict = Slower
							}
						case "faster":
							recorded += shape.much
							p.verdict = Faster
						}
						if strings.HasPrefix(plant, "statuses") && k%10 == 3 {
							now = 404 + k%2*96
							p.differ++
						}
						if plant == "failures" && k == n/2 {
							now = 0
							p.differ++
						}
						measured = measured*(1+0.03*r.NormFloat64()) + 0.3*r.ExpFloat64()
						report.Sent(answer(path, then, now, time.Duration(recorded*1e6), time.Duration(max(measured, 0)*1e6)+roundTrip))
					}
					want[path] = p
				}
			}
		}
		result := report.Result(Frame{Pace: new(Pace), FailOnDiff: -1, RoundTrip: roundTrip})
		if len(result.Routes) != len(want) {
			t.Fatalf("%d routes of %d", len(result.Routes), len(want))
		}
		calm := false // the ones that differ are over
		for _, route := range result.Routes {
			if got := (planted{route.Sent, route.Differ, route.Times.Verdict}); got != want[route.Route] {
				t.Errorf("seed %d: %s is %+v, want %+v; recorded %+v, measured %+v", seed, route.Route, got, want[route.Route], route.Times.Recorded, route.Times.Measured)
			}
			if calm = calm || route.Differ == 0; calm && route.Differ > 0 {
				t.Errorf("%s differs, and stands behind one that does not", route.Route)
			}
		}
	}
}

// An answer differs if it has another status than was recorded, or if there is none. Without a condition or a range, 200 is the
// answer of 304 and 206; where nothing was recorded there is nothing to differ from.
func TestReport_saysWhatDiffers(t *testing.T) {
	for _, c := range []struct {
		recorded, answered int
		want               Compared
	}{
		{200, 200, Compared{Same: 1}},
		{404, 404, Compared{Same: 1}},
		{503, 503, Compared{Same: 1}},
		{304, 304, Compared{Same: 1}},
		{304, 200, Compared{Same: 1, Unconditional: 1}},
		{206, 200, Compared{Same: 1, Unconditional: 1}},
		{200, 500, Compared{Other: 1, Share: 1}},
		{500, 200, Compared{Other: 1, Share: 1}},
		{200, 201, Compared{Other: 1, Share: 1}},
		{200, 304, Compared{Other: 1, Share: 1}},
		{200, 206, Compared{Other: 1, Share: 1}},
		{304, 206, Compared{Other: 1, Share: 1}},
		{304, 404, Compared{Other: 1, Share: 1}},
		{301, 302, Compared{Other: 1, Share: 1}},
		{200, 0, Compared{NoAnswer: 1, Share: 1, Failures: map[string]int64{"reset": 1}}},
		{0, 200, Compared{NotRecorded: 1}},
		{0, 500, Compared{NotRecorded: 1}},
		{0, 0, Compared{NoAnswer: 1, Share: 1, Failures: map[string]int64{"reset": 1}}},
		// HTTP has no such statuses.
		{7, 200, Compared{NotRecorded: 1}},
		{1000, 200, Compared{NotRecorded: 1}},
		{200, 42, Compared{NoAnswer: 1, Share: 1}},
		{123456, 200, Compared{NotRecorded: 1}},
	} {
		t.Run(fmt.Sprintf("%d, then %d", c.recorded, c.answered), func(t *testing.T) {
			r := NewReport(nil)
			r.Sent(answer("/x", c.recorded, c.answered, time.Millisecond, time.Millisecond))
			if c.want.Failures == nil {
				c.want.Failures = map[string]int64{}
			}
			got := of(r)
			if !reflect.DeepEqual(got.Compared, c.want) {
				t.Errorf("%+v, want %+v", got.Compared, c.want)
			}
			differs := c.want.Other + c.want.NoAnswer
			if route := got.Routes[0]; route.Differ != differs || route.Sent != 1 || len(route.Examples) != int(differs) || got.Status[0].Differs != (differs > 0) {
				t.Errorf("of the route: %+v", route)
			}
			if point := got.Series.Points[0]; point.Sent != 1 || point.Differ+point.Failed != differs {
				t.Errorf("over time: %+v", point)
			}
		})
	}
}

func TestReport_countsFailuresByTheirKind(t *testing.T) {
	r, want := NewReport(nil), map[string]int64{}
	for f := Refused; f < Stopped; f++ {
		for range f {
			s := answer("/x", 200, 0, time.Millisecond, time.Second)
			s.Failure = f
			r.Sent(s)
			want[f.String()]++
		}
	}
	s := usual("/x")
	s.Failure = Stopped
	r.Sent(s)
	got := of(r)
	if !maps.Equal(got.Compared.Failures, want) || got.Compared.NoAnswer != 28 || got.Requests.Sent != 28 || got.Requests.Stopped != 1 || got.Times != nil {
		t.Errorf("%+v, %+v", got.Compared, got.Requests)
	}
	// An answer that broke off is none, whatever status it began with.
	r = NewReport(nil)
	s = usual("/x")
	s.Failure = Reset
	r.Sent(s)
	if got := of(r); got.Compared.NoAnswer != 1 || got.Times != nil || len(got.Routes[0].Examples) != 1 || got.Routes[0].Examples[0] != (Example{"r-1", "GET", "/x", 200, 0, "reset"}) {
		t.Errorf("%+v, %+v", got.Compared, got.Routes[0].Examples)
	}
}

// Times of answers with another status say nothing of the target: errors are fast, and a 304 is not what a 200 is.
func TestReport_comparesTimesOfTheSameAnswersOnly(t *testing.T) {
	for _, c := range []struct{ recorded, answered int }{{304, 200}, {206, 200}, {200, 404}, {200, 0}, {0, 200}, {0, 42}} {
		r := NewReport(nil)
		for range 100 {
			r.Sent(answer("/x", c.recorded, c.answered, time.Millisecond, time.Second))
			unknown := answer("/x", 200, 200, time.Millisecond, time.Second)
			unknown.Service = -1
			r.Sent(unknown)
		}
		if got := of(r); got.Times != nil || got.Routes[0].Times != nil || got.Series.Points[0].Measured != nil || got.Series.Points[0].Recorded != nil {
			t.Errorf("%d, then %d: %+v", c.recorded, c.answered, got.Times)
		}
		for range 30 {
			r.Sent(answer("/x", 200, 200, 3*time.Millisecond, 4*time.Millisecond))
		}
		if got := of(r); got.Times.Requests != 30 || got.Routes[0].Times.Verdict != "" || got.Times.Measured.Max != 4 || got.Times.Recorded.Max != 3 || *got.Series.Points[0].Measured != 4 ||
			got.Routes[0].BytesThen != 100 || got.Routes[0].BytesNow != 200 {
			t.Errorf("%d, then %d: %+v %+v", c.recorded, c.answered, got.Times, got.Routes[0])
		}
	}
}

func TestReport_quantilesOfKnownTimes(t *testing.T) {
	r := NewReport(nil)
	for i := range 1000 {
		at := time.Duration(i*7%1000+1) * time.Millisecond
		r.Sent(answer("/x", 200, 200, at, 2*at))
	}
	near := func(got, want Quantiles) bool {
		off := func(a, b float64) bool { return math.Abs(a-b) > b/100 }
		return !off(got.P50, want.P50) && !off(got.P95, want.P95) && !off(got.P99, want.P99) && got.Mean == want.Mean && got.Max == want.Max
	}
	got := of(r).Times
	if !near(got.Recorded, Quantiles{500, 950, 990, 500.5, 1000}) || !near(got.Measured, Quantiles{1000, 1900, 1980, 1001, 2000}) || got.Requests != 1000 {
		t.Errorf("%+v", got)
	}
	for i := range 101 {
		if want := float64(max(10*i, 1)); math.Abs(got.Curves.Recorded[i]-want) > want/100 || math.Abs(got.Curves.Measured[i]-2*want) > want/50 {
			t.Errorf("%d %% did not exceed %v and %v", i, got.Curves.Recorded[i], got.Curves.Measured[i])
		}
	}
	// Short ones are told to a tenth.
	r = NewReport(nil)
	for i := range 100 {
		r.Sent(answer("/x", 200, 200, 3*time.Millisecond, time.Duration(i+1)*100*time.Microsecond))
	}
	if got := of(r).Times; got.Recorded != (Quantiles{3, 3, 3, 3, 3}) || got.Measured != (Quantiles{5, 9.5, 9.9, 5.05, 10}) {
		t.Errorf("%+v", got)
	}
}

func TestReport_takesTheRoundTripOffTheVerdict(t *testing.T) {
	r := NewReport(nil)
	for i := range 100 {
		r.Sent(answer("/x", 200, 200, time.Duration(i)*time.Millisecond, time.Duration(i+180)*time.Millisecond))
	}
	for trip, want := range map[time.Duration]string{180 * time.Millisecond: "", 0: Slower} {
		got := r.Result(Frame{Pace: new(Pace), RoundTrip: trip, Connections: 3, FailOnDiff: -1, FailOnSlower: true})
		if got.Times.Verdict != want || got.Times.Measured.P50 != got.Times.Recorded.P50+180 && math.Abs(got.Times.Measured.P50-229) > 3 || got.Network != (Network{float64(trip.Milliseconds()), 3, 0}) || got.Verdict.Failed != (want == Slower) {
			t.Errorf("with a round trip of %v: %+v, %+v, %+v", trip, got.Times, got.Network, got.Verdict)
		}
	}
	// Nor is a near target faster than its network.
	r = NewReport(nil)
	for range 100 {
		r.Sent(answer("/x", 200, 200, 100*time.Millisecond, 130*time.Millisecond))
	}
	if got := r.Result(Frame{Pace: new(Pace), RoundTrip: 75 * time.Millisecond}); got.Times.Verdict != Faster {
		t.Errorf("%+v", got.Times)
	}
}

// A quantile is judged where it is known, and where the difference matters.
func TestReport_callsARouteSlowerByMuchOnly(t *testing.T) {
	for _, c := range []struct {
		name          string
		n             int
		then, now, of int // ms, and each of-th alone
		verdict       string
	}{
		{"20 ms more", 100, 10, 30, 1, ""},
		{"22 ms more", 100, 10, 32, 1, Slower},
		{"22 ms less", 100, 32, 10, 1, Faster},
		{"a quarter more", 100, 1000, 1240, 1, ""},
		{"more than a quarter more", 100, 1000, 1280, 1, Slower},
		{"more than a quarter less", 100, 1000, 720, 1, Faster},
		{"19 answers", 19, 10, 500, 1, ""},
		{"20 answers", 20, 10, 500, 1, Slower},
		{"one in ten, of 199", 199, 10, 500, 10, ""},
		{"one in ten, of 400", 400, 10, 500, 10, Slower},
		{"one in 30, of 900", 900, 10, 500, 30, ""},
		{"one in 30, of 3000", 3000, 10, 500, 30, Slower},
		{"one in 1000, of 3000", 3000, 10, 500, 1000, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReport(nil)
			for i := range c.n {
				now := c.then
				if i%c.of == 0 {
					now = c.now
				}
				r.Sent(answer("/x", 200, 200, time.Duration(c.then)*time.Millisecond, time.Duration(now)*time.Millisecond))
			}
			if got := of(r).Routes[0].Times; got.Verdict != c.verdict {
				t.Errorf("%q, want %q: %+v", got.Verdict, c.verdict, got)
			}
		})
	}
}

// What a few answers of very different times have in common with others may be chance.
func TestReport_callsNothingSlowerThatMayBeChance(t *testing.T) {
	for n, sure := range map[int]bool{30: false, 199: false, 3000: true} {
		slower, faster := NewReport(nil), NewReport(nil)
		for i := range n {
			even := time.Duration(i) * time.Second / time.Duration(n)
			slower.Sent(answer("/x", 200, 200, even*6/10, even))
			faster.Sent(answer("/x", 200, 200, even, even*6/10))
		}
		if got := []string{of(slower).Times.Verdict, of(faster).Times.Verdict}; !slices.Equal(got, map[bool][]string{false: {"", ""}, true: {Slower, Faster}}[sure]) {
			t.Errorf("by %d answers: %q", n, got)
		}
	}
}

// Slower somewhere is slower, however much faster the rest is.
func TestReport_slowerWeighsMoreThanFaster(t *testing.T) {
	r := NewReport(nil)
	for i := range 1000 {
		now := time.Millisecond
		if i%10 == 0 {
			now = 2 * time.Second
		}
		r.Sent(answer("/x", 200, 200, 300*time.Millisecond, now))
	}
	if got := of(r).Routes[0].Times; got.Verdict != Slower {
		t.Errorf("%+v", got)
	}
}

func TestReport_showsFirstWhatDiffersMostThenWhatIsSlower(t *testing.T) {
	r := NewReport(nil)
	add := func(path string, n, differ int, then, now time.Duration) {
		for i := range n {
			status := 200
			if i < differ {
				status = 500
			}
			r.Sent(answer(path, 200, status, then, now))
		}
	}
	const ms = time.Millisecond
	add("/busy", 500, 0, ms, ms)
	add("/calm", 20, 0, ms, ms)
	add("/calm-too", 20, 0, ms, ms)
	add("/faster", 100, 0, 500*ms, ms)
	add("/slower", 100, 0, ms, 100*ms)
	add("/slower-by-more", 50, 0, ms, 900*ms)
	add("/slower-more-often", 1000, 0, ms, 100*ms)
	add("/differs", 100, 3, ms, ms)
	add("/differs-more", 20, 4, ms, ms)
	var got []string
	for _, route := range of(r).Routes {
		got = append(got, route.Route)
	}
	if want := []string{"/differs-more", "/differs", "/slower-more-often", "/slower-by-more", "/slower", "/busy", "/faster", "/calm", "/calm-too"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestReport_verdicts(t *testing.T) {
	many := func(n, differ int) *Report {
		r := NewReport(nil)
		for i := range n {
			status := 200
			if i < differ {
				status = i % 2 * 500 // some have no answer
			}
			r.Sent(answer("/x", 200, status, time.Millisecond, time.Millisecond))
		}
		return r
	}
	slow := NewReport(nil)
	for range 100 {
		slow.Sent(answer("/slow", 200, 200, time.Millisecond, time.Second))
		slow.Sent(usual("/x"))
	}
	percent := func(text string) float64 { // as the command reads it
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f / 100
	}
	for _, c := range []struct {
		name   string
		report *Report
		limit  float64
		slower bool
		why    []string
	}{
		{"nobody asks", many(10, 10), -1, false, nil},
		{"nobody asks of nothing", many(0, 0), -1, false, nil},
		{"below the limit", many(1000, 9), percent("1"), false, nil},
		{"at the limit", many(1000, 10), percent("1"), false, nil},
		{"above the limit", many(1000, 11), percent("1"), false, []string{"1.1% of the answers differ, more than 1.0%"}},
		{"at a limit that no float is", many(1000, 7), percent("0.7"), false, nil},
		{"at another one", many(3000, 87), percent("2.9"), false, nil},
		{"above it by one of many", many(100_000, 701), percent("0.7"), false, []string{"0.7% of the answers differ, more than 0.7%"}},
		{"none may differ, none does", many(1000, 0), 0, false, nil},
		{"none may differ, one does", many(1000, 1), 0, false, []string{"0.1% of the answers differ, more than 0%"}},
		{"all may differ", many(10, 10), 1, false, nil},
		{"nothing was sent", many(0, 0), percent("1"), false, []string{"nothing was sent, so nothing was compared"}},
		{"nothing was sent that could be slower", many(0, 0), -1, true, []string{"nothing was sent, so nothing was compared"}},
		{"a slower route that nobody asks for", slow, 0, false, nil},
		{"a slower route", slow, -1, true, []string{"GET /slow is slower"}},
		{"no slower route", many(100, 0), -1, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.report.Result(Frame{Pace: new(Pace), FailOnDiff: c.limit, FailOnSlower: c.slower}).Verdict
			if want := (Verdict{max(c.limit, 0), len(c.why) > 0, c.why}); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestPercent_showsShares(t *testing.T) {
	for share, want := range map[float64]string{
		0: "0%", 1: "100%", 0.5: "50.0%", 0.01: "1.0%", 0.99: "99.0%", 1.0 / 3: "33.3%", 0.005: "0.5%", 0.00123: "0.12%", 0.000_000_1: "0.00001%", 1e-12: "0.0000000001%",
		0.995: "99.5%", 0.9997: "99.97%", 0.999_999: "99.9999%", 0.099_96: "10.0%",
	} {
		if got := percent(share); got != want {
			t.Errorf("%v is %s, want %s", share, got, want)
		}
	}
}

func TestPercent_isNeverNoneOrAllThatIsNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.Int64Range(1, 1<<40).Draw(t, "of")
		n := rapid.Int64Range(0, of).Draw(t, "n")
		got := percent(float64(n) / float64(of))
		shown, err := strconv.ParseFloat(strings.TrimSuffix(got, "%"), 64)
		if err != nil || strings.ContainsAny(got, "eE") || (shown == 0) != (n == 0) || (shown == 100) != (n == of) || math.Abs(shown-100*float64(n)/float64(of)) > 0.051 {
			t.Fatalf("%d of %d is %s", n, of, got)
		}
	})
}

func TestReport_countsRecords(t *testing.T) {
	r, c := NewReport(nil), new(Counts)
	for reason := range numReasons {
		for range reason + 1 {
			c.Add(Seen{Reason: reason, Escaped: reason == Chosen})
		}
	}
	r.Saw(c)
	r.Saw(c)
	got := of(r).Requests
	want := map[string]int64{}
	for reason, name := range reasonNames {
		if Reason(reason) != Chosen {
			want[name] = 2 * int64(reason+1)
		}
	}
	if got.Read != int64(numReasons*(numReasons+1)) || !maps.Equal(got.Skipped, want) || got.Escaped != 2 || got.Sent != 0 {
		t.Errorf("%+v, want %v", got, want)
	}
}

// Times and sizes are what clocks and clients made of them.
func TestReport_numbersThatCannotBe(t *testing.T) {
	of := func(change ...func(*Sent)) *Result {
		r := NewReport(nil)
		for _, c := range change {
			s := usual("/x")
			c(s)
			r.Sent(s)
		}
		return of(r)
	}
	time := func(micros int64) func(*Sent) { return func(s *Sent) { s.Time = micros } }
	if got := of(time(router.NoTime), time(1e6), time(3e6), time(router.NoTime)).Recorded; got.First.Unix() != 1 || got.Last.Unix() != 3 || got.Seconds != 2 {
		t.Errorf("of some that have no time: %+v", got)
	}
	if got := of(time(router.NoTime)); got.Recorded != nil || got.Requests.Sent != 1 {
		t.Errorf("without any time: %+v", got.Recorded)
	}
	if got := of(time(math.MinInt64+1), time(math.MaxInt64)).Recorded; got.First.Year() != 0 || got.Last.Year() != 9999 || got.Seconds < 1e13 {
		t.Errorf("of all time: %+v", got)
	}
	long := func(s *Sent) {
		s.Service, s.Took, s.Request.Bytes, s.Outcome.Bytes = math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64
	}
	if got := of(long, long).Routes[0]; got.Times.Recorded.Max < 1e8 || got.Times.Measured.Max < 1e8 || got.Times.Recorded.Mean < 1e8 || got.BytesThen < 1e18 || got.BytesNow < 1e18 {
		t.Errorf("%+v, %+v", got, got.Times)
	}
}

func TestReport_lateness(t *testing.T) {
	r := NewReport(nil)
	for i := range 100 {
		s := usual("/x")
		switch {
		case i == 99:
			s.Late, s.Held = 800*time.Millisecond, ByConcurrency
		case i >= 97:
			s.Late, s.Held = 40*time.Millisecond, ByRate // p99, within 1 %
		case i >= 90:
			s.Late, s.Held = LateAfter, ByClient // is not called late
		}
		r.Sent(s)
	}
	got := of(r)
	if want := (Lateness{3, 0.03, map[string]int64{"max_rps": 2, "concurrency": 1}, 0, 40.15, 800}); !reflect.DeepEqual(got.Late, want) {
		t.Errorf("%+v, want %+v", got.Late, want)
	}
	if got.Series.Points[0].Late != 800 {
		t.Errorf("%+v", got.Series)
	}
}

// However long a replay is, its course is told in a few hundred steps, and nothing is lost between them.
func TestReport_itsCourseHasABoundedNumberOfSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewReport(nil)
		type step struct {
			at   time.Duration
			late time.Duration
		}
		var sent []step
		length := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Minute, 599 * time.Second, 600 * time.Second, time.Hour, 30 * 24 * time.Hour, math.MaxInt64}).Draw(t, "length")
		for range rapid.IntRange(1, 50).Draw(t, "requests") {
			s := usual("/x")
			s.At, s.Late = time.Duration(rapid.Int64Range(0, int64(length)).Draw(t, "at")), time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "late"))
			switch rapid.IntRange(0, 3).Draw(t, "became") {
			case 0:
				s.Failure = TimedOut
			case 1:
				s.Outcome.Status = 500
			}
			r.Sent(s)
			sent = append(sent, step{s.At, s.Late})
		}
		got := of(r)
		if len(got.Series.Points) > maxSlots {
			t.Fatalf("%d steps", len(got.Series.Points))
		}
		width := time.Duration(got.Series.StepSeconds * 1e9)
		var differ, failed, timed int64
		for i, p := range got.Series.Points {
			n, late := int64(0), 0.0
			for _, s := range sent {
				if int(s.at/width) == i {
					n++
					late = max(late, ms(s.late))
				}
			}
			if p.Sent != n || p.Late != late {
				t.Fatalf("step %d of %v: %+v, want %d, %v late", i, width, p, n, late)
			}
			differ, failed = differ+p.Differ, failed+p.Failed
			if p.Measured != nil {
				timed++
				if *p.Measured != 12 || *p.Recorded != 10 {
					t.Fatalf("%v and %v", *p.Recorded, *p.Measured)
				}
			}
		}
		if differ != got.Compared.Other || failed != got.Compared.NoAnswer || (timed > 0) != (got.Compared.Same > 0) {
			t.Fatalf("%d differ, %d failed, %+v", differ, failed, got.Compared)
		}
	})
}

// Statuses that are too many to be told apart are put together, and what differs differs all the same.
func TestReport_boundsThePairsOfStatuses(t *testing.T) {
	r := NewReport(nil)
	want := Compared{Failures: map[string]int64{}}
	draw := rand.New(rand.NewPCG(5, 6))
	for i := range 50_000 {
		recorded, answered := draw.IntN(1000), 100+draw.IntN(900)
		switch i % 5 {
		case 0:
			answered = max(recorded, 100)
		case 1:
			if i > 5000 { // when all places are taken
				recorded, answered = 304-98*(i%2), 200
			}
		case 2:
			answered = recorded/100*100 + draw.IntN(100)
		}
		if i%1000 == 999 {
			answered = 0
		}
		switch {
		case answered < 100:
			want.NoAnswer++
			answered = 0
		case recorded < 100:
			want.NotRecorded++
		case recorded == answered:
			want.Same++
		case answered == 200 && (recorded == 304 || recorded == 206):
			want.Same++
			want.Unconditional++
		default:
			want.Other++
		}
		r.Sent(answer("/x", recorded, answered, time.Millisecond, time.Millisecond))
	}
	got := of(r)
	got.Compared.Failures, want.Share = want.Failures, float64(want.Other+want.NoAnswer)/50_000
	if got.Compared.Unconditional < want.Unconditional {
		t.Errorf("%d of %d without a condition", got.Compared.Unconditional, want.Unconditional)
	}
	got.Compared.Unconditional = want.Unconditional
	if !reflect.DeepEqual(got.Compared, want) {
		t.Errorf("%+v, want %+v", got.Compared, want)
	}
	for _, pairs := range [][]Pair{got.Status, got.Routes[0].Status} {
		sum := int64(0)
		for _, p := range pairs {
			sum += p.Requests
		}
		if len(pairs) > 220 || sum != 50_000 {
			t.Errorf("%d pairs, of %d requests", len(pairs), sum)
		}
	}
}

func TestReport_boundsExamples(t *testing.T) {
	r := NewReport(nil)
	for i := range 100 {
		s := answer(fmt.Sprintf("/users/%d", i), 200, 500, time.Millisecond, time.Millisecond)
		s.Target = append([]byte(fmt.Sprintf("/users/%d?", i)), strings.Repeat("é", 50_000)...)
		s.ID = []byte(strings.Repeat("€", 50_000))
		r.Sent(s)
	}
	for _, kept := range r.routes {
		if len(kept.examples) > 5 {
			t.Errorf("%d examples are kept", len(kept.examples))
		}
	}
	got := of(r).Routes[0]
	if len(got.Examples) != 5 || got.Differ != 100 {
		t.Fatalf("%d examples", len(got.Examples))
	}
	for i, e := range got.Examples {
		if !strings.HasPrefix(e.Path, fmt.Sprintf("/users/%d?éé", i)) || len(e.Path) > 210 || len(e.ID) > 210 || !utf8.ValidString(e.Path) || !utf8.ValidString(e.ID) || !strings.HasSuffix(e.ID, "€…") {
			t.Errorf("example %d is %q, %q", i, e.Path, e.ID)
		}
	}
}

func TestReport_losesNothingWhenRoutesArePutTogether(t *testing.T) {
	r := NewReport(nil)
	for i := range maxRoutes {
		r.routes[routes.Name{Method: "GET", Template: fmt.Sprintf("/%c%c/%c%c", 'a'+i/50%26, 'a'+i/50/26, 'a'+i%50%26, 'a'+i%50/26)}] = &tally{sent: 1, pairs: map[pair]int64{{200, 200}: 1}}
	}
	r.Sent(answer("/unknown", 404, 404, time.Millisecond, time.Millisecond)) // for which there is no route but other
	sum := int64(0)
	for _, route := range of(r).Routes {
		sum += route.Sent
	}
	if kept := len(r.routes); sum != maxRoutes+1 || kept > routes.MaxRoutes {
		t.Errorf("%d requests of %d, by %d routes", sum, maxRoutes+1, kept)
	}
}

// Routes come and go where clients write what they like. The report has as many as can be shown, and keeps no more
// than twice as many.
func TestReport_itsMemoryDoesNotGrowWithTheRequests(t *testing.T) {
	draw := rand.New(rand.NewPCG(9, 9))
	r := NewReport(nil)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	word := func(n int) string {
		return string([]byte{byte('a' + n%26), byte('a' + n/26%26), byte('a' + n/676%26), 'q'})
	}
	s, sent := usual(""), int64(0)
	add := func(path string) {
		s.Path, s.Target = []byte(path), []byte(path)
		s.At += time.Duration(draw.IntN(100)) * time.Millisecond
		s.Request.Status, s.Outcome.Status = []int64{200, 404, 500, 100 + draw.Int64N(900)}[draw.IntN(4)], []int{200, 200, 404, 100 + draw.IntN(900)}[draw.IntN(4)]
		s.Service, s.Took = draw.Int64N(1<<draw.IntN(15)), time.Duration(draw.Int64N(1<<draw.IntN(34)))
		r.Sent(s)
		sent++
	}
	rounds := 55 // two million requests
	if raced {
		rounds = 9
	}
	var first int64
	// Of each round's paths the requests are a few more than of those of the one before, so that they take their places.
	for round := range rounds {
		for range 9 + round {
			for i := range 1000 {
				add("/" + word(i%40) + "/" + word(round*25+i/40))
			}
			add("/" + word(draw.Int())) // and these are never seen again
		}
		if len(r.routes) > maxRoutes {
			t.Fatalf("%d routes are kept after %d requests", len(r.routes), sent)
		}
		if round == rounds/3 {
			first = heap()
		}
	}
	if last := heap(); last > first+first/2 {
		t.Errorf("%d kB are held after %d requests, and %d kB were after a third of the rounds", last>>10, sent, first>>10)
	}
	got, sum := of(r), int64(0)
	for _, route := range got.Routes {
		sum += route.Sent
	}
	if len(got.Routes) > routes.MaxRoutes || len(got.Routes) < routes.MaxRoutes/2 || sum != sent || got.Requests.Sent != sent || len(got.Series.Points) > maxSlots {
		t.Errorf("%d routes, of %d requests of %d", len(got.Routes), sum, sent)
	}
	runtime.KeepAlive(r)
}
