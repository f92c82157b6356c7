package window

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A chunk is what was folded into one window's table at one time: bytes that can be
// appended to others of the same window, in any order.
//
//	┌────────┬────────────┬─────────────────────────────────────────────┐
//	│ form   │ length     │ names, then one column after another:       │
//	│ 1 byte │ of the     │ app, dyno, method, route, code, status,     │
//	│        │ rest       │ requests, bytes, service times, connect     │
//	│        │ (uvarint)  │ times                                       │
//	└────────┴────────────┴─────────────────────────────────────────────┘
//
// All numbers are varints. Cells stand in the order of their keys, names as steps from
// the cell before, so that columns hold runs, which compress. Of times there are five columns: how
// many buckets a cell has, by how much Max is above its bucket's lowest time, the buckets as steps
// from the one before, how many times each holds, less one, and by how much the sum differs from that of the
// buckets' middles.
const (
	formPlain = 0x11
	formZstd  = 0x12
)

// maxPayload bounds what a chunk may claim to inflate to.
const maxPayload = 32 << 20

// ErrChunk is in the errors of chunks that cannot be read.
var ErrChunk = errors.New("not a window's chunk")

type encoder struct {
	zstd    *zstd.Encoder
	payload []byte
	keys    []ids
	cells   []*Cell
	rank    []uint16
	used    []uint16
}

// append appends a chunk of t to dst.
func (e *encoder) append(dst []byte, t *table, n *names) []byte {
	e.order(t, n)
	p := binary.AppendUvarint(e.payload[:0], uint64(len(e.used)))
	for _, id := range e.used {
		p = binary.AppendUvarint(p, uint64(len(n.list[id])))
		p = append(p, n.list[id]...)
	}
	p = binary.AppendUvarint(p, uint64(len(e.keys)))
	for _, column := range columns {
		before := int64(0)
		for _, k := range e.keys {
			rank := int64(e.rank[*column(&k)])
			p = binary.AppendVarint(p, rank-before)
			before = rank
		}
	}
	for _, k := range e.keys {
		p = binary.AppendUvarint(p, uint64(k.status))
	}
	for _, c := range e.cells {
		p = binary.AppendUvarint(p, uint64(c.Requests))
	}
	for _, c := range e.cells {
		p = binary.AppendUvarint(p, uint64(c.Bytes))
	}
	p = e.times(p, func(c *Cell) *Times { return &c.Service })
	p = e.times(p, func(c *Cell) *Times { return &c.Connect })
	e.payload = p
	return e.pack(dst, p)
}

// columns are the names of a key, in the order in which chunks have them.
var columns = [...]func(*ids) *uint16{
	func(k *ids) *uint16 { return &k.app },
	func(k *ids) *uint16 { return &k.dyno },
	func(k *ids) *uint16 { return &k.method },
	func(k *ids) *uint16 { return &k.route },
	func(k *ids) *uint16 { return &k.code },
}

// order finds the names that are used and sorts them, and the cells by them.
func (e *encoder) order(t *table, n *names) {
	e.rank = append(e.rank[:0], make([]uint16, len(n.list))...)
	e.keys, e.used = e.keys[:0], e.used[:0]
	for k := range maps.Keys(t.cells) {
		e.keys = append(e.keys, k)
		for _, column := range columns {
			if id := *column(&k); e.rank[id] == 0 {
				e.rank[id] = 1
				e.used = append(e.used, id)
			}
		}
	}
	slices.SortFunc(e.used, func(a, b uint16) int { return cmp.Compare(n.list[a], n.list[b]) })
	for rank, id := range e.used {
		e.rank[id] = uint16(rank)
	}
	slices.SortFunc(e.keys, func(a, b ids) int {
		for _, column := range columns {
			if c := cmp.Compare(e.rank[*column(&a)], e.rank[*column(&b)]); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.status, b.status)
	})
	e.cells = e.cells[:0]
	for _, k := range e.keys {
		e.cells = append(e.cells, t.cells[k])
	}
}

func (e *encoder) times(p []byte, of func(*Cell) *Times) []byte {
	for _, c := range e.cells {
		p = binary.AppendUvarint(p, uint64(len(of(c).buckets)))
	}
	for _, c := range e.cells {
		if t := of(c); len(t.buckets) > 0 {
			low, _ := bounds(int(t.buckets[len(t.buckets)-1] >> countBits))
			p = binary.AppendUvarint(p, uint64(t.Max-low))
		}
	}
	for _, c := range e.cells {
		before := -1
		for _, b := range of(c).buckets {
			bucket := int(b >> countBits)
			p = binary.AppendUvarint(p, uint64(bucket-before-1))
			before = bucket
		}
	}
	for _, c := range e.cells {
		for _, b := range of(c).buckets {
			p = binary.AppendUvarint(p, b&(1<<countBits-1)-1)
		}
	}
	for _, c := range e.cells {
		if t := of(c); len(t.buckets) > 0 {
			p = binary.AppendVarint(p, t.Sum-t.middles())
		}
	}
	return p
}

// worthZstd is the length from which compressing pays.
const worthZstd = 100

func (e *encoder) pack(dst, payload []byte) []byte {
	if len(payload) >= worthZstd {
		if e.zstd == nil {
			var err error
			e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10), zstd.WithEncoderCRC(false),
				zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedDefault))
			if err != nil {
				panic(err) // the options are constants
			}
		}
		// The length stands in front of what is not there yet: it has room for the longest.
		begin := len(dst)
		dst = append(dst, formZstd, 0, 0, 0, 0, 0)
		body := len(dst)
		dst = e.zstd.EncodeAll(payload, dst)
		if size := len(dst) - body; size < len(payload) {
			head := binary.AppendUvarint(dst[begin:begin+1], uint64(size))
			copy(dst[begin+len(head):], dst[body:])
			return dst[:begin+len(head)+size]
		}
		dst = dst[:begin]
	}
	dst = append(dst, formPlain)
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	return append(dst, payload...)
}
