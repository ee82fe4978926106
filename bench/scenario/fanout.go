package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/target"
)

// The shapes of a fan-out.
const (
	Market    = "market"    // many topics, each client on a few of them
	One       = "one"       // one topic for all
	Saturated = "saturated" // one topic, published as fast as a few messages on their way allow
)

// FanoutConfig describes fan-out runs: each number of clients, with each flush interval and each rate of the streams.
type FanoutConfig struct {
	Load
	Shape      string
	Clients    []int
	Deliveries float64 // instead of Rate: deliveries per second, whatever the number of clients
	Flushes    []time.Duration
	Streams    []time.Duration // rates of event streams: 0 sends each message as it comes
	Stages     string          // instead of Rate and Duration, as package schedule reads them: each is measured by itself
	Ramp       time.Duration   // up to the first rate, not measured
	Count      uint64          // messages, instead of Duration
	InFlight   int             // of saturated
	Warmup     time.Duration
	Duration   time.Duration // measured, of each side in each run
	Repeat     int
	Floor      bool // measure it too
	Profile    string
	Heap       string
}

// DefaultFanout is the market's shape.
func DefaultFanout() FanoutConfig {
	c := FanoutConfig{Load: DefaultLoad(), Shape: Market, Clients: []int{1000}, Flushes: []time.Duration{0}, Streams: []time.Duration{0}}
	c.InFlight, c.Warmup, c.Duration, c.Repeat = 8, time.Second, 4*time.Second, 5
	return c
}

// DefaultStreamFanout is one stream of trades, each sent as it comes.
func DefaultStreamFanout() FanoutConfig {
	c := DefaultFanout()
	c.Load, c.Shape = DefaultStreams(), One
	return c
}

// RegisterFlags adds a flag for each field.
func (c *FanoutConfig) RegisterFlags(f *pflag.FlagSet) {
	c.Load.RegisterFlags(f)
	if c.sse() {
		f.DurationSliceVar(&c.Streams, "stream", c.Streams, "`RATE,…` of the streams: 0 (each event as it comes), 100ms, 250ms, 1s or 5s; several are run one after the other")
		f.BoolVar(&c.Compress, "gzip", false, "compress, and compare with streams that are not rather than with the floor")
	} else {
		c.registerFormat(f)
		f.BoolVar(&c.Compress, "deflate", false, "compress (permessage-deflate), and compare with the edge that does not rather than with the floor")
	}
	f.StringVar(&c.Shape, "shape", c.Shape, "`market|one|saturated`: many topics and some of them each; one topic; one topic as fast as it goes")
	f.IntSliceVar(&c.Clients, "clients", c.Clients, "`NUMBER,…` of connections; several are run one after the other")
	f.Float64Var(&c.Deliveries, "deliveries", 0, "instead of --rate: deliveries per second, over all clients")
	f.DurationSliceVar(&c.Flushes, "flush", c.Flushes, "`DURATION,…` that a started edge pauses between writes to a client; several are run one after the other")
	f.StringVar(&c.Stages, "stages", "", "instead of --rate and --duration: `RATExDURATION,…`, each measured by itself with the same connections")
	f.DurationVar(&c.Ramp, "ramp", 0, "how long the rate grows, from a tenth to all of it, before the warm-up")
	f.Uint64Var(&c.Count, "count", 0, "instead of --duration: so many messages, over all topics")
	f.IntVar(&c.InFlight, "in-flight", c.InFlight, "saturated: messages on their way to the slowest client")
	f.DurationVar(&c.Warmup, "warmup", c.Warmup, "not measured")
	f.DurationVar(&c.Duration, "duration", c.Duration, "measured, of each run")
	f.IntVar(&c.Repeat, "repeat", c.Repeat, "runs, of which the medians and the noise between them are shown")
	f.BoolVar(&c.Floor, "floor", false, "measure the floor in turns of a second with the server: one write per message and client, with the same frames")
	f.StringVar(&c.Profile, "cpuprofile", "", "write a CPU profile of the edge alone in its last run to `FILE`")
	f.StringVar(&c.Heap, "memprofile", "", "write a heap profile of the edge alone in its last run to `FILE`")
}

