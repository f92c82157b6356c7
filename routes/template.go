// Package routes names the routes of request paths: `/users/42?page=2` is one of
// `/users/:id`. The names are of bounded number and length, whatever clients ask
// for: the user's own rules come first, then each segment that is a value reads
// `:id`, then a segment with too many children reads `*`, and what is still too
// much is `other`.
//
// A writer asks a Table for each record; a reader puts together what several
// writers counted with Fold. There is no clock, no goroutine and no I/O here.
package routes

import "bytes"

const (
	// maxSegments is how many segments a template has: of a deeper path the
	// eighth reads `*` and stands for all that follow.
	maxSegments = 8
	// maxTemplate bounds a template in bytes; from the segment that goes beyond
	// it reads `*`.
	maxTemplate = 200
	// maxStatic is the longest segment, in bytes, that is not taken for a value.
	maxStatic = 64
)

const (
	value    = ":id" // stands for every kind of value, so that folded routes meet
	anything = "*"
)

// AppendTemplate appends the template of path to dst: what a Table calls a path's
// route where no rule matches and nothing is folded. It has at most 200 bytes, is
// valid UTF-8, and begins with a slash but for `*`, which stands for all that is no
// path: `OPTIONS *` and the host and port of CONNECT.
//
// Path is as the router logged it: the query, the fragment, the parameters behind a
// `;` and empty segments do not count, and of a whole address only the path.
// Percent-encodings are decoded. It allocates; a Table does not.
func AppendTemplate(dst, path []byte) []byte {
	var p parts
	p.split(path)
	return p.appendTemplate(dst)
}

func (p *parts) appendTemplate(dst []byte) []byte {
	if p.noPath {
		return append(dst, anything...)
	}
	if p.n == 0 {
		return append(dst, '/')
	}
	start := len(dst)
	for i, segment := range p.segments[:p.n] {
		dst = append(dst, '/')
		before := len(dst)
		if i == maxSegments-1 && p.n > maxSegments {
			return append(dst, anything...)
		}
		if dst = appendSegment(dst, segment, p.place(i)); len(dst)-before > maxStatic {
			dst = append(dst[:before], value...)
		}
		if len(dst)-start > maxTemplate-len("/*") {
			return append(dst[:before], anything...)
		}
	}
	return dst
}

// place is where a segment stands, as far as it matters: the same number is a
// version behind `api`, and a page for an error when it stands alone.
type place uint8

const (
	inside place = iota
	alone
	first
	afterAPI
)

func (p *parts) place(i int) place {
	switch last := i == p.n-1; {
	case i == 0 && last:
		return alone
	case i == 0:
		return first
	case !last && string(p.segments[i-1]) == "api":
		return afterAPI
	}
	return inside
}

// The classes of bytes in a segment.
const (
	lower uint8 = 1 << iota
	upper
	digit
	mark  // what joins words
	punct // what else a segment may have
	high  // not ASCII
	odd   // what no route has
)

var classes = func() (c [256]uint8) {
	for i := range c {
		switch b := byte(i); {
		case b >= 'a' && b <= 'z':
			c[i] = lower
		case b >= 'A' && b <= 'Z':
			c[i] = upper
		case b >= '0' && b <= '9':
			c[i] = digit
		case bytes.IndexByte([]byte("-_.~"), b) >= 0:
			c[i] = mark
		case bytes.IndexByte([]byte("!$&'()*+,=:@"), b) >= 0:
			c[i] = punct
		case b >= 0x80:
			c[i] = high
		default:
			c[i] = odd
		}
	}
	return c
}()

// appendSegment appends what a segment reads in a template. The segment is not
// empty and decoded.
func appendSegment(dst, s []byte, at place) []byte {
	var has uint8
	for _, c := range s[:min(len(s), maxStatic+1)] {
		has |= classes[c]
	}
	if has&^(lower|mark) == 0 && len(s) <= maxStatic { // most are
		if s[0] == '~' && len(s) > 1 {
			return append(dst, "~:id"...)
		}
		if isHex(s) && len(s) >= 8 {
			return append(dst, value...)
		}
		return append(dst, s...)
	}
	if len(s) > maxStatic || has&odd != 0 || has&high != 0 && !isPrintable(s) {
		return appendOdd(dst, s)
	}
	switch {
	case has&punct != 0 && bytes.Contains(s, []byte(value)):
		return append(dst, s...) // a template's
	case string(s) == anything, s[0] == ':':
		return append(dst, value...)
	case (s[0] == '@' || s[0] == '~') && len(s) > 1:
		return append(append(dst, s[0]), value...)
	case has&^digit == 0:
		if at == alone && isErrorPage(s) || at == afterAPI && len(s) == 1 {
			return append(dst, s...)
		}
		return append(dst, value...)
	}
	name, end := extension(s)
	if len(end) > 0 {
		return appendFile(dst, name, end)
	}
	if has&punct != 0 {
		return appendPunctuated(dst, s)
	}
	if (at == afterAPI || at == first) && isShortDecimal(s) {
		return append(dst, s...)
	}
	if isValue(s) {
		return append(dst, value...)
	}
	return append(dst, s...)
}

