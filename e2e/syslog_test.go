package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"drain/trial/authority"
)

// syslogAddr is where drain takes syslog drains.
func (s *service) syslogAddr() string {
	s.t.Helper()
	m := regexp.MustCompile(` syslog=(\S+)`).FindStringSubmatch(s.String())
	if m == nil {
		s.t.Fatal("drain says nothing of syslog")
	}
	return m[1]
}

// without takes a key off records.
func without(t *testing.T, key string, values []string) (lines []string) {
	t.Helper()
	for _, value := range values {
		var rec map[string]any
		if err := json.Unmarshal([]byte(value), &rec); err != nil {
			t.Fatal(err)
		}
		delete(rec, key)
		line, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	slices.Sort(lines)
	return lines
}

// The captured frame sent over TCP makes the same records as over HTTP, but for ids.
func TestSyslogDrain_makesTheSameRecords(t *testing.T) {
	topic := makeTopic(t, 4)
	s := startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+topic, "SYSLOG_LISTEN=127.0.0.1:0")
	s.awaitReady()
	body, err := os.ReadFile("testdata/frame.body")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.syslogAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	want := without(t, "id", golden(t))
	for i, line := range want { // what HTTP tells of the frame
		want[i] = strings.NewReplacer(`"app":"myapp",`, "", `"drain":"d.fc6b856b-3332-4546-93de-7d0ee272c3bd",`, "").Replace(line)
	}
	slices.Sort(want)
	if got := without(t, "id", values(consume(t, kafkaURL, topic, len(want)))); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// Senders that are not ours: logger over TCP, with structured data in front of its text,
// and openssl over TLS.
func TestSyslogDrain_takesOtherSenders(t *testing.T) {
	topic := makeTopic(t, 1)
	logs := topic + "-logs"
	if _, err := script("create", logs, "--partitions", "1", "--dir", kafkaDir); err != nil {
		t.Fatal(err)
	}
	cert, key := authority.New(t, "ours").Issue("127.0.0.1", time.Now().Add(time.Hour))
	settings := []string{"KAFKA_URL=" + kafkaURL, "KAFKA_TOPIC=" + topic, "LOGS_TOPIC=" + logs, "SYSLOG_LISTEN=127.0.0.1:0"}
	plain := startDrain(t, settings...)
	plain.awaitReady()
	host, port, err := net.SplitHostPort(plain.syslogAddr())
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	const text = "[x] 'su root' failed"
	for _, more := range [][]string{{"--octet-count"}, {"--octet-count", "--msgid", "M1"}, {"--octet-count", "--sd-id", "a@1", "--sd-param", `b="c"`}, {}} { // the last a line each
		run("", "logger", append(more, "--tcp", "--server", host, "--port", port, "--rfc5424", "--tag", "su", text)...)
	}
	for _, value := range values(consume(t, kafkaURL, logs, 4)) {
		var rec struct{ Source, Message string }
		if err := json.Unmarshal([]byte(value), &rec); err != nil || rec.Message != text || rec.Source != "su" {
			t.Errorf("%s: %v", value, err)
		}
	}
	message := "<158>1 2022-06-13T14:52:23.622778+00:00 host heroku router - at=info request_id=r1\n"
	secure := startDrain(t, append(settings, "SYSLOG_TLS_CERT="+cert, "SYSLOG_TLS_KEY="+key)...)
	secure.awaitReady()
	run(fmt.Sprintf("%d %s", len(message), message), "openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", secure.syslogAddr())
	if got := values(consume(t, kafkaURL, topic, 1)); !strings.Contains(got[0], `"request_id":"r1"`) {
		t.Errorf("%s", got)
	}
	for _, s := range []*service{plain, secure} {
		if status := s.stop(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
}
