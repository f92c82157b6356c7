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
	"sync/atomic"
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
	// MaxConnections are taken at once, 0 for as many as come.
	MaxConnections int
	// MaxMessage is the largest message in bytes.
	MaxMessage int
	// Stalled is how long the rest of a message is waited for, and a second more for
	// each 64 KB of it. It is taken as it is then: its count was wrong, or its sender is
	// gone.
	Stalled    time.Duration
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Server takes connections. It is safe for concurrent use.
type Server struct {
	cfg     Config
	metrics *metrics
	// buffers bounds those of connections, to a quarter of the Budget. They are held
	// while more of it is waited for, which must come from the rest.
	buffers *semaphore.Weighted
	warned  atomic.Int64    // when it last was of a handshake, in ns since 1970
	lost    atomic.Int64    // messages that were read and could not be taken at a stop
	ending  context.Context // ends with Shutdown …
	end     context.CancelFunc
	killed  context.Context // … and when that waits no longer
	kill    context.CancelFunc

	mu      sync.Mutex // guards that nothing is added to serving once ending has ended
	serving sync.WaitGroup
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
	defer context.AfterFunc(s.ending, func() { l.Close() })()
	var places chan struct{}
	if s.cfg.MaxConnections > 0 {
		places = make(chan struct{}, s.cfg.MaxConnections)
	}
	for {
		if places != nil {
			select {
			case places <- struct{}{}:
			case <-s.ending.Done():
				return nil
			}
		}
		raw, err := l.Accept()
		if err == nil && s.begin(raw, places) {
			continue
		}
		if places != nil {
			<-places
		}
		var passing interface{ Temporary() bool } // no descriptors, or a client that has gone
		switch {
		case s.ending.Err() != nil:
			return nil
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

// begin serves a connection, unless Shutdown was called. It gives its place back.
func (s *Server) begin(raw net.Conn, places <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Err() != nil {
		raw.Close()
		return false
	}
	s.serving.Go(func() {
		s.serve(raw)
		if places != nil {
			<-places
		}
	})
	return true
}

// Shutdown ends Serve. Senders are told that the connection ends; what comes all the same
// is taken for a moment, and room and commits are waited for until ctx ends. Then it is
// published what was read, and the commit is the publisher's to wait for. The error says how
// many messages there was no memory for.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	defer context.AfterFunc(ctx, s.kill)()
	s.serving.Wait()
	s.kill()
	if n := s.lost.Load(); n > 0 {
		return fmt.Errorf("%d messages of syslog drains were read, found no room in memory, and are lost with this process", n)
	}
	return nil
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
			if s.ending.Err() == nil { // else it is drain who does not go on
				s.handshakeFailed(raw.RemoteAddr(), err)
			}
			return
		}
		c.Conn = secured
	}
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	c.run()
}

const handshakeTime = 10 * time.Second

// handshakeFailed counts a connection on which the sender and drain do not agree about TLS,
// and warns of it, once a minute.
func (s *Server) handshakeFailed(from net.Addr, err error) {
	s.metrics.failures[failedHandshake].Inc()
	now := time.Now().UnixNano()
	if last := s.warned.Load(); now-last < int64(time.Minute) || !s.warned.CompareAndSwap(last, now) {
		return
	}
	s.cfg.Logger.Warn("a syslog drain cannot be taken; others like it are counted in drain_syslog_failures_total", "from", from.String(), "error", err)
}
