package routes

import "bytes"

const (
	// MaxRoutes is how many routes a Table lists at a time, and Fold returns, with
	// Other.
	MaxRoutes = 1000
	// maxChildren is how many children of a node stand for themselves; with one
	// more, they are folded into `*`.
	maxChildren = 200
	// muchMore is how many times as frequent as the rest's mean a child must be to
	// stay itself, and as what a route must be, at least, that another has to make
	// room for.
	muchMore = 8
	// maxCounted is for how many segments of one path children are counted: a deep
	// path must not age the sketch faster than others.
	maxCounted = 2
	// remembered is over how many requests the mean of a folded node's children goes.
	remembered = 1024
)

// Name is a route's name: equal names are the same route, whoever gave them.
type Name struct {
	Method   string // in capitals; OTHER for an unusual one
	Template string // such as /users/:id
}

// Other is the route of what has no route of its own.
var Other = Name{Template: "other"}

// Route is a route as a Table knows it. The pointer and its Name are valid for ever,
// also when the Table no longer lists the route: what was counted by it may be kept
// until its owner is done with it. The same name can later come back as another Route.
type Route struct {
	Name

	method method
	pinned bool    // by a rule: it never leaves
	count  float64 // requests, halved with each epoch
	seen   uint64  // the record it was last seen with
	at     *node   // nil when it has left, or is pinned
}

// Table names the routes of one stream of records. It lists at most MaxRoutes, in
// bounded memory (about 10 MB). It is not safe for concurrent use.
type Table struct {
	rules *Rules
	ruled map[ruled]*Route
	known map[string]*Route // by method and template
	root  *node
	other *Route
	seen  sketch
	clock uint64  // records
	floor float64 // no route that can leave has a lower count

	parts parts
	key   []byte
	name  []byte
}

type ruled struct {
	rule   int
	method method
}

// node is a place in the tree of the templates that are listed. There is none without
// a listed route at or below it, but the root.
type node struct {
	path     string // "" for the root
	parent   *node
	children map[string]*node
	named    int // children that count for maxChildren
	routes   []*Route

	folded bool
	// distinct is, of the requests for folded children, how many children there are
	// to one request: the mean of one over the child's count.
	distinct float64
}

// NewTable makes a Table; rules may be nil.
func NewTable(rules *Rules) *Table {
	return &Table{
		rules: rules,
		ruled: make(map[ruled]*Route),
		known: make(map[string]*Route),
		root:  new(node),
		other: &Route{Name: Other, pinned: true},
		seen:  newSketch(),
	}
}

// Route is the route of a record; status is 0 where the record has none. Method and
// path are borrowed for the call, path as the router logged it.
//
// A path that the application did not know makes no route, by its status: 400, 404,
// 405, 410, 414, 431, 501, none. It counts for the route of its template if there is
// one, else for Other.
func (t *Table) Route(method, path []byte, status int) *Route {
	t.clock++
	m := methodOf(method)
	t.parts.split(path)
	if rule := t.rules.match(m, &t.parts); rule >= 0 {
		return t.byRule(ruled{rule, m}, status)
	}
	t.key = t.parts.appendTemplate(append(t.key[:0], byte(m)))
	r := t.known[string(t.key)]
	if r == nil {
		if r = t.find(m, makesRoute(status)); r == nil {
			return t.other
		}
	}
	r.count++
	r.seen = t.clock
	return r
}

// Routes is how many routes are listed, with Other.
func (t *Table) Routes() int { return len(t.known) + 1 }

func makesRoute(status int) bool {
	switch status {
	case 0, 400, 404, 405, 410, 414, 431, 501:
		return false
	}
	return true
}

// byRule is the route of a rule. Whatever is not a rule's makes room for it.
func (t *Table) byRule(of ruled, status int) *Route {
	if r := t.ruled[of]; r != nil {
		r.count++
		r.seen = t.clock
		return r
	}
	r := t.pin(of.method, t.rules.rules[of.rule].name, makesRoute(status))
	if r == nil {
		return t.other
	}
	t.ruled[of] = r
	r.count++
	r.seen = t.clock
	return r
}

// pin is the route with a name that is outside of the tree and stays; nil without one.
func (t *Table) pin(m method, template string, makes bool) *Route {
	t.name = append(append(t.name[:0], byte(m)), template...)
	r := t.known[string(t.name)]
	if r != nil || !makes || !t.makeRoom(0, true) {
		return r
	}
	r = &Route{Name: Name{methods[m], template}, method: m, pinned: true}
	t.known[string(t.name)] = r
	return r
}

