package embedded

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"drain/trial/check"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	group   = "readers"
	session = 6 * time.Second
)

// join joins the group, as a new member if it has no id, and waits for the generation.
func join(ctx context.Context, c *kgo.Client, group, member string) (*kmsg.JoinGroupResponse, error) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.MemberID, r.ProtocolType = group, member, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = int32(session.Milliseconds()), 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "range"
	r.Protocols = append(r.Protocols, p)
	answer, err := r.RequestWith(ctx, c)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if errors.Is(err, kerr.MemberIDRequired) {
		return join(ctx, c, group, answer.MemberID)
	}
	return answer, err
}

// reader is a member of the group.
type reader struct {
	t          *testing.T
	client     *kgo.Client
	ctx        context.Context
	group, id  string
	generation int32
}

func newReader(t *testing.T, b *Broker) *reader {
	c, _ := client(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return &reader{t: t, client: c, ctx: ctx, group: group}
}

// takePart joins, and waits for the generation to begin.
func (r *reader) takePart() error {
	joined, err := join(r.ctx, r.client, r.group, r.id)
	if err != nil {
		return err
	}
	r.id, r.generation = joined.MemberID, joined.Generation
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = r.group, r.id, r.generation
	synced, err := sync.RequestWith(r.ctx, r.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(synced.ErrorCode)
}

// live sends a heartbeat, and tells whether all are to join once more.
func (r *reader) live() (rebalances bool) {
	r.t.Helper()
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = r.group, r.id, r.generation
	answer, err := beat.RequestWith(r.ctx, r.client)
	must(r.t, err)
	if err := kerr.ErrorForCode(answer.ErrorCode); errors.Is(err, kerr.RebalanceInProgress) {
		return true
	} else {
		must(r.t, err)
	}
	return false
}

// A member that died while it waited for the others is let go of after its session, as those who die later are.
func TestSessions_endForWhoDiedWaiting(t *testing.T) {
	t.Parallel()
	b := open(t, config(t, "router"))
	defer b.Close()
	r := newReader(t, b)
	members := func() int { return len(b.cluster.GroupInfo(group).Members) }
	must(t, r.takePart())

	const dying = 8 // as kfake lets some of them go by chance
	kill := make([]func(), dying)
	for i := range kill {
		other, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
		must(t, err)
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			_, _ = join(r.ctx, other, group, "")
		}()
		kill[i] = func() { other.Close(); <-dead }
	}
	check.Eventually(t, "they wait for this one", func() bool { return members() == 1+dying })
	for _, die := range kill {
		die()
	}
	time.Sleep(200 * time.Millisecond) // until kfake sees it
	must(t, r.takePart())
	if n := members(); n != 1+dying {
		t.Fatalf("%d members are in the generation, want %d", n, 1+dying)
	}
	check.Eventually(t, "those who died are let go of", func() bool {
		if r.live() {
			must(t, r.takePart())
		}
		return members() == 1
	})
}

// A member that waits for one that takes its time stays, however short its session is.
func TestSessions_lastForWhoWaits(t *testing.T) {
	t.Parallel()
	b := open(t, config(t, "router"))
	defer b.Close()
	leader, slow := newReader(t, b), newReader(t, b)
	taken := make(chan error, 2)
	must(t, leader.takePart())
	go func() { taken <- slow.takePart() }()
	check.Eventually(t, "a rebalance", leader.live)
	must(t, leader.takePart())
	must(t, <-taken)
	for range 2 * mostWatched { // and what comes then is seen, too
		if _, err := join(slow.ctx, slow.client, group, "nobody"); !errors.Is(err, kerr.UnknownMemberID) {
			t.Fatal(err)
		}
	}

	go func() { taken <- leader.takePart() }() // a leader that joins once more wants another generation
	check.Eventually(t, "another rebalance", slow.live)
	for began := time.Now(); time.Since(began) < session+2*time.Second; time.Sleep(session / 10) {
		slow.live()
	}
	go func() { taken <- slow.takePart() }()
	must(t, <-taken)
	must(t, <-taken)
	if n := len(b.cluster.GroupInfo(group).Members); n != 2 || slow.generation != leader.generation {
		t.Fatalf("%d members, generations %d and %d", n, slow.generation, leader.generation)
	}
}

// A member that waits for the assignment of a leader that died is told, and goes on without it.
func TestSessions_lastForWhoWaitsForTheLeader(t *testing.T) {
	t.Parallel()
	b := open(t, config(t, "router"))
	defer b.Close()
	const groups = 12 // as it is chance whose session would end first
	survive := make(chan error, groups)
	for i := range groups {
		group := fmt.Sprint(group, i)
		leader, other := newReader(t, b), newReader(t, b)
		leader.group, other.group = group, group
		must(t, leader.takePart())
		taken := make(chan error, 1)
		go func() { taken <- other.takePart() }()
		check.Eventually(t, "a rebalance", leader.live)
		_, err := join(leader.ctx, leader.client, group, leader.id)
		must(t, err)
		leader.client.Close() // and sends no assignment
		go func() {
			err := <-taken
			if errors.Is(err, kerr.RebalanceInProgress) {
				err = other.takePart()
			}
			if err == nil && len(b.cluster.GroupInfo(group).Members) != 1 {
				err = errors.New("the leader is in the group still")
			}
			survive <- err
		}()
	}
	for range groups {
		if err := <-survive; err != nil {
			t.Error(err)
		}
	}
}
