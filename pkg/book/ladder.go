package book

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// entry is a level under its sort key: the price of a bid, the complement of the price of an ask, so that on both sides
// the better price has the greater key and the best level stands at the end.
type entry struct {
	key  int64
	size market.Size
}

// ladder is one side of a book: entries in ascending order of their keys, best last, with free room at both ends of the
// buffer:
//
//	buf  [ free | worst ........ best | free ]
//	            lo                    hi
//
// An insertion or deletion moves the shorter of the two parts beside it: near the best, where nearly all changes happen,
// a few entries, and never more than half of them.
type ladder struct {
	buf    []entry
	lo, hi int
}

// flips turns prices into keys and back, by exclusive or: the complement of an int64 reverses the order and, unlike
// the negative, cannot overflow.
var flips = [2]int64{market.Bid: 0, market.Ask: -1}

func keyOf(side market.Side, p market.Price) int64     { return int64(p) ^ flips[side&1] }
func priceOf(side market.Side, key int64) market.Price { return market.Price(key ^ flips[side&1]) }

func (l *ladder) len() int         { return l.hi - l.lo }
func (l *ladder) live() []entry    { return l.buf[l.lo:l.hi] }
func (l *ladder) best(i int) entry { return l.buf[l.hi-1-i] }

// find returns the position in live of the first entry whose key is not below key. It gallops from the best end, since
// that is where changes happen, and halves the last stretch.
func (l *ladder) find(key int64) (i int, found bool) {
	v := l.live()
	hi, step := len(v), 8
	lo := hi - step
	for lo > 0 && v[lo].key >= key {
		hi = lo
		step *= 4
		lo -= step
	}
	lo = max(lo, 0)
	for n := hi - lo; n > 0; {
		half := (n + 1) >> 1
		if v[lo+half-1].key < key { // a conditional move, not a branch: it goes either way
			lo += half
		}
		n -= half
	}
	return lo, lo < len(v) && v[lo].key == key
}

func (l *ladder) size(key int64) market.Size {
	if i, found := l.find(key); found {
		return l.buf[l.lo+i].size
	}
	return 0
}

// set puts size under key, deletes the entry when size is 0, and returns the size that was there.
func (l *ladder) set(key int64, size market.Size) (old market.Size) {
	i, found := l.find(key)
	if !found {
		if size != 0 {
			l.insert(i, entry{key, size})
		}
		return 0
	}
	e := &l.buf[l.lo+i]
	old = e.size
	if size == 0 {
		l.remove(i)
	} else {
		e.size = size
	}
	return old
}

// put is set for a ladder in which size 0 is a value like any other.
func (l *ladder) put(key int64, size market.Size) {
	if i, found := l.find(key); found {
		l.buf[l.lo+i].size = size
	} else {
		l.insert(i, entry{key, size})
	}
}

func (l *ladder) insert(i int, e entry) {
	front := i < l.len()/2
	if front && l.lo == 0 || !front && l.hi == len(l.buf) {
		l.makeRoom()
	}
	at := l.lo + i
	if front {
		copy(l.buf[l.lo-1:], l.buf[l.lo:at])
		l.lo--
		at--
	} else {
		copy(l.buf[at+1:l.hi+1], l.buf[at:l.hi])
		l.hi++
	}
	l.buf[at] = e
}

func (l *ladder) remove(i int) {
	at := l.lo + i
	if i < l.len()/2 {
		copy(l.buf[l.lo+1:at+1], l.buf[l.lo:at])
		l.lo++
	} else {
		copy(l.buf[at:], l.buf[at+1:l.hi])
		l.hi--
	}
}

// makeRoom centres the entries in their buffer, or in a greater one when less than a quarter of it is free: it then has
// been paid for by as many insertions as are a fixed part of the move.
func (l *ladder) makeRoom() {
	n, buf := l.len(), l.buf
	if len(buf)-n < len(buf)/4+2 {
		buf = make([]entry, n+n/2+16)
	}
	lo := (len(buf) - n) / 2
	copy(buf[lo:], l.live())
	l.buf, l.lo, l.hi = buf, lo, lo+n
}

func (l *ladder) clear() {
	l.lo = len(l.buf) / 2
	l.hi = l.lo
}

// reserve empties the ladder and gets room for n entries; a buffer far too great is let go.
func (l *ladder) reserve(n int) {
	if want := n + n/4 + 16; len(l.buf) < want || len(l.buf) > 4*want {
		l.buf = make([]entry, want)
	}
	l.lo = (len(l.buf) - n) / 2
	l.hi = l.lo
}

// load fills the ladder from levels that are best first without repetition.
func (l *ladder) load(side market.Side, levels []market.Level) {
	l.reserve(len(levels))
	l.hi = l.lo + len(levels)
	for i, lv := range levels {
		l.buf[l.hi-1-i] = entry{keyOf(side, lv.Price), lv.Size}
	}
}

// sort fills the ladder from levels in any order, as if they were set one after another.
func (l *ladder) sort(side market.Side, levels []market.Level) {
	l.reserve(len(levels))
	v := l.buf[l.lo : l.lo+len(levels)]
	for i, lv := range levels {
		v[i] = entry{keyOf(side, lv.Price), lv.Size}
	}
	slices.SortStableFunc(v, func(a, b entry) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	n := 0
	for i, e := range v {
		if i+1 < len(v) && v[i+1].key == e.key || e.size == 0 {
			continue
		}
		v[n] = e
		n++
	}
	l.hi = l.lo + n
}

// append appends the best levels, best first; depth 0 is all.
func (l *ladder) append(dst []market.Level, side market.Side, depth int) []market.Level {
	v := l.live()
	if depth > 0 && depth < len(v) {
		v = v[len(v)-depth:]
	}
	dst = slices.Grow(dst, len(v))
	for i := len(v) - 1; i >= 0; i-- {
		dst = append(dst, market.Level{Price: priceOf(side, v[i].key), Size: v[i].size})
	}
	return dst
}

// ordered tells whether levels are best first, each price once, with sizes above zero.
func ordered(side market.Side, levels []market.Level) bool {
	for i, lv := range levels {
		if lv.Size <= 0 || i > 0 && keyOf(side, lv.Price) >= keyOf(side, levels[i-1].Price) {
			return false
		}
	}
	return true
}
