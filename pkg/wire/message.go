package wire

import (
	"errors"

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
	KindAuth
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
	Auth        Auth
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
	kTS
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
	kExp
)

var messageKeys = makeKeyset([]string{
	"ch", "ev", "sym", "iv", "t", "depth", "ms", "ep", "prev", "seq", "part", "of", "h", "ts", "in", "out",
	"price", "size", "side", "id", "why", "missed", "b", "a", "o", "l", "c", "v", "q", "n", "final", "rev", "inc", "last",
	"state", "book", "inst", "ps", "ss", "tick", "source", "symbol",
	"ok", "err", "code", "msg", "how", "merged", "topics", "limits", "resume", "proto", "conn", "auth",
	"deadline_ms", "retry_ms", "msgs", "frame", "ops", "window", "exp",
})

const (
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
