package ingest

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// bookFeed is what we know of the book of one instrument.
type bookFeed struct {
	book  book.Book
	seq   uint64
	state market.State // Live or Stale; a stale book is empty
	why   market.Reason

	session string // whose records the book is made of
	closed  [closedSessions]string
	hasSeq  bool   // the venue numbers its book, and last is known
	last    uint64 // venue's number of the newest record applied

	depth        int // levels a side that the venue keeps up; 0 is all
	depthSession string

	// Updates that came while the book was stale, each continuing the one before. A snapshot that is asked for while the
	// updates stream in is older than some of them, and needs them to catch up.
	held       []heldUpdate
	heldLevels int
}

// closedSessions is how many sessions before the present one are remembered, to tell their stragglers from a new session.
const closedSessions = 3

// The bounds of what is held for a stale book; beyond, the oldest are dropped.
const (
	maxHeld       = 512
	maxHeldLevels = 16_384
)

type heldUpdate struct {
	first, last uint64
	time        market.Time
	bids, asks  []market.Level
}

// restart forgets the levels and the numbering, not what is known of the venue's.
func (f *bookFeed) restart() {
	f.seq = 0
	f.drop()
}

// drop forgets the levels.
func (f *bookFeed) drop() {
	f.book.Clear()
	f.held, f.heldLevels = nil, 0
}

func (f *bookFeed) isClosed(session []byte) bool {
	for _, s := range f.closed {
		if s != "" && s == string(session) {
			return true
		}
	}
	return false
}

// adopt makes session the book's.
func (it *instrument) adopt(session []byte) {
	f := &it.feed
	if f.session == string(session) {
		return
	}
	copy(f.closed[1:], f.closed[:])
	f.closed[0] = f.session
	f.session = string(session)
	if it.numbersRestart() && f.state == market.Stale {
		f.hasSeq = false
		f.held, f.heldLevels = nil, 0
	}
}

// cutDepth is the depth to which the book must be cut after each record.
func (f *bookFeed) cutDepth() int {
	if f.depthSession != f.session {
		return 0
	}
	return f.depth
}

// bookRecord takes a snapshot or an update of the book.
func (c *core) bookRecord(it *instrument) (reason string) {
	m, f := &c.msg, &it.feed
	switch {
	case it.state == market.Delisted:
		c.stats.delisted++
		return ""
	case (!m.HasSeq || it.numbersRestart()) && f.session != string(c.rec.Session) && f.isClosed(c.rec.Session):
		c.stats.outdated++
		return ""
	}
	it.dirty = true
	if m.Kind == decode.BookSnapshot {
		c.bookSnapshot(it)
		return ""
	}
	return c.bookUpdate(it)
}

// numbersRestart tells whether the venue may begin its book's numbering anew in a new session. Binance numbers all updates
// of a symbol for ever, whoever listens.
func (it *instrument) numbersRestart() bool { return it.def.Source != decode.Binance }

func (c *core) bookUpdate(it *instrument) (reason string) {
	m, f := &c.msg, &it.feed
	strange := f.session != string(c.rec.Session)
	numbered := m.HasSeq && f.hasSeq
	switch {
	case f.state == market.Stale:
		it.adopt(c.rec.Session)
		c.hold(it)
		return ""
	case strange && (!numbered || !c.continues(it)):
		if numbered && m.Last <= f.last && !it.numbersRestart() {
			c.stats.duplicates++
			return ""
		}
		return c.breakOff(it, market.Session)
	case numbered && m.Last <= f.last:
		c.stats.duplicates++
		return ""
	case numbered && m.First > f.last+1:
		return c.breakOff(it, market.Venue)
	case f.book.Len(market.Bid)+f.book.Len(market.Ask)+len(m.Bids)+len(m.Asks) > maxBookLevels:
		m.Time = 0
		c.stale(it, market.Quarantine)
		return reasonTooLarge
	}
	it.adopt(c.rec.Session)
	f.hasSeq, f.last = m.HasSeq, m.Last
	c.applyUpdate(it)
	return ""
}

// continues tells whether the update is the next of the numbering, an overlap included.
func (c *core) continues(it *instrument) bool {
	return c.msg.First <= it.feed.last+1 && c.msg.Last > it.feed.last
}

// breakOff makes the book stale at an update that does not continue it, which the next snapshot may need.
func (c *core) breakOff(it *instrument, why market.Reason) (reason string) {
	c.stale(it, why)
	it.adopt(c.rec.Session)
	c.hold(it)
	return ""
}

