package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"

	"drain/cluster"
	"drain/replay"
	"drain/routes"
	"drain/settings"
)

// flags are the settings as they are written.
type flags struct {
	Target string `help:"Where requests are sent: https://staging.example.com. In https://user:password@staging.example.com the user and password go with each request (Basic); then better as the variable TARGET."`
	Force  bool   `help:"Send them even to a host that the records name. (A flag only.)"`

	Speed       string `default:"1" help:"How many times as fast as recorded, 0.1 to 100, or max."`
	MaxGap      string `default:"1m" help:"Longer times without a request become as short, in recorded time; 0 keeps all."`
	MaxRPS      string `name:"max-rps" help:"Requests a second at most: it delays them, and drops none."`
	Concurrency string `default:"128" help:"Requests under way at most."`
	Timeout     string `default:"30s" help:"For how long an answer is waited for."`
	Breaker     string `default:"50%" help:"Pause while such a share of the requests of the last 10 s, if there were 20 or more, had no answer, or a 502, 503 or 504 that was not recorded; or off."`

	From       string   `help:"Where to begin: beginning, end, -100 (the newest 100 of all partitions together), -15m, -1h, -7d, or a time: 2026-01-02T15:04:05Z, 2026-01-02, 1767366245. (default: where the group stopped, else the beginning)"`
	Until      string   `help:"Where to end: end (of the topic, as it is at the start), never, or a time; if that is to come it waits until then, and a minute longer for what comes late. (default end; never with --from end)"`
	MaxTransit string   `help:"How long after its line a record came to Kafka at most, 1h: with --until it ends sooner then. (default: the topic is read to its end)"`
	App        []string `help:"Only requests of this app."`
	PathPrefix []string `sep:"none" help:"Only paths that begin with this."`
	Status     []string `help:"Only requests that were answered with this: 404, 5xx."`
	Sample     string   `help:"A share of the requests, 10%: by request_id, the same ones every time. It drops the others."`
	Methods    []string `default:"GET,HEAD" help:"Only these methods. Others than GET and HEAD need --unsafe, and are sent without a body."`
	Unsafe     bool     `help:"Send methods that change things. (A flag only.)"`
	Deny       []string `sep:"none" help:"Not paths or queries with this text, instead of the default list; 'default' stands for that, 'none' for none. (default: logout, signout, unsubscribe, confirm, token= and the like; shown at the start)"`

	Header        []string `sep:"none" help:"'Name: value', sent with each request. One with a secret belongs in SECRET_HEADERS."`
	ForwardedFor  bool     `help:"Send X-Forwarded-For as recorded."`
	RedactedValue string   `help:"What takes the place of a value that drain redacted. (default: such requests are not sent)"`

	Loop   bool   `help:"Begin again at the end. Commits nothing."`
	DryRun bool   `help:"Send nothing, and say what would be sent, and when."`
	Record string `help:"Write the records to this file, compressed: with --target while they are sent, else at full speed. .zst means zstd, else it is gzip."`
	File   string `help:"Read a file that --record wrote, instead of Kafka."`

	JSON         bool   `name:"json" help:"The report as one JSON object."`
	HTML         string `name:"html" help:"Write the report to this file, as a page."`
	FailOnDiff   string `help:"End with status 1 if a larger share than this, 1%, had another status or no answer."`
	FailOnSlower bool   `help:"End with status 1 if a route became slower."`

	MergeWindow string `default:"5s" help:"How far the records of a partition may be out of order, in recorded time."`
	cluster.Flags
	KafkaTopic          string `default:"router" help:"Topic of the router records."`
	KafkaGroup          string `default:"replay" help:"Consumer group: processes with the same one share the partitions, and each keeps the pace of its own."`
	KafkaSessionTimeout string `default:"10s" help:"After so long without a sign of life of a process the others share its partitions. Kafka takes 6s to 30m by default."`
	RoutesFile          string `help:"File with routes of your own, as metrics has it."`
	settings.LogFlags
}

const description = `Sends the recorded GET and HEAD requests of the topic to another host, at the pace at which they were recorded, and reports
by route how its answers and times compare with the recorded ones.

  replay --target https://staging.example.com [--speed 2] [--sample 10%] [--from -1h]
  replay --dry-run                              what would be sent
  replay --record FILE, replay --file FILE      carry a recording to a place without Kafka

It ends at the end of the topic, or with Ctrl-C, with the report on standard output; all else goes to standard error. The
group's offsets are committed for what was sent: the next start goes on there. Router lines have no headers, cookies or
bodies, so requests are sent without those of the users.

Every setting is a flag and an environment variable of the same name (--kafka-topic, KAFKA_TOPIC); the flag wins. Without
KAFKA_URL it reads from BROKER_LISTEN, where drain's own broker is, or 127.0.0.1:9092. From the environment only:

  SECRET_HEADERS   headers with secrets, one a line
  KAFKA_CLIENT_CERT_KEY
                   PEM text of the private key of KAFKA_CLIENT_CERT
  KAFKA_SASL_PASSWORD
                   password of KAFKA_SASL_USERNAME`

