package httpapi

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// request is one of a drain, as patience looks at it.
func (d *door) patienceOf(src *source, now time.Time, headers ...string) time.Duration {
	r := httptest.NewRequest("POST", "/logs", nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return d.server.patience(r, src, now)
}

// A sender's buffer of 1,024 lines fills while one of its requests is held.
func TestABusyDrainIsHeldForLess(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 4200 * time.Millisecond })
	for _, tt := range []struct {
		rate, frame   int // lines a second, lines a frame
		seconds       float64
		shortest, max time.Duration
	}{
		{20, 1, 60, 4200 * time.Millisecond, 4200 * time.Millisecond},
		{100, 5, 60, 2950 * time.Millisecond, 3300 * time.Millisecond},
		{500, 20, 60, 590 * time.Millisecond, 650 * time.Millisecond},
		{500, 20, 1.5, 500 * time.Millisecond, 700 * time.Millisecond},
		{2000, 100, 60, 200 * time.Millisecond, 200 * time.Millisecond},
		{50_000, 300, 60, 200 * time.Millisecond, 200 * time.Millisecond},
	} {
		src, now := new(source), time.Now()
		for sent := 0.0; sent < tt.seconds*float64(tt.rate); sent += float64(tt.frame) {
			src.observe(now, tt.frame)
			now = now.Add(time.Duration(tt.frame) * time.Second / time.Duration(tt.rate))
		}
		for _, header := range []string{drainName, "User-Agent: Logplex/v49"} {
			if got := d.patienceOf(src, now, header); got < tt.shortest || got > tt.max {
				t.Errorf("%d lines/s for %vs, %s: held for %s, want %s to %s", tt.rate, tt.seconds, header, got, tt.shortest, tt.max)
			}
		}
		if got := d.patienceOf(src, now, "User-Agent: curl/8.5"); got != 4200*time.Millisecond {
			t.Errorf("%d lines/s by curl: held for %s", tt.rate, got)
		}
		if got := d.patienceOf(src, now.Add(5*time.Minute), drainName); got != 4200*time.Millisecond {
			t.Errorf("%d lines/s long ago: held for %s", tt.rate, got)
		}
	}
	if got := d.patienceOf(new(source), time.Now(), drainName); got != 4200*time.Millisecond {
		t.Errorf("nothing is known of it: held for %s", got)
	}
	src := new(source)
	src.observe(time.Now(), 300)
	if got := d.patienceOf(src, time.Now(), drainName); got < 700*time.Millisecond {
		t.Errorf("after a first large frame: held for %s", got)
	}
}

// Deadlines go by the monotonic clock. Even times without it, of a wall clock that
// jumps, make no rate that is none, and no id.
func TestAClockThatJumpsHarmsNothing(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 4200 * time.Millisecond })
	src, wall := new(source), time.Now().Round(0)
	for _, jump := range []time.Duration{0, -time.Hour, 48 * time.Hour, -1000 * time.Hour, time.Second, -time.Second} {
		wall = wall.Add(jump)
		src.observe(wall, 100)
		for _, at := range []time.Time{wall, wall.Add(-time.Hour), wall.Add(time.Hour)} {
			if rate, known := src.rate(at); !known || !(rate >= 0 && rate < 1e6) {
				t.Errorf("after a jump of %s: %v lines/s", jump, rate)
			}
			if got := d.patienceOf(src, at, drainName); got < leastHold || got > 4200*time.Millisecond {
				t.Errorf("after a jump of %s: held for %s", jump, got)
			}
		}
	}
	ids := idsOf(t, "/logs", lines)
	time.Sleep(5 * time.Millisecond)
	if again := idsOf(t, "/logs", lines); !slices.Equal(ids, again) {
		t.Errorf("%v, later %v", ids, again)
	}
}

func TestAHoldOfLessIsNotMadeLonger(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 50 * time.Millisecond })
	src := new(source)
	src.observe(time.Now(), 100_000)
	if got := d.patienceOf(src, time.Now(), drainName); got != 50*time.Millisecond {
		t.Errorf("held for %s", got)
	}
}

