package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Ingest is a load of raw records in, events out: the log is read as edges read it, and there are no clients.
type Ingest struct {
	Config
	Pace
	Saturate    bool // as fast as InFlight allows, instead of the rate
	InFlight    int
	Instruments int
	Seed        uint64
	Drain       time.Duration
}

// DefaultIngest is the rate of the end-to-end load.
func DefaultIngest() Ingest {
	return Ingest{
		Config: Config{Repeat: 3, Warmup: 2 * time.Second, Duration: 8 * time.Second}, Pace: Pace{Rate: 10_000},
		InFlight: 20_000, Instruments: 200, Seed: 1, Drain: 10 * time.Second,
	}
}

// RegisterFlags adds the flags.
func (v *Ingest) RegisterFlags(f *pflag.FlagSet) {
	v.Config.RegisterFlags(f)
	hide(f, "source", "symbols", "insecure", "token")
	v.Pace.RegisterFlags(f, "raw records")
	f.BoolVar(&v.Saturate, "saturate", false, "publish as fast as ingest keeps up, instead of at --rate: the most records per second")
	f.IntVar(&v.InFlight, "in-flight", v.InFlight, "with --saturate: raw records whose events have not come out, at most")
	f.IntVar(&v.Instruments, "instruments", v.Instruments, "that are published")
	f.DurationVar(&v.Drain, "drain", v.Drain, "how long the last events may take to come out, before they count as missing")
	f.Uint64Var(&v.Seed, "seed", v.Seed, "of the market")
}

// Validate says which flag is wrong.
func (v *Ingest) Validate() error {
	if err := v.settle(&v.Config); err != nil {
		return err
	}
	switch {
	case v.Deployment.Named() && len(v.Deployment.Kafka.Brokers) == 0:
		return errors.New("--kafka: the brokers are missing")
	case v.Saturate && (v.Stages != "" || v.Count > 0 || v.Ramp > 0):
		return errors.New("--saturate: not with --stages, --count or --ramp, which are about a rate")
	case v.InFlight < 1:
		return errors.New("--in-flight: above 0")
	case v.Instruments < 1 || v.Instruments > 10_000:
		return errors.New("--instruments: from 1 to 10,000")
	case v.Drain < 0:
		return errors.New("--drain: not negative")
	case len(v.Deployment.Symbols) > 0:
		return errors.New("--symbols: this load publishes instruments of its own")
	}
	return v.Config.Validate()
}

// Total is about how long it takes.
func (v *Ingest) Total() time.Duration {
	return v.total(&v.Config)
}

// RunIngest runs the load.
func RunIngest(ctx context.Context, v Ingest, rec *report.Recorder) (*report.Report, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	r, err := v.repeat(ctx, rec, []string{"--webhook-addr", ""}, v.run)
	if err != nil {
		return nil, err
	}
	how := v.rates() + " raw records/s"
	if v.Saturate {
		how = fmt.Sprintf("as many raw records as come out again, %d in flight", v.InFlight)
	}
	r.Title = fmt.Sprintf("%s of %d instruments, to their events in the log", how, v.Instruments)
	r.System.Protocol = "Kafka"
	if r.System.Where == "" {
		r.System.Where = "Kafka at " + v.Deployment.Kafka.Brokers[0]
	}
	return r, nil
}

func (v *Ingest) run(ctx context.Context, on *stage) (*trial, error) {
	cluster, err := on.Cluster()
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	pub, err := newPublisher(ctx, cluster, v.Instruments, v.Rate, v.Seed)
	if err != nil {
		return nil, err
	}
	defer closing(ctx, pub.w)()
	m := newMeter(false)
	log := newLog(m, pub)
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	defer stop()
	group.Go(func() error { return cluster.Reader(stream.ReaderConfig{}, log).Run(running) })
	t, err := v.measure(ctx, on, pub, log)
	stop()
	return t, errors.Join(err, ignoreCanceled(group.Wait()))
}

// read waits until all has been read that was there before us, so that nothing of ours stands in a snapshot.
func (v *Ingest) read(ctx context.Context, pub *publisher, log *log) error {
	done, err := await(ctx, time.Minute, func() bool { return log.ready() >= pub.w.Partitions() })
	if err == nil && !done {
		err = fmt.Errorf("%d of %d partitions of the log could be read (is --kafka right?)", log.ready(), pub.w.Partitions())
	}
	return err
}

