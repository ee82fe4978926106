package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tickwire/tickwire/bench/target"
)

// rival is what the dialects of other servers have in common: they carry our messages as payloads, on topics that have the
// names of our instruments. The first message of a topic says where it begins.
type rival struct{ s *Swarm }

// name is what the server calls a topic.
func (d rival) name(topic int) string {
	return target.TopicName(d.s.cfg.TopicName, d.s.symbols.names[topic])
}

// names are those of a client's topics.
func (d rival) names(c *client) (all []string) {
	for _, t := range c.topics {
		all = append(all, d.name(t))
	}
	return all
}

// payload takes one of our messages.
func (d rival) payload(c *client, b []byte, now int64) {
	if d.s.cfg.JSON {
		d.s.json(c, b, now)
	} else {
		d.s.sbe(c, b, now)
	}
}

// anew has a client that is back begin anew with its topics: what it missed is lost.
func (d rival) anew(c *client) {
	for t := range c.seqs {
		if c.lost > 0 && c.seqs[t] > 0 {
			d.s.report.GapNotices++
			c.seqs[t] = 0
		}
	}
}

// get appends the request line for the path that clients were sent to, or for another one when they were sent to none.
func (d rival) get(b []byte, otherwise string) []byte {
	path := d.s.path
	if path == "" || path == "/" {
		path = otherwise
	}
	return append(append(append(b, "GET "...), path...), " HTTP/1.1"...)
}

// getTopics is get with {topic} in the path standing for the client's topics, with commas between them.
func (d rival) getTopics(b []byte, c *client) []byte {
	names := d.names(c)
	for i := range names {
		names[i] = url.PathEscape(names[i])
	}
	return append(append(append(b, "GET "...), strings.ReplaceAll(d.s.path, target.TopicMark, strings.Join(names, ","))...), " HTTP/1.1"...)
}

// openBody begins with the body of an event stream, in chunks or up to the end of the connection.
func openBody(c *client, head []byte) error {
	switch coding := headerOf(head, "Transfer-Encoding"); {
	case headerOf(head, "Content-Encoding") != nil:
		return errors.New("an event stream that is compressed, which nobody asked for")
	case bytes.EqualFold(coding, []byte("chunked")):
		c.stream.reset(nil)
	case coding == nil:
		c.stream.reset(nil)
		c.stream.plain = true
	default:
		return fmt.Errorf("a body in %.40q", coding)
	}
	return nil
}

// headerOf finds a header's value in the head of an answer; nil when there is none.
func headerOf(head []byte, name string) []byte {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		key, value, ok := bytes.Cut(line, []byte{':'})
		if ok && strings.EqualFold(string(key), name) {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}

// happened takes an event that holds one of our messages, or is none of ours.
func (d rival) happened(c *client, e *event, now int64) error {
	switch {
	case e.broken:
		d.s.report.Malformed++
	case e.name == "gap":
		d.s.gap(c, e.m)
	default:
		d.s.follow(c, e.m, now)
	}
	return nil
}

// look reads the message out of an event. Its id means something to the server alone.
func (d rival) look(r *stream) (e event) {
	m, kind, ok := d.s.parseJSON(r.data)
	e.m, e.broken = m, !ok
	if kind == 'g' {
		e.name = "gap"
	}
	return e
}
