package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
)

// topic is one topic of a cluster.
type topic struct {
	name  string // with its prefix
	bare  string // without
	unset bool   // KAFKA_URL is not set
	admin *kadm.Client
	kafka *kgo.Client
	out   io.Writer // for data
	notes io.Writer // for people

	unreached atomic.Pointer[error] // why the last connection could not be made; nil where it could
}

// dialer makes the client's connections, and notes why one could not be made: where the
// time for an answer is over, that is what there is to tell.
func (t *topic) dialer(at *cluster.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := at.Dial(ctx, network, address)
		switch {
		case err == nil:
			t.unreached.Store(nil)
		case ctx.Err() == nil:
			t.unreached.Store(&err)
		}
		return conn, err
	}
}

const (
	// answerWithin bounds one question to Kafka.
	answerWithin = 10 * time.Second
	// askAgain is how long is waited before a question is put again.
	askAgain = 100 * time.Millisecond
)

// say tells people something, in a line of its own.
func (t *topic) say(format string, args ...any) {
	fmt.Fprintf(t.notes, "topic: "+format+"\n", args...)
}

// pause waits for d, or until ctx ends, which is its error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask puts a question to Kafka, again where waiting may help, within answerWithin in
// all. Its error says what was asked, and what to do.
func (t *topic) ask(ctx context.Context, what string, question func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := question(limited)
	for err != nil && kerr.IsRetriable(err) && !final(err) && pause(limited, askAgain) == nil {
		if next := question(limited); limited.Err() == nil {
			err = next // and not that the time is over
		}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("stopped before Kafka answered")
	}
	late := limited.Err() != nil
	if why := t.unreached.Load(); late && why != nil {
		err = *why
	}
	return t.failed(what, err, late)
}

// failure is an error with what was to be done and what to do, in one line.
type failure struct {
	error
	line string
}

func (f *failure) Error() string { return f.line }
func (f *failure) Unwrap() error { return f.error }

// failed is a failure to do what; late says that the time was over.
func (t *topic) failed(what string, err error, late bool) error {
	line := what + " " + t.name + ": " + strings.TrimSuffix(clean(err.Error()), ".")
	if advice := t.advice(err, late); advice != "" {
		line += "; " + advice
	}
	return &failure{err, line}
}

// final tells whether waiting does not help.
func final(err error) bool {
	for _, last := range []error{
		kerr.UnknownTopicOrPartition, // retriable to a client that makes topics as it goes
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	} {
		if errors.Is(err, last) {
			return true
		}
	}
	return cluster.Refused(err)
}

// advice says what to do about an error, where that is known.
func (t *topic) advice(err error, late bool) string {
	var network *net.OpError
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return "make it with `topic create " + t.bare + "` (on Heroku `heroku kafka:topics:create " + t.bare + "`), or correct KAFKA_TOPIC and KAFKA_PREFIX"
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "this user may not do that: on Heroku set KAFKA_PREFIX, and make topics with `heroku kafka:topics:create " + t.bare + "`"
	case errors.Is(err, kerr.PolicyViolation):
		return "the cluster's rules forbid it: use other --partitions and --replicas, or `heroku kafka:topics:create " + t.bare + "`"
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return "use --replicas of at most as many as there are brokers"
	case errors.Is(err, kerr.InvalidPartitions):
		return "use other --partitions"
	case errors.As(err, &network) && t.unset:
		return "KAFKA_URL is not set: start drain, which brings a broker along, or set KAFKA_URL"
	case errors.As(err, &network):
		return "is Kafka there? look at KAFKA_URL"
	case errors.Is(err, kerr.LeaderNotAvailable):
		return "a broker may be away: try again"
	case late:
		return fmt.Sprintf("no answer within %s: look at KAFKA_URL, and whether the brokers' own addresses can be reached from here", answerWithin)
	}
	return ""
}

// look asks for the topic's partitions and their leaders.
func (t *topic) look(ctx context.Context) (detail kadm.TopicDetail, err error) {
	err = t.ask(ctx, "look at topic", func(ctx context.Context) error {
		details, err := t.admin.ListTopics(ctx, t.name)
		if err != nil {
			return err
		}
		detail = details[t.name]
		return detail.Err
	})
	return detail, err
}

// lister is one of kadm's ways to list offsets.
type lister func(context.Context, ...string) (kadm.ListedOffsets, error)

// offsets lists the topic's, without those of partitions that have no leader.
func (t *topic) offsets(ctx context.Context, list lister) (offsets map[int32]kadm.ListedOffset, err error) {
	err = t.ask(ctx, "list offsets of topic", func(ctx context.Context) error {
		listed, err := list(ctx, t.name)
		var parts *kadm.ShardErrors
		if errors.As(err, &parts) {
			err = nil
			for _, part := range parts.Errs {
				if !errors.Is(part.Err, kerr.LeaderNotAvailable) {
					err = part.Err
				}
			}
		}
		if err != nil {
			return err
		}
		offsets = listed[t.name]
		for p, o := range offsets {
			switch {
			case errors.Is(o.Err, kerr.LeaderNotAvailable):
				delete(offsets, p)
			case o.Err != nil:
				return o.Err
			}
		}
		return nil
	})
	return offsets, err
}

// leaderless are the partitions that have none.
func leaderless(detail kadm.TopicDetail) (partitions []int32) {
	for _, p := range detail.Partitions.Sorted() {
		if !led(p) {
			partitions = append(partitions, p.Partition)
		}
	}
	return partitions
}

// led tells whether a partition has a leader.
func led(p kadm.PartitionDetail) bool {
	return p.Leader >= 0 && !errors.Is(p.Err, kerr.LeaderNotAvailable)
}
