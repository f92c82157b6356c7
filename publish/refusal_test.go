package publish

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Refusals that last until a person does something: the request gets its 503, the
// log says what to do, and the records are stored as soon as it is done.
func TestRefusedUntilMended_isKeptAndSaid(t *testing.T) {
	produce := kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Partitions: []int32{0}, Count: -1}
	initProducer := kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Count: -1}
	for name, test := range map[string]struct {
		fault kfake.Fault
		err   *kerr.Error
		says  string
	}{
		"not allowed to write":         {produce, kerr.TopicAuthorizationFailed, "allow this user to write to the topic router"},
		"too few replicas":             {produce, kerr.NotEnoughReplicas, "bring the missing replicas back"},
		"compacted, without keys":      {produce, kerr.InvalidRecord, "set cleanup.policy=delete for the topic router, or set KAFKA_KEY"},
		"a clock that is wrong":        {produce, kerr.InvalidTimestamp, "look at the clocks"},
		"topic gone":                   {produce, kerr.UnknownTopicOrPartition, "make the topic router"},
		"not allowed to be idempotent": {initProducer, kerr.ClusterAuthorizationFailed, "allow this user IdempotentWrite"},
		"coordinator still loading":    {initProducer, kerr.CoordinatorLoadInProgress, "fetch a producer id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fake(t)
			test.fault.Err = test.err
			fault := c.Fault(test.fault)
			s := serve(t, c.ListenAddrs(), options{stuck: 300 * time.Millisecond}).known()
			given := s.publish(0, record("given up"))
			if err := given.Wait(t.Context(), time.Now().Add(500*time.Millisecond)); !errors.Is(err, ErrUncommitted) {
				t.Errorf("answered %v", err)
			}
			if err := s.Ready(); err == nil {
				t.Error("ready meanwhile")
			}
			s.eventually(soon, "the log says "+test.says, func() bool { return s.log.Says(test.says) })
			fault.Remove()
			s.commits(0, "after", hold)
			s.eventually(noticed, "ready again", func() bool { return s.Ready() == nil })
			holds(t, c, 0, "given up", "after")
			s.is(1, "drain_recovered_total")
			s.is(0, "drain_records_total", "result=failed")
		})
	}
}

func TestTopicForbidden_isSaidByReadiness(t *testing.T) {
	t.Parallel()
	c := fake(t)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: testTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	s := serve(t, c.ListenAddrs(), options{})
	s.eventually(noticed, "Ready says what to do", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "allow this user to write to the topic router")
	})
	fault.Remove()
	s.known().commits(0, "allowed", hold)
	s.eventually(noticed, "ready", func() bool { return s.Ready() == nil })
}

// Id -1 is how a broker says that it does not know what was asked: batches under it
// would not be idempotent.
func TestBrokerWithoutProducerIds_isNotWrittenTo(t *testing.T) {
	t.Parallel()
	c := fake(t)
	c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ProducerID = -1
		return res, nil, true
	})
	s := serve(t, c.ListenAddrs(), options{}).known()
	s.publish(0, record("kept"))
	s.eventually(noticed, "it is said", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "the broker answered -1") && s.log.Says("the broker answered -1")
	})
	holds(t, c, 0)
}

func TestProducerIdThatNeverComes_holdsNoStopUp(t *testing.T) {
	t.Parallel()
	wire := new(wire)
	wire.silence(t, int32(kmsg.InitProducerID))
	c := fake(t, kfake.ListenFn(wire.listen))
	s := serve(t, c.ListenAddrs(), options{}).known()
	for id := range uint64(4) {
		s.publish(id, record("kept"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Shutdown(ctx); err == nil || time.Since(began) > time.Second {
		t.Errorf("stopped with %v after %s", err, time.Since(began))
	}
}
