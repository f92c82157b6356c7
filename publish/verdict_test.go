package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"drain/pool"
)

type outcome struct {
	verdict verdict
	reason  string
}

// What Kafka's errors lead to, where it is not {again, other}.
var outcomes = map[kafka.Error]outcome{
	kafka.DuplicateSequenceNumber: {committed, ""},

	kafka.OutOfOrderSequenceNumber: {renew, "producer_id"},
	kafka.UnknownProducerId:        {renew, "producer_id"},
	kafka.InvalidProducerEpoch:     {renew, "producer_id"},
	kafka.InvalidProducerIDMapping: {renew, "producer_id"},
	kafka.ProducerFenced:           {renew, "producer_id"},

	kafka.MessageSizeTooLarge: {split, "too_large"},
	kafka.RecordListTooLarge:  {split, "too_large"},

	kafka.NotLeaderForPartition: {afresh, "no_leader"},
	kafka.LeaderNotAvailable:    {afresh, "no_leader"},
	kafka.FencedLeaderEpoch:     {afresh, "no_leader"},
	kafka.UnknownLeaderEpoch:    {afresh, "no_leader"},
	kafka.ReplicaNotAvailable:   {afresh, "no_leader"},
	kafka.BrokerNotAvailable:    {afresh, "no_leader"},
	kafka.KafkaStorageError:     {afresh, "no_leader"},
	kafka.ListenerNotFound:      {afresh, "no_leader"},

	kafka.UnknownTopicOrPartition: {afresh, "unknown_topic"},

	kafka.RequestTimedOut:              {again, "replicas"},
	kafka.NotEnoughReplicas:            {again, "replicas"},
	kafka.NotEnoughReplicasAfterAppend: {again, "replicas"},

	kafka.SASLAuthenticationFailed: {afresh, "authentication"},
	kafka.UnsupportedSASLMechanism: {afresh, "authentication"},
	kafka.IllegalSASLState:         {afresh, "authentication"},

	kafka.TopicAuthorizationFailed:   {again, "authorization"},
	kafka.ClusterAuthorizationFailed: {again, "authorization"},
}

func TestJudge_everyErrorOfKafka(t *testing.T) {
	for code := kafka.Error(-1); code < 140; code++ {
		want, special := outcomes[code]
		if !special {
			want = outcome{again, "other"}
		}
		if code == 0 {
			continue // no error
		}
		for _, err := range []error{code, fmt.Errorf("%w: with the broker's words", code), fmt.Errorf("connect: %w", code)} {
			if v, reason := judge(err); v != want.verdict || reason != want.reason {
				t.Errorf("%v (%d): verdict %d, %q; want %d, %q", err, code, v, reason, want.verdict, want.reason)
			}
		}
	}
}

func TestJudge_everyOtherError(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		err  error
		want outcome
	}{
		{nil, outcome{committed, ""}},
		{pool.ErrBusy, outcome{again, "pool"}},
		{fmt.Errorf("fetch a producer id: %w", pool.ErrBusy), outcome{again, "pool"}},
		{protocol.NewErrNoLeader("t", 0), outcome{afresh, "no_leader"}},
		{protocol.NewErrNoTopic("t"), outcome{afresh, "unknown_topic"}},
		{protocol.NewErrNoPartition("t", 0), outcome{afresh, "unknown_topic"}},
		{context.DeadlineExceeded, outcome{afresh, "timeout"}},
		{os.ErrDeadlineExceeded, outcome{afresh, "timeout"}},
		{dial(os.ErrDeadlineExceeded), outcome{afresh, "timeout"}},
		{&net.DNSError{IsTimeout: true}, outcome{afresh, "timeout"}},
		{&net.DNSError{IsNotFound: true}, outcome{afresh, "connection"}},
		{dial(syscall.ECONNREFUSED), outcome{afresh, "connection"}},
		{syscall.ECONNRESET, outcome{afresh, "connection"}},
		{io.EOF, outcome{afresh, "connection"}},
		{io.ErrUnexpectedEOF, outcome{afresh, "connection"}},
		{net.ErrClosed, outcome{afresh, "connection"}},
		{errors.New("who knows"), outcome{afresh, "connection"}},
	} {
		if v, reason := judge(test.err); v != test.want.verdict || reason != test.want.reason {
			t.Errorf("%v: verdict %d, %q; want %d, %q", test.err, v, reason, test.want.verdict, test.want.reason)
		}
	}
}

func TestJudge_everyReasonIsCounted(t *testing.T) {
	for _, o := range outcomes {
		if o.verdict != committed && !slices.Contains(retryReasons, o.reason) {
			t.Errorf("%q is no label of the metric", o.reason)
		}
	}
}
