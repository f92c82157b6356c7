package replay

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is read, and answered in whatever order: nothing is committed that is open.
func TestOffsets_nextIsTheFirstThatIsOpenOrWhatWasRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		read := rapid.Int64Range(0, 1_000_000).Draw(t, "begin")
		o, open := NewOffsets(read), make(map[int64]bool)
		check := func() {
			want := read
			if len(open) > 0 {
				want = slices.Min(slices.Collect(maps.Keys(open)))
			}
			if got := o.Next(); got != want {
				t.Fatalf("%d is committed with %v open and %d read, want %d", got, slices.Sorted(maps.Keys(open)), read, want)
			}
		}
		check()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"read", "done", "done", "done with another"}).Draw(t, "step") {
			case "read": // a batch, of which some are sent, and some offsets are no records
				for range rapid.IntRange(0, 6).Draw(t, "records") {
					if rapid.Bool().Draw(t, "sent") {
						o.Open(read)
						open[read] = true
					}
					read += rapid.Int64Range(1, 3).Draw(t, "apart")
				}
				o.Read(read)
			case "done":
				if len(open) > 0 {
					one := rapid.SampledFrom(slices.Sorted(maps.Keys(open))).Draw(t, "done")
					o.Done(one)
					delete(open, one)
				}
			default: // one that was not opened, or is done with already
				if one := rapid.Int64Range(-1, read+1).Draw(t, "another"); !open[one] {
					o.Done(one)
				}
			}
			check()
		}
		for one := range open {
			o.Done(one)
		}
		if clear(open); len(o.open) > 0 {
			t.Fatalf("all are done with, and %d are held", len(o.open))
		}
		check()
	})
}

func TestOffsets_aBatchThatIsReadAgainTakesNothingBack(t *testing.T) {
	o := NewOffsets(10)
	o.Read(20)
	o.Read(15)
	if o.Next() != 20 {
		t.Errorf("%d, want 20", o.Next())
	}
}
