package ws

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
)

// socket stands between gws and the transport. It hands gws only bytes that the guard has seen, and takes what gws writes
// after the upgrade, close frames, into the session's own queue.
type socket struct {
	net.Conn
	session  *session
	direct   *direct // nil when Conn does the reading
	early    []byte  // came together with the handshake
	upgraded bool
	guard    guard
	heard    atomic.Int64 // when a byte was last read, by the server's clock
	began    atomic.Int64 // when the message that is under way began; zero when there is none
	broken   *violation   // of the guard's; nothing is read any more
}

// Read implements net.Conn. It is where the reading goroutine of an idle client waits, and it must do so within the
// smallest stack, of 2 KiB: little may lie between it and the wait, and what else it does is in functions of their own.
// TestMemoryPerConnection notices.
func (s *socket) Read(b []byte) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	if len(s.early) > 0 {
		return s.readEarly(b)
	}
	if d := s.direct; d != nil {
		d.b = b
		return s.took(b, d.raw.Read(d.try))
	}
	n, err := s.Conn.Read(b)
	return s.pass(b[:n], err)
}

// took goes on with what was read directly.
//
//go:noinline
func (s *socket) took(b []byte, err error) (int, error) {
	d := s.direct
	d.b = nil
	switch {
	case err != nil: // the deadline has passed, or the connection was closed
		return 0, err
	case d.err != nil:
		return 0, d.err
	case d.n == 0:
		return 0, io.EOF
	}
	return s.pass(b[:d.n], nil)
}

//go:noinline
func (s *socket) readEarly(b []byte) (int, error) {
	n := copy(b, s.early)
	if s.early = s.early[n:]; len(s.early) == 0 {
		s.early = nil
	}
	return s.pass(b[:n], nil)
}

// pass lets the guard see what was read, and returns how much of it goes on to gws.
//
//go:noinline
func (s *socket) pass(b []byte, err error) (int, error) {
	now := time.Now()
	at := int64(now.Sub(s.session.s.start)) + 1
	s.heard.Store(at)
	ok, bad := s.guard.scan(b, now)
	switch {
	case !s.guard.mid():
		s.began.Store(0)
	case s.began.Load() == 0:
		s.began.Store(at)
	}
	if bad == nil {
		return len(b), err
	}
	s.broken = bad
	s.session.violated(bad)
	if ok == 0 {
		return 0, bad
	}
	return ok, nil
}

// Write implements net.Conn.
func (s *socket) Write(b []byte) (int, error) {
	if !s.upgraded {
		return s.Conn.Write(b)
	}
	frame := explain(bytes.Clone(b))
	if len(frame) >= 4 {
		s.session.faulted(int32(binary.BigEndian.Uint16(frame[2:])))
	}
	s.session.conn.Close(fanout.RawFrame(frame, 2)) // a control frame's header has two bytes
	return len(b), nil
}

// explain corrects the code of a close frame of gws's: what can't be inflated, or becomes too long by it, is the client's
// error, not an internal one.
func explain(b []byte) []byte {
	const internalError, tooLarge = 1011, "gws: message too large" // gws's words
	if len(b) < 4 || binary.BigEndian.Uint16(b[2:]) != internalError {
		return b
	}
	code := uint16(closeText)
	if string(b[4:]) == tooLarge {
		code = closeTooBig
	}
	binary.BigEndian.PutUint16(b[2:], code)
	return b
}

// Close implements net.Conn. The session closes the transport, when what is queued has been written.
func (s *socket) Close() error { return nil }

func closeFrame(code int, reason string) *fanout.Frame {
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	return fanout.NewFrame(fanout.Close, append(payload, reason...))
}
