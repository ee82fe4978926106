package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// The shapes of a fan-out.
const (
	Market    = "market"    // many topics, each client on a few of them
	One       = "one"       // one topic for all
	Saturated = "saturated" // one topic, published as fast as a few messages on their way allow
)

// FanoutConfig describes fan-out runs: each number of clients, with each flush interval.
type FanoutConfig struct {
	Shape      string
	Clients    []int
	Topics     int     // of the market
	Each       int     // topics of a client, of the market
	Rate       float64 // messages per second over all topics
	Deliveries float64 // instead of Rate: deliveries per second, whatever the number of clients
	Flush      []time.Duration
	InFlight   int // of saturated
	Size       int // bytes of a frame, about
	Channel    string
	JSON       bool
	Shards     int
	Warmup     time.Duration
	Duration   time.Duration
	Repeat     int
	NoFloor    bool
	Deflate    bool // clients offer compression, and the edge without it takes the floor's place
	Seed       uint64
	Profile    string // file for a CPU profile of the edge's last run
	Heap       string // file for its heap profile
}

// DefaultFanout is the market's shape.
func DefaultFanout() FanoutConfig {
	return FanoutConfig{
		Shape: Market, Clients: []int{1000}, Topics: 200, Each: 20, Rate: 5000, Flush: []time.Duration{0}, InFlight: 8, Size: 154,
		Channel: "book", Shards: 1, Warmup: 2 * time.Second, Duration: 8 * time.Second, Repeat: 3, Seed: 1,
	}
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
	for _, n := range c.Clients {
		if n < 1 || n > 19_500 {
			return errors.New("--clients: from 1 to 19,500, for the server's open files")
		}
	}
	switch {
	case len(c.Clients) == 0, len(c.Flush) == 0:
		return errors.New("--clients and --flush: at least one value")
	case c.Topics < 1 || c.Topics > 10_000 || c.Each < 1 || c.Each > c.Topics:
		return errors.New("--topics: from 1 to 10,000, and --each no more")
	case c.Rate <= 0 && c.Deliveries <= 0:
		return errors.New("--rate or --deliveries: above 0")
	case c.Duration <= 0 || c.Warmup < 0 || c.Repeat < 1 || c.InFlight < 1:
		return errors.New("--duration, --repeat and --in-flight: above 0")
	case c.Channel != "book" && c.Channel != "trades":
		return fmt.Errorf("--channel: %q is neither book nor trades", c.Channel)
	}
	return nil
}

// rate is the messages per second for a number of clients.
func (c *FanoutConfig) rate(clients int) float64 {
	if c.Deliveries > 0 {
		return c.Deliveries * float64(c.Topics) / float64(c.Each*clients)
	}
	return c.Rate
}

// FanoutReport has a row for each number of clients and flush interval.
type FanoutReport struct {
	Where  Where
	Config FanoutConfig
	Rows   []FanoutRow
}

// FanoutRow is the median of its runs.
type FanoutRow struct {
	Clients   int
	Flush     time.Duration
	Offered   float64 // deliveries per second; 0 when saturated
	Delivered float64 // updates per second that clients got, merged ones counted as what they stand for
	Messages  float64 // messages per second
	CPU       float64 // of the edge, µs per update delivered
	Floor     float64 // of the floor
	Ratio     float64 // of the edge's to the floor's run just before
	FloorRate float64 // deliveries per second of the floor
	PerWrite  float64 // frames
	Bytes     float64 // of a frame, as sent
	Allocs    float64 // per delivery
	Client    float64 // µs of the clients' CPU per message
	P50       float64 // ms from the intended send time
	P99       float64
	P999      float64
	Max       float64
	Runs      []FanoutRun
	FloorRuns []FanoutRun
}

// FanoutRun is one run of one server.
type FanoutRun struct {
	Seconds   float64
	Messages  int64
	Updates   int64
	CPU       time.Duration // of the server
	ClientCPU time.Duration
	Writes    float64
	Frames    float64
	Bytes     float64
	Conflated float64
	Mallocs   uint64
	P50       float64
	P99       float64
	P999      float64
	Max       float64
	Load      string
	Faults    faults
}

func (r *FanoutRun) perUpdate() float64 {
	return float64(r.CPU.Microseconds()) / float64(max(1, r.Updates))
}

// Fanout runs all of it.
func Fanout(ctx context.Context, cfg FanoutConfig) (*FanoutReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &FanoutReport{Where: Here(), Config: cfg}
	for _, clients := range cfg.Clients {
		rows := make([]FanoutRow, len(cfg.Flush))
		for range cfg.Repeat {
			var floor *FanoutRun
			var err error
			for i, flush := range cfg.Flush {
				if floor, err = cfg.base(ctx, clients, flush, floor); err != nil {
					return nil, fmt.Errorf("%s, %d clients: %w", cfg.baseName(), clients, err)
				}
				run, err := cfg.run(ctx, target.Edge, clients, flush, cfg.Deflate)
				if err != nil {
					return nil, fmt.Errorf("edge, %d clients: %w", clients, err)
				}
				rows[i].Clients, rows[i].Flush = clients, flush
				rows[i].Runs = append(rows[i].Runs, *run)
				if floor != nil {
					rows[i].FloorRuns = append(rows[i].FloorRuns, *floor)
				}
			}
		}
		for i := range rows {
			rows[i].sum(&cfg)
			r.Rows = append(r.Rows, rows[i])
		}
	}
	return r, nil
}

