package httpapi

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"drain/intake"
	"drain/publish"
)

// maxCommitted is how many committed frames are remembered. At the rate of a frame
// each 10 ms that is eleven minutes, while a sender gives up after 15 s.
const maxCommitted = 65_536

// frames knows the frames that senders may bring again: those under way, and the
// last that were committed.
//
//	new ──▶ under way ──committed──▶ remembered
//	            │  ▲ the same again joins
//	            └──failed──▶ forgotten: the same again is published anew
type frames struct {
	mu        sync.Mutex // guards the following, and flights
	underWay  map[frameID]*flight
	committed *simplelru.LRU[frameID, intake.Loss]
}

// flight is a frame under way. It is its Receipt's owner.
type flight struct {
	standing
	frames       *frames
	source       *source
	id           frameID
	receipt      *publish.Receipt
	loss         intake.Loss // that was counted
	older, newer *flight     // of the same source
}

// standing is how it stands with a frame under way.
type standing struct {
	progress publish.Progress // of its partitions, when it was published
	since    time.Time        // it is under way
	oldest   time.Time        // since when the oldest frame of its source was, then
}

var flights = sync.Pool{New: func() any { return new(flight) }}

func newFrames() *frames {
	committed, err := simplelru.NewLRU[frameID, intake.Loss](maxCommitted, nil)
	if err != nil {
		panic(err) // the size is no size
	}
	return &frames{underWay: make(map[frameID]*flight), committed: committed}
}

// repeat is what is known of a frame that came.
type repeat uint8

const (
	isNew       repeat = iota // its records are to be published with the receipt
	isUnderWay                // the receipt is that of the one before
	isCommitted               // there is nothing to wait for, and no receipt
)

// enter notes that a frame of src came. The caller holds the receipt, if there is
// one. What was counted of said before is taken off it: every try of a frame may
// carry a notice, each a little later.
func (fs *frames) enter(id frameID, src *source, now time.Time, said *intake.Loss) (r *publish.Receipt, was standing, known repeat) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if counted, ok := fs.committed.Get(id); ok {
		if without(said, &counted) {
			fs.committed.Add(id, counted)
		}
		return nil, was, isCommitted
	}
	if f := fs.underWay[id]; f != nil {
		without(said, &f.loss)
		return f.join(), f.standing, isUnderWay
	}
	f := flights.Get().(*flight)
	*f = flight{frames: fs, source: src, id: id, standing: standing{since: now}, loss: *said}
	f.receipt = publish.NewReceipt(f)
	fs.underWay[id] = f
	if f.older = src.newest; f.older != nil {
		f.older.newer = f
	} else {
		src.oldest = f
	}
	src.newest = f
	f.standing.oldest = src.oldest.since
	return f.receipt, f.standing, isNew
}

// find is enter for a frame whose body was not read: one that is new stays so.
func (fs *frames) find(id frameID) (r *publish.Receipt, was standing, known repeat) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if _, ok := fs.committed.Get(id); ok {
		return nil, was, isCommitted
	}
	if f := fs.underWay[id]; f != nil {
		return f.join(), f.standing, isUnderWay
	}
	return nil, was, isNew
}

// knows tells whether a frame is under way or committed.
func (fs *frames) knows(id frameID) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.underWay[id] != nil || fs.committed.Contains(id)
}

// join makes one more request hold the receipt. frames.mu is held.
func (f *flight) join() *publish.Receipt {
	f.receipt.Join()
	return f.receipt
}

// published notes how the partitions of a frame were, if it is still under way.
func (fs *frames) published(id frameID, p publish.Progress) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.underWay[id]; f != nil {
		f.progress = p
	}
}

// without takes what was counted off said, and adds the rest to it. It tells whether
// there is a rest.
func without(said, counted *intake.Loss) (more bool) {
	for i := range said {
		said[i] = max(0, said[i]-counted[i])
		counted[i] += said[i]
		more = more || said[i] > 0
	}
	return more
}

// Account implements publish.Owner.
func (f *flight) Account() *publish.Account { return &f.source.account }

// Settled implements publish.Owner.
func (f *flight) Settled(failed bool) {
	fs := f.frames
	fs.mu.Lock()
	delete(fs.underWay, f.id)
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		f.source.oldest = f.newer
	}
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		f.source.newest = f.older
	}
	if !failed {
		fs.committed.Add(f.id, f.loss)
	}
	fs.mu.Unlock()
	*f = flight{}
	flights.Put(f)
}
