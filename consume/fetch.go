package consume

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// longPoll is how long a broker may wait for records before it answers without.
const longPoll = 500 * time.Millisecond

// want is what a fetch asks for.
type want struct {
	topic     string
	id        [16]byte // the topic's, zero where it is not known
	partition int
	offset    int64
	most      int // bytes; one batch may have more
}

// answer is what came for a fetch. It is used again.
type answer struct {
	buf      []byte // all of it
	batches  []byte // of buf: record batches, the last of them perhaps cut off
	end      int64  // high watermark
	aborted  []aborted
	throttle time.Duration // that the broker asks for
}

// fetchByID is the first version that names the topic by its id, so that another topic
// with the same name is not mistaken for it; fetchByName is the last that is used with a
// name; before fetchOldest brokers do not know the batches that are read here.
const (
	fetchByID   = 13
	fetchByName = 11
	fetchOldest = 4
)

// ask sends a fetch, and waits for the beginning of the answer; size is what receive has to
// read. kafka-go's message for it would copy and decode what comes, a record at a time.
func (w *want) ask(l *link) (version int16, size int, err error) {
	version = l.versions[int16(protocol.Fetch)]
	switch {
	case version >= fetchByID && w.id != [16]byte{}:
		version = fetchByID
	case version > fetchByName:
		version = fetchByName
	case version < fetchOldest:
		return 0, 0, fmt.Errorf("the broker %s is older than Kafka 0.11, which is not supported", l.address)
	}
	l.request = w.append(l.begin(int16(protocol.Fetch), version, version >= fetchByID), version)
	size, err = l.send(longPoll + patience)
	if err != nil {
		return 0, 0, fmt.Errorf("fetch from the broker %s: %w", l.address, err)
	}
	return version, size, nil
}

const readCommitted = 1

// append appends the request's body.
func (w *want) append(b []byte, version int16) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, ^uint32(0)) // no replica
	b = be.AppendUint32(b, uint32(longPoll.Milliseconds()))
	b = be.AppendUint32(b, 1) // byte at least
	b = be.AppendUint32(b, uint32(w.most))
	b = append(b, readCommitted)
	if version >= 7 {
		b = be.AppendUint32(b, 0)          // no session,
		b = be.AppendUint32(b, ^uint32(0)) // and none to make
	}
	one := func() {
		if version >= fetchByID {
			b = append(b, 1+1)
		} else {
			b = be.AppendUint32(b, 1)
		}
	}
	one() // topic
	if version >= fetchByID {
		b = append(b, w.id[:]...)
	} else {
		b = be.AppendUint16(b, uint16(len(w.topic)))
		b = append(b, w.topic...)
	}
	one() // partition
	b = be.AppendUint32(b, uint32(w.partition))
	if version >= 9 {
		b = be.AppendUint32(b, ^uint32(0)) // leader's epoch: whichever
	}
	b = be.AppendUint64(b, uint64(w.offset))
	if version >= 12 {
		b = be.AppendUint32(b, ^uint32(0)) // epoch of the last record
	}
	if version >= 5 {
		b = be.AppendUint64(b, ^uint64(0)) // start of the log: for replicas
	}
	b = be.AppendUint32(b, uint32(w.most))
	switch {
	case version >= fetchByID:
		b = append(b, 0, 0, 1, 1, 0) // no tags of partition and topic, no topics to forget, no rack, no tags
	case version >= 7:
		b = be.AppendUint32(b, 0) // topics to forget
		if version >= 11 {
			b = be.AppendUint16(b, 0) // rack
		}
	}
	return b
}

// read reads an answer to a fetch, of one partition, that is in a.buf. The error may be
// a kafka.Error, from the broker.
func (a *answer) read(version int16) error {
	r := reader{b: a.buf, compact: version >= fetchByID}
	r.tags()
	a.throttle = time.Duration(r.int32()) * time.Millisecond
	a.aborted, a.batches = a.aborted[:0], nil
	if version >= 7 {
		if code := r.int16(); code != 0 && !r.bad {
			return kafka.Error(code)
		}
		r.int32() // session
	}
	if r.count() != 1 { // topic
		return errShort
	}
	if version >= fetchByID {
		r.bytes(16)
	} else {
		r.bytes(int(r.int16()))
	}
	if r.count() != 1 { // partition
		return errShort
	}
	r.int32()
	code := r.int16()
	a.end = r.int64()
	r.int64() // last stable offset
	if version >= 5 {
		r.int64() // start of the log
	}
	for range r.count() {
		a.aborted = append(a.aborted, aborted{r.int64(), r.int64()})
		if r.tags(); r.bad {
			return errShort
		}
	}
	if version >= 11 {
		r.int32() // replica that is nearer
	}
	switch n := r.size(); {
	case code != 0 && !r.bad:
		return kafka.Error(code)
	case n > 0:
		a.batches = r.bytes(n)
	}
	if r.bad {
		return errShort
	}
	return nil
}

// reader reads a message of Kafka's. Once it is bad, all that it reads is nothing.
type reader struct {
	b       []byte
	compact bool // the encoding of flexible versions (KIP-482)
	bad     bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) int16() int16 {
	if b := r.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// size is the length of bytes that follow, -1 for none.
func (r *reader) size() int {
	if r.compact {
		return r.uvarint() - 1
	}
	return int(r.int32())
}

// count is how many things follow.
func (r *reader) count() int { return max(0, r.size()) }

func (r *reader) uvarint() int {
	u, n := binary.Uvarint(r.b)
	if n <= 0 || u > 1<<31 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(u)
}

// tags passes over the tagged fields that flexible versions have.
func (r *reader) tags() {
	if !r.compact {
		return
	}
	for range r.uvarint() {
		r.uvarint()
		if r.bytes(r.uvarint()); r.bad {
			return
		}
	}
}
