package routes

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func FuzzTemplate(f *testing.F) {
	for _, path := range []string{"", "/", "*", "//", "/;", "/%", "/%zz/%00", "/\xff\xfe", "http://", "a:b", "/a&b=c", "/:id/:x/*", "/(1)", "/@/~/:", "/a:/:1:", "/" + strings.Repeat("a/", 4096), "/" + strings.Repeat("é", 4096),
		"/" + strings.Repeat(strings.Repeat("word-", 12)+"/", 9), "/a.b.c.json.gz", "/.json", "/@2x.png", "/x@2x.png", "/token=[REDACTED]", "/\u202e/\u00a0", "/a(\u0000)", "/users/42.json.js.map", "/sha256:" + strings.Repeat("ab", 32)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		given := []byte(path)
		template := AppendTemplate([]byte("before "), given)
		if string(given) != path || !bytes.HasPrefix(template, []byte("before ")) {
			t.Fatalf("%q: the path or what is before was changed", path)
		}
		template = template[len("before "):]
		if len(template) > maxTemplate || !utf8.Valid(template) || len(template) == 0 {
			t.Fatalf("%q is %q", path, template)
		}
		if string(template) != anything && (template[0] != '/' || bytes.Count(template, []byte("/")) > maxSegments || bytes.Contains(template, []byte("//"))) {
			t.Fatalf("%q is %q", path, template)
		}
		for _, r := range string(template) {
			if !unicode.IsPrint(r) || strings.ContainsRune(` "<>\%?#;`, r) {
				t.Fatalf("%q is %q, which has %q", path, template, r)
			}
		}
		// What is cut reads `*`, which is no segment that a client can ask for.
		if again := AppendTemplate(nil, template); !bytes.Equal(again, template) && !bytes.HasSuffix(template, []byte("/*")) {
			t.Fatalf("%q is %q, and that is %q", path, template, again)
		}
		if bytes.HasSuffix(template, []byte("/*")) && bytes.Count(template, []byte("/")) < maxSegments && len(template) < maxTemplate-maxStatic-len("/*") {
			t.Fatalf("%q is cut: %q", path, template)
		}
	})
}

// FuzzTable asks for paths, one a line, the status by the line's first byte, often
// enough that all that a table does is done.
func FuzzTable(f *testing.F) {
	f.Add("2/a/b\n4/a/c\n2*\n2/", uint8(250))
	f.Add("2/w*/x\n2/:id\n2/a.json", uint8(3))
	f.Fuzz(func(t *testing.T, text string, times uint8) {
		table := NewTable(nil)
		for i := range int(times) {
			for _, line := range strings.Split(text, "\n") {
				if len(line) == 0 {
					continue
				}
				status := 200
				if line[0] == '4' {
					status = 404
				}
				path := strings.ReplaceAll(line[1:], "w", word(uint64(i)))
				if r := table.Route([]byte(methods[1+i%9]), []byte(path), status); len(r.Template) > maxTemplate || !utf8.ValidString(r.Template) {
					t.Fatalf("%q is %q", path, r.Template)
				}
			}
		}
		sound(t, table)
	})
}
