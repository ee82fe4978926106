package wire

import (
	"math"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// data builds a market event.
func (m *Message) data() (Kind, error) {
	f := &m.f
	name := f.text(kCh, maxText)
	ch, ok := channelOf(name)
	if f.err != nil || !ok {
		return KindUnknown, nil //nolint:nilerr // f keeps the error, and whoever called looks there
	}
	f.need(kSym, kEp, kSeq, kTS)
	f.text(kSym, maxText)
	if f.err != nil {
		return KindUnknown, nil //nolint:nilerr // as above
	}
	m.Out = f.time(kOut)
	if ch == market.Statuses {
		m.Inst = nil
		return m.status(), nil
	}
	if m.Inst == nil {
		return KindUnknown, ErrUnknownSym
	}
	switch ch {
	case market.Books:
		return m.bookMessage(), nil
	case market.Trades:
		return m.trade(), nil
	case market.Bars:
		return m.bar(), nil
	case market.BBOs:
		m.bbo()
		return KindBBO, nil
	default:
		m.ticker()
		return KindTicker, nil
	}
}

func channelOf(name []byte) (market.Channel, bool) {
	switch string(name) {
	case "book":
		return market.Books, true
	case "bbo":
		return market.BBOs, true
	case "trades":
		return market.Trades, true
	case "ticker":
		return market.Tickers, true
	case "bars":
		return market.Bars, true
	case "status":
		return market.Statuses, true
	}
	return 0, false
}

// head reads what all events share.
func (m *Message) head(h *market.Head) {
	f := &m.f
	*h = market.Head{
		Epoch: uint32(f.uint(kEp, math.MaxUint32)), Prev: f.uint(kPrev, math.MaxUint64), Seq: f.uint(kSeq, math.MaxUint64),
		Time: f.time(kTS), In: f.time(kIn),
	}
	if m.Inst != nil {
		h.Inst = m.Inst.ID
	}
}

// whole reads the head of a message that is a whole value and follows nothing.
func (m *Message) whole(h *market.Head) {
	m.head(h)
	h.Prev = 0
}

func (m *Message) bookMessage() Kind {
	f := &m.f
	f.need(kT, kDepth, kPrev, kB, kA)
	for i := range m.done {
		if f.err == nil && !m.done[i] {
			m.part.reset(f.tokens[kB+i].raw)
			m.levels(i, &m.part)
		}
	}
	view := market.View{Depth: uint16(f.uint(kDepth, math.MaxUint16)), Millis: uint16(f.uint(kMs, math.MaxUint16))}
	s, d := &m.Snapshot, &m.Delta
	switch string(f.text(kT, 1)) {
	case "s":
		m.head(&s.Head)
		s.View, s.Hash = view, m.hash()
		s.Part, s.Parts = m.parts()
		if f.err == nil && (anyEmpty(s.Bids) || anyEmpty(s.Asks)) {
			f.fail(kB, "size 0 in a snapshot")
		}
		return KindSnapshot
	case "u":
		m.head(&d.Head)
		d.View, d.Hash = view, m.hash()
		d.Bids, s.Bids = s.Bids, d.Bids
		d.Asks, s.Asks = s.Asks, d.Asks
		return KindDelta
	}
	f.fail(kT, "neither s nor u")
	return KindUnknown
}

func anyEmpty(levels []market.Level) bool {
	return slices.ContainsFunc(levels, func(l market.Level) bool { return l.Size == 0 })
}

func (m *Message) parts() (part, of uint16) {
	f := &m.f
	if !f.has(kOf) && !f.has(kPart) {
		return 1, 1
	}
	f.need(kPart, kOf)
	part, of = uint16(f.uint(kPart, math.MaxUint16)), uint16(f.uint(kOf, math.MaxUint16))
	if f.err == nil && (part < 1 || part > of) {
		f.fail(kPart, "out of range")
	}
	return part, of
}

func (m *Message) hash() (h market.Hash) {
	f := &m.f
	if !f.has(kHash) {
		return h
	}
	digits := f.text(kHash, 16)
	if f.err == nil && len(digits) != 16 {
		f.fail(kHash, "not 16 hexadecimal digits")
	}
	for _, c := range digits {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c-'a' <= 5:
			c -= 'a' - 10
		default:
			f.fail(kHash, "not 16 hexadecimal digits")
		}
		h.Sum = h.Sum<<4 | uint64(c)
	}
	h.OK = true
	return h
}

func (m *Message) trade() Kind {
	f := &m.f
	f.need(kT, kPrev)
	switch string(f.text(kT, maxText)) {
	case "trade":
		f.need(kPrice, kSize)
		t := &m.Trade
		m.head(&t.Head)
		t.Price, t.Size = market.Price(f.fixed(kPrice, m.Inst.PriceScale, 1)), market.Size(f.fixed(kSize, m.Inst.SizeScale, 1))
		t.Side = m.aggressor()
		t.ID, _ = market.MakeTradeID(f.text(kID, market.MaxTradeID))
		return KindTrade
	case "gap":
		m.head(&m.TradeGap.Head)
		m.TradeGap.Why, m.TradeGap.Missed = m.why(), m.missed()
		return KindTradeGap
	}
	return KindUnknown
}

