package syslog

import (
	"strings"
	"testing"
	"time"
)

func TestHeadersOfAnotherShapeAreRead(t *testing.T) {
	const stamp = "2022-06-13T14:52:23.622778+00:00"
	at := time.Date(2022, 6, 13, 14, 52, 23, 622_778_000, time.UTC).UnixMicro()
	for name, c := range map[string]struct {
		message, app, proc, text string
		timeless                 bool
	}{
		"another version":            {"<40>2 " + stamp + " host app web.1 - hello", "app", "web.1", "hello", false},
		"version of three digits":    {"<40>999 " + stamp + " host app web.1 - [info] hello", "app", "web.1", "[info] hello", false},
		"no time":                    {"<40>1 - host app web.1 - hello", "app", "web.1", "hello", true},
		"no time, no text":           {"<40>1 - host app web.1 -", "app", "web.1", "", true},
		"no names":                   {"<40>1 - - - - - hello", "-", "-", "hello", true},
		"nine digits":                {"<40>1 2022-06-13T14:52:23.622778999+00:00 host app web.1 ID47 - hello", "app", "web.1", "hello", false},
		"MSGID, no data":             {"<40>1 " + stamp + " host app web.1 ID47 - hello", "app", "web.1", "hello", false},
		"MSGID, no data, no text":    {"<40>1 " + stamp + " host app web.1 ID47 -", "app", "web.1", "", false},
		"MSGID, no data, empty text": {"<40>1 " + stamp + " host app web.1 ID47 - ", "app", "web.1", "", false},
		"MSGID alone":                {"<40>1 " + stamp + " host app web.1 ID47", "app", "web.1", "", false},
		"MSGID and a space":          {"<40>1 " + stamp + " host app web.1 ID47 ", "app", "web.1", "", false},
		"MSGID, Logplex's text":      {"<40>1 " + stamp + " host app web.1 ID47 hello - world", "app", "web.1", "hello - world", false},
		"MSGID begins with a dash":   {"<40>1 " + stamp + " host app web.1 -- hello", "app", "web.1", "hello", false},
		"MSGID, brackets are data":   {"<40>1 " + stamp + " host app web.1 ID47 [info] started [ok", "app", "web.1", "started [ok", false},
		"MSGID, data without end":    {"<40>1 " + stamp + " host app web.1 ID47 [GIN x", "app", "web.1", "[GIN x", false},
		"MSGID, data":                {"<40>1 " + stamp + ` host app web.1 ID47 [a b="c"] hello`, "app", "web.1", "hello", false},
		"MSGID, broken data":         {"<40>1 " + stamp + ` host app web.1 ID47 [a b="c" d="]\"] \] x"][e@1][f g=""] hello`, "app", "web.1", `[a b="c" d="]\"] \] x"][e@1][f g=""] hello`, false},
		"MSGID, data, escapes":       {"<40>1 " + stamp + ` host app web.1 ID47 [a b="c" d="\]\"\] \\ x"][e@1][f g=""] hello`, "app", "web.1", "hello", false},
		"MSGID, data, no text":       {"<40>1 " + stamp + ` host app web.1 ID47 [a b="c"]`, "app", "web.1", "", false},
		"MSGID, data in UTF-8":       {"<40>1 " + stamp + ` host app web.1 ID47 [a b="é"] [é]`, "app", "web.1", "[é]", false},
		"MSGID, text not in UTF-8":   {"<40>1 " + stamp + ` host app web.1 ID47 [a b="c"] caf` + "\xe9", "app", "web.1", "caf\xe9", false},
		"no data, text not in UTF-8": {"<40>1 " + stamp + " host app web.1 ID47 - caf\xe9", "app", "web.1", "caf\xe9", false},
		"MSGID, a long text":         {"<40>1 " + stamp + " host app web.1 ID47 - " + strings.Repeat("é", 20_000), "app", "web.1", strings.Repeat("é", 20_000), false},
		"MSGID, newlines in it":      {"<40>1 - host app web.1 ID47 - a\n<1>1 - h a p m - b", "app", "web.1", "a\n<1>1 - h a p m - b", true},
		"everything at once":         {"<191>3 - host app web.1 ID47 [a] - x", "app", "web.1", "- x", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(new(Parser), c.message+"\n", Counted)
			if m.Malformed || string(m.App) != c.app || string(m.Proc) != c.proc || string(m.Text) != c.text ||
				string(m.Raw) != c.message || m.HasTime == c.timeless || m.HasTime && m.Time != at || m.Priority < 0 {
				t.Errorf("%+v, text %q", m, m.Text)
			}
		})
	}
}

func TestNilDataIsTrimmedOnlyWhereTheSenderWritesIt(t *testing.T) {
	for _, c := range []struct{ behind, asLogplex, asShuttle string }{
		{"- - hello", "- hello", "hello"},
		{"- - ", "- ", ""},
		{"- -", "-", ""},
		{"- hello", "hello", "hello"},
		{"- -hello", "-hello", "-hello"},
		{"- - - item", "- - item", "- item"},
		{`- [meta sequenceId="1"] message 1`, `[meta sequenceId="1"] message 1`, `[meta sequenceId="1"] message 1`},
		{"-", "", ""},
		{"ID47 - hello", "hello", "hello"},
		{"ID47 - - item", "- item", "- item"},
		{"ID47 [a] - item", "- item", "- item"},
	} {
		for _, head := range []string{"<190>1 2022-06-13T14:52:23Z shuttle token web.1 ", "<190>1 - shuttle token web.1 "} {
			logplex := parse(new(Parser), head+c.behind, Line)
			shuttle := parse(&Parser{NilData: true}, head+c.behind, Line)
			if string(logplex.Text) != c.asLogplex || string(shuttle.Text) != c.asShuttle {
				t.Errorf("%q: %q, %q", head+c.behind, logplex.Text, shuttle.Text)
			}
		}
	}
	for text, want := range map[string]string{"": "", "-": "", "- ": "", "- x": "x", "-x": "-x", " - x": " - x", "x": "x"} {
		if got := TrimNilData([]byte(text)); string(got) != want {
			t.Errorf("TrimNilData(%q) = %q", text, got)
		}
	}
}

func TestDataLongerThanIsShownStaysInTheText(t *testing.T) {
	const room = maxStructured - len(` [a b=""] `) - len("hello")
	for _, extra := range []int{-1000, -20, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 20, 1000} {
		for _, tail := range []string{"", "[x]"} {
			data := `[a b="` + strings.Repeat("c", room+extra) + `"]` + tail
			m := parse(new(Parser), "<1>1 - h a p ID47 "+data+" hello", Line)
			whole := string(m.Text) == data+" hello"
			if m.Malformed || !whole && string(m.Text) != "hello" || extra < -10 && whole || extra > 10 && !whole {
				t.Errorf("%d over: %.20q … %d bytes", extra, m.Text, len(m.Text))
			}
		}
	}
}
