package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

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

// intake is what one request needs to be read. Intakes are pooled; all that a
// request makes of its body borrows from its intake, and the publisher copies.
type intake struct {
	server      *Server
	request     *http.Request
	paced       paced
	body, spare []byte
	zip         *gzip.Reader
	damaged     bool // the body ended before it should
	budget      budget
	drain, app  []byte // where the frame comes from, empty when unknown
	scratch     []byte
	*desk       // once the body has come
}

// desk is what it takes to make records of a body. Thousands of requests may wait
// for the rest of their bodies, while few are at a desk.
type desk struct {
	spans  []syslog.Span
	syslog syslog.Parser
	lines  router.Converter

	out, logs output // router records, the others
	maxLog    int    // bytes of the largest of the others
	counts    counts
}

// output gathers the records for one topic. Values and keys lie one behind the
// other in bytes; ends says where, so that bytes may move while it grows.
type output struct {
	bytes   []byte
	ends    []int // two for each record: of its value, of its key
	records []publish.Record
}

// counts are what a frame adds to the metrics once it is taken.
type counts struct {
	messages  [numKinds]int
	loss      loss
	forged    int
	truncated int
	badCounts int
}

var (
	intakes = sync.Pool{New: func() any { return new(intake) }}
	desks   = sync.Pool{New: func() any { return new(desk) }}
)

// newIntake makes an intake ready for r; free ends it.
func (s *Server) newIntake(r *http.Request, app string, src *source) *intake {
	in := intakes.Get().(*intake)
	in.budget = budget{all: s.cfg.Budget, account: &src.account, weight: weight, ctx: r.Context()}
	if s.cfg.Logs {
		in.budget.weight = weightWithLogs
	}
	in.server, in.request, in.budget.isKnown = s, r, in
	in.drain = append(in.drain[:0], clip(header(r, "Logplex-Drain-Token"))...)
	in.app = append(in.app[:0], clip(app)...)
	in.damaged = false
	return in
}

// sit gives in a desk.
func (in *intake) sit(s *Server) {
	d := desks.Get().(*desk)
	d.lines.Begin(s.cfg.Redactor, s.maxRecord(0))
	if s.cfg.Logs {
		d.maxLog = s.maxRecord(1)
	}
	d.counts = counts{}
	d.spans = d.spans[:0]
	d.out.reset()
	d.logs.reset()
	in.desk = d
}

// known tells whether the frame is, as far as its headers say.
func (in *intake) known() bool {
	id, ok := in.identifyByHeaders(in.request)
	return ok && in.server.frames.knows(id)
}

// maxRecord is the size in bytes of the largest value of a record for a topic.
func (s *Server) maxRecord(topic int) int {
	return min(s.cfg.MaxRecord, s.cfg.Publisher.MaxRecord(topic)-maxKey)
}

// free gives back what the request holds. The caller holds no part of in any more.
func (in *intake) free() {
	in.budget.shrink(0)
	in.budget, in.paced = budget{}, paced{}
	in.server, in.request = nil, nil
	// One large body shall not stay in memory.
	if d := in.desk; d != nil {
		in.desk = nil
		d.lines.Forget()
		if spanSize*cap(d.spans)+d.out.capacity()+d.logs.capacity() <= keep {
			desks.Put(d)
		}
	}
	if cap(in.body)+cap(in.spare) <= keep {
		intakes.Put(in)
	}
}

// keep is the most memory, in bytes, that an intake or a desk keeps for its next
// request.
const keep = 4 << 20

// Bytes of a syslog.Span and a publish.Record.
const spanSize, recordSize = 12, 48

// clip keeps a name that a request gives within bounds: every record repeats it.
func clip(name string) string { return name[:min(len(name), maxName)] }

// maxName is far above the names that there are.
const maxName = 256

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

// read makes records of the body: one for each router line, and, with a topic for
// them, one for each other message. Its only error is errNoRoom, where records
// take far more memory than their messages.
func (in *intake) read(s *Server, r *http.Request) (frameID, error) {
	in.syslog.NilData = shuttle(r)
	frame := in.identify(r)
	in.scratch = frame.text(in.scratch[:0])
	in.lines.Envelope.Reset(in.scratch, in.drain, in.app)
	var m syslog.Message
	last := len(in.spans) - 1
	for i, span := range in.spans {
		if err := in.budget.grow(len(in.body) + in.out.size() + in.logs.size()); err != nil {
			return frame, err
		}
		in.syslog.Parse(&m, in.body, span)
		if span.BadCount {
			in.counts.badCounts++
		}
		switch {
		case m.Malformed:
			in.counts.messages[kindMalformed]++
			if s.cfg.Logs {
				in.malformed(s, &m, last-i)
			}
		case m.Router():
			in.counts.messages[kindRouter]++
			in.routerLine(s, &m, last-i)
		default:
			in.counts.messages[kindOther]++
			if code, n, ok := m.Loss(); ok {
				for c := range lossCodes {
					if lossCodes[c] == code {
						in.counts.loss[c] += min(n, maxLoss)
					}
				}
			}
			if s.cfg.Logs {
				in.otherLine(s, &m, last-i)
			}
		}
	}
	if in.damaged {
		in.counts.messages[kindMalformed]++
	}
	in.lossHeaders(r)
	return frame, nil
}

