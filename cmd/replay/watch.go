package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/net/idna"

	"drain/replay"
	"drain/settings"
)

// errStopped is what a source says when the replay has ended meanwhile.
var errStopped = errors.New("the replay has ended")

// watch sees every record, and keeps requests from the host that they were recorded of.
type watch struct {
	hosts  []address // where requests go; none where anything is allowed
	stop   func(error)
	report *report
}

// address is a host as hosts are compared, a port, "" for any, and the setting that names it.
type address struct{ setting, host, port string }

// newWatch makes a watch for a target and the Host header, "" for the target's own; the target is nil where nothing is sent. stop
// ends the replay.
func newWatch(target *url.URL, hostHeader string, report *report, stop func(error)) *watch {
	w := &watch{report: report, stop: stop}
	if target != nil {
		w.hosts = append(w.hosts, address{"TARGET", canonical(target.Hostname()), target.Port()})
	}
	if hostHeader != "" {
		host, _ := split(hostHeader)
		w.hosts = append(w.hosts, address{"HEADER", host, ""})
	}
	return w
}

// canonical is how hosts are compared.
func canonical(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// split takes a port off.
func split(host string) (bare, port string) {
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	return canonical(strings.Trim(host, "[]")), port
}

// allows tells whether a record's host is another one than the target. It ends the replay where not: an
// application would be sent its own requests, which would be recorded again. A port tells hosts apart
// where both have one.
func (w *watch) allows(recorded []byte) bool {
	for _, at := range w.hosts {
		if !at.looksLike(recorded) {
			continue
		}
		host, port := split(string(recorded))
		if host != at.host || port != "" && at.port != "" && port != at.port {
			continue
		}
		w.stop(settings.UsageError{Err: fmt.Errorf("%s: records were made by %s itself, which would get its own requests again: use another host, or --force", at.setting, at.host)})
		return false
	}
	return true
}

// looksLike tells soon of most hosts that they are another one. IPv6 addresses can be written in many ways.
func (a address) looksLike(recorded []byte) bool {
	if bytes.Count(recorded, []byte(":")) > 1 {
		return true
	}
	return len(recorded) >= len(a.host) && strings.EqualFold(string(recorded[:len(a.host)]), a.host)
}

func (w *watch) saw(c *replay.Counts) { w.report.saw(c) }

// report is a replay.Report that several goroutines fill.
type report struct {
	mu sync.Mutex // guards the following
	*replay.Report
}

func (r *report) saw(c *replay.Counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Saw(c)
}

func (r *report) sent(s *replay.Sent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Sent(s)
}

func (r *report) result(f replay.Frame) *replay.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Result(f)
}

func (r *report) read() (all int64, skipped map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Read()
}
