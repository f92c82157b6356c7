package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"drain/trial/authority"
)

// ask asks a cluster for its topics, once by each of so many connections.
func ask(t *testing.T, at Config, times int) (err error) {
	t.Helper()
	for range times {
		transport := at.Transport()
		client := &kafka.Client{Addr: at.Addr(), Transport: transport}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = client.Metadata(ctx, &kafka.MetadataRequest{})
		cancel()
		transport.CloseIdleConnections()
		if err != nil {
			return err
		}
	}
	return nil
}

func login(t *testing.T, mechanism, user, password string) *SASL {
	t.Helper()
	s, err := NewSASL(mechanism, user, password)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSASL_logsInOnEveryConnection(t *testing.T) {
	const password = "swordfish-of-sixteen"
	for _, mechanism := range Mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(8, "router"), kfake.EnableSASL(), kfake.Superuser(mechanism, "drain", password))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := ask(t, Config{Addresses: c.ListenAddrs(), SASL: login(t, mechanism, "drain", password)}, 3); err != nil {
				t.Error(err)
			}
			for what, wrong := range map[string]*SASL{
				"another user":     login(t, mechanism, "other", password),
				"another password": login(t, mechanism, "drain", password+"!"),
			} {
				err := ask(t, Config{Addresses: c.ListenAddrs(), SASL: wrong}, 1)
				if err == nil || !strings.Contains(err.Error(), "log in to the broker 127.0.0.1:") || strings.Contains(err.Error(), password) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := ask(t, Config{Addresses: c.ListenAddrs()}, 1); err == nil || !strings.Contains(err.Error(), "KAFKA_SASL_MECHANISM") {
				t.Errorf("no login: %v", err)
			}
		})
	}
	// A mechanism that the brokers do not have.
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "drain", password))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = ask(t, Config{Addresses: c.ListenAddrs(), SASL: login(t, "SCRAM-SHA-512", "drain", password)}, 1)
	if err == nil || !strings.Contains(err.Error(), "log in") {
		t.Error(err)
	}
}

func TestSASL_saysWhichSettingIsWrongAndShowsNoPassword(t *testing.T) {
	const loot = "swordfish"
	for _, test := range []struct{ mechanism, user, password, says string }{
		{"", "u", "", "KAFKA_SASL_MECHANISM: not set"},
		{"", "", loot, "KAFKA_SASL_MECHANISM: not set"},
		{"PLAIN", "", loot, "KAFKA_SASL_USERNAME: not set"},
		{"PLAIN", "u", "", "KAFKA_SASL_PASSWORD: not set"},
		{"plain", "u", loot, `KAFKA_SASL_MECHANISM: cannot use "plain"`},
		{"GSSAPI", "u", loot, `KAFKA_SASL_MECHANISM: cannot use "GSSAPI"`},
		{"PLAIN", "u", loot + "\x00", "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"},
		{"SCRAM-SHA-256", "u", loot + "\x07", "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"},
	} {
		_, err := NewSASL(test.mechanism, test.user, test.password)
		if err == nil || !strings.HasPrefix(err.Error(), test.says) || strings.Contains(err.Error(), loot) {
			t.Errorf("%v, want %s", err, test.says)
		}
	}
	if s, err := NewSASL("", "", ""); s != nil || err != nil {
		t.Error(s, err)
	}
}

// A broker that takes a connection and says nothing holds nobody for longer than
// ConnectTimeout, at whichever step.
func TestConnect_isBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // when the test is over
		}
	}()
	for step, at := range map[string]Config{
		"TLS with":  {TLS: &tls.Config{}},
		"log in to": {SASL: login(t, "PLAIN", "u", "p")},
	} {
		began := time.Now()
		conn, err := at.Dial(t.Context(), "tcp", l.Addr().String())
		if took := time.Since(began); err == nil || took > ConnectTimeout+time.Second || !strings.Contains(err.Error(), step) {
			t.Errorf("%s: %v, %v after %s", step, conn, err, took)
		}
	}
}

// A broker does not make drain calculate for as long as it likes.
func TestIterations(t *testing.T) {
	for message, want := range map[string]int{"r=fyko,s=QSXC,i=4096": 4096, "r=fyko,s=QSXC,i=4096,x=y": 4096, "r=fyko,s=QSXC,i=99999999999999999999": math.MaxInt,
		"r=fyko,s=QSXC,i=": math.MaxInt, "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=": 0, "": 0} {
		if got := iterations([]byte(message)); got != want {
			t.Errorf("%q: %d", message, got)
		}
	}
}

