package consume

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetched is an answer to a fetch as brokers of a version write it.
func fetched(version int16, batches []byte, given ...aborted) []byte {
	m := kmsg.NewPtrFetchResponse()
	m.SetVersion(version)
	t := kmsg.NewFetchResponseTopic()
	t.Topic, t.TopicID = "router", [16]byte{1}
	p := kmsg.NewFetchResponseTopicPartition()
	p.HighWatermark, p.RecordBatches = 42, batches
	for _, a := range given {
		one := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
		one.ProducerID, one.FirstOffset = a.producer, a.first
		p.AbortedTransactions = append(p.AbortedTransactions, one)
	}
	t.Partitions = append(t.Partitions, p)
	m.Topics = append(m.Topics, t)
	var b []byte
	if m.IsFlexible() {
		b = append(b, 0) // the head's tags
	}
	return m.AppendTo(b)
}

var fetchVersions = []int16{4, 5, 6, 7, 8, 9, 10, 11, 13}

func TestReadsAnswersOfEveryVersion(t *testing.T) {
	for _, version := range fetchVersions {
		for _, batches := range [][]byte{nil, {}, []byte("some bytes")} {
			raw := fetched(version, batches, aborted{7, 8}, aborted{9, 10})
			a := answer{buf: raw}
			if err := a.read(version); err != nil || a.end != 42 || !bytes.Equal(a.batches, batches) || len(a.aborted) != 2 || a.aborted[1] != (aborted{9, 10}) {
				t.Errorf("version %d: %+v, %v", version, a, err)
			}
			needed := len(raw)
			if version >= fetchByID {
				needed -= 3 // tags of partition, topic, answer: not looked at
			}
			for n := range needed {
				cut := answer{buf: raw[:n]}
				if err := cut.read(version); err == nil && len(cut.batches) > 0 {
					t.Errorf("version %d: no error after %d bytes of %d", version, n, len(raw))
				}
			}
		}
	}
}

// FuzzAnswer reads anything as an answer: without a panic, and with no more memory than it has
// bytes.
func FuzzAnswer(f *testing.F) {
	for _, version := range fetchVersions {
		f.Add(fetched(version, []byte("some bytes"), aborted{7, 8}), version)
	}
	f.Fuzz(func(t *testing.T, raw []byte, version int16) {
		if version < fetchOldest || version > fetchByID || version == 12 {
			return
		}
		a := answer{buf: raw}
		err := a.read(version)
		if len(a.aborted) > len(raw)/16+1 || len(a.batches) > len(raw) {
			t.Fatalf("%d transactions and %d bytes in %d", len(a.aborted), len(a.batches), len(raw))
		}
		if err == nil {
			_, _, _ = scan(a.batches, 0)
		}
	})
}
