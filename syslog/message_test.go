package syslog

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var realHeader = regexp.MustCompile(`^<(\d+)>1 (\S+) host (\S+) (\S+) - (?s:(.*?)\n?)$`)

func TestRealLinesAreReadInEveryForm(t *testing.T) {
	var p Parser
	for _, line := range corpus(t) {
		part := realHeader.FindStringSubmatch(line)
		priority, _ := strconv.Atoi(part[1])
		at, err := time.Parse(time.RFC3339Nano, part[2])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			message  string
			form     Form
			priority int
			cut      bool
		}{
			{line, Counted, priority, !strings.HasSuffix(line, "\n")},
			{line, Line, priority, false},
			{strings.TrimSuffix(line, "\n") + "\r\n", Line, priority, false},
			{part[2] + " " + part[3] + "[" + part[4] + "]: " + part[5] + "\n", Printed, -1, false},
			{part[2] + " " + part[3] + "[" + part[4] + "]: " + part[5] + "\r\n", Printed, -1, false},
		} {
			m := parse(&p, c.message, c.form)
			if string(m.App) != part[3] || string(m.Proc) != part[4] || string(m.Text) != part[5] ||
				string(m.Raw) != strings.TrimRight(c.message, "\r\n") || int(m.Priority) != c.priority ||
				!m.HasTime || m.Time != at.UnixMicro() || m.Malformed || m.Cut != c.cut {
				t.Errorf("%q in form %d: %+v", c.message, c.form, m)
			}
			if m.Router() != (part[3] == "heroku" && part[4] == "router") {
				t.Errorf("%q: Router is %v", c.message, m.Router())
			}
		}
	}
}

func TestOnlyHerokusRouterIsTheRouter(t *testing.T) {
	for message, want := range map[string]bool{
		"<158>1 2022-06-13T14:52:23Z host heroku router - at=info":    true,
		"<134>1 2022-06-13T14:52:23Z host heroku router - x":          true,
		"<158>1 2022-06-13T14:52:23Z host app router - at=info":       false,
		"<158>1 2022-06-13T14:52:23Z heroku router web.1 - at=info":   false,
		"<158>1 2022-06-13T14:52:23Z host heroku router.1 - at=info":  false,
		"<158>1 2022-06-13T14:52:23Z host heroku web.1 - at=info":     false,
		"<158>1 2022-06-13T14:52:23Z host heroku  router - at=info":   false,
		"<158>1 2022-06-13 14:52:23Z host heroku router - at=info":    false,
		"<158>1 2022-06-13T14:52:23Z host app web.1 - heroku[router]": false,
	} {
		if m := parse(new(Parser), message, Line); m.Router() != want {
			t.Errorf("%q: %v", message, !want)
		}
	}
}

func TestAnyTextIsKeptByteForByte(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                     "",
		"a space":                   " ",
		"NUL":                       "a\x00b\x00",
		"ANSI colour":               "\x1b[31mred\x1b[0m",
		"CR":                        "progress 1%\rprogress 2%\r",
		"newlines within":           "a\nb\n\nc",
		"invalid UTF-8":             "\xff\xfe caf\xe9 \xc3",
		"a byte order mark":         "\ufeffhello",
		"longer than 10 KB":         strings.Repeat("0123456789", 2_000),
		"gin":                       "[GIN] 2022/06/13 - 14:52:23 | 200 |",
		"level in brackets":         "[info] started",
		"well-formed like data":     `[meta sequenceId="1"] message 1`,
		"a dash":                    "-",
		"a dash and more":           "- item",
		"a header":                  "<1>1 2022-06-13T14:52:23Z host heroku router - at=info",
		"a count and a header":      "83 <1>1 2022-06-13T14:52:23Z host heroku router - at=info",
		"only what looks like data": "[]",
	} {
		t.Run(name, func(t *testing.T) {
			head := "<190>1 2022-06-13T14:52:23.621815+00:00 host app web.1 - "
			m := parse(new(Parser), head+text+"\n", Counted)
			if string(m.Text) != text || string(m.Raw) != head+text || m.Malformed || m.Cut {
				t.Errorf("%+v, text %q", m, m.Text)
			}
		})
	}
}

func TestOnlyOneNewlineEndsAMessage(t *testing.T) {
	const head = "<190>1 2022-06-13T14:52:23Z host app web.1 -"
	for _, c := range []struct {
		tail string
		form Form
		text string
		cut  bool
	}{
		{" a\n", Counted, "a", false},
		{" a\n\n", Counted, "a\n", false},
		{" a\r\n", Counted, "a\r", false},
		{" a", Counted, "a", true},
		{"", Counted, "", true},
		{"\n", Counted, "", false},
		{" \n", Counted, "", false},
		{" a\r\n", Line, "a", false},
		{" a\r", Line, "a", false},
		{"\r\n", Line, "", false},
		{" a", Line, "a", false},
	} {
		m := parse(new(Parser), head+c.tail, c.form)
		if string(m.Text) != c.text || m.Cut != c.cut || m.Malformed {
			t.Errorf("%q in form %d: text %q, %+v", c.tail, c.form, m.Text, m)
		}
	}
}

