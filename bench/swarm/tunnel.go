package swarm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// tunnel is a client's TLS. The loop reads and writes one end of a pair of sockets, and two goroutines pass on what comes at
// the other end to TLS and back. Such a client has three descriptors, and costs several times as much as one without TLS;
// what the server has sent may wait in the pair, some 200 KB, as it does in a socket's buffer.
type tunnel struct {
	far *os.File // end of the pair
	mu  sync.Mutex
	why error // it has ended; nil when the server simply hung up
}

const handshakeLimit = 10 * time.Second

// dialTunnel begins a connection with TLS. The loop may write at once.
func (s *Swarm) dialTunnel(c *client, from netip.Addr, to netip.AddrPort) error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return explain(fmt.Errorf("socketpair: %w", err))
	}
	c.fd, c.tunnel = pair[0], &tunnel{far: os.NewFile(uintptr(pair[1]), "tunnel")}
	t, config := c.tunnel, s.goal.tls
	s.tunnels.Go(func() { t.run(s.life, from, to, config) })
	return s.watch(c.fd, c.index, syscall.EPOLLOUT, syscall.EPOLL_CTL_ADD)
}

// run connects and passes on until either side ends.
func (t *tunnel) run(ctx context.Context, from netip.Addr, to netip.AddrPort, config *tls.Config) {
	conn, err := secure(ctx, from, to, config)
	if err != nil {
		t.end(explain(err))
		return
	}
	hangUp := sync.OnceFunc(func() {
		if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset leaves no half-closed connection to wait for
		}
		_ = conn.NetConn().Close()
	})
	var up sync.WaitGroup
	up.Go(func() {
		_ = pass(conn, t.far, make([]byte, 1<<10)) // the other direction tells
		hangUp()
	})
	err = pass(t.far, conn, make([]byte, 4<<10))
	hangUp()
	t.end(err)
	up.Wait()
}

// secure connects.
func secure(ctx context.Context, from netip.Addr, to netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	d := net.Dialer{KeepAlive: -1}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			failed := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
			})
			return errors.Join(failed, err)
		}
	}
	raw, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS with %s: %w", config.ServerName, err)
	}
	return conn, nil
}

// pass passes on what comes until there is no more.
func pass(to io.Writer, from io.Reader, buf []byte) error {
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// end notes why it is over, and lets the loop know.
func (t *tunnel) end(why error) {
	t.mu.Lock()
	t.why = why
	t.mu.Unlock()
	_ = t.far.Close() // the loop reads the end
}

// cause is why a connection ended about which the loop knows only err.
func (c *client) cause(err error) error {
	if c.tunnel == nil {
		return err
	}
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	if c.tunnel.why != nil {
		return c.tunnel.why
	}
	return err
}
