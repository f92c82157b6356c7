// Package intake makes records of the messages of a body, whichever door it came in by:
// one for each line of the router, and, with a topic for them, one for each other
// message. It counts what it finds.
package intake

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"drain/publish"
	"drain/router"
	"drain/syslog"
)

// Key says what a record's key is made of.
type Key uint8

// The sources of keys. With KeyNone a frame's records share a partition.
const (
	KeyNone Key = iota
	KeyDrain
	KeyApp
	KeyHost
	KeyPath
	KeyDyno
	KeyRequestID
)

// Keys are the names of the keys, by Key.
var Keys = []string{"none", "drain", "app", "host", "path", "dyno", "request_id"}

// maxKey bounds a key's bytes: a path can be as long as a line.
const maxKey = 4096

// Config is what an Intake needs.
type Config struct {
	// Publisher takes the records: topic 0 is the router's, topic 1 that of all
	// other messages where Logs is set.
	Publisher *publish.Publisher
	Logs      bool
	Redactor  *router.Redactor
	// Key says what records are keyed by.
	Key Key
	// MaxRecord is the largest record in bytes.
	MaxRecord  int
	Registerer prometheus.Registerer
}

// Intake lends desks. It is safe for concurrent use.
type Intake struct {
	cfg     Config
	metrics *metrics
}

// New makes an Intake.
func New(cfg Config) *Intake { return &Intake{cfg: cfg, metrics: newMetrics(cfg.Registerer)} }

// Weight is how many bytes of a publish.Budget a byte of a body needs at most, as
// bodies usually are: for itself and for its records, each with the JSON around it.
func (in *Intake) Weight() int {
	if in.cfg.Logs {
		return 6 // short lines, and every one a record
	}
	return 4
}

// maxRecord is the size in bytes of the largest value of a record for a topic.
func (in *Intake) maxRecord(topic int) int {
	return min(in.cfg.MaxRecord, in.cfg.Publisher.MaxRecord(topic)-maxKey)
}

// Desk is what it takes to make records of one body. Thousands of requests may wait for
// the rest of their bodies, while few are at a desk. All that a desk makes borrows from
// the body and from the desk, and the publisher copies.
type Desk struct {
	// Spans are the messages of the body, as syslog.Split or a syslog.Stream found
	// them.
	Spans  []syslog.Span
	Parser syslog.Parser
	// Tokens says that the messages carry their drain's token in the place of the
	// hostname, as syslog drains have it.
	Tokens bool
	// Loss is what the sender says that it lost.
	Loss Loss

	intake  *Intake
	lines   router.Converter
	id      []byte // of the frame
	drain   []byte // where the frame comes from, empty when unknown
	app     []byte
	scratch []byte

	router, logs output // router records, the others
	maxLog       int    // bytes of the largest of the others
	counts       counts
}

// Room is asked for memory before it is taken.
type Room interface {
	// Grow makes the body and its records hold n bytes in all.
	Grow(n int) error
}

// counts are what a body adds to the metrics once it is taken.
type counts struct {
	messages  [numKinds]int
	forged    int
	truncated int
	badCounts int
}

var desks = sync.Pool{New: func() any { return new(Desk) }}

// Sit lends a desk for one body; Leave gives it back.
func (in *Intake) Sit() *Desk {
	d := desks.Get().(*Desk)
	d.intake = in
	d.lines.Begin(in.cfg.Redactor, in.maxRecord(0))
	if in.cfg.Logs {
		d.maxLog = in.maxRecord(1)
	}
	d.counts, d.Loss = counts{}, Loss{}
	d.Parser.NilData, d.Parser.Strict, d.Tokens = false, false, false
	d.Spans = d.Spans[:0]
	d.router.reset()
	d.logs.reset()
	return d
}

// Leave gives the desk back. The caller holds no part of it any more.
func (d *Desk) Leave() {
	d.intake = nil
	d.lines.Forget()
	// One large body shall not stay in memory.
	if spanSize*cap(d.Spans)+d.router.capacity()+d.logs.capacity() <= keep {
		desks.Put(d)
	}
}

