package embedded

import (
	"context"
	"errors"
	"testing"
	"time"

	"drain/trial/check"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const group = "readers"

// join joins the group, as a new member if it has no id, and waits for the generation.
func join(ctx context.Context, c *kgo.Client, member string) (*kmsg.JoinGroupResponse, error) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.MemberID, r.ProtocolType = group, member, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 6000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "range"
	r.Protocols = append(r.Protocols, p)
	answer, err := r.RequestWith(ctx, c)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if errors.Is(err, kerr.MemberIDRequired) {
		return join(ctx, c, answer.MemberID)
	}
	return answer, err
}

// A member that died while it waited for the others is let go of after its session, as those who die later are.
func TestSessions_endForWhoDiedWaiting(t *testing.T) {
	t.Parallel()
	b := open(t, config(t, "router"))
	defer b.Close()
	c, _ := client(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	members := func() int { return len(b.cluster.GroupInfo(group).Members) }
	me := ""
	takePart := func() int32 {
		joined, err := join(ctx, c, me)
		must(t, err)
		me = joined.MemberID
		r := kmsg.NewPtrSyncGroupRequest()
		r.Group, r.MemberID, r.Generation = group, me, joined.Generation
		synced, err := r.RequestWith(ctx, c)
		must(t, err)
		must(t, kerr.ErrorForCode(synced.ErrorCode))
		return joined.Generation
	}
	takePart()

	const dying = 8 // as kfake lets some of them go by chance
	kill := make([]func(), dying)
	for i := range kill {
		other, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
		must(t, err)
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			_, _ = join(ctx, other, "")
		}()
		kill[i] = func() { other.Close(); <-dead }
	}
	check.Eventually(t, "they wait for this one", func() bool { return members() == 1+dying })
	for _, die := range kill {
		die()
	}
	time.Sleep(200 * time.Millisecond) // until kfake sees it
	generation := takePart()
	if n := members(); n != 1+dying {
		t.Fatalf("%d members are in the generation, want %d", n, 1+dying)
	}
	check.Eventually(t, "those who died are let go of", func() bool {
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.MemberID, r.Generation = group, me, generation
		answer, err := r.RequestWith(ctx, c)
		must(t, err)
		switch err := kerr.ErrorForCode(answer.ErrorCode); {
		case errors.Is(err, kerr.RebalanceInProgress):
			generation = takePart()
		default:
			must(t, err)
		}
		return members() == 1
	})
}
