package swarm

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/wire"
)

// message is what matters of a market message.
type message struct {
	topic    int
	prev     uint64
	seq      uint64
	due      int64 // µs
	snapshot bool
}

// Where the fields of all market messages stand, in bytes (tickwire.xml).
const (
	atTemplate = 2
	atInst     = 8
	atPrev     = 8 + 8
	atSeq      = 8 + 16
	atTime     = 8 + 24
	headEnd    = 8 + 40
)

func (s *Swarm) sbe(c *client, b []byte, now int64) {
	if len(b) < headEnd {
		s.report.Malformed++
		return
	}
	le := binary.LittleEndian
	m := message{
		topic: s.symbols.byInst(le.Uint32(b[atInst:])), prev: le.Uint64(b[atPrev:]), seq: le.Uint64(b[atSeq:]), due: int64(le.Uint64(b[atTime:])),
	}
	switch wire.Template(le.Uint16(b[atTemplate:])) {
	case wire.TemplateBookSnapshot:
		m.snapshot = true
	case wire.TemplateBookUpdate, wire.TemplateTrade:
	case wire.TemplateTradeGap:
		s.gap(c, m)
		return
	default:
		return
	}
	s.follow(c, m, now)
}

// gap takes the word that trades are missing.
func (s *Swarm) gap(c *client, m message) {
	s.report.GapNotices++
	if m.topic >= 0 && m.topic < len(c.seqs) {
		c.seqs[m.topic] = uint32(m.seq)
	}
}

// json reads the same from a text message, and returns the topic that it names.
func (s *Swarm) json(c *client, b []byte, now int64) (topic int) {
	m, kind, ok := s.parseJSON(b)
	switch {
	case !ok:
		if bytes.Contains(b, []byte(`"state":`)) {
			return m.topic // a notice about it
		}
		s.report.Malformed++
	case kind == 'g':
		s.gap(c, m)
	default:
		s.follow(c, m, now)
	}
	return m.topic
}

// parseJSON reads what matters of a text message, whose keys come in a fixed order. Kind is the first letter of its type.
func (s *Swarm) parseJSON(b []byte) (m message, kind byte, ok bool) {
	sym, rest := word(b, `"sym":"`)
	word, rest := word(rest, `"t":"`)
	prev, rest := after(rest, `"prev":`)
	seq, rest := after(rest, `"seq":`)
	due, rest := after(rest, `"ts":`)
	if rest == nil || len(word) == 0 {
		return message{}, 0, false
	}
	return message{topic: s.symbols.bySym(sym), prev: prev, seq: seq, due: int64(due), snapshot: word[0] == 's'}, word[0], true
}

// after finds a key and the number that follows it. The rest is nil when there is none.
func after(b []byte, key string) (n uint64, rest []byte) {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return 0, nil
	}
	b = b[i+len(key):]
	for i = 0; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:]
}

// word finds a key and the text that follows it, up to the next quote. The rest is nil when there is none.
func word(b []byte, key string) (w, rest []byte) {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return nil, nil
	}
	b = b[i+len(key):]
	if i = bytes.IndexByte(b, '"'); i < 0 {
		return nil, nil
	}
	return b[:i], b[i:]
}

// follow checks that a message follows what the client has, and measures its age.
func (s *Swarm) follow(c *client, m message, now int64) {
	if m.topic < 0 || m.topic >= len(c.seqs) || m.seq == 0 {
		s.report.Malformed++
		return
	}
	last := uint64(c.seqs[m.topic])
	switch {
	case m.snapshot:
	case m.seq <= last:
		if s.cfg.SSE || s.adopts || c.lost == 0 {
			s.report.Again++
		}
		return
	case s.adopts && last == 0:
		if m.due < s.since {
			return
		}
		last = m.prev
	case m.prev > last:
		s.report.Gaps++
	}
	c.seqs[m.topic] = uint32(m.seq)
	if s.arrived != nil {
		s.tell(last, m.seq)
	}
	if !c.counted && m.due >= c.lost && c.state == running {
		s.count(c)
	}
	if m.snapshot && (last == 0 || m.seq <= last) { // what tells nothing new is as old as the book
		return
	}
	timed := s.measuring
	if timed {
		s.report.Messages++
		s.report.Updates += int64(m.seq - last)
	}
	if !s.cfg.Aged {
		timed = s.wanted(m.due)
	}
	if timed {
		if m.due > now {
			s.report.Early++
		}
		schedule.Record(s.hist, m.due, now)
	}
}

// tell counts arrivals, and tells the server when every client has a message. The topics' sequences begin behind that of
// the snapshot, if there is one.
func (s *Swarm) tell(last, seq uint64) {
	base := s.cfg.base(0)
	for i := max(last, base) + 1; i <= seq; i++ {
		s.arrived[i%uint64(len(s.arrived))]++
	}
	moved := false
	for {
		at := &s.arrived[(s.all+base+1)%uint64(len(s.arrived))]
		if *at < len(s.clients) {
			break
		}
		*at = 0
		s.all++
		moved = true
	}
	if moved {
		ack := target.Ack{Swarm: uint8(s.cfg.Number), Done: s.all}
		_, _ = syscall.Write(s.ackFD, ack.Append(make([]byte, 0, 9))) // a lost one is made good by the next
	}
}
