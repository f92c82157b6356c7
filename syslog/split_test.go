package syslog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	routerLine = "<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - at=info method=GET path=\"/\" status=200\n"
	appLine    = "<190>1 2022-06-13T14:52:23.621815+00:00 host app web.1 - [GIN] 2022/06/13 - 14:52:23 | 200 |\n"
	dynoLine   = "<45>1 2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting to up\n"
	lossNotice = "<172>1 2019-09-13T20:01:06+00:00 host heroku logplex - Error L10 (output buffer overflow): 1 messages dropped since 2019-09-13T20:01:04+00:00."
)

func TestRightCountsAreFollowedByteForByte(t *testing.T) {
	for name, messages := range map[string][]string{
		"real lines":          corpus(t),
		"no newline":          {lossNotice, lossNotice, routerLine, lossNotice},
		"one message":         {lossNotice},
		"newlines within":     {"<1>1 a\n\nb\n", "<1>1 c\nd", routerLine},
		"digits at the end":   {"<1>1 web.1", "<1>1 24", "<1>1 \n2", routerLine},
		"a frame within":      {"<1>1 " + frame(routerLine, dynoLine), routerLine},
		"longer than 10 KB":   {"<1>1 " + strings.Repeat("x", 20_000) + "\n", routerLine},
		"any bytes":           {"<1>1 \x00\x1b[31m\r\xff\xfe\n", "<1>1 \xc3", routerLine},
		"no PRI, but counted": {routerLine, "<html>\n", lossNotice, "<html>", "<", routerLine},
	} {
		t.Run(name, func(t *testing.T) {
			got, spans := split(t, frame(messages...))
			if !slices.Equal(got, messages) {
				t.Fatalf("got %q", got)
			}
			for _, s := range spans {
				if s.Form != Counted || s.BadCount {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// wrongCounts are the counts of wire.md for a message of n bytes.
var wrongCounts = map[string]func(n int) string{
	"too long":        func(n int) string { return fmt.Sprintf("%d ", n+5) },
	"too short":       func(n int) string { return fmt.Sprintf("%d ", n-5) },
	"one too long":    func(n int) string { return fmt.Sprintf("%d ", n+1) },
	"one too short":   func(n int) string { return fmt.Sprintf("%d ", n-1) },
	"zero":            func(n int) string { return "0 " },
	"a plus":          func(n int) string { return fmt.Sprintf("+%d ", n) },
	"negative":        func(n int) string { return fmt.Sprintf("-%d ", n) },
	"20 digits":       func(n int) string { return "18446744073709551617 " },
	"overflowing":     func(n int) string { return fmt.Sprintf("18446744073709551616%d ", n) },
	"beyond the body": func(n int) string { return "999999999 " },
	"no space":        func(n int) string { return fmt.Sprint(n) },
	"no digits":       func(n int) string { return "- " },
	"no count":        func(n int) string { return "-" },
}

func TestAWrongCountCostsNoMessage(t *testing.T) {
	for _, messages := range [][]string{
		{routerLine, appLine, dynoLine, routerLine},
		{lossNotice, routerLine, lossNotice, dynoLine, lossNotice},
	} {
		for name, wrong := range wrongCounts {
			for at, damaged := range messages {
				t.Run(fmt.Sprintf("%s, message %d of %d", name, at, len(messages)), func(t *testing.T) {
					got, spans := split(t, frame(messages[:at]...)+wrong(len(damaged))+damaged+frame(messages[at+1:]...))
					if !slices.Equal(got, messages) {
						t.Fatalf("got %q", got)
					}
					for i, s := range spans {
						if s.Form != Counted || s.BadCount != (i == at) {
							t.Errorf("message %d: %+v", i, s)
						}
					}
				})
			}
		}
	}
}

func TestAWrongCountCostsNotTheOnlyMessage(t *testing.T) {
	for _, message := range []string{routerLine, lossNotice} {
		for name, wrong := range wrongCounts {
			got, spans := split(t, wrong(len(message))+message)
			if !slices.Equal(got, []string{message}) || !spans[0].BadCount {
				t.Errorf("%s: got %q, %+v", name, got, spans)
			}
		}
	}
}

// Where a text ends in digits and no newline parts them from the next count, a
// wrong count may cost its own message a digit, but never a neighbour.
func TestAWrongCountCostsNoNeighbourOfPiecesThatEndInDigits(t *testing.T) {
	messages := []string{"<1>1 piece 1", "<1>1 piece 22", "<1>1 piece 100", "<1>1 the end\n"}
	for name, wrong := range wrongCounts {
		for at, damaged := range messages {
			got, _ := split(t, frame(messages[:at]...)+wrong(len(damaged))+damaged+frame(messages[at+1:]...))
			if len(got) != len(messages) {
				t.Fatalf("%s at %d: got %q", name, at, got)
			}
			if got[at] = damaged; !slices.Equal(got, messages) {
				t.Errorf("%s at %d: got %q", name, at, got)
			}
		}
	}
}

// Only a count that leads exactly to the end of a later message goes unnoticed.
func TestWhateverTheCountTheNeighboursAreIntact(t *testing.T) {
	messages := []string{routerLine, lossNotice, dynoLine, appLine}
	for at := range messages {
		front, back := frame(messages[:at]...), frame(messages[at+1:]...)
		ends := map[int]bool{}
		for i := at + 1; i <= len(messages); i++ {
			ends[len(messages[at])+len(frame(messages[at+1:i]...))] = true
		}
		for n := range len(messages[at]) + len(back) + 5 {
			if ends[n] {
				continue
			}
			got, _ := split(t, front+fmt.Sprint(n, " ")+messages[at]+back)
			if !slices.Equal(got, messages) {
				t.Fatalf("count %d at %d: %q", n, at, got)
			}
		}
	}
}

func TestAMessageBehindAWrongCountEndsWhereTheNextCountBegins(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"count within the text":    {"999 <1>1 a 5 <b> 7 <1> c\n" + counted(routerLine), []string{"<1>1 a 5 <b> ", "<1> c\n", routerLine}},
		"no PRI behind the digits": {"999 <1>1 a 5 <1 7 <12345> 9<1> c\n" + counted(routerLine), []string{"<1>1 a 5 <1 7 <12345> 9<1> c\n", routerLine}},
		"two wrong counts":         {"999 " + dynoLine + "0 " + appLine + counted(routerLine), []string{dynoLine, appLine, routerLine}},
		"all wrong":                {"1 " + dynoLine + "2 " + appLine + "3 " + routerLine, []string{dynoLine, appLine, routerLine}},
		"newlines between":         {counted(lossNotice) + "\n" + counted(lossNotice) + "\r\n" + counted(routerLine) + " \t\n", []string{lossNotice + "\n", lossNotice + "\r\n", routerLine}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := split(t, c.body); !slices.Equal(got, c.want) {
				t.Fatalf("got %q", got)
			}
		})
	}
}

func TestGarbageIsKeptApart(t *testing.T) {
	messages := []string{routerLine, dynoLine, appLine}
	for _, garbage := range []string{
		"xyz", "\x00\x01\x02", "<html></html>", "{\"a\":1}\n", "12345x", "12 x <1", "--", "é\xff\r\n", "2022-06-13 ",
		strings.Repeat("#", 10_000), "40>1 2012-11-30T06:45:29+00:00 host heroku web.3 - half a line\n",
	} {
		for at := range len(messages) + 1 {
			t.Run(fmt.Sprintf("%.12q at %d", garbage, at), func(t *testing.T) {
				got, spans := split(t, frame(messages[:at]...)+garbage+frame(messages[at:]...))
				if want := slices.Insert(slices.Clone(messages), at, garbage); !slices.Equal(got, want) {
					t.Fatalf("got %q", got)
				}
				for i, s := range spans {
					if (s.Form == Unreadable) != (i == at) || s.BadCount {
						t.Errorf("%q: %+v", got[i], s)
					}
				}
			})
		}
	}
}

func TestEveryFormIsSeenFromItsBytes(t *testing.T) {
	const (
		printed = "2022-06-13T14:52:23.622778+00:00 heroku[router]: at=info method=GET\n"
		spoken  = "2022-06-13T14:52:23.6+00:00 app[web.1]: hello\n"
	)
	for name, c := range map[string]struct {
		body string
		want []string
		form []Form
	}{
		"counted":                  {frame(routerLine, dynoLine), []string{routerLine, dynoLine}, []Form{Counted, Counted}},
		"counted, behind a space":  {" \r\n\t" + frame(routerLine, dynoLine), []string{routerLine, dynoLine}, []Form{Counted, Counted}},
		"lines":                    {routerLine + dynoLine, []string{routerLine, dynoLine}, []Form{Line, Line}},
		"lines, the last cut":      {routerLine + lossNotice, []string{routerLine, lossNotice}, []Form{Line, Line}},
		"lines, empty ones":        {"\n\n" + routerLine + "\n \r\n" + dynoLine + "\n", []string{routerLine, dynoLine}, []Form{Line, Line}},
		"lines, CRLF":              {"<1>1 a\r\n<1>1 b\r\n", []string{"<1>1 a\r\n", "<1>1 b\r\n"}, []Form{Line, Line}},
		"printed":                  {printed + spoken, []string{printed, spoken}, []Form{Printed, Printed}},
		"printed, CRLF":            {"2022-06-13T14:52:23Z a[b]: c\r\n" + spoken, []string{"2022-06-13T14:52:23Z a[b]: c\r\n", spoken}, []Form{Printed, Printed}},
		"mixed lines":              {routerLine + spoken + counted(dynoLine) + "what?\n" + printed, []string{routerLine, spoken, dynoLine, "what?\n", printed}, []Form{Line, Printed, Line, Unreadable, Printed}},
		"lines behind garbage":     {"warning: new version\n\n" + spoken + routerLine, []string{"warning: new version\n", spoken, routerLine}, []Form{Unreadable, Printed, Line}},
		"printed, a frame in it":   {"2022-06-13T14:52:23Z a[b]: got " + counted(dynoLine) + spoken, []string{"2022-06-13T14:52:23Z a[b]: got " + counted(dynoLine), spoken}, []Form{Printed, Printed}},
		"counted, lines in it":     {frame("<1>1 "+spoken+routerLine, dynoLine), []string{"<1>1 " + spoken + routerLine, dynoLine}, []Form{Counted, Counted}},
		"a line, garbage behind":   {routerLine + "\x00\xff", []string{routerLine, "\x00\xff"}, []Form{Line, Unreadable}},
		"a mark of bytes' order":   {"\xef\xbb\xbf" + spoken + printed, []string{spoken, printed}, []Form{Printed, Printed}},
		"the same, lines":          {"\xef\xbb\xbf\n" + routerLine, []string{routerLine}, []Form{Line}},
		"a count without its tail": {"83 <", []string{"<"}, []Form{Counted}},
	} {
		t.Run(name, func(t *testing.T) {
			got, spans := split(t, c.body)
			if !slices.Equal(got, c.want) {
				t.Fatalf("got %q", got)
			}
			for i, s := range spans {
				if s.Form != c.form[i] {
					t.Errorf("%q has form %d", got[i], s.Form)
				}
			}
		})
	}
}

func TestABodyInWhichNothingIsRecognisedHasNoSpans(t *testing.T) {
	for _, body := range []string{
		"", " ", "\n", " \r\n\t\n", "hello", "hello\nworld\n", "{\"a\": [1, 2]}", "<html><body>1</body></html>",
		"12", "12 ", "12 x", "12345678901234567890", "-", "- ", "\x00", "\xff\xfe<\x001\x00", "a=1&b=2", "<>", "<1", "<1234>", "<x>1",
		"2022-06-13 14:52:23 x", "2022-06-13", "\x1f\x8b\x08\x00\x00\x00",
	} {
		if got, _ := split(t, body); len(got) != 0 {
			t.Errorf("%q: %q", body, got)
		}
	}
}

func TestSplitAppends(t *testing.T) {
	first := Span{Start: 3, End: 5, Form: Line, BadCount: true}
	spans := Split([]Span{first}, []byte(frame(routerLine, dynoLine)))
	if len(spans) != 3 || spans[0] != first {
		t.Fatalf("%+v", spans)
	}
	if spans = Split(spans[:1], nil); len(spans) != 1 || spans[0] != first {
		t.Fatalf("%+v", spans)
	}
}