var command = settings.Command{
	Name: "replay", Description: description,
	Secrets: append([]string{secretHeaders}, cluster.Secrets...),
	Dashed:  []string{"--from", "--until", "--speed", "--max-gap", "--max-rps", "--concurrency", "--timeout", "--merge-window"},
	Variable: func(setting string, value func(string) string) string {
		if setting == "FORCE" || setting == "UNSAFE" {
			return "" // who sets these means this one replay, and a name like that is in many an environment
		}
		return cluster.Variable(setting, value)
	},
}

const secretHeaders = "SECRET_HEADERS"

// config is the settings as the command uses them.
type config struct {
	target       *url.URL // nil where nothing is sent
	force        bool
	header       http.Header
	forwardedFor bool
	timeout      time.Duration
	play         replay.Config // what of it is a setting
	pace         replay.Pace
	choice       replay.Choice

	from    *settings.Position // nil: where the group stopped
	follow  bool               // past the end
	over    time.Time          // when following ends, zero for never
	transit time.Duration      // how long after its line a record may come to Kafka, 0 for however long
	loop    bool
	dryRun  bool
	record  string
	file    string
	window  time.Duration

	json         bool
	html         string
	failOnDiff   float64 // negative: never
	failOnSlower bool

	kafka        *cluster.Config
	ownBroker    bool // drain's embedded one
	topic, group string
	session      time.Duration
	rules        *routes.Rules
	log          settings.Log
}

// sends tells whether requests are sent.
func (c *config) sends() bool { return c.target != nil && !c.dryRun }

func readConfig(args []string, getenv func(string) (string, bool), stdout io.Writer) (*config, error) {
	var f flags
	if err := command.Parse(&f, args, getenv, stdout); err != nil {
		return nil, err
	}
	c, err := f.config(getenv, time.Now())
	if err != nil {
		return nil, settings.UsageError{Err: err}
	}
	return c, nil
}

func (f *flags) config(getenv func(string) (string, bool), now time.Time) (*config, error) {
	c := &config{force: f.Force, forwardedFor: f.ForwardedFor, loop: f.Loop, dryRun: f.DryRun, record: f.Record, file: f.File,
		json: f.JSON, html: f.HTML, failOnDiff: -1, failOnSlower: f.FailOnSlower}
	var err error
	if c.kafka, err = f.Config(getenv); err != nil {
		return nil, err
	}
	r := settings.Reader{}
	c.target = readTarget(&r, f.Target)
	secret, _ := getenv(secretHeaders)
	c.header = make(http.Header)
	readHeader(&r, c.header, "HEADER", f.Header)
	readHeader(&r, c.header, secretHeaders, strings.Split(secret, "\n"))
	c.loginFromTarget()
	c.timeout = r.Duration("TIMEOUT", f.Timeout, time.Millisecond, 10*time.Minute)
	c.window = r.Duration("MERGE_WINDOW", f.MergeWindow, 0, 5*time.Minute)
	c.readPace(&r, f)
	c.readSpan(&r, f, now)
	c.readChoice(&r, f)
	if f.FailOnDiff != "" {
		c.failOnDiff = readShare(&r, "FAIL_ON_DIFF", f.FailOnDiff, "a share such as 10% or 0.1")
	}
	c.topic = r.Topic("KAFKA_TOPIC", c.kafka.Prefix, f.KafkaTopic)
	c.session = r.Duration("KAFKA_SESSION_TIMEOUT", f.KafkaSessionTimeout, 500*time.Millisecond, 30*time.Minute)
	c.log = r.Log(&f.LogFlags)
	if f.KafkaGroup == "" {
		r.Fail("KAFKA_GROUP", f.KafkaGroup, "a name")
	}
	if r.Err != nil {
		return nil, r.Err
	}
	c.group = c.kafka.Prefix + f.KafkaGroup
	if err := c.fits(f); err != nil {
		return nil, err
	}
	if c.file == "" {
		if c.ownBroker, err = c.kafka.OrOwnBroker(getenv); err != nil {
			return nil, err
		}
	}
	if f.RoutesFile != "" {
		if c.rules, err = routes.ReadRules(f.RoutesFile); err != nil {
			return nil, fmt.Errorf("ROUTES_FILE: %w", err)
		}
	}
	return c, nil
}

