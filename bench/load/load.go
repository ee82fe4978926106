// Package load makes load on a whole Tickwire deployment and verifies all that comes out: books by their hashes, trades and
// events by their sequence, requests by their signature. Its clients are those of package client, and so it measures what a
// user's program would see; package swarm has more and lighter ones.
//
// Of a market of our own, latency is measured from the *intended* send time: the schedule is fixed beforehand, so a producer
// that is held up does not hide the wait from the figures (no coordinated omission). For the same reason a measurement is of
// what was meant to be sent within a window of time, and waits until all of it has arrived. Of a market that runs already it
// is the age of what arrives.
package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
)

// Config is what all loads have.
type Config struct {
	Deployment deployment.Config
	Repeat     int           // runs, each with servers of its own when they are started here
	Warmup     time.Duration // of each run
	Duration   time.Duration // of each run, measured
}

// RegisterFlags adds the flags.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	c.Deployment.RegisterFlags(f)
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs, with fresh servers for each when they are started here")
	f.DurationVar(&c.Warmup, "warmup", c.Warmup, "of each run, not measured")
	f.DurationVar(&c.Duration, "duration", c.Duration, "of each run, measured")
}

// hide leaves flags out of the help of a load that has no use for them.
func hide(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if flag := f.Lookup(name); flag != nil {
			flag.Hidden = true
		}
	}
}

// Validate says which flag is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Repeat < 1 || c.Repeat > 1000:
		return errors.New("--repeat: from 1 to 1000")
	case c.Warmup < 0:
		return errors.New("--warmup: not negative")
	case c.Duration <= 0:
		return errors.New("--duration: above 0")
	}
	return c.Deployment.Validate()
}

// Overhead is about how long a run takes that measures nothing: servers start, clients connect, what is on its way arrives.
const overhead = 2500 * time.Millisecond

// Total is about how long all runs take.
func (c *Config) Total() time.Duration {
	return time.Duration(c.Repeat) * (c.Warmup + c.Duration + overhead)
}

// Pace is the open loop: how many messages are meant to be sent when.
type Pace struct {
	Rate   float64 // per second
	Ramp   time.Duration
	Stages string // instead of Rate and a duration
	Count  int64  // messages to measure, instead of a duration
}

// RegisterFlags adds the flags.
func (p *Pace) RegisterFlags(f *pflag.FlagSet, what string) {
	f.Float64Var(&p.Rate, "rate", p.Rate, what+" per second")
	f.DurationVar(&p.Ramp, "ramp", p.Ramp, "before the warm-up, grow from a tenth of the rate to all of it")
	f.StringVar(&p.Stages, "stages", p.Stages, "`RATExDURATION,…` instead of --rate and --duration, such as 2000x5s,10000x5s")
	f.Int64Var(&p.Count, "count", p.Count, "measure about so many "+what+", instead of --duration")
}

// settle validates, and makes of --stages and --count the duration that they mean.
func (p *Pace) settle(c *Config) error {
	s, err := p.schedule()
	switch {
	case err != nil:
		return err
	case p.Ramp < 0 || p.Count < 0:
		return errors.New("--ramp, --count: not negative")
	case p.Count > 0:
		c.Duration = s.Due(float64(p.Count))
	case p.Stages != "":
		c.Duration = s.Duration()
	}
	if c.Duration > 24*time.Hour {
		return fmt.Errorf("--duration, --count: %v is more than a day", c.Duration.Round(time.Minute))
	}
	return nil
}

// total is about how long all runs take.
func (p *Pace) total(c *Config) time.Duration {
	_ = p.settle(c) // what is wrong is said by Validate
	return c.Total() + time.Duration(c.Repeat)*p.Ramp
}

// rates is what a title says.
func (p *Pace) rates() string {
	if p.Stages != "" {
		return p.Stages
	}
	return fmt.Sprintf("%.0f", p.Rate)
}

