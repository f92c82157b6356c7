package consume

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drain/trial/stalls"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEveryRecordOnceInOrder(t *testing.T) {
	both(t, 4, func(t *testing.T, w *world) {
		l := newLedger(t)
		for id := range 4 {
			w.write(id, numbered("before", 1000)...)
		}
		r := w.join(l, nil)
		eventually(t, "what was there before is read", func() bool { return l.count() == 4000 })
		for id := range 4 {
			w.write(id, numbered("after", 1000)...)
		}
		eventually(t, "what came is read", func() bool { return l.count() == 8000 })
		if err := r.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		r.stopsWithin(time.Second)
		for id := range 4 {
			l.holds(id, append(numbered("before", 1000), numbered("after", 1000)...)...)
		}
		if r.Ready() == nil {
			t.Error("ready though stopped")
		}
	})
}

func TestBeginsWhereTheHandlerSays(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		w.write(0, numbered("x", 10)...)
		w.write(1, numbered("y", 10)...)
		w.drop(1, 4)
		l := newLedger(t)
		l.next[0] = 7
		w.join(l, nil)
		eventually(t, "they are read", func() bool { return l.count() == 9 })
		l.holds(0, numbered("x", 10)[7:]...)
		l.holds(1, numbered("y", 10)[4:]...)
		l.mu.Lock()
		defer l.mu.Unlock()
		p := l.told[0]
		if len(p) != 2 || p[0].Committed != -1 || p[0].First != 0 || p[0].End != 10 || p[1].First != 4 || p[1].End != 10 || p[1].Offset != 4 {
			t.Errorf("told %+v", p)
		}
		topics, err := w.admin.ListTopics(t.Context(), w.topic)
		if id := topics[w.topic].ID; err != nil || p[0].TopicID != base64.RawURLEncoding.EncodeToString(id[:]) {
			t.Errorf("the topic's id is %q, not %q (%v)", p[0].TopicID, id, err)
		}
	})
}

