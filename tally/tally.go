// Package tally counts the topic's router records: it takes the batches of a consumer
// group, folds them into windows, and appends these to the ledger, a few times a
// second.
//
//	consume ─▶ batch ─▶ decode ─▶ seen before? ─▶ route ─▶ Fold ─▶ flusher ─▶ ledger
//	1 a part.           └──────── under one lock, a batch at once ───────┘   1
//
// What was folded and not yet appended is lost with the process, and read again, since the
// ledger has the offsets.
package tally

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"drain/consume"
	"drain/grumble"
	"drain/ledger"
	"drain/router"
	"drain/routes"
	"drain/window"
)

// Config says where records go.
type Config struct {
	Ledger *ledger.Ledger
	Rules  *routes.Rules // the user's own routes, or nil
	Logger *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// Group is what a Tally tells of its work: a consume.Group.
type Group interface {
	Done(partition int, next int64)
	Reassign()
}

// Tally is a consume.Handler. Make it with New.
type Tally struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	state   atomicError

	mu sync.Mutex // guards the following
	pending
	spare *window.Fold // empty, for the flusher to put in the place of pending's
	parts map[int]*part
	taken chan struct{} // closed when pending is taken

	group     Group
	appending *grumble.Grumble[struct{}]
	kick      chan struct{}
	flusher   *flusher
	decoder   router.Decoder
	request   router.Request
	routes    *routes.Table
	oddSaid   time.Time // when the log told of a record that is no router's
}

// pending is what was read and not yet appended.
type pending struct {
	fold    *window.Fold
	records int // that were taken, whatever became of them
	counts  [numResults]int64
	moved   int64
	unsure  map[routes.Name]routes.Name // templates that are in fold with window.Unsure before them
}

func newPending(f *window.Fold) pending {
	return pending{fold: f, unsure: make(map[routes.Name]routes.Name)}
}

// part is a partition that is ours.
type part struct {
	id         int
	owner      int64
	from, next int64 // what the ledger has, once what was taken is appended; what was folded
	idle       bool  // nothing was folded since
	end        int64
	seen       *window.Seen
	forgotten  int
}

const (
	// flushEvery is how long a record waits for others.
	flushEvery = 200 * time.Millisecond
	// maxPending is how many records are taken before they must be appended.
	maxPending = 150_000
	// seenEntries are shared by the partitions: some 25 MB.
	seenEntries = 3 << 17
	minSeen     = 1 << 9
	// maxUnsure is how many different routes of what was not found are told apart at a time.
	maxUnsure = 50
	// sayEvery is how often the log tells of what goes on failing.
	sayEvery = time.Minute
	// ahead is how far a router's clock may be ahead of ours.
	ahead = time.Minute
)

// New makes a Tally. It starts nothing; Attach must be called before it is used.
func New(cfg Config) *Tally {
	t := &Tally{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer),
		pending: newPending(window.NewFold()), spare: window.NewFold(),
		taken: make(chan struct{}), kick: make(chan struct{}, 1), routes: routes.NewTable(cfg.Rules),
		appending: grumble.New[struct{}](grumble.Config{
			Logger: cfg.Logger, Bad: "Redis does not take windows: reading waits, nothing is lost", Better: "Redis takes windows again", Every: sayEvery}),
	}
	t.state.set(nil)
	return t
}

// Attach says which group's handler it is.
func (t *Tally) Attach(g Group) { t.group = g }

// Ready tells why records cannot be appended now, nil when they can.
func (t *Tally) Ready() error { return t.state.get() }

// Assigned reads from the ledger where each partition begins.
func (t *Tally) Assigned(ctx context.Context, partitions []consume.Partition) error {
	t.drop((*flusher).end)
	ids := make([]int, len(partitions))
	for i, p := range partitions {
		ids[i] = p.ID
	}
	positions, err := t.cfg.Ledger.Open(ctx, partitions[0].TopicID, ids)
	if err != nil {
		return t.redisFailed(err)
	}
	parts := make(map[int]*part)
	for i := range partitions {
		p, position := &partitions[i], positions[i]
		mine := &part{id: p.ID, owner: position.Owner, from: position.Next, seen: window.NewSeen(max(seenEntries/len(partitions), minSeen))}
		switch {
		case position.Next == ledger.None:
			p.Offset = p.First
		case position.Next > p.End:
			t.log.Warn("Kafka has lost records that were counted: going on behind those that it has", "partition", p.ID, "offset", position.Next, "end", p.End)
			// Else new records could end where the lost ones did.
			if err := t.cfg.Ledger.Rewind(ctx, position, p.End); err != nil {
				return t.redisFailed(err)
			}
			p.Offset, mine.from = p.End, p.End
		default:
			p.Offset = position.Next
		}
		mine.next, mine.end, mine.idle = p.Offset, p.End, true
		if position.Next != ledger.None && position.Minute > 0 {
			seen, err := t.cfg.Ledger.Seen(ctx, p.ID, position.Minute)
			if err != nil {
				return t.redisFailed(err)
			}
			for _, n := range seen {
				if err := mine.seen.Load(n); err != nil {
					t.log.Warn("what was seen in a minute cannot be read: records that are repeated now may count twice", "partition", p.ID, "error", err)
				}
			}
		}
		parts[p.ID] = mine
	}
	t.state.set(nil)
	t.mu.Lock()
	t.parts = parts
	t.mu.Unlock()
	t.flusher = t.startFlusher()
	return nil
}

