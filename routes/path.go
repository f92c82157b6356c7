package routes

import "bytes"

const (
	// maxDepth is how many segments of a path are looked at: a rule's pattern may
	// be deeper than a template.
	maxDepth = 16
	// maxDecoded bounds what is decoded of one segment, and room of all of them.
	maxDecoded = 128
	room       = 1024
)

// parts are a path's segments, decoded. They borrow from the path and from the
// parts themselves.
type parts struct {
	segments [maxDepth + 1][]byte // one more, to see that there is more
	n        int
	noPath   bool // `*`, or a host and port
	decoded  [room]byte
	used     int
}

// split takes a path apart.
func (p *parts) split(path []byte) {
	p.n, p.used, p.noPath = 0, 0, false
	if len(path) == 0 || path[0] != '/' {
		if path, p.noPath = afterHost(path); p.noPath {
			return
		}
	}
	for i := 0; i < len(path) && p.n < len(p.segments); {
		if path[i] == '/' {
			i++
			continue
		}
		from, cut := i, -1
		plain, end := true, false
		for i < len(path) && path[i] != '/' {
			if stops[path[i]] {
				switch c := path[i]; {
				case c == '%':
					plain = false
				case c == ';' && cut < 0:
					cut = i
				case c == '?', c == '#', c == '&' && isQuery(path[i+1:]):
					end = true
				}
				if end {
					break
				}
			}
			i++
		}
		if cut < 0 {
			cut = i
		}
		segment := path[from:cut]
		if !plain {
			segment = p.decode(segment)
		}
		if len(segment) > 0 {
			p.segments[p.n] = segment
			p.n++
		}
		if end {
			return
		}
	}
}

// stops has the bytes that mean something in a segment.
var stops = [256]bool{'%': true, '?': true, '#': true, '&': true, ';': true}

// afterHost is the path of a whole address. noPath tells that there is none.
func afterHost(path []byte) (_ []byte, noPath bool) {
	i := bytes.IndexAny(path, ":/?#")
	switch {
	case string(path) == anything:
		return nil, true
	case i <= 0 || path[i] != ':':
		return path, false
	case !bytes.HasPrefix(path[i:], []byte("://")):
		return nil, true
	}
	path = path[i+len("://"):]
	if i = bytes.IndexAny(path, "/?#"); i < 0 {
		return nil, false
	}
	return path[i:], false
}

// isQuery tells whether b, which stands behind a `&`, begins with a parameter: such
// is a query whose `?` was lost.
func isQuery(b []byte) bool {
	for i, c := range b[:min(len(b), maxStatic)] {
		switch {
		case c == '=':
			return i > 0
		case classes[c]&(lower|upper|digit|mark) == 0 && c != '[' && c != ']':
			return false
		}
	}
	return false
}

// decode decodes a segment's percent-encodings. One that is broken, or has no room,
// stays, and its `%` makes the segment a value. A decoded `;` ends it.
func (p *parts) decode(s []byte) []byte {
	if len(s) > maxDecoded || p.used+len(s) > room {
		return s
	}
	from := p.used
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) && isHex(s[i+1:i+3]) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
			if c == ';' {
				break
			}
		}
		p.decoded[p.used] = c
		p.used++
	}
	return p.decoded[from:p.used:p.used]
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
