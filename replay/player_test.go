package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// play plays requests against a target that takes so long for an answer.
func play(t *testing.T, cfg Config, recorded []*Request, takes func(*Request) Outcome) (*Player, []Sent) {
	t.Helper()
	return playUntil(t, t.Context(), cfg, recorded, takes)
}

// playUntil is play with a context. What of cfg a test has set stays.
func playUntil(t *testing.T, ctx context.Context, cfg Config, recorded []*Request, takes func(*Request) Outcome) (*Player, []Sent) {
	t.Helper()
	var out []Sent
	if cfg.Next == nil {
		cfg.Next = func(context.Context) (*Request, error) {
			if len(recorded) == 0 {
				return nil, io.EOF
			}
			r := recorded[0]
			recorded = recorded[1:]
			return r, nil
		}
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 100
	}
	if cfg.Take == nil {
		cfg.Take = func(*Request) bool { return true }
	}
	cfg.Send = func(ctx context.Context, r *Request) Outcome {
		o := takes(r)
		select {
		case <-time.After(o.Took):
		case <-ctx.Done():
			return Outcome{Failure: TimedOut}
		}
		return o
	}
	cfg.Done = func(s Sent) { out = append(out, s) }
	p := NewPlayer(cfg)
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return p, out
}

// inOrder puts what was sent into the order of the requests.
func inOrder(sent []Sent) {
	slices.SortFunc(sent, func(a, b Sent) int { return int(a.Offset - b.Offset) })
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
		inOrder(sent)
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

func TestPlayer_saysWhyARequestIsLate(t *testing.T) {
	slow := func(*Request) Outcome { return Outcome{Status: 200, Took: time.Second} }
	for _, c := range []struct {
		name  string
		cfg   Config
		takes func(*Request) Outcome
		late  time.Duration // of the second
		held  Held
	}{
		{"it is not", Config{Pace: &Pace{Speed: 1}}, fine, 0, ByNothing},
		{"the rate", Config{Pace: &Pace{Speed: 1}, MaxRPS: 0.5}, slow, 1990 * time.Millisecond, ByRate},
		{"a slot", Config{Pace: &Pace{Speed: 1}, Concurrency: 1}, slow, 990 * time.Millisecond, ByConcurrency},
		{"a slot, and then the rate", Config{Pace: &Pace{Speed: 1}, Concurrency: 1, MaxRPS: 0.5}, slow, 1990 * time.Millisecond, ByRate},
		{"its client", Config{Pace: &Pace{Speed: 0.5}}, slow, grace, ByClient},
		{"nothing is late without a pace", Config{Pace: &Pace{}, Concurrency: 1}, slow, 0, ByConcurrency},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := at(0, 10)
				for _, r := range requests {
					if c.held == ByClient {
						r.Client = 1
					}
				}
				_, sent := play(t, c.cfg, requests, c.takes)
				inOrder(sent)
				if s := sent[1]; s.Late != c.late || s.Held != c.held || sent[0].Late != 0 || sent[0].Held != ByNothing {
					t.Errorf("%v late, held by %v; want %v by %v; the first %v", s.Late, s.Held, c.late, c.held, sent[0].Held)
				}
			})
		})
	}
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
			if most := mostWithin(time.Second, sent); float64(most) > max(limit, 1) {
				t.Fatalf("with %v a second %d were sent in one", limit, most)
			}
			if took := sent[len(sent)-1].At.Seconds(); limit >= 100 && math.Abs(took-3) > 0.06 {
				t.Errorf("%d requests at %v a second took %.2f s", len(sent), limit, took)
			}
		})
	}
}

// mostWithin is how many were sent in the busiest stretch of that length.
func mostWithin(length time.Duration, sent []Sent) (most int) {
	sent = slices.Clone(sent)
	slices.SortFunc(sent, func(a, b Sent) int { return cmp.Compare(a.At, b.At) })
	end := 0 // of the stretch that begins with a request
	for i, s := range sent {
		for end < len(sent) && sent[end].At < s.At+length-time.Microsecond {
			end++
		}
		most = max(most, end-i)
	}
	return most
}

