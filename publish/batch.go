package publish

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// Record is one record to publish. Publish copies both slices; a nil Key is a
// record without a key.
type Record struct {
	Key, Value []byte
}

// Size is how much of the Budget a record takes until it is committed: its bytes
// and their framing in a batch.
func (r *Record) Size() int { return len(r.Key) + len(r.Value) + recordOverhead }

// recordOverhead bounds what a record takes in a batch beside key and value: five
// varints of up to 5 bytes and the attributes; most records need 9.
const recordOverhead = 26

// The head of a record batch of format v2 (KIP-98), with the size that kafka-go
// wants in front of it:
//
//	 0 size      int32 ┐ prefix    21 crc        uint32 ┐ of all
//	 4 offset    int64 ┐           25 attributes int16  │ behind it
//	12 length    int32 │           27 last delta int32  │
//	16 epoch     int32 │ leader's  31 base time  int64  │ ms
//	20 magic = 2 int8  ┘           39 max time   int64  │ ms
//	                               47 producer   int64  │
//	                               55 epoch      int16  │ producer's
//	                               57 sequence   int32  │ of the first record
//	                               61 count      int32  │
//	                               65 records …         ┘
const (
	offsetSize     = 0
	offsetLength   = 12
	offsetEpoch    = 16
	offsetMagic    = 20
	offsetCRC      = 21
	offsetAttrs    = 25
	offsetLast     = 27
	offsetBaseTime = 31
	offsetMaxTime  = 39
	offsetProducer = 47
	offsetPEpoch   = 55
	offsetSequence = 57
	offsetCount    = 61
	batchHead      = 65
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is the records of one produce request. It is filled under its
// partition's lock, and owned by the partition's sender once it is sealed.
type batch struct {
	buf       []byte // head, then records
	records   int
	unclaimed int // bytes of the Budget that its last records hold, until claimFor
	opened    time.Time
	receipts  []claim
	sealedBy  sealReason

	packed  []byte         // the batch as it is sent, where compressed; else empty
	codec   int8           // with which it is
	tried   bool           // to compress it
	claimed bool           // by who compresses it ahead; guarded by the partition's lock
	packing sync.WaitGroup // whom the sender waits for
}

// wire is the batch as it is sent: head, then records.
func (b *batch) wire() []byte {
	if len(b.packed) > 0 {
		return b.packed
	}
	return b.buf
}

// claim is one frame's part of a batch.
type claim struct {
	receipt *Receipt
	records int32
	bytes   int32 // of the Budget, that they hold
}

type sealReason uint8

const (
	byCount sealReason = iota
	byBytes
	byDelay
	byIdle
	byStop
	numSealReasons
)

var sealReasons = [numSealReasons]string{"count", "bytes", "delay", "idle", "stop"}

var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch(now time.Time) *batch {
	b := batches.Get().(*batch)
	b.opened = now
	if cap(b.buf) < batchHead {
		b.buf = make([]byte, batchHead, 2048)
	}
	b.buf = b.buf[:batchHead]
	return b
}

// free gives b's memory back. The caller holds no part of it any more.
func (b *batch) free() {
	clear(b.receipts)
	*b = batch{buf: b.buf[:0], packed: b.packed[:0], receipts: b.receipts[:0]}
	batches.Put(b)
}

// add appends a record. Its time is the batch's: what the router says of time is
// in the record, while Kafka's retention goes by when it came.
//
//	length attributes=0 time delta=0 offset delta  key length key  value length value  headers=0
func (b *batch) add(r *Record) {
	size := r.Size()
	if cap(b.buf)-len(b.buf) < size {
		b.buf = slices.Grow(b.buf, size)
	}
	keyLen := int64(-1)
	if r.Key != nil {
		keyLen = int64(len(r.Key))
	}
	delta := int64(b.records)
	length := 1 + 1 + varintLen(delta) + varintLen(keyLen) + len(r.Key) + varintLen(int64(len(r.Value))) + len(r.Value) + 1
	begin := len(b.buf)
	buf := b.buf[:begin+size]
	n := putVarint(buf, begin, int64(length))
	buf[n], buf[n+1] = 0, 0
	n = putVarint(buf, n+2, delta)
	n = putVarint(buf, n, keyLen)
	n += copy(buf[n:], r.Key)
	n = putVarint(buf, n, int64(len(r.Value)))
	n += copy(buf[n:], r.Value)
	buf[n] = 0
	b.buf = buf[:n+1]
	b.records++
	b.unclaimed += size
}

// putVarint writes v at n of b as a zigzag varint, and returns where it ends.
func putVarint(b []byte, n int, v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		b[n] = byte(u) | 0x80
		u >>= 7
		n++
	}
	b[n] = byte(u)
	return n + 1
}

