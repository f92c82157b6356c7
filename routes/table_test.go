package routes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func route(t *Table, path string, status int) string {
	return t.Route([]byte("GET"), []byte(path), status).Template
}

// listed are the templates of a table's routes.
func listed(t *Table) (all []string) {
	for _, r := range t.known {
		all = append(all, r.Template)
	}
	slices.Sort(all)
	return all
}

func ask(t *testing.T, table *Table, status int, want map[string]string) {
	t.Helper()
	for path, want := range want {
		if got := route(table, path, status); got != want {
			t.Errorf("%s is %s, should be %s", path, got, want)
		}
	}
}

// sound fails the test unless the tree and the list agree, and all bounds are kept.
func sound(t *testing.T, table *Table) {
	t.Helper()
	seen, nodes := 0, 0
	var walk func(n *node)
	walk = func(n *node) {
		nodes++
		named := 0
		for segment, c := range n.children {
			if c.parent != n || c.segment() != segment || len(c.routes) == 0 && len(c.children) == 0 {
				t.Errorf("the node %s is not sound", c.path)
			}
			if foldable([]byte(segment)) {
				named++
			}
			walk(c)
		}
		if named != n.named || named > maxChildren {
			t.Errorf("%s has %d named children, %d counted", n.path, named, n.named)
		}
		for _, r := range n.routes {
			seen++
			if r.at != n || table.known[string(rune(r.method))+r.Template] != r || r.Template != n.path && r.Template != "/" {
				t.Errorf("the route %v is not sound at %s", r.Name, n.path)
			}
		}
	}
	walk(table.root)
	for _, r := range table.known {
		if r.pinned {
			seen++
		}
	}
	if seen != len(table.known) || table.Routes() > MaxRoutes || nodes > maxSegments*MaxRoutes+1 {
		t.Errorf("%d routes are in the tree, %d listed; %d nodes", seen, len(table.known), nodes)
	}
}

