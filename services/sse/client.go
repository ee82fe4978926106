package sse

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// client is one stream's connection. It costs no goroutine: the hub writes, the watcher sees when the peer hangs up, and the
// server's sweep looks at the time. It implements fanout.Events.
type client struct {
	s      *Server
	view   *view
	net    net.Conn
	conn   *fanout.Conn
	sub    *fanout.Sub
	grant  *auth.Grant // guarded by Server.clientsMu
	party  *door.Party
	number uint64
	ends   time.Duration // when it has lasted long enough; 0 is never
	mu     sync.Mutex    // held while it is being attached; what follows Closed waits for that
	index  int           // in Server.clients, guarded by clientsMu
	parted time.Duration // when it had been told everything, guarded by clientsMu
	going  bool          // it is being sent away, guarded by clientsMu
	hung   bool          // the peer has hung up, guarded by clientsMu
	form   form
}

// hijack takes the connection away from fasthttp, which never does it when the connection breaks meanwhile: what has to be
// given back is taken by then, and not before.
func (s *Server) hijack(ctx *fasthttp.RequestCtx, then func(net.Conn)) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		conn = keep(conn)
		s.clientsMu.Lock()
		over := s.over
		if !over {
			s.taken.Add(1)
		}
		s.clientsMu.Unlock()
		if over {
			_ = conn.Close()
			return
		}
		defer s.taken.Done()
		then(conn)
	})
}

// take makes a stream of the connection.
func (s *Server) take(ctx *fasthttp.RequestCtx, c *client, p spec, r resume) {
	head := appendHeader(nil, ctx, c.form)
	s.hijack(ctx, func(conn net.Conn) {
		c.net = conn
		if !c.grant.Anonymous() {
			if c.party = s.access.Join(c.grant); c.party == nil {
				s.farewell(conn, head, c.form, "overload")
				return
			}
		}
		var wrong *rest.Problem
		if c.view, wrong = s.enter(p); wrong != nil { // it was there a moment ago
			s.access.Leave(c.party)
			s.farewell(conn, head, c.form, "overload")
			return
		}
		if err := s.attach(c, c.view.join(c.form, r), head); err != nil {
			_ = c.net.Close()
			s.leave(c.view)
			s.access.Leave(c.party)
			return
		}
		if !s.hangups.watch(c) {
			_, _ = io.Copy(io.Discard, c.net) // nobody else sees it hang up
			c.hangUp()
		}
	})
}

// attach gives the connection to the hub.
func (s *Server) attach(c *client, at place, head []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.net.SetDeadline(time.Time{}); err != nil { // those of the request would end the stream
		return err
	}
	c.net = strip(c.net)
	if s.cfg.MaxAge > 0 {
		spread := s.cfg.MaxAge / 5
		c.ends = s.now() + s.cfg.MaxAge - spread + rand.N(2*spread+1) //nolint:gosec // to spread clients
	}
	conn, err := s.hub.Attach(fanout.NewWriter(c.net), c)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.form == gzipped {
		conn.Observe(new(tally))
	}
	c.sub = conn.Subscribe(at.log, fanout.Start{Position: at.next, Seq: at.seq})
	c.sub.Begin(at.first)
	hello := s.hello(c.view, c.form, &at)
	first := fanout.RawFrame(append(head, hello.Bytes()...), 0)
	first.Tag = hello.Tag
	conn.Send(first) // not by the subscription, or a goodbye might overtake it
	s.add(c)
	c.sub.Go()
	if s.draining.Load() { // and whoever drains may not have seen it
		c.part("drain")
	}
	return nil
}

// add counts a client in.
func (s *Server) add(c *client) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	s.number++
	c.number, c.index = s.number, len(s.clients)
	s.clients = append(s.clients, c)
	s.metrics.streams.Inc()
}

func (s *Server) remove(c *client) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	end := len(s.clients) - 1
	last := s.clients[end]
	s.clients[c.index], last.index = last, c.index
	s.clients[end] = nil
	s.clients = s.clients[:end]
}

// Lag implements fanout.Events; what a slow client missed is said in the stream.
func (c *client) Lag([]fanout.Lagged, time.Duration) *fanout.Frame { return nil }

// Slow implements fanout.Events.
func (c *client) Slow() *fanout.Frame { return nil }

// Closed implements fanout.Events. When everything has been written, the peer still has to read it; it hangs up then, or is
// hung up on by the sweep.
func (c *client) Closed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sub.Cancel()
	c.s.leave(c.view)
	c.s.access.Leave(c.party)
	c.s.metrics.ended(err)
	c.s.metrics.streams.Dec()
	if err != fanout.ErrClosed { //nolint:errorlint // it comes as it is
		c.s.hangups.forget(c)
		c.s.remove(c)
		return
	}
	c.s.clientsMu.Lock()
	hung := c.hung
	c.parted = c.s.now()
	c.s.clientsMu.Unlock()
	if hung {
		c.finish()
	}
}

// hangUp closes the connection: the peer is gone.
func (c *client) hangUp() {
	c.conn.Abort()
	c.s.clientsMu.Lock()
	parted := c.parted != 0
	c.hung = true // should it be on its way to Closed just now
	c.s.clientsMu.Unlock()
	if parted {
		c.finish()
	}
}

// finish closes a connection that has been told everything. It may be called twice.
func (c *client) finish() {
	c.s.clientsMu.Lock()
	finished := c.parted == 0
	c.parted = 0
	c.s.clientsMu.Unlock()
	if finished {
		return
	}
	_ = c.net.Close()
	c.s.hangups.forget(c)
	c.s.remove(c)
}

// part sends the client away.
func (c *client) part(why string) {
	c.s.clientsMu.Lock()
	going := c.going
	c.going = true
	c.s.clientsMu.Unlock()
	if going {
		return
	}
	c.s.metrics.goodbyes.WithLabelValues(why).Inc()
	c.conn.Close(goodbye(c.form, why))
}

// closeTimeout is how long a client that has been sent away may take to hang up.
const closeTimeout = 2 * time.Second

// sweepClients sends away those who have been here long, and hangs up on those who were sent away and stay.
func (s *Server) sweepClients(now time.Duration) {
	s.clientsMu.Lock()
	var old, parted, lapsed []*client
	for _, c := range s.clients {
		switch {
		case c.parted != 0:
			if now-c.parted > closeTimeout {
				parted = append(parted, c)
			}
		case c.going:
		case c.ends != 0 && now > c.ends:
			old = append(old, c)
		default:
			if g := s.renew(c.grant, &c.view.spec); g != nil {
				c.grant = g
			} else {
				lapsed = append(lapsed, c)
			}
		}
	}
	s.clientsMu.Unlock()
	for _, c := range lapsed {
		c.part("expired")
	}
	for _, c := range old {
		c.part("age")
	}
	for _, c := range parted {
		c.hangUp()
	}
}

// hangUpAll closes what is left at the end.
func (s *Server) hangUpAll() {
	s.clientsMu.Lock()
	all := append([]*client(nil), s.clients...)
	s.clientsMu.Unlock()
	for _, c := range all {
		c.hangUp()
	}
}