// base measures what the edge is compared with: the floor, once for all flush intervals, or the edge without compression.
func (c *FanoutConfig) base(ctx context.Context, clients int, flush time.Duration, last *FanoutRun) (*FanoutRun, error) {
	switch {
	case c.NoFloor:
		return nil, nil
	case c.Deflate:
		return c.run(ctx, target.Edge, clients, flush, false)
	case last != nil:
		return last, nil
	}
	return c.run(ctx, target.Floor, clients, 0, false)
}

func (c *FanoutConfig) baseName() string {
	if c.Deflate {
		return "plain"
	}
	return "floor"
}

// run measures one server once.
func (c *FanoutConfig) run(ctx context.Context, kind string, clients int, flush time.Duration, deflate bool) (*FanoutRun, error) {
	load := proc.LoadAverage()
	m, err := begin(ctx, setup{
		target:  target.Config{Kind: kind, Topics: c.Topics, Size: c.Size, Channel: c.Channel, Flush: flush, Shards: c.Shards},
		clients: split(clients), each: c.Each, json: c.JSON && kind == target.Edge, deflate: deflate, seed: c.Seed, acks: c.Shape == Saturated,
	})
	if err != nil {
		return nil, err
	}
	defer m.kill()
	plan := target.Plan{Rate: c.rate(clients)}
	if c.Shape == Saturated {
		plan.InFlight = c.InFlight
	}
	if err := m.publish(plan); err != nil {
		return nil, err
	}
	if err := pause(ctx, c.Warmup); err != nil {
		return nil, err
	}
	run, err := c.measure(ctx, m, kind)
	if err != nil {
		return nil, err
	}
	stats, err := m.halt()
	if err != nil {
		return nil, err
	}
	for _, p := range m.swarms {
		behind, err := await(ctx, p, stats.Published, 10*time.Second)
		if err != nil {
			return nil, err
		}
		run.Faults.Behind += behind
	}
	run.Load = load
	return run, m.end()
}

// measure looks at a rig for the Duration.
func (c *FanoutConfig) measure(ctx context.Context, m *rig, kind string) (*FanoutRun, error) {
	profiled := c.Profile != "" && kind == target.Edge
	if profiled {
		if err := m.server.Call("profile", c.Profile, nil); err != nil {
			return nil, err
		}
	}
	if err := m.each("begin"); err != nil {
		return nil, err
	}
	stats, err := m.stats()
	if err != nil {
		return nil, err
	}
	began, cpu, own := time.Now(), m.server.CPU(), m.clientCPU()
	if err := pause(ctx, c.Duration); err != nil {
		return nil, err
	}
	run := &FanoutRun{CPU: m.server.CPU() - cpu, ClientCPU: m.clientCPU() - own, Seconds: time.Since(began).Seconds()}
	if err := m.each("end"); err != nil {
		return nil, err
	}
	after, err := m.stats()
	if err != nil {
		return nil, err
	}
	if profiled {
		if err := m.server.Call("profiled", nil, nil); err != nil {
			return nil, err
		}
	}
	if c.Heap != "" && kind == target.Edge {
		if err := m.server.Call("heap", c.Heap, nil); err != nil {
			return nil, err
		}
	}
	run.Writes = after.Counters[target.Writes] - stats.Counters[target.Writes]
	run.Frames = after.Counters[target.Frames] - stats.Counters[target.Frames]
	run.Bytes = after.Counters[target.Bytes] - stats.Counters[target.Bytes]
	run.Conflated = after.Counters[target.Conflated] - stats.Counters[target.Conflated]
	run.Mallocs = after.Mallocs - stats.Mallocs
	return run, run.collect(m.swarms)
}

func (m *rig) clientCPU() (sum time.Duration) {
	for _, p := range m.swarms {
		sum += p.CPU()
	}
	return sum
}

// collect takes what the clients saw.
func (r *FanoutRun) collect(swarms []*proc.Proc) error {
	ages := swarm.NewHistogram()
	for _, p := range swarms {
		var s swarm.Report
		if err := p.Call("report", swarm.Have{}, &s); err != nil {
			return err
		}
		h, err := swarm.Decode(s.Histogram)
		if err != nil {
			return err
		}
		ages.Merge(h)
		r.Messages += s.Messages
		r.Updates += s.Updates
		r.Faults.add(&s)
	}
	r.P50, r.P99, r.P999, r.Max = ms(ages, 50), ms(ages, 99), ms(ages, 99.9), float64(ages.Max())/1000
	return nil
}

func ms(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }

// of gathers one figure of several runs.
func of(runs []FanoutRun, f func(*FanoutRun) float64) (all []float64) {
	for i := range runs {
		all = append(all, f(&runs[i]))
	}
	return all
}

func (r *FanoutRow) sum(c *FanoutConfig) {
	if c.Shape != Saturated {
		r.Offered = c.rate(r.Clients) * float64(r.Clients*c.Each) / float64(c.Topics)
	}
	mid := func(f func(*FanoutRun) float64) float64 { return median(of(r.Runs, f)) }
	r.Delivered = mid(func(x *FanoutRun) float64 { return float64(x.Updates) / x.Seconds })
	r.Messages = mid(func(x *FanoutRun) float64 { return float64(x.Messages) / x.Seconds })
	r.CPU = mid((*FanoutRun).perUpdate)
	r.PerWrite = mid(func(x *FanoutRun) float64 { return x.Frames / max(1, x.Writes) })
	r.Bytes = mid(func(x *FanoutRun) float64 { return x.Bytes / max(1, x.Frames) })
	r.Allocs = mid(func(x *FanoutRun) float64 { return float64(x.Mallocs) / float64(max(1, x.Updates)) })
	r.Client = mid(func(x *FanoutRun) float64 {
		return float64(x.ClientCPU.Microseconds()) / float64(max(1, x.Messages))
	})
	r.P50, r.P99 = mid(func(x *FanoutRun) float64 { return x.P50 }), mid(func(x *FanoutRun) float64 { return x.P99 })
	r.P999, r.Max = mid(func(x *FanoutRun) float64 { return x.P999 }), mid(func(x *FanoutRun) float64 { return x.Max })
	if len(r.FloorRuns) == 0 {
		return
	}
	r.Floor = median(of(r.FloorRuns, (*FanoutRun).perUpdate))
	r.FloorRate = median(of(r.FloorRuns, func(x *FanoutRun) float64 { return float64(x.Updates) / x.Seconds }))
	var ratios []float64
	for i := range r.Runs {
		ratios = append(ratios, r.Runs[i].perUpdate()/max(1e-9, r.FloorRuns[i].perUpdate()))
	}
	r.Ratio = median(ratios)
}

// Table implements Report.
func (r *FanoutReport) Table() string {
	c := &r.Config
	heading := fmt.Sprintf("fan-out, %s: %d topics, %d each, %s in %s, about %d bytes a frame, medians of %d runs of %v; %v",
		c.Shape, c.Topics, c.Each, c.Channel, format(c.JSON), target.FrameSize(c.Channel, c.Size), c.Repeat, c.Duration, r.Where)
	if c.Deflate {
		heading = "compressed " + heading
	}
	rows := [][]string{{
		"clients", "flush", "offered/s", "delivered/s", "µs each", c.baseName() + " µs", "ratio", c.baseName() + "/s", "per write", "bytes", "allocs", "p50 ms", "p99", "p99.9", "max", "client µs",
	}}
	for i := range r.Rows {
		x := &r.Rows[i]
		offered := "all it takes"
		if x.Offered > 0 {
			offered = fmt.Sprintf("%.0f", x.Offered)
		}
		floor, ratio, floorRate := "-", "-", "-"
		if len(x.FloorRuns) > 0 {
			floor, ratio, floorRate = fmt.Sprintf("%.2f", x.Floor), fmt.Sprintf("%.2f", x.Ratio), fmt.Sprintf("%.0f", x.FloorRate)
		}
		rows = append(rows, []string{
			fmt.Sprint(x.Clients), x.Flush.String(), offered, fmt.Sprintf("%.0f", x.Delivered), fmt.Sprintf("%.2f", x.CPU), floor, ratio, floorRate,
			fmt.Sprintf("%.1f", x.PerWrite), fmt.Sprintf("%.0f", x.Bytes), fmt.Sprintf("%.3f", x.Allocs), fmt.Sprintf("%.2f", x.P50), fmt.Sprintf("%.2f", x.P99),
			fmt.Sprintf("%.2f", x.P999), fmt.Sprintf("%.1f", x.Max), fmt.Sprintf("%.2f", x.Client),
		})
	}
	return table(heading, rows)
}

func format(json bool) string {
	if json {
		return "JSON"
	}
	return "SBE"
}

// Err implements Report.
func (r *FanoutReport) Err() error {
	var errs []error
	for i := range r.Rows {
		x := &r.Rows[i]
		for _, runs := range [][]FanoutRun{x.Runs, x.FloorRuns} {
			for j := range runs {
				if err := runs[j].Faults.err(); err != nil {
					errs = append(errs, fmt.Errorf("%d clients: %w", x.Clients, err))
				}
				if runs[j].Messages == 0 {
					errs = append(errs, fmt.Errorf("%d clients: nothing was delivered", x.Clients))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// ParseFormat reads --format.
func ParseFormat(s string) (json bool, err error) {
	switch strings.ToLower(s) {
	case "sbe":
		return false, nil
	case "json":
		return true, nil
	}
	return false, fmt.Errorf("--format: %q is neither sbe nor json", s)
}
