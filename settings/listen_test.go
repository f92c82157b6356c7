package settings

import (
	"net"
	"strings"
	"testing"
)

func TestPort(t *testing.T) {
	for port, want := range map[string]string{"": "127.0.0.1:8090", "0": ":0", "80": ":80", "65535": ":65535"} {
		got, err := Port(func(name string) (string, bool) { return port, name == "PORT" }, "127.0.0.1:8090")
		if got != want || err != nil {
			t.Errorf("%q: %q, %v", port, got, err)
		}
	}
	for _, port := range []string{"http", "-1", "+1", "65536", " 80", "80 ", "0x50", ":80", "127.0.0.1:80", "8\n0"} {
		got, err := Port(func(string) (string, bool) { return port, true }, "127.0.0.1:8090")
		if err == nil || !strings.HasPrefix(err.Error(), "PORT: cannot use ") || !strings.Contains(err.Error(), "0 to 65535") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q, %v", port, got, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.200.0.1:80": true, "localhost:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "128.0.0.1:80": false,
		"example.com:80": false, "localhost.example.com:80": false, "127.0.0.1": false, "": false,
	} {
		if Loopback(address) != want {
			t.Errorf("%s: %t", address, !want)
		}
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:80": "127.0.0.1:80", "0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80", "[::1]:80": "[::1]:80", "192.0.2.1:80": "192.0.2.1:80"} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := Reachable(a); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
