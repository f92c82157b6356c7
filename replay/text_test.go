package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"drain/router"
)

// shopReport is of a replay in which there is something of everything to report.
func shopReport() *Report {
	r, c := NewReport(nil), new(Counts)
	at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	n := 0
	add := func(times int, method, path string, recorded, answered int, service, took time.Duration, change func(*Sent)) {
		for range times {
			s := answer(path, recorded, answered, service, took)
			s.Method, s.Time, s.At = method, at.Add(time.Duration(n)*100*time.Millisecond).UnixMicro(), time.Duration(n)*50*time.Millisecond
			if change != nil {
				change(s)
			}
			r.Sent(s)
			c.Add(Seen{Reason: Chosen, Escaped: n%100 == 0})
			n++
		}
	}
	const ms = time.Millisecond
	add(1200, "GET", "/products/17", 200, 200, 30*ms, 33*ms, nil)
	add(2, "GET", "/products/17", 200, 0, 30*ms, ms, func(s *Sent) { s.Failure = Refused })
	add(60, "GET", "/products/17", 200, 500, 30*ms, 5*ms, nil)
	add(5, "GET", "/products/17", 200, 0, 30*ms, 3*time.Second, nil)
	add(400, "GET", "/search", 200, 200, 120*ms, 480*ms, func(s *Sent) { s.Late, s.Held = 12*ms, ByConcurrency })
	add(300, "GET", "/app.js", 304, 200, 2*ms, 9*ms, nil)
	add(250, "GET", "/report", 200, 200, 900*ms, 90*ms, nil)
	add(40, "HEAD", "/status", 404, 404, ms, ms, func(s *Sent) { s.Late, s.Held = 1500*ms, ByRate })
	for _, status := range []int{400, 401, 403} {
		add(1, "GET", "/legacy", 301, status, ms, ms, nil)
	}
	add(30, "GET", "/legacy", 301, 410, ms, ms, nil)
	add(10, "GET", "/legacy", 301, 301, ms, ms, nil)
	add(3, "GET", "/products/17", 0, 200, ms, ms, nil)
	add(4, "GET", "/products/17", 200, 200, ms, ms, func(s *Sent) { s.Failure = Stopped })
	for range 7777 {
		c.Add(Seen{Reason: OtherMethod})
	}
	for range 12 {
		c.Add(Seen{Reason: Denied})
	}
	r.Saw(c)
	return r
}

func shopFrame() Frame {
	return Frame{Target: "https://staging.example.com", Source: "router", Ended: "interrupted", Speed: 2, Began: time.Date(2026, 1, 3, 10, 0, 0, 0, time.UTC),
		OutOfOrder: 3, Rounds: 1, Took: 115 * time.Second, Pauses: Stretch{2, 2500 * time.Millisecond}, Stalls: Stretch{1, 3 * time.Second}, Pace: &Pace{Gaps: 4, Cut: 90 * time.Minute}, RoundTrip: 1230 * time.Microsecond, Connections: 8,
		FailOnDiff: 0.01, FailOnSlower: true}
}

