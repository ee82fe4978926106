package sim_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
)

var start = market.FromMillis(1_700_000_000_250)

// native is a record as its readers see it.
type native struct {
	Type        string
	Sym         string
	Snapshot    bool
	First, Last uint64
	Bids, Asks  [][2]string
	Price, Size string
	Side        string
	ID          uint64
	TS          int64
	PS, SS      uint8
	Source      string
	Session     string
}

func parse(t *testing.T, r *sim.Record) (n native) {
	t.Helper()
	if err := json.Unmarshal(r.Value, &n); err != nil {
		t.Fatalf("%s: %v", r.Value, err)
	}
	return n
}

// plain is a book built from records in the slow, obvious way.
type plain struct {
	in         market.Instrument
	bids, asks map[market.Price]market.Size
	last       uint64
	trade      uint64
}

func (p *plain) apply(t *testing.T, n *native) {
	t.Helper()
	if n.Snapshot {
		if p.last != 0 && p.last != n.Last {
			t.Fatalf("%s: snapshot at %d of a book at %d", n.Sym, n.Last, p.last)
		}
		p.bids, p.asks = map[market.Price]market.Size{}, map[market.Price]market.Size{}
	} else if n.First != p.last+1 || n.Last < n.First {
		t.Fatalf("%s: %d-%d after %d", n.Sym, n.First, n.Last, p.last)
	}
	p.last = n.Last
	p.side(t, p.bids, n.Bids)
	p.side(t, p.asks, n.Asks)
}

// has tells whether the book has all that the record says already.
func (p *plain) has(t *testing.T, n *native) bool {
	t.Helper()
	for _, l := range n.Bids {
		if p.bids[market.Price(p.number(t, l[0], p.in.PriceScale))] != market.Size(p.number(t, l[1], p.in.SizeScale)) {
			return false
		}
	}
	for _, l := range n.Asks {
		if p.asks[market.Price(p.number(t, l[0], p.in.PriceScale))] != market.Size(p.number(t, l[1], p.in.SizeScale)) {
			return false
		}
	}
	return true
}

func (p *plain) side(t *testing.T, of map[market.Price]market.Size, levels [][2]string) {
	t.Helper()
	for _, l := range levels {
		price, size := p.number(t, l[0], p.in.PriceScale), p.number(t, l[1], p.in.SizeScale)
		if price <= 0 || size < 0 || price%int64(p.in.TickSize) != 0 {
			t.Fatalf("%s: level %v", p.in.Sym, l)
		}
		if of[market.Price(price)] = market.Size(size); size == 0 {
			delete(of, market.Price(price))
		}
	}
}

func (p *plain) number(t *testing.T, text string, scale uint8) int64 {
	t.Helper()
	v, err := market.ParseFixed(text, scale)
	if err != nil {
		t.Fatalf("%s: %q: %v", p.in.Sym, text, err)
	}
	return v
}

func levels(of map[market.Price]market.Size, sign market.Price) (all []market.Level) {
	for p, s := range of {
		all = append(all, market.Level{Price: p, Size: s})
	}
	slices.SortFunc(all, func(a, b market.Level) int { return cmp.Compare(sign*a.Price, sign*b.Price) })
	return all
}

// TestBooksFromRecords reads all records as a client would: sequences are gapless, times and ids ascend, each second has
// its clock, and the books equal the market's own, never crossed and hundreds of levels deep.
func TestBooksFromRecords(t *testing.T) {
	m := sim.New(sim.Config{Seed: 7, Rate: 3000, Start: start, Session: "s-1"})
	books := map[string]*plain{}
	for _, in := range m.Instruments() {
		books[in.Sym] = &plain{in: in}
	}
	var (
		now    market.Time
		clocks int64
		kinds  [5]int
		moots  int
	)
	for i := range 60_000 {
		r := m.Next()
		n := parse(t, r)
		if r.Time < now || r.Time < start || n.TS != r.Time.Micros() || r.Time%1000 != 0 {
			t.Fatalf("%s at %d after %d", r.Value, r.Time, now)
		}
		now = r.Time
		kinds[r.Kind]++
		if r.Kind == sim.Clock {
			clocks++
			if len(r.Key) != 0 || now != start.Truncate(time.Second)+market.Time(clocks*1e9) || n.Session != "s-1" || n.Source != "tickwire" {
				t.Fatalf("clock %d: %s", clocks, r.Value)
			}
			continue
		}
		p := books[n.Sym]
		if p == nil || string(r.Key) != n.Sym {
			t.Fatalf("key %s of %s", r.Key, r.Value)
		}
		switch r.Kind {
		case sim.Instrument:
			if n.PS != p.in.PriceScale || n.SS != p.in.SizeScale || n.Type != "instrument" {
				t.Fatalf("%s", r.Value)
			}
		case sim.Trade:
			if p.trade != 0 && n.ID != p.trade+1 || p.number(t, n.Size, p.in.SizeScale) <= 0 || n.Side != "buy" && n.Side != "sell" {
				t.Fatalf("%s after %d", r.Value, p.trade)
			}
			p.trade = n.ID
			side := p.asks
			if n.Side == "sell" {
				side = p.bids
			}
			if price := market.Price(p.number(t, n.Price, p.in.PriceScale)); side[price] == 0 {
				t.Fatalf("%s hit no level", r.Value)
			}
		default:
			if moot := r.Kind == sim.Update && p.has(t, &n); r.Moot != moot {
				t.Fatalf("%s: moot is %v, want %v", r.Value, r.Moot, moot)
			} else if moot {
				moots++
			}
			p.apply(t, &n)
			if i%500 == 0 {
				compare(t, m, p, i < 100)
			}
		}
		if i == 30_000 {
			m.Resync("BTC-USDT")
			m.Resync("nothing")
		}
	}
	if kinds[sim.Instrument] != 12 || kinds[sim.Snapshot] != 13 || kinds[sim.Trade] < 5000 || kinds[sim.Update] < 30_000 {
		t.Errorf("records of each kind: %v", kinds)
	}
	if moots == 0 {
		t.Error("each update changes something, and some of a real market don't")
	}
}

