package decode

import (
	"bytes"

	"github.com/tickwire/tickwire/pkg/market"
)

// Kraken, WebSocket v1 and v2. A v1 data frame is an array, [channel id, payload, …, "book-1000", "XBT/USD"]; everything
// else is an object, with an event (v1) or with a channel or a method (v2).
//
// The book has no sequence. It has a depth, to which it must be cut after each update, and updates carry a checksum of
// the top ten levels a side; see [KrakenChecksum]. The depth stands in v1's channel name. In v2 only the answer to the
// subscription names it, so a connector passes that answer on, keyed by the instrument, before the snapshot.
//
// An update of v1 that touches both sides comes as two payloads with one checksum; an entry with a fourth element "r" is
// republished because it came back into the depth, and is a level like any other.
//
// A v2 trade has an id that counts. A v1 trade has none, and gets a name that the same trade gets again when it is
// delivered twice: its time in microseconds, a dash, and 16 hex digits of the FNV-1a hash of price, size, side and order
// type; trades alike in all of these within one frame are told apart by "-2", "-3", …. Two such trades in different
// frames of the same microsecond would be taken for one.

const (
	kEvent = iota
	kChannelName
	kPair
	kChannel
	kType
	kData
	kMethod
	kResult
	kFields
)

var krakenNames = [kFields]string{
	kEvent: "event", kChannelName: "channelName", kPair: "pair", kChannel: "channel", kType: "type", kData: "data",
	kMethod: "method", kResult: "result",
}

func (d *Decoder) kraken(in *market.Instrument, m *Message) {
	if d.s.peek() == '[' {
		d.krakenFrame(in, m)
		return
	}
	s := &d.s
	var at [kFields]mark
	s.object(krakenNames[:], at[:], "", nil)
	s.end()
	switch {
	case at[kEvent] != 0:
		d.krakenEvent(at[kEvent], at[kChannelName], at[kPair], in, m)
	case at[kChannel] != 0:
		d.krakenV2(at[kChannel], at[kType], at[kData], in, m)
	case at[kMethod] != 0:
		d.krakenAnswer(at[kResult], in, m)
	default:
		s.fail(ReasonUnsupported, "", nil)
	}
}

// krakenEvent decodes what v1 sends beside data.
func (d *Decoder) krakenEvent(event, channel, pair mark, in *market.Instrument, m *Message) {
	s := &d.s
	switch string(s.wordAt(event)) {
	case "subscriptionStatus":
		m.Kind = Ignored
		if in != nil && string(s.wordAt(pair)) == in.Symbol {
			m.Depth, _ = bookDepth(s.wordAt(channel))
		}
	case "heartbeat", "systemStatus", "pong", "error":
		m.Kind = Ignored
	default:
		s.fail(ReasonUnsupported, "event", nil)
	}
}

// bookDepth reads the depth in a channel name such as book-1000.
func bookDepth(channel []byte) (int, bool) {
	digits, ok := bytes.CutPrefix(channel, []byte("book-"))
	if !ok || len(digits) == 0 || len(digits) > 6 {
		return 0, false
	}
	n := number(digits)
	return n, n > 0
}

// maxFrame is how many elements a v1 frame may have: the id, up to three payloads, the channel's name and the pair.
const maxFrame = 6

func (d *Decoder) krakenFrame(in *market.Instrument, m *Message) {
	s := &d.s
	var room [maxFrame + 1]mark
	frame := room[:0]
	for more := s.open('['); more; more = s.next(']') {
		s.peek()
		if len(frame) <= maxFrame {
			frame = append(frame, mark(s.i))
		}
		s.skip()
	}
	s.end()
	if s.err != nil || len(frame) < 4 || len(frame) > maxFrame {
		s.fail(ReasonUnsupported, "", nil)
		return
	}
	payloads, names := frame[1:len(frame)-2], frame[len(frame)-2:]
	channel, pair := s.wordAt(names[0]), names[1]
	name, _, _ := bytes.Cut(channel, []byte{'-'})
	switch string(name) {
	case "book":
		m.Kind = BookUpdate
		d.krakenBook(payloads, channel, pair, in, m)
	case "trade":
		m.Kind = Trades
		d.krakenTrades(payloads[0], pair, in, m)
	case "ticker", "ohlc", "spread":
		m.Kind = Ignored
	default:
		s.fail(ReasonUnsupported, "channelName", nil)
	}
}

