package decode_test

import (
	"bytes"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/ingest/decode"
)

var btcusdt = market.Instrument{Sym: "BTC-USDT", Source: decode.Binance, Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 8}

// BenchmarkBinanceDepth decodes the recorded depth updates, one after another.
func BenchmarkBinanceDepth(b *testing.B) {
	var records [][]byte
	size := 0
	lines(b, "binance-spot/btcusdt_20240808.gz", " ", func(payload []byte) {
		if bytes.Contains(payload, []byte("depthUpdate")) {
			records = append(records, bytes.Clone(payload))
			size += len(payload)
		}
	})
	var (
		d      decode.Decoder
		m      decode.Message
		levels int
	)
	b.SetBytes(int64(size / len(records)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := d.Decode(decode.Binance, records[i%len(records)], &btcusdt, &m); err != nil {
			b.Fatal(err)
		}
		levels += len(m.Bids) + len(m.Asks)
	}
	b.ReportMetric(float64(levels)/float64(b.N), "levels/op")
}