// keep is the most memory, in bytes, that a desk keeps for its next body.
const keep = 4 << 20

// Bytes of a syslog.Span and a publish.Record.
const spanSize, recordSize = 12, 48

// From says of which frame the messages are, and where it comes from; each of drain and
// app may be empty. It copies none of them.
func (d *Desk) From(frame, drain, app []byte) {
	d.id, d.drain, d.app = frame, drain, app
	d.lines.Envelope.Reset(frame, drain, app)
}

// Read makes records of the messages at Spans. Behind the body there are router.Slack
// bytes that may be read. Its only error is room's, where records take far more memory
// than their messages.
func (d *Desk) Read(body []byte, room Room) error {
	var m syslog.Message
	last := len(d.Spans) - 1
	for i, span := range d.Spans {
		if err := room.Grow(len(body) + d.router.size() + d.logs.size()); err != nil {
			return err
		}
		d.Parser.Parse(&m, body, span)
		if d.Tokens {
			d.fromToken(&m)
		}
		if span.BadCount {
			d.counts.badCounts++
		}
		switch {
		case m.Malformed:
			d.counts.messages[kindMalformed]++
			if d.intake.cfg.Logs {
				d.malformed(&m, last-i)
			}
		case m.Router():
			d.counts.messages[kindRouter]++
			d.routerLine(&m, last-i)
		default:
			d.counts.messages[kindOther]++
			d.Loss.notice(&m)
			if d.intake.cfg.Logs {
				d.otherLine(&m, last-i)
			}
		}
	}
	return nil
}

// fromToken takes the drain from the message's hostname.
func (d *Desk) fromToken(m *syslog.Message) {
	if token := syslog.DrainToken(m.Raw); string(token) != string(d.drain) {
		d.drain = token
		d.lines.Envelope.Reset(d.id, d.drain, d.app)
	}
}

// Damaged counts a body that ended before it should, whose rest is a message that
// cannot be read.
func (d *Desk) Damaged() { d.counts.messages[kindMalformed]++ }

// Finish makes the records, and tells how many bytes of a publish.Budget they need.
func (d *Desk) Finish() (size int) { return d.router.finish() + d.logs.finish() }

// Records are those for the publisher's topics, once Finish was called.
func (d *Desk) Records() (router, logs []publish.Record) { return d.router.records, d.logs.records }

// Messages is how many there are.
func (d *Desk) Messages() int { return len(d.Spans) }

// Count adds what the body holds to the metrics. Of a known one, which was brought
// before, the records are duplicates, and the rest is counted already.
func (d *Desk) Count(known bool) {
	in, c := d.intake, &d.counts
	m := in.metrics
	for kind, n := range c.messages {
		m.messages[kind].Add(float64(n))
	}
	for code, n := range d.Loss {
		m.loss[code].Add(float64(n))
	}
	if known {
		in.cfg.Publisher.Duplicate(0, len(d.router.records))
		if in.cfg.Logs {
			in.cfg.Publisher.Duplicate(1, len(d.logs.records))
		}
		return
	}
	m.redactions.Add(float64(d.lines.Encoder.Redactions))
	m.unusual.Add(float64(c.messages[kindRouter] - d.lines.Express))
	m.forged.Add(float64(c.forged))
	m.truncated.Add(float64(c.truncated))
	m.badCounts.Add(float64(c.badCounts))
}

// Clip keeps a name that a sender gives within bounds: every record repeats it.
func Clip(name string) string { return name[:min(len(name), maxName)] }

// maxName is far above the names that there are.
const maxName = 256

func (d *Desk) routerLine(m *syslog.Message, index int) {
	lines, out := &d.lines, &d.router
	out.bytes = lines.Append(out.bytes, syslog.TrimNilData(m.Text), m.Cut, index, m.Time, m.HasTime)
	if lines.Forged() {
		d.counts.forged++
	}
	if lines.Truncated() {
		d.counts.truncated++
	}
	switch key := d.intake.cfg.Key; key {
	case KeyPath:
		out.end(lines.Path(out.bytes))
	case KeyHost:
		out.end(lines.Visible(router.Host))
	case KeyDyno:
		out.end(lines.Visible(router.Dyno))
	case KeyRequestID:
		out.end(lines.Visible(router.RequestID))
	default:
		out.end(d.sourceKey())
	}
}

