package swarm

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/services/all"
)

func writeFile(t *testing.T, name string, b []byte) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// certificate writes one for 127.0.0.1, ::1 and example.com, which signs itself: that of package httptest.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	own := ts.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})),
		writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

const secret = "0123456789abcdef0123456789abcdef"

// token is a JWT by HS256.
func token(key string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		b64.EncodeToString(fmt.Appendf(nil, `{"sub":"bench","exp":%d,"tickwire":{}}`, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// secured is servers with TLS, and a token that they ask for, and a market of some topics.
func secured(t *testing.T, change func(*all.Config)) (addrs all.Addrs, cfg Config) {
	t.Helper()
	addrs = servertest.Start(t, change)
	cfg = Config{Clients: 6, Channel: "trades", Topics: 3, Each: 2, Symbols: []string{"A", "B", "C"}, Token: token(secret)}
	server := part(t, target.Name)
	cfg.Base = call[target.Started](t, server, "start", target.Config{
		Kind: target.Kafka, Kafka: all.Kafka{Brokers: []string{addrs.Kafka}}, Symbols: cfg.Symbols, Topics: cfg.Topics, Channel: cfg.Channel,
	}).Base
	return addrs, cfg
}

// try connects a swarm.
func try(t *testing.T, cfg Config, to Connect) (c Connected, err error) {
	t.Helper()
	p := part(t, Name)
	if err := p.Call("start", cfg, nil); err != nil {
		return c, err
	}
	to.Deadline = 20 * time.Second
	err = p.Call("connect", to, &c)
	if stopped := p.Stop(); stopped != nil {
		t.Error(stopped)
	}
	if err != nil && cfg.Token != "" && strings.Contains(err.Error(), cfg.Token) {
		t.Error("the token is printed")
	}
	return c, err
}

func TestDial(t *testing.T) {
	cert, key := certificate(t)
	hs256 := writeFile(t, "secret", []byte(secret))
	addrs, cfg := secured(t, func(c *all.Config) {
		c.Edge.TLSCert, c.Edge.TLSKey, c.Edge.Auth.Mode, c.Edge.Auth.HS256File = cert, key, "required", hs256
	})
	streams := cfg
	streams.SSE, streams.JSON = true, true
	plain, plainCfg := secured(t, nil)

	good := func(name string, cfg Config, to Connect) {
		t.Run(name, func(t *testing.T) {
			if c, err := try(t, cfg, to); err != nil || c.Ready != cfg.Clients {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
	bad := func(name string, cfg Config, addr, want string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some try for seconds
			if c, err := try(t, cfg, Connect{Addr: addr}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v, %v, want %q", c, err, want)
			}
		})
	}
	wss, https := "wss://"+addrs.WS, "https://"+addrs.SSE
	bad("a certificate that nobody knows", cfg, wss, "--insecure")
	insecure := func(c Config) Config { c.Insecure = true; return c }
	bad("another name", cfg, strings.Replace(wss, "127.0.0.1", "localhost", 1), "localhost")
	good("wss, not checked", insecure(cfg), Connect{Addr: wss})
	good("https, not checked", insecure(streams), Connect{Addr: https})
	t.Run("trusted", func(t *testing.T) {
		t.Setenv("SSL_CERT_FILE", cert)
		for _, f := range []struct {
			cfg  Config
			addr string
		}{{cfg, wss}, {cfg, wss + "/v1/ws"}, {streams, https}, {streams, https + "/"}} {
			if c, err := try(t, f.cfg, Connect{Addr: f.addr, AtOnce: 2}); err != nil || c.Ready != cfg.Clients {
				t.Errorf("%s: %+v, %v", f.addr, c, err)
			}
		}
	})
	stranger := insecure(cfg)
	stranger.Token = token("another key, which is as long as it must be")
	bad("another's token", stranger, wss, "refused: 401 ")
	stranger.Token = "two words"
	bad("no token at all", stranger, wss, "token")
	stranger = insecure(streams)
	stranger.Token = "short"
	bad("no token, streams", stranger, https, `"auth_failed"`)
	bad("wrong path", insecure(cfg), wss+"/other", "404 Not Found")
	bad("wrong path, streams", insecure(streams), https+"/other", "404 Not Found")
	bad("the other edge", plainCfg, "ws://"+plain.SSE, "404 Not Found")
	bad("TLS where there is none", insecure(plainCfg), "wss://"+plain.WS, "does not speak TLS")
	bad("no TLS where there is", cfg, "ws://"+addrs.WS, "TLS")
	bad("nobody there", plainCfg, "ws://127.0.0.1:1", "connection refused")
	bad("nobody there, with TLS", insecure(plainCfg), "wss://127.0.0.1:1", "connection refused")
	bad("no such name", plainCfg, "ws://nobody.invalid:80", "nobody.invalid")
	bad("no such scheme", plainCfg, "ftp://x", "wss://")
	bad("a user", plainCfg, "ws://a:b@127.0.0.1:1", "token")
	bad("no host", plainCfg, "ws://", "without a host")
	bad("no port", plainCfg, "ws://127.0.0.1:70000", "70000")
	wrong := plainCfg
	wrong.Sources = []string{"x"}
	bad("no source address", wrong, "ws://"+plain.WS, `"x"`)
	wrong.Sources = []string{"192.0.2.1"}
	bad("not our source address", wrong, "ws://"+plain.WS, "192.0.2.1")
	wrong.Sources = []string{"::1"}
	bad("a source address of the other family", wrong, "ws://"+plain.WS, "family")
	wrong = plainCfg
	wrong.Symbols = []string{"A", "B", "NO-SUCH"}
	wrong.Each = 3
	bad("no such symbol", wrong, "ws://"+plain.WS, "unknown_symbol")

	good("a name", plainCfg, Connect{Addr: "ws://" + strings.Replace(plain.WS, "127.0.0.1", "localhost", 1)})
	good("no scheme", plainCfg, Connect{Addr: plain.WS})
	t.Run("so many a second", func(t *testing.T) {
		slow := plainCfg
		slow.Clients = 11
		began := time.Now()
		if c, err := try(t, slow, Connect{Addr: plain.WS, PerSecond: 20}); err != nil || c.Ready != 11 || time.Since(began) < 500*time.Millisecond || c.Elapsed > 5*time.Second {
			t.Errorf("%+v, %v after %v", c, err, time.Since(began))
		}
	})
}

// TestDialIPv6 goes to an edge that listens on ::1.
func TestDialIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("IPv6: %v", err)
	}
	_ = ln.Close() // it was only to see
	addrs, cfg := secured(t, func(c *all.Config) { c.WS.Addr = "[::1]:0" })
	if c, err := try(t, cfg, Connect{Addr: "ws://" + addrs.WS}); err != nil || c.Ready != cfg.Clients {
		t.Errorf("%+v, %v", c, err)
	}
	cfg.Sources = []string{"127.0.0.1", "::1"}
	if c, err := try(t, cfg, Connect{Addr: "ws://" + addrs.WS}); err != nil || c.Ready != cfg.Clients {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestSources looks from where clients come, with TLS and without.
func TestSources(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		seen = append(seen, host)
		mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer let-me-in" || !strings.HasPrefix(r.Host, "127.0.0.1:") || r.URL.Path != "/there/v1/ws" {
			http.Error(w, "not you", http.StatusForbidden)
			return
		}
		http.Error(w, "later", http.StatusServiceUnavailable)
	})
	f := func(ts *httptest.Server, sources []string, number int, want ...string) {
		t.Helper()
		defer ts.Close()
		seen = nil
		cfg := Config{Clients: 4, Number: number, Channel: "trades", Topics: 1, Each: 1, Sources: sources, Token: "let-me-in", Insecure: true}
		var c Connected
		var got []string
		for limit := 100 * time.Millisecond; limit < 5*time.Second && (c.Failures == 0 || !slices.Equal(got, want)); limit *= 2 { // on a busy machine it takes longer
			p := part(t, Name)
			if err := p.Call("start", cfg, nil); err != nil {
				t.Fatal(err)
			}
			if err := p.Call("connect", Connect{Addr: ts.URL + "/there/v1/ws", PerSecond: 100, Deadline: limit}, &c); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			mu.Lock()
			got = slices.Compact(slices.Sorted(slices.Values(seen)))
			mu.Unlock()
		}
		if c.Ready != 0 || c.Failures == 0 || !strings.Contains(c.Why, "503 Service Unavailable: later") || !slices.Equal(got, want) {
			t.Errorf("%+v from %q, want %q", c, got, want)
		}
	}
	two := []string{"127.0.0.7", "127.0.0.8"}
	f(httptest.NewServer(handler), two, 0, two...)
	f(httptest.NewTLSServer(handler), two, 0, two...)
	f(httptest.NewServer(handler), nil, 4, "127.0.1.5")
	f(httptest.NewTLSServer(handler), nil, 4, "127.0.1.5")
}

func TestRefusal(t *testing.T) {
	f := func(answer, want string, final bool) {
		t.Helper()
		err := refusal([]byte(strings.ReplaceAll(answer, "\n", "\r\n")))
		var h *hopeless
		if got := fmt.Sprint(err); got != want || errors.As(err, &h) != final {
			t.Errorf("%s, hopeless %t; want %s, %t", got, errors.As(err, &h), want, final)
		}
	}
	f("HTTP/1.1 403 Forbidden\nContent-Length: 9\n\nno\nreally", "refused: 403 Forbidden: no", true)
	f("HTTP/1.1 403 Forbidden\nContent-Length: 90\n\nno", "<nil>", false)
	f("HTTP/1.1 429 Too Many Requests\nTransfer-Encoding: chunked\n\n4\nslow\n0\n\n", "refused: 429 Too Many Requests: slow", false)
	f("HTTP/1.1 301 Moved Permanently\nLocation: https://x/\nContent-Length: 0\n\n", "refused: 301 Moved Permanently: go to https://x/", true)
	f("HTTP/1.1 502 Bad Gateway\nContent-Length: 0\n\n", "refused: 502 Bad Gateway", false)
	f("HTTP/1.1 404 Not Found\nContent-Length: 25\n\n{\"code\":\"unknown_symbol\"}", "refused: 404 Not Found: {\"code\":\"unknown_symbol\"}", false)
	f("SSH-2.0\n\n", `no answer of HTTP: "SSH-2.0\r\n\r\n"`, true)
}

// TestAgain has clients wait as long as servers say, and the others go first.
func TestAgain(t *testing.T) {
	s, c := newSwarm("trades", false)
	slow := refusal([]byte("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"))
	never := refusal([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1000000\r\nContent-Length: 0\r\n\r\n"))
	all := []*client{c, {fd: -1}, {fd: -1}, {fd: -1}}
	s.heardOf, s.begun = true, time.Now()
	if b := (*busy)(nil); !errors.As(sentAway([]byte(`{"why":"overload","retry_ms":7000}`)), &b) || b.pause != 7*time.Second {
		t.Error(b)
	}
	for i, err := range []error{never, slow, errors.New("reset"), sentAway([]byte(`{"why":"behind","retry_ms":7000}`))} {
		s.fail(all[i], err)
	}
	if want := []*client{all[2], all[1], all[3], all[0]}; !slices.Equal(s.later, want) {
		t.Errorf("%v", s.later)
	}
	if wait := time.Until(all[1].retry); wait < 5*time.Second || wait > 7*time.Second || s.later[3].retry.After(time.Now().Add(maxPause)) {
		t.Errorf("after %v", wait)
	}
}

func TestExplain(t *testing.T) {
	err := explain(fmt.Errorf("socket: %w", syscall.EMFILE))
	var h *hopeless
	if !errors.As(err, &h) || !strings.Contains(err.Error(), "ulimit -n") {
		t.Error(err)
	}
	if err := explain(syscall.EADDRNOTAVAIL); errors.As(err, &h) || !strings.Contains(err.Error(), "source addresses") {
		t.Error(err)
	}
}

// TestRoute has clients take addresses and sources in turn.
func TestRoute(t *testing.T) {
	s := &Swarm{goal: &goal{addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[fd00::1]:80")}}}
	for _, ip := range []string{"10.0.0.8", "10.0.0.9", "fd00::8"} {
		s.sources = append(s.sources, netip.MustParseAddr(ip))
	}
	want := []string{"10.0.0.8 10.0.0.1:80", "fd00::8 [fd00::1]:80", "10.0.0.9 10.0.0.1:80", "fd00::8 [fd00::1]:80", "10.0.0.8 10.0.0.1:80"}
	for i, want := range want {
		from, to, err := s.route(&client{index: int32(i)})
		if got := fmt.Sprint(from, " ", to); err != nil || got != want {
			t.Errorf("client %d: %s, %v; want %s", i, got, err, want)
		}
	}
}

// FuzzAnswered reads heads that no server should send.
func FuzzAnswered(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00"))
	f.Add([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno"))
	f.Add([]byte("HTTP/1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, c := newSwarm("trades", false)
		c.state = upgrading
		rest, err := s.answered(c, b)
		if len(rest) > len(b) || err == nil && c.state == upgrading && len(c.part) != len(b) {
			t.Fatalf("%q of %q, %v", rest, b, err)
		}
	})
}
