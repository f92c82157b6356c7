package publish

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What a broker can answer to a batch, and what must come of it.
func TestBatchRefusedOnce_isStoredOnce(t *testing.T) {
	for _, fault := range []struct {
		err    *kerr.Error
		reason string
		again  bool // under a new producer id
	}{
		{kerr.RequestTimedOut, "replicas", false}, // kfake appends first
		{kerr.NotEnoughReplicas, "replicas", false},
		{kerr.NotEnoughReplicasAfterAppend, "replicas", false}, // kfake appends first
		{kerr.OutOfOrderSequenceNumber, "producer_id", true},
		{kerr.UnknownProducerID, "producer_id", true},
		{kerr.InvalidProducerEpoch, "producer_id", true},
		{kerr.NotLeaderForPartition, "no_leader", false},
		{kerr.KafkaStorageError, "no_leader", false},
		{kerr.UnknownTopicOrPartition, "unknown_topic", false},
		{kerr.TopicAuthorizationFailed, "authorization", false},
		{kerr.CorruptMessage, "other", false},
		{kerr.UnknownServerError, "other", false},
	} {
		t.Run(fault.err.Message, func(t *testing.T) {
			t.Parallel()
			c := fake(t)
			producers := producersAt(c)
			s := serve(t, c.ListenAddrs(), options{}).known()
			s.commits(0, "before", hold)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0}, Err: fault.err})
			s.commits(0, "faulted", hold)
			s.commits(0, "after", hold)
			holds(t, c, 0, "before", "faulted", "after")
			s.is(1, "drain_produce_retries_total", "reason="+fault.reason)
			s.is(3, "drain_records_total", "result=committed")
			if ids := producers(); len(ids) > 1 != fault.again {
				t.Errorf("produced under the ids %d", ids)
			}
		})
	}
}

// The sequence is counted in 31 bits.
func TestSequence_beginsAgainAtItsEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go sink(l)
	s := serve(t, []string{l.Addr().String()}, options{}).known()
	s.commits(0, "first", hold)
	pt := s.topics[0].all()[0]
	pt.sequence = math.MaxInt32 - 1
	if err := s.publish(0, numbered("x", 5)...).Wait(t.Context(), time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if pt.sequence != 3 {
		t.Errorf("%d comes after %d and 5 records", pt.sequence, math.MaxInt32-1)
	}
}

func TestDuplicateSequence_isCommitted(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0}, Err: kerr.DuplicateSequenceNumber})
	s.commits(0, "stored by an earlier attempt", hold)
	s.is(1, "drain_records_total", "result=committed")
}

// producersAt notes the producer ids of all produce requests.
func producersAt(c *kfake.Cluster) func() []int64 {
	var mu sync.Mutex
	var ids []int64
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		var b kmsg.RecordBatch
		if err := b.ReadFrom(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records); err != nil {
			return nil, err, true
		}
		mu.Lock()
		defer mu.Unlock()
		if len(ids) == 0 || ids[len(ids)-1] != b.ProducerID {
			ids = append(ids, b.ProducerID)
		}
		return nil, nil, false
	})
	return func() []int64 {
		mu.Lock()
		defer mu.Unlock()
		return append([]int64(nil), ids...)
	}
}

func TestAnswerLostAfterTheAppend_isStoredOnce(t *testing.T) {
	t.Parallel()
	wire := new(wire)
	c := fake(t, kfake.ListenFn(wire.listen))
	s := serve(t, c.ListenAddrs(), options{}).known()
	s.commits(0, "before", hold)
	wire.lose.Store(true)
	s.commits(0, "lost", hold)
	if wire.lose.Load() {
		t.Fatal("no answer was lost")
	}
	s.commits(0, "after", hold)
	holds(t, c, 0, "before", "lost", "after")
	s.is(1, "drain_produce_retries_total", "reason=connection")
}

func TestLeaderMoves_longestAnswerIsUnderASecond(t *testing.T) {
	t.Parallel()
	c := fake(t, kfake.NumBrokers(2))
	s := serve(t, c.ListenAddrs(), options{}).known()
	done := make(chan struct{})
	var load sync.WaitGroup
	for partition := range uint64(4) {
		load.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-pace.C:
					s.commits(partition, fmt.Sprint(i), time.Second)
				}
			}
		})
	}
	for i := range int32(16) {
		move(t, c, i%4)
		s.commits(uint64(i%4), "moved", time.Second)
	}
	close(done)
	load.Wait()
	for id, records := range stored(t, c) {
		next := 0
		for _, v := range values(records) {
			switch v {
			case "moved":
			case fmt.Sprint(next):
				next++
			default:
				t.Fatalf("partition %d: %s came for %d", id, v, next)
			}
		}
	}
}

// A dozen clients know where the leader was, and none is asked in vain twice.
func TestLeaderMoves_isFoundWithTheSecondAttempt(t *testing.T) {
	t.Parallel()
	c := fake(t, kfake.NumBrokers(2), kfake.SeedTopics(16, testTopic))
	s := serve(t, c.ListenAddrs(), options{clients: 12}).known()
	for i := range int32(4) {
		var receipts []*Receipt
		for id := range uint64(16) {
			receipts = append(receipts, s.publish(id, record("all clients are used")))
		}
		for _, r := range receipts {
			if err := r.Wait(t.Context(), time.Now().Add(soon)); err != nil {
				t.Fatal(err)
			}
		}
		move(t, c, i)
		s.commits(uint64(i), "moved", hold)
	}
	s.is(4, "drain_produce_retries_total", "reason=no_leader")
}

func move(t *testing.T, c *kfake.Cluster, partition int32) {
	t.Helper()
	if err := c.MoveTopicPartition(testTopic, partition, 1-c.LeaderFor(testTopic, partition)); err != nil {
		t.Error(err)
	}
}

