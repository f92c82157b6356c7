package heroku_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// shop is a my-shop that is attached to a drain by the script.
type shop struct {
	*platform
	*arguments
}

// The drain that the Deploy button made, on which another app has a secret.
func newShop(t *testing.T) *shop {
	t.Helper()
	return &shop{newPlatform(t, buttonSecret+" "+otherEntry), newArguments(t)}
}

func (s *shop) environment() []string {
	return []string{"HEROKU_API_KEY=" + apiToken, "HEROKU_API_URL=" + s.api.URL}
}

// attach runs the script for my-shop.
func (s *shop) attach(args ...string) (status int, out string) {
	s.t.Helper()
	return s.script(s.t, "attach", s.environment(), append([]string{"my-shop", "--drain", drainApp}, args...)...)
}

func (s *shop) attachWell(args ...string) (out string) {
	s.t.Helper()
	status, out := s.attach(args...)
	if status != 0 {
		s.t.Fatalf("attach %v: exit status %d: %s", args, status, out)
	}
	return out
}

// whole checks what attach promises, and that no secret was an argument.
func (s *shop) whole(entries int) (secret string) {
	s.t.Helper()
	s.settled()
	drain, secrets := s.state()
	secret, _, _ = strings.Cut(strings.TrimPrefix(drain, "http://drain:"), "@")
	if !strings.HasPrefix(secrets, buttonSecret+","+otherEntry+",") {
		s.t.Errorf("DRAIN_SECRETS is %s", secrets)
	}
	if got := strings.Count(secrets, "my-shop="); got != entries || !strings.HasSuffix(secrets, "my-shop="+secret) {
		s.t.Errorf("%d secrets of my-shop, want %d, the last of them that of %s: %s", got, entries, drain, secrets)
	}
	if !s.knows(secret) {
		s.t.Error("drain does not take the secret of its drain")
	}
	s.noSecretWasSeen()
	return secret
}

