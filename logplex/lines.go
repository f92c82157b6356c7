package logplex

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// lines makes the lines of one drain. Line n is the same for a seed whenever it is
// made, but for its time.
type lines struct {
	texts []text
	mixed uint64 // seed and drain, from which follows which text line n has
	id    string // seed and drain, as the request ids begin
}

// text is a message without its time and number: what stands before, between and
// behind them. Those that were given have no number.
type text struct {
	head, tail string // around the time; tail begins with the header's rest
	number     int    // where the request id stands in tail, -1 for nowhere
}

// idDigits is the length of a line's number in its request id.
const idDigits = 12

// RequestID is the request id that line n of a drain carries: seed, drain and n in
// the form of a UUID, so that what is stored can be compared with what was sent.
func RequestID(seed uint32, drain uint16, n int64) string {
	return idPrefix(seed, drain) + fmt.Sprintf("%0*x", idDigits, n)
}

func idPrefix(seed uint32, drain uint16) string {
	return fmt.Sprintf("%08x-%04x-4000-8000-", seed, drain)
}

// ParseRequestID reads what RequestID made.
func ParseRequestID(id string) (seed uint32, drain uint16, n int64, ok bool) {
	const middle = "-4000-8000-"
	if len(id) != 36 || id[8] != '-' || id[13:24] != middle {
		return 0, 0, 0, false
	}
	s, err := strconv.ParseUint(id[:8], 16, 32)
	if err != nil {
		return 0, 0, 0, false
	}
	d, err := strconv.ParseUint(id[9:13], 16, 16)
	if err != nil {
		return 0, 0, 0, false
	}
	n, err = strconv.ParseInt(id[24:], 16, 64)
	return uint32(s), uint16(d), n, err == nil
}

// timeLayout is a message's time as Logplex writes it.
const timeLayout = "2006-01-02T15:04:05.000000+00:00"

// append appends line n, due at t, to dst as Logplex frames it: octet count,
// message, newline.
func (l *lines) append(dst []byte, n int64, t time.Time) []byte {
	x := &l.texts[mix(l.mixed+uint64(n))%uint64(len(l.texts))]
	if x.number < 0 {
		x = &l.texts[n%int64(len(l.texts))] // given: one after the other
	}
	dst = strconv.AppendInt(dst, int64(len(x.head)+len(timeLayout)+len(x.tail)), 10)
	dst = append(dst, ' ')
	dst = append(dst, x.head...)
	dst = t.UTC().AppendFormat(dst, timeLayout)
	at := len(dst) + x.number
	dst = append(dst, x.tail...)
	if x.number >= 0 {
		copy(dst[at:], l.id)
		var digits [8]byte
		for i := range digits {
			digits[i] = byte(n >> (56 - 8*i))
		}
		hex.Encode(dst[at+len(l.id):], digits[8-idDigits/2:])
	}
	return dst
}

// mix spreads the bits of n (SplitMix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

const (
	routerTail = " host heroku router - "
	variety    = 512 // made-up texts a drain has
)

var (
	paths    = []string{"/", "/favicon.ico", "/api/v1/users/%d", "/users/%d/orders?page=2&sort=asc", "/search?q=shoes&token=%d", "/assets/application-%d.css", "/products/%d", "/caf%%C3%%A9/%d"}
	statuses = []int{200, 200, 200, 200, 200, 201, 204, 301, 304, 304, 404, 422, 500}
	methods  = []string{"GET", "GET", "GET", "GET", "POST", "PUT", "DELETE"}
)

// madeUp are the lines of a drain as Router 2.0 writes them.
func madeUp(seed uint32, drain uint16) *lines {
	l := &lines{mixed: mix(uint64(seed)<<16 | uint64(drain)), id: idPrefix(seed, drain)}
	r := rand.New(rand.NewPCG(uint64(seed), uint64(drain)))
	id := strings.Repeat("0", 36)
	for range variety {
		path := paths[r.IntN(len(paths))]
		if strings.Contains(path, "%") {
			path = fmt.Sprintf(path, r.IntN(100_000))
		}
		begin, service, status, bytes := "at=info", r.IntN(900), statuses[r.IntN(len(statuses))], r.IntN(90_000)
		if r.IntN(50) == 0 {
			begin, service, status, bytes = `at=error code=H12 desc="Request timeout"`, 30_000, 503, 0
		}
		line := fmt.Sprintf(`%s%s method=%s path="%s" host=app-%d.example.com request_id=%s fwd="203.0.113.%d" dyno=web.%d connect=%dms service=%dms status=%d bytes=%d protocol=http1.1 tls=true tls_version=tls1.3`+"\n",
			routerTail, begin, methods[r.IntN(len(methods))], path, drain, id, r.IntN(256), 1+r.IntN(8), r.IntN(3), service, status, bytes)
		l.texts = append(l.texts, text{"<158>1 ", line, strings.Index(line, id)})
	}
	return l
}

// given are lines that a person gives: as `heroku logs` prints them, as the syslog
// of a drain, or texts alone, the router's where they begin as those do. Each is
// sent with the time at which it is sent.
func given(file []byte) (*lines, error) {
	l := &lines{}
	for line := range bytes.Lines(file) {
		s := strings.TrimRight(string(line), "\r\n")
		if strings.TrimSpace(s) == "" {
			continue
		}
		head, tail := "<190>1 ", " host app web.1 - "+s
		if first, rest, ok := strings.Cut(s, "1 "); ok && strings.HasPrefix(first, "<") && strings.HasSuffix(first, ">") {
			if _, behind, ok := strings.Cut(rest, " "); ok {
				head, tail = first+"1 ", " "+behind
			}
		} else if stamp, rest, ok := strings.Cut(s, " "); ok && isTime(stamp) {
			if name, message, ok := strings.Cut(rest, "]: "); ok {
				source, process, _ := strings.Cut(name, "[")
				tail = " host " + source + " " + process + " - " + message
				if source == "heroku" && process == "router" {
					head = "<158>1 "
				}
			}
		} else if strings.HasPrefix(s, "at=") || strings.HasPrefix(s, "sock=") {
			head, tail = "<158>1 ", routerTail+s
		}
		l.texts = append(l.texts, text{head, tail + "\n", -1})
	}
	if len(l.texts) == 0 {
		return nil, fmt.Errorf("there is no line in it")
	}
	return l, nil
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}