// measure publishes what log reads.
func (v *Ingest) measure(ctx context.Context, on *stage, pub *publisher, log *log) (*trial, error) {
	if err := v.read(ctx, pub, log); err != nil {
		return nil, err
	}
	began := time.Now()
	log.began.Store(began.UnixMicro())
	publishing, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	defer stop()
	whole, lead, err := v.whole(v.Warmup)
	if err != nil {
		return nil, err
	}
	publishing.Go(func() error {
		return pub.run(running, plan{at: began, schedule: schedule.Constant(max(1, whole[0].From/10))})
	})
	known, err := await(running, time.Minute, func() bool { return log.known() == v.Instruments })
	if err == nil && !known {
		err = fmt.Errorf("ingest has made events of %d of %d instruments", log.known(), v.Instruments)
	}
	if err != nil {
		stop()
		return nil, errors.Join(err, ignoreCanceled(publishing.Wait()))
	}
	on.phase("warm up")
	at := time.Now().Add(100 * time.Millisecond)
	from := at.Add(lead)
	to := from.Add(v.Duration)
	log.meter.open(from, to)
	next := plan{at: at, schedule: whole, from: from, to: to}
	if v.Saturate {
		next.room = func() bool { return pub.moves.Load()-log.seen.Load() < int64(v.InFlight) }
	}
	pub.follow(next)
	_ = schedule.Pause(running, time.Until(from)) // cut short, the publisher says why
	on.phase("run")
	before, events := look(on.PID), log.events.Load()
	s := sampler{meter: log.meter, rec: on.rec, server: proc.NewWatch(on.PID), sent: pub.sent.Load, faults: log.faults}
	s.start()
	defer s.tick.Stop()
	s.until(running.Done(), to)
	used, made := before.since(), log.events.Load()-events
	if err := publishing.Wait(); err != nil {
		return nil, err
	}
	on.phase("drain")
	if err := acknowledged(ctx, pub.w); err != nil {
		return nil, err
	}
	if _, err := await(ctx, v.Drain, func() bool { return log.seen.Load() >= pub.moves.Load() }); err != nil {
		return nil, err
	}
	return v.figures(pub, log, used, made)
}

func (v *Ingest) figures(pub *publisher, log *log, used *machine, events int64) (*trial, error) {
	m := log.meter
	m.collect()
	if m.total.messages == 0 {
		return nil, errors.New("no event came out")
	}
	t := &trial{figures: map[string]float64{}, latency: m.total.latency}
	m.measures(t.figures, v.Duration)
	for _, name := range []string{"messages/s", "ingest_p50", "ingest_p99", "edge_p50", "edge_p99"} { // are of clients
		delete(t.figures, name)
	}
	t.figures["sent/s"] = float64(pub.window) / v.Duration.Seconds()
	if !v.Saturate { // it waits for ingest then
		t.figures["publisher_lag"] = quantile(pub.late, 99)
	}
	t.figures["per_raw"] = float64(events) / float64(max(1, pub.window))
	used.measures(t, v.Duration, m.total.messages)
	log.verdict(t)
	return t, nil
}

// log reads md.events and checks that each book update and each trade that was published came out once, and in order.
type log struct {
	meter  *meter
	pub    *publisher
	began  atomic.Int64 // µs: our market, before the first record of it
	seen   atomic.Int64 // book updates and trades
	events atomic.Int64 // of our instruments, bars and all

	mu    sync.Mutex
	parts map[int]*part
}

// part is one partition, for the goroutine that reads it; the lock is for those who look.
type part struct {
	mu       sync.Mutex
	insts    map[uint32]*came
	ready    bool // what was before us has been read
	status   market.Status
	snapshot stream.InstrumentSnapshot
	gaps     int64
	repeated int64
}

// came is what came out of an instrument.
type came struct {
	sym         string
	live        bool // since our market began
	epoch       uint32
	book, trade uint64 // sequences
	updates     int64
	trades      int64
}

func newLog(m *meter, pub *publisher) *log {
	return &log{meter: m, pub: pub, parts: map[int]*part{}}
}

func (l *log) part(n int) *part {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parts[n] == nil {
		l.parts[n] = &part{insts: map[uint32]*came{}}
	}
	return l.parts[n]
}

func (l *log) all() (all []*part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		all = append(all, p)
	}
	return all
}

