package main

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/cluster"
	"drain/consume"
	"drain/embedded"
	"drain/replay"
	"drain/settings"
	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/variables"
)

// topicWorld is a Kafka with the topic router, and a target.
type topicWorld struct {
	t      *testing.T
	kafka  *kfake.Cluster
	env    variables.Vars
	client *kgo.Client
	admin  *kadm.Client
	target *topicTarget
}

// topicRoom leaves the memory's limit, which is one process', to that which has brokers and targets as well.
var topicRoom = sync.OnceFunc(func() {
	os.Setenv("GOMEMLIMIT", "off")
	debug.SetMemoryLimit(math.MaxInt64)
})

func newTopicWorld(t *testing.T, partitions int, options ...kfake.Opt) *topicWorld {
	t.Helper()
	topicRoom()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(int32(partitions), "router"), kfake.GroupMinSessionTimeout(500 * time.Millisecond)}, options...)...)
	check.Must(t, err)
	t.Cleanup(c.Close)
	w := &topicWorld{t: t, kafka: c, target: newTopicTarget(t)}
	w.reach(strings.Join(c.ListenAddrs(), ","))
	return w
}

// reach says where the brokers are.
func (w *topicWorld) reach(brokers string) {
	w.t.Helper()
	w.env = variables.Vars{"KAFKA_URL": brokers, "TARGET": w.target.URL}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000), kgo.ManualFlushing(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	check.Must(w.t, err)
	w.t.Cleanup(client.Close)
	w.client, w.admin = client, kadm.NewClient(client)
}

// write writes records, those of a partition in one batch, if that is not too large for it.
func (w *topicWorld) write(records ...*kgo.Record) {
	w.t.Helper()
	var failed kgo.FirstErrPromise
	for _, r := range records {
		w.client.Produce(w.t.Context(), r, failed.Promise())
	}
	check.Must(w.t, w.client.Flush(w.t.Context()))
	check.Must(w.t, failed.Err())
}

// committed are the group's offsets, as Kafka has them.
func (w *topicWorld) committed(group string) map[int32]int64 {
	w.t.Helper()
	all, err := w.admin.FetchOffsets(context.Background(), group)
	if !errors.Is(err, kerr.GroupIDNotFound) { // nothing was committed
		check.Must(w.t, err)
	}
	offsets := make(map[int32]int64)
	all.Each(func(o kadm.OffsetResponse) { offsets[o.Partition] = o.At })
	return offsets
}

func (w *topicWorld) commit(group string, offsets map[int32]int64) {
	w.t.Helper()
	all := make(kadm.Offsets)
	for id, offset := range offsets {
		all.AddOffset("router", id, offset, -1)
	}
	check.Must(w.t, w.admin.CommitAllOffsets(w.t.Context(), group, all))
}

// interrupt has another member join a group for a moment, so that the partitions are shared out again, twice.
func (w *topicWorld) interrupt(group string) {
	w.t.Helper()
	assigned := make(chan struct{})
	member := consume.New(consume.Config{Cluster: &cluster.Config{Addresses: strings.Split(w.env["KAFKA_URL"], ",")}, Topic: "router", Group: group,
		Handler: topicVisitor(assigned), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), CommitNothing: true})
	ctx, leave := context.WithTimeout(context.Background(), 50*time.Second)
	defer leave()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = member.Run(ctx)
	}()
	select {
	case <-assigned:
	case <-ctx.Done():
		w.t.Error("the other member got no partition")
	}
	leave()
	<-left
}

// topicVisitor is a member's handler that takes nothing. It is closed when it has a partition.
type topicVisitor chan struct{}

func (v topicVisitor) Assigned(context.Context, []consume.Partition) error {
	close(v)
	return nil
}

