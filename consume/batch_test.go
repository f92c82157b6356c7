package consume

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/segmentio/kafka-go/compress"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recordBatch is a batch to be written.
type recordBatch struct {
	offset, last int64 // last: delta, of the records unless set
	attrs        int16
	producer     int64
	records      []Record // their times from 1,000,000 on
	pack         func([]byte) []byte
}

const baseTime = 1_000_000

// bytes writes the batch as brokers send it.
func (s recordBatch) bytes() []byte {
	var body []byte
	for _, r := range s.records {
		one := []byte{0} // attributes
		one = binary.AppendVarint(one, r.Time-baseTime)
		one = binary.AppendVarint(one, r.Offset-s.offset)
		for _, b := range [][]byte{r.Key, r.Value} {
			if b == nil {
				one = binary.AppendVarint(one, -1)
			} else {
				one = append(binary.AppendVarint(one, int64(len(b))), b...)
			}
		}
		one = binary.AppendVarint(one, 1) // a header
		one = append(binary.AppendVarint(one, 1), 'h')
		one = append(binary.AppendVarint(one, 2), 'v', 'v')
		body = append(binary.AppendVarint(body, int64(len(one))), one...)
		s.last = max(s.last, r.Offset-s.offset)
	}
	if s.pack != nil {
		body = s.pack(body)
	}
	be := binary.BigEndian
	b := make([]byte, batchHead, batchHead+len(body))
	be.PutUint64(b[atOffset:], uint64(s.offset))
	b[atMagic] = 2
	be.PutUint16(b[atAttrs:], uint16(s.attrs))
	be.PutUint32(b[atLast:], uint32(s.last))
	be.PutUint64(b[atBaseTime:], baseTime)
	be.PutUint64(b[atMaxTime:], 2*baseTime)
	be.PutUint64(b[atProducer:], uint64(s.producer))
	be.PutUint32(b[atCount:], uint32(len(s.records)))
	b = append(b, body...)
	be.PutUint32(b[atLength:], uint32(len(b)-atLength-4))
	sum(b)
	return b
}

// sum writes the checksum.
func sum(b []byte) {
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttrs:], castagnoli))
}

// packer is a compression as a producer does it.
func packer(codec int8) func([]byte) []byte {
	return func(plain []byte) []byte {
		var out bytes.Buffer
		w := compress.Compression(codec).Codec().NewWriter(&out)
		if _, err := w.Write(plain); err != nil {
			panic(err)
		}
		if err := w.Close(); err != nil {
			panic(err)
		}
		return out.Bytes()
	}
}

// packers are those that there are, with the codec's number.
var packers = []struct {
	name  string
	codec int16
	pack  func([]byte) []byte
}{
	{"none", 0, nil},
	{"gzip", 1, packer(1)},
	{"snappy framed as Java does it", 2, packer(2)},
	{"snappy", 2, func(plain []byte) []byte { return snappy.Encode(nil, plain) }},
	{"lz4", 3, packer(3)},
	{"zstd", 4, packer(4)},
}

// some are n records from an offset on, no two alike.
func some(offset int64, n int) (all []Record) {
	random := rand.New(rand.NewPCG(uint64(offset), uint64(n)))
	for i := range int64(n) {
		r := Record{Offset: offset + i, Time: baseTime + random.Int64N(1000) - 500}
		if random.IntN(3) > 0 {
			r.Key = fmt.Appendf(nil, "key %d", i)
		}
		if random.IntN(10) > 0 {
			r.Value = []byte(strings.Repeat(fmt.Sprint("value ", i, " "), random.IntN(20)))
		}
		all = append(all, r)
	}
	return all
}

// decodeAll reads a fetch's batches as a partition does, and keeps a copy.
func decodeAll(raw []byte, from int64, given ...aborted) (records []Record, next int64, errs []error) {
	good, next, err := scan(raw, from)
	if err != nil {
		errs = append(errs, err)
	}
	d := decoder{most: mostRecords}
	d.start(good, from, given)
	for {
		more, err := d.more()
		if err != nil {
			errs = append(errs, err)
		}
		if !more {
			break
		}
		for _, r := range d.records {
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			records = append(records, r)
		}
	}
	if d.next != next {
		errs = append(errs, fmt.Errorf("decoded up to %d, scanned up to %d", d.next, next))
	}
	return records, next, errs
}

