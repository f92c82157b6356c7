package httpapi

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// chunked is text in chunks of n bytes.
func chunked(text string, n int) string {
	var b strings.Builder
	for len(text) > 0 {
		c := text[:min(n, len(text))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
		text = text[len(c):]
	}
	return b.String() + "0\r\n\r\n"
}

func TestEveryFormOfABodyIsTaken(t *testing.T) {
	const printed = "2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info method=GET path=\"/hello\" host=a.example.com status=200\n"
	damaged := []byte(zipped(strings.Repeat(frame(hello), 2000)))
	whole := len(damaged)
	for name, tt := range map[string]struct {
		body    string
		headers []string
		records int // at least
	}{
		"counted":                          {frame(hello, appLine, hello), nil, 2},
		"lines":                            {hello + appLine + hello, nil, 2},
		"lines of heroku logs":             {printed + printed, nil, 2},
		"an empty line in front":           {"\n" + frame(hello), nil, 1},
		"gzip":                             {zipped(frame(hello, hello)), []string{"Content-Encoding: gzip"}, 2},
		"gzip by its old name":             {zipped(frame(hello)), []string{"Content-Encoding: X-GZIP"}, 1},
		"gzip without its header":          {zipped(frame(hello, hello)), nil, 2},
		"gzip of lines":                    {zipped(hello + hello), nil, 2},
		"gzip in two members":              {zipped(frame(hello)) + zipped(frame(hello)), nil, 2},
		"gzip with garbage behind":         {zipped(frame(hello)) + "garbage", nil, 1},
		"gzip without its end":             {string(damaged[:whole-8]), nil, 1999},
		"half of gzip":                     {string(damaged[:whole/2]), nil, 500},
		"gzip with a wrong checksum":       {zipped(frame(hello))[:len(zipped(frame(hello)))-8] + "12345678", nil, 1},
		"not gzip, though its header says": {frame(hello), []string{"Content-Encoding: gzip"}, 1},
		"an encoding nobody knows":         {frame(hello), []string{"Content-Encoding: br"}, 1},
		"a content type of its own":        {frame(hello), []string{"Content-Type: application/x-logplex-1"}, 1},
		"a count too long":                 {"999 " + hello + frame(hello), nil, 2},
		"a count too short":                {"9 " + hello + frame(hello), nil, 1},
		"a count of 20 digits":             {"99999999999999999999 " + hello + frame(hello), nil, 2},
		"a wrong Msg-Count":                {frame(hello), []string{"Logplex-Msg-Count: -5"}, 1},
		"no Frame-Id, a small one":         {frame(hello), []string{"Logplex-Frame-Id: 7"}, 1},
		"NUL, colour, broken UTF-8":        {frame(line("/\x00\x1b[31m\xff\xfe")), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			d.want(200, tt.body, tt.headers...)
			got := d.records(routerTopic)
			if len(got) < tt.records {
				t.Errorf("%d records, want %d", len(got), tt.records)
			}
			for _, r := range got {
				if r.field("id") == "" {
					t.Errorf("%q", r.value)
				}
			}
			d.restsWithNothingHeld()
		})
	}
}

func TestGzipThatHoldsNothingIsRefused(t *testing.T) {
	d := open(t)
	for _, body := range []string{"\x1f\x8b", "\x1f\x8bxxxxxxxxxxxx", zipped("")[:12], zipped(""), zipped("GIF89a")} {
		d.want(400, body, "Content-Encoding: gzip")
	}
	d.counts(map[string]float64{`drain_frames_total{result="malformed"}`: 5})
}

func TestMaxBodyIsTheLargestThatIsTaken(t *testing.T) {
	const limit = 64 << 10
	d := open(t, func(s *setup) { s.MaxBody = limit })
	size := len(hello)
	fit := strings.Repeat(hello, limit/size) + strings.Repeat("\n", limit%size)
	// Four times as much, once inflated; the rest is in the last line's path.
	full := strings.Repeat(fit, inflateFactor)
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"as large", fit, 200},
		{"a byte larger", fit + "\n", 413},
		{"inflated as large", zipped(full), 200},
		{"inflated a byte larger", zipped(full + "\n"), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.in(t).want(tt.status, tt.body)
			if strings.HasPrefix(tt.name, "inflated") {
				return
			}
			w := d.in(t).dial()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%s", chunked(tt.body, 5000))
			if head := w.head(); !strings.HasPrefix(head, fmt.Sprint("HTTP/1.1 ", tt.status)) {
				t.Errorf("in chunks: %q", head)
			}
		})
	}
}

func TestChunksOfAnySizeAreRead(t *testing.T) {
	d := open(t)
	body := frame(hello, appLine, hello)
	for _, n := range []int{1, 100, 1 << 20} {
		w := d.dial()
		w.send("POST /logs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%s", chunked(body, n))
		if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Errorf("%q", head)
		}
	}
	d.counts(map[string]float64{`drain_messages_total{kind="router"}`: 6})
}

// A sender that stalls is cut off in time, whatever it says of its body, and what
// it held is given back.
func TestASlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(w *wire){
		"nothing comes": func(w *wire) { w.send("Content-Length: 60000\r\n\r\n") },
		"less comes":    func(w *wire) { w.send("Content-Length: 1000\r\n\r\n%s", frame(hello)) },
		"chunks stop":   func(w *wire) { w.send("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n") },
		"a byte a moment": func(w *wire) {
			w.send("Content-Length: 60000\r\n\r\n")
			go func() {
				for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
					_, err = io.WriteString(w, "x")
				}
			}()
		},
		"a byte a chunk": func(w *wire) {
			w.send("Transfer-Encoding: chunked\r\n\r\n")
			go func() {
				for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
					_, err = io.WriteString(w, "1\r\nx\r\n")
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t)
			w := d.dial()
			began := time.Now()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\n")
			send(w)
			if text := w.rest(); text != "" {
				t.Errorf("answered %q", text)
			}
			if took := time.Since(began); took < bodyPatience || took > bodyTime(bodyCredit)+2*time.Second {
				t.Errorf("cut off after %v", took)
			}
			eventually(t, "all is given back", func() bool { return d.budget.Used() == 0 })
			d.counts(map[string]float64{`drain_requests_total{code="closed"}`: 1, `drain_frames_total{result="refused"}`: 1})
		})
	}
}

