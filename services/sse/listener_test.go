package sse

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// wait repeats f until it is true.
func wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// empty expects that nobody is counted any more.
func (e *edge) empty() {
	e.t.Helper()
	wait(e.t, "nobody is counted", func() bool {
		open, seats, places := e.s.crowd.Sizes()
		return open == 0 && seats == 0 && places == 0
	})
}

// ask sends a request over a connection that stays open, and reads the answer.
func ask(t testing.TB, conn net.Conn, path string, headers string) (resp *http.Response, body []byte) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, headers); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func (e *edge) dial() net.Conn {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.s.Addr())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const (
	tickerPath = "/v1/sse/ticker?symbols=BTC-USDT"
	asJSON     = "Accept: application/json"
)

// TestConnectionLimits connects through a proxy that says who the client is.
func TestConnectionLimits(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.MaxConns, c.MaxPerIP, c.Edge.Proxies = 5, 2, []string{"127.0.0.0/8"} })
	begin := func(from, want string) *reader {
		t.Helper()
		r := e.open(tickerPath, "X-Forwarded-For: "+from)
		m := r.expect(want)
		if want == "goodbye" && (m.field(t, "why") != "overload" || m.retry < 5000 || m.retry > 30_000 || r.next() != (message{})) {
			t.Errorf("from %s: %+v", from, m)
		}
		return r
	}
	refused := func(from string, want int, code string) {
		t.Helper()
		conn := e.dial()
		resp, body := ask(t, conn, tickerPath, "X-Forwarded-For: "+from+"\r\n"+asJSON+"\r\n")
		var p rest.Problem
		if err := json.Unmarshal(body, &p); err != nil || resp.StatusCode != want || p.Code != code || resp.Header.Get("Retry-After") == "" {
			t.Errorf("from %s: %s %s, want %d %s", from, resp.Status, body, want, code)
		}
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // it comes as it is
			t.Errorf("from %s: it may stay: %v", from, err)
		}
	}
	first := begin("203.0.113.7", "hello")
	begin("203.0.113.7", "hello")
	begin("203.0.113.7", "goodbye")
	begin("203.0.113.7, 203.0.113.7", "goodbye")
	refused("203.0.113.7", 429, "rate")
	begin("2001:db8:1:2::1", "hello")
	begin("2001:db8:1:2:ffff::2", "hello")
	begin("2001:db8:1:2::3", "goodbye")
	begin("2001:db8:1:3::1", "hello")
	begin("198.51.100.1", "goodbye") // the whole edge is full
	refused("198.51.100.1", 503, "not_ready")
	_ = first.conn.Close()
	wait(t, "the place of one that has gone is free", func() bool {
		r := e.open(tickerPath, "X-Forwarded-For: 203.0.113.7")
		return r.next().name == "hello"
	})
	if n := e.value("sse_connections_refused_total"); n < 6 {
		t.Errorf("%v refused", n)
	}
	e.end()
	e.empty()
}

// TestProxyConnection asks for several clients over one connection, as proxies do, while one of them has a stream.
func TestProxyConnection(t *testing.T) {
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.MaxPerIP, c.Edge.Proxies = 1, []string{"127.0.0.0/8"} })
	conn, other := e.dial(), e.dial()
	f := func(conn net.Conn, from string, want, places int) {
		t.Helper()
		resp, body := ask(t, conn, tickerPath, "X-Forwarded-For: "+from+"\r\n"+asJSON+"\r\n")
		if resp.StatusCode != want {
			t.Errorf("from %s: %s %s", from, resp.Status, body)
		}
		wait(t, "it is nobody's again", func() bool { _, _, n := e.s.crowd.Sizes(); return n == places })
	}
	for range 3 { // an idle connection keeps nobody out
		f(conn, "203.0.113.7", 200, 0)
		f(other, "203.0.113.7", 200, 0)
		f(conn, "203.0.113.8", 200, 0)
	}
	r := e.open(tickerPath, "X-Forwarded-For: 203.0.113.7")
	r.expect("hello")
	f(conn, "203.0.113.8", 200, 1)
	f(conn, "203.0.113.7", 429, 1)
	_ = r.conn.Close()
	_ = other.Close()
	e.empty()
}

