package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lxzan/gws"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

const (
	// askAgain is how long an answer may take that the edge gives at once: what a subscription waits for beyond it is asked
	// for again.
	askAgain = 10 * time.Second
	// maxAsks is how often a place is asked for before it is given up for a fresh start.
	maxAsks = 3
	// maxRetry bounds the wait before a refusal that may pass is tried again.
	maxRetry = 5 * time.Second
	// defaultFrame is how long a request may be when the edge does not say.
	defaultFrame = 4 << 10
	// wsNormal and wsProtocol are RFC 6455's close codes for a farewell and for a message that can't be understood.
	wsNormal   = 1000
	wsProtocol = 1002
)

// session is one connection. Its methods run on Run's goroutine, except enqueue and flush.
type session struct {
	c       *Client
	ws      socket
	net     *transport
	flow    flow
	hello   time.Time // zero before it
	limits  wire.Limits
	drain   [2]time.Duration
	renewal renewal
	err     error // why it ended
	calling bool  // inside receive, and so perhaps in a callback: a panic there is not gws's, and not ours to stop

	sending sync.Mutex // held while requests are written, so that they go out in the order of the queue
	out     []byte     // guarded by sending

	// Guarded by Client.mu.
	queue   []asked
	pending map[uint64]*request
	lastID  uint64
	ops     uint32 // requests sent since the last heartbeat
}

// socket is what a session writes to.
type socket interface {
	WriteMessage(op gws.Opcode, payload []byte) error
	WriteClose(code uint16, reason []byte) error
}

// asked is an op about one topic, or a ping.
type asked struct {
	op   wire.Op
	sub  subscription
	ping *reply
}

// request is what an answer is about.
type request struct {
	op   wire.Op
	subs []subscription
	ping *reply
}

// reply is a caller that waits for an answer.
type reply struct {
	done chan struct{}
	at   time.Time
	err  error
}

func (r *reply) give(at time.Time, err error) {
	r.at, r.err = at, err
	close(r.done)
}

// connect makes one connection and reads it to its end.
func (c *Client) connect(ctx context.Context) (end ending) {
	s := &session{c: c, pending: map[uint64]*request{}}
	ws, conn, err := c.open(ctx, s)
	if err != nil {
		return ending{err: err}
	}
	defer func() { _ = conn.Close() }()
	s.ws, s.net = ws, conn
	var cancel context.CancelFunc
	s.renewal.ctx, cancel = context.WithCancel(ctx)
	defer s.renewal.fetches.Wait()
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		conn.hurry()
		_ = ws.WriteClose(wsNormal, nil)
		_ = conn.Close()
	})
	s.read(ws)
	if !stop() {
		<-closed
	}
	s.detach()
	end = ending{err: s.err, drain: s.drain}
	if !s.hello.IsZero() {
		end.lasted = time.Since(s.hello)
	}
	return end
}

// read runs gws's loop. A frame whose 64-bit length has its top bit set makes it panic; that ends the connection alone.
func (s *session) read(ws *gws.Conn) {
	defer func() {
		r := recover()
		switch {
		case r == nil:
		case s.calling:
			panic(r)
		default:
			s.err = fmt.Errorf("%w: %v", ErrProtocol, r)
		}
	}()
	ws.ReadLoop()
}

// detach takes the connection from the client and everything that relied on it.
func (s *session) detach() {
	c := s.c
	c.mu.Lock()
	if c.sess == s {
		c.sess = nil
	}
	pending := s.pending
	s.pending, s.queue = nil, nil
	topics := c.snapshotTopics()
	c.mu.Unlock()
	if s.err == nil {
		s.err = errors.New("client: connection lost")
	}
	for _, r := range pending {
		if r.ping != nil {
			r.ping.give(time.Now(), s.err)
		}
	}
	heard := c.base.Add(time.Duration(c.heard.Load()))
	for _, sub := range topics {
		sub.lost()
		sub.core().gone(heard)
		c.notify(sub.core())
	}
	c.unroute(func(sub subscription) bool { return sub.core().closed() })
	c.stats.window.Store(0)
}

