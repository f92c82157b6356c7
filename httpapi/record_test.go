package httpapi

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/intake"
	"drain/router"
)

// values are the records of a topic in order, with the frame's part of their ids
// as FRAME.
func (d *door) values(topic string) (all []string) {
	d.t.Helper()
	for _, r := range d.records(topic) {
		all = append(all, regexp.MustCompile(`"id":"[0-9a-f]{32}-`).ReplaceAllString(r.value, `"id":"FRAME-`))
	}
	return all
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestRecordsAreAsTheContractSays(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs, s.partitions = true, 1 })
	body := frame(notice,
		appLine,
		line("/a?token=s3cret&b=c"),
		"<45>1 2022-06-13T14:52:23+02:00 host heroku web.1 - State changed from starting to up\n",
		"<13>1 - host app worker.1 - [info] \x00 \xff \"quoted\"\n",
		"<190>1 2022-06-13T14:52:23.1Z host app web.1 - ",
		"<190>nonsense with token=s3cret\n",
		"<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - no pair in it\n",
	)
	a := d.do("POST", "/logs/shop%20%26%20till", strings.NewReader(body), "Logplex-Drain-Token: d.1\xff")
	if a.status != 200 {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	const source = `"drain":"d.1` + "\uFFFD" + `","app":"shop & till"`
	same(t, "the router's records", d.values(routerTopic),
		`{"id":"FRAME-5","time":"2022-06-13T14:52:23.622778Z",`+source+`,"at":"info","method":"GET","path":"/a?token=[REDACTED]&b=c","host":"a.example.com","request_id":"8601b555","fwd":"203.0.113.7","dyno":"web.1","connect_ms":0,"service_ms":3,"status":200,"bytes":1024,"protocol":"http1.1","tls_version":"tls1.3","tls":true}`,
		`{"id":"FRAME-0","time":"2022-06-13T14:52:23.622778Z",`+source+`,"raw":"no pair in it"}`,
	)
	same(t, "the other records", d.values(logsTopic),
		`{"id":"FRAME-7","time":"2019-09-13T20:01:06.000000Z",`+source+`,"severity":4,"facility":21,"source":"heroku","process":"logplex","message":"Error L10 (output buffer overflow): 7 messages dropped since 2019-09-13T20:01:04+00:00."}`,
		`{"id":"FRAME-6","time":"2022-06-13T14:52:23.621815Z",`+source+`,"severity":6,"facility":23,"source":"app","process":"web.1","message":"[GIN] 200"}`,
		`{"id":"FRAME-4","time":"2022-06-13T12:52:23.000000Z",`+source+`,"severity":5,"facility":5,"source":"heroku","process":"web.1","message":"State changed from starting to up"}`,
		`{"id":"FRAME-3",`+source+`,"severity":5,"facility":1,"source":"app","process":"worker.1","message":"[info] \u0000 `+"\uFFFD"+` \"quoted\""}`,
		`{"id":"FRAME-2","time":"2022-06-13T14:52:23.100000Z",`+source+`,"severity":6,"facility":23,"source":"app","process":"web.1","message":""}`,
		`{"id":"FRAME-1",`+source+`,"raw":"<190>nonsense with token=[REDACTED]"}`,
	)
	d.counts(map[string]float64{
		`drain_messages_total{kind="router"}`:                    2,
		`drain_messages_total{kind="other"}`:                     5,
		`drain_messages_total{kind="malformed"}`:                 1,
		`drain_lost_upstream_total{code="L10"}`:                  7,
		`drain_redactions_total`:                                 2,
		`drain_records_total{result="committed",topic="router"}`: 2,
		`drain_records_total{result="committed",topic="logs"}`:   6,
	})
}

func TestALineOfHerokuLogsHasNoPriority(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs = true })
	d.want(200, "2022-06-13T14:52:23.6+00:00 app[web.1]: hello\n")
	same(t, "records", d.values(logsTopic), `{"id":"FRAME-0","time":"2022-06-13T14:52:23.600000Z","source":"app","process":"web.1","message":"hello"}`)
}

