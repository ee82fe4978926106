package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/auth"
)

// Certificate makes a certificate for localhost that signs itself.
func Certificate(t testing.TB) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, // curl wants an issuer's name
		DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", keyDER), pool
}

// Secret signs the tokens of tests.
const Secret = "0123456789abcdef0123456789abcdef"

// Sign makes a JWT of a header and claims, by HS256 whatever the header says.
func Sign(header, claims string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(Secret))
	_, _ = mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// Token is good for so long; scope is the claim, or "".
func Token(subject string, life time.Duration, scope string) string {
	if scope == "" {
		scope = "{}"
	}
	return Sign(`{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"sub":%q,"exp":%d,"tickwire":%s}`, subject, time.Now().Add(life).Unix(), scope))
}

// Keys writes the files of an edge that asks for tokens: the Secret, and a key file.
func Keys(t testing.TB, keys string) (secretFile, keysFile string) {
	t.Helper()
	dir := t.TempDir()
	secretFile, keysFile = filepath.Join(dir, "secret"), filepath.Join(dir, "keys.yaml")
	for file, text := range map[string]string{secretFile: Secret, keysFile: keys} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return secretFile, keysFile
}

// NewKey makes an API key, and its entry for a key file.
func NewKey(t testing.TB, subject string, scope auth.Scope) (key, entry string) {
	t.Helper()
	key, e, err := auth.NewKey(subject, time.Time{}, scope)
	if err == nil {
		entry, err = e.YAML()
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, entry
}
