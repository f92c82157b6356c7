// Command target is the host that the tests of replay have requests sent to. It answers 200, and keeps when each request
// came; GET /-/arrivals tells of that, one line `X-Replay nanoseconds` each, and forgets it.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

type arrival struct {
	id string
	at time.Duration
}

const portion = 4096

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("http://" + listener.Addr().String())
	debug.SetGCPercent(1000) // who measures is not to be what is measured
	var mu sync.Mutex        // guards the following
	var arrivals [][]arrival // in portions: to copy a million of them takes longer than a request may be late
	began := time.Now()
	http.HandleFunc("GET /-/arrivals", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b := bufio.NewWriter(w)
		defer b.Flush()
		for _, some := range arrivals {
			for _, a := range some {
				fmt.Fprintf(b, "%s %d\n", a.id, a.at)
			}
		}
		arrivals = nil
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		at := time.Since(began)
		mu.Lock()
		last := len(arrivals) - 1
		if last < 0 || len(arrivals[last]) == portion {
			arrivals = append(arrivals, make([]arrival, 0, portion))
			last++
		}
		arrivals[last] = append(arrivals[last], arrival{r.Header.Get("X-Replay"), at})
		mu.Unlock()
		fmt.Fprintln(w, "ok")
	})
	go func() { // it ends with its parent
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, http.Serve(listener, nil))
}
