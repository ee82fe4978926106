package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	laneMaxBytes = 4 << 20 // of one response
	seatBytes    = 1 << 20 // fetched ahead for one partition; beyond, it is left out until it is read
	// shortWait is how long a request may wait at the broker while a partition is left out.
	shortWait = 2 * time.Millisecond
)

// fetchLane reads the partitions of one topic that one broker leads, for all fetchers that have arrived at the end of their
// logs: one request asks for all of them. It reads ahead of them, each by seatBytes. What goes wrong is not its business:
// the fetcher concerned loses its seat and makes requests of its own again.
type fetchLane struct {
	c   *Cluster
	key laneKey

	seats []*seat // of c.mu; the lane's goroutine lives as long as there are some
}

// seat is a fetcher's place in a lane, and what was read ahead.
type seat struct {
	partition int32
	wake      chan struct{}

	mu     sync.Mutex
	offset int64  // of the next batch to ask for
	ahead  []byte // whole batches
	high   int64
	start  int64
	told   time.Time // when the fetcher was last woken
	lost   bool      // the seat is; what was read ahead is still good
	why    error     // the lane's request failed
	left   bool      // the fetcher has
}

// seat takes a seat in the lane to the broker, from offset on. It is nil when the partition has one: a request can name it
// once only.
func (c *Cluster) seat(topic string, leader, partition int32, offset int64) *seat {
	key := laneKey{topic: topic, leader: leader}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.fetchLanes[key]
	if l == nil {
		l = &fetchLane{c: c, key: key}
		c.fetchLanes[key] = l
		c.running.Go(l.run)
	}
	if slices.ContainsFunc(l.seats, func(s *seat) bool { return s.partition == partition }) {
		return nil
	}
	s := &seat{wake: make(chan struct{}, 1), partition: partition, offset: offset, high: -1, told: time.Now()}
	l.seats = append(l.seats, s)
	return s
}

// leave gives the seat up.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.ahead = true, nil
}

// read gives what was read ahead for the memory of what was given last. ok is false when the seat is lost and nothing is
// left.
func (s *seat) read(old []byte) (batches []byte, high, start int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batches, high, start = s.ahead, s.high, s.start
	if cap(old) > 2*seatBytes {
		old = nil // one large record must not hold memory for ever
	}
	s.ahead = old[:0]
	return batches, high, start, len(batches) > 0 || !s.lost
}

// filled tells whether something was read ahead.
func (s *seat) filled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ahead) > 0
}

func (s *seat) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run makes requests as long as there are seats.
func (l *fetchLane) run() {
	req := l.fresh()
	var asked []*seat
	for turn := 0; ; turn++ {
		var ok bool
		if asked, ok = l.ask(asked[:0], req, turn); !ok {
			return
		}
		if err := l.exchange(req); err != nil {
			if l.c.ctx.Err() != nil {
				asked = l.all(asked[:0]) // those who were not asked can't wait for a better time
			}
			for _, s := range asked {
				s.lose(err)
			}
			l.drop(asked)
			req = l.fresh()
			continue
		}
		now := time.Now()
		var lost []*seat
		for i, s := range asked {
			if !s.receive(&req.parts[i], now) {
				lost = append(lost, s)
			}
		}
		l.drop(lost)
	}
}

func (l *fetchLane) fresh() *fetchRequest {
	return &fetchRequest{topic: l.key.topic, leader: l.key.leader, maxBytes: laneMaxBytes, clientID: l.c.clientID}
}

// ask fills the request with those who have room, and ends the lane when nobody is left.
func (l *fetchLane) ask(asked []*seat, req *fetchRequest, turn int) ([]*seat, bool) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.seats = slices.DeleteFunc(l.seats, (*seat).gone)
	if len(l.seats) == 0 {
		delete(l.c.fetchLanes, l.key)
		return nil, false
	}
	req.parts, req.maxWait = req.parts[:0], fetchMaxWait
	for i := range l.seats {
		s := l.seats[(i+turn)%len(l.seats)] // nobody is always last
		if offset, room := s.wants(); room {
			asked = append(asked, s)
			req.parts = append(req.parts, fetchPart{partition: s.partition, offset: offset})
		} else {
			req.maxWait = shortWait
		}
	}
	return asked, true
}

// exchange makes the request. When nobody has room it only waits a little.
func (l *fetchLane) exchange(req *fetchRequest) error {
	if len(req.parts) == 0 {
		return sleep(l.c.ctx, shortWait)
	}
	ctx, cancel := context.WithTimeout(l.c.ctx, req.maxWait+time.Second)
	defer cancel()
	if _, err := l.c.transport.RoundTrip(ctx, l.c.addr, req); err != nil {
		return err
	}
	if req.code != 0 {
		return req.code
	}
	return nil
}

// all copies the list of seats into dst.
func (l *fetchLane) all(dst []*seat) []*seat {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return append(dst, l.seats...)
}

// drop takes seats away.
func (l *fetchLane) drop(lost []*seat) {
	if len(lost) == 0 {
		return
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.seats = slices.DeleteFunc(l.seats, func(s *seat) bool { return slices.Contains(lost, s) })
}

func (s *seat) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// wants tells what to ask for next, and whether there is room for it.
func (s *seat) wants() (offset int64, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offset, len(s.ahead) < seatBytes
}

// lose ends the seat.
func (s *seat) lose(why error) {
	s.mu.Lock()
	s.lost, s.why = true, why
	s.mu.Unlock()
	s.signal()
}

// receive takes what the broker said of the partition; without news the fetcher is woken now and then all the same. It
// tells whether the fetcher keeps its seat.
func (s *seat) receive(p *fetchPart, now time.Time) bool {
	n, next, err := wholeBatches(p.records)
	if err != nil || p.code != 0 || len(p.records) > 0 && (n == 0 || next <= p.offset) {
		s.lose(nil)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.high, s.start = p.highWatermark, p.logStart
	if n > 0 {
		s.ahead, s.offset = append(s.ahead, p.records[:n]...), next
	} else if now.Sub(s.told) < fetchMaxWait {
		return true
	}
	s.told = now
	s.signal()
	return true
}

// wholeBatches measures the record batches that are there from first to last byte, and tells which offset follows them.
func wholeBatches(b []byte) (n int, next int64, err error) {
	for len(b)-n >= batchHeader {
		h := b[n:]
		size := int64(int32(binary.BigEndian.Uint32(h[atLength:]))) + atLeaderEpoch
		delta := int64(int32(binary.BigEndian.Uint32(h[atLastOffsetDelta:])))
		if size < batchHeader || delta < 0 {
			return 0, 0, fmt.Errorf("%w: batch of %d bytes and %d offsets", ErrCorrupt, size, delta+1)
		}
		if size > int64(len(h)) {
			break
		}
		n += int(size)
		next = int64(binary.BigEndian.Uint64(h[atBaseOffset:])) + delta + 1
	}
	return n, next, nil
}
