package bar_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
)

var epoch = market.FromTime(time.Date(2026, 3, 1, 23, 58, 50, 0, time.UTC))

// world is ingest, an edge that reads what ingest publishes, and the model of both.
type world struct {
	m      *model
	ingest *bar.Series
	edge   *bar.Series
}

func newWorld(scale uint8) *world {
	return &world{newModel(scale), &bar.Series{SizeScale: scale}, &bar.Series{SizeScale: scale}}
}

// trade gives a trade to all; barsFirst says in which order the edge reads the trade and the bars it makes.
func (w *world) trade(t fataler, tr market.Trade, now market.Time, barsFirst bool) {
	t.Helper()
	want := w.m.add(tr, now)
	got := w.ingest.Add(&tr, now, nil)
	checkBars(t, "published", got, want)
	if !barsFirst {
		w.edge.AddOpen(&tr)
	}
	w.read(got)
	if barsFirst {
		w.edge.AddOpen(&tr)
	}
}

func (w *world) advance(t fataler, now market.Time) {
	t.Helper()
	want := w.m.advance(now)
	got := w.ingest.Advance(now, nil)
	checkBars(t, "published", got, want)
	w.read(got)
}

func (w *world) read(bars []market.Bar) {
	for i := range bars {
		w.edge.Final(&bars[i])
	}
}

func (w *world) gap(at market.Time) {
	w.m.gap(at)
	w.ingest.Gap(at)
	w.edge.Gap(at)
}

func (w *world) check(t fataler) {
	t.Helper()
	checkState(t, "ingest", w.ingest, w.m)
	if w.ingest.Due() != w.m.due() {
		t.Fatalf("due %v, want %v", w.ingest.Due(), w.m.due())
	}
	w.edge.Roll(w.m.now)
	checkState(t, "edge", w.edge, w.m)
	if w.ingest.TooLate() != w.m.late {
		t.Fatalf("%d too late, want %d", w.ingest.TooLate(), w.m.late)
	}
}

// restored is what another process makes of a stored series and its stored bars.
func restored(t fataler, s *bar.Series) *bar.Series {
	t.Helper()
	stored := s.AppendBinary(nil)
	next := &bar.Series{}
	if err := next.DecodeBinary(stored); err != nil {
		t.Fatalf("decode: %v", err)
	}
	for i := range market.NumIntervals {
		for _, b := range s.Closed(market.Interval(i), bar.MaxClosed, nil) {
			next.Final(&b)
		}
	}
	if again := next.AppendBinary(nil); string(again) != string(stored) {
		t.Fatalf("stored again it differs:\n%x\n%x", stored, again)
	}
	return next
}

var (
	drawValue = rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(1, 20), rapid.SampledFrom([]int64{math.MaxInt64, math.MaxInt64 / 2, 1 << 40}))
	// drawBack is how late a trade is: mostly not, often some seconds, now and then any time.
	drawBack = rapid.Custom(func(t *rapid.T) time.Duration {
		limit := rapid.SampledFrom([]time.Duration{0, 0, time.Second, 5 * time.Second, 2 * time.Minute, 5 * time.Hour, 26 * time.Hour, 100 * time.Hour}).Draw(t, "limit")
		return time.Duration(rapid.Int64Range(0, limit.Microseconds()).Draw(t, "back")) * time.Microsecond
	})
	drawStep = rapid.Custom(func(t *rapid.T) time.Duration {
		limit := rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 4 * time.Second, 10 * time.Minute, 25 * time.Hour}).Draw(t, "limit")
		return time.Duration(rapid.Int64Range(0, limit.Microseconds()).Draw(t, "step")) * time.Microsecond
	})
)

func drawTrade(t *rapid.T, now market.Time) market.Trade {
	tr := market.Trade{Price: market.Price(drawValue.Draw(t, "price")), Size: market.Size(drawValue.Draw(t, "size"))}
	tr.Time = now - market.Time(drawBack.Draw(t, "late"))
	return tr
}

func TestSeriesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(uint8(rapid.IntRange(0, 18).Draw(t, "scale")))
		now := epoch
		trade := func(t *rapid.T) {
			now += market.Time(drawStep.Draw(t, "step"))
			w.trade(t, drawTrade(t, now), now, rapid.Bool().Draw(t, "bars first"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"":      func(t *rapid.T) { w.check(t) },
			"trade": trade,
			"again": trade,
			"more":  trade,
			"clock": func(t *rapid.T) {
				now += market.Time(drawStep.Draw(t, "step"))
				w.advance(t, now)
			},
			"gap":         func(t *rapid.T) { w.gap(now - market.Time(drawBack.Draw(t, "back"))) },
			"take over":   func(t *rapid.T) { w.ingest = restored(t, w.ingest) },
			"edge starts": func(t *rapid.T) { w.edge = restored(t, w.ingest) },
			"history": func(t *rapid.T) {
				n := rapid.IntRange(0, 100).Draw(t, "n")
				checkClosed(t, "ingest", w.ingest, w.m, n)
				checkClosed(t, "edge", w.edge, w.m, n)
			},
		})
	})
}

// Long enough that bars leave the history, the edges and the window, with late trades into all of it.
func TestLongSeries(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	w := newWorld(3)
	now := epoch
	for i := range 6000 {
		now += market.FromMicros(rng.Int64N(1_600_000))
		tr := market.Trade{Price: market.Price(1000 + rng.IntN(50)), Size: market.Size(1 + rng.IntN(5000))}
		tr.Time = now
		switch rng.IntN(20) {
		case 0:
			tr.Time -= market.FromMicros(rng.Int64N(5_000_000))
		case 1:
			tr.Time -= market.FromMicros(rng.Int64N(200_000_000))
		case 2:
			tr.Time -= market.FromMicros(rng.Int64N(5_000_000_000))
		case 3:
			w.advance(t, now)
		}
		if rng.IntN(100) == 0 {
			w.gap(now)
		}
		w.trade(t, tr, now, i%2 == 0)
		if i%500 == 0 {
			w.check(t)
			w.ingest = restored(t, w.ingest)
		}
	}
	w.check(t)
	checkClosed(t, "ingest", w.ingest, w.m, bar.MaxClosed+100)
	checkClosed(t, "edge", w.edge, w.m, bar.MaxClosed+100)
	if got := len(w.ingest.Closed(market.Second, math.MaxInt32, nil)); got != bar.MaxClosed {
		t.Errorf("%d bars of a second are kept", got)
	}
	if w.m.late == 0 {
		t.Error("no trade was too late: the test does not reach the limit")
	}
}

// Trades in most minutes of two days, so that the window is full and loses buckets at each step.
func TestWindowOfManyMinutes(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	w := newWorld(2)
	now := epoch
	for i := range 4000 {
		now += market.Time(rng.Int64N(int64(90*time.Second))) / 1000 * 1000
		tr := market.Trade{Price: market.Price(1 + rng.IntN(1000)), Size: market.Size(1 + rng.IntN(50))}
		tr.Time = now
		if rng.IntN(4) == 0 {
			tr.Time -= market.FromMicros(rng.Int64N(25 * 3600 * 1e6))
		}
		w.m.now = max(w.m.now, now)
		w.m.trades = append(w.m.trades, tr)
		w.ingest.Add(&tr, now, nil)
		if i%100 == 0 {
			checkTicker(t, "ingest", w.ingest, w.m)
			w.ingest = restored(t, w.ingest)
		}
	}
	checkTicker(t, "ingest", w.ingest, w.m)
	if size := len(w.ingest.AppendBinary(nil)); size > 40_000 {
		t.Errorf("binary form of %d bytes", size)
	}
	now += market.Time(1500 * time.Minute)
	w.m.now = now
	if !w.edge.Roll(now) && w.ingest.Roll(now) {
		checkTicker(t, "rolled", w.ingest, w.m)
	} else {
		t.Error("an empty window has rolled, or a full one has not")
	}
}

// at returns the time sec seconds after a whole day.
func at(sec float64) market.Time {
	return market.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)) + market.FromMicros(int64(sec*1e6))
}

func trade(sec float64, p market.Price, s market.Size) market.Trade {
	t := market.Trade{Price: p, Size: s}
	t.Time = at(sec)
	return t
}

func seconds(bars []market.Bar) (out []market.Bar) {
	for _, b := range bars {
		if b.Interval == market.Second {
			out = append(out, b)
		}
	}
	return out
}

