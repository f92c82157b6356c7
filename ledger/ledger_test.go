package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"drain/embedded"
	"drain/trial/redisserver"
	"drain/window"
)

// onBoth runs a test on a real redis-server, and on the embedded one.
func onBoth(t *testing.T, test func(t *testing.T, c *redis.Client)) {
	t.Run("redis-server", func(t *testing.T) { test(t, redisserver.Start(t).Client(t)) })
	t.Run("embedded", func(t *testing.T) {
		own, err := embedded.StartRedis()
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(own.Options())
		t.Cleanup(func() { c.Close(); own.Close() })
		test(t, c)
	})
}

// folded makes the chunks of n requests in a second.
func folded(second int64, n int, now time.Time) []window.Chunk {
	f := window.NewFold()
	for i := range n {
		f.Add(&window.Request{Second: second, App: []byte("shop"), Dyno: fmt.Appendf(nil, "web.%d", i%3), Method: "GET", Route: fmt.Sprintf("/r/%d", i%5), Status: 200, Bytes: 1, Service: int64(i), Connect: 1})
	}
	return f.Chunks(now.Unix())
}

// requests is how many a second's windows have, of each resolution and table; they must agree.
func requests(t *testing.T, l *Ledger, second int64) int64 {
	t.Helper()
	counts := map[string]int64{}
	var reader window.Reader
	for _, r := range window.Resolutions {
		for _, byRoute := range []bool{false, true} {
			name := fmt.Sprint(r.Name, byRoute)
			counts[name] = 0
			if err := l.Windows(t.Context(), window.Span{Resolution: r, Start: r.Start(second), Windows: 1}, byRoute, func(_ int64, chunks []byte) error {
				return reader.Each(chunks, func(_ *window.Key, c *window.Cell) { counts[name] += c.Requests })
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, n := range counts {
		if n != counts["1sfalse"] {
			t.Errorf("windows do not agree: %s has %d of %v", name, n, counts)
		}
	}
	return counts["1sfalse"]
}

func TestAppend_countsAnEntryOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		second := now.Unix() - 5
		e := &Entry{Now: now, Chunks: folded(second, 10, now), Records: 10, Repeated: 2, Skipped: 1,
			Partitions: []Advance{{Partition: 0, From: None, Next: 6, End: 20, Minute: 5}, {Partition: 3, From: None, Next: 7, End: 7, Minute: 6}}}
		for range 3 { // the answers to the first two were lost
			if err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if n := requests(t, l, second); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
		p, err := l.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p.Records != 10 || p.Repeated != 2 || p.Skipped != 1 || len(p.Positions) != 2 || p.Positions[0].Next != 6 || p.Positions[0].End != 20 ||
			p.Positions[1].Partition != 3 || p.Positions[1].Minute != 6 || p.Positions[1].At.UnixMilli() != now.UnixMilli() {
			t.Errorf("progress is %+v", p)
		}
	})
}

func TestAppend_isRefusedWhereAnotherWasFaster(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		second := now.Unix() - 5
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		entry := func(partitions ...Advance) *Entry {
			return &Entry{Now: now, Chunks: folded(second, 1, now), Records: 1, Partitions: partitions}
		}
		must(l.Append(t.Context(), entry(Advance{Partition: 0, From: None, Next: 5}, Advance{Partition: 1, From: None, Next: 5})))
		must(l.Append(t.Context(), entry(Advance{Partition: 0, From: 5, Next: 8})))
		for name, e := range map[string]*Entry{
			"one from the beginning":      entry(Advance{Partition: 0, From: None, Next: 5}),
			"one from before":             entry(Advance{Partition: 0, From: 5, Next: 9}),
			"one from later":              entry(Advance{Partition: 0, From: 9, Next: 12}),
			"one of two partitions":       entry(Advance{Partition: 1, From: 5, Next: 6}, Advance{Partition: 0, From: 5, Next: 9}),
			"one that was half done":      entry(Advance{Partition: 1, From: 5, Next: 6}, Advance{Partition: 0, From: 5, Next: 8}),
			"a partition that is unknown": entry(Advance{Partition: 9, From: 5, Next: 6}),
		} {
			if err := l.Append(t.Context(), e); !errors.Is(err, ErrMovedOn) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := requests(t, l, second); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// Who opened a partition before is refused, also where the offset would fit.
func TestAppend_isRefusedOfAnOwnerBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		now := time.Now()
		second := now.Unix() - 5
		open := func(l *Ledger, topic string) Position {
			t.Helper()
			p, err := l.Open(t.Context(), topic, []int{0})
			if err != nil {
				t.Fatal(err)
			}
			return p[0]
		}
		add := func(l *Ledger, p Position, next int64) error {
			return l.Append(t.Context(), &Entry{Now: now, Chunks: folded(second, int(next-max(p.Next, 0)), now), Partitions: []Advance{{Partition: 0, Owner: p.Owner, From: p.Next, Next: next}}})
		}
		before, after := New(c, "g", "t"), New(c, "g", "t")
		old := open(before, "one")
		mine := open(after, "two") // the topic was made again
		if err := add(before, old, 500); !errors.Is(err, ErrMovedOn) {
			t.Errorf("the old topic's: %v", err)
		}
		if err := add(after, mine, 10); err != nil {
			t.Fatal(err)
		}
		mine = open(after, "two")
		if err := after.Rewind(t.Context(), mine, 4); err != nil {
			t.Fatal(err)
		}
		late := Position{Next: 4, Owner: mine.Owner - 1}
		if err := add(after, late, 10); !errors.Is(err, ErrMovedOn) {
			t.Errorf("one from before the rewind: %v", err)
		}
		if n := requests(t, after, second); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
	})
}

// Nothing is taken back of a script that fails: it must not.
func TestAppend_isWholeWhateverStandsInItsPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		now := time.Now()
		second := now.Unix() - 5
		l := New(c, "g", "t")
		c.LPush(t.Context(), l.windowKey(window.Resolutions[0], false, second), "x")
		c.LPush(t.Context(), l.windowKey(window.Resolutions[3], true, window.Resolutions[3].Start(second)), "x")
		e := &Entry{Now: now, Chunks: folded(second, 10, now), Records: 10, Partitions: []Advance{{Partition: 0, From: None, Next: 10}}}
		for range 2 {
			if err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if n := requests(t, l, second); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
		for _, key := range []string{"offsets", "totals", "touched"} {
			c.Del(t.Context(), "{g:t}:"+key)
			c.Set(t.Context(), "{g:t}:"+key, "x", 0)
			if err := New(c, "g", "t").Append(t.Context(), e); err == nil || errors.Is(err, ErrMovedOn) {
				t.Errorf("with another %s: %v", key, err)
			}
			c.Del(t.Context(), "{g:t}:"+key)
			if n := requests(t, l, second); n != 10 {
				t.Errorf("with another %s something was added: %d requests", key, n)
			}
		}
	})
}

