package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// State is saved per instrument, each as of its own input offset, and once in a while for the partition as a whole; see
// decision 0002. Both forms are private to this package and begin with stateFormat.
const stateFormat = 1

var errState = errors.New("malformed state")

// clockAt is how far a source's time has come.
type clockAt struct {
	name string
	now  market.Time
}

// checkpoint is what the partition knows as of an input offset.
type checkpoint struct {
	offset  int64 // Y: the last input applied
	events  int64 // offset in md.events below which every event is in some instrument's snapshot
	next    uint32
	clocks  []clockAt
	savedAt []savedAt
}

// savedAt says up to which input an instrument's saved state is good: its snapshot's, or the checkpoint's when nothing has
// changed since.
type savedAt struct {
	inst   uint32
	offset int64
}

func (c *core) clocks() []clockAt {
	clocks := make([]clockAt, len(c.sources))
	for i, s := range c.sources {
		clocks[i] = clockAt{s.name, s.now}
	}
	return clocks
}

// setClocks moves the sources to where they stood.
func (c *core) setClocks(clocks []clockAt) {
	for _, at := range clocks {
		if s := c.source(at.name); s != nil {
			s.now = at.now
		}
	}
}

// checkpoint describes the partition as it stands. Every instrument must have been saved once.
func (c *core) checkpoint() checkpoint {
	p := checkpoint{offset: c.offset, next: c.next, clocks: c.clocks()}
	for _, it := range c.list {
		at := it.saved
		if !it.dirty {
			at = c.offset
		}
		p.savedAt = append(p.savedAt, savedAt{it.def.ID, at})
	}
	return p
}

func (p *checkpoint) append(dst []byte) []byte {
	dst = append(dst, stateFormat)
	dst = binary.AppendVarint(dst, p.offset)
	dst = binary.AppendVarint(dst, p.events)
	dst = binary.AppendUvarint(dst, uint64(p.next))
	dst = appendClocks(dst, p.clocks)
	dst = binary.AppendUvarint(dst, uint64(len(p.savedAt)))
	for _, s := range p.savedAt {
		dst = binary.AppendUvarint(dst, uint64(s.inst))
		dst = binary.AppendVarint(dst, s.offset)
	}
	return dst
}

func (p *checkpoint) decode(b []byte) error {
	r := stateReader{b: b}
	r.check(r.byte() == stateFormat)
	*p = checkpoint{offset: r.varint(), events: r.varint(), next: r.u32()}
	p.clocks = r.clocks()
	for n := r.count(2); n > 0; n-- {
		p.savedAt = append(p.savedAt, savedAt{r.u32(), r.varint()})
	}
	return r.end("checkpoint")
}

func appendClocks(dst []byte, clocks []clockAt) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(clocks)))
	for _, at := range clocks {
		dst = appendString(dst, at.name)
		dst = binary.AppendVarint(dst, int64(at.now))
	}
	return dst
}

// save describes an instrument as it stands. bars are those that no complete block holds.
func (c *core) save(it *instrument, bars []market.Bar) stream.InstrumentSnapshot {
	f := &it.feed
	s := stream.InstrumentSnapshot{
		Status:    it.status,
		BookSeq:   market.Sequence{Epoch: it.epoch, Seq: f.seq},
		TradesSeq: market.Sequence{Epoch: it.epoch, Seq: it.trades.seq},
		Series:    it.series.AppendBinary(nil),
		Bars:      bars,
		Private:   c.appendPrivate(nil, it),
	}
	for iv, seq := range it.barSeq {
		s.BarsSeq[iv] = market.Sequence{Epoch: it.epoch, Seq: seq}
	}
	if f.state == market.Live {
		s.Book = &market.Snapshot{
			Head: market.Head{Inst: it.def.ID, Epoch: it.epoch, Prev: f.seq, Seq: f.seq, Time: it.src.now},
			Hash: market.Hash{Sum: f.book.Hash(), OK: true}, Part: 1, Parts: 1,
			Bids: f.book.AppendLevels(nil, market.Bid, 0), Asks: f.book.AppendLevels(nil, market.Ask, 0),
		}
	}
	return s
}

