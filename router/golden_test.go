package router_test

import (
	"bytes"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"drain/router"
)

var update = flag.Bool("update", false, "write testdata/records.jsonl anew; read every line of the difference")

func TestEveryShapeOfLineHasItsRecord(t *testing.T) {
	const file = "testdata/records.jsonl"
	var records []byte
	for i, line := range goldenLines(t) {
		records = append(record(records, line, i), '\n')
	}
	if *update {
		if err := os.WriteFile(file, records, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expected, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(string(records), "\n"), strings.Split(string(expected), "\n")
	if len(got) != len(want) {
		t.Errorf("%d records of %d", len(got)-1, len(want)-1)
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("record\n%s, not\n%s", got[i], want[i])
		}
	}
}

type line struct {
	text string
	cut  bool
}

// goldenLines reads testdata/lines.txt, which says how it is written.
func goldenLines(t testing.TB) []line {
	t.Helper()
	file, err := os.ReadFile("testdata/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for row := range strings.Lines(string(file)) {
		row = strings.TrimSuffix(row, "\n")
		if row == "" || row[0] == '#' {
			continue
		}
		// An odd number of backslashes at the end.
		cut := (len(row)-len(strings.TrimRight(row, `\`)))%2 == 1
		if cut {
			row = row[:len(row)-1]
		}
		text, err := unescape(row)
		if err != nil {
			t.Fatalf("%v in %s", err, row)
		}
		lines = append(lines, line{text, cut})
	}
	return lines
}

func unescape(row string) (string, error) {
	var text []byte
	for row != "" {
		if n := strings.IndexByte(row, '\\'); n != 0 {
			if n < 0 {
				n = len(row)
			}
			text, row = append(text, row[:n]...), row[n:]
			continue
		}
		c, _, rest, err := strconv.UnquoteChar(row, '"')
		if err != nil {
			return "", err
		}
		text, row = append(text, byte(c)), rest
	}
	return string(text), nil
}

// record appends the record of a line to dst, with the usual redaction.
func record(dst []byte, l line, index int) []byte {
	var p router.Parser
	var r router.Record
	var env router.Envelope
	e := router.Encoder{Redactor: router.NewRedactor(router.RedactListed, router.FwdKeep, nil)}
	env.Reset([]byte("f"), nil, nil)
	p.Parse(&r, []byte(l.text), l.cut)
	return e.Append(dst, &env, &r, index, 0, false)
}

func TestEnvelopeTellsWhereARecordComesFrom(t *testing.T) {
	var env router.Envelope
	for _, c := range []struct {
		drain, app string
		micros     int64
		hasTime    bool
		want       string
	}{
		{"d.1", "shop", 1655131943_622778, true, `{"id":"f-7","time":"2022-06-13T14:52:23.622778Z","drain":"d.1","app":"shop"`},
		{"d.1", "shop", 1655131943_000001, true, `{"id":"f-7","time":"2022-06-13T14:52:23.000001Z","drain":"d.1","app":"shop"`},
		{"", "sh\"op\xff", 1655131944_000000, true, `{"id":"f-7","time":"2022-06-13T14:52:24.000000Z","app":"sh\"op` + "\uFFFD" + `"`},
		{"d.1", "", 0, true, `{"id":"f-7","time":"1970-01-01T00:00:00.000000Z","drain":"d.1"`},
		{"", "", -1, true, `{"id":"f-7","time":"1969-12-31T23:59:59.999999Z"`},
		{"", "", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), true, `{"id":"f-7","time":"0000-01-01T00:00:00.000000Z"`},
		{"", "", time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).UnixMicro(), true, `{"id":"f-7","time":"9999-12-31T23:59:59.999999Z"`},
		{"d.1", "shop", 0, false, `{"id":"f-7","drain":"d.1","app":"shop"`},
	} {
		env.Reset([]byte("f"), []byte(c.drain), []byte(c.app))
		if got := env.Append([]byte("before "), 7, c.micros, c.hasTime); string(got) != "before "+c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}

func TestANewEnvelopeKnowsNoTimeYet(t *testing.T) {
	var env router.Envelope
	env.Reset([]byte("f"), nil, nil)
	if got := env.Append(nil, 0, 0, true); !bytes.Contains(got, []byte("1970-01-01T00:00:00.000000Z")) {
		t.Errorf("%s", got)
	}
}
