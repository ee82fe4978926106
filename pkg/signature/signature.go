// Package signature signs webhooks and verifies them, as the Standard Webhooks specification says
// (https://www.standardwebhooks.com, version 1.0.0). Senders and receivers import it; it needs nothing but the standard
// library.
//
// A request carries three headers:
//
//	webhook-id         names the message; the same at each attempt
//	webhook-timestamp  seconds since 1970 of this attempt
//	webhook-signature  one signature or more, separated by spaces: "v1,<base64>" or "v1a,<base64>"
//
// What is signed is "<id>.<timestamp>.<body>": by HMAC-SHA-256 with a shared [Secret] (v1), or by Ed25519 with a
// [PrivateKey] of which receivers have the [PublicKey] (v1a). While a secret is being replaced a request has a signature by
// each; a receiver accepts it when one of its keys made one of them.
package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The names of the headers.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Tolerance is how far a timestamp may lie from the receiver's clock unless a Verifier says otherwise.
const Tolerance = 5 * time.Minute

const (
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
	minSecret     = 24 // bytes, as the specification has it
	maxSecret     = 64
	maxSignatures = 16 // looked at in one header
)

// Why a request is not accepted. A receiver answers 400 or 401, and does nothing else with it.
var (
	ErrMissing   = errors.New("webhook-id, webhook-timestamp or webhook-signature is missing")
	ErrTimestamp = errors.New("webhook-timestamp is not a number of seconds")
	ErrTooOld    = errors.New("webhook-timestamp is too old")
	ErrTooNew    = errors.New("webhook-timestamp lies in the future")
	ErrNoMatch   = errors.New("no signature is by a known key")
)

// Key makes signatures: a Secret or a PrivateKey.
type Key interface {
	// appendSignature appends the version and the signature of what is signed.
	appendSignature(dst, signed []byte) []byte
}

// Checker checks signatures: a Secret or a PublicKey.
type Checker interface {
	// check looks at a signature without its version.
	check(version string, signature, signed []byte) bool
}

// Secret is shared by sender and receiver. It does not print.
type Secret struct{ key []byte }

// NewSecret makes a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return Secret{key}
}

// ParseSecret reads a secret: whsec_ and the base64 of 24 to 64 bytes. The prefix may be missing.
func ParseSecret(text string) (Secret, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, secretPrefix))
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return Secret{}, fmt.Errorf("a webhook secret is %s and the base64 of %d to %d bytes", secretPrefix, minSecret, maxSecret)
	}
	return Secret{key}, nil
}

// Text is the secret as ParseSecret reads it.
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s.key) }

// String keeps secrets out of logs.
func (s Secret) String() string { return secretPrefix + "…" }

// GoString does, too.
func (s Secret) GoString() string { return s.String() }

func (s Secret) sum(signed []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(signed)
	return mac.Sum(nil)
}

func (s Secret) appendSignature(dst, signed []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, "v1,"...), s.sum(signed))
}

func (s Secret) check(version string, signature, signed []byte) bool {
	return version == "v1" && len(s.key) > 0 && hmac.Equal(signature, s.sum(signed))
}

// PrivateKey is the sender's alone. It does not print.
type PrivateKey struct{ key ed25519.PrivateKey }

// NewPrivateKey makes a random key.
func NewPrivateKey() PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic("signature: no randomness: " + err.Error()) // it never fails
	}
	return PrivateKey{key}
}

// ParsePrivateKey reads whsk_ and the base64 of an Ed25519 key: its 32 bytes of seed, or all 64.
func ParsePrivateKey(text string) (PrivateKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, privatePrefix))
	switch {
	case err == nil && len(b) == ed25519.SeedSize:
		return PrivateKey{ed25519.NewKeyFromSeed(b)}, nil
	case err == nil && len(b) == ed25519.PrivateKeySize:
		key := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
		if !key.Equal(ed25519.PrivateKey(b)) {
			return PrivateKey{}, errors.New("the two halves of the webhook key do not belong together")
		}
		return PrivateKey{key}, nil
	}
	return PrivateKey{}, fmt.Errorf("a webhook signing key is %s and the base64 of %d or %d bytes", privatePrefix, ed25519.SeedSize, ed25519.PrivateKeySize)
}

// Text is the key as ParsePrivateKey reads it.
func (k PrivateKey) Text() string { return privatePrefix + base64.StdEncoding.EncodeToString(k.key) }

