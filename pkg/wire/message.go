package wire

import (
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/tickwire/tickwire/pkg/market"
)

// ErrUnknownSym is what DecodeJSON answers when the lookup does not know the instrument of a data message.
var ErrUnknownSym = errors.New("wire: unknown instrument")

// Kind says which part of a Message counts.
type Kind uint8

// The kinds. A message of a later version of the protocol is KindUnknown, which a client skips.
const (
	KindUnknown Kind = iota
	KindSnapshot
	KindDelta
	KindTrade
	KindTradeGap
	KindBar
	KindBarGap
	KindBBO
	KindTicker
	KindStatus
	KindTopicStatus
	KindHello
	KindHeartbeat
	KindLag
	KindDrain
	KindUnsub
	KindPong
	KindAck
	KindError
)

// Message is anything that a server sends to a client, in memory that is used again: what Kind names is valid until the
// next decoding into the same Message. Messages that carry no `prev` leave it 0.
type Message struct {
	Kind Kind
	Inst *market.Instrument // of JSON data messages except status: what lookup returned
	Out  market.Time        // of JSON data messages: when the edge sent it; 0 when it did not say

	Snapshot market.Snapshot
	Delta    market.Delta
	Trade    market.Trade
	TradeGap market.TradeGap
	Bar      market.Bar
	BarGap   BarGap
	BBO      market.BBO
	Ticker   market.Ticker
	Status   market.Status

	TopicStatus TopicStatus
	Hello       Hello
	Lag         Lag
	Drain       Drain
	Unsub       Unsub
	Ack         Ack
	Error       Error
	ID          ID          // of a pong
	Time        market.Time // of a heartbeat or pong

	scan scanner // of the message
	part scanner // of a value inside it
	f    fields
	sub  fields
	done [2]bool // sides of a book that are parsed already
}

// DecodeSBE reads a binary frame of a market event. A template that this version does not know is KindUnknown.
func DecodeSBE(b []byte, m *Message) error {
	t, err := Peek(b)
	if err != nil {
		return err
	}
	m.Kind, m.Inst, m.Out = KindUnknown, nil, 0
	switch t {
	case TemplateBookSnapshot:
		return m.is(KindSnapshot, DecodeSnapshot(b, &m.Snapshot))
	case TemplateBookUpdate:
		return m.is(KindDelta, DecodeDelta(b, &m.Delta))
	case TemplateTrade:
		return m.is(KindTrade, DecodeTrade(b, &m.Trade))
	case TemplateTradeGap:
		return m.is(KindTradeGap, DecodeTradeGap(b, &m.TradeGap))
	case TemplateBar:
		return m.is(KindBar, DecodeBar(b, &m.Bar))
	case TemplateBarGap:
		return m.is(KindBarGap, DecodeBarGap(b, &m.BarGap))
	case TemplateBbo:
		return m.is(KindBBO, DecodeBBO(b, &m.BBO))
	case TemplateTicker:
		return m.is(KindTicker, DecodeTicker(b, &m.Ticker))
	case TemplateStatus:
		return m.is(KindStatus, DecodeStatus(b, &m.Status))
	}
	return nil
}

func (m *Message) is(k Kind, err error) error {
	if err == nil {
		m.Kind = k
	}
	return err
}

// Keys of the messages to clients.
const (
	kCh = iota
	kEv
	kSym
	kIv
	kT
	kDepth
	kMs
	kEp
	kPrev
	kSeq
	kPart
	kOf
	kHash // also the high of bars and tickers
	kTs
	kIn
	kOut
	kPrice
	kSize
	kSide
	kID
	kWhy
	kMissed
	kB
	kA
	kO
	kL
	kC
	kV
	kQ
	kN
	kFinal
	kRev
	kInc
	kLast
	kState
	kBook
	kInst
	kPs
	kSs
	kTick
	kSource
	kSymbol
	kOK
	kErr
	kCode
	kMsg
	kHow
	kMerged
	kTopics
	kLimits
	kResume
	kProto
	kConn
	kAuth
	kDeadline
	kRetry
	kMsgs
	kFrame
	kOps
	kWindow
)

var messageKeys = makeKeyset([]string{
	"ch", "ev", "sym", "iv", "t", "depth", "ms", "ep", "prev", "seq", "part", "of", "h", "ts", "in", "out",
	"price", "size", "side", "id", "why", "missed", "b", "a", "o", "l", "c", "v", "q", "n", "final", "rev", "inc", "last",
	"state", "book", "inst", "ps", "ss", "tick", "source", "symbol",
	"ok", "err", "code", "msg", "how", "merged", "topics", "limits", "resume", "proto", "conn", "auth",
	"deadline_ms", "retry_ms", "msgs", "frame", "ops", "window",
})

