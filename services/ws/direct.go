package ws

import (
	"net"
	"syscall"
)

// direct reads from a file descriptor, around package net, whose way takes more of the stack.
type direct struct {
	raw syscall.RawConn
	try func(fd uintptr) (done bool) // made once, so that reading allocates nothing
	b   []byte
	n   int
	err error
}

// newDirect returns nil when the connection can't be read from in this way.
func newDirect(conn net.Conn) *direct {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || readDirectly == nil {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.try = func(fd uintptr) (done bool) {
		done, d.n, d.err = readDirectly(fd, d.b)
		return done
	}
	return d
}
