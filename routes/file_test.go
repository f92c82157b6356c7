package routes

import "testing"

// A file without an end is not read to its end.
func TestRoutesAreReadAsFarAsTheyMatter(t *testing.T) {
	if text, err := readText("/dev/zero", MaxRulesText+1); err != nil || len(text) != MaxRulesText+1 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
