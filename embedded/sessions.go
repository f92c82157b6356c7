package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndSessions has the groups of a cluster let go of members that died while they waited for the others to join. kfake counts
// the time of a member's session from its first sign of life in a generation, and one whose connection ended before it was
// told of the generation gives none: it would keep its partitions until somebody else joins. So each member of a
// generation gets a first heartbeat from here; those who live send the next ones. stop ends it.
func EndSessions(c *kfake.Cluster) (stop func()) {
	s := &sessions{cluster: c, begun: make(map[string]bool), wake: make(chan struct{}, 1)}
	c.ControlKey(kmsg.SyncGroup.Int16(), s.saw)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	return func() { cancel(); running.Wait() }
}

type sessions struct {
	cluster *kfake.Cluster
	wake    chan struct{}

	mu    sync.Mutex
	begun map[string]bool // groups with a generation whose members have had no heartbeat
}

// saw notes that a generation has begun. The cluster waits for it, and cannot be asked meanwhile.
func (s *sessions) saw(r kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // as kfake has it
	s.mu.Lock()
	s.begun[r.(*kmsg.SyncGroupRequest).Group] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil, nil, false
}

func (s *sessions) run(ctx context.Context) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(s.cluster.ListenAddrs()...), Transport: transport, Timeout: 5 * time.Second}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		begun := s.begun
		s.begun = make(map[string]bool)
		s.mu.Unlock()
		for group := range begun {
			info := s.cluster.GroupInfo(group)
			if info == nil || info.State == "PreparingRebalance" {
				continue // who waits for the next generation may be silent
			}
			for _, m := range info.Members {
				// If it fails the member has left, or there is another generation.
				_, _ = client.Heartbeat(ctx, &kafka.HeartbeatRequest{GroupID: group, GenerationID: info.Epoch, MemberID: m.MemberID})
			}
		}
	}
}
