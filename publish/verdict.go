package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"drain/pool"
)

// verdict is what an attempt at a batch leads to.
type verdict uint8

const (
	// committed: all records are stored, by this attempt or an earlier one.
	committed verdict = iota
	// again: wait, then the same batch once more.
	again
	// afresh: the same, with another client, because this one's connection or
	// its knowledge of the cluster is no good.
	afresh
	// renew: the broker does not know our producer, or not at this sequence.
	// With a new producer id the batch can be stored, though perhaps twice.
	renew
	// split: the batch is larger than the broker takes.
	split
)

// judge is the one place that decides what is retried. err is what an attempt
// ended with, from the transport or from the broker, nil for success.
//
// Nothing is given up here, whatever the error says of itself: a topic that is
// missing can be made, an authorization given, a disk freed, and until then the
// records are safe in memory, the requests get 503 and the log says what to do.
// Only a single record that is too large can never be stored.
//
// reason labels the retry in the metrics; it is one of retryReasons.
func judge(err error) (v verdict, reason string) {
	switch {
	case err == nil:
		return committed, ""
	case errors.Is(err, pool.ErrBusy):
		return again, "pool"
	case errors.Is(err, protocol.ErrNoLeader):
		return afresh, "no_leader"
	case errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return afresh, "unknown_topic"
	}
	var code kafka.Error
	var netErr net.Error
	switch {
	case errors.As(err, &code):
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return afresh, "timeout"
	default:
		return afresh, "connection"
	}
	switch code {
	case kafka.DuplicateSequenceNumber:
		return committed, ""
	case kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId, kafka.InvalidProducerEpoch,
		kafka.InvalidProducerIDMapping, kafka.ProducerFenced:
		return renew, "producer_id"
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		return split, "too_large"
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
		kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable, kafka.KafkaStorageError, kafka.ListenerNotFound:
		return afresh, "no_leader"
	case kafka.UnknownTopicOrPartition:
		return afresh, "unknown_topic"
	case kafka.RequestTimedOut, kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend:
		return again, "replicas"
	case kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return afresh, "authentication"
	case kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed:
		return again, "authorization"
	}
	return again, "other"
}

var retryReasons = []string{"no_leader", "unknown_topic", "authentication", "pool", "timeout", "connection", "other",
	"producer_id", "too_large", "replicas", "authorization"}

// advice says what a person can do about err, "" if only waiting helps. The topic's
// name begins with prefix.
func advice(err error, topic, prefix string) string {
	bare := strings.TrimPrefix(topic, prefix)
	withPrefix := "KAFKA_PREFIX, which is not set: shared Heroku plans need it"
	if prefix != "" {
		withPrefix = fmt.Sprintf("KAFKA_PREFIX (%s): it may be another cluster's", prefix)
	}
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return "is Kafka there? look at KAFKA_URL, and at the addresses that its brokers have for clients (advertised.listeners)"
	case errors.Is(err, protocol.ErrNoTopic), errors.Is(err, kafka.UnknownTopicOrPartition):
		return fmt.Sprintf("make the topic %s: `topic create %s`, on Heroku `heroku kafka:topics:create %s`; or look at KAFKA_TOPIC, LOGS_TOPIC and %s", topic, bare, bare, withPrefix)
	case errors.Is(err, protocol.ErrNoPartition):
		return fmt.Sprintf("nothing, if the topic %s was just made anew; else look at its partitions", topic)
	case errors.Is(err, kafka.TopicAuthorizationFailed):
		return fmt.Sprintf("allow this user to write to the topic %s (on Heroku `heroku kafka:topics:create %s`), or look at %s", topic, bare, withPrefix)
	case errors.Is(err, kafka.ClusterAuthorizationFailed):
		return "allow this user IdempotentWrite on the cluster, which brokers before 2.8 ask for"
	case errors.Is(err, kafka.NotEnoughReplicas):
		return "bring the missing replicas back, or lower min.insync.replicas"
	case errors.Is(err, kafka.InvalidRecord):
		return fmt.Sprintf("set cleanup.policy=delete for the topic %s, or set KAFKA_KEY: a compacted topic takes no record without a key", topic)
	case errors.Is(err, kafka.InvalidTimestamp):
		return fmt.Sprintf("look at the clocks, and at message.timestamp.before.max.ms and after.max.ms of the topic %s", topic)
	}
	return ""
}