func (v topicVisitor) Consume(ctx context.Context, _ *consume.Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

func (v topicVisitor) Revoked(context.Context) {}

// withhold has Kafka give no records from an offset on, until release. waits tells whether all partitions were read to there.
func (w *topicWorld) withhold(from int64) (waits func() bool, release func()) {
	var mu sync.Mutex
	asked, released := make(map[int32]bool), false
	w.kafka.ControlKey(int16(kmsg.Fetch), func(m kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		req := m.(*kmsg.FetchRequest)
		p := &req.Topics[0].Partitions[0]
		mu.Lock()
		defer mu.Unlock()
		if released || p.FetchOffset < from {
			return nil, nil, false
		}
		asked[p.Partition] = true
		res := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		none := kmsg.NewFetchResponseTopicPartition()
		none.Partition, none.HighWatermark = p.Partition, 1_000_000
		topic.Partitions = append(topic.Partitions, none)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	waits = func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) == len(w.kafka.PartitionInfos("router"))
	}
	return waits, func() {
		mu.Lock()
		defer mu.Unlock()
		released = true
	}
}

// observe counts requests of a kind from now on.
func (w *topicWorld) observe(key kmsg.Key) *atomic.Int32 {
	n := new(atomic.Int32)
	w.kafka.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	return n
}

// topicRecord is a request as drain records it: it came to Kafka when it was made.
func topicRecord(partition int, at time.Time, id string) *kgo.Record {
	from := crc32.ChecksumIEEE([]byte(id))
	return &kgo.Record{Topic: "router", Partition: int32(partition), Timestamp: at, Value: fmt.Appendf(nil,
		`{"id":"%s-0","time":"%s","app":"shop","at":"info","method":"GET","path":"/items/%[1]s","host":"shop.example.com","request_id":"%[1]s","fwd":"10.%[3]d.%[4]d.%[5]d","dyno":"web.1","connect_ms":0,"service_ms":1,"status":200,"bytes":2}`,
		id, at.UTC().Format("2006-01-02T15:04:05.000000Z"), from>>16&255, from>>8&255, from&255)}
}

// topicPast is when the tests' records begin.
func topicPast() time.Time { return time.Now().Add(-20 * time.Minute).Truncate(time.Second) }

// topicRecords are n records, one each step, in turn over the partitions; their ids are numbers from 0.
func topicRecords(partitions, n int, step time.Duration) (records []*kgo.Record) {
	began := topicPast()
	for i := range n {
		records = append(records, topicRecord(i%partitions, began.Add(time.Duration(i)*step), strconv.Itoa(i)))
	}
	return records
}

var topicFwd = regexp.MustCompile(`"fwd":"[^"]*"`)

// topicPadded makes the records' paths longer.
func topicPadded(records []*kgo.Record, by int) {
	for _, r := range records {
		r.Value = []byte(strings.Replace(string(r.Value), `"/items`, `"/`+strings.Repeat("x", by), 1))
	}
}

// topicIDs are the numbers from, from+1 … below to.
func topicIDs(from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids
}

// topicTarget is a server that keeps what it is asked for.
type topicTarget struct {
	*httptest.Server

	mu     sync.Mutex                               // guards the following
	answer func(http.ResponseWriter, *http.Request) // nil for `ok`
	ids    []string                                 // X-Replay, in the order of their coming
	at     []time.Time
}

func newTopicTarget(t *testing.T) *topicTarget {
	s := new(topicTarget)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.ids, s.at = append(s.ids, r.Header.Get("X-Replay")), append(s.at, time.Now())
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(func() {
		s.CloseClientConnections() // whoever hangs
		s.Close()
	})
	return s
}

func (s *topicTarget) answers(answer func(http.ResponseWriter, *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *topicTarget) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

func (s *topicTarget) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// reset forgets what came, and gives it.
func (s *topicTarget) reset() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.ids
	s.ids, s.at = nil, nil
	return ids
}

// topicExact fails the test unless got are the ids that are wanted, each once, in any order.
func topicExact(t *testing.T, what string, got, want []string) {
	t.Helper()
	times := make(map[string]int)
	for _, id := range got {
		times[id]++
	}
	lost, other, twice := []string{}, []string{}, []string{}
	for _, id := range want {
		if times[id] == 0 {
			lost = append(lost, id)
		}
		if times[id] > 1 {
			twice = append(twice, id)
		}
		delete(times, id)
	}
	for id := range times {
		other = append(other, id)
	}
	if len(lost)+len(other)+len(twice) > 0 {
		t.Errorf("%s: %d came; %d of %d not: %.200q; %d twice: %.200q; %d that were not to: %.200q", what, len(got), len(lost), len(want), lost, len(twice), twice, len(other), other)
	}
}

// topicRun is a replay in this process.
type topicRun struct {
	t         *testing.T
	stop      context.CancelFunc
	out, said journal.Journal
	ended     chan struct{}
	status    int
}

// start starts a replay, with --json.
func (w *topicWorld) start(args ...string) *topicRun {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &topicRun{t: w.t, stop: stop, ended: make(chan struct{})}
	env := w.env.With("JSON", "true")
	go func() {
		defer close(r.ended)
		err := run(ctx, args, environ{getenv: env.Lookup, stdout: &r.out, stderr: &r.said})
		r.status = settings.ExitStatus("replay", err, &r.said)
	}()
	w.t.Cleanup(func() {
		stop()
		<-r.ended
		if w.t.Failed() {
			w.t.Logf("replay %s: status %d, said:\n%s", strings.Join(args, " "), r.status, r.said.String())
		}
	})
	return r
}

// ends waits for its end and its report.
func (r *topicRun) ends(status int) *replay.Result {
	r.t.Helper()
	check.Eventually(r.t, "the replay ends", r.hasEnded)
	if r.status != status {
		r.t.Fatalf("status %d, want %d", r.status, status)
	}
	result := new(replay.Result)
	if r.out.String() != "" {
		check.Must(r.t, json.Unmarshal([]byte(r.out.String()), result))
	}
	return result
}

func (r *topicRun) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// plays runs a replay to its end.
func (w *topicWorld) plays(args ...string) *replay.Result {
	w.t.Helper()
	return w.start(args...).ends(0)
}

// Records of one second are over all partitions, each of which has them in disorder: they come in the order in which
// they were recorded, if the disorder is within the window.
func TestTopic_comesInRecordedOrder(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	r := rand.New(rand.NewPCG(1, 2))
	const n, step = 4000, 2 * time.Millisecond
	records := topicRecords(4, n, step)
	came := make(map[*kgo.Record]time.Duration)
	for i, record := range records {
		record.Partition = int32(r.IntN(4))
		came[record] = time.Duration(i)*step + time.Duration(r.Float64()*0.9*float64(time.Second))
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int { return cmp.Compare(came[a], came[b]) })
	for frame := range slices.Chunk(records, 100) {
		w.write(frame...)
	}
	file := filepath.Join(t.TempDir(), "records")
	run := w.start("--target=", "--record="+file, "--merge-window=1s")
	run.ends(0)
	got := topicRecorded(t, file)
	topicExact(t, "all", got, topicIDs(0, n))
	if !slices.Equal(got, topicIDs(0, n)) || !run.said.Says(" out_of_order=0\n") {
		t.Error("not in the order of their times")
	}
}

// What comes when later requests were sent is sent at once, and counted.
func TestTopic_countsWhatCameTooLate(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	began := topicPast()
	w.write(topicRecords(4, 100, 80*time.Millisecond)...)
	run := w.start("--speed=max", "--merge-window=1s", "--until=never", "--from=beginning")
	check.Eventually(t, "the first are sent", func() bool { return w.target.count() == 100 })
	late := []*kgo.Record{}
	for i := range 20 {
		late = append(late, topicRecord(i%4, began.Add(time.Duration(i)*10*time.Millisecond), fmt.Sprint("late-", i)))
	}
	w.write(late...)
	check.Eventually(t, "the late ones are sent", func() bool { return w.target.count() == 120 })
	w.write(topicRecord(0, began.Add(time.Minute), "last"))
	check.Eventually(t, "the last one is sent", func() bool { return w.target.count() == 121 })
	run.stop()
	if result := run.ends(0); result.Requests.OutOfOrder != 20 || result.Requests.Sent != 121 {
		t.Errorf("%+v", result.Requests)
	}
}

// Stopped at any moment and started again, again and again: every request is sent once.
func TestTopic_goesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"as fast as can be": {"--speed=max", "--concurrency=16"},
		"at its pace":       {"--speed=4"},
		"of few clients":    {"--speed=max", "--concurrency=17"}, // most wait for the answer to the one before
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTopicWorld(t, 3)
			seed := uint64(time.Now().UnixNano())
			r := rand.New(rand.NewPCG(seed, 1))
			w.target.answers(func(http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Millisecond) })
			const n = 900
			records := topicRecords(3, n, 12*time.Millisecond)
			if name == "of few clients" {
				for i, record := range records {
					record.Value = topicFwd.ReplaceAll(record.Value, fmt.Appendf(nil, `"fwd":"10.0.0.%d"`, r.IntN(1+i%3)))
				}
			}
			w.write(records...)
			var sent int64
			for range 4 {
				run := w.start(args...)
				more := w.target.count() + 1 + r.IntN(n/8)
				check.Eventually(t, "some are sent", func() bool { return w.target.count() >= more || run.hasEnded() })
				run.stop()
				result := run.ends(0)
				if sent += result.Requests.Sent; result.Ended != "interrupted" {
					t.Errorf("ended: %s", result.Ended)
				}
			}
			last := w.plays(args...)
			topicExact(t, fmt.Sprint("seed ", seed), w.target.got(), topicIDs(0, n))
			if sent += last.Requests.Sent; sent != n || last.Ended != "end" || last.Requests.Sent == 0 {
				t.Errorf("%d are reported, %d in the last run, which ended with %s", sent, last.Requests.Sent, last.Ended)
			}
			if c := w.committed("replay"); !maps.Equal(c, map[int32]int64{0: n / 3, 1: n / 3, 2: n / 3}) {
				t.Errorf("committed: %v", c)
			}
			if after := w.plays(args...); after.Requests.Read != 0 || after.Requests.Sent != 0 {
				t.Errorf("once more: %+v", after.Requests)
			}
		})
	}
}

