package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// minSecret is the fewest characters a secret may have.
const minSecret = 16

// credential is one accepted secret, and the app it stands for, if it names one.
type credential struct {
	hash [sha256.Size]byte
	app  string
	used prometheus.Counter // by app
	// awkward says that it cannot stand in a drain's URL as it is: Logplex crashes over
	// a `:` in a password, and the others end it or have to be encoded.
	awkward bool
}

// parseSecrets reads a list of secrets, each `secret` or `app=secret`, separated
// by commas or white space. Its errors do not hold what they speak of.
func parseSecrets(list string) ([]credential, error) {
	var found []credential
	for i, entry := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		app, secret, named := strings.Cut(entry, "=")
		if !named || strings.Trim(secret, "=") == "" { // base64 ends with `=`
			if named && isAppName(app) {
				return nil, fmt.Errorf("entry %d names an app without a secret: use app=secret", i+1)
			}
			app, secret = "", entry
		}
		if len(secret) < minSecret {
			return nil, fmt.Errorf("entry %d has a secret of %d characters: use at least %d", i+1, len(secret), minSecret)
		}
		found = append(found, credential{hash: sha256.Sum256([]byte(secret)), app: app, awkward: strings.ContainsAny(secret, ":@/%")})
	}
	return found, nil
}

// isAppName tells whether s is nothing but lower case letters, digits and dashes,
// as Heroku's app names are; base64 of any length has other letters too.
func isAppName(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Credentials are the secrets that senders may show. They can change while the
// service runs; all of them are live at once, so that they can be rotated. It is
// safe for concurrent use.
type Credentials struct {
	fixed  []credential
	file   string
	last   []byte // the file's bytes when it was last looked at
	log    *slog.Logger
	broken prometheus.Gauge
	used   *prometheus.CounterVec
	live   atomic.Pointer[[]credential]
}

// NewCredentials makes the list of what secrets (DRAIN_SECRETS) and file
// (DRAIN_SECRETS_FILE) hold, either of which may be empty. The errors name the
// setting.
func NewCredentials(secrets, file string, log *slog.Logger, reg prometheus.Registerer) (*Credentials, error) {
	fixed, err := parseSecrets(secrets)
	if err == nil && len(fixed) == 0 && secrets != "" {
		err = errEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("DRAIN_SECRETS: %w", err)
	}
	c := &Credentials{fixed: fixed, file: file, log: log,
		broken: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "drain_secrets_file_broken",
			Help: "1 while DRAIN_SECRETS_FILE cannot be used and the last good list is kept.",
		}),
		used: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "drain_authorized_total", Help: "Requests with a secret that is accepted, by the app that its entry names.",
		}, []string{"app"})}
	c.accept(fixed)
	if file != "" {
		if _, err := c.read(); err != nil {
			return nil, fmt.Errorf("DRAIN_SECRETS_FILE: %w", err)
		}
	}
	return c, nil
}

// Any tells whether a secret is asked for at all.
func (c *Credentials) Any() bool { return len(*c.live.Load()) > 0 || c.file != "" }

// Check looks at the credentials of a request: Basic, the secret as user name or
// as password, or Bearer. app is what the secret's entry names. The time it takes
// tells nothing about the secrets.
func (c *Credentials) Check(r *http.Request) (app string, ok bool) {
	live := *c.live.Load()
	if len(live) == 0 && c.file == "" {
		return "", true
	}
	var buf [1024]byte // on the stack, for credentials of any usual length
	shown := showing(buf[:], header(r, "Authorization"))
	found := -1
	for _, secret := range shown {
		hash := sha256.Sum256(secret)
		for i := range live {
			if subtle.ConstantTimeCompare(hash[:], live[i].hash[:]) == 1 {
				found = i
			}
		}
	}
	if found < 0 {
		return "", false
	}
	live[found].used.Inc()
	return live[found].app, true
}

// showing reads the secrets that an Authorization header shows: of Basic the user
// name and the password, of Bearer the token. It works in buf where that is large
// enough, because net/http's own reading allocates.
func showing(buf []byte, authorization string) (shown [2][]byte) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		shown[0] = append(buf[:0], strings.TrimSpace(rest)...)
	case strings.EqualFold(scheme, "Basic"):
		coded := append(buf[:0], rest...)
		plain, err := base64.StdEncoding.AppendDecode(buf[min(len(coded), len(buf)):][:0], coded)
		if user, password, found := bytes.Cut(plain, []byte(":")); err == nil && found {
			shown[0], shown[1] = user, password
		}
	}
	return shown
}

// sameSecret compares in a time that tells nothing.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Reload reads the file again, if there is one. An empty or broken file keeps the
// last good list, raises drain_secrets_file_broken and is logged.
func (c *Credentials) Reload() {
	if c.file == "" {
		return
	}
	changed, err := c.read()
	switch {
	case err != nil:
		if changed {
			c.log.Error("the file of secrets cannot be used; the last good list is kept", "error", err,
				"do", "mend DRAIN_SECRETS_FILE")
		}
		c.broken.Set(1)
	case changed:
		c.broken.Set(0)
		c.log.Info("secrets read again", "secrets", len(*c.live.Load()))
	}
}

// errEmpty keeps an emptied list from opening the door, or shutting it.
var errEmpty = errors.New("there is no secret in it: use secret or app=secret")

func (c *Credentials) read() (changed bool, err error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		changed = c.last != nil
		c.last = nil
		return changed, err
	}
	if c.last != nil && bytes.Equal(text, c.last) {
		if len(bytes.TrimSpace(text)) == 0 {
			return false, errEmpty
		}
		_, err := parseSecrets(string(text))
		return false, err
	}
	c.last = text
	list, err := parseSecrets(string(text))
	if err == nil && len(list) == 0 {
		err = errEmpty
	}
	if err != nil {
		return true, fmt.Errorf("%s: %w", c.file, err)
	}
	c.accept(append(list[:len(list):len(list)], c.fixed...))
	return true, nil
}

// accept makes list the live one. Its apps are the administrator's words, so that
// they may be labels.
func (c *Credentials) accept(list []credential) {
	awkward := false
	for i := range list {
		list[i].used = c.used.WithLabelValues(strings.ToValidUTF8(list[i].app, "\uFFFD"))
		awkward = awkward || list[i].awkward
	}
	if awkward {
		c.log.Warn("a secret has one of : @ / % in it, with which it cannot stand in a drain's URL: make it of letters and digits (openssl rand -hex 24)")
	}
	c.live.Store(&list)
}

// reloadEvery is how soon a changed file is seen without a SIGHUP.
const reloadEvery = 2 * time.Second

// Run reads the file again when it changes and when hup receives, until ctx ends.
func (c *Credentials) Run(ctx context.Context, hup <-chan os.Signal) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		case <-tick.C:
		}
		c.Reload()
	}
}
