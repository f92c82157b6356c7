package window

// Stats sums up cells, of whatever keys the caller chooses. The zero Stats is empty.
type Stats struct {
	Requests, Bytes  int64
	Errors           int64         // of status 500 and more, or with a code
	Status           map[int]int64 // requests by status, those without one left out
	Codes            map[string]int64
	Service, Connect Histogram
}

// Add adds a cell.
func (s *Stats) Add(k *Key, c *Cell) {
	if s.Status == nil {
		s.Status, s.Codes = make(map[int]int64), make(map[string]int64)
	}
	s.Requests += c.Requests
	s.Bytes = min(s.Bytes+c.Bytes, maxSum)
	if k.Status >= 500 || k.Code != "" {
		s.Errors += c.Requests
	}
	if k.Status > 0 {
		s.status(k.Status, c.Requests)
	}
	if k.Code != "" {
		s.code(k.Code, c.Requests)
	}
	s.Service.Add(&c.Service)
	s.Connect.Add(&c.Connect)
}

// maxKinds bounds the statuses and the codes that are told apart: of more, a status is its class's
// lowest, a code Other.
const maxKinds = 80

func (s *Stats) status(status int, n int64) {
	if _, known := s.Status[status]; !known && len(s.Status) >= maxKinds {
		status = status / 100 * 100
	}
	s.Status[status] += n
}

func (s *Stats) code(code string, n int64) {
	if _, known := s.Codes[code]; !known && len(s.Codes) >= maxKinds {
		code = Other
	}
	s.Codes[code] += n
}

// Merge adds all of other.
func (s *Stats) Merge(other *Stats) {
	if s.Status == nil {
		s.Status, s.Codes = make(map[int]int64), make(map[string]int64)
	}
	s.Requests += other.Requests
	s.Bytes = min(s.Bytes+other.Bytes, maxSum)
	s.Errors += other.Errors
	for k, n := range other.Status {
		s.status(k, n)
	}
	for k, n := range other.Codes {
		s.code(k, n)
	}
	s.Service.Merge(&other.Service)
	s.Connect.Merge(&other.Connect)
}

// Reset empties s.
func (s *Stats) Reset() {
	s.Requests, s.Bytes, s.Errors = 0, 0, 0
	clear(s.Status)
	clear(s.Codes)
	s.Service.Reset()
	s.Connect.Reset()
}

// Filter chooses cells. Its zero value takes all; dyno and route cannot be chosen
// together, since no table has both.
type Filter struct {
	App, Dyno     *string // nil for any
	Method, Route *string
	Status        int // 404, or a class by its hundreds: 5; 0 for any
}

// Takes tells whether a cell with this key is chosen.
func (f *Filter) Takes(k *Key) bool {
	return (f.App == nil || *f.App == k.App) && (f.Dyno == nil || *f.Dyno == k.Dyno) &&
		(f.Method == nil || *f.Method == k.Method) && (f.Route == nil || *f.Route == k.Route) &&
		(f.Status == 0 || f.Status == k.Status || f.Status < 10 && f.Status == k.Status/100)
}

// ByRoute tells whether the table by route is what f asks; else it is the one by dyno.
func (f *Filter) ByRoute() bool { return f.Route != nil || f.Method != nil }
