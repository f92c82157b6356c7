package cluster

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"drain/trial/authority"
)

// A broker whose certificate carries a name that is not its own, as on Heroku, and
// that wants to see ours.
func TestTLS_verifiesEveryConnection(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	ours, other, third := authority.New(t, "ours"), authority.New(t, "other"), authority.New(t, "third")
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "router"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ours.Pair("strange.name.example", hour)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	cert, key := ours.Issue("client", hour)
	expired, expiredKey := ours.Issue("client", time.Now().Add(-time.Hour))
	alien, alienKey := other.Issue("client", hour)
	for _, test := range []struct {
		name         string
		certificates Certificates
		fails        string // how, empty: not
	}{
		{"as on Heroku", Certificates{Trusted: other.PEM + "text between\n" + ours.PEM + third.PEM, Client: cert, Key: key}, ""},
		{"in one line", Certificates{Trusted: strings.ReplaceAll(ours.PEM, "\n", `\n`) + "\n", Client: strings.ReplaceAll(cert, "\n", `\n`), Key: strings.ReplaceAll(key, "\n", `\n`)}, ""},
		{"another authority", Certificates{Trusted: other.PEM + third.PEM, Client: cert, Key: key}, "not trusted by KAFKA_TRUSTED_CERT"},
		{"the system's roots", Certificates{Client: cert, Key: key}, "set KAFKA_TRUSTED_CERT"},
		{"no client certificate", Certificates{Trusted: ours.PEM}, "set KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"},
		{"an expired client certificate", Certificates{Trusted: ours.PEM, Client: expired, Key: expiredKey}, "KAFKA_CLIENT_CERT expired on 20"},
		{"an unknown client certificate", Certificates{Trusted: ours.PEM, Client: alien, Key: alienKey}, "KAFKA_CLIENT_CERT may be another cluster's"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := test.certificates.TLS()
			if err != nil {
				t.Fatal(err)
			}
			err = ask(t, Config{Addresses: c.ListenAddrs(), TLS: cfg}, 3) // each by a connection of its own
			switch {
			case test.fails == "" && err != nil:
				t.Error(err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("%v, want %s", err, test.fails)
			}
		})
	}
}

func TestTLS_saysWhichSettingIsWrongAndShowsNothingOfIt(t *testing.T) {
	a := authority.New(t, "ours")
	cert, key := a.Issue("client", time.Now().Add(time.Hour))
	_, otherKey := a.Issue("client", time.Now().Add(time.Hour))
	const loot = "c3dvcmRmaXNo"
	broken := "-----BEGIN CERTIFICATE-----\n" + loot + "\n-----END CERTIFICATE-----\n"
	for _, test := range []struct {
		certificates Certificates
		says         string
	}{
		{Certificates{Trusted: loot}, "KAFKA_TRUSTED_CERT: no certificate"},
		{Certificates{Trusted: broken}, "KAFKA_TRUSTED_CERT: a certificate that cannot be read"},
		{Certificates{Trusted: a.PEM + key}, "KAFKA_TRUSTED_CERT: something else than a certificate"},
		{Certificates{Client: cert}, "KAFKA_CLIENT_CERT_KEY: not set"},
		{Certificates{Key: key}, "KAFKA_CLIENT_CERT: not set"},
		{Certificates{Client: cert, Key: otherKey}, "KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"},
		{Certificates{Client: cert, Key: loot}, "KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"},
		{Certificates{Client: loot, Key: key}, "KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"},
	} {
		_, err := test.certificates.TLS()
		if err == nil || !strings.HasPrefix(err.Error(), test.says) || strings.Contains(err.Error(), loot) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, test.says)
		}
	}
	if (Certificates{}).Any() || !(Certificates{Key: "x"}).Any() {
		t.Error("Any")
	}
}

// A server's chain must end in what is trusted, on every connection; its name is not looked at.
func TestTrust(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	ours, other := authority.New(t, "ours"), authority.New(t, "other")
	for _, test := range []struct {
		name, trusted string
		shows         tls.Certificate
		fails         string // how, empty: not
	}{
		{"another name", ours.PEM, ours.Pair("strange.name.example", hour), ""},
		{"one of several", other.PEM + ours.PEM, ours.Pair("strange.name.example", hour), ""},
		{"itself", ours.PEM, tls.Certificate{}, ""},
		{"another authority", other.PEM, ours.Pair("127.0.0.1", hour), "x509: certificate signed by unknown authority"},
		{"expired", ours.PEM, ours.Pair("127.0.0.1", time.Now().Add(-time.Hour)), "x509: certificate has expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			shows, trusted := test.shows, test.trusted
			if shows.Certificate == nil { // a certificate that signs nothing but is what is trusted
				cert, key := ours.Issue("leaf", hour)
				pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				shows, trusted = pair, cert
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{shows}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.(*tls.Conn).Handshake() // its client tells
					c.Close()
				}
			}()
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			if err := Trust(cfg, trusted, "OUR_CERT"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				raw, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				err = tls.Client(raw, cfg).Handshake()
				raw.Close()
				if test.fails == "" && err != nil || test.fails != "" && (err == nil || !strings.Contains(err.Error(), "not trusted by OUR_CERT: "+test.fails)) {
					t.Errorf("%v, want %q", err, test.fails)
				}
			}
		})
	}
	for name, text := range map[string]string{"nothing": "", "no PEM": "swordfish", "a key": func() string { _, key := ours.Issue("x", hour); return key }()} {
		cfg := new(tls.Config)
		if err := Trust(cfg, text, "OUR_CERT"); err == nil || strings.Contains(err.Error(), "swordfish") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if cfg.InsecureSkipVerify {
			t.Errorf("%s: the configuration that was refused verifies nothing", name)
		}
	}
}
