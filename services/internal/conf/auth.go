package conf

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/pkg/auth"
)

// Auth says which clients a service takes.
type Auth struct {
	Mode      string // none, optional or required
	JWKS      string // file or URL
	HS256File string
	Issuer    string
	Audience  string
	KeysFile  string
}

// DefaultAuth asks nobody for a token.
func DefaultAuth() Auth { return Auth{Mode: auth.None.String()} }

// RegisterFlags defines the --auth… flags.
func (c *Auth) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Mode, "auth", c.Mode, "whether clients must show a token: `none|optional|required`")
	fs.StringVar(&c.JWKS, "auth-jwks", c.JWKS, "`FILE|URL` of the JWKS whose keys sign JWTs by EdDSA, ES256 or RS256; followed while it changes")
	fs.StringVar(&c.HS256File, "auth-hs256-file", c.HS256File, "`FILE` with the secret that signs JWTs by HS256, at least 32 bytes")
	fs.StringVar(&c.Issuer, "auth-issuer", c.Issuer, "`NAME` that JWTs must have as iss (default: any)")
	fs.StringVar(&c.Audience, "auth-audience", c.Audience, "`NAME` that JWTs must have in aud (default: any)")
	fs.StringVar(&c.KeysFile, "auth-keys", c.KeysFile, "YAML `FILE` with the hashes of API keys, as tickwire key new prints them; followed while it changes")
}

// Validate says which flag is wrong.
func (c *Auth) Validate() error {
	cfg, err := c.config(nil)
	if err == nil {
		err = cfg.Validate()
	}
	return authFlag(err)
}

// Open reads the files. Report is told of the sources that can't be read later on, and with nil when they can be again.
func (c *Auth) Open(report func(source string, err error)) (*auth.Authority, error) {
	cfg, err := c.config(report)
	if err != nil {
		return nil, authFlag(err)
	}
	a, err := auth.New(cfg)
	return a, authFlag(err)
}

func (c *Auth) config(report func(string, error)) (auth.Config, error) {
	cfg := auth.Config{
		JWKS: c.JWKS, HS256File: c.HS256File, Issuer: c.Issuer, Audience: c.Audience, KeysFile: c.KeysFile, Report: report,
	}
	if c.Mode == "" {
		return cfg, nil
	}
	var err error
	if cfg.Mode, err = auth.ParseMode(c.Mode); err != nil {
		return cfg, &auth.FieldError{Field: "Mode", Err: err}
	}
	return cfg, nil
}

var authFlags = map[string]string{
	"Mode": "--auth", "JWKS": "--auth-jwks", "HS256File": "--auth-hs256-file",
	"Issuer": "--auth-issuer", "Audience": "--auth-audience", "KeysFile": "--auth-keys",
}

// authFlag names the flag instead of the field.
func authFlag(err error) error {
	var field *auth.FieldError
	if errors.As(err, &field) {
		return fmt.Errorf("%s: %w", authFlags[field.Field], field.Err)
	}
	return err
}
