package decode

import (
	"github.com/tickwire/tickwire/pkg/market"
)

// Native records are our own JSON: one object with a type, the canonical id in sym, and times in microseconds in ts.
//
//	{"type":"trade","sym":"BTC-USDT","price":"61737.63","size":"0.4","side":"buy","id":1001,"ts":1723161255342000}
//	{"type":"book","sym":"BTC-USDT","snapshot":true,"last":17,"bids":[["61737.63","0.4"]],"asks":[],"ts":1723161255342000}
//	{"type":"book","sym":"BTC-USDT","first":18,"last":19,"bids":[["61737.63","0"]],"asks":[],"ts":1723161255342000}
//	{"type":"status","sym":"BTC-USDT","state":"halted","ts":1723161255342000}
//	{"type":"instrument","sym":"BTC-USDT","source":"binance","symbol":"BTCUSDT","ps":2,"ss":5,"tick":"0.01","ts":1723161255342000}
//	{"type":"clock","source":"binance","session":"b-1","ts":1723161255342000}
//
// A price or size is a string or a JSON number; its text is what counts. A trade's side (buy or sell, the aggressor's)
// may be left out. A trade's id is a number when ids count the instrument's trades, each one above the last (then a jump
// is a loss, and is said), and a string when it merely names the trade. A book without last has no sequence; an update's
// first is its last when left out. An instrument's source is tickwire and its symbol is its sym when left out. The ts of
// a status or an instrument may be left out, and unknown fields are ignored.

const (
	nBids = iota // levels first: see early
	nAsks
	nType
	nSym
	nTS
	nPrice
	nSize
	nSide
	nID
	nSnapshot
	nFirst
	nLast
	nSource
	nSession
	nSymbol
	nState
	nPS
	nSS
	nTick
	nFields
)

var nativeNames = [nFields]string{
	nType: "type", nSym: "sym", nTS: "ts", nPrice: "price", nSize: "size", nSide: "side", nID: "id", nBids: "bids",
	nAsks: "asks", nSnapshot: "snapshot", nFirst: "first", nLast: "last", nSource: "source", nSession: "session",
	nSymbol: "symbol", nState: "state", nPS: "ps", nSS: "ss", nTick: "tick",
}

type nativeMarks [nFields]mark

func (d *Decoder) native(in *market.Instrument, m *Message) {
	s := &d.s
	var at nativeMarks
	s.object(nativeNames[:], at[:], "", &early{in: in, m: m, count: nAsks + 1})
	s.end()
	kind := s.wordAt(at[nType])
	switch string(kind) {
	case "trade":
		m.Kind = Trades
		d.nativeTrade(&at, in, m)
	case "book":
		m.Kind = BookUpdate
		d.nativeBook(&at, in, m)
	case "status":
		m.Kind = Status
		d.nativeStatus(&at, in, m)
	case "instrument":
		m.Kind = Instrument
		d.nativeInstrument(&at, m)
	case "clock":
		m.Kind = Clock
		d.nativeClock(&at, m)
	default:
		s.to(at[nType], "type").text("type") // missing or not a text comes before unsupported
		s.fail(ReasonUnsupported, "type", nil)
	}
}

// ours checks that the record is about the instrument of its key.
func (s *scanner) ours(at mark, field, want string, in *market.Instrument) bool {
	got := s.to(at, field).text(field)
	switch {
	case s.err != nil:
		return false
	case in == nil:
		return s.fail(ReasonSymbol, field, nil)
	case string(got) != want:
		return s.fail(ReasonSymbol, field, ErrOther)
	}
	return true
}

func (s *scanner) oursNative(at *nativeMarks, in *market.Instrument) bool {
	want := ""
	if in != nil {
		want = in.Sym
	}
	return s.ours(at[nSym], "sym", want, in)
}

func (d *Decoder) nativeTrade(at *nativeMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursNative(at, in) {
		return
	}
	t := market.Trade{Side: market.NoSide}
	t.Time = s.to(at[nTS], "ts").micros("ts")
	t.Price = s.to(at[nPrice], "price").price("price", in)
	t.Size = s.to(at[nSize], "size").size("size", in, 1)
	if at[nSide] != 0 {
		t.Side = s.to(at[nSide], "side").side("side")
	}
	if s.to(at[nID], "id").peek() == '"' {
		t.ID, m.IDs = s.tradeName("id"), Names
	} else {
		t.ID, m.IDs = s.tradeNumber("id"), Counts
	}
	m.Time = t.Time
	m.Trades = append(m.Trades, t)
}

// side reads the aggressor's side.
func (s *scanner) side(field string) market.Side {
	switch string(s.text(field)) {
	case "buy":
		return market.Bid
	case "sell":
		return market.Ask
	}
	s.fail(ReasonValue, field, nil)
	return market.NoSide
}

// tradeNumber reads an id that counts.
func (s *scanner) tradeNumber(field string) market.TradeID {
	return market.NumericTradeID(s.unsigned(ReasonID, field, false))
}

// tradeName reads an id that names: 1 to market.MaxTradeID printable ASCII characters, without space, quote and
// backslash, so that it can be written anywhere as it is.
func (s *scanner) tradeName(field string) market.TradeID {
	text := s.text(field)
	id, ok := market.MakeTradeID(text)
	if s.err == nil && (!ok || !isWord(text)) {
		s.fail(ReasonID, field, nil)
	}
	return id
}

