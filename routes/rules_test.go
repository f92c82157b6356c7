package routes

import (
	"fmt"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	const text = `
# the shop
/users/me
/users/:name/orders/:order   # one order
GET /users/:name -> /users/somebody
`
	rules, err := ParseRules(text + "/users/:name\r\nPOST /m/:x\n/m/one\nGET /m/:y\n/assets/*\n/blog/:year/* -> /blog\n/blog/:a/:b\n/café/:x\n/\n/x//y/\n/x/*\n/*\n")
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(rules)
	for request, want := range map[string]string{
		"GET /users/me":                      "/users/me",
		"GET /users/jane/orders/7?a=b":       "/users/:name/orders/:order",
		"GET /users/jane":                    "/users/somebody",
		"GET //users//jane/":                 "/users/somebody",
		"HEAD /users/jane":                   "/users/:name",
		"POST /users/jane;v=1":               "/users/:name",
		"GET /assets/a/b/c.css":              "/assets/*",
		"GET /m/one":                         "/m/one",
		"GET /m/two":                         "/m/:y",
		"POST /m/one":                        "/m/:x",
		"GET /assets":                        "/*",
		"GET /blog/2024/my-post":             "/blog",
		"GET /caf%C3%A9/1":                   "/café/:x",
		"GET /":                              "/",
		"GET http://example.org/x/y":         "/x/y",
		"GET /x/z":                           "/x/*",
		"GET /x/y/z":                         "/x/*",
		"GET /users/jane/orders":             "/*",
		"GET /a/b/c/d/e/f/g/h/i/j/k":         "/*",
		"OPTIONS *":                          "*",
		"GET /" + strings.Repeat("a/", 4000): "/*",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := table.Route([]byte(method), []byte(path), 200); got.Template != want || got.Method != method {
			t.Errorf("%s is %v, should be %s", request, got.Name, want)
		}
	}
}

func TestRulesThatCannotBeReadAreSaidWithTheirLine(t *testing.T) {
	for text, says := range map[string]string{
		"/a\nb":                              `line 2: "b" is no pattern; a pattern begins with /`,
		"/a/*/b":                             "a * that is not its end",
		"/a/:":                               "is no name for a segment",
		"/a/:b.json":                         "is no name for a segment",
		"/a/b*":                              "matches no path",
		"/a?b=c":                             "matches no path",
		"/a%20b":                             "matches no path",
		"get /a":                             `"get" is no method; one of GET, HEAD`,
		"OTHER /a":                           "is no method",
		"GET /a /b":                          "is no rule",
		"-> /b":                              "is no rule",
		"/a -> b":                            "a name begins with /",
		"/a -> /b c":                         "a name begins with /",
		"/a -> /" + strings.Repeat("b", 200): "at most 200 bytes",
		"/a -> /\xff":                        "a name begins with /",
		"/" + strings.Repeat("a/", 17):       "a pattern has at most 16",
		"/" + strings.Repeat("a", 200):       "at most 200 bytes",
		strings.Repeat("/a\n", 501):          "line 501: too many rules: at most 500",
		strings.Repeat("#\n", 65537):         "at most 131072 are read",
	} {
		if _, err := ParseRules(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.30q: the error is %v, should say %s", text, err, says)
		}
	}
}

// The first rule that matches wins: the trie is compared with a look at one rule after
// another.
func FuzzRules(f *testing.F) {
	f.Add("/a/:b\n/:a/b\nGET /*\n/a/*", "/a/b", true)
	f.Add("/:a/:b/:c\n/a/:b/*\n/:x/b/c\n/a/b/c", "/a/b/c", false)
	f.Fuzz(func(t *testing.T, text, path string, get bool) {
		rules, err := ParseRules(text)
		if err != nil {
			return
		}
		m := methodOf([]byte("POST"))
		if get {
			m = methodOf([]byte("GET"))
		}
		var p parts
		p.split([]byte(path))
		want := -1
		i := 0
		for _, line := range strings.Split(text, "\n") {
			line, _, _ = strings.Cut(" "+line, " #")
			line, _, _ = strings.Cut(line, "->")
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if want < 0 && !p.noPath && (len(words) == 1 || words[0] == methods[m]) && matches(words[len(words)-1], p.segments[:p.n]) {
				want = i
			}
			i++
		}
		if got := rules.match(m, &p); got != want {
			t.Errorf("%q matches rule %d, should match %d of %q", path, got, want, text)
		}
	})
}

func matches(pattern string, segments [][]byte) bool {
	for _, s := range strings.FieldsFunc(pattern, func(r rune) bool { return r == '/' }) {
		switch {
		case s == "*":
			return len(segments) > 0
		case len(segments) == 0, s[0] != ':' && s != string(segments[0]):
			return false
		}
		segments = segments[1:]
	}
	return len(segments) == 0
}

func BenchmarkRules(b *testing.B) {
	var text strings.Builder
	for i := range MaxRules { // the worst: all of them are possible to the end
		fmt.Fprintf(&text, "/%s/%s/%s/x%d\n", []string{"a", ":p"}[i&1], []string{"a", ":p"}[i>>1&1], []string{"a", ":p"}[i>>2&1], i)
	}
	rules, err := ParseRules(text.String())
	if err != nil {
		b.Fatal(err)
	}
	table := NewTable(rules)
	method, path := []byte("GET"), []byte("/a/a/a/a")
	for b.Loop() {
		table.Route(method, path, 200)
	}
}
