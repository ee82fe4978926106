package sim

import (
	"cmp"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// side is one side of a book: worst level first, best last, because nearly everything happens at the best. Prices count
// in ticks away from the side's own zero: toward(p) grows as a price gets better, on either side.
type side struct {
	levels []market.Level
	sign   market.Price // +1 for bids, -1 for asks
	dirty  []change
}

// change is a level that has changed since the last record, and its size behind that; 0 is none.
type change struct {
	market.Level
	before market.Size
}

func (s *side) toward(p market.Price) market.Price { return p * s.sign }

func (s *side) best() market.Price { return s.levels[len(s.levels)-1].Price }

// at returns the index of the level that is rank places below the best.
func (s *side) at(rank int) int { return max(len(s.levels)-1-rank, 0) }

// find returns where the price is, or would go.
func (s *side) find(p market.Price) (int, bool) {
	return slices.BinarySearchFunc(s.levels, s.toward(p), func(l market.Level, p market.Price) int {
		return cmp.Compare(s.toward(l.Price), p)
	})
}

// set puts a size at a price, 0 to delete, and notes the change.
func (s *side) set(p market.Price, size market.Size) {
	i, there := s.find(p)
	before := market.Size(0)
	if there {
		before = s.levels[i].Size
	}
	switch {
	case there && size == 0:
		s.levels = slices.Delete(s.levels, i, i+1)
	case there:
		s.levels[i].Size = size
	case size > 0:
		s.levels = slices.Insert(s.levels, i, market.Level{Price: p, Size: size})
	default:
		return
	}
	s.note(change{market.Level{Price: p, Size: size}, before})
}

// note keeps one entry per price: the change since the last record.
func (s *side) note(c change) {
	for i := range s.dirty {
		if s.dirty[i].Price == c.Price {
			s.dirty[i].Size = c.Size
			return
		}
	}
	s.dirty = append(s.dirty, c)
}

// moot tells whether all is as it was behind the last record.
func (s *side) moot() bool {
	return !slices.ContainsFunc(s.dirty, func(c change) bool { return c.Size != c.before })
}