// A stop waits some seconds for a target that hangs. What hangs is not sent again. What waited for the answer to that is sent the
// next time, and what was sent ahead of it may be sent again.
func TestTopic_stopsWhileTheTargetHangs(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	records := topicRecords(2, 200, time.Millisecond)
	for i := 5; i < len(records); i += 10 { // one that hangs, and one of the same client behind it
		for _, record := range records[i : i+2] {
			record.Value = topicFwd.ReplaceAll(record.Value, fmt.Appendf(nil, `"fwd":"10.0.0.%d"`, i))
		}
	}
	w.write(records...)
	w.target.answers(func(_ http.ResponseWriter, r *http.Request) {
		if id, _ := strconv.Atoi(r.Header.Get("X-Replay")); id%10 == 5 {
			<-r.Context().Done()
		}
	})
	run := w.start("--speed=max", "--concurrency=8")
	check.Eventually(t, "it waits for what hangs", func() bool {
		hang := 0
		for _, id := range w.target.got() {
			if strings.HasSuffix(id, "5") {
				hang++
			}
		}
		return hang == 4
	})
	stopped := time.Now()
	run.stop()
	result := run.ends(0)
	if took := time.Since(stopped); took > 9*time.Second {
		t.Errorf("it stopped after %s", took)
	}
	if r := result.Requests; r.Stopped != 4 || r.Sent+r.Stopped != int64(w.target.count()) {
		t.Errorf("%+v, and %d came", r, w.target.count())
	}
	w.target.answers(nil)
	w.plays("--speed=max")
	got := w.target.got()
	slices.Sort(got)
	topicExact(t, "in both", slices.Compact(slices.Clone(got)), topicIDs(0, 200))
	others := func(id string) bool { return !strings.HasSuffix(id, "5") && !strings.HasSuffix(id, "6") }
	topicExact(t, "of what hangs and waits", slices.DeleteFunc(got, others), slices.DeleteFunc(topicIDs(0, 200), others))
}

// A process that joins gets a part of the partitions, and one that leaves gives its own back: no request is lost by that,
// and none is sent twice.
func TestTopic_isSharedByAGroup(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	const n = 1200
	records := topicRecords(4, n, 6*time.Millisecond)
	topicPadded(records, fetch/150) // a half is all that is fetched at once
	w.write(records[:n/2]...)
	w.write(records[n/2:]...)
	_, release := w.withhold(n / 4 / 2)
	a := w.start("--speed=2", "--merge-window=10ms")
	check.Eventually(t, "the first sends", func() bool { return w.target.count() > n/20 })
	b := w.start("--speed=2", "--merge-window=10ms", "--from=beginning") // which is not for who joins
	two := regexp.MustCompile(`partitions="\[\d \d\]"`)
	check.Eventually(t, "they share the partitions", func() bool { return two.MatchString(a.said.String()) && two.MatchString(b.said.String()) })
	then := w.target.count()
	check.Eventually(t, "they go on", func() bool { return w.target.count() > min(then+n/10, n/2-1) })
	a.stop()
	first := a.ends(0)
	if !b.said.Says("goes on where the group is, and not --from") {
		t.Error("who joins does not say that --from is not for it")
	}
	check.Eventually(t, "the second has all partitions", func() bool { return b.said.Says(`partitions="[0 1 2 3]"`) })
	release()
	second := b.ends(0)
	topicExact(t, "from both", w.target.got(), topicIDs(0, n))
	if first.Requests.Sent+second.Requests.Sent != n || first.Requests.Sent == 0 || second.Requests.Sent < n/2 || first.Ended != "interrupted" || second.Ended != "end" {
		t.Errorf("one sent %d, the other %d; ended: %s, %s", first.Requests.Sent, second.Requests.Sent, first.Ended, second.Ended)
	}
	if c := w.committed("replay"); !maps.Equal(c, map[int32]int64{0: n / 4, 1: n / 4, 2: n / 4, 3: n / 4}) {
		t.Errorf("committed: %v", c)
	}
}

// However long after it was recorded something came to Kafka, it is of its time; --max-transit says that it does not take so long.
func TestTopic_untilIsOfWhenItWasRecorded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"however late":    {nil, topicIDs(0, 40)},
		"not so late":     {[]string{"--max-transit=5m"}, nil},
		"about that late": {[]string{"--max-transit=1h"}, topicIDs(0, 40)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTopicWorld(t, 2)
			records := topicRecords(2, 100, 10*time.Millisecond)
			until := records[40].Timestamp.UTC().Format(time.RFC3339Nano)
			for _, r := range records {
				r.Timestamp = time.Now()
			}
			w.write(records...)
			w.plays(append(test.args, "--speed=max", "--until="+until)...)
			topicExact(t, "of them", w.target.got(), test.want)
		})
	}
}

// --from says where to begin, and to the record.
func TestTopic_beginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	now := time.Now()
	made := func(id float64) time.Time { // one each ten minutes, the last one five minutes ago
		return now.Add(time.Duration((id - 99.5) * float64(10*time.Minute)))
	}
	at := func(id float64) string { return made(id).UTC().Format("2006-01-02T15:04:05.000000Z") }
	var records []*kgo.Record
	for i := range 100 {
		records = append(records, topicRecord(i*i%4, made(float64(i)), strconv.Itoa(i)))
	}
	// Senders tried again for some time: 40 came behind 41.
	records[40].Timestamp = made(41).Add(50 * time.Second)
	// The clocks do not agree: 60 came half a minute before it was made.
	records[60].Timestamp = made(60).Add(-30 * time.Second)
	slices.SortStableFunc(records, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
	w.write(records...)
	for name, test := range map[string]struct {
		args  []string
		first int
		until int
	}{
		"nothing said":                {nil, 0, 100},
		"beginning":                   {[]string{"--from=beginning"}, 0, 100},
		"a time":                      {[]string{"--from", at(30)}, 30, 100},
		"a time between":              {[]string{"--from", at(29.5)}, 30, 100},
		"a time of what came late":    {[]string{"--from", at(40)}, 40, 100},
		"a time after what came late": {[]string{"--from", at(41)}, 41, 100},
		"a time of what came before":  {[]string{"--from", at(60)}, 60, 100},
		"long ago":                    {[]string{"--from=1970-01-02"}, 0, 100},
		"an hour ago":                 {[]string{"--from", "-1h"}, 94, 100},
		"two minutes ago":             {[]string{"--from", "-2m"}, 100, 100},
		"the end":                     {[]string{"--from=end", "--until=end"}, 100, 100},
		"the newest ten":              {[]string{"--from", "-10"}, 90, 100},
		"all but one":                 {[]string{"--from", "-99"}, 1, 100},
		"all of them":                 {[]string{"--from", "-100"}, 0, 100},
		"more than there are":         {[]string{"--from", "-1000000000"}, 0, 100},
		"until a time":                {[]string{"--until", at(70)}, 0, 70},
		"until behind a time":         {[]string{"--until", at(70.001)}, 0, 71},
		"until after what came late":  {[]string{"--until", at(41)}, 0, 41},
		"until before all":            {[]string{"--until=1980-01-01"}, 0, 0},
		"from one to the other":       {[]string{"--from", at(20), "--until", at(50)}, 20, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &topicWorld{t: t, env: w.env.With("KAFKA_GROUP", strings.ReplaceAll(name, " ", "-")), target: newTopicTarget(t)}
			w.env["TARGET"] = w.target.URL
			result := w.plays(append(test.args, "--speed=max")...)
			topicExact(t, "of them", w.target.got(), topicIDs(test.first, test.until))
			if result.Ended != "end" {
				t.Errorf("ended: %s", result.Ended)
			}
		})
	}
}

