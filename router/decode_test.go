package router_test

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"drain/router"
	"drain/trial/usual"
)

// records are what drain makes of lines.
func records(t testing.TB, lines []string) [][]byte {
	t.Helper()
	redactor := router.NewRedactor(router.RedactListed, router.FwdKeep, nil)
	var p router.Parser
	var r router.Record
	var env router.Envelope
	env.Reset([]byte("0123456789abcdef"), []byte("d.1"), []byte("shop"))
	e := router.Encoder{Redactor: redactor}
	var made [][]byte
	for i, line := range lines {
		_, text, ok := strings.Cut(line, ": ")
		if !ok {
			text = line
		}
		p.Parse(&r, []byte(text), false)
		made = append(made, e.Append(nil, &env, &r, len(lines)-i, 1_700_000_000_123_456+int64(i)*977, true))
	}
	return made
}

func TestDecode_readsWhatWasWritten(t *testing.T) {
	const whole = `{"id":"f-1","time":"2022-06-13T14:52:23.622778Z","drain":"d.1","app":"shop","at":"info","code":"H12","method":"GET","path":"/a?b","host":"h","request_id":"r","fwd":"1.2.3.4","dyno":"web.1","connect_ms":3,"service_ms":41,"status":503,"bytes":7,"protocol":"http1.1","tls":true}`
	want := router.Request{
		ID: []byte("f-1"), Drain: []byte("d.1"), App: []byte("shop"), At: []byte("info"), Code: []byte("H12"), Method: []byte("GET"),
		Path: []byte("/a?b"), Host: []byte("h"), RequestID: []byte("r"), Fwd: []byte("1.2.3.4"), Dyno: []byte("web.1"),
		Time: time.Date(2022, 6, 13, 14, 52, 23, 622778000, time.UTC).UnixMicro(), Connect: 3, Service: 41, Status: 503, Bytes: 7,
	}
	spaced := strings.NewReplacer(`,"`, ` , "`, `":`, `" : `).Replace(whole)
	escaped := strings.Replace(whole, `"path":"/a?b"`, `"path":"\/a?\u0062"`, 1)
	offset := strings.Replace(whole, `14:52:23.622778Z`, `16:52:23.622778+02:00`, 1)
	extra := strings.Replace(whole, `,"tls":true`, `,"extra":{"a":"b","c":"}"},"later":[1,{"x":null}],"fwd2":null`, 1)
	for name, record := range map[string]string{"as written": whole, "spaced": spaced, "escaped": escaped, "another zone": offset, "extra keys": extra} {
		t.Run(name, func(t *testing.T) {
			var d router.Decoder
			got := router.Request{Truncated: true, Raw: true, Bytes: 1}
			if err := d.Decode([]byte(record), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s\n got %+v\nwant %+v", record, got, want)
			}
		})
	}
}

