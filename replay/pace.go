package replay

import (
	"math"
	"time"

	"drain/router"
)

// Pace says when a request is due, from recorded times. It is pure, and not for concurrent use.
type Pace struct {
	// Speed is how many times as fast as recorded; 0 is as fast as can be: all are due at once.
	Speed float64
	// MaxGap is the longest time between two requests, as recorded, that is kept; longer ones
	// become as long. 0 keeps all.
	MaxGap time.Duration

	begun  bool
	newest int64 // recorded time, microseconds
	length int64 // of the recording up to newest, without what was cut from gaps, microseconds
	// Gaps is how many were made shorter, Cut by how much together.
	Gaps int64
	Cut  time.Duration
}

// Due is when the request that was recorded at this time, in microseconds since 1970, is to be sent: the time since the
// first one. Requests come in the order of recorded time, but for some that are late: those
// are due before the one before. One with router.NoTime is due with it.
func (p *Pace) Due(recorded int64) time.Duration {
	if recorded == router.NoTime {
		return p.at(p.length)
	}
	recorded = min(max(recorded, -furthest), furthest)
	if !p.begun {
		p.begun, p.newest = true, recorded
	}
	due := p.length
	if gap := recorded - p.newest; gap > 0 {
		if most := p.MaxGap.Microseconds(); most > 0 && gap > most {
			p.Gaps++
			p.Cut += time.Duration(min(gap-most, int64(math.MaxInt64-p.Cut)/1000)) * time.Microsecond
			gap = most
		}
		p.length += gap
		p.newest, due = recorded, p.length
	} else {
		due += gap
	}
	return p.at(due)
}

// at is when so much of the recording was played.
func (p *Pace) at(due int64) time.Duration {
	if p.Speed == 0 {
		return 0
	}
	return time.Duration(min(max(float64(due)*1000/p.Speed, 0), math.MaxInt64/2))
}

// furthest is how far from 1970 a time is told from others, microseconds: more than the years
// that a record's time may have, and so little that no difference of two is too large.
const furthest = 1 << 58

// Again begins anew with the next request that has a time: it is due when the last one was.
func (p *Pace) Again() { p.begun = false }
