package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// Times and sizes of an owner's work.
const (
	commitEvery   = time.Second           // while nothing fires
	commitFires   = 1024                  // fires that are committed at once when there are so many
	commitAfter   = 20 * time.Millisecond // from the first fire on, when the log goes on without a pause
	changesEvery  = time.Second           // how often rule changes are looked for, beside when we hear of some
	changesAtOnce = 1000
	imagesAtOnce  = 64
	imageAge      = market.Time(30 * time.Second)
	startOver     = 200 * time.Millisecond
	maxStartOver  = 5 * time.Second
)

// lostPartition is what the log says when a commit came too late.
const lostPartition = "the partition has another owner"

// owner evaluates the rules of one partition while it has the partition's lease. It reads md.events from the place that the
// last commit names, and commits what the events did together with the new place. Whatever goes wrong in between makes it
// start over from there: the events are the same, and so is what they do.
type owner struct {
	store     *store.Store
	cluster   *stream.Cluster
	log       *zap.Logger
	metrics   *metrics
	lease     store.Lease
	partition int
	poke      chan struct{}        // rules may have changed; holds one
	step      func(*owner, string) // told of each step, by tests; nil for nobody

	state atomic.Pointer[error] // why the partition is not being evaluated; nil when it is

	// Of the goroutine that runs it, and of one run from a checkpoint.
	logID   string
	rules   *rule.Partition
	out     rule.Output
	reached int64                       // last offset applied
	saved   store.Checkpoint            // the last commit
	first   time.Time                   // of the oldest fire that is not committed
	last    time.Time                   // when we last committed
	ticked  time.Time                   // when the log clock last moved
	said    time.Time                   // when we last told of a record that can't be read
	looked  time.Time                   // for changes
	told    map[uint32]store.Instrument // what the database knows of the instruments
	absent  map[string]struct{}         // instruments that are not known yet, and have alerts
}

// run evaluates until ctx ends or the lease is lost.
func (o *owner) run(ctx context.Context) error {
	pause := startOver
	for {
		began := time.Now()
		err := o.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to stop, which is why
		case errors.Is(err, store.ErrFenced):
			o.log.Warn(lostPartition, zap.Int("partition", o.partition))
			return nil
		}
		o.trouble(err)
		o.metrics.restarts.Inc()
		o.log.Warn("evaluation starts over", zap.Int("partition", o.partition), zap.Error(err))
		if time.Since(began) > 2*maxStartOver {
			pause = startOver
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxStartOver)
	}
}

func (o *owner) trouble(err error) { o.state.Store(&err) }

// err is why the partition is not being evaluated, or nil.
func (o *owner) err() error {
	if err := o.state.Load(); err != nil {
		return *err
	}
	return nil
}

