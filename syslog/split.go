// Package syslog reads the messages of a log drain's body: it splits the body
// into messages, whatever form it has, and reads each message's header.
//
// Nothing is copied. Every slice this package hands out borrows from the body
// and is valid as long as the body is.
package syslog

import (
	"bytes"
)

// Form says how a message stood in its body.
type Form uint8

const (
	// Counted is a message behind its octet count, `83 <40>1 …` (RFC 6587,
	// 3.4.1), which is what Logplex sends. A newline at its end is its own.
	Counted Form = iota
	// Line is the same syslog message without a count, ended by a newline.
	Line
	// Printed is a line as `heroku logs` prints it: `TIME app[web.1]: text`.
	Printed
	// Unreadable is a stretch of the body in which no message could be found.
	Unreadable
)

// Span is the place of one message in its body: body[Start:End], without the
// octet count, with the newline that ends it if it has one.
type Span struct {
	Start, End int32
	Form       Form
	// BadCount is set where a message stood without a count that fits it; its
	// end was then found by the place where the next message begins.
	BadCount bool
}

// Split appends the messages of body to dst, in order, and returns it. It
// recognises the body's form from its bytes; an empty result means that nothing
// in the body could be recognised. len(body) must fit in an int32.
//
// A frame, drawn with the bytes that Split looks at:
//
//	83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed …\n119 <40>1 …
//	^^ ^                                                               ^ ^^^ ^
//	|  message begins                                83 bytes later: ---+   the next
//	octet count, digits and one space
//
// A count is believed when a newline ends the message, or when the next count,
// be it a broken one, or the body's end follows it. Otherwise the message reaches
// to the next place that reads `LEN SP <PRI>`, so that one wrong count costs no
// neighbour. Each byte is looked at a bounded number of times, whatever the
// counts say.
func Split(dst []Span, body []byte) []Span {
	i := 0
	if bytes.HasPrefix(body, byteOrderMark) {
		i = len(byteOrderMark)
	}
	i = skipSpace(body, i)
	if i == len(body) {
		return dst
	}
	switch {
	case isLine(body[i:]):
		return splitLines(dst, body, i)
	case isCounted(body, i), bareStart(body, i) >= 0:
		return splitCounted(dst, body, i)
	}
	// Garbage in front: what can be recognised first decides.
	counted := nextCounted(body, i)
	line := nextLine(body, i, counted)
	switch {
	case line < counted:
		return splitLines(dst, body, i)
	case counted < len(body):
		return splitCounted(dst, body, i)
	}
	return dst
}

// byteOrderMark is what some editors put in front of a file.
var byteOrderMark = []byte("\xef\xbb\xbf")

func splitCounted(dst []Span, body []byte, i int) []Span {
	for {
		if i = skipSpace(body, i); i == len(body) {
			return dst
		}
		start, n, ok := readCount(body, i)
		if !ok {
			if start = bareStart(body, i); start < 0 {
				end := nextCounted(body, i)
				dst = append(dst, Span{Start: int32(i), End: int32(end), Form: Unreadable})
				i = end
				continue
			}
			n = -1
		}
		end := start + n
		bad := n <= 0 || !canEnd(body, end) || insideCount(body, end)
		if bad {
			end = nextCounted(body, start+1)
		}
		dst = append(dst, Span{Start: int32(start), End: int32(end), Form: Counted, BadCount: bad})
		i = end
	}
}

func splitLines(dst []Span, body []byte, i int) []Span {
	for i < len(body) {
		end := len(body)
		if n := bytes.IndexByte(body[i:], '\n'); n >= 0 {
			end = i + n + 1
		}
		switch start := skipSpace(body[:end], i); {
		case start == end: // an empty line
		case body[start] == '<':
			dst = append(dst, Span{Start: int32(start), End: int32(end), Form: Line})
		case isPrinted(body[start:end]):
			dst = append(dst, Span{Start: int32(start), End: int32(end), Form: Printed})
		default:
			form := Unreadable
			// A count in front of a line is harmless: a frame saved and edited.
			if after, _, ok := readCount(body[:end], start); ok {
				start, form = after, Line
			}
			dst = append(dst, Span{Start: int32(start), End: int32(end), Form: form})
		}
		i = end
	}
	return dst
}

// canEnd tells whether a message can end at end.
func canEnd(body []byte, end int) bool {
	if end >= len(body) || body[end-1] == '\n' {
		return end <= len(body)
	}
	if !isDigit(body[end]) && body[end] != '-' && body[end] != '+' {
		return false
	}
	near := body[:min(len(body), end+maxHead)]
	return isCounted(near, end) || bareStart(near, end) >= 0
}

