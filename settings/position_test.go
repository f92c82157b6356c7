package settings

import (
	"testing"
	"time"
)

func TestPosition(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	day := func(hour, minute, second int) Position {
		return Position{At: time.Date(2026, 1, 2, hour, minute, second, 0, time.UTC)}
	}
	for s, want := range map[string]Position{
		"end":                       {},
		"beginning":                 {Beginning: true},
		"-1":                        {Newest: 1},
		"-1000000":                  {Newest: 1_000_000},
		"-1h":                       {At: now.Add(-time.Hour)},
		"-90s":                      {At: now.Add(-90 * time.Second)},
		"-1h30m":                    {At: now.Add(-90 * time.Minute)},
		"-1d":                       {At: now.AddDate(0, 0, -1)},
		"2026-01-02T15:04:05Z":      day(15, 4, 5),
		"2026-01-02T15:04:05+02:00": day(13, 4, 5),
		"2026-01-02T15:04:05":       day(15, 4, 5),
		"2026-01-02 15:04:05":       day(15, 4, 5),
		"2026-01-02T15:04":          day(15, 4, 0),
		"2026-01-02":                day(0, 0, 0),
		"1767366245":                day(15, 4, 5),
		"1767366245000":             day(15, 4, 5),
	} {
		var r Reader
		got := r.Position("FROM", s, now, 1_000_000)
		if r.Err != nil || got.Beginning != want.Beginning || got.Newest != want.Newest || !got.At.Equal(want.At) {
			t.Errorf("%s: %+v, %v", s, got, r.Err)
		}
		if at := r.Time("UNTIL", s, now); !want.At.IsZero() && (r.Err != nil || !at.Equal(want.At)) || want.At.IsZero() && r.Err == nil {
			t.Errorf("%s as a time: %v, %v", s, at, r.Err)
		}
	}
	for _, s := range []string{"", "-", "--1", "-0", "-1x", "-1.5", "-0d", "-99999d", "-1000001", "-99999999999999999999", "1", "10", "17673662450", "-0s", "2026-13-01", "End", "now"} {
		var r Reader
		if got := r.Position("FROM", s, now, 1_000_000); r.Err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

// What else a setting may be is said of that setting alone.
func TestReader_saysWhatElse(t *testing.T) {
	var r Reader
	r.Duration("MAX_GAP", "x", time.Millisecond, time.Second, "0")
	r.Time("UNTIL", "x", time.Now(), "end", "never")
	if want := `MAX_GAP: cannot use "x": use a duration such as 5ms or 2s, from 1ms to 1s, or 0`; r.Err == nil || r.Err.Error() != want {
		t.Errorf("%v, want %s", r.Err, want)
	}
	r.Err = nil
	r.Time("UNTIL", "x", time.Now(), "end", "never")
	if want := `UNTIL: cannot use "x": use -15m, -1h, -7d, or a time such as 2026-01-02T15:04:05Z, or end, or never`; r.Err == nil || r.Err.Error() != want {
		t.Errorf("%v, want %s", r.Err, want)
	}
}
