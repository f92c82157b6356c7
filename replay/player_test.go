package replay

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// play plays requests that were recorded at these times, in ms, against a target that takes so long for an answer.
func play(t *testing.T, cfg Config, recorded []*Request, takes func(*Request) Outcome) (*Player, []Sent) {
	t.Helper()
	var out []Sent
	cfg.Next = func(context.Context) (*Request, error) {
		if len(recorded) == 0 {
			return nil, io.EOF
		}
		r := recorded[0]
		recorded = recorded[1:]
		return r, nil
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 100
	}
	cfg.Take = func(*Request) bool { return true }
	cfg.Send = func(_ context.Context, r *Request) Outcome {
		o := takes(r)
		time.Sleep(o.Took)
		return o
	}
	cfg.Done = func(s Sent) { out = append(out, s) }
	p := NewPlayer(cfg)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, out
}

func fine(*Request) Outcome { return Outcome{Status: 200, Took: 10 * time.Millisecond} }

func at(ms ...int64) (out []*Request) {
	for i, t := range ms {
		out = append(out, &Request{Offset: int64(i), Time: 1_700_000_000_000_000 + 1000*t, Method: "GET", Status: 200, Service: 10, Connect: 0})
	}
	return out
}

func TestPlayer_keepsThePace(t *testing.T) {
	for _, speed := range []float64{0.1, 0.5, 1, 2, 10, 100} {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			var times []int64
			for at, i := int64(0), 0; i < 2000; i++ {
				at += int64(r.ExpFloat64() * 100)
				times = append(times, at)
			}
			began := time.Now()
			_, sent := play(t, Config{Pace: &Pace{Speed: speed}}, at(times...), fine)
			took := time.Since(began)
			whole := time.Duration(float64(times[len(times)-1]-times[0]) / speed * 1e6)
			if off := took - 10*time.Millisecond - whole; off.Abs() > whole/1000 {
				t.Errorf("speed %v: %v for %v", speed, took, whole)
			}
			if len(sent) != len(times) {
				t.Fatalf("%d of %d were sent", len(sent), len(times))
			}
			for _, s := range sent {
				if due := time.Duration(float64(times[s.Offset]-times[0]) / speed * 1e6); (s.At-due).Abs() > time.Microsecond || s.Late > time.Microsecond {
					t.Fatalf("speed %v: the request of %d ms was sent at %v, %v late", speed, times[s.Offset], s.At, s.Late)
				}
			}
		})
	}
}

func TestPlayer_lateRequestsDoNotPushTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Two at once at most, and the first two take 300 ms.
		_, sent := play(t, Config{Pace: &Pace{Speed: 1}, Concurrency: 2}, at(0, 10, 20, 30, 400, 500), func(r *Request) Outcome {
			if r.Offset < 2 {
				return Outcome{Status: 200, Took: 300 * time.Millisecond}
			}
			return Outcome{Status: 200, Took: 10 * time.Millisecond}
		})
		slices.SortFunc(sent, func(a, b Sent) int { return int(a.Offset - b.Offset) })
		for i, want := range []struct {
			at, late int
			held     Held
		}{{0, 0, 0}, {10, 0, 0}, {300, 280, ByConcurrency}, {310, 280, ByConcurrency}, {400, 0, 0}, {500, 0, 0}} {
			if s := sent[i]; s.At != time.Duration(want.at)*time.Millisecond || s.Late != time.Duration(want.late)*time.Millisecond || s.Held != want.held {
				t.Errorf("request %d was sent at %v, %v late, held by %v", i, s.At, s.Late, s.Held)
			}
		}
	})
}

func TestPlayer_shortensGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &Pace{Speed: 2, MaxGap: time.Minute}
		_, sent := play(t, Config{Pace: pace}, at(0, 1000, 3_600_000, 3_600_500, 3_660_500), fine)
		var got []time.Duration
		for _, s := range sent {
			got = append(got, s.At)
		}
		if want := []time.Duration{0, 500 * time.Millisecond, 30500 * time.Millisecond, 30750 * time.Millisecond, 60750 * time.Millisecond}; !slices.Equal(got, want) {
			t.Errorf("sent at %v, want %v", got, want)
		}
		if pace.Gaps != 1 || pace.Cut != 3599*time.Second-time.Minute {
			t.Errorf("%d gaps were shortened by %v", pace.Gaps, pace.Cut)
		}
	})
}