func (t *Tally) redisFailed(err error) error {
	t.state.set(err)
	return err
}

// Consume folds a batch. It waits while what was folded before is being appended and there is
// enough for the next time.
func (t *Tally) Consume(ctx context.Context, b *consume.Batch) error {
	for {
		t.mu.Lock()
		if !t.full() {
			break
		}
		taken := t.taken
		t.mu.Unlock()
		t.flushNow()
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer t.mu.Unlock()
	p := t.parts[b.Partition]
	if p == nil {
		return consume.ErrReassign
	}
	now := time.Now()
	for i := range b.Records {
		t.add(p, &b.Records[i], now)
	}
	p.next, p.end, p.idle = b.Next, b.End, false
	t.records += len(b.Records)
	if t.full() {
		t.flushNow()
	}
	return nil
}

// full tells that what is pending should be appended before more is taken. t.mu is held.
func (t *Tally) full() bool { return t.records >= maxPending || t.fold.Full() }

func (t *Tally) flushNow() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// add folds a record. t.mu is held.
func (t *Tally) add(p *part, record *consume.Record, now time.Time) {
	r := &t.request
	if err := t.decoder.Decode(record.Value, r); err != nil {
		result := notJSON
		if errors.Is(err, router.ErrShape) {
			result = otherShape
		}
		t.counts[result]++
		if now.Sub(t.oddSaid) > sayEvery {
			t.oddSaid = now
			t.log.Warn("a record is no router's, and left out", "partition", p.id, "offset", record.Offset, "error", err)
		}
		return
	}
	arrived := record.Time
	if arrived < 0 || arrived > now.UnixMilli() { // the producer's word
		arrived = now.UnixMilli()
	}
	if p.seen.Again(r.ID, arrived) {
		t.counts[repeated]++
		return
	}
	if r.Time == router.NoTime || r.Time > now.Add(ahead).UnixMicro() {
		t.moved++
		r.Time = arrived * 1000
	}
	second := floor(r.Time, 1e6)
	coarsest := window.Resolutions[len(window.Resolutions)-1]
	if !coarsest.Kept(coarsest.Start(second), now.Unix()) {
		t.counts[tooOld]++
		return
	}
	t.counts[counted]++
	status := int(min(max(r.Status, 0), 1000))
	route := t.routes.Route(r.Method, r.Path, status).Name
	if route == routes.Other {
		route = t.unlisted(status)
	}
	t.fold.Add(&window.Request{
		Second: second, App: r.App, Dyno: r.Dyno, Code: r.Code, Method: route.Method, Route: route.Template,
		Status: status, Bytes: r.Bytes, Service: r.Service, Connect: r.Connect,
	})
}

// unlisted names the route of a record that has none here: Other with its method, or, of what was
// not found, a route that is unsure, since it may be found by others. t.mu is held.
func (t *Tally) unlisted(status int) routes.Name {
	method, template, ok := t.routes.Unlisted(status)
	if !ok {
		return routes.Name{Method: method, Template: routes.Other.Template}
	}
	if name, known := t.unsure[routes.Name{Method: method, Template: string(template)}]; known {
		return name
	}
	if len(t.unsure) >= maxUnsure {
		return routes.Name{Method: method, Template: routes.Other.Template}
	}
	name := routes.Name{Method: method, Template: window.Unsure + string(template)}
	t.unsure[routes.Name{Method: method, Template: string(template)}] = name
	return name
}

func floor(n, by int64) int64 {
	if n < 0 {
		return (n+1)/by - 1
	}
	return n / by
}

// Revoked appends what is left, as long as ctx lasts.
func (t *Tally) Revoked(ctx context.Context) {
	t.drop(func(f *flusher) { f.finish(ctx) })
}

// drop has the flusher stop, and drops all that it did not append.
func (t *Tally) drop(stop func(*flusher)) {
	if t.flusher != nil {
		stop(t.flusher)
		t.flusher = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts = nil
	t.fold.Reset()
	t.pending = newPending(t.fold)
}

// flusher appends what is pending, as long as an assignment lasts.
type flusher struct {
	t         *Tally
	finishing chan struct{} // closed for the last time
	cancel    context.CancelFunc
	ended     chan struct{}
}

func (t *Tally) startFlusher() *flusher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &flusher{t, make(chan struct{}), cancel, make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.run(ctx)
	}()
	return f
}

// end ends it, and waits for that.
func (f *flusher) end() {
	f.cancel()
	<-f.ended
}

// finish ends it after it appended what is left, or when last ends.
func (f *flusher) finish(last context.Context) {
	close(f.finishing)
	stopped := context.AfterFunc(last, f.cancel)
	defer stopped()
	<-f.ended
	f.cancel()
}

func (f *flusher) run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-f.t.kick:
		case <-f.finishing:
			f.flush(ctx)
			return
		case <-ctx.Done():
			return
		}
		if !f.flush(ctx) {
			return
		}
	}
}

