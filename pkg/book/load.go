package book

import "github.com/tickwire/tickwire/pkg/market"

// loading is a snapshot of which some parts have come.
type loading struct {
	seq   market.Sequence
	next  uint16 // the part expected
	parts uint16
	sides [2][]market.Level
}

// Load replaces the book by a snapshot. One in several parts is fed part by part, in order, and the book stays as it is
// until the last one; a first part at any time begins anew. Anything else than the part expected is ErrPart, levels out
// of order are ErrLevels, and a hash that does not match the levels is ErrHash; the parts are then forgotten and the book
// is unchanged.
func (b *Book) Load(s *market.Snapshot) error {
	if s.Parts <= 1 {
		b.loading = nil
		if s.Part > 1 {
			return ErrPart
		}
		return b.install(s, s.Bids, s.Asks)
	}
	l, err := b.loading.add(s)
	if err != nil || s.Part < s.Parts {
		b.loading = l
		return err
	}
	b.loading = nil
	return b.install(s, l.sides[market.Bid], l.sides[market.Ask])
}

// Loading tells that a snapshot has begun and parts of it are still missing.
func (b *Book) Loading() bool { return b.loading != nil }

// add takes the next part in; the receiver is nil when none is expected but a first one.
func (l *loading) add(s *market.Snapshot) (*loading, error) {
	if s.Part == 1 {
		l = &loading{seq: s.Sequence(), next: 1, parts: s.Parts}
	}
	if l == nil || s.Part != l.next || s.Parts != l.parts || s.Sequence() != l.seq {
		return nil, ErrPart
	}
	l.next++
	l.sides[market.Bid] = append(l.sides[market.Bid], s.Bids...)
	l.sides[market.Ask] = append(l.sides[market.Ask], s.Asks...)
	return l, nil
}

func (b *Book) install(s *market.Snapshot, bids, asks []market.Level) error {
	if !ordered(market.Bid, bids) || !ordered(market.Ask, asks) {
		return ErrLevels
	}
	hash := HashLevels(bids, asks)
	if s.Hash.OK && s.Hash.Sum != hash {
		return ErrHash
	}
	b.sides[market.Bid].load(market.Bid, bids)
	b.sides[market.Ask].load(market.Ask, asks)
	b.hash = hash
	b.seq = s.Sequence()
	b.everything()
	return nil
}
