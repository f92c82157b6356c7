package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSlowBroker_commitsWithinTheHold(t *testing.T) {
	for _, by := range []time.Duration{300 * time.Millisecond, 2 * time.Second} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			c := fake(t)
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.SleepControl(func() { time.Sleep(by) })
				return nil, nil, false
			})
			s := serve(t, c.ListenAddrs(), options{}).known()
			s.commits(0, "first", hold)
			s.commits(0, "second", by+800*time.Millisecond) // the attempt's limit is longer by now
			holds(t, c, 0, "first", "second")
		})
	}
}

func TestBrokerAway_getsAllWhenItIsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := fake(t, kfake.DataDir(dir))
	addr := c.ListenAddrs()[0]
	s := serve(t, []string{addr}, options{stuck: time.Second}).known()
	s.commits(0, "before", hold)
	s.eventually(noticed, "ready", func() bool { return s.Ready() == nil })
	c.Close()
	given := s.publish(0, numbered("meanwhile", 3)...)
	waiting := s.publish(0, record("waiting"))
	if err := given.Wait(t.Context(), time.Now().Add(2*time.Second)); !errors.Is(err, ErrUncommitted) {
		t.Errorf("answered %v by a broker that is away", err)
	}
	if err := s.Ready(); err == nil {
		t.Error("ready while the broker is away")
	}
	c = fake(t, kfake.DataDir(dir), kfake.Ports(portOf(addr)))
	if took, err := s.wait(waiting); err != nil || took > 2*maxBackoff {
		t.Errorf("%v after %s\n%s", err, took, s.log)
	}
	s.eventually(noticed, "ready again", func() bool { return s.Ready() == nil })
	holds(t, c, 0, "before", "meanwhile-0", "meanwhile-1", "meanwhile-2", "waiting")
	s.is(3, "drain_recovered_total")
	s.is(5, "drain_records_total", "result=committed")
}

func TestBrokerThatComesLater_isTakenUp(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := serve(t, []string{fmt.Sprintf("127.0.0.1:%d", port)}, options{})
	s.eventually(noticed, "the log says where nobody is", func() bool {
		return s.log.Says(fmt.Sprintf("127.0.0.1:%d", port)) && s.log.Says("connection refused")
	})
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Ready says %v", err)
	}
	var waits *Receipt
	for i := range 10 { // with keys and without, kept in their order
		waits = s.publish(0, record(fmt.Sprint("early-", i)), Record{Key: []byte("elsewhere"), Value: fmt.Appendf(nil, "keyed-%d", i)})
		if i < 9 {
			waits.Forget()
		}
	}
	given := s.publish(1, record("given up"))
	if err := given.Wait(t.Context(), time.Now().Add(10*time.Millisecond)); !errors.Is(err, ErrUncommitted) {
		t.Errorf("answered %v without a broker", err)
	}
	c := fake(t, kfake.Ports(port))
	s.known().commits(0, "in time", hold)
	if _, err := s.wait(waits); err != nil {
		t.Errorf("what came before the broker: %v", err)
	}
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint("early-", i))
	}
	holds(t, c, 0, append(want, "in time")...)
	s.is(22, "drain_records_total", "result=committed")
	s.is(1, "drain_recovered_total")
	if used := s.cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes are still held", used)
	}
	s.eventually(noticed, "ready", func() bool { return s.Ready() == nil })
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOf(l.Addr().String())
}

// timedOut tells whether err is of a time that has passed, whoever's it was.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// It accepts connections and says nothing on them, from the start.
func TestSilentBroker_isSaid(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := serve(t, []string{l.Addr().String()}, options{})
	s.eventually(noticed, "Ready says why", func() bool {
		err := s.Ready()
		return timedOut(err) && strings.Contains(err.Error(), l.Addr().String())
	})
	began := time.Now()
	if err := s.Shutdown(t.Context()); err != nil || time.Since(began) > time.Second {
		t.Errorf("stopped with %v after %s", err, time.Since(began))
	}
}

func TestBrokerFallenSilent_boundsEveryWaitAndRecovers(t *testing.T) {
	t.Parallel()
	wire := new(wire)
	c := fake(t, kfake.ListenFn(wire.listen))
	s := serve(t, c.ListenAddrs(), options{stuck: time.Second}).known()
	s.commits(0, "before", hold)
	speak := wire.silence(t, everyKey)
	given := s.publish(0, record("given up"))
	began := time.Now()
	if err := given.Wait(t.Context(), began.Add(2*time.Second)); !errors.Is(err, ErrUncommitted) {
		t.Errorf("answered %v by a silent broker", err)
	}
	s.eventually(noticed, "Ready says why", func() bool {
		return timedOut(s.Ready())
	})
	speak()
	s.commits(0, "after", hold)
	s.eventually(noticed, "ready again", func() bool { return s.Ready() == nil })
	holds(t, c, 0, "before", "given up", "after")
	s.is(1, "drain_recovered_total")
}

// A partition that is stuck is named, though the broker answers.
func TestStuckPartition_isNamed(t *testing.T) {
	t.Parallel()
	c := fake(t)
	s := serve(t, c.ListenAddrs(), options{stuck: 100 * time.Millisecond}).known()
	release := stall(t, c, 2)
	s.publish(2, record("stuck"))
	s.eventually(noticed, "Ready names it", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "topic router, partition 2: the oldest batch")
	})
	release()
	s.eventually(soon, "ready again", func() bool { return s.Ready() == nil })
}

// Four partitions hold records for a broker that refuses connections.
func TestDeadBroker_isNotStormed(t *testing.T) {
	t.Parallel()
	c := fake(t)
	var dials atomic.Int64
	s := serve(t, c.ListenAddrs(), options{dials: &dials}).known()
	for id := range uint64(4) {
		s.commits(id, "before", hold)
	}
	c.Close()
	for id := range uint64(4) {
		s.publish(id, record("kept"))
	}
	before := dials.Load()
	<-time.After(3 * time.Second)
	if n := dials.Load() - before; n > 60 {
		t.Errorf("%d connections were tried in 3 s", n)
	} else {
		t.Logf("%d connections were tried in 3 s", n)
	}
}