// TestMembersComeAndGoUnderLoad has members share a topic, join and leave while it is written
// to, some of them without a word. The ledger keeps the offsets: nothing is skipped, nothing is
// taken twice, and nobody gets a partition before the one before has let go.
func TestMembersComeAndGoUnderLoad(t *testing.T) {
	both(t, 6, func(t *testing.T, w *world) {
		const n = 3000
		var writing sync.WaitGroup
		for id := range 6 {
			writing.Go(func() {
				for i := range n {
					w.client.Produce(context.Background(), w.records(id, fmt.Sprint(i))[0], func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
					if i%10 == 0 {
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
		}
		l := newLedger(t)
		named := func(name string) func(*Config, *bookkeeper) {
			return func(_ *Config, b *bookkeeper) { b.name = name }
		}
		a := w.join(l, named("a"))
		a.ready()
		b := w.join(l, named("b"))
		eventually(t, "both have some", func() bool { return len(a.Lag()) == 3 && len(b.Lag()) == 3 })
		c := w.join(l, named("c"))
		eventually(t, "all have some", func() bool { return len(a.Lag()) == 2 && len(b.Lag()) == 2 && len(c.Lag()) == 2 })
		a.stop()
		eventually(t, "the others have all", func() bool { return len(b.Lag()) == 3 && len(c.Lag()) == 3 })
		b.stop()
		writing.Wait()
		eventually(t, "all is read", func() bool { return l.count() >= 6*n })
		c.stop()
		for id := range 6 {
			l.holds(id, numbered0(n)...)
		}
		if l.wrong > 0 {
			t.Errorf("%d batches of members that had lost their partition", l.wrong)
		}
		holder := make(map[string]string)
		for _, e := range l.events {
			name, id := e[:1], e[2:]
			switch has := holder[id]; {
			case e[1] == '+' && has != "" && has != name:
				t.Errorf("%s gets partition %s, which %s has", name, id, has)
			case e[1] == '+':
				holder[id] = name
			default:
				delete(holder, id)
			}
		}
		for id, next := range w.committed() {
			if next != n {
				t.Errorf("partition %d: committed %d, want %d", id, next, n)
			}
		}
	})
}

func numbered0(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestReassignAsksAgainInTheSameGeneration(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		w.write(0, numbered("x", 10)...)
		w.write(1, numbered("y", 10)...)
		l := newLedger(t)
		var once sync.Once
		r := w.join(l, func(_ *Config, b *bookkeeper) {
			b.consume = func(_ context.Context, batch *Batch) (err error) {
				once.Do(func() {
					l.mu.Lock()
					defer l.mu.Unlock()
					l.next[batch.Partition] = 5 // as if another had written
					err = fmt.Errorf("somebody else wrote: %w", ErrReassign)
				})
				return err
			}
			b.revoked = func(context.Context) { t.Error("Revoked") }
		})
		eventually(t, "they are read", func() bool { return l.count() == 15 })
		if len(l.told) != 2 || len(l.told[1]) != 2 {
			t.Errorf("asked %d times: %v", len(l.told), l.told)
		}
		r.Reassign()
		eventually(t, "Assigned is asked again", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.told) == 3
		})
		w.write(0, "more")
		eventually(t, "reading goes on", func() bool { return l.count() == 16 })
		if n := r.metric("drain_consumer_rebalances_total"); n != 1 {
			t.Errorf("%v generations", n)
		}
		r.bookkeeper.revoked = nil
	})
}

func TestBatchIsGivenAgainAfterAnError(t *testing.T) {
	w := pretend(t, 1)
	t.Parallel()
	w.write(0, numbered("x", 10)...)
	l := newLedger(t)
	var failed atomic.Int32
	r := w.join(l, func(_ *Config, b *bookkeeper) {
		b.consume = func(context.Context, *Batch) error {
			if failed.Add(1) <= 3 {
				return errors.New("the store is away")
			}
			return nil
		}
	})
	eventually(t, "they are taken", func() bool { return l.count() == 10 })
	l.holds(0, numbered("x", 10)...)
	if n := r.metric("drain_consumer_errors_total", "what=handler"); n != 3 {
		t.Errorf("%v errors counted", n)
	}
	if n := strings.Count(r.log.String(), "the store is away"); n != 1 {
		t.Errorf("told %d times", n)
	}
	eventually(t, "the recovery is told", func() bool { return r.log.Says("what is read is handled again") })
}

func TestAssignedIsAskedAgainAfterAnError(t *testing.T) {
	w := pretend(t, 1)
	t.Parallel()
	w.write(0, "x")
	l := newLedger(t)
	var failed atomic.Int32
	r := w.join(l, func(_ *Config, b *bookkeeper) {
		b.assigned = func([]Partition) error {
			if failed.Add(1) <= 2 {
				return errors.New("the store is away")
			}
			return nil
		}
	})
	eventually(t, "it is told why nothing is read", func() bool {
		err := r.Ready()
		return err != nil && strings.Contains(err.Error(), "the store is away")
	})
	eventually(t, "it is taken", func() bool { return l.count() == 1 })
	if n := r.metric("drain_consumer_errors_total", "what=assignment"); n != 2 {
		t.Errorf("%v errors counted", n)
	}
}

// TestCommittedOffsets: a handler that keeps none begins where the one before ended.
func TestCommittedOffsets(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		w.write(0, numbered("x", 10)...)
		w.write(1, numbered("y", 10)...)
		first := newLedger(t)
		r := w.join(first, nil)
		eventually(t, "they are read", func() bool { return first.count() == 20 })
		eventually(t, "they are committed while it runs", func() bool { c := w.committed(); return c[0] == 10 && c[1] == 10 })
		eventually(t, "the commit is measured", func() bool { return r.metric("drain_consumer_commit_seconds") > 0 })
		w.write(0, numbered("z", 10)...)
		eventually(t, "more are read", func() bool { return first.count() == 30 })
		r.Done(0, 14)
		r.Done(7, 14) // not ours
		r.stop()
		if c := w.committed(); c[0] != 14 || c[1] != 10 || len(c) != 2 {
			t.Errorf("committed at the stop: %v", c)
		}
		r.Done(0, 3) // not any more
		second := newLedger(t)
		w.join(second, nil)
		eventually(t, "the rest is read", func() bool { return second.count() == 6 })
		second.holds(0, numbered("z", 10)[4:]...)
		if p := second.told[0]; p[0].Committed != 14 || p[0].Offset != 14 || p[0].End != 20 {
			t.Errorf("told %+v", p)
		}
	})
}

