package rule_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// chance makes a stream of records and of changes to rules out of random numbers.
type chance struct {
	*feed
	r     *rapid.T
	next  int64 // rule id
	price market.Price
}

func (c *chance) upTo(n int, what string) int { return rapid.IntRange(0, n-1).Draw(c.r, what) }

func (c *chance) oneIn(n int, what string) bool { return c.upTo(n, what) == 0 }

// near is a price among the limits, with jumps over many of them.
func (c *chance) near() market.Price {
	switch c.upTo(10, "jump") {
	case 0:
		c.price = market.Price(rapid.SampledFrom([]int64{1, 50, 400, math.MaxInt64, math.MaxInt64 / 2}).Draw(c.r, "far"))
	case 1: // equal
	default:
		c.price = market.Price(90 + c.upTo(21, "price"))
	}
	return c.price
}

func (c *chance) size() market.Size {
	if c.oneIn(20, "huge") {
		return math.MaxInt64
	}
	return market.Size(1 + c.upTo(5, "size"))
}

func (c *chance) bookSides() (bids, asks []market.Level) {
	middle := market.Price(90 + c.upTo(20, "middle"))
	for i := range c.upTo(4, "bids") {
		bids = append(bids, market.Level{Price: middle - market.Price(i), Size: c.size()})
	}
	for range c.upTo(4, "asks") {
		middle += market.Price(1 + c.upTo(3, "step"))
		asks = append(asks, market.Level{Price: middle, Size: c.size()})
	}
	return bids, asks
}

// record adds one record, or a few that belong together.
func (c *chance) record() {
	inst := uint32(1 + c.upTo(2, "inst"))
	in := c.insts[inst]
	kind := c.upTo(40, "record")
	if in == nil || in.status.State == market.Delisted && kind != 30 {
		if in == nil && kind < 20 {
			c.define(inst)
			return
		}
		c.beat()
		return
	}
	switch kind {
	case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
		c.trade(inst, c.near(), c.size())
	case 13: // late
		c.tradeAt(inst, c.near(), c.size(), c.now-market.Time(c.upTo(90, "late"))*1e9)
	case 14, 15, 16:
		c.beat()
	case 17:
		c.tradeGap(inst)
	case 18, 19, 20, 21: // an update of some levels
		var sides [2][]market.Level
		for side := range sides {
			for range c.upTo(3, "levels") {
				p := market.Price(85 + c.upTo(10, "level") + 15*side)
				size := c.size()
				if c.oneIn(3, "deleted") {
					size = 0
				}
				sides[side] = append(sides[side], market.Level{Price: p, Size: size})
			}
		}
		c.update(inst, unique(sides[0]), unique(sides[1]))
	case 22, 23, 24:
		bids, asks := c.bookSides()
		c.snapshot(inst, uint16(1+c.upTo(3, "parts")), bids, asks)
		if in.status.Book == market.Stale {
			c.live(inst)
		}
	case 25:
		c.live(inst)
	case 26:
		c.stale(inst)
	case 27:
		c.status(inst, func(s *market.Status) {
			s.State = []market.State{market.Live, market.Halted}[c.upTo(2, "state")]
		})
	case 28: // again what there was, in a new record
		old := c.events[c.upTo(len(c.events), "again")]
		c.add(old.Template, old.Value)
	case 29: // an epoch, perhaps with other scales
		c.status(inst, func(s *market.Status) {
			s.Epoch++
			s.Instrument.PriceScale = uint8(1 + c.upTo(3, "price scale"))
			s.Instrument.SizeScale = uint8(2 + c.upTo(2, "size scale"))
			s.Book, s.Why = market.Stale, market.Start
		})
		in.book.Clear()
	case 30:
		if c.oneIn(4, "delisted") {
			c.status(inst, func(s *market.Status) { s.State, s.Book = market.Delisted, market.Stale })
		} else if in.status.State == market.Delisted {
			c.status(inst, func(s *market.Status) { s.State = market.Live })
		}
	case 31: // a record is missing
		if c.oneIn(2, "trades") {
			in.tseq++
		} else {
			in.bseq++
		}
	case 32: // a book that went wrong
		d := market.Delta{Head: c.head(inst, &in.bseq), Hash: market.Hash{Sum: badHash, OK: true}}
		c.add(wire.TemplateBookUpdate, wire.AppendDelta(nil, &d))
	case 33: // an instrument that nobody knows
		t := market.Trade{Head: market.Head{Inst: 9, Epoch: 1, Seq: 1, Time: c.now}, Price: 1, Size: 1}
		c.add(wire.TemplateTrade, wire.AppendTrade(nil, &t))
	case 34: // out of the middle of a snapshot
		s := market.Snapshot{Head: c.head(inst, &in.bseq), Part: 2, Parts: uint16(2 + c.upTo(2, "parts"))}
		c.add(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &s))
	case 35: // half a snapshot
		s := market.Snapshot{Head: c.head(inst, &in.bseq), Part: 1, Parts: 2}
		c.add(wire.TemplateBookSnapshot, wire.AppendSnapshot(nil, &s))
	default:
		c.trade(inst, c.price, 1)
	}
}