// The newest are those of all partitions together, also where many came at once.
func TestTopic_theNewestAreOfAllPartitions(t *testing.T) {
	t.Parallel()
	began := topicPast()
	for name, test := range map[string]struct {
		seconds [][]float64 // by partition: when they came
		future  bool
	}{
		"one partition has all of the newest": {seconds: [][]float64{{0, 1, 2, 3}, {4, 5, 6, 7, 8}, {}, {0, 1}}},
		"all came in the same millisecond":    {seconds: [][]float64{{5, 5, 5}, {5, 5, 5, 5, 5}, {5}, {5, 5}}},
		"some came in the same millisecond":   {seconds: [][]float64{{1, 5, 5, 9}, {5, 5, 6, 6}, {2, 2, 5, 9, 9}, {5}}},
		"a millisecond is between them":       {seconds: [][]float64{{1, 1.001, 1.002}, {1, 1.001, 1.001}, {1.002}, {0.999, 1.003}}},
		"clocks went back":                    {seconds: [][]float64{{5, 9, 6, 7}, {8, 1, 2, 3}, {4, 4}, {10, 0}}},
		"somebody's clock is days ahead":      {seconds: [][]float64{{0, 1, 2 * 86400, 3 * 86400}, {1, 2, 3}, {3 * 86400}, {}}},
		"they came before clocks were set":    {seconds: [][]float64{{-1_000_000_000, -1_000_000_000, 1}, {2}, {3, 4}, {-5}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTopicWorld(t, len(test.seconds))
			came := make(map[string]float64)
			var times []float64
			for partition, seconds := range test.seconds {
				latest := 0.0
				for i, s := range seconds {
					id := fmt.Sprintf("%d-%d", partition, i)
					r := topicRecord(partition, began, id)
					r.Timestamp = began.Add(time.Duration(math.Round(s*1000)) * time.Millisecond)
					w.write(r)
					// Where a clock went back, a record is as new as the newest before it.
					if i == 0 || s > latest {
						latest = s
					}
					came[id] = latest
					times = append(times, latest)
				}
			}
			slices.Sort(times)
			for _, n := range []int{1, 4, len(times) - 1} {
				w.plays("--speed=max", "--from", fmt.Sprint("-", n), "--kafka-group", fmt.Sprint("g", n))
				got := w.target.reset()
				if len(got) != min(n, len(times)) {
					t.Errorf("the newest %d are %d: %v", n, len(got), got)
				}
				slices.Sort(got)
				if len(slices.Compact(got)) != len(got) {
					t.Errorf("the newest %d: some are there twice: %v", n, got)
				}
				oldest := times[max(len(times)-n, 0)]
				for _, id := range got {
					if came[id] < oldest {
						t.Errorf("the newest %d: %s came at %v, before %v", n, id, came[id], oldest)
					}
				}
			}
		})
	}
}

// --from is where to begin also for a group that has been somewhere else. Without it the group goes on.
func TestTopic_fromIsMoreThanWhatWasCommitted(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	w.write(topicRecords(2, 100, time.Millisecond)...)
	w.commit("replay", map[int32]int64{0: 45, 1: 45})
	for _, test := range []struct {
		args  string
		first int
	}{
		{"", 90},
		{"", 100},
		{"--from=-30", 70},
		{"", 100},
		{"--from=beginning", 0},
		{"", 100},
	} {
		w.plays(append(strings.Fields(test.args), "--speed=max")...)
		topicExact(t, "with "+test.args, w.target.reset(), topicIDs(test.first, 100))
	}
}

// What comes while it runs is not sent, however long it runs: it ends with what was there at its start.
func TestTopic_endsWhereItEndedAtTheStart(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	w.write(topicRecords(2, 100, time.Millisecond)...)
	hold := make(chan struct{})
	w.target.answers(func(http.ResponseWriter, *http.Request) { <-hold })
	run := w.start("--speed=max", "--concurrency=4")
	check.Eventually(t, "it sends", func() bool { return w.target.count() == 4 })
	for i := range 100 {
		w.write(topicRecord(i%2, time.Now(), fmt.Sprint("new-", i)))
	}
	close(hold)
	if result := run.ends(0); result.Ended != "end" {
		t.Errorf("ended: %s", result.Ended)
	}
	topicExact(t, "of them", w.target.reset(), topicIDs(0, 100))
	w.plays("--speed=max")
	if n := w.target.count(); n != 100 {
		t.Errorf("%d of those that came meanwhile are sent then", n)
	}
}

// That another process has some of the partitions for a while changes neither what is sent, nor the end.
func TestTopic_partitionsComeBack(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	const n = 400
	records := topicRecords(2, n, 4*time.Millisecond)
	topicPadded(records[:n/2], fetch/100) // of which a half is all that is fetched at once
	w.write(records[:n/2]...)
	w.write(records[n/2:]...)
	waits, release := w.withhold(n / 4)
	run := w.start()
	check.Eventually(t, "it has read a half", waits)
	for i := range 100 {
		w.write(topicRecord(i%2, topicPast().Add(time.Minute), fmt.Sprint("new-", i)))
	}
	w.interrupt("replay")
	check.Eventually(t, "it reads again", func() bool { return strings.Count(run.said.String(), "takes part in the group") > 2 })
	release()
	result := run.ends(0)
	if result.Ended != "end" || result.Requests.Read != n || result.Requests.Ahead != 0 {
		t.Errorf("ended: %s, %+v", result.Ended, result.Requests)
	}
	topicExact(t, "of them", w.target.got(), topicIDs(0, n))
}

// When Kafka has to be asked anew where the topic is, what is under way is waited for, and not sent again.
func TestTopic_waitsForAnswersBeforeItReadsAgain(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	w.write(topicRecords(1, 100, time.Millisecond)...)
	hold := make(chan struct{})
	w.target.answers(func(http.ResponseWriter, *http.Request) { <-hold })
	run := w.start("--speed=max", "--concurrency=4")
	check.Eventually(t, "it sends", func() bool { return w.target.count() == 4 })
	asked := w.observe(kmsg.ListOffsets)
	fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "router", Err: kerr.UnknownTopicOrPartition})
	check.Eventually(t, "reading begins again", func() bool { return fault.Hits() == 1 && asked.Load() == 2 })
	time.Sleep(100 * time.Millisecond) // in which it must not send
	if n := w.target.count(); n != 4 {
		t.Errorf("%d are sent", n)
	}
	close(hold)
	run.ends(0)
	topicExact(t, "all", w.target.got(), topicIDs(0, 100))
	if n := strings.Count(run.said.String(), "takes part in the group"); n != 1 {
		t.Errorf("%d times it took part", n)
	}
}

// With --until never what comes is sent at once. It is not late, whenever it was recorded.
func TestTopic_followsWhatComes(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"from the end": {"--from=end"}, "behind what is there": {"--until=never", "--max-gap=100ms"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTopicWorld(t, 2)
			w.write(topicRecords(2, 10, time.Millisecond)...)
			before := 10
			if args[0] == "--from=end" {
				before = 0
			}
			run := w.start(args...)
			if before == 0 {
				check.Eventually(t, "it reads", func() bool { return len(w.committed("replay")) == 2 })
			}
			check.Eventually(t, "what is there is sent", func() bool { return w.target.count() == before })
			sent := before
			for i, ago := range []time.Duration{0, 3 * time.Second, 0} {
				now := time.Now()
				r := topicRecord(i%2, now.Add(-ago), fmt.Sprint("new-", i))
				r.Timestamp = now
				w.write(r)
				sent++
				check.Eventually(t, "it is sent", func() bool { return w.target.count() == sent })
				if took := time.Since(now); took > 5*time.Second {
					t.Errorf("sent after %s", took)
				}
			}
			run.stop()
			result := run.ends(0)
			if got := w.target.got(); got[len(got)-1] != "new-2" || result.Ended != "interrupted" || result.Requests.Sent != int64(sent) {
				t.Errorf("%v, %+v", got, result.Requests)
			}
			// They were sent a second and more behind their time.
			if result.Late.Max > 500 {
				t.Errorf("late: %+v", result.Late)
			}
		})
	}
}

