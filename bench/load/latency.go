// Package load makes load on a Tickwire deployment and measures what its users would see.
//
// Latency is always measured from the *intended* send time: the schedule is fixed beforehand, so a producer that is held up
// does not hide the wait from the figures (no coordinated omission).
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
)

// LatencyConfig describes a run of raw records in, WebSocket deliveries out.
type LatencyConfig struct {
	URL         string          // of the WebSocket edge
	Cluster     *stream.Cluster // where md.raw is
	Rate        int             // raw records per second
	Instruments int
	Subscribers int // connections
	Each        int // instruments per connection: the book at full depth, and the trades
	Warmup      time.Duration
	Duration    time.Duration
	Seed        uint64
	Server      int       // process id of the servers, whose CPU time is reported; 0 when it is not known
	Profile     io.Writer // a CPU profile of the load itself in the measured part; nil for none
}

// DefaultLatency is the load that the README's figures are about.
func DefaultLatency() LatencyConfig {
	return LatencyConfig{
		Rate: 10_000, Instruments: 200, Subscribers: 100, Each: 10, Warmup: 3 * time.Second, Duration: 20 * time.Second, Seed: 1,
	}
}

// LatencyReport is what a run measured after its warm-up.
type LatencyReport struct {
	Sent       int64                   // raw records
	Delivered  int64                   // messages that reached a client's callback
	Elapsed    time.Duration           // of the measured part
	ServerCPU  time.Duration           // of the servers' process, broker included when it is embedded; 0 when not known
	LoadCPU    time.Duration           // of this process: producer and clients
	Gaps       uint64                  // book updates that did not follow
	Mismatches uint64                  // book hashes that differed
	Lost       uint64                  // trades said to be lost
	Histogram  *hdrhistogram.Histogram // microseconds, from intended send time to the client's callback
}

// String is the report for people.
func (r *LatencyReport) String() string {
	q := func(p float64) float64 { return float64(r.Histogram.ValueAtQuantile(p)) / 1000 }
	seconds := r.Elapsed.Seconds()
	return fmt.Sprintf("raw records    %d (%.0f/s)\ndeliveries     %d (%.0f/s)\nlatency ms     p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n"+
		"CPU            servers %.2f µs per delivery, %.1f µs per raw record; producer and clients %.2f µs per delivery\nfaults         %d gaps, %d hash mismatches, %d trades lost\n",
		r.Sent, float64(r.Sent)/seconds, r.Delivered, float64(r.Delivered)/seconds,
		q(50), q(90), q(99), q(99.9), float64(r.Histogram.Max())/1000,
		float64(r.ServerCPU.Microseconds())/float64(max(1, r.Delivered)), float64(r.ServerCPU.Microseconds())/float64(max(1, r.Sent)),
		float64(r.LoadCPU.Microseconds())/float64(max(1, r.Delivered)),
		r.Gaps, r.Mismatches, r.Lost)
}

// Err says whether the run can be believed: everything was sent on time enough to count, something arrived, nothing was
// wrong.
func (r *LatencyReport) Err() error {
	switch {
	case r.Delivered == 0:
		return errors.New("nothing was delivered")
	case r.Gaps != 0 || r.Mismatches != 0 || r.Lost != 0:
		return fmt.Errorf("%d gaps, %d hash mismatches, %d trades lost", r.Gaps, r.Mismatches, r.Lost)
	}
	return nil
}

// subscriber is one connection with its own histogram, so that nothing is shared while measuring.
type subscriber struct {
	client    *client.Client
	books     []*client.Book
	measuring *atomic.Bool
	hist      *hdrhistogram.Histogram
	delivered int64
	lost      uint64
}

const maxLatency = 60_000_000 // µs; what is slower counts as this

func (s *subscriber) record(at market.Time) {
	if !s.measuring.Load() {
		return
	}
	s.delivered++
	us := min(max(1, time.Now().UnixMicro()-at.Micros()), maxLatency)
	_ = s.hist.RecordValue(us) // in range by construction
}

// Latency runs the load. The market is simulated; its records carry their intended send time as their event time.
func Latency(ctx context.Context, cfg LatencyConfig) (*LatencyReport, error) {
	w, err := cfg.Cluster.RawWriter(ctx, cfg.Cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close(context.WithoutCancel(ctx)) }()
	start := time.Now().Add(100 * time.Millisecond).Truncate(time.Microsecond)
	session := fmt.Sprintf("bench-%d", start.UnixMicro())
	producer := newProducer(w, session, sim.New(sim.Config{
		Seed: cfg.Seed, Instruments: cfg.Instruments, Rate: cfg.Rate, Start: market.FromTime(start), Session: session,
	}))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return producer.run(ctx) })

	var measuring atomic.Bool
	subscribers, err := cfg.subscribe(ctx, producer.market.Instruments(), &measuring)
	defer func() {
		for _, s := range subscribers {
			_ = s.client.Close()
		}
	}()
	if err == nil {
		err = pause(ctx, cfg.Warmup)
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, group.Wait())
	}
	report := cfg.measure(ctx, producer, subscribers, &measuring)
	cancel()
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return report, nil
}

