package publish

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

// Compressions are the names of those that brokers know, by their number in a
// batch's attributes.
var Compressions = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// codec compresses the records of batches. A nil codec leaves them as they are.
type codec struct {
	number int8
	append func(dst, src []byte) ([]byte, error)
}

// newCodec makes the codec of a number in Compressions, nil for none. It is safe
// for concurrent use.
func newCodec(number int) *codec {
	switch c := compress.Compression(number); c {
	case compress.None:
		return nil
	case compress.Zstd:
		return &codec{int8(c), appendZstd()}
	default:
		return &codec{int8(c), func(dst, src []byte) ([]byte, error) {
			to := appender{dst}
			w := c.Codec().NewWriter(&to)
			_, err := w.Write(src)
			if closeErr := w.Close(); err == nil {
				err = closeErr
			}
			return to.b, err
		}}
	}
}

// zstdLevels are those that are used, the most careful first: each while all batches
// together have no more than so many bytes a second, and for one of at most so many bytes,
// which would else keep its records waiting for long. Whoever has few records may have a
// plan that counts bytes; whoever has many needs the core. For router records, in bytes and
// time a record: 54 to 61 and 18 us, 56 to 63 and 5 us, 58 to 63 and 1.6 us.
var zstdLevels = []zstdLevel{
	{zstd.SpeedBestCompression, 1 << 20, 1 << 20, 150_000, 1, 40 << 20},   // 4 % of a core, 6 ms
	{zstd.SpeedBetterCompression, 1 << 20, 4 << 20, 400_000, 1, 10 << 20}, // 5 %, 5 ms
	{zstd.SpeedFastest, 64 << 10, math.Inf(1), math.Inf(1), 0, 3 << 19},   // more window takes longer here, and packs no better
}

type zstdLevel struct {
	level      zstd.EncoderLevel
	window     int
	rate, size float64
	most       int   // encoders, 0 for enough
	tables     int64 // bytes of each
}

// encoders is as many as can be at work: for the senders, and for those who pack ahead.
func (l *zstdLevel) encoders() int {
	if l.most > 0 {
		return l.most
	}
	return 2 * runtime.GOMAXPROCS(0)
}

// CompressionMemory is what a compression, by its number in Compressions, keeps for itself,
// in bytes.
func CompressionMemory(compression int) (n int64) {
	if Compressions[compression] == "zstd" {
		for i := range zstdLevels {
			n += zstdLevels[i].tables * int64(zstdLevels[i].encoders())
		}
	}
	return n
}

// appendZstd is zstd, a batch in one go. At its fastest it is a third faster on router
// records than kafka-go's level, and packs them no worse.
func appendZstd() func(dst, src []byte) ([]byte, error) {
	levels := make([]zstdEncoder, len(zstdLevels))
	for i, l := range zstdLevels {
		levels[i].places = make(chan struct{}, l.encoders())
	}
	var all flow
	return func(dst, src []byte) ([]byte, error) {
		size := float64(len(src))
		rate := all.add(size, time.Now())
		for i := range levels {
			l := &zstdLevels[i]
			if rate > l.rate || size > l.size {
				continue
			}
			if packed, ok := levels[i].append(dst, src, l, i == len(levels)-1); ok {
				return packed, nil
			}
		}
		panic("the last level takes all")
	}
}

// zstdEncoder is those of one level, made when they are first needed.
type zstdEncoder struct {
	places  chan struct{} // one taken by each batch
	once    sync.Once
	encoder *zstd.Encoder
}

// append appends what src is packed; ok is false if all encoders are busy and it is not to
// wait for one.
func (e *zstdEncoder) append(dst, src []byte, l *zstdLevel, wait bool) (packed []byte, ok bool) {
	select {
	case e.places <- struct{}{}:
	default:
		if !wait {
			return dst, false
		}
		e.places <- struct{}{}
	}
	defer func() { <-e.places }()
	e.once.Do(func() {
		e.encoder = newZstd(zstd.WithEncoderLevel(l.level), zstd.WithWindowSize(l.window), zstd.WithEncoderConcurrency(l.encoders()))
	})
	return e.encoder.EncodeAll(src, dst), true
}

// flow observes a rate, in bytes a second.
type flow struct {
	mu    sync.Mutex // guards the following
	bytes float64    // the older the less: those of flowWindow ago by 1/e
	last  time.Time
}

// flowWindow is over what time a flow is observed, in seconds.
const flowWindow = 2.0

// add notes that n bytes come, and tells the rate with them.
func (f *flow) add(n float64, now time.Time) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes = f.bytes*math.Exp(-max(0, now.Sub(f.last).Seconds())/flowWindow) + n
	f.last = now
	return f.bytes / flowWindow
}

func newZstd(options ...zstd.EOption) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderCRC(false))...) // the batch has one
	if err != nil {
		panic(fmt.Sprint("make a zstd encoder: ", err)) // the options are at fault
	}
	return e
}

// appender is a slice that can be written to.
type appender struct{ b []byte }

func (a *appender) Write(b []byte) (int, error) {
	a.b = append(a.b, b...)
	return len(b), nil
}

// pack compresses b's records, unless that was done, or does not make them smaller.
func (c *codec) pack(b *batch) {
	if c == nil || b.tried {
		return
	}
	b.tried = true
	packed, err := c.append(append(b.packed[:0], b.buf[:batchHead]...), b.buf[batchHead:])
	if err != nil || len(packed) >= len(b.buf) {
		b.packed = nil
		return
	}
	b.packed, b.codec = packed, c.number
}

// packAhead compresses the next batch, if it is full, while the one before it is under
// way, until ctx ends. The sender compresses those that it comes to first. Only the
// next one: in an outage there are many, and their memory is not the Budget's.
func (pt *partition) packAhead(ctx context.Context) {
	for {
		select {
		case <-pt.full:
		case <-pt.retired:
			return
		case <-ctx.Done():
			return
		}
		// A place comes first: the sender waits for a batch that is claimed.
		if enter(ctx, pt.p.packers) != nil {
			return
		}
		if b := pt.nextToPack(); b != nil {
			pt.p.codec.pack(b)
			b.packing.Done()
		}
		<-pt.p.packers
	}
}

// nextToPack is the next batch if it is full and not compressed, else nil. The sender
// waits for its packing.
func (pt *partition) nextToPack() *batch {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if len(pt.sealed) == 0 || pt.sealed[0].claimed {
		return nil
	}
	b := pt.sealed[0]
	b.claimed = true
	b.packing.Add(1)
	return b
}
