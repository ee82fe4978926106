package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// The reasons of a gap in the log.
const (
	gapRetention = "retention" // md.events no longer holds what follows the checkpoint
	gapLog       = "log"       // md.events was deleted and made anew
	gapDamaged   = "damaged"   // what the database had of the partition's series can't be read
	gapEpoch     = "epoch"     // an instrument's numbering began anew; this one is package rule's word
)

// takeOver brings the partition to where the last commit left it, rules included, and returns what follows from there.
// Without such a place, or when the log no longer holds it, it begins with the market as it is now: then every rule has a
// gap.
func (o *owner) takeOver(ctx context.Context) (*stream.Follower, error) {
	o.rules, o.out = rule.NewPartition(), rule.Output{}
	o.absent, o.told = make(map[string]struct{}), make(map[uint32]store.Instrument)
	o.first, o.looked, o.last, o.ticked = time.Time{}, time.Time{}, time.Now(), time.Now()
	var err error
	if o.logID, err = o.cluster.LogID(ctx); err != nil {
		return nil, err
	}
	at, err := o.store.Checkpoint(ctx, o.partition)
	if err != nil {
		return nil, err
	}
	o.saved = at
	why, err := o.restore(ctx, at)
	if err != nil {
		return nil, err
	}
	switch {
	case at.LogID == "" || why != "":
	case at.LogID != o.logID:
		why = gapLog
	default:
		f, err := o.resume(ctx, o.rules.Offset()+1, at.Offset)
		if !errors.Is(err, stream.ErrOffsetOutOfRange) {
			return f, err
		}
		why = gapRetention
	}
	return o.begin(ctx, at, why)
}

// restore takes in the images of the partition's series. One that can't be read is a gap: the market is known from
// elsewhere, and what was before is not worth a partition that nobody evaluates.
func (o *owner) restore(ctx context.Context, at store.Checkpoint) (why string, err error) {
	err = o.store.Images(ctx, o.partition, func(inst uint32, image []byte) error {
		if err := o.rules.Restore(at.Offset, image); err != nil {
			why = gapDamaged
			o.log.Error("an image in the database can't be read", zap.Int("partition", o.partition), zap.Uint32("inst", inst), zap.Error(err))
		}
		return nil
	})
	return why, err
}

// resume goes on behind the checkpoint: what lies between the images and it moves the market, and no rule.
func (o *owner) resume(ctx context.Context, from, checkpoint int64) (*stream.Follower, error) {
	f, err := o.cluster.Resume(ctx, o.partition, from)
	if err != nil {
		return nil, err
	}
	if f.End() <= checkpoint { // the log has lost what we have already told
		f.Close()
		return nil, fmt.Errorf("md.events/%d ends at %d, the checkpoint is %d: %w", o.partition, f.End(), checkpoint, stream.ErrOffsetOutOfRange)
	}
	err = o.replay(ctx, f, checkpoint+1)
	if err == nil {
		err = o.addAll(ctx, nil)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	o.reached = checkpoint
	return f, nil
}

// begin starts with the market's newest snapshots. Every rule there is has missed what lies before them: then it is compared
// with what its series was worth when its instrument's image was made.
func (o *owner) begin(ctx context.Context, at store.Checkpoint, why string) (*stream.Follower, error) {
	old := o.rules
	if why != "" {
		o.log.Error("the evaluation can't go on from the last commit: all alerts of the partition have a gap",
			zap.Int("partition", o.partition), zap.String("why", why), zap.Int64("offset", at.Offset), zap.Time("since", at.Clock.Std()))
		if err := o.addAll(ctx, nil); err != nil {
			return nil, err
		}
	}
	o.rules = rule.NewPartition()
	o.out.Reset()
	clear(o.absent)
	f, err := o.cluster.Begin(ctx, o.partition, 0, o.rules.Snapshot)
	if err != nil {
		return nil, err
	}
	err = o.replay(ctx, f, f.End())
	if why != "" {
		o.rules.Carry(old, why)
	}
	if err == nil {
		err = o.addAll(ctx, nil)
	}
	if err == nil && why != "" {
		o.rules.Arrive(&o.out)
	}
	if err == nil {
		o.reached = f.Offset() - 1
		err = o.commitBegin(ctx, at, why)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// replay moves the market up to the event before end.
func (o *owner) replay(ctx context.Context, f *stream.Follower, end int64) error {
	var ev stream.Event
	for f.Offset() < end {
		b, err := f.Next(ctx)
		if err != nil {
			return err
		}
		for b.Next(&ev) {
			if err := o.rules.Replay(&ev); err != nil {
				o.unreadable(&ev, err)
			}
		}
		if err := b.Err(); err != nil {
			return err
		}
	}
	return nil
}

// addAll adds the partition's active rules, as they stood at the last commit: all, or those of some instruments.
func (o *owner) addAll(ctx context.Context, of map[string]struct{}) error {
	return o.store.Rules(ctx, o.partition, func(a *store.Alert) error {
		if _, ok := of[a.Sym]; of != nil && !ok {
			return nil
		}
		state, err := rule.DecodeState(a.Eval.Blob)
		if err != nil { // armed anew, under the next number
			o.log.Error("where an alert stands can't be read; it begins anew", zap.String("alert", store.FormatID(store.AlertPrefix, a.Num)), zap.Error(err))
			state = rule.State{ArmSeq: a.Eval.ArmSeq}
		}
		_, _, err = o.add(a, state)
		switch {
		case errors.Is(err, rule.ErrInstrument):
			o.absent[a.Sym] = struct{}{}
		case err != nil:
			o.unfit(a, err)
			end := rule.Change{Rule: a.Num, State: rule.State{ArmSeq: a.Eval.ArmSeq}, Ended: rule.Rescaled}
			if errors.Is(err, rule.ErrDelisted) {
				end.Ended = rule.Delisted
			}
			o.out.Changes = append(o.out.Changes, end)
		}
		return nil
	})
}

// join adds the rules on instruments that have become known.
func (o *owner) join(ctx context.Context) error {
	came := make(map[string]struct{})
	for sym := range o.absent {
		if _, ok := o.rules.Find(sym); ok {
			came[sym] = struct{}{}
			delete(o.absent, sym)
		}
	}
	if len(came) == 0 {
		return nil
	}
	return o.addAll(ctx, came)
}
