package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/settings"
)

// mostNewest bounds the records that are held to find the newest.
const mostNewest = 1_000_000

// tailOrder is how to follow a topic.
type tailOrder struct {
	from  settings.Position
	count int // records until the end, 0 for no end
	show  func(*bufio.Writer, *kgo.Record)
}

// plainly shows a record as it is stored.
func plainly(w *bufio.Writer, r *kgo.Record) {
	w.Write(r.Value) // the Flush tells
	w.WriteByte('\n')
}

// errShown says that as many records were shown as were wanted.
var errShown = errors.New("shown")

// shower shows records until there were enough.
type shower struct {
	tailOrder
	w     *bufio.Writer
	shown int
}

// all shows records; its error is errShown after the last, or that of the writer.
func (s *shower) all(records []*kgo.Record) error {
	for _, r := range records {
		s.show(s.w, r)
		if s.shown++; s.shown == s.count {
			return cmp.Or(s.w.Flush(), errShown)
		}
	}
	return s.w.Flush()
}

// tail follows the topic, for count records or until ctx ends, which is no error.
func (t *topic) tail(ctx context.Context, order tailOrder) error {
	err := t.follow(ctx, &shower{tailOrder: order, w: bufio.NewWriterSize(t.out, 64<<10)})
	if ctx.Err() != nil || err == errShown {
		return nil
	}
	return err
}

func (t *topic) follow(ctx context.Context, s *shower) error {
	detail, err := t.look(ctx)
	if err != nil {
		return err
	}
	starts, err := t.begin(ctx, detail, s)
	if err != nil {
		return err
	}
	t.kafka.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.name: starts})
	t.say("follows %s, %s", t.name, count(len(detail.Partitions), "partition"))

	ctx, stop := context.WithCancelCause(ctx)
	var watches sync.WaitGroup
	watches.Go(func() { t.watch(ctx, stop, detail) })
	watches.Go(func() { t.watchReader(ctx, stop) })
	defer func() { stop(nil); watches.Wait() }()
	for {
		fetches := t.kafka.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.all(fetches.Records()); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			var lost *kgo.ErrDataLoss
			switch {
			case errors.As(e.Err, &lost):
				t.say("%v", e.Err)
			case !passes(e.Err), final(e.Err):
				return t.failed("read topic", e.Err, false)
			}
		}
	}
}

// begin finds the offsets to follow from, once the newest records are shown where those
// are wanted. A partition without a leader is left to the client, which asks again.
func (t *topic) begin(ctx context.Context, detail kadm.TopicDetail, s *shower) (map[int32]kgo.Offset, error) {
	offset, list := kgo.NewOffset().AtEnd(), lister(t.admin.ListEndOffsets)
	switch at := s.from.At; {
	case s.from.Beginning:
		offset, list = kgo.NewOffset().AtStart(), t.admin.ListStartOffsets
	case !at.IsZero():
		// Kafka has negative times for other purposes.
		milli := max(0, at.UnixMilli())
		offset = kgo.NewOffset().AfterMilli(milli)
		list = func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return t.admin.ListOffsetsAfterMilli(ctx, milli, topics...)
		}
	}
	listed, err := t.offsets(ctx, list)
	if err != nil {
		return nil, err
	}
	starts := make(map[int32]kgo.Offset)
	for p := range detail.Partitions {
		starts[p] = offset
		if o, ok := listed[p]; ok {
			starts[p] = kgo.NewOffset().At(o.Offset)
		}
	}
	if none := leaderless(detail); none != nil {
		t.say("partitions %v of %s have no leader: their records come when they have one", none, t.name)
	}
	if s.from.Newest == 0 {
		return starts, nil
	}
	firsts, err := t.offsets(ctx, t.admin.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	var newest []*kgo.Record
	reader := reader{topic: t, detail: detail}
	for _, p := range detail.Partitions.Sorted() {
		first, begun := firsts[p.Partition]
		end, ended := listed[p.Partition]
		if !begun || !ended {
			continue // it has no leader
		}
		last, err := reader.last(ctx, s.from.Newest, first, end)
		if err != nil {
			return nil, err
		}
		newest = latest(s.from.Newest, newest, last)
	}
	return starts, s.all(newest)
}

// latest is the newest n records of two lists in the order of time, at the same time those
// of a first. Each list keeps its order, whatever its times are.
func latest(n int, a, b []*kgo.Record) []*kgo.Record {
	all := make([]*kgo.Record, min(n, len(a)+len(b)))
	for i := range slices.Backward(all) {
		from := &a
		if len(a) == 0 || len(b) > 0 && !b[len(b)-1].Timestamp.Before(a[len(a)-1].Timestamp) {
			from = &b
		}
		last := len(*from) - 1
		all[i], *from = (*from)[last], (*from)[:last]
	}
	return all
}

// reader reads what is between two offsets, which not all need hold a record: Kafka takes
// some out of compacted topics, and writes marks of its own behind transactions. A
// consumer would wait for the last one for ever.
type reader struct {
	*topic
	detail kadm.TopicDetail // as it was known last
}

