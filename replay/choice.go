package replay

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"drain/router"
)

// Reason is why a record is not sent; it is Chosen if it is.
type Reason int

// The reasons, in the order in which they are looked for.
const (
	Chosen      Reason = iota
	NotJSON            // no JSON object
	OtherShape         // JSON, but no router's record
	OtherTime          // outside of From and Until
	OtherApp           // not among Apps
	OtherStatus        // not among Statuses
	OtherPath          // without a prefix of Prefixes
	OtherMethod        // not among Methods
	Incomplete         // without a path or a host, or with a path that is none, such as `*`
	Cut                // the line was cut, and so may the path be
	Redacted           // a value was taken out of the path
	Upgraded           // it became another protocol, such as a WebSocket
	Denied             // on the deny-list
	NotSampled         // not in the sample
	numReasons
)

var reasonNames = [numReasons]string{
	"chosen", "not_json", "other_shape", "other_time", "other_app", "other_status", "other_path", "other_method",
	"incomplete", "truncated", "redacted", "upgraded", "denied", "not_sampled",
}

// String is the reason's name in reports.
func (r Reason) String() string { return reasonNames[r] }

// Choice says which records are sent again. Lists that are empty ask for nothing.
type Choice struct {
	// From and Until are recorded times: Until itself is not chosen any more.
	From, Until time.Time
	Apps        []string
	Statuses    []Statuses
	Prefixes    []string
	// Methods are in capitals; GET and HEAD if none.
	Methods []string
	// RedactedValue takes the place of each value that drain redacted; without one such
	// requests are not sent.
	RedactedValue string
	// Deny are texts that no path with its query may hold, in small letters; they
	// are looked for without regard to case, also behind percent-encoding.
	Deny []string
	// Sample is the share of requests that is sent, by request_id: the same ones each time.
	// All of them if 0.
	Sample float64
	// KeepRecords has each Request keep its record.
	KeepRecords bool
	// Whole is for a recording: what cannot or must not be sent is chosen, too.
	Whole bool
}

// Safe are the methods that change nothing, if a server keeps to HTTP (RFC 9110, 9.2.1).
var Safe = []string{"GET", "HEAD"}

// DefaultDeny keeps a replay from ending sessions and confirming things.
var DefaultDeny = []string{"logout", "log_out", "log-out", "signout", "sign_out", "sign-out", "unsubscribe", "confirm", "token="}

// Statuses is one status, such as 404, or a class of them, such as 5xx.
type Statuses struct{ Low, High int64 }

func (s Statuses) has(status int64) bool { return s.Low <= status && status <= s.High }

// Reader reads records by a Choice. It is not for concurrent use.
type Reader struct {
	choice  *Choice
	from    int64 // microseconds since 1970
	until   int64
	sample  uint64 // hashes up to this are in the sample
	methods []string
	decoder router.Decoder
	record  router.Request
	path    []byte // of record, with RedactedValue
	target  []byte // of path
	lower   []byte

	requests sync.Pool
}

// NewReader makes a Reader.
func NewReader(c *Choice) *Reader {
	r := &Reader{choice: c, from: router.NoTime, until: math.MaxInt64, sample: math.MaxUint64, methods: c.Methods}
	if len(r.methods) == 0 {
		r.methods = Safe
	}
	r.requests.New = func() any { return &Request{home: &r.requests} }
	if !c.From.IsZero() {
		r.from = c.From.UnixMicro()
	}
	if !c.Until.IsZero() {
		r.until = c.Until.UnixMicro()
	}
	if c.Sample > 0 && c.Sample < 1 {
		r.sample = uint64(c.Sample * (1 << 63) * 2)
	}
	return r
}

// Seen is what Read says of a record, whether it is chosen or not.
type Seen struct {
	Reason Reason
	// Time is when it was recorded, microseconds since 1970: its own time, or arrived where it has
	// none or one from a clock that is ahead.
	Time int64
	// Host is as recorded, and ends with the next Read.
	Host []byte
	// Escaped tells that the path had bytes that no request can have.
	Escaped bool
}

// ahead is how far a router's clock may be ahead of Kafka's.
const ahead = int64(time.Minute / time.Microsecond)

