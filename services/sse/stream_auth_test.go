package sse

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/conf"
)

// TestStreamsNeedTokens opens streams that a token covers and others, on an edge that asks for one.
func TestStreamsNeedTokens(t *testing.T) {
	l := newEvents(t)
	l.beat()
	dir := t.TempDir()
	secret, keys := filepath.Join(dir, "secret"), filepath.Join(dir, "keys.yaml")
	key, entry := newKey(t, "ann", auth.Scope{Symbols: []string{"BTC-*"}})
	for file, text := range map[string]string{secret: hsSecret, keys: "keys:\n" + entry} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
	short := e.open(path, "Authorization: Bearer "+token("bob", 2*time.Second, `{"conns":1}`))
	short.expect("hello")
	short.expect("snapshot")
	second := e.open(path, "Authorization: Bearer "+token("bob", time.Minute, `{"conns":1}`))
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
