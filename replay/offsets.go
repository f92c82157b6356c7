package replay

import "sort"

// Offsets follows which records of a partition are done with, so that no more is committed than that.
// It is not for concurrent use.
type Offsets struct {
	open []open // by offset, from first on
	read int64  // all before it were read
}

type open struct {
	offset int64
	done   bool
}

// NewOffsets begins at an offset.
func NewOffsets(next int64) *Offsets { return &Offsets{read: next} }

// Open adds a record that is to be sent. Offsets must grow.
func (o *Offsets) Open(offset int64) { o.open = append(o.open, open{offset: offset}) }

// Read tells that all before next have been read: what was not opened of it is done with.
func (o *Offsets) Read(next int64) { o.read = max(o.read, next) }

// Done tells that the record was sent, and answered or not.
func (o *Offsets) Done(offset int64) {
	i := sort.Search(len(o.open), func(i int) bool { return o.open[i].offset >= offset })
	if i == len(o.open) || o.open[i].offset != offset {
		return
	}
	o.open[i].done = true
	n := 0
	for n < len(o.open) && o.open[n].done {
		n++
	}
	o.open = o.open[n:]
}

// Next is the offset before which all is done with.
func (o *Offsets) Next() int64 {
	if len(o.open) > 0 {
		return o.open[0].offset
	}
	return o.read
}
