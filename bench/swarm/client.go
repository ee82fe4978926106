package swarm

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
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
	tunnel  *tunnel  // nil without TLS
	pieces  []byte   // of a message that has not come in full
	first   byte     // its opcode; 0 when there is none
	held    []byte   // of an operation of NATS that has not
	marks   []mark   // of Centrifugo, as the topics
}

// state is how far a connection has come.
type state uint8

const (
	closed     state = iota
	connecting       // the kernel is at it
	upgrading        // the request is sent
	greeting         // the server has agreed; what it says first comes next
	asking           // for the topics
	running
)

const retryAfter = 100 * time.Millisecond

// open makes connections, as many at a time and a second as is wanted.
func (s *Swarm) open() {
	if s.gaveUp != nil {
		return
	}
	for len(s.later) > 0 && time.Now().After(s.later[0].retry) {
		s.waiting, s.later = append(s.waiting, s.later[0]), s.later[1:]
	}
	for len(s.waiting) > 0 && (s.atOnce == 0 || s.opening < s.atOnce) && s.wait(time.Now()) == 0 {
		c := s.waiting[len(s.waiting)-1]
		s.waiting = s.waiting[:len(s.waiting)-1]
		s.opening++
		s.attempts++
		if err := s.dial(c); err != nil {
			s.fail(c, err)
		}
	}
}

// wait is how long it is until the next connection may be made, of so many a second.
func (s *Swarm) wait(now time.Time) time.Duration {
	if s.perSecond <= 0 {
		return 0
	}
	due := time.Duration(float64(s.attempts) / s.perSecond * float64(time.Second))
	return max(0, due-now.Sub(s.begun))
}

// How long the swarm tries in vain: to connect to a server from which nothing comes, and to get for any client what it asks for.
const (
	unheard = 3 * time.Second
	unready = 5 * time.Second
	silence = 10 * time.Second // in which nothing comes, though nobody refuses
)

// despair gives up when a server takes connections and says nothing, or not what makes any client ready.
func (s *Swarm) despair(now time.Time) {
	if s.gaveUp != nil || s.opening == 0 || !s.readyAt.IsZero() {
		return
	}
	last := s.begun
	if s.heardAt.After(last) {
		last = s.heardAt
	}
	if now.Sub(last) > silence {
		s.gaveUp = fmt.Errorf("%s: nothing has come for %v, and no client has what it asked for: is it the right server and port?", s.goal.host, silence)
	}
}

// fail ends an attempt to connect, and tries again after a pause, unless there is no hope.
func (s *Swarm) fail(c *client, err error) {
	s.failures++
	s.why = err.Error()
	var h *hopeless
	tried := time.Since(s.begun)
	if errors.As(err, &h) || !s.heardOf && tried > unheard || s.readyAt.IsZero() && tried > unready {
		s.gaveUp = err
	}
	s.drop(c)
	pause := retryAfter
	if b := (*busy)(nil); errors.As(err, &b) {
		pause = max(pause, b.pause)
	}
	s.again(c, pause)
}

// again has a client try again after a pause.
func (s *Swarm) again(c *client, pause time.Duration) {
	c.retry = time.Now().Add(pause)
	i, _ := slices.BinarySearchFunc(s.later, c.retry, func(c *client, at time.Time) int {
		if c.retry.After(at) {
			return 1
		}
		return -1
	})
	s.later = slices.Insert(s.later, i, c)
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
	if !s.failover || c.lost > 0 { // the first one is what the failover is for
		s.report.Closed++
		s.report.Why = err.Error()
	}
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
			s.fail(c, c.cause(err))
		}
	case events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0:
		s.read(c)
	}
}

// connected sends the request.
func (s *Swarm) connected(c *client) error {
	if n, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || n != 0 {
		return explain(fmt.Errorf("connect: %w", cmp.Or(err, error(syscall.Errno(n)))))
	}
	if err := s.watch(c.fd, c.index, syscall.EPOLLIN, syscall.EPOLL_CTL_MOD); err != nil {
		return err
	}
	c.state = upgrading
	b := s.dialect.request(s.buf[:0], c)
	b = append(append(b, "\r\nHost: "...), s.goal.host...)
	if s.cfg.Token != "" {
		b = append(append(b, "\r\nAuthorization: Bearer "...), s.cfg.Token...)
	}
	return write(c, append(b, "\r\n\r\n"...))
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
		s.ended(c, c.cause(fmt.Errorf("read: %w", err)))
		return
	case n == 0:
		s.ended(c, c.hungUp(s.buf[:have]))
		return
	}
	s.heardOf = true
	if c.state != running {
		s.heardAt = time.Now()
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

// hungUp is why the server has ended a connection, when rest is all that it said last.
func (c *client) hungUp(rest []byte) error {
	why := errors.New("the server has hung up")
	if c.state == upgrading {
		if len(rest) > 0 {
			return cmp.Or(refusal(rest), why)
		}
		why = errors.New("the server has hung up without an answer: is it the right port, and is TLS wanted there or not?")
	}
	return c.cause(why)
}

// answered takes the head of the answer to the request, if all of it is there, and returns what follows it.
func (s *Swarm) answered(c *client, b []byte) (rest []byte, err error) {
	status := []byte(" 101 ")
	if s.streams != nil {
		status = []byte(" 200 ")
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end >= 0 && bytes.HasPrefix(b, []byte("HTTP/1.")) && bytes.HasPrefix(b[min(8, end):], status):
		c.state, c.part = greeting, nil
		return b[end+4:], s.dialect.opened(c, b[:end+2])
	case end >= 0:
		if err = refusal(b); err != nil {
			return nil, err
		}
	case len(b) > maxRefusal:
		return nil, &hopeless{fmt.Errorf("no answer of HTTP: %.60q", b)}
	}
	c.part = append(c.part[:0], b...)
	return nil, nil
}

// take looks at what has come behind the head.
func (s *Swarm) take(c *client, b []byte) error {
	if s.streams != nil {
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
		if err := s.frame(c, b[0], payload, now); err != nil {
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

const final = 0x80 // the last frame of a message

func (s *Swarm) frame(c *client, head byte, payload []byte, now int64) error {
	switch opcode := head & 0xF; opcode {
	case opText, opBinary:
		if head&final == 0 || c.first != 0 {
			return s.piece(c, head, payload, now)
		}
		return s.sockets.message(c, opcode, payload, now)
	case 0:
		return s.piece(c, head, payload, now)
	case 8: // close
		return fmt.Errorf("closed: %.100q", payload)
	case 9: // ping
		return send(c, 10, payload)
	}
	return nil
}

// piece takes a frame of a message that has several.
func (s *Swarm) piece(c *client, head byte, payload []byte, now int64) error {
	opcode := head & 0xF
	switch {
	case (opcode == 0) != (c.first != 0):
		return fmt.Errorf("a frame of opcode %d out of turn", opcode)
	case len(c.pieces)+len(payload) > len(s.buf)/2:
		return errors.New("a message without end")
	case opcode != 0:
		c.first = opcode
	}
	c.pieces = append(c.pieces, payload...)
	if head&final == 0 {
		return nil
	}
	whole, opcode := c.pieces, c.first
	c.pieces, c.first = nil, 0
	return s.sockets.message(c, opcode, whole, now)
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
