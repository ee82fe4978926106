package fanout

import "time"

const (
	maxBatch    = 64                     // entries looked at in one go
	maxMerge    = 1024                   // entries worth merging; beyond, a snapshot is shorter
	maxEntryAge = 100 * time.Millisecond // an unblocked book is merged too when its entries are older than this
	lagEvery    = time.Second
	ackPatience = 10 * time.Minute
)

// pass gathers what one connection is owed and writes it. It is a shard's scratch space.
type pass struct {
	maxBytes int // Config.MaxPass
	conn     *Conn
	buf      []byte
	entries  [maxBatch]*Entry
	merging  []*Entry
	chain    *Frame        // of the subscription that is being filled: frames that must stand together
	subs     []*Sub        // marked ones of the connection
	now      time.Duration // read once for each pass: the end of one is the beginning of the next
	oldest   time.Duration // when the oldest message in buf was published; 0 if none
	born     time.Duration // when the oldest event in buf happened, as far as known
	dated    bool          // born is known
	frames   int
	conflate bool // the connection was blocked: merge what has piled up
	slow     bool // end the connection
	lagged   []Lagged
	deflater deflater
}

// run does one pass. It reports whether the connection must get another one at once.
func (p *pass) run(c *Conn) (again bool) {
	p.begin(c)
	if !p.flush() {
		return false
	}
	closing := p.takeControl()
	switch {
	case !closing:
		p.gather()
		p.lag()
	case c.observer != nil:
		if f := c.observer.Last(); f != nil {
			p.add(f)
		}
		c.observer = nil // should the transport not take all of it, there are more passes
	}
	if p.slow {
		c.hub.stats.Slow.Add(1)
		c.Close(c.events.Slow())
	}
	if !p.write() {
		return false
	}
	if closing {
		c.finish()
		return false
	}
	return p.end()
}

func (p *pass) begin(c *Conn) {
	p.conn, p.buf = c, p.buf[:0]
	p.oldest, p.dated, p.frames, p.conflate, p.slow = 0, false, 0, c.slow, false
}

// open tells whether one more message may be gathered.
func (p *pass) open() bool { return len(p.buf) < p.maxBytes && !p.conn.blocked() }

// openControl is open for control messages.
func (p *pass) openControl() bool { return len(p.buf) < p.maxBytes && !p.conn.controlBlocked() }

// add gathers a frame. One goroutine at a time adds to a connection's sent, so that two steps do.
func (p *pass) add(f *Frame) {
	c := p.conn
	if w := c.flow.Load(); w != nil && f.data[0]&0x0F < byte(Close) {
		w.sent.Add(int64(len(f.data) - f.head)) // uncompressed
	}
	if c.deflate {
		var made int
		if f, made = f.deflated(&p.deflater); made > 0 {
			c.hub.stats.Deflated.Add(1)
		}
	}
	if c.observer != nil {
		c.observer.Sent(f)
	}
	p.buf = append(p.buf, f.data...)
	p.frames++
}

// published notes the age of a message that is being gathered. Those that a client missed while it was away do not count.
func (p *pass) published(e *Entry) {
	if p.oldest == 0 || e.at < p.oldest {
		p.oldest = e.at
	}
	if born := e.at - e.Age; e.Age > 0 && (!p.dated || born < p.born) {
		p.born, p.dated = born, true
	}
}

// takeControl gathers control messages and beats as far as the window lets them.
func (p *pass) takeControl() (closing bool) {
	c := p.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.control[:0]
	for _, m := range c.control {
		if !c.closing && !m.ping && (len(kept) > 0 || c.controlBlocked()) {
			kept = append(kept, m)
			continue
		}
		p.add(m.frame)
		c.bytes -= uint32(len(m.frame.data)) //nolint:gosec // it was added
		if m.window > 0 {
			c.limit(m.window, p.now)
		}
	}
	clear(c.control[len(kept):])
	if c.control = kept; len(kept) == 0 {
		c.control = nil
	}
	p.subs = p.subs[:0]
	if c.jam != nil {
		p.subs = append(p.subs, c.jam.waiting...)
	}
	p.subs = c.marked.moveTo(p.subs)
	if c.due != 0 && !c.closing && p.openControl() {
		p.beats()
		if j := c.jam; len(p.subs) == 0 && j != nil && len(j.lagged) == 0 && p.now-j.noted >= lagEvery {
			c.jam = nil // a connection that only beats keeps no lists
		}
	}
	return c.closing
}

