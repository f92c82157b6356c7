package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Reader reads chunks. It is not for concurrent use.
type Reader struct {
	zstd    *zstd.Decoder
	payload []byte
	strings map[string]string // names that were read, to be used again
	names   []string
	keys    []Key
	cells   []Cell
	counts  []int
	buckets []uint64
}

// maxStrings bounds the names that a Reader remembers.
const maxStrings = 20_000

// Each reads all chunks of a window's table, and calls each with every cell of each
// of them: one key may come several times. What each is given is valid until it returns.
// An error is ErrChunk's, and where; cells may have been given before.
func (r *Reader) Each(chunks []byte, each func(*Key, *Cell)) error {
	for at := 0; at < len(chunks); {
		form, rest := chunks[at], chunks[at+1:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return fmt.Errorf("%w: a length of %d at byte %d of %d", ErrChunk, size, at, len(chunks))
		}
		payload := rest[n : n+int(size)]
		switch form {
		case formPlain:
		case formZstd:
			if r.zstd == nil {
				var err error
				r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload), zstd.WithDecoderLowmem(true))
				if err != nil {
					panic(err) // the options are constants
				}
			}
			var err error
			if r.payload, err = r.zstd.DecodeAll(payload, r.payload[:0]); err != nil {
				return fmt.Errorf("%w: at byte %d of %d: %w", ErrChunk, at, len(chunks), err)
			}
			payload = r.payload
		default:
			return fmt.Errorf("%w: form %#x at byte %d of %d", ErrChunk, form, at, len(chunks))
		}
		if err := r.read(payload); err != nil {
			return fmt.Errorf("%w: %w, in the chunk at byte %d of %d", ErrChunk, err, at, len(chunks))
		}
		for i := range r.keys {
			each(&r.keys[i], &r.cells[i])
		}
		at += 1 + n + int(size)
	}
	return nil
}

// cursor reads uvarints. After an error it reads zeros.
type cursor struct {
	rest []byte
	err  error
}

var (
	errShort  = errors.New("it ends too soon")
	errNumber = errors.New("a number is too large")
)

func (c *cursor) next(most uint64) uint64 {
	v, n := binary.Uvarint(c.rest)
	switch {
	case n <= 0:
		c.err = errShort
	case v > most:
		c.err = errNumber
	default:
		c.rest = c.rest[n:]
		return v
	}
	c.rest = nil
	return 0
}

// step reads a signed one.
func (c *cursor) step() int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.err, c.rest = errShort, nil
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// Counts and sums stop at these, so that what is added up does not overflow, and can be read again.
const (
	maxSum   = 1 << 60
	maxCount = 1 << 44
)

// read reads the cells of a chunk into r.keys and r.cells.
func (r *Reader) read(payload []byte) error {
	c := cursor{rest: payload}
	if len(r.strings) > maxStrings || r.strings == nil {
		r.strings = make(map[string]string)
	}
	r.names = r.names[:0]
	for range c.next(maxNames + 1) {
		n := int(c.next(uint64(len(c.rest))))
		if c.err != nil || n > len(c.rest) {
			return errShort
		}
		r.names = append(r.names, r.string(c.rest[:n]))
		c.rest = c.rest[n:]
	}
	cells := int(c.next(min(uint64(len(c.rest)), 2*maxCells)))
	r.keys = slices.Grow(r.keys[:0], cells)[:cells]
	r.cells = slices.Grow(r.cells[:0], cells)[:cells]
	clear(r.cells)
	for _, column := range [...]func(*Key) *string{
		func(k *Key) *string { return &k.App },
		func(k *Key) *string { return &k.Dyno },
		func(k *Key) *string { return &k.Method },
		func(k *Key) *string { return &k.Route },
		func(k *Key) *string { return &k.Code },
	} {
		rank := int64(0)
		for i := range r.keys {
			rank += c.step()
			if rank < 0 || rank >= int64(len(r.names)) {
				return errNumber
			}
			*column(&r.keys[i]) = r.names[rank]
		}
	}
	for i := range r.keys {
		r.keys[i].Status = int(c.next(999))
	}
	for i := range r.cells {
		r.cells[i].Requests = int64(c.next(maxSum))
	}
	for i := range r.cells {
		r.cells[i].Bytes = int64(c.next(maxSum))
	}
	r.buckets = r.buckets[:0]
	r.times(&c, func(c *Cell) *Times { return &c.Service })
	r.times(&c, func(c *Cell) *Times { return &c.Connect })
	if c.err == nil && len(c.rest) > 0 {
		return fmt.Errorf("%d bytes are left over", len(c.rest))
	}
	return c.err
}

func (r *Reader) string(b []byte) string {
	if s, ok := r.strings[string(b)]; ok {
		return s
	}
	s := string(b)
	r.strings[s] = s
	return s
}

// times reads the times of all cells.
func (r *Reader) times(c *cursor, of func(*Cell) *Times) {
	r.counts = r.counts[:0]
	total := 0
	for range r.cells {
		n := int(c.next(uint64(numBuckets)))
		r.counts = append(r.counts, n)
		total += n
	}
	if total > len(c.rest) { // each takes a byte at least
		c.err, c.rest = errShort, nil
		return
	}
	begin := len(r.buckets)
	r.buckets = slices.Grow(r.buckets, total)[:begin+total]
	for i, n := range r.counts {
		of(&r.cells[i]).buckets = r.buckets[begin : begin+n : begin+n]
		begin += n
	}
	for i := range r.cells {
		if t := of(&r.cells[i]); len(t.buckets) > 0 {
			t.Max = int64(c.next(maxTime))
		}
	}
	for i := range r.cells {
		t := of(&r.cells[i])
		bucket := -1
		for j := range t.buckets {
			bucket += 1 + int(c.next(uint64(numBuckets)))
			if bucket >= numBuckets {
				c.err, bucket = errNumber, numBuckets-1
			}
			t.buckets[j] = uint64(bucket) << countBits
		}
		if len(t.buckets) > 0 {
			low, width := bounds(bucket)
			if t.Max >= width {
				c.err = errNumber
			}
			t.Max += low
		}
	}
	for i := range r.cells {
		for j := range of(&r.cells[i]).buckets {
			of(&r.cells[i]).buckets[j] |= 1 + c.next(maxCount-1)
		}
	}
	for i := range r.cells {
		if t := of(&r.cells[i]); len(t.buckets) > 0 {
			t.Sum = t.middles() + c.step()
		}
	}
}