// Snapshot implements stream.Handler. Of what was before us the instruments matter alone.
func (l *log) Snapshot(n int, s *stream.Snapshot) error {
	if s.Kind != stream.KindInstrument {
		return nil
	}
	p := l.part(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.snapshot.Decode(s.Payload); err != nil {
		return err
	}
	l.define(p, &p.snapshot.Status)
	return nil
}

// Phase implements stream.Handler.
func (l *log) Phase(n int, phase stream.Phase, why error) {
	p := l.part(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case phase == stream.PhaseReady:
		p.ready = true
	case phase == stream.PhaseReset && why != nil:
		p.gaps++ // events between are lost to us
	}
}

// ready is how many partitions have been read to their end.
func (l *log) ready() (n int) {
	for _, p := range l.all() {
		p.mu.Lock()
		if p.ready {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

// Batch implements stream.Handler.
func (l *log) Batch(b *stream.EventBatch) error {
	p := l.part(b.Partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	var ev stream.Event
	for b.Next(&ev) {
		if err := l.event(p, b.Partition, &ev); err != nil {
			return fmt.Errorf("offset %d: %w", ev.Offset, err)
		}
	}
	return nil
}

func (l *log) event(p *part, partition int, ev *stream.Event) error {
	switch {
	case ev.Template == wire.TemplateStatus:
		err := wire.DecodeStatus(ev.Value, &p.status)
		if err == nil {
			l.define(p, &p.status)
		}
		return err
	case !ev.Template.IsEvent():
		return nil
	}
	h, err := wire.HeadOf(ev.Value)
	if err != nil {
		return err
	}
	c := p.insts[h.Inst]
	if c == nil {
		return nil
	}
	if ev.Template == wire.TemplateBookSnapshot {
		// Ours is the first that is not older than our market: what comes behind it is what we publish.
		if began := l.began.Load(); began > 0 && h.Time.Micros() >= began {
			c.live, c.epoch, c.book = true, h.Epoch, h.Seq
		}
		return nil
	}
	if !c.live {
		if ev.Template == wire.TemplateTrade || ev.Template == wire.TemplateTradeGap {
			c.trade = h.Seq
		}
		return nil
	}
	l.events.Add(1)
	switch ev.Template {
	case wire.TemplateBookUpdate:
		if p.follows(&c.book, &h) {
			c.updates++
			l.came(partition, &h)
		}
	case wire.TemplateTrade:
		if p.follows(&c.trade, &h) {
			c.trades++
			l.came(partition, &h)
		}
	case wire.TemplateTradeGap:
		if c.trades > 0 { // else it is from an earlier run's market to ours, whose trades have other numbers
			p.gaps++
		}
		c.trade = h.Seq
	}
	return nil
}

func (l *log) came(partition int, h *market.Head) {
	l.seen.Add(1)
	l.meter.record(partition, h, 1)
}

// define learns of an instrument.
func (l *log) define(p *part, s *market.Status) {
	if _, ours := l.pub.index[s.Instrument.Sym]; ours && p.insts[s.Instrument.ID] == nil {
		p.insts[s.Instrument.ID] = &came{sym: s.Instrument.Sym}
	}
}

// follows tells whether an event is the next one of its topic, and counts what is wrong if it is not.
func (p *part) follows(last *uint64, h *market.Head) bool {
	switch {
	case h.Seq <= *last:
		p.repeated++
		return false
	case *last != 0 && h.Prev != *last:
		p.gaps++
	}
	*last = h.Seq
	return true
}

// known is how many instruments have a book since our market began.
func (l *log) known() (n int) {
	for _, p := range l.all() {
		p.mu.Lock()
		for _, c := range p.insts {
			if c.live {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

func (l *log) faults() (n int64) {
	for _, p := range l.all() {
		p.mu.Lock()
		n += p.gaps + p.repeated
		p.mu.Unlock()
	}
	return n
}

// verdict compares what came out with what was published.
func (l *log) verdict(t *trial) {
	came := make([]came, len(l.pub.last))
	var gaps, repeated, missing, more int64
	for _, p := range l.all() {
		p.mu.Lock()
		gaps += p.gaps
		repeated += p.repeated
		for _, c := range p.insts {
			came[l.pub.index[c.sym]] = *c
		}
		p.mu.Unlock()
	}
	for i := range came {
		for _, d := range []int64{l.pub.last[i].updates - came[i].updates, l.pub.last[i].trades - came[i].trades} {
			missing += max(0, d)
			more += max(0, -d)
		}
	}
	t.figures["gaps"], t.figures["repeated"], t.figures["missing"] = float64(gaps), float64(repeated+more), float64(missing)
}
