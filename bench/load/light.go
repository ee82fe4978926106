package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// crowd is clients that cost little more than what the kernel takes for a message: one loop over epoll reads for all of
// them and looks at frames in place. They check that every book update and every trade follows the one before, and note its
// age; they keep no books. So it is the servers that a run measures, and not the clients' share of the processors.
type crowd struct {
	cfg       *LatencyConfig
	measuring *atomic.Bool
	epoll     int
	clients   []*light
	buf       []byte
	hist      *hdrhistogram.Histogram
	delivered int64
	gaps      uint64
	lost      uint64
	stop      atomic.Bool
	ended     chan struct{} // nil before the loop has begun
	failed    error         // set before ended is closed
}

// light is one client.
type light struct {
	conn net.Conn
	fd   int
	raw  syscall.RawConn
	part []byte            // of a frame that has not arrived in full
	seqs map[uint32]*place // by instrument, each made once
}

// place is what a client has of an instrument; 0 before the first.
type place struct{ book, trades uint64 }

// gather connects the clients, with the same choice of instruments as subscribe.
func (cfg *LatencyConfig) gather(ctx context.Context, instruments []market.Instrument, measuring *atomic.Bool) (*crowd, error) {
	if err := cfg.known(ctx, len(instruments)); err != nil {
		return nil, err
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	c := &crowd{cfg: cfg, measuring: measuring, epoll: fd, buf: make([]byte, 4<<20), hist: newHistogram()}
	random := rand.New(rand.NewPCG(cfg.Seed, 2)) //nolint:gosec // a reproducible choice
	for range cfg.Subscribers {
		var topics []wire.TopicRequest
		for _, i := range random.Perm(len(instruments))[:min(cfg.Each, len(instruments))] {
			for _, ch := range []market.Channel{market.Books, market.Trades} {
				topics = append(topics, wire.TopicRequest{Topic: wire.Topic{Channel: ch, Sym: instruments[i].Sym}})
			}
		}
		l, err := join(ctx, cfg.URL, topics)
		if err == nil {
			c.clients = append(c.clients, l)
			ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(len(c.clients) - 1)}
			err = l.raw.Control(func(fd uintptr) {
				l.fd = int(fd)
				_ = syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, l.fd, &ev)
			})
		}
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	c.ended = make(chan struct{})
	go func() { // close waits for it
		c.failed = c.loop()
		close(c.ended)
	}()
	return c, nil
}

// join connects and subscribes. What comes behind the acknowledgement is for the loop.
func join(ctx context.Context, address string, topics []wire.TopicRequest) (*light, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	l := &light{conn: conn, seqs: make(map[uint32]*place)}
	if l.raw, err = conn.(*net.TCPConn).SyscallConn(); err == nil {
		err = l.upgrade(u.Host, topics)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return l, nil
}

func (l *light) upgrade(host string, topics []wire.TopicRequest) error {
	if _, err := fmt.Fprintf(l.conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", host, wire.SubprotocolSBE); err != nil {
		return err
	}
	in := bufio.NewReader(l.conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return errors.New("the edge answers " + resp.Status)
	}
	request := wire.AppendRequest(nil, &wire.Request{Op: wire.OpSub, ID: "1", Topics: topics})
	frame := append(binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(request))), 0, 0, 0, 0) // a mask of zero
	if _, err := l.conn.Write(append(frame, request...)); err != nil {
		return err
	}
	l.part, err = in.Peek(in.Buffered())
	return err
}

// loop reads until it is told to stop or a connection ends.
func (c *crowd) loop() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]syscall.EpollEvent, 256)
	for !c.stop.Load() {
		n, err := syscall.EpollWait(c.epoll, events, 100)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for i := range max(0, n) {
			if err := c.read(c.clients[events[i].Fd]); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads once, and looks at all that has come.
func (c *crowd) read(l *light) error {
	have := copy(c.buf, l.part)
	n, err := syscall.Read(l.fd, c.buf[have:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errors.New("the edge has hung up")
	}
	rest, err := c.frames(l, c.buf[:have+n])
	l.part = append(l.part[:0], rest...)
	return err
}

// frames looks at all complete frames and returns the rest. Nothing but the market's messages counts.
func (c *crowd) frames(l *light, b []byte) (rest []byte, err error) {
	now := time.Now().UnixMicro()
	for len(b) >= 2 {
		head, n := 2, uint64(b[1])
		switch {
		case n == 126 && len(b) >= 4:
			head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
		case n == 127 && len(b) >= 10:
			head, n = 10, binary.BigEndian.Uint64(b[2:])
		case n > 125:
			return b, nil
		}
		if n > uint64(len(c.buf)/2) {
			return nil, fmt.Errorf("a frame of %d bytes", n)
		}
		if uint64(len(b)) < uint64(head)+n {
			return b, nil
		}
		payload := b[head : head+int(n)]
		switch b[0] & 0xF {
		case 2:
			if err := c.take(l, payload, now); err != nil {
				return nil, err
			}
		case 8:
			return nil, fmt.Errorf("closed: %.100q", payload)
		case 9: // ping, shorter than 126 bytes
			pong := append([]byte{0x8A, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
			if _, err := syscall.Write(l.fd, pong); err != nil {
				return nil, fmt.Errorf("write: %w", err)
			}
		}
		b = b[head+int(n):]
	}
	return b, nil
}

// take checks that a message follows what the client has, and notes its age.
func (c *crowd) take(l *light, b []byte, now int64) error {
	t, err := wire.Peek(b)
	if err != nil {
		return err
	}
	if !t.IsEvent() {
		return nil
	}
	head, err := wire.HeadOf(b)
	if err != nil {
		return err
	}
	at := l.seqs[head.Inst]
	if at == nil {
		at = new(place)
		l.seqs[head.Inst] = at
	}
	switch t {
	case wire.TemplateBookSnapshot:
		at.book = head.Seq
		return nil
	case wire.TemplateBookUpdate:
		if head.Seq <= at.book {
			return nil
		}
		if head.Prev > at.book {
			c.gaps++
		}
		at.book = head.Seq
	case wire.TemplateTrade:
		if at.trades != 0 && head.Prev != at.trades {
			c.gaps++
		}
		at.trades = head.Seq
	case wire.TemplateTradeGap:
		at.trades = head.Seq
		if c.measuring.Load() {
			c.lost++
		}
		return nil
	default:
		return nil
	}
	if c.measuring.Load() {
		c.delivered++
		_ = c.hist.RecordValue(min(max(1, now-head.Time.Micros()), maxLatency)) // in range by construction
	}
	return nil
}

// close ends the loop and the connections, and says what ended them before.
func (c *crowd) close() error {
	c.stop.Store(true)
	if c.ended != nil {
		<-c.ended
	}
	_ = syscall.Close(c.epoll)
	for _, l := range c.clients {
		_ = l.conn.Close()
	}
	return c.failed
}

func (c *crowd) end(r *LatencyReport) error {
	if c == nil {
		return nil
	}
	err := c.close()
	r.Delivered, r.Gaps, r.Lost = c.delivered, c.gaps, c.lost
	r.Histogram = c.hist
	return err
}
