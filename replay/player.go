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
	return o.Failure != Answered && o.Failure != Stopped || (o.Status == 502 || o.Status == 503 || o.Status == 504) && r.Status < 500
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
	ByNothing     Held = iota
	ByRate             // MaxRPS
	ByConcurrency      // as many as may be are under way
	ByClient           // one of the same client is under way
	numHeld
)

var heldNames = [numHeld]string{"nothing", "max_rps", "concurrency", "client"}

// String is its name in reports.
func (h Held) String() string { return heldNames[h] }

// Config says how a recording is played.
type Config struct {
	Pace *Pace
	// Next is the next request, see Merge.Next; its error ends the replay, io.EOF well.
	Next func(context.Context) (*Request, error)
	// Take is asked right before a request is sent, by several goroutines; one that it refuses is dropped.
	Take func(*Request) bool
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
	shift   time.Duration // of all that is due, by pauses
	epoch   int
	limit   *rate.Limiter
	breaker *gobreaker.TwoStepCircuitBreaker[Outcome]
	slots   chan struct{}

	done sync.Mutex // held while cfg.Done runs

	mu      sync.Mutex // guards the following
	clients map[uint64][]*underWay
	pauses  int
	paused  time.Duration
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

	// The breaker pauses for breakFor when of breakMin requests or more in breakSpan too many
	// failed; then breakTrials are sent, and if all of them are well it goes on.
	breakMin    = 50
	breakSpan   = 10 * time.Second
	breakFor    = time.Second
	breakTrials = 5

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
			IsExcluded: func(err error) bool { return errors.Is(err, errNotSent) },
			ReadyToTrip: func(c gobreaker.Counts) bool {
				answered := c.TotalSuccesses + c.TotalFailures
				return answered >= breakMin && float64(c.TotalFailures) >= cfg.Break*float64(answered)
			},
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
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		r, err := p.cfg.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		due := p.due(r)
		if wait := due - time.Since(p.began); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
		}
		f := &flight{due: due}
		if err := p.admit(ctx, f); err != nil {
			return nil // ctx has ended
		}
		p.enter(r, f)
		flying.Go(func() { p.send(ctx, sending, r, f) })
	}
}

// due is when a request is to be sent, since the beginning.
func (p *Player) due(r *Request) time.Duration {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	anew := r.Epoch != p.epoch
	if anew {
		p.epoch = r.Epoch
		p.cfg.Pace.Again(r.Time)
	}
	due := p.cfg.Pace.Due(r.Time) + p.shift
	if late := time.Since(p.began) - due; (anew || r.Live) && late > 0 {
		p.shift += late
		due += late
	}
	return due
}

// Began is when the first request came, zero if there was none; it is for after Run.
func (p *Player) Began() time.Time { return p.began }

// flight is a request that is let go.
type flight struct {
	due    time.Duration
	held   Held // what it waited for last
	me     *underWay
	before []*underWay
	settle func(error) // tells the breaker
}

// admit waits until a request may be sent, and takes a slot for it.
func (p *Player) admit(ctx context.Context, f *flight) error {
	f.settle = func(error) {}
	if p.breaker != nil {
		pause, err := p.pass(ctx, f)
		if err != nil {
			return err
		}
		p.shift += pause
		f.due += pause
	}
	if p.limit != nil {
		began := time.Now()
		if err := p.limit.Wait(ctx); err != nil {
			return err
		}
		if time.Since(began) > time.Millisecond {
			f.held = ByRate
		}
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
		f.held = ByConcurrency
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass waits until the breaker lets a request through, and says for how long.
func (p *Player) pass(ctx context.Context, f *flight) (pause time.Duration, err error) {
	if f.settle, err = p.breaker.Allow(); err == nil {
		return 0, nil
	}
	began := time.Now()
	p.pause(true, 0)
	defer func() { p.pause(false, time.Since(began)) }()
	for err != nil {
		select {
		case <-time.After(breakFor / 50):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		f.settle, err = p.breaker.Allow()
	}
	return time.Since(began), nil
}

func (p *Player) pause(begins bool, length time.Duration) {
	p.mu.Lock()
	if begins {
		p.pauses++
	}
	p.paused += length
	p.mu.Unlock()
	if p.cfg.Paused != nil {
		p.cfg.Paused(begins)
	}
}

// Pauses is how often and for how long the replay paused because the target failed.
func (p *Player) Pauses() (times int, length time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pauses, p.paused
}

// What the breaker is told.
var (
	errFailed  = errors.New("failed")
	errNotSent = errors.New("not sent")
)

// send sends a request when those before it were answered; if ctx ends before it is sent, it is not. sending ends when no
// answer is waited for any more.
func (p *Player) send(ctx, sending context.Context, r *Request, f *flight) {
	defer func() { <-p.slots }()
	if !p.follow(ctx, f) || !p.cfg.Take(r) {
		f.settle(errNotSent)
		p.leave(r.Client, f.me)
		r.Release()
		return
	}
	s := Sent{Request: r, At: time.Since(p.began), Held: f.held}
	if p.paced() {
		s.Late = max(s.At-f.due, 0)
	}
	if s.Outcome = p.cfg.Send(sending, r); s.Failure != Answered && sending.Err() != nil {
		s.Failure = Stopped
	}
	if s.bad(r) {
		f.settle(errFailed)
	} else {
		f.settle(nil)
	}
	p.leave(r.Client, f.me)
	p.done.Lock()
	defer p.done.Unlock()
	p.cfg.Done(s)
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
	began := time.Now()
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
	// What the rate allowed was for then.
	return p.limit == nil || time.Since(began) <= 2*grace || p.limit.Wait(ctx) == nil
}

// enter notes that a request is let go, and which were answered before it was made, as recorded, and are not
// answered yet.
func (p *Player) enter(r *Request, f *flight) {
	if r.Client == 0 {
		return
	}
	f.me = &underWay{ended: r.Time, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.clients[r.Client] {
		if other.ended <= r.began() {
			f.before = append(f.before, other)
		}
	}
	p.clients[r.Client] = append(p.clients[r.Client], f.me)
}

func (p *Player) leave(client uint64, me *underWay) {
	if me == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(me.done)
	others := p.clients[client]
	i := slices.Index(others, me)
	if others = slices.Delete(others, i, i+1); len(others) == 0 {
		delete(p.clients, client)
		return
	}
	p.clients[client] = others
}