// What a broker's refusal may mean is said.
func TestConnect_saysWhatToDo(t *testing.T) {
	ours := authority.New(t, "ours")
	hour := time.Now().Add(time.Hour)
	serve := func(options ...kfake.Opt) []string {
		c, err := kfake.NewCluster(append(options, kfake.NumBrokers(1))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c.ListenAddrs()
	}
	with := func(cert tls.Certificate) kfake.Opt {
		return kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})
	}
	plain, strange := serve(), serve(with(ours.Pair("strange.name.example", hour)))
	expired := serve(with(ours.Pair("strange.name.example", time.Now().Add(-time.Minute))))
	pair := ours.Pair("127.0.0.1", hour)
	old := serve(kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}))
	system := &tls.Config{RootCAs: ours.Pool()} // as if the system had ours
	trusted, err := Certificates{Trusted: ours.PEM}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   Config
		says []string
	}{
		{"TLS where there is none", Config{Addresses: plain, TLS: trusted}, []string{"TLS with the broker 127.0.0.1:", "may speak no TLS", "kafka://"}},
		{"no TLS where there is", Config{Addresses: strange}, []string{"the broker 127.0.0.1:", "may want TLS (kafka+ssl://"}},
		{"another name", Config{Addresses: strange, TLS: system}, []string{"TLS with the broker 127.0.0.1:", "correct KAFKA_URL", "set KAFKA_TRUSTED_CERT"}},
		{"an old TLS", Config{Addresses: old, TLS: trusted}, []string{"TLS with the broker 127.0.0.1:", "protocol version"}},
		{"an expired certificate", Config{Addresses: expired, TLS: trusted}, []string{"expired", "the broker needs a new certificate"}},
	} {
		err := ask(t, test.at, 1)
		for _, want := range test.says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", test.name, err, want)
			}
		}
	}
	if err := ask(t, Config{Addresses: strange, TLS: trusted}, 3); err != nil {
		t.Errorf("a strange name, trusted: %v", err)
	}
}

// What happens to a connection later is told as it is.
func TestConnection_explainsOnlyTheBeginning(t *testing.T) {
	for asked, explained := range map[int]bool{0: true, 1: true, 2: true, 3: false, 4: false} {
		here, there := net.Pipe()
		c := &connection{Conn: here, config: &Config{}, address: "b:1"}
		go func() {
			_, _ = io.ReadFull(there, make([]byte, asked)) // who reads next tells
			there.Close()
		}()
		for range asked {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Read(make([]byte, 8)); err == nil || (err == io.EOF) == explained {
			t.Error(asked, err)
		}
	}
}

// Who waits for a broker has to know when that is in vain.
func TestRefused(t *testing.T) {
	ours, other := authority.New(t, "ours"), authority.New(t, "other")
	serve := func(options ...kfake.Opt) string {
		c, err := kfake.NewCluster(append(options, kfake.NumBrokers(1))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c.ListenAddrs()[0]
	}
	pair := ours.Pair("strange.name.example", time.Now().Add(time.Hour))
	strange := serve(kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	guarded := serve(kfake.EnableSASL(), kfake.Superuser("PLAIN", "drain", "swordfish"))
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	distrusting, err := Certificates{Trusted: other.PEM}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		at             Config
		address        string
		refused, login bool
	}{
		"another authority": {Config{TLS: distrusting}, strange, true, false},
		"another name":      {Config{TLS: &tls.Config{RootCAs: ours.Pool()}}, strange, true, false},
		"nobody there":      {Config{}, gone.Addr().String(), false, false},
		// This broker only ends the connection: it could as well be one that stops.
		"a wrong password": {Config{SASL: login(t, "PLAIN", "drain", "sturgeon")}, guarded, false, true},
	} {
		_, err := test.at.Dial(t.Context(), "tcp", test.address)
		if err == nil || Refused(err) != test.refused || errors.Is(err, ErrLogin) != test.login {
			t.Errorf("%s: %v, refused %v", name, err, Refused(err))
		}
	}
	if !Refused(fmt.Errorf("log in: %w", kafka.SASLAuthenticationFailed)) || Refused(nil) {
		t.Error("a login that was answered")
	}
}
