package router

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Request is a record as consumers read it back from the topic: what this package
// wrote, or what another producer wrote in the same shape. Values that the record
// does not have are empty, numbers -1.
type Request struct {
	// These borrow from the record, or from the Decoder where the JSON had escapes:
	// both end with the next Decode. They may be any text.
	ID, Drain, App, At, Code, Method, Path, Host, RequestID, Fwd, Dyno []byte

	Time             int64 // microseconds since 1970 UTC, in the years 0 to 9999, or NoTime
	Connect, Service int64 // milliseconds
	Status, Bytes    int64

	// Truncated tells that the router's line was cut, Raw that the record carries the line,
	// because some of it is forged or nothing could be read.
	Truncated, Raw bool
}

// NoTime is the Time of a record that has none, since its line had none.
const NoTime = math.MinInt64

// ErrNotJSON and ErrShape are what Decode fails with: the record is not a JSON
// object, or not a router record.
var (
	ErrNotJSON = errors.New("not a JSON object")
	ErrShape   = errors.New("not a router record")
)

// Decoder reads records. It is not for concurrent use.
//
// Records as this package writes them, of plain ASCII without escapes, are read in one
// pass; all others by encoding/json, which decides what is right.
type Decoder struct {
	date [len("2006-01-02T")]byte // of the last record's time
	day  int64                    // its first second since 1970
}

// Decode reads record into r. An error is ErrNotJSON or ErrShape, with what was wrong.
func (d *Decoder) Decode(record []byte, r *Request) error {
	if d.usual(record, r) {
		return nil
	}
	return d.general(record, r)
}

func (r *Request) reset() {
	*r = Request{Time: NoTime, Connect: -1, Service: -1, Status: -1, Bytes: -1}
}

// text is the place of the string with this key, nil where r has none for it.
func (r *Request) text(key []byte) *[]byte {
	switch string(key) {
	case "id":
		return &r.ID
	case "drain":
		return &r.Drain
	case "app":
		return &r.App
	case "at":
		return &r.At
	case "code":
		return &r.Code
	case "method":
		return &r.Method
	case "path":
		return &r.Path
	case "host":
		return &r.Host
	case "request_id":
		return &r.RequestID
	case "fwd":
		return &r.Fwd
	case "dyno":
		return &r.Dyno
	}
	return nil
}

// number is the place of the number with this key, nil where r has none for it.
func (r *Request) number(key []byte) *int64 {
	switch string(key) {
	case "connect_ms":
		return &r.Connect
	case "service_ms":
		return &r.Service
	case "status":
		return &r.Status
	case "bytes":
		return &r.Bytes
	}
	return nil
}

// isRouters tells a router record from other JSON. Of a line without values there is an id
// alone.
func (r *Request) isRouters() bool {
	return r.Raw || len(r.ID)+len(r.At)+len(r.Method)+len(r.Path)+len(r.Host)+len(r.Dyno) > 0 || r.Status >= 0
}

// usual reads a record that is as this package writes it, without a blank, an escape or a
// byte beyond ASCII. It may give up on any other.
func (d *Decoder) usual(b []byte, r *Request) bool {
	r.reset()
	if len(b) < 2 || b[0] != '{' {
		return false
	}
	for i := 1; ; {
		key, after, ok := simple(b, i)
		if !ok || after+1 >= len(b) || b[after] != ':' {
			return false
		}
		i = after + 1
		switch c := b[i]; {
		case c == '"':
			value, after, ok := simple(b, i)
			if !ok {
				return false
			}
			i = after
			if p := r.text(key); p != nil {
				*p = value
			} else if r.number(key) != nil {
				return false
			} else if string(key) == "time" {
				if r.Time, ok = d.micros(value); !ok {
					return false
				}
			} else if string(key) == "raw" {
				r.Raw = true
			} else if string(key) == "truncated" || string(key) == "message" {
				return false
			}
		case '0' <= c && c <= '9':
			n, digits := int64(0), 0
			for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
				n = n*10 + int64(b[i]-'0')
				digits++
			}
			p := r.number(key)
			if p == nil || digits > maxDigits || c == '0' && digits > 1 {
				return false
			}
			*p = n
		case c == 't' && bytes.HasPrefix(b[i:], []byte("true")):
			if string(key) == "truncated" {
				r.Truncated = true
			} else if string(key) != "tls" {
				return false
			}
			i += len("true")
		case c == 'f' && bytes.HasPrefix(b[i:], []byte("false")) && string(key) == "tls":
			i += len("false")
		default:
			return false // `extra` among them
		}
		if i+1 == len(b) && b[i] == '}' {
			return r.isRouters()
		}
		if i >= len(b) || b[i] != ',' {
			return false
		}
		i++
	}
}

