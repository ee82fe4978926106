package swarm

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// client is one connection.
type client struct {
	fd      int
	index   int32 // in Swarm.clients
	state   state
	counted bool  // among the ready ones
	acks    int   // requests that are not answered yet
	lost    int64 // µs: when the connection before this one ended; 0 when there was none
	retry   time.Time
	topics  []int
	seqs    []uint32 // by topic: the place of the newest message; 0 before the first
	part    []byte   // of a frame, or of the head of the answer, that has not arrived in full
	stream  stream   // of events, when that is what the swarm reads
	place   uint64   // of its newest event in the log
}

// state is how far a connection has come.
type state uint8

const (
	closed     state = iota
	connecting       // the kernel is at it
	upgrading        // the request is sent
	greeting         // the edge's hello comes next, or what follows it in an event stream
	asking           // for the topics
	running
)

const (
	retryAfter = 100 * time.Millisecond
	perRequest = 40 // topics: a message may have 4 KiB
)

// open makes connections, as many at a time as is wanted.
func (s *Swarm) open() {
	for len(s.later) > 0 && time.Now().After(s.later[0].retry) {
		s.waiting, s.later = append(s.waiting, s.later[0]), s.later[1:]
	}
	for len(s.waiting) > 0 && (s.atOnce == 0 || s.opening < s.atOnce) {
		c := s.waiting[len(s.waiting)-1]
		s.waiting = s.waiting[:len(s.waiting)-1]
		s.opening++
		if err := s.dial(c); err != nil {
			s.fail(c, err)
		}
	}
}

// ipBindAddressNoPort has the kernel choose the port when it knows the destination, so that ports are unique per pair of
// addresses only. Package syscall does not name it.
const ipBindAddressNoPort = 24

func (s *Swarm) dial(c *client) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.fd, c.state, c.part = fd, connecting, nil
	if err := errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: s.source}),
	); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Connect(fd, s.addr); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return s.watch(fd, c.index, syscall.EPOLLOUT, syscall.EPOLL_CTL_ADD)
}

// fail ends an attempt to connect, and tries again after a pause.
func (s *Swarm) fail(c *client, err error) {
	s.failures++
	s.why = err.Error()
	s.drop(c)
	s.again(c)
}

func (s *Swarm) again(c *client) {
	c.retry = time.Now().Add(retryAfter)
	s.later = append(s.later, c)
}

// drop closes a connection at once.
func (s *Swarm) drop(c *client) {
	if c.state == closed && c.fd < 0 {
		return
	}
	if c.state != running {
		s.opening--
	}
	if c.counted {
		s.ready--
	}
	// A reset leaves no half-closed connection to wait for.
	_ = syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	_ = syscall.Close(c.fd)
	c.fd, c.state, c.counted = -1, closed, false
}

// ended deals with a connection that the server has ended.
func (s *Swarm) ended(c *client, err error) {
	if c.state != running {
		s.fail(c, err)
		return
	}
	s.report.Closed++
	s.report.Why = err.Error()
	s.drop(c)
	if s.failover {
		c.lost = time.Now().UnixMicro()
		s.waiting = append(s.waiting, c)
	}
}

func (s *Swarm) event(c *client, events uint32) {
	switch {
	case c.state == closed:
	case c.state == connecting:
		if err := s.connected(c); err != nil {
			s.fail(c, err)
		}
	case events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0:
		s.read(c)
	}
}

// connected sends the request.
func (s *Swarm) connected(c *client) error {
	if n, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || n != 0 {
		return fmt.Errorf("connect: %w", errors.Join(err, syscall.Errno(n)))
	}
	if err := s.watch(c.fd, c.index, syscall.EPOLLIN, syscall.EPOLL_CTL_MOD); err != nil {
		return err
	}
	c.state = upgrading
	b := s.buf[:0]
	switch {
	case s.cfg.Floor:
		b = append(b, "GET /floor?topics="...)
		for i, t := range c.topics {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(t), 10)
		}
		b = append(b, " HTTP/1.1"...)
	case s.cfg.SSE:
		b = s.appendStreamRequest(b, c)
	default:
		b = append(b, "GET /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "...)
		b = append(b, s.protocol()...)
		if s.cfg.Deflate {
			b = append(b, "\r\nSec-WebSocket-Extensions: permessage-deflate"...)
		}
	}
	b = append(append(b, "\r\nHost: "...), s.hostport...)
	return write(c, append(b, "\r\n\r\n"...))
}