// What is allowed is for the moment: a request that had to wait for a slot, or for one of the same client, has to be
// allowed when it goes.
func TestPlayer_neverSendsMoreThanMaxRPSAfterOtherWaits(t *testing.T) {
	test := func(t *testing.T, limit float64, concurrency int, speed float64) {
		r := rand.New(rand.NewPCG(uint64(limit), uint64(concurrency)))
		var times []int64
		for i := range int64(limit*2) + 20 {
			times = append(times, i*int64(1000/limit)/2) // twice as many as are allowed
		}
		requests := at(times...)
		for _, r := range requests {
			r.Service, r.Client = 0, uint64(r.Offset%7%5)
		}
		var takes []time.Duration // some so long that what is allowed meanwhile would be saved up
		for range requests {
			takes = append(takes, []time.Duration{time.Millisecond, 3 * time.Millisecond, 30 * time.Millisecond, time.Duration(3e9 / limit)}[r.IntN(4)])
		}
		_, sent := play(t, Config{Pace: &Pace{Speed: speed}, MaxRPS: limit, Concurrency: concurrency}, requests, func(q *Request) Outcome {
			return Outcome{Status: 200, Took: takes[q.Offset]}
		})
		if len(sent) != len(requests) {
			t.Errorf("%d of %d were sent", len(sent), len(requests))
		}
		for _, seconds := range []float64{1, 4} {
			if most := mostWithin(time.Duration(seconds*1e9), sent); float64(most) > max(limit*seconds, 1) {
				t.Errorf("%d were sent in %v s", most, seconds)
			}
		}
	}
	for _, limit := range []float64{0.5, 5, 100, 1000} {
		for _, concurrency := range []int{1, 3, 1000} {
			for _, speed := range []float64{0, 1} {
				t.Run(fmt.Sprintf("%v a second, %d at once, speed %v", limit, concurrency, speed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { test(t, limit, concurrency, speed) })
				})
			}
		}
	}
}

func TestPlayer_whoWaitsForItsClientIsAllowedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := at(make([]int64, 300)...)
		for _, r := range requests {
			r.Service, r.Client = 0, uint64(1+r.Offset%5)
		}
		_, sent := play(t, Config{Pace: &Pace{}, MaxRPS: 100, Concurrency: 1000}, requests, func(*Request) Outcome { return Outcome{Status: 200, Took: 30 * time.Millisecond} })
		if took := sent[len(sent)-1].At; len(sent) != 300 || took > 3100*time.Millisecond {
			t.Errorf("%d requests, at 100 a second, took %v", len(sent), took)
		}
	})
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
		pauses, paused := p.Pauses().Times, p.Pauses().Long
		if len(sent) != len(times) || failed > 520 || failed < breakMin || late > 0 || pauses == 0 || paused < 3*time.Second || paused > 11*time.Second {
			t.Errorf("%d sent, %d failed, %d late, %d pauses of %v", len(sent), failed, late, pauses, paused)
		}
		if len(told) != 2*pauses || !told[0] || told[len(told)-1] {
			t.Errorf("told %v", told)
		}
	})
}

