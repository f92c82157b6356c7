package publish

import (
	"sync"
	"time"
)

// parking keeps frames for a topic whose partitions Kafka has not told yet.
type parking struct {
	mu     sync.Mutex // guards the following
	frames []parked
}

// parked is a frame's records, copied.
type parked struct {
	receipt *Receipt
	frame   uint64
	records []Record
	since   time.Time
}

// park keeps a frame until the partitions are known.
func (t *topic) park(r *Receipt, frame uint64, records []Record) Progress {
	g := &t.parking
	g.mu.Lock()
	defer g.mu.Unlock()
	if partitions := t.all(); partitions != nil { // since a moment
		return publish(r, partitions, frame, records)
	}
	r.batch()
	g.frames = append(g.frames, parked{r, frame, cloneRecords(records), time.Now()})
	return Progress{Oldest: g.frames[0].since}
}

// cloneRecords copies records into as few pieces of memory as it can.
func cloneRecords(records []Record) []Record {
	size := 0
	for i := range records {
		size += len(records[i].Key) + len(records[i].Value)
	}
	bytes, clones := make([]byte, 0, size), make([]Record, len(records))
	clone := func(b []byte) []byte {
		at := len(bytes)
		bytes = append(bytes, b...)
		return bytes[at:len(bytes):len(bytes)]
	}
	for i := range records {
		if records[i].Key != nil {
			clones[i].Key = clone(records[i].Key)
		}
		clones[i].Value = clone(records[i].Value)
	}
	return clones
}

// open gives t its partitions, and them what was kept, in the order it came.
func (t *topic) open(p *Publisher, partitions []*partition) {
	g := &t.parking
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, f := range g.frames {
		g.frames[i] = parked{} // or all would be in memory twice
		publish(f.receipt, partitions, f.frame, f.records)
		p.finish(f.receipt, 0, false)
	}
	g.frames = nil
	t.partitions.Store(&partitions)
}

// oldest is when the first frame came that is kept.
func (g *parking) oldest() (t time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.frames) == 0 {
		return t, false
	}
	return g.frames[0].since, true
}

// records counts what is kept.
func (g *parking) records() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.frames {
		n += len(f.records)
	}
	return n
}