func TestTable(t *testing.T) {
	for promise, test := range map[string]func(*testing.T, *Table){
		"names a new route at its first request": func(t *testing.T, table *Table) {
			ask(t, table, 200, map[string]string{"/": "/", "/users/42?a=b": "/users/:id", "*": "*", "/users/": "/users", "": "/"})
		},
		"gives the same Route for the same route, another for another method": func(t *testing.T, table *Table) {
			a, b := table.Route([]byte("GET"), []byte("/a/1"), 200), table.Route([]byte("GET"), []byte("/a/2"), 500)
			if c := table.Route([]byte("POST"), []byte("/a/2"), 200); a != b || a == c || c.Name != (Name{"POST", "/a/:id"}) {
				t.Error(a, b, c)
			}
			if d := table.Route([]byte("BREW"), []byte("/a/2"), 200); d.Method != "OTHER" || d != table.Route([]byte("get"), []byte("/a/3"), 200) {
				t.Error(d)
			}
		},
		"makes no route of what the application did not know": func(t *testing.T, table *Table) {
			for _, status := range []int{0, 400, 404, 405, 410, 414, 431, 501} {
				for i := range 300 {
					ask(t, table, status, map[string]string{"/" + word(uint64(i)): "other", "*": "other"})
				}
			}
			if table.Routes() != 1 {
				t.Error(listed(table))
			}
		},
		"counts what the application did not know under the route that is there": func(t *testing.T, table *Table) {
			ask(t, table, 200, map[string]string{"/users/1": "/users/:id"})
			ask(t, table, 404, map[string]string{"/users/2": "/users/:id", "/users/2/x": "other"})
			for i := range 300 {
				route(table, "/shop/"+word(uint64(i)), 200)
			}
			ask(t, table, 404, map[string]string{"/shop/never": "/shop/*"})
		},
		"leaves 200 children as they are": func(t *testing.T, table *Table) {
			for range 3 {
				for i := range 200 {
					path := "/shop/" + word(uint64(i))
					ask(t, table, 200, map[string]string{path: path})
				}
			}
		},
		"folds a thousand slugs that are equally frequent": func(t *testing.T, table *Table) {
			r := rand.New(rand.NewPCG(1, 1))
			for range some(1_500_000) { // some epochs
				route(table, "/shop/"+word(r.Uint64N(1000)), 200)
			}
			if got := listed(table); !slices.Equal(got, []string{"/shop/*"}) {
				t.Errorf("%d routes: %v", len(got), got)
			}
		},
		"folds what is below the slugs, too": func(t *testing.T, table *Table) {
			for i := range 50_000 {
				for _, path := range []string{"/shop/" + word(uint64(i%1000)) + "/reviews", "/shop/" + word(uint64(i%1000)) + "/reviews/7/edit"} {
					route(table, path, 200)
				}
			}
			if got := listed(table); !slices.Equal(got, []string{"/shop/*/reviews", "/shop/*/reviews/:id/edit"}) {
				t.Errorf("%d routes: %v", len(got), got)
			}
		},
		"folds below a fold, too": func(t *testing.T, table *Table) {
			for i := range 201 {
				route(table, "/shop/"+word(uint64(i))+"/"+word(uint64(1000+i)), 200)
			}
			if got := listed(table); !slices.Equal(got, []string{"/shop/*/*"}) {
				t.Errorf("%d routes: %v", len(got), got)
			}
		},
		"keeps at most 200 children of a folded node": func(t *testing.T, table *Table) {
			for i := range 250 * 30 {
				for j := range 3 {
					route(table, "/shop/"+word(uint64(1000+3*i+j)), 200)
				}
				route(table, "/shop/"+word(uint64(i%250)), 200)
			}
			if got := len(listed(table)); got != 201 {
				t.Errorf("%d routes", got)
			}
		},
		"a child that was asked for now and then does not rise": func(t *testing.T, table *Table) {
			for i := range 300 {
				route(table, "/shop/"+word(uint64(1000+i)), 200)
			}
			for range muchMore - 1 {
				route(table, "/shop/rare", 200)
			}
			for i := range some(3 * epoch) {
				route(table, "/shop/"+word(uint64(2000+i)), 200)
			}
			ask(t, table, 200, map[string]string{"/shop/rare": "/shop/*"})
		},
		"forgets by halves": func(t *testing.T, table *Table) {
			route(table, "/shop", 200)
			table.known["\x01/shop"].count, table.floor = 64, 64
			for range 63 {
				table.count([]byte("key"))
			}
			for i := range epoch {
				table.count(fmt.Append(nil, i))
			}
			if n := table.count([]byte("key")); n > 40 || table.known["\x01/shop"].count != 32 || table.floor != 32 {
				t.Errorf("63 and one more are %d", n)
			}
		},
		"counts a deep path as little as another": func(t *testing.T, table *Table) {
			path := func(i int) (path string) {
				for j := range 7 {
					path += "/" + word(uint64(1000*j+i))
				}
				return path
			}
			for i := range 2000 {
				route(table, path(i), 200)
			}
			before := table.seen.added
			if route(table, path(3000), 200); table.seen.added-before != maxCounted {
				t.Errorf("one path was counted %d times", table.seen.added-before)
			}
		},
		"keeps the children that are much more frequent than those that fold": func(t *testing.T, table *Table) {
			for i := range 1000 {
				route(table, "/users/me", 200)
				route(table, "/users/"+word(uint64(i)), 200)
				route(table, fmt.Sprint("/users/", i), 200)
				if i%20 == 0 {
					route(table, "/users/settings/mail", 200)
				}
			}
			if got := listed(table); !slices.Equal(got, []string{"/users/*", "/users/:id", "/users/me", "/users/settings/mail"}) {
				t.Error(got)
			}
		},
		"lets a child of a folded node stand for itself when it is frequent": func(t *testing.T, table *Table) {
			for i := range 100_000 {
				route(table, "/users/"+word(uint64(i)), 200)
			}
			for i := range 10_000 {
				route(table, "/users/me/"+[]string{"mail", "name"}[i%2], 200)
				for j := range 20 {
					route(table, "/users/"+word(uint64(1e6+20*i+j)), 200)
				}
			}
			if got := listed(table); !slices.Equal(got, []string{"/users/*", "/users/*/mail", "/users/me/mail", "/users/me/name"}) &&
				!slices.Equal(got, []string{"/users/*", "/users/*/mail", "/users/*/name", "/users/me/mail", "/users/me/name"}) {
				t.Error(got)
			}
		},
		"a child of uniformly frequent ones rises when it is eight times as frequent": func(t *testing.T, table *Table) {
			r := rand.New(rand.NewPCG(1, 1))
			for range some(1_000_000) {
				if r.IntN(50) == 0 { // 20,000 in a million, the mean is 1,000
					route(table, "/shop/sale", 200)
				}
				route(table, "/shop/"+word(r.Uint64N(1000)), 200)
			}
			if got := listed(table); !slices.Equal(got, []string{"/shop/*", "/shop/sale"}) {
				t.Error(got)
			}
		},
		"lists at most a thousand routes": func(t *testing.T, table *Table) {
			for i := range 3000 {
				route(table, fmt.Sprintf("/%s/%s", word(uint64(i%100)), word(uint64(i))), 200)
			}
			if table.Routes() != MaxRoutes || route(table, "/new/one", 200) != "other" {
				t.Error(table.Routes())
			}
		},
		"lets a frequent route have the place of a rare one": func(t *testing.T, table *Table) {
			full(table)
			rare := table.Route([]byte("GET"), []byte("/a0/b0"), 404)
			for range 2 * muchMore {
				for i := range 999 {
					if i > 0 {
						route(table, fmt.Sprintf("/a%d/b%d", i/100, i%100), 200)
					}
				}
			}
			for range 2*muchMore + 2 {
				route(table, "/new/one", 200)
			}
			ask(t, table, 404, map[string]string{"/new/one": "/new/one", "/a0/b0": "other", "/a5/b5": "/a5/b5"})
			if rare.Template != "/a0/b0" || rare.Method != "GET" {
				t.Error("a route that has left lost its name")
			}
			if rare.at != nil {
				t.Error("a route that has left holds the tree")
			}
		},
		"among equally rare ones the one not seen for the longest has to go": func(t *testing.T, table *Table) {
			full(table)
			for i := range 999 {
				route(table, fmt.Sprintf("/a%d/b%d", (998-i)/100, (998-i)%100), 404)
			}
			for range muchMore {
				route(table, "/new/one", 200)
			}
			ask(t, table, 404, map[string]string{"/new/one": "/new/one", "/a9/b98": "other", "/a9/b97": "/a9/b97", "/a0/b0": "/a0/b0"})
		},
		"seven requests are not enough to push another out": func(t *testing.T, table *Table) {
			full(table)
			for range muchMore - 1 {
				route(table, "/new/one", 200)
			}
			ask(t, table, 404, map[string]string{"/new/one": "other"})
		},
		"what was frequent long ago makes room": func(t *testing.T, table *Table) {
			full(table)
			for range 20 {
				for i := range 999 {
					route(table, fmt.Sprintf("/a%d/b%d", i/100, i%100), 200)
				}
			}
			for range 20 {
				route(table, "/new/one", 200)
			}
			ask(t, table, 404, map[string]string{"/new/one": "other"})
			for i := range 3 * epoch {
				route(table, "/"+word(uint64(i))+"/y", 200)
			}
			for range muchMore {
				route(table, "/new/one", 200)
			}
			ask(t, table, 404, map[string]string{"/new/one": "/new/one"})
		},
		"a route that has left comes back as another": func(t *testing.T, table *Table) {
			before := table.Route([]byte("GET"), []byte("/shop/a"), 200)
			for i := range 300 {
				route(table, "/shop/"+word(uint64(i)), 200)
			}
			for range 100 {
				route(table, "/shop/a", 200)
			}
			if after := table.Route([]byte("GET"), []byte("/shop/a"), 200); after == before || after.Name != before.Name {
				t.Error(before, after)
			}
		},
		"does not keep the path": func(t *testing.T, table *Table) {
			path := []byte("/users/me/caf%C3%A9")
			r := table.Route([]byte("GET"), path, 200)
			for i := range path {
				path[i] = 'x'
			}
			if r.Template != "/users/me/café" {
				t.Error(r.Template)
			}
		},
	} {
		t.Run(promise, func(t *testing.T) {
			table := NewTable(nil)
			test(t, table)
			sound(t, table)
		})
	}
}

