// Package bar makes OHLCV bars of all intervals and the 24 h ticker of one instrument from its trades, by event time.
//
// A [Series] has no clock of its own: it is a pure function of the calls made to it, so that every process that reads the
// same trades arrives at the same bars. Ingest calls Add and Advance, and publishes the final bars they return. An edge
// reads those and calls Final for each; the trades it gives to AddOpen, for the bars that are still open and the ticker.
package bar

import (
	"math"
	"sort"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// What a series promises.
const (
	Grace        = 2 * time.Second // how long after its end, by its source's event time, a bar becomes final
	MaxClosed    = 2048            // how many final bars of each interval are kept
	MaxCorrected = 1500            // how many of them, the newest, late trades correct
)

const (
	// maxEdges is how many final bars of each interval, the newest, remember when their first and last trades happened.
	maxEdges = 64
	// maxGaps is how many trade gaps are remembered for bars that begin later; older ones grow together.
	maxGaps = 8
)

// Series holds the bars and the 24 h window of one instrument. The zero value is an instrument without trades, of size
// scale 0; memory comes with trades, so that a quiet instrument is small. A Series belongs to one goroutine at a time.
//
// # Bars
//
// A trade belongs to the bar its event time falls into. Open is the price of the trade with the least event time, the
// first to arrive among equals; Close that of the greatest, the last to arrive among equals. A bar becomes final when its
// source's event time reaches its end plus [Grace]; until then several bars of an interval may be open. An interval
// without trades has no bar.
//
// A trade for a bar that is final already is late. It corrects the bar, or makes it if there was none, and the bar is
// published again with Rev one higher. Only the newest [MaxCorrected] final bars of an interval are corrected; a trade for
// an older one is counted (see TooLate) and changes nothing but the 24 h values. Of the newest 64 final bars a late trade
// also corrects Open and Close; older ones do not know any more when those happened, and keep theirs.
//
// A trade gap makes those bars Incomplete that overlap the time from the newest trade to the gap, also such as
// begin only later.
//
// # 24 h values
//
// Time is cut into minutes since the Unix epoch. The window is the minute that the source's event time falls into, which
// has only begun, and the 1,439 before it. High, Low, Volume, Quote and Trades are taken over all trades whose event time
// falls into it, late ones too; Open is the price of the first of them, as for a bar. Without trades all are zero. Last is
// the trade with the greatest event time, the last to arrive among equals, and stays when it has left the window. So the
// values depend on the trades and the minute alone.
type Series struct {
	// SizeScale is the instrument's. Quote needs it; set it before the first trade.
	SizeScale uint8

	inst   uint32      // of the bars given to Final
	now    market.Time // greatest event time of the source that we were told
	last   last
	late   uint64
	gaps   []span
	window window
	bars   [market.NumIntervals]bars
}

// bars is one interval.
type bars struct {
	open   []open        // ascending
	closed queue[closed] // ascending, at most MaxClosed
	edges  queue[edges]  // of the newest of closed, at most maxEdges
}

// open is a bar that is not final.
type open struct {
	start, end market.Time
	edges      edges
	first      market.Price
	high       market.Price
	low        market.Price
	last       market.Price
	volume     market.Size
	trades     uint64
	incomplete bool
}

// edges says when the first and the last trade of a bar happened.
type edges struct{ start, first, last market.Time }

// closed is a final bar: a market.Bar without what is the same for all or follows from the rest.
type closed struct {
	start      market.Time
	open       market.Price
	high       market.Price
	low        market.Price
	last       market.Price
	volume     market.Size
	trades     uint64
	seq        uint64
	time       market.Time
	in         market.Time
	epoch      uint32
	rev        uint32
	incomplete bool
}

type last struct {
	price market.Price
	size  market.Size
	time  market.Time
	any   bool
}

// span is a time in which trades are missing, both ends included.
type span struct{ from, to market.Time }

// Add takes a trade in. now is the event time of the instrument's source, this trade included. It appends to out, first,
// the bars that are final by now and, second, the bars that the trade, being late, corrects, shortest interval first.
// Their Head is zero.
func (s *Series) Add(t *market.Trade, now market.Time, out []market.Bar) []market.Bar {
	out = s.Advance(max(now, t.Time), out)
	s.count(t)
	for iv := range s.bars {
		b := &s.bars[iv]
		if b.addNewest(t) {
			continue
		}
		iv := market.Interval(iv)
		start := t.Time.Truncate(iv.Duration())
		if end := start + market.Time(iv.Duration()); due(end) > s.now {
			b.addOpen(t, start, end, s.missing(start, end))
		} else {
			out = s.correct(iv, t, out)
		}
	}
	return out
}

// Advance says that the source's event time has reached now, and appends the bars that are final by it to out, ordered by
// start and then by interval. Their Head is zero. Time never goes back.
func (s *Series) Advance(now market.Time, out []market.Bar) []market.Bar {
	s.clock(now)
	if s.Due() > s.now {
		return out
	}
	for {
		iv := s.nextDue()
		if iv < 0 {
			return out
		}
		b := &s.bars[iv]
		out = append(out, b.close(market.Interval(iv)))
	}
}

// Due returns the earliest event time at which Advance makes a bar final, the greatest Time when no bar is open.
func (s *Series) Due() market.Time {
	at := market.Time(math.MaxInt64)
	for i := range s.bars {
		if o := s.bars[i].open; len(o) > 0 {
			at = min(at, due(o[0].end))
		}
	}
	return at
}

// Gap says that trades are missing, as of the event time at.
func (s *Series) Gap(at market.Time) {
	g := span{at, at}
	if s.last.any {
		g.from = min(at, s.last.time)
	}
	s.remember(g)
	for i := range s.bars {
		for j := range s.bars[i].open {
			if o := &s.bars[i].open[j]; g.overlaps(o.start, o.end) {
				o.incomplete = true
			}
		}
	}
}

// Roll moves the 24 h window on to now and leaves the bars alone: it is for readers, who have the time from the clocks of
// the source and the final bars from the stream. It tells whether the ticker has changed.
func (s *Series) Roll(now market.Time) bool { return s.window.roll(now) }

// Open returns the newest open bar of an interval, with a zero Head.
func (s *Series) Open(iv market.Interval) (market.Bar, bool) {
	o := s.bars[iv].open
	if len(o) == 0 {
		return market.Bar{}, false
	}
	return o[len(o)-1].bar(iv), true
}

// AllOpen appends the open bars of an interval to out, oldest first, with zero Heads. Beside the newest there are those that
// have ended and whose grace has not.
func (s *Series) AllOpen(iv market.Interval, out []market.Bar) []market.Bar {
	for i := range s.bars[iv].open {
		out = append(out, s.bars[iv].open[i].bar(iv))
	}
	return out
}

// Ticker fills in the last trade and the 24 h values, and leaves the rest of t alone.
func (s *Series) Ticker(t *market.Ticker) {
	t.Last, t.LastSize = s.last.price, s.last.size
	s.window.ticker(t)
}

// Closed appends the newest n final bars of an interval to out, oldest first. They have a Head if Final was told it.
func (s *Series) Closed(iv market.Interval, n int, out []market.Bar) []market.Bar {
	return s.ClosedBefore(iv, math.MaxInt64, n, out)
}

// ClosedBefore is Closed for the bars that begin before a time.
func (s *Series) ClosedBefore(iv market.Interval, before market.Time, n int, out []market.Bar) []market.Bar {
	end, _ := s.bars[iv].find(before)
	live := s.bars[iv].closed.live()[:end]
	for i := max(0, len(live)-n); i < len(live); i++ {
		out = append(out, s.bar(iv, &live[i]))
	}
	return out
}

// TooLate counts the bars that would have been corrected by late trades and were too old.
func (s *Series) TooLate() uint64 { return s.late }

// Final installs a final or corrected bar as it was published. It takes the place of the open bar of that start, and of
// an earlier form of it among the final ones; an older revision than the one there is ignored. Readers call it for each
// bar of the stream; ingest may, to have the bars that Closed returns carry their Head, and does after DecodeBinary,
// which brings no final bars.
func (s *Series) Final(b *market.Bar) {
	if !b.Interval.Valid() {
		return
	}
	s.inst = b.Inst
	s.bars[b.Interval].install(b)
	s.clock(due(b.Start + market.Time(b.Interval.Duration())))
	s.forget()
}

// AddOpen takes a trade in like Add, but leaves it to Final to close and to correct bars: a trade for a bar that is
// closed only counts for the last trade and the 24 h values.
func (s *Series) AddOpen(t *market.Trade) {
	s.clock(t.Time)
	s.forget()
	s.count(t)
	for iv := range s.bars {
		b := &s.bars[iv]
		if b.addNewest(t) {
			continue
		}
		d := market.Interval(iv).Duration()
		start := t.Time.Truncate(d)
		if end := start + market.Time(d); due(end) > s.now {
			b.addOpen(t, start, end, s.missing(start, end))
		}
	}
}

// due returns when a bar with this end becomes final.
func due(end market.Time) market.Time { return end + market.Time(Grace) }

func (s *Series) clock(now market.Time) {
	s.now = max(s.now, now)
	s.window.roll(s.now)
}

// count takes a trade into what does not depend on bars.
func (s *Series) count(t *market.Trade) {
	if !s.last.any || t.Time >= s.last.time {
		s.last = last{t.Price, t.Size, t.Time, true}
	}
	s.window.add(t, market.MulFixed(t.Price, t.Size, s.SizeScale))
}

// nextDue returns the interval whose oldest open bar is the next to become final, or -1.
func (s *Series) nextDue() int {
	next := -1
	for i := range s.bars {
		o := s.bars[i].open
		if len(o) > 0 && due(o[0].end) <= s.now && (next < 0 || o[0].start < s.bars[next].open[0].start) {
			next = i
		}
	}
	return next
}

// forget drops the open bars that must be final by now: a reader has them from the stream, or gets them at once.
func (s *Series) forget() {
	if s.Due() > s.now {
		return
	}
	for i := range s.bars {
		b := &s.bars[i]
		for len(b.open) > 0 && due(b.open[0].end) <= s.now {
			b.drop(0)
		}
	}
}

// remember keeps a gap for bars that begin later. A gap that overlaps the newest one becomes part of it.
func (s *Series) remember(g span) {
	if n := len(s.gaps); n > 0 && s.gaps[n-1].overlaps(g.from, g.to+1) {
		p := &s.gaps[n-1]
		p.from, p.to = min(p.from, g.from), max(p.to, g.to)
		return
	}
	s.gaps = append(s.gaps, g)
	if len(s.gaps) > maxGaps {
		s.gaps[1].from = min(s.gaps[0].from, s.gaps[1].from)
		s.gaps[1].to = max(s.gaps[0].to, s.gaps[1].to)
		s.gaps = append(s.gaps[:0], s.gaps[1:]...)
	}
}

// missing tells whether a remembered gap falls into [start, end).
func (s *Series) missing(start, end market.Time) bool {
	for _, g := range s.gaps {
		if g.overlaps(start, end) {
			return true
		}
	}
	return false
}

func (g span) overlaps(start, end market.Time) bool { return g.from < end && g.to >= start }

// correct takes a late trade into its final bar.
func (s *Series) correct(iv market.Interval, t *market.Trade, out []market.Bar) []market.Bar {
	b := &s.bars[iv]
	start := t.Time.Truncate(iv.Duration())
	if n := b.closed.len(); n >= MaxCorrected && start < b.closed.live()[n-MaxCorrected].start {
		s.late++
		return out
	}
	i, found := b.find(start)
	if found {
		b.closed.live()[i].late(t, b.edgesOf(start))
	} else {
		i = b.insert(i, closedOf(t, start), edges{start, t.Time, t.Time})
	}
	c := &b.closed.live()[i]
	c.rev++
	c.incomplete = c.incomplete || s.missing(start, start+market.Time(iv.Duration()))
	bar := s.bar(iv, c)
	bar.Head = market.Head{}
	return append(out, bar)
}

func closedOf(t *market.Trade, start market.Time) closed {
	return closed{start: start, open: t.Price, high: t.Price, low: t.Price, last: t.Price, volume: t.Size, trades: 1}
}

// late adds a late trade; e is nil when the bar's edges are not known any more.
func (c *closed) late(t *market.Trade, e *edges) {
	c.high, c.low = max(c.high, t.Price), min(c.low, t.Price)
	c.volume = market.AddSaturating(c.volume, t.Size)
	c.trades++
	if e == nil {
		return
	}
	if t.Time < e.first {
		e.first, c.open = t.Time, t.Price
	}
	if t.Time >= e.last {
		e.last, c.last = t.Time, t.Price
	}
}

// bar returns a final bar in full.
func (s *Series) bar(iv market.Interval, c *closed) market.Bar {
	b := market.Bar{
		Interval: iv, Start: c.start, Open: c.open, High: c.high, Low: c.low, Close: c.last,
		Volume: c.volume, Trades: c.trades, Final: true, Rev: c.rev, Incomplete: c.incomplete,
	}
	if c.seq > 0 {
		b.Head = market.Head{Inst: s.inst, Epoch: c.epoch, Prev: c.seq - 1, Seq: c.seq, Time: c.time, In: c.in}
	}
	return b
}

// addNewest takes the trade into the newest open bar if it falls there, as nearly all do.
func (b *bars) addNewest(t *market.Trade) bool {
	n := len(b.open)
	if n == 0 || t.Time < b.open[n-1].start || t.Time >= b.open[n-1].end {
		return false
	}
	b.open[n-1].add(t)
	return true
}

// addOpen takes the trade into the open bar that begins at start, which may be a new one.
func (b *bars) addOpen(t *market.Trade, start, end market.Time, incomplete bool) {
	i := len(b.open)
	for i > 0 && b.open[i-1].start >= start {
		i--
	}
	if i == len(b.open) || b.open[i].start != start {
		b.open = append(b.open, open{})
		copy(b.open[i+1:], b.open[i:])
		b.open[i] = open{
			start: start, end: end, edges: edges{start, t.Time, t.Time},
			first: t.Price, high: t.Price, low: t.Price, last: t.Price, incomplete: incomplete,
		}
	}
	b.open[i].add(t)
}

func (o *open) add(t *market.Trade) {
	o.high, o.low = max(o.high, t.Price), min(o.low, t.Price)
	o.volume = market.AddSaturating(o.volume, t.Size)
	o.trades++
	if t.Time < o.edges.first {
		o.edges.first, o.first = t.Time, t.Price
	}
	if t.Time >= o.edges.last {
		o.edges.last, o.last = t.Time, t.Price
	}
}

func (o *open) bar(iv market.Interval) market.Bar {
	return market.Bar{
		Interval: iv, Start: o.start, Open: o.first, High: o.high, Low: o.low, Close: o.last,
		Volume: o.volume, Trades: o.trades, Incomplete: o.incomplete,
	}
}

// close makes the oldest open bar final and returns it.
func (b *bars) close(iv market.Interval) market.Bar {
	o := b.open[0]
	b.drop(0)
	i, _ := b.find(o.start)
	b.insert(i, closed{
		start: o.start, open: o.first, high: o.high, low: o.low, last: o.last,
		volume: o.volume, trades: o.trades, incomplete: o.incomplete,
	}, o.edges)
	bar := o.bar(iv)
	bar.Final = true
	return bar
}

// drop takes an open bar out.
func (b *bars) drop(i int) { b.open = append(b.open[:i], b.open[i+1:]...) }

// find returns the position of the final bar that begins at start, or where it belongs.
func (b *bars) find(start market.Time) (i int, found bool) {
	live := b.closed.live()
	n := len(live)
	if n == 0 || live[n-1].start < start {
		return n, false
	}
	i = sort.Search(n, func(i int) bool { return live[i].start >= start })
	return i, live[i].start == start
}

// insert puts a final bar in at position i with its edges, lets the oldest go, and returns where the bar is now.
func (b *bars) insert(i int, c closed, e edges) int {
	b.closed.insert(i, c)
	live := b.edges.live()
	j := len(live)
	for j > 0 && live[j-1].start > e.start {
		j--
	}
	b.edges.insert(j, e)
	b.edges.trim(maxEdges)
	over := max(0, b.closed.len()-MaxClosed)
	b.closed.trim(MaxClosed)
	return i - over
}

// edgesOf returns the edges of a final bar, nil when they are not known any more.
func (b *bars) edgesOf(start market.Time) *edges {
	live := b.edges.live()
	for i := len(live) - 1; i >= 0 && live[i].start >= start; i-- {
		if live[i].start == start {
			return &live[i]
		}
	}
	return nil
}

// install puts a published bar into its place.
func (b *bars) install(f *market.Bar) {
	for i := range b.open {
		if b.open[i].start == f.Start {
			b.drop(i)
			break
		}
	}
	c := closed{
		start: f.Start, open: f.Open, high: f.High, low: f.Low, last: f.Close, volume: f.Volume, trades: f.Trades,
		seq: f.Seq, time: f.Time, in: f.In, epoch: f.Epoch, rev: f.Rev, incomplete: f.Incomplete,
	}
	i, found := b.find(f.Start)
	switch {
	case !found:
		b.closed.insert(i, c)
		b.closed.trim(MaxClosed)
	case b.closed.live()[i].epoch != c.epoch || b.closed.live()[i].rev <= c.rev:
		b.closed.live()[i] = c
	}
}
