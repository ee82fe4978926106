package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

const (
	heartbeatEvery = time.Second
	// turnRecords is how many records are applied before the loop looks at the time again.
	turnRecords = 256
)

// partition is one partition that we own, from takeover to loss.
type partition struct {
	s     *Service
	n     int
	count int
	log   *zap.Logger
	g     gauges

	owner  *stream.Owner
	fetch  *stream.Fetcher
	core   *core
	saver  saver
	tally  tally
	in     input
	beatAt time.Time // of the last heartbeat

	alive atomic.Int64 // when the loop last turned, Unix nanoseconds; 0 while it is not watched
}

// runPartition takes a partition over and works on it until ctx ends or it is lost.
func (s *Service) runPartition(ctx context.Context, n, count int) error {
	p := &partition{s: s, n: n, count: count, log: s.log.With(zap.Int("partition", n)), g: s.m.gauges(n)}
	defer p.g.forget()
	owner, err := s.cluster.TakeOver(ctx, n, stream.OwnerOptions{
		Instance: s.cfg.Instance, Version: Version, Compression: compressions[s.cfg.Compression],
	})
	if err != nil {
		return err
	}
	p.owner = owner
	done := make(chan error, 1)
	go func() { done <- p.work(ctx) }()
	return p.watch(done)
}

// work recovers the state and runs the loop.
func (p *partition) work(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.close(err)) }()
	if err := p.recover(ctx); err != nil {
		return err
	}
	return p.loop(ctx)
}