func TestCommittedOffsetBeyondItsEnd(t *testing.T) {
	t.Parallel()
	w := pretend(t, 1)
	w.write(0, numbered("x", 10)...)
	offsets := make(kadm.Offsets)
	offsets.AddOffset(w.topic, 0, 100, -1)
	if err := w.admin.CommitAllOffsets(t.Context(), w.group, offsets); err != nil {
		t.Fatal(err)
	}
	l := newLedger(t)
	w.join(l, nil)
	eventually(t, "it is assigned", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.told) > 0 })
	if p := l.told[0][0]; p.Committed != 100 || p.Offset != 10 || p.End != 10 {
		t.Errorf("told %+v", p)
	}
}

func TestLeavingIsTold(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		l := newLedger(t)
		a, b := w.join(l, nil), w.join(l, nil)
		eventually(t, "both have one", func() bool { return len(a.Lag()) == 1 && len(b.Lag()) == 1 })
		a.stopsWithin(time.Second)
		watch := stalls.Start()
		eventually(t, "the other has both", func() bool { return len(b.Lag()) == 2 })
		if took := watch.Took(); took > 3*time.Second { // the session's is 6 s
			t.Errorf("taken over after %s", took)
		}
		b.stop()
		if n, state := w.members(); n != 0 {
			t.Errorf("%d members, %s", n, state)
		}
	})
}

func TestLagAndItsMetric(t *testing.T) {
	w := pretend(t, 2)
	t.Parallel()
	w.write(0, numbered("x", 10)...)
	l := newLedger(t)
	hold := make(chan struct{})
	r := w.join(l, func(_ *Config, b *bookkeeper) {
		b.consume = func(ctx context.Context, batch *Batch) error {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	lag := func(next, end, lag int64) func() bool {
		return func() bool {
			all := r.Lag()
			return len(all) == 2 && all[0] == Lag{0, next, end, lag} && r.metric("drain_consumer_lag_records", "partition=0") == float64(lag)
		}
	}
	eventually(t, "the lag is seen", lag(0, 10, 10))
	for i := range 5 { // one is handed over, one is fetched: later ones are only asked for
		w.write(0, fmt.Sprint(i))
		eventually(t, "the end is seen while the handler is busy", lag(0, int64(11+i), int64(11+i)))
	}
	close(hold)
	eventually(t, "there is none", lag(15, 15, 0))
	r.stop()
	if v := r.metric("drain_consumer_lag_records"); v != -1 {
		t.Errorf("a lag of %v without an assignment", v)
	}
	if v := r.metric("drain_consumer_records_total"); v != 15 {
		t.Errorf("%v records counted", v)
	}
}

func TestRecordsArriveAtOnce(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		l := newLedger(t)
		arrived := make(chan time.Time, 100)
		w.join(l, func(_ *Config, b *bookkeeper) {
			b.consume = func(context.Context, *Batch) error {
				arrived <- time.Now()
				return nil
			}
		})
		w.write(0, "first")
		<-arrived
		best := time.Hour
		for range 20 {
			w.write(0, "next")
			committed := time.Now()
			best = min(best, (<-arrived).Sub(committed))
		}
		if best > 2*pace {
			t.Errorf("%s after its commit at best", best)
		}
	})
}
