package ws

import (
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// subscription is a topic that a client has, or a channel of all instruments: a *fanout.Sub or a *wildcard.
type subscription interface {
	Go()
	Again()
	Cancel()
}

// topics are a client's subscriptions. There are many in all, so a pointer is kept of most, and nothing else: a topic
// knows what it is.
type topics struct {
	subs []*fanout.Sub
	rare *rare // nil for most clients
}

// rare is what few clients have.
type rare struct {
	wild []*wildcard
	late map[*fanout.Sub]*time.Timer // ends it when this edge does not catch up with the client
}

// wildcard is a subscription to a channel of all instruments.
type wildcard struct {
	*mirror.Wildcard
	topic    wire.Topic
	view     market.View
	lossless bool
	behind   int // how many of topics.subs came before it
}

// asked is what the client has asked for by a subscription.
func asked(s subscription) (topic *wire.Topic, view market.View, lossless bool) {
	if w, ok := s.(*wildcard); ok {
		return &w.topic, w.view, w.lossless
	}
	sub := s.(*fanout.Sub)
	topic, view = mirror.Followed(sub)
	return topic, view, sub.Lossless()
}

func (t *topics) len() int {
	n := len(t.subs)
	if t.rare != nil {
		n += len(t.rare.wild)
	}
	return n
}

// all lists them in the order in which they came; the list may be kept.
func (t *topics) all() []subscription {
	list := make([]subscription, 0, t.len())
	var wild []*wildcard
	if t.rare != nil {
		wild = t.rare.wild
	}
	for i := range len(t.subs) + 1 {
		for ; len(wild) > 0 && wild[0].behind == i; wild = wild[1:] {
			list = append(list, wild[0])
		}
		if i < len(t.subs) {
			list = append(list, t.subs[i])
		}
	}
	return list
}

// find returns the subscription to a topic, or nil.
func (t *topics) find(topic *wire.Topic) subscription {
	for _, s := range t.subs {
		if have, _ := mirror.Followed(s); *have == *topic {
			return s
		}
	}
	if t.rare != nil {
		for _, w := range t.rare.wild {
			if w.topic == *topic {
				return w
			}
		}
	}
	return nil
}

// grow makes room for n more.
func (t *topics) grow(n int) { t.subs = slices.Grow(t.subs, max(0, n)) }

func (t *topics) add(s subscription) {
	switch s := s.(type) {
	case *fanout.Sub:
		t.subs = append(t.subs, s)
	case *wildcard:
		s.behind = len(t.subs)
		r := t.more()
		r.wild = append(r.wild, s)
	}
}

func (t *topics) more() *rare {
	if t.rare == nil {
		t.rare = &rare{late: make(map[*fanout.Sub]*time.Timer)}
	}
	return t.rare
}

// end ends one of them. It reports false when the client does not have it any more.
func (t *topics) end(s subscription) bool {
	switch s := s.(type) {
	case *fanout.Sub:
		i := slices.Index(t.subs, s)
		if i < 0 {
			return false
		}
		t.remove(i)
		t.arrived(s)
	case *wildcard:
		i := slices.Index(t.more().wild, s)
		if i < 0 {
			return false
		}
		t.rare.wild = slices.Delete(t.rare.wild, i, i+1)
	}
	s.Cancel()
	return true
}

func (t *topics) remove(i int) {
	t.subs = slices.Delete(t.subs, i, i+1)
	if t.rare == nil {
		return
	}
	for _, w := range t.rare.wild {
		if w.behind > i {
			w.behind--
		}
	}
}

// endAll ends all of them.
func (t *topics) endAll() {
	for _, s := range t.all() {
		t.end(s)
	}
	*t = topics{}
}

// arrived stops waiting for this edge to catch up.
func (t *topics) arrived(s *fanout.Sub) {
	if t.rare == nil {
		return
	}
	if timer := t.rare.late[s]; timer != nil {
		timer.Stop()
		delete(t.rare.late, s)
	}
}