// beats gathers the newest of the beats that are due. The caller holds Conn.mu.
func (p *pass) beats() {
	c := p.conn
	for b := range numBeats {
		if f := c.hub.beats[b].Load(); f != nil && c.due&(1<<b) != 0 {
			p.add(f)
		}
	}
	c.due = 0
}

// gather asks each marked subscription for what it is owed. Those that find no room stay.
func (p *pass) gather() {
	c := p.conn
	var waited []*Sub
	if c.jam != nil {
		waited = c.jam.waiting
	}
	kept := waited[:0]
	for _, s := range p.subs {
		if p.slow || !p.open() {
			if s.state.Load() != cancelled {
				kept = append(kept, s)
			}
			continue
		}
		was, ok := s.unmark()
		if !ok {
			continue // cancelled
		}
		if !s.fill(p, was&again != 0) && s.state.CompareAndSwap(idle, marked) {
			kept = append(kept, s)
		}
	}
	clear(p.subs)
	clear(waited[min(len(kept), len(waited)):])
	if cap(kept) > 0 {
		c.jammed().waiting = kept
	}
	if len(kept) > 0 && c.blocked() {
		p.blocked()
		if p.now-time.Duration(c.flow.Load().heard.Load()) > ackPatience {
			p.slow = true
		}
	}
}

// blocked notes that the connection can't take more.
func (p *pass) blocked() {
	if c := p.conn; !c.slow {
		c.slow, c.jammed().behind = true, p.now
		c.hub.stats.Blocked.Add(1)
	}
}

// conflated counts messages that a subscriber got only the sum of.
func (p *pass) conflated(s *Sub, n int) {
	if n <= 0 {
		return
	}
	r := s.more()
	if r.merged == 0 {
		j := p.conn.jammed()
		j.lagged = append(j.lagged, s)
	}
	r.merged += n
	p.conn.hub.stats.Conflated.Add(uint64(n))
}

// lag tells the client, at most once a second, what was conflated.
func (p *pass) lag() {
	c, j := p.conn, p.conn.jam
	if j == nil || len(j.lagged) == 0 || j.noted != 0 && p.now-j.noted < lagEvery || !p.openControl() && !p.slow {
		return
	}
	p.lagged = p.lagged[:0]
	for _, s := range j.lagged {
		if s.state.Load() != cancelled {
			p.lagged = append(p.lagged, Lagged{s.topic.Label, s.rare.merged})
		}
		s.rare.merged = 0
	}
	clear(j.lagged)
	j.lagged = j.lagged[:0]
	behind := time.Duration(0)
	if j.behind != 0 {
		behind = p.now - j.behind
	}
	if len(p.lagged) > 0 {
		if f := c.events.Lag(p.lagged, behind); f != nil {
			p.add(f)
			j.noted = p.now
		}
	}
	clear(p.lagged)
}

// flush gets rid of output from before. It reports false like write.
func (p *pass) flush() bool {
	c := p.conn
	if c.left == 0 && !c.output.Load() {
		return true
	}
	c.output.Store(false)
	return p.wrote(c.writer.Flush())
}

// write hands the transport what was gathered. When the transport does not take all of it, or is gone, the connection is
// no longer the shard's business and write reports false.
func (p *pass) write() bool {
	c := p.conn
	if len(p.buf) == 0 {
		return true
	}
	left, err := c.writer.Write(p.buf)
	if err == nil {
		p.count()
	}
	return p.wrote(left, err)
}

func (p *pass) wrote(left int, err error) bool {
	c := p.conn
	switch {
	case err != nil:
		c.fail(err)
		return false
	case left > 0:
		p.blocked()
		c.park(left, p.now)
		return false
	}
	c.left = 0
	return true
}

func (p *pass) count() {
	s := &p.conn.hub.stats
	s.Passes.Add(1)
	s.Frames.Add(uint64(p.frames))
	s.Bytes.Add(uint64(len(p.buf)))
	s.Batch.add(int64(p.frames))
	if p.oldest == 0 {
		return
	}
	p.now = p.conn.hub.now()
	s.Latency.add((p.now - p.oldest).Microseconds())
	if p.dated {
		s.Age.add((p.now - p.born).Microseconds())
	}
}

// end gives the connection back, unless there is more to send.
func (p *pass) end() (again bool) {
	c := p.conn
	if !c.waits() {
		c.slow = false
		if c.jam != nil && len(c.jam.lagged) == 0 {
			c.jam.behind = 0
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return false
	}
	again = c.closing || c.marked.first != nil || c.waits() && !c.blocked() || (len(c.control) > 0 || c.due != 0) && !c.controlBlocked()
	c.scheduled = again
	return again
}
