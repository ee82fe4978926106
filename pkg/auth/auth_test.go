package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/market"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "0123456789abcdef0123456789abcdef"

var signers = sync.OnceValue(func() map[string]crypto.Signer {
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	ec, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"EdDSA": ed, "ES256": ec, "RS256": rs}
})

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is the public part of a signer as a set has it.
func jwk(kid string, s crypto.Signer) map[string]string {
	switch k := s.Public().(type) {
	case ed25519.PublicKey:
		return map[string]string{"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": b64(k)}
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		return map[string]string{"kid": kid, "kty": "EC", "crv": "P-256", "x": b64(b[1:33]), "y": b64(b[33:]), "use": "sig", "alg": "ES256"}
	case *rsa.PublicKey:
		return map[string]string{"kid": kid, "kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	}
	panic("no such key")
}

func set(keys ...map[string]string) string {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func allKeys() string {
	all := []map[string]string{{"kid": "enc", "kty": "RSA", "use": "enc"}, {"kty": "oct", "kid": "oct", "k": b64([]byte(secret))}}
	for alg, s := range signers() {
		all = append(all, jwk(alg, s))
	}
	return set(all...)
}

// token signs claims; change may alter the header first.
func token(t testing.TB, alg string, key any, claims map[string]any, change func(header map[string]any)) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims))
	if alg != "HS256" {
		tok.Header["kid"] = alg
	}
	if change != nil {
		change(tok.Header)
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func good() map[string]any {
	return map[string]any{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iss": "https://issuer", "aud": []string{"other", "tickwire"}}
}

func with(key string, value any) map[string]any {
	c := good()
	if c[key] = value; value == nil {
		delete(c, key)
	}
	return c
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newAuthority(t testing.TB, cfg auth.Config) *auth.Authority {
	t.Helper()
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// full takes every algorithm, from one issuer and for one audience.
func full(t testing.TB) *auth.Authority {
	t.Helper()
	return newAuthority(t, auth.Config{
		Mode: auth.Required, JWKS: write(t, "jwks.json", allKeys()), HS256File: write(t, "secret", secret+"\n"),
		Issuer: "https://issuer", Audience: "tickwire",
	})
}

func TestJWT(t *testing.T) {
	a := full(t)
	for alg, key := range signers() {
		if g, err := a.Verify(t.Context(), token(t, alg, key, good(), nil)); err != nil || g.Subject != "alice" {
			t.Errorf("%s: %v %v", alg, g, err)
		}
	}
	ed := signers()["EdDSA"]
	g, err := a.Verify(t.Context(), token(t, "HS256", []byte(secret), good(), nil))
	if err != nil || g.Allows(market.Books, "X", market.View{}) != auth.Granted {
		t.Errorf("HS256: %v %v", g, err)
	}
	f := func(what, tok string, want error) {
		t.Helper()
		g, err := a.Verify(t.Context(), tok)
		if g != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, %v; want %v", what, g, err, want)
		}
		if err == nil {
			return
		}
		for part := range strings.SplitSeq(tok, ".") {
			if len(part) > 3 && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error quotes the token: %v", what, err)
			}
		}
	}
	sign := func(claims map[string]any) string { return token(t, "EdDSA", ed, claims, nil) }
	header := func(change func(map[string]any)) string { return token(t, "EdDSA", ed, good(), change) }
	forged := sign(good())
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	f("nothing", "", auth.ErrMalformed)
	f("noise", "secret-noise", auth.ErrMalformed)
	f("half a token", forged[:len(forged)/2], auth.ErrMalformed)
	f("four parts", forged+".x", auth.ErrMalformed)
	f("too long", strings.Repeat("a", auth.MaxToken+1), auth.ErrMalformed)
	f("a changed signature", forged[:len(forged)-8]+"AAAAAAAA", auth.ErrSignature)
	f("another's signature", token(t, "EdDSA", other, good(), nil), auth.ErrSignature)
	f("changed claims", strings.Replace(forged, ".e", ".f", 1), auth.ErrMalformed)
	swapped := strings.Split(sign(good()), ".")
	swapped[1] = strings.Split(sign(with("sub", "mallory")), ".")[1]
	f("another's claims", strings.Join(swapped, "."), auth.ErrSignature)
	f("alg none", token(t, "none", jwt.UnsafeAllowNoneSignatureType, good(), nil), auth.ErrSignature)
	f("alg none, signed", header(func(h map[string]any) { h["alg"] = "none" }), auth.ErrSignature)
	f("an unknown alg", header(func(h map[string]any) { h["alg"] = "XX" }), auth.ErrAlgorithm)
	f("no alg", header(func(h map[string]any) { delete(h, "alg") }), auth.ErrAlgorithm)
	f("alg of another key type", header(func(h map[string]any) { h["alg"] = "RS256" }), auth.ErrAlgorithm)
	f("kid of another key type", header(func(h map[string]any) { h["kid"] = "RS256" }), auth.ErrAlgorithm)
	f("HS256 by the public key", token(t, "HS256", []byte(ed.Public().(ed25519.PublicKey)), good(), func(h map[string]any) { h["kid"] = "EdDSA" }), auth.ErrSignature)
	f("HS512", token(t, "HS512", []byte(secret), good(), nil), auth.ErrSignature)
	f("kid of a symmetric key in the set", header(func(h map[string]any) { h["kid"] = "oct" }), auth.ErrUnknown)
	f("no kid", header(func(h map[string]any) { delete(h, "kid") }), auth.ErrNoKeyID)
	f("a number for a kid", header(func(h map[string]any) { h["kid"] = 7 }), auth.ErrNoKeyID)
	f("an unknown kid", header(func(h map[string]any) { h["kid"] = "nobody-has-it" }), auth.ErrUnknown)
	f("crit", header(func(h map[string]any) { h["crit"] = []string{"exp"} }), auth.ErrMalformed)
	f("expired", sign(with("exp", time.Now().Add(-10*time.Second).Unix())), auth.ErrExpired)
	f("without exp", sign(with("exp", nil)), auth.ErrClaims)
	f("exp as text", sign(with("exp", "tomorrow")), auth.ErrMalformed)
	f("exp beyond all time", sign(with("exp", 1e300)), auth.ErrExpired)
	f("not yet valid", sign(with("nbf", time.Now().Add(time.Minute).Unix())), auth.ErrTooEarly)
	f("another issuer", sign(with("iss", "https://mallory")), auth.ErrIssuer)
	f("another audience", sign(with("aud", "other")), auth.ErrAudience)
	f("no subject", sign(with("sub", nil)), auth.ErrClaims)
	f("a subject with a line break", sign(with("sub", "a\nb")), auth.ErrClaims)
	f("an unknown scope", sign(with("tickwire", map[string]any{"colour": "red"})), auth.ErrClaims)
	f("a scope that is a list", sign(with("tickwire", []string{"book"})), auth.ErrClaims)
	f("no channel at all", sign(with("tickwire", map[string]any{"channels": []string{}})), auth.ErrClaims)
	f("an unknown channel", sign(with("tickwire", map[string]any{"channels": []string{"candles"}})), auth.ErrClaims)
	f("a depth that is none", sign(with("tickwire", map[string]any{"depth": 11})), auth.ErrClaims)
	f("an API key", "tw_abcdefgh_"+strings.Repeat("a", 52), auth.ErrUnknown)
}

func TestClockSkew(t *testing.T) {
	a := full(t)
	exp := time.Now().Add(-2 * time.Second).Truncate(time.Second)
	g, err := a.Verify(t.Context(), token(t, "HS256", []byte(secret), with("exp", exp.Unix()), nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := exp.Add(5 * time.Second); !g.Expires.Equal(want) || g.Expired(want.Add(-1)) || !g.Expired(want) {
		t.Errorf("expires %v, want %v", g.Expires, want)
	}
}

func TestScope(t *testing.T) {
	a := full(t)
	scope := map[string]any{
		"channels": []string{"book", "bbo"}, "symbols": []string{"BTC-*", "ETH-USDT", "*-EUR@kraken"},
		"depth": 50, "ms": 100, "topics": 20, "conns": 3, "ops": 2.5,
	}
	g, err := a.Verify(t.Context(), token(t, "HS256", []byte(secret), with("tickwire", scope), nil))
	if err != nil {
		t.Fatal(err)
	}
	if g.MaxTopics != 20 || g.MaxConns != 3 || g.Ops != 2.5 {
		t.Errorf("%+v", g)
	}
	f := func(ch market.Channel, sym string, depth, ms uint16, want auth.Denial) {
		t.Helper()
		if got := g.Allows(ch, sym, market.View{Depth: depth, Millis: ms}); got != want {
			t.Errorf("%v %s %d %d: %v, want %v", ch, sym, depth, ms, got, want)
		}
	}
	f(market.Books, "BTC-USDT", 50, 100, auth.Granted)
	f(market.Books, "BTC-USDT", 10, 1000, auth.Granted)
	f(market.Books, "BTC-USDT", 0, 100, auth.DeniedDepth)
	f(market.Books, "BTC-USDT", 100, 100, auth.DeniedDepth)
	f(market.Books, "BTC-USDT", 50, 0, auth.DeniedMillis)
	f(market.Books, "SOL-USDT", 50, 100, auth.DeniedSymbol)
	f(market.BBOs, "ETH-USDT", 0, 0, auth.Granted)
	f(market.BBOs, "ETH-USDT2", 0, 0, auth.DeniedSymbol)
	f(market.BBOs, "SOL-EUR@kraken", 0, 0, auth.Granted)
	f(market.BBOs, auth.AllSymbols, 0, 0, auth.Granted)
	f(market.Tickers, auth.AllSymbols, 0, 0, auth.DeniedChannel)
	f(market.Trades, "BTC-USDT", 0, 0, auth.DeniedChannel)
	var nobody *auth.Grant
	if nobody.Allows(market.BBOs, "BTC-USDT", market.View{}) != auth.DeniedNobody {
		t.Error("nobody may have something")
	}
	if new(auth.Grant).Allows(market.BBOs, "BTC-USDT", market.View{}) == auth.Granted {
		t.Error("an empty grant grants something")
	}
	if n := testing.AllocsPerRun(100, func() { g.Allows(market.BBOs, "SOL-EUR@kraken", market.View{}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConfig(t *testing.T) {
	f := func(field string, cfg auth.Config) {
		t.Helper()
		_, err := auth.New(cfg)
		var wrong *auth.FieldError
		if field == "" && err == nil {
			return
		}
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%+v: %v, want an error of %q", cfg, err, field)
		}
	}
	secretFile, keys := write(t, "secret", secret), write(t, "jwks", allKeys())
	f("", auth.Config{})
	f("", auth.Config{Mode: auth.Optional, HS256File: secretFile})
	f("", auth.Config{Mode: auth.Required, JWKS: "http://127.0.0.1:1/jwks"}) // fetched later
	f("Mode", auth.Config{Mode: auth.Required})
	f("Mode", auth.Config{JWKS: keys})
	f("Mode", auth.Config{Mode: 9})
	f("Issuer", auth.Config{Mode: auth.Required, KeysFile: "x", Issuer: "i"})
	f("Audience", auth.Config{Mode: auth.Required, KeysFile: "x", Audience: "a"})
	f("HS256File", auth.Config{Mode: auth.Required, HS256File: write(t, "short", "hunter2")})
	f("HS256File", auth.Config{Mode: auth.Required, HS256File: "/no/such/file"})
	f("KeysFile", auth.Config{Mode: auth.Required, KeysFile: write(t, "keys", "keys: 7")})
	f("KeysFile", auth.Config{Mode: auth.Required, KeysFile: write(t, "keys", "anonymous: {}")})
	f("JWKS", auth.Config{Mode: auth.Required, JWKS: "/no/such/file"})
	f("JWKS", auth.Config{Mode: auth.Required, JWKS: write(t, "jwks", "{}")})
	f("JWKS", auth.Config{Mode: auth.Required, JWKS: "http://issuer.example/jwks"})
	f("JWKS", auth.Config{Mode: auth.Required, JWKS: "ftp://issuer.example/jwks"})
	f("JWKS", auth.Config{Mode: auth.Required, JWKS: "https://u:p@issuer.example/jwks"})
}

func TestKeySets(t *testing.T) {
	ed := jwk("a", signers()["EdDSA"])
	but := func(base map[string]string, field, value string) map[string]string {
		c := map[string]string{}
		for k, v := range base {
			c[k] = v
		}
		c[field] = value
		return c
	}
	rs, ec := jwk("r", signers()["RS256"]), jwk("e", signers()["ES256"])
	f := func(text string, ok bool) {
		t.Helper()
		_, err := auth.New(auth.Config{Mode: auth.Required, JWKS: write(t, "jwks", text)})
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	f(set(ed), true)
	f(set(but(ed, "use", "enc"), rs), true)
	f(set(ed, ed), false)
	f(set(but(ed, "kid", "")), false)
	f(set(but(ed, "use", "enc")), false)
	f(set(but(ed, "x", "AAAA")), false)
	f(set(but(ed, "alg", "RS256")), false)
	f(set(but(rs, "alg", "RS512")), false)
	f(set(but(rs, "n", "AQAB")), false)
	f(set(but(rs, "e", "AQ")), false)
	f(set(but(rs, "e", "")), false)
	f(set(but(ec, "crv", "P-384")), false)
	f(set(but(ec, "x", b64(make([]byte, 32)))), false)
	f("[]", false)
	f("", false)
}

// TestRemoteKeys rotates a key behind a URL.
func TestRemoteKeys(t *testing.T) {
	var mu sync.Mutex
	text, status := set(jwk("EdDSA", signers()["EdDSA"])), http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}))
	defer srv.Close()
	a := newAuthority(t, auth.Config{Mode: auth.Required, JWKS: srv.URL})
	if a.Ready() == nil {
		t.Error("ready without keys")
	}
	tok := token(t, "EdDSA", signers()["EdDSA"], good(), nil)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	for a.Ready() != nil {
		time.Sleep(time.Millisecond) // the server is real, and so is time
	}
	if _, err := a.Verify(t.Context(), tok); err != nil {
		t.Error(err)
	}
	stop()
	running.Wait()
}

func FuzzClaims(f *testing.F) {
	a, err := auth.New(auth.Config{Mode: auth.Required, HS256File: write(f, "secret", secret)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"alg":"HS256"}`, `{"sub":"a","exp":4000000000,"tickwire":{"channels":["book"],"symbols":["*"],"depth":10,"ms":100,"topics":1,"conns":1,"ops":1}}`)
	f.Add(`{"alg":"none"}`, `{}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		text := b64([]byte(header)) + "." + b64([]byte(claims))
		sig, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.Verify(t.Context(), text+"."+b64(sig))
		var refused *auth.Refusal
		switch {
		case err == nil && (g.Subject == "" || g.Expires.IsZero() || g.Expired(time.Now())):
			t.Errorf("%s %s: %+v", header, claims, g)
		case err != nil && !errors.As(err, &refused):
			t.Errorf("%v", err)
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	s := auth.Scope{Channels: []string{"book", "bbo"}, Symbols: []string{"BTC-*", "ETH-USDT", "*-EUR@kraken", "S*L-*"}, Depth: 50}
	g, err := s.Grant("alice", time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	for _, sym := range []string{"ETH-USDT", "SOL-USDT", "DOGE-USDT"} {
		b.Run(sym, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Allows(market.Books, sym, market.View{Depth: 10})
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	a := full(b)
	for _, alg := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		key := any(signers()[alg])
		if alg == "HS256" {
			key = []byte(secret)
		}
		tok := token(b, alg, key, good(), nil)
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Verify(b.Context(), tok); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
