// Command replay sends recorded requests to another host, and tells how its answers compare.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"drain/consume"
	"drain/replay"
	"drain/settings"
)

func main() {
	err := run(settings.UntilStopped(), os.Args[1:], environ{os.LookupEnv, os.Stdout, os.Stderr, isatty.IsTerminal(os.Stderr.Fd())})
	os.Exit(settings.ExitStatus("replay", err, os.Stderr))
}

// environ is what run sees of the world.
type environ struct {
	getenv         func(string) (string, bool)
	stdout, stderr io.Writer
	terminal       bool // stderr is one
}

const (
	// mergeAhead and mergeMost bound what is held of requests that are not yet due, see replay.NewMerge. Garbage is collected
	// in a time that grows with it, and meanwhile requests come late.
	mergeAhead = 2 << 20
	mergeMost  = 16 << 20
	// fetch is what is fetched at once of a partition, and fetchMemory bounds the partitions that are held up
	// at a time, not what is used: their handlers wait for each other, so none may be without a place.
	fetch       = 64 << 10
	fetchMemory = 1 << 30
	// portion is how many records of a partition are read at once beyond what the merge has room for.
	portion = 128
	// memoryLimit is what the garbage collector keeps this process under, if it can; each partition beyond
	// usualPartitions takes partitionMemory.
	memoryLimit     = 50 << 20
	usualPartitions = 8
	partitionMemory = 1 << 20
	// patience is for how long Kafka is waited for at the start, and ownPatience drain's own broker, for which a group is
	// waited for as well; after impatience it is told.
	patience    = 30 * time.Second
	ownPatience = 15 * time.Second
	impatience  = 2 * time.Second
)

// run is the program. It ends with the recording, or with ctx, and then reports.
//
//	topic or file ─▶ Merge ─▶ Player ─▶ target
//	 Choice │                   │ Sent
//	        └─────▶ report ◀────┘
func run(ctx context.Context, args []string, env environ) error {
	cfg, err := readConfig(args, env.getenv, env.stdout)
	if err != nil {
		return err
	}
	limitMemory(0)
	r := &replaying{cfg: cfg, env: env, report: &report{Report: replay.NewReport(cfg.rules)}, merge: replay.NewMerge(cfg.window, mergeAhead, mergeMost)}
	r.screen = newScreen(env.stderr, env.terminal)
	r.log = cfg.log.Logger(r.screen)
	r.screen.log = r.log
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	if err := r.open(); err != nil {
		return err
	}
	r.greet()

	reading, end := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	var unread error
	readers.Go(func() {
		if unread = r.source.run(reading); unread != nil {
			r.stop(unread)
		}
	})
	readers.Go(func() { r.waitForSource(ctx) })
	switch {
	case cfg.dryRun:
		err = r.plan(ctx)
	case cfg.target == nil:
		err = r.onlyRecord(ctx)
	default:
		err = r.play(ctx)
	}
	if r.recording != nil {
		err = cmp.Or(err, r.recording.close(err == nil))
	}
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	r.stop(nil)
	end()
	readers.Wait()
	return cmp.Or(err, unread)
}

// limitMemory has garbage collected when the limit is near, and not much before: what is in use is small. GOGC and GOMEMLIMIT win.
func limitMemory(partitions int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + max(0, int64(partitions-usualPartitions))*partitionMemory)
	}
}

// replaying is one run.
type replaying struct {
	cfg       *config
	env       environ
	log       *slog.Logger
	screen    *screen
	report    *report
	merge     *replay.Merge
	source    source
	recording *recording // nil where none is written
	stop      context.CancelCauseFunc
}

// open makes what is read and written.
func (r *replaying) open() (err error) {
	cfg := r.cfg
	target, host := cfg.target, cfg.header.Get("Host")
	if cfg.force || target == nil {
		target, host = nil, ""
	}
	watch := newWatch(target, host, r.report, r.stop)
	if cfg.html != "" && cfg.sends() { // and not after hours
		f, err := os.OpenFile(cfg.html, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return settings.UsageError{Err: fmt.Errorf("HTML: cannot write %q: %w", cfg.html, nameless(err))}
		}
		f.Close()
	}
	if cfg.record != "" && !cfg.dryRun {
		if r.recording, err = newRecording(cfg.record); err != nil {
			return err
		}
	}
	if cfg.file != "" {
		r.source, err = newFile(cfg, r.merge, watch)
		return err
	}
	t := newTopic(cfg, r.log, r.merge, watch)
	t.group = consume.New(consume.Config{
		Cluster: cfg.kafka, Topic: cfg.topic, Group: cfg.group, Handler: t, Logger: r.log, Registerer: prometheus.NewRegistry(),
		SessionTimeout: cfg.session, MaxBytes: fetch, MaxRecords: portion, Memory: fetchMemory, HeartbeatInterval: min(time.Second, cfg.session/4),
		CommitNothing: !t.commits, Alone: !cfg.sends(),
	})
	r.source = t
	return nil
}

