package swarm

import (
	"bytes"
	"time"
)

// nchan is nginx with nchan. The topics stand in the URL, several of them as a list, which the server must be set up for
// (nchan_channel_id_split_delimiter). Messages have ids, by which a client that comes back gets what it missed; if some of it
// has been dropped meanwhile, nobody says so, and what comes does not follow.
//
// A new subscriber gets old messages first, unless the server is set up otherwise. They are none of ours.
type nchan struct{ rival }

func (d nchan) request(b []byte, c *client) []byte {
	if d.s.since == 0 {
		d.s.since = time.Now().UnixMicro()
	}
	return appendLastEvent(d.getTopics(b, c), c)
}

// nchanStreams is its event streams.
type nchanStreams struct{ nchan }

func (d nchanStreams) request(b []byte, c *client) []byte {
	return append(d.nchan.request(b, c), "\r\nAccept: text/event-stream"...)
}

func (d nchanStreams) opened(c *client, head []byte) error {
	if err := openBody(c, head); err != nil {
		return err
	}
	d.s.run(c)
	return nil
}

// nchanSockets is its WebSocket. Messages have ids if the server agrees to a subprotocol of its own.
type nchanSockets struct{ nchan }

func (d nchanSockets) request(b []byte, c *client) []byte {
	return append(append(d.nchan.request(b, c), upgrade...), "\r\nSec-WebSocket-Protocol: ws+meta.nchan"...)
}

func (d nchanSockets) opened(c *client, head []byte) error {
	if headerOf(head, "Sec-WebSocket-Protocol") == nil {
		d.anew(c)
	}
	d.s.run(c)
	return nil
}

func (d nchanSockets) message(c *client, _ byte, payload []byte, now int64) error {
	if id, ok := bytes.CutPrefix(payload, []byte("id: ")); ok {
		i, end := bytes.IndexByte(id, '\n'), bytes.Index(id, []byte("\n\n"))
		if end < 0 {
			d.s.report.Malformed++
			return nil
		}
		c.stream.id = append(c.stream.id[:0], id[:i]...)
		payload = id[end+2:]
	}
	d.payload(c, payload, now)
	return nil
}
