package window

import (
	"math"
	"math/bits"
	"slices"
)

// A bucket holds times of whole milliseconds: one each below 128, then 64 for every
// power of two, so that its middle is within 1/128 of every time in it. A time that
// is larger than maxTime counts as that.
const (
	exact   = 128
	perTwo  = exact / 2
	maxTime = math.MaxInt32
)

func bucketOf(ms int64) int {
	if ms < exact {
		return int(max(ms, 0))
	}
	ms = min(ms, maxTime)
	shift := bits.Len64(uint64(ms)) - 7
	return exact + (shift-1)*perTwo + int(ms>>shift) - perTwo
}

// bounds are the smallest time in the bucket, and how many there are.
func bounds(bucket int) (low, width int64) {
	if bucket < exact {
		return int64(bucket), 1
	}
	shift := (bucket-exact)/perTwo + 1
	return int64(perTwo+(bucket-exact)%perTwo) << shift, 1 << shift
}

var numBuckets = bucketOf(maxTime) + 1 // 1,664

// Times counts times in the buckets that occur. It is written by one and merged with
// others; Histogram is for what is asked of many.
type Times struct {
	Sum, Max int64 // milliseconds, exact
	// buckets are sorted; each is its number in the upper 16 bits, and how many times it
	// holds, never zero, in the others.
	buckets []uint64
}

const countBits = 48

// Add counts one time, in milliseconds.
func (t *Times) Add(ms int64) {
	ms = min(max(ms, 0), maxTime)
	t.Sum += ms
	t.Max = max(t.Max, ms)
	t.add(bucketOf(ms), 1)
}

func (t *Times) add(bucket int, n uint64) {
	key := uint64(bucket) << countBits
	i, j := 0, len(t.buckets) // the first that is not below key; sort.Search takes twice as long
	for i < j {
		if middle := int(uint(i+j) >> 1); t.buckets[middle] < key {
			i = middle + 1
		} else {
			j = middle
		}
	}
	if i < len(t.buckets) && t.buckets[i]>>countBits == uint64(bucket) {
		held := t.buckets[i] & (1<<countBits - 1)
		t.buckets[i] += min(n, maxCount-held)
		return
	}
	t.buckets = slices.Insert(t.buckets, i, key|n)
}

// Merge adds all that other has counted.
func (t *Times) Merge(other *Times) {
	t.Sum += other.Sum
	t.Max = max(t.Max, other.Max)
	if len(t.buckets) == 0 {
		t.buckets = append(t.buckets, other.buckets...)
		return
	}
	for _, b := range other.buckets {
		t.add(int(b>>countBits), b&(1<<countBits-1))
	}
}

// middles is the sum as the buckets tell it: the exact one where they hold a millisecond each.
func (t *Times) middles() (sum int64) {
	for _, b := range t.buckets {
		low, width := bounds(int(b >> countBits))
		sum += (low + (width-1)/2) * int64(b&(1<<countBits-1))
	}
	return sum
}

// Histogram sums up many Times, and answers for their percentiles. The zero Histogram
// is empty.
type Histogram struct {
	Count    int64
	Sum, Max int64 // milliseconds, exact
	counts   []int64
}

// Add adds all that t has counted.
func (h *Histogram) Add(t *Times) {
	h.Sum += t.Sum
	h.Max = max(h.Max, t.Max)
	for _, b := range t.buckets {
		i, n := int(b>>countBits), int64(b&(1<<countBits-1))
		if i >= len(h.counts) {
			h.counts = slices.Grow(h.counts, i+1-len(h.counts))[:i+1]
		}
		h.counts[i] += n
		h.Count += n
	}
}

// Merge adds all that other has counted.
func (h *Histogram) Merge(other *Histogram) {
	h.Sum += other.Sum
	h.Max = max(h.Max, other.Max)
	h.Count += other.Count
	if n := len(other.counts); n > len(h.counts) {
		h.counts = slices.Grow(h.counts, n-len(h.counts))[:n]
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
}

// Reset empties h.
func (h *Histogram) Reset() {
	clear(h.counts)
	h.counts = h.counts[:0]
	h.Count, h.Sum, h.Max = 0, 0, 0
}

// Mean is the exact mean in milliseconds. It is NaN where nothing was counted.
func (h *Histogram) Mean() float64 { return float64(h.Sum) / float64(h.Count) }

// Quantile is the time, in milliseconds, that q of all, 0 to 1, are not above: exact below 128
// ms, else within 1 %. It is NaN where nothing was counted.
func (h *Histogram) Quantile(q float64) float64 {
	rank := max(int64(math.Ceil(q*float64(h.Count)-1e-9)), 1)
	if rank >= h.Count && h.Count > 0 {
		return float64(h.Max)
	}
	for i, n := range h.counts {
		if rank -= n; rank <= 0 && n > 0 {
			low, width := bounds(i)
			return min(float64(low)+float64(width-1)/2, float64(h.Max))
		}
	}
	return math.NaN()
}
