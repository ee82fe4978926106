package rule_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// engine is an owner with a database: it applies records in batches, commits what came of them with a checkpoint and images,
// and may die at any time. What it had not committed is then as if it had never been.
type engine struct {
	t      fataler
	p      *rule.Partition
	next   int // event to apply
	out    rule.Output
	images map[uint32][]byte
	rules  map[int64]*stored
	commit int // events up to here are committed

	fires []rule.Fire // committed
	ends  map[int64]rule.Ended
}

// stored is a rule as the database has it.
type stored struct {
	inst  uint32
	spec  rule.Spec
	made  rule.Scales // of the instrument when the rule was made
	state rule.State
}

func newEngine(t fataler) *engine {
	return &engine{
		t: t, p: rule.NewPartition(), images: map[uint32][]byte{}, rules: map[int64]*stored{}, ends: map[int64]rule.Ended{},
	}
}

// apply takes in the events up to a place, without committing.
func (e *engine) apply(events []stream.Event) {
	e.t.Helper()
	for ; e.next < len(events); e.next++ {
		must(e.t, e.p.Apply(&events[e.next], &e.out))
	}
}

// save commits, with at most so many images of what changed before a time.
func (e *engine) save(limit int, olderThan market.Time) {
	for _, c := range e.out.Changes {
		s := e.rules[c.Rule]
		b := c.State.Append(nil)
		var err error
		s.state, err = rule.DecodeState(b)
		must(e.t, err)
		if len(b) > 32 {
			e.t.Fatalf("a state of %d bytes", len(b))
		}
		if c.Ended != rule.NotEnded {
			delete(e.rules, c.Rule)
			e.ends[c.Rule] = c.Ended
		}
	}
	e.fires = append(e.fires, e.out.Fires...)
	e.out.Reset()
	e.p.Images(limit, olderThan, func(inst uint32, image []byte) { e.images[inst] = bytes.Clone(image) })
	e.commit = e.next
}

// restart is another owner that begins from what is committed.
func (e *engine) restart(events []stream.Event) {
	e.t.Helper()
	e.p, e.next = rule.NewPartition(), e.commit
	e.out.Reset()
	checkpoint := int64(-1)
	if e.commit > 0 {
		checkpoint = events[e.commit-1].Offset
	}
	for _, inst := range slices.Sorted(maps.Keys(e.images)) {
		must(e.t, e.p.Restore(checkpoint, e.images[inst]))
	}
	for i := range events[:e.commit] {
		if events[i].Offset > e.p.Offset() {
			must(e.t, e.p.Replay(&events[i]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.rules)) {
		s := e.rules[id]
		_, err := e.p.Add(id, s.inst, s.specAt(e.p), s.state)
		must(e.t, err)
	}
}

// specAt gives the rule as it reads at the instrument's scales, which may have changed since it was made.
func (s *stored) specAt(p *rule.Partition) rule.Spec {
	spec := s.spec
	of, _ := p.Scales(s.inst)
	from, to := s.spec.Scale(s.made), s.spec.Scale(of)
	spec.Limit, spec.Hysteresis = scaled(spec.Limit, from, to).Int64(), scaled(spec.Hysteresis, from, to).Int64()
	return spec
}

// same compares what has been committed with the oracle's word.
func (e *engine) same(o *oracle) error {
	for i := range min(len(e.fires), len(o.fires)) {
		if e.fires[i] != o.fires[i] {
			return fmt.Errorf("fire %d is %+v, want %+v", i, e.fires[i], o.fires[i])
		}
	}
	if len(e.fires) != len(o.fires) {
		n := min(len(e.fires), len(o.fires))
		return fmt.Errorf("%d fires, want %d: from %+v, want %+v", len(e.fires), len(o.fires), e.fires[n:], o.fires[n:])
	}
	if !maps.Equal(e.ends, o.ends) {
		return fmt.Errorf("ended: %v, want %v", e.ends, o.ends)
	}
	for id, s := range e.rules {
		r := o.rules[id]
		if r == nil {
			return fmt.Errorf("rule %d should have ended", id)
		}
		want := rule.State{ArmSeq: r.fires, Disarmed: !r.armed, Pending: r.holding, Until: r.quiet}
		if want.Pending {
			want.Since = r.since
		}
		if s.state != want {
			return fmt.Errorf("rule %d is %+v, want %+v", id, s.state, want)
		}
	}
	return nil
}