// insideCount tells whether end, where a count points, lies within the next
// count, because the first is a little too long:
//
//	84 <40>1 … State changed …\n119 <40>1 …
//	                             ^end: 19 does not fit its message, but 119 does
func insideCount(body []byte, end int) bool {
	if end >= len(body) || !isDigit(body[end]) || !isDigit(body[end-1]) || fits(body, end) {
		return false
	}
	for i := end - 1; i > 0 && end-i < maxCountDigits && isDigit(body[i]); i-- {
		if fits(body, i) {
			return true
		}
	}
	return false
}

// fits tells whether the count at i leads to where a message can end.
func fits(body []byte, i int) bool {
	start, n, ok := readCount(body, i)
	return ok && n > 0 && canEnd(body, start+n)
}

const (
	// maxCountDigits bounds the octet counts that are believed: 9 digits fit an
	// int32, and no body is that long.
	maxCountDigits = 9
	// maxHead bounds what is looked at for the next message's count, so that
	// counts that all point into one long run of digits cost no more: a sign, 20
	// digits, a space, `<191>`.
	maxHead = 32
)

// readCount reads `LEN SP <` at i. start is the place of `<`; n is LEN, or -1
// when it has too many digits to be true.
func readCount(body []byte, i int) (start, n int, ok bool) {
	j := i
	for j < len(body) && isDigit(body[j]) {
		if n >= 0 {
			n = n*10 + int(body[j]-'0')
		}
		if j++; j-i > maxCountDigits {
			n = -1
		}
	}
	if j == i || j+1 >= len(body) || body[j] != ' ' || body[j+1] != '<' {
		return 0, 0, false
	}
	return j + 1, n, true
}

func isCounted(body []byte, i int) bool {
	_, _, ok := readCount(body, i)
	return ok
}

// bareStart finds a message's `<PRI>` right at i, or behind a count without its
// space, or behind a count with a sign; -1 if there is none.
func bareStart(body []byte, i int) int {
	if i < len(body) && (body[i] == '-' || body[i] == '+') {
		i++
	}
	for i < len(body) && isDigit(body[i]) {
		i++
	}
	if i < len(body) && body[i] == ' ' {
		i++
	}
	if isPriority(body, i) {
		return i
	}
	return -1
}

// nextCounted is the first place at or after i that reads `LEN SP <PRI>`, or
// len(body).
func nextCounted(body []byte, i int) int {
	from := i
	for {
		n := bytes.IndexByte(body[i:], '<')
		if n < 0 {
			return len(body)
		}
		i += n
		if i >= from+2 && body[i-1] == ' ' && isDigit(body[i-2]) && isPriority(body, i) {
			return countStart(body, from, i-1)
		}
		i++
	}
}

// countStart finds where the count begins whose digits end at end, not before
// from. The text before it may end in digits of its own.
func countStart(body []byte, from, end int) int {
	first := end - 1
	for first > from && isDigit(body[first-1]) {
		first--
	}
	for i := max(first, end-maxCountDigits); i < end; i++ {
		if body[i] != '0' && fits(body, i) {
			return i
		}
	}
	return first
}

// nextLine is the first place in body[i:end] where a line of syslog begins, or
// len(body).
func nextLine(body []byte, i, end int) int {
	for i < end {
		n := bytes.IndexByte(body[i:end], '\n')
		if n < 0 {
			break
		}
		if i += n + 1; isLine(body[i:]) {
			return i
		}
	}
	return len(body)
}

// isLine tells whether b begins like a message without a count.
func isLine(b []byte) bool { return isPriority(b, 0) || isPrinted(b) }

// isPriority tells whether `<PRI>` stands at i.
func isPriority(b []byte, i int) bool {
	if i >= len(b) || b[i] != '<' {
		return false
	}
	j := i + 1
	for j < len(b) && j < i+4 && isDigit(b[j]) {
		j++
	}
	return j > i+1 && j < len(b) && b[j] == '>'
}

// isPrinted tells whether b begins like `2022-06-13T14:52:23.6+00:00 heroku[`.
func isPrinted(b []byte) bool {
	return len(b) > len("2006-01-02T") && isDigit(b[0]) && isDigit(b[1]) && isDigit(b[2]) && isDigit(b[3]) &&
		b[4] == '-' && isDigit(b[5]) && isDigit(b[6]) && b[7] == '-' && isDigit(b[8]) && isDigit(b[9]) && b[10] == 'T'
}

func isDigit(c byte) bool { return c-'0' < 10 }

// skipSpace skips what may stand between messages and belongs to none.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == '\n' || b[i] == '\r' || b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}