func (in *intake) routerLine(s *Server, m *syslog.Message, index int) {
	lines, out := &in.lines, &in.out
	out.bytes = lines.Append(out.bytes, syslog.TrimNilData(m.Text), m.Cut, index, m.Time, m.HasTime)
	if lines.Forged() {
		in.counts.forged++
	}
	if lines.Truncated() {
		in.counts.truncated++
	}
	switch key := s.cfg.Key; key {
	case KeyPath:
		out.end(lines.Path(out.bytes))
	case KeyHost:
		out.end(lines.Visible(router.Host))
	case KeyDyno:
		out.end(lines.Visible(router.Dyno))
	case KeyRequestID:
		out.end(lines.Visible(router.RequestID))
	default:
		out.end(in.sourceKey(key))
	}
}

// sourceKey is the key that all records of a frame share.
func (in *intake) sourceKey(key Key) []byte {
	switch key {
	case KeyDrain:
		return in.drain
	case KeyApp:
		return in.app
	}
	return nil
}

// otherLine makes a record of a message that is not the router's.
func (in *intake) otherLine(s *Server, m *syslog.Message, index int) {
	b := in.lines.Envelope.Append(in.logs.bytes, index, m.Time, m.HasTime)
	if m.Priority >= 0 {
		b = strconv.AppendInt(append(b, `,"severity":`...), int64(m.Priority&7), 10)
		b = strconv.AppendInt(append(b, `,"facility":`...), int64(m.Priority>>3), 10)
	}
	begin := len(in.logs.bytes)
	b = router.AppendString(append(b, `,"source":`...), m.App[:min(len(m.App), maxName)])
	b = router.AppendString(append(b, `,"process":`...), m.Proc[:min(len(m.Proc), maxName)])
	b = in.appendClipped(append(b, `,"message":`...), begin, m.Text)
	in.logs.bytes = append(b, '}')
	in.logs.end(in.sourceKey(s.cfg.Key))
}

// malformed makes a record of a message that could not be parsed. It may be the
// router's, so it is redacted.
func (in *intake) malformed(s *Server, m *syslog.Message, index int) {
	begin := len(in.logs.bytes)
	b := in.lines.Envelope.Append(in.logs.bytes, index, 0, false)
	var n int
	in.scratch, n = s.cfg.Redactor.AppendMalformed(in.scratch[:0], m.Raw)
	in.lines.Encoder.Redactions += n
	in.logs.bytes = append(in.appendClipped(append(b, `,"raw":`...), begin, in.scratch), '}')
	in.logs.end(in.sourceKey(s.cfg.Key))
}

// appendClipped appends text to dst as a JSON string, shortened so that the record
// that begins at begin fits; a shortened one says `truncated`.
func (in *intake) appendClipped(dst []byte, begin int, text []byte) []byte {
	const end = len(`,"truncated":true}`)
	at := len(dst)
	for n := len(text); ; n /= 2 {
		dst = router.AppendString(dst[:at], text[:n])
		if n < len(text) {
			dst = append(dst, `,"truncated":true`...)
		}
		if len(dst)-begin+end <= in.maxLog || n == 0 {
			return dst
		}
	}
}

// shuttle tells whether r comes from log-shuttle, which writes structured data as
// `-` and takes any status for delivered.
func shuttle(r *http.Request) bool {
	return strings.HasPrefix(header(r, "User-Agent"), "log-shuttle/")
}

// maxLoss bounds what one notice is believed, so that no frame's sum overflows.
const maxLoss = 1 << 32

// lossHeaders counts what log-shuttle says it lost in headers, where the same is
// not said in a message.
func (in *intake) lossHeaders(r *http.Request) {
	for i, name := range [len(lossCodes)]string{"", "Logplex-Drop-Count", "Logplex-Lost-Count"} {
		said := header(r, name)
		if said == "" {
			continue
		}
		if n, err := strconv.ParseUint(said, 10, 32); err == nil {
			in.counts.loss[i] = max(in.counts.loss[i], int64(n))
		}
	}
}
