package ws

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// asks has an edge ask for tokens, and returns the path of its key file.
func asks(t testing.TB, mode, keys string) (path string, change func(*Config)) {
	t.Helper()
	secret, path := testkit.Keys(t, keys)
	return path, func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.HS256File, c.Edge.Auth.KeysFile = mode, secret, path }
}

func bearer(token string) string { return "Authorization: Bearer " + token + "\r\n" }

// enter connects with these headers and reads hello.
func (e *edge) enter(headers string) *peer {
	e.t.Helper()
	resp, p := e.ask(headers)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		e.t.Fatalf("%v", resp.Status)
	}
	p.expect(wire.KindHello)
	return p
}

// another makes one more instrument known.
func (e *edge) another(id uint32, sym string) {
	e.t.Helper()
	in := market.Instrument{ID: id, Sym: sym, Source: "sim", Symbol: sym, PriceScale: 2, SizeScale: 4}
	h := head(1)
	h.Inst = id
	e.record(wire.TemplateStatus, wire.AppendStatus(nil, &market.Status{Head: h, Instrument: in}))
}

func (p *peer) auth(token string) {
	p.t.Helper()
	p.send(`{"op":"auth","id":"a","token":"` + token + `"}`)
}

// event reads the next message other than heartbeats and states of topics, which come when a machine is slow.
func (p *peer) event() wire.Kind {
	p.t.Helper()
	for {
		if k := p.next(); k != wire.KindTopicStatus {
			return k
		}
	}
}

func TestTokenInUpgrade(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{Channels: []string{"bbo"}})
	_, change := asks(t, "required", "keys:\n"+entry)
	e := startEdge(t, change).market(5)
	f := func(headers string, want int, result string) {
		t.Helper()
		before := counted(t, e, result)
		resp, p := e.ask(headers)
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != want || (want == 401) != strings.HasPrefix(challenge, `Bearer realm="tickwire", error="invalid_token"`) {
			t.Errorf("%s: %v %q, want %d", headers, resp.Status, challenge, want)
		}
		if want == 101 {
			if m := p.expect(wire.KindHello); m.Hello.Auth != "required" {
				t.Errorf("%+v", m.Hello)
			}
		}
		if result != "" && counted(t, e, result) != before+1 {
			t.Errorf("%s: not counted as %s", headers, result)
		}
	}
	good, dead := testkit.Token("alice", time.Hour, ""), testkit.Token("alice", -time.Hour, "")
	parts := strings.Split(good, ".")
	f(bearer(good), 101, "ok")
	f("authorization: bearer "+key+"\r\n", 101, "ok")
	f("Sec-WebSocket-Protocol: bearer."+good+", tickwire.v1.sbe\r\n", 101, "ok")
	f("", 101, "") // by auth
	f("Authorization: Basic YTpi\r\n", 101, "")
	f(bearer(dead), 401, "expired")
	f(bearer(good[:len(good)-4]+"AAAA"), 401, "signature")
	f(bearer(testkit.Sign(`{"alg":"none"}`, `{"sub":"alice","exp":4000000000}`)), 401, "signature")
	f(bearer(parts[0]+"."+parts[1]+"."), 401, "signature")
	f(bearer(key[:len(key)-1]+"!"), 401, "unknown")
	f(bearer(""), 401, "malformed")
	f(bearer(good)+"Sec-WebSocket-Protocol: bearer."+good+"\r\n", 401, "")
	resp, p := e.ask("Sec-WebSocket-Protocol: tickwire.v1.json, bearer." + key + "\r\n")
	if got := resp.Header.Values("Sec-WebSocket-Protocol"); len(got) != 1 || got[0] != "tickwire.v1.json" {
		t.Errorf("chosen: %q", got)
	}
	p.expect(wire.KindHello)
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"bbo","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"},{"ch":"trades","sym":"NO-SUCH"}]}`)
	ack := p.expect(wire.KindAck).Ack
	if len(ack.OK) != 1 || len(ack.Errs) != 2 || ack.Errs[0].Code != wire.CodeForbidden || ack.Errs[1].Code != wire.CodeForbidden {
		t.Errorf("%+v", ack)
	}
}

// counted reads ws_auth_total.
func counted(t testing.TB, e *edge, result string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(e.s.checks.Collectors()[0])
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == result {
			return m.GetCounter().GetValue()
		}
	}
	return 0
}

func TestUnavailableKeys(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.JWKS = "required", "http://127.0.0.1:1/jwks" }).market(5)
	resp, _ := e.ask(bearer(testkit.Sign(`{"alg":"EdDSA","kid":"k"}`, `{}`)))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "10" {
		t.Errorf("%v %v", resp.Status, resp.Header)
	}
	if e.s.Ready() == nil {
		t.Error("ready without the keys that tokens are checked by")
	}
	p := e.enter("")
	p.auth(testkit.Sign(`{"alg":"EdDSA","kid":"k"}`, `{}`))
	p.expectError(wire.CodeNotReady)
}

func TestAuthRequired(t *testing.T) {
	_, change := asks(t, "required", "")
	e := startEdge(t, change).market(5)
	p := e.enter("")
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"bbo","sym":"BTC-USDT"}]}`)
	p.expectError(wire.CodeAuthRequired)
	p.send(`{"op":"flow","id":2,"window":65536}`)
	p.expectError(wire.CodeAuthRequired)
	p.send(`{"op":"ping","id":3}`)
	p.expect(wire.KindPong)
	p.send(`{"op":"list","id":4}`)
	if p.expect(wire.KindAck); len(p.msg.Ack.OK) != 0 {
		t.Errorf("%s", p.text)
	}
	p.auth("nonsense")
	p.expectError(wire.CodeAuthFailed)
	p.auth(testkit.Token("alice", -time.Hour, ""))
	p.expectError(wire.CodeAuthExpired)
	p.auth(testkit.Token("alice", time.Hour, ""))
	p.expect(wire.KindAck)
	p.auth(testkit.Token("bob", time.Hour, ""))
	p.expectError(wire.CodeAuthFailed)
	p.send(`{"op":"sub","id":5,"topics":[{"ch":"bbo","sym":"BTC-USDT"}]}`)
	if p.expect(wire.KindAck); len(p.msg.Ack.OK) != 1 {
		t.Errorf("%s", p.text)
	}
}

