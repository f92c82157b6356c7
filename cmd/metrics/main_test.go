package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"drain/settings"
	"drain/trial/authority"
	"drain/trial/binary"
	"drain/trial/check"
	"drain/trial/journal"
	"drain/trial/redisserver"
)

func TestMain(m *testing.M) {
	status := m.Run()
	installed.Remove()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

var must, eventually = check.Must, check.Eventually

// installed is metrics, as it is installed.
var installed binary.Binary

// program is metrics, in this process or in one of its own.
type program struct {
	t     *testing.T
	name  string
	log   journal.Journal
	hints journal.Journal
	stop  func()
	ended chan struct{}
	err   error // once it has ended
	cmd   *exec.Cmd
}

// start runs metrics in this process until it shows its page, or has ended.
func start(t *testing.T, env vars, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &program{t: t, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx, args, environ{env.Lookup, &p.hints, &p.log})
	}()
	return p.begun()
}

// spawn does the same in a process of its own.
func spawn(t *testing.T, env vars) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(installed.Path(t)), ended: make(chan struct{})}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.hints, &p.log
	must(t, p.cmd.Start())
	p.stop = func() { _ = p.cmd.Process.Kill() } // it may have ended
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p.begun()
}

func (p *program) begun() *program {
	p.t.Helper()
	p.t.Cleanup(func() {
		p.stop()
		<-p.ended
		if p.t.Failed() {
			p.t.Logf("metrics said:\n%s\nand %v", &p.log, p.err)
		}
	})
	eventually(p.t, "the page", func() bool { return p.log.Says("metrics shows its page") || p.hasEnded() })
	return p
}

func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

var listens = regexp.MustCompile(`shows its page" listen=(\S+)`)

// get asks for a path; status 0 when nobody is there.
func (p *program) get(path string) (status int, text string) {
	p.t.Helper()
	at := listens.FindStringSubmatch(p.log.String())
	if at == nil {
		p.t.Fatal("it shows no page")
	}
	res, err := client.Get("http://" + at[1] + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(all)
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ready waits until /readyz says so.
func (p *program) ready() {
	p.t.Helper()
	eventually(p.t, "ready", func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK })
}

// unready waits until /readyz says what is wrong.
func (p *program) unready(why string) {
	p.t.Helper()
	eventually(p.t, "/readyz to say "+why, func() bool {
		status, text := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, why)
	})
}

// counted waits until so many records are in Redis, and no more of them.
func (p *program) counted(want int64) {
	p.t.Helper()
	var text string
	eventually(p.t, fmt.Sprint(want, " records counted"), func() bool {
		var lag struct{ Records, Lag int64 }
		_, text = p.get("/api/v1/lag")
		return json.Unmarshal([]byte(text), &lag) == nil && lag.Records == want && lag.Lag == 0
	})
}

// says waits until the log says text.
func (p *program) says(text string) {
	p.t.Helper()
	eventually(p.t, "it to say "+text, func() bool { return p.log.Says(text) })
}

// silent fails if it says one of secrets anywhere.
func (p *program) silent(secrets ...string) {
	p.t.Helper()
	_, ready := p.get("/readyz")
	_, metrics := p.get("/metrics")
	_, lag := p.get("/api/v1/lag")
	for _, s := range secrets {
		for where, text := range map[string]string{"its log": p.log.String(), "its hints": p.hints.String(), "/readyz": ready, "/metrics": metrics, "/api/v1/lag": lag} {
			if strings.Contains(text, s) {
				p.t.Errorf("%s shows %s: %s", where, s, text)
			}
		}
	}
}

// end stops it as a signal does.
func (p *program) end() {
	p.t.Helper()
	p.stop()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Fatal("does not stop")
	}
	if p.err != nil {
		p.t.Errorf("ends with %v", p.err)
	}
}

// kafka is one with the topic router.
type kafka struct {
	t    *testing.T
	addr string
	made int
}