// schedule is that of the measured part.
func (p *Pace) schedule() (schedule.Schedule, error) {
	if p.Stages != "" {
		s, err := schedule.Parse(p.Stages)
		if err != nil {
			return nil, fmt.Errorf("--stages: %w", err)
		}
		return s, nil
	}
	s := schedule.Constant(p.Rate)
	if s.Validate() != nil || p.Rate > 1e7 {
		return nil, errors.New("--rate: above 0, and at most 10,000,000")
	}
	return s, nil
}

// whole is the schedule with ramp and warm-up before it, and when the measured part begins.
func (p *Pace) whole(warmup time.Duration) (s schedule.Schedule, from time.Duration, err error) {
	if s, err = p.schedule(); err != nil {
		return nil, 0, err
	}
	if first := s[0].From; warmup > 0 {
		s = append(schedule.Schedule{{From: first, To: first, For: warmup}}, s...)
	}
	return s.Ramp(p.Ramp), warmup + max(0, p.Ramp), nil
}

// trial is one run.
type trial struct {
	figures   map[string]float64
	latency   *hdrhistogram.Histogram
	generator report.LoadGenerator
	notes     []string
}

func (t *trial) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// stage is where a run takes place.
type stage struct {
	*deployment.Deployment
	rec    *report.Recorder
	number int    // of the run
	end    func() // of the window that can be cut short
}

// phase tells what happens from now on.
func (s *stage) phase(name string) { s.rec.Phase(fmt.Sprintf("%s %d", name, s.number)) }

// window is one that can be cut short, until the run ends.
func (s *stage) window(ctx context.Context) (cut <-chan struct{}) {
	cut, s.end = schedule.Window(ctx)
	return cut
}

// repeat does all runs: each against the named servers, or against some that are started for it with flags. When the user
// interrupts them it is those so far.
func (c *Config) repeat(ctx context.Context, rec *report.Recorder, flags []string, run func(ctx context.Context, s *stage) (*trial, error)) (*report.Report, error) {
	// The producer's thread sleeps in the kernel; its processor slot should not be missing to the clients.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 1))
	r := &report.Report{Rows: make([]report.Row, 1)}
	row, all := &r.Rows[0], schedule.NewHistogram()
	var narrow []string // notes of runs in which the load generator was the bottleneck
	runs := 0
	for ; runs < c.Repeat && (runs == 0 || !schedule.Interrupted(ctx)); runs++ {
		on := &stage{rec: rec, number: runs + 1, end: func() {}}
		run, err := c.once(ctx, on, flags, run)
		if err != nil && runs > 0 && schedule.Interrupted(ctx) {
			row.Notes = append(row.Notes, fmt.Sprintf("run %d has no figures: %v", runs+1, err))
			break
		}
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", runs+1, err)
		}
		r.System = report.System{Name: "tickwire", Where: on.Where(), Local: on.PID > 0}
		row.Record(run.figures)
		all.Merge(run.latency)
		if note := run.generator.Bottleneck(); note != "" {
			narrow = append(narrow, note)
		}
		for _, note := range run.notes {
			if !slices.Contains(row.Notes, note) {
				row.Notes = append(row.Notes, note)
			}
		}
	}
	row.Series, row.Latency = rec.Take(), report.Curve(all)
	if len(narrow) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s (in %d of %d runs)", narrow[0], len(narrow), runs))
	}
	return r, nil
}

func (c *Config) once(ctx context.Context, on *stage, flags []string, run func(ctx context.Context, s *stage) (*trial, error)) (_ *trial, err error) {
	on.phase("start")
	if on.Deployment, err = deployment.Open(ctx, c.Deployment, flags...); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, on.Close())
		on.end()
	}()
	if on.PID > 0 {
		if _, err := proc.UsageOf(on.PID); err != nil {
			return nil, fmt.Errorf("--pid: %w", err)
		}
	}
	on.phase("connect")
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { on.watch(ctx, cancel) })
	defer watching.Wait()
	defer cancel(nil)
	t, err := run(ctx, on)
	if gone := context.Cause(ctx); err != nil && errors.Is(gone, errGone) {
		return nil, gone // all else follows from it
	}
	return t, err
}

