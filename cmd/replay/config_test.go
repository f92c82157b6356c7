package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"drain/cluster"
	"drain/replay"
	"drain/settings"
	"drain/trial/variables"
)

// setting and refusal are what is tried of settings.
type (
	setting variables.Setting[*config]
	refusal variables.Refusal
)

const staging = "https://staging.example.com"

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
	got, err := read(t, nil, "--target="+staging)
	if err != nil {
		t.Fatal(err)
	}
	if got.target.String() != staging || len(got.header) > 0 {
		t.Errorf("%v, %v", got.target, got.header)
	}
	got.target, got.header = nil, nil
	want := &config{
		timeout: 30 * time.Second, play: replay.Config{Concurrency: 128, Break: 0.5}, pace: replay.Pace{Speed: 1, MaxGap: time.Minute},
		choice: replay.Choice{Methods: []string{"GET", "HEAD"}, Deny: replay.DefaultDeny}, window: 5 * time.Second, failOnDiff: -1,
		kafka: &cluster.Config{Addresses: []string{"127.0.0.1:9092"}}, ownBroker: true, topic: "router", group: "replay", session: 10 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// everySetting is a value of each that is not its default, and where it arrives.
var everySetting = []setting{
	{"TARGET", "http://a:8", "http://b", func(c *config) any { return c.target.String() }, "http://a:8"},
	{"SPEED", "2.5", "3", func(c *config) any { return c.pace.Speed }, 2.5},
	{"SPEED", "max", "3", func(c *config) any { return c.pace.Speed }, 0.0},
	{"MAX_GAP", "2h", "1s", func(c *config) any { return c.pace.MaxGap }, 2 * time.Hour},
	{"MAX_GAP", "0", "1s", func(c *config) any { return c.pace.MaxGap }, time.Duration(0)},
	{"MAX_RPS", "0.5", "7", func(c *config) any { return c.play.MaxRPS }, 0.5},
	{"CONCURRENCY", "7", "8", func(c *config) any { return c.play.Concurrency }, 7},
	{"TIMEOUT", "5ms", "8s", func(c *config) any { return c.timeout }, 5 * time.Millisecond},
	{"BREAKER", "5%", "10%", func(c *config) any { return c.play.Break }, 0.05},
	{"BREAKER", "off", "10%", func(c *config) any { return c.play.Break }, 0.0},
	{"FROM", "-10", "end", func(c *config) any { return *c.from }, settings.Position{Newest: 10}},
	{"FROM", "end", "beginning", func(c *config) any { return fmt.Sprint(*c.from, c.follow) }, fmt.Sprint(settings.Position{}, true)},
	{"FROM", "2026-01-02T15:04:05Z", "end", func(c *config) any { return c.choice.From.Equal(recordedAt) && c.from.At.Equal(recordedAt) }, true},
	{"UNTIL", "2026-01-02T15:04:05Z", "end", func(c *config) any { return c.choice.Until.Equal(recordedAt) && !c.follow }, true},
	{"UNTIL", "never", "end", func(c *config) any { return c.follow }, true},
	{"UNTIL", "end", "never", func(c *config) any { return c.follow }, false},
	{"APP", "shop,blog", "x", func(c *config) any { return strings.Join(c.choice.Apps, " ") }, "shop blog"},
	{"PATH_PREFIX", "/a,b", "/c", func(c *config) any { return strings.Join(c.choice.Prefixes, " ") }, "/a,b"},
	{"STATUS", "404,5xx,2XX", "200", func(c *config) any { return fmt.Sprint(c.choice.Statuses) }, "[{404 404} {500 599} {200 299}]"},
	{"SAMPLE", "10%", "20%", func(c *config) any { return c.choice.Sample }, 0.1},
	{"SAMPLE", "0.5", "20%", func(c *config) any { return c.choice.Sample }, 0.5},
	{"SAMPLE", "100%", "20%", func(c *config) any { return c.choice.Sample }, 1.0},
	{"METHODS", "head", "GET", func(c *config) any { return strings.Join(c.choice.Methods, " ") }, "HEAD"},
	{"DENY", "/Admin,x", "y", func(c *config) any { return strings.Join(c.choice.Deny, " ") }, "/admin,x"},
	{"DENY", "none", "y", func(c *config) any { return strings.Join(c.choice.Deny, " ") }, ""},
	{"DENY", "default", "y", func(c *config) any { return strings.Join(c.choice.Deny, " ") }, strings.Join(replay.DefaultDeny, " ")},
	{"HEADER", "X-A: b, c: d", "X-A: e", func(c *config) any { return fmt.Sprint(c.header) }, "map[X-A:[b, c: d]]"},
	{"FORWARDED_FOR", "true", "false", func(c *config) any { return c.forwardedFor }, true},
	{"REDACTED_VALUE", "x y", "z", func(c *config) any { return c.choice.RedactedValue }, "x y"},
	{"LOOP", "true", "false", func(c *config) any { return c.loop }, true},
	{"DRY_RUN", "true", "false", func(c *config) any { return c.dryRun }, true},
	{"RECORD", "a.zst", "b", func(c *config) any { return fmt.Sprint(c.record, c.choice.KeepRecords) }, "a.zsttrue"},
	{"FILE", "a.zst", "b", func(c *config) any { return c.file }, "a.zst"},
	{"JSON", "true", "false", func(c *config) any { return c.json }, true},
	{"HTML", "a.html", "b", func(c *config) any { return c.html }, "a.html"},
	{"FAIL_ON_DIFF", "1%", "2%", func(c *config) any { return c.failOnDiff }, 0.01},
	{"FAIL_ON_DIFF", "0", "2%", func(c *config) any { return c.failOnDiff }, 0.0},
	{"FAIL_ON_SLOWER", "true", "false", func(c *config) any { return c.failOnSlower }, true},
	{"MAX_TRANSIT", "1h", "2h", func(c *config) any { return c.transit }, time.Hour},
	{"MERGE_WINDOW", "0s", "1s", func(c *config) any { return c.window }, time.Duration(0)},
	{"KAFKA_URL", "kafka://a:9094,kafka://b", "c:1", func(c *config) any { return strings.Join(c.kafka.Addresses, " ") }, "a:9094 b:9092"},
	{"KAFKA_PREFIX", "river-1.", "x", func(c *config) any { return c.topic + " " + c.group }, "river-1.router river-1.replay"},
	{"KAFKA_TOPIC", "requests", "x", func(c *config) any { return c.topic }, "requests"},
	{"KAFKA_GROUP", "friday", "x", func(c *config) any { return c.group }, "friday"},
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
		t.Run(s.Name+"="+s.Value, func(t *testing.T) {
			beside := vars{"TARGET": staging}
			delete(beside, s.Name)
			variables.Arrives(t, variables.Setting[*config](s), beside, read)
		})
	}
}