// snapshotTopics lists the subscriptions, in a fixed order. The caller holds mu.
func (c *Client) snapshotTopics() []subscription {
	subs := make([]subscription, 0, len(c.topics))
	for _, sub := range c.topics {
		subs = append(subs, sub)
	}
	slices.SortFunc(subs, func(a, b subscription) int { return compareTopics(a.core().id, b.core().id) })
	return subs
}

// OnOpen is gws's.
func (s *session) OnOpen(*gws.Conn) {}

// OnPing is gws's: it answers as RFC 6455 wants, with the same payload.
func (s *session) OnPing(ws *gws.Conn, payload []byte) { _ = ws.WritePong(payload) }

// OnPong is gws's.
func (s *session) OnPong(*gws.Conn, []byte) {}

// OnClose is gws's: why the connection ended, unless we know better.
func (s *session) OnClose(_ *gws.Conn, err error) {
	if s.err != nil {
		return
	}
	var closed *gws.CloseError
	if errors.As(err, &closed) {
		s.err = &CloseError{Code: closed.Code, Reason: string(closed.Reason)}
		return
	}
	s.err = fmt.Errorf("client: connection lost: %w", err)
}

// OnMessage is gws's.
func (s *session) OnMessage(_ *gws.Conn, m *gws.Message) {
	s.calling = true
	s.receive(m.Opcode == gws.OpcodeBinary, m.Bytes())
	s.calling = false
	_ = m.Close()
}

