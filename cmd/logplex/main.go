// Command logplex sends log drains as Heroku does: to see how an endpoint bears the
// load, and what becomes of each line. README.md tells how to use it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-isatty"

	"drain/cluster"
	"drain/logplex"
	"drain/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	os.Exit(settings.ExitStatus("logplex", err, os.Stderr))
}

type flags struct {
	URL       string `name:"url" required:"" help:"The drain's URL, such as http://127.0.0.1:8080/logs. Its credentials, or the first of DRAIN_SECRETS, are shown."`
	Rate      string `default:"100" help:"Lines a second of all drains together, whether they are taken or not."`
	Max       bool   `help:"As many lines as are taken, instead of a rate."`
	Drains    string `default:"1" help:"Drains, each with a sender and a connection of its own."`
	Duration  string `default:"10s" help:"For how long lines come due. What was begun is finished then, in 20 s at most."`
	LinesFile string `help:"File with lines to send in turn: as heroku logs prints them, as syslog, or texts alone. (default: made-up router lines, each with its number as request_id)"`
	Seed      string `help:"Number that makes the lines: the same seed, the same lines. (default: another each time)"`
	cluster.Flags
	KafkaTopic string `default:"router" help:"Topic that is read afterwards, with a KAFKA_URL, to account for every line."`
	CheckWait  string `default:"30s" help:"How long lines that are not there yet are waited for."`
	JSON       bool   `name:"json" help:"Print the report as one JSON object."`
}

var command = settings.Command{Name: "logplex", Description: `Sends log drains as Heroku's log router does: one request under way for a drain, 5 s for an answer, three tries,
frames of up to 100 KB, a buffer of 1,024 lines whose oldest are lost. Tells how many lines were taken and lost, and how
long they took from the moment they were due. Ends with status 1 when lines were lost; with --kafka-url, when they are not
in the topic.

Every setting is a flag and an environment variable of the same name (--lines-file, LINES_FILE); the flag wins.
A secret belongs in the environment: DRAIN_SECRETS, as drain has it, or URL; KAFKA_CLIENT_CERT_KEY, KAFKA_SASL_PASSWORD.`,
	Secrets: append([]string{"DRAIN_SECRETS"}, cluster.Secrets...), Variable: cluster.Variable}

// plan is what the flags ask for.
type plan struct {
	send  logplex.Config
	kafka *cluster.Config // without addresses: nothing is read
	topic string
	wait  time.Duration
	json  bool
}

func readPlan(args []string, getenv func(string) (string, bool), stdout io.Writer) (*plan, error) {
	var f flags
	if err := command.Parse(&f, args, getenv, stdout); err != nil {
		return nil, err
	}
	var r settings.Reader
	p := &plan{json: f.JSON, wait: r.Duration("CHECK_WAIT", f.CheckWait, 0, time.Hour)}
	p.send = logplex.Config{
		Drains:   r.Number("DRAINS", f.Drains, 1, 1<<16),
		Duration: r.Duration("DURATION", f.Duration, time.Millisecond, 1000*time.Hour),
		Seed:     rand.Uint32(),
	}
	if f.Seed != "" {
		p.send.Seed = uint32(r.Number("SEED", f.Seed, 0, math.MaxUint32))
	}
	if !f.Max {
		rate, err := strconv.ParseFloat(f.Rate, 64)
		if err != nil || !(rate > 0 && rate <= 1e8) {
			r.Fail("RATE", f.Rate, "lines a second, more than 0, or --max")
		}
		p.send.Rate = rate
	}
	if err := r.Err; err != nil {
		return nil, settings.UsageError{Err: err}
	}
	target, err := url.Parse(f.URL)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, settings.UsageError{Err: errors.New("URL: cannot use it: use one such as http://127.0.0.1:8080/logs")}
	}
	if secrets, _ := getenv("DRAIN_SECRETS"); target.User == nil && secrets != "" {
		first := ""
		for first = range strings.FieldsFuncSeq(secrets, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
			break
		}
		if app, secret, named := strings.Cut(first, "="); named && app != "" && strings.Trim(secret, "=") != "" {
			first = secret
		}
		target.User = url.UserPassword("", first)
	}
	p.send.URL = target.String()
	if f.LinesFile != "" {
		if p.send.File, err = os.ReadFile(f.LinesFile); err != nil {
			return nil, settings.UsageError{Err: fmt.Errorf("LINES_FILE: %w", err)}
		}
		if f.KafkaURL != "" {
			return nil, settings.UsageError{Err: errors.New("LINES_FILE: cannot be accounted for with KAFKA_URL: its lines carry no numbers")}
		}
	}
	p.kafka = new(cluster.Config)
	if f.KafkaURL != "" { // or what else is set of Kafka is somebody else's
		if p.kafka, err = f.Config(getenv); err != nil {
			return nil, settings.UsageError{Err: err}
		}
	}
	p.topic = r.Topic("KAFKA_TOPIC", p.kafka.Prefix, f.KafkaTopic)
	if err := r.Err; err != nil {
		return nil, settings.UsageError{Err: err}
	}
	return p, nil
}