// last reads the newest n records of a partition that stand before end.
func (r *reader) last(ctx context.Context, n int, first, end kadm.ListedOffset) (records []*kgo.Record, err error) {
	to := end.Offset
	for span := int64(n); len(records) < n && to > first.Offset; span *= 2 {
		at := max(first.Offset, to-span)
		earlier, err := r.between(ctx, end.Partition, at, to)
		if err != nil {
			return nil, err
		}
		records, to = append(earlier, records...), at
	}
	return records[max(0, len(records)-n):], nil
}

func (r *reader) between(ctx context.Context, partition int32, at, to int64) (records []*kgo.Record, err error) {
	for at < to {
		fetched, next, err := r.fetch(ctx, partition, at)
		if errors.Is(err, kerr.OffsetOutOfRange) { // deleted meanwhile
			firsts, err := r.offsets(ctx, r.admin.ListStartOffsets)
			if err != nil {
				return nil, err
			}
			first := firsts[partition].Offset
			if first <= at {
				break
			}
			at = first
			continue
		}
		if err != nil {
			return nil, err
		}
		if next == at {
			break // nothing stands there up to the end
		}
		at = next
		for _, record := range fetched {
			if record.Offset < to {
				records = append(records, record)
			}
		}
	}
	return records, nil
}

// mostEmpty is how many empty answers are believed: a broker that slows us down gives
// some.
const mostEmpty = 3

// fetch reads what a partition has at an offset, and where it goes on; that is the same
// offset where there is nothing.
func (r *reader) fetch(ctx context.Context, partition int32, at int64) (records []*kgo.Record, next int64, err error) {
	next = at
	err = r.ask(ctx, fmt.Sprintf("read partition %d of topic", partition), func(ctx context.Context) error {
		for range mostEmpty {
			got, err := r.fetchOnce(ctx, partition, at)
			if err != nil {
				if details, err := r.admin.ListTopics(ctx, r.name); err == nil {
					r.detail = details[r.name] // the leader may have moved
				}
				return err
			}
			var done kgo.FetchPartition
			done, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: at, Topic: r.name, Partition: partition}, got, kgo.DefaultDecompressor(), nil)
			if done.Err != nil || next > at {
				records = done.Records
				return done.Err
			}
		}
		return nil
	})
	return records, next, err
}

// fetchOnce asks a partition's leader once.
func (r *reader) fetchOnce(ctx context.Context, partition int32, at int64) (*kmsg.FetchResponseTopicPartition, error) {
	wanted := kmsg.NewFetchRequestTopicPartition()
	wanted.Partition, wanted.FetchOffset, wanted.PartitionMaxBytes = partition, at, 4<<20
	of := kmsg.NewFetchRequestTopic()
	of.Topic, of.TopicID, of.Partitions = r.name, r.detail.ID, []kmsg.FetchRequestTopicPartition{wanted}
	request := kmsg.NewPtrFetchRequest()
	request.MaxBytes, request.Topics = 4<<20, []kmsg.FetchRequestTopic{of}
	answer, err := r.kafka.Broker(int(r.detail.Partitions[partition].Leader)).RetriableRequest(ctx, request)
	if err != nil {
		return nil, err
	}
	fetched := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return nil, err
	}
	if len(fetched.Topics) != 1 || len(fetched.Topics[0].Partitions) != 1 {
		return nil, errors.New("the answer is about other partitions")
	}
	got := &fetched.Topics[0].Partitions[0]
	return got, kerr.ErrorForCode(got.ErrorCode)
}

// passes tells whether an error may pass by itself. Brokers call UNKNOWN_SERVER_ERROR what
// they have no name for, often while they start or stop.
func passes(err error) bool {
	return kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || errors.Is(err, kerr.UnknownServerError)
}

// lookEvery is how often a topic that is followed is looked at.
const lookEvery = 2 * time.Second

// watch looks at a topic while it is followed: for partitions that are new, which are
// followed from their beginning, and for what a consumer would wait out in silence. stop
// is told what cannot be waited out.
func (t *topic) watch(ctx context.Context, stop context.CancelCauseFunc, known kadm.TopicDetail) {
	away := false
	for pause(ctx, lookEvery) == nil {
		detail, err := t.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && final(err):
			stop(err)
			return
		case err != nil && !away:
			away = true
			t.say("%v; goes on when Kafka answers again", err)
		}
		if err != nil {
			continue
		}
		if away {
			away = false
			t.say("Kafka answers again")
		}
		if detail.ID != known.ID {
			stop(fmt.Errorf("topic %s was deleted and made anew meanwhile: start again to follow the new one", t.name))
			return
		}
		grown := make(map[int32]kgo.Offset)
		for p := range detail.Partitions {
			if _, ok := known.Partitions[p]; !ok {
				grown[p] = kgo.NewOffset().AtStart()
			}
		}
		if len(grown) > 0 {
			t.say("follows %s of %s more", count(len(grown), "partition"), t.name)
			t.kafka.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.name: grown})
		}
		known = detail
	}
}

// watchReader tells stop when nobody reads what is shown.
func (t *topic) watchReader(ctx context.Context, stop context.CancelCauseFunc) {
	for pause(ctx, 250*time.Millisecond) == nil {
		if unread(t.out) {
			stop(syscall.EPIPE)
			return
		}
	}
}
