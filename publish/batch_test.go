package publish

import (
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// anyRecord is a record with any bytes, without a key, with an empty one, or with
// one. A value is mostly short, sometimes past where its length takes more bytes.
var anyRecord = rapid.Custom(func(t *rapid.T) Record {
	var r Record
	if rapid.Bool().Draw(t, "keyed") {
		r.Key = rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "key")
	}
	r.Value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
	if stretch := rapid.SampledFrom([]int{0, 0, 0, 64, 8192}).Draw(t, "stretch"); stretch > 0 {
		r.Value = slices.Grow(r.Value, stretch)[:stretch]
	}
	return r
})

func anyBatch(t *rapid.T, opened time.Time, atLeast int) (*batch, []Record) {
	records := rapid.SliceOfN(anyRecord, atLeast, 20).Draw(t, "records")
	b := newBatch(opened)
	for i := range records {
		b.add(&records[i])
	}
	return b, records
}

// read takes a batch apart with another implementation of the format.
func read(t interface{ Fatalf(string, ...any) }, buf []byte) (b kmsg.RecordBatch, records []Record) {
	if err := b.ReadFrom(buf[4:]); err != nil {
		t.Fatalf("read: %v", err)
	}
	for rest := b.Records; len(rest) > 0; {
		var r kmsg.Record
		if err := r.ReadFrom(rest); err != nil {
			t.Fatalf("read record %d: %v", len(records), err)
		}
		if int(r.OffsetDelta) != len(records) || r.TimestampDelta64 != 0 || len(r.Headers) > 0 || r.Attributes != 0 {
			t.Fatalf("record %d is %+v", len(records), r)
		}
		records = append(records, Record{r.Key, r.Value})
		rest = rest[int(r.Length)+varintLen(int64(r.Length)):]
	}
	return b, records
}

func same(a, b Record) bool {
	return (a.Key == nil) == (b.Key == nil) && string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value)
}

func TestBatch_isReadBackByAnotherImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opened := time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "opened"))
		id := producer{rapid.Int64Min(0).Draw(t, "id"), rapid.Int16Min(0).Draw(t, "epoch")}
		sequence := rapid.Int32Min(0).Draw(t, "sequence")
		b, want := anyBatch(t, opened, 1)
		b.seal(producer{1, 1}, 1)
		b.seal(id, sequence) // again, as a batch is that is sent again
		head, got := read(t, b.buf)
		crc := crc32.Checksum(b.buf[4+21:], crc32.MakeTable(crc32.Castagnoli))
		if int(head.Length) != len(b.buf)-16 || uint32(head.CRC) != crc || head.Magic != 2 || head.Attributes != 0 || head.FirstOffset != 0 {
			t.Fatalf("head %+v", head)
		}
		if head.FirstTimestamp != opened.UnixMilli() || head.MaxTimestamp != opened.UnixMilli() {
			t.Fatalf("from %d to %d, want %d", head.FirstTimestamp, head.MaxTimestamp, opened.UnixMilli())
		}
		if head.ProducerID != id.id || head.ProducerEpoch != id.epoch || head.FirstSequence != sequence {
			t.Fatalf("producer %d.%d at %d, want %v at %d", head.ProducerID, head.ProducerEpoch, head.FirstSequence, id, sequence)
		}
		if int(head.NumRecords) != len(want) || int(head.LastOffsetDelta) != len(want)-1 || !slices.EqualFunc(got, want, same) {
			t.Fatalf("%d records came back as %d", len(want), len(got))
		}
		b.free()
	})
}

func TestRecord_neverTakesMoreThanItsSize(t *testing.T) {
	worst := newBatch(time.Now())
	worst.records = math.MaxInt32
	for _, r := range []Record{{}, {Key: []byte{}}, {Key: make([]byte, 1<<20), Value: make([]byte, 1<<20)}} {
		before := len(worst.buf)
		worst.add(&r)
		if took := len(worst.buf) - before; took > r.Size() {
			t.Errorf("a record of %d bytes took %d, more than %d", len(r.Key)+len(r.Value), took, r.Size())
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b, records := anyBatch(t, time.Now(), 0)
		sum := 0
		for i := range records {
			sum += records[i].Size()
		}
		if len(b.buf)-batchHead > sum || b.unclaimed != sum {
			t.Fatalf("%d bytes and a budget of %d for records of %d", len(b.buf)-batchHead, b.unclaimed, sum)
		}
		b.free()
	})
}

func TestSplit_keepsRecordsOrderAndClaims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, want := anyBatch(t, time.Now(), 2)
		b.sealedBy = byBytes
		budget := b.unclaimed
		claims := make(map[*Receipt]int)
		for left := len(want); left > 0; {
			r := &Receipt{}
			claims[r] = rapid.IntRange(1, left).Draw(t, "claim")
			left -= claims[r]
			b.claimFor(r, claims[r])
		}
		first, second := b.split()
		var got []Record
		holders, bytes := make(map[*Receipt]int32), 0
		for _, half := range []*batch{first, second} {
			half.seal(producer{}, 0)
			_, records := read(t, half.buf)
			got = append(got, records...)
			claimed := 0
			for _, c := range half.receipts {
				if c.records < 1 {
					t.Fatalf("a claim on %d records", c.records)
				}
				claims[c.receipt] -= int(c.records)
				claimed += int(c.records)
				holders[c.receipt]++
				bytes += int(c.bytes)
			}
			if len(records) == 0 || claimed != len(records) || half.records != len(records) || half.sealedBy != byBytes {
				t.Fatalf("%d records, of them %d claimed, in a half of %d", len(records), claimed, half.records)
			}
		}
		for r, left := range claims {
			if left != 0 || r.left != holders[r] {
				t.Fatalf("%d records are claimed too few; the receipt waits for %d of %d batches", left, r.left, holders[r])
			}
		}
		if !slices.EqualFunc(got, want, same) || bytes != budget {
			t.Fatalf("%d records of %d, budget %d of %d", len(got), len(want), bytes, budget)
		}
		first.free()
		second.free()
	})
}

func TestBatches_areTakenByABroker(t *testing.T) {
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{}).known()
	missing := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(anyRecord, 1, 3).Draw(t, "records")
		for i := range records {
			r := &records[i]
			r.Value = r.Value[:min(len(r.Value), 9000)]
			missing[identity(r.Key, r.Value)]++
		}
		if err := s.publish(0, records...).Wait(s.t.Context(), time.Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
	})
	for _, records := range stored(t, c) {
		for _, r := range records {
			missing[identity(r.Key, r.Value)]--
		}
	}
	for id, n := range missing {
		if n != 0 {
			t.Errorf("%d missing of %.100q", n, id)
		}
	}
}

func identity(key, value []byte) string {
	if key == nil {
		return "no key: " + string(value)
	}
	return fmt.Sprintf("key %q: %s", key, value)
}
