package replay

import (
	"bytes"
	"net/url"
	"strings"
)

const hex = "0123456789ABCDEF"

// AppendTarget appends a recorded path with its query as the target of an HTTP/1.1 request: as it is, but for
// what cannot stand in one. Blanks, control bytes and bytes beyond ASCII are percent-encoded, and so is `#`, which
// would begin a fragment. A path that begins with `//` keeps no more than RFC 3986 allows in one: Address could not
// have it sent otherwise.
func AppendTarget(dst, path []byte) (target []byte, escaped bool) {
	strict := bytes.HasPrefix(path, []byte("//"))
	for i, c := range path {
		strict = strict && c != '?'
		if c > ' ' && c < 0x7f && c != '#' && !(strict && (bytes.IndexByte([]byte("\"<>\\^`{|}"), c) >= 0 || c == '%' && !encoded(path[i:]))) {
			dst = append(dst, c)
			continue
		}
		escaped = true
		dst = append(dst, '%', hex[c>>4], hex[c&15])
	}
	return dst, escaped
}

// encoded tells whether b begins with a percent-encoded byte.
func encoded(b []byte) bool { return len(b) > 2 && digit(b[1]) < 16 && digit(b[2]) < 16 }

// Address is where a request with such a target goes, so that net/http sends the target as it is.
func Address(scheme, host, target string) *url.URL {
	if !strings.HasPrefix(target, "//") {
		return &url.URL{Scheme: scheme, Host: host, Opaque: target}
	}
	// What is opaque and begins so is taken for another host.
	path, query, hasQuery := strings.Cut(target, "?")
	plain, _ := url.PathUnescape(path) // AppendTarget saw to that
	return &url.URL{Scheme: scheme, Host: host, Path: plain, RawPath: path, RawQuery: query, ForceQuery: hasQuery}
}

// unescape undoes percent-encoding in place, and leaves what is none.
func unescape(b []byte) []byte {
	out := b[:0]
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && encoded(b[i:]) {
			out = append(out, digit(b[i+1])<<4|digit(b[i+2]))
			i += 2
			continue
		}
		out = append(out, b[i])
	}
	return out
}

// digit is the value of a hexadecimal digit, 16 for what is none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}
