//go:build !race

package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drain/intake"
	"drain/trial/child"
)

var framesMade atomic.Uint64

// brokerProcess is a broker whose work is not counted with this process's.
func brokerProcess(t testing.TB) (addr string) { return child.Start(t, beBroker) }

// oneRequest returns a function that posts a frame of n lines over a connection
// that is kept, and waits for its 200. It allocates nothing itself, but where it has to send the frame
// once more, as senders do: 100 lines in half a millisecond are an impatient sender's.
func oneRequest(t testing.TB, d *door, n int) func() {
	conn, err := net.Dial("tcp", d.addr)
	must(t, err)
	t.Cleanup(func() {
		if conn != nil {
			conn.Close()
		}
	})
	var messages []string
	for i := range n {
		messages = append(messages, line(fmt.Sprintf("/users/%d/orders?page=%d&token=s3cret", i*7919, i)))
	}
	body := frame(messages...)
	request := []byte(fmt.Sprintf("POST /logs HTTP/1.1\r\nHost: drain.example.com\r\nAuthorization: %s\r\n"+
		"Content-Type: application/logplex-1\r\nLogplex-Msg-Count: %d\r\n%s\r\n%s\r\nUser-Agent: Logplex/v49\r\nContent-Length: %d\r\n\r\n%s",
		strings.TrimPrefix(basic("", secret), "Authorization: "), n, frameName, drainName, len(body), body))
	name := request[bytes.Index(request, []byte(frameName))+len("Logplex-Frame-Id: "):][:32]
	var number [16]byte
	answer := make([]byte, len("HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 0\r\n\r\n"))
	return func() {
		binary.BigEndian.PutUint64(number[:], framesMade.Add(1)) // another frame each time
		hex.Encode(name, number[:])
		for tries := 1; err == nil; tries++ {
			if err = conn.SetDeadline(time.Now().Add(30 * time.Second)); err == nil {
				if _, err = conn.Write(request); err == nil {
					_, err = io.ReadFull(conn, answer)
				}
			}
			switch status := string(answer[:12]); {
			case err == nil && status == "HTTP/1.1 200":
				return
			case err == nil && (status != "HTTP/1.1 503" || tries == 3):
				err = fmt.Errorf("answered %s", answer) // and the next calls do nothing
			}
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()            // with the rest of the answer
			time.Sleep(time.Second) // Retry-After
			if conn, err = net.Dial("tcp", d.addr); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// What 100 lines cost from the connection to the commit: all of this process's
// allocations, with the broker in another process and clients that have none. A
// lone request pays for its produce request alone; those of a busy service share
// it.
func TestARequestOf100LinesCostsFewAllocations(t *testing.T) {
	for _, tt := range []struct {
		connections int
		key         intake.Key
		max         uint64
	}{{1, intake.KeyNone, 40}, {1, intake.KeyDrain, 40}, {32, intake.KeyNone, 40}} {
		d := open(t, func(s *setup) { s.kafka, s.secrets, s.Key = brokerProcess(t), secret, tt.key })
		d.known()
		posts := make([]func(), tt.connections)
		for i := range posts {
			posts[i] = oneRequest(t, d, 100)
		}
		const rounds = 100
		measure := func() uint64 {
			var before, after runtime.MemStats
			var clients sync.WaitGroup
			runtime.ReadMemStats(&before)
			for _, post := range posts {
				clients.Go(func() {
					for range rounds {
						post()
					}
				})
			}
			clients.Wait()
			runtime.ReadMemStats(&after)
			return (after.Mallocs - before.Mallocs) / uint64(rounds*len(posts))
		}
		measure() // what pools and connections take once
		allocs := measure()
		for range 4 { // what else the process does only adds to it
			allocs = min(allocs, measure())
		}
		t.Logf("%d connections, key %s: %d allocations a request", tt.connections, intake.Keys[tt.key], allocs)
		if allocs > tt.max {
			t.Errorf("%d connections, key %s: %d allocations a request, want at most %d", tt.connections, intake.Keys[tt.key], allocs, tt.max)
		}
	}
}

func BenchmarkRequestOf100Lines(b *testing.B) {
	d := open(b, func(s *setup) { s.kafka, s.secrets = brokerProcess(b), secret })
	d.known()
	post := oneRequest(b, d, 100)
	post()
	b.ReportAllocs()
	for b.Loop() {
		post()
	}
}

func BenchmarkRequestsOf100LinesAtOnce(b *testing.B) {
	d := open(b, func(s *setup) { s.kafka, s.secrets = brokerProcess(b), secret })
	d.known()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		post := oneRequest(b, d, 100)
		for pb.Next() {
			post()
		}
	})
}

// Requests that wait for their commit hold their records and nothing else: not
// their bodies, nor what these were read with.
func TestWaitingRequestsHoldLittleMoreThanTheBudgetSays(t *testing.T) {
	d := open(t)
	fault := d.refuseProduce()
	const requests = 200
	body := strings.Repeat(frame(hello), 400)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools held
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var senders sync.WaitGroup
	for i := range requests {
		senders.Go(func() {
			a, err := d.try("POST", "/logs", strings.NewReader(body), fmt.Sprintf("Logplex-Frame-Id: %032x", i))
			if err != nil || a.status != 200 {
				t.Errorf("%v %d", err, a.status)
			}
		})
	}
	eventually(t, "all wait", func() bool { return d.metrics()[`drain_messages_total{kind="router"}`] == 400*requests })
	held, used := heap()-before, d.budget.Used()
	fault.Remove()
	senders.Wait()
	t.Logf("%d bytes of the budget are %d in memory", used, held)
	if held > 2*used {
		t.Errorf("%d bytes of the budget are %d in memory", used, held)
	}
}