func newKafka(t *testing.T) *kafka {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "router"))
	must(t, err)
	t.Cleanup(c.Close)
	return &kafka{t: t, addr: c.ListenAddrs()[0]}
}

// add stores n requests of now.
func (k *kafka) add(n int) {
	k.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(k.addr), kgo.DefaultProduceTopic("router"))
	must(k.t, err)
	defer c.Close()
	var all []*kgo.Record
	for range n {
		k.made++
		all = append(all, &kgo.Record{Value: fmt.Appendf(nil, `{"id":"%d-0","time":"%s","app":"shop","method":"GET","path":"/users/%d","dyno":"web.1","service_ms":5,"status":200}`,
			k.made, time.Now().UTC().Format(time.RFC3339Nano), k.made)})
	}
	must(k.t, c.ProduceSync(k.t.Context(), all...).FirstErr())
}

// settings are those of a metrics that reads it.
func (k *kafka) settings(more ...string) vars {
	return vars{"LISTEN": "127.0.0.1:0", "KAFKA_URL": k.addr}.With(more...)
}

func TestRunsWithItsOwnRedisAndSaysWhatToDo(t *testing.T) {
	k := newKafka(t)
	p := start(t, vars{"LISTEN": "127.0.0.1:0", "BROKER_LISTEN": k.addr})
	k.add(10)
	p.counted(10)
	p.ready()
	for path, want := range map[string]string{"/": "<!doctype html>", "/healthz": "ok", "/metrics": `drain_metrics_records_total{result="counted"} 10`, "/api/v1/series?last=1m": `"requests":10`} {
		eventually(t, path+" to have "+want, func() bool { // its own counters follow Redis
			status, text := p.get(path)
			return status == 200 && strings.Contains(strings.ToLower(text), strings.ToLower(want))
		})
	}
	at := listens.FindStringSubmatch(p.log.String())[1]
	for _, hint := range []string{"http://" + at + "/\n", "go run ./cmd/drain\n"} {
		if !p.hints.Says(hint) {
			t.Errorf("it does not say %q: %s", hint, &p.hints)
		}
	}
	for _, strange := range []string{"level=WARN", "level=ERROR", "redis=127"} {
		if p.log.Says(strange) {
			t.Errorf("its log has %s", strange)
		}
	}
	p.end()
}

// Nothing is counted twice by a process that starts where another one stopped.
func TestAnotherGoesOnWhereOneStopped(t *testing.T) {
	k, server := newKafka(t), redisserver.Start(t)
	env := k.settings("REDIS_URL", server.URL()+"/2")
	for i := range 3 {
		p := start(t, env)
		k.add(100)
		p.counted(int64(100 * (i + 1)))
		p.end()
	}
	if n := server.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys are in another database than it was told", n)
	}
}

func TestATakenPortIsOneClearLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	p := start(t, newKafka(t).settings("LISTEN", taken.Addr().String()))
	if !p.hasEnded() {
		t.Fatal("it runs")
	}
	var shown strings.Builder
	if status := settings.ExitStatus("metrics", p.err, &shown); status != 1 {
		t.Errorf("exit status %d", status)
	}
	text := p.log.String() + p.hints.String() + shown.String()
	for _, want := range []string{"metrics: ", taken.Addr().String(), "in use", "set LISTEN to a free address"} {
		if !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%q is not one line that says %q", text, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	k := newKafka(t)
	lru, keeps := redisserver.Start(t, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"), redisserver.Start(t)
	for _, tt := range []struct {
		name, says string // "": nothing
		env        vars
	}{
		{"a Redis that evicts", "set its maxmemory-policy to noeviction", k.settings("REDIS_URL", lru.URL())},
		{"one that does not", "", k.settings("REDIS_URL", keeps.URL())},
		{"everybody may look", "everybody who reaches this address can see the page", k.settings("LISTEN", "0.0.0.0:0", "ALLOW_ANONYMOUS", "true")},
		{"with a password", "", k.settings("LISTEN", "0.0.0.0:0", "DASH_PASSWORD", "swordfish")},
		{"on this machine only", "", k.settings("ALLOW_ANONYMOUS", "true")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, tt.env)
			p.ready()
			if n := strings.Count(p.log.String(), "level=WARN"); n > 1 || (n == 1) != (tt.says != "") || !p.log.Says(tt.says) {
				t.Errorf("%d warnings, want %q", n, tt.says)
			}
			p.end()
		})
	}
}

