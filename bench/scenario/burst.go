package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// BurstConfig describes a market that is much faster for a while.
type BurstConfig struct {
	Load
	Clients int
	Times   float64       // how much faster
	Before  time.Duration // of peace; what is normal
	For     time.Duration
	After   time.Duration
	Repeat  int
}

// DefaultBurst is ten times the rate for two seconds.
func DefaultBurst() BurstConfig {
	return BurstConfig{Load: DefaultLoad(), Clients: 1000, Times: 10, Before: 2 * time.Second, For: 2 * time.Second, After: 3 * time.Second, Repeat: 5}
}

// RegisterFlags adds a flag for each field.
func (c *BurstConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Load.RegisterFlags(f)
	c.RegisterEdge(f)
	f.IntVar(&c.Clients, "clients", c.Clients, "connections")
	f.Float64Var(&c.Times, "times", c.Times, "how much faster the market is in the burst")
	f.DurationVar(&c.Before, "before", c.Before, "the peace before the burst, which says what is normal")
	f.DurationVar(&c.For, "for", c.For, "how long the burst is")
	f.DurationVar(&c.After, "after", c.After, "looked at behind the burst")
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs")
}

// Total is how long it takes, about.
func (c *BurstConfig) Total() time.Duration {
	return time.Duration(c.Repeat) * (2500*time.Millisecond + c.Before + c.For + c.After)
}

// Validate says what is wrong.
func (c *BurstConfig) Validate() error {
	switch {
	case c.Clients < 1 || c.Clients > maxClients:
		return fmt.Errorf("--clients: from 1 to %d", maxClients)
	case !(c.Times > 1):
		return errors.New("--times: above 1")
	case c.Before < 500*time.Millisecond || c.For < 100*time.Millisecond || c.After < time.Second || c.Repeat < 1:
		return errors.New("--before: at least 500ms; --for: 100ms; --after: 1s; --repeat: 1")
	case c.Looks():
		return errors.New("--kafka or --publish: needed for a burst; a market that runs already has none to order")
	}
	return c.Load.Validate()
}

// Burst has the market's rate rise at once, stay for a while, and fall again.
func Burst(ctx context.Context, c BurstConfig, rec *report.Recorder) (*report.Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	row := report.Row{Name: fmt.Sprintf("%d clients", c.Clients)}
	ages := schedule.NewHistogram()
	if err := repeat(ctx, c.Repeat, &row, func(n int) error { return c.run(ctx, n, rec, &row, ages) }); err != nil {
		return nil, err
	}
	row.Series, row.Latency = rec.Take(), report.Curve(ages)
	return &report.Report{
		Title: fmt.Sprintf("burst: %g times %g messages/s for %v, %s", c.Times, c.Rate, c.For, c.what()), System: c.system(), Rows: []report.Row{row},
	}, nil
}

// burstSample is how often a burst is looked at: its end is found as exactly as that.
const burstSample = 100 * time.Millisecond

func (c *BurstConfig) run(ctx context.Context, n int, rec *report.Recorder, row *report.Row, ages *hdrhistogram.Histogram) error {
	m, err := c.begin(ctx, target.Edge, c.split(c.Clients))
	if err != nil {
		return err
	}
	defer m.kill()
	rate, warm := c.Rate, time.Second
	plan := target.Plan{Schedule: schedule.Schedule{
		{From: rate, To: rate, For: warm + c.Before}, {From: c.Times * rate, To: c.Times * rate, For: c.For}, {From: rate, To: rate},
	}}
	t := newMeter(m)
	b := burst{normal: schedule.NewHistogram(), disturbed: schedule.NewHistogram()}
	err = m.during(plan, func() error {
		if err := schedule.Pause(ctx, warm); err != nil {
			return err
		}
		return c.watch(ctx, m, t, &b, n, m.start.Add(warm), rec)
	})
	if err != nil {
		return err
	}
	if err := m.collect(ctx, t, m.swarms); err != nil {
		return err
	}
	ages.Merge(t.ages)
	all := t.measures(m)
	all["normal_p99"], all["recovery"] = ms(b.normal, 99), b.settle(c).Seconds()
	all["disturbed_p99"] = ms(b.disturbed, 99)
	all["slowdown"] = all["disturbed_p99"] / max(1e-3, all["normal_p99"])
	row.Record(all)
	t.notes(row, all)
	return m.end()
}

// burst is what was seen of one, in order.
type burst struct {
	normal    *hdrhistogram.Histogram // before it
	disturbed *hdrhistogram.Histogram // from its begin until all is as before
	spells    []spell                 // since its end
}

type spell struct {
	end  time.Duration // since the burst's
	ages *hdrhistogram.Histogram
}

// settle finds how long after the burst's end it took until p99 was again what it had been, or at most twice that or 2 ms
// more, and stayed so for half a second. What came until then was disturbed. If it never did, it is all the time that was
// looked at.
func (b *burst) settle(c *BurstConfig) (recovery time.Duration) {
	normal := ms(b.normal, 99)
	limit := max(2*normal, normal+2)
	calm := false
	for _, s := range b.spells {
		if s.ages.TotalCount() == 0 {
			continue // nobody knows: all may be stuck
		}
		if ms(s.ages, 99) > limit {
			recovery = s.end
		} else if s.end-recovery >= 500*time.Millisecond {
			calm = true
			break
		}
	}
	if !calm {
		recovery = c.After
	}
	for _, s := range b.spells {
		if s.end <= recovery {
			b.disturbed.Merge(s.ages)
		}
	}
	return recovery
}

// watch measures from now on, with the peace before the burst, which the schedule has from began on.
func (c *BurstConfig) watch(ctx context.Context, m *rig, t *meter, b *burst, n int, began time.Time, rec *report.Recorder) error {
	if err := m.reset(); err != nil {
		return err
	}
	return m.measured(t, func() error {
		samples, err := newSampler(m, m.swarms)
		if err != nil {
			return err
		}
		end := c.Before + c.For
		for now := time.Duration(0); now < end+c.After; {
			if err := schedule.Pause(ctx, burstSample); err != nil {
				return err
			}
			s, err := samples.next()
			if err != nil {
				return err
			}
			now = time.Since(began)
			phase := "burst"
			switch {
			case now <= c.Before:
				phase = "before"
				b.normal.Merge(samples.latest)
			case now <= end+burstSample: // what was published last is still on its way
				b.disturbed.Merge(samples.latest)
			default:
				phase = "after"
				b.spells = append(b.spells, spell{now - end, hdrhistogram.Import(samples.latest.Export())})
			}
			rec.Phase(fmt.Sprintf("%s, run %d", phase, n+1))
			rec.Sample(s)
		}
		return nil
	})
}
