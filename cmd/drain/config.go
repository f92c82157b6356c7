package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drain/cluster"
	"drain/intake"
	"drain/publish"
	"drain/router"
	"drain/settings"
)

// flags are the settings as they are written: each a flag, and an environment
// variable of the same name (`--kafka-topic`, KAFKA_TOPIC). The flag wins.
type flags struct {
	Listen           *string `help:"Address of the ingest listener. PORT means :PORT and wins over the default, not over LISTEN. (default 127.0.0.1:8080)"`
	SyslogListen     string  `help:"Address that takes syslog drains (syslog://, or syslog+tls:// with SYSLOG_TLS_CERT). Empty: none."`
	SyslogTLSCert    string  `name:"syslog-tls-cert" help:"PEM text of the certificate that is shown to syslog drains, with those between it and its root."`
	DrainSecretsFile string  `help:"File with a list as in DRAIN_SECRETS, read again when it changes and on SIGHUP."`
	AllowAnonymous   bool    `help:"Take requests from everywhere without any secret."`
	cluster.Flags
	KafkaTopic       string `default:"router" help:"Topic of the router records."`
	LogsTopic        string `help:"Topic for every other line; without it they are counted and left out."`
	KafkaKey         string `default:"none" help:"Record key: none, drain, app, host, path, dyno or request_id."`
	KafkaCompression string `default:"none" help:"Of batches: none, gzip, snappy, lz4 or zstd."`
	BatchRecords     string `default:"3000" help:"A batch is sent at this many records."`
	BatchBytes       string `default:"950KB" help:"A batch is sent at this size."`
	BatchDelay       string `default:"5ms" help:"A batch is sent when its first record is this old, as soon as the one before it is done; at once when its partition has nothing under way."`
	PoolSize         string `help:"Most produce requests under way. (default 4 per broker)"`
	Ack              string `name:"ack" default:"committed" help:"committed: 200 when Kafka has every record; queued: 200 as soon as they are in memory."`
	Hold             string `default:"4200ms" help:"Longest time a request is held for room and for the commit before 503."`
	MaxBody          string `default:"4MiB" help:"Largest body, as sent; inflated at most four times this."`
	MaxInflight      string `default:"64MiB" help:"Bytes of requests held at once."`
	Redact           string `default:"listed" help:"Query values taken out of paths: off, listed or all."`
	RedactNames      string `help:"Names added to the list of REDACT=listed, separated by commas or spaces."`
	RedactFwd        string `default:"off" help:"Client addresses: off (kept), truncate (/24, /48) or drop."`
	DataDir          string `help:"Folder of the embedded broker. (default: drain in the user's cache folder)"`
	BrokerListen     string `default:"127.0.0.1:9092" help:"Address of the embedded broker."`
	AdminListen      string `default:"127.0.0.1:8081" help:"Address of /metrics, /healthz and /readyz; empty turns it off."`
	Pprof            bool   `help:"Serve profiles on the admin listener too."`
	settings.LogFlags
}

const description = `Takes Heroku log drains over HTTP, parses the router's lines and publishes them into a Kafka topic.
Without KAFKA_URL it brings a broker of its own.

Every setting is a flag and an environment variable of the same name (--kafka-topic, KAFKA_TOPIC); the flag wins.
Sizes are written like 64MiB, durations like 5ms. Secrets come from the environment only:

  DRAIN_SECRETS    accepted credentials, separated by commas or white space, each "secret" or "app=secret",
                   of at least 16 characters; all are live at once
  KAFKA_CLIENT_CERT_KEY
                   PEM text of the private key of KAFKA_CLIENT_CERT
  KAFKA_SASL_PASSWORD
                   password of KAFKA_SASL_USERNAME
  SYSLOG_TLS_KEY   PEM text of the private key of SYSLOG_TLS_CERT
  METRICS_TOKEN    with it the ingest listener serves /metrics too, to "Authorization: Bearer TOKEN"`

// config is the settings as drain uses them.
type config struct {
	listen, adminListen string
	syslogListen        string      // empty: none
	syslogTLS           *tls.Config // nil: without
	secrets             string
	secretsFile         string
	metricsToken        string
	kafka               *cluster.Config // without addresses: the embedded broker
	topic, logsTopic    string          // with the prefix; logsTopic may be empty
	key                 intake.Key
	compression         int
	batchRecords        int
	batchBytes          int
	batchDelay          time.Duration
	poolSize            int // 0: 4 per broker
	queued              bool
	hold                time.Duration
	maxBody             int
	maxInflight         int64
	redact              router.Redaction
	redactNames         []string
	redactFwd           router.FwdRedaction
	dataDir             string
	brokerListen        string
	pprof               bool
	log                 settings.Log
}

// command is drain as settings knows it.
var command = settings.Command{
	Name: "drain", Description: description,
	Secrets:  append([]string{"DRAIN_SECRETS", "METRICS_TOKEN", "SYSLOG_TLS_KEY"}, cluster.Secrets...),
	Emptied:  []string{"ADMIN_LISTEN"}, // turns it off
	Variable: cluster.Variable,
}

// readConfig reads the settings. getenv is os.LookupEnv, or a test's.
func readConfig(args []string, getenv func(string) (string, bool), stdout io.Writer) (*config, error) {
	var f flags
	if err := command.Parse(&f, args, getenv, stdout); err != nil {
		return nil, err
	}
	c, err := f.config(getenv)
	if err != nil {
		return nil, settings.UsageError{Err: err}
	}
	return c, nil
}