func written(t testing.TB, r *Result) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText_saysAllThatHappened(t *testing.T) {
	want := `router to https://staging.example.com, speed 2, interrupted

recorded      2026-01-02T03:04:05Z to 2026-01-02T03:07:55Z, 3m50s
took          1m55s
sent          2,303 of 10,096 records; left out: 7,777 other method, 12 denied
stopped       4 more were sent, whose answers were not waited for at the end
escaped       24, whose paths had bytes that no request may have
out of order  3 came after one that was recorded later
shortened     gaps, 4 times, by 1h30m0s of recorded time
late          440 (19.1%) by more than 5ms; p99 1500 ms, at most 1500 ms; waited for: 400 concurrency, 40 max rps
paused        2 times, 2.5s, because the target failed
stalled       once, 3s, because there was nothing to read
answers       2,200 as recorded, 100 differ (4.3%); no answer: 5 reset, 2 refused
              300 of them 200 for a recorded 304 or 206: requests are sent without conditions and ranges
network       a round trip takes 1.2 ms (the fastest of 8 connections); measured times hold one

  RECORDED \ ANSWERED  no answer    200  301  400  401  403  404  410  500
                 none          ·      3    ·    ·    ·    ·    ·    ·    ·
                  200          7  1,850    ·    ·    ·    ·    ·    ·   60
                  301          ·      ·   10    1    1    1    ·   30    ·
                  304          ·    300    ·    ·    ·    ·    ·    ·    ·
                  404          ·      ·    ·    ·    ·    ·   40    ·    ·

ROUTE              SENT   DIFFER      P50 MS     P95 MS     P99 MS     WHAT CHANGED
GET /products/:id  1,270  67 (5.3%)   30.0→33.0  30.0→33.0  30.0→33.0  200→500 60, 200→no answer 7
GET /legacy        43     33 (76.7%)  1.0→1.0    1.0→1.0    1.0→1.0    301→410 30, 301→400 1, 301→401 1
GET /search        400    -           120→480    120→480    120→480    slower
GET /app.js        300    -           -          -          -
GET /report        250    -           900→90.0   900→90.0   900→90.0   faster
other              40     -           1.0→1.0    1.0→1.0    1.0→1.0

FOR EXAMPLE  REQUEST           REQUEST ID
200→refused  GET /products/17  r-1
301→400      GET /legacy       r-1

failed: 4.3% of the answers differ, more than 1.0%

failed: GET /search is slower
`
	var got strings.Builder
	for line := range strings.Lines(written(t, shopReport().Result(shopFrame()))) {
		got.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// What was read ahead of partitions that others have now is not to be waited for.
func TestText_saysWhoseTheRestIs(t *testing.T) {
	r, c := NewReport(nil), new(Counts)
	c.Add(Seen{})
	r.Saw(c)
	for ended, want := range map[string]string{"end": "given away  1 more were read, and are for others", "interrupted": "not sent yet  1 more were read\n"} {
		if got := written(t, r.Result(Frame{Ended: ended, Pace: new(Pace)})); !strings.Contains(got, want) {
			t.Errorf("%s:\n%s", ended, got)
		}
	}
}

// What did not happen is not spoken of.
func TestText_saysLittleOfAReplayOfWhichThereIsLittleToSay(t *testing.T) {
	r, c := NewReport(nil), new(Counts)
	s := usual("/x")
	r.Sent(s)
	c.Add(Seen{})
	r.Saw(c)
	got := written(t, r.Result(Frame{Target: "http://localhost", Source: "day.gz", Ended: "end", Pace: new(Pace), FailOnDiff: 0.5}))
	if want := `day.gz to http://localhost, as fast as can be

recorded  2023-11-14T22:13:20Z to 2023-11-14T22:13:20Z, 0s
took      0s
sent      1 of 1 records
answers   1 as recorded, 0 differ (0%)

  RECORDED \ ANSWERED  200
                  200    1

ROUTE   SENT  DIFFER  P50 MS     P95 MS     P99 MS     WHAT CHANGED
GET /x  1     -       10.0→12.0  10.0→12.0  10.0→12.0  
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestText_saysWhyThereIsNothing(t *testing.T) {
	got := written(t, of(NewReport(nil)))
	if want := `router to http://staging, speed 1

took     0s
sent     0 of 0 records
late     0 (0%) by more than 5ms; p99 0.0 ms, at most 0.0 ms
answers  0 as recorded, 0 differ (0%)

there was nothing to read: the topic or the file is empty, or nothing is left from where the group is, or --from, on; --from beginning has all of it sent again
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Where all that was read was left out, the reasons stand there already.
	r, c := NewReport(nil), new(Counts)
	c.Add(Seen{Reason: Denied})
	r.Saw(c)
	if got := written(t, of(r)); !strings.Contains(got, "sent     0 of 1 records; left out: 1 denied\n") || strings.Contains(got, "nothing to read") {
		t.Error(got)
	}
}

func TestText_listsSomeRoutesAndSaysHowManyMoreThereAre(t *testing.T) {
	for n, more := range map[int]string{30: "", 31: "… and 1 more: --json and --html have all", 150: "… and 120 more: --json and --html have all"} {
		r := NewReport(nil)
		for i := range n {
			for range n - i {
				r.Sent(usual(fmt.Sprintf("/%c/%c", 'a'+i/26, 'a'+i%26)))
			}
		}
		result := of(r)
		lines := strings.Split(strings.TrimSuffix(written(t, result), "\n"), "\n")
		table := lines[slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "ROUTE") })+1:]
		if more != "" {
			if last := table[len(table)-1]; last != more {
				t.Errorf("of %d routes: %q, want %q", n, last, more)
			}
			table = table[:len(table)-1]
		}
		if len(table) != 30 || !strings.HasPrefix(table[0], "GET /a/a") || !strings.HasPrefix(table[29], "GET /b/d") || len(result.Routes) != n {
			t.Errorf("of %d routes %d are listed:\n%s", n, len(table), strings.Join(table, "\n"))
		}
	}
}

// hostile is what a terminal, a page or a table could take for something else than text.
var hostile = []string{
	"\x1b[2J\x1b]0;owned\a", "\x9b31m", "\u009b31m", "\r\x08\x08", "\n\nfailed: nothing\n", "\t\t\v\f", "\x7f\x00", "\u202e\u2066evil\u2069\u202c", "\u2028\u2029\u0085",
	"\ufeff\u200b\u200d\u00ad", "\xff\xfe\xff", "</script><script>alert(1)</script>", "</noscript></pre><img src=x onerror=alert(2)>", `"'` + "`${alert(3)}", "<!--<script>", "&lt;&amp;",
	"javascript:alert(4)", "]]>", "%00%0a", strings.Repeat("x", 3000),
}

