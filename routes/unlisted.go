package routes

// Unlisted tells of the record of the last Route that was given Other: its method, and, where it was
// its status that made no route, the template it would have. That is borrowed until the next
// Route. Another writer may list the template, or this one soon: then Fold's reader can count
// the record for it.
func (t *Table) Unlisted(status int) (method string, template []byte, ok bool) {
	if len(t.name) < 2 {
		return "", nil, false
	}
	return methods[t.name[0]], t.name[1:], !makesRoute(status)
}
