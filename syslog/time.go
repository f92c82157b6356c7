package syslog

import (
	"encoding/binary"
	"time"
)

// Times that RFC 5424 can write and JSON's consumers can read: years 0 to 9999.
var (
	minSeconds = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	maxSeconds = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// time reads a timestamp at b's beginning into m.Time and returns its length, 0
// if there is none. Beyond RFC 5424 it takes up to 9 digits of a fraction, as
// some senders write; what is finer than a microsecond is cut off.
func (p *Parser) time(m *Message, b []byte) int {
	const minute = len("2006-01-02T15:04")
	if len(b) < minute+len(":05Z") || b[minute] != ':' || !isDigit(b[17]) || !isDigit(b[18]) {
		return 0
	}
	if p.minute[0] == 0 || string(b[:minute]) != string(p.minute[:]) {
		seconds, ok := readMinute(b)
		if !ok {
			return 0
		}
		copy(p.minute[:], b)
		p.seconds = seconds
	}
	sec := int64(b[17]-'0')*10 + int64(b[18]-'0')
	if sec > 59 {
		return 0
	}
	t, micros, i := p.seconds+sec, int64(0), 19
	if len(b) > usualTime && b[19] == '.' && string(b[26:usualTime]) == "+00:00" {
		if micros, ok := sixDigits(b[20:]); ok {
			m.Time, m.HasTime = t*1_000_000+micros, t >= minSeconds && t < maxSeconds
			if !m.HasTime {
				return 0
			}
			return usualTime
		}
	}
	if i < len(b) && b[i] == '.' {
		scale := int64(100_000)
		for i++; i < len(b) && isDigit(b[i]); i++ {
			micros += int64(b[i]-'0') * scale
			scale /= 10
		}
		if i == 20 || i > 29 {
			return 0
		}
	}
	if i >= len(b) {
		return 0
	}
	switch b[i] {
	case 'Z':
		i++
	case '+', '-':
		if i+6 > len(b) || b[i+3] != ':' || !isDigit(b[i+1]) || !isDigit(b[i+2]) || !isDigit(b[i+4]) || !isDigit(b[i+5]) {
			return 0
		}
		hours, minutes := two(b[i+1:]), two(b[i+4:])
		if hours > 23 || minutes > 59 {
			return 0
		}
		offset := hours*3600 + minutes*60
		if b[i] == '+' {
			offset = -offset
		}
		t += offset
		i += 6
	default:
		return 0
	}
	if t < minSeconds || t >= maxSeconds {
		return 0
	}
	m.Time, m.HasTime = t*1_000_000+micros, true
	return i
}

// usualTime is the length of a time as Logplex writes it.
const usualTime = len("2006-01-02T15:04:05.000000+00:00")

// sixDigits reads the number that b begins with, of its first eight bytes the first
// six.
func sixDigits(b []byte) (n int64, ok bool) {
	const mask = 0x0000_ffff_ffff_ffff
	w := binary.LittleEndian.Uint64(b) & mask
	d := w ^ 0x3030_3030_3030_3030&mask // '0' to '9' become 0 to 9
	if (d|(d+0x0606_0606_0606_0606&mask))&0xf0f0_f0f0_f0f0_f0f0 != 0 {
		return 0, false
	}
	d = d*10 + d>>8 // every second byte is a number of two digits
	return int64(d&0xff*10_000 + d>>16&0xff*100 + d>>32&0xff), true
}

// readMinute reads `2006-01-02T15:04` into seconds since 1970.
func readMinute(b []byte) (int64, bool) {
	for i, c := range []byte("dddd-dd-ddTdd:dd") {
		if c == 'd' && !isDigit(b[i]) || c != 'd' && b[i] != c {
			return 0, false
		}
	}
	year := int(two(b)*100 + two(b[2:]))
	month, day := time.Month(two(b[5:])), int(two(b[8:]))
	hour, min := two(b[11:]), two(b[14:])
	if month < 1 || month > 12 || day < 1 || hour > 23 || min > 59 {
		return 0, false
	}
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if date.Day() != day { // the 31st of a month of 30 days
		return 0, false
	}
	return date.Unix() + hour*3600 + min*60, true
}

func two(b []byte) int64 { return int64(b[0]-'0')*10 + int64(b[1]-'0') }