// Read reads a record that came to Kafka at arrived, microseconds since 1970, or router.NoTime where that
// is not known. The request is nil unless it was chosen; it is the caller's then.
func (r *Reader) Read(record []byte, arrived int64) (*Request, Seen) {
	q := &r.record
	if err := r.decoder.Decode(record, q); err != nil {
		reason := NotJSON
		if errors.Is(err, router.ErrShape) {
			reason = OtherShape
		}
		return nil, Seen{Reason: reason, Time: arrived}
	}
	seen := Seen{Time: q.Time, Host: q.Host}
	if q.Time == router.NoTime || arrived != router.NoTime && q.Time > arrived+ahead {
		seen.Time = arrived
	}
	if seen.Reason = r.why(q, seen.Time); seen.Reason != Chosen {
		return nil, seen
	}
	id := q.RequestID
	if len(id) == 0 {
		id = q.ID
	}
	if xxhash.Sum64(id) > r.sample {
		seen.Reason = NotSampled
		return nil, seen
	}
	request := r.requests.Get().(*Request)
	r.target, seen.Escaped = AppendTarget(r.target[:0], r.path)
	size := len(q.Path) + len(r.target) + len(id) + len(q.Fwd)
	if r.choice.KeepRecords {
		size += len(record)
	}
	request.bytes = slices.Grow(request.bytes[:0], size)
	request.Path, request.Target = request.keep(q.Path), request.keep(r.target)
	request.ID, request.Fwd = request.keep(id), request.keep(q.Fwd)
	if r.choice.KeepRecords {
		request.Record = request.keep(record)
	}
	if i := slices.IndexFunc(r.methods, func(m string) bool { return m == string(q.Method) }); i >= 0 {
		request.Method = r.methods[i]
	}
	request.Time, request.Service, request.Connect, request.Status, request.Bytes = seen.Time, q.Service, q.Connect, q.Status, q.Bytes
	if client, _, _ := bytes.Cut(q.Fwd, []byte(",")); len(client) > 0 && !bytes.Contains(client, redacted) {
		request.Client = max(xxhash.Sum64(client), 1)
	}
	return request, seen
}

var redacted = []byte(router.Redacted)

// why is why a record is not sent, but for the sample. It leaves the path that would be sent
// in r.path.
func (r *Reader) why(q *router.Request, at int64) Reason {
	c := r.choice
	r.path = r.path[:0]
	named := func(of []string, b []byte) bool {
		return slices.ContainsFunc(of, func(s string) bool { return s == string(b) })
	}
	switch {
	case at < r.from || at >= r.until:
		return OtherTime
	case len(c.Apps) > 0 && !named(c.Apps, q.App):
		return OtherApp
	case len(c.Statuses) > 0 && !slices.ContainsFunc(c.Statuses, func(s Statuses) bool { return s.has(q.Status) }):
		return OtherStatus
	case len(c.Prefixes) > 0 && !slices.ContainsFunc(c.Prefixes, func(p string) bool { return bytes.HasPrefix(q.Path, []byte(p)) }):
		return OtherPath
	case c.Whole:
		return Chosen
	case !named(r.methods, q.Method):
		return OtherMethod
	case len(q.Path) == 0 || q.Path[0] != '/' || len(q.Host) == 0:
		return Incomplete
	case q.Truncated:
		return Cut
	}
	r.path = append(r.path, q.Path...)
	if bytes.Contains(q.Path, redacted) {
		if c.RedactedValue == "" {
			return Redacted
		}
		r.path = bytes.ReplaceAll(r.path, redacted, []byte(c.RedactedValue))
	}
	if q.Status == http.StatusSwitchingProtocols {
		return Upgraded
	}
	if r.denied(q.Path) {
		return Denied
	}
	return Chosen
}

// denied tells whether a path is on the deny-list, as it is or with its percent-encoding undone. That a parameter which was redacted
// has a value does not count, as in `token=`: what it held is not sent.
func (r *Reader) denied(path []byte) bool {
	if len(r.choice.Deny) == 0 {
		return false
	}
	r.lower = r.lower[:0]
	for part := range bytes.SplitAfterSeq(path, []byte("&")) {
		if bytes.Contains(part, redacted) {
			begin := bytes.IndexByte(part, '?') + 1
			r.lower = append(r.lower, bytes.ToLower(part[:begin])...)
			part = bytes.Replace(part[begin:], []byte("="), []byte(" "), 1)
			part = bytes.ReplaceAll(part, redacted, []byte(r.choice.RedactedValue))
		}
		r.lower = append(r.lower, bytes.ToLower(part)...)
	}
	if r.holdsDenied() {
		return true
	}
	if bytes.IndexByte(r.lower, '%') < 0 {
		return false
	}
	r.lower = bytes.ToLower(unescape(r.lower))
	return r.holdsDenied()
}

func (r *Reader) holdsDenied() bool {
	return slices.ContainsFunc(r.choice.Deny, func(text string) bool { return text != "" && bytes.Contains(r.lower, []byte(text)) })
}