// full fills a table with 999 routes of one request.
func full(t *Table) {
	for i := range 999 {
		route(t, fmt.Sprintf("/a%d/b%d", i/100, i%100), 200)
	}
}

func TestRulesAndTable(t *testing.T) {
	rules, err := ParseRules("/shop/sale\n/shop/:slug/:page -> /shop/pages\n/never/asked")
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(rules)
	ask(t, table, 200, map[string]string{"/shop/sale": "/shop/sale", "/shop/a/b": "/shop/pages", "/shop/pages": "/shop/pages"})
	ask(t, table, 404, map[string]string{"/shop/sale/": "/shop/sale", "/never/asked": "other"})
	for i := range 100_000 {
		route(table, "/shop/"+word(uint64(i)), 200)
		route(table, fmt.Sprintf("/x%d/y%d", i%10, i), 200)
	}
	full(table)
	ask(t, table, 200, map[string]string{"/shop/sale": "/shop/sale", "/shop/a/b": "/shop/pages", "/never/asked": "/never/asked", "/shop/b": "/shop/*"})
	sound(t, table)
}

func TestARuleHasAPlaceInAFullTable(t *testing.T) {
	rules, err := ParseRules("/never/asked")
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(rules)
	full(table)
	if table.Routes() != MaxRoutes {
		t.Fatal(table.Routes())
	}
	ask(t, table, 200, map[string]string{"/never/asked": "/never/asked"})
	for range 2 {
		full(table)
	}
	for range 2 * muchMore {
		route(table, "/new/one", 200)
	}
	ask(t, table, 404, map[string]string{"/never/asked": "/never/asked", "/new/one": "/new/one"})
	sound(t, table)
}

