package dash

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// login knows who may see what. A session is a cookie that says until when it lasts, signed
// with a key made of the password: every process knows it, and a new password ends it.
type login struct {
	password string
	key      []byte
	proxied  bool

	mu sync.Mutex // guards the following
	// wrong is how many that guessed wrong wait, by address
	wrong map[string]int
}

const (
	sessionFor  = 30 * 24 * time.Hour
	cookieName  = "drain_session"
	punishment  = time.Second
	guessers    = 5 // that wait at a time for one address; more are not looked at
	maxFormSize = 4 << 10
)

func newLogin(password string, proxied bool) *login {
	key := hmac.New(sha256.New, []byte(password))
	key.Write([]byte("drain metrics session"))
	return &login{password: password, key: key.Sum(nil), proxied: proxied, wrong: make(map[string]int)}
}

// who is the address that a request comes from.
func (l *login) who(r *http.Request) string {
	if l.proxied {
		all := r.Header.Values("X-Forwarded-For")
		if len(all) > 0 {
			last := all[len(all)-1]
			return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
		}
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// try compares a password. Who was wrong waits; who comes from where too many wait for that is not
// looked at, and is told so.
func (l *login) try(w http.ResponseWriter, r *http.Request, password string) (right, answered bool) {
	from := l.who(r)
	l.mu.Lock()
	busy := l.wrong[from] >= guessers
	if !busy {
		if right = l.is(password); !right {
			l.wrong[from]++
		}
	}
	l.mu.Unlock()
	switch {
	case busy:
		w.Header().Set("Retry-After", "2")
		plain(w, http.StatusTooManyRequests, "too many wrong passwords from your address: wait a moment")
		return false, true
	case right:
		return true, false
	}
	select {
	case <-time.After(punishment):
	case <-r.Context().Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong[from]--; l.wrong[from] == 0 {
		delete(l.wrong, from)
	}
	return false, false
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
			switch right, answered := l.try(w, r, given); {
			case right:
				next.ServeHTTP(w, r)
				return
			case answered:
				return
			}
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

// enter is the login's form.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormSize)
	if s.cfg.Password == "" {
		http.Redirect(w, r, "./", http.StatusSeeOther)
		return
	}
	if right, answered := s.login.try(w, r, r.PostFormValue("password")); !right {
		if !answered {
			s.failed.ServeHTTP(w, r)
		}
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
