package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"drain/cluster"
	"drain/httpapi"
	"drain/router"
)

// flags are the settings as they are written: each a flag, and an environment
// variable of the same name (`--kafka-topic`, KAFKA_TOPIC). The flag wins.
type flags struct {
	Listen           *string `help:"Address of the ingest listener. PORT means :PORT and wins over the default, not over LISTEN. (default 127.0.0.1:8080)"`
	DrainSecretsFile string  `help:"File with a list as in DRAIN_SECRETS, read again when it changes and on SIGHUP."`
	AllowAnonymous   bool    `help:"Take requests from everywhere without any secret."`
	KafkaURL         string  `name:"kafka-url" help:"kafka://host:port,… or host:port,…; without it drain starts an embedded broker."`
	KafkaPrefix      string  `help:"Put before every topic name, as it stands."`
	KafkaTopic       string  `default:"router" help:"Topic of the router records."`
	LogsTopic        string  `help:"Topic for every other line; without it they are counted and left out."`
	KafkaKey         string  `default:"none" help:"Record key: none, drain, app, host, path, dyno or request_id."`
	BatchRecords     string  `default:"3000" help:"A batch is sent at this many records."`
	BatchBytes       string  `default:"950KB" help:"A batch is sent at this size."`
	BatchDelay       string  `default:"5ms" help:"A batch is sent when its first record is this old, as soon as the one before it is done; at once when its partition has nothing under way."`
	PoolSize         string  `help:"Most produce requests under way. (default 4 per broker)"`
	Ack              string  `name:"ack" default:"committed" help:"committed: 200 when Kafka has every record; queued: 200 as soon as they are in memory."`
	Hold             string  `default:"4200ms" help:"Longest time a request is held for room and for the commit before 503."`
	MaxBody          string  `default:"4MiB" help:"Largest body, as sent; inflated at most four times this."`
	MaxInflight      string  `default:"64MiB" help:"Bytes of requests held at once."`
	Redact           string  `default:"listed" help:"Query values taken out of paths: off, listed or all."`
	RedactNames      string  `help:"Names added to the list of REDACT=listed, separated by commas or spaces."`
	RedactFwd        string  `default:"off" help:"Client addresses: off (kept), truncate (/24, /48) or drop."`
	DataDir          string  `help:"Folder of the embedded broker. (default: drain in the user's cache folder)"`
	BrokerListen     string  `default:"127.0.0.1:9092" help:"Address of the embedded broker."`
	AdminListen      string  `default:"127.0.0.1:8081" help:"Address of /metrics, /healthz and /readyz; empty turns it off."`
	Pprof            bool    `help:"Serve profiles on the admin listener too."`
	LogLevel         string  `default:"info" help:"Own log: debug, info, warn or error."`
	LogFormat        string  `help:"Own log: text, logfmt or json. (default: text on a terminal, else logfmt)"`
}

const description = `Takes Heroku log drains over HTTP, parses the router's lines and publishes them into a Kafka topic.

Every setting is a flag and an environment variable of the same name (--kafka-topic, KAFKA_TOPIC); the flag wins.
Sizes are written like 64MiB, durations like 5ms. Secrets come from the environment only:

  DRAIN_SECRETS    accepted credentials, separated by commas or white space, each "secret" or "app=secret",
                   of at least 16 characters; all are live at once
  METRICS_TOKEN    with it the ingest listener serves /metrics too, to "Authorization: Bearer TOKEN"`

// config is the settings as drain uses them.
type config struct {
	listen, adminListen string
	secrets             string
	secretsFile         string
	metricsToken        string
	kafka               []string // addresses; none: the embedded broker
	topic, logsTopic    string   // with the prefix; logsTopic may be empty
	key                 httpapi.Key
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
	logLevel, logFormat string
}

// usageError is a setting that cannot be used; the program ends with status 2.
type usageError struct{ error }

// errHelp says that --help was asked for and answered.
var errHelp = errors.New("help")