func TestNoRouteIsAllocatedForAKnownPath(t *testing.T) {
	table := NewTable(rulesOf(MaxRules))
	get, paths := []byte("GET"), []string{"/users/42?a=b", "/users/caf%C3%A9/orders/8a6e0804-2bd0-4672-b79d-d97027f9071a", "/shop/" + word(77), "/" + word(1) + "/x/" + word(1) + "/y", "*"}
	for i := range 300 {
		route(table, "/shop/"+word(uint64(i)), 200)
	}
	for _, path := range paths {
		p := []byte(path)
		table.Route(get, p, 200)
		if n := testing.AllocsPerRun(100, func() { table.Route(get, p, 200) }); n != 0 {
			t.Errorf("%s allocates %v times", path, n)
		}
	}
}

func TestTheSketchIsRarelyFarOff(t *testing.T) {
	s := newSketch()
	var off, far int
	for i := range 4 * epoch {
		n, due := s.add(fmt.Append(nil, i))
		if n > 2 {
			off++
		}
		if n > 4 {
			far++
		}
		if due {
			s.halve()
		}
	}
	t.Logf("%d and %d of %d", off, far, 4*epoch)
	if off > 200 || far > 0 {
		t.Errorf("of %d keys that came once, %d were counted more than twice, %d more than four times", 4*epoch, off, far)
	}
}

func TestTheSketchForgetsNothingAsItGrows(t *testing.T) {
	s := newSketch()
	if small := len(s.lines) * len(s.lines[0]) * 2; small > 256<<10 {
		t.Errorf("it begins with %d bytes", small)
	}
	const keys = 100
	for i := range growAt {
		s.add(fmt.Append(nil, i%keys))
	}
	before := len(s.lines)
	for i := range keys {
		least := growAt/keys + 1
		if n, _ := s.add(fmt.Append(nil, i)); n < least || n > least+2 {
			t.Errorf("%d was counted %d times, and not %d", i, n, least)
		}
	}
	if before != firstBlocks || len(s.lines) != blocks {
		t.Errorf("%d blocks became %d", before, len(s.lines))
	}
}

func TestTheSketchCountsToItsEnd(t *testing.T) {
	s, n := newSketch(), 0
	for range 70_000 {
		n, _ = s.add([]byte("key"))
	}
	if n != 65_535 {
		t.Errorf("70,000 are %d", n)
	}
}

func TestMethods(t *testing.T) {
	for i, name := range methods[1:] {
		if got := methodOf([]byte(name)); got != method(i+1) || methodOf([]byte(strings.ToLower(name))) != otherMethod {
			t.Errorf("%s is %s", name, methods[got])
		}
	}
}
