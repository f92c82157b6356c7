package router

import (
	"math"
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

	clip  int    // most bytes of one value, 0 for no bound
	room  int    // where the record must end, once clip is at its smallest
	short bool   // something was left out or cut off
	path  []byte // the path as the last record has it
	shown int    // bytes of the last line that may be shown
	buf   []byte // what redaction needs
}

// smallestClip is the clip at which fields that do not fit are left out.
const smallestClip = 8

// Append appends r to dst as one JSON object, without a newline; env begins it.
// index and micros are Envelope.Append's.
func (e *Encoder) Append(dst []byte, env *Envelope, r *Record, index int, micros int64, hasTime bool) []byte {
	begin, before := len(dst), e.Redactions
	e.clip, e.room = 0, math.MaxInt
	for {
		e.path, e.shown, e.short = nil, 0, e.clip > 0
		dst = env.Append(dst[:begin], index, micros, hasTime)
		if r.Readable() {
			dst = e.appendFields(dst, r)
		} else {
			dst = e.appendUnreadable(dst, r)
		}
		if e.Limit <= 0 || len(dst)-begin <= e.Limit || e.room < math.MaxInt {
			return dst
		}
		e.Redactions = before
		switch {
		case e.clip == 0:
			e.clip = e.Limit / 2
		case e.clip > smallestClip:
			e.clip = max(e.clip/4, smallestClip)
		default:
			e.room = begin + e.Limit - len(truncated) - len("}")
		}
	}
}

const truncated = `,"truncated":true`

// Path is the path of the record that was last appended, redacted but not
// escaped. It is valid until the next Append.
func (e *Encoder) Path() []byte { return e.path }

// Visible is the value of k in the record that was last appended, r, whole even
// where the record has only its beginning. It is empty where the record leaves it
// out because it may be the rest of a secret.
func (e *Encoder) Visible(r *Record, k Key) []byte {
	if r.values[k].end > e.shown {
		return nil
	}
	return r.Value(k)
}

// Shortened tells whether something was cut off the record that was last
// appended, or left out of it.
func (e *Encoder) Shortened() bool { return e.short }

func (e *Encoder) appendUnreadable(dst []byte, r *Record) []byte {
	if e.short {
		dst = append(dst, truncated...)
	}
	return append(e.appendRaw(dst, r), '}')
}

func (e *Encoder) appendFields(dst []byte, r *Record) []byte {
	before := e.Redactions
	visible := e.Redactor.visible(r)
	e.shown = visible
	e.short = e.short || visible < len(r.line)
	var odd uint32 // bit k: the value of Key k is not what it should hold
	for k := range fields {
		s := r.values[k]
		if s.start == s.end || s.end > visible && (Key(k) != Path || s.start >= visible) {
			continue
		}
		f, value, mark := &fields[k], r.line[s.start:s.end], len(dst)
		switch f.kind {
		case isString:
			dst = e.appendString(append(dst, f.json...), value)
		case isPath:
			e.path = e.redactPath(value)
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
			value, ok := number(value)
			if !ok {
				odd |= 1 << k
				continue
			}
			dst = append(append(dst, f.json...), value...)
		case isBool:
			switch string(value) {
			case "true", "false":
				dst = append(append(dst, f.json...), value...)
			default:
				odd |= 1 << k
			}
		}
		if len(dst) > e.room {
			dst = dst[:mark]
		}
	}
	if odd != 0 || len(r.extra) > 0 {
		dst = e.appendExtra(dst, r, odd, visible)
	}
	if r.Truncated || e.short {
		dst = append(dst, truncated...)
	}
	if (r.Forged || r.spill) && e.clip == 0 {
		counted := e.Redactions
		e.Redactions = before
		dst = e.appendRaw(dst, r) // what was counted stands in it once more
		e.Redactions = max(e.Redactions, counted)
	}
	return append(dst, '}')
}

// redactPath is the path as a record may hold it.
func (e *Encoder) redactPath(path []byte) []byte {
	if e.Redactor.mode == RedactOff || plain(path) {
		return path
	}
	var n int
	e.buf, n = e.Redactor.redact(e.buf[:0], path, inPath)
	e.Redactions += n
	return e.buf
}

// appendExtra writes the keys that have no place of their own, and the values
// that are not what their key should hold. What ends behind visible is left out.
func (e *Encoder) appendExtra(dst []byte, r *Record, odd uint32, visible int) []byte {
	begin := len(dst)
	dst = append(dst, `,"extra":{`...)
	first := len(dst)
	write := func(x pair) {
		if x.value.end > visible || e.clip > 0 && len(x.key) > e.clip {
			e.short = true
			return
		}
		value := r.line[x.value.start:x.value.end]
		var secret, holds bool
		if x.name.end > 0 {
			secret, holds = e.Redactor.judge(r.line[x.name.start:min(x.name.end+1, len(r.line))])
		}
		switch {
		case holds:
			e.short = true
			e.Redactions++
			return
		case secret && len(value) > 0:
			e.Redactions++
			value = []byte(Redacted)
		case !plain(value):
			hidden, n := e.Redactor.redact(nil, value, inLine)
			e.Redactions += n
			value = hidden
		}
		mark := len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, x.key), ':')
		if dst = e.appendString(dst, value); len(dst) >= e.room {
			dst = dst[:mark]
		}
	}
	for k := range fields {
		if odd&(1<<k) != 0 {
			write(pair{key: []byte(fields[k].key), value: r.values[k]})
		}
	}
	for _, x := range r.extra {
		write(x)
	}
	if len(dst) == first {
		return dst[:begin]
	}
	return append(dst, '}')
}

// appendRaw writes the line itself, as much of it as clip allows.
func (e *Encoder) appendRaw(dst []byte, r *Record) []byte {
	line := r.line
	if e.Redactor.mode != RedactOff || e.Redactor.fwd != FwdKeep {
		var n int
		line, n = e.Redactor.appendLine(nil, r)
		e.Redactions += n
	}
	return e.appendString(append(dst, `,"raw":`...), line)
}

// appendString writes s, or as much of it as clip allows.
func (e *Encoder) appendString(dst, s []byte) []byte {
	if e.clip > 0 && len(s) > e.clip {
		n := e.clip
		for n > 0 && n > e.clip-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return AppendString(dst, s)
}

// number reads a whole number of at most 18 digits, which fits every consumer's
// 64 bits, and gives it without zeros in front.
func number(b []byte) (digits []byte, ok bool) {
	if len(b) == 0 || len(b) > maxDigits {
		return nil, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return nil, false
		}
	}
	for len(b) > 1 && b[0] == '0' {
		b = b[1:]
	}
	return b, true
}

const maxDigits = 18
