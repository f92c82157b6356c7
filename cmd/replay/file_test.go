package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/replay"
)

// lines are records of any kind.
var anyRecords = []string{
	entry{}.record(),
	entry{method: "POST", path: "/logout"}.record(),
	entry{path: "/\x00\x1b\u2028\"\\"}.record(),
	entry{status: -1, id: strings.Repeat("x", 100<<10)}.record(),
	`{"level":"info"}`,
	"hello",
}

func TestARecordingHasTheRecordsByteForByte(t *testing.T) {
	for name, unpacked := range map[string]func(io.Reader) (io.Reader, error){
		"r.gz":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"r.jsonl": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"r.zst":   func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
	} {
		path := filepath.Join(t.TempDir(), name)
		record(t, path, true, anyRecords...)
		packed, err := os.ReadFile(path)
		must(t, err)
		plain, err := unpacked(bytes.NewReader(packed))
		must(t, err)
		got, err := io.ReadAll(plain)
		must(t, err)
		if want := strings.Join(anyRecords, "\n") + "\n"; string(got) != want {
			t.Errorf("%s: %.200q, want %.200q", name, got, want)
		}
		f := &file{cfg: &config{file: path}}
		var back []string
		must(t, f.lines(func(line []byte) error { back = append(back, string(line)); return nil }))
		if !slices.Equal(back, anyRecords) {
			t.Errorf("%s is read as %.200q", name, back)
		}
	}
}

// record writes a recording.
func record(t *testing.T, path string, keep bool, records ...string) {
	t.Helper()
	r, err := newRecording(path)
	must(t, err)
	for _, line := range records {
		must(t, r.add(&replay.Request{Record: []byte(line)}))
	}
	must(t, r.close(keep))
}

// What is recorded is chosen again when the file is played, so all of it is in there: also what must not be sent.
func TestATopicBecomesAFileThatIsPlayed(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "router"))
	must(t, err)
	defer c.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("router"))
	must(t, err)
	defer producer.Close()
	var want []string
	for i := range 1000 {
		e := entry{at: time.Duration(i) * time.Millisecond, path: fmt.Sprint("/", i), id: fmt.Sprint(i), fwd: nobody}
		switch i % 10 {
		case 0:
			e.method = "POST"
		case 1:
			e.path += "/logout"
		case 2:
			e.path += "?key=[REDACTED]"
		case 3:
			e.path = "*"
		}
		want = append(want, e.record())
		must(t, producer.ProduceSync(t.Context(), &kgo.Record{Value: []byte(want[i]), Timestamp: recordedAt}).FirstErr())
	}
	for _, name := range []string{"r.gz", "r.zst"} {
		path := filepath.Join(t.TempDir(), name)
		p := start(t, vars{"KAFKA_URL": c.ListenAddrs()[0]}, "--record="+path, "--from=beginning")
		if status := p.wait(); status != 0 || !p.stderr.Says(" records=1000 ") || p.stdout.String() != "" {
			t.Errorf("exit status %d: %s%s", status, &p.stdout, &p.stderr)
		}
		var got []string
		must(t, (&file{cfg: &config{file: path}}).lines(func(line []byte) error { got = append(got, string(line)); return nil }))
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d records", name, len(got))
		}
		before, err := os.ReadFile(path)
		must(t, err)
		p = start(t, vars{"KAFKA_URL": c.ListenAddrs()[0]}, "--record="+path, "--until=2001-01-01")
		if status := p.wait(); status != 1 || !p.stderr.Says("there was nothing to record, so what is there stays") {
			t.Errorf("exit status %d: %s", status, &p.stderr)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s has %d bytes, and had %d: %v", name, len(after), len(before), err)
		}
		if _, err := os.Stat(path + partly); err == nil {
			t.Errorf("%s is left", path+partly)
		}
		s := newServer(t)
		r := play(t, 0, "--file="+path, "--target="+s.url, "--speed=max", "--json").result()
		if r.Requests.Read != 1000 || r.Requests.Sent != 600 || len(s.received()) != 600 || fmt.Sprint(r.Requests.Skipped) != "map[denied:100 incomplete:100 other_method:100 redacted:100]" {
			t.Errorf("%+v", r.Requests)
		}
	}
}

// A disk that is full is told once.
func TestARecordingOnAFullDisk(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "router"))
	must(t, err)
	defer c.Close()
	p := start(t, vars{"KAFKA_URL": c.ListenAddrs()[0]}, "--record=/dev/full")
	if status := p.wait(); status != 1 || !strings.HasSuffix(p.stderr.String(), "\nreplay: write \"/dev/full\": no space left on device\n") || strings.Count(p.stderr.String(), "no space") != 1 {
		t.Errorf("exit status %d: %s", status, &p.stderr)
	}
}

