package sse

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// asking is an edge that asks for tokens. The path is its key file's.
func asking(t testing.TB, mode, keys string, change func(*Config)) (s *Server, path string) {
	t.Helper()
	secret, path := testkit.Keys(t, keys)
	cfg := DefaultConfig()
	cfg.Edge.Auth.Mode, cfg.Edge.Auth.HS256File, cfg.Edge.Auth.KeysFile = mode, secret, path
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

// incoming is a request with header lines as they stand.
func incoming(t testing.TB, method, path string, headers ...string) *fasthttp.RequestCtx {
	t.Helper()
	var r fasthttp.Request
	r.Header.SetMethod(method)
	r.SetRequestURI(path)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(&r, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 1234}, quiet{})
	return ctx
}

// problemOf reads the problem that a request was answered with.
func problemOf(t testing.TB, ctx *fasthttp.RequestCtx) (p rest.Problem) {
	t.Helper()
	if err := json.Unmarshal(ctx.Response.Body(), &p); err != nil || p.Status != ctx.Response.StatusCode() {
		t.Fatalf("%d %s: %v", ctx.Response.StatusCode(), ctx.Response.Body(), err)
	}
	return p
}

func TestAdmit(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{Channels: []string{"ticker"}})
	s, _ := asking(t, "required", "keys:\n"+entry, nil)
	f := func(want string, headers ...string) {
		t.Helper()
		ctx := incoming(t, "GET", "/v1/time", headers...)
		g, ok := s.admit(ctx)
		if ok {
			if g.Subject != want {
				t.Errorf("%q is %q, want %s", headers, g.Subject, want)
			}
			return
		}
		p, asked := problemOf(t, ctx), string(ctx.Response.Header.Peek("WWW-Authenticate"))
		if p.Status != 401 || p.Code != want || !strings.HasPrefix(asked, "Bearer ") || strings.Contains(asked, "error=") != (p.Code != "auth_required") {
			t.Errorf("%q: %+v %s, want %s", headers, p, asked, want)
		}
	}
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	good := testkit.Token("alice", time.Hour, "")
	parts := strings.Split(good, ".")
	f("alice", bearer(good))
	f("alice", "authorization: bearer "+good)
	f("desk-1", bearer(key))
	f("auth_required")
	f("auth_required", "Authorization: Basic YTpi")
	f("auth_required", "Cookie: session="+good)
	f("auth_expired", bearer(testkit.Token("alice", -time.Hour, "")))
	f("auth_failed", bearer(good[:len(good)-4]+"AAAA"))
	f("auth_failed", bearer(testkit.Sign(`{"alg":"none"}`, `{"sub":"alice","exp":4000000000}`)))
	f("auth_failed", bearer(parts[0]+"."+parts[1]+"."))
	f("auth_failed", bearer(key[:len(key)-1]+"!"))
	f("auth_failed", bearer(""))
	f("auth_failed", bearer(good), bearer(good))
}

