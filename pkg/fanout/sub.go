package fanout

import (
	"sync/atomic"

	"github.com/tickwire/tickwire/pkg/market"
)

// Start says where a subscription begins and how it is served.
type Start struct {
	Format   Format
	Lossless bool            // Merge topics are sent entry by entry like Logs, and falling off the ring ends the connection
	Snapshot bool            // begin with a snapshot
	History  int             // how many entries a Log's snapshot holds
	Position uint64          // the first entry to send, unless a snapshot says otherwise
	Seq      market.Sequence // what the subscriber has already
	Floor    market.Sequence // nothing at or below it is sent, and no older snapshot
}

// The states of a subscription. Marked means that it stands in its connection's list.
const (
	paused uint32 = iota
	idle
	marked
	cancelled

	stateMask uint32 = 3
	again     uint32 = 4 // beside the state, unless that is idle or cancelled: a new snapshot was asked for
)

// Sub is one connection's subscription to one topic. There are more of them than of anything else, so it is kept small:
// it fits 64 bytes, the list of marked ones included.
type Sub struct {
	topic *Topic
	conn  *Conn
	next  *Sub // behind it in the connection's list of marked ones, guarded by Conn.mu
	state atomic.Uint32
	place uint32 // index in topic.subs, guarded by Topic.mu

	manner manner

	// What follows belongs to the pass.
	traits  traits
	notices uint16
	values  uint32
	epoch   uint32 // of the last message gathered
	cursor  uint32 // the lower half of a position; see Topic.position
	seq     uint64 // of the last message gathered
	rare    *rare  // nil is the zero value
}

// manner is how a subscription is served, and does not change: its Format, and whether it is lossless.
type manner uint8

const lossless manner = 0x80

func (m manner) format() Format { return Format(m &^ lossless) }

// traits are what is or is not so of a subscription by now.
type traits uint8

const (
	needs traits = 1 << iota // a snapshot comes next
	live                     // it has caught up since it began, or got a snapshot
)

func (t traits) has(one traits) bool { return t&one != 0 }

func (t *traits) set(one traits) { *t |= one }

func (t *traits) drop(some traits) { *t &^= some }

// rare is what few subscriptions have.
type rare struct {
	chain   *Frame // begun and not yet all gathered; while the subscription is filled it is the pass's
	history int
	floor   market.Sequence
	beyond  market.Sequence // a snapshot must not be older: what lies before could not be merged
	merged  int             // messages conflated since the last lag notice
}

// at is the sequence of the last message gathered.
func (s *Sub) at() market.Sequence { return market.Sequence{Epoch: s.epoch, Seq: s.seq} }

func (s *Sub) reach(seq market.Sequence) { s.epoch, s.seq = seq.Epoch, seq.Seq }

// move sets the position of the next entry.
func (s *Sub) move(position uint64) { s.cursor = uint32(position) } //nolint:gosec // the lower half

// more returns what few subscriptions have, to be changed.
func (s *Sub) more() *rare {
	if s.rare == nil {
		s.rare = new(rare)
	}
	return s.rare
}

// less gives back what this subscription no longer has.
func (s *Sub) less() {
	if s.rare != nil && *s.rare == (rare{}) {
		s.rare = nil
	}
}

// floor is the place at or below which nothing is sent.
func (s *Sub) floor() market.Sequence {
	if s.rare == nil {
		return market.Sequence{}
	}
	return s.rare.floor
}

// Subscribe registers a subscription; nothing is sent before [Sub.Go]. Registering comes first and the snapshot is cut
// later, so no message between the two is missed. It must not be called while the topic's writer is at work: hold the
// writer's lock if Start depends on the topic's position.
func (c *Conn) Subscribe(t *Topic, start Start) *Sub {
	s := &Sub{topic: t, conn: c, manner: manner(start.Format)}
	if start.Lossless {
		s.manner |= lossless
	}
	if start.Snapshot {
		s.traits.set(needs)
	}
	s.reach(start.Seq)
	if start.History > 0 || start.Floor != (market.Sequence{}) {
		s.rare = &rare{history: start.History, floor: start.Floor}
	}
	t.add(s, start.Position)
	return s
}

