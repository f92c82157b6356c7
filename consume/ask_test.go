package consume

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/cluster"
)

// asks has a member ask what a handler may ask before reading begins.
func (w *world) asks(change func(*Config), ask func(*Group)) {
	w.t.Helper()
	assigned, done := make(chan *Group), make(chan struct{})
	r := w.join(newLedger(w.t), func(c *Config, b *bookkeeper) {
		if change != nil {
			change(c)
		}
		b.assigned = func([]Partition) error {
			select {
			case assigned <- b.group:
				<-done
			case <-done:
			}
			return errors.New("that was all")
		}
	})
	defer r.stop()
	defer close(done)
	select {
	case g := <-assigned:
		ask(g)
	case <-time.After(soon):
		w.t.Fatal("nothing was assigned")
	}
}

// TestCommitNothing: a member that commits nothing begins where the group is, and leaves it there.
func TestCommitNothing(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		w.write(0, numbered("x", 10)...)
		w.write(1, numbered("y", 10)...)
		offsets := make(kadm.Offsets)
		offsets.AddOffset(w.topic, 0, 3, -1)
		if err := w.admin.CommitAllOffsets(t.Context(), w.group, offsets); err != nil {
			t.Fatal(err)
		}
		l := newLedger(t)
		r := w.join(l, func(c *Config, _ *bookkeeper) { c.CommitNothing = true })
		eventually(t, "they are read", func() bool { return l.count() == 17 })
		l.holds(0, numbered("x", 10)[3:]...)
		eventually(t, "all is done", func() bool { all := r.Lag(); return len(all) == 2 && all[0].Lag == 0 && all[1].Lag == 0 })
		r.stop()
		if c := w.committed(); c[0] != 3 || len(c) != 1 {
			t.Errorf("committed: %v", c)
		}
		if n := r.metric("drain_consumer_commit_seconds"); n > 0 {
			t.Errorf("%v commits are counted", n)
		}
	})
}

func TestPartitionsAreThoseOfTheWholeTopic(t *testing.T) {
	both(t, 5, func(t *testing.T, w *world) {
		l := newLedger(t)
		a := w.join(l, nil)
		a.ready()
		told := make(chan [2]int, 10)
		w.join(l, func(_ *Config, b *bookkeeper) {
			b.assigned = func(mine []Partition) error {
				n, err := b.group.Partitions(t.Context())
				told <- [2]int{len(mine), n}
				return err
			}
		})
		if got := <-told; got[0] >= 5 || got[1] != 5 {
			t.Errorf("of %d partitions %d are this member's", got[1], got[0])
		}
	})
}

