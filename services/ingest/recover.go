package ingest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// ErrDiverged says that md.raw, applied again, gave other events than md.events holds. Going on would make the stream lie,
// so the process stops, and a human looks.
var ErrDiverged = errors.New("replayed events differ from md.events")

// errNoSnapshot says that the checkpoint names an instrument whose snapshot is not there.
var errNoSnapshot = errors.New("snapshot of an instrument is missing")

// restored is a core put together from md.snapshots.
type restored struct {
	core *core
	// from is the first input to apply. Each instrument ignores what its own snapshot includes.
	from int64
	// events is where the tail of md.events begins: all events below are in the snapshots.
	events int64
	// anchored tells that there was a checkpoint, without which it is not known what is missing.
	anchored bool
	// other tells that another version of the algorithm wrote some of it.
	other bool
}

// restore puts a core together from the newest snapshots, which come in order of instrument, kind and block. first is the
// first offset that md.raw still has: without a checkpoint that is where everything begins.
//
//	md.raw   ─────────┬───────────────┬──────────┬────────┬──►
//	                  X of A          Y          X of B   T: the input that md.events has answered
//	                  └ from: A applies all of it, B what is behind its own X, the rest as of Y
func restore(partition, partitions int, snaps []stream.Snapshot, first int64) (*restored, error) {
	r := &restored{core: newCore(partition, partitions)}
	p := checkpoint{offset: first - 1, next: 1}
	for i := range snaps {
		r.other = r.other || snaps[i].Version != Version
		if snaps[i].Kind == stream.KindCheckpoint {
			if err := p.decode(snaps[i].Payload); err != nil {
				return nil, err
			}
			r.anchored = true
		}
	}
	r.core.next = p.next
	r.events = p.events
	r.from = p.offset + 1
	for _, at := range p.clocks {
		r.core.source(at.name) // in the order that they appeared in
	}
	oldest, err := r.loadInstruments(snaps, &p)
	if err != nil {
		return nil, err
	}
	clocks := p.clocks
	if oldest.offset < p.offset {
		r.from, clocks = oldest.offset+1, oldest.clocks
	}
	r.core.setClocks(clocks)
	r.core.offset = r.from - 1
	return r, nil
}

// moment is an input offset and the clocks as of it.
type moment struct {
	offset int64
	clocks []clockAt
}

// loadInstruments loads them as of the offsets up to which they are good, and returns the oldest of these.
func (r *restored) loadInstruments(snaps []stream.Snapshot, p *checkpoint) (oldest moment, err error) {
	oldest.offset = p.offset
	good := make(map[uint32]int64, len(p.savedAt))
	for _, s := range p.savedAt {
		good[s.inst] = s.offset
	}
	for len(snaps) > 0 {
		n := 1
		for n < len(snaps) && snaps[n].Inst == snaps[0].Inst {
			n++
		}
		group := snaps[:n]
		snaps = snaps[n:]
		if group[0].Kind != stream.KindInstrument {
			continue // of the partition, or blocks without their instrument
		}
		clocks, err := r.loadInstrument(group)
		if err != nil {
			return oldest, err
		}
		it := r.core.list[len(r.core.list)-1]
		it.savedEvents = group[0].EventsOffset
		if at, listed := good[it.def.ID]; listed && at > it.skipTo {
			if at != p.offset {
				return oldest, fmt.Errorf("instrument %s: %w: as of %d, the checkpoint wants %d", it.def.Sym, errNoSnapshot, it.skipTo, at)
			}
			it.skipTo = at // nothing has changed in between
		}
		delete(good, it.def.ID)
		if it.skipTo < oldest.offset {
			oldest = moment{it.skipTo, clocks}
		}
	}
	if len(good) > 0 {
		return oldest, fmt.Errorf("%w: %d of them", errNoSnapshot, len(good))
	}
	return oldest, nil
}

