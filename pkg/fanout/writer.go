package fanout

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Writer is the writing side of a transport. TryWrite and Write are never called at the same time; Close may come at any
// time and makes both return.
type Writer interface {
	// TryWrite takes what the transport accepts without waiting: n < len(b) without an error means that it is full.
	TryWrite(b []byte) (n int, err error)
	// Write waits until the transport has taken all of b; without progress for too long it returns an error.
	Write(b []byte) (n int, err error)
	// Exact tells whether a short TryWrite means that the peer is slow, rather than that the transport can only wait.
	Exact() bool
	// Finish ends the stream behind what was written, and leaves the peer the time to read it.
	Finish() error
	Close() error
}

// NewWriter makes a Writer of a connection. A write that waits longer than timeout for progress fails. A TCP or Unix
// connection is written to directly, without waiting; any other one (TLS, in memory) only ever by waiting.
func NewWriter(conn net.Conn, timeout time.Duration) Writer {
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return newRawWriter(conn, raw, timeout)
		}
	}
	return &waitingWriter{conn, timeout}
}

// chunk is how much is written under one deadline, so that the deadline is one for progress.
const chunk = 64 << 10

type waitingWriter struct {
	conn    net.Conn
	timeout time.Duration
}

func (*waitingWriter) TryWrite([]byte) (int, error) { return 0, nil }
func (*waitingWriter) Exact() bool                  { return false }
func (w *waitingWriter) Finish() error              { return finish(w.conn) }
func (w *waitingWriter) Close() error               { return w.conn.Close() }

// finish closes the writing side alone where that is possible, so that the kernel does not throw away what the peer has
// not read yet.
func finish(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

func (w *waitingWriter) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if err = w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			return n, err
		}
		var m int
		m, err = w.conn.Write(b[n:min(len(b), n+chunk)])
		n += m
	}
	return n, err
}

// rawWriter writes to the file descriptor. The descriptor can't be closed and reused meanwhile: the runtime holds it for
// the length of each call.
type rawWriter struct {
	conn    net.Conn
	raw     syscall.RawConn
	timeout time.Duration
	try     func(fd uintptr) bool // made once, so that a write allocates nothing
	b       []byte
	n       int
	err     error
}

func newRawWriter(conn net.Conn, raw syscall.RawConn, timeout time.Duration) *rawWriter {
	w := &rawWriter{conn: conn, raw: raw, timeout: timeout}
	w.try = func(fd uintptr) bool {
		for {
			w.n, w.err = syscall.Write(int(fd), w.b)
			if !errors.Is(w.err, syscall.EINTR) {
				return true
			}
		}
	}
	return w
}

func (*rawWriter) Exact() bool     { return true }
func (w *rawWriter) Finish() error { return finish(w.conn) }
func (w *rawWriter) Close() error  { return w.conn.Close() }

func (w *rawWriter) TryWrite(b []byte) (int, error) {
	w.b = b
	err := w.raw.Write(w.try)
	w.b = nil
	if err == nil {
		err = w.err
	}
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return max(0, w.n), err
}

func (w *rawWriter) Write(b []byte) (int, error) {
	wait := waitingWriter{w.conn, w.timeout}
	n, err := wait.Write(b)
	if err == nil {
		// A deadline left behind would make later writes fail.
		err = w.conn.SetWriteDeadline(time.Time{})
	}
	return n, err
}