// readConfig reads the settings. getenv is os.LookupEnv, or a test's.
func readConfig(args []string, getenv func(string) (string, bool), stdout io.Writer) (*config, error) {
	var f flags
	helped := false
	parser, err := kong.New(&f,
		kong.Name("drain"), kong.Description(description), kong.Writers(stdout, stdout),
		kong.Exit(func(int) { helped = true }),
		kong.Resolvers(environment(getenv)),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
		kong.ValueFormatter(func(v *kong.Value) string {
			if v.HasDefault && v.Default != "" {
				return v.Help + " (default " + v.Default + ")"
			}
			return v.Help
		}),
	)
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	switch {
	case helped:
		return nil, errHelp
	case err != nil:
		return nil, usageError{errors.New(explain(args, err.Error()))}
	}
	c, err := f.config(getenv)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// explain makes one line of what the flags are refused for. It shows no argument
// that is not a flag's name: it could be a secret.
func explain(args []string, text string) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if setting := strings.ToUpper(strings.ReplaceAll(name, "-", "_")); slices.Contains(secretSettings, setting) {
			return setting + ": cannot be an argument, which others can see: set it in the environment"
		}
	}
	if strings.HasPrefix(text, "unexpected argument") {
		text = "an argument is no flag: write settings as --name=value, or as NAME=value in the environment"
	}
	text = strings.Replace(text, `expected string value but got "EOL" (<EOL>)`, "needs a value, as in --name=value", 1)
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text) + ": see --help for the settings"
}

// secretSettings come from the environment only.
var secretSettings = []string{"DRAIN_SECRETS", "METRICS_TOKEN"}

// environment resolves a flag from the variable of the same name. An empty
// variable is none, but for ADMIN_LISTEN, which it turns off.
func environment(getenv func(string) (string, bool)) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		name := strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value, ok := getenv(name)
		if flag.Name == "help" || !ok || value == "" && name != "ADMIN_LISTEN" {
			return nil, nil
		}
		return value, nil
	})
}

