package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key, a.pem = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)})
	return a
}

func (a *authority) make(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-2*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.must(err)
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	return cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// issue makes a certificate for a name and its key, both in PEM.
func (a *authority) issue(name string, notAfter time.Time) (cert, key string) {
	a.t.Helper()
	_, private, cert := a.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(private)
	a.must(err)
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (a *authority) must(err error) {
	if err != nil {
		a.t.Helper()
		a.t.Fatal(err)
	}
}

// A broker whose certificate carries a name that is not its own, as on Heroku, and
// that wants to see ours.
func TestTLS_verifiesEveryConnection(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	ours, other, third := newAuthority(t, "ours"), newAuthority(t, "other"), newAuthority(t, "third")
	serverCert, serverKey := ours.issue("strange.name.example", hour)
	pair, err := tls.X509KeyPair([]byte(serverCert), []byte(serverKey))
	ours.must(err)
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "router"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}))
	ours.must(err)
	defer c.Close()

	cert, key := ours.issue("client", hour)
	expired, expiredKey := ours.issue("client", time.Now().Add(-time.Hour))
	alien, alienKey := other.issue("client", hour)
	for _, test := range []struct {
		name         string
		certificates Certificates
		fails        string // how, empty: not
	}{
		{"as on Heroku", Certificates{Trusted: other.pem + "text between\n" + ours.pem + third.pem, Client: cert, Key: key}, ""},
		{"in one line", Certificates{Trusted: strings.ReplaceAll(ours.pem, "\n", `\n`) + "\n", Client: strings.ReplaceAll(cert, "\n", `\n`), Key: strings.ReplaceAll(key, "\n", `\n`)}, ""},
		{"another authority", Certificates{Trusted: other.pem + third.pem, Client: cert, Key: key}, "not trusted by KAFKA_TRUSTED_CERT"},
		{"the system's roots", Certificates{Client: cert, Key: key}, "set KAFKA_TRUSTED_CERT"},
		{"no client certificate", Certificates{Trusted: ours.pem}, "set KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"},
		{"an expired client certificate", Certificates{Trusted: ours.pem, Client: expired, Key: expiredKey}, "KAFKA_CLIENT_CERT expired on 20"},
		{"an unknown client certificate", Certificates{Trusted: ours.pem, Client: alien, Key: alienKey}, "KAFKA_CLIENT_CERT may be another cluster's"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := test.certificates.TLS()
			if err != nil {
				t.Fatal(err)
			}
			at := Config{Addresses: c.ListenAddrs(), TLS: cfg}
			for range 3 { // each by a connection of its own
				transport := at.Transport()
				client := &kafka.Client{Addr: at.Addr(), Transport: transport}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, err = client.Metadata(ctx, &kafka.MetadataRequest{})
				cancel()
				transport.CloseIdleConnections()
				switch {
				case test.fails == "" && err != nil:
					t.Error(err)
				case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
					t.Errorf("%v, want %s", err, test.fails)
				}
			}
		})
	}
}

func TestTLS_saysWhichSettingIsWrongAndShowsNothingOfIt(t *testing.T) {
	a := newAuthority(t, "ours")
	cert, key := a.issue("client", time.Now().Add(time.Hour))
	_, otherKey := a.issue("client", time.Now().Add(time.Hour))
	const loot = "c3dvcmRmaXNo"
	broken := "-----BEGIN CERTIFICATE-----\n" + loot + "\n-----END CERTIFICATE-----\n"
	for _, test := range []struct {
		certificates Certificates
		says         string
	}{
		{Certificates{Trusted: loot}, "KAFKA_TRUSTED_CERT: no certificate"},
		{Certificates{Trusted: broken}, "KAFKA_TRUSTED_CERT: a certificate that cannot be read"},
		{Certificates{Trusted: a.pem + key}, "KAFKA_TRUSTED_CERT: something else than a certificate"},
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
