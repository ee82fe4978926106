package ws

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// descriptors is a listener whose connections are descriptors and nothing else. Package net keeps the addresses of both ends
// of each, which are of use to a handshake only, and asks for keepalives, which clients are pinged instead of.
type descriptors struct {
	net.Listener
	file *os.File // stands for the same socket, since package net lets nobody wait for a listener
	raw  syscall.RawConn
}

// own returns a listener that accepts by itself where that is possible.
func own(ln net.Listener) net.Listener {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return ln
	}
	file, err := tcp.File()
	if err != nil {
		return ln
	}
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close() // nothing was done with it
		return ln
	}
	return &descriptors{Listener: ln, file: file, raw: raw}
}

// Accept implements net.Listener.
func (d *descriptors) Accept() (net.Conn, error) {
	fd := -1
	var failed error
	if err := d.raw.Read(func(listening uintptr) bool {
		fd, failed = accept(int(listening))
		return !errors.Is(failed, syscall.EAGAIN)
	}); err != nil {
		return nil, net.ErrClosed
	}
	if failed != nil {
		return nil, os.NewSyscallError("accept4", failed)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // it would only be slower
	return descriptor{os.NewFile(uintptr(fd), "")}, nil
}

// accept takes the next connection that has not gone again.
func accept(listening int) (fd int, err error) {
	for {
		fd, _, err = syscall.Accept4(listening, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.ECONNABORTED) {
			return fd, err
		}
	}
}

// Close implements net.Listener.
func (d *descriptors) Close() error { return errors.Join(d.Listener.Close(), d.file.Close()) }

// descriptor is a TCP connection, much like package net's.
type descriptor struct{ *os.File }

// Read implements net.Conn.
func (d descriptor) Read(b []byte) (int, error) {
	n, err := d.File.Read(b)
	return n, failure("read", err)
}

// Write implements net.Conn.
func (d descriptor) Write(b []byte) (int, error) {
	n, err := d.File.Write(b)
	return n, failure("write", err)
}

// Close implements net.Conn.
func (d descriptor) Close() error { return failure("close", d.File.Close()) }

// failure is an error as package net would say it: TLS, for one, asks it whether a timeout may pass.
func failure(op string, err error) error {
	var of *fs.PathError
	switch {
	case err == nil || err == io.EOF: //nolint:errorlint // as it is
		return err
	case errors.Is(err, fs.ErrClosed):
		err = net.ErrClosed
	case errors.As(err, &of):
		err = of.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}

// CloseWrite ends what the peer reads.
func (d descriptor) CloseWrite() (err error) {
	closed := d.do(func(fd int) { err = os.NewSyscallError("shutdown", syscall.Shutdown(fd, syscall.SHUT_WR)) })
	return errors.Join(closed, err)
}

// LocalAddr implements net.Conn.
func (d descriptor) LocalAddr() net.Addr { return d.addr(syscall.Getsockname) }

// RemoteAddr implements net.Conn.
func (d descriptor) RemoteAddr() net.Addr { return d.addr(syscall.Getpeername) }

func (d descriptor) addr(get func(fd int) (syscall.Sockaddr, error)) net.Addr {
	var found syscall.Sockaddr
	if err := d.do(func(fd int) { found, _ = get(fd) }); err != nil {
		return &net.TCPAddr{}
	}
	switch a := found.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *syscall.SockaddrInet6:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	}
	return &net.TCPAddr{} // the connection has ended
}

// do has f use the descriptor, which is nobody else's meanwhile.
func (d descriptor) do(f func(fd int)) error {
	raw, err := d.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
