package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/twmb/franz-go/pkg/kadm"
)

// facts are what info tells. What is not known, since a partition has no leader or
// Kafka does not tell this user, is null.
type facts struct {
	Topic    string `json:"topic"`
	Replicas int    `json:"replicas"`
	Records  int64  `json:"records"`
	Bytes    *int64 `json:"bytes"`
	// First and Last are the times of the oldest record and the newest, as Kafka has
	// them: by default when they were produced.
	First *time.Time `json:"first_time"`
	Last  *time.Time `json:"last_time"`
	Span  float64    `json:"span_seconds"`
	// Rate is what came in while it was looked at.
	Rate float64 `json:"records_per_second"`
	// Skew is how many times the partitions' mean the fullest one has; 0 without records.
	Skew       float64     `json:"skew"`
	Partitions []partition `json:"partitions"`
	Groups     []group     `json:"groups"`
}

type partition struct {
	ID     int32 `json:"partition"`
	Leader int32 `json:"leader"` // -1: none
	// First and Last are the offsets of the oldest record and the newest; Last is null
	// where there is none. End is that of the next record to come.
	First *int64 `json:"first_offset"`
	Last  *int64 `json:"last_offset"`
	End   *int64 `json:"end_offset"`
	// Records are the offsets from First to Last. Not all hold a record in a topic that
	// is compacted, or is written by transactions.
	Records int64      `json:"records"`
	Bytes   *int64     `json:"bytes"` // on the leader's disk
	Oldest  *time.Time `json:"first_time"`
	Newest  *time.Time `json:"last_time"`
}

type group struct {
	Name    string `json:"group"`
	State   string `json:"state"`
	Members int    `json:"members"`
	// Lag is the records behind the committed offsets. Of a partition without one, all
	// are, if the group has members that read the topic.
	Lag int64 `json:"lag"`
}

// rateOver is how long the rate is looked at.
const rateOver = time.Second

// info tells what is in the topic.
func (t *topic) info(ctx context.Context, asJSON bool) error {
	f, err := t.learn(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(f)
	}
	_, err = fmt.Fprint(t.out, f.table())
	return err
}

