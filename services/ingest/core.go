package ingest

import (
	"errors"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

// Version is the version of the algorithm: it must grow whenever the same input would give other events than before.
// Whoever takes over from another version resets every book in the stream instead of pretending that nothing changed.
const Version = 1

// The bounds of what is taken in.
const (
	maxAhead       = market.Time(time.Minute) // of an event time beyond the record's Kafka timestamp
	maxOutputBytes = 4 << 20                  // of the events of one input
	maxBookLevels  = 240_000                  // both sides: a snapshot of the book stays below maxOutputBytes
	maxTrades      = 4096                     // in one record: with all bars that they may correct, below maxOutputBytes
	maxSources     = 256                      // per partition
	partitionSlots = 4096                     // instrument numbers are n*partitionSlots + partition
	maxInstruments = 1<<20 - 1                // per partition
)

// The reasons for quarantine that are not the decoder's.
const (
	reasonPartition = "partition" // the key belongs to another partition
	reasonFuture    = "future"    // event time more than a minute after the Kafka timestamp
	reasonTooLarge  = "too_large" // the events would exceed maxOutputBytes
	reasonConflict  = "conflict"  // another instrument has this source and symbol
	reasonLimit     = "limit"     // too many sources or instruments
)

// input is one record of md.raw.
type input struct {
	Offset  int64
	In      market.Time // Kafka timestamp
	Key     []byte
	Value   []byte
	Source  []byte // header; empty is tickwire
	Session []byte // header
}

// inputOf picks what the core wants to know out of a record. It aliases rec.
func inputOf(rec *stream.Record) input {
	in := input{Offset: rec.Offset, In: rec.Time, Key: rec.Key, Value: rec.Value}
	for i := len(rec.Headers) - 1; i >= 0; i-- { // the first of a name counts
		switch rec.Headers[i].Key {
		case "source":
			in.Source = rec.Headers[i].Value
		case "session":
			in.Session = rec.Headers[i].Value
		}
	}
	return in
}

// core turns the raw records of one partition into events. It is a pure state machine: what comes out is a function of the
// records that went in, one after the other, and of nothing else. There is no clock in it (time comes in as event time), no
// iteration over maps, no randomness.
//
// State can be taken out per instrument and put back (state.go), each instrument as of its own input offset. A core that was
// put together so is fed from the oldest of these offsets on, and every instrument ignores what it has seen: skipTo.
type core struct {
	partition   uint32
	partitions  int
	next        uint32 // the n of the next new instrument's number
	list        []*instrument
	instruments map[string]*instrument // by Sym
	sources     []*source              // in order of appearance
	offset      int64                  // of the newest record applied
	resets      *resets                // to be said with the next record; see rebuild

	out   output
	stats stats

	dec  decode.Decoder
	msg  decode.Message
	rec  *input // during Apply
	bars []market.Bar
	bids []market.Level
	asks []market.Level
	work []touch
}

// stats counts what happened, since the core began.
type stats struct {
	ignored    uint64 // records without anything for us
	duplicates uint64 // book records and trades seen before
	outdated   uint64 // snapshots older than the book, records of a closed session, updates of a book that is stale
	otherIDs   uint64 // trades of a second id space
	delisted   uint64 // records of delisted instruments
	gaps       uint64 // trade gaps said
	stale      uint64 // books that became stale
	mismatches uint64 // snapshots that disagreed with the live book
}

func newCore(partition, partitions int) *core {
	return &core{
		partition: uint32(partition), partitions: partitions, next: 1, offset: -1, //nolint:gosec // Kafka's partitions are few
		instruments: make(map[string]*instrument),
	}
}

// Apply applies one record. Its events are in c.out until the next Apply. A reason tells that the record is to go to
// md.quarantine; what was lost by that is among the events.
func (c *core) Apply(rec *input) (reason string) {
	c.out.reset()
	c.rec = rec
	c.msg.Time = 0
	if c.resets != nil {
		c.sayResets()
	}
	it := c.instruments[string(rec.Key)]
	def := it.definitionAt(rec.Offset)
	source := sourceName(rec.Source)
	err := c.dec.Decode(source, rec.Value, def, &c.msg)
	switch {
	case err == nil && c.msg.Kind == decode.Clock:
		reason = c.clock()
	case err == nil && c.msg.Kind == decode.Instrument:
		reason = c.define(it)
	default:
		reason = c.data(it, def, c.judge(def, source, err))
	}
	c.offset = rec.Offset
	c.rec = nil
	return reason
}

// sourceName spells a header without allocating for the names we know.
func sourceName(header []byte) string {
	switch string(header) {
	case "", decode.Tickwire:
		return decode.Tickwire
	case decode.Binance:
		return decode.Binance
	case decode.Kraken:
		return decode.Kraken
	case decode.Coinbase:
		return decode.Coinbase
	}
	return string(header)
}

// judge says why a record can't be used; empty means that it can. The answer depends on the record and on the definition
// that was in force then, and on no other state: when the record is read again after a crash, event time must advance
// exactly as it did, also on behalf of an instrument whose own state is already past it.
func (c *core) judge(def *market.Instrument, source string, err error) string {
	m := &c.msg
	bad := reasonOf(err)
	switch {
	case def == nil && (bad == "" || bad == decode.ReasonSymbol) && c.misplaced():
		return reasonPartition
	case bad != "":
		return bad
	case m.Kind == decode.Ignored:
		return ""
	case def == nil:
		return decode.ReasonSymbol
	case m.Time > c.rec.In+maxAhead:
		return reasonFuture
	case m.Kind == decode.Status:
		return ""
	case source != def.Source:
		return decode.ReasonSource
	case len(m.Bids)+len(m.Asks) > maxBookLevels || len(m.Trades) > maxTrades:
		return reasonTooLarge
	}
	return ""
}

// reasonOf is the decoder's reason; empty when there is no error.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	var bad *decode.Error
	errors.As(err, &bad) // it always is
	return bad.Reason
}

