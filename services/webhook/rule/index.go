package rule

import (
	"math"
	"slices"
)

// blockSize is how many thresholds a full block has.
const blockSize = 256

// index is a set of thresholds with the rules' places, in ascending order. It is cut into blocks, so that an insertion or a
// removal moves at most 256 entries, however many there are.
type index struct {
	blocks []block
	tops   []int64 // the greatest key of each block
}

// block is a run of thresholds. Keys and places are apart, since a search only looks at keys.
type block struct {
	keys  []int64
	slots []uint32
}

// seek returns where the first entry that is at or after (key, slot) is, or belongs.
func (x *index) seek(key int64, slot uint32) (at, i int) {
	at = search(x.tops, key)
	for at < len(x.tops) && x.tops[at] == key && lastOf(x.blocks[at].slots) < slot {
		at++
	}
	if at == len(x.blocks) {
		return at, 0
	}
	b := &x.blocks[at]
	i = b.search(key)
	if i < len(b.keys) && b.keys[i] == key && b.slots[i] < slot {
		j := i + search(b.keys[i:], key+1) // keys[i] is not the greatest number, or there is no end to find
		if key == math.MaxInt64 {
			j = len(b.keys)
		}
		same, _ := slices.BinarySearch(b.slots[i:j], slot)
		i += same
	}
	return at, i
}

// search is search in a block, most often one that is in no cache: strides of a cache line that a processor sees coming are
// faster than the jumps of a binary search, each of which waits for the one before.
func (b *block) search(v int64) int {
	const line = 8
	low := 0
	for low+line <= len(b.keys) && b.keys[low+line-1] < v {
		low += line
	}
	for low < len(b.keys) && b.keys[low] < v {
		low++
	}
	return low
}

// search returns the position of the first key that is not below v.
func search(keys []int64, v int64) int {
	low, n := 0, len(keys)
	for n > 0 {
		half := n >> 1
		if keys[low+half] < v {
			low += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return low
}

func lastOf[T any](s []T) T { return s[len(s)-1] }

func (x *index) insert(key int64, slot uint32) {
	at, i := x.seek(key, slot)
	if at == len(x.blocks) { // behind all others
		if at == 0 {
			x.blocks, x.tops = append(x.blocks, block{}), append(x.tops, key)
		} else {
			at--
		}
		i = len(x.blocks[at].keys)
	}
	if len(x.blocks[at].keys) == blockSize {
		at, i = x.split(at, i)
	}
	b := &x.blocks[at]
	b.keys = insertAt(b.keys, i, key)
	b.slots = insertAt(b.slots, i, slot)
	x.tops[at] = lastOf(b.keys)
}

// insertAt is slices.Insert that grows small blocks slowly: most rules stand alone on their series.
func insertAt[T any](s []T, i int, v T) []T {
	if len(s) == cap(s) {
		grown := make([]T, len(s), min(blockSize, max(2, 2*len(s))))
		copy(grown, s)
		s = grown
	}
	s = s[:len(s)+1]
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

// split makes room in a full block for an entry at i, and returns where that belongs now. Entries that come in ascending
// order leave full blocks behind.
func (x *index) split(at, i int) (int, int) {
	half := blockSize / 2
	if i == blockSize && at == len(x.blocks)-1 {
		half = blockSize
	}
	b := &x.blocks[at]
	right := block{keys: make([]int64, blockSize-half, blockSize), slots: make([]uint32, blockSize-half, blockSize)}
	copy(right.keys, b.keys[half:])
	copy(right.slots, b.slots[half:])
	b.keys, b.slots = b.keys[:half], b.slots[:half]
	x.tops[at] = lastOf(b.keys)
	x.blocks, x.tops = slices.Insert(x.blocks, at+1, right), slices.Insert(x.tops, at+1, 0)
	if half < blockSize {
		x.tops[at+1] = lastOf(right.keys)
	}
	if i > half || half == blockSize {
		return at + 1, i - half
	}
	return at, i
}

// remove takes an entry out that is there.
func (x *index) remove(key int64, slot uint32) {
	at, i := x.seek(key, slot)
	x.cut(at, i, i+1)
}

// cut takes the entries i to j out of a block, and joins it with a neighbour when they are small.
func (x *index) cut(at, i, j int) {
	b := &x.blocks[at]
	b.keys, b.slots = slices.Delete(b.keys, i, j), slices.Delete(b.slots, i, j)
	if len(b.keys) == 0 {
		x.drop(at)
		return
	}
	x.tops[at] = lastOf(b.keys)
	switch {
	case at+1 < len(x.blocks) && len(b.keys)+len(x.blocks[at+1].keys) <= blockSize/2:
		x.join(at)
	case at > 0 && len(b.keys)+len(x.blocks[at-1].keys) <= blockSize/2:
		x.join(at - 1)
	}
}

func (x *index) drop(at int) {
	x.blocks, x.tops = slices.Delete(x.blocks, at, at+1), slices.Delete(x.tops, at, at+1)
}

// join moves the entries of the block behind at into it.
func (x *index) join(at int) {
	b, next := &x.blocks[at], &x.blocks[at+1]
	b.keys, b.slots = append(b.keys, next.keys...), append(b.slots, next.slots...)
	x.tops[at] = x.tops[at+1]
	x.drop(at + 1)
}

// take appends the places of the entries with from <= key <= to and removes them.
func (x *index) take(dst []uint32, from, to int64) []uint32 {
	at, i := x.seek(from, 0)
	first := at
	for at < len(x.blocks) {
		b := &x.blocks[at]
		j := len(b.keys)
		if x.tops[at] > to {
			j = search(b.keys, to+1)
		}
		dst = append(dst, b.slots[i:j]...)
		rest := len(b.keys) - j
		if i == 0 && rest == 0 {
			at++
			continue
		}
		b.keys, b.slots = slices.Delete(b.keys, i, j), slices.Delete(b.slots, i, j)
		x.tops[at] = lastOf(b.keys)
		if rest > 0 {
			break
		}
		if first == at {
			first++
		}
		at, i = at+1, 0
	}
	x.dropAll(first, at)
	return dst
}

// dropAll removes the blocks first to end, whose entries have all been taken.
func (x *index) dropAll(first, end int) {
	if first >= end {
		return
	}
	x.blocks, x.tops = slices.Delete(x.blocks, first, end), slices.Delete(x.tops, first, end)
}

// around returns the greatest key below v and the least key at or above it.
func (x *index) around(v int64) (below, above int64, hasBelow, hasAbove bool) {
	at, i := x.seek(v, 0)
	if at < len(x.blocks) {
		above, hasAbove = x.blocks[at].keys[i], true
	}
	switch {
	case i > 0:
		below, hasBelow = x.blocks[at].keys[i-1], true
	case at > 0:
		below, hasBelow = x.tops[at-1], true
	}
	return below, above, hasBelow, hasAbove
}
