package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// StormConfig describes clients whose edge is killed, and who all come to another one at once.
type StormConfig struct {
	SSE      bool          // event streams of the public edge, rather than the WebSocket's
	Stream   time.Duration // their rate
	Clients  int
	Topics   int
	Each     int
	Rate     float64
	Channel  string
	JSON     bool
	Before   time.Duration // of peace
	Deadline time.Duration // for all to be served
	Seed     uint64
}

// DefaultStorm has ten thousand clients resume.
func DefaultStorm() StormConfig {
	return StormConfig{
		Clients: 10_000, Topics: 200, Each: 20, Rate: 1000, Channel: "trades", Before: 3 * time.Second, Deadline: 60 * time.Second, Seed: 1,
	}
}

// DefaultStreamStorm has ten thousand clients resume one stream.
func DefaultStreamStorm() StormConfig {
	return StormConfig{
		SSE: true, Stream: 250 * time.Millisecond, Clients: 10_000, Topics: 1, Each: 1, Rate: 100, Channel: "trades", JSON: true,
		Before: 3 * time.Second, Deadline: 60 * time.Second, Seed: 1,
	}
}

// StormReport tells how it went.
type StormReport struct {
	Where    Where
	Config   StormConfig
	Served   int           // clients with everything they missed, and a message that was due after their connection ended
	Elapsed  time.Duration // from the kill to the last of them
	Failures int           // connections refused or reset on the way
	Why      string
	CPU      time.Duration // of the second edge, from the kill to the last
	RSS      int64         // of it, then
	Messages int64
	Faults   faults
}

// Storm kills an edge with kill -9 while another one, which follows the same log, stands by.
func Storm(ctx context.Context, cfg StormConfig) (*StormReport, error) {
	if cfg.Clients < 1 || cfg.Clients > 19_000 || cfg.Each < 1 || cfg.Each > cfg.Topics {
		return nil, errors.New("--clients: from 1 to 19,000; --each: from 1 to --topics")
	}
	r := &StormReport{Where: Here(), Config: cfg}
	edge := target.Config{Kind: target.Edge, SSE: cfg.SSE, Topics: cfg.Topics, Size: 154, Channel: cfg.Channel}
	m, err := begin(ctx, setup{target: edge, clients: split(cfg.Clients), each: cfg.Each, json: cfg.JSON, rate: cfg.Stream, seed: cfg.Seed})
	if err != nil {
		return nil, err
	}
	defer m.kill()
	second, started, err := startTarget(ctx, edge)
	if err != nil {
		return nil, err
	}
	defer second.Kill()
	plan := target.Plan{Rate: cfg.Rate, Start: time.Now().Add(50 * time.Millisecond).UnixMicro()}
	for _, p := range []*proc.Proc{m.server, second} {
		if err := p.Call("publish", plan, nil); err != nil {
			return nil, err
		}
	}
	for _, p := range m.swarms {
		if err := p.Call("failover", swarm.Connect{Addr: started.Addr}, nil); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, cfg.Before); err != nil {
		return nil, err
	}
	if err := m.each("begin"); err != nil {
		return nil, err
	}
	cpu, begin := second.CPU(), time.Now()
	m.server.Kill()
	m.server = second // from now on it is the one
	if err := r.settle(m, begin); err != nil {
		return nil, err
	}
	r.CPU, r.RSS = second.CPU()-cpu, second.RSS()
	return r, r.finish(ctx, m)
}

// settle waits for all clients to be served again.
func (r *StormReport) settle(m *rig, begin time.Time) error {
	arg := swarm.Settled{Begin: begin.UnixMicro(), Deadline: r.Config.Deadline}
	for _, p := range m.swarms {
		if err := p.Send("settled", arg); err != nil {
			return err
		}
	}
	for _, p := range m.swarms {
		var c swarm.Connected
		if err := p.Answer("settled", &c); err != nil {
			return err
		}
		r.Served += c.Ready
		r.Failures += c.Failures
		r.Elapsed = max(r.Elapsed, c.Elapsed)
		if c.Why != "" {
			r.Why = c.Why
		}
	}
	return nil
}

// finish sees that everybody gets everything in the end.
func (r *StormReport) finish(ctx context.Context, m *rig) error {
	stats, err := m.halt()
	if err != nil {
		return err
	}
	for i, p := range m.swarms {
		behind, err := await(ctx, p, stats.Published, 10*time.Second)
		if err != nil {
			return err
		}
		r.Faults.Behind += behind
		var s swarm.Report
		if err := p.Call("report", swarm.Have{}, &s); err != nil {
			return err
		}
		r.Messages += s.Messages
		s.Closed -= int64(m.counts[i]) // by the kill
		r.Faults.add(&s)
	}
	return m.end()
}

// Table implements Report.
func (r *StormReport) Table() string {
	c := &r.Config
	how := format(c.JSON)
	if c.SSE {
		how = fmt.Sprintf("event streams of rate %v", c.Stream)
	}
	return table(fmt.Sprintf("storm: an edge with %d clients on %d topics each is killed, all resume on another one at once; %.0f messages/s of %s in %s; %v",
		c.Clients, c.Each, c.Rate, c.Channel, how, r.Where), [][]string{
		{"served", "within", "failed attempts", "CPU of the edge", "its memory", "messages", "not resumed", "gaps", "twice"},
		{
			fmt.Sprint(r.Served), r.Elapsed.Round(10 * time.Millisecond).String(), fmt.Sprint(r.Failures), r.CPU.Round(10 * time.Millisecond).String(),
			fmt.Sprintf("%d MiB", r.RSS>>20), fmt.Sprint(r.Messages), fmt.Sprint(r.Faults.GapNotices), fmt.Sprint(r.Faults.Gaps), fmt.Sprint(r.Faults.Again),
		},
	})
}

// Err implements Report.
func (r *StormReport) Err() error {
	if r.Served < r.Config.Clients {
		return fmt.Errorf("%d of %d clients were served in %v; the last failure: %s", r.Served, r.Config.Clients, r.Config.Deadline, r.Why)
	}
	return r.Faults.err()
}