// simple reads the string that begins at b[i], if it is of plain ASCII, without escapes.
func simple(b []byte, i int) (value []byte, after int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, 0, false
	}
	i++
	start := i
	for ; i+8 <= len(b); i += 8 {
		if dirty := dirtyBytes(binary.LittleEndian.Uint64(b[i:])); dirty != 0 {
			i += bits.TrailingZeros64(dirty) / 8
			return b[start:i:i], i + 1, b[i] == '"'
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			return b[start:i:i], i + 1, c == '"'
		}
	}
	return nil, 0, false
}

// micros reads a time as records have it.
func (d *Decoder) micros(b []byte) (int64, bool) {
	const form = "2006-01-02T15:04:05.000000Z"
	if len(b) != len(form) {
		return 0, false
	}
	if [len(d.date)]byte(b) != d.date {
		t, err := time.Parse("2006-01-02T", string(b[:len(d.date)]))
		if err != nil {
			return 0, false
		}
		d.date, d.day = [len(d.date)]byte(b), t.Unix()
	}
	two := func(i int) int64 {
		hi, lo := b[i]-'0', b[i+1]-'0'
		if hi > 9 || lo > 9 {
			return 1 << 40
		}
		return int64(hi)*10 + int64(lo)
	}
	hour, minute, second := two(11), two(14), two(17)
	fraction := two(20)*10000 + two(22)*100 + two(24)
	if hour > 23 || minute > 59 || second > 59 || fraction > 999999 ||
		b[13] != ':' || b[16] != ':' || b[19] != '.' || b[26] != 'Z' {
		return 0, false
	}
	return (d.day+hour*3600+minute*60+second)*1e6 + fraction, true
}

// general reads any JSON.
func (d *Decoder) general(record []byte, r *Request) error {
	r.reset()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(record, &all); err != nil {
		var other *json.UnmarshalTypeError
		if errors.As(err, &other) {
			return fmt.Errorf("%w: it is a JSON %s", ErrNotJSON, other.Value)
		}
		return fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	if all == nil {
		return fmt.Errorf("%w: it is null", ErrNotJSON)
	}
	for key, value := range all {
		if string(value) == "null" {
			continue
		}
		var err error
		if p := r.text([]byte(key)); p != nil {
			var s string
			err = json.Unmarshal(value, &s)
			*p = []byte(s)
		} else if p := r.number([]byte(key)); p != nil {
			var n int64
			if err = json.Unmarshal(value, &n); err == nil && n < 0 {
				err = errors.New("it is negative")
			}
			*p = n
		} else {
			switch key {
			case "truncated":
				err = json.Unmarshal(value, &r.Truncated)
			case "raw":
				r.Raw = true
			case "severity", "message":
				return fmt.Errorf("%w: it is another line's, of LOGS_TOPIC", ErrShape)
			case "time":
				var at time.Time
				if err = json.Unmarshal(value, &at); err == nil && (at.UTC().Year() < 0 || at.UTC().Year() > 9999) {
					err = errors.New("it is out of range")
				}
				r.Time = at.UnixMicro()
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrShape, key, err)
		}
	}
	if !r.isRouters() {
		return fmt.Errorf("%w: it has no id, method, path, host, dyno, status or raw", ErrShape)
	}
	return nil
}
