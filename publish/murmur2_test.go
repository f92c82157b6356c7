package publish

import (
	"testing"

	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"
)

// The hashes of Kafka's own test of it, org.apache.kafka.common.utils.UtilsTest.
func TestMurmur2_isJavas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func TestKey_goesWhereTheJavaClientPutsIt(t *testing.T) {
	java := kafka.Murmur2Balancer{Consistent: true}
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "key")
		partitions := make([]int, rapid.IntRange(1, 64).Draw(t, "partitions"))
		for i := range partitions {
			partitions[i] = i
		}
		want := java.Balance(kafka.Message{Key: key}, partitions...)
		p := idle(len(partitions), Config{BatchRecords: 10, BatchBytes: 1000})
		// The one before it has no key, so that it goes where the frame says.
		if _, err := p.Publish(NewReceipt(new(owner)), 0, []Record{{}, {Key: key}}); err != nil {
			t.Fatal(err)
		}
		for id, pt := range p.topics[0].all() {
			records := 0
			if pt.open != nil {
				records = pt.open.records
			}
			if is(id == 0)+is(id == want) != records {
				t.Fatalf("partition %d has %d records; the key belongs to %d", id, records, want)
			}
		}
	})
}

func is(b bool) int {
	if b {
		return 1
	}
	return 0
}
