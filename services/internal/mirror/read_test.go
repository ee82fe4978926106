package mirror

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// answer is a page as a client reads it.
type answer struct {
	Ch     string
	Sym    string
	Iv     string
	Ep     uint32
	Seq    uint64
	State  string
	Why    string
	Book   json.RawMessage
	Trades []json.RawMessage
	Ticker json.RawMessage
	Bars   []json.RawMessage
}

func read(t *testing.T, p *Page) (a answer) {
	t.Helper()
	if err := json.Unmarshal(p.JSON, &a); err != nil {
		t.Fatalf("%s: %v", p.JSON, err)
	}
	return a
}

func (a *answer) place() market.Sequence { return market.Sequence{Epoch: a.Ep, Seq: a.Seq} }

func (s *script) decode(text []byte) *wire.Message {
	s.t.Helper()
	m := new(wire.Message)
	if err := wire.DecodeJSON(text, func([]byte) *market.Instrument { return &s.def }, m); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return m
}

// TestReadBook reads a book that moves, at every depth, beside a subscriber to the same view: both have the same.
func TestReadBook(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 200)
		in := m.Instrument("BTC-USDT")
		for i := range 60 {
			switch i {
			case 20:
				s.reset(6000) // several parts on the WebSocket
			case 40:
				s.reset(0)
			default:
				s.update(30)
			}
			for _, depth := range []uint16{0, 10, 25, 50, 100} {
				a := read(t, in.Book(depth))
				got := s.decode(a.Book).Snapshot
				want := book.Book{}
				want.Replace(s.book.AppendLevels(nil, market.Bid, int(depth)), s.book.AppendLevels(nil, market.Ask, int(depth)))
				if a.place() != s.book.Sequence() || got.Sequence() != a.place() || got.Prev != got.Seq || got.View.Depth != depth || got.Parts != 1 {
					t.Fatalf("depth %d: %s; the book is at %v", depth, in.Book(depth).JSON[:200], s.book.Sequence())
				}
				if !slices.Equal(got.Bids, want.AppendLevels(nil, market.Bid, 0)) || !slices.Equal(got.Asks, want.AppendLevels(nil, market.Ask, 0)) ||
					got.Hash.Sum != want.Hash() || !got.Hash.OK {
					t.Fatalf("depth %d, place %v: another book than the truth", depth, a.place())
				}
				c := newClient(t, h, &s.def, JSON)
				c.subscribe(m, wire.TopicRequest{Topic: topic(market.Books, "BTC-USDT").Topic, View: market.View{Depth: depth}}, false)
				settle()
				if c.book.Hash() != got.Hash.Sum || c.book.Sequence() != a.place() {
					t.Fatalf("depth %d: the subscriber has %x at %v", depth, c.book.Hash(), c.book.Sequence())
				}
				c.conn.Abort()
			}
			s.beat()
		}
	})
}

// TestReadOnce has many ask for one book: while it stands still they share one encoding.
func TestReadOnce(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 100)
		in := m.Instrument("BTC-USDT")
		before := m.stats.Snapshots.Load()
		for range 5 {
			var crowd sync.WaitGroup
			pages := make([]*Page, 100)
			for i := range pages {
				crowd.Go(func() { pages[i] = in.Book(50) })
			}
			crowd.Wait()
			for _, p := range pages {
				if p != pages[0] {
					t.Fatal("two pages of one state")
				}
			}
			s.update(3)
		}
		if n := m.stats.Snapshots.Load() - before; n != 5 {
			t.Errorf("%d encodings of 5 states", n)
		}
		made := 0
		for range 2 {
			in.Book(50).Packed(func(b []byte) []byte { made++; return b })
		}
		if made != 1 {
			t.Errorf("a page is packed %d times", made)
		}
		if n := in.reads.len(); n != 1 {
			t.Errorf("%d slots", n)
		}
		time.Sleep(keepHot + 2*sweepEvery)
		synctest.Wait()
		if in.reads.len() != 0 {
			t.Error("a page is kept that nobody asks for")
		}
	})
}

func (r *reads) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.slots)
}

func TestReadStates(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 5)
		in := m.Instrument("BTC-USDT")
		f := func(p *Page, state, why string) string {
			t.Helper()
			if a := read(t, p); a.State != state || a.Why != why {
				t.Errorf("%s; want %s %s", p.JSON, state, why)
			}
			return p.Tag
		}
		live := f(in.Book(10), "live", "")
		s.state(market.Live, market.Stale, market.Checksum)
		if stale := f(in.Book(10), "stale", "checksum"); stale == live {
			t.Error("a stale book has the tag of a live one")
		}
		f(in.Trades(10), "live", "")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		f(in.Trades(10), "stale", "silent")
		f(in.Ticker(), "stale", "silent")
		if a := read(t, in.Ticker()); string(a.Ticker) != "null" {
			t.Errorf("a ticker without trades: %s", a.Ticker)
		}
		if d := in.Describe(); d.Instrument != s.def || d.Status != market.Live || d.State != market.Stale || d.Why != market.Silent || d.Book != market.Stale || d.Sequence.Seq != 2 {
			t.Errorf("%+v", d)
		}
	})
}

