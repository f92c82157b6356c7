package replay

import (
	"container/heap"
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

// Merge puts what is read of several partitions into the order of recorded time. It may be used by
// one goroutine for each partition, and by one that calls Next.
//
// A partition's own records are not in that order: frames of several senders meet in it, and
// some were tried again seconds later. So a request is let out when every partition has been read to
// Window beyond it. What comes later than that is let out at once, and counted. A partition that has
// been read to its end says nothing of what is to come: it is waited for no longer than quiet; one that
// cannot be read, no longer than stalled.
type Merge struct {
	window      int64 // microseconds
	ahead, most int64 // bytes

	mu      sync.Mutex // guards the following
	lanes   []*lane
	held    byTime
	bytes   int64
	waiting int // Adds
	begun   bool
	last    int64 // recorded time of what was let out last
	behind  int64
	changed chan struct{} // has one element when there may be something for Next
}

// Lane is what is known of a partition when its reading begins.
type Lane struct {
	Partition int
	// AtEnd tells that there is nothing to read yet, Finished that there never will be.
	AtEnd, Finished bool
}

type lane struct {
	partition int
	newest    int64 // recorded time, the latest of all its records
	held      int
	finished  bool
	atEnd     bool
	since     time.Time     // when it was heard of last
	room      chan struct{} // has one element when Add may look again; nil when it does not wait
}

const (
	// quiet is for how long a partition without more records is waited for: the time in
	// which senders of drains gather lines.
	quiet = time.Second
	// stalled is for how long a partition is waited for that has records, and does not give them.
	stalled = 10 * time.Second
)

// NewMerge makes a Merge that reads ahead about so many bytes of requests, and holds more where a
// window of them is larger, but about most bytes. Of larger windows only a part is put in order.
func NewMerge(window time.Duration, ahead, most int64) *Merge {
	return &Merge{window: window.Microseconds(), ahead: ahead, most: most, changed: make(chan struct{}, 1), last: minTime}
}

// Begin forgets all that is held, and begins with lanes; without any, Next waits for the next
// Begin. An Add that waits then fails.
func (m *Merge) Begin(lanes []Lane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.held {
		r.Release()
	}
	for _, l := range m.lanes {
		l.wake()
	}
	m.lanes, m.held, m.bytes, m.last = make([]*lane, 0, len(lanes)), nil, 0, minTime
	m.begun = m.begun || len(lanes) > 0
	for _, l := range lanes {
		m.lanes = append(m.lanes, &lane{partition: l.Partition, newest: minTime, atEnd: l.AtEnd, finished: l.Finished, since: time.Now()})
	}
	m.tell()
}

// Read is what came of a partition with one batch.
type Read struct {
	Requests []*Request // of this partition; Merge's from now on
	Newest   int64      // the latest recorded time in the batch, of what is not sent, too
	// AtEnd tells that this was all there is for now, Finished that no more is wanted.
	AtEnd, Finished bool
	// Taken, if it is not nil, is called when it is certain that this is taken, before Next knows of it.
	Taken func()
}

// Add takes what was read. While enough is held and others are behind this partition, it waits, and ends with ctx,
// whose error it returns: then the requests were not taken.
func (m *Merge) Add(ctx context.Context, partition int, read Read) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lane(partition)
	for l != nil && !m.hasRoom(l) {
		room := make(chan struct{}, 1)
		l.room = room
		m.waiting++
		m.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		m.mu.Lock()
		m.waiting--
		if l.room = nil; ctx.Err() != nil {
			return ctx.Err()
		}
		if m.lane(partition) != l {
			l = nil
		}
	}
	if l == nil {
		return context.Canceled // Begin has begun without this partition
	}
	if read.Taken != nil {
		read.Taken()
	}
	for _, r := range read.Requests {
		heap.Push(&m.held, r)
		m.bytes += r.size()
	}
	l.held += len(read.Requests)
	l.newest = max(l.newest, read.Newest)
	l.atEnd, l.finished, l.since = read.AtEnd, read.Finished, time.Now()
	m.tell()
	return nil
}

func (m *Merge) lane(partition int) *lane {
	for _, l := range m.lanes {
		if l.partition == partition {
			return l
		}
	}
	return nil
}

// hasRoom tells whether a partition may be read on.
func (m *Merge) hasRoom(l *lane) bool {
	switch {
	case m.bytes < m.ahead || l.held == 0:
		return true
	case m.bytes < m.most:
		return l.newest < m.held[0].Time+m.window // it is what the others wait for
	}
	return false
}

func (l *lane) wake() {
	if l.room != nil {
		select {
		case l.room <- struct{}{}:
		default:
		}
	}
}

func (m *Merge) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Next is the next request, the caller's from then on. The error is io.EOF when all partitions are finished, or ctx's.
func (m *Merge) Next(ctx context.Context) (*Request, error) {
	for {
		m.mu.Lock()
		wait, err := m.ready(time.Now())
		if err != nil {
			m.mu.Unlock()
			return nil, err
		}
		if wait == 0 {
			r := m.pop()
			m.mu.Unlock()
			return r, nil
		}
		m.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-m.changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (m *Merge) pop() *Request {
	r := heap.Pop(&m.held).(*Request)
	m.bytes -= r.size()
	m.lane(r.Partition).held--
	for _, l := range m.lanes {
		if m.waiting > 0 && l.room != nil && (len(m.held) == 0 || m.hasRoom(l)) {
			l.wake()
		}
	}
	if r.Time < m.last {
		m.behind++
	}
	m.last = max(m.last, r.Time)
	return r
}

const (
	forEver = time.Hour
	minTime = -1 << 63
)

// ready is for how long the first request has to wait, if nothing changes.
func (m *Merge) ready(now time.Time) (wait time.Duration, err error) {
	if len(m.held) == 0 {
		if len(m.lanes) == 0 || slices.ContainsFunc(m.lanes, func(l *lane) bool { return !l.finished }) {
			return forEver, nil
		}
		return 0, io.EOF
	}
	until, full := m.held[0].Time+m.window, m.bytes >= m.most
	for _, l := range m.lanes {
		if l.finished || l.newest >= until || full && l.held > 0 {
			continue
		}
		patience := stalled
		if l.atEnd {
			patience = quiet
		}
		wait = max(wait, patience-now.Sub(l.since))
	}
	return wait, nil
}

// OutOfOrder is how many requests were let out after one that was recorded later.
func (m *Merge) OutOfOrder() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.behind
}

// byTime is a heap.
type byTime []*Request

func (h byTime) Len() int { return len(h) }
func (h byTime) Less(i, j int) bool {
	switch a, b := h[i], h[j]; {
	case a.Time != b.Time:
		return a.Time < b.Time
	case a.Partition != b.Partition:
		return a.Partition < b.Partition
	default:
		return a.Offset < b.Offset
	}
}
func (h byTime) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byTime) Push(r any)   { *h = append(*h, r.(*Request)) }
func (h *byTime) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}

// Begun tells whether Begin was called with a partition, ever.
func (m *Merge) Begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun
}
