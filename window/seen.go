package window

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Seen knows which records of a partition came in the last ten minutes, so that those
// of a frame that its sender repeated are counted once. It is not for concurrent use.
//
// A record's id is its frame's and, behind a hyphen, its index in the frame. What is kept
// of a frame is a hash of 64 bits and a bit for each record, 64 of them in an entry.
type Seen struct {
	most    int
	entries map[uint64]entry // by hash
	queue   []queued         // the entries in the order in which they came; those before head are gone
	head    int
	newest  int64 // minute since 1970
	kept    int64 // the newest minute of the last Fresh
	fresh   []noted
	told    int // by Fresh, of minute toldOf
	toldOf  int64

	frame []byte // of the record before, whose entry is likely the next one's too
	word  uint64
	key   uint64

	// Forgotten counts entries that were dropped before their time for want of room.
	Forgotten int
}

// entry is 64 records of a frame, and the minute in which the last of them came.
type entry struct {
	bits   uint64
	minute int64
}

type queued struct {
	key    uint64
	minute int64 // another than the entry's, if that came again
}

type noted struct {
	key, bits uint64
	minute    int64
}

// SeenMinutes is for how many minutes a Seen knows a record, unless more come than it
// has room for.
const SeenMinutes = 10

// NewSeen makes one of at most so many entries, each of some 60 bytes: the oldest make
// room.
func NewSeen(most int) *Seen {
	return &Seen{most: most, entries: make(map[uint64]entry), newest: math.MinInt64, kept: math.MinInt64}
}

// Again tells whether a record with this id came in the ten minutes before at, in
// milliseconds since 1970, and else notes it. A record without an id is always new.
func (s *Seen) Again(id []byte, at int64) bool {
	if len(id) == 0 {
		return false
	}
	minute := max(at, 0) / 60_000
	if minute > s.newest {
		s.newest = minute
		s.forget()
	}
	minute = max(minute, s.newest-SeenMinutes)
	frame, index := splitID(id)
	if s.key == 0 || index/64 != s.word || !bytes.Equal(frame, s.frame) {
		s.frame, s.word = append(s.frame[:0], frame...), index/64
		s.key = hash(frame, s.word)
	}
	bit := uint64(1) << (index % 64)
	if s.entries[s.key].bits&bit != 0 {
		return true
	}
	s.note(noted{s.key, bit, minute})
	if n := len(s.fresh); n > 0 && s.fresh[n-1].key == s.key && s.fresh[n-1].minute == minute {
		s.fresh[n-1].bits |= bit
	} else {
		s.fresh = append(s.fresh, noted{s.key, bit, minute})
	}
	return false
}

// noIndex is an index that no record of a frame has.
const noIndex = 1 << 20

// splitID splits an id before the index that its end says; without one the index is noIndex.
func splitID(id []byte) (frame []byte, index uint64) {
	i := bytes.LastIndexByte(id, '-')
	digits := id[i+1:]
	if i < 0 || len(digits) == 0 || len(digits) > 5 || digits[0] == '0' && len(digits) > 1 {
		return id, noIndex
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return id, noIndex
		}
		index = index*10 + uint64(c-'0')
	}
	return id[:i], index
}

func hash(frame []byte, word uint64) uint64 {
	return max(xxhash.Sum64(frame)^word*0x9e3779b97f4a7c15, 1)
}

func (s *Seen) note(n noted) {
	e, known := s.entries[n.key]
	if !known || e.minute < n.minute {
		if len(s.queue)-s.head >= s.most {
			if s.drop() {
				s.Forgotten++
			}
			e = s.entries[n.key] // it may have been the one
		}
		s.queue = append(s.queue, queued{n.key, n.minute})
	}
	s.entries[n.key] = entry{e.bits | n.bits, max(e.minute, n.minute)}
}

// drop drops what came first, and tells whether that was an entry: not one that came again since.
func (s *Seen) drop() (entry bool) {
	if q := s.queue[s.head]; s.entries[q.key].minute == q.minute {
		delete(s.entries, q.key)
		entry = true
	}
	if s.head++; s.head > len(s.queue)/2 {
		s.queue = s.queue[:copy(s.queue, s.queue[s.head:])]
		s.head = 0
	}
	return entry
}

// forget drops the entries whose time is over.
func (s *Seen) forget() {
	for s.head < len(s.queue) && s.queue[s.head].minute < s.newest-SeenMinutes {
		s.drop()
	}
}

// Noted is what a Seen noted in a minute, for another one to Load.
type Noted struct {
	Minute  int64 // since 1970
	Entries []byte
}

// Fresh is what was noted since the last time, the newest minute of all, and the
// minutes that have become too old to matter, of those that a Fresh gave before. Of a minute it gives no more
// than a Seen has room for. The bytes are the caller's.
func (s *Seen) Fresh() (fresh []Noted, newest int64, old []int64) {
	for _, n := range s.fresh {
		if n.minute != s.toldOf {
			s.told, s.toldOf = 0, n.minute
		}
		if s.told++; s.told > s.most || n.minute < s.newest-SeenMinutes {
			continue
		}
		i := 0
		for i < len(fresh) && fresh[i].Minute != n.minute {
			i++
		}
		if i == len(fresh) {
			fresh = append(fresh, Noted{Minute: n.minute})
		}
		e := &fresh[i].Entries
		*e = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(*e, n.key), n.bits)
	}
	if cap(s.fresh) > 4096 { // a burst's
		s.fresh = nil
	}
	s.fresh = s.fresh[:0]
	if s.kept != math.MinInt64 {
		for minute := s.kept - SeenMinutes; minute <= s.kept && minute < s.newest-SeenMinutes; minute++ {
			old = append(old, minute)
		}
	}
	s.kept = max(s.kept, s.newest)
	return fresh, s.newest, old
}

// Load takes what another Seen of the partition noted, minute after minute.
func (s *Seen) Load(n Noted) error {
	if len(n.Entries)%16 != 0 {
		return fmt.Errorf("the records seen in minute %d are %d bytes, not a multiple of 16", n.Minute, len(n.Entries))
	}
	s.newest, s.kept = max(s.newest, n.Minute), max(s.kept, n.Minute)
	for e := n.Entries; len(e) > 0; e = e[16:] {
		s.note(noted{binary.BigEndian.Uint64(e), binary.BigEndian.Uint64(e[8:]), n.Minute})
	}
	s.forget()
	return nil
}
