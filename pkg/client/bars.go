package client

import (
	"cmp"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Bars follows the bars of an instrument and interval. A final bar comes once; a late trade makes the edge send it again, with
// a greater Rev. The bar that is still open comes whole whenever it changes.
type Bars struct {
	log
	keep int

	// Guarded by Topic.mu.
	finals []market.Bar // the newest final ones, oldest first
	open   market.Bar
	opened bool

	note BarGap // what the callback gets for a gap that we found; the reader's own
}

// Bars subscribes to the bars of an instrument, beginning with the newest final ones, history of them (at most 2,048). As
// many, and at least one, are kept for AppendClosed.
func (c *Client) Bars(sym string, iv market.Interval, history int) (*Bars, error) {
	t := &Bars{
		log: log{
			Topic:  c.topic(wire.Topic{Channel: market.Bars, Sym: sym, Interval: iv}),
			newest: uint32(max(history, 0)),
		},
		keep: max(history, 1),
	}
	t.self, t.every = t, true
	return add(c, t)
}

// Open returns the bar that is still open; ok is false when there is none.
func (t *Bars) Open() (m market.Bar, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open, t.opened
}

// AppendClosed appends the newest final bars, oldest first, corrections applied.
func (t *Bars) AppendClosed(dst []market.Bar) []market.Bar {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(dst, t.finals...)
}

func (t *Bars) gap(s *session, from, to market.Sequence) {
	t.note = BarGap{
		Head:     market.Head{Inst: t.Instrument().ID, Epoch: to.Epoch, Prev: from.Seq, Seq: to.Seq},
		Interval: t.id.Interval,
		Missed:   missing(from, to),
	}
	if f := s.c.cfg.Handler.OnBarGap; f != nil {
		f(t, &t.note)
	}
}

func (t *Bars) onBar(s *session, m *market.Bar) {
	if m.Final {
		if !t.follow(s, &m.Head) {
			return
		}
		t.install(m)
	} else if !t.update(s, m) {
		return
	}
	if f := s.c.cfg.Handler.OnBar; f != nil {
		f(t, m)
	}
}

// install puts a final bar in its place.
func (t *Bars) install(m *market.Bar) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, found := slices.BinarySearchFunc(t.finals, m.Start, func(b market.Bar, start market.Time) int { return cmp.Compare(b.Start, start) })
	switch {
	case found:
		if m.Rev >= t.finals[i].Rev {
			t.finals[i] = *m
		}
	case len(t.finals) < t.keep:
		t.finals = slices.Insert(t.finals, i, *m)
	case i > 0: // the oldest makes room
		copy(t.finals, t.finals[1:i])
		t.finals[i-1] = *m
	}
	if t.opened && t.open.Start <= m.Start {
		t.opened = false
	}
}

// update takes an open bar, whose sequence is that of the trade it follows.
func (t *Bars) update(s *session, m *market.Bar) bool {
	t.mu.Lock()
	again := t.renumbered(&m.Head)
	n := len(t.finals)
	fresh := !again && t.phase == synced && m.Sequence().Compare(t.open.Sequence()) > 0 &&
		(n == 0 || m.Start > t.finals[n-1].Start)
	if fresh {
		t.open, t.opened = *m, true
	}
	t.mu.Unlock()
	if again {
		s.ask(wire.OpSub, t)
	}
	return fresh
}

func (t *Bars) onGap(s *session, m *BarGap) {
	if !t.follow(s, &m.Head) {
		return
	}
	t.mu.Lock()
	t.gaps++
	t.mu.Unlock()
	if f := s.c.cfg.Handler.OnBarGap; f != nil {
		f(t, m)
	}
}
