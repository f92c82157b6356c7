// Package logplex is the other side: a sender of log drains that behaves as
// Heroku's does, for load tests, and the oracle of tests that must know what was
// sent, acknowledged and lost.
//
// What it does of Logplex's behaviour: one request under way for a drain, frames of
// up to about 100 KB sent as soon as the one before is done, 5 s for an answer,
// three tries one at once after the other, a frame dropped for a 4xx (but 429) or
// after the third try, a buffer of 1,024 messages whose oldest are dropped, and an
// L10 notice in front of the next frame, rendered anew on every try. (Logplex is
// closed today; its published source, archived 2022, is the model.)
package logplex

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// Config says what to send, and where.
type Config struct {
	// URL is the drain's, http or https; its user information is sent as Basic
	// credentials.
	URL string
	// Rate is the lines a second of all drains together; 0 for as many as are
	// taken.
	Rate float64
	// Drains is how many senders there are, at least 1.
	Drains int
	// Duration is for how long lines come due.
	Duration time.Duration
	// Seed makes the lines: the same seed, the same lines.
	Seed uint32
	// File holds lines to send in turn instead of made-up ones.
	File []byte
	// Finish is how long frames may still be tried once no more lines come due;
	// 20 s if it is 0.
	Finish time.Duration
}

// The sender's constants, as far as they are known.
const (
	answerTimeout  = 5 * time.Second
	connectTimeout = 3 * time.Second
	tries          = 3
	bufferLimit    = 1024 // messages
	brokenLimit    = 10   // messages, after brokenAfter without a success
	brokenAfter    = 5 * time.Minute
	frameBytes     = 100 << 10
	minBackoff     = 10 * time.Millisecond // of failed connects only
	maxBackoff     = 5 * time.Second
	idleTimeout    = 144 * time.Second
)

// Sending is a run of senders that is under way.
type Sending struct {
	cfg    Config
	report *Report
	ended  chan struct{}
}

// Start begins to send. Lines come due until ctx ends or cfg.Duration has passed;
// what was begun is then finished. The errors are of cfg.
func Start(ctx context.Context, cfg Config) (*Sending, error) {
	target, err := url.Parse(cfg.URL)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("the URL is none: use one such as http://127.0.0.1:8080/logs") // it may hold a secret
	}
	if cfg.Drains < 1 || cfg.Drains > maxDrains {
		return nil, fmt.Errorf("%d drains: use 1 to %d", cfg.Drains, maxDrains)
	}
	if cfg.Finish == 0 {
		cfg.Finish = 20 * time.Second
	}
	var shared *lines
	if cfg.File != nil {
		if shared, err = given(cfg.File); err != nil {
			return nil, fmt.Errorf("the file of lines: %w", err)
		}
	}
	s := &Sending{cfg: cfg, report: newReport(cfg), ended: make(chan struct{})}
	due, cancelDue := context.WithTimeout(ctx, cfg.Duration)
	finish, cancelFinish := context.WithCancel(context.WithoutCancel(ctx))
	var senders sync.WaitGroup
	now := time.Now()
	s.report.began = now
	for i := range cfg.Drains {
		l := shared
		if l == nil {
			l = madeUp(cfg.Seed, uint16(i))
		}
		one := newSender(l, target, token(cfg.Seed, uint16(i)), uint16(i), s.report)
		if cfg.Rate > 0 {
			one.rate = cfg.Rate / float64(cfg.Drains)
			// The drains' lines come due in turn, not all at once.
			one.began = now.Add(time.Duration(float64(i) / cfg.Rate * float64(time.Second)))
		} else {
			one.began = now
		}
		senders.Go(func() { one.run(due, finish) })
	}
	go func() {
		<-due.Done()
		timer := time.AfterFunc(cfg.Finish, cancelFinish)
		senders.Wait()
		timer.Stop()
		cancelFinish()
		cancelDue()
		s.report.end()
		close(s.ended)
	}()
	return s, nil
}

// maxDrains is what the request ids have room for.
const maxDrains = 1 << 16

// Ended is closed when all is finished.
func (s *Sending) Ended() <-chan struct{} { return s.ended }

// Report is what became of the lines so far.
func (s *Sending) Report() Summary { return s.report.summary() }

// Wait waits until all is finished.
func (s *Sending) Wait() *Report {
	<-s.ended
	return s.report
}
