package swarm

import (
	"bytes"
	"fmt"
	"math"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// edgeSockets is the protocol of our WebSocket edge.
type edgeSockets struct{ s *Swarm }

func (d edgeSockets) request(b []byte, _ *client) []byte {
	path := d.s.path
	if path == "" || path == "/" {
		path = "/v1/ws"
	}
	b = append(append(append(b, "GET "...), path...), " HTTP/1.1"+upgrade+"\r\nSec-WebSocket-Protocol: "...)
	if d.s.cfg.JSON {
		b = append(b, wire.SubprotocolJSON...)
	} else {
		b = append(b, wire.SubprotocolSBE...)
	}
	if d.s.cfg.Deflate {
		b = append(b, "\r\nSec-WebSocket-Extensions: permessage-deflate"...)
	}
	return b
}

// opened waits for the edge's hello.
func (d edgeSockets) opened(*client, []byte) error { return nil }

func (d edgeSockets) message(c *client, opcode byte, payload []byte, now int64) error {
	switch {
	case opcode == opBinary:
		d.s.sbe(c, payload, now)
	case d.s.cfg.JSON && bytes.HasPrefix(payload, []byte(`{"ch":`)):
		d.s.json(c, payload, now)
	default:
		return d.control(c, payload)
	}
	return nil
}

// control deals with what is not market data.
func (d edgeSockets) control(c *client, b []byte) error {
	switch {
	case bytes.HasPrefix(b, []byte(`{"ev":"hello"`)):
		return d.subscribe(c)
	case bytes.HasPrefix(b, []byte(`{"ev":"lag"`)):
		d.s.report.Lags++
	case bytes.HasPrefix(b, []byte(`{"id":`)):
		return d.acknowledged(c, b)
	}
	return nil
}

// subscribe asks for the client's topics, from its place on if it has one.
func (d edgeSockets) subscribe(c *client) error {
	c.state = asking
	channel, _ := market.ParseChannel(d.s.cfg.Channel) // the server has checked it
	y := &d.s.symbols
	for from := 0; from < len(c.topics); from += y.batch {
		c.acks++
		r := wire.Request{Op: wire.OpSub, ID: "1"}
		for _, t := range c.topics[from:min(from+y.batch, len(c.topics))] {
			topic := wire.TopicRequest{Topic: wire.Topic{Channel: channel, Sym: y.names[t]}}
			if c.lost > 0 && c.seqs[t] > 0 {
				topic.From = y.place(t, c.seqs[t])
			}
			r.Topics = append(r.Topics, topic)
		}
		if err := send(c, opText, wire.AppendRequest(nil, &r)); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged takes the answer to a request.
func (d edgeSockets) acknowledged(c *client, b []byte) error {
	if c.state != asking {
		return fmt.Errorf("unasked: %.100s", b)
	}
	var m wire.Message
	if err := wire.DecodeJSON(b, func([]byte) *market.Instrument { return nil }, &m); err != nil {
		return fmt.Errorf("%.100s: %w", b, err)
	}
	if m.Kind == wire.KindAck && len(m.Ack.Errs) > 0 {
		e := &m.Ack.Errs[0]
		return fmt.Errorf("refused: %s of %s: %s: %s", e.Channel, e.Sym, e.Code, e.Msg)
	}
	if m.Kind != wire.KindAck {
		return fmt.Errorf("refused: %.200s", b)
	}
	for i := range m.Ack.OK {
		row := &m.Ack.OK[i]
		t, err := d.s.symbols.learn(row)
		if err != nil {
			return err
		}
		if row.Sequence.Seq > math.MaxUint32/2 {
			return fmt.Errorf("%v of %s has come to %d, further than is counted here", row.Channel, row.Sym, row.Sequence.Seq)
		}
		switch {
		case row.How == wire.HowReplay:
		case c.lost > 0 && c.seqs[t] > 0:
			d.s.report.GapNotices++ // what is missing does not come
			c.seqs[t] = 0
		case row.Channel == market.Trades:
			c.seqs[t] = uint32(row.Sequence.Seq)
		}
	}
	if c.acks--; c.acks == 0 {
		d.s.run(c)
	}
	return nil
}