func TestAPasswordOfRedisThatIsWrongIsSaidAndNotShown(t *testing.T) {
	k, server := newKafka(t), redisserver.Start(t)
	c := server.Client(t)
	const right, wrong = "right-swordfish", "wrong-swordfish"
	must(t, c.ConfigSet(t.Context(), "requirepass", right).Err())
	began := time.Now()
	p := start(t, k.settings("REDIS_URL", "redis://:"+wrong+"@"+server.Addr))
	k.add(10)
	p.unready("correct the password in REDIS_URL")
	p.says("correct the password in REDIS_URL")
	eventually(t, "three attempts", func() bool {
		_, text := p.get("/metrics")
		return regexp.MustCompile(`drain_consumer_errors_total{what="assignment"} ([3-9]|\d\d)\n`).MatchString(text)
	})
	// At once, and then each five seconds.
	if n, most := strings.Count(p.log.String(), "reading cannot begin"), 1+int(time.Since(began)/(5*time.Second)); n < 1 || n > most {
		t.Errorf("it is said %d times, want at most %d", n, most)
	}
	p.silent(right, wrong)
	// Mended on the other side, it goes on by itself.
	must(t, c.Do(t.Context(), "AUTH", right).Err())
	must(t, redisAs(t, server.Addr, right).ConfigSet(t.Context(), "requirepass", wrong).Err())
	p.counted(10)
	p.ready()
	p.says("reading begins")
	p.silent(right, wrong)
	p.end()
}

func redisAs(t *testing.T, addr, password string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, Password: password})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestWhatIsWrongWithRedisIsSaidWithWhatToDo(t *testing.T) {
	k, server := newKafka(t), redisserver.Start(t)
	c := server.Client(t)
	away, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, away.Close())
	for _, tt := range []struct {
		name, url, do string
		config        []string
	}{
		{"away", "redis://" + away.Addr().String(), "is Redis there? look at REDIS_URL", nil},
		{"without TLS", "rediss://" + server.Addr, "with TLS if REDIS_URL begins with rediss://", nil},
		{"a replica", server.URL(), "set REDIS_URL to its primary", []string{"REPLICAOF", "127.0.0.1", "1"}},
		{"what is not allowed", "redis://guest:pw@" + server.Addr, "allow it to the user in REDIS_URL", []string{"ACL", "SETUSER", "guest", "on", ">pw", "~*", "+info", "-@all"}},
		{"no password", server.URL(), "correct the password in REDIS_URL", []string{"CONFIG", "SET", "requirepass", "x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config != nil {
				var args []any
				for _, a := range tt.config {
					args = append(args, a)
				}
				must(t, c.Do(t.Context(), args...).Err())
			}
			p := start(t, k.settings("REDIS_URL", tt.url))
			p.unready(tt.do)
			p.says(tt.do)
			p.end()
		})
	}
}