func (s *shop) noSecretWasSeen() {
	s.t.Helper()
	noted := s.arguments.String()
	if !strings.Contains(noted, "curl") {
		s.t.Error("no arguments were noted")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range append(s.secrets, apiToken) {
		if strings.Contains(noted, secret) {
			s.t.Errorf("a secret was the argument of a program: %s", noted)
		}
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	others := []string{"https://drain:x@elsewhere.example.com/logs", "syslog+tls://logs.example.com:1234",
		"https://drain:x@127.0.0.1:" + s.port + "/other",
		"https://drain:x@127.0.0.1:" + s.port + "0/logs", "https://drain:x@127.0.0.1:" + s.port + "/logs2"}
	for _, url := range others {
		s.byHand(url, nil)
	}
	s.byHand("https://u:p@127.0.0.1:"+s.port+"/logs/addons", map[string]string{"name": "addon"})

	says(t, s.attachWell(), "added a secret for my-shop to my-drain, which restarts", "attached: Heroku sends the logs of my-shop to http://127.0.0.1:"+s.port+"/logs")
	first := s.whole(1)
	calls := s.count()
	says(t, s.attachWell(), "my-shop is attached to my-drain already")
	if again := s.whole(1); again != first || s.count() != calls+3 {
		t.Errorf("attached again it calls %s", s.calls[calls:])
	}
	if kept := len(s.drains); kept != len(others)+2 {
		t.Errorf("%d drains are left", kept)
	}
}

// A drain that was attached by hand gives way to attach's.
func TestAttachAfterADrainWasAddedByHand(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.byHand("http://drain:"+buttonSecret+"@127.0.0.1:"+s.port+"/logs", nil)
	says(t, s.attachWell("--host", "127.0.0.1:"+s.port), "waiting until the drain before has sent what it holds", "removed a drain that my-shop had before")
	if s.whole(1) == buttonSecret {
		t.Error("still has the old secret")
	}
	if noted := s.arguments.String(); !strings.Contains(noted, "sleep 15 ") {
		t.Errorf("does not wait for 15 s: %s", noted)
	}
}

// sender posts to every log drain of an app, as Heroku does: again until it is answered.
// What is refused with 4xx is lost.
func (s *shop) sender(t *testing.T) (stop func() (taken int)) {
	var wait sync.WaitGroup
	end, taken := make(chan struct{}), 0
	wait.Go(func() {
		for frame := 0; ; frame++ {
			s.mu.Lock()
			drains := s.ours()
			s.mu.Unlock()
			for _, d := range drains {
				line := fmt.Sprintf("<158>1 2026-01-01T12:00:00.%06d+00:00 host heroku router - at=info method=GET path=\"/%d\" host=h status=200\n", frame, frame)
				for {
					status, text := send("POST", strings.Replace(d.URL, "https", "http", 1), fmt.Sprintf("%d %s", len(line), line),
						"Content-Type: application/logplex-1", fmt.Sprintf("Logplex-Frame-Id: %032x", frame), "Logplex-Drain-Token: "+d.Token)
					if status == 200 {
						taken++
						break
					}
					if status >= 400 && status < 500 && s.attached(d) {
						t.Errorf("a frame is lost: %d %s", status, text)
						break
					}
					if !s.attached(d) {
						break
					}
				}
			}
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() int { close(end); wait.Wait(); return taken }
}

func (s *shop) attached(d *logDrain) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, now := range s.drains {
		if now == d {
			return true
		}
	}
	return false
}

func TestRotate(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.attachWell()
	first := s.whole(1)
	stop := s.sender(t)
	// Meanwhile somebody adds another app's secret, which must not get lost.
	const late = ",late-app=0cc175b9c0f1b6a831c399e269772661"
	began := s.count()
	s.mu.Lock()
	s.hook = func(call int, carriedOut bool) bool {
		if carriedOut && call == began+5 {
			s.vars["DRAIN_SECRETS"] += late
		}
		return false
	}
	s.mu.Unlock()
	says(t, s.attachWell("--rotate"), "added a secret for my-shop", "attached: ", "removed a drain that my-shop had before", "removed the old secret of my-shop")
	if _, secrets := s.state(); !strings.Contains(secrets, otherEntry+late+",my-shop=") {
		t.Errorf("the other apps' secrets are gone: %s", secrets)
	}
	second := s.whole(1)
	if taken := stop(); taken == 0 {
		t.Error("nothing was sent meanwhile")
	}
	if second == first || s.knows(first) {
		t.Error("the old secret is still good")
	}
	says(t, s.attachWell(), "attached to my-drain already")
}

// Wherever it is stopped, or Heroku fails, it can be run again, and then all is as if it
// had not been.
func TestAttachRunAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		before func(*shop)
	}{
		{"attach", nil, func(*shop) {}},
		{"rotate", []string{"--rotate"}, func(s *shop) { s.attachWell(); s.settled() }},
	} {
		for _, how := range []string{"killed after", "refused at"} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				s := newShop(t)
				tt.before(s)
				// Each time one call later, until it ends without having come that far. What
				// was begun before is then in the way of the next.
				interrupted, began := 0, s.count()
				for at := 1; ; at++ {
					if tt.args == nil {
						s.reset()
					}
					began = s.count()
					cmd := s.command(t, "attach", s.environment(), append([]string{"my-shop", "--drain", drainApp}, tt.args...)...)
					s.mu.Lock()
					s.hook = func(call int, carriedOut bool) bool {
						if call != began+at {
							return false
						}
						if carriedOut && how == "killed after" {
							_ = cmd.kill()
						}
						return how == "refused at"
					}
					s.mu.Unlock()
					status, out := cmd.run(t)
					s.mu.Lock()
					s.hook = nil
					s.mu.Unlock()
					if status == 0 {
						break
					}
					interrupted++
					if how == "refused at" {
						says(t, out, "Heroku answers 503: Heroku API is unavailable.")
					}
					s.attachWell(tt.args...)
					s.whole(1)
				}
				if want := map[string]int{"attach": 5, "rotate": 8}[tt.name]; interrupted != want {
					t.Errorf("was interrupted after %d calls, want %d: %s", interrupted, want, s.calls[began:])
				}
			})
		}
	}
}

// reset is a my-shop that was never attached.
func (s *shop) reset() {
	s.settled()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains = []*logDrain{}
	s.vars["DRAIN_SECRETS"] = buttonSecret + " " + otherEntry
	s.exchange(s.vars["DRAIN_SECRETS"])
}

