package publish

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// claimed is a batch of records that r waits for, as add makes it.
func claimed(s *service, r *Receipt, records int) *batch {
	s.t.Helper()
	b := newBatch(time.Now())
	for range records {
		b.add(&Record{})
	}
	b.claimFor(r, records)
	if !s.cfg.Budget.TryAcquire(b.budget) {
		s.t.Fatal("no room")
	}
	return b
}

func TestReceipt(t *testing.T) {
	soon := func() time.Time { return time.Now().Add(time.Millisecond) }
	for promise, test := range map[string]func(*testing.T, *service){
		"waits for nothing when nothing was published": func(t *testing.T, s *service) {
			if err := NewReceipt().Wait(t.Context(), time.Now().Add(-time.Hour)); err != nil {
				t.Error(err)
			}
		},
		"waits for the last of its batches": func(t *testing.T, s *service) {
			r := NewReceipt()
			batches := []*batch{claimed(s, r, 1), claimed(s, r, 2), claimed(s, r, 3)}
			first, second := batches[2].split()
			got := make(chan error)
			go func() { got <- r.Wait(t.Context(), time.Now().Add(time.Minute)) }()
			for _, b := range []*batch{second, batches[1], batches[0]} {
				s.settle(b, false)
				select {
				case err := <-got:
					t.Fatalf("answered %v too early", err)
				case <-time.After(time.Millisecond):
				}
			}
			s.settle(first, false)
			if err := <-got; err != nil {
				t.Error(err)
			}
		},
		"is refused when one record is": func(t *testing.T, s *service) {
			r := NewReceipt()
			s.settle(claimed(s, r, 1), true)
			s.settle(claimed(s, r, 1), false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
			if err := NewReceipt().Wait(t.Context(), soon()); err != nil {
				t.Errorf("the next request is answered %v", err)
			}
		},
		"waits no longer than its deadline, and counts what comes later": func(t *testing.T, s *service) {
			r := NewReceipt()
			early, late, refused := claimed(s, r, 1), claimed(s, r, 3), claimed(s, r, 1)
			s.settle(early, false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			s.settle(late, false)
			s.settle(refused, true)
			s.is(3, "drain_recovered_total")
		},
		"waits no longer than its request": func(t *testing.T, s *service) {
			r := NewReceipt()
			late := claimed(s, r, 3)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.Wait(ctx, time.Now().Add(time.Hour)); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			s.settle(late, false)
			s.is(3, "drain_recovered_total")
		},
		"is not used again while its batches hold it": func(t *testing.T, s *service) {
			given := NewReceipt()
			late := claimed(s, given, 1)
			if err := given.Wait(t.Context(), soon()); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			var next []*Receipt
			var held []*batch
			for range 100 {
				r := NewReceipt()
				if r == given {
					t.Fatal("used again")
				}
				next, held = append(next, r), append(held, claimed(s, r, 1))
			}
			s.settle(late, false)
			for i, r := range next {
				if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrUncommitted) {
					t.Fatal(err)
				}
				s.settle(held[i], false)
			}
		},
		"counts nothing as recovered that nobody waited for": func(t *testing.T, s *service) {
			before, after := NewReceipt(), NewReceipt()
			s.settle(claimed(s, before, 1), false)
			before.Forget()
			late := claimed(s, after, 1)
			after.Forget()
			s.settle(late, false)
			s.is(0, "drain_recovered_total")
		},
	} {
		t.Run(promise, func(t *testing.T) { test(t, serve(t, []string{"127.0.0.1:1"}, options{})) })
	}
}

// However close a commit and a deadline are: a request is answered 503 and what is
// committed afterwards counts as recovered, or neither.
func TestReceipt_countsAsRecoveredJustWhatWasAnswered503(t *testing.T) {
	s := serve(t, []string{"127.0.0.1:1"}, options{})
	answered := 0.0
	for range 10_000 {
		r := NewReceipt()
		first, second := claimed(s, r, 2), claimed(s, r, 3)
		s.settle(first, false)
		var commit sync.WaitGroup
		commit.Go(func() { s.settle(second, false) })
		if err := r.Wait(t.Context(), time.Now().Add(time.Microsecond)); errors.Is(err, ErrUncommitted) {
			answered += 3
		}
		commit.Wait()
	}
	if answered == 0 {
		t.Fatal("no deadline passed")
	}
	s.is(answered, "drain_recovered_total")
}
