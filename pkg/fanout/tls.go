package fanout

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// TLSConn is the server's side of a TLS connection, of which [NewWriter] can take over the writing. Before that it is what
// tls.Server makes.
type TLSConn struct {
	*tls.Conn
	wire *wire
}

// ServerTLS speaks TLS over conn. The handshake, and what is written before NewWriter, waits for the peer as usual.
func ServerTLS(conn net.Conn, cfg *tls.Config) *TLSConn {
	w := &wire{Conn: conn}
	return &TLSConn{Conn: tls.Server(w, cfg), wire: w}
}

// NetConn is the connection that was given to ServerTLS.
func (c *TLSConn) NetConn() net.Conn { return c.wire.Conn }

// wire is what a tls.Conn believes to be its transport. Once the writing side has been taken over, it takes all ciphertext at
// once and keeps it until the shard flushes it: a tls.Conn whose write has timed out is broken for good, so none of its
// writes may ever wait.
type wire struct {
	net.Conn

	mu         sync.Mutex
	to         transport // nil until the writing side is taken over
	out        backlog
	encrypting bool // the shard is; it flushes afterwards
	own        int  // bytes in out that nobody asked for: alerts and key updates, written by the goroutine that reads
	kick       func()
}

// maxOwn bounds what the peer can make TLS say to it without reading it.
const maxOwn = 4 << 10

var errChatty = errors.New("the peer does not read TLS's answers")

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	if w.to == nil {
		w.mu.Unlock()
		return w.Conn.Write(b)
	}
	kick := w.kick
	if w.encrypting {
		kick = nil
	} else if w.own += len(b); w.own > maxOwn {
		w.mu.Unlock()
		return 0, errChatty
	}
	w.out.add(b)
	w.mu.Unlock()
	if kick != nil {
		kick()
	}
	return len(b), nil
}

// SetDeadline and SetWriteDeadline leave the shard's writes alone.
func (w *wire) SetDeadline(t time.Time) error {
	if w.taken() {
		return w.Conn.SetReadDeadline(t)
	}
	return w.Conn.SetDeadline(t)
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.taken() {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

func (w *wire) taken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to != nil
}

// onKick says whom to tell that there is output that nobody is about to flush.
func (w *wire) onKick(kick func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kick = kick
}

func (w *wire) flush() (left int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if left, err = w.out.flush(w.to); left == 0 {
		w.own = 0
	}
	return left, err
}

func (w *wire) encrypt(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.encrypting = yes
}

// tlsWriter encrypts what it is given, and hands the transport the ciphertext. It is given nothing while there is some left, so
// there is never more of it than one pass makes.
type tlsWriter struct {
	conn *tls.Conn
	wire *wire
	to   transport
}

func newTLSWriter(c *TLSConn) *tlsWriter {
	w := &tlsWriter{conn: c.Conn, wire: c.wire, to: newTransport(c.wire.Conn)}
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.to = w.to
	return w
}

func (w *tlsWriter) onOutput(kick func()) { w.wire.onKick(kick) }

func (w *tlsWriter) descriptor() syscall.RawConn { return w.to.descriptor() }

func (w *tlsWriter) Write(b []byte) (left int, err error) {
	w.wire.encrypt(true)
	_, err = w.conn.Write(b)
	w.wire.encrypt(false)
	if err != nil {
		return 0, err
	}
	return w.wire.flush()
}

func (w *tlsWriter) Flush() (left int, err error) { return w.wire.flush() }

// Finish says goodbye by an alert. If the transport has just no room for it, the peer must do with the end of the stream.
func (w *tlsWriter) Finish() error {
	err := w.conn.CloseWrite()
	if _, flushed := w.wire.flush(); err == nil {
		err = flushed
	}
	return errors.Join(err, finish(w.wire.Conn))
}

func (w *tlsWriter) Close() error { return w.wire.Close() }
