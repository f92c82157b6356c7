package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzip"

	"drain/publish"
)

// Errors of reading a body; each has its own answer.
var (
	errTooLarge  = errors.New("the body is larger than MAX_BODY")
	errNoRoom    = errors.New("no room in memory")
	errEncoding  = errors.New("the body's encoding is not known: send it as it is, or as gzip")
	errCutOff    = errors.New("the body did not come whole")
	errEmptyBody = errors.New("the body is empty")
)

// inflateFactor is how many times MAX_BODY a body may be once inflated.
const inflateFactor = 4

// The time a body may take: a sender that is slower than 64 KB a second is not
// waited for.
const (
	bodyPatience = 3 * time.Second
	bodyRate     = 64 << 10 // bytes a second
)

// budget is what one request holds of the publish.Budget.
type budget struct {
	all      *publish.Budget
	held     int
	ctx      context.Context // the request's
	deadline time.Time       // for waiting
}

// grow makes the request hold n bytes, waiting for room until the deadline.
func (b *budget) grow(n int) error {
	if n <= b.held {
		return nil
	}
	if !b.all.TryAcquire(n - b.held) {
		ctx, cancel := context.WithDeadline(b.ctx, b.deadline)
		defer cancel()
		if b.all.Acquire(ctx, n-b.held) != nil {
			return errNoRoom
		}
	}
	b.held = n
	return nil
}

// shrink gives back all but n bytes.
func (b *budget) shrink(n int) {
	if n < b.held {
		b.all.Release(b.held - n)
		b.held = n
	}
}

// keep is the largest buffer that an intake keeps for its next request.
const keep = 1 << 20

// readBody reads the request's body into in.body, inflated. The bytes it takes
// are acquired before they are read; a number from the wire is never believed
// further than MAX_BODY.
func (in *intake) readBody(w http.ResponseWriter, r *http.Request, maxBody int) error {
	if r.ContentLength > int64(maxBody) {
		return errTooLarge
	}
	ctl := http.NewResponseController(w)
	patience := bodyPatience
	if r.ContentLength > 0 {
		patience += time.Duration(r.ContentLength) * time.Second / bodyRate
	} else {
		patience += time.Duration(maxBody) * time.Second / bodyRate
	}
	// Errors: a connection without deadlines has none to pass.
	_ = ctl.SetReadDeadline(time.Now().Add(patience))
	err := in.readRaw(r.Body, int(r.ContentLength), maxBody)
	if err != nil {
		return err
	}
	_ = ctl.SetReadDeadline(time.Time{})
	zipped := len(in.body) > 1 && in.body[0] == 0x1f && in.body[1] == 0x8b
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip", "x-gzip":
		if !zipped && len(in.body) > 0 {
			return errEncoding
		}
	default:
		return errEncoding
	}
	if zipped {
		return in.inflate(maxBody * inflateFactor)
	}
	return nil
}

func (in *intake) readRaw(body io.Reader, length, maxBody int) error {
	if length >= 0 {
		if err := in.budget.grow(length); err != nil {
			return err
		}
		if cap(in.body) < length {
			in.body = make([]byte, length)
		}
		in.body = in.body[:length]
		if _, err := io.ReadFull(body, in.body); err != nil {
			return errCutOff
		}
		return nil
	}
	var err error
	in.body, err = in.readAll(in.body[:0], body, maxBody)
	if err != nil && err != errTooLarge && err != errNoRoom {
		return errCutOff
	}
	return err
}

// readAll appends to dst what src has, acquiring room step by step. An error of
// src comes with what was read before it.
func (in *intake) readAll(dst []byte, src io.Reader, limit int) ([]byte, error) {
	const step = 32 << 10
	base := in.budget.held - len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, make([]byte, max(step, len(dst)))...)[:len(dst)]
		}
		if err := in.budget.grow(base + min(cap(dst), len(dst)+step)); err != nil {
			return dst, err
		}
		n, err := src.Read(dst[len(dst):min(cap(dst), len(dst)+step)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, errTooLarge
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// inflate replaces in.body by what it holds. What can be read of a damaged body
// is kept.
func (in *intake) inflate(limit int) error {
	if in.zip == nil {
		in.zip = new(gzip.Reader)
	}
	if err := in.zip.Reset(bytes.NewReader(in.body)); err != nil {
		return errEncoding
	}
	plain, err := in.readAll(in.spare[:0], in.zip, limit)
	in.body, in.spare = plain, in.body
	switch {
	case err == nil:
	case err == errTooLarge, err == errNoRoom:
		return err
	case len(plain) == 0:
		return errEncoding
	default:
		in.damaged = true
	}
	return nil
}
