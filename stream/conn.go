package stream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"drain/publish"
	"drain/router"
	"drain/syslog"
)

// conn is one sender's connection.
//
//	sender ──▶ buf ──split──▶ messages ──▶ records ──▶ publisher
//	 waits ◀── not read while `window` pieces are not committed
//
// A piece of the stream, one message or more, is what a frame is over HTTP: it has an id
// of its own, made of the connection's random name and the piece's number.
type conn struct {
	net.Conn
	server  *Server
	stream  syslog.Stream
	spans   []syslog.Span
	first   [firstBuffer + router.Slack]byte
	buf     []byte // what has come and is not taken yet, with router.Slack behind it
	bufHeld int    // bytes of the Budget, for buf where it is not the first
	filled  bool   // by the last read
	held    int    // bytes of the Budget, for the piece at hand
	id      [16]byte
	hexID   [32]byte
	pieces  uint64
	owner   owner
	window  []piece   // not known to be committed, oldest first
	until   time.Time // at a stop: to which it reads on
}

// piece is one that is published.
type piece struct {
	receipt *publish.Receipt
	read    time.Time
}

// owner is who holds what is held for a connection.
type owner struct{ account publish.Account }

// Account implements publish.Owner.
func (o *owner) Account() *publish.Account { return &o.account }

// Settled implements publish.Owner.
func (o *owner) Settled(bool) {}

const (
	// window is how many pieces of a connection are under way. One would leave the
	// connection idle while Kafka works.
	window = 4
	// A connection's buffer has firstBuffer bytes, and mostBuffer while reads fill it,
	// or what a message needs.
	firstBuffer = 4 << 10
	mostBuffer  = 128 << 10
	// A connection is believed to be alive for idle; a client that has gone without a
	// word is found by TCP's keep-alive before.
	idle = 2 * time.Hour
	// wholeWait is for what follows a message that does not end as those before it, by
	// which it can be seen whether it has ended.
	wholeWait = 200 * time.Millisecond
	// At a stop, what comes within lastWait of the last is still taken, for lastTime.
	lastWait = 500 * time.Millisecond
	lastTime = 2 * time.Second
)

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{Conn: raw, server: s, stream: syslog.Stream{Most: s.cfg.MaxMessage}}
	rand.Read(c.id[:8]) // never fails
	return c
}

// run takes what comes until there is no more, and waits for its commit.
func (c *conn) run() {
	defer context.AfterFunc(c.server.killed, func() { c.Conn.Close() })()
	defer context.AfterFunc(c.server.ending, c.sayEnd)()
	defer c.giveBack()
	defer c.settle(0)
	for c.next() {
	}
}

// sayEnd tells the sender that this connection ends, and wakes who reads.
func (c *conn) sayEnd() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.SetWriteDeadline(time.Now().Add(lastWait))
		_ = half.CloseWrite() // it may be gone
	}
	_ = c.SetReadDeadline(time.Now().Add(lastWait))
}

// next reads what has come, and takes the messages that are whole. It tells whether more
// may come.
func (c *conn) next() (more bool) {
	roomy, partial := c.makeRoom(), len(c.buf) > 0
	var err error
	if roomy {
		err = c.read(partial)
	}
	if !c.take(!roomy || err != nil) {
		return false
	}
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case c.server.ending.Err() != nil:
		if c.until.IsZero() {
			c.until = time.Now().Add(lastTime)
		}
		return err == nil && time.Now().Before(c.until)
	case err == nil, timeout && partial:
		return true
	case !timeout && err != io.EOF:
		c.server.metrics.failures[failedConnection].Inc()
	}
	return false
}