// waitForSource ends the replay if it cannot begin.
func (r *replaying) waitForSource(ctx context.Context) {
	longest := patience
	if r.cfg.ownBroker {
		longest = ownPatience
	}
	longest = max(longest, r.cfg.session+ownPatience/3)
	for waited, wait := time.Duration(0), impatience; ; wait = time.Second {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		waited += wait
		err := r.source.ready()
		switch {
		case r.merge.Begun():
			return
		case waited == impatience:
			r.log.Info("waits for Kafka, or for the group: after a process of it was killed that takes KAFKA_SESSION_TIMEOUT", "group", r.cfg.group, "session_timeout", r.cfg.session)
		case waited >= longest && err != nil:
			if r.cfg.ownBroker && !errors.Is(err, kafka.UnknownTopicOrPartition) {
				err = fmt.Errorf("%w: start drain, or set KAFKA_URL", err)
			}
			r.stop(fmt.Errorf("read the topic %s: %w", r.cfg.topic, err))
			return
		}
	}
}

// play sends the requests, and reports.
func (r *replaying) play(ctx context.Context) error {
	cfg := r.cfg
	to := newTarget(cfg)
	defer to.close()
	rounds, inRound := 1, 0
	play, pace := cfg.play, cfg.pace
	play.Pace = &pace
	var failed atomic.Pointer[string] // what the target last failed by
	play.Send = func(ctx context.Context, request *replay.Request) replay.Outcome {
		out := to.send(ctx, request)
		if by := out.Failure.String(); out.Failure != replay.Answered {
			failed.Store(&by)
		} else if by = strconv.Itoa(out.Status); out.Status >= 500 {
			failed.Store(&by)
		}
		return out
	}
	play.Next = func(ctx context.Context) (*replay.Request, error) {
		for {
			request, err := r.next(ctx)
			if err == nil && cfg.loop {
				inRound++
				request.Round = rounds
			}
			if err != io.EOF || !cfg.loop || inRound == 0 && !r.source.shared() || ctx.Err() != nil {
				return request, err
			}
			if inRound > 0 {
				rounds, inRound = rounds+1, 0
			}
			r.merge.Begin(nil) // so that Next waits for the source
			r.source.again()
		}
	}
	play.Take = func(request *replay.Request) bool {
		if !r.source.take(request) {
			return false
		}
		if r.recording != nil {
			if err := r.recording.add(request); err != nil {
				r.stop(err)
			}
		}
		return true
	}
	play.Keep, play.Drop = r.source.keep, r.source.dropped
	play.Done = func(s replay.Sent) {
		r.report.sent(&s)
		r.source.sent(s.Request)
		r.screen.sent(&s)
		s.Request.Release()
	}
	play.Paused = func(paused bool) {
		if paused {
			r.log.Warn("the target fails: the replay pauses until it answers again", "target", cfg.target.String(), "because", *failed.Load())
		} else {
			r.log.Info("the replay goes on")
		}
	}
	player, began := replay.NewPlayer(play), time.Now()
	frame := func(ended string) replay.Frame {
		f := replay.Frame{Target: cfg.target.String(), Source: cfg.source(), Ended: ended, Speed: cfg.pace.Speed, Began: began,
			OutOfOrder: r.merge.OutOfOrder(), Rounds: rounds, Pace: &pace, FailOnDiff: cfg.failOnDiff, FailOnSlower: cfg.failOnSlower}
		if !player.Began().IsZero() {
			f.Began = player.Began()
			f.Took = time.Since(f.Began)
		}
		f.RoundTrip, f.Connections = to.roundTrip()
		f.Resent = to.resent.Load()
		f.Note = r.source.note()
		f.Pauses, f.Stalls = player.Pauses(), player.Stalls()
		return f
	}
	r.screen.show(r.source.progress)
	err := player.Run(ctx)
	r.screen.close()
	ended := "end"
	if ctx.Err() != nil {
		ended = "interrupted"
		if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
			ended, err = "error", cause
		}
	}
	result := r.report.result(frame(ended))
	err = cmp.Or(err, r.holdsNone(result.Requests.Read, result.Requests.Skipped))
	if result.Requests.Sent == 0 && err != nil {
		return err // there is nothing to report
	}
	err = cmp.Or(err, r.show(result))
	if err == nil && result.Verdict.Failed {
		err = errors.New(replay.Shown(strings.Join(result.Verdict.Why, "; ")))
	}
	return err
}

