// Package decode turns raw records of md.raw into one form, whatever venue they come from. It knows formats and nothing
// else: whether a record continues the book, repeats a trade or comes from a lost connection is decided by whoever reads
// the [Message], which carries what is needed for it (HasSeq, HasChecksum, Depth, IDs).
//
// There is one file per format: native.go (our own JSON), binance.go (spot), kraken.go (WebSocket v1 and v2),
// coinbase.go (Exchange). All of them pull values out of the record with the scanner of scan.go, in one pass and without
// allocating. It is our own because the input is money and hostile: it takes exactly the JSON of RFC 8259, hands out
// numbers as they are written (no float comes near a price), tells a repeated key, and an error costs the same on a
// record of a hundred bytes and on one of ten megabytes.
package decode

import (
	"errors"
	"fmt"

	"github.com/tickwire/tickwire/pkg/market"
)

// Kind is what a record tells.
type Kind uint8

// The kinds. When Decode returns an error, the kind says what was lost: of a book record the book, of a trade record
// trades, and of an Unknown one perhaps both.
const (
	Unknown      Kind = iota // not known, because the record broke off or is of no known type
	Ignored                  // understood, and of no interest
	BookSnapshot             // Bids and Asks are the whole book
	BookUpdate               // Bids and Asks are absolute sizes; 0 deletes
	Trades                   // Trades holds one or more trades, in the venue's order
	Status                   // State is the venue's word about the instrument
	Instrument               // Instrument is a definition, new or changed
	Clock                    // Time and Clock: the source is alive and its time has come to Time
)

var kindNames = [...]string{"unknown", "ignored", "book_snapshot", "book_update", "trades", "status", "instrument", "clock"}

// String returns the kind's name, usable as a metric label.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// IDSpace says what the trade ids of a message mean. Ids of different spaces cannot be compared, and an instrument fed
// from two of them would count each execution twice (Binance sends both trade and aggTrade when asked to): take the first
// space seen in a session and drop the other.
type IDSpace uint8

// The id spaces.
const (
	Names     IDSpace = iota // an id tells trades apart and has no order: a duplicate is one among the last few thousand
	Counts                   // ids are numbers that count the instrument's trades: not above the newest is a duplicate, a jump is a loss
	Aggregate                // as Counts, of Binance's aggTrade: executions of one order at one price taken together
)

// Counted tells whether the ids are numbers that grow by one with each trade.
func (s IDSpace) Counted() bool { return s != Names }

// SourceClock is who a clock record speaks for.
type SourceClock struct {
	Source  string
	Session string
}

// Message is one decoded record. It is made to be reused: Decode keeps the memory of its slices, and what they hold is
// valid until the next Decode into the same Message. Nothing in it points into the record.
type Message struct {
	Kind Kind
	// Time is the venue's event time in whole microseconds, for Trades that of the newest trade. It is 0 where the venue
	// sends none: Binance and Coinbase snapshots, native status and instrument records without ts.
	Time market.Time

	// HasSeq: the venue numbers its book (Binance U and u, native first and last). A snapshot holds the book at Last. An
	// update covers First to Last: it continues a book at n when First <= n+1 <= Last, is old when Last <= n, and
	// otherwise something is missing between n and First.
	HasSeq      bool
	First, Last uint64
	// HasChecksum: Checksum is what [KrakenChecksum] of the book must be once the record, and then Depth, is applied.
	HasChecksum bool
	Checksum    uint32
	// Depth, when above 0, is how many levels a side the venue keeps up for us (Kraken). It holds for the session from
	// here on, and may come with any kind, Ignored too: the venue sends no deletion for a level that is pushed out of
	// this depth, so the book must be cut to it after each record, or dead levels come back when the book thins out.
	Depth int

	// Bids and Asks are in the record's order. A price may come twice in an update; the later one counts. Prices are above
	// 0 and sizes at least 0, in a snapshot above 0.
	Bids, Asks []market.Level

	// Trades have Price, Size, Side, ID and Head.Time; the rest of their Head is zero.
	Trades []market.Trade
	IDs    IDSpace

	State      market.State      // Live, Halted or Delisted; valid when Kind is Status
	Instrument market.Instrument // its ID is 0; valid when Kind is Instrument
	Clock      SourceClock       // valid when Kind is Clock
}

