package target

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/all"
)

// edge is the real WebSocket edge, fed by hand.
type edge struct {
	registry *prometheus.Registry
	addr     string
	record   func(t wire.Template, payload []byte) error
	stop     context.CancelFunc
	running  sync.WaitGroup
	failed   error
}

func startEdge(cfg *Config, m *maker) (*edge, error) {
	service := all.DefaultConfig().WS
	service.Addr, service.Drain = "127.0.0.1:0", time.Millisecond
	service.Flush, service.Shards, service.MaxConns = cfg.Flush, max(1, cfg.Shards), 20_000
	if cfg.RingEntries > 0 {
		service.Mirror.RingEntries = cfg.RingEntries
	}
	if cfg.RingBytes > 0 {
		service.Mirror.RingBytes = cfg.RingBytes
	}
	log, err := zap.NewProduction(zap.IncreaseLevel(zap.ErrorLevel))
	if err != nil {
		return nil, err
	}
	e := &edge{registry: prometheus.NewRegistry()}
	server, err := all.NewEdge(service, all.Deps{Log: log, Metrics: e.registry, Out: io.Discard})
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
	mirror := server.Mirror()
	e.record = func(t wire.Template, payload []byte) error {
		mu.Lock()
		defer mu.Unlock()
		offset++
		return mirror.Record(0, offset, t, payload)
	}
	mirror.Expect(1)
	mirror.Phase(0, stream.PhaseReset, nil)
	if err := e.list(m); err != nil {
		return nil, err
	}
	mirror.Phase(0, stream.PhaseReady, nil)
	e.running.Go(func() { e.beat(ctx) })
	return e, nil
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

// counters reads what the edge tells its operator.
func (e *edge) counters() map[string]float64 {
	families, err := e.registry.Gather()
	if err != nil {
		return nil
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			all[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func (e *edge) close() error {
	e.stop()
	e.running.Wait()
	return e.failed
}
