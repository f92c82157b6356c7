package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Nine records over three partitions, one a second in turn.
func nine(t *testing.T, cl *kgo.Client) {
	t.Helper()
	for i := range 9 {
		produce(t, cl, record(int32(i%3), i, strconv.Itoa(i)))
	}
}

// sorted puts lines in the order of their bytes: partitions have none among them.
func sorted(lines string) string {
	return strings.Join(slices.Sorted(strings.Lines(lines)), "")
}

func TestTailFromEachStart(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(3, "empty"))
	cl := client(t, env)
	second := func(n int) string { return noon.Add(time.Duration(n) * time.Second).Format(time.RFC3339) }
	for _, test := range []struct {
		from, then string // shown at once, and behind it once "9" has come to partition 1
		inOrder    bool
	}{
		{"beginning", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", false},
		{"end", "", true},
		{"-1", "8\n", true},
		{"-4", "5\n6\n7\n8\n", true},
		{"-9", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", true},
		{"-100", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", true},
		{second(0), "0\n1\n2\n3\n4\n5\n6\n7\n8\n", false},
		{second(4), "4\n5\n6\n7\n8\n", false},
		{"1970-01-01", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", false},
		{"1900-01-01", "0\n1\n2\n3\n4\n5\n6\n7\n8\n", false},
		{"2100-01-01", "", true},
		{"-1h", "", true}, // the records are older
	} {
		t.Run(test.from, func(t *testing.T) {
			_, env := broker(t, kfake.SeedTopics(3, "router"))
			cl := client(t, env)
			nine(t, cl)
			r := start(t, env, "tail", "--from", test.from)
			r.says("follows router, 3 partitions\n")
			eventually(t, "it shows what is there", func() bool {
				out := r.out.String()
				return out == test.then || !test.inOrder && sorted(out) == test.then
			})
			before := r.out.String()
			produce(t, cl, record(1, 9, "9"))
			r.shows(before + "9\n")
			r.stop()
			if status := r.ends(); status != 0 {
				t.Errorf("status %d", status)
			}
		})
	}
	r := start(t, env.With("KAFKA_TOPIC", "empty"), "tail", "--from", "-5", "-n", "1")
	r.says("follows")
	produce(t, cl, &kgo.Record{Topic: "empty", Partition: 2, Value: []byte("first")})
	if status := r.ends(); status != 0 || r.out.String() != "first\n" {
		t.Errorf("of an empty topic: status %d, %q", status, r.out.String())
	}
}

func TestTailEndsAfterCount(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(3, "router"))
	cl := client(t, env)
	nine(t, cl)
	for args, want := range map[string]string{
		"--from -9 -n 9": "0\n1\n2\n3\n4\n5\n6\n7\n8\n",
		"--from -9 -n 2": "0\n1\n",
		"--from -2 -n 1": "7\n",
	} {
		began := time.Now()
		status, out, _ := try(t, env, strings.Fields("tail "+args)...)
		if status != 0 || out != want || time.Since(began) > 3*time.Second {
			t.Errorf("%s: status %d, %q after %s", args, status, out, time.Since(began))
		}
	}
	if status, out, _ := try(t, env, "tail", "--from", "beginning", "-n", "4"); status != 0 || strings.Count(out, "\n") != 4 {
		t.Errorf("from the beginning: status %d, %q", status, out)
	}
	r := start(t, env, "tail", "--from", "-2", "-n", "3")
	r.shows("7\n8\n")
	r.says("follows")
	produce(t, cl, record(0, 9, "9"), record(1, 9, "10"), record(2, 9, "11"))
	if status := r.ends(); status != 0 || strings.Count(r.out.String(), "\n") != 3 {
		t.Errorf("status %d, %q", status, r.out.String())
	}
}

func TestTailShowsValuesAsTheyAreStored(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(1, "router"))
	cl := client(t, env, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	values := []string{"", "\x00\xff\x1b[31m", "two\nlines", " {\"a\": 1 } ", strings.Repeat("long", 100_000)}
	for i, v := range values {
		produce(t, cl, record(0, i, v))
	}
	produce(t, cl, &kgo.Record{Topic: "router"}) // without a value
	want := strings.Join(values, "\n") + "\n\n"
	for _, from := range []string{"beginning", "-6"} {
		if status, out, said := try(t, env, "tail", "--from", from, "-n", "6"); status != 0 || out != want {
			t.Errorf("from %s: status %d, %.200q, %s", from, status, out, said)
		}
	}
}

// The newest of all partitions are not the newest of each, and partitions keep their
// order where the clocks of those who wrote went backwards.
func TestTailFindsTheNewestOfAllPartitions(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(3, "router"))
	produce(t, client(t, env),
		record(0, 1, "a1"), record(0, 2, "a2"), record(0, 3, "a3"),
		record(1, 50, "b50"), record(1, 51, "b51"), record(1, 49, "b49"), record(1, 52, "b52"),
		record(2, 10, "c10"), record(2, 51, "c51"), record(2, 52, "c52"))
	for n, want := range map[int]string{1: "c52", 2: "b52 c52", 3: "c51 b52 c52", 4: "b49 c51 b52 c52", 5: "b51 b49 c51 b52 c52", 7: "c10 b50 b51 b49 c51 b52 c52", 8: "a3 c10 b50 b51 b49 c51 b52 c52"} {
		_, out, _ := try(t, env, "tail", "--from", fmt.Sprint("-", n), "-n", strconv.Itoa(n))
		if got := strings.Join(strings.Fields(out), " "); got != want {
			t.Errorf("the newest %d: %s, want %s", n, got, want)
		}
	}
}

// Offsets that hold no record are passed over, and never waited for.
func TestOffsetsWithoutRecords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fill   func(*testing.T, *kfake.Cluster, vars)
		newest string // of three, as far as they are there
	}{
		"transactions": {func(t *testing.T, _ *kfake.Cluster, env vars) {
			cl := client(t, env, kgo.TransactionalID("t"))
			for i := range 6 { // each record has a mark behind it
				must(t, cl.BeginTransaction())
				produce(t, cl, record(0, i, strconv.Itoa(i)))
				must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
			}
		}, "3\n4\n5\n"},
		"only marks at the end": {func(t *testing.T, _ *kfake.Cluster, env vars) {
			produce(t, client(t, env), record(0, 0, "old"))
			cl := client(t, env, kgo.TransactionalID("t"))
			must(t, cl.BeginTransaction())
			produce(t, cl, record(0, 1, "new"))
			must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
		}, "old\nnew\n"},
		"compacted": {func(t *testing.T, c *kfake.Cluster, env vars) {
			cl := client(t, env)
			for i := range 20 {
				r := record(0, i, strconv.Itoa(i))
				r.Key = fmt.Append(nil, min(i, 2)) // of the third key there are many
				produce(t, cl, r)
			}
			c.Compact()
		}, "1\n18\n19\n"}, // the last of a log is never looked at
		"deleted at the front": {func(t *testing.T, c *kfake.Cluster, env vars) {
			cl := client(t, env)
			nineInOne(t, cl)
			must(t, c.DeleteRecords("router", 0, 7))
		}, "7\n8\n"},
		"all deleted": {func(t *testing.T, c *kfake.Cluster, env vars) {
			cl := client(t, env)
			nineInOne(t, cl)
			must(t, c.DeleteRecords("router", 0, 9))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, env := broker(t)
			must(t, c.CreateTopic("router", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}))
			test.fill(t, c, env)
			for _, from := range []string{"-3", "-1000"} {
				r := start(t, env, "tail", "--from", from)
				r.says("follows")
				if out := r.out.String(); out != test.newest && (from == "-3" || test.newest == "" || !strings.HasSuffix(out, test.newest)) {
					t.Errorf("from %s: %q", from, out)
				}
				r.stop()
				r.ends()
			}
			began := time.Now()
			if status, out, said := try(t, env, "info", "--json"); status != 0 || said != "" || time.Since(began) > 5*time.Second {
				t.Errorf("info: status %d after %s, %s %s", status, time.Since(began), out, said)
			}
		})
	}
}