// unique drops levels whose price stands there already.
func unique(levels []market.Level) (kept []market.Level) {
	seen := map[market.Price]bool{}
	for _, l := range levels {
		if !seen[l.Price] {
			kept = append(kept, l)
		}
		seen[l.Price] = true
	}
	return kept
}

// passes moves the log clock's next record on, or back.
func (c *chance) passes() {
	switch c.upTo(8, "time") {
	case 0, 1, 2, 3:
	case 4:
		c.pass(time.Duration(c.upTo(2000, "ms")) * time.Millisecond)
	case 5:
		c.pass(time.Duration(c.upTo(40, "s")) * time.Second)
	case 6:
		c.pass(time.Duration(c.upTo(100, "min")) * time.Second * 3)
	default:
		if c.oneIn(6, "hours") {
			c.pass(time.Duration(c.upTo(26*60, "minutes")) * time.Minute)
		} else if c.oneIn(2, "back") {
			c.pass(-time.Duration(c.upTo(70, "s")) * time.Second)
		}
	}
}

// spec is a rule whose limit is among the values that its series takes.
func (c *chance) spec() rule.Spec {
	s := rule.Spec{
		Series: rule.Series(c.upTo(11, "series")), Op: rule.Op(c.upTo(4, "op")), OnGap: rule.OnGap(c.upTo(2, "on gap")),
		Once: c.oneIn(4, "once"),
	}
	windows := []uint16{1, 2, 3, 5, 60, 1439, 1440}
	at, step := 0, 1
	switch s.Series {
	case rule.Last, rule.Bid, rule.Ask:
		at = 90
	case rule.Mid:
		at, step = 900, 10
	case rule.ChangePct, rule.FromHighPct, rule.FromLowPct:
		at, step = -100_000, 10_000
		s.W1 = rapid.SampledFrom(windows).Draw(c.r, "w")
	case rule.SpreadBps:
		step = 100_000
	case rule.Volume:
		s.W1 = rapid.SampledFrom(windows).Draw(c.r, "w")
	case rule.VolumeRatio, rule.MADiff:
		step = 2500
		if s.Series == rule.MADiff {
			at, step = -500, 50
		}
		i := c.upTo(len(windows), "w")
		s.W1 = windows[i]
		s.W2 = windows[(i+1+c.upTo(len(windows)-1, "w2"))%len(windows)]
	}
	s.Limit = int64(at + step*c.upTo(21, "limit"))
	if c.oneIn(20, "extreme") {
		s.Limit = rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}).Draw(c.r, "limit")
	}
	if c.oneIn(2, "hysteresis") {
		s.Hysteresis = int64(step * c.upTo(4, "by"))
		if c.oneIn(10, "huge") {
			s.Hysteresis = math.MaxInt64
		}
	}
	if c.oneIn(2, "cooldown") {
		s.Cooldown = time.Duration(c.upTo(90, "cooldown of")) * time.Second
	}
	if c.oneIn(3, "hold") {
		s.HoldFor = time.Duration(c.upTo(90, "for")) * time.Second
	}
	if c.oneIn(6, "expires") {
		s.Expires = c.now + market.Time(c.upTo(600, "in"))*1e9
	}
	return s
}