// --loop plays the same again, at the pace of the first time, and leaves the group where it is.
func TestTopic_loops(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	w.write(topicRecords(2, 60, 10*time.Millisecond)...)
	w.commit("replay", map[int32]int64{0: 5, 1: 5})
	run := w.start("--loop")
	check.Eventually(t, "it plays", func() bool { return w.target.count() > 10 })
	w.write(topicRecord(0, time.Now(), "new"))
	check.Eventually(t, "it plays four times", func() bool { return w.target.count() > 170 })
	run.stop()
	result := run.ends(0)
	got := w.target.got()
	for round := range 4 {
		part := got[round*50 : min((round+1)*50, len(got))]
		topicExact(t, fmt.Sprint("round ", round), part, topicIDs(10, 10+len(part)))
	}
	w.target.mu.Lock()
	defer w.target.mu.Unlock()
	if took := w.target.at[149].Sub(w.target.at[0]); took < 3*490*time.Millisecond {
		t.Errorf("three rounds took %s", took)
	}
	if rounds := len(got) / 50; result.Requests.Rounds < rounds || result.Requests.Rounds > rounds+1 || result.Requests.Sent != int64(len(got)) {
		t.Errorf("%+v", result.Requests)
	}
	if c := w.committed("replay"); !maps.Equal(c, map[int32]int64{0: 5, 1: 5}) {
		t.Errorf("committed: %v", c)
	}
}

// topicSource is one that cannot be read.
type topicSource struct {
	source
	err error
}

func (s *topicSource) ready() error { return s.err }

// A source that cannot be read at the start is waited for, for half a minute; one that could be, for as long as it takes.
func TestTopic_isWaitedForAtTheStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lanes []replay.Lane
		err   error
		ends  bool
	}{
		"it cannot be read":                {nil, errors.New("nobody is there"), true},
		"there is no partition for it yet": {nil, nil, false},
		"it was read, and no more":         {[]replay.Lane{{Partition: 1}}, errors.New("nobody is there"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &replaying{cfg: &config{topic: "router"}, log: slog.New(slog.DiscardHandler), merge: replay.NewMerge(0, 0, 0), source: &topicSource{err: test.err}}
				hour, over := context.WithTimeout(t.Context(), time.Hour)
				defer over()
				ctx, stop := context.WithCancelCause(hour)
				defer stop(nil)
				r.stop = stop
				r.merge.Begin(test.lanes)
				r.merge.Begin(nil)
				began := time.Now()
				r.waitForSource(ctx)
				if took := time.Since(began); test.ends && took != patience {
					t.Errorf("it waited for %s", took)
				}
				if cause := context.Cause(ctx); (cause != nil && cause != context.DeadlineExceeded) != test.ends || test.ends && !strings.Contains(cause.Error(), "nobody is there") {
					t.Errorf("it ends with %v", cause)
				}
			})
		})
	}
}

// While a partition waits for room, others of its requests are sent: what is committed then never falls back.
func TestTopic_whatIsDoneStaysDone(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	began := topicPast()
	const n = 12
	for i := range n { // two of them are fetched at once
		r := topicRecord(0, began.Add(time.Duration(i)*time.Second), strconv.Itoa(i))
		topicPadded([]*kgo.Record{r}, fetch/2-1000)
		w.write(r)
	}
	cfg, err := readConfig(nil, w.env.Lookup, io.Discard)
	check.Must(t, err)
	merge := replay.NewMerge(0, 1, 2)
	from := newTopic(cfg, slog.New(slog.DiscardHandler), merge, &watch{report: &report{Report: replay.NewReport(nil)}})
	from.group = consume.New(consume.Config{Cluster: cfg.kafka, Topic: cfg.topic, Group: cfg.group, Handler: from, Logger: from.log,
		Registerer: prometheus.NewRegistry(), MaxBytes: fetch})
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() { _ = from.run(ctx) })
	defer reading.Wait()
	defer stop()
	for i := range int64(n) {
		r, err := merge.Next(ctx)
		check.Must(t, err)
		for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
			if lag := from.group.Lag(); len(lag) != 1 || lag[0].Next != i {
				t.Fatalf("%d were sent: %+v", i, lag)
			}
		}
		if !from.take(r) {
			t.Fatal("not taken")
		}
		from.sent(r)
	}
}

// What is under way when a loop begins anew lands when it is answered, also if the partitions are to be shared out at that moment.
func TestTopic_landsWhatIsAnsweredInBetween(t *testing.T) {
	t.Parallel()
	from := newTopic(new(config), slog.New(slog.DiscardHandler), replay.NewMerge(0, 1, 2), &watch{})
	check.Must(t, from.Assigned(t.Context(), []consume.Partition{{ID: 0, End: 2}}))
	r := &replay.Request{Epoch: 1}
	if !from.take(r) {
		t.Fatal("not taken")
	}
	from.rewind = true
	from.letGo(t.Context()) // by an Assigned that fails then
	from.sent(r)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if from.Revoked(ctx); ctx.Err() != nil {
		t.Error("what has landed is waited for")
	}
}

// What is answered after the partitions had to be given up was sent: with the same partition it is not sent again.
func TestTopic_countsWhatIsAnsweredAfterIt(t *testing.T) {
	t.Parallel()
	cfg := &config{target: new(url.URL)}
	cfg.choice.Methods = replay.Safe
	from := newTopic(cfg, slog.New(slog.DiscardHandler), replay.NewMerge(0, 1<<20, 2<<20), &watch{report: &report{Report: replay.NewReport(nil)}})
	from.group = consume.New(consume.Config{Cluster: new(cluster.Config), Topic: "router", Group: "replay", Handler: from, Logger: from.log, Registerer: prometheus.NewRegistry()})
	check.Must(t, from.Assigned(t.Context(), []consume.Partition{{ID: 0, End: 1}}))
	record := topicRecord(0, topicPast(), "1")
	check.Must(t, from.Consume(t.Context(), &consume.Batch{Partition: 0, Records: []consume.Record{{Offset: 0, Time: record.Timestamp.UnixMilli(), Value: record.Value}}, Next: 1, End: 1}))
	r, err := from.merge.Next(t.Context())
	check.Must(t, err)
	if !from.take(r) || !from.keep(r) {
		t.Fatal("not taken")
	}
	over, end := context.WithCancel(t.Context())
	end()
	from.Revoked(over)
	if from.keep(r) {
		t.Error("it would still be sent, and others may have its partition")
	}
	time.AfterFunc(50*time.Millisecond, func() { from.sent(r) })
	again := []consume.Partition{{ID: 0, End: 1, Committed: -1}}
	if check.Must(t, from.Assigned(t.Context(), again)); again[0].Offset != 1 {
		t.Errorf("it goes on at %d", again[0].Offset)
	}
}

