package streamtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/broker"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

const (
	user     = "tickwire"
	password = "open-sesame"
)

// certificate is a self-signed one for loopback.
type certificate struct {
	certPEM, keyPEM []byte
	roots           *x509.CertPool
}

func makeCertificate(t *testing.T) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		roots:   x509.NewCertPool(),
	}
	c.roots.AppendCertsFromPEM(c.certPEM)
	return c
}

func (c *certificate) client() *tls.Config {
	return &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}
}

func TestEmbeddedSecure(t *testing.T) {
	c := makeCertificate(t)
	pair, err := tls.X509KeyPair(c.certPEM, c.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	b := testkit.BrokerWith(t, broker.Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, SASL: map[string]string{user: password},
	})
	secure(t, &c, []string{b.Addr()})
}

func TestKafkaSecure(t *testing.T) {
	c := makeCertificate(t)
	k := testkit.KafkaWith(t, 1, testkit.KafkaOptions{Secure: &testkit.KafkaSecurity{
		CertPEM: string(c.certPEM), KeyPEM: string(c.keyPEM), Username: user, Password: password,
	}})
	secure(t, &c, k.SecureAddrs())
}

// secure goes through everything that dials, with each mechanism, over TLS.
func secure(t *testing.T, c *certificate, brokers []string) {
	for _, mechanism := range []string{stream.SASLPlain, stream.SASLScram256, stream.SASLScram512} {
		t.Run(mechanism, func(t *testing.T) {
			e := &env{brokers: brokers, replicas: 1, config: stream.Config{
				TLS: c.client(), SASL: stream.SASL{Mechanism: mechanism, Username: user, Password: password},
			}}
			testOwner(t, e)
			testGroup(t, e)
		})
	}
	refused := func(name string, cfg stream.Config) {
		t.Run(name, func(t *testing.T) {
			e := &env{brokers: brokers, config: cfg}
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			if n, err := e.open(t, stream.Topics{}).Partitions(ctx, stream.RawTopic); err == nil {
				t.Fatalf("got through, %d partitions", n)
			}
		})
	}
	refused("wrong password", stream.Config{TLS: c.client(), SASL: stream.SASL{Mechanism: stream.SASLPlain, Username: user, Password: "x"}})
	refused("no password", stream.Config{TLS: c.client()})
	refused("unknown authority", stream.Config{
		TLS: &tls.Config{MinVersion: tls.VersionTLS12}, SASL: stream.SASL{Mechanism: stream.SASLPlain, Username: user, Password: password},
	})
	if _, err := stream.Open(stream.Config{Brokers: brokers, SASL: stream.SASL{Mechanism: "gssapi"}}); err == nil {
		t.Error("an unknown mechanism was accepted")
	}
}
