package ws

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/door"
	"github.com/tickwire/tickwire/services/internal/mirror"
)

// session is one client. What is not guarded belongs to the goroutine that reads.
type session struct {
	s      *Server
	socket socket
	conn   *fanout.Conn
	ops    door.Bucket // requests

	place door.Place                    // counted for it
	index int32                         // in Server.sessions, guarded by its mutex
	why   atomic.Int32                  // close code that this edge began with; 0 when it did not
	left  atomic.Pointer[chan struct{}] // see gone

	alone   moment // since when the client has had no subscription; the sweep's own
	format  fanout.Format
	greeted bool  // hello has been said; guarded by mu, like turn and over
	turn    uint8 // the second of pingEvery at which it is pinged
	over    bool  // the connection is being closed

	mu     sync.Mutex
	topics topics
	identity
}

// moment is a time by the server's clock as a connection keeps it: in tenths of a second, and good for ten years. Zero is
// never.
type moment uint32

const tenth = 100 * time.Millisecond

func momentOf(now time.Duration) moment { return moment(now/tenth + 1) } //nolint:gosec // see there

func (m moment) since(earlier moment) time.Duration {
	return time.Duration(int64(m)-int64(earlier)) * tenth
}

func newSession(s *Server, v *visitor, t terms, early []byte) *session {
	c := &session{
		s: s, place: v.place, format: mirror.JSON,
		ops:      door.Bucket{Rate: float32(s.cfg.Ops), Burst: float32(s.cfg.OpsBurst)},
		identity: v.who,
	}
	if v.who.party == nil { // otherwise the subject's bucket counts, if it has one
		c.ops = s.bucket(c.opsRate())
	}
	if t.protocol == wire.SubprotocolSBE {
		c.format = mirror.SBE
	}
	c.socket.Conn, c.socket.session, c.socket.guard = v.conn, c, newGuard(&s.bounds)
	c.socket.guard.deflate = t.deflate
	c.socket.raw = rawConn(v.conn)
	c.socket.early(early)
	c.socket.heard.Store(uint32(momentOf(s.now())))
	return c
}

// begin takes the writing side over from gws.
func (c *session) begin() error {
	conn, err := c.s.hub.Attach(fanout.NewWriter(c.socket.Conn), c)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.socket.guard.deflate {
		conn.Deflate()
	}
	c.s.greet(c, c.s.add(c))
	if c.s.draining.Load() {
		c.part(wire.CloseRestart, "the server restarts")
	}
	return nil
}

