package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"drain/cluster"
	"drain/settings"
	"drain/trial/authority"
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
		listen: "127.0.0.1:8090", kafka: &cluster.Config{Addresses: []string{"127.0.0.1:9092"}}, ownBroker: true,
		topic: "router", group: "metrics", session: 10 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// everySetting is a value of each that is not its default, and where it arrives.
var everySetting = []setting{
	{"LISTEN", "127.0.0.1:1080", "127.0.0.1:1081", func(c *config) any { return c.listen }, "127.0.0.1:1080"},
	{"ALLOW_ANONYMOUS", "true", "false", func(c *config) any { return c.anonymous }, true},
	{"ALLOW_ANONYMOUS", "0", "true", func(c *config) any { return c.anonymous }, false},
	{"REDIS_URL", "redis://r:1/3", "redis://s:2", func(c *config) any { return fmt.Sprint(c.redis.Addr, " ", c.redis.DB) }, "r:1 3"},
	{"KAFKA_URL", "kafka://a:9094,kafka://b", "c:1", func(c *config) any { return strings.Join(c.kafka.Addresses, " ") }, "a:9094 b:9092"},
	{"KAFKA_PREFIX", "river-1.", "x", func(c *config) any { return c.topic + " " + c.group }, "river-1.router river-1.metrics"},
	{"KAFKA_TOPIC", "requests", "x", func(c *config) any { return c.topic }, "requests"},
	{"KAFKA_GROUP", "figures", "x", func(c *config) any { return c.group }, "figures"},
	{"KAFKA_SESSION_TIMEOUT", "6s", "30s", func(c *config) any { return c.session }, 6 * time.Second},
	{"LOG_LEVEL", "debug", "error", func(c *config) any { return c.log.Level() }, slog.LevelDebug},
	{"LOG_FORMAT", "json", "text", func(c *config) any {
		var b strings.Builder
		c.log.Logger(&b).Error("x")
		return b.String()[:1]
	}, "{"},
}

func TestEverySettingIsAVariableAndAFlagAndTheFlagWins(t *testing.T) {
	for _, s := range everySetting {
		t.Run(s.Name+"="+s.Value, func(t *testing.T) { variables.Arrives(t, variables.Setting[*config](s), nil, read) })
	}
}

