package client

import (
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Trades follows the trades of an instrument: OnTrade gets each once and in order, OnTradeGap says where some are missing
// and why. What a lost connection took is sent again by whichever edge comes next.
type Trades struct {
	log

	// Guarded by Topic.mu.
	trade market.Trade
	count uint64

	note market.TradeGap // what the callback gets for a gap that we found; the reader's own
}

// Trades subscribes to the trades of an instrument, beginning with the newest ones, last of them (at most 1,000).
func (c *Client) Trades(sym string, last int) (*Trades, error) {
	t := &Trades{log: log{Topic: c.topic(wire.Topic{Channel: market.Trades, Sym: sym}), newest: uint32(max(last, 0))}}
	t.self, t.every = t, true
	return add(c, t)
}

// Last returns the newest trade; ok is false before the first.
func (t *Trades) Last() (m market.Trade, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trade, t.count > 0
}

// Count returns how many trades were received.
func (t *Trades) Count() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

func (t *Trades) gap(s *session, from, to market.Sequence) {
	t.note = market.TradeGap{
		Head:   market.Head{Inst: t.Instrument().ID, Epoch: to.Epoch, Prev: from.Seq, Seq: to.Seq},
		Missed: missing(from, to),
	}
	if f := s.c.cfg.Handler.OnTradeGap; f != nil {
		f(t, &t.note)
	}
}

func (t *Trades) onTrade(s *session, m *market.Trade) {
	if !t.follow(s, &m.Head) {
		return
	}
	t.mu.Lock()
	t.trade = *m
	t.count++
	t.mu.Unlock()
	if f := s.c.cfg.Handler.OnTrade; f != nil {
		f(t, m)
	}
}

func (t *Trades) onGap(s *session, m *market.TradeGap) {
	if !t.follow(s, &m.Head) {
		return
	}
	t.mu.Lock()
	t.gaps++
	t.mu.Unlock()
	if f := s.c.cfg.Handler.OnTradeGap; f != nil {
		f(t, m)
	}
}