// loadInstrument loads one instrument from its snapshot and the blocks of bars behind it.
func (r *restored) loadInstrument(group []stream.Snapshot) ([]clockAt, error) {
	var s stream.InstrumentSnapshot
	if err := s.Decode(group[0].Payload); err != nil {
		return nil, err
	}
	it, clocks, err := r.core.load(&s, group[0].InputOffset)
	if err != nil {
		return nil, err
	}
	for _, b := range group[1:] {
		iv := market.Interval(b.Kind - stream.KindBars)
		if !iv.Valid() {
			continue
		}
		if err := it.loadBlock(iv, b.Payload); err != nil {
			return nil, fmt.Errorf("bars of %s: %w", it.def.Sym, err)
		}
	}
	it.loadBars(s.Bars)
	r.core.enrol(it)
	return clocks, nil
}

// tail is what md.events says behind the snapshots: per instrument where its topics end. When md.raw can be applied again,
// the end of the replay must be found there.
type tail struct {
	ends map[uint32]*topicEnds
}

// topicEnds are the last sequences of an instrument's topics; 0 where the tail has none.
type topicEnds struct {
	epoch  uint32
	book   uint64
	hash   market.Hash
	trades uint64
	status uint64
	bars   [market.NumIntervals]uint64
}

// add takes one record of md.events.
func (t *tail) add(tmpl wire.Template, value []byte) error {
	if !tmpl.IsEvent() {
		return nil
	}
	h, err := wire.HeadOf(value)
	if err != nil {
		return err
	}
	if t.ends == nil {
		t.ends = make(map[uint32]*topicEnds)
	}
	e := t.ends[h.Inst]
	if e == nil || h.Epoch > e.epoch {
		e = &topicEnds{epoch: h.Epoch}
		t.ends[h.Inst] = e
	}
	switch tmpl {
	case wire.TemplateBookSnapshot:
		var s market.Snapshot
		err = wire.DecodeSnapshot(value, &s)
		e.book, e.hash = h.Seq, s.Hash
	case wire.TemplateBookUpdate:
		var d market.Delta
		err = wire.DecodeDelta(value, &d)
		e.book, e.hash = h.Seq, d.Hash
	case wire.TemplateTrade, wire.TemplateTradeGap:
		e.trades = h.Seq
	case wire.TemplateStatus:
		e.status = h.Seq
	case wire.TemplateBar:
		var b market.Bar
		if err = wire.DecodeBar(value, &b); err == nil {
			e.bars[b.Interval] = h.Seq
		}
	}
	return err
}

// verify compares the core with the end of the tail.
func (t *tail) verify(c *core) error {
	for _, it := range c.list {
		if e := t.ends[it.def.ID]; e != nil {
			if err := e.verify(it); err != nil {
				return err
			}
		}
	}
	for id := range t.ends { // the order is of no consequence
		if !slices.ContainsFunc(c.list, func(it *instrument) bool { return it.def.ID == id }) {
			return fmt.Errorf("%w: no instrument %d", ErrDiverged, id)
		}
	}
	return nil
}

func (e *topicEnds) verify(it *instrument) error {
	if e.epoch != it.epoch {
		return fmt.Errorf("%w: %s: epoch %d, not %d", ErrDiverged, it.def.Sym, it.epoch, e.epoch)
	}
	differ := func(topic string, have, want uint64) error {
		if want == 0 || have == want {
			return nil
		}
		return fmt.Errorf("%w: %s %s: seq %d, not %d", ErrDiverged, it.def.Sym, topic, have, want)
	}
	err := errors.Join(
		differ("book", it.feed.seq, e.book), differ("trades", it.trades.seq, e.trades), differ("status", it.status.Seq, e.status))
	for iv := range e.bars {
		err = errors.Join(err, differ("bars "+market.Interval(iv).String(), it.barSeq[iv], e.bars[iv]))
	}
	if err == nil && e.book != 0 && e.hash.OK && it.feed.state == market.Live && it.feed.book.Hash() != e.hash.Sum {
		err = fmt.Errorf("%w: %s: hash of the book at %d", ErrDiverged, it.def.Sym, e.book)
	}
	return err
}

