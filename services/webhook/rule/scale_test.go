package rule_test

import (
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// TestMemory holds a rule to 110 bytes in all: its record, its place in the index and in the table of ids, and its timers.
func TestMemory(t *testing.T) {
	f := func(name string, insts, rules int) {
		t.Helper()
		before := heap()
		c := newCrowd(t, insts, rules)
		perRule := float64(heap()-before) / float64(rules)
		t.Logf("%s: %.0f bytes a rule", name, perRule)
		if perRule > 110 || perRule < 40 { // less is a mistake of ours in measuring
			t.Errorf("%s: %.0f bytes a rule, want 40 to 110", name, perRule)
		}
		if n := c.p.Stats().Rules; n != rules {
			t.Fatalf("%d rules", n)
		}
	}
	f("one series", 1, 200_000)
	f("200 series", 200, 200_000)

	const n = 200_000 // with all that a rule can have
	c := newCrowd(t, 1, 1)
	before := heap()
	for id := range int64(n) {
		s := rule.Spec{Series: rule.Last, Op: rule.AtOrAbove, Limit: middle + id, Hysteresis: 1, Cooldown: time.Minute, HoldFor: time.Minute, Expires: 1 << 62}
		_, err := c.p.Add(100+id, 1, s, rule.State{})
		must(t, err)
	}
	t.Logf("with all that a rule can have: %.0f bytes", float64(heap()-before)/n)
	runtime.KeepAlive(c)
}

// TestNoAllocations holds a tick to none, also where it crosses limits and rules fire.
func TestNoAllocations(t *testing.T) {
	c := newCrowd(t, 20, 50_000)
	for i := range c.insts {
		for _, s := range []rule.Spec{
			{Series: rule.ChangePct, W1: 60, Limit: 10},
			{Series: rule.Volume, W1: 60, Limit: 10, HoldFor: time.Second},
			{Series: rule.VolumeRatio, W1: 5, W2: 60, Limit: 10_000, Cooldown: time.Second},
			{Series: rule.MADiff, W1: 5, W2: 60, Limit: 0},
		} {
			_, err := c.p.Add(c.next, uint32(i+1), s, rule.State{})
			must(t, err)
			c.next++
		}
	}
	many := func() {
		for range 1000 {
			c.tick(t)
			c.ev.Time += 5e6
		}
	}
	for range 20 {
		many()
	}
	c.fires = 0
	if n := testing.AllocsPerRun(20, many) / 1000; n >= 0.01 { // a block of an index that splits is not a tick's
		t.Errorf("a tick allocates %v times", n)
	}
	if c.fires == 0 {
		t.Error("no rule has fired")
	}
}

// TestStorm crosses 100,000 limits by one trade, there and back.
func TestStorm(t *testing.T) {
	const n = 100_000
	b := traded(t)
	add := func(id int64, s rule.Spec) {
		_, err := b.p.Add(id, 1, s, rule.State{})
		must(t, err)
	}
	for id := range int64(n) {
		s := rule.Spec{Series: rule.Last, Op: rule.CrossesAbove, Limit: 10_001 + id%50_000, Hysteresis: id % 7}
		if id%10 == 0 {
			s.Op, s.HoldFor = rule.AtOrAbove, time.Second
		}
		add(id, s)
	}
	began := time.Now()
	b.trade(1, 100_000, 1)
	out := b.run()
	t.Logf("%d rules in %v", len(out.Fires), time.Since(began))
	if len(out.Fires) != n-n/10 || len(out.Changes) != n {
		t.Fatalf("%d fires, %d changes", len(out.Fires), len(out.Changes))
	}
	for i, f := range out.Fires {
		if i > 0 && f.Rule <= out.Fires[i-1].Rule || f.ArmSeq != 1 || f.Value != 100_000 || f.Prev != 10_000 {
			t.Fatalf("fire %d: %+v", i, f)
		}
	}
	b.pass(time.Second)
	b.beat()
	if out := b.run(); len(out.Fires) != n/10 {
		t.Fatalf("%d fires by the clock", len(out.Fires))
	}
	b.trade(1, 1, 1)
	if out := b.run(); len(out.Fires) != 0 || len(out.Changes) != n {
		t.Fatalf("back again: %d fires, %d changes", len(out.Fires), len(out.Changes))
	}
	b.trade(1, market.Price(math.MaxInt64), 1)
	if out := b.run(); len(out.Fires) != n-n/10 || out.Fires[0].ArmSeq != 2 {
		t.Fatalf("%d fires the second time", len(out.Fires))
	}
	for id := range int64(n) {
		if !b.p.Remove(id) {
			t.Fatalf("rule %d is not there", id)
		}
	}
	if s := b.p.Stats(); s.Rules != 0 || s.Lines != 0 || b.p.Pending() != 0 {
		t.Errorf("%+v", s)
	}
}
