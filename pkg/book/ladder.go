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

// blockSize makes a block fill an allocation of 1 KiB. A change moves half a block at most in the mean, wherever it is.
const blockSize = 63

// block is a run of entries in ascending order.
type block struct {
	n       int
	entries [blockSize]entry
}

func (b *block) live() []entry { return b.entries[:b.n] }

// ladder is one side of a book: a sorted sequence of entries, best last, cut into blocks, so that a change far from the
// best costs no more than one beside it.
//
//	lows     61000   61500   61730
//	blocks  [....]  [.....] [...best]
//
// No block is empty.
type ladder struct {
	n      int
	lows   []int64 // each block's first key
	blocks []*block
	free   []*block
}

// flips turns prices into keys and back, by exclusive or: the complement of an int64 reverses the order and, unlike
// the negative, cannot overflow.
var flips = [2]int64{market.Bid: 0, market.Ask: -1}

func keyOf(side market.Side, p market.Price) int64     { return int64(p) ^ flips[side&1] }
func priceOf(side market.Side, key int64) market.Price { return market.Price(key ^ flips[side&1]) }

func (l *ladder) len() int { return l.n }

// best returns entry number i from the best end.
func (l *ladder) best(i int) entry {
	for at := len(l.blocks) - 1; ; at-- {
		b := l.blocks[at]
		if i < b.n {
			return b.entries[b.n-1-i]
		}
		i -= b.n
	}
}

func (l *ladder) worst() entry { return l.blocks[0].entries[0] }

// find returns the block and the place in it where key is, or where it belongs.
func (l *ladder) find(key int64) (at, i int, found bool) {
	if l.n == 0 {
		return 0, 0, false
	}
	at = l.findBlock(key)
	v := l.blocks[at].live()
	for n := len(v); n > 0; {
		half := (n + 1) >> 1
		if v[i+half-1].key < key {
			i += half
		}
		n -= half
	}
	return at, i, i < len(v) && v[i].key == key
}

// findBlock returns the last block that does not begin above key, or the first one. It looks near the best first, since
// that is where changes happen.
func (l *ladder) findBlock(key int64) int {
	at := len(l.lows) - 1
	for near := max(0, at-nearBlocks); at > near; at-- {
		if l.lows[at] <= key {
			return at
		}
	}
	lo := 0
	for lo < at {
		mid := int(uint(lo+at+1) >> 1)
		if l.lows[mid] <= key {
			lo = mid
		} else {
			at = mid - 1
		}
	}
	return at
}

// nearBlocks is how many blocks are looked at one by one.
const nearBlocks = 12

func (l *ladder) size(key int64) market.Size {
	if at, i, found := l.find(key); found {
		return l.blocks[at].entries[i].size
	}
	return 0
}

// set puts size under key, deletes the entry when size is 0, and returns the size that was there.
func (l *ladder) set(key int64, size market.Size) (old market.Size) {
	at, i, found := l.find(key)
	if !found {
		if size != 0 {
			l.insert(at, i, entry{key, size})
		}
		return 0
	}
	e := &l.blocks[at].entries[i]
	old = e.size
	if size == 0 {
		l.remove(at, i)
	} else {
		e.size = size
	}
	return old
}

// put is set for a ladder in which size 0 is a value like any other.
func (l *ladder) put(key int64, size market.Size) {
	if at, i, found := l.find(key); found {
		l.blocks[at].entries[i].size = size
	} else {
		l.insert(at, i, entry{key, size})
	}
}

func (l *ladder) insert(at, i int, e entry) {
	if l.n == 0 {
		l.push(e)
		return
	}
	b := l.blocks[at]
	if b.n == blockSize {
		next := l.split(at)
		if i > b.n {
			at, i, b = at+1, i-b.n, next
		}
	}
	copy(b.entries[i+1:b.n+1], b.entries[i:b.n])
	b.entries[i] = e
	b.n++
	l.n++
	if i == 0 {
		l.lows[at] = e.key
	}
}

