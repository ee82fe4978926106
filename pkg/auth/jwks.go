package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// How a set of signing keys is followed.
const (
	refreshEvery = 5 * time.Minute
	unknownEvery = 10 * time.Second       // a key that is not in the set has it fetched, at most so often
	unknownWait  = 500 * time.Millisecond // and the token waits so long for it
	fetchTimeout = 10 * time.Second
	maxKeySet    = 1 << 20
)

// RetryAfter is how long after ErrUnavailable another attempt makes sense.
const RetryAfter = unknownEvery

// signingKey is a public key. It has one algorithm, which its type decides: a token can't choose another one for it.
type signingKey struct {
	alg    string
	public any
}

// keySet is a JWKS that is followed: a file that is looked at, or a URL that is fetched.
type keySet struct {
	remote bool
	load   func(ctx context.Context) (b []byte, changed bool, err error)
	said   report
	ask    chan struct{} // somebody has a token of an unknown key

	mu      sync.Mutex
	keys    map[string]signingKey // nil before the first success
	began   time.Time             // when the set was last asked for
	busy    bool                  // it is being asked for
	settled chan struct{}         // closed when that is over
}

func newKeySet(cfg *Config) *keySet {
	k := &keySet{remote: cfg.remote(), ask: make(chan struct{}, 1), settled: make(chan struct{}), said: report{to: cfg.Report, source: cfg.JWKS}}
	if k.remote {
		k.load = fetcher(cfg.JWKS)
	} else {
		k.load = (&file{path: cfg.JWKS, limit: maxKeySet}).load
	}
	return k
}

// follow keeps the set current until ctx ends.
func (k *keySet) follow(ctx context.Context) {
	timer := time.NewTimer(0) // the first time at once
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.ask:
		case <-timer.C:
		}
		err := k.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		k.said.say(err)
		switch {
		case !k.remote:
			timer.Reset(pollEvery)
		case err != nil:
			timer.Reset(unknownEvery)
		default:
			timer.Reset(refreshEvery)
		}
	}
}

// refresh reads the set. When that fails the keys stay as they are.
func (k *keySet) refresh(ctx context.Context) error {
	k.mu.Lock()
	k.began, k.busy = time.Now(), true
	k.mu.Unlock()
	b, changed, err := k.load(ctx)
	var keys map[string]signingKey
	if err == nil && changed {
		keys, err = parseKeySet(b)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if keys != nil {
		k.keys = keys
	}
	k.busy = false
	close(k.settled)
	k.settled = make(chan struct{})
	return err
}

// find returns the key of that name. If there is none, it has the set fetched, and waits a moment for that.
func (k *keySet) find(ctx context.Context, kid string) (signingKey, error) {
	k.mu.Lock()
	key, ok := k.keys[kid]
	settled := k.settled
	due := k.busy || time.Since(k.began) >= unknownEvery
	if !ok && k.remote && due && !k.busy {
		k.began, k.busy = time.Now(), true // for those who come next: they wait for the same
		select {
		case k.ask <- struct{}{}:
		default:
		}
	}
	k.mu.Unlock()
	switch {
	case ok:
		return key, nil
	case !k.remote:
		return key, ErrUnknown
	case !due:
		return key, ErrUnavailable
	}
	timer := time.NewTimer(unknownWait)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
		return key, ErrUnavailable
	case <-ctx.Done():
		return key, ErrUnavailable
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch key, ok = k.keys[kid]; {
	case ok:
		return key, nil
	case k.keys == nil:
		return key, ErrUnavailable
	}
	return key, ErrUnknown
}

func (k *keySet) ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		return errors.New("the signing keys have not been read yet")
	}
	return nil
}

// fetcher gets a set by HTTP.
func fetcher(url string) func(ctx context.Context) ([]byte, bool, error) {
	client := &http.Client{
		Timeout:   fetchTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}, // nothing stays open for minutes
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > 3:
				return errors.New("more than 3 redirects")
			case !trusted(r.URL):
				return errors.New("redirected to an address without TLS")
			}
			return nil
		},
	}
	return func(ctx context.Context) ([]byte, bool, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, false, err
		}
		r.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := client.Do(r)
		if err != nil {
			return nil, false, err
		}
		defer func() { _ = resp.Body.Close() }() // it was read, or does not matter any more
		if resp.StatusCode != http.StatusOK {
			return nil, false, fmt.Errorf("status %d", resp.StatusCode)
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
		if err == nil && len(b) > maxKeySet {
			err = fmt.Errorf("more than %d bytes", maxKeySet)
		}
		return b, true, err
	}
}

// jwk is a key as RFC 7517 and RFC 8037 write it. Private parts are not looked at.
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// parseKeySet takes the keys of a set that can check signatures here. Sets also hold keys for other uses and kinds; those
// are passed over, but a set with none for us is an error. Symmetric keys are never taken from a set: sets are public.
func parseKeySet(b []byte) (map[string]signingKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New("not a JWKS: " + err.Error())
	}
	keys := make(map[string]signingKey)
	var first error
	for i := range set.Keys {
		j := &set.Keys[i]
		key, err := j.key()
		if err == nil && keys[j.Kid].public != nil {
			return nil, fmt.Errorf("keys[%d].kid: given twice", i)
		}
		switch {
		case err == nil:
			keys[j.Kid] = key
		case first == nil:
			first = fmt.Errorf("keys[%d].%w", i, err)
		}
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case first != nil:
		return nil, fmt.Errorf("no key can be used; %w", first)
	}
	return nil, errors.New("no keys")
}

func (j *jwk) key() (k signingKey, err error) {
	switch {
	case j.Kid == "":
		return k, errors.New("kid: missing")
	case j.Use != "" && j.Use != "sig":
		return k, errors.New("use: not sig")
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		k.alg = algEdDSA
		k.public, err = j.ed25519()
	case j.Kty == "EC" && j.Crv == "P-256":
		k.alg = algES256
		k.public, err = j.p256()
	case j.Kty == "RSA":
		k.alg = algRS256
		k.public, err = j.rsa()
	default:
		return k, errors.New("kty: not Ed25519, P-256 or RSA")
	}
	if err == nil && j.Alg != "" && j.Alg != k.alg {
		err = errors.New("alg: not " + k.alg)
	}
	return k, err
}

func (j *jwk) ed25519() (ed25519.PublicKey, error) {
	x, err := part(j.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x: not %d bytes in base64url", ed25519.PublicKeySize)
	}
	return x, nil
}

func (j *jwk) p256() (*ecdsa.PublicKey, error) {
	x, err := part(j.X)
	if err != nil || len(x) != 32 {
		return nil, errors.New("x: not 32 bytes in base64url")
	}
	y, err := part(j.Y)
	if err != nil || len(y) != 32 {
		return nil, errors.New("y: not 32 bytes in base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("x: not a point of the curve")
	}
	return key, nil
}

func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := part(j.N)
	if err != nil || len(n) > 1024 {
		return nil, errors.New("n: not in base64url, or too long")
	}
	e, err := part(j.E)
	if err != nil || len(e) == 0 || len(e) > 4 {
		return nil, errors.New("e: not 1 to 4 bytes in base64url")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if key.N.BitLen() < 2048 || key.N.Bit(0) == 0 || key.E < 3 || key.E&1 == 0 || key.E > 1<<31-1 {
		return nil, errors.New("n: shorter than 2048 bits, or not the modulus of a key")
	}
	return key, nil
}

func part(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
