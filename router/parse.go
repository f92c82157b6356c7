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
	text = bytes.TrimRight(text, " \r\t")
	i := p.readTail(r, text, cut)
	open := r.tail > 0 && r.tail == len(text)
	last := numKeys // the known key before, numKeys if there is none
	for {
		for i < len(text) && text[i] == ' ' {
			i++
		}
		if i >= len(text) {
			break
		}
		eq := i
		for eq < len(text) && text[eq] != '=' && text[eq] != ' ' {
			eq++
		}
		if eq == len(text) { // a word at the end: the line was cut in a key
			r.Truncated = true
			break
		}
		if text[eq] == ' ' || eq == i { // a word that is no pair
			end := nextSpace(text, i)
			r.setExtra(span{i, end}, span{end, end})
			i = end
			continue
		}
		k, known := lookup(text[i:eq])
		if !known {
			k = numKeys
		}
		v, next, closed := readValue(r, text, eq+1, k, last)
		if !closed {
			r.Truncated = true
		}
		open = k == Path && v.end == len(text)
		if known {
			r.setKnown(k, v)
		} else {
			r.setExtra(span{i, eq}, v)
			r.pairs++
		}
		i, last = next, k
	}
	switch {
	case r.pairs == 0:
		r.extra, r.Truncated = r.extra[:0], false
	case r.tail > 0:
		r.Truncated = true
	case cut && r.seen&(1<<Bytes) == 0:
		r.Truncated = true // every whole line has bytes, nearly its last key
	}
	if r.seen&(1<<Host) != 0 && !r.Truncated {
		r.loose = false
	}
	p.open = open || p.open && r.tail == 0
}

// pieceSize is a length that every piece of an overlong line but its last
// exceeds: senders cut lines at some 10,000 bytes.
const pieceSize = 4096

// readTail finds the end of a path that began in an earlier piece of the line,
// notes it in r and returns where the keys begin.
func (p *Parser) readTail(r *Record, text []byte, cut bool) int {
	if eq := bytes.IndexByte(text, '='); eq > 0 {
		if _, known := lookup(text[:eq]); known {
			return 0
		}
	}
	quote, _ := closePath(text, 0)
	switch {
	case p.open, cut && len(text) >= pieceSize:
		if quote < 0 {
			quote = nextKnown(text, 0)
		}
		if quote < 0 {
			r.tail = len(text)
			return r.tail
		}
	case quote < 0 || bytes.Contains(text[:quote], []byte("path=")):
		return 0
	}
	r.tail = quote
	return quote + 1
}

// readValue reads the value of k that begins at i; last is the key before it.
func readValue(r *Record, text []byte, i int, k, last Key) (v span, next int, closed bool) {
	if i == len(text) || text[i] != '"' {
		end := nextSpace(text, i)
		switch k {
		case Path, Fwd, Desc, Cause, Agent:
			// Written without quotes, such a value may hold spaces.
			for end < len(text) && !isKeyAt(text, end+1) {
				end = nextSpace(text, end+1)
			}
		}
		return span{i, end}, end, true
	}
	i++
	quote := -1
	switch {
	case k == Path && last == Method:
		var twice bool
		quote, twice = closePath(text, i)
		r.Forged = r.Forged || twice
		r.loose = quote < 0
	case k == Fwd && (last == RequestID || last == Host):
		quote = closeFwd(text, i)
	}
	if quote < 0 {
		quote = closeQuote(text, i)
	}
	if quote < 0 {
		return span{i, len(text)}, len(text), false
	}
	return span{i, quote}, quote + 1, true
}

// closePath finds the quote that closes a path whose text begins at i: the last
// one before ` host=`, where the line goes on as the router writes it or ends;
// -1 if there is none. twice says that there were two such places.
func closePath(text []byte, i int) (quote int, twice bool) {
	anchor := []byte(`" host=`)
	quote = -1
	for end := len(text); ; {
		n := bytes.LastIndex(text[i:end], anchor)
		if n < 0 {
			return quote, false
		}
		n += i
		rest := text[nextSpace(text, n+len(anchor)):]
		if bytes.HasPrefix(rest, []byte(" request_id=")) || bytes.HasPrefix(rest, []byte(" fwd=")) || len(rest) == 0 {
			if quote >= 0 {
				return quote, true
			}
			quote = n
		}
		end = n
	}
}

// closeFwd finds the quote that closes a fwd whose text begins at i: the last one
// before ` dyno=`, where the line goes on as the router writes it or ends.
func closeFwd(text []byte, i int) int {
	anchor := []byte(`" dyno=`)
	n := bytes.LastIndex(text[i:], anchor)
	if n < 0 {
		return -1
	}
	n += i
	rest := text[nextSpace(text, n+len(anchor)):]
	if bytes.HasPrefix(rest, []byte(" connect=")) || bytes.HasPrefix(rest, []byte(" queue=")) || len(rest) == 0 {
		return n
	}
	return -1
}

// closeQuote finds the first quote at or after i that stands before ` key=` or at
// the line's end.
func closeQuote(text []byte, i int) int {
	for {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		rest := i + 1
		for rest < len(text) && text[rest] == ' ' {
			rest++
		}
		if rest == len(text) || rest > i+1 && isKeyAt(text, rest) {
			return i
		}
		i++
	}
}

// isKeyAt tells whether `key=` stands at i.
func isKeyAt(text []byte, i int) bool {
	j := i
	for j < len(text) && isKeyByte[text[j]] {
		j++
	}
	return j > i && j < len(text) && text[j] == '='
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
		if isKeyAt(text, i+1) {
			eq := bytes.IndexByte(text[i+1:], '=') + i + 1
			if _, known := lookup(text[i+1 : eq]); known {
				return i
			}
		}
		i++
	}
}

// nextSpace is the place of the first space at or after i, or the text's end.
func nextSpace(text []byte, i int) int {
	if i >= len(text) {
		return len(text)
	}
	if n := bytes.IndexByte(text[i:], ' '); n >= 0 {
		return i + n
	}
	return len(text)
}