func (s *Swarm) protocol() string {
	if s.cfg.JSON {
		return wire.SubprotocolJSON
	}
	return wire.SubprotocolSBE
}

// write writes something short, for which a socket always has room.
func write(c *client, b []byte) error {
	n, err := syscall.Write(c.fd, b)
	if err == nil && n < len(b) {
		err = errors.New("the socket is full")
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// send sends a message. Its mask is zero, which masks as well as any other does here.
func send(c *client, opcode byte, payload []byte) error {
	b := make([]byte, 0, len(payload)+8)
	b = append(b, 0x80|opcode)
	if n := len(payload); n > 125 {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	} else {
		b = append(b, 0x80|byte(n))
	}
	return write(c, append(append(b, 0, 0, 0, 0), payload...))
}

// read reads once, and looks at all that has come.
func (s *Swarm) read(c *client) {
	have := copy(s.buf, c.part)
	n, err := syscall.Read(c.fd, s.buf[have:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return
	case err != nil:
		s.ended(c, fmt.Errorf("read: %w", err))
		return
	case n == 0:
		s.ended(c, errors.New("the server has hung up"))
		return
	}
	if s.measuring {
		s.report.Bytes += int64(n)
	}
	b := s.buf[:have+n]
	if c.state == upgrading {
		if b, err = s.answered(c, b); err != nil {
			s.fail(c, err)
			return
		}
		if c.state == upgrading {
			return // there is more to come
		}
	}
	if err := s.take(c, b); err != nil {
		s.ended(c, err)
	}
}

// answered takes the head of the answer to the request, if all of it is there, and returns what follows it.
func (s *Swarm) answered(c *client, b []byte) (rest []byte, err error) {
	status := []byte("HTTP/1.1 101 ")
	if s.cfg.SSE {
		status = []byte("HTTP/1.1 200 ")
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end < 0:
		c.part = append(c.part[:0], b...)
		return nil, nil
	case !bytes.HasPrefix(b, status):
		return nil, fmt.Errorf("refused: %.60q", b)
	}
	c.state, c.part = greeting, nil
	if s.cfg.SSE {
		err = s.openStream(c, b[:end+2])
	} else if s.cfg.Floor {
		s.run(c)
	}
	return b[end+4:], err
}

// take looks at what has come behind the head.
func (s *Swarm) take(c *client, b []byte) error {
	if s.cfg.SSE {
		return s.events(c, b)
	}
	rest, err := s.frames(c, b)
	if err != nil {
		return err
	}
	if len(rest) == 0 && cap(c.part) > 1<<10 {
		c.part = nil // a snapshot stretched it
	}
	c.part = append(c.part[:0], rest...)
	return nil
}

// frames looks at all complete frames and returns the rest.
func (s *Swarm) frames(c *client, b []byte) (rest []byte, err error) {
	now := time.Now().UnixMicro()
	for len(b) >= 2 {
		head, n := 2, int(b[1])
		switch {
		case n == 126 && len(b) >= 4:
			head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
		case n == 127 && len(b) >= 10:
			head, n = 10, int(binary.BigEndian.Uint64(b[2:]))
		case n > 125:
			return b, nil
		}
		if n < 0 || n > len(s.buf)/2-head { // in this order: a length may be next to the greatest int
			return nil, fmt.Errorf("a frame of %d bytes", n)
		}
		if len(b) < head+n {
			return b, nil
		}
		payload := b[head : head+n]
		if b[0]&compressed != 0 {
			if payload, err = s.inflateMessage(payload); err != nil {
				return nil, err
			}
		}
		if err := s.frame(c, b[0]&0xF, payload, now); err != nil {
			return nil, err
		}
		b = b[head+n:]
	}
	return b, nil
}

const (
	compressed  = 0x40 // RSV1, RFC 7692
	maxInflated = 4096
)

// lastBlock is empty, and the last one of deflated text.
const lastBlock = "\x01\x00\x00\xff\xff"

// inflateMessage returns a compressed message in full.
func (s *Swarm) inflateMessage(b []byte) ([]byte, error) {
	return s.inflate(b, "\x00\x00\xff\xff"+lastBlock) // what RFC 7692 leaves out, and an end
}

// inflateChunk returns a chunk of a compressed event stream in full.
func (s *Swarm) inflateChunk(b []byte) ([]byte, error) { return s.inflate(b, lastBlock) }

// inflate inflates b and what is missing behind it. The same bytes are inflated once, not once per client: what that costs
// is no concern of the server's, and would take the processor from it.
func (s *Swarm) inflate(b []byte, missing string) ([]byte, error) {
	if full, ok := s.inflated[string(b)]; ok {
		return full, nil
	}
	text := flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader(missing)))
	full, err := io.ReadAll(io.LimitReader(text, int64(len(s.buf)/2)))
	if err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	if len(s.inflated) >= maxInflated {
		clear(s.inflated)
	}
	s.inflated[string(b)] = full
	return full, nil
}

func (s *Swarm) frame(c *client, opcode byte, payload []byte, now int64) error {
	switch opcode {
	case 2: // binary
		s.sbe(c, payload, now)
	case 1: // text
		if s.cfg.JSON && bytes.HasPrefix(payload, []byte(`{"ch":`)) {
			s.json(c, payload, now)
			return nil
		}
		return s.control(c, payload)
	case 8: // close
		return fmt.Errorf("closed: %.100q", payload)
	case 9: // ping
		return send(c, 10, payload)
	}
	return nil
}

// control deals with what is not market data.
func (s *Swarm) control(c *client, b []byte) error {
	switch {
	case bytes.HasPrefix(b, []byte(`{"ev":"hello"`)):
		return s.subscribe(c)
	case bytes.HasPrefix(b, []byte(`{"ev":"lag"`)):
		s.report.Lags++
	case bytes.HasPrefix(b, []byte(`{"id":`)):
		return s.acknowledged(c, b)
	}
	return nil
}

// subscribe asks for the client's topics, from its place on if it has one.
func (s *Swarm) subscribe(c *client) error {
	c.state = asking
	channel, _ := market.ParseChannel(s.cfg.Channel) // the server has checked it
	for from := 0; from < len(c.topics); from += perRequest {
		c.acks++
		r := wire.Request{Op: wire.OpSub, ID: "1"}
		for _, t := range c.topics[from:min(from+perRequest, len(c.topics))] {
			topic := wire.TopicRequest{Topic: wire.Topic{Channel: channel, Sym: target.Sym(t)}}
			if c.lost > 0 && c.seqs[t] > 0 {
				topic.From = market.Sequence{Epoch: target.Epoch, Seq: uint64(c.seqs[t])}
			}
			r.Topics = append(r.Topics, topic)
		}
		if err := send(c, 1, wire.AppendRequest(nil, &r)); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged takes the answer to a request.
func (s *Swarm) acknowledged(c *client, b []byte) error {
	if c.state != asking {
		return fmt.Errorf("unasked: %.100s", b)
	}
	var m wire.Message
	if err := wire.DecodeJSON(b, func([]byte) *market.Instrument { return nil }, &m); err != nil {
		return fmt.Errorf("%.100s: %w", b, err)
	}
	if m.Kind != wire.KindAck || len(m.Ack.Errs) > 0 {
		return fmt.Errorf("refused: %.200s", b)
	}
	for i := range m.Ack.OK {
		row := &m.Ack.OK[i]
		t := int(row.Inst) - 1
		if t < 0 || t >= len(c.seqs) {
			return fmt.Errorf("instrument %d", row.Inst)
		}
		switch {
		case row.How == wire.HowReplay:
		case c.lost > 0 && c.seqs[t] > 0:
			s.report.GapNotices++ // what is missing does not come
			c.seqs[t] = 0
		case row.Channel == market.Trades:
			c.seqs[t] = uint32(row.Sequence.Seq)
		}
	}
	if c.acks--; c.acks == 0 {
		s.run(c)
	}
	return nil
}

// run is a connection's beginning.
func (s *Swarm) run(c *client) {
	c.state = running
	s.opening--
	if c.lost == 0 {
		s.count(c)
	}
}

// count counts a client among the ready.
func (s *Swarm) count(c *client) {
	c.counted = true
	s.ready++
	s.readyAt = time.Now()
}
