package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/tickwire/tickwire/bench/target"
)

// nats is the client protocol of NATS in binary WebSocket messages. The operations are a stream: where a message of the
// WebSocket ends says nothing about them. There is no way to ask for what was missed.
type nats struct{ rival }

// maxControl is how long a line may be; the longest is the server's INFO.
const maxControl = 64 << 10

var lineEnd = []byte("\r\n")

func (d nats) request(b []byte, _ *client) []byte { return append(d.get(b, "/"), upgrade...) }

func (d nats) opened(c *client, _ []byte) error {
	c.held = c.held[:0]
	d.anew(c)
	return nil
}

func (d nats) message(c *client, _ byte, payload []byte, now int64) error {
	b := payload
	if len(c.held) > 0 {
		c.held = append(c.held, payload...)
		b = c.held
	}
	rest, err := d.operations(c, b, now)
	if len(rest) == 0 && cap(c.held) > 4<<10 {
		c.held = nil // something long stretched it
	}
	c.held = append(c.held[:0], rest...)
	return err
}

// operations takes all that are complete, and returns the rest.
func (d nats) operations(c *client, b []byte, now int64) (rest []byte, err error) {
	for len(b) > 0 {
		end := bytes.Index(b[:min(len(b), maxControl)], lineEnd)
		switch {
		case end < 0 && len(b) >= maxControl:
			return nil, errors.New("an operation without end")
		case end < 0:
			return b, nil
		}
		line, behind := b[:end], b[end+len(lineEnd):]
		if !bytes.HasPrefix(line, []byte("MSG ")) {
			if err := d.control(c, line); err != nil {
				return nil, err
			}
			b = behind
			continue
		}
		n, err := d.size(line)
		if err != nil {
			return nil, err
		}
		if len(behind) < n+len(lineEnd) {
			return b, nil
		}
		if !bytes.HasPrefix(behind[n:], lineEnd) {
			return nil, fmt.Errorf("a message that is not over after %d bytes", n)
		}
		d.payload(c, behind[:n], now)
		b = behind[n+len(lineEnd):]
	}
	return nil, nil
}

// size is that of a message's payload, the last word of its line.
func (d nats) size(line []byte) (int, error) {
	word := line[bytes.LastIndexByte(line, ' ')+1:]
	n := 0
	for _, digit := range word {
		if digit < '0' || digit > '9' || n > len(d.s.buf) {
			return 0, fmt.Errorf("a message of size %.40q", word)
		}
		n = 10*n + int(digit-'0')
	}
	if len(word) == 0 || n > len(d.s.buf)/2 {
		return 0, fmt.Errorf("a message of size %.40q", word)
	}
	return n, nil
}

func (d nats) control(c *client, line []byte) error {
	switch {
	case string(line) == "PING":
		return send(c, opBinary, []byte("PONG\r\n"))
	case string(line) == "PONG":
		if c.state == asking {
			d.s.run(c)
		}
	case bytes.HasPrefix(line, []byte("INFO ")):
		if c.state == greeting {
			return d.subscribe(c)
		}
	case bytes.HasPrefix(line, []byte("+OK")):
	case bytes.HasPrefix(line, []byte("-ERR")):
		return fmt.Errorf("refused: %.200q", line)
	default:
		return fmt.Errorf("an unknown operation: %.100q", line)
	}
	return nil
}

// subscribe asks for everything, and for a pong, which comes when all that is done.
func (d nats) subscribe(c *client) error {
	c.state = asking
	b := target.NATSConnect(d.s.cfg.Token)
	for i, name := range d.names(c) {
		b = append(append(append(b, "SUB "...), name...), ' ')
		b = append(strconv.AppendInt(b, int64(i+1), 10), lineEnd...)
		if len(b) > 4<<10 {
			if err := send(c, opBinary, b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return send(c, opBinary, append(b, "PING\r\n"...))
}
