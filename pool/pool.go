// Package pool lends Kafka clients: a bounded set of them, one for each produce
// request under way. It is the limit on how many requests drain has open, since
// kafka-go opens as many connections as it is asked to.
package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/puddle/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

// Config says how many clients there are and how each reaches Kafka.
type Config struct {
	// Size is the most clients there are at once, at least 1.
	Size int
	// Addr is the cluster's bootstrap address.
	Addr net.Addr
	// Transport makes one client's transport. The pool closes it.
	Transport func() *kafka.Transport
	// ConnectTimeout bounds the making of a client.
	ConnectTimeout time.Duration
}

// Pool lends clients. It is safe for concurrent use.
type Pool struct {
	clients *puddle.Pool[*kafka.Client]
	size    int
}

// New makes an empty pool; clients are made when they are first lent.
func New(cfg Config) (*Pool, error) {
	clients, err := puddle.NewPool(&puddle.Config[*kafka.Client]{
		MaxSize: int32(cfg.Size),
		Constructor: func(ctx context.Context) (*kafka.Client, error) {
			ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
			defer cancel()
			return Connect(ctx, cfg.Addr, cfg.Transport())
		},
		Destructor: Close,
	})
	if err != nil {
		return nil, fmt.Errorf("make a pool of %d Kafka clients: %w", cfg.Size, err)
	}
	return &Pool{clients, cfg.Size}, nil
}

// Connect makes a client that knows the cluster: a client that cannot reach it
// would only say later, and in other words, that it has no leader to send to.
func Connect(ctx context.Context, addr net.Addr, transport *kafka.Transport) (*kafka.Client, error) {
	client := &kafka.Client{Addr: addr, Transport: transport}
	if _, err := client.Metadata(ctx, &kafka.MetadataRequest{}); err != nil {
		transport.CloseIdleConnections()
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the names of kafka-go's functions
		}
		return nil, fmt.Errorf("connect to Kafka at %s: %w", addr, err)
	}
	return client, nil
}

// Close ends a client and its connections.
func Close(client *kafka.Client) {
	client.Transport.(*kafka.Transport).CloseIdleConnections()
}

// Size is the most clients that can be lent at once.
func (p *Pool) Size() int { return p.size }

// Loan is a client that was lent. Give it back with Return or Discard, once.
type Loan struct {
	resource *puddle.Resource[*kafka.Client]
}

// Client is the client itself.
func (l Loan) Client() *kafka.Client { return l.resource.Value() }

// Return gives the client back for the next one.
func (l Loan) Return() { l.resource.Release() }

// Discard throws the client away: its connection failed, or what it knows of the
// cluster is no longer true.
func (l Loan) Discard() { l.resource.Destroy() }

// Reset throws all clients away, those that are lent when they come back: what
// they know of the cluster is no longer true.
func (p *Pool) Reset() { p.clients.Reset() }

// ErrBusy says that no client was free in time.
var ErrBusy = errors.New("all Kafka clients are busy")

// Acquire lends a client, making one if there is room. ctx must have a deadline:
// without one Acquire could wait for ever for a pool that was closed. The error
// is ErrBusy when none was free in time, else what kept a client from being made.
func (p *Pool) Acquire(ctx context.Context) (Loan, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return Loan{}, errors.New("acquire a Kafka client: the context has no deadline")
	}
	resource, err := p.clients.Acquire(ctx)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return Loan{}, ErrBusy
		}
		return Loan{}, err
	}
	return Loan{resource}, nil
}

// Close throws all clients away and waits for those that are lent.
func (p *Pool) Close() { p.clients.Close() }

// Describe implements prometheus.Collector.
func (p *Pool) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range poolMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (p *Pool) Collect(ch chan<- prometheus.Metric) {
	stat := p.clients.Stat()
	for _, m := range poolMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stat))
	}
}

var poolMetrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*puddle.Stat) float64
}{
	{desc("drain_pool_size", "Most Kafka clients lent at once."), prometheus.GaugeValue,
		func(s *puddle.Stat) float64 { return float64(s.MaxResources()) }},
	{desc("drain_pool_acquired", "Kafka clients lent now."), prometheus.GaugeValue,
		func(s *puddle.Stat) float64 { return float64(s.AcquiredResources()) }},
	{desc("drain_pool_idle", "Kafka clients connected and not lent."), prometheus.GaugeValue,
		func(s *puddle.Stat) float64 { return float64(s.IdleResources()) }},
	{desc("drain_pool_acquires_total", "Loans of a Kafka client."), prometheus.CounterValue,
		func(s *puddle.Stat) float64 { return float64(s.AcquireCount()) }},
	{desc("drain_pool_waits_total", "Loans that had to wait for a Kafka client."), prometheus.CounterValue,
		func(s *puddle.Stat) float64 { return float64(s.EmptyAcquireCount()) }},
	{desc("drain_pool_wait_seconds_total", "Time spent waiting for a Kafka client."), prometheus.CounterValue,
		func(s *puddle.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() }},
	{desc("drain_pool_timeouts_total", "Loans given up because no Kafka client was free in time."), prometheus.CounterValue,
		func(s *puddle.Stat) float64 { return float64(s.CanceledAcquireCount()) }},
}

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
