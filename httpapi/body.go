package httpapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"

	"drain/publish"
	"drain/router"
)

// Errors of reading a body; each has its own answer.
var (
	errTooLarge  = errors.New("the body is larger than MAX_BODY")
	errNoRoom    = errors.New("no room in memory")
	errNeverRoom = fmt.Errorf("%w: the records of this body need more than MAX_INFLIGHT: send it in parts", errNoRoom)
	errKnown     = errors.New("no room in memory, and none needed")
	errNothing   = errors.New("nothing in the body can be recognised as syslog, as lines of `heroku logs`, or as gzip of either")
	errEmptyBody = fmt.Errorf("the body is empty: %w", errNothing)
	errCutOff    = errors.New("the body did not come whole")
)

// inflateFactor is how many times MAX_BODY a body may be once inflated.
const inflateFactor = 4

// The time a body may take: a sender that is slower than 64 KB a second is not
// waited for. The first bodyCredit bytes are given their time before they come.
const (
	bodyPatience = 3 * time.Second
	bodyRate     = 64 << 10 // bytes a second
	bodyCredit   = 256 << 10
)

// bodyTime is the longest time that a body of n bytes may take.
func bodyTime(n int) time.Duration {
	return bodyPatience + time.Duration(n)*time.Second/bodyRate
}

// A sender is not believed that it will send what it announces: it holds no more
// than firstRoom bytes of the budget before it has sent as many. Then there is
// room for bodyCredit bytes of its body, which is more than a frame has, or for
// trust times what it has sent.
const (
	firstRoom = 4 << 10
	trust     = 64
)

// budget is what one request holds of the publish.Budget. If each request had to wait
// for more with its body in hand, a budget full of bodies could never let one of them
// through.
type budget struct {
	all      *publish.Budget
	account  *publish.Account // the sender's
	weight   int              // of a byte of a body, all of which is acquired with it
	held     int
	ctx      context.Context // the request's
	deadline time.Time       // for waiting
	waited   bool            // there was no room at once
	isKnown  *post           // asked whether its frame is, before anything is waited for; nil: not
}

// Grow makes the request hold n bytes, waiting for room until the deadline.
func (b *budget) Grow(n int) error {
	if n <= b.held {
		return nil
	}
	if int64(n) > b.all.Size() {
		return errNeverRoom
	}
	if !b.all.TryAcquire(b.account, n-b.held) {
		if b.isKnown != nil && b.isKnown.known() {
			return errKnown
		}
		b.waited = true
		deadline, more := b.deadline, b.held > firstRoom
		if soon := time.Now().Add(waitWithBytes); more && soon.Before(deadline) {
			deadline = soon
		}
		ctx, cancel := context.WithDeadline(b.ctx, deadline)
		defer cancel()
		if b.all.Acquire(ctx, b.account, n-b.held, more) != nil {
			return errNoRoom
		}
	}
	b.held = n
	return nil
}

// waitWithBytes is how long a request waits for more room with much in hand, when
// it may be others like it that it waits for.
const waitWithBytes = 500 * time.Millisecond

// growFor is Grow for a body, which is let in even if all there is does not
// suffice for what it may need.
func (b *budget) growFor(n int) error { return b.Grow(int(min(int64(n), b.all.Size()))) }

// shrink gives back all but n bytes.
func (b *budget) shrink(n int) {
	if n < b.held {
		b.all.Release(b.account, b.held-n)
		b.held = n
	}
}

// paced is a request's body while it keeps coming.
type paced struct {
	body io.Reader
	w    http.ResponseWriter
	left time.Duration // for which the sender is still waited for
	most time.Duration // that may be left
	set  time.Time     // the connection's deadline
}

// Read waits for the sender, whose time runs only meanwhile. The deadline is set
// anew only where that makes a difference: it costs as much as reading 2 KB.
func (p *paced) Read(b []byte) (int, error) {
	began := time.Now()
	if deadline := began.Add(p.left); p.set.IsZero() || deadline.Sub(p.set) > p.left/16 || p.set.After(deadline) {
		readUntil(p.w, deadline)
		p.set = deadline
	}
	n, err := p.body.Read(b)
	p.left += time.Duration(n)*time.Second/bodyRate - time.Since(began)
	p.left = min(p.left, p.most)
	return n, err
}

