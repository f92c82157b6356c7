package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"drain/pool"
)

// watcher asks Kafka every second whether it is there and what partitions the
// topics have.
type watcher struct {
	mu     sync.Mutex // guards err
	err    error      // why Kafka is not fit to be written to, nil if it is
	asked  bool
	client *kafka.Client // the watcher's own; nil when it has to be made
}

const (
	watchEvery   = time.Second
	watchEagerly = 100 * time.Millisecond  // while a topic is unknown
	watchTimeout = 2500 * time.Millisecond // longer than a connection may take, to hear why it failed
)

func (w *watcher) run(p *Publisher) {
	ctx := p.running
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.forget()
			return
		case <-timer.C:
		}
		err := w.ask(ctx, p)
		if ctx.Err() != nil {
			continue
		}
		w.note(p, err)
		wait := watchEvery
		if err != nil && !p.Known() {
			wait = watchEagerly
		}
		timer.Reset(wait)
	}
}

// ask looks at Kafka once. kafka-go serves metadata from what it last heard, so
// it is a request of another kind that shows whether anybody answers.
func (w *watcher) ask(ctx context.Context, p *Publisher) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	if w.client == nil {
		client, err := p.cfg.Connect(ctx)
		if err != nil {
			if do := advice(err, "", ""); do != "" {
				err = fmt.Errorf("%w: %s", err, do)
			}
			return err
		}
		w.client = client
	}
	if _, err := w.client.ApiVersions(ctx, &kafka.ApiVersionsRequest{}); err != nil {
		w.forget()
		return fmt.Errorf("ask Kafka whether it is there: %w", err)
	}
	metadata, err := w.client.Metadata(ctx, &kafka.MetadataRequest{Topics: p.cfg.Topics})
	if err != nil {
		w.forget()
		return fmt.Errorf("ask Kafka for its topics: %w", err)
	}
	var errs []error
	for i, m := range metadata.Topics {
		t := p.topics[i]
		switch {
		case m.Error != nil:
			errs = append(errs, &TopicError{t.name, p.cfg.Prefix, m.Error})
			w.forget() // the next look is at fresh metadata
		case len(m.Partitions) == 0:
			errs = append(errs, &TopicError{t.name, p.cfg.Prefix, kafka.UnknownTopicOrPartition})
		default:
			p.resize(t, len(m.Partitions))
			t.learnLeaders(m.Partitions)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// The first batch shall not have to wait for a producer id, which a broker
	// that has just started does not give at once.
	_, err = p.producers.after(ctx, nil)
	return err
}

// learnLeaders notes which brokers have the partitions.
func (t *topic) learnLeaders(partitions []kafka.Partition) {
	all := t.all()
	for i := range partitions {
		if id := partitions[i].ID; id < len(all) {
			leader := int32(partitions[i].Leader.ID)
			if partitions[i].Leader.Host == "" {
				leader = noLeader
			}
			all[id].leader.Store(leader)
		}
	}
}

// TopicError says what is wrong with a topic as a whole.
type TopicError struct {
	Topic  string
	Prefix string // that the name begins with, KAFKA_PREFIX
	Err    error
}

func (e *TopicError) Error() string {
	text := fmt.Sprintf("topic %s: %v", e.Topic, e.Err)
	if do := advice(e.Err, e.Topic, e.Prefix); do != "" {
		text += ": " + do
	}
	return text
}

func (e *TopicError) Unwrap() error { return e.Err }

func (w *watcher) forget() {
	if w.client != nil {
		pool.Close(w.client)
		w.client = nil
	}
}

// note keeps what was found and logs it when it changes.
func (w *watcher) note(p *Publisher, err error) {
	w.mu.Lock()
	before, asked := w.err, w.asked
	w.err, w.asked = err, true
	w.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		p.cfg.Logger.Warn("Kafka is not ready; requests wait, then get 503 until it is", "error", err)
	case err == nil && (before != nil || !asked):
		next := make(chan struct{})
		close(*p.back.Swap(&next)) // whoever waits to try again need not wait longer
		for _, t := range p.topics {
			p.cfg.Logger.Info("Kafka is ready", "topic", t.name, "partitions", len(t.all()))
		}
	}
}

// resize gives t its n partitions, or the new ones of them, each with its sender. A
// topic that was made anew with fewer loses some.
func (p *Publisher) resize(t *topic, n int) {
	old := t.all()
	if n == len(old) {
		return
	}
	if n < len(old) {
		p.cfg.Logger.Warn("the topic has fewer partitions than before", "topic", t.name, "partitions", n, "before", len(old))
		left, retired := old[:n:n], slices.Clone(old[n:])
		if before := t.retired.Load(); before != nil {
			retired = append(retired, *before...)
		}
		t.retired.Store(&retired)
		t.partitions.Store(&left)
		for _, pt := range old[n:] {
			pt.retire()
		}
		return
	}
	partitions := append([]*partition(nil), old...)
	for id := len(old); id < n; id++ {
		pt := newPartition(t, id, p)
		partitions = append(partitions, pt)
		p.senders.Go(func() { pt.send(p.running) })
		if p.codec != nil {
			p.senders.Go(func() { pt.packAhead(p.running) })
		}
	}
	t.open(p, partitions)
}

// Ready says why records could not be stored now, nil if they could.
func (p *Publisher) Ready() error {
	w := &p.watcher
	w.mu.Lock()
	err, asked := w.err, w.asked
	w.mu.Unlock()
	switch {
	case p.unready.Load(), p.stopping.Load():
		return ErrStopping
	case !asked:
		return errors.New("no answer from Kafka yet")
	case err != nil:
		return err
	}
	for _, t := range p.topics {
		for _, pt := range t.everyPartition() {
			if oldest, ok := pt.oldest(); ok {
				if age := time.Since(oldest); age > p.cfg.Stuck {
					err := fmt.Errorf("topic %s, partition %d: the oldest batch has not been committed for %s",
						t.name, pt.id, age.Round(time.Millisecond))
					if p.throttle.lately(throttleWarning) {
						err = fmt.Errorf("%w: Kafka's quota is used up: %s", err, throttleAdvice)
					}
					return err
				}
			}
		}
	}
	return nil
}
