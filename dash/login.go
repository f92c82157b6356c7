package dash

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"time"
)

// login knows who may see what. A session is a cookie that says until when it lasts, signed
// with a key made of the password: every process knows it, and a new password ends it.
type login struct {
	password string
	key      []byte
	failures chan struct{} // places for those that were wrong, each for punishment
}

const (
	sessionFor  = 30 * 24 * time.Hour
	cookieName  = "drain_session"
	punishment  = time.Second
	guessers    = 8
	maxFormSize = 4 << 10
)

func newLogin(password string) *login {
	key := hmac.New(sha256.New, []byte(password))
	key.Write([]byte("drain metrics session"))
	return &login{password, key.Sum(nil), make(chan struct{}, guessers)}
}

func (l *login) is(password string) bool {
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(l.password))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// session is the cookie's value for a session that lasts until.
func (l *login) session(until time.Time) string {
	value := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(value, l.sign(value)...))
}

func (l *login) sign(value []byte) []byte {
	mac := hmac.New(sha256.New, l.key)
	mac.Write(value)
	return mac.Sum(nil)
}

func (l *login) valid(session string) bool {
	value, err := base64.RawURLEncoding.DecodeString(session)
	if err != nil || len(value) != 8+sha256.Size {
		return false
	}
	return hmac.Equal(l.sign(value[:8]), value[8:]) && time.Now().Unix() < int64(binary.BigEndian.Uint64(value))
}

// required lets requests through that show the password or a session. The page's own are sent
// to the login, others are told 401.
func (l *login) required(next http.Handler) http.Handler {
	if l.password == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(cookieName); err == nil && l.valid(c.Value) {
			next.ServeHTTP(w, r)
			return
		}
		if given, ok := credential(r); ok {
			if l.is(given) {
				next.ServeHTTP(w, r)
				return
			}
			l.punish(r)
		} else if r.URL.Path == "/" {
			http.Redirect(w, r, "login", http.StatusSeeOther)
			return
		}
		plain(w, http.StatusUnauthorized, "the password is wanted: log in at /login, or send it as `Authorization: Bearer`")
	})
}

// credential is the password that a request shows, as a Bearer's or as Basic's.
func credential(r *http.Request) (string, bool) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token, true
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	return "", false
}

// punish makes who guessed wrong wait, guessers at a time: the others wait for these.
func (l *login) punish(r *http.Request) {
	select {
	case l.failures <- struct{}{}:
		defer func() { <-l.failures }()
	case <-r.Context().Done():
		return
	}
	select {
	case <-time.After(punishment):
	case <-r.Context().Done():
	}
}

// enter is the login's form.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormSize)
	password := r.PostFormValue("password")
	if s.cfg.Password == "" || !s.login.is(password) {
		s.login.punish(r)
		s.failed.ServeHTTP(w, r)
		return
	}
	until := time.Now().Add(sessionFor)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.login.session(until), Path: "/", Expires: until, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	})
	http.Redirect(w, r, "./", http.StatusSeeOther)
}

// leave ends the session of this browser.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "login", http.StatusSeeOther)
}
