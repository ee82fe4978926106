package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/stream"
)

// AlertsConfig is what loads of alerts have in common: raw trades in, signed requests out.
type AlertsConfig struct {
	Config
	Receiver
	Database  string // of servers that are started
	Endpoints int    // that the alerts are dealt out to
	InFlight  int    // requests at a time to each
	Drain     time.Duration
}

func defaultAlertsConfig() AlertsConfig {
	return AlertsConfig{
		Config:   Config{Repeat: 3, Warmup: 2 * time.Second, Duration: 8 * time.Second},
		Receiver: Receiver{Listen: "127.0.0.1:0"}, Endpoints: 10, InFlight: 100, Drain: 10 * time.Second,
	}
}

// RegisterFlags adds the flags.
func (c *AlertsConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Config.RegisterFlags(f)
	hide(f, "ws", "sse", "source", "symbols")
	c.Receiver.RegisterFlags(f)
	f.StringVar(&c.Database, "webhook-database", "", "`URL` of a PostgreSQL database for servers that are started, instead of SQLite in a temporary folder")
	f.IntVar(&c.Endpoints, "endpoints", c.Endpoints, "endpoints that the alerts are dealt out to")
	f.IntVar(&c.InFlight, "in-flight", c.InFlight, "requests at a time to each endpoint, at most: its max_in_flight")
	f.DurationVar(&c.Drain, "drain", c.Drain, "how long the last requests may take to arrive, before they count as missing")
}

// Validate says which flag is wrong.
func (c *AlertsConfig) Validate() error {
	d := &c.Deployment
	switch {
	case d.Named() && d.Alerts == "":
		return errors.New("--alerts: the address of the alerts' API is missing")
	case d.Named() && len(d.Kafka.Brokers) == 0:
		return errors.New("--kafka: needed to publish the trades that make alerts fire")
	case c.Endpoints < 1 || c.Endpoints > 1000:
		return errors.New("--endpoints: from 1 to 1000")
	case c.InFlight < 1 || c.InFlight > 100:
		return errors.New("--in-flight: from 1 to 100")
	case c.Drain < 0:
		return errors.New("--drain: not negative")
	case len(d.Symbols) > 0:
		return errors.New("--symbols: this load publishes instruments of its own")
	}
	return errors.Join(c.Receiver.Validate(), c.Config.Validate())
}

// flags are of servers that are started.
func (c *AlertsConfig) flags() []string {
	return []string{"--webhook-addr", "127.0.0.1:0", "--webhook-rate", "0", "--webhook-max-endpoints", "1000", "--webhook-max-alerts", "1000000", "--webhook-database", c.Database}
}

// job is one run of alerts.
type job struct {
	*AlertsConfig
	on      *stage
	meter   *meter
	in      *inbox
	desk    *desk
	trader  *trader
	hangUp  func()
	cluster *stream.Cluster
	paths   []string // of the endpoints
	ids     []string
}

// begin makes the endpoints, and lists the instruments. The job must be ended, whatever begin says.
func (c *AlertsConfig) begin(ctx context.Context, on *stage, instruments int) (j *job, err error) {
	j = &job{AlertsConfig: c, on: on, meter: newMeter(false), desk: newDesk(on.Deployment)}
	j.meter.whole = true
	if j.cluster, err = on.Cluster(); err != nil {
		return j, err
	}
	if j.trader, err = newTrader(ctx, j.cluster, instruments); err != nil {
		return j, err
	}
	j.hangUp = closing(ctx, j.trader.w)
	if j.in, err = c.receive(j.meter); err != nil {
		return j, err
	}
	for n := range c.Endpoints {
		path := fmt.Sprintf("/%s/%d", j.trader.session, n)
		id, err := j.desk.endpoint(ctx, j.in, path, c.InFlight)
		if err != nil {
			return j, err
		}
		j.paths, j.ids = append(j.paths, path), append(j.ids, id)
	}
	if err := j.desk.try(ctx, j.in, j.ids[0]); err != nil {
		return j, err
	}
	return j, j.trader.list()
}

// end takes away what was made, unless it ends with the servers, and ends all that was begun.
func (j *job) end(ctx context.Context) (err error) {
	if !j.on.Started || j.Database != "" { // which outlives the servers
		err = j.desk.clear(ctx)
	}
	if j.in != nil {
		j.in.close()
	}
	if j.trader != nil {
		j.hangUp()
	}
	if j.cluster != nil {
		j.cluster.Close()
	}
	return err
}

// window is when a job measures, and what it expects.
type window struct {
	from, to time.Time
	next     func() (tick, bool) // of the trader
	fired    func() int64        // in all, that must arrive; read when there are no more ticks
}

