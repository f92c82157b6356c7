package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/authority"
)

// secureKafka is a real Kafka as Heroku's and others are: with TLS and client
// certificates on one port, with SASL on another, and with ACLs.
type secureKafka struct {
	tls, sasl string // ports
	admin     *kadm.Client
	ours      *authority.Authority
	password  string
}

const (
	prefix = "wabash-12345."
	// The certificate's subject, as Kafka names its user.
	certified = "User:CN=wabash"
)

// startSecureKafka starts one whose user may do what is needed with what begins with
// prefix, and nothing else. Who comes without TLS is the administrator.
func startSecureKafka(t *testing.T) *secureKafka {
	t.Helper()
	dir := t.TempDir()
	k := &secureKafka{tls: freePort(t), sasl: freePort(t), ours: authority.New(t, "kafka's"), password: "swordfish-of-sixteen"}
	var plain string
	for plain == "" { // with a free one a hundred above it for the controller
		p := freePort(t)
		if l, err := net.Listen("tcp", "127.0.0.1:"+above(p)); err == nil {
			l.Close()
			plain = p
		}
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hour := time.Now().Add(time.Hour)
	strange, strangeKey := k.ours.Issue("ip-10-1-2-3.ec2.internal", hour) // as Heroku's are
	named, namedKey := k.ours.Issue("localhost", hour)
	t.Setenv("KAFKA_PROPERTIES", strings.Join([]string{
		"listeners=PLAINTEXT://127.0.0.1:" + plain + ",CONTROLLER://127.0.0.1:" + above(plain) + ",SSL://127.0.0.1:" + k.tls + ",SASL_SSL://127.0.0.1:" + k.sasl,
		"advertised.listeners=PLAINTEXT://127.0.0.1:" + plain + ",SSL://127.0.0.1:" + k.tls + ",SASL_SSL://localhost:" + k.sasl,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
		"listener.name.ssl.ssl.keystore.type=PEM", "listener.name.ssl.ssl.keystore.location=" + file("strange.pem", strangeKey+strange),
		"listener.name.ssl.ssl.truststore.type=PEM", "listener.name.ssl.ssl.truststore.location=" + file("trusted.pem", k.ours.PEM),
		"listener.name.ssl.ssl.client.auth=required",
		"listener.name.sasl_ssl.ssl.keystore.type=PEM", "listener.name.sasl_ssl.ssl.keystore.location=" + file("named.pem", namedKey+named),
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		`listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="` + k.password + `";`,
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
	}, "\n"))
	url, err := startKafka(dir, "--port", plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = script("stop", "--dir", dir) }) // its folder goes with the test's
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimPrefix(url, "kafka://")))
	if err != nil {
		t.Fatal(err)
	}
	k.admin = kadm.NewClient(client)
	t.Cleanup(client.Close)
	k.allow(t)
	return k
}

func above(port string) string {
	var n int
	fmt.Sscan(port, &n) // a port
	return fmt.Sprint(n + 100)
}

func (k *secureKafka) allow(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	scram := kadm.UpsertSCRAM{User: "scram-256", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: k.password}
	other := kadm.UpsertSCRAM{User: "scram-512", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: k.password}
	altered, err := k.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{scram, other})
	must(err)
	must(altered.Error())
	users := kadm.NewACLs().Topics(prefix).ResourcePatternType(kadm.ACLPatternPrefixed).
		Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe).
		Allow(certified, "User:plain", "User:scram-256", "User:scram-512").AllowHosts("*")
	made, err := k.admin.CreateACLs(ctx, users)
	must(err)
	for _, r := range made {
		must(r.Err)
	}
}

// topic makes a topic and returns a function that tells how many records it holds.
func (k *secureKafka) topic(t *testing.T, name string) (records func() int64) {
	t.Helper()
	if _, err := k.admin.CreateTopic(t.Context(), 4, 1, nil, name); err != nil {
		t.Fatal(err)
	}
	return func() (n int64) {
		ends, err := k.admin.ListEndOffsets(context.Background(), name)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		return n
	}
}

// heroku is the environment that Heroku gives to an app with a cluster attached.
func (k *secureKafka) heroku(t *testing.T, attachment string) []string {
	cert, key := k.ours.Issue("wabash", time.Now().Add(time.Hour))
	bundle := authority.New(t, "the one before").PEM + k.ours.PEM + authority.New(t, "the one to come").PEM
	return []string{
		attachment + "_URL=kafka+ssl://127.0.0.1:" + k.tls + ",kafka+ssl://127.0.0.1:" + k.tls,
		attachment + "_TRUSTED_CERT=" + bundle, attachment + "_CLIENT_CERT=" + cert, attachment + "_CLIENT_CERT_KEY=" + key,
		attachment + "_PREFIX=" + prefix, "DYNO=web.1", "DRAIN_SECRETS=a-secret-of-sixteen",
	}
}

