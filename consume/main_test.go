package consume

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"drain/trial/stalls"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("DRAIN_TEST_BROKER") != "" {
		runBroker()
		return 0
	}
	_ = flag.Set("test.parallel", "24") // they wait for a broker, hardly for a processor
	stalls.Watch()
	before := goleak.IgnoreCurrent()
	code := m.Run()
	stopKafka()
	if code == 0 {
		if err := goleak.Find(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// ledger is what handlers keep beside their offsets, as a store would that does both at
// once: a batch that does not begin where the one before ended changes nothing.
type ledger struct {
	t testing.TB

	mu     sync.Mutex // guards the following
	next   map[int]int64
	values map[int][]string
	wrong  int // batches that were not taken
	told   [][]Partition
	events []string
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, next: make(map[int]int64), values: make(map[int][]string)}
}

// bookkeeper is a handler that writes into a ledger.
type bookkeeper struct {
	*ledger
	name  string
	group *Group
	// Called, unless nil, before what the ledger does.
	assigned func([]Partition) error
	consume  func(context.Context, *Batch) error
	revoked  func(context.Context)

	mine map[int]int64 // where each partition goes on; guarded by the ledger
}

func (b *bookkeeper) Assigned(_ context.Context, partitions []Partition) error {
	if b.assigned != nil {
		if err := b.assigned(partitions); err != nil {
			return err
		}
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, slices.Clone(partitions))
	b.mine = make(map[int]int64)
	for i := range partitions {
		p := &partitions[i]
		if next, known := l.next[p.ID]; known {
			p.Offset = next
		}
		l.next[p.ID] = p.Offset
		b.mine[p.ID] = p.Offset
		l.events = append(l.events, fmt.Sprintf("%s+%d", b.name, p.ID))
	}
	return nil
}

func (b *bookkeeper) Consume(ctx context.Context, batch *Batch) error {
	if b.consume != nil {
		if err := b.consume(ctx, batch); err != nil {
			return err
		}
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	id := batch.Partition
	if b.mine[id] != l.next[id] {
		l.wrong++
		return ErrReassign
	}
	for _, r := range batch.Records {
		if r.Offset < l.next[id] || r.Offset >= batch.Next {
			l.t.Errorf("%s: partition %d: offset %d, after %d, in a batch up to %d", b.name, id, r.Offset, l.next[id]-1, batch.Next)
		}
		l.next[id] = r.Offset + 1
		l.values[id] = append(l.values[id], string(r.Value))
	}
	l.next[id], b.mine[id] = batch.Next, batch.Next
	b.group.Done(id, batch.Next)
	return nil
}

func (b *bookkeeper) Revoked(ctx context.Context) {
	if b.revoked != nil {
		b.revoked(ctx)
	}
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range b.mine {
		l.events = append(l.events, fmt.Sprintf("%s-%d", b.name, id))
	}
	b.mine = nil
}

// count is how many values are written.
func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, all := range l.values {
		n += len(all)
	}
	return n
}
