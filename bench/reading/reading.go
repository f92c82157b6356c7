// Package reading turns frames into records in several ways: drain's, that of
// well-known libraries, and those of other drains' packages.
package reading

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/heroku/x/logplex/encoding"

	"drain/router"
	"drain/syslog"

	"github.com/go-logfmt/logfmt"
	gosyslog "github.com/influxdata/go-syslog/v3"
	"github.com/influxdata/go-syslog/v3/rfc5424"
)

// A Converter turns a frame of router lines, octet-counted, into their records,
// which it appends to dst, a line each. It is not for concurrent use.
type Converter interface {
	Convert(dst, frame []byte) []byte
}

// Way is one way of reading.
type Way struct {
	Name string
	What string // what it does
	New  func() Converter
}

// Ways are all of them.
var Ways = []Way{
	{"drain", "framing, header, line, redaction, record as JSON", func() Converter { return newOurs(false) }},
	{"drain, without the express lane", "the same", func() Converter { return newOurs(true) }},
	{"idiomatic", "the same with go-syslog, go-logfmt and encoding/json", func() Converter { return newIdiomatic() }},
	{"heroku/x logplex/encoding", "framing and header only (as promtail and Alloy have it)", func() Converter { return new(scanner) }},
}

// ByName is the way of a name.
func ByName(name string) (w Way, ok bool) {
	for _, w = range Ways {
		if w.Name == name {
			return w, true
		}
	}
	return w, false
}

// ours is the way that drain goes, with the express lane or without.
type ours struct {
	general bool
	spans   []syslog.Span
	header  syslog.Parser
	lines   router.Converter
}

func newOurs(general bool) *ours {
	return &ours{general: general, lines: router.Converter{Encoder: router.Encoder{Redactor: router.NewRedactor(router.RedactListed, router.FwdKeep, nil)}}}
}

func (o *ours) Convert(dst, frame []byte) []byte {
	c := &o.lines
	c.Parser.Reset()
	c.Envelope.Reset(frameID, drainToken, []byte("shop"))
	o.spans = syslog.Split(o.spans[:0], frame)
	var m syslog.Message
	for i, span := range o.spans {
		o.header.Parse(&m, frame, span)
		if o.general {
			c.Parser.Parse(&c.Record, m.Text, m.Cut)
			dst = c.Encoder.Append(dst, &c.Envelope, &c.Record, len(o.spans)-i, m.Time, m.HasTime)
		} else {
			dst = c.Append(dst, m.Text, m.Cut, len(o.spans)-i, m.Time, m.HasTime)
		}
		dst = append(dst, '\n')
	}
	return dst
}

var (
	drainToken = []byte("d.fc6b856b-3332-4546-93de-7d0ee272c3bd")
	frameID    = []byte("d.fc6b856b-3332-4546-93de-7d0ee272c3bd-09C557EAFCFB6CF2740EE62F62971098")
)

// idiomatic does the same with well-known libraries, as one would write it
// first. It is no match in forged, cut or unquoted lines.
type idiomatic struct {
	machine gosyslog.Machine
	secret  map[string]bool
}

func newIdiomatic() *idiomatic {
	return &idiomatic{rfc5424.NewMachine(), map[string]bool{"token": true, "access_token": true, "api_key": true, "code": true, "x-amz-signature": true}}
}

