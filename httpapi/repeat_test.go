package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"drain/intake"
	"drain/publish"
)

// repeated are the counters that tell what became of a frame that came again.
func (d *door) repeated(committed, duplicate, recovered float64) {
	d.t.Helper()
	d.counts(map[string]float64{
		`drain_frames_total{result="committed"}`: committed, `drain_frames_total{result="duplicate"}`: duplicate,
		`drain_records_total{result="committed",topic="router"}`: 3, `drain_records_total{result="duplicate",topic="router"}`: 3 * (d.metrics()[`drain_messages_total{kind="router"}`]/3 - 1),
		"drain_recovered_total": recovered,
	})
	if got := d.records(routerTopic); len(got) != 3 {
		d.t.Errorf("%d records are stored, want 3", len(got))
	}
}

// tries are the forms in which the same frame comes again.
func tries(t *testing.T, test func(t *testing.T, first, again string, headers ...string)) {
	for name, headers := range map[string][]string{
		"Logplex": {frameName, drainName}, "log-shuttle": {shuttleID, shuttles}, "without any id": nil,
	} {
		t.Run(name, func(t *testing.T) { test(t, frame(notice)+lines, frame(otherNotice)+lines, headers...) })
	}
}

func TestACommittedFrameIsNotStoredAgain(t *testing.T) {
	tries(t, func(t *testing.T, first, again string, headers ...string) {
		d := open(t)
		d.want(200, first, headers...)
		for range 3 {
			d.want(200, again, headers...)
		}
		d.repeated(1, 3, 0)
		// The notice of the second try tells of more losses than the first.
		d.counts(map[string]float64{`drain_lost_upstream_total{code="L10"}`: 99})
	})
}

func TestAFrameUnderWayIsJoined(t *testing.T) {
	tries(t, func(t *testing.T, first, again string, headers ...string) {
		d := open(t)
		fault := d.refuseProduce()
		var senders sync.WaitGroup
		for i := range 5 {
			senders.Go(func() {
				body := first
				if i%2 == 1 {
					body = again
				}
				if a, err := d.try("POST", "/logs", strings.NewReader(body), headers...); err != nil || a.status != 200 {
					t.Errorf("try %d: %v %d %s", i, err, a.status, a.body)
				}
			})
		}
		eventually(t, "all have come", func() bool { return d.metrics()[`drain_messages_total{kind="router"}`] == 15 })
		fault.Remove()
		senders.Wait()
		d.repeated(1, 4, 0)
		d.counts(map[string]float64{`drain_lost_upstream_total{code="L10"}`: 99})
	})
}

func TestAFrameThatWasAnswered503IsJoined(t *testing.T) {
	tries(t, func(t *testing.T, first, again string, headers ...string) {
		d := open(t, func(s *setup) { s.Hold = 300 * time.Millisecond })
		fault := d.refuseProduce()
		for i, body := range []string{first, again} {
			began := time.Now()
			a, err := d.try("POST", "/logs", strings.NewReader(body), headers...)
			if slices.Contains(headers, shuttles) != (err != nil) || err == nil && a.status != 503 {
				t.Fatalf("answered %d %v", a.status, err)
			}
			// The second is stuck for longer than it may be held.
			if took := time.Since(began); i == 0 && took < 300*time.Millisecond || i == 1 && took > 200*time.Millisecond {
				t.Errorf("try %d took %s", i, took)
			}
		}
		fault.Remove()
		eventually(t, "it is committed", func() bool { return d.metrics()["drain_recovered_total"] == 3 })
		d.want(200, again, headers...)
		d.repeated(0, 1, 3)
	})
}

// What is not committed is not known as committed.
func TestAFrameThatFailedIsPublishedAgain(t *testing.T) {
	d := open(t)
	refuse := d.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge, Count: -1})
	d.want(503, lines, frameName, drainName)
	refuse.Remove()
	d.want(200, lines, frameName, drainName)
	d.counts(map[string]float64{`drain_records_total{result="failed",topic="router"}`: 3, `drain_records_total{result="committed",topic="router"}`: 3,
		`drain_records_total{result="duplicate",topic="router"}`: 0})
}

func TestAQueuedFrameIsNotStoredTwice(t *testing.T) {
	d := open(t, func(s *setup) { s.Queued = true })
	fault := d.refuseProduce()
	for range 3 {
		d.want(200, lines, frameName, drainName)
	}
	fault.Remove()
	d.counts(map[string]float64{`drain_frames_total{result="queued"}`: 1, `drain_frames_total{result="duplicate"}`: 2})
	eventually(t, "it is committed", func() bool { return d.metrics()[`drain_records_total{result="committed",topic="router"}`] == 3 })
	d.want(200, lines, frameName, drainName)
	d.repeated(0, 3, 0)
}

// What is committed or kept already needs no room.
func TestAKnownFrameNeedsNoRoom(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = time.Second })
	body := strings.Repeat(frame(hello), 300)
	d.want(200, body, frameName, drainName)
	fault := d.refuseProduce()
	d.want(503, body, frameID2, drainName)
	release := d.fill()
	for name, want := range map[string]int{frameName: 200, frameID2: 503} {
		began := time.Now()
		d.want(want, body, name, drainName)
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("%s waits for %s", name, took)
		}
	}
	d.want(503, body, drainName, shuttleID) // a new one
	release()
	fault.Remove()
	eventually(t, "the kept one is committed", func() bool { return d.metrics()["drain_recovered_total"] == 300 })
	d.restsWithNothingHeld()
	m := d.metrics()
	if m[`drain_messages_total{kind="router"}`] != 600 || m[`drain_records_total{result="committed",topic="router"}`] != 600 {
		t.Errorf("%v", m)
	}
}

// It may wait for longer than its body was given to come: that deadline has ended with
// the body.
func TestAKnownFrameWithoutRoomWaitsForItsCommit(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 3 * bodyPatience })
	fault := d.refuseProduce()
	body := frame(hello)
	var answers sync.WaitGroup
	answers.Go(func() { d.want(200, body, frameName) })
	eventually(t, "the frame is under way", func() bool { return d.metrics()["drain_inflight_bytes"] > 0 })
	release := d.fill()
	defer release()
	began := time.Now()
	answers.Go(func() { d.want(200, body, frameName) })
	time.Sleep(bodyPatience + 700*time.Millisecond)
	fault.Remove()
	answers.Wait()
	if took := time.Since(began); took < bodyPatience {
		t.Errorf("answered after %s: this test proves nothing", took)
	}
}

func TestTheLastFramesAreRemembered(t *testing.T) {
	fs, src := newFrames(), new(source)
	name := func(i int) (id frameID) { copy(id[:], fmt.Sprintf("%016d", i)); return id }
	enter := func(i int) repeat {
		r, _, known := fs.enter(name(i), src, time.Now(), new(intake.Loss))
		if known == isNew {
			p := publish.Publisher{}
			if _, err := p.Publish(r, 0); err != nil { // no records: it is committed
				t.Fatal(err)
			}
			r.Forget()
		}
		return known
	}
	for i := range maxCommitted + 1 {
		if known := enter(i); known != isNew {
			t.Fatalf("frame %d is known: %d", i, known)
		}
	}
	if known := enter(1); known != isCommitted {
		t.Errorf("the last %dth frame is not known: %d", maxCommitted, known)
	}
	if known := enter(0); known != isNew {
		t.Errorf("the frame before is known: %d", known)
	}
	if len(fs.underWay) != 0 {
		t.Errorf("%d frames seem to be under way", len(fs.underWay))
	}
}