// find is the route of t.key where the template as it stands is none: one of a folded
// node's, or a new one. It is nil where there is none.
func (t *Table) find(m method, makes bool) *Route {
	template := t.key[1:]
	if string(template) == anything || t.rules.named(template) {
		// What has a rule's name is that rule's route, also by a path that the rule
		// does not match.
		return t.pin(m, string(template), makes)
	}
	name := append(t.name[:0], byte(m))
	at, counted, rising := t.root, 0, 0
	for rest := template[1:]; len(rest) > 0; {
		segment := rest
		if i := bytes.IndexByte(rest, '/'); i >= 0 {
			segment, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		before := len(name)
		name = append(append(name, '/'), segment...)
		if at == nil {
			continue
		}
		next := at.children[string(segment)]
		if next == nil && at.folded && foldable(segment) {
			if makes && counted < maxCounted {
				counted++
				rising = max(rising, t.rises(at, name))
			}
			if rising == 0 {
				name = append(append(name[:before], '/'), anything...)
				next = at.children[anything]
			}
		}
		at = next
	}
	if len(template) == 1 {
		name = append(name, '/')
	}
	t.name = name
	if r := t.known[string(name)]; r != nil || !makes {
		return r
	}
	if len(t.known) >= MaxRoutes-1 {
		rising = max(rising, t.count(name))
		if !t.makeRoom(rising, false) {
			return nil
		}
	}
	return t.add(m, string(name), float64(rising))
}

// foldable tells whether a segment is one of those that are folded when there are too
// many: all but values, which are few by nature.
func foldable(segment []byte) bool {
	switch {
	case string(segment) == anything:
		return false
	case segment[0] == '@' || segment[0] == '~':
		return string(segment[1:]) != value
	case segment[0] != ':':
		return true
	}
	name, _ := extension(segment)
	return string(name) != value
}

// count counts a key in the sketch, and lets all age when it is time.
func (t *Table) count(key []byte) int {
	n, due := t.seen.add(key)
	if due {
		t.seen.halve()
		for _, r := range t.known {
			r.count /= 2
		}
		t.floor /= 2
	}
	return n
}

// rises counts a child of a folded node, and returns its count if it is so much more
// frequent than the rest that it is to stand for itself, else 0.
func (t *Table) rises(at *node, name []byte) int {
	n := t.count(name[1:])
	at.distinct += (1/float64(n) - at.distinct) / remembered
	if n < muchMore || float64(n)*at.distinct < muchMore || at.named >= maxChildren {
		return 0
	}
	if len(t.known) >= MaxRoutes-1 && t.victim(float64(n)) == nil {
		return 0
	}
	return n
}

// makeRoom makes room for one route with such a count, if there is none. For a rule
// any other has to go.
func (t *Table) makeRoom(count int, forRule bool) bool {
	if len(t.known) < MaxRoutes-1 {
		return true
	}
	limit := float64(count)
	if forRule {
		limit = maxCount
	} else if count < muchMore {
		return false
	}
	r := t.victim(limit)
	if r == nil {
		return false
	}
	t.leave(r)
	return true
}

const maxCount = 1 << 62

// victim is the route with the lowest count below the limit, of several the one that
// was not seen for the longest; nil without one.
func (t *Table) victim(limit float64) *Route {
	if limit <= t.floor {
		return nil
	}
	var least *Route
	for _, r := range t.known {
		if !r.pinned && (least == nil || r.count < least.count || r.count == least.count && r.seen < least.seen) {
			least = r
		}
	}
	if least == nil {
		return nil
	}
	if t.floor = least.count; limit <= least.count {
		return nil
	}
	return least
}

// leave takes a route off the list.
func (t *Table) leave(r *Route) {
	delete(t.known, string(append([]byte{byte(r.method)}, r.Template...)))
	n := r.at
	r.at = nil
	n.drop(r)
	for n.parent != nil && len(n.routes) == 0 && len(n.children) == 0 {
		delete(n.parent.children, n.segment())
		if foldable([]byte(n.segment())) {
			n.parent.named--
		}
		n = n.parent
	}
}

func (n *node) drop(r *Route) {
	for i := range n.routes {
		if n.routes[i] == r {
			n.routes = append(n.routes[:i], n.routes[i+1:]...)
			return
		}
	}
}

func (n *node) segment() string { return n.path[len(n.parent.path)+1:] }