func TestText_hostileNamesMoveNoCursor(t *testing.T) {
	harmless, evil := shopReport().Result(shopFrame()), shopReport().Result(shopFrame())
	lines := func(s string) int { return strings.Count(s, "\n") }
	want := lines(written(t, harmless))
	for _, text := range hostile {
		evil.Source, evil.Target, evil.Routes[0].Route, evil.Routes[1].Method, evil.Verdict.Why[1] = text, text, "/"+text, text, text
		evil.Routes[0].Examples[0] = Example{text, text, text, 200, 0, text}
		got := written(t, evil)
		if lines(got) != want || !utf8.ValidString(got) {
			t.Errorf("%q: %d lines, want %d:\n%q", text, lines(got), want, got)
		}
		for _, c := range got {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Errorf("%q: %U is in the text", text, c)
			}
		}
		// Nor does a cell end another one.
		if i := strings.Index(got, "67 (5.3%)"); i < 0 || !strings.Contains(got[i:], "\n") {
			t.Errorf("%q: the route's numbers are gone", text)
		}
	}
}

// keys are the names in a JSON document, with where they are; of what has names of its own it is `*`.
func keys(prefix string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			switch prefix {
			case "requests.skipped", "late.by", "compared.failures":
				k = "*"
			}
			name := strings.TrimPrefix(prefix+"."+k, ".")
			into[name] = true
			keys(name, v, into)
		}
	case []any:
		for _, v := range v {
			keys(prefix, v, into)
		}
	}
}

// Scripts rely on these.
func TestJSON_hasTheseKeys(t *testing.T) {
	want := strings.Fields(`
		target source ended speed began seconds recorded recorded.first recorded.last recorded.seconds
		requests requests.read requests.sent requests.skipped requests.skipped.* requests.ahead requests.escaped requests.stopped requests.out_of_order requests.rounds
		late late.requests late.share late.by late.by.* late.p50_ms late.p99_ms late.max_ms
		pauses pauses.times pauses.seconds stalled stalled.times stalled.seconds gaps_shortened gaps_shortened.times gaps_shortened.seconds network network.round_trip_ms network.connections network.resent
		compared compared.same compared.other_status compared.no_answer compared.failures compared.failures.* compared.no_recorded_status compared.unconditional compared.differ
		status status.recorded status.answered status.requests status.differs
		times times.requests times.recorded_ms times.recorded_ms.p50 times.recorded_ms.p95 times.recorded_ms.p99 times.recorded_ms.mean times.recorded_ms.max
		times.measured_ms times.measured_ms.p50 times.measured_ms.p95 times.measured_ms.p99 times.measured_ms.mean times.measured_ms.max times.verdict
		routes routes.method routes.route routes.sent routes.differ routes.share routes.status routes.status.recorded routes.status.answered routes.status.requests routes.status.differs
		routes.times routes.times.requests routes.times.recorded_ms routes.times.recorded_ms.p50 routes.times.recorded_ms.p95 routes.times.recorded_ms.p99 routes.times.recorded_ms.mean
		routes.times.recorded_ms.max routes.times.measured_ms routes.times.measured_ms.p50 routes.times.measured_ms.p95 routes.times.measured_ms.p99 routes.times.measured_ms.mean
		routes.times.measured_ms.max routes.times.verdict routes.recorded_bytes routes.measured_bytes
		routes.examples routes.examples.request_id routes.examples.method routes.examples.path routes.examples.recorded routes.examples.answered routes.examples.failure
		series series.step_s series.points series.points.sent series.points.differ series.points.failed series.points.late_ms series.points.recorded_p95_ms series.points.measured_p95_ms
		verdict verdict.fail_on_diff verdict.failed verdict.why`)
	slices.Sort(want)
	got := map[string]bool{}
	keys("", decoded(t, shopReport().Result(shopFrame())), got)
	if got := slices.Sorted(maps.Keys(got)); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	// Of nothing there are nulls, zeros and empty lists: no key is left out that a script would look into.
	empty, err := json.Marshal(of(NewReport(nil)))
	if want := `{"target":"http://staging","source":"router","ended":"end","speed":1,"began":"0001-01-01T00:00:00Z","seconds":0,"recorded":null,` +
		`"requests":{"read":0,"sent":0,"skipped":{},"ahead":0,"escaped":0,"stopped":0,"out_of_order":0,"rounds":0},"late":{"requests":0,"share":0,"by":{},"p50_ms":0,"p99_ms":0,"max_ms":0},` +
		`"pauses":{"times":0,"seconds":0},"stalled":{"times":0,"seconds":0},"gaps_shortened":{"times":0,"seconds":0},"network":{"round_trip_ms":0,"connections":0,"resent":0},` +
		`"compared":{"same":0,"other_status":0,"no_answer":0,"failures":{},"no_recorded_status":0,"unconditional":0,"differ":0},"status":[],"times":null,"routes":[],` +
		`"series":{"step_s":0,"points":[]},"verdict":{"fail_on_diff":0,"failed":false}}`; err != nil || string(empty) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, empty, want)
	}
}

