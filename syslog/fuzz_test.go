package syslog

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/influxdata/go-syslog/v3/rfc5424"
)

// addBodies seeds f with frames, lines and what is wrong with them.
func addBodies(f *testing.F, add func(body string)) {
	lines := corpus(f)
	add(frame(lines...))
	add(strings.Join(lines, ""))
	for _, body := range []string{
		"", " \n", "hello", "5 <1>a\n", "5 <1>a\n5 <1>b\n", "4 <1>a5 <1>b\n", "0 <1>a\n5 <1>b\n", "-5 <1>a\n5 <1>b\n", "5<1>a\n5 <1>b\n",
		"18446744073709551621 <1>a\n5 <1>b\n", "6 <1>a\n15 <1>bbbbbbbbbb\n", "999999999 <1>a\n", "x5 <1>a\nx5 <1>b\nx", "<1>a\n<1>b\r\n\n<1>c",
		"2022-06-13T14:52:23Z app[web.1]: a\r\n5 <1>b\n??\n", "9 <1>a\n5 <\n5 <1>b\n", "4 <1>14 <1>2", "5 <1>\n15 <1>b\n", "4 <1>\x005 <1>\xff\n",
		counted(lossNotice) + "-" + counted(routerLine), "84 " + dynoLine + counted(routerLine),
	} {
		add(body)
	}
}

var (
	countAndPRI   = regexp.MustCompile(`[0-9] <[0-9]{1,3}>`)
	beginsCount   = regexp.MustCompile(`^([-+][0-9]* ?<[0-9]{1,3}>|[0-9]+ ?<[0-9]{1,3}>|[0-9]+ <)`)
	endsInDigit   = regexp.MustCompile(`[0-9]$`)
	damagedCounts = []func(right, wrong int) string{
		func(right, wrong int) string { return fmt.Sprint(wrong, " ") },
		func(right, wrong int) string { return fmt.Sprintf("-%d ", right) },
		func(right, wrong int) string { return fmt.Sprint(right) },
		func(right, wrong int) string { return fmt.Sprintf("9223372036854775807%d ", right) },
		func(right, wrong int) string { return "0 " },
	}
)

// canBelieve tells whether a count that leads from the front of rest to n cannot
// be told from a right one: the message would end as messages may.
func canBelieve(rest string, n int) bool {
	return n > 0 && n <= len(rest) && (n == len(rest) || rest[n-1] == '\n' || beginsCount.MatchString(rest[n:]))
}

// FuzzSplit splits data as a body; then it takes what stands between the record
// separators in data for texts, and splits a frame of them, also with one of its
// counts damaged.
func FuzzSplit(f *testing.F) {
	addBodies(f, func(body string) { f.Add(body, uint8(0), uint8(0), uint32(0)) })
	for damage := range damagedCounts {
		f.Add("a\n\x1ebc\x1e\x1ed1\x1e7 <1>\n", uint8(damage+1), uint8(damage), uint32(9+damage))
		f.Add("web.1\x1ea\nb\n\x1e\x001\n\x1e< <1 1>\n2", uint8(damage), uint8(damage), uint32(100))
	}
	f.Add("\x1e00<0>00000", uint8(0), uint8(1), uint32(0)) // part of a count fits too
	f.Fuzz(func(t *testing.T, data string, at, damage uint8, wrong uint32) {
		split(t, data)

		var messages []string
		for text := range strings.SplitSeq(data, "\x1e") {
			messages = append(messages, "<14>"+text)
		}
		got, _ := split(t, frame(messages...))
		if !slices.Equal(got, messages) {
			t.Fatalf("%q was split into %q", messages, got)
		}

		i := int(at) % len(messages)
		message, back := messages[i], frame(messages[i+1:]...)
		// What nobody can tell: texts that read like the next message, or run
		// into its count, and wrong counts that lead to where a message can end.
		switch {
		case countAndPRI.MatchString(message), endsInDigit.MatchString(message),
			i > 0 && endsInDigit.MatchString(messages[i-1]),
			canBelieve(message+back, int(wrong)):
			return
		}
		body := frame(messages[:i]...) + damagedCounts[int(damage)%len(damagedCounts)](len(message), int(wrong)) + message + back
		if got, _ = split(t, body); !slices.Equal(got, messages) {
			t.Fatalf("%q was split into %q", body, got)
		}
	})
}

// octetCounted is RFC 6587, 3.4.1, to the letter; ok is false where body is not
// a frame of messages that begin with `<PRI>`.
func octetCounted(body []byte) (messages [][]byte, ok bool) {
	for len(body) > 0 {
		count, rest, found := bytes.Cut(body, []byte(" "))
		n, err := strconv.ParseUint(string(count), 10, 31)
		if !found || err != nil || count[0] == '0' || n > uint64(len(rest)) || !isPriority(rest[:n], 0) {
			return nil, false
		}
		messages, body = append(messages, rest[:n]), rest[n:]
	}
	return messages, true
}

