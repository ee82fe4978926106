package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// State says how far what a subscription holds can be trusted.
type State uint8

// The states. The first five are the edge's word on a topic that we are in step with, and what we hold is then exactly
// what the edge holds; Stale is also our own word when the edge can't be heard.
const (
	Live     State = iota
	Quiet          // the source is alive, the instrument is silent
	Stale          // what we hold may be old: the source, the edge or the connection is silent
	Halted         // the venue stopped trading
	Delisted       // the venue ended the instrument
	Syncing        // waiting for the edge: for a first answer, or for what a gap took
	Closed         // refused or given up, see Topic.Err
)

// String returns the state's name, the protocol's where it has one.
func (s State) String() string {
	switch s {
	case Syncing:
		return "syncing"
	case Closed:
		return "closed"
	}
	return market.State(s).String()
}

// phase is where a subscription stands with the edge.
type phase uint8

const (
	offline  phase = iota // no connection
	asking                // the edge has not answered yet; what continues our state may be applied
	awaiting              // the edge answers with a snapshot: nothing before it counts
	synced
	ended
)

// subscription is what the connection needs from each kind of subscription.
type subscription interface {
	core() *Topic
	// request says what to ask for, and from where to go on.
	request(r *wire.TopicRequest)
	// acked takes the edge's row.
	acked(s *session, row *wire.Row)
	// lost forgets what does not survive a connection.
	lost()
}

// Topic is what all subscriptions have in common. Its methods may be called from any goroutine.
type Topic struct {
	c     *Client
	id    wire.Topic
	every bool // each message of the topic comes to us, so that none may be missing

	mu      sync.Mutex // guards what follows, and the fields of the kinds of subscriptions; a leaf
	inst    market.Instrument
	epoch   uint32 // the numbering that inst's scales belong to; 0 before the first
	phase   phase
	state   market.State
	why     string
	at      market.Sequence
	has     bool // at counts: something was applied
	gaps    uint64
	err     error
	shown   State         // what OnState last said
	bad     time.Time     // since when State is neither the edge's word nor good
	askedAt time.Time     // when the edge was last asked, in phases asking and awaiting
	asks    int           // how often in a row without an answer that helped
	told    uint64        // the seq of the last repeated status that is ahead of us
	retryAt time.Time     // when a refusal that may pass is due to be tried again
	changed chan struct{} // closed when phase changes; nil without a waiter
	over    chan struct{} // closed when the subscription ends
}

func (t *Topic) core() *Topic { return t }

// check refuses what the edge would refuse: it answers a request, with all topics in it, as a whole.
func (t *Topic) check(sub subscription) error {
	r := wire.TopicRequest{Topic: t.id}
	sub.request(&r)
	switch {
	case t.id.Sym == "" || t.id.Sym == wire.Wildcard || len(t.id.Sym) > 255:
		return fmt.Errorf("client: %q names no instrument", t.id.Sym)
	case !t.id.Interval.Valid():
		return fmt.Errorf("client: %s: unknown interval", t.id.Sym)
	case !slices.Contains([]uint16{0, 10, 25, 50, 100}, r.View.Depth), !slices.Contains([]uint16{0, 100, 250, 1000}, r.View.Millis):
		return fmt.Errorf("client: %v: no view with depth %d and %d ms", t, r.View.Depth, r.View.Millis)
	case r.Last > wire.MaxLast || r.History > wire.MaxHistory:
		return fmt.Errorf("client: %v: at most %d trades or %d bars of history", t, wire.MaxLast, wire.MaxHistory)
	}
	return nil
}

// Channel returns the kind of data.
func (t *Topic) Channel() market.Channel { return t.id.Channel }

// Sym returns the canonical name of the instrument.
func (t *Topic) Sym() string { return t.id.Sym }

// String names the topic as channel:sym, with the interval for bars.
func (t *Topic) String() string { return topicName(t.id) }

func topicName(id wire.Topic) string {
	if id.Channel == market.Bars {
		return fmt.Sprintf("%v:%s:%v", id.Channel, id.Sym, id.Interval)
	}
	return fmt.Sprintf("%v:%s", id.Channel, id.Sym)
}

// Instrument returns what the edge said about the instrument: its number and scales always, the rest when a status message
// told. Before the first answer only Sym is set.
func (t *Topic) Instrument() market.Instrument {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inst
}

