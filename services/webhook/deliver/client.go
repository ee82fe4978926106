package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// newTransport makes connections of which the guard has seen the address. No proxy is taken from the environment: it would
// dial in the guard's place.
func newTransport(c *Config, g *guard, tc *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, ControlContext: g.control, Resolver: c.resolver}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tc,
		TLSHandshakeTimeout:    5 * time.Second,
		DisableCompression:     true, // so nothing that answers unpacks to more than it is
		MaxIdleConns:           4 * c.InFlight,
		MaxIdleConnsPerHost:    c.InFlight,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeaders,
		WriteBufferSize:        8 << 10,
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			// What an answer may keep us from having read: the defaults are 4 MiB a stream and 1 GiB a connection.
			MaxReceiveBufferPerStream:     64 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   maxTimeout,
			WriteByteTimeout:              maxTimeout,
		},
	}
}

func newTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(256)}
}

// newClient follows no redirects: the URL that was verified is the one that gets the events.
func newClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// clientTLS is the configuration of an endpoint that has its own.
func clientTLS(c *store.ClientTLS) (*tls.Config, error) {
	tc := newTLS()
	if c.Cert != "" || c.Key != "" {
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	if c.CA != "" {
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, errors.New("CA certificates: there are none in the PEM")
		}
	}
	return tc, nil
}

// CheckTLS says what is wrong with an endpoint's certificates.
func CheckTLS(c *store.ClientTLS) error {
	_, err := clientTLS(c)
	return err
}
