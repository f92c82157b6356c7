package syslog

import (
	"bytes"
	"unicode/utf8"

	gosyslog "github.com/influxdata/go-syslog/v3"
	"github.com/influxdata/go-syslog/v3/rfc5424"
)

// opinion is a strict RFC 5424 parser, asked about headers that the hand scanner
// does not know. It costs ten times as much and copies, so it is made when it is
// first needed.
type opinion struct {
	machine gosyslog.Machine
	buf     []byte
}

// maxStructured bounds what go-syslog is shown behind MSGID: its time grows with
// the square of the escapes in structured data, its memory with the elements.
const maxStructured = 4 << 10

// secondOpinion reads headers of another shape than Logplex's: another version,
// no time, a MSGID, structured data. go-syslog judges the header; the slices are
// still cut from b, and the time is still read by hand, because go-syslog
// refuses more than six digits of a fraction. With strict, a message with MSGID `-`
// has structured data, too.
func (p *Parser) secondOpinion(m *Message, b []byte, strict bool) bool {
	i, ok := readPriority(m, b)
	if !ok {
		return false
	}
	at := bytes.IndexByte(b[i:], ' ') + i + 1 // TIMESTAMP
	if at <= i {
		return false
	}
	stamp, next := field(b, at)
	rest := b[max(next, 0):]
	if n := p.time(m, stamp); next < 0 || (n == 0 || n != len(stamp)) && string(stamp) != "-" {
		return false
	}
	_, next = field(rest, 0) // HOSTNAME
	m.App, next = field(rest, next)
	m.Proc, next = field(rest, next)
	if next < 0 {
		return false
	}
	msgID := rest[next:]
	if n := bytes.IndexByte(msgID, ' '); n >= 0 {
		msgID = msgID[:n:n]
	}
	after := next + len(msgID) // behind MSGID
	if p.second == nil {
		p.second = &opinion{machine: rfc5424.NewMachine()}
	}
	o := p.second
	o.buf = append(append(append(o.buf[:0], b[:at]...), "- "...), rest[:after]...)
	header := len(o.buf)

	// The message as a whole, where it is not in Logplex's form: go-syslog
	// finds the end of the structured data. It is shown ASCII, because it
	// refuses a text that is not UTF-8.
	if strict || string(msgID) != "-" {
		shown := min(len(rest), after+maxStructured)
		o.buf = append(o.buf, rest[after:shown]...)
		for i, c := range o.buf[header:] {
			if c >= utf8.RuneSelf {
				o.buf[header+i] = '?'
			}
		}
		if parsed, err := o.machine.Parse(o.buf); err == nil {
			text := parsed.(*rfc5424.SyslogMessage).Message
			if text != nil {
				m.Text = rest[shown-len(*text):]
				return true
			}
			if shown == len(rest) {
				m.Text = rest[shown:]
				return true
			}
		}
	}
	// The header alone.
	o.buf = append(o.buf[:header], " -"...)
	if _, err := o.machine.Parse(o.buf); err != nil {
		return false
	}
	m.Text = p.text(rest[after:])
	return true
}
