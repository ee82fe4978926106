package ws

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
)

// socket stands between gws and the transport. It hands gws only bytes that the guard has seen, and takes what gws writes
// after the upgrade, close frames, into the session's own queue.
type socket struct {
	net.Conn
	session *session
	raw     syscall.RawConn // nil when Conn does the reading
	in      *inbox          // nil when there is nothing in it
	guard   guard
	heard   atomic.Uint32 // the moment when a byte was last read
	began   atomic.Uint32 // and when the message that is under way began; zero when there is none
	broken  *violation    // of the guard's; nothing is read any more
}

// Read implements net.Conn. It is where the reading goroutine of an idle client waits, and it must do so within the
// smallest stack, of 2 KiB: little may lie between it and the wait, and what else it does is in functions of their own.
// TestMemoryPerConnection notices.
func (s *socket) Read(b []byte) (int, error) {
	if s.in == nil {
		if s.raw == nil {
			n, err := s.Conn.Read(b)
			return s.pass(b[:n], err)
		}
		if err := s.raw.Read(readable); err != nil { // the deadline has passed, or the connection was closed
			return 0, err
		}
		s.in = borrowInbox()
		if err := s.raw.Read(s.in.try); err != nil {
			return 0, err
		}
	}
	return s.take(b)
}

// take hands on what there is.
//
//go:noinline
func (s *socket) take(b []byte) (n int, err error) {
	if s.broken != nil {
		return 0, s.broken
	}
	in := s.in
	if err := in.failed(); err != nil {
		return 0, err
	}
	if !in.seen {
		in.seen, in.to = true, s.check(in.buf[:in.to])
	}
	n = copy(b, in.buf[in.from:in.to])
	if in.from += n; in.from == in.to {
		in.giveBack()
		s.in = nil
	}
	if n == 0 && s.broken != nil {
		return 0, s.broken
	}
	return n, nil
}

// pass is take for a transport that is read from through package net.
//
//go:noinline
func (s *socket) pass(b []byte, err error) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	n := s.check(b)
	if n == 0 && s.broken != nil {
		return 0, s.broken
	}
	return n, err
}

// early puts back what came together with the handshake.
func (s *socket) early(b []byte) {
	if len(b) > 0 {
		s.in = borrowInbox()
		s.in.to = copy(s.in.buf[:], b) // the handshake's reader has no more than fits
	}
}

// check lets the guard see what was read, and returns how much of it goes on to gws.
func (s *socket) check(b []byte) (ok int) {
	now := time.Now()
	at := uint32(momentOf(now.Sub(s.session.s.start)))
	s.heard.Store(at)
	ok, bad := s.guard.scan(b, now)
	switch {
	case !s.guard.mid():
		s.began.Store(0)
	case s.began.Load() == 0:
		s.began.Store(at)
	}
	if bad != nil {
		s.broken = bad
		s.session.violated(bad)
	}
	return ok
}

// Write implements net.Conn.
func (s *socket) Write(b []byte) (int, error) {
	if s.session.conn == nil { // before the upgrade
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
