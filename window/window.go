// Package window folds requests into windows of event time: how many there were and
// of what kind, how long they took, by app and dyno, and by app and route. What was
// folded adds up exactly, over windows, processes and partitions, in any order.
//
// It is pure: no clock, no goroutine, no I/O.
package window

// Resolution is a length of windows, and how long they are kept.
type Resolution struct {
	Step int64  // seconds
	Keep int64  // seconds after a window's end
	Name string // as settings and keys write it
}

// Resolutions are all that there are, the finest first; each step divides the next.
var Resolutions = [...]Resolution{
	{1, 60 * 60, "1s"},
	{10, 24 * 60 * 60, "10s"},
	{60, 14 * 24 * 60 * 60, "1m"},
	{60 * 60, 365 * 24 * 60 * 60, "1h"},
}

// Start is the start of the window of r that second lies in, both in seconds since
// 1970 UTC.
func (r Resolution) Start(second int64) int64 {
	start := second - second%r.Step
	if start > second {
		start -= r.Step
	}
	return start
}

// Kept tells whether the window that begins at start is kept at now, seconds both.
func (r Resolution) Kept(start, now int64) bool { return start+r.Step+r.Keep > now }

// Span is a run of windows of one resolution that follow each other.
type Span struct {
	Resolution Resolution
	Start      int64 // of the first window, seconds since 1970 UTC
	Windows    int
}

// Cover splits [from, until), seconds since 1970 UTC, into as few windows as there
// are for it: whole hours, and ever finer ones at both ends. What is no longer kept
// finely at now is covered by the windows that are still kept, from the start of the
// one that from lies in.
func Cover(from, until, now int64) []Span {
	return cover(nil, from, until, now, len(Resolutions)-1)
}

func cover(spans []Span, from, until, now int64, level int) []Span {
	if from >= until {
		return spans
	}
	r := Resolutions[level]
	first, last := r.Start(from), r.Start(until)
	if level == 0 {
		return append(spans, Span{r, first, int((until - first + r.Step - 1) / r.Step)})
	}
	finer := Resolutions[level-1]
	if first < from && finer.Kept(finer.Start(from), now) {
		first += r.Step
	}
	if last < until && !finer.Kept(last, now) {
		last += r.Step
	}
	if first >= last {
		return cover(spans, from, until, now, level-1)
	}
	spans = cover(spans, from, first, now, level-1)
	spans = append(spans, Span{r, first, int((last - first) / r.Step)})
	return cover(spans, last, until, now, level-1)
}
