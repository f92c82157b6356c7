package routes

import (
	"testing"
)

func route(t *Table, path string, status int) string {
	return t.Route([]byte("GET"), []byte(path), status).Template
}

func TestTable(t *testing.T) {
	for promise, test := range map[string]func(*testing.T, *Table){
		"names a new route at its first request": func(t *testing.T, table *Table) {
			for path, want := range map[string]string{"/": "/", "/users/42?a=b": "/users/:id", "*": "*", "/users/": "/users"} {
				if got := route(table, path, 200); got != want {
					t.Errorf("%s is %s, should be %s", path, got, want)
				}
			}
		},
	} {
		t.Run(promise, func(t *testing.T) { test(t, NewTable(nil)) })
	}
}
