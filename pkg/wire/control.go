package wire

import (
	"strconv"

	"github.com/tickwire/tickwire/pkg/market"
)

// Subprotocols of the WebSocket. Control messages are JSON text frames in both; data is JSON text or SBE binary frames.
const (
	SubprotocolJSON = "tickwire.v1.json"
	SubprotocolSBE  = "tickwire.v1.sbe"
)

// Proto is the protocol's number in hello.
const Proto = 1

// Code names an error in a reply.
type Code string

// The error codes.
const (
	CodeBadJSON        Code = "bad_json"
	CodeUnknownOp      Code = "unknown_op"
	CodeBadRequest     Code = "bad_request"
	CodeUnknownSymbol  Code = "unknown_symbol"
	CodeUnknownChannel Code = "unknown_channel"
	CodeNotReady       Code = "not_ready"
	CodeBehind         Code = "behind"
	CodeTooManyTopics  Code = "too_many_topics"
	CodeRate           Code = "rate"
	CodeAuthRequired   Code = "auth_required"
	CodeAuthFailed     Code = "auth_failed"
	CodeAuthExpired    Code = "auth_expired"
	CodeForbidden      Code = "forbidden"
)

// Close codes of the WebSocket.
const (
	CloseGoingAway       = 1001
	ClosePolicy          = 1008
	CloseTooBig          = 1009
	CloseRestart         = 1012
	CloseAuthExpired     = 4001
	CloseRate            = 4002
	CloseTooManyTopics   = 4003
	CloseSlowConsumer    = 4008
	CloseNoSubscription  = 4009
	CloseConnectionLimit = 4029
)

// Topic is a channel of one instrument; Interval counts for bars alone and is 0 otherwise, so that topics compare.
type Topic struct {
	Channel  market.Channel
	Sym      string // or Wildcard
	Interval market.Interval
}

// Wildcard in place of a Sym means all instruments, now and later.
const Wildcard = "*"

// ID is the id of a request as JSON wrote it: a number or a quoted string. Replies echo it. Empty means none.
type ID string

// NumberID is the id that is a whole number.
func NumberID(n uint64) ID { return ID(strconv.FormatUint(n, 10)) }

// StringID is the id that is a string.
func StringID(s string) ID { return ID(appendString(nil, s)) }

// Hello is the server's first message.
type Hello struct {
	Proto  uint32
	Conn   string // names the connection in the server's logs
	Time   market.Time
	Limits Limits
	Resume Resume
	Auth   string // required, optional or none
}

// Limits says what a connection may do; 0 is left out and means no limit of its own.
type Limits struct {
	Topics uint32 // subscribed topics
	Frame  uint32 // bytes of a request
	Ops    uint32 // requests per second
}

// Resume says how far `from` reaches back; both 0 when it is not served.
type Resume struct {
	Msgs uint32 // messages per topic
	Ms   uint32 // milliseconds
}

// AppendHello appends m.
func AppendHello(dst []byte, m *Hello) []byte {
	dst = append(dst, `{"ev":"hello"`...)
	dst = appendUint(dst, `,"proto":`, uint64(m.Proto))
	dst = append(dst, `,"conn":`...)
	dst = appendString(dst, m.Conn)
	dst = appendMicros(dst, m.Time)
	dst = append(dst, `,"limits":{`...)
	n := len(dst)
	dst = appendUintUnless0(dst, `,"topics":`, uint64(m.Limits.Topics))
	dst = appendUintUnless0(dst, `,"frame":`, uint64(m.Limits.Frame))
	dst = appendUintUnless0(dst, `,"ops":`, uint64(m.Limits.Ops))
	if len(dst) > n { // the first has no comma
		dst = append(dst[:n], dst[n+1:]...)
	}
	dst = appendUint(dst, `},"resume":{"msgs":`, uint64(m.Resume.Msgs))
	dst = appendUint(dst, `,"ms":`, uint64(m.Resume.Ms))
	dst = append(dst, `},"auth":`...)
	dst = appendString(dst, m.Auth)
	return append(dst, '}')
}

// AppendHeartbeat appends the heartbeat, shared by all connections.
func AppendHeartbeat(dst []byte, now market.Time) []byte {
	dst = append(dst, `{"ev":"hb"`...)
	return append(appendMicros(dst, now), '}')
}

// AppendPong appends the reply to a ping.
func AppendPong(dst []byte, id ID, now market.Time) []byte {
	dst = appendID(dst, id)
	dst = append(dst, `,"ev":"pong"`...)
	return append(appendMicros(dst, now), '}')
}

// TopicStatus tells the subscribers of a topic its state: when it changes, and each 15 s while the topic is silent.
type TopicStatus struct {
	Topic
	State    market.State
	Why      market.Reason
	Sequence market.Sequence // the last one that the edge applied
	Time     market.Time
}

