package publish

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"

	"drain/pool"
)

// producer is an id under which brokers recognise a batch that they have already
// stored (idempotence, KIP-98).
type producer struct {
	id    int64
	epoch int16
}

// producers hands out the producer id that all partitions share, and a new one to
// a partition whose id no longer works. Sequences are counted per id and
// partition, so a partition begins at 0 with an id that is new to it.
type producers struct {
	pool *pool.Pool

	mu      sync.Mutex // guards current; held while a new id is fetched
	current *producer
}

// after returns an id that is not old; old may be nil.
func (p *producers) after(ctx context.Context, old *producer) (*producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.current != old {
		return p.current, nil
	}
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	loan, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetch a producer id: %w", err)
	}
	client := loan.Client()
	answer, err := client.Transport.RoundTrip(ctx, client.Addr, &initProducerID{ProducerID: -1, ProducerEpoch: -1})
	if err != nil {
		loan.Discard()
		return nil, fmt.Errorf("fetch a producer id: %w", err)
	}
	loan.Return()
	res := answer.(*initproducerid.Response)
	if res.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch a producer id: %w", kafka.Error(res.ErrorCode))
	}
	if res.ProducerID < 0 {
		return nil, fmt.Errorf("fetch a producer id: the broker answered %d", res.ProducerID)
	}
	p.current = &producer{res.ProducerID, res.ProducerEpoch}
	return p.current, nil
}

const initTimeout = 2 * time.Second

// initProducerID is InitProducerId without a transaction, which any broker
// answers. kafka-go's own request type always looks for the transaction
// coordinator first, even without a transactional id: that makes brokers create
// their transaction topic, and needs a permission that writing does not.
type initProducerID initproducerid.Request

func (*initProducerID) ApiKey() protocol.ApiKey { return protocol.InitProducerId }
