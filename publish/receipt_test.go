package publish

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
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
	if !s.cfg.Budget.TryAcquire(&s.account, int(b.receipts[0].bytes)) {
		s.t.Fatal("no room")
	}
	return b
}

// owner counts how often it was told, and what.
type owner struct {
	account         *Account
	settled, failed atomic.Int32
}

func (o *owner) Account() *Account { return o.account }

func (o *owner) Settled(failed bool) {
	o.settled.Add(1)
	if failed {
		o.failed.Add(1)
	}
}

func TestReceipt(t *testing.T) {
	soon := func() time.Time { return time.Now().Add(time.Millisecond) }
	for promise, test := range map[string]func(*testing.T, *service){
		"waits for nothing when nothing was published": func(t *testing.T, s *service) {
			r := s.receipt()
			s.finish(r, 0, false)
			if err := r.Wait(t.Context(), time.Now().Add(-time.Hour)); err != nil {
				t.Error(err)
			}
		},
		"waits until all is published": func(t *testing.T, s *service) {
			r := s.receipt()
			s.settle(claimed(s, r, 1), false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			s.finish(r, 0, false)
		},
		"waits for the last of its batches": func(t *testing.T, s *service) {
			r := s.receipt()
			batches := []*batch{claimed(s, r, 1), claimed(s, r, 2), claimed(s, r, 3)}
			first, second := batches[2].split()
			s.finish(r, 0, false)
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
		"tells all who wait, and its owner before them": func(t *testing.T, s *service) {
			o := owner{account: &s.account}
			r := NewReceipt(&o)
			b := claimed(s, r, 1)
			s.finish(r, 0, false)
			got := make(chan error)
			const requests = 5
			for i := range requests {
				if i > 0 {
					r.Join()
				}
				go func() {
					err := r.Wait(t.Context(), time.Now().Add(time.Minute))
					if o.settled.Load() != 1 || o.failed.Load() != 0 {
						t.Errorf("the owner was told %d times", o.settled.Load())
					}
					got <- err
				}()
			}
			time.Sleep(time.Millisecond)
			s.settle(b, false)
			for range requests {
				if err := <-got; err != nil {
					t.Error(err)
				}
			}
		},
		"is refused when one record is": func(t *testing.T, s *service) {
			o := owner{account: &s.account}
			r := NewReceipt(&o)
			s.settle(claimed(s, r, 1), true)
			s.settle(claimed(s, r, 1), false)
			s.finish(r, 0, false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
			if o.settled.Load() != 1 || o.failed.Load() != 1 {
				t.Errorf("the owner was told %d times, of them %d that it failed", o.settled.Load(), o.failed.Load())
			}
			next := s.receipt()
			s.finish(next, 0, false)
			if err := next.Wait(t.Context(), soon()); err != nil {
				t.Errorf("the next request is answered %v", err)
			}
		},
		"is refused when a part was not taken": func(t *testing.T, s *service) {
			r := s.receipt()
			b := claimed(s, r, 1)
			s.finish(r, 0, true)
			s.settle(b, false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		},
		"waits no longer than its deadline, and counts what is committed all the same": func(t *testing.T, s *service) {
			r := s.receipt()
			early, late, refused := claimed(s, r, 1), claimed(s, r, 3), claimed(s, r, 1)
			s.finish(r, 0, false)
			s.settle(early, false)
			if err := r.Wait(t.Context(), soon()); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			s.settle(late, false)
			s.settle(refused, true)
			s.is(4, "drain_recovered_total")
		},
		"counts once what was answered twice": func(t *testing.T, s *service) {
			r := s.receipt()
			b := claimed(s, r, 3)
			s.finish(r, 0, false)
			r.Join()
			for range 2 {
				if err := r.Wait(t.Context(), time.Now()); !errors.Is(err, ErrUncommitted) {
					t.Error(err)
				}
			}
			s.settle(b, false)
			s.is(3, "drain_recovered_total")
		},
		"waits no longer than its request": func(t *testing.T, s *service) {
			r := s.receipt()
			late := claimed(s, r, 3)
			s.finish(r, 0, false)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.Wait(ctx, time.Now().Add(time.Hour)); !errors.Is(err, ErrUncommitted) {
				t.Error(err)
			}
			s.settle(late, false)
			s.is(3, "drain_recovered_total")
		},
		"is not used again while it is held": func(t *testing.T, s *service) {
			var given []*Receipt
			var late []*batch
			for i := range 2 {
				r := s.receipt()
				late = append(late, claimed(s, r, 1))
				s.finish(r, 0, false)
				if i == 0 { // its batch holds it
					_ = r.Wait(t.Context(), time.Now())
				} else { // a request holds it
					s.settle(late[i], false)
				}
				given = append(given, r)
			}
			for range 100 {
				if r := s.receipt(); r == given[0] || r == given[1] {
					t.Fatal("used again")
				}
			}
			s.settle(late[0], false)
			if err := given[1].Wait(t.Context(), soon()); err != nil {
				t.Error(err)
			}
		},
		"counts nothing as recovered that nobody waited for": func(t *testing.T, s *service) {
			before, after := s.receipt(), s.receipt()
			s.settle(claimed(s, before, 1), false)
			s.finish(before, 0, false)
			before.Forget()
			late := claimed(s, after, 1)
			s.finish(after, 0, false)
			after.Forget()
			s.settle(late, false)
			s.is(0, "drain_recovered_total")
		},
	} {
		t.Run(promise, func(t *testing.T) { test(t, serve(t, []string{"127.0.0.1:1"}, options{})) })
	}
}

// However close a commit and a deadline are: a request is answered 503 and what is
// committed counts as recovered, or neither.
func TestReceipt_countsAsRecoveredJustWhatWasAnswered503(t *testing.T) {
	s := serve(t, []string{"127.0.0.1:1"}, options{})
	answered, waited := 0.0, 0
	for range 10_000 {
		r := s.receipt()
		first, second := claimed(s, r, 2), claimed(s, r, 3)
		s.settle(first, false)
		var commit sync.WaitGroup
		commit.Go(func() { s.settle(second, false); s.finish(r, 0, false) })
		if err := r.Wait(t.Context(), time.Now().Add(time.Microsecond)); errors.Is(err, ErrUncommitted) {
			answered += 5
		} else {
			waited++
		}
		commit.Wait()
	}
	if answered == 0 || waited == 0 {
		t.Fatalf("%v were answered 503, %d waited", answered/5, waited)
	}
	// A commit between the deadline and the answer counts, and is no 503.
	s.is(answered, "drain_recovered_total")
}
