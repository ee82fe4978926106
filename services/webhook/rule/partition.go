package rule

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// What Add refuses.
var (
	ErrInstrument = errors.New("unknown instrument")
	ErrDelisted   = errors.New("delisted instrument")
	ErrTwice      = errors.New("the rule is there already")
	ErrSpec       = errors.New("the series has other windows")
)

var errOrder = errors.New("replay after a rule was added")

// Fire is a rule that fired.
type Fire struct {
	Rule     int64
	ArmSeq   uint32 // counts the rule's fires, from 1
	Inst     uint32
	Scales   Scales // of the instrument, at the record
	Value    int64  // of the series at the record
	Prev     int64  // what it was before; there is none when the rule has waited for the time, or the value is a new beginning
	HasPrev  bool
	Clock    market.Time     // the log clock
	Offset   int64           // of the record
	Seq      market.Sequence // the newest place in the topic that the series is made of
	Time     market.Time     // the time of the event there
	AfterGap bool            // the record brought the first value after a gap
}

// Ended says whether and why a rule is over.
type Ended uint8

// The ends of a rule.
const (
	NotEnded Ended = iota
	Fired          // it was one for once
	Expired
	Delisted // with its instrument
	Rescaled // its instrument has another price or size scale, at which its limit is no number
)

var endedNames = [...]string{"", "fired", "expired", "delisted", "rescaled"}

// String returns the reason's name; that of NotEnded is empty.
func (e Ended) String() string { return nameOf(endedNames[:], uint8(e)) }

// Change is a rule that has moved, and how it stands now.
type Change struct {
	Rule  int64
	State State
	Ended Ended // the partition does not know the rule any more, unless NotEnded
}

// Gap is a gap of some series of an instrument that has rules.
type Gap struct {
	Inst   uint32
	Sym    string
	Book   bool // of bid, ask, mid and spread_bps; otherwise of the series of trades
	Why    string
	Clock  market.Time
	Offset int64
}

// Output is what Apply appends to. The caller resets it and uses it again.
type Output struct {
	Fires   []Fire
	Changes []Change // one for each rule that moved, newest state
	Gaps    []Gap
}

// keepOutput is for how many fires and changes an Output keeps its memory.
const keepOutput = 16_384

// Reset empties the output and keeps its memory.
func (o *Output) Reset() {
	if cap(o.Fires) > keepOutput || cap(o.Changes) > keepOutput {
		*o = Output{}
	}
	o.Fires, o.Changes, o.Gaps = o.Fires[:0], o.Changes[:0], o.Gaps[:0]
}

// Valid is from when on a rule counts: it compares what comes with this value.
type Valid struct {
	Clock    market.Time
	Value    int64
	HasValue bool
}

// Stats count what a partition has, and what it has left out.
type Stats struct {
	Rules  int
	Lines  int    // series with rules
	Old    uint64 // events that were known already
	Late   uint64 // trades older than the newest one of their instrument
	Faults uint64 // events that contradict the state: a book that does not match its hash
}

// Partition evaluates the rules on the instruments of one partition of md.events. It belongs to one goroutine at a time.
type Partition struct {
	rules rules
	lines []*line // by id; nil where there is none
	free  []uint32
	index map[lineKey]uint32
	insts map[uint32]*instrument
	syms  map[string]uint32 // the instruments' numbers
	list  []*instrument     // in the order in which they came

	offset int64       // of the newest record; -1: none
	clock  market.Time // 0: no record yet
	before market.Time // the clock before the record at hand

	minute     int64 // of the clock
	nextMinute market.Time

	timers   timers // one for each pending rule, and some that are not any more
	expiries timers
	gone     [2]int  // how many entries of the two heaps belong to removed rules
	idle     []*line // may have lost their last rule

	carried map[lineKey]int64 // values of before a gap, while rules are added; nil: none

	dirty      []*instrument // changed since their last image, oldest change first
	savedFloor int64
	image      []byte

	out   *Output
	work  []uint32
	stats Stats

	snapshot market.Snapshot
	delta    market.Delta
	trade    market.Trade
	gap      market.TradeGap
	status   market.Status
}

