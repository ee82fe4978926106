package scenario

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// FairnessConfig describes clients of which half stop reading while the others are measured.
type FairnessConfig struct {
	Clients  int // all
	Topics   int
	Each     int
	Rate     float64
	Flush    time.Duration
	Size     int
	Channel  string
	JSON     bool
	Shards   int
	NoRead   bool          // the half does not read, rather than being stopped by a signal
	Settle   time.Duration // after the half has stopped, and after it goes on
	Duration time.Duration // of each measurement
	Repeat   int           // of both
	Seed     uint64
}

// DefaultFairness has 1,000 of 2,000 clients stopped.
func DefaultFairness() FairnessConfig {
	return FairnessConfig{
		Clients: 2000, Topics: 200, Each: 20, Rate: 500, Size: 154, Channel: "book", Shards: 1,
		Settle: 3 * time.Second, Duration: 6 * time.Second, Repeat: 5, Seed: 1,
	}
}

// stoppedBytes is what a stopped client may cost the server: a batch that its socket has not taken, with room to spare.
// What the topics keep for all is counted apart.
const stoppedBytes = 64 << 10

// ringBytes is what a topic may keep by default.
const ringBytes = 1 << 20

// FairnessReport compares the reading half with the others stopped and not.
type FairnessReport struct {
	Where   Where
	Config  FairnessConfig
	Free    []FairnessRun // nobody stopped
	Stopped []FairnessRun
	Ratio   float64 // of the medians of p99
	Base    int64   // server's memory before anyone was stopped
	Bound   int64   // what it may have come to
	Peak    int64
	Faults  faults
}

// FairnessRun is one measurement of the reading half.
type FairnessRun struct {
	P50, P99, P999, Max float64 // ms
	Messages            int64
	CPU                 float64 // µs of the server per message
	RSS                 int64
	Load                string
}

// Fairness alternates.
func Fairness(ctx context.Context, cfg FairnessConfig) (*FairnessReport, error) {
	if cfg.Clients < 2 || cfg.Clients > 2*swarm.MaxClients || cfg.Repeat < 1 || cfg.Duration <= 0 || cfg.Each < 1 || cfg.Each > cfg.Topics {
		return nil, errors.New("--clients, --repeat, --duration and --each: above 0, and not more than there can be")
	}
	r := &FairnessReport{Where: Here(), Config: cfg}
	m, err := begin(ctx, setup{
		target: target.Config{
			Kind: target.Edge, Topics: cfg.Topics, Size: cfg.Size, Channel: cfg.Channel, Flush: cfg.Flush, Shards: cfg.Shards,
		},
		clients: []int{cfg.Clients / 2, cfg.Clients - cfg.Clients/2}, each: cfg.Each, json: cfg.JSON, seed: cfg.Seed,
	})
	if err != nil {
		return nil, err
	}
	defer m.kill()
	if err := m.publish(target.Plan{Rate: cfg.Rate}); err != nil {
		return nil, err
	}
	if err := pause(ctx, cfg.Settle); err != nil {
		return nil, err
	}
	r.Base = m.server.RSS()
	// A topic's history fills up as long as it has not reached its bound, stopped clients or not.
	r.Bound = r.Base + int64(cfg.Clients/2)*stoppedBytes + int64(cfg.Topics)*ringBytes + 64<<20
	for range cfg.Repeat {
		if err := r.both(ctx, m); err != nil {
			return nil, err
		}
	}
	free, stopped := r.P99()
	r.Ratio = stopped / max(1e-9, free)
	stats, err := m.halt()
	if err != nil {
		return nil, err
	}
	for i, p := range m.swarms {
		behind, err := await(ctx, p, stats.Published, 10*time.Second)
		if err != nil {
			return nil, err
		}
		r.Faults.Behind += behind
		var s swarm.Report
		if err := p.Call("report", swarm.Have{}, &s); err != nil {
			return nil, err
		}
		if i == 1 {
			s.GapNotices = 0 // those who stopped may have been told of lost trades
		}
		r.Faults.add(&s)
	}
	return r, m.end()
}

// P99 is the median of the runs' 99th percentiles, in ms: with nobody stopped, and with half of the clients.
func (r *FairnessReport) P99() (free, stopped float64) {
	mid := func(runs []FairnessRun) float64 {
		var all []float64
		for i := range runs {
			all = append(all, runs[i].P99)
		}
		return median(all)
	}
	return mid(r.Free), mid(r.Stopped)
}

