package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// eachPayload calls fn with the receive time (in ns, whatever the recording's unit is worth) and the payload of each line.
func eachPayload(t testing.TB, name, sep string, perSecond float64, fn func(at market.Time, payload []byte)) {
	t.Helper()
	f, err := os.Open(testkit.Data(t, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	s := bufio.NewScanner(in)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		stamp, payload, ok := bytes.Cut(s.Bytes(), []byte(sep))
		at, err := strconv.ParseFloat(string(stamp), 64)
		if !ok || err != nil || !bytes.ContainsAny(payload[:1], "{[") {
			continue
		}
		fn(market.Time(at/perSecond*1e6)*1000, payload)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// follower is a reader of the stream: a book by the client's rule, the trades, and what was said about them.
type follower struct {
	t        testing.TB
	book     book.Book
	state    market.State
	trades   []string
	gaps     int
	stale    int
	updates  int
	snapshot market.Snapshot
	delta    market.Delta
	trade    market.Trade
	status   market.Status
}

func (f *follower) apply(b []byte) {
	f.t.Helper()
	tmpl, err := wire.Peek(b)
	if err != nil {
		f.t.Fatal(err)
	}
	switch tmpl {
	case wire.TemplateBookSnapshot:
		if err = wire.DecodeSnapshot(b, &f.snapshot); err == nil {
			err = f.book.Load(&f.snapshot)
		}
	case wire.TemplateBookUpdate:
		f.updates++
		if err = wire.DecodeDelta(b, &f.delta); err == nil {
			_, err = f.book.Apply(&f.delta)
		}
		if f.delta.Hash.Sum != f.book.Hash() {
			f.t.Fatalf("hash of update %d", f.delta.Seq)
		}
	case wire.TemplateTrade:
		err = wire.DecodeTrade(b, &f.trade)
		f.trades = append(f.trades, f.trade.ID.String())
	case wire.TemplateTradeGap:
		f.gaps++
	case wire.TemplateStatus:
		err = wire.DecodeStatus(b, &f.status)
		f.state = f.status.Book
		if f.state == market.Stale {
			f.stale++
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// best is a best bid and ask with the venue's number of the update behind them.
type best struct {
	u        uint64
	bid, ask market.Level
}

const binanceInstrument = `{"type":"instrument","sym":"BTC-USDT","source":"binance","symbol":"BTCUSDT","ps":2,"ss":8,"tick":"0.01"}`

// binanceFrame is what the reference needs of a line, read by the standard library.
type binanceFrame struct {
	LastUpdateID uint64          `json:"lastUpdateId"`
	FullBids     [][2]string     `json:"bids"`
	FullAsks     [][2]string     `json:"asks"`
	Data         json.RawMessage `json:"data"`
}

type binanceData struct {
	Event    string          `json:"e"`
	Last     uint64          `json:"u"`
	First    uint64          `json:"U"`
	Bid      json.RawMessage `json:"b"`
	BidSize  string          `json:"B"`
	Ask      json.RawMessage `json:"a"`
	AskSize  string          `json:"A"`
	Trade    uint64          `json:"t"`
	Ignored1 uint64          `json:"E"` // encoding/json is deaf to case: without it, e gets the number
	Ignored2 uint64          `json:"T"`
}

// reference is a book of maps, straight from the file.
type reference [2]map[market.Price]market.Size

func (r *reference) set(t testing.TB, side market.Side, levels [][2]string) {
	for _, l := range levels {
		p, s := level(t, l[0], l[1])
		if r[side] == nil {
			r[side] = make(map[market.Price]market.Size)
		}
		if r[side][p] = s; s == 0 {
			delete(r[side], p)
		}
	}
}

func level(t testing.TB, price, size string) (market.Price, market.Size) {
	t.Helper()
	p, err := market.ParseFixed(price, 2)
	if err != nil {
		t.Fatal(err)
	}
	s, err := market.ParseFixed(size, 8)
	if err != nil {
		t.Fatal(err)
	}
	return market.Price(p), market.Size(s)
}

func (r *reference) levels(side market.Side) (levels []market.Level) {
	for p, s := range r[side] {
		levels = append(levels, market.Level{Price: p, Size: s})
	}
	sort.Slice(levels, func(i, j int) bool {
		return (levels[i].Price > levels[j].Price) == (side == market.Bid)
	})
	return levels
}

func into(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func TestRecordedBinance(t *testing.T) {
	r := newRig(t)
	r.key, r.sess = "BTC-USDT", "b1"
	f := &follower{t: t}
	var ref reference
	var early []binanceData
	var tickers, ours []best
	var trades []string
	applied := uint64(0)
	feed := func(at market.Time, source, value string) {
		r.in, r.source = at.Truncate(1e6), source
		r.raw(value)
		if r.reason != "" {
			t.Fatalf("quarantined for %s: %.200s", r.reason, value)
		}
		for _, b := range r.all {
			f.apply(b)
		}
		r.all = r.all[:0]
	}
	apply := func(d *binanceData) {
		var bids, asks [][2]string
		into(t, d.Bid, &bids)
		into(t, d.Ask, &asks)
		ref.set(t, market.Bid, bids)
		ref.set(t, market.Ask, asks)
		applied = d.Last
	}
	first := true
	for _, part := range []string{"binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"} {
		eachPayload(t, part, " ", 1e9, func(at market.Time, payload []byte) {
			if first {
				feed(at, "tickwire", binanceInstrument)
				first = false
			}
			feed(at, "binance", string(payload))
			var frame binanceFrame
			into(t, payload, &frame)
			if frame.LastUpdateID != 0 {
				ref.set(t, market.Bid, frame.FullBids)
				ref.set(t, market.Ask, frame.FullAsks)
				applied = frame.LastUpdateID
				for i := range early {
					if early[i].Last > applied {
						apply(&early[i])
					}
				}
				bid, ask := f.book.Best()
				ours = append(ours, best{applied, bid, ask})
				return
			}
			var d binanceData
			into(t, frame.Data, &d)
			switch {
			case d.Event == "trade":
				trades = append(trades, fmt.Sprint(d.Trade))
			case d.Event == "depthUpdate" && applied == 0:
				early = append(early, d)
			case d.Event == "depthUpdate":
				apply(&d)
				bid, ask := f.book.Best()
				ours = append(ours, best{d.Last, bid, ask})
			default:
				var bid, ask string
				into(t, d.Bid, &bid)
				into(t, d.Ask, &ask)
				b := best{u: d.Last}
				b.bid.Price, b.bid.Size = level(t, bid, d.BidSize)
				b.ask.Price, b.ask.Size = level(t, ask, d.AskSize)
				tickers = append(tickers, b)
			}
		})
	}
	if f.gaps != 0 || f.stale != 1 || f.state != market.Live || len(ours) != 6493 {
		t.Errorf("%d gaps, stale %d times (once is the start), now %v, %d books", f.gaps, f.stale, f.state, len(ours))
	}
	if !slices.Equal(f.trades, trades) {
		t.Errorf("%d trades came out, %d went in", len(f.trades), len(trades))
	}
	for _, side := range []market.Side{market.Bid, market.Ask} {
		if got, want := f.book.AppendLevels(nil, side, 0), ref.levels(side); !slices.Equal(got, want) {
			t.Errorf("side %d of the final book: %d levels, the reference has %d", side, len(got), len(want))
		}
	}
	equal := 0
	for _, b := range ours {
		n := sort.Search(len(tickers), func(i int) bool { return tickers[i].u > b.u })
		if n > 0 && tickers[n-1].bid == b.bid && tickers[n-1].ask == b.ask {
			equal++
		}
	}
	t.Logf("best prices equal the venue's in %d of %d comparisons; %d levels", equal, len(ours), len(f.book.AppendLevels(nil, market.Bid, 0)))
	if equal < 6491 {
		t.Errorf("best prices equal the venue's in %d of %d comparisons", equal, len(ours))
	}
}

// symbols reads the decimals that a recording uses per symbol, as a connector knows them from the venue.
type decimals struct{ price, size int }

func (d *decimals) see(price, size string) {
	d.price, d.size = max(d.price, market.Decimals(price)), max(d.size, market.Decimals(size))
}

func TestRecordedKraken(t *testing.T) {
	const file = "kraken-v1/KRAKEN.ws.50.0"
	scales := make(map[string]*decimals)
	var order []string
	eachPayload(t, file, ": ", 1, func(_ market.Time, payload []byte) {
		var frame []json.RawMessage
		if json.Unmarshal(payload, &frame) != nil {
			return
		}
		var pair string
		into(t, frame[len(frame)-1], &pair)
		if scales[pair] == nil {
			scales[pair] = &decimals{}
			order = append(order, pair)
		}
		for _, part := range frame[1 : len(frame)-2] {
			var sides map[string]json.RawMessage
			into(t, part, &sides)
			for name, raw := range sides {
				var levels [][]string
				if name != "c" {
					into(t, raw, &levels)
				}
				for _, l := range levels {
					scales[pair].see(l[0], l[1])
				}
			}
		}
	})
	r := newRig(t)
	books := make(map[string]*follower)
	checksums := 0
	first := true
	eachPayload(t, file, ": ", 1, func(at market.Time, payload []byte) {
		r.in, r.sess = at.Truncate(1e6), "k1"
		if first {
			first = false
			for _, pair := range order {
				r.source, r.key = "tickwire", pair
				r.feed(`{"type":"instrument","sym":%q,"source":"kraken","ps":%d,"ss":%d}`, pair, scales[pair].price, scales[pair].size)
				books[pair] = &follower{t: t}
			}
			r.all = nil
		}
		var frame []json.RawMessage
		if json.Unmarshal(payload, &frame) != nil {
			return
		}
		r.source = "kraken"
		into(t, frame[len(frame)-1], &r.key)
		r.raw(string(payload))
		if r.reason != "" {
			t.Fatalf("quarantined for %s: %.200s", r.reason, payload)
		}
		if r.core.msg.HasChecksum {
			checksums++
		}
		for _, b := range r.all {
			books[r.key].apply(b)
		}
		r.all = r.all[:0]
		for _, side := range []market.Side{market.Bid, market.Ask} {
			if n := books[r.key].book.Len(side); n > 1000 {
				t.Fatalf("%s has %d levels on side %d", r.key, n, side)
			}
		}
	})
	if checksums != 4269 || r.core.stats.stale != 0 {
		t.Errorf("%d checksums, %d books became stale", checksums, r.core.stats.stale)
	}
	for pair, f := range books {
		if f.state != market.Live {
			t.Errorf("%s is %v", pair, f.state)
		}
	}
}

func TestRecordedCoinbase(t *testing.T) {
	const file = "coinbase-exchange/COINBASE.ws.28.0"
	scales := make(map[string]*decimals)
	var order []string
	type message struct {
		Type    string      `json:"type"`
		Product string      `json:"product_id"`
		Bids    [][2]string `json:"bids"`
		Asks    [][2]string `json:"asks"`
		Changes [][3]string `json:"changes"`
		Price   string      `json:"price"`
		Size    string      `json:"size"`
		TradeID uint64      `json:"trade_id"`
	}
	matches := 0
	eachPayload(t, file, ": ", 1, func(_ market.Time, payload []byte) {
		var m message
		into(t, payload, &m)
		if m.Product == "" {
			return
		}
		if scales[m.Product] == nil {
			scales[m.Product] = &decimals{}
			order = append(order, m.Product)
		}
		d := scales[m.Product]
		for _, l := range append(m.Bids, m.Asks...) {
			d.see(l[0], l[1])
		}
		for _, c := range m.Changes {
			d.see(c[1], c[2])
		}
		if m.Type == "match" || m.Type == "last_match" {
			d.see(m.Price, m.Size)
			matches++
		}
	})
	r := newRig(t)
	r.sess = "c1"
	books := make(map[string]*follower)
	first := true
	eachPayload(t, file, ": ", 1, func(at market.Time, payload []byte) {
		r.in = at.Truncate(1e6)
		if first {
			first = false
			for _, p := range order {
				r.source, r.key = "tickwire", p
				r.feed(`{"type":"instrument","sym":%q,"source":"coinbase","ps":%d,"ss":%d}`, p, scales[p].price, scales[p].size)
				books[p] = &follower{t: t}
			}
			r.all = nil
		}
		var m message
		into(t, payload, &m)
		if m.Product == "" {
			return
		}
		r.source, r.key = "coinbase", m.Product
		r.raw(string(payload))
		if r.reason != "" {
			t.Fatalf("quarantined for %s: %.200s", r.reason, payload)
		}
		for _, b := range r.all {
			books[r.key].apply(b)
		}
		r.all = r.all[:0]
	})
	trades, gaps := 0, 0
	for p, f := range books {
		if f.state != market.Live {
			t.Errorf("%s is %v", p, f.state)
		}
		trades += len(f.trades)
		gaps += f.gaps
	}
	if r.core.stats.stale != 0 || gaps != 0 || trades != matches {
		t.Errorf("%d books became stale, %d gaps, %d trades of %d matches", r.core.stats.stale, gaps, trades, matches)
	}
}
