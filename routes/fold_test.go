package routes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// shownOf are the names that are shown for counts, and their requests.
func shownOf(counts map[Name]int, rules *Rules) map[Name]int {
	sums := make(map[Name]int)
	for from, to := range Fold(counts, rules) {
		sums[to] += counts[from]
	}
	return sums
}

func get(counts map[string]int) map[Name]int {
	names := make(map[Name]int)
	for template, n := range counts {
		if template == Other.Template {
			names[Other] = n
			continue
		}
		names[Name{"GET", template}] = n
	}
	return names
}

func TestFold(t *testing.T) {
	none := map[string]int{}
	slugs := func(n, count int, more map[string]int) map[string]int {
		counts := maps.Clone(more)
		for i := range n {
			counts[fmt.Sprint("/shop/", word(uint64(i)))] = count
		}
		return counts
	}
	rules, err := ParseRules("/shop/:a/rare -> /shop/rare")
	if err != nil {
		t.Fatal(err)
	}
	for promise, test := range map[string]struct {
		counts, want map[string]int
	}{
		"leaves few names as they are": {
			map[string]int{"/": 1, "/users/:id": 3, "/users/me": 1, "*": 1, "/a/:id.json": 1},
			map[string]int{"/": 1, "/users/:id": 3, "/users/me": 1, "*": 1, "/a/:id.json": 1},
		},
		"early slugs join those that were folded, and what is frequent stays": {
			map[string]int{"/shop/*": 5_000_000, "/shop/blue-shirt": 1, "/shop/red-shirt": 3, "/shop/sale": 100, "/shop/:id": 4},
			map[string]int{"/shop/*": 5_000_004, "/shop/sale": 100, "/shop/:id": 4},
		},
		"what writers kept stays, alone beside a *": {
			map[string]int{"/users/*": 5_000_000, "/users/me": 16, "/users/settings": 20},
			map[string]int{"/users/*": 5_000_000, "/users/me": 16, "/users/settings": 20},
		},
		"fifteen requests are too few beside a *": {
			map[string]int{"/users/*": 1, "/users/me": 15},
			map[string]int{"/users/*": 16},
		},
		"what is below early slugs joins, too": {
			map[string]int{"/shop/*/reviews": 50, "/shop/blue/reviews": 1, "/shop/blue/reviews/:id": 1, "/shop/red": 1},
			map[string]int{"/shop/*/reviews": 51, "/shop/*/reviews/:id": 1, "/shop/*": 1},
		},
		"two hundred children stay":      {slugs(200, 1, none), slugs(200, 1, none)},
		"two hundred and one fold":       {slugs(201, 50, none), map[string]int{"/shop/*": 201 * 50}},
		"but those that are frequent":    {slugs(201, 2, map[string]int{"/shop/sale": 16}), map[string]int{"/shop/*": 402, "/shop/sale": 16}},
		"eight times the mean is needed": {slugs(300, 10, map[string]int{"/shop/sale": 79}), map[string]int{"/shop/*": 3079}},
		"names that rules give stay":     {slugs(201, 2, map[string]int{"/shop/rare": 1}), map[string]int{"/shop/*": 402, "/shop/rare": 1}},
		"other stays, and takes what no table gives": {
			map[string]int{"other": 5, "": 1, string(make([]byte, maxTemplate+1)): 1},
			map[string]int{"other": 7},
		},
	} {
		t.Run(promise, func(t *testing.T) {
			got := shownOf(get(test.counts), rules)
			if !maps.Equal(got, get(test.want)) {
				t.Errorf("is %v, should be %v", got, test.want)
			}
			if again := shownOf(got, rules); !maps.Equal(again, got) {
				t.Errorf("folded again it is %v, was %v", again, got)
			}
		})
	}
}

func TestFoldShowsAtMostAThousandNames(t *testing.T) {
	counts := map[Name]int{Other: 1}
	for i := range 3000 {
		counts[Name{methods[i%5+1], fmt.Sprintf("/a%d/b%d", i%50, i)}] = i
	}
	got := shownOf(counts, nil)
	if len(got) != MaxRoutes {
		t.Errorf("%d names are shown", len(got))
	}
	for name, n := range counts {
		if _, ok := got[name]; name != Other && ok != (n >= 3000-999) {
			t.Errorf("%v with %d requests: shown is %v", name, n, ok)
		}
	}
}

