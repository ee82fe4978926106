package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Mode says whether clients must show a token.
type Mode uint8

// The modes.
const (
	None     Mode = iota // nobody is asked; a token is not looked at
	Optional             // who shows none is served as the key file's `anonymous` says
	Required             // who shows none is not served
)

var modes = [...]string{"none", "optional", "required"}

// String returns the mode's name.
func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return "unknown"
}

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	for i, name := range modes {
		if s == name {
			return Mode(i), nil
		}
	}
	return None, errors.New("not none, optional or required")
}

// Config says which tokens are good. The zero value asks nobody for one.
type Config struct {
	Mode      Mode
	JWKS      string // file or URL of the keys that sign JWTs by EdDSA, ES256 or RS256; empty for none
	HS256File string // file with the secret that signs JWTs by HS256, at least 32 bytes; empty for none
	Issuer    string // the `iss` that a JWT must have; empty for any
	Audience  string // an `aud` that a JWT must have; empty for any
	KeysFile  string // YAML file with the hashes of API keys; empty for none

	// Report is told when the signing keys or the key file can't be read, and with nil when they are good again. It is called
	// from Run.
	Report func(source string, err error)
}

// FieldError is a Config that can't be used.
type FieldError struct {
	Field string // Mode, JWKS, HS256File, Issuer, Audience or KeysFile
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

func bad(field string, err error) error { return &FieldError{field, err} }

// Validate says what is wrong, by a *FieldError. It reads no files.
func (c *Config) Validate() error {
	sources := c.JWKS != "" || c.HS256File != "" || c.KeysFile != ""
	jwts := c.JWKS != "" || c.HS256File != ""
	switch {
	case c.Mode > Required:
		return bad("Mode", errors.New("not none, optional or required"))
	case c.Mode == None && sources:
		return bad("Mode", errors.New("none, but keys are given: say optional or required"))
	case c.Mode != None && !sources:
		return bad("Mode", errors.New(c.Mode.String()+", but no keys are given"))
	case c.Issuer != "" && !jwts:
		return bad("Issuer", errors.New("there are no keys for JWTs"))
	case c.Audience != "" && !jwts:
		return bad("Audience", errors.New("there are no keys for JWTs"))
	}
	if !c.remote() {
		return nil
	}
	u, err := url.Parse(c.JWKS)
	switch {
	case err != nil:
		return bad("JWKS", errors.New("not a URL"))
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return bad("JWKS", errors.New("neither a file nor an https:// URL"))
	case u.User != nil:
		return bad("JWKS", errors.New("a URL with a password in it: signing keys are public"))
	case !trusted(u):
		return bad("JWKS", errors.New("http:// is for loopback addresses alone: whoever can change the answer can sign tokens"))
	}
	return nil
}

func (c *Config) remote() bool { return strings.Contains(c.JWKS, "://") }

// trusted tells whether what comes from a URL is what its server sent.
func trusted(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// MaxToken is the length of the longest token that is looked at, in bytes.
const MaxToken = 8 << 10

// Authority knows which tokens are good. Its methods may be called from any goroutine.
type Authority struct {
	cfg        Config
	parser     *jwt.Parser
	secret     []byte
	jwks       *keySet // nil when there is none
	file       *file   // of keys; nil when there is none
	keys       atomic.Pointer[keyring]
	open       *Grant // of clients without a token, unless the key file says otherwise
	generation atomic.Uint64
}

// New reads the files. A JWKS behind a URL is fetched by Run. It starts nothing.
func New(cfg Config) (*Authority, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, parser: newParser(&cfg)}
	a.keys.Store(new(keyring))
	if cfg.Mode != Required {
		a.open = Unrestricted()
	}
	if cfg.HS256File != "" {
		if err := a.readSecret(); err != nil {
			return nil, bad("HS256File", err)
		}
	}
	if cfg.KeysFile != "" {
		a.file = &file{path: cfg.KeysFile, limit: maxKeyFile}
		if err := a.readKeys(); err != nil {
			return nil, bad("KeysFile", err)
		}
	}
	if cfg.JWKS != "" {
		a.jwks = newKeySet(&cfg)
		if !a.jwks.remote {
			if err := a.jwks.refresh(context.Background()); err != nil {
				return nil, bad("JWKS", err)
			}
		}
	}
	return a, nil
}

func (a *Authority) readSecret() error {
	b, err := os.ReadFile(a.cfg.HS256File)
	if err != nil {
		return err
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) < minSecret {
		return fmt.Errorf("the secret is shorter than %d bytes", minSecret)
	}
	a.secret = b
	return nil
}

// readKeys takes the key file if it has changed. A bad one changes nothing.
func (a *Authority) readKeys() error {
	b, changed, err := a.file.load(context.Background())
	if err != nil || !changed {
		return err
	}
	k, err := parseKeys(b)
	switch {
	case err != nil:
		a.file.seen = false // so that it is said again what is wrong, until it is right
		return err
	case k.anonymous != nil && a.cfg.Mode != Optional:
		a.file.seen = false
		return errors.New("anonymous: nobody is, unless tokens are optional")
	}
	a.keys.Store(k)
	a.generation.Add(1)
	return nil
}

// Run follows the signing keys and the key file until ctx ends.
func (a *Authority) Run(ctx context.Context) {
	var following sync.WaitGroup
	if a.jwks != nil {
		following.Go(func() { a.jwks.follow(ctx) })
	}
	if a.file != nil {
		following.Go(func() { a.followKeys(ctx) })
	}
	following.Wait()
}

func (a *Authority) followKeys(ctx context.Context) {
	said := report{to: a.cfg.Report, source: a.cfg.KeysFile}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			said.say(a.readKeys())
		}
	}
}

// Mode is the configured one.
func (a *Authority) Mode() Mode { return a.cfg.Mode }

// Ready returns nil once the signing keys are known.
func (a *Authority) Ready() error {
	if a.jwks == nil {
		return nil
	}
	return a.jwks.ready()
}

// Anonymous is what a client without a token may have; nil when that is nothing.
func (a *Authority) Anonymous() *Grant {
	if g := a.keys.Load().anonymous; g != nil {
		return g
	}
	return a.open
}

// Verify returns what a token grants. The error is a *Refusal. It may take half a second, when a token names a signing key
// that is not known yet.
func (a *Authority) Verify(ctx context.Context, token string) (*Grant, error) {
	switch {
	case token == "" || len(token) > MaxToken:
		return nil, ErrMalformed
	case isKey(token):
		return a.keys.Load().find(token, time.Now())
	case a.jwks == nil && a.secret == nil:
		return nil, ErrMalformed // only keys are known here
	}
	return a.verifyJWT(ctx, token)
}

// Generation grows whenever the key file has changed. Holders of grants then ask Renew.
func (a *Authority) Generation() uint64 { return a.generation.Load() }

// Renew returns what stands in the place of a grant now: a key's scope may have changed, or the key is gone, which is
// ErrRevoked. A JWT's grant stays as it was signed, until it expires.
func (a *Authority) Renew(g *Grant) (*Grant, error) {
	switch {
	case g.Anonymous():
		return a.Anonymous(), nil
	case g.key == "":
		return g, nil
	}
	now := a.keys.Load().keys[g.key]
	if now == nil || now.hash != g.hash || now.Subject != g.Subject {
		return nil, ErrRevoked
	}
	return now, nil
}
