package syslog

import (
	"bytes"
)

// Message is one syslog message. Its slices borrow from the body.
type Message struct {
	// Raw is the message as it stood, without count and ending newline.
	Raw []byte
	// App is APPNAME (`heroku`, `app`, an add-on), Proc is PROCID (`router`,
	// `web.1`). Both are nil when the message is malformed.
	App, Proc []byte
	// Text is what the header introduces. It may be empty. Unlike the others it has
	// the capacity of the body behind it, for who reads in words: nothing may be
	// appended to it.
	Text []byte
	// Time is the message's own time, in microseconds since 1970 UTC. It is
	// meaningless unless HasTime: the header may say `-`.
	Time    int64
	HasTime bool
	// Priority is facility*8 + severity, or -1 where the form has none.
	Priority int16
	// Malformed is set when no header could be read; then only Raw holds.
	Malformed bool
	// Cut is set when the message should have ended with a newline and did
	// not: all pieces of an overlong line but its last.
	Cut bool
}

// Router tells whether m comes from Heroku's router. Nothing else tells: the
// priority differs between the routers, the text is the client's.
func (m *Message) Router() bool {
	return string(m.App) == "heroku" && string(m.Proc) == "router"
}

// Loss reads a notice of lost messages: the code (L10, L12 or L13) and how many
// the sender says it lost. L10 comes from Logplex, the others from log-shuttle.
// An application can write the same words, but not under these names.
//
//	Error L10 (output buffer overflow): 1 messages dropped since 2019-…
//	Error L10 (output buffer overflow): drain 'd.437d…' dropped 1 messages since 2022-…
//	Error L12: 222 messages dropped since …
//	Error L13: 111 messages lost since …
func (m *Message) Loss() (code string, n int64, ok bool) {
	const prefix = "Error L10"
	logplex := string(m.Proc) == "logplex" && string(m.App) == "heroku"
	if !logplex && string(m.Proc) != "log-shuttle" {
		return "", 0, false
	}
	t := TrimNilData(m.Text)
	if len(t) < len(prefix) || string(t[:8]) != prefix[:8] {
		return "", 0, false
	}
	switch t[8] {
	case '0':
		code = "L10"
	case '2':
		code = "L12"
	case '3':
		code = "L13"
	default:
		return "", 0, false
	}
	end := bytes.Index(t, []byte(" messages"))
	if end < 0 {
		return code, 0, true
	}
	for scale := int64(1); end > 0 && isDigit(t[end-1]) && scale < 1e15; scale *= 10 {
		end--
		n += int64(t[end]-'0') * scale
	}
	return code, n, true
}

// TrimNilData takes off a leading `- `, which is log-shuttle's empty structured
// data, or a `-` that is all there is. Logplex leaves structured data out, so
// only what cannot begin that way may be trimmed: router lines and loss notices.
func TrimNilData(text []byte) []byte {
	if len(text) >= 2 && text[0] == '-' && text[1] == ' ' {
		return text[2:]
	}
	if string(text) == "-" {
		return text[1:]
	}
	return text
}

// Parser reads message headers. It remembers the last date and time it saw,
// since neighbours share it. The zero Parser is ready; it is not for concurrent
// use.
type Parser struct {
	// NilData says that the sender writes structured data as `-`, as
	// log-shuttle does, so that a leading `- ` is not part of the text.
	NilData bool
	// Strict says that messages whose hostname is not Heroku's (`host`, or a drain's
	// token) are RFC 5424 to the letter, and so have structured data in front of
	// their text, which is left out.
	Strict bool

	minute  [len("2006-01-02T15:04")]byte // the last minute read …
	seconds int64                         // … in seconds since 1970
	last    names
	second  *opinion
}

// Parse reads the message at span of body into m.
//
//	<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - at=info …
//	^PRI ^ ^TIMESTAMP                       ^    ^      ^      ^ ^
//	     VERSION                            HOSTNAME    PROCID   text: Logplex
//	                                             APPNAME       MSGID  leaves out
//	                                                              STRUCTURED-DATA
//
// MSGID `-` means Logplex's form, in which the text follows at once, even when
// it begins like structured data. Headers of another shape get a second opinion
// from a strict RFC 5424 parser.
func (p *Parser) Parse(m *Message, body []byte, span Span) {
	raw := body[span.Start:span.End]
	newline := len(raw) > 0 && raw[len(raw)-1] == '\n'
	if newline {
		raw = raw[:len(raw)-1]
	}
	if span.Form != Counted && len(raw) > 0 && raw[len(raw)-1] == '\r' {
		raw = raw[:len(raw)-1]
	}
	*m = Message{Raw: raw[:len(raw):len(raw)], Priority: -1, Cut: span.Form == Counted && !newline}
	var ok bool
	switch span.Form {
	case Counted, Line:
		usual := p.header(m, raw)
		ok = usual || p.secondOpinion(m, raw, p.Strict && !isHerokus(raw))
		if p.Strict && ok {
			p.toTheLetter(m, raw, usual)
		}
	case Printed:
		ok = p.printed(m, raw)
	}
	if !ok {
		*m = Message{Raw: m.Raw, Priority: -1, Malformed: true, Cut: m.Cut}
	}
}