func decoded(t testing.TB, r *Result) (v any) {
	t.Helper()
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJSON_isTheSameEachTime(t *testing.T) {
	r := NewReport(nil)
	for i := range 3000 { // of which many routes become one
		s := answer(fmt.Sprintf("/w%c%c%c/x", 'a'+i%26, 'a'+i/26%26, 'a'+i/676), 200, []int{200, 404, 500}[i%3], time.Duration(i)*time.Millisecond, time.Millisecond)
		s.ID = fmt.Append(nil, i)
		r.Sent(s)
	}
	first, err := json.Marshal(of(r))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, _ := json.Marshal(of(r)); !bytes.Equal(first, again) {
			t.Fatal("it is another one")
		}
	}
}

// Whatever clients, clocks and targets come up with: the report can be written in every form, and read again.
func TestResult_canAlwaysBeWritten(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String())
	number := rapid.OneOf(rapid.SampledFrom([]int64{-1, 0, 1, 100, 200, 304, 999, 1 << 31, math.MaxInt64 / 10, math.MaxInt64}), rapid.Int64())
	span := func(t *rapid.T, name string) time.Duration { return time.Duration(max(number.Draw(t, name), 0)) }
	rapid.Check(t, func(t *rapid.T) {
		r, c := NewReport(nil), new(Counts)
		for range rapid.IntRange(0, 12).Draw(t, "requests") {
			path := "/" + text.Draw(t, "path")
			q := &Request{Method: rapid.SampledFrom([]string{"GET", "HEAD", "PURGE"}).Draw(t, "method"), Path: []byte(path), ID: []byte(text.Draw(t, "id")),
				Time:    rapid.OneOf(rapid.SampledFrom([]int64{router.NoTime, 0, math.MaxInt64, 1_700_000_000_000_000}), rapid.Int64()).Draw(t, "time"),
				Service: number.Draw(t, "service"), Status: number.Draw(t, "recorded"), Bytes: number.Draw(t, "bytes")}
			q.Target, _ = AppendTarget(nil, q.Path)
			r.Sent(&Sent{q, Outcome{Failure(rapid.IntRange(0, int(numFailures)-1).Draw(t, "failure")), int(number.Draw(t, "answered")), number.Draw(t, "answered bytes"), time.Duration(number.Draw(t, "took"))},
				span(t, "at"), span(t, "late"), Held(rapid.IntRange(0, int(numHeld)-1).Draw(t, "held"))})
			c.Add(Seen{Reason: Reason(rapid.IntRange(0, int(numReasons)-1).Draw(t, "reason"))})
		}
		r.Saw(c)
		result := r.Result(Frame{Target: text.Draw(t, "target"), Source: text.Draw(t, "source"), Ended: "end", Speed: rapid.SampledFrom([]float64{0, 0.1, 100}).Draw(t, "speed"),
			Pauses: Stretch{1, span(t, "paused")}, Pace: &Pace{Cut: span(t, "cut"), Gaps: number.Draw(t, "gaps")}, RoundTrip: span(t, "trip"), Connections: number.Draw(t, "connections"),
			FailOnDiff: rapid.SampledFrom([]float64{-1, 0, 0.5, 1}).Draw(t, "limit"), FailOnSlower: true})
		b, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		var read Result
		if err := json.Unmarshal(b, &read); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(&read)
		if err != nil || !bytes.Equal(b, again) && !bytes.Contains(b, []byte(`\ufffd`)) {
			t.Fatalf("%v\n%s became\n%s", err, b, again)
		}
		var page, plain bytes.Buffer
		if err := result.WriteHTML(&page); err != nil || bytes.Contains(page.Bytes(), []byte("json: error")) {
			t.Fatal(err)
		}
		if err := result.WriteText(&plain); err != nil {
			t.Fatal(err)
		}
		_, facts, _ := strings.Cut(plain.String(), "\n") // without names
		facts, _, _ = strings.Cut(facts, "\nROUTE")
		for _, odd := range []string{"NaN", "Inf", "%!", "-2562047h", "-9,223,372"} {
			if strings.Contains(facts, odd) {
				t.Fatalf("%s is in the text:\n%s", odd, facts)
			}
		}
		for _, c := range plain.String() {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Fatalf("%U is in the text", c)
			}
		}
	})
}