func TestAMalformedHeaderLeavesOnlyRaw(t *testing.T) {
	p := Parser{}
	for _, message := range []string{
		"", "<", "<>", "<1>", "<1>1", "<1>1 ", "hello", "-", "<1>1 2022-06-13T14:52:23Z", "<1>1 2022-06-13T14:52:23Z ",
		"<192>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<999>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<1234>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<01>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<00>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<-1>1 2022-06-13T14:52:23Z host app web.1 - x",
		"<1 >1 2022-06-13T14:52:23Z host app web.1 - x",
		"<1>2022-06-13T14:52:23Z host app web.1 - x",
		"<1> 2022-06-13T14:52:23Z host app web.1 - x",
		"<1>0 2022-06-13T14:52:23Z host app web.1 - x",
		"<1>1000 2022-06-13T14:52:23Z host app web.1 - x",
		"<1>x 2022-06-13T14:52:23Z host app web.1 - x",
		"<1>1  2022-06-13T14:52:23Z host app web.1 - x",
		"<1>1 2022-06-13T14:52:23Z  app web.1 - x",
		"<1>1 2022-06-13T14:52:23Z host  web.1 - x",
		"<1>1 2022-06-13T14:52:23Z host app  - x",
		"<1>1 2022-06-13T14:52:23Z host app web.1",
		"<1>1 2022-06-13T14:52:23Z host app web.1 ",
		"<1>1 2022-06-13T14:52:23Z host app web.1  x",
		"<1>1 2022-06-13T14:52:23Zhost app web.1 - x",
		"<1>1 -- host app web.1 - x",
		"<1>1 yesterday host app web.1 - x",
		"<1>1 2022-06-13T14:52:23Z host app web.1 id\x01 x",
		"<1>1 2022-06-13T14:52:23Z host app web.1 " + strings.Repeat("i", 33) + " - x",
		"<1>2 2022-06-13T14:52:23Z " + strings.Repeat("h", 256) + " app web.1 - x",
		"<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
	} {
		m := parse(&p, message, Line)
		if !m.Malformed || string(m.Raw) != message || m.App != nil || m.Proc != nil || m.Text != nil ||
			m.HasTime || m.Time != 0 || m.Priority != -1 || m.Cut {
			t.Errorf("%q: %+v", message, m)
		}
	}
}

func TestAnUnreadableStretchIsKeptAsRaw(t *testing.T) {
	m := parse(new(Parser), "what is this?\r\n", Unreadable)
	if !m.Malformed || string(m.Raw) != "what is this?" || m.Cut {
		t.Errorf("%+v", m)
	}
}

func TestPrintedLines(t *testing.T) {
	for _, c := range []struct{ line, app, proc, text string }{
		{"2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info method=GET", "heroku", "router", "at=info method=GET"},
		{"2022-06-13T14:52:23Z app[web.1]: [GIN] x]: y", "app", "web.1", "[GIN] x]: y"},
		{"2022-06-13T14:52:23Z app[heroku-postgres]: source=A", "app", "heroku-postgres", "source=A"},
		{"2022-06-13T14:52:23Z app[run.12[3]: x", "app", "run.12[3", "x"},
		{"2022-06-13T14:52:23Z app[web.1]:  two spaces", "app", "web.1", " two spaces"},
		{"2022-06-13T14:52:23Z app[web.1]: - item", "app", "web.1", "- item"},
		{"2022-06-13T14:52:23Z app[web.1]: ", "app", "web.1", ""},
		{"2022-06-13T14:52:23Z app[web.1]:", "app", "web.1", ""},
		{"2022-06-13T14:52:23Z app[web.1]:x", "app", "web.1", "x"},
	} {
		m := parse(&Parser{NilData: true}, c.line, Printed)
		if string(m.App) != c.app || string(m.Proc) != c.proc || string(m.Text) != c.text ||
			m.Malformed || m.Cut || m.Priority != -1 || !m.HasTime {
			t.Errorf("%q: %+v, text %q", c.line, m, m.Text)
		}
	}
}

func TestPrintedLinesThatAreMalformed(t *testing.T) {
	for _, line := range []string{
		"2022-06-13T14:52:23Z", "2022-06-13T14:52:23Z ", "2022-06-13T14:52:23Z app", "2022-06-13T14:52:23Z [web.1]: x",
		"2022-06-13T14:52:23Z app[]: x", "2022-06-13T14:52:23Z app[web.1] x", "2022-06-13T14:52:23Z app[web.1]",
		"2022-06-13T14:52:23Z app[web.1: x", "2022-06-13T14:52:23Z my app[web.1]: x", "2022-06-13T14:52:23Z app[web 1]: x",
		"2022-06-13T14:52:23 app[web.1]: x", "2022-13-13T14:52:23Z app[web.1]: x", "2022-06-13Tapp[web.1]: x",
	} {
		if m := parse(new(Parser), line, Printed); !m.Malformed || string(m.Raw) != line || m.HasTime {
			t.Errorf("%q: %+v", line, m)
		}
	}
}

func TestNoSliceReachesBeyondItsMessage(t *testing.T) {
	for _, c := range []struct {
		message string
		form    Form
	}{
		{routerLine, Counted}, {routerLine, Line}, {lossNotice, Counted}, {"<1>1 - h app p - x", Line}, {"2022-06-13T14:52:23Z app[web.1]: x\r\n", Printed}, {"<1>?\n", Counted},
		{"<1>1 - h app p ID47 [a b=\"c\"] text\n", Counted}, {"<1>1 - h app p ID47 -\n", Line}, {"<1>1 - h app p -\n", Line},
	} {
		body := []byte(c.message + "behind")
		var m Message
		new(Parser).Parse(&m, body, Span{End: int32(len(c.message)), Form: c.form})
		for _, borrowed := range [][]byte{m.Raw, m.App, m.Proc} {
			_ = append(borrowed, '!')
		}
		if string(body) != c.message+"behind" {
			t.Errorf("%q became %q", c.message, body)
		}
	}
}
