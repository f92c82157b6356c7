// Package ledger keeps windows in Redis, together with the offsets up to which the
// topic's records are in them: both change in one script, which first compares the
// offsets. So a record is counted once, whatever dies, and whoever believes to own
// a partition.
//
// The keys of a ledger, all with one hash tag, so that a Redis Cluster has them in one
// place:
//
//	{group:topic}:offsets           hash: next offset of each partition, its owner, the log's end, and when
//	{group:topic}:totals            hash: records, skipped, repeated; sequence of the touched seconds
//	{group:topic}:touched           sorted set: seconds, by the sequence in which records came to them
//	{group:topic}:1s:dynos:START    string: chunks of a window (package window), by dyno
//	{group:topic}:1s:routes:START   string: the same, by route; 1s, 10s, 1m, 1h
//	{group:topic}:seen:P:MINUTE     string: records of a partition seen in a minute
package ledger

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"drain/window"
)

// Ledger is the windows and offsets of a consumer group. It is for concurrent use.
type Ledger struct {
	client redis.UniversalClient
	name   string
	tidy   tidy
}

// New makes the ledger of a group on a topic; client stays the caller's.
func New(client redis.UniversalClient, group, topic string) *Ledger {
	return &Ledger{client: client, name: "{" + group + ":" + topic + "}:", tidy: tidy{windows: make(map[string]grown)}}
}

func (l *Ledger) key(parts ...string) string { return l.name + strings.Join(parts, ":") }

func (l *Ledger) windowKey(r window.Resolution, byRoute bool, start int64) string {
	table := "dynos"
	if byRoute {
		table = "routes"
	}
	return l.key(r.Name, table, strconv.FormatInt(start, 10))
}

func (l *Ledger) seenKey(partition int, minute int64) string {
	return l.key("seen", strconv.Itoa(partition), strconv.FormatInt(minute, 10))
}

var (
	//go:embed append.lua
	appendText string
	//go:embed compact.lua
	compactText string
	//go:embed open.lua
	openText string

	appendScript  = redis.NewScript(appendText)
	compactScript = redis.NewScript(compactText)
	openScript    = redis.NewScript(openText)
)

// Position is how far a partition's records are in the ledger.
type Position struct {
	Partition int
	Next      int64 // offset of the first record that is not, or None
	End       int64 // of the log, when something was added last
	At        time.Time
	Minute    int64 // the newest of the records seen, since 1970
	Owner     int64 // what tells the caller of Open from those before
}

// None is the Next of a partition of which the ledger has nothing.
const None = -1

// Open makes the caller the owner of partitions, and tells their positions: who opened them before adds
// nothing any more. topicID tells a topic from another one of the same name
// that was before: its offsets are forgotten, its windows stay. With "" they are believed.
func (l *Ledger) Open(ctx context.Context, topicID string, partitions []int) ([]Position, error) {
	args := []any{topicID}
	for _, p := range partitions {
		args = append(args, p)
	}
	fields, err := openScript.Run(ctx, l.client, []string{l.key("offsets")}, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("read the offsets in Redis: %w", err)
	}
	stored := make(map[string]string)
	for i := 0; i+1 < len(fields); i += 2 {
		stored[fields[i]] = fields[i+1]
	}
	return positions(stored, partitions)
}

func positions(stored map[string]string, partitions []int) ([]Position, error) {
	var all []Position
	for _, id := range partitions {
		p := Position{Partition: id, Next: None}
		field := strconv.Itoa(id)
		var at int64
		type number struct {
			name  string
			value *int64
		}
		var numbers []number
		if _, ok := stored[field]; ok {
			numbers = []number{{field, &p.Next}, {field + ":end", &p.End}, {field + ":at", &at}, {field + ":minute", &p.Minute}}
		}
		if _, ok := stored[field+":owner"]; ok {
			numbers = append(numbers, number{field + ":owner", &p.Owner})
		}
		for _, x := range numbers {
			n, err := strconv.ParseInt(stored[x.name], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read the offsets in Redis: %s is %.40q, not a number: something else may write there", x.name, stored[x.name])
			}
			*x.value = n
		}
		p.At = time.UnixMilli(at)
		all = append(all, p)
	}
	return all, nil
}

