package rule_test

import (
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
	f(whole, rule.ChangePct, 60, "59") // 159 against 100
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
