package swarm

import (
	"bytes"
	"encoding/binary"
	"syscall"

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
		topic: int(le.Uint32(b[atInst:])) - 1, prev: le.Uint64(b[atPrev:]), seq: le.Uint64(b[atSeq:]), due: int64(le.Uint64(b[atTime:])),
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

// json reads the same from a text message.
func (s *Swarm) json(c *client, b []byte, now int64) {
	m, kind, ok := parseJSON(b)
	switch {
	case !ok:
		if bytes.Contains(b, []byte(`"state":`)) {
			return // a notice about the topic
		}
		s.report.Malformed++
	case kind == 'g':
		s.gap(c, m)
	default:
		s.follow(c, m, now)
	}
}

// parseJSON reads what matters of a text message, whose keys come in a fixed order. Kind is the first letter of its type.
func parseJSON(b []byte) (m message, kind byte, ok bool) {
	sym, rest := after(b, `"sym":"S`)
	kind, rest = text(rest, `"t":"`)
	prev, rest := after(rest, `"prev":`)
	seq, rest := after(rest, `"seq":`)
	due, rest := after(rest, `"ts":`)
	return message{topic: int(sym), prev: prev, seq: seq, due: int64(due), snapshot: kind == 's'}, kind, rest != nil
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

// text finds a key and the first letter of the text that follows it.
func text(b []byte, key string) (first byte, rest []byte) {
	i := bytes.Index(b, []byte(key))
	if i < 0 || i+len(key) >= len(b) {
		return 0, nil
	}
	return b[i+len(key)], b[i+len(key):]
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
		if s.cfg.SSE {
			s.report.Again++
		}
		return
	case s.adopts && last == 0:
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
	if !s.measuring || m.snapshot && last == 0 {
		return
	}
	s.report.Messages++
	s.report.Updates += int64(m.seq - last)
	_ = s.hist.RecordValue(min(max(1, now-m.due), MaxLatency)) // in range by construction
}

// tell counts arrivals, and tells the server when every client has a message. The topics' sequences begin behind that of
// the snapshot, if there is one.
func (s *Swarm) tell(last, seq uint64) {
	base := target.Last(s.cfg.Channel, 1, 0, 0)
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
