package cluster

import (
	"errors"
	"fmt"
	"strings"

	"drain/settings"
)

// Flags are the settings by which every command reaches Kafka; a command embeds them
// in its own, and gives its settings.Command Secrets and Variable.
type Flags struct {
	KafkaURL           string `name:"kafka-url" help:"kafka://host:port,…, kafka+ssl://host:port,… (TLS) or host:port,…"`
	KafkaAddon         string `default:"KAFKA" help:"Name of Heroku's attachment: with HEROKU_KAFKA_COPPER, URL, certificates and prefix are read from HEROKU_KAFKA_COPPER_URL and so on."`
	KafkaTrustedCert   string `help:"PEM text of the certificates that the brokers' must come from; their names are then not looked at."`
	KafkaClientCert    string `help:"PEM text of the certificate that is shown to the brokers."`
	KafkaSASLMechanism string `name:"kafka-sasl-mechanism" help:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."`
	KafkaSASLUsername  string `name:"kafka-sasl-username" help:"User to log in as; the password is KAFKA_SASL_PASSWORD, in the environment only."`
	KafkaPrefix        string `help:"Put before every topic and group name, as it stands."`
}

// Secrets are the settings beside Flags that come from the environment only.
var Secrets = []string{"KAFKA_CLIENT_CERT_KEY", "KAFKA_SASL_PASSWORD"}

// ofAddon are the settings that belong to Heroku's attachment, with its name in the
// place of KAFKA.
var ofAddon = []string{"KAFKA_URL", "KAFKA_TRUSTED_CERT", "KAFKA_CLIENT_CERT", "KAFKA_CLIENT_CERT_KEY", "KAFKA_PREFIX"}

const defaultAddon = "KAFKA"

// Variable is the environment variable from which a setting of Kafka's is read; value
// gives another setting's.
func Variable(setting string, value func(setting string) string) string {
	for _, name := range ofAddon {
		if name == setting {
			return variable(value("KAFKA_ADDON"), setting)
		}
	}
	return setting
}

// variable is a setting's of the attachment that is called addon.
func variable(addon, setting string) string {
	if addon = strings.TrimSuffix(addon, "_URL"); addon == "" {
		addon = defaultAddon
	}
	return addon + strings.TrimPrefix(setting, defaultAddon)
}

// Config makes a Config of the settings; getenv is os.LookupEnv, or a test's. Its
// Addresses are nil where no KAFKA_URL is set. The errors name the setting, and show
// nothing that may be a secret.
func (f *Flags) Config(getenv func(string) (string, bool)) (*Config, error) {
	env := func(name string) string { value, _ := getenv(name); return value }
	name := func(setting string) string { return variable(f.KafkaAddon, setting) }
	c := &Config{Prefix: f.KafkaPrefix}
	var err error
	if c.SASL, err = NewSASL(f.KafkaSASLMechanism, f.KafkaSASLUsername, env("KAFKA_SASL_PASSWORD")); err != nil {
		return nil, err
	}
	certificates := Certificates{Trusted: f.KafkaTrustedCert, Client: f.KafkaClientCert, Key: env(name("KAFKA_CLIENT_CERT_KEY")), Addon: f.KafkaAddon}
	if f.KafkaURL == "" {
		switch {
		case name("KAFKA_URL") != "KAFKA_URL":
			return nil, fmt.Errorf("%s: not set, while KAFKA_ADDON is %s: look with `heroku addons` under which name Kafka is attached, and correct KAFKA_ADDON", name("KAFKA_URL"), f.KafkaAddon)
		case certificates.Any():
			return nil, errors.New("KAFKA_URL: not set, while certificates for it are: set it to kafka+ssl://host:port,…, or unset them")
		}
		return c, nil
	}
	secure := false
	if c.Addresses, secure, err = Addresses(f.KafkaURL); err != nil {
		return nil, fmt.Errorf("%s: %w", name("KAFKA_URL"), err)
	}
	switch {
	case secure:
		c.TLS, err = certificates.TLS()
	case certificates.Any():
		err = fmt.Errorf("%s: its addresses are without TLS, while certificates are set: use kafka+ssl://host:port,…, or unset them", name("KAFKA_URL"))
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ownBroker is where drain's embedded broker listens, unless BROKER_LISTEN says otherwise.
const ownBroker = "127.0.0.1:9092"

// OrOwnBroker has a Config without Addresses lead to drain's embedded broker, at BROKER_LISTEN or where that
// listens by itself, and tells whether it does. On Heroku, and with credentials, it is an error instead.
func (c *Config) OrOwnBroker(getenv func(string) (string, bool)) (own bool, err error) {
	env := func(name string) string { value, _ := getenv(name); return value }
	switch {
	case c.Addresses != nil:
		return false, nil
	case env("DYNO") != "":
		return false, errors.New("KAFKA_URL: not set: attach Kafka to the app (heroku addons:attach)")
	case c.SASL != nil:
		return false, errors.New("KAFKA_URL: not set, while KAFKA_SASL_MECHANISM is: set it to kafka+ssl://host:port,…, or unset that")
	}
	at := ownBroker
	if moved := env("BROKER_LISTEN"); moved != "" {
		r := settings.Reader{}
		if r.Address("BROKER_LISTEN", moved); r.Err != nil {
			return false, r.Err
		}
		at = moved
	}
	c.Addresses = []string{at}
	return true, nil
}
