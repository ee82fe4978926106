package sse

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/internal/sockopt"
)

const (
	unansweredTimeout = 30 * time.Second // for a peer to acknowledge what was sent
	unsentBytes       = 16 << 10         // of one stream in the kernel: what is old when a client that stopped reads on
)

// entrance is the listener: it counts the connections, and turns those away that there is no room for at all.
type entrance struct {
	net.Listener
	s *Server
}

// Accept implements net.Listener. A handshake of TLS is not waited for here: it is the first part of reading a request, all
// of which has headerTimeout.
func (e entrance) Accept() (net.Conn, error) {
	for {
		conn, err := e.Listener.Accept()
		if err != nil {
			return nil, err
		}
		sockopt.LimitUnsent(conn, unsentBytes)
		sockopt.LimitUnanswered(conn, unansweredTimeout)
		guest := e.s.welcome(conn)
		switch {
		case guest == nil:
			e.s.metrics.refused.WithLabelValues("crowd").Inc()
			_ = conn.Close() // there is no room to say why
		case e.s.tls != nil:
			return fanout.ServerTLS(guest, e.s.tls), nil
		default:
			return guest, nil
		}
	}
}

// welcome counts a connection in; nil when there is no room for it.
func (s *Server) welcome(conn net.Conn) net.Conn {
	var c interface {
		net.Conn
		self() *guest
	} = &pipe{Conn: conn}
	if tcp, ok := conn.(*net.TCPConn); ok {
		c = &socket{TCPConn: tcp}
	}
	g := c.self()
	g.crowd, g.peer = s.crowd, door.PeerOf(conn)
	g.place = s.proxies.PlaceOfPeer(g.peer)
	if !s.crowd.Enter(g.place) {
		return nil
	}
	return c
}

// guest is what is counted of a connection.
type guest struct {
	crowd *door.Crowd
	peer  netip.Addr

	mu     sync.Mutex
	place  door.Place
	seated bool
	gone   bool
}

// socket is a guest that is still everything else that a TCP connection is: what writes to it, and what watches it, needs
// its descriptor.
type socket struct {
	*net.TCPConn
	guest
}

// pipe is a guest without a descriptor, such as a test's.
type pipe struct {
	net.Conn
	guest
}

// Close implements net.Conn.
func (c *socket) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

// Close implements net.Conn.
func (c *pipe) Close() error {
	c.leave()
	return c.Conn.Close()
}

// leave counts a guest out, once.
func (g *guest) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		g.gone = true
		g.crowd.Leave(g.place, g.seated)
	}
}

// sit gives a guest a seat, or has it count for another place from now on.
func (g *guest) sit(p door.Place) door.Room {
	g.mu.Lock()
	defer g.mu.Unlock()
	room := door.Seated
	switch {
	case g.gone:
		return room // nobody is left to be told anything
	case !g.seated:
		room = g.crowd.Sit(g.place, p)
	case g.place != p:
		room = g.crowd.Move(g.place, p)
	}
	if room == door.Seated {
		g.place, g.seated = p, true
	}
	return room
}

func (g *guest) self() *guest { return g }

// handOver lets another connection be counted instead.
func (g *guest) handOver() counted {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return counted{}
	}
	g.gone = true
	return counted{g.crowd, g.place, g.seated}
}

// counted is what is left of a guest that stays where it is.
type counted struct {
	crowd  *door.Crowd // nil when it is not counted
	place  door.Place
	seated bool
}

func (c *counted) leave() {
	if c.crowd != nil {
		c.crowd.Leave(c.place, c.seated)
	}
}

// guestOf finds the guest behind a request's connection; nil when that did not come by the entrance.
func guestOf(conn net.Conn) *guest {
	if borrowed, ok := conn.(*lent); ok {
		conn = borrowed.Conn
	}
	if secure, ok := conn.(*fanout.TLSConn); ok {
		conn = secure.NetConn()
	}
	if g, ok := conn.(interface{ self() *guest }); ok {
		return g.self()
	}
	return nil
}

// seat tells whether there is room for the client that a request comes from. When there is none it answers.
func (s *Server) seat(ctx *fasthttp.RequestCtx) (ok bool) {
	g := guestOf(ctx.Conn())
	if g == nil {
		return true
	}
	switch g.sit(s.placeOf(ctx)) {
	case door.Full:
		s.refuseSeat(ctx, "crowd", rest.Problem{Status: fasthttp.StatusServiceUnavailable, Code: "not_ready", Detail: "too many connections; try another server"})
		return false
	case door.PlaceFull:
		s.refuseSeat(ctx, "address", rest.Problem{Status: fasthttp.StatusTooManyRequests, Code: "rate", Detail: "too many connections from your address"})
		return false
	}
	return true
}

// rise ends what seat has begun: a connection of a proxy's waits for the next client's request, and is nobody's meanwhile.
func (s *Server) rise(ctx *fasthttp.RequestCtx) {
	if g := guestOf(ctx.Conn()); g != nil && !ctx.Hijacked() && s.proxies.Contain(g.peer) {
		g.sit(0)
	}
}

// refuseSeat says why, in a way that streams come back by.
func (s *Server) refuseSeat(ctx *fasthttp.RequestCtx, reason string, p rest.Problem) {
	s.metrics.refused.WithLabelValues(reason).Inc()
	if ctx.IsGet() && strings.HasPrefix(string(ctx.Path()), "/v1/sse/") && !prefersJSON(ctx) {
		s.turnAway(ctx, "overload")
		return
	}
	ctx.SetConnectionClose() // it stands where the next one wants to hear the same
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "10")
	rest.Fail(ctx, p)
}
