package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"drain/cluster"
	"drain/routes"
	"drain/settings"
)

// flags are the settings as they are written: each a flag, and an environment variable of
// the same name. The flag wins.
type flags struct {
	Listen         *string `help:"Address of the page, its API and /metrics. PORT means :PORT and wins over the default, not over LISTEN. (default 127.0.0.1:8090)"`
	AllowAnonymous bool    `help:"Show the page to everybody, without DASH_PASSWORD."`
	RedisURL       string  `name:"redis-url" help:"redis://host:port/db, or rediss:// (TLS). One with a password comes from the environment only. (default: one in this process, which forgets all at its end)"`
	RedisTLSVerify *bool   `name:"redis-tls-verify" help:"Verify the certificate of a rediss:// server. (default true; false on Heroku, whose servers sign their own)"`
	RedisTrusted   string  `name:"redis-trusted-cert" help:"PEM text of the certificates that the server's must come from; its name is then not looked at."`
	cluster.Flags
	KafkaTopic          string `default:"router" help:"Topic of the router records."`
	KafkaGroup          string `default:"metrics" help:"Consumer group: processes with the same one share the partitions, and what they count."`
	KafkaSessionTimeout string `default:"10s" help:"After so long without a sign of life of a process the others share its partitions. Kafka takes 6s to 30m by default."`
	RoutesFile          string `help:"File with routes of your own, one a line: /users/:name, GET /search/*, /a/:b -> /name. What is not in it is found by itself."`
	settings.LogFlags
}

const description = `Counts the router's records in windows of 1 s, 10 s, 1 min and 1 h, keeps them in Redis and shows them on a page.
Each record counts once, whatever crashes: its offset is stored with the counts. More processes share the work.
Without KAFKA_URL it reads from BROKER_LISTEN, where drain's own broker is, or 127.0.0.1:9092.

Every setting is a flag and an environment variable of the same name (--kafka-topic, KAFKA_TOPIC); the flag wins.
Secrets come from the environment only:

  DASH_PASSWORD    password of the page; without it, it is shown on this machine only
  REDIS_URL        where it holds a password
  KAFKA_CLIENT_CERT_KEY
                   PEM text of the private key of KAFKA_CLIENT_CERT
  KAFKA_SASL_PASSWORD
                   password of KAFKA_SASL_USERNAME`

var command = settings.Command{
	Name: "metrics", Description: description,
	Secrets:  append([]string{"DASH_PASSWORD"}, cluster.Secrets...),
	Variable: cluster.Variable,
}

// config is the settings as the command uses them.
type config struct {
	listen       string
	password     string
	anonymous    bool
	onHeroku     bool
	redis        *redis.Options // nil: the embedded one
	kafka        *cluster.Config
	ownBroker    bool // drain's embedded one
	topic, group string
	session      time.Duration
	rules        *routes.Rules
	log          settings.Log
}

func readConfig(args []string, getenv func(string) (string, bool), stdout io.Writer) (*config, error) {
	var f flags
	if err := command.Parse(&f, args, getenv, stdout); err != nil {
		return nil, err
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "--redis-url") && hasPassword(f.RedisURL) {
			return nil, settings.UsageError{Err: errors.New("--redis-url: it holds a password, which every process could see: set the variable REDIS_URL instead")}
		}
	}
	c, err := f.config(getenv)
	if err != nil {
		return nil, settings.UsageError{Err: err}
	}
	return c, nil
}

func hasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return strings.Contains(address, "@")
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// usable tells whether a server can be at address.
func usable(address string) bool {
	_, port, err := net.SplitHostPort(address)
	n, number := strconv.ParseUint(port, 10, 16)
	return err == nil && number == nil && n > 0
}

const listenDefault = "127.0.0.1:8090"

func (f *flags) config(getenv func(string) (string, bool)) (*config, error) {
	env := func(name string) string { value, _ := getenv(name); return value }
	c := &config{password: env("DASH_PASSWORD"), anonymous: f.AllowAnonymous}
	var err error
	if c.kafka, err = f.Config(getenv); err != nil {
		return nil, err
	}
	if c.listen, err = settings.Port(getenv, listenDefault); err != nil {
		return nil, err
	}
	if f.Listen != nil {
		c.listen = *f.Listen
	}
	r := settings.Reader{}
	r.Address("LISTEN", c.listen)
	c.topic = r.Topic("KAFKA_TOPIC", c.kafka.Prefix, f.KafkaTopic)
	c.session = r.Duration("KAFKA_SESSION_TIMEOUT", f.KafkaSessionTimeout, 500*time.Millisecond, 30*time.Minute)
	c.log = r.Log(&f.LogFlags)
	if f.KafkaGroup == "" || strings.ContainsAny(f.KafkaGroup, "{}\n") {
		r.Fail("KAFKA_GROUP", f.KafkaGroup, "a name without braces")
	}
	if r.Err != nil {
		return nil, r.Err
	}
	c.group = c.kafka.Prefix + f.KafkaGroup
	c.onHeroku = env("DYNO") != ""
	if c.redis, err = f.redis(c.onHeroku); err != nil {
		return nil, err
	}
	if c.ownBroker, err = c.kafka.OrOwnBroker(getenv); err != nil {
		return nil, err
	}
	if f.RoutesFile != "" {
		if c.rules, err = routes.ReadRules(f.RoutesFile); err != nil {
			return nil, fmt.Errorf("ROUTES_FILE: %w", err)
		}
	}
	if c.password == "" && !c.anonymous && !settings.Loopback(c.listen) {
		return nil, fmt.Errorf("DASH_PASSWORD: not set, while LISTEN (%s) can be reached from outside: set a password, or ALLOW_ANONYMOUS=true", c.listen)
	}
	return c, nil
}

// redis reads how Redis is reached, nil for the embedded one. Errors do not show the
// address, which may hold a password.
func (f *flags) redis(onHeroku bool) (*redis.Options, error) {
	if f.RedisURL == "" {
		if onHeroku {
			return nil, errors.New("REDIS_URL: not set: attach a Redis to the app (heroku addons:create heroku-redis); the embedded one forgets all with each restart of the dyno")
		}
		if f.RedisTrusted != "" {
			return nil, errors.New("REDIS_URL: not set, while REDIS_TRUSTED_CERT is: set it to rediss://host:port, or unset that")
		}
		return nil, nil
	}
	o, err := redis.ParseURL(f.RedisURL)
	if err != nil || o.Network == "tcp" && !usable(o.Addr) {
		return nil, errors.New("REDIS_URL: cannot be used: redis://:PASSWORD@host:port/db is wanted, or rediss:// for TLS")
	}
	if o.TLSConfig == nil {
		if f.RedisTrusted != "" {
			return nil, errors.New("REDIS_URL: it is without TLS, while REDIS_TRUSTED_CERT is set: use rediss://, or unset that")
		}
		return o, nil
	}
	o.TLSConfig.MinVersion = tls.VersionTLS12
	if f.RedisTrusted != "" {
		return o, cluster.Trust(o.TLSConfig, f.RedisTrusted, "REDIS_TRUSTED_CERT")
	}
	// The address may say skip_verify=true.
	o.TLSConfig.InsecureSkipVerify = o.TLSConfig.InsecureSkipVerify || onHeroku
	if f.RedisTLSVerify != nil {
		o.TLSConfig.InsecureSkipVerify = !*f.RedisTLSVerify
	}
	return o, nil
}