const (
	kAllAsks = iota
	kAllBids
	kAsks
	kBids
	kChecksum
	kBookFields
)

var krakenBookNames = [kBookFields]string{kAllAsks: "as", kAllBids: "bs", kAsks: "a", kBids: "b", kChecksum: "c"}

func (d *Decoder) krakenBook(payloads []mark, channel []byte, pair mark, in *market.Instrument, m *Message) {
	s := &d.s
	depth, ok := bookDepth(channel)
	if !ok {
		s.fail(ReasonUnsupported, "channelName", nil)
		return
	}
	m.Depth = depth
	var at [maxFrame][kBookFields]mark
	for i, payload := range payloads {
		s.to(payload, "").object(krakenBookNames[:], at[i][:], "", nil)
		if at[i][kAllAsks] != 0 || at[i][kAllBids] != 0 {
			m.Kind = BookSnapshot
		}
	}
	if !s.oursVenue(pair, "pair", in) {
		return
	}
	for i := range payloads {
		d.krakenPayload(&at[i], in, m)
	}
	if m.Kind == BookSnapshot {
		m.Bids, m.Asks = withoutZeros(m.Bids), withoutZeros(m.Asks)
	}
}

func (d *Decoder) krakenPayload(at *[kBookFields]mark, in *market.Instrument, m *Message) {
	s := &d.s
	if *at == ([kBookFields]mark{}) {
		s.fail(ReasonField, "a", ErrMissing)
	}
	for n, levels := range [...]*[]market.Level{kAllAsks: &m.Asks, kAllBids: &m.Bids, kAsks: &m.Asks, kBids: &m.Bids} {
		if at[n] != 0 {
			field := krakenBookNames[n]
			*levels = s.to(at[n], field).timedLevels(*levels, field, in, &m.Time)
		}
	}
	if at[kChecksum] != 0 {
		m.HasChecksum = true
		m.Checksum = s.to(at[kChecksum], "c").checksum("c")
	}
}

// checksum reads a CRC32, which v1 sends in a string.
func (s *scanner) checksum(field string) uint32 {
	v := s.unsigned(ReasonSequence, field, true)
	if v > 1<<32-1 {
		s.fail(ReasonSequence, field, market.ErrRange)
	}
	return uint32(v)
}

// timedLevels reads an array of [price, size, time, …] and keeps the newest time.
func (s *scanner) timedLevels(dst []market.Level, field string, in *market.Instrument, newest *market.Time) []market.Level {
	if s.peek() != '[' {
		s.wrongType(field)
		return dst
	}
	for more := s.open('['); more; more = s.next(']') {
		var l market.Level
		s.enter(field)
		l.Price = s.price(field, in)
		s.comma(field)
		l.Size = s.size(field, in, 0)
		s.comma(field)
		*newest = max(*newest, s.seconds(field))
		s.leave()
		if s.err == nil {
			dst = append(dst, l)
		}
	}
	return dst
}

// krakenTrades decodes a v1 frame of trades: [price, size, time, side, order type, misc].
func (d *Decoder) krakenTrades(payload, pair mark, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursVenue(pair, "pair", in) {
		return
	}
	m.IDs = Names
	d.keys = d.keys[:0]
	if s.to(payload, "").peek() != '[' {
		s.wrongType("trade")
		return
	}
	for more := s.open('['); more; more = s.next(']') {
		s.enter("trade")
		var t market.Trade
		t.Price = s.price("trade", in)
		s.comma("trade")
		t.Size = s.size("trade", in, 1)
		s.comma("trade")
		t.Time = s.seconds("trade")
		s.comma("trade")
		t.Side = s.initial()
		s.comma("trade")
		orderType := s.text("trade")
		if s.err == nil {
			d.nameTrade(&t, orderType)
			m.Trades = append(m.Trades, t)
			m.Time = max(m.Time, t.Time)
		}
		s.leave()
		if len(m.Trades) > maxFrameTrades {
			s.fail(ReasonUnsupported, "trade", market.ErrRange)
		}
	}
	if len(m.Trades) == 0 {
		s.fail(ReasonField, "trade", ErrMissing)
	}
}

