package heroku_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/httpapi"
	"drain/trial/authority"
	"drain/trial/redisserver"
)

// procfile reads the process types and their commands.
func procfile(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(slug.root, "Procfile"))
	must(t, err)
	types := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, command, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("the Procfile has the line %q", line)
		}
		types[name] = command
	}
	return types
}

func helpOf(t *testing.T, command string) string {
	t.Helper()
	// The buildpack puts the slug's bin on the PATH.
	out, err := exec.Command(filepath.Join(slug.bin, command), "--help").CombinedOutput()
	if err != nil {
		t.Errorf("%s --help: %v: %s", command, err, out)
	}
	return string(out)
}

// What the buildpack builds is what the Procfile starts, and what a one-off dyno can.
func TestBuildpackBuildsWhatIsStarted(t *testing.T) {
	types := procfile(t)
	// Only the type web gets requests, so another app of the same code chooses what it is.
	for _, tt := range []struct{ name, setting, starts string }{
		{"web", "", "drain"}, {"web", "WEB_COMMAND=", "drain"}, {"web", "WEB_COMMAND=metrics", "metrics"}, {"metrics", "", "metrics"}, {"metrics", "WEB_COMMAND=drain", "metrics"},
	} {
		command, ok := types[tt.name]
		if !ok {
			t.Fatalf("the Procfile has no %s", tt.name)
		}
		// As Heroku starts it: by a shell, with the slug's bin on the PATH.
		dyno := exec.Command("sh", "-c", command+" --help")
		dyno.Env = []string{"PATH=" + slug.bin, tt.setting}
		out, err := dyno.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "Usage: "+tt.starts+" ") {
			t.Errorf("%s with %q: %v, %.100q, want %s", tt.name, tt.setting, err, out, tt.starts)
		}
	}
	if len(types) != 2 {
		t.Errorf("there are more types than are tried: %v", types)
	}
	commands, err := os.ReadDir(filepath.Join(slug.root, "cmd"))
	must(t, err)
	for _, c := range commands {
		helpOf(t, c.Name())
	}
	// These lead the buildpack on other ways.
	for _, name := range []string{"vendor", "bin", "Gopkg.lock", "glide.yaml", "Godeps"} {
		if _, err := os.Stat(filepath.Join(slug.root, name)); err == nil {
			t.Errorf("the repository has a %s", name)
		}
	}
}

func TestBuildpackDirectives(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(slug.root, "go.mod"))
	must(t, err)
	gomod := string(text)
	// A version of two numbers is the newest release of it; go.mod's own 1.26.0 would be that one for ever.
	version := directive(gomod, "goVersion")
	if !strings.Contains(gomod, "\ngo "+strings.TrimPrefix(version, "go")+".") || strings.Count(version, ".") != 1 {
		t.Errorf("go.mod wants %q of the buildpack", version)
	}
	for text, want := range map[string]string{
		"// +heroku install ./a ./b\n// +heroku install ./c": "./a ./b", "//+heroku install ./a": "", "// +heroku  install   ./a": "./a", "// +heroku goVersion go1": "",
	} {
		if got := directive(text, "install"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestDynoWithoutKafka(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  []string
		says string
	}{
		{[]string{"DRAIN_SECRETS=" + buttonSecret}, "drain: KAFKA_URL: not set: attach Kafka to the app (heroku addons:create heroku-kafka); a dyno has no disk for the embedded broker\n"},
		{[]string{"KAFKA_URL=h:1"}, "drain: DRAIN_SECRETS: not set, while LISTEN (:1) can be reached from outside: set a secret, or ALLOW_ANONYMOUS=true\n"},
		{[]string{"KAFKA_ADDON=HEROKU_KAFKA_COPPER", "DRAIN_SECRETS=" + buttonSecret}, "drain: HEROKU_KAFKA_COPPER_URL: not set, while KAFKA_ADDON is HEROKU_KAFKA_COPPER: look with `heroku addons` under which name Kafka is attached, and correct KAFKA_ADDON\n"},
	} {
		d := start(t, "drain", "1", tt.env...)
		<-d.ended
		if status := d.ProcessState.ExitCode(); status != 2 || d.String() != tt.says {
			t.Errorf("%q: exit status %d: %s", tt.env, status, d)
		}
	}
}

// herokuKafka is a Kafka as the add-on brings it: TLS, a certificate that does not carry
// the broker's name, and one that is wanted of clients.
func herokuKafka(t *testing.T, topic string) (settings []string, reader kgo.Opt) {
	t.Helper()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	issue := func(name string, isCA bool) (cert, key []byte) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		if isCA {
			template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign, nil
			ca, caKey = template, private
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, caKey)
		must(t, err)
		if isCA {
			ca, err = x509.ParseCertificate(der)
			must(t, err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		must(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	}
	trusted, _ := issue("heroku kafka", true)
	serverCert, serverKey := issue("strange.name.example", false)
	clientCert, clientKey := issue("u0123", false)
	server, err := tls.X509KeyPair(serverCert, serverKey)
	must(t, err)
	pair, err := tls.X509KeyPair(clientCert, clientKey)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, topic),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}))
	must(t, err)
	t.Cleanup(c.Close)
	return []string{"KAFKA_URL=kafka+ssl://" + c.ListenAddrs()[0], "KAFKA_TRUSTED_CERT=" + string(trusted),
			"KAFKA_CLIENT_CERT=" + string(clientCert), "KAFKA_CLIENT_CERT_KEY=" + string(clientKey), "KAFKA_PREFIX=wabash-12345."},
		kgo.DialTLSConfig(&tls.Config{RootCAs: pool, ServerName: "strange.name.example", Certificates: []tls.Certificate{pair}})
}