func compare(t *testing.T, m *sim.Market, p *plain, first bool) {
	t.Helper()
	bids, asks := m.Book(p.in.Sym, nil, nil)
	if !first && (!slices.Equal(bids, levels(p.bids, -1)) || !slices.Equal(asks, levels(p.asks, 1))) {
		t.Fatalf("%s: the book of the records is not the market's", p.in.Sym)
	}
	if bids[0].Price >= asks[0].Price {
		t.Fatalf("%s: crossed, %v and %v", p.in.Sym, bids[0], asks[0])
	}
	if len(bids) < 150 || len(asks) < 150 || len(bids) > 600 || len(asks) > 600 {
		t.Fatalf("%s: %d bids, %d asks", p.in.Sym, len(bids), len(asks))
	}
}

// TestDeterministic: the same seed gives the same bytes, on any machine, and another seed others.
func TestDeterministic(t *testing.T) {
	sum := func(seed uint64) string {
		m := sim.New(sim.Config{Seed: seed, Start: start})
		h := sha256.New()
		for range 20_000 {
			h.Write(m.Next().Value)
		}
		return hex.EncodeToString(h.Sum(nil))[:16]
	}
	const want = "68a98e51f51a6a85"
	if got := sum(1); got != want {
		t.Errorf("seed 1 makes another market: %s, was %s; a change of the generator is fine, of the processor is not", got, want)
	}
	if sum(1) == sum(2) {
		t.Error("another seed makes the same market")
	}
}

// TestRate: the rate is what was asked for, at both ends of what one asks for.
func TestRate(t *testing.T) {
	f := func(instruments, rate int) {
		t.Helper()
		m := sim.New(sim.Config{Seed: 3, Instruments: instruments, Rate: rate, Start: start})
		const n = 150_000
		counted := 0
		for range n {
			if k := m.Next().Kind; k == sim.Update || k == sim.Trade {
				counted++
			}
		}
		seconds := (m.Next().Time - start).Std().Sub(market.Time(0).Std()).Seconds()
		if got := float64(counted) / seconds; got < 0.93*float64(rate) || got > 1.07*float64(rate) {
			t.Errorf("%d instruments: %.0f records a second, want %d", instruments, got, rate)
		}
	}
	f(12, 100)
	f(200, 10_000)
}

// order is the trades of one instant, which one aggressor made.
type order struct {
	at    market.Time
	price float64
	size  float64
}

func orders(t *testing.T, sym string, n int) (all []order, events []market.Time) {
	t.Helper()
	m := sim.New(sim.Config{Seed: 5, Instruments: 3, Rate: 1000, Start: start})
	for len(all) < n {
		r := m.Next()
		if string(r.Key) != sym || r.Kind == sim.Instrument || r.Kind == sim.Snapshot {
			continue
		}
		if len(events) == 0 || events[len(events)-1] != r.Time {
			events = append(events, r.Time)
		}
		if r.Kind != sim.Trade {
			continue
		}
		v := parse(t, r)
		price, _ := market.ParseFixed(v.Price, 2)
		size, _ := market.ParseFixed(v.Size, 5)
		if len(all) == 0 || all[len(all)-1].at != r.Time {
			all = append(all, order{at: r.Time})
		}
		o := &all[len(all)-1]
		o.price, o.size = float64(price), o.size+float64(size)
	}
	return all, events
}