// misplaced tells whether the record's key belongs to another partition. An instrument that is known does not.
func (c *core) misplaced() bool {
	return stream.PartitionOf(c.rec.Key, c.partitions) != int(c.partition)
}

// data deals with a record that is about an instrument, known or not; refusal is what judge said.
func (c *core) data(it *instrument, def *market.Instrument, refusal string) (reason string) {
	m := &c.msg
	moves := refusal == "" && def != nil && (m.Kind == decode.BookSnapshot || m.Kind == decode.BookUpdate || m.Kind == decode.Trades)
	switch {
	case it != nil && c.rec.Offset <= it.skipTo:
		if moves {
			c.advance(it.src, m.Time)
		}
		return ""
	case def == nil:
		if refusal == "" {
			c.stats.ignored++
		}
		return refusal
	case refusal != "":
		m.Time = 0 // it can't be trusted, and the event takes the source's
		c.lose(it, m.Kind, market.Quarantine)
		return refusal
	}
	it.noteDepth(m.Depth, c.rec.Session)
	switch m.Kind {
	case decode.BookSnapshot, decode.BookUpdate:
		c.advance(it.src, m.Time)
		return c.bookRecord(it)
	case decode.Trades:
		c.tradesRecord(it)
	case decode.Status:
		c.venueState(it, m.State)
	default:
		c.stats.ignored++
	}
	return ""
}

// clock advances the time of a source.
func (c *core) clock() (reason string) {
	m := &c.msg
	if m.Time > c.rec.In+maxAhead {
		return reasonFuture
	}
	s := c.source(m.Clock.Source)
	if s == nil {
		return reasonLimit
	}
	c.advance(s, m.Time)
	return ""
}

// lose says in the stream what went with a record of that kind.
func (c *core) lose(it *instrument, kind decode.Kind, why market.Reason) {
	if it.state == market.Delisted {
		return
	}
	switch kind {
	case decode.BookSnapshot, decode.BookUpdate:
		c.stale(it, why)
	case decode.Trades:
		c.loseTrades(it, why)
	case decode.Unknown:
		c.stale(it, why)
		c.loseTrades(it, why)
	}
}

// eventTime is the time of an event whose record may have none: then it is the source's.
func (c *core) eventTime(it *instrument, t market.Time) market.Time {
	switch {
	case t != 0:
		return t
	case it.src.now != 0:
		return it.src.now
	}
	return c.rec.In
}

// head is the head of the next event of a topic, whose sequence it moves on.
func (c *core) head(it *instrument, seq *uint64, t market.Time) market.Head {
	*seq++
	it.dirty = true
	return market.Head{Inst: it.def.ID, Epoch: it.epoch, Prev: *seq - 1, Seq: *seq, Time: c.eventTime(it, t), In: c.rec.In}
}