func TestFinalAtGrace(t *testing.T) {
	var s bar.Series
	tr := trade(0.5, 100, 3)
	if out := s.Add(&tr, tr.Time, nil); len(out) != 0 {
		t.Fatalf("published %+v", out)
	}
	if s.Due() != at(3) {
		t.Fatalf("due at %v", s.Due().Std())
	}
	if out := s.Advance(at(3)-1, nil); len(out) != 0 {
		t.Fatalf("final too early: %+v", out)
	}
	want := market.Bar{Start: at(0), Open: 100, High: 100, Low: 100, Close: 100, Volume: 3, Trades: 1, Final: true}
	checkBars(t, "final", s.Advance(at(3), nil), []market.Bar{want})
	if out := s.Advance(at(3), nil); len(out) != 0 {
		t.Fatalf("final twice: %+v", out)
	}
	if _, ok := s.Open(market.Second); ok {
		t.Error("the final bar is still open")
	}
	if b, ok := s.Open(market.Day); !ok || b.Final || b.Start != at(0) {
		t.Errorf("bar of the day: %+v %v", b, ok)
	}
}

func TestSeveralOpenBars(t *testing.T) {
	var s bar.Series
	for _, sec := range []float64{0.9, 2.1, 1.5, 0.2} { // time goes back within the grace
		tr := trade(sec, market.Price(sec*10), 1)
		if out := s.Add(&tr, at(2.5), nil); len(out) != 0 {
			t.Fatalf("published %+v", out)
		}
	}
	if b, _ := s.Open(market.Second); b.Start != at(2) {
		t.Errorf("the newest open bar is %+v", b)
	}
	checkBars(t, "open", s.AllOpen(market.Second, nil), []market.Bar{
		{Start: at(0), Open: 2, High: 9, Low: 2, Close: 9, Volume: 2, Trades: 2},
		{Start: at(1), Open: 15, High: 15, Low: 15, Close: 15, Volume: 1, Trades: 1},
		{Start: at(2), Open: 21, High: 21, Low: 21, Close: 21, Volume: 1, Trades: 1},
	})
	checkBars(t, "final", seconds(s.Advance(at(4.5), nil)), []market.Bar{
		{Start: at(0), Open: 2, High: 9, Low: 2, Close: 9, Volume: 2, Trades: 2, Final: true},
		{Start: at(1), Open: 15, High: 15, Low: 15, Close: 15, Volume: 1, Trades: 1, Final: true},
	})
}

func TestLateTrades(t *testing.T) {
	var s bar.Series
	add := func(sec float64, p market.Price) []market.Bar {
		tr := trade(sec, p, 1)
		return s.Add(&tr, at(10), nil)
	}
	first := trade(1.3, 50, 1)
	s.Add(&first, first.Time, nil)
	s.Advance(at(10), nil)
	bars := func(rev uint32, n int, o, h, l, c market.Price) []market.Bar {
		return []market.Bar{{Start: at(1), Open: o, High: h, Low: l, Close: c, Volume: market.Size(n), Trades: uint64(n), Final: true, Rev: rev}}
	}
	checkBars(t, "between", add(1.3, 60), bars(1, 2, 50, 60, 50, 60)) // as late as the last: it closes
	checkBars(t, "before", add(1.1, 55), bars(2, 3, 55, 60, 50, 60))
	checkBars(t, "as early", add(1.1, 70), bars(3, 4, 55, 70, 50, 60))
	checkBars(t, "after", add(1.9, 40), bars(4, 5, 55, 70, 40, 40))
	checkBars(t, "no bar yet", add(4.5, 45), []market.Bar{
		{Start: at(4), Open: 45, High: 45, Low: 45, Close: 45, Volume: 1, Trades: 1, Final: true, Rev: 1},
	})
	if b, _ := s.Open(market.Minute); b.Trades != 6 || b.Open != 55 || b.Close != 45 || b.Rev != 0 {
		t.Errorf("the open minute is %+v", b)
	}
}

func TestOldestCorrectedBar(t *testing.T) {
	var s bar.Series
	for i := range bar.MaxCorrected + 1 {
		tr := trade(float64(i)+0.5, 100, 1)
		s.Add(&tr, tr.Time, nil)
	}
	s.Advance(at(float64(bar.MaxCorrected)+3), nil)
	late := trade(1.7, 90, 1)
	want := market.Bar{Start: at(1), Open: 100, High: 100, Low: 90, Close: 100, Volume: 2, Trades: 2, Final: true, Rev: 1}
	checkBars(t, "the last that is corrected", seconds(s.Add(&late, late.Time, nil)), []market.Bar{want})
	late.Time = at(0.7)
	if out := seconds(s.Add(&late, late.Time, nil)); len(out) != 0 || s.TooLate() != 1 {
		t.Errorf("one further back: %+v, %d too late", out, s.TooLate())
	}
}

