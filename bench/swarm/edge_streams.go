package swarm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// edgeStreams is the event streams of our public edge.
type edgeStreams struct{ s *Swarm }

// request asks for the client's topics' trades, from the place on that it has come to, if it has.
func (d edgeStreams) request(b []byte, c *client) []byte {
	b = append(append(b, "GET "...), strings.TrimSuffix(d.s.path, "/")...)
	b = append(b, "/v1/sse/trades?symbols="...)
	for i, t := range c.topics {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, url.QueryEscape(d.s.symbols.names[t])...)
	}
	b = strconv.AppendInt(append(b, "&rate="...), d.s.cfg.Rate.Milliseconds(), 10)
	b = append(b, " HTTP/1.1\r\nAccept: text/event-stream"...)
	if d.s.cfg.Deflate {
		b = append(b, "\r\nAccept-Encoding: gzip"...)
	}
	if c.lost > 0 && len(c.stream.id) > 0 {
		b = append(append(b, "\r\nLast-Event-ID: "...), c.stream.id...)
	}
	return b
}

// opened begins with the stream's body. The hello comes next.
func (d edgeStreams) opened(c *client, head []byte) error {
	c.place = 0
	head = bytes.ToLower(head) // some proxies send it so
	if !bytes.Contains(head, []byte("transfer-encoding: chunked\r\n")) {
		return fmt.Errorf("a body without chunks: %.200q", head)
	}
	var inflate func([]byte) ([]byte, error)
	if bytes.Contains(head, []byte("content-encoding: gzip\r\n")) {
		inflate = d.s.inflateChunk
	}
	if inflate != nil && !d.s.cfg.Deflate {
		return &hopeless{errors.New("the stream is compressed, which nobody has asked for")}
	}
	c.stream.reset(inflate)
	return nil
}

// look reads a place and a message out of an event.
func (d edgeStreams) look(r *stream) (e event) {
	e.place, _ = placeOf(r.id)
	switch string(r.name) {
	case "trade", "gap":
		var ok bool
		e.name = "trade"
		if e.m, _, ok = d.s.parseJSON(r.data); !ok {
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

func (d edgeStreams) happened(c *client, e *event, now int64) error {
	switch e.name {
	case "trade", "gap":
		if e.broken || e.place <= c.place {
			d.s.report.Malformed++ // its id leads nowhere, or back
		}
		c.place = e.place
		switch {
		case e.broken:
		case e.name == "gap":
			d.s.gap(c, e.m)
		default:
			d.s.follow(c, e.m, now)
		}
	case "hello":
		c.place = e.place
		if d.s.cfg.Deflate && c.stream.inflate == nil {
			return &hopeless{errors.New("the stream is not compressed")} // one that begins by goodbye need not be
		}
		if bytes.Contains(e.data, []byte(`"how":"replay"`)) {
			d.s.run(c)
		}
	case "reset":
		d.s.report.GapNotices++ // what is missing does not come
	case "snapshot":
		c.place = e.place
		if err := d.begun(c, e.data); err != nil {
			return err
		}
		if c.state != running {
			d.s.run(c)
		}
	case "goodbye":
		return sentAway(e.data)
	case "status", "hb":
	default:
		d.s.report.Malformed++
	}
	return nil
}

// sentAway is what a goodbye means.
func sentAway(data []byte) error {
	var m struct {
		Why   string
		Retry int64 `json:"retry_ms"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("sent away: %.100q", data)
	}
	err := fmt.Errorf("sent away: %s", m.Why)
	if m.Why == "overload" {
		err = errors.New("sent away: overload, by the server's limits of requests, connections or different streams")
	}
	return &busy{err, min(time.Duration(max(0, m.Retry))*time.Millisecond, maxPause)}
}

// begun takes from a snapshot how far its instruments have come. All clients of a stream get the same.
func (d edgeStreams) begun(c *client, b []byte) error {
	if !bytes.Equal(b, d.s.lastSnapshot.text) {
		var m struct {
			Items []struct {
				Sym string
				Seq uint32
			}
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("a snapshot: %w", err)
		}
		last := &d.s.lastSnapshot
		last.text, last.seqs = append(last.text[:0], b...), map[int]uint32{}
		for _, item := range m.Items {
			t, ok := d.s.symbols.topics[item.Sym]
			if !ok {
				return fmt.Errorf("a snapshot with instrument %.20q", item.Sym)
			}
			last.seqs[t] = item.Seq
		}
	}
	for t, seq := range d.s.lastSnapshot.seqs {
		c.seqs[t] = seq
	}
	return nil
}

// placeOf reads a place out of an id: base64url of a bitmap of partitions, which begins with its length, and of an offset for
// each. It is their sum, for each event is in one partition, and further there than the ones before.
func placeOf(id []byte) (place uint64, ok bool) {
	i := bytes.IndexByte(id, '.')
	if i < 0 || len(id) > 200 {
		return 0, false
	}
	var room [150]byte
	n, err := base64.RawURLEncoding.Decode(room[:], id[i+1:])
	if err != nil || n < 1 || n < int(room[0])+2 {
		return 0, false
	}
	partitions, rest := room[1:1+int(room[0])], room[1+int(room[0]):n]
	for _, b := range partitions {
		for range bits.OnesCount8(b) {
			offset, read := binary.Uvarint(rest)
			if read <= 0 {
				return 0, false
			}
			place, rest, ok = place+offset, rest[read:], true
		}
	}
	return place, ok
}
