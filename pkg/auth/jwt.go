package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms. No others are ever taken: none is none, and more would only be more to get wrong.
const (
	algEdDSA = "EdDSA"
	algES256 = "ES256"
	algRS256 = "RS256"
	algHS256 = "HS256"
)

// clockSkew is how far the issuer's clock may be from ours: a token is taken so much before and after its time.
const clockSkew = 5 * time.Second

// minSecret is the least length of the secret of HS256, in bytes: that of its hash (RFC 7518, 3.2).
const minSecret = 32

// claims are what a JWT says, as far as it is of interest here.
type claims struct {
	jwt.RegisteredClaims
	Scope json.RawMessage `json:"tickwire"`
}

func newParser(cfg *Config) *jwt.Parser {
	var methods []string
	if cfg.JWKS != "" {
		methods = append(methods, algEdDSA, algES256, algRS256)
	}
	if cfg.HS256File != "" {
		methods = append(methods, algHS256)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	return jwt.NewParser(options...)
}

// verifyJWT checks a JWT and returns what it grants.
func (a *Authority) verifyJWT(ctx context.Context, token string) (*Grant, error) {
	var c claims
	_, err := a.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return a.verifier(ctx, t) })
	if err != nil {
		return nil, refusal(err)
	}
	if checkSubject(c.Subject) != nil {
		return nil, ErrClaims
	}
	scope, err := parseScope(c.Scope)
	if err != nil {
		return nil, ErrClaims
	}
	g, err := scope.Grant(c.Subject, c.ExpiresAt.Add(clockSkew))
	if err != nil {
		return nil, ErrClaims
	}
	return g, nil
}

// verifier returns the key that must have signed a token whose algorithm is one of ours.
func (a *Authority) verifier(ctx context.Context, t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, ErrMalformed // it must be refused by whoever does not know what it names (RFC 7515, 4.1.11)
	}
	alg := t.Method.Alg()
	if alg == algHS256 {
		return a.secret, nil
	}
	kid, _ := t.Header["kid"].(string)
	if kid == "" {
		return nil, ErrNoKeyID
	}
	key, err := a.jwks.find(ctx, kid)
	switch {
	case err != nil:
		return nil, err
	case key.alg != alg:
		return nil, ErrAlgorithm
	}
	return key.public, nil
}

// parseScope reads the claim strictly: what is not understood may have been meant as a limit.
func parseScope(b json.RawMessage) (*Scope, error) {
	s := new(Scope)
	if len(b) == 0 {
		return s, nil
	}
	if b[0] != '{' {
		return nil, errors.New("not an object")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return s, nil
}

// refusal turns the library's error, which may quote the token, into one of ours.
func refusal(err error) *Refusal {
	var own *Refusal
	if errors.As(err, &own) {
		return own
	}
	for _, known := range []struct {
		is error
		as *Refusal
	}{
		{jwt.ErrTokenMalformed, ErrMalformed},
		{jwt.ErrTokenUnverifiable, ErrAlgorithm}, // an algorithm that the library does not know
		{jwt.ErrTokenSignatureInvalid, ErrSignature},
		{jwt.ErrTokenExpired, ErrExpired},
		{jwt.ErrTokenNotValidYet, ErrTooEarly},
		{jwt.ErrTokenInvalidIssuer, ErrIssuer},
		{jwt.ErrTokenInvalidAudience, ErrAudience},
	} {
		if errors.Is(err, known.is) {
			return known.as
		}
	}
	return ErrClaims
}
