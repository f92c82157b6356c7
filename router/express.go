package router

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Converter makes records of the router lines of one frame. Lines as the router
// writes them today take the express lane, which reads a line and writes its
// record in one pass; all others go the general way, by Parser and Encoder. Both
// make the same record, byte for byte.
//
// The zero Converter is ready once Begin was called; it is not for concurrent use.
type Converter struct {
	Parser   Parser
	Record   Record // the last line that went the general way
	Encoder  Encoder
	Envelope Envelope

	// Express counts the lines that took the express lane.
	Express int

	general bool // the last line went the general way
	line    []byte
	places  places
}

// places is where values stand by which records are keyed.
type places struct {
	path                  span // in the record
	host, requestID, dyno span // in the line
}

// Begin makes c ready for another frame, whose envelope is set apart. limit is
// Encoder.Limit.
func (c *Converter) Begin(redactor *Redactor, limit int) {
	c.Parser.Reset()
	c.Encoder.Redactor, c.Encoder.Limit, c.Encoder.Redactions = redactor, limit, 0
	c.Express = 0
}

// Forget lets go of the last line, which c borrows from.
func (c *Converter) Forget() {
	c.line, c.Encoder.path = nil, nil
	clear(c.Record.extra)
	c.Record.reset(nil)
}

// Append appends the record of a router line to dst. text is the line, cut says
// that it lacks the newline which ends it; index, micros and hasTime are
// Envelope.Append's. What stands behind text, up to its capacity, is read but not
// used: only where Slack bytes are there, the line can take the express lane.
func (c *Converter) Append(dst, text []byte, cut bool, index int, micros int64, hasTime bool) []byte {
	begin := len(dst)
	dst = c.Envelope.Append(dst, index, micros, hasTime)
	if !cut && !c.Parser.open {
		record, redactions, ok := c.express(dst, text)
		if ok && (c.Encoder.Limit <= 0 || len(record)-begin <= c.Encoder.Limit) {
			c.general, c.line = false, text
			c.Express++
			c.Encoder.Redactions += redactions
			return record
		}
		dst = record
	}
	c.general = true
	c.Parser.Parse(&c.Record, text, cut)
	return c.Encoder.Append(dst[:begin], &c.Envelope, &c.Record, index, micros, hasTime)
}

// Forged is Record.Forged of the last line.
func (c *Converter) Forged() bool { return c.general && c.Record.Forged }

// Truncated tells whether the last record says `truncated`.
func (c *Converter) Truncated() bool {
	return c.general && (c.Record.Truncated || c.Encoder.Shortened())
}

// Path is the path of the last record, redacted but not escaped. record is what
// Append returned. Of Host, RequestID and Dyno, Visible is what the last record may
// show of them.
func (c *Converter) Path(record []byte) []byte {
	if c.general {
		return c.Encoder.Path()
	}
	return record[c.places.path.start:c.places.path.end]
}

// Visible is Encoder.Visible of the last line, for Host, RequestID and Dyno.
func (c *Converter) Visible(k Key) []byte {
	if c.general {
		return c.Encoder.Visible(&c.Record, k)
	}
	s := c.places.host
	switch k {
	case RequestID:
		s = c.places.requestID
	case Dyno:
		s = c.places.dyno
	}
	return c.line[s.start:s.end]
}

// Slack is how many bytes behind a line the express lane may look at, the newline
// among them: it reads eight at once, and compares two such words.
const Slack = 16

// literal is a piece of a record that is written as one word of 16 bytes, of which
// size count.
type literal struct {
	text [16]byte
	size int
	low  uint64 // of the value behind it: fromBang, or fromSpace for one in quotes
}

func newLiteral(s string) *literal { return newLiteralOf(s, fromBang) }

func newLiteralOf(s string, low uint64) *literal {
	l := &literal{size: len(s), low: low}
	if copy(l.text[:], s) < len(s) {
		panic("longer than a word: " + s)
	}
	return l
}

var (
	litAtInfo     = newLiteral(`,"at":"info"`)
	litAt         = newLiteral(`,"at":"`)
	litCode       = newLiteral(`,"code":"`)
	litDesc       = newLiteralOf(`,"desc":"`, fromSpace)
	litSock       = newLiteral(`,"sock":"`)
	litMethod     = newLiteral(`,"method":"`)
	litPath       = newLiteral(`,"path":"`)
	litHost       = newLiteral(`,"host":"`)
	litRequestID  = newLiteral(`,"request_id":"`)
	litFwd        = newLiteralOf(`,"fwd":"`, fromSpace)
	litDyno       = newLiteral(`,"dyno":"`)
	litConnect    = newLiteral(`,"connect_ms":`)
	litService    = newLiteral(`,"service_ms":`)
	litStatus     = newLiteral(`,"status":`)
	litBytes      = newLiteral(`,"bytes":`)
	litProtocol   = newLiteral(`,"protocol":"`)
	litTLSVersion = newLiteral(`,"tls_version":"`)
	litTrue       = newLiteral(`,"tls":true`)
	litFalse      = newLiteral(`,"tls":false`)
)

