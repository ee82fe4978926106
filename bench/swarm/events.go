package swarm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tickwire/tickwire/bench/target"
)

// appendStreamRequest appends the request line and the headers of a client's own: its topics' trades, from the place on
// that it has come to, if it has.
func (s *Swarm) appendStreamRequest(b []byte, c *client) []byte {
	b = append(b, "GET /v1/sse/trades?symbols="...)
	for i, t := range c.topics {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, target.Sym(t)...)
	}
	b = strconv.AppendInt(append(b, "&rate="...), s.cfg.Rate.Milliseconds(), 10)
	b = append(b, " HTTP/1.1\r\nAccept: text/event-stream"...)
	if s.cfg.Deflate {
		b = append(b, "\r\nAccept-Encoding: gzip"...)
	}
	if c.lost > 0 && len(c.stream.id) > 0 {
		b = append(append(b, "\r\nLast-Event-ID: "...), c.stream.id...)
	}
	return b
}

// openStream begins with an event stream's body.
func (s *Swarm) openStream(c *client, head []byte) error {
	c.state, c.place = greeting, 0
	if !bytes.Contains(head, []byte("Transfer-Encoding: chunked\r\n")) {
		return fmt.Errorf("a body without chunks: %.200q", head)
	}
	var inflate func([]byte) ([]byte, error)
	if bytes.Contains(head, []byte("Content-Encoding: gzip\r\n")) {
		inflate = s.inflateChunk
	}
	if s.cfg.Deflate != (inflate != nil) {
		return fmt.Errorf("compressed: %t, and wanted %t", inflate != nil, s.cfg.Deflate)
	}
	c.stream.reset(inflate)
	if s.cfg.Floor {
		s.run(c)
	}
	return nil
}

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
			e := eventOf(r)
			if err := s.happened(c, &e, now); err != nil {
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

// eventOf looks at the event that a stream has found.
func eventOf(r *stream) (e event) {
	e.place, _ = placeOf(r.id)
	switch string(r.name) {
	case "trade", "gap":
		var ok bool
		e.name = "trade"
		if e.m, _, ok = parseJSON(r.data); !ok {
			e.broken = true
		}
		if r.name[0] == 'g' {
			e.name = "gap"
		}
	default:
		e.name, e.data = string(r.name), r.data
	}
	return e
}

// whole deals with text that is whole events. Like compressed messages, it is looked at once, not once for each client that
// gets it.
func (s *Swarm) whole(c *client, text []byte, now int64) error {
	k := s.known[string(text)]
	if k == nil {
		k = know(text)
		if len(s.known) >= maxInflated {
			clear(s.known)
		}
		s.known[string(text)] = k
	}
	if len(k.id) > 0 {
		c.stream.id = append(c.stream.id[:0], k.id...)
	}
	for i := range k.events {
		if err := s.happened(c, &k.events[i], now); err != nil {
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
func know(text []byte) *known {
	r := stream{text: text}
	k := &known{}
	for {
		ok, err := r.next()
		if !ok || err != nil {
			k.id = r.id
			return k
		}
		e := eventOf(&r)
		e.data = bytes.Clone(e.data)
		k.events = append(k.events, e)
	}
}

// happened deals with an event.
func (s *Swarm) happened(c *client, e *event, now int64) error {
	switch e.name {
	case "trade", "gap":
		if e.broken || e.place <= c.place {
			s.report.Malformed++ // its id leads nowhere, or back
		}
		c.place = e.place
		switch {
		case e.broken:
		case e.name == "gap":
			s.gap(c, e.m)
		default:
			s.follow(c, e.m, now)
		}
	case "hello":
		c.place = e.place
		if bytes.Contains(e.data, []byte(`"how":"replay"`)) {
			s.run(c)
		}
	case "reset":
		s.report.GapNotices++ // what is missing does not come
	case "snapshot":
		c.place = e.place
		if err := s.begun(c, e.data); err != nil {
			return err
		}
		if c.state != running {
			s.run(c)
		}
	case "goodbye":
		return fmt.Errorf("sent away: %.100q", e.data)
	case "status", "hb":
	default:
		s.report.Malformed++
	}
	return nil
}

// begun takes from a snapshot how far its instruments have come. All clients of a stream get the same.
func (s *Swarm) begun(c *client, b []byte) error {
	if !bytes.Equal(b, s.lastSnapshot.text) {
		var m struct {
			Items []struct {
				Sym string
				Seq uint32
			}
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("a snapshot: %w", err)
		}
		last := &s.lastSnapshot
		last.text, last.seqs = append(last.text[:0], b...), map[int]uint32{}
		for _, item := range m.Items {
			t, err := strconv.Atoi(item.Sym[min(1, len(item.Sym)):])
			if err != nil || t >= s.cfg.Topics {
				return fmt.Errorf("a snapshot with instrument %.20q", item.Sym)
			}
			last.seqs[t] = item.Seq
		}
	}
	for t, seq := range s.lastSnapshot.seqs {
		c.seqs[t] = seq
	}
	return nil
}

// placeOf reads the offset out of an id: base64url of a bitmap of partitions, which begins with its length, and of offsets.
// All topics are in one partition here.
func placeOf(id []byte) (offset uint64, ok bool) {
	i := bytes.IndexByte(id, '.')
	if i < 0 || len(id) > 200 {
		return 0, false
	}
	var room [150]byte
	n, err := base64.RawURLEncoding.Decode(room[:], id[i+1:])
	if err != nil || n < 1 || n < int(room[0])+2 {
		return 0, false
	}
	offset, read := binary.Uvarint(room[1+int(room[0]) : n])
	return offset, read > 0
}
