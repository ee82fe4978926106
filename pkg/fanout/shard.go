package fanout

import (
	"runtime"
	"sync"
	"time"
)

// shard runs the passes of the connections that belong to it, one at a time. A connection whose socket is full leaves the
// shard and comes back when the socket has taken what was gathered for it.
type shard struct {
	hub   *Hub
	mu    sync.Mutex
	queue []*Conn // at most each connection once
	idle  bool
	ended bool
	wake  chan struct{}
}

func (s *shard) add(c *Conn) {
	s.mu.Lock()
	s.queue = append(s.queue, c)
	wake := s.idle
	s.idle = false
	s.mu.Unlock()
	if wake {
		s.wake <- struct{}{} // has room: idle is set only by the loop, behind each receive
	}
}

func (s *shard) loop() {
	var p pass
	var batch []*Conn
	for {
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		s.idle = len(batch) == 0
		ended := s.ended && s.idle
		s.mu.Unlock()
		if ended {
			return
		}
		if len(batch) == 0 {
			<-s.wake
			// Those who can run do so first: when the processor is busy they publish more meanwhile, and one pass
			// carries it; when it is idle this costs nothing.
			runtime.Gosched()
			continue
		}
		for i, c := range batch {
			batch[i] = nil
			if p.run(c) {
				s.add(c)
			}
		}
		p.shrink(s.hub.cfg.MaxPass)
		if every := s.hub.cfg.FlushInterval; every > 0 {
			time.Sleep(every)
		}
	}
}

// shrink gives up a buffer that an unusually long message has stretched.
func (p *pass) shrink(maxPass int) {
	if cap(p.buf) > 8*maxPass {
		p.buf = nil
	}
}

func (s *shard) end() {
	s.mu.Lock()
	s.ended = true
	wake := s.idle
	s.idle = false
	s.mu.Unlock()
	if wake {
		s.wake <- struct{}{}
	}
}

// hand lets a goroutine wait for the socket of a connection, for the shard must not. There is at most one for each
// connection, and none for a connection that keeps up.
func (s *shard) hand(c *Conn) {
	s.hub.waits.Add(1)
	go func() {
		defer s.hub.waits.Done()
		before := s.hub.now()
		n, err := c.writer.Write(c.rest)
		s.hub.stats.Bytes.Add(uint64(n))
		if err != nil {
			c.fail(err)
			return
		}
		c.rest = nil
		if waited := s.hub.now() - before; !c.slow && (c.writer.Exact() || waited > patience) {
			c.slow, c.behind = true, before
			s.hub.stats.Blocked.Add(1)
		}
		s.add(c)
	}()
}

// patience is how long a write through a transport that can only block may take before the connection counts as blocked.
const patience = 10 * time.Millisecond