// hold keeps an update for the snapshot to come.
func (c *core) hold(it *instrument) {
	m, f := &c.msg, &it.feed
	if !m.HasSeq {
		c.stats.outdated++
		return
	}
	if n := len(f.held); n > 0 {
		newest := f.held[n-1].last
		if m.Last <= newest {
			c.stats.duplicates++
			return
		}
		if m.First > newest+1 {
			f.held, f.heldLevels = nil, 0
		}
	}
	f.held = append(f.held, heldUpdate{
		first: m.First, last: m.Last, time: m.Time, bids: slices.Clone(m.Bids), asks: slices.Clone(m.Asks),
	})
	f.heldLevels += len(m.Bids) + len(m.Asks)
	drop := 0
	for drop < len(f.held) && (len(f.held)-drop > maxHeld || f.heldLevels > maxHeldLevels) {
		f.heldLevels -= len(f.held[drop].bids) + len(f.held[drop].asks)
		drop++
	}
	f.held = slices.Delete(f.held, 0, drop)
}

// applyUpdate applies the record's levels to the live book.
func (c *core) applyUpdate(it *instrument) {
	m, f := &c.msg, &it.feed
	f.book.BeginChanges()
	c.set(it, m.Bids, m.Asks)
	f.book.Cut(f.cutDepth())
	switch {
	case m.HasChecksum && !c.checks(it):
		c.stale(it, market.Checksum)
		return
	case f.book.Crossed():
		c.stale(it, market.Crossed)
		return
	}
	c.touched(f.book.Changes())
	switch n := len(c.bids) + len(c.asks); {
	case n > wire.MaxFrameLevels:
		c.emitBook(it, m.Time)
	case n > 0:
		c.emitDelta(it)
	}
}

func (c *core) set(it *instrument, bids, asks []market.Level) {
	for i := range bids {
		it.feed.book.Set(market.Bid, bids[i].Price, bids[i].Size)
	}
	for i := range asks {
		it.feed.book.Set(market.Ask, asks[i].Price, asks[i].Size)
	}
}

// checks compares the venue's checksum with the book's.
func (c *core) checks(it *instrument) bool {
	const depth = 10
	c.bids = it.feed.book.AppendLevels(c.bids[:0], market.Bid, depth)
	c.asks = it.feed.book.AppendLevels(c.asks[:0], market.Ask, depth)
	return decode.KrakenChecksum(c.bids, c.asks) == c.msg.Checksum
}

// touch is one level that an update has changed.
type touch struct {
	price market.Price
	old   market.Size
	size  market.Size
}

// touched puts the levels that have changed into c.bids and c.asks, each once, at its newest size.
func (c *core) touched(changes []book.Change) {
	c.bids, c.asks = c.bids[:0], c.asks[:0]
	for _, side := range [...]market.Side{market.Bid, market.Ask} {
		dst := &c.bids
		if side == market.Ask {
			dst = &c.asks
		}
		rising, falling := true, true
		c.work = c.work[:0]
		for i := range changes {
			if ch := &changes[i]; ch.Side == side {
				if n := len(c.work); n > 0 {
					rising = rising && ch.Price > c.work[n-1].price
					falling = falling && ch.Price < c.work[n-1].price
				}
				c.work = append(c.work, touch{ch.Price, ch.Old, ch.New})
			}
		}
		if !rising && !falling {
			c.work = merged(c.work)
		}
		for i := range c.work {
			*dst = append(*dst, market.Level{Price: c.work[i].price, Size: c.work[i].size})
		}
	}
}

// merged leaves one entry for each price, and none for a level that is again as it was.
func merged(work []touch) []touch {
	slices.SortStableFunc(work, func(a, b touch) int {
		switch {
		case a.price < b.price:
			return -1
		case a.price > b.price:
			return 1
		}
		return 0
	})
	kept := work[:0]
	for i := 0; i < len(work); {
		t := work[i]
		for i++; i < len(work) && work[i].price == t.price; i++ {
			t.size = work[i].size
		}
		if t.size != t.old {
			kept = append(kept, t)
		}
	}
	return kept
}

// bookSnapshot takes a whole book.
func (c *core) bookSnapshot(it *instrument) {
	m, f := &c.msg, &it.feed
	if f.state == market.Stale {
		it.adopt(c.rec.Session)
	}
	if m.HasSeq && f.hasSeq && (!it.numbersRestart() || f.session == string(c.rec.Session)) {
		if m.Last < f.last {
			c.stats.outdated++
			return
		}
		if m.Last == f.last && f.state == market.Live {
			c.compare(it)
			return
		}
	}
	if f.state == market.Stale && m.HasSeq && !c.connects(it) {
		c.stats.outdated++
		return
	}
	c.reset(it)
}

