package routes

import (
	"hash/maphash"
	"math"
)

const (
	// A sketch has 2^17 blocks of a cache line; a key has a counter in each quarter
	// of its block: 8 MiB. Up to its first few additions it has fewer: most applications make no more.
	blocks      = 1 << 17
	firstBlocks = blocks / 32
	growAt      = firstBlocks // one for eight counters of a row
	quarter     = 8
	// epoch is after how many additions all is halved: one for two counters of a row.
	epoch = 1 << 19
)

// sketch counts keys approximately, in bounded memory: never too few, and rarely
// more than two too many (a count-min sketch with conservative update, halved now and
// then). Its seed is random, so that nobody can write paths that share counters.
type sketch struct {
	seed  maphash.Seed
	lines [][4 * quarter]uint16
	added int
}

func newSketch() sketch {
	return sketch{seed: maphash.MakeSeed(), lines: make([][4 * quarter]uint16, firstBlocks)}
}

// add counts a key once more and returns its count, 65,535 at most. due tells that it
// is time to halve.
func (s *sketch) add(key []byte) (count int, due bool) {
	if s.added == growAt {
		s.grow()
	}
	h := maphash.Bytes(s.seed, key)
	line := &s.lines[h%uint64(len(s.lines))]
	var at [4]uint64
	least := uint16(math.MaxUint16)
	for i := range at {
		at[i] = uint64(i)*quarter + h>>(32+3*i)%quarter
		least = min(least, line[at[i]])
	}
	if least < math.MaxUint16 {
		for _, i := range at {
			if line[i] == least {
				line[i]++
			}
		}
		least++
	}
	s.added++
	return int(least), s.added%epoch == 0
}

// grow makes the sketch as large as it gets: the keys of a block find it again wherever they go.
func (s *sketch) grow() {
	lines := make([][4 * quarter]uint16, 0, blocks)
	for len(lines) < blocks {
		lines = append(lines, s.lines...)
	}
	s.lines = lines
}

// halve ages what was counted.
func (s *sketch) halve() {
	for i := range s.lines {
		for j := range s.lines[i] {
			s.lines[i][j] /= 2
		}
	}
}
