package replay

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// Failure is why a request got no answer; it is Answered if it got one.
type Failure int

// The failures.
const (
	Answered Failure = iota
	Refused          // nobody listens there
	Reset            // the connection ended before the answer did
	TimedOut         // there was no whole answer in time
	NoHost           // the name is not known
	BadTLS           // the certificate, or TLS itself
	Garbled          // what came is no HTTP
	Other
	Stopped // the replay had ended, and was not to wait any longer
	numFailures
)

var failureNames = [numFailures]string{"answered", "refused", "reset", "timeout", "dns", "tls", "not_http", "other", "stopped"}

// String is the failure's name in reports.
func (f Failure) String() string { return failureNames[f] }

// Outcome is what became of a request.
type Outcome struct {
	Failure Failure
	Status  int
	Bytes   int64
	// Took is from the moment the connection was ready to the end of the answer.
	Took time.Duration
}

// bad tells that it is the target that fails, and not a part of what it serves.
func (o Outcome) bad(r *Request) bool {
	return o.Failure != Answered || (o.Status == 502 || o.Status == 503 || o.Status == 504) && r.Status < 500
}

// Sent is a request, when it was sent, and what became of it.
type Sent struct {
	*Request
	Outcome
	// At is since the beginning of the replay, Late how long after it was due.
	At, Late time.Duration
	// Held is why it is late, if it is.
	Held Held
}

// Held is what a request had to wait for.
type Held int

// What requests wait for.
const (
	ByNothing     Held = iota // but for its turn on the machine
	ByRate                    // MaxRPS
	ByConcurrency             // as many as may be are under way
	ByClient                  // one of the same client is under way
	numHeld
)

var heldNames = [numHeld]string{"scheduling", "max_rps", "concurrency", "client"}

// String is its name in reports.
func (h Held) String() string { return heldNames[h] }

// Config says how a recording is played.
type Config struct {
	Pace *Pace
	// Next is the next request, see Merge.Next; its error ends the replay, io.EOF well.
	Next func(context.Context) (*Request, error)
	// Take is asked for each request in its turn; one that it refuses is dropped. What was taken is sent, and
	// then Done is told, or Drop if the replay has ended before or Keep refuses it.
	Take func(*Request) bool
	// Drop is told, by several goroutines, of a request that was taken and not sent, which stays the Player's; nil for none.
	Drop func(*Request)
	// Keep is asked, by several goroutines, right before a request that was taken is sent, as it may have waited for others
	// of its client; one that it refuses is dropped. nil keeps all.
	Keep func(*Request) bool
	// Send sends a request, and returns soon after its context ends: that is lastAnswers after Run's.
	Send func(context.Context, *Request) Outcome
	// Done is told what was sent, in the order of the answers, one after the other. The request
	// is the callee's.
	Done func(Sent)
	// Concurrency is how many are under way at most.
	Concurrency int
	// MaxRPS is how many are sent in any second at most; 0 for no limit.
	MaxRPS float64
	// Break is the share of failures at which the replay pauses; 0 for none.
	Break float64
	// Paused is told when the replay pauses and when it goes on.
	Paused func(bool)
}

// Player plays a recording. Make one for each.
type Player struct {
	cfg     Config
	began   time.Time
	shift   time.Duration // of all that is due, by pauses and stalls
	epoch   int
	round   int
	newest  int64     // recorded time
	held    time.Time // when a request last had to wait to be let go
	limit   *rate.Limiter
	breaker *gobreaker.TwoStepCircuitBreaker[Outcome]
	slots   chan struct{}

	done sync.Mutex // held while cfg.Done runs

	mu      sync.Mutex // guards the following
	clients map[uint64][]*underWay
	stalls  Stretch
	pauses  Stretch
	broken  time.Time // since when it pauses, zero if it does not
	trials  int       // that were let through, while the breaker is half open
}

// underWay is a request that was let go and is not answered.
type underWay struct {
	ended int64         // recorded time of its answer
	done  chan struct{} // closed with the answer
}

// LateAfter is from when on a request is called late.
const LateAfter = 5 * time.Millisecond

const (
	// grace is for how long a request that is due waits for the one of the same client before it.
	grace = 2 * time.Millisecond

	// stall is from when on it counts that Next had nothing, while something was due.
	stall = 100 * time.Millisecond

	// The breaker pauses for breakFor when of breakMin answers or more in breakSpan too many
	// were failures; then breakTrials are sent, and if all of them are well it goes on.
	breakMin    = 20
	breakSpan   = 10 * time.Second
	breakFor    = time.Second
	breakTrials = 3

	// lastAnswers is for how long answers are waited for when the replay is to end.
	lastAnswers = 5 * time.Second
)