// TestNarrowerToken shows a token that covers less: what it leaves out ends, and sends nothing any more.
func TestNarrowerToken(t *testing.T) {
	_, change := asks(t, "optional", "anonymous: {channels: [ticker]}")
	e := startEdge(t, change).market(30)
	e.another(2, "ETH-USDT")
	p := e.enter("")
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT"}]}`)
	if p.expect(wire.KindAck); len(p.msg.Ack.Errs) != 1 || p.msg.Ack.Errs[0].Code != wire.CodeForbidden {
		t.Errorf("anonymous: %s", p.text)
	}
	p.auth(testkit.Token("alice", time.Hour, ""))
	p.expect(wire.KindAck)
	p.send(`{"op":"sub","id":2,"topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"},{"ch":"bbo","sym":"*"},{"ch":"status","sym":"ETH-USDT"},{"ch":"status","sym":"BTC-USDT"}]}`)
	if p.expect(wire.KindAck); len(p.msg.Ack.OK) != 5 || p.msg.Ack.OK[2].N != 2 {
		t.Errorf("%s", p.text)
	}
	p.auth(testkit.Token("alice", time.Hour, `{"symbols":["BTC-*"],"depth":50,"topics":1}`))
	p.skipTo(wire.KindAck)
	var ended []string
	for range 4 {
		if k := p.event(); k != wire.KindUnsub {
			t.Fatalf("message kind %d %s", k, p.text)
		}
		u := p.msg.Unsub
		ended = append(ended, fmt.Sprint(u.Channel, " ", u.Sym, " ", u.Why))
	}
	want := "[book BTC-USDT forbidden bbo * forbidden status ETH-USDT forbidden status BTC-USDT too_many_topics]"
	if fmt.Sprint(ended) != want {
		t.Errorf("ended %v, want %s", ended, want)
	}
	e.update(100_000, 7)
	e.trade()
	if k := p.event(); k != wire.KindTrade {
		t.Errorf("after the end: message kind %d %s", k, p.text)
	}
	p.send(`{"op":"unsub","id":3,"topics":[{"ch":"trades","sym":"BTC-USDT"}]}`)
	p.skipTo(wire.KindAck)
	p.send(`{"op":"sub","id":4,"topics":[{"ch":"bbo","sym":"*"}]}`)
	if p.skipTo(wire.KindAck); len(p.msg.Ack.OK) != 1 || p.msg.Ack.OK[0].N != 1 {
		t.Errorf("%s", p.text)
	}
}

