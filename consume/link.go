package consume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/cluster"
)

// patience is how long a broker may be silent while it is to answer, beyond what it was
// told that it may wait.
const patience = 5 * time.Second

// clientID is what brokers know the consumer by, in their logs and quotas.
const clientID = "drain"

// link is a connection to one broker, for one request after another.
type link struct {
	net.Conn
	address  string
	ask      *protocol.Conn
	versions map[int16]int16 // the newest of each request that the broker knows
	request  []byte          // used again
	sent     int32           // requests of our own making
	unhook   func() bool
}

// connect makes a link. It ends with ctx, or with close.
func connect(ctx context.Context, c *cluster.Config, address string) (*link, error) {
	conn, err := c.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, address: address, ask: protocol.NewConn(conn, clientID)}
	l.unhook = context.AfterFunc(ctx, func() { conn.Close() })
	answer, err := l.roundTrip(&apiversions.Request{})
	if err != nil {
		l.close()
		return nil, err
	}
	versions := answer.(*apiversions.Response)
	if versions.ErrorCode != 0 {
		l.close()
		return nil, fmt.Errorf("ask the broker %s what it knows: %w", address, kafka.Error(versions.ErrorCode))
	}
	ours := make(map[protocol.ApiKey]int16)
	l.versions = make(map[int16]int16)
	for _, k := range versions.ApiKeys {
		l.versions[k.ApiKey] = k.MaxVersion
		key := protocol.ApiKey(k.ApiKey)
		ours[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
	}
	l.ask.SetVersions(ours)
	return l, nil
}

func (l *link) close() {
	l.unhook()
	l.Conn.Close()
}

// roundTrip asks what kafka-go has a message for. After an error the link is of no use.
func (l *link) roundTrip(m protocol.Message) (protocol.Message, error) {
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	answer, err := l.ask.RoundTrip(m)
	if err != nil {
		return nil, fmt.Errorf("ask the broker %s (%s): %w", l.address, m.ApiKey(), err)
	}
	return answer, nil
}

// errShort says that an answer ended too soon.
var errShort = errors.New("the answer makes no sense")

// mostAnswer bounds an answer, in bytes.
const mostAnswer = 256 << 20

// send sends l.request, whose first four bytes are for its size, and reads the size of the
// answer, which may take the given time, and its number.
func (l *link) send(within time.Duration) (size int, err error) {
	binary.BigEndian.PutUint32(l.request, uint32(len(l.request)-4))
	if err := l.SetDeadline(time.Now().Add(within)); err != nil {
		return 0, err
	}
	if _, err := l.Write(l.request); err != nil {
		return 0, err
	}
	var head [8]byte
	if _, err := io.ReadFull(l, head[:]); err != nil {
		return 0, err
	}
	size = int(int32(binary.BigEndian.Uint32(head[:]))) - 4
	switch number := int32(binary.BigEndian.Uint32(head[4:])); {
	case size < 0 || number != l.sent:
		return 0, errShort
	case size > mostAnswer:
		return 0, fmt.Errorf("an answer of %d MiB, more than the %d that are read", size>>20, mostAnswer>>20)
	}
	return size, nil
}

// receive reads the rest of an answer into buf, or into a larger one that it returns. Beyond the
// expected size memory is only made as the bytes come.
func (l *link) receive(buf []byte, size, expected int) ([]byte, error) {
	const step = 256 << 10
	if n := min(size, expected); cap(buf) < n {
		buf = make([]byte, 0, n)
	}
	for buf = buf[:0]; len(buf) < size; {
		n := min(size-len(buf), step)
		buf = slices.Grow(buf, n)
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return buf, err
		}
		_, err := io.ReadFull(l, buf[len(buf):len(buf)+n])
		if err != nil {
			return buf, err
		}
		buf = buf[:len(buf)+n]
	}
	return buf, nil
}

// begin begins a request of our own making: its head.
func (l *link) begin(key, version int16, flexible bool) []byte {
	l.sent++
	b := append(l.request[:0], 0, 0, 0, 0) // its size
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(l.sent))
	b = binary.BigEndian.AppendUint16(b, uint16(len(clientID)))
	b = append(b, clientID...)
	if flexible {
		b = append(b, 0) // no tags
	}
	return b
}

// metadata asks for a topic. kafka-go's message for it knows no ids of topics, which
// brokers have since 2.8.
func (l *link) metadata(topic string) (*kmsg.MetadataResponse, error) {
	const newest = 12
	m := kmsg.NewPtrMetadataRequest()
	m.SetVersion(min(newest, l.versions[m.Key()]))
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	m.Topics = append(m.Topics, t)
	m.AllowAutoTopicCreation = false
	l.request = m.AppendTo(l.begin(m.Key(), m.GetVersion(), m.IsFlexible()))
	answer := m.ResponseKind().(*kmsg.MetadataResponse)
	size, err := l.send(patience)
	if err == nil {
		var b []byte
		if b, err = l.receive(nil, size, 0); err == nil {
			r := reader{b: b, compact: m.IsFlexible()}
			r.tags()
			if err = errShort; !r.bad {
				err = answer.ReadFrom(r.b)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask the broker %s for the topic %s: %w", l.address, topic, err)
	}
	return answer, nil
}

// offsets asks the leader of partitions for the first or the last offset of each, as
// kafka.FirstOffset or kafka.LastOffset says.
func (l *link) offsets(topic string, partitions []int, which int64) (map[int]int64, error) {
	m := &listoffsets.Request{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{Topic: topic}}}
	for _, id := range partitions {
		m.Topics[0].Partitions = append(m.Topics[0].Partitions, listoffsets.RequestPartition{Partition: int32(id), CurrentLeaderEpoch: -1, Timestamp: which})
	}
	answer, err := l.roundTrip(m)
	if err != nil {
		return nil, err
	}
	all := make(map[int]int64, len(partitions))
	for _, t := range answer.(*listoffsets.Response).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("ask the broker %s for the offsets of partition %d: %w", l.address, p.Partition, kafka.Error(p.ErrorCode))
			}
			all[int(p.Partition)] = p.Offset
		}
	}
	if len(all) != len(partitions) {
		return nil, fmt.Errorf("ask the broker %s for the offsets of %d partitions: %w", l.address, len(partitions), errShort)
	}
	return all, nil
}
