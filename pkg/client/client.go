package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Client is a connection to an edge that is made anew whenever it is lost, and the subscriptions on it.
type Client struct {
	cfg   Config
	url   *url.URL
	base  time.Time
	heard atomic.Int64 // when the edge was last heard, as nanoseconds since base
	stats stats

	// Of the goroutine in Run alone.
	msg    wire.Message
	insts  map[string]*market.Instrument // by Sym, for the scales of JSON
	routes map[route]subscription        // what the edge acknowledged
	all    *symbols                      // nil unless the client is to find out what there is

	mu     sync.Mutex // guards what follows; taken before Topic.mu, never after
	topics map[wire.Topic]subscription
	sess   *session // the open one, behind its hello
	stop   context.CancelFunc
	began  bool
	ended  bool
	err    error // why it ended; nil when it was asked to
	hello  chan struct{}
	done   chan struct{}
	wake   chan struct{} // a subscription was made
}

// route is how data names its topic.
type route struct {
	inst     uint32
	channel  market.Channel
	interval market.Interval
}

// New checks the configuration. It connects to nothing: see Run and Dial.
func New(cfg Config) (*Client, error) {
	cfg, u, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg: cfg, url: u, base: time.Now(),
		insts:  map[string]*market.Instrument{},
		routes: map[route]subscription{},
		topics: map[wire.Topic]subscription{},
		hello:  make(chan struct{}),
		done:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}, nil
}

// Dial makes a client, runs it in the background, and returns once the edge has said hello. When the first connection can't
// be made, it says why and leaves nothing behind. From then on the client lives until Close; ctx is for the first connection alone.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	go func() { _ = c.run(context.WithoutCancel(ctx), true) }() // ends by Close, which waits for it
	select {
	case <-c.hello:
		return c, nil
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
		_ = c.Close()
		return nil, fmt.Errorf("client: connect to %s: %w", c.url.Host, ctx.Err())
	}
}

// Run connects, and connects again whenever the connection is lost, until ctx is done or Close is called (it then returns
// nil), or until the edge says that connecting again is of no use (it then says why). Callbacks run on its goroutine. A
// client runs once.
func (c *Client) Run(ctx context.Context) error { return c.run(ctx, false) }

func (c *Client) run(ctx context.Context, impatient bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.begin(cancel); err != nil {
		return err
	}
	defer func() { c.finish(err) }()
	b := backoff{cfg: &c.cfg}
	for {
		end := c.connect(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case c.fatal(end.err), impatient && !c.greeted():
			return end.err
		}
		wait := b.next(&end)
		if f := c.cfg.Handler.OnDisconnect; f != nil {
			f(end.err, wait)
		}
		sleep(ctx, wait)
		c.awaitTopics(ctx, end.err)
		if ctx.Err() != nil {
			return nil
		}
		c.stats.reconnects.Add(1)
	}
}

func (c *Client) begin(stop context.CancelFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return ErrClosed
	case c.began:
		return errors.New("client: Run was called before")
	}
	c.began, c.stop = true, stop
	return nil
}

// finish ends all subscriptions.
func (c *Client) finish(err error) {
	c.mu.Lock()
	c.ended, c.err = true, err
	topics := c.topics
	c.topics = nil
	c.mu.Unlock()
	why := err
	if why == nil {
		why = ErrClosed
	}
	for _, sub := range topics {
		sub.core().end(why)
		c.notify(sub.core())
	}
	close(c.done)
}

func (c *Client) greeted() bool {
	select {
	case <-c.hello:
		return true
	default:
		return false
	}
}

// awaitTopics holds back a client that the edge sent away because it subscribed to nothing, until it does.
func (c *Client) awaitTopics(ctx context.Context, err error) {
	var closed *CloseError
	if !errors.As(err, &closed) || closed.Code != wire.CloseNoSubscription {
		return
	}
	for {
		c.mu.Lock()
		n := len(c.topics)
		c.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
	}
}

// Close ends the connection and all subscriptions, and waits until everything has stopped. It must not be called from a
// callback; cancelling the context of Run may.
func (c *Client) Close() error {
	c.mu.Lock()
	if !c.began && !c.ended {
		c.ended = true
		topics := c.topics
		c.topics = nil
		c.mu.Unlock()
		for _, sub := range topics {
			sub.core().end(ErrClosed)
		}
		close(c.done)
		return nil
	}
	stop := c.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	<-c.done
	return nil
}