func (f *flags) config(getenv func(string) (string, bool)) (*config, error) {
	env := func(name string) string { value, _ := getenv(name); return value }
	c := &config{
		adminListen:  f.AdminListen,
		secrets:      env("DRAIN_SECRETS"),
		secretsFile:  f.DrainSecretsFile,
		metricsToken: env("METRICS_TOKEN"),
		dataDir:      f.DataDir,
		brokerListen: f.BrokerListen,
		pprof:        f.Pprof,
		redactNames:  strings.FieldsFunc(f.RedactNames, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }),
	}
	var err error
	if c.kafka, err = f.Config(getenv); err != nil {
		return nil, err
	}
	if c.listen, err = settings.Port(getenv, listenDefault); err != nil {
		return nil, err
	}
	switch {
	case f.Listen != nil:
		c.listen = *f.Listen
	case c.adminListen == adminDefault && strings.HasSuffix(adminDefault, c.listen):
		c.adminListen = "127.0.0.1:0" // Heroku chose its port for PORT
	}
	r := settings.Reader{}
	r.Address("LISTEN", c.listen)
	if c.adminListen != "" {
		r.Address("ADMIN_LISTEN", c.adminListen)
	}
	r.Address("BROKER_LISTEN", c.brokerListen)
	c.key = intake.Key(r.Choice("KAFKA_KEY", f.KafkaKey, intake.Keys...))
	c.compression = r.Choice("KAFKA_COMPRESSION", f.KafkaCompression, publish.Compressions...)
	c.queued = r.Choice("ACK", f.Ack, "committed", "queued") == 1
	c.redact = [...]router.Redaction{router.RedactOff, router.RedactListed, router.RedactAll}[r.Choice("REDACT", f.Redact, "off", "listed", "all")]
	c.redactFwd = router.FwdRedaction(r.Choice("REDACT_FWD", f.RedactFwd, "off", "truncate", "drop"))
	c.batchRecords = r.Number("BATCH_RECORDS", f.BatchRecords, 1, 1_000_000)
	c.batchBytes = int(r.Size("BATCH_BYTES", f.BatchBytes, 1<<10, 64<<20))
	c.batchDelay = r.Duration("BATCH_DELAY", f.BatchDelay, 0, time.Minute)
	if f.PoolSize != "" {
		c.poolSize = r.Number("POOL_SIZE", f.PoolSize, 1, 10_000)
	}
	c.hold = r.Duration("HOLD", f.Hold, time.Millisecond, time.Hour)
	c.maxBody = int(r.Size("MAX_BODY", f.MaxBody, 1<<10, 256<<20))
	c.maxInflight = r.Size("MAX_INFLIGHT", f.MaxInflight, 1<<10, math.MaxInt64)
	c.topic = r.Topic("KAFKA_TOPIC", c.kafka.Prefix, f.KafkaTopic)
	if f.LogsTopic != "" {
		c.logsTopic = r.Topic("LOGS_TOPIC", c.kafka.Prefix, f.LogsTopic)
		if r.Err == nil && c.logsTopic == c.topic {
			r.Fail("LOGS_TOPIC", f.LogsTopic, "another topic than KAFKA_TOPIC")
		}
	}
	c.log = r.Log(&f.LogFlags)
	if r.Err != nil {
		return nil, r.Err
	}
	if err := c.readSyslog(f, env("SYSLOG_TLS_KEY")); err != nil {
		return nil, err
	}
	if c.embedded() {
		switch {
		case env("DYNO") != "":
			return nil, errors.New("KAFKA_URL: not set: attach Kafka to the app (heroku addons:create heroku-kafka); a dyno has no disk for the embedded broker")
		case c.kafka.SASL != nil:
			return nil, errors.New("KAFKA_URL: not set, while KAFKA_SASL_MECHANISM is: set it to kafka+ssl://host:port,…, or unset that")
		}
	}
	if c.dataDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil && c.embedded() {
			return nil, fmt.Errorf("DATA_DIR: not set, and there is no cache folder (%w): set it to a folder that can be written", err)
		}
		c.dataDir = filepath.Join(cache, "drain")
	}
	if c.secrets == "" && c.secretsFile == "" && !f.AllowAnonymous && !settings.Loopback(c.listen) {
		return nil, fmt.Errorf("DRAIN_SECRETS: not set, while LISTEN (%s) can be reached from outside: set a secret, or ALLOW_ANONYMOUS=true", c.listen)
	}
	return c, nil
}

// readSyslog reads the settings of syslog drains.
func (c *config) readSyslog(f *flags, key string) error {
	c.syslogListen = f.SyslogListen
	if c.syslogListen == "" {
		if f.SyslogTLSCert != "" || key != "" {
			return errors.New("SYSLOG_LISTEN: not set, while a certificate for it is: set it to an address such as :6514, or unset SYSLOG_TLS_CERT and SYSLOG_TLS_KEY")
		}
		return nil
	}
	r := settings.Reader{}
	if r.Address("SYSLOG_LISTEN", c.syslogListen); r.Err != nil {
		return r.Err
	}
	if !f.AllowAnonymous && !settings.Loopback(c.syslogListen) {
		return fmt.Errorf("SYSLOG_LISTEN: %s can be reached from outside, and syslog drains show no secret: let only your senders through to it and set ALLOW_ANONYMOUS=true (DRAIN_SECRETS, where set, are asked for over HTTP all the same), or listen on 127.0.0.1", c.syslogListen)
	}
	own, err := cluster.KeyPair("SYSLOG_TLS_CERT", f.SyslogTLSCert, "SYSLOG_TLS_KEY", key)
	if own != nil {
		c.syslogTLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own}
	}
	return err
}

const (
	listenDefault = "127.0.0.1:8080"
	adminDefault  = "127.0.0.1:8081"
)
