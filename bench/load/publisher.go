package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
)

// Prefix is what the names of all instruments begin with that a load publishes, so that they can't be a market's own.
const Prefix = "BENCH-"

// publisher writes a simulated market to md.raw on a schedule. Its records carry their intended send time as their event time.
//
// The market has a time of its own, in which so many records are made per second; the schedule says when it passes. Orders
// that come in clusters stay so, whatever the rate.
type publisher struct {
	w       *stream.RawWriter
	market  *sim.Market
	start   market.Time // of the market's own time
	rate    float64     // records per second of that
	session string
	headers []stream.Header
	clocks  []int     // partitions that hold instruments
	tick    time.Time // when the clocks are due

	plan  plan
	base  float64 // of the plan's first record: its number in the market
	next  *plan   // has been seen, and its time has not come
	plans chan plan
	cut   atomic.Int64 // µs since 1970 from which on nothing more is sent; 0 for none
	sent  atomic.Int64 // records, clocks included
	moves atomic.Int64 // of these, book updates and trades that make an event

	// Read when run has returned.
	index  map[string]int
	last   []published // by instrument
	late   *hdrhistogram.Histogram
	window int64 // records meant for the window
}

// published is what has been sent of an instrument: when the newest was meant to be sent, in µs, and how many there were.
type published struct {
	book, trade     int64
	updates, trades int64
}

// goodbye is how long a writer may take for what is pending.
const goodbye = 2 * time.Second

// closing ends a writer when ctx ends, so that nobody waits for brokers who take nothing more, or when done is called, which waits for
// its end.
func closing(ctx context.Context, w *stream.RawWriter) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(ended)
		hangUp(ctx, w)
	})
	return func() {
		cancel()
		<-ended
	}
}

// hangUp ends a writer. All that counts has been waited for, and brokers that are gone take nothing more: they would be waited for
// for ever, also after ctx has ended.
func hangUp(ctx context.Context, w *stream.RawWriter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_ = w.Close(ctx) // what is lost was not to be measured
}

// unanswered is how long brokers may take to acknowledge what they have been sent.
const unanswered = 20 * time.Second

// acknowledged waits until brokers have taken all that was written.
func acknowledged(ctx context.Context, w *stream.RawWriter) error {
	ctx, cancel := context.WithTimeoutCause(ctx, unanswered, fmt.Errorf("the brokers have not acknowledged everything in %v: do they still run?", unanswered))
	defer cancel()
	if err := w.Wait(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("write to md.raw: %w", err)
	}
	return nil
}

// plan says when records are due: by the schedule from at on, or, when there is room, as long as that says so.
type plan struct {
	at       time.Time
	schedule schedule.Schedule
	room     func() bool
	from, to time.Time // the window that is measured; publishing ends with it, if it is set
}

// newPublisher makes the market. Rate is about that of the schedule.
func newPublisher(ctx context.Context, cluster *stream.Cluster, instruments int, rate float64, seed uint64) (*publisher, error) {
	w, err := cluster.RawWriter(ctx, cluster.Topics().Raw, stream.RawWriterConfig{})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p := &publisher{
		w: w, rate: max(1, math.Round(rate)), session: fmt.Sprintf("bench-%d", now.UnixMicro()), start: virtual(now),
		tick: now.Truncate(time.Second), plans: make(chan plan, 1), index: map[string]int{}, late: schedule.NewHistogram(),
	}
	p.headers = []stream.Header{{Key: "source", Value: []byte("tickwire")}, {Key: "session", Value: []byte(p.session)}}
	p.market = sim.New(sim.Config{Seed: seed, Instruments: instruments, Rate: int(p.rate), Start: p.start, Session: p.session, Prefix: Prefix})
	for _, in := range p.market.Instruments() {
		p.index[in.Sym] = len(p.last)
		p.last = append(p.last, published{})
		if n := w.Partition([]byte(in.Sym)); !slices.Contains(p.clocks, n) {
			p.clocks = append(p.clocks, n)
		}
	}
	return p, nil
}

// virtual is when the market's own time begins. The ids of its trades begin with it, and those of a later run must be
// greater: so it passes much faster from one run to the next than any schedule has it pass in a run.
func virtual(now time.Time) market.Time {
	epoch := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	return market.FromTime(epoch.Add(16 * now.Sub(epoch)))
}

// names are the instruments.
func (p *publisher) names() (all []string) {
	for _, in := range p.market.Instruments() {
		all = append(all, in.Sym)
	}
	return all
}

// follow has the publisher go by another plan. Records that are due before that begins still go by the last one.
func (p *publisher) follow(next plan) { p.plans <- next }

