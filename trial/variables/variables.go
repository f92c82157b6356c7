// Package variables is an environment for the tests of commands.
package variables

import (
	"maps"
	"strings"
)

// Vars are environment variables.
type Vars map[string]string

// Lookup is os.LookupEnv of them.
func (v Vars) Lookup(name string) (string, bool) { value, ok := v[name]; return value, ok }

// With is v with further ones: name, value, name, value …
func (v Vars) With(more ...string) Vars {
	if v = maps.Clone(v); v == nil {
		v = make(Vars)
	}
	for i := 0; i < len(more); i += 2 {
		v[more[i]] = more[i+1]
	}
	return v
}

// Flags are the same settings as flags.
func (v Vars) Flags() (args []string) {
	for name, value := range v {
		args = append(args, Flag(name)+"="+value)
	}
	return args
}

// Flag is the flag of a setting.
func Flag(name string) string { return "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-")) }