// Seen tells which records of a partition were seen up to the ten minutes that end with
// the newest one.
func (l *Ledger) Seen(ctx context.Context, partition int, newest int64) ([]window.Noted, error) {
	var keys []string
	for minute := newest - window.SeenMinutes; minute <= newest; minute++ {
		keys = append(keys, l.seenKey(partition, minute))
	}
	values, err := l.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read in Redis which records of partition %d were seen: %w", partition, err)
	}
	var seen []window.Noted
	for i, v := range values {
		if s, ok := v.(string); ok {
			seen = append(seen, window.Noted{Minute: newest - window.SeenMinutes + int64(i), Entries: []byte(s)})
		}
	}
	return seen, nil
}

// Advance is how far an Entry takes a partition.
type Advance struct {
	Partition int
	Owner     int64 // as Open gave it
	From      int64 // what the ledger must have as Next, or None
	Next, End int64
	Seen      []window.Noted // new in it
	Minute    int64          // the newest that was seen
	Old       []int64        // minutes that do not matter any more
}

// Entry is what was folded since the last one, of some partitions.
type Entry struct {
	Partitions                 []Advance
	Chunks                     []window.Chunk
	Records, Skipped, Repeated int64 // folded; not router records; repeated
	Now                        time.Time
}

// ErrMovedOn is what Append fails with when the ledger is not where the Entry begins:
// another process has, or had, some of its partitions. Nothing was added.
var ErrMovedOn = errors.New("another process has gone on from here")

// seenFor is how long records seen are kept where nobody takes them away any more.
const seenFor = 24 * time.Hour

// Append adds an entry, all of it or nothing. After any error but ErrMovedOn it is not known whether
// it was added: the same entry may be appended again, and is in the ledger once.
func (l *Ledger) Append(ctx context.Context, e *Entry) error {
	keys := []string{l.key("offsets"), l.key("totals"), l.key("touched")}
	args := []any{len(e.Partitions)}
	for _, p := range e.Partitions {
		from := ""
		if p.From != None {
			from = strconv.FormatInt(p.From, 10)
		}
		args = append(args, p.Partition, p.Owner, from, p.Next, p.End, e.Now.UnixMilli(), p.Minute)
	}
	args = append(args, e.Records, e.Skipped, e.Repeated)
	var seconds []any
	for _, c := range e.Chunks {
		if c.Resolution == window.Resolutions[0] {
			seconds = append(seconds, c.Start)
		}
	}
	args = append(append(args, len(seconds)), seconds...)
	old := 0
	for _, p := range e.Partitions {
		old += len(p.Old)
	}
	args = append(args, old)
	for _, c := range e.Chunks {
		expires := c.Start + c.Resolution.Step + c.Resolution.Keep
		keys = append(keys, l.windowKey(c.Resolution, false, c.Start), l.windowKey(c.Resolution, true, c.Start))
		args = append(args, expires, c.ByDyno, expires, c.ByRoute)
	}
	for _, p := range e.Partitions {
		for _, n := range p.Seen {
			keys = append(keys, l.seenKey(p.Partition, n.Minute))
			args = append(args, e.Now.Add(seenFor).Unix(), n.Entries)
		}
	}
	for _, p := range e.Partitions {
		for _, minute := range p.Old {
			keys = append(keys, l.seenKey(p.Partition, minute))
		}
	}
	lengths, err := appendScript.Run(ctx, l.client, keys, args...).Int64Slice()
	if err != nil {
		if strings.HasPrefix(err.Error(), "MOVED_ON") {
			return ErrMovedOn
		}
		return fmt.Errorf("add to the windows in Redis: %w", err)
	}
	for i := 0; i+1 < len(lengths) && i/2 < len(e.Chunks); i += 2 {
		c := &e.Chunks[i/2]
		l.tidy.grew(keys[3+i], c, lengths[i], len(c.ByDyno), e.Now)
		l.tidy.grew(keys[4+i], c, lengths[i+1], len(c.ByRoute), e.Now)
	}
	return nil
}