// holdsNone is an error where a file is no recording.
func (r *replaying) holdsNone(read int64, skipped map[string]int64) error {
	if r.cfg.file == "" || read == 0 || skipped["not_json"]+skipped["other_shape"] < read {
		return nil
	}
	return fmt.Errorf("%q holds no record: use a file that --record wrote", r.cfg.file)
}

// show writes the report.
func (r *replaying) show(result *replay.Result) (err error) {
	if r.cfg.html != "" {
		err = writePage(r.cfg.html, result)
	}
	if r.cfg.json {
		encoder := json.NewEncoder(r.env.stdout)
		encoder.SetEscapeHTML(false)
		return cmp.Or(encoder.Encode(result), err)
	}
	return cmp.Or(result.WriteText(r.env.stdout), err)
}

func writePage(name string, result *replay.Result) error {
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(result.WriteHTML(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", name, nameless(err))
	}
	return nil
}

// next is the merge's, as long as it is followed.
func (r *replaying) next(ctx context.Context) (*replay.Request, error) {
	if r.cfg.over.IsZero() {
		return r.merge.Next(ctx)
	}
	following, cancel := context.WithDeadline(ctx, r.cfg.over)
	defer cancel()
	request, err := r.merge.Next(following)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = io.EOF
	}
	return request, err
}

// onlyRecord writes the records of a topic to a file.
func (r *replaying) onlyRecord(ctx context.Context) error {
	for {
		request, err := r.next(ctx)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			r.log.Info("recorded", "file", r.recording.path, "records", r.recording.records, "out_of_order", r.merge.OutOfOrder())
			return nil
		case err != nil:
			return err
		}
		if r.source.take(request) {
			if err := r.recording.add(request); err != nil {
				r.source.dropped(request)
				return err
			}
			r.source.sent(request)
		}
		request.Release()
	}
}

// greet logs what is about to happen.
func (r *replaying) greet() {
	cfg := r.cfg
	args := []any{"from", cfg.source()}
	if !cfg.over.IsZero() {
		args = append(args, "waits_until", cfg.over.UTC().Format(time.RFC3339))
	}
	if text := replay.DefaultDeny[0]; len(cfg.choice.Deny) > 0 && !slices.Contains(cfg.choice.Deny, text) && !cfg.choice.Whole {
		r.log.Warn("--deny takes the place of the default list: add --deny default to keep that", "deny", strings.Join(cfg.choice.Deny, " "))
	}
	switch {
	case cfg.sends():
		var names []string
		for name := range cfg.header {
			names = append(names, name)
		}
		slices.Sort(names)
		args = append(args, "target", cfg.target.String(), "speed", cfg.speed(), "concurrency", cfg.play.Concurrency)
		if cfg.play.MaxRPS > 0 {
			args = append(args, "max_rps", cfg.play.MaxRPS)
		}
		if len(names) > 0 {
			args = append(args, "headers", strings.Join(names, ","))
		}
		r.log.Info("replay", append(args, "deny", strings.Join(cfg.choice.Deny, " "))...)
	case cfg.dryRun:
		r.log.Info("replay: nothing is sent", append(args, "deny", strings.Join(cfg.choice.Deny, " "))...)
	default:
		r.log.Info("replay: records", append(args, "file", cfg.record)...)
	}
}

func (c *config) speed() string {
	if c.pace.Speed == 0 {
		return "max"
	}
	return strconv.FormatFloat(c.pace.Speed, 'g', -1, 64)
}

// source names what is read.
func (c *config) source() string {
	if c.file != "" {
		return c.file
	}
	return c.topic
}
