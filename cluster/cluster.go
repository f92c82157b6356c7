// Package cluster turns settings into a way to reach a Kafka cluster: its
// addresses and the transport that connects to them.
package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// forms are what Addresses reads.
const forms = "kafka://host:port,…, or kafka+ssl://host:port,… for TLS"

// Addresses reads KAFKA_URL: `kafka://host:port,…`, `kafka+ssl://host:port,…` or
// plain `host:port,…`, the scheme once or before each address; secure says that it
// wants TLS. A missing port is Kafka's 9092, or 9096 as Heroku's brokers have it with
// TLS. The errors do not show the URL, in which there may be credentials.
func Addresses(url string) (addrs []string, secure bool, err error) {
	first := ""
	for part := range strings.SplitSeq(url, ",") {
		part = strings.TrimSpace(part)
		scheme, rest, found := strings.Cut(part, "://")
		switch {
		case !found:
			rest, scheme = part, first
		case scheme != "kafka" && scheme != "kafka+ssl":
			return nil, false, errors.New("unknown scheme: use " + forms)
		case first != "" && scheme != first, first == "" && len(addrs) > 0 && scheme != "kafka":
			return nil, false, errors.New("some addresses with TLS and some without: use " + forms)
		default:
			first = scheme
		}
		rest = strings.TrimSuffix(rest, "/")
		if rest == "" {
			continue
		}
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			host, port = strings.Trim(rest, "[]"), defaultPort(scheme)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !isHost(host) {
			return nil, false, fmt.Errorf("no address in %d characters: use %s", len(part), forms)
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	if len(addrs) == 0 {
		return nil, false, errors.New("no address: use " + forms)
	}
	return addrs, first == "kafka+ssl", nil
}

func defaultPort(scheme string) string {
	if scheme == "kafka+ssl" {
		return "9096"
	}
	return "9092"
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
	// TLS is how connections are secured, nil for not.
	TLS *tls.Config
	// SASL is how to log in, nil for not.
	SASL *SASL
	// Prefix is put before the names of topics and groups, as it stands.
	Prefix string
}

// ConnectTimeout bounds one connection with its handshakes. It is short because
// a request that waits for it has little more than four seconds.
const ConnectTimeout = 2 * time.Second

// Addr is the bootstrap address in kafka-go's form.
func (c *Config) Addr() net.Addr { return kafka.TCP(c.Addresses...) }

// Transport makes a transport of one client. It asks for metadata twice a second
// on average, so that a leader that moved is found soon.
func (c *Config) Transport() *kafka.Transport {
	return &kafka.Transport{
		Dial:           c.Dial,
		DialTimeout:    ConnectTimeout,
		IdleTimeout:    5 * time.Minute,
		MetadataTTL:    time.Second,
		MetadataTopics: c.Topics,
		ClientID:       clientID,
	}
}

// clientID is what brokers know drain by, in their logs and quotas.
const clientID = "drain"
