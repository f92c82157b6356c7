package routes

import (
	"cmp"
	"slices"
	"strings"
)

// add lists a new route; name is its method and its template. There is room.
func (t *Table) add(m method, name string, count float64) *Route {
	at := t.root
	for rest := strings.Trim(name[1:], "/"); rest != ""; {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		at = at.child(segment)
	}
	r := t.list(at, m, name, count)
	for n := at; n != nil; n = n.parent {
		if n.named > maxChildren && !n.folded {
			t.fold(n)
		}
	}
	if r.at == nil {
		// It was folded at once: what it became.
		return t.find(m, true)
	}
	return r
}

func (t *Table) list(at *node, m method, name string, count float64) *Route {
	r := &Route{Name: Name{methods[m], name[1:]}, method: m, count: count, seen: t.clock, at: at}
	at.routes = append(at.routes, r)
	t.known[name] = r
	t.floor = min(t.floor, count)
	return r
}

// child is the child with a name, made where there was none.
func (n *node) child(segment string) *node {
	c := n.children[segment]
	if c == nil {
		if n.children == nil {
			n.children = make(map[string]*node)
		}
		c = &node{path: n.path + "/" + segment, parent: n}
		n.children[segment] = c
		if foldable([]byte(segment)) {
			n.named++
		}
	}
	return c
}

func (n *node) weight() (w float64) {
	for _, r := range n.routes {
		w += r.count
	}
	for _, c := range n.children {
		w += c.weight()
	}
	return w
}

// fold folds the children of a node into `*`, but those that are much more frequent
// than the rest.
func (t *Table) fold(n *node) {
	type weighed struct {
		*node
		weight float64
	}
	var named []weighed
	for segment, c := range n.children {
		if foldable([]byte(segment)) {
			named = append(named, weighed{c, c.weight()})
		}
	}
	slices.SortFunc(named, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.path, b.path))
	})
	weights := make([]float64, len(named))
	for i := range named {
		weights[i] = named[i].weight
	}
	rest, total := named[frequent(weights, muchMore):], 0.0
	for _, c := range rest {
		total += c.weight
	}
	if n.folded, n.distinct = true, 1; total > float64(len(rest)) {
		n.distinct = float64(len(rest)) / total
	}
	for _, c := range rest {
		t.detach(c.node)
		t.merge(n.child(anything), c.node)
	}
}

// frequent is how many of the weights, the heaviest first, are so much more than the
// rest that they stay themselves: as many as can be, each at least muchMore times the
// mean of those that do not stay, and at least least.
func frequent(weights []float64, least float64) int {
	sums := make([]float64, len(weights)+1) // of those from i on
	for i := len(weights) - 1; i >= 0; i-- {
		sums[i] = sums[i+1] + weights[i]
	}
	for k := min(len(weights), maxChildren); k > 0; k-- {
		if weights[k-1] >= least && weights[k-1]*float64(len(weights)-k) >= muchMore*sums[k] {
			return k
		}
	}
	return 0
}

// detach takes a child out of the tree.
func (t *Table) detach(c *node) {
	delete(c.parent.children, c.segment())
	if foldable([]byte(c.segment())) {
		c.parent.named--
	}
}

// merge adds what is at and below from to into. The routes of from leave; those of the
// same method at into take their counts.
func (t *Table) merge(into, from *node) {
	for _, r := range from.routes {
		delete(t.known, string(rune(r.method))+r.Template)
		r.at = nil
		i := slices.IndexFunc(into.routes, func(o *Route) bool { return o.method == r.method })
		if i < 0 {
			t.list(into, r.method, string(rune(r.method))+into.path, r.count).seen = r.seen
			continue
		}
		into.routes[i].count += r.count
		into.routes[i].seen = max(into.routes[i].seen, r.seen)
	}
	for segment, c := range from.children {
		if into.folded && foldable([]byte(segment)) && into.children[segment] == nil {
			segment = anything
		}
		t.merge(into.child(segment), c)
	}
	if !into.folded && (from.folded || into.named > maxChildren) {
		t.fold(into)
	}
}