func nineInOne(t *testing.T, cl *kgo.Client) {
	t.Helper()
	for i := range 9 {
		produce(t, cl, record(0, i, strconv.Itoa(i)))
	}
}

// Where the last records of a partition are compacted away, Kafka answers with nothing
// although the partition ends further on.
func TestNothingUpToTheEnd(t *testing.T) {
	c, env := broker(t, kfake.SeedTopics(1, "router"))
	nineInOne(t, client(t, env))
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := r.(*kmsg.FetchRequest)
		if len(asked.Topics) != 1 || asked.Topics[0].Partitions[0].FetchOffset != 8 {
			return nil, nil, false
		}
		answer := asked.ResponseKind().(*kmsg.FetchResponse)
		of := kmsg.NewFetchResponseTopic()
		of.Topic, of.TopicID = "router", asked.Topics[0].TopicID
		nothing := kmsg.NewFetchResponseTopicPartition()
		nothing.HighWatermark = 9
		of.Partitions = append(of.Partitions, nothing)
		answer.Topics = append(answer.Topics, of)
		return answer, nil, true
	})
	if status, out, said := try(t, env, "tail", "--from", "-1", "-n", "1"); status != 0 || out != "7\n" {
		t.Errorf("status %d, %q, %s", status, out, said)
	}
}