// What a rebalance or a loop begins with is due when it comes, and the rest at the pace after it.
func TestPlayer_eachEpochBeginsThePaceAnew(t *testing.T) {
	const loop = 3 // begins with the last epoch, which is waited for as the others are, and is no stall
	epochs := [][]int64{{0, 1000, 2000}, {-3_600_000, -3_599_000, -3_598_500}, {7_200_000, 7_200_100, 7_201_000}, {1000, 900, 2000}}
	for name, c := range map[string]struct {
		pause  time.Duration // before each
		want   []int64       // ms
		stalls Stretch
	}{
		"at once":              {0, []int64{0, 1000, 2000, 2000, 3000, 3500, 3500, 3600, 4500, 4500, 4500, 5500}, Stretch{}},
		"after a pause":        {7 * time.Second, []int64{0, 1000, 2000, 9000, 10_000, 10_500, 17_500, 17_600, 18_500, 25_500, 25_500, 26_500}, Stretch{2, 14 * time.Second}},
		"after a short answer": {time.Nanosecond, []int64{0, 1000, 2000, 2000, 3000, 3500, 3500, 3600, 4500, 4500, 4500, 5500}, Stretch{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests []*Request
				for i, recorded := range epochs {
					for _, r := range at(recorded...) {
						r.Epoch, r.Round, r.Offset = i+1, i/loop, int64(len(requests))
						requests = append(requests, r)
					}
				}
				next, epoch := 0, 1
				p, sent := play(t, Config{Pace: &Pace{Speed: 1, MaxGap: time.Hour}, Next: func(context.Context) (*Request, error) {
					if next == len(requests) {
						return nil, io.EOF
					}
					r := requests[next]
					next++
					if r.Epoch > epoch {
						epoch = r.Epoch
						time.Sleep(c.pause)
					}
					return r, nil
				}}, nil, fine)
				inOrder(sent)
				for i, s := range sent {
					if off := s.At - time.Duration(c.want[i])*time.Millisecond; off.Abs() > time.Microsecond {
						t.Errorf("request %d was sent at %v, want %d ms", i, s.At, c.want[i])
					}
					if outOfOrder := i == 10; s.Late > time.Microsecond && !outOfOrder {
						t.Errorf("request %d was %v late", i, s.Late)
					}
				}
				if p.Stalls() != c.stalls {
					t.Errorf("%+v, want %+v", p.Stalls(), c.stalls)
				}
			})
		})
	}
}

// The end of a topic comes when it comes: who follows it is not late, and what comes next keeps its distance. What was
// there to be read is late.
func TestPlayer_isNotLateWhereTheRecordingIs(t *testing.T) {
	for name, c := range map[string]struct {
		live   bool
		stalls Stretch
	}{
		"live":          {true, Stretch{}},
		"read too late": {false, Stretch{1, 4 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests, next := at(0, 1000, 1100, 2100, 12_000), 0
				p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Next: func(context.Context) (*Request, error) {
					if next == len(requests) {
						return nil, io.EOF
					}
					if next == 1 {
						time.Sleep(5 * time.Second)
					}
					next++
					r := requests[next-1]
					r.Live = c.live
					return r, nil
				}}, nil, fine)
				inOrder(sent)
				// What comes in time is sent in time, shifted by as much as those before.
				for i, want := range []time.Duration{0, 5000, 5100, 6100, 16_000} {
					if s := sent[i]; s.At != want*time.Millisecond || s.Late != 0 || s.Held != ByNothing {
						t.Errorf("request %d was sent at %v, %v late, held by %v; want %d ms", i, s.At, s.Late, s.Held, want)
					}
				}
				if got := p.Stalls(); got != c.stalls {
					t.Errorf("stalls: %+v, want %+v", got, c.stalls)
				}
			})
		})
	}
}

