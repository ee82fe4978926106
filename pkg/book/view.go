package book

import (
	"math"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// View is the best levels of each side of a book, with a hash of its own, kept by the book's changes. It tells which
// levels an update touched: those that changed, those that came into the view, and, with size 0, those that left it,
// deleted or pushed out by better ones. So the touched levels of several updates may be joined (see [Merge]), and a client
// that stands anywhere in between comes out exactly right; it need not cut its book.
//
// A View copies its levels (16 bytes each). The whole book is a view of itself: depth 0 copies it, which is rarely wanted.
type View struct {
	depth int
	hash  uint64
	sides [2]viewSide
}

// viewSide is one side of a view. It knows all of the book's levels whose key is at least floor.
type viewSide struct {
	levels  ladder
	floor   int64
	touched []int64 // keys touched by the last update, ascending
}

// NewView returns an empty view of the best depth levels of each side; 0 is all.
func NewView(depth int) *View {
	if depth <= 0 {
		depth = math.MaxInt
	}
	v := &View{depth: depth}
	for i := range v.sides {
		v.sides[i].floor = math.MinInt64
	}
	return v
}

// Reset makes the view that of b. Nothing counts as touched: whoever holds the view begins from a snapshot of it.
func (v *View) Reset(b *Book) {
	v.hash = 0
	for i := range v.sides {
		s := &v.sides[i]
		s.touched = s.touched[:0]
		s.levels.clear()
		v.fill(market.Side(i), &b.sides[i])
	}
	for i := range v.sides {
		v.sides[i].touched = v.sides[i].touched[:0]
	}
}

// Update brings the view up to b, whose set of changes must be exactly what has happened since the last Reset or Update.
// It tells whether a level of the view was touched.
func (v *View) Update(b *Book) bool {
	for i := range v.sides {
		v.sides[i].touched = v.sides[i].touched[:0]
	}
	if b.replaced {
		v.drop()
	} else {
		for i := range b.changes {
			v.change(&b.changes[i])
		}
	}
	touched := false
	for i := range v.sides {
		v.fill(market.Side(i), &b.sides[i])
		touched = touched || len(v.sides[i].touched) > 0
	}
	return touched
}

// drop takes all levels out.
func (v *View) drop() {
	v.hash = 0
	for i := range v.sides {
		s := &v.sides[i]
		for _, block := range s.levels.blocks {
			for _, e := range block.live() {
				s.touched = append(s.touched, e.key)
			}
		}
		s.levels.clear()
	}
}

// change applies one change of the book, and takes the worst level out when that makes one too many. What is below the
// floor then is for fill to read from the book.
func (v *View) change(c *Change) {
	s := &v.sides[c.Side&1]
	key := keyOf(c.Side, c.Price)
	if key < s.floor {
		return
	}
	old := s.levels.set(key, c.New)
	v.hash += difference(c.Side, c.Price, old, c.New)
	s.touch(key)
	if s.levels.len() <= v.depth {
		return
	}
	worst := s.levels.worst()
	s.levels.remove(0, 0)
	v.hash -= Mix64(c.Side, priceOf(c.Side, worst.key), worst.size)
	s.touch(worst.key)
	s.floor = s.levels.worst().key
}

// fill takes the book's next levels into a side that has room, and sets the floor.
func (v *View) fill(side market.Side, from *ladder) {
	s := &v.sides[side]
	n := min(v.depth, from.len())
	for i := s.levels.len(); i < n; i++ {
		e := from.best(i)
		s.levels.insert(0, 0, e)
		v.hash += Mix64(side, priceOf(side, e.key), e.size)
		s.touch(e.key)
	}
	s.floor = math.MinInt64
	if n == v.depth {
		s.floor = s.levels.worst().key
	}
}

func (s *viewSide) touch(key int64) {
	n := len(s.touched)
	if n == 0 || s.touched[n-1] < key {
		s.touched = append(s.touched, key)
	} else if i, found := slices.BinarySearch(s.touched, key); !found {
		s.touched = slices.Insert(s.touched, i, key)
	}
}

// Hash returns the hash of the view's levels.
func (v *View) Hash() uint64 { return v.hash }

// Len returns how many levels of a side the view has.
func (v *View) Len(side market.Side) int { return v.sides[side&1].levels.len() }

// AppendLevels appends a side of the view, best first.
func (v *View) AppendLevels(dst []market.Level, side market.Side) []market.Level {
	return v.sides[side&1].levels.append(dst, side, 0)
}

// AppendChanged appends the levels touched by the last Update, best first, each at its size in the view now; size 0 is a
// level that is not in it.
func (v *View) AppendChanged(bids, asks []market.Level) (b, a []market.Level) {
	return v.sides[market.Bid].append(bids, market.Bid), v.sides[market.Ask].append(asks, market.Ask)
}

func (s *viewSide) append(dst []market.Level, side market.Side) []market.Level {
	for i := len(s.touched) - 1; i >= 0; i-- {
		key := s.touched[i]
		dst = append(dst, market.Level{Price: priceOf(side, key), Size: s.levels.size(key)})
	}
	return dst
}
