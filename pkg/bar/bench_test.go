package bar_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
)

// stream gives trades whose prices wander and whose times go on by step, a few of them a little back.
type stream struct {
	trade market.Trade
	now   market.Time
	n     uint32
}

func (s *stream) next(step time.Duration) *market.Trade {
	s.n = s.n*1664525 + 1013904223
	s.now += market.Time(step)
	s.trade.Price = 6_000_000 + market.Price(s.n>>20)
	s.trade.Size = 1 + market.Size(s.n>>8)
	s.trade.Time = s.now
	if s.n>>28 == 0 {
		s.trade.Time -= market.FromMillis(700)
	}
	return &s.trade
}

func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct {
		name string
		step time.Duration
	}{{"5000 a second", 200 * time.Microsecond}, {"30 a second", 33333 * time.Microsecond}, {"1 a second", time.Second}, {"1 a minute", time.Minute}} {
		b.Run(c.name, func(b *testing.B) {
			s, in, out := &bar.Series{SizeScale: 8}, stream{now: epoch}, make([]market.Bar, 0, 64)
			for range 10_000 {
				out = s.Add(in.next(c.step), in.now, out[:0])
			}
			b.ReportAllocs()
			for b.Loop() {
				out = s.Add(in.next(c.step), in.now, out[:0])
			}
		})
	}
}

func BenchmarkAddOpen(b *testing.B) {
	s, in := &bar.Series{SizeScale: 8}, stream{now: epoch}
	b.ReportAllocs()
	for b.Loop() {
		s.AddOpen(in.next(33333 * time.Microsecond))
	}
}

func BenchmarkTicker(b *testing.B) {
	s, in := &bar.Series{SizeScale: 8}, stream{now: epoch}
	for range 5000 {
		s.AddOpen(in.next(20 * time.Second))
	}
	var v market.Ticker
	b.ReportAllocs()
	for b.Loop() {
		s.Ticker(&v)
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	s, in := &bar.Series{SizeScale: 8}, stream{now: epoch}
	for range 5000 {
		s.AddOpen(in.next(20 * time.Second))
	}
	buf := s.AppendBinary(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		buf = s.AppendBinary(buf[:0])
	}
}

// In steady state trades, the bars they end, and what readers ask do not allocate.
func TestAllocations(t *testing.T) {
	s, edge := &bar.Series{SizeScale: 8}, &bar.Series{SizeScale: 8}
	in, out := stream{now: epoch}, make([]market.Bar, 0, 64)
	buf := make([]byte, 0, 1<<17)
	var v market.Ticker
	step := func() {
		out = s.Add(in.next(1100*time.Millisecond), in.now, out[:0])
		edge.AddOpen(&in.trade)
		for i := range out {
			edge.Final(&out[i])
		}
		edge.Ticker(&v)
		edge.Open(market.Minute)
		buf = s.AppendBinary(buf[:0])
		out = s.Closed(market.Second, 10, out[:0])
	}
	for range 4000 { // the history of one second is full
		step()
	}
	in.now += market.Time(30 * time.Hour)
	for range 500 {
		step()
	}
	// The average is rounded down: the histories of the longer intervals still grow, once in many thousand trades.
	if allocs := testing.AllocsPerRun(2000, step); allocs != 0 {
		t.Errorf("%.0f allocations per trade", allocs)
	}
}

// An instrument that hardly trades must not cost what a busy one does.
func TestQuietInstrumentsAreSmall(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	all := make([]bar.Series, n)
	for i := range all {
		in := stream{now: epoch + market.Time(i)*1000}
		for range 3 {
			all[i].Add(in.next(20*time.Minute), in.now, nil)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes each", each)
	if each > 8<<10 {
		t.Errorf("a quiet instrument takes %d bytes", each)
	}
	runtime.KeepAlive(all)
}