func TestWindowBoundaries(t *testing.T) {
	var s bar.Series
	var v market.Ticker
	const day = 24 * 3600
	for _, sec := range []float64{day + 59.9, 60, 59.999999} { // now, the window's first instant, the one before it
		tr := trade(sec, market.Price(sec), 1)
		s.Add(&tr, tr.Time, nil)
	}
	s.Ticker(&v)
	if v.Trades != 2 || v.Open != 60 || v.Low != 60 || v.Last != day+59 {
		t.Errorf("ticker %+v", v)
	}
	if !s.Roll(at(day+60)) || s.Roll(at(day+60)) || s.Roll(at(0)) {
		t.Error("the window rolls once, forward")
	}
	s.Ticker(&v)
	if v.Trades != 1 || v.Open != day+59 || v.Low != day+59 {
		t.Errorf("ticker a minute later %+v", v)
	}
}

func TestSaturation(t *testing.T) {
	s := bar.Series{SizeScale: 8}
	var v market.Ticker
	for i := range 3 {
		tr := trade(float64(i)*86400/2, math.MaxInt64, math.MaxInt64)
		s.Add(&tr, tr.Time, nil)
		tr.Time++
		s.Add(&tr, tr.Time, nil)
		if s.Ticker(&v); v.Volume != math.MaxInt64 || v.Quote != math.MaxInt64 {
			t.Errorf("24 h values %+v", v)
		}
		if b, _ := s.Open(market.Minute); b.Volume != math.MaxInt64 {
			t.Errorf("bar %+v", b)
		}
	}
	// What saturated leaves the window again, and the sums are exact.
	tr := trade(3*86400, 200, 7)
	s.Add(&tr, tr.Time, nil)
	if s.Ticker(&v); v.Volume != 7 || v.Trades != 1 {
		t.Errorf("24 h values afterwards %+v", v)
	}
}

func TestGapMakesIncomplete(t *testing.T) {
	var s bar.Series
	tr := trade(0.5, 100, 1)
	s.Add(&tr, tr.Time, nil)
	s.Gap(at(1.2))
	for _, sec := range []float64{1.5, 2.5} {
		tr := trade(sec, 100, 1)
		s.Add(&tr, tr.Time, nil)
	}
	incomplete := []bool{true, true, false} // the last trade's bar, the gap's, which began later, and the next
	for i, b := range seconds(s.Advance(at(9), nil)) {
		if b.Incomplete != incomplete[i] {
			t.Errorf("bar %d: incomplete %v", i, b.Incomplete)
		}
	}
	if b, _ := s.Open(market.Minute); !b.Incomplete {
		t.Error("the minute is complete")
	}
}

func TestFinalIgnoresAnOlderRevision(t *testing.T) {
	var s bar.Series
	b := market.Bar{Interval: market.Minute, Start: at(60), Open: 1, High: 2, Low: 1, Close: 2, Volume: 5, Trades: 2, Final: true, Rev: 2}
	b.Head = market.Head{Inst: 4097, Epoch: 17, Prev: 8, Seq: 9, Time: at(130), In: at(131)}
	s.Final(&b)
	older := b
	older.Rev, older.Seq, older.Volume = 1, 7, 3
	s.Final(&older)
	s.Final(&market.Bar{Interval: 99})
	checkBars(t, "history", s.Closed(market.Minute, 10, nil), []market.Bar{b})
	b.Epoch, b.Rev = 18, 0
	s.Final(&b)
	checkBars(t, "a new epoch's", s.Closed(market.Minute, 10, nil), []market.Bar{b})
}

func TestEndOfTime(t *testing.T) {
	var s bar.Series
	tr := trade(0.5, 100, 1)
	s.Add(&tr, tr.Time, nil)
	if out := s.Advance(math.MaxInt64, nil); len(out) != market.NumIntervals {
		t.Errorf("%d bars are final when an instrument is delisted", len(out))
	}
	if s.Due() != math.MaxInt64 {
		t.Errorf("due at %v", s.Due())
	}
	restored(t, &s)
}