// What was there is there until the recording is complete, and for good if there is none.
func TestARecordingHasItsNameWhenItIsComplete(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.gz")
	is := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			return "missing"
		}
		if r, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, _ = io.ReadAll(r)
		}
		return string(b)
	}
	killed, err := newRecording(path) // a process that was killed leaves it behind
	must(t, err)
	must(t, killed.add(&replay.Request{Record: bytes.Repeat([]byte("x"), 1<<20)}))
	must(t, killed.file.Close())
	if got := is(path); got != "missing" {
		t.Errorf("it is there: %.100q", got)
	}
	for _, round := range []struct {
		records []string
		keep    bool
		then    string
	}{
		{[]string{"a"}, true, "a\n"},
		{[]string{"b", "c"}, false, "b\nc\n"}, // it was stopped
		{nil, false, "b\nc\n"},                // it did not begin
		{nil, true, "b\nc\n"},                 // nothing takes the place of something
	} {
		before := is(path)
		r, err := newRecording(path)
		must(t, err)
		for _, line := range round.records {
			must(t, r.add(&replay.Request{Record: []byte(line)}))
		}
		if got := is(path); got != before {
			t.Errorf("%q while %q is recorded, which was %q", got, round.records, before)
		}
		if info, err := os.Stat(path + ".part"); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if err := r.close(round.keep); errors.Is(err, errNothing) != (round.records == nil && round.keep) {
			t.Error(err)
		}
		if got := is(path); got != round.then {
			t.Errorf("%q, want %q", got, round.then)
		}
		if got := is(path + ".part"); got != "missing" {
			t.Errorf("left behind: %q", got)
		}
	}
}

func TestARecordingOfNothingIsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.zst")
	record(t, path, true)
	must(t, (&file{cfg: &config{file: path}}).lines(func([]byte) error { return errors.New("a line") }))
}

func TestARecordingThatCannotBeWritten(t *testing.T) {
	r, err := newRecording("/dev/full")
	must(t, err)
	for range 10_000 {
		if err = r.add(&replay.Request{Record: []byte(fmt.Sprint(time.Now()))}); err != nil {
			break
		}
	}
	closed := r.close(true)
	if closed == nil || closed.Error() != `write "/dev/full": no space left on device` || err != nil && err.Error() != closed.Error() {
		t.Errorf("%v, %v", err, closed)
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}

// packed writes lines as a file of that name, compressed by its end.
func packed(t *testing.T, name string, lines ...string) (path string) {
	t.Helper()
	text := strings.Join(lines, "")
	var b bytes.Buffer
	switch filepath.Ext(name) {
	case ".gz":
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		must(t, w.Close())
	case ".zst":
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		must(t, err)
		_, _ = io.WriteString(w, text)
		must(t, w.Close())
	default:
		b.WriteString(text)
	}
	return written(t, name, b.String())
}

func TestReadsWhatEachLineHolds(t *testing.T) {
	const cr, lf = "\r\n", "\n"
	good := entry{path: "/good"}.record()
	for _, tt := range []struct {
		name    string
		lines   []string
		sent    int64
		skipped map[string]int64
	}{
		{"records", []string{good, lf, good, lf}, 2, nil},
		{"no end of the last line", []string{good, lf, good}, 2, nil},
		{"ends of another system", []string{good, cr, good, cr}, 2, nil},
		{"empty lines, and blanks", []string{lf, cr, good, "  \t\n\n", " ", good, " \n", lf}, 2, nil},
		{"a line that is too long", []string{good, lf, strings.Repeat("x", 3<<20), lf, good, lf}, 2, map[string]int64{"not_json": 1}},
		{"a record that is too long", []string{entry{path: "/" + strings.Repeat("x", 1<<20)}.record(), lf, good, lf}, 1, map[string]int64{"not_json": 1}},
		{"one that is as long as it may be", []string{entry{path: "/good?" + strings.Repeat("x", 60<<10)}.record(), lf, good}, 2, nil},
		{"the last one is too long", []string{good, lf, strings.Repeat("x", 3<<20)}, 1, map[string]int64{"not_json": 1}},
		{"no JSON", []string{"hello\n", good, lf, "{\n", "\x00\xff\n", `"` + good + lf}, 1, map[string]int64{"not_json": 4}},
		{"other JSON", []string{"{}\n[1]\n7\nnull\n\"x\"\n", `{"level":"info"}`, lf, good, lf}, 1, map[string]int64{"not_json": 4, "other_shape": 2}},
		{"no host, no path, none of a site", []string{entry{raw: `{"id":"1","method":"GET","path":"/"}`}.record(), lf, entry{raw: `{"id":"1","method":"GET","host":"h"}`}.record(), lf,
			entry{path: "*"}.record(), lf, entry{path: "http://h/"}.record(), lf, good, lf}, 1, map[string]int64{"incomplete": 4}},
		{"truncated", []string{entry{raw: `{"id":"1","method":"GET","path":"/","host":"h","truncated":true}`}.record(), lf, good, lf}, 1, map[string]int64{"truncated": 1}},
		{"cut off in a line", []string{good, lf, good[:len(good)-5]}, 1, map[string]int64{"not_json": 1}},
		{"nothing", nil, 0, nil},
		{"nothing but lines", []string{lf, lf, cr}, 0, nil},
	} {
		for _, name := range []string{"r.jsonl", "r.gz", "r.zst"} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newServer(t)
				r := play(t, 0, "--file="+packed(t, name, tt.lines...), "--target="+s.url, "--json").result()
				read := tt.sent
				for _, n := range tt.skipped {
					read += n
				}
				if got := len(s.received()); got != int(tt.sent) || r.Requests.Sent != tt.sent || r.Requests.Read != read || fmt.Sprint(r.Requests.Skipped) != fmt.Sprint(tt.skipped) {
					t.Errorf("%d came, %+v", got, r.Requests)
				}
			})
		}
	}
}