// Begin puts frames before everything else; it must be called before Go.
func (s *Sub) Begin(frames *Frame) { s.more().chain = frames }

// Go lets messages flow.
func (s *Sub) Go() {
	for {
		v := s.state.Load()
		if v&stateMask != paused {
			return
		}
		if s.state.CompareAndSwap(v, marked|v&again) {
			break
		}
	}
	if s.conn.push(s) {
		s.conn.shard.add(s.conn)
	}
}

// Again asks for a new snapshot, or value, as if the subscriber had nothing.
func (s *Sub) Again() {
	for {
		v := s.state.Load()
		switch v {
		case cancelled:
			return
		case idle:
			if s.state.CompareAndSwap(idle, marked|again) {
				if s.conn.push(s) {
					s.conn.shard.add(s.conn)
				}
				return
			}
		default:
			if s.state.CompareAndSwap(v, v|again) {
				return
			}
		}
	}
}

// Nudge has the connection look for something to send. It is for a subscriber that waits for a snapshot beyond its Floor
// while the topic is silent.
func (s *Sub) Nudge() {
	if s.mark() {
		s.conn.shard.add(s.conn)
	}
}

// Cancel ends the subscription; what the connection has not gathered yet is dropped. It may be called twice.
func (s *Sub) Cancel() {
	if s.state.Swap(cancelled) != cancelled {
		s.topic.remove(s)
	}
}

// Topic is what the subscription is to.
func (s *Sub) Topic() *Topic { return s.topic }

// Lossless tells whether it was begun so.
func (s *Sub) Lossless() bool { return s.manner&lossless != 0 }

// mark puts the subscription on its connection's list. It reports whether the connection has to be handed to its shard.
func (s *Sub) mark() (start bool) {
	return s.state.Load() == idle && s.state.CompareAndSwap(idle, marked) && s.conn.push(s)
}

// unmark takes the subscription off its connection's list, for a pass that is about to fill it. It fails when it is not
// marked any more.
func (s *Sub) unmark() (was uint32, ok bool) {
	for {
		was = s.state.Load()
		if was&stateMask != marked {
			return was, false
		}
		if s.state.CompareAndSwap(was, idle) {
			return was, true
		}
	}
}

// fill gathers what the subscriber is owed, or everything again. It reports false when the pass has no room for all of it.
func (s *Sub) fill(p *pass, again bool) bool {
	p.chain = nil
	if r := s.rare; r != nil && r.chain != nil {
		p.chain, r.chain = r.chain, nil
		s.less()
	}
	if again {
		if s.topic.kind == Merge {
			s.traits.set(needs)
		}
		s.values, s.notices, p.chain = 0, 0, nil
	}
	all := s.gather(p)
	if p.chain != nil {
		s.more().chain, p.chain = p.chain, nil
	}
	return all
}

func (s *Sub) gather(p *pass) bool {
	for {
		if !p.drain() || !p.open() {
			return false
		}
		if s.traits.has(needs) {
			if !s.snapshot(p) {
				return true // waits for the topic to reach the floor
			}
			continue
		}
		o := s.topic.owed(s.cursor, p.entries[:], len(p.entries))
		if o.pending == 0 {
			s.traits.set(live)
		}
		switch {
		case o.lost:
			if !s.lost(p, o) {
				return true
			}
		case o.pending > 1 && s.behind(p, o):
			s.merge(p, o.pending)
		case o.pending > 0:
			if !s.entries(p, o) {
				return false
			}
		case s.value(p, o):
		case s.notice(p, o):
		default:
			return true
		}
	}
}

// drain gathers the frames that must stand together.
func (p *pass) drain() bool {
	for p.chain != nil {
		if !p.open() {
			return false
		}
		p.add(p.chain)
		p.chain = p.chain.next
	}
	return true
}

