package door_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/services/internal/door"
)

func TestOrigins(t *testing.T) {
	f := func(list, origin string, want bool) {
		t.Helper()
		o, err := door.ParseOrigins(strings.Fields(list))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		if origin != "" {
			lines = append(lines, origin)
		}
		if got := o.Allow(lines); got != want {
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
		if _, err := door.ParseOrigins([]string{bad}); err == nil {
			t.Errorf("%q passes as an origin", bad)
		}
	}
	if o, _ := door.ParseOrigins([]string{"https://a.example"}); o.Allow([]string{"https://a.example", "https://b.example"}) {
		t.Error("two origins pass")
	}
}

func TestClientAddress(t *testing.T) {
	f := func(proxies, peer, forwarded, want string) {
		t.Helper()
		p, err := door.ParseProxies(strings.Fields(proxies))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if a := p.Client(netip.MustParseAddr(peer), strings.Split(forwarded, "|")); a.IsValid() {
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
	f("10.0.0.0/8", "10.1.2.3", " , 203.0.113.7 ,|,", "203.0.113.7")
	f("10.0.0.0/8", "10.1.2.3", "203.0.113.7, unknown", "")
	f("10.0.0.0/8", "10.1.2.3", "", "")
	f("10.1.2.3", "10.1.2.3", "::ffff:203.0.113.7", "203.0.113.7")
	for _, bad := range []string{"10.0.0.0/33", "proxy", ""} {
		if _, err := door.ParseProxies([]string{bad}); err == nil {
			t.Errorf("%q passes as a network", bad)
		}
	}
}
