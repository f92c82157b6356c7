package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"drain/settings"
	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/variables"
)

var must, eventually = check.Must, check.Eventually

// Most of these tests wait for brokers that say nothing: the processors are enough for many
// of them at once.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

type vars = variables.Vars

// broker starts one, or more; env reaches them.
func broker(t *testing.T, options ...kfake.Opt) (c *kfake.Cluster, env vars) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	must(t, err)
	t.Cleanup(c.Close)
	return c, vars{"KAFKA_URL": strings.Join(c.ListenAddrs(), ",")}
}

// client reaches the brokers without any of what is tested.
func client(t *testing.T, env vars, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(env["KAFKA_URL"], ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
	must(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// noon is when the tests' records begin.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// record is one of a partition, so many seconds after noon.
func record(partition int32, second int, value string) *kgo.Record {
	return &kgo.Record{Topic: "router", Partition: partition, Timestamp: noon.Add(time.Duration(second) * time.Second), Value: []byte(value)}
}

func produce(t *testing.T, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	must(t, cl.ProduceSync(t.Context(), records...).FirstErr())
}

// try runs the command until it ends, for 30 s at most.
func try(t *testing.T, env vars, args ...string) (status int, out, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var stdout strings.Builder
	var stderr journal.Journal
	err := run(ctx, args, environ{env.Lookup, &stdout, &stderr, false})
	if ctx.Err() != nil {
		t.Fatalf("topic %s does not end: %s%s", strings.Join(args, " "), stdout.String(), stderr.String())
	}
	status = settings.ExitStatus("topic", err, &stderr)
	return status, stdout.String(), stderr.String()
}

// running is the command, while it runs.
type running struct {
	t         *testing.T
	out, said journal.Journal
	stop      context.CancelFunc
	status    chan int
}

func start(t *testing.T, env vars, args ...string) *running {
	t.Helper()
	r := &running{t: t, status: make(chan int, 1)}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.status <- settings.ExitStatus("topic", run(ctx, args, environ{env.Lookup, &r.out, &r.said, false}), &r.said)
	}()
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("topic wrote %q and said:\n%s", r.out.String(), r.said.String())
		}
	})
	return r
}

// says waits for words on standard error.
func (r *running) says(words string) {
	r.t.Helper()
	eventually(r.t, "it says "+words, func() bool { return r.said.Says(words) })
}

// shows waits until exactly this was shown.
func (r *running) shows(out string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("it shows %q", out), func() bool { return r.out.String() == out })
}

// ends waits for the end, and returns its status.
func (r *running) ends() int {
	r.t.Helper()
	select {
	case status := <-r.status:
		return status
	case <-time.After(20 * time.Second):
		r.t.Fatal("does not end")
		return -1
	}
}

func TestSettingsThatCannotBeUsed(t *testing.T) {
	for _, test := range []struct {
		args []string
		env  vars
		says []string
	}{
		{nil, nil, []string{"create", "info", "tail"}},
		{[]string{"tial"}, nil, []string{"create, info, tail"}},
		{[]string{"tail", "a", "b"}, nil, []string{"one too many"}},
		{[]string{"tail", "--nope"}, nil, []string{"--nope"}},
		{[]string{"info", "--from", "end"}, nil, []string{"--from"}},
		{[]string{"tail", "--from"}, nil, []string{"--from", "value"}},
		{[]string{"tail", "--from", "-x"}, nil, []string{"FROM", `"-x"`, "beginning, end, -100"}},
		{[]string{"tail", "--from=-0"}, nil, []string{"FROM"}},
		{[]string{"tail", "--from=-1000001"}, nil, []string{"FROM", "at most 1000000"}},
		{[]string{"tail", "--from", "yesterday"}, nil, []string{"FROM", "2026-01-02T15:04:05Z"}},
		{[]string{"tail"}, vars{"FROM": "10"}, []string{"FROM"}},
		{[]string{"tail", "-n", "0"}, nil, []string{"COUNT (-n)", "from 1"}},
		{[]string{"tail", "-n", "-3"}, nil, []string{"--count", "value"}},
		{[]string{"tail"}, vars{"COUNT": "x"}, []string{"COUNT (-n)"}},
		{[]string{"tail"}, vars{"PRETTY": "perhaps"}, []string{"--pretty"}},
		{[]string{"create", "--partitions", "0"}, nil, []string{"PARTITIONS", "from 1"}},
		{[]string{"create", "--replicas", "many"}, nil, []string{"REPLICAS"}},
		{[]string{"info", "a topic"}, nil, []string{"KAFKA_TOPIC", "letters"}},
		{[]string{"info", "--kafka-url", "http://h"}, nil, []string{"KAFKA_URL", "kafka://"}},
		{[]string{"--kafka-sasl-password=swordfish", "info"}, nil, []string{"KAFKA_SASL_PASSWORD", "environment"}},
		{[]string{"info"}, vars{"KAFKA_SASL_PASSWORD": "swordfish"}, []string{"KAFKA_SASL_MECHANISM"}},
		{[]string{"info"}, vars{"KAFKA_ADDON": "HEROKU_KAFKA_COPPER"}, []string{"HEROKU_KAFKA_COPPER_URL"}},
	} {
		status, out, said := try(t, test.env, test.args...)
		if status != 2 || out != "" || strings.Count(said, "\n") != 1 || strings.Contains(said, "swordfish") {
			t.Errorf("%v %v: status %d, %q, %q", test.args, test.env, status, out, said)
		}
		for _, want := range test.says {
			if !strings.Contains(said, want) {
				t.Errorf("%v %v: %q does not say %q", test.args, test.env, said, want)
			}
		}
	}
}

