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
//	sender ──▶ buf ──Split──▶ messages ──▶ records ──▶ publisher
//	 waits ◀── not read while `window` pieces are not committed
//
// A piece of the stream, one message or more, is what a frame is over HTTP: it has an id
// of its own, made of the connection's random name and the piece's number.
type conn struct {
	net.Conn
	server  *Server
	stream  syslog.Stream
	spans   []syslog.Span // of the messages at hand, at most mostMessages
	account publish.Account

	first   [firstBuffer + router.Slack]byte // for buf while there is little
	buf     []byte                           // what has come and is not taken yet, with router.Slack behind it
	bufHeld int                              // bytes of the Budget, for buf where it is not the first
	held    int                              // bytes of the Budget, for the piece at hand
	filled  bool                             // buf, by the last read
	fresh   bool                             // nothing has come yet
	came    time.Time                        // the last read
	since   time.Time                        // what stands at the beginning of buf has come; zero for nothing

	name   [16]byte // the connection's random half, and the piece's number
	hexed  [32]byte // name, as records show it
	pieces uint64
	places chan struct{} // one taken for each piece that is not committed
	until  time.Time     // at a stop: to which it reads on
}

// piece is one that is published; it is its Receipt's owner.
type piece struct {
	conn   *conn
	came   time.Time
	placed bool // in conn.places
}

// Account implements publish.Owner.
func (p *piece) Account() *publish.Account { return &p.conn.account }

// Settled implements publish.Owner.
func (p *piece) Settled(bool) {
	p.conn.server.metrics.commit.Observe(time.Since(p.came).Seconds())
	if p.placed {
		<-p.conn.places
	}
}

const (
	// window is how many pieces of a connection are under way. One would leave the
	// connection idle while Kafka works.
	window = 4
	// mostMessages bounds those that are found at once: tiny ones take more memory
	// than their bytes.
	mostMessages = 1024
	// A connection's buffer has firstBuffer bytes, and mostBuffer while reads fill it,
	// or what a message needs.
	firstBuffer = 4 << 10
	mostBuffer  = 128 << 10
	// partRate is how fast the rest of a message has to come, in bytes a second.
	partRate = 64 << 10
	// wholeWait is for what follows a message that does not end as those before it, by
	// which it can be seen whether it has ended.
	wholeWait = 200 * time.Millisecond
	// A connection is believed to be alive for idle; a client that has gone without a
	// word is found by TCP's keep-alive before.
	idle = 2 * time.Hour
	// At a stop, what comes within lastWait of the last is still taken, for lastTime.
	lastWait = 500 * time.Millisecond
	lastTime = 2 * time.Second
)

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{Conn: raw, server: s, fresh: true, stream: syslog.Stream{Most: s.cfg.MaxMessage, Limit: mostMessages}, places: make(chan struct{}, window)}
	rand.Read(c.name[:8]) // never fails
	return c
}

