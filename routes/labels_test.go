package routes

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// labels reads a file of paths and what a maintainer would call their routes.
func labels(t *testing.T, name string) (paths, want []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if path, label, ok := strings.Cut(lines.Text(), "\t"); ok && !strings.HasPrefix(path, "#") {
			paths, want = append(paths, path), append(want, label)
		}
	}
	return paths, want
}

// agrees tells whether a template is what the label says. {} in a label is a name that
// somebody chose: as it stands in the path, and :id, are both right.
func agrees(path, template, label string) bool {
	if template == label {
		return true
	}
	got, want, raw := strings.Split(template, "/"), strings.Split(label, "/"), strings.Split(path, "/")
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if got[i] == want[i] {
			continue
		}
		if !strings.Contains(want[i], "{}") || got[i] != raw[i] && got[i] != strings.ReplaceAll(want[i], "{}", ":id") && got[i] != ":id" {
			return false
		}
	}
	return true
}

func TestTemplatesAreWhatAMaintainerWouldCallTheRoutes(t *testing.T) {
	for _, set := range []struct {
		name  string
		least float64
	}{{"testdata/labelled.tsv", 0.98}, {"testdata/heldout.tsv", 0.90}} {
		paths, want := labels(t, set.name)
		right := 0
		for i, path := range paths {
			if got := string(AppendTemplate(nil, []byte(path))); agrees(path, got, want[i]) {
				right++
			} else {
				t.Logf("%s\n\tis     %s\n\tshould %s", path, got, want[i])
			}
		}
		share := float64(right) / float64(len(paths))
		t.Logf("%s: %d of %d right, %.1f %%", set.name, right, len(paths), 100*share)
		if share < set.least || len(paths) < 100 {
			t.Errorf("%s: %.1f %% of %d are right, should be %.0f %% at least", set.name, 100*share, len(paths), 100*set.least)
		}
	}
}

func TestTemplatesAreBounded(t *testing.T) {
	letters := strings.Repeat("letters-", 8) // 64
	for path, want := range map[string]string{
		"/cart%3Bjsessionid=1/x":                        "/cart/x",
		"/" + letters:                                   "/" + letters,
		"/" + letters + "s":                             "/:id",
		"/" + letters + "s.json":                        "/:id.json",
		"/" + letters[:61] + "(7)/x":                    "/:id/x", // :id would make it longer
		strings.Repeat("/"+letters, 4):                  strings.Repeat("/"+letters, 3) + "/*",
		strings.Repeat("/a", 8):                         strings.Repeat("/a", 8),
		strings.Repeat("/a", 9):                         strings.Repeat("/a", 7) + "/*",
		strings.Repeat("/a", 4096):                      strings.Repeat("/a", 7) + "/*",
		strings.Repeat("/%61%62%63", 17):                strings.Repeat("/abc", 7) + "/*",
		"/" + strings.Repeat("%61", 2700):               "/:id",
		strings.Repeat("/%61"+letters+letters[:50], 17): strings.Repeat("/:id", 7) + "/*",
	} {
		if got := string(AppendTemplate(nil, []byte(path))); got != want {
			t.Errorf("%.80s is %s, should be %s", path, got, want)
		}
	}
}
