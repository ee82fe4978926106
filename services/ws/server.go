// Package ws is the WebSocket edge: GET /v1/ws as docs/PROTOCOL.md says.
//
// A connection is a session. Its reading side is gws on a goroutine of its own, behind a guard that looks at every frame
// first; its writing side belongs to a fanout.Conn from the upgrade on, so that one loop writes to all clients and none of
// them can hold it up. What clients subscribe to are the topics of a mirror.
package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// Deps are what the edge needs from outside.
type Deps struct {
	Log     *zap.Logger
	Metrics prometheus.Registerer
	Cluster *stream.Cluster // nil when the caller feeds Mirror itself
	Access  *door.Access    // shared with other edges, and run by the caller; nil for one of its own
}

// Server is the edge.
type Server struct {
	cfg       Config
	log       *zap.Logger
	cluster   *stream.Cluster
	hub       *fanout.Hub
	mirror    *mirror.Mirror
	metrics   *metrics
	tls       *tls.Config
	upgraders map[terms]*gws.Upgrader
	greet     func(*session, uint64) // what comes first; a test of the transport alone has nothing to say
	bounds    bounds
	origins   door.Origins
	proxies   door.Proxies
	crowd     *door.Crowd
	access    *door.Access
	ours      bool // access is ours to run
	checks    *door.Checks
	workers   *workers
	start     time.Time

	listening chan struct{}
	addr      string // set before listening is closed
	draining  atomic.Bool

	mu       sync.Mutex
	sessions []*session // each knows its place
	number   uint64
	running  sync.WaitGroup

	// The sweep's own.
	swept  []*session
	seen   uint64 // sessions ever, when it last looked
	tidied uint64 // and when it last gave memory back
}

// New prepares an edge. It binds nothing and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.Edge.TLS()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: deps.Log, cluster: deps.Cluster, tls: tlsConfig, access: deps.Access, checks: door.NewChecks("ws"),
		greet: (*session).greet, bounds: newBounds(cfg.MaxMessage),
		listening: make(chan struct{}), crowd: door.NewCrowd(cfg.MaxConns, cfg.MaxPerIP), workers: newWorkers(), start: time.Now(),
		hub: fanout.New(fanout.Config{Shards: cfg.Shards, FlushInterval: cfg.Flush, MaxPass: maxPass, WriteTimeout: writeTimeout, MaxControl: cfg.maxControl}),
	}
	if s.origins, err = door.ParseOrigins(cfg.Origins); err != nil {
		return nil, err
	}
	if s.proxies, err = door.ParseProxies(cfg.Edge.Proxies); err != nil {
		return nil, err
	}
	if s.ours = deps.Access == nil; s.ours {
		if s.access, err = cfg.Edge.Access(s.log); err != nil {
			return nil, err
		}
	}
	s.mirror = mirror.New(cfg.Mirror, s.hub, deps.Log.Named("mirror"))
	s.hub.SetBeat(fanout.Pulse, fanout.NewFrame(fanout.Ping, []byte("tickwire")))
	s.upgraders = map[terms]*gws.Upgrader{}
	for _, protocol := range []string{"", wire.SubprotocolJSON, wire.SubprotocolSBE} {
		for _, deflate := range []bool{false, true} {
			t := terms{protocol, deflate}
			s.upgraders[t] = newUpgrader(t, cfg.MaxMessage, handler{})
		}
	}
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Mirror is the edge's view of the market.
func (s *Server) Mirror() *mirror.Mirror { return s.mirror }

// Listening is closed when Addr is known.
func (s *Server) Listening() <-chan struct{} { return s.listening }

// Addr is the address that the edge listens on, once Listening is closed.
func (s *Server) Addr() string {
	select {
	case <-s.listening:
		return s.addr
	default:
		return ""
	}
}

// Ready returns nil when clients should be sent here.
func (s *Server) Ready() error {
	switch {
	case s.Addr() == "":
		return errors.New("not listening")
	case s.draining.Load():
		return errors.New("draining")
	}
	return errors.Join(s.access.Ready(), s.mirror.Ready())
}

