package variables

import (
	"strings"
	"testing"

	"drain/settings"
)

// Setting is a value of a setting that is not its default, another value of it, and where the first
// arrives in a command's configuration.
type Setting[C any] struct {
	Name, Value, Other string
	Got                func(C) any
	Want               any
}

// Arrives fails the test unless a setting arrives as a variable and as a flag, and the flag wins over the variable.
// beside are variables that it needs.
func Arrives[C any](t *testing.T, s Setting[C], beside Vars, read func(*testing.T, Vars, ...string) (C, error)) {
	t.Helper()
	flag := Vars{s.Name: s.Value}.Flags()
	for way, try := range map[string]struct {
		env  Vars
		args []string
	}{
		"variable":            {beside.With(s.Name, s.Value), nil},
		"flag":                {beside.With(), flag},
		"flag and a variable": {beside.With(s.Name, s.Other), flag},
	} {
		c, err := read(t, try.env, try.args...)
		if err != nil {
			t.Errorf("%s: %v", way, err)
		} else if got := s.Got(c); got != s.Want {
			t.Errorf("%s: %v, want %v", way, got, s.Want)
		}
	}
}

// Refusal is settings that cannot be used, and what is to be said of them: the name of one, and what it
// accepts.
type Refusal struct {
	Env            Vars
	Args           []string
	Names, Accepts string
}

// Refusals are a setting with values that it does not take, each as a variable and as a flag.
func Refusals(name, accepts string, values ...string) (all []Refusal) {
	for _, value := range values {
		all = append(all, Refusal{Vars{name: value}, nil, name, accepts}, Refusal{nil, Vars{name: value}.Flags(), name, accepts})
	}
	return all
}

// Refused fails the test unless err, of a command that was told r, is one clear line that ends it with status
// 2, and shows nothing of loot.
func Refused(t *testing.T, r Refusal, command, loot string, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("is used")
	}
	var shown strings.Builder
	if status := settings.ExitStatus(command, err, &shown); status != 2 {
		t.Errorf("exit status %d", status)
	}
	text := shown.String()
	if !strings.Contains(text, r.Names) && !strings.Contains(text, Flag(r.Names)) || !strings.Contains(text, r.Accepts) {
		t.Errorf("%q does not name %s and %s", text, r.Names, r.Accepts)
	}
	if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\x1b\x00") || len(text) > 500 {
		t.Errorf("%q is not one clear line", text)
	}
	if strings.Contains(text, loot) {
		t.Errorf("shows a secret: %q", text)
	}
}
