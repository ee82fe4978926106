package fanout

import (
	"runtime"
	"sync"
	"time"
)

// shard runs the passes of the connections that belong to it, one at a time. A connection whose transport is full is
// parked, and comes back when its poller finds that the transport takes something again.
type shard struct {
	hub   *Hub
	index int // in Hub.shards
	mu    sync.Mutex
	queue []*Conn // at most each connection once
	idle  bool
	ended bool
	wake  chan struct{}
}

func (s *shard) add(conns ...*Conn) {
	s.mu.Lock()
	s.queue = append(s.queue, conns...)
	wake := s.idle
	s.idle = false
	s.mu.Unlock()
	if wake {
		s.wake <- struct{}{} // has room: idle is set only by the loop, behind each receive
	}
}

func (s *shard) loop() {
	p := pass{maxBytes: s.hub.cfg.MaxPass}
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
		p.now = s.hub.now()
		begin := p.now
		for i, c := range batch {
			batch[i] = nil
			if p.run(c) {
				s.add(c)
			}
		}
		p.shrink()
		if pause := begin + s.hub.cfg.FlushInterval - s.hub.now(); pause > 0 && s.hub.cfg.FlushInterval > 0 {
			time.Sleep(pause)
		}
	}
}

// shrink gives up a buffer that an unusually long message has stretched.
func (p *pass) shrink() {
	if cap(p.buf) > 8*p.maxBytes {
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