// AppendTopicStatusJSON appends m.
func AppendTopicStatusJSON(dst []byte, m *TopicStatus) []byte {
	dst = append(dst, `{"ev":"status"`...)
	dst = appendTopicKeys(dst, &m.Topic)
	dst = appendState(dst, m.State, m.Why)
	dst = appendEpSeq(dst, m.Sequence)
	return append(appendMicros(dst, m.Time), '}')
}

// AppendStanding begins an object with how a topic stands, m's Time left out. The caller adds what the topic holds, with a
// comma before it, and the closing brace.
func AppendStanding(dst []byte, m *TopicStatus) []byte {
	dst = appendObjectTopic(dst, 0, &m.Topic)
	dst = appendEpSeq(dst, m.Sequence)
	return appendState(dst, m.State, m.Why)
}

func appendState(dst []byte, s market.State, why market.Reason) []byte {
	dst = appendName(dst, `,"state":"`, s.String())
	if why != market.NoReason {
		dst = appendName(dst, `,"why":"`, why.String())
	}
	return dst
}

// Lag tells a client what was merged for it, at most once a second.
type Lag struct {
	Topics []Lagging
	Ms     uint32 // how far behind its oldest unsent message is
}

// Lagging is a topic that was merged.
type Lagging struct {
	Topic
	Merged uint64 // updates that were not sent by themselves
}

// AppendLag appends m.
func AppendLag(dst []byte, m *Lag) []byte {
	dst = append(dst, `{"ev":"lag","topics":[`...)
	for i := range m.Topics {
		dst = appendObjectTopic(dst, i, &m.Topics[i].Topic)
		dst = appendUint(dst, `,"merged":`, m.Topics[i].Merged)
		dst = append(dst, '}')
	}
	dst = appendUint(dst, `],"ms":`, uint64(m.Ms))
	return append(dst, '}')
}

// Drain asks clients to connect elsewhere: the server closes within the deadline, clients come back after a random time
// between the two retry times.
type Drain struct {
	DeadlineMs uint32
	RetryMs    [2]uint32
}

// AppendDrain appends m.
func AppendDrain(dst []byte, m *Drain) []byte {
	dst = appendUint(dst, `{"ev":"drain","deadline_ms":`, uint64(m.DeadlineMs))
	dst = appendUint(dst, `,"retry_ms":[`, uint64(m.RetryMs[0]))
	dst = appendUint(dst, `,`, uint64(m.RetryMs[1]))
	return append(dst, `]}`...)
}

// Unsub tells a client that the server ended a subscription.
type Unsub struct {
	Topic
	Why string // a Code: forbidden or too_many_topics
}

// AppendUnsub appends m.
func AppendUnsub(dst []byte, m *Unsub) []byte {
	dst = append(dst, `{"ev":"unsub","why":`...)
	dst = appendString(dst, m.Why)
	return append(appendTopicKeys(dst, &m.Topic), '}')
}

// Auth tells a client something about its token.
type Auth struct {
	Why     string      // WhyExpiring
	Expires market.Time // when the connection will be closed, unless a new token comes
	Time    market.Time
}

// WhyExpiring says that the token's time is almost over.
const WhyExpiring = "expiring"

// AppendAuth appends m.
func AppendAuth(dst []byte, m *Auth) []byte {
	dst = append(dst, `{"ev":"auth","why":`...)
	dst = appendString(dst, m.Why)
	dst = append(dst, `,"exp":`...)
	dst = strconv.AppendInt(dst, m.Expires.Micros(), 10)
	return append(appendMicros(dst, m.Time), '}')
}

// How a subscription begins, and why by a snapshot.
const (
	HowSnapshot = "snapshot"
	HowReplay   = "replay"

	WhyNew       = "new"         // no from
	WhyGapTooOld = "gap_too_old" // from is out of the ring's reach
	WhyEpoch     = "epoch"       // another numbering
	WhyView      = "view"        // a view can't be replayed
)

// Ack is the reply to a request that was understood: a row for each topic, among the good or among the bad.
type Ack struct {
	ID     ID
	OK     []Row
	Errs   []RowError
	Window uint32 // of a flow request; 0 otherwise
}

// Row says how a topic of a request stands now. Rows of list also say the view.
type Row struct {
	Topic
	View       market.View // of a book
	Inst       uint32
	PriceScale uint8
	SizeScale  uint8
	Sequence   market.Sequence
	State      market.State
	How        string // empty in replies that begin nothing
	Why        string
	N          uint32 // of a wildcard: how many instruments it means now
}

// RowError says why a topic of a request was refused.
type RowError struct {
	Topic
	Unknown string // the channel as the client wrote it, when there is none of that name; Topic.Channel doesn't count then
	Code    Code
	Msg     string
}

