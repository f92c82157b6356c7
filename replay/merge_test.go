package replay

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func read(partition int, finished bool, seconds ...float64) Read {
	r := Read{Finished: finished, Newest: minTime}
	for _, s := range seconds {
		at := int64(s * 1e6)
		r.Requests = append(r.Requests, &Request{Partition: partition, Time: at})
		r.Newest = max(r.Newest, at)
	}
	return r
}

// all is what Next gives until it fails.
func all(ctx context.Context, m *Merge) (seconds []float64, err error) {
	for {
		r, err := m.Next(ctx)
		if err != nil {
			return seconds, err
		}
		seconds = append(seconds, float64(r.Time)/1e6)
	}
}

func TestMerge_ordersPartitionsByRecordedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMerge(5*time.Second, 1<<20, 2<<20)
		m.Begin([]Lane{{Partition: 0}, {Partition: 3}, {Partition: 7, Finished: true}})
		var adding sync.WaitGroup
		for _, partition := range []int{0, 3} {
			r := rand.New(rand.NewPCG(1, uint64(partition)))
			adding.Go(func() {
				for at := 0; at < 1000; at += 10 {
					var seconds []float64
					for range 20 {
						seconds = append(seconds, float64(at)+r.Float64()*14) // 4 s of what comes next
					}
					if err := m.Add(t.Context(), partition, read(partition, at == 990, seconds...)); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
				}
			})
		}
		got, err := all(t.Context(), m)
		adding.Wait()
		if err != io.EOF || len(got) != 4000 || !slices.IsSorted(got) || m.OutOfOrder() != 0 {
			t.Errorf("%d requests, in order %v, %d out of order, %v", len(got), slices.IsSorted(got), m.OutOfOrder(), err)
		}
	})
}

func TestMerge_countsWhatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMerge(5*time.Second, 1<<20, 2<<20)
		m.Begin([]Lane{{Partition: 0}, {Partition: 1}})
		go func() {
			_ = m.Add(t.Context(), 1, read(1, true, 100))
			_ = m.Add(t.Context(), 0, read(0, false, 1, 2, 8))
			time.Sleep(time.Second)
			_ = m.Add(t.Context(), 0, read(0, true, 1.5, 9))
		}()
		got, err := all(t.Context(), m)
		if want := []float64{1, 2, 1.5, 8, 9, 100}; err != io.EOF || !slices.Equal(got, want) || m.OutOfOrder() != 1 {
			t.Errorf("%v, %d out of order, %v; want %v", got, m.OutOfOrder(), err, want)
		}
	})
}

// Whoever counts what was read has done so before the last of it ends the replay, and only once.
func TestMerge_saysWhatItTookBeforeNextKnows(t *testing.T) {
	m := NewMerge(time.Second, 1, 2)
	m.Begin([]Lane{{Partition: 0}, {Partition: 1}})
	var took []string
	add := func(ctx context.Context, name string, r Read) {
		partition := 0
		r.Taken = func() {
			if len(m.held) > len(took) || m.lanes[partition].finished {
				t.Errorf("%s was there before", name)
			}
			took = append(took, name)
		}
		_ = m.Add(ctx, partition, r) // what fails took nothing
	}
	add(t.Context(), "first", read(0, false, 1))
	ended, end := context.WithCancel(t.Context())
	end()
	add(ended, "no room", read(0, false, 9))
	if !slices.Equal(took, []string{"first"}) {
		t.Errorf("%q", took)
	}
	m.Begin([]Lane{{Partition: 0}})
	took = nil
	add(t.Context(), "last", read(0, true, 1))
	if seconds, err := all(t.Context(), m); len(seconds) != 1 || err != io.EOF || !slices.Equal(took, []string{"last"}) {
		t.Errorf("%v, %v, %q", seconds, err, took)
	}
	m.Begin(nil)
	add(t.Context(), "nowhere", read(0, true, 1))
	if len(took) != 1 {
		t.Errorf("%q", took)
	}
}

func TestMerge_waitsForWhoIsBehindAndNotForEver(t *testing.T) {
	for name, c := range map[string]struct {
		read Read // of partition 1, at once
		wait time.Duration
	}{
		"there is more to read":     {Read{Newest: minTime}, stalled},
		"it was read to its end":    {Read{Newest: minTime, AtEnd: true}, quiet},
		"it is far enough":          {Read{Newest: 6e6}, 0},
		"it is not yet far enough":  {Read{Newest: 5e6}, stalled},
		"no more of it is wanted":   {Read{Newest: minTime, Finished: true}, 0},
		"what it had is not chosen": {Read{Newest: 100e6}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMerge(5*time.Second, 1<<20, 2<<20)
				m.Begin([]Lane{{Partition: 0}, {Partition: 1}})
				first := read(0, false, 1)
				first.Newest = 6e6
				for partition, read := range []Read{first, c.read} {
					if err := m.Add(t.Context(), partition, read); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				r, err := m.Next(t.Context())
				if took := time.Since(began); err != nil || r.Time != 1e6 || took != c.wait {
					t.Errorf("%v %v after %v, want %v", r, err, took, c.wait)
				}
			})
		})
	}
}

// A partition that is far ahead waits, one that the others wait for does not, and memory is bounded whatever comes.
func TestMerge_boundsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := (&Request{}).size()
		m := NewMerge(50*time.Millisecond, 100*size, 200*size)
		m.Begin([]Lane{{Partition: 0}, {Partition: 1}})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		added := [2]int{}
		for partition, step := range []float64{0.001, 1} { // a thousand a second, and one
			go func() {
				for i := 0; i < 100_000; i++ {
					if m.Add(ctx, partition, read(partition, false, float64(i)*step)) != nil {
						return
					}
					added[partition]++
				}
			}()
		}
		synctest.Wait()
		held := func() int64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.bytes / size
		}
		const most = 100 + 52 // the memory, and a window of the first
		if held() > most || held() < 90 {
			t.Errorf("%d requests of one and %d of the other were taken, %d are held", added[0], added[1], held())
		}
		for i := range 50_000 {
			if _, err := m.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			if held() > most {
				t.Fatalf("%d are held after %d", held(), i)
			}
		}
		if m.OutOfOrder() > 0 {
			t.Errorf("%d out of order", m.OutOfOrder())
		}
	})
}

func TestMerge_forgetsWhatWasTakenFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMerge(0, 1, 2)
		m.Begin([]Lane{{Partition: 0}})
		if err := m.Add(t.Context(), 0, read(0, false, 1, 2)); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error)
		go func() { waits <- m.Add(t.Context(), 0, read(0, false, 3)) }()
		synctest.Wait()
		m.Begin([]Lane{{Partition: 1}})
		if err := <-waits; err == nil {
			t.Error("an Add of a partition that is gone did not fail")
		}
		if err := m.Add(t.Context(), 1, read(1, true, 9)); err != nil {
			t.Fatal(err)
		}
		if got, err := all(t.Context(), m); err != io.EOF || !slices.Equal(got, []float64{9}) {
			t.Errorf("%v, %v", got, err)
		}
		m.Begin(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if got, err := all(ctx, m); err != context.DeadlineExceeded {
			t.Errorf("without a partition it gave %v and %v", got, err)
		}
	})
}
