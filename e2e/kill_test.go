package e2e

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"drain/cluster"
	"drain/logplex"
)

// times is how often a long test and its short form do what they do.
func times(inFull, short int) int {
	if *long {
		return inFull
	}
	return short
}

// betraysNothing fails the test unless every acknowledged line is stored, and every
// second copy has the id of the first.
func betraysNothing(t *testing.T, topic *logplex.Topic, report *logplex.Report) *logplex.Account {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	a, err := topic.Account(ctx, report, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := report.Summary()
	t.Logf("%d sent, %d acknowledged, %d stored, %d not (%v), %d stored twice with the same id; answers %v", s.Sent, s.Acknowledged, a.Stored, a.Lost, a.LostBy, a.Twice, s.Answers)
	if a.Betrayed > 0 || a.TwiceOther > 0 || s.Acknowledged < s.Sent/10 {
		t.Errorf("%d acknowledged lines are missing, %d have a second id", a.Betrayed, a.TwiceOther)
	}
	return a
}

// drain dies under load, again and again, at any moment.
func TestKill_betraysNothing(t *testing.T) {
	topicName := makeTopic(t, 8)
	settings := []string{"KAFKA_URL=" + kafkaURL, "KAFKA_TOPIC=" + topicName, "LISTEN=127.0.0.1:" + freePort(t)}
	topic, err := logplex.OpenTopic(t.Context(), &cluster.Config{Addresses: strings.Split(strings.TrimPrefix(kafkaURL, "kafka://"), ",")}, topicName)
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	s := startDrain(t, settings...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sending, err := logplex.Start(ctx, logplex.Config{URL: s.url + "/logs", Rate: 4000, Drains: 8, Duration: time.Hour, Seed: rand.Uint32()})
	if err != nil {
		t.Fatal(err)
	}
	for range times(200, 8) {
		time.Sleep(200*time.Millisecond + time.Duration(rand.IntN(800))*time.Millisecond)
		_ = s.cmd.Process.Kill()
		<-s.ended
		s = startDrain(t, settings...)
	}
	time.Sleep(time.Second)
	stop()
	betraysNothing(t, topic, sending.Wait())
}

// threeNodes is a real Kafka with the topic `router`, of which each node leads two
// partitions.
func threeNodes(t *testing.T) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	url, err := startKafka(dir, "--nodes", "3", "--port", "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = script("stop", "--dir", dir) })
	if _, err := script("create", "router", "--partitions", "6", "--replicas", "3", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	// A node that the topic was not made by learns of it a moment later.
	for _, node := range strings.Split(strings.TrimPrefix(url, "kafka://"), ",") {
		eventually(t, node+" to know the topic", func() (int, error) {
			topic, err := logplex.OpenTopic(t.Context(), &cluster.Config{Addresses: []string{node}}, "router")
			if err == nil {
				topic.Close()
			}
			return 0, err
		})
	}
	return url, dir
}

// The leaders of a real Kafka of three nodes die under load, and come back.
func TestKillLeader_betraysNothing(t *testing.T) {
	url, dir := threeNodes(t)
	topic, err := logplex.OpenTopic(t.Context(), &cluster.Config{Addresses: strings.Split(strings.TrimPrefix(url, "kafka://"), ",")}, "router")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	s := startDrain(t, "KAFKA_URL="+url)
	s.awaitReady()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sending, err := logplex.Start(ctx, logplex.Config{URL: s.url + "/logs", Rate: 1000, Drains: 4, Duration: 2 * time.Hour, Seed: rand.Uint32()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range times(20, 1) {
		time.Sleep(3 * time.Second)
		n := nodes(t, dir)[i%3] // each leads two partitions
		kill(t, n.pid)
		time.Sleep(14 * time.Second) // another leads after 9 s
		revive(t, dir)
		time.Sleep(3 * time.Second)
	}
	stop()
	a := betraysNothing(t, topic, sending.Wait())
	if a.Lost > 0 || a.Twice > 0 {
		t.Errorf("%d lines are lost, %d stored twice, while drain lived", a.Lost, a.Twice)
	}
	if s.stop() != 0 {
		t.Error("drain did not end well")
	}
}