// oracle is what franz-go's client reads of the same.
func oracle(raw []byte, from int64, given ...aborted) (records []Record, err error) {
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = raw
	for _, a := range given {
		t := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
		t.ProducerID, t.FirstOffset = a.producer, a.first
		p.AbortedTransactions = append(p.AbortedTransactions, t)
	}
	all, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: from, IsolationLevel: kgo.ReadCommitted()}, &p, kgo.DefaultDecompressor(), nil)
	for _, r := range all.Records {
		records = append(records, Record{r.Offset, r.Timestamp.UnixMilli(), r.Key, r.Value})
	}
	return records, all.Err
}

func same(a, b []Record) bool {
	return slices.EqualFunc(a, b, func(a, b Record) bool {
		return a.Offset == b.Offset && a.Time == b.Time && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && (a.Key == nil) == (b.Key == nil) && (a.Value == nil) == (b.Value == nil)
	})
}

func TestReadsEveryCompression(t *testing.T) {
	t.Parallel()
	for _, p := range packers {
		t.Run(p.name, func(t *testing.T) {
			var raw []byte
			var want []Record
			offset := int64(100)
			for _, n := range []int{1, 3, 500, mostRecords + 1, 7} {
				records := some(offset, n)
				raw = append(raw, recordBatch{offset: offset, attrs: p.codec, records: records, pack: p.pack}.bytes()...)
				want = append(want, records...)
				offset += int64(n)
			}
			for _, from := range []int64{100, 101, 350, offset - 1} {
				got, next, errs := decodeAll(raw, from)
				if len(errs) > 0 || next != offset || !same(got, want[from-100:]) {
					t.Errorf("from %d: %d records, next %d, %v; want %d and %d", from, len(got), next, errs, offset-from, offset)
				}
				if others, err := oracle(raw, from); err != nil || !same(got, others) {
					t.Errorf("from %d: franz-go reads %d records (%v), not the same %d", from, len(others), err, len(got))
				}
			}
		})
	}
}

func TestCutOffBatchIsLeftForTheNextFetch(t *testing.T) {
	first, second := recordBatch{offset: 5, records: some(5, 3)}.bytes(), recordBatch{offset: 8, records: some(8, 3)}.bytes()
	raw := append(first, second...)
	for cut := range second {
		got, next, errs := decodeAll(raw[:len(first)+cut], 5)
		if len(errs) > 0 || next != 8 || !same(got, some(5, 3)) {
			t.Fatalf("cut off after %d bytes: %d records, next %d, %v", cut, len(got), next, errs)
		}
	}
}

func TestTimeOfTheLog(t *testing.T) {
	got, _, errs := decodeAll(recordBatch{records: some(0, 3), attrs: attrAppendTime}.bytes(), 0)
	if len(errs) > 0 || len(got) != 3 || got[0].Time != 2*baseTime || got[2].Time != 2*baseTime {
		t.Errorf("%v %v", got, errs)
	}
}

func TestGapsOfCompaction(t *testing.T) {
	records := some(10, 10)
	raw := recordBatch{offset: 10, last: 15, records: slices.Concat(records[2:4], records[7:8])}.bytes()
	raw = append(raw, recordBatch{offset: 30, last: 4}.bytes()...) // all of them gone
	got, next, errs := decodeAll(raw, 10)
	if len(errs) > 0 || next != 35 || !same(got, slices.Concat(records[2:4], records[7:8])) {
		t.Errorf("%v, next %d, %v", got, next, errs)
	}
}

func TestAbortedTransactionsDoNotCount(t *testing.T) {
	const inTransaction, mark = attrTransactional, attrTransactional | attrControl
	var raw []byte
	add := func(b recordBatch) { raw = append(raw, b.bytes()...) }
	end := func(offset, producer int64, commits byte) {
		add(recordBatch{offset: offset, attrs: mark, producer: producer, records: []Record{{Offset: offset, Time: baseTime, Key: []byte{0, 0, 0, commits}, Value: []byte{0, 0, 0, 0, 0, 0}}}})
	}
	add(recordBatch{offset: 0, attrs: inTransaction, producer: 1, records: some(0, 2)}) // aborted
	add(recordBatch{offset: 2, attrs: inTransaction, producer: 2, records: some(2, 2)})
	add(recordBatch{offset: 4, producer: 1, records: some(4, 1)})                       // in none
	add(recordBatch{offset: 5, attrs: inTransaction, producer: 1, records: some(5, 1)}) // aborted
	end(6, 1, 0)
	add(recordBatch{offset: 7, attrs: inTransaction, producer: 1, records: some(7, 1)})
	end(8, 2, 1)
	end(9, 1, 1)
	given := []aborted{{1, 0}}
	want := slices.Concat(some(2, 2), some(4, 1), some(7, 1))
	got, next, errs := decodeAll(raw, 0, given...)
	if len(errs) > 0 || next != 10 || !same(got, want) {
		t.Errorf("%v, next %d, %v", got, next, errs)
	}
	if others, err := oracle(raw, 0, given...); err != nil || !same(others, want) {
		t.Errorf("franz-go: %v, %v", others, err)
	}
}

