package logplex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/cluster/franz"
)

// Topic is where the lines' records should arrive. It is read with a client that
// shares nothing with drain's but how it connects.
type Topic struct {
	client *kgo.Client
	name   string
	from   kadm.ListedOffsets
}

// OpenTopic notes where the topic ends: what is sent from now on stands behind.
func OpenTopic(ctx context.Context, at *cluster.Config, name string) (*Topic, error) {
	client, err := kgo.NewClient(append(franz.Options(at), kgo.ClientID("logplex"),
		kgo.FetchMaxWait(250*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", name, err)
	}
	t := &Topic{client: client, name: name}
	from, err := ends(ctx, client, name)
	for err != nil && kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicOrPartition) && ctx.Err() == nil { // a leader that has just come, or goes
		time.Sleep(100 * time.Millisecond)
		from, err = ends(ctx, client, name)
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("open topic %s: %w", name, err)
	}
	t.from = from
	offsets := make(map[int32]kgo.Offset)
	from.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = kgo.NewOffset().At(o.Offset) })
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{name: offsets})
	return t, nil
}

func ends(ctx context.Context, client *kgo.Client, name string) (kadm.ListedOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(ctx, name)
	if err == nil {
		err = topics[name].Err // ListEndOffsets would look for it until ctx ends
	}
	if err != nil {
		return nil, err
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err == nil && len(ends[name]) == 0 {
		err = fmt.Errorf("it has no partitions")
	}
	return ends, err
}

// Close ends the client.
func (t *Topic) Close() { t.client.Close() }

// Account says of every line that was sent whether it is stored.
type Account struct {
	// Stored counts lines, not copies.
	Stored int64 `json:"stored"`
	// Twice counts second copies: of the same record id, which a consumer can tell,
	// and of another one, which it can not.
	Twice      int64 `json:"twice"`
	TwiceOther int64 `json:"twice_other_id"`
	// Recovered lines are stored although they were not acknowledged.
	Recovered int64 `json:"recovered"`
	// Betrayed lines were acknowledged and are not stored.
	Betrayed int64 `json:"acknowledged_missing"`
	// Lost lines are not stored, by what their sender did with them.
	Lost   int64            `json:"lost"`
	LostBy map[string]int64 `json:"lost_by"`
}

// Account reads the topic until all lines are found that may still come, or until
// none has come for patience.
func (t *Topic) Account(ctx context.Context, r *Report, patience time.Duration) (*Account, error) {
	if r.cfg.File != nil {
		return nil, fmt.Errorf("lines of a file carry no numbers to be found by")
	}
	a := &Account{LostBy: make(map[string]int64)}
	// A record's id for each line, 0 for none yet.
	seen := make([][]uint64, r.cfg.Drains)
	missing := 0
	for _, s := range r.stretches {
		if n := int(s.To) - len(seen[s.Drain]); n > 0 {
			seen[s.Drain] = append(seen[s.Drain], make([]uint64, n)...)
		}
		if s.Fate != Overflow && s.Fate != Refused {
			missing += int(s.To - s.From)
		}
	}
	hashes := maphash.MakeSeed()
	last := time.Now()
	at := make(map[int32]int64) // the offset behind what was read, by partition
	poll := func(wait time.Duration) error {
		polling, cancel := context.WithTimeout(ctx, wait)
		fetches := t.client.PollFetches(polling)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, kerr.OffsetOutOfRange) {
				return fmt.Errorf("partition %d no longer holds what came first: the topic keeps less than was sent", e.Partition)
			}
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			at[rec.Partition] = rec.Offset + 1
			var record struct {
				ID      string `json:"id"`
				Request string `json:"request_id"`
			}
			if json.Unmarshal(rec.Value, &record) != nil {
				return
			}
			seed, drain, n, ok := ParseRequestID(record.Request)
			if !ok || seed != r.cfg.Seed || int(drain) >= len(seen) || n >= int64(len(seen[drain])) {
				return
			}
			id := maphash.String(hashes, record.ID) | 1
			switch before := seen[drain][n]; before {
			case 0:
				seen[drain][n] = id
				missing--
				last = time.Now()
			case id:
				a.Twice++
			default:
				a.TwiceOther++
			}
		})
		return nil
	}
	for missing > 0 && time.Since(last) < patience {
		if err := poll(min(patience, time.Second)); err != nil {
			return nil, err
		}
	}
	// Second copies may stand behind the last line.
	ends, err := ends(ctx, t.client, t.name)
	if err != nil {
		return nil, err
	}
	behind := func() (n int64) {
		ends.Each(func(o kadm.ListedOffset) {
			from, _ := t.from.Lookup(t.name, o.Partition)
			n += max(0, o.Offset-max(from.Offset, at[o.Partition]))
		})
		return n
	}
	for last = time.Now(); behind() > 0; {
		before := behind()
		if err := poll(time.Second); err != nil {
			return nil, err
		}
		if behind() < before {
			last = time.Now()
		} else if time.Since(last) > max(patience, 10*time.Second) {
			return nil, fmt.Errorf("%d records cannot be read", behind())
		}
	}
	for _, s := range r.stretches {
		for n := s.From; n < s.To; n++ {
			stored := seen[s.Drain][n] != 0
			switch {
			case stored:
				a.Stored++
				if s.Fate != Acknowledged {
					a.Recovered++
				}
			case s.Fate == Acknowledged:
				a.Betrayed++
			default:
				a.Lost++
				a.LostBy[s.Fate.String()]++
			}
		}
	}
	return a, nil
}
