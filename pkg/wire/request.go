package wire

import (
	"errors"
	"math"
	"strconv"
	"sync"

	"github.com/tickwire/tickwire/pkg/market"
)

// Op is what a request asks for.
type Op uint8

// The ops.
const (
	OpSub Op = iota
	OpUnsub
	OpResync
	OpList
	OpPing
	OpAuth
	OpFlow
	OpAck
)

var opNames = [...]string{"sub", "unsub", "resync", "list", "ping", "auth", "flow", "ack"}

// String returns the op's name on the wire.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Mode is what happens to a subscription whose client reads slowly.
type Mode uint8

// The modes.
const (
	Conflate Mode = iota // the newest state; trades and bars say what is missing
	Lossless             // every message, or the connection ends
)

var modeNames = [...]string{"conflate", "lossless"}

// String returns the mode's name on the wire.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// Bounds of what a request may ask for.
const (
	MinWindow  = 4 << 10
	MaxWindow  = 1 << 20
	MaxLast    = 1000 // trades
	MaxHistory = 2048 // bars
	maxID      = 64
	maxToken   = 8 << 10
)

// Request is what a client sends.
type Request struct {
	ID     ID
	Op     Op
	Mode   Mode // of sub
	Topics []TopicRequest
	Token  string // of auth
	Window uint32 // of flow
	Bytes  uint64 // of ack: how many payload bytes the client has handled since flow began
}

// TopicRequest is a topic of a sub, unsub or resync. Only a sub may say more than the topic itself.
type TopicRequest struct {
	Topic
	Unknown string          // the channel as written when there is none of that name; Topic.Channel doesn't count then
	View    market.View     // of a book
	From    market.Sequence // of a book, trades or bars: the last one that the client has; the zero Sequence is none
	Last    uint32          // of trades: that many of the newest first
	History uint32          // of bars: that many closed bars first
}

// RequestError is a request refused: Code and Msg go back to the client.
type RequestError struct {
	Code Code
	Msg  string
}

func (e *RequestError) Error() string { return "wire: " + string(e.Code) + ": " + e.Msg }

// Keys of requests and of their topics.
const (
	rID = iota
	rOp
	rMode
	rTopics
	rToken
	rWindow
	rBytes
	rCh
	rSym
	rIv
	rDepth
	rMs
	rFrom
	rLast
	rHistory
	rEp
	rSeq
)

var requestKeys = makeKeyset([]string{
	"id", "op", "mode", "topics", "token", "window", "bytes",
	"ch", "sym", "iv", "depth", "ms", "from", "last", "history", "ep", "seq",
})

// allowedKeys says which keys each op takes.
var allowedKeys = [...]uint64{
	OpSub:    1<<rID | 1<<rOp | 1<<rMode | 1<<rTopics,
	OpUnsub:  1<<rID | 1<<rOp | 1<<rTopics,
	OpResync: 1<<rID | 1<<rOp | 1<<rTopics,
	OpList:   1<<rID | 1<<rOp,
	OpPing:   1<<rID | 1<<rOp,
	OpAuth:   1<<rID | 1<<rOp | 1<<rToken,
	OpFlow:   1<<rID | 1<<rOp | 1<<rWindow,
	OpAck:    1<<rID | 1<<rOp | 1<<rBytes,
}

const topicKeys = 1<<rCh | 1<<rSym | 1<<rIv

// subKeys says which keys a topic of each channel takes in a sub.
var subKeys = [market.NumChannels]uint64{
	market.Books:    1<<rCh | 1<<rSym | 1<<rDepth | 1<<rMs | 1<<rFrom,
	market.BBOs:     1<<rCh | 1<<rSym,
	market.Trades:   1<<rCh | 1<<rSym | 1<<rFrom | 1<<rLast,
	market.Tickers:  1<<rCh | 1<<rSym,
	market.Bars:     1<<rCh | 1<<rSym | 1<<rIv | 1<<rFrom | 1<<rHistory,
	market.Statuses: 1<<rCh | 1<<rSym,
}

// requestDecoder is the memory for reading a request.
type requestDecoder struct {
	scan, list, from scanner
	f, topic, place  fields
}

var requestDecoders = sync.Pool{New: func() any { return new(requestDecoder) }}

