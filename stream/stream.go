// Package stream is the door for syslog drains over TCP: messages in, and no answer. It
// reads on only as fast as Kafka commits, so that what cannot be taken waits at the sender,
// who knows best what to do about it.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"drain/intake"
	"drain/publish"
)

// Config is what a Server needs.
type Config struct {
	// Intake makes records of messages, and Publisher takes them.
	Intake    *intake.Intake
	Publisher *publish.Publisher
	// Budget bounds the memory; what is read is acquired from it.
	Budget *publish.Budget
	// TLS secures connections, nil for not.
	TLS *tls.Config
	// MaxMessage is the largest message in bytes.
	MaxMessage int
	// Stalled is how long the rest of a message is waited for. It is taken as it is then:
	// its count was wrong, or its sender is gone.
	Stalled    time.Duration
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Server takes connections. It is safe for concurrent use.
type Server struct {
	cfg     Config
	metrics *metrics
	serving sync.WaitGroup
	// buffers bounds those of connections, to a quarter of the Budget. They are held
	// while more of it is waited for, which must come from the rest.
	buffers *semaphore.Weighted
	ending  context.Context // ends with Shutdown …
	end     context.CancelFunc
	killed  context.Context // … and when that waits no longer
	kill    context.CancelFunc
}

// New makes a Server; it starts nothing.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, metrics: newMetrics(cfg.Registerer), buffers: semaphore.NewWeighted(cfg.Budget.Size() / 4)}
	s.ending, s.end = context.WithCancel(context.Background())
	s.killed, s.kill = context.WithCancel(context.Background())
	return s
}

// Serve takes the listener's connections until Shutdown; its error is the listener's.
func (s *Server) Serve(l net.Listener) error {
	s.serving.Add(1)
	defer s.serving.Done()
	defer context.AfterFunc(s.ending, func() { l.Close() })()
	for {
		raw, err := l.Accept()
		var passing interface{ Temporary() bool } // no descriptors, or a client that has gone
		switch {
		case s.ending.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case err == nil:
			s.serving.Go(func() { s.serve(raw) })
		case errors.As(err, &passing) && passing.Temporary():
			select {
			case <-time.After(acceptAgain):
			case <-s.ending.Done():
			}
		default:
			return fmt.Errorf("take syslog connections on %s: %w", l.Addr(), err)
		}
	}
}

const acceptAgain = 50 * time.Millisecond

// Shutdown ends Serve. Senders are told that the connection ends; what comes all the same
// is taken for a moment, and the commit of all that was taken is waited for until ctx
// ends.
func (s *Server) Shutdown(ctx context.Context) {
	s.end()
	defer context.AfterFunc(ctx, s.kill)()
	s.serving.Wait()
	s.kill()
}

// serve takes one connection to its end.
func (s *Server) serve(raw net.Conn) {
	defer raw.Close()
	defer func() {
		if fault := recover(); fault != nil {
			s.metrics.failures[failedByFault].Inc()
			// The fault's own text could hold what a client sent.
			s.cfg.Logger.Error("a syslog connection failed by a fault of drain's own", "from", raw.RemoteAddr().String(), "stack", string(debug.Stack()))
		}
	}()
	c := newConn(s, raw)
	if s.cfg.TLS != nil {
		secured := tls.Server(raw, s.cfg.TLS)
		ctx, cancel := context.WithTimeout(s.ending, handshakeTime)
		defer cancel()
		if err := secured.HandshakeContext(ctx); err != nil {
			s.metrics.failures[failedHandshake].Inc()
			s.cfg.Logger.Debug("a syslog connection without TLS", "from", raw.RemoteAddr().String(), "error", err)
			return
		}
		c.Conn = secured
	}
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	c.run()
}

const handshakeTime = 10 * time.Second
