package sse

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stripped is a connection of which only the descriptor is left, and who it is counted as. A stream is written to by a
// fanout.Writer and watched by epoll instances; what package net keeps beside a descriptor, its place among those that the
// runtime watches first of all, would be a third of what a stream costs.
type stripped struct {
	mu    sync.Mutex // held for each system call, so that the descriptor is nobody else's meanwhile
	guest counted
	fd    int32 // -1 when it is closed
}

// strip takes the descriptor out of a connection, of which nothing else is left. It returns other connections as they are,
// and those for which there is no other descriptor to be had.
func strip(conn net.Conn) net.Conn {
	tcp, ok := conn.(*socket)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	fd := -1
	if err := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		return conn
	}
	_ = tcp.TCPConn.Close() // the other descriptor keeps the socket open
	return &stripped{guest: tcp.handOver(), fd: int32(fd)}
}

// do has f use the descriptor.
func (s *stripped) do(f func(fd int)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	f(int(s.fd))
	return nil
}

// Close implements net.Conn.
func (s *stripped) Close() (err error) {
	closed := s.do(func(fd int) { s.fd, err = -1, syscall.Close(fd) })
	if closed == nil {
		s.guest.leave()
	}
	return errors.Join(closed, err)
}

// CloseWrite ends what the peer reads.
func (s *stripped) CloseWrite() (err error) {
	closed := s.do(func(fd int) { err = syscall.Shutdown(fd, syscall.SHUT_WR) })
	return errors.Join(closed, err)
}

// SyscallConn implements syscall.Conn.
func (s *stripped) SyscallConn() (syscall.RawConn, error) { return descriptor{s}, nil }

// It can't wait, so there is nothing to be had from the rest of net.Conn.

func (s *stripped) Read([]byte) (int, error)         { return 0, errors.ErrUnsupported }
func (s *stripped) Write([]byte) (int, error)        { return 0, errors.ErrUnsupported }
func (s *stripped) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (s *stripped) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (s *stripped) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
func (s *stripped) LocalAddr() net.Addr              { return nil }
func (s *stripped) RemoteAddr() net.Addr             { return nil }

// descriptor is the syscall.RawConn. Read and Write call f once, whatever it says: nobody waits here.
type descriptor struct{ *stripped }

// Control implements syscall.RawConn.
func (d descriptor) Control(f func(fd uintptr)) error { return d.do(func(fd int) { f(uintptr(fd)) }) }

// Read implements syscall.RawConn.
func (d descriptor) Read(f func(fd uintptr) bool) error { return d.do(func(fd int) { f(uintptr(fd)) }) }

// Write implements syscall.RawConn.
func (d descriptor) Write(f func(fd uintptr) bool) error {
	return d.do(func(fd int) { f(uintptr(fd)) })
}
