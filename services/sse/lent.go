package sse

import (
	"net"
	"sync"
	"sync/atomic"
)

// lending is a listener whose connections fasthttp has on loan: it may close those that are answered, and not those that
// have become streams. fasthttp has an option for that, but then it leaves to each stream its buffer for reading.
type lending struct {
	net.Listener

	mu  sync.Mutex
	out map[*lent]struct{}
}

// Accept implements net.Listener.
func (l *lending) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &lent{Conn: conn, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		l.out = make(map[*lent]struct{})
	}
	l.out[c] = struct{}{}
	return c, nil
}

// back notes that a connection is no longer on loan.
func (l *lending) back(c *lent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.out, c)
}

// recall closes what is still on loan: peers that do not take their answers.
func (l *lending) recall() {
	l.mu.Lock()
	var all []*lent
	for c := range l.out {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// lent is a connection on loan.
type lent struct {
	net.Conn
	from *lending
	kept atomic.Bool // it is no longer fasthttp's
}

// Close implements net.Conn, for fasthttp.
func (c *lent) Close() error {
	if c.kept.Load() {
		return nil
	}
	c.from.back(c)
	return c.Conn.Close()
}

// keep returns the connection that a handler was given to hijack. Whoever has it closes it.
func keep(hijacked net.Conn) net.Conn {
	c := hijacked.(interface{ UnsafeConn() net.Conn }).UnsafeConn().(*lent)
	c.kept.Store(true)
	c.from.back(c)
	return c.Conn
}
