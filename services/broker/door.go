package broker

import (
	"context"
	"net"
	"sync"

	"github.com/valyala/fasthttp/fasthttputil"
)

// door is the broker's listener: for other processes on loopback, and for our own process through memory, where a request
// costs no system call and waits for no poller.
type door struct {
	net.Listener
	in     chan net.Conn
	failed chan error
	done   chan struct{}
	once   sync.Once
	outer  sync.WaitGroup
}

func openDoor(l net.Listener) *door {
	d := &door{Listener: l, in: make(chan net.Conn), failed: make(chan error), done: make(chan struct{})}
	d.outer.Go(d.accept)
	return d
}

// accept passes on who comes from outside, until the listener is closed.
func (d *door) accept() {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			select {
			case d.failed <- err:
			case <-d.done:
			}
			return
		}
		select {
		case d.in <- c:
		case <-d.done:
			_ = c.Close() // nobody will serve it
			return
		}
	}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case err := <-d.failed:
		return nil, err
	case <-d.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *door) Close() error {
	err := d.Listener.Close()
	d.once.Do(func() { close(d.done) })
	d.outer.Wait()
	return err
}

// dial connects from inside.
func (d *door) dial(ctx context.Context) (net.Conn, error) {
	pipe := fasthttputil.NewPipeConns()
	addr := d.Addr()
	pipe.SetAddresses(addr, addr, addr, addr)
	select {
	case d.in <- pipe.Conn2():
		return pipe.Conn1(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.done:
		return nil, net.ErrClosed
	}
}
