package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestLog_levels(t *testing.T) {
	for level, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		for _, format := range []string{"", "text", "logfmt", "json"} {
			var r Reader
			l := r.Log(&LogFlags{LogLevel: level, LogFormat: format})
			if r.Err != nil || l.Level() != want {
				t.Fatalf("%s: %v, %v", level, l.Level(), r.Err)
			}
			var b strings.Builder
			log := l.Logger(&b)
			log.Log(t.Context(), want-1, "less")
			log.Log(t.Context(), want, "this")
			if strings.Contains(b.String(), "less") || !strings.Contains(b.String(), "this") {
				t.Errorf("%s %s: %q", level, format, b.String())
			}
		}
	}
}

// One line an event, whatever its values are; what is no terminal gets logfmt, without colours.
func TestLog_formats(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for format, want := range map[string]string{
		"":       `^time=\S+ level=INFO msg="it says" why="a\\nb \\x1b\[31m"\n$`,
		"logfmt": `^time=\S+ level=INFO msg="it says" why="a\\nb \\x1b\[31m"\n$`,
		"json":   `^\{"time":"\S+","level":"INFO","msg":"it says","why":"a\\nb \\u001b\[31m"\}\n$`,
		"text":   `^\d\d:\d\d:\d\d\.\d{3} INF it says why="a\\nb "\n$`,
	} { // text leaves colours out
		var b strings.Builder
		if err := file.Truncate(0); err != nil {
			t.Fatal(err)
		}
		var r Reader
		l := r.Log(&LogFlags{LogLevel: "info", LogFormat: format})
		l.Logger(&b).Info("it says", "why", "a\nb \x1b[31m")
		l.Logger(file).Info("it says", "why", "a\nb \x1b[31m")
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("%s: %q", format, b.String())
		}
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.TrimLeft(string(text), "\x00"); !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s in a file: %q", format, text)
		}
	}
}

func TestLog_saysWhatItAccepts(t *testing.T) {
	for _, tt := range []struct {
		flags LogFlags
		says  string
	}{
		{LogFlags{LogLevel: "trace"}, `LOG_LEVEL: cannot use "trace": use debug, info, warn or error`},
		{LogFlags{LogLevel: "INFO"}, `LOG_LEVEL: cannot use "INFO": use debug, info, warn or error`},
		{LogFlags{LogLevel: ""}, `LOG_LEVEL: cannot use "": use debug, info, warn or error`},
		{LogFlags{LogLevel: "info", LogFormat: "xml"}, `LOG_FORMAT: cannot use "xml": use text, logfmt or json`},
		{LogFlags{LogLevel: "info", LogFormat: "a\nb"}, `LOG_FORMAT: cannot use "a\nb": use text, logfmt or json`},
	} {
		var r Reader
		r.Log(&tt.flags)
		if r.Err == nil || r.Err.Error() != tt.says {
			t.Errorf("%+v: %v, want %s", tt.flags, r.Err, tt.says)
		}
	}
}