func TestHelpTellsAllSettings(t *testing.T) {
	for command, settings := range map[string][]string{
		"":       {"--partitions 8", "--replicas 1", "--json", "--from end", "-n COUNT", "--pretty"},
		"create": {"--partitions", "(default 8)", "--replicas", "(default 1)"},
		"info":   {"--json"},
		"tail":   {"--from", "(default end)", "-n, --count", "--pretty"},
	} {
		status, out, said := try(t, nil, strings.Fields(command+" --help")...)
		if status != 0 || said != "" {
			t.Errorf("%s: status %d, %q", command, status, said)
		}
		for _, want := range append(settings, "--kafka-url", "--kafka-prefix", "--kafka-topic", "(default router)", "KAFKA_SASL_PASSWORD") {
			if !strings.Contains(out, want) {
				t.Errorf("topic %s --help does not tell of %s", command, want)
			}
		}
	}
}

func TestWhereSettingsAreTakenFrom(t *testing.T) {
	_, env := broker(t, kfake.SeedTopics(1, "router", "other", "p.router"))
	cl := client(t, env)
	for _, topic := range []string{"router", "other", "p.router"} {
		for i := range 3 {
			produce(t, cl, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s %d", topic, i)})
		}
	}
	url := env["KAFKA_URL"]
	for _, test := range []struct {
		env  vars
		args string
		want string
	}{
		{env, "tail --from beginning -n 1", "router 0\n"},
		{nil, "--kafka-url " + url + " tail --from=beginning -n1", "router 0\n"},
		{vars{"KAFKA_URL": "127.0.0.1:1"}, "tail --kafka-url=" + url + " other -n 2 --from -2", "other 1\nother 2\n"},
		{env, "tail other --from=-1 --count=1", "other 2\n"},
		{env.With("KAFKA_TOPIC", "other"), "tail -n 1 --from -2", "other 1\n"},
		{env.With("KAFKA_TOPIC", "other"), "tail -n 1 --from -2 router", "router 1\n"},
		{env.With("KAFKA_TOPIC", "other"), "--kafka-topic router tail -n 1 --from -2", "router 1\n"},
		{env.With("FROM", "-1").With("COUNT", "1"), "tail", "router 2\n"},
		{env.With("FROM", "-1").With("COUNT", "5"), "tail --from -2 -n 1", "router 1\n"},
		{env.With("FROM", "-1").With("COUNT", "1"), "tail -- router", "router 2\n"},
		{env.With("KAFKA_PREFIX", "p."), "tail --from -1 -n 1", "p.router 2\n"},
		{env.With("KAFKA_PREFIX", "p."), "tail router --from -1 -n 1", "p.router 2\n"},
		{env.With("KAFKA_PREFIX", "p."), "tail p.router --from -1 -n 1", "p.router 2\n"},
		{env.With("KAFKA_PREFIX", "p.").With("KAFKA_TOPIC", "p.router"), "tail --from -1 -n 1", "p.router 2\n"},
		{env.With("KAFKA_PREFIX", "router"), "--kafka-prefix p. tail --from -1 -n 1", "p.router 2\n"},
		{vars{"KAFKA_ADDON": "COPPER", "COPPER_URL": url, "COPPER_PREFIX": "p."}, "tail --from -1 -n 1", "p.router 2\n"},
	} {
		if status, out, said := try(t, test.env, strings.Fields(test.args)...); status != 0 || out != test.want {
			t.Errorf("%v %s: status %d, %q, %s", test.env, test.args, status, out, said)
		}
	}
}

func TestWhatDoesNotWorkIsSaidInALine(t *testing.T) {
	t.Parallel()
	_, env := broker(t, kfake.SeedTopics(1, "router"))
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone.Close()
	guarded, locked := broker(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "swordfish"), kfake.User("SCRAM-SHA-256", "poor", "swordfish"))
	must(t, guarded.CreateTopic("router", 1, nil))
	login := func(mechanism, user, password string) vars {
		return locked.With("KAFKA_SASL_MECHANISM", mechanism).With("KAFKA_SASL_USERNAME", user).With("KAFKA_SASL_PASSWORD", password)
	}
	for _, test := range []struct {
		env      vars
		commands string
		says     []string
	}{
		{vars{"KAFKA_URL": gone.Addr().String()}, "create info tail", []string{"refused", "is Kafka there"}},
		{vars{"KAFKA_URL": "kafka+ssl://" + env["KAFKA_URL"]}, "tail", []string{"TLS with the broker", "kafka://"}},
		{env.With("KAFKA_TOPIC", "nope"), "info tail", []string{"topic nope", "UNKNOWN_TOPIC", "topic create nope", "KAFKA_PREFIX"}},
		{locked, "create info tail", []string{"KAFKA_SASL_MECHANISM"}},
		{login("PLAIN", "admin", "sturgeon"), "create info tail", []string{"log in", `"admin"`, "KAFKA_SASL_PASSWORD"}},
		{login("SCRAM-SHA-256", "poor", "sturgeon"), "info", []string{"log in", "KAFKA_SASL_PASSWORD"}},
		{login("SCRAM-SHA-512", "poor", "swordfish"), "create info tail", []string{"log in", "KAFKA_SASL_MECHANISM"}},
		{login("SCRAM-SHA-256", "poor", "swordfish"), "create info tail", []string{"AUTHORIZATION_FAILED", "heroku kafka:topics:create router"}},
	} {
		for command := range strings.FieldsSeq(test.commands) {
			t.Run(command+" "+test.says[0], func(t *testing.T) {
				t.Parallel() // some wait for an answer as long as it may take
				began := time.Now()
				status, out, said := try(t, test.env, command)
				if status != 1 || out != "" || strings.Count(said, "\n") != 1 || strings.Contains(said, "swordfish") || strings.Contains(said, "sturgeon") || time.Since(began) > 15*time.Second {
					t.Errorf("status %d after %s, %q, %q", status, time.Since(began), out, said)
				}
				for _, want := range test.says {
					if !strings.Contains(said, want) {
						t.Errorf("%q does not say %q", said, want)
					}
				}
			})
		}
	}
}