// State says how far what the subscription holds can be trusted, now.
func (t *Topic) State() State {
	silent := t.c.silent()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stateLocked(silent)
}

func (t *Topic) stateLocked(silent bool) State {
	switch {
	case t.phase == ended:
		return Closed
	case t.phase == offline && t.has:
		return Stale
	case t.phase != synced:
		return Syncing
	case silent:
		return Stale
	}
	return State(t.state)
}

// Why says why the topic is stale, when the edge told.
func (t *Topic) Why() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why
}

// StaleFor returns for how long the state has been Stale, Syncing or Closed; 0 in the others.
func (t *Topic) StaleFor() time.Duration {
	silence := t.c.silence()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.stateLocked(silence > t.c.cfg.HeartbeatTimeout) {
	case Stale, Syncing, Closed:
		if t.bad.IsZero() { // nothing but the silence says so
			return silence
		}
		return time.Since(t.bad)
	}
	return 0
}

// Sequence returns the place of the last message that was applied.
func (t *Topic) Sequence() market.Sequence {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// Gaps counts how often messages were found missing or were said to be.
func (t *Topic) Gaps() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gaps
}

// Err says why the subscription is Closed: a *RefusedError, ErrUnsubscribed, ErrClosed or what ended the client.
func (t *Topic) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Closed is closed when the subscription has ended: refused, given up, or with the client. Err says why.
func (t *Topic) Closed() <-chan struct{} { return t.over }

// Wait waits until the subscription is in step with the edge (its book complete, its answer there) and returns nil, or
// until it can't be, and says why.
func (t *Topic) Wait(ctx context.Context) error {
	for {
		t.mu.Lock()
		phase, err := t.phase, t.err
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		switch phase {
		case synced:
			return nil
		case ended:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("client: wait for %v: %w", t, ctx.Err())
		case <-changed:
		}
	}
}

// Unsubscribe gives the subscription up. Calling it again does nothing.
func (t *Topic) Unsubscribe() { t.c.unsubscribe(t) }

// enter moves to a phase. The caller holds mu.
func (t *Topic) enter(p phase) {
	if t.phase == ended || t.phase == p {
		return
	}
	t.phase = p
	switch p {
	case asking, awaiting:
		t.askedAt = time.Now()
	case synced:
		t.asks, t.told = 0, 0
	}
	t.mark()
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// mark keeps the time since when the state is bad. The caller holds mu.
func (t *Topic) mark() {
	bad := t.phase != synced || t.state == market.Stale
	switch {
	case !bad:
		t.bad = time.Time{}
	case t.bad.IsZero():
		t.bad = time.Now()
	}
}

// end closes the subscription for good.
func (t *Topic) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != ended {
		t.err = err
		t.enter(ended)
		close(t.over)
	}
}

// says takes the edge's word on the topic.
func (t *Topic) says(state market.State, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.why = state, why
	t.mark()
}

// learn takes what a row says about the instrument. The caller holds mu.
func (t *Topic) learn(row *wire.Row) {
	if t.inst.ID != row.Inst {
		t.inst = market.Instrument{ID: row.Inst, Sym: t.id.Sym}
	}
	t.inst.PriceScale, t.inst.SizeScale = row.PriceScale, row.SizeScale
	t.epoch = row.Sequence.Epoch
	t.state, t.why = row.State, ""
}

func (t *Topic) closed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase == ended
}

// gone is the connection's end: what we hold is from now on as old as what was last heard.
func (t *Topic) gone(heard time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	good := t.bad.IsZero()
	t.retryAt = time.Time{}
	t.enter(offline)
	if good && t.phase == offline {
		t.bad = heard
	}
}

// renumbered tells that a message belongs to a newer numbering than the one the edge last told us about; the caller, who holds
// mu, asks the edge. While it waits for the answer nothing is.
func (t *Topic) renumbered(h *market.Head) bool {
	return (t.phase == synced || t.phase == awaiting) && t.epoch != 0 && h.Epoch > t.epoch
}

func compareTopics(a, b wire.Topic) int {
	return cmp.Or(cmp.Compare(a.Sym, b.Sym), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Interval, b.Interval))
}

func parseID(id wire.ID) (uint64, bool) {
	n, err := strconv.ParseUint(string(id), 10, 64)
	return n, err == nil
}
