package webhook

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/services/internal/door"
)

// APIConfig says whom the API serves, and how much of it.
type APIConfig struct {
	Auth         string  // required, or none: whoever comes without a key is the tenant "default"
	Rate         float64 // requests a second of one tenant, unless it has a rate of its own; 0 is no limit
	Burst        int     // at once
	MaxAlerts    int     // of a tenant that has no quota of its own, those that have ended aside
	MaxEndpoints int
	MustVerify   bool // endpoints that do not prove that they want our requests are refused
	MaxConns     int  // in all
	MaxPerIP     int  // connections from one address; 0 is no limit
	Proxies      []string
}

// The modes of APIConfig.Auth.
const (
	AuthRequired = "required"
	AuthNone     = "none"
)

// DefaultAPIConfig wants a key.
func DefaultAPIConfig() APIConfig {
	return APIConfig{Auth: AuthRequired, Rate: 50, Burst: 200, MaxAlerts: 100_000, MaxEndpoints: 100, MaxConns: 2000, MaxPerIP: 200}
}

// RegisterFlags defines the flags.
func (c *APIConfig) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Auth, "webhook-auth", c.Auth, "whether requests to the alerts API need a key: `required|none`; with none, those without one share a tenant called default")
	fs.Float64Var(&c.Rate, "webhook-rate", c.Rate, "requests a second of one tenant to the alerts API; 0 for no limit")
	fs.IntVar(&c.Burst, "webhook-burst", c.Burst, "requests at once, within --webhook-rate")
	fs.IntVar(&c.MaxAlerts, "webhook-max-alerts", c.MaxAlerts, "alerts of one tenant that have not ended")
	fs.IntVar(&c.MaxEndpoints, "webhook-max-endpoints", c.MaxEndpoints, "endpoints of one tenant")
	fs.BoolVar(&c.MustVerify, "webhook-require-verification", c.MustVerify, "refuse endpoints without a verification: each must prove that it wants our requests")
	fs.IntVar(&c.MaxConns, "webhook-max-conns", c.MaxConns, "connections at a time to the alerts API")
	fs.IntVar(&c.MaxPerIP, "webhook-max-conns-per-ip", c.MaxPerIP, "connections at a time from one IPv4 address or IPv6 /64; loopback and proxies are not counted; 0 for no limit")
	fs.StringSliceVar(&c.Proxies, "webhook-trusted-proxies", c.Proxies, "`CIDR,…` of proxies in front of the alerts API: their connections are not counted, and X-Forwarded-For names the client (default: none)")
}

// Validate says which flag is wrong.
func (c *APIConfig) Validate() error {
	if _, err := door.ParseProxies(c.Proxies); err != nil {
		return fmt.Errorf("--webhook-trusted-proxies: %w", err)
	}
	switch {
	case !slices.Contains([]string{AuthRequired, AuthNone}, c.Auth):
		return errors.New("--webhook-auth: required or none")
	case !(c.Rate >= 0 && c.Rate <= 1e6): // not a number is neither
		return errors.New("--webhook-rate: from 0 to 1000000")
	case c.Burst < 1 || c.Burst > 1e6:
		return errors.New("--webhook-burst: from 1 to 1000000")
	case c.MaxAlerts < 1:
		return errors.New("--webhook-max-alerts: at least 1")
	case c.MaxEndpoints < 1:
		return errors.New("--webhook-max-endpoints: at least 1")
	case c.MaxConns < 1:
		return errors.New("--webhook-max-conns: at least 1")
	case c.MaxPerIP < 0:
		return errors.New("--webhook-max-conns-per-ip: not negative")
	}
	return nil
}
