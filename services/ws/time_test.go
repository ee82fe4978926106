package ws

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// memory is a listener without a network, so that time can be a test's own.
type memory struct {
	conns chan net.Conn
	errs  chan error
	once  sync.Once
	done  chan struct{}
}

func newMemory() *memory {
	return &memory{conns: make(chan net.Conn), errs: make(chan error), done: make(chan struct{})}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case err := <-m.errs:
		return nil, err
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// inTime runs f in a bubble with an edge whose time is the test's.
func inTime(t *testing.T, f func(t *testing.T, e *edge, ln *memory)) {
	t.Helper()
	inTimeWith(t, func(*Config) {}, f)
}

func inTimeWith(t *testing.T, change func(*Config), f func(t *testing.T, e *edge, ln *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		change(&cfg)
		s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		e := &edge{t: t, s: s, stop: cancel, done: make(chan error, 1)}
		ln := newMemory()
		go func() { e.done <- s.Serve(ctx, ln) }()
		<-s.Listening()
		e.market(20)
		f(t, e, ln)
		cancel()
		if err := <-e.done; err != nil {
			t.Error(err)
		}
	})
}

func (m *memory) dial(t *testing.T) *peer {
	server, conn := net.Pipe()
	m.conns <- server
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func TestSlowHandshake(t *testing.T) {
	inTime(t, func(t *testing.T, _ *edge, ln *memory) {
		p := ln.dial(t)
		begin := time.Now()
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			for _, b := range []byte(upgradeRequest("/v1/ws", "")) {
				if _, err := p.conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		resp, err := http.ReadResponse(p.in, nil)
		if err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%v %v", resp, err)
		}
		if d := time.Since(begin); d > 6*time.Second {
			t.Errorf("after %v", d)
		}
		_ = p.conn.Close()
		// One that says nothing at all.
		silent := ln.dial(t)
		begin = time.Now()
		if _, err := io.ReadAll(silent.in); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		if d := time.Since(begin); d > 7*time.Second {
			t.Errorf("silence was borne for %v", d)
		}
	})
}

func TestSlowMessage(t *testing.T) {
	inTime(t, func(t *testing.T, _ *edge, ln *memory) {
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		begin := time.Now()
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			for _, b := range masked(0x81, make([]byte, 100)) {
				if _, err := p.conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		for {
			if _, _, err := p.frame(); err != nil {
				break
			}
		}
		if d := time.Since(begin); d < 9*time.Second || d > 13*time.Second {
			t.Errorf("a message that takes for ever was borne for %v", d)
		}
	})
}

// TestRhythm counts what an idle connection gets in a minute.
func TestRhythm(t *testing.T) {
	inTime(t, func(t *testing.T, e *edge, ln *memory) {
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		p.send(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"BTC-USDT"}]}`)
		p.expect(wire.KindAck)
		var beating sync.WaitGroup
		defer beating.Wait()
		beating.Go(func() {
			for range 70 {
				e.beat()
				time.Sleep(time.Second)
			}
		})
		beats, pings, states := 0, 0, map[market.State]int{}
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			op, b, err := p.frame()
			if err != nil {
				t.Fatal(err)
			}
			if op == opPing {
				pings++
				p.write(masked(0x80|opPong, b))
				continue
			}
			if err := wire.DecodeJSON(b, func([]byte) *market.Instrument { return &btc }, &p.msg); err != nil {
				t.Fatal(err)
			}
			switch p.msg.Kind {
			case wire.KindHeartbeat:
				beats++
			case wire.KindTopicStatus:
				states[p.msg.TopicStatus.State]++
			default:
				t.Errorf("%s", b)
			}
		}
		if beats < 59 || beats > 61 || pings < 2 || pings > 4 || states[market.Quiet] < 3 || states[market.Quiet] > 5 || states[market.Stale] > 0 {
			t.Errorf("in a minute: %d heartbeats, %d pings, %v states", beats, pings, states)
		}
		p.write(masked(0x88, []byte{0x03, 0xE8}))
		p.closed()
	})
}

// TestHalfOpen is a client that has vanished without a word.
func TestHalfOpen(t *testing.T) {
	inTime(t, func(t *testing.T, e *edge, ln *memory) {
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		go func() { _, _ = io.Copy(io.Discard, p.in) }() // its kernel still takes everything
		time.Sleep(idleTimeout + 5*time.Second)
		if n := e.s.hub.Conns(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestStuck is a client whose socket takes nothing any more.
func TestStuck(t *testing.T) {
	inTime(t, func(t *testing.T, e *edge, ln *memory) {
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		var talking sync.WaitGroup
		defer talking.Wait()
		talking.Go(func() { // it is alive otherwise
			for range 100 {
				if _, err := p.conn.Write(masked(0x8A, nil)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		time.Sleep(writeTimeout + 5*time.Second)
		if n := e.s.hub.Conns(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestAcceptErrors has the listener fail for a while, as when files run out.
func TestAcceptErrors(t *testing.T) {
	inTime(t, func(t *testing.T, _ *edge, ln *memory) {
		begin := time.Now()
		for range 20 {
			ln.errs <- errors.New("too many open files")
		}
		if d := time.Since(begin); d < 5*time.Second {
			t.Errorf("20 errors were taken within %v", d)
		}
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		p.write(masked(0x88, []byte{0x03, 0xE8}))
		p.closed()
	})
}

// TestMoments: they are never zero, tell a tenth of a second from the next, and do not mind a clock that was read earlier.
func TestMoments(t *testing.T) {
	if m := momentOf(0); m == 0 {
		t.Error("the first moment is never")
	}
	f := func(earlier, later, want time.Duration) {
		t.Helper()
		if got := momentOf(later).since(momentOf(earlier)); got != want {
			t.Errorf("from %v to %v: %v, want %v", earlier, later, got, want)
		}
	}
	f(1, 2, 0)
	f(99*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond)
	f(time.Hour, time.Hour+idleTimeout, idleTimeout)
	f(time.Second, 0, -time.Second)
	const years = 10 * 365 * 24 * time.Hour
	f(years, years+time.Second, time.Second)
}

// TestSessionSize keeps a session in its size class.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 288 {
		t.Errorf("a session has %d bytes", size)
	}
}
