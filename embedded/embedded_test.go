package embedded

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drain/trial/check"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

var must = check.Must

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(t *testing.T, topics ...string) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "new"), Listen: "127.0.0.1:0", Topics: topics, Partitions: 3}
}

func open(t *testing.T, cfg Config) *Broker {
	t.Helper()
	b, err := Start(t.Context(), cfg)
	must(t, err)
	return b
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) (*kgo.Client, context.Context) {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()))...)
	must(t, err)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return c, ctx
}

func write(t *testing.T, b *Broker, topic, text string) {
	t.Helper()
	c, ctx := client(t, b)
	must(t, c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(text)}).FirstErr())
	c.Close()
}

// read gives the next n records of topic, in any order.
func read(t *testing.T, b *Broker, topic string, n int, opts ...kgo.Opt) (texts []string) {
	t.Helper()
	c, ctx := client(t, b, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	for len(texts) < n {
		fetches := c.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { texts = append(texts, string(r.Value)) })
	}
	c.Close()
	return texts
}

func TestRecordsSurviveARestartElsewhere(t *testing.T) {
	cfg := config(t, "router")
	b := open(t, cfg)
	first := b.Addr()
	write(t, b, "router", "one")
	b.Close()
	for { // another port than before
		b = open(t, cfg)
		if b.Addr() != first {
			break
		}
		b.Close()
	}
	write(t, b, "router", "two")
	if got := read(t, b, "router", 2); len(got) != 2 {
		t.Errorf("%v", got)
	}
	b.Close()
}

func TestTopicsThatAFolderLacksAreMade(t *testing.T) {
	cfg := config(t, "router")
	open(t, cfg).Close()
	cfg.Topics = []string{"router", "logs"}
	b := open(t, cfg)
	defer b.Close()
	write(t, b, "logs", "one")
	write(t, b, "router", "two")
	if got := read(t, b, "logs", 1); len(got) != 1 || got[0] != "one" {
		t.Errorf("%v", got)
	}
}

func TestWhatKeepsABrokerFromItsStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	used := config(t, "router")
	running := open(t, used)
	defer running.Close()
	spoiled := config(t, "router")
	open(t, spoiled).Close()
	must(t, os.WriteFile(filepath.Join(spoiled.Dir, "broker", "topics.json"), []byte("{"), 0o600))

	blocked := config(t, "router")
	for _, name := range []string{"meta.json.tmp", "topics.json.tmp"} {
		must(t, os.MkdirAll(filepath.Join(blocked.Dir, "broker", name), 0o700))
	}

	for name, tt := range map[string]struct {
		change func(*Config)
		says   []string
	}{
		"a file for a folder":          {func(c *Config) { c.Dir = file }, []string{"DATA_DIR", file}},
		"a folder in a file":           {func(c *Config) { c.Dir = filepath.Join(file, "x") }, []string{"DATA_DIR", file}},
		"a folder in use":              {func(c *Config) { c.Dir = used.Dir }, []string{"DATA_DIR", used.Dir, "in use"}},
		"a spoiled folder":             {func(c *Config) { c.Dir = spoiled.Dir }, []string{spoiled.Dir, "move"}},
		"files that cannot be written": {func(c *Config) { c.Dir = blocked.Dir }, []string{blocked.Dir, "meta.json"}},
		"a taken port":                 {func(c *Config) { c.Listen = taken.Addr().String() }, []string{"BROKER_LISTEN", taken.Addr().String()}},
		"an address elsewhere":         {func(c *Config) { c.Listen = "192.0.2.1:1" }, []string{"BROKER_LISTEN", "192.0.2.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "router")
			good := cfg
			tt.change(&cfg)
			b, err := Start(t.Context(), cfg)
			if err == nil {
				b.Close()
				t.Fatal("starts")
			}
			for _, want := range tt.says {
				if text := err.Error(); !strings.Contains(text, want) || strings.Contains(text, "\n") {
					t.Errorf("%q does not say %q in one line", text, want)
				}
			}
			if cfg.Dir == good.Dir { // and nothing of it stays behind
				open(t, good).Close()
			}
		})
	}
}

func TestAStartThatIsCalledOffLeavesNothingBehind(t *testing.T) {
	cfg := config(t, "router")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := Start(ctx, cfg); err == nil {
		b.Close()
		t.Fatal("starts")
	}
	open(t, cfg).Close()
}

// An address of all interfaces is announced as one that a client can use.
func TestABrokerOnAllAddressesCanBeReached(t *testing.T) {
	cfg := config(t, "router")
	cfg.Listen = "0.0.0.0:0"
	b := open(t, cfg)
	defer b.Close()
	write(t, b, "router", "one")
	if got := read(t, b, "router", 1); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestCommittedOffsetsSurviveARestart(t *testing.T) {
	cfg := config(t, "router")
	b := open(t, cfg)
	write(t, b, "router", "one")
	c, ctx := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("router"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := c.PollFetches(ctx)
	must(t, fetches.Err())
	must(t, c.CommitUncommittedOffsets(ctx))
	c.Close()
	b.Close()
	b = open(t, cfg)
	defer b.Close()
	write(t, b, "router", "two")
	if got := read(t, b, "router", 1, kgo.ConsumerGroup("g")); len(got) != 1 || got[0] != "two" {
		t.Errorf("%v", got)
	}
}

func TestOldRecordsGoWhenATopicHoldsMoreThanItKeeps(t *testing.T) {
	cfg := config(t, "router")
	cfg.Partitions, cfg.Keep, cfg.KeepEvery = 1, 10_000, 10*time.Millisecond
	b := open(t, cfg)
	defer b.Close()
	c, ctx := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 100 {
		must(t, c.ProduceSync(ctx, &kgo.Record{Topic: "router", Value: make([]byte, 1000)}).FirstErr())
	}
	admin := kadm.NewClient(c)
	for {
		starts, err := admin.ListStartOffsets(ctx, "router")
		must(t, err)
		if first, ok := starts.Lookup("router", 0); ok && first.Offset >= 85 && first.Offset < 100 {
			return
		}
	}
}
