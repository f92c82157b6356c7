package consume

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Record is one record of a topic. Its bytes are lent with the Batch that it is in.
type Record struct {
	// Offset is its place in the partition.
	Offset int64
	// Time is Kafka's time stamp, in milliseconds since 1970.
	Time int64
	// Key and Value are nil where the record has none.
	Key, Value []byte
}

// The head of a record batch of format v2 (KIP-98), as brokers send it:
//
//	 0 offset     int64            27 base time  int64  │ ms
//	 8 length     int32 behind it  35 max time   int64  │ ms
//	12 epoch      int32 leader's   43 producer   int64  │
//	16 magic = 2  int8             51 epoch      int16  │ producer's
//	17 crc        uint32 ┐ of all  53 sequence   int32  │ of the first record
//	21 attributes int16  │ behind  57 count      int32  │
//	23 last delta int32  │ it      61 records …         ┘
const (
	atOffset   = 0
	atLength   = 8
	atMagic    = 16
	atCRC      = 17
	atAttrs    = 21
	atLast     = 23
	atBaseTime = 27
	atMaxTime  = 35
	atProducer = 43
	atCount    = 57
	batchHead  = 61
)

// Bits of a batch's attributes.
const (
	attrCodec         = 0x07
	attrAppendTime    = 0x08 // all records have the max time
	attrTransactional = 0x10
	attrControl       = 0x20 // the end of a transaction
)

// batchError says what is wrong with a batch, and where the one behind it begins.
type batchError struct {
	offset, next int64
	records      int64 // that are in it, as far as it can be known
	err          error
}

func (e *batchError) Error() string {
	return fmt.Sprintf("the record batch at offset %d: %v", e.offset, e.err)
}

func (e *batchError) Unwrap() error { return e.err }

var (
	errOldFormat = errors.New("it has a format from before Kafka 0.11, which is not read")
	errFormat    = errors.New("it has a format that is not known")
	errHead      = errors.New("its head makes no sense")
	errCRC       = errors.New("its checksum is wrong")
	errRecords   = errors.New("its records make no sense")
	errInflate   = errors.New("it cannot be decompressed")
)

