package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func TestBudget_boundsWhatIsTaken(t *testing.T) {
	b := NewBudget(100)
	var a Account
	if !b.TryAcquire(&a, 60) || b.TryAcquire(&a, 60) || b.Used() != 60 || b.Size() != 100 {
		t.Fatalf("%d of %d used", b.Used(), b.Size())
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- b.Acquire(ctx, &a, 60, false) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) || b.Used() != 60 {
		t.Fatalf("%v, %d used", err, b.Used())
	}
	go func() { waited <- b.Acquire(t.Context(), &a, 60, false) }()
	b.Release(&a, 60)
	if err := <-waited; err != nil || b.Used() != 60 {
		t.Fatalf("%v, %d used", err, b.Used())
	}
}

// A broker that takes 2,000 bytes in one batch, and a batch that has more: it is
// split until it fits, and only what can never fit is refused.
func TestTooLarge_isSplitAndOnlyWhatNeverFitsIsRefused(t *testing.T) {
	t.Parallel()
	c := fake(t, kfake.SeedTopics(1, "other"))
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(testTopic, 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, c.ListenAddrs(), options{}).known()
	s.commits(0, "before", hold)
	release := stall(t, c, 0)
	first := s.publish(0, record("first"))
	var want []string
	var neighbours []*Receipt
	for i := range 20 {
		value := fmt.Sprint(i, strings.Repeat(".", 200))
		want = append(want, value)
		neighbours = append(neighbours, s.publish(0, record(value)))
		if i == 7 {
			neighbours = append(neighbours, s.publish(0, record("beside"), record(strings.Repeat("x", 3000)), record("beside")))
			want = append(want, "beside", "beside")
		}
	}
	release()
	refused := 0
	for _, r := range append(neighbours, first) {
		switch err := r.Wait(t.Context(), time.Now().Add(soon)); {
		case errors.Is(err, ErrRefused):
			refused++
		case err != nil:
			t.Error(err)
		}
	}
	if refused != 1 {
		t.Errorf("%d requests are refused, want 1", refused)
	}
	holds(t, c, 0, append([]string{"before", "first"}, want...)...)
	s.is(1, "drain_records_total", "result=failed")
	s.is(24, "drain_records_total", "result=committed")
	if !s.log.Says("Kafka refuses a record for its size") {
		t.Error("the log does not say that a record is lost")
	}
	if used := s.cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes are still held", used)
	}
}

// What a topic does not take is learnt: the next batches are not refused first, and
// the next records are made to fit.
func TestTooLarge_isLearnt(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	c := fake(t)
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(testTopic, 1, map[string]string{"max.message.bytes": fmt.Sprint(limit)}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, c.ListenAddrs(), options{}).known()
	before := s.MaxRecord(0)
	fill := func() {
		t.Helper()
		records := make([]Record, 30)
		for i := range records {
			records[i] = record(strings.Repeat("x", 10_000))
		}
		if err := s.publish(0, records...).Wait(t.Context(), time.Now().Add(soon)); err != nil {
			t.Error(err)
		}
	}
	fill()
	refused := s.metric("drain_produce_retries_total", "reason=too_large")
	if refused == 0 {
		t.Fatal("nothing was too large")
	}
	fill()
	if again := s.metric("drain_produce_retries_total", "reason=too_large"); again != refused {
		t.Errorf("%v batches were refused, then %v more", refused, again-refused)
	}
	if n := s.MaxRecord(0); n >= limit || n < limit/4 || before < 1<<20 {
		t.Errorf("the largest record was %d bytes and is now %d", before, n)
	}
	if n := strings.Count(s.log.String(), "Kafka takes no batch of this size"); n == 0 || n > 3 {
		t.Errorf("said %d times", n)
	}
}

func TestBudget_isBackWhenAllIsSettled(t *testing.T) {
	t.Parallel()
	c := fake(t)
	n := 0
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0, 1, 2, 3}, Err: kerr.MessageTooLarge, Count: -1,
		When: func(kmsg.Request) bool { n++; return n%3 == 0 }})
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0, 1, 2, 3}, Err: kerr.NotEnoughReplicas, Count: 5})
	s := serve(t, c.ListenAddrs(), options{budget: 20_000, records: 10}).known() // senders wait for room
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for i := range 50 {
				s.publish(uint64(i), Record{Key: []byte(fmt.Sprint(i)), Value: make([]byte, i*10)}, record("beside")).Forget()
			}
		})
	}
	load.Wait()
	s.eventually(soon, "nothing is held", func() bool { return s.cfg.Budget.Used() == 0 })
	committed, failed := s.metric("drain_records_total", "result=committed"), s.metric("drain_records_total", "result=failed")
	if committed+failed != 400 || failed == 0 {
		t.Errorf("%v committed, %v failed", committed, failed)
	}
}