// TestLifelike measures what real markets are known for.
func TestLifelike(t *testing.T) {
	all, events := orders(t, "BTC-USDT", 20_000)

	// Sizes: Hill's estimate of the tail exponent over the largest 1 %. Real ones lie around 1.5.
	sizes := make([]float64, 0, len(all))
	for _, o := range all {
		sizes = append(sizes, o.size)
	}
	slices.Sort(sizes)
	top := sizes[len(sizes)*99/100:]
	sum := 0.0
	for _, s := range top[1:] {
		sum += math.Log(s / top[0])
	}
	if alpha := float64(len(top)-1) / sum; alpha < 1.1 || alpha > 2.5 {
		t.Errorf("the tail exponent of sizes is %.2f", alpha)
	} else {
		t.Logf("tail exponent of sizes: %.2f", alpha)
	}

	// Arrivals: variance over mean of the counts in windows of 200 ms. Independent arrivals have 1.
	counts := perWindow(events, 200*time.Millisecond)
	mean, variance := moments(counts)
	if d := variance / mean; d < 3 {
		t.Errorf("arrivals do not cluster: dispersion %.2f", d)
	} else {
		t.Logf("dispersion of arrivals: %.2f", d)
	}

	// Prices: they move, they stay near, and large moves follow large moves. Returns are over 1 s.
	var returns []float64
	last, next := all[0].price, all[0].at
	low, high := last, last
	for _, o := range all {
		low, high = min(low, o.price), max(high, o.price)
		if o.at >= next {
			returns = append(returns, math.Abs(o.price-last))
			last, next = o.price, o.at+market.Time(time.Second)
		}
	}
	if move := (high - low) / low; move < 0.00005 || move > 0.5 {
		t.Errorf("prices from %.0f to %.0f", low, high)
	} else {
		t.Logf("prices move within %.3f%%", 100*move)
	}
	if c := autocorrelation(returns, 1); c < 0.03 {
		t.Errorf("volatility does not cluster: autocorrelation of absolute returns %.3f", c)
	} else {
		t.Logf("autocorrelation of %d absolute returns: %.3f", len(returns), c)
	}
}

func perWindow(at []market.Time, window time.Duration) []float64 {
	counts := make([]float64, (at[len(at)-1]-at[0])/market.Time(window)+1)
	for _, t := range at {
		counts[(t-at[0])/market.Time(window)]++
	}
	return counts
}

func moments(v []float64) (mean, variance float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, variance
}

func autocorrelation(v []float64, lag int) float64 {
	mean, variance := moments(v)
	sum := 0.0
	for i := lag; i < len(v); i++ {
		sum += (v[i] - mean) * (v[i-lag] - mean)
	}
	return sum / float64(len(v)) / variance
}

func TestAllocatesNothingInSteadyState(t *testing.T) {
	m := sim.New(sim.Config{Seed: 1, Instruments: 50, Rate: 10_000, Start: start})
	for range 100_000 {
		m.Next()
	}
	// The odd burst is larger than all before.
	if n := testing.AllocsPerRun(20, func() {
		for range 1000 {
			m.Next()
		}
	}); n > 1 {
		t.Errorf("%v allocations for 1000 records", n)
	}
}

func BenchmarkNext(b *testing.B) {
	m := sim.New(sim.Config{Seed: 1, Instruments: 200, Rate: 10_000, Start: start})
	for range 1000 {
		m.Next()
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n += len(m.Next().Value)
	}
	b.ReportMetric(float64(n)/float64(b.N), "bytes/record")
}

func ExampleMarket() {
	m := sim.New(sim.Config{Seed: 1, Instruments: 1, Depth: 10, Start: market.FromMillis(1_700_000_000_000)})
	for range 3 {
		fmt.Printf("%.150s\n", m.Next().Value)
	}
	// Output:
	// {"type":"instrument","sym":"BTC-USDT","source":"tickwire","ps":2,"ss":5,"tick":"0.01","ts":1700000000000000}
	// {"type":"book","sym":"BTC-USDT","snapshot":true,"last":1000000,"bids":[["61737.62","0.00176"],["61737.61","0.0016"],["61737.6","0.00162"],["61737.48",
	// {"type":"trade","sym":"BTC-USDT","price":"61737.62","size":"0.00124","side":"sell","id":1700001000001,"ts":1700000000002699}
}

// TestRestart: a market that starts later has greater trade ids, or a reader that has seen the first would take its trades
// for duplicates.
func TestRestart(t *testing.T) {
	last := func(at market.Time) (id uint64) {
		m := sim.New(sim.Config{Seed: 1, Instruments: 1, Rate: 2000, Start: at})
		for range 20_000 { // about ten seconds
			r := m.Next()
			if r.Kind != sim.Trade {
				continue
			}
			var n struct {
				ID uint64 `json:"id"`
			}
			if err := json.Unmarshal(r.Value, &n); err != nil {
				t.Fatal(err)
			}
			if id == 0 {
				id = n.ID
			}
			if at == start {
				id = n.ID // the first market's last one
			}
		}
		return id
	}
	if before, after := last(start), last(start+market.Time(10*time.Second)); after <= before {
		t.Errorf("the second market begins at trade %d, the first one ended at %d", after, before)
	}
}
