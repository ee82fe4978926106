package sse

import (
	"net"
	"sync/atomic"
)

// lending is a listener whose connections fasthttp has on loan: it may close those that are answered, and not those that
// have become streams. fasthttp has an option for that, but then it leaves to each stream its buffer for reading.
type lending struct{ net.Listener }

// Accept implements net.Listener.
func (l lending) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lent{Conn: conn}, nil
}

// lent is a connection on loan.
type lent struct {
	net.Conn
	kept atomic.Bool // it is no longer fasthttp's
}

// Close implements net.Conn, for fasthttp.
func (c *lent) Close() error {
	if c.kept.Load() {
		return nil
	}
	return c.Conn.Close()
}

// keep returns the connection that a handler was given to hijack. Whoever has it closes it.
func keep(hijacked net.Conn) net.Conn {
	c := hijacked.(interface{ UnsafeConn() net.Conn }).UnsafeConn().(*lent)
	c.kept.Store(true)
	return c.Conn
}
