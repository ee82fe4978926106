package wire

import (
	"github.com/tickwire/tickwire/pkg/market"
)

// Block lengths of the market events, as in tickwire.xml.
const (
	snapshotLen = 56
	deltaLen    = 52
	tradeLen    = 57
	tradeGapLen = 49
	barLen      = 102
	statusLen   = 53
	bboLen      = 72
	tickerLen   = 136
	barGapLen   = 50
)

const (
	flagFinal      = 1 << 0
	flagIncomplete = 1 << 1
	// maxSym bounds the texts of a Status.
	maxSym = 255
)

// AppendSnapshot appends m as a BookSnapshot. Part and Parts of 0 mean the only part.
func AppendSnapshot(dst []byte, m *market.Snapshot) []byte {
	dst, b := extend(dst, headerLen+snapshotLen+sides(m.Bids, m.Asks))
	putHeader(b, TemplateBookSnapshot, snapshotLen)
	b = b[headerLen:]
	putHead(b, &m.Head)
	putView(b[40:], m.Hash, m.View)
	le.PutUint16(b[52:], max(m.Part, 1))
	le.PutUint16(b[54:], max(m.Parts, 1))
	putLevels(putLevels(b[snapshotLen:], m.Bids), m.Asks)
	return dst
}

// AppendDelta appends m as a BookUpdate.
func AppendDelta(dst []byte, m *market.Delta) []byte {
	dst, b := extend(dst, headerLen+deltaLen+sides(m.Bids, m.Asks))
	putHeader(b, TemplateBookUpdate, deltaLen)
	b = b[headerLen:]
	putHead(b, &m.Head)
	putView(b[40:], m.Hash, m.View)
	putLevels(putLevels(b[deltaLen:], m.Bids), m.Asks)
	return dst
}

// putView writes hash, depth and merge interval. The one hash that equals the null value travels as unavailable.
func putView(b []byte, h market.Hash, v market.View) {
	sum := uint64(nullHash)
	if h.OK {
		sum = h.Sum
	}
	le.PutUint64(b, sum)
	le.PutUint16(b[8:], v.Depth)
	le.PutUint16(b[10:], v.Millis)
}

func readView(b []byte) (market.Hash, market.View) {
	h := market.Hash{Sum: le.Uint64(b), OK: true}
	if h.Sum == nullHash {
		h = market.Hash{}
	}
	return h, market.View{Depth: le.Uint16(b[8:]), Millis: le.Uint16(b[10:])}
}

