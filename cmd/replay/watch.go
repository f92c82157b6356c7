package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"drain/replay"
	"drain/settings"
)

// errStopped is what a source says when the replay has ended meanwhile.
var errStopped = errors.New("the replay has ended")

// watch sees every record, and keeps requests from the host that they were recorded of.
type watch struct {
	host, port string // of the target; host is "" where anything is allowed
	stop       func(error)
	report     *report
}

// newWatch makes a watch for a target, nil where nothing is sent. stop ends the replay.
func newWatch(target *url.URL, force bool, report *report, stop func(error)) *watch {
	w := &watch{report: report, stop: stop}
	if target != nil && !force {
		w.host, w.port = canonical(target.Hostname()), target.Port()
	}
	return w
}

// canonical is how hosts are compared.
func canonical(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// allows tells whether a record's host is another one than the target. It ends the replay where not: an
// application would be sent its own requests, which would be recorded again. A port tells hosts apart
// where both have one.
func (w *watch) allows(recorded []byte) bool {
	bare := bytes.TrimPrefix(recorded, []byte("["))
	if w.host == "" || len(bare) < len(w.host) || !strings.EqualFold(string(bare[:len(w.host)]), w.host) {
		return true
	}
	host, port := string(recorded), ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	if canonical(strings.Trim(host, "[]")) != w.host || port != "" && w.port != "" && port != w.port {
		return true
	}
	w.stop(settings.UsageError{Err: fmt.Errorf("TARGET: records were made by %s itself, which would get its own requests again: use another target, or --force", w.host)})
	return false
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
