package router

import (
	"strconv"
	"unicode/utf8"
)

// kind says how a field's value is written.
type kind uint8

const (
	isString kind = iota
	isPath
	isFwd
	isMillis
	isNumber
	isBool
)

// fields gives each Key its place in the JSON, in order.
var fields = [numKeys]struct {
	json string
	kind kind
	key  string // as the line writes it
}{
	At:         {`,"at":`, isString, "at"},
	Code:       {`,"code":`, isString, "code"},
	Desc:       {`,"desc":`, isString, "desc"},
	Sock:       {`,"sock":`, isString, "sock"},
	Cause:      {`,"cause":`, isString, "cause"},
	Method:     {`,"method":`, isString, "method"},
	Path:       {`,"path":`, isPath, "path"},
	Host:       {`,"host":`, isString, "host"},
	RequestID:  {`,"request_id":`, isString, "request_id"},
	Fwd:        {`,"fwd":`, isFwd, "fwd"},
	Dyno:       {`,"dyno":`, isString, "dyno"},
	Connect:    {`,"connect_ms":`, isMillis, "connect"},
	Service:    {`,"service_ms":`, isMillis, "service"},
	Status:     {`,"status":`, isNumber, "status"},
	Bytes:      {`,"bytes":`, isNumber, "bytes"},
	Protocol:   {`,"protocol":`, isString, "protocol"},
	TLSVersion: {`,"tls_version":`, isString, "tls_version"},
	Agent:      {`,"agent":`, isString, "agent"},
	TLS:        {`,"tls":`, isBool, "tls"},
}

// Encoder writes Records as JSON. It is not for concurrent use.
type Encoder struct {
	// Redactor takes the secrets out. It must be set.
	Redactor *Redactor
	// Limit is the largest record in bytes, 0 for none. A larger one is
	// shortened, value by value, and says so with `truncated`.
	Limit int
	// Redactions counts the values that were taken out.
	Redactions int

	clip    int    // most bytes of one value, 0 for no bound
	clipped bool   // something was cut off
	path    []byte // the path as the last record has it
	buf     []byte // what redaction needs
}

// Append appends r to dst as one JSON object, without a newline; env begins it.
// index and micros are Envelope.Append's.
func (e *Encoder) Append(dst []byte, env *Envelope, r *Record, index int, micros int64, hasTime bool) []byte {
	begin, before := len(dst), e.Redactions
	e.clip, e.clipped = 0, false
	for {
		dst = env.Append(dst[:begin], index, micros, hasTime)
		dst = e.appendFields(dst, r)
		if e.Limit <= 0 || len(dst)-begin <= e.Limit || e.clip == 1 {
			return dst
		}
		e.Redactions = before
		switch {
		case e.clip == 0:
			e.clip = e.Limit / 2
		default:
			e.clip = max(e.clip/4, 1)
		}
	}
}

// Path is the path of the record that was last appended, redacted but not
// escaped. It is valid until the next Append.
func (e *Encoder) Path() []byte { return e.path }

// Shortened tells whether something was cut off the record that was last appended.
func (e *Encoder) Shortened() bool { return e.clipped || e.clip > 0 }

func (e *Encoder) appendFields(dst []byte, r *Record) []byte {
	if !r.Readable() {
		if dst = e.appendRaw(dst, r); e.clipped {
			dst = append(dst, `,"truncated":true`...)
		}
		return append(dst, '}')
	}
	var open bool
	e.path, open = e.redactPath(r.Value(Path))
	end := len(r.line) + 1 // what begins behind it is left out
	if open && r.loose {
		// Nothing says where the path ends, so that what follows it may be the
		// rest of the secret.
		end = r.values[Path].start
		e.clipped = true
	}
	var odd uint32 // bit k: the value of Key k is not what it should hold
	for k := range fields {
		value := r.Value(Key(k))
		if len(value) == 0 || r.values[k].start > end {
			continue
		}
		f := &fields[k]
		switch f.kind {
		case isString:
			dst = e.appendString(append(dst, f.json...), value)
		case isPath:
			dst = e.appendString(append(dst, f.json...), e.path)
		case isFwd:
			if e.Redactor.fwd != FwdKeep {
				value = e.Redactor.appendFwd(nil, value)
			}
			if len(value) > 0 {
				dst = e.appendString(append(dst, f.json...), value)
			}
		case isMillis, isNumber:
			if n := len(value); f.kind == isMillis && n > 2 && value[n-2] == 'm' && value[n-1] == 's' {
				value = value[:n-2]
			}
			n, ok := number(value)
			if !ok {
				odd |= 1 << k
				continue
			}
			dst = strconv.AppendInt(append(dst, f.json...), n, 10)
		case isBool:
			switch string(value) {
			case "true", "false":
				dst = append(append(dst, f.json...), value...)
			default:
				odd |= 1 << k
			}
		}
	}
	if odd != 0 || len(r.extra) > 0 {
		dst = e.appendExtra(dst, r, odd, end)
	}
	if r.Truncated || e.Shortened() {
		dst = append(dst, `,"truncated":true`...)
	}
	if (r.Forged || r.spill) && e.clip == 0 {
		dst = e.appendRaw(dst, r)
	}
	return append(dst, '}')
}

// redactPath is the path as a record may hold it; open says that it ends in a
// value that was taken out.
func (e *Encoder) redactPath(path []byte) (_ []byte, open bool) {
	if e.Redactor.mode == RedactOff || plain(path) {
		return path, false
	}
	var n int
	e.buf, n, open = e.Redactor.redact(e.buf[:0], path, inPath)
	e.Redactions += n
	return e.buf, open
}

// appendExtra writes the keys that have no place of their own, and the values
// that are not what their key should hold. What begins behind end is left out.
func (e *Encoder) appendExtra(dst []byte, r *Record, odd uint32, end int) []byte {
	begin := len(dst)
	dst = append(dst, `,"extra":{`...)
	first := len(dst)
	write := func(key, value []byte) {
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(e.appendString(dst, key), ':')
		if len(value) > 0 && e.Redactor.secret(key) {
			e.Redactions++
			value = []byte(Redacted)
		} else if !plain(value) {
			hidden, n, _ := e.Redactor.redact(nil, value, inLine)
			e.Redactions += n
			value = hidden
		}
		dst = e.appendString(dst, value)
	}
	for k := range fields {
		if odd&(1<<k) != 0 {
			write([]byte(fields[k].key), r.Value(Key(k)))
		}
	}
	for _, x := range r.extra {
		if x.at <= end {
			write(x.key, x.value)
		}
	}
	if len(dst) == first {
		return dst[:begin]
	}
	return append(dst, '}')
}

// appendRaw writes the line itself.
func (e *Encoder) appendRaw(dst []byte, r *Record) []byte {
	dst = append(dst, `,"raw":`...)
	if e.Redactor.mode == RedactOff && e.Redactor.fwd == FwdKeep {
		return e.appendString(dst, r.line)
	}
	line, n := e.Redactor.appendLine(nil, r)
	e.Redactions += n
	return e.appendString(dst, line)
}

// appendString writes s, or as much of it as clip allows.
func (e *Encoder) appendString(dst, s []byte) []byte {
	if e.clip > 0 && len(s) > e.clip {
		n := e.clip
		for n > 0 && n > e.clip-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
		e.clipped = true
	}
	return AppendString(dst, s)
}

// number reads a whole number of at most 18 digits, which fits every consumer's
// 64 bits.
func number(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