// close gives the partition up: in good order, with everything saved, when nothing has failed.
func (p *partition) close(cause error) error {
	p.alive.Store(0)
	if p.fetch != nil {
		p.fetch.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	orderly := errors.Is(cause, context.Canceled) && p.owner.Err() == nil
	if !orderly {
		cancel()
	}
	var err error
	if orderly && p.saver.core != nil && p.s.quarantine.settled() {
		if err = p.saver.all(); busy(err) {
			err = nil // the next owner replays a little more
		}
	}
	closed := p.owner.Close(ctx)
	if !orderly {
		return nil // cause says it all
	}
	return errors.Join(err, closed)
}

// watch waits for the work to end. A loop that stands still while Kafka's group believes it alive would keep the partition
// from others: it is then cut off from Kafka, which ends every wait in it.
func (p *partition) watch(done <-chan error) error {
	limit := p.s.cfg.StallTimeout
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	var cut time.Time
	for {
		select {
		case err := <-done:
			return err
		case now := <-tick.C:
			at := p.alive.Load()
			switch {
			case !cut.IsZero() && now.Sub(cut) > limit+closeGrace:
				return fmt.Errorf("partition %d: %w", p.n, ErrStuck)
			case cut.IsZero() && at != 0 && now.Sub(time.Unix(0, at)) > limit:
				cut = now
				p.s.m.stalls.Inc()
				p.log.Error("loop stands still, giving the partition up")
				gone, cancel := context.WithCancel(context.Background())
				cancel()
				_ = p.owner.Close(gone) // what is pending is given up with the partition
			}
		}
	}
}

// recover brings the core to where md.events ends.
func (p *partition) recover(ctx context.Context) error {
	began := time.Now()
	now, left, err := p.look(ctx)
	if err != nil {
		return err
	}
	do := now.plan()
	p.core = now.restored.core
	how := "replay"
	switch {
	case do.rebuild:
		how = "rebuild"
		err = p.rebuild(ctx, now.restored, do)
	case !now.tail.Found && !now.snapshots:
		how = "cold"
	default:
		err = p.replay(ctx, do, left)
	}
	if err != nil {
		return err
	}
	p.resume(do)
	p.s.m.takeovers.WithLabelValues(how).Inc()
	p.log.Info("partition taken over",
		zap.String("how", how), zap.String("why", do.why.String()), zap.Int64("owner_epoch", p.owner.Epoch),
		zap.Int64("from", do.from), zap.Int64("answered", do.answered), zap.Int("instruments", len(p.core.list)),
		zap.Duration("took", time.Since(began)))
	return nil
}

// look reads what the owners before us have left.
func (p *partition) look(ctx context.Context) (*situation, *tail, error) {
	var snaps []stream.Snapshot
	if err := p.owner.Snapshots(ctx, func(s *stream.Snapshot) error {
		snaps = append(snaps, *s)
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("read snapshots: %w", err)
	}
	first, end, err := p.s.cluster.Offsets(ctx, p.s.cluster.Topics().Raw, p.n)
	if err != nil {
		return nil, nil, err
	}
	r, err := restore(p.n, p.count, snaps, first)
	if err != nil {
		// md.raw from its beginning, or md.events, must do.
		p.log.Error("snapshots can not be used", zap.Error(err))
		r = &restored{core: newCore(p.n, p.count), from: first}
	}
	left := new(tail)
	t, err := p.owner.Tail(ctx, r.events, eachEvent(left.add))
	if err != nil {
		return nil, nil, fmt.Errorf("read the tail of md.events: %w", err)
	}
	return &situation{restored: r, snapshots: len(snaps) > 0, tail: t, first: first, end: end}, left, nil
}

// resume makes everything ready for the first input that is news.
func (p *partition) resume(do plan) {
	if p.fetch == nil {
		p.fetch = p.s.cluster.Fetcher(p.s.cluster.Topics().Raw, p.n, do.from)
	}
	p.core.offset = max(p.core.offset, do.answered)
	p.owner.Start(do.answered)
	p.tally = tally{before: p.core.stats}
	p.saver = saver{
		core: p.core, every: p.s.cfg.SnapshotEvery, write: p.owner.WriteSnapshot,
		events: func() int64 { offset, _ := p.owner.Events.Acked(); return offset },
		bytes:  func(n int) { p.s.m.snapshotBytes.Add(float64(n)) },
	}
}

// eachEvent adapts a function of single records to Owner.Tail.
func eachEvent(fn func(wire.Template, []byte) error) func(*stream.EventBatch) error {
	return func(b *stream.EventBatch) error {
		var ev stream.Event
		for b.Next(&ev) {
			if err := fn(ev.Template, ev.Value); err != nil {
				return fmt.Errorf("at %d: %w", ev.Offset, err)
			}
		}
		return nil
	}
}

// rebuild takes the state from md.events.
func (p *partition) rebuild(ctx context.Context, r *restored, do plan) error {
	p.log.Error("md.raw can not be applied again, every book is reset",
		zap.String("why", do.why.String()), zap.Bool("new_epochs", do.renumber))
	b := newRebuild(r.core)
	if _, err := p.owner.Tail(ctx, r.events, eachEvent(b.add)); err != nil {
		return fmt.Errorf("rebuild from md.events: %w", err)
	}
	b.finish(do.answered, do.why, do.renumber)
	return nil
}

// replay applies md.raw up to the input that md.events has answered, and compares.
func (p *partition) replay(ctx context.Context, do plan, left *tail) error {
	p.fetch = p.s.cluster.Fetcher(p.s.cluster.Topics().Raw, p.n, do.from)
	var rec stream.Record
	for p.fetch.Offset() <= do.answered {
		b, err := p.fetch.Next(ctx)
		if err != nil {
			return fmt.Errorf("replay md.raw: %w", err)
		}
		for b.Next(&rec) {
			if rec.Offset > do.answered { // the rest of the batch is news: read it again, aloud
				p.fetch.Close()
				p.fetch = p.s.cluster.Fetcher(p.s.cluster.Topics().Raw, p.n, do.answered+1)
				break
			}
			p.apply(&rec)
		}
		if err := b.Err(); err != nil {
			return err
		}
	}
	if err := left.verify(p.core); err != nil {
		p.s.m.diverged.Inc()
		p.log.Error("alarm: replay differs from md.events", zap.Error(err))
		return err
	}
	return nil
}

// loop applies what comes in until ctx ends or the partition is lost.
func (p *partition) loop(ctx context.Context) error {
	p.s.setRunning(p.n, true)
	for {
		if err := p.owner.Err(); err != nil {
			return err
		}
		if err := p.turn(time.Now()); err != nil {
			return err
		}
		b, err := p.fetch.Next(ctx)
		if err != nil {
			return err
		}
		if !b.Empty() {
			if err := p.batch(b); err != nil {
				return err
			}
		}
		if !p.fetch.Buffered() {
			p.owner.Events.Flush()
		}
	}
}

// batch applies a batch of raw records and hands their events to the writer.
func (p *partition) batch(b *stream.Batch) error {
	began := time.Now()
	var rec stream.Record
	for n := 1; b.Next(&rec); n++ {
		p.apply(&rec)
		w := p.owner.Events
		for i := range p.core.out.len() {
			w.Add(p.core.out.event(i))
		}
		if err := w.Commit(rec.Offset); err != nil {
			return fmt.Errorf("events of input %d: %w", rec.Offset, err)
		}
		if n%turnRecords == 0 {
			if err := p.turn(time.Now()); err != nil {
				return err
			}
		}
	}
	p.s.m.apply.Observe(time.Since(began).Seconds())
	return b.Err()
}

// apply applies one record; its events are in p.core.out.
func (p *partition) apply(rec *stream.Record) {
	p.in = inputOf(rec)
	if reason := p.core.Apply(&p.in); reason != "" {
		p.s.quarantine.add(p.n, &p.in, reason)
	}
	p.tally.count(p.in.Source, &p.core.out)
}

// turn does what time asks for between two inputs: heartbeat, snapshots, figures.
func (p *partition) turn(now time.Time) error {
	p.alive.Store(now.UnixNano())
	if p.s.quarantine.settled() {
		switch err := p.saver.turn(now); {
		case busy(err):
			p.s.m.snapshotsBusy.Inc()
		case err != nil:
			return err
		}
	}
	if now.Sub(p.beatAt) < heartbeatEvery {
		return nil
	}
	p.beatAt = now
	p.tally.publish(p.s.m, p.core.stats)
	lag := max(0, p.fetch.End()-p.core.offset-1)
	p.g.lag.Set(float64(lag))
	p.g.instruments.Set(float64(len(p.core.list)))
	p.g.staleBooks.Set(float64(p.core.staleBooks()))
	beat := wire.OwnerHeartbeat{InputLag: lag, Time: market.FromTime(now)}
	for _, s := range p.core.sources {
		beat.Sources = append(beat.Sources, wire.SourceClock{Source: s.name, Last: s.now})
	}
	return p.owner.Events.Heartbeat(beat)
}