// measure has the trader trade, and waits until all that has fired has arrived.
func (j *job) measure(ctx context.Context, w window) (*trial, error) {
	j.meter.open(w.from, w.to)
	trading, running := errgroup.WithContext(ctx)
	trading.Go(func() error { return j.trader.run(running, w.from, w.next) })
	j.on.phase("warm up")
	_ = schedule.Pause(running, time.Until(w.from)) // cut short, the trader says why
	j.on.phase("run")
	before := look(j.on.PID)
	s := sampler{meter: j.meter, rec: j.on.rec, server: proc.NewWatch(j.on.PID), sent: j.trader.sent.Load, faults: func() int64 { return j.in.now().unverified }}
	s.start()
	defer s.tick.Stop()
	s.until(running.Done(), w.to)
	if err := trading.Wait(); err != nil {
		return nil, err
	}
	if err := acknowledged(ctx, j.trader.w); err != nil {
		return nil, err
	}
	j.on.phase("drain")
	fired := w.fired()
	if _, err := await(ctx, j.Drain, func() bool { return j.in.now().arrived >= fired }); err != nil {
		return nil, err
	}
	used := before.since() // what is left over of the window belongs to it
	j.meter.collect()
	if j.meter.total.updates == 0 {
		return nil, fmt.Errorf("nothing arrived at %s, of %d alerts that have fired", j.in.url, fired)
	}
	t, got := &trial{figures: map[string]float64{}, latency: j.meter.total.latency}, j.in.now()
	report.Latencies(t.figures, t.latency)
	t.figures["missing"], t.figures["gaps"] = float64(max(0, fired-got.arrived)), float64(j.in.gaps())
	t.figures["again"], t.figures["unverified"] = float64(got.again), float64(got.unverified)
	t.figures["publisher_lag"] = quantile(j.trader.late, 99)
	used.measures(t, time.Since(w.from), j.meter.total.updates)
	return t, nil
}

// Alerts is a load of alerts that fire all the time. Every trade that crosses the limit fires all alerts of its instrument.
type Alerts struct {
	AlertsConfig
	Pace
	Instruments int
	Each        int // alerts of each instrument
}

// DefaultAlerts is a thousand fires a second.
func DefaultAlerts() Alerts {
	return Alerts{AlertsConfig: defaultAlertsConfig(), Pace: Pace{Rate: 1000}, Instruments: 50, Each: 4}
}

// RegisterFlags adds the flags.
func (v *Alerts) RegisterFlags(f *pflag.FlagSet) {
	v.AlertsConfig.RegisterFlags(f)
	v.Pace.RegisterFlags(f, "fires")
	f.IntVar(&v.Instruments, "instruments", v.Instruments, "instruments")
	f.IntVar(&v.Each, "each", v.Each, "alerts of each instrument")
}

// Validate says which flag is wrong.
func (v *Alerts) Validate() error {
	if err := v.settle(&v.Config); err != nil {
		return err
	}
	switch {
	case v.Instruments < 1 || v.Instruments > 10_000:
		return errors.New("--instruments: from 1 to 10,000")
	case v.Each < 1 || v.Each > 10_000:
		return errors.New("--each: from 1 to 10,000")
	}
	return v.AlertsConfig.Validate()
}

// Total is about how long it takes.
func (v *Alerts) Total() time.Duration {
	return v.total(&v.Config)
}

// RunAlerts runs the load.
func RunAlerts(ctx context.Context, v Alerts, rec *report.Recorder) (*report.Report, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	r, err := v.repeat(ctx, rec, v.flags(), v.run)
	if err != nil {
		return nil, err
	}
	r.Title = fmt.Sprintf("%s fires/s of %d alerts on %d instruments, to %d endpoints; every signature verified", v.rates(), v.Instruments*v.Each, v.Instruments, v.Endpoints)
	r.System.Protocol = "webhooks"
	return r, nil
}

func (v *Alerts) run(ctx context.Context, on *stage) (_ *trial, err error) {
	whole, lead, err := v.whole(v.Warmup)
	if err != nil {
		return nil, err
	}
	j, err := v.begin(ctx, on, v.Instruments)
	defer func() { err = errors.Join(err, j.end(ctx)) }()
	if err != nil {
		return nil, err
	}
	var all []wanted
	for i, sym := range j.trader.syms {
		for n := range v.Each {
			all = append(all, wanted{Sym: sym, Endpoints: []string{j.ids[(i*v.Each+n)%len(j.ids)]}, Rule: crossing})
		}
	}
	if err := j.desk.make(ctx, all); err != nil {
		return nil, err
	}
	at := time.Now().Add(100 * time.Millisecond)
	s := crossings{at: at, schedule: whole, each: v.Each, syms: j.trader.syms, from: at.Add(lead), to: at.Add(lead + v.Duration)}
	t, err := j.measure(ctx, window{from: s.from, to: s.to, next: s.next, fired: func() int64 { return s.all * int64(v.Each) }})
	if err != nil {
		return nil, err
	}
	seconds := v.Duration.Seconds()
	t.figures["sent/s"], t.figures["offered/s"] = float64(s.trades)/seconds, float64(s.window*int64(v.Each))/seconds
	t.figures["delivered/s"] = float64(j.meter.total.updates) / max(seconds, j.in.last().Sub(s.from).Seconds())
	return t, nil
}

// crossings are trades of which each second one of an instrument crosses the limit.
type crossings struct {
	at       time.Time
	schedule schedule.Schedule // of fires
	each     int
	syms     []string
	from, to time.Time

	n      int
	all    int64 // trades that crossed
	window int64 // of these, in the window
	trades int64 // in the window
}

func (s *crossings) next() (tick, bool) {
	round, i := s.n/len(s.syms), s.n%len(s.syms)
	due := s.at.Add(s.schedule.Due(float64(s.n) * float64(s.each) / 2))
	if !due.Before(s.to) {
		return tick{}, false
	}
	s.n++
	crosses := (round+i)%2 == 0 // half of the instruments at a time, so that fires come evenly
	measured := !due.Before(s.from)
	if measured {
		s.trades++
	}
	if crosses {
		s.all++
		if measured {
			s.window++
		}
	}
	return tick{at: due, sym: s.syms[i], high: crosses}, true
}
