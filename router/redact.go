package router

import (
	"net/netip"
	"strings"
)

// Redaction says which query values of a path are replaced.
type Redaction uint8

const (
	// RedactListed replaces the values of names that usually hold secrets.
	RedactListed Redaction = iota
	// RedactOff replaces none.
	RedactOff
	// RedactAll replaces every value.
	RedactAll
)

// FwdRedaction says what becomes of the client's addresses.
type FwdRedaction uint8

const (
	// FwdKeep keeps them.
	FwdKeep FwdRedaction = iota
	// FwdTruncate keeps the network: /24 of IPv4, /48 of IPv6.
	FwdTruncate
	// FwdDrop leaves them out.
	FwdDrop
)

// Redacted stands where a value was taken out.
const Redacted = "[REDACTED]"

// secretNames are the query parameters whose values are secrets, or lead to a
// person, in the form that fold gives to names.
var secretNames = []string{
	"token", "access_token", "id_token", "refresh_token", "auth_token", "csrf_token", "authenticity_token",
	"code", "state", "key", "api_key", "apikey", "secret", "client_secret", "client_assertion",
	"password", "passwd", "pwd", "passphrase", "otp", "auth", "authorization", "credential", "credentials",
	"jwt", "bearer", "session", "session_id", "sessionid", "jsessionid", "phpsessid", "sid", "email", "e_mail",
	"signature", "sig", "hmac", "private_key", "samlresponse", "samlrequest",
	"x_amz_signature", "x_amz_credential", "x_amz_security_token", "x_goog_signature", "x_goog_credential",
	"awsaccesskeyid", "googleaccessid",
}

// Redactor takes secrets out of paths and texts. It is not changed after New and
// safe for concurrent use.
type Redactor struct {
	mode  Redaction
	fwd   FwdRedaction
	names map[string]struct{}
}

// NewRedactor makes a Redactor; names are added to the list of secret names, in
// any case.
func NewRedactor(mode Redaction, fwd FwdRedaction, names []string) *Redactor {
	d := &Redactor{mode: mode, fwd: fwd, names: make(map[string]struct{})}
	for _, list := range [][]string{secretNames, names} {
		for _, name := range list {
			folded := make([]byte, 0, len(name))
			for i := 0; i < len(name); i++ {
				folded = append(folded, fold(name[i]))
			}
			d.names[strings.TrimSpace(string(folded))] = struct{}{}
		}
	}
	return d
}

// fold makes names comparable: any case, `-` as `_`, `+` as a space.
func fold(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '-':
		return '_'
	case c == '+':
		return ' '
	}
	return c
}

// text says what surrounds the parameters that are looked for.
type text uint8

const (
	inPath text = iota // a path to its end, spaces and quotes included
	inTail             // the same, but beginning inside a parameter that nobody saw
	inLine             // any text: a value ends at a space or a quote too
)

// redact appends b to dst without the values that are secrets. n counts them;
// open says that the last one reached b's end, so that what follows b may belong
// to it.
func (d *Redactor) redact(dst, b []byte, where text) (_ []byte, n int, open bool) {
	if d.mode == RedactOff {
		return append(dst, b...), 0, false
	}
	i, copied := 0, 0
	hide := func(from, to int) {
		dst = append(append(dst, b[copied:from]...), Redacted...)
		copied, i, open = to, to, true
		n++
	}
	if where == inTail {
		if end := valueEnd(b, 0, where); end > 0 {
			hide(0, end)
		}
	}
	atName := where == inLine // a name may stand at b's beginning
	for i < len(b) {
		all := false
		if !atName {
			c, width := unit(b, i)
			i += width
			if !isDelimiter(c) && (where != inLine || !isBlank(c)) {
				continue
			}
			all = d.mode == RedactAll && isDelimiter(c)
		}
		atName = false
		value, listed := d.name(b, i, where)
		switch {
		case value < 0:
			// A parameter without a value. Behind a secret it may be the rest
			// of it: the router logs `%26` as `&`.
			if open || all && where != inLine {
				if end := valueEnd(b, i, where); end > i {
					hide(i, end)
				}
			}
		case !listed && !all:
			open = false
			i = value
		default:
			open = false
			i = value
			if end := valueEnd(b, value, where); end > value {
				hide(value, end)
			}
		}
	}
	return append(dst, b[copied:]...), n, open && copied == len(b)
}

// name reads the parameter name at i: where its value begins (-1 without one) and
// whether the name is that of a secret. It is compared as a whole and by its
// parts, `a[token]` by `a` and `token`.
func (d *Redactor) name(b []byte, i int, where text) (value int, listed bool) {
	var whole, part [64]byte
	w, p := 0, 0
	match := func(name []byte) bool {
		for len(name) > 0 && name[0] == ' ' {
			name = name[1:]
		}
		for len(name) > 0 && name[len(name)-1] == ' ' {
			name = name[:len(name)-1]
		}
		_, ok := d.names[string(name)]
		return ok
	}
	for i < len(b) {
		c, width := unit(b, i)
		switch {
		case c == '=':
			listed = listed || p <= len(part) && match(part[:p]) || w <= len(whole) && match(whole[:w])
			return i + width, listed
		case isDelimiter(c), where == inLine && isBlank(c):
			return -1, false
		case c == '[', c == ']', c == '.':
			listed = listed || p <= len(part) && match(part[:p])
			p = 0
		default:
			if p < len(part) {
				part[p] = fold(c)
			}
			p++
		}
		if w < len(whole) {
			whole[w] = fold(c)
		}
		w++
		i += width
	}
	return -1, false
}