// Done is closed when the client has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the client ended by itself; nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// silence is for how long nothing was heard from an edge.
func (c *Client) silence() time.Duration { return time.Since(c.base) - time.Duration(c.heard.Load()) }

func (c *Client) silent() bool { return c.silence() > c.cfg.HeartbeatTimeout }

// add keeps a new subscription and returns it.
func add[S subscription](c *Client, sub S) (S, error) {
	if err := c.subscribe(sub); err != nil {
		var none S
		return none, err
	}
	return sub, nil
}

// subscribe keeps a subscription and, when there is a connection, asks the edge.
func (c *Client) subscribe(sub subscription) error {
	t := sub.core()
	if err := t.check(sub); err != nil {
		return err
	}
	c.mu.Lock()
	switch {
	case c.ended:
		c.mu.Unlock()
		return ErrClosed
	case c.topics[t.id] != nil:
		c.mu.Unlock()
		return fmt.Errorf("%w: %v", ErrSubscribed, t)
	}
	c.topics[t.id] = sub
	s := c.sess
	if s != nil {
		s.enqueue(wire.OpSub, sub)
	}
	c.mu.Unlock()
	if s != nil {
		s.flush()
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// topic fills what all subscriptions have in common.
func (c *Client) topic(id wire.Topic) Topic {
	return Topic{c: c, id: id, inst: market.Instrument{Sym: id.Sym}, bad: time.Now(), shown: Syncing, over: make(chan struct{})}
}

func (c *Client) unsubscribe(t *Topic) {
	t.end(ErrUnsubscribed)
	c.mu.Lock()
	sub := c.topics[t.id]
	s := c.sess
	if sub == nil || sub.core() != t {
		c.mu.Unlock()
		return
	}
	delete(c.topics, t.id)
	if s != nil {
		s.enqueue(wire.OpUnsub, sub)
	}
	c.mu.Unlock()
	if s != nil {
		s.flush()
	}
}

// drop forgets a subscription that the edge refused or ended. It runs on Run's goroutine.
func (c *Client) drop(t *Topic, err error) {
	t.end(err)
	c.unroute(func(sub subscription) bool { return sub.core() == t })
	c.mu.Lock()
	if sub := c.topics[t.id]; sub != nil && sub.core() == t {
		delete(c.topics, t.id)
	}
	c.mu.Unlock()
	c.report(t, err)
	c.notify(t)
}

// unroute forgets for which subscription data may come.
func (c *Client) unroute(gone func(sub subscription) bool) {
	maps.DeleteFunc(c.routes, func(_ route, sub subscription) bool { return gone(sub) })
}

// notify tells the caller when the state of a subscription is another than it last heard. It runs on Run's goroutine.
func (c *Client) notify(t *Topic) {
	silent := c.silent()
	t.mu.Lock()
	now := t.stateLocked(silent)
	same := now == t.shown
	t.shown = now
	t.mu.Unlock()
	if f := c.cfg.Handler.OnState; f != nil && !same {
		f(t, now)
	}
}

func (c *Client) report(t *Topic, err error) {
	if f := c.cfg.Handler.OnError; f != nil {
		f(t, err)
	}
}

// stats are the counters behind Stats.
type stats struct {
	messages, bytes, reconnects, resyncs, merged atomic.Uint64
	window                                       atomic.Int64
}

// Stats counts what a client did since it was made.
type Stats struct {
	Messages   uint64 // received
	Bytes      uint64 // of messages received, uncompressed
	Reconnects uint64 // connections tried after the first
	Resyncs    uint64 // topics asked for again because something was missing or wrong
	Merged     uint64 // updates the edge merged because we read too slowly
	Window     int    // the flow window in force, in bytes; 0 without one
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	return Stats{
		Messages:   c.stats.messages.Load(),
		Bytes:      c.stats.bytes.Load(),
		Reconnects: c.stats.reconnects.Load(),
		Resyncs:    c.stats.resyncs.Load(),
		Merged:     c.stats.merged.Load(),
		Window:     int(c.stats.window.Load()),
	}
}

// Ping measures the time until the edge answers a request, the handling of what comes before the answer included.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	c.mu.Lock()
	s := c.sess
	if s == nil {
		c.mu.Unlock()
		return 0, errors.New("client: not connected")
	}
	r := &reply{done: make(chan struct{})}
	s.enqueuePing(r)
	c.mu.Unlock()
	begin := time.Now()
	s.flush()
	select {
	case <-r.done:
		return r.at.Sub(begin), r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
