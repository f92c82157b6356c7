package settings

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// LogFlags are the settings of a command's own log; a command embeds them in its flags.
type LogFlags struct {
	LogLevel  string `default:"info" help:"Own log: debug, info, warn or error."`
	LogFormat string `help:"Own log: text, logfmt or json. (default: text on a terminal, else logfmt)"`
}

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "logfmt", "json"}
)

// Log is how a command writes its own log.
type Log struct {
	level  slog.Level
	format string // "" for what fits
}

// Log reads the settings of the log.
func (r *Reader) Log(f *LogFlags) Log {
	var l Log
	_ = l.level.UnmarshalText([]byte(logLevels[r.Choice("LOG_LEVEL", f.LogLevel, logLevels...)])) // one of its names
	if f.LogFormat != "" {
		l.format = logFormats[r.Choice("LOG_FORMAT", f.LogFormat, logFormats...)]
	}
	return l
}

// Level is the least that is told.
func (l Log) Level() slog.Level { return l.level }

// Logger makes the log: one line an event, written to w at once. A w that is not a file tells by Terminal whether
// it leads to one.
func (l Log) Logger(w io.Writer) *slog.Logger {
	terminal := false
	switch w := w.(type) {
	case *os.File:
		terminal = isatty.IsTerminal(w.Fd())
	case interface{ Terminal() bool }:
		terminal = w.Terminal()
	}
	options := &slog.HandlerOptions{Level: l.level}
	switch {
	case l.format == "text", l.format == "" && terminal:
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l.level, TimeFormat: "15:04:05.000", NoColor: !terminal}))
	case l.format == "json":
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
