package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"drain/replay"
	"drain/trial/journal"
)

// shown is what a terminal of 80 columns shows after text: its lines, the last one that of the cursor.
func shown(text string) (lines []string) {
	line, column := []rune(nil), 0
	end := func() {
		lines = append(lines, strings.TrimRight(string(line), " "))
		line, column = nil, 0
	}
	for _, c := range colours.ReplaceAllString(text, "") {
		switch {
		case c == '\n':
			end()
			continue
		case c == '\r':
			column = 0
			continue
		case column == 80:
			end()
		}
		for len(line) <= column {
			line = append(line, ' ')
		}
		line[column] = c
		column++
	}
	end()
	return lines
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

func aRequest(at time.Duration, late time.Duration, f replay.Failure) *replay.Sent {
	return &replay.Sent{Request: &replay.Request{Time: recordedAt.Add(at).UnixMicro()}, Late: late, Outcome: replay.Outcome{Failure: f}}
}

func TestTheBarAndTheLogKeepOutOfEachOthersLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out journal.Journal
		s := newScreen(&out, true)
		s.show(func() (all, read int64) { return 1000, 300 })
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := range 20 {
					time.Sleep(time.Duration(90+w) * time.Millisecond)
					fmt.Fprintf(s, "line %d of %d, which is longer than the bar is, that it would have to overwrite\n", i, w)
				}
			})
		}
		for i := range 1_234 {
			s.sent(aRequest(time.Duration(i)*time.Second, 0, replay.Answered))
		}
		s.sent(aRequest(0, 6*time.Millisecond, replay.TimedOut))
		s.sent(aRequest(0, 5*time.Millisecond, replay.Answered))
		writers.Wait()
		time.Sleep(redraw)
		synctest.Wait()
		lines := shown(out.String())
		if bar := lines[len(lines)-1]; !regexp.MustCompile(`^1,236 sent, 0/s, 1 late, 1 failed +30% \|█+ +\|  \[\ds\]$`).MatchString(bar) {
			t.Errorf("the bar is %q", bar)
		}
		if !strings.Contains(out.String(), "1,236 sent, 6180/s") {
			t.Error("the rate was not told")
		}
		s.close()
		fmt.Fprintln(s, "afterwards")
		lines = shown(out.String())
		if len(lines) != 62 || lines[60] != "afterwards" || lines[61] != "" {
			t.Errorf("%d lines, %q", len(lines), lines)
		}
		for _, line := range lines[:60] {
			if !regexp.MustCompile(`^line \d+ of \d, which is longer than the bar is, that it would have to overwrite$`).MatchString(line) {
				t.Errorf("%q", line)
			}
		}
	})
}

func TestWhatTheBarHasRoomFor(t *testing.T) {
	const at, text = "2026-01-02T15:04:05Z", "1,234 sent, 1/s, 0 late, 0 failed"
	for room, want := range map[int]string{-20: "", 0: "", 10: "1,234 sent", 47: text, len(at+text+"  ") - 1: text, len(at + text + "  "): at + "  " + text, 200: at + "  " + text} {
		if got := fitting(room, at, text); got != want {
			t.Errorf("%d: %q", room, got)
		}
	}
}

// Without a terminal it is a line of the log every 10 s.
func TestProgressInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out journal.Journal
		s := newScreen(&out, false)
		s.log = new(config).log.Logger(s)
		var all, read atomic.Int64
		s.show(func() (int64, int64) { return all.Load(), read.Load() })
		tells := func(after time.Duration, want string) {
			t.Helper()
			before := len(out.String())
			time.Sleep(after)
			synctest.Wait()
			if got := out.String()[before:]; want == "" && got != "" || want != "" && (!strings.HasSuffix(got, " level=INFO msg=replays "+want+"\n") || strings.Count(got, "\n") != 1) {
				t.Errorf("it says %q, want %s", got, want)
			}
		}
		tells(9_999*time.Millisecond, "")
		tells(time.Millisecond, "recorded=- sent=0 per_second=0 late=0 no_answer=0")
		for range 50 {
			s.sent(aRequest(0, 0, replay.Answered))
		}
		s.sent(aRequest(time.Second, time.Second, replay.Reset))
		all.Store(400)
		read.Store(100)
		tells(10*time.Second, "recorded=2026-01-02T15:04:06Z sent=51 per_second=5 late=1 no_answer=1 of=25.0%")
		tells(10*time.Second, "recorded=2026-01-02T15:04:06Z sent=51 per_second=0 late=1 no_answer=1 of=25.0%")
		s.close()
		tells(time.Minute, "")
	})
}

