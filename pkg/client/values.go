package client

import (
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// value is a topic of which the newest message says everything.
type value struct{ Topic }

func (v *value) request(*wire.TopicRequest) {}

func (v *value) lost() {}

func (v *value) acked(_ *session, row *wire.Row) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.learn(row)
	v.enter(synced)
}

// newer tells whether a message is newer than what we hold; the caller holds mu.
func (v *value) newer(h *market.Head, was *market.Head) bool {
	return v.phase != offline && v.phase != ended && (v.epoch == 0 || h.Epoch <= v.epoch) &&
		(!v.has || h.Sequence().Compare(was.Sequence()) > 0 || h.Sequence() == was.Sequence() && h.Time > was.Time)
}

// took notes that a message was applied. The caller holds mu.
func (v *value) took(h *market.Head) {
	v.at, v.has = h.Sequence(), true
	if v.epoch == 0 {
		v.epoch = h.Epoch
	}
}

// BBO follows the best bid and offer of an instrument.
type BBO struct {
	value
	last market.BBO // guarded by Topic.mu
}

// BBO subscribes to the best bid and offer.
func (c *Client) BBO(sym string) (*BBO, error) {
	t := &BBO{value: value{c.topic(wire.Topic{Channel: market.BBOs, Sym: sym})}}
	return add(c, t)
}

// Value returns the newest BBO; ok is false before the first.
func (t *BBO) Value() (m market.BBO, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.has
}

func (t *BBO) onBBO(s *session, m *market.BBO) {
	t.mu.Lock()
	again := t.renumbered(&m.Head)
	fresh := !again && t.newer(&m.Head, &t.last.Head)
	if fresh {
		t.last = *m
		t.took(&m.Head)
	}
	t.mu.Unlock()
	if again {
		s.ask(wire.OpSub, t)
	}
	if f := s.c.cfg.Handler.OnBBO; f != nil && fresh {
		f(t, m)
	}
}

// Ticker follows the last trade and the rolling 24 h values of an instrument.
type Ticker struct {
	value
	last market.Ticker // guarded by Topic.mu
}

// Ticker subscribes to the ticker.
func (c *Client) Ticker(sym string) (*Ticker, error) {
	t := &Ticker{value: value{c.topic(wire.Topic{Channel: market.Tickers, Sym: sym})}}
	return add(c, t)
}

// Value returns the newest ticker; ok is false before the first.
func (t *Ticker) Value() (m market.Ticker, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.has
}

func (t *Ticker) onTicker(s *session, m *market.Ticker) {
	t.mu.Lock()
	again := t.renumbered(&m.Head)
	fresh := !again && t.newer(&m.Head, &t.last.Head)
	if fresh {
		t.last = *m
		t.took(&m.Head)
	}
	t.mu.Unlock()
	if again {
		s.ask(wire.OpSub, t)
	}
	if f := s.c.cfg.Handler.OnTicker; f != nil && fresh {
		f(t, m)
	}
}

// Status follows the description of an instrument and the state of its feed.
type Status struct {
	value
	last market.Status // guarded by Topic.mu
}

// Status subscribes to the status.
func (c *Client) Status(sym string) (*Status, error) {
	t := &Status{value: value{c.topic(wire.Topic{Channel: market.Statuses, Sym: sym})}}
	return add(c, t)
}

// Value returns the newest status; ok is false before the first.
func (t *Status) Value() (m market.Status, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.has
}

// onStatus needs no look at the epoch: a status brings its own scales.
func (t *Status) onStatus(s *session, m *market.Status) {
	t.mu.Lock()
	t.epoch = max(t.epoch, m.Epoch)
	fresh := t.newer(&m.Head, &t.last.Head)
	if fresh {
		t.last = *m
		t.inst = m.Instrument
		t.took(&m.Head)
	}
	t.mu.Unlock()
	if f := s.c.cfg.Handler.OnStatus; f != nil && fresh {
		f(t, m)
	}
}
