// Package replay decides which requests of a recording are sent again, when, and what their
// answers say about the target: all of it but the sending. Only Merge and Player know what time it is.
//
//	partitions ─▶ Choice ─▶ Merge ─▶ Pace ─▶ Player ─▶ Send
//	              which?    in order  when?     │ outcomes
//	                                            ▼
//	                                         Report
package replay

import "sync"

// Request is a recorded request that is to be sent again, and how it was answered then. It
// owns its bytes. Numbers that the record does not have are -1.
type Request struct {
	// Partition and Offset are where its record is.
	Partition int
	Offset    int64
	// Epoch counts, from 1, how often the reading has begun: at each the pace begins anew, too.
	Epoch int
	// Round counts, from 1, the rounds of a loop; 0 where there is none.
	Round int
	// Live tells that it was recorded just now: that it comes late is usual then.
	Live bool
	// Time is that of the router's line, which is written when the answer is complete:
	// microseconds since 1970 UTC.
	Time int64
	// Method is in capitals.
	Method string
	// Target is the path with the query as it is to be sent, see AppendTarget.
	Target []byte
	// Path is what was recorded, for a route's name.
	Path []byte
	// ID is the request_id, or the record's id where it has none.
	ID []byte
	// Fwd is who asked, as the router saw it.
	Fwd []byte
	// Client is a number for who asked, 0 where that is not known.
	Client uint64
	// Service and Connect are in milliseconds.
	Service, Connect int64
	Status, Bytes    int64
	// Record is the record itself, where Choice was told to keep it.
	Record []byte

	bytes []byte     // what the slices above point into
	home  *sync.Pool // where Release puts it
}

// size is about what a Request takes, for bounds of memory.
func (r *Request) size() int64 { return int64(cap(r.bytes)) + 256 }

// began is when the answer was begun, in the time of the recording.
func (r *Request) began() int64 {
	return r.Time - 1000*(max(r.Service, 0)+max(r.Connect, 0))
}

// Release gives a request back for another one to be read into.
func (r *Request) Release() {
	bytes := r.bytes[:0]
	if cap(bytes) > 4<<10 {
		bytes = nil
	}
	home := r.home
	if *r = (Request{bytes: bytes, home: home}); home != nil {
		home.Put(r)
	}
}

// keep copies b behind what r has already.
func (r *Request) keep(b []byte) []byte {
	from := len(r.bytes)
	r.bytes = append(r.bytes, b...)
	return r.bytes[from:len(r.bytes):len(r.bytes)]
}