// DecodeRequest reads a request strictly: unknown and repeated fields, wrong types and values out of range are refused by a
// *RequestError that names the field. After an error r.ID is the request's id when it could be read. A channel of an unknown
// name is not an error of the whole request: see TopicRequest.Unknown. The topics reuse the memory of r.
func DecodeRequest(b []byte, r *Request) error {
	d := requestDecoders.Get().(*requestDecoder)
	defer requestDecoders.Put(d)
	*r = Request{Topics: r.Topics[:0]}
	f := &d.f
	f.reset(requestKeys, "")
	d.scan.reset(b)
	if !d.scan.object(f) || !d.scan.end() {
		return &RequestError{CodeBadJSON, "not a JSON object"}
	}
	if r.ID = requestID(f); f.err != nil {
		return refuse(f.err)
	}
	if err := d.op(r); err != nil {
		return err
	}
	d.strict(f, allowedKeys[r.Op])
	d.body(r)
	return refuse(f.err)
}

// refuse turns an error about a field into a reply.
func refuse(err error) error {
	if err == nil {
		return nil
	}
	msg := err.Error()
	if fe := (*FieldError)(nil); errors.As(err, &fe) {
		msg = fe.Field + ": " + fe.Msg
	}
	return &RequestError{CodeBadRequest, msg}
}

func requestID(f *fields) ID {
	if !f.has(rID) {
		return ""
	}
	t := &f.tokens[rID]
	if t.kind != '0' && t.kind != '"' || len(t.raw) > maxID {
		f.fail(rID, "not a number or string of at most "+strconv.Itoa(maxID)+" bytes")
		return ""
	}
	return ID(t.raw)
}

func (d *requestDecoder) op(r *Request) error {
	f := &d.f
	f.need(rOp)
	name := f.text(rOp, maxText)
	if f.err != nil {
		return refuse(f.err)
	}
	for i, n := range opNames {
		if n == string(name) {
			r.Op = Op(i)
			return nil
		}
	}
	return &RequestError{CodeUnknownOp, "unknown op " + strconv.QuoteToASCII(string(name[:min(len(name), 40)]))}
}

// strict refuses fields that are unknown, repeated or out of place.
func (d *requestDecoder) strict(f *fields, allowed uint64) {
	switch {
	case f.err != nil:
	case f.unknown != nil:
		name := string(f.unknown[:min(len(f.unknown), 40)])
		f.err = &FieldError{Field: f.name(strconv.QuoteToASCII(name)), Msg: "unknown field"}
	case f.twice >= 0:
		f.fail(f.twice, "given twice")
	case f.seen&^allowed != 0:
		for key := range requestKeys.names {
			if (f.seen&^allowed)>>key&1 == 1 {
				f.fail(key, "not allowed here")
				return
			}
		}
	}
}

// body reads what the op takes.
func (d *requestDecoder) body(r *Request) {
	f := &d.f
	if r.Op != OpAck {
		f.need(rID)
	}
	switch r.Op {
	case OpSub:
		r.Mode = d.mode()
		d.topics(r)
	case OpUnsub, OpResync:
		d.topics(r)
	case OpAuth:
		f.need(rToken)
		r.Token = string(f.text(rToken, maxToken))
	case OpFlow:
		f.need(rWindow)
		if r.Window = uint32(f.uint(rWindow, MaxWindow)); r.Window < MinWindow {
			f.fail(rWindow, "not a whole number from "+strconv.Itoa(MinWindow)+" to "+strconv.Itoa(MaxWindow))
		}
	case OpAck:
		f.need(rBytes)
		r.Bytes = f.uint(rBytes, math.MaxInt64)
	}
}

func (d *requestDecoder) mode() Mode {
	f := &d.f
	if !f.has(rMode) {
		return Conflate
	}
	name := f.text(rMode, maxText)
	for i, n := range modeNames {
		if n == string(name) {
			return Mode(i)
		}
	}
	f.fail(rMode, "neither conflate nor lossless")
	return Conflate
}

func (d *requestDecoder) topics(r *Request) {
	f, s := &d.f, &d.list
	f.need(rTopics)
	if f.err != nil {
		return
	}
	s.reset(f.tokens[rTopics].raw)
	s.expect('[')
	for i := 0; !s.failed && s.next(']', i == 0); i++ {
		d.topic.reset(requestKeys, "")
		if !s.object(&d.topic) {
			break
		}
		var t TopicRequest
		d.oneTopic(r, &t)
		if d.topic.err != nil {
			var fe *FieldError
			if errors.As(d.topic.err, &fe) {
				fe.Field = "topics[" + strconv.Itoa(i) + "]." + fe.Field
			}
			f.err = d.topic.err
			return
		}
		r.Topics = append(r.Topics, t)
	}
	switch {
	case s.failed:
		f.fail(rTopics, "not a list of objects")
	case len(r.Topics) == 0:
		f.fail(rTopics, "empty")
	}
}

