// Package door knows who may come in: it holds what every edge asks before it serves a client. Where does the client connect
// from, and from which web page; how many are here already; how often has it asked? The edges turn the answers into their own
// protocol's words.
package door

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Place is where a client connects from, as far as connections are counted by it: an IPv4 address, or the /64 network of
// an IPv6 address, since one household has all of that. Zero is a place that is not counted. An IPv4 address is a number
// below 2^32, which no /64 network in use is.
type Place uint64

// PlaceOf is the place of an address; loopback and no address at all are not counted.
func PlaceOf(a netip.Addr) Place {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.IsLoopback():
		return 0
	case a.Is4():
		b := a.As4()
		return Place(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return Place(binary.BigEndian.Uint64(b[:8]))
}

// PeerOf is the address at the other end of a connection.
func PeerOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Proxies are the networks whose X-Forwarded-For is believed.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks such as 10.0.0.0/8.
func ParseProxies(list []string) (p Proxies, err error) {
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

// Contain tells whether an address is a proxy's.
func (p Proxies) Contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// PlaceOfPeer is the place of a connection whose request has not been read: what comes from a proxy is not counted yet.
func (p Proxies) PlaceOfPeer(peer netip.Addr) Place {
	if p.Contain(peer) {
		return 0
	}
	return PlaceOf(peer)
}

// Client finds whose connection it is: the peer, or when that is one of our proxies the right-most address of
// X-Forwarded-For, whose lines are given, that is none, since each proxy appends whom it speaks for, and what stands further
// left is hearsay. It is invalid when our own proxies name nobody else.
func (p Proxies) Client(peer netip.Addr, forwarded []string) netip.Addr {
	if !p.Contain(peer) {
		return peer
	}
	for _, line := range slices.Backward(forwarded) {
		for rest := line; rest != ""; {
			comma := strings.LastIndexByte(rest, ',')
			hop := strings.TrimSpace(rest[comma+1:])
			rest = rest[:max(comma, 0)]
			if hop == "" {
				continue
			}
			a, ok := parseHop(hop)
			if !ok {
				return netip.Addr{}
			}
			if !p.Contain(a) {
				return a
			}
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
