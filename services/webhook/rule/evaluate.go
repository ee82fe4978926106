package rule

import (
	"math"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// key returns the threshold that a rule waits for, and in which index. There is none when no value can reach it.
func (rs *rules) key(r *rule) (key int64, in flags) {
	above := r.op().above()
	key, in = r.limit, falling
	if above {
		in = rising
	}
	if !r.is(disarmed | pending) {
		return key, in
	}
	// The other way: back beyond the limit, by more than the hysteresis when disarmed.
	back := uint64(1)
	if e := rs.extra(r); e != nil && r.is(disarmed) {
		back += uint64(e.hysteresis)
	}
	if above {
		if room := uint64(key) - (1 << 63); back > room { // key - MinInt64
			return 0, 0
		}
		return key - int64(back), falling
	}
	if room := uint64(math.MaxInt64) - uint64(key); back > room {
		return 0, 0
	}
	return key + int64(back), rising
}

// place puts a rule into the index that its state wants, or among the fresh ones, if it should have been looked at before.
func (p *Partition) place(l *line, slot uint32) {
	r := p.rules.at(slot)
	key, in := p.rules.key(r)
	if in == 0 {
		if l.placed {
			return
		}
		in = rising
	}
	armedCross := r.op().crosses() && !r.is(disarmed|pending)
	if !l.placed || !armedCross && (in == rising && key <= l.pos || in == falling && key >= l.pos) {
		r.set(fresh)
		l.fresh = append(l.fresh, slot)
		l.freshN++
		return
	}
	r.set(in)
	if in == rising {
		l.rising.insert(key, slot)
		l.bound(key, key > l.pos, -1, 0)
		return
	}
	l.falling.insert(key, slot)
	l.bound(key, key >= l.pos, 0, 1)
}

// bound narrows [low, high] by a key that lies above the value or not.
func (l *line) bound(key int64, above bool, up, down int64) {
	if above {
		l.high = min(l.high, key+up)
	} else {
		l.low = max(l.low, key+down)
	}
}

// bracket computes [low, high] anew around pos.
func (l *line) bracket() {
	l.low, l.high = math.MinInt64, math.MaxInt64
	// Of rising, keys at or below pos have been reached, of falling those at or above it.
	if l.pos == math.MaxInt64 {
		l.low = l.pos
	} else {
		if at, next, hasAt, hasNext := l.rising.around(l.pos + 1); hasAt || hasNext {
			if hasAt {
				l.low = at
			}
			if hasNext {
				l.high = next - 1
			}
		}
	}
	below, at, hasBelow, hasAt := l.falling.around(l.pos)
	if hasBelow {
		l.low = max(l.low, below+1)
	}
	if hasAt {
		l.high = min(l.high, at)
	}
}

// unplace takes a rule out of the index it is in.
func (p *Partition) unplace(l *line, slot uint32) {
	r := p.rules.at(slot)
	switch {
	case r.is(rising):
		key, _ := p.rules.key(r)
		l.rising.remove(key, slot)
	case r.is(falling):
		key, _ := p.rules.key(r)
		l.falling.remove(key, slot)
	case r.is(fresh):
		l.freshN--
		if len(l.fresh) > 2*l.freshN+64 {
			r.clear(fresh)
			l.fresh = p.tidied(l, l.fresh, fresh, live)
		}
	}
	r.clear(rising | falling | fresh)
}

// tidied drops from a list of a line's rules, which have the flag f while they are in it, those that are gone, there twice,
// or not wanted any more.
func (p *Partition) tidied(l *line, slots []uint32, f flags, wanted flags) []uint32 {
	slots = slices.DeleteFunc(slots, func(slot uint32) bool {
		r := p.rules.at(slot)
		if !r.is(f) || r.line != l.id {
			return true
		}
		r.clear(f)
		return !r.is(wanted)
	})
	for _, slot := range slots {
		p.rules.at(slot).set(f)
	}
	return slots
}

// evaluate takes the series' value of this record, and fires and moves the rules that it concerns.
func (p *Partition) evaluate(l *line, gap bool) {
	v, ok := l.now()
	c := context{value: v, prev: l.value, hasPrev: l.has, gap: gap}
	l.value, l.has = v, ok
	if !ok {
		if c.hasPrev {
			p.vanish(l)
		}
		return
	}
	if gap {
		l.gapAt = p.offset
	}
	if l.placed && l.low <= v && v <= l.high && l.freshN == 0 && !gap {
		l.pos = v
		return
	}
	p.move(l, &c)
}

// context is what a rule is looked at with.
type context struct {
	value   int64
	prev    int64
	hasPrev bool
	gap     bool // the value is the first after a gap
}

func (p *Partition) move(l *line, c *context) {
	work := p.work[:0]
	if l.placed {
		switch v := c.value; {
		case v > l.pos:
			work = l.rising.take(work, l.pos+1, v)
			p.taken(work, rising)
		case v < l.pos:
			work = l.falling.take(work, v, l.pos-1)
			p.taken(work, falling)
		}
	}
	for _, slot := range l.fresh {
		if r := p.rules.at(slot); r.is(fresh) && r.line == l.id {
			r.clear(fresh)
			work = append(work, slot)
		}
	}
	l.fresh, l.freshN = l.fresh[:0], 0
	if c.gap && l.queued > 0 {
		work = p.pendings(l, work)
	}
	l.pos, l.placed = c.value, true
	for _, slot := range work {
		p.look(l, slot, c)
	}
	p.work = work[:0]
	if cap(p.work) > keepWork {
		p.work = nil
	}
	if cap(l.fresh) > keepWork {
		l.fresh = nil
	}
	l.bracket()
}

// keepWork is how much room for rules in work is kept, so that one storm does not stay in memory.
const keepWork = 16_384

func (p *Partition) taken(slots []uint32, from flags) {
	for _, slot := range slots {
		p.rules.at(slot).clear(from)
	}
}

// pendings appends the rules of a line that are pending, taken out of the index, and not in work already.
func (p *Partition) pendings(l *line, work []uint32) []uint32 {
	for _, slot := range l.waiters {
		r := p.rules.at(slot)
		if r.line != l.id || !r.is(pending) {
			continue
		}
		if r.is(rising | falling) {
			p.unplace(l, slot)
			work = append(work, slot)
		} else if _, in := p.rules.key(r); in == 0 && !slices.Contains(work, slot) {
			work = append(work, slot) // no value can break it, so it is in no index
		}
	}
	return work
}

// pend makes a rule pending.
func (p *Partition) pend(l *line, slot uint32) {
	r := p.rules.at(slot)
	r.set(pending)
	l.queued++
	if r.is(listed) {
		return
	}
	if len(l.waiters) > 2*l.queued+64 {
		l.waiters = p.tidied(l, l.waiters, listed, pending)
	}
	r.set(listed)
	l.waiters = append(l.waiters, slot)
}

// vanish breaks what holds: a condition on no value is not true.
func (p *Partition) vanish(l *line) {
	if l.queued == 0 {
		return
	}
	work := p.pendings(l, p.work[:0])
	for _, slot := range work {
		p.release(l, slot)
		p.place(l, slot)
	}
	p.work = work[:0]
}

// release says that the condition of a pending rule does not hold any more.
func (p *Partition) release(l *line, slot uint32) {
	p.rules.at(slot).clear(pending)
	l.queued--
	p.changed(slot)
}

// look is the whole of what a value does to a rule, however it came to be looked at.
func (p *Partition) look(l *line, slot uint32, c *context) {
	r := p.rules.at(slot)
	holds := r.holds(c.value)
	switch {
	case r.is(disarmed):
		if p.back(r, c.value) {
			r.clear(disarmed)
			p.changed(slot)
		}
	case r.is(pending):
		switch {
		case !holds:
			p.release(l, slot)
		case c.gap && r.is(resets):
			p.rules.extra(r).since = p.clock
			p.changed(slot)
		}
	case holds && (!r.op().crosses() || c.crossed(r)):
		p.pend(l, slot)
		if e := p.rules.extra(r); e != nil {
			e.since = p.clock
		}
		p.changed(slot)
		if p.settle(l, slot, c) {
			return
		}
	}
	if r.is(pending) { // if it is time already, the end of the record will see it
		p.await(slot)
	}
	p.place(l, slot)
}

// crossed tells whether the value came from the other side of the limit, where it holds.
func (c *context) crossed(r *rule) bool {
	switch {
	case !c.comparable(r):
		return false
	case r.op().above():
		return c.prev < r.limit
	}
	return c.prev > r.limit
}

// comparable tells whether there is a value before that counts.
func (c *context) comparable(r *rule) bool { return c.hasPrev && (!c.gap || !r.is(resets)) }

// back tells whether the value is beyond the limit by more than the hysteresis, on the side where the rule does not hold.
func (p *Partition) back(r *rule, v int64) bool {
	key, in := p.rules.key(r)
	switch in {
	case rising:
		return v >= key
	case falling:
		return v <= key
	}
	return false
}

// dueOf returns when a pending rule fires if nothing breaks it.
func (p *Partition) dueOf(r *rule) market.Time {
	e := p.rules.extra(r)
	if e == nil {
		return p.clock
	}
	due := e.since + millis(e.hold)
	if !r.op().crosses() {
		due = max(due, e.until)
	}
	return due
}

func millis(ms uint32) market.Time { return market.Time(ms) * 1e6 }

// await sees to it that a pending rule is looked at when its time comes.
func (p *Partition) await(slot uint32) {
	if r := p.rules.at(slot); !r.is(waiting) {
		r.set(waiting)
		p.timers.push(timer{p.dueOf(r), slot})
	}
}

// settle fires a pending rule if it is time. It tells whether the rule has ended.
func (p *Partition) settle(l *line, slot uint32, c *context) (ended bool) {
	r := p.rules.at(slot)
	if p.dueOf(r) > p.clock {
		return false
	}
	r.clear(pending)
	l.queued--
	e := p.rules.extra(r)
	if e != nil && p.clock < e.until { // a crossing during the cooldown
		r.set(disarmed)
		p.changed(slot)
		return false
	}
	r.armSeq++
	f := Fire{
		Rule: r.id, ArmSeq: r.armSeq, Inst: l.in.id(), Scales: ScalesOf(&l.in.status.Instrument), Value: c.value, Clock: p.clock, Offset: p.offset,
		AfterGap: l.gapAt == p.offset,
	}
	if c.comparable(r) {
		f.Prev, f.HasPrev = c.prev, true
	}
	f.Seq, f.Time = l.in.newestOf(l.series.group())
	p.out.Fires = append(p.out.Fires, f)
	if r.is(once) {
		p.end(slot, Fired)
		return true
	}
	r.set(disarmed)
	if e != nil && e.cooldown > 0 {
		e.until = p.clock + millis(e.cooldown)
	}
	p.changed(slot)
	return false
}
