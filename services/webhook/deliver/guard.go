package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrForbidden is what a request ends with that would go where requests may not go. It does not tell the address: who made
// the endpoint need not learn what a name resolves to in here.
var ErrForbidden = errors.New("the host's address is not one that webhooks may be sent to")

// guard says where requests may go. It looks at each address that is about to be dialled, so that neither a redirect nor a
// name that resolves to something else the second time gets around it.
type guard struct {
	nets    []netip.Prefix
	ports   []portRange
	special *ssrf.Guardian
}

// The ranges beside those of IANA's registries of special addresses, which package ssrf knows.
var alsoSpecial = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's host agent: a public address that is answered from within
}

// nat64 are the prefixes that hold an IPv4 address in their last bytes. They are not public, but an operator of a network
// without IPv4 may allow them; what they lead to is looked at then.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func newGuard(c *Config) (*guard, error) {
	nets, err := parseNets(c.AllowNets)
	if err != nil {
		return nil, err
	}
	ports, err := parsePorts(c.AllowPorts)
	if err != nil {
		return nil, err
	}
	return &guard{nets: nets, ports: ports, special: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(alsoSpecial...))}, nil
}

// control is called by the dialler with each address.
func (g *guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s %s", ErrForbidden, network, address)
	}
	return g.check(addr)
}

func (g *guard) check(addr netip.AddrPort) error {
	if !g.port(addr.Port()) {
		return fmt.Errorf("%w: port %d", ErrForbidden, addr.Port())
	}
	return g.address(addr.Addr())
}

func (g *guard) port(port uint16) bool {
	return slices.ContainsFunc(g.ports, func(r portRange) bool { return r.from <= port && port <= r.to })
}

func (g *guard) address(ip netip.Addr) error {
	// An IPv4 address in IPv6 clothes is dialled as what it is. An address with a zone is on a link of ours.
	ip = ip.Unmap()
	if ip.Zone() != "" {
		return ErrForbidden
	}
	if slices.ContainsFunc(g.nets, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		if nat64.Contains(ip) {
			b := ip.As16()
			return g.address(netip.AddrFrom4([4]byte(b[12:])))
		}
		return nil
	}
	if g.special.SafeAddr(ip) != nil {
		return ErrForbidden
	}
	return nil
}

// CheckURL says what is wrong with an endpoint's URL, as far as it can be told without resolving its host.
func (s *Sender) CheckURL(text string) error { return s.guard.url(text) }

func (g *guard) url(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("is no URL")
	}
	port := u.Port()
	switch {
	case len(text) > 2048:
		return errors.New("has more than 2048 bytes")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must begin with https:// or http://")
	case u.Hostname() == "" || u.Opaque != "":
		return errors.New("has no host")
	case u.User != nil:
		return errors.New("must not hold a user or password; use headers")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("must not have a fragment")
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || !g.port(uint16(n)) {
		return fmt.Errorf("port %s is not one that webhooks may be sent to", port)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && g.address(ip) != nil {
		return ErrForbidden
	}
	return nil
}
