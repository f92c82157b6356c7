package routes

import (
	"cmp"
	"maps"
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
	var out []shown
	for name, count := range counts {
		if name.Template == "" || name.Template[0] != '/' || rules.named(name.Template) {
			out = append(out, shown{name, count, []Name{name}})
			continue
		}
		at := root
		for rest := strings.Trim(name.Template, "/"); rest != ""; {
			var segment string
			segment, rest, _ = strings.Cut(rest, "/")
			at = at.child(segment)
		}
		at.add(shown{name, count, []Name{name}})
	}
	out = root.fold("", out)

	slices.SortFunc(out, func(a, b shown) int {
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
	children map[string]*group
	names    []shown
}

func (g *group) child(segment string) *group {
	c := g.children[segment]
	if c == nil {
		if g.children == nil {
			g.children = make(map[string]*group)
		}
		c = new(group)
		g.children[segment] = c
	}
	return c
}

func (g *group) add(s shown) {
	if i := slices.IndexFunc(g.names, func(o shown) bool { return o.name.Method == s.name.Method }); i >= 0 {
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
	for segment, c := range from.children {
		g.child(segment).merge(c)
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
func (g *group) fold(path string, out []shown) []shown {
	for _, s := range g.names {
		if s.name.Template = path; path == "" {
			s.name.Template = "/"
		}
		out = append(out, s)
	}
	type weighed struct {
		segment string
		weight  int
	}
	var named []weighed
	for segment, c := range g.children {
		if counts([]byte(segment)) {
			named = append(named, weighed{segment, c.weight()})
		}
	}
	star := g.children[anything]
	if star != nil || len(named) > maxChildren {
		slices.SortFunc(named, func(a, b weighed) int {
			return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.segment, b.segment))
		})
		weights := make([]float64, len(named))
		for i := range named {
			weights[i] = float64(named[i].weight)
		}
		most := len(named)
		if star == nil {
			most-- // something must fold
		}
		for _, c := range named[frequent(weights, most, sure):] {
			g.child(anything).merge(g.children[c.segment])
			delete(g.children, c.segment)
		}
	}
	for _, segment := range slices.Sorted(maps.Keys(g.children)) {
		out = g.children[segment].fold(path+"/"+segment, out)
	}
	return out
}
