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
// 2026-09-18, groups.go: reply, updateMemberAndRebalance, removeMember) errs twice where a member waits for others; both are
// mended by heartbeats that are sent for it. stop ends that, and comes before the cluster's Close.
//
//   - Its session begins with its first sign of life in a generation. Who died before, while it waited, gives none, and would
//     keep its partitions until somebody else joins. So each member of a generation gets a first heartbeat.
//   - Its session goes on while it waits for all to join, or for the leader's assignment, and may end: nobody would answer it
//     then. So who waits gets heartbeats until it is answered.
func KeepSessions(c *kfake.Cluster) (stop func()) {
	s := &sessions{cluster: c, begun: make(map[string]bool), waiting: make(map[waiter]wait), wake: make(chan struct{}, 1)}
	s.watch(kmsg.JoinGroup)
	s.watch(kmsg.SyncGroup)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	return func() {
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		cancel()
		running.Wait()
	}
}

const (
	// often is how often a heartbeat is sent for who waits: in a shorter time than any session has.
	often = 150 * time.Millisecond
	// soon is when a request that was seen has been handled.
	soon = time.Second
	// mostWatched is how many requests a watch sees. kfake keeps each connection's last one for as long as it is watched.
	mostWatched = 100
)

// The states of a group, as kfake calls them, in which members wait.
const (
	joining = "PreparingRebalance"
	syncing = "CompletingRebalance"
)

type sessions struct {
	cluster *kfake.Cluster
	wake    chan struct{}

	mu      sync.Mutex
	begun   map[string]bool // groups with a generation whose members have had no heartbeat
	waiting map[waiter]wait
	stopped bool
}

// waiter is a member that waits for others.
type waiter struct{ group, member string }

// wait is the state of the group in which it waits, and since when.
type wait struct {
	state string
	since time.Time
}

// watch has saw told of each request of a kind, before it is handled.
func (s *sessions) watch(key kmsg.Key) {
	seen := 0
	s.cluster.ControlKey(key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		goesOn := s.saw(r)
		if seen++; !goesOn || seen == mostWatched {
			s.cluster.DropControl()
		}
		if goesOn && seen == mostWatched {
			s.watch(key)
		}
		return nil, nil, false
	})
}

// saw notes who waits, and which generation has begun. It tells whether there is more to see.
func (s *sessions) saw(r kmsg.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	switch r := r.(type) {
	case *kmsg.JoinGroupRequest:
		s.waiting[waiter{r.Group, r.MemberID}] = wait{joining, time.Now()}
	case *kmsg.SyncGroupRequest: // all who joined were answered
		s.begun[r.Group] = true
		s.waiting[waiter{r.Group, r.MemberID}] = wait{syncing, time.Now()}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

func (s *sessions) run(ctx context.Context) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(s.cluster.ListenAddrs()...), Transport: transport, Timeout: 5 * time.Second}
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		for _, group := range s.concerned() {
			info := s.cluster.GroupInfo(group)
			for _, m := range s.silent(group, info) {
				_, err := client.Heartbeat(ctx, &kafka.HeartbeatRequest{GroupID: group, GenerationID: info.Epoch, MemberID: m})
				if err != nil && ctx.Err() == nil { // it did not come to an answer
					s.mu.Lock()
					s.begun[group] = true
					s.mu.Unlock()
				}
			}
		}
	}
}

// concerned are the groups in which there may be something to do.
func (s *sessions) concerned() (groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]bool)
	for group := range s.begun {
		all[group] = true
	}
	for w := range s.waiting {
		all[w.group] = true
	}
	for group := range all {
		groups = append(groups, group)
	}
	return groups
}

// silent are the members of a group for which a heartbeat is to be sent. info is the group as it is, or was a moment ago.
func (s *sessions) silent(group string, info *kfake.GroupInfo) (members []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.begun[group] && info != nil && info.State != joining // who joins may be silent
	delete(s.begun, group)
	if info == nil {
		info = new(kfake.GroupInfo)
	}
	in := make(map[string]bool)
	for _, m := range info.Members {
		in[m.MemberID] = true
		if waits := s.waiting[waiter{group, m.MemberID}].state == info.State; waits || first {
			members = append(members, m.MemberID)
		}
	}
	for w, is := range s.waiting {
		if w.group == group && (!in[w.member] || is.state != info.State) && time.Since(is.since) > soon {
			delete(s.waiting, w)
		}
	}
	return members
}
