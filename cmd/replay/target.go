package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"drain/replay"
)

// target is the host that requests are sent to.
type target struct {
	url          *url.URL
	host         string // of the Host header
	header       http.Header
	forwardedFor bool
	timeout      time.Duration
	transport    *http.Transport

	mu      sync.Mutex    // guards the following
	fastest time.Duration // in which a connection was made
	made    int64
}

// newTarget makes a target; header is what every request carries.
func newTarget(at *url.URL, header http.Header, forwardedFor bool, concurrency int, timeout time.Duration) *target {
	t := &target{url: at, host: at.Host, header: header.Clone(), forwardedFor: forwardedFor, timeout: timeout}
	if host := t.header.Get("Host"); host != "" {
		t.host = host
		t.header.Del("Host")
	}
	if t.header.Get("User-Agent") == "" {
		t.header.Set("User-Agent", "drain-replay")
	}
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	t.transport = &http.Transport{
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
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: at.Hostname()}, ForceAttemptHTTP2: true,
		MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: timeout, DisableCompression: true, // answers are measured as they come
		MaxResponseHeaderBytes: 256 << 10,
	}
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
func (t *target) close() { t.transport.CloseIdleConnections() }

// send sends a request and reads the answer to its end. No redirect is followed.
func (t *target) send(ctx context.Context, r *replay.Request) replay.Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	began := time.Now()
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { began = time.Now() }}
	request := (&http.Request{
		Method: r.Method, URL: replay.Address(t.url.Scheme, t.url.Host, string(r.Target)), Host: t.host,
		Header: t.headers(r), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(httptrace.WithClientTrace(ctx, trace))
	response, err := t.transport.RoundTrip(request)
	if err != nil {
		return replay.Outcome{Failure: failure(ctx, err), Took: time.Since(began)}
	}
	n, err := io.Copy(io.Discard, response.Body)
	response.Body.Close()
	out := replay.Outcome{Status: response.StatusCode, Bytes: n, Took: time.Since(began)}
	if err != nil {
		out.Failure = failure(ctx, err)
	}
	return out
}

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
// what they like in front.
func addresses(fwd string) string {
	for part := range strings.SplitSeq(fwd, ",") {
		if _, err := netip.ParseAddr(strings.TrimSpace(part)); err != nil {
			return ""
		}
	}
	return fwd
}

// failure is why there is no answer.
func failure(ctx context.Context, err error) replay.Failure {
	var (
		dns      *net.DNSError
		record   tls.RecordHeaderError
		distrust *tls.CertificateVerificationError
		alert    tls.AlertError
		timeout  net.Error
	)
	switch {
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return replay.TimedOut
	case errors.As(err, &dns):
		return replay.NoHost
	case errors.Is(err, syscall.ECONNREFUSED):
		return replay.Refused
	case errors.As(err, &record), errors.As(err, &distrust), errors.As(err, &alert):
		return replay.BadTLS
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "server closed idle connection"), strings.Contains(err.Error(), "connection broken"):
		return replay.Reset
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "malformed MIME"):
		return replay.Garbled
	}
	return replay.Other
}
