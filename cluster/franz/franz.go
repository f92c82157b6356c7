// Package franz makes franz-go's clients of a cluster's settings, for commands that read
// topics and ask about them. drain itself writes with kafka-go.
package franz

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
)

// Options are those with which a client reaches the cluster. Its connections are made by
// Config.Dial: TLS and login fail with the same words as drain's.
func Options(c *cluster.Config) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(c.Addresses...), kgo.Dialer(c.Dial)}
}
