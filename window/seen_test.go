package window

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// A Seen, whatever part of it another one took over, says what a list of all ids says.
func TestSeen_knowsTenMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSeen(1 << 20)
		stored := map[int64][]byte{}
		came := map[string]int64{} // the minute in which an id was new
		at := int64(1_800_000_000_000)
		store := func() {
			fresh, newest, old := s.Fresh()
			for _, n := range fresh {
				stored[n.Minute] = append(stored[n.Minute], n.Entries...)
			}
			for _, minute := range old {
				if minute >= newest-SeenMinutes {
					t.Fatalf("minute %d is old at %d", minute, newest)
				}
				delete(stored, minute)
			}
			if len(stored) > SeenMinutes+1 {
				t.Fatalf("%d minutes are stored", len(stored))
			}
		}
		for range rapid.IntRange(1, 200).Draw(t, "records") {
			at += rapid.SampledFrom([]int64{0, 1, 1000, 59_000, 60_000, 5 * 60_000, 12 * 60_000, -30_000}).Draw(t, "pause")
			id := fmt.Sprintf("f%d-%d", rapid.IntRange(0, 5).Draw(t, "frame"), rapid.IntRange(0, 130).Draw(t, "index"))
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				id = rapid.SampledFrom([]string{"", "-", "a-", "a", "a-01", "a-1", "a-99999", "a-123456", "-7"}).Draw(t, "odd id")
			}
			minute := at / 60_000
			noted, was := came[id]
			got := s.Again([]byte(id), at)
			switch {
			case id == "" && got:
				t.Fatal("no id was seen before")
			case was && s.newest-noted <= SeenMinutes && !got:
				t.Fatalf("%s came %d minutes ago, and is new", id, minute-noted)
			case !was && got:
				t.Fatalf("%s never came before, and is known", id)
			}
			if !got && id != "" {
				came[id] = minute
			}
			switch rapid.IntRange(0, 12).Draw(t, "then") {
			case 0:
				store()
			case 1:
				store()
				other := NewSeen(1 << 20)
				for minute := s.newest - SeenMinutes; minute <= s.newest; minute++ {
					if err := other.Load(Noted{minute, stored[minute]}); err != nil {
						t.Fatal(err)
					}
				}
				s = other
			}
		}
	})
}

func TestSeen_isBounded(t *testing.T) {
	s := NewSeen(1000)
	for i := range 100_000 {
		if s.Again(fmt.Appendf(nil, "frame%d-0", i), 60_000) {
			t.Fatalf("record %d is known", i)
		}
	}
	if len(s.entries) > 1000 || cap(s.queue) > 8000 || s.Forgotten != 99_000 {
		t.Errorf("%d entries, a queue of %d, %d forgotten", len(s.entries), cap(s.queue), s.Forgotten)
	}
	for i := 99_001; i < 100_000; i++ {
		if !s.Again(fmt.Appendf(nil, "frame%d-0", i), 60_000) {
			t.Fatalf("record %d, one of the newest, is forgotten", i)
		}
	}
}

func TestSeen_refusesHalfAnEntry(t *testing.T) {
	if err := NewSeen(10).Load(Noted{5, make([]byte, 17)}); err == nil {
		t.Error("17 bytes were taken")
	}
}

func TestSeen_allocatesNothingForAFramesNextRecord(t *testing.T) {
	s := NewSeen(1000)
	ids := make([][]byte, 64)
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "0123456789abcdef-%d", 63-i)
	}
	s.Again(ids[0], 60_000)
	i := 1
	if n := testing.AllocsPerRun(60, func() { s.Again(ids[i], 60_000); i++ }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSeen(b *testing.B) {
	s := NewSeen(1 << 18)
	ids := make([][]byte, 100_000)
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "0123456789abcdef%d-%d", i/100, 99-i%100)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Again(ids[i%len(ids)], int64(i/len(ids))*15*60_000)
		if i++; i%len(ids) == 0 {
			s.Fresh()
		}
	}
}

// What another process is told of a minute is bounded, also where Kafka's times stand still.
func TestSeen_tellsABoundedPart(t *testing.T) {
	s := NewSeen(1000)
	told := 0
	for i := range 10_000 {
		s.Again(fmt.Appendf(nil, "frame%d-0", i), -5)
		if i%100 == 0 {
			fresh, _, _ := s.Fresh()
			for _, n := range fresh {
				told += len(n.Entries) / 16
			}
		}
	}
	if told != 1000 {
		t.Errorf("%d entries are told, want 1000", told)
	}
}

func TestSeen_tellsAnIdWithoutAnIndexFromAFrames(t *testing.T) {
	s := NewSeen(10)
	for _, id := range []string{"abc-0", "abc", "abc-x", "abc-00"} {
		if s.Again([]byte(id), 60_000) || !s.Again([]byte(id), 60_000) {
			t.Errorf("%s is known before, or not afterwards", id)
		}
	}
}
