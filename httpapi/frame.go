package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"

	"drain/syslog"
)

// frameID names a frame: the same for every try of it, in every process.
type frameID [16]byte

// partition is the number from which a frame's partition follows.
func (id *frameID) partition() uint64 { return binary.BigEndian.Uint64(id[:]) }

// strongID is the fewest characters of a frame id that is believed to be the
// frame's alone. Logplex sends 32; some senders send small numbers, which say
// nothing without the body.
const strongID = 16

// identify makes the frame's id from what its sender says: its drain token (or,
// without one, the app) and Logplex-Frame-Id, else X-Request-Id, which log-shuttle
// repeats and Heroku's router leaves as it is, else a digest of the body. Loss notices in front are left out of the
// digest, since they are rendered anew on every try.
func (p *post) identify(r *http.Request) frameID {
	b, strong := p.naming(r)
	if !strong {
		digest := sha256.Sum256(p.body[p.afterLoss():])
		b = append(b, digest[:]...)
		p.scratch = b
	}
	return nameFrame(b)
}

// identifyByHeaders makes the frame's id before there is a body; ok is false where
// it takes one.
func (p *post) identifyByHeaders(r *http.Request) (id frameID, ok bool) {
	b, strong := p.naming(r)
	if !strong {
		return id, false
	}
	return nameFrame(b), true
}

// naming is what the headers say of a frame's name; strong says that it is enough.
func (p *post) naming(r *http.Request) (b []byte, strong bool) {
	kind, id := byte('f'), header(r, "Logplex-Frame-Id")
	if id == "" {
		kind, id = 'r', requestID(r)
	}
	b = append(p.scratch[:0], kind)
	if len(p.drain) > 0 {
		b = append(b, p.drain...)
	} else {
		b = append(append(b, 0), p.app...)
	}
	b = append(append(b, 0), id...)
	p.scratch = b
	return b, len(id) >= strongID
}

func nameFrame(b []byte) (id frameID) {
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

// requestID is the X-Request-Id, empty where it may be that of a proxy, which makes
// a new one for each try.
func requestID(r *http.Request) string {
	id := header(r, "X-Request-Id")
	if id == "" || shuttle(r) {
		return id
	}
	for _, proxy := range [...]string{"Via", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"} {
		if header(r, proxy) != "" {
			return ""
		}
	}
	return id
}

// text is the id as records show it.
func (id *frameID) text(dst []byte) []byte { return hex.AppendEncode(dst, id[:]) }

// afterLoss is where the messages begin that every try of the frame has; a frame
// of nothing but loss notices begins with the first.
func (p *post) afterLoss() int {
	start := int32(0)
	for _, span := range p.desk.Spans {
		var m syslog.Message
		p.desk.Parser.Parse(&m, p.body, span)
		if _, _, ok := m.Loss(); !ok {
			return int(start)
		}
		start = span.End
	}
	return 0
}

// header is a header's first value, without making its canonical name each time.
func header(r *http.Request, canonical string) string {
	if v := r.Header[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}