// initial reads the aggressor's side as v1 spells it.
func (s *scanner) initial() market.Side {
	switch string(s.text("trade")) {
	case "b":
		return market.Bid
	case "s":
		return market.Ask
	}
	s.fail(ReasonValue, "trade", nil)
	return market.NoSide
}

// maxFrameTrades bounds a v1 frame, whose trades are compared with each other to name them.
const maxFrameTrades = 4096

// tradeKey is what the name of a trade without id is made of.
type tradeKey struct {
	time market.Time
	hash uint64
}

// nameTrade gives a v1 trade its name. d.keys are the trades that stand before it in the frame.
func (d *Decoder) nameTrade(t *market.Trade, orderType []byte) {
	k := tradeKey{time: t.Time, hash: fnvInt(fnvInt(fnvOffset, int64(t.Price)), int64(t.Size))}
	k.hash = fnvByte(k.hash, byte(t.Side))
	for _, c := range orderType {
		k.hash = fnvByte(k.hash, c)
	}
	alike := int64(1)
	for _, before := range d.keys {
		if before == k {
			alike++
		}
	}
	d.keys = append(d.keys, k)
	name := market.AppendFixed(d.scratch[:0], t.Time.Micros(), 0)
	name = append(name, '-')
	for shift := 60; shift >= 0; shift -= 4 {
		name = append(name, "0123456789abcdef"[k.hash>>shift&15])
	}
	if alike > 1 {
		name = market.AppendFixed(append(name, '-'), alike, 0)
	}
	d.scratch = name
	t.ID, _ = market.MakeTradeID(name) // 16 + 1 + 16 + 1 + 4 bytes at most, below the limit
}

// FNV-1a, 64 bits.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnvByte(h uint64, c byte) uint64 { return (h ^ uint64(c)) * fnvPrime }

func fnvInt(h uint64, v int64) uint64 {
	for range 8 {
		h = fnvByte(h, byte(v))
		v >>= 8
	}
	return h
}

const (
	k2Symbol = iota
	k2Bids
	k2Asks
	k2Checksum
	k2Timestamp
	k2Side
	k2Price
	k2Qty
	k2TradeID
	k2Channel
	k2Depth
	k2Fields
)

var krakenV2Names = [k2Fields]string{
	k2Symbol: "symbol", k2Bids: "bids", k2Asks: "asks", k2Checksum: "checksum", k2Timestamp: "timestamp", k2Side: "side",
	k2Price: "price", k2Qty: "qty", k2TradeID: "trade_id", k2Channel: "channel", k2Depth: "depth",
}

type krakenV2Marks [k2Fields]mark

// krakenV2 decodes a data frame of v2: {"channel":…,"type":…,"data":[…]}.
func (d *Decoder) krakenV2(channel, kind, data mark, in *market.Instrument, m *Message) {
	s := &d.s
	switch string(s.wordAt(channel)) {
	case "book":
		m.Kind = BookUpdate
		d.krakenV2Book(kind, data, in, m)
	case "trade":
		m.Kind = Trades
		d.krakenV2Trades(data, in, m)
	case "heartbeat", "status", "ticker", "ohlc", "instrument":
		m.Kind = Ignored
	default:
		s.fail(ReasonUnsupported, "channel", nil)
	}
}

