package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drain/trial/stalls"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestShutdown_storesWhatWasTakenAndTakesNoMore(t *testing.T) {
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{records: 7}).known()
	for i, r := range numbered("x", 1000) {
		s.publish(uint64(i), r).Forget()
	}
	s.Unready()
	if err := s.Ready(); !errors.Is(err, ErrStopping) {
		t.Errorf("Ready says %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.add(s.receipt(), 0, record("late")); !errors.Is(err, ErrStopping) {
		t.Errorf("Publish says %v", err)
	}
	n := 0
	for _, records := range stored(t, c) {
		n += len(records)
	}
	if n != 1000 {
		t.Errorf("%d of 1000 records are stored", n)
	}
	s.is(1000, "drain_records_total", "result=committed")
}

func TestShutdown_endsAtItsDeadlineAndSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	for how, breakIt := range map[string]func(*testing.T, *kfake.Cluster, *wire){
		"dead":   func(_ *testing.T, c *kfake.Cluster, _ *wire) { c.Close() },
		"silent": func(t *testing.T, _ *kfake.Cluster, w *wire) { w.silence(t, everyKey) },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			wire := new(wire)
			c := fake(t, kfake.ListenFn(wire.listen))
			s := serve(t, c.ListenAddrs(), options{records: 10}).known()
			for id := range uint64(4) {
				s.commits(id, "before", hold)
			}
			breakIt(t, c, wire)
			s.publish(0, numbered("x", 35)...).Forget()
			s.publish(1, record("y")).Forget()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			watch := stalls.Start()
			err := s.Shutdown(ctx)
			if took := watch.Took(); ctx.Err() == nil || took > 1500*time.Millisecond {
				t.Errorf("ended after %s, of 500ms", took)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "36 records") {
				t.Errorf("Shutdown says %v", err)
			}
			s.is(36, "drain_records_total", "result=failed")
		})
	}
}

// While the brokers refuse, time out, move and forget: what was acknowledged before
// a stop in the middle is stored once.
func TestShutdownUnderLoad_losesNothing(t *testing.T) {
	for run := range 20 {
		c := fake(t, kfake.NumBrokers(2))
		s := serve(t, c.ListenAddrs(), options{records: 50, budget: 20_000}).known()
		for i, err := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotLeaderForPartition, kerr.OutOfOrderSequenceNumber} {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{int32(i)}, Err: err, Count: 1 + run%3})
		}
		var published, acknowledged sync.Map
		var stop atomic.Bool
		var load, requests sync.WaitGroup
		for sender := range 4 {
			load.Go(func() {
				for i := 0; !stop.Load(); i++ {
					value := fmt.Sprintf("%d-%d", sender, i)
					published.Store(value, true)
					r := s.publish(uint64(i), record(value))
					requests.Go(func() {
						if r.Wait(context.Background(), time.Now().Add(soon)) == nil {
							acknowledged.Store(value, true)
						}
					})
				}
			})
		}
		s.eventually(soon, "load", func() bool { return s.metric("drain_records_total", "result=committed") > 300 })
		move(t, c, 0)
		stop.Store(true)
		load.Wait()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		requests.Wait()
		times := make(map[string]int)
		for _, records := range stored(t, c) {
			for _, v := range values(records) {
				times[v]++
			}
		}
		count := func(m *sync.Map) (n int) {
			m.Range(func(value, _ any) bool {
				if times[value.(string)] != 1 {
					t.Errorf("%s is stored %d times", value, times[value.(string)])
				}
				n++
				return true
			})
			return n
		}
		if all, ok := count(&published), count(&acknowledged); all != ok || all != len(times) {
			t.Errorf("%d published, %d acknowledged, %d stored", all, ok, len(times))
		}
	}
}

// A handler whose connection was cut off may still be in Publish when Shutdown is
// called: the records it has not added yet are waited for.
func TestShutdown_waitsForAPublishUnderWay(t *testing.T) {
	s := serve(t, fake(t).ListenAddrs(), options{}).known()
	s.adding.Add(1)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	select {
	case <-ended:
		t.Fatal("ended before the Publish under way")
	case <-time.After(50 * time.Millisecond):
	}
	s.adding.Add(-1)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