// read waits for more, and appends it to buf.
func (c *conn) read(partial bool) error {
	wait := idle
	if partial {
		wait = c.server.cfg.Stalled
	}
	if c.stream.Whole {
		wait = wholeWait
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if c.server.ending.Err() != nil { // else sayEnd comes after this
		if err := c.SetReadDeadline(time.Now().Add(lastWait)); err != nil {
			return err
		}
	}
	n, err := c.Read(c.buf[len(c.buf):c.size()])
	c.buf = c.buf[:len(c.buf)+n]
	c.filled = len(c.buf) == c.size()
	c.server.metrics.bytes.Add(float64(n))
	return err
}

// size is how much buf can hold.
func (c *conn) size() int { return max(0, cap(c.buf)-router.Slack) }

// makeRoom fits the buffer to what comes. It tells whether there is room for more.
func (c *conn) makeRoom() bool {
	size := c.size()
	switch {
	case size == 0:
		c.buf = c.first[:0]
	case len(c.buf) == size: // with the beginning of a message
		return size < c.stream.Most+mostBuffer && c.resize(max(2*size, mostBuffer), c.server.cfg.Stalled)
	case c.filled && size < mostBuffer:
		c.resize(mostBuffer, 0) // or it stays as it is
	case !c.filled && len(c.buf) == 0 && size > firstBuffer:
		c.giveBack() // it may be quiet from now on
	}
	return true
}

// resize makes buf hold size bytes. It tells whether there was memory for it, for which
// it waits.
func (c *conn) resize(size int, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(c.server.killed, wait)
	defer cancel()
	more, s := size-c.bufHeld, c.server
	if !s.buffers.TryAcquire(int64(more)) && (wait == 0 || s.buffers.Acquire(ctx, int64(more)) != nil) {
		return false
	}
	if !s.cfg.Budget.TryAcquire(&c.owner.account, more) && (wait == 0 || s.cfg.Budget.Acquire(ctx, &c.owner.account, more, true) != nil) {
		s.buffers.Release(int64(more))
		return false
	}
	c.bufHeld = size
	var larger []byte
	if size == mostBuffer {
		larger = large.Get().(*[mostBuffer + router.Slack]byte)[:0]
	} else {
		larger = make([]byte, 0, size+router.Slack)
	}
	larger = append(larger, c.buf...)
	c.forget()
	c.buf = larger
	return true
}

// large lends buffers of mostBuffer bytes.
var large = sync.Pool{New: func() any { return new([mostBuffer + router.Slack]byte) }}

// giveBack makes buf the first one again. There is nothing in it.
func (c *conn) giveBack() {
	c.forget()
	c.buf = c.first[:0]
	c.server.buffers.Release(int64(c.bufHeld))
	c.server.cfg.Budget.Release(&c.owner.account, c.bufHeld)
	c.bufHeld = 0
}

// forget lets others use buf, if it was lent.
func (c *conn) forget() {
	if cap(c.buf) == mostBuffer+router.Slack {
		large.Put((*[mostBuffer + router.Slack]byte)(c.buf[:cap(c.buf)]))
	}
}

// take publishes the messages that are whole, or with final all that there is. It tells
// whether drain goes on.
func (c *conn) take(final bool) bool {
	var rest int
	c.spans, rest = c.stream.Split(c.spans[:0], c.buf, final)
	if !c.publish(c.spans) {
		return false
	}
	c.buf = c.buf[:copy(c.buf, c.buf[rest:])]
	return true
}

// publish makes one piece of the messages at spans, or more where one would need more
// memory than there is. It tells whether drain goes on.
func (c *conn) publish(spans []syslog.Span) bool {
	if len(spans) == 0 {
		return true
	}
	most := int(c.server.cfg.Budget.Size())
	last := spans[len(spans)-1]
	for need := c.server.cfg.Intake.Weight() * int(last.End-spans[0].Start); ; need *= 2 {
		need = min(need, most)
		switch err := c.try(spans, need); {
		case err == nil:
			return true
		case !errors.Is(err, errNoRoom):
			return false
		case need < most:
		case len(spans) > 1:
			half := len(spans) / 2
			return c.publish(spans[:half]) && c.publish(spans[half:])
		default:
			c.server.metrics.failures[failedMemory].Inc()
			c.server.cfg.Logger.Error("a message is lost: its record needs more than MAX_INFLIGHT", "bytes", last.End-last.Start, "do", "raise MAX_INFLIGHT")
			return true
		}
	}
}

// errNoRoom says that a piece needs more memory than it was given.
var errNoRoom = errors.New("no room in memory")

// try publishes a piece with so much of the Budget, which is waited for.
func (c *conn) try(spans []syslog.Span, need int) error {
	if !c.settle(window - 1) {
		return c.server.killed.Err()
	}
	if err := c.server.cfg.Budget.Acquire(c.server.killed, &c.owner.account, need, false); err != nil {
		return err
	}
	c.held = need
	defer func() {
		c.server.cfg.Budget.Release(&c.owner.account, c.held)
		c.held = 0
	}()
	read := time.Now()
	desk := c.server.cfg.Intake.Sit()
	defer desk.Leave()
	desk.Tokens, desk.Parser.Strict = true, true
	desk.Spans = append(desk.Spans, spans...)
	binary.BigEndian.PutUint64(c.id[8:], c.pieces)
	hex.Encode(c.hexID[:], c.id[:])
	desk.From(c.hexID[:], nil, nil)
	if err := desk.Read(c.buf, c); err != nil {
		return err
	}
	size := desk.Finish()
	if err := c.Grow(size); err != nil {
		return err
	}
	records, logs := desk.Records()
	receipt := publish.NewReceipt(&c.owner)
	if _, err := c.server.cfg.Publisher.Publish(receipt, c.partition(), records, logs); err != nil {
		receipt.Forget()
		return err
	}
	c.held -= size // the publisher's now
	c.pieces++
	c.window = append(c.window, piece{receipt, read})
	desk.Count(false)
	return nil
}

// partition is the number from which the piece's partition follows.
func (c *conn) partition() uint64 { return binary.BigEndian.Uint64(c.id[:8]) + c.pieces }

// Grow implements intake.Room.
func (c *conn) Grow(n int) error {
	if n <= c.held {
		return nil
	}
	if !c.server.cfg.Budget.TryAcquire(&c.owner.account, n-c.held) {
		return errNoRoom
	}
	c.held = n
	return nil
}

// settle waits until at most left pieces are not committed. It tells whether they are.
func (c *conn) settle(left int) bool {
	for len(c.window) > left {
		first := c.window[0]
		c.window = c.window[:copy(c.window, c.window[1:])]
		switch err := first.receipt.Wait(c.server.killed, time.Now().Add(forever)); {
		case err == nil:
			c.server.metrics.commit.Observe(time.Since(first.read).Seconds())
		case errors.Is(err, publish.ErrUncommitted):
			return false // drain stops; the publisher counts what it could not store
		}
	}
	return true
}

// forever is longer than any Kafka is waited for: whoever stops drain ends the wait.
const forever = 1000 * time.Hour