// run takes what comes until there is no more, and waits for its commit.
func (c *conn) run() {
	defer context.AfterFunc(c.server.killed, func() { c.Conn.Close() })()
	defer context.AfterFunc(c.server.ending, c.sayEnd)()
	defer c.giveBack()
	for c.next() {
	}
	c.take(true)
	for range window {
		c.place()
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
// may come; what is left in buf then is all there is.
func (c *conn) next() (more bool) {
	if !c.makeRoom() {
		return false // killed
	}
	err := c.read()
	stopping, timeout := c.server.ending.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case err == nil:
		c.take(false)
	case timeout && len(c.buf) > 0 && !stopping:
		c.take(true) // it was the rest of a message that did not come
		return true
	case err == errTLS:
		c.server.handshakeFailed(c.RemoteAddr(), err)
	case !timeout && err != io.EOF && !stopping:
		c.server.metrics.failures[failedConnection].Inc()
	}
	if stopping && c.until.IsZero() {
		c.until = time.Now().Add(lastTime)
	}
	return err == nil && (!stopping || time.Now().Before(c.until))
}

// read waits for more, and appends it to buf.
func (c *conn) read() error {
	deadline := time.Now().Add(idle)
	if len(c.buf) > 0 {
		deadline = c.since.Add(c.server.cfg.Stalled + time.Duration(len(c.buf))*time.Second/partRate)
		if soon := c.came.Add(wholeWait); c.stream.Whole && soon.Before(deadline) {
			deadline = soon
		}
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	if c.server.ending.Err() != nil { // else sayEnd comes after this
		if err := c.SetReadDeadline(time.Now().Add(lastWait)); err != nil {
			return err
		}
	}
	n, err := c.Read(c.buf[len(c.buf):c.size()])
	c.came = time.Now()
	if n > 0 && len(c.buf) == 0 {
		c.since = c.came
	}
	c.buf = c.buf[:len(c.buf)+n]
	if c.fresh && n > 0 {
		c.fresh = false
		if c.buf[0] == tlsHandshake && c.server.cfg.TLS == nil {
			c.buf = c.buf[:0]
			return errTLS
		}
	}
	c.filled = len(c.buf) == c.size()
	c.server.metrics.bytes.Add(float64(n))
	return err
}

// tlsHandshake is the first byte of a connection that begins with TLS (RFC 8446, 5.1).
const tlsHandshake = 0x16

// errTLS says that a sender speaks TLS where there is none.
var errTLS = errors.New("the sender speaks TLS: set SYSLOG_TLS_CERT and SYSLOG_TLS_KEY, or use syslog:// in the drain's URL")

// size is how much buf can hold.
func (c *conn) size() int { return max(0, cap(c.buf)-router.Slack) }

// makeRoom fits the buffer to what comes, and waits for memory where a message needs it,
// which keeps its sender waiting. It tells whether there is room, which there is until
// drain is killed.
func (c *conn) makeRoom() bool {
	size, began := c.size(), time.Now()
	switch {
	case size == 0:
		c.buf = c.first[:0]
	case len(c.buf) < size && c.filled && size < mostBuffer:
		c.resize(c.server.killed, mostBuffer, false) // or it stays as it is
	case len(c.buf) < size && size > mostBuffer && len(c.buf) < mostBuffer/2:
		c.shrink()
	case !c.filled && len(c.buf) == 0 && size > firstBuffer:
		c.giveBack() // it may be quiet from now on
	case len(c.buf) < size:
	case size < mostBuffer:
		roomy := c.resize(c.server.killed, mostBuffer, true)
		c.since = c.since.Add(time.Since(began)) // it is not the sender who took long
		return roomy
	default:
		// Who holds a large buffer already does not wait for a larger one for ever: it
		// may be others that do who hold what there is.
		ctx, cancel := context.WithTimeout(c.server.killed, c.server.cfg.Stalled)
		defer cancel()
		if size >= c.stream.Most+mostBuffer || !c.resize(ctx, 2*size, true) {
			if size < c.stream.Most {
				c.server.metrics.failures[failedMemory].Inc()
			}
			c.take(true)
		}
		c.since = c.since.Add(time.Since(began))
		return c.server.killed.Err() == nil
	}
	return true
}

// resize makes buf hold size bytes, more than it does. It tells whether there was memory
// for it; with wait, it waits for that until ctx ends.
func (c *conn) resize(ctx context.Context, size int, wait bool) bool {
	more, s := size-c.bufHeld, c.server
	if !s.buffers.TryAcquire(int64(more)) && (!wait || s.buffers.Acquire(ctx, int64(more)) != nil) {
		return false
	}
	if !s.cfg.Budget.TryAcquire(&c.account, more) && (!wait || s.cfg.Budget.Acquire(ctx, &c.account, more, c.bufHeld > 0) != nil) {
		s.buffers.Release(int64(more))
		return false
	}
	c.bufHeld = size
	c.move(size)
	return true
}

// shrink makes a buffer larger than mostBuffer one of that size.
func (c *conn) shrink() {
	c.release(mostBuffer)
	c.move(mostBuffer)
}

// giveBack makes buf the first one again. There is nothing in it that is needed.
func (c *conn) giveBack() {
	c.forget()
	c.buf = c.first[:0]
	c.release(0)
}

// release gives back all but n bytes of what buf holds.
func (c *conn) release(n int) {
	c.server.buffers.Release(int64(c.bufHeld - n))
	c.server.cfg.Budget.Release(&c.account, c.bufHeld-n)
	c.bufHeld = n
}

// move takes what is in buf to one of size bytes.
func (c *conn) move(size int) {
	var to []byte
	if size == mostBuffer {
		to = large.Get().(*[mostBuffer + router.Slack]byte)[:0]
	} else {
		to = make([]byte, 0, size+router.Slack)
	}
	to = append(to, c.buf...)
	c.forget()
	c.buf = to
}

// large lends buffers of mostBuffer bytes.
var large = sync.Pool{New: func() any { return new([mostBuffer + router.Slack]byte) }}

// forget lets others use buf, if it was lent.
func (c *conn) forget() {
	if cap(c.buf) == mostBuffer+router.Slack {
		large.Put((*[mostBuffer + router.Slack]byte)(c.buf[:cap(c.buf)]))
	}
}

// take publishes the messages that are whole, or with final all that there is.
func (c *conn) take(final bool) {
	for again := true; again; {
		var rest int
		c.spans, rest = c.stream.Split(c.spans[:0], c.buf, final)
		c.publish(c.spans)
		if rest > 0 {
			c.buf = c.buf[:copy(c.buf, c.buf[rest:])]
			c.since = time.Now() // to publish may have taken long
		}
		again = len(c.spans) == mostMessages
	}
}

// publish makes one piece of the messages at spans, or more where one would need much of
// the memory that there is.
func (c *conn) publish(spans []syslog.Span) {
	if len(spans) == 0 {
		return
	}
	// A quarter may be buffers', which are held while this waits.
	quarter := int(c.server.cfg.Budget.Size()) / 4
	most := 3 * quarter
	last := spans[len(spans)-1]
	for need := c.server.cfg.Intake.Weight() * int(last.End-spans[0].Start); ; need *= 2 {
		if need > quarter && len(spans) > 1 {
			half := len(spans) / 2
			c.publish(spans[:half])
			c.publish(spans[half:])
			return
		}
		need = min(need, most)
		err := c.try(spans, need)
		if err == nil {
			return
		}
		if need < most && errors.Is(err, errNoRoom) {
			continue
		}
		c.server.metrics.failures[failedMemory].Add(float64(len(spans)))
		if c.server.killed.Err() != nil {
			c.server.lost.Add(int64(len(spans)))
			return
		}
		c.server.cfg.Logger.Error("a message is lost: its record needs more memory than there is", "bytes", last.End-last.Start, "error", err, "do", "raise MAX_INFLIGHT")
		return
	}
}

// errNoRoom says that a piece needs more memory than it was given.
var errNoRoom = errors.New("no room in memory")

// place takes one of places, waiting for it until drain is killed.
func (c *conn) place() bool {
	select {
	case c.places <- struct{}{}:
		return true
	default:
	}
	select {
	case c.places <- struct{}{}:
		return true
	case <-c.server.killed.Done():
		return false
	}
}

// try publishes a piece with so much of the Budget, which is waited for until drain is
// killed. Then what is there is taken, without a place.
func (c *conn) try(spans []syslog.Span, need int) error {
	p := &piece{conn: c, came: c.came}
	p.placed = c.place()
	published := false
	defer func() {
		if p.placed && !published {
			<-c.places
		}
	}()
	b := c.server.cfg.Budget
	if !b.TryAcquire(&c.account, need) && b.Acquire(c.server.killed, &c.account, need, false) != nil {
		return errNoRoom
	}
	c.held = need
	defer func() {
		b.Release(&c.account, c.held)
		c.held = 0
	}()
	desk := c.server.cfg.Intake.Sit()
	defer desk.Leave()
	desk.Tokens, desk.Parser.Strict = true, true
	desk.Spans = append(desk.Spans, spans...)
	binary.BigEndian.PutUint64(c.name[8:], c.pieces)
	hex.Encode(c.hexed[:], c.name[:])
	desk.From(c.hexed[:], nil, nil)
	if err := desk.Read(c.buf, c); err != nil {
		return err
	}
	size := desk.Finish()
	if err := c.Grow(size); err != nil {
		return err
	}
	records, logs := desk.Records()
	receipt := publish.NewReceipt(p)
	published = true // it is settled, whatever comes
	_, err := c.server.cfg.Publisher.Publish(receipt, c.partition(), records, logs)
	receipt.Forget()
	if err != nil {
		return err
	}
	c.held -= size // the publisher's now
	c.pieces++
	desk.Count(false)
	return nil
}

// partition is the number from which the piece's partition follows.
func (c *conn) partition() uint64 { return binary.BigEndian.Uint64(c.name[:8]) + c.pieces }

// Grow implements intake.Room.
func (c *conn) Grow(n int) error {
	if n <= c.held {
		return nil
	}
	if !c.server.cfg.Budget.TryAcquire(&c.account, n-c.held) {
		return errNoRoom
	}
	c.held = n
	return nil
}