// most is more than the lane writes beside a line's own bytes: its literals, and the
// word in which the last one ends.
const most = 19*16 + Slack

// express appends what follows the envelope in the record of a line that is in the
// router's usual order, and whose values need no care:
//
//	[sock=…] at=… [code=… desc="…"] method=… path="…" host=… request_id=… fwd="…" dyno=…
//	connect=… service=… status=… bytes=… [tls_version=…] [protocol=…] [tls=…] [tls_version=…]
//
// redactions counts the values that were taken out. ok is false for every other line,
// and what was appended is then of no use. Each value ends where a byte stands that it may
// not hold; that what follows is the next key, and at last the line's end, proves that
// it was the whole value. The newline behind the line ends every search.
func (c *Converter) express(dst, text []byte) (_ []byte, redactions int, ok bool) {
	size := len(text)
	if cap(text)-size < Slack {
		return dst, 0, false
	}
	in := text[:size+Slack]
	if in[size] >= ' ' {
		return dst, 0, false // it is not known where it ends
	}
	n := len(dst)
	dst = slices.Grow(dst, size+most)
	out := dst[:cap(dst)]
	i := 0
	if startsLong(in, 0, "at=info ", "method=") {
		n = put(out, n, litAtInfo)
		i = len("at=info")
	} else {
		var sock span
		if starts(in, 0, "sock=") {
			sock.start = len("sock=")
			sock.end = scanEnd(in, sock.start, fromBang)
			if i = sock.end + 1; in[sock.end] != ' ' {
				return dst, 0, false
			}
		}
		if !starts(in, i, "at=") {
			return dst, 0, false
		}
		n, i = token(out, in, n, i+len("at="), litAt)
		if starts(in, i, " code=") {
			n, i = token(out, in, n, i+len(" code="), litCode)
		}
		if starts(in, i, ` desc="`) {
			n, i = token(out, in, n, i+len(` desc="`), litDesc)
			if in[i] != '"' {
				return dst, 0, false
			}
			i++
		}
		if sock.end > sock.start {
			n, _ = token(out, in, n, sock.start, litSock)
		}
	}
	if !starts(in, i, " method=") {
		return dst, 0, false
	}
	n, i = token(out, in, n, i+len(" method="), litMethod)
	if !starts(in, i, ` path="`) {
		return dst, 0, false
	}
	i += len(` path="`)
	begin, mark := i, n
	n = put(out, n, litPath)
	c.places.path.start = n
	n, i = pathBeginning(out, in, n, i)
	if in[i] != '"' {
		// Something in it may be a secret, or needs care.
		if i = scanEnd(in, i, fromSpace); in[i] != '"' {
			return dst, 0, false
		}
		path := in[begin:i]
		if c.Encoder.Redactor.mode == RedactOff {
			n = c.places.path.start + copy(out[c.places.path.start:], path)
		} else {
			out, redactions = c.Encoder.Redactor.redact(out[:c.places.path.start], path, inPath)
			n = len(out)
			dst = slices.Grow(out, size-i+most)[:len(dst)]
			out = dst[:cap(dst)]
		}
	}
	c.places.path.end = n
	if i > begin {
		out[n] = '"'
		n++
	} else {
		n = mark
	}
	if !starts(in, i, `" host=`) {
		return dst, 0, false
	}
	i += len(`" host=`)
	c.places.host.start = i
	n, i = token(out, in, n, i, litHost)
	c.places.host.end = i
	if !startsLong(in, i, ` request`, `_id=`) {
		return dst, 0, false
	}
	i += len(` request_id=`)
	c.places.requestID.start = i
	n, i = token(out, in, n, i, litRequestID)
	c.places.requestID.end = i
	if !starts(in, i, ` fwd="`) {
		return dst, 0, false
	}
	i += len(` fwd="`)
	if in[i] == ' ' {
		return dst, 0, false // with ` host=` behind it, this quote would end the path
	}
	begin, mark = i, n
	n, i = token(out, in, n, i, litFwd)
	if c.Encoder.Redactor.fwd != FwdKeep && i > begin {
		out = c.Encoder.Redactor.appendFwd(out[:put(out, mark, litFwd)], in[begin:i])
		if n = len(out); n == mark+litFwd.size {
			n = mark
		}
		dst = slices.Grow(out, size-i+most)[:len(dst)]
		out = dst[:cap(dst)]
		if n > mark {
			out[n] = '"'
			n++
		}
	}
	if !starts(in, i, `" dyno=`) {
		return dst, 0, false
	}
	i += len(`" dyno=`)
	c.places.dyno.start = i
	n, i = token(out, in, n, i, litDyno)
	c.places.dyno.end = i
	if !startsLong(in, i, " connect", "=") {
		return dst, 0, false
	}
	n, i = millis(out, in, n, i+len(" connect="), litConnect)
	if !startsLong(in, i, " service", "=") {
		return dst, 0, false
	}
	n, i = millis(out, in, n, i+len(" service="), litService)
	if !starts(in, i, " status=") {
		return dst, 0, false
	}
	n, i = digits(out, in, n, i+len(" status="), litStatus)
	if !starts(in, i, " bytes=") {
		return dst, 0, false
	}
	n, i = digits(out, in, n, i+len(" bytes="), litBytes)
	var version span
	if startsLong(in, i, " tls_ver", "sion=") {
		version.start = i + len(" tls_version=")
		i = scanEnd(in, version.start, fromBang)
		version.end = i
	}
	if startsLong(in, i, " protoco", "l=") {
		n, i = token(out, in, n, i+len(" protocol="), litProtocol)
	}
	var tls *literal
	if startsLong(in, i, " tls=tru", "e") {
		i, tls = i+len(" tls=true"), litTrue
	} else if startsLong(in, i, " tls=fal", "se") {
		i, tls = i+len(" tls=false"), litFalse
	}
	if version.end > 0 {
		n, _ = token(out, in, n, version.start, litTLSVersion)
	} else if startsLong(in, i, " tls_ver", "sion=") {
		n, i = token(out, in, n, i+len(" tls_version="), litTLSVersion)
	}
	if tls != nil {
		n = put(out, n, tls)
	}
	if i != size {
		return dst, 0, false
	}
	out[n] = '}'
	return out[:n+1], redactions, true
}

