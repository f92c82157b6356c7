package consume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
)

// What kafka-go's ConsumerGroup leaves to be done here:
//   - A topic that is missing is given out as no partitions, or made by brokers that make
//     topics; and partitions that come between the sharing out and the first look of
//     its watcher are never seen (its issues 585, 1314). So a topic is waited for before
//     joining, and the member that shared out compares with what it gave.
//   - It asks the first address of the cluster only, if that one listens and is silent. So it
//     is made anew after an error, with the next address first.
//   - It sends no heartbeat any more while its member lets go of its partitions (session.go).
//   - After an outage it joins as a new member, and the group would wait for the old one until
//     its session ends. So that one is taken out.
//   - Close waits for answers that may not come. So its connections can be ended.
//   - What it asks has no context. So connections are made by another one.

// Run takes part in the group until ctx ends, then has the handler let go, commits, leaves the
// group and returns nil. Whatever fails is told and tried again. It may be called once.
func (g *Group) Run(ctx context.Context) error {
	defer g.unlook()
	defer g.become(errStopped)
	wait := newBackoff(100*time.Millisecond, 2*time.Second)
	for {
		began := time.Now()
		err := g.take(ctx)
		if ctx.Err() != nil {
			return nil
		}
		g.become(err)
		g.metrics.failed(whatGroup)
		g.outside.Complain(alone, err)
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		sleep(ctx, wait.NextBackOff())
	}
}

var errStopped = errors.New("stopped")

// take takes partitions until ctx ends or something fails.
func (g *Group) take(ctx context.Context) error {
	if g.cfg.Alone {
		return g.takeAll(ctx)
	}
	return g.join(ctx)
}

// takeAll takes all partitions, and asks nobody.
func (g *Group) takeAll(ctx context.Context) error {
	found, err := g.look(ctx, time.Now())
	if err != nil {
		return err
	}
	s := &session{g: g, generation: new(kafka.Generation)}
	for id := range found.partitions {
		s.ids = append(s.ids, id)
	}
	if s.committed, err = g.offsetsOfGroup(ctx, s.ids); err != nil {
		return err
	}
	g.outside.Relent(alone)
	g.log.Info("reads beside the group", "partitions", s.ids)
	s.goOn(ctx)
	s.letGo(time.Now())
	return ctx.Err()
}

// leaveTimeout bounds what is asked of Kafka at a stop: to commit, and to leave.
const leaveTimeout = 3 * time.Second

// member is who we are in the group.
type member struct {
	id         string
	generation int32
}

// join is a member of the group until ctx ends or something fails.
func (g *Group) join(ctx context.Context) error {
	if _, err := g.look(ctx, time.Now()); err != nil {
		return err
	}
	g.expel(ctx)
	g.dealt.Store(-1)
	dialing, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                g.cfg.Group,
		Topics:            []string{g.cfg.Topic},
		Brokers:           g.addresses(),
		Dialer:            &kafka.Dialer{ClientID: clientID, DialFunc: g.dialer(dialing)},
		GroupBalancers:    []kafka.GroupBalancer{&dealer{GroupBalancer: kafka.RangeGroupBalancer{}, g: g}},
		SessionTimeout:    g.cfg.SessionTimeout,
		RebalanceTimeout:  g.cfg.RebalanceTimeout,
		HeartbeatInterval: g.cfg.HeartbeatInterval,
		Timeout:           patience,
		ErrorLogger:       kafka.LoggerFunc(func(text string, args ...any) { g.log.Debug(fmt.Sprintf(text, args...)) }),
	})
	if err != nil {
		return err // the settings are at fault
	}
	stop := context.AfterFunc(ctx, func() { _ = group.Close() }) // ends the generation
	defer stop()
	for {
		g.become(errJoining)
		generation, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil, err == nil:
		case errors.Is(err, kafka.RebalanceInProgress):
			continue // it goes on by itself
		default:
			err = g.groupError(err)
		}
		if generation == nil {
			hungUp := time.AfterFunc(leaveTimeout, hangUp)
			_ = group.Close() // never fails
			hungUp.Stop()
			return err
		}
		g.outside.Relent(alone)
		g.metrics.rebalances.Inc()
		g.member.Store(&member{generation.MemberID, generation.ID})
		done := make(chan struct{})
		generation.Start(func(ctx context.Context) {
			defer close(done)
			newSession(g, generation).run(ctx)
		})
		<-done
	}
}

var errJoining = errors.New("joining the group")

// addresses are the cluster's, another one first each time.
func (g *Group) addresses() []string {
	g.lookups <- struct{}{}
	defer func() { <-g.lookups }()
	g.nextAddress()
	all := g.cfg.Cluster.Addresses
	return append(append([]string(nil), all[g.address:]...), all[:g.address]...)
}

// dialer makes connections that end with ctx.
func (g *Group) dialer(ctx context.Context) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := g.cfg.Cluster.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &ending{conn, context.AfterFunc(ctx, func() { conn.Close() })}, nil
	}
}

// ending is a connection that ends with a context.
type ending struct {
	net.Conn
	unhook func() bool
}

func (e *ending) Close() error {
	e.unhook()
	return e.Conn.Close()
}

// dealer shares out the partitions, if this member is the group's leader, and notes how many
// there were.
type dealer struct {
	kafka.GroupBalancer
	g *Group
}

func (d *dealer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	d.g.dealt.Store(int64(len(partitions)))
	return d.GroupBalancer.AssignGroups(members, partitions)
}

// expel takes the member that we were out of the group. If that fails, it is tried again with
// the next attempt to join.
func (g *Group) expel(ctx context.Context) {
	was := g.member.Load()
	if was == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	l, err := g.coordinator(ctx)
	if err != nil {
		return
	}
	defer l.close()
	answer, err := l.roundTrip(&leavegroup.Request{GroupID: g.cfg.Group, Members: []leavegroup.RequestMember{{MemberID: was.id}}})
	if err != nil {
		return
	}
	switch kafka.Error(answer.(*leavegroup.Response).ErrorCode) {
	case 0, kafka.UnknownMemberId:
		g.member.Store(nil)
	}
}

// live sends heartbeats for a generation until ctx ends.
func (g *Group) live(ctx context.Context, m member) {
	var l *link
	tick := time.NewTicker(g.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if l != nil {
				l.close()
			}
			return
		case <-tick.C:
		}
		if l == nil {
			var err error
			if l, err = g.coordinator(ctx); err != nil {
				continue
			}
		}
		answer, err := l.roundTrip(&heartbeat.Request{GroupID: g.cfg.Group, GenerationID: m.generation, MemberID: m.id})
		if err != nil || kafka.Error(answer.(*heartbeat.Response).ErrorCode) == kafka.NotCoordinatorForGroup {
			l.close()
			l = nil
		}
	}
}

func newBackoff(first, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = first, most, 2
	b.Reset()
	return b
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
