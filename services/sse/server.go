package sse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// Deps are what the edge needs from outside.
type Deps struct {
	Log     *zap.Logger
	Metrics prometheus.Registerer
	Cluster *stream.Cluster // what the edge's own mirror follows; nil when the caller feeds Mirror itself
	Mirror  *mirror.Mirror  // another edge's, which is shared; nil for one of its own
	Access  *door.Access    // shared with other edges, and run by the caller; nil for one of its own
	// WebSocket tells the URL of the process's WebSocket edge, "" when it is not known yet; nil when there is none.
	WebSocket func() string
}

// Server is the edge.
type Server struct {
	cfg     Config
	log     *zap.Logger
	cluster *stream.Cluster
	mirror  *mirror.Mirror
	shared  bool // the mirror is somebody else's, who feeds it
	access  *door.Access
	ours    bool // access is ours to run
	checks  *door.Checks
	origins door.Origins // of web pages whose visitors' cookies count
	proxies door.Proxies
	crowd   *door.Crowd
	tickets *tickets
	hub     *fanout.Hub
	tls     *tls.Config
	start   time.Time

	metrics *metrics
	hangups hangups
	ends    *ends
	*api

	listening chan struct{}
	addr      string // set before listening is closed
	draining  atomic.Bool
	stopping  chan struct{} // closed when it drains
	named     atomic.Uint64

	polling slots

	viewsMu sync.Mutex
	views   map[string]*view // by spec.key
	beating []*view          // keepTime's own

	clientsMu sync.Mutex
	clients   []*client // each knows its place
	over      bool      // no connection is taken from fasthttp any more
	taken     sync.WaitGroup
	number    uint64
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
		cfg: cfg, log: deps.Log, cluster: deps.Cluster, mirror: deps.Mirror, shared: deps.Mirror != nil, tls: tlsConfig,
		access: deps.Access, tickets: newTickets(), crowd: door.NewCrowd(cfg.MaxConns, cfg.MaxPerIP), checks: door.NewChecks("sse"),
		listening: make(chan struct{}), stopping: make(chan struct{}), start: time.Now(), views: make(map[string]*view), polling: make(slots, cfg.MaxPolls), ends: newEnds(deps.Cluster),
		hub: fanout.New(fanout.Config{Shards: cfg.Shards, FlushInterval: cfg.Flush, WriteTimeout: cfg.stall}),
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
	if !s.shared {
		s.mirror = mirror.New(cfg.Mirror, s.hub, deps.Log.Named("mirror"))
	}
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		return nil, err
	}
	if s.api, err = newAPI(&cfg, &deps); err != nil {
		return nil, err
	}
	return s, nil
}

// Times of a connection.
const (
	headerTimeout = 5 * time.Second  // for a request to arrive
	idleTimeout   = 75 * time.Second // between requests
	answerTimeout = 60 * time.Second // for a peer to take an answer; a stream has stallTimeout
	stallTimeout  = 15 * time.Second // for a stream whose client takes nothing
	maxHeader     = 16 << 10
)

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
	if s.logID() == "" {
		return errors.New("the log has no name yet")
	}
	return errors.Join(s.access.Ready(), s.mirror.Ready())
}

// logID names the life of md.events that positions belong to.
func (s *Server) logID() string { return s.mirror.LogID() }

// now is the edge's clock. It starts at one nanosecond, so that zero can mean never.
func (s *Server) now() time.Duration { return time.Since(s.start) + 1 }

// keepTime lets views publish at their rates, and once a second looks at everything that time decides.
func (s *Server) keepTime(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.beatViews(n)
		if n%int(time.Second/beatEvery) == 0 {
			now := s.now()
			s.sweepViews(now)
			s.sweepClients(now)
		}
	}
}

// drainPoll is how often those are counted who have been sent away and are still here.
const drainPoll = 50 * time.Millisecond

// drain sends every client away, in waves over the window, and waits until they are gone, but not for ever.
func (s *Server) drain() {
	s.clientsMu.Lock()
	all := append([]*client(nil), s.clients...)
	s.clientsMu.Unlock()
	if len(all) == 0 {
		return
	}
	s.log.Info("draining", zap.Int("streams", len(all)), zap.Duration("window", s.cfg.Drain))
	door.Waves(s.cfg.Drain, len(all), func(i int) { all[i].part("drain") })
	for waited := time.Duration(0); waited < closeTimeout+time.Second && s.open() > 0; waited += drainPoll {
		time.Sleep(drainPoll)
	}
}

// open counts the streams that have not ended.
func (s *Server) open() int {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	return len(s.clients)
}

// Run serves until ctx ends; then it sends the clients away and returns when the last of them is gone.
func (s *Server) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("--sse-addr: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve is Run on a listener that is open already, and closes it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.hangups.close()
	s.addr = ln.Addr().String()
	close(s.listening)
	s.log.Info("listening", zap.String("addr", s.addr), zap.Bool("tls", s.tls != nil))
	s.hub.Start()
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
	http := &fasthttp.Server{
		Handler: s.handle, Name: "tickwire", ReadTimeout: headerTimeout, IdleTimeout: idleTimeout, WriteTimeout: answerTimeout,
		ReadBufferSize: maxHeader, MaxRequestBodySize: 4 << 10, NoDefaultServerHeader: true, ReduceMemoryUsage: true,
		CloseOnShutdown: true, Logger: quiet{}, Concurrency: math.MaxInt32, // the crowd has its own bounds
	}
	ln = door.Listen(ln, s.log)
	loans := &lending{Listener: entrance{ln, s}}
	feeding.Go(func() { broken <- http.Serve(loans) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}
	s.draining.Store(true)
	close(s.stopping)
	s.drain()
	late := time.AfterFunc(headerTimeout, loans.recall) // or Shutdown would wait as long as peers take for their answers
	if e := http.Shutdown(); err == nil {
		err = e
	}
	late.Stop()
	_ = ln.Close() // Shutdown has closed it, unless Serve had not begun
	stop()
	feeding.Wait()
	s.clientsMu.Lock()
	s.over = true
	s.clientsMu.Unlock()
	s.hub.Close()
	s.hangUpAll()
	s.taken.Wait()
	return err
}

// follow feeds the mirror, unless somebody else does. It returns an error when that can't go on.
func (s *Server) follow(ctx context.Context) error {
	switch {
	case s.shared:
	case s.cluster == nil:
		_ = s.mirror.Run(ctx) // ends by ctx alone
	default:
		if err := s.mirror.Follow(ctx, s.cluster); ctx.Err() == nil {
			return fmt.Errorf("read the market: %w", err)
		}
	}
	return nil
}

// quiet drops what fasthttp would log: it is about single peers, who are counted instead.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