// errLost says that lines were lost; the report has said how many.
var errLost = errors.New("lines were lost")

func run(ctx context.Context, args []string, getenv func(string) (string, bool), stdout io.Writer, stderr *os.File) error {
	p, err := readPlan(args, getenv, stdout)
	if err != nil {
		return err
	}
	var topic *logplex.Topic
	if p.kafka.Addresses != nil {
		opening, cancel := context.WithTimeout(ctx, 10*time.Second)
		topic, err = logplex.OpenTopic(opening, p.kafka, p.topic)
		cancel()
		if err != nil {
			return err
		}
		defer topic.Close()
	}
	sending, err := logplex.Start(ctx, p.send)
	if err != nil {
		return settings.UsageError{Err: fmt.Errorf("cannot send: %w", err)}
	}
	watch(sending, p, stderr)
	out := output{Seed: p.send.Seed, Summary: sending.Report()}
	if topic != nil {
		checking, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		out.Topic, err = topic.Account(checking, sending.Wait(), p.wait)
		cancel()
		if err != nil {
			return fmt.Errorf("account for the lines in topic %s: %w", p.topic, err)
		}
	}
	if p.json {
		err = json.NewEncoder(stdout).Encode(out)
	} else {
		err = out.print(stdout)
	}
	switch {
	case err != nil:
		return err
	case out.Topic == nil && out.Lost > 0, out.Topic != nil && out.Topic.Lost+out.Topic.Betrayed > 0:
		return errLost
	}
	return nil
}

// watch waits for the end, and shows on a terminal how far it is.
func watch(sending *logplex.Sending, p *plan, stderr *os.File) {
	if !isatty.IsTerminal(stderr.Fd()) {
		sending.Wait()
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-sending.Ended():
			fmt.Fprint(stderr, "\r\x1b[K")
			return
		case <-tick.C:
		}
		s := sending.Report()
		fmt.Fprintf(stderr, "\r\x1b[K%3.0fs of %s  sent %s  acknowledged %s  lost %s  retried %d  %s lines/s  p50 %s  p99 %s",
			s.Seconds, p.send.Duration, humanize.Comma(s.Sent), humanize.Comma(s.Acknowledged), humanize.Comma(s.Lost), s.Retried,
			humanize.Comma(int64(s.LinesPerS)), ms(s.LatencyMS.P50), ms(s.LatencyMS.P99))
	}
}

func ms(v float64) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + "ms"
}

// output is the report as --json prints it.
type output struct {
	Seed uint32 `json:"seed"`
	logplex.Summary
	Topic *logplex.Account `json:"topic,omitempty"`
}

func (o *output) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("lines sent", "%s (seed %d)", humanize.Comma(o.Sent), o.Seed)
	row("acknowledged", "%s in %s frames, %s", humanize.Comma(o.Acknowledged), humanize.Comma(o.Frames), humanize.Bytes(uint64(o.Bytes)))
	row("lost by the sender", "%s%s", humanize.Comma(o.Lost), by(o.LostBy))
	row("answers", "%s", strings.Trim(by(o.Answers), " ()"))
	if o.LastError != "" {
		row("last refusal", "%s", o.LastError)
	}
	row("retried", "%s", humanize.Comma(o.Retried))
	row("lines/s", "%s over %.1f s", humanize.Comma(int64(o.LinesPerS)), o.Seconds)
	l := o.AnswerMS
	row("requests", "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	l = o.LatencyMS
	row("latency", "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s, from when a line was due", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	most := int64(0)
	for _, b := range o.Histogram {
		most = max(most, b.Lines)
	}
	for _, b := range o.Histogram {
		row(fmt.Sprintf("  to %gms", b.MS), "%-40s %s", strings.Repeat("█", int((b.Lines*40+most-1)/most)), humanize.Comma(b.Lines))
	}
	if a := o.Topic; a != nil {
		row("in the topic", "%s, of them not acknowledged %s", humanize.Comma(a.Stored), humanize.Comma(a.Recovered))
		row("second copies", "%s with the same id, %s with another", humanize.Comma(a.Twice), humanize.Comma(a.TwiceOther))
		row("missing", "%s acknowledged, %s not%s", humanize.Comma(a.Betrayed), humanize.Comma(a.Lost), by(a.LostBy))
	}
	return t.Flush()
}

// by lists what is not zero.
func by(counts map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			all = append(all, fmt.Sprintf("%s %s", name, humanize.Comma(counts[name])))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}
