package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drain/settings"
	"drain/trial/variables"
)

type vars = variables.Vars

func try(t *testing.T, env vars, args ...string) (status int, out, said string, err error) {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	var stdout, shown strings.Builder
	err = run(t.Context(), args, env.Lookup, &stdout, stderr)
	status = settings.ExitStatus("logplex", err, &shown)
	progress, _ := os.ReadFile(stderr.Name())
	return status, stdout.String(), string(progress) + shown.String(), err
}

func TestSettingsThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "--url=http://127.0.0.1:1/logs"
	for says, args := range map[string][]string{
		"--url": {}, "URL": {"--url=ftp://h"}, "--nope": {url, "--nope"}, "RATE": {url, "--rate=0"}, "RATE:": {url, "--rate=x"},
		"DRAINS": {url, "--drains=0"}, "DURATION": {url, "--duration=1"}, "SEED": {url, "--seed=-1"}, "LINES_FILE": {url, "--lines-file=/nope"},
		"LINES_FILE:": {url, "--lines-file=" + file, "--kafka-url=h:1"}, "KAFKA_URL": {url, "--kafka-url=http://h"}, "DRAIN_SECRETS": {url, "--drain-secrets=s3cret-of-sixteen"},
		"CHECK_WAIT": {url, "--check-wait=x"},
	} {
		status, out, said, _ := try(t, nil, args...)
		if status != 2 || out != "" || !strings.Contains(said, strings.TrimSuffix(says, ":")) || strings.Count(said, "\n") != 1 || strings.Contains(said, "s3cret") {
			t.Errorf("%v: status %d, %q %q", args, status, out, said)
		}
	}
	if status, out, _, _ := try(t, nil, "--help"); status != 0 || !strings.Contains(out, "--lines-file") || !strings.Contains(out, "DRAIN_SECRETS") {
		t.Errorf("--help: status %d, %s", status, out)
	}
}

func TestTheReport(t *testing.T) {
	answer, shown := 200, ""
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, shown, _ = r.BasicAuth()
		w.WriteHeader(answer)
	}))
	defer e.Close()
	env := vars{"URL": e.URL + "/logs", "RATE": "200", "DRAIN_SECRETS": "app=a-secret-of-sixteen,another-secret-16", "SEED": "9"}
	status, out, said, err := try(t, env, "--duration=300ms")
	if status != 0 || said != "" || err != nil || shown != "a-secret-of-sixteen" {
		t.Errorf("status %d, %q, secret %q", status, said, shown)
	}
	for _, want := range []string{"lines sent", "seed 9", "acknowledged", "lost", "retried", "lines/s", "p99.9", "answers", "200 ", "  to ", "█"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	answer = 400
	status, out, said, err = try(t, env, "--duration=300ms", "--json")
	var report struct {
		Seed, Sent, Acknowledged, Lost, Retried, Bytes int64
		LostBy                                         map[string]int64   `json:"lost_by"`
		LatencyMS                                      map[string]float64 `json:"latency_ms"`
		LinesPerS                                      *float64           `json:"lines_per_s"`
	}
	if bad := json.Unmarshal([]byte(out), &report); bad != nil || status != 1 || !errors.Is(err, errLost) || !strings.Contains(said, "lines were lost") {
		t.Fatalf("status %d, %v, %q, %s", status, bad, said, out)
	}
	if report.Sent == 0 || report.Lost != report.Sent || report.LostBy["refused"] != report.Sent || report.Seed != 9 || report.LinesPerS == nil || len(report.LatencyMS) != 5 {
		t.Errorf("%s", out)
	}
}

func TestATopicThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	status, _, said, _ := try(t, nil, "--url=http://127.0.0.1:1/logs", "--kafka-url="+l.Addr().String(), "--duration=10ms")
	if status != 1 || !strings.Contains(said, "topic router") {
		t.Errorf("status %d, %q", status, said)
	}
}
