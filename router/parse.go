package router

import "bytes"

// Parser reads router lines. Between the lines of one frame it remembers whether
// the last one was cut inside its path, since the next one may then be the rest
// of it. The zero Parser is ready; use one per frame, from one goroutine.
type Parser struct {
	open bool // a line ended inside its path, and its rest has not been seen
}

// Reset makes p ready for another frame.
func (p *Parser) Reset() { p.open = false }

// Parse reads the text of a router line into r, which borrows from it. cut says
// that the line lacks the newline which ends it.
//
//	at=info method=GET path="/a?b=c" host=h request_id=… fwd="1.2.3.4" dyno=web.1 …
//	^key=value         ^quoted, runs to the    the same, to the ^
//	                    last `" host=`          last `" dyno=`
//
// Keys come in any order. There are no escapes: what a client sends stands in
// path and fwd as it is, quotes and all. So these two run as far as they can
// where the line has the router's order; any other quote closes only before
// ` key=` or the line's end.
func (p *Parser) Parse(r *Record, text []byte, cut bool) {
	r.reset(text)
	r.cut = cut
	p.readTail(r)
	s := r.scan()
	for s.next() {
		if !s.word {
			r.pairs++
		}
		if s.key < numKeys {
			r.setKnown(s.key, s.value)
		} else {
			r.setExtra(s.name, s.value)
		}
	}
	r.Forged = r.Forged || s.twice
	r.anchored = r.anchored || s.anchored

	// Every whole line has bytes, nearly its last key.
	r.Truncated = r.pairs > 0 && (s.broken || r.tail > 0 || cut && !r.has(Bytes))
	r.loose = (r.has(Path) || r.tail > 0) && (!r.has(Bytes) || !r.anchored && !r.has(Host))
	p.open = r.loose || p.open && r.tail == 0
}

// pieceSize is a length that every piece of an overlong line but its last
// exceeds: senders cut lines at some 10,000 bytes.
const pieceSize = 4096

// readTail finds the end of a path that began in an earlier piece of the line,
// and where the keys begin.
func (p *Parser) readTail(r *Record) {
	text := r.line
	start := skipSpaces(text, 0)
	begins := beginsWithKey(text[start:])
	mayBeRest := p.open || len(text) >= pieceSize && (r.cut || !begins)
	if begins && !mayBeRest {
		return
	}
	quote, _ := closePath(text, start)
	head := text[start:]
	if quote >= 0 {
		head = text[start:quote]
	}
	switch {
	case mayBeRest && beginsAsWritten(head):
		return
	case mayBeRest:
		if quote < 0 && !r.cut {
			quote = nextKnown(text, start)
		}
		if quote < 0 {
			quote = len(text)
		}
	case quote < 0 && !bytes.ContainsRune(text[start:nextSpace(text, start)], '='):
		// No line begins with a word that is no pair, but the rest of one may.
		if quote = nextKnown(text, start); quote < 0 {
			return
		}
	case quote < 0, hasPath(head):
		return
	}
	r.tail, r.anchored = quote, true
	r.keys = min(quote+1, len(text))
}

// beginsWithKey tells whether text begins with a key of the router's. No line of
// its begins with code, but a piece of one may: `code=` is what OAuth answers.
func beginsWithKey(text []byte) bool {
	return isKnownAt(text, 0) && !hasPrefix(text, "code=")
}

// beginsAsWritten tells whether text begins as the router begins a line.
func beginsAsWritten(text []byte) bool {
	return hasPrefix(text, "at=info ") || hasPrefix(text, "at=error ") || hasPrefix(text, "at=warning ") || hasPrefix(text, "sock=")
}

// hasPath tells whether a path begins in text.
func hasPath(text []byte) bool {
	return bytes.Contains(text, []byte(` path="`)) || bytes.Contains(text, []byte(" path=/"))
}

// scanner reads the pairs of a line, one after another.
type scanner struct {
	text []byte
	i    int  // where to go on
	cut  bool // the line lacks its newline
	last Key  // the key before, numKeys if it is none that is known

	// The pair that was read. Without a `=` it is a word, which has no value.
	key         Key // numKeys if it is none that is known
	name, value span
	word        bool

	// Of the pairs so far:
	seenPath, seenFwd bool
	anchored          bool // the path ends before ` host=`
	twice             bool // path or fwd could end in two places
	broken            bool // the line ends in a key, or before a closing quote
}

// scan makes a scanner of the pairs of r's line.
func (r *Record) scan() scanner {
	text := r.line
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] == '\r' || text[len(text)-1] == '\t') {
		text = text[:len(text)-1]
	}
	return scanner{text: text, i: min(r.keys, len(text)), cut: r.cut, last: numKeys}
}

// next reads the next pair. There is none in a line's last word without `=`,
// where the line was cut in a key.
func (s *scanner) next() bool {
	text := s.text
	i := skipSpaces(text, s.i)
	if u := &usual[s.last]; hasPrefix(text[i:], u.begin) {
		s.read(u.key, i, i+len(u.begin)-1)
		return true
	}
	eq := i
	for eq < len(text) && text[eq] != '=' && text[eq] != ' ' {
		eq++
	}
	if eq >= len(text) {
		s.broken = s.broken || eq > i
		return false
	}
	if s.word = text[eq] == ' ' || eq == i; s.word {
		s.i = nextSpace(text, i)
		s.key, s.name, s.value = numKeys, span{i, s.i}, span{s.i, s.i}
		return true
	}
	k, _ := lookup(text[i:eq])
	s.read(k, i, eq)
	return true
}