// The requests of one client wait for each other: when the partitions are to be given up, those that wait are not sent any more.
func TestTopic_givesUpWhatWaits(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2) // one for the other member
	records := topicRecords(2, 200, 10*time.Millisecond)
	for _, r := range records {
		r.Value = topicFwd.ReplaceAll(r.Value, []byte(`"fwd":"10.1.1.1"`))
	}
	w.write(records...)
	w.target.answers(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	run := w.start("--speed=max", "--timeout=1s")
	check.Eventually(t, "it sends", func() bool { return w.target.count() >= 2 })
	w.interrupt("replay") // for which the first is waited for, and the others not for long
	check.Eventually(t, "it has them again", func() bool { return strings.Count(run.said.String(), "takes part in the group") >= 2 })
	fetches, began := w.observe(kmsg.Fetch), time.Now()
	check.Eventually(t, "it reads again", func() bool { return fetches.Load() > 0 })
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("after %s", took)
	}
	run.stop()
}

// A loop goes on while it has only partitions without records: others have the rest, for now.
func TestTopic_loopsOnWithAnEmptyShare(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	w.write(topicRecords(1, 20, 20*time.Millisecond)...) // partition 1 is empty
	run := w.start("--loop")
	for range 4 {
		then := w.target.count()
		check.Eventually(t, "it plays", func() bool { return w.target.count() > then+5 || run.hasEnded() })
		w.interrupt("replay")
		if run.hasEnded() {
			t.Fatalf("it ended with status %d", run.status)
		}
	}
	run.stop()
	run.ends(0)
}

// Who cannot write what was recorded says so at once.
func TestTopic_recordsUntilTheDiskIsFull(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	w.write(topicRecords(1, 20_000, time.Millisecond)...)
	began := time.Now()
	run := w.start("--target=", "--record=/dev/full", "--from=beginning")
	check.Eventually(t, "it ends", run.hasEnded)
	if took := time.Since(began); run.status != 1 || took > 8*time.Second {
		t.Errorf("status %d after %s", run.status, took)
	}
}

// A topic that is made again while it is followed has other records, from its first on.
func TestTopic_followsOneThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	w.write(topicRecords(1, 300, time.Millisecond)...)
	run := w.start("--until=never", "--speed=max", "--from=beginning")
	check.Eventually(t, "it plays", func() bool { return w.target.count() == 300 && w.committed("replay")[0] == 300 })
	_, err := w.admin.DeleteTopics(t.Context(), "router")
	check.Must(t, err)
	_, err = w.admin.CreateTopics(t.Context(), 1, 1, nil, "router")
	check.Must(t, err)
	w.target.reset()
	w.client.PurgeTopicsFromClient("router")
	w.write(topicRecords(1, 50, time.Millisecond)...)
	check.Eventually(t, "it plays the new ones", func() bool { return w.target.count() >= 50 })
	run.stop()
	run.ends(0)
	topicExact(t, "of the new topic", w.target.got(), topicIDs(0, 50))
}

// What stands behind the first record that --until left is for the next replay as well, but this one sends it once.
func TestTopic_sendsOnceWhatIsBehindUntil(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	began := topicPast()
	until := began.Add(30 * time.Second)
	at := func(d time.Duration, id string) *kgo.Record { return topicRecord(0, until.Add(d), id) }
	w.write(topicRecord(0, began, "0"), at(time.Second, "left"), at(-10*time.Second, "1"), at(-9*time.Second, "2"))
	w.write(at(-4*time.Second, "3"))
	run := w.start("--until="+until.UTC().Format(time.RFC3339), "--speed=10")
	check.Eventually(t, "it plays", func() bool { return w.target.count() >= 3 })
	w.interrupt("replay")
	run.ends(0)
	topicExact(t, "all", w.target.got(), topicIDs(0, 4))
	if c := w.committed("replay")[0]; c != 1 {
		t.Errorf("committed: %d", c)
	}
}

// A group that stopped before what the topic still has begins with the oldest there is.
func TestTopic_goesOnWhereRecordsWereDeleted(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	const n, deleted = 2200, 1500
	w.write(topicRecords(1, n, time.Millisecond)...)
	w.commit("replay", map[int32]int64{0: 10})
	check.Must(t, w.kafka.DeleteRecords("router", 0, deleted))
	run := w.start("--speed=max")
	run.ends(0)
	topicExact(t, "of those left", w.target.got(), topicIDs(deleted, n))
	if !run.said.Says("records were deleted before they were read") || !run.said.Says(fmt.Sprint("records=", deleted-10)) {
		t.Error("it does not say that some were deleted")
	}
}

// A short session has enough signs of life: the group is not left and joined again and again.
func TestTopic_keepsAShortSession(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	joins, beats := w.observe(kmsg.JoinGroup), w.observe(kmsg.Heartbeat)
	w.start("--kafka-session-timeout=500ms", "--until=never")
	var joined, since int32
	check.Eventually(t, "it lives for five signs of life", func() bool {
		if n := joins.Load(); n != joined {
			joined, since = n, beats.Load()
		}
		return joined > 0 && beats.Load() > since+5
	})
}

// topicRecorded are the ids in a file that --record wrote.
func topicRecorded(t *testing.T, path string) (ids []string) {
	t.Helper()
	f, err := os.Open(path)
	check.Must(t, err)
	defer f.Close()
	lines, err := gzip.NewReader(f)
	check.Must(t, err)
	all := json.NewDecoder(lines)
	for {
		var r struct {
			ID string `json:"request_id"`
		}
		if err := all.Decode(&r); err == io.EOF {
			return ids
		} else if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
}

// What sends nothing reads all partitions beside the group, whoever works in it, and takes none away.
func TestTopic_sendingNothingLeavesTheGroupAlone(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	const n = 1000
	w.write(topicRecords(4, n, 4*time.Millisecond)...)
	run := w.start()
	check.Eventually(t, "it sends", func() bool { return w.target.count() > 100 })
	dry := w.start("--dry-run", "--from=beginning")
	dry.ends(0)
	var p plan
	check.Must(t, json.Unmarshal([]byte(dry.out.String()), &p))
	file := filepath.Join(t.TempDir(), "records.gz")
	w.start("--target=", "--record="+file, "--from=beginning").ends(0)
	topicExact(t, "in the file", topicRecorded(t, file), topicIDs(0, n))
	if p.Send != n {
		t.Errorf("%d of %d are planned", p.Send, n)
	}
	run.ends(0)
	topicExact(t, "all", w.target.got(), topicIDs(0, n))
	if taken := strings.Count(run.said.String(), "takes part in the group"); taken != 1 {
		t.Errorf("%d times it had to share the partitions", taken)
	}
}

// What commits nothing knows by itself where it is when the partitions are shared out again, or does not share them.
func TestTopic_goesOnWithoutCommits(t *testing.T) {
	t.Parallel()
	// half has a run read a half of what is there, share the partitions for a moment, and read the rest.
	half := func(t *testing.T, args ...string) *topicRun {
		w := newTopicWorld(t, 2)
		records := topicRecords(2, 100, 4*time.Millisecond)
		topicPadded(records, fetch/25) // the first are all that is fetched at once
		w.write(records[:60]...)
		w.write(records[60:]...)
		waits, release := w.withhold(30)
		run := w.start(append(args, "--from=-90", "--merge-window=0s")...)
		check.Eventually(t, "it has read a half", waits)
		w.interrupt("replay")
		release()
		run.ends(0)
		return run
	}
	t.Run("it records", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "records.gz")
		half(t, "--target=", "--record="+file)
		topicExact(t, "in the file", topicRecorded(t, file), topicIDs(10, 100))
	})
	t.Run("it plans", func(t *testing.T) {
		t.Parallel()
		run := half(t, "--dry-run")
		var p plan
		check.Must(t, json.Unmarshal([]byte(run.out.String()), &p))
		if p.Send != 90 {
			t.Errorf("%d are planned", p.Send)
		}
	})
	t.Run("it loops", func(t *testing.T) {
		t.Parallel()
		w := newTopicWorld(t, 2)
		w.write(topicRecords(2, 100, 20*time.Millisecond)...)
		run := w.start("--loop", "--from=-50")
		check.Eventually(t, "it plays", func() bool { return w.target.count() > 10 })
		w.interrupt("replay")
		check.Eventually(t, "it plays on", func() bool { return w.target.count() > 120 })
		run.stop()
		run.ends(0)
		for _, id := range w.target.got() {
			if n, err := strconv.Atoi(id); err != nil || n < 50 {
				t.Errorf("%s is sent", id)
			}
		}
	})
}