// alone are the settings that are tried elsewhere: those that mean something with others only, and those
// that all commands have.
var alone = []string{"HELP", "FORCE", "UNSAFE", "ROUTES_FILE", "KAFKA_ADDON", "KAFKA_TRUSTED_CERT", "KAFKA_CLIENT_CERT", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME"}

var ofHelp = regexp.MustCompile(`(?m)^ +(?:-h, )?--([a-z-]+)`)

func TestHelp(t *testing.T) {
	tried := slices.Clone(alone)
	for _, s := range everySetting {
		tried = append(tried, s.Name)
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--help", "--speed=x"}, {"--speed=x", "--help"}} {
		var help, shown strings.Builder
		_, err := readConfig(args, vars{"SPEED": "x", "FORWARDED_FOR": "maybe", "DYNO": "web.1"}.Lookup, &help)
		if !errors.Is(err, settings.ErrHelp) || settings.ExitStatus("replay", err, &shown) != 0 || shown.Len() > 0 {
			t.Errorf("%v: %v, %q", args, err, shown.String())
		}
		var told []string
		_, flags, _ := strings.Cut(help.String(), "\nFlags:\n")
		for _, found := range ofHelp.FindAllStringSubmatch(flags, -1) {
			name := strings.ToUpper(strings.ReplaceAll(found[1], "-", "_"))
			if told = append(told, name); !slices.Contains(tried, name) {
				t.Errorf("nobody tries %s", name)
			}
		}
		for _, name := range tried {
			if !slices.Contains(told, name) {
				t.Errorf("%v: %s is missing", args, name)
			}
		}
		text := strings.Join(strings.Fields(help.String()), " ")
		for _, want := range []string{"SECRET_HEADERS", "KAFKA_CLIENT_CERT_KEY", "KAFKA_SASL_PASSWORD", "BROKER_LISTEN", "(default 1)", "(default 1m)", "(default 128)", "(default 30s)", "(default 50%)", "(default: where the group stopped, else the beginning)",
			"(default end; never with --from end)", "(default GET,HEAD)", "(default: logout, signout, unsubscribe, confirm, token= and the like; shown at the start)",
			"(default: such requests are not sent)", "(default 5s)", "(default KAFKA)", "(default router)", "(default replay)", "(default 10s)", "(default info)", "(default: text on a terminal, else logfmt)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q is missing", args, want)
			}
		}
	}
}

