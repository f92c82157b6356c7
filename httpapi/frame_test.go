package httpapi

import (
	"slices"
	"strings"
	"testing"
)

// idsOf posts a body to a door of its own and returns the ids of its router
// records in the order of their lines.
func idsOf(t *testing.T, path, body string, headers ...string) []string {
	t.Helper()
	d := open(t)
	if a := d.do("POST", path, strings.NewReader(body), headers...); a.status != 200 {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	return d.ids()
}

const (
	frameID2   = "Logplex-Frame-Id: 19C557EAFCFB6CF2740EE62F62971098"
	drain2     = "Logplex-Drain-Token: d.11111111-3332-4546-93de-7d0ee272c3bd"
	shuttleID  = "X-Request-Id: 11c8f1b0-0d2b-4a9e-8d5b-7d9e6c4c9a11"
	shuttleID2 = "X-Request-Id: 22c8f1b0-0d2b-4a9e-8d5b-7d9e6c4c9a22"
	shuttles   = "User-Agent: log-shuttle/0.18.0 (go1.8; linux; amd64; gc)"
)

var (
	otherNotice = strings.Replace(notice, "7 messages", "99 messages", 1)
	newNotice   = "<172>1 2022-04-21T19:02:23.625396+00:00 host heroku logplex - Error L10 (output buffer overflow): drain 'd.437d' dropped 1 messages since 2022-04-21T19:02:23.625396+00:00."
	lostNotice  = "<172>1 2022-04-21T19:02:23.625396+00:00 host heroku log-shuttle - - Error L12: 222 messages dropped since 2022-04-21T19:02:23.625396+00:00.\n"
	lines       = frame(line("/1"), appLine, line("/2"), line("/3"))
)

func TestEveryTryOfAFrameHasTheSameIDs(t *testing.T) {
	for name, headers := range map[string][]string{
		"Logplex":               {frameName, drainName},
		"without a drain token": {frameName},
		"a small Frame-Id":      {"Logplex-Frame-Id: 7", drainName},
		"log-shuttle":           {shuttleID, shuttles},
		"without any id":        {drainName},
		"without any header":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			first := idsOf(t, "/logs", lines, headers...)
			if len(first) != 3 || first[0] == first[1] || !strings.HasSuffix(first[2], "-0") || !strings.HasSuffix(first[0], "-3") {
				t.Fatalf("ids are %v", first)
			}
			for again, body := range map[string]string{
				"as it was":             lines,
				"with a notice":         frame(notice) + lines,
				"with another notice":   frame(otherNotice) + lines,
				"with the newer notice": frame(newNotice) + lines,
				"with two notices":      frame(notice, lostNotice) + lines,
				"zipped":                zipped(lines),
				"zipped, with a notice": zipped(frame(notice) + lines),
			} {
				if ids := idsOf(t, "/logs", body, headers...); !slices.Equal(ids, first) {
					t.Errorf("%s: %v, at first %v", again, ids, first)
				}
			}
		})
	}
}

func TestDifferentFramesHaveDifferentIDs(t *testing.T) {
	one := frame(line("/1"))
	type try struct {
		path, body string
		headers    []string
	}
	for name, tt := range map[string][2]try{
		"two frame ids":                           {{"/logs", one, []string{frameName, drainName}}, {"/logs", one, []string{frameID2, drainName}}},
		"two drains":                              {{"/logs", one, []string{frameName, drainName}}, {"/logs", one, []string{frameName, drain2}}},
		"a drain and none":                        {{"/logs", one, []string{frameName, drainName}}, {"/logs", one, []string{frameName}}},
		"two apps without a drain":                {{"/logs/a", one, []string{frameName}}, {"/logs/b", one, []string{frameName}}},
		"a small frame id and another body":       {{"/logs", one, []string{"Logplex-Frame-Id: 7", drainName}}, {"/logs", frame(line("/2")), []string{"Logplex-Frame-Id: 7", drainName}}},
		"two small frame ids":                     {{"/logs", one, []string{"Logplex-Frame-Id: 7", drainName}}, {"/logs", one, []string{"Logplex-Frame-Id: 8", drainName}}},
		"two requests of log-shuttle":             {{"/logs", one, []string{shuttleID, shuttles}}, {"/logs", one, []string{shuttleID2, shuttles}}},
		"two bodies without any header":           {{"/logs", one, nil}, {"/logs", frame(line("/2")), nil}},
		"a body and more of it":                   {{"/logs", one, nil}, {"/logs", one + one, nil}},
		"an app of one letter and a drain of two": {{"/logs/b", one, []string{frameName}}, {"/logs", one, []string{frameName, "Logplex-Drain-Token: b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := idsOf(t, tt[0].path, tt[0].body, tt[0].headers...)
			b := idsOf(t, tt[1].path, tt[1].body, tt[1].headers...)
			for _, id := range a {
				if slices.Contains(b, id) {
					t.Errorf("both have %s", id)
				}
			}
		})
	}
}

// With an id of its own a frame is known by it alone, however its body changed.
func TestAFrameIsKnownByItsIDNotByItsBody(t *testing.T) {
	for name, headers := range map[string][]string{"Logplex": {frameName, drainName}, "log-shuttle": {shuttleID, shuttles}} {
		a, b := idsOf(t, "/logs", frame(line("/1"), line("/2")), headers...), idsOf(t, "/logs", frame(line("/2")), headers...)
		if a[1] != b[0] {
			t.Errorf("%s: %v and %v", name, a, b)
		}
	}
}

// A proxy makes a new X-Request-Id for each try where the sender has none.
func TestTheRequestIDOfAProxyIsNotBelieved(t *testing.T) {
	for _, proxy := range []string{"Via: 2.0 heroku-router", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4"} {
		a, b := idsOf(t, "/logs", lines, shuttleID, proxy), idsOf(t, "/logs", lines, shuttleID2, proxy)
		if !slices.Equal(a, b) {
			t.Errorf("%s: %v and %v", proxy, a, b)
		}
		a, b = idsOf(t, "/logs", lines, shuttleID, proxy, shuttles), idsOf(t, "/logs", lines, shuttleID2, proxy, shuttles)
		if a[0] == b[0] {
			t.Errorf("%s, log-shuttle: both have %s", proxy, a[0])
		}
	}
	if a, b := idsOf(t, "/logs", lines, shuttleID), idsOf(t, "/logs", lines, shuttleID2); a[0] == b[0] {
		t.Errorf("two requests without a proxy: both have %s", a[0])
	}
}

func TestAFrameOfNoticesAloneHasAnIDToo(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs = true })
	d.want(200, frame(notice))
	d.want(200, frame(otherNotice))
	got := d.records(logsTopic)
	if len(got) != 2 || got[0].field("id") == got[1].field("id") {
		t.Errorf("%v", got)
	}
}

func TestAFramesPartitionIsStable(t *testing.T) {
	d := open(t, func(s *setup) { s.partitions = 8 })
	at := make(map[int]bool)
	for range 3 {
		d.want(200, lines, frameName, drainName)
		d.want(200, frame(notice)+lines, frameName, drainName)
	}
	for _, r := range d.records(routerTopic) {
		at[r.partition] = true
	}
	if len(at) != 1 {
		t.Errorf("one frame is in the partitions %v", at)
	}
	for i := range 40 {
		d.want(200, lines, frameName[:len(frameName)-2]+string(rune('A'+i/26))+string(rune('A'+i%26)), drainName)
	}
	for _, r := range d.records(routerTopic) {
		at[r.partition] = true
	}
	if len(at) < 6 {
		t.Errorf("41 frames are in the partitions %v only", at)
	}
}