const (
	noInst  = math.MaxUint32
	maxText = 255
	maxMsg  = 4096
)

// DecodeJSON reads a text frame into m. Lookup gives the instrument of a sym, which client learn from acks and status
// messages, or nil; data messages other than status need it for their scales. Fields that this version does not know are
// skipped, the known ones are checked.
func DecodeJSON(b []byte, lookup func(sym []byte) *market.Instrument, m *Message) error {
	m.Kind, m.Inst, m.Out = KindUnknown, nil, 0
	m.scan.reset(b)
	m.part.reset(nil)
	if err := m.object(lookup); err != nil {
		return err
	}
	kind, err := KindUnknown, error(nil)
	switch {
	case m.f.has(kCh) && !m.f.has(kEv):
		kind, err = m.data()
	case m.f.has(kEv):
		kind, err = m.control()
	case m.f.has(kID):
		kind, err = m.reply()
	}
	if err == nil {
		err = m.f.err
	}
	if err == nil {
		err = m.sub.err
	}
	return m.is(kind, err)
}

// object reads the message's fields. The levels of a book are parsed on the way as soon as the instrument is known, which it
// is when the message was written by AppendDeltaJSON.
func (m *Message) object(lookup func(sym []byte) *market.Instrument) error {
	s, f := &m.scan, &m.f
	f.reset(messageKeys, "")
	m.sub.reset(messageKeys, "")
	m.done = [2]bool{}
	s.expect('{')
	for first := true; !s.failed && s.next('}', first); first = false {
		name := s.key()
		if s.failed {
			break
		}
		key := messageKeys.find(name)
		f.add(name, key, m.value(key, s))
		if key == kSym && m.Inst == nil && f.tokens[kSym].kind == '"' {
			m.Inst = lookup(f.tokens[kSym].text)
		}
	}
	if f.err != nil {
		return f.err
	}
	if !s.end() {
		return ErrJSON
	}
	if f.twice >= 0 {
		f.fail(f.twice, "twice")
	}
	return f.err
}

// value reads the value of a key: levels of a book at once where possible, anything else as it stands.
func (m *Message) value(key int, s *scanner) token {
	i := key - kB
	if i != 0 && i != 1 || m.done[i] || m.Inst == nil || s.peek() != '[' ||
		!m.f.has(kCh) || string(m.f.tokens[kCh].text) != "book" {
		return s.value()
	}
	m.done[i] = true
	m.levels(i, s)
	return token{kind: '['}
}

// levels reads a list of levels into the snapshot, whose memory serves both kinds of book message.
func (m *Message) levels(i int, s *scanner) {
	side := &m.Snapshot.Bids
	if i == 1 {
		side = &m.Snapshot.Asks
	}
	levels := (*side)[:0]
	s.expect('[')
	for first := true; !s.failed && s.next(']', first); first = false {
		if l := m.level(kB+i, s); !s.failed {
			levels = append(levels, l)
		}
	}
	if s.failed {
		m.f.fail(kB+i, "not a list of levels")
	}
	*side = levels
}

// level reads a ["price","size"].
func (m *Message) level(key int, s *scanner) market.Level {
	if l, n := fastLevel(s.b[s.i:], m.Inst); n > 0 && l.Price > 0 {
		s.i += n
		return l
	}
	mark := len(s.scratch)
	s.expect('[')
	price, err := market.ParseFixed(s.text(), m.Inst.PriceScale)
	s.expect(',')
	size, err2 := market.ParseFixed(s.text(), m.Inst.SizeScale)
	s.expect(']')
	s.scratch = s.scratch[:mark]
	if err == nil {
		err = err2
	}
	switch {
	case s.failed:
	case err != nil:
		m.f.fail(key, err.Error())
	case price <= 0 || size < 0:
		m.f.fail(key, "out of range")
	}
	return market.Level{Price: market.Price(price), Size: market.Size(size)}
}