func TestDecode_tellsWhatIsMissing(t *testing.T) {
	var d router.Decoder
	var r router.Request
	if err := d.Decode([]byte(`{"id":"f-1","method":"GET","truncated":true,"raw":"x"}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Time != router.NoTime || r.Connect != -1 || r.Service != -1 || r.Status != -1 || r.Bytes != -1 || r.Path != nil || !r.Truncated || !r.Raw {
		t.Errorf("what the record lacks reads %+v", r)
	}
}

func TestDecode_refuses(t *testing.T) {
	const rest = `"time":"2022-06-13T14:52:23.622778Z","method":"GET"`
	for record, want := range map[string]error{
		``:                               router.ErrNotJSON,
		`null`:                           router.ErrNotJSON,
		`[]`:                             router.ErrNotJSON,
		`"text"`:                         router.ErrNotJSON,
		`{`:                              router.ErrNotJSON,
		`{` + rest:                       router.ErrNotJSON,
		`{` + rest + `}}`:                router.ErrNotJSON,
		`{` + rest + `,}`:                router.ErrNotJSON,
		"{" + rest + ",\"app\":\"\n\"}":  router.ErrNotJSON,
		`{` + rest + `,"status":01}`:     router.ErrNotJSON,
		`{}`:                             router.ErrShape,
		`{` + rest + `,"status":"200"}`:  router.ErrShape,
		`{` + rest + `,"status":2e99}`:   router.ErrShape,
		`{` + rest + `,"status":-1}`:     router.ErrShape,
		`{` + rest + `,"bytes":1.5}`:     router.ErrShape,
		`{` + rest + `,"app":1}`:         router.ErrShape,
		`{"time":1655,"method":"GET"}`:   router.ErrShape,
		`{"time":"soon","method":"GET"}`: router.ErrShape,
		`{"time":"2022-06-13T24:52:23.622778Z","method":"GET"}`: router.ErrShape,
		`{"time":"2022-02-30T14:52:23.622778Z","method":"GET"}`: router.ErrShape,
		// another line's record, of LOGS_TOPIC
		`{"id":"f-1","time":"2022-06-13T14:52:23.622778Z","severity":6,"facility":1,"source":"app","process":"web.1","message":"hello"}`: router.ErrShape,
	} {
		var d router.Decoder
		var r router.Request
		if err := d.Decode([]byte(record), &r); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", record, err, want)
		}
	}
}

// Every record of the captured lines is read, whatever is odd in it.
func TestDecode_readsTheCapturedOnes(t *testing.T) {
	file, err := os.Open("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	var d router.Decoder
	for lines := bufio.NewScanner(file); lines.Scan(); n++ {
		var r router.Request
		if err := d.Decode(lines.Bytes(), &r); err != nil {
			t.Errorf("%s: %v", lines.Bytes(), err)
		}
	}
	if n < 10 {
		t.Errorf("%d records in the file", n)
	}
}

// The one pass and encoding/json read the same.
func FuzzDecode(f *testing.F) {
	for _, record := range records(f, usual.Lines(50, 1)) {
		f.Add(record)
	}
	f.Add([]byte(`{"time":"2022-06-13T14:52:23.622778Z","method":"GET","method":"\u0041","bytes":0,"tls":false}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		var one, other router.Decoder
		var got, want router.Request
		// A blank in front and the general way reads it.
		err, wantErr := one.Decode(record, &got), other.Decode(append([]byte(" "), record...), &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v in one pass, %v in general", record, err, wantErr)
		}
		if err == nil && !sameRequest(got, want) {
			t.Fatalf("%q\nin one pass %+v\n in general %+v", record, got, want)
		}
	})
}

func sameRequest(a, b router.Request) bool {
	texts := func(r router.Request) []byte {
		return bytes.Join([][]byte{r.ID, r.Drain, r.App, r.At, r.Code, r.Method, r.Path, r.Host, r.RequestID, r.Fwd, r.Dyno}, []byte{0})
	}
	return bytes.Equal(texts(a), texts(b)) && a.Time == b.Time && a.Connect == b.Connect && a.Service == b.Service &&
		a.Status == b.Status && a.Bytes == b.Bytes && a.Truncated == b.Truncated && a.Raw == b.Raw
}

func TestDecode_allocatesNothing(t *testing.T) {
	all := records(t, usual.Lines(1000, 3))
	var d router.Decoder
	var r router.Request
	i := 0
	if n := testing.AllocsPerRun(900, func() {
		if err := d.Decode(all[i%len(all)], &r); err != nil {
			t.Fatal(err)
		}
		i++
	}); n > 0.1 {
		t.Errorf("%v allocations a record", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	all := records(b, usual.Lines(50_000, 3))
	var bytes int64
	for _, r := range all {
		bytes += int64(len(r))
	}
	b.SetBytes(bytes / int64(len(all)))
	b.ReportAllocs()
	var d router.Decoder
	var r router.Request
	i := 0
	for b.Loop() {
		if err := d.Decode(all[i], &r); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(all) {
			i = 0
		}
	}
}
