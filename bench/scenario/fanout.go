package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// FanoutConfig describes fan-out runs: each number of clients, with each flush interval and each rate of the streams.
type FanoutConfig struct {
	SSE        bool // event streams of the public edge, rather than the WebSocket's
	Shape      string
	Clients    []int
	Topics     int     // of the market
	Each       int     // topics of a client, of the market
	Rate       float64 // messages per second over all topics
	Deliveries float64 // instead of Rate: deliveries per second, whatever the number of clients
	Flush      []time.Duration
	Streams    []time.Duration // rates of event streams: 0 sends each message as it comes
	InFlight   int             // of saturated
	Size       int             // bytes of a frame, about
	Channel    string
	JSON       bool
	Shards     int
	Warmup     time.Duration
	Duration   time.Duration // measured, of each side in each run
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
		Shape: Market, Clients: []int{1000}, Topics: 200, Each: 20, Rate: 5000, Flush: []time.Duration{0},
		Streams: []time.Duration{0}, InFlight: 8, Size: 154,
		Channel: "book", Shards: 1, Warmup: 2 * time.Second, Duration: 8 * time.Second, Repeat: 3, Seed: 1,
	}
}

// DefaultStreams is one stream of trades, each sent as it comes.
func DefaultStreams() FanoutConfig {
	c := DefaultFanout()
	c.SSE, c.Shape, c.Rate, c.Size, c.Channel, c.JSON = true, One, 100, 80, "trades", true
	return c
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
	case len(c.Clients) == 0, len(c.Flush) == 0, len(c.Streams) == 0:
		return errors.New("--clients, --flush and --stream: at least one value")
	case c.Topics < 1 || c.Topics > 10_000 || c.Each < 1 || c.Each > c.Topics:
		return errors.New("--topics: from 1 to 10,000, and --each no more")
	case c.Rate <= 0 && c.Deliveries <= 0:
		return errors.New("--rate or --deliveries: above 0")
	case c.Duration <= 0 || c.Warmup < 0 || c.Repeat < 1 || c.InFlight < 1:
		return errors.New("--duration, --repeat and --in-flight: above 0")
	case c.Channel != "book" && c.Channel != "trades":
		return fmt.Errorf("--channel: %q is neither book nor trades", c.Channel)
	case c.SSE && (c.Channel != "trades" || !c.JSON):
		return errors.New("event streams have trades in JSON, and nothing else that is measured here")
	}
	for _, rate := range c.Streams {
		if rate < 0 || c.SSE && c.Deflate && rate == 0 {
			return errors.New("--stream: not negative, and above 0 with --gzip")
		}
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
	Stream    time.Duration
	Offered   float64 // deliveries per second; 0 when saturated
	Delivered float64 // updates per second that clients got, merged ones counted as what they stand for
	Messages  float64 // messages per second
	CPU       float64 // of the edge, µs per delivery
	Floor     float64 // of the floor
	Ratio     float64 // of the edge's to the floor's in the same run
	FloorRate float64 // deliveries per second of the floor
	PerWrite  float64 // frames, or events
	Bytes     float64 // of one, as sent
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

// perUpdate is the server's µs per delivery. What it sends beside the market's messages, a heartbeat per client and second
// first of all, are deliveries too.
func (r *FanoutRun) perUpdate() float64 {
	return float64(r.CPU.Microseconds()) / max(1, float64(r.Updates)+max(0, r.Frames-float64(r.Messages)))
}

// sent counts what the server's writes were made of: frames, or events, of which a chunk has as many as were gathered.
func (r *FanoutRun) sent(c *FanoutConfig) float64 {
	if c.SSE {
		return float64(r.Updates)
	}
	return r.Frames
}

// Fanout runs all of it.
func Fanout(ctx context.Context, cfg FanoutConfig) (*FanoutReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &FanoutReport{Where: Here(), Config: cfg}
	for _, clients := range cfg.Clients {
		for _, flush := range cfg.Flush {
			for _, rate := range cfg.Streams {
				row := FanoutRow{Clients: clients, Flush: flush, Stream: rate}
				if err := cfg.repeat(ctx, &row); err != nil {
					return nil, fmt.Errorf("%d clients, flush %v: %w", clients, flush, err)
				}
				r.Rows = append(r.Rows, row)
			}
		}
	}
	return r, nil
}

func (c *FanoutConfig) repeat(ctx context.Context, row *FanoutRow) error {
	for range c.Repeat {
		if err := c.pair(ctx, row); err != nil {
			return err
		}
	}
	row.sum(c)
	return nil
}

// side is a server under measurement with its clients.
type side struct {
	rig  *rig
	plan target.Plan
	lead time.Duration // published before each slice that is measured
	edge bool          // the one that the run is about
	run  FanoutRun
}

// pair measures the edge, and what it is compared with, once: both stand ready, and take turns.
func (c *FanoutConfig) pair(ctx context.Context, row *FanoutRow) (err error) {
	var sides []*side
	defer func() {
		for _, s := range sides {
			s.rig.kill()
		}
	}()
	open := func(kind string, edge bool) error {
		s, err := c.open(ctx, kind, row, edge)
		if err == nil {
			sides = append(sides, s)
		}
		return err
	}
	switch {
	case c.NoFloor:
	case c.Deflate:
		err = open(target.Edge, false)
	default:
		err = open(target.Floor, false)
	}
	if err == nil {
		err = open(target.Edge, true)
	}
	if err == nil {
		err = c.turns(ctx, sides)
	}
	if err != nil {
		return err
	}
	for _, s := range sides {
		if err := s.finish(ctx, c); err != nil {
			return err
		}
		if s.edge {
			row.Runs = append(row.Runs, s.run)
		} else {
			row.FloorRuns = append(row.FloorRuns, s.run)
		}
	}
	return nil
}

func (c *FanoutConfig) baseName() string {
	if c.Deflate {
		return "plain"
	}
	return "floor"
}

// open starts a server and connects its clients.
func (c *FanoutConfig) open(ctx context.Context, kind string, row *FanoutRow, edge bool) (*side, error) {
	s := &side{plan: target.Plan{Rate: c.rate(row.Clients)}, lead: lead + row.Flush + row.Stream, edge: edge, run: FanoutRun{Load: proc.LoadAverage()}}
	if c.Shape == Saturated {
		s.plan.InFlight = c.InFlight
	}
	var err error
	s.rig, err = begin(ctx, setup{
		target:  target.Config{Kind: kind, SSE: c.SSE, Topics: c.Topics, Size: c.Size, Channel: c.Channel, Flush: row.Flush, Stream: row.Stream, Shards: c.Shards},
		clients: split(row.Clients), each: c.Each, json: c.JSON && kind == target.Edge, deflate: c.Deflate && edge, rate: row.Stream, seed: c.Seed,
		acks: c.Shape == Saturated,
	})
	return s, err
}

const (
	slice = time.Second            // of a turn that is measured
	lead  = 150 * time.Millisecond // before it, and what a server gathers
)

// turns has the sides publish one after the other, a slice each, until each was measured for the Duration. A machine's speed
// changes within seconds when others use it too; this way the sides see the same.
func (c *FanoutConfig) turns(ctx context.Context, sides []*side) error {
	for _, s := range sides {
		if err := s.turn(ctx, c.Warmup, 0); err != nil {
			return err
		}
		if err := s.rig.each("begin"); err != nil {
			return err
		}
		if err := s.rig.each("off"); err != nil {
			return err
		}
		if s.edge && c.Profile != "" {
			if err := s.rig.server.Call("profile", c.Profile, nil); err != nil {
				return err
			}
		}
	}
	for left := c.Duration; left > 0; left -= slice {
		for _, s := range sides {
			if err := s.turn(ctx, s.lead, min(left, slice)); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn publishes, unmeasured for the lead, then measured.
func (s *side) turn(ctx context.Context, lead, measured time.Duration) error {
	if err := s.rig.publish(s.plan); err != nil {
		return err
	}
	if err := pause(ctx, lead); err != nil {
		return err
	}
	if measured > 0 {
		if err := s.measure(ctx, measured); err != nil {
			return err
		}
	}
	_, err := s.rig.halt()
	return err
}

// measure adds what happens meanwhile to the run.
func (s *side) measure(ctx context.Context, d time.Duration) error {
	m, run := s.rig, &s.run
	before, err := m.stats()
	if err != nil {
		return err
	}
	if err := m.each("on"); err != nil {
		return err
	}
	began, cpu, own := time.Now(), m.server.CPU(), m.clientCPU()
	if err := pause(ctx, d); err != nil {
		return err
	}
	run.CPU += m.server.CPU() - cpu
	run.ClientCPU += m.clientCPU() - own
	run.Seconds += time.Since(began).Seconds()
	if err := m.each("off"); err != nil {
		return err
	}
	after, err := m.stats()
	if err != nil {
		return err
	}
	for name, sum := range map[string]*float64{
		target.Writes: &run.Writes, target.Frames: &run.Frames, target.Bytes: &run.Bytes, target.Conflated: &run.Conflated,
	} {
		*sum += after.Counters[name] - before.Counters[name]
	}
	run.Mallocs += after.MallocsBefore - before.MallocsAfter
	return nil
}

// finish waits until everybody has everything, and stops.
func (s *side) finish(ctx context.Context, c *FanoutConfig) error {
	stats, err := s.rig.stats()
	if err != nil {
		return err
	}
	if s.edge && c.Profile != "" {
		if err := s.rig.server.Call("profiled", nil, nil); err != nil {
			return err
		}
	}
	if s.edge && c.Heap != "" {
		if err := s.rig.server.Call("heap", c.Heap, nil); err != nil {
			return err
		}
	}
	for _, p := range s.rig.swarms {
		behind, err := await(ctx, p, stats.Published, 10*time.Second)
		if err != nil {
			return err
		}
		s.run.Faults.Behind += behind
	}
	return errors.Join(s.run.collect(s.rig.swarms), s.rig.end())
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
	r.PerWrite = mid(func(x *FanoutRun) float64 { return x.sent(c) / max(1, x.Writes) })
	r.Bytes = mid(func(x *FanoutRun) float64 { return x.Bytes / max(1, x.sent(c)) })
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
	if c.SSE {
		heading = fmt.Sprintf("event streams, %s: %d topics, %d each, %s, medians of %d runs of %v; %v",
			c.Shape, c.Topics, c.Each, c.Channel, c.Repeat, c.Duration, r.Where)
	}
	if c.Deflate {
		heading = "compressed " + heading
	}
	rows := [][]string{{
		"clients", "flush", "rate", "offered/s", "delivered/s", "µs each", c.baseName() + " µs", "ratio", c.baseName() + "/s", "per write", "bytes", "allocs", "p50 ms", "p99", "p99.9", "max", "client µs",
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
			fmt.Sprint(x.Clients), x.Flush.String(), x.Stream.String(), offered, fmt.Sprintf("%.0f", x.Delivered), fmt.Sprintf("%.2f", x.CPU), floor, ratio, floorRate,
			fmt.Sprintf("%.1f", x.PerWrite), fmt.Sprintf("%.0f", x.Bytes), fmt.Sprintf("%.3f", x.Allocs), fmt.Sprintf("%.2f", x.P50), fmt.Sprintf("%.2f", x.P99),
			fmt.Sprintf("%.2f", x.P999), fmt.Sprintf("%.1f", x.Max), fmt.Sprintf("%.2f", x.Client),
		})
	}
	if !c.SSE {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 2, 3) // the streams' rate
		}
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
