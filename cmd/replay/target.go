package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drain/replay"
)

// target is the host that requests are sent to.
type target struct {
	url          *url.URL
	like         *http.Request // all of them, in part
	header       http.Header
	forwardedFor bool
	timeout      time.Duration
	kept         *http.Transport // keeps connections
	fresh        *http.Transport // makes one for each request
	known        chan struct{}   // closed when it is known what it speaks
	asking       chan struct{}   // has an element while a request finds out
	lines        atomic.Bool     // it speaks HTTP/1, on its newest connection
	resent       atomic.Int64

	mu      sync.Mutex    // guards the following
	fastest time.Duration // in which a connection was made
	made    int64
}

// keep is how long a connection is kept without a request: shorter than servers keep theirs, so that a request seldom meets
// the end of one.
const keep = time.Second

// newTarget makes the target that is set.
func newTarget(c *config) *target {
	t := &target{url: c.target, header: c.header.Clone(), forwardedFor: c.forwardedFor, timeout: c.timeout}
	t.like = &http.Request{Host: cmp.Or(t.header.Get("Host"), c.target.Host), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	t.header.Del("Host")
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} { // has net/http send any method again
		if values := t.header.Values(name); len(values) > 0 {
			t.header.Del(name)
			t.header[strings.ToLower(name)] = values
		}
	}
	if t.header.Get("User-Agent") == "" {
		t.header.Set("User-Agent", "drain-replay")
	}
	t.known, t.asking = make(chan struct{}), make(chan struct{}, 1)
	know := sync.OnceFunc(func() { close(t.known) })
	if c.target.Scheme == "http" {
		t.lines.Store(true)
		know()
	}
	spoken := func(s tls.ConnectionState) error {
		if s.ServerName == "" || s.ServerName == c.target.Hostname() { // and no proxy's
			t.lines.Store(s.NegotiatedProtocol != "h2")
			know()
		}
		return nil
	}
	dialer := &net.Dialer{Timeout: c.timeout, KeepAlive: 30 * time.Second}
	t.kept = &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil // it would need the target in another form
			}
			return http.ProxyFromEnvironment(r)
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			began := time.Now()
			c, err := dialer.DialContext(ctx, network, address)
			if err == nil {
				t.dialled(time.Since(began))
			}
			return c, err
		},
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: spoken}, ForceAttemptHTTP2: true,
		MaxIdleConns: c.play.Concurrency, MaxIdleConnsPerHost: c.play.Concurrency, IdleConnTimeout: keep,
		TLSHandshakeTimeout: c.timeout, DisableCompression: true, // answers are measured as they come
		MaxResponseHeaderBytes: 256 << 10,
	}
	t.fresh = t.kept.Clone()
	t.fresh.DisableKeepAlives = true
	return t
}

func (t *target) dialled(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made++; t.made == 1 || took < t.fastest {
		t.fastest = took
	}
}

// roundTrip is how long it took to make a connection, the fastest, and how many were made.
func (t *target) roundTrip() (time.Duration, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fastest, t.made
}

// close ends its connections.
func (t *target) close() { t.kept.CloseIdleConnections() }

// send sends a request and reads the answer to its end. No redirect is followed.
func (t *target) send(ctx context.Context, r *replay.Request) replay.Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	select {
	case <-t.known:
	default:
		select {
		case <-t.known:
		case t.asking <- struct{}{}: // alone, and so on a connection that is new
			defer func() { <-t.asking }()
		case <-ctx.Done():
			return replay.Outcome{Failure: replay.TimedOut}
		}
	}
	out, again := t.try(ctx, t.kept, r)
	if again {
		t.resent.Add(1)
		out, _ = t.try(ctx, t.fresh, r)
	}
	return out
}