// All but the report goes to standard error, on a terminal, too.
func TestOnlyTheReportIsOnStandardOutput(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on("/slow", func(c net.Conn, q *received) bool {
		time.Sleep(2 * redraw)
		return status(200)(c, q)
	})
	file := recorded(t, paths("/fast", "/slow")...)
	begins := func(text string) func(string) bool {
		return func(out string) bool { return strings.HasPrefix(out, text) && strings.Contains(out, "GET /slow") }
	}
	for _, tt := range []struct {
		args []string
		is   func(string) bool
		bar  bool
	}{
		{nil, begins(file + " to " + s.url + ", speed 1\n\n"), true},
		{[]string{"--json"}, oneObject, true},
		{[]string{"--dry-run"}, begins("would send 2 of 2 records of " + file + " to " + s.url + " in 1ms, 2 in the busiest second\n"), false},
		{[]string{"--dry-run", "--json"}, oneObject, false},
	} {
		for _, terminal := range []bool{false, true} {
			p := startOn(t, terminal, nil, append(tt.args, "--file="+file, "--target="+s.url)...)
			if status := p.wait(); status != 0 || !tt.is(p.stdout.String()) {
				t.Errorf("exit status %d, %q: %s", status, tt.args, &p.stdout)
			}
			if bar := p.stderr.Says(" sent, "); bar != (terminal && tt.bar) {
				t.Errorf("on a terminal %v, %q: a bar is %v", terminal, tt.args, bar)
			}
			want := `^time=\S+ level=INFO msg="?replay.* from=`
			if terminal {
				want = `^\d\d:\d\d:\d\d\.\d{3} INF replay.* from=`
			}
			if lines := shown(p.stderr.String()); !regexp.MustCompile(want).MatchString(strings.Join(lines, "")) || lines[len(lines)-1] != "" || strings.Contains(strings.Join(lines, ""), "|") {
				t.Errorf("on a terminal %v, %q: it leaves %q", terminal, tt.args, lines)
			}
		}
	}
}

// oneObject tells whether out is one JSON object, in a line.
func oneObject(out string) bool {
	d := json.NewDecoder(strings.NewReader(out))
	var object map[string]any
	return d.Decode(&object) == nil && len(object) > 5 && d.Decode(&object) == io.EOF && strings.Count(out, "\n") == 1
}

// What is about to happen is said before it does.
func TestTheDenyListIsShownAtTheStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on("/", hangs)
	p := start(t, vars{"SECRET_HEADERS": "X-Key: swordfish"}, "--file="+recorded(t, entry{}), "--target="+s.url, "--deny=default", "--deny=/admin", "--header=X-A: 1", "--timeout=1s")
	s.count(1)
	if want := `concurrency=128 headers=X-A,X-Key deny="` + strings.Join(replay.DefaultDeny, " ") + ` /admin"`; !p.stderr.Says(want) || p.stderr.Says("swordfish") {
		t.Errorf("it says %s, not %s", &p.stderr, want)
	}
	p.end()
}