// scan finds the whole batches at the beginning of what a broker sent for a fetch at
// from: good is them, next is the offset behind them. Their checksums are right, their
// records were not looked at. What is behind them is the beginning of a batch, or err
// says what is wrong with it.
func scan(raw []byte, from int64) (good []byte, next int64, err error) {
	be := binary.BigEndian
	size, behind := 0, int64(0)
	next = from
	for {
		b := raw[size:]
		if len(b) < atCRC {
			return raw[:size:size], next, nil
		}
		offset, length := int64(be.Uint64(b[atOffset:])), int64(int32(be.Uint32(b[atLength:])))
		fail := func(behind, records int64, err error) ([]byte, int64, error) {
			return raw[:size:size], next, &batchError{offset, behind, records, err}
		}
		switch magic := b[atMagic]; {
		case offset < 0 || length < batchHead-atLength-4 && magic >= 2 || length <= 0:
			return fail(next+1, 0, errHead)
		case magic < 2:
			return fail(max(next, offset)+1, 1, errOldFormat)
		case magic > 2:
			return fail(max(next, offset)+1, 0, errFormat)
		}
		if int64(len(b)) < length+atLength+4 {
			return raw[:size:size], next, nil
		}
		b = b[:length+atLength+4]
		last, count := int64(int32(be.Uint32(b[atLast:]))), int64(int32(be.Uint32(b[atCount:])))
		end := offset + last + 1
		switch {
		case last < 0 || end < 0 || offset < behind || count < 0 || count > last+1:
			return fail(max(next, offset)+1, 0, errHead)
		case crc32.Checksum(b[atAttrs:], castagnoli) != be.Uint32(b[atCRC:]):
			return fail(end, count, errCRC)
		}
		behind, next = end, max(next, end)
		size += len(b)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// aborted is a transaction that was given up: the producer's records from an offset on, until
// its mark, do not count.
type aborted struct{ producer, first int64 }

const (
	// mostRecords is how many records are delivered at once at the most.
	mostRecords = 4096
	// enoughInflated is how many bytes are decompressed before what is there is delivered.
	enoughInflated = 512 << 10
)

// decoder reads the records of batches that scan found good. It is used again: start
// begins anew.
type decoder struct {
	inflater
	rest    []byte    // batches that were not begun
	from    int64     // records before it were not asked for
	aborted []aborted // not reached yet, by first
	giving  []int64   // producers whose records are of an aborted transaction here

	body       []byte // the begun batch's records that are left
	left       int64
	base, last int64
	delta      int64 // of the record before
	time       int64
	sameTime   bool

	most    int      // records that more finds at once
	records []Record // what more found
	next    int64    // the offset behind them
}

// start begins with the batches of good, without their records before from.
func (d *decoder) start(good []byte, from int64, given []aborted) {
	d.rest, d.from, d.next, d.left = good, from, from, 0
	d.aborted = append(d.aborted[:0], given...)
	slices.SortFunc(d.aborted, func(a, b aborted) int { return cmp.Compare(a.first, b.first) })
	d.giving = d.giving[:0]
}

// more reads the next records into d.records, some at a time, and d.next; false at the
// end. With an error, of which more can be asked for, the rest of a batch is left out.
func (d *decoder) more() (bool, error) {
	d.records = d.records[:0]
	if d.left == 0 {
		d.inflated = d.inflated[:0]
	}
	before := d.next
	for len(d.records) < d.most {
		if d.left == 0 {
			if len(d.rest) == 0 || len(d.inflated) >= enoughInflated {
				break
			}
			if err := d.begin(); err != nil {
				return true, err
			}
		}
		if err := d.read(); err != nil {
			return true, err
		}
	}
	return d.next != before || len(d.records) > 0 || len(d.rest) > 0 || d.left > 0, nil
}

// begin takes the next batch.
func (d *decoder) begin() error {
	be := binary.BigEndian
	b := d.rest[:int64(be.Uint32(d.rest[atLength:]))+atLength+4]
	d.rest = d.rest[len(b):]
	attrs := be.Uint16(b[atAttrs:])
	d.base, d.last, d.delta = int64(be.Uint64(b[atOffset:])), int64(be.Uint32(b[atLast:])), -1
	d.time, d.sameTime = int64(be.Uint64(b[atBaseTime:])), attrs&attrAppendTime != 0
	if d.sameTime {
		d.time = int64(be.Uint64(b[atMaxTime:]))
	}
	if d.skips(b, attrs) {
		d.end()
		return nil
	}
	d.left, d.body = int64(be.Uint32(b[atCount:])), b[batchHead:]
	if codec := attrs & attrCodec; codec != 0 {
		body, err := d.inflate(int(codec), d.body)
		if err != nil {
			return d.fail(fmt.Errorf("%w: %w", errInflate, err))
		}
		d.body = body
	}
	if d.left == 0 {
		d.end()
	}
	return nil
}

// skips tells whether a batch holds no records that count: it is the end of a
// transaction, or in one that was aborted.
func (d *decoder) skips(b []byte, attrs uint16) bool {
	for len(d.aborted) > 0 && d.aborted[0].first <= d.base+d.last {
		d.giving = append(d.giving, d.aborted[0].producer)
		d.aborted = d.aborted[1:]
	}
	producer := int64(binary.BigEndian.Uint64(b[atProducer:]))
	switch {
	case attrs&attrControl != 0:
		d.giving = slices.DeleteFunc(d.giving, func(p int64) bool { return p == producer })
		return true
	case attrs&attrTransactional != 0:
		return slices.Contains(d.giving, producer)
	}
	return false
}

// end leaves the begun batch behind.
func (d *decoder) end() {
	d.left, d.body = 0, nil
	d.next = max(d.next, d.base+d.last+1)
}

// fail leaves out the rest of the begun batch.
func (d *decoder) fail(err error) error {
	failed := &batchError{d.base, d.base + d.last + 1, d.left, err}
	d.end()
	return failed
}

// read reads records of the begun batch.
//
//	length attributes  time delta offset delta  key length key  value length value  headers …
func (d *decoder) read() error {
	body, at := d.body, 0
	for d.left > 0 && len(d.records) < d.most {
		length, i := varint(body, at)
		if i < 0 || length <= 0 || length > int64(len(body)-i) {
			return d.fail(errRecords)
		}
		end := i + int(length)
		b := body[:end:end]
		time, i := varint(b, i+1) // behind the attributes
		delta, i := varint(b, i)
		keyLen, i := varint(b, i)
		if i < 0 || delta <= d.delta || delta > d.last || keyLen > int64(end-i) {
			return d.fail(errRecords)
		}
		var key, value []byte
		if keyLen >= 0 {
			key = b[i : i+int(keyLen) : i+int(keyLen)]
			i += int(keyLen)
		}
		valueLen, i := varint(b, i)
		if i < 0 || valueLen > int64(end-i) {
			return d.fail(errRecords)
		}
		if valueLen >= 0 {
			value = b[i : i+int(valueLen) : i+int(valueLen)]
		}
		at = end
		d.left--
		d.delta = delta
		if d.sameTime {
			time = 0
		}
		if offset := d.base + delta; offset >= d.from {
			d.records = append(d.records, Record{offset, d.time + time, key, value})
			d.next = offset + 1
		}
	}
	if d.body = body[at:]; d.left == 0 {
		d.end()
	}
	return nil
}

// varint reads a zigzag varint at i of b, and says where it ends: -1 if there is none, or
// if i is negative.
func varint(b []byte, i int) (v int64, end int) {
	if uint(i) < uint(len(b)) {
		if c := b[i]; c < 0x80 {
			return int64(c>>1) ^ -int64(c&1), i + 1
		}
	}
	return longVarint(b, i)
}

func longVarint(b []byte, i int) (v int64, end int) {
	if i < 0 || i > len(b) {
		return 0, -1
	}
	u, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return int64(u>>1) ^ -int64(u&1), i + n
}
