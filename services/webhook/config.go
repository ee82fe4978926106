package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/services/webhook/deliver"
)

// Config of the webhook service.
type Config struct {
	Addr       string // of the API, host:port; port 0 takes any free one
	TLSCert    string // PEM file; empty serves plain text
	TLSKey     string
	Data       string // folder of the database, when that is SQLite
	Database   string // postgres://… ; empty: SQLite in Data
	Key        string // that encrypts secrets at rest: 32 bytes in base64
	OldKeys    []string
	AdminToken string        // for what no tenant's key may do; empty: nobody may
	Retention  time.Duration // of events and deliveries that are finished
	API        APIConfig
	Deliver    deliver.Config

	leaseTTL time.Duration // of the store's leases; 0 is the store's own

	Ephemeral bool // the database ends with the process, and so may its key; not a flag
}

// DefaultConfig listens on loopback, port 8082, without TLS.
func DefaultConfig() Config {
	return Config{Addr: "127.0.0.1:8082", Retention: 30 * 24 * time.Hour, API: DefaultAPIConfig(), Deliver: deliver.DefaultConfig()}
}

// RegisterFlags defines the flags of the service.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "webhook-addr", c.Addr, "`ADDRESS` of the alerts API; port 0 takes any free one")
	fs.StringVar(&c.TLSCert, "webhook-tls-cert", c.TLSCert, "PEM `FILE` with the certificate of the alerts API, the whole chain; without it the API speaks plain text")
	fs.StringVar(&c.TLSKey, "webhook-tls-key", c.TLSKey, "PEM `FILE` with the certificate's key")
	fs.StringVar(&c.Data, "data", c.Data, "`FOLDER` of the database of alerts and deliveries (SQLite)")
	fs.StringVar(&c.Database, "webhook-database", c.Database, "`URL` of a PostgreSQL database instead, postgres://…; several instances may share it")
	fs.StringVar(&c.Key, "webhook-key", c.Key, "`BASE64` of the 32 bytes that encrypt secrets in the database; better in the environment (openssl rand -base64 32 makes one)")
	fs.StringSliceVar(&c.OldKeys, "webhook-old-keys", c.OldKeys, "`BASE64,…` of earlier keys, with which secrets may still be encrypted")
	fs.StringVar(&c.AdminToken, "webhook-admin-token", c.AdminToken, "`TOKEN` for making tenants and their first keys, at least 32 characters; better in the environment (default: nobody may)")
	fs.DurationVar(&c.Retention, "webhook-retention", c.Retention, "how long events, deliveries that are finished or held, alerts that are over and finished replays are kept, at least 1h")
	c.API.RegisterFlags(fs)
	c.Deliver.RegisterFlags(fs)
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("--webhook-addr: %w", err)
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--webhook-tls-cert, --webhook-tls-key: both or neither")
	case c.Database == "" && c.Data == "" && !c.Ephemeral:
		return errors.New("--data: the folder of the database, or --webhook-database")
	case c.Database != "" && !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://"):
		return errors.New("--webhook-database: postgres://…")
	case c.Key == "" && !c.Ephemeral:
		return errors.New("--webhook-key: what encrypts secrets in the database, best as TICKWIRE_WEBHOOK_KEY; openssl rand -base64 32 makes one")
	case c.AdminToken != "" && len(c.AdminToken) < 32:
		return errors.New("--webhook-admin-token: at least 32 characters")
	case c.API.Auth == AuthNone && !loopback(host):
		return errors.New("--webhook-auth none: only with a --webhook-addr on loopback")
	case c.Retention < time.Hour:
		return errors.New("--webhook-retention: at least 1h")
	}
	return errors.Join(c.API.Validate(), c.Deliver.Validate())
}

// tls reads the certificate of the API; nil when there is none.
func (c *Config) tls() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--webhook-tls-cert: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