// A partition whose front is deleted just before it is read gives what is left.
func TestRecordsThatGoBeforeTheyAreRead(t *testing.T) {
	c, env := broker(t, kfake.SeedTopics(1, "router"))
	nineInOne(t, client(t, env))
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { _ = c.DeleteRecords("router", 0, 6) }) // the output tells whether it did
		return nil, nil, false
	})
	if status, out, said := try(t, env, "tail", "--from", "-9", "-n", "3"); status != 0 || out != "6\n7\n8\n" {
		t.Errorf("status %d, %q, %s", status, out, said)
	}
}

// A leader that moves while the newest are read, and while the topic is followed, costs
// nothing but time.
func TestALeaderMoves(t *testing.T) {
	c, env := broker(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "router"))
	cl := client(t, env)
	nine(t, cl)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 2})
	r := start(t, env, "tail", "--from", "-9")
	r.says("follows")
	want := "0\n1\n2\n3\n4\n5\n6\n7\n8\n"
	r.shows(want)
	for p := range int32(3) {
		must(t, c.MoveTopicPartition("router", p, (c.LeaderFor("router", p)+1)%3))
		line := fmt.Sprint("moved ", p)
		produce(t, cl, record(p, 10+int(p), line))
		want += line + "\n"
		r.shows(want)
	}
	r.stop()
	if status := r.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// A broker that goes away and comes back is told of, once each, and nothing is missed.
func TestABrokerThatGoesAndComesBack(t *testing.T) {
	t.Parallel()
	place, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := place.Addr().(*net.TCPAddr).Port
	place.Close()
	options := []kfake.Opt{kfake.Ports(port), kfake.DataDir(t.TempDir()), kfake.SeedTopics(1, "router")}
	c, env := broker(t, options...)
	cl := client(t, env)
	produce(t, cl, record(0, 0, "before"))
	r := start(t, env, "tail", "--from", "-1")
	r.says("follows")
	c.Close()
	r.says("goes on when Kafka answers again")
	_, _ = broker(t, options...)
	produce(t, cl, record(0, 1, "after"))
	r.shows("before\nafter\n")
	r.says("topic: Kafka answers again\n")
	r.stop()
	if status, said := r.ends(), r.said.String(); status != 0 || strings.Count(said, "\n") != 3 {
		t.Errorf("status %d, %q", status, said)
	}
}

// However often it is looked in vain, it is said once.
func TestALongOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	c, env := broker(t, kfake.SeedTopics(1, "router"))
	r := start(t, env, "tail")
	r.says("follows")
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "router", Err: kerr.UnknownServerError, Count: -1})
	r.says("goes on when Kafka answers again")
	looked, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Wait(looked, h.Hits()+3); err != nil {
		t.Fatalf("it is not looked at again: %v; it says %q", err, r.said.String())
	}
	h.Remove()
	r.says("topic: Kafka answers again\n")
	if said := r.said.String(); strings.Count(said, "\n") != 3 {
		t.Errorf("%q", said)
	}
}

