package router

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendString appends s to dst as a JSON string, quotes included. Bytes that
// are not UTF-8 become U+FFFD, one for each.
func AppendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	if cleanPrefix(s) == len(s) {
		dst = append(dst, s...)
	} else {
		dst = appendEscaped(dst, s)
	}
	return append(dst, '"')
}

func appendEscaped(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	for start, i := 0, 0; ; {
		i += cleanPrefix(s[i:])
		dst = append(dst, s[start:i]...)
		if i == len(s) {
			return dst
		}
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, "\uFFFD"...)
			} else {
				dst = append(dst, s[i:i+size]...)
			}
			i += size
		default:
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\b':
				dst = append(dst, '\\', 'b')
			case '\f':
				dst = append(dst, '\\', 'f')
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
		}
		start = i
	}
}

// cleanPrefix is the length of s's beginning that JSON takes as it is: ASCII but
// for control characters, quote and backslash. It looks at eight bytes at a time.
func cleanPrefix(s []byte) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		// A borrow can only mark bytes behind a dirty one: the first is right.
		if dirty := dirtyBytes(binary.LittleEndian.Uint64(s[i:])); dirty != 0 {
			return i + bits.TrailingZeros64(dirty)/8
		}
	}
	if len(s) >= 8 && dirtyBytes(binary.LittleEndian.Uint64(s[len(s)-8:])) == 0 {
		return len(s)
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// Envelope is what every record of a frame begins with: where it comes from and
// when. It is made once a frame; a line then costs two copies and two numbers.
type Envelope struct {
	id     []byte // `{"id":"<frame>-`
	source []byte // `,"drain":"…","app":"…"`, or less
	stamp  []byte // `","time":"2006-01-02T15:04:05.000000Z"` and source, …
	second int64  // … for lines of this second, so that neighbours share it
	day    int64  // that the stamp's date is, since 1970
}

// Where the parts of a stamp stand.
const (
	stampHead  = `","time":"`
	stampClock = len(stampHead) + len("2006-01-02T")
	stampMicro = stampClock + len("15:04:05.")
)

// Reset prepares e for a frame: frame is the part of the ids that its records
// share, drain and app are where it comes from, each empty when unknown.
func (e *Envelope) Reset(frame, drain, app []byte) {
	e.id = append(append(append(e.id[:0], `{"id":"`...), frame...), '-')
	e.source = e.source[:0]
	if len(drain) > 0 {
		e.source = AppendString(append(e.source, `,"drain":`...), drain)
	}
	if len(app) > 0 {
		e.source = AppendString(append(e.source, `,"app":`...), app)
	}
	e.stamp = e.stamp[:0]
}

// Append begins a record in dst: `{"id":…,"time":…,"drain":…,"app":…`. index is
// the line's, counted from the frame's end, because only the front of a frame
// changes from try to try. micros is the line's time in microseconds since 1970
// UTC, in the years 0 to 9999.
func (e *Envelope) Append(dst []byte, index int, micros int64, hasTime bool) []byte {
	dst = strconv.AppendInt(append(dst, e.id...), int64(index), 10)
	if !hasTime {
		dst = append(dst, '"')
		return append(dst, e.source...)
	}
	second, fraction := micros/1e6, micros%1e6
	if fraction < 0 {
		second, fraction = second-1, fraction+1e6
	}
	if second != e.second || len(e.stamp) == 0 {
		e.makeStamp(second)
	}
	at := len(dst) + stampMicro
	dst = append(dst, e.stamp...)
	thousands, rest := uint32(fraction)/1000, uint32(fraction)%1000
	digits := dst[at : at+6 : at+6]
	digits[0], digits[1], digits[2] = digit(thousands/100), digit(thousands/10%10), digit(thousands%10)
	digits[3], digits[4], digits[5] = digit(rest/100), digit(rest/10%10), digit(rest%10)
	return dst
}

// makeStamp makes the stamp for the lines of a second since 1970.
func (e *Envelope) makeStamp(second int64) {
	const daySeconds = 24 * 60 * 60
	day, clock := second/daySeconds, second%daySeconds
	if clock < 0 {
		day, clock = day-1, clock+daySeconds
	}
	if len(e.stamp) == 0 || day != e.day {
		e.stamp = time.Unix(second, 0).UTC().AppendFormat(append(e.stamp[:0], stampHead...), `2006-01-02T15:04:05.000000Z"`)
		e.stamp = append(e.stamp, e.source...)
	}
	e.second, e.day = second, day
	hour, minute, sec := uint32(clock/3600), uint32(clock/60%60), uint32(clock%60)
	c := e.stamp[stampClock:]
	c[0], c[1], c[3], c[4], c[6], c[7] = digit(hour/10), digit(hour%10), digit(minute/10), digit(minute%10), digit(sec/10), digit(sec%10)
}

func digit(n uint32) byte { return byte('0' + n) }
