package routes

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// hostile is how many paths nobody should ask for: fewer under the race detector,
// which is ten times as slow.
func hostile() int {
	if raced {
		return 200_000
	}
	return 5_000_000
}

// some is n, or fewer under the race detector, but more than an epoch.
func some(n int) int {
	if raced {
		return min(n, epoch*5/4)
	}
	return n
}

// lost are the routes of the application that the table does not list.
func (a *application) lost(t *Table) (lost []Name) {
	r := rand.New(rand.NewPCG(9, 9))
	for i, want := range a.routes {
		// A 404 is counted under the route that is there, and makes none.
		if got := t.Route([]byte(want.Method), a.path(i, r), 404); got.Name != want {
			lost = append(lost, want)
		}
	}
	return lost
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHostilePathsPushOutNoRouteOfTheApplication(t *testing.T) {
	a := newApplication()
	requests := func(table *Table, n int) {
		r := rand.New(rand.NewPCG(3, 3))
		for range n {
			name, path := a.request(r)
			table.Route([]byte(name.Method), path, 200)
		}
	}
	for order, run := range map[string]func(*Table, *attack){
		"the application first, and then only they": func(table *Table, h *attack) {
			requests(table, 100_000)
			for range hostile() {
				table.Route([]byte("GET"), h.path(), 200)
			}
		},
		"they before the application": func(table *Table, h *attack) {
			for range hostile() {
				table.Route([]byte("GET"), h.path(), 200)
			}
			requests(table, 100_000)
		},
		"five of them to one of the application, each of whose requests has its name from half time on": func(table *Table, h *attack) {
			r, n := rand.New(rand.NewPCG(4, 4)), hostile()/5
			misnamed := make(map[Name]int)
			for i := range n {
				for range 5 {
					table.Route([]byte("GET"), h.path(), 200)
				}
				name, path := a.request(r)
				if got := table.Route([]byte(name.Method), path, 200); got.Name != name && i > n/2 {
					misnamed[name]++
				}
			}
			if len(misnamed) > 0 && !raced {
				t.Errorf("names that the application's requests did not get: %v", misnamed)
			}
		},
		"the application first, and then they, half of them not found": func(table *Table, h *attack) {
			requests(table, 100_000)
			for i := range hostile() / 5 {
				table.Route([]byte("GET"), h.path(), 200+204*(i&1))
			}
		},
	} {
		t.Run(order, func(t *testing.T) {
			before := heap()
			table := NewTable(nil)
			run(table, &attack{r: rand.New(rand.NewPCG(5, 5))})
			sound(t, table)
			if lost := a.lost(table); len(lost) > 0 {
				t.Errorf("%d routes are not there: %v", len(lost), lost)
			}
			if table.Routes() > MaxRoutes {
				t.Errorf("%d routes are listed, %d at most should be", table.Routes(), MaxRoutes)
			}
			after := heap()
			t.Logf("%d routes, %.1f MB", table.Routes(), float64(after-before)/1e6)
			if after-before > 32<<20 {
				t.Errorf("the table holds %d bytes", after-before)
			}
			runtime.KeepAlive(table)
		})
	}
}