func TestWhatEndsATail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(*testing.T, *kfake.Cluster)
		says string
	}{
		"the topic goes": {func(t *testing.T, c *kfake.Cluster) { must(t, c.DeleteTopic("router")) }, "UNKNOWN_TOPIC"},
		"another topic of the name": {func(t *testing.T, c *kfake.Cluster) {
			must(t, c.DeleteTopic("router"))
			must(t, c.CreateTopic("router", 1, nil))
		}, "router"},
		"no more right to read": {func(_ *testing.T, c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		}, "this user may not"},
		"no more right to look": {func(_ *testing.T, c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "router", Err: kerr.TopicAuthorizationFailed, Count: -1})
		}, "this user may not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, env := broker(t, kfake.SeedTopics(1, "router"))
			cl := client(t, env)
			r := start(t, env, "tail")
			r.says("follows")
			produce(t, cl, record(0, 0, "x"))
			r.shows("x\n")
			test.harm(t, c)
			if status, said := r.ends(), r.said.String(); status != 1 || strings.Count(said, "\n") != 2 || !strings.Contains(said, test.says) {
				t.Errorf("status %d, %q", status, said)
			}
		})
	}
}

func TestATopicThatGrowsIsFollowed(t *testing.T) {
	t.Parallel()
	_, env := broker(t, kfake.SeedTopics(1, "router"))
	cl := client(t, env, kgo.MetadataMinAge(10*time.Millisecond))
	r := start(t, env, "tail")
	r.says("follows router, 1 partition\n")
	_, err := kadm.NewClient(cl).UpdatePartitions(t.Context(), 3, "router")
	must(t, err)
	eventually(t, "the new partition takes records", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return cl.ProduceSync(ctx, record(2, 0, "new")).FirstErr() == nil
	})
	r.says("follows 2 partitions of router more\n")
	r.shows("new\n")
}

// A partition without a leader holds up nothing, and is read when it has one.
func TestAPartitionWithoutALeader(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"beginning", "-9", "2026-01-01"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			c, env := broker(t, kfake.SeedTopics(3, "router"))
			nine(t, client(t, env))
			elect := deposed(c, 1)
			r := start(t, env, "tail", "--from", from)
			r.says("partitions [1] of router have no leader")
			eventually(t, "it shows the others'", func() bool { return sorted(r.out.String()) == "0\n2\n3\n5\n6\n8\n" })
			elect()
			if from != "-9" { // that goes on at the end
				eventually(t, "it shows all", func() bool { return sorted(r.out.String()) == "0\n1\n2\n3\n4\n5\n6\n7\n8\n" })
			}
		})
	}
}

// deposed takes the leader away from a partition of the router topic, until elect is
// called: clients are told of none, and who asks a broker all the same is sent away.
func deposed(c *kfake.Cluster, partition int32) (elect func()) {
	var elected atomic.Bool
	id := c.TopicInfo("router").TopicID
	partitions := int32(len(c.PartitionInfos("router")))
	host, port, _ := net.SplitHostPort(c.ListenAddrs()[0])
	c.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if elected.Load() {
			return nil, nil, false
		}
		answer := r.ResponseKind().(*kmsg.MetadataResponse)
		alone := kmsg.NewMetadataResponseBroker()
		number, _ := strconv.Atoi(port)
		alone.Host, alone.Port = host, int32(number)
		answer.Brokers, answer.ControllerID = append(answer.Brokers, alone), 0
		of := kmsg.NewMetadataResponseTopic()
		of.Topic, of.TopicID = kmsg.StringPtr("router"), id
		for i := range partitions {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Replicas, p.ISR = i, []int32{0}, []int32{0}
			if i == partition {
				p.Leader, p.ISR, p.ErrorCode = -1, nil, kerr.LeaderNotAvailable.Code
			}
			of.Partitions = append(of.Partitions, p)
		}
		answer.Topics = append(answer.Topics, of)
		return answer, nil, true
	})
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Partitions: []int32{partition}, Err: kerr.NotLeaderForPartition, Count: -1})
	return func() { elected.Store(true); h.Remove() }
}