// FuzzSplitReference compares Split with a reader that believes every count: on
// data itself where that is a frame, else on data cut into messages.
func FuzzSplitReference(f *testing.F) {
	addBodies(f, func(body string) { f.Add([]byte(body), []byte{0, 1, 5, 20, 255}) })
	f.Fuzz(func(t *testing.T, data, lengths []byte) {
		want, ok := octetCounted(data)
		if !ok {
			var body []byte
			for _, n := range lengths {
				text := data[:min(len(data), int(n))]
				body = fmt.Appendf(body, "%d <1>%s", len(text)+len("<1>"), text)
				data = data[len(text):]
			}
			data = body
			if want, ok = octetCounted(data); !ok {
				t.Fatalf("%q is not a frame", data)
			}
		}
		spans := Split(nil, data)
		if len(spans) != len(want) {
			t.Fatalf("%q: %d messages, not %d", data, len(spans), len(want))
		}
		for i, s := range spans {
			if !bytes.Equal(data[s.Start:s.End], want[i]) || s.Form != Counted || s.BadCount {
				t.Fatalf("%q: message %d is %q, not %q: %+v", data, i, data[s.Start:s.End], want[i], s)
			}
		}
	})
}

// withinRFC5424 matches a header that RFC 5424 allows, up to MSGID.
var withinRFC5424 = regexp.MustCompile(
	`^<[0-9]{1,3}>1 [-0-9T:]{19}(\.[0-9]{1,6})?(Z|[-+:0-9]{6}) [!-~]{1,255} [!-~]{1,48} [!-~]{1,128} -( |$)`)

// FuzzParseAgainstGoSyslog holds the header to a strict RFC 5424 machine, in both
// directions.
func FuzzParseAgainstGoSyslog(f *testing.F) {
	for _, line := range corpus(f) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	for _, message := range []string{
		"", "<0>1 - - - - -", "<191>999 - h a p ID47 - x", "<192>1 - h a p -", `<1>1 2022-06-13T14:52:23.5-07:30 h a p ID47 [a b="\"c"][d] x`,
		"<1>1 2020-02-29T00:00:00.123456789Z h a p - x", "<1>1 2021-02-29T00:00:00Z h a p - x", "<1>1 0000-01-01T00:00:00+00:01 h a p - x",
		"<1>1 9999-12-31T23:59:59.999999Z h a p - x", "<1>1 2022-06-13T23:59:60Z h a p - x", "<1>1 - h\n<2>1 - h a p m - x",
		"<1>1 2022-06-13T14:52:23Z " + strings.Repeat("h", 255) + " " + strings.Repeat("a", 48) + " " + strings.Repeat("p", 128) + " - x",
		"<1>1 2022-06-13T14:52:23Z h a p ID47 [a \xff", "<1>1 2022-06-13T14:52:23Z h a p ID47 - \xff", "<1>1 2022-06-13T14:52:23Z h \u00e9 p - x",
	} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		var fresh, used Parser
		parse(&used, "<1>1 2022-06-13T14:52:00Z h a p ID47 [x", Line)
		m, again := parse(&fresh, message+"\n", Counted), parse(&used, message+"\n", Counted)
		if fmt.Sprint(m) != fmt.Sprint(again) {
			t.Fatalf("%q: %+v, but %+v by a parser in use", message, m, again)
		}
		parse(&fresh, message, Printed)
		parse(&fresh, message, Unreadable)

		var byHand Message
		if fresh.header(&byHand, []byte(message)) && withinRFC5424.MatchString(message) {
			agree(t, message, byHand)
		}
		fields := strings.SplitN(message, " ", 7)
		if len(fields) < 6 {
			return
		}
		strict, err := rfc5424.NewMachine().Parse([]byte(strings.Join(fields[:6], " ") + " -"))
		if err != nil {
			return
		}
		if at := strict.(*rfc5424.SyslogMessage).Timestamp; at != nil && (at.UTC().Year() < 0 || at.UTC().Year() > 9999) {
			return // an offset led out of the years that can be written
		}
		if m.Malformed {
			t.Fatalf("%q is not malformed", message)
		}
		agree(t, message, m)
		agreeOnText(t, message, fields[5], m)
	})
}

// agree compares m with what go-syslog reads in message's first six fields.
func agree(t *testing.T, message string, m Message) {
	t.Helper()
	header := strings.Join(strings.SplitN(message, " ", 7)[:6], " ") + " -"
	parsed, err := rfc5424.NewMachine().Parse([]byte(header))
	if err != nil {
		t.Fatalf("%q: %v", header, err)
	}
	want := parsed.(*rfc5424.SyslogMessage)
	if int(m.Priority) != int(*want.Priority) || m.HasTime != (want.Timestamp != nil) ||
		m.HasTime && m.Time != want.Timestamp.UnixMicro() ||
		string(m.App) != orNil(want.Appname) || string(m.Proc) != orNil(want.ProcID) {
		t.Fatalf("%q: %+v", message, m)
	}
}

// orNil is the field as it was written; go-syslog answers nil for `-`.
func orNil(field *string) string {
	if field == nil {
		return "-"
	}
	return *field
}

// agreeOnText compares m's text with what stands behind MSGID, and with what
// go-syslog takes for the text where there is structured data.
func agreeOnText(t *testing.T, message, msgID string, m Message) {
	t.Helper()
	behind := strings.SplitN(message, " ", 7)[6:]
	want := strings.Join(behind, "")
	if parsed, err := rfc5424.NewMachine().Parse([]byte(message)); msgID != "-" && err == nil && len(want) < maxStructured {
		want = ""
		if text := parsed.(*rfc5424.SyslogMessage).Message; text != nil {
			want = *text
		}
		if string(m.Text) != want {
			t.Fatalf("%q: text %q, not %q", message, m.Text, want)
		}
	}
	if msgID == "-" && string(m.Text) != want {
		t.Fatalf("%q: text %q, not %q", message, m.Text, want)
	}
}