func TestBrokenBatches(t *testing.T) {
	be := binary.BigEndian
	for _, test := range []struct {
		name  string
		broke func(b []byte) []byte // the batch from 10 to 19
		err   error
		left  int   // records of it that are read all the same
		next  int64 // where reading can go on
	}{
		{"a bit", func(b []byte) []byte { b[len(b)-5] ^= 1; return b }, errCRC, 0, 20},
		{"its length negative", func(b []byte) []byte { b[atLength] = 0xff; return b }, errHead, 0, 11},
		{"its length too short for a head", func(b []byte) []byte { be.PutUint32(b[atLength:], 20); return b }, errHead, 0, 11},
		{"its offset negative", func(b []byte) []byte { b[0] = 0x80; return b }, errHead, 0, 11},
		{"its offset before the batch before", func(b []byte) []byte { b[7] = 9; return b }, errHead, 0, 11},
		{"its end behind what there can be", func(b []byte) []byte { be.PutUint64(b, 1<<63-5); return b }, errHead, 0, 1<<63 - 4},
		{"its last record negative", func(b []byte) []byte { b[atLast] = 0xff; return b }, errHead, 0, 11},
		{"fewer records than none", func(b []byte) []byte { b[atCount] = 0xff; return b }, errHead, 0, 11},
		{"more records than offsets", func(b []byte) []byte { b[atCount+3] = 11; return b }, errHead, 0, 11},
		{"the format of old", func(b []byte) []byte { b[atMagic] = 1; return b }, errOldFormat, 0, 11},
		{"a format to come", func(b []byte) []byte { b[atMagic] = 3; return b }, errFormat, 0, 11},
		{"fewer records than it says", func(b []byte) []byte {
			b = b[:len(b)-20]
			be.PutUint32(b[atLength:], uint32(len(b)-atLength-4))
			sum(b)
			return b
		}, errRecords, 9, 20},
		{"a record longer than the batch", func(b []byte) []byte { b[batchHead] = 0xff; sum(b); return b }, errRecords, 0, 20},
		{"no compression that there is", func(b []byte) []byte { b[atAttrs+1] = 5; sum(b); return b }, errInflate, 0, 20},
		{"gzip that is none", func(b []byte) []byte { b[atAttrs+1] = 1; sum(b); return b }, errInflate, 0, 20},
		{"snappy that is none", func(b []byte) []byte { b[atAttrs+1] = 2; sum(b); return b }, errInflate, 0, 20},
		{"lz4 that is none", func(b []byte) []byte { b[atAttrs+1] = 3; sum(b); return b }, errInflate, 0, 20},
		{"zstd that is none", func(b []byte) []byte { b[atAttrs+1] = 4; sum(b); return b }, errInflate, 0, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			plain := make([]Record, 10)
			for i := range plain {
				plain[i] = Record{Offset: 10 + int64(i), Time: baseTime, Value: []byte("a value of some length")}
			}
			before := recordBatch{offset: 0, records: some(0, 10)}.bytes()
			raw := append(before, test.broke(recordBatch{offset: 10, records: plain}.bytes())...)
			got, next, errs := decodeAll(raw, 0)
			if len(errs) != 1 || !errors.Is(errs[0], test.err) {
				t.Fatalf("%v, want %v", errs, test.err)
			}
			var bad *batchError
			if !errors.As(errs[0], &bad) || bad.next != test.next {
				t.Errorf("reading goes on at %d, want %d", bad.next, test.next)
			}
			if !same(got, append(some(0, 10), plain[:test.left]...)) || next != 10 && next != test.next {
				t.Errorf("%d records, next %d", len(got), next)
			}
		})
	}
}

func TestBrokenRecordHarmsOnlyItsBatch(t *testing.T) {
	broken := recordBatch{offset: 0, records: some(0, 5)}.bytes()
	broken[batchHead] = 0xff
	sum(broken)
	raw := append(broken, recordBatch{offset: 5, records: some(5, 5)}.bytes()...)
	got, next, errs := decodeAll(raw, 0)
	if len(errs) != 1 || next != 10 || !same(got, some(5, 5)) {
		t.Errorf("%d records, next %d, %v", len(got), next, errs)
	}
}

