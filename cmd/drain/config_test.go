package main

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"drain/cluster"
	"drain/intake"
	"drain/router"
	"drain/settings"
	"drain/trial/variables"
)

// vars is an environment, setting and refusal are what is tried of settings.
type (
	vars    = variables.Vars
	setting variables.Setting[*config]
	refusal variables.Refusal
)

func read(t *testing.T, env vars, args ...string) (*config, error) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", "/cache")
	var help strings.Builder
	c, err := readConfig(args, env.Lookup, &help)
	if help.Len() > 0 {
		t.Errorf("help was not asked for: %.40s", help.String())
	}
	return c, err
}

func TestDefaults(t *testing.T) {
	got, err := read(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		listen: "127.0.0.1:8080", adminListen: "127.0.0.1:8081", brokerListen: "127.0.0.1:9092", dataDir: "/cache/drain",
		topic: "router", key: intake.KeyNone, batchRecords: 3000, batchBytes: 950_000, batchDelay: 5 * time.Millisecond,
		hold: 4200 * time.Millisecond, maxBody: 4 << 20, maxInflight: 64 << 20,
		redact: router.RedactListed, redactFwd: router.FwdKeep, kafka: &cluster.Config{},
	}
	got.redactNames = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// everySetting is a value of each that is not its default, and where it arrives.
var everySetting = []setting{
	{"LISTEN", "127.0.0.1:1080", "127.0.0.1:1081", func(c *config) any { return c.listen }, "127.0.0.1:1080"},
	{"DRAIN_SECRETS_FILE", "/etc/secrets", "/etc/others", func(c *config) any { return c.secretsFile }, "/etc/secrets"},
	{"SYSLOG_LISTEN", "127.0.0.1:1601", "127.0.0.1:1602", func(c *config) any { return c.syslogListen }, "127.0.0.1:1601"},
	{"KAFKA_URL", "kafka://a:9094,kafka://b", "c:1", func(c *config) any { return strings.Join(c.kafka.Addresses, " ") }, "a:9094 b:9092"},
	{"KAFKA_SASL_MECHANISM", "PLAIN", "SCRAM-SHA-256", func(c *config) any { return c.kafka.SASL.Mechanism }, "PLAIN"},
	{"KAFKA_SASL_USERNAME", "drain", "x", func(c *config) any { return c.kafka.SASL.Username }, "drain"},
	{"KAFKA_PREFIX", "river-1.", "x", func(c *config) any { return c.topic }, "river-1.router"},
	{"KAFKA_TOPIC", "requests", "x", func(c *config) any { return c.topic }, "requests"},
	{"LOGS_TOPIC", "logs", "x", func(c *config) any { return c.logsTopic }, "logs"},
	{"KAFKA_KEY", "host", "path", func(c *config) any { return c.key }, intake.KeyHost},
	{"KAFKA_COMPRESSION", "zstd", "gzip", func(c *config) any { return c.compression }, 4},
	{"BATCH_RECORDS", "100", "5", func(c *config) any { return c.batchRecords }, 100},
	{"BATCH_BYTES", "64KiB", "1MB", func(c *config) any { return c.batchBytes }, 64 << 10},
	{"BATCH_DELAY", "20ms", "1s", func(c *config) any { return c.batchDelay }, 20 * time.Millisecond},
	{"POOL_SIZE", "7", "8", func(c *config) any { return c.clients(3) }, 7},
	{"ACK", "queued", "committed", func(c *config) any { return c.queued }, true},
	{"HOLD", "1500ms", "1s", func(c *config) any { return c.hold }, 1500 * time.Millisecond},
	{"MAX_BODY", "1MiB", "2MiB", func(c *config) any { return c.maxBody }, 1 << 20},
	{"MAX_INFLIGHT", "1GiB", "2GiB", func(c *config) any { return c.maxInflight }, int64(1 << 30)},
	{"REDACT", "all", "off", func(c *config) any { return c.redact }, router.RedactAll},
	{"REDACT_NAMES", "iban, ssn", "x", func(c *config) any { return strings.Join(c.redactNames, "+") }, "iban+ssn"},
	{"REDACT_FWD", "drop", "truncate", func(c *config) any { return c.redactFwd }, router.FwdDrop},
	{"DATA_DIR", "/var/lib/drain", "/x", func(c *config) any { return c.dataDir }, "/var/lib/drain"},
	{"BROKER_LISTEN", "127.0.0.1:1092", ":1", func(c *config) any { return c.brokerListen }, "127.0.0.1:1092"},
	{"ADMIN_LISTEN", "127.0.0.1:1082", ":1", func(c *config) any { return c.adminListen }, "127.0.0.1:1082"},
	{"ADMIN_LISTEN", "", ":1", func(c *config) any { return c.adminListen }, ""},
	{"LOG_LEVEL", "debug", "error", func(c *config) any { return c.log.Level() }, slog.LevelDebug},
	{"LOG_FORMAT", "json", "text", func(c *config) any {
		var b strings.Builder
		c.log.Logger(&b).Error("x")
		return b.String()[:1]
	}, "{"},
	{"PPROF", "true", "false", func(c *config) any { return c.pprof }, true},
	{"PPROF", "0", "yes", func(c *config) any { return c.pprof }, false},
}

var sasl = vars{"KAFKA_URL": "h:1", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}

func TestEverySettingIsAVariableAndAFlagAndTheFlagWins(t *testing.T) {
	for _, s := range everySetting {
		var beside vars
		if strings.HasPrefix(s.Name, "KAFKA_SASL_") { // they go together
			beside = sasl
		}
		t.Run(s.Name+"="+s.Value, func(t *testing.T) { variables.Arrives(t, variables.Setting[*config](s), beside, read) })
	}
}

func TestSecretsComeFromTheEnvironment(t *testing.T) {
	c, err := read(t, vars{"DRAIN_SECRETS": "a-secret-of-sixteen", "METRICS_TOKEN": "token"})
	if err != nil || c.secrets != "a-secret-of-sixteen" || c.metricsToken != "token" {
		t.Errorf("%v, %v", c, err)
	}
}

// An empty variable is the same as none: an app's settings cannot always be unset.
func TestAnEmptyVariableIsNone(t *testing.T) {
	env := vars{"PORT": "", "DRAIN_SECRETS": "", "METRICS_TOKEN": "", "DYNO": ""}
	for _, s := range everySetting {
		if s.Name != "ADMIN_LISTEN" {
			env[s.Name] = ""
		}
	}
	got, err := read(t, env)
	want, _ := read(t, nil)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

func TestPORT(t *testing.T) {
	const secret = "a-secret-of-sixteen"
	for _, tt := range []struct {
		env  vars
		args []string
		want string
	}{
		{vars{"PORT": "5000"}, nil, ":5000"},
		{vars{"PORT": "5000", "LISTEN": ""}, nil, ":5000"},
		{vars{"PORT": "5000", "LISTEN": "127.0.0.1:1"}, nil, "127.0.0.1:1"},
		{vars{"PORT": "5000", "LISTEN": "127.0.0.1:8080"}, nil, "127.0.0.1:8080"},
		{vars{"PORT": "5000"}, []string{"--listen=127.0.0.1:8080"}, "127.0.0.1:8080"},
		{vars{"PORT": ""}, nil, "127.0.0.1:8080"},
	} {
		tt.env["DRAIN_SECRETS"] = secret
		c, err := read(t, tt.env, tt.args...)
		if err != nil || c.listen != tt.want {
			t.Errorf("%v %v: %v, %v", tt.env, tt.args, c, err)
		}
	}
}

// Heroku chooses the port, which may be that of the admin listener.
func TestAdminListenMakesRoomForPORT(t *testing.T) {
	for env, want := range map[string]string{"PORT=5000": "127.0.0.1:8081", "PORT=8081": "127.0.0.1:0", "LISTEN=127.0.0.1:8081": "127.0.0.1:8081", "LISTEN=127.0.0.2:8081": "127.0.0.1:8081", "ADMIN_LISTEN=127.0.0.1:9": "127.0.0.1:9"} {
		name, value, _ := strings.Cut(env, "=")
		c, err := read(t, vars{name: value, "ALLOW_ANONYMOUS": "true"})
		if err != nil || c.adminListen != want {
			t.Errorf("%s: %v, %v", env, c, err)
		}
	}
}

func TestWhatCannotBeUsedIsSaidInOneLine(t *testing.T) {
	const loot = "swordfish-of-sixteen"
	var tests []refusal
	bad := func(name, accepts string, values ...string) {
		for _, r := range variables.Refusals(name, accepts, values...) {
			tests = append(tests, refusal(r))
		}
	}
	for _, name := range []string{"LISTEN", "ADMIN_LISTEN", "BROKER_LISTEN", "SYSLOG_LISTEN"} {
		bad(name, "127.0.0.1:8080", "8080", "localhost", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:-1", "127.0.0.1:+1", "::1:80", "a\nb")
	}
	bad("KAFKA_URL", "kafka://host:port", " ", ",", "http://h:1", "kafka+ssl://", "kafka+ssl://h:1,kafka://g:1", "kafka://", "kafka://h:p", "h:0", "h:99999", "kafka://"+loot+"@h:1", "kafka://u:"+loot+"@h:1", "h:1,u:"+loot+"@h")
	bad("KAFKA_ADDON", "heroku addons", "HEROKU_KAFKA_COPPER")
	bad("KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "PLAIN")
	bad("KAFKA_COMPRESSION", "gzip, snappy, lz4 or zstd", "zip", "ZSTD")
	bad("KAFKA_TOPIC", "letters", "a b", "ü", "a/b", "..", strings.Repeat("x", 250), "a\nb")
	bad("LOGS_TOPIC", "letters", "a b", "x:y")
	bad("LOGS_TOPIC", "another topic", "router")
	bad("KAFKA_KEY", "request_id", "Host", "ip", "none ")
	bad("BATCH_RECORDS", "whole number", "0", "-1", "x", "1.5", "3k", "99999999999999999999")
	bad("BATCH_BYTES", "64MiB", "0", "-1", "x", "1PB", "5ms")
	bad("BATCH_DELAY", "5ms", "-5ms", "5", "x", "1h")
	bad("POOL_SIZE", "whole number", "0", "-4", "many")
	bad("ACK", "queued", "all", "1", "COMMITTED")
	bad("HOLD", "5ms", "0", "-1s", "4200", "2h")
	bad("MAX_BODY", "64MiB", "0", "1GiB", "-1", "x")
	bad("MAX_INFLIGHT", "64MiB", "0", "99999EiB", "x")
	bad("REDACT", "listed", "on", "true")
	bad("REDACT_FWD", "truncate", "on", "hash")
	bad("LOG_LEVEL", "info", "trace", "INFO")
	bad("LOG_FORMAT", "logfmt", "xml")
	bad("PPROF", "true", "maybe", "2")
	bad("ALLOW_ANONYMOUS", "true", "maybe")
	tests = append(tests, []refusal{
		{vars{"PORT": "http"}, nil, "PORT", "port number"},
		{vars{"PORT": "http"}, []string{"--listen=127.0.0.1:1"}, "PORT", "port number"},
		{vars{"PORT": "99999"}, nil, "PORT", "port number"},
		{vars{"KAFKA_TOPIC": "x", "KAFKA_PREFIX": "a b"}, nil, "KAFKA_PREFIX", "letters"},
		{vars{"KAFKA_URL": "h:1", "KAFKA_TRUSTED_CERT": loot}, nil, "KAFKA_URL", "kafka+ssl"},
		{vars{"KAFKA_CLIENT_CERT": loot}, nil, "KAFKA_URL", "kafka+ssl"},
		{vars{"KAFKA_URL": "kafka+ssl://h:1", "KAFKA_TRUSTED_CERT": loot}, nil, "KAFKA_TRUSTED_CERT", "PEM"},
		{vars{"KAFKA_URL": "kafka+ssl://h:1", "KAFKA_CLIENT_CERT_KEY": loot}, nil, "KAFKA_CLIENT_CERT", "both"},
		{vars{"KAFKA_URL": "kafka+ssl://h:1"}, []string{"--kafka-client-cert-key=" + loot}, "KAFKA_CLIENT_CERT_KEY", "environment"},
		{vars{"KAFKA_SASL_USERNAME": "u"}, nil, "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"},
		{vars{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": loot}, nil, "KAFKA_URL", "kafka+ssl"},
		{vars{"KAFKA_URL": "h:1", "KAFKA_SASL_MECHANISM": "plain", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": loot}, nil, "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"},
		{vars{"KAFKA_URL": "h:1"}, []string{"--kafka-sasl-password", loot}, "KAFKA_SASL_PASSWORD", "environment"},
		{vars{"SYSLOG_LISTEN": ":6514", "DRAIN_SECRETS": loot}, nil, "SYSLOG_LISTEN", "ALLOW_ANONYMOUS=true"},
		{vars{"SYSLOG_TLS_KEY": loot}, nil, "SYSLOG_LISTEN", ":6514"},
		{vars{"SYSLOG_TLS_CERT": loot}, nil, "SYSLOG_LISTEN", ":6514"},
		{vars{"SYSLOG_LISTEN": "127.0.0.1:1", "SYSLOG_TLS_CERT": loot}, nil, "SYSLOG_TLS_KEY", "both"},
		{vars{"SYSLOG_LISTEN": "127.0.0.1:1", "SYSLOG_TLS_KEY": loot}, nil, "SYSLOG_TLS_CERT", "both"},
		{vars{"SYSLOG_LISTEN": "127.0.0.1:1", "SYSLOG_TLS_CERT": loot, "SYSLOG_TLS_KEY": loot}, nil, "SYSLOG_TLS_CERT", "PEM"},
		{nil, []string{"--syslog-tls-key=" + loot}, "SYSLOG_TLS_KEY", "environment"},
		{vars{"DYNO": "web.1", "DRAIN_SECRETS": loot}, nil, "KAFKA_URL", "attach"},
		{vars{"LISTEN": "0.0.0.0:80"}, nil, "DRAIN_SECRETS", "ALLOW_ANONYMOUS"},
		{vars{"LISTEN": ":80"}, nil, "DRAIN_SECRETS", "ALLOW_ANONYMOUS"},
		{vars{"LISTEN": "[::]:80"}, nil, "DRAIN_SECRETS", "ALLOW_ANONYMOUS"},
		{vars{"LISTEN": "example.com:80"}, nil, "DRAIN_SECRETS", "ALLOW_ANONYMOUS"},
		{vars{"PORT": "80"}, nil, "DRAIN_SECRETS", "ALLOW_ANONYMOUS"},
		{nil, []string{"--no-such-flag"}, "--no-such-flag", "--help"},
		{nil, []string{"--no-such-flag=" + loot}, "--no-such-flag", "--help"},
		{nil, []string{"--no\nsuch\x1b[31m"}, "--no", "--help"},
		{nil, []string{"-x"}, "-x", "--help"},
		{nil, []string{"--listen"}, "--listen", "value"},
		{nil, []string{"--hold", "-1s"}, "--hold", "--help"},
		{nil, []string{"surplus\n" + loot}, "argument", "--name=value"},
		{nil, []string{"--", loot}, "argument", "--name=value"},
		{nil, []string{"KAFKA_URL=" + loot}, "argument", "NAME=value"},
		{nil, []string{"--pprof", loot}, "argument", "--name=value"},
		{nil, []string{"DRAIN_SECRETS=" + loot}, "DRAIN_SECRETS", "environment"},
		{nil, []string{"--drain-secrets=" + loot}, "DRAIN_SECRETS", "environment"},
		{nil, []string{"--drain-secrets", loot}, "DRAIN_SECRETS", "environment"},
		{nil, []string{"--metrics-token", loot}, "METRICS_TOKEN", "environment"},
	}...)
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.100s", fmt.Sprint(tt.Env, tt.Args)), func(t *testing.T) {
			_, err := read(t, tt.Env, tt.Args...)
			variables.Refused(t, variables.Refusal(tt), "drain", loot, err)
		})
	}
}

func TestSettingsThatLetEverybodyIn(t *testing.T) {
	const secret = "a-secret-of-sixteen"
	for _, env := range []vars{
		{"LISTEN": ":80", "DRAIN_SECRETS": secret},
		{"LISTEN": ":80", "DRAIN_SECRETS_FILE": "/etc/secrets"},
		{"LISTEN": ":80", "ALLOW_ANONYMOUS": "true"},
		{"LISTEN": "localhost:80"},
		{"SYSLOG_LISTEN": ":6514", "ALLOW_ANONYMOUS": "true"},
		{"SYSLOG_LISTEN": "127.0.0.1:6514"},
		{"LISTEN": "127.5.5.5:80"},
		{"LISTEN": "[::1]:80"},
		{"PORT": "80", "ALLOW_ANONYMOUS": "yes"},
	} {
		if _, err := read(t, env); err != nil {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--help", "--hold=x"}, {"--hold=x", "--help"}} {
		var help, shown strings.Builder
		_, err := readConfig(args, vars{"PPROF": "maybe", "LISTEN": "x"}.Lookup, &help)
		if !errors.Is(err, settings.ErrHelp) || settings.ExitStatus("drain", err, &shown) != 0 || shown.Len() > 0 {
			t.Errorf("%v: %v, %q", args, err, shown.String())
		}
		for _, s := range everySetting {
			if flag := "--" + strings.ToLower(strings.ReplaceAll(s.Name, "_", "-")); !strings.Contains(help.String(), flag) {
				t.Errorf("%v: %s is missing", args, flag)
			}
		}
		text := strings.Join(strings.Fields(help.String()), " ")
		for _, want := range []string{"--allow-anonymous", "DRAIN_SECRETS", "METRICS_TOKEN", "SYSLOG_TLS_KEY", "KAFKA_SASL_PASSWORD", "PORT",
			"(default 127.0.0.1:8080)", "(default router)", "(default none)", "(default 3000)", "(default 950KB)", "(default 5ms)",
			"(default 4 per broker)", "(default committed)", "(default 4200ms)", "(default 4MiB)", "(default 64MiB)", "(default listed)", "(default off)",
			"(default: drain in the user's cache folder)", "(default 127.0.0.1:9092)", "(default 127.0.0.1:8081)", "(default info)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q is missing", args, want)
			}
		}
	}
}
