package all_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/capture"
)

// venueBook is the plainest book there can be, built straight from the recording by encoding/json and maps. It shares
// nothing with the code under test but the reading of decimal numbers.
type venueBook struct {
	sides [2]map[market.Price]market.Size
}

// set applies levels and tells whether any of them was news.
func (b *venueBook) set(side market.Side, levels [][2]string) (changed bool, err error) {
	for _, l := range levels {
		price, err := market.ParseFixed(l[0], 8)
		if err != nil {
			return false, err
		}
		size, err := market.ParseFixed(l[1], 8)
		if err != nil {
			return false, err
		}
		changed = changed || b.sides[side][market.Price(price)] != market.Size(size)
		if size == 0 {
			delete(b.sides[side], market.Price(price))
		} else {
			b.sides[side][market.Price(price)] = market.Size(size)
		}
	}
	return changed, nil
}

// levels returns the best levels of a side, best first; depth 0 is all.
func (b *venueBook) levels(side market.Side, depth int) []market.Level {
	all := make([]market.Level, 0, len(b.sides[side]))
	for price, size := range b.sides[side] {
		all = append(all, market.Level{Price: price, Size: size})
	}
	slices.SortFunc(all, func(x, y market.Level) int {
		if side == market.Bid {
			x, y = y, x
		}
		switch {
		case x.Price < y.Price:
			return -1
		case x.Price > y.Price:
			return 1
		}
		return 0
	})
	if depth > 0 && len(all) > depth {
		all = all[:depth]
	}
	return all
}

// recording is what the files say, read without any of our code for venues.
type recording struct {
	book    venueBook
	frames  []depthFrame // those that follow the snapshot
	tickers []bookTicker // the venue's own BBO
	trades  []string     // ids, in order
}

// depthFrame is a frame of the venue's, and whether it changed anything: some repeat what the book says already.
type depthFrame struct {
	u       uint64
	at      market.Time
	changed bool
}

type bookTicker struct {
	u        uint64
	bid, ask market.Level
}

// readBinance reads both parts of the recording.
func readBinance(t *testing.T, files []string) *recording {
	t.Helper()
	r := &recording{}
	r.book.sides = [2]map[market.Price]market.Size{{}, {}}
	var buffered []map[string]json.RawMessage
	live := false
	var snapshot uint64
	apply := func(frame map[string]json.RawMessage) {
		u := number(t, frame["u"])
		if u <= snapshot {
			return
		}
		bids, err := r.book.set(market.Bid, levelsOf(t, frame["b"]))
		must(t, err)
		asks, err := r.book.set(market.Ask, levelsOf(t, frame["a"]))
		must(t, err)
		r.frames = append(r.frames, depthFrame{u, market.FromMillis(int64(number(t, frame["E"]))), bids || asks})
	}
	eachLine(t, files, func(line []byte) {
		var m map[string]json.RawMessage
		must(t, json.Unmarshal(line, &m))
		if data, ok := m["data"]; ok {
			m = nil
			must(t, json.Unmarshal(data, &m))
		}
		switch {
		case m["lastUpdateId"] != nil:
			snapshot = number(t, m["lastUpdateId"])
			_, err := r.book.set(market.Bid, levelsOf(t, m["bids"]))
			must(t, err)
			_, err = r.book.set(market.Ask, levelsOf(t, m["asks"]))
			must(t, err)
			live = true
			for _, frame := range buffered {
				apply(frame)
			}
		case string(m["e"]) == `"depthUpdate"` && !live:
			buffered = append(buffered, m)
		case string(m["e"]) == `"depthUpdate"`:
			apply(m)
		case string(m["e"]) == `"trade"`:
			r.trades = append(r.trades, string(m["t"]))
		case m["u"] != nil:
			r.tickers = append(r.tickers, bookTicker{
				u:   number(t, m["u"]),
				bid: levelOf(t, m["b"], m["B"]),
				ask: levelOf(t, m["a"], m["A"]),
			})
		}
	})
	return r
}

func eachLine(t *testing.T, files []string, fn func(payload []byte)) {
	t.Helper()
	for _, name := range files {
		f, err := os.Open(name)
		must(t, err)
		z, err := gzip.NewReader(f)
		must(t, err)
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			_, payload, ok := strings.Cut(lines.Text(), " ")
			if !ok {
				t.Fatalf("%s: a line without a time", filepath.Base(name))
			}
			fn([]byte(payload))
		}
		must(t, lines.Err())
		must(t, f.Close())
	}
}

func number(t *testing.T, raw json.RawMessage) (v uint64) {
	t.Helper()
	must(t, json.Unmarshal(raw, &v))
	return v
}

func levelsOf(t *testing.T, raw json.RawMessage) (levels [][2]string) {
	t.Helper()
	must(t, json.Unmarshal(raw, &levels))
	return levels
}