// fits tells what of the settings does not go together.
func (c *config) fits(f *flags) error {
	switch {
	case c.target == nil && !c.dryRun && c.record == "":
		return errors.New("--target: where are the requests to be sent? --target https://staging.example.com; or --dry-run, or --record FILE")
	case c.dryRun && c.record != "":
		return errors.New("--dry-run and --record: a dry run writes nothing")
	case !c.sends() && (c.html != "" || c.failOnDiff >= 0 || c.failOnSlower):
		return errors.New("--html, --fail-on-diff and --fail-on-slower: nothing is sent, so there is no report")
	case c.file != "" && c.record != "":
		return errors.New("--record and --file: a file is recorded of a topic; what --file holds is recorded already")
	case c.file != "" && c.from != nil && c.from.Newest > 0:
		return errors.New("--from -N: only Kafka knows the newest of a topic; use a time with --file")
	case c.file != "" && c.from != nil && *c.from == settings.Position{}:
		return errors.New("--from end: there is nothing behind the end of a file")
	case c.file != "" && c.follow:
		return errors.New("--until never: a file has an end")
	case c.loop && c.follow:
		return errors.New("--loop: it begins again at the end, and there is none with --until never")
	case c.loop && c.record != "":
		return errors.New("--loop and --record: the file would have no end")
	}
	return nil
}

func readTarget(r *settings.Reader, text string) *url.URL {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !isPort(u.Port()) || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		if strings.Contains(text, "@") {
			text = "…" // there may be a password in it
		}
		r.Fail("TARGET", text, "http:// or https:// and a host alone, such as https://staging.example.com: paths are as recorded")
		return nil
	}
	// Records have names as they are asked for, which is how certificates have them, too.
	if ascii, err := idna.Lookup.ToASCII(u.Hostname()); err == nil && ascii != u.Hostname() {
		port := u.Port()
		if u.Host = ascii; port != "" {
			u.Host = net.JoinHostPort(ascii, port)
		}
	}
	return u
}

// loginFromTarget has the user and password of the target sent as browsers do, and shown nowhere. A header that says
// another login wins.
func (c *config) loginFromTarget() {
	if c.target == nil || c.target.User == nil {
		return
	}
	if c.header.Get("Authorization") == "" {
		password, _ := c.target.User.Password()
		(&http.Request{Header: c.header}).SetBasicAuth(c.target.User.Username(), password)
	}
	c.target.User = nil
}

// isPort tells whether a URL's port is one, or none.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

// readHeader reads 'Name: value' lines of a setting. What it says of one holds no value.
func readHeader(r *settings.Reader, header http.Header, setting string, lines []string) {
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, colon := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !colon || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			if !colon {
				name = "…"
			}
			r.Fail(setting, name, "'Name: value'")
			continue
		}
		switch http.CanonicalHeaderKey(name) {
		case "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade", "X-Replay":
			r.Fail(setting, name, "another header: this one is HTTP's, or replay's own")
		case "Host":
			if host, err := httpguts.PunycodeHostPort(value); err != nil || value == "" || !httpguts.ValidHostHeader(host) {
				r.Fail(setting, name, "a host, or host:port") // no request could be sent
			}
		}
		header.Add(name, value)
	}
}

const (
	slowest, fastest = 0.1, 100
	mostRPS          = 1_000_000
	mostConcurrency  = 10_000
	mostNewest       = 1_000_000_000
)

func (c *config) readPace(r *settings.Reader, f *flags) {
	if f.Speed != "max" {
		speed, err := strconv.ParseFloat(f.Speed, 64)
		if err != nil || !(speed >= slowest && speed <= fastest) {
			r.Fail("SPEED", f.Speed, "a number from 0.1 to 100, or max")
		}
		c.pace.Speed = speed
	}
	if f.MaxGap != "0" {
		c.pace.MaxGap = r.Duration("MAX_GAP", f.MaxGap, time.Millisecond, 366*24*time.Hour, "0 to keep all")
	}
	if f.MaxRPS != "" {
		rps, err := strconv.ParseFloat(f.MaxRPS, 64)
		if err != nil || !(rps > 0 && rps <= mostRPS) {
			r.Fail("MAX_RPS", f.MaxRPS, "a number of requests a second, such as 50 or 0.5")
		}
		c.play.MaxRPS = rps
	}
	c.play.Concurrency = r.Number("CONCURRENCY", f.Concurrency, 1, mostConcurrency)
	if f.Breaker != "off" {
		const accepts = "a share such as 50%, or off"
		if c.play.Break = readShare(r, "BREAKER", f.Breaker, accepts); c.play.Break == 0 {
			r.Fail("BREAKER", f.Breaker, accepts)
		}
	}
}

