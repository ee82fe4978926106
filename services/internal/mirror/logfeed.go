package mirror

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// tradeFeed is the trades of an instrument as a topic.
type tradeFeed struct{ feed }

// Merge implements fanout.Source; trades are never merged.
func (*tradeFeed) Merge([]*fanout.Entry, fanout.Format) *fanout.Frame { return nil }

// Snapshot implements fanout.Source; subscriptions to trades begin within the ring.
func (f *tradeFeed) Snapshot(fanout.Want) fanout.Snapshot {
	return fanout.Snapshot{Next: f.topic.Next()}
}

// Gap implements fanout.Source.
func (f *tradeFeed) Gap(after, last market.Sequence, format fanout.Format) *fanout.Frame {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	g := market.TradeGap{Head: f.gapHead(after, last), Why: market.Slow, Missed: missed(after, last)}
	return x.framed(f.def(), wire.AppendTradeGap(nil, &g), format)
}

func (f *feed) gapHead(after, last market.Sequence) market.Head {
	return market.Head{Inst: f.def().ID, Epoch: last.Epoch, Prev: after.Seq, Seq: last.Seq, Time: wall()}
}

// missed is how many messages lie between two sequences, -1 when that can't be known.
func missed(after, last market.Sequence) int64 {
	if after.Epoch != last.Epoch {
		return -1
	}
	return int64(last.Seq - after.Seq)
}

func (f *feed) def() *market.Instrument {
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	return f.in.def
}

// barFeed is the bars of one interval as a topic: the final ones are its log, the open one is its value.
//
// A bar becomes final two seconds of event time after its end, when the next ones have begun already. The times of a
// topic's bars must not go back, so the newest open bar is shown only once it is the only one that is open.
type barFeed struct {
	feed
	interval market.Interval
	opens    []market.Time // starts of the bars that are open, ascending
	final    market.Time   // start of the newest final bar
	hot      hot
}

// traded shows the open bar after a trade.
func (f *barFeed) traded(t *market.Trade, x *scratch) {
	start := t.Time.Truncate(f.interval.Duration())
	if start > f.final {
		if i, found := slices.BinarySearch(f.opens, start); !found {
			f.opens = slices.Insert(f.opens, i, start)
		}
	}
	if f.topic.Subscribers() > 0 {
		f.show(x)
	}
	f.changed()
}

// closed follows a final bar or a correction.
func (f *barFeed) closed(b *market.Bar, x *scratch) {
	f.final = max(f.final, b.Start)
	i, found := slices.BinarySearch(f.opens, f.final)
	if found {
		i++
	}
	f.opens = slices.Delete(f.opens, 0, i)
	if f.topic.Subscribers() > 0 {
		f.show(x)
	}
	f.changed()
}

// show publishes the open bar.
func (f *barFeed) show(x *scratch) {
	open, ok := f.openBar()
	if !ok {
		return
	}
	x.out = wire.AppendBar(x.out[:0], &open)
	// The value's place in the topic is behind the newest final bar; the trade's sequence is inside.
	f.topic.SetValue(f.entry(f.seq, f.seq.Seq, x.out))
}

// openBar is the open bar, as it may be shown.
func (f *barFeed) openBar() (open market.Bar, ok bool) {
	open, ok = f.in.series.Open(f.interval)
	if !ok || len(f.opens) == 0 || f.opens[0] != open.Start {
		return open, false
	}
	open.Head = f.in.last
	open.Prev = open.Seq
	return open, true
}

// Merge implements fanout.Source; final bars are never merged.
func (*barFeed) Merge([]*fanout.Entry, fanout.Format) *fanout.Frame { return nil }

// Snapshot implements fanout.Source: the newest final bars of those that there were when the subscription began. They all
// carry the topic's place at that time, as a snapshot does, so that history and live bars are one sequence.
func (f *barFeed) Snapshot(w fanout.Want) fanout.Snapshot {
	return f.hot.get(w, f.in.m.now(), func(k *kept) bool { return k.Seq == w.Seq && k.history == w.History },
		func() fanout.Snapshot { return f.encode(w) })
}

func (f *barFeed) encode(w fanout.Want) fanout.Snapshot {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	f.in.mu.Lock()
	bars := f.in.series.Closed(f.interval, w.History, nil)
	def := f.in.def
	f.in.mu.Unlock()
	frames := make([]*fanout.Frame, 0, len(bars))
	for i := range bars {
		b := &bars[i]
		if b.Sequence().Compare(w.Seq) > 0 {
			continue // comes from the ring
		}
		b.Inst, b.Epoch, b.Prev, b.Seq = def.ID, w.Seq.Epoch, w.Seq.Seq, w.Seq.Seq
		x.bytes = wire.AppendBar(x.bytes[:0], b)
		frames = append(frames, x.framed(def, x.bytes, w.Format))
	}
	return fanout.Snapshot{Frames: fanout.Chain(frames...), Seq: w.Seq}
}

// Gap implements fanout.Source.
func (f *barFeed) Gap(after, last market.Sequence, format fanout.Format) *fanout.Frame {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	g := wire.BarGap{Head: f.gapHead(after, last), Interval: f.interval, Why: market.Slow, Missed: missed(after, last)}
	return x.framed(f.def(), wire.AppendBarGap(nil, &g), format)
}
