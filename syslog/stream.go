package syslog

import "bytes"

// Stream finds the messages of a connection, whose bytes come bit by bit, as Split does
// those of a body: octet-counted, as syslog drains have them, or a line each. Set Most
// and Limit.
type Stream struct {
	// Most is the largest message that is waited for, in bytes. A count beyond it is
	// taken for a broken one.
	Most int
	// Limit is how many messages are found at once; what is behind them is rest.
	Limit int
	// Whole says that what stands at rest is a message as its count has it, and is kept
	// back only because it does not end as those before it did. It is not worth a long
	// wait.
	Whole bool

	form streamForm
	bare bool // the last message ended without a newline
	seen int  // bytes at rest in which there is nothing to be found any more
}

type streamForm uint8

const (
	undecided streamForm = iota
	inCounts
	inLines
)

// Split appends the messages that have come whole to dst, in order. buf is what has come
// and is not split yet, from the last rest on; the new rest is where the first message
// begins of which more is to come, or that is beyond Limit. With final, nothing more comes,
// or it is not waited for.
//
// What is held back is not searched again when more comes: however small the pieces, each
// byte is looked at a bounded number of times.
func (s *Stream) Split(dst []Span, buf []byte, final bool) (spans []Span, rest int) {
	s.Whole = false
	i := skipSpace(buf, 0)
	if s.form == undecided && bytes.HasPrefix(buf[i:], byteOrderMark) {
		i = skipSpace(buf, i+len(byteOrderMark))
	}
	s.seen = max(0, s.seen-i)
	if final {
		s.seen = 0
		defer func() { s.seen = 0 }() // nothing is held back
	}
	if s.form == undecided && !s.decide(buf[i:], final) {
		if final && i < len(buf) {
			return append(dst, Span{Start: int32(i), End: int32(len(buf)), Form: Unreadable}), len(buf)
		}
		return dst, i
	}
	if s.form == inCounts {
		return s.splitCounted(dst, buf, i, final)
	}
	return s.splitLines(dst, buf, i, final)
}

// hold notes that of buf, whose first message begins at i, so much was searched, and
// returns i as rest.
func (s *Stream) hold(dst []Span, i, searched int) ([]Span, int) {
	s.seen = max(0, searched-i)
	return dst, i
}

// decide finds the stream's form in its first bytes; it tells whether there are enough.
func (s *Stream) decide(b []byte, final bool) bool {
	switch {
	case len(b) == 0, !final && mayBeHead(b):
		return false
	case isLine(b):
		s.form = inLines
	case isCounted(b, 0), bareStart(b, 0) >= 0:
		s.form = inCounts
	default: // garbage in front: what can be recognised first decides
		counts := nextCounted(b, s.seen)
		line := nextLine(b, s.seen, counts)
		switch {
		case line < counts:
			s.form = inLines
		case counts < len(b):
			s.form = inCounts
		default:
			s.seen = max(s.seen, len(b)-maxHead)
			return false
		}
	}
	s.seen = 0
	return true
}

func (s *Stream) splitLines(dst []Span, buf []byte, i int, final bool) ([]Span, int) {
	for first := len(dst); len(dst)-first < s.Limit; {
		if i = skipSpace(buf, i); i == len(buf) {
			break
		}
		end := len(buf)
		if n := bytes.IndexByte(buf[i+s.seen:], '\n'); n >= 0 {
			end = i + s.seen + n + 1
		} else if !final {
			return s.hold(dst, i, len(buf))
		}
		s.seen = 0
		dst = splitLines(dst, buf[:end], i)
		i = end
	}
	return dst, i
}

func (s *Stream) splitCounted(dst []Span, buf []byte, i int, final bool) ([]Span, int) {
	for first := len(dst); len(dst)-first < s.Limit; {
		if i = skipSpace(buf, i); i == len(buf) || !final && mayBeHead(buf[i:]) {
			break
		}
		form := Counted
		start, n, ok := readCount(buf, i)
		if !ok {
			if n, start = -1, bareStart(buf, i); start < 0 {
				form, start = Unreadable, i
			}
		}
		if n > s.Most {
			n = -1
		}
		end := start + n
		if n > 0 && !final && (end > len(buf) || s.unsure(buf, start, end)) {
			return s.hold(dst, i, 0)
		}
		bad := n <= 0 || !canEnd(buf, end) || insideCount(buf, end)
		if bad {
			from := start + 1
			if form == Unreadable {
				from = i
			}
			from = max(from, i+s.seen)
			if end = nextCounted(buf, from); !final && (end == len(buf) || s.unread(buf, from, end)) {
				return s.hold(dst, i, max(from, end-maxHead))
			}
		}
		s.seen = 0
		dst = append(dst, Span{Start: int32(start), End: int32(end), Form: form, BadCount: bad && form == Counted})
		s.bare = buf[end-1] != '\n'
		i = end
	}
	return dst, i
}

// unsure tells whether it takes more than has come to see whether the message that begins
// at start ends at end.
func (s *Stream) unsure(buf []byte, start, end int) bool {
	switch {
	case buf[end-1] == '\n':
		return false
	case end == len(buf):
		// A sender that ends its messages with newlines has a broken count here, or
		// a notice that its next message follows. One that has none has no more to
		// say now.
		s.Whole = !s.bare
		return s.Whole
	case mayBeHead(buf[end:]):
		return true
	case !isDigit(buf[end-1]):
		return false
	}
	// The count may lead into the next one, if this message should end with a newline.
	from := end
	if !s.bare {
		from = max(start, end-maxCountDigits)
	}
	return s.unread(buf, from, end)
}

// unread tells whether the message has not come whole whose count begins at end, or with
// digits before it, behind from.
func (s *Stream) unread(buf []byte, from, end int) bool {
	for end > from && isDigit(buf[end-1]) {
		end--
	}
	start, n, ok := readCount(buf, end)
	return ok && n <= s.Most && start+n > len(buf)
}

// mayBeHead tells whether b is the beginning of `LEN SP <PRI>`, and nothing more.
func mayBeHead(b []byte) bool {
	if len(b) >= maxHead {
		return false
	}
	i := 0
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i < len(b) && b[i] == ' ' {
		i++
	}
	if i < len(b) && b[i] == '<' {
		i++
	}
	for digits := 0; i < len(b) && digits < 3 && isDigit(b[i]); digits++ {
		i++
	}
	return i == len(b)
}

// DrainToken is the drain's token, which syslog drains carry in the place of the
// hostname; nil where there is another name.
//
//	<40>1 2013-01-01T01:01:01+00:00 d.9173ea1f-6f14-4976-9cf0-7cd0dafdcdbc app web.1 - …
func DrainToken(message []byte) []byte {
	if host := hostname(message); isToken(host) {
		return host
	}
	return nil
}

// hostname is the third field of a message, nil if there is none.
func hostname(message []byte) []byte {
	_, i := field(message, 0)
	_, i = field(message, i)
	host, _ := field(message, i)
	return host
}

func isToken(host []byte) bool {
	const least, most = 10, 64
	if len(host) < least || len(host) > most || host[0] != 'd' || host[1] != '.' {
		return false
	}
	for _, c := range host[2:] {
		if !isDigit(c) && !(c >= 'a' && c <= 'f') && c != '-' {
			return false
		}
	}
	return true
}