// snapshot begins the snapshot, unless the state is older than what the subscriber has seen elsewhere.
func (s *Sub) snapshot(p *pass) bool {
	want := Want{Format: s.manner.format(), Seq: s.at()}
	if r := s.rare; r != nil {
		want.History, want.NotBefore = r.history, r.floor
		if r.beyond.Compare(r.floor) > 0 {
			want.NotBefore = r.beyond
		}
	}
	snap := s.topic.source.Snapshot(want)
	if s.older(snap.Seq) {
		return false
	}
	s.traits.drop(needs | live)
	if s.rare != nil {
		s.rare.history = 0
		s.less()
	}
	p.chain = snap.Frames
	s.reach(snap.Seq)
	if snap.Next > 0 {
		s.move(snap.Next)
	}
	return true
}

// older tells whether a state of the floor's epoch, or of an earlier one, lies before the floor.
func (s *Sub) older(seq market.Sequence) bool { return seq.Compare(s.floor()) < 0 }

// behind tells whether the pending entries are to be merged: when the connection could not be written to, and when a
// subscriber that was up to date no longer is, though its socket has always taken something. One that resumes gets every
// entry.
func (s *Sub) behind(p *pass, o owed) bool {
	if s.topic.kind != Merge || s.Lossless() {
		return false
	}
	return p.conflate || s.traits.has(live) && p.now-o.entries[0].at > maxEntryAge
}

// merge replaces the pending entries by one message, or by a snapshot when they can't be merged.
func (s *Sub) merge(p *pass, pending uint64) {
	var frames *Frame
	if pending <= maxMerge {
		if cap(p.merging) < int(pending) {
			p.merging = make([]*Entry, pending)
		}
		o := s.topic.owed(s.cursor, p.merging[:0:cap(p.merging)], int(pending))
		if o.lost {
			return // it left the ring just now: the caller sees that next
		}
		p.merging = o.entries
		if frames = s.topic.source.Merge(o.entries, s.manner.format()); frames != nil {
			newest := o.entries[len(o.entries)-1]
			p.chain = frames
			s.move(newest.index + 1)
			s.reach(newest.Seq)
		}
		clear(o.entries)
	}
	if frames == nil {
		s.traits.set(needs)
		s.more().beyond = s.topic.Last()
	}
	p.conflated(s, int(pending)-1)
}

// lost goes on after entries left the ring. It reports false when that ends the connection.
func (s *Sub) lost(p *pass, o owed) bool {
	switch {
	case s.Lossless():
		p.conflated(s, 1)
		p.slow = true
		return false
	case s.topic.kind == Merge, s.topic.kind == Replay:
		s.traits.set(needs)
		p.conflated(s, 1)
	default:
		last := o.last
		if o.first != nil {
			last = market.Sequence{Epoch: o.first.Seq.Epoch, Seq: o.first.Prev}
		}
		s.move(o.position)
		if after := s.at(); last.Compare(after) > 0 {
			p.chain = s.topic.source.Gap(after, last, s.manner.format())
			s.reach(last)
		}
		p.conn.hub.stats.Gaps.Add(1)
	}
	return true
}

// entries gathers pending entries as they are.
func (s *Sub) entries(p *pass, o owed) bool {
	floor := s.floor()
	for _, e := range o.entries {
		if !p.drain() || !p.open() {
			return false
		}
		s.move(e.index + 1)
		if e.Seq.Compare(floor) <= 0 || e.Seq.Compare(s.at()) <= 0 {
			continue
		}
		p.chain = s.topic.form(e, s, p)
		s.reach(e.Seq)
		if s.traits.has(live) {
			p.published(e)
		}
	}
	return p.drain()
}

// value begins the newest value, if the subscriber does not have it.
func (s *Sub) value(p *pass, o owed) bool {
	if o.value == nil || o.values == s.values || s.older(o.value.Seq) {
		return false
	}
	if skipped := int(o.values-s.values) - 1; skipped > 0 && s.values > 0 && p.conflate {
		p.conflated(s, skipped)
	}
	if s.values > 0 {
		p.published(o.value)
	}
	s.values = o.values
	p.chain = s.topic.form(o.value, s, p)
	return true
}

// notice begins the newest notice, if the subscriber does not have it.
func (s *Sub) notice(p *pass, o owed) bool {
	if o.notices == s.notices {
		return false
	}
	s.notices = o.notices
	p.chain = o.notice
	return true
}
