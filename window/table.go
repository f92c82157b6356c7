package window

import (
	"cmp"
	"slices"
	"strings"
)

// Key is what requests of a window are told apart by. A Table by dyno has no method
// and no route, one by route no dyno.
type Key struct {
	App           string // "" where nobody said
	Dyno          string
	Method, Route string
	Code          string // Heroku's: H12; "" for most
	Status        int    // 0 where there was none
}

// Other is the name of what is not told apart any more, since there was too much of it.
const Other = "other"

// Cell is what was counted of the requests with one Key. Those by route have no
// Connect.
type Cell struct {
	Requests, Bytes  int64
	Service, Connect Times
}

// Merge adds all that other has counted.
func (c *Cell) Merge(other *Cell) {
	c.Requests += other.Requests
	c.Bytes = min(c.Bytes+other.Bytes, maxSum)
	c.Service.Merge(&other.Service)
	c.Connect.Merge(&other.Connect)
}

func (c *Cell) reset() {
	service, connect := c.Service.buckets[:0], c.Connect.buckets[:0]
	*c = Cell{Service: Times{buckets: service}, Connect: Times{buckets: connect}}
}

// The bounds of a window's Table: of hostile requests, the rest is Other.
const (
	maxCells  = 8 << 10
	maxRoutes = 1000 // of a method and a template each, Other's counted as one
	maxUnsure = 100
)

// ids are a Key in numbers, of a names.
type ids struct{ app, dyno, method, route, code, status uint16 }

// names gives short strings numbers, from 0.
type names struct {
	ids  map[string]uint16
	list []string
}

// The most names, so that a uint16 holds their numbers, and there is room for what
// must be named.
const maxNames = 60_000

func (n *names) reset() {
	if n.ids == nil {
		n.ids = make(map[string]uint16)
	}
	clear(n.ids)
	n.list = n.list[:0]
	n.id("")
	n.id(Other)
}

func (n *names) id(s string) uint16 {
	id, ok := n.ids[s]
	if !ok {
		id = uint16(len(n.list))
		n.ids[s] = id
		n.list = append(n.list, s)
	}
	return id
}

// The numbers of the names that every names begins with.
const (
	noName uint16 = iota
	otherName
)

func (n *names) full() bool { return len(n.list) >= maxNames }

// table is cells by ids.
type table struct {
	cells map[ids]*Cell
	free  *[]*Cell // cells to use again
}

// cell is the one for k. Of a table that is full it is a coarser one: without its dyno or
// route and its code, at last without its app and by its status' hundreds, of which there are few.
func (t *table) cell(k ids) *Cell {
	if c := t.cells[k]; c != nil {
		return c
	}
	if len(t.cells) >= maxCells {
		k.dyno, k.route, k.code = other(k.dyno), other(k.route), other(k.code)
		if c := t.cells[k]; c != nil {
			return c
		}
		if len(t.cells) >= maxCells+maxCells/8 {
			k.app, k.method, k.status = other(k.app), other(k.method), k.status/100*100
			if c := t.cells[k]; c != nil {
				return c
			}
		}
	}
	var c *Cell
	if free := *t.free; len(free) > 0 {
		c, *t.free = free[len(free)-1], free[:len(free)-1]
	} else {
		c = new(Cell)
	}
	t.cells[k] = c
	return c
}

func other(id uint16) uint16 {
	if id == noName {
		return noName
	}
	return otherName
}

// release empties t, and keeps its cells for later.
func (t *table) release() {
	for _, c := range t.cells {
		c.reset()
		*t.free = append(*t.free, c)
	}
	clear(t.cells)
}

// merge adds the cells of another table of the same names.
func (t *table) merge(other *table) {
	for k, c := range other.cells {
		t.cell(k).Merge(c)
	}
}

// Unsure in front of a route's name says that it may be none: a reader counts it for the route
// of that name if there is one, and else for Other.
const Unsure = "?"

// boundRoutes makes Other of the routes with the fewest requests, so that no more
// than maxRoutes are left, and of those that are Unsure no more than maxUnsure.
func (t *table) boundRoutes(n *names) {
	type route struct{ method, route uint16 }
	counts := make(map[route]int64)
	unsure := 0
	for k, c := range t.cells {
		if k.route == otherName {
			continue
		}
		r := route{k.method, k.route}
		if counts[r] == 0 && n.unsure(k.route) {
			unsure++
		}
		counts[r] += c.Requests
	}
	if len(counts) < maxRoutes && unsure <= maxUnsure {
		return
	}
	all := make([]route, 0, len(counts))
	for r := range counts {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b route) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(n.list[a.route], n.list[b.route]), cmp.Compare(n.list[a.method], n.list[b.method]))
	})
	kept, unsure := make(map[route]bool), 0
	for _, r := range all {
		if n.unsure(r.route) {
			if unsure == maxUnsure {
				continue
			}
			unsure++
		}
		if kept[r] = true; len(kept) == maxRoutes-1 {
			break
		}
	}
	for k, c := range t.cells {
		if k.route != otherName && !kept[route{k.method, k.route}] {
			delete(t.cells, k)
			k.route = otherName
			t.cell(k).Merge(c)
			c.reset()
			*t.free = append(*t.free, c)
		}
	}
}

func (n *names) unsure(id uint16) bool { return strings.HasPrefix(n.list[id], Unsure) }
