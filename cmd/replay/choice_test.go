package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The choices from the settings to the target and to the report.
func TestOnlyWhatWasChosenIsSent(t *testing.T) {
	file := recorded(t,
		entry{path: "/home"},
		entry{path: "/users/1", app: "blog", status: 404},
		entry{path: "/users/2", status: 500},
		entry{path: "/Users/3", status: 503},
		entry{path: "/head", method: "HEAD", status: -1},
		entry{path: "/post", method: "POST", status: 302},
		entry{path: "/logout"},
		entry{path: "/a/%6cogOut?x"},
		entry{path: "/a?b=%55nsubscribe"},
		entry{path: "/admin?q=1"},
		entry{path: "/r?key=[REDACTED]&b=[REDACTED]"},
	)
	for _, tt := range []struct {
		args    []string
		want    string
		skipped string
	}{
		{nil, "/Users/3 /admin?q=1 /head /home /users/1 /users/2", "denied=3 other_method=1 redacted=1"},
		{[]string{"--app=blog"}, "/users/1", "other_app=10"},
		{[]string{"--app=blog,shop,"}, "/Users/3 /admin?q=1 /head /home /users/1 /users/2", "denied=3 other_method=1 redacted=1"},
		{[]string{"--app=none"}, "", "other_app=11"},
		{[]string{"--status=404,5xx"}, "/Users/3 /users/1 /users/2", "other_status=8"},
		{[]string{"--status=503"}, "/Users/3", "other_status=10"},
		{[]string{"--path-prefix=/users/"}, "/users/1 /users/2", "other_path=9"},
		{[]string{"--path-prefix=/users/1", "--path-prefix=/ho"}, "/home /users/1", "other_path=9"},
		{[]string{"--methods=HEAD"}, "/head", "other_method=10"},
		{[]string{"--methods=POST", "--unsafe"}, "/post", "other_method=10"},
		{[]string{"--deny=/admin"}, "/Users/3 /a/%6cogOut?x /a?b=%55nsubscribe /head /home /logout /users/1 /users/2", "denied=1 other_method=1 redacted=1"},
		{[]string{"--deny=/ADMIN?Q", "--deny=default"}, "/Users/3 /head /home /users/1 /users/2", "denied=4 other_method=1 redacted=1"},
		{[]string{"--deny=none"}, "/Users/3 /a/%6cogOut?x /a?b=%55nsubscribe /admin?q=1 /head /home /logout /users/1 /users/2", "other_method=1 redacted=1"},
		{[]string{"--redacted-value=x y"}, "/Users/3 /admin?q=1 /head /home /r?key=x%20y&b=x%20y /users/1 /users/2", "denied=3 other_method=1"},
		{[]string{"--redacted-value=logout"}, "/Users/3 /admin?q=1 /head /home /users/1 /users/2", "denied=4 other_method=1"},
		{[]string{"--path-prefix=/users", "--status=404", "--app=shop"}, "", "other_app=1 other_status=10"},
	} {
		t.Run(fmt.Sprint(tt.args), func(t *testing.T) {
			s := newServer(t)
			args := append(tt.args, "--file="+file, "--target="+s.url, "--json")
			r := play(t, 0, args...).result()
			if got := strings.Join(s.targets(), " "); got != tt.want {
				t.Errorf("%s came, want %s", got, tt.want)
			}
			var skipped []string
			for _, why := range slices.Sorted(maps.Keys(r.Requests.Skipped)) {
				skipped = append(skipped, fmt.Sprint(why, "=", r.Requests.Skipped[why]))
			}
			if got := strings.Join(skipped, " "); got != tt.skipped || r.Requests.Sent != int64(len(s.received())) || r.Requests.Read != 11 {
				t.Errorf("skipped %s, want %s: %+v", got, tt.skipped, r.Requests)
			}
			before := len(s.received())
			plan := play(t, 0, append(args, "--dry-run")...)
			if len(s.received()) != before || !plan.stdout.Says(fmt.Sprintf(`"read":11,"send":%d,`, before)) {
				t.Errorf("a dry run says %s", &plan.stdout)
			}
		})
	}
}

// A sample has the same requests each time, and a larger one has those of a smaller one.
func TestASampleHasTheSameRequestsEachTime(t *testing.T) {
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprint("/", i))
	}
	entries := paths(all...)
	for i := range entries {
		entries[i].fwd = nobody
	}
	file := recorded(t, entries...)
	ids := func(args ...string) (sent []string) {
		s := newServer(t)
		r := play(t, 0, append(args, "--file="+file, "--target="+s.url, "--json", "--speed=max")...).result()
		for _, q := range s.received() {
			sent = append(sent, q.header.Get("X-Replay"))
		}
		slices.Sort(sent)
		if int(r.Requests.Skipped["not_sampled"]) != len(all)-len(sent) {
			t.Errorf("%v: %d were sent, %+v", args, len(sent), r.Requests)
		}
		return sent
	}
	tenth, again, third := ids("--sample=10%"), ids("--sample=0.1"), ids("--sample=33%")
	if !slices.Equal(tenth, again) || len(tenth) < 60 || len(tenth) > 140 || len(third) < 260 || len(third) > 400 {
		t.Errorf("%d, %d and %d were sent", len(tenth), len(again), len(third))
	}
	for _, id := range tenth {
		if !slices.Contains(third, id) {
			t.Errorf("%s is not in the larger sample", id)
		}
	}
}