// String keeps keys out of logs.
func (k PrivateKey) String() string { return privatePrefix + "…" }

// GoString does, too.
func (k PrivateKey) GoString() string { return k.String() }

// Public is what receivers verify with.
func (k PrivateKey) Public() PublicKey {
	return PublicKey{k.key.Public().(ed25519.PublicKey)} //nolint:forcetypeassert // it is documented to be one
}

func (k PrivateKey) appendSignature(dst, signed []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(k.key, signed))
}

// PublicKey verifies what a PrivateKey has signed.
type PublicKey struct{ key ed25519.PublicKey }

// ParsePublicKey reads whpk_ and the base64 of 32 bytes.
func ParsePublicKey(text string) (PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, publicPrefix))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("a webhook verification key is %s and the base64 of %d bytes", publicPrefix, ed25519.PublicKeySize)
	}
	return PublicKey{b}, nil
}

// Text is the key as ParsePublicKey reads it.
func (k PublicKey) Text() string { return publicPrefix + base64.StdEncoding.EncodeToString(k.key) }

// String is Text: there is nothing to hide.
func (k PublicKey) String() string { return k.Text() }

func (k PublicKey) check(version string, signature, signed []byte) bool {
	return version == "v1a" && len(k.key) == ed25519.PublicKeySize && ed25519.Verify(k.key, signed, signature)
}

// Message is what is signed.
type Message struct {
	ID   string // without a dot, or what is signed could be read in two ways
	At   time.Time
	Body []byte
}

// ErrID is what Sign returns for an id that can't be signed.
var ErrID = errors.New("a webhook id has no dots, spaces or control characters, and is not empty")

func (m *Message) appendSigned(b []byte) []byte {
	b = append(append(b, m.ID...), '.')
	b = append(strconv.AppendInt(b, m.At.Unix(), 10), '.')
	return append(b, m.Body...)
}

// Sign makes the value of webhook-signature: one signature by each key.
func Sign(m Message, keys ...Key) (string, error) {
	if m.ID == "" || strings.ContainsFunc(m.ID, func(r rune) bool { return r <= ' ' || r == '.' || r == 0x7F }) {
		return "", ErrID
	}
	if len(keys) == 0 {
		return "", errors.New("no key to sign with")
	}
	signed := m.appendSigned(make([]byte, 0, len(m.ID)+len(m.Body)+24))
	var b []byte
	for i, k := range keys {
		if i > 0 {
			b = append(b, ' ')
		}
		b = k.appendSignature(b, signed)
	}
	return string(b), nil
}

// Verifier accepts requests. The zero value accepts none.
type Verifier struct {
	Keys      []Checker        // any of them will do: while a secret is being replaced, the old one and the new one
	Tolerance time.Duration    // 0 is the package's; negative accepts any time
	Now       func() time.Time // nil is time.Now
}

// Verify accepts a request by its three headers and its body, byte for byte as it came, and returns the time of the
// attempt. A receiver that must not act twice remembers the ids of the last Tolerance.
func (v *Verifier) Verify(id, timestamp, signatures string, body []byte) (at time.Time, err error) {
	if id == "" || timestamp == "" || signatures == "" {
		return at, ErrMissing
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return at, ErrTimestamp
	}
	at = time.Unix(seconds, 0)
	if err := v.checkTime(at); err != nil {
		return at, err
	}
	signed := (&Message{ID: id, At: at, Body: body}).appendSigned(make([]byte, 0, len(id)+len(body)+24))
	for n := 0; signatures != "" && n < maxSignatures; n++ {
		var one string
		one, signatures, _ = strings.Cut(signatures, " ")
		version, text, _ := strings.Cut(one, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue // of a later version of the specification, perhaps
		}
		for _, k := range v.Keys {
			if k.check(version, signature, signed) {
				return at, nil
			}
		}
	}
	return at, ErrNoMatch
}

func (v *Verifier) checkTime(at time.Time) error {
	tolerance, now := v.Tolerance, time.Now
	if tolerance == 0 {
		tolerance = Tolerance
	}
	if v.Now != nil {
		now = v.Now
	}
	switch age := now().Sub(at); {
	case tolerance < 0:
	case age > tolerance:
		return ErrTooOld
	case age < -tolerance:
		return ErrTooNew
	}
	return nil
}
