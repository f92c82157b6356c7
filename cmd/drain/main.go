// Command drain takes Heroku log drains over HTTP and publishes the router's
// lines into a Kafka topic. README.md tells how to use it, DESIGN.md how it works.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/segmentio/kafka-go"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"drain/cluster"
	"drain/embedded"
	"drain/httpapi"
	"drain/intake"
	"drain/pool"
	"drain/publish"
	"drain/router"
	"drain/settings"
	"drain/stream"
)

func main() {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	err := run(settings.UntilStopped(), os.Args[1:], environ{os.LookupEnv, os.Stdout, os.Stderr, hup})
	os.Exit(settings.ExitStatus("drain", err, os.Stderr))
}

// environ is what run sees of the world.
type environ struct {
	getenv         func(string) (string, bool)
	stdout, stderr io.Writer
	hup            <-chan os.Signal
}

// The time a stop may take: requests under way are answered within HOLD, what is
// not committed after stopWithin is lost with the process.
const stopWithin = 10 * time.Second

// lastCommits is the time at a stop for what syslog drains had read and not published.
const lastCommits = time.Second

// answerWithin is what a request may take at a stop beside the time it is held.
const answerWithin = 250 * time.Millisecond

// run is the program: it ends when ctx does, or when a part fails.
//
//	ingest listener (http.Server)      syslog listener (stream, where set)
//	        a goroutine a connection; body ─▶ intake: messages ─▶ records
//	                  ▼ Publish copies
//	watcher (1) ─ publisher ─ senders (1 a partition, 1 request under way each)
//	                  ▼ lent for one batch
//	            pool of Kafka clients (POOL_SIZE)
//	                  ▼
//	            Kafka, or the embedded broker
//
// It stops in the order the bytes flow: listener, requests, batches, clients,
// broker.
func run(ctx context.Context, args []string, env environ) error {
	cfg, err := readConfig(args, env.getenv, env.stdout)
	if err != nil {
		return err
	}
	limitMemory(cfg.maxInflight, publish.CompressionMemory(cfg.compression))
	log := cfg.log.Logger(env.stderr)
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	credentials, err := httpapi.NewCredentials(cfg.secrets, cfg.secretsFile, log, reg)
	if err != nil {
		return settings.UsageError{Err: err}
	}
	on, err := listen(cfg)
	if err != nil {
		return err
	}
	defer on.close()

	kafkaAt := *cfg.kafka
	kafkaAt.Topics = cfg.topics()
	if cfg.embedded() {
		broker, err := embedded.Start(ctx, embedded.Config{
			Dir: cfg.dataDir, Listen: cfg.brokerListen, Topics: cfg.topics(),
			Partitions: embeddedPartitions, Keep: embeddedKeep, KeepEvery: 10 * time.Second})
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // stopped before it began
		case err != nil:
			return err
		}
		defer broker.Close()
		kafkaAt.Addresses = []string{broker.Addr()}
	}
	clients, err := pool.New(pool.Config{
		Size: cfg.clients(len(kafkaAt.Addresses)), Addr: kafkaAt.Addr(), Transport: kafkaAt.Transport,
		ConnectTimeout: 2 * cluster.ConnectTimeout})
	if err != nil {
		return err
	}
	defer clients.Close()
	reg.MustRegister(clients)

	budget := publish.NewBudget(cfg.maxInflight)
	publisher := publish.New(publish.Config{
		Topics: cfg.topics(), BatchRecords: cfg.batchRecords, BatchBytes: cfg.batchBytes, BatchDelay: cfg.batchDelay,
		Compression: cfg.compression, Prefix: cfg.kafka.Prefix, Stuck: cfg.hold, Budget: budget, Pool: clients, Registerer: reg, Logger: log,
		Connect: func(ctx context.Context) (*kafka.Client, error) {
			return pool.Connect(ctx, kafkaAt.Addr(), kafkaAt.Transport())
		},
	})
	records := intake.New(intake.Config{
		Publisher: publisher, Logs: cfg.logsTopic != "", Redactor: router.NewRedactor(cfg.redact, cfg.redactFwd, cfg.redactNames),
		Key: cfg.key, MaxRecord: cfg.maxRecord(), Registerer: reg,
	})
	server := httpapi.New(httpapi.Config{
		Intake: records, Publisher: publisher, Budget: budget, Credentials: credentials, Queued: cfg.queued,
		Hold: cfg.hold, MaxBody: cfg.maxBody, Logger: log, Registerer: reg,
		Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), MetricsToken: cfg.metricsToken,
	})
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug) // what clients do wrong
	ingestServer := httpapi.NewHTTPServer(server.Handler(), cfg.maxBody, cfg.hold, errorLog)
	adminServer := httpapi.NewHTTPServer(server.Admin(profiles(cfg.pprof)), 0, time.Minute, errorLog)

	var drains *stream.Server // over TCP
	if on.syslog != nil {
		drains = stream.New(stream.Config{Intake: records, Publisher: publisher, Budget: budget, TLS: cfg.syslogTLS,
			MaxConnections: on.syslogMost, MaxMessage: min(cfg.maxBody, maxMessage), Stalled: stalledAfter, Registerer: reg, Logger: log})
	}

	greet(env.stdout, log, cfg, credentials.Any(), on, kafkaAt.Addresses)

	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { publisher.Run(); return nil })
	parts.Go(func() error { credentials.Run(ctx, env.hup); return nil })
	parts.Go(func() error { tend(ctx); return nil })
	parts.Go(func() error { return serve(ingestServer, on.ingest) })
	if on.admin != nil {
		parts.Go(func() error { return serve(adminServer, on.admin) })
	}
	if drains != nil {
		parts.Go(func() error { return drains.Serve(on.syslog) })
	}
	parts.Go(func() error {
		<-ctx.Done()
		log.Info("stopping")
		deadline, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		publisher.Unready()
		// Requests end by themselves. What takes longer than they are held is a
		// body that does not come, or a connection without a request: these are
		// cut off, so that there is time left for the batches.
		answered, cancel := context.WithTimeout(deadline, cfg.hold+answerWithin)
		defer cancel()
		var doors sync.WaitGroup
		var lost error
		if drains != nil {
			doors.Go(func() {
				read, cancel := context.WithTimeout(deadline, stopWithin-lastCommits)
				defer cancel()
				lost = drains.Shutdown(read)
			})
		}
		if ingestServer.Shutdown(answered) != nil {
			_ = ingestServer.Close()
		}
		doors.Wait()
		err := errors.Join(lost, publisher.Shutdown(deadline))
		_ = adminServer.Close()
		if err == nil {
			log.Info("stopped; every record that was taken is committed")
		}
		return err
	})
	return parts.Wait()
}