// Who sets FORCE somewhere did not mean this replay.
func TestForceAndUnsafeAreFlagsOnly(t *testing.T) {
	if c, err := read(t, vars{"FORCE": "true", "TARGET": staging}); err != nil || c.force {
		t.Errorf("a variable: %+v, %v", c, err)
	}
	if c, err := read(t, vars{"TARGET": staging}, "--force"); err != nil || !c.force {
		t.Errorf("a flag: %+v, %v", c, err)
	}
	if _, err := read(t, vars{"UNSAFE": "true", "TARGET": staging, "METHODS": "POST"}); err == nil {
		t.Error("a variable has POST sent")
	}
	if c, err := read(t, vars{"TARGET": staging, "METHODS": "post,GET"}, "--unsafe"); err != nil || !slices.Equal(c.choice.Methods, []string{"POST", "GET"}) {
		t.Errorf("a flag: %+v, %v", c, err)
	}
	if c, err := read(t, vars{"TARGET": staging, "FORCE": "maybe", "UNSAFE": "\n"}); err != nil || c.force {
		t.Errorf("a variable of somebody else's: %v", err)
	}
}

// Settings that mean something with others only.
func TestSettingsThatGoTogether(t *testing.T) {
	rules := written(t, "routes", "/users/:name\n")
	to := []string{"--target", staging}
	headers := func(c *config) any { return fmt.Sprint(c.header) }
	for _, tt := range []struct {
		name string
		env  vars
		args []string
		got  func(*config) any
		want any
	}{
		{"nothing is sent without a target", nil, []string{"--dry-run"}, func(c *config) any { return c.sends() }, false},
		{"nor by a dry run", nil, append(to, "--dry-run"), func(c *config) any { return c.sends() }, false},
		{"nor where it is only recorded", nil, []string{"--record=x"}, func(c *config) any { return c.sends() }, false},
		{"but while it is", nil, append(to, "--record=x"), func(c *config) any { return c.sends() }, true},
		{"the newest, as people type it", nil, append(to, "--from", "-10"), func(c *config) any { return c.from.Newest }, 10},
		{"from the end it goes on", nil, append(to, "--from", "end"), func(c *config) any { return c.follow }, true},
		{"if it is not told otherwise", nil, append(to, "--from", "end", "--until", "end"), func(c *config) any { return c.follow }, false},
		{"an hour ago", nil, append(to, "--from", "-1h"), func(c *config) any { return time.Since(c.from.At).Round(time.Minute) }, time.Hour},
		{"until then", nil, append(to, "--until", "-1h"), func(c *config) any { return time.Since(c.choice.Until).Round(time.Minute) }, time.Hour},
		{"several apps", nil, append(to, "--app", "a", "--app=b"), func(c *config) any { return fmt.Sprint(c.choice.Apps) }, "[a b]"},
		{"several prefixes", nil, append(to, "--path-prefix", "/a", "--path-prefix=/b"), func(c *config) any { return fmt.Sprint(c.choice.Prefixes) }, "[/a /b]"},
		{"several texts to deny", nil, append(to, "--deny=default", "--deny", "X"), func(c *config) any { return len(c.choice.Deny) }, len(replay.DefaultDeny) + 1},
		{"several headers", nil, append(to, "--header=X-A: 1", "--header", "x-b:2", "--header= X-A : 3 "), headers, "map[X-A:[1 3] X-B:[2]]"},
		{"headers with secrets", vars{"SECRET_HEADERS": "Authorization: Bearer x\r\n\n X-Key: y \n"}, append(to, "--header=X-A: 1"), headers, "map[Authorization:[Bearer x] X-A:[1] X-Key:[y]]"},
		{"an empty header", nil, append(to, "--header=X-A:", "--header="), headers, "map[X-A:[]]"},
		{"the target's scheme in capitals", nil, []string{"--target=HTTP://h/"}, func(c *config) any { return c.target.Scheme }, "http"},
		{"a file needs no Kafka", vars{"DYNO": "web.1", "BROKER_LISTEN": "?"}, append(to, "--file=x"), func(c *config) any { return c.file }, "x"},
		{"drain's own broker, moved", vars{"BROKER_LISTEN": "127.0.0.1:1092"}, to, func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.ownBroker) }, "[127.0.0.1:1092] true"},
		{"which KAFKA_URL wins over", vars{"BROKER_LISTEN": "127.0.0.1:1092", "KAFKA_URL": "k:1"}, to, func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.ownBroker) }, "[k:1] false"},
		{"another attachment", vars{"KAFKA_ADDON": "COPPER", "COPPER_URL": "c:1", "COPPER_PREFIX": "p.", "KAFKA_URL": "k:1"}, to,
			func(c *config) any { return fmt.Sprint(c.kafka.Addresses, c.topic, " ", c.group) }, "[c:1]p.router p.replay"},
		{"a login of Kafka", vars{"KAFKA_URL": "h:1", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}, to, func(c *config) any { return c.kafka.SASL.Username }, "u"},
		{"routes of your own", vars{"ROUTES_FILE": rules}, to, func(c *config) any { return c.rules != nil }, true},
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
	env := vars{"FORCE": "", "UNSAFE": "", "SECRET_HEADERS": "", "DYNO": "", "ROUTES_FILE": "", "BROKER_LISTEN": ""}
	for _, s := range everySetting {
		env[s.Name] = ""
	}
	got, err := read(t, env, "--target="+staging)
	want, _ := read(t, nil, "--target="+staging)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