func TestLossIsCountedOnce(t *testing.T) {
	const shuttleHead = "<172>1 2022-04-21T19:02:23.625396+00:00 host heroku log-shuttle - - "
	dropped := shuttleHead + "Error L12: 222 messages dropped since 2022-04-21T19:02:23.625396+00:00.\n"
	lost := shuttleHead + "Error L13: 111 messages lost since 2022-04-21T19:02:23.625396+00:00.\n"
	said := []string{"Logplex-Drop-Count: 222", "Logplex-Lost-Count: 111", shuttles}
	for name, tt := range map[string]struct {
		body          string
		headers       []string
		l10, l12, l13 float64
	}{
		"messages":                  {frame(notice, newNotice, dropped, lost, hello), nil, 8, 222, 111},
		"headers":                   {frame(hello), said, 0, 222, 111},
		"headers and messages":      {frame(dropped, lost, hello), said, 0, 222, 111},
		"headers of nothing":        {frame(hello), []string{"Logplex-Drop-Count: 0", "Logplex-Lost-Count: -5"}, 0, 0, 0},
		"headers of too much":       {frame(hello), []string{"Logplex-Drop-Count: 99999999999999999999"}, 0, 0, 0},
		"an application's words":    {frame(strings.Replace(notice, "heroku logplex", "app web.1", 1)), nil, 0, 0, 0},
		"a frame that is malformed": {"GIF89a", said, 0, 0, 0},
		"more than a number may be": {frame(slices.Repeat([]string{strings.Replace(notice, "7 messages", "999999999999999 messages", 1)}, 10_000)...), nil, 10_000 * (1 << 32), 0, 0},
	} {
		for _, logs := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", a topic for it: ", logs), func(t *testing.T) {
				d := open(t, func(s *setup) { s.Logs = logs })
				d.post(tt.body, tt.headers...)
				d.counts(map[string]float64{
					`drain_lost_upstream_total{code="L10"}`: tt.l10,
					`drain_lost_upstream_total{code="L12"}`: tt.l12,
					`drain_lost_upstream_total{code="L13"}`: tt.l13,
				})
			})
		}
	}
}

// The Java client's choice, by two clients that are not ours.
func TestAKeyLeadsToThePartitionOfTheJavaClient(t *testing.T) {
	const partitions = 7
	all := make([]int, partitions)
	for i := range all {
		all[i] = i
	}
	sticky := kgo.StickyKeyPartitioner(nil).ForTopic(routerTopic)
	oracle := func(key string) (int, int) {
		return sticky.Partition(&kgo.Record{Key: []byte(key)}, partitions),
			(kafka.Murmur2Balancer{Consistent: true}).Balance(kafka.Message{Key: []byte(key)}, all...)
	}
	full := func(i int) string {
		return head + fmt.Sprintf("at=info method=GET path=\"/p%d?token=s3cret\" host=h%d.example.com request_id=r%d fwd=\"1.2.3.4\" dyno=web.%d connect=1ms service=1ms status=200 bytes=1\n", i, i, i, i)
	}
	for kind, want := range map[intake.Key]func(i int) string{
		intake.KeyDrain:     func(int) string { return "d.fc6b856b-3332-4546-93de-7d0ee272c3bd" },
		intake.KeyApp:       func(int) string { return "shop" },
		intake.KeyHost:      func(i int) string { return fmt.Sprintf("h%d.example.com", i) },
		intake.KeyPath:      func(i int) string { return fmt.Sprintf("/p%d?token=[REDACTED]", i) },
		intake.KeyDyno:      func(i int) string { return fmt.Sprintf("web.%d", i) },
		intake.KeyRequestID: func(i int) string { return fmt.Sprintf("r%d", i) },
	} {
		t.Run(intake.Keys[kind], func(t *testing.T) {
			d := open(t, func(s *setup) { s.Key, s.partitions = kind, partitions })
			var messages []string
			keys := make(map[string]string) // by id's index
			for i := range 30 {
				messages = append(messages, full(i))
				keys[fmt.Sprint(29-i)] = want(i)
			}
			if a := d.do("POST", "/logs/shop", strings.NewReader(frame(messages...)), frameName, drainName); a.status != 200 {
				t.Fatalf("answered %d", a.status)
			}
			got := d.records(routerTopic)
			if len(got) != 30 {
				t.Fatalf("%d records", len(got))
			}
			for _, r := range got {
				_, index, _ := strings.Cut(r.field("id"), "-")
				java, other := oracle(r.key)
				if r.key != keys[index] || r.partition != java || r.partition != other {
					t.Errorf("line %s: key %q, want %q; partition %d, want %d", index, r.key, keys[index], r.partition, java)
				}
			}
		})
	}
}