// A rebuild makes a core's state follow md.events instead of md.raw, when md.raw can't be applied again: it is gone, or
// another version of the algorithm applied it. What is not in the stream (what the venues' connections had come to) is
// lost by that, so that every book is reset and, unless nothing was missed, a gap put into the trades.
type rebuild struct {
	core     *core
	trade    market.Trade
	gap      market.TradeGap
	bar      market.Bar
	status   market.Status
	beat     wire.OwnerHeartbeat
	byNumber map[uint32]*instrument
}

func newRebuild(c *core) *rebuild {
	r := &rebuild{core: c, byNumber: make(map[uint32]*instrument)}
	for _, it := range c.list {
		r.byNumber[it.def.ID] = it
	}
	return r
}

// add takes one record of the tail.
func (r *rebuild) add(tmpl wire.Template, value []byte) error {
	switch {
	case tmpl == wire.TemplateOwnerHeartbeat:
		return r.heartbeat(value)
	case tmpl == wire.TemplateStatus:
		return r.setStatus(value)
	case !tmpl.IsEvent():
		return nil
	}
	h, err := wire.HeadOf(value)
	if err != nil {
		return err
	}
	it := r.byNumber[h.Inst]
	if it == nil || h.Epoch < it.epoch {
		return nil // begun before its instrument's status, which is gone
	}
	it.dirty = true
	it.src.now = max(it.src.now, h.Time)
	switch tmpl {
	case wire.TemplateBookSnapshot, wire.TemplateBookUpdate:
		it.feed.seq = max(it.feed.seq, h.Seq)
	case wire.TemplateTrade:
		return r.addTrade(it, value)
	case wire.TemplateTradeGap:
		if err = wire.DecodeTradeGap(value, &r.gap); err == nil && h.Seq > it.trades.seq {
			it.trades.seq = h.Seq
			it.series.Gap(h.Time)
		}
	case wire.TemplateBar:
		return r.addBar(it, value)
	}
	return err
}

func (r *rebuild) heartbeat(value []byte) error {
	if err := wire.DecodeOwnerHeartbeat(value, &r.beat); err != nil {
		return err
	}
	for _, at := range r.beat.Sources {
		if s := r.core.source(at.Source); s != nil {
			s.now = max(s.now, at.Last)
		}
	}
	return nil
}

func (r *rebuild) setStatus(value []byte) error {
	s := &r.status
	if err := wire.DecodeStatus(value, s); err != nil {
		return err
	}
	it := r.byNumber[s.Inst]
	if it == nil {
		src := r.core.source(s.Instrument.Source)
		if src == nil {
			return nil
		}
		it = &instrument{def: s.Instrument, created: -1, saved: -1, src: src, epoch: s.Epoch}
		it.series.SizeScale = s.Instrument.SizeScale
		r.byNumber[s.Inst] = it
		r.core.enrol(it)
	}
	if s.Sequence().Compare(it.status.Sequence()) <= 0 {
		return nil
	}
	if s.Epoch != it.epoch {
		it.epoch, it.feed.seq, it.trades.seq = s.Epoch, 0, 0
		it.barSeq, it.blocks = [market.NumIntervals]uint64{}, [market.NumIntervals]blocks{}
		it.series = bar.Series{SizeScale: s.Instrument.SizeScale}
	}
	it.def, it.state, it.status = s.Instrument, s.State, *s
	it.feed.state, it.feed.why = s.Book, s.Why
	it.dirty = true
	return nil
}