// While others wait, nobody gets more than a quarter; while nobody does, all.
func TestBudget_isShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		var greedy, modest, small Account
		for range 10 {
			if !b.TryAcquire(&greedy, 10) {
				t.Fatal("what is free is not given")
			}
		}
		var order []string
		acquire := func(name string, a *Account, n int) {
			go func() {
				if err := b.Acquire(t.Context(), a, n, false); err != nil {
					t.Error(err)
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(order, want) {
				t.Fatalf("%s: %v had their turn, want %v", what, order, want)
			}
		}
		acquire("greedy", &greedy, 10)
		acquire("modest", &modest, 20)
		acquire("small", &small, 5)
		expect("without room")
		b.Release(&greedy, 10)
		expect("half the room that the first within its share needs")
		if b.TryAcquire(&small, 1) || b.TryAcquire(&greedy, 1) {
			t.Fatal("who comes last is served first")
		}
		b.Release(&greedy, 10)
		expect("room for one", "modest")
		b.Release(&greedy, 5)
		expect("room for another", "modest", "small")
		acquire("modest again", &modest, 30) // 50 are held by it then
		b.Release(&greedy, 20)
		expect("room for the greedy, who came first", "modest", "small", "greedy")
		if !b.TryAcquire(&small, 5) {
			t.Fatal("one within its share waits behind one that is not")
		}
		b.Release(&greedy, 65)
		expect("room for all", "modest", "small", "greedy", "modest again")
		b.Release(&modest, 50)
		b.Release(&small, 10)
		if b.Used() != 0 || greedy.held != 0 || modest.held != 0 || small.held != 0 {
			t.Errorf("%d used, %d %d %d held", b.Used(), greedy.held, modest.held, small.held)
		}
	})
}

// Whoever asks for what, in whatever order: what is used is what is held and never
// more than there is, nobody waits who could be served, and all get their turn.
func TestBudget_alwaysAddsUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := NewBudget(100)
		accounts := make([]Account, 4)
		type hold struct {
			a *Account
			n int
		}
		var held []hold
		var waiting []*request
		check := func() {
			sum := 0
			for i := range accounts {
				sum += accounts[i].held
			}
			if b.used != sum || sum > 100 {
				rt.Fatalf("%d used, %d held", b.used, sum)
			}
			var first *request
			for e := b.waiting.Front(); e != nil; e = e.Next() {
				w := e.Value.(*request)
				if w.more && w.n <= 100-b.used {
					rt.Fatalf("one that holds bytes waits for %d of %d free", w.n, 100-b.used)
				}
				if w.more {
					continue
				}
				if first == nil || b.within(w.account, w.n) && !b.within(first.account, first.n) {
					first = w
				}
			}
			if first != nil && first.n <= 100-b.used {
				rt.Fatalf("one waits for %d of %d free", first.n, 100-b.used)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"acquire": func(rt *rapid.T) {
				a, n := &accounts[rapid.IntRange(0, 3).Draw(rt, "account")], rapid.IntRange(1, 60).Draw(rt, "n")
				more := rapid.Bool().Draw(rt, "more")
				if b.tryAcquire(a, n, more) { // as Acquire does
					held = append(held, hold{a, n})
					return
				}
				w := &request{a, n, more, make(chan struct{})}
				b.waiting.PushBack(w)
				waiting = append(waiting, w)
			},
			"release": func(rt *rapid.T) {
				if len(held) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(held)-1).Draw(rt, "which")
				b.Release(held[i].a, held[i].n)
				held = slices.Delete(held, i, i+1)
				waiting = slices.DeleteFunc(waiting, func(w *request) bool {
					select {
					case <-w.granted:
						held = append(held, hold{w.account, w.n})
						return true
					default:
						return false
					}
				})
			},
			"": func(*rapid.T) { check() },
		})
		for len(held) > 0 {
			b.Release(held[0].a, held[0].n)
			held = held[1:]
			waiting = slices.DeleteFunc(waiting, func(w *request) bool {
				select {
				case <-w.granted:
					held = append(held, hold{w.account, w.n})
					return true
				default:
					return false
				}
			})
		}
		if len(waiting) > 0 || b.used != 0 {
			rt.Fatalf("%d still wait, %d used", len(waiting), b.used)
		}
	})
}
