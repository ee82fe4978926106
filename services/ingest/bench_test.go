package ingest

import (
	"bytes"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
)

// recordedDepth returns a core whose book has just become live, and the depth updates of the recording behind it: 36 levels
// each, on average.
func recordedDepth(b testing.TB) (*core, []input) {
	c := newCore(0, 1)
	var updates []input
	first := true
	offset := int64(0)
	eachPayload(b, "binance-spot/btcusdt_20240808.gz", " ", 1e9, func(at market.Time, payload []byte) {
		in := input{In: at, Key: []byte("BTC-USDT"), Session: []byte("b1")}
		apply := func(source, value string) {
			in.Offset, in.Source, in.Value = offset, []byte(source), []byte(value)
			offset++
			if reason := c.Apply(&in); reason != "" {
				b.Fatal(reason)
			}
		}
		if first {
			apply("tickwire", binanceInstrument)
			first = false
		}
		switch update := bytes.Contains(payload, []byte("depthUpdate")); {
		case update && c.list[0].feed.state == market.Live:
			in.Offset, in.Source, in.Value = offset, []byte("binance"), bytes.Clone(payload)
			offset++
			updates = append(updates, in)
		case update, bytes.Contains(payload, []byte("lastUpdateId")):
			apply("binance", string(payload))
		}
	})
	if len(updates) == 0 {
		b.Fatal("no live book")
	}
	return c, updates
}

// rewinder puts the book back to where it is now, so that the same updates can come again.
func rewinder(c *core) func() {
	f := &c.list[0].feed
	bids, asks, last := f.book.AppendLevels(nil, market.Bid, 0), f.book.AppendLevels(nil, market.Ask, 0), f.last
	return func() {
		f.book.Replace(bids, asks)
		f.last = last
	}
}

// BenchmarkDepth applies real depth updates: decode, book, sequence, encode.
func BenchmarkDepth(b *testing.B) {
	c, updates := recordedDepth(b)
	rewind := rewinder(c)
	b.ReportAllocs()
	levels := 0
	for i := 0; b.Loop(); i++ {
		n := i % len(updates)
		if n == 0 {
			rewind()
		}
		if reason := c.Apply(&updates[n]); reason != "" {
			b.Fatal(reason)
		}
		levels += len(c.msg.Bids) + len(c.msg.Asks)
	}
	if c.stats.stale > 0 {
		b.Fatalf("%d books became stale", c.stats.stale)
	}
	b.ReportMetric(float64(levels)/float64(b.N), "levels/op")
}

// BenchmarkTrade applies trades of one instrument, ten a second.
func BenchmarkTrade(b *testing.B) {
	c := newCore(0, 1)
	in := input{In: t0, Key: []byte("X"), Session: []byte("s1"), Value: []byte(`{"type":"instrument","sym":"X","ps":2,"ss":0}`)}
	c.Apply(&in)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		in.Offset++
		in.In = t0 + market.Time(i)*100_000_000
		in.Value = append(in.Value[:0], `{"type":"trade","sym":"X","price":"1.50","size":1,"side":"buy","id":`...)
		in.Value = market.AppendFixed(in.Value, int64(i+1), 0)
		in.Value = append(in.Value, `,"ts":`...)
		in.Value = market.AppendFixed(in.Value, in.In.Micros(), 0)
		in.Value = append(in.Value, '}')
		if reason := c.Apply(&in); reason != "" {
			b.Fatal(reason)
		}
	}
}

// BenchmarkClock applies clocks for 1,000 instruments of which none has anything due.
func BenchmarkClock(b *testing.B) {
	c := newCore(0, 1)
	in := input{In: t0, Session: []byte("s1")}
	for i := range 1000 {
		sym := string(market.AppendFixed([]byte("X"), int64(i), 0))
		in.Offset, in.Key = in.Offset+1, []byte(sym)
		in.Value = []byte(`{"type":"instrument","sym":"` + sym + `","ps":2,"ss":0}`)
		c.Apply(&in)
	}
	in.Key = nil
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		in.Offset++
		in.In = t0 + market.Time(i)*1000
		in.Value = append(in.Value[:0], `{"type":"clock","source":"tickwire","session":"s1","ts":`...)
		in.Value = append(market.AppendFixed(in.Value, in.In.Micros(), 0), '}')
		if reason := c.Apply(&in); reason != "" {
			b.Fatal(reason)
		}
	}
}

// BenchmarkSnapshot saves an instrument with a real book.
func BenchmarkSnapshot(b *testing.B) {
	c, _ := recordedDepth(b)
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		list, _ := c.snapshots(c.list[0], 0)
		size = len(list[len(list)-1].Payload)
	}
	b.ReportMetric(float64(size), "B/snapshot")
}

func TestDepthDoesNotAllocate(t *testing.T) {
	c, updates := recordedDepth(t)
	rewind := rewinder(c)
	i := 0
	apply := func() {
		if i%len(updates) == 0 {
			rewind()
		}
		c.Apply(&updates[i%len(updates)])
		i++
	}
	for range len(updates) { // buffers reach their sizes
		apply()
	}
	if n := testing.AllocsPerRun(len(updates), apply); n != 0 {
		t.Errorf("%v allocations per update", n)
	}
	if c.stats.stale > 0 || c.out.len() == 0 {
		t.Error("the book is not live")
	}
}
