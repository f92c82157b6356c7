package replay

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"drain/router"
)

// dues are when requests are due that were recorded at these times, in milliseconds.
func dues(p *Pace, recorded ...int64) (out []time.Duration) {
	for _, ms := range recorded {
		out = append(out, p.Due(1_700_000_000_000_000+1000*ms))
	}
	return out
}

func TestPace_isDue(t *testing.T) {
	ms := func(all ...float64) (out []time.Duration) {
		for _, v := range all {
			out = append(out, time.Duration(v*1e6))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		pace     Pace
		recorded []int64
		want     []time.Duration
		gaps     int64
		cut      time.Duration
	}{
		{"as recorded", Pace{Speed: 1}, []int64{0, 1, 1, 1500, 90_000}, ms(0, 1, 1, 1500, 90_000), 0, 0},
		{"twice as fast", Pace{Speed: 2}, []int64{0, 1, 1500}, ms(0, 0.5, 750), 0, 0},
		{"at half the speed", Pace{Speed: 0.5}, []int64{0, 1, 1500}, ms(0, 2, 3000), 0, 0},
		{"at the slowest", Pace{Speed: 0.1}, []int64{0, 1, 1500}, ms(0, 10, 15_000), 0, 0},
		{"at the fastest", Pace{Speed: 100}, []int64{0, 1, 1500}, ms(0, 0.01, 15), 0, 0},
		{"at once", Pace{}, []int64{0, 1, 1500, 3}, ms(0, 0, 0, 0), 0, 0},
		{"a gap as long as may be is kept", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, 1000, 2000}, ms(0, 1000, 2000), 0, 0},
		{"longer ones become as long", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, 1001, 1101, 9101, 9102}, ms(0, 1000, 1100, 2100, 2101), 2, 7001 * time.Millisecond},
		{"as recorded, not as played", Pace{Speed: 10, MaxGap: time.Second}, []int64{0, 5000, 5010}, ms(0, 100, 101), 1, 4 * time.Second},
		{"gaps of millennia", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, 120e12, 240e12, 240e12 + 1}, ms(0, 1000, 2000, 2001), 2, math.MaxInt64 / 1000 * 1000},
		{"0 keeps all gaps", Pace{Speed: 1}, []int64{0, 86_400_000}, ms(0, 86_400_000), 0, 0},
		{"one that is out of order is due before the one before", Pace{Speed: 2}, []int64{0, 1000, 600, 1000, 1200}, ms(0, 500, 300, 500, 600), 0, 0},
		{"but not before the first", Pace{Speed: 1}, []int64{0, 100, -5000, 200}, ms(0, 100, 0, 200), 0, 0},
		{"nor does it make a gap", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, 1000, -60_000, 1500}, ms(0, 1000, 0, 1500), 0, 0},
		{"it is due that much before the one before, also behind a gap", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, 60_000, 59_900, 60_100}, ms(0, 1000, 900, 1100), 1, 59 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := dues(&c.pace, c.recorded...); !slices.Equal(got, c.want) || c.pace.Gaps != c.gaps || c.pace.Cut != c.cut {
				t.Errorf("due at %v, want %v; %d gaps cut by %v, want %d by %v", got, c.want, c.pace.Gaps, c.pace.Cut, c.gaps, c.cut)
			}
		})
	}
}

func TestPace_againBeginsWhereTheLastOneWasDue(t *testing.T) {
	for name, recorded := range map[string]int64{"at the beginning, as a loop": 0, "before it": -86_400_000, "much later": 86_400_000} {
		t.Run(name, func(t *testing.T) {
			p := &Pace{Speed: 2, MaxGap: time.Minute}
			dues(p, 0, 1000, 3000, 2000)
			p.Again()
			got := dues(p, recorded, recorded+100, recorded+50, recorded+200)
			if want := []time.Duration{1500e6, 1550e6, 1525e6, 1600e6}; !slices.Equal(got, want) || p.Gaps != 0 {
				t.Errorf("due at %v, %d gaps; want %v", got, p.Gaps, want)
			}
		})
	}
}

// Of a file the first records may have no time: nothing is known then but that they came first.
func TestPace_withoutATimeIsDueWithTheOneBefore(t *testing.T) {
	p := &Pace{Speed: 1}
	at := int64(1_700_000_000_000_000)
	var got []time.Duration
	for _, recorded := range []int64{router.NoTime, router.NoTime, at, at + 1000, router.NoTime, at + 3000} {
		got = append(got, p.Due(recorded))
	}
	p.Again()
	for _, recorded := range []int64{router.NoTime, at, at + 2000} {
		got = append(got, p.Due(recorded))
	}
	if want := []time.Duration{0, 0, 0, 1e6, 1e6, 3e6, 3e6, 3e6, 5e6}; !slices.Equal(got, want) {
		t.Errorf("due at %v, want %v", got, want)
	}
}

// Records come from clocks, and some from people: whatever their times are, later ones are due later, none before
// the beginning, and no two further apart than the longest gap.
func TestPace_holdsForAnyTimes(t *testing.T) {
	year := func(y int) int64 { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() }
	odd := []int64{router.NoTime + 1, math.MinInt64 / 2, year(0), -1, 0, 1, year(1970), year(2026), year(2026) + 1, year(9999), math.MaxInt64 / 2, math.MaxInt64}
	rapid.Check(t, func(t *rapid.T) {
		p := &Pace{Speed: rapid.SampledFrom([]float64{0.1, 1, 100}).Draw(t, "speed"), MaxGap: rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Minute, 366 * 24 * time.Hour}).Draw(t, "longest gap")}
		last, newest := time.Duration(-1), int64(router.NoTime)
		longest := time.Duration(float64(p.MaxGap)/p.Speed) + time.Microsecond
		for range rapid.IntRange(1, 8).Draw(t, "requests") {
			recorded := rapid.OneOf(rapid.SampledFrom(odd), rapid.Int64Min(router.NoTime+1)).Draw(t, "recorded")
			gaps, cut, due := p.Gaps, p.Cut, p.Due(recorded)
			switch {
			case due < 0 || p.Cut < cut:
				t.Fatalf("due at %v, %v cut", due, p.Cut)
			case recorded >= newest && due < last:
				t.Fatalf("a later one is due at %v, before %v", due, last)
			case recorded >= newest && last >= 0 && p.MaxGap > 0 && due-last > longest:
				t.Fatalf("due %v after the one before, in spite of a longest gap of %v", due-last, p.MaxGap)
			case p.MaxGap == 0 && p.Gaps > gaps:
				t.Fatal("a gap was cut")
			case recorded < newest && due > last:
				t.Fatalf("an earlier one is due at %v, after %v", due, last)
			}
			if recorded >= newest {
				last, newest = due, recorded
			}
		}
	})
}