// A Redis that is full keeps what it has; reading waits for room.
func TestARedisThatIsFullIsWaitedFor(t *testing.T) {
	k, server := newKafka(t), redisserver.Start(t)
	c := server.Client(t)
	p := start(t, k.settings("REDIS_URL", server.URL()))
	k.add(1000)
	p.counted(1000)
	must(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
	k.add(1000)
	p.says("Redis does not take windows: reading waits, nothing is lost")
	p.unready("Redis is full: give it more memory, or raise its maxmemory")
	k.add(1000)
	must(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	p.counted(3000)
	p.ready()
	p.says("Redis takes windows again")
	if n := strings.Count(p.log.String(), "reading waits"); n != 1 {
		t.Errorf("it is said %d times that Redis is full", n)
	}
	p.end()
}

// A redis-server with TLS only, whose certificate has not its name, as Heroku's.
func secureRedis(t *testing.T, a *authority.Authority) (addr string) {
	t.Helper()
	cert, key := a.Issue("strange.name.example", time.Now().Add(time.Hour))
	dir := t.TempDir()
	for name, text := range map[string]string{"cert": cert, "key": key, "ca": a.PEM} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	must(t, l.Close())
	redisserver.Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-ca-cert-file", filepath.Join(dir, "ca"), "--tls-auth-clients", "no")
	return l.Addr().String()
}

func TestRediss(t *testing.T) {
	ours, other := authority.New(t, "ours"), authority.New(t, "other")
	k, url := newKafka(t), "rediss://"+secureRedis(t, ours)
	const unverified = "the certificate of Redis is not verified: set REDIS_TRUSTED_CERT, or REDIS_TLS_VERIFY=true"
	for _, tt := range []struct {
		name  string
		env   vars
		fails string // "": it does not
		warns bool
	}{
		{"trusted", vars{"REDIS_TRUSTED_CERT": ours.PEM}, "", false},
		{"one of several", vars{"REDIS_TRUSTED_CERT": other.PEM + ours.PEM}, "", false},
		{"unknown", nil, "set REDIS_TRUSTED_CERT to the certificate of its authority", false},
		{"another authority's", vars{"REDIS_TRUSTED_CERT": other.PEM}, "not trusted by REDIS_TRUSTED_CERT: x509: ", false},
		{"on Heroku", vars{"DYNO": "web.1", "DASH_PASSWORD": "x"}, "", true},
		{"trusted on Heroku", vars{"DYNO": "web.1", "REDIS_TRUSTED_CERT": ours.PEM}, "", false},
		{"another authority's on Heroku", vars{"DYNO": "web.1", "REDIS_TRUSTED_CERT": other.PEM}, "not trusted by REDIS_TRUSTED_CERT: x509: ", false},
		{"verified on Heroku", vars{"DYNO": "web.1", "REDIS_TLS_VERIFY": "true"}, "set REDIS_TRUSTED_CERT to the certificate of its authority", false},
		{"not verified", vars{"REDIS_TLS_VERIFY": "false"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := k.settings("REDIS_URL", url)
			maps.Copy(env, tt.env)
			p := start(t, env)
			if tt.fails != "" {
				p.unready(tt.fails)
				if p.log.Says("KAFKA_TRUSTED_CERT") {
					t.Error("it speaks of Kafka's certificate")
				}
			} else {
				p.ready()
			}
			if p.log.Says(unverified) != tt.warns {
				t.Errorf("warns: %t", !tt.warns)
			}
			p.end()
		})
	}
}

func TestAStopIsCleanHoweverOftenItIsTold(t *testing.T) {
	k, server := newKafka(t), redisserver.Start(t)
	env := k.settings("REDIS_URL", server.URL())
	for _, signals := range [][]os.Signal{{syscall.SIGTERM}, {syscall.SIGINT}, {syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT}} {
		p := spawn(t, env)
		p.ready()
		k.add(500) // it may be about to be counted
		p.signal(5*time.Second, signals...)
	}
	p := spawn(t, env)
	p.counted(int64(k.made))
	p.signal(5*time.Second, syscall.SIGTERM)
}

func TestAStopIsBoundedWhateverIsAway(t *testing.T) {
	var harmed []*program
	for name, harm := range map[string]func(*silence, *redisserver.Server){
		"Kafka refuses":   func(k *silence, _ *redisserver.Server) { k.close() },
		"Kafka is silent": func(k *silence, _ *redisserver.Server) { k.fall() },
		"Redis refuses":   func(_ *silence, r *redisserver.Server) { r.Kill() },
		"Redis is silent": func(_ *silence, r *redisserver.Server) { r.Freeze(t) },
		"both are silent": func(k *silence, r *redisserver.Server) { k.fall(); r.Freeze(t) },
	} {
		k, server := newKafka(t), redisserver.Start(t)
		between := newSilence(t, k.addr)
		p := spawn(t, k.settings("KAFKA_URL", between.addr, "REDIS_URL", server.URL()))
		p.name = name
		p.ready()
		k.add(1000)
		harm(between, server)
		harmed = append(harmed, p)
	}
	var ends sync.WaitGroup // at once: they wait
	for _, p := range harmed {
		ends.Go(func() { p.signal(15*time.Second, syscall.SIGTERM, syscall.SIGINT) })
	}
	ends.Wait()
}

// It has nothing to stop that never began.
func TestAStopBeforeKafkaAndRedisWereSeen(t *testing.T) {
	p := spawn(t, vars{"LISTEN": "127.0.0.1:0", "KAFKA_URL": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"})
	p.says("cannot take part in the group")
	p.signal(5*time.Second, syscall.SIGTERM)
}

// signal stops a process, which must end with 0 in time.
func (p *program) signal(within time.Duration, signals ...os.Signal) {
	p.t.Helper()
	began := time.Now()
	for _, s := range signals {
		_ = p.cmd.Process.Signal(s)      // it may have ended by the first
		time.Sleep(3 * time.Millisecond) // so that it is not taken for the one before
	}
	select {
	case <-p.ended:
		p.t.Logf("%s: ended after %v", p.name, time.Since(began))
		if p.err != nil {
			p.t.Errorf("%s: ends with %v", p.name, p.err)
		}
	case <-time.After(within):
		p.t.Errorf("%s: does not stop within %v", p.name, within)
	}
}

// silence stands before a Kafka of one broker, and can fall silent.
type silence struct {
	t      *testing.T
	l      net.Listener
	addr   string
	broker string

	mu     sync.Mutex // guards the following
	silent bool
	conns  []net.Conn
	copies sync.WaitGroup
}

func newSilence(t *testing.T, broker string) *silence {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &silence{t: t, l: l, addr: l.Addr().String(), broker: broker}
	s.copies.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

func (s *silence) accept() {
	for {
		in, err := s.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", s.broker)
		if err != nil {
			in.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, in, out)
		s.mu.Unlock()
		s.copies.Go(func() { s.copy(out, in) })
		s.copies.Go(func() { s.copy(in, out) })
	}
}

// copy passes on what comes, as long as it is not silent.
func (s *silence) copy(to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			to.Close()
			return
		}
		s.mu.Lock()
		silent := s.silent
		s.mu.Unlock()
		if silent {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (s *silence) fall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func (s *silence) close() {
	_ = s.l.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.copies.Wait()
}

func TestTheExitStatusOfTheProgram(t *testing.T) {
	for _, tt := range []struct {
		env    vars
		args   []string
		status int
	}{
		{nil, []string{"--help"}, 0},
		{nil, []string{"--nope"}, 2},
		{vars{"REDIS_URL": "x"}, nil, 2},
		{vars{"LISTEN": ":0"}, nil, 2},
		{vars{"LISTEN": "192.0.2.1:1", "ALLOW_ANONYMOUS": "1"}, nil, 1},
	} {
		cmd := exec.Command(installed.Path(t), tt.args...)
		for name, value := range tt.env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run() // its exit status tells
		if status := cmd.ProcessState.ExitCode(); status != tt.status || status != 0 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%v %v: exit status %d, want %d: %s", tt.env, tt.args, status, tt.status, stderr.String())
		}
	}
}
