package publish

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stall makes a cluster keep the produce requests of some partitions until they are
// released; one with a record "late" takes 400 ms, whatever its partition.
func stall(t *testing.T, c *kfake.Cluster, partitions ...int32) (release func()) {
	end := make(chan struct{})
	release = sync.OnceFunc(func() { close(end) })
	t.Cleanup(release)
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		p := req.(*kmsg.ProduceRequest).Topics[0].Partitions[0]
		switch {
		case bytes.Contains(p.Records, []byte("late")):
			c.SleepControl(func() { time.Sleep(400 * time.Millisecond) })
		case slices.Contains(partitions, p.Partition):
			c.SleepControl(func() { <-end })
		}
		return nil, nil, false
	})
	return release
}

// As many partitions fall silent at once as there are clients, and more: the one
// that does not may have to wait until each of them was tried once, but it is not
// taken for slow itself.
func TestSilentPartitions_harmNoOther(t *testing.T) {
	for _, n := range []int32{4, 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := fake(t, kfake.SeedTopics(n+1, testTopic))
			s := serve(t, c.ListenAddrs(), options{clients: 4}).known()
			silent := make([]int32, n)
			kept := make([]*Receipt, n)
			for i := range silent {
				silent[i] = int32(i)
			}
			release := stall(t, c, silent...)
			for i := range kept {
				kept[i] = s.publish(uint64(i), record("kept"))
			}
			for i := 0; s.metric("drain_produce_retries_total", "reason=timeout") < float64(n); i++ {
				s.commits(uint64(n), fmt.Sprint(i), hold)
			}
			s.commits(uint64(n), "late", hold)
			s.unharmed(uint64(n))
			release()
			for _, r := range kept {
				if _, err := s.wait(r); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestFailingPartition_harmsNoOther(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0}, Err: kerr.NotEnoughReplicas, Count: -1})
	kept := s.publish(0, record("kept"))
	s.unharmed(1, 2, 3)
	fault.Remove()
	if took, err := s.wait(kept); err != nil || took > hold {
		t.Errorf("%v after %s", err, took)
	}
}