// follow goes on from the checkpoint until something is wrong.
func (o *owner) follow(ctx context.Context) error {
	f, err := o.takeOver(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	o.trouble(nil)
	for {
		o.at("reading")
		b, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if err := o.apply(b); err != nil {
			return err
		}
		o.reached = f.Offset() - 1
		o.at("applied")
		if err := o.settle(ctx, f); err != nil {
			return err
		}
		o.watch(f.Trouble())
		o.metrics.lag.WithLabelValues(o.label()).Set(float64(max(0, b.End-f.Offset())))
	}
}

// watch tells when the log can't be read, and when it can again; the follower goes on trying.
func (o *owner) watch(trouble error) {
	switch lost := trouble != nil; {
	case lost == (o.err() != nil):
	case lost:
		o.trouble(fmt.Errorf("read md.events: %w", trouble))
		o.log.Warn("md.events can't be read", zap.Int("partition", o.partition), zap.Error(trouble))
	default:
		o.trouble(nil)
		o.log.Info("md.events is being read again", zap.Int("partition", o.partition))
	}
}

// apply evaluates a batch. A record that can't be read is left out, as every reader of md.events does: it would be the same
// the next time, and what follows it shows a gap.
func (o *owner) apply(b *stream.EventBatch) error {
	var ev stream.Event
	for b.Next(&ev) {
		if err := o.rules.Apply(&ev, &o.out); err != nil {
			o.unreadable(&ev, err)
		}
	}
	return b.Err()
}

func (o *owner) unreadable(ev *stream.Event, err error) {
	o.metrics.unreadable.Inc()
	now := time.Now()
	if now.Sub(o.said) < time.Second {
		return // a log that is full of them must not fill ours
	}
	o.said = now
	o.log.Error("a record of md.events can't be read", zap.Int("partition", o.partition), zap.Int64("offset", ev.Offset), zap.Error(err))
}

// settle takes over changed rules, between two batches, and commits when it is time to.
func (o *owner) settle(ctx context.Context, f *stream.Follower) error {
	if err := o.join(ctx); err != nil {
		return err
	}
	now := time.Now()
	if len(o.out.Fires) > 0 && o.first.IsZero() {
		o.first = now
	}
	var applied []store.Applied
	if f.Ready() { // a new rule is not for what happened while nobody evaluated; and of one that was stopped the store takes nothing
		var err error
		if applied, err = o.takeChanges(ctx, now); err != nil {
			return err
		}
	}
	o.at("settling")
	switch {
	case len(applied) > 0, len(o.out.Fires) >= commitFires:
	case len(o.out.Fires) > 0 && (!f.Buffered() || now.Sub(o.first) >= commitAfter):
	case o.reached > o.saved.Offset && now.Sub(o.last) >= commitEvery:
	default:
		return nil
	}
	return o.commit(ctx, applied)
}

// takeChanges adds and removes the rules that the API has changed, if it is time to look or we have heard of some.
func (o *owner) takeChanges(ctx context.Context, now time.Time) ([]store.Applied, error) {
	select {
	case <-o.poke:
	default:
		if now.Sub(o.looked) < changesEvery {
			return nil, nil
		}
	}
	o.looked = now
	changed, err := o.store.Changes(ctx, o.partition, changesAtOnce)
	if err != nil {
		return nil, err
	}
	if len(changed) > 0 && len(o.out.Changes) > 0 {
		// What the rules have done so far is theirs as they were: another one of the same alert must not get it.
		if err := o.commit(ctx, nil); err != nil {
			return nil, err
		}
		if changed, err = o.store.Changes(ctx, o.partition, changesAtOnce); err != nil {
			return nil, err
		}
	}
	if len(changed) == changesAtOnce {
		o.wake() // there may be more
	}
	applied := make([]store.Applied, 0, len(changed))
	for i := range changed {
		applied = append(applied, o.change(&changed[i]))
	}
	return applied, nil
}

// wake makes the owner look for changes soon.
func (o *owner) wake() {
	select {
	case o.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// change takes over one alert as it is now.
func (o *owner) change(a *store.Alert) store.Applied {
	o.rules.Remove(a.Num)
	to := store.Applied{Alert: a.Num, Version: a.Version, Eval: a.Eval, State: a.State}
	if a.State != store.AlertPending && a.State != store.AlertActive {
		return to
	}
	state := rule.State{ArmSeq: a.Eval.ArmSeq}
	valid, scale, err := o.add(a, state)
	switch {
	case errors.Is(err, rule.ErrInstrument):
		o.absent[a.Sym] = struct{}{}
	case err != nil:
		o.unfit(a, err)
		to.State = store.AlertEnded
		return to
	}
	to.State = store.AlertActive
	to.Eval = store.Eval{ArmSeq: state.ArmSeq, ValidFrom: o.reached + 1, Clock: valid.Clock, Blob: state.Append(nil)}
	if valid.HasValue {
		to.Eval.Value = rule.Format(valid.Value, scale)
	}
	return to
}

// at is where a test may stop the process.
func (o *owner) at(step string) {
	if o.step != nil {
		o.step(o, step)
	}
}

func (o *owner) label() string { return strconv.Itoa(o.partition) }
