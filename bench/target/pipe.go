package target

import (
	"errors"
	"sync"
	"sync/atomic"
)

// pipe carries messages to a server that runs elsewhere, beside the schedule: a slow server makes no other message late than
// those that wait for it. A lane sends one thing at a time. A topic always has the same lane, and so its messages stay in
// order.
//
// A lane holds at most maxQueued messages. When it is full the schedule waits for it: nothing is left out, and what is late
// then has the time at which it was due, as always.
type pipe struct {
	lanes   []*lane
	sending sync.WaitGroup

	sent    atomic.Uint64 // messages that the server has taken
	blocked atomic.Uint64 // times that the schedule waited
}

const maxQueued = 8192

// batch is messages on their way, one behind the other in text.
type batch struct {
	topics []int
	ends   []int
	text   []byte
}

func (b *batch) len() int { return len(b.topics) }

// message is the nth.
func (b *batch) message(n int) (topic int, payload []byte) {
	from := 0
	if n > 0 {
		from = b.ends[n-1]
	}
	return b.topics[n], b.text[from:b.ends[n]]
}

func (b *batch) add(topic int, payload []byte) {
	b.text = append(b.text, payload...)
	b.topics, b.ends = append(b.topics, topic), append(b.ends, len(b.text))
}

func (b *batch) reset() { b.topics, b.ends, b.text = b.topics[:0], b.ends[:0], b.text[:0] }

// lane is a queue and who empties it.
type lane struct {
	mu     sync.Mutex // guards what follows
	moved  sync.Cond  // one of it has changed
	queue  batch
	ended  bool  // nothing more comes
	failed error // nothing more is sent
}

// start makes lanes, each with something that sends what has gathered. The first error of a lane is its end.
func (p *pipe) start(lanes int, sender func() func(*batch) error) {
	for range lanes {
		l := &lane{}
		l.moved.L = &l.mu
		p.lanes = append(p.lanes, l)
		send := sender()
		p.sending.Go(func() { p.run(l, send) })
	}
}

// put queues a message. It returns the error of one before it.
func (p *pipe) put(topic int, payload []byte) error {
	l := p.lanes[topic%len(p.lanes)]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.len() >= maxQueued {
		p.blocked.Add(1)
	}
	for l.queue.len() >= maxQueued && l.failed == nil {
		l.moved.Wait()
	}
	if l.failed != nil {
		return l.failed
	}
	l.queue.add(topic, payload)
	l.moved.Broadcast()
	return nil
}

func (p *pipe) run(l *lane, send func(*batch) error) {
	var b batch
	for {
		b.reset()
		l.mu.Lock()
		for l.queue.len() == 0 && !l.ended && l.failed == nil {
			l.moved.Wait()
		}
		b, l.queue = l.queue, b
		over := b.len() == 0 || l.failed != nil
		l.moved.Broadcast()
		l.mu.Unlock()
		if over {
			return
		}
		if err := send(&b); err != nil {
			p.fail(l, err)
			return
		}
		p.sent.Add(uint64(b.len()))
	}
}

// fail ends a lane.
func (p *pipe) fail(l *lane, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
	l.moved.Broadcast()
}

// fault is the error of a lane, if any has one.
func (p *pipe) fault() error {
	var errs []error
	for _, l := range p.lanes {
		l.mu.Lock()
		errs = append(errs, l.failed)
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}

// close has everything sent that is queued, and returns what has gone wrong.
func (p *pipe) close() error {
	for _, l := range p.lanes {
		l.mu.Lock()
		l.ended = true
		l.moved.Broadcast()
		l.mu.Unlock()
	}
	p.sending.Wait()
	return p.fault()
}

func (p *pipe) counters() map[string]float64 {
	return map[string]float64{Sent: float64(p.sent.Load()), Waits: float64(p.blocked.Load())}
}