// text is what stands behind MSGID, b, without its space and without structured
// data where that is known to be empty.
func (p *Parser) text(b []byte) []byte {
	if len(b) > 0 {
		b = b[1:]
	}
	if p.NilData {
		return TrimNilData(b)
	}
	return b
}

// isHerokus tells whether a message comes from Heroku, by its hostname.
func isHerokus(raw []byte) bool {
	host := hostname(raw)
	return string(host) == "host" || isToken(host)
}

// toTheLetter takes structured data off a message, unless it is Heroku's, which has
// none. Behind another MSGID than `-`, which usual headers have, it is off already.
func (p *Parser) toTheLetter(m *Message, raw []byte, usual bool) {
	if isHerokus(raw) || len(m.Text) == 0 {
		return
	}
	switch {
	case !usual:
	case m.Text[0] == '[':
		p.secondOpinion(m, raw, true) // without one it stays as it is
	case !p.NilData:
		m.Text = TrimNilData(m.Text)
	}
	m.Text = bytes.TrimPrefix(m.Text, byteOrderMark) // RFC 5424, 6.4
}

// header is the hand scanner, for the header that Logplex writes.
func (p *Parser) header(m *Message, b []byte) bool {
	i, ok := readPriority(m, b)
	if !ok || i+2 >= len(b) || b[i] != '1' || b[i+1] != ' ' {
		return false
	}
	i += 2
	n := p.time(m, b[i:])
	if n == 0 {
		return false
	}
	if i += n; i >= len(b) || b[i] != ' ' {
		return false
	}
	if l := &p.last; len(b)-i > l.size && string(b[i:i+l.size]) == string(l.text[:l.size]) && l.size > 0 {
		m.App, m.Proc = b[i+l.app:i+l.proc-1:i+l.proc-1], b[i+l.proc:i+l.size-len(" - "):i+l.size-len(" - ")]
		m.Text = p.text(b[i+l.size-1:])
		return true
	}
	begin := i
	_, app := field(b, i+1) // HOSTNAME, always `host`
	var proc int
	m.App, proc = field(b, app)
	m.Proc, i = field(b, proc)
	if i < 0 || i >= len(b) || b[i] != '-' || i+1 < len(b) && b[i+1] != ' ' {
		return false
	}
	if size := i + len("- ") - begin; size <= len(p.last.text) && i+1 < len(b) {
		p.last.app, p.last.proc, p.last.size = app-begin, proc-begin, size
		copy(p.last.text[:], b[begin:begin+size])
	}
	m.Text = p.text(b[i+1:])
	return true
}

// names is a header from the space behind its time to the one behind MSGID, as the
// last message had it: neighbours often share it.
type names struct {
	text      [64]byte
	size      int // 0 while there is none
	app, proc int // where these begin
}

// printed reads a line of `heroku logs`: `TIME app[web.1]: text`.
func (p *Parser) printed(m *Message, b []byte) bool {
	i := p.time(m, b)
	if i == 0 || i >= len(b) || b[i] != ' ' {
		return false
	}
	b = b[i+1:]
	open := bytes.IndexByte(b, '[')
	if open <= 0 {
		return false
	}
	shut := bytes.IndexByte(b[open:], ']') + open
	if shut <= open+1 || shut+1 >= len(b) || b[shut+1] != ':' ||
		bytes.IndexByte(b[:shut], ' ') >= 0 {
		return false
	}
	m.App, m.Proc = b[:open:open], b[open+1:shut:shut]
	m.Text = b[shut+2:]
	if len(m.Text) > 0 && m.Text[0] == ' ' {
		m.Text = m.Text[1:]
	}
	return true
}

// readPriority reads `<PRI>`, PRI being 0 to 191 without leading zeros.
func readPriority(m *Message, b []byte) (next int, ok bool) {
	if len(b) < 3 || b[0] != '<' || !isDigit(b[1]) {
		return 0, false
	}
	pri, i := int(b[1]-'0'), 2
	for pri != 0 && i < 4 && i < len(b) && isDigit(b[i]) {
		pri = pri*10 + int(b[i]-'0')
		i++
	}
	if pri > 191 || i >= len(b) || b[i] != '>' {
		return 0, false
	}
	m.Priority = int16(pri)
	return i + 1, true
}

// field reads the field of b that begins at i and returns the index behind its
// space; it passes a negative i on and answers -1 where no field ends.
func field(b []byte, i int) ([]byte, int) {
	if i < 0 {
		return nil, -1
	}
	n := bytes.IndexByte(b[i:], ' ')
	if n <= 0 {
		return nil, -1
	}
	return b[i : i+n : i+n], i + n + 1
}
