package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tickwire/tickwire/services/webhook/store/query"
)

// ErrKey says that the database was sealed with a key that was not given.
var ErrKey = errors.New("wrong encryption key")

// Sealed bytes are the key's id, a nonce and what AES-256-GCM makes of the plain text. The row that they belong to is
// authenticated with them, so that a secret can't be moved to somebody else's endpoint.
const (
	keyIDLen = 4
	nonceLen = 12
)

type sealKey struct {
	id   [keyIDLen]byte
	aead cipher.AEAD
}

// keyring seals with its first key and opens with all.
type keyring []sealKey

func newSealKey(raw []byte) (sealKey, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return sealKey{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealKey{}, err
	}
	k := sealKey{aead: aead}
	sum := sha256.Sum256(append([]byte("tickwire webhook key id\x00"), raw...))
	copy(k.id[:], sum[:])
	return k, nil
}

func newKeyring(cfg Config) (keyring, error) {
	texts := append([]string{cfg.Key}, cfg.OldKeys...)
	if cfg.Key == "" {
		if !cfg.Ephemeral {
			return nil, errors.New("key: missing; secrets are encrypted with TICKWIRE_WEBHOOK_KEY, make one with: openssl rand -base64 32")
		}
		// What ends with the process needs no secret key, but may be opened again while it lasts.
		texts[0] = base64.StdEncoding.EncodeToString(make([]byte, 32))
	}
	var ring keyring
	for i, text := range texts {
		name := "key"
		if i > 0 {
			name = fmt.Sprintf("old key %d", i)
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("%s: not 32 bytes in base64, as openssl rand -base64 32 prints them", name)
		}
		k, err := newSealKey(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		ring = append(ring, k)
	}
	return ring, nil
}

func (r keyring) seal(plain []byte, row string) []byte {
	k := r[0]
	out := make([]byte, keyIDLen+nonceLen, keyIDLen+nonceLen+len(plain)+k.aead.Overhead())
	copy(out, k.id[:])
	_, _ = rand.Read(out[keyIDLen:]) // never fails
	return k.aead.Seal(out, out[keyIDLen:], plain, []byte(row))
}

// sealedError is why sealed bytes can't be opened.
type sealedError struct{ error }

// Unwrap implements errors.Is and errors.As.
func (e sealedError) Unwrap() error { return e.error }

func (r keyring) open(sealed []byte, row string) ([]byte, error) {
	plain, err := r.unlock(sealed, row)
	if err != nil {
		return nil, sealedError{err}
	}
	return plain, nil
}

func (r keyring) unlock(sealed []byte, row string) ([]byte, error) {
	if len(sealed) < keyIDLen+nonceLen {
		return nil, fmt.Errorf("open %s: sealed bytes are cut off", row)
	}
	id, nonce, text := sealed[:keyIDLen], sealed[keyIDLen:keyIDLen+nonceLen], sealed[keyIDLen+nonceLen:]
	for _, k := range r {
		if string(k.id[:]) != string(id) {
			continue
		}
		plain, err := k.aead.Open(nil, nonce, text, []byte(row))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", row, err)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("open %s: %w: it was sealed with key %s", row, ErrKey, hex.EncodeToString(id))
}

func (r keyring) current(sealed []byte) bool {
	return len(sealed) >= keyIDLen && string(sealed[:keyIDLen]) == string(r[0].id[:])
}

// The rows that sealed bytes belong to.
func headersRow(endpoint int64) string { return fmt.Sprintf("endpoint %d headers", endpoint) }
func tlsRow(endpoint int64) string     { return fmt.Sprintf("endpoint %d tls", endpoint) }
func secretRow(num, endpoint int64) string {
	return fmt.Sprintf("secret %d of endpoint %d", num, endpoint)
}

func onceRow(tenant int64, key string) string {
	return fmt.Sprintf("answer %q of tenant %d", key, tenant)
}

const (
	keySetting = "key"
	keyProof   = "tickwire"
)

// checkKey tells a wrong key before anything else is done with it, and seals everything anew after a rotation.
func (s *Store) checkKey(ctx context.Context) error {
	rotate := false
	err := s.write(ctx, func(t *tx) error {
		proof, err := t.LockSetting(t.ctx, keySetting)
		if errors.Is(err, sql.ErrNoRows) {
			return t.SetSetting(t.ctx, keySetting, s.keys.seal([]byte(keyProof), keySetting))
		} else if err != nil {
			return err
		}
		if _, err := s.keys.open(proof, keySetting); err != nil {
			return fmt.Errorf("%w; set TICKWIRE_WEBHOOK_KEY to that key, or put it into TICKWIRE_WEBHOOK_OLD_KEYS to replace it", err)
		}
		rotate = !s.keys.current(proof)
		return nil
	})
	if err != nil || !rotate {
		return err
	}
	return s.reseal(ctx)
}

// reseal seals with the current key what was sealed with an old one, a few endpoints at a time, and notes at last that it is done.
func (s *Store) reseal(ctx context.Context) error {
	for after, more := int64(0), true; more; {
		err := s.write(ctx, func(t *tx) error {
			rows, err := t.EndpointsFrom(t.ctx, after, 100)
			if err != nil {
				return err
			}
			next := after
			for _, row := range rows {
				if err := t.resealEndpoint(row.Num); err != nil {
					return err
				}
				next = row.Num
			}
			after, more = next, len(rows) > 0
			return nil
		})
		if err != nil {
			return fmt.Errorf("seal with the new key: %w", err)
		}
	}
	return s.write(ctx, func(t *tx) error {
		return t.SetSetting(t.ctx, keySetting, s.keys.seal([]byte(keyProof), keySetting))
	})
}

func (t *tx) resealEndpoint(num int64) error {
	row, err := t.LockEndpoint(t.ctx, num)
	if err != nil {
		return err
	}
	e, err := t.endpoint(row)
	if err != nil {
		return err
	}
	if err := t.SetEndpoint(t.ctx, setEndpoint(t.s.keys, e)); err != nil {
		return err
	}
	return t.putSecrets(e)
}

func (t *tx) putSecrets(e *Endpoint) error {
	for i := range e.Secrets {
		x := &e.Secrets[i]
		if x.Num == 0 {
			x.Num = t.s.ids.next()
		}
		err := t.AddSecret(t.ctx, query.AddSecretParams{
			Num: x.Num, Endpoint: e.Num, Kind: string(x.Kind), Sealed: t.s.keys.seal([]byte(x.Text), secretRow(x.Num, e.Num)),
			Created: micros(x.Created), Expires: micros(x.Expires),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