func TestWhatCannotBeUsedIsSaidInOneLine(t *testing.T) {
	const loot = "swordfish-of-sixteen"
	to := vars{"TARGET": staging}
	var tests []refusal
	bad := func(name, accepts string, values ...string) {
		for _, r := range variables.Refusals(name, accepts, values...) {
			if name != "TARGET" {
				r.Env = r.Env.With("TARGET", staging)
			}
			tests = append(tests, refusal(r))
		}
	}
	bad("TARGET", "https://staging.example.com", "staging.example.com", "staging:80", "//staging", "ftp://staging", "http:", "http://", "https://:80", "http:staging", "https://staging/path", "https://staging//", "https://staging?a=b", "https://staging#x",
		"https://u:"+loot+"@", "ftp://u:"+loot+"@staging", "https://u:"+loot+"@staging/path", "u:"+loot+"@staging", "https://u:"+loot+"@staging:x", "https://u:"+loot+"%zz@staging", loot+"@staging", "ftp://"+loot+"@staging",
		"https://a\nb", "https://a\x00b", "\x1b[31mhttps://staging", "https://staging ", "https://sta ging", "https://%zz", "https://[::1", "https://staging:x", "https://staging:0", "https://staging:65536", "https://staging:99999999999")
	bad("SPEED", "0.1 to 100, or max", "0", "0.05", "101", "-1", "nan", "inf", "x", "1x", "MAX", "2,5", " ")
	bad("MAX_TRANSIT", "1s to", "0", "-1s", "10", "x")
	bad("MAX_GAP", "1ms to 8784h0m0s, or 0 to keep all", "-1s", "10", "x", "1us", "9000h")
	bad("MAX_RPS", "requests a second", "0", "-5", "nan", "inf", "x", "1e9")
	bad("CONCURRENCY", "1 to 10000", "0", "-1", "10001", "x", "1.5")
	bad("TIMEOUT", "1ms to 10m", "0", "10", "-1s", "11m", "x")
	bad("BREAKER", "50%, or off", "0", "0%", "101%", "2", "nan", "x", "OFF")
	bad("FROM", "beginning", "start", "-0", "-x", "2026-13-01", "-1000000001", "\n")
	bad("UNTIL", "2026-01-02T15:04:05Z, or end, or never", "beginning", "-10", "x", "tomorrow", "-1y")
	bad("STATUS", "404 or 5xx", "x", "99", "600", "6xx", "0xx", "xx", "5x", "-200", "200,x", "2 00")
	bad("SAMPLE", "10%", "0", "0%", "101%", "1", "1.5", "-1%", "nan", "x", "10 %", "%")
	bad("METHODS", "GET and HEAD, or add --unsafe", "POST", "GET,DELETE", "get,put")
	bad("METHODS", "GET,HEAD,POST", "CONNECT", "a b", "GET,,HEAD", ",", "\n", "é", "GET\r\nX-Evil:1")
	bad("PATH_PREFIX", "begins with /", "users", "https://a/", "?a", "\n")
	bad("HEADER", "'Name: value'", loot, "X-\r\nA: "+loot, "X-A: "+loot+"\r\nX-B: y", "X-A: "+loot+"\nX-B: y", "X-A: "+loot+"\x00", ": "+loot, "X A: "+loot, "é: "+loot, "X-A: "+loot+"\x7f")
	bad("HEADER", "HTTP's, or replay's own", "X-Replay: "+loot, "x-replay: "+loot, "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Trailer: x", "Upgrade: x")
	bad("HEADER", "host", "Host:", "Host: a b", "Host: "+loot+"/x", "Host: u@"+loot)
	bad("FAIL_ON_DIFF", "10%", "1", "1.0", "2", "101%", "-1%", "nan", "x", "%")
	bad("MERGE_WINDOW", "0s to 5m", "-1s", "6m", "x", "10")
	bad("FORWARDED_FOR", "true", "maybe", "2")
	bad("LOOP", "true", "maybe")
	bad("DRY_RUN", "true", "maybe")
	bad("JSON", "true", "maybe")
	bad("FAIL_ON_SLOWER", "true", "maybe")
	bad("KAFKA_URL", "kafka://host:port", " ", "http://h:1", "kafka+ssl://", "h:p", "kafka://u:"+loot+"@h:1")
	bad("KAFKA_ADDON", "heroku addons", "HEROKU_KAFKA_COPPER")
	bad("KAFKA_TOPIC", "letters", "a b", "ü", "a/b", "..", strings.Repeat("x", 250))
	bad("KAFKA_SESSION_TIMEOUT", "2s", "10", "x", "-1s", "1ms", "31m")
	bad("ROUTES_FILE", "can be read", "/nowhere/routes", t.TempDir(), "a\nb", "a\x00b")
	bad("ROUTES_FILE", "line 2", written(t, "routes", "/users/:name\nusers/:name\n"))
	bad("LOG_LEVEL", "info", "trace", "INFO")
	bad("LOG_FORMAT", "logfmt", "xml")
	tests = append(tests, []refusal{
		{nil, nil, "--target", "--dry-run, or --record FILE"},
		{nil, []string{"--file=x"}, "--target", "--dry-run"},
		{nil, []string{"--loop"}, "--target", "--dry-run"},
		{to, []string{"--file=x", "--record=y"}, "--record and --file", "recorded already"},
		{to, []string{"--dry-run", "--record=y"}, "--record", "writes nothing"},
		{to, []string{"--dry-run", "--html=y"}, "--html", "no report"},
		{nil, []string{"--record=y", "--fail-on-diff=1%"}, "--fail-on-diff", "no report"},
		{nil, []string{"--record=y", "--fail-on-slower"}, "--fail-on-slower", "no report"},
		{to, []string{"--file=x", "--from=-10"}, "--from -N", "use a time"},
		{to, []string{"--file=x", "--from=end"}, "--from end", "a file"},
		{to, []string{"--file=x", "--from=end", "--until=end"}, "--from end", "a file"},
		{to, []string{"--file=x", "--until=never"}, "--until never", "a file has an end"},
		{to, []string{"--loop", "--until=never"}, "--loop", "--until never"},
		{to, []string{"--loop", "--from=end"}, "--loop", "--until never"},
		{to, []string{"--loop", "--record=x"}, "--loop and --record", "no end"},
		{to, []string{"--from=2026-01-02", "--until=2026-01-01"}, "UNTIL", "after --from"},
		{to, []string{"--from=2026-01-02", "--until=2026-01-02"}, "UNTIL", "after --from"},
		{to, []string{"--from=2100-01-01"}, "FROM", "that has been"},
		{to, []string{"--from=2100-01-01", "--until=2100-01-02"}, "FROM", "that has been"},
		{to, []string{"--max-gap", "-1s"}, "MAX_GAP", "or 0 to keep all"},
		{to, []string{"--max-rps", "-3"}, "MAX_RPS", "requests a second"},
		{to, []string{"--merge-window", "-5s"}, "MERGE_WINDOW", "0s to 5m"},
		{to, []string{"--deny="}, "DENY", "none"},
		{to, []string{"--kafka-group="}, "KAFKA_GROUP", "a name"},
		{to.With("SECRET_HEADERS", loot), nil, "SECRET_HEADERS", "'Name: value'"},
		{to.With("SECRET_HEADERS", "X-A: 1\nX-B: "+loot+"\x00"), nil, "SECRET_HEADERS", "'Name: value'"},
		{to.With("SECRET_HEADERS", "X-Replay: "+loot), nil, "SECRET_HEADERS", "replay's own"},
		{to, []string{"--secret-headers=X-A: " + loot}, "SECRET_HEADERS", "environment"},
		{to, []string{"--secret-headers", "X-A: " + loot}, "SECRET_HEADERS", "environment"},
		{to, []string{"SECRET_HEADERS=X-A: " + loot}, "SECRET_HEADERS", "environment"},
		{to, []string{"--kafka-client-cert-key=" + loot}, "KAFKA_CLIENT_CERT_KEY", "environment"},
		{to, []string{"--kafka-sasl-password", loot}, "KAFKA_SASL_PASSWORD", "environment"},
		{to.With("KAFKA_URL", "h:1", "KAFKA_TRUSTED_CERT", loot), nil, "KAFKA_URL", "kafka+ssl"},
		{to.With("KAFKA_SASL_MECHANISM", "PLAIN", "KAFKA_SASL_USERNAME", "u", "KAFKA_SASL_PASSWORD", loot), nil, "KAFKA_URL", "kafka+ssl"},
		{to.With("KAFKA_PREFIX", "a b"), nil, "KAFKA_PREFIX", "letters"},
		{to.With("BROKER_LISTEN", "here"), nil, "BROKER_LISTEN", "127.0.0.1:8080"},
		{to.With("DYNO", "web.1"), nil, "KAFKA_URL", "heroku addons:attach"},
		{to, []string{"--no-such-flag=" + loot}, "--no-such-flag", "--help"},
		{to, []string{"--no\nsuch\x1b[31m"}, "--no", "--help"},
		{to, []string{"--speed"}, "SPEED", "value"},
		{to, []string{"--from"}, "FROM", "value"},
		{to, []string{"surplus\n" + loot}, "argument", "--name=value"},
		{to, []string{"--", loot}, "argument", "--name=value"},
	}...)
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.100s", fmt.Sprint(tt.Env, tt.Args)), func(t *testing.T) {
			t.Parallel()
			_, err := read(t, tt.Env, tt.Args...)
			variables.Refused(t, variables.Refusal(tt), "replay", loot, err)
		})
	}
}

