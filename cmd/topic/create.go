package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// create makes the topic, and waits until all its partitions have leaders. One that is
// there already is fine if it has as many partitions.
func (t *topic) create(ctx context.Context, partitions, replicas int) error {
	err := t.ask(ctx, "make topic", func(ctx context.Context) error {
		made, err := t.admin.CreateTopic(ctx, int32(partitions), int16(replicas), nil, t.name)
		// The broker's words tell which rule was broken, where it has some.
		if words := strings.TrimSpace(clean(made.ErrMessage)); err != nil && words != "" && !strings.Contains(err.Error(), words) {
			err = fmt.Errorf("%w: %s", err, words)
		}
		return err
	})
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return t.exists(ctx, partitions, replicas)
	}
	if err != nil {
		return err
	}
	err = t.ask(ctx, "wait for the leaders of topic", func(ctx context.Context) error {
		details, err := t.admin.ListTopics(ctx, t.name)
		if err != nil {
			return err
		}
		made := details[t.name]
		if len(made.Partitions) < partitions || len(leaderless(made)) > 0 {
			return kerr.LeaderNotAvailable // it is not yet known everywhere
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "made %s: %s, %s\n", t.name, count(partitions, "partition"), count(replicas, "replica"))
	return err
}

func (t *topic) exists(ctx context.Context, partitions, replicas int) error {
	detail, err := t.look(ctx)
	if err != nil {
		return err
	}
	if has, copies := len(detail.Partitions), detail.Partitions.NumReplicas(); has != partitions || copies != replicas {
		return fmt.Errorf("make topic %s: it exists with %s, %s, and not with %s, %s: leave it, or use another name",
			t.name, count(has, "partition"), count(copies, "replica"), count(partitions, "partition"), count(replicas, "replica"))
	}
	_, err = fmt.Fprintf(t.out, "%s is there already: %s, %s\n", t.name, count(partitions, "partition"), count(replicas, "replica"))
	return err
}

// count is a number with what is counted.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