// NewPlayer makes a Player.
func NewPlayer(cfg Config) *Player {
	p := &Player{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), clients: make(map[uint64][]*underWay)}
	if cfg.MaxRPS > 0 {
		// A second may have what was saved up before it and what comes in it: together no
		// more than MaxRPS.
		burst := max(1, int(cfg.MaxRPS/100))
		limit := cfg.MaxRPS
		if burst > 1 {
			limit -= float64(burst)
		}
		p.limit = rate.NewLimiter(rate.Limit(limit), burst)
	}
	if cfg.Break > 0 {
		p.breaker = gobreaker.NewTwoStepCircuitBreaker[Outcome](gobreaker.Settings{
			MaxRequests: breakTrials, Interval: breakSpan, BucketPeriod: breakSpan / 10, Timeout: breakFor,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				answered := c.TotalSuccesses + c.TotalFailures
				return answered >= breakMin && float64(c.TotalFailures) >= cfg.Break*float64(answered)
			},
			OnStateChange: func(_ string, _, to gobreaker.State) { p.became(to) },
		})
	}
	return p
}

// Run plays until there is no next request or ctx ends, which is no error; what is under way then is
// waited for.
func (p *Player) Run(ctx context.Context) error {
	sending, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastAnswers, abort) })()
	var flying sync.WaitGroup
	defer flying.Wait()
	work := make(chan flight) // for senders that stay, as the stack that one needs has to grow
	defer close(work)
	senders := 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		asked := time.Now()
		r, err := p.cfg.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		f := flight{Request: r, due: p.due(r, asked)}
		if p.ready(ctx, timer, &f) != nil {
			r.Release()
			return nil // ctx has ended
		}
		if !p.cfg.Take(r) {
			p.untry(&f)
			p.leave(&f)
			<-p.slots
			r.Release()
			continue
		}
		select {
		case work <- f:
			continue
		default:
		}
		if senders < p.cfg.Concurrency {
			senders++
			flying.Go(func() {
				for f := range work {
					p.send(sending, &f)
				}
			})
		}
		work <- f // f has a slot, so a sender is free, or about to be
	}
}

// ready waits until a request is due, and may be sent.
func (p *Player) ready(ctx context.Context, timer *time.Timer, f *flight) error {
	if wait := f.due - time.Since(p.began); wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.enter(f)
	due := time.Now()
	err := p.admit(ctx, f)
	if now := time.Now(); now.Sub(due) > time.Millisecond {
		p.held = now
	}
	return err
}

// due is when a request, asked for at that time, is to be sent, since the beginning. What it was waited for beyond that moves what
// is due, and does not make it late: else all that was due meanwhile would be sent at once.
func (p *Player) due(r *Request, asked time.Time) time.Duration {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	anew := r.Epoch != p.epoch
	if anew {
		p.epoch, p.newest = r.Epoch, r.Time
		p.cfg.Pace.Again()
	}
	again := r.Round != p.round
	p.round = r.Round
	behind := r.Time < p.newest
	p.newest = max(p.newest, r.Time)
	due, came := p.cfg.Pace.Due(r.Time)+p.shift, time.Since(p.began)
	free := asked
	if r.Live { // and so those before it were waited for, too
		free = p.held
	}
	wait := came - max(due, free.Sub(p.began))
	switch {
	case wait <= 0 || !p.paced():
		return due
	case behind && r.Live:
		return came
	case behind || wait < stall && !anew && !r.Live:
		return due
	}
	if wait >= stall && !r.Live && !again {
		p.mu.Lock()
		p.stalls.add(wait)
		p.mu.Unlock()
	}
	p.shift += wait
	return due + wait
}

// Began is when the first request came, zero if there was none; it is for after Run.
func (p *Player) Began() time.Time { return p.began }

// flight is a request that is let go.
type flight struct {
	*Request
	due    time.Duration
	held   Held // what it waited for last
	me     *underWay
	before []*underWay
	trial  bool // of the target, while the breaker is half open
}