func TestARecordWithoutItsKeyGoesWithItsFrame(t *testing.T) {
	for _, kind := range []intake.Key{intake.KeyDrain, intake.KeyApp, intake.KeyHost, intake.KeyPath, intake.KeyDyno, intake.KeyRequestID} {
		d := open(t, func(s *setup) { s.Key, s.partitions = kind, 8 })
		d.want(200, frame(head+"at=info host= dyno= path= request_id=\n", head+"status=200\n", head+"nothing\n"), frameName)
		at := make(map[int]bool)
		for _, r := range d.records(routerTopic) {
			at[r.partition] = true
			if r.key != "" {
				t.Errorf("%s: key %q", intake.Keys[kind], r.key)
			}
		}
		if len(at) != 1 {
			t.Errorf("%s: in the partitions %v", intake.Keys[kind], at)
		}
	}
}

// A path that was cut ends in a secret of unknown length: what seems to follow it
// is left out of the record, and must not come back as its key.
func TestNoKeyHoldsWhatARecordLeavesOut(t *testing.T) {
	body := frame(head + `at=info method=GET path="/x?token=s3" host=cr3t dyno=cr3t request_id=cr3t`)
	for _, kind := range []intake.Key{intake.KeyHost, intake.KeyDyno, intake.KeyRequestID, intake.KeyPath} {
		d := open(t, func(s *setup) { s.Key = kind })
		d.want(200, body)
		for _, r := range d.records(routerTopic) {
			if strings.Contains(r.value, "cr3t") {
				t.Fatalf("the record itself: %s", r.value)
			}
			if strings.Contains(r.key, "cr3t") {
				t.Errorf("%s: key %q of %s", intake.Keys[kind], r.key, r.value)
			}
		}
	}
}

// A record that is shortened only for its size keeps its key, or it would leave the
// partition of its like.
func TestAShortenedRecordKeepsItsKey(t *testing.T) {
	long := head + `at=info method=GET path="/` + strings.Repeat("x", 2<<20) + `" host=h.example.com request_id=r1 fwd="1.2.3.4" dyno=web.1 connect=1ms service=1ms status=200 bytes=1` + "\n"
	for kind, want := range map[intake.Key]string{intake.KeyHost: "h.example.com", intake.KeyDyno: "web.1", intake.KeyRequestID: "r1"} {
		d := open(t, func(s *setup) { s.Key = kind })
		d.want(200, frame(long))
		for _, r := range d.records(routerTopic) {
			if !strings.Contains(r.value, `"truncated":true`) || r.key != want {
				t.Errorf("%s: key %q of …%s", intake.Keys[kind], r.key, r.value[max(0, len(r.value)-200):])
			}
		}
	}
}