func TestNothingToReadIsSaid(t *testing.T) {
	p := play(t, 0, "--file="+written(t, "empty", ""), "--target="+newServer(t).url)
	if !p.stdout.Says("nothing to read: the topic or the file is empty") {
		t.Errorf("%s", &p.stdout)
	}
	if p := play(t, 1, "--file="+written(t, "empty", ""), "--target="+newServer(t).url, "--fail-on-diff=100%"); !p.stderr.Says("nothing was sent") {
		t.Errorf("%s", &p.stderr)
	}
}

// A file of lines is no recording, and who gives one is told, whether requests are to be sent or not.
func TestAFileWithoutRecordsIsNoRecording(t *testing.T) {
	lines := written(t, "lines", "2026-01-02T03:04:05+00:00 heroku[router]: at=info method=GET path=\"/\"\n{\"level\":\"info\"}\n")
	for _, args := range [][]string{{"--dry-run"}, {"--target=" + newServer(t).url}} {
		if p := play(t, 1, append(args, "--file="+lines)...); !p.stderr.Says("holds no record: use a file that --record wrote") {
			t.Errorf("%q: %s", args, &p.stderr)
		}
	}
}

// What was good of a damaged file is sent, and then it is said.
func TestADamagedFile(t *testing.T) {
	var all []string
	for i := range 1000 {
		all = append(all, entry{path: fmt.Sprint("/", i), id: fmt.Sprint(i), fwd: nobody}.record()+"\n")
	}
	most := func(b []byte) []byte { return b[:len(b)*3/4] }
	for name, damage := range map[string]func([]byte) []byte{
		"cut.gz":   most,
		"cut.zst":  most,
		"flip.gz":  func(b []byte) []byte { b[len(b)-6] ^= 1; return b },
		"head.gz":  func(b []byte) []byte { return b[:5] },
		"head.zst": func(b []byte) []byte { return b[:5] },
		"more.gz":  func(b []byte) []byte { return append(b, "more"...) },
	} {
		for _, more := range [][]string{nil, {"--force"}} { // which does not look for the host
			t.Run(fmt.Sprint(name, more), func(t *testing.T) {
				t.Parallel()
				path := packed(t, "r"+filepath.Ext(name), all...)
				b, err := os.ReadFile(path)
				must(t, err)
				must(t, os.WriteFile(path, damage(b), 0o600))
				s := newServer(t)
				p := play(t, 1, append(more, "--file="+path, "--target="+s.url, "--json", "--speed=max")...)
				got := s.targets()
				for _, target := range got {
					if n, err := strconv.Atoi(target[1:]); err != nil || n >= len(all) {
						t.Errorf("%q came", target)
					}
				}
				cut, whole := strings.HasPrefix(name, "cut"), strings.HasPrefix(name, "flip") || strings.HasPrefix(name, "more")
				if len(got) != len(slices.Compact(slices.Clone(got))) || cut && (len(got) < 100 || len(got) == len(all)) || whole && len(got) != len(all) {
					t.Errorf("%d of %d came", len(got), len(all))
				}
				if r := p.result(); r.Requests.Sent != int64(len(got)) || r.Requests.Read != r.Requests.Sent {
					t.Errorf("%+v", r.Requests)
				}
				last := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
				if line := last[len(last)-1]; !strings.HasPrefix(line, fmt.Sprintf("replay: read %q: ", path)) || len(last) != 2 {
					t.Errorf("it said %q", last)
				}
			})
		}
	}
}

