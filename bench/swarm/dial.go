package swarm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// goal is where clients go.
type goal struct {
	host  string           // of the request's Host
	path  string           // of the request, with a query if there is one; "" when none was given
	addrs []netip.AddrPort // clients go to one after the other
	tls   *tls.Config      // nil: without TLS
}

// Ports of schemes without one.
var ports = map[string]string{"ws": "80", "http": "80", "wss": "443", "https": "443"}

const (
	lookupLimit = 10 * time.Second
	probeLimit  = 5 * time.Second
)

// aim reads an address, HOST:PORT or a URL, and finds out what its name means.
func (cfg *Config) aim(ctx context.Context, addr string) (*goal, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, err
	}
	port, known := ports[u.Scheme]
	switch {
	case !known:
		return nil, fmt.Errorf("%q: not a URL with ws://, wss://, http:// or https://", addr)
	case u.User != nil:
		return nil, fmt.Errorf("the URL of %s names a user; there is a token for that", u.Host)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q: without a host", addr)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	g := &goal{host: u.Host}
	_, rest, _ := strings.Cut(addr, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		g.path, _, _ = strings.Cut(rest[i:], "#") // as it was written: a dialect may put something in
	}
	if u.Scheme == "wss" || u.Scheme == "https" {
		g.tls = &tls.Config{
			ServerName: u.Hostname(), InsecureSkipVerify: cfg.Insecure, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, //nolint:gosec // if that is what the user wants
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	if g.addrs, err = lookup(ctx, u.Hostname(), uint16(n)); err != nil {
		return nil, err
	}
	return g, nil
}

// lookup finds the addresses of a host. Of several, those that don't take a connection are left out.
func lookup(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	looking, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(looking, "ip", host)
	if err != nil {
		return nil, err
	}
	all := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
	}
	if len(all) == 1 {
		return all, nil
	}
	return probe(ctx, all)
}

// probe returns the addresses that take a connection.
func probe(ctx context.Context, addrs []netip.AddrPort) (good []netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	errs := make([]error, len(addrs))
	var trying sync.WaitGroup
	for i, addr := range addrs {
		trying.Go(func() {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", addr.String())
			if errs[i] = err; err == nil {
				_ = conn.Close() // nothing was said
			}
		})
	}
	trying.Wait()
	for i, addr := range addrs {
		if errs[i] == nil {
			good = append(good, addr)
		}
	}
	if len(good) == 0 {
		return nil, errors.Join(errs...)
	}
	return good, nil
}

// parseSources reads Config.Sources.
func (cfg *Config) parseSources() (all []netip.Addr, err error) {
	for _, s := range cfg.Sources {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("source address %q: %w", s, err)
		}
		all = append(all, ip.Unmap())
	}
	return all, nil
}

// route is a client's way: from where, which is not valid when the kernel chooses, and to where. Clients take the addresses
// in turn, and the source addresses that go with them.
func (s *Swarm) route(c *client) (from netip.Addr, to netip.AddrPort, err error) {
	n := s.cfg.First + int(c.index)
	to = s.goal.addrs[n%len(s.goal.addrs)]
	turn := n / len(s.goal.addrs)
	switch {
	case len(s.sources) > 0:
		var fit []netip.Addr
		for _, ip := range s.sources {
			if ip.Is4() == to.Addr().Is4() {
				fit = append(fit, ip)
			}
		}
		if len(fit) == 0 {
			return from, to, &hopeless{fmt.Errorf("no source address is of the family of %s", to.Addr())}
		}
		from = fit[turn%len(fit)]
	case to.Addr().Is4() && to.Addr().IsLoopback():
		from = netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + s.cfg.Number)}) // an address has some 28,000 ports towards another
	}
	return from, to, nil
}

// ipBindAddressNoPort has the kernel choose the port when it knows the destination, so that ports are unique per pair of
// addresses only. Package syscall does not name it.
const ipBindAddressNoPort = 24

// dial begins a connection, which the loop will hear of.
func (s *Swarm) dial(c *client) error {
	c.fd, c.state, c.part, c.tunnel = -1, connecting, nil, nil
	c.acks, c.pieces, c.first = 0, nil, 0
	from, to, err := s.route(c)
	if err != nil {
		return err
	}
	if s.goal.tls != nil {
		return s.dialTunnel(c, from, to)
	}
	family := syscall.AF_INET
	if !to.Addr().Is4() {
		family = syscall.AF_INET6
	}
	if c.fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0); err != nil {
		return explain(fmt.Errorf("socket: %w", err))
	}
	if err := syscall.SetsockoptInt(c.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("TCP_NODELAY: %w", err)
	}
	if from.IsValid() {
		if err := syscall.SetsockoptInt(c.fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1); err != nil {
			return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		if err := syscall.Bind(c.fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			return &hopeless{fmt.Errorf("source address %s: %w", from, err)}
		}
	}
	if err := syscall.Connect(c.fd, sockaddr(to)); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return explain(fmt.Errorf("connect to %s: %w", to, err))
	}
	return s.watch(c.fd, c.index, syscall.EPOLLOUT, syscall.EPOLL_CTL_ADD)
}

func sockaddr(a netip.AddrPort) syscall.Sockaddr {
	if a.Addr().Is4() {
		return &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	to := &syscall.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			to.ZoneId = uint32(n)
		} else if i, err := net.InterfaceByName(zone); err == nil {
			to.ZoneId = uint32(i.Index) //nolint:gosec // counts from 1
		}
	}
	return to
}

// hopeless is an error that another attempt would have too: the swarm gives up.
type hopeless struct{ error }

func (h *hopeless) Unwrap() error { return h.error }

// explain adds what can be done about an error.
func explain(err error) error {
	var untrusted *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.EMFILE):
		var limit syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) // 0 tells nothing
		return &hopeless{fmt.Errorf("%w: a process may have %d; raise it with ulimit -n, or start fewer clients", err, limit.Cur)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no port is free there; more source addresses give more", err)
	case errors.As(err, &untrusted):
		return &hopeless{fmt.Errorf("%w (a certificate of its own making is taken with --insecure)", err)}
	case errors.As(err, &plain):
		return &hopeless{fmt.Errorf("%w: the server does not speak TLS", err)}
	}
	return err
}