func TestListed(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		f := func(want ...string) {
			t.Helper()
			var got []string
			for _, in := range m.Listed() {
				got = append(got, in.Sym())
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		f()
		for i, sym := range []string{"C-USDT", "A-USDT", "B-USDT"} {
			newScript(t, m, sym, uint32(i+1)).state(market.Live, market.Live, market.NoReason)
		}
		f("A-USDT", "B-USDT", "C-USDT")
		s := newScript(t, m, "0-USDT", 9)
		s.now = wall() - market.Time(delistedFor) + market.Time(time.Second)
		s.state(market.Delisted, market.Live, market.NoReason)
		f("0-USDT", "A-USDT", "B-USDT", "C-USDT")
		time.Sleep(2 * time.Second)
		f("A-USDT", "B-USDT", "C-USDT")
	})
}

func TestReadTrades(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 5)
		in := m.Instrument("BTC-USDT")
		if a := read(t, in.Trades(10)); a.Trades == nil || len(a.Trades) != 0 {
			t.Errorf("none yet: %s", in.Trades(10).JSON)
		}
		for range 20 {
			s.trade()
		}
		s.trades++
		gap := market.TradeGap{Head: s.head(s.trades), Why: market.Venue, Missed: 3}
		s.send(wire.TemplateTradeGap, wire.AppendTradeGap(nil, &gap))
		for range 5 {
			s.trade()
		}
		for _, n := range []int{1, 6, 10, 1000} {
			a := read(t, in.Trades(n))
			if len(a.Trades) != min(n, 26) || a.Seq != 26 {
				t.Errorf("%d trades: %d, seq %d", n, len(a.Trades), a.Seq)
			}
			at := a.Seq - uint64(len(a.Trades))
			for _, text := range a.Trades {
				switch msg := s.decode(text); msg.Kind {
				case wire.KindTrade:
					if msg.Trade.Prev != at || !slices.Contains(s.all, msg.Trade) {
						t.Errorf("%s behind %d", text, at)
					}
				case wire.KindTradeGap:
					if msg.TradeGap != gap {
						t.Errorf("%s", text)
					}
				}
				at++
			}
		}
		// A client goes on from there.
		a := read(t, in.Trades(5))
		c := newClient(t, h, &s.def, SBE)
		r := topic(market.Trades, "BTC-USDT")
		for range 3 {
			s.trade()
		}
		r.From = a.place()
		if row := c.subscribe(m, r, false); row.How != wire.HowReplay {
			t.Errorf("%+v", row)
		}
		s.trade()
		settle()
		if len(c.trades) != 4 || c.trades[0].Prev != a.Seq {
			t.Errorf("%d trades follow place %d: %+v", len(c.trades), a.Seq, c.trades)
		}
	})
}

func TestReadTicker(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 5)
		in := m.Instrument("BTC-USDT")
		s.trade()
		s.beat()
		first := in.Ticker()
		c := newClient(t, h, &s.def, JSON)
		c.subscribe(m, topic(market.Tickers, "BTC-USDT"), false)
		settle()
		if a := read(t, first); len(c.tickers) != 1 || s.decode(a.Ticker).Ticker != c.tickers[0] || a.place() != c.tickers[0].Sequence() {
			t.Errorf("%s; a subscriber has %+v", first.JSON, c.tickers)
		}
		s.now += market.Time(time.Second)
		s.beat() // time goes on, and nothing happens
		if p := in.Ticker(); p != first {
			t.Errorf("another page: %s", p.JSON)
		}
		s.now += market.Time(24 * time.Hour)
		s.beat()
		if p := in.Ticker(); p.Tag == first.Tag || s.decode(read(t, p).Ticker).Ticker.Trades != 0 {
			t.Errorf("a day later: %s, tag %s", p.JSON, p.Tag)
		}
	})
}

