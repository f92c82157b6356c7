package heroku_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const first, second = "0123456789ABCdef==", "quote\"back\\slash-and-more"
	secrets := "DRAIN_SECRETS=" + first + ", my-shop=" + second
	kafka := newKafka(t)
	good := start(t, "drain", freePort(t), "KAFKA_URL="+kafka, secrets)
	open := start(t, "drain", freePort(t), "KAFKA_URL="+kafka, "ALLOW_ANONYMOUS=true")
	unready := start(t, "drain", freePort(t), "KAFKA_URL="+kafka, "KAFKA_TOPIC=nowhere", "HOLD=100ms", secrets)
	eventually(t, "they are there", func() bool {
		a, _ := good.get("/readyz")
		b, _ := open.get("/readyz")
		_, c := unready.get("/readyz")
		return a == 200 && b == 200 && strings.Contains(c, "make the topic nowhere")
	})
	args := newArguments(t)
	url := func(d *dyno) string { return "http://127.0.0.1:" + d.port }
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		status int
		says   []string
	}{
		{"first secret", []string{secrets}, []string{url(good)}, 0,
			[]string{"ok alive: 200 in 0.", "ok ready: 200 in 0.", "ok refuses strangers: 401 in 0.", "ok takes a line: 200 in 0.", "the record is in the topic, with request_id "}},
		{"an app's", []string{secrets}, []string{url(good) + "/", "my-shop"}, 0, []string{"ok takes a line: 200"}},
		{"the drain's URL", []string{secrets}, []string{url(good) + "/logs"}, 0, []string{"ok takes a line: 200"}},
		{"wrong secret", []string{"DRAIN_SECRETS=another-secret-of-sixteen"}, []string{url(good)}, 1,
			[]string{"ok ready: 200", "FAILED takes a line: 401 in 0.", "missing or wrong credentials", "401: the secret is not the drain's."}},
		{"no secret", nil, []string{url(good)}, 1, []string{"FAILED takes a line: 401"}},
		{"none needed", nil, []string{url(open)}, 0, []string{"ok takes a line: 200"}},
		{"open to all", []string{secrets}, []string{url(open)}, 1, []string{"FAILED refuses strangers: 400", "everybody can post logs: set DRAIN_SECRETS", "ok takes a line"}},
		{"no topic", []string{secrets}, []string{url(unready)}, 1,
			[]string{"ok alive: 200", "FAILED ready: 503", "make the topic nowhere", "what it says is missing", "FAILED takes a line: 503 in "}},
		{"nobody there", []string{secrets}, []string{"http://127.0.0.1:1"}, 1, []string{"FAILED alive: curl: (7) ", "is it running"}},
		{"no URL", nil, nil, 2, []string{"check: which URL? (see --help)"}},
		{"a name", nil, []string{"my-drain"}, 2, []string{"'my-drain' is no URL"}},
		{"a secret in it", nil, []string{"https://drain:x@h"}, 2, []string{"the URL holds a secret"}},
		{"another app", []string{secrets}, []string{url(good), "my-cafe"}, 2, []string{"DRAIN_SECRETS holds no secret of my-cafe"}},
		{"too much", nil, []string{url(good), "a", "b"}, 2, []string{"one URL, and one app"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out := args.script(t, "check", tt.env, tt.args...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			says(t, out, tt.says...)
			if id := regexp.MustCompile(`request_id ([0-9a-f]{32})`).FindStringSubmatch(out); (id != nil) != (status == 0) {
				t.Errorf("names a record at exit status %d: %s", status, out)
			} else if id != nil && !strings.Contains(strings.Join(stored(t, kafka, "router"), ""), `"request_id":"`+id[1]+`"`) {
				t.Errorf("%s is not in the topic", id[1])
			}
		})
	}
	for _, secret := range []string{first, second, "another-secret"} {
		if noted := args.String(); strings.Contains(noted, secret) || !strings.Contains(noted, "curl -q ") {
			t.Errorf("a secret was the argument of a program: %s", noted)
		}
	}
}

// The scripts' help names everything that they take.
func TestHelp(t *testing.T) {
	args := newArguments(t)
	for script, want := range map[string][]string{
		"attach": {"--drain", "--host", "--rotate", "HEROKU_API_KEY", "HEROKU_API_URL"}, "check": {"URL", "APP", "DRAIN_SECRETS", "--metrics", "DASH_PASSWORD"},
	} {
		for _, flag := range []string{"--help", "-h"} {
			status, out := args.script(t, script, nil, flag)
			if status != 0 {
				t.Errorf("%s %s: exit status %d", script, flag, status)
			}
			says(t, out, want...)
		}
	}
}

// What the guide says that drain says, it does say: each text of the table, but for its
// dots, stands in the source. So does what attach and check print.
func TestTheGuideQuotesTheProgram(t *testing.T) {
	guide, err := os.ReadFile("README.md")
	must(t, err)
	var source strings.Builder
	must(t, filepath.WalkDir(slug.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	}))
	for _, script := range []string{"attach", "check"} {
		text, err := os.ReadFile(script)
		must(t, err)
		source.Write(text)
	}
	_, table, _ := strings.Cut(string(guide), "## What it says\n")
	table, _, _ = strings.Cut(table, "\n## ")
	checked := 0
	for row := range strings.Lines(table) {
		text := regexp.MustCompile("^\\| (?:attach: )?`([^`]+)`").FindStringSubmatch(row)
		if text == nil || strings.HasPrefix(text[1], "status=") {
			continue
		}
		for part := range strings.SplitSeq(text[1], "…") {
			if part = strings.TrimSpace(part); !strings.Contains(source.String(), part) {
				t.Errorf("nothing says %q", part)
			}
			checked++
		}
	}
	if checked < 10 {
		t.Errorf("%d texts were found in the table", checked)
	}
	for _, printed := range []string{"added a secret for", "attached: Heroku sends the logs of", "waiting until the drain before has sent what it holds: three tries of 5 s",
		"removed a drain that", "removed the old secret of", "refuses strangers", "the record is in the topic, with request_id", "records are counted, "} {
		if !strings.Contains(source.String(), printed) || !strings.Contains(string(guide), printed) {
			t.Errorf("%q is not in both the guide and the scripts", printed)
		}
	}
}

// newKafka starts a Kafka with the topic router.
func newKafka(t *testing.T) (url string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "router"))
	must(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// stored reads what a topic holds with a client that is not ours.
func stored(t *testing.T, kafka, topic string, options ...kgo.Opt) (values []string) {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(kafka), kgo.ConsumeTopics(topic))...)
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	must(t, err)
	want := int64(0)
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	for int64(len(values)) < want {
		fetches := c.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}