func (f *flags) config(getenv func(string) (string, bool)) (*config, error) {
	env := func(name string) string { value, _ := getenv(name); return value }
	c := &config{
		listen:       listenDefault,
		adminListen:  f.AdminListen,
		secrets:      env("DRAIN_SECRETS"),
		secretsFile:  f.DrainSecretsFile,
		metricsToken: env("METRICS_TOKEN"),
		dataDir:      f.DataDir,
		brokerListen: f.BrokerListen,
		pprof:        f.Pprof,
		redactNames:  strings.FieldsFunc(f.RedactNames, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }),
	}
	if port := env("PORT"); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("PORT: cannot use %q: use a port number from 0 to 65535", port)
		}
		c.listen = ":" + port
	}
	if f.Listen != nil {
		c.listen = *f.Listen
	}
	r := reader{}
	r.address("LISTEN", c.listen)
	if c.adminListen != "" {
		r.address("ADMIN_LISTEN", c.adminListen)
	}
	r.address("BROKER_LISTEN", c.brokerListen)
	c.key = httpapi.Key(r.choice("KAFKA_KEY", f.KafkaKey, httpapi.Keys...))
	c.queued = r.choice("ACK", f.Ack, "committed", "queued") == 1
	c.redact = [...]router.Redaction{router.RedactOff, router.RedactListed, router.RedactAll}[r.choice("REDACT", f.Redact, "off", "listed", "all")]
	c.redactFwd = router.FwdRedaction(r.choice("REDACT_FWD", f.RedactFwd, "off", "truncate", "drop"))
	c.batchRecords = r.number("BATCH_RECORDS", f.BatchRecords, 1, 1_000_000)
	c.batchBytes = int(r.size("BATCH_BYTES", f.BatchBytes, 1<<10, 64<<20))
	c.batchDelay = r.duration("BATCH_DELAY", f.BatchDelay, 0, time.Minute)
	if f.PoolSize != "" {
		c.poolSize = r.number("POOL_SIZE", f.PoolSize, 1, 10_000)
	}
	c.hold = r.duration("HOLD", f.Hold, time.Millisecond, time.Hour)
	c.maxBody = int(r.size("MAX_BODY", f.MaxBody, 1<<10, 256<<20))
	c.maxInflight = r.size("MAX_INFLIGHT", f.MaxInflight, 1<<10, math.MaxInt64)
	c.topic = r.topic("KAFKA_TOPIC", f.KafkaPrefix, f.KafkaTopic)
	if f.LogsTopic != "" {
		c.logsTopic = r.topic("LOGS_TOPIC", f.KafkaPrefix, f.LogsTopic)
		if r.err == nil && c.logsTopic == c.topic {
			r.fail("LOGS_TOPIC", f.LogsTopic, "another topic than KAFKA_TOPIC")
		}
	}
	c.logLevel = logLevels[r.choice("LOG_LEVEL", f.LogLevel, logLevels...)]
	if f.LogFormat != "" {
		c.logFormat = logFormats[r.choice("LOG_FORMAT", f.LogFormat, logFormats...)]
	}
	if r.err != nil {
		return nil, r.err
	}
	if f.KafkaURL != "" {
		addresses, err := cluster.Addresses(f.KafkaURL)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_URL: %w", err)
		}
		c.kafka = addresses
	} else if env("DYNO") != "" {
		return nil, errors.New("KAFKA_URL: not set: attach Kafka to the app (heroku addons:create heroku-kafka); a dyno has no disk for the embedded broker")
	}
	if c.dataDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil && c.kafka == nil {
			return nil, fmt.Errorf("DATA_DIR: not set, and there is no cache folder (%w): set it to a folder that can be written", err)
		}
		c.dataDir = filepath.Join(cache, "drain")
	}
	if c.secrets == "" && c.secretsFile == "" && !f.AllowAnonymous && !loopback(c.listen) {
		return nil, fmt.Errorf("DRAIN_SECRETS: not set, while LISTEN (%s) can be reached from outside: set a secret, or ALLOW_ANONYMOUS=true", c.listen)
	}
	return c, nil
}

const listenDefault = "127.0.0.1:8080"

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "logfmt", "json"}
)

// reader reads values and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(name, value, accepts string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: cannot use %q: use %s", name, value, accepts)
	}
}

func (r *reader) choice(name, value string, of ...string) int {
	i := slices.Index(of, value)
	if i < 0 {
		r.fail(name, value, strings.Join(of[:len(of)-1], ", ")+" or "+of[len(of)-1])
	}
	return max(i, 0)
}

func (r *reader) number(name, value string, low, high int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		r.fail(name, value, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return n
}

func (r *reader) size(name, value string, low, high int64) int64 {
	n, err := humanize.ParseBytes(value)
	if err != nil || n < uint64(low) || n > uint64(high) {
		accepts := fmt.Sprintf("a size such as 64MiB or 950KB, from %s", humanize.IBytes(uint64(low)))
		if high < math.MaxInt64 {
			accepts += " to " + humanize.IBytes(uint64(high))
		}
		r.fail(name, value, accepts)
	}
	return int64(n)
}

func (r *reader) duration(name, value string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		r.fail(name, value, fmt.Sprintf("a duration such as 5ms or 2s, from %s to %s", low, high))
	}
	return d
}

func (r *reader) address(name, value string) {
	_, port, err := net.SplitHostPort(value)
	if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil {
		r.fail(name, value, "an address such as 127.0.0.1:8080 or :8080")
	}
}

// topic checks a topic's name by Kafka's own rule.
func (r *reader) topic(name, prefix, value string) string {
	topic := prefix + value
	legal := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if strings.ContainsFunc(topic, func(c rune) bool { return !legal(c) }) || len(topic) == 0 || len(topic) > 249 || topic == "." || topic == ".." {
		r.fail(name, topic, "at most 249 letters, digits, dots, dashes and underscores, KAFKA_PREFIX included")
	}
	return topic
}

// loopback tells whether only this machine can reach address.
func loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
