package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

// Dial makes a connection to a broker, on which nothing is left but to ask: it is secured
// and logged in, within ConnectTimeout in all. The caller closes it. Clients of both
// libraries connect by it: kafka-go waits for ever for a broker that falls silent while
// it logs in, and the errors name the broker, the step, and what to do.
func (c *Config) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err // says what and to where
	}
	conn := &connection{Conn: raw, config: c, address: address}
	if err := conn.handshakes(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// connection is one to a broker.
type connection struct {
	net.Conn
	config  *Config
	address string
	asked   atomic.Int32 // requests written; some clients read meanwhile
}

// The first requests of a connection are those for the versions, which brokers answer
// to anybody, and what a client asks next.
const firstRequests = 2

func (c *connection) Write(b []byte) (int, error) {
	if c.asked.Load() <= firstRequests {
		c.asked.Add(1)
	}
	return c.Conn.Write(b)
}

// Read reads what the broker says. In place of its first answers it may refuse us,
// which is told in words: with TLS 1.3 it is here that a client's certificate is refused.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.asked.Load() <= firstRequests {
		err = c.refused(err)
	}
	return n, err
}

// ErrLogin is in the errors of connections that failed while they logged in: brokers may
// say why, or just end the connection.
var ErrLogin = errors.New("log in to the broker")

func (c *connection) handshakes(ctx context.Context) error {
	if err := c.secure(ctx); err != nil {
		return fmt.Errorf("TLS with the broker %s: %w", c.address, err)
	}
	if c.config.SASL == nil {
		return nil
	}
	until, _ := ctx.Deadline()
	if err := c.SetDeadline(until); err != nil {
		return err
	}
	if err := c.login(ctx); err != nil {
		return fmt.Errorf("%w %s with %s as %q: %w: look at KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", ErrLogin, c.address, c.config.SASL.Mechanism, c.config.SASL.Username, err)
	}
	return c.SetDeadline(time.Time{})
}

func (c *connection) secure(ctx context.Context) error {
	if c.config.TLS == nil {
		return nil
	}
	config := c.config.TLS.Clone()
	config.ServerName, _, _ = net.SplitHostPort(c.address)
	secured := tls.Client(c.Conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return distrust(err, config.ServerName)
	}
	c.Conn = secured
	return nil
}

// distrust says what to do where a handshake failed.
func distrust(err error, host string) error {
	var (
		record    tls.RecordHeaderError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		noRoots   x509.SystemRootsError
		untrusted Untrusted
	)
	do := ""
	switch {
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded):
		do = "it may speak no TLS there: use another port, or kafka:// in KAFKA_URL"
	case errors.As(err, &name):
		do = fmt.Sprintf("correct KAFKA_URL; or, where no certificate names %s, set KAFKA_TRUSTED_CERT: then the chain is verified, and not the name", host)
	case errors.As(err, &authority) && !errors.As(err, &untrusted):
		do = "if the cluster has an authority of its own, set KAFKA_TRUSTED_CERT to that one's certificate"
	case errors.As(err, &authority):
		do = "KAFKA_TRUSTED_CERT and KAFKA_URL may be of two clusters; look at KAFKA_ADDON"
	case errors.As(err, &noRoots):
		do = "install the system's certificates (the package ca-certificates), or set KAFKA_TRUSTED_CERT"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		do = "the broker needs a new certificate, or a clock is wrong"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, do)
}

// Refused tells whether err says that broker and client refuse each other, for a
// certificate or a login: to wait does not help then.
func Refused(err error) bool {
	var (
		distrusted *tls.CertificateVerificationError
		record     tls.RecordHeaderError
		remote     *net.OpError
		untrusted  Untrusted
	)
	return errors.As(err, &distrusted) || errors.As(err, &record) || errors.As(err, &untrusted) ||
		errors.As(err, &remote) && remote.Op == "remote error" || // a TLS alert
		errors.Is(err, kafka.SASLAuthenticationFailed) || errors.Is(err, kafka.UnsupportedSASLMechanism)
}

// refused says what it may mean that the broker ended the connection so early.
func (c *connection) refused(err error) error {
	var remote *net.OpError
	switch {
	case errors.As(err, &remote) && remote.Op == "remote error": // a TLS alert
		return fmt.Errorf("TLS with the broker %s: %w: it refuses the client's certificate: %s", c.address, err, c.ownCertificate())
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		return err
	}
	var may []string
	if c.config.TLS == nil {
		may = append(may, "TLS (kafka+ssl:// in KAFKA_URL)")
	}
	if c.config.SASL == nil {
		may = append(may, "SASL (KAFKA_SASL_MECHANISM)")
	}
	if may == nil {
		return err
	}
	// kafka-go would take the words off an error that is io.EOF.
	return fmt.Errorf("the broker %s closed the connection instead of an answer: it may want %s", c.address, strings.Join(may, " or "))
}

// ownCertificate says what may be wrong with ours.
func (c *connection) ownCertificate() string {
	own := c.config.TLS.Certificates
	if len(own) == 0 {
		return "set KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"
	}
	switch leaf, now := own[0].Leaf, time.Now(); {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		return fmt.Sprintf("KAFKA_CLIENT_CERT expired on %s: set a new one with its key (on Heroku `heroku kafka:credentials --reset`)", leaf.NotAfter.UTC().Format("2006-01-02 15:04"))
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("KAFKA_CLIENT_CERT is valid from %s on only, or the clock is wrong", leaf.NotBefore.UTC().Format("2006-01-02 15:04"))
	}
	return "KAFKA_CLIENT_CERT may be another cluster's, or revoked; look at KAFKA_ADDON"
}

// mostIterations bounds the work that a broker may ask for with SCRAM: half a second.
// Kafka takes 4,096 by default, and 16,384 at most.
const mostIterations = 1_000_000

// iterations is the number in SCRAM's first message from a server (RFC 5802), 0 for others.
//
//	r=nonce,s=salt,i=4096
func iterations(message []byte) int {
	if _, number, found := bytes.Cut(message, []byte(",i=")); found {
		number, _, _ = bytes.Cut(number, []byte(","))
		if n, err := strconv.Atoi(string(number)); err == nil {
			return n
		}
		return math.MaxInt
	}
	return 0
}

// login does SASL's exchange (KIP-152): the mechanism's name, then its messages, each in a
// request of Kafka's.
func (c *connection) login(ctx context.Context) error {
	broker := protocol.NewConn(c, clientID)
	broker.SetVersions(map[protocol.ApiKey]int16{protocol.SaslHandshake: 1, protocol.SaslAuthenticate: 0})
	answer, err := broker.RoundTrip(&saslhandshake.Request{Mechanism: c.config.SASL.Mechanism})
	if err != nil {
		return err
	}
	if hello := answer.(*saslhandshake.Response); hello.ErrorCode != 0 {
		return fmt.Errorf("%w: the broker knows %q", kafka.Error(hello.ErrorCode), hello.Mechanisms)
	}
	session, message, err := c.config.SASL.mechanism.Start(ctx)
	for done := false; err == nil && !done; {
		if answer, err = broker.RoundTrip(&saslauthenticate.Request{AuthBytes: message}); err != nil {
			break
		}
		reply := answer.(*saslauthenticate.Response)
		if reply.ErrorCode != 0 {
			return fmt.Errorf("%w: %s", kafka.Error(reply.ErrorCode), reply.ErrorMessage)
		}
		if iterations(reply.AuthBytes) > mostIterations {
			return fmt.Errorf("the broker wants more than %d rounds of SCRAM", mostIterations)
		}
		done, message, err = session.Next(ctx, reply.AuthBytes)
	}
	return err
}