// Two that believe to own a partition count each of its records once.
func TestAppend_isExactWithTwoOwners(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		now := time.Now()
		second := now.Unix() - 5
		const each, last = 7, 70
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				l := New(c, "g", "t")
				next, owner := int64(None), int64(0)
				for {
					from := next
					next = max(next, 0) + each
					err := l.Append(context.Background(), &Entry{Now: now, Chunks: folded(second, each, now), Records: each, Partitions: []Advance{{Partition: 0, Owner: owner, From: from, Next: next}}})
					switch {
					case errors.Is(err, ErrMovedOn):
						p, err := l.Open(context.Background(), "", []int{0})
						if err != nil {
							t.Error(err)
							return
						}
						next, owner = p[0].Next, p[0].Owner
					case err != nil:
						t.Error(err)
						return
					}
					if next >= last {
						return
					}
				}
			})
		}
		both.Wait()
		l := New(c, "g", "t")
		p, err := l.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := requests(t, l, second); n != p.Positions[0].Next || p.Records != n {
			t.Errorf("%d requests, %d records, at offset %d", n, p.Records, p.Positions[0].Next)
		}
	})
}

func TestOpen_forgetsTheOffsetsOfAnotherTopic(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		open := func(topic string) int64 {
			p, err := l.Open(t.Context(), topic, []int{0})
			if err != nil {
				t.Fatal(err)
			}
			return p[0].Next
		}
		if next := open("one"); next != None {
			t.Errorf("an empty ledger begins at %d", next)
		}
		if err := l.Append(t.Context(), &Entry{Now: now, Chunks: folded(now.Unix(), 4, now), Records: 4, Partitions: []Advance{{Partition: 0, Owner: 1, From: None, Next: 4}}}); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"one", ""} {
			if next := open(topic); next != 4 {
				t.Errorf("topic %q begins at %d, want 4", topic, next)
			}
		}
		if next := open("two"); next != None {
			t.Errorf("another topic of the name begins at %d", next)
		}
		if n := requests(t, l, now.Unix()); n != 4 {
			t.Errorf("%d requests are left of the topic before, want 4", n)
		}
	})
}

