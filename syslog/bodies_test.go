package syslog

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// corpus answers the real messages of testdata, each with the newline it had.
func corpus(t testing.TB) []string {
	t.Helper()
	file, err := os.Open("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var messages []string
	for scan := bufio.NewScanner(file); scan.Scan(); {
		var row struct {
			Line    string
			Newline bool
		}
		if err := json.Unmarshal(scan.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if row.Newline {
			row.Line += "\n"
		}
		messages = append(messages, row.Line)
	}
	if len(messages) == 0 {
		t.Fatal("no lines in testdata")
	}
	return messages
}

// counted puts the right octet count before message.
func counted(message string) string {
	return strconv.Itoa(len(message)) + " " + message
}

func frame(messages ...string) string {
	var body strings.Builder
	for _, m := range messages {
		body.WriteString(counted(m))
	}
	return body.String()
}

// split splits body, checks what holds for every body, and answers what stands
// in the spans.
func split(t testing.TB, body string) (stretches []string, spans []Span) {
	t.Helper()
	spans = Split(nil, []byte(body))
	end := 0
	for _, s := range spans {
		if int(s.Start) < end || s.End <= s.Start || int(s.End) > len(body) {
			t.Fatalf("span %+v behind %d in %q", s, end, body)
		}
		gap := body[end:s.Start]
		if end == 0 {
			gap = strings.TrimPrefix(gap, "\xef\xbb\xbf")
		}
		checkGap(t, gap)
		end = int(s.End)
		stretches = append(stretches, body[s.Start:s.End])
	}
	if len(spans) > 0 {
		checkGap(t, body[end:])
	}
	return stretches, spans
}

func checkGap(t testing.TB, gap string) {
	t.Helper()
	if strings.Trim(gap, "0123456789+- \t\r\n") != "" {
		t.Fatalf("%q is in no span", gap)
	}
}

// parse reads the one message as it would stand in a body of its form.
func parse(p *Parser, message string, form Form) Message {
	var m Message
	p.Parse(&m, []byte(message), Span{End: int32(len(message)), Form: form})
	return m
}