// holdsNoFile fails if a dyno has a file open: what it writes to are sockets and the pipes of its log.
func holdsNoFile(t *testing.T, d *dyno) {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Process.Pid))
	must(t, err)
	for _, f := range files {
		at, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", d.Process.Pid, f.Name()))
		if strings.HasPrefix(at, "/") && at != "/dev/null" && !strings.HasPrefix(at, "/sys/fs/cgroup/") && !strings.HasPrefix(at, "/proc/") {
			t.Errorf("holds %s open", at)
		}
	}
}

// As a dyno it takes what Heroku gives it, keeps nothing on the disk, and stops when it is told.
func TestDyno(t *testing.T) {
	t.Parallel()
	const topic = "wabash-12345.router"
	kafka, reader := herokuKafka(t, topic)
	_, m := readManifest(t)
	settings := append(kafka, "DRAIN_SECRETS="+buttonSecret, "METRICS_TOKEN="+buttonSecret, "HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent", "TMPDIR=/nonexistent",
		"KAFKA_COMPRESSION="+m.Env["KAFKA_COMPRESSION"].Value, "BATCH_BYTES="+m.Env["BATCH_BYTES"].Value, "KAFKA_TOPIC="+m.Env["KAFKA_TOPIC"].Value)
	d := start(t, "drain", freePort(t), settings...)
	began := time.Now()
	eventually(t, "drain is ready", func() bool { status, _ := d.get("/readyz"); return status == 200 })
	if took := time.Since(began); took > 10*time.Second { // of the 60 s that Heroku gives
		t.Errorf("listens after %v", took)
	}
	for i := range 50 {
		line := fmt.Sprintf("<158>1 2026-01-01T12:00:00.%06d+00:00 host heroku router - at=info method=GET path=\"/%d\" host=h status=200\n", i, i)
		status, text := send("POST", "http://drain:"+buttonSecret+"@127.0.0.1:"+d.port+"/logs", fmt.Sprintf("%d %s", len(line), line), fmt.Sprintf("Logplex-Frame-Id: %032x", i))
		if status != 200 {
			t.Fatalf("answers %d %s", status, text)
		}
	}
	holdsNoFile(t, d)
	for token, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer " + buttonSecret: 200} {
		status, text := d.get("/metrics", "Authorization: "+token)
		if status != want || want == 200 && !strings.Contains(text, `drain_records_total{result="committed",topic="`+topic+`"} 50`) {
			t.Errorf("/metrics with %q: %d", token, status)
		}
	}
	stopped := time.Now()
	if status := d.stop(); status != 0 || time.Since(stopped) > 5*time.Second {
		t.Errorf("told twice to stop, it ends with %d after %v", status, time.Since(stopped))
	}
	says(t, d.String(), `msg="stopped; every record that was taken is committed"`)
	address := strings.TrimPrefix(kafka[0], "KAFKA_URL=kafka+ssl://")
	if values := stored(t, address, topic, reader); len(values) != 50 {
		t.Errorf("%d records are stored, want 50", len(values))
	}
}