// Rewind sets a partition back to an offset before its position, after Kafka lost what was behind. An error may be
// ErrMovedOn.
func (l *Ledger) Rewind(ctx context.Context, p Position, to int64) error {
	return l.Append(ctx, &Entry{Now: time.Now(), Partitions: []Advance{{Partition: p.Partition, Owner: p.Owner, From: p.Next, Next: to, End: to, Minute: p.Minute}}})
}

// windowsAtOnce is how many windows are asked for in one command: many enough for
// speed, few enough that an answer takes little memory and other clients' commands go between.
const windowsAtOnce = 200

// Windows calls each with the chunks of the span's windows that are there, in order.
func (l *Ledger) Windows(ctx context.Context, s window.Span, byRoute bool, each func(start int64, chunks []byte) error) error {
	for first := 0; first < s.Windows; first += windowsAtOnce {
		n := min(windowsAtOnce, s.Windows-first)
		starts, keys := make([]int64, n), make([]string, n)
		for i := range keys {
			starts[i] = s.Start + int64(first+i)*s.Resolution.Step
			keys[i] = l.windowKey(s.Resolution, byRoute, starts[i])
		}
		values, err := l.client.MGet(ctx, keys...).Result()
		if err != nil {
			return fmt.Errorf("read windows in Redis: %w", err)
		}
		for i, v := range values {
			chunks, ok := v.(string)
			if !ok {
				continue
			}
			if err := each(starts[i], []byte(chunks)); err != nil {
				return fmt.Errorf("read %s in Redis: %w", keys[i], err)
			}
		}
	}
	return nil
}

// Touched tells the seconds to which records came since a sequence number, and the
// number to ask with next. The first time it is -1, which gives the number only, or a time: they are
// Redis' microseconds since 1970.
func (l *Ledger) Touched(ctx context.Context, since int64) (seconds []int64, next int64, err error) {
	if since < 0 {
		next, err = l.client.HGet(ctx, l.key("totals"), "sequence").Int64()
		if err != nil && err != redis.Nil {
			return nil, 0, fmt.Errorf("read in Redis what was added: %w", err)
		}
		return nil, next, nil
	}
	found, err := l.client.ZRangeByScoreWithScores(ctx, l.key("touched"), &redis.ZRangeBy{Min: "(" + strconv.FormatInt(since, 10), Max: "+inf"}).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("read in Redis what was added: %w", err)
	}
	next = since
	for _, z := range found {
		second, err := strconv.ParseInt(fmt.Sprint(z.Member), 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("read in Redis what was added: %.40q is not a second", z.Member)
		}
		seconds = append(seconds, second)
		next = max(next, int64(z.Score))
	}
	return seconds, next, nil
}

// Progress is how far the group has come.
type Progress struct {
	Positions                  []Position // of all partitions that were ever read, in order
	Records, Skipped, Repeated int64
}

// Progress reads it.
func (l *Ledger) Progress(ctx context.Context) (Progress, error) {
	var offsets, totals *redis.MapStringStringCmd
	_, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		offsets, totals = p.HGetAll(ctx, l.key("offsets")), p.HGetAll(ctx, l.key("totals"))
		return nil
	})
	if err != nil {
		return Progress{}, fmt.Errorf("read in Redis how far the group is: %w", err)
	}
	var partitions []int
	for field := range offsets.Val() {
		if id, err := strconv.Atoi(field); err == nil { // :owner and others are not
			partitions = append(partitions, id)
		}
	}
	slices.Sort(partitions)
	var p Progress
	if p.Positions, err = positions(offsets.Val(), partitions); err != nil {
		return Progress{}, err
	}
	for name, n := range map[string]*int64{"records": &p.Records, "skipped": &p.Skipped, "repeated": &p.Repeated} {
		*n, _ = strconv.ParseInt(totals.Val()[name], 10, 64) // none yet is 0
	}
	return p, nil
}

func digest(value []byte) string {
	sum := sha1.Sum(value)
	return hex.EncodeToString(sum[:])
}
