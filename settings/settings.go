// Package settings reads what a command is told: each setting is a flag and an
// environment variable of the same name (`--kafka-topic`, KAFKA_TOPIC), and the flag
// wins. Secrets are variables only.
package settings

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"
)

// UsageError is a setting that cannot be used; the program ends with status 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// ErrHelp says that --help was asked for and answered.
var ErrHelp = errors.New("help")

// ExitStatus says what err means to the shell, and writes it to stderr in one line:
// 2 for settings, 1 for the rest.
func ExitStatus(command string, err error, stderr io.Writer) int {
	var usage UsageError
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %v\n", command, err)
		return 2
	}
	fmt.Fprintf(stderr, "%s: %v\n", command, err)
	return 1
}

// Command is what Parse needs to know of a command.
type Command struct {
	Name, Description string
	// Secrets are the settings that come from the environment only.
	Secrets []string
	// Emptied are the settings that an empty variable sets, too.
	Emptied []string
	// Dashed are the flags whose values may begin with a dash: `--from -10` would else be taken for two flags.
	Dashed []string
	// Variable is the environment variable that a setting is read from, where it is
	// not always that of the same name; value gives another setting's.
	Variable func(setting string, value func(setting string) string) string
}

// Parse reads args and the environment into flags, a pointer to a struct in kong's
// form. getenv is os.LookupEnv, or a test's; stdout is for --help. The error is
// ErrHelp or a UsageError.
func (c *Command) Parse(flags any, args []string, getenv func(string) (string, bool), stdout io.Writer) error {
	_, err := c.ParseCommand(flags, args, getenv, stdout)
	return err
}

// ParseCommand is Parse for a command that has some of its own (`topic info`), and tells
// which one it is to do.
func (c *Command) ParseCommand(flags any, args []string, getenv func(string) (string, bool), stdout io.Writer) (chosen string, err error) {
	helped := false
	parser, err := kong.New(flags,
		kong.Name(c.Name), kong.Description(c.Description), kong.Writers(stdout, stdout),
		kong.Exit(func(int) { helped = true }),
		kong.Resolvers(c.environment(getenv)),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
		kong.ValueFormatter(func(v *kong.Value) string {
			if v.HasDefault && v.Default != "" {
				return v.Help + " (default " + v.Default + ")"
			}
			return v.Help
		}),
	)
	if err != nil {
		return "", err
	}
	found, err := parser.Parse(c.joined(args))
	switch {
	case helped:
		return "", ErrHelp
	case err != nil:
		return "", UsageError{errors.New(c.explain(args, err.Error(), parser.Model.Children))}
	}
	if selected := found.Selected(); selected != nil {
		chosen = selected.Name
	}
	return chosen, nil
}

// joined puts the Dashed flags and their values together.
func (c *Command) joined(args []string) (out []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(out, args[i:]...)
		case slices.Contains(c.Dashed, args[i]) && i+1 < len(args):
			i++
			out = append(out, args[i-1]+"="+args[i])
		default:
			out = append(out, args[i])
		}
	}
	return out
}

// explain makes one line of what the flags are refused for. It shows no argument
// that is not a flag's name: it could be a secret.
func (c *Command) explain(args []string, text string, commands []*kong.Node) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if setting := strings.ToUpper(strings.ReplaceAll(name, "-", "_")); slices.Contains(c.Secrets, setting) {
			return setting + ": cannot be an argument, which others can see: set it in the environment"
		}
	}
	if strings.HasPrefix(text, "unexpected argument") {
		text = "an argument is no flag: write settings as --name=value, or as NAME=value in the environment"
		if len(commands) > 0 {
			var names []string
			for _, command := range commands {
				names = append(names, command.Name)
			}
			text = "an argument is no command, or one too many: the commands are " + strings.Join(names, ", ")
		}
	}
	text = strings.Replace(text, `expected string value but got "EOL" (<EOL>)`, "needs a value, as in --name=value", 1)
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text) + ": see --help for the settings"
}

// environment resolves a flag from the variable of the same name. An empty
// variable is none, but for those that it sets.
func (c *Command) environment(getenv func(string) (string, bool)) kong.Resolver {
	return kong.ResolverFunc(func(found *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		name := variable(flag)
		if c.Variable != nil {
			name = c.Variable(name, func(setting string) string { return given(found, setting, getenv) })
		}
		value, ok := getenv(name)
		if flag.Name == "help" || !ok || value == "" && !slices.Contains(c.Emptied, name) {
			return nil, nil
		}
		return value, nil
	})
}

func variable(flag *kong.Flag) string {
	return strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// given is a setting's text: the flag's, where there is one, or the variable's.
func given(found *kong.Context, setting string, getenv func(string) (string, bool)) string {
	for _, part := range found.Path {
		if part.Flag != nil && variable(part.Flag) == setting {
			if text, ok := found.FlagValue(part.Flag).(string); ok {
				return text
			}
		}
	}
	text, _ := getenv(setting)
	return text
}

// Reader reads values and keeps the first error, which names the setting and says
// what it would accept.
type Reader struct{ Err error }

// Fail says that a value cannot be used.
func (r *Reader) Fail(name, value, accepts string) {
	if r.Err == nil {
		r.Err = fmt.Errorf("%s: cannot use %q: use %s", name, value, accepts)
	}
}

// alternatives is what a setting accepts, and what else.
func alternatives(accepts string, others []string) string {
	return strings.Join(append([]string{accepts}, others...), ", or ")
}

// Choice is the index of value among those it may be.
func (r *Reader) Choice(name, value string, of ...string) int {
	i := slices.Index(of, value)
	if i < 0 {
		r.Fail(name, value, strings.Join(of[:len(of)-1], ", ")+" or "+of[len(of)-1])
	}
	return max(i, 0)
}

// Number is a whole number between low and high.
func (r *Reader) Number(name, value string, low, high int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		r.Fail(name, value, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return n
}

// Size is a number of bytes between low and high.
func (r *Reader) Size(name, value string, low, high int64) int64 {
	n, err := humanize.ParseBytes(value)
	if err != nil || n < uint64(low) || n > uint64(high) {
		accepts := fmt.Sprintf("a size such as 64MiB or 950KB, from %s", humanize.IBytes(uint64(low)))
		if high < math.MaxInt64 {
			accepts += " to " + humanize.IBytes(uint64(high))
		}
		r.Fail(name, value, accepts)
	}
	return int64(n)
}

// Duration is a length of time between low and high. others are what the setting may be as well.
func (r *Reader) Duration(name, value string, low, high time.Duration, others ...string) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		r.Fail(name, value, alternatives(fmt.Sprintf("a duration such as 5ms or 2s, from %s to %s", low, high), others))
	}
	return d
}

// Address checks an address to listen on.
func (r *Reader) Address(name, value string) {
	_, port, err := net.SplitHostPort(value)
	if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil {
		r.Fail(name, value, "an address such as 127.0.0.1:8080 or :8080")
	}
}

// Topic checks a topic's name by Kafka's own rule.
func (r *Reader) Topic(name, prefix, value string) string {
	topic := prefix + value
	legal := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if strings.ContainsFunc(topic, func(c rune) bool { return !legal(c) }) || len(topic) == 0 || len(topic) > 249 || topic == "." || topic == ".." {
		r.Fail(name, topic, "at most 249 letters, digits, dots, dashes and underscores, KAFKA_PREFIX included")
	}
	return topic
}
