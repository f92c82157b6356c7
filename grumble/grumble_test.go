package grumble_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drain/grumble"
	"drain/trial/journal"
)

func TestGrumble_tellsTheFirstThenNowAndThenThenTheRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal.Journal
		g := grumble.New[int](grumble.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Bad: "bad", Better: "better", Count: "failing"})
		lines := func(bad, better int) {
			t.Helper()
			if b, r := strings.Count(log.String(), "msg=bad"), strings.Count(log.String(), "msg=better"); b != bad || r != better {
				t.Errorf("bad is told %d times, better %d; want %d, %d", b, r, bad, better)
			}
		}
		g.Relent(1)
		lines(0, 0)
		if _, _, err := g.Longest(); err != nil {
			t.Errorf("%v fails at first", err)
		}
		g.Complain(1, errors.New("away"), "topic", "router")
		lines(1, 0)
		for range 40 { // four seconds
			time.Sleep(100 * time.Millisecond)
			g.Complain(1, errors.New("away"))
			g.Complain(2, errors.New("silent"))
		}
		lines(1, 0)
		time.Sleep(time.Second)
		g.Complain(2, errors.New("silent"))
		lines(2, 0)
		if text := log.String(); !strings.Contains(text, "topic=router error=away for=0s failing=1") || !strings.Contains(text, "error=silent for=4.9s failing=2") {
			t.Errorf("the log says %s", text)
		}
		if key, age, err := g.Longest(); key != 1 || age != 5*time.Second || err.Error() != "away" {
			t.Errorf("%d fails for the longest time, %v, with %v", key, age, err)
		}
		g.Relent(1)
		g.Relent(1)
		lines(2, 0)
		g.Relent(2)
		lines(2, 1)
		g.Complain(3, errors.New("gone"))
		g.Forget()
		g.Relent(3)
		lines(2, 1)
	})
}

func TestGrumble_tellsAsOftenAsItIsToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal.Journal
		g := grumble.New[string](grumble.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Bad: "bad", Every: time.Minute})
		for range 121 {
			g.Complain("", errors.New("away"))
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "msg=bad"); n != 3 || strings.Contains(log.String(), "=121") {
			t.Errorf("in two minutes it is told %d times: %s", n, log.String())
		}
	})
}
