package book_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

const (
	deepSlots = 5200 // prices a side; about 70 % of them hold a level, 3.6k
	deepMid   = 1_000_000
)

type touch struct {
	side  market.Side
	price market.Price
	size  market.Size
}

// touches draws changes at distances from the best that far gives; three in ten delete.
func touches(far func(*rand.Rand) int) []touch {
	rng := rand.New(rand.NewPCG(7, 8))
	ts := make([]touch, 1<<16)
	for i := range ts {
		off := min(far(rng), deepSlots-1)
		ts[i] = touch{side: bothSides[rng.IntN(2)], price: market.Price(deepMid - 1 - off), size: market.Size(1 + rng.IntN(1e9))}
		if ts[i].side == market.Ask {
			ts[i].price = market.Price(deepMid + off)
		}
		if rng.IntN(10) < 3 {
			ts[i].size = 0
		}
	}
	return ts
}

// nearBest is how the recorded Binance book is touched: half of the changes within some 40 levels of the best, a long tail.
func nearBest(rng *rand.Rand) int { return int(8/(rng.Float64()+0.0015)) - 8 + rng.IntN(16) }

func anywhere(rng *rand.Rand) int { return rng.IntN(deepSlots) }

func worst(rng *rand.Rand) int { return deepSlots - 1 - rng.IntN(16) }

func deepBook() *book.Book {
	rng := rand.New(rand.NewPCG(9, 10))
	var b book.Book
	for i := range deepSlots {
		if rng.IntN(10) < 7 {
			b.Set(market.Bid, market.Price(deepMid-1-i), market.Size(1+rng.IntN(1e9)))
			b.Set(market.Ask, market.Price(deepMid+i), market.Size(1+rng.IntN(1e9)))
		}
	}
	return &b
}

func BenchmarkSet(b *testing.B) {
	for _, c := range []struct {
		name string
		far  func(*rand.Rand) int
	}{{"near the best", nearBest}, {"anywhere", anywhere}, {"worst", worst}} {
		b.Run(c.name, func(b *testing.B) {
			bk, ts := deepBook(), touches(c.far)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i&31 == 0 {
					bk.BeginChanges()
				}
				t := &ts[i&(len(ts)-1)]
				bk.Set(t.side, t.price, t.size)
				i++
			}
			sink += bk.Hash()
		})
	}
}

// BenchmarkRecorded applies the recorded Binance updates over and over; ns/level is the time per changed level, hash and
// all.
func BenchmarkRecorded(b *testing.B) {
	r := recorded(b)
	for _, depths := range [][]int{nil, {10}, {10, 25, 50, 100}} {
		name := "book"
		if len(depths) > 0 {
			name = "book and views of " + depthNames(depths)
		}
		b.Run(name, func(b *testing.B) { benchRecorded(b, r, depths) })
	}
}

func depthNames(depths []int) (s string) {
	for _, d := range depths {
		if s != "" {
			s += ","
		}
		s += string(market.AppendFixed(nil, market.Price(d), 0))
	}
	return s
}

func benchRecorded(b *testing.B, r *recording, depths []int) {
	var bk book.Book
	if err := bk.Load(&r.snapshot); err != nil {
		b.Fatal(err)
	}
	var views []*book.View
	for _, d := range depths {
		v := book.NewView(d)
		v.Reset(&bk)
		views = append(views, v)
	}
	levels := 0
	bids, asks := make([]market.Level, 0, 1024), make([]market.Level, 0, 1024)
	round := func() {
		bk.SetSequence(r.snapshot.Sequence())
		for i := range r.deltas {
			if ok, err := bk.Apply(&r.deltas[i]); err != nil {
				b.Fatal(err)
			} else if !ok {
				continue
			}
			levels += len(r.deltas[i].Bids) + len(r.deltas[i].Asks)
			for _, v := range views {
				v.Update(&bk)
				bids, asks = v.AppendChanged(bids[:0], asks[:0])
			}
		}
	}
	round() // to steady state
	levels = 0
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(levels), "ns/level")
	b.ReportMetric(float64(levels)/float64(b.N*len(r.deltas)), "levels/update")
	b.ReportMetric(float64(bk.Len(market.Bid)+bk.Len(market.Ask))/2, "levels/side")
}

func BenchmarkMerge(b *testing.B) {
	ts := touches(nearBest)
	var m book.Merge
	b.ReportAllocs()
	level := make([]market.Level, 1)
	i := 0
	for b.Loop() {
		t := &ts[i&(len(ts)-1)]
		if i++; i&1023 == 0 {
			m.Reset()
		}
		level[0] = market.Level{Price: t.price, Size: t.size}
		if t.side == market.Bid {
			m.Add(level, nil)
		} else {
			m.Add(nil, level)
		}
	}
}

// A book of which one level in sixty is left must not keep the memory of all: in no order of deletions.
func TestThinnedBookIsSmall(t *testing.T) {
	const n = 60_000
	f := func(name string, order func(i int) int) {
		t.Helper()
		var b book.Book
		for i := range n {
			b.Set(market.Ask, market.Price(n+i), 1)
		}
		for i := range n {
			if p := order(i); p%60 != 0 {
				b.Set(market.Ask, market.Price(n+p), 0)
			}
		}
		b.BeginChanges()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if b.Len(market.Ask) != (n+59)/60 {
			t.Fatalf("%s: %d levels", name, b.Len(market.Ask))
		}
		b = book.Book{}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if held := int(before.HeapAlloc) - int(after.HeapAlloc); held > 320<<10 {
			t.Errorf("%s: %d levels hold %d bytes", name, (n+59)/60, held)
		}
	}
	f("upwards", func(i int) int { return i })
	f("downwards", func(i int) int { return n - 1 - i })
	f("scattered", func(i int) int { return i * 7919 % n })
}

// In steady state nothing allocates: sets anywhere, updates, views and merges.
func TestAllocations(t *testing.T) {
	b, ts := deepBook(), touches(anywhere)
	views := []*book.View{book.NewView(10), book.NewView(100)}
	for _, v := range views {
		v.Reset(b)
	}
	var m book.Merge
	bids, asks := make([]market.Level, 0, 4096), make([]market.Level, 0, 4096)
	n := 0
	step := func() {
		b.BeginChanges()
		for range 64 {
			c := &ts[n&(len(ts)-1)]
			if n++; n%3 == 0 {
				c.price = market.Price(deepMid + n%100 - 50) // near the best, so that views change
			}
			b.Set(c.side, c.price, c.size)
		}
		for _, v := range views {
			v.Update(b)
			bids, asks = v.AppendChanged(bids[:0], asks[:0])
			m.Add(bids, asks)
		}
		bids, asks = m.AppendLevels(bids[:0], asks[:0])
		m.Reset()
	}
	for range 3 * len(ts) / 64 {
		step()
	}
	if allocs := testing.AllocsPerRun(2000, step); allocs != 0 {
		t.Errorf("%.3f allocations in 64 changes", allocs)
	}
}
