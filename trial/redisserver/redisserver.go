// Package redisserver starts a real redis-server for a test: on a port of its own, without
// anything on the disk, ended with the test.
package redisserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server.
type Server struct {
	Addr string
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// Start starts one, with further arguments such as "--maxmemory 10mb". A test fails where it is
// not installed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String()}
	l.Close()
	_, port, _ := net.SplitHostPort(s.Addr)
	s.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)
	s.Run(t)
	t.Cleanup(func() { s.Kill() })
	return s
}

// Run starts it again, empty, after Kill.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v: scripts/test installs it", err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer c.Close()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c.Ping(context.Background()).Err() == nil {
			return
		}
		if time.Now().After(until) {
			s.Kill()
			t.Fatalf("redis-server does not answer: %s", s.out.String())
		}
	}
}

// Kill ends it at once.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// URL is how it is reached.
func (s *Server) URL() string { return fmt.Sprintf("redis://%s", s.Addr) }

// Client is a client of it, closed with the test.
func (s *Server) Client(t testing.TB) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	return c
}

// Freeze has it not answer, until Thaw.
func (s *Server) Freeze(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Thaw has it go on.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, which syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(which); err != nil {
		t.Fatal(err)
	}
}