// TestForbiddenWhileBlocked takes a topic away while its messages wait for a client that handles nothing.
func TestForbiddenWhileBlocked(t *testing.T) {
	_, change := asks(t, "required", "")
	e := startEdge(t, change).market(30)
	p := e.enter(bearer(testkit.Token("alice", time.Hour, "")))
	p.send(`{"op":"flow","id":1,"window":4096}`)
	p.expect(wire.KindAck)
	handled := 0
	read := func() wire.Kind { // everything counts, heartbeats too
		t.Helper()
		for {
			op, b, err := p.frame()
			if err != nil {
				t.Fatal(err)
			}
			if op == opPing {
				p.write(masked(0x80|opPong, b))
				continue
			}
			handled += len(b)
			if err := wire.DecodeJSON(b, func([]byte) *market.Instrument { return &btc }, &p.msg); err != nil {
				t.Fatal(err)
			}
			return p.msg.Kind
		}
	}
	p.send(`{"op":"sub","id":2,"mode":"lossless","topics":[{"ch":"book","sym":"BTC-USDT"},{"ch":"trades","sym":"BTC-USDT"}]}`)
	for read() != wire.KindAck {
	}
	for i := range 200 {
		e.update(100_000, market.Size(i+1))
		e.trade()
	}
	p.auth(testkit.Token("alice", time.Hour, `{"channels":["trades"]}`))
	for read() != wire.KindUnsub {
	}
	for trades, acked := uint64(0), 0; trades < 200; {
		if handled-acked >= 2048 {
			acked = handled
			p.send(fmt.Sprintf(`{"op":"ack","bytes":%d}`, acked))
		}
		switch read() {
		case wire.KindTrade:
			trades = p.msg.Trade.Seq
		case wire.KindDelta, wire.KindSnapshot:
			t.Fatal("a book was sent behind its end")
		}
	}
}

// TestWildcardGrows has instruments come, and a wider token.
func TestWildcardGrows(t *testing.T) {
	_, change := asks(t, "required", "")
	e := startEdge(t, change).market(5)
	p := e.enter(bearer(testkit.Token("alice", time.Hour, `{"symbols":["BTC-*"]}`)))
	n := func(want int) {
		t.Helper()
		p.send(`{"op":"list","id":9}`)
		p.skipTo(wire.KindAck)
		if len(p.msg.Ack.OK) != 1 || int(p.msg.Ack.OK[0].N) != want {
			t.Errorf("%s, want n %d", p.text, want)
		}
	}
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"ticker","sym":"*"}]}`)
	p.skipTo(wire.KindAck)
	n(1)
	e.another(2, "ETH-USDT")
	e.another(3, "BTC-EUR")
	n(2)
	p.auth(testkit.Token("alice", time.Hour, `{"symbols":["BTC-*","ETH-*"]}`))
	p.skipTo(wire.KindAck)
	n(3)
	e.another(4, "ETH-EUR")
	e.another(5, "SOL-EUR")
	n(4)
}

func TestSubjectLimits(t *testing.T) {
	_, change := asks(t, "required", "")
	e := startEdge(t, change).market(5)
	two := testkit.Token("alice", time.Hour, `{"conns":2,"ops":2}`)
	first, _ := e.enter(bearer(two)), e.enter(bearer(two))
	if resp, _ := e.ask(bearer(two)); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third connection: %v", resp.Status)
	}
	e.enter(bearer(testkit.Token("bob", time.Hour, `{"conns":2}`)))
	late := e.enter("")
	late.auth(two)
	if code := late.closed(); code != wire.CloseConnectionLimit {
		t.Errorf("a third connection by auth: closed by %d", code)
	}
	limited := 0
	for range 12 {
		first.send(`{"op":"ping","id":1}`)
		if first.next() == wire.KindError && first.msg.Error.Code == wire.CodeRate {
			limited++
		}
	}
	if limited < 1 || limited > 4 { // 2 per second, four times that at once
		t.Errorf("%d of 12 requests were refused", limited)
	}
	first.write(masked(0x88, nil))
	first.closed()
	wait(t, "the subject's place is free", func() bool {
		resp, p := e.ask(bearer(two))
		if resp.StatusCode != 101 {
			return false
		}
		m := p.expect(wire.KindHello)
		return m.Hello.Limits.Ops == 2
	})
	e.end()
	if n := e.s.access.Subjects(); n != 0 {
		t.Errorf("%d subjects when all have gone", n)
	}
}

func TestIntroduceYourself(t *testing.T) {
	_, change := asks(t, "required", "")
	inTimeWith(t, change, func(t *testing.T, _ *edge, ln *memory) {
		p := ln.dial(t)
		p.upgrade("")
		p.expect(wire.KindHello)
		begin := time.Now()
		if code := p.closed(); code != closePolicy {
			t.Errorf("closed by %d", code)
		}
		if d := time.Since(begin); d < 9*time.Second || d > 12*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// TestExpiry has a token of a hundred seconds renewed once.
func TestExpiry(t *testing.T) {
	_, change := asks(t, "required", "")
	inTimeWith(t, change, func(t *testing.T, e *edge, ln *memory) {
		p := ln.dial(t)
		p.write([]byte(upgradeRequest("/v1/ws", bearer(testkit.Token("alice", 95*time.Second, "")))))
		p.answer()
		p.expect(wire.KindHello)
		begin := time.Now()
		after := func(want time.Duration) {
			t.Helper()
			if d := time.Since(begin); d < want-time.Second || d > want+2*time.Second {
				t.Errorf("after %v, want %v", d, want)
			}
		}
		p.send(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"BTC-USDT"}]}`)
		p.expect(wire.KindAck)
		warned := func() { // besides what the topic says of itself
			for p.next() != wire.KindAuth {
				if p.msg.Kind != wire.KindTopicStatus {
					t.Fatalf("%s", p.text)
				}
			}
		}
		warned()
		after(80 * time.Second)
		if m := &p.msg.Auth; m.Why != wire.WhyExpiring || m.Expires != market.FromTime(begin.Add(100*time.Second)) {
			t.Errorf("%+v", m)
		}
		p.auth(testkit.Token("alice", 995*time.Second, ""))
		p.skipTo(wire.KindAck)
		begin = time.Now()
		warned()
		after(940 * time.Second)
		op, b := byte(0), []byte(nil)
		for op != opClose {
			var err error
			if op, b, err = p.frame(); err != nil {
				t.Fatal(err)
			}
			if op == opPing {
				p.write(masked(0x80|opPong, b))
			}
		}
		if code := int(b[0])<<8 | int(b[1]); code != wire.CloseAuthExpired {
			t.Errorf("closed by %d", code)
		}
		after(1000 * time.Second)
		_, _ = p.conn.Write(masked(0x80|opClose, b)) // fails when the edge was quicker: a pipe has no half to close
	})
}

