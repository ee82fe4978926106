package ws

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// place is where a client connects from, as far as connections are counted by it: an IPv4 address, or the /64 network of
// an IPv6 address, since one household has all of that. Zero is a place that is not counted. An IPv4 address is a number
// below 2^32, which no /64 network in use is.
type place uint64

func placeOf(a netip.Addr) place {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.IsLoopback():
		return 0
	case a.Is4():
		b := a.As4()
		return place(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return place(binary.BigEndian.Uint64(b[:8]))
}

// proxies are the networks whose X-Forwarded-For is believed.
type proxies []netip.Prefix

func parseProxies(list []string) (p proxies, err error) {
	for _, entry := range list {
		text := strings.TrimSpace(entry)
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", entry)
			}
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

func (p proxies) contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// peerOf is the address at the other end of a connection.
func peerOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// client finds whose connection it is: the peer, or when that is one of our proxies the right-most address of
// X-Forwarded-For that is none, since each proxy appends whom it speaks for, and what stands further left is hearsay.
// It is invalid when our own proxies name nobody else.
func (p proxies) client(peer netip.Addr, h http.Header) netip.Addr {
	if !p.contain(peer) {
		return peer
	}
	hops := tokens(h, "X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		a, ok := parseHop(hops[i])
		if !ok {
			break
		}
		if !p.contain(a) {
			return a
		}
	}
	return netip.Addr{}
}

// parseHop reads an address, with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap(), true
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}