// TestOracle has an owner that dies at random moments agree with the oracle about every fire, and with an owner that never
// dies about the final state.
func TestOracle(t *testing.T) { rapid.Check(t, randomRun) }

func FuzzOracle(f *testing.F) { f.Fuzz(rapid.MakeFuzz(randomRun)) }

func randomRun(r *rapid.T) {
	c := &chance{feed: newFeed(r), r: r, price: 100}
	e, steady, o := newEngine(r), newEngine(r), newOracle(r)
	both := []*engine{e, steady}
	seen := 0
	for range 1 + c.upTo(60, "batches") {
		for range 1 + c.upTo(8, "records") {
			c.passes()
			c.record()
		}
		if c.oneIn(4, "dies") { // in the middle of a batch
			e.apply(c.events[:len(c.events)-c.upTo(len(c.events)-seen+1, "before the end of the batch")])
			e.restart(c.events)
		}
		for ; seen < len(c.events); seen++ {
			o.apply(&c.events[seen])
		}
		for _, e := range both {
			e.apply(c.events)
			e.save(c.upTo(3, "images"), e.p.Clock()-market.Time(c.upTo(120, "older"))*1e9)
		}
		for i, e := range both {
			if err := e.same(o); err != nil {
				r.Fatalf("owner %d: %v", i, err)
			}
		}
		if c.oneIn(12, "gap") {
			o.gap()
			for _, e := range both {
				if e == both[0] {
					e.restart(c.events)
				}
				e.p.Gap("retention")
				e.save(math.MaxInt, math.MaxInt64)
			}
		}
		c.changeRules(both, o)
		if c.oneIn(4, "restarts") {
			e.restart(c.events)
		}
	}
	e.p.Instruments(func(s market.Status) {
		if !bytes.Equal(e.p.ImageOf(s.Inst), steady.p.ImageOf(s.Inst)) {
			r.Fatalf("the image of %s differs", s.Instrument.Sym)
		}
	})
	for id, s := range e.rules {
		if steady.rules[id].state != s.state {
			r.Fatalf("rule %d is %+v, and %+v without restarts", id, s.state, steady.rules[id].state)
		}
	}
}

// changeRules adds and removes rules at a boundary of batches.
func (c *chance) changeRules(engines []*engine, o *oracle) {
	for range c.upTo(4, "rules") {
		if c.oneIn(5, "remove") && c.next > 0 {
			id := int64(c.upTo(int(c.next), "id"))
			_, there := o.rules[id]
			o.remove(id)
			for _, e := range engines {
				if e.p.Remove(id) != there {
					c.r.Fatalf("rule %d: there should be one: %v", id, there)
				}
				delete(e.rules, id)
			}
			continue
		}
		inst, s := uint32(1+c.upTo(2, "inst")), c.spec()
		in := o.insts[inst]
		id := c.next
		c.next++
		for _, e := range engines {
			valid, err := e.p.Add(id, inst, s, rule.State{})
			switch {
			case in == nil:
				if err != rule.ErrInstrument { //nolint:errorlint // it is not wrapped
					c.r.Fatal(err)
				}
				continue
			case in.status.State == market.Delisted:
				if err != rule.ErrDelisted { //nolint:errorlint // it is not wrapped
					c.r.Fatal(err)
				}
				continue
			}
			must(c.r, err)
			of, _ := e.p.Scales(inst)
			e.rules[id] = &stored{inst: inst, spec: s, made: of}
			want := rule.Valid{Clock: o.clock}
			if v := o.value(in, s); v != nil {
				want.Value, want.HasValue = clamp(v), true
			}
			if !valid.HasValue {
				valid.Value = 0
			}
			if valid != want {
				c.r.Fatalf("rule %d is valid from %+v, want %+v", id, valid, want)
			}
		}
		if in != nil && in.status.State != market.Delisted {
			o.add(id, inst, s)
		}
	}
}