func TestTheReportAsAPage(t *testing.T) {
	s := newServer(t)
	s.on("/b", status(500))
	page := written(t, "page.html", "what was there")
	p := play(t, 0, "--file="+recorded(t, paths("/a", "/b", "/<script>")...), "--target="+s.url, "--html="+page)
	b, err := os.ReadFile(page)
	must(t, err)
	text := string(b)
	for _, want := range []string{s.url, "/b", "200→500 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not show %s", want)
		}
	}
	if !strings.HasPrefix(strings.ToLower(text), "<!doctype html>") || strings.Contains(text, "/<script>") || strings.Contains(text, "what was there") || regexp.MustCompile(`(src|href)="?(https?:)?//`).MatchString(text) || !utf8.ValidString(text) {
		t.Errorf("%.300s", text)
	}
	if !p.stdout.Says("ROUTE") {
		t.Errorf("the text is missing: %s", &p.stdout)
	}
	if p := play(t, 0, "--file="+recorded(t, entry{}), "--target="+s.url, "--html="+page, "--json"); !oneObject(p.stdout.String()) {
		t.Errorf("%s", &p.stdout)
	}
}

// The replay was not for nothing if its page has no place any more.
func TestAReportThatCannotBeWritten(t *testing.T) {
	s := newServer(t)
	args := []string{"--file=" + recorded(t, paths("/a", "/b")...), "--target=" + s.url}
	p := play(t, 1, append(args, "--html=/dev/full")...)
	if !p.stderr.Says("\nreplay: write \"/dev/full\": no space left on device\n") || !p.stdout.Says("sent      2 of 2 records") {
		t.Errorf("it said %s%s", &p.stdout, &p.stderr)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	for _, more := range []string{"--html=" + filepath.Join(t.TempDir(), "page"), "--json", "--dry-run"} {
		err := run(t.Context(), append(args, more), environ{vars{}.Lookup, full, new(journal.Journal), false})
		if err == nil || !strings.Contains(err.Error(), "no space left") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", more, err)
		}
	}
}

func TestTheExitStatusTellsOfDifferences(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on("/differs", status(500))
	s.on("/slow", func(c net.Conn, q *received) bool {
		time.Sleep(200 * time.Millisecond)
		return status(200)(c, q)
	})
	var entries []entry
	for i := range 100 {
		e := entry{path: "/same", fwd: nobody, id: fmt.Sprint(i), service: 9000}
		switch {
		case i < 2:
			e.path = "/differs"
		case i < 32:
			e.path, e.service = "/slow", 1
		}
		entries = append(entries, e)
	}
	args := []string{"--target=" + s.url, "--json", "--file=" + recorded(t, entries...)}
	for _, tt := range []struct {
		args []string
		why  string // of status 1
	}{
		{nil, ""},
		{[]string{"--fail-on-diff=1%"}, "2.0% of the answers differ, more than 1.0%"},
		{[]string{"--fail-on-diff=2%"}, ""},
		{[]string{"--fail-on-diff=0"}, "2.0% of the answers differ, more than 0%"},
		{[]string{"--fail-on-diff=100%"}, ""},
		{[]string{"--fail-on-slower"}, "GET /slow is slower"},
		{[]string{"--fail-on-slower", "--path-prefix=/same"}, ""},
		{[]string{"--fail-on-slower", "--fail-on-diff=0.01"}, "2.0% of the answers differ, more than 1.0%; GET /slow is slower"},
		{[]string{"--fail-on-diff=0", "--path-prefix=/nowhere"}, "nothing was sent, so nothing was compared"},
	} {
		t.Run(fmt.Sprint(tt.args), func(t *testing.T) {
			want := 0
			if tt.why != "" {
				want = 1
			}
			p := play(t, want, append(tt.args, args...)...)
			if r := p.result(); r.Verdict.Failed != (want == 1) || strings.Join(r.Verdict.Why, "; ") != tt.why {
				t.Errorf("%+v", r.Verdict)
			}
			if want == 1 != strings.HasSuffix(p.stderr.String(), "\nreplay: "+tt.why+"\n") || strings.Count(p.stderr.String(), "\n") != 1+want {
				t.Errorf("it says %s", &p.stderr)
			}
		})
	}
}

