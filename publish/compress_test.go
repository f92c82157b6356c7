package publish

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func TestCompressedBatch_isReadBackByAnotherImplementation(t *testing.T) {
	other := kgo.DefaultDecompressor()
	for number, name := range Compressions {
		c := newCodec(number)
		rapid.Check(t, func(t *rapid.T) {
			b, want := anyBatch(t, time.Now(), 1)
			c.pack(b)
			c.pack(b) // again, as a batch is that comes back
			b.seal(producer{1, 1}, 1)
			b.renew()
			var head kmsg.RecordBatch
			if err := head.ReadFrom(b.wire()[4:]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			plain := make([]byte, batchHead)
			switch used := head.Attributes & 7; {
			case used == 0 && len(b.wire()) == len(b.buf):
				plain = append(plain, head.Records...)
			case int(used) == number && len(b.wire()) < len(b.buf):
				records, err := other.Decompress(head.Records, kgo.CompressionCodecType(used))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				plain = append(plain, records...)
			default:
				t.Fatalf("%s: attributes %d, %d bytes of %d", name, head.Attributes, len(b.wire()), len(b.buf))
			}
			head.Records, head.Length = plain[batchHead:], int32(len(plain)-offsetEpoch)
			_, got := read(t, append(make([]byte, 4), head.AppendTo(nil)...))
			if !slices.EqualFunc(got, want, same) || int(head.NumRecords) != len(want) {
				t.Fatalf("%s: %d records came back as %d", name, len(want), len(got))
			}
			b.free()
		})
	}
}

// logLike is a value that can be compressed.
func logLike(r *rand.Rand, i int) Record {
	return Record{Value: fmt.Appendf(nil, `{"id":"%08d","method":"GET","path":"/users/%d","host":"www.example.org","status":200,"bytes":%d}`, i, r.IntN(1000), r.IntN(100000))}
}

func TestCompression_losesNothingAndSavesBytes(t *testing.T) {
	for number, name := range Compressions {
		t.Run(name, func(t *testing.T) {
			c := fake(t)
			s := serve(t, c.ListenAddrs(), options{compression: number, records: 100, clients: 1}).known()
			r := rand.New(rand.NewPCG(1, 1))
			var receipts []*Receipt
			var want []string
			for range 200 { // more than can be under way, so that full batches wait and are compressed ahead
				var records []Record
				for range 70 {
					record := logLike(r, len(want))
					records = append(records, record)
					want = append(want, string(record.Value))
				}
				receipts = append(receipts, s.publish(2, records...))
			}
			for _, r := range receipts {
				if _, err := s.wait(r); err != nil {
					t.Fatal(err)
				}
			}
			holds(t, c, 2, want...)
			plain, wire := 0, int(s.sum("drain_batch_bytes"))
			for _, v := range want {
				plain += len(v)
			}
			if number > 0 && wire > plain/2 || number == 0 && wire < plain {
				t.Errorf("%d bytes sent for %d", wire, plain)
			}
		})
	}
}

// A batch that is too large compressed is halved as any other.
func TestCompression_ofABatchThatIsTooLarge(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.CreateTopic(testTopic, 1, map[string]string{"max.message.bytes": "20000"}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, c.ListenAddrs(), options{compression: 4}).known()
	r := rand.New(rand.NewPCG(2, 1))
	var records []Record
	for i := range 3000 {
		records = append(records, logLike(r, i))
	}
	if _, err := s.wait(s.publish(0, records...)); err != nil {
		t.Error(err)
	}
	if n := s.metric("drain_records_total", "topic="+testTopic, "result=committed"); n != 3000 {
		t.Errorf("%v records committed", n)
	}
	if s.metric("drain_produce_retries_total", "reason=too_large") == 0 {
		t.Error("no batch was too large: this test proves nothing")
	}
	// What was learnt is of batches before they are compressed.
	if n := s.MaxRecord(0); n < 60_000 {
		t.Errorf("records of at most %d bytes now, where five times as many fit", n)
	}
}

// The fewer bytes there are, the more care is taken to make them less.
func TestFlow(t *testing.T) {
	var f flow
	now := time.Now()
	for _, perSecond := range []float64{1000, 1e6, 1e8, 1000} {
		var rate float64
		for range 500 {
			now = now.Add(100 * time.Millisecond)
			rate = f.add(perSecond/10, now)
		}
		if rate < 0.9*perSecond || rate > 1.2*perSecond {
			t.Errorf("%v bytes a second are taken for %v", perSecond, rate)
		}
	}
	if rate := f.add(0, now.Add(-time.Hour)); rate > 1200 {
		t.Errorf("a clock that goes back: %v", rate)
	}
}

func TestZstd_takesCareWhileThereIsLittle(t *testing.T) {
	var src []byte
	for i, r := 0, rand.New(rand.NewPCG(1, 1)); len(src) < 100_000; i++ {
		src = append(src, logLike(r, i).Value...)
	}
	pack := appendZstd()
	few, err := pack(nil, src)
	if err != nil {
		t.Fatal(err)
	}
	var many []byte
	for range 100 { // 10 MB at once
		if many, err = pack(nil, src); err != nil {
			t.Fatal(err)
		}
	}
	if len(few) >= len(many) {
		t.Errorf("%d bytes while there is little, %d else", len(few), len(many))
	}
}

// The tables of encoders are as large as is said, whatever the processors, and only as many
// as are needed.
func TestZstd_takesTheMemoryThatItSays(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pack := appendZstd()
	src := make([]byte, 300_000)
	for i := range src {
		src[i] = byte(i * i >> 7)
	}
	var packers sync.WaitGroup
	for range 8 {
		packers.Go(func() {
			for size := 100; size < len(src); size *= 2 {
				if _, err := pack(nil, src[:size]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	packers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	took, most := int64(after.HeapAlloc)-int64(before.HeapAlloc), CompressionMemory(slices.Index(Compressions, "zstd"))
	if took > most || took < most/3 || most > 80<<20 {
		t.Errorf("%d bytes taken, %d said", took, most)
	}
	runtime.KeepAlive(pack)
	if CompressionMemory(0) != 0 {
		t.Error("none takes some")
	}
}