// receive handles one message and acknowledges it.
func (s *session) receive(binary bool, b []byte) {
	if s.err != nil {
		return // gws goes on with what it has buffered
	}
	c := s.c
	c.stats.messages.Add(1)
	c.stats.bytes.Add(uint64(len(b)))
	counting := s.flow.on // the reply that begins the count is not in it
	m := &c.msg
	var err error
	if binary {
		err = wire.DecodeSBE(b, m)
	} else {
		err = wire.DecodeJSON(b, c.lookup, m)
	}
	switch {
	case errors.Is(err, wire.ErrUnknownSym): // of a topic that was given up
	case err != nil:
		s.fail(fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	case s.hello.IsZero() && m.Kind != wire.KindHello:
		s.fail(fmt.Errorf("%w: the first message is not hello", ErrProtocol))
		return
	default:
		s.dispatch(m)
	}
	if counting && s.flow.add(len(b)) {
		s.acknowledge()
	}
}

// fail ends the connection.
func (s *session) fail(err error) {
	s.err = err
	s.net.hurry()
	_ = s.ws.WriteClose(wsProtocol, nil)
}

func (c *Client) lookup(sym []byte) *market.Instrument {
	if c.all != nil {
		c.all.saw(sym)
	}
	return c.insts[string(sym)]
}

func (s *session) dispatch(m *wire.Message) {
	switch m.Kind {
	case wire.KindSnapshot:
		if b, ok := s.find(&m.Snapshot.Head, market.Books, 0).(*Book); ok {
			b.onSnapshot(s, &m.Snapshot)
		}
	case wire.KindDelta:
		if b, ok := s.find(&m.Delta.Head, market.Books, 0).(*Book); ok {
			b.onDelta(s, &m.Delta)
		}
	case wire.KindTrade:
		if t, ok := s.find(&m.Trade.Head, market.Trades, 0).(*Trades); ok {
			t.onTrade(s, &m.Trade)
		}
	case wire.KindTradeGap:
		if t, ok := s.find(&m.TradeGap.Head, market.Trades, 0).(*Trades); ok {
			t.onGap(s, &m.TradeGap)
		}
	case wire.KindBar:
		if t, ok := s.find(&m.Bar.Head, market.Bars, m.Bar.Interval).(*Bars); ok {
			t.onBar(s, &m.Bar)
		}
	case wire.KindBarGap:
		if t, ok := s.find(&m.BarGap.Head, market.Bars, m.BarGap.Interval).(*Bars); ok {
			t.onGap(s, &m.BarGap)
		}
	case wire.KindBBO:
		if t, ok := s.find(&m.BBO.Head, market.BBOs, 0).(*BBO); ok {
			t.onBBO(s, &m.BBO)
		}
	case wire.KindTicker:
		if t, ok := s.find(&m.Ticker.Head, market.Tickers, 0).(*Ticker); ok {
			t.onTicker(s, &m.Ticker)
		}
	case wire.KindStatus:
		if t, ok := s.find(&m.Status.Head, market.Statuses, 0).(*Status); ok {
			t.onStatus(s, &m.Status)
		}
	default:
		s.control(m)
	}
}

// find returns the subscription that a message is for, or nil.
func (s *session) find(h *market.Head, ch market.Channel, iv market.Interval) subscription {
	return s.c.routes[route{h.Inst, ch, iv}]
}

func (s *session) control(m *wire.Message) {
	switch m.Kind {
	case wire.KindHello:
		s.onHello(&m.Hello)
	case wire.KindHeartbeat:
		s.tick(time.Now())
	case wire.KindTopicStatus:
		s.onTopicStatus(&m.TopicStatus)
	case wire.KindAck:
		s.onAck(&m.Ack)
	case wire.KindError:
		s.onError(&m.Error)
	case wire.KindPong:
		if r := s.take(m.ID); r != nil && r.ping != nil {
			r.ping.give(time.Now(), nil)
		}
	case wire.KindUnsub:
		if sub := s.sub(m.Unsub.Topic); sub != nil {
			s.c.drop(sub.core(), &RefusedError{Topic: sub.core().String(), Code: wire.Code(m.Unsub.Why)})
		}
	case wire.KindAuth:
		if m.Auth.Why == wire.WhyExpiring {
			s.renew()
		}
	case wire.KindLag:
		for i := range m.Lag.Topics {
			s.c.stats.merged.Add(m.Lag.Topics[i].Merged)
		}
	case wire.KindDrain:
		for i, ms := range m.Drain.RetryMs {
			s.drain[i] = time.Duration(ms) * time.Millisecond
		}
		s.drain[1] = max(s.drain[1], 1) // a window of nothing is a window too
	}
}

// sub returns the subscription to a topic, or nil.
func (s *session) sub(id wire.Topic) subscription {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.topics[id]
}

// onHello opens the session: it asks for the flow window and for everything that is subscribed.
func (s *session) onHello(h *wire.Hello) {
	if !s.hello.IsZero() {
		return
	}
	c := s.c
	s.hello, s.limits = time.Now(), h.Limits
	if c.cfg.Window > 0 {
		s.askWindow(c.cfg.Window)
	}
	c.mu.Lock()
	c.sess = s
	for _, sub := range c.snapshotTopics() {
		s.enqueue(wire.OpSub, sub)
	}
	c.mu.Unlock()
	s.flush()
	if f := c.cfg.Handler.OnConnect; f != nil {
		f(h)
	}
	if !c.greeted() {
		close(c.hello)
	}
}

// askWindow asks for a flow window.
func (s *session) askWindow(bytes int) {
	s.c.mu.Lock()
	id := s.newRequest(&request{op: wire.OpFlow})
	s.c.mu.Unlock()
	s.send(&wire.Request{Op: wire.OpFlow, ID: id, Window: uint32(bytes)})
}

// acknowledge tells the edge how much is handled, and asks for another window when one is due.
func (s *session) acknowledge() {
	f := &s.flow
	f.acked = f.handled
	f.acks++
	s.send(&wire.Request{Op: wire.OpAck, Bytes: f.handled})
	if w := f.judge(time.Now(), s.net.waited, s.c.cfg.Window); w != f.window {
		s.askWindow(w)
	}
}

// newRequest notes what the next answer will be about. The caller holds Client.mu.
func (s *session) newRequest(r *request) wire.ID {
	s.lastID++
	s.pending[s.lastID] = r
	return wire.NumberID(s.lastID)
}

// send writes one request.
func (s *session) send(r *wire.Request) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.write(r)
}

// write is send for a caller that holds sending. An error ends the connection, which the reader sees.
func (s *session) write(r *wire.Request) {
	s.out = wire.AppendRequest(s.out[:0], r)
	_ = s.ws.WriteMessage(gws.OpcodeText, s.out)
}

// enqueue notes an op about a topic for the next flush. The caller holds Client.mu, so that ops about one topic go out in
// the order in which they were decided.
func (s *session) enqueue(op wire.Op, sub subscription) {
	if op != wire.OpUnsub {
		t := sub.core()
		t.mu.Lock()
		t.askedAt, t.retryAt = time.Now(), time.Time{}
		if op == wire.OpSub {
			t.enter(asking)
		}
		t.mu.Unlock()
	}
	s.queue = append(s.queue, asked{op: op, sub: sub})
}