// Whoever cannot reach Kafka, may not read the topic, or has none, is told so in a line, half a minute after the start.
func TestTopic_thatCannotBeReadIsTold(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	locked := newTopicWorld(t, 1, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "swordfish"), kfake.User("SCRAM-SHA-256", "poor", "swordfish"))
	gone := net.JoinHostPort("127.0.0.1", check.FreePort(t))
	login := func(mechanism, user, password string) variables.Vars {
		return locked.env.With("KAFKA_SASL_MECHANISM", mechanism, "KAFKA_SASL_USERNAME", user, "KAFKA_SASL_PASSWORD", password)
	}
	for name, test := range map[string]struct {
		env  variables.Vars
		says []string
	}{
		"no broker":                 {variables.Vars{"KAFKA_URL": gone}, []string{"refused"}},
		"no broker of drain's":      {variables.Vars{"BROKER_LISTEN": gone}, []string{"refused", "start drain, or set KAFKA_URL"}},
		"no topic":                  {w.env.With("KAFKA_TOPIC", "nope"), []string{"topic nope", "topic create nope", "KAFKA_PREFIX"}},
		"no topic with that prefix": {w.env.With("KAFKA_PREFIX", "p."), []string{"topic p.router", "topic create router", "KAFKA_PREFIX"}},
		"no login":                  {locked.env, []string{"KAFKA_SASL_MECHANISM"}},
		"another password":          {login("PLAIN", "admin", "sturgeon"), []string{"log in", `"admin"`, "KAFKA_SASL_PASSWORD"}},
		"no right to the topic":     {login("SCRAM-SHA-256", "poor", "swordfish"), []string{"Topic Authorization Failed", "allow this user"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := test.env.With("TARGET", "http://127.0.0.1:1")
				var out, said journal.Journal
				began := time.Now()
				err := run(t.Context(), nil, environ{getenv: env.Lookup, stdout: &out, stderr: &said})
				took := time.Since(began)
				var last strings.Builder
				status := settings.ExitStatus("replay", err, &last)
				if status != 1 || out.String() != "" || strings.Count(last.String(), "\n") != 1 || took > 40*time.Second {
					t.Errorf("status %d after %s, %q, %q", status, took, out.String(), last.String())
				}
				for _, want := range append(test.says, "read the topic") {
					if !strings.Contains(last.String(), want) {
						t.Errorf("%q does not say %q", last.String(), want)
					}
				}
				said.Write([]byte(last.String()))
				for _, secret := range []string{"swordfish", "sturgeon"} {
					if said.Says(secret) {
						t.Errorf("shows a secret: %q", said.String())
					}
				}
			})
		})
	}
}

// A dry run and a recording begin where the group is, and leave it there.
func TestTopic_lookingCommitsNothing(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	w.write(topicRecords(2, 100, time.Millisecond)...)
	stays := map[int32]int64{0: 20, 1: 21}
	w.commit("replay", stays)
	file := filepath.Join(t.TempDir(), "records.gz")
	for what, args := range map[string][]string{
		"a dry run":                  {"--dry-run"},
		"a dry run from somewhere":   {"--dry-run", "--from=-5"},
		"a recording":                {"--target=", "--record=" + file},
		"a recording from somewhere": {"--target=", "--record=" + file + ".other", "--from=beginning"},
	} {
		w.plays(args...)
		if c := w.committed("replay"); !maps.Equal(c, stays) {
			t.Errorf("%s: committed: %v", what, c)
		}
		w.plays(append(args, "--kafka-group=new")...)
		if c := w.committed("new"); len(c) > 0 {
			t.Errorf("%s of a new group: committed: %v", what, c)
		}
	}
	topicExact(t, "in the file", topicRecorded(t, file), topicIDs(0, 100)) // of the new group, which begins at the beginning
	w.plays("--target=", "--record="+file)
	topicExact(t, "in the file of the group", topicRecorded(t, file), append(topicIDs(42, 100), "40"))
	if n := w.target.count(); n > 0 {
		t.Errorf("%d are sent", n)
	}
	// Recorded while it is sent, it is committed as well.
	w.plays("--speed=max", "--record="+file)
	topicExact(t, "in the file", topicRecorded(t, file), w.target.got())
	if c := w.committed("replay"); !maps.Equal(c, map[int32]int64{0: 50, 1: 50}) {
		t.Errorf("committed: %v", c)
	}
}

// An application is not sent its own requests: where the newest records are its own, nothing is sent at all.
func TestTopic_refusesTheRecordedHost(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 4)
	const n, shown = 60_000, 100
	records := topicRecords(4, shown, 10*time.Millisecond)
	topicHost(records[shown-2], "127.0.0.1:80")
	old := topicRecord(0, topicPast(), "old").Value
	for i := range n - shown {
		w.client.Produce(t.Context(), &kgo.Record{Topic: "router", Partition: int32(i % 4), Timestamp: records[0].Timestamp, Value: old}, nil)
	}
	w.write(records...)
	for _, args := range [][]string{{"--target=http://127.0.0.1:80"}, {"--target=https://127.0.0.1:80", "--from=-100", "--until=2100-01-01"}} {
		run := w.start(append(args, "--speed=max")...)
		run.ends(2)
		const says = "replay: TARGET: records were made by 127.0.0.1 itself, which would get its own requests again: use another host, or --force\n"
		if run.out.String() != "" || !strings.HasSuffix(run.said.String(), says) || run.said.Says("level=WARN") {
			t.Errorf("%v: %s", args, run.out.String())
		}
		if c := w.committed("replay"); len(c) > 0 {
			t.Errorf("committed: %v", c)
		}
	}
	w.plays("--speed=max", "--from=-10", "--force")
	topicExact(t, "with --force", w.target.got(), topicIDs(shown-10, shown))
}

// A request of the target's own that is found later ends the replay before it would be sent.
func TestTopic_endsAtTheRecordedHost(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	const n, middle = 8_000, 3_000 // where nobody glances
	records := topicRecords(1, n, time.Millisecond)
	topicHost(records[middle], "LocalHost")
	for frame := range slices.Chunk(records, 100) {
		w.write(frame...)
	}
	w.env["TARGET"] = strings.Replace(w.target.URL, "127.0.0.1", "localhost", 1)
	run := w.start("--speed=100", "--max-rps=500")
	result := run.ends(2)
	if !run.said.Says("replay: TARGET: records were made by localhost itself") || run.said.Says("level=WARN") || result.Requests.Sent > 0 && result.Ended != "error" {
		t.Errorf("%+v, %s", result.Requests, result.Ended)
	}
	got := w.target.got()
	topicExact(t, "before it", got, topicIDs(0, len(got)))
	if c := w.committed("replay"); len(got) > middle || c[0] > int64(len(got)) {
		t.Errorf("%d are sent, committed: %v", len(got), c)
	}
}

