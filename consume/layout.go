package consume

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// layout is where a topic's partitions are.
type layout struct {
	id         [16]byte // the topic's, zero where brokers have none
	partitions int
	leaders    map[int]string // addresses, of those that have a leader
}

// topicID is an id as Kafka's tools write it.
func topicID(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// look gives a layout that was asked for after since. Those who want one at the same time
// share it, and the error.
func (g *Group) look(ctx context.Context, since time.Time) (*layout, error) {
	select {
	case g.lookups <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.lookups }()
	if g.lookedAt.After(since) {
		return g.layout, g.unknown
	}
	began := time.Now()
	found, err := g.lookUp(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	g.lookedAt, g.layout, g.unknown = began, found, err
	return found, err
}

// lookUp asks one of the brokers, and the next one after an error. The connection is kept, until
// unlook; that it has ended meanwhile is no error.
func (g *Group) lookUp(ctx context.Context) (found *layout, err error) {
	tries := len(g.cfg.Cluster.Addresses)
	if g.asking != nil {
		tries++
	}
	for range tries {
		if g.asking == nil {
			l, dialErr := connect(ctx, g.cfg.Cluster, g.nextAddress())
			if err = dialErr; err != nil {
				continue
			}
			l.unhook()
			g.asking = l
		}
		l := g.asking
		l.unhook = context.AfterFunc(ctx, func() { l.Conn.Close() })
		answer, askErr := l.metadata(g.cfg.Topic)
		if err = askErr; l.unhook() && err == nil {
			return g.read(answer)
		}
		l.close()
		g.asking = nil
	}
	return nil, err
}

// nextAddress is another of the cluster's each time.
func (g *Group) nextAddress() string {
	all := g.cfg.Cluster.Addresses
	g.address = (g.address + 1) % len(all)
	return all[g.address]
}

// unlook ends the connection that lookUp keeps. Nobody looks any more.
func (g *Group) unlook() {
	if g.asking != nil {
		g.asking.close()
		g.asking = nil
	}
}

// read makes a layout of what a broker said.
func (g *Group) read(m *kmsg.MetadataResponse) (*layout, error) {
	if len(m.Topics) != 1 {
		return nil, errShort
	}
	t := &m.Topics[0]
	if t.ErrorCode != 0 {
		return nil, g.topicError(kafka.Error(t.ErrorCode))
	}
	brokers := make(map[int32]string, len(m.Brokers))
	for i := range m.Brokers {
		b := &m.Brokers[i]
		brokers[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	found := &layout{id: t.TopicID, partitions: len(t.Partitions), leaders: make(map[int]string, len(t.Partitions))}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if address := brokers[p.Leader]; address != "" {
			found.leaders[int(p.Partition)] = address
		}
	}
	if found.partitions == 0 {
		return nil, g.topicError(kafka.UnknownTopicOrPartition)
	}
	return found, nil
}

// topicError says what to do about a topic that cannot be read.
func (g *Group) topicError(err kafka.Error) error {
	topic := g.cfg.Topic
	bare := strings.TrimPrefix(topic, g.cfg.Cluster.Prefix)
	do := ""
	switch err {
	case kafka.UnknownTopicOrPartition:
		do = fmt.Sprintf(": make it with `topic create %s`, on Heroku `heroku kafka:topics:create %s`; or look at KAFKA_PREFIX", bare, bare)
	case kafka.TopicAuthorizationFailed:
		do = ": allow this user to read it, or look at KAFKA_PREFIX"
	}
	return fmt.Errorf("topic %s: %w%s", topic, err, do)
}

// groupError says what to do about an error of the group.
func (g *Group) groupError(err error) error {
	do := ""
	switch {
	case errors.Is(err, kafka.GroupAuthorizationFailed):
		do = fmt.Sprintf(": allow this user to read as the group %s (on Heroku `heroku kafka:consumer-groups:create %s`), or look at KAFKA_PREFIX",
			g.cfg.Group, strings.TrimPrefix(g.cfg.Group, g.cfg.Cluster.Prefix))
	case errors.Is(err, kafka.InvalidSessionTimeout):
		do = ": the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms do not allow it"
	case errors.Is(err, kafka.InconsistentGroupProtocol):
		do = ": a program of another kind is in the group; give this one a group of its own"
	}
	return fmt.Errorf("group %s: %w%s", g.cfg.Group, err, do)
}

// offsets gives the first or the last offset of partitions, as kafka.FirstOffset or
// kafka.LastOffset says, or that of the first record of a time in milliseconds or later, -1 for none.
func (g *Group) offsets(ctx context.Context, found *layout, partitions []int, which int64) (map[int]int64, error) {
	of := make(map[string][]int)
	for _, id := range partitions {
		address := found.leaders[id]
		if address == "" {
			return nil, fmt.Errorf("partition %d: %w", id, kafka.LeaderNotAvailable)
		}
		of[address] = append(of[address], id)
	}
	all := make(map[int]int64)
	for address, ids := range of {
		l, err := connect(ctx, g.cfg.Cluster, address)
		if err != nil {
			return nil, err
		}
		some, err := l.offsets(g.cfg.Topic, ids, which)
		l.close()
		if err != nil {
			return nil, err
		}
		maps.Copy(all, some)
	}
	return all, nil
}

// offsetsOfGroup gives what the group has committed of partitions, -1 for nothing.
func (g *Group) offsetsOfGroup(ctx context.Context, partitions []int) (map[int]int64, error) {
	l, err := g.coordinator(ctx)
	if err != nil {
		return nil, g.groupError(err)
	}
	defer l.close()
	topic := offsetfetch.RequestTopic{Name: g.cfg.Topic}
	for _, id := range partitions {
		topic.PartitionIndexes = append(topic.PartitionIndexes, int32(id))
	}
	answer, err := l.roundTrip(&offsetfetch.Request{GroupID: g.cfg.Group, Topics: []offsetfetch.RequestTopic{topic}})
	if err != nil {
		return nil, err
	}
	found := answer.(*offsetfetch.Response)
	offsets := make(map[int]int64, len(partitions))
	for _, id := range partitions {
		offsets[id] = -1
	}
	switch err := kafka.Error(found.ErrorCode); err {
	case 0:
	case kafka.GroupIdNotFound: // it has not begun yet
		return offsets, nil
	default:
		return nil, g.groupError(err)
	}
	for _, t := range found.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("the offset of partition %d: %w", p.PartitionIndex, g.groupError(kafka.Error(p.ErrorCode)))
			}
			offsets[int(p.PartitionIndex)] = max(p.CommittedOffset, -1)
		}
	}
	return offsets, nil
}

// coordinator connects to the broker that the group belongs to.
func (g *Group) coordinator(ctx context.Context) (l *link, err error) {
	for _, address := range g.cfg.Cluster.Addresses {
		if l, err = connect(ctx, g.cfg.Cluster, address); err != nil {
			continue
		}
		answer, askErr := l.roundTrip(&findcoordinator.Request{Key: g.cfg.Group})
		l.close()
		if err = askErr; err != nil {
			continue
		}
		found := answer.(*findcoordinator.Response)
		if found.ErrorCode == 0 {
			return connect(ctx, g.cfg.Cluster, net.JoinHostPort(found.Host, strconv.Itoa(int(found.Port))))
		}
		err = kafka.Error(found.ErrorCode)
	}
	return nil, err
}