// From outside: a drain of many lines is answered sooner than a quiet one, and
// nobody waits for a partition that is stuck for longer than he would be held.
func TestTheHoldInPractice(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold, s.partitions = 2*time.Second, 1 })
	const other = "Logplex-Drain-Token: d.22222222-3332-4546-93de-7d0ee272c3bd"
	id := 0
	post := func(want int, drain string, n int) time.Duration {
		t.Helper()
		id++
		began := time.Now()
		d.want(want, strings.Repeat(frame(hello), n), drain, fmt.Sprintf("Logplex-Frame-Id: %032x", id))
		return time.Since(began)
	}
	for range 20 {
		post(200, drainName, 300)
	}
	fault := d.refuseProduce()
	if took := post(503, drainName, 1); took < leastHold || took > time.Second {
		t.Errorf("a busy drain is held for %s", took)
	}
	if took := post(503, drainName, 1); took > 150*time.Millisecond {
		t.Errorf("with the oldest batch older than its hold it is held for %s", took)
	}
	if took := post(503, other, 1); took < 1900*time.Millisecond || took > 3*time.Second {
		t.Errorf("a quiet drain is held for %s", took)
	}
	if took := post(503, other, 1); took > 150*time.Millisecond {
		t.Errorf("with the oldest batch older than its hold it is held for %s", took)
	}
	fault.Remove()
	eventually(t, "all is delivered", func() bool { return d.metrics()["drain_recovered_total"] == 4 })
}

// One partition is stuck, commits in the others take a while: the frames in these
// are answered 200.
func TestAStuckPartitionHarmsNoOther(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold, s.partitions = 2*time.Second, 2 })
	d.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: routerTopic, Partitions: []int32{0}, Err: kerr.NotEnoughReplicas, Count: -1})
	d.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		d.broker.KeepControl()
		d.broker.SleepControl(func() { time.Sleep(150 * time.Millisecond) })
		return nil, nil, false
	})
	answers := make(map[int]int)
	tries := 0
	for i := range 40 {
		for range 3 {
			tries++
			a := d.post(strings.Repeat(frame(hello), 50), drainName, fmt.Sprintf("Logplex-Frame-Id: %032x", i))
			if answers[i] = a.status; a.status == 200 {
				break
			}
		}
	}
	taken := 0
	for _, status := range answers {
		if status == 200 {
			taken++
		}
	}
	if got := len(d.records(routerTopic)) / 50; taken != got || taken < 10 || taken > 30 {
		t.Errorf("%d frames of 40 are answered 200 in %d tries, %d are stored", taken, tries, got)
	}
}

// While it is held a sender sends nothing; it is no quieter for that.
func TestARetryIsNotHeldForLonger(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 4 * time.Second })
	d.want(200, strings.Repeat(frame(hello), 300), frameID2, drainName)
	fault := d.refuseProduce()
	began := time.Now()
	d.want(503, frame(hello), frameName, drainName)
	first := time.Since(began)
	d.want(503, frame(hello), frameName, drainName)
	if again := time.Since(began) - first; first < 500*time.Millisecond || again > 100*time.Millisecond {
		t.Errorf("held for %s, then for %s", first, again)
	}
	fault.Remove()
	eventually(t, "all is delivered", func() bool { return d.metrics()["drain_recovered_total"] == 1 })
}

func TestSendersAreToldApart(t *testing.T) {
	s := newSources()
	of := func(app string, headers ...string) *source {
		r := httptest.NewRequest("POST", "/logs", nil)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		return s.of(r, app)
	}
	known := map[*source]string{}
	for name, src := range map[string]*source{"a drain": of("a", drainName), "another": of("a", drain2), "an app": of("a"), "another app": of("b"), "nobody": of("")} {
		if known[src] != "" {
			t.Errorf("%s and %s are mistaken for each other", name, known[src])
		}
		known[src] = name
	}
	if known[of("b", drainName)] != "a drain" || known[of("a")] != "an app" || known[of("")] != "nobody" {
		t.Error("a sender is not known again")
	}
	first := of("", drainName)
	for i := range maxSources {
		of("", fmt.Sprintf("Logplex-Drain-Token: d.%d", i))
	}
	if of("", drainName) == first || s.known.Len() != maxSources {
		t.Errorf("%d senders are kept", s.known.Len())
	}
}