func (s *session) enqueuePing(r *reply) { s.queue = append(s.queue, asked{op: wire.OpPing, ping: r}) }

// ask enqueues an op about a topic and sends it.
func (s *session) ask(op wire.Op, sub subscription) {
	s.c.mu.Lock()
	s.enqueue(op, sub)
	s.c.mu.Unlock()
	s.flush()
}

// flush sends what is queued, as far as the edge's limit of requests per second goes; the heartbeat sends the rest.
func (s *session) flush() {
	s.sending.Lock()
	defer s.sending.Unlock()
	for {
		s.c.mu.Lock()
		r := s.nextRequest()
		s.c.mu.Unlock()
		if r == nil {
			return
		}
		s.write(r)
	}
}

// nextRequest takes as many ops from the queue as make one request. The caller holds Client.mu.
func (s *session) nextRequest() *wire.Request {
	if len(s.queue) == 0 || s.pending == nil || s.limits.Ops > 0 && s.ops >= s.limits.Ops {
		return nil
	}
	s.ops++
	op := s.queue[0].op
	if op == wire.OpPing {
		id := s.newRequest(&request{op: op, ping: s.queue[0].ping})
		s.queue = s.queue[1:]
		return &wire.Request{Op: op, ID: id}
	}
	room := defaultFrame
	if s.limits.Frame > 0 {
		room = int(s.limits.Frame)
	}
	r := &wire.Request{Op: op, Mode: s.c.cfg.Mode}
	var subs []subscription
	for _, q := range s.queue {
		if q.op != op {
			break
		}
		// The longest a topic gets: all options with all digits, a Sym of which every character is escaped.
		if room -= 200 + 6*len(q.sub.core().id.Sym); room < 0 && len(subs) > 0 {
			break
		}
		t := wire.TopicRequest{Topic: q.sub.core().id}
		if op == wire.OpSub {
			q.sub.request(&t)
		}
		r.Topics = append(r.Topics, t)
		subs = append(subs, q.sub)
	}
	s.queue = s.queue[len(subs):]
	r.ID = s.newRequest(&request{op: op, subs: subs})
	return r
}