// Each round takes its time, and nothing is lost between them.
func TestAFileThatIsPlayedAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	began := time.Now()
	p := start(t, nil, "--file="+recorded(t, entry{path: "/a"}, entry{path: "/b", at: 100 * time.Millisecond, fwd: "203.0.113.8"}), "--target="+s.url, "--loop", "--json")
	s.count(8) // of which the last is due after 4 rounds
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("4 rounds took %v", took)
	}
	if status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	r, counts := p.result(), make(map[string]int)
	for _, target := range s.targets() {
		counts[target]++
	}
	if n := counts["/a"] - counts["/b"]; n < 0 || n > 1 || r.Requests.Rounds != counts["/a"] && r.Requests.Rounds != counts["/a"]+1 || r.Ended != "interrupted" || r.Requests.Sent != int64(len(s.received())) || r.Requests.OutOfOrder > 0 {
		t.Errorf("%v came in %d rounds: %+v", counts, r.Requests.Rounds, r)
	}
}

func TestALoopAsFastAsCanBeLosesNothing(t *testing.T) {
	s := newServer(t)
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprint("/", i))
	}
	p := start(t, nil, "--file="+recorded(t, paths(all...)...), "--target="+s.url, "--loop", "--json", "--speed=max", "--concurrency=1")
	s.count(5 * len(all))
	p.end()
	for i, q := range s.received() {
		if want := all[i%len(all)]; q.target != want {
			t.Fatalf("request %d is %s, not %s", i, q.target, want)
		}
	}
	if r := p.result(); r.Requests.Rounds != (len(s.received())-1)/len(all)+1 && r.Requests.Rounds != len(s.received())/len(all)+1 {
		t.Errorf("%d requests in %d rounds", len(s.received()), r.Requests.Rounds)
	}
}

// A round that sends nothing would be followed by another one at once.
func TestALoopOfNothingEnds(t *testing.T) {
	for _, e := range []entry{{method: "POST"}, {path: "*"}, {path: "/logout"}} {
		r := play(t, 0, "--file="+recorded(t, e), "--target="+newServer(t).url, "--loop", "--json").result()
		if r.Requests.Sent != 0 || r.Requests.Rounds != 1 {
			t.Errorf("%+v", r.Requests)
		}
	}
}

// A record without a time is as old as the one before, or as the first that has one.
func TestRecordsWithoutATime(t *testing.T) {
	bare := func(path string) entry {
		return entry{raw: fmt.Sprintf(`{"id":"1","method":"GET","path":%q,"host":"h","request_id":%q,"status":200}`, path, path)}
	}
	s := newServer(t)
	p := play(t, 0, "--json", "--target="+s.url, "--file="+recorded(t, bare("/1"), bare("/2"), entry{path: "/3", at: 0}, bare("/4"), entry{path: "/5", at: 200 * time.Millisecond}, bare("/6")))
	at := make(map[string]time.Time)
	for _, q := range s.received() {
		at[q.target] = q.at
	}
	r := p.result()
	if len(at) != 6 || r.Recorded.Seconds != 0.2 || !r.Recorded.First.Equal(recordedAt) || r.Seconds < 0.2 || r.Requests.OutOfOrder > 0 {
		t.Errorf("%v, %+v", at, r)
	}
	r = play(t, 0, "--json", "--target="+s.url, "--file="+recorded(t, bare("/1"), bare("/2"))).result()
	if r.Requests.Sent != 2 {
		t.Errorf("none has a time: %+v", r.Requests)
	}
}

