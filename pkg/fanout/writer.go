package fanout

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Writer is the writing side of a transport. It never waits for the peer: what the transport does not take at once, the
// Writer keeps. Write, Flush and Finish are called by one goroutine at a time; Close may come at any time, and makes the
// others fail.
type Writer interface {
	// Write takes all of b, which stays the caller's, and returns how many bytes of output the transport has not taken
	// yet. As long as there are any, the next call is Flush.
	Write(b []byte) (left int, err error)
	// Flush hands the transport more of what is left.
	Flush() (left int, err error)
	// Finish ends the stream behind what was written, and leaves the peer the time to read it.
	Finish() error
	Close() error
}

// chatty is a Writer that has output of its own, such as the alerts of TLS. It calls kick when there is some and nobody
// is about to flush it.
type chatty interface{ onOutput(kick func()) }

// described is a Writer that may stand over a file descriptor, which the system can watch; nil when it does not.
type described interface{ descriptor() syscall.RawConn }

// NewWriter makes a Writer of a connection. TCP and Unix sockets are written to directly on Unix systems, and so is what
// a [TLSConn] stands on. Any other connection, in memory for instance, is written to under a deadline of a millisecond.
// Nobody else may write to conn any more, or set deadlines for writing.
func NewWriter(conn net.Conn) Writer {
	if secure, ok := conn.(*TLSConn); ok {
		return newTLSWriter(secure)
	}
	return &plainWriter{transport: newTransport(conn), conn: conn}
}

// transport takes bytes without waiting, or hardly.
type transport interface {
	take(b []byte) (n int, err error)
	descriptor() syscall.RawConn
}

func newTransport(conn net.Conn) transport {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			if t := newRaw(raw); t != nil {
				return t
			}
		}
	}
	return brief{conn}
}

// plainWriter hands a transport the very bytes it is given.
type plainWriter struct {
	transport
	conn net.Conn
	rest backlog
}

func (w *plainWriter) Write(b []byte) (left int, err error) {
	n, err := w.take(b)
	if err == nil {
		w.rest.add(b[n:])
	}
	return w.rest.len(), err
}

func (w *plainWriter) Flush() (left int, err error) { return w.rest.flush(w.transport) }
func (w *plainWriter) Finish() error                { return finish(w.conn) }
func (w *plainWriter) Close() error                 { return w.conn.Close() }

// brief is a transport that can only wait: it does so for a moment.
type brief struct{ conn net.Conn }

// moment is how long a write may wait for a transport that has no way to say that it is full.
const moment = time.Millisecond

func (brief) descriptor() syscall.RawConn { return nil }

func (t brief) take(b []byte) (n int, err error) {
	if err := t.conn.SetWriteDeadline(time.Now().Add(moment)); err != nil {
		return 0, err
	}
	if n, err = t.conn.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// finish closes the writing side alone where that is possible, so that the kernel does not throw away what the peer has
// not read yet.
func finish(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

// backlog is output that a transport has not taken yet. Its memory is borrowed while there is any, so that a connection
// that keeps up has none.
type backlog struct {
	buf  *[]byte
	from int
}

var spare = sync.Pool{New: func() any { return new([]byte) }}

// maxSpare is the size above which a buffer is not kept for others.
const maxSpare = 512 << 10

func (l *backlog) len() int { return len(l.bytes()) }

func (l *backlog) bytes() []byte {
	if l.buf == nil {
		return nil
	}
	return (*l.buf)[l.from:]
}

func (l *backlog) add(b []byte) {
	if len(b) == 0 {
		return
	}
	if l.buf == nil {
		l.buf = spare.Get().(*[]byte)
	}
	*l.buf = append(*l.buf, b...)
}

// flush hands t what it takes and returns how much is left.
func (l *backlog) flush(t transport) (left int, err error) {
	if l.len() == 0 {
		return 0, nil
	}
	n, err := t.take(l.bytes())
	l.drop(n)
	return l.len(), err
}

// drop forgets the first n bytes.
func (l *backlog) drop(n int) {
	if l.from += n; l.buf == nil || l.from < len(*l.buf) {
		return
	}
	if cap(*l.buf) <= maxSpare {
		*l.buf = (*l.buf)[:0]
		spare.Put(l.buf)
	}
	l.buf, l.from = nil, 0
}
