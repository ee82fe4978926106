package rule

import (
	"bytes"
	"math"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// instrument is what the series of one instrument are made of. Everything here but the lines, and what only a cold start wants,
// goes into its image.
type instrument struct {
	status market.Status // the newest

	book     book.Book
	hasBook  bool
	broken   bool     // an event did not fit; a snapshot of the stream mends it
	parts    [][]byte // of a snapshot that is still arriving, as they came
	bookTime market.Time
	bid, ask market.Price // at the newest evaluation; 0: the side was empty

	trades  market.Sequence // the newest place, gaps included
	newest  market.Time     // event time of the newest trade
	last    market.Price
	hasLast bool
	history history
	from    int64 // the first minute of which every trade is known
	lacking int64 // at a cold start, the newest minute that some trades are missing of

	gaps group // what has a gap that no value has come after

	at      int64 // the image that this was restored from includes the records up to this offset
	dirty   bool
	changed struct { // the first change since the last image
		at    int64       // its record
		clock market.Time // before that
	}

	rules   int
	last1   []*line // those of last: one at most
	windows []*line
	books   []*line
}

// notYet is the first known minute of an instrument of a cold start, before the first record tells the time.
const notYet = math.MaxInt64

func (in *instrument) id() uint32 { return in.status.Instrument.ID }

func (in *instrument) linesOf(g group) *[]*line {
	switch g {
	case tradeGroup:
		return &in.last1
	case bookGroup:
		return &in.books
	}
	return &in.windows
}

// newestOf returns the newest place in a group's topic, and the time of the event there.
func (in *instrument) newestOf(g group) (market.Sequence, market.Time) {
	if g == bookGroup {
		return in.book.Sequence(), in.bookTime
	}
	return in.trades, in.newest
}

// live tells that the book is good.
func (in *instrument) live() bool {
	return in.hasBook && !in.broken && in.status.Book == market.Live && in.status.State != market.Delisted
}

// touch notes that the record at hand changes the instrument.
func (p *Partition) touch(in *instrument) { p.touchAt(in, p.offset) }

func (p *Partition) touchAt(in *instrument, offset int64) {
	if in.dirty {
		return
	}
	in.dirty = true
	in.changed.at, in.changed.clock = offset, p.before
	p.dirty = append(p.dirty, in)
}

// open begins a gap.
func (p *Partition) open(in *instrument, groups group, why string) {
	news := groups &^ in.gaps
	in.gaps |= groups
	if news == 0 {
		return
	}
	if p.out == nil || in.rules == 0 {
		return
	}
	for _, g := range [...]group{tradeGroup | windowGroup, bookGroup} {
		if news&g != 0 {
			p.out.Gaps = append(p.out.Gaps, Gap{Inst: in.id(), Sym: in.status.Instrument.Sym, Book: g == bookGroup, Why: why, Clock: p.clock, Offset: p.offset})
		}
	}
}

// define adds an instrument.
func (p *Partition) define(s *market.Status) *instrument {
	in := &instrument{status: *s, from: notYet, at: -1}
	p.enrol(in)
	return in
}

func (p *Partition) enrol(in *instrument) {
	p.insts[in.id()] = in
	p.syms[in.status.Instrument.Sym] = in.id()
	p.list = append(p.list, in)
}

func (p *Partition) applyStatus(s *market.Status) {
	in := p.insts[s.Instrument.ID]
	if in == nil {
		in = p.define(s)
		in.from = p.minute + 1
		p.touch(in)
		return
	}
	if p.offset <= in.at || s.Sequence().Compare(in.status.Sequence()) <= 0 {
		p.stats.Old++
		return
	}
	p.touch(in)
	was, wasLive := in.status, in.live()
	in.status = *s
	if s.Epoch != was.Epoch {
		p.open(in, tradeGroup|windowGroup|bookGroup, "epoch")
	}
	if from, to := ScalesOf(&was.Instrument), ScalesOf(&s.Instrument); from != to {
		p.rescale(in, from, to)
	}
	switch {
	case s.State == market.Delisted:
		if wasLive {
			p.open(in, bookGroup, "delisted")
		}
		p.endAll(in, Delisted)
	case wasLive && !in.live():
		p.open(in, bookGroup, s.Why.String())
	case !wasLive && in.live():
		p.evaluateBook(in)
	}
}

// endAll ends every rule of an instrument.
func (p *Partition) endAll(in *instrument, why Ended) {
	p.each(in, func(l *line, slot uint32, _ *rule) {
		p.unplace(l, slot)
		p.end(slot, why)
	})
}

// each calls do with every rule of an instrument. It looks at all rules there are, and is for what is rare.
func (p *Partition) each(in *instrument, do func(l *line, slot uint32, r *rule)) {
	if in.rules == 0 {
		return
	}
	for slot := range p.rules.n {
		r := p.rules.at(slot)
		if !r.is(live) {
			continue
		}
		if l := p.lines[r.line]; l.in == in {
			do(l, slot, r)
		}
	}
}

// fault makes the book wait for a snapshot.
func (p *Partition) fault(in *instrument, why string) {
	p.stats.Faults++
	wasLive := in.live()
	in.broken = true
	if wasLive {
		p.open(in, bookGroup, why)
	}
}

func (p *Partition) applySnapshot(in *instrument, s *market.Snapshot, raw []byte) {
	at := in.book.Sequence()
	switch {
	case in.hasBook && s.Sequence().Compare(at) <= 0:
		p.stats.Old++
		return
	case s.Part > 1 && len(in.parts) == 0:
		return
	}
	p.touch(in)
	if in.live() && (s.Epoch != at.Epoch || s.Prev > at.Seq) {
		p.open(in, bookGroup, "sequence")
	}
	complete, err := in.gather(s, raw)
	switch {
	case err != nil:
		p.fault(in, "book snapshot")
	case complete:
		in.hasBook, in.broken, in.bookTime = true, false, s.Time
		if in.live() {
			p.evaluateBook(in)
		}
	}
}

// gather keeps a part of a snapshot, and loads the book when it is the last one. An image has the parts as they are, so that
// an owner may take over between two of them.
func (in *instrument) gather(s *market.Snapshot, raw []byte) (complete bool, err error) {
	if s.Part == 1 {
		in.parts = nil
	}
	if s.Parts == 1 {
		return true, in.book.Load(s)
	}
	if s.Part > 1 {
		first, err := wire.HeadOf(in.parts[0])
		if err != nil || first.Sequence() != s.Sequence() || int(s.Part) != len(in.parts)+1 {
			in.parts = nil
			return false, book.ErrPart
		}
	}
	in.parts = append(in.parts, bytes.Clone(raw))
	if s.Part < s.Parts {
		return false, nil
	}
	parts := in.parts
	in.parts = nil
	for _, raw := range parts {
		if err := wire.DecodeSnapshot(raw, s); err != nil {
			return false, err
		}
		if err := in.book.Load(s); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (p *Partition) applyDelta(in *instrument, d *market.Delta) {
	if !in.hasBook || in.broken || d.Sequence().Compare(in.book.Sequence()) <= 0 {
		p.stats.Old++
		return
	}
	p.touch(in)
	if _, err := in.book.Apply(d); err != nil {
		p.fault(in, "book update")
		return
	}
	if d.Hash.OK && d.Hash.Sum != in.book.Hash() {
		p.fault(in, "book hash")
		return
	}
	in.bookTime = d.Time
	if in.live() {
		p.evaluateBook(in)
	}
}

// evaluateBook evaluates what is made of the best levels, of a live book.
func (p *Partition) evaluateBook(in *instrument) {
	bid, ask := in.book.Best()
	in.bid, in.ask = bid.Price, ask.Price
	gap := in.gaps&bookGroup != 0
	in.gaps &^= bookGroup
	for _, l := range in.books {
		p.evaluate(l, gap)
	}
}

func (p *Partition) applyTrade(in *instrument, t *market.Trade) {
	if !p.follow(in, &t.Head) {
		return
	}
	if in.hasLast && t.Time < in.newest {
		p.stats.Late++
		return
	}
	before, grown := in.history.add(p.minute, t)
	in.newest, in.last, in.hasLast = t.Time, t.Price, true
	gaps := in.gaps
	in.gaps &^= tradeGroup | windowGroup
	for _, l := range in.last1 {
		p.evaluate(l, gaps&tradeGroup != 0)
	}
	for _, l := range in.windows {
		l.traded(t, before, grown, p.minute)
		p.evaluate(l, gaps&windowGroup != 0)
	}
}

func (p *Partition) applyTradeGap(in *instrument, g *market.TradeGap) {
	if p.follow(in, &g.Head) {
		p.open(in, tradeGroup|windowGroup, g.Why.String())
	}
}

// follow moves the place in the topic of trades, and tells whether the event is new. One that does not follow the newest is
// behind a gap.
func (p *Partition) follow(in *instrument, h *market.Head) bool {
	seq := h.Sequence()
	if seq.Compare(in.trades) <= 0 {
		p.stats.Old++
		return false
	}
	p.touch(in)
	if in.trades != (market.Sequence{}) && (seq.Epoch != in.trades.Epoch || h.Prev > in.trades.Seq) {
		p.open(in, tradeGroup|windowGroup, "sequence")
	}
	in.trades = seq
	return true
}

// rescale converts all that is known of an instrument to other scales. What does not convert exactly is forgotten, with all
// that was known beside it; rules whose limit does not convert exactly end.
func (p *Partition) rescale(in *instrument, from, to Scales) {
	price, size := rescaled(from.Price, to.Price), rescaled(from.Size, to.Size)
	last, ok1 := price(int64(in.last))
	bid, ok2 := price(int64(in.bid))
	ask, ok3 := price(int64(in.ask))
	in.history.forget(p.minute)
	if in.history.rescale(price, size) && ok1 && ok2 && ok3 {
		in.last, in.bid, in.ask = market.Price(last), market.Price(bid), market.Price(ask)
	} else {
		in.last, in.hasLast, in.bid, in.ask, in.history, in.from = 0, false, 0, 0, nil, p.minute+1
	}
	p.each(in, func(l *line, slot uint32, r *rule) {
		p.unplace(l, slot)
		if !p.convert(l, r, from, to) {
			p.end(slot, Rescaled)
		}
	})
	for _, lines := range [...][]*line{in.last1, in.windows, in.books} {
		for _, l := range lines {
			p.begin(l)
		}
	}
	p.each(in, func(l *line, slot uint32, r *rule) {
		if r.is(pending) && !l.has { // the condition on no value is not true
			p.release(l, slot)
		}
		p.place(l, slot)
	})
}

// convert brings a rule's numbers to other scales, and tells whether that is exact.
func (p *Partition) convert(l *line, r *rule, from, to Scales) bool {
	how := rescaled(l.series.Scale(from), l.series.Scale(to))
	var ok bool
	if r.limit, ok = how(r.limit); !ok {
		return false
	}
	if e := p.rules.extra(r); e != nil {
		e.hysteresis, ok = how(e.hysteresis)
	}
	return ok
}