// greet says hello, and lets heartbeats and pings flow.
func (c *session) greet(number uint64) {
	c.text(func(dst []byte) []byte {
		return wire.AppendHello(dst, &wire.Hello{
			Proto: wire.Proto, Conn: strconv.FormatUint(number, 36), Time: market.FromTime(time.Now()),
			Limits: c.limits(),
			Resume: wire.Resume{Msgs: uint32(c.s.cfg.Mirror.RingEntries), Ms: uint32(c.s.cfg.Mirror.RingAge.Milliseconds())},
			Auth:   c.s.access.Mode().String(),
		})
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeted, c.turn = true, uint8(number%uint64(pingEvery/time.Second)) //nolint:gosec // less than a minute
}

// beat has a heartbeat sent, and a ping when it is the client's turn. The sweep calls it each second.
func (c *session) beat(second int) {
	c.mu.Lock()
	greeted, turn := c.greeted, c.turn
	c.mu.Unlock()
	if !greeted {
		return
	}
	c.conn.Beat(fanout.Heartbeat)
	if second%int(pingEvery/time.Second) == int(turn) {
		c.conn.Beat(fanout.Pulse)
	}
}

// served cleans up when reading has ended.
func (c *session) served() {
	if r := recover(); r != nil {
		c.failed(r)
	}
	c.end()
	c.s.running.Done()
}

// failed ends the connection after a panic where its client's bytes were handled, and no other.
func (c *session) failed(r any) {
	c.s.metrics.panics.Inc()
	c.s.log.Error("reading from a client", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
	c.conn.Abort()
}

// end waits for the farewell to be written, closes the transport and gives everything back.
func (c *session) end() {
	c.conn.Close(nil)
	gone, timer := c.gone(), time.NewTimer(closeTimeout)
	select {
	case <-gone:
	case <-timer.C:
		c.conn.Abort()
		<-gone
	}
	timer.Stop()
	linger(c.socket.Conn)
	_ = c.socket.Conn.Close() // everything that could be said has been
	c.mu.Lock()
	c.topics.endAll()
	c.mu.Unlock()
	c.s.metrics.closed(int(c.why.Load()))
	c.s.remove(c)
	c.s.crowd.Leave(c.place, true)
	c.s.access.Leave(c.party)
}

// violated ends the connection because of what the guard has seen.
func (c *session) violated(v *violation) {
	c.s.metrics.violations.Inc()
	if c.conn != nil {
		c.part(v.code, v.reason)
	}
}

// check ends the connection if its time is up. The sweep calls it.
func (c *session) check(now time.Duration) {
	began, at := moment(c.socket.began.Load()), momentOf(now)
	switch {
	case began != 0 && at.since(began) > messageTimeout:
		c.bye(closePolicy, "a message took too long")
	case at.since(moment(c.socket.heard.Load())) > idleTimeout:
		c.bye(closePolicy, "pings were not answered")
	case c.lonely(at):
		c.bye(wire.CloseNoSubscription, "no subscription")
	}
}

// lonely tells whether the client has had no subscription for too long.
func (c *session) lonely(now moment) bool {
	c.mu.Lock()
	n := c.topics.len()
	c.mu.Unlock()
	switch {
	case c.s.cfg.Idle == 0 || n > 0:
		c.alone = 0
	case c.alone == 0:
		c.alone = now
	default:
		return now.since(c.alone) >= c.s.cfg.Idle
	}
	return false
}

// faulted notes the close code that gws answers with, if it is for a fault of the client's. Others are an answer to the
// client's own farewell, or to its silence.
func (c *session) faulted(code int32) {
	switch code {
	case closeProtocol, closeText, closeTooBig:
		c.why.CompareAndSwap(0, code)
	}
}

// part says why the connection ends.
func (c *session) part(code int, reason string) {
	c.why.CompareAndSwap(0, int32(code)) //nolint:gosec // a close code
	c.conn.Close(closeFrame(code, reason))
}

// bye says why the connection ends, and waits for the peer's farewell no longer than usual, whether or not it takes ours.
func (c *session) bye(code int, reason string) {
	c.part(code, reason)
	_ = c.socket.Conn.SetReadDeadline(time.Now().Add(closeTimeout)) // on a dead connection, reading has ended
}

// Lag implements fanout.Events.
func (c *session) Lag(topics []fanout.Lagged, behind time.Duration) *fanout.Frame {
	m := wire.Lag{Topics: make([]wire.Lagging, 0, len(topics)), Ms: uint32(behind.Milliseconds())}
	for _, t := range topics {
		if topic, ok := mirror.TopicOf(t.Label); ok {
			m.Topics = append(m.Topics, wire.Lagging{Topic: topic, Merged: uint64(t.Merged)})
		}
	}
	if len(m.Topics) == 0 {
		return nil
	}
	c.s.metrics.lag.Observe(behind.Seconds())
	return fanout.NewFrame(fanout.Text, wire.AppendLag(nil, &m))
}

// Slow implements fanout.Events.
func (c *session) Slow() *fanout.Frame {
	c.why.CompareAndSwap(0, wire.CloseSlowConsumer)
	return closeFrame(wire.CloseSlowConsumer, "the client does not keep up")
}

// gone is closed when the farewell is said, or the transport dead. It is made when somebody first waits for it.
func (c *session) gone() <-chan struct{} {
	if made := make(chan struct{}); c.left.CompareAndSwap(nil, &made) {
		return made
	}
	return *c.left.Load()
}

// said is a farewell that nobody waited for.
var said = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Closed implements fanout.Events.
func (c *session) Closed(err error) {
	if errors.Is(err, fanout.ErrSlow) {
		c.why.CompareAndSwap(0, wire.CloseSlowConsumer)
	}
	if !c.left.CompareAndSwap(nil, &said) {
		close(*c.left.Load())
	}
	_ = c.socket.Conn.SetReadDeadline(time.Now().Add(closeTimeout)) // on a dead connection, reading has ended
}

// text sends a control message.
func (c *session) text(encode func(dst []byte) []byte) {
	b := scratches.Get().(*[]byte)
	*b = encode((*b)[:0])
	c.conn.Send(fanout.NewFrame(fanout.Text, *b)) // a copy
	if cap(*b) <= maxScratch {
		scratches.Put(b)
	}
}

// scratches are for encoding. What acknowledgements took anew was most of what a storm of clients left to the collector.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the size above which a buffer is not kept for others.
const maxScratch = 64 << 10

// handler is what gws calls. The session hangs on the connection.
type handler struct{ gws.BuiltinEventHandler }

// OnPing implements gws.Event.
func (handler) OnPing(ws *gws.Conn, payload []byte) {
	ws.NetConn().(*socket).session.conn.SendPing(fanout.NewFrame(fanout.Pong, payload))
}

// OnMessage implements gws.Event.
func (handler) OnMessage(ws *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }() // gives the buffer back, and never fails
	c := ws.NetConn().(*socket).session
	c.s.workers.answer(c, m)
	c.prove()
}

// answer answers one message of the client, on a worker.
func (c *session) answer(m *gws.Message) {
	defer func() {
		if r := recover(); r != nil {
			c.failed(r)
		}
	}()
	c.message(m.Opcode == gws.OpcodeText, m.Bytes())
}

var requests = sync.Pool{New: func() any { return new(wire.Request) }}

// message answers one message of the client.
func (c *session) message(text bool, b []byte) {
	r := requests.Get().(*wire.Request)
	defer requests.Put(r)
	err := wire.DecodeRequest(b, r)
	if err == nil && text && r.Op == wire.OpAck {
		c.ack(r)
		return
	}
	if !c.takeOp(time.Now()) {
		c.tooFast(r.ID)
		return
	}
	c.s.metrics.requests.Inc()
	var refused *wire.RequestError
	switch {
	case !text:
		c.refuse(r.ID, wire.CodeBadRequest, "requests are text messages")
	case err == nil:
		c.do(r)
	case errors.As(err, &refused):
		c.refuse(r.ID, refused.Code, refused.Msg)
	default:
		c.refuse(r.ID, wire.CodeBadJSON, err.Error())
	}
}

// tooFast refuses a request beyond the rate; a client that goes on regardless is closed.
func (c *session) tooFast(id wire.ID) {
	if !c.mayErr() {
		c.part(wire.CloseRate, "too many requests")
		return
	}
	c.refuse(id, wire.CodeRate, "too many requests per second")
}

// mayErr tells whether a client that makes mistakes is told so once more.
func (c *session) mayErr() bool { return c.socket.guard.patient().errs.Take(time.Now()) }

func (c *session) refuse(id wire.ID, code wire.Code, msg string) {
	c.s.metrics.errors.WithLabelValues(string(code)).Inc()
	c.text(func(dst []byte) []byte { return wire.AppendError(dst, &wire.Error{ID: id, Code: code, Msg: msg}) })
}

func (c *session) do(r *wire.Request) {
	if code, msg := c.mayAsk(r.Op); code != "" {
		c.refuse(r.ID, code, msg)
		return
	}
	switch r.Op {
	case wire.OpSub:
		c.subscribe(r)
	case wire.OpUnsub:
		c.unsubscribe(r)
	case wire.OpResync:
		c.resync(r)
	case wire.OpList:
		c.list(r)
	case wire.OpPing:
		c.text(func(dst []byte) []byte { return wire.AppendPong(dst, r.ID, market.FromTime(time.Now())) })
	case wire.OpAuth:
		c.introduce(r)
	case wire.OpFlow:
		ack := wire.AppendAck(nil, &wire.Ack{ID: r.ID, Window: r.Window})
		c.conn.SetWindow(int(r.Window), fanout.NewFrame(fanout.Text, ack))
	}
}

func (c *session) reply(a *wire.Ack) {
	c.text(func(dst []byte) []byte { return wire.AppendAck(dst, a) })
}

func (c *session) ack(r *wire.Request) {
	err := c.conn.Ack(int64(min(r.Bytes, math.MaxInt64)))
	switch {
	case err == nil:
	case errors.Is(err, fanout.ErrAck) && c.takeOp(time.Now()):
		c.refuse(r.ID, wire.CodeBadRequest, "acknowledges more than was sent, or there is no window")
	default:
		c.tooFast(r.ID)
	}
}

// subscribe registers everything first, then acknowledges, and only then lets messages flow, so that the client reads the
// acknowledgement before them.
func (c *session) subscribe(r *wire.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := borrowAnswer(r)
	defer a.giveBack()
	ack := &a.ack
	c.topics.grow(min(len(r.Topics), c.s.cfg.MaxTopics-c.topics.len()))
	for i := range r.Topics {
		t := &r.Topics[i]
		s, row, err := c.open(t, r.Mode == wire.Lossless)
		if err != nil {
			c.s.metrics.errors.WithLabelValues(string(err.Code)).Inc()
			ack.Errs = append(ack.Errs, *err)
			continue
		}
		ack.OK = append(ack.OK, row)
		if s != nil {
			a.begun = append(a.begun, s)
		}
	}
	c.reply(ack)
	for _, s := range a.begun {
		s.Go()
	}
}

// answer is what a request to subscribe brings about. It is borrowed, like a scratch.
type answer struct {
	ack   wire.Ack
	begun []subscription
}

var answers = sync.Pool{New: func() any { return new(answer) }}

func borrowAnswer(r *wire.Request) *answer {
	a := answers.Get().(*answer)
	a.ack.ID = r.ID
	return a
}

// maxRows is the number of topics above which an answer is not kept for others.
const maxRows = 256

func (a *answer) giveBack() {
	if cap(a.ack.OK) > maxRows || cap(a.ack.Errs) > maxRows {
		return
	}
	clear(a.ack.OK)
	clear(a.ack.Errs)
	clear(a.begun)
	a.ack, a.begun = wire.Ack{OK: a.ack.OK[:0], Errs: a.ack.Errs[:0]}, a.begun[:0]
	answers.Put(a)
}

// open registers a subscription; it is nil when the client has just that already.
func (c *session) open(t *wire.TopicRequest, lossless bool) (subscription, wire.Row, *wire.RowError) {
	if t.Unknown != "" {
		return nil, wire.Row{}, &wire.RowError{Topic: t.Topic, Unknown: t.Unknown, Code: wire.CodeUnknownChannel, Msg: "there is no such channel"}
	}
	if err := c.forbidden(t); err != nil {
		return nil, wire.Row{}, err
	}
	old := c.topics.find(&t.Topic)
	if old == nil && c.topics.len() >= c.maxTopics() {
		return nil, wire.Row{}, &wire.RowError{
			Topic: t.Topic, Code: wire.CodeTooManyTopics, Msg: fmt.Sprintf("at most %d topics per connection", c.maxTopics()),
		}
	}
	if old != nil && (t.From == market.Sequence{}) {
		if _, view, mode := asked(old); view == t.View && mode == lossless {
			return nil, c.repeat(old), nil
		}
	}
	s, row, err := c.register(t, lossless)
	if err != nil {
		return nil, row, err
	}
	if old != nil {
		c.topics.end(old)
	}
	c.topics.add(s)
	return s, row, nil
}

// repeat answers a request for what the client has: values and books come again, trades and bars just go on.
func (c *session) repeat(s subscription) wire.Row {
	row := c.row(s)
	if row.How = wire.HowSnapshot; row.Topic.Channel == market.Trades || row.Topic.Channel == market.Bars {
		row.How = wire.HowReplay
		return row
	}
	row.Why = wire.WhyNew
	s.Again()
	return row
}

func (c *session) register(t *wire.TopicRequest, lossless bool) (subscription, wire.Row, *wire.RowError) {
	client := mirror.Client{Conn: c.conn, Format: c.format, Lossless: lossless}
	if t.Sym == wire.Wildcard {
		if err := c.s.mirror.Ready(); err != nil {
			return nil, wire.Row{}, &wire.RowError{Topic: t.Topic, Code: wire.CodeNotReady, Msg: err.Error()}
		}
		client.Visible = visible(c.grant, t.Channel)
		all, n := c.s.mirror.SubscribeAll(client, t.Channel)
		w := &wildcard{Wildcard: all, topic: wire.Topic{Channel: t.Channel, Sym: wire.Wildcard}, view: t.View, lossless: lossless}
		return w, wire.Row{Topic: t.Topic, N: uint32(n), How: wire.HowSnapshot, Why: wire.WhyNew}, nil
	}
	registered, err := c.s.mirror.Subscribe(client, t)
	if err != nil {
		return nil, wire.Row{}, err
	}
	if registered.Reached != nil {
		c.wait(registered.Sub, registered.Reached)
	}
	return registered.Sub, registered.Row, nil
}

// wait gives this edge some time to catch up with a client that has seen more elsewhere.
func (c *session) wait(s *fanout.Sub, reached func() bool) {
	c.topics.more().late[s] = time.AfterFunc(behindTimeout, func() { c.late(s, reached) })
}

// late looks whether this edge has caught up with a client that had seen more elsewhere.
func (c *session) late(s *fanout.Sub, reached func() bool) {
	caughtUp := reached()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics.arrived(s)
	if caughtUp {
		s.Nudge()
		return
	}
	if !c.topics.end(s) {
		return
	}
	topic, _ := mirror.Followed(s)
	c.s.metrics.errors.WithLabelValues(string(wire.CodeBehind)).Inc()
	c.reply(&wire.Ack{Errs: []wire.RowError{{
		Topic: *topic, Code: wire.CodeBehind, Msg: "this server has not reached your place; try another one",
	}}})
}

func (c *session) unsubscribe(r *wire.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ack := wire.Ack{ID: r.ID}
	for i := range r.Topics {
		t := &r.Topics[i]
		if t.Unknown != "" {
			ack.Errs = append(ack.Errs, wire.RowError{Topic: t.Topic, Unknown: t.Unknown, Code: wire.CodeUnknownChannel, Msg: "there is no such channel"})
			continue
		}
		if s := c.topics.find(&t.Topic); s != nil {
			c.topics.end(s)
		}
		ack.OK = append(ack.OK, wire.Row{Topic: t.Topic})
	}
	c.reply(&ack)
}

func (c *session) resync(r *wire.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ack := wire.Ack{ID: r.ID}
	var again []subscription
	for i := range r.Topics {
		t := &r.Topics[i]
		s := c.topics.find(&t.Topic)
		if t.Unknown != "" || s == nil {
			ack.Errs = append(ack.Errs, wire.RowError{Topic: t.Topic, Unknown: t.Unknown, Code: wire.CodeBadRequest, Msg: "not subscribed"})
			continue
		}
		row := c.row(s)
		row.How, row.Why = wire.HowSnapshot, wire.WhyNew
		ack.OK = append(ack.OK, row)
		again = append(again, s)
	}
	c.reply(&ack)
	for _, s := range again {
		s.Again()
	}
}

func (c *session) list(r *wire.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ack := wire.Ack{ID: r.ID}
	for _, s := range c.topics.all() {
		ack.OK = append(ack.OK, c.row(s))
	}
	c.reply(&ack)
}

func (c *session) row(s subscription) wire.Row {
	topic, view, _ := asked(s)
	if w, ok := s.(*wildcard); ok {
		return wire.Row{Topic: *topic, N: uint32(w.Len())}
	}
	row, ok := c.s.mirror.Row(*topic, view)
	if !ok {
		row.Topic = *topic
	}
	return row
}
