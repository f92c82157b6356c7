package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"drain/intake"
)

// post is what one request needs to be read. Posts are pooled; all that a request
// makes of its body borrows from its post, and the publisher copies.
type post struct {
	server      *Server
	request     *http.Request
	paced       paced
	body, spare []byte
	zip         *gzip.Reader
	damaged     bool // the body ended before it should
	budget      budget
	drain, app  []byte // where the frame comes from, empty when unknown
	scratch     []byte
	desk        *intake.Desk // once the body has come
}

var posts = sync.Pool{New: func() any { return new(post) }}

// newPost makes a post ready for r; free ends it.
func (s *Server) newPost(r *http.Request, app string, src *source) *post {
	p := posts.Get().(*post)
	p.budget = budget{all: s.cfg.Budget, account: &src.account, weight: s.cfg.Intake.Weight(), ctx: r.Context()}
	p.server, p.request, p.budget.isKnown = s, r, p
	p.drain = append(p.drain[:0], intake.Clip(header(r, "Logplex-Drain-Token"))...)
	p.app = append(p.app[:0], intake.Clip(app)...)
	p.damaged = false
	return p
}

// known tells whether the frame is, as far as its headers say.
func (p *post) known() bool {
	id, ok := p.identifyByHeaders(p.request)
	return ok && p.server.frames.knows(id)
}

// free gives back what the request holds. The caller holds no part of p any more.
func (p *post) free() {
	p.budget.shrink(0)
	p.budget, p.paced = budget{}, paced{}
	p.server, p.request = nil, nil
	if p.desk != nil {
		p.desk.Leave()
		p.desk = nil
	}
	// One large body shall not stay in memory.
	if cap(p.body)+cap(p.spare) <= keep {
		posts.Put(p)
	}
}

// keep is the most memory, in bytes, that a post keeps for its next request.
const keep = 4 << 20

// read makes records of the body's messages, which are at the desk's spans. Its only
// error is errNoRoom.
func (p *post) read(r *http.Request) (frameID, error) {
	p.desk.Parser.NilData = shuttle(r)
	frame := p.identify(r)
	p.scratch = frame.text(p.scratch[:0])
	p.desk.From(p.scratch, p.drain, p.app)
	if err := p.desk.Read(p.body, &p.budget); err != nil {
		return frame, err
	}
	if p.damaged {
		p.desk.Damaged()
	}
	p.lossHeaders(r)
	return frame, nil
}

// shuttle tells whether r comes from log-shuttle, which writes structured data as
// `-` and takes any status for delivered.
func shuttle(r *http.Request) bool {
	return strings.HasPrefix(header(r, "User-Agent"), "log-shuttle/")
}

// lossHeaders counts what log-shuttle says it lost in headers, where the same is
// not said in a message.
func (p *post) lossHeaders(r *http.Request) {
	for i, name := range [len(p.desk.Loss)]string{"", "Logplex-Drop-Count", "Logplex-Lost-Count"} {
		said := header(r, name)
		if said == "" {
			continue
		}
		if n, err := strconv.ParseUint(said, 10, 32); err == nil {
			p.desk.Loss[i] = max(p.desk.Loss[i], int64(n))
		}
	}
}
