package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/target"
)

// IdleConfig describes idle connections.
type IdleConfig struct {
	Load
	Clients int
	Settle  time.Duration
	Repeat  int
	Heap    string
}

// DefaultIdle is ten thousand connections.
func DefaultIdle() IdleConfig {
	c := IdleConfig{Load: DefaultLoad(), Clients: 10_000, Settle: 12 * time.Second, Repeat: 3}
	c.Channel = "trades"
	return c
}

// RegisterFlags adds a flag for each field.
func (c *IdleConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Load.RegisterFlags(f)
	c.RegisterEdge(f)
	f.IntVar(&c.Clients, "clients", c.Clients, "connections")
	f.DurationVar(&c.Settle, "settle", c.Settle, "from the last connection to the look at the memory")
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs")
	f.StringVar(&c.Heap, "memprofile", "", "write a heap profile of the edge alone, settled, to `FILE`")
	for _, name := range []string{"rate", "size", "stream", "flush"} {
		_ = f.MarkHidden(name) // nothing is published
	}
}

// Total is how long it takes, about.
func (c *IdleConfig) Total() time.Duration {
	return time.Duration(c.Repeat) * (2*time.Second + c.Settle + time.Duration(c.Clients)*300*time.Microsecond)
}

// Validate says what is wrong.
func (c *IdleConfig) Validate() error {
	switch {
	case c.Clients < 1 || c.Clients > maxClients && !c.Deployment.Named():
		return fmt.Errorf("--clients: from 1 to %d, for the open files of a server that is started here", maxClients)
	case c.Settle <= 0 || c.Repeat < 1:
		return errors.New("--settle and --repeat: above 0")
	case c.Heap != "" && !c.alone():
		return errors.New("--memprofile: of the edge alone")
	case c.Deployment.Named() && c.Deployment.PID == 0:
		return errors.New("--pid: needed for the memory of a running server")
	}
	return c.Load.Validate()
}

// Idle measures the resident memory of idle connections, and what they keep a processor busy with: heartbeats and pings.
func Idle(ctx context.Context, c IdleConfig, rec *report.Recorder) (*report.Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	row := report.Row{Name: fmt.Sprintf("%d clients", c.Clients)}
	var empty int64 // bytes of the server without these clients
	if err := repeat(ctx, c.Repeat, &row, func(n int) error {
		rec.Phase(fmt.Sprintf("run %d", n+1))
		if n == 0 || !c.Deployment.Named() {
			empty = 0
		}
		return c.run(ctx, rec, &row, &empty)
	}); err != nil {
		return nil, err
	}
	if c.Deployment.Named() {
		row.Notes = append(row.Notes, "memory is by how much the server grew from before the first run, and too little when it has kept some of earlier clients: start it anew to know")
	}
	row.Series = rec.Take()
	what := fmt.Sprintf("%d topics each", c.Each)
	if c.sse() {
		what = fmt.Sprintf("event streams, %d topics each", c.Each)
	}
	return &report.Report{Title: "idle connections, " + what, System: c.system(), Rows: []report.Row{row}}, nil
}

// run measures once. Empty is found out when it is 0: a running server keeps the memory of one run for the clients of the next.
func (c *IdleConfig) run(ctx context.Context, rec *report.Recorder, row *report.Row, empty *int64) error {
	m, err := c.prepare(ctx, target.Edge, c.split(c.Clients))
	if err != nil {
		return err
	}
	defer m.kill()
	alone := m.system == nil
	if alone {
		if err := m.pub.Call("free", nil, nil); err != nil {
			return err
		}
	}
	before, err := m.serverUsage()
	if err != nil {
		return err
	}
	if *empty == 0 {
		*empty = before.RSS
	}
	connected, err := m.connect()
	if err != nil {
		return err
	}
	if err := m.reset(); err != nil {
		return err
	}
	t := newMeter(m)
	if err := m.spell(ctx, t, rec, c.Settle); err != nil {
		return err
	}
	each := func(rss int64) float64 { return float64(rss-*empty) / float64(c.Clients) / 1024 }
	all := map[string]float64{
		"connect/s": connectRate(connected), "failed_connects": float64(connected.Failures),
		"busy": 100 * t.server.CPU.Seconds() / t.seconds, "rss": float64(t.rss) / (1 << 20), "memory": each(t.rss),
	}
	if all["memory"] <= 0 { // it had more than enough, and nobody knows how much of that they took
		delete(all, "memory")
	}
	if alone {
		if err := c.freed(m, all, each); err != nil {
			return err
		}
	}
	if err := m.seen(t); err != nil {
		return err
	}
	t.wrongs(all)
	row.Record(all)
	return m.end()
}

// freed looks again when the runtime has given back what it kept to itself.
func (c *IdleConfig) freed(m *rig, all map[string]float64, each func(rss int64) float64) error {
	stats, err := m.stats()
	if err != nil {
		return err
	}
	all["goroutines"] = float64(stats.Goroutines)
	if c.Heap != "" {
		if err := m.pub.Call("heap", c.Heap, nil); err != nil {
			return err
		}
	}
	if err := m.pub.Call("free", nil, nil); err != nil {
		return err
	}
	now, err := m.serverUsage()
	all["memory_freed"] = each(now.RSS)
	return err
}