type lineKey struct {
	inst   uint32
	series Series
	w1, w2 uint16
}

// NewPartition returns a partition that knows nothing yet.
func NewPartition() *Partition {
	return &Partition{
		index: make(map[lineKey]uint32), insts: make(map[uint32]*instrument), syms: make(map[string]uint32), offset: -1, minute: math.MinInt64, savedFloor: -2,
	}
}

// Clock returns the log clock, 0 before the first record.
func (p *Partition) Clock() market.Time { return p.clock }

// Offset returns that of the newest record that was taken in, -1 before the first. After Restore it is where the images
// begin to lack something: Replay wants what follows.
func (p *Partition) Offset() int64 { return p.offset }

// Find returns the number of an instrument. Another log may have another one for it.
func (p *Partition) Find(sym string) (inst uint32, ok bool) {
	inst, ok = p.syms[sym]
	return inst, ok
}

// Scales returns an instrument's scales.
func (p *Partition) Scales(inst uint32) (Scales, bool) {
	in := p.insts[inst]
	if in == nil {
		return Scales{}, false
	}
	return ScalesOf(&in.status.Instrument), true
}

// Instruments calls do with the newest status of each instrument, in order of their numbers.
func (p *Partition) Instruments(do func(market.Status)) {
	list := slices.Clone(p.list)
	slices.SortFunc(list, func(a, b *instrument) int { return cmp.Compare(a.id(), b.id()) })
	for _, in := range list {
		do(in.status)
	}
}

// Stats returns the counts so far.
func (p *Partition) Stats() Stats {
	s := p.stats
	s.Rules, s.Lines = p.rules.ids.n, len(p.index)
	return s
}

// Add puts a rule in, at a boundary of batches. A zero state is a new rule's; any other is that of the checkpoint that
// the partition stands at.
func (p *Partition) Add(id int64, inst uint32, s Spec, st State) (Valid, error) {
	in := p.insts[inst]
	n := s.Series.windows()
	_, _, twice := p.rules.ids.find(&p.rules, id)
	switch {
	case in == nil:
		return Valid{}, ErrInstrument
	case in.status.State == market.Delisted:
		return Valid{}, ErrDelisted
	case twice:
		return Valid{}, ErrTwice
	case (n > 0) != (s.W1 > 0) || (n > 1) != (s.W2 > 0) || s.W1 > MaxWindow || s.W2 > MaxWindow || s.Series > MADiff || s.Op > AtOrBelow:
		return Valid{}, ErrSpec
	}
	l := p.lineOf(in, lineKey{inst, s.Series, s.W1, s.W2})
	slot, r := p.rules.add(id, &s, &st)
	r.line = l.id
	l.rules++
	in.rules++
	p.place(l, slot)
	if r.is(pending) {
		p.pend(l, slot)
		p.await(slot)
	}
	if s.Expires != 0 {
		r.set(expiring)
		p.expiries.push(timer{s.Expires, slot})
	}
	return Valid{Clock: p.clock, Value: l.value, HasValue: l.has}, nil
}

// lineOf returns the line of a series, which may be new.
func (p *Partition) lineOf(in *instrument, key lineKey) *line {
	if id, ok := p.index[key]; ok {
		return p.lines[id]
	}
	l := &line{in: in, series: key.series, w1: key.w1, w2: key.w2, gapAt: -1}
	if n := len(p.free); n > 0 {
		l.id, p.free = p.free[n-1], p.free[:n-1]
		p.lines[l.id] = l
	} else {
		l.id = uint32(len(p.lines))
		p.lines = append(p.lines, l)
	}
	p.index[key] = l.id
	lines := in.linesOf(key.series.group())
	*lines = append(*lines, l)
	p.begin(l)
	p.resume(l, key)
	return l
}

// begin computes the line's value as its newest evaluation would have, and empties its indexes.
func (p *Partition) begin(l *line) {
	l.refresh(p.minute)
	l.value, l.has = l.now()
	l.rising, l.falling, l.fresh, l.freshN = index{}, index{}, nil, 0
	l.pos, l.placed, l.low, l.high = l.value, l.has, math.MinInt64, math.MaxInt64
}

