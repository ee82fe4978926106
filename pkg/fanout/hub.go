package fanout

import (
	"errors"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a Hub. The zero value of a field takes the default.
type Config struct {
	Shards        int           // loops that write; default one for each four processors, at least one
	MaxPass       int           // bytes gathered in one pass, give or take one message; default 64 KiB
	MaxControl    int           // bytes of control messages that may wait for a connection; default 256 KiB
	FlushInterval time.Duration // from one pass over the connections to the next, for very large audiences; default none
	WriteTimeout  time.Duration // how long a connection whose transport takes nothing is kept; default a minute
}

// Hub owns the shards. All topics and connections belong to one.
type Hub struct {
	cfg     Config
	start   time.Time
	shards  []*shard
	loops   sync.WaitGroup
	ending  chan struct{} // closed with the hub
	sweeper sync.WaitGroup
	parking parking
	due     chan *due // not in use
	beats   [numBeats]atomic.Pointer[Frame]
	stats   Stats

	mu          sync.Mutex
	conns       []*Conn // each knows its place
	attached    uint64  // so far
	closed      bool
	portable    poller // made when first needed, like the other one
	descriptors poller
}

// ErrHubClosed is what Attach returns after Close.
var ErrHubClosed = errors.New("the hub is closed")

// New makes a hub; Start starts it.
func New(cfg Config) *Hub {
	cfg.Shards = or(cfg.Shards, max(1, runtime.GOMAXPROCS(0)/4))
	cfg.MaxPass = or(cfg.MaxPass, 64<<10)
	cfg.MaxControl = or(cfg.MaxControl, 256<<10)
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = time.Minute
	}
	h := &Hub{cfg: cfg, start: time.Now(), ending: make(chan struct{})}
	h.parking.conns = make(map[uint64]*Conn)
	for range cfg.Shards {
		h.shards = append(h.shards, &shard{hub: h, index: len(h.shards), wake: make(chan struct{}, 1)})
	}
	h.due = make(chan *due, 2*runtime.GOMAXPROCS(0))
	return h
}

// Start starts the hub's goroutines. Close stops them.
func (h *Hub) Start() {
	h.sweeper.Go(h.sweep)
	for _, s := range h.shards {
		h.loops.Go(s.loop)
	}
}

func or(v, otherwise int) int {
	if v <= 0 {
		return otherwise
	}
	return v
}

// now is the hub's clock. It starts at one nanosecond, so that zero can mean never.
func (h *Hub) now() time.Duration { return time.Since(h.start) + 1 }

// Attach takes over the writing side of a connection. From then on nobody else writes to the transport. The caller goes on
// reading from it, and closes it when that ends. The hub must have been started.
func (h *Hub) Attach(w Writer, events Events) (*Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrHubClosed
	}
	watched, err := h.prepare(w)
	if err != nil {
		return nil, err
	}
	h.attached++
	c := &Conn{hub: h, id: h.attached, shard: h.shards[h.attached%uint64(len(h.shards))], writer: w, watched: watched, events: events}
	if w, ok := w.(chatty); ok {
		w.onOutput(c.kick)
	}
	c.place = int32(len(h.conns)) //nolint:gosec // no process has so many descriptors
	h.conns = append(h.conns, c)
	return c, nil
}

// prepare makes the poller that can watch w, and tells whether it is the one for descriptors. h.mu is held.
func (h *Hub) prepare(w Writer) (watched bool, err error) {
	if d, ok := w.(described); ok && d.descriptor() != nil {
		if h.descriptors == nil {
			h.descriptors, err = newDescriptorPoller(h)
		}
		if h.descriptors != nil || err != nil {
			return true, err
		}
	}
	if h.portable == nil {
		h.portable = newRetrier(h)
	}
	return false, nil
}

// poller returns the one that prepare has made for a connection. It does not change any more.
func (c *Conn) poller() poller {
	if c.watched {
		return c.hub.descriptors
	}
	return c.hub.portable
}

func (h *Hub) forget(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := len(h.conns) - 1
	moved := h.conns[end]
	h.conns[c.place], moved.place = moved, c.place
	h.conns[end] = nil
	h.conns = h.conns[:end]
}

// Conns counts the connections.
func (h *Hub) Conns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// Close closes every connection at once and waits for all goroutines of the hub.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.closed {
		close(h.ending)
	}
	h.closed = true
	conns := slices.Clone(h.conns)
	h.mu.Unlock()
	for _, c := range conns {
		c.Abort()
	}
	for _, s := range h.shards {
		s.end()
	}
	h.loops.Wait()
	h.sweeper.Wait()
	for _, p := range []poller{h.portable, h.descriptors} {
		if p != nil {
			p.close()
		}
	}
}

// Stats counts what a hub does.
type Stats struct {
	Passes    atomic.Uint64 // writes
	Frames    atomic.Uint64
	Bytes     atomic.Uint64
	Conflated atomic.Uint64 // messages that a subscriber got only merged or skipped
	Gaps      atomic.Uint64 // times a subscriber of a Log fell off the ring
	Blocked   atomic.Uint64 // times a connection became blocked
	Slow      atomic.Uint64 // connections closed because they were too slow
	Deflated  atomic.Uint64 // messages compressed, each once for all that get it
	Latency   Histogram     // of each write, in microseconds: from publishing its oldest message to the end of the write
	Age       Histogram     // of each write, in microseconds: how old its oldest event was then (Entry.Age)
	Batch     Histogram     // of each write: its frames
}

// Stats are the hub's counters, live.
func (h *Hub) Stats() *Stats { return &h.stats }

// Histogram has a bucket for each power of two.
type Histogram struct {
	buckets [32]atomic.Uint64 // bucket i is for values up to 2^i; the last one takes what is larger, too
	sum     atomic.Uint64
}

func (h *Histogram) add(n int64) {
	v := uint64(max(0, n))
	h.sum.Add(v)
	i := 0
	if v > 1 {
		i = bits.Len64(v - 1)
	}
	h.buckets[min(i, len(h.buckets)-1)].Add(1)
}

// Buckets returns the cumulative counts by upper bound; the count and the sum cover everything. Bounds and sum are
// multiplied by unit.
func (h *Histogram) Buckets(unit float64) (bounds map[float64]uint64, count uint64, sum float64) {
	bounds = make(map[float64]uint64, len(h.buckets))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(h.buckets)-1 {
			bounds[float64(uint64(1)<<i)*unit] = count
		}
	}
	return bounds, count, float64(h.sum.Load()) * unit
}
