// Package market holds the words every other part of Tickwire speaks: instruments, fixed-point prices and sizes, levels,
// and the events of the market-data stream. It imports the standard library only and does no I/O.
//
// Prices and sizes are int64 mantissas; an instrument says where the decimal point stands (value = mantissa / 10^scale).
// Nothing in Tickwire puts a price or a size into a float.
//
// Every event carries a [Head]: the instrument, the sequence of its topic, and two times. A topic is a channel and an
// instrument (and an interval, for bars); the numbering of a topic is contiguous within an epoch.
package market

import (
	"strconv"
	"time"
)

// Price is a price as a fixed-point mantissa: the value times 10^Instrument.PriceScale.
type Price int64

// Size is a quantity as a fixed-point mantissa: the value times 10^Instrument.SizeScale.
type Size int64

// MaxScale is the greatest price or size scale an instrument may have.
const MaxScale = 18

// Time is an instant in nanoseconds since the Unix epoch, UTC. The wire carries microseconds; decoders truncate event
// times to whole microseconds, so that a value is the same before and after a trip over the wire.
type Time int64

// Micros returns t in microseconds since the Unix epoch, rounded down.
func (t Time) Micros() int64 { return floorDiv(int64(t), 1000) }

// FromMicros returns the Time that is us microseconds after the Unix epoch.
func FromMicros(us int64) Time { return Time(us * 1000) }

// FromMillis returns the Time that is ms milliseconds after the Unix epoch.
func FromMillis(ms int64) Time { return Time(ms * 1_000_000) }

// FromTime converts a standard library time, truncated to whole microseconds.
func FromTime(t time.Time) Time { return FromMicros(t.UnixMicro()) }

// Std returns t as a standard library time in UTC.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// Truncate rounds t down to a multiple of d since the Unix epoch.
func (t Time) Truncate(d time.Duration) Time { return Time(floorDiv(int64(t), int64(d)) * int64(d)) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Side is a side of the book or, for a trade, the aggressor's side.
type Side uint8

// The sides. A trade whose venue does not name the aggressor has NoSide.
const (
	Bid    Side = 0 // in a trade: the aggressor bought
	Ask    Side = 1 // in a trade: the aggressor sold
	NoSide Side = 255
)

// Level is the total size at one price. In a delta, size 0 deletes the level.
type Level struct {
	Price Price
	Size  Size
}

// Sequence is a place in a topic's numbering. Sequences of different epochs order by epoch.
type Sequence struct {
	Epoch uint32 // Unix seconds at which the numbering began
	Seq   uint64
}

// Compare returns -1, 0 or +1 as s is before, at or after o.
func (s Sequence) Compare(o Sequence) int {
	switch {
	case s.Epoch != o.Epoch && s.Epoch < o.Epoch, s.Epoch == o.Epoch && s.Seq < o.Seq:
		return -1
	case s == o:
		return 0
	}
	return 1
}

// String gives the sequence as epoch:seq.
func (s Sequence) String() string {
	return strconv.FormatUint(uint64(s.Epoch), 10) + ":" + strconv.FormatUint(s.Seq, 10)
}

// Instrument is what is traded: its canonical id, the venue and the venue's spelling, and where its decimal points stand.
type Instrument struct {
	ID         uint32 // number on the wire, never reused; 0 is no instrument
	Sym        string // canonical id, such as BTC-USDT, or BTC-USDT@kraken beside another venue's
	Source     string // the venue, such as binance; tickwire for native input
	Symbol     string // the venue's spelling, such as BTCUSDT; one to one with Sym within a source
	PriceScale uint8  // decimal places of a price, 0 to MaxScale
	SizeScale  uint8  // decimal places of a size, 0 to MaxScale
	TickSize   Price  // smallest price step, at PriceScale; 0 when unknown
}

// Head is common to all events of the stream.
type Head struct {
	Inst  uint32
	Epoch uint32
	Prev  uint64 // the sequence this event follows; Seq-1 in md.events
	Seq   uint64
	Time  Time // the venue's event time ("ts")
	In    Time // the raw record's Kafka timestamp ("in"); 0 when unknown
}

// Sequence returns the event's own place in its topic.
func (h *Head) Sequence() Sequence { return Sequence{h.Epoch, h.Seq} }

// Hash is a book's whole-view hash; OK is false when it is unavailable.
type Hash struct {
	Sum uint64
	OK  bool
}

// View is which cut of a book a message describes: the zero View is the whole book, unmerged.
type View struct {
	Depth  uint16 // levels a side; 0 is all
	Millis uint16 // merge interval in milliseconds; 0 is none
}

// Snapshot is a whole book, or one part of it: Part counts from 1 to Parts, and a client installs only the complete
// set. Levels are best first. A Snapshot begins or replaces the topic's state at Seq.
type Snapshot struct {
	Head
	View
	Hash  Hash // on the last part only
	Part  uint16
	Parts uint16
	Bids  []Level
	Asks  []Level
}

// MaxSnapshotLevels is how many levels, both sides together, one part of a Snapshot may carry.
const MaxSnapshotLevels = 8192

// Delta is the union of a view's changes in (Prev, Seq]: each level at its size at Seq, size 0 deletes. Hash is of the
// view at Seq. The order of levels carries no meaning.
type Delta struct {
	Head
	View
	Hash Hash
	Bids []Level
	Asks []Level
}

// Trade is one execution. Side is the aggressor's.
type Trade struct {
	Head
	Price Price
	Size  Size
	Side  Side
	ID    TradeID
}

// TradeGap says that trades are missing before it. It takes a sequence of its own.
type TradeGap struct {
	Head
	Why    Reason
	Missed int64 // how many are missing; negative when unknown
}

// Bar is an OHLCV bar. A final bar has a place in the bars topic's numbering; an open one (Final false) carries the
// sequence of the trade it follows.
type Bar struct {
	Head
	Interval   Interval
	Start      Time // a multiple of the interval; the bar covers [Start, Start+Interval)
	Open       Price
	High       Price
	Low        Price
	Close      Price
	Volume     Size // saturates at the greatest int64
	Trades     uint64
	Final      bool
	Rev        uint32 // 0 for the first final form; counts the corrections by late trades
	Incomplete bool   // a trade gap falls into it
}

// Status describes an instrument and the state of its feed, whole. It is the event by which readers learn of an
// instrument and of any change to it.
type Status struct {
	Head
	Instrument Instrument // Instrument.ID equals Head.Inst
	State      State      // Live, Halted or Delisted: the venue's own word
	Book       State      // Live or Stale
	Why        Reason     // of a stale book; NoReason otherwise
}

// BBO is the best bid and offer. A side without levels has size 0.
type BBO struct {
	Head
	Bid Level
	Ask Level
}

// Ticker is the last trade, the BBO when it happened, and the rolling 24 h values over 1,440 one-minute buckets.
type Ticker struct {
	Head
	Last     Price
	LastSize Size
	Bid      Level
	Ask      Level
	Open     Price // first trade of the window
	High     Price
	Low      Price
	Volume   Size  // saturates
	Quote    int64 // sum of price x size, each rounded down, at the price scale; saturates
	Trades   uint64
}
