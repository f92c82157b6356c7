package routes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ReadRules reads a file of rules, see ParseRules; of one that is too large, no more than shows that. The
// error names the file.
func ReadRules(name string) (*Rules, error) {
	text, err := readText(name, MaxRulesText+1)
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err // without the name
		}
		return nil, fmt.Errorf("cannot read %q: %w: set it to a file that can be read", name, err)
	}
	rules, err := ParseRules(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return rules, nil
}

// readText reads a file's first bytes, as many as most.
func readText(name string, most int64) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
	return string(text), err
}