// TestRevocation changes the key file under connections that live.
func TestRevocation(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{})
	other, otherEntry := testkit.NewKey(t, "desk-2", auth.Scope{})
	path, change := asks(t, "required", "keys:\n"+entry+otherEntry)
	inTimeWith(t, change, func(t *testing.T, _ *edge, ln *memory) {
		enter := func(key string) *peer {
			p := ln.dial(t)
			p.write([]byte(upgradeRequest("/v1/ws", bearer(key))))
			p.answer()
			p.expect(wire.KindHello)
			p.send(`{"op":"sub","id":1,"topics":[{"ch":"status","sym":"BTC-USDT"}]}`)
			p.expect(wire.KindAck)
			p.skipTo(wire.KindStatus)
			return p
		}
		gone, narrowed := enter(key), enter(other)
		if err := os.WriteFile(path, []byte("keys:\n"+otherEntry+"    channels: [bbo]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		done := make(chan wire.Unsub, 1)
		go func() { done <- narrowed.skipTo(wire.KindUnsub).Unsub }()
		if code := gone.closed(); code != closePolicy {
			t.Errorf("closed by %d", code)
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("after %v", d)
		}
		if u := <-done; u.Channel != market.Statuses || u.Why != "forbidden" {
			t.Errorf("%+v", u)
		}
		narrowed.send(`{"op":"ping","id":1}`)
		narrowed.skipTo(wire.KindPong)
		_ = narrowed.conn.Close()
		synctest.Wait()
	})
}

// TestClientRenews has the Go client stay connected for an hour on tokens of a hundred seconds.
func TestClientRenews(t *testing.T) {
	_, change := asks(t, "required", "")
	inTimeWith(t, change, func(t *testing.T, e *edge, ln *memory) {
		tokens := 0
		c, err := client.Dial(t.Context(), client.Config{
			URL: "ws://edge", Window: -1,
			Token: func(context.Context) (string, error) {
				tokens++
				return testkit.Token("alice", 95*time.Second, ""), nil
			},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				server, conn := net.Pipe()
				ln.conns <- server
				return conn, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Trades("BTC-USDT", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := c.Stats().Reconnects; n != 0 {
			t.Errorf("%d reconnects", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if tokens < 40 || tokens > 50 { // one each 80 seconds
			t.Errorf("%d tokens in an hour", tokens)
		}
	})
}

// TestGuessing tries one bad token after the other.
func TestGuessing(t *testing.T) {
	_, change := asks(t, "required", "")
	e := startEdge(t, func(c *Config) { change(c); c.OpsBurst = 1000 }).market(5)
	p := e.enter("")
	for range 110 {
		p.auth("tw_abcdefgh_" + strings.Repeat("a", 52))
	}
	if code := p.closed(); code != closePolicy {
		t.Errorf("closed by %d", code)
	}
}

// TestSlowIssuer has many clients wait for a signing key, and another one that does not have to wait for them.
func TestSlowIssuer(t *testing.T) {
	over := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	defer issuer.Close()
	defer close(over)
	e := startEdge(t, func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.JWKS = "optional", issuer.URL }).market(5)
	const waiting = 100
	var peers []*peer
	for range waiting {
		peers = append(peers, e.enter(""))
	}
	p := e.enter("")
	for _, w := range peers {
		w.auth(testkit.Sign(`{"alg":"EdDSA","kid":"k"}`, `{}`))
	}
	begin := time.Now()
	p.send(`{"op":"ping","id":1}`)
	p.expect(wire.KindPong)
	if d := time.Since(begin); d > 2*time.Second { // 100 half seconds on a few workers would be more
		t.Errorf("answered after %v", d)
	}
	for _, w := range peers {
		w.expectError(wire.CodeNotReady)
	}
}

// TestTokensStaySecret looks for tokens in everything that an edge says and logs about them.
func TestTokensStaySecret(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{})
	_, change := asks(t, "required", "keys:\n"+entry)
	core, logs := observer.New(zap.DebugLevel)
	e := newEdgeWith(t, zap.New(core), change).start().market(5)
	secrets := []string{key[12:]}
	said := ""
	for _, tok := range []string{
		key, key[:len(key)-1] + "!", testkit.Token("alice", -time.Hour, ""), testkit.Token("alice", time.Hour, `{"x":1}`), testkit.Sign("{", "{"), "secretnonsense",
	} {
		secrets = append(secrets, strings.Split(tok, ".")...)
		for _, headers := range []string{bearer(tok), "Authorization Bearer " + tok + "\r\n", "Sec-WebSocket-Protocol: bearer." + tok + "\r\n"} {
			p := e.dial()
			p.write([]byte(upgradeRequest("/v1/ws", headers)))
			resp, err := http.ReadResponse(p.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			said += fmt.Sprint(resp.Header)
			if resp.StatusCode != 101 {
				b := make([]byte, 1<<10)
				n, _ := resp.Body.Read(b)
				said += string(b[:n])
				_ = resp.Body.Close()
			}
		}
		p := e.enter("")
		p.auth(tok)
		p.next()
		said += string(p.text)
	}
	e.end()
	for _, l := range logs.All() {
		b, err := json.Marshal(l.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		said += l.Message + string(b)
	}
	for _, s := range secrets {
		if len(s) > 6 && strings.Contains(said, s) {
			t.Errorf("%q is told in %s", s, said)
		}
	}
}

func TestAuthFlags(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		_, err := New(cfg, Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
		if err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%v, want an error of %s", err, want)
		}
	}
	f("--auth", func(c *Config) { c.Edge.Auth.Mode = "perhaps" })
	f("--auth", func(c *Config) { c.Edge.Auth.Mode = "required" })
	f("--auth", func(c *Config) { c.Edge.Auth.KeysFile = "keys.yaml" })
	f("--auth-jwks", func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.JWKS = "required", "http://issuer.example/" })
	f("--auth-hs256-file", func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.HS256File = "required", "/no/such/file" })
	f("--auth-keys", func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.KeysFile = "required", "/no/such/file" })
	f("--auth-issuer", func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.KeysFile, c.Edge.Auth.Issuer = "required", "k", "i" })
	f("--auth-audience", func(c *Config) { c.Edge.Auth.Mode, c.Edge.Auth.KeysFile, c.Edge.Auth.Audience = "required", "k", "a" })
}