func TestLyingRecords(t *testing.T) {
	record := func(parts ...int64) []byte { // attributes 0, then varints
		b := []byte{0}
		for _, v := range parts {
			b = binary.AppendVarint(b, v)
		}
		return append(binary.AppendVarint(nil, int64(len(b))), b...)
	}
	for name, body := range map[string][]byte{
		"no length":             {0x80},
		"length 0":              {0},
		"negative length":       binary.AppendVarint(nil, -5),
		"a varint without end":  bytes.Repeat([]byte{0xff}, 30),
		"a huge key":            record(0, 0, 1<<40, 0),
		"a key over the record": record(0, 0, 3, 0),
		"a huge value":          record(0, 0, -1, 1<<40),
		"an offset before":      record(0, -1, -1, -1),
		"an offset behind":      record(0, 1, -1, -1),
		"cut off":               {2, 0},
	} {
		b := append(recordBatch{offset: 0}.bytes(), body...)
		binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-atLength-4))
		binary.BigEndian.PutUint32(b[atCount:], 1)
		sum(b)
		got, next, errs := decodeAll(b, 0)
		if len(errs) != 1 || !errors.Is(errs[0], errRecords) || len(got) != 0 || next != 1 {
			t.Errorf("%s: %d records, next %d, %v", name, len(got), next, errs)
		}
	}
}

func TestOffsetsOfABatchMustRise(t *testing.T) {
	for _, second := range []int64{0, 1} {
		records := some(0, 3)
		records[2].Offset = second
		got, next, errs := decodeAll(recordBatch{records: records, last: 2}.bytes(), 0)
		if len(errs) != 1 || !errors.Is(errs[0], errRecords) || !same(got, records[:2]) || next != 3 {
			t.Errorf("%d after 1: %d records, next %d, %v", second, len(got), next, errs)
		}
	}
}

func TestWhatIsInflatedIsBounded(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	for _, p := range packers[1:] {
		packed := p.pack(make([]byte, n))
		switch {
		case p.codec == 1, p.codec == 4: // what is packed can be put together
			packed = bytes.Repeat(packed, 3*mostInflated/n)
		case bytes.HasPrefix(packed, []byte(xerial)):
			packed = append(packed, bytes.Repeat(packed[xerialHead:], 3*mostInflated/n)...)
		default:
			packed = p.pack(make([]byte, mostInflated+1))
		}
		b := append(recordBatch{offset: 0, attrs: p.codec}.bytes(), packed...)
		binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-atLength-4))
		binary.BigEndian.PutUint32(b[atCount:], 1)
		sum(b)
		d := decoder{most: mostRecords}
		good, _, err := scan(b, 0)
		if err != nil {
			t.Fatal(err)
		}
		d.start(good, 0, nil)
		if _, err := d.more(); !errors.Is(err, errInflate) {
			t.Errorf("%s: %v", p.name, err)
		}
		if cap(d.inflated) > 2*mostInflated {
			t.Errorf("%s: %d MiB for %d kB", p.name, cap(d.inflated)>>20, len(packed)>>10)
		}
	}
}

func TestALyingLengthOfSnappyTakesNoMemory(t *testing.T) {
	for name, packed := range map[string][]byte{
		"of a block":            binary.AppendUvarint(nil, 60<<20),
		"of a framed block":     append([]byte(xerial+"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05"), binary.AppendUvarint(nil, 1<<31)...),
		"of the framing":        []byte(xerial + "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"),
		"of the framing, short": []byte(xerial + "\x00\x00\x00\x01\x00\x00\x00\x01\xff"),
		"cut off in the head":   []byte(xerial + "\x00\x00"),
	} {
		var f inflater
		if _, err := f.inflate(2, packed); err == nil {
			t.Errorf("%s: no error", name)
		}
		if cap(f.inflated) > 1<<20 {
			t.Errorf("%s: %d bytes", name, cap(f.inflated))
		}
	}
}

