package publish

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitIsAContextOfItsStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		parent, stop := context.WithCancel(context.WithValue(t.Context(), key{}, "of the parent"))
		l := limits{parent: parent}
		first := l.start(time.Second)
		if at, ok := first.Deadline(); !ok || time.Until(at) != time.Second || first.Err() != nil || first.Value(key{}) != "of the parent" {
			t.Errorf("deadline %v, %v; error %v; value %v", at, ok, first.Err(), first.Value(key{}))
		}
		time.Sleep(900 * time.Millisecond)
		l.end(first, true)
		second := l.start(time.Second)
		if second != first {
			t.Error("a step that went well leaves nothing for the next")
		}
		time.Sleep(900 * time.Millisecond) // past the first limit
		synctest.Wait()
		if second.Err() != nil {
			t.Errorf("ended within its limit: %v", second.Err())
		}
		time.Sleep(101 * time.Millisecond)
		<-second.Done()
		if !errors.Is(second.Err(), context.DeadlineExceeded) {
			t.Errorf("past its limit: %v", second.Err())
		}
		l.end(second, true)
		third := l.start(time.Second)
		if third == second || third.Err() != nil {
			t.Error("a limit that passed is used again")
		}
		l.end(third, false)
		<-third.Done() // those whom the step left behind are let go
		fourth := l.start(time.Second)
		if fourth == third {
			t.Error("a context that others may hold is used again")
		}
		stop()
		<-fourth.Done()
		if !errors.Is(fourth.Err(), context.Canceled) {
			t.Errorf("with its parent ended: %v", fourth.Err())
		}
		l.end(fourth, true)
		l.close()
	})
}

func TestALimitCostsNothingWhileStepsGoWell(t *testing.T) {
	l := limits{parent: t.Context()}
	defer l.close()
	step := func() { l.end(l.start(time.Minute), true) }
	step()
	if allocs := testing.AllocsPerRun(100, step); allocs > 0 {
		t.Errorf("%v allocations a step", allocs)
	}
}
