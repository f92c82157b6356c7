package window

import (
	"cmp"
	"slices"
)

// Chunk is what is to be appended to one window: to its table by dyno, and to its
// table by route.
type Chunk struct {
	Resolution      Resolution
	Start           int64 // seconds since 1970 UTC
	ByDyno, ByRoute []byte
}

// group is the seconds of a Fold that lie in one window.
type group struct {
	start           int64
	tables          *second
	byDyno, byRoute []byte // their chunks, if they were made
}

// Chunks makes the chunks of all windows, of every resolution, that requests were added
// to and that are kept at now, in seconds since 1970 UTC. The bytes are the caller's.
func (f *Fold) Chunks(now int64) []Chunk {
	var chunks []Chunk
	groups := make([]group, 0, len(f.seconds))
	for at, s := range f.seconds {
		groups = append(groups, group{start: at, tables: s})
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.start, b.start) })
	var merged []*second
	for _, r := range Resolutions {
		coarser := groups[:0]
		for i := 0; i < len(groups); {
			start, n := r.Start(groups[i].start), 1
			for i+n < len(groups) && r.Start(groups[i+n].start) == start {
				n++
			}
			g := groups[i] // one that is alone keeps its chunks: a chunk does not say of which window it is
			if n > 1 {
				g = group{tables: &second{f.table(), f.table()}}
				merged = append(merged, g.tables)
				for _, finer := range groups[i : i+n] {
					g.tables.byDyno.merge(&finer.tables.byDyno)
					g.tables.byRoute.merge(&finer.tables.byRoute)
				}
			}
			g.start = start
			if r.Kept(start, now) {
				if g.byDyno == nil {
					g.tables.byRoute.boundRoutes(&f.names)
					g.byDyno = f.encoder.append(nil, &g.tables.byDyno, &f.names)
					g.byRoute = f.encoder.append(nil, &g.tables.byRoute, &f.names)
				}
				chunks = append(chunks, Chunk{r, start, g.byDyno, g.byRoute})
			}
			coarser = append(coarser, g)
			i += n
		}
		groups = coarser
	}
	for _, s := range merged {
		s.byDyno.release()
		s.byRoute.release()
	}
	return chunks
}

// Merger makes one chunk of many. It is not for concurrent use.
type Merger struct {
	reader  Reader
	encoder encoder
	names   names
	table   table
	free    []*Cell
}

// Merge makes one chunk of all the chunks of one table of a window. What is too different for
// it becomes Other. The result is the caller's. An error is ErrChunk's.
func (m *Merger) Merge(chunks []byte) ([]byte, error) {
	if m.table.cells == nil {
		m.table = table{make(map[ids]*Cell), &m.free}
	}
	m.names.reset()
	defer func() {
		m.table.release()
		m.free = shorten(m.free, keptCells)
	}()
	err := m.reader.Each(chunks, func(k *Key, c *Cell) {
		m.table.cell(ids{
			app: m.name(k.App), dyno: m.name(k.Dyno), method: m.name(k.Method), route: m.name(k.Route), code: m.name(k.Code),
			status: uint16(k.Status),
		}).Merge(c)
	})
	if err != nil {
		return nil, err
	}
	m.table.boundRoutes(&m.names)
	return m.encoder.append(nil, &m.table, &m.names), nil
}

func (m *Merger) name(s string) uint16 {
	if m.names.full() {
		if id, ok := m.names.ids[s]; ok {
			return id
		}
		return otherName
	}
	return m.names.id(s)
}
