package target

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/all"
)

// edge is a real edge, the WebSocket's or the public one, fed by hand.
type edge struct {
	registry *prometheus.Registry
	addr     string
	record   func(t wire.Template, payload []byte) error
	stop     context.CancelFunc
	running  sync.WaitGroup
	failed   error
}

// service is what either edge is.
type service interface {
	Run(ctx context.Context) error
	Listening() <-chan struct{}
	Addr() string
}

// events is the edge's mirror, which waits for a log's records.
type events interface {
	Expect(partitions int)
	Name(id func() string)
	Phase(partition int, phase stream.Phase, why error)
	Record(partition int, offset int64, t wire.Template, value []byte) error
}

func startEdge(cfg *Config, m *maker) (*edge, error) {
	log, err := zap.NewProduction(zap.IncreaseLevel(zap.ErrorLevel))
	if err != nil {
		return nil, err
	}
	e := &edge{registry: prometheus.NewRegistry()}
	server, mirror, err := cfg.makeEdge(all.Deps{Log: log, Metrics: e.registry, Out: io.Discard})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	ended := make(chan struct{})
	e.running.Go(func() {
		e.failed = server.Run(ctx)
		close(ended)
	})
	select {
	case <-server.Listening():
	case <-ended:
		return nil, e.failed
	}
	e.addr = server.Addr()
	var mu sync.Mutex // records of one partition come one after the other
	var offset int64
	e.record = func(t wire.Template, payload []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if t != wire.TemplateOwnerHeartbeat { // so that a message has the same offset in every edge with the same plan
			offset++
		}
		return mirror.Record(0, offset, t, payload)
	}
	mirror.Expect(1)
	mirror.Name(func() string { return logID })
	mirror.Phase(0, stream.PhaseReset, nil)
	if err := e.list(m); err != nil {
		return nil, err
	}
	mirror.Phase(0, stream.PhaseReady, nil)
	e.running.Go(func() { e.beat(ctx) })
	return e, nil
}

// makeEdge makes the edge that is to be measured.
func (c *Config) makeEdge(deps all.Deps) (service, events, error) {
	defaults := all.DefaultConfig()
	if c.SSE {
		cfg := defaults.SSE
		cfg.Addr, cfg.Drain, cfg.MaxAge, cfg.RestRate = "127.0.0.1:0", time.Millisecond, 0, 0 // all clients come from one address
		cfg.Flush, cfg.Shards, cfg.MaxConns = c.Flush, max(1, c.Shards), 20_000
		server, err := all.NewPublicEdge(cfg, deps)
		if err != nil {
			return nil, nil, err
		}
		return server, server.Mirror(), nil
	}
	cfg := defaults.WS
	cfg.Addr, cfg.Drain = "127.0.0.1:0", time.Millisecond
	cfg.Flush, cfg.Shards, cfg.MaxConns = c.Flush, max(1, c.Shards), 20_000
	server, err := all.NewEdge(cfg, deps)
	if err != nil {
		return nil, nil, err
	}
	return server, server.Mirror(), nil
}

// list tells the edge what there is.
func (e *edge) list(m *maker) error {
	now := market.FromTime(time.Now())
	for i := range m.topics {
		status := market.Status{Head: market.Head{Inst: uint32(i + 1), Epoch: Epoch, Seq: 1, Time: now, In: now}, Instrument: m.topics[i].inst}
		if err := e.record(wire.TemplateStatus, wire.AppendStatus(nil, &status)); err != nil {
			return err
		}
		if m.channel != market.Books {
			continue
		}
		if err := e.record(wire.TemplateBookSnapshot, m.snapshot(i, now)); err != nil {
			return err
		}
	}
	return nil
}

// beat is the partition's owner: it lives.
func (e *edge) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); ; {
		h := wire.OwnerHeartbeat{Time: market.FromTime(now), Sources: []wire.SourceClock{{Source: "bench", Last: market.FromTime(now)}}}
		_ = e.record(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(nil, &h)) // of our own making
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
	}
}

func (e *edge) publish(_ int, t wire.Template, payload []byte) error { return e.record(t, payload) }

func (e *edge) address() string { return e.addr }

// counters reads what the edge tells its operator, without the edge's own prefix.
func (e *edge) counters() map[string]float64 {
	families, err := e.registry.Gather()
	if err != nil {
		return nil
	}
	all := make(map[string]float64)
	for _, f := range families {
		_, name, _ := strings.Cut(f.GetName(), "_")
		for _, m := range f.GetMetric() {
			all[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func (e *edge) close() error {
	e.stop()
	e.running.Wait()
	return e.failed
}