// secret tells whether key, as a router line writes it, is the name of a secret.
func (d *Redactor) secret(key []byte) bool {
	var folded [64]byte
	if d.mode == RedactOff || len(key) > len(folded) {
		return false
	}
	for i, c := range key {
		folded[i] = fold(c)
	}
	_, ok := d.names[string(folded[:len(key)])]
	return ok
}

// valueEnd finds where the value that begins at i ends. Only bytes that stand as
// they are end it: an encoded `&` belongs to it.
func valueEnd(b []byte, i int, where text) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '&', ';':
			return i
		case ' ', '"', '\'', '<', '>', '\t', '\r', '\n':
			if where == inLine {
				return i
			}
		}
	}
	return i
}

// unit is the character at i and how many bytes it takes: a percent-encoded one
// is decoded, up to three times over.
func unit(b []byte, i int) (c byte, width int) {
	c, width = b[i], 1
	for level := 0; c == '%' && level < 3; level++ {
		if i+width+2 > len(b) {
			break
		}
		hi, lo := unhex(b[i+width]), unhex(b[i+width+1])
		if hi > 15 || lo > 15 {
			break
		}
		c = hi<<4 | lo
		width += 2
	}
	return c, width
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

func isDelimiter(c byte) bool { return c == '?' || c == '&' || c == ';' || c == '#' }

func isBlank(c byte) bool {
	return c == ' ' || c == '"' || c == '\'' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == '<' || c == '>'
}

// plain tells whether b, a path, holds nothing that redact could find.
func plain(b []byte) bool {
	for _, c := range b {
		if mayDelimit[c] {
			return false
		}
	}
	return true
}

var mayDelimit = [256]bool{'?': true, '&': true, ';': true, '#': true, '%': true}

// AppendMalformed appends a message that could not be parsed to dst, redacted as
// far as it can be found where a path stands in it. n counts what was taken out.
func (d *Redactor) AppendMalformed(dst, b []byte) (_ []byte, n int) {
	if d.mode == RedactOff && d.fwd == FwdKeep {
		return append(dst, b...), 0
	}
	var p Parser
	var r Record
	start := 0
	for i := 0; i < len(b); i = nextSpace(b, i) + 1 {
		if isKeyAt(b, i) {
			if _, known := lookup(b[i : i+indexEq(b[i:])]); known {
				start = i
				break
			}
		}
	}
	p.Parse(&r, b[start:], false)
	dst, n, _ = d.redact(dst, b[:start], inLine)
	var m int
	dst, m = d.appendLine(dst, &r)
	return dst, n + m
}

func indexEq(b []byte) int {
	for i, c := range b {
		if c == '=' {
			return i
		}
	}
	return len(b)
}

// appendLine appends the whole line of r to dst, redacted.
func (d *Redactor) appendLine(dst []byte, r *Record) (_ []byte, n int) {
	var m int
	line := r.line
	dst, m, _ = d.redact(dst, line[:r.tail], inTail)
	n += m
	at := r.tail
	path, fwd := r.values[Path], r.values[Fwd]
	first, second := path, fwd
	if path.start > fwd.start {
		first, second = fwd, path
	}
	for _, s := range [2]span{first, second} {
		if s.end <= s.start || s.start < at {
			continue
		}
		dst, m, _ = d.redact(dst, line[at:s.start], inLine)
		n += m
		switch {
		case s == path:
			var open bool
			dst, m, open = d.redact(dst, line[s.start:s.end], inPath)
			n += m
			if open && r.loose { // what follows may be the secret's rest
				return append(dst, Redacted...), n
			}
		default:
			dst = d.appendFwd(dst, line[s.start:s.end])
		}
		at = s.end
	}
	dst, m, _ = d.redact(dst, line[at:], inLine)
	return dst, n + m
}

// appendFwd appends the addresses of an X-Forwarded-For to dst as FwdRedaction
// wants them. Under FwdTruncate what is no address is left out.
func (d *Redactor) appendFwd(dst, b []byte) []byte {
	switch d.fwd {
	case FwdKeep:
		return append(dst, b...)
	case FwdDrop:
		return dst
	}
	begin := len(dst)
	for field := range strings.SplitSeq(string(b), ",") {
		field = strings.TrimSpace(field)
		addr, err := netip.ParseAddr(field)
		if err != nil {
			port, err := netip.ParseAddrPort(field)
			if err != nil {
				continue
			}
			addr = port.Addr()
		}
		addr = addr.Unmap().WithZone("")
		bits := 48
		if addr.Is4() {
			bits = 24
		}
		network, _ := addr.Prefix(bits) // bits fit the address
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = network.Addr().AppendTo(dst)
	}
	return dst
}