// What a topic of the embedded broker has: partitions, and bytes that it keeps.
const (
	embeddedPartitions = 8
	embeddedKeep       = 1 << 30
)

// embedded tells whether drain brings its own broker.
func (c *config) embedded() bool { return c.kafka.Addresses == nil }

func (c *config) topics() []string {
	if c.logsTopic == "" {
		return []string{c.topic}
	}
	return []string{c.topic, c.logsTopic}
}

// clients is the pool's size.
func (c *config) clients(brokers int) int {
	if c.poolSize > 0 {
		return c.poolSize
	}
	return 4 * brokers
}

// maxRecord is the largest record: what fits into a batch alone, of the size that
// brokers take by default, or of a larger one that was set.
func (c *config) maxRecord() int {
	const defaultBatch = 950_000
	return max(c.batchBytes, defaultBatch) - 4<<10
}

// Of syslog drains: the largest message in bytes, more than a record can hold, and how
// long the rest of one is waited for.
const (
	maxMessage   = 1 << 20
	stalledAfter = 10 * time.Second
)

// listeners are where drain listens; admin and syslog are nil when they are turned off.
type listeners struct {
	ingest, admin, syslog net.Listener
	syslogMost            int // connections, 0 for no limit
}

// listen opens the listeners first, so that a taken port is said before anything
// is begun.
func listen(cfg *config) (on listeners, err error) {
	defer func() {
		if err != nil {
			on.close()
		}
	}()
	most := maxConnections() // of all together, 0 for no limit
	if on.ingest, err = net.Listen("tcp", cfg.listen); err != nil {
		return on, fmt.Errorf("listen for logs on %s: %w: set LISTEN to a free address", cfg.listen, err)
	}
	if cfg.syslogListen != "" {
		if on.syslog, err = net.Listen("tcp", cfg.syslogListen); err != nil {
			return on, fmt.Errorf("listen for syslog drains on %s: %w: set SYSLOG_LISTEN to a free address, or to nothing", cfg.syslogListen, err)
		}
		on.syslogMost = most / 3
		most -= on.syslogMost
	}
	if most > 0 {
		on.ingest = netutil.LimitListener(on.ingest, most)
	}
	if cfg.adminListen != "" {
		if on.admin, err = net.Listen("tcp", cfg.adminListen); err != nil {
			return on, fmt.Errorf("listen for the administrator on %s: %w: set ADMIN_LISTEN to a free address, or to nothing", cfg.adminListen, err)
		}
	}
	return on, nil
}

func (on *listeners) close() {
	for _, l := range []net.Listener{on.ingest, on.admin, on.syslog} {
		if l != nil {
			l.Close()
		}
	}
}

func serve(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// profiles serves pprof, nil when it is off.
func profiles(on bool) http.Handler {
	if !on {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