func TestSeen_comesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		seen := window.NewSeen(100)
		next := int64(None)
		for minute := int64(1000); minute < 1030; minute++ {
			seen.Again(fmt.Appendf(nil, "frame%d-0", minute), minute*60_000)
			fresh, newest, old := seen.Fresh()
			if err := l.Append(t.Context(), &Entry{Now: now, Partitions: []Advance{{Partition: 2, From: next, Next: next + 2, Seen: fresh, Minute: newest, Old: old}}}); err != nil {
				t.Fatal(err)
			}
			next += 2
		}
		p, err := l.Open(t.Context(), "", []int{2})
		if err != nil {
			t.Fatal(err)
		}
		all, err := l.Seen(t.Context(), 2, p[0].Minute)
		if err != nil {
			t.Fatal(err)
		}
		other := window.NewSeen(100)
		for _, n := range all {
			if err := other.Load(n); err != nil {
				t.Fatal(err)
			}
		}
		for minute := int64(1000); minute < 1030; minute++ {
			if again := other.Again(fmt.Appendf(nil, "frame%d-0", minute), 1029*60_000); again != (minute >= 1029-window.SeenMinutes) {
				t.Errorf("minute %d: seen before: %v", minute, again)
			}
		}
		keys, err := c.Keys(t.Context(), "*:seen:*").Result()
		if err != nil || len(keys) != window.SeenMinutes+1 {
			t.Errorf("%d minutes are kept, %v: %v", len(keys), err, keys)
		}
	})
}

