package publish

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// wire is what lies between us and a broker, seen from the broker: kfake.ListenFn.
type wire struct {
	lose   atomic.Bool // loses the next answer to a produce request
	silent atomic.Pointer[silence]
}

// silence keeps the answers to requests of one kind, or of every kind.
type silence struct {
	key int32
	end chan struct{}
}

const everyKey = -1

// silence begins a silence, which ends with the test or when end is called.
func (w *wire) silence(t *testing.T, key int32) (end func()) {
	s := &silence{key, make(chan struct{})}
	w.silent.Store(s)
	end = func() {
		if w.silent.CompareAndSwap(s, nil) {
			close(s.end)
		}
	}
	t.Cleanup(end)
	return end
}

func (w *wire) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return listener{l, w}, err
}

type listener struct {
	net.Listener
	wire *wire
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &brokerEnd{Conn: c, wire: l.wire}, err
}

// brokerEnd knows what it was asked last: kfake reads a request's size alone, and
// the request begins with its key.
type brokerEnd struct {
	net.Conn
	wire *wire
	size bool // was read last
	key  atomic.Int32
}

func (c *brokerEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.size && n > 1 {
		c.key.Store(int32(p[0])<<8 | int32(p[1]))
	}
	c.size = len(p) == 4
	return n, err
}

func (c *brokerEnd) Write(p []byte) (int, error) {
	key := c.key.Load()
	if s := c.wire.silent.Load(); s != nil && (s.key == everyKey || s.key == key) {
		<-s.end
	}
	if key == 0 && c.wire.lose.CompareAndSwap(true, false) {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// hanging is our end of a connection, which can hang for longer than an attempt
// before a request is written.
type hanging struct {
	net.Conn
	hang     *atomic.Bool
	written  chan struct{} // closed when what hung is written
	produced bool
	hung     bool
}

func (c *hanging) SetDeadline(t time.Time) error {
	if c.produced && !t.IsZero() && c.hang.CompareAndSwap(true, false) {
		c.hung = true
		time.Sleep(minAttempt + 4*firstBackoff)
	}
	return c.Conn.SetDeadline(t)
}

func (c *hanging) Write(p []byte) (int, error) {
	c.produced = c.produced || len(p) > 5 && p[4] == 0 && p[5] == 0
	n, err := c.Conn.Write(p)
	if c.hung {
		close(c.written)
	}
	return n, err
}
