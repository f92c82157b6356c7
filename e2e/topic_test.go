package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/journal"
)

// topicCommand is the built topic command, that talks to the real Kafka.
func topicCommand(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	built := filepath.Join(t.TempDir(), "topic")
	if out, err := exec.Command("go", "build", "-o", built, "drain/cmd/topic").CombinedOutput(); err != nil {
		t.Fatalf("build topic: %v\n%s", err, out)
	}
	return func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), built, args...)
		cmd.Env = []string{"KAFKA_URL=" + kafkaURL}
		return cmd
	}
}

// answer runs a command to its end, within 30 s.
func answer(t *testing.T, cmd *exec.Cmd) (out, said string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() }) // its status tells
	defer late.Stop()
	_ = cmd.Wait()
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func TestTopicIsMadeFilledLookedAtAndFollowed(t *testing.T) {
	command := topicCommand(t)
	const name = "TestTopic"
	for i, says := range []string{"made TestTopic: 3 partitions, 1 replica\n", "TestTopic is there already: 3 partitions, 1 replica\n"} {
		if out, said, status := answer(t, command("create", name, "--partitions", "3")); status != 0 || out != says {
			t.Fatalf("created %d times: status %d, %q, %s", i, status, out, said)
		}
	}
	if _, said, status := answer(t, command("create", name, "--partitions", "4")); status != 1 || !strings.Contains(said, "3 partitions") || strings.Count(said, "\n") != 1 {
		t.Errorf("with others: status %d, %s", status, said)
	}
	if _, said, status := answer(t, command("create", name+"-2", "--replicas", "2")); status != 1 || !strings.Contains(said, "INVALID_REPLICATION_FACTOR") || strings.Count(said, "\n") != 1 {
		t.Errorf("with more replicas than brokers: status %d, %s", status, said)
	}
	if out, said, status := answer(t, command("info", name)); status != 0 || !strings.HasPrefix(out, "TestTopic: 3 partitions, 1 replica, 0 records, 0 B, 0/s now\n") {
		t.Errorf("empty: status %d, %s %s", status, out, said)
	}

	// Lines that drain was sent, behind them some by transactions: their marks are no
	// records.
	s := startDrain(t, "KAFKA_URL="+kafkaURL, "KAFKA_TOPIC="+name)
	postFrame(t, s)
	lines := golden(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimPrefix(kafkaURL, "kafka://")), kgo.TransactionalID(name), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		must(client.BeginTransaction())
		must(client.ProduceSync(t.Context(), &kgo.Record{Topic: name, Partition: int32(i % 3), Value: fmt.Appendf(nil, "last %d", i)}).FirstErr())
		must(client.EndTransaction(t.Context(), kgo.TryCommit))
	}
	admin := kadm.NewClient(client)
	committed := make(kadm.Offsets)
	for p := range int32(3) {
		committed.AddOffset(name, p, 0, -1)
	}
	must(admin.CommitAllOffsets(t.Context(), name+"-group", committed))

	out, said, status := answer(t, command("info", name, "--json"))
	var info struct {
		Records, Bytes int64
		First          time.Time `json:"first_time"`
		Last           time.Time `json:"last_time"`
		Partitions     []struct {
			Leader int32
			First  int64 `json:"first_offset"`
			Last   int64 `json:"last_offset"`
			Bytes  int64
		}
		Groups []struct {
			Group string
			Lag   int64
		}
	}
	must(json.Unmarshal([]byte(out), &info))
	offsets := int64(len(lines) + 2*6) // a mark for each transaction
	if status != 0 || said != "" || info.Records != offsets || info.Bytes < 1000 || info.Partitions[0].Leader != 1 || time.Since(info.First) > time.Minute || info.Last.Before(info.First) ||
		len(info.Groups) != 1 || info.Groups[0].Group != name+"-group" || info.Groups[0].Lag != offsets {
		t.Errorf("info: status %d, %s %s", status, out, said)
	}

	if out, said, status := answer(t, command("tail", name, "--from", "-5", "-n", "5")); status != 0 || out != "last 1\nlast 2\nlast 3\nlast 4\nlast 5\n" {
		t.Errorf("the newest: status %d, %q %s", status, out, said)
	}
	out, said, status = answer(t, command("tail", "--kafka-topic", name, "--from=beginning", "-n", fmt.Sprint(len(lines)+6)))
	for _, line := range lines {
		if strings.Count(out, line+"\n") != 1 {
			t.Errorf("from the beginning: status %d, %s is not there in\n%s%s", status, line, out, said)
		}
	}
	out, _, _ = answer(t, command("tail", name, "--pretty", "--from", "-100", "-n", fmt.Sprint(len(lines))))
	if strings.Count(out, "\n") != len(lines) || strings.Contains(out, "\x1b") || !strings.Contains(out, "GET") {
		t.Errorf("in columns: %q", out)
	}

	// One that follows is told of the end by a signal, and by a reader that has enough.
	following := command("tail", name)
	var shown, notes journal.Journal
	following.Stdout, following.Stderr = &shown, &notes
	must(following.Start())
	waitFor := func(what string, j *journal.Journal) {
		t.Helper()
		eventually(t, what, func() (string, error) {
			if !j.Says(what) {
				return "", fmt.Errorf("it says %q %q", shown.String(), notes.String())
			}
			return "", nil
		})
	}
	waitFor("follows TestTopic, 3 partitions", &notes)
	must(client.BeginTransaction())
	must(client.ProduceSync(t.Context(), &kgo.Record{Topic: name, Partition: 2, Value: []byte("now")}).FirstErr())
	must(client.EndTransaction(t.Context(), kgo.TryCommit))
	waitFor("now\n", &shown)
	must(following.Process.Signal(syscall.SIGTERM))
	if err := following.Wait(); err != nil || shown.String() != "now\n" || strings.Count(notes.String(), "\n") != 1 {
		t.Errorf("after SIGTERM: %v, %q %q", err, shown.String(), notes.String())
	}
	read, write, err := os.Pipe()
	must(err)
	read.Close()
	var complaints bytes.Buffer
	piped := command("tail", name, "--from", "beginning")
	piped.Stdout, piped.Stderr = write, &complaints
	must(piped.Start())
	write.Close()
	late := time.AfterFunc(30*time.Second, func() { _ = piped.Process.Kill() })
	defer late.Stop()
	if err := piped.Wait(); err != nil || strings.Contains(complaints.String(), "pipe") {
		t.Errorf("without a reader: %v, %s", err, complaints.String())
	}
}
