//go:build unix

package fanout

import (
	"errors"
	"sync"
	"syscall"
)

// raw writes to a file descriptor. It can't be closed and reused meanwhile: the runtime holds it for the length of each
// call.
type raw struct{ conn syscall.RawConn }

func newRaw(conn syscall.RawConn) transport { return &raw{conn} }

func (t *raw) descriptor() syscall.RawConn { return t.conn }

// attempt is one write(2). It is borrowed for the call: there are many connections, and few of them write at a time.
type attempt struct {
	try func(fd uintptr) bool // made once, so that a write allocates nothing
	b   []byte
	n   int
	err error
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.try = a.write
	return a
}}

// take does one write(2). The descriptor is in non-blocking mode, as all of package net's are.
func (t *raw) take(b []byte) (n int, err error) {
	a := attempts.Get().(*attempt)
	a.b = b
	if err = t.conn.Write(a.try); err == nil {
		n, err = max(0, a.n), a.err
	}
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return n, err
}

// write says that the runtime need not wait, whatever came of it.
func (a *attempt) write(fd uintptr) bool {
	for {
		a.n, a.err = syscall.Write(int(fd), a.b)
		if !errors.Is(a.err, syscall.EINTR) {
			return true
		}
	}
}