type idiomaticRecord struct {
	ID         string            `json:"id"`
	Time       time.Time         `json:"time"`
	Drain      string            `json:"drain"`
	App        string            `json:"app"`
	At         string            `json:"at,omitempty"`
	Code       string            `json:"code,omitempty"`
	Desc       string            `json:"desc,omitempty"`
	Sock       string            `json:"sock,omitempty"`
	Cause      string            `json:"cause,omitempty"`
	Method     string            `json:"method,omitempty"`
	Path       string            `json:"path,omitempty"`
	Host       string            `json:"host,omitempty"`
	RequestID  string            `json:"request_id,omitempty"`
	Fwd        string            `json:"fwd,omitempty"`
	Dyno       string            `json:"dyno,omitempty"`
	Connect    *int64            `json:"connect_ms,omitempty"`
	Service    *int64            `json:"service_ms,omitempty"`
	Status     *int64            `json:"status,omitempty"`
	Bytes      *int64            `json:"bytes,omitempty"`
	Protocol   string            `json:"protocol,omitempty"`
	TLSVersion string            `json:"tls_version,omitempty"`
	Agent      string            `json:"agent,omitempty"`
	TLS        *bool             `json:"tls,omitempty"`
	Extra      map[string]string `json:"extra,omitempty"`
}

func (d *idiomatic) Convert(dst, frame []byte) []byte {
	for index := 0; len(frame) > 0; index++ {
		digits, rest, _ := bytes.Cut(frame, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if err != nil {
			panic(err)
		}
		record, err := json.Marshal(d.record(rest[:n], index))
		if err != nil {
			panic(err)
		}
		dst = append(append(dst, record...), '\n')
		frame = rest[n:]
	}
	return dst
}

func (d *idiomatic) record(line []byte, index int) *idiomaticRecord {
	// The structured data that Logplex leaves out.
	message, err := d.machine.Parse(bytes.Replace(bytes.TrimRight(line, "\n"), []byte(" - "), []byte(" - - "), 1))
	if err != nil {
		panic(err)
	}
	syslog := message.(*rfc5424.SyslogMessage)
	decoder := logfmt.NewDecoder(strings.NewReader(*syslog.Message))
	pairs := make(map[string]string)
	for decoder.ScanRecord() {
		for decoder.ScanKeyval() {
			pairs[string(decoder.Key())] = string(decoder.Value())
		}
	}
	take := func(key string) string {
		value := pairs[key]
		delete(pairs, key)
		return value
	}
	number := func(key string) *int64 {
		n, err := strconv.ParseInt(strings.TrimSuffix(take(key), "ms"), 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	record := &idiomaticRecord{
		ID:   "d.fc6b856b-3332-4546-93de-7d0ee272c3bd-09C557EAFCFB6CF2740EE62F62971098-" + strconv.Itoa(index),
		Time: syslog.Timestamp.UTC(), Drain: "d.fc6b856b-3332-4546-93de-7d0ee272c3bd", App: "shop",
		At: take("at"), Code: take("code"), Desc: take("desc"), Sock: take("sock"), Cause: take("cause"),
		Method: take("method"), Path: d.redact(take("path")), Host: take("host"), RequestID: take("request_id"),
		Fwd: take("fwd"), Dyno: take("dyno"), Connect: number("connect"), Service: number("service"),
		Status: number("status"), Bytes: number("bytes"), Protocol: take("protocol"),
		TLSVersion: take("tls_version"), Agent: take("agent"),
	}
	if tls, err := strconv.ParseBool(take("tls")); err == nil {
		record.TLS = &tls
	}
	record.Extra = pairs
	return record
}

func (d *idiomatic) redact(path string) string {
	path, query, found := strings.Cut(path, "?")
	if !found {
		return path
	}
	params := strings.Split(query, "&")
	for i, param := range params {
		name, _, _ := strings.Cut(param, "=")
		if decoded, err := url.QueryUnescape(name); err == nil && d.secret[strings.ToLower(decoded)] {
			params[i] = name + "=" + router.Redacted
		}
	}
	return path + "?" + strings.Join(params, "&")
}

// scanner is the reading of heroku/x, which ends at the header: the message is what
// it gives.
type scanner struct{}

func (*scanner) Convert(dst, frame []byte) []byte {
	s := encoding.NewDrainScanner(bytes.NewReader(frame))
	for s.Scan() {
		dst = append(append(dst, s.Message().Message...), '\n')
	}
	if err := s.Err(); err != nil {
		panic(err)
	}
	return dst
}