// knows is a group, not running, that has just been told where the partitions are.
func knows(found *layout) *Group {
	g := New(Config{Cluster: &cluster.Config{Addresses: []string{"127.0.0.1:1"}}, Topic: "router", Group: "g", Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	g.layout, g.lookedAt = found, time.Now()
	return g
}

// A partition without a leader is one all the same; to ask it for something fails, and does not wait.
func TestPartitionsWithoutALeader(t *testing.T) {
	g := knows(&layout{partitions: 3, leaders: map[int]string{0: "127.0.0.1:1", 2: "127.0.0.1:1"}})
	if n, err := g.Partitions(t.Context()); n != 3 || err != nil {
		t.Errorf("%d partitions, %v", n, err)
	}
	if got, err := g.Find(t.Context(), []int{1}, time.Now()); !errors.Is(err, kafka.LeaderNotAvailable) || !strings.Contains(err.Error(), "partition 1") {
		t.Errorf("found %v, %v", got, err)
	}
	if err := g.Peek(t.Context(), 1, 0, func([]Record) { t.Error("saw something") }); !errors.Is(err, kafka.LeaderNotAvailable) || !strings.Contains(err.Error(), "partition 1") {
		t.Error(err)
	}
}

func TestFindsTimes(t *testing.T) {
	both(t, 4, func(t *testing.T, w *world) {
		hour := time.Now().Add(-time.Hour).Truncate(time.Second)
		second := func(n float64) time.Time { return hour.Add(time.Duration(n * float64(time.Second))) }
		produce := func(partition int32, seconds ...float64) {
			for _, s := range seconds {
				r := &kgo.Record{Topic: w.topic, Partition: partition, Timestamp: second(s), Value: []byte("x")}
				if err := w.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		produce(0, 10, 20, 20, 30)
		produce(1, 12, 31, 11, 32) // as when a sender tried again for some time
		produce(3, 10, 20, 30, 40, 50)
		w.drop(3, 2) // 2 is empty
		w.asks(nil, func(g *Group) {
			for _, test := range []struct {
				name string
				at   time.Time
				want map[int]int64
			}{
				{"long before", time.UnixMilli(0), map[int]int64{0: 0, 1: 0, 2: 0, 3: 2}},
				{"before 1970", time.Unix(-1000, 0), map[int]int64{0: 0, 1: 0, 2: 0, 3: 2}},
				{"before", second(9.999), map[int]int64{0: 0, 1: 0, 2: 0, 3: 2}},
				{"at the first", second(10), map[int]int64{0: 0, 1: 0, 2: 0, 3: 2}},
				{"a millisecond behind it", second(10.001), map[int]int64{0: 1, 1: 0, 2: 0, 3: 2}},
				{"at two of the same", second(20), map[int]int64{0: 1, 1: 1, 2: 0, 3: 2}},
				{"between", second(25), map[int]int64{0: 3, 1: 1, 2: 0, 3: 2}},
				{"behind the last of one", second(31), map[int]int64{0: 4, 1: 1, 2: 0, 3: 3}},
				{"behind the last of two", second(33), map[int]int64{0: 4, 1: 4, 2: 0, 3: 3}},
				{"after", second(51), map[int]int64{0: 4, 1: 4, 2: 0, 3: 5}},
				{"long after", time.UnixMilli(1 << 60), map[int]int64{0: 4, 1: 4, 2: 0, 3: 5}},
			} {
				if got, err := g.Find(t.Context(), []int{0, 1, 2, 3}, test.at); err != nil || !maps.Equal(got, test.want) {
					t.Errorf("%s: %v, %v; want %v", test.name, got, err, test.want)
				}
			}
			if got, err := g.Find(t.Context(), []int{1}, second(31)); err != nil || !maps.Equal(got, map[int]int64{1: 1}) {
				t.Errorf("of one: %v, %v", got, err)
			}
			if got, err := g.Find(t.Context(), nil, second(31)); err != nil || len(got) > 0 {
				t.Errorf("of none: %v, %v", got, err)
			}
		})
	})
}

// seen is what Peek shows.
func seen(t *testing.T, g *Group, partition int, from int64) (values []string, offsets []int64, err error) {
	err = g.Peek(t.Context(), partition, from, func(records []Record) {
		for _, r := range records {
			values, offsets = append(values, string(r.Value)), append(offsets, r.Offset)
		}
	})
	return values, offsets, err
}

// TestPeeksFromAnOffsetOn: whichever record of a batch the offset is, and however it is compressed, that
// and those behind it are seen, and none before it.
func TestPeeksFromAnOffsetOn(t *testing.T) {
	both(t, 5, func(t *testing.T, w *world) {
		codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
		for id, codec := range codecs {
			packs := at(t, w.addrs, 0, kgo.ProducerBatchCompression(codec))
			packs.topic = w.topic
			for batch := range 3 {
				packs.write(id, numbered(strings.Repeat("x", batch), 10)...)
			}
		}
		var want []string
		for batch := range 3 {
			want = append(want, numbered(strings.Repeat("x", batch), 10)...)
		}
		w.asks(nil, func(g *Group) {
			for id := range codecs {
				for _, from := range []int64{0, 1, 9, 10, 14, 19, 20, 29} {
					values, offsets, err := seen(t, g, id, from)
					if err != nil || !slices.Equal(values, want[from:]) || offsets[0] != from || offsets[len(offsets)-1] != 29 {
						t.Errorf("codec %d, from %d: %q at %v, %v", id, from, values, offsets, err)
					}
				}
			}
		})
	})
}

// What one fetch finds is all: it is bounded, and a record that is larger is seen all the same.
func TestPeekIsOneFetch(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		for i := range 20 {
			w.write(0, strings.Repeat("x", 1000), numbered("y", 20)[i])
		}
		w.write(1, strings.Repeat("x", 500_000))
		w.write(1, "y")
		few := func(c *Config) { c.MaxBytes = 4000 }
		w.asks(few, func(g *Group) {
			if values, offsets, err := seen(t, g, 0, 5); err != nil || len(values) < 3 || len(values) > 9 || offsets[0] != 5 {
				t.Errorf("%d records from %v on, %v", len(values), offsets, err)
			}
			if values, _, err := seen(t, g, 1, 0); err != nil || len(values) != 1 || len(values[0]) != 500_000 {
				t.Errorf("%d records, %v", len(values), err)
			}
		})
	})
}

// At the end there is nothing to see, which is soon known; behind it and before the beginning is nothing.
func TestPeekWhereNothingIs(t *testing.T) {
	both(t, 2, func(t *testing.T, w *world) {
		w.write(0, numbered("x", 10)...)
		w.drop(0, 4)
		w.asks(nil, func(g *Group) {
			for partition, end := range []int64{10, 0} {
				if values, _, err := seen(t, g, partition, end); err != nil || len(values) > 0 {
					t.Errorf("at the end of partition %d: %q, %v", partition, values, err)
				}
			}
			for _, from := range []int64{3, 11} {
				if values, _, err := seen(t, g, 0, from); !errors.Is(err, kafka.OffsetOutOfRange) || len(values) > 0 {
					t.Errorf("from %d: %q, %v", from, values, err)
				}
			}
		})
	})
}

// Batches that cannot be read hide neither those before them nor, where it is known where they begin, those
// behind them.
func TestPeekPastBrokenBatches(t *testing.T) {
	t.Parallel()
	good := func(offset int64) []byte { return recordBatch{offset: offset, records: some(offset, 10)}.bytes() }
	spoilt := func(offset int64) []byte {
		b := good(offset)
		b[len(b)-1] ^= 1
		return b
	}
	garbled := func(offset int64) []byte {
		return recordBatch{offset: offset, records: some(offset, 10), attrs: 4, pack: func([]byte) []byte { return []byte("no zstd") }}.bytes()
	}
	for name, test := range map[string]struct {
		batches []byte
		want    []int64 // offsets where ten are seen, or some from 5 on
	}{
		"the only one has a wrong sum":         {spoilt(0), nil},
		"a later one has a wrong sum":          {slices.Concat(good(0), good(10), spoilt(20), good(30)), []int64{5, 10}},
		"the only one cannot be decompressed":  {garbled(0), nil},
		"the first one cannot be decompressed": {slices.Concat(garbled(0), good(10)), []int64{10}},
		"a later one cannot be decompressed":   {slices.Concat(good(0), garbled(10), good(20)), []int64{5, 20}},
		"the last one is cut off":              {slices.Concat(good(0), good(10)[:90]), []int64{5}},
		"it is rubbish":                        {[]byte(strings.Repeat("rubbish", 50)), nil},
		"nothing is":                           {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := pretend(t, 1)
			w.fake.ControlKey(int16(kmsg.Fetch), func(m kmsg.Request) (kmsg.Response, error, bool) {
				w.fake.KeepControl()
				req := m.(*kmsg.FetchRequest)
				res := req.ResponseKind().(*kmsg.FetchResponse)
				topic := kmsg.NewFetchResponseTopic()
				topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
				p := kmsg.NewFetchResponseTopicPartition()
				p.RecordBatches, p.HighWatermark = test.batches, 100
				topic.Partitions = append(topic.Partitions, p)
				res.Topics = append(res.Topics, topic)
				return res, nil, true
			})
			var want []int64
			for _, from := range test.want {
				for offset := from; offset == from || offset%10 > 0; offset++ {
					want = append(want, offset)
				}
			}
			w.asks(nil, func(g *Group) {
				if _, got, err := seen(t, g, 0, 5); err != nil || !slices.Equal(got, want) {
					t.Errorf("%v, %v; want %v", got, err, want)
				}
			})
		})
	}
}

func TestPeekSeesNoAbortedTransaction(t *testing.T) {
	both(t, 1, func(t *testing.T, w *world) {
		sends := at(t, w.addrs, 0, kgo.TransactionalID(w.topic))
		sends.topic = w.topic
		for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
			if err := sends.client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			sends.write(0, numbered("x", 3)[i])
			if err := sends.client.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
		}
		w.asks(nil, func(g *Group) {
			eventually(t, "the transactions have ended", func() bool {
				values, _, err := seen(t, g, 0, 0)
				return err == nil && slices.Equal(values, []string{"x-0", "x-2"})
			})
		})
	})
}

// To ask a broker that is silent ends with the context.
func TestAskingASilentLeaderEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := knows(&layout{partitions: 1, leaders: map[int]string{0: l.Addr().String()}})
	for name, ask := range map[string]func(context.Context) error{
		"Find": func(ctx context.Context) error { _, err := g.Find(ctx, []int{0}, time.Now()); return err },
		"Peek": func(ctx context.Context) error { return g.Peek(ctx, 0, 0, func([]Record) {}) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- ask(ctx) }()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		asked := time.Now()
		cancel()
		if err := <-answer; err == nil || time.Since(asked) > patience/2 {
			t.Errorf("%s: %v after %s", name, err, time.Since(asked))
		}
		conn.Close()
	}
}
