// Package cluster turns settings into a way to reach a Kafka cluster: its
// addresses and the transport that connects to them.
package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// Addresses reads KAFKA_URL: `kafka://host:port,…` or plain `host:port,…`, the
// scheme once or before each address. A missing port is Kafka's 9092. The errors
// do not show the URL, in which there may be credentials.
func Addresses(url string) ([]string, error) {
	var addrs []string
	for part := range strings.SplitSeq(url, ",") {
		part = strings.TrimSpace(part)
		scheme, rest, found := strings.Cut(part, "://")
		switch {
		case !found:
			rest = part
		case scheme == "kafka+ssl":
			return nil, fmt.Errorf("kafka+ssl:// is not supported yet: use kafka://host:port")
		case scheme != "kafka":
			return nil, fmt.Errorf("unknown scheme: use kafka://host:port,…")
		}
		rest = strings.TrimSuffix(rest, "/")
		if rest == "" {
			continue
		}
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			host, port = strings.Trim(rest, "[]"), "9092"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !isHost(host) {
			return nil, fmt.Errorf("no address in %d characters: use kafka://host:port,…", len(part))
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("no address: use kafka://host:port,…")
	}
	return addrs, nil
}

// isHost tells whether host is a name or an address.
func isHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	strange := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_", c))
	}
	return host != "" && !strings.ContainsFunc(host, strange)
}

// Config is how to reach a cluster.
type Config struct {
	// Addresses are the bootstrap brokers, `host:port`.
	Addresses []string
	// Topics are those whose metadata is asked for. Without them kafka-go asks
	// for all that the cluster has.
	Topics []string
}

// ConnectTimeout bounds one connection with its handshakes. It is short because
// a request that waits for it has little more than four seconds.
const ConnectTimeout = 2 * time.Second

// Addr is the bootstrap address in kafka-go's form.
func (c *Config) Addr() net.Addr { return kafka.TCP(c.Addresses...) }

// Transport makes a transport of one client. It asks for metadata twice a second
// on average, so that a leader that moved is found soon.
func (c *Config) Transport() *kafka.Transport {
	dialer := &net.Dialer{Timeout: ConnectTimeout}
	return &kafka.Transport{
		Dial:           dialer.DialContext,
		DialTimeout:    ConnectTimeout,
		IdleTimeout:    5 * time.Minute,
		MetadataTTL:    time.Second,
		MetadataTopics: c.Topics,
		ClientID:       "drain",
	}
}