func TestRecordsComeSomeAtATime(t *testing.T) {
	const n = 3*mostRecords + 5
	for _, p := range packers {
		var raw []byte
		for i := range 3 {
			records := make([]Record, n)
			for j := range records {
				records[j] = Record{Offset: int64(i*n + j), Time: baseTime}
			}
			raw = append(raw, recordBatch{offset: int64(i * n), attrs: p.codec, records: records, pack: p.pack}.bytes()...)
		}
		good, _, err := scan(raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		d := decoder{most: mostRecords}
		d.start(good, 0, nil)
		for count := 0; ; {
			more, err := d.more()
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				if count != 3*n {
					t.Errorf("%s: %d records, want %d", p.name, count, 3*n)
				}
				break
			}
			if count += len(d.records); len(d.records) == 0 || len(d.records) > mostRecords || d.next != int64(count) {
				t.Fatalf("%s: %d records at once, up to %d, next %d", p.name, len(d.records), count, d.next)
			}
		}
	}
}

func TestNothingIsInflatedAhead(t *testing.T) {
	var raw []byte
	const each = 100 << 10
	for i := range int64(50) {
		raw = append(raw, recordBatch{offset: i, attrs: 4, pack: packer(4), records: []Record{{Offset: i, Time: baseTime, Value: make([]byte, each)}}}.bytes()...)
	}
	good, _, _ := scan(raw, 0)
	d := decoder{most: mostRecords}
	d.start(good, 0, nil)
	for more := true; more; {
		more, _ = d.more()
		if len(d.inflated) > enoughInflated+2*each {
			t.Fatalf("%d bytes at once", len(d.inflated))
		}
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	raw := recordBatch{offset: 0, records: some(0, 1000)}.bytes()
	d := decoder{most: mostRecords}
	if n := testing.AllocsPerRun(100, func() {
		good, _, _ := scan(raw, 0)
		d.start(good, 0, nil)
		for more := true; more; {
			more, _ = d.more()
		}
	}); n > 0 {
		t.Errorf("%.1f allocations for 1000 records", n)
	}
}

// FuzzDecode reads anything: what franz-go reads of it too is the same, and no number in it
// makes us wait or allocate.
func FuzzDecode(f *testing.F) {
	for _, p := range packers {
		raw := recordBatch{offset: 3, attrs: p.codec, records: some(3, 20), pack: p.pack}.bytes()
		f.Add(append(raw, recordBatch{offset: 23, records: some(23, 2)}.bytes()...), int64(3), true)
		f.Add(raw, int64(10), false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, from int64, mend bool) {
		if from < 0 || len(raw) > 1<<16 {
			return
		}
		if mend { // the checksums, or little is read
			raw = bytes.Clone(raw)
			for b := raw; len(b) >= batchHead; {
				n := int64(int32(binary.BigEndian.Uint32(b[atLength:]))) + atLength + 4
				if n < batchHead || n > int64(len(b)) {
					break
				}
				sum(b[:n])
				b = b[n:]
			}
		}
		good, next, _ := scan(raw, from)
		if next < from || len(good) > len(raw) {
			t.Fatalf("%d bytes are good of %d, next %d from %d", len(good), len(raw), next, from)
		}
		d := decoder{most: mostRecords}
		d.start(good, from, nil)
		var got []Record
		fails := false
		for before, more := from, true; more; before = d.next {
			var err error
			more, err = d.more()
			fails = fails || err != nil
			if d.next < before || len(d.records) > mostRecords {
				t.Fatalf("next %d after %d, %d records", d.next, before, len(d.records))
			}
			for _, r := range d.records {
				if r.Offset < before || r.Offset >= d.next {
					t.Fatalf("offset %d, not from %d to %d", r.Offset, before, d.next)
				}
				before = r.Offset + 1
				if !fails {
					r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
					got = append(got, r)
				}
			}
			if cap(d.inflated) > 2*mostInflated {
				t.Fatalf("%d bytes inflated of %d", cap(d.inflated), len(raw))
			}
		}
		if d.next != next {
			t.Fatalf("decoded up to %d, scanned up to %d", d.next, next)
		}
		if fails {
			return
		}
		others, _ := oracle(good, from) // without those behind broken headers, which are not looked at here
		for _, r := range others {
			i, ok := slices.BinarySearchFunc(got, r.Offset, func(r Record, offset int64) int { return cmp.Compare(r.Offset, offset) })
			if ok && max(got[i].Time, -got[i].Time) > 1<<42 {
				r.Time = got[i].Time // franz-go makes nanoseconds of it, which are more than it can hold
			}
			if !ok || !same(got[i:i+1], []Record{r}) {
				t.Fatalf("franz-go reads another record at %d: %.200q %.200q; read here %d up to %d of %d", r.Offset, r.Key, r.Value, len(got), next, len(others))
			}
		}
	})
}
