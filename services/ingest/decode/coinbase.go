package decode

import (
	"github.com/tickwire/tickwire/pkg/market"
)

// Coinbase Exchange: level2 (snapshot, l2update; level2_batch is the same) and matches (match, last_match).
//
// The book has no sequence and no checksum: a snapshot comes in band at the start, then absolute sizes, and what holds
// it together is the connection. Only a new session tells of a loss. A snapshot has no time.
//
// trade_id counts a product's trades. last_match comes once, on subscribing: the newest trade so far, which either is
// known already or shows what was missed. A match names the side of the maker; the aggressor is the other.
//
// ticker is ignored: all it has beyond the match of the same trade_id is the venue's own best prices and 24 h figures,
// which we derive from the events ourselves.

const (
	cType = iota
	cProduct
	cTime
	cBids
	cAsks
	cChanges
	cTradeID
	cSide
	cSize
	cPrice
	cFields
)

var coinbaseNames = [cFields]string{
	cType: "type", cProduct: "product_id", cTime: "time", cBids: "bids", cAsks: "asks", cChanges: "changes",
	cTradeID: "trade_id", cSide: "side", cSize: "size", cPrice: "price",
}

type coinbaseMarks [cFields]mark

func (d *Decoder) coinbase(in *market.Instrument, m *Message) {
	s := &d.s
	var at coinbaseMarks
	s.object(coinbaseNames[:], at[:], "", nil)
	s.end()
	switch string(s.wordAt(at[cType])) {
	case "snapshot":
		m.Kind = BookSnapshot
		d.coinbaseBook(&at, in, m)
	case "l2update":
		m.Kind = BookUpdate
		d.coinbaseBook(&at, in, m)
	case "match", "last_match":
		m.Kind = Trades
		d.coinbaseMatch(&at, in, m)
	case "ticker", "ticker_batch", "subscriptions", "heartbeat", "status", "error":
		m.Kind = Ignored
	default:
		s.to(at[cType], "type").text("type")
		s.fail(ReasonUnsupported, "type", nil)
	}
}

func (d *Decoder) coinbaseBook(at *coinbaseMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursVenue(at[cProduct], "product_id", in) {
		return
	}
	if at[cTime] != 0 {
		m.Time = s.to(at[cTime], "time").timestamp("time")
	}
	if m.Kind == BookSnapshot {
		s.both(m, in, at[cBids], "bids", at[cAsks], "asks")
		return
	}
	s.to(at[cChanges], "changes").changes(m, in)
}

// changes reads an array of [side, price, size].
func (s *scanner) changes(m *Message, in *market.Instrument) {
	if s.peek() != '[' {
		s.wrongType("changes")
		return
	}
	for more := s.open('['); more; more = s.next(']') {
		s.enter("changes")
		side := s.side("changes")
		s.comma("changes")
		l := s.priceAndSize("changes", in)
		if side == market.Bid {
			m.Bids = append(m.Bids, l)
		} else {
			m.Asks = append(m.Asks, l)
		}
	}
}

func (d *Decoder) coinbaseMatch(at *coinbaseMarks, in *market.Instrument, m *Message) {
	s := &d.s
	if !s.oursVenue(at[cProduct], "product_id", in) {
		return
	}
	t := market.Trade{Side: market.Bid}
	t.Time = s.to(at[cTime], "time").timestamp("time")
	t.Price = s.to(at[cPrice], "price").price("price", in)
	t.Size = s.to(at[cSize], "size").size("size", in, 1)
	t.ID = s.to(at[cTradeID], "trade_id").tradeNumber("trade_id")
	if s.to(at[cSide], "side").side("side") == market.Bid { // the maker's
		t.Side = market.Ask
	}
	m.Time, m.IDs = t.Time, Counts
	m.Trades = append(m.Trades, t)
}