// krakenV2Book decodes the one book of a frame; connectors split frames of several instruments.
func (d *Decoder) krakenV2Book(kind, data mark, in *market.Instrument, m *Message) {
	s := &d.s
	switch string(s.wordAt(kind)) {
	case "snapshot":
		m.Kind = BookSnapshot
	case "update":
	default:
		s.to(kind, "type").text("type")
		s.fail(ReasonUnsupported, "type", nil)
	}
	s.to(data, "data").enter("data")
	var at krakenV2Marks
	s.object(krakenV2Names[:], at[:], "", nil)
	if s.next(']') {
		s.fail(ReasonUnsupported, "data", nil)
	}
	if !s.oursVenue(at[k2Symbol], "symbol", in) {
		return
	}
	if at[k2Timestamp] != 0 {
		m.Time = s.to(at[k2Timestamp], "timestamp").timestamp("timestamp")
	}
	m.HasChecksum = true
	m.Checksum = s.to(at[k2Checksum], "checksum").checksum("checksum")
	if at[k2Bids] == 0 && at[k2Asks] == 0 {
		s.fail(ReasonField, "bids", ErrMissing)
	}
	if at[k2Bids] != 0 {
		m.Bids = s.to(at[k2Bids], "bids").namedLevels(m.Bids, "bids", in)
	}
	if at[k2Asks] != 0 {
		m.Asks = s.to(at[k2Asks], "asks").namedLevels(m.Asks, "asks", in)
	}
	if m.Kind == BookSnapshot {
		m.Bids, m.Asks = withoutZeros(m.Bids), withoutZeros(m.Asks)
	}
}

// namedLevels reads an array of {"price":…,"qty":…}.
func (s *scanner) namedLevels(dst []market.Level, field string, in *market.Instrument) []market.Level {
	if s.peek() != '[' {
		s.wrongType(field)
		return dst
	}
	for more := s.open('['); more; more = s.next(']') {
		var at krakenV2Marks
		s.object(krakenV2Names[:], at[:], "", nil)
		end := s.i
		l := market.Level{
			Price: s.to(at[k2Price], "price").price("price", in),
			Size:  s.to(at[k2Qty], "qty").size("qty", in, 0),
		}
		s.i = end
		dst = append(dst, l)
	}
	return dst
}

func (d *Decoder) krakenV2Trades(data mark, in *market.Instrument, m *Message) {
	s := &d.s
	m.IDs = Counts
	if s.to(data, "data").peek() != '[' {
		s.wrongType("data")
		return
	}
	for more := s.open('['); more; more = s.next(']') {
		var at krakenV2Marks
		s.object(krakenV2Names[:], at[:], "", nil)
		end := s.i
		if !s.oursVenue(at[k2Symbol], "symbol", in) {
			return
		}
		var t market.Trade
		t.Time = s.to(at[k2Timestamp], "timestamp").timestamp("timestamp")
		t.Price = s.to(at[k2Price], "price").price("price", in)
		t.Size = s.to(at[k2Qty], "qty").size("qty", in, 1)
		t.Side = s.to(at[k2Side], "side").side("side")
		t.ID = s.to(at[k2TradeID], "trade_id").tradeNumber("trade_id")
		s.i = end
		m.Trades = append(m.Trades, t)
		m.Time = max(m.Time, t.Time)
	}
	if len(m.Trades) == 0 {
		s.fail(ReasonField, "data", ErrMissing)
	}
}

// krakenAnswer decodes v2's answer to a request, which for a subscription to the book names its depth.
func (d *Decoder) krakenAnswer(result mark, in *market.Instrument, m *Message) {
	s := &d.s
	m.Kind = Ignored
	if result == 0 || in == nil || s.to(result, "result").peek() != '{' {
		return
	}
	var at krakenV2Marks
	s.object(krakenV2Names[:], at[:], "", nil)
	if at[k2Depth] != 0 && string(s.wordAt(at[k2Channel])) == "book" && string(s.wordAt(at[k2Symbol])) == in.Symbol {
		m.Depth = int(s.to(at[k2Depth], "depth").unsigned(ReasonValue, "depth", false))
	}
}