// readShare reads 10%, or 0.1.
func readShare(r *settings.Reader, name, text, accepts string) float64 {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) || !percent && share == 1 {
		r.Fail(name, text, accepts)
	}
	return share
}

// readSpan reads what part of the recording is wanted.
func (c *config) readSpan(r *settings.Reader, f *flags, now time.Time) {
	if f.From != "" {
		from := r.Position("FROM", f.From, now, mostNewest)
		c.from, c.choice.From = &from, from.At
	}
	switch f.Until {
	case "end":
	case "never":
		c.follow = true
	case "":
		c.follow = c.from != nil && *c.from == settings.Position{}
	default:
		c.choice.Until = r.Time("UNTIL", f.Until, now, "end", "never")
	}
	switch until := c.choice.Until; {
	case until.IsZero():
	case !c.choice.From.Before(until):
		r.Fail("UNTIL", f.Until, "a time after --from")
	case until.After(now) && c.file == "":
		c.follow, c.over = true, until.Add(late)
	}
	if !c.choice.From.Before(now.Add(late)) {
		r.Fail("FROM", f.From, "a time that has been")
	}
	if f.MaxTransit != "" {
		c.transit = r.Duration("MAX_TRANSIT", f.MaxTransit, time.Second, 366*24*time.Hour)
	}
}

// arrival is when all that was recorded before --until is in Kafka, zero where that is not known.
func (c *config) arrival() time.Time {
	switch {
	case !c.over.IsZero():
		return c.over
	case c.transit > 0 && !c.choice.Until.IsZero():
		return c.choice.Until.Add(c.transit)
	}
	return time.Time{}
}

func (c *config) readChoice(r *settings.Reader, f *flags) {
	c.choice.Apps, c.choice.Prefixes = f.App, f.PathPrefix
	for _, prefix := range f.PathPrefix {
		if !strings.HasPrefix(prefix, "/") {
			r.Fail("PATH_PREFIX", prefix, "a path that begins with /")
		}
	}
	for _, text := range f.Status {
		c.choice.Statuses = append(c.choice.Statuses, readStatus(r, text))
	}
	if f.Sample != "" {
		const accepts = "a share up to 100%, such as 10% or 0.1"
		if c.choice.Sample = readShare(r, "SAMPLE", f.Sample, accepts); c.choice.Sample == 0 {
			r.Fail("SAMPLE", f.Sample, accepts)
		}
	}
	for _, method := range f.Methods {
		switch method = strings.ToUpper(strings.TrimSpace(method)); {
		case !httpguts.ValidHeaderFieldName(method), method == http.MethodConnect:
			r.Fail("METHODS", method, "methods such as GET,HEAD,POST")
		case !slices.Contains(replay.Safe, method) && !f.Unsafe:
			r.Fail("METHODS", method, "GET and HEAD, or add --unsafe: others can change what the target holds")
		}
		c.choice.Methods = append(c.choice.Methods, method)
	}
	c.choice.RedactedValue = f.RedactedValue
	c.choice.KeepRecords = f.Record != ""
	c.choice.Whole = f.Record != "" && f.Target == "" && !f.DryRun // the methods and --deny are for when it is played
	if c.choice.Deny = replay.DefaultDeny; f.Deny != nil {
		c.choice.Deny = nil
		for _, text := range f.Deny {
			switch text {
			case "":
				r.Fail("DENY", text, "a text, default, or none") // a script's variable that was not set
			case "default":
				c.choice.Deny = append(c.choice.Deny, replay.DefaultDeny...)
			case "none":
			default:
				c.choice.Deny = append(c.choice.Deny, strings.ToLower(text))
			}
		}
	}
}

// readStatus reads 404 or 5xx.
func readStatus(r *settings.Reader, text string) replay.Statuses {
	if class, isClass := strings.CutSuffix(strings.ToLower(text), "xx"); isClass && len(class) == 1 && class[0] >= '1' && class[0] <= '5' {
		low := int64(class[0]-'0') * 100
		return replay.Statuses{Low: low, High: low + 99}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 100 || n > 599 {
		r.Fail("STATUS", text, "statuses such as 404 or 5xx")
	}
	return replay.Statuses{Low: n, High: n}
}
