// Package webhook is the service of price alerts: it evaluates the tenants' rules on md.events, and tells their endpoints what
// has fired, by signed requests, until they have taken it.
//
// # From an event to a request
//
// A partition of md.events has one owner among the instances (a lease in the database). The owner reads the events from the
// place of the last commit on, gives each to package rule, and commits what that did: the state of the rules, the events that
// were fired, their deliveries, and the new place, all at once (package store). From the deliveries on it is the sender's
// business (package deliver), which has leases of its own: each endpoint belongs to one instance at a time. What a crash takes
// away between two commits is done again, and comes out the same, since rules know no clock but the log's.
//
//	md.events ──► owner of partition ──► rule ──► store: state, events, deliveries, place ──► deliver ──► endpoint
//	                     ▲                                    ▲
//	                     └────────── changed rules ◄───────── API
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/webhook/deliver"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// Deps are what the service needs from outside.
type Deps struct {
	Log     *zap.Logger
	Metrics prometheus.Registerer
	Cluster *stream.Cluster
}

// Service is the webhook service.
type Service struct {
	cfg     Config
	log     *zap.Logger
	deps    Deps
	metrics *metrics
	step    func(*owner, string) // told of the owners' steps, by tests

	listening chan struct{}
	addr      string // set before listening is closed

	mu     sync.Mutex
	owners map[int]*owner // of the partitions whose leases we have
	st     *store.Store   // once it is open and the API answers; nil before and after
}

// New checks the configuration. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, log: deps.Log, deps: deps, metrics: m, listening: make(chan struct{}), owners: make(map[int]*owner),
	}, nil
}

// Listening is closed when Addr is known.
func (s *Service) Listening() <-chan struct{} { return s.listening }

// Addr is the address of the API, once Listening is closed.
func (s *Service) Addr() string {
	select {
	case <-s.listening:
		return s.addr
	default:
		return ""
	}
}

// Ready returns nil while every partition that is ours is being evaluated.
func (s *Service) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st == nil {
		return errors.New("the database is not open yet")
	}
	if len(s.owners) == 0 && s.cfg.Database == "" { // otherwise other instances may have them all
		return errTakingOver
	}
	for n, o := range s.owners {
		if err := o.err(); err != nil {
			return fmt.Errorf("partition %d: %w", n, err)
		}
	}
	return nil
}

// hold keeps the database at hand for Ready, nil for none.
func (s *Service) hold(st *store.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st = st
}

// Run serves until ctx ends or a part fails, and returns when everything it started has stopped.
func (s *Service) Run(ctx context.Context) error {
	tlsConfig, err := s.cfg.tls()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("--webhook-addr: %w", err)
	}
	defer func() { _ = ln.Close() }() // the API has, unless it was never started
	st, err := store.Open(ctx, store.Config{
		URL: s.cfg.Database, Dir: s.cfg.Data, Key: s.cfg.Key, OldKeys: s.cfg.OldKeys, Ephemeral: s.cfg.Ephemeral, Retention: s.cfg.Retention, LeaseTTL: s.cfg.leaseTTL,
		Quota: store.Quota{Alerts: s.cfg.API.MaxAlerts, Endpoints: s.cfg.API.MaxEndpoints},
	}, s.log)
	if err != nil {
		return err
	}
	defer s.close(st)
	sender, err := deliver.New(s.cfg.Deliver, deliver.Deps{Outbox: st, Log: s.log.Named("deliver"), Metrics: s.deps.Metrics})
	if err != nil {
		return err
	}
	api, err := newAPI(s.cfg.API, apiDeps{Log: s.log, Metrics: s.deps.Metrics, Store: st, Sender: sender, AdminToken: s.cfg.AdminToken, TLS: tlsConfig})
	if err != nil {
		return err
	}
	partitions, err := s.countPartitions(ctx)
	if err != nil {
		return nil //nolint:nilerr // it was told to stop
	}
	s.addr = ln.Addr().String()
	s.hold(st)
	defer s.hold(nil)
	close(s.listening)
	s.log.Info("listening", zap.String("addr", s.addr))

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return api.serve(ctx, ln) })
	group.Go(func() error { return sender.Run(ctx) })
	group.Go(func() error {
		return st.Own(ctx, store.KindPartition, partitions, func(ctx context.Context, l store.Lease) error { return s.evaluate(ctx, st, l) })
	})
	group.Go(func() error { return s.wakeOwners(ctx, st) })
	group.Go(func() error { return keepHouse(ctx, st, s.log) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// countPartitions waits until md.events is there.
func (s *Service) countPartitions(ctx context.Context) (int, error) {
	for {
		n, err := s.deps.Cluster.Partitions(ctx, s.deps.Cluster.Topics().Events)
		if err == nil {
			return n, nil
		}
		s.log.Warn("waiting for md.events", zap.Error(err))
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (s *Service) close(st *store.Store) {
	if err := st.Close(); err != nil {
		s.log.Error("close the database", zap.Error(err))
	}
}

// evaluate is what is done with the lease of a partition.
func (s *Service) evaluate(ctx context.Context, st *store.Store, l store.Lease) error {
	o := &owner{
		step: s.step, store: st, cluster: s.deps.Cluster, log: s.log, metrics: s.metrics, lease: l, partition: l.N, poke: make(chan struct{}, 1),
	}
	o.trouble(errTakingOver)
	s.mu.Lock()
	s.owners[l.N] = o
	s.mu.Unlock()
	s.metrics.partitions.Inc()
	defer func() {
		s.metrics.partitions.Dec()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.owners[l.N] == o { // the lease may have come back meanwhile
			delete(s.owners, l.N)
			s.metrics.forget(o.label())
		}
	}()
	return o.run(ctx)
}

var errTakingOver = errors.New("taking over")

// wakeOwners tells the owners here of rules that have changed.
func (s *Service) wakeOwners(ctx context.Context, st *store.Store) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-st.Changed():
			s.mu.Lock()
			o := s.owners[n]
			s.mu.Unlock()
			if o != nil {
				o.wake()
			}
		}
	}
}