// A body that comes slowly but fast enough is taken, though it takes longer than
// any pause may.
func TestABodyAtTheSlowestRateIsTaken(t *testing.T) {
	t.Parallel()
	d := open(t)
	body := strings.Repeat(hello, 600<<10/len(hello))
	w := d.dial()
	w.send("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", len(body))
	for len(body) > 0 { // 8 s in all
		n := min(len(body), 16<<10)
		w.send("%s", body[:n])
		body = body[n:]
		time.Sleep(210 * time.Millisecond)
	}
	if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("%q", head)
	}
}

func TestABodyThatBreaksOffLeavesNothingBehind(t *testing.T) {
	d := open(t)
	for range 20 {
		w := d.dial()
		w.send("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n%s", frame(hello))
		w.Close()
	}
	eventually(t, "all are counted", func() bool { return d.metrics()[`drain_frames_total{result="refused"}`] == 20 })
	if got := d.records(routerTopic); len(got) != 0 {
		t.Errorf("%d records of bodies that did not come whole", len(got))
	}
}

// Senders that announce much and send little do not keep the good ones out.
func TestAnAnnouncementTakesNoRoom(t *testing.T) {
	d := open(t, func(s *setup) { s.inflight, s.Hold = 16<<20, 500*time.Millisecond })
	for range 200 {
		d.dial().send("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\nhello", 4<<20)
	}
	eventually(t, "they hold something", func() bool { return d.budget.Used() >= 200*firstRoom })
	d.want(200, strings.Repeat(hello, 1000))
}

// More requests than there is room for have to wait for each other, but each of
// them gets its turn.
func TestRequestsThatWaitForRoomAllGetIt(t *testing.T) {
	for name, encode := range map[string]func(string) string{
		"plain":  func(s string) string { return s },
		"zipped": zipped,
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(s *setup) { s.inflight = 2 << 20 })
			body := encode(strings.Repeat(frame(hello), 400)) // some 100 KB
			// All bodies wait in their connections before the first is read.
			release := d.fill()
			var senders sync.WaitGroup
			for i := range 60 {
				senders.Go(func() {
					a, err := d.try("POST", "/logs", strings.NewReader(body), fmt.Sprintf("Logplex-Frame-Id: %032x", i))
					if err != nil || a.status != 200 {
						t.Errorf("request %d: %v %d %s", i, err, a.status, a.body)
					}
				})
			}
			time.AfterFunc(300*time.Millisecond, release)
			senders.Wait()
		})
	}
}

// A body that can never fit is refused at once, and keeps nobody waiting; two that
// wait for each other do not wait for long.
func TestABodyThatFindsNoRoomHarmsNoOther(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs, s.inflight, s.MaxBody = true, 16<<20, 4<<20 })
	small := func(while string) {
		t.Helper()
		for range 5 {
			began := time.Now()
			d.want(200, frame(hello), fmt.Sprintf("Logplex-Frame-Id: %032x", time.Now().UnixNano()))
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s, a small body takes %s", while, took)
			}
		}
	}
	huge := zipped(strings.Repeat("<1>x\n", 500_000)) // records of some 60 MB
	began := time.Now()
	if a := d.post(huge); a.status != 503 || !strings.Contains(a.body, "MAX_INFLIGHT") || time.Since(began) > 5*time.Second {
		t.Errorf("answered %d %s after %s", a.status, a.body, time.Since(began))
	}
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() { _, _ = d.try("POST", "/logs", strings.NewReader(zipped(strings.Repeat(appLine, 50_000)))) })
	}
	small("while large ones wait for each other")
	senders.Wait()
	small("afterwards")
}

// Time spent waiting for room is not the sender's.
func TestAWaitForRoomIsNotTheSendersTime(t *testing.T) {
	t.Parallel()
	d := open(t, func(s *setup) { s.Hold = bodyPatience + 3*time.Second })
	time.AfterFunc(bodyPatience+time.Second, d.fill())
	d.want(200, strings.Repeat(hello, 50)) // more than comes with its head
}

// Small messages make large records: what they take is bounded all the same.
func TestRecordsLargerThanTheirMessagesAreBounded(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs, s.inflight, s.Hold = true, 4<<20, time.Second })
	long := "Logplex-Drain-Token: " + strings.Repeat("d", 10_000)
	d.want(503, strings.Repeat("<1>x\n", 100_000), long)
	d.want(200, strings.Repeat("<1>x\n", 1000), long)
	for _, r := range d.records(logsTopic) {
		if len(r.value) > 1000 {
			t.Fatalf("a record of %d bytes", len(r.value))
		}
	}
}

func TestPipelinedRequestsAreAnsweredInTurn(t *testing.T) {
	d := open(t)
	w := d.dial()
	one := fmt.Sprintf("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(frame(hello)), frame(hello))
	w.send("%s", one+one+strings.Replace(one, "/logs", "/nowhere", 1)+one)
	for _, status := range []string{"200", "200", "404", "200"} {
		head := w.head()
		if !strings.HasPrefix(head, "HTTP/1.1 "+status) {
			t.Fatalf("%q, want %s", head, status)
		}
		if status == "404" {
			_, _ = w.r.ReadString('\n')
		}
	}
}