// Run serves until ctx ends; then it sends the clients away and returns when the last of them is gone.
func (s *Server) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("--ws-addr: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve is Run on a listener that is open already, and closes it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.addr = ln.Addr().String()
	close(s.listening)
	s.log.Info("listening", zap.String("addr", s.addr), zap.Bool("tls", s.tls != nil))
	s.hub.Start()
	// What feeds the clients goes on while they are sent away.
	feed, stop := context.WithCancel(context.WithoutCancel(ctx))
	var feeding sync.WaitGroup
	broken := make(chan error, 2)
	feeding.Go(func() {
		if err := s.follow(feed); err != nil {
			broken <- err
		}
	})
	feeding.Go(func() { s.keepTime(feed) })
	if s.ours {
		feeding.Go(func() { s.access.Run(feed) })
	}
	s.workers.start()
	// So does accept: those who come now are told to go elsewhere.
	open, shut := context.WithCancel(context.WithoutCancel(ctx))
	ln = door.Listen(own(ln), s.log)
	feeding.Go(func() { broken <- s.accept(open, ln) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}
	s.draining.Store(true)
	s.drain()
	shut()
	_ = ln.Close() // accept ends by it, or has said why it ended
	stop()
	feeding.Wait()
	s.hub.Close()
	s.running.Wait()
	s.workers.stop()
	return err
}

// follow feeds the mirror. It returns an error when that can't go on.
func (s *Server) follow(ctx context.Context) error {
	if s.cluster == nil {
		_ = s.mirror.Run(ctx) // ends by ctx alone
		return nil
	}
	if err := s.mirror.Follow(ctx, s.cluster); ctx.Err() == nil {
		return fmt.Errorf("read the market: %w", err)
	}
	return nil
}

// accept takes connections until ctx ends.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // came too late
			}
			return nil
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		v := visitors.Get().(*visitor)
		*v = visitor{conn: conn, peer: door.PeerOf(conn)}
		v.place = s.proxies.PlaceOfPeer(v.peer)
		if !s.crowd.Enter(v.place) {
			s.metrics.refused.WithLabelValues(reasonCrowd).Inc()
			_ = conn.Close() // there is no room to say why
			v.giveBack()
			continue
		}
		s.running.Go(func() { s.handshake(ctx, v) })
	}
}

func (s *Server) add(c *session) (number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.index = int32(len(s.sessions)) //nolint:gosec // no process has so many descriptors
	s.sessions = append(s.sessions, c)
	s.number++
	return s.number
}

func (s *Server) remove(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := len(s.sessions) - 1
	last := s.sessions[end]
	s.sessions[c.index], last.index = last, c.index
	s.sessions[end] = nil
	s.sessions = s.sessions[:end]
}

// all copies the list of sessions into dst.
func (s *Server) all(dst []*session) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(dst[:0], s.sessions...)
}

// now is the edge's clock. It starts at one nanosecond, so that zero can mean never.
func (s *Server) now() time.Duration { return time.Since(s.start) + 1 }

// sweep ends the connections whose time is up, and has the others sent what they get each second. One look at all of them
// costs less than a timer for each.
func (s *Server) sweep(second int) {
	s.swept = s.all(s.swept)
	now := s.now()
	for i, c := range s.swept {
		c.check(now)
		c.audit(now)
		c.beat(second)
		s.swept[i] = nil
	}
	s.tidy()
}

// storm is how many handshakes leave so much behind that it is worth giving back.
const storm = 1000

// tidy gives back the memory that many handshakes have left behind, once they are over: the collector by itself lets it
// lie for minutes, for the next ones.
func (s *Server) tidy() {
	s.mu.Lock()
	number := s.number
	s.mu.Unlock()
	if over := number == s.seen; over && number-s.tidied >= storm {
		s.tidied = number
		debug.FreeOSMemory()
	}
	s.seen = number
}

// keepTime sends heartbeats and pings, and looks for those whose time is up.
func (s *Server) keepTime(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			beat := wire.AppendHeartbeat(nil, market.FromTime(now))
			s.hub.SetBeat(fanout.Heartbeat, fanout.NewFrame(fanout.Text, beat))
			s.sweep(n)
		}
	}
}

// drain sends every client away, in waves over the window.
func (s *Server) drain() {
	all := s.all(nil)
	if len(all) == 0 {
		return
	}
	s.log.Info("draining", zap.Int("connections", len(all)), zap.Duration("window", s.cfg.Drain))
	window := uint32(s.cfg.Drain.Milliseconds())
	notice := fanout.NewFrame(fanout.Text, wire.AppendDrain(nil, &wire.Drain{DeadlineMs: window, RetryMs: [2]uint32{100, max(window, 1000)}}))
	for _, c := range all {
		c.conn.Send(notice)
	}
	door.Waves(s.cfg.Drain, len(all), func(i int) { all[i].part(wire.CloseRestart, "the server restarts") })
	deadline := time.NewTimer(closeTimeout + time.Second)
	defer deadline.Stop()
	for _, c := range all {
		select {
		case <-c.gone():
		case <-deadline.C:
			return // Hub.Close ends those that are stuck
		}
	}
}
