package rest

import (
	"net/netip"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/door"
)

// Client is the address that a request comes from; invalid when a proxy of ours does not say.
func Client(ctx *fasthttp.RequestCtx, proxies door.Proxies) netip.Addr {
	peer := door.PeerOf(ctx.Conn())
	if !proxies.Contain(peer) {
		return peer
	}
	var lines []string
	for _, line := range ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor) {
		lines = append(lines, string(line))
	}
	return proxies.Client(peer, lines)
}
