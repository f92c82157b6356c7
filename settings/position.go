package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is where in a topic to begin: at its beginning, at its end, with the newest records, or at
// a time. The zero Position is the end.
type Position struct {
	Beginning bool
	Newest    int       // of all partitions together, 0 for none
	At        time.Time // zero for none
}

// Position reads one as people write it: beginning, end, -100, -15m, -7d, or a time. mostNewest is how many
// newest records may be asked for.
func (r *Reader) Position(name, value string, now time.Time, mostNewest int) Position {
	switch value {
	case "beginning":
		return Position{Beginning: true}
	case "end":
		return Position{}
	}
	if ago, ok := strings.CutPrefix(value, "-"); ok {
		if n, err := strconv.Atoi(ago); err == nil && n > 0 && n <= mostNewest {
			return Position{Newest: n}
		}
	}
	if at, ok := timeOf(value, now); ok {
		return Position{At: at}
	}
	r.Fail(name, value, fmt.Sprintf("beginning, end, -100 (the newest 100; at most %d), %s", mostNewest, times))
	return Position{}
}

// Time reads a time as people write it: -15m, -7d, 2026-01-02T15:04:05Z, 2026-01-02, or seconds since 1970.
// others are what the setting may be as well.
func (r *Reader) Time(name, value string, now time.Time, others ...string) time.Time {
	at, ok := timeOf(value, now)
	if !ok {
		r.Fail(name, value, alternatives(times, others))
	}
	return at
}

const times = "-15m, -1h, -7d, or a time such as 2026-01-02T15:04:05Z"

func timeOf(value string, now time.Time) (time.Time, bool) {
	if ago, ok := strings.CutPrefix(value, "-"); ok {
		if d, err := time.ParseDuration(ago); err == nil && d > 0 {
			return now.Add(-d), true
		}
		if days, ok := strings.CutSuffix(ago, "d"); ok {
			if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36_500 {
				return now.AddDate(0, 0, -n), true
			}
		}
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, value); err == nil {
			return t, true
		}
	}
	// Seconds since 1970 have ten digits from 2001 to 2286, and milliseconds thirteen.
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
		switch len(value) {
		case 10:
			return time.Unix(n, 0), true
		case 13:
			return time.UnixMilli(n), true
		}
	}
	return time.Time{}, false
}