// metrics as an app of its own: what it lacks it says, and with what Heroku sets it counts, keeps
// nothing on the disk, shows its page to those with the password, and stops when it is told.
func TestMetricsDyno(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  []string
		says string
	}{
		{[]string{"REDIS_URL=redis://h:1", "DASH_PASSWORD=x"}, "metrics: KAFKA_URL: not set: attach Kafka to the app (heroku addons:attach)\n"},
		{[]string{"KAFKA_URL=h:1", "DASH_PASSWORD=x"}, "metrics: REDIS_URL: not set: attach a Redis to the app (heroku addons:create heroku-redis); the embedded one forgets all with each restart of the dyno\n"},
		{[]string{"KAFKA_URL=h:1", "REDIS_URL=redis://h:1"}, "metrics: DASH_PASSWORD: not set, while LISTEN (:1) can be reached from outside: set a password, or ALLOW_ANONYMOUS=true\n"},
	} {
		d := start(t, "metrics", "1", tt.env...)
		<-d.ended
		if status := d.ProcessState.ExitCode(); status != 2 || d.String() != tt.says {
			t.Errorf("%q: exit status %d: %s", tt.env, status, d)
		}
	}

	const topic, password = "wabash-12345.router", "the-page's \"password\\"
	kafka, writer := herokuKafka(t, topic)
	c, err := kgo.NewClient(writer, kgo.SeedBrokers(strings.TrimPrefix(kafka[0], "KAFKA_URL=kafka+ssl://")), kgo.DefaultProduceTopic(topic))
	must(t, err)
	defer c.Close()
	for i := range 50 {
		must(t, c.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprintf(`{"id":"%d-0","time":"%s","method":"GET","path":"/","status":200}`, i, time.Now().UTC().Format(time.RFC3339)))).FirstErr())
	}
	d := start(t, "metrics", freePort(t), append(kafka, "REDIS_URL="+herokuRedis(t), "DASH_PASSWORD="+password, "HOME=/nonexistent", "TMPDIR=/nonexistent")...)
	began := time.Now()
	eventually(t, "the page", func() bool { status, _ := d.get("/healthz"); return status == 200 })
	if took := time.Since(began); took > 10*time.Second { // of the 60 s that Heroku gives
		t.Errorf("listens after %v", took)
	}
	args := newArguments(t)
	url := "http://127.0.0.1:" + d.port
	var out string
	eventually(t, "all is counted", func() bool {
		_, out = args.script(t, "check", []string{"DASH_PASSWORD=" + password}, "--metrics", url)
		return strings.Contains(out, "50 records are counted, 0 are not yet")
	})
	says(t, out, "ok alive: 200 in ", "ok counts: 200 in ", "ok refuses strangers: 401 in ", "ok shows: 200 in ")
	says(t, d.String(), "group=wabash-12345.metrics", `level=WARN msg="the certificate of Redis is not verified: set REDIS_TRUSTED_CERT, or REDIS_TLS_VERIFY=true"`)
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		status int
		says   []string
	}{
		{"wrong password", []string{"DASH_PASSWORD=another"}, []string{"--metrics", url}, 1, []string{"ok counts", "FAILED shows: 401 in ", "the password is not the page's."}},
		{"none", nil, []string{"--metrics", url}, 2, []string{"DASH_PASSWORD is not set"}},
		{"no URL", nil, []string{"--metrics"}, 2, []string{"which URL?"}},
		{"a password in it", nil, []string{"--metrics", "https://x:y@h"}, 2, []string{"set DASH_PASSWORD"}},
		{"too much", nil, []string{"--metrics", url, "my-shop"}, 2, []string{"one URL"}},
	} {
		if status, out := args.script(t, "check", tt.env, tt.args...); status != tt.status {
			t.Errorf("%s: exit status %d: %s", tt.name, status, out)
		} else {
			says(t, out, tt.says...)
		}
	}
	if noted := args.String(); strings.Contains(noted, "password") || !strings.Contains(noted, "curl -q ") {
		t.Errorf("a password was the argument of a program: %s", noted)
	}
	holdsNoFile(t, d)
	stopped := time.Now()
	if status := d.stop(); status != 0 || time.Since(stopped) > 5*time.Second {
		t.Errorf("told twice to stop, it ends with %d after %v", status, time.Since(stopped))
	}
	if strings.Contains(d.String(), password) {
		t.Error("its log shows its password")
	}
	// Without Kafka, and open to all, check says so.
	open := start(t, "metrics", freePort(t), "KAFKA_URL=127.0.0.1:1", "REDIS_URL=redis://127.0.0.1:1", "ALLOW_ANONYMOUS=true")
	eventually(t, "the page", func() bool { status, _ := open.get("/healthz"); return status == 200 })
	status, out := args.script(t, "check", []string{"DASH_PASSWORD=" + password}, "--metrics", "http://127.0.0.1:"+open.port)
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	says(t, out, "ok alive: 200", "FAILED counts: 503", "FAILED refuses strangers: 503", "FAILED shows: 503")
}

// herokuRedis is a Redis as the add-on brings it: TLS only, a certificate that nobody signed, and a
// password.
func herokuRedis(t *testing.T) (url string) {
	t.Helper()
	a, dir := authority.New(t, "heroku redis"), t.TempDir()
	cert, key := a.Issue("strange.name.example", time.Now().Add(time.Hour))
	for name, text := range map[string]string{"cert": cert, "key": key} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	port := freePort(t)
	s := redisserver.Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert"), "--tls-auth-clients", "no")
	must(t, s.Client(t).ConfigSet(t.Context(), "requirepass", "swordfish").Err())
	return "rediss://:swordfish@127.0.0.1:" + port
}

// Neither Heroku's router (90 s) nor the sender of logs (144 s, and up to 15 s more) may
// find a connection closed that it was about to use.
func TestIdleConnectionsOutliveHerokus(t *testing.T) {
	if idle := httpapi.NewHTTPServer(nil, 1, time.Second, nil).IdleTimeout; idle <= 180*time.Second {
		t.Errorf("closes idle connections after %v", idle)
	}
}
