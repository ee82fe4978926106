package rule_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// crowd is many rules on the prices of some instruments, and ticks that walk among their limits.
type crowd struct {
	p     *rule.Partition
	r     *rand.Rand
	insts int
	rules int
	base  int64
	next  int64 // id
	old   int64 // the oldest that is there
	price []market.Price
	seq   []uint64
	trade market.Trade
	ev    stream.Event
	out   rule.Output
	fires int
}

// middle is where the prices begin: 65,000.00, or with more than a million rules on one the same with more decimals, so that
// a tick passes as many limits. Limits lie within 50 % of it.
const middle = 6_500_000

func newCrowd(t testing.TB, insts, rules int) *crowd {
	c := &crowd{p: rule.NewPartition(), r: rand.New(rand.NewPCG(1, 2)), insts: insts, rules: rules}
	c.base = middle * int64(max(1, rules/insts/1_000_000))
	f := newFeed(t)
	for inst := range insts {
		f.define(uint32(inst + 1))
		f.trade(uint32(inst+1), market.Price(c.base), 1)
	}
	for i := range f.events {
		must(t, c.p.Apply(&f.events[i], &c.out))
	}
	c.price, c.seq = make([]market.Price, insts), make([]uint64, insts)
	for i := range insts {
		c.price[i], c.seq[i] = market.Price(c.base), 1
	}
	c.ev = f.events[len(f.events)-1]
	c.trade = market.Trade{Head: market.Head{Epoch: 1, Time: f.now}, Size: 1, ID: market.NumericTradeID(1)}
	for range rules {
		c.add(t)
	}
	return c
}

// add adds a rule, of the kind that most are.
func (c *crowd) add(t testing.TB) {
	s := rule.Spec{Series: rule.Last, Op: rule.Op(c.r.IntN(4)), Limit: c.base/2 + c.r.Int64N(c.base)}
	if s.Op >= rule.AtOrAbove { // of levels, those that are not there yet
		s.Op = rule.AtOrAbove
		if s.Limit < c.base {
			s.Op = rule.AtOrBelow
		}
	}
	if _, err := c.p.Add(c.next, uint32(c.next)%uint32(c.insts)+1, s, rule.State{}); err != nil {
		t.Fatal(err)
	}
	c.next++
}

// change replaces the oldest rule by a new one.
func (c *crowd) change(t testing.TB) {
	c.p.Remove(c.old)
	c.old++
	c.add(t)
}

// tick is a trade at a price up to two cents from the one before.
func (c *crowd) tick(t testing.TB) {
	i := c.r.IntN(c.insts)
	c.price[i] += market.Price(c.r.IntN(5) - 2)
	c.trade.Inst, c.trade.Price = uint32(i+1), c.price[i]
	c.trade.Prev = c.seq[i]
	c.seq[i]++
	c.trade.Seq = c.seq[i]
	c.ev.Value = wire.AppendTrade(c.ev.Value[:0], &c.trade)
	c.ev.Offset++
	if err := c.p.Apply(&c.ev, &c.out); err != nil {
		t.Fatal(err)
	}
	c.fires += len(c.out.Fires)
	c.out.Reset()
}

func heap() int64 {
	runtime.GC() // twice: what a pool holds, or a frame that was preempted, outlives the first
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from its end
}

// cpu is what this process has used of the processor, which counts on a machine that others use too.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTick is a trade, its decoding included, among so many rules on the price, with a rule changed each ten ticks.
func BenchmarkTick(b *testing.B) {
	for _, bb := range []struct{ insts, rules int }{{1, 1_000_000}, {200, 1_000_000}, {1, 10_000_000}} {
		b.Run(fmt.Sprintf("insts=%d/rules=%d", bb.insts, bb.rules), func(b *testing.B) {
			before := heap()
			c := newCrowd(b, bb.insts, bb.rules)
			perRule := float64(heap()-before) / float64(bb.rules)
			c.fires = 0
			b.ReportAllocs()
			from := cpu(b)
			for n := 0; b.Loop(); n++ {
				if n%10 == 9 {
					c.change(b)
				}
				c.tick(b)
			}
			b.ReportMetric(float64(cpu(b)-from)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(perRule, "B/rule")
			b.ReportMetric(float64(c.fires)/float64(b.N), "fires/op")
		})
	}
}
