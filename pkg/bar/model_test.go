package bar_test

import (
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
)

// model is the reference: it keeps every trade and computes each value anew from them, slow and obvious.
type model struct {
	scale  uint8
	now    market.Time
	trades []market.Trade
	gaps   [][2]market.Time
	late   uint64
	bars   [market.NumIntervals]map[market.Time]*modelBar
	finals [market.NumIntervals][]market.Time // starts of the final ones, oldest first
}

type modelBar struct {
	trades     []market.Trade // in order of arrival
	final      bool
	rev        uint32
	incomplete bool
	frozen     *[2]market.Price // open and close of a bar that 64 newer final ones have followed
}

func newModel(scale uint8) *model {
	m := &model{scale: scale}
	for i := range m.bars {
		m.bars[i] = map[market.Time]*modelBar{}
	}
	return m
}

func (m *model) add(t market.Trade, now market.Time) (out []market.Bar) {
	out = m.advance(max(now, t.Time))
	m.trades = append(m.trades, t)
	for i := range m.bars {
		iv := market.Interval(i)
		d := market.Time(iv.Duration())
		start := t.Time - ((t.Time%d)+d)%d
		b, late := m.bars[i][start], start+d+market.Time(2*time.Second) <= m.now
		if finals := m.finals[iv]; late && len(finals) >= 1500 && start < finals[len(finals)-1500] {
			m.late++
			continue
		}
		if b == nil {
			b = &modelBar{final: late, incomplete: m.missing(start, start+d)}
			m.bars[i][start] = b
		}
		b.trades = append(b.trades, t)
		if late {
			b.rev++
			b.incomplete = b.incomplete || m.missing(start, start+d)
			m.finish(iv, start)
			out = append(out, b.bar(iv, start))
		}
	}
	return out
}

func (m *model) advance(now market.Time) (out []market.Bar) {
	m.now = max(m.now, now)
	for i := range m.bars {
		iv := market.Interval(i)
		var due []market.Time
		for start, b := range m.bars[i] {
			if !b.final && start+market.Time(iv.Duration()+2*time.Second) <= m.now {
				due = append(due, start)
			}
		}
		slices.Sort(due)
		for _, start := range due {
			b := m.bars[i][start]
			b.final = true
			m.finish(iv, start)
			out = append(out, b.bar(iv, start))
		}
	}
	slices.SortFunc(out, func(a, b market.Bar) int {
		if a.Start != b.Start {
			return int(max(-1, min(1, a.Start-b.Start)))
		}
		return int(a.Interval) - int(b.Interval)
	})
	return out
}

func (m *model) gap(at market.Time) {
	from := at
	if last := m.last(); last != nil {
		from = min(at, last.Time)
	}
	if n := len(m.gaps); n > 0 && m.gaps[n-1][0] <= at && from <= m.gaps[n-1][1] {
		m.gaps[n-1] = [2]market.Time{min(m.gaps[n-1][0], from), max(m.gaps[n-1][1], at)}
	} else {
		m.gaps = append(m.gaps, [2]market.Time{from, at})
	}
	if len(m.gaps) > 8 {
		a, b := m.gaps[0], m.gaps[1]
		m.gaps = append([][2]market.Time{{min(a[0], b[0]), max(a[1], b[1])}}, m.gaps[2:]...)
	}
	for i := range m.bars {
		for start, b := range m.bars[i] {
			if !b.final && from < start+market.Time(market.Interval(i).Duration()) && at >= start {
				b.incomplete = true
			}
		}
	}
}

func (m *model) missing(start, end market.Time) bool {
	return slices.ContainsFunc(m.gaps, func(g [2]market.Time) bool { return g[0] < end && g[1] >= start })
}

// finish lists a final bar, and freezes the bar that now has 64 newer ones.
func (m *model) finish(iv market.Interval, start market.Time) {
	if !slices.Contains(m.finals[iv], start) {
		m.finals[iv] = append(m.finals[iv], start)
		slices.Sort(m.finals[iv])
	}
	starts := m.finals[iv]
	for i := len(starts) - 65; i >= 0; i-- {
		b := m.bars[iv][starts[i]]
		if b.frozen != nil {
			continue
		}
		v := b.bar(iv, starts[i])
		b.frozen = &[2]market.Price{v.Open, v.Close}
	}
}

// byTime returns trades by event time, and by arrival among equals.
func byTime(trades []market.Trade) []market.Trade {
	trades = slices.Clone(trades)
	slices.SortStableFunc(trades, func(a, b market.Trade) int { return int(max(-1, min(1, a.Time-b.Time))) })
	return trades
}