// Whatever requests wait for when the replay ends: they are given back, and are never sent. Those that were taken before it are
// sent in their turn, as long as answers are waited for: what is behind them was sent already, and would be sent again for them.
func TestPlayer_sendsNothingAfterItsEnd(t *testing.T) {
	const end = 1500 * time.Millisecond
	slow := func(*Request) Outcome { return Outcome{Status: 200, Took: 2 * time.Second} }
	for name, c := range map[string]struct {
		cfg   Config
		takes func(*Request) Outcome
		alike bool // all of one client
		taken bool // they were let go, and wait for others
		sent  int
	}{
		"for their time":                 {Config{Pace: &Pace{Speed: 0.1}}, fine, false, false, 2},
		"for the rate":                   {Config{Pace: &Pace{}, MaxRPS: 1}, fine, false, false, 2},
		"for a slot":                     {Config{Pace: &Pace{}, Concurrency: 2}, slow, false, false, 2},
		"for one of their client":        {Config{Pace: &Pace{}}, slow, true, true, 4},
		"for their client, and the rate": {Config{Pace: &Pace{}, MaxRPS: 1}, fine, true, true, 7},
		"for the target":                 {Config{Pace: &Pace{}, Break: 0.5, Concurrency: 1}, func(*Request) Outcome { return Outcome{Failure: Refused, Took: 10 * time.Millisecond} }, false, false, breakMin + breakTrials},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var times []int64
				for i := range int64(60) {
					times = append(times, 100*i)
				}
				requests := at(times...)
				if c.alike {
					for _, r := range requests {
						r.Client = 1
					}
				}
				ctx, stop := context.WithTimeout(t.Context(), end)
				defer stop()
				next, given := 0, 0
				c.cfg.Next = func(ctx context.Context) (*Request, error) {
					if next == len(requests) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					next++
					given++
					return requests[next-1], nil
				}
				p, sent := playUntil(t, ctx, c.cfg, nil, c.takes)
				if len(sent) != c.sent {
					t.Errorf("%d were sent, want %d", len(sent), c.sent)
				}
				for _, s := range sent {
					if !c.taken && (s.At >= end || s.Failure == Stopped) || s.At >= end+lastAnswers || s.Method == "" {
						t.Errorf("request %d was sent at %v, and became %v", s.Offset, s.At, s.Outcome)
					}
				}
				kept := 0 // that were given to the player, and not back
				for _, r := range requests[:given] {
					if r.Method != "" {
						kept++
					}
				}
				if kept != len(sent) {
					t.Errorf("%d of %d were not given back, and %d were sent", kept, given, len(sent))
				}
				if time.Since(p.Began()) > end+lastAnswers {
					t.Errorf("it took %v", time.Since(p.Began()))
				}
			})
		})
	}
}

// What is under way at the end is waited for, but not for ever. What had no answer by then is told apart from
// what the target did.
func TestPlayer_waitsForTheLastAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		began := time.Now()
		var p *Player
		var sent []Sent
		p, sent = playUntil(t, ctx, Config{Pace: &Pace{Speed: 1}}, at(0, 1, 2, 3, 4, 1100), func(r *Request) Outcome {
			return []Outcome{
				{Status: 200, Took: 5900 * time.Millisecond},
				{Status: 200, Took: 6100 * time.Millisecond},
				{Status: 500, Took: time.Hour},
				{Failure: Reset, Took: 3 * time.Second},
				{Status: 404, Took: time.Millisecond},
			}[r.Offset]
		})
		if took := time.Since(began); took != 6*time.Second || time.Since(p.Began()) != took {
			t.Errorf("it took %v, %v by itself", took, time.Since(p.Began()))
		}
		want := map[int64]Outcome{0: {Answered, 200, 0, 5900e6}, 1: {Failure: Stopped}, 2: {Failure: Stopped}, 3: {Reset, 0, 0, 3e9}, 4: {Answered, 404, 0, 1e6}}
		report := NewReport(nil)
		for _, s := range sent {
			if s.Outcome != want[s.Offset] {
				t.Errorf("request %d became %+v, want %+v", s.Offset, s.Outcome, want[s.Offset])
			}
			report.Sent(&s)
		}
		if len(sent) != 5 {
			t.Errorf("%d were sent", len(sent))
		}
		if r := report.Result(Frame{Pace: new(Pace), FailOnDiff: -1}); r.Requests.Sent != 3 || r.Requests.Stopped != 2 || r.Compared.Same != 1 || r.Compared.NoAnswer != 1 || r.Compared.Other != 1 {
			t.Errorf("they are reported as %+v, %+v", r.Requests, r.Compared)
		}
	})
}

