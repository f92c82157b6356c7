package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const secret = "correct-horse-battery"

// zipped is text as gzip.
func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func TestEveryAnswerOfTheContract(t *testing.T) {
	d := open(t, func(s *setup) { s.MaxBody = 64 << 10; s.secrets = secret })
	auth := "Authorization: Bearer " + secret
	large := strings.Repeat(frame(hello), 64<<10/len(frame(hello))+1)
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		text                     string
	}{
		{"a frame", "POST", "/logs", frame(hello), []string{auth}, 200, ""},
		{"a frame with an app", "POST", "/logs/shop", frame(hello), []string{auth}, 200, ""},
		{"a path that ends in a slash", "POST", "/logs/", frame(hello), []string{auth}, 200, ""},
		{"no router line", "POST", "/logs", frame(appLine, notice), []string{auth}, 200, ""},
		{"a bad line among good ones", "POST", "/logs", frame(hello, "<999>nonsense\n", hello), []string{auth}, 200, ""},
		{"lines without counts", "POST", "/logs", hello + hello, []string{auth}, 200, ""},
		{"lines of heroku logs", "POST", "/logs", "2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info status=200\n", []string{auth}, 200, ""},
		{"any content type", "POST", "/logs", frame(hello), []string{auth, "Content-Type: image/png"}, 200, ""},
		{"gzip", "POST", "/logs", zipped(frame(hello)), []string{auth, "Content-Encoding: gzip"}, 200, ""},
		{"nothing known", "POST", "/logs", "GIF89a and so on", []string{auth}, 400, "nothing in the body"},
		{"an empty body", "POST", "/logs", "", []string{auth}, 400, "the body is empty"},
		{"no credentials", "POST", "/logs", frame(hello), nil, 401, "credentials"},
		{"wrong credentials", "POST", "/logs", frame(hello), []string{auth + "r"}, 401, "credentials"},
		{"another path", "POST", "/log", frame(hello), []string{auth}, 404, "/logs"},
		{"an app that ends in a slash", "POST", "/logs/shop/", frame(hello), []string{auth}, 200, ""},
		{"a path too many", "POST", "/logs/a/b", frame(hello), []string{auth}, 404, "/logs"},
		{"another method", "PUT", "/logs", frame(hello), []string{auth}, 405, "POST"},
		{"a method nobody knows", "BREW", "/logs/shop", "", []string{auth}, 405, "POST"},
		{"a body too large", "POST", "/logs", large, []string{auth}, 413, "MAX_BODY"},
		{"a bomb", "POST", "/logs", zipped(strings.Repeat(large, 5)), []string{auth}, 413, "MAX_BODY"},
		{"headers too large", "POST", "/logs", frame(hello), []string{auth, "X-Long: " + strings.Repeat("x", 32<<10)}, 431, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := d.in(t).do(tt.method, tt.path, strings.NewReader(tt.body), tt.headers...)
			if a.status != tt.status || !strings.Contains(a.body, tt.text) {
				t.Fatalf("answered %d %q, want %d %q", a.status, a.body, tt.status, tt.text)
			}
			if n := strings.Count(a.body, "\n"); a.status/100 == 4 && a.status != 431 && (n != 1 || !strings.HasSuffix(a.body, "\n")) {
				t.Errorf("%q is not one line", a.body)
			}
			if allow := a.header.Get("Allow"); a.status == 405 && allow != "POST" {
				t.Errorf("allows %q", allow)
			}
		})
	}
}

