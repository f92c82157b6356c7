package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"drain/pool"
)

// call is a produce request as kafka-go takes it, made once for a partition.
// kafka-go's RawProduce would make it, two contexts and a copy of the answer for
// every batch.
type call struct {
	request    rawproduce.Request
	topics     [1]rawproduce.RequestTopic
	partitions [1]rawproduce.RequestPartition
	reader     bytes.Reader
}

func newCall(pt *partition) *call {
	c := new(call)
	c.partitions[0].Partition = int32(pt.id)
	c.partitions[0].RecordSet.Reader = &c.reader
	c.topics[0] = rawproduce.RequestTopic{Topic: pt.topic.name, Partitions: c.partitions[:]}
	c.request = rawproduce.Request{Acks: int16(kafka.RequireAll), Topics: c.topics[:]}
	return c
}

// attempt tries once to store b, and tells how long the request took.
func (pt *partition) attempt(ctx context.Context, b *batch) (took time.Duration, err error) {
	for {
		if took, err = pt.try(ctx, b); err != errThrottled {
			return took, err
		}
		pt.p.throttle.wait(ctx, pt)
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

// errThrottled says that the leader asked for time before the request was sent.
var errThrottled = errors.New("throttled")

// try is attempt, where the leader does not ask for time meanwhile.
//
// Partitions that are slow share fewer clients than there are, so that a leader
// that answers late does not take the clients from the others; those whose leader
// does not answer at all share fewer still, so that one late answer does not put a
// partition behind them. How long it waits for a client does not make it slow.
func (pt *partition) try(ctx context.Context, b *batch) (took time.Duration, err error) {
	p := pt.p
	if pt.silent {
		if err := enter(ctx, p.silent); err != nil {
			return 0, err
		}
		defer func() { <-p.silent }()
	}
	if pt.slow {
		if err := enter(ctx, p.slow); err != nil {
			return 0, err
		}
		defer func() { <-p.slow }()
	}
	loan, err := pt.borrow()
	if err != nil {
		return 0, err
	}
	if p.throttle.holds(pt) { // its connection may be one that was throttled just now
		loan.Return()
		return 0, errThrottled
	}
	began := time.Now()
	err = pt.produce(loan.Client(), b)
	took = time.Since(began)
	v, reason := judge(err)
	if reason == "no_leader" && !pt.failing {
		p.cfg.Pool.Reset() // the other clients do not know better
	}
	pt.learn(v, reason, took)
	if v == afresh {
		loan.Discard()
	} else {
		loan.Return()
	}
	return took, err
}

// borrow waits for a client.
func (pt *partition) borrow() (pool.Loan, error) {
	wait := pt.limits.start(maxWait)
	loan, err := pt.p.cfg.Pool.Acquire(wait)
	pt.limits.end(wait, err == nil)
	return loan, err
}

// produce sends b and reads the answer, within pt.timeout. The broker is told half
// of that as its own limit for the replicas.
func (pt *partition) produce(client *kafka.Client, b *batch) error {
	if pt.call == nil {
		pt.call = newCall(pt)
	}
	pt.call.reader.Reset(b.wire())
	pt.call.request.Timeout = int32(pt.timeout.Milliseconds() / 2)
	limit := pt.limits.start(pt.timeout)
	answer, err := client.Transport.RoundTrip(limit, client.Addr, &pt.call.request)
	pt.limits.end(limit, err == nil)
	if err != nil {
		// kafka-go may be reading these still.
		pt.call = nil
		b.renew()
		return err
	}
	response := answer.(*produce.Response)
	pt.answered = time.Now()
	pt.p.throttle.note(pt.leader.Load(), time.Duration(response.ThrottleTimeMs)*time.Millisecond)
	topics := response.Topics
	if len(topics) == 0 || len(topics[0].Partitions) == 0 {
		return protocol.ErrNoPartition
	}
	switch p := &topics[0].Partitions[0]; {
	case p.ErrorCode == 0:
		return nil
	case p.ErrorMessage == "":
		return kafka.Error(p.ErrorCode)
	default:
		return fmt.Errorf("%w: %s", kafka.Error(p.ErrorCode), p.ErrorMessage)
	}
}

// enter takes one of places, waiting for it until ctx ends.
func enter(ctx context.Context, places chan<- struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
