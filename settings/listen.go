package settings

import (
	"fmt"
	"net"
	"strconv"
)

// Port is the address that PORT means, as Heroku sets it, or otherwise where it is not set.
func Port(getenv func(string) (string, bool), otherwise string) (string, error) {
	port, _ := getenv("PORT")
	if port == "" {
		return otherwise, nil
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("PORT: cannot use %q: use a port number from 0 to 65535", port)
	}
	return ":" + port, nil
}

// Loopback tells whether only this machine can reach address.
func Loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Reachable is an address that works when pasted on this machine.
func Reachable(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