// TestReadBars pages back through all that there is.
func TestReadBars(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 5)
		in := m.Instrument("BTC-USDT")
		for i := range 2500 {
			s.trade()
			s.clock(time.Duration(s.rnd.IntN(2000)) * time.Millisecond)
			if i%20 == 0 {
				s.beat()
			}
		}
		s.trade()
		const iv = market.Second
		s.clock(bar.Grace + time.Second) // the next one alone is open
		s.trade()
		want := s.finals[iv]
		want = want[max(0, len(want)-bar.MaxClosed):]
		var all []market.Bar
		before := market.Time(math.MaxInt64)
		for {
			a := read(t, in.Bars(iv, 300, before))
			if a.Iv != "1s" || a.Seq != s.barSeq[iv] {
				t.Fatalf("%+v; the topic is at %d", a, s.barSeq[iv])
			}
			var page []market.Bar
			for i, text := range a.Bars {
				b := s.decode(text).Bar
				if !b.Final {
					if i != len(a.Bars)-1 || len(all) > 0 {
						t.Errorf("an open bar at %d of %d", i, len(a.Bars))
					}
					continue
				}
				if b.Prev != a.Seq || b.Seq != a.Seq {
					t.Errorf("%s; its place is not the topic's %d", text, a.Seq)
				}
				page = append(page, b)
			}
			if len(all) == 0 && len(page) == len(a.Bars) {
				t.Error("no open bar")
			}
			if len(page) == 0 {
				break
			}
			all = append(page, all...)
			before = page[0].Start
		}
		if len(all) != len(want) {
			t.Fatalf("%d bars, want %d", len(all), len(want))
		}
		for i := range all {
			if got, truth := all[i], want[i]; got.Start != truth.Start || got.Open != truth.Open || got.Close != truth.Close || got.Volume != truth.Volume || got.Trades != truth.Trades {
				t.Fatalf("bar %d: %+v, want %+v", i, got, truth)
			}
		}
		// Pages of what is over stay; the newest one moves with each trade.
		old, newest := in.Bars(iv, 10, all[100].Start).Tag, in.Bars(iv, 10, math.MaxInt64).Tag
		s.trade()
		if tag := in.Bars(iv, 10, all[100].Start).Tag; tag != old {
			t.Errorf("tag %s, was %s", tag, old)
		}
		if tag := in.Bars(iv, 10, math.MaxInt64).Tag; tag == newest {
			t.Error("the tag does not tell of a trade in the open bar")
		}
		// A client goes on from there.
		a := read(t, in.Bars(iv, 1, math.MaxInt64))
		c := newClient(t, h, &s.def, JSON)
		r := topic(market.Bars, "BTC-USDT")
		r.Interval, r.From = iv, a.place()
		s.clock(bar.Grace + time.Second)
		if row := c.subscribe(m, r, false); row.How != wire.HowReplay {
			t.Errorf("%+v", row)
		}
		settle()
		if len(c.bars) == 0 || !c.bars[0].Final || c.bars[0].Prev != a.Seq {
			t.Errorf("behind place %d: %+v", a.Seq, c.bars)
		}
	})
}

var encoded = regexp.MustCompile(`,"out":\d+`)

// TestReadEverywhere compares two mirrors that have read the same: pages with the same tag are the same, and the other way round.
func TestReadEverywhere(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		other := New(DefaultConfig(), h, nopLog)
		other.Expect(1)
		s := open(t, m, 20)
		twin := open(t, other, 20) // plays the same: its numbers are as random
		twin.now = s.now
		tags := map[string]string{}
		compare := func() {
			t.Helper()
			m.eachInstrument((*Instrument).watch)
			other.eachInstrument((*Instrument).watch)
			for i, ask := range []func(in *Instrument) *Page{
				func(in *Instrument) *Page { return in.Book(0) },
				func(in *Instrument) *Page { return in.Book(10) },
				func(in *Instrument) *Page { return in.Trades(3) },
				func(in *Instrument) *Page { return in.Ticker() },
				func(in *Instrument) *Page { return in.Bars(market.Minute, 100, math.MaxInt64) },
			} {
				p, q := ask(m.Instrument("BTC-USDT")), ask(other.Instrument("BTC-USDT"))
				text, same := encoded.ReplaceAllString(string(p.JSON), ""), encoded.ReplaceAllString(string(q.JSON), "")
				if p.Tag != q.Tag || text != same {
					t.Fatalf("one edge has %s\n%s\nthe other %s\n%s", p.Tag, text, q.Tag, same)
				}
				key := fmt.Sprint(i, p.Tag)
				if had, ok := tags[key]; ok && had != text {
					t.Fatalf("tag %s is of\n%s\nand of\n%s", p.Tag, had, text)
				}
				tags[key] = text
			}
		}
		for range 200 {
			n, d := s.rnd.IntN(10), time.Duration(s.rnd.IntN(3000))*time.Millisecond
			_, _ = twin.rnd.IntN(10), twin.rnd.IntN(3000)
			for _, s := range []*script{s, twin} {
				switch {
				case n < 3:
					s.trade()
				case n < 4:
					s.clock(d)
				default:
					s.update(5)
				}
			}
			s.beat()
			twin.beat()
			compare()
		}
	})
}