// Whatever is too large is shortened, and the rest of its frame stays whole.
func TestOneLargeMessageHarmsNoOther(t *testing.T) {
	huge := strings.Repeat("x", 2<<20)
	for name, message := range map[string]string{
		"a path":           line("/" + huge),
		"a host":           head + "at=info host=" + huge + "\n",
		"an unknown key":   head + "at=info " + huge + "=1\n",
		"a line of quotes": line("/" + strings.Repeat(`"`, 1<<20)),
		"a text":           "<190>1 2022-06-13T14:52:23.621815+00:00 host app web.1 - " + huge + "\n",
		"control bytes":    "<190>1 2022-06-13T14:52:23.621815+00:00 host app web.1 - " + strings.Repeat("\x01", 1<<20) + "\n",
		"a source":         "<190>1 2022-06-13T14:52:23.621815+00:00 host " + huge + " web.1 - text\n",
		"a process":        "<190>1 2022-06-13T14:52:23.621815+00:00 host app " + huge + " - text\n",
		"no header":        "<190>" + huge + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(s *setup) { s.Logs = true })
			d.want(200, frame(hello, message, hello))
			all := append(d.records(routerTopic), d.records(logsTopic)...)
			if len(all) != 3 {
				t.Fatalf("%d records", len(all))
			}
			for _, r := range all {
				if !json.Valid([]byte(r.value)) || !utf8.ValidString(r.value) || len(r.value) > 900_000 {
					t.Errorf("%d bytes, valid %v: %.100s", len(r.value), json.Valid([]byte(r.value)), r.value)
				}
			}
		})
	}
}

func TestNamesThatRequestsGiveAreBounded(t *testing.T) {
	long := strings.Repeat("n", 5000)
	d := open(t, func(s *setup) { s.Key = intake.KeyDrain })
	if a := d.do("POST", "/logs/"+long, strings.NewReader(frame(hello)), "Logplex-Drain-Token: "+long); a.status != 200 {
		t.Fatalf("answered %d", a.status)
	}
	r := d.records(routerTopic)[0]
	if r.field("app") != long[:256] || r.field("drain") != long[:256] || r.key != long[:256] {
		t.Errorf("app of %d, drain of %d, key of %d bytes", len(r.field("app")), len(r.field("drain")), len(r.key))
	}
}

func TestTheAppThatThePathNames(t *testing.T) {
	for path, app := range map[string]string{
		"/logs":            "",
		"/logs/":           "",
		"/logs/shop":       "shop",
		"/logs/shop?app=x": "shop",
		"/logs/a%20b":      "a b",
		"/logs/a%2Fb":      "a/b",
		"/logs/a%252Fb":    "a%2Fb",
		"/logs/100%2525":   "100%25",
		"/logs/%22%7B":     `"{`,
		"/logs/%00":        "\x00",
		"/logs/%FF":        "\uFFFD",
		"/logs/%C3%BC":     "ü",
		"/logs/..%2Flogs":  "../logs",
	} {
		d := open(t)
		a := d.do("POST", path, strings.NewReader(frame(hello)))
		if a.status != 200 {
			t.Errorf("%s: answered %d", path, a.status)
			continue
		}
		if r := d.records(routerTopic)[0]; r.field("app") != app {
			t.Errorf("%s: app is %q, want %q", path, r.field("app"), app)
		}
	}
}

func TestHeadersInAnyCaseAreRead(t *testing.T) {
	d := open(t)
	w := d.dial()
	w.send("POST /logs HTTP/1.1\r\nhost: h\r\nLOGPLEX-FRAME-ID: 09C557EAFCFB6CF2740EE62F62971098\r\nlogplex-drain-token: d.1\r\ncontent-length: %d\r\n\r\n%s", len(lines), lines)
	w.head()
	want := idsOf(t, "/logs", lines, frameName, "Logplex-Drain-Token: d.1")
	if got := d.ids(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAddressesAreRedactedAsSet(t *testing.T) {
	for mode, want := range map[router.FwdRedaction]string{router.FwdKeep: "203.0.113.7", router.FwdTruncate: "203.0.113.0", router.FwdDrop: ""} {
		d := open(t, func(s *setup) { s.Redactor = router.NewRedactor(router.RedactListed, mode, nil) })
		d.want(200, frame(hello))
		if got := d.records(routerTopic)[0].field("fwd"); got != want {
			t.Errorf("fwd is %q, want %q", got, want)
		}
	}
}