// Settings that mean something with others only.
func TestSettingsThatGoTogether(t *testing.T) {
	ours := authority.New(t, "ours")
	rules := filepath.Join(t.TempDir(), "routes")
	must(t, os.WriteFile(rules, []byte("/users/:name\n"), 0o600))
	const secure = "rediss://:pw@r:1"
	type tlsOf struct{ skips, own bool }
	verifies := func(c *config) any {
		return tlsOf{c.redis.TLSConfig.InsecureSkipVerify, c.redis.TLSConfig.VerifyConnection != nil}
	}
	heroku := vars{"DYNO": "web.1", "KAFKA_URL": "h:1", "REDIS_URL": secure, "DASH_PASSWORD": "x"}
	for _, tt := range []struct {
		name string
		env  vars
		args []string
		got  func(*config) any
		want any
	}{
		{"rediss:// is verified", vars{"REDIS_URL": secure}, nil, verifies, tlsOf{}},
		{"rediss:// is not verified on Heroku", heroku, nil, verifies, tlsOf{skips: true}},
		{"but if it is asked for", heroku.With("REDIS_TLS_VERIFY", "true"), nil, verifies, tlsOf{}},
		{"or by a flag", heroku, []string{"--redis-tls-verify"}, verifies, tlsOf{}},
		{"the flag wins", heroku.With("REDIS_TLS_VERIFY", "true"), []string{"--redis-tls-verify=false"}, verifies, tlsOf{skips: true}},
		{"it is not verified if that is asked for", vars{"REDIS_URL": secure, "REDIS_TLS_VERIFY": "false"}, nil, verifies, tlsOf{skips: true}},
		{"nor if the address says so", vars{"REDIS_URL": secure + "?skip_verify=true"}, nil, verifies, tlsOf{skips: true}},
		{"which the setting wins over", vars{"REDIS_URL": secure + "?skip_verify=true", "REDIS_TLS_VERIFY": "true"}, nil, verifies, tlsOf{}},
		{"it is verified against our certificates", vars{"REDIS_URL": secure, "REDIS_TRUSTED_CERT": ours.PEM}, nil, verifies, tlsOf{skips: true, own: true}},
		{"on Heroku too", heroku.With("REDIS_TRUSTED_CERT", ours.PEM), nil, verifies, tlsOf{skips: true, own: true}},
		{"in one line", heroku.With("REDIS_TRUSTED_CERT", strings.ReplaceAll(ours.PEM, "\n", `\n`)), nil, verifies, tlsOf{skips: true, own: true}},
		{"as a flag", vars{"REDIS_URL": secure}, []string{"--redis-trusted-cert=" + ours.PEM}, verifies, tlsOf{skips: true, own: true}},
		{"a password of Redis", vars{"REDIS_URL": "redis://u:p%40ss@r:1"}, nil, func(c *config) any { return c.redis.Username + " " + c.redis.Password }, "u p@ss"},
		{"a flag in the place of one", vars{"REDIS_URL": "redis://:pw@r:1"}, []string{"--redis-url", "redis://s:1"}, func(c *config) any { return c.redis.Addr + c.redis.Password }, "s:1"},
		{"the usual port", vars{"REDIS_URL": "redis://r"}, nil, func(c *config) any { return c.redis.Addr }, "r:6379"},
		{"the page's password", vars{"DASH_PASSWORD": "swordfish"}, nil, func(c *config) any { return c.password }, "swordfish"},
		{"drain's own broker, moved", vars{"BROKER_LISTEN": "127.0.0.1:1092"}, nil, func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.ownBroker) }, "[127.0.0.1:1092] true"},
		{"which KAFKA_URL wins over", vars{"BROKER_LISTEN": "127.0.0.1:1092", "KAFKA_URL": "k:1"}, nil, func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.ownBroker) }, "[k:1] false"},
		{"another attachment", vars{"KAFKA_ADDON": "COPPER", "COPPER_URL": "c:1", "COPPER_PREFIX": "p.", "KAFKA_URL": "k:1"}, nil,
			func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.topic, " ", c.group) }, "[c:1]p.router p.metrics"},
		{"a login of Kafka", vars{"KAFKA_URL": "h:1", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}, nil, func(c *config) any { return c.kafka.SASL.Username }, "u"},
		{"routes of your own", vars{"ROUTES_FILE": rules}, nil, func(c *config) any { return c.rules != nil }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := read(t, tt.env, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.got(c); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// An empty variable is the same as none: an app's settings cannot always be unset.
func TestAnEmptyVariableIsNone(t *testing.T) {
	env := vars{"PORT": "", "DYNO": "", "DASH_PASSWORD": "", "REDIS_TLS_VERIFY": "", "REDIS_TRUSTED_CERT": "", "ROUTES_FILE": "", "BROKER_LISTEN": ""}
	for _, s := range everySetting {
		env[s.Name] = ""
	}
	got, err := read(t, env)
	want, _ := read(t, nil)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

func TestPORT(t *testing.T) {
	for _, tt := range []struct {
		env  vars
		args []string
		want string
	}{
		{vars{"PORT": "5000"}, nil, ":5000"},
		{vars{"PORT": "5000", "LISTEN": ""}, nil, ":5000"},
		{vars{"PORT": "5000", "LISTEN": "127.0.0.1:1"}, nil, "127.0.0.1:1"},
		{vars{"PORT": "5000", "LISTEN": "127.0.0.1:8090"}, nil, "127.0.0.1:8090"},
		{vars{"PORT": "5000"}, []string{"--listen=127.0.0.1:8090"}, "127.0.0.1:8090"},
		{vars{"PORT": ""}, nil, "127.0.0.1:8090"},
	} {
		tt.env["DASH_PASSWORD"] = "swordfish"
		c, err := read(t, tt.env, tt.args...)
		if err != nil || c.listen != tt.want {
			t.Errorf("%v %v: %v, %v", tt.env, tt.args, c, err)
		}
	}
}

func TestWhatCannotBeUsedIsSaidInOneLine(t *testing.T) {
	const loot = "swordfish-of-sixteen"
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "routes")
		must(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	var tests []refusal
	bad := func(name, accepts string, values ...string) {
		for _, r := range variables.Refusals(name, accepts, values...) {
			tests = append(tests, refusal(r))
		}
	}
	bad("LISTEN", "127.0.0.1:8080", "8090", "localhost", "127.0.0.1:http", "127.0.0.1:70000", "::1:80", "a\nb")
	bad("ALLOW_ANONYMOUS", "true", "maybe", "2")
	bad("REDIS_URL", "redis://", "h", "h:1", "http://h", "redis://h:p", "redis://h:0", "redis://h:99999", "redis://h:1/x", "redis://h?nope=1", "rediss://h:1?db=x", "a\nb", "redis://%zz")
	bad("REDIS_TLS_VERIFY", "true", "maybe")
	bad("KAFKA_URL", "kafka://host:port", " ", "http://h:1", "kafka+ssl://", "h:p", "kafka://u:"+loot+"@h:1")
	bad("KAFKA_ADDON", "heroku addons", "HEROKU_KAFKA_COPPER")
	bad("KAFKA_TOPIC", "letters", "a b", "ü", "a/b", "..", strings.Repeat("x", 250))
	bad("KAFKA_GROUP", "without braces", "a{b", "}", "a\nb")
	bad("KAFKA_SESSION_TIMEOUT", "2s", "10", "x", "-1s", "1ms", "31m")
	bad("ROUTES_FILE", "can be read", "/nowhere/routes", t.TempDir(), "a\nb", "a\x00b")
	bad("ROUTES_FILE", "line 2", file("/users/:name\nusers/:name\n"))
	bad("ROUTES_FILE", "in capitals", file("FETCH /users/:name\n"))
	bad("ROUTES_FILE", "at most 131072", file(strings.Repeat("#", 200_000)), "/dev/zero")
	bad("LOG_LEVEL", "info", "trace", "INFO")
	bad("LOG_FORMAT", "logfmt", "xml")
	heroku := vars{"DYNO": "web.1", "KAFKA_URL": "h:1", "REDIS_URL": "redis://h:1", "PORT": "80", "DASH_PASSWORD": loot}
	tests = append(tests, []refusal{
		{vars{"PORT": "http"}, nil, "PORT", "port number"},
		{vars{"PORT": "http"}, []string{"--listen=127.0.0.1:1"}, "PORT", "port number"},
		{vars{"PORT": "99999"}, nil, "PORT", "port number"},
		{vars{"BROKER_LISTEN": "here"}, nil, "BROKER_LISTEN", "127.0.0.1:8080"},
		{vars{"KAFKA_PREFIX": "a b"}, nil, "KAFKA_PREFIX", "letters"},
		{vars{"KAFKA_URL": "h:1", "KAFKA_TRUSTED_CERT": loot}, nil, "KAFKA_URL", "kafka+ssl"},
		{vars{"KAFKA_URL": "kafka+ssl://h:1", "KAFKA_TRUSTED_CERT": loot}, nil, "KAFKA_TRUSTED_CERT", "PEM"},
		{vars{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": loot}, nil, "KAFKA_URL", "kafka+ssl"},
		{vars{"REDIS_URL": "redis://:" + loot + "@h:p"}, nil, "REDIS_URL", "redis://"},
		{vars{"REDIS_URL": "redis://:" + loot + "@h:1/x"}, nil, "REDIS_URL", "redis://"},
		{vars{"REDIS_URL": "redis://:" + loot + "%zz@h"}, nil, "REDIS_URL", "redis://"},
		{vars{"REDIS_URL": "redis://:" + loot + "@h\n"}, nil, "REDIS_URL", "redis://"},
		{vars{"REDIS_URL": loot}, nil, "REDIS_URL", "redis://"},
		{nil, []string{"--redis-url=redis://:" + loot + "@h:1"}, "REDIS_URL", "variable REDIS_URL"},
		{nil, []string{"--redis-url", "rediss://u:" + loot + "@h:1"}, "REDIS_URL", "variable REDIS_URL"},
		{nil, []string{"--redis-url=redis://:" + loot + "%zz@h:1"}, "REDIS_URL", "variable REDIS_URL"},
		{nil, []string{"REDIS_URL=redis://:" + loot + "@h:1"}, "argument", "NAME=value"},
		{vars{"REDIS_URL": "rediss://h:1", "REDIS_TRUSTED_CERT": loot}, nil, "REDIS_TRUSTED_CERT", "PEM"},
		{vars{"REDIS_URL": "rediss://h:1"}, []string{"--redis-trusted-cert=" + loot}, "REDIS_TRUSTED_CERT", "PEM"},
		{vars{"REDIS_URL": "redis://h:1", "REDIS_TRUSTED_CERT": loot}, nil, "REDIS_URL", "rediss://"},
		{vars{"REDIS_TRUSTED_CERT": loot}, nil, "REDIS_URL", "rediss://"},
		{vars{"LISTEN": "0.0.0.0:80"}, nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{vars{"LISTEN": ":80"}, nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{vars{"LISTEN": "[::]:80"}, nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{vars{"LISTEN": "example.com:80"}, nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{vars{"PORT": "80"}, nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{heroku.With("DASH_PASSWORD", ""), nil, "DASH_PASSWORD", "ALLOW_ANONYMOUS=true"},
		{heroku.With("KAFKA_URL", ""), nil, "KAFKA_URL", "heroku addons:attach"},
		{heroku.With("REDIS_URL", ""), nil, "REDIS_URL", "heroku addons:create heroku-redis"},
		{nil, []string{"--dash-password=" + loot}, "DASH_PASSWORD", "environment"},
		{nil, []string{"--dash-password", loot}, "DASH_PASSWORD", "environment"},
		{nil, []string{"DASH_PASSWORD=" + loot}, "DASH_PASSWORD", "environment"},
		{nil, []string{"--kafka-client-cert-key=" + loot}, "KAFKA_CLIENT_CERT_KEY", "environment"},
		{nil, []string{"--kafka-sasl-password", loot}, "KAFKA_SASL_PASSWORD", "environment"},
		{nil, []string{"--no-such-flag=" + loot}, "--no-such-flag", "--help"},
		{nil, []string{"--no\nsuch\x1b[31m"}, "--no", "--help"},
		{nil, []string{"--redis-url"}, "REDIS_URL", "value"},
		{nil, []string{"surplus\n" + loot}, "argument", "--name=value"},
	}...)
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.100s", fmt.Sprint(tt.Env, tt.Args)), func(t *testing.T) {
			_, err := read(t, tt.Env, tt.Args...)
			variables.Refused(t, variables.Refusal(tt), "metrics", loot, err)
		})
	}
}

func TestSettingsThatLetEverybodySee(t *testing.T) {
	for _, env := range []vars{
		{"LISTEN": ":80", "DASH_PASSWORD": "x"},
		{"LISTEN": ":80", "ALLOW_ANONYMOUS": "true"},
		{"PORT": "80", "ALLOW_ANONYMOUS": "yes"},
		{"LISTEN": "localhost:80"},
		{"LISTEN": "127.5.5.5:80"},
		{"LISTEN": "[::1]:80"},
	} {
		if _, err := read(t, env); err != nil {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--help", "--listen=x"}, {"--listen=x", "--help"}} {
		var help, shown strings.Builder
		_, err := readConfig(args, vars{"LISTEN": "x", "REDIS_TLS_VERIFY": "maybe", "DYNO": "web.1"}.Lookup, &help)
		if !errors.Is(err, settings.ErrHelp) || settings.ExitStatus("metrics", err, &shown) != 0 || shown.Len() > 0 {
			t.Errorf("%v: %v, %q", args, err, shown.String())
		}
		text := strings.Join(strings.Fields(help.String()), " ")
		for _, s := range everySetting {
			if !strings.Contains(text, variables.Flag(s.Name)) {
				t.Errorf("%v: %s is missing", args, s.Name)
			}
		}
		for _, want := range []string{"--redis-tls-verify", "--redis-trusted-cert", "--kafka-addon", "--kafka-trusted-cert", "--kafka-client-cert", "--kafka-sasl-mechanism", "--kafka-sasl-username", "--routes-file",
			"DASH_PASSWORD", "REDIS_URL", "KAFKA_CLIENT_CERT_KEY", "KAFKA_SASL_PASSWORD", "BROKER_LISTEN", "PORT",
			"(default 127.0.0.1:8090)", "(default: one in this process, which forgets all at its end)", "(default true; false on Heroku", "(default KAFKA)", "(default router)", "(default metrics)",
			"(default 10s)", "(default info)", "(default: text on a terminal, else logfmt)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q is missing", args, want)
			}
		}
	}
}
