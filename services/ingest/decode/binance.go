package decode

import (
	"bytes"

	"github.com/tickwire/tickwire/pkg/market"
)

// Binance spot: events of the WebSocket streams, bare or in the frame of a combined stream ({"stream":…,"data":{…}}), and
// the answer of REST /api/v3/depth, which names no symbol and takes it from the record's key.
//
// The book: a depthUpdate covers U to u, and "U <= last+1 <= u" continues a book at last; the REST snapshot is the book at
// lastUpdateId. A partial-depth stream (@depth5, @depth10, @depth20) looks like the REST answer inside a frame; it is not
// the book, and is ignored as bookTicker is.
//
// Trades: trade (id t, each execution) and aggTrade (id a, executions of one taker order at one price) tell the same
// executions twice, in different id spaces; see [IDSpace].

const (
	bBids = iota // levels first: see early
	bA           // asks of a depthUpdate, id of an aggTrade
	bSnapshotBids
	bSnapshotAsks
	bEvent
	bStream
	bEventTime
	bSymbol
	bFirst
	bLast
	bPrice
	bQuantity
	bTradeTime
	bTradeID
	bMakerBuys
	bLastUpdateID
	bAskSize
	bID
	bFields
)

var binanceNames = [bFields]string{
	bEvent: "e", bStream: "stream", bEventTime: "E", bSymbol: "s", bFirst: "U", bLast: "u", bBids: "b", bA: "a",
	bPrice: "p", bQuantity: "q", bTradeTime: "T", bTradeID: "t", bMakerBuys: "m",
	bLastUpdateID: "lastUpdateId", bSnapshotBids: "bids", bSnapshotAsks: "asks", bAskSize: "A", bID: "id",
}

type binanceMarks [bFields]mark

func (d *Decoder) binance(in *market.Instrument, m *Message) {
	s := &d.s
	var at binanceMarks
	s.object(binanceNames[:], at[:], "data", &early{in: in, m: m, count: bSnapshotAsks + 1})
	s.end()
	switch string(s.wordAt(at[bEvent])) {
	case "depthUpdate":
		m.Kind = BookUpdate
		d.binanceDepth(&at, in, m)
	case "trade":
		m.Kind = Trades
		d.binanceTrade(&at, at[bTradeID], "t", in, m)
		m.IDs = Counts
	case "aggTrade":
		m.Kind = Trades
		d.binanceTrade(&at, at[bA], "a", in, m)
		m.IDs = Aggregate
	case "24hrTicker", "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "kline", "avgPrice", "bookTicker", "serverShutdown":
		m.Kind = Ignored
	case "":
		d.binanceUnnamed(&at, in, m)
	default:
		s.fail(ReasonUnsupported, "e", nil)
	}
}

// binanceUnnamed decodes the records that have no event type.
func (d *Decoder) binanceUnnamed(at *binanceMarks, in *market.Instrument, m *Message) {
	s := &d.s
	switch {
	case at[bEvent] != 0: // of a wrong type
		s.to(at[bEvent], "e").text("e")
		s.fail(ReasonUnsupported, "e", nil)
	case at[bLastUpdateID] != 0 && at[bStream] != 0:
		m.Kind = Ignored // partial depth
	case at[bLastUpdateID] != 0:
		m.Kind = BookSnapshot
		d.binanceSnapshot(at, in, m)
	case at[bLast] != 0 && at[bAskSize] != 0, // bookTicker: {"u":…,"s":…,"b":…,"B":…,"a":…,"A":…}
		at[bID] != 0: // the answer to a request: {"result":null,"id":1}
		m.Kind = Ignored
	case at[bStream] != 0 && bytes.Contains(s.wordAt(at[bStream]), []byte("!")):
		m.Kind = Ignored // streams of the whole market, arrays in a frame
	default:
		s.fail(ReasonUnsupported, "", nil)
	}
	if m.Kind == Ignored && s.err != nil {
		m.Kind = Unknown
	}
}

func (s *scanner) oursVenue(at mark, field string, in *market.Instrument) bool {
	want := ""
	if in != nil {
		want = in.Symbol
	}
	return s.ours(at, field, want, in)
}

func (d *Decoder) binanceDepth(at *binanceMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursVenue(at[bSymbol], "s", in) {
		return
	}
	m.Time = s.to(at[bEventTime], "E").millis("E")
	m.HasSeq = true
	m.First = s.to(at[bFirst], "U").unsigned(ReasonSequence, "U", false)
	m.Last = s.to(at[bLast], "u").unsigned(ReasonSequence, "u", false)
	s.ordered(m, "U")
	s.both(m, in, at[bBids], "b", at[bA], "a")
}

func (d *Decoder) binanceSnapshot(at *binanceMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if in == nil {
		s.fail(ReasonSymbol, "", nil)
		return
	}
	m.HasSeq = true
	m.Last = s.to(at[bLastUpdateID], "lastUpdateId").unsigned(ReasonSequence, "lastUpdateId", false)
	m.First = m.Last
	s.both(m, in, at[bSnapshotBids], "bids", at[bSnapshotAsks], "asks")
}

// both reads the levels of a book record that must name both sides.
func (s *scanner) both(m *Message, in *market.Instrument, bids mark, bidField string, asks mark, askField string) {
	if bids == 0 || asks == 0 {
		s.fail(ReasonField, bidField, ErrMissing)
	}
	s.sides(m, in, bids, bidField, asks, askField)
}

func (d *Decoder) binanceTrade(at *binanceMarks, id mark, idField string, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursVenue(at[bSymbol], "s", in) {
		return
	}
	t := market.Trade{Side: market.Bid}
	t.Time = s.to(at[bTradeTime], "T").millis("T")
	t.Price = s.to(at[bPrice], "p").price("p", in)
	t.Size = s.to(at[bQuantity], "q").size("q", in, 1)
	t.ID = s.to(id, idField).tradeNumber(idField)
	if s.to(at[bMakerBuys], "m").boolean("m") { // the buyer is the maker, so the aggressor sold
		t.Side = market.Ask
	}
	m.Time = t.Time
	m.Trades = append(m.Trades, t)
}