// usual says which key comes next in most lines, so that it need not be looked
// up.
var usual = [numKeys + 1]struct {
	key   Key
	begin string
}{
	At: {Method, "method="}, Code: {Desc, "desc="}, Desc: {Method, "method="}, Sock: {At, "at="}, Cause: {Method, "method="},
	Method: {Path, "path="}, Path: {Host, "host="}, Host: {RequestID, "request_id="}, RequestID: {Fwd, "fwd="}, Fwd: {Dyno, "dyno="},
	Dyno: {Connect, "connect="}, Connect: {Service, "service="}, Service: {Status, "status="}, Status: {Bytes, "bytes="},
	Bytes: {Protocol, "protocol="}, Protocol: {TLS, "tls="}, TLSVersion: {Protocol, "protocol="}, Agent: {Method, "method="},
	TLS: {TLSVersion, "tls_version="}, numKeys: {At, "at="},
}

// read reads the pair of k, whose name begins at i and ends at eq.
func (s *scanner) read(k Key, i, eq int) {
	s.key, s.name, s.word = k, span{i, eq}, false
	s.readValue(eq + 1)
	s.last = k
}

// readValue reads the value that begins at i.
func (s *scanner) readValue(i int) {
	text := s.text
	if i == len(text) || text[i] != '"' {
		end := nextSpace(text, i)
		switch s.key {
		case Path, Fwd, Desc, Cause, Agent:
			// Written without quotes, such a value may hold spaces.
			for next := skipSpaces(text, end); next < len(text) && !s.isKeyAt(next); next = skipSpaces(text, end) {
				end = nextSpace(text, next)
			}
		}
		s.value, s.i = span{i, end}, end
		return
	}
	i++
	quote, twice := -1, false
	switch {
	case s.key == Path && s.last == Method && !s.seenPath:
		quote, twice = closePath(text, i)
		s.anchored = quote >= 0
	case s.key == Fwd && (s.last == RequestID || s.last == Host) && !s.seenFwd:
		quote, twice = closeFwd(text, i)
	}
	s.twice = s.twice || twice
	s.seenPath, s.seenFwd = s.seenPath || s.key == Path, s.seenFwd || s.key == Fwd
	if quote < 0 {
		quote = s.closeQuote(i)
	}
	if quote < 0 {
		s.broken = true
		s.value, s.i = span{i, len(text)}, len(text)
		return
	}
	s.value, s.i = span{i, quote}, quote+1
}

// closePath finds the quote that closes a path whose text begins at i.
func closePath(text []byte, i int) (quote int, twice bool) {
	return closeLast(text, i, `" host=`, " request_id=", " fwd=")
}

// closeFwd finds the quote that closes a fwd whose text begins at i.
func closeFwd(text []byte, i int) (quote int, twice bool) {
	return closeLast(text, i, `" dyno=`, " connect=", " queue=")
}

// closeLast finds the last quote at or after i that begins anchor, where the line
// goes on as the router writes it, with one of two keys, or ends; -1 if there is
// none. twice says that there were two such places.
func closeLast(text []byte, i int, anchor, next, orNext string) (quote int, twice bool) {
	quote = -1
	for ; ; i++ {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			return quote, twice
		}
		i += n
		if !hasPrefix(text[i:], anchor) {
			continue
		}
		rest := text[nextSpace(text, i+len(anchor)):]
		if hasPrefix(rest, next) || hasPrefix(rest, orNext) || len(rest) == 0 {
			quote, twice = i, quote >= 0
		}
	}
}

// closeQuote finds the first quote at or after i that stands before ` key=` or at
// the line's end.
func (s *scanner) closeQuote(i int) int {
	for ; ; i++ {
		n := bytes.IndexByte(s.text[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		next := skipSpaces(s.text, i+1)
		if next == len(s.text) || next > i+1 && s.isKeyAt(next) {
			return i
		}
	}
}

// isKeyAt tells whether `key=` stands at i, or as much of it as a cut line has.
func (s *scanner) isKeyAt(i int) bool {
	end := keyEnd(s.text, i)
	return end > i && (end < len(s.text) && s.text[end] == '=' || end == len(s.text) && s.cut)
}

func keyEnd(text []byte, i int) int {
	for i < len(text) && isKeyByte[text[i]] {
		i++
	}
	return i
}

var isKeyByte = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") {
		t[c] = true
	}
	return t
}()

// nextKnown finds the first space at or after i that stands before a known
// `key=`, or -1.
func nextKnown(text []byte, i int) int {
	for {
		i = nextSpace(text, i)
		if i == len(text) {
			return -1
		}
		if isKnownAt(text, i+1) {
			return i
		}
		i++
	}
}

// isKnownAt tells whether a known `key=` stands at i.
func isKnownAt(text []byte, i int) bool {
	end := keyEnd(text, i)
	if end == len(text) || text[end] != '=' {
		return false
	}
	_, known := lookup(text[i:end])
	return known
}

// nextSpace is the place of the first space at or after i, or the text's end.
func nextSpace(text []byte, i int) int {
	if i >= len(text) {
		return len(text)
	}
	if i+8 <= len(text) { // most values are short
		space := word(text, i) ^ ones*' '
		if stops := (space - ones) &^ space & highs; stops != 0 {
			return i + firstMark(stops)
		}
		i += 8
	}
	if n := bytes.IndexByte(text[i:], ' '); n >= 0 {
		return i + n
	}
	return len(text)
}

// skipSpaces is the place of the first byte at or after i that is no space, or
// the text's end.
func skipSpaces(text []byte, i int) int {
	for i < len(text) && text[i] == ' ' {
		i++
	}
	return i
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
