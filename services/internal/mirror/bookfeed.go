package mirror

import (
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// bookFeed is a view of the book as a topic.
type bookFeed struct {
	feed
	depth *depth     // what it is cut from; nil is the whole book
	acc   book.Merge // touched since the last message, when view.Millis > 0
	used  time.Duration
	hot   hot
}

// depth is the best levels of the book, shared by the feeds of that depth.
type depth struct {
	levels uint16
	view   *book.View
}

func (in *Instrument) newBookFeed(v market.View) *bookFeed {
	f := &bookFeed{feed: feed{in: in, key: in.topicOf(market.Books, 0), view: v}}
	f.topic = in.m.hub.NewTopic(fanout.Merge, in.m.cfg.limits(), f)
	f.topic.Label = &f.feed
	f.told, f.toldWhy = in.bookState()
	return f
}

// viewFeed returns the feed of a view, and makes it when there is none.
func (in *Instrument) viewFeed(v market.View) *bookFeed {
	if v == (market.View{}) {
		return in.full
	}
	for _, f := range in.views {
		if f.view == v {
			return f
		}
	}
	f := in.newBookFeed(v)
	if v.Depth > 0 {
		f.depth = in.depth(v.Depth)
	}
	f.restart(in.book.Sequence())
	f.used = in.m.now()
	in.views = append(in.views, f)
	if v.Millis > 0 {
		in.m.addMerging(f)
	}
	return f
}

func (in *Instrument) depth(levels uint16) *depth {
	for _, d := range in.depths {
		if d.levels == levels {
			return d
		}
	}
	d := &depth{levels: levels, view: book.NewView(int(levels))}
	d.view.Reset(&in.book)
	in.depths = append(in.depths, d)
	return d
}

// linger is how long a view outlives its last subscriber, for clients that come back.
const linger = 10 * time.Second

func (in *Instrument) dropViews(now time.Duration) {
	in.views = slices.DeleteFunc(in.views, func(f *bookFeed) bool {
		if f.topic.Subscribers() > 0 {
			f.used = now
		}
		drop := now-f.used > linger
		if drop && f.view.Millis > 0 {
			in.m.dropMerging(f)
		}
		return drop
	})
	in.depths = slices.DeleteFunc(in.depths, func(d *depth) bool {
		return !slices.ContainsFunc(in.views, func(f *bookFeed) bool { return f.depth == d })
	})
}

// delta applies an update of the book.
func (in *Instrument) delta(b []byte, x *scratch) error {
	d := &x.delta
	if err := wire.DecodeDelta(b, d); err != nil {
		return err
	}
	if !in.hasBook || in.broken {
		return nil
	}
	if d.Sequence().Compare(in.book.Sequence()) <= 0 {
		in.full.publish(in.full.entry(d.Sequence(), d.Prev, b))
		return nil
	}
	if _, err := in.book.Apply(d); err != nil {
		in.fault("book update", err)
		return nil
	}
	if d.Hash.OK && d.Hash.Sum != in.book.Hash() {
		in.fault("book update", errHash)
		return nil
	}
	in.bookHead = d.Head
	in.full.seq = d.Sequence()
	in.full.publish(in.full.entry(d.Sequence(), d.Prev, b))
	in.updateViews(d, x)
	in.updateBest()
	return nil
}

func (in *Instrument) updateViews(d *market.Delta, x *scratch) {
	for _, dp := range in.depths {
		if !dp.view.Update(&in.book) {
			continue
		}
		x.bids, x.asks = dp.view.AppendChanged(x.bids[:0], x.asks[:0])
		for _, f := range in.views {
			if f.depth == dp {
				f.touched(x.bids, x.asks, x)
			}
		}
	}
	for _, f := range in.views {
		if f.depth == nil {
			f.touched(d.Bids, d.Asks, x)
		}
	}
}

// touched takes the levels that the newest update touched in the view.
func (f *bookFeed) touched(bids, asks []market.Level, x *scratch) {
	if f.view.Millis > 0 {
		f.acc.Add(bids, asks)
		return
	}
	f.update(bids, asks, x)
}

// update publishes levels as they are now.
func (f *bookFeed) update(bids, asks []market.Level, x *scratch) {
	d := market.Delta{Head: f.in.bookHead, View: f.view, Hash: market.Hash{Sum: f.hash(), OK: true}, Bids: bids, Asks: asks}
	d.Prev = f.seq.Seq
	f.seq = d.Sequence()
	x.out = wire.AppendDelta(x.out[:0], &d)
	f.publish(f.entry(f.seq, d.Prev, x.out))
}

// flush publishes what a merged view has gathered.
func (f *bookFeed) flush() {
	if f.acc.Len() == 0 {
		return
	}
	if f.acc.Len() > wire.MaxFrameLevels {
		f.reset()
		return
	}
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	x.bids, x.asks = f.acc.AppendLevels(x.bids[:0], x.asks[:0])
	f.acc.Reset()
	f.update(x.bids, x.asks, x)
}

// reset publishes the whole view.
func (f *bookFeed) reset() {
	f.acc.Reset()
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	s := f.cut(x)
	s.Prev = f.seq.Seq
	f.seq = s.Sequence()
	e := fanout.NewReset(f.seq, s.Prev, x.frames(f.in.def, &s, SBE))
	e.Meta = f.in.def
	f.publish(e)
}

// hash is that of the view as it is now.
func (f *bookFeed) hash() uint64 {
	if f.depth != nil {
		return f.depth.view.Hash()
	}
	return f.in.book.Hash()
}

// cut copies the view. The levels are in x until it is used again.
func (f *bookFeed) cut(x *scratch) market.Snapshot {
	s := market.Snapshot{Head: f.in.bookHead, View: f.view, Hash: market.Hash{Sum: f.hash(), OK: true}, Part: 1, Parts: 1}
	s.Prev = s.Seq
	if f.depth != nil {
		x.bids = f.depth.view.AppendLevels(x.bids[:0], market.Bid)
		x.asks = f.depth.view.AppendLevels(x.asks[:0], market.Ask)
	} else {
		x.bids = f.in.book.AppendLevels(x.bids[:0], market.Bid, 0)
		x.asks = f.in.book.AppendLevels(x.asks[:0], market.Ask, 0)
	}
	s.Bids, s.Asks = x.bids, x.asks
	return s
}

// frames encodes a snapshot in as many parts as it takes: bids first, then asks.
func (x *scratch) frames(def *market.Instrument, s *market.Snapshot, f fanout.Format) *fanout.Frame {
	bids, asks := s.Bids, s.Asks
	part := *s
	part.Parts = uint16(max(1, (len(bids)+len(asks)+market.MaxSnapshotLevels-1)/market.MaxSnapshotLevels))
	out := wall()
	frames := make([]*fanout.Frame, 0, part.Parts)
	for i := range part.Parts {
		b := min(len(bids), market.MaxSnapshotLevels)
		a := min(len(asks), market.MaxSnapshotLevels-b)
		part.Bids, bids = bids[:b], bids[b:]
		part.Asks, asks = asks[:a], asks[a:]
		part.Part = i + 1
		part.Hash = market.Hash{}
		if part.Part == part.Parts {
			part.Hash = s.Hash
		}
		if f == SBE {
			x.out = wire.AppendSnapshot(x.out[:0], &part)
			frames = append(frames, fanout.NewFrame(fanout.Binary, x.out))
		} else {
			x.out = wire.AppendSnapshotJSON(x.out[:0], def, &part, out)
			frames = append(frames, fanout.NewFrame(fanout.Text, x.out))
		}
	}
	return fanout.Chain(frames...)
}

// reset applies a snapshot of the stream, whose parts lie end to end in b.
func (in *Instrument) reset(b []byte, ends []int, x *scratch) error {
	head, err := wire.HeadOf(b)
	if err != nil {
		return err
	}
	frames, at := make([]*fanout.Frame, 0, len(ends)), 0
	newer := !in.hasBook || head.Sequence().Compare(in.book.Sequence()) > 0
	for _, end := range ends {
		part := b[at:end]
		at = end
		frames = append(frames, fanout.NewFrame(fanout.Binary, part))
		if !newer {
			continue
		}
		if err := wire.DecodeSnapshot(part, &x.snapshot); err != nil {
			return err
		}
		if err := in.book.Load(&x.snapshot); err != nil {
			in.fault("book snapshot", err)
			return nil
		}
	}
	entry := fanout.NewReset(head.Sequence(), head.Prev, fanout.Chain(frames...))
	entry.Meta = in.def
	if !newer {
		in.full.publish(entry)
		return nil
	}
	in.hasBook, in.broken, in.bookHead = true, false, head
	in.full.seq = head.Sequence()
	in.full.publish(entry)
	for _, d := range in.depths {
		d.view.Reset(&in.book)
	}
	for _, f := range in.views {
		f.reset()
	}
	in.updateBest()
	return nil
}

// Merge implements fanout.Source: the union of the levels that the entries touch.
func (f *bookFeed) Merge(entries []*fanout.Entry, format fanout.Format) *fanout.Frame {
	first, last := entries[0], entries[len(entries)-1]
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	x.merge.Reset()
	for _, e := range entries {
		if e.Reset || e.Seq.Epoch != first.Seq.Epoch || wire.DecodeDelta(e.Native().Payload(), &x.delta) != nil {
			return nil
		}
		x.merge.Add(x.delta.Bids, x.delta.Asks)
	}
	if x.merge.Len() > wire.MaxFrameLevels {
		return nil
	}
	x.bids, x.asks = x.merge.AppendLevels(x.bids[:0], x.asks[:0])
	d := x.delta // its head and hash are the last entry's
	d.Prev, d.Bids, d.Asks, d.View = first.Prev, x.bids, x.asks, f.view
	def := last.Meta.(*market.Instrument)
	if format == SBE {
		x.out = wire.AppendDelta(x.out[:0], &d)
		return fanout.NewFrame(fanout.Binary, x.out)
	}
	x.out = wire.AppendDeltaJSON(x.out[:0], def, &d, wall())
	return fanout.NewFrame(fanout.Text, x.out)
}

// maxReplay is how many messages a cached snapshot may be behind: a subscriber gets them from the ring behind it, and ten
// thousand who come at once share one encoding.
const maxReplay = 32

// Snapshot implements fanout.Source.
func (f *bookFeed) Snapshot(w fanout.Want) fanout.Snapshot {
	return f.hot.get(w, f.in.m.now(), func(k *kept) bool {
		behind, ok := f.topic.Since(k.Next)
		return ok && behind <= maxReplay && k.Seq.Compare(w.NotBefore) >= 0
	}, func() fanout.Snapshot { return f.encode(w.Format) })
}

// encode makes a snapshot of the view as it is.
func (f *bookFeed) encode(format fanout.Format) fanout.Snapshot {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	f.in.mu.Lock()
	next := f.topic.Next()
	if !f.in.hasBook {
		f.in.mu.Unlock()
		return fanout.Snapshot{Next: next}
	}
	s := f.cut(x)
	def := f.in.def
	f.in.mu.Unlock()
	f.in.m.stats.Snapshots.Add(1)
	return fanout.Snapshot{Frames: x.frames(def, &s, format), Seq: s.Sequence(), Next: next}
}

// Gap implements fanout.Source; a book has none.
func (f *bookFeed) Gap(_, _ market.Sequence, _ fanout.Format) *fanout.Frame { return nil }
