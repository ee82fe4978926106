package decode_test

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/ingest/decode"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// recorded opens a file of the recorded data, or skips the test where there is none.
func recorded(tb testing.TB, name string) io.Reader {
	tb.Helper()
	f, err := os.Open(testkit.Data(tb, name))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

// lines calls fn with each line's payload, which stands behind the first sep; what the recorder itself sent is left out.
func lines(tb testing.TB, name, sep string, fn func(payload []byte)) {
	tb.Helper()
	in := bufio.NewScanner(recorded(tb, name))
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		if _, payload, ok := bytes.Cut(in.Bytes(), []byte(sep)); ok && !bytes.HasPrefix(in.Bytes(), []byte("wss:")) && (payload[0] == '{' || payload[0] == '[') {
			fn(payload)
		}
	}
	if err := in.Err(); err != nil {
		tb.Fatal(err)
	}
}

// decimals is how many decimals the venue writes, per symbol: the scales its checksums need.
type decimals struct{ price, size int }

// TestRecordedKraken builds every recorded book with nothing but maps and holds it against every checksum of the venue.
func TestRecordedKraken(t *testing.T) {
	const file, sep = "kraken-v1/KRAKEN.ws.50.0", ": "
	level := regexp.MustCompile(`\["(\d+\.\d+)","(\d+\.\d+)","\d+\.\d+"`)
	pairOf := func(payload []byte) string {
		return string(payload[bytes.LastIndex(payload, []byte(`,"`))+2 : len(payload)-2])
	}
	scales := map[string]decimals{}
	lines(t, file, sep, func(payload []byte) {
		if payload[0] != '[' {
			return
		}
		sc := scales[pairOf(payload)]
		for _, l := range level.FindAllSubmatch(payload, -1) {
			sc.price, sc.size = max(sc.price, market.Decimals(l[1])), max(sc.size, market.Decimals(l[2]))
		}
		scales[pairOf(payload)] = sc
	})
	var (
		d               decode.Decoder
		m               decode.Message
		books           = map[string]*plainBook{}
		snapshots, sums int
		ignored         int
	)
	lines(t, file, sep, func(payload []byte) {
		in := &xbtusd
		pair := ""
		if payload[0] == '[' {
			pair = pairOf(payload)
			sc := scales[pair]
			in = &market.Instrument{Symbol: pair, PriceScale: uint8(sc.price), SizeScale: uint8(sc.size)}
		}
		if err := d.Decode(decode.Kraken, payload, in, &m); err != nil {
			t.Fatalf("%.200s: %v", payload, err)
		}
		switch m.Kind {
		case decode.Ignored:
			ignored++
			return
		case decode.BookSnapshot:
			snapshots++
			books[pair] = &plainBook{bids: map[market.Price]market.Size{}, asks: map[market.Price]market.Size{}}
		}
		b := books[pair]
		b.apply(&m)
		if m.HasChecksum {
			sums++
			if got := decode.KrakenChecksum(b.best(market.Bid), b.best(market.Ask)); got != m.Checksum {
				t.Fatalf("%s: checksum %d, the venue says %d, after %.200s", pair, got, m.Checksum, payload)
			}
		}
	})
	if snapshots != 10 || sums != 4269 || ignored != 42 {
		t.Errorf("%d snapshots, %d checksums, %d ignored", snapshots, sums, ignored)
	}
}

// plainBook is the slow, obvious book.
type plainBook struct{ bids, asks map[market.Price]market.Size }

func (b *plainBook) apply(m *decode.Message) {
	for _, side := range []struct {
		of   map[market.Price]market.Size
		from []market.Level
	}{{b.bids, m.Bids}, {b.asks, m.Asks}} {
		for _, l := range side.from {
			if side.of[l.Price] = l.Size; l.Size == 0 {
				delete(side.of, l.Price)
			}
		}
	}
	for _, side := range []market.Side{market.Bid, market.Ask} {
		of := b.bids
		if side == market.Ask {
			of = b.asks
		}
		levels := b.best(side)
		for _, l := range levels[min(len(levels), m.Depth):] {
			delete(of, l.Price)
		}
	}
}

func (b *plainBook) best(side market.Side) (levels []market.Level) {
	of := b.bids
	if side == market.Ask {
		of = b.asks
	}
	for p, s := range of {
		levels = append(levels, market.Level{Price: p, Size: s})
	}
	slices.SortFunc(levels, func(x, y market.Level) int {
		if side == market.Ask {
			return cmp.Compare(x.Price, y.Price)
		}
		return cmp.Compare(y.Price, x.Price)
	})
	return levels
}

func TestRecordedBinance(t *testing.T) {
	var (
		d        decode.Decoder
		m        decode.Message
		counts   = map[decode.Kind]int{}
		last     uint64
		previous uint64
		in       = market.Instrument{Symbol: "BTCUSDT", PriceScale: 8, SizeScale: 8}
	)
	for _, file := range []string{"binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"} {
		lines(t, file, " ", func(payload []byte) {
			if err := d.Decode(decode.Binance, payload, &in, &m); err != nil {
				t.Fatalf("%.200s: %v", payload, err)
			}
			counts[m.Kind]++
			switch m.Kind {
			case decode.BookUpdate:
				if last != 0 && m.First != last+1 {
					t.Fatalf("update %d-%d after %d", m.First, m.Last, last)
				}
				last = m.Last
			case decode.Trades:
				id, ok := m.Trades[0].ID.Number()
				if !ok || m.IDs != decode.Counts || previous != 0 && id != previous+1 {
					t.Fatalf("trade %s after %d", m.Trades[0].ID, previous)
				}
				previous = id
			}
		})
	}
	want := map[decode.Kind]int{
		decode.BookSnapshot: 1, decode.BookUpdate: 3451 + 3044, decode.Trades: 9757 + 10147, decode.Ignored: 28040 + 45134,
	}
	if !maps.Equal(counts, want) {
		t.Errorf("got %v, want %v", counts, want)
	}
}

func TestRecordedCoinbase(t *testing.T) {
	var (
		d       decode.Decoder
		m       decode.Message
		counts  = map[decode.Kind]int{}
		product = regexp.MustCompile(`"product_id":"([^"]+)"`)
		ids     = map[string]uint64{}
	)
	lines(t, "coinbase-exchange/COINBASE.ws.28.0", ": ", func(payload []byte) {
		in := market.Instrument{PriceScale: 8, SizeScale: 8}
		if p := product.FindSubmatch(payload); p != nil {
			in.Symbol = string(p[1])
		}
		if err := d.Decode(decode.Coinbase, payload, &in, &m); err != nil {
			t.Fatalf("%.200s: %v", payload, err)
		}
		counts[m.Kind]++
		if m.Kind == decode.Trades {
			id, _ := m.Trades[0].ID.Number()
			if before := ids[in.Symbol]; before != 0 && id != before+1 {
				t.Errorf("%s: trade %d after %d", in.Symbol, id, before)
			}
			ids[in.Symbol] = id
		}
	})
	if counts[decode.BookSnapshot] != 10 || counts[decode.BookUpdate] != 9719 || counts[decode.Trades] != 97+10 { // with the last_match of each product
		t.Errorf("%v", counts)
	}
}