// TestNoRoom has more connections come from one address than could even be told so.
func TestNoRoom(t *testing.T) {
	s := newEvents(t).prepare(func(c *Config) { c.MaxPerIP = 1 }).s
	var welcome []net.Conn
	from := addressed{addr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7)}}
	for range 1000 {
		if g := s.welcome(from); g != nil {
			welcome = append(welcome, g)
		}
	}
	if n := len(welcome); n != 65 { // one, and those that stand
		t.Errorf("%d are let in", n)
	}
	for range 2 { // the second time counts for nothing
		for _, g := range welcome {
			_ = g.Close()
		}
	}
	if open, seats, places := s.crowd.Sizes(); open != 0 || seats != 0 || places != 0 {
		t.Errorf("when all have gone: %d open, %d seats, %d places", open, seats, places)
	}
	g := guestOf(s.welcome(from))
	g.leave()
	if g.sit(7) != door.Seated || g.seated {
		t.Error("one that has gone is given a seat")
	}
}

// addressed is a connection of which the address alone matters.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }
func (a addressed) Close() error         { return nil }

// TestUnreadAnswers ends an edge while a peer asks and asks, and reads no answer.
func TestUnreadAnswers(t *testing.T) {
	l := newEvents(t)
	e := l.edge(nil)
	conn := e.dial()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	asked := []byte(strings.Repeat("GET "+modulePath+" HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	for err := error(nil); err == nil; {
		_, err = conn.Write(asked)
	}
	began := time.Now()
	e.end()
	if passed := time.Since(began); passed > 2*headerTimeout {
		t.Errorf("it takes %v", passed)
	}
	e.empty()
}

func TestTLS(t *testing.T) {
	cert, keyFile, pool := testkit.Certificate(t)
	l := newEvents(t)
	l.beat()
	e := l.edge(func(c *Config) { c.Edge.TLSCert, c.Edge.TLSKey, c.MaxConns = cert, keyFile, 2 })
	dial := func() net.Conn {
		t.Helper()
		conn, err := tls.Dial("tcp", e.s.Addr(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	r := openOn(t, dial(), "/v1/sse/trades?symbols=BTC-USDT")
	r.expect("hello")
	r.expect("snapshot")
	for range 100 {
		l.trade(1)
	}
	for range 100 {
		r.expect("trade")
	}
	gone := openOn(t, dial(), tickerPath)
	gone.expect("hello")
	full := openOn(t, dial(), tickerPath)
	if m := full.expect("goodbye"); m.field(t, "why") != "overload" {
		t.Errorf("%+v", m)
	}
	if resp, body := ask(t, dial(), tickerPath, asJSON+"\r\n"); resp.StatusCode != 503 {
		t.Errorf("%s %s", resp.Status, body)
	}
	_ = gone.conn.Close()
	wait(t, "its seat is free", func() bool { _, seats, _ := e.s.crowd.Sizes(); return seats == 1 })
	plain := e.dial()
	if _, err := plain.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, plain); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Log(err) // a reset is as good as an alert
	}
	e.end()
	e.empty()
}

// TestSlowTLS is a client that connects and says nothing, where TLS is expected; another one is served meanwhile.
func TestSlowTLS(t *testing.T) {
	cert, keyFile, pool := testkit.Certificate(t)
	inBubbleOn(t, func(c *Config) { c.Edge.TLSCert, c.Edge.TLSKey = cert, keyFile }, func(t *testing.T, _ *events, _ *edge, ln *fasthttputil.InmemoryListener) {
		silent, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		conn, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if resp, body := ask(t, secure, tickerPath, asJSON+"\r\n"); resp.StatusCode != 200 || time.Since(begin) > time.Second {
			t.Errorf("%s %s after %v", resp.Status, body, time.Since(begin))
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil {
			t.Error("something is said to silence")
		}
		if d := time.Since(begin); d > headerTimeout+time.Second {
			t.Errorf("silence was borne for %v", d)
		}
		_ = secure.Close()
	})
}

// failing is a listener that fails before each connection, as when files run out.
type failing struct {
	net.Listener
	times int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.times++; f.times%8 != 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		mem := fasthttputil.NewInmemoryListener()
		ln := door.Listen(&failing{Listener: mem}, zap.NewNop())
		for range 3 {
			begin := time.Now()
			go func() { _, _ = mem.Dial() }()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			if d := time.Since(begin); d < 500*time.Millisecond || d > time.Second {
				t.Errorf("seven errors were taken within %v", d)
			}
		}
		go func() {
			time.Sleep(time.Millisecond)
			_ = ln.Close()
		}()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("when it is closed: %v", err)
		}
	})
}
