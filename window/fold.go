package window

import "unicode/utf8"

// Request is what is folded of one.
type Request struct {
	Second           int64 // of the event, since 1970 UTC
	App, Dyno, Code  []byte
	Method, Route    string
	Status           int   // 100 to 999, else it is none
	Bytes            int64 // -1 for none
	Service, Connect int64 // milliseconds, -1 for none
}

// Fold holds requests of any seconds, until Windows makes chunks of them. It is not
// for concurrent use.
type Fold struct {
	// Requests that were added since Reset.
	Requests int

	names   names
	dynos   int // names of dynos
	apps    int // names of apps
	seconds map[int64]*second
	cells   int
	last    *second // the one added to
	lastAt  int64
	free    []*Cell
	unused  []*second
	encoder encoder
}

// second is what came of one.
type second struct{ byDyno, byRoute table }

// The bounds of a Fold, on what it holds and on how different it may be. Apps and
// dynos beyond are Other.
const (
	maxSeconds    = 2000
	maxFoldCells  = 40_000
	maxApps       = 250
	maxDynos      = 1000
	maxNameLength = 100 // bytes of an app or a dyno
)

// NewFold makes one.
func NewFold() *Fold {
	f := &Fold{seconds: make(map[int64]*second)}
	f.names.reset()
	return f
}

// Full tells that what was added should be taken out before more is.
func (f *Fold) Full() bool {
	return len(f.seconds) >= maxSeconds || f.cells >= maxFoldCells || f.names.full()
}

// Add adds a request. It keeps nothing of r's bytes.
func (f *Fold) Add(r *Request) {
	s := f.last
	if s == nil || r.Second != f.lastAt {
		s = f.second(r.Second)
	}
	app := f.name(r.App, &f.apps, maxApps)
	code := f.code(r.Code)
	status := uint16(0)
	if 100 <= r.Status && r.Status <= 999 {
		status = uint16(r.Status)
	}
	before := len(s.byDyno.cells) + len(s.byRoute.cells)
	dyno := s.byDyno.cell(ids{app: app, dyno: f.name(r.Dyno, &f.dynos, maxDynos), code: code, status: status})
	add(dyno, r)
	if r.Connect >= 0 { // is a matter of dynos, not of routes
		dyno.Connect.Add(r.Connect)
	}
	add(s.byRoute.cell(ids{app: app, method: f.names.id(r.Method), route: f.names.id(r.Route), code: code, status: status}), r)
	f.cells += len(s.byDyno.cells) + len(s.byRoute.cells) - before
	f.Requests++
}

func add(c *Cell, r *Request) {
	c.Requests++
	if r.Bytes > 0 {
		c.Bytes = min(c.Bytes+min(r.Bytes, maxSum), maxSum)
	}
	if r.Service >= 0 {
		c.Service.Add(r.Service)
	}
}

func (f *Fold) second(at int64) *second {
	s := f.seconds[at]
	if s == nil {
		if n := len(f.unused); n > 0 {
			s, f.unused = f.unused[n-1], f.unused[:n-1]
		} else {
			s = &second{f.table(), f.table()}
		}
		f.seconds[at] = s
	}
	f.last, f.lastAt = s, at
	return s
}

func (f *Fold) table() table { return table{make(map[ids]*Cell), &f.free} }

// name is the number of an app's or a dyno's name, of which there may be most different
// ones, cut where it is too long.
func (f *Fold) name(b []byte, count *int, most int) uint16 {
	if len(b) > maxNameLength {
		end := maxNameLength
		for end > maxNameLength-utf8.UTFMax && !utf8.RuneStart(b[end]) {
			end--
		}
		b = b[:end]
	}
	if id, ok := f.names.ids[string(b)]; ok {
		return id
	}
	if *count >= most || !utf8.Valid(b) {
		return otherName
	}
	*count++
	return f.names.id(string(b))
}

// code is the number of a code: a letter and two digits, any other is Other.
func (f *Fold) code(b []byte) uint16 {
	if len(b) == 0 {
		return noName
	}
	if len(b) != 3 || b[0] < 'A' || b[0] > 'Z' || b[1] < '0' || b[1] > '9' || b[2] < '0' || b[2] > '9' {
		return otherName
	}
	if id, ok := f.names.ids[string(b)]; ok {
		return id
	}
	return f.names.id(string(b))
}

// Reset empties f.
func (f *Fold) Reset() {
	for at, s := range f.seconds {
		s.byDyno.release()
		s.byRoute.release()
		f.unused = append(f.unused, s)
		delete(f.seconds, at)
	}
	// What a burst needed is not kept for ever.
	f.unused = shorten(f.unused, keptSeconds)
	f.free = shorten(f.free, keptCells)
	f.names.reset()
	f.dynos, f.apps, f.cells, f.Requests, f.last = 0, 0, 0, 0, nil
}

func shorten[T any](s []*T, most int) []*T {
	if len(s) <= most {
		return s
	}
	clear(s[most:])
	return s[:most]
}

const (
	keptSeconds = 16
	keptCells   = 8 << 10
)
