// Command metrics counts the router's records and shows them on a page, live.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"drain/consume"
	"drain/dash"
	"drain/embedded"
	"drain/ledger"
	"drain/settings"
	"drain/tally"
)

func main() {
	err := run(settings.UntilStopped(), os.Args[1:], environ{os.LookupEnv, os.Stdout, os.Stderr})
	os.Exit(settings.ExitStatus("metrics", err, os.Stderr))
}

// environ is what run sees of the world.
type environ struct {
	getenv         func(string) (string, bool)
	stdout, stderr io.Writer
}

const (
	// streamsEnd is the time that answers under way have at a stop.
	streamsEnd = 2 * time.Second
	// pingWithin is how soon Redis must answer to be called ready.
	pingWithin = time.Second
	// maxConnections bounds those to the page.
	maxConnections = 1000
	// rebalance is how long members may take to let go of their partitions. Half of it is the time
	// that Redis has at a stop, which Kafka's part makes longer by some seconds.
	rebalance = 16 * time.Second
	// fetchMemory bounds what is read ahead of all partitions.
	fetchMemory = 24 << 20
	// memoryLimit is what the garbage collector keeps this process under, if it can.
	memoryLimit = 100 << 20
)

// run is the program: it ends when ctx does, or when a part fails.
//
//	Kafka ─▶ consume ─▶ tally ─▶ ledger ─▶ Redis, or the embedded one
//	         group      folds    with the offsets │
//	                                              ▼
//	                       browsers ◀─ dash ◀─ ledger
//
// It stops in the order the data flow: streams, group (which appends what was folded), ledger.
func run(ctx context.Context, args []string, env environ) error {
	cfg, err := readConfig(args, env.getenv, env.stdout)
	if err != nil {
		return err
	}
	limitMemory()
	log := cfg.log.Logger(env.stderr)
	redis.SetLogger(redisLog{log})
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	listener, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("listen for browsers on %s: %w: set LISTEN to a free address", cfg.listen, err)
	}
	defer listener.Close()

	options := cfg.redis
	if options == nil {
		own, err := embedded.StartRedis()
		if err != nil {
			return err
		}
		defer own.Close()
		options = own.Options()
	}
	client := newRedis(options)
	defer client.Close()
	readers := newRedis(options) // whoever looks takes no connection from the counting
	defer readers.Close()
	book := ledger.New(client, cfg.group, cfg.topic)
	counting := tally.New(tally.Config{Ledger: book, Rules: cfg.rules, Logger: log, Registerer: reg})
	group := consume.New(consume.Config{
		Cluster: cfg.kafka, Topic: cfg.topic, Group: cfg.group, Handler: counting, Logger: log, Registerer: reg,
		Memory: fetchMemory, SessionTimeout: cfg.session, RebalanceTimeout: rebalance, HeartbeatInterval: min(time.Second, cfg.session/4),
	})
	counting.Attach(group)
	page := dash.New(dash.Config{
		Ledger: ledger.New(readers, cfg.group, cfg.topic), Rules: cfg.rules, Password: cfg.password, Anonymous: cfg.anonymous, Proxied: cfg.onHeroku, Logger: log, Registerer: reg,
		Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
		Ready: func() error {
			if err := group.Ready(); err != nil {
				if cfg.ownBroker {
					return fmt.Errorf("read the topic %s: %w: start drain, or set KAFKA_URL", cfg.topic, err)
				}
				return fmt.Errorf("read the topic %s: %w", cfg.topic, err)
			}
			if err := counting.Ready(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), pingWithin)
			defer cancel()
			if err := readers.Ping(ctx).Err(); err != nil {
				return fmt.Errorf("ask whether Redis answers: %w", err)
			}
			return nil
		},
		Lag: func() []ledger.Position {
			var own []ledger.Position
			for _, l := range group.Lag() {
				own = append(own, ledger.Position{Partition: l.Partition, Next: l.Next, End: l.End})
			}
			return own
		},
	})
	server := &http.Server{
		Handler: page.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	greet(ctx, env.stdout, log, cfg, listener.Addr(), client)

	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return group.Run(ctx) })
	parts.Go(func() error { counting.Tidy(ctx); return nil })
	parts.Go(func() error { page.Run(ctx); return nil })
	parts.Go(func() error {
		if err := server.Serve(netutil.LimitListener(listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	parts.Go(func() error {
		<-ctx.Done()
		log.Info("stopping")
		end, cancel := context.WithTimeout(context.Background(), streamsEnd)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
		return nil
	})
	return parts.Wait()
}

// limitMemory has garbage collected soon: what is in use changes all the time and is small.
// GOGC and GOMEMLIMIT win.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// newRedis makes a client whose commands end with their context. What is tried again, tally says.
func newRedis(options *redis.Options) *redis.Client {
	own := *options
	o := &own
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 10*time.Second, 10*time.Second
	o.DialerRetries = 1
	o.PoolSize, o.PoolTimeout = 8, 5*time.Second
	o.DisableIdentity = true // its commands are refused by some
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewClient(o)
	client.AddHook(adviser{})
	return client
}

// redisLog takes what the Redis client says by itself.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("the client of Redis says", "what", fmt.Sprintf(format, v...))
}

// greet logs what runs where, and writes to w what to do next.
func greet(ctx context.Context, w io.Writer, log *slog.Logger, cfg *config, at net.Addr, client *redis.Client) {
	where := "embedded"
	if cfg.redis != nil {
		where = cfg.redis.Addr
	}
	log.Info("metrics shows its page", "listen", at.String(), "kafka", strings.Join(cfg.kafka.Addresses, ","), "topic", cfg.topic, "group", cfg.group, "redis", where)
	switch {
	case cfg.redis == nil:
	case cfg.redis.TLSConfig != nil && cfg.redis.TLSConfig.InsecureSkipVerify && cfg.redis.TLSConfig.VerifyConnection == nil:
		log.Warn("the certificate of Redis is not verified: set REDIS_TRUSTED_CERT, or REDIS_TLS_VERIFY=true")
	}
	if cfg.password == "" && !settings.Loopback(at.String()) {
		log.Warn("ALLOW_ANONYMOUS: everybody who reaches this address can see the page")
	}
	evicts(ctx, log, client)
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	fmt.Fprintf(w, "\n  Look at the page:\n    http://%s/\n", settings.Reachable(at))
	if cfg.ownBroker {
		fmt.Fprint(w, "  Nothing there? Start drain, and send it something:\n    go run ./cmd/drain\n    go run ./cmd/logplex --url http://127.0.0.1:8080/logs --rate 50 --duration 1m\n")
	}
	if cfg.redis == nil {
		fmt.Fprint(w, "  The counts are in this process alone, and gone with it. Set REDIS_URL to keep them, and before\n  you start a second one: it would take half of the partitions, and count them for itself.\n")
	}
	fmt.Fprintln(w)
}

// evicts warns of a Redis that throws keys away when it is full.
func evicts(ctx context.Context, log *slog.Logger, client *redis.Client) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return // who counts will say it
	}
	_, policy, found := strings.Cut(info, "maxmemory_policy:")
	policy, _, _ = strings.Cut(policy, "\r")
	if found && policy != "noeviction" {
		log.Warn("Redis throws windows away when it is full: set its maxmemory-policy to noeviction", "policy", policy)
	}
}