// connects tells whether the snapshot and the updates held join without a gap, and drops those that it includes.
func (c *core) connects(it *instrument) bool {
	f, last := &it.feed, c.msg.Last
	n := 0
	for n < len(f.held) && f.held[n].last <= last {
		n++
	}
	if n < len(f.held) && f.held[n].first > last+1 {
		return false
	}
	for i := range n {
		f.heldLevels -= len(f.held[i].bids) + len(f.held[i].asks)
	}
	f.held = slices.Delete(f.held, 0, n)
	return true
}

// compare holds a snapshot of the very state that the live book is in against it. Where they differ, the venue's word
// counts.
func (c *core) compare(it *instrument) {
	m, f := &c.msg, &it.feed
	if f.same(market.Bid, m.Bids, &c.bids, it.limited()) && f.same(market.Ask, m.Asks, &c.asks, it.limited()) {
		it.adopt(c.rec.Session)
		c.stats.duplicates++
		return
	}
	c.stats.mismatches++
	c.stale(it, market.Mismatch)
	c.reset(it)
}

// limited tells whether the venue's snapshots hold only the best so many levels of the book.
func (it *instrument) limited() bool { return it.def.Source == decode.Binance }

// same compares a side of the book with the levels of a snapshot, which may stop before the book does when it is limited.
// scratch is memory for the book's.
func (f *bookFeed) same(side market.Side, levels []market.Level, scratch *[]market.Level, limited bool) bool {
	n := f.book.Len(side)
	if n < len(levels) || n > len(levels) && !limited {
		return false
	}
	mine := f.book.AppendLevels((*scratch)[:0], side, len(levels))[:len(levels)]
	*scratch = mine
	if slices.Equal(mine, levels) {
		return true
	}
	for _, l := range levels { // the record's order is its own
		if f.book.Size(side, l.Price) != l.Size {
			return false
		}
	}
	return true
}

// reset puts the record's book in the place of ours, brings it up to date with what is held, and says so.
func (c *core) reset(it *instrument) {
	m, f := &c.msg, &it.feed
	it.adopt(c.rec.Session)
	f.book.Replace(m.Bids, m.Asks)
	f.hasSeq, f.last = m.HasSeq, m.Last
	at := m.Time
	for i := range f.held {
		h := &f.held[i]
		c.set(it, h.bids, h.asks)
		f.last, at = h.last, max(at, h.time)
	}
	f.held, f.heldLevels = nil, 0
	f.book.Cut(f.cutDepth())
	switch {
	case m.HasChecksum && !c.checks(it):
		c.stale(it, market.Checksum)
		return
	case f.book.Crossed():
		c.stale(it, market.Crossed)
		return
	}
	c.emitBook(it, at)
	if f.state == market.Stale {
		f.state, f.why = market.Live, market.NoReason
		c.emitStatus(it)
	}
}

// stale empties the book, and says why unless that was said already.
func (c *core) stale(it *instrument, why market.Reason) {
	f := &it.feed
	f.book.Clear()
	it.dirty = true
	if f.state == market.Stale {
		return
	}
	f.state, f.why = market.Stale, why
	c.stats.stale++
	c.emitStatus(it)
}

// emitDelta emits the levels in c.bids and c.asks.
func (c *core) emitDelta(it *instrument) {
	f := &it.feed
	d := market.Delta{
		Head: c.head(it, &f.seq, c.msg.Time), Hash: market.Hash{Sum: f.book.Hash(), OK: true}, Bids: c.bids, Asks: c.asks,
	}
	c.out.buf = wire.AppendDelta(c.out.buf, &d)
	c.out.end(wire.TemplateBookUpdate)
}

// emitBook emits the whole book, in parts where it is large.
func (c *core) emitBook(it *instrument, at market.Time) {
	f := &it.feed
	c.bids = f.book.AppendLevels(c.bids[:0], market.Bid, 0)
	c.asks = f.book.AppendLevels(c.asks[:0], market.Ask, 0)
	s := market.Snapshot{Head: c.head(it, &f.seq, at)}
	bids, asks := c.bids, c.asks
	parts := max(1, (len(bids)+len(asks)+market.MaxSnapshotLevels-1)/market.MaxSnapshotLevels)
	s.Parts = uint16(parts) //nolint:gosec // maxBookLevels bounds it
	for part := range s.Parts {
		b := min(len(bids), market.MaxSnapshotLevels)
		a := min(len(asks), market.MaxSnapshotLevels-b)
		s.Part = part + 1
		s.Bids, bids = bids[:b], bids[b:]
		s.Asks, asks = asks[:a], asks[a:]
		if s.Part == s.Parts {
			s.Hash = market.Hash{Sum: f.book.Hash(), OK: true}
		}
		c.out.buf = wire.AppendSnapshot(c.out.buf, &s)
		c.out.end(wire.TemplateBookSnapshot)
	}
}