// take returns what an answer is about, or nil.
func (s *session) take(id wire.ID) *request {
	n, ok := parseID(id)
	if !ok {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	r := s.pending[n]
	delete(s.pending, n)
	return r
}

// onAck takes the answer to a request that was understood.
func (s *session) onAck(a *wire.Ack) {
	r := s.take(a.ID)
	switch {
	case r == nil:
		s.late(a)
		return
	case r.op == wire.OpFlow:
		s.onWindow(int(a.Window))
		return
	}
	for i := range a.OK {
		if sub := r.find(a.OK[i].Topic); sub != nil {
			s.accepted(r.op, sub, &a.OK[i])
		}
	}
	for i := range a.Errs {
		if sub := r.find(a.Errs[i].Topic); sub != nil && r.op != wire.OpUnsub {
			s.refused(sub, a.Errs[i].Code, a.Errs[i].Msg)
		}
	}
}

// late takes what the edge says without being asked: it did not reach our place in time, and ended the subscription.
func (s *session) late(a *wire.Ack) {
	for i := range a.Errs {
		if sub := s.sub(a.Errs[i].Topic); sub != nil {
			s.refused(sub, a.Errs[i].Code, a.Errs[i].Msg)
		}
	}
}

func (r *request) find(id wire.Topic) subscription {
	for _, sub := range r.subs {
		if sub.core().id == id {
			return sub
		}
	}
	return nil
}

func (s *session) onWindow(bytes int) {
	if bytes == 0 {
		return
	}
	if s.flow.on {
		s.flow.window = bytes
	} else {
		s.flow.start(bytes, time.Now(), s.net.waited)
	}
	s.c.stats.window.Store(int64(bytes))
}

func (s *session) accepted(op wire.Op, sub subscription, row *wire.Row) {
	c, t := s.c, sub.core()
	if op == wire.OpUnsub {
		c.unroute(func(other subscription) bool { return other == sub })
		return
	}
	c.instrument(t, row)
	c.routes[route{row.Inst, t.id.Channel, t.id.Interval}] = sub
	sub.acked(s, row)
	c.notify(t)
}

// instrument keeps what JSON needs to be read.
func (c *Client) instrument(t *Topic, row *wire.Row) {
	in := c.insts[t.id.Sym]
	if in == nil || in.ID != row.Inst {
		in = &market.Instrument{ID: row.Inst, Sym: t.id.Sym}
		c.insts[t.id.Sym] = in
	}
	in.PriceScale, in.SizeScale = row.PriceScale, row.SizeScale
}

// refused takes the edge's no to one subscription.
func (s *session) refused(sub subscription, code wire.Code, msg string) {
	t := sub.core()
	switch code {
	case wire.CodeNotReady, wire.CodeBehind, wire.CodeRate:
		t.mu.Lock()
		t.asks++
		t.retryAt = time.Now().Add(min(time.Duration(t.asks)*time.Second, maxRetry))
		t.enter(asking)
		t.mu.Unlock()
		s.c.notify(t)
		return
	case wire.CodeAuthExpired:
		if s.c.cfg.Token != nil { // the next connection has a new one
			s.fail(&CloseError{Code: wire.CloseAuthExpired})
			return
		}
	}
	s.c.drop(t, &RefusedError{Topic: t.String(), Code: code, Msg: msg})
}

// onError takes the answer to a request that was refused as a whole.
func (s *session) onError(e *wire.Error) {
	r := s.take(e.ID)
	switch {
	case r == nil || r.op == wire.OpUnsub || r.op == wire.OpFlow:
	case r.op == wire.OpAuth:
		s.renewLater()
	case r.ping != nil:
		r.ping.give(time.Now(), &RefusedError{Code: e.Code, Msg: e.Msg})
	default:
		for _, sub := range r.subs {
			s.refused(sub, e.Code, e.Msg)
		}
	}
}

func (s *session) onTopicStatus(m *wire.TopicStatus) {
	sub := s.sub(m.Topic)
	if sub == nil {
		return
	}
	t := sub.core()
	t.says(m.State, m.Why.String())
	if t.overdue(m.Sequence) {
		s.missed(sub, &GapError{Local: t.Sequence(), Prev: m.Sequence})
	}
	s.c.notify(t)
}

// overdue tells whether the edge said, at this status and already at the last one, that it is ahead of us: the first alone
// may have overtaken data that a slow connection still holds back.
func (t *Topic) overdue(at market.Sequence) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != synced || !t.has || !t.every || at.Epoch != t.at.Epoch || at.Seq <= t.at.Seq {
		t.told = 0
		return false
	}
	before := t.told
	t.told = at.Seq
	return before > t.at.Seq
}

// missed asks for what is missing.
func (s *session) missed(sub subscription, err error) {
	t := sub.core()
	s.c.stats.resyncs.Add(1)
	t.mu.Lock()
	book := t.id.Channel == market.Books
	if book {
		var gap *GapError
		if errors.As(err, &gap) {
			t.gaps++
		}
		t.enter(awaiting)
	}
	t.mu.Unlock()
	s.c.report(t, err)
	s.c.notify(t)
	if book {
		s.ask(wire.OpResync, sub)
	} else {
		s.ask(wire.OpSub, sub)
	}
}

// tick runs at each heartbeat: it sends what the limits held back and asks again for what is overdue.
func (s *session) tick(now time.Time) {
	c := s.c
	c.mu.Lock()
	s.ops = 0
	for _, sub := range c.topics {
		if sub.core().due(now) {
			s.enqueue(wire.OpSub, sub)
		}
	}
	c.mu.Unlock()
	s.flush()
	s.renewIfDue()
}

// due tells whether it is time to ask again.
func (t *Topic) due(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.retryAt.IsZero() {
		return !now.Before(t.retryAt)
	}
	if t.phase != asking && t.phase != awaiting || now.Sub(t.askedAt) < askAgain {
		return false
	}
	if t.asks++; t.asks >= maxAsks { // the edge can't go on from here: begin anew
		t.has, t.at = false, market.Sequence{}
	}
	return true
}
