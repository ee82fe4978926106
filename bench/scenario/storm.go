package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// StormConfig describes clients that all lose their connection at the same moment, and resume.
type StormConfig struct {
	Load
	Clients  int
	Before   time.Duration // of peace
	Deadline time.Duration // for all to be served again
	Repeat   int
}

// DefaultStorm has ten thousand clients resume.
func DefaultStorm() StormConfig {
	c := StormConfig{Load: DefaultLoad(), Clients: 10_000, Before: time.Second, Deadline: 60 * time.Second, Repeat: 3}
	c.Channel = "trades"
	return c
}

// RegisterFlags adds a flag for each field.
func (c *StormConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Load.RegisterFlags(f)
	c.RegisterEdge(f)
	f.IntVar(&c.Clients, "clients", c.Clients, "connections")
	f.DurationVar(&c.Before, "before", c.Before, "the peace before the storm")
	f.DurationVar(&c.Deadline, "deadline", c.Deadline, "for all clients to be served again")
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs")
}

// Total is how long it takes, about.
func (c *StormConfig) Total() time.Duration {
	return time.Duration(c.Repeat) * (6*time.Second + c.Before + time.Duration(c.Clients)*time.Millisecond)
}

// Validate says what is wrong.
func (c *StormConfig) Validate() error {
	switch {
	case c.Clients < 1 || c.Clients > 19_000:
		return errors.New("--clients: from 1 to 19,000")
	case c.Before <= 0 || c.Deadline <= 0 || c.Repeat < 1:
		return errors.New("--before, --deadline and --repeat: above 0")
	}
	return c.Load.Validate()
}

// Storm ends all connections at once. The edge alone is killed by kill -9, while another one that follows the same log stands
// by; running servers are left alone, and the clients drop their connections and come back to the same address.
func Storm(ctx context.Context, c StormConfig, rec *report.Recorder) (*report.Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	row := report.Row{Name: fmt.Sprintf("%d clients", c.Clients)}
	if err := repeat(ctx, c.Repeat, &row, func(n int) error { return c.run(ctx, n, rec, &row) }); err != nil {
		return nil, err
	}
	row.Series = rec.Take()
	how := "an edge is killed, and all its clients resume on another one at once"
	if !c.alone() {
		how = "all clients lose their connection at once, and resume"
	}
	return &report.Report{
		Title: fmt.Sprintf("storm: %s; %s, %s", how, c.pace(), c.what()), System: c.system(), Rows: []report.Row{row},
	}, nil
}

func (c *StormConfig) run(ctx context.Context, n int, rec *report.Recorder, row *report.Row) error {
	m, err := c.begin(ctx, target.Edge, c.split(c.Clients))
	if err != nil {
		return err
	}
	defer m.kill()
	addr, plan := m.addr, target.Plan{Schedule: schedule.Constant(c.Rate), Start: time.Now().Add(50 * time.Millisecond).UnixMicro()}
	publishers := []*proc.Proc{m.pub}
	if c.alone() {
		second, started, err := startTarget(ctx, c.target())
		if err != nil {
			return err
		}
		defer second.Kill()
		addr, publishers = started.Addr, append(publishers, second)
	}
	for _, p := range publishers {
		if err := p.Call("publish", plan, nil); err != nil {
			return err
		}
	}
	rec.Phase(fmt.Sprintf("before, run %d", n+1))
	if err := m.reset(); err != nil {
		return err
	}
	t := newMeter(m)
	if err := m.spell(ctx, t, rec, c.Before); err != nil {
		return err
	}
	for _, p := range m.swarms {
		if err := p.Call("failover", swarm.Connect{Addr: addr}, nil); err != nil {
			return err
		}
	}
	rec.Phase(fmt.Sprintf("storm, run %d", n+1))
	return c.strike(ctx, m, publishers, rec, row)
}

// strike ends all connections, and sees everybody back.
func (c *StormConfig) strike(ctx context.Context, m *rig, publishers []*proc.Proc, rec *report.Recorder, row *report.Row) error {
	if err := m.reset(); err != nil {
		return err
	}
	end := func() error { return m.each("scatter") }
	if c.alone() {
		victim := m.pub
		defer victim.Kill()
		m.pub = publishers[1] // from now on it is the one
		m.pid, m.watch = m.pub.Pid(), proc.NewWatch(m.pub.Pid())
		end = func() error { victim.Kill(); return nil }
	}
	t := newMeter(m)
	var back swarm.Connected
	err := m.measured(t, func() (err error) {
		begin := time.Now()
		if err := end(); err != nil {
			return err
		}
		back, err = m.settle(ctx, begin, c.Deadline, rec)
		return err
	})
	if err != nil {
		return err
	}
	if back.Ready < c.Clients {
		why := "the last failure: " + back.Why
		if back.Why == "" {
			why = "the others are connected, and no message has come for them; in a slow market give it more time by --deadline"
		}
		return fmt.Errorf("%d of %d clients were served in %v; %s", back.Ready, c.Clients, c.Deadline, why)
	}
	if _, err := m.halt(); err != nil {
		return err
	}
	if err := m.collect(ctx, t, m.swarms); err != nil {
		return err
	}
	all := t.measures(m)
	delete(all, "bytes") // they are of connecting too
	all["served"], all["recovery"] = float64(back.Ready), back.Elapsed.Seconds()
	all["connect/s"], all["failed_connects"] = connectRate(back), float64(back.Failures)
	row.Record(all)
	t.notes(row, all)
	return m.end()
}

// settle waits for all clients to be served again.
func (m *rig) settle(ctx context.Context, begin time.Time, deadline time.Duration, rec *report.Recorder) (all swarm.Connected, err error) {
	samples, err := newSampler(m, m.swarms)
	if err != nil {
		return all, err
	}
	for {
		if err := schedule.Pause(ctx, 100*time.Millisecond); err != nil {
			return all, err
		}
		s, err := samples.next()
		if err != nil {
			return all, err
		}
		rec.Sample(s)
		all = swarm.Connected{}
		for _, p := range m.swarms {
			var one swarm.Connected
			if err := p.Call("settled", swarm.Settled{Begin: begin.UnixMicro()}, &one); err != nil {
				return all, err
			}
			if one.Elapsed > 0 { // else it has not even noticed
				all.Ready += one.Ready
			}
			all.Failures += one.Failures
			all.Elapsed = max(all.Elapsed, one.Elapsed)
			if one.Why != "" {
				all.Why = one.Why
			}
		}
		if all.Ready == m.clients() || time.Since(begin) > deadline {
			return all, nil
		}
	}
}