func (t *topic) learn(ctx context.Context) (*facts, error) {
	detail, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	if none := leaderless(detail); none != nil {
		t.say("partitions %v of %s have no leader", none, t.name)
	}
	firsts, err := t.offsets(ctx, t.admin.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	ends, err := t.offsets(ctx, t.admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	f := &facts{Topic: t.name, Replicas: detail.Partitions.NumReplicas(), Partitions: []partition{}, Groups: []group{}}
	fullest := int64(0)
	for _, p := range detail.Partitions.Sorted() {
		part := partition{ID: p.Partition, Leader: -1}
		if led(p) {
			part.Leader = p.Leader
		}
		first, began := firsts[p.Partition]
		if end, ended := ends[p.Partition]; began && ended {
			part.First, part.End, part.Records = &first.Offset, &end.Offset, end.Offset-first.Offset
			if last := end.Offset - 1; part.Records > 0 {
				part.Last = &last
			}
		}
		f.Records += part.Records
		fullest = max(fullest, part.Records)
		f.Partitions = append(f.Partitions, part)
	}
	if f.Records > 0 {
		f.Skew = rounded(float64(fullest) * float64(len(f.Partitions)) / float64(f.Records))
	}
	if err := t.times(ctx, f); err != nil {
		return nil, err
	}
	t.optional(ctx, "bytes", func(ctx context.Context) error { return t.sizes(ctx, f) })
	t.optional(ctx, "groups", func(ctx context.Context) error { return t.groups(ctx, f) })
	if err := pause(ctx, rateOver-time.Since(began)); err != nil {
		return nil, errors.New("stopped before the rate was known")
	}
	later, err := t.offsets(ctx, t.admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	came, over := int64(0), time.Since(began)
	for p, end := range ends {
		if at, ok := later[p]; ok {
			came += max(0, at.Offset-end.Offset)
		}
	}
	f.Rate = rounded(float64(came) / over.Seconds())
	return f, nil
}

// optional asks what not everybody may know.
func (t *topic) optional(ctx context.Context, what string, question func(context.Context) error) {
	var refused *failure
	if err := t.ask(ctx, "learn the "+what+" of topic", question); errors.As(err, &refused) {
		t.say("the %s of %s are not known: %s", what, t.name, clean(refused.error.Error()))
	}
}

// rounded has two digits behind the point.
func rounded(v float64) float64 { return math.Round(100*v) / 100 }

// times asks for the times of the partitions' oldest and newest records. No record is
// read for it: at an offset need not be one, and not everybody may read.
func (t *topic) times(ctx context.Context, f *facts) error {
	oldest, err := t.offsets(ctx, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
		return t.admin.ListOffsetsAfterMilli(ctx, 0, topics...)
	})
	if err != nil {
		return err
	}
	newest, err := t.offsets(ctx, t.admin.ListMaxTimestampOffsets)
	if err != nil {
		t.say("%v; brokers before 3.0 do not know it", err)
	}
	// An answer about an offset that is no record's is none: it is of a record that was
	// deleted, or of no record at all.
	timeOf := func(p *partition, o kadm.ListedOffset, ok bool) *time.Time {
		if !ok || p.Records == 0 || o.Timestamp < 0 || o.Offset < *p.First {
			return nil
		}
		at := time.UnixMilli(o.Timestamp).UTC()
		return &at
	}
	for i := range f.Partitions {
		p := &f.Partitions[i]
		o, ok := oldest[p.ID]
		p.Oldest = timeOf(p, o, ok)
		o, ok = newest[p.ID]
		p.Newest = timeOf(p, o, ok)
		if p.Oldest != nil && (f.First == nil || p.Oldest.Before(*f.First)) {
			f.First = p.Oldest
		}
		if p.Newest != nil && (f.Last == nil || p.Newest.After(*f.Last)) {
			f.Last = p.Newest
		}
	}
	if f.First != nil && f.Last != nil {
		f.Span = f.Last.Sub(*f.First).Seconds()
	}
	return nil
}

// sizes asks for the bytes of the partitions on their leaders.
func (t *topic) sizes(ctx context.Context, f *facts) error {
	asked := make(kadm.TopicsSet)
	for _, p := range f.Partitions {
		if p.Leader >= 0 {
			asked.Add(t.name, p.ID)
		}
	}
	if len(asked) == 0 {
		return nil // to ask for none would be to ask for all
	}
	brokers, err := t.admin.DescribeAllLogDirs(ctx, asked)
	if err != nil {
		return err
	}
	total, known := int64(0), 0
	for _, dirs := range brokers {
		if err := dirs.Error(); err != nil {
			return err
		}
		dirs.EachPartition(func(d kadm.DescribedLogDirPartition) {
			for i := range f.Partitions {
				if p := &f.Partitions[i]; d.Topic == t.name && p.ID == d.Partition && p.Leader == d.Broker && !d.IsFuture {
					p.Bytes = &d.Size
					total += d.Size
					known++
				}
			}
		})
	}
	if known == len(f.Partitions) {
		f.Bytes = &total
	}
	return nil
}

// groups asks which groups read the topic or have committed offsets of it. Those that
// this user may not see are not there.
func (t *topic) groups(ctx context.Context, f *facts) error {
	listed, err := t.admin.ListGroups(ctx)
	if err != nil || len(listed) == 0 {
		return err
	}
	readers := t.readers(ctx, listed.Groups())
	f.Groups = f.Groups[:0] // of an answer that was asked for again
	commits := t.admin.FetchManyOffsets(ctx, listed.Groups()...)
	for _, name := range listed.Groups() {
		committed, members := commits[name].Fetched, readers[name]
		g := group{Name: name, State: listed[name].State, Members: members.count}
		has := members.read
		for _, p := range f.Partitions {
			at, ok := committed.Lookup(t.name, p.ID)
			ok = ok && at.Err == nil && at.At >= 0
			has = has || ok
			switch {
			case p.End == nil:
			case ok:
				g.Lag += max(0, *p.End-max(at.At, *p.First))
			case members.read:
				g.Lag += p.Records
			}
		}
		if has {
			f.Groups = append(f.Groups, g)
		}
	}
	return nil
}

// members are a group's, and whether they read the topic.
type members struct {
	count int
	read  bool
}

// readers asks for the members of groups. Those of Kafka's newer protocol are asked for
// otherwise; who cannot be asked has none.
func (t *topic) readers(ctx context.Context, groups []string) map[string]members {
	readers := make(map[string]members)
	var rest []string
	classic, _ := t.admin.DescribeGroups(ctx, groups...)
	for _, name := range groups {
		// Brokers show a group of the newer protocol without members, or know none of
		// that name.
		if g := classic[name]; g.Err == nil && len(g.Members) > 0 {
			assigned, joined := g.AssignedPartitions(), g.JoinTopics()
			readers[name] = members{len(g.Members), assigned[t.name] != nil || slices.Contains(joined, t.name)}
		} else {
			rest = append(rest, name)
		}
	}
	if rest != nil {
		newer, _ := t.admin.DescribeConsumerGroups(ctx, rest...)
		for _, g := range newer {
			if g.Err == nil {
				assigned, wanted := g.AssignedPartitions(), g.SubscribedTopics()
				readers[g.Group] = members{len(g.Members), assigned[t.name] != nil || slices.Contains(wanted, t.name)}
			}
		}
	}
	return readers
}

// table is for people.
func (f *facts) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(w, strings.Join(texts(cells), "\t")) }
	fmt.Fprintf(&b, "%s: %s, %s, %s records", f.Topic, count(len(f.Partitions), "partition"), count(f.Replicas, "replica"), humanize.Comma(f.Records))
	if f.Bytes != nil {
		fmt.Fprintf(&b, ", %s", humanize.Bytes(uint64(*f.Bytes)))
	}
	fmt.Fprintf(&b, ", %s/s now", humanize.Commaf(f.Rate))
	if f.First != nil && f.Last != nil {
		fmt.Fprintf(&b, "\nfrom %s to %s, %s", text(f.First), text(f.Last), f.Last.Sub(*f.First).Round(time.Second))
	}
	if f.Records > 0 {
		fmt.Fprintf(&b, "; the fullest partition has %.2f times the mean", f.Skew)
	}
	b.WriteString("\n\n")
	row("PARTITION", "LEADER", "FIRST", "LAST", "RECORDS", "BYTES", "OLDEST", "NEWEST")
	for _, p := range f.Partitions {
		leader := fmt.Sprint(p.Leader)
		if p.Leader < 0 {
			leader = "none"
		}
		size := "-"
		if p.Bytes != nil {
			size = humanize.Bytes(uint64(*p.Bytes))
		}
		row(p.ID, leader, p.First, p.Last, humanize.Comma(p.Records), size, p.Oldest, p.Newest)
	}
	w.Flush() // a strings.Builder takes all
	if len(f.Groups) > 0 {
		b.WriteString("\n")
		row("GROUP", "STATE", "MEMBERS", "LAG")
		for _, g := range f.Groups {
			row(clean(g.Name), g.State, g.Members, humanize.Comma(g.Lag))
		}
		w.Flush()
	}
	return b.String()
}

func texts(cells []any) (all []string) {
	for _, c := range cells {
		all = append(all, text(c))
	}
	return all
}

// text is a cell of a table; what is not known is a dash.
func text(cell any) string {
	switch v := cell.(type) {
	case *int64:
		if v == nil {
			return "-"
		}
		return fmt.Sprint(*v)
	case *time.Time:
		if v == nil {
			return "-"
		}
		return v.Format(time.RFC3339)
	}
	return fmt.Sprint(cell)
}
