package fanout

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Events is how a connection's owner hears of it. The methods are called from the connection's shard, one at a time, with
// no lock held; they must not block.
type Events interface {
	// Lag makes the notice that some topics were conflated. Nil sends none.
	Lag(topics []Lagged, behind time.Duration) *Frame
	// Slow makes the close frame for a client that is too slow to be served within the bounds.
	Slow() *Frame
	// Closed is called once: nothing more will be written. Err is ErrClosed when the connection was closed as asked, and
	// everything has been written; otherwise the transport is closed.
	Closed(err error)
}

// Observer sees what a connection is sent. Its methods are called by the connection's passes, one at a time; they must not
// block.
type Observer interface {
	// Sent is called for each frame that is about to be written.
	Sent(f *Frame)
	// Last makes the last frame of a connection that is closed as asked; it may be nil.
	Last() *Frame
}

// Lagged is a topic of which messages were conflated.
type Lagged struct {
	Label  any
	Merged int
}

// Why a connection ended, and what Ack refuses.
var (
	ErrSlow    = errors.New("the client reads too slowly")
	ErrClosed  = errors.New("closed")
	ErrAborted = errors.New("aborted")
	ErrAck     = errors.New("acknowledged more than was sent")
	ErrAcks    = errors.New("too many acknowledgements")
)

// ControlSlack is how much control traffic passes a closed flow window.
const ControlSlack = 64 << 10

// Conn is one subscriber connection. Its methods may be called from any goroutine.
type Conn struct {
	hub      *Hub
	id       uint64 // never used twice in a hub
	place    int32  // in Hub.conns, guarded by its mutex
	shard    *shard
	writer   Writer
	events   Events
	observer Observer // the pass's from the first message on

	mu        sync.Mutex
	control   []message
	marked    list   // since the last pass
	bytes     uint32 // in control
	due       uint8  // beats, a bit for each
	scheduled bool   // in the shard's queue, in a pass, or parked
	closing   bool   // no more data; close when control has been written
	dead      bool

	flow    atomic.Pointer[flow] // nil until a window is set
	output  atomic.Bool          // the writer has output of its own to flush
	deflate bool                 // not changed after the first message

	// What follows belongs to the pass, or to the poller of a parked connection.
	watched    bool          // by the poller for descriptors; not changed
	registered bool          // the poller's
	slow       bool          // the socket or the window was full when the last pass ended
	moved      time.Duration // guarded by parking.mu: when the transport last took something, or was found full
	left       int           // output that the transport has not taken
	jam        *jam          // nil while the client keeps up
}

// jam is what is owed to a client that does not keep up.
type jam struct {
	waiting []*Sub // marked, taken from Conn.marked, not yet satisfied
	lagged  []*Sub
	behind  time.Duration // since when
	noted   time.Duration // when the last lag notice was sent
}

// jammed returns the connection's jam, to be changed.
func (c *Conn) jammed() *jam {
	if c.jam == nil {
		c.jam = new(jam)
	}
	return c.jam
}

// waits tells whether subscriptions wait for room.
func (c *Conn) waits() bool { return c.jam != nil && len(c.jam.waiting) > 0 }

// flow is the window of a connection that has one.
type flow struct {
	window atomic.Int64
	sent   atomic.Int64 // payload bytes since the window was first set
	acked  atomic.Int64
	acks   atomic.Int64
	heard  atomic.Int64 // when the last acknowledgement came, by the hub's clock
}

// message is a control frame and what its sending brings about.
type message struct {
	frame  *Frame
	window int64 // new flow window, from behind this frame on
	ping   bool  // passes a closed window
}

// Deflate has messages sent in the compressed form of permessage-deflate without context takeover (RFC 7692), where it is
// shorter. It must be called before anything is sent.
func (c *Conn) Deflate() { c.deflate = true }

// Observe has an observer see what is sent. It must be called before anything is sent.
func (c *Conn) Observe(o Observer) { c.observer = o }

// Send queues a control message. When more than MaxControl bytes of them are waiting, the client has not read the answers
// to its own requests, and the connection ends.
func (c *Conn) Send(f *Frame) { c.send(message{frame: f}) }

// SendPing queues a message that no flow window holds back.
func (c *Conn) SendPing(f *Frame) { c.send(message{frame: f, ping: true}) }

// SetWindow limits what may be sent and unacknowledged to bytes of payload, counting from behind reply.
func (c *Conn) SetWindow(bytes int, reply *Frame) {
	c.send(message{frame: reply, window: int64(bytes)})
}

func (c *Conn) send(m message) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.control = append(c.control, m)
	c.bytes += uint32(len(m.frame.data)) //nolint:gosec // bounded by MaxControl and one message
	over := int(c.bytes) > c.hub.cfg.MaxControl
	start := c.schedule()
	c.mu.Unlock()
	if start {
		c.shard.add(c)
	}
	if over {
		c.hub.stats.Slow.Add(1)
		c.fail(ErrSlow)
	}
}

