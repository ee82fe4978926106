//go:build unix

package fanout

import (
	"errors"
	"syscall"
)

// raw writes to a file descriptor. It can't be closed and reused meanwhile: the runtime holds it for the length of each
// call.
type raw struct {
	conn syscall.RawConn
	try  func(fd uintptr) bool // made once, so that a write allocates nothing
	b    []byte
	n    int
	err  error
}

func newRaw(conn syscall.RawConn) transport {
	t := &raw{conn: conn}
	t.try = t.write
	return t
}

func (t *raw) descriptor() syscall.RawConn { return t.conn }

// take does one write(2). The descriptor is in non-blocking mode, as all of package net's are.
func (t *raw) take(b []byte) (int, error) {
	t.b = b
	err := t.conn.Write(t.try)
	t.b = nil
	if err == nil {
		err = t.err
	}
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return max(0, t.n), err
}

// write says that the runtime need not wait, whatever came of it.
func (t *raw) write(fd uintptr) bool {
	for {
		t.n, t.err = syscall.Write(int(fd), t.b)
		if !errors.Is(t.err, syscall.EINTR) {
			return true
		}
	}
}
