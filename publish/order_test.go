package publish

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests take a while, and of every seven one is refused or timed out: there is
// never more than one under way for a partition, and what each sender sent is
// stored once, in order.
func TestPartition_hasOneRequestUnderWayAndKeepsOrder(t *testing.T) {
	t.Parallel()
	c := fake(t, kfake.NumBrokers(2))
	var mu sync.Mutex
	underWay, requests := make(map[int32]int), 0
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		produce := req.(*kmsg.ProduceRequest)
		if produce.Acks != -1 {
			t.Errorf("a produce request asks for %d acknowledgements, not for all", produce.Acks)
		}
		id := produce.Topics[0].Partitions[0].Partition
		mu.Lock()
		if underWay[id]++; underWay[id] > 1 {
			t.Errorf("%d requests are under way for partition %d", underWay[id], id)
		}
		mu.Unlock()
		c.SleepControl(func() { time.Sleep(time.Millisecond) })
		mu.Lock()
		underWay[id]--
		requests++
		mu.Unlock()
		return nil, nil, false
	})
	for _, err := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.RequestTimedOut} {
		n := 0
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0, 1}, Err: err, Count: -1,
			When: func(kmsg.Request) bool { n++; return n%14 == 0 }})
	}
	s := serve(t, c.ListenAddrs(), options{records: 20}).known()
	const senders, each = 8, 100
	var load sync.WaitGroup
	for sender := range senders {
		load.Go(func() {
			receipts := make([]*Receipt, each)
			for i, r := range numbered(fmt.Sprint(sender), each) {
				receipts[i] = s.publish(uint64(sender%2), r)
			}
			for _, r := range receipts {
				if err := r.Wait(t.Context(), time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	load.Wait()
	if s.metric("drain_produce_retries_total", "reason=replicas") == 0 {
		t.Error("nothing was refused")
	}
	next := make(map[string]int)
	for _, records := range stored(t, c) {
		for _, r := range records {
			sender, i, _ := strings.Cut(string(r.Value), "-")
			if i != fmt.Sprint(next[sender]) {
				t.Fatalf("sender %s: %s came for %d", sender, i, next[sender])
			}
			next[sender]++
		}
	}
	for sender := range senders {
		if n := next[fmt.Sprint(sender)]; n != each {
			t.Errorf("sender %d: %d of %d records are stored", sender, n, each)
		}
	}
	sealed := 0.0
	for _, reason := range sealReasons {
		sealed += s.metric("drain_batches_total", "sealed_by="+reason)
	}
	if batches := s.metric("drain_batch_records"); sealed != batches || s.metric("drain_batches_total", "sealed_by=count") == 0 {
		t.Errorf("%v batches, %v of them sealed", batches, sealed)
	}
}

func TestMorePartitions_areUsedAndLoseNothing(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	done := make(chan struct{})
	var load sync.WaitGroup
	var sent [4]int
	for sender := range sent {
		load.Go(func() {
			for ; ; sent[sender]++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.send(uint64(sender+4*sent[sender]), "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	grow(t, c, 12)
	s.eventually(noticed, "the new partitions are known", func() bool { return len(s.topics[0].all()) == 12 })
	close(done)
	load.Wait()
	for id := range uint64(12) {
		s.commits(id, "x", hold)
	}
	total := 12
	for _, n := range sent {
		total += n
	}
	s.is(float64(total), "drain_records_total", "result=committed")
	partitions, records := stored(t, c), 0
	for _, p := range partitions {
		records += len(p)
	}
	if len(partitions) != 12 || records != total {
		t.Errorf("%d partitions hold %d records, want 12 and %d", len(partitions), records, total)
	}
}

func grow(t *testing.T, c *kfake.Cluster, partitions int32) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = testTopic, partitions
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(context.Background(), client); err != nil {
		t.Fatal(err)
	}
}
