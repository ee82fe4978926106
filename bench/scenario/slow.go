package scenario

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// SlowConfig describes clients of which some stop reading while the others are measured.
type SlowConfig struct {
	Load
	Clients  int
	Share    float64       // of the clients that stop
	Stop     bool          // by SIGSTOP, as a machine that hangs, rather than by not reading
	Settle   time.Duration // after they have stopped
	Duration time.Duration // of either measurement
	Repeat   int
}

// DefaultSlow has half of 2,000 clients stop.
func DefaultSlow() SlowConfig {
	c := SlowConfig{Load: DefaultLoad(), Clients: 2000, Share: 0.5, Settle: time.Second, Duration: 3 * time.Second, Repeat: 4}
	c.Rate = 500
	return c
}

// RegisterFlags adds a flag for each field.
func (c *SlowConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Load.RegisterFlags(f)
	c.RegisterEdge(f)
	f.IntVar(&c.Clients, "clients", c.Clients, "connections")
	f.Float64Var(&c.Share, "share", c.Share, "of the clients that stop reading, above 0 and below 1")
	f.BoolVar(&c.Stop, "stop", false, "their processes are stopped (SIGSTOP), rather than not reading")
	f.DurationVar(&c.Settle, "settle", c.Settle, "not measured, after each change")
	f.DurationVar(&c.Duration, "duration", c.Duration, "measured with all reading, and again with some stopped")
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs")
}

// Total is how long it takes, about.
func (c *SlowConfig) Total() time.Duration {
	return time.Duration(c.Repeat) * (2500*time.Millisecond + 2*c.Settle + 2*c.Duration)
}

// Validate says what is wrong.
func (c *SlowConfig) Validate() error {
	switch n := c.slow(); {
	case c.Clients < 2 || c.Clients > maxClients:
		return fmt.Errorf("--clients: from 2 to %d", maxClients)
	case !(c.Share > 0) || c.Share >= 1 || n < 1 || n >= c.Clients:
		return errors.New("--share: above 0 and below 1, so that there are clients of either kind")
	case c.Settle < 0 || c.Duration <= 0 || c.Repeat < 1:
		return errors.New("--settle: not negative; --duration and --repeat: above 0")
	}
	return c.Load.Validate()
}

// slow is how many clients stop.
func (c *SlowConfig) slow() int { return int(c.Share * float64(c.Clients)) }

// Slow measures the clients that read, while the others do and while they don't.
func Slow(ctx context.Context, c SlowConfig, rec *report.Recorder) (*report.Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	row := report.Row{Name: fmt.Sprintf("%d clients, %d of them slow", c.Clients, c.slow())}
	ages := schedule.NewHistogram()
	if err := repeat(ctx, c.Repeat, &row, func(n int) error { return c.run(ctx, n, rec, &row, ages) }); err != nil {
		return nil, err
	}
	row.Series, row.Latency = rec.Take(), report.Curve(ages)
	how := "don't read"
	if c.Stop {
		how = "are stopped by SIGSTOP"
	}
	return &report.Report{
		Title:  fmt.Sprintf("slow: %d of %d clients %s; latencies are of the others, %s, %s", c.slow(), c.Clients, how, c.pace(), c.what()),
		System: c.system(), Rows: []report.Row{row},
	}, nil
}

func (c *SlowConfig) run(ctx context.Context, n int, rec *report.Recorder, row *report.Row, ages *hdrhistogram.Histogram) error {
	readers := c.split(c.Clients - c.slow())
	m, err := c.begin(ctx, target.Edge, append(readers, c.split(c.slow())...))
	if err != nil {
		return err
	}
	defer m.kill()
	readerSwarms, slow := m.swarms[:len(readers)], m.swarms[len(readers):]
	var normal, disturbed *meter
	growth := int64(0)
	err = m.during(target.Plan{Schedule: schedule.Constant(c.Rate)}, func() (err error) {
		rec.Phase(fmt.Sprintf("all read, run %d", n+1))
		if normal, err = c.measure(ctx, m, readerSwarms, rec); err != nil {
			return err
		}
		if err := c.tell(slow, true); err != nil {
			return err
		}
		rec.Phase(fmt.Sprintf("%d stopped, run %d", c.slow(), n+1))
		if disturbed, err = c.measure(ctx, m, readerSwarms, rec); err != nil {
			return err
		}
		growth = disturbed.rss - normal.rss
		return c.tell(slow, false)
	})
	if err != nil {
		return err
	}
	disturbed.sum.Faults.Add(normal.sum.Faults)
	for _, p := range readerSwarms {
		behind, err := m.behind(ctx, p)
		if err != nil {
			return err
		}
		disturbed.sum.Behind += behind
	}
	if err := c.last(m, readerSwarms, disturbed); err != nil {
		return err
	}
	cut, err := c.afterwards(ctx, m, slow, disturbed)
	if err != nil {
		return err
	}
	all := disturbed.measures(m)
	all["normal_p99"], all["disturbed_p99"], all["cut_off"] = ms(normal.ages, 99), ms(disturbed.ages, 99), float64(cut)
	all["slowdown"] = all["disturbed_p99"] / max(1e-3, all["normal_p99"])
	if m.pid > 0 {
		all["rss_growth"] = float64(growth) / (1 << 20)
	}
	ages.Merge(disturbed.ages)
	row.Record(all)
	disturbed.notes(row, all)
	return m.end()
}

// measure measures the clients that read, for a while.
func (c *SlowConfig) measure(ctx context.Context, m *rig, readers []*proc.Proc, rec *report.Recorder) (*meter, error) {
	if err := schedule.Pause(ctx, c.Settle); err != nil {
		return nil, err
	}
	t := newMeter(m)
	t.clients = t.clients[:len(readers)]
	all := m.swarms
	m.swarms = readers // the others may not answer
	defer func() { m.swarms = all }()
	if err := m.reset(); err != nil {
		return nil, err
	}
	if err := m.spell(ctx, t, rec, c.Duration); err != nil {
		return nil, err
	}
	if err := m.seen(t); err != nil {
		return nil, err
	}
	return t, m.silent(t)
}

// last adds the faults since the measurement, when the slow clients went on.
func (c *SlowConfig) last(m *rig, readers []*proc.Proc, t *meter) error {
	all := m.swarms
	m.swarms = readers
	defer func() { m.swarms = all }()
	err := m.reset()
	m.unmeasured(t)
	return err
}

// tell stops the slow clients, or has them go on.
func (c *SlowConfig) tell(slow []*proc.Proc, stop bool) error {
	for _, p := range slow {
		var err error
		switch {
		case c.Stop && stop:
			err = p.Signal(syscall.SIGSTOP)
		case c.Stop:
			err = p.Signal(syscall.SIGCONT)
		case stop:
			err = p.Call("pause", nil, nil)
		default:
			err = p.Call("resume", nil, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// afterwards looks whether the slow clients have caught up, and counts those that the server has cut off.
func (c *SlowConfig) afterwards(ctx context.Context, m *rig, slow []*proc.Proc, t *meter) (cut int64, err error) {
	one := newMeter(m)
	if err := m.collect(ctx, one, slow); err != nil {
		return 0, err
	}
	cut = one.sum.Closed
	t.sum.Behind += max(0, one.sum.Behind-int(cut)) // who was cut off has not everything
	one.sum.Closed, one.sum.GapNotices = 0, 0       // those cut off are counted, and of losses they may have been told
	t.sum.Faults.Add(one.sum.Faults)
	return cut, nil
}
