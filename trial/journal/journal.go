// Package journal keeps what a program says while others read it, for tests and
// measurements.
package journal

import (
	"bytes"
	"strings"
	"sync"
)

// Journal is a log that can be read while it is written. The zero Journal is empty.
type Journal struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write takes more of it.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// String is all of it so far.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// Says tells whether text stands in it.
func (j *Journal) Says(text string) bool { return strings.Contains(j.String(), text) }