// TestAdmitWithout has those come who show no token, where they may, and where nobody looks at one.
func TestAdmitWithout(t *testing.T) {
	s, _ := asking(t, "optional", "anonymous: {channels: [ticker]}", nil)
	g, ok := s.admit(incoming(t, "GET", "/v1/time"))
	if !ok || !g.Anonymous() || s.allowed(g, market.Tickers, "BTC-USDT", market.View{}) != nil {
		t.Errorf("%+v", g)
	}
	if p := s.allowed(g, market.Trades, "BTC-USDT", market.View{}); p == nil || p.Status != 403 {
		t.Errorf("%+v", p)
	}
	if _, ok := s.admit(incoming(t, "GET", "/v1/time", "Authorization: Bearer nonsense")); ok {
		t.Error("a bad token is as good as none")
	}
	s, err := New(DefaultConfig(), Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	g, ok = s.admit(incoming(t, "GET", "/v1/time", "Authorization: Bearer nonsense"))
	if !ok || !g.Every() || s.renew(g, &spec{}) != g {
		t.Errorf("%+v", g)
	}
}

func TestCookie(t *testing.T) {
	s, _ := asking(t, "required", "", func(c *Config) {
		c.Cookie, c.Origins = "session", []string{"https://app.example.org", "https://*.desk.example.org"}
	})
	good := testkit.Token("alice", time.Hour, "")
	cookie := "Cookie: theme=dark; session=" + good
	f := func(want bool, headers ...string) {
		t.Helper()
		ctx := incoming(t, "GET", "/v1/time", headers...)
		s.cors(ctx)
		if g, ok := s.admit(ctx); ok != want || ok && g.Subject != "alice" {
			t.Errorf("%q: %v %v", headers, g, ok)
		}
		h := &ctx.Response.Header
		open, credentials := string(h.Peek("Access-Control-Allow-Origin")), string(h.Peek("Access-Control-Allow-Credentials"))
		if (credentials == "true") != (open != "*") || string(h.Peek("Vary")) != "Origin" {
			t.Errorf("%q: %s", headers, h)
		}
		if open != "*" && open != string(ctx.Request.Header.Peek("Origin")) {
			t.Errorf("%q: answered for %s", headers, open)
		}
	}
	f(true, cookie, "Origin: https://app.example.org")
	f(true, cookie, "Origin: https://a.desk.example.org")
	f(true, cookie, "Sec-Fetch-Site: same-origin")
	f(false, cookie)
	f(false, cookie, "Sec-Fetch-Site: same-site")
	f(false, cookie, "Sec-Fetch-Site: cross-site")
	f(false, cookie, "Sec-Fetch-Site: none")
	f(false, cookie, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
	f(false, cookie, "Origin: https://evil.example", "Sec-Fetch-Site: same-origin")
	f(false, cookie, "Origin: http://app.example.org")
	f(false, cookie, "Origin: null")
	f(false, cookie, "Origin: https://app.example.org", "Origin: https://evil.example")
	f(false, "Origin: https://app.example.org")
	f(false, "Cookie: session="+testkit.Token("alice", -time.Hour, ""), "Origin: https://app.example.org")
	f(true, "Cookie: session=stale", "Origin: https://app.example.org", "Authorization: Bearer "+good)
	f(true, "Origin: https://evil.example", "Authorization: Bearer "+good)
}

func TestCookieFlags(t *testing.T) {
	f := func(want, cookie string, origins ...string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Cookie, cfg.Origins = cookie, origins
		if err := cfg.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want+": ")) {
			t.Errorf("%q %q: %v, want an error of %q", cookie, origins, err, want)
		}
	}
	f("", "")
	f("", "", "https://a.example")
	f("", "__Host-session", "https://a.example")
	f("--sse-cookie", "session")
	f("--sse-cookie", "a b", "https://a.example")
	f("--sse-cookie", "a=b", "https://a.example")
	f("--sse-origins", "session", "null")
	f("--sse-origins", "", "a.example")
}

func TestPermitted(t *testing.T) {
	s, _ := asking(t, "required", "", nil)
	grant := func(scope string) *auth.Grant {
		t.Helper()
		g, ok := s.admit(incoming(t, "GET", "/v1/time", "Authorization: Bearer "+testkit.Token("alice", time.Hour, scope)))
		if !ok {
			t.Fatal(scope)
		}
		return g
	}
	f := func(scope string, p spec, want string) {
		t.Helper()
		wrong := s.permitted(grant(scope), &p)
		switch {
		case want == "" && wrong != nil:
			t.Errorf("%s %+v: %+v", scope, p, wrong)
		case want != "" && (wrong == nil || wrong.Status != 403 || wrong.Code != "forbidden" || wrong.Param != "symbols" || !strings.Contains(wrong.Detail, want)):
			t.Errorf("%s %+v: %+v, want %s named", scope, p, wrong, want)
		}
	}
	two := spec{channel: market.Trades, syms: []string{"BTC-USDT", "ETH-USDT"}}
	f("", two, "")
	f(`{"symbols":["*-USDT"]}`, two, "")
	f(`{"symbols":["BTC-*"]}`, two, "ETH-USDT")
	f(`{"symbols":["BTC-USDT","ETH-USDT2"]}`, two, "ETH-USDT")
	f(`{"channels":["ticker"]}`, two, "trades BTC-USDT")
	every := spec{channel: market.Tickers, all: true}
	f("", every, "")
	f(`{"symbols":["*"]}`, every, "")
	f(`{"symbols":["BTC-*"]}`, every, "every instrument")
	f(`{"channels":["trades"]}`, every, "channel")
	if p := s.allowed(grant(`{"depth":10}`), market.Books, "BTC-USDT", market.View{Depth: 50}); p == nil || !strings.Contains(p.Detail, "BTC-USDT") {
		t.Errorf("%+v", p)
	}
}

func TestAddressOf(t *testing.T) {
	s, _ := asking(t, "required", "", func(c *Config) { c.Edge.Proxies = []string{"198.51.100.0/24"} })
	f := func(want string, headers ...string) {
		t.Helper()
		got := s.addressOf(incoming(t, "GET", "/", headers...))
		if got.IsValid() != (want != "") || want != "" && got != netip.MustParseAddr(want) {
			t.Errorf("%q: %v, want %s", headers, got, want)
		}
	}
	f("")
	f("203.0.113.7", "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 198.51.100.9")
	f("203.0.113.7", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.7")
	s.proxies = nil
	f("198.51.100.1", "X-Forwarded-For: 203.0.113.7")
}
