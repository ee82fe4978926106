package ingest

import (
	"math"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// instrument is all we know of one instrument.
type instrument struct {
	def     market.Instrument
	history []definition // of def, oldest first
	created int64        // offset of the record that made it
	src     *source
	state   market.State // the venue's word: Live, Halted or Delisted
	epoch   uint32
	status  market.Status // the newest one in the stream
	feed    bookFeed
	trades  tradeFeed
	series  bar.Series
	barSeq  [market.NumIntervals]uint64
	blocks  [market.NumIntervals]blocks
	due     market.Time // of the earliest bar to become final
	heapAt  int         // place in src.due

	skipTo      int64 // records up to this offset are already in the state
	dirty       bool  // something changed since the last snapshot
	saved       int64 // input offset of the last snapshot; -1 when there is none
	savedEvents int64 // offset in md.events of the last snapshot
}

// definition is what the instrument was, from an input offset on.
type definition struct {
	from int64
	def  market.Instrument
}

// maxHistory bounds the definitions that are remembered. They are needed for the records between the oldest snapshot and
// the present, some seconds.
const maxHistory = 64

// definitionAt returns what was known of the instrument when the record at offset was first read: a record is always
// judged by the definition of its own time. A nil instrument, and one that did not exist yet, give nil.
func (it *instrument) definitionAt(offset int64) *market.Instrument {
	if it == nil || offset < it.created {
		return nil
	}
	if offset > it.skipTo {
		return &it.def
	}
	for i := len(it.history) - 1; i > 0; i-- {
		if it.history[i].from < offset {
			return &it.history[i].def
		}
	}
	return &it.history[0].def
}

func (it *instrument) remember(offset int64) {
	if len(it.history) == maxHistory {
		it.history = append(it.history[:0], it.history[1:]...)
	}
	it.history = append(it.history, definition{from: offset, def: it.def})
}

// noteDepth keeps the depth to which the venue keeps a session's book up.
func (it *instrument) noteDepth(depth int, session []byte) {
	if depth > 0 {
		it.dirty = it.dirty || it.feed.depth != depth || it.feed.depthSession != string(session)
		it.feed.depth = depth
		if it.feed.depthSession != string(session) {
			it.feed.depthSession = string(session)
		}
	}
}

// define creates an instrument or changes it.
func (c *core) define(it *instrument) (reason string) {
	d := &c.msg.Instrument
	if it != nil && c.rec.Offset <= it.skipTo {
		if c.rec.Offset == it.created {
			c.next = max(c.next, it.def.ID/partitionSlots+1)
		}
		return ""
	}
	switch holder := c.holder(d.Source, d.Symbol); {
	case it == nil && c.misplaced():
		return reasonPartition
	case d.Sym != string(c.rec.Key):
		return decode.ReasonSymbol
	case c.msg.Time > c.rec.In+maxAhead:
		return reasonFuture
	case holder != nil && holder != it:
		return reasonConflict
	case it == nil:
		return c.create(d)
	case d.Source != it.def.Source:
		return decode.ReasonSource
	}
	c.redefine(it, d)
	return ""
}

// holder finds the instrument that had the source's symbol when the record at hand was first read.
func (c *core) holder(source, symbol string) *instrument {
	for _, it := range c.list {
		if def := it.definitionAt(c.rec.Offset); def != nil && def.Source == source && def.Symbol == symbol {
			return it
		}
	}
	return nil
}

func (c *core) create(d *market.Instrument) (reason string) {
	src := c.source(d.Source)
	if src == nil || c.next > maxInstruments {
		return reasonLimit
	}
	it := &instrument{def: *d, created: c.rec.Offset, skipTo: c.rec.Offset - 1, saved: -1, src: src, epoch: c.epochAfter(0)}
	it.def.ID = c.next*partitionSlots + c.partition
	c.next++
	it.remember(c.rec.Offset)
	it.series.SizeScale = d.SizeScale
	it.feed.state, it.feed.why = market.Stale, market.Start
	c.enrol(it)
	c.emitStatus(it)
	return ""
}

// enrol makes the instrument known to the core.
func (c *core) enrol(it *instrument) {
	it.due = it.series.Due()
	it.src.due.add(it)
	c.list = append(c.list, it)
	c.instruments[it.def.Sym] = it
}

// epochAfter is the epoch of a numbering that begins with the record at hand.
func (c *core) epochAfter(old uint32) uint32 {
	seconds := min(max(c.rec.In.Micros()/1e6, 0), math.MaxUint32)
	return max(old+1, uint32(seconds)) //nolint:gosec // clamped above
}

// redefine takes over a definition that may differ in everything but the source.
func (c *core) redefine(it *instrument, d *market.Instrument) {
	rescaled := d.PriceScale != it.def.PriceScale || d.SizeScale != it.def.SizeScale
	id := it.def.ID
	before := it.def
	if rescaled {
		c.finalise(it)
	}
	it.def = *d
	it.def.ID = id
	if it.def == before && it.state != market.Delisted {
		return
	}
	if it.state == market.Delisted {
		it.state = market.Live
		it.feed.why = market.Start
	}
	it.remember(c.rec.Offset)
	if rescaled {
		c.renumber(it, market.Start)
		return
	}
	c.emitStatus(it)
}

// renumber begins a new epoch: every topic starts again, the book empty until the venue gives one.
func (c *core) renumber(it *instrument, why market.Reason) {
	it.epoch = c.epochAfter(it.epoch)
	it.status.Seq, it.trades.seq = 0, 0
	it.barSeq, it.blocks = [market.NumIntervals]uint64{}, [market.NumIntervals]blocks{}
	it.series = bar.Series{SizeScale: it.def.SizeScale}
	c.reschedule(it)
	it.feed.restart()
	it.feed.state, it.feed.why = market.Stale, why
	c.emitStatus(it)
	c.emitBook(it, 0)
}

// venueState takes over the venue's word about the instrument.
func (c *core) venueState(it *instrument, s market.State) {
	if s == it.state {
		return
	}
	was := it.state
	it.state = s
	switch {
	case s == market.Delisted:
		c.finalise(it)
		it.feed.drop()
		it.feed.state, it.feed.why = market.Stale, market.Silent
	case was == market.Delisted:
		it.feed.why = market.Start
	}
	c.emitStatus(it)
}

// finalise ends all open bars now.
func (c *core) finalise(it *instrument) {
	for it.due != never {
		c.bars = it.series.Advance(it.due, c.bars[:0])
		c.emitBars(it)
	}
}

// emitBars emits c.bars, which the instrument's series has just given.
func (c *core) emitBars(it *instrument) {
	for i := range c.bars {
		b := &c.bars[i]
		b.Head = c.head(it, &it.barSeq[b.Interval], it.src.now)
		it.series.Final(b) // so that the series keeps its head
		it.blocks[b.Interval].note(b)
		c.out.buf = wire.AppendBar(c.out.buf, b)
		c.out.end(wire.TemplateBar)
	}
	c.reschedule(it)
}

// reschedule follows a change of the series' due time.
func (c *core) reschedule(it *instrument) {
	if due := it.series.Due(); due != it.due {
		it.due = due
		it.dirty = true
		it.src.due.fix(it)
	}
}

// emitStatus says what the instrument is and how its book is.
func (c *core) emitStatus(it *instrument) {
	seq := it.status.Seq
	it.status = market.Status{
		Head:       c.head(it, &seq, c.msg.Time),
		Instrument: it.def, State: it.state, Book: it.feed.state, Why: it.feed.why,
	}
	c.out.buf = wire.AppendStatus(c.out.buf, &it.status)
	c.out.end(wire.TemplateStatus)
}
