package capture_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/ingest/decode"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// write puts lines into a file.
func write(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, cfg capture.Config) *capture.Reader {
	t.Helper()
	r, err := capture.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// each calls fn with each record, to the end.
func each(t *testing.T, r *capture.Reader, fn func(*capture.Record)) {
	t.Helper()
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		fn(rec)
	}
}

// texts writes each record in a line: time in ms, key, source, session, value.
func texts(t *testing.T, r *capture.Reader) []string {
	t.Helper()
	var all []string
	each(t, r, func(rec *capture.Record) {
		all = append(all, fmt.Sprintf("%d %s %s/%s %s", rec.At.Micros()/1000, rec.Key,
			rec.Header(capture.SourceHeader), rec.Header(capture.SessionHeader), rec.Value))
	})
	return all
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("record %d is missing: %s", i, want[i])
		case i >= len(want):
			t.Errorf("record %d is too many: %s", i, got[i])
		case got[i] != want[i]:
			t.Errorf("record %d\ngot  %s\nwant %s", i, got[i], want[i])
		}
	}
}

func depth(first, last int) string {
	return fmt.Sprintf(`{"e":"depthUpdate","s":"BTCUSDT","U":%d,"u":%d,"b":[["1.10","1.000"]],"a":[]}`, first, last)
}

// TestBinanceHoldsUpdatesForTheSnapshot: the snapshot's lastUpdateId may lie before updates that came earlier.
func TestBinanceHoldsUpdatesForTheSnapshot(t *testing.T) {
	const rest = `{"lastUpdateId":22,"bids":[["1.1","1"]],"asks":[]}`
	const trade = `{"e":"trade","s":"BTCUSDT","t":1,"p":"1.10","q":"1.00000"}`
	file := write(t, "a.txt",
		"1000400000000 "+depth(10, 19),
		"1000500000000 "+depth(20, 21),
		"1000600000000 "+trade,
		"1000700000000 "+depth(22, 25),
		"1000800000000 "+depth(26, 26),
		"1001100000000 "+rest,
		"1001200000000 "+depth(27, 29))
	r := open(t, capture.Config{Format: capture.BinanceLines, Files: []string{file}, Session: "s"})
	expect(t, texts(t, r),
		`1000400 BTC-USDT tickwire/s {"type":"instrument","sym":"BTC-USDT","source":"binance","symbol":"BTCUSDT","ps":2,"ss":5,"ts":1000400000}`,
		`1000600 BTC-USDT binance/s `+trade,
		`1001000  tickwire/s {"type":"clock","source":"binance","session":"s","ts":1001000000}`,
		`1001100 BTC-USDT binance/s `+rest,
		`1001100 BTC-USDT binance/s `+depth(22, 25),
		`1001100 BTC-USDT binance/s `+depth(26, 26),
		`1001200 BTC-USDT binance/s `+depth(27, 29))
	if s := r.Summary(); s.Payloads != 7 || s.First != market.FromMillis(1000400) || s.Last != market.FromMillis(1001200) {
		t.Errorf("%+v", s)
	}
}

// TestBinanceWithoutSnapshot: there is nothing to wait for.
func TestBinanceWithoutSnapshot(t *testing.T) {
	file := write(t, "a.txt", "1000100000000 "+depth(10, 19))
	r := open(t, capture.Config{Format: capture.BinanceLines, Files: []string{file}, Session: "s", AtSource: true})
	expect(t, texts(t, r),
		`1000100 BTC-USDT@binance tickwire/s {"type":"instrument","sym":"BTC-USDT@binance","source":"binance","symbol":"BTCUSDT","ps":2,"ss":3,"ts":1000100000}`,
		`1000100 BTC-USDT@binance binance/s `+depth(10, 19))
}

func TestClocksStopWithTheConnection(t *testing.T) {
	var lines []string
	for _, at := range []string{"100.0", "101.5", "101.7", "140.25", "141.0"} {
		lines = append(lines, at+`: {"event":"heartbeat"}`)
	}
	r := open(t, capture.Config{Format: capture.KrakenLines, Files: []string{write(t, "k", lines...)}, Session: "s"})
	var at []int64
	each(t, r, func(rec *capture.Record) { at = append(at, rec.At.Micros()/1e6) })
	if got := fmt.Sprint(at); got != "[100 101 102 103 104 105 106 107 108 109 110 111 141]" {
		t.Errorf("clocks at %s", got)
	}
}

