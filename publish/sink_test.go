package publish

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/trial/child"
)

// sinkPartitions is how many partitions each topic has at the sink.
const sinkPartitions = 8

// startSink starts a broker that swallows what it is sent, in a process of its own
// so that its work is not measured: this test's program, which TestMain makes one.
func startSink(t testing.TB) (addr string) { return child.Start(t, "DRAIN_TEST_SINK") }

// runSink is the sink's process.
func runSink() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go sink(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// sink is the broker at l.
func sink(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go swallow(c, int32(portOf(l.Addr().String())))
	}
}

// swallow answers one connection's requests.
func swallow(c net.Conn, port int32) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 1<<20)
	var head [4]byte
	var body, out []byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		if n := int(binary.BigEndian.Uint32(head[:])); n > cap(body) {
			body = make([]byte, n)
		} else {
			body = body[:n]
		}
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		r := kbin.Reader{Src: body}
		req := kmsg.RequestForKey(r.Int16())
		req.SetVersion(r.Int16())
		correlation := r.Int32()
		r.NullableString() // the client's id
		if req.IsFlexible() {
			kmsg.SkipTags(&r)
		}
		if err := req.ReadFrom(r.Src); err != nil {
			return
		}
		res := answer(req, port)
		out = kbin.AppendInt32(out[:0], 0)
		out = kbin.AppendInt32(out, correlation)
		if res.IsFlexible() && res.Key() != int16(kmsg.ApiVersions) {
			out = append(out, 0)
		}
		out = res.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// answer is a broker's that knows every topic and stores everything.
func answer(req kmsg.Request, port int32) kmsg.Response {
	res := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Metadata, kmsg.ApiVersions, kmsg.InitProducerID} {
			k := kmsg.ApiVersionsResponseApiKey{ApiKey: int16(key), MaxVersion: 4}
			if key == kmsg.Produce {
				k.MinVersion, k.MaxVersion = 3, 8
			}
			res.(*kmsg.ApiVersionsResponse).ApiKeys = append(res.(*kmsg.ApiVersionsResponse).ApiKeys, k)
		}
	case *kmsg.MetadataRequest:
		res := res.(*kmsg.MetadataResponse)
		res.Brokers = []kmsg.MetadataResponseBroker{{Host: "127.0.0.1", Port: port}}
		for _, t := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = t.Topic
			for id := range int32(sinkPartitions) {
				p := kmsg.NewMetadataResponseTopicPartition()
				p.Partition = id
				topic.Partitions = append(topic.Partitions, p)
			}
			res.Topics = append(res.Topics, topic)
		}
	case *kmsg.InitProducerIDRequest:
		res.(*kmsg.InitProducerIDResponse).ProducerID = 1
	case *kmsg.ProduceRequest:
		for _, t := range req.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition = p.Partition
				topic.Partitions = append(topic.Partitions, partition)
			}
			res.(*kmsg.ProduceResponse).Topics = append(res.(*kmsg.ProduceResponse).Topics, topic)
		}
	}
	return res
}