// errGone is when a server has ended by itself.
var errGone = errors.New("has ended")

// watch ends a run whose server has ended, if it can be seen.
func (s *stage) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for s.PID > 0 && schedule.Pause(ctx, time.Second) == nil {
		if !proc.Alive(s.PID) {
			cancel(fmt.Errorf("the server, process %d, %w", s.PID, errGone))
		}
	}
}

// machine looks at the processes that take part, from its making on.
type machine struct {
	began     time.Time
	pid       int // of the server; 0 when it can't be seen
	server    proc.Usage
	client    proc.Usage
	scheduler *metrics.Float64Histogram
}

func look(pid int) *machine {
	m := &machine{began: time.Now(), pid: pid, scheduler: schedulerLatencies()}
	m.server = usage(pid)
	m.client, _ = proc.UsageOf(os.Getpid()) // we are there
	return m
}

// usage is a server's, with its children.
func usage(pid int) (u proc.Usage) {
	if pid > 0 {
		u, _ = proc.TreeUsage(pid) // a server that has ended shows in what clients see
	}
	return u
}

// since is what was used since.
func (m *machine) since() *machine {
	now := look(m.pid)
	now.server, now.client = now.server.Sub(m.server), now.client.Sub(m.client)
	for i, n := range m.scheduler.Counts {
		now.scheduler.Counts[i] -= n
	}
	now.began = m.began
	return now
}

// measures adds the figures of a part that took so long and made so many deliveries. Busy is for the whole of it.
func (m *machine) measures(t *trial, elapsed time.Duration, deliveries int64) {
	n, each := float64(max(1, deliveries)), t.figures
	if m.pid > 0 {
		each["cpu"], each["busy"] = float64(m.server.CPU.Nanoseconds())/1000/n, 100*m.server.CPU.Seconds()/elapsed.Seconds()
		each["switches"], each["rss"] = 1000*float64(m.server.Switches)/n, float64(m.server.RSS)/(1<<20)
	}
	g := &t.generator
	g.Busy, g.Threads, g.ClientLag = 100*m.client.CPU.Seconds()/elapsed.Seconds(), runtime.NumCPU(), m.schedulerP99()
	if wanted := m.client.CPU + m.client.Wait; wanted > 0 {
		g.Waited = 100 * m.client.Wait.Seconds() / wanted.Seconds()
		g.Wait = 1000 * m.client.Wait.Seconds() / float64(max(1, m.client.Switches))
	}
	g.PublisherLag, g.P50, g.P99 = each["publisher_lag"], max(each["p50"], each["age_p50"]), max(each["p99"], each["age_p99"])
	each["client_cpu"], each["client_busy"] = float64(m.client.CPU.Nanoseconds())/1000/n, g.Busy
	each["client_wait"], each["client_lag"] = g.Waited, g.ClientLag
}

// schedulerLatencies is how long goroutines waited until they ran.
func schedulerLatencies() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}

// schedulerP99 is in ms: how long a goroutine of ours waited for a thread that runs it.
func (m *machine) schedulerP99() float64 {
	var total, sum uint64
	for _, n := range m.scheduler.Counts {
		total += n
	}
	for i, n := range m.scheduler.Counts {
		if sum += n; n > 0 && float64(sum) >= 0.99*float64(total) {
			return 1000 * max(0, m.scheduler.Buckets[i])
		}
	}
	return 0
}

// await asks again and again, until f says yes or the limit is over, and tells whether it did.
func await(ctx context.Context, limit time.Duration, f func() bool) (bool, error) {
	for deadline := time.Now().Add(limit); !f(); {
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := schedule.Pause(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
	return true, nil
}
