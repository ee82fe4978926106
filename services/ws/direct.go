package ws

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// rawConn is the way around package net to a file descriptor, which takes less of the stack; nil when conn can't be read
// from in this way.
func rawConn(conn net.Conn) syscall.RawConn {
	c, ok := conn.(syscall.Conn)
	if !ok || readable == nil {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// inbox is what was read from a descriptor and not yet handed on. It is borrowed when there is something to read, so that
// a client that says nothing has none.
type inbox struct {
	try      func(fd uintptr) (done bool) // made once, so that reading allocates nothing
	from, to int
	seen     bool // by the guard
	err      error
	buf      [4 << 10]byte
}

var inboxes = sync.Pool{New: func() any {
	in := new(inbox)
	in.try = func(fd uintptr) (done bool) {
		done, in.to, in.err = readDirectly(fd, in.buf[:])
		return done
	}
	return in
}}

//go:noinline
func borrowInbox() *inbox { return inboxes.Get().(*inbox) }

// failed is why there is nothing in it.
func (in *inbox) failed() error {
	if in.err == nil && in.to == 0 {
		return io.EOF
	}
	return in.err
}

func (in *inbox) giveBack() {
	in.from, in.to, in.seen, in.err = 0, 0, false, nil
	inboxes.Put(in)
}
