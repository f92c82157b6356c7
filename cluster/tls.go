package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Certificates are the PEM texts with which TLS connections are made, as Heroku's
// Kafka add-on gives them; each may be empty.
type Certificates struct {
	// Trusted are the certificates that the brokers' chains must end in. With them
	// the brokers' names are not looked at: Heroku's brokers have certificates
	// without their names. Without them the system's roots are trusted, and the
	// names must be right.
	Trusted string
	// Client and Key are what drain shows of itself: the certificate, with those
	// between it and its root behind it, and the private key.
	Client, Key string
	// Addon is Heroku's attachment whose they are, for the errors; empty for none.
	Addon string
}

// Any tells whether one of them is set.
func (c Certificates) Any() bool { return c.Trusted != "" || c.Client != "" || c.Key != "" }

// TLS makes the configuration of every connection to the brokers. The errors name
// the setting that is wrong, and show nothing of a key.
func (c Certificates) TLS() (*tls.Config, error) {
	trusted, client, key := variable(c.Addon, "KAFKA_TRUSTED_CERT"), variable(c.Addon, "KAFKA_CLIENT_CERT"), variable(c.Addon, "KAFKA_CLIENT_CERT_KEY")
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Trusted != "" {
		if err := Trust(cfg, c.Trusted, trusted); err != nil {
			return nil, err
		}
	}
	own, err := KeyPair(client, c.Client, key, c.Key)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = own
	return cfg, nil
}

// Trust has cfg verify the server's chain, on every connection, against the certificates in PEM of a
// setting, and not its name. What it refuses is Untrusted.
func Trust(cfg *tls.Config, certificates, setting string) error {
	roots, err := pool(pemText(certificates))
	if err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	cfg.InsecureSkipVerify = true // of the name; the chain is verified here
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if err := chain(roots, state); err != nil {
			return Untrusted{setting, err}
		}
		return nil
	}
	return nil
}

// KeyPair makes what a side of TLS shows of itself, of a certificate and its private key in
// PEM: nothing where neither is set. The errors speak of them by the names of their
// settings, and show nothing of the key.
func KeyPair(certName, cert, keyName, key string) ([]tls.Certificate, error) {
	switch {
	case cert == "" && key == "":
		return nil, nil
	case key == "":
		return nil, fmt.Errorf("%s: not set, while %s is: set both or neither", keyName, certName)
	case cert == "":
		return nil, fmt.Errorf("%s: not set, while %s is: set both or neither", certName, keyName)
	}
	pair, err := tls.X509KeyPair(pemText(cert), pemText(key))
	if err != nil {
		return nil, fmt.Errorf("%s and %s: no certificate and the private key that belongs to it, as the text of PEM files and not their names: %w", certName, keyName, err)
	}
	return []tls.Certificate{pair}, nil
}

// pemText is a PEM text of a setting, as bytes. Where a variable could not hold a line's end, it
// is often written as `\n`.
func pemText(s string) []byte {
	if s = strings.TrimSpace(s); !strings.Contains(s, "\n") {
		s = strings.ReplaceAll(s, `\n`, "\n")
	}
	return []byte(s + "\n")
}

// pool reads all certificates of a PEM text.
func pool(text []byte) (*x509.CertPool, error) {
	roots, found := x509.NewCertPool(), false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("something else than a certificate in it: only certificates in PEM can be trusted")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate that cannot be read: %w", err)
		}
		roots.AddCert(cert)
		found = true
	}
	if !found {
		return nil, errors.New("no certificate as the text of a PEM file, which begins with -----BEGIN CERTIFICATE-----")
	}
	return roots, nil
}

// Untrusted says that a certificate's chain did not end in those of a setting.
type Untrusted struct {
	Setting string
	Err     error // x509's
}

func (e Untrusted) Error() string {
	return "the server's certificate is not trusted by " + e.Setting + ": " + e.Err.Error()
}

func (e Untrusted) Unwrap() error { return e.Err }

// chain checks a server's chain, but not its name.
func chain(roots *x509.CertPool, state tls.ConnectionState) error {
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}