func isWord(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return len(text) > 0
}

func (d *Decoder) nativeBook(at *nativeMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if at[nSnapshot] != 0 && s.err == nil && s.to(at[nSnapshot], "snapshot").boolean("snapshot") {
		m.Kind = BookSnapshot
	}
	if !s.oursNative(at, in) {
		return
	}
	m.Time = s.to(at[nTS], "ts").micros("ts")
	if at[nLast] != 0 {
		m.HasSeq = true
		m.Last = s.to(at[nLast], "last").unsigned(ReasonSequence, "last", false)
		m.First = m.Last
		if at[nFirst] != 0 && m.Kind == BookUpdate {
			m.First = s.to(at[nFirst], "first").unsigned(ReasonSequence, "first", false)
		}
	} else if at[nFirst] != 0 {
		s.fail(ReasonField, "last", ErrMissing)
	}
	s.ordered(m, "first")
	if at[nBids] == 0 && at[nAsks] == 0 {
		s.fail(ReasonField, "bids", ErrMissing)
	}
	s.sides(m, in, at[nBids], "bids", at[nAsks], "asks")
}

// ordered checks that an update does not end before it begins.
func (s *scanner) ordered(m *Message, field string) {
	if m.HasSeq && m.First > m.Last {
		s.fail(ReasonSequence, field, market.ErrRange)
	}
}

// sides reads the levels of a book record, unless they were read early; a side that is not there has none. In a snapshot a level of size 0 is no
// level.
func (s *scanner) sides(m *Message, in *market.Instrument, bids mark, bidField string, asks mark, askField string) {
	if bids > 0 {
		m.Bids = s.to(bids, bidField).levels(m.Bids[:0], bidField, in)
	}
	if asks > 0 {
		m.Asks = s.to(asks, askField).levels(m.Asks[:0], askField, in)
	}
	if m.Kind == BookSnapshot {
		m.Bids, m.Asks = withoutZeros(m.Bids), withoutZeros(m.Asks)
	}
}

func withoutZeros(levels []market.Level) []market.Level {
	kept := levels[:0]
	for _, l := range levels {
		if l.Size > 0 {
			kept = append(kept, l)
		}
	}
	return kept
}

func (d *Decoder) nativeStatus(at *nativeMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursNative(at, in) {
		return
	}
	if at[nTS] != 0 {
		m.Time = s.to(at[nTS], "ts").micros("ts")
	}
	switch text := s.to(at[nState], "state").text("state"); string(text) {
	case "live":
		m.State = market.Live
	case "halted":
		m.State = market.Halted
	case "delisted":
		m.State = market.Delisted
	default:
		s.fail(ReasonValue, "state", nil)
	}
}

func (d *Decoder) nativeInstrument(at *nativeMarks, m *Message) {
	s := &d.s
	i := &m.Instrument
	i.Sym = s.name(at[nSym], "sym", "", ReasonSymbol)
	i.Source = s.name(at[nSource], "source", Tickwire, ReasonSource)
	i.Symbol = s.name(at[nSymbol], "symbol", i.Sym, ReasonSymbol)
	i.PriceScale = s.scale(at[nPS], "ps")
	i.SizeScale = s.scale(at[nSS], "ss")
	if at[nTick] != 0 {
		i.TickSize = s.to(at[nTick], "tick").price("tick", i)
	}
	if at[nTS] != 0 {
		m.Time = s.to(at[nTS], "ts").micros("ts")
	}
}

// maxName bounds the name of an instrument, a symbol, a source or a session, in bytes.
const maxName = 64

// name reads a name of printable ASCII characters. The comma and the star are taken: lists of symbols and "all of them".
func (s *scanner) name(at mark, field, missing, reason string) string {
	if at == 0 && missing != "" {
		return missing
	}
	text := s.to(at, field).text(field)
	if s.err != nil {
		return ""
	}
	if !isName(text) {
		s.fail(reason, field, nil)
		return ""
	}
	return string(text)
}

func isName(text []byte) bool {
	for _, c := range text {
		if c == ',' || c == '*' {
			return false
		}
	}
	return len(text) <= maxName && isWord(text)
}

func (s *scanner) scale(at mark, field string) uint8 {
	v := s.to(at, field).unsigned(ReasonScale, field, false)
	if v > market.MaxScale {
		s.fail(ReasonScale, field, market.ErrRange)
		return 0
	}
	return uint8(v)
}

func (d *Decoder) nativeClock(at *nativeMarks, m *Message) {
	s := &d.s
	m.Clock.Source = s.again(m.Clock.Source, at[nSource], "source")
	m.Clock.Session = s.again(m.Clock.Session, at[nSession], "session")
	m.Time = s.to(at[nTS], "ts").micros("ts")
}

// again reads a name that is most likely the same as last time, and then does not allocate.
func (s *scanner) again(last string, at mark, field string) string {
	text := s.to(at, field).text(field)
	switch {
	case s.err != nil:
		return ""
	case string(text) == last:
		return last
	case !isName(text):
		s.fail(ReasonSource, field, nil)
		return ""
	}
	return string(text)
}