// Remove takes a rule out, and tells whether it was there.
func (p *Partition) Remove(id int64) bool {
	_, slot, ok := p.rules.ids.find(&p.rules, id)
	if !ok {
		return false
	}
	p.unplace(p.lines[p.rules.at(slot).line], slot)
	p.forget(slot)
	p.dropIdle()
	return true
}

// forget takes a rule that is in no index out of everything else.
func (p *Partition) forget(slot uint32) {
	r := p.rules.at(slot)
	l := p.lines[r.line]
	if r.is(pending) {
		l.queued--
	}
	l.rules--
	l.in.rules--
	if l.rules == 0 {
		p.idle = append(p.idle, l)
	}
	for i, f := range [...]flags{waiting, expiring} {
		if r.is(f) {
			p.gone[i]++
		}
	}
	p.rules.remove(slot)
}

// sweep lets the heaps forget removed rules when these are the greater part.
func (p *Partition) sweep() {
	for i, h := range [...]struct {
		t *timers
		f flags
	}{{&p.timers, waiting}, {&p.expiries, expiring}} {
		if p.gone[i] < 64 || 2*p.gone[i] < len(*h.t) {
			continue
		}
		h.t.keep(func(slot uint32) bool {
			r := p.rules.at(slot)
			if r.is(live) {
				return true
			}
			r.clear(h.f)
			p.rules.reap(slot)
			return false
		})
		p.gone[i] = 0
	}
}

// dropIdle forgets lines without rules.
func (p *Partition) dropIdle() {
	for _, l := range p.idle {
		if l.rules > 0 || p.lines[l.id] != l {
			continue
		}
		lines := l.in.linesOf(l.series.group())
		*lines = slices.DeleteFunc(*lines, func(o *line) bool { return o == l })
		delete(p.index, lineKey{l.in.id(), l.series, l.w1, l.w2})
		p.lines[l.id] = nil
		p.free = append(p.free, l.id)
	}
	p.idle = p.idle[:0]
	p.sweep()
}

// changed says that a rule has moved.
func (p *Partition) changed(slot uint32) {
	r := p.rules.at(slot)
	*p.changeOf(r) = Change{Rule: r.id, State: p.rules.state(r)}
}

// changeOf returns the rule's entry in the output.
func (p *Partition) changeOf(r *rule) *Change {
	c := &p.out.Changes
	if int(r.change) >= len(*c) || (*c)[r.change].Rule != r.id {
		r.change = uint32(len(*c))
		*c = append(*c, Change{})
	}
	return &(*c)[r.change]
}

// end ends a rule that is in no index.
func (p *Partition) end(slot uint32, why Ended) {
	r := p.rules.at(slot)
	*p.changeOf(r) = Change{Rule: r.id, State: p.rules.state(r), Ended: why}
	p.forget(slot)
}

// Replay takes in a record at or before the checkpoint: what the images lack. No rule has been added yet.
func (p *Partition) Replay(ev *stream.Event) error {
	if p.rules.ids.n > 0 {
		return errOrder
	}
	var out Output
	return p.Apply(ev, &out)
}

// Apply takes in the next record, of any kind, and appends to out what the rules make of it. An error means that the record
// is not what its template promises; all but its content has been dealt with. Fires of one record are in order of rules.
func (p *Partition) Apply(ev *stream.Event, out *Output) error {
	if ev.Offset <= p.offset {
		p.stats.Old++
		return nil
	}
	p.out = out
	first := len(out.Fires)
	p.offset, p.before = ev.Offset, p.clock
	p.advance(ev.Time)
	err := p.event(ev)
	p.ring()
	sortFires(out.Fires[first:])
	if len(p.idle) > 0 {
		p.dropIdle()
	}
	p.out = nil
	if err != nil {
		return fmt.Errorf("record %d: %w", ev.Offset, err)
	}
	return nil
}

// sortFires puts the fires of one record in order.
func sortFires(fires []Fire) {
	if len(fires) > 1 {
		slices.SortFunc(fires, func(a, b Fire) int { return cmp.Compare(a.Rule, b.Rule) })
	}
}