// AppendAck appends m. Rows of unsub are topics alone: they have no instrument number.
func AppendAck(dst []byte, m *Ack) []byte {
	dst = appendID(dst, m.ID)
	dst = append(dst, `,"ok":[`...)
	for i := range m.OK {
		dst = appendRow(dst, i, &m.OK[i])
	}
	dst = append(dst, ']')
	if len(m.Errs) > 0 {
		dst = append(dst, `,"err":[`...)
		for i := range m.Errs {
			dst = appendRowError(dst, i, &m.Errs[i])
		}
		dst = append(dst, ']')
	}
	dst = appendUintUnless0(dst, `,"window":`, uint64(m.Window))
	return append(dst, '}')
}

func appendRow(dst []byte, i int, r *Row) []byte {
	dst = appendObjectTopic(dst, i, &r.Topic)
	if r.Channel == market.Books && r.Inst != 0 {
		dst = appendView(dst, r.View)
	}
	switch {
	case r.Sym == Wildcard && (r.N > 0 || r.How != ""):
		dst = appendUint(dst, `,"n":`, uint64(r.N))
	case r.Inst != 0:
		dst = appendUint(dst, `,"inst":`, uint64(r.Inst))
		dst = appendUint(dst, `,"ps":`, uint64(r.PriceScale))
		dst = appendUint(dst, `,"ss":`, uint64(r.SizeScale))
		dst = appendEpSeq(dst, r.Sequence)
		dst = appendName(dst, `,"state":"`, r.State.String())
	}
	if r.How != "" {
		dst = append(dst, `,"how":`...)
		dst = appendString(dst, r.How)
	}
	if r.Why != "" {
		dst = append(dst, `,"why":`...)
		dst = appendString(dst, r.Why)
	}
	return append(dst, '}')
}

func appendRowError(dst []byte, i int, r *RowError) []byte {
	if r.Unknown != "" {
		dst = appendComma(dst, i)
		dst = append(dst, `{"ch":`...)
		dst = appendString(dst, r.Unknown)
		dst = append(dst, `,"sym":`...)
		dst = appendString(dst, r.Sym)
	} else {
		dst = appendObjectTopic(dst, i, &r.Topic)
	}
	return append(appendCode(dst, r.Code, r.Msg), '}')
}

// Error is the reply to a request that was refused as a whole.
type Error struct {
	ID   ID // empty when the request had none that could be read
	Code Code
	Msg  string
}

// AppendError appends m.
func AppendError(dst []byte, m *Error) []byte {
	dst = appendID(dst, m.ID)
	dst = append(dst, `,"err":{`...)
	n := len(dst)
	dst = appendCode(dst, m.Code, m.Msg)
	dst = append(dst[:n], dst[n+1:]...) // the first has no comma
	return append(dst, `}}`...)
}

func appendCode(dst []byte, code Code, msg string) []byte {
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(code))
	dst = append(dst, `,"msg":`...)
	return appendString(dst, msg)
}

func appendID(dst []byte, id ID) []byte {
	dst = append(dst, `{"id":`...)
	if id == "" {
		return append(dst, `null`...)
	}
	return append(dst, id...)
}

// appendTopicKeys appends a topic's keys with a comma before each.
func appendTopicKeys(dst []byte, t *Topic) []byte {
	dst = appendName(dst, `,"ch":"`, t.Channel.String())
	dst = append(dst, `,"sym":`...)
	dst = appendString(dst, t.Sym)
	if t.Channel == market.Bars {
		dst = appendName(dst, `,"iv":"`, t.Interval.String())
	}
	return dst
}

// appendObjectTopic begins the i-th object of an array with a topic's keys.
func appendObjectTopic(dst []byte, i int, t *Topic) []byte {
	dst = appendComma(dst, i)
	n := len(dst)
	dst = appendTopicKeys(dst, t)
	dst[n] = '{' // in place of the comma
	return dst
}

func appendComma(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return dst
}

func appendView(dst []byte, v market.View) []byte {
	dst = appendUint(dst, `,"depth":`, uint64(v.Depth))
	return appendUintUnless0(dst, `,"ms":`, uint64(v.Millis))
}

func appendEpSeq(dst []byte, s market.Sequence) []byte {
	dst = appendUint(dst, `,"ep":`, uint64(s.Epoch))
	return appendUint(dst, `,"seq":`, s.Seq)
}

func appendMicros(dst []byte, t market.Time) []byte {
	dst = append(dst, `,"ts":`...)
	return strconv.AppendInt(dst, t.Micros(), 10)
}

func appendUint(dst []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(dst, key...), v, 10)
}

func appendUintUnless0(dst []byte, key string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return appendUint(dst, key, v)
}