func TestFromAndUntilAreRecordedTimes(t *testing.T) {
	file := recorded(t, entry{path: "/0"}, entry{path: "/1", at: time.Second}, entry{path: "/2", at: 2 * time.Second}, entry{path: "/3", at: 3 * time.Second})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "/0 /1 /2 /3"},
		{[]string{"--from=beginning", "--until=end"}, "/0 /1 /2 /3"},
		{[]string{"--from", "2026-01-02T15:04:06Z"}, "/1 /2 /3"},
		{[]string{"--from", "2026-01-02T15:04:05.000001Z"}, "/1 /2 /3"},
		{[]string{"--until=2026-01-02T15:04:07Z"}, "/0 /1"},
		{[]string{"--from=2026-01-02T15:04:06Z", "--until", "2026-01-02T15:04:07.000001Z"}, "/1 /2"},
		{[]string{"--from=2026-01-02", "--until", "2026-01-03"}, "/0 /1 /2 /3"},
		{[]string{"--from=2026-01-03"}, ""},
	} {
		s := newServer(t)
		r := play(t, 0, append(tt.args, "--file="+file, "--target="+s.url, "--json", "--speed=max")...).result()
		got := strings.Join(s.targets(), " ")
		if n := int64(4 - len(s.received())); got != tt.want || r.Requests.Skipped["other_time"] != n || r.Requests.Read != 4 {
			t.Errorf("%v: %q, want %q, %+v", tt.args, got, tt.want, r.Requests)
		}
	}
}

// Production would be sent its own requests: not one of them is.
func TestARecordedHostIsNoTarget(t *testing.T) {
	for _, tt := range []struct {
		target, recorded string
		refused          bool
	}{
		{"http://127.0.0.1:PORT", "127.0.0.1", true},
		{"http://127.0.0.1:PORT", "127.0.0.1:PORT", true},
		{"http://127.0.0.1:PORT", "127.0.0.1:1", false},
		{"http://127.0.0.1:PORT", "127.0.0.11", false},
		{"http://127.0.0.1:PORT", "x.127.0.0.1", false},
		{"http://127.0.0.1:PORT", "", false},
		{"http://shop.example.com:1", "shop.example.com", true},
		{"http://SHOP.example.com.:1", "shop.Example.COM", true},
		{"http://shop.example.com:1", "Shop.Example.com.", true},
		{"http://shop.example.com:1", "shop.example.com.:1", true},
		{"https://shop.example.com", "shop.example.com:8443", true},
		{"https://shop.example.com/", "shop.example.com", true},
		{"http://[::1]:PORT", "[::1]", true},
		{"http://[::1]:PORT", "[::1]:PORT", true},
		{"http://[0:0::1]:PORT", "[::1]", true},
		{"http://[::1]:PORT", "[0:0:0:0:0:0:0:1]:PORT", true},
		{"http://[::1]:PORT", "::1", true},
		{"http://[::1]:PORT", "[::1]:1", false},
		{"http://[::1]:PORT", "[::11]", false},
		{"http://münchen.example:1", "xn--mnchen-3ya.example", true},
		{"http://[::ffff:127.0.0.1]:PORT", "127.0.0.1:PORT", true},
		{"http://shop_1.example.com:1", "shop_1.example.com", true},
	} {
		t.Run(tt.target+" "+tt.recorded, func(t *testing.T) {
			s := newServer(t)
			_, port, _ := strings.Cut(s.addr, ":")
			file := recorded(t, entry{method: "POST", host: strings.Replace(tt.recorded, "PORT", port, 1)}) // also of what would not be sent
			target := strings.Replace(tt.target, "PORT", port, 1)
			want := 0
			if tt.refused {
				want = 2
			}
			for _, more := range []string{"--json", "--dry-run"} {
				p := play(t, want, "--file="+file, "--target="+target, more)
				if tt.refused && (!p.stderr.Says("replay: TARGET: records were made by ") || !p.stderr.Says("--force\n") || p.stdout.String() != "") {
					t.Errorf("it said %s%s", &p.stdout, &p.stderr)
				}
			}
		})
	}
}

func TestARecordedHostIsFoundBeforeAnythingIsSent(t *testing.T) {
	s := newServer(t)
	lines := slices.Repeat([]string{entry{fwd: nobody}.record() + "\n"}, 10_000)
	lines = append(lines, slices.Repeat([]string{entry{at: time.Hour, fwd: nobody}.record() + "\n"}, 9_999)...) // so that those before need not be held
	lines = append(lines, entry{path: "/last", host: s.addr}.record()+"\n")
	file := packed(t, "r.zst", lines...)
	p := play(t, 2, "--file="+file, "--target="+s.url, "--speed=max", "--json")
	if n := len(s.received()); n > 0 || p.stdout.String() != "" || strings.Count(p.stderr.String(), "\n") != 2 {
		t.Errorf("%d came, and it said %s%s", n, &p.stdout, &p.stderr)
	}
	if r := play(t, 0, "--file="+file, "--target="+s.url, "--json", "--force", "--path-prefix=/last").result(); r.Requests.Sent != 1 || s.only().target != "/last" {
		t.Errorf("%+v", r.Requests)
	}
}
