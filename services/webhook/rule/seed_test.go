package rule_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// seeded is a partition that begins with a snapshot of an instrument that has traded at 100 + n in its n-th minute, for so
// many minutes up to epoch; the oldest bars come in a block. change may spoil a bar.
func seeded(t *testing.T, minutes int, change func(n int, b *market.Bar)) *rule.Partition {
	t.Helper()
	start := epoch - market.Time(minutes)*market.Time(time.Minute)
	var bars []market.Bar
	series := bar.Series{SizeScale: 3}
	for n := range minutes {
		at := start + market.Time(n)*market.Time(time.Minute)
		trade := market.Trade{Price: market.Price(10_000 + 100*n), Size: 1000}
		trade.Time = at
		series.AddOpen(&trade)
		b := market.Bar{Interval: market.Minute, Start: at, Open: trade.Price, High: trade.Price, Low: trade.Price, Close: trade.Price, Volume: 1000, Trades: 1, Final: true}
		b.Head = market.Head{Inst: 1, Epoch: 7, Prev: uint64(n), Seq: uint64(n + 1), Time: at}
		change(n, &b)
		bars = append(bars, b)
	}
	var block []byte
	for i := range minutes / 2 {
		block = wire.AppendBar(block, &bars[i])
	}
	s := stream.InstrumentSnapshot{TradesSeq: market.Sequence{Epoch: 7, Seq: uint64(minutes)}, Bars: bars[minutes/2:], Series: series.AppendBinary(nil)}
	s.Status = market.Status{Head: market.Head{Inst: 1, Epoch: 7, Seq: 1}, Book: market.Stale, Why: market.Start}
	s.Status.Instrument = market.Instrument{ID: 1, Sym: "A", Source: "test", Symbol: "A", PriceScale: 2, SizeScale: 3}
	p := rule.NewPartition()
	must(t, p.Snapshot(&stream.Snapshot{Inst: 1, Kind: stream.KindInstrument, Payload: s.Append(nil)}))
	must(t, p.Snapshot(&stream.Snapshot{Inst: 1, Kind: stream.KindBars + uint8(market.Minute), Payload: block}))
	must(t, p.Replay(&stream.Event{Time: epoch, Template: wire.TemplateOwnerHeartbeat, Value: wire.AppendOwnerHeartbeat(nil, &wire.OwnerHeartbeat{})}))
	return p
}

// A cold start knows the windows that the snapshots' bars reach over, and no others.
func TestSeed(t *testing.T) {
	f := func(p *rule.Partition, series rule.Series, window uint16, want string) {
		t.Helper()
		scales, _ := p.Scales(1)
		v, err := p.Add(int64(series)<<16|int64(window), 1, rule.Spec{Series: series, W1: window, Op: rule.AtOrAbove}, rule.State{})
		must(t, err)
		got := "none"
		if v.HasValue {
			got = rule.Format(v.Value, series.Scale(scales))
		}
		if got != want {
			t.Errorf("%v over %d minutes is %s, want %s", series, window, got, want)
		}
	}
	whole := seeded(t, 60, func(int, *market.Bar) {})
	f(whole, rule.ChangePct, 30, "22.3076") // 159 against 130
	f(whole, rule.ChangePct, 60, "59")      // 159 against 100
	f(whole, rule.ChangePct, 61, "none")
	f(whole, rule.Volume, 30, "29") // the minute that has just begun is empty
	f(whole, rule.Volume, 61, "none")
	f(whole, rule.FromHighPct, 10, "0")

	spoilt := seeded(t, 60, func(n int, b *market.Bar) { b.Incomplete = n == 40 })
	f(spoilt, rule.Volume, 10, "9")
	f(spoilt, rule.Volume, 30, "none")

	older := seeded(t, 60, func(n int, b *market.Bar) {
		if n < 50 {
			b.Epoch = 6
		}
	})
	f(older, rule.Volume, 5, "4")
	f(older, rule.Volume, 30, "none")
}

// Bars of more than a day, of which the newest is ahead of the log clock, make windows of a day and an image that can be
// restored.
func TestSeedOfDays(t *testing.T) {
	const minutes = 2048
	ahead := 2 * market.Time(time.Minute)
	p := seeded(t, minutes, func(_ int, b *market.Bar) { b.Start += ahead })
	var images [][]byte
	p.Images(10, 1<<62, func(_ uint32, image []byte) { images = append(images, bytes.Clone(image)) })
	again := rule.NewPartition()
	for _, image := range images {
		must(t, again.Restore(p.Offset(), image))
	}
	for _, p := range []*rule.Partition{p, again} {
		for i, c := range []struct {
			spec rule.Spec
			want int64
		}{
			{rule.Spec{Series: rule.Volume, W1: 1}, 2000}, // the bars of the minute that has begun, and of the one ahead
			{rule.Spec{Series: rule.Volume, W1: rule.MaxWindow}, 1441_000},
			{rule.Spec{Series: rule.MADiff, W1: 1, W2: 3}, 3333}, // 2147 against the mean of it twice and 2146: both are still open, and not ahead
		} {
			v, err := p.Add(int64(i), 1, c.spec, rule.State{})
			must(t, err)
			if !v.HasValue || v.Value != c.want {
				t.Errorf("%v over %d minutes is %+v, want %d", c.spec.Series, c.spec.W1, v, c.want)
			}
		}
	}
}