func TestPlayer_endsWithAnErrorOfItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, sent := errors.New("broken"), 0
		left := at(0, 10)
		p := NewPlayer(Config{Pace: &Pace{Speed: 1}, Concurrency: 1, Take: func(*Request) bool { return true }, Done: func(Sent) { sent++ },
			Send: func(_ context.Context, r *Request) Outcome { time.Sleep(time.Minute); return fine(r) },
			Next: func(context.Context) (*Request, error) {
				if len(left) == 1 {
					return nil, broken
				}
				r := left[0]
				left = left[1:]
				return r, nil
			}})
		if err := p.Run(t.Context()); !errors.Is(err, broken) || sent != 1 || time.Since(p.Began()) != time.Minute {
			t.Errorf("%v after %v, with %d answers", err, time.Since(p.Began()), sent)
		}
	})
}

func TestPlayer_aReplayOfNothingHasNoBeginning(t *testing.T) {
	p, sent := play(t, Config{Pace: &Pace{Speed: 1}}, nil, fine)
	if !p.Began().IsZero() || len(sent) > 0 {
		t.Errorf("began %v, %d were sent", p.Began(), len(sent))
	}
}

// every is n requests, so far apart.
func every(apart time.Duration, n int) []*Request {
	var times []int64
	for i := range int64(n) {
		times = append(times, i*apart.Milliseconds())
	}
	return at(times...)
}

func TestPlayer_callsATargetDownByWhatItWasNot(t *testing.T) {
	first := func(n int64, then Outcome) func(*Request) Outcome {
		return func(r *Request) Outcome {
			if r.Offset < n {
				return then
			}
			return Outcome{Status: 200}
		}
	}
	each := func(n int64, then Outcome) func(*Request) Outcome {
		return func(r *Request) Outcome {
			if r.Offset%n == n-1 {
				return then
			}
			return Outcome{Status: 200}
		}
	}
	for _, c := range []struct {
		name     string
		breaker  float64
		recorded int64
		answers  func(*Request) Outcome
		pauses   bool
	}{
		{"one too few without an answer", 0.5, 200, first(breakMin-1, Outcome{Failure: Refused}), false},
		{"enough without an answer", 0.5, 200, first(breakMin, Outcome{Failure: Refused}), true},
		{"enough without an answer, and nobody cares", 0, 200, first(breakMin, Outcome{Failure: Refused}), false},
		{"every other one reset", 0.5, 200, each(2, Outcome{Failure: Reset}), true},
		{"every third one reset", 0.5, 200, each(3, Outcome{Failure: Reset}), false},
		{"every third one reset, where a third is too many", 1.0 / 3, 200, each(3, Outcome{Failure: Reset}), true},
		{"all but one in time", 1, 200, each(2, Outcome{Failure: TimedOut}), false},
		{"none in time", 1, 200, each(1, Outcome{Failure: TimedOut}), true},
		{"502", 0.5, 200, each(1, Outcome{Status: 502}), true},
		{"503", 0.5, 404, each(1, Outcome{Status: 503}), true},
		{"504", 0.5, 200, each(1, Outcome{Status: 504}), true},
		{"503 where nothing was recorded", 0.5, -1, each(1, Outcome{Status: 503}), true},
		{"503 as recorded", 0.5, 503, each(1, Outcome{Status: 503}), false},
		{"503 where production had failed, too", 0.5, 500, each(1, Outcome{Status: 503}), false},
		{"no answer where production had failed", 0.5, 503, each(1, Outcome{Failure: NoHost}), true},
		{"500, which is the application's", 0.5, 200, each(1, Outcome{Status: 500}), false},
		{"404", 0.5, 200, each(1, Outcome{Status: 404}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := every(10*time.Millisecond, 200)
				for _, r := range requests {
					r.Status = c.recorded
				}
				p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Break: c.breaker}, requests, c.answers)
				if pauses := p.Pauses().Times; pauses > 0 != c.pauses || len(sent) != 200 {
					t.Errorf("%d pauses, %d sent", pauses, len(sent))
				}
			})
		})
	}
}