// What only shows when it is opened.
func TestFilesThatCannotBeUsedAreSaidInOneLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no\nsuch\x1b[31m", "file")
	there := recorded(t, entry{})
	for _, tt := range []refusal{
		{nil, []string{"--file=" + missing}, "FILE", "--record wrote"},
		{nil, []string{"--file=" + t.TempDir()}, "FILE", "--record wrote"},
		{nil, []string{"--file=a\x00b"}, "FILE", "--record wrote"},
		{nil, []string{"--record=" + missing}, "RECORD", "no such file"},
		{nil, []string{"--record=" + t.TempDir()}, "RECORD", "is a directory"},
		{nil, []string{"--file=" + there, "--html=" + missing}, "HTML", "no such file"},
		{nil, []string{"--file=" + there, "--html=" + t.TempDir()}, "HTML", "is a directory"},
	} {
		t.Run(fmt.Sprint(tt.Args), func(t *testing.T) {
			s := newServer(t)
			p := start(t, tt.Env, append(tt.Args, "--target="+s.url)...)
			p.wait()
			variables.Refused(t, variables.Refusal(tt), "replay", "\x1b", p.err)
			if len(s.received()) > 0 || p.stdout.String() != "" {
				t.Errorf("%q were sent, and it said %q", s.targets(), &p.stdout)
			}
		})
	}
	if _, err := os.Stat(filepath.Dir(missing)); err == nil {
		t.Error("a directory was made")
	}
}
