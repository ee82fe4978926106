package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// commit writes down what the events since the last commit did, and how far they go.
func (o *owner) commit(ctx context.Context, applied []store.Applied) error {
	c := store.Commit{
		Lease: o.lease, Partition: o.partition, LogID: o.logID, Offset: o.reached, Clock: o.rules.Clock(), After: &o.saved, Applied: applied,
	}
	if err := o.events(ctx, &c); err != nil {
		return err
	}
	o.take(&c, imagesAtOnce, o.settled(c.Clock, time.Now()))
	return o.write(ctx, &c)
}

// settled is from when instruments must be unchanged to get an image: by the log clock, but while that stands, because it was
// once ahead, none is to wait for it. Otherwise a takeover would have to read back to where it stopped.
func (o *owner) settled(clock market.Time, now time.Time) market.Time {
	if clock > o.saved.Clock {
		o.ticked = now
	}
	if now.Sub(o.ticked) > time.Duration(imageAge) {
		return math.MaxInt64
	}
	return clock - imageAge
}

// commitBegin is the first commit of a partition that begins with the market as it is. Tenants whose alerts have missed
// something are told.
func (o *owner) commitBegin(ctx context.Context, at store.Checkpoint, why string) error {
	c := store.Commit{Lease: o.lease, Partition: o.partition, LogID: o.logID, Offset: o.reached, Clock: o.rules.Clock(), After: &o.saved, Anew: true}
	if why != "" {
		o.metrics.gaps.WithLabelValues(why).Inc()
		if err := o.gap(ctx, &c, gapped{Why: why, From: at.Clock.Micros(), To: c.Clock.Micros()}); err != nil {
			return err
		}
	}
	if err := o.events(ctx, &c); err != nil {
		return err
	}
	o.take(&c, math.MaxInt, math.MaxInt64)
	return o.write(ctx, &c)
}

// gap tells the tenants that have alerts on what has a gap.
func (o *owner) gap(ctx context.Context, c *store.Commit, g gapped) error {
	missed, err := o.store.ActiveByTenant(ctx, o.partition, g.Sym)
	if err != nil {
		return err
	}
	for _, m := range missed {
		g.Partition, g.Alerts = o.partition, m.Alerts
		ev := store.Event{ID: store.FormatID(store.EventPrefix, o.store.NewID()), Type: store.TypeAlertGap, Tenant: m.Tenant, Sym: g.Sym}
		if ev.Body, err = body(ev.ID, ev.Type, c.Clock, g); err != nil {
			return err
		}
		c.Fires = append(c.Fires, ev)
	}
	return nil
}

// write commits, and begins anew with what is to be committed.
func (o *owner) write(ctx context.Context, c *store.Commit) error {
	began := time.Now()
	o.at("committing")
	if err := o.store.Commit(ctx, c); err != nil {
		return fmt.Errorf("commit partition %d up to %d: %w", o.partition, c.Offset, err)
	}
	o.at("committed")
	o.metrics.commits.Observe(time.Since(began).Seconds())
	for i := range c.Fires {
		if e := &c.Fires[i]; e.Num != 0 && e.Type == store.TypeAlertFired { // a dropped one has no number
			o.metrics.fires.Inc()
		}
	}
	o.metrics.dropped.Add(float64(len(c.Dropped)))
	o.saved = store.Checkpoint{LogID: c.LogID, Offset: c.Offset, Clock: c.Clock}
	o.last, o.first = time.Now(), time.Time{}
	o.out.Reset()
	o.report()
	return nil
}

// report shows the state of the evaluation in the metrics.
func (o *owner) report() {
	s := o.rules.Stats()
	o.metrics.rules.WithLabelValues(o.label()).Set(float64(s.Rules))
	o.metrics.late.WithLabelValues(o.label()).Set(float64(s.Late))
	o.metrics.faults.WithLabelValues(o.label()).Set(float64(s.Faults))
	o.metrics.ahead.WithLabelValues(o.label()).Set(time.Until(o.rules.Clock().Std()).Seconds())
	o.metrics.absent.WithLabelValues(o.label()).Set(float64(len(o.absent)))
}

// take adds the images of instruments that have none since a while, and the instruments that are new or have changed.
func (o *owner) take(c *store.Commit, most int, olderThan market.Time) {
	o.rules.Images(most, olderThan, func(inst uint32, image []byte) {
		c.Images = append(c.Images, store.Image{Inst: inst, Data: bytes.Clone(image)})
	})
	o.rules.Instruments(func(s market.Status) {
		in := store.Instrument{
			Sym: s.Instrument.Sym, Inst: s.Instrument.ID, Partition: o.partition,
			PriceScale: s.Instrument.PriceScale, SizeScale: s.Instrument.SizeScale, State: s.State.String(),
		}
		if o.told[in.Inst] != in {
			o.told[in.Inst] = in
			c.Instruments = append(c.Instruments, in)
		}
	})
}

// alertsAtOnce is of how many alerts we have the text in memory at a time.
const alertsAtOnce = 1024