// redacted is what router.Redacted writes over secrets.
const redacted = "[REDACTED]"

// appendOdd is for segments that are too long for a name or have bytes that none
// has: spaces, brackets, quotes, encoded slashes, broken UTF-8.
func appendOdd(dst, s []byte) []byte {
	if i := bytes.Index(s, []byte(redacted)); i > 0 && i <= maxStatic && isPlain(s[:i]) {
		return append(append(dst, s[:i]...), value...)
	}
	name, end := extension(s)
	if len(end) > 0 && len(s) <= maxDecoded && has(s)&(odd|high) == 0 { // a long digest behind a name
		start := len(dst)
		if dst = appendFile(dst, name, end); len(dst)-start <= maxStatic {
			return dst
		}
		dst = dst[:start]
	}
	return append(append(dst, value...), end...)
}

// isPlain tells whether s is a name, perhaps with a `=`.
func isPlain(s []byte) bool {
	for _, c := range s {
		if classes[c]&(lower|upper) == 0 && c != '_' && c != '-' && c != '=' {
			return false
		}
	}
	return true
}

// appendPunctuated is for segments with other signs than those which join words.
func appendPunctuated(dst, s []byte) []byte {
	if i := bytes.IndexByte(s, ':'); i >= 0 {
		head, tail := s[:i], s[i+1:]
		switch {
		case isValue(head) && len(tail) > 0 && has(tail)&^(lower|upper) == 0: // 42:archive
			return append(append(dst, value...), s[i:]...)
		case isValue(tail) && len(head) <= 16 && has(head)&^(lower|upper|mark) == 0: // room:42
			return append(append(append(dst, head...), ':'), value...)
		}
	}
	if i := bytes.IndexByte(s, '('); i > 0 && s[len(s)-1] == ')' { // Products(42)
		if inner := s[i+1 : len(s)-1]; has(inner)&digit != 0 || bytes.IndexByte(inner, '\'') >= 0 {
			return append(append(append(append(dst, s[:i]...), '('), value...), ')')
		}
	}
	if i := bytes.IndexByte(s, '@'); i > 0 && i < len(s)-1 { // an address; react@18.2.0
		return append(dst, value...)
	}
	if has(s)&digit != 0 && (bytes.IndexByte(s, ',') >= 0 || bytes.IndexByte(s, ':') >= 0) { // coordinates, lists, IPv6
		return append(dst, value...)
	}
	if isValue(bytes.TrimRight(s, "=")) || len(s) >= 8 && s[len(s)-1] == '=' && bytes.IndexByte(s, '=') >= len(s)-2 {
		return append(dst, value...)
	}
	return append(dst, s...)
}

// appendFile is for files: the digest in a name is folded, and names that are values.
func appendFile(dst, name, end []byte) []byte {
	switch {
	case isDigits(name) && isErrorPage(name) && string(end) == ".html":
		return append(append(dst, name...), end...)
	case len(name) > 3 && name[len(name)-3] == '@' && classes[name[len(name)-2]] == digit && name[len(name)-1] == 'x': // hero@2x.png
		dst = appendFile(dst, name[:len(name)-3], nil)
		return append(append(dst, name[len(name)-3:]...), end...)
	case isNumeric(name) || has(name)&(lower|upper) == 0 || isUUID(name) || isNumbered(name) && !isBuilt(end) || isReference(name):
		return append(append(dst, value...), end...)
	case has(name)&punct != 0 && bytes.IndexByte(name, '@') > 0:
		return append(append(dst, value...), end...)
	}
	// A digest of eight characters may have a - or _ in it (Vite).
	if n := len(name) - 8; n > 1 && (name[n-1] == '-' || name[n-1] == '.') && isShortDigest(name[n:]) {
		return append(append(append(dst, name[:n]...), value...), end...)
	}
	start := len(dst)
	for i := 0; i < len(name); {
		j := i
		for j < len(name) && classes[name[j]]&(lower|upper|digit|high) != 0 {
			j++
		}
		if r := name[i:j]; isDigest(r) {
			dst = append(dst, value...)
		} else {
			dst = append(dst, r...)
		}
		for j < len(name) && classes[name[j]]&(lower|upper|digit|high) == 0 {
			dst = append(dst, name[j])
			j++
		}
		i = j
	}
	if folded := dst[start:]; bytes.Count(folded, []byte(value)) > 1 {
		dst = append(dst[:start], value...)
	}
	return append(dst, end...)
}
