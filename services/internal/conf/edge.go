package conf

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/door"
)

// Edge is what the edges have in common: how clients reach them, and which clients they take.
type Edge struct {
	TLSCert string // PEM files; both or none
	TLSKey  string
	Proxies []string // networks whose X-Forwarded-For is believed
	Auth    Auth
}

// DefaultEdge has no TLS, no proxies, and asks nobody for a token.
func DefaultEdge() Edge { return Edge{Auth: DefaultAuth()} }

// RegisterFlags defines the flags that all edges of a process share.
func (c *Edge) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "PEM `FILE` with the certificate of the listeners for clients (default: no TLS)")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM `FILE` with the key of --tls-cert")
	fs.StringSliceVar(&c.Proxies, "trusted-proxies", c.Proxies, "`CIDR,…` of proxies whose X-Forwarded-For names the client (default: none)")
	c.Auth.RegisterFlags(fs)
}

// Validate says which flag is wrong.
func (c *Edge) Validate() error {
	if _, err := door.ParseProxies(c.Proxies); err != nil {
		return fmt.Errorf("--trusted-proxies: %w", err)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	return c.Auth.Validate()
}

// TLS reads the certificate; nil when there is none.
func (c *Edge) TLS() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, nil
}

// Access reads what tokens are checked by. Whoever opens it runs it, and the log is told of what can't be read later on.
func (c *Edge) Access(log *zap.Logger) (*door.Access, error) {
	authority, err := c.Auth.Open(func(source string, err error) {
		if err != nil {
			log.Error("what tokens are checked by can't be read; going on with what was there", zap.String("source", source), zap.Error(err))
			return
		}
		log.Info("what tokens are checked by is good again", zap.String("source", source))
	})
	if err != nil {
		return nil, err
	}
	return door.NewAccess(authority), nil
}
