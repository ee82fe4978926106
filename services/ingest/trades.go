package ingest

import (
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// tradeFeed is what we know of the trades of one instrument.
type tradeFeed struct {
	seq     uint64
	began   bool   // a record of trades was taken, so that session and ids mean something
	session string // of the newest trade taken
	ids     decode.IDSpace
	counted bool   // last is known
	last    uint64 // newest id, when ids count
	said    uint64 // records whose loss was said since the newest trade was taken
	recent  recent // ids, when they are names
}

// tradesRecord takes the trades of one record, each at its own time: bars end by the time of the trade that ends them.
func (c *core) tradesRecord(it *instrument) {
	m, f := &c.msg, &it.trades
	if it.state == market.Delisted {
		c.advance(it.src, m.Time)
		c.stats.delisted++
		return
	}
	if !c.sameIDs(it) {
		c.advance(it.src, m.Time)
		c.stats.otherIDs++
		return
	}
	it.dirty = true
	if m.IDs == decode.Names {
		c.nameSession(it)
	}
	f.began, f.ids = true, m.IDs
	for i := range m.Trades {
		c.trade(it, &m.Trades[i])
	}
}

// sameIDs tells whether the record's ids are of the space that the session uses; the first space of a session is its own.
func (c *core) sameIDs(it *instrument) bool {
	m, f := &c.msg, &it.trades
	if !f.began || f.ids == m.IDs {
		return true
	}
	if f.session == string(c.rec.Session) {
		return false
	}
	// Ids of another space don't tell what was missed.
	f.recent.clear()
	f.session = string(c.rec.Session)
	f.counted = false
	c.tradeGap(it, market.Session, -1)
	return true
}

// nameSession says that names do not prove that nothing was missed between two sessions.
func (c *core) nameSession(it *instrument) {
	f := &it.trades
	if f.session == string(c.rec.Session) {
		return
	}
	if f.began {
		c.tradeGap(it, market.Session, -1)
	}
	f.session = string(c.rec.Session)
}

func (c *core) trade(it *instrument, t *market.Trade) {
	c.advance(it.src, t.Time)
	if !c.isNew(it, t) {
		c.stats.duplicates++
		return
	}
	f := &it.trades
	f.said = 0
	t.Head = c.head(it, &f.seq, t.Time)
	c.out.buf = wire.AppendTrade(c.out.buf, t)
	c.out.end(wire.TemplateTrade)
	c.bars = it.series.Add(t, it.src.now, c.bars[:0])
	c.emitBars(it)
}

// isNew tells whether the trade was not seen before, and says what is missing before it.
func (c *core) isNew(it *instrument, t *market.Trade) bool {
	f := &it.trades
	if f.ids == decode.Names {
		return f.recent.add(digestOf(&t.ID))
	}
	id, _ := t.ID.Number() // the decoder gives counting ids as numbers
	if f.counted && id <= f.last {
		return false
	}
	if missed := id - f.last - 1; f.counted && missed > f.said {
		why := market.Venue
		if f.session != string(c.rec.Session) {
			why = market.Session
		}
		c.tradeGap(it, why, int64(missed)) //nolint:gosec // ids are below 2^63
	}
	f.counted, f.last = true, id
	if f.session != string(c.rec.Session) {
		f.session = string(c.rec.Session)
	}
	return true
}

// loseTrades says that trades were lost, how many is not known.
func (c *core) loseTrades(it *instrument, why market.Reason) {
	it.trades.said++
	c.tradeGap(it, why, -1)
}

func (c *core) tradeGap(it *instrument, why market.Reason, missed int64) {
	g := market.TradeGap{Head: c.head(it, &it.trades.seq, c.msg.Time), Why: why, Missed: missed}
	c.out.buf = wire.AppendTradeGap(c.out.buf, &g)
	c.out.end(wire.TemplateTradeGap)
	c.stats.gaps++
	it.series.Gap(g.Time)
}
