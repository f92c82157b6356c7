package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KeepSessions has members stay in the groups of a cluster for as long as they live, and no longer. kfake (of
// 2026-09-18, groups.go: reply, updateMemberAndRebalance) errs twice where a member waits for the others to join; both are
// mended by heartbeats that are sent for it. stop ends that.
//
//   - Its session begins with its first sign of life in a generation. Who died before, while it waited, gives none, and would
//     keep its partitions until somebody else joins. So each member of a generation gets a first heartbeat.
//   - Its session goes on while it waits, and may end: nobody would answer it then. So who waits gets heartbeats until the
//     generation begins.
func KeepSessions(c *kfake.Cluster) (stop func()) {
	s := &sessions{cluster: c, wake: make(chan struct{}, 1)}
	s.take() // makes the maps
	c.ControlKey(kmsg.JoinGroup.Int16(), s.saw)
	c.ControlKey(kmsg.SyncGroup.Int16(), s.saw)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	return func() { cancel(); running.Wait() }
}

// often is how often a heartbeat is sent for who waits: in a shorter time than any session has.
const often = 150 * time.Millisecond

type sessions struct {
	cluster *kfake.Cluster
	wake    chan struct{}

	mu      sync.Mutex
	begun   map[string]bool            // groups with a generation whose members have had no heartbeat
	waiting map[string]map[string]bool // members that came back and wait for a generation, by group
}

// saw notes who joins, and which generation has begun. The cluster waits for it, and cannot be asked meanwhile.
func (s *sessions) saw(r kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // as kfake has it
	switch r := r.(type) {
	case *kmsg.SyncGroupRequest:
		s.mu.Lock()
		s.begun[r.Group] = true
		s.mu.Unlock()
	case *kmsg.JoinGroupRequest:
		s.waits(r.Group, r.MemberID)
	}
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
	live := func(info *kfake.GroupInfo, member string) {
		// If it fails the member has left, or there is another generation.
		_, _ = client.Heartbeat(ctx, &kafka.HeartbeatRequest{GroupID: info.Group, GenerationID: info.Epoch, MemberID: member})
	}
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		begun, waiting := s.take()
		for group := range begun {
			if info := s.cluster.GroupInfo(group); info != nil && info.State != preparing {
				for _, m := range info.Members {
					live(info, m.MemberID)
				}
			}
		}
		for group, members := range waiting {
			if info := s.cluster.GroupInfo(group); info != nil && info.State == preparing {
				for _, m := range info.Members {
					if members[m.MemberID] {
						s.waits(group, m.MemberID)
						live(info, m.MemberID)
					}
				}
			}
		}
	}
}

// preparing is a group's state while its members are waited for.
const preparing = "PreparingRebalance"

// take gives what saw noted.
func (s *sessions) take() (begun map[string]bool, waiting map[string]map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun, waiting = s.begun, s.waiting
	s.begun, s.waiting = make(map[string]bool), make(map[string]map[string]bool)
	return begun, waiting
}

// waits notes that a member waits for the others.
func (s *sessions) waits(group, member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[group] == nil {
		s.waiting[group] = make(map[string]bool)
	}
	s.waiting[group][member] = true
}
