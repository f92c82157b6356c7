// Command topic makes a topic, tells what is in it, and follows it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/cluster/franz"
	"drain/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader that has gone is an error of the write, and no death
	err := run(ctx, os.Args[1:], environ{os.LookupEnv, os.Stdout, os.Stderr, isatty.IsTerminal(os.Stdout.Fd())})
	os.Exit(settings.ExitStatus("topic", err, os.Stderr))
}

// environ is what surrounds the program.
type environ struct {
	getenv   func(string) (string, bool)
	stdout   io.Writer
	stderr   io.Writer // is written to at any time, a line at once
	terminal bool      // stdout is one
}

// flags are the settings, and what is to be done.
type flags struct {
	cluster.Flags
	KafkaTopic string        `default:"router" help:"The topic, where none is named. KAFKA_PREFIX is put before it, as before one that is named, but not before a name that begins with it already."`
	Create     createCommand `cmd:"" help:"Make the topic, and wait until its partitions have leaders."`
	Info       infoCommand   `cmd:"" help:"Tell its partitions, leaders, offsets, records, bytes, span of time, rate, skew, groups and their lag. Times are Kafka's, in UTC: by default when a record was produced."`
	Tail       tailCommand   `cmd:"" help:"Follow it: one record a line, as it is stored."`
}

type createCommand struct {
	Topic      string `arg:"" optional:"" help:"Its name (default: KAFKA_TOPIC)."`
	Partitions string `default:"8" help:"Partitions."`
	Replicas   string `default:"1" help:"Copies of each."`
}

type infoCommand struct {
	Topic string `arg:"" optional:"" help:"Its name (default: KAFKA_TOPIC)."`
	JSON  bool   `name:"json" help:"One JSON object."`
}

type tailCommand struct {
	Topic  string `arg:"" optional:"" help:"Its name (default: KAFKA_TOPIC)."`
	From   string `default:"end" help:"Where to begin: beginning, end, -100 (the newest 100 of all partitions together), -15m, -1h, -7d, or a time: 2026-01-02T15:04:05Z, 2026-01-02, 1767366245."`
	Count  string `short:"n" help:"End after so many records."`
	Pretty bool   `help:"Columns, coloured on a terminal. (Times are the records' own, in UTC.)"`
}

var command = settings.Command{
	Name: "topic",
	Description: `Makes a topic, tells what is in it, and follows it:

  topic create [TOPIC] [--partitions 8] [--replicas 1]
  topic info [TOPIC] [--json]
  topic tail [TOPIC] [--from end] [-n COUNT] [--pretty]

What each takes, its own --help says. Every setting is a flag and an environment variable of the same name
(--kafka-topic, KAFKA_TOPIC); the flag wins. Without KAFKA_URL it talks to BROKER_LISTEN, where drain's
own broker is, or 127.0.0.1:9092. KAFKA_CLIENT_CERT_KEY and
KAFKA_SASL_PASSWORD come from the environment only. Records and tables go to standard output, all else to standard error.`,
	Secrets:  cluster.Secrets,
	Dashed:   []string{"--from"},
	Variable: cluster.Variable,
}

// task is what is to be done with a topic.
type task func(context.Context, *topic) error

// plan is what the flags ask for.
type plan struct {
	at        *cluster.Config
	ownBroker bool   // drain's embedded one
	name      string // of the topic, with the prefix
	do        task
}

func readPlan(args []string, env environ) (*plan, error) {
	var f flags
	chosen, err := command.ParseCommand(&f, args, env.getenv, env.stdout)
	if err != nil {
		return nil, err
	}
	var r settings.Reader
	p, name := &plan{}, f.KafkaTopic
	named := func(argument string) {
		if argument != "" {
			name = argument
		}
	}
	switch chosen {
	case "create":
		named(f.Create.Topic)
		partitions, replicas := r.Number("PARTITIONS", f.Create.Partitions, 1, 100_000), r.Number("REPLICAS", f.Create.Replicas, 1, 1000)
		p.do = func(ctx context.Context, t *topic) error { return t.create(ctx, partitions, replicas) }
	case "info":
		named(f.Info.Topic)
		p.do = func(ctx context.Context, t *topic) error { return t.info(ctx, f.Info.JSON) }
	case "tail":
		named(f.Tail.Topic)
		order := tailOrder{from: r.Position("FROM", f.Tail.From, time.Now(), mostNewest), show: plainly}
		if f.Tail.Count != "" {
			order.count = r.Number("COUNT (-n)", f.Tail.Count, 1, 1<<40)
		}
		if f.Tail.Pretty {
			order.show = columns(env.terminal)
		}
		p.do = func(ctx context.Context, t *topic) error { return t.tail(ctx, order) }
	}
	if err := r.Err; err != nil {
		return nil, settings.UsageError{Err: err}
	}
	if p.at, err = f.Config(env.getenv); err != nil {
		return nil, settings.UsageError{Err: err}
	}
	// Who copies a name from Kafka's own tools has the prefix in it.
	prefix := p.at.Prefix
	if strings.HasPrefix(name, prefix) && name != prefix {
		prefix = ""
	}
	p.name = r.Topic("KAFKA_TOPIC", prefix, name)
	if err := r.Err; err != nil {
		return nil, settings.UsageError{Err: err}
	}
	if p.ownBroker, err = p.at.OrOwnBroker(env.getenv); err != nil {
		return nil, settings.UsageError{Err: err}
	}
	return p, nil
}

func run(ctx context.Context, args []string, env environ) error {
	p, err := readPlan(args, env)
	if err != nil {
		return err
	}
	t := &topic{name: p.name, bare: strings.TrimPrefix(p.name, p.at.Prefix), unset: p.ownBroker, out: env.stdout, notes: env.stderr}
	t.kafka, err = kgo.NewClient(append(franz.Options(p.at), kgo.ClientID("topic"), kgo.Dialer(t.dialer(p.at)),
		kgo.WithContext(ctx),                       // else a first answer is waited for when it is to end
		kgo.RequestTimeoutOverhead(answerWithin/2), // so that a silent broker is asked twice
		kgo.MetadataMinAge(250*time.Millisecond),   // a leader that moved is found soon
	)...)
	if err != nil {
		return fmt.Errorf("reach Kafka: %w", err)
	}
	defer t.kafka.Close()
	t.admin = kadm.NewClient(t.kafka)
	if err = p.do(ctx, t); errors.Is(err, syscall.EPIPE) {
		return nil // who read it has seen enough
	}
	return err
}