// A port behind which nobody answers holds no command for longer than a question may take.
func TestASilentBroker(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	began := time.Now()
	status, _, said := try(t, vars{"KAFKA_URL": l.Addr().String()}, "tail")
	if took := time.Since(began); status != 1 || took > answerWithin+5*time.Second || strings.Count(said, "\n") != 1 || !strings.Contains(said, "KAFKA_URL") {
		t.Errorf("status %d after %s: %s", status, took, said)
	}
}

func TestAStopBeforeTheAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	for command, want := range map[string]int{"tail": 0, "info": 1, "create": 1} {
		r := start(t, vars{"KAFKA_URL": l.Addr().String()}, command)
		conn, err := l.Accept() // it asks
		must(t, err)
		stopped := time.Now()
		r.stop()
		if status := r.ends(); status != want || time.Since(stopped) > 2*time.Second || strings.Count(r.said.String(), "\n") != want {
			t.Errorf("%s: status %d, %q", command, status, r.said.String())
		}
		conn.Close()
	}
}

func TestCreate(t *testing.T) {
	c, env := broker(t, kfake.NumBrokers(3))
	partitions := func(topic string) int { return len(c.PartitionInfos(topic)) }
	for _, test := range []struct {
		args   string
		status int
		says   string
		has    int // partitions, afterwards
	}{
		{"create", 0, "made router: 8 partitions, 1 replica\n", 8},
		{"create", 0, "router is there already: 8 partitions, 1 replica\n", 8},
		{"create router --partitions=8 --replicas 1", 0, "router is there already", 8},
		{"create --partitions 9", 1, "topic: make topic router: it exists with 8 partitions, 1 replica, and not with 9 partitions", 8},
		{"create --replicas 3", 1, "topic: make topic router: it exists with 8 partitions, 1 replica, and not with 8 partitions, 3 replicas", 8},
		{"create three --partitions 1 --replicas 3", 0, "made three: 1 partition, 3 replicas\n", 1},
		{"create four --replicas 4", 1, "topic: make topic four: INVALID_REPLICATION_FACTOR", 0},
	} {
		status, out, said := try(t, env, strings.Fields(test.args)...)
		topic := "router"
		if words := strings.Fields(test.args); len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			topic = words[1]
		}
		if shown := out + said; status != test.status || !strings.HasPrefix(shown, test.says) || strings.Count(shown, "\n") != 1 || (out == "") != (status != 0) || partitions(topic) != test.has {
			t.Errorf("%s: status %d, %q %q, %d partitions", test.args, status, out, said, partitions(topic))
		}
	}
	for err, says := range map[*kerr.Error]string{kerr.PolicyViolation: "heroku kafka:topics:create x", kerr.TopicAuthorizationFailed: "heroku kafka:topics:create x", kerr.InvalidPartitions: "--partitions"} {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: err})
		if status, _, said := try(t, env, "create", "x"); status != 1 || !strings.Contains(said, err.Message) || !strings.Contains(said, says) || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: status %d, %q", err, status, said)
		}
	}
}