// advance moves the log clock, ends the rules that expire by it, and evaluates the windows when a minute begins.
func (p *Partition) advance(to market.Time) {
	started := p.clock != 0
	p.clock = max(p.clock, to)
	for p.expiries.due(p.clock) {
		slot := p.expiries.pop().slot
		r := p.rules.at(slot)
		r.clear(expiring)
		if !r.is(live) {
			p.gone[1]--
			p.rules.reap(slot)
			continue
		}
		p.unplace(p.lines[r.line], slot)
		p.end(slot, Expired)
	}
	if p.clock < p.nextMinute {
		return
	}
	p.setMinute()
	for _, in := range p.list {
		if !started {
			in.reach(p.minute)
			in.history.forget(p.minute)
			if in.from == notYet {
				in.from = p.minute + 1
			}
		}
		p.roll(in)
	}
}

// setMinute takes the minute from the clock.
func (p *Partition) setMinute() {
	p.minute = minuteOf(p.clock)
	p.nextMinute = market.Time((p.minute + 1) * int64(time.Minute))
}

// roll evaluates the windows of an instrument as a minute begins.
func (p *Partition) roll(in *instrument) {
	if p.offset <= in.at {
		return // its image has seen this
	}
	gap := in.gaps&windowGroup != 0
	if gap {
		p.touch(in)
		in.gaps &^= windowGroup
	}
	for _, l := range in.windows {
		l.refresh(p.minute)
		p.evaluate(l, gap)
	}
}

// ring looks at the rules whose time has come.
func (p *Partition) ring() {
	for p.timers.due(p.clock) {
		slot := p.timers.pop().slot
		r := p.rules.at(slot)
		r.clear(waiting)
		switch {
		case !r.is(live):
			p.gone[0]--
			p.rules.reap(slot)
			continue
		case !r.is(pending) || r.is(fresh): // the next value will decide
			continue
		}
		l := p.lines[r.line]
		if p.dueOf(r) > p.clock {
			p.await(slot)
			continue
		}
		if l.gapped() { // the first value after it will decide
			continue
		}
		p.unplace(l, slot)
		if !p.settle(l, slot, &context{value: l.value}) {
			p.place(l, slot)
		}
	}
}

// event applies the content of a record.
func (p *Partition) event(ev *stream.Event) error {
	switch ev.Template {
	case wire.TemplateTrade:
		if err := wire.DecodeTrade(ev.Value, &p.trade); err != nil {
			return err
		}
		if in := p.instrument(p.trade.Inst); in != nil {
			p.applyTrade(in, &p.trade)
		}
	case wire.TemplateBookUpdate:
		if err := wire.DecodeDelta(ev.Value, &p.delta); err != nil {
			return err
		}
		if in := p.instrument(p.delta.Inst); in != nil {
			p.applyDelta(in, &p.delta)
		}
	case wire.TemplateBookSnapshot:
		if err := wire.DecodeSnapshot(ev.Value, &p.snapshot); err != nil {
			return err
		}
		if in := p.instrument(p.snapshot.Inst); in != nil {
			p.applySnapshot(in, &p.snapshot, ev.Value)
		}
	case wire.TemplateTradeGap:
		if err := wire.DecodeTradeGap(ev.Value, &p.gap); err != nil {
			return err
		}
		if in := p.instrument(p.gap.Inst); in != nil {
			p.applyTradeGap(in, &p.gap)
		}
	case wire.TemplateStatus:
		if err := wire.DecodeStatus(ev.Value, &p.status); err != nil {
			return err
		}
		p.applyStatus(&p.status)
	}
	return nil
}

// instrument returns the one that an event is about; nil when it is unknown, or its image has the event already.
func (p *Partition) instrument(id uint32) *instrument {
	in := p.insts[id]
	switch {
	case in == nil:
		return nil
	case p.offset <= in.at:
		p.stats.Old++
		return nil
	}
	return in
}

// Gap says that events are missing, of every instrument: retention took them, or the log is another one.
func (p *Partition) Gap(why string) {
	p.before = p.clock
	for _, in := range p.list {
		p.touchAt(in, p.offset+1)
		p.open(in, tradeGroup|windowGroup|bookGroup, why)
	}
}