func (b *modelBar) bar(iv market.Interval, start market.Time) market.Bar {
	ts := byTime(b.trades)
	v := market.Bar{
		Interval: iv, Start: start, Open: ts[0].Price, High: ts[0].Price, Low: ts[0].Price, Close: ts[len(ts)-1].Price,
		Trades: uint64(len(ts)), Final: b.final, Rev: b.rev, Incomplete: b.incomplete,
	}
	volume := new(big.Int)
	for _, t := range ts {
		v.High, v.Low = max(v.High, t.Price), min(v.Low, t.Price)
		volume.Add(volume, big.NewInt(int64(t.Size)))
	}
	v.Volume = market.Size(clamp(volume))
	if b.frozen != nil {
		v.Open, v.Close = b.frozen[0], b.frozen[1]
	}
	return v
}

func clamp(v *big.Int) int64 {
	if !v.IsInt64() {
		return math.MaxInt64
	}
	return v.Int64()
}

func (m *model) open(iv market.Interval) (newest market.Bar, ok bool) {
	for start, b := range m.bars[iv] {
		if !b.final && (!ok || start > newest.Start) {
			newest, ok = b.bar(iv, start), true
		}
	}
	return newest, ok
}

func (m *model) due() market.Time {
	at := market.Time(math.MaxInt64)
	for i := range m.bars {
		for start, b := range m.bars[i] {
			if !b.final {
				at = min(at, start+market.Time(market.Interval(i).Duration()+2*time.Second))
			}
		}
	}
	return at
}

func (m *model) closed(iv market.Interval, n int) (out []market.Bar) {
	starts := m.finals[iv]
	for _, start := range starts[max(0, len(starts)-min(n, 2048)):] {
		out = append(out, m.bars[iv][start].bar(iv, start))
	}
	return out
}

func (m *model) last() (last *market.Trade) {
	if ts := byTime(m.trades); len(ts) > 0 {
		last = &ts[len(ts)-1]
	}
	return last
}

func (m *model) ticker() (v market.Ticker) {
	if last := m.last(); last != nil {
		v.Last, v.LastSize = last.Price, last.Size
	}
	minute := m.now.Std().Truncate(time.Minute)
	from := market.FromTime(minute.Add(-1439 * time.Minute))
	volume, quote := new(big.Int), new(big.Int)
	for _, t := range byTime(m.trades) {
		if t.Time < from {
			continue
		}
		if v.Trades++; v.Trades == 1 {
			v.Open, v.High, v.Low = t.Price, t.Price, t.Price
		}
		v.High, v.Low = max(v.High, t.Price), min(v.Low, t.Price)
		volume.Add(volume, big.NewInt(int64(t.Size)))
		value := new(big.Int).Mul(big.NewInt(int64(t.Price)), big.NewInt(int64(t.Size)))
		quote.Add(quote, value.Quo(value, big.NewInt(market.Pow10(m.scale))))
	}
	v.Volume, v.Quote = market.Size(clamp(volume)), clamp(quote)
	return v
}

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkBars(t fataler, what string, got, want []market.Bar) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d bars, want %d\n got %+v\nwant %+v", what, len(got), len(want), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s %d:\n got %+v\nwant %+v", what, i, got[i], want[i])
		}
	}
}

// checkState compares what a series shows with the model.
func checkState(t fataler, what string, s *bar.Series, m *model) {
	t.Helper()
	for i := range market.NumIntervals {
		iv := market.Interval(i)
		got, ok := s.Open(iv)
		want, wantOK := m.open(iv)
		if ok != wantOK || got != want {
			t.Fatalf("%s: open %v:\n got %+v %v\nwant %+v %v", what, iv, got, ok, want, wantOK)
		}
	}
	checkTicker(t, what, s, m)
}

func checkTicker(t fataler, what string, s *bar.Series, m *model) {
	t.Helper()
	var got market.Ticker
	s.Ticker(&got)
	if want := m.ticker(); got != want {
		t.Fatalf("%s: ticker\n got %+v\nwant %+v", what, got, want)
	}
}

func checkClosed(t fataler, what string, s *bar.Series, m *model, n int) {
	t.Helper()
	for i := range market.NumIntervals {
		iv := market.Interval(i)
		checkBars(t, what+" closed "+iv.String(), s.Closed(iv, n, nil), m.closed(iv, n))
	}
}