// A failure of long ago is none of now.
func TestPlayer_forgetsFailures(t *testing.T) {
	for apart, pauses := range map[time.Duration]bool{450 * time.Millisecond: true, 575 * time.Millisecond: false} { // 20 take 9 s, and 11.5
		synctest.Test(t, func(t *testing.T) {
			p, _ := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5}, every(apart, 100), func(*Request) Outcome { return Outcome{Failure: Refused} })
			if n := p.Pauses().Times; n > 0 != pauses {
				t.Errorf("%d pauses with a failure each %v", n, apart)
			}
		})
	}
}

func TestPlayer_triesATargetThatIsDownAndGoesOnWhenItIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const up = 21 * time.Second
		began := time.Now()
		requests := every(10*time.Millisecond, 1000)
		for _, r := range requests {
			r.Client = uint64(r.Offset % 3)
		}
		p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5, MaxRPS: 1000}, requests, func(*Request) Outcome {
			if time.Since(began) < up {
				return Outcome{Failure: Refused}
			}
			return Outcome{Status: 200, Took: time.Millisecond}
		})
		inOrder(sent)
		failed, first := 0, time.Duration(0)
		for i, s := range sent {
			if s.Failure != Answered {
				failed++
			} else if first == 0 {
				first = s.At
			}
			if s.Offset != int64(i) || s.Late > LateAfter || i > 0 && s.At < sent[i-1].At {
				t.Fatalf("request %d was sent at %v, %v late", s.Offset, s.At, s.Late)
			}
		}
		// Those until it was clear, and a few trials a second at most.
		if len(sent) != 1000 || failed > breakMin+breakTrials*21 || first < up || first > up+1100*time.Millisecond {
			t.Errorf("%d were sent, %d of them in vain; the first that was answered at %v", len(sent), failed, first)
		}
		if paused := p.Pauses().Long; time.Since(p.Began()) < paused+9700*time.Millisecond || time.Since(p.Began()) > paused+10100*time.Millisecond {
			t.Errorf("10 s were played in %v, with %v of pauses", time.Since(p.Began()), paused)
		}
	})
}

func TestPlayer_triesATargetThatIsDownWithFewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, sent := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5}, every(10*time.Millisecond, 100), func(r *Request) Outcome {
			if r.Offset < breakMin {
				return Outcome{Failure: Refused}
			}
			return Outcome{Status: 200, Took: time.Minute} // it is up again, but slow
		})
		inOrder(sent)
		if len(sent) != 100 || sent[breakMin+breakTrials-1].At > 2*time.Second || sent[breakMin+breakTrials].At < time.Minute {
			t.Errorf("%d were sent, the last trial at %v, and the next at %v", len(sent), sent[breakMin+breakTrials-1].At, sent[breakMin+breakTrials].At)
		}
	})
}

// A rebalance can come while the target is down: what is not sent then says nothing of the target.
func TestPlayer_goesOnWhenItsTrialsWereNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := 0
		p, sent := play(t, Config{Pace: &Pace{}, Break: 0.5, Concurrency: 1, Take: func(r *Request) bool {
			taken++
			return taken <= breakMin+5 || taken > breakMin+15
		}}, every(10*time.Millisecond, 400), func(r *Request) Outcome {
			if taken <= breakMin {
				return Outcome{Failure: Refused, Took: time.Millisecond}
			}
			return Outcome{Status: 200, Took: time.Millisecond}
		})
		if n, paused := p.Pauses().Times, p.Pauses().Long; len(sent) != 390 || n != 1 || paused > 3*time.Second {
			t.Errorf("%d were sent, with %d pauses of %v", len(sent), n, paused)
		}
	})
}

