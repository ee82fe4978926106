package mirror

import (
	"slices"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Client is who subscribes, and how it is served.
type Client struct {
	Conn     *fanout.Conn
	Format   fanout.Format
	Lossless bool
	Visible  func(sym string) bool // which instruments a Wildcard shows; nil is all. It is called with locks held, and must not block
}

// Subscription is a subscription that has been registered and not yet begun: Sub.Go lets it flow, behind whatever the
// caller sends first.
type Subscription struct {
	Sub *fanout.Sub
	Row wire.Row
	// Reached is set when the client is ahead of this mirror. It tells whether the mirror has caught up.
	Reached func() bool
}

// delisted tells whether the instrument was delisted long ago.
func (in *Instrument) delisted() bool {
	return in.status.State == market.Delisted && wall()-in.status.Time > market.Time(delistedFor)
}

// delistedFor is how long a delisted instrument is still known to new subscribers.
const delistedFor = 24 * time.Hour

// Subscribe registers a subscription to what r asks for. Nothing is missed between the place that the row tells and the
// first message.
func (m *Mirror) Subscribe(c Client, r *wire.TopicRequest) (Subscription, *wire.RowError) {
	in := m.Instrument(r.Sym)
	refuse := func(code wire.Code, msg string) (Subscription, *wire.RowError) {
		return Subscription{}, &wire.RowError{Topic: r.Topic, Code: code, Msg: msg}
	}
	switch {
	case in == nil && m.Ready() != nil, in != nil && !in.part.isReady():
		return refuse(wire.CodeNotReady, "this server is still reading the market's state; try again in a second")
	case in == nil:
		return refuse(wire.CodeUnknownSymbol, "there is no such instrument")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.delisted() {
		return refuse(wire.CodeUnknownSymbol, "the instrument is delisted")
	}
	return in.subscribe(c, r), nil
}

func (in *Instrument) subscribe(c Client, r *wire.TopicRequest) (s Subscription) {
	start := fanout.Start{Format: c.Format, Lossless: c.Lossless}
	var f *feed
	switch r.Channel {
	case market.Books:
		return in.subscribeBook(c, r, start)
	case market.Trades:
		f = &in.trades.feed
		s = f.enter(r, &start)
		if s.Row.How == wire.HowSnapshot {
			start.Position = f.topic.Back(int(r.Last))
		}
	case market.Bars:
		b := in.bars[r.Interval]
		f = &b.feed
		s = f.enter(r, &start)
		if s.Row.How == wire.HowSnapshot {
			start.Position, start.Seq = f.topic.Next(), f.seq
			start.History, start.Snapshot = int(r.History), r.History > 0
		}
		if f.topic.Subscribers() == 0 {
			x := scratches.Get().(*scratch)
			b.show(x)
			scratches.Put(x)
		}
	default:
		f = in.value(r.Channel)
		s = f.enter(r, &start)
	}
	f.tell()
	s.Sub = c.Conn.Subscribe(f.topic, start)
	s.Row = in.row(f, s.Row)
	return s
}

// value returns the feed of a channel that holds one value, with that value up to date.
func (in *Instrument) value(ch market.Channel) *feed {
	switch ch {
	case market.BBOs:
		if in.bbo.topic.Subscribers() == 0 && in.hasBook {
			in.showBest()
		}
		return in.bbo
	case market.Tickers:
		if in.ticker.topic.Subscribers() == 0 {
			x := scratches.Get().(*scratch)
			defer scratches.Put(x)
			in.showTicker(max(in.last.Time, in.clock), x)
		}
		return in.ticker
	}
	return in.statuses
}

// enter decides where a subscription begins by what the client has already.
func (f *feed) enter(r *wire.TopicRequest, start *fanout.Start) (s Subscription) {
	s.Row.How, s.Row.Why = wire.HowSnapshot, wire.WhyNew
	if (r.From == market.Sequence{}) {
		return s
	}
	if r.From.Compare(f.seq) > 0 {
		s.Row.How, s.Row.Why = wire.HowReplay, ""
		start.Position, start.Seq, start.Floor = f.topic.Next(), r.From, r.From
		s.Reached = func() bool {
			f.in.mu.Lock()
			defer f.in.mu.Unlock()
			return f.seq.Compare(r.From) >= 0
		}
		return s
	}
	at, ok := f.topic.After(r.From)
	switch {
	case ok || f.seq == r.From:
		if !ok {
			at = f.topic.Next()
		}
		s.Row.How, s.Row.Why = wire.HowReplay, ""
		start.Position, start.Seq = at, r.From
	case r.From.Epoch != f.seq.Epoch:
		s.Row.Why = wire.WhyEpoch
	default:
		s.Row.Why = wire.WhyGapTooOld
	}
	return s
}

// subscribeBook is subscribe for a book. A whole book goes on where the client stands, if the ring reaches back so far; a
// merged one does so by one update made from the ring of the unmerged.
func (in *Instrument) subscribeBook(c Client, r *wire.TopicRequest, start fanout.Start) (s Subscription) {
	full, f := &in.full.feed, in.viewFeed(r.View)
	s = full.enter(r, &start)
	var between []*fanout.Entry
	switch {
	case s.Row.How == wire.HowSnapshot:
		start.Snapshot = true
	case f == in.full:
	case r.View.Depth > 0:
		s.Row.How, s.Row.Why = wire.HowSnapshot, wire.WhyView
		start.Snapshot, start.Seq = true, market.Sequence{}
		start.Floor = r.From
	case s.Reached == nil:
		between = full.topic.Entries(start.Position)
		if start.Position = f.topic.Next(); len(between) > 0 {
			start.Seq = between[len(between)-1].Seq
		}
	default:
		start.Position = f.topic.Next()
	}
	f.tell()
	s.Sub = c.Conn.Subscribe(f.topic, start)
	if len(between) > 0 {
		if merged := f.Merge(between, c.Format); merged != nil {
			s.Sub.Begin(merged)
		} else {
			s.Sub.Again()
			s.Row.How, s.Row.Why = wire.HowSnapshot, wire.WhyGapTooOld
		}
	}
	s.Row = in.row(full, s.Row)
	s.Row.View = r.View
	return s
}

// row completes the row of an acknowledgement.
func (in *Instrument) row(f *feed, row wire.Row) wire.Row {
	row.Topic = f.key
	row.Inst, row.PriceScale, row.SizeScale = in.def.ID, in.def.PriceScale, in.def.SizeScale
	row.Sequence = f.seq
	row.State, _ = in.stateOf(f.key.Channel)
	return row
}

// Row tells how a subscribed topic stands now.
func (m *Mirror) Row(t wire.Topic, view market.View) (wire.Row, bool) {
	in := m.Instrument(t.Sym)
	if in == nil {
		return wire.Row{}, false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	row := in.row(in.feedOf(t), wire.Row{})
	row.View = view
	return row, true
}

func (in *Instrument) feedOf(t wire.Topic) *feed {
	switch t.Channel {
	case market.Books:
		return &in.full.feed
	case market.Trades:
		return &in.trades.feed
	case market.Bars:
		return &in.bars[t.Interval].feed
	case market.BBOs:
		return in.bbo
	case market.Tickers:
		return in.ticker
	}
	return in.statuses
}

// Wildcard is a subscription to one channel of every instrument, those to come included.
type Wildcard struct {
	m  *Mirror
	c  Client
	ch market.Channel

	mu    sync.Mutex // taken before an Instrument.mu
	subs  []*fanout.Sub
	going bool
	ended bool
}

// SubscribeAll registers a subscription to ch, which must hold one value per instrument, of all instruments that the client
// may see. Like a Subscription it begins with Go.
func (m *Mirror) SubscribeAll(c Client, ch market.Channel) (w *Wildcard, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w = &Wildcard{m: m, c: c, ch: ch}
	m.wild = append(m.wild, w)
	for _, in := range m.bySym {
		w.add(in)
	}
	return w, w.Len()
}

func (w *Wildcard) add(in *Instrument) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || w.c.Visible != nil && !w.c.Visible(in.sym) {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.subscribe(w.c, &wire.TopicRequest{Topic: in.topicOf(w.ch, 0)})
	w.subs = append(w.subs, s.Sub)
	if w.going {
		s.Sub.Go()
	}
}

// Restrict changes which instruments the client may see, now and later. It reports false, and changes nothing, when one
// that is shown would be lost: the caller then ends the subscription and says so.
func (w *Wildcard) Restrict(visible func(sym string) bool) bool {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	shown, ok := w.restrict(visible)
	if !ok {
		return false
	}
	for _, in := range w.m.bySym {
		if !shown[in] {
			w.add(in)
		}
	}
	return true
}

func (w *Wildcard) restrict(visible func(sym string) bool) (shown map[*Instrument]bool, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	shown = make(map[*Instrument]bool, len(w.subs))
	for _, s := range w.subs {
		in := s.Topic().Label.(*feed).in
		if !visible(in.sym) {
			return nil, false
		}
		shown[in] = true
	}
	w.c.Visible = visible
	return shown, true
}

// Go lets messages flow.
func (w *Wildcard) Go() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.going = true
	for _, s := range w.subs {
		s.Go()
	}
}

// Len is how many instruments the subscription covers now.
func (w *Wildcard) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.subs)
}

// Again sends every value again.
func (w *Wildcard) Again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.subs {
		s.Again()
	}
}

// Cancel ends the subscription.
func (w *Wildcard) Cancel() {
	w.m.mu.Lock()
	w.m.wild = slices.DeleteFunc(w.m.wild, func(o *Wildcard) bool { return o == w })
	w.m.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, s := range w.subs {
		s.Cancel()
	}
	w.subs = nil
}