// DecodeSnapshot reads a BookSnapshot into m, reusing the memory of its levels.
func DecodeSnapshot(b []byte, m *market.Snapshot) error {
	f, c := event(b, TemplateBookSnapshot, snapshotLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Hash, m.View = readView(f[40:])
	m.Part, m.Parts = le.Uint16(f[52:]), le.Uint16(f[54:])
	m.Bids = c.levels(m.Bids, 1)
	m.Asks = c.levels(m.Asks, 1)
	if c.err == nil && (m.Part < 1 || m.Part > m.Parts || len(m.Bids)+len(m.Asks) > market.MaxSnapshotLevels) {
		c.err = ErrValue
	}
	return c.close()
}

// DecodeDelta reads a BookUpdate into m, reusing the memory of its levels.
func DecodeDelta(b []byte, m *market.Delta) error {
	f, c := event(b, TemplateBookUpdate, deltaLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Hash, m.View = readView(f[40:])
	m.Bids = c.levels(m.Bids, 0)
	m.Asks = c.levels(m.Asks, 0)
	return c.close()
}

// AppendTrade appends m as a Trade.
func AppendTrade(dst []byte, m *market.Trade) []byte {
	dst, b := begin(dst, TemplateTrade, tradeLen)
	putHead(b, &m.Head)
	le.PutUint64(b[40:], uint64(m.Price))
	le.PutUint64(b[48:], uint64(m.Size))
	b[56] = byte(m.Side)
	dst = le.AppendUint16(dst, uint16(m.ID.Len()))
	return m.ID.Append(dst)
}

// DecodeTrade reads a Trade into m.
func DecodeTrade(b []byte, m *market.Trade) error {
	f, c := event(b, TemplateTrade, tradeLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Price, m.Size = market.Price(le.Uint64(f[40:])), market.Size(le.Uint64(f[48:]))
	m.Side = market.Side(f[56])
	m.ID, _ = market.MakeTradeID(c.text(market.MaxTradeID))
	if c.err == nil && (m.Price <= 0 || m.Size <= 0 || m.Side > market.Ask && m.Side != market.NoSide) {
		c.err = ErrValue
	}
	return c.close()
}

func putMissed(b []byte, n int64) {
	if n < 0 {
		n = nullCount
	}
	le.PutUint64(b, uint64(n))
}

func readMissed(b []byte) (int64, error) {
	n := int64(le.Uint64(b))
	switch {
	case n == nullCount:
		return -1, nil
	case n < 0:
		return 0, ErrValue
	}
	return n, nil
}

func readReason(v byte) (market.Reason, error) {
	if market.Reason(v) > market.Upgrade {
		return 0, ErrValue
	}
	return market.Reason(v), nil
}

// AppendTradeGap appends m as a TradeGap.
func AppendTradeGap(dst []byte, m *market.TradeGap) []byte {
	dst, b := begin(dst, TemplateTradeGap, tradeGapLen)
	putHead(b, &m.Head)
	putMissed(b[40:], m.Missed)
	b[48] = byte(m.Why)
	return dst
}

// DecodeTradeGap reads a TradeGap into m; an unknown number of missing trades is -1.
func DecodeTradeGap(b []byte, m *market.TradeGap) error {
	f, c := event(b, TemplateTradeGap, tradeGapLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	if m.Missed, c.err = readMissed(f[40:]); c.err == nil {
		m.Why, c.err = readReason(f[48])
	}
	return c.close()
}

// BarGap says to one client that final bars are missing before it, because the client read too slowly. It is not part of
// md.events: an edge makes it for the client, with the sequence of the last bar that is missing.
type BarGap struct {
	market.Head
	Interval market.Interval
	Why      market.Reason
	Missed   int64 // how many are missing; negative when unknown
}

// AppendBarGap appends m as a BarGap.
func AppendBarGap(dst []byte, m *BarGap) []byte {
	dst, b := begin(dst, TemplateBarGap, barGapLen)
	putHead(b, &m.Head)
	putMissed(b[40:], m.Missed)
	b[48], b[49] = byte(m.Why), byte(m.Interval)
	return dst
}

// DecodeBarGap reads a BarGap into m; an unknown number of missing bars is -1.
func DecodeBarGap(b []byte, m *BarGap) error {
	f, c := event(b, TemplateBarGap, barGapLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	if m.Missed, c.err = readMissed(f[40:]); c.err == nil {
		m.Why, c.err = readReason(f[48])
	}
	m.Interval = market.Interval(f[49])
	if c.err == nil && !m.Interval.Valid() {
		c.err = ErrValue
	}
	return c.close()
}

// AppendBar appends m as a Bar.
func AppendBar(dst []byte, m *market.Bar) []byte {
	dst, b := begin(dst, TemplateBar, barLen)
	putHead(b, &m.Head)
	le.PutUint64(b[40:], uint64(m.Start.Micros()))
	le.PutUint64(b[48:], uint64(m.Open))
	le.PutUint64(b[56:], uint64(m.High))
	le.PutUint64(b[64:], uint64(m.Low))
	le.PutUint64(b[72:], uint64(m.Close))
	le.PutUint64(b[80:], uint64(m.Volume))
	le.PutUint64(b[88:], m.Trades)
	le.PutUint32(b[96:], m.Rev)
	b[100] = byte(m.Interval)
	b[101] = 0
	if m.Final {
		b[101] |= flagFinal
	}
	if m.Incomplete {
		b[101] |= flagIncomplete
	}
	return dst
}

// DecodeBar reads a Bar into m.
func DecodeBar(b []byte, m *market.Bar) error {
	f, c := event(b, TemplateBar, barLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Start = c.time(f[40:])
	m.Open, m.High = market.Price(le.Uint64(f[48:])), market.Price(le.Uint64(f[56:]))
	m.Low, m.Close = market.Price(le.Uint64(f[64:])), market.Price(le.Uint64(f[72:]))
	m.Volume, m.Trades, m.Rev = market.Size(le.Uint64(f[80:])), le.Uint64(f[88:]), le.Uint32(f[96:])
	m.Interval = market.Interval(f[100])
	m.Final, m.Incomplete = f[101]&flagFinal != 0, f[101]&flagIncomplete != 0
	unknown := f[101] &^ (flagFinal | flagIncomplete)
	if c.err == nil && (!m.Interval.Valid() || m.Volume < 0 || unknown != 0 && !c.later) {
		c.err = ErrValue
	}
	return c.close()
}

// AppendStatus appends m as a Status. Head.Inst is the instrument's number.
func AppendStatus(dst []byte, m *market.Status) []byte {
	dst, b := begin(dst, TemplateStatus, statusLen)
	putHead(b, &m.Head)
	in := &m.Instrument
	le.PutUint64(b[40:], uint64(in.TickSize))
	b[48], b[49] = in.PriceScale, in.SizeScale
	b[50], b[51], b[52] = byte(m.State), byte(m.Book), byte(m.Why)
	dst = appendText(dst, in.Sym)
	dst = appendText(dst, in.Source)
	return appendText(dst, in.Symbol)
}

// DecodeStatus reads a Status into m; texts that did not change keep their memory.
func DecodeStatus(b []byte, m *market.Status) error {
	f, c := event(b, TemplateStatus, statusLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	in := &m.Instrument
	in.ID = m.Inst
	in.TickSize, in.PriceScale, in.SizeScale = market.Price(le.Uint64(f[40:])), f[48], f[49]
	m.State, m.Book = market.State(f[50]), market.State(f[51])
	m.Why, c.err = readReason(f[52])
	in.Sym = keep(in.Sym, c.text(maxSym))
	in.Source = keep(in.Source, c.text(maxSym))
	in.Symbol = keep(in.Symbol, c.text(maxSym))
	if c.err == nil && (in.TickSize < 0 || in.PriceScale > market.MaxScale || in.SizeScale > market.MaxScale ||
		m.State > market.Delisted || m.Book > market.Delisted) {
		c.err = ErrValue
	}
	return c.close()
}

// putSide writes one side of a BBO; an empty one has neither size nor price.
func putSide(b []byte, l market.Level) {
	if l.Size == 0 {
		l.Price = 0
	}
	le.PutUint64(b, uint64(l.Price))
	le.PutUint64(b[8:], uint64(l.Size))
}

func (c *cursor) side(b []byte) market.Level {
	l := market.Level{Price: market.Price(le.Uint64(b)), Size: market.Size(le.Uint64(b[8:]))}
	if c.err == nil && (l.Size < 0 || l.Price < 0 || (l.Size == 0) != (l.Price == 0)) {
		c.err = ErrValue
	}
	return l
}

// AppendBBO appends m as a Bbo.
func AppendBBO(dst []byte, m *market.BBO) []byte {
	dst, b := begin(dst, TemplateBbo, bboLen)
	putHead(b, &m.Head)
	putSide(b[40:], m.Bid)
	putSide(b[56:], m.Ask)
	return dst
}

// DecodeBBO reads a Bbo into m.
func DecodeBBO(b []byte, m *market.BBO) error {
	f, c := event(b, TemplateBbo, bboLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Bid, m.Ask = c.side(f[40:]), c.side(f[56:])
	return c.close()
}

// AppendTicker appends m as a Ticker.
func AppendTicker(dst []byte, m *market.Ticker) []byte {
	dst, b := begin(dst, TemplateTicker, tickerLen)
	putHead(b, &m.Head)
	le.PutUint64(b[40:], uint64(m.Last))
	le.PutUint64(b[48:], uint64(m.LastSize))
	putSide(b[56:], m.Bid)
	putSide(b[72:], m.Ask)
	le.PutUint64(b[88:], uint64(m.Open))
	le.PutUint64(b[96:], uint64(m.High))
	le.PutUint64(b[104:], uint64(m.Low))
	le.PutUint64(b[112:], uint64(m.Volume))
	le.PutUint64(b[120:], uint64(m.Quote))
	le.PutUint64(b[128:], m.Trades)
	return dst
}

// DecodeTicker reads a Ticker into m.
func DecodeTicker(b []byte, m *market.Ticker) error {
	f, c := event(b, TemplateTicker, tickerLen, &m.Head)
	if c.err != nil {
		return c.err
	}
	m.Last, m.LastSize = market.Price(le.Uint64(f[40:])), market.Size(le.Uint64(f[48:]))
	m.Bid, m.Ask = c.side(f[56:]), c.side(f[72:])
	m.Open, m.High = market.Price(le.Uint64(f[88:])), market.Price(le.Uint64(f[96:]))
	m.Low, m.Volume = market.Price(le.Uint64(f[104:])), market.Size(le.Uint64(f[112:]))
	m.Quote, m.Trades = int64(le.Uint64(f[120:])), le.Uint64(f[128:])
	if c.err == nil && min(int64(m.Last), int64(m.LastSize), int64(m.Open), int64(m.High), int64(m.Low), int64(m.Volume), m.Quote) < 0 {
		c.err = ErrValue
	}
	return c.close()
}
