package client

import (
	"errors"
	"fmt"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// BookView says which cut of a book to follow: Depth is how many levels a side (10, 25, 50 or 100; 0 is all), Millis
// merges updates over so many milliseconds (100, 250 or 1000; 0 sends each one).
type BookView = market.View

// Book is a local order book that follows the edge's. Whoever reads it sees it as it was behind one update, never in between;
// its hash was compared with the edge's behind each update that carried one. Its methods may be called from any goroutine.
type Book struct {
	Topic
	view BookView

	// Guarded by Topic.mu.
	local      book.Book
	head       market.Head // of what was applied last
	updates    uint64
	snapshots  uint64
	verified   uint64
	mismatches uint64

	note BookUpdate // what the callback gets; the reader's own
}

// BookUpdate is what OnBook gets. After a snapshot the levels are left out: everything may have changed.
type BookUpdate struct {
	market.Head
	Snapshot bool
	Bids     []market.Level // touched since the last update, at their new size; 0 deletes
	Asks     []market.Level
}

// BookStats counts what a book went through, up to its place At.
type BookStats struct {
	At         market.Sequence
	Updates    uint64 // applied
	Snapshots  uint64 // installed
	Verified   uint64 // updates and snapshots whose hash was compared and was right
	Gaps       uint64 // updates that did not follow
	Mismatches uint64 // hashes that differed
}

// Book subscribes to an order book. It returns at once; Wait waits for the book to be complete.
func (c *Client) Book(sym string, view BookView) (*Book, error) {
	b := &Book{
		Topic: c.topic(wire.Topic{Channel: market.Books, Sym: sym}),
		view:  view,
	}
	b.every = view == BookView{}
	return add(c, b)
}

// View calls f with the book, locked: f must not keep it, change it, take long, or call methods of b.
func (b *Book) View(f func(local *book.Book)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.local)
}

// BBO returns the best bid and ask; a side without levels has size 0.
func (b *Book) BBO() (bid, ask market.Level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.local.Best()
}

// AppendLevels appends the best levels of a side, best first; depth 0 is all that the view has.
func (b *Book) AppendLevels(dst []market.Level, side market.Side, depth int) []market.Level {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.local.AppendLevels(dst, side, depth)
}

// Snapshot copies the book into s, whose memory it uses again: levels best first, sequence, times and hash of one instant.
func (b *Book) Snapshot(s *market.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Head, s.View = b.head, b.view
	s.Part, s.Parts = 1, 1
	s.Hash = market.Hash{Sum: b.local.Hash(), OK: b.has}
	s.Bids = b.local.AppendLevels(s.Bids[:0], market.Bid, 0)
	s.Asks = b.local.AppendLevels(s.Asks[:0], market.Ask, 0)
}

// BookStats returns the counters.
func (b *Book) BookStats() BookStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return BookStats{At: b.at, Updates: b.updates, Snapshots: b.snapshots, Verified: b.verified, Gaps: b.gaps, Mismatches: b.mismatches}
}

func (b *Book) request(r *wire.TopicRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.View = b.view
	if b.has {
		r.From = b.at
	}
}

func (b *Book) lost() {}

// acked takes the edge's answer: either it goes on from where we are, or a snapshot comes.
func (b *Book) acked(_ *session, row *wire.Row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.learn(row); b.phase != asking {
		return // a snapshot was quicker, or the caller gave up
	}
	if row.How == wire.HowReplay && b.has {
		b.enter(synced)
	} else {
		b.enter(awaiting)
	}
}

func (b *Book) onSnapshot(s *session, m *market.Snapshot) {
	installed, err := b.load(m)
	switch {
	case errors.Is(err, errEpoch):
		s.ask(wire.OpSub, b)
		return
	case err != nil:
		s.missed(b, err)
		return
	case !installed:
		return
	}
	b.note = BookUpdate{Head: m.Head, Snapshot: true}
	s.c.notify(&b.Topic)
	if f := s.c.cfg.Handler.OnBook; f != nil {
		f(b, &b.note)
	}
}

// load takes a snapshot, or a part of one.
func (b *Book) load(m *market.Snapshot) (installed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := m.Sequence()
	switch {
	case b.phase == offline || b.phase == ended, m.Depth != b.view.Depth:
		return false, nil
	case b.renumbered(&m.Head):
		return false, errEpoch
	case b.phase == asking && b.epoch != 0 && at.Epoch > b.epoch: // the answer will bring its scales, and it again
		return false, nil
	case b.has && at.Compare(b.at) < 0: // never back in time
		return false, nil
	}
	was := b.local.Sequence()
	err = b.local.Load(m)
	switch {
	case errors.Is(err, book.ErrHash):
		b.mismatches++
		return false, &HashError{At: at, Got: book.HashLevels(m.Bids, m.Asks), Want: m.Hash.Sum}
	case err != nil:
		return false, fmt.Errorf("client: snapshot at %v after %v: %w", at, was, err)
	case b.local.Loading():
		return false, nil
	}
	b.local.Cut(int(b.view.Depth))
	b.snapshots++
	if m.Hash.OK {
		b.verified++
	}
	b.at, b.head, b.has, b.epoch = at, m.Head, true, at.Epoch
	b.enter(synced)
	return true, nil
}

func (b *Book) onDelta(s *session, d *market.Delta) {
	applied, err := b.update(d)
	switch {
	case errors.Is(err, errEpoch):
		s.ask(wire.OpSub, b)
		return
	case err != nil:
		s.missed(b, err)
		return
	case !applied:
		return
	}
	if f := s.c.cfg.Handler.OnBook; f != nil {
		b.note = BookUpdate{Head: d.Head, Bids: d.Bids, Asks: d.Asks}
		f(b, &b.note)
	}
}

// update is the client's rule: ignore what we have, apply what overlaps or follows, ask anew for anything else; and compare
// the hash behind it.
func (b *Book) update(d *market.Delta) (applied bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.phase != synced && b.phase != asking, !b.has, d.Depth != b.view.Depth:
		return false, nil
	case b.renumbered(&d.Head):
		return false, errEpoch
	case d.Epoch < b.at.Epoch:
		return false, nil
	}
	applied, err = b.local.Apply(d)
	if err != nil {
		if b.phase == asking {
			return false, nil // the answer will say how it goes on
		}
		return false, &GapError{Local: b.at, Prev: market.Sequence{Epoch: d.Epoch, Seq: d.Prev}}
	}
	if !applied {
		return false, nil
	}
	b.local.Cut(int(b.view.Depth))
	b.at, b.head = b.local.Sequence(), d.Head
	b.updates++
	if !d.Hash.OK {
		return true, nil
	}
	if sum := b.local.Hash(); sum != d.Hash.Sum {
		b.mismatches++
		return false, &HashError{At: b.at, Got: sum, Want: d.Hash.Sum}
	}
	b.verified++
	return true, nil
}
