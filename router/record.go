// Package router holds the noun that all of drain shares: one request as
// Heroku's router logged it. It reads the router's line (nearly logfmt) into a
// Record and writes the Record as one line of JSON, redacted.
//
// It knows nothing of where lines come from or where records go. On the way of a
// usual line nothing is allocated.
package router

import (
	"bytes"
	"unicode/utf8"
)

// Key is a field of a router line that a record has a place for.
type Key uint8

// The keys in the order in which a record lists them.
const (
	At Key = iota
	Code
	Desc
	Sock
	Cause
	Method
	Path
	Host
	RequestID
	Fwd
	Dyno
	Connect
	Service
	Status
	Bytes
	Protocol
	TLSVersion
	Agent
	TLS
	numKeys
)

func lookup(name []byte) (Key, bool) {
	switch string(name) {
	case "at":
		return At, true
	case "code":
		return Code, true
	case "desc":
		return Desc, true
	case "sock":
		return Sock, true
	case "cause":
		return Cause, true
	case "method":
		return Method, true
	case "path":
		return Path, true
	case "host":
		return Host, true
	case "request_id":
		return RequestID, true
	case "fwd":
		return Fwd, true
	case "dyno":
		return Dyno, true
	case "connect":
		return Connect, true
	case "service":
		return Service, true
	case "status":
		return Status, true
	case "bytes":
		return Bytes, true
	case "protocol":
		return Protocol, true
	case "tls_version":
		return TLSVersion, true
	case "agent":
		return Agent, true
	case "tls":
		return TLS, true
	}
	return numKeys, false
}

// span is a half-open range of a line; the zero span is none.
type span struct{ start, end int }

// pair is a key without a place in the record and its value.
type pair struct {
	key         []byte // valid UTF-8
	name, value span   // where they stand in the line
}

// maxExtra bounds the unknown keys that one record lists; a line with more of
// them is carried whole in `raw`.
const maxExtra = 64

// Record is one request as the router logged it. Its values borrow from the
// line that was parsed.
type Record struct {
	// Truncated is set when the line was cut; what could be read is there.
	Truncated bool
	// Forged is set when a known key occurs twice, or when path or fwd can be
	// read in two ways: a client can write fields of its own into both. The
	// record then carries the line.
	Forged bool

	line   []byte
	values [numKeys]span
	extra  []pair
	seen   uint32 // bit k: Key k occurs
	pairs  int    // pairs read, known or not
	spill  bool   // more than maxExtra unknown keys
	cut    bool   // the line lacks the newline which ends it
	tail   int    // line[:tail] is the end of a path that began in an earlier piece
	keys   int    // where the keys begin, behind the tail

	firstPath span // where a forged line has several
	anchored  bool // the path, or its tail, ends where the router's order says
	loose     bool // it may go on to the line's end, wherever it seems to end
}

// Value is the text of k, nil or empty where the line has none.
func (r *Record) Value(k Key) []byte {
	s := r.values[k]
	return r.line[s.start:s.end:s.end]
}

// Readable tells whether anything could be read of the line.
func (r *Record) Readable() bool { return r.pairs > 0 }

func (r *Record) reset(line []byte) {
	*r = Record{line: line, extra: r.extra[:0]}
}

func (r *Record) has(k Key) bool { return r.seen&(1<<k) != 0 }

func (r *Record) setKnown(k Key, s span) {
	if r.has(k) {
		r.Forged = true
	} else if k == Path {
		r.firstPath = s
	}
	r.seen |= 1 << k
	r.values[k] = s
}

func (r *Record) setExtra(name, value span) {
	if r.spill {
		return
	}
	key := r.line[name.start:name.end:name.end]
	if _, known := lookup(key); known {
		return // a word, without a value
	}
	if !utf8.Valid(key) {
		// Keys that differ in such bytes only are one key in JSON.
		key = []byte(string(bytes.Runes(key)))
	}
	for i := range r.extra {
		if bytes.Equal(r.extra[i].key, key) {
			r.extra[i] = pair{key, name, value}
			return
		}
	}
	if len(r.extra) == maxExtra {
		r.spill = true
		return
	}
	r.extra = append(r.extra, pair{key, name, value})
}
