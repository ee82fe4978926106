package ws

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// ask sends an upgrade request and returns the answer. The connection stays open when it was upgraded.
func (e *edge) ask(headers string) (*http.Response, *peer) {
	e.t.Helper()
	p := e.dial()
	p.write([]byte(upgradeRequest("/v1/ws", headers)))
	return p.answer(), p
}

func (p *peer) answer() *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			p.t.Error(err)
		}
		_ = resp.Body.Close()
	}
	return resp
}

// wait repeats f until it is true.
func wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestOriginRefused(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Origins = []string{"https://*.example.org"} }).market(5)
	f := func(headers string, want int) {
		t.Helper()
		if resp, _ := e.ask(headers); resp.StatusCode != want {
			t.Errorf("%q: %v, want %d", headers, resp.Status, want)
		}
	}
	f("Origin: https://app.example.org\r\n", 101)
	f("", 101)
	f("Origin: https://evil.example\r\n", 403)
	f("Origin: null\r\n", 403)
}

// TestConnectionLimits connects through a proxy that says who the client is.
func TestConnectionLimits(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.MaxConns, c.MaxPerIP, c.Edge.Proxies = 5, 2, []string{"127.0.0.0/8"} }).market(5)
	f := func(from string, want int) *peer {
		t.Helper()
		resp, p := e.ask("X-Forwarded-For: " + from + "\r\n")
		if resp.StatusCode != want || want == 429 && resp.Header.Get("Retry-After") == "" {
			t.Errorf("from %s: %v %v, want %d", from, resp.Status, resp.Header, want)
		}
		return p
	}
	first := f("203.0.113.7", 101)
	f("203.0.113.7", 101)
	f("203.0.113.7", 429)
	f("203.0.113.7, 203.0.113.7", 429)
	f("2001:db8:1:2::1", 101)
	f("2001:db8:1:2:ffff::2", 101)
	f("2001:db8:1:2::3", 429)
	f("2001:db8:1:3::1", 101)
	f("198.51.100.1", 429) // the whole edge is full
	first.expect(wire.KindHello)
	first.write(masked(0x88, nil))
	first.closed()
	wait(t, "the place of one that has gone is free", func() bool {
		resp, _ := e.ask("X-Forwarded-For: 203.0.113.7\r\n")
		return resp.StatusCode == 101
	})
	e.end()
	if open, seats, places := e.s.crowd.Sizes(); open != 0 || seats != 0 || places != 0 {
		t.Errorf("when all have gone: %d open, %d seats, %d places", open, seats, places)
	}
}

func TestDrainRefusesNewcomers(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Drain = time.Second }).market(5)
	p := e.connect("")
	e.connect("")
	e.stop()
	p.skipTo(wire.KindDrain)
	resp, _ := e.ask("")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v %v", resp.Status, resp.Header)
	}
	e.end()
}

// TestRefusedOverTLS reads the refusal where it belongs, within the encryption.
func TestRefusedOverTLS(t *testing.T) {
	cert, keyFile, pool := testkit.Certificate(t)
	e := startEdge(t, func(c *Config) {
		c.Edge.TLSCert, c.Edge.TLSKey, c.Origins = cert, keyFile, []string{"https://a.example"}
	}).market(5)
	conn, err := tls.Dial("tcp", e.s.Addr(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p := &peer{t: t, conn: conn, in: bufio.NewReader(conn)}
	p.write([]byte(upgradeRequest("/v1/ws", "Origin: https://b.example\r\n")))
	if resp := p.answer(); resp.StatusCode != http.StatusForbidden {
		t.Error(resp.Status)
	}
}

func TestWithoutSubscription(t *testing.T) {
	inTime(t, func(t *testing.T, e *edge, ln *memory) {
		begin := time.Now()
		idle, busy := ln.dial(t), ln.dial(t)
		for _, p := range []*peer{idle, busy} {
			p.upgrade("")
			p.expect(wire.KindHello)
		}
		busy.send(`{"op":"sub","id":1,"topics":[{"ch":"status","sym":"BTC-USDT"}]}`)
		read := make(chan error, 1)
		go func() {
			for {
				op, b, err := busy.frame()
				if err == nil && op == opPing {
					_, err = busy.conn.Write(masked(0x80|opPong, b))
				}
				if err == nil && op == opClose {
					err = errors.New("closed")
				}
				if err != nil {
					read <- err
					return
				}
			}
		}()
		if code := idle.closed(); code != wire.CloseNoSubscription {
			t.Errorf("closed by %d", code)
		}
		if d := time.Since(begin); d < time.Minute || d > 63*time.Second {
			t.Errorf("after %v", d)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-read:
			t.Errorf("one with a subscription: %v", err)
		default:
		}
		busy.send(`{"op":"unsub","id":2,"topics":[{"ch":"status","sym":"BTC-USDT"}]}`)
		time.Sleep(65 * time.Second)
		if n := e.s.hub.Conns(); n != 0 {
			t.Errorf("%d connections a minute after the last subscription", n)
		}
		if err := <-read; err == nil {
			t.Error("nothing ended it")
		}
	})
}

// TestSlowTLS is a client that connects and says nothing, where TLS is expected.
func TestSlowTLS(t *testing.T) {
	cert, keyFile, _ := testkit.Certificate(t)
	inTimeWith(t, func(c *Config) { c.Edge.TLSCert, c.Edge.TLSKey = cert, keyFile }, func(t *testing.T, _ *edge, ln *memory) {
		p := ln.dial(t)
		begin := time.Now()
		_, err := p.in.ReadByte()
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if d := time.Since(begin); d > handshakeTimeout+2*closeTimeout {
			t.Errorf("silence was borne for %v", d)
		}
	})
}

func TestAdmissionFlags(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want %s named", err, want)
		}
	}
	f("--ws-origins", func(c *Config) { c.Origins = []string{"example.org"} })
	f("--trusted-proxies", func(c *Config) { c.Edge.Proxies = []string{"here"} })
	f("--ws-max-conns-per-ip", func(c *Config) { c.MaxPerIP = -1 })
	f("--ws-idle", func(c *Config) { c.Idle = -time.Second })
}
