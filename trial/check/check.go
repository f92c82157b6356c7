// Package check says what tests say most often.
package check

import (
	"net"
	"testing"
	"time"
)

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits for what happens by itself soon: 20 s at most.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Within repeats get until it succeeds.
func Within[T any](t testing.TB, limit time.Duration, what string, get func() (T, error)) T {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		v, err := get()
		if err == nil {
			return v
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

// FreePort is a port of 127.0.0.1 that nobody listens on now.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	Must(t, err)
	return port
}
