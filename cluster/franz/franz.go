// Package franz makes franz-go's clients of a cluster's settings, for commands that read
// topics and ask about them. drain itself writes with kafka-go.
package franz

import (
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"drain/cluster"
)

// Options are those with which a client reaches the cluster.
func Options(c *cluster.Config) []kgo.Opt {
	options := []kgo.Opt{kgo.SeedBrokers(c.Addresses...), kgo.DialTimeout(cluster.ConnectTimeout)}
	if c.TLS != nil {
		options = append(options, kgo.DialTLSConfig(c.TLS))
	}
	if c.SASL != nil {
		options = append(options, kgo.SASL(mechanism(c.SASL)))
	}
	return options
}

func mechanism(s *cluster.SASL) sasl.Mechanism {
	auth := scram.Auth{User: s.Username, Pass: s.Password}
	switch s.Mechanism {
	case "SCRAM-SHA-256":
		return auth.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return auth.AsSha512Mechanism()
	}
	return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()
}