// readBody reads the request's body into p.body, inflated. The bytes it takes
// are acquired before they are read. Whether the body is gzip is seen from its
// bytes: a header that says something else is not the sender's to mend.
func (p *post) readBody(w http.ResponseWriter, r *http.Request, maxBody int) error {
	if r.ContentLength > int64(maxBody) {
		return errTooLarge
	}
	length, credit := int(r.ContentLength), bodyCredit // -1: not known
	if length >= 0 {
		credit = min(length, bodyCredit)
	}
	patience := bodyTime(credit)
	p.body = p.body[:0]
	p.paced = paced{body: r.Body, w: w, left: patience, most: patience}
	var err error
	if length >= 0 {
		err = p.readRaw(&p.paced, length)
	} else {
		p.body, err = p.readAll(p.body, &p.paced, maxBody)
	}
	if err != nil {
		return err
	}
	_ = r.Body.Close() // or net/http looks once more whether it has ended
	if gzipped(p.body) {
		return p.inflate(maxBody * inflateFactor)
	}
	return nil
}

// readUntil sets the connection's read deadline, which net/http takes off when the
// body has ended. It is
// http.ResponseController's, which costs an allocation.
func readUntil(w http.ResponseWriter, deadline time.Time) {
	if c, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = c.SetReadDeadline(deadline) // fails only where there is no connection any more
	}
}

func gzipped(b []byte) bool { return len(b) > 1 && b[0] == 0x1f && b[1] == 0x8b }

// readRaw reads a body of a known length.
func (p *post) readRaw(src io.Reader, length int) error {
	for len(p.body) < length {
		room := min(length, firstRoom)
		need := min(p.budget.weight*length, firstRoom)
		if n := len(p.body); n >= firstRoom {
			room = min(length, max(bodyCredit, trust*n))
			need = p.budget.weight * room
			if gzipped(p.body) {
				need = room // inflate acquires the rest
			}
		}
		if err := p.budget.growFor(need); err != nil {
			return err
		}
		p.body = slices.Grow(p.body, room-len(p.body)+router.Slack)
		n, err := src.Read(p.body[len(p.body):room])
		p.body = p.body[:len(p.body)+n]
		if err != nil && len(p.body) < length {
			return errCutOff
		}
	}
	return nil
}

// readStep is how many bytes readAll makes room for at once.
const readStep = 32 << 10

// readAll appends to dst what src has, acquiring room step by step. An error of
// src comes with what was read before it.
func (p *post) readAll(dst []byte, src io.Reader, limit int) ([]byte, error) {
	base := len(p.body)
	for {
		room := len(dst) + min(max(firstRoom/p.budget.weight, len(dst)), readStep)
		if err := p.budget.growFor(base + p.budget.weight*room); err != nil {
			return dst, err
		}
		dst = slices.Grow(dst, room-len(dst)+router.Slack)
		n, err := src.Read(dst[len(dst):room])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errTooLarge
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, errCutOff
		}
	}
}

// inflate replaces p.body by what it holds. What can be read of a damaged body
// is kept; one that is no gzip after all stays as it is.
func (p *post) inflate(limit int) error {
	if p.zip == nil {
		p.zip = new(gzip.Reader)
	}
	if p.zip.Reset(bytes.NewReader(p.body)) != nil {
		return nil
	}
	// The last four bytes say how much it is, and are believed as far as any
	// other number.
	size := binary.LittleEndian.Uint32(p.body[len(p.body)-4:])
	room := int(min(int64(size), int64(limit), int64(max(bodyCredit, trust*len(p.body)))))
	if err := p.budget.growFor(len(p.body) + p.budget.weight*(room+readStep)); err != nil {
		return err
	}
	plain, err := p.readAll(p.spare[:0], p.zip, limit)
	p.body, p.spare = plain, p.body
	if err == errCutOff {
		p.damaged = true
		return nil
	}
	return err
}