func TestPlayer_dropsWhatItMustNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := every(10*time.Millisecond, 100)
		for _, r := range requests {
			r.Client, r.Service = 1, 5
		}
		var mu sync.Mutex
		asked := 0
		_, sent := play(t, Config{Pace: &Pace{}, Concurrency: 2, Break: 0.1, Take: func(r *Request) bool {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return r.Offset%3 == 0
		}}, slices.Clone(requests), fine)
		if asked != 100 || len(sent) != 34 {
			t.Errorf("%d were asked for, %d sent", asked, len(sent))
		}
		for i, r := range requests {
			if given := r.Method == ""; given != (i%3 != 0) {
				t.Errorf("request %d was given back: %v", i, given)
			}
		}
	})
}

// Whoever asked for something after an answer does so again: the target has answered before.
func TestPlayer_noClientOvertakesItself(t *testing.T) {
	for name, cfg := range map[string]Config{
		"at full speed":             {Pace: &Pace{}, Concurrency: 64},
		"at full speed, one by one": {Pace: &Pace{}, Concurrency: 1},
		"with a rate":               {Pace: &Pace{}, Concurrency: 64, MaxRPS: 500},
		"with a pace that allows":   {Pace: &Pace{Speed: 1}, Concurrency: 64},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(3, 4))
				requests := every(2*time.Millisecond, 2000)
				takes := make([]time.Duration, len(requests))
				for i, q := range requests {
					q.Client, q.Service, q.Connect = r.Uint64N(8), r.Int64N(40), r.Int64N(3)
					takes[i] = time.Duration(r.Int64N(int64(30 * time.Millisecond)))
					if cfg.Pace.Speed > 0 {
						takes[i] = grace / 2
					}
				}
				_, sent := play(t, cfg, slices.Clone(requests), func(q *Request) Outcome { return Outcome{Status: 200, Took: takes[q.Offset]} })
				inOrder(sent)
				if len(sent) != len(requests) {
					t.Fatalf("%d of %d were sent", len(sent), len(requests))
				}
				last, together := make(map[uint64][]Sent), 0
				for _, s := range sent {
					for _, before := range last[s.Client] {
						if before.Time <= s.began() && before.At+before.Took > s.At && s.Client != 0 {
							t.Fatalf("request %d was sent at %v, and %d before it answered at %v", s.Offset, s.At, before.Offset, before.At+before.Took)
						}
						if before.At+before.Took > s.At {
							together++
						}
					}
					last[s.Client] = append(last[s.Client], s)
				}
				if cfg.Pace.Speed == 0 && cfg.Concurrency > 1 && together < 100 {
					t.Errorf("%d were sent beside another one of their client: the others need not wait", together)
				}
			})
		})
	}
}

// Those of others do not wait for a client that is slow.
func TestPlayer_aClientHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := every(100*time.Millisecond, 20)
		for i, r := range requests {
			r.Client = uint64(1 + i%2)
		}
		_, sent := play(t, Config{Pace: &Pace{Speed: 1}}, requests, func(r *Request) Outcome {
			return Outcome{Status: 200, Took: map[uint64]time.Duration{1: 10 * time.Second, 2: time.Millisecond}[r.Client]}
		})
		for _, s := range sent {
			switch {
			case s.Client == 2 && (s.Late > 0 || s.Held != ByNothing):
				t.Errorf("request %d was %v late, held by %v", s.Offset, s.Late, s.Held)
			case s.Client == 1 && s.Offset > 0 && (s.Late != grace || s.Held != ByClient):
				t.Errorf("request %d of the slow client was %v late, held by %v", s.Offset, s.Late, s.Held)
			}
		}
	})
}