// sourceKey is the key that all records of a frame share.
func (d *Desk) sourceKey() []byte {
	switch d.intake.cfg.Key {
	case KeyDrain:
		return d.drain
	case KeyApp:
		return d.app
	}
	return nil
}

// otherLine makes a record of a message that is not the router's.
func (d *Desk) otherLine(m *syslog.Message, index int) {
	b := d.lines.Envelope.Append(d.logs.bytes, index, m.Time, m.HasTime)
	if m.Priority >= 0 {
		b = strconv.AppendInt(append(b, `,"severity":`...), int64(m.Priority&7), 10)
		b = strconv.AppendInt(append(b, `,"facility":`...), int64(m.Priority>>3), 10)
	}
	begin := len(d.logs.bytes)
	b = router.AppendString(append(b, `,"source":`...), m.App[:min(len(m.App), maxName)])
	b = router.AppendString(append(b, `,"process":`...), m.Proc[:min(len(m.Proc), maxName)])
	b = d.appendClipped(append(b, `,"message":`...), begin, m.Text)
	d.logs.bytes = append(b, '}')
	d.logs.end(d.sourceKey())
}

// malformed makes a record of a message that could not be parsed. It may be the
// router's, so it is redacted.
func (d *Desk) malformed(m *syslog.Message, index int) {
	begin := len(d.logs.bytes)
	b := d.lines.Envelope.Append(d.logs.bytes, index, 0, false)
	var n int
	d.scratch, n = d.intake.cfg.Redactor.AppendMalformed(d.scratch[:0], m.Raw)
	d.lines.Encoder.Redactions += n
	d.logs.bytes = append(d.appendClipped(append(b, `,"raw":`...), begin, d.scratch), '}')
	d.logs.end(d.sourceKey())
}

// appendClipped appends text to dst as a JSON string, shortened so that the record
// that begins at begin fits; a shortened one says `truncated`.
func (d *Desk) appendClipped(dst []byte, begin int, text []byte) []byte {
	const end = len(`,"truncated":true}`)
	at := len(dst)
	for n := len(text); ; n /= 2 {
		dst = router.AppendString(dst[:at], text[:n])
		if n < len(text) {
			dst = append(dst, `,"truncated":true`...)
		}
		if len(dst)-begin+end <= d.maxLog || n == 0 {
			return dst
		}
	}
}

// output gathers the records for one topic. Values and keys lie one behind the
// other in bytes; ends says where, so that bytes may move while it grows.
type output struct {
	bytes   []byte
	ends    []int // two for each record: of its value, of its key
	records []publish.Record
}

func (o *output) reset() {
	o.bytes, o.ends = o.bytes[:0], o.ends[:0]
	clear(o.records)
	o.records = o.records[:0]
}

// capacity is the memory that o keeps, in bytes.
func (o *output) capacity() int {
	return cap(o.bytes) + 8*cap(o.ends) + recordSize*cap(o.records)
}

// size bounds what o needs until it is published.
func (o *output) size() int { return len(o.bytes) + 32*len(o.ends) }

// end ends a record whose value was appended to bytes; an empty key is none.
func (o *output) end(key []byte) {
	o.ends = append(o.ends, len(o.bytes))
	o.bytes = append(o.bytes, key[:min(len(key), maxKey)]...)
	o.ends = append(o.ends, len(o.bytes))
}

// finish makes the records, and tells how much of the budget they need.
func (o *output) finish() (size int) {
	start := 0
	for i := 0; i < len(o.ends); i += 2 {
		value, key := o.ends[i], o.ends[i+1]
		rec := publish.Record{Value: o.bytes[start:value:value]}
		if key > value {
			rec.Key = o.bytes[value:key:key]
		}
		size += rec.Size()
		o.records = append(o.records, rec)
		start = key
	}
	return size
}