func TestADryRunSendsNothing(t *testing.T) {
	s := newServer(t)
	entries := append(paths("/users/1", "/users/2", "/é\x1b"), entry{path: "/late", at: 10 * time.Second}, entry{path: "/logout"})
	file := recorded(t, entries...)
	p := play(t, 0, "--dry-run", "--file="+file, "--target="+s.url, "--speed=2")
	if want := fmt.Sprintf("would send 4 of 5 records of %s to %s in 5s, 3 in the busiest second\n  not 1: denied\nrecorded from 2026-01-02T15:04:05Z to 2026-01-02T15:04:15Z\n\n", file, s.url) +
		"+0.000s  GET /users/1    r-0\n+0.001s  GET /users/2    r-1\n+0.001s  GET /%C3%A9%1B  r-2\n+5.000s  GET /late       r-1\n\n" +
		"ROUTE           REQUESTS\nGET /users/:id  2\n"; !strings.HasPrefix(p.stdout.String(), want) {
		t.Errorf("it says\n%s, want\n%s", &p.stdout, want)
	}
	play(t, 0, "--dry-run", "--file="+file, "--target="+s.url, "--json")
	if p := play(t, 0, "--dry-run", "--file="+file); !p.stdout.Says("records of " + file + " to a target in 10s") {
		t.Errorf("%s", &p.stdout)
	}
	if len(s.received()) > 0 || s.accepted() > 0 {
		t.Errorf("%d connections, %q", s.accepted(), s.targets())
	}
}

// Ctrl-C ends the wait for what is due later at once, and for answers after 5 s.
func TestAStop(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on("/hangs", hangs)
	p := start(t, nil, "--file="+recorded(t, paths("/a", "/hangs", "/hangs?2")...), "--target="+s.url, "--json", "--timeout=10m")
	q := start(t, nil, "--file="+recorded(t, entry{path: "/b"}, entry{path: "/c", at: time.Hour}), "--target="+s.url, "--json", "--max-gap=0")
	s.count(4)
	eventually(t, "an answer", func() bool { return s.answered() == 2 })
	began := time.Now()
	if status, r := q.end(), q.result(); time.Since(began) > 3*time.Second || status != 0 || r.Ended != "interrupted" || r.Requests.Sent != 1 {
		t.Errorf("with nothing under way: exit status %d after %v, %+v", status, time.Since(began), r.Requests)
	}
	began = time.Now()
	status := p.end()
	if took := time.Since(began); took < 4*time.Second || took > 10*time.Second || status != 0 {
		t.Errorf("exit status %d after %v", status, took)
	}
	if r := p.result(); r.Ended != "interrupted" || r.Requests.Sent != 1 || r.Requests.Stopped != 2 || r.Compared.NoAnswer > 0 {
		t.Errorf("%+v, %+v", r.Requests, r.Compared)
	}
}

// A target that is down for a while is left alone, and then the rest is sent.
func TestAPauseIsTold(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.on("/down", status(503))
	entries := make([]entry, 0, 100)
	for i := range 100 {
		e := entry{path: "/down", fwd: nobody}
		if i >= 50 {
			e.path, e.at = "/up", 300*time.Millisecond
		}
		entries = append(entries, e)
	}
	p := play(t, 0, "--file="+recorded(t, entries...), "--target="+s.url, "--json")
	if r := p.result(); r.Requests.Sent != 100 || r.Pauses.Times != 1 || r.Pauses.Seconds < 0.5 || r.Compared.Same != 50 {
		t.Errorf("%+v, %+v, %+v", r.Requests, r.Pauses, r.Compared)
	}
	if text := p.stderr.String(); strings.Count(text, `msg="the target fails: the replay pauses until it answers again" target=`+s.url) != 1 || strings.Count(text, `msg="the replay goes on"`) != 1 {
		t.Errorf("it says %s", text)
	}
}