// Validate says what is wrong, and fills in what a shape decides.
func (c *FanoutConfig) Validate() error {
	switch c.Shape {
	case Market:
	case One, Saturated:
		c.Topics, c.Each = 1, 1
	default:
		return fmt.Errorf("--shape: %q is neither market, one nor saturated", c.Shape)
	}
	switch {
	case len(c.Clients) == 0, len(c.Flushes) == 0, len(c.Streams) == 0:
		return errors.New("--clients, --flush and --stream: at least one value")
	case c.Deliveries < 0 || c.Warmup < 0 || c.Ramp < 0:
		return errors.New("--deliveries, --warmup and --ramp: not negative")
	case c.Duration <= 0 || c.Repeat < 1 || c.InFlight < 1:
		return errors.New("--duration, --repeat and --in-flight: above 0")
	case c.Count > 0 && (c.Stages != "" || c.Floor || c.Compress && c.compares()):
		return errors.New("--count: not together with --stages or with a floor")
	case c.Stages != "" && (c.Deliveries > 0 || c.Shape == Saturated):
		return errors.New("--stages: not together with --deliveries or the saturated shape")
	case c.Looks() && (c.Stages != "" || c.Count > 0 || c.Ramp > 0 || c.Deliveries > 0 || c.Floor || c.Shape == Saturated):
		return errors.New("--stages, --count, --ramp, --deliveries, --floor and the saturated shape: not with a market that runs already, without --kafka or --publish")
	case (c.Profile != "" || c.Heap != "") && !c.alone():
		return errors.New("--cpuprofile and --memprofile: of the edge alone")
	}
	for _, n := range c.Clients {
		if n < 1 || n > maxClients && !c.Deployment.Named() {
			return fmt.Errorf("--clients: from 1 to %d, for the open files of a server that is started here", maxClients)
		}
	}
	if c.Stages != "" {
		if _, err := schedule.Parse(c.Stages); err != nil {
			return fmt.Errorf("--stages: %w", err)
		}
	}
	for _, c.Stream = range c.Streams {
		if err := c.Load.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// compares tells whether there is something to compare the server with, beside the floor.
func (c *FanoutConfig) compares() bool { return c.Compress && c.alone() }

// stage is what is measured with the same connections.
type stage struct {
	rate float64
	d    time.Duration
	row  *report.Row
}

// variant is what has connections of its own.
type variant struct {
	c       FanoutConfig // with Load as it is in this one
	clients int
	stages  []stage
	ages    []*hdrhistogram.Histogram // of each stage
	cut     <-chan struct{}           // closed when the user wants a run to end that has something to tell; nil before
	end     func()                    // of that
}

func (c *FanoutConfig) variant(clients int) *variant {
	v := &variant{c: *c, clients: clients}
	if c.Stages != "" {
		stages, _ := schedule.Parse(c.Stages) // Validate has
		for _, s := range stages {
			v.stages = append(v.stages, stage{rate: s.To, d: s.For})
		}
	} else {
		s := stage{rate: c.Rate, d: c.Duration}
		if c.Deliveries > 0 {
			s.rate = c.Deliveries * float64(c.Topics) / float64(c.Each*clients)
		}
		v.stages = append(v.stages, s)
	}
	for i := range v.stages {
		v.stages[i].row = &report.Row{Name: v.name(&v.stages[i])}
		v.ages = append(v.ages, schedule.NewHistogram())
	}
	return v
}

func (v *variant) name(s *stage) string {
	parts := []string{fmt.Sprintf("%d clients", v.clients)}
	if v.c.Flush > 0 || len(v.c.Flushes) > 1 {
		parts = append(parts, fmt.Sprintf("flush %v", v.c.Flush))
	}
	if v.c.Stream > 0 || len(v.c.Streams) > 1 {
		parts = append(parts, fmt.Sprintf("stream %v", v.c.Stream))
	}
	if len(v.stages) > 1 {
		parts = append(parts, fmt.Sprintf("%g/s", s.rate))
	}
	return strings.Join(parts, ", ")
}

// Total is how long it takes, about.
func (c *FanoutConfig) Total() time.Duration {
	spell := c.Duration
	if c.Stages != "" {
		stages, _ := schedule.Parse(c.Stages)
		spell = stages.Duration()
	}
	sides := time.Duration(1)
	if c.Floor || c.compares() {
		sides = 2
	}
	one := 1500*time.Millisecond + sides*(c.Warmup+c.Ramp+spell+spell/5)
	return one * time.Duration(c.Repeat*len(c.Clients)*len(c.Flushes)*len(c.Streams))
}

// Fanout runs all of it.
func Fanout(ctx context.Context, c FanoutConfig, rec *report.Recorder) (*report.Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &report.Report{System: c.system()}
	over := func() bool { return len(r.Rows) > 0 && schedule.Interrupted(ctx) }
	for _, clients := range c.Clients {
		for _, c.Flush = range c.Flushes {
			for _, c.Stream = range c.Streams {
				if over() {
					continue
				}
				v := c.variant(clients)
				if err := v.repeat(ctx, rec); err != nil {
					err = fmt.Errorf("%d clients: %w", clients, err)
					if !over() {
						return nil, err
					}
					r.Notes = append(r.Notes, err.Error())
				}
				c.Topics, c.Each = v.c.Topics, v.c.Each // there may be fewer instruments
				series := rec.Take()
				for i := range v.stages {
					row := v.stages[i].row
					if len(row.Measures) == 0 { // the user did not wait for it
						continue
					}
					row.Latency = report.Curve(v.ages[i])
					if i == 0 {
						row.Series = series // of all stages
					}
					r.Rows = append(r.Rows, *row)
				}
			}
		}
	}
	if len(r.Rows) == 0 {
		return nil, errors.New("nothing was delivered")
	}
	if c.compares() {
		r.Notes = append(r.Notes, "the floor is here the same edge with clients that don't take compression")
	}
	if c.Shape == Saturated {
		r.Notes = append(r.Notes, "saturated is no open loop: a message is published when the ones before it have arrived, and latencies say nothing of a market's")
	}
	r.Title = fmt.Sprintf("fan-out, %s: %s", c.Shape, c.what())
	if c.Compress {
		r.Title = "compressed " + r.Title
	}
	return r, nil
}

// side is a server under measurement with its clients.
type side struct {
	rig    *rig
	system bool // rather than what it is compared with
	lead   time.Duration
	meter  *meter
}

// repeat measures the variant as often as is wanted.
func (v *variant) repeat(ctx context.Context, rec *report.Recorder) error {
	return repeat(ctx, v.c.Repeat, v.stages[0].row, func(n int) error {
		rec.Phase(fmt.Sprintf("%s, run %d", v.name(&v.stages[0]), n+1))
		return v.run(ctx, rec)
	})
}

// run measures the variant once: the system, and what it is compared with, stand ready and take turns. When the user interrupts
// it, it is once less or shorter.
func (v *variant) run(ctx context.Context, rec *report.Recorder) (err error) {
	var sides []*side
	v.cut, v.end = nil, func() {}
	defer func() {
		for _, s := range sides {
			s.rig.kill()
		}
		v.end()
	}()
	open := func(kind string, l Load, system bool) error {
		m, err := l.begin(ctx, kind, l.split(v.clients))
		if err != nil {
			return err
		}
		v.c.Topics, v.c.Each = l.Topics, l.Each
		s := &side{rig: m, system: system, lead: lead + l.Flush + l.Stream}
		sides = append(sides, s)
		return nil
	}
	switch plain := v.c.Load; {
	case v.c.compares():
		plain.Compress = false
		err = open(target.Edge, plain, false)
	case v.c.Floor:
		err = open(target.Floor, plain, false)
	}
	if err == nil {
		err = open(target.Edge, v.c.Load, true)
	}
	if err != nil {
		return err
	}
	for i := range v.stages {
		if err := v.measure(ctx, i, sides, rec); errors.Is(err, schedule.ErrCut) {
			break
		} else if err != nil {
			return err
		}
	}
	for _, s := range sides {
		if s.system {
			if err := v.profiles(s.rig); err != nil {
				return err
			}
		}
		if err := s.rig.end(); err != nil {
			return err
		}
	}
	return nil
}

func (v *variant) plan(rate float64) target.Plan {
	p := target.Plan{Schedule: schedule.Constant(rate)}
	if v.c.Shape == Saturated {
		p.InFlight = v.c.InFlight
	}
	return p
}

const (
	slice = time.Second            // of a turn that is measured
	lead  = 150 * time.Millisecond // before it, and what a server gathers
)

// measure measures a stage. With two sides, a machine's speed changes within seconds when others use it too: in turns of a
// second they see the same.
func (v *variant) measure(ctx context.Context, n int, sides []*side, rec *report.Recorder) error {
	st := &v.stages[n]
	plan := v.plan(st.rate)
	for _, s := range sides {
		warm := plan
		if n == 0 {
			warm.Schedule = warm.Schedule.Ramp(v.c.Ramp)
		}
		if err := s.rig.during(warm, func() error { return schedule.Wait(ctx, v.cut, v.c.Warmup+v.c.Ramp) }); err != nil {
			return err
		}
		if err := s.rig.reset(); err != nil {
			return err
		}
		s.meter = newMeter(s.rig)
		if s.system && v.c.Profile != "" {
			if err := s.rig.pub.Call("profile", v.c.Profile, nil); err != nil {
				return err
			}
		}
	}
	turn := slice
	if len(sides) == 1 {
		turn = st.d
	}
	for left := st.d; left > 0 && (left == st.d || !schedule.Interrupted(ctx)); left -= turn {
		for _, s := range sides {
			if err := v.turn(ctx, s, plan, min(left, turn), len(sides) == 1, rec); err != nil {
				return err
			}
		}
		v.open(ctx) // there is something to tell
	}
	var system, base *meter
	for _, s := range sides {
		if s.system && v.c.Profile != "" {
			if err := s.rig.pub.Call("profiled", nil, nil); err != nil {
				return err
			}
		}
		if err := s.rig.collect(ctx, s.meter, s.rig.swarms); err != nil {
			return err
		}
		if s.system {
			system = s.meter
			v.ages[n].Merge(system.ages)
		} else {
			base = s.meter
		}
	}
	v.record(st, sides[len(sides)-1].rig, system, base)
	return nil
}

// record adds the run's figures to the row.
func (v *variant) record(st *stage, m *rig, system, base *meter) {
	all := system.measures(m)
	all["connect/s"], all["failed_connects"] = connectRate(m.connected), float64(m.connected.Failures)
	if v.c.Shape != Saturated && !m.looks {
		all["offered/s"] = v.c.offered(v.clients, st.rate)
	}
	if base != nil {
		all["floor_cpu"], all["floor/s"] = base.perUpdate(), float64(base.sum.Updates)/base.seconds
		all["ratio"] = system.perUpdate() / max(1e-9, base.perUpdate())
	}
	st.row.Record(all)
	system.notes(st.row, all)
}

// open has the user cut short what is measured from now on.
func (v *variant) open(ctx context.Context) {
	if v.cut == nil {
		v.cut, v.end = schedule.Window(ctx)
	}
}

// turn publishes, unmeasured for the lead, then measured; with a count, exactly so many messages and all measured. A long turn can
// be cut short.
func (v *variant) turn(ctx context.Context, s *side, plan target.Plan, d time.Duration, long bool, rec *report.Recorder) error {
	if !s.system {
		rec = nil
	}
	begin := func() {
		if long {
			v.open(ctx)
			s.rig.cut = v.cut
		}
	}
	if v.c.Count > 0 {
		plan.Count = v.c.Count
		begin()
		return s.rig.counted(ctx, s.meter, rec, plan)
	}
	return s.rig.during(plan, func() error {
		var cut <-chan struct{}
		if long {
			cut = v.cut
		}
		if err := schedule.Wait(ctx, cut, s.lead); err != nil {
			return err
		}
		begin()
		return s.rig.spell(ctx, s.meter, rec, d)
	})
}

// profiles writes the heap's, if it is asked for.
func (v *variant) profiles(m *rig) error {
	if v.c.Heap == "" {
		return nil
	}
	return m.pub.Call("heap", v.c.Heap, nil)
}