func TestPlayer_neverSendsMoreThanMaxRPSAndDropsNothing(t *testing.T) {
	for _, limit := range []float64{0.5, 1, 5, 99, 100, 1000, 12_345} {
		synctest.Test(t, func(t *testing.T) {
			requests := make([]int64, int(limit*3)+3)
			_, sent := play(t, Config{Pace: &Pace{}, MaxRPS: limit, Concurrency: 1000}, at(requests...), fine)
			if len(sent) != len(requests) {
				t.Errorf("%d of %d were sent", len(sent), len(requests))
			}
			end := 0 // of the second that begins with a request
			for i, s := range sent {
				for end < len(sent) && sent[end].At < s.At+time.Second-time.Microsecond {
					end++
				}
				if float64(end-i) > max(limit, 1) {
					t.Fatalf("with %v a second %d were sent in the second after %v", limit, end-i, s.At)
				}
			}
			if took := sent[len(sent)-1].At.Seconds(); limit >= 100 && math.Abs(took-3) > 0.06 {
				t.Errorf("%d requests at %v a second took %.2f s", len(sent), limit, took)
			}
		})
	}
}

func TestPlayer_keepsToConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under, most := 0, 0
		_, sent := play(t, Config{Pace: &Pace{}, Concurrency: 7}, at(make([]int64, 100)...), func(*Request) Outcome {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			under--
			mu.Unlock()
			return Outcome{Status: 200}
		})
		if len(sent) != 100 || most != 7 {
			t.Errorf("%d were sent, %d at a time", len(sent), most)
		}
	})
}

// A client's request that came after the answer to another one, does so again, as long as the pace allows.
func TestPlayer_keepsTheOrderOfAClient(t *testing.T) {
	recorded := func() []*Request {
		all := at(0, 20, 25, 100)
		for i, r := range all {
			r.Client, r.Service = 1, []int64{10, 10, 10, 10}[i] // the second and third overlap
		}
		return all
	}
	slow := func(*Request) Outcome { return Outcome{Status: 200, Took: 50 * time.Millisecond} }
	synctest.Test(t, func(t *testing.T) {
		_, sent := play(t, Config{Pace: &Pace{}}, recorded(), slow)
		for i, want := range []int{0, 50, 50, 100} {
			if sent[i].At != time.Duration(want)*time.Millisecond {
				t.Errorf("at full speed request %d was sent at %v, want %d ms", i, sent[i].At, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, sent := play(t, Config{Pace: &Pace{Speed: 1}}, recorded(), slow)
		for i, want := range []int{0, 22, 27, 100} {
			if sent[i].At != time.Duration(want)*time.Millisecond {
				t.Errorf("with a pace request %d was sent at %v, want %d ms", i, sent[i].At, want)
			}
		}
	})
}

func TestPlayer_pausesWhileTheTargetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []int64
		for i := range int64(3000) {
			times = append(times, 10*i) // 30 s
		}
		down := func(since time.Duration) bool { return since > 5*time.Second && since < 15*time.Second }
		began := time.Now()
		var told []bool
		p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5, Paused: func(is bool) { told = append(told, is) }}, at(times...), func(*Request) Outcome {
			if down(time.Since(began)) {
				return Outcome{Failure: Refused}
			}
			return Outcome{Status: 200, Took: time.Millisecond}
		})
		failed, late := 0, 0
		for _, s := range sent {
			if s.Failure != Answered {
				failed++
			}
			if s.Late > LateAfter {
				late++
			}
		}
		pauses, paused := p.Pauses()
		if len(sent) != len(times) || failed > 520 || failed < 50 || late > 0 || pauses == 0 || paused < 3*time.Second || paused > 11*time.Second {
			t.Errorf("%d sent, %d failed, %d late, %d pauses of %v", len(sent), failed, late, pauses, paused)
		}
		if len(told) != 2*pauses || !told[0] || told[len(told)-1] {
			t.Errorf("told %v", told)
		}
	})
}