// appendPrivate appends what readers of the stream have no use for.
func (c *core) appendPrivate(dst []byte, it *instrument) []byte {
	dst = append(dst, stateFormat)
	dst = appendClocks(dst, c.clocks())
	dst = binary.AppendVarint(dst, it.created)
	dst = binary.AppendUvarint(dst, uint64(len(it.history)))
	for i := range it.history {
		dst = it.history[i].append(dst)
	}
	dst = it.feed.append(dst)
	dst = it.trades.append(dst)
	for i := range it.blocks {
		dst = it.blocks[i].append(dst)
	}
	return dst
}

func (d *definition) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, d.from)
	dst = appendString(dst, d.def.Symbol)
	dst = append(dst, d.def.PriceScale, d.def.SizeScale)
	return binary.AppendVarint(dst, int64(d.def.TickSize))
}

func (f *bookFeed) append(dst []byte) []byte {
	dst = appendString(dst, f.session)
	for _, s := range f.closed {
		dst = appendString(dst, s)
	}
	dst = appendBool(dst, f.hasSeq)
	dst = binary.AppendUvarint(dst, f.last)
	dst = binary.AppendUvarint(dst, uint64(f.depth)) //nolint:gosec // not negative
	dst = appendString(dst, f.depthSession)
	dst = binary.AppendUvarint(dst, uint64(len(f.held)))
	for i := range f.held {
		h := &f.held[i]
		dst = binary.AppendUvarint(dst, h.first)
		dst = binary.AppendUvarint(dst, h.last)
		dst = binary.AppendVarint(dst, int64(h.time))
		dst = appendLevels(appendLevels(dst, h.bids), h.asks)
	}
	return dst
}

func (f *tradeFeed) append(dst []byte) []byte {
	dst = appendBool(dst, f.began)
	dst = appendString(dst, f.session)
	dst = append(dst, byte(f.ids))
	dst = appendBool(dst, f.counted)
	dst = binary.AppendUvarint(dst, f.last)
	dst = binary.AppendUvarint(dst, f.said)
	dst = binary.AppendUvarint(dst, uint64(len(f.recent.ring)))
	f.recent.each(func(d digest) { dst = append(dst, d[:]...) })
	return dst
}

func (bl *blocks) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, bl.n)
	dst = binary.AppendVarint(dst, int64(bl.end))
	return binary.AppendUvarint(dst, uint64(bl.open)) //nolint:gosec // not negative
}

// load makes an instrument of its snapshot, taken at an input offset. It returns the clocks of that moment. The bars of
// complete blocks come by loadBlock, after which loadBars ends the work.
func (c *core) load(s *stream.InstrumentSnapshot, offset int64) (*instrument, []clockAt, error) {
	def := &s.Status.Instrument
	it := &instrument{
		def: *def, state: s.Status.State, epoch: s.Status.Epoch, status: s.Status, skipTo: offset, saved: offset,
	}
	r := stateReader{b: s.Private}
	r.check(r.byte() == stateFormat)
	clocks := r.clocks()
	it.created = r.varint()
	for n := r.count(5); n > 0; n-- {
		it.history = append(it.history, r.definition(def))
	}
	r.check(len(it.history) > 0)
	r.bookFeed(&it.feed)
	r.tradeFeed(&it.trades)
	for i := range it.blocks {
		it.blocks[i] = blocks{n: r.uvarint(), end: market.Time(r.varint()), open: int(r.uvarint())} //nolint:gosec // a count
	}
	if err := r.end("instrument " + def.Sym); err != nil {
		return nil, nil, err
	}
	if it.src = c.source(def.Source); it.src == nil {
		return nil, nil, fmt.Errorf("instrument %s: %w: too many sources", def.Sym, errState)
	}
	it.feed.state, it.feed.why, it.feed.seq = s.Status.Book, s.Status.Why, s.BookSeq.Seq
	it.trades.seq = s.TradesSeq.Seq
	for iv := range it.barSeq {
		it.barSeq[iv] = s.BarsSeq[iv].Seq
	}
	if s.Book != nil {
		it.feed.book.Replace(s.Book.Bids, s.Book.Asks)
		if s.Book.Hash.OK && it.feed.book.Hash() != s.Book.Hash.Sum {
			return nil, nil, fmt.Errorf("instrument %s: %w: hash of the book", def.Sym, errState)
		}
	}
	if err := it.series.DecodeBinary(s.Series); err != nil {
		return nil, nil, fmt.Errorf("instrument %s: %w", def.Sym, err)
	}
	return it, clocks, nil
}