// data builds a market event.
func (m *Message) data() (Kind, error) {
	f := &m.f
	name := f.text(kCh, maxText)
	ch, ok := channelOf(name)
	if f.err != nil || !ok {
		return KindUnknown, nil
	}
	f.need(kSym, kEp, kSeq, kTs)
	f.text(kSym, maxText)
	if f.err != nil {
		return KindUnknown, nil
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
		Time: f.time(kTs), In: f.time(kIn),
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
	in.ID = uint32(f.uint(kInst, noInst))
	s.Inst = in.ID
	in.PriceScale, in.SizeScale = uint8(f.uint(kPs, market.MaxScale)), uint8(f.uint(kSs, market.MaxScale))
	in.TickSize = market.Price(f.fixed(kTick, in.PriceScale, 0))
	in.Sym = keep(in.Sym, f.text(kSym, maxSym))
	in.Source = keep(in.Source, f.text(kSource, maxSym))
	in.Symbol = keep(in.Symbol, f.text(kSymbol, maxSym))
	s.State, s.Book, s.Why = f.state(kState), f.state(kBook), m.why()
	return KindStatus
}

// topic reads a topic's keys of a control message or of a row.
func (f *fields) topic(t *Topic) {
	f.need(kCh, kSym)
	ch, ok := channelOf(f.text(kCh, maxText))
	if f.err == nil && !ok {
		f.fail(kCh, "not a channel")
	}
	t.Channel, t.Interval = ch, 0
	t.Sym = keep(t.Sym, f.text(kSym, maxSym))
	if ch == market.Bars && f.err == nil {
		t.Interval = f.interval(kIv)
	}
}

func (f *fields) sequence() market.Sequence {
	return market.Sequence{Epoch: uint32(f.uint(kEp, math.MaxUint32)), Seq: f.uint(kSeq, math.MaxUint64)}
}

func (f *fields) uint32(key int) uint32 { return uint32(f.uint(key, math.MaxUint32)) }

func (f *fields) string(old string, key, limit int) string { return keep(old, f.text(key, limit)) }

// id reads an id as it was written.
func (f *fields) id(old ID) ID {
	if !f.has(kID) {
		return ""
	}
	t := &f.tokens[kID]
	switch {
	case t.kind == 'n':
		return ""
	case t.kind != '0' && t.kind != '"', len(t.raw) > maxID:
		f.fail(kID, "neither a number nor a string, or too long")
		return ""
	}
	return ID(keep(string(old), t.raw))
}

// control builds what has an "ev".
func (m *Message) control() (Kind, error) {
	f := &m.f
	switch string(f.text(kEv, maxText)) {
	case "hb":
		f.need(kTs)
		m.Time = f.time(kTs)
		return KindHeartbeat, nil
	case "status":
		f.need(kEp, kSeq, kTs)
		s := &m.TopicStatus
		f.topic(&s.Topic)
		s.State, s.Why, s.Sequence, s.Time = f.state(kState), m.why(), f.sequence(), f.time(kTs)
		return KindTopicStatus, nil
	case "pong":
		f.need(kTs)
		m.ID, m.Time = f.id(m.ID), f.time(kTs)
		return KindPong, nil
	case "hello":
		m.hello()
		return KindHello, nil
	case "lag":
		m.lag()
		return KindLag, nil
	case "drain":
		m.drain()
		return KindDrain, nil
	case "unsub":
		f.topic(&m.Unsub.Topic)
		m.Unsub.Why = f.string(m.Unsub.Why, kWhy, maxText)
		return KindUnsub, nil
	}
	return KindUnknown, nil
}

// inner reads the object under key into m.sub; false when there is none.
func (m *Message) inner(key int) bool {
	if !m.f.has(key) || m.f.err != nil {
		return false
	}
	m.part.reset(m.f.tokens[key].raw)
	m.sub.reset(messageKeys, messageKeys.names[key])
	if !m.part.object(&m.sub) {
		m.f.fail(key, "not an object")
		return false
	}
	return true
}

// each calls read for each object of the list under key, after reading it into m.sub.
func (m *Message) each(key int, read func(i int)) {
	if !m.f.has(key) || m.f.err != nil {
		return
	}
	s := &m.part
	s.reset(m.f.tokens[key].raw)
	s.expect('[')
	for i := 0; !s.failed && s.next(']', i == 0); i++ {
		m.sub.reset(messageKeys, "")
		if s.object(&m.sub) {
			read(i)
		}
		if m.sub.err != nil {
			var fe *FieldError
			if errors.As(m.sub.err, &fe) {
				fe.Field = messageKeys.names[key] + "[" + strconv.Itoa(i) + "]." + fe.Field
			}
			m.f.err = m.sub.err
			return
		}
	}
	if s.failed {
		m.f.fail(key, "not a list of objects")
	}
}

func (m *Message) hello() {
	f, h := &m.f, &m.Hello
	f.need(kProto, kTs)
	h.Proto, h.Conn, h.Time = f.uint32(kProto), f.string(h.Conn, kConn, maxText), f.time(kTs)
	h.Auth = f.string(h.Auth, kAuth, maxText)
	h.Limits, h.Resume = Limits{}, Resume{}
	if m.inner(kLimits) {
		h.Limits = Limits{Topics: m.sub.uint32(kTopics), Frame: m.sub.uint32(kFrame), Ops: m.sub.uint32(kOps)}
	}
	if m.inner(kResume) {
		h.Resume = Resume{Msgs: m.sub.uint32(kMsgs), Ms: m.sub.uint32(kMs)}
	}
}

func (m *Message) lag() {
	l := &m.Lag
	l.Topics, l.Ms = l.Topics[:0], m.f.uint32(kMs)
	m.each(kTopics, func(i int) {
		l.Topics = again(l.Topics)
		m.sub.topic(&l.Topics[i].Topic)
		l.Topics[i].Merged = m.sub.uint(kMerged, math.MaxUint64)
	})
}

// again lengthens a slice by one element, with the memory that was there before.
func again[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	var zero T
	return append(s, zero)
}

func (m *Message) drain() {
	f, d := &m.f, &m.Drain
	d.DeadlineMs, d.RetryMs = f.uint32(kDeadline), [2]uint32{}
	f.need(kDeadline, kRetry)
	if f.err != nil {
		return
	}
	s := &m.part
	s.reset(f.tokens[kRetry].raw)
	s.expect('[')
	for i := range d.RetryMs {
		if s.next(']', i == 0) {
			s.peek()
			v, ok := parseUint(s.number())
			s.failed = s.failed || !ok || v > math.MaxUint32
			d.RetryMs[i] = uint32(v)
		} else {
			s.failed = true
		}
	}
	if s.next(']', false) || s.failed {
		f.fail(kRetry, "not two whole numbers")
	}
}

// reply builds an ack or an error.
func (m *Message) reply() (Kind, error) {
	f := &m.f
	if f.has(kErr) && f.tokens[kErr].kind == '{' {
		e := &m.Error
		e.ID = f.id(e.ID)
		if m.inner(kErr) {
			m.sub.need(kCode)
			e.Code = Code(m.sub.string(string(e.Code), kCode, maxText))
			e.Msg = m.sub.string(e.Msg, kMsg, maxMsg)
		}
		return KindError, nil
	}
	if !f.has(kOK) {
		return KindUnknown, nil
	}
	a := &m.Ack
	a.ID, a.Window = f.id(a.ID), f.uint32(kWindow)
	a.OK, a.Errs = a.OK[:0], a.Errs[:0]
	m.each(kOK, func(i int) {
		a.OK = again(a.OK)
		m.row(&a.OK[i])
	})
	m.each(kErr, func(i int) {
		a.Errs = again(a.Errs)
		m.rowError(&a.Errs[i])
	})
	return KindAck, nil
}

func (m *Message) row(r *Row) {
	f := &m.sub
	f.topic(&r.Topic)
	r.View = market.View{Depth: uint16(f.uint(kDepth, math.MaxUint16)), Millis: uint16(f.uint(kMs, math.MaxUint16))}
	r.Inst = f.uint32(kInst)
	r.PriceScale, r.SizeScale = uint8(f.uint(kPs, market.MaxScale)), uint8(f.uint(kSs, market.MaxScale))
	r.Sequence, r.State, r.N = f.sequence(), market.Live, f.uint32(kN)
	if f.has(kState) {
		r.State = f.state(kState)
	}
	r.How, r.Why = f.string(r.How, kHow, maxText), f.string(r.Why, kWhy, maxText)
}

func (m *Message) rowError(r *RowError) {
	f := &m.sub
	f.need(kCode)
	name := f.text(kCh, maxText)
	if _, ok := channelOf(name); ok {
		r.Unknown = ""
		f.topic(&r.Topic)
	} else {
		r.Unknown, r.Topic = string(name), Topic{Sym: f.string(r.Sym, kSym, maxSym)}
	}
	r.Code = Code(f.string(string(r.Code), kCode, maxText))
	r.Msg = f.string(r.Msg, kMsg, maxMsg)
}