// topicHost changes the host that a record names.
func topicHost(r *kgo.Record, host string) {
	r.Value = []byte(strings.Replace(string(r.Value), "shop.example.com", host, 1))
}

// What is no router's record, or of a request that cannot be sent, is counted, and the others are sent.
func TestTopic_countsWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	good := topicRecords(2, 60, time.Millisecond)
	at := good[0].Timestamp
	made := func(from, to string) []byte {
		return []byte(strings.Replace(string(topicRecord(0, at, "bad").Value), from, to, 1))
	}
	large := strings.Repeat("x", 990_000)
	bad := map[string][][]byte{
		"not_json":     {nil, {}, []byte("hello"), []byte("{"), good[0].Value[:100], []byte(large), []byte("\x00\xff\n\x1b[31m")},
		"other_shape":  {[]byte("{}"), []byte(`{"id":"m","time":"2026-01-01T00:00:00Z","severity":6,"message":"GET"}`), made(`"status":200`, `"status":"200"`), []byte(`{"big":"` + large + `"}`)},
		"incomplete":   {made(`"host":"shop.example.com",`, ""), made(`"path":"/items/bad",`, ""), made(`"/items/bad"`, `"*"`), made(`"/items/bad"`, `"http://evil.example.com/"`)},
		"other_method": {made(`"GET"`, `"POST"`), made(`"GET"`, `"DELETE"`)},
		"truncated":    {made(`"status":200`, `"status":200,"truncated":true`)},
		"redacted":     {made(`/items/bad`, `/items/bad?key=[REDACTED]`)},
		"denied":       {made(`/items/bad`, `/logout`), made(`/items/bad`, `/items/%6cogout`)},
	}
	want := make(map[string]int64)
	for _, r := range good {
		w.write(r)
		for reason, values := range bad {
			if len(values) > int(want[reason]) {
				w.write(&kgo.Record{Topic: "router", Partition: r.Partition, Timestamp: r.Timestamp, Key: []byte("key"), Value: values[want[reason]]})
				want[reason]++
			}
		}
	}
	w.write(&kgo.Record{Topic: "router", Partition: 1, Timestamp: at, Value: made(`"bytes":2`, `"bytes":2,"extra":{"x":"`+large[:900_000]+`"}`)})
	result := w.plays("--speed=max")
	topicExact(t, "the good ones", w.target.got(), append(topicIDs(0, 60), "bad"))
	if !maps.Equal(result.Requests.Skipped, want) {
		t.Errorf("skipped: %v, want %v", result.Requests.Skipped, want)
	}
	if c := w.committed("replay"); c[0]+c[1] != result.Requests.Read {
		t.Errorf("committed: %v, read: %d", c, result.Requests.Read)
	}
}

// A prefix is put before the names of topic and group.
func TestTopic_prefix(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1, kfake.SeedTopics(1, "p.router"))
	r := topicRecord(0, topicPast(), "prefixed")
	r.Topic = "p.router"
	w.write(r, topicRecord(0, topicPast(), "other"))
	w.env = w.env.With("KAFKA_PREFIX", "p.")
	w.plays()
	topicExact(t, "of the prefixed topic", w.target.got(), []string{"prefixed"})
	if c := w.committed("p.replay"); len(c) != 1 {
		t.Errorf("committed: %v", c)
	}
}

// Where a partition is in disorder, what was sent ahead of it before a stop is sent again: some, and nothing is lost.
func TestTopic_losesNothingOfADisorder(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 2)
	r := rand.New(rand.NewPCG(3, 4))
	const n, step, ahead = 900, 6 * time.Millisecond, 200 * time.Millisecond
	records := topicRecords(2, n, step)
	came := make(map[*kgo.Record]time.Duration)
	for i, record := range records {
		came[record] = time.Duration(i)*step + time.Duration(r.Float64()*float64(ahead))
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int { return cmp.Compare(came[a], came[b]) })
	w.write(records...)
	var all []string
	const stops = 3
	for i := range stops + 1 {
		run := w.start("--speed=4")
		check.Eventually(t, "some are sent", func() bool { return w.target.count() > n/(stops+2) && i < stops || run.hasEnded() })
		run.stop()
		run.ends(0)
		got := w.target.reset()
		all = append(all, got...)
		slices.Sort(got)
		if len(slices.Compact(got)) < len(got) {
			t.Error("some were sent twice in one run")
		}
	}
	if most := n + stops*int(ahead/step); len(all) > most {
		t.Errorf("%d were sent, more than %d", len(all), most)
	}
	slices.Sort(all)
	topicExact(t, "all", slices.Compact(all), topicIDs(0, n))
}

// Kafka goes away in the middle, and comes back: the replay goes on where it was.
func TestTopic_goesOnWhenKafkaIsBack(t *testing.T) {
	t.Parallel()
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Topics: []string{"router"}, Partitions: 2}
	broker, err := embedded.Start(t.Context(), cfg)
	check.Must(t, err)
	defer func() { broker.Close() }()
	w := &topicWorld{t: t, target: newTopicTarget(t)}
	w.reach(broker.Addr())
	const n = 700
	records := topicRecords(2, n, 5*time.Millisecond)
	topicPadded(records, 1500) // not all of it is read ahead
	w.write(records...)
	run := w.start("--kafka-session-timeout=6s")
	check.Eventually(t, "it sends", func() bool { return w.target.count() > 200 })
	cfg.Listen = broker.Addr()
	broker.Close()
	check.Eventually(t, "it knows that Kafka is away", func() bool { return run.said.Says("let go of the partitions") })
	then := w.target.count()
	time.Sleep(time.Second)
	broker, err = embedded.Start(t.Context(), cfg)
	check.Must(t, err)
	result := run.ends(0)
	if result.Ended != "end" || result.Requests.Read != n || result.Requests.Ahead != 0 {
		t.Errorf("ended: %s, %+v", result.Ended, result.Requests)
	}
	if result.Stalls.Times == 0 || result.Stalls.Seconds < 1 || result.Seconds < result.Stalls.Seconds {
		t.Errorf("stalled: %+v of %.1f s", result.Stalls, result.Seconds)
	}
	topicExact(t, "all", w.target.got(), topicIDs(0, n))
	if then == n {
		t.Error("all was sent before")
	}
}

// What was recorded at the end that was asked for, or later, is for the next replay, although it was read.
func TestTopic_goesOnBehindUntil(t *testing.T) {
	t.Parallel()
	w := newTopicWorld(t, 1)
	began := topicPast()
	var records []*kgo.Record
	for i := range 10 {
		records = append(records, topicRecord(0, began.Add(time.Duration(i)*20*time.Second), strconv.Itoa(i)))
	}
	w.write(records...)
	w.plays("--speed=max", "--until="+began.Add(61*time.Second).UTC().Format(time.RFC3339))
	topicExact(t, "before it", w.target.got(), topicIDs(0, 4))
	w.plays("--speed=max")
	topicExact(t, "in both", w.target.got(), topicIDs(0, 10))
}
