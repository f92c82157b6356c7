package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// learnt is what info --json tells.
func learnt(t *testing.T, env vars, args ...string) (f facts, said string) {
	t.Helper()
	status, out, said := try(t, env, append([]string{"info", "--json"}, args...)...)
	if status != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("status %d, %q, %s", status, out, said)
	}
	must(t, json.Unmarshal([]byte(out), &f))
	return f, said
}

// commit commits offsets of the router topic, by partition; less than 0 for none.
func commit(t *testing.T, cl *kgo.Client, group, topic string, offsets ...int64) {
	t.Helper()
	all := make(kadm.Offsets)
	for p, at := range offsets {
		if at >= 0 {
			all.AddOffset(topic, int32(p), at, -1)
		}
	}
	must(t, kadm.NewClient(cl).CommitAllOffsets(t.Context(), group, all))
}

// filled is a topic of three partitions: 4 records from second 0 of which the first is
// deleted, 2 of which the later was written first, and none.
func filled(t *testing.T) (c *kfake.Cluster, env vars, cl *kgo.Client) {
	t.Helper()
	c, env = broker(t, kfake.SeedTopics(3, "router"), kfake.SeedTopics(1, "other"))
	cl = client(t, env)
	for i := range 4 {
		produce(t, cl, record(0, 10*i, fmt.Sprint("a", i)))
	}
	produce(t, cl, record(1, 100, "b0"), record(1, 50, "b1"))
	must(t, c.DeleteRecords("router", 0, 1))
	return c, env, cl
}

func TestInfoAsJSON(t *testing.T) {
	c, env, cl := filled(t)
	commit(t, cl, "elsewhere", "other", 0)
	commit(t, cl, "half", "router", 2, -1, -1)
	commit(t, cl, "behind", "router", 0, 0, 0) // the first is deleted: it lacks 3 there
	commit(t, cl, "done", "router", 4, 2, 0)
	status, out, said := try(t, env, "info", "--json")
	if status != 0 || said != "" {
		t.Fatalf("status %d, %s", status, said)
	}
	sizes := c.PartitionInfos("router")
	a, b, all := sizes[0].NumBytes, sizes[1].NumBytes, sizes[0].NumBytes+sizes[1].NumBytes
	want := fmt.Sprintf(`{"topic":"router","replicas":1,"records":5,"bytes":%d,"first_time":"2026-01-02T12:00:10Z","last_time":"2026-01-02T12:01:40Z","span_seconds":90,"records_per_second":0,"skew":1.8,`+
		`"partitions":[{"partition":0,"leader":0,"first_offset":1,"last_offset":3,"end_offset":4,"records":3,"bytes":%d,"first_time":"2026-01-02T12:00:10Z","last_time":"2026-01-02T12:00:30Z"},`+
		`{"partition":1,"leader":0,"first_offset":0,"last_offset":1,"end_offset":2,"records":2,"bytes":%d,"first_time":"2026-01-02T12:01:40Z","last_time":"2026-01-02T12:01:40Z"},`+
		`{"partition":2,"leader":0,"first_offset":0,"last_offset":null,"end_offset":0,"records":0,"bytes":0,"first_time":null,"last_time":null}],`+
		`"groups":[{"group":"behind","state":"Empty","members":0,"lag":5},{"group":"done","state":"Empty","members":0,"lag":0},{"group":"half","state":"Empty","members":0,"lag":2}]}`+"\n", all, a, b)
	if out != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}

func TestInfoAsATable(t *testing.T) {
	_, env, cl := filled(t)
	commit(t, cl, "metrics", "router", 2, 0, 0)
	status, out, said := try(t, env, "info")
	want := `router: 3 partitions, 1 replica, 5 records, SIZE, 0/s now
from 2026-01-02T12:00:10Z to 2026-01-02T12:01:40Z, 1m30s; the fullest partition has 1.80 times the mean

PARTITION  LEADER  FIRST  LAST  RECORDS  BYTES  OLDEST                NEWEST
0          0       1      3     3        SIZE   2026-01-02T12:00:10Z  2026-01-02T12:00:30Z
1          0       0      1     2        SIZE   2026-01-02T12:01:40Z  2026-01-02T12:01:40Z
2          0       0      -     0        SIZE   -                     -

GROUP    STATE  MEMBERS  LAG
metrics  Empty  0        4
`
	// What the broker takes for them is its own matter, and so is the column's width.
	got := regexp.MustCompile(`\d+ B( *)`).ReplaceAllString(out, "SIZE$1")
	got, want = regexp.MustCompile(` +`).ReplaceAllString(got, " "), regexp.MustCompile(` +`).ReplaceAllString(want, " ")
	if status != 0 || said != "" || got != want {
		t.Errorf("status %d, %s\n%s\nwant\n%s", status, said, got, want)
	}
}

func TestInfoOfAnEmptyTopic(t *testing.T) {
	t.Parallel()
	_, env := broker(t, kfake.SeedTopics(2, "router"))
	f, said := learnt(t, env)
	if f.Records != 0 || f.Skew != 0 || f.First != nil || f.Last != nil || f.Span != 0 || f.Bytes == nil || *f.Bytes != 0 || len(f.Partitions) != 2 || f.Groups == nil || said != "" {
		t.Errorf("%+v, %s", f, said)
	}
	if status, out, _ := try(t, env, "info"); status != 0 || !strings.HasPrefix(out, "router: 2 partitions, 1 replica, 0 records, 0 B, 0/s now\n\nPARTITION") || strings.Contains(out, "GROUP") {
		t.Errorf("status %d, %s", status, out)
	}
}

