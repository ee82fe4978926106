package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"
)

// An API key is "tw_", the key's id, "_" and 256 random bits, 64 characters in all, each of which may stand in an HTTP header
// and in a subprotocol's name. The id is no secret: it names the key in the file and in logs.
//
// The file keeps the SHA-256 of the whole key. That is enough because a key is not a password: nobody can try 2^256 of them,
// so there is nothing that a salt or a slow hash would make harder, and a slow hash would let anyone who sends wrong keys
// keep the server busy.
const (
	keyPrefix   = "tw_"
	keyIDLen    = 8
	keySecret   = 32 // bytes
	keyLen      = len(keyPrefix) + keyIDLen + 1 + (keySecret*8+4)/5
	maxKeyFile  = 16 << 20
	maxKeyCount = 100_000
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// KeyEntry is an API key as the key file has it.
type KeyEntry struct {
	ID      string    `yaml:"id"`
	Subject string    `yaml:"subject"`
	SHA256  string    `yaml:"sha256"`            // of the whole key, in hexadecimal
	Expires time.Time `yaml:"expires,omitempty"` // zero means never
	Scope   `yaml:",inline"`
}

// NewKey makes a key and its entry for the key file. The key itself is nowhere else: it can't be shown again.
func NewKey(subject string, expires time.Time, scope Scope) (key string, entry KeyEntry, err error) {
	var random [5 + keySecret]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", entry, fmt.Errorf("make a key: %w", err)
	}
	id := base32Lower.EncodeToString(random[:5])
	key = keyPrefix + id + "_" + base32Lower.EncodeToString(random[5:])
	sum := sha256.Sum256([]byte(key))
	entry = KeyEntry{ID: id, Subject: subject, SHA256: hex.EncodeToString(sum[:]), Expires: expires, Scope: scope}
	_, err = entry.grant()
	return key, entry, err
}

// YAML is the entry as it stands in the key file's list.
func (e KeyEntry) YAML() (string, error) {
	b, err := yaml.Marshal([]KeyEntry{e})
	if err != nil {
		return "", fmt.Errorf("write the key's entry: %w", err)
	}
	return "  " + strings.ReplaceAll(strings.TrimSuffix(string(b), "\n"), "\n", "\n  ") + "\n", nil
}

func (e *KeyEntry) grant() (*Grant, error) {
	if len(e.ID) != keyIDLen {
		return nil, fmt.Errorf("id: not %d characters", keyIDLen)
	}
	if err := checkSubject(e.Subject); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	g, err := e.Grant(e.Subject, e.Expires)
	if err != nil {
		return nil, err
	}
	hash, err := hex.DecodeString(e.SHA256)
	if err != nil || len(hash) != len(g.hash) {
		return nil, fmt.Errorf("sha256: not %d hexadecimal digits", 2*len(g.hash))
	}
	g.hash = [len(g.hash)]byte(hash)
	g.key = e.ID
	return g, nil
}

// keyring is a key file that has been read. It never changes.
type keyring struct {
	anonymous *Grant // nil when the file does not say
	keys      map[string]*Grant
}

// parseKeys reads a key file strictly: an unknown or repeated field is an error, since what it was meant to forbid would be
// allowed otherwise.
func parseKeys(b []byte) (*keyring, error) {
	var file struct {
		Anonymous *Scope     `yaml:"anonymous"`
		Keys      []KeyEntry `yaml:"keys"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // an empty file has no keys
		return nil, err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	if len(file.Keys) > maxKeyCount {
		return nil, fmt.Errorf("keys: more than %d", maxKeyCount)
	}
	k := &keyring{keys: make(map[string]*Grant, len(file.Keys))}
	if file.Anonymous != nil {
		g, err := file.Anonymous.Grant("", time.Time{})
		switch {
		case err != nil:
			return nil, fmt.Errorf("anonymous.%w", err)
		case g.MaxConns > 0:
			return nil, errors.New("anonymous.conns: there is nobody to count them by")
		}
		k.anonymous = g
	}
	for i := range file.Keys {
		g, err := file.Keys[i].grant()
		switch {
		case err != nil:
			return nil, fmt.Errorf("keys[%d].%w", i, err)
		case k.keys[g.key] != nil:
			return nil, fmt.Errorf("keys[%d].id: given twice", i)
		}
		k.keys[g.key] = g
	}
	return k, nil
}

// isKey tells an API key from a JWT.
func isKey(token string) bool { return strings.HasPrefix(token, keyPrefix) }

// find returns what a key grants.
func (k *keyring) find(key string, now time.Time) (*Grant, error) {
	if len(key) != keyLen {
		return nil, ErrMalformed
	}
	g := k.keys[key[len(keyPrefix):len(keyPrefix)+keyIDLen]]
	if g == nil {
		return nil, ErrUnknown
	}
	sum := sha256.Sum256([]byte(key))
	switch {
	case subtle.ConstantTimeCompare(sum[:], g.hash[:]) == 0:
		return nil, ErrUnknown
	case g.Expired(now):
		return nil, ErrExpired
	}
	return g, nil
}
