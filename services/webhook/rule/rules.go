package rule

import (
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// rule is a rule and its state, in as little memory as that takes. What most rules lack is in extra.
type rule struct {
	id     int64
	limit  int64
	line   uint32
	armSeq uint32
	extra  uint32 // place of its extra, plus one; 0 is none
	change uint32 // place in the Changes of the newest Output that it is in
	flags  flags
}

// extra is what only some rules have.
type extra struct {
	hysteresis int64
	since      market.Time
	until      market.Time
	cooldown   uint32 // ms
	hold       uint32 // ms
}

type flags uint16

const (
	opMask flags = 3 // an Op
	once   flags = 1 << (iota + 1)
	resets       // OnGap is GapResets
	disarmed
	pending
	fresh    // waits for the next value to be looked at
	rising   // in its line's rising index
	falling  // in its line's falling index
	listed   // among its line's waiters
	waiting  // has an entry among the partition's timers
	expiring // has an entry among the partition's expiries
	live     // not removed; a place is free when it is not live and both heaps have let go of it
)

func (r *rule) op() Op          { return Op(r.flags & opMask) }
func (r *rule) is(f flags) bool { return r.flags&f != 0 }
func (r *rule) set(f flags)     { r.flags |= f }
func (r *rule) clear(f flags)   { r.flags &^= f }
func (r *rule) holds(v int64) bool {
	if r.op().above() {
		return v >= r.limit
	}
	return v <= r.limit
}

const pageSize = 1024

// pages is a slice that grows without moving: a million rules are not copied when one more comes.
type pages[T any] struct {
	pages []*[pageSize]T
	n     uint32
	free  []uint32
}

func (p *pages[T]) at(i uint32) *T { return &p.pages[i/pageSize][i%pageSize] }

// add returns a free place.
func (p *pages[T]) add() uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	if p.n%pageSize == 0 {
		p.pages = append(p.pages, new([pageSize]T))
	}
	p.n++
	return p.n - 1
}

func (p *pages[T]) release(i uint32) {
	var zero T
	*p.at(i) = zero
	p.free = append(p.free, i)
}

// rules is all rules of a partition.
type rules struct {
	pages[rule]
	extras pages[extra]
	ids    ids
}

// extra returns what a rule has beside the usual; nil when it has nothing.
func (rs *rules) extra(r *rule) *extra {
	if r.extra == 0 {
		return nil
	}
	return rs.extras.at(r.extra - 1)
}

// add stores a rule. Its line is the caller's business.
func (rs *rules) add(id int64, s *Spec, st *State) (uint32, *rule) {
	slot := rs.pages.add()
	r := rs.at(slot)
	*r = rule{id: id, limit: s.Limit, armSeq: st.ArmSeq, flags: flags(s.Op) | live}
	if s.Once {
		r.set(once)
	}
	if s.OnGap == GapResets {
		r.set(resets)
	}
	if st.Disarmed {
		r.set(disarmed)
	}
	if st.Pending {
		r.set(pending)
	}
	e := extra{
		hysteresis: s.Hysteresis, since: st.Since, until: st.Until,
		cooldown: uint32(s.Cooldown / time.Millisecond), hold: uint32(s.HoldFor / time.Millisecond),
	}
	if e != (extra{}) || st.Pending {
		r.extra = rs.extras.add() + 1
		*rs.extras.at(r.extra - 1) = e
	}
	rs.ids.put(rs, slot)
	return slot, r
}

// state returns a rule's state.
func (rs *rules) state(r *rule) State {
	st := State{ArmSeq: r.armSeq, Disarmed: r.is(disarmed), Pending: r.is(pending)}
	if e := rs.extra(r); e != nil {
		st.Until = e.until
		if st.Pending {
			st.Since = e.since
		}
	}
	return st
}

// remove forgets a rule. Its place is used again as soon as no heap knows it any more.
func (rs *rules) remove(slot uint32) {
	r := rs.at(slot)
	if at, _, ok := rs.ids.find(rs, r.id); ok {
		rs.ids.remove(at)
	}
	if r.extra != 0 {
		rs.extras.release(r.extra - 1)
		r.extra = 0
	}
	r.flags &= waiting | expiring
	rs.reap(slot)
}

// reap gives a removed rule's place back when nothing holds it any more.
func (rs *rules) reap(slot uint32) {
	if !rs.at(slot).is(live | waiting | expiring) {
		rs.release(slot)
	}
}

// ids finds rules by their ids: a hash table of places, of which one in four is empty at least. Beside each place is the
// hash, so that only the rule that is looked for is touched.
type ids struct {
	table []entry // a power of two
	n     int
}

type entry struct {
	hash uint32
	slot uint32 // place + 1; 0 is empty
}

func hashOf(id int64) uint32 { return uint32(uint64(id) * 0x9E3779B97F4A7C15 >> 32) }

// find returns where in the table the id is, or the empty place where it would go.
func (t *ids) find(rs *rules, id int64) (at uint32, slot uint32, ok bool) {
	if len(t.table) == 0 {
		return 0, 0, false
	}
	hash, mask := hashOf(id), uint32(len(t.table)-1)
	for at = hash & mask; t.table[at].slot != 0; at = (at + 1) & mask {
		if e := t.table[at]; e.hash == hash && rs.at(e.slot-1).id == id {
			return at, e.slot - 1, true
		}
	}
	return at, 0, false
}

// put adds a rule that is not there.
func (t *ids) put(rs *rules, slot uint32) {
	if 4*(t.n+1) > 3*len(t.table) {
		old := t.table
		t.table = make([]entry, max(16, 2*len(old)))
		for _, e := range old {
			if e.slot != 0 {
				t.settle(e)
			}
		}
	}
	t.settle(entry{hashOf(rs.at(slot).id), slot + 1})
	t.n++
}

func (t *ids) settle(e entry) {
	mask := uint32(len(t.table) - 1)
	at := e.hash & mask
	for t.table[at].slot != 0 {
		at = (at + 1) & mask
	}
	t.table[at] = e
}

// remove takes the entry at a place of the table out, and moves those that follow to where a search finds them.
func (t *ids) remove(at uint32) {
	mask := uint32(len(t.table) - 1)
	for next := (at + 1) & mask; t.table[next].slot != 0; next = (next + 1) & mask {
		if (next-t.table[next].hash)&mask >= (next-at)&mask {
			t.table[at], at = t.table[next], next
		}
	}
	t.table[at] = entry{}
	t.n--
}
