package mirror

import (
	"errors"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Instrument is the state of one instrument with its topics.
type Instrument struct {
	m    *Mirror
	part *partition
	sym  string

	mu     sync.Mutex
	def    *market.Instrument // replaced on change, never written to
	status market.Status
	heard  time.Duration // when the newest event arrived
	state  market.State  // as derived by perceive
	why    market.Reason

	book     book.Book
	hasBook  bool
	broken   bool        // an event did not fit; a snapshot of the stream mends it
	bookHead market.Head // of the newest event applied
	best     [2]market.Level
	bestHead market.Head // of the event that made it so
	series   bar.Series
	last     market.Head     // of the newest trade
	lastBest [2]market.Level // the best levels when it happened
	clock    market.Time     // of the source, as its heartbeats tell

	full     *bookFeed
	views    []*bookFeed // the others, while they have subscribers
	depths   []*depth    // what they are cut from
	trades   *tradeFeed
	bars     [market.NumIntervals]*barFeed
	bbo      *feed
	ticker   *feed
	statuses *feed
	all      []*feed // of the above

	reads reads
}

func newInstrument(p *partition, s *market.Status) *Instrument {
	m := p.m
	in := &Instrument{m: m, part: p, sym: s.Instrument.Sym, state: market.Stale, why: market.Start}
	def := s.Instrument
	in.def = &def
	in.series.SizeScale = def.SizeScale
	in.full = in.newBookFeed(market.View{})
	in.trades = &tradeFeed{feed: feed{in: in, key: in.topicOf(market.Trades, 0)}}
	in.trades.topic = m.hub.NewTopic(fanout.Log, m.cfg.limits(), in.trades)
	in.bbo = in.newFeed(market.BBOs)
	in.ticker = in.newFeed(market.Tickers)
	in.statuses = in.newFeed(market.Statuses)
	for iv := range in.bars {
		f := &barFeed{feed: feed{in: in, key: in.topicOf(market.Bars, market.Interval(iv))}, interval: market.Interval(iv)}
		f.topic = m.hub.NewTopic(fanout.Log, m.cfg.limits(), f)
		in.bars[iv] = f
	}
	in.trades.topic.Label = &in.trades.feed
	for _, f := range in.bars {
		f.topic.Label = &f.feed
	}
	return in
}

// newFeed makes a feed whose topic holds one value.
func (in *Instrument) newFeed(ch market.Channel) *feed {
	f := &feed{in: in, key: in.topicOf(ch, 0)}
	f.topic = in.m.hub.NewTopic(fanout.State, fanout.Limits{}, valueSource{f})
	f.topic.Label = f
	return f
}

// valueSource is the Source of a topic that holds one value and so is asked for encodings alone.
type valueSource struct{ *feed }

func (valueSource) Merge([]*fanout.Entry, fanout.Format) *fanout.Frame      { return nil }
func (valueSource) Snapshot(fanout.Want) fanout.Snapshot                    { return fanout.Snapshot{} }
func (valueSource) Gap(_, _ market.Sequence, _ fanout.Format) *fanout.Frame { return nil }

// Sym is the instrument's id.
func (in *Instrument) Sym() string { return in.sym }

// Definition returns the instrument as it is defined now.
func (in *Instrument) Definition() market.Instrument {
	in.mu.Lock()
	defer in.mu.Unlock()
	return *in.def
}

// feeds lists every topic there is.
func (in *Instrument) feeds() []*feed {
	all := in.all[:0]
	all = append(all, &in.full.feed, &in.trades.feed, in.bbo, in.ticker, in.statuses)
	for _, f := range in.bars {
		all = append(all, &f.feed)
	}
	for _, f := range in.views {
		all = append(all, &f.feed)
	}
	in.all = all
	return all
}

// load takes the state of a snapshot as far as it is newer than what there is: all of it at the start, and when the
// reader had to start over because events were deleted under it, what came meanwhile.
func (in *Instrument) load(s *stream.InstrumentSnapshot) error {
	if s.Status.Sequence().Compare(in.statuses.seq) > 0 {
		in.setStatus(&s.Status, wire.AppendStatus(nil, &s.Status))
	}
	if s.Book != nil && (!in.hasBook || s.BookSeq.Compare(in.book.Sequence()) > 0) {
		if err := in.loadBook(s); err != nil {
			return err
		}
	}
	if s.TradesSeq.Compare(in.trades.seq) > 0 {
		in.trades.restart(s.TradesSeq)
		in.last.Epoch, in.last.Seq, in.last.Inst = s.TradesSeq.Epoch, s.TradesSeq.Seq, in.def.ID
		if len(s.Series) > 0 {
			if err := in.series.DecodeBinary(s.Series); err != nil {
				return err
			}
		}
	}
	for i := range s.Bars {
		in.series.Final(&s.Bars[i])
	}
	for iv, f := range in.bars {
		if s.BarsSeq[iv].Compare(f.seq) > 0 {
			f.restart(s.BarsSeq[iv])
			f.opens = f.opens[:0]
			if open, ok := in.series.Open(f.interval); ok {
				f.opens = append(f.opens, open.Start)
			}
		}
	}
	return nil
}

func (in *Instrument) loadBook(s *stream.InstrumentSnapshot) error {
	if err := in.book.Load(s.Book); err != nil {
		return err
	}
	in.book.SetSequence(s.BookSeq)
	in.hasBook, in.broken, in.bookHead = true, false, s.Book.Head
	in.bookHead.Epoch, in.bookHead.Seq, in.bookHead.Prev = s.BookSeq.Epoch, s.BookSeq.Seq, s.BookSeq.Seq
	in.full.restart(s.BookSeq)
	for _, d := range in.depths {
		d.view.Reset(&in.book)
	}
	for _, f := range in.views {
		f.restart(s.BookSeq)
	}
	in.updateBest()
	return nil
}

func (in *Instrument) setStatus(s *market.Status, b []byte) {
	if s.Sequence().Compare(in.statuses.seq) <= 0 {
		return
	}
	if def := s.Instrument; def != *in.def {
		in.def = &def
		in.series.SizeScale = def.SizeScale
	}
	in.status = *s
	in.statuses.seq = s.Sequence()
	in.statuses.topic.SetValue(in.statuses.entry(s.Sequence(), s.Prev, b))
	if in.state != market.Stale { // a stale one stays so until the clocks say otherwise
		in.state, in.why = in.perceive(in.m.now())
	}
	in.full.tell()
	in.bbo.tell()
	for _, f := range in.views {
		f.tell()
	}
}

// trade applies a trade.
func (in *Instrument) trade(b []byte, x *scratch) error {
	t := &x.trade
	if err := wire.DecodeTrade(b, t); err != nil {
		return err
	}
	e := in.trades.entry(t.Sequence(), t.Prev, b)
	in.trades.publish(e)
	if t.Sequence().Compare(in.trades.seq) <= 0 {
		return nil
	}
	in.trades.happened(e)
	in.trades.seq = t.Sequence()
	in.last, in.lastBest = t.Head, in.best
	in.series.AddOpen(t)
	if in.ticker.topic.Subscribers() > 0 {
		in.showTicker(t.Time, x)
	}
	in.ticker.changed()
	for _, f := range in.bars {
		f.traded(t, x)
	}
	return nil
}

func (in *Instrument) tradeGap(b []byte, x *scratch) error {
	g := &x.gap
	if err := wire.DecodeTradeGap(b, g); err != nil {
		return err
	}
	e := in.trades.entry(g.Sequence(), g.Prev, b)
	in.trades.publish(e)
	if g.Sequence().Compare(in.trades.seq) > 0 {
		in.trades.happened(e)
		in.trades.seq = g.Sequence()
		in.series.Gap(g.Time)
	}
	return nil
}

// bar applies a final or corrected bar.
func (in *Instrument) bar(b []byte, x *scratch) error {
	m := &x.bar
	if err := wire.DecodeBar(b, m); err != nil {
		return err
	}
	f := in.bars[m.Interval]
	e := f.entry(m.Sequence(), m.Prev, b)
	f.publish(e)
	if m.Sequence().Compare(f.seq) <= 0 {
		return nil
	}
	f.happened(e)
	f.seq = m.Sequence()
	in.series.Final(m)
	f.closed(m, x)
	return nil
}

// showTicker publishes the ticker as it is now.
func (in *Instrument) showTicker(at market.Time, x *scratch) {
	t := &x.ticker
	if !in.tickerAt(at, t) {
		return
	}
	x.out = wire.AppendTicker(x.out[:0], t)
	in.ticker.seq = t.Sequence()
	in.ticker.topic.SetValue(in.ticker.entry(t.Sequence(), t.Seq, x.out))
}

// tickerAt computes the ticker. It reports false when there has never been a trade.
func (in *Instrument) tickerAt(at market.Time, t *market.Ticker) bool {
	*t = market.Ticker{Head: in.last}
	in.series.Ticker(t)
	if t.Trades == 0 && t.Last == 0 {
		return false
	}
	t.Time = at
	t.Prev = t.Seq
	t.Bid, t.Ask = in.lastBest[market.Bid], in.lastBest[market.Ask]
	return true
}

// updateBest notes the best levels after the book has changed, and publishes them if they have.
func (in *Instrument) updateBest() {
	bid, ask := in.book.Best()
	if best := [2]market.Level{bid, ask}; best != in.best || in.bestHead.Epoch != in.bookHead.Epoch {
		in.best, in.bestHead = best, in.bookHead
		in.bbo.seq = in.bookHead.Sequence()
		if in.bbo.topic.Subscribers() > 0 {
			in.showBest()
		}
		in.bbo.changed()
	}
}

func (in *Instrument) showBest() {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	x.bbo = in.bestNow()
	x.out = wire.AppendBBO(x.out[:0], &x.bbo)
	in.bbo.topic.SetValue(in.bbo.entry(x.bbo.Sequence(), x.bbo.Seq, x.out))
}

func (in *Instrument) bestNow() market.BBO {
	b := market.BBO{Head: in.bestHead, Bid: in.best[market.Bid], Ask: in.best[market.Ask]}
	b.Prev = b.Seq
	return b
}

// advance moves the 24 h window by the clock of the instrument's source.
func (in *Instrument) advance(h *wire.OwnerHeartbeat, x *scratch) {
	for _, c := range h.Sources {
		if c.Source != in.def.Source {
			continue
		}
		in.clock = c.Last
		if !in.series.Roll(c.Last) {
			continue
		}
		if in.ticker.topic.Subscribers() > 0 {
			in.showTicker(c.Last, x)
		}
		in.ticker.changed()
	}
}

// fault makes the book stale until the stream resets it.
func (in *Instrument) fault(what string, err error) {
	in.broken = true
	in.part.broken(in, what, err)
	in.full.tell()
	for _, f := range in.views {
		f.tell()
	}
}

// sweep drops views that nobody watches, and history and snapshots that are too old.
func (in *Instrument) sweep(now time.Duration) {
	var room [market.NumIntervals + 8]*hot // enough for most; instruments are many, and each is swept again and again
	for _, h := range in.expire(now, room[:0]) {
		h.cool(now)
	}
	in.reads.cool(now)
}

// expire drops what is too old, and adds all hot snapshots to the list.
func (in *Instrument) expire(now time.Duration, all []*hot) []*hot {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range in.feeds() {
		f.topic.Expire()
	}
	in.dropViews(now)
	all = append(all, &in.full.hot)
	for _, f := range in.views {
		all = append(all, &f.hot)
	}
	for _, f := range in.bars {
		all = append(all, &f.hot)
	}
	return all
}

var errHash = errors.New("the hash does not match the book")