// The sender's parser understands Content-Length only.
func TestTheAnswer200IsAsTheSenderWantsIt(t *testing.T) {
	w := open(t).dial()
	for range 2 { // and the connection is kept
		w.send("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(frame(hello)), frame(hello))
		if head := w.head(); !regexp.MustCompile(`^HTTP/1\.1 200 OK\r\nDate: [^\r]+ GMT\r\nContent-Length: 0\r\n\r\n$`).MatchString(head) {
			t.Fatalf("%q", head)
		}
	}
}

func TestWrongCredentialsAreRefusedBeforeAnyOfTheBody(t *testing.T) {
	t.Parallel()
	d := open(t, func(s *setup) { s.secrets = secret })
	for name, header := range map[string]string{
		"length":          "Content-Length: 100000\r\n",
		"more than given": "Content-Length: 100000000\r\n",
		"expect":          "Content-Length: 100000\r\nExpect: 100-continue\r\n",
		"chunked":         "Transfer-Encoding: chunked\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := d.in(t).dial()
			began := time.Now()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer wrong\r\n%s\r\n", header)
			if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 401 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
				t.Errorf("%q", head)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("answered after %v", took)
			}
			w.rest()
			if took := time.Since(began); took > bodyPatience+3*time.Second {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// What has no answer of its own is not waited for either.
func TestABodyThatNobodyWantsHoldsNoConnection(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, line := range []string{"POST /nowhere", "PUT /logs", "GET /healthz"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			w := d.in(t).dial()
			began := time.Now()
			w.send("%s HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", line)
			w.rest()
			if took := time.Since(began); took > bodyPatience+3*time.Second {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

func TestABodyTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(w *wire){
		"by its length, unread": func(w *wire) { w.send("Content-Length: 65537\r\n\r\n") },
		"expecting":             func(w *wire) { w.send("Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n") },
		"in chunks without end": func(w *wire) {
			w.send("Transfer-Encoding: chunked\r\n\r\n")
			go func() { // until the server has had enough
				for err := error(nil); err == nil; {
					_, err = io.WriteString(w, "400\r\n"+strings.Repeat("x", 1024)+"\r\n")
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, func(s *setup) { s.MaxBody = 64 << 10 })
			w := d.dial()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\n")
			send(w)
			if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 413 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
				t.Errorf("%q", head)
			}
			w.rest()
		})
	}
}

// silentBroker takes connections and says nothing.
func silentBroker(t *testing.T) (addr string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-ended })
	return listener.Addr().String()
}

// refuseProduce makes the broker refuse all batches until the returned function is
// called.
func (d *door) refuseProduce() *kfake.FaultHandle {
	return d.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
}

func TestWithoutACommitTheAnswerIs503(t *testing.T) {
	t.Parallel()
	const hold = 300 * time.Millisecond
	for name, make := range map[string]func(t *testing.T) *door{
		"a broker that never answers": func(t *testing.T) *door {
			return open(t, func(s *setup) { s.Hold, s.kafka = hold, silentBroker(t) })
		},
		"a broker that refuses": func(t *testing.T) *door {
			d := open(t, func(s *setup) { s.Hold = hold })
			d.t.Cleanup(d.refuseProduce().Remove)
			return d
		},
		"no room": func(t *testing.T) *door {
			d := open(t, func(s *setup) { s.Hold = hold })
			t.Cleanup(d.fill())
			return d
		},
		"a stop": func(t *testing.T) *door {
			d := open(t, func(s *setup) { s.Hold = hold })
			must(t, d.publisher.Shutdown(t.Context()))
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := make(t)
			began := time.Now()
			a := d.post(frame(hello))
			if a.status != 503 || a.header.Get("Retry-After") != "1" || strings.Count(a.body, "\n") != 1 {
				t.Errorf("answered %d %v %q", a.status, a.header, a.body)
			}
			if took := time.Since(began); took > hold+time.Second {
				t.Errorf("answered after %v", took)
			}
			// A sender that takes any status for delivered gets none.
			w := d.dial()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\nUser-Agent: log-shuttle/0.18\r\nContent-Length: %d\r\n\r\n%s", len(frame(hello)), frame(hello))
			if text := w.rest(); text != "" {
				t.Errorf("log-shuttle was answered %q", text)
			}
			d.counts(map[string]float64{
				`drain_requests_total{code="503"}`: 1, `drain_requests_total{code="closed"}`: 1,
				`drain_frames_total{result="refused"}`: 2, `drain_frames_total{result="committed"}`: 0,
			})
		})
	}
}

func TestWhatWasAnswered503IsCommittedLater(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = 200 * time.Millisecond })
	fault := d.refuseProduce()
	d.want(503, frame(hello), frameName, drainName)
	fault.Remove()
	eventually(t, "the record is committed", func() bool { return d.metrics()["drain_recovered_total"] == 1 })
	if n := len(d.records(routerTopic)); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestARequestWaitsForRoom(t *testing.T) {
	d := open(t)
	release := d.fill()
	answered := make(chan answer, 1)
	go func() { answered <- d.post(frame(hello)) }()
	select {
	case a := <-answered:
		t.Errorf("answered %d without room", a.status)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if a := <-answered; a.status != 200 {
		t.Errorf("answered %d with room", a.status)
	}
}

func TestQueuedAnswersBeforeTheCommit(t *testing.T) {
	d := open(t, func(s *setup) { s.Queued = true })
	fault := d.refuseProduce()
	d.want(200, frame(hello, hello))
	must(t, fault.Wait(t.Context(), 1))
	d.counts(map[string]float64{
		`drain_frames_total{result="queued"}`:                    1,
		`drain_records_total{result="committed",topic="router"}`: 0,
	})
	fault.Remove()
	eventually(t, "the records are committed", func() bool {
		return d.metrics()[`drain_records_total{result="committed",topic="router"}`] == 2
	})
	d.counts(map[string]float64{"drain_recovered_total": 0})
}

func TestReadiness(t *testing.T) {
	d := open(t)
	eventually(t, "ready", func() bool { return d.do("GET", "/readyz", nil).status == 200 })
	if a := d.do("HEAD", "/readyz", nil); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	d.publisher.Unready()
	if a := d.do("GET", "/readyz", nil); a.status != 503 || !strings.Contains(a.body, "stopping") {
		t.Errorf("answered %d %q", a.status, a.body)
	}
	if a := d.do("GET", "/healthz", nil); a.status != 200 {
		t.Errorf("not healthy while it lives: %d", a.status)
	}
	d.want(200, frame(hello)) // a request under way ends well
	silent := open(t, func(s *setup) { s.kafka = silentBroker(t) })
	if a := silent.do("GET", "/readyz", nil); a.status != 503 || strings.Count(a.body, "\n") != 1 {
		t.Errorf("answered %d %q", a.status, a.body)
	}
}

// A wait that is longer than the time a body may take is not cut short by it.
func TestTheBodysDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	d := open(t, func(s *setup) { s.Hold = bodyPatience + 3*time.Second })
	fault := d.refuseProduce()
	w := d.dial()
	began := time.Now()
	for range 2 { // nor is the next request on the connection
		w.send("POST /logs HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(frame(hello)), frame(hello))
		time.AfterFunc(bodyPatience+500*time.Millisecond-time.Since(began), fault.Remove)
		if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Fatalf("%q after %v", head, time.Since(began))
		}
	}
	if took := time.Since(began); took < bodyPatience {
		t.Errorf("answered after %v: nothing was waited for", took)
	}
}