// try sends a request once. It says again where a connection that had been kept ended before anything of an answer came: a
// server may end one at any time (RFC 9112, 9.3.1), and the request is not at fault.
func (t *target) try(ctx context.Context, by *http.Transport, r *replay.Request) (out replay.Outcome, again bool) {
	var began atomic.Int64 // since start
	var reused, answered atomic.Bool
	start := time.Now()
	trace := &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			began.Store(int64(time.Since(start)))
			reused.Store(c.Reused)
		},
		GotFirstResponseByte: func() { answered.Store(true) },
	}
	took := func() time.Duration { return time.Since(start) - time.Duration(began.Load()) }
	request := t.like.WithContext(httptrace.WithClientTrace(ctx, trace)) // a copy
	request.Method, request.URL = r.Method, replay.Address(t.url.Scheme, t.url.Host, string(r.Target))
	if request.Header = t.headers(r); t.lines.Load() && slices.Contains(replayable, r.Method) {
		request.Body, request.TransferEncoding = empty, identity
	}
	response, err := by.RoundTrip(request)
	if err != nil {
		out = replay.Outcome{Failure: failure(ctx, err), Took: took()}
		return out, out.Failure == replay.Reset && reused.Load() && !answered.Load() && slices.Contains(replay.Safe, r.Method)
	}
	var n int64
	if response.StatusCode != http.StatusSwitchingProtocols { // what follows that is no body, and waits for nobody
		n, err = io.Copy(io.Discard, response.Body)
	}
	response.Body.Close()
	out = replay.Outcome{Status: response.StatusCode, Bytes: n, Took: took()}
	if err != nil {
		out.Failure = failure(ctx, err)
	}
	return out, false
}

// replayable are the methods that net/http sends again by itself, see Request.isReplayable.
var replayable = []string{"GET", "HEAD", "OPTIONS", "TRACE"}

// empty is a body. Without any, net/http sends a request that a connection ended on once more, and once more, as long as it
// has kept connections or gets new ones: one that crashes the target would do that to all of its processes. With HTTP/2 it does so
// only with what the target says that it did not look at. With the encoding identity it neither says of what length it is, nor
// first waits for its first byte.
var (
	empty    = io.NopCloser(eof{})
	identity = []string{"identity"}
)

type eof struct{}

func (eof) Read([]byte) (int, error)         { return 0, io.EOF }
func (eof) WriteTo(io.Writer) (int64, error) { return 0, nil } // without a buffer

func (t *target) headers(r *replay.Request) http.Header {
	header := make(http.Header, len(t.header)+2)
	for name, values := range t.header {
		header[name] = values
	}
	header["X-Replay"] = []string{printable(r.ID)}
	if t.forwardedFor {
		if addresses := addresses(string(r.Fwd)); addresses != "" {
			header["X-Forwarded-For"] = []string{addresses}
		}
	}
	return header
}

// printable is b as the value of a header: what cannot stand in one becomes a question mark.
func printable(b []byte) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, strings.TrimSpace(string(b)))
}

// addresses is fwd if it consists of addresses, else nothing: drain may have taken them out, and clients write
// what they like in front. A zone may be any text.
func addresses(fwd string) string {
	for part := range strings.SplitSeq(fwd, ",") {
		if a, err := netip.ParseAddr(strings.Trim(part, " ")); err != nil || a.Zone() != "" {
			return ""
		}
	}
	return fwd
}

// failure is why there is no answer. Much of what net/http says has no type.
func failure(ctx context.Context, err error) replay.Failure {
	var (
		dns     *net.DNSError
		network *net.OpError
		timeout net.Error
	)
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
	}
	switch {
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return replay.TimedOut
	case errors.As(err, &dns):
		return replay.NoHost
	case errors.Is(err, syscall.ECONNREFUSED):
		return replay.Refused
	case errors.As(err, &network) && network.Op == "remote error", strings.HasPrefix(err.Error(), "tls: "):
		return replay.BadTLS
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		return replay.Reset
	case says("malformed", "chunk", "Content-Length", "transfer encoding"):
		return replay.Garbled
	case says("server closed idle connection", "unexpected EOF", "stream error", "GOAWAY"):
		return replay.Reset
	}
	return replay.Other
}
