package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// brokerCommand is a kfake cluster of one broker that keeps nothing.
type brokerCommand struct {
	Port int    `required:""`
	TLS  string `help:"Folder in which to put the certificate that connections must trust."`
}

// Run serves until ctx ends.
//
// kfake keeps what it is given in memory. Its files there grow by copying, so that
// segments of its own default (100 MiB) cost it more than all else: they are small
// here, and gone after a moment.
func (b *brokerCommand) Run(ctx context.Context) error {
	opts := []kfake.Opt{kfake.Ports(b.Port), kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{
		"log.segment.bytes": fmt.Sprint(1 << 20), "log.retention.bytes": fmt.Sprint(16 << 20)})}
	if b.TLS != "" {
		pair, text, err := selfSigned()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.TLS, "trusted.pem"), text, 0o600); err != nil {
			return fmt.Errorf("write the broker's certificate: %w", err)
		}
		opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return fmt.Errorf("start kfake on port %d: %w", b.Port, err)
	}
	defer cluster.Close()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			cluster.ApplyRetention()
		case <-ctx.Done():
			return nil
		}
	}
}

func selfSigned() (pair tls.Certificate, text []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"broker"}, IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return pair, nil, err
	}
	pair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return pair, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