func levelOf(t *testing.T, price, size json.RawMessage) market.Level {
	t.Helper()
	var p, s string
	must(t, json.Unmarshal(price, &p))
	must(t, json.Unmarshal(size, &s))
	pv, err := market.ParseFixed(p, 8)
	must(t, err)
	sv, err := market.ParseFixed(s, 8)
	must(t, err)
	return market.Level{Price: market.Price(pv), Size: market.Size(sv)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ticker is the venue's newest BBO at update u.
func (r *recording) ticker(u uint64) (bookTicker, bool) {
	i, found := slices.BinarySearchFunc(r.tickers, u, func(b bookTicker, u uint64) int {
		switch {
		case b.u < u:
			return -1
		case b.u > u:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return bookTicker{}, false
	}
	return r.tickers[i], true
}

// watcher is one client with one view of the book, verified at every message.
type watcher struct {
	name   string
	view   client.BookView
	client *client.Client
	book   *client.Book

	mu   sync.Mutex
	errs []error
	best map[market.Time][2]market.Level // by event time; kept by full views alone
}

func watch(t *testing.T, url, sym string, encoding client.Encoding, view client.BookView) *watcher {
	t.Helper()
	w := &watcher{
		name: fmt.Sprintf("encoding %d, depth %d, ms %d", encoding, view.Depth, view.Millis), view: view,
		best: make(map[market.Time][2]market.Level),
	}
	full := view == client.BookView{}
	mode := client.Conflate
	if full {
		mode = client.Lossless // each update is compared with the venue's ticker
	}
	c, err := client.Dial(t.Context(), client.Config{URL: url, Encoding: encoding, Mode: mode, Handler: client.Handler{
		OnBook: func(b *client.Book, u *client.BookUpdate) {
			if full {
				bid, ask := b.BBO()
				w.mu.Lock()
				w.best[u.Time] = [2]market.Level{bid, ask}
				w.mu.Unlock()
			}
		},
		OnError: func(_ *client.Topic, err error) {
			w.mu.Lock()
			w.errs = append(w.errs, err)
			w.mu.Unlock()
		},
	}})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	w.client = c
	w.book, err = c.Book(sym, view)
	must(t, err)
	return w
}

// check waits for the recording's final book, and holds the client's counters against what is allowed: nothing.
func (w *watcher) check(t *testing.T, final map[uint16][2][]market.Level) {
	t.Helper()
	want := final[w.view.Depth]
	reached := waitFor(t, func() bool {
		return slices.Equal(w.book.AppendLevels(nil, market.Bid, 0), want[market.Bid]) &&
			slices.Equal(w.book.AppendLevels(nil, market.Ask, 0), want[market.Ask])
	})
	s := w.book.BookStats()
	if !reached {
		t.Errorf("%s: the final book is not the recording's; %+v at %v", w.name, s, w.book.Sequence())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs {
		t.Errorf("%s: %v", w.name, err)
	}
	if s.Gaps != 0 || s.Mismatches != 0 {
		t.Errorf("%s: %d gaps, %d mismatches", w.name, s.Gaps, s.Mismatches)
	}
	if s.Verified != s.Updates+s.Snapshots || s.Snapshots == 0 {
		t.Errorf("%s: %d of %d updates and %d snapshots verified", w.name, s.Verified, s.Updates, s.Snapshots)
	}
}

// waitFor polls until cond holds, for at most 30 s, and tells whether it did.
func waitFor(t *testing.T, cond func() bool) bool {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-poll.C {
		if cond() {
			return true
		}
	}
	return false
}

// TestBinance takes the recorded session through everything: md.raw, ingest, md.events, WebSocket, client.
func TestBinance(t *testing.T) {
	dir := testkit.Data(t, "binance-spot")
	files := []string{filepath.Join(dir, "btcusdt_20240808.gz"), filepath.Join(dir, "btcusdt_20240809.gz")}
	want := readBinance(t, files)
	reader, err := capture.Open(capture.Config{Format: capture.BinanceLines, Files: files, Session: "binance-1"})
	must(t, err)
	defer func() { _ = reader.Close() }()
	instrument := reader.Summary().Instruments[0]
	s := startWith(t, nil, func(cfg *all.Config) { // the whole recording: nobody is cut off however busy the machine is
		cfg.Mirror.RingEntries, cfg.Mirror.RingBytes = 1<<16, 64<<20
	})

	var watchers []*watcher
	var tape *tradeTape
	replayed := s.replay(t, reader, replaySpeed, func() {
		for _, encoding := range []client.Encoding{client.SBE, client.JSON} {
			for _, depth := range []uint16{0, 10, 25, 50, 100} {
				for _, millis := range []uint16{0, 100, 250, 1000} {
					watchers = append(watchers, watch(t, s.url, instrument.Sym, encoding, client.BookView{Depth: depth, Millis: millis}))
				}
			}
		}
		tape = followTrades(t, s.url, instrument.Sym)
	})

	random := rand.New(rand.NewPCG(1, 2))
	for joined := 0; joined < 24; joined++ { // clients that come at random moments
		select {
		case err := <-replayed:
			must(t, err)
			t.Fatal("the replay ended before all clients had joined")
		case <-time.After(time.Duration(random.IntN(900)) * time.Millisecond):
		}
		view := client.BookView{
			Depth:  []uint16{0, 10, 25, 50, 100}[random.IntN(5)],
			Millis: []uint16{0, 100, 250, 1000}[random.IntN(4)],
		}
		watchers = append(watchers, watch(t, s.url, instrument.Sym, client.Encoding(random.IntN(2)), view))
	}
	must(t, <-replayed)

	final := finalBooks(want, instrument)
	for _, w := range watchers {
		w.check(t, final)
	}
	compareTickers(t, want, watchers[0], instrument)
	tape.check(t, want.trades)
}

// finalBooks is the recording's last book at each depth, at the instrument's scales.
func finalBooks(r *recording, in market.Instrument) map[uint16][2][]market.Level {
	scale, final := rescale(in), make(map[uint16][2][]market.Level)
	for _, depth := range []uint16{0, 10, 25, 50, 100} {
		var sides [2][]market.Level
		for _, side := range []market.Side{market.Bid, market.Ask} {
			sides[side] = r.book.levels(side, int(depth))
			for i := range sides[side] {
				sides[side][i] = scale(sides[side][i])
			}
		}
		final[depth] = sides
	}
	return final
}

// rescale brings the recording's levels, read at eight decimals, to the instrument's scales.
func rescale(in market.Instrument) func(market.Level) market.Level {
	price, size := market.Pow10(8-in.PriceScale), market.Pow10(8-in.SizeScale)
	return func(l market.Level) market.Level {
		return market.Level{Price: l.Price / market.Price(price), Size: l.Size / market.Size(size)}
	}
}

// compareTickers holds the BBO behind each update against the venue's own.
func compareTickers(t *testing.T, want *recording, full *watcher, in market.Instrument) {
	t.Helper()
	full.mu.Lock()
	defer full.mu.Unlock()
	scale := rescale(in)
	var got [2]market.Level
	compared, equal := 0, 0
	for _, f := range want.frames {
		at, known := full.best[f.at]
		switch {
		case known:
			got = at
		case f.changed:
			t.Fatalf("the client has no update of %v: %+v", f.at.Std(), full.client.Stats())
		}
		venue, ok := want.ticker(f.u)
		if !ok {
			continue
		}
		compared++
		if got == [2]market.Level{scale(venue.bid), scale(venue.ask)} {
			equal++
		}
	}
	t.Logf("BBO: %d of %d comparisons equal the venue's", equal, compared)
	if compared < 6493 || compared-equal > 2 {
		t.Errorf("BBO: %d of %d comparisons equal the venue's; all but two of 6,493 must", equal, compared)
	}
}

// tradeTape collects the ids of trades.
type tradeTape struct {
	mu     sync.Mutex
	ids    []string
	faults []string
}

func followTrades(t *testing.T, url, sym string) *tradeTape {
	t.Helper()
	tape := &tradeTape{}
	c, err := client.Dial(t.Context(), client.Config{URL: url, Mode: client.Lossless, Handler: client.Handler{
		OnTrade: func(_ *client.Trades, m *market.Trade) {
			tape.mu.Lock()
			tape.ids = append(tape.ids, m.ID.String())
			tape.mu.Unlock()
		},
		OnTradeGap: func(_ *client.Trades, m *market.TradeGap) {
			tape.mu.Lock()
			tape.faults = append(tape.faults, fmt.Sprintf("trades: gap %+v", *m))
			tape.mu.Unlock()
		},
		OnError: func(_ *client.Topic, err error) {
			tape.mu.Lock()
			tape.faults = append(tape.faults, err.Error())
			tape.mu.Unlock()
		},
	}})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = c.Trades(sym, 1000)
	must(t, err)
	return tape
}

// check waits for the last trade, and wants each one once and in order.
func (tape *tradeTape) check(t *testing.T, want []string) {
	t.Helper()
	waitFor(t, func() bool {
		tape.mu.Lock()
		defer tape.mu.Unlock()
		return len(tape.ids) > 0 && tape.ids[len(tape.ids)-1] == want[len(want)-1]
	})
	tape.mu.Lock()
	defer tape.mu.Unlock()
	for _, f := range tape.faults {
		t.Error(f)
	}
	if !slices.Equal(tape.ids, want) {
		t.Errorf("%d trades, not the recording's %d in order", len(tape.ids), len(want))
	}
}