// flush appends what is pending, however long it takes while ctx lasts. It tells whether
// the assignment goes on.
func (f *flusher) flush(ctx context.Context) bool {
	t := f.t
	taken, advances := t.take()
	if len(advances) == 0 {
		t.giveBack(taken.fold)
		return ctx.Err() == nil
	}
	began, requests := time.Now(), taken.fold.Requests
	e := &ledger.Entry{
		Partitions: advances, Chunks: taken.fold.Chunks(began.Unix()), Now: began,
		Records: taken.counts[counted], Repeated: taken.counts[repeated],
		Skipped: taken.counts[notJSON] + taken.counts[otherShape] + taken.counts[tooOld],
	}
	t.giveBack(taken.fold)
	err := t.append(ctx, e)
	switch {
	case err == nil:
		t.metrics.appended(&taken, time.Since(began))
		for _, a := range advances {
			t.group.Done(a.Partition, a.Next)
		}
		return true
	case errors.Is(err, ledger.ErrMovedOn):
		t.log.Warn("the windows in Redis are not where this process left them: another process has counted some of these records, or Redis has lost them; reading goes on where Redis is", "records", requests)
		t.metrics.movedOn.Inc()
		t.group.Reassign()
	}
	return false
}

// take takes what is pending, and how far it reaches.
func (t *Tally) take() (pending, []ledger.Advance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.pending
	t.pending = newPending(t.spare)
	t.spare = nil
	close(t.taken)
	t.taken = make(chan struct{})
	var advances []ledger.Advance
	for _, p := range t.parts {
		if p.idle {
			continue
		}
		fresh, minute, old := p.seen.Fresh()
		advances = append(advances, ledger.Advance{Partition: p.id, Owner: p.owner, From: p.from, Next: p.next, End: p.end, Seen: fresh, Minute: minute, Old: old})
		p.from, p.idle = p.next, true
		t.metrics.forgotten.Add(float64(p.seen.Forgotten - p.forgotten))
		p.forgotten = p.seen.Forgotten
	}
	return taken, advances
}

// giveBack empties a fold that was taken, for the next time.
func (t *Tally) giveBack(f *window.Fold) {
	f.Reset()
	t.mu.Lock()
	t.spare = f
	t.mu.Unlock()
}

// attemptFor is how long Redis may take for an entry. A stop may have to wait for so long.
const attemptFor = 3 * time.Second

// append appends e, again and again until it is there, another process has been faster,
// or ctx ends.
func (t *Tally) append(ctx context.Context, e *ledger.Entry) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 2*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		attempt, cancel := context.WithTimeout(ctx, attemptFor)
		defer cancel()
		err := t.cfg.Ledger.Append(attempt, e)
		switch {
		case err == nil:
			t.appending.Relent(struct{}{})
			t.state.set(nil)
		case errors.Is(err, ledger.ErrMovedOn):
			err = backoff.Permanent(err)
		case ctx.Err() == nil:
			t.metrics.failures.Inc()
			t.state.set(err)
			t.appending.Complain(struct{}{}, err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0))
	return err
}

// tidyEvery is how often it is looked for windows to be made smaller.
const tidyEvery = time.Second

// Tidy keeps the ledger small until ctx ends.
func (t *Tally) Tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	tidying := grumble.New[struct{}](grumble.Config{
		Logger: t.log, Bad: "windows in Redis stay larger than they need to be", Better: "windows in Redis are made smaller again", Every: sayEvery})
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch _, err := t.cfg.Ledger.Tidy(ctx, time.Now()); {
		case err == nil:
			tidying.Relent(struct{}{})
		case ctx.Err() == nil:
			tidying.Complain(struct{}{}, err)
		}
	}
}