func TestKrakenConnectsAgain(t *testing.T) {
	const update = `[1,{"b":[["354.15000000","5.0000","1.5"]],"c":"1"},"book-10","XBT/USD"]`
	const status = `{"event":"subscriptionStatus","pair":"XBT/USD","channelName":"book-10"}`
	file := write(t, "k",
		"wss://ws.kraken.com <-> 100.0",
		`wss://ws.kraken.com <- 100.1: {"event":"subscribe"}`,
		"",
		`100.2: {"event":"systemStatus"}`,
		"100.3: "+status,
		"100.4: "+update,
		"wss://ws.kraken.com <-> 100.5",
		"100.6: "+update)
	r := open(t, capture.Config{Format: capture.KrakenLines, Files: []string{file}, Session: "s"})
	expect(t, texts(t, r),
		`100200 BTC-USD tickwire/s {"type":"instrument","sym":"BTC-USD","source":"kraken","symbol":"XBT/USD","ps":8,"ss":4,"ts":100200000}`,
		`100300 BTC-USD kraken/s `+status,
		`100400 BTC-USD kraken/s `+update,
		`100600 BTC-USD kraken/s-2 `+update)
}

func TestCoinbase(t *testing.T) {
	const snapshot = `{"type":"snapshot","product_id":"DASH-BTC","bids":[["0.1","1.5"]],"asks":[]}`
	const match = `{"type":"match","product_id":"DASH-BTC","price":"0.12345","size":"0.001"}`
	file := write(t, "c", `100.1: {"type":"subscriptions"}`, "100.2: "+snapshot, "100.3: "+match)
	r := open(t, capture.Config{Format: capture.CoinbaseLines, Files: []string{file}, Session: "s"})
	expect(t, texts(t, r),
		`100100 DASH-BTC tickwire/s {"type":"instrument","sym":"DASH-BTC","source":"coinbase","symbol":"DASH-BTC","ps":5,"ss":3,"ts":100100000}`,
		`100200 DASH-BTC coinbase/s `+snapshot,
		`100300 DASH-BTC coinbase/s `+match)
}

