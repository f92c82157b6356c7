package routes

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// has is which classes of bytes s has.
func has(s []byte) (h uint8) {
	for _, c := range s {
		h |= classes[c]
	}
	return h
}

func isDigits(s []byte) bool { return len(s) > 0 && has(s) == digit }

func isHex(s []byte) bool {
	for _, c := range s {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

func isPrintable(s []byte) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

// isErrorPage tells whether s is the number of a page for an error.
func isErrorPage(s []byte) bool {
	switch string(s) {
	case "400", "401", "403", "404", "405", "406", "410", "422", "429", "500", "502", "503", "504":
		return true
	}
	return false
}

// isShortDecimal: 1.0, 2.10 are versions of an API.
func isShortDecimal(s []byte) bool {
	i := bytes.IndexByte(s, '.')
	return i > 0 && i <= 2 && len(s)-i-1 > 0 && len(s)-i-1 <= 2 && isDigits(s[:i]) && isDigits(s[i+1:])
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		if (i == 8 || i == 13 || i == 18 || i == 23) != (c == '-') || c != '-' && !isHex(s[i:i+1]) {
			return false
		}
	}
	return true
}

// isNumeric: numbers, dates, times, versions, addresses, phone numbers, sizes.
func isNumeric(s []byte) bool {
	digits, letters := 0, 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == 'T', c == 'Z', c == 'W', c == 'Q', c == 'x':
			letters++
		case c != '-' && c != '+' && c != '.' && c != ':' && c != '_' && c != ',' && c != '~':
			return false
		}
	}
	return digits > 0 && (letters == 0 || letters <= 2 && digits >= 4 && classes[s[0]] == digit)
}

// isVersion: v1.4.2 and 1.4.2-beta.1 are values; v1, v2.1 and v1beta1 are not.
func isVersion(s []byte) bool {
	if s[0] == 'v' || s[0] == 'V' {
		s = s[1:]
	}
	for n := 0; n < 3; n++ {
		i := 0
		for i < len(s) && classes[s[i]] == digit {
			i++
		}
		if i == 0 {
			return false
		}
		if s = s[i:]; n == 2 {
			break
		}
		if len(s) == 0 || s[0] != '.' {
			return false
		}
		s = s[1:]
	}
	return len(s) == 0 || s[0] == '-' || s[0] == '.' || s[0] == '+'
}

// isNumbered tells whether a name has a number that counts things: five digits in a
// row, or four that are no year; or a date.
func isNumbered(s []byte) bool {
	for i := 0; i < len(s); i++ {
		if classes[s[i]] != digit {
			continue
		}
		j := i
		for j < len(s) && classes[s[j]] == digit {
			j++
		}
		switch n := j - i; {
		case n >= 5:
			return !isHexRun(s, i, j)
		case n == 4 && j+6 <= len(s) && s[j] == '-' && isDigits(s[j+1:j+3]) && s[j+3] == '-' && isDigits(s[j+4:j+6]):
			return true
		}
		i = j
	}
	return false
}

// isHexRun tells whether the digits s[i:j] stand in a longer hexadecimal number.
func isHexRun(s []byte, i, j int) bool {
	for i > 0 && classes[s[i-1]]&(lower|upper|digit) != 0 {
		i--
	}
	for k := j; k < len(s) && classes[s[k]]&(lower|upper|digit) != 0; k++ {
		j = k + 1
	}
	return has(s[i:j])&(lower|upper) != 0 && isHex(s[i:j])
}

// isValue tells whether a segment of letters, digits and joining marks is a value.
func isValue(s []byte) bool {
	if len(s) == 0 {
		return false
	}
	h := has(s)
	if h&digit == 0 && h&(lower|upper) != lower|upper {
		// Words, unless only a number has such letters.
		return len(s) >= 8 && isHex(s)
	}
	if isNumeric(s) || isUUID(s) || isVersion(s) || bytes.HasPrefix(s, []byte("eyJ")) && len(s) >= 20 {
		return true
	}
	runs, switches := 0, 0
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && classes[s[j]]&(mark|punct) == 0 {
			j++
		}
		if r := s[i:j]; len(r) > 0 {
			runs++
			if isToken(r) || isNumbered(r) {
				return true
			}
			rh := has(r)
			switches += oddness(r).switches
			if runs > 1 && len(r) >= 10 && rh&(lower|upper|digit) == lower|upper|digit && classes[r[len(r)-1]] != digit {
				return true // behind the prefix that tells an id's kind
			}
		}
		i = j + 1
	}
	return isReference(s) || isFourDigits(s) ||
		len(s) > 20 && h&(lower|upper|digit) == lower|upper|digit && switches >= 3
}

// isReference: PROJ-123, ORD-2024-000123.
func isReference(s []byte) bool {
	i := bytes.IndexAny(s, "-_")
	if i <= 0 || has(s[:i]) != upper || has(s)&lower != 0 {
		return false
	}
	for _, part := range bytes.FieldsFunc(s[i+1:], func(r rune) bool { return r == '-' || r == '_' }) {
		if isDigits(part) {
			return true
		}
	}
	return false
}

