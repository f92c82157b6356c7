package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// session is a generation of the group, as this member has it.
type session struct {
	g          *Group
	generation *kafka.Generation
	ids        []int         // of the partitions
	committed  map[int]int64 // in Kafka; only one at a time uses it
	id         [16]byte      // the topic's
	assigned   bool          // the handler was told
}

func newSession(g *Group, generation *kafka.Generation) *session {
	s := &session{g: g, generation: generation, committed: make(map[int]int64)}
	for _, a := range generation.Assignments[g.cfg.Topic] {
		s.ids = append(s.ids, a.ID)
		s.committed[a.ID] = max(-1, a.Offset) // kafka-go says -2 for none
	}
	slices.Sort(s.ids)
	return s
}

// run goes on until ctx ends, with the generation, or until the partitions are to be shared
// out again. When it returns the handler has let go.
func (s *session) run(ctx context.Context) {
	g := s.g
	defer g.dealt.Store(-1) // before the next generation is shared out
	ctx, end := context.WithCancel(ctx)
	defer end()
	g.log.Info("takes part in the group", "generation", s.generation.ID, "member", s.generation.MemberID, "partitions", s.ids)
	over, die := context.WithCancel(context.Background())
	ended := make(chan time.Time, 1)
	var beside sync.WaitGroup
	beside.Go(func() { s.watch(ctx, end) })
	beside.Go(func() {
		<-ctx.Done()
		ended <- time.Now()
		g.live(over, member{s.generation.MemberID, s.generation.ID}) // kafka-go does not any more
	})
	s.goOn(ctx)
	g.become(errJoining)
	s.letGo(<-ended)
	die()
	beside.Wait()
}

// goOn reads until ctx ends.
func (s *session) goOn(ctx context.Context) {
	g := s.g
	if len(s.ids) == 0 {
		g.become(nil)
		<-ctx.Done()
		return
	}
	wait := newBackoff(100*time.Millisecond, 5*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		partitions, err := s.assign(ctx)
		if err == nil {
			g.assigning.Relent(alone)
			s.read(ctx, partitions)
		} else if ctx.Err() == nil {
			g.metrics.failed(whatAssignment)
			g.assigning.Complain(alone, err)
		}
		if ctx.Err() == nil {
			if time.Since(began) > 10*time.Second || slices.ContainsFunc(partitions, func(p *partition) bool { return p.next > p.began }) {
				wait.Reset()
			}
			g.become(err)
			sleep(ctx, wait.NextBackOff())
		}
	}
	g.assigning.Forget()
}

