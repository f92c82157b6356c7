package logplex

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// line is one message of the buffer.
type line struct {
	n   int64
	due time.Time
}

// sender is one drain's.
type sender struct {
	lines  *lines
	url    *url.URL
	token  string
	drain  uint16
	client *http.Client
	rate   float64 // lines a second; 0 for as many as are taken
	report *Report

	began    time.Time
	end      time.Time // no line comes due from then on
	next     int64     // the line that comes next
	last     int64     // the line after the last one
	buffer   []line
	frame    []line
	frames   int64
	dropped  int64 // since the last success
	since    time.Time
	lastGood time.Time
	body     []byte
}

func newSender(l *lines, target *url.URL, token string, drain uint16, report *Report) *sender {
	transport := &http.Transport{
		DialContext:        (&net.Dialer{Timeout: connectTimeout}).DialContext,
		MaxConnsPerHost:    1,
		IdleConnTimeout:    idleTimeout,
		DisableCompression: true,
		WriteBufferSize:    64 << 10,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &sender{lines: l, url: target, token: token, drain: drain, client: client, report: report, last: math.MaxInt64}
}

// due is when line n comes due.
func (s *sender) due(n int64) time.Time {
	return s.began.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))
}

// fill puts the lines that are due by now into the buffer, and drops the oldest
// where there are too many: what happened while a request was under way.
func (s *sender) fill(now time.Time) {
	before := s.next
	if s.last == math.MaxInt64 && !now.Before(s.end) {
		s.last = s.next
		if s.rate > 0 { // those that came due before the end
			s.last = max(s.next, int64(math.Ceil(s.end.Sub(s.began).Seconds()*s.rate)))
		}
	}
	for s.next < s.last {
		l := line{s.next, now}
		if s.rate > 0 {
			if l.due = s.due(s.next); l.due.After(now) {
				break
			}
		} else if len(s.buffer) >= bufferLimit/2 {
			break
		}
		s.buffer = append(s.buffer, l)
		s.next++
	}
	s.report.send(s.next - before)
	limit := bufferLimit
	if now.Sub(s.lastGood) > brokenAfter {
		limit = brokenLimit
	}
	if over := len(s.buffer) - limit; over > 0 {
		if s.dropped == 0 {
			s.since = s.buffer[0].due
		}
		s.dropped += int64(over)
		s.report.lose(s.drain, s.buffer[:over], Overflow)
		s.buffer = append(s.buffer[:0], s.buffer[over:]...)
	}
}

// run sends the lines that come due until due ends, and what is left until finish
// ends.
func (s *sender) run(due, finish context.Context) {
	defer s.client.CloseIdleConnections()
	s.lastGood = time.Now()
	s.end, _ = due.Deadline()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		if due.Err() != nil && now.Before(s.end) {
			s.end = now // stopped early
		}
		s.fill(now)
		if len(s.buffer) == 0 {
			if s.next >= s.last {
				return
			}
			wait := time.Millisecond
			if s.rate > 0 {
				wait = time.Until(s.due(s.next))
			}
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-s.stopped(due):
			}
			continue
		}
		s.takeFrame()
		s.deliver(finish)
		if finish.Err() != nil {
			s.report.lose(s.drain, s.buffer, Unfinished)
			return
		}
	}
}

// stopped is due's end, while that is not noted yet.
func (s *sender) stopped(due context.Context) <-chan struct{} {
	if s.last < math.MaxInt64 {
		return nil
	}
	return due.Done()
}

// takeFrame takes as many lines as fit a frame.
func (s *sender) takeFrame() {
	size, n := 0, 0
	for n < len(s.buffer) && (n == 0 || size < frameBytes) {
		s.body = s.lines.append(s.body[:0], s.buffer[n].n, s.buffer[n].due)
		size += len(s.body)
		n++
	}
	s.frame = append(s.frame[:0], s.buffer[:n]...)
	s.buffer = append(s.buffer[:0], s.buffer[n:]...)
	s.frames++
}

// deliver tries the frame until it is taken or dropped.
func (s *sender) deliver(finish context.Context) {
	var id [16]byte
	putUint64(id[:8], mix(s.lines.mixed^uint64(s.drain)<<32^uint64(s.report.cfg.Seed)))
	putUint64(id[8:], mix(uint64(s.began.UnixNano())+uint64(s.frames)))
	frameID := fmt.Sprintf("%X", id)
	backoff := minBackoff
	for try := 1; ; {
		body, count := s.render()
		began := time.Now()
		status, text, err := s.post(finish, body, frameID, count)
		now := time.Now()
		s.report.answered(status, text, err, now.Sub(began))
		switch {
		case err == nil && status/100 == 2:
			s.report.acknowledge(s.drain, s.frame, now, len(body))
			s.lastGood, s.dropped = now, 0
			return
		case err == nil && status/100 == 4 && status != http.StatusTooManyRequests:
			s.report.lose(s.drain, s.frame, Refused)
			return
		case finish.Err() != nil:
			s.report.lose(s.drain, s.frame, Unfinished)
			return
		}
		s.client.CloseIdleConnections()
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" { // costs no try
			select {
			case <-time.After(backoff):
			case <-finish.Done():
			}
			backoff = min(2*backoff, maxBackoff)
			s.fill(time.Now())
			continue
		}
		if try++; try > tries {
			s.report.lose(s.drain, s.frame, Dropped)
			return
		}
		s.report.retry()
		s.fill(now)
	}
}

func putUint64(b []byte, n uint64) {
	for i := range 8 {
		b[i] = byte(n >> (56 - 8*i))
	}
}

// render makes the body: the loss notice, if there is one, then the lines.
func (s *sender) render() (body []byte, count int) {
	b := s.body[:0]
	count = len(s.frame)
	if s.dropped > 0 {
		notice := fmt.Sprintf("<172>1 %s host heroku logplex - Error L10 (output buffer overflow): drain '%s' dropped %d messages since %s.",
			time.Now().UTC().Format("2006-01-02T15:04:05+00:00"), s.token, s.dropped, s.since.UTC().Format(timeLayout))
		b = append(strconv.AppendInt(b, int64(len(notice)), 10), ' ')
		b = append(b, notice...)
		count++
	}
	for _, l := range s.frame {
		b = s.lines.append(b, l.n, l.due)
	}
	s.body = b
	return b, count
}

// post sends a frame once. text is the answer's first line.
func (s *sender) post(finish context.Context, body []byte, frameID string, count int) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(finish, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.GetBody = nil // no tries but our own
	h := req.Header
	h["Content-Type"] = []string{"application/logplex-1"}
	h["Logplex-Msg-Count"] = []string{strconv.Itoa(count)}
	h["Logplex-Frame-Id"] = []string{frameID}
	h["Logplex-Drain-Token"] = []string{s.token}
	h["User-Agent"] = []string{"Logplex/v49"}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	if res.ContentLength < 0 {
		return 0, "", errChunked
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return 0, "", err
	}
	line, _, _ := strings.Cut(string(answer[:min(len(answer), 200)]), "\n")
	return res.StatusCode, strings.ToValidUTF8(line, "?"), nil
}

// errChunked is an answer that Logplex cannot read.
var errChunked = errors.New("the answer has no Content-Length")

// token is a drain's, as Heroku writes them.
func token(seed uint32, drain uint16) string {
	var b [16]byte
	putUint64(b[:8], uint64(seed)<<32|uint64(drain))
	x := hex.EncodeToString(b[:])
	return "d." + x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
