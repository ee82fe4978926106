package wire_test

import (
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// depthUpdate is as large as a real depth update of a busy instrument: 35 levels.
func depthUpdate() *market.Delta {
	d := &market.Delta{Head: head(1002), Hash: market.Hash{Sum: 0xda907b7959d27156, OK: true}}
	for i := range 35 {
		l := market.Level{Price: market.Price(6_173_763 + (i-18)*7), Size: market.Size(i * i * 7919 % 1_300_007)}
		if i%4 == 0 {
			l.Size = market.Size(i%3) * 40_000
		}
		if i < 18 {
			d.Bids = append(d.Bids, l)
		} else {
			d.Asks = append(d.Asks, l)
		}
	}
	return d
}

// coded is a hot message with its codecs.
type coded struct {
	name   string
	append func(dst []byte) []byte
	decode func(b []byte) error
}

func hot() []coded {
	var m, n wire.Message
	update := depthUpdate()
	list := []coded{
		{"update35/sbe", func(dst []byte) []byte { return wire.AppendDelta(dst, update) }, func(b []byte) error { return wire.DecodeDelta(b, &m.Delta) }},
		{"update35/json", func(dst []byte) []byte { return wire.AppendDeltaJSON(dst, btc, update, out) }, func(b []byte) error { return wire.DecodeJSON(b, lookup, &n) }},
	}
	for _, s := range samples() {
		switch s.msg.(type) {
		case *wire.Ack, *wire.Error, *wire.Request:
			continue // once in a connection's life or per request
		}
		sbe, text := appendSBE(nil, s.msg), s.json()
		if len(sbe) > 0 {
			decode := sbeDecoder(s.msg)
			list = append(list, coded{s.name + "/sbe", func(dst []byte) []byte { return appendSBE(dst, s.msg) }, decode})
		}
		if len(text) > 0 {
			list = append(list, coded{s.name + "/json", nil, func([]byte) error { return wire.DecodeJSON(text, lookup, &n) }})
		}
	}
	return list
}

// sbeDecoder returns a decoder into memory that is used again.
func sbeDecoder(msg any) func(b []byte) error {
	var m wire.Message
	var (
		marker    wire.OwnerMarker
		heartbeat wire.OwnerHeartbeat
		batch     wire.OwnerBatch
		part      wire.SnapshotPart
		log       wire.LogID
	)
	switch msg.(type) {
	case *wire.OwnerMarker:
		return func(b []byte) error { return wire.DecodeOwnerMarker(b, &marker) }
	case *wire.OwnerHeartbeat:
		return func(b []byte) error { return wire.DecodeOwnerHeartbeat(b, &heartbeat) }
	case *wire.OwnerBatch:
		return func(b []byte) error { return wire.DecodeOwnerBatch(b, &batch) }
	case *wire.SnapshotPart:
		return func(b []byte) error { return wire.DecodeSnapshotPart(b, &part) }
	case *wire.LogID:
		return func(b []byte) error { return wire.DecodeLogID(b, &log) }
	}
	return func(b []byte) error { return wire.DecodeSBE(b, &m) }
}

// TestNoAllocations holds the codecs of everything that is sent often to no allocation in steady state.
func TestNoAllocations(t *testing.T) {
	f := func(name string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	buf := make([]byte, 0, 8192)
	for _, c := range hot() {
		if c.append != nil {
			buf = c.append(buf[:0])
			f("append "+c.name, func() { buf = c.append(buf[:0]) })
		}
		frame := append([]byte(nil), buf...)
		f("decode "+c.name, func() {
			if err := c.decode(frame); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		})
	}
	for _, s := range samples() {
		if msg, ok := s.msg.(*heartbeat); ok {
			f(s.name, func() { buf = wire.AppendHeartbeat(buf[:0], msg.time) })
		}
	}
	trade, status, bar := samples()[8].msg.(*market.Trade), &wire.TopicStatus{}, &market.Bar{}
	f("trade", func() { buf = wire.AppendTradeJSON(buf[:0], btc, trade, out) })
	f("bar", func() { buf = wire.AppendBarJSON(buf[:0], btc, bar, out) })
	f("bbo", func() { buf = wire.AppendBBOJSON(buf[:0], btc, &market.BBO{Bid: bids[0]}, out) })
	f("ticker", func() { buf = wire.AppendTickerJSON(buf[:0], btc, &market.Ticker{Open: 3, Last: 5}, out) })
	f("topic status", func() { buf = wire.AppendTopicStatusJSON(buf[:0], status) })
	var r wire.Request
	ack := []byte(`{"op":"ack","bytes":1048576}`)
	f("ack of the flow window", func() { _ = wire.DecodeRequest(ack, &r) })
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range hot()[:2] {
		b.Run(c.name, func(b *testing.B) {
			buf := c.append(make([]byte, 0, 8192))
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf = c.append(buf[:0])
			}
		})
	}
	b.Run("trade/sbe", func(b *testing.B) {
		benchTrade(b, func(dst []byte, m *market.Trade) []byte { return wire.AppendTrade(dst, m) })
	})
	b.Run("trade/json", func(b *testing.B) {
		benchTrade(b, func(dst []byte, m *market.Trade) []byte { return wire.AppendTradeJSON(dst, btc, m, out) })
	})
}

func benchTrade(b *testing.B, encode func(dst []byte, m *market.Trade) []byte) {
	id := market.NumericTradeID(3_739_112_312)
	m := &market.Trade{Head: head(51), Price: 6_173_763, Size: 1_500, Side: market.Ask, ID: id}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = encode(buf[:0], m)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range hot()[:2] {
		b.Run(c.name, func(b *testing.B) {
			frame := c.append(nil)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.decode(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