// loadBars gives the bars of the snapshot to the series, after those of the blocks, over which they take precedence.
func (it *instrument) loadBars(bars []market.Bar) {
	for i := range bars {
		b := &bars[i]
		it.series.Final(b)
		if bl := &it.blocks[b.Interval]; bl.n > 0 && b.Start <= bl.end {
			bl.note(b)
		}
	}
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendLevels(dst []byte, levels []market.Level) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(levels)))
	for _, l := range levels {
		dst = binary.AppendVarint(dst, int64(l.Price))
		dst = binary.AppendVarint(dst, int64(l.Size))
	}
	return dst
}

// stateReader takes values off b. What is wrong sets bad and empties b, and then every value is zero.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) check(ok bool) {
	if !ok {
		r.b, r.bad = nil, true
	}
}

func (r *stateReader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%s: %w", what, errState)
	}
	return nil
}

func (r *stateReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.check(false)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *stateReader) byte() byte {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *stateReader) bool() bool { return r.byte() == 1 }

func (r *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.check(false)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *stateReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.check(false)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *stateReader) u32() uint32 {
	v := r.uvarint()
	r.check(v <= 1<<32-1)
	return uint32(v) //nolint:gosec // checked
}

// count reads how many entries of at least size bytes follow.
func (r *stateReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) { //nolint:gosec // not negative
		r.check(false)
		return 0
	}
	return int(n) //nolint:gosec // checked
}

func (r *stateReader) string() string { return string(r.bytes(r.uvarint())) }

func (r *stateReader) clocks() (clocks []clockAt) {
	for n := r.count(2); n > 0; n-- {
		clocks = append(clocks, clockAt{r.string(), market.Time(r.varint())})
	}
	return clocks
}

// definition reads one, of the instrument that is now def.
func (r *stateReader) definition(def *market.Instrument) definition {
	d := definition{from: r.varint(), def: *def}
	d.def.Symbol = r.string()
	d.def.PriceScale, d.def.SizeScale = r.byte(), r.byte()
	d.def.TickSize = market.Price(r.varint())
	return d
}

func (r *stateReader) levels() []market.Level {
	levels := make([]market.Level, r.count(2))
	for i := range levels {
		levels[i] = market.Level{Price: market.Price(r.varint()), Size: market.Size(r.varint())}
	}
	return levels
}

func (r *stateReader) bookFeed(f *bookFeed) {
	f.session = r.string()
	for i := range f.closed {
		f.closed[i] = r.string()
	}
	f.hasSeq = r.bool()
	f.last = r.uvarint()
	f.depth = int(r.u32())
	f.depthSession = r.string()
	for n := r.count(5); n > 0; n-- {
		h := heldUpdate{first: r.uvarint(), last: r.uvarint(), time: market.Time(r.varint()), bids: r.levels(), asks: r.levels()}
		f.held = append(f.held, h)
		f.heldLevels += len(h.bids) + len(h.asks)
	}
}

func (r *stateReader) tradeFeed(f *tradeFeed) {
	f.began = r.bool()
	f.session = r.string()
	f.ids = decode.IDSpace(r.byte())
	f.counted = r.bool()
	f.last = r.uvarint()
	f.said = r.uvarint()
	for n := r.count(len(digest{})); n > 0; n-- {
		f.recent.add(digest(r.bytes(uint64(len(digest{})))))
	}
}
