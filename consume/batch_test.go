package consume

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchOf is a batch of n records as franz-go's producer writes it, their values of size bytes
// each, at an offset.
func batchOf(t testing.TB, codec kgo.CompressionCodec, offset int64, n, size int) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var records []*kgo.Record
	for range n {
		value := make([]byte, size)
		for i := range value {
			value[i] = 'a' + byte(random.Uint32()%26)
		}
		records = append(records, &kgo.Record{Topic: testTopic, Value: value, Key: []byte("key")})
	}
	raw := produced(t, codec, records...)
	for i := range 8 {
		raw[i] = byte(offset >> (56 - 8*i))
	}
	return raw
}

// produced is what franz-go's producer sends for records.
func produced(t testing.TB, codec kgo.CompressionCodec, records ...*kgo.Record) []byte {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, testTopic), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "100000000"}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var mu sync.Mutex
	var raw []byte
	c.ControlKey(int16(kmsg.Produce), func(m kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		raw = append(raw, m.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records...)
		return nil, nil, false
	})
	client := producer(t, c.ListenAddrs(), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(50<<20), kgo.MaxBufferedRecords(1<<20), kgo.BrokerMaxWriteBytes(100<<20))
	defer client.Close()
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return raw
}
