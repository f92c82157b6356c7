package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a pool of two clients of the broker at addr, closed with the test.
func at(t *testing.T, addr string) *Pool {
	t.Helper()
	p, err := New(Config{Size: 2, Addr: kafka.TCP(addr), Transport: func() *kafka.Transport { return new(kafka.Transport) }, ConnectTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func broker(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "router"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// lend fails the test unless a client is lent soon.
func lend(t *testing.T, p *Pool) Loan {
	t.Helper()
	loan, err := p.Acquire(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return loan
}

// figures are the metrics, by their name without drain_pool_.
func figures(t *testing.T, p *Pool) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(p)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		m := f.GetMetric()[0]
		all[strings.TrimPrefix(f.GetName(), "drain_pool_")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return all
}

func TestPool(t *testing.T) {
	for promise, test := range map[string]func(*testing.T, *Pool){
		"lends a client that reaches the broker": func(t *testing.T, p *Pool) {
			loan := lend(t, p)
			defer loan.Return()
			if _, err := loan.Client().ApiVersions(within(t, time.Second), &kafka.ApiVersionsRequest{}); err != nil {
				t.Error(err)
			}
		},
		"lends the one that came back last": func(t *testing.T, p *Pool) {
			first, second := lend(t, p), lend(t, p)
			client := second.Client()
			first.Return()
			second.Return()
			third := lend(t, p)
			defer third.Return()
			if third.Client() != client {
				t.Error("another one")
			}
		},
		"takes no context without a deadline": func(t *testing.T, p *Pool) {
			if _, err := p.Acquire(context.Background()); err == nil || !strings.Contains(err.Error(), "no deadline") {
				t.Error(err)
			}
		},
		"says that it is busy when the deadline passes": func(t *testing.T, p *Pool) {
			for range p.Size() {
				defer lend(t, p).Return()
			}
			began := time.Now()
			if _, err := p.Acquire(within(t, 20*time.Millisecond)); !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
			if took := time.Since(began); took < 20*time.Millisecond {
				t.Errorf("gave up after %s", took)
			}
		},
		"lends to one who waits what comes back": func(t *testing.T, p *Pool) {
			first, second := lend(t, p), lend(t, p)
			got := make(chan Loan)
			go func() { loan, _ := p.Acquire(within(t, 5*time.Second)); got <- loan }()
			client := second.Client()
			second.Return()
			third := <-got
			if third.Client() != client {
				t.Error("another one")
			}
			first.Return()
			third.Return()
		},
		"makes a fresh client in the place of one thrown away": func(t *testing.T, p *Pool) {
			first, second := lend(t, p), lend(t, p)
			client := first.Client()
			first.Discard()
			third := lend(t, p)
			if third.Client() == client {
				t.Error("the same one")
			}
			second.Return()
			third.Return()
		},
		"makes all clients afresh after a reset": func(t *testing.T, p *Pool) {
			lent, idle := lend(t, p), lend(t, p)
			before := []*kafka.Client{lent.Client(), idle.Client()}
			idle.Return()
			p.Reset()
			lent.Return()
			for range p.Size() {
				loan := lend(t, p)
				defer loan.Return()
				if loan.Client() == before[0] || loan.Client() == before[1] {
					t.Error("an old one")
				}
			}
		},
		"waits at its end for what is lent": func(t *testing.T, p *Pool) {
			loan, closed := lend(t, p), make(chan struct{})
			go func() { p.Close(); close(closed) }()
			for ; ; time.Sleep(time.Millisecond) {
				if loan, err := p.Acquire(within(t, 10*time.Millisecond)); err == nil {
					loan.Return() // it was not closed yet
				} else if !errors.Is(err, ErrBusy) {
					break
				}
			}
			select {
			case <-closed:
				t.Error("closed while a client was lent")
			default:
			}
			loan.Return()
			<-closed
		},
		"tells its figures": func(t *testing.T, p *Pool) {
			first, second := lend(t, p), lend(t, p)
			_, _ = p.Acquire(within(t, 10*time.Millisecond))
			second.Return()
			defer first.Return()
			got := figures(t, p)
			if got["wait_seconds_total"] <= 0 {
				t.Error("no time was spent waiting for clients to be made")
			}
			delete(got, "wait_seconds_total")
			want := "map[acquired:1 acquires_total:2 idle:1 size:2 timeouts_total:1 waits_total:2]"
			if fmt.Sprint(got) != want {
				t.Errorf("%v, want %s", got, want)
			}
		},
	} {
		t.Run(promise, func(t *testing.T) { test(t, at(t, broker(t))) })
	}
}

func TestPool_saysWhyNoClientCanBeMade(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	silent := at(t, addr)
	if _, err := silent.Acquire(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connect to Kafka at "+addr) {
		t.Errorf("a broker that never answers: %v", err)
	}
	if _, err := silent.Acquire(within(t, 20*time.Millisecond)); !errors.Is(err, ErrBusy) {
		t.Errorf("one that does not answer in time: %v", err)
	}
	l.Close()
	if _, err := at(t, addr).Acquire(within(t, time.Second)); err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a broker that is not there: %v", err)
	}
}

func TestPool_isMendedByTheBrokersReturn(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	addr := c.ListenAddrs()[0]
	p := at(t, addr)
	c.Close()
	for range 2 * p.Size() {
		if _, err := p.Acquire(within(t, time.Second)); err == nil {
			t.Fatal("a client of nobody")
		}
	}
	_, port, _ := net.SplitHostPort(addr)
	var n int
	fmt.Sscan(port, &n)
	if c, err = kfake.NewCluster(kfake.Ports(n)); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range p.Size() {
		defer lend(t, p).Return()
	}
}

func TestPool_needsASize(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a pool of nobody")
	}
}
