package rule

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

// At a cold start the windows are those of the bars of one minute that md.snapshots holds, so that a rule over a day need
// not wait for one. Bars go by event time and buckets by the log clock; what differs by that is at the edges of minutes.

// seed takes the newest price and the newest minutes from the bars of an instrument's snapshot.
func (p *Partition) seed(in *instrument, s *stream.InstrumentSnapshot) error {
	for i := range s.Bars {
		in.seedBar(&s.Bars[i])
	}
	if len(s.Series) == 0 {
		return nil
	}
	var series bar.Series
	if err := series.DecodeBinary(s.Series); err != nil {
		return fmt.Errorf("bars of %s: %w", s.Status.Instrument.Sym, err)
	}
	for _, b := range series.AllOpen(market.Minute, nil) {
		b.Epoch = in.status.Epoch
		in.seedBar(&b)
	}
	var t market.Ticker
	series.Ticker(&t)
	in.last, in.hasLast = t.Last, t.Last > 0
	return nil
}

// seedBars takes minutes from a block of final bars. Blocks come after their instrument's snapshot.
func (p *Partition) seedBars(s *stream.Snapshot) error {
	in := p.insts[s.Inst]
	if in == nil {
		return nil
	}
	err := stream.DecodeBars(s.Payload, func(b *market.Bar) error {
		in.seedBar(b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("bars of %s: %w", in.status.Instrument.Sym, err)
	}
	return nil
}

// seedBar makes a minute of the history of a bar. Every trade is known from the minute after the oldest bar on, and after
// the newest one that lacks some.
func (in *instrument) seedBar(b *market.Bar) {
	if b.Interval != market.Minute || b.Epoch != in.status.Epoch {
		return // of an earlier numbering, maybe at other scales
	}
	next := bucket{minute: int64(b.Start) / int64(time.Minute), high: b.High, low: b.Low, close: b.Close, volume: b.Volume}
	at, there := slices.BinarySearchFunc(in.history, next.minute, func(h bucket, minute int64) int { return cmp.Compare(h.minute, minute) })
	if there {
		in.history[at] = next
	} else {
		in.history = slices.Insert(in.history, at, next)
	}
	if b.Incomplete {
		in.lacking = max(in.lacking, next.minute)
	}
	in.from = max(in.history[0].minute, in.lacking) + 1
}

// reach moves what the bars say of minutes that the log clock has not reached into its present one: the clocks of sources may
// be ahead.
func (in *instrument) reach(minute int64) {
	n := in.history.after(minute)
	ahead := in.history[n:]
	in.history = in.history[:n]
	for _, b := range ahead {
		if n := len(in.history); n > 0 && in.history[n-1].minute == minute {
			a := &in.history[n-1]
			a.high, a.low, a.close = max(a.high, b.high), min(a.low, b.low), b.close
			a.volume = market.AddSaturating(a.volume, b.volume)
			continue
		}
		b.minute = minute
		in.history = append(in.history, b)
	}
}