// split moves the upper half of a block into a new one behind it.
func (l *ladder) split(at int) *block {
	b, next := l.blocks[at], l.newBlock()
	next.n = copy(next.entries[:], b.entries[blockSize/2:b.n])
	b.n = blockSize / 2
	l.blocks = slices.Insert(l.blocks, at+1, next)
	l.lows = slices.Insert(l.lows, at+1, next.entries[0].key)
	return next
}

func (l *ladder) remove(at, i int) {
	b := l.blocks[at]
	copy(b.entries[i:b.n-1], b.entries[i+1:b.n])
	b.n--
	l.n--
	switch {
	case b.n == 0:
		l.drop(at)
	case i == 0:
		l.lows[at] = b.entries[0].key
	}
	if b.n < blockSize/4 && b.n > 0 {
		l.join(at)
	}
}

// join makes one block of a small one and a neighbour, if they leave room for more. Trying both neighbours keeps blocks
// from staying nearly empty beside one another.
func (l *ladder) join(at int) {
	for _, lower := range [2]int{at, at - 1} {
		if lower < 0 || lower+1 >= len(l.blocks) {
			continue
		}
		b, next := l.blocks[lower], l.blocks[lower+1]
		if b.n+next.n <= blockSize*3/4 {
			b.n += copy(b.entries[b.n:], next.live())
			l.drop(lower + 1)
			return
		}
	}
}

// drop takes a block out.
func (l *ladder) drop(at int) {
	l.free = append(l.free, l.blocks[at])
	l.blocks = slices.Delete(l.blocks, at, at+1)
	l.lows = slices.Delete(l.lows, at, at+1)
	l.trim()
}

// push adds an entry that is better than all others. It leaves room in the blocks behind it.
func (l *ladder) push(e entry) {
	last := len(l.blocks) - 1
	if last < 0 || l.blocks[last].n >= blockSize*3/4 {
		last++
		l.blocks = append(l.blocks, l.newBlock())
		l.lows = append(l.lows, e.key)
	}
	b := l.blocks[last]
	b.entries[b.n] = e
	b.n++
	l.n++
}

func (l *ladder) newBlock() *block {
	n := len(l.free) - 1
	if n < 0 {
		return &block{}
	}
	b := l.free[n]
	l.free[n], l.free = nil, l.free[:n]
	b.n = 0
	return b
}

// clear takes all entries out and keeps the memory.
func (l *ladder) clear() {
	l.free = append(l.free, l.blocks...)
	clear(l.blocks)
	l.n, l.blocks, l.lows = 0, l.blocks[:0], l.lows[:0]
}

// load fills the ladder from levels that are best first without repetition.
func (l *ladder) load(side market.Side, levels []market.Level) {
	l.clear()
	for i := len(levels) - 1; i >= 0; i-- {
		l.push(entry{keyOf(side, levels[i].Price), levels[i].Size})
	}
	l.trim()
}

// trim lets free blocks go when there are more of them than of the others: memory follows the book.
func (l *ladder) trim() {
	if keep := len(l.blocks) + 8; len(l.free) > keep {
		clear(l.free[keep:])
		l.free = l.free[:keep]
	}
}

// sort fills the ladder from levels in any order, as if they were set one after another.
func (l *ladder) sort(side market.Side, levels []market.Level) {
	l.clear()
	for _, lv := range levels {
		l.set(keyOf(side, lv.Price), lv.Size)
	}
	l.trim()
}

// append appends the best levels, best first; depth 0 is all.
func (l *ladder) append(dst []market.Level, side market.Side, depth int) []market.Level {
	n := l.n
	if depth > 0 && depth < n {
		n = depth
	}
	dst = slices.Grow(dst, n)
	for at := len(l.blocks) - 1; n > 0; at-- {
		v := l.blocks[at].live()
		for i := len(v) - 1; i >= 0 && n > 0; i-- {
			dst = append(dst, market.Level{Price: priceOf(side, v[i].key), Size: v[i].size})
			n--
		}
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