// both measures the first half twice: the second one reading, and stopped.
func (r *FairnessReport) both(ctx context.Context, m *rig) error {
	run, err := r.measure(ctx, m)
	if err != nil {
		return err
	}
	r.Free = append(r.Free, run)
	stop, resume := r.switches(m.swarms[1])
	if err := stop(); err != nil {
		return err
	}
	if err := pause(ctx, r.Config.Settle); err != nil {
		return err
	}
	run, err = r.measure(ctx, m)
	if err != nil {
		return err
	}
	r.Stopped, r.Peak = append(r.Stopped, run), max(r.Peak, run.RSS)
	if err := resume(); err != nil {
		return err
	}
	return pause(ctx, r.Config.Settle)
}

func (r *FairnessReport) switches(p *proc.Proc) (stop, resume func() error) {
	if r.Config.NoRead {
		return func() error { return p.Call("pause", nil, nil) }, func() error { return p.Call("resume", nil, nil) }
	}
	return func() error { return p.Signal(syscall.SIGSTOP) }, func() error { return p.Signal(syscall.SIGCONT) }
}

func (r *FairnessReport) measure(ctx context.Context, m *rig) (run FairnessRun, err error) {
	run.Load = proc.LoadAverage()
	p := m.swarms[0]
	if err := p.Call("begin", nil, nil); err != nil {
		return run, err
	}
	cpu := m.server.CPU()
	if err := pause(ctx, r.Config.Duration); err != nil {
		return run, err
	}
	cpu = m.server.CPU() - cpu
	var s swarm.Report
	if err := p.Call("report", swarm.Have{}, &s); err != nil {
		return run, err
	}
	h, err := swarm.Decode(s.Histogram)
	if err != nil {
		return run, err
	}
	run.P50, run.P99, run.P999, run.Max = ms(h, 50), ms(h, 99), ms(h, 99.9), float64(h.Max())/1000
	run.Messages, run.RSS = s.Messages, m.server.RSS()
	run.CPU = float64(cpu.Microseconds()) / float64(max(1, s.Messages))
	r.Faults.add(&s)
	return run, nil
}

// Table implements Report.
func (r *FairnessReport) Table() string {
	c := &r.Config
	how := "by SIGSTOP"
	if c.NoRead {
		how = "by not reading"
	}
	rows := [][]string{{"other half", "p50 ms", "p99", "p99.9", "max", "messages/s", "server MiB"}}
	row := func(name string, runs []FairnessRun) {
		mid := func(f func(*FairnessRun) float64) float64 {
			var all []float64
			for i := range runs {
				all = append(all, f(&runs[i]))
			}
			return median(all)
		}
		rows = append(rows, []string{
			name, fmt.Sprintf("%.2f", mid(func(x *FairnessRun) float64 { return x.P50 })), fmt.Sprintf("%.2f", mid(func(x *FairnessRun) float64 { return x.P99 })),
			fmt.Sprintf("%.2f", mid(func(x *FairnessRun) float64 { return x.P999 })), fmt.Sprintf("%.1f", mid(func(x *FairnessRun) float64 { return x.Max })),
			fmt.Sprintf("%.0f", mid(func(x *FairnessRun) float64 { return float64(x.Messages) })/c.Duration.Seconds()),
			fmt.Sprintf("%.0f", mid(func(x *FairnessRun) float64 { return float64(x.RSS) })/(1<<20)),
		})
	}
	row("reads", r.Free)
	row("stopped", r.Stopped)
	return table(fmt.Sprintf("fairness: the first %d of %d clients while the others are stopped %s; %d topics, %d each, %.0f messages/s of %s, flush %v, medians of %d alternating runs of %v; %v",
		c.Clients/2, c.Clients, how, c.Topics, c.Each, c.Rate, c.Channel, c.Flush, c.Repeat, c.Duration, r.Where), rows) +
		fmt.Sprintf("p99 stopped to reading: %.2f; memory at most %d MiB, bound %d MiB\n", r.Ratio, r.Peak>>20, r.Bound>>20)
}

// Err implements Report.
func (r *FairnessReport) Err() error {
	var errs []error
	if r.Peak > r.Bound {
		errs = append(errs, fmt.Errorf("the server's memory came to %d MiB, beyond the bound of %d MiB", r.Peak>>20, r.Bound>>20))
	}
	for i := range r.Free {
		if r.Free[i].Messages == 0 || r.Stopped[i].Messages == 0 {
			errs = append(errs, errors.New("nothing was delivered"))
		}
	}
	return errors.Join(append(errs, r.Faults.err())...)
}