// Beat is a control message for many connections of which only the newest is worth sending.
type Beat uint8

// The beats.
const (
	Heartbeat Beat = iota
	Pulse          // answered by the peer: a ping
	numBeats
)

// SetBeat replaces a beat. Connections get it by [Conn.Beat].
func (h *Hub) SetBeat(b Beat, f *Frame) { h.beats[b].Store(f) }

// Beat makes a beat due. It is sent once, as it is by then, however often it became due meanwhile; like all control
// messages it passes a closed flow window.
func (c *Conn) Beat(b Beat) {
	c.mu.Lock()
	start := false
	if !c.closing {
		c.due |= 1 << b
		start = c.schedule()
	}
	c.mu.Unlock()
	if start {
		c.shard.add(c)
	}
}

// Ack says that the client has handled this many payload bytes in all.
func (c *Conn) Ack(bytes int64) error {
	w := c.flow.Load()
	if w == nil || bytes > w.sent.Load() {
		return ErrAck
	}
	if w.acks.Add(1) > 16+8*(w.sent.Load()/w.window.Load()) {
		return ErrAcks
	}
	w.heard.Store(int64(c.hub.now()))
	for {
		old := w.acked.Load()
		if bytes <= old {
			return nil
		}
		if w.acked.CompareAndSwap(old, bytes) {
			break
		}
	}
	c.wake()
	return nil
}

// Close sends what control messages are waiting and then last, which may be nil, and finishes the transport. Data that
// has not been gathered is dropped.
func (c *Conn) Close(last *Frame) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.closing = true
	if last != nil {
		c.control = append(c.control, message{frame: last, ping: true})
	}
	c.marked = list{}
	start := c.schedule()
	c.mu.Unlock()
	if start {
		c.shard.add(c)
	}
}

// Abort closes the transport at once.
func (c *Conn) Abort() { c.fail(ErrAborted) }

// fail closes the transport; a pass that is under way ends by the error it gets.
func (c *Conn) fail(err error) {
	if c.die() {
		_ = c.writer.Close() // the reason to close is the error that counts
		c.events.Closed(err)
	}
}

// finish ends a connection of which everything has been written.
func (c *Conn) finish() {
	if c.die() {
		err := c.writer.Finish()
		if err == nil {
			err = ErrClosed
		} else {
			_ = c.writer.Close() // as always when the error is another one
		}
		c.events.Closed(err)
	}
}

// die makes sure that a connection ends once.
func (c *Conn) die() bool {
	c.mu.Lock()
	first := !c.dead
	c.dead, c.closing = true, true
	c.control, c.marked, c.bytes = nil, list{}, 0
	c.mu.Unlock()
	if first {
		c.hub.forget(c)
		c.hub.parking.take(c.id)
	}
	return first
}

// list is a list of subscriptions, each in it at most once, in the order in which they came. It hangs on the subscriptions
// themselves: an array would have to be made for each connection that is marked, and all of them are when the market
// falls silent.
type list struct{ first, last *Sub }

func (l *list) add(s *Sub) {
	if l.first == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
}

// moveTo empties the list into dst.
func (l *list) moveTo(dst []*Sub) []*Sub {
	for s := l.first; s != nil; {
		next := s.next
		s.next = nil // or it would hold on to others after its own end
		dst = append(dst, s)
		s = next
	}
	*l = list{}
	return dst
}

// push adds a marked subscription. It reports whether the connection has to be handed to its shard.
func (c *Conn) push(s *Sub) (start bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.marked.add(s)
	return c.schedule()
}

// kick has the shard flush what the writer has of its own.
func (c *Conn) kick() {
	c.output.Store(true)
	c.wake()
}

func (c *Conn) wake() {
	c.mu.Lock()
	start := c.schedule()
	c.mu.Unlock()
	if start {
		c.shard.add(c)
	}
}

// schedule claims the right to hand the connection to its shard.
func (c *Conn) schedule() bool {
	if c.scheduled || c.dead {
		return false
	}
	c.scheduled = true
	return true
}

// blocked tells whether the flow window holds data back.
func (c *Conn) blocked() bool {
	w := c.flow.Load()
	return w != nil && w.sent.Load()-w.acked.Load() >= w.window.Load()
}

// controlBlocked tells whether it holds control messages back too.
func (c *Conn) controlBlocked() bool {
	w := c.flow.Load()
	return w != nil && w.sent.Load()-w.acked.Load() >= w.window.Load()+ControlSlack
}

// limit sets the flow window. The pass does, behind the reply.
func (c *Conn) limit(window int64, now time.Duration) {
	w := c.flow.Load()
	if w == nil {
		w = new(flow)
	}
	w.window.Store(window)
	w.acks.Store(0) // they are counted against the window in force
	w.heard.Store(int64(now))
	c.flow.Store(w)
}
