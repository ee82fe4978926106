package deliver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tickwire/tickwire/services/webhook/store"
)

func testGuard(t testing.TB, nets, ports string) *guard {
	t.Helper()
	split := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	g, err := newGuard(&Config{AllowNets: split(nets), AllowPorts: split(ports)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Each line is a range, or a single address that clouds answer from within.
var notPublic = `
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.1.2.3 127.255.255.255
169.254.0.1 169.254.169.254 169.254.170.2 169.254.169.253 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1
192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255
240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:168.63.129.16 ::ffff:0.0.0.0 ::127.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1::a00:1 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:30::1
2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254 fd00:42::42 fe80::1 fe80::a9fe:a9fe febf::1 fec0::1
ff02::1 ff0e::1 4000::1 fe80::1%eth0 2606:4700::1%eth0`

var public = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15 168.63.129.17 172.15.255.255 172.32.0.0 192.0.1.1 192.167.0.1 " +
	"198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1 2003::1"

func TestGuardAddresses(t *testing.T) {
	g := testGuard(t, "", "80,443")
	for _, text := range strings.Fields(notPublic) {
		network := "tcp6"
		addr := netip.MustParseAddr(text)
		if addr.Is4() {
			network = "tcp4"
		}
		if err := g.control(t.Context(), network, netip.AddrPortFrom(addr, 443).String(), nil); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range strings.Fields(public) {
		if err := g.check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, network := range []string{"tcp", "udp4", "unix", ""} {
		if err := g.control(t.Context(), network, "8.8.8.8:443", nil); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", network, err)
		}
	}
	if err := g.control(t.Context(), "tcp4", "8.8.8.8", nil); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
}

func TestGuardLists(t *testing.T) {
	f := func(nets, ports, addr string, want bool) {
		t.Helper()
		if err := testGuard(t, nets, ports).check(netip.MustParseAddrPort(addr)); (err == nil) != want {
			t.Errorf("%s with %q %q: %v", addr, nets, ports, err)
		}
	}
	f("", "80,443", "8.8.8.8:80", true)
	f("", "80,443", "8.8.8.8:8080", false)
	f("", "80,443", "8.8.8.8:22", false)
	f("", "443", "8.8.8.8:80", false)
	f("", "443,8000-8999", "8.8.8.8:8000", true)
	f("", "443,8000-8999", "8.8.8.8:8999", true)
	f("", "443,8000-8999", "8.8.8.8:9000", false)
	f("10.1.0.0/16", "443", "10.1.2.3:443", true)
	f("10.1.0.0/16", "443", "10.2.2.3:443", false)
	f("10.1.0.0/16", "443", "10.1.2.3:5432", false)
	f("10.1.0.0/16", "443", "[::ffff:10.1.2.3]:443", true)
	f("fd00:1::/32", "443", "[fd00:1::5]:443", true)
	f("fd00:1::/32", "443", "[fd00:2::5]:443", false)
	f("127.0.0.1/32,::1/128", "443", "[::1]:443", true)
	f("127.0.0.1/32,::1/128", "443", "127.0.0.2:443", false)
	// A network without IPv4 of its own: what an address leads to counts.
	f("64:ff9b::/96", "443", "[64:ff9b::8.8.8.8]:443", true)
	f("64:ff9b::/96", "443", "[64:ff9b::127.0.0.1]:443", false)
	f("64:ff9b::/96", "443", "[64:ff9b::a9fe:a9fe]:443", false)
	f("64:ff9b::/96,10.0.0.0/8", "443", "[64:ff9b::10.0.0.1]:443", true)
}

func TestConfig(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(func(*Config) {}, "")
	f(func(c *Config) { c.AllowPorts = nil }, "--webhook-allow-ports")
	for _, bad := range []string{"0", "65536", "x", "80-", "-80", "90-80", "80-90-100", ""} {
		f(func(c *Config) { c.AllowPorts = []string{bad} }, "--webhook-allow-ports")
	}
	for _, bad := range []string{"10.0.0.1", "10.0.0.0/33", "::ffff:10.0.0.0/104", "localhost"} {
		f(func(c *Config) { c.AllowNets = []string{bad} }, "--webhook-allow-nets")
	}
	f(func(c *Config) { c.Origin = "" }, "--webhook-origin")
	f(func(c *Config) { c.Origin = "a\nb" }, "--webhook-origin")
	f(func(c *Config) { c.InFlight = 0 }, "--webhook-in-flight")
}

func TestCheckURL(t *testing.T) {
	g := testGuard(t, "", "80,443")
	f := func(url, want string) {
		t.Helper()
		if err := g.url(url); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	f("https://example.com/hook?token=x", "")
	f("http://example.com", "")
	f("https://example.com:443/", "")
	f("https://8.8.8.8/", "")
	f("https://[2606:4700::1]/", "")
	f("", "http")
	f("ftp://example.com/", "http")
	f("file:///etc/passwd", "http")
	f("gopher://example.com/", "http")
	f("//example.com/", "http")
	f("https:///x", "host")
	f("https:example.com", "host")
	f("https://user:pw@example.com/", "user")
	f("https://example.com/#x", "fragment")
	f("https://example.com/#", "fragment")
	f("https://example.com:8443/", "port")
	f("https://example.com:99999/", "port")
	f("http://127.0.0.1/", "address")
	f("http://[::1]/", "address")
	f("http://[::ffff:169.254.169.254]/", "address")
	f("http://169.254.169.254/latest/meta-data/", "address")
	f("https://example.com/\nX: y", "URL")
	f("https://example.com/"+strings.Repeat("x", 2048), "2048")
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://example.com:443/hook")
	f.Add("http://[::ffff:127.0.0.1]:80/")
	f.Fuzz(func(t *testing.T, url string) {
		g := testGuard(t, "", "80,443")
		if g.url(url) != nil {
			return
		}
		// What is accepted can be requested, from a host and without anything that is not a URL's.
		req, err := http.NewRequest(http.MethodPost, url, nil)
		if err != nil || req.URL.Hostname() == "" || strings.ContainsAny(req.URL.RequestURI(), "\r\n ") {
			t.Errorf("%q: %v", url, err)
		}
	})
}

// names is a resolver that answers each query for an IPv4 address with the next of a list, and then with its last.
func names(t testing.TB, answers ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	var asked atomic.Int64
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			if q.Type == dnsmessage.TypeA {
				i := min(int(asked.Add(1)), len(answers)) - 1
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(answers[i]).As4()},
				}}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(b, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

// TestRebinding: a name that leads to an address that is allowed at first, and to another one at the next connection. That
// other one is not dialled.
func TestRebinding(t *testing.T) {
	var good, bad atomic.Int64
	serve := func(addr string, n *atomic.Int64) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n.Add(1)
			w.Header().Set("Connection", "close")
		}))
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = server.Listener.Close()
		server.Listener = l
		server.Start()
		t.Cleanup(server.Close)
		return server
	}
	_, port, _ := net.SplitHostPort(serve("127.0.0.2:0", &good).Listener.Addr().String())
	serve("127.0.0.1:"+port, &bad)
	s := sender(t, newMemory(), func(c *Config) {
		c.AllowNets = []string{"127.0.0.2/32"}
		c.resolver = names(t, "127.0.0.2", "127.0.0.1")
	})
	ep := endpoint(1, "http://rebinding.example:"+port+"/")
	ev := &store.Event{ID: "evt_1", Type: store.TypeTest, Body: []byte(`{}`)}
	if r := s.Test(t.Context(), &ep, ev); !r.OK() {
		t.Errorf("%+v", r)
	}
	r := s.Test(t.Context(), &ep, ev)
	if r.kind != forbidden || r.Code != 0 || strings.Contains(r.Err, "127.0.0.1") {
		t.Errorf("%+v", r)
	}
	if good.Load() != 1 || bad.Load() != 0 {
		t.Errorf("%d and %d requests", good.Load(), bad.Load())
	}
}

// TestNoProxy: a proxy from the environment would dial in the guard's place.
func TestNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s := sender(t, newMemory(), nil)
	if s.shared.Proxy != nil {
		t.Error("there is a proxy")
	}
	ep := endpoint(1, server.URL)
	if r := s.Test(t.Context(), &ep, &store.Event{ID: "evt_1", Body: []byte(`{}`)}); !r.OK() {
		t.Errorf("%+v", r)
	}
}