// admit waits until a request may be sent, and takes a slot for it. One that is to follow others is allowed by the rate
// when it has: what is allowed is for the moment.
func (p *Player) admit(ctx context.Context, f *flight) error {
	if p.breaker != nil {
		pause, err := p.pass(ctx, f)
		if err != nil {
			return err
		}
		p.shift += pause
		f.due += pause
	}
	select {
	case p.slots <- struct{}{}:
	default:
		f.held = ByConcurrency
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(f.before) > 0 {
		return nil
	}
	return p.allow(ctx, f)
}

// allow waits until the rate allows a request, which is to be sent right then.
func (p *Player) allow(ctx context.Context, f *flight) error {
	if p.limit == nil {
		return nil
	}
	began := time.Now()
	err := p.limit.Wait(ctx)
	if time.Since(began) > time.Millisecond {
		f.held = ByRate
	}
	return err
}

// pass waits until the breaker lets a request through, and says for how long.
func (p *Player) pass(ctx context.Context, f *flight) (pause time.Duration, err error) {
	began := time.Now()
	for {
		switch p.breaker.State() {
		case gobreaker.StateClosed:
			return pause, nil
		case gobreaker.StateHalfOpen:
			p.mu.Lock()
			f.trial = p.trials < breakTrials
			if f.trial {
				p.trials++
			}
			p.mu.Unlock()
			if f.trial {
				return pause, nil
			}
		}
		select {
		case <-time.After(breakFor / 50):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		pause = time.Since(began)
	}
}

// tell tells the breaker of an outcome, when it comes: by then a request that was long under way would
// not be counted any more.
func (p *Player) tell(bad bool) {
	if p.breaker == nil {
		return
	}
	settle, err := p.breaker.Allow()
	switch {
	case err != nil: // it is open, and has seen enough
	case bad:
		settle(errFailed)
	default:
		settle(nil)
	}
}

var errFailed = errors.New("failed")

// became is what the breaker calls when it changes; it cannot be asked meanwhile.
func (p *Player) became(state gobreaker.State) {
	p.mu.Lock()
	p.trials = 0
	begins, ends := state == gobreaker.StateOpen && p.broken.IsZero(), state == gobreaker.StateClosed
	switch {
	case begins:
		p.broken = time.Now()
	case ends:
		p.pauses.add(time.Since(p.broken))
		p.broken = time.Time{}
	}
	p.mu.Unlock()
	if (begins || ends) && p.cfg.Paused != nil {
		p.cfg.Paused(begins)
	}
}

// Stretch is how often something was waited for, and for how long together.
type Stretch struct {
	Times int
	Long  time.Duration
}

func (s *Stretch) add(d time.Duration) {
	s.Times++
	s.Long += d
}

// Pauses are those because the target failed.
func (p *Player) Pauses() Stretch {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.pauses
	if !p.broken.IsZero() {
		all.add(time.Since(p.broken))
	}
	return all
}

// Stalls are those in which there was no next request, while one was due. The time between two rounds of a loop is none.
func (p *Player) Stalls() Stretch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stalls
}

// send sends a request when those before it were answered. ctx ends when no answer is waited for any more: if that is before
// it is sent, it is not.
func (p *Player) send(ctx context.Context, f *flight) {
	defer func() { <-p.slots }()
	if !p.follow(ctx, f) || ctx.Err() != nil || p.cfg.Keep != nil && !p.cfg.Keep(f.Request) {
		p.untry(f)
		p.leave(f)
		if p.cfg.Drop != nil {
			p.cfg.Drop(f.Request)
		}
		f.Release()
		return
	}
	s := Sent{Request: f.Request, At: time.Since(p.began), Held: f.held}
	if p.paced() {
		s.Late = max(s.At-f.due, 0)
	}
	if s.Outcome = p.cfg.Send(ctx, f.Request); s.Failure != Answered && ctx.Err() != nil {
		s.Failure = Stopped
	}
	if s.Failure == Stopped {
		p.untry(f)
	} else {
		p.tell(s.bad(f.Request))
	}
	p.leave(f)
	p.done.Lock()
	defer p.done.Unlock()
	p.cfg.Done(s)
}

// untry has another request be the trial that this one was to be.
func (p *Player) untry(f *flight) {
	if f.trial {
		p.mu.Lock()
		p.trials = max(p.trials-1, 0)
		p.mu.Unlock()
	}
}

func (p *Player) paced() bool { return p.cfg.Pace.Speed > 0 }

// follow waits for the answers to f.before, if it is paced no longer than grace; not if ctx ends.
func (p *Player) follow(ctx context.Context, f *flight) bool {
	if len(f.before) == 0 {
		return true
	}
	var patience <-chan time.Time // nil, and so without end, where nothing is due
	if p.paced() {
		patience = time.After(max(f.due-time.Since(p.began), 0) + grace)
	}
	for _, b := range f.before {
		select {
		case <-b.done:
			continue
		default:
			f.held = ByClient
		}
		select {
		case <-b.done:
			continue
		case <-patience:
		case <-ctx.Done():
			return false
		}
		break
	}
	return p.allow(ctx, f) == nil
}

// enter notes that a request is to be let go, and which were answered before it was made, as recorded, and are not
// answered yet.
func (p *Player) enter(f *flight) {
	if f.Client == 0 {
		return
	}
	f.me = &underWay{ended: f.Time, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.clients[f.Client] {
		if other.ended <= f.began() {
			f.before = append(f.before, other)
		}
	}
	p.clients[f.Client] = append(p.clients[f.Client], f.me)
}

func (p *Player) leave(f *flight) {
	if f.me == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(f.me.done)
	others := p.clients[f.Client]
	i := slices.Index(others, f.me)
	if others = slices.Delete(others, i, i+1); len(others) == 0 {
		delete(p.clients, f.Client)
		return
	}
	p.clients[f.Client] = others
}