func (d *requestDecoder) oneTopic(r *Request, t *TopicRequest) {
	f := &d.topic
	f.need(rCh, rSym)
	name := f.text(rCh, maxText)
	t.Sym = string(f.text(rSym, maxSym))
	if f.err == nil && t.Sym == "" {
		f.fail(rSym, "empty")
	}
	ch, known := channelOf(name)
	if !known {
		if f.err == nil {
			t.Unknown = string(name)
		}
		if t.Unknown == "" {
			f.fail(rCh, "empty")
		}
		return
	}
	t.Channel = ch
	allowed := subKeys[ch]
	if r.Op != OpSub {
		allowed &= topicKeys
	}
	d.strict(f, allowed)
	if ch == market.Bars {
		t.Interval = f.interval(rIv)
	}
	if t.Sym == Wildcard && ch != market.BBOs && ch != market.Tickers {
		f.fail(rSym, "* is for bbo and ticker")
	}
	t.View = market.View{
		Depth:  f.oneOf(rDepth, 0, 10, 25, 50, 100),
		Millis: f.oneOf(rMs, 0, 100, 250, 1000),
	}
	t.Last, t.History = uint32(f.uint(rLast, MaxLast)), uint32(f.uint(rHistory, MaxHistory))
	t.From = d.sequence(f)
}

// oneOf reads a number that must be one of a few; an absent one is 0.
func (f *fields) oneOf(key int, values ...uint16) uint16 {
	v := uint16(f.uint(key, math.MaxUint16))
	for _, allowed := range values {
		if v == allowed {
			return v
		}
	}
	msg := "not one of"
	for _, allowed := range values {
		msg += " " + strconv.Itoa(int(allowed))
	}
	f.fail(key, msg)
	return 0
}

// sequence reads from; an absent one is the zero Sequence.
func (d *requestDecoder) sequence(f *fields) (s market.Sequence) {
	if !f.has(rFrom) || f.err != nil {
		return s
	}
	p := &d.place
	p.reset(requestKeys, "from")
	d.from.reset(f.tokens[rFrom].raw)
	if !d.from.object(p) {
		f.fail(rFrom, "not an object")
		return s
	}
	d.strict(p, 1<<rEp|1<<rSeq)
	p.need(rEp, rSeq)
	s = market.Sequence{Epoch: uint32(p.uint(rEp, math.MaxUint32)), Seq: p.uint(rSeq, math.MaxUint64)}
	if p.err == nil && s.Epoch == 0 {
		p.fail(rEp, "0")
	}
	f.err = p.err
	return s
}

// AppendRequest appends r in its shortest form.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = appendName(dst, `{"op":"`, r.Op.String())
	if r.ID != "" {
		dst = append(dst, `,"id":`...)
		dst = append(dst, r.ID...)
	}
	switch r.Op {
	case OpSub:
		if r.Mode != Conflate {
			dst = appendName(dst, `,"mode":"`, r.Mode.String())
		}
		dst = appendTopics(dst, r)
	case OpUnsub, OpResync:
		dst = appendTopics(dst, r)
	case OpAuth:
		dst = append(dst, `,"token":`...)
		dst = appendString(dst, r.Token)
	case OpFlow:
		dst = appendUint(dst, `,"window":`, uint64(r.Window))
	case OpAck:
		dst = appendUint(dst, `,"bytes":`, r.Bytes)
	}
	return append(dst, '}')
}

func appendTopics(dst []byte, r *Request) []byte {
	dst = append(dst, `,"topics":[`...)
	for i := range r.Topics {
		t := &r.Topics[i]
		if t.Unknown != "" {
			dst = appendComma(dst, i)
			dst = append(dst, `{"ch":`...)
			dst = appendString(dst, t.Unknown)
			dst = append(dst, `,"sym":`...)
			dst = append(appendString(dst, t.Sym), '}')
			continue
		}
		dst = appendObjectTopic(dst, i, &t.Topic)
		if r.Op == OpSub {
			dst = appendOptions(dst, t)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendOptions appends what a topic of a sub says beyond the topic.
func appendOptions(dst []byte, t *TopicRequest) []byte {
	if t.Channel == market.Books {
		dst = appendView(dst, t.View)
	}
	dst = appendUintUnless0(dst, `,"last":`, uint64(t.Last))
	dst = appendUintUnless0(dst, `,"history":`, uint64(t.History))
	if t.From != (market.Sequence{}) {
		dst = appendUint(dst, `,"from":{"ep":`, uint64(t.From.Epoch))
		dst = appendUint(dst, `,"seq":`, t.From.Seq)
		dst = append(dst, '}')
	}
	return dst
}
