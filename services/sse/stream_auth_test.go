package sse

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/conf"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// TestStreamsNeedTokens opens streams that a token covers and others, on an edge that asks for one.
func TestStreamsNeedTokens(t *testing.T) {
	l := newEvents(t)
	l.beat()
	key, entry := testkit.NewKey(t, "ann", auth.Scope{Symbols: []string{"BTC-*"}})
	secret, keys := testkit.Keys(t, "keys:\n"+entry)
	e := l.edge(func(c *Config) {
		c.Edge.Auth = conf.Auth{Mode: "required", HS256File: secret, KeysFile: keys}
	})
	status := func(path string, want int, headers ...string) {
		t.Helper()
		r := e.open(path, headers...)
		if r.resp.StatusCode != want {
			t.Errorf("%s %v: %s", path, headers, r.resp.Status)
		}
		_ = r.conn.Close()
	}
	const path = "/v1/sse/trades?symbols=BTC-USDT"
	bearer := "Authorization: Bearer " + key
	status(path, http.StatusUnauthorized)
	status(path, http.StatusUnauthorized, "Accept: application/json")
	status(path+",ETH-USDT", http.StatusForbidden, bearer)
	status(path+",ETH-USDT", http.StatusForbidden, bearer, "Accept: application/json")
	status("/v1/sse/ticker/all", http.StatusForbidden, bearer)

	r := e.open(path, bearer)
	r.expect("hello")
	r.expect("snapshot")
	short := e.open(path, "Authorization: Bearer "+testkit.Token("bob", 2*time.Second, `{"conns":1}`))
	short.expect("hello")
	short.expect("snapshot")
	second := e.open(path, "Authorization: Bearer "+testkit.Token("bob", time.Minute, `{"conns":1}`))
	if m := second.expect("goodbye"); m.field(t, "why") != "overload" {
		t.Errorf("a second connection of one that may have one: %+v", m)
	}
	if m := short.expect("goodbye"); m.field(t, "why") != "expired" || short.next() != (message{}) {
		t.Errorf("%+v", m)
	}
	if err := os.WriteFile(keys, []byte("keys: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := r.expect("goodbye"); m.field(t, "why") != "expired" {
		t.Errorf("%+v", m)
	}
}
