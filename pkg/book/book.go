// Package book keeps an order book: the total size at each price, both sides, with a hash of the whole that costs the same
// few nanoseconds per changed level however deep the book is.
//
// A [Book] follows the stream by the client's rule (see [Book.Apply]): snapshots replace it, updates carry absolute sizes,
// a gap is an error. It remembers which levels the last update changed, and a [View] follows it by those changes alone: the
// best 10 levels of a book of 10,000 cost nothing when something happens far away from them. A [Merge] joins the touched
// levels of several updates into one.
//
// Nothing here locks; a Book, its Views and a Merge belong to one goroutine at a time.
package book

import (
	"errors"

	"github.com/tickwire/tickwire/pkg/market"
)

// What Apply and Load refuse. The book is then as it was before, and its owner asks for a new snapshot.
var (
	ErrGap    = errors.New("update does not follow the book")
	ErrPart   = errors.New("snapshot part out of order")
	ErrLevels = errors.New("snapshot levels are not best first with positive sizes")
	ErrHash   = errors.New("hash of the book does not match")
)

// Change is one changed level.
type Change struct {
	Side  market.Side
	Price market.Price
	Old   market.Size // 0: it was not there
	New   market.Size // 0: it is not there any more
}

// keepChanges is how many changes a book keeps room for, so that one enormous update does not stay in memory.
const keepChanges = 1024

// Book is an order book. The zero value is an empty one.
type Book struct {
	sides    [2]ladder
	hash     uint64
	seq      market.Sequence
	changes  []Change
	replaced bool
	loading  *loading
}

// Sequence returns the place in the topic's numbering that the book stands at.
func (b *Book) Sequence() market.Sequence { return b.seq }

// SetSequence moves the book to s without touching its levels.
func (b *Book) SetSequence(s market.Sequence) { b.seq = s }

// Hash returns the hash of the whole book: the sum of [Mix64] over its levels. An empty book has 0.
func (b *Book) Hash() uint64 { return b.hash }

// Clear removes all levels. The sequence stays.
func (b *Book) Clear() {
	b.sides[market.Bid].clear()
	b.sides[market.Ask].clear()
	b.hash = 0
	b.everything()
}

// Replace puts these levels, which may come in any order, in the place of all others. It is the same as Clear and a Set
// for each: a price that comes twice has its last size, size 0 is no level.
func (b *Book) Replace(bids, asks []market.Level) {
	for side, levels := range [2][]market.Level{bids, asks} {
		side := market.Side(side)
		if ordered(side, levels) {
			b.sides[side].load(side, levels)
		} else {
			b.sides[side].sort(side, levels)
		}
	}
	b.hash = b.sum()
	b.everything()
}

func (b *Book) sum() (sum uint64) {
	for side := range b.sides {
		side := market.Side(side)
		for _, block := range b.sides[side].blocks {
			for _, e := range block.live() {
				sum += Mix64(side, priceOf(side, e.key), e.size)
			}
		}
	}
	return sum
}

func (b *Book) everything() {
	b.BeginChanges()
	b.replaced = true
}

// Set gives a level its size; 0 deletes it. It returns the size that was there. The change is added to Changes, unless it
// changes nothing.
func (b *Book) Set(side market.Side, p market.Price, s market.Size) (old market.Size) {
	old = b.sides[side&1].set(keyOf(side, p), s)
	if old != s {
		b.hash += difference(side, p, old, s)
		b.changes = append(b.changes, Change{side, p, old, s})
	}
	return old
}

// BeginChanges begins a new set of changes. Whoever calls Set calls it once for each update; Apply, Load, Replace and
// Clear do it themselves.
func (b *Book) BeginChanges() {
	if cap(b.changes) > keepChanges {
		b.changes = nil
	}
	b.changes, b.replaced = b.changes[:0], false
}

// Changes returns what Set, Apply and Cut have changed since the set of changes began, in order; a level may stand in it
// several times. It is valid until the next change.
func (b *Book) Changes() []Change { return b.changes }

// Replaced tells that the book was replaced as a whole in this set of changes: Changes then only has what came after.
func (b *Book) Replaced() bool { return b.replaced }

// Apply follows the stream by the client's rule. An update at or before the book's own place is ignored (false). One of
// another epoch, or one that follows a later place, is ErrGap. Any other is applied, also one that overlaps what the book
// already has: sizes are absolute, so that is exact. The hash is for the caller to compare, after it has cut a view.
func (b *Book) Apply(d *market.Delta) (applied bool, err error) {
	switch {
	case d.Epoch != b.seq.Epoch:
		return false, ErrGap
	case d.Seq <= b.seq.Seq:
		return false, nil
	case d.Prev > b.seq.Seq:
		return false, ErrGap
	}
	b.BeginChanges()
	for i := range d.Bids {
		b.Set(market.Bid, d.Bids[i].Price, d.Bids[i].Size)
	}
	for i := range d.Asks {
		b.Set(market.Ask, d.Asks[i].Price, d.Asks[i].Size)
	}
	b.seq = d.Sequence()
	return true, nil
}

// Cut removes the levels of each side beyond the best depth; depth 0 keeps all.
func (b *Book) Cut(depth int) {
	if depth <= 0 {
		return
	}
	for side := range b.sides {
		side, l := market.Side(side), &b.sides[side]
		for n := l.len() - depth; n > 0; n-- {
			b.Set(side, priceOf(side, l.worst().key), 0)
		}
	}
}

// Len returns how many levels a side has.
func (b *Book) Len(side market.Side) int { return b.sides[side&1].len() }

// At returns a side's level number i, the best being 0; i must be below Len.
func (b *Book) At(side market.Side, i int) market.Level {
	e := b.sides[side&1].best(i)
	return market.Level{Price: priceOf(side, e.key), Size: e.size}
}

// Size returns the size at a price, 0 when there is no level.
func (b *Book) Size(side market.Side, p market.Price) market.Size {
	return b.sides[side&1].size(keyOf(side, p))
}

// AppendLevels appends a side's best levels, best first; depth 0 is all.
func (b *Book) AppendLevels(dst []market.Level, side market.Side, depth int) []market.Level {
	return b.sides[side&1].append(dst, side, depth)
}

// Best returns the best bid and ask; a side without levels gives the zero Level.
func (b *Book) Best() (bid, ask market.Level) {
	if b.Len(market.Bid) > 0 {
		bid = b.At(market.Bid, 0)
	}
	if b.Len(market.Ask) > 0 {
		ask = b.At(market.Ask, 0)
	}
	return bid, ask
}

// Crossed tells whether the best bid is not below the best ask.
func (b *Book) Crossed() bool {
	return b.Len(market.Bid) > 0 && b.Len(market.Ask) > 0 && b.At(market.Bid, 0).Price >= b.At(market.Ask, 0).Price
}