// run publishes until its plan or ctx ends. First comes what the market's books are, then what happens to them.
func (p *publisher) run(ctx context.Context, first plan) error {
	runtime.LockOSThread() // see schedule.SleepUntil
	defer runtime.UnlockOSThread()
	p.plan = first
	for {
		rec := p.market.Next()
		if rec.Kind == sim.Clock {
			continue // ours come by the wall clock
		}
		due, err := p.await(ctx, p.rate*float64(rec.Time-p.start)/1e9)
		if err != nil {
			return err
		}
		if p.ended(due) {
			return nil
		}
		if err := p.write(rec, due); err != nil {
			return fmt.Errorf("write to md.raw: %w", err)
		}
	}
}

// maxSleep is how long a plan that is to be followed may wait to be seen.
const maxSleep = 20 * time.Millisecond

// await waits until record n of the market is due, and returns when that was.
func (p *publisher) await(ctx context.Context, n float64) (due time.Time, err error) {
	for ctx.Err() == nil {
		select {
		case next := <-p.plans:
			p.next = &next
		default:
		}
		if err := p.clock(); err != nil {
			return due, err
		}
		now := time.Now()
		if cut := p.cut.Load(); cut > 0 && now.UnixMicro() >= cut {
			p.plan.to = time.UnixMicro(cut)
			if late := p.plan.at.Add(p.plan.schedule.Due(n - p.base)); late.Before(p.plan.to) {
				p.plan.to = late // what is due from then on has not been sent
			}
			return p.plan.to, nil
		}
		if p.plan.room != nil {
			if p.ended(now) || p.plan.room() {
				return now, nil
			}
			schedule.SleepUntil(ctx, now.Add(50*time.Microsecond))
			continue
		}
		due = p.plan.at.Add(p.plan.schedule.Due(n - p.base))
		if p.next != nil && !due.Before(p.next.at) {
			p.plan, p.base, p.next = *p.next, n, nil
			continue
		}
		if !due.After(now) || p.ended(due) {
			return due, nil
		}
		wake := due
		for _, t := range []time.Time{p.tick, now.Add(maxSleep)} {
			if t.Before(wake) {
				wake = t
			}
		}
		schedule.SleepUntil(ctx, wake)
	}
	return due, ctx.Err()
}

// ended tells whether the plan has ended by then.
func (p *publisher) ended(t time.Time) bool { return !p.plan.to.IsZero() && !t.Before(p.plan.to) }

// clock tells each second that the market is alive, as connectors do.
func (p *publisher) clock() error {
	now := time.Now()
	if now.Before(p.tick) {
		return nil
	}
	p.tick = now.Truncate(time.Second).Add(time.Second)
	value := fmt.Appendf(nil, `{"type":"clock","source":"tickwire","session":%q,"ts":%d}`, p.session, now.UnixMicro())
	var errs []error
	for _, n := range p.clocks {
		p.sent.Add(1)
		errs = append(errs, p.w.WriteTo(n, &stream.Record{Value: value, Headers: p.headers}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write a clock to md.raw: %w", err)
	}
	return nil
}

// write sends a record with its intended send time.
func (p *publisher) write(rec *sim.Record, due time.Time) error {
	us := due.UnixMicro()
	if err := stamp(rec.Value, us); err != nil {
		return err
	}
	last := &p.last[p.index[string(rec.Key)]]
	switch {
	case rec.Kind == sim.Update && !rec.Moot:
		last.book = us
		last.updates++
		p.moves.Add(1)
	case rec.Kind == sim.Trade:
		last.trade = us
		last.trades++
		p.moves.Add(1)
	}
	p.sent.Add(1)
	if !p.plan.from.IsZero() && !due.Before(p.plan.from) {
		schedule.Record(p.late, us, time.Now().UnixMicro())
		p.window++
	}
	return p.w.Write(&stream.Record{Key: rec.Key, Value: rec.Value, Headers: p.headers})
}

var tsField = []byte(`,"ts":`)

// stamp replaces the time in a record, which stands at its end, by one with as many digits.
func stamp(value []byte, us int64) error {
	i := bytes.LastIndex(value, tsField)
	if i < 0 {
		return fmt.Errorf("%.80q… has no time", value)
	}
	digits := value[i+len(tsField) : len(value)-1]
	if text := strconv.AppendInt(make([]byte, 0, 20), us, 10); len(text) != copy(digits, text) || len(text) != len(digits) {
		return fmt.Errorf("time %d is no %d digits", us, len(digits))
	}
	return nil
}