func TestPretty(t *testing.T) {
	const shown = "2026-01-02T12:00:00.000Z" // where a record tells no time, Kafka does
	// Between the marks stands what has a colour: ‹› faint, «» green, ‘’ yellow, “” red.
	plain := strings.NewReplacer("‹", "", "›", "", "«", "", "»", "", "‘", "", "’", "", "“", "", "”", "")
	coloured := strings.NewReplacer("‹", faint, "›", reset, "«", green, "»", reset, "‘", yellow, "’", reset, "“", red, "”", reset)
	for _, test := range []struct{ value, want string }{
		{`{"id":"x","time":"2022-06-13T14:52:23.622778Z","app":"shop","at":"info","method":"GET","path":"/a?b=c","host":"h.example","dyno":"web.1","connect_ms":0,"service_ms":12,"status":200,"bytes":7}`,
			"‹2022-06-13T14:52:23.622Z› «200»         12ms GET     h.example/a?b=c ‹shop web.1›"},
		{`{"time":"2022-06-13T14:52:23.622778Z","at":"error","code":"H12","desc":"Request timeout","method":"POST","path":"/","host":"h","dyno":"web.1","service_ms":30000,"status":503}`,
			"‹2022-06-13T14:52:23.622Z› “503” H12  30000ms POST    h/ “Request timeout” ‹web.1›"},
		{`{"method":"GET","path":"/","status":404}`, "‹" + shown + "› ‘404’            - GET     /"},
		{`{"code":"H24","method":"GET","path":"/"}`, "‹" + shown + "› “  -” H24        - GET     /"},
		{`{"time":"2022-06-13T14:52:23Z","app":"shop","severity":6,"source":"app","process":"web.1","message":"hello"}`, "‹2022-06-13T14:52:23.000Z› ‹shop app[web.1]› hello"},
		{`{"id":"x","app":"shop","raw":"at=info \u001b[2J"}`, "‹" + shown + "› at=info \uFFFD[2J"},
		{`{"other":1}`, "‹" + shown + `› {"other":1}`},
		{`{"status":"x","method":"GET"}`, "‹" + shown + `› {"status":"x","method":"GET"}`},
		{"null", "‹" + shown + "› null"},
		{"no JSON\x1b]0;title\x07\r\n\x00\xff", "‹" + shown + "› no JSON\uFFFD]0;title\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},
		{"", "‹" + shown + "› "},
	} {
		for terminal, marks := range map[bool]*strings.Replacer{false: plain, true: coloured} {
			var out strings.Builder
			w := bufio.NewWriter(&out)
			columns(terminal)(w, record(0, 0, test.value))
			must(t, w.Flush())
			if want := marks.Replace(test.want) + "\n"; out.String() != want {
				t.Errorf("%s\n%q, want\n%q", test.value, out.String(), want)
			}
		}
	}
}

// What clients can put into any field: whatever moves a cursor, hides, or turns the
// direction of the text.
func TestPrettyShowsNothingHostile(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(1, "router"))
	cl := client(t, env)
	hostile := "\x00\x07\b\t\n\r\x1b[2J\x7f\u0080\u009b31m\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\U000e0041"
	fields := []string{"id", "app", "at", "code", "desc", "method", "path", "host", "dyno", "source", "process", "message", "raw"}
	text, err := json.Marshal(hostile)
	must(t, err)
	var records []*kgo.Record
	for _, field := range fields {
		for _, also := range []string{"", `,"status":200`, `,"message":"m"`} {
			records = append(records, record(0, len(records), fmt.Sprintf(`{"%s":%s%s}`, field, text, also)))
		}
	}
	records = append(records, record(0, len(records), hostile))
	produce(t, cl, records...)
	status, out, said := try(t, env, "tail", "--pretty", "--from", "beginning", "-n", strconv.Itoa(len(records)))
	if status != 0 || strings.Count(out, "\n") != len(records) {
		t.Errorf("status %d, %d lines of %d, %s", status, strings.Count(out, "\n"), len(records), said)
	}
	for _, r := range strings.ReplaceAll(hostile, "[2J", "") {
		if r != '\n' && !strings.ContainsRune("31m", r) && strings.ContainsRune(out, r) {
			t.Errorf("%U is shown", r)
		}
	}
}