// assign asks the handler where to begin.
func (s *session) assign(ctx context.Context) ([]*partition, error) {
	g := s.g
	found, err := g.look(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	s.id = found.id
	first, err := g.offsets(ctx, found, s.ids, kafka.FirstOffset)
	if err != nil {
		return nil, err
	}
	end, err := g.offsets(ctx, found, s.ids, kafka.LastOffset)
	if err != nil {
		return nil, err
	}
	all := make([]Partition, 0, len(s.ids))
	for _, id := range s.ids {
		p := Partition{ID: id, TopicID: topicID(found.id), Committed: s.committed[id], First: first[id], End: end[id]}
		if p.Offset = min(p.Committed, p.End); p.Committed < 0 {
			p.Offset = p.First
		}
		all = append(all, p)
	}
	s.assigned = true
	select {
	case <-g.again: // what follows is what was wanted
	default:
	}
	if err := g.cfg.Handler.Assigned(ctx, all); err != nil {
		return nil, fmt.Errorf("begin with the partitions %v: %w", s.ids, err)
	}
	partitions := make([]*partition, 0, len(all))
	for i := range all {
		p := &all[i]
		if p.Offset < 0 || p.Offset > p.End {
			return nil, fmt.Errorf("begin with partition %d at offset %d, where it has those from %d to %d: %w", p.ID, p.Offset, p.First, p.End, kafka.OffsetOutOfRange)
		}
		partitions = append(partitions, newPartition(s, p))
	}
	return partitions, nil
}

const (
	commitEvery = time.Second
	// endEvery is how old the end of a partition may be that is not fetched from.
	endEvery = time.Second
	// watchEvery is how often the group's leader looks for new partitions.
	watchEvery = 3 * time.Second
)

// read reads partitions until ctx ends, or until Assigned is to be asked again.
func (s *session) read(ctx context.Context, partitions []*partition) {
	g := s.g
	now := make(map[int]*partition)
	for _, p := range partitions {
		now[p.id] = p
	}
	g.current.Store(&now)
	g.become(nil)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	for _, p := range partitions {
		reading.Go(func() { p.read(ctx) })
		reading.Go(func() { p.deliver(ctx) })
	}
	reading.Go(func() { s.follow(ctx, partitions) })
	commit := time.NewTicker(commitEvery)
	defer commit.Stop()
	for going := true; going; {
		select {
		case <-ctx.Done():
			going = false
		case <-g.again:
			going = false
		case <-commit.C:
			s.commit()
		}
	}
	cancel()
	reading.Wait()
	g.fetching.Forget()
}

// follow asks for the ends of the partitions that are not fetched from, because the handler
// is busy, until ctx ends. That a leader does not answer is for their readers to tell.
func (s *session) follow(ctx context.Context, partitions []*partition) {
	tick := time.NewTicker(endEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var ids []int
		for _, p := range partitions {
			if time.Since(time.Unix(0, p.heard.Load())) > endEvery {
				ids = append(ids, p.id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		found, err := s.g.look(ctx, time.Now())
		if err != nil {
			continue
		}
		ends, err := s.g.offsets(ctx, found, ids, kafka.LastOffset)
		if err != nil {
			continue
		}
		for _, p := range partitions {
			if end, known := ends[p.id]; known {
				p.hear(end)
			}
		}
	}
}

// letGo has the handler let go of the partitions, and commits what it says is done; the
// generation ended when it says.
func (s *session) letGo(ended time.Time) {
	g := s.g
	if !s.assigned {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), ended.Add(g.cfg.RebalanceTimeout/2))
	g.cfg.Handler.Revoked(ctx)
	cancel()
	committed := make(chan struct{})
	go func() {
		s.commit()
		close(committed)
	}()
	select {
	case <-committed:
	case <-time.After(leaveTimeout): // it ends with the connection
	}
	g.current.Store(new(map[int]*partition))
	g.handling.Forget()
	g.log.Info("let go of the partitions", "generation", s.generation.ID, "partitions", s.ids, "after", time.Since(ended).Round(time.Millisecond))
}

// commit commits what is done and not committed.
func (s *session) commit() {
	g := s.g
	if g.cfg.CommitNothing {
		return
	}
	offsets := make(map[int]int64)
	for id, p := range *g.current.Load() {
		if done := p.done.Load(); done != s.committed[id] {
			offsets[id] = done
		}
	}
	if len(offsets) == 0 {
		return
	}
	began := time.Now()
	if err := s.generation.CommitOffsets(map[string]map[int]int64{g.cfg.Topic: offsets}); err != nil {
		g.metrics.failed(whatCommit)
		g.committing.Complain(alone, err)
		return
	}
	g.metrics.commit.Observe(time.Since(began).Seconds())
	g.committing.Relent(alone)
	for id, done := range offsets {
		s.committed[id] = done
	}
}

// watch ends the generation when the topic has other partitions than those that this
// member shared out: it joins again then, and shares them out anew.
func (s *session) watch(ctx context.Context, end func()) {
	dealt := s.g.dealt.Load()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for dealt >= 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found, err := s.g.look(ctx, time.Now())
		if err == nil && int64(found.partitions) != dealt {
			s.g.log.Info("the topic has other partitions", "partitions", found.partitions, "before", dealt)
			end()
			return
		}
	}
}

// again has Assigned asked again.
func (s *session) again(why error) {
	if !errors.Is(why, ErrReassign) {
		s.g.log.Warn("the handler is asked again where to begin", "because", why)
	}
	s.g.Reassign()
}