func (m *Message) aggressor() market.Side {
	f := &m.f
	if !f.has(kSide) {
		return market.NoSide
	}
	switch string(f.text(kSide, maxText)) {
	case "buy":
		return market.Bid
	case "sell":
		return market.Ask
	}
	f.fail(kSide, "neither buy nor sell")
	return market.NoSide
}

func (m *Message) missed() int64 {
	f := &m.f
	f.need(kMissed)
	if f.err == nil && f.tokens[kMissed].kind == 'n' {
		return -1
	}
	return int64(f.uint(kMissed, math.MaxInt64))
}

// why reads a reason; one that this version does not know counts as none.
func (m *Message) why() market.Reason {
	name := m.f.text(kWhy, maxText)
	for r := market.Quarantine; r <= market.Upgrade; r++ {
		if r.String() == string(name) {
			return r
		}
	}
	return market.NoReason
}

func (f *fields) interval(key int) market.Interval {
	f.need(key)
	name := f.text(key, maxText)
	for i := market.Second; i.Valid(); i++ {
		if i.String() == string(name) {
			return i
		}
	}
	f.fail(key, "not an interval")
	return 0
}

func (f *fields) state(key int) market.State {
	f.need(key)
	name := f.text(key, maxText)
	for s := market.Live; s <= market.Delisted; s++ {
		if s.String() == string(name) {
			return s
		}
	}
	f.fail(key, "not a state")
	return 0
}

func (m *Message) bar() Kind {
	f := &m.f
	f.need(kT)
	iv := f.interval(kIv)
	if f.err == nil && f.tokens[kT].kind == '"' {
		if string(f.tokens[kT].text) != "gap" {
			return KindUnknown
		}
		f.need(kPrev)
		m.head(&m.BarGap.Head)
		m.BarGap.Interval, m.BarGap.Why, m.BarGap.Missed = iv, m.why(), m.missed()
		return KindBarGap
	}
	f.need(kO, kHash, kL, kC, kV, kN)
	b, ps := &m.Bar, m.Inst.PriceScale
	m.head(&b.Head)
	b.Interval, b.Start = iv, f.time(kT)
	b.Open, b.High = market.Price(f.fixed(kO, ps, math.MinInt64)), market.Price(f.fixed(kHash, ps, math.MinInt64))
	b.Low, b.Close = market.Price(f.fixed(kL, ps, math.MinInt64)), market.Price(f.fixed(kC, ps, math.MinInt64))
	b.Volume, b.Trades = market.Size(f.fixed(kV, m.Inst.SizeScale, 0)), f.uint(kN, math.MaxUint64)
	b.Final, b.Rev, b.Incomplete = f.flag(kFinal), uint32(f.uint(kRev, math.MaxUint32)), f.flag(kInc)
	if b.Final {
		f.need(kPrev)
	} else {
		b.Prev = 0
	}
	return KindBar
}

// best reads one side of a bbo or ticker.
func (m *Message) best(i int) (l market.Level) {
	key := kB + i
	f := &m.f
	f.need(key)
	if f.err != nil || f.tokens[key].kind == 'n' {
		return l
	}
	m.part.reset(f.tokens[key].raw)
	l = m.level(key, &m.part)
	switch {
	case m.part.failed:
		f.fail(key, "neither a level nor null")
	case l.Size == 0:
		f.fail(key, "out of range")
	}
	return l
}

func (m *Message) bbo() {
	m.whole(&m.BBO.Head)
	m.BBO.Bid, m.BBO.Ask = m.best(0), m.best(1)
}

func (m *Message) ticker() {
	f, t := &m.f, &m.Ticker
	ps, ss := m.Inst.PriceScale, m.Inst.SizeScale
	f.need(kV, kQ, kN)
	m.whole(&t.Head)
	t.Last, t.LastSize = market.Price(f.fixed(kLast, ps, 0)), market.Size(f.fixed(kSize, ss, 0))
	t.Bid, t.Ask = m.best(0), m.best(1)
	t.Open, t.High, t.Low = market.Price(f.fixed(kO, ps, 0)), market.Price(f.fixed(kHash, ps, 0)), market.Price(f.fixed(kL, ps, 0))
	t.Volume, t.Quote, t.Trades = market.Size(f.fixed(kV, ss, 0)), f.fixed(kQ, ps, 0), f.uint(kN, math.MaxUint64)
	if t.Last == 0 { // never traded: there is no size of it either
		t.LastSize = 0
	}
	if t.Open == 0 { // not traded in the window
		t.High, t.Low = 0, 0
	}
}

func (m *Message) status() Kind {
	f, s := &m.f, &m.Status
	f.need(kInst, kPs, kSs, kSource, kSymbol)
	m.whole(&s.Head)
	in := &s.Instrument
	in.ID = uint32(f.uint(kInst, math.MaxUint32))
	s.Inst = in.ID
	in.PriceScale, in.SizeScale = uint8(f.uint(kPs, market.MaxScale)), uint8(f.uint(kSs, market.MaxScale))
	in.TickSize = market.Price(f.fixed(kTick, in.PriceScale, 0))
	in.Sym = keep(in.Sym, f.text(kSym, maxSym))
	in.Source = keep(in.Source, f.text(kSource, maxSym))
	in.Symbol = keep(in.Symbol, f.text(kSymbol, maxSym))
	s.State, s.Book, s.Why = f.state(kState), f.state(kBook), m.why()
	return KindStatus
}
