package wire

import (
	"errors"
	"math"
	"strconv"

	"github.com/tickwire/tickwire/pkg/market"
)

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
		f.need(kTS)
		m.Time = f.time(kTS)
		return KindHeartbeat, nil
	case "status":
		f.need(kEp, kSeq, kTS)
		s := &m.TopicStatus
		f.topic(&s.Topic)
		s.State, s.Why, s.Sequence, s.Time = f.state(kState), m.why(), f.sequence(), f.time(kTS)
		return KindTopicStatus, nil
	case "pong":
		f.need(kTS)
		m.ID, m.Time = f.id(m.ID), f.time(kTS)
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
	case "auth":
		f.need(kExp, kTS)
		a := &m.Auth
		a.Why, a.Expires, a.Time = f.string(a.Why, kWhy, maxText), f.time(kExp), f.time(kTS)
		return KindAuth, nil
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
	f.need(kProto, kTS)
	h.Proto, h.Conn, h.Time = f.uint32(kProto), f.string(h.Conn, kConn, maxText), f.time(kTS)
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