func TestInfoTellsTheRate(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(2, "router"))
	cl := client(t, env)
	stop, stopped := make(chan struct{}), make(chan int)
	began := time.Now()
	go func() {
		n := 0
		for tick := time.NewTicker(time.Millisecond); ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			case <-tick.C:
				cl.ProduceSync(t.Context(), record(int32(n%2), n, "x"))
			}
		}
	}()
	f, _ := learnt(t, env)
	close(stop)
	rate := float64(<-stopped) / time.Since(began).Seconds()
	if f.Rate < rate/2 || f.Rate > 2*rate {
		t.Errorf("%v a second, where %v came", f.Rate, rate)
	}
}

// Members that have committed nothing yet lag by all of their partitions; by either of
// Kafka's protocols for groups.
func TestInfoOfGroupsThatRead(t *testing.T) {
	t.Parallel()
	_, env, _ := filled(t)
	for name, options := range map[string][]kgo.Opt{"classic": nil, "newer": {kgo.ServerSideBalancer()}} {
		t.Run(name, func(t *testing.T) {
			reader := client(t, env, append(options, kgo.ConsumerGroup(name), kgo.ConsumeTopics("router"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
			for n := 0; n < 5; {
				fetches := reader.PollFetches(t.Context())
				must(t, fetches.Err())
				n += fetches.NumRecords()
			}
			of := func() (g group) {
				f, _ := learnt(t, env)
				for _, g = range f.Groups {
					if g.Name == name {
						return g
					}
				}
				return group{}
			}
			if g := of(); g != (group{name, "Stable", 1, 5}) {
				t.Errorf("before it commits: %+v", g)
			}
			must(t, reader.CommitUncommittedOffsets(t.Context()))
			if g := of(); g != (group{name, "Stable", 1, 0}) {
				t.Errorf("when it has: %+v", g)
			}
		})
	}
}

// Who may only read the topic learns what there is to learn by that.
func TestInfoOfWhoMayNotAskForAll(t *testing.T) {
	t.Parallel()
	may := func(operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "p.", Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: operation, Allow: true}
	}
	c, env := broker(t, kfake.SeedTopics(1, "p.router"), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "swordfish"),
		kfake.User("PLAIN", "poor", "sturgeon", may(kmsg.ACLOperationRead), may(kmsg.ACLOperationDescribe)))
	login := func(user, password string) vars {
		return env.With("KAFKA_SASL_MECHANISM", "PLAIN").With("KAFKA_SASL_USERNAME", user).With("KAFKA_SASL_PASSWORD", password).With("KAFKA_PREFIX", "p.")
	}
	cl := client(t, env, kgo.SASL(plain.Auth{User: "admin", Pass: "swordfish"}.AsMechanism()))
	for i := range 3 {
		r := record(0, i, strconv.Itoa(i))
		r.Topic = "p.router"
		produce(t, cl, r)
	}
	commit(t, cl, "p.metrics", "p.router", 1)
	if f, said := learnt(t, login("admin", "swordfish")); f.Bytes == nil || len(f.Groups) != 1 || f.Groups[0].Lag != 2 || said != "" {
		t.Errorf("who may all: %+v, %s", f, said)
	}
	f, said := learnt(t, login("poor", "sturgeon"))
	if f.Records != 3 || f.Span != 2 || f.Bytes != nil || f.Partitions[0].Bytes != nil || len(f.Groups) != 0 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "bytes") {
		t.Errorf("who may read: %+v, %s", f, said)
	}
	if status, out, said := try(t, login("poor", "sturgeon"), "info"); status != 0 || !strings.Contains(out, "p.router: 1 partition, 1 replica, 3 records, 0/s now\n") {
		t.Errorf("as a table: status %d, %s %s", status, out, said)
	}
	if status, out, said := try(t, login("poor", "sturgeon"), "tail", "--from", "-2", "-n", "2"); status != 0 || out != "1\n2\n" {
		t.Errorf("tail: status %d, %q %s", status, out, said)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListGroups}, Err: kerr.ClusterAuthorizationFailed, TopLevel: true, Count: -1})
	if f, said := learnt(t, login("admin", "swordfish")); f.Bytes == nil || len(f.Groups) != 0 || !strings.Contains(said, "groups") {
		t.Errorf("who may not ask for groups: %+v, %s", f, said)
	}
}

func TestInfoOfAPartitionWithoutALeader(t *testing.T) {
	t.Parallel()
	c, env, cl := filled(t)
	commit(t, cl, "metrics", "router", 2, 0, 0)
	deposed(c, 0)
	f, said := learnt(t, env)
	p := f.Partitions[0]
	if p.Leader != -1 || p.First != nil || p.Last != nil || p.End != nil || p.Records != 0 || p.Bytes != nil || f.Bytes != nil || f.Records != 2 || f.Groups[0].Lag != 2 || said != "topic: partitions [0] of router have no leader\n" {
		t.Errorf("%+v, %s", f, said)
	}
	if status, out, _ := try(t, env, "info"); status != 0 || !strings.Contains(out, "0          none    -      -     0        -") {
		t.Errorf("status %d, %s", status, out)
	}
}

// Brokers that do not know how to tell the newest time tell the rest.
func TestInfoOfAnOldBroker(t *testing.T) {
	c, env, _ := filled(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.UnsupportedVersion, Count: -1, When: func(r kmsg.Request) bool {
		return r.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp == -3
	}})
	f, said := learnt(t, env)
	if f.Records != 5 || f.First == nil || f.Last != nil || f.Span != 0 || !strings.Contains(said, "before 3.0") {
		t.Errorf("%+v, %s", f, said)
	}
}
