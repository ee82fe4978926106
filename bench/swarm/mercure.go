package swarm

import "net/url"

// mercure is the subscriptions of a Mercure hub: an event stream, with the topics in the query. A client that comes back
// names the last event that it had; a hub that can go on from there says so.
type mercure struct{ rival }

func (d mercure) request(b []byte, c *client) []byte {
	path := d.s.path
	if path == "" || path == "/" {
		path = "/.well-known/mercure"
	}
	b = append(append(b, "GET "...), path...)
	for i, name := range d.names(c) {
		if i == 0 {
			b = append(b, '?')
		} else {
			b = append(b, '&')
		}
		b = append(append(b, "topic="...), url.QueryEscape(name)...)
	}
	return appendLastEvent(append(b, " HTTP/1.1\r\nAccept: text/event-stream"...), c)
}

// appendLastEvent names the last event that a client had, if it is back.
func appendLastEvent(b []byte, c *client) []byte {
	if c.lost > 0 && len(c.stream.id) > 0 {
		b = append(append(b, "\r\nLast-Event-ID: "...), c.stream.id...)
	}
	return b
}

// opened looks for what the hub begins behind. When it keeps no history it does not say.
func (d mercure) opened(c *client, head []byte) error {
	if begin := headerOf(head, "Last-Event-ID"); begin == nil || string(begin) != string(c.stream.id) {
		d.anew(c)
	}
	if err := openBody(c, head); err != nil {
		return err
	}
	d.s.run(c)
	return nil
}