func (r *rebuild) addTrade(it *instrument, value []byte) error {
	t := &r.trade
	if err := wire.DecodeTrade(value, t); err != nil || t.Seq <= it.trades.seq {
		return err
	}
	f := &it.trades
	f.seq = t.Seq
	f.said = 0
	if id, ok := t.ID.Number(); ok && (f.ids.Counted() || !f.began) {
		f.began, f.ids, f.counted, f.last = true, max(f.ids, decode.Counts), true, max(f.last, id)
	} else {
		f.recent.add(digestOf(&t.ID))
	}
	it.series.AddOpen(t)
	return nil
}

func (r *rebuild) addBar(it *instrument, value []byte) error {
	b := &r.bar
	if err := wire.DecodeBar(value, b); err != nil || b.Seq <= it.barSeq[b.Interval] {
		return err
	}
	it.barSeq[b.Interval] = b.Seq
	it.series.Final(b)
	it.blocks[b.Interval].note(b)
	return nil
}

// finish ends the rebuild: the state is as of the input at offset, and the next input begins with what has to be said.
// renumber begins new epochs, for when it is not sure where the old numbering ended.
func (r *rebuild) finish(offset int64, why market.Reason, renumber bool) {
	c := r.core
	for _, it := range c.list {
		it.skipTo, it.saved, it.savedEvents, it.dirty = offset, -1, 0, true
		it.history = nil
		it.created = min(it.created, offset)
		it.remember(it.created)
		it.feed.book.Clear()
		it.feed.held, it.feed.heldLevels = nil, 0
		c.reschedule(it)
		c.next = max(c.next, it.def.ID/partitionSlots+1)
	}
	c.offset = offset
	if renumber {
		c.next += partitionSlots // whatever was there and left no trace keeps its number
	}
	c.resets = &resets{why: why, renumber: renumber}
}

// resets is what a rebuilt core has to say before anything else.
type resets struct {
	why      market.Reason
	renumber bool
}

// sayResets resets every book in the stream, as part of the input at hand.
func (c *core) sayResets() {
	r := c.resets
	c.resets = nil
	for _, it := range c.list {
		if it.state == market.Delisted {
			continue
		}
		if r.renumber {
			c.renumber(it, r.why)
		} else {
			c.stale(it, r.why)
		}
		it.feed.hasSeq = false
		if r.why != market.Upgrade {
			c.tradeGap(it, r.why, -1)
		}
	}
}

// situation is all that decides how to go on.
type situation struct {
	restored  *restored
	snapshots bool // there were some
	tail      stream.Tail
	first     int64 // offset that md.raw still has
	end       int64 // of md.raw
}

// plan says how to go on.
type plan struct {
	from     int64 // first input to apply
	answered int64 // outputs up to this input are in md.events already
	// rebuild takes the state from md.events, since md.raw can't be applied again because of why.
	rebuild  bool
	why      market.Reason
	renumber bool // begin new epochs: it is not known where the old ones ended
}

func (s *situation) plan() plan {
	r, t := s.restored, &s.tail
	answered := r.from - 1
	if t.Found {
		answered = t.InputOffset
	}
	cold := !t.Found && !s.snapshots
	if cold {
		return plan{from: s.first, answered: s.first - 1}
	}
	eventsGone := t.From > r.events
	younger := s.end <= answered // md.raw was made anew
	gone := younger || r.from < s.first || !r.anchored && s.first > 0 || !t.Found && eventsGone && r.from < s.end
	upgraded := (r.other || t.Found && t.Version != Version) && r.from <= answered
	switch {
	case younger:
		return plan{from: s.first, answered: s.first - 1, rebuild: true, why: market.Retention, renumber: eventsGone}
	case gone:
		from := max(s.first, answered+1)
		return plan{from: from, answered: from - 1, rebuild: true, why: market.Retention, renumber: eventsGone}
	case upgraded:
		return plan{from: answered + 1, answered: answered, rebuild: true, why: market.Upgrade, renumber: eventsGone}
	}
	return plan{from: r.from, answered: max(answered, r.from-1)}
}