func TestWhoeverHangsUpIsNotWaitedFor(t *testing.T) {
	d := open(t, func(s *setup) { s.Hold = time.Hour })
	fault := d.refuseProduce()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", "http://"+d.addr+"/logs", strings.NewReader(frame(hello)))
	go func() {
		_ = fault.Wait(t.Context(), 1)
		cancel()
	}()
	if _, err := d.client.Do(r); err == nil {
		t.Fatal("answered")
	}
	eventually(t, "the request ends", func() bool { return d.metrics()[`drain_frames_total{result="refused"}`] == 1 })
	fault.Remove()
	eventually(t, "its record is committed all the same", func() bool { return d.metrics()["drain_recovered_total"] == 1 })
}

// Heads that a front of drain may read in another way than drain.
func TestOneRequestIsNotTwo(t *testing.T) {
	inner := "POST /logs/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: " + strconv.Itoa(len(frame(hello))) + "\r\n\r\n" + frame(hello)
	for name, head := range map[string]string{
		"two lengths":           "Content-Length: 5\r\nContent-Length: 6\r\n",
		"a list of lengths":     "Content-Length: 5, 6\r\n",
		"a negative length":     "Content-Length: -1\r\n",
		"a length with a sign":  "Content-Length: +5\r\n",
		"a length of 20 digits": "Content-Length: 99999999999999999999\r\n",
		"an unknown encoding":   "Transfer-Encoding: xchunked\r\n",
		"chunked, then not":     "Transfer-Encoding: chunked, identity\r\n",
		"a space in the name":   "Content-Length : 5\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			w := d.dial()
			w.send("POST /logs HTTP/1.1\r\nHost: h\r\n%s\r\nhello%s", head, inner)
			w.rest()
			if got := d.records(routerTopic); len(got) != 0 {
				t.Errorf("the inner request was taken: %v", got)
			}
		})
	}
}
