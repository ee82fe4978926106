package book_test

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// model is the reference: a map from price to size a side, and everything else computed anew from it, slow and obvious.
type model struct {
	sides [2]map[market.Price]market.Size
	seq   market.Sequence
}

func newModel() *model {
	m := &model{}
	m.clear()
	return m
}

func (m *model) clear() {
	m.sides = [2]map[market.Price]market.Size{{}, {}}
}

func (m *model) set(side market.Side, p market.Price, s market.Size) {
	if s == 0 {
		delete(m.sides[side], p)
	} else {
		m.sides[side][p] = s
	}
}

func (m *model) setAll(bids, asks []market.Level) {
	for _, l := range bids {
		m.set(market.Bid, l.Price, l.Size)
	}
	for _, l := range asks {
		m.set(market.Ask, l.Price, l.Size)
	}
}

// levels returns a side's best levels, best first; depth 0 is all.
func (m *model) levels(side market.Side, depth int) []market.Level {
	ls := []market.Level{}
	for p, s := range m.sides[side] {
		ls = append(ls, market.Level{Price: p, Size: s})
	}
	slices.SortFunc(ls, func(a, b market.Level) int {
		if a.Price < b.Price == (side == market.Ask) {
			return -1
		}
		return 1
	})
	if depth > 0 && len(ls) > depth {
		ls = ls[:depth]
	}
	return ls
}

func (m *model) cut(depth int) {
	for _, side := range bothSides {
		for _, l := range m.levels(side, 0)[min(depth, len(m.sides[side])):] {
			m.set(side, l.Price, 0)
		}
	}
}

func (m *model) hash(depth int) uint64 {
	return book.HashLevels(m.levels(market.Bid, depth), m.levels(market.Ask, depth))
}

func (m *model) clone() *model {
	c := newModel()
	c.setAll(m.levels(market.Bid, 0), m.levels(market.Ask, 0))
	c.seq = m.seq
	return c
}

var bothSides = [2]market.Side{market.Bid, market.Ask}

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkBook compares everything a book can say with the model.
func checkBook(t fataler, b *book.Book, m *model) {
	t.Helper()
	for _, side := range bothSides {
		want := m.levels(side, 0)
		got := b.AppendLevels([]market.Level{}, side, 0)
		if !slices.Equal(got, want) {
			t.Fatalf("side %d: levels %v, want %v", side, got, want)
		}
		if b.Len(side) != len(want) {
			t.Fatalf("side %d: %d levels, want %d", side, b.Len(side), len(want))
		}
		for i, l := range want {
			if b.At(side, i) != l || b.Size(side, l.Price) != l.Size {
				t.Fatalf("side %d level %d: %v, want %v", side, i, b.At(side, i), l)
			}
		}
		if top := b.AppendLevels([]market.Level{}, side, 3); !slices.Equal(top, m.levels(side, 3)) {
			t.Fatalf("side %d: top %v", side, top)
		}
	}
	if b.Hash() != m.hash(0) {
		t.Fatalf("hash %016x, want %016x", b.Hash(), m.hash(0))
	}
	if b.Sequence() != m.seq {
		t.Fatalf("sequence %v, want %v", b.Sequence(), m.seq)
	}
	checkBest(t, b, m)
}

func checkBest(t fataler, b *book.Book, m *model) {
	t.Helper()
	bids, asks := append(m.levels(market.Bid, 1), market.Level{}), append(m.levels(market.Ask, 1), market.Level{})
	bid, ask := b.Best()
	if bid != bids[0] || ask != asks[0] {
		t.Fatalf("best %v %v, want %v %v", bid, ask, bids[0], asks[0])
	}
	crossed := len(bids) > 1 && len(asks) > 1 && bids[0].Price >= asks[0].Price
	if b.Crossed() != crossed {
		t.Fatalf("crossed %v, want %v", b.Crossed(), crossed)
	}
}

func checkLevels(t fataler, what string, got, want []market.Level) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}