// goRun starts drain as README does. The go command passes no signal on, so it and
// drain are a group.
func goRun(t *testing.T, settings ...string) *service {
	cmd := exec.Command("go", "run", "drain/cmd/drain")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		}
	})
	settings = append(settings, "PATH="+os.Getenv("PATH"))
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOPROXY"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		settings = append(settings, name+"="+strings.TrimSpace(string(out)))
	}
	return startDrainBy(t, cmd, settings...)
}

// stopGroup ends a drain that goRun started as Heroku does, and sees that it ends well.
func (s *service) stopGroup() {
	s.t.Helper()
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		s.t.Error("drain did not stop")
	}
	if !strings.Contains(s.String(), "stopped; every record that was taken is committed") {
		s.t.Error("drain did not stop well")
	}
}

func TestSecureKafka(t *testing.T) {
	k := startSecureKafka(t)
	want := golden(t)
	const credentials = "drain:a-secret-of-sixteen"

	t.Run("as Heroku sets the environment", func(t *testing.T) {
		k.topic(t, prefix+"router")
		s := goRun(t, append(k.heroku(t, "HEROKU_KAFKA_COPPER"), "KAFKA_ADDON=HEROKU_KAFKA_COPPER", "KAFKA_COMPRESSION=zstd",
			"KAFKA_URL=kafka+ssl://127.0.0.1:1", "KAFKA_PREFIX=another-1.")...)
		s.awaitReady()
		postFrame(t, s, "-u", credentials)
		if got := values(k.read(t, prefix+"router", len(want))); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		s.stopGroup()
	})

	t.Run("SASL, and a name that the system's roots vouch for", func(t *testing.T) {
		roots := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(roots, []byte(k.ours.PEM), 0o600); err != nil {
			t.Fatal(err)
		}
		for user, mechanism := range map[string]string{"plain": "PLAIN", "scram-256": "SCRAM-SHA-256", "scram-512": "SCRAM-SHA-512"} {
			k.topic(t, prefix+user)
			s := goRun(t, "KAFKA_URL=kafka+ssl://localhost:"+k.sasl, "SSL_CERT_FILE="+roots, "KAFKA_PREFIX="+prefix, "KAFKA_TOPIC="+user,
				"KAFKA_SASL_MECHANISM="+mechanism, "KAFKA_SASL_USERNAME="+user, "KAFKA_SASL_PASSWORD="+k.password)
			s.awaitReady()
			postFrame(t, s)
			if got := values(k.read(t, prefix+user, len(want))); !slices.Equal(got, want) {
				t.Errorf("%s: got\n%s\nwant\n%s", mechanism, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			s.stopGroup()
		}
	})

	t.Run("refused", func(t *testing.T) {
		records := k.topic(t, prefix+"refused")
		k.topic(t, "refused") // without the prefix it may not be written to
		roots := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(roots, []byte(k.ours.PEM), 0o600); err != nil {
			t.Fatal(err)
		}
		unknown := filepath.Join(t.TempDir(), "unknown.pem")
		if err := os.WriteFile(unknown, []byte(authority.New(t, "unknown").PEM), 0o600); err != nil {
			t.Fatal(err)
		}
		replace := func(name, value string) []string {
			env := k.heroku(t, "KAFKA")
			return append(slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") }), name+"="+value)
		}
		other := authority.New(t, "other")
		hour := time.Now().Add(time.Hour)
		client := func(a *authority.Authority, until time.Time) []string {
			cert, key := a.Issue("wabash", until)
			env := slices.DeleteFunc(k.heroku(t, "KAFKA"), func(s string) bool { return strings.HasPrefix(s, "KAFKA_CLIENT_") })
			return append(env, "KAFKA_CLIENT_CERT="+cert, "KAFKA_CLIENT_CERT_KEY="+key)
		}
		sasl := func(url, user, password string) []string {
			return []string{"KAFKA_URL=" + url, "SSL_CERT_FILE=" + roots, "KAFKA_PREFIX=" + prefix,
				"KAFKA_SASL_MECHANISM=SCRAM-SHA-256", "KAFKA_SASL_USERNAME=" + user, "KAFKA_SASL_PASSWORD=" + password}
		}
		for _, test := range []struct {
			name string
			env  []string
			says []string
		}{
			{"a wrong authority", replace("KAFKA_TRUSTED_CERT", other.PEM), []string{"TLS with the broker 127.0.0.1:" + k.tls, "not trusted by KAFKA_TRUSTED_CERT", "KAFKA_ADDON"}},
			{"an expired client certificate", client(k.ours, time.Now().Add(-time.Minute)), []string{"KAFKA_CLIENT_CERT expired on 20", "heroku kafka:credentials --reset"}},
			{"another's client certificate", client(other, hour), []string{"refuses the client's certificate", "KAFKA_CLIENT_CERT may be another cluster's"}},
			{"no client certificate", slices.DeleteFunc(k.heroku(t, "KAFKA"), func(s string) bool { return strings.HasPrefix(s, "KAFKA_CLIENT_") }), []string{"set KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY"}},
			{"no TLS", []string{"KAFKA_URL=kafka://127.0.0.1:" + k.tls}, []string{"may want TLS (kafka+ssl://"}},
			{"a name that the certificate does not carry", sasl("kafka+ssl://127.0.0.1:"+k.sasl, "scram-256", k.password), []string{"TLS with the broker 127.0.0.1:" + k.sasl, "correct KAFKA_URL", "set KAFKA_TRUSTED_CERT"}},
			{"an authority that the system does not know", append(sasl("kafka+ssl://localhost:"+k.sasl, "scram-256", k.password), "SSL_CERT_FILE="+unknown), []string{"TLS with the broker localhost:", "authority of its own, set KAFKA_TRUSTED_CERT"}},
			{"a system without authorities", append(sasl("kafka+ssl://localhost:"+k.sasl, "scram-256", k.password), "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/dev/null"), []string{"TLS with the broker localhost:", "ca-certificates", "set KAFKA_TRUSTED_CERT"}},
			{"a wrong password", sasl("kafka+ssl://localhost:"+k.sasl, "scram-256", "another-of-sixteen"), []string{"log in to the broker localhost:", "KAFKA_SASL_PASSWORD"}},
			{"no login", []string{"KAFKA_URL=kafka+ssl://localhost:" + k.sasl, "SSL_CERT_FILE=" + roots}, []string{"may want SASL (KAFKA_SASL_MECHANISM)"}},
			{"no prefix", replace("KAFKA_PREFIX", ""), []string{"topic refused", "heroku kafka:topics:create refused", "KAFKA_PREFIX, which is not set"}},
			{"a wrong prefix", replace("KAFKA_PREFIX", "other-1."), []string{"topic other-1.refused", "KAFKA_PREFIX (other-1.)"}},
			{"no such topic", append(k.heroku(t, "KAFKA"), "KAFKA_TOPIC=nowhere"), []string{"topic " + prefix + "nowhere", "heroku kafka:topics:create nowhere"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel() // each waits for its HOLD
				s := goRun(t, append([]string{"KAFKA_TOPIC=refused", "HOLD=300ms"}, test.env...)...)
				if status := curl(t, s.url+"/logs", "testdata/frame.body", "-u", credentials); status != "503" {
					t.Errorf("answered %s", status)
				}
				told := func(text string) error {
					for _, want := range test.says {
						if !strings.Contains(text, want) {
							return fmt.Errorf("%q is not said in %s", want, text)
						}
					}
					return nil
				}
				eventually(t, "/readyz to say why", func() (string, error) {
					text, err := get(s.admin + "/readyz")
					if err == nil {
						t.Fatal("ready")
					}
					return text, told(err.Error())
				})
				eventually(t, "the log to say why", func() (string, error) {
					return "", told(strings.ReplaceAll(s.String(), `\"`, `"`))
				})
				for _, secret := range []string{k.password, "another-of-sixteen", "a-secret-of-sixteen", "PRIVATE KEY"} {
					if strings.Contains(s.String(), secret) {
						t.Errorf("the log shows %q", secret)
					}
				}
				if n := s.metric("drain_batch_bytes_count"); n != "0" {
					t.Errorf("%s batches were stored", n)
				}
			})
		}
		t.Cleanup(func() { // behind the parallel ones
			if n := records(); n != 0 {
				t.Errorf("%d records were stored", n)
			}
		})
	})
}

// read reads the n records of a topic as the administrator.
func (k *secureKafka) read(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	brokers, err := k.admin.ListBrokers(t.Context())
	if err != nil || len(brokers) == 0 {
		t.Fatal(brokers, err)
	}
	return consume(t, fmt.Sprintf("%s:%d", brokers[0].Host, brokers[0].Port), topic, n)
}
