package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// MemoryConfig describes idle connections.
type MemoryConfig struct {
	SSE     bool // event streams of the public edge, rather than the WebSocket's
	Clients int
	Topics  int
	Each    int
	Channel string
	JSON    bool
	Settle  time.Duration
	Seed    uint64
	Heap    string // file for a heap profile of the edge, settled
}

// DefaultMemory is ten thousand connections on twenty topics each.
func DefaultMemory() MemoryConfig {
	return MemoryConfig{Clients: 10_000, Topics: 200, Each: 20, Channel: "trades", Settle: 30 * time.Second, Seed: 1}
}

// DefaultStreamMemory is ten thousand clients of one stream, with time for two heartbeats.
func DefaultStreamMemory() MemoryConfig {
	return MemoryConfig{SSE: true, Clients: 10_000, Topics: 1, Each: 1, Channel: "trades", JSON: true, Settle: 35 * time.Second, Seed: 1}
}

// MemoryReport tells what idle connections cost.
type MemoryReport struct {
	Where      Where
	Config     MemoryConfig
	Before     int64         // bytes resident before the clients came
	After      int64         // with all of them, settled
	Freed      int64         // after the runtime gave back what it kept to itself
	PerConn    float64       // KiB, settled
	PerFreed   float64       // KiB, given back
	CPU        float64       // percent of a core that the idle connections keep busy (heartbeats, pings)
	Goroutines int           // with all of them
	Few        int           // goroutines before they came
	Connect    time.Duration // until the last one had subscribed
	Faults     faults
}

// Memory measures the resident memory of idle connections.
func Memory(ctx context.Context, cfg MemoryConfig) (*MemoryReport, error) {
	if cfg.Clients < 1 || cfg.Clients > 19_500 || cfg.Each < 1 || cfg.Each > cfg.Topics {
		return nil, errors.New("--clients: from 1 to 19,500; --each: from 1 to --topics")
	}
	r := &MemoryReport{Where: Here(), Config: cfg}
	m, err := prepare(ctx, setup{
		target:  target.Config{Kind: target.Edge, SSE: cfg.SSE, Topics: cfg.Topics, Size: 154, Channel: cfg.Channel},
		clients: split(cfg.Clients), each: cfg.Each, json: cfg.JSON, seed: cfg.Seed,
	})
	if err != nil {
		return nil, err
	}
	defer m.kill()
	if err := m.server.Call("free", nil, nil); err != nil {
		return nil, err
	}
	r.Before = m.server.RSS()
	stats, err := m.stats()
	if err != nil {
		return nil, err
	}
	r.Few = stats.Goroutines
	began := time.Now()
	if err := m.connect(); err != nil {
		return nil, err
	}
	r.Connect = time.Since(began)
	if err := m.each("begin"); err != nil {
		return nil, err
	}
	cpu, began := m.server.CPU(), time.Now()
	if err := pause(ctx, cfg.Settle); err != nil {
		return nil, err
	}
	r.CPU = 100 * (m.server.CPU() - cpu).Seconds() / time.Since(began).Seconds()
	r.After = m.server.RSS()
	if stats, err = m.stats(); err != nil {
		return nil, err
	}
	r.Goroutines = stats.Goroutines
	if cfg.Heap != "" {
		if err := m.server.Call("heap", cfg.Heap, nil); err != nil {
			return nil, err
		}
	}
	if err := m.server.Call("free", nil, nil); err != nil {
		return nil, err
	}
	r.Freed = m.server.RSS()
	r.PerConn = float64(r.After-r.Before) / float64(cfg.Clients) / 1024
	r.PerFreed = float64(r.Freed-r.Before) / float64(cfg.Clients) / 1024
	for _, p := range m.swarms {
		var s swarm.Report
		if err := p.Call("report", swarm.Have{}, &s); err != nil {
			return nil, err
		}
		r.Faults.add(&s)
	}
	return r, m.end()
}

// Table implements Report.
func (r *MemoryReport) Table() string {
	c := &r.Config
	mib := func(b int64) string { return fmt.Sprintf("%.1f", float64(b)/(1<<20)) }
	what := fmt.Sprintf("idle connections, %d topics each, %s", c.Each, format(c.JSON))
	if c.SSE {
		what = fmt.Sprintf("idle event streams, %d topics each", c.Each)
	}
	return table(fmt.Sprintf("%s; %v", what, r.Where), [][]string{
		{"clients", "connected in", "RSS before, MiB", "settled", "given back", "KiB each", "given back", "% of a core", "goroutines before, with"},
		{
			fmt.Sprint(c.Clients), r.Connect.Round(10 * time.Millisecond).String(), mib(r.Before), mib(r.After), mib(r.Freed),
			fmt.Sprintf("%.2f", r.PerConn), fmt.Sprintf("%.2f", r.PerFreed), fmt.Sprintf("%.1f", r.CPU), fmt.Sprintf("%d, %d", r.Few, r.Goroutines),
		},
	})
}

// Err implements Report.
func (r *MemoryReport) Err() error { return r.Faults.err() }
