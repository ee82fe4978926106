package swarm

import (
	"bytes"
	"time"
)

// events looks at all events that have come.
func (s *Swarm) events(c *client, b []byte) error {
	now := time.Now().UnixMicro()
	r := &c.stream
	r.feed(b)
	for {
		if more, err := r.more(); !more {
			return err
		}
		if text := r.cutWhole(); text != nil {
			if err := s.whole(c, text, now); err != nil {
				return err
			}
			continue
		}
		switch ok, err := r.next(); {
		case err != nil:
			return err
		case ok:
			s.heard = s.streams.look(r)
			if err := s.streams.happened(c, &s.heard, now); err != nil {
				return err
			}
		}
	}
}

// event is what matters of an event.
type event struct {
	name   string
	place  uint64 // of its id; 0 when that is none
	m      message
	broken bool   // it should hold a message, and does not
	data   []byte // what it holds when that is no message
}

// whole deals with text that is whole events. Like compressed messages, it is looked at once, not once for each client that
// gets it.
func (s *Swarm) whole(c *client, text []byte, now int64) error {
	k := s.known[string(text)]
	if k == nil {
		k = s.know(text)
		if len(s.known) >= maxInflated {
			clear(s.known)
		}
		s.known[string(text)] = k
	}
	if len(k.id) > 0 {
		c.stream.id = append(c.stream.id[:0], k.id...)
	}
	for i := range k.events {
		if err := s.streams.happened(c, &k.events[i], now); err != nil {
			return err
		}
	}
	return nil
}

// known is text that has been looked at.
type known struct {
	events []event
	id     []byte // the last one
}

// know looks at whole events.
func (s *Swarm) know(text []byte) *known {
	r := stream{text: text}
	k := &known{}
	for {
		ok, err := r.next()
		if !ok || err != nil {
			k.id = r.id
			return k
		}
		e := s.streams.look(&r)
		e.data = bytes.Clone(e.data)
		k.events = append(k.events, e)
	}
}
