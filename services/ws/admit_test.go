package ws

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
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

func TestOrigins(t *testing.T) {
	f := func(list, origin string, want bool) {
		t.Helper()
		o, err := parseOrigins(strings.Fields(list))
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		if got := o.allow(h); got != want {
			t.Errorf("list %q, origin %q: %v", list, origin, got)
		}
	}
	f("", "https://evil.example", true)
	f("https://a.example", "", true)
	f("https://a.example", "https://a.example", true)
	f("https://a.example", "HTTPS://A.example", true)
	f("https://a.example", "http://a.example", false)
	f("https://a.example", "https://a.example:8443", false)
	f("https://a.example", "https://a.example.evil.example", false)
	f("https://a.example", "https://evil.example/https://a.example", false)
	f("https://a.example", "null", false)
	f("null", "null", true)
	f("https://a.example https://*.example.org:8443", "https://b.c.example.org:8443", true)
	f("https://*.example.org", "https://example.org", false)
	f("https://*.example.org", "https://evilexample.org", false)
	f("https://*.example.org", "https://.example.org", false)
	f("https://*.example.org", "https://evil.example/.example.org", false)
	f("https://*.example.org", "https://x@y.example.org", false)
	f("https://*.example.org", "http://a.example.org", false)
	for _, bad := range []string{"a.example", "*", "https://*", "https://*example.org", "https://a.*.org", "https://a.example/path", "https://", ""} {
		if _, err := parseOrigins([]string{bad}); err == nil {
			t.Errorf("%q passes as an origin", bad)
		}
	}
	two := http.Header{"Origin": {"https://a.example", "https://b.example"}}
	if o, _ := parseOrigins([]string{"https://a.example"}); o.allow(two) {
		t.Error("two origins pass")
	}
}

func TestClientAddress(t *testing.T) {
	f := func(proxies, peer, forwarded, want string) {
		t.Helper()
		p, err := parseProxies(strings.Fields(proxies))
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		for _, line := range strings.Split(forwarded, "|") {
			h.Add("X-Forwarded-For", line)
		}
		got := ""
		if a := p.client(netip.MustParseAddr(peer), h); a.IsValid() {
			got = a.String()
		}
		if got != want {
			t.Errorf("proxies %q, peer %s, forwarded %q: %q, want %q", proxies, peer, forwarded, got, want)
		}
	}
	f("", "198.51.100.1", "203.0.113.7", "198.51.100.1")
	f("10.0.0.0/8", "198.51.100.1", "203.0.113.7", "198.51.100.1")
	f("10.0.0.0/8", "10.1.2.3", "203.0.113.7", "203.0.113.7")
	f("10.0.0.0/8", "10.1.2.3", "6.6.6.6, 203.0.113.7", "203.0.113.7")
	f("10.0.0.0/8", "10.1.2.3", "6.6.6.6, 203.0.113.7, 10.9.9.9", "203.0.113.7")
	f("10.0.0.0/8", "10.1.2.3", "6.6.6.6|203.0.113.7|10.9.9.9", "203.0.113.7")
	f("10.0.0.0/8 2001:db8::/32", "2001:db8::1", "[2001:db9::7]:443", "2001:db9::7")
	f("10.0.0.0/8", "10.1.2.3", "203.0.113.7:1234", "203.0.113.7")
	f("10.0.0.0/8", "10.1.2.3", "203.0.113.7, unknown", "")
	f("10.0.0.0/8", "10.1.2.3", "", "")
	f("10.1.2.3", "10.1.2.3", "::ffff:203.0.113.7", "203.0.113.7")
	for _, bad := range []string{"10.0.0.0/33", "proxy", ""} {
		if _, err := parseProxies([]string{bad}); err == nil {
			t.Errorf("%q passes as a network", bad)
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
	e := startEdge(t, func(c *Config) { c.MaxConns, c.MaxPerIP, c.Proxies = 5, 2, []string{"127.0.0.0/8"} }).market(5)
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
	if c := e.s.crowd; c.open != 0 || c.seats != 0 || len(c.places) != 0 {
		t.Errorf("when all have gone: %d open, %d seats, %d places", c.open, c.seats, len(c.places))
	}
}

// TestCrowdOfVisitors fills an edge with connections that ask for nothing.
func TestCrowdOfVisitors(t *testing.T) {
	c := newCrowd(10, 2)
	const somebody, other = place(1), place(2)
	for i := range 2 + standingPerPlace {
		if !c.enter(somebody) {
			t.Fatalf("visitor %d is not let in", i)
		}
	}
	if c.enter(somebody) {
		t.Error("a place has as many visitors as it likes")
	}
	if !c.enter(other) || c.sit(other, other) != nil {
		t.Error("it keeps others out")
	}
	n := 0
	for c.enter(0) {
		n++
	}
	if n != 10+standing-(2+standingPerPlace+1) {
		t.Errorf("%d visitors that are not counted by place", n)
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
	cert, keyFile, pool := certificate(t)
	e := startEdge(t, func(c *Config) { c.TLSCert, c.TLSKey, c.Origins = cert, keyFile, []string{"https://a.example"} }).market(5)
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
	cert, keyFile, _ := certificate(t)
	inTimeWith(t, func(c *Config) { c.TLSCert, c.TLSKey = cert, keyFile }, func(t *testing.T, _ *edge, ln *memory) {
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
	f("--trusted-proxies", func(c *Config) { c.Proxies = []string{"here"} })
	f("--ws-max-conns-per-ip", func(c *Config) { c.MaxPerIP = -1 })
	f("--ws-idle", func(c *Config) { c.Idle = -time.Second })
}