func TestFoldKeepsAtMost200ChildrenByNameWhereTheyAreEqual(t *testing.T) {
	counts := map[Name]int{{"GET", "/shop/*"}: 1}
	var names []string
	for i := range 300 {
		names = append(names, "/shop/"+word(uint64(i)))
		counts[Name{"GET", names[i]}] = 100
	}
	slices.Sort(names)
	got := shownOf(counts, nil)
	// 100 of 300 do not stay, and the others are no more frequent than they.
	if len(got) != 1 {
		t.Errorf("%d names are shown", len(got))
	}
	for _, name := range names[:201] {
		counts[Name{"GET", name}] = 100_000
	}
	if got = shownOf(counts, nil); len(got) != 201 || got[Name{"GET", names[199]}] == 0 || got[Name{"GET", names[200]}] != 0 {
		t.Errorf("%d names are shown", len(got))
	}
}

func TestFoldTakesEqualNamesByTheirOrder(t *testing.T) {
	counts := make(map[Name]int)
	for i := range 3000 {
		counts[Name{"GET", fmt.Sprintf("/a%02d/b%04d", i/100, i)}] = 7
	}
	for range 3 {
		got := shownOf(counts, nil)
		if len(got) != MaxRoutes || got[Name{"GET", "/a09/b0998"}] != 7 || got[Name{"GET", "/a09/b0999"}] != 0 {
			t.Errorf("%d names are shown", len(got))
		}
	}
}

func TestFoldDoesNotDependOnAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := make(map[Name]int)
		n, kinds := rapid.IntRange(1, 3000).Draw(t, "names"), rapid.IntRange(1, 60).Draw(t, "prefixes")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range n {
			template := fmt.Sprintf("/%s/%s", word(r.Uint64N(uint64(kinds))), word(r.Uint64N(1000)))
			switch r.IntN(20) {
			case 0:
				template = fmt.Sprintf("/%s/*/x", word(r.Uint64N(uint64(kinds))))
			case 1:
				template += "/:id"
			}
			counts[Name{methods[r.IntN(3)+1], template}] = r.IntN(50) // many are equal
		}
		first := Fold(counts, nil)
		for range 3 {
			if !maps.Equal(Fold(maps.Clone(counts), nil), first) {
				t.Fatal("the same counts are folded in another way")
			}
		}
		for from := range counts {
			if _, ok := first[from]; !ok {
				t.Fatalf("%v is lost", from)
			}
		}
		shown := shownOf(counts, nil)
		if len(shown) > MaxRoutes {
			t.Fatalf("%d names are shown", len(shown))
		}
	})
}

func TestRecordsSplitOverTablesFoldToTheSameRoutes(t *testing.T) {
	a, most := newApplication(), 60_000
	if raced {
		most = 5_000
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		tables, n := rapid.IntRange(2, 6).Draw(t, "tables"), rapid.IntRange(1, most).Draw(t, "requests")
		slugs := rapid.SampledFrom([]uint64{1, 100, 250, 1000, 100_000}).Draw(t, "slugs")
		one, split, several := map[Name]int{}, map[Name]int{}, make([]*Table, tables)
		for i := range several {
			several[i] = NewTable(nil)
		}
		all := NewTable(nil)
		for i := range n {
			name, path := a.request(r)
			if i%4 == 0 {
				name, path = Name{Method: "GET"}, []byte("/shop/"+word(r.Uint64N(slugs)))
			}
			one[all.Route([]byte(name.Method), path, 200).Name]++
			split[several[r.IntN(tables)].Route([]byte(name.Method), path, 200).Name]++
		}
		if got, want := shownOf(split, nil), shownOf(one, nil); !maps.Equal(got, want) {
			t.Fatalf("split they are %v, by one table %v", sorted(got), sorted(want))
		}
	})
}

func sorted(names map[Name]int) (s []string) {
	for name, n := range names {
		s = append(s, fmt.Sprint(name.Method, " ", name.Template, " ", n))
	}
	slices.Sort(s)
	return s
}
