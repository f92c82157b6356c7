package consume

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/trial/journal"
	"drain/trial/samples"
	"drain/trial/stalls"
)

// world is a cluster with a topic and a group that only one test uses.
type world struct {
	t            testing.TB
	addrs        []string
	topic, group string
	fake         *kfake.Cluster // nil where it is Apache's Kafka
	client       *kgo.Client    // writes
	admin        *kadm.Client
}

// at makes a world of brokers that there are. The topic is made unless partitions is 0.
func at(t testing.TB, addrs []string, partitions int, opts ...kgo.Opt) *world {
	t.Helper()
	w := &world{t: t, addrs: addrs}
	w.topic = regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-")
	w.group = w.topic + "-group"
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryTimeout(soon), kgo.UnknownTopicRetries(-1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.client, w.admin = client, kadm.NewClient(client)
	if partitions > 0 {
		w.make(partitions)
	}
	return w
}

// pretend makes a world of one fake broker, unless opts say otherwise, where sessions may be short.
func pretend(t testing.TB, partitions int, opts ...kfake.Opt) *world {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := at(t, c.ListenAddrs(), partitions)
	w.fake = c
	return w
}

// apache is the real Kafka that tests share.
var apache struct {
	once sync.Once
	dir  string
	addr string
	err  error
}

func startKafka() {
	apache.dir, apache.err = os.MkdirTemp("", "drain-consume")
	if apache.err != nil {
		return
	}
	var url string
	url, apache.err = script(apache.dir, "start", "--port", "0")
	apache.addr = strings.TrimPrefix(strings.TrimSpace(url), "KAFKA_URL=kafka://")
}

func stopKafka() {
	if apache.dir != "" {
		_, _ = script(apache.dir, "stop")
		os.RemoveAll(apache.dir)
	}
}

// script runs scripts/kafka.
func script(dir string, args ...string) (string, error) {
	cmd := exec.Command("../scripts/kafka", append(args, "--dir", dir)...)
	cmd.Env = append(os.Environ(), "KAFKA_PROPERTIES=group.min.session.timeout.ms=1000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/kafka %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// both runs a test at a fake cluster and at Apache's Kafka.
func both(t *testing.T, partitions int, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		test(t, pretend(t, partitions))
	})
	t.Run("Apache Kafka", func(t *testing.T) {
		t.Parallel()
		apache.once.Do(startKafka)
		if apache.err != nil {
			t.Fatal(apache.err)
		}
		test(t, at(t, []string{apache.addr}, partitions))
	})
}

func (w *world) make(partitions int) {
	w.t.Helper()
	eventually(w.t, "the topic is made", func() bool {
		_, err := w.admin.CreateTopic(w.t.Context(), int32(partitions), 1, nil, w.topic)
		return err == nil
	})
}

func (w *world) grow(partitions int) {
	w.t.Helper()
	if _, err := w.admin.UpdatePartitions(w.t.Context(), partitions, w.topic); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove() {
	w.t.Helper()
	if _, err := w.admin.DeleteTopic(w.t.Context(), w.topic); err != nil {
		w.t.Fatal(err)
	}
}

// drop deletes a partition's records before an offset.
func (w *world) drop(partition int, before int64) {
	w.t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset(w.topic, int32(partition), before, -1)
	res, err := w.admin.DeleteRecords(w.t.Context(), offsets)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// committed are the group's offsets in Kafka.
func (w *world) committed() map[int]int64 {
	w.t.Helper()
	all, err := w.admin.FetchOffsets(context.Background(), w.group)
	if err != nil {
		w.t.Fatal(err)
	}
	offsets := make(map[int]int64)
	all.Each(func(o kadm.OffsetResponse) { offsets[int(o.Partition)] = o.At })
	return offsets
}

// members is how many the group has, and its state.
func (w *world) members() (int, string) {
	w.t.Helper()
	all, err := w.admin.DescribeGroups(context.Background(), w.group)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all[w.group].Members), all[w.group].State
}

// write writes values to a partition, and waits for them.
func (w *world) write(partition int, values ...string) {
	w.t.Helper()
	if err := w.client.ProduceSync(context.Background(), w.records(partition, values...)...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) records(partition int, values ...string) (all []*kgo.Record) {
	for _, v := range values {
		all = append(all, &kgo.Record{Topic: w.topic, Partition: int32(partition), Value: []byte(v)})
	}
	return all
}

// reading is a member that runs.
type reading struct {
	*Group
	*bookkeeper
	t    testing.TB
	reg  *prometheus.Registry
	log  *journal.Journal
	stop func() // and wait
}

// join starts a member that writes into l, and stops it with the test.
func (w *world) join(l *ledger, change func(*Config, *bookkeeper)) *reading {
	t := w.t
	t.Helper()
	r := &reading{t: t, reg: prometheus.NewRegistry(), log: new(journal.Journal), bookkeeper: &bookkeeper{ledger: l, name: "a"}}
	cfg := Config{
		Cluster: &cluster.Config{Addresses: w.addrs}, Topic: w.topic, Group: w.group, Handler: r.bookkeeper,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.reg,
		HeartbeatInterval: 100 * time.Millisecond, SessionTimeout: 6 * time.Second,
	}
	if change != nil {
		change(&cfg, r.bookkeeper)
	}
	r.Group = New(cfg)
	r.bookkeeper.group = r.Group
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("%s's log:\n%s", r.name, r.log)
		}
	})
	return r
}

const soon = 30 * time.Second

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for watch := stalls.Start(); !ok(); time.Sleep(2 * time.Millisecond) {
		if watch.Took() > soon {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// ready waits until r takes part in the group.
func (r *reading) ready() {
	r.t.Helper()
	eventually(r.t, "the member is ready", func() bool { return r.Ready() == nil })
}

// stopsWithin fails the test unless r stops in time.
func (r *reading) stopsWithin(limit time.Duration) {
	r.t.Helper()
	watch := stalls.Start()
	r.stop()
	if took := watch.Took(); took > limit {
		r.t.Errorf("stopped after %s, more than %s", took, limit)
	}
}

// metric is a sample's value, or a histogram's count; labels as `name=value`. It is -1 if there
// is none.
func (r *reading) metric(name string, labels ...string) float64 {
	r.t.Helper()
	value, found := samples.Sum(r.t, r.reg, name, labels...)
	if !found {
		return -1
	}
	return value
}

// numbered are n values that say where they belong.
func numbered(name string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%d", name, i))
	}
	return all
}

// holds fails the test unless the ledger has just these values of a partition, in this order.
func (l *ledger) holds(partition int, want ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.values[partition]; !slices.Equal(got, want) {
		l.t.Errorf("partition %d: %d values %.300q, want %d", partition, len(got), got, len(want))
	}
}

// kill ends the process with a pid, which the test started.
func kill(t *testing.T, pid string) {
	t.Helper()
	if out, err := exec.Command("kill", "-9", pid).CombinedOutput(); err != nil {
		t.Fatalf("kill %s: %v\n%s", pid, err, out)
	}
}
