package routes

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"drain/trial/usual"
)

var methodAndPath = regexp.MustCompile(`method=(\S+) path="([^"]*)"`)

// records are the methods and paths of usual router lines.
func records(lines []string) (methods, paths [][]byte) {
	for _, line := range lines {
		if m := methodAndPath.FindStringSubmatch(line); m != nil {
			methods, paths = append(methods, []byte(m[1])), append(paths, []byte(m[2]))
		}
	}
	return methods, paths
}

func rulesOf(n int) *Rules {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "/%s/:name/%s/:order\n", word(uint64(i%20)), word(uint64(i)))
	}
	r, err := ParseRules(b.String())
	if err != nil {
		panic(err)
	}
	return r
}

func application50k() (methods, paths [][]byte) {
	a, r := newApplication(), rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		name, path := a.request(r)
		methods, paths = append(methods, []byte(name.Method)), append(paths, path)
	}
	return methods, paths
}

func BenchmarkRoute(b *testing.B) {
	for name, lines := range map[string]func() (methods, paths [][]byte){
		"usual lines": func() (methods, paths [][]byte) { return records(usual.Lines(50_000, 1)) },
		"shop":        func() (methods, paths [][]byte) { return records(usual.Shop(50_000, 1)) },
		"300 routes":  application50k,
		"uniform slugs": func() (methods, paths [][]byte) {
			for i := range 50_000 {
				methods, paths = append(methods, []byte("GET")), append(paths, []byte("/shop/"+word(uint64(i*7919%1000))+"/reviews"))
			}
			return methods, paths
		},
		"hostile": func() (methods, paths [][]byte) {
			h := attack{r: rand.New(rand.NewPCG(1, 2))}
			for range 50_000 {
				methods, paths = append(methods, []byte("GET")), append(paths, append([]byte(nil), h.path()...))
			}
			return methods, paths
		},
	} {
		methods, paths := lines()
		for _, rules := range []int{0, MaxRules} {
			b.Run(fmt.Sprintf("%s, %d rules", name, rules), func(b *testing.B) {
				table := NewTable(rulesOf(rules))
				for i := range paths {
					table.Route(methods[i], paths[i], 200)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					table.Route(methods[i%len(paths)], paths[i%len(paths)], 200)
				}
			})
		}
	}
}

func BenchmarkTemplate(b *testing.B) {
	_, paths := records(usual.Lines(50_000, 1))
	var dst []byte
	b.ReportAllocs()
	for i := range b.N {
		dst = AppendTemplate(dst[:0], paths[i%len(paths)])
	}
}

func BenchmarkFold(b *testing.B) {
	counts := make(map[Name]int)
	for i := range 2000 {
		counts[Name{"GET", fmt.Sprintf("/api/v%d/%s/%s/:id", i%3, word(uint64(i%7)), word(uint64(i)))}] = i
	}
	for b.Loop() {
		Fold(counts, nil)
	}
}