// measure lets the run go on for its Duration and adds up what the subscribers saw.
func (cfg *LatencyConfig) measure(ctx context.Context, p *producer, subscribers []*subscriber, measuring *atomic.Bool) *LatencyReport {
	r := &LatencyReport{Histogram: newHistogram()}
	sent, server, own, began := p.sent.Load(), proc.CPU(cfg.Server), ownTime(), time.Now()
	measuring.Store(true)
	if cfg.Profile != nil && pprof.StartCPUProfile(cfg.Profile) == nil {
		defer pprof.StopCPUProfile()
	}
	_ = pause(ctx, cfg.Duration) // cut short, the report says how long it was
	measuring.Store(false)
	r.Sent, r.Elapsed = p.sent.Load()-sent, time.Since(began)
	r.ServerCPU, r.LoadCPU = proc.CPU(cfg.Server)-server, ownTime()-own
	for _, s := range subscribers {
		_ = s.client.Close() // its callbacks have ended when this returns
		r.Delivered += s.delivered
		r.Lost += s.lost
		r.Histogram.Merge(s.hist)
		for _, b := range s.books {
			stats := b.BookStats()
			r.Gaps += stats.Gaps
			r.Mismatches += stats.Mismatches
		}
	}
	return r
}

// subscribe connects the subscribers, each with a random choice of instruments.
func (cfg *LatencyConfig) subscribe(ctx context.Context, instruments []market.Instrument, measuring *atomic.Bool) ([]*subscriber, error) {
	if err := cfg.known(ctx, len(instruments)); err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(cfg.Seed, 2)) //nolint:gosec // a reproducible choice
	var all []*subscriber
	for range cfg.Subscribers {
		s := &subscriber{measuring: measuring, hist: newHistogram()}
		c, err := client.Dial(ctx, client.Config{URL: cfg.URL, Handler: client.Handler{
			OnBook: func(_ *client.Book, u *client.BookUpdate) {
				if !u.Snapshot {
					s.record(u.Time)
				}
			},
			OnTrade: func(_ *client.Trades, m *market.Trade) { s.record(m.Time) },
			OnTradeGap: func(_ *client.Trades, m *market.TradeGap) {
				if measuring.Load() { // before, the market's new session is said to be a gap, if another was here before
					s.lost += uint64(max(1, m.Missed))
				}
			},
		}})
		if err != nil {
			return all, err
		}
		s.client = c
		all = append(all, s)
		for _, i := range random.Perm(len(instruments))[:min(cfg.Each, len(instruments))] {
			b, err := c.Book(instruments[i].Sym, client.BookView{})
			if err != nil {
				return all, err
			}
			if _, err := c.Trades(instruments[i].Sym, 0); err != nil {
				return all, err
			}
			s.books = append(s.books, b)
		}
	}
	for _, s := range all {
		for _, b := range s.books {
			if err := b.Wait(ctx); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// known waits until the edge has a price for so many instruments.
func (cfg *LatencyConfig) known(ctx context.Context, n int) error {
	for {
		list, err := client.Symbols(ctx, client.Config{URL: cfg.URL}, 300*time.Millisecond)
		if err != nil {
			return err
		}
		if len(list) >= n {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// producer writes the market to md.raw on its schedule.
type producer struct {
	w       *stream.RawWriter
	market  *sim.Market
	headers []stream.Header
	clocks  []int // partitions that hold instruments
	sent    atomic.Int64
}

func newProducer(w *stream.RawWriter, session string, m *sim.Market) *producer {
	p := &producer{w: w, market: m, headers: []stream.Header{
		{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: []byte(session)},
	}}
	for _, in := range m.Instruments() {
		if n := w.Partition([]byte(in.Sym)); !slices.Contains(p.clocks, n) {
			p.clocks = append(p.clocks, n)
		}
	}
	slices.Sort(p.clocks)
	return p
}

// run sends each record when its time has come, late ones at once, until ctx ends.
func (p *producer) run(ctx context.Context) error {
	// The runtime's timers are up to a millisecond late when the process is idle, and that would count as the system's
	// latency; a thread that the kernel wakes is late by some tens of microseconds.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		rec := p.market.Next()
		sleepUntil(rec.Time.Std())
		if err := p.write(rec); err != nil {
			return fmt.Errorf("write to md.raw: %w", err)
		}
	}
	return ctx.Err()
}

// sleepUntil sleeps in the kernel. Records are never more than about a second apart, for clocks are records.
func sleepUntil(t time.Time) {
	for wait := time.Until(t); wait > 0; wait = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(wait))
		_ = syscall.Nanosleep(&ts, nil) // cut short by a signal, the loop goes on
	}
}

func (p *producer) write(rec *sim.Record) error {
	out := stream.Record{Key: rec.Key, Value: rec.Value, Headers: p.headers}
	p.sent.Add(1)
	if rec.Kind != sim.Clock {
		return p.w.Write(&out)
	}
	var errs []error
	for _, n := range p.clocks {
		errs = append(errs, p.w.WriteTo(n, &out))
	}
	return errors.Join(errs...)
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, 3) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// ownTime is the CPU time that this process has used, user and system.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