// varintLen is the length of v as a zigzag varint.
func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

// claimFor notes that the last records of b, as many as given, belong to r.
func (b *batch) claimFor(r *Receipt, records int) {
	b.receipts = append(b.receipts, claim{r, int32(records), int32(b.unclaimed)})
	b.unclaimed = 0
	r.batch()
}

// seal writes the head. It may be called again, with another producer's sequence.
func (b *batch) seal(id producer, sequence int32) {
	be, h := binary.BigEndian, b.wire()
	millis := uint64(b.opened.UnixMilli())
	be.PutUint32(h[offsetSize:], uint32(len(h)-4))
	be.PutUint64(h[4:], 0)
	be.PutUint32(h[offsetLength:], uint32(len(h)-offsetEpoch))
	be.PutUint32(h[offsetEpoch:], ^uint32(0)) // -1: the broker fills it in
	h[offsetMagic] = 2
	be.PutUint16(h[offsetAttrs:], uint16(b.codec))
	be.PutUint32(h[offsetLast:], uint32(b.records-1))
	be.PutUint64(h[offsetBaseTime:], millis)
	be.PutUint64(h[offsetMaxTime:], millis)
	be.PutUint64(h[offsetProducer:], uint64(id.id))
	be.PutUint16(h[offsetPEpoch:], uint16(id.epoch))
	be.PutUint32(h[offsetSequence:], uint32(sequence))
	be.PutUint32(h[offsetCount:], uint32(b.records))
	be.PutUint32(h[offsetCRC:], crc32.Checksum(h[offsetAttrs:], castagnoli))
}

// renew gives b other memory for what is sent.
func (b *batch) renew() {
	if len(b.packed) > 0 {
		b.packed = bytes.Clone(b.packed)
	} else {
		b.buf = bytes.Clone(b.buf)
	}
}

// split halves b by its records, for a broker that takes less in one batch. The
// claims go with their records. b must have at least two records and is used up.
func (b *batch) split() (first, second *batch) {
	first, second = newBatch(b.opened), newBatch(b.opened)
	first.sealedBy, second.sealedBy = b.sealedBy, b.sealedBy
	half, rest := int32(b.records/2), b.buf[batchHead:]
	move := func(to *batch, c claim, n int32) {
		if n == 0 {
			return
		}
		for range n {
			var r Record
			r, rest = readRecord(rest)
			to.add(&r)
		}
		to.receipts = append(to.receipts, claim{c.receipt, n, int32(to.unclaimed)})
		to.unclaimed = 0
	}
	for _, c := range b.receipts {
		n := min(c.records, half)
		half -= n
		move(first, c, n)
		move(second, c, c.records-n)
		if n > 0 && n < c.records {
			c.receipt.batch() // it waits for two batches now
		}
	}
	b.free()
	return first, second
}

// readRecord reads the record that add wrote at b's beginning.
func readRecord(b []byte) (r Record, rest []byte) {
	length, n := binary.Varint(b)
	rest = b[n+int(length):]
	b = b[n+2:]
	_, n = binary.Varint(b) // offset delta
	b = b[n:]
	keyLen, n := binary.Varint(b)
	b = b[n:]
	if keyLen >= 0 {
		r.Key, b = b[:keyLen:keyLen], b[keyLen:]
	}
	valueLen, n := binary.Varint(b)
	r.Value = b[n : n+int(valueLen)]
	return r, rest
}
