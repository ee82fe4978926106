package client

import (
	"errors"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// errEpoch says that a topic's numbering began anew. Its scales may have changed too, so the edge is asked for them before
// anything of the new numbering is used.
var errEpoch = errors.New("client: another epoch")

// log is a topic of which each message counts: trades, and final bars. It sees that each comes once and in order, has the
// edge send again what is missing, and says what won't come any more.
type log struct {
	Topic
	newest uint32 // how much history to begin with
	self   logged

	// Guarded by Topic.mu.
	base    market.Sequence // what the edge said it stood at; history reaches up to here
	history bool            // what comes now lies at or before base, and need not be contiguous
	begged  bool            // what is missing was asked for
}

// logged is the subscription around a log.
type logged interface {
	subscription
	// gone tells the caller that what lies in (from, to] is lost.
	gap(s *session, from, to market.Sequence)
}

// verdict is what to do with a message.
type verdict uint8

const (
	ignore  verdict = iota
	apply           // it follows
	beg             // something is missing before it: have the edge go on from what we have
	restart         // the numbering began anew: have the edge go on from there
	lose            // what is missing won't come any more: say so, and apply
)

// judge decides about the message with this head. The caller holds mu.
func (l *log) judge(h *market.Head) verdict {
	at, last := h.Sequence(), l.last()
	switch {
	case l.phase != synced && l.phase != asking, l.phase == asking && !l.has:
		return ignore
	case l.renumbered(h):
		return restart
	case l.history && at.Epoch == l.base.Epoch && at.Seq <= l.base.Seq:
		return apply
	case at.Compare(last) <= 0:
		return ignore
	case h.Epoch == last.Epoch && h.Prev <= last.Seq:
		return apply
	case l.phase == asking:
		return ignore // the answer brings it again
	case last.Epoch == 0: // there was nothing when the edge answered
		return apply
	case l.begged:
		return lose
	}
	return beg
}

// last is the place that the next message must follow. The caller holds mu.
func (l *log) last() market.Sequence {
	if l.history || !l.has {
		return l.base
	}
	return l.at
}

// take moves to a message. The caller holds mu.
func (l *log) take(h *market.Head) {
	at := h.Sequence()
	if l.history && at.Compare(l.base) > 0 {
		l.history = false
	}
	if !l.has || at.Compare(l.at) > 0 {
		l.at = at
	}
	l.has, l.begged = true, false
	if l.epoch == 0 {
		l.epoch = at.Epoch
	}
}

// place decides about a message and moves to it when it counts.
func (l *log) place(h *market.Head) (v verdict, last market.Sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, last = l.judge(h), l.last()
	switch v {
	case apply:
		l.take(h)
	case lose:
		l.take(h)
		l.gaps++
	case beg:
		l.begged = true
	case restart:
		l.at, l.has, l.history = market.Sequence{Epoch: h.Epoch, Seq: h.Prev}, true, false
		if h.Prev > 0 {
			l.gaps++
		}
	}
	return v, last
}

// follow does with a message what place decided and tells whether it counts.
func (l *log) follow(s *session, h *market.Head) bool {
	v, last := l.place(h)
	prev := market.Sequence{Epoch: h.Epoch, Seq: h.Prev}
	switch v {
	case apply:
		return true
	case beg:
		s.missed(l.self, &GapError{Local: last, Prev: prev})
	case restart:
		if h.Prev > 0 {
			l.self.gap(s, last, prev)
		}
		s.ask(wire.OpSub, l.self)
	case lose:
		l.self.gap(s, last, prev)
		return true
	}
	return false
}

// request asks for what follows what we have, or for history.
func (l *log) request(r *wire.TopicRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.has:
		r.From = l.at
	case l.id.Channel == market.Bars:
		r.History = l.newest
	default:
		r.Last = l.newest
	}
}

// lost keeps what of the history has come: the edge goes on from there.
func (l *log) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = false
}

func (l *log) acked(s *session, row *wire.Row) {
	if from, lost := l.goOn(row); lost {
		l.self.gap(s, from, row.Sequence)
	}
}

// goOn takes the edge's answer and tells whether it leaves out what follows from.
func (l *log) goOn(row *wire.Row) (from market.Sequence, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = l.last()
	l.learn(row)
	l.enter(synced)
	switch {
	case !l.has:
		l.base, l.history = row.Sequence, l.newest > 0
		l.at, l.has = row.Sequence, !l.history && row.Sequence.Epoch != 0
		return from, false
	case row.How == wire.HowReplay || row.Sequence.Compare(from) <= 0:
		return from, false
	}
	l.base, l.at, l.begged = row.Sequence, row.Sequence, false
	l.gaps++
	return from, true
}

// missing is the number of messages between two places, -1 when it can't be known.
func missing(from, to market.Sequence) int64 {
	if from.Epoch != to.Epoch {
		return -1
	}
	return int64(to.Seq - from.Seq)
}
