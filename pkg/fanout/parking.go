package fanout

import (
	"sync"
	"time"
)

// parking is where the connections wait whose transports are full. A connection in it belongs to its poller, which brings
// it back to its shard; it costs a place in a map, and neither a goroutine nor a timer.
type parking struct {
	mu    sync.Mutex
	conns map[uint64]*Conn // by Conn.id
}

// poller brings parked connections back when their transports take something again.
type poller interface {
	// watch begins to wait for the transport of a connection that has just been parked.
	watch(c *Conn) error
	// close ends the poller and waits for its goroutine.
	close()
}

// park leaves a connection, of whose output some is left, to its poller.
func (c *Conn) park(left int, now time.Duration) {
	k := &c.hub.parking
	k.mu.Lock()
	if c.left == 0 || left < c.left {
		c.moved = now
	}
	c.left = left
	k.conns[c.id] = c
	k.mu.Unlock()
	c.mu.Lock()
	dead := c.dead
	c.mu.Unlock()
	if dead { // it died just before, and die has not found it in the map
		k.take(c.id)
		return
	}
	if err := c.poller().watch(c); err != nil {
		k.take(c.id)
		c.fail(err)
	}
}

// take removes a connection and returns it, or nil when it is not there any more. Numbers of connections are not used
// twice, so an event that comes late never meets another connection, whatever became of its descriptor.
func (k *parking) take(id uint64) *Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.conns[id]
	delete(k.conns, id)
	return c
}

// progress notes that a parked connection has got rid of some output.
func (k *parking) progress(c *Conn, left int, now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if left < c.left {
		c.left, c.moved = left, now
	}
}

// stuck lists the connections that have made no progress since then.
func (k *parking) stuck(since time.Duration) (all []*Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		if c.moved < since {
			all = append(all, c)
		}
	}
	return all
}

// sweep closes the connections that have been stuck for WriteTimeout, give or take a sixteenth.
func (h *Hub) sweep() {
	tick := time.NewTicker(max(h.cfg.WriteTimeout/16, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-h.ending:
			return
		case <-tick.C:
		}
		for _, c := range h.parking.stuck(h.now() - h.cfg.WriteTimeout) {
			h.stats.Slow.Add(1)
			c.fail(ErrSlow)
		}
	}
}

// retrier is the portable poller. It tries again and again, on a goroutine of its own, so that a transport that can only
// be asked by waiting for a moment makes those in front of it wait, and no shard.
type retrier struct {
	hub    *Hub
	wake   chan struct{}
	ending chan struct{}
	done   sync.WaitGroup

	mu    sync.Mutex
	conns []*Conn // watched
	idle  bool    // the loop waits for wake
}

// retryEvery is the pause between two rounds.
const retryEvery = 5 * time.Millisecond

func newRetrier(h *Hub) *retrier {
	r := &retrier{hub: h, wake: make(chan struct{}, 1), ending: make(chan struct{})}
	r.done.Go(r.loop)
	return r
}

func (r *retrier) watch(c *Conn) error {
	r.mu.Lock()
	r.conns = append(r.conns, c)
	wake := r.idle
	r.idle = false
	r.mu.Unlock()
	if wake {
		r.wake <- struct{}{} // has room: idle is set only by the loop, behind each receive
	}
	return nil
}

func (r *retrier) close() {
	close(r.ending)
	r.done.Wait()
}

func (r *retrier) loop() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	var round []*Conn
	for {
		r.mu.Lock()
		round, r.conns = r.conns, round[:0]
		r.idle = len(round) == 0
		idle := r.idle
		r.mu.Unlock()
		if idle {
			select {
			case <-r.wake:
			case <-r.ending:
				return
			}
			continue
		}
		r.try(round)
		clear(round)
		pause.Reset(retryEvery)
		select {
		case <-pause.C:
		case <-r.ending:
			return
		}
	}
}

// try flushes each connection of a round. Those that are still full stay.
func (r *retrier) try(round []*Conn) {
	for _, c := range round {
		left, err := c.writer.Flush()
		switch {
		case err != nil:
			c.fail(err)
		case left > 0:
			r.hub.parking.progress(c, left, r.hub.now())
			r.mu.Lock()
			r.conns = append(r.conns, c)
			r.mu.Unlock()
		case r.hub.parking.take(c.id) != nil:
			c.left = 0
			c.shard.add(c)
		}
	}
}
