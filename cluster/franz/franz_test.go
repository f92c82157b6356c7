package franz_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/cluster"
	"drain/cluster/franz"
)

// What TLS does, the tests of scripts and commands against a real Kafka show.
func TestOptions_logIn(t *testing.T) {
	for _, mechanism := range cluster.Mechanisms {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "reader", "swordfish"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for password, fits := range map[string]bool{"swordfish": true, "sturgeon": false} {
			login, err := cluster.NewSASL(mechanism, "reader", password)
			if err != nil {
				t.Fatal(err)
			}
			client, err := kgo.NewClient(franz.Options(&cluster.Config{Addresses: c.ListenAddrs(), SASL: login})...)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := client.Ping(ctx); (err == nil) != fits {
				t.Errorf("%s with %s: %v", mechanism, password, err)
			}
			cancel()
			client.Close()
		}
	}
}
