package routes

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxRules is how many rules a Table can have.
	MaxRules = 500
	// MaxRulesText bounds the text of rules, in bytes.
	MaxRulesText = 128 << 10
)

// Rules are the user's own routes. They are not changed after ParseRules and safe
// for concurrent use. A nil *Rules has none.
type Rules struct {
	rules []rule
	root  pattern
	names map[string]bool
}

type rule struct {
	method method // 0: any
	name   string // what the route is called
}

// pattern is a node of the trie of patterns.
type pattern struct {
	static map[string]*pattern
	param  *pattern
	ends   []int // rules that end here, in their order
	rest   []int // those that end with a * here
	least  int   // the first rule at or below this node
}

// ParseRules reads rules, one a line, the first that matches wins:
//
//	# comment
//	/users/:name/orders/:order
//	/assets/*
//	GET /search/:words -> /search
//
// `:name` takes one segment, `*` at the end takes the rest, one segment or more. A
// method in front restricts the rule to it; a rule for GET does not match HEAD. Behind
// `->` stands what the route is called, else it is called as its pattern. A pattern's
// last slash does not count, as a path's does not. Segments compare with the decoded
// ones of a path, and case matters.
//
// An error names the line and what is accepted there. At most MaxRules rules and
// MaxRulesText bytes are.
func ParseRules(text string) (*Rules, error) {
	if len(text) > MaxRulesText {
		return nil, fmt.Errorf("reading the rules for routes: the text has %d bytes, at most %d are read; fold several patterns into one", len(text), MaxRulesText)
	}
	r := &Rules{names: make(map[string]bool)}
	for i, line := range strings.Split(text, "\n") {
		if line, _, _ = strings.Cut(" "+line, " #"); strings.TrimSpace(line) == "" {
			continue
		}
		if err := r.add(line); err != nil {
			return nil, fmt.Errorf("reading the rules for routes: line %d: %w", i+1, err)
		}
	}
	return r, nil
}

func (r *Rules) add(line string) error {
	if len(r.rules) == MaxRules {
		return fmt.Errorf("too many rules: at most %d are read; fold several patterns into one", MaxRules)
	}
	left, name, named := strings.Cut(line, "->")
	words := strings.Fields(left)
	var m method
	if len(words) == 2 {
		if m = methodOf([]byte(words[0])); m == otherMethod {
			return fmt.Errorf("%q is no method; one of %s is, in capitals, or none for any", words[0], strings.Join(methods[1:otherMethod], ", "))
		}
		words = words[1:]
	}
	if len(words) != 1 {
		return fmt.Errorf("%q is no rule; one reads `/users/:name`, `GET /users/:name` or `/users/:name -> /users/one`", strings.TrimSpace(line))
	}
	segments, err := parsePattern(words[0])
	if err != nil {
		return err
	}
	called := "/" + strings.Join(segments, "/")
	if named {
		if called = strings.TrimSpace(name); !isName(called) {
			return fmt.Errorf("%q cannot be a route's name; a name begins with / and has at most %d bytes and no spaces", called, maxTemplate)
		}
	}
	r.insert(segments, rule{m, called})
	return nil
}

func parsePattern(s string) ([]string, error) {
	if s[0] != '/' || !isName(s) {
		return nil, fmt.Errorf("%q is no pattern; a pattern begins with / and has at most %d bytes", s, maxTemplate)
	}
	segments := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	if len(segments) > maxDepth {
		return nil, fmt.Errorf("%q has %d segments; a pattern has at most %d", s, len(segments), maxDepth)
	}
	for i, segment := range segments {
		switch {
		case segment == anything:
			if i < len(segments)-1 {
				return nil, fmt.Errorf("%q has a * that is not its end; write `:name` for one segment", s)
			}
		case segment[0] == ':':
			if len(segment) == 1 || strings.ContainsFunc(segment[1:], func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
				return nil, fmt.Errorf("%q in %q is no name for a segment; `:` and letters, digits and _ are, for a whole segment", segment, s)
			}
		case strings.ContainsAny(segment, "*?#;%"):
			return nil, fmt.Errorf("%q in %q matches no path; a segment is written decoded and without a query, as `:name`, or, the last one, as `*`", segment, s)
		}
	}
	return segments, nil
}

// isName tells whether s may be shown as a route's name.
func isName(s string) bool {
	return s != "" && s[0] == '/' && len(s) <= maxTemplate && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == ' ' })
}

func (r *Rules) insert(segments []string, of rule) {
	index := len(r.rules)
	r.rules = append(r.rules, of)
	r.names[of.name] = true
	at := &r.root
	for _, segment := range segments {
		switch {
		case segment == anything:
			at.rest = append(at.rest, index)
			return
		case segment[0] == ':':
			if at.param == nil {
				at.param = &pattern{least: index}
			}
			at = at.param
		default:
			if at.static == nil {
				at.static = make(map[string]*pattern)
			}
			if at.static[segment] == nil {
				at.static[segment] = &pattern{least: index}
			}
			at = at.static[segment]
		}
	}
	at.ends = append(at.ends, index)
}

// match is the first rule that matches, -1 without one.
func (r *Rules) match(m method, p *parts) int {
	if r == nil || len(r.rules) == 0 || p.noPath {
		return -1
	}
	best := len(r.rules)
	r.search(&r.root, m, p.segments[:p.n], &best)
	if best == len(r.rules) {
		return -1
	}
	return best
}

// search looks below a node for a rule before the best. It goes at most once to each
// node, so that its time is bounded by the rules and not by the path.
func (r *Rules) search(at *pattern, m method, rest [][]byte, best *int) {
	if at.least >= *best {
		return
	}
	if len(rest) == 0 {
		r.first(at.ends, m, best)
		return
	}
	r.first(at.rest, m, best)
	if next := at.static[string(rest[0])]; next != nil {
		r.search(next, m, rest[1:], best)
	}
	if at.param != nil {
		r.search(at.param, m, rest[1:], best)
	}
}

func (r *Rules) first(of []int, m method, best *int) {
	for _, i := range of {
		if i >= *best {
			return
		}
		if r.rules[i].method == 0 || r.rules[i].method == m {
			*best = i
			return
		}
	}
}

// named tells whether a rule calls its route so.
func (r *Rules) named(template []byte) bool { return r != nil && r.names[string(template)] }