// events makes the events of what has fired and of what has ended otherwise.
func (o *owner) events(ctx context.Context, c *store.Commit) error {
	for i, g := range o.out.Gaps {
		// The series of trades and of the book have theirs one after the other, with the same record.
		if g.Why != gapEpoch || i > 0 && o.out.Gaps[i-1].Inst == g.Inst && o.out.Gaps[i-1].Offset == g.Offset {
			continue
		}
		if err := o.gap(ctx, c, gapped{Sym: g.Sym, Why: gapEpoch, From: g.Clock.Micros(), To: g.Clock.Micros()}); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(o.out.Fires, alertsAtOnce) {
		if err := o.fires(ctx, c, some); err != nil {
			return err
		}
	}
	var over []rule.Change
	for i := range o.out.Changes {
		ch := &o.out.Changes[i]
		to := store.EvalUpdate{Alert: ch.Rule, Eval: store.Eval{ArmSeq: ch.State.ArmSeq, Blob: ch.State.Append(nil)}, State: endState[ch.Ended]}
		c.Evals = append(c.Evals, to)
		if endType[ch.Ended] != "" {
			over = append(over, *ch)
		}
	}
	for some := range slices.Chunk(over, alertsAtOnce) {
		if err := o.ends(ctx, c, some); err != nil {
			return err
		}
	}
	return nil
}

func (o *owner) fires(ctx context.Context, c *store.Commit, fires []rule.Fire) error {
	alerts, err := alertsOf(ctx, o.store, fires, func(f *rule.Fire) int64 { return f.Rule })
	if err != nil {
		return err
	}
	for i := range fires {
		f := &fires[i]
		a := alerts[f.Rule]
		if a == nil || a.State != store.AlertActive {
			o.metrics.dropped.Inc() // deleted, paused or changed meanwhile: its rule may be another one already
			continue
		}
		spec, scale, err := parse(a, f.Scales)
		if err != nil {
			return err
		}
		ev, err := firedEvent(a, spec, scale, f)
		if err != nil {
			return err
		}
		c.Fires = append(c.Fires, ev)
	}
	return nil
}

func (o *owner) ends(ctx context.Context, c *store.Commit, over []rule.Change) error {
	alerts, err := alertsOf(ctx, o.store, over, func(ch *rule.Change) int64 { return ch.Rule })
	if err != nil {
		return err
	}
	for _, ch := range over {
		a := alerts[ch.Rule]
		if a == nil {
			continue // purged: nobody may be told any more
		}
		ev, err := o.endedEvent(a, ch.Ended, c.Clock)
		if err != nil {
			return err
		}
		c.Fires = append(c.Fires, ev)
	}
	return nil
}

func alertsOf[T any](ctx context.Context, st *store.Store, list []T, num func(*T) int64) (map[int64]*store.Alert, error) {
	nums := make([]int64, len(list))
	for i := range list {
		nums[i] = num(&list[i])
	}
	return st.AlertsByNum(ctx, nums)
}

// What becomes of an alert whose rule has ended, and the event that says so; a fire has said it already.
var (
	endState = map[rule.Ended]store.AlertState{rule.Fired: store.AlertFired, rule.Expired: store.AlertExpired, rule.Delisted: store.AlertEnded, rule.Rescaled: store.AlertEnded}
	endType  = map[rule.Ended]string{rule.Expired: store.TypeAlertExpired, rule.Delisted: store.TypeAlertEnded, rule.Rescaled: store.TypeAlertEnded}
)

// endedEvent makes the event of an alert that ends without firing.
func (o *owner) endedEvent(a *store.Alert, how rule.Ended, clock market.Time) (store.Event, error) {
	ev := store.Event{ID: store.FormatID(store.EventPrefix, o.store.NewID()), Type: endType[how], Tenant: a.Tenant, Alert: a.Num, Sym: a.Sym}
	var err error
	ev.Body, err = body(ev.ID, ev.Type, clock, ended{
		Alert: store.FormatID(store.AlertPrefix, a.Num), Name: a.Name, Sym: a.Sym, Why: how.String(), Clock: clock.Micros(),
		Rule: json.RawMessage(a.Rule), Metadata: metadata(a),
	})
	return ev, err
}

// parse reads an alert's rule as its instrument's scales have it.
func parse(a *store.Alert, scales rule.Scales) (spec rule.Spec, scale uint8, err error) {
	if spec, err = rule.Parse([]byte(a.Rule), scales); err != nil {
		return spec, 0, fmt.Errorf("alert %s: %w", store.FormatID(store.AlertPrefix, a.Num), err)
	}
	return spec, spec.Scale(scales), nil
}

// add adds an alert's rule. An alert whose instrument is not known, or not yet, is ErrInstrument: what counts is the
// instrument's name, for a log that was made anew may number it otherwise.
func (o *owner) add(a *store.Alert, state rule.State) (valid rule.Valid, scale uint8, err error) {
	inst, ok := o.rules.Find(a.Sym)
	if !ok {
		return valid, 0, rule.ErrInstrument
	}
	scales, _ := o.rules.Scales(inst) // it is there
	spec, scale, err := parse(a, scales)
	if err == nil {
		valid, err = o.rules.Add(a.Num, inst, spec, state)
	}
	return valid, scale, err
}

// unfit says in the log that an alert can't be evaluated, and so ends.
func (o *owner) unfit(a *store.Alert, why error) {
	o.log.Warn("an alert can't be evaluated, and ends", zap.String("alert", store.FormatID(store.AlertPrefix, a.Num)), zap.Error(why))
}