// An answer counts when it comes, also one that was waited for longer than the breaker looks back.
func TestPlayer_pausesForATargetThatHangs(t *testing.T) {
	for _, timeout := range []time.Duration{5 * time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5, Concurrency: 128}, every(100*time.Millisecond, 1000), func(*Request) Outcome {
				return Outcome{Failure: TimedOut, Took: timeout}
			})
			if p.Pauses().Times == 0 {
				t.Errorf("timeout %v: %d were sent, without a pause", timeout, len(sent))
			}
		})
	}
}

func TestPlayer_tellsOfAnOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []bool
		p, _ := play(t, Config{Pace: &Pace{Speed: 1}, Break: 0.5, Paused: func(paused bool) { told = append(told, paused) }}, every(10*time.Millisecond, 3000), func(*Request) Outcome {
			if since := time.Since(began); since > 5*time.Second && since < 65*time.Second {
				return Outcome{Failure: Refused}
			}
			return Outcome{Status: 200, Took: time.Millisecond}
		})
		if pauses := p.Pauses(); pauses.Times != 1 || pauses.Long < 50*time.Second || pauses.Long > 62*time.Second || !slices.Equal(told, []bool{true, false}) {
			t.Errorf("%+v for one outage of 60 s, told %v", pauses, told)
		}
	})
}

// Who follows a topic, and cannot keep up with it for the target, is told so.
func TestPlayer_isLateWhileItFollowsWhereTheTargetIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := every(100*time.Millisecond, 100)
		for _, r := range requests {
			r.Live = true
		}
		_, sent := play(t, Config{Pace: &Pace{Speed: 1}, Concurrency: 1}, requests, func(*Request) Outcome { return Outcome{Status: 200, Took: time.Second} })
		inOrder(sent)
		if last := sent[len(sent)-1]; last.Late < 80*time.Second || last.Held != ByConcurrency {
			t.Errorf("10 s of requests took 100: the last one is %v late, held by %v", last.Late, last.Held)
		}
	})
}

// What was due while nothing could be read is not sent all at once.
func TestPlayer_makesUpForNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := every(10*time.Millisecond, 10_000)
		p, sent := play(t, Config{Pace: &Pace{Speed: 1}, Concurrency: 1000, Next: func(context.Context) (*Request, error) {
			switch len(left) {
			case 0:
				return nil, io.EOF
			case 9000:
				time.Sleep(time.Minute) // Kafka is away
			}
			r := left[0]
			left = left[1:]
			return r, nil
		}}, nil, fine)
		if most := mostWithin(time.Second, sent); most > 110 {
			t.Errorf("100 a second were recorded, and %d were sent in one", most)
		}
		if stalls := p.Stalls(); stalls.Times != 1 || stalls.Long < 59*time.Second || stalls.Long > 61*time.Second {
			t.Errorf("stalls: %+v", stalls)
		}
	})
}

// What was taken and is not to be sent any more, because others have it by then, is dropped.
func TestPlayer_dropsWhatIsNotKept(t *testing.T) {
	requests := []*Request{{Offset: 0, Client: 1}, {Offset: 1, Client: 1}}
	var sent, dropped []int64
	p := NewPlayer(Config{Pace: new(Pace), Concurrency: 2,
		Next: func(context.Context) (*Request, error) {
			if len(requests) == 0 {
				return nil, io.EOF
			}
			r := requests[0]
			requests = requests[1:]
			return r, nil
		},
		Take: func(*Request) bool { return true },
		Keep: func(r *Request) bool { return r.Offset == 0 },
		Drop: func(r *Request) { dropped = append(dropped, r.Offset) },
		Send: func(context.Context, *Request) Outcome { return Outcome{Status: 200} },
		Done: func(s Sent) { sent = append(sent, s.Offset) },
	})
	if err := p.Run(t.Context()); err != nil || !slices.Equal(sent, []int64{0}) || !slices.Equal(dropped, []int64{1}) {
		t.Errorf("%v were sent, %v dropped; %v", sent, dropped, err)
	}
}