func TestWindows_expire(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		second := now.Unix() - 7
		for i := range int64(3) {
			if err := l.Append(t.Context(), &Entry{Now: now, Chunks: folded(second, 4, now), Partitions: []Advance{{Partition: 0, From: i - 1, Next: i, Minute: 28_000_000, Seen: []window.Noted{{Minute: 28_000_000, Entries: make([]byte, 16)}}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Tidy(t.Context(), now.Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		keys, err := c.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		lasting := 0
		for _, key := range keys {
			left := c.TTL(t.Context(), key).Val()
			if strings.HasSuffix(key, ":offsets") || strings.HasSuffix(key, ":totals") || strings.HasSuffix(key, ":touched") {
				lasting++
				continue
			}
			want := 24 * time.Hour
			for _, r := range window.Resolutions {
				if strings.Contains(key, ":"+r.Name+":") {
					want = time.Duration(r.Start(second)+r.Step+r.Keep-now.Unix()) * time.Second
				}
			}
			if left < want-5*time.Second || left > want+time.Second {
				t.Errorf("%s is kept for %v, want %v", key, left, want)
			}
		}
		if lasting != 3 || len(keys) != 3+8+1 {
			t.Errorf("%d keys, %d for ever: %v", len(keys), lasting, keys)
		}
	})
}

// A window becomes one chunk, much smaller, and loses nothing that is added meanwhile.
func TestTidy_losesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		second := now.Unix() - 100
		next := int64(None)
		add := func(l *Ledger) {
			if err := l.Append(t.Context(), &Entry{Now: now, Chunks: folded(second, 100, now), Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}); err != nil {
				t.Error(err)
			}
			next = max(next, 0) + 1
		}
		key := l.windowKey(window.Resolutions[0], true, second)
		for range 20 {
			add(l)
		}
		before := c.StrLen(t.Context(), key).Val()
		var both sync.WaitGroup
		both.Go(func() {
			for range 50 {
				add(l)
			}
		})
		both.Go(func() {
			for range 20 {
				if _, err := l.Tidy(t.Context(), now.Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		})
		both.Wait()
		if n := requests(t, l, second); n != 7000 {
			t.Errorf("%d requests, want 7000", n)
		}
		for range 2 {
			if _, err := l.Tidy(t.Context(), now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if n := requests(t, l, second); n != 7000 {
			t.Errorf("%d requests after tidying, want 7000", n)
		}
		if after := c.StrLen(t.Context(), key).Val(); after > before/5 {
			t.Errorf("%d bytes of 20 chunks became %d of 70", before, after)
		}
		if len(l.tidy.windows) > 0 {
			t.Errorf("%d windows are kept in mind", len(l.tidy.windows))
		}
	})
}

func TestTidy_makesGrowingWindowsSmallerNowAndThen(t *testing.T) {
	c := redisserver.Start(t).Client(t)
	l, now := New(c, "g", "t"), time.Now()
	next, tidied := int64(None), 0
	for range 200 {
		if err := l.Append(t.Context(), &Entry{Now: now, Chunks: folded(now.Unix(), 50, now), Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}); err != nil {
			t.Fatal(err)
		}
		next = max(next, 0) + 1
		n, err := l.Tidy(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		tidied += n
	}
	one := len(folded(now.Unix(), 50, now)[0].ByRoute)
	size := c.StrLen(t.Context(), l.windowKey(window.Resolutions[3], true, window.Resolutions[3].Start(now.Unix()))).Val()
	if tidied == 0 || size > int64(one*manyChunks*2) {
		t.Errorf("an hour of 200 chunks of %d bytes has %d, tidied %d times", one, size, tidied)
	}
}

func TestTidy_goesOnBehindAWindowThatIsDamaged(t *testing.T) {
	c := redisserver.Start(t).Client(t)
	l, now := New(c, "g", "t"), time.Now()
	for i := range int64(3) {
		if err := l.Append(t.Context(), &Entry{Now: now, Chunks: append(folded(now.Unix()-100, 5, now), folded(now.Unix()-200, 5, now)...), Partitions: []Advance{{Partition: 0, From: i - 1, Next: i}}}); err != nil {
			t.Fatal(err)
		}
	}
	damaged := l.windowKey(window.Resolutions[0], false, now.Unix()-100)
	c.Set(t.Context(), damaged, "hello", time.Hour)
	if _, err := l.Tidy(t.Context(), now.Add(2*time.Hour)); !errors.Is(err, window.ErrChunk) || !strings.Contains(err.Error(), damaged) {
		t.Errorf("tidying says %v", err)
	}
	if n, err := l.Tidy(t.Context(), now.Add(2*time.Hour)); err != nil || n != 0 || len(l.tidy.windows) != 0 {
		t.Errorf("the second time: %d windows, %v; %d are left", n, err, len(l.tidy.windows))
	}
	if size := c.StrLen(t.Context(), l.windowKey(window.Resolutions[0], false, now.Unix()-200)).Val(); size >= 2*int64(len(folded(now.Unix()-200, 5, now)[0].ByDyno)) {
		t.Errorf("the other window has %d bytes: it is not one chunk", size)
	}
}

func TestTouched_tellsEachChangeOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client) {
		l, now := New(c, "g", "t"), time.Now()
		next := int64(None)
		add := func(seconds ...int64) {
			e := &Entry{Now: now, Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}
			for _, s := range seconds {
				e.Chunks = append(e.Chunks, folded(s, 1, now)...)
			}
			if err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			next = max(next, 0) + 1
		}
		look := func(since int64, want ...int64) int64 {
			t.Helper()
			seconds, next, err := l.Touched(t.Context(), since)
			if err != nil || fmt.Sprint(seconds) != fmt.Sprint(want) {
				t.Errorf("since %d: %v, %v; want %v", since, seconds, err, want)
			}
			return next
		}
		a := now.Unix() - 50
		since := look(-1)
		look(since)
		add(a)
		add(a + 1)
		since = look(since, a, a+1)
		look(since)
		add(a)
		since = look(since, a)
		look(since)
		look(time.Now().Add(-time.Minute).UnixMicro(), a+1, a)
		look(time.Now().Add(time.Minute).UnixMicro())
		c.FlushAll(t.Context()) // a Redis that forgot
		next = None
		add(a)
		look(since, a)
	})
}

// What is told of changed seconds is bounded, however many there are.
func TestTouched_isBounded(t *testing.T) {
	c := redisserver.Start(t).Client(t)
	l, now := New(c, "g", "t"), time.Now()
	f := window.NewFold()
	next := int64(None)
	for second := range int64(9000) {
		// Windows of an hour that will come are kept, too.
		if f.Add(&window.Request{Second: now.Unix() + second, Status: 200}); f.Full() || second == 8999 {
			if err := l.Append(t.Context(), &Entry{Now: now, Chunks: f.Chunks(now.Unix()), Partitions: []Advance{{Partition: 0, From: next, Next: max(next, 0) + 1}}}); err != nil {
				t.Fatal(err)
			}
			next = max(next, 0) + 1
			f.Reset()
		}
	}
	if n := c.ZCard(t.Context(), l.key("touched")).Val(); n != 4000 {
		t.Errorf("%d seconds are kept in mind", n)
	}
}

func TestProgress_complainsOfWhatIsNotOurs(t *testing.T) {
	c := redisserver.Start(t).Client(t)
	l := New(c, "g", "t")
	c.HSet(t.Context(), "{g:t}:offsets", "0", "soon")
	if _, err := l.Progress(t.Context()); err == nil || !strings.Contains(err.Error(), `"soon"`) {
		t.Errorf("it says %v", err)
	}
}