// isFourDigits tells whether s ends with four digits that are no year.
func isFourDigits(s []byte) bool {
	n := len(s) - 4
	return n > 1 && classes[s[n-1]] == mark && isDigits(s[n:]) && s[n] != '2' && !(s[n] == '1' && s[n+1] == '9')
}

// isDigest tells whether a run in a file's name is one.
func isDigest(r []byte) bool {
	return len(r) >= 6 && isHex(r) && has(r)&digit != 0 || len(r) >= 8 && isToken(r)
}

// isBuilt tells whether files with such an extension come from a build, so that a
// number in their name is a digest and no name.
func isBuilt(end []byte) bool {
	switch string(end) {
	case ".js", ".mjs", ".css", ".js.map", ".css.map", ".wasm", ".woff", ".woff2":
		return true
	}
	return false
}

// isShortDigest is for what bundlers put behind a name: eight characters of base64url.
func isShortDigest(s []byte) bool {
	h := has(s)
	if h&^(lower|upper|digit|mark) != 0 || h&(lower|upper) != lower|upper || bytes.IndexByte(s, '.') >= 0 {
		return false
	}
	o := oddness(s)
	return h&digit != 0 && o.switches >= 1 && classes[s[0]] != digit && !isDigits(s[6:]) || o.switches+o.rare+o.humps/2 >= 2 && o.humps+o.rare >= 3
}

// isToken tells whether a run of letters and digits was made by a machine.
func isToken(r []byte) bool {
	h, n := has(r), len(r)
	if isHex(r) && (n >= 8 || n == 7 && h&digit != 0 && h&(lower|upper) != 0) {
		return true
	}
	if n < 6 || h&high != 0 {
		return false
	}
	o := oddness(r)
	if h&digit != 0 {
		switch {
		case n > 20 && o.switches >= 2:
			return true
		case n >= 8 && h&lower == 0 && o.switches >= 2 && h&upper != 0: // B0123ABCD
			return true
		case n < 8:
			return o.switches+o.rare >= 4
		}
	} else if n < 10 || h&upper == 0 {
		return false
	}
	score := 2*o.switches + 2*o.rare + o.humps
	return score >= 6 && 10*score >= 6*n
}

// odds are the signs that a run is no word.
type odds struct {
	switches int // between letters and digits
	rare     int // pairs of letters that words hardly have
	humps    int // a capital behind a small letter
}

func oddness(r []byte) (o odds) {
	for i := 1; i < len(r); i++ {
		a, b := classes[r[i-1]], classes[r[i]]
		const letter = lower | upper
		switch {
		case a&letter != 0 && b == digit, a == digit && b&letter != 0:
			o.switches++
		case a == lower && b == upper:
			o.humps++
		case a&letter != 0 && b&letter != 0:
			if usualPairs[r[i-1]|0x20-'a']>>(r[i]|0x20-'a')&1 == 0 {
				o.rare++
			}
		}
	}
	return o
}

// usualPairs has bit b of letter a set where a word may have b behind a: the pairs which
// are one in 12,000 or more in the comments of Go's own source.
var usualPairs = [26]uint32{
	0x1febd6e, 0x11e4b17, 0x13edddd, 0x17e7b7d, 0x1fffdff, 0x11e493d, 0x01e79d5, 0x01e5111,
	0x2aefc7f, 0x0140010, 0x0142951, 0x17ecd7f, 0x01cdd1b, 0x13efd7f, 0x0fefd7f, 0x11ecddd,
	0x0100000, 0x17efd7f, 0x15ffdfd, 0x1def9ff, 0x08ef97f, 0x044511d, 0x0066991, 0x0088115,
	0x00eb904, 0x0000111,
}

// extension splits a known extension off, or two: `.js.map`, `.sql.gz`. Without one,
// or without a name before it, end is empty.
func extension(s []byte) (name, end []byte) {
	cut := len(s)
	for {
		i := bytes.LastIndexByte(s[:cut], '.')
		if i <= 0 || cut-i > 1+maxExtension || !isExtension(s[i+1:cut]) {
			return s[:cut], s[cut:]
		}
		cut = i
	}
}

const maxExtension = 12

func isExtension(s []byte) bool {
	switch string(s) {
	case "json", "xml", "html", "htm", "xhtml", "php", "asp", "aspx", "jsp", "do", "cgi", "js", "mjs", "cjs", "css", "map", "ts", "tsx", "wasm",
		"png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "tif", "tiff", "heic",
		"woff", "woff2", "ttf", "otf", "eot",
		"pdf", "csv", "tsv", "txt", "md", "rtf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ics", "vcf", "epub",
		"zip", "gz", "tgz", "tar", "bz2", "xz", "zst", "br", "7z", "rar", "sql", "bak", "log", "parquet", "ndjson", "jsonl",
		"mp3", "mp4", "m4a", "m4s", "m4v", "mov", "webm", "ogg", "wav", "avi", "m3u8", "mpd", "vtt",
		"rss", "atom", "yml", "yaml", "toml", "webmanifest", "jsonp", "geojson", "pkpass", "apk", "exe", "dmg", "bin", "pbf", "mvt":
		return true
	}
	return false
}