func TestErrorsNameTheLine(t *testing.T) {
	f := func(format capture.Format, want string, lines ...string) {
		t.Helper()
		_, err := capture.Open(capture.Config{Format: format, Files: []string{write(t, "f", lines...)}, Session: "s"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f(capture.BinanceLines, "line 2", "1 {}", "nonsense")
	f(capture.BinanceLines, "line 1", "x {}")
	f(capture.KrakenLines, "line 1", "1.5: {")
	f(capture.Raw, "line 1", `{"ts":1}`)
	f(capture.Raw, "line 1", `{"ts":NaN,"headers":{},"value":""}`)
	f(capture.Raw, "line 1", `{"ts":1.5,"headers":{},"value":""}`)
	f(capture.BinanceLines, "several symbols", `1 {"e":"trade","s":"A"}`, `2 {"e":"trade","s":"B"}`, `3 {"lastUpdateId":1}`)
	f("tape", "not one of", "")
	if _, err := capture.Open(capture.Config{Format: capture.Raw, Files: []string{filepath.Join(t.TempDir(), "none")}}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestCanonical(t *testing.T) {
	f := func(source, symbol, want string) {
		t.Helper()
		if got := capture.Canonical(source, symbol); got != want {
			t.Errorf("%s of %s is %s, want %s", symbol, source, got, want)
		}
	}
	f("binance", "BTCUSDT", "BTC-USDT")
	f("binance", "ETHBTC", "ETH-BTC")
	f("binance", "BTCFDUSD", "BTC-FDUSD")
	f("binance", "USDT", "USDT")
	f("binance", "ODD", "ODD")
	f("kraken", "XMR/USD", "XMR-USD")
	f("kraken", "KSM/XBT", "KSM-BTC")
	f("coinbase", "SKL-BTC", "SKL-BTC")
}

// TestRawKeepsEverything writes records and reads them back, compressed, over two files.
func TestRawKeepsEverything(t *testing.T) {
	records := []capture.Record{
		{
			At: market.FromMicros(5), Partition: capture.ByKey, Key: []byte("BTC-USDT"), Value: []byte(`{"a":"\u00e9` + "\n\t\x01\\é" + `"}`),
			Headers: []stream.Header{{Key: "source", Value: []byte("binance")}, {Key: "source", Value: nil}},
		},
		{At: market.FromMicros(6), Partition: 3, Value: []byte("\xff\x00not text")},
		{At: market.FromMicros(7), Partition: capture.ByKey},
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := capture.NewWriter(z)
	for i := range records {
		if err := w.Write(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), z.Close()); err != nil {
		t.Fatal(err)
	}
	file := write(t, "dump.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, capture.Config{Format: capture.Raw, Files: []string{file, file}})
	n := 0
	each(t, r, func(got *capture.Record) {
		want := &records[n%len(records)]
		same := got.At == want.At && got.Partition == want.Partition && bytes.Equal(got.Key, want.Key) &&
			bytes.Equal(got.Value, want.Value) && len(got.Headers) == len(want.Headers)
		for i := range got.Headers {
			same = same && got.Headers[i].Key == want.Headers[i].Key && bytes.Equal(got.Headers[i].Value, want.Headers[i].Value)
		}
		if !same {
			t.Errorf("record %d\ngot  %+v\nwant %+v", n, got, want)
		}
		n++
	})
	if n != 2*len(records) {
		t.Errorf("%d records", n)
	}
	if err := w.Write(&capture.Record{Key: []byte{0xff}}); !errors.Is(err, capture.ErrNotText) {
		t.Error(err)
	}
}

// TestRecordedBinance replays both parts as one session. Every depth update continues the book, none is lost, and each
// whole second has its clock.
func TestRecordedBinance(t *testing.T) {
	r := open(t, capture.Config{
		Format:  capture.BinanceLines,
		Files:   []string{testkit.Data(t, "binance-spot/btcusdt_20240808.gz"), testkit.Data(t, "binance-spot/btcusdt_20240809.gz")},
		Session: "s",
	})
	in := r.Summary().Instruments[0]
	if in.Sym != "BTC-USDT" || in.PriceScale != 8 || in.SizeScale != 8 {
		t.Errorf("%+v", in)
	}
	var (
		d               decode.Decoder
		m               decode.Message
		last, at        uint64
		updates, trades int
		clock           market.Time
	)
	each(t, r, func(rec *capture.Record) {
		if uint64(rec.At) < at {
			t.Fatalf("%d after %d", rec.At, at)
		}
		at = uint64(rec.At)
		if err := d.Decode(string(rec.Header(capture.SourceHeader)), rec.Value, &in, &m); err != nil {
			t.Fatal(err)
		}
		switch m.Kind {
		case decode.BookSnapshot:
			last = m.Last
		case decode.BookUpdate:
			if m.First > last+1 || m.Last <= last {
				t.Fatalf("update %d-%d after %d", m.First, m.Last, last)
			}
			last = m.Last
			updates++
		case decode.Trades:
			trades += len(m.Trades)
		case decode.Clock:
			if clock != 0 && m.Time != clock+1e9 {
				t.Fatalf("clock %d after %d", m.Time, clock)
			}
			clock = m.Time
		}
	})
	if updates != 3451+3044-2 || trades != 9757+10147 { // two updates end before the snapshot
		t.Errorf("%d updates, %d trades", updates, trades)
	}
}

// TestRecordedKrakenAndCoinbase replays them through the decoders with the scales the capture found.
func TestRecordedKrakenAndCoinbase(t *testing.T) {
	f := func(format capture.Format, file string, want map[decode.Kind]int) {
		t.Helper()
		r := open(t, capture.Config{Format: format, Files: []string{testkit.Data(t, file)}, Session: "s"})
		instruments := map[string]*market.Instrument{}
		for _, in := range r.Summary().Instruments {
			instruments[in.Sym] = &in
		}
		var d decode.Decoder
		var m decode.Message
		counts := map[decode.Kind]int{}
		each(t, r, func(rec *capture.Record) {
			if err := d.Decode(string(rec.Header(capture.SourceHeader)), rec.Value, instruments[string(rec.Key)], &m); err != nil {
				t.Fatalf("%s: %v", rec.Value, err)
			}
			counts[m.Kind]++
		})
		for kind, n := range want {
			if counts[kind] != n {
				t.Errorf("%s: %d of %s, want %d", file, counts[kind], kind, n)
			}
		}
	}
	f(capture.KrakenLines, "kraken-v1/KRAKEN.ws.50.0", map[decode.Kind]int{
		decode.Instrument: 10, decode.BookSnapshot: 10, decode.BookUpdate: 4269, decode.Clock: 31, decode.Ignored: 10,
	})
	f(capture.CoinbaseLines, "coinbase-exchange/COINBASE.ws.28.0", map[decode.Kind]int{
		decode.Instrument: 10, decode.BookSnapshot: 10, decode.BookUpdate: 9719, decode.Trades: 107,
	})
}
