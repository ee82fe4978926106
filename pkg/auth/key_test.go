package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
)

// newKey returns a key and its entry in a file's list.
func newKey(t testing.TB, subject string, expires time.Time, scope auth.Scope) (key, entry string) {
	t.Helper()
	key, e, err := auth.NewKey(subject, expires, scope)
	if err != nil {
		t.Fatal(err)
	}
	if entry, err = e.YAML(); err != nil {
		t.Fatal(err)
	}
	return key, entry
}

func TestKeys(t *testing.T) {
	key, entry := newKey(t, "desk-1", time.Time{}, auth.Scope{Channels: []string{"bbo"}, Symbols: []string{"BTC-*"}, Ops: 5})
	old, oldEntry := newKey(t, "desk-2", time.Now().Add(-time.Minute), auth.Scope{})
	if !regexp.MustCompile(`^tw_[a-z2-7]{8}_[a-z2-7]{52}$`).MatchString(key) {
		t.Errorf("a key looks like %q", key)
	}
	secret := key[len("tw_12345678_"):]
	if strings.Contains(entry, secret) {
		t.Errorf("the entry has the key in it:\n%s", entry)
	}
	a := newAuthority(t, auth.Config{Mode: auth.Optional, KeysFile: write(t, "keys.yaml",
		"anonymous:\n  channels: [ticker]\nkeys:\n"+entry+oldEntry)})
	g, err := a.Verify(t.Context(), key)
	if err != nil || g.Subject != "desk-1" || g.Ops != 5 || g.Key() != key[3:11] {
		t.Fatalf("%+v %v", g, err)
	}
	if g.Allows(market.BBOs, "BTC-USDT", market.View{}) != auth.Granted || g.Allows(market.BBOs, "ETH-USDT", market.View{}) == auth.Granted {
		t.Error("another scope than that of the entry")
	}
	f := func(key string, want error) {
		t.Helper()
		if _, err := a.Verify(t.Context(), key); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f(old, auth.ErrExpired)
	f(key[:len(key)-1]+"!", auth.ErrUnknown)
	f(key[:len(key)-2], auth.ErrMalformed)
	f("tw_", auth.ErrMalformed)
	f("tw_zzzzzzzz_"+secret, auth.ErrUnknown)
	f("eyJhbGciOiJub25lIn0.e30.", auth.ErrMalformed)
	if g := a.Anonymous(); g.Allows(market.Tickers, "X", market.View{}) != auth.Granted || g.Allows(market.BBOs, "X", market.View{}) == auth.Granted {
		t.Errorf("anonymous: %+v", g)
	}
	if g := newAuthority(t, auth.Config{}).Anonymous(); g.Allows(market.Books, "X", market.View{}) != auth.Granted {
		t.Error("without tokens, not everything is open")
	}
	if g := newAuthority(t, auth.Config{Mode: auth.Required, KeysFile: write(t, "k", "keys:\n"+entry)}).Anonymous(); g != nil {
		t.Error("a token is required, and nobody has a grant")
	}
}

func TestKeyFileIsStrict(t *testing.T) {
	_, entry := newKey(t, "desk-1", time.Time{}, auth.Scope{})
	f := func(text, want string) {
		t.Helper()
		_, err := auth.New(auth.Config{Mode: auth.Optional, KeysFile: write(t, "keys.yaml", text)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	f("", "")
	f("keys:\n"+entry, "")
	f("keys:\n"+entry+"    channels: [book]\n", "")
	f("keys:\n"+entry+entry, "keys[1].id: given twice")
	f("keys:\n"+entry+"    chanels: [book]\n", "chanels")
	f("keys:\n"+entry+"    depth: 10\n    depth: 25\n", "already defined")
	f("keys:\n"+entry+"    depth: 11\n", "keys[0].depth")
	f("keys:\n"+entry+"    channels: []\n", "keys[0].channels")
	f("keys:\n"+entry+"    symbols: ['']\n", "keys[0].symbols[0]")
	f("keys:\n"+entry+"    ops: .nan\n", "keys[0].ops")
	f("keys:\n"+entry+"    conns: -1\n", "keys[0].conns")
	f("keys:\n"+strings.Replace(entry, "desk-1", "''", 1), "keys[0].subject")
	for _, hash := range []string{"", "f", "ff", strings.Repeat("f", 63), strings.Repeat("f", 65), strings.Repeat("f", 66), strings.Repeat("f", 1000), strings.Repeat("g", 64)} {
		f("keys:\n"+regexp.MustCompile(`sha256: .*`).ReplaceAllString(entry, "sha256: '"+hash+"'"), "keys[0].sha256")
	}
	f("keys:\n"+regexp.MustCompile(`id: .*`).ReplaceAllString(entry, "id: x"), "keys[0].id")
	f("anonymous: {conns: 1}", "anonymous.conns")
	f("anonymous: {depth: 1}", "anonymous.depth")
	f("keys:\n"+entry+"---\nkeys: []\n", "more than one document")
}

// TestKeyFileReloads changes the file under an authority that runs.
func TestKeyFileReloads(t *testing.T) {
	key, entry := newKey(t, "desk-1", time.Time{}, auth.Scope{})
	second, secondEntry := newKey(t, "desk-2", time.Time{}, auth.Scope{})
	path := write(t, "keys.yaml", "keys:\n"+entry)
	change := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		reports := make(chan error, 10)
		a := newAuthority(t, auth.Config{Mode: auth.Optional, KeysFile: path, Report: func(_ string, err error) { reports <- err }})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		after := func() { time.Sleep(10 * time.Second); synctest.Wait() }
		first, err := a.Verify(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		generation := a.Generation()
		after()
		if a.Generation() != generation {
			t.Error("nothing changed, and the generation did")
		}

		change("keys:\n" + entry + "    channels: [bbo]\n" + secondEntry)
		after()
		narrowed, err := a.Renew(first)
		if err != nil || narrowed.Allows(market.Trades, "X", market.View{}) == auth.Granted || a.Generation() == generation {
			t.Errorf("%+v %v", narrowed, err)
		}
		other, err := a.Verify(ctx, second)
		if err != nil {
			t.Error(err)
		}

		change("keys: [")
		after()
		if _, err := a.Verify(ctx, key); err != nil {
			t.Errorf("a bad file was taken: %v", err)
		}
		if len(reports) != 1 || <-reports == nil {
			t.Error("a bad file was not reported once")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		after()

		change("anonymous: {channels: [bbo]}\nkeys:\n" + secondEntry)
		after()
		if len(reports) != 2 || <-reports == nil || <-reports != nil {
			t.Error("not one report that the file is gone and one that it is back")
		}
		if _, err := a.Renew(first); !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("a key that is gone: %v", err)
		}
		if g, err := a.Renew(other); err != nil || g.Subject != "desk-2" {
			t.Errorf("a key that stayed: %+v %v", g, err)
		}
		if g, err := a.Renew(auth.Unrestricted()); err != nil || g.Allows(market.Trades, "X", market.View{}) == auth.Granted {
			t.Errorf("anonymous: %+v %v", g, err)
		}

		_, replaced := newKey(t, "desk-2", time.Time{}, auth.Scope{})
		change("keys:\n" + regexp.MustCompile(`id: .*`).ReplaceAllString(replaced, "id: "+other.Key()))
		after()
		if _, err := a.Renew(other); !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("a key with another hash: %v", err)
		}
		stop()
		running.Wait()
	})
}

func FuzzKeyFile(f *testing.F) {
	_, entry := newKey(f, "desk-1", time.Now(), auth.Scope{Symbols: []string{"BTC-*"}, Depth: 10})
	f.Add("anonymous: {channels: [bbo]}\nkeys:\n" + entry)
	f.Add("a: &a [*a]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := dir + "/keys.yaml"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := auth.New(auth.Config{Mode: auth.Optional, KeysFile: path})
		if err == nil && a.Anonymous() == nil {
			t.Errorf("%q: nobody may have anything, though tokens are optional", text)
		}
	})
}

// TestDocuments reads the examples in the documentation.
func TestDocuments(t *testing.T) {
	example := func(file, pattern string) string {
		b, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(b)
		if found == nil {
			t.Fatalf("%s has no example", file)
		}
		return string(found[1])
	}
	keys := write(t, "keys.yaml", example("OPERATIONS.md", "(?s)```\n(# keys.yaml.*?)```"))
	claims := example("PROTOCOL.md", "```\n(\\{\"sub\".*)\n```")
	synctest.Test(t, func(t *testing.T) { // whose time is before any of the examples expire
		a := newAuthority(t, auth.Config{Mode: auth.Optional, KeysFile: keys, HS256File: write(t, "secret", secret)})
		if a.Anonymous().Allows(market.Books, "BTC-USDT", market.View{}) == auth.Granted {
			t.Error("anonymous may have books")
		}
		var c map[string]any
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Fatal(err)
		}
		if g, err := a.Verify(t.Context(), token(t, "HS256", []byte(secret), c, nil)); err != nil || g.MaxConns != 5 {
			t.Errorf("%+v %v", g, err)
		}
	})
}
