package ingest

import (
	"math"

	"github.com/tickwire/tickwire/pkg/market"
)

// source is one venue as this partition sees it: how far its time has come, and which instruments have bars that will
// become final. Time is event time alone, and never goes back.
type source struct {
	name string
	now  market.Time
	due  dueHeap
}

// never is the due time of an instrument without open bars.
const never = market.Time(math.MaxInt64)

// dueHeap is a binary heap of a source's instruments, that with the earliest due bar on top; instruments due at the same
// instant go by their number, so that the order of events never depends on the heap's history. A clock that nothing waits
// for costs one comparison.
type dueHeap []*instrument

func (h dueHeap) before(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].def.ID < h[j].def.ID
}

func (h dueHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

// add puts an instrument in; it stays for good.
func (h *dueHeap) add(it *instrument) {
	it.heapAt = len(*h)
	*h = append(*h, it)
	h.fix(it)
}

// fix restores the order after it.due has changed.
func (h dueHeap) fix(it *instrument) {
	i := it.heapAt
	for i > 0 && h.before(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// advance moves the source's time to t, unless it is there already, and finalises what that makes due, earliest first.
func (c *core) advance(s *source, t market.Time) {
	if t <= s.now {
		return
	}
	s.now = t
	for len(s.due) > 0 && s.due[0].due <= t {
		it := s.due[0]
		c.bars = it.series.Advance(it.due, c.bars[:0])
		c.emitBars(it)
	}
}

// source returns the source of that name, which it creates when there is room for it.
func (c *core) source(name string) *source {
	for _, s := range c.sources {
		if s.name == name {
			return s
		}
	}
	if len(c.sources) >= maxSources {
		return nil
	}
	s := &source{name: name}
	c.sources = append(c.sources, s)
	return s
}
