package router

import (
	"bytes"
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
	"accesstoken", "idtoken", "refreshtoken", "authtoken", "csrftoken", "sessiontoken", "clientsecret", "privatekey", "accesskey",
}

// maxName is how much of a name is compared: of a longer one the beginning.
const maxName = 64

// Redactor takes secrets out of paths and texts. It is not changed after New and
// safe for concurrent use.
type Redactor struct {
	mode  Redaction
	fwd   FwdRedaction
	names map[string]struct{}
	// sizes has bit n of the first letter set where a name of n bytes begins with
	// it: nearly no other name has to be looked for.
	sizes [256]uint64
}

// NewRedactor makes a Redactor; names are added to the list of secret names, in
// any case.
func NewRedactor(mode Redaction, fwd FwdRedaction, names []string) *Redactor {
	d := &Redactor{mode: mode, fwd: fwd, names: make(map[string]struct{})}
	for _, list := range [][]string{secretNames, names} {
		for _, name := range list {
			folded := []byte(strings.TrimSpace(name))
			for i, c := range folded {
				folded[i] = fold(c)
			}
			if folded = folded[:min(len(folded), maxName)]; len(folded) > 0 {
				d.names[string(folded)] = struct{}{}
				d.sizes[folded[0]] |= 1 << (len(folded) % 64)
			}
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

// redact appends b to dst without the values that are secrets. n counts them.
func (d *Redactor) redact(dst, b []byte, where text) (_ []byte, n int) {
	f := d.find(b, where)
	copied := 0
	for f.next() {
		if !f.rest {
			dst = append(append(dst, b[copied:f.from]...), Redacted...)
			n++
		}
		copied = f.to
	}
	return append(dst, b[copied:]...), n
}

// finder finds the stretches of b that are to be hidden, one after another.
type finder struct {
	*Redactor
	b        []byte
	where    text
	from, to int  // the stretch that was found; the search goes on at to
	rest     bool // it belongs to the stretch before it
	atName   bool // a name may stand at to
	open     bool // a secret came last: what has no name belongs to it
	hidden   bool // something of that secret was found
}

func (d *Redactor) find(b []byte, where text) finder {
	if d.mode == RedactOff {
		b = nil
	}
	return finder{Redactor: d, b: b, where: where, atName: where == inLine, open: where == inTail}
}

// next finds the next stretch.
func (f *finder) next() bool {
	i := f.to
	if i == 0 && f.where == inTail {
		if end := f.valueEnd(0); end > 0 {
			f.to, f.hidden = end, true
			return true
		}
	}
	for i < len(f.b) {
		all := false
		if !f.atName {
			if f.where != inLine {
				if i = nextDelimiter(f.b, i); i == len(f.b) {
					break
				}
			}
			c, width := unit(f.b, i)
			i += width
			if !isDelimiter(c) && (f.where != inLine || !isBlank(c)) {
				continue
			}
			all = f.mode == RedactAll && isDelimiter(c)
		}
		f.atName = false
		from := i
		switch value, listed := f.name(i); {
		case value >= 0 && (!f.open || isName(f.b[i:value])):
			f.open, f.hidden = listed || all, false
			i, from = value, value
		case all && f.where != inLine:
			f.open = true
		}
		// What is no `name=` may, behind a secret, be the rest of it: the router
		// logs `%26` as `&`.
		if f.open {
			if end := f.valueEnd(from); end > from {
				f.from, f.to, f.rest, f.hidden = from, end, f.hidden, true
				return true
			}
		}
	}
	f.to = len(f.b)
	return false
}

// isName tells whether b is a parameter's name and `=`, as a client writes them.
func isName(b []byte) bool {
	return b[len(b)-1] == '=' && bytes.IndexByte(b, ' ') < 0 && bytes.IndexByte(b, '"') < 0
}

// name reads the parameter name at i: where its value begins (-1 without one) and
// whether the name is that of a secret. It is compared as a whole and by its
// parts, `a[token]` by `a` and `token`.
func (f *finder) name(i int) (value int, listed bool) {
	end := i
	for end < len(f.b) && usualInName[f.b[end]] {
		end++
	}
	if size := end - i; size > 0 && size < maxName && end < len(f.b) && f.b[end] == '=' {
		return end + 1, f.isUsualSecret(f.b[i:end])
	}
	return f.anyName(i)
}

// isUsualSecret is isSecret for a name of usual bytes that is not folded, and is
// shorter than maxName.
func (d *Redactor) isUsualSecret(name []byte) bool {
	if d.sizes[fold(name[0])]&(1<<len(name)) == 0 {
		return false
	}
	var folded [maxName]byte
	for i, c := range name {
		folded[i] = fold(c)
	}
	_, ok := d.names[string(folded[:len(name)])]
	return ok
}

// anyName is name's way with whatever is no usual name.
func (f *finder) anyName(i int) (value int, listed bool) {
	var whole, part [maxName]byte
	w, p := 0, 0
	for i < len(f.b) {
		c, width := unit(f.b, i)
		switch {
		case c == '=':
			return i + width, listed || f.isSecret(part[:p]) || f.isSecret(whole[:w])
		case isDelimiter(c), f.where == inLine && isBlank(c):
			return -1, false
		case c == '[', c == ']', c == '.':
			listed = listed || f.isSecret(part[:p])
			p = 0
		case p < len(part):
			part[p] = fold(c)
			p++
		}
		if w < len(whole) {
			whole[w] = fold(c)
			w++
		}
		i += width
	}
	return -1, false
}

// isBlankInName has what frameworks take off a name, or do not see in it.
var isBlankInName = [256]bool{' ': true, 0: true, '\t': true, '\n': true, '\v': true, '\f': true, '\r': true}

// isSecret tells whether name, folded, is listed.
func (d *Redactor) isSecret(name []byte) bool {
	for len(name) > 0 && isBlankInName[name[0]] {
		name = name[1:]
	}
	for len(name) > 0 && isBlankInName[name[len(name)-1]] {
		name = name[:len(name)-1]
	}
	_, ok := d.names[string(name)]
	return ok
}

// judge looks at the key of a pair, with the `=` behind it: secret tells whether
// its value is one, holds whether one stands in the key itself.
func (d *Redactor) judge(key []byte) (secret, holds bool) {
	f := d.find(key, inLine)
	for f.next() {
		holds = true
	}
	return f.open, holds
}

// valueEnd finds where the value that begins at i ends. Only bytes that stand as
// they are end it: an encoded `&` belongs to it.
func (f *finder) valueEnd(i int) int {
	if f.where != inLine {
		for i < len(f.b) && f.b[i] != '&' && f.b[i] != ';' {
			i++
		}
		return i
	}
	if i < len(f.b) && f.b[i] == '"' {
		if n := bytes.IndexByte(f.b[i+1:], '"'); n >= 0 {
			return i + n + 2
		}
		return len(f.b)
	}
	for i < len(f.b) && !endsInLine[f.b[i]] {
		i++
	}
	return i
}

// maxEncoded is how many times over a character may be percent-encoded.
const maxEncoded = 3

// unit is the character at i, decoded, and how many bytes it takes.
func unit(b []byte, i int) (c byte, width int) {
	if c = b[i]; c != '%' {
		return c, 1
	}
	return decode(b, i, maxEncoded)
}

// decode is unit's way with what is encoded: each of the three characters of
// `%74` may stand in the same form, one time less.
func decode(b []byte, i, times int) (c byte, width int) {
	if b[i] != '%' || times == 0 {
		return b[i], 1
	}
	c, width = decode(b, i, times-1)
	if c != '%' || i+width+2 > len(b) {
		return c, width
	}
	hi, n := decode(b, i+width, times-1)
	if i+width+n >= len(b) || unhex(hi) > 15 {
		return c, width
	}
	lo, m := decode(b, i+width+n, times-1)
	if unhex(lo) > 15 {
		return c, width
	}
	return unhex(hi)<<4 | unhex(lo), width + n + m
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
func plain(b []byte) bool { return nextDelimiter(b, 0) == len(b) }

// nextDelimiter is the place of the first byte at or after i at which a delimiter
// may begin, or b's end.
func nextDelimiter(b []byte, i int) int {
	for i+8 <= len(b) {
		stops := pathStops(word(b, i))
		if stops == 0 {
			i += 8
			continue
		}
		if i += firstMark(stops); mayDelimit[b[i]] {
			return i
		}
		i++
	}
	for i < len(b) && !mayDelimit[b[i]] {
		i++
	}
	return i
}

var mayDelimit = [256]bool{'?': true, '&': true, ';': true, '#': true, '%': true}

// usualInName has the bytes of usual names, which stand for themselves.
var usualInName = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") {
		t[c] = true
	}
	return t
}()

var endsInLine = [256]bool{
	'&': true, ';': true, ' ': true, '"': true, '\'': true, '<': true, '>': true, '\t': true, '\r': true, '\n': true,
}

// AppendMalformed appends a message that could not be parsed to dst, redacted as
// far as it can be found where a path stands in it. n counts what was taken out.
func (d *Redactor) AppendMalformed(dst, b []byte) (_ []byte, n int) {
	if d.mode == RedactOff && d.fwd == FwdKeep {
		return append(dst, b...), 0
	}
	start := 0
	if quote, _ := closePath(b, 0); quote < 0 || hasPath(b[:quote]) {
		for !beginsWithKey(b[start:]) {
			n := nextKnown(b, start)
			if n < 0 {
				return d.redact(dst, b, inLine)
			}
			start = n + 1
		}
	} // else it is the rest of a line that was cut in its path
	var p Parser
	var r Record
	p.Parse(&r, b[start:], false)
	r.loose = r.loose || !r.anchored // it may have been cut, for all we know
	dst, n = d.redact(dst, b[:start], inLine)
	dst, m := d.appendLine(dst, &r)
	return dst, n + m
}

// appendLine appends the whole line of r to dst, redacted.
func (d *Redactor) appendLine(dst []byte, r *Record) (_ []byte, n int) {
	end := d.visible(r)
	at := 0
	part := func(to int, where text) {
		if to = min(to, end); to > at {
			var m int
			dst, m = d.redact(dst, r.line[at:to], where)
			n, at = n+m, to
		}
	}
	if d.fwd != FwdKeep && r.tail > 0 { // it may be the rest of a fwd
		dst = append(dst, Redacted...)
		n, at = n+1, min(r.tail, end)
	}
	part(r.tail, inTail)
	for s := r.scan(); s.next(); {
		switch s.key {
		case Path:
			part(s.value.start, inLine)
			part(s.value.end, inPath)
		case Code: // a secret's name, but not here
			if s.value.end <= end && isCode(r.line[s.value.start:s.value.end]) {
				part(s.name.start, inLine)
				dst = append(dst, r.line[at:s.value.end]...)
				at = s.value.end
			}
		case Fwd:
			if part(s.value.start, inLine); s.value.start < end {
				at = min(s.value.end, end)
				dst = d.appendFwd(dst, r.line[s.value.start:at])
			}
		}
	}
	part(len(r.line), inLine)
	if end < len(r.line) {
		dst = append(dst, Redacted...)
		n++
	}
	return dst, n
}

// isCode tells whether b is what the router writes behind `code=`: H12.
func isCode(b []byte) bool {
	return len(b) == 3 && b[0] >= 'A' && b[0] <= 'Z' && b[1]-'0' < 10 && b[2]-'0' < 10
}

// visible is where a line must end to the reader's eyes. Where the line may have
// been cut in its path, the secret in which the path seems to end may go on in
// what looks like the keys behind it.
func (d *Redactor) visible(r *Record) int {
	path, where := r.firstPath, inPath
	if r.tail > 0 {
		path, where = span{0, r.tail}, inTail
	}
	if r.loose && path.end > 0 {
		for f := d.find(r.line[path.start:], where); f.next(); {
			if path.start+f.to > path.end {
				return path.start + f.from
			}
		}
	}
	return len(r.line)
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
