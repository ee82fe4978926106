package book

import "github.com/tickwire/tickwire/pkg/market"

// Merge joins the touched levels of several consecutive updates into one: every price that was touched, at its newest
// size. It is never a difference of two states, since a client may stand anywhere in between. The zero value is empty.
type Merge struct {
	sides [2]ladder
}

// Add takes the levels of the next update in; size 0 deletes, and stays in the union as such.
func (m *Merge) Add(bids, asks []market.Level) {
	for _, l := range bids {
		m.sides[market.Bid].put(keyOf(market.Bid, l.Price), l.Size)
	}
	for _, l := range asks {
		m.sides[market.Ask].put(keyOf(market.Ask, l.Price), l.Size)
	}
}

// Len returns how many levels the union has, both sides together.
func (m *Merge) Len() int { return m.sides[market.Bid].len() + m.sides[market.Ask].len() }

// AppendLevels appends the union, best first.
func (m *Merge) AppendLevels(bids, asks []market.Level) (b, a []market.Level) {
	return m.sides[market.Bid].append(bids, market.Bid, 0), m.sides[market.Ask].append(asks, market.Ask, 0)
}

// Reset empties the union and keeps its memory.
func (m *Merge) Reset() {
	m.sides[market.Bid].clear()
	m.sides[market.Ask].clear()
}