// A topic is made when the next command can use it.
func TestCreateWaitsForTheLeaders(t *testing.T) {
	t.Parallel()
	c, env := broker(t)
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "router", Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: 4})
	if status, out, said := try(t, env, "create", "--partitions", "2"); status != 0 || out != "made router: 2 partitions, 1 replica\n" || h.Hits() != 4 {
		t.Errorf("status %d after %d looks, %q %s", status, h.Hits(), out, said)
	}
}

func TestALoginWorks(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		_, env := broker(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "admin", "swordfish"))
		env = env.With("KAFKA_SASL_MECHANISM", mechanism).With("KAFKA_SASL_USERNAME", "admin").With("KAFKA_SASL_PASSWORD", "swordfish")
		for _, args := range [][]string{{"create"}, {"info"}} {
			if status, _, said := try(t, env, args...); status != 0 {
				t.Errorf("%s, %v: status %d, %s", mechanism, args, status, said)
			}
		}
		r := start(t, env, "tail", "-n", "1")
		r.says("follows")
		r.stop()
		if status := r.ends(); status != 0 {
			t.Errorf("%s: status %d", mechanism, status)
		}
	}
}

// A reader that has gone ends the command, and it says nothing.
func TestAClosedPipe(t *testing.T) {
	t.Parallel()
	_, env := broker(t, kfake.SeedTopics(1, "router"))
	produce(t, client(t, env), record(0, 0, "a"))
	for _, args := range [][]string{{"tail", "--from", "beginning"}, {"tail"}, {"info"}, {"create", "--partitions", "1"}} {
		r, w, err := os.Pipe()
		must(t, err)
		r.Close()
		var said journal.Journal
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err = run(ctx, args, environ{env.Lookup, w, &said, false})
		if err != nil || ctx.Err() != nil || strings.Contains(said.String(), "pipe") {
			t.Errorf("%v: %v, %s", args, err, said.String())
		}
		cancel()
		w.Close()
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	for _, args := range [][]string{{"tail", "--from", "beginning"}, {"info"}} {
		if err := run(t.Context(), args, environ{env.Lookup, full, new(journal.Journal), false}); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("%v on a full disk: %v", args, err)
		}
	}
}