// A rotation that was stopped half-way leaves two of everything; without --rotate the
// newer drain stays, and both secrets.
func TestAttachAfterHalfARotation(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.attachWell()
	first := s.whole(1)
	s.mu.Lock()
	began := len(s.calls)
	s.hook = func(call int, _ bool) bool { return call == began+6 } // the DELETE
	s.mu.Unlock()
	status, out := s.attach("--rotate")
	says(t, out, "DELETE /apps/my-shop/log-drains/", "Heroku answers 503")
	if s.mu.Lock(); status == 0 || len(s.drains) != 2 {
		t.Errorf("exit status %d, %d drains", status, len(s.drains))
	}
	s.hook = nil
	s.mu.Unlock()
	says(t, s.attachWell(), "attached to my-drain already", "removed a drain")
	if s.whole(2) == first {
		t.Error("the older drain was kept")
	}
}

// What is wrong from the beginning changes nothing, and is said in a line.
func TestAttachRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	good := s.environment()
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		status int
		says   string
	}{
		{"no app", good, nil, 2, "attach: which app? (see --help)"},
		{"no drain", good, []string{"my-shop"}, 2, "--drain is missing"},
		{"no value", good, []string{"my-shop", "--drain"}, 2, "--drain wants a value"},
		{"two apps", good, []string{"a", "b", "--drain", "c"}, 2, "more than one app"},
		{"a flag", good, []string{"my-shop", "--drain", "c", "--rotat"}, 2, "unknown flag --rotat"},
		{"a name", good, []string{"my shop", "--drain", "c"}, 2, "no app is called 'my shop'"},
		{"itself", good, []string{drainApp, "--drain", drainApp}, 2, "the logs of my-drain to itself would never end"},
		{"a host", good, []string{"my-shop", "--drain", "c", "--host", "https://h"}, 2, "--host wants a name"},
		{"another's app", good, []string{"nobodys", "--drain", drainApp}, 1, "GET /apps/nobodys/log-drains: Heroku answers 404: Couldn't find that app."},
		{"another's drain", good, []string{"my-shop", "--drain", "nobodys"}, 1, "GET /apps/nobodys: Heroku answers 404: Couldn't find that app."},
		{"a bad key", []string{"HEROKU_API_KEY=x", good[1]}, []string{"my-shop", "--drain", drainApp}, 1, "Heroku answers 401: Invalid credentials provided."},
		{"an odd key", []string{"HEROKU_API_KEY=a\"\nb", good[1]}, []string{"my-shop", "--drain", drainApp}, 1, "HEROKU_API_KEY is no token"},
		{"no key", good[1:], []string{"my-shop", "--drain", drainApp}, 1, "HEROKU_API_KEY is not set, and the heroku command is missing"},
		{"nobody there", []string{good[0], "HEROKU_API_URL=http://127.0.0.1:1"}, []string{"my-shop", "--drain", drainApp}, 1, "GET /apps/my-drain: curl: (7) "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out := s.script(t, "attach", tt.env, tt.args...)
			if status != tt.status || strings.Count(out, "\n") != 1 || !strings.Contains(out, tt.says) {
				t.Errorf("exit status %d, want %d: %q, want %q", status, tt.status, out, tt.says)
			}
		})
	}
	for _, call := range s.calls {
		if !strings.HasPrefix(call, "GET ") {
			t.Errorf("calls %s", call)
		}
	}
	s.noSecretWasSeen()
}

func TestAttachByWhoeverIsLoggedIn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	args := []string{"my-shop", "--drain", drainApp}
	s.arguments.add(t, "heroku", "echo ' ›   Warning: token will expire tomorrow' >&2; exit 1")
	status, out := s.script(t, "attach", s.environment()[1:], args...)
	if status != 1 || !strings.Contains(out, "not logged in") {
		t.Errorf("exit status %d: %s", status, out)
	}
	s.arguments.add(t, "heroku", "echo ' ›   Warning: token will expire tomorrow' >&2; echo "+apiToken)
	if status, out = s.script(t, "attach", s.environment()[1:], args...); status != 0 {
		t.Errorf("exit status %d: %s", status, out)
	}
	s.whole(1)
}

// A drain that does not come back is not attached, and the app keeps what it had.
func TestAttachToADrainThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.mu.Lock()
	s.vars["DRAIN_SECRETS"] += " short" // with this it does not start
	s.mu.Unlock()
	status, out := s.attach()
	says(t, out, "my-drain does not take the secret of my-shop (it answers nothing): look at heroku logs -a my-drain, then run this again")
	if status != 1 || len(s.drains) > 0 {
		t.Errorf("exit status %d, drains %v", status, s.drains)
	}
}
