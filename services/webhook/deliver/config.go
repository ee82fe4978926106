package deliver

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Config of the sender.
type Config struct {
	AllowNets  []string // networks beside the public internet that requests may go to
	AllowPorts []string // ports, or ranges of them, that requests may go to
	Origin     string   // who we are in the handshake of CloudEvents, and the source of its events
	InFlight   int      // requests at a time to endpoints that answer; as many again may wait for those that don't

	resolver *net.Resolver // tests have their own
}

// DefaultConfig sends to public addresses at ports 80 and 443.
func DefaultConfig() Config {
	return Config{AllowPorts: []string{"80", "443"}, Origin: "tickwire", InFlight: 256}
}

// RegisterFlags defines the flags.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.AllowNets, "webhook-allow-nets", c.AllowNets, "`PREFIX,…` of networks that are not public and to which webhooks may be sent all the same, such as 10.1.0.0/16 or 127.0.0.1/32 (default: none)")
	fs.StringSliceVar(&c.AllowPorts, "webhook-allow-ports", c.AllowPorts, "`PORT,…` to which webhooks may be sent; ranges such as 8000-8999 too")
	fs.StringVar(&c.Origin, "webhook-origin", c.Origin, "`NAME` of this installation, usually its DNS name: the source of CloudEvents and the origin in their handshake")
	fs.IntVar(&c.InFlight, "webhook-in-flight", c.InFlight, "webhook requests at a time to endpoints that answer within a second; as many again may wait for those that don't")
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	_, err := newGuard(c)
	switch {
	case err != nil:
		return err
	case c.Origin == "" || strings.ContainsFunc(c.Origin, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }):
		return errors.New("--webhook-origin: a name without spaces, quotes or control characters")
	case c.InFlight < 1 || c.InFlight > 10_000:
		return errors.New("--webhook-in-flight: from 1 to 10000")
	}
	return nil
}

// What is the same for everybody.
const (
	maxTimeout  = 15 * time.Second // of a request in all, whatever the endpoint's own
	maxResponse = 16 << 10         // bytes of an answer that are read
	maxHeaders  = 32 << 10         // bytes of an answer's headers
	bodyTime    = 2 * time.Second  // for an answer's body, once its status is known
	// New connections that one attempt may take because the endpoint gave up the one before.
	maxReconnects = 3
	slowAfter     = time.Second // a request that has taken so long does not count among those to endpoints that answer
)

// portRange is a range of ports, both ends included.
type portRange struct{ from, to uint16 }

func parsePorts(list []string) (ports []portRange, err error) {
	for _, s := range list {
		from, to, ranged := strings.Cut(strings.TrimSpace(s), "-")
		if !ranged {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if err := cmp.Or(errA, errB); err != nil || a == 0 || b < a {
			return nil, fmt.Errorf("--webhook-allow-ports: %q is no port or range of ports", s)
		}
		ports = append(ports, portRange{uint16(a), uint16(b)})
	}
	if len(ports) == 0 {
		return nil, errors.New("--webhook-allow-ports: none is left to send to")
	}
	return ports, nil
}

func parseNets(list []string) (nets []netip.Prefix, err error) {
	for _, s := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--webhook-allow-nets: %w", err)
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("--webhook-allow-nets: %s: write it as an IPv4 prefix", s)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}