func TestPartitionWithoutLeader_waitsAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	s.commits(0, "before", hold)
	found := leaderless(t, c, 0)
	receipt := s.publish(0, record("meanwhile"))
	s.eventually(soon, "no leader", func() bool {
		return s.metric("drain_produce_retries_total", "reason=no_leader") >= 2
	})
	s.commits(1, "neighbour", time.Second)
	found()
	if err := receipt.Wait(t.Context(), time.Now().Add(soon)); err != nil {
		t.Error(err, s.log)
	}
	holds(t, c, 0, "before", "meanwhile")
}

// leaderless takes a partition's leader away until found is called.
func leaderless(t *testing.T, c *kfake.Cluster, partition int32) (found func()) {
	var away atomic.Bool
	away.Store(true)
	host, port := "127.0.0.1", int32(portOf(c.ListenAddrs()[0]))
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if !away.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		res.Brokers = []kmsg.MetadataResponseBroker{{Host: host, Port: port}}
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr(testTopic)
		for id := range int32(4) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition = id
			if id == partition {
				p.Leader, p.ErrorCode = -1, kerr.LeaderNotAvailable.Code
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	moved := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{partition}, Err: kerr.NotLeaderForPartition, Count: -1})
	return func() {
		moved.Remove()
		away.Store(false)
	}
}

func TestTopicMade_isFound(t *testing.T) {
	t.Parallel()
	c := fake(t, kfake.SeedTopics(1, "other"))
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	s := serve(t, c.ListenAddrs(), options{})
	s.eventually(noticed, "the missing topic is said", func() bool { return s.log.Says("make the topic router") })
	var missing *TopicError
	if err := s.Ready(); !errors.As(err, &missing) || missing.Topic != testTopic {
		t.Errorf("Ready says %v", err)
	}
	early := s.publish(0, record("early"))
	if err := c.CreateTopic(testTopic, 4, nil); err != nil {
		t.Fatal(err)
	}
	s.eventually(watchEvery*9/10, "the topic is known", s.Known)
	s.commits(0, "in time", hold)
	if _, err := s.wait(early); err != nil {
		t.Errorf("what came before the topic: %v", err)
	}
	holds(t, c, 0, "early", "in time")
	s.eventually(noticed, "ready", func() bool { return s.Ready() == nil })
}

// A topic that is missing does not keep the records of another one.
func TestTopicMissing_harmsNoOther(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{topics: []string{testTopic, "missing"}})
	s.eventually(noticed, "the missing topic is said", func() bool { return s.log.Says("make the topic missing") })
	s.commits(0, "beside it", hold)
	if err := s.Ready(); err == nil {
		t.Error("ready without a topic")
	}
}

// The race detector judges: a request that was given up may be read from
// afterwards, when its records are stored and their memory holds others.
func TestRequestGivenUp_keepsItsBytes(t *testing.T) {
	t.Parallel()
	c := fake(t)
	var hang atomic.Bool
	written := make(chan struct{})
	s := serve(t, c.ListenAddrs(), options{dial: func(c net.Conn) net.Conn {
		return &hanging{Conn: c, hang: &hang, written: written}
	}}).known()
	s.commits(0, "before", hold)
	hang.Store(true)
	s.commits(0, "hung", hold)
	s.commits(0, "after", hold)
	<-written
	holds(t, c, 0, "before", "hung", "after")
}

// A topic that is deleted and made anew with fewer partitions keeps nothing back.
func TestTopicMadeAnewSmaller_takesWhatWasKept(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	for id := range uint64(4) {
		s.commits(id, "before", hold)
	}
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	var kept []*Receipt
	for i := range uint64(40) {
		kept = append(kept, s.publish(i, record(fmt.Sprint("kept-", i))))
	}
	if err := c.CreateTopic(testTopic, 2, nil); err != nil {
		t.Fatal(err)
	}
	s.eventually(noticed+watchEvery, "it is seen", func() bool { return len(s.topics[0].all()) == 2 })
	for i := range uint64(40) {
		kept = append(kept, s.publish(i, record(fmt.Sprint("after-", i))))
	}
	for i, r := range kept {
		if _, err := s.wait(r); err != nil {
			t.Fatalf("record %d: %v\n%s", i, err, s.log)
		}
	}
	seen := make(map[string]int)
	for _, records := range stored(t, c) {
		for _, v := range values(records) {
			seen[v]++
		}
	}
	for i := range 40 {
		if a, b := seen[fmt.Sprint("kept-", i)], seen[fmt.Sprint("after-", i)]; a != 1 || b != 1 {
			t.Errorf("record %d is stored %d and %d times", i, a, b)
		}
	}
	s.eventually(noticed, "ready", func() bool { return s.Ready() == nil })
}

// A partition that vanished, with records that wait to be sent again: a stop waits
// for them, or counts them.
func TestTopicMadeAnewSmaller_isNotForgottenAtAStop(t *testing.T) {
	t.Parallel()
	for _, recovers := range []bool{true, false} {
		c := fake(t)
		fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Err: kerr.NotEnoughReplicas, Count: -1})
		s := serve(t, c.ListenAddrs(), options{}).known()
		r := s.publish(3, record("kept"))
		time.Sleep(100 * time.Millisecond)
		s.resize(s.topics[0], 3)
		if recovers {
			time.AfterFunc(500*time.Millisecond, fault.Remove)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		err := s.Shutdown(ctx)
		cancel()
		want := map[bool]float64{true: 1, false: 0}[recovers]
		if (err == nil) != recovers || s.metric("drain_records_total", "result=committed") != want || s.metric("drain_records_total", "result=failed") != 1-want {
			t.Errorf("recovers %v: Shutdown says %v", recovers, err)
		}
		r.Forget()
	}
}
