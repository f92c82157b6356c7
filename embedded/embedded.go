// Package embedded is the Kafka broker that drain brings along for machines that
// have none: franz-go's kfake, with a folder, so that records and committed
// offsets survive a restart.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Config is where the broker lives.
type Config struct {
	// Dir is its folder; it is made when it is missing.
	Dir string
	// Listen is its address; port 0 chooses one.
	Listen string
	// Topics are made when they are missing, each with Partitions partitions, and
	// keep the newest Keep bytes of their records, for a week at most; all of them
	// when Keep is 0. kfake reads its whole folder at a start, so Keep bounds that
	// too.
	Topics     []string
	Partitions int
	Keep       int64
	// KeepEvery is how often what is over Keep is deleted, 0 for never.
	KeepEvery time.Duration
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	lock    *flock.Flock
	addr    string
	stop    chan struct{} // closed to end retain
	retired sync.WaitGroup
	// endSessions ends KeepSessions.
	endSessions func()
}

// Start starts a broker and makes its topics. The errors say what is taken or
// cannot be written, and what to change.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	dir := filepath.Join(cfg.Dir, "broker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the broker's folder: %w: set DATA_DIR to one that can be written", err)
	}
	lock := flock.New(filepath.Join(cfg.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("lock the broker's folder %s: %w: set DATA_DIR to one that can be written", cfg.Dir, err)
	} else if !ok {
		return nil, fmt.Errorf("the broker's folder %s is in use by another drain: end it, or set DATA_DIR to another folder", cfg.Dir)
	}
	b, err := start(ctx, cfg, dir)
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	b.lock = lock
	return b, nil
}

func start(ctx context.Context, cfg Config, dir string) (*Broker, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the embedded broker on %s: %w: set BROKER_LISTEN to a free address, or KAFKA_URL to the broker that is there", cfg.Listen, err)
	}
	b := &Broker{addr: listener.Addr().String(), stop: make(chan struct{})}
	port, _ := strconv.Atoi(portOf(b.addr))
	b.cluster, err = kfake.NewCluster(
		kfake.Ports(port),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.DataDir(dir),
		kfake.ClusterID("drain-embedded"),
	)
	if err != nil {
		listener.Close()
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("open the embedded broker's folder %s: %w: set DATA_DIR to one that can be written", dir, fs.ErrPermission)
		}
		first, _, _ := strings.Cut(err.Error(), "\n") // kfake joins what is wrong with each file
		return nil, fmt.Errorf("start the embedded broker in %s: %s: move the folder away to begin with an empty one", dir, first)
	}
	if err := b.makeTopics(ctx, cfg); err != nil {
		b.cluster.Close()
		return nil, err
	}
	b.endSessions = KeepSessions(b.cluster)
	if cfg.KeepEvery > 0 {
		b.retired.Go(func() { b.retain(cfg.KeepEvery) })
	}
	return b, nil
}

// keepTime is the age at which records go.
const keepTime = 7 * 24 * time.Hour

// retain has what is over the topics' retention deleted, until stop is closed.
func (b *Broker) retain(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			b.cluster.ApplyRetention()
		}
	}
}

// makeTopics makes the topics that a folder from an earlier start lacks: kfake
// seeds topics only into an empty one.
func (b *Broker) makeTopics(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addr), Transport: transport}
	bytes := int64(-1)
	if cfg.Keep > 0 {
		bytes = cfg.Keep / int64(cfg.Partitions)
	}
	req := &kafka.CreateTopicsRequest{}
	for _, name := range cfg.Topics {
		req.Topics = append(req.Topics, kafka.TopicConfig{Topic: name, NumPartitions: cfg.Partitions, ReplicationFactor: 1,
			ConfigEntries: []kafka.ConfigEntry{
				{ConfigName: "retention.bytes", ConfigValue: strconv.FormatInt(bytes, 10)},
				{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(keepTime.Milliseconds(), 10)},
			}})
	}
	res, err := client.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("make the topics of the embedded broker: %w", err)
	}
	for name, err := range res.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("make the topic %s of the embedded broker: %w", name, err)
		}
	}
	return nil
}

// Addr is where the broker listens, `host:port`.
func (b *Broker) Addr() string { return b.addr }

// Close ends the broker, with what it holds on disk.
func (b *Broker) Close() {
	close(b.stop)
	b.retired.Wait()
	b.endSessions()
	b.cluster.Close()
	b.lock.Unlock()
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