// starts tells whether s stands at i. Inlined, with a constant of up to eight bytes,
// it is a comparison of words.
func starts(b []byte, i int, s string) bool { return string(b[i:i+len(s)]) == s }

// startsLong is starts for more than eight bytes, which are compared as two words.
func startsLong(b []byte, i int, first, rest string) bool {
	return starts(b, i, first) && starts(b, i+len(first), rest)
}

// put writes l at n of out and returns where it ends.
func put(out []byte, n int, l *literal) int {
	*(*[16]byte)(out[n:]) = l.text
	return n + l.size
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// Each of these marks bytes of w by their highest bit: the first mark is right, those
// behind it may be the borrow of one before.

// Bytes from which on a value may hold them, eight times.
const (
	fromSpace = ones * ' ' // in quotes
	fromBang  = ones * '!' // without
)

// stopBytes marks what JSON does not take as it is, and what is below low.
func stopBytes(w, low uint64) uint64 {
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return (w | (w - low) | (quote - ones) | (slash - ones)) & highs
}

// dirtyBytes marks what JSON does not take as it is.
func dirtyBytes(w uint64) uint64 { return stopBytes(w, fromSpace) }

// pathStops marks that, and what redaction has to look at (mayDelimit): `#%&`
// with all that is below, `;?`, which differ in one bit.
func pathStops(w uint64) uint64 {
	slash := w ^ ones*'\\'
	query := (w | ones*4) ^ ones*'?'
	return (w | (w - ones*('&'+1)) | (query - ones) | (slash - ones)) & highs
}

func word(b []byte, i int) uint64       { return binary.LittleEndian.Uint64(b[i:]) }
func putWord(b []byte, i int, w uint64) { binary.LittleEndian.PutUint64(b[i:], w) }
func firstMark(marks uint64) (at int)   { return bits.TrailingZeros64(marks) >> 3 }

// token writes key and the value that begins at i, up to a byte that it may not
// hold; nothing for an empty one.
func token(out, in []byte, n, i int, key *literal) (int, int) {
	mark, begin, low := n, i, key.low
	n = put(out, n, key)
	for {
		w := word(in, i)
		putWord(out, n, w)
		if stops := stopBytes(w, low); stops != 0 {
			k := firstMark(stops)
			n, i = n+k, i+k
			break
		}
		n, i = n+8, i+8
	}
	if i == begin {
		return mark, i
	}
	out[n] = '"'
	return n + 1, i
}

// scanEnd is where the value that begins at i ends, which may hold bytes from low on.
func scanEnd(in []byte, i int, low uint64) int {
	for {
		if stops := stopBytes(word(in, i), low); stops != 0 {
			return i + firstMark(stops)
		}
		i += 8
	}
}

// pathBeginning copies a path as far as nothing has to be looked at.
func pathBeginning(out, in []byte, n, i int) (int, int) {
	for {
		w := word(in, i)
		putWord(out, n, w)
		if stops := pathStops(w); stops != 0 {
			k := firstMark(stops)
			return n + k, i + k
		}
		n, i = n+8, i+8
	}
}

// digits writes key and the number that begins at i, up to what is none of its
// digits; nothing for an empty one. A number with zeros in front ends behind the
// first.
func digits(out, in []byte, n, i int, key *literal) (int, int) {
	begin := i
	if in[i] == '0' {
		n = put(out, n, key)
		out[n] = '0'
		return n + 1, i + 1
	}
	mark := n
	n = put(out, n, key)
	for ; in[i]-'0' < 10 && i < begin+maxDigits; i++ {
		out[n] = in[i]
		n++
	}
	if i == begin {
		return mark, i
	}
	return n, i
}

// millis is digits for a time, which may have its unit.
func millis(out, in []byte, n, i int, key *literal) (int, int) {
	n, end := digits(out, in, n, i, key)
	if end > i && in[end] == 'm' && in[end+1] == 's' {
		end += 2
	}
	return n, end
}