// maxKept bounds the levels for which a Message keeps memory between records.
const maxKept = 1 << 16

// reset empties m and keeps its memory, and the strings of the last clock, which the next one most likely repeats.
func (m *Message) reset() {
	if cap(m.Bids) > maxKept || cap(m.Asks) > maxKept || cap(m.Trades) > maxKept {
		m.Bids, m.Asks, m.Trades = nil, nil, nil
	}
	*m = Message{Bids: m.Bids[:0], Asks: m.Asks[:0], Trades: m.Trades[:0], Clock: m.Clock}
}

// The reasons of an Error: a small fixed set, usable as a metric label.
const (
	ReasonSyntax      = "syntax"      // not JSON
	ReasonType        = "type"        // a value of the wrong JSON type or shape
	ReasonField       = "field"       // a field is missing or comes twice
	ReasonPrice       = "price"       // not a decimal number above 0
	ReasonSize        = "size"        // not a decimal number above 0, or at least 0 in a book
	ReasonScale       = "scale"       // a price or size finer than the instrument's scale, or a scale out of range
	ReasonSymbol      = "symbol"      // the instrument is unknown, or another than the record's key says
	ReasonSource      = "source"      // no such source
	ReasonTime        = "time"        // not a time
	ReasonID          = "id"          // not a usable trade id
	ReasonSequence    = "sequence"    // not a usable book sequence or checksum
	ReasonValue       = "value"       // a word that the field does not know: side, state
	ReasonUnsupported = "unsupported" // a record type that is not known here
)

// Error says why a record could not be decoded.
type Error struct {
	Reason string // one of the Reason constants
	Field  string // the field at fault, in the venue's spelling; empty when there is none
	Err    error  // the cause; nil when the reason says it all
}

// Error gives the reason, the field and the cause.
func (e *Error) Error() string {
	text := "decode: " + e.Reason
	if e.Field != "" {
		text += " in " + e.Field
	}
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, e.Err)
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// The causes that are not of package market.
var (
	ErrMissing   = errors.New("missing")
	ErrRepeated  = errors.New("comes twice")
	ErrSign      = errors.New("not above zero")
	ErrOther     = errors.New("of another instrument")
	ErrTooDeep   = errors.New("nested too deeply")
	ErrTrailing  = errors.New("something follows the value")
	ErrCharacter = errors.New("unexpected character")
	ErrEnd       = errors.New("unexpected end")
)

// The sources, as in the header of a raw record.
const (
	Tickwire = "tickwire"
	Binance  = "binance"
	Kraken   = "kraken"
	Coinbase = "coinbase"
)

// Decoder decodes records one after another. The zero Decoder is ready; it is not for concurrent use.
type Decoder struct {
	s       scanner
	scratch []byte     // a trade's name
	keys    []tradeKey // of the trades of one frame
}

// Decode decodes the value of one raw record of the named source ("" is tickwire) into m. in is the instrument of the
// record's key, nil when there is none: only Instrument, Clock and Ignored records can do without. The error is always an
// *Error, and m.Kind is then set as far as it is known; nothing else in m is to be used.
//
// Clock, Instrument and Status records are native JSON whatever venue they speak for, so a connector sends them with the
// source header tickwire; book and trade records of an instrument come from its own source, which the caller checks.
func (d *Decoder) Decode(source string, value []byte, in *market.Instrument, m *Message) error {
	m.reset()
	d.s.reset(value)
	switch source {
	case Tickwire, "":
		d.native(in, m)
	case Binance:
		d.binance(in, m)
	case Kraken:
		d.kraken(in, m)
	case Coinbase:
		d.coinbase(in, m)
	default:
		return &Error{Reason: ReasonSource}
	}
	if d.s.err != nil {
		return d.s.err
	}
	if m.Kind != BookSnapshot && m.Kind != BookUpdate {
		m.Bids, m.Asks = m.Bids[:0], m.Asks[:0] // whatever was read early
	}
	return nil
}
