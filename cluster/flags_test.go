package cluster

import (
	"io"
	"strings"
	"testing"
	"time"

	"drain/settings"
	"drain/trial/authority"
)

// read reads Flags as a command does.
func read(env map[string]string, args ...string) (*Config, error) {
	var f struct{ Flags }
	getenv := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	command := settings.Command{Name: "test", Secrets: Secrets, Variable: Variable}
	if err := command.Parse(&f, args, getenv, io.Discard); err != nil {
		return nil, err
	}
	return f.Config(getenv)
}

func TestFlags_readTheAttachmentThatIsNamed(t *testing.T) {
	a := authority.New(t, "ours")
	cert, key := a.Issue("client", time.Now().Add(time.Hour))
	// An app with two clusters attached, as Heroku sets its environment.
	env := map[string]string{
		"KAFKA_URL": "kafka+ssl://first-1:9096,kafka+ssl://first-2:9096", "KAFKA_TRUSTED_CERT": a.PEM, "KAFKA_CLIENT_CERT": cert, "KAFKA_CLIENT_CERT_KEY": key, "KAFKA_PREFIX": "first-1.",
		"HEROKU_KAFKA_COPPER_URL": "kafka+ssl://copper-1:9096,kafka+ssl://copper-2:9096", "HEROKU_KAFKA_COPPER_TRUSTED_CERT": a.PEM, "HEROKU_KAFKA_COPPER_CLIENT_CERT": cert, "HEROKU_KAFKA_COPPER_CLIENT_CERT_KEY": key, "HEROKU_KAFKA_COPPER_PREFIX": "copper-2.",
	}
	with := func(more ...string) map[string]string {
		all := make(map[string]string)
		for name, value := range env {
			all[name] = value
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	without := func(names ...string) map[string]string {
		all := with("KAFKA_ADDON", "HEROKU_KAFKA_COPPER")
		for _, name := range names {
			delete(all, name)
		}
		return all
	}
	for _, test := range []struct {
		name          string
		env           map[string]string
		args          []string
		first, prefix string
		certificates  int
	}{
		{"none", env, nil, "first-1:9096", "first-1.", 1},
		{"the default", with("KAFKA_ADDON", "KAFKA"), nil, "first-1:9096", "first-1.", 1},
		{"an empty name", with("KAFKA_ADDON", ""), nil, "first-1:9096", "first-1.", 1},
		{"by variable", with("KAFKA_ADDON", "HEROKU_KAFKA_COPPER"), nil, "copper-1:9096", "copper-2.", 1},
		{"by flag", env, []string{"--kafka-addon=HEROKU_KAFKA_COPPER"}, "copper-1:9096", "copper-2.", 1},
		{"by the variable's name", env, []string{"--kafka-addon", "HEROKU_KAFKA_COPPER_URL"}, "copper-1:9096", "copper-2.", 1},
		{"the flag wins", with("KAFKA_ADDON", "HEROKU_KAFKA_ROSE"), []string{"--kafka-addon=HEROKU_KAFKA_COPPER"}, "copper-1:9096", "copper-2.", 1},
		{"a setting's flag wins", with("KAFKA_ADDON", "HEROKU_KAFKA_COPPER"), []string{"--kafka-url=kafka+ssl://third", "--kafka-prefix=third-3."}, "third:9096", "third-3.", 1},
		{"a cluster of one's own has no prefix", without("HEROKU_KAFKA_COPPER_PREFIX"), nil, "copper-1:9096", "", 1},
		{"nothing of another's certificates", without("HEROKU_KAFKA_COPPER_CLIENT_CERT", "HEROKU_KAFKA_COPPER_CLIENT_CERT_KEY"), nil, "copper-1:9096", "copper-2.", 0},
	} {
		c, err := read(test.env, test.args...)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if c.Addresses[0] != test.first || c.Prefix != test.prefix || len(c.TLS.Certificates) != test.certificates {
			t.Errorf("%s: %v, %q, %d certificates", test.name, c.Addresses, c.Prefix, len(c.TLS.Certificates))
		}
	}
	for name, test := range map[string]struct {
		env  map[string]string
		says string
	}{
		"no such attachment":      {with("KAFKA_ADDON", "HEROKU_KAFKA_ROSE"), "HEROKU_KAFKA_ROSE_URL: not set"},
		"half of a pair":          {without("HEROKU_KAFKA_COPPER_CLIENT_CERT"), "HEROKU_KAFKA_COPPER_CLIENT_CERT: not set, while HEROKU_KAFKA_COPPER_CLIENT_CERT_KEY is"},
		"the other half":          {without("HEROKU_KAFKA_COPPER_CLIENT_CERT_KEY"), "HEROKU_KAFKA_COPPER_CLIENT_CERT_KEY: not set"},
		"no certificate to trust": {with("KAFKA_ADDON", "HEROKU_KAFKA_COPPER", "HEROKU_KAFKA_COPPER_TRUSTED_CERT", "x"), "HEROKU_KAFKA_COPPER_TRUSTED_CERT: no certificate"},
		"a URL that is none":      {with("KAFKA_ADDON", "HEROKU_KAFKA_COPPER", "HEROKU_KAFKA_COPPER_URL", "http://x"), "HEROKU_KAFKA_COPPER_URL: unknown scheme"},
		"without TLS":             {with("KAFKA_URL", "kafka://h:1"), "KAFKA_URL: its addresses are without TLS"},
	} {
		if _, err := read(test.env); err == nil || !strings.HasPrefix(err.Error(), test.says) {
			t.Errorf("%s: %v, want %s", name, err, test.says)
		}
	}
}

func TestFlags_SASL(t *testing.T) {
	c, err := read(map[string]string{"KAFKA_URL": "h:1", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "swordfish"})
	if err != nil || c.SASL == nil || c.SASL.Mechanism != "SCRAM-SHA-512" || c.SASL.Username != "u" || c.SASL.Password != "swordfish" {
		t.Error(c, err)
	}
	if _, err := read(nil, "--kafka-sasl-password=swordfish"); err == nil || !strings.Contains(err.Error(), "KAFKA_SASL_PASSWORD: cannot be an argument") || strings.Contains(err.Error(), "swordfish") {
		t.Error(err)
	}
}
