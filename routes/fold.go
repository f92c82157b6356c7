package routes

import (
	"cmp"
	"slices"
	"strings"
)

// sure is how many requests a child needs to stay itself beside a `*`: what one writer
// or several counted before they folded has fewer.
const sure = 2 * muchMore

// Fold puts together what writers counted whose Tables folded at different times: it
// says for each name under which it is to be shown. At most MaxRoutes different names
// are, with Other, and an order has no part in it.
//
// Counts are the requests of all that is held, not of a minute: what is shown at all
// times should be folded alike. A node with more than 200 children, or with a `*`, has
// its children in `*`, but those that have 16 requests and eight times the mean of
// those that do not stay. Names that a rule gives are left as they are; rules may be
// nil.
func Fold(counts map[Name]int, rules *Rules) map[Name]Name {
	root := new(group)
	out := make([]*shown, 0, len(counts))
	for name, count := range counts {
		if name.Template == "" || len(name.Template) > maxTemplate { // no Table's
			out = append(out, &shown{Other, count, []Name{name}})
			continue
		}
		if name.Template[0] != '/' || rules.named([]byte(name.Template)) {
			out = append(out, &shown{name, count, []Name{name}})
			continue
		}
		at := root
		for rest := strings.Trim(name.Template, "/"); rest != ""; {
			var segment string
			segment, rest, _ = strings.Cut(rest, "/")
			at = at.child(segment)
		}
		at.add(&shown{name, count, []Name{name}})
	}
	out = root.fold(make([]byte, 0, maxTemplate), out)

	slices.SortFunc(out, func(a, b *shown) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.name.Template, b.name.Template), cmp.Compare(a.name.Method, b.name.Method))
	})
	names, left := make(map[Name]Name, len(counts)), MaxRoutes-1
	for _, s := range out {
		switch {
		case s.name == Other:
		case left == 0:
			s.name = Other
		default:
			left--
		}
		for _, of := range s.of {
			names[of] = s.name
		}
	}
	return names
}

// shown is a name, and which names are shown under it.
type shown struct {
	name  Name
	count int
	of    []Name
}

// group is a node of the tree of names.
type group struct {
	segment  string
	children []*group
	index    map[string]*group // of the children, where they are many
	names    []*shown
}

// few children are looked through faster than a map is made.
const few = 8

func (g *group) find(segment string) *group {
	if len(g.children) <= few {
		for _, c := range g.children {
			if c.segment == segment {
				return c
			}
		}
		return nil
	}
	if g.index == nil {
		g.index = make(map[string]*group, 2*len(g.children))
		for _, c := range g.children {
			g.index[c.segment] = c
		}
	}
	return g.index[segment]
}

// child is the child with a name, made where there was none.
func (g *group) child(segment string) *group {
	c := g.find(segment)
	if c == nil {
		c = &group{segment: segment}
		g.children = append(g.children, c)
		if g.index != nil {
			g.index[segment] = c
		}
	}
	return c
}

func (g *group) add(s *shown) {
	if i := slices.IndexFunc(g.names, func(o *shown) bool { return o.name.Method == s.name.Method }); i >= 0 {
		g.names[i].count += s.count
		g.names[i].of = append(g.names[i].of, s.of...)
		return
	}
	g.names = append(g.names, s)
}

func (g *group) merge(from *group) {
	for _, s := range from.names {
		g.add(s)
	}
	for _, c := range from.children {
		g.child(c.segment).merge(c)
	}
}

func (g *group) weight() (w int) {
	for _, s := range g.names {
		w += s.count
	}
	for _, c := range g.children {
		w += c.weight()
	}
	return w
}

// fold folds at and below a node, and appends the names that are left.
func (g *group) fold(path []byte, out []*shown) []*shown {
	for _, s := range g.names {
		if s.name.Template != string(path) && len(path) > 0 {
			s.name.Template = string(path)
		}
		out = append(out, s)
	}
	if star := g.find(anything); star != nil || len(g.children) > maxChildren {
		g.foldChildren(star != nil)
	}
	for _, c := range g.children {
		out = c.fold(append(append(path, '/'), c.segment...), out)
	}
	return out
}

// foldChildren folds a node's own children where they are too many, or beside a `*`.
func (g *group) foldChildren(starred bool) {
	type weighed struct {
		*group
		weight int
	}
	var named []weighed
	var stay []*group
	for _, c := range g.children {
		if foldable([]byte(c.segment)) {
			named = append(named, weighed{c, c.weight()})
		} else {
			stay = append(stay, c)
		}
	}
	if !starred && len(named) <= maxChildren {
		return
	}
	slices.SortFunc(named, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.segment, b.segment))
	})
	weights := make([]float64, len(named))
	for i := range named {
		weights[i] = float64(named[i].weight)
	}
	kept := frequent(weights, sure)
	for _, c := range named[:kept] {
		stay = append(stay, c.group)
	}
	g.children, g.index = stay, nil
	if kept == len(named) {
		return
	}
	star := g.child(anything)
	for _, c := range named[kept:] {
		star.merge(c.group)
	}
}
