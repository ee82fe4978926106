package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// play runs f in a bubble with a mirror that keeps time.
func play(t *testing.T, f func(t *testing.T, m *Mirror, h *fanout.Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, hub := newMirror(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		m.Phase(0, stream.PhaseReset, nil)
		f(t, m, hub)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		hub.Close()
	})
}

// settle lets everything that is due be sent.
func settle() {
	time.Sleep(1100 * time.Millisecond)
	synctest.Wait()
}

// open makes an instrument with a book, and the mirror ready.
func open(t *testing.T, m *Mirror, levels int) *script {
	s := newScript(t, m, "BTC-USDT", 4096)
	s.state(market.Live, market.Live, market.NoReason)
	s.reset(levels)
	m.Phase(0, stream.PhaseReady, nil)
	s.beat()
	time.Sleep(200 * time.Millisecond)
	return s
}

func sameView(c *client, s *script) error {
	for _, side := range []market.Side{market.Bid, market.Ask} {
		got := c.book.AppendLevels(nil, side, 0)
		want := s.book.AppendLevels(nil, side, int(c.view.Depth))
		if !slices.Equal(got, want) {
			return fmt.Errorf("view %v, side %d: %d levels %v, want %d %v", c.view, side, len(got), got[:min(5, len(got))], len(want), want[:min(5, len(want))])
		}
	}
	return nil
}

// TestSweepAllocates: instruments that nothing happens to are swept each second, and take no memory for it.
func TestSweepAllocates(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		open(t, m, 10)
		now := m.now()
		in := m.Instrument("BTC-USDT")
		in.sweep(now)
		if n := testing.AllocsPerRun(10, func() { in.sweep(now) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestEveryViewAtEveryMessage(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 300)
		var clients []*client
		join := func() {
			c := newClient(t, h, &s.def, fanout.Format(s.rnd.IntN(2)))
			c.subscribe(m, wire.TopicRequest{Topic: topic(market.Books, "BTC-USDT").Topic, View: market.View{
				Depth:  []uint16{0, 10, 25, 50, 100}[s.rnd.IntN(5)],
				Millis: []uint16{0, 100, 250, 1000}[s.rnd.IntN(4)],
			}}, s.rnd.IntN(3) == 0)
			clients = append(clients, c)
		}
		for i := range 4000 {
			if i%40 == 0 {
				join()
			}
			switch n := s.rnd.IntN(1000); {
			case n < 2:
				s.state(market.Live, market.Stale, market.Venue)
				s.reset(1 + s.rnd.IntN(400))
				s.state(market.Live, market.Live, market.NoReason)
			case n == 3:
				s.reset(0) // an empty book
			case n == 4:
				s.reset(6000) // in parts
			case n < 100:
				s.trade()
			default:
				s.update(20)
			}
			if s.rnd.IntN(4) == 0 {
				time.Sleep(time.Duration(s.rnd.IntN(40)) * time.Millisecond)
			}
			if i%100 == 0 {
				s.beat()
			}
		}
		settle()
		for _, c := range clients {
			if err := sameView(c, s); err != nil {
				t.Error(err)
			}
			if c.verified == 0 {
				t.Errorf("view %v: nothing verified", c.view)
			}
		}
		if n := m.Stats().Faults.Load(); n > 0 {
			t.Errorf("%d faults", n)
		}
	})
}

// TestSlowClients blocks and unblocks clients at random; they must come back consistent.
func TestSlowClients(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 200)
		var clients []*client
		for i := range 40 {
			c := newClient(t, h, &s.def, fanout.Format(i%2))
			v := market.View{Depth: []uint16{0, 10, 50}[i%3], Millis: []uint16{0, 100}[i/3%2]}
			c.subscribe(m, wire.TopicRequest{Topic: topic(market.Books, "BTC-USDT").Topic, View: v}, false)
			c.subscribe(m, topic(market.Trades, "BTC-USDT"), false)
			c.subscribe(m, topic(market.BBOs, "BTC-USDT"), false)
			clients = append(clients, c)
		}
		for i := range 6000 {
			clients[s.rnd.IntN(len(clients))].block(s.rnd.IntN(3) > 0)
			s.update(10)
			if i%3 == 0 {
				s.trade()
			}
			if i == 3000 {
				s.reset(500)
			}
			if i%200 == 0 {
				s.beat()
			}
			if i%7 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		for _, c := range clients {
			c.block(false)
		}
		s.update(5)
		settle()
		lags := 0
		for i, c := range clients {
			if err := sameView(c, s); err != nil {
				t.Error(err)
			}
			if last := c.bbos[len(c.bbos)-1]; [2]market.Level{last.Bid, last.Ask} != s.lastBBO {
				t.Errorf("client %d ends with %v, want %v", i, last, s.lastBBO)
			}
			if last := c.trades[len(c.trades)-1]; last.Seq != s.trades {
				t.Errorf("client %d ends with trade %d of %d", i, last.Seq, s.trades)
			}
			lags += c.lags
		}
		if lags == 0 {
			t.Error("no lag notice")
		}
	})
}

// TestVerbatim compares what binary subscribers read with the bytes of the stream.
func TestVerbatim(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 20)
		full, trades := newClient(t, h, &s.def, SBE), newClient(t, h, &s.def, SBE)
		full.subscribe(m, topic(market.Books, "BTC-USDT"), false)
		trades.subscribe(m, topic(market.Trades, "BTC-USDT"), false)
		synctest.Wait()
		full.raw = nil
		d := market.Delta{Head: s.head(2), Bids: []market.Level{{Price: 5, Size: 7}}}
		if _, err := s.book.Apply(&d); err != nil {
			t.Fatal(err)
		}
		d.Hash = market.Hash{Sum: s.book.Hash(), OK: true}
		update := wire.AppendDelta(nil, &d)
		s.send(wire.TemplateBookUpdate, bytes.Clone(update))
		s.trade()
		s.trade()
		synctest.Wait()
		if len(full.raw) != 1 || !bytes.Equal(full.raw[0], update) {
			t.Errorf("the book's subscriber read %x, the stream has %x", full.raw, update)
		}
		if want := wire.AppendTrade(nil, &s.all[1]); len(trades.raw) != 2 || !bytes.Equal(trades.raw[1], want) {
			t.Errorf("the trades' subscriber read %x, the stream has %x", trades.raw, want)
		}
	})
}

func TestResume(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 50)
		c := newClient(t, h, &s.def, JSON)
		c.subscribe(m, topic(market.Books, "BTC-USDT"), false)
		synctest.Wait()
		c.conn.Abort()
		for range 200 {
			s.update(5)
			s.trade()
		}
		settle()
		f := func(view market.View, from market.Sequence, how, why string) {
			t.Helper()
			again := newClient(t, h, &s.def, fanout.Format(s.rnd.IntN(2)))
			again.book.Replace(c.book.AppendLevels(nil, market.Bid, 0), c.book.AppendLevels(nil, market.Ask, 0))
			again.book.SetSequence(c.book.Sequence())
			again.has = true
			r := topic(market.Books, "BTC-USDT")
			r.View, r.From = view, from
			row := again.subscribe(m, r, false)
			s.update(5)
			settle()
			if row.How != how || row.Why != why {
				t.Errorf("%v from %v: %s %s, want %s %s", view, from, row.How, row.Why, how, why)
			}
			if err := sameView(again, s); err != nil {
				t.Error(err)
			}
			switch {
			case how == wire.HowReplay && view.Millis > 0 && again.updates > 3:
				t.Errorf("%v: %d updates, want one for all that was missed", view, again.updates)
			case how == wire.HowReplay && view.Millis == 0 && again.updates < 200:
				t.Errorf("%v: %d updates, want each one", view, again.updates)
			}
		}
		at := c.book.Sequence()
		f(market.View{}, at, wire.HowReplay, "")
		f(market.View{Millis: 250}, at, wire.HowReplay, "")
		f(market.View{Depth: 10}, at, wire.HowSnapshot, wire.WhyView)
		f(market.View{}, market.Sequence{Epoch: 5, Seq: 1}, wire.HowSnapshot, wire.WhyEpoch)
		f(market.View{}, market.Sequence{}, wire.HowSnapshot, wire.WhyNew)
		for range DefaultConfig().RingEntries {
			s.update(1)
		}
		f(market.View{}, at, wire.HowSnapshot, wire.WhyGapTooOld)
	})
}

// TestAhead is a client that has seen more on another edge than this one has read.
func TestAhead(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 50)
		for _, view := range []market.View{{}, {Depth: 10}, {Millis: 100}} {
			c := newClient(t, h, &s.def, SBE)
			r := topic(market.Books, "BTC-USDT")
			r.View = view
			r.From = s.book.Sequence()
			r.From.Seq += 10
			sub, refused := m.Subscribe(Client{Conn: c.conn, Format: SBE}, &r)
			if refused != nil || sub.Reached == nil {
				t.Fatalf("%v: %v, reached %v", view, refused, sub.Reached != nil)
			}
			c.view = view
			sub.Sub.Go()
			for range 10 {
				if sub.Reached() {
					t.Errorf("%v: reached too early", view)
				}
				if settle(); len(c.raw) > 0 {
					t.Errorf("%v: sent what the client has", view)
				}
				s.update(4)
			}
			if !sub.Reached() {
				t.Errorf("%v: not reached", view)
			}
			settle() // the shard is done with the client's book
			c.has = true
			for _, side := range []market.Side{market.Bid, market.Ask} {
				for _, l := range s.book.AppendLevels(nil, side, int(view.Depth)) {
					c.book.Set(side, l.Price, l.Size)
				}
			}
			c.book.SetSequence(r.From)
			s.update(4)
			sub.Sub.Nudge()
			settle()
			if err := sameView(c, s); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTrades(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 5)
		for range 50 {
			s.trade()
		}
		f := func(r wire.TopicRequest, how string, first uint64) {
			t.Helper()
			c := newClient(t, h, &s.def, JSON)
			row := c.subscribe(m, r, false)
			s.trade()
			synctest.Wait()
			if row.How != how || row.Sequence.Seq != s.trades-1 || len(c.trades) == 0 || c.trades[0].Seq != first || c.trades[len(c.trades)-1].Seq != s.trades {
				t.Errorf("%+v: %+v, %d trades from %+v; want from %d", r, row, len(c.trades), c.trades[:min(1, len(c.trades))], first)
			}
		}
		f(topic(market.Trades, "BTC-USDT"), wire.HowSnapshot, 51)
		r := topic(market.Trades, "BTC-USDT")
		r.Last = 10
		f(r, wire.HowSnapshot, 42)
		r.Last = 0
		r.From = market.Sequence{Epoch: epoch, Seq: 7}
		f(r, wire.HowReplay, 8)
	})
}

func TestBars(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 5)
		var clients []*client
		for i := range 400 {
			s.trade()
			s.clock(time.Duration(s.rnd.IntN(2000)) * time.Millisecond)
			if i%5 == 0 {
				s.beat()
			}
			if i%50 == 0 {
				c := newClient(t, h, &s.def, fanout.Format(i/50%2))
				r := topic(market.Bars, "BTC-USDT")
				r.Interval = market.Minute
				r.History = uint32(i)
				c.subscribe(m, r, false)
				clients = append(clients, c)
			}
			synctest.Wait()
		}
		s.clock(2 * time.Minute)
		settle()
		want := s.finals[market.Minute]
		for i, c := range clients {
			var finals, opens []market.Bar
			for _, b := range c.bars {
				if b.Final {
					finals = append(finals, b)
				} else {
					opens = append(opens, b)
				}
			}
			if n := len(finals); n == 0 || i > 0 && n != len(want) || finals[n-1].Close != want[len(want)-1].Close {
				t.Errorf("client %d: %d final bars, want %d", i, n, len(want))
				continue
			}
			for j := range finals {
				got, truth := finals[len(finals)-1-j], want[len(want)-1-j]
				if got.Start != truth.Start || got.Open != truth.Open || got.High != truth.High || got.Volume != truth.Volume || got.Trades != truth.Trades {
					t.Errorf("client %d: bar %+v, want %+v", i, got, truth)
				}
			}
			if len(opens) == 0 {
				t.Errorf("client %d: no open bar", i)
			}
		}
	})
}

func TestValues(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 20)
		s.trade()
		c := newClient(t, h, &s.def, JSON)
		for _, ch := range []market.Channel{market.BBOs, market.Tickers, market.Statuses} {
			c.subscribe(m, topic(ch, "BTC-USDT"), false)
		}
		synctest.Wait()
		if len(c.bbos) != 1 || len(c.tickers) != 1 || len(c.statuses) != 1 {
			t.Fatalf("at first: %d bbo, %d ticker, %d status", len(c.bbos), len(c.tickers), len(c.statuses))
		}
		before := s.bboMoves
		for range 100 {
			s.update(3)
			synctest.Wait()
		}
		if got, want := len(c.bbos)-1, s.bboMoves-before; got != want {
			t.Errorf("%d bbo messages for %d changes", got, want)
		}
		s.trade()
		s.state(market.Halted, market.Live, market.NoReason)
		settle()
		last := s.all[len(s.all)-1]
		if got := c.tickers[len(c.tickers)-1]; got.Last != last.Price || got.Trades != 2 || got.Seq != 2 || got.Bid != s.lastBBO[0] {
			t.Errorf("ticker %+v", got)
		}
		if got := c.statuses[len(c.statuses)-1]; got.State != market.Halted || got.Instrument.Sym != "BTC-USDT" {
			t.Errorf("status %+v", got)
		}
		n := len(c.tickers)
		s.clock(25 * time.Hour)
		s.beat()
		synctest.Wait()
		if len(c.tickers) != n+1 || c.tickers[n].Trades != 0 || c.tickers[n].Last != last.Price || c.tickers[n].Seq != 2 {
			t.Errorf("a day later: %d tickers, %+v", len(c.tickers)-n, c.tickers[len(c.tickers)-1])
		}
	})
}

func TestLiveness(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := newScript(t, m, "BTC-USDT", 4096)
		refused := func(sym string) wire.Code {
			c := newClient(t, h, &s.def, JSON)
			r := topic(market.Trades, sym)
			if _, err := m.Subscribe(Client{Conn: c.conn}, &r); err != nil {
				return err.Code
			}
			return ""
		}
		if code := refused("BTC-USDT"); code != wire.CodeNotReady {
			t.Errorf("before anything is known: %q", code)
		}
		s.state(market.Live, market.Live, market.NoReason)
		s.reset(10)
		s.beat() // from before the end: history
		if code := refused("BTC-USDT"); code != wire.CodeNotReady {
			t.Errorf("before the end is reached: %q", code)
		}
		m.Phase(0, stream.PhaseReady, nil)
		if code := refused("NO-SUCH"); code != wire.CodeUnknownSymbol {
			t.Errorf("no such symbol: %q", code)
		}
		c := newClient(t, h, &s.def, JSON)
		if row := c.subscribe(m, topic(market.Trades, "BTC-USDT"), false); row.State != market.Stale {
			t.Errorf("before a heartbeat: %v", row.State)
		}
		books := newClient(t, h, &s.def, JSON)
		books.subscribe(m, topic(market.Books, "BTC-USDT"), false)
		state := func(c *client) string {
			synctest.Wait()
			if len(c.states) == 0 {
				return "none"
			}
			last := c.states[len(c.states)-1]
			return fmt.Sprintf("%v %v", last.State, last.Why)
		}
		want := func(what, trades, book string) {
			t.Helper()
			if got := state(c); got != trades {
				t.Errorf("%s: trades are %q, want %q", what, got, trades)
			}
			if got := state(books); got != book {
				t.Errorf("%s: the book is %q, want %q", what, got, book)
			}
		}
		alive := func(d time.Duration, data bool) {
			for range int(d / time.Second) {
				s.now += market.Time(time.Second)
				s.beat()
				if data {
					s.trade()
				}
				time.Sleep(time.Second)
			}
		}
		alive(3*time.Second, true)
		want("alive", "live ", "live ")
		alive(8*time.Second, false)
		want("silent", "quiet ", "quiet ")
		s.state(market.Live, market.Stale, market.Venue)
		alive(time.Second, true)
		want("after a gap of the venue", "live ", "stale venue")
		s.reset(10)
		s.state(market.Live, market.Live, market.NoReason)
		s.state(market.Halted, market.Live, market.NoReason)
		alive(time.Second, true)
		want("halted", "halted ", "halted ")
		s.state(market.Live, market.Live, market.NoReason)
		alive(2*time.Second, true)
		time.Sleep(1200 * time.Millisecond) // the last heartbeat was a second ago already
		want("two seconds after the last heartbeat", "stale silent", "stale silent")
		alive(2*time.Second, true)
		want("back", "live ", "live ")
		for range 3 { // the source is dead, its owner is not
			s.beat()
			time.Sleep(time.Second)
		}
		want("three heartbeats without the source's clock", "stale silent", "stale silent")

		alive(20*time.Second, false)
		synctest.Wait()
		n := len(c.states)
		alive(31*time.Second, false)
		synctest.Wait()
		if got := len(c.states) - n; got != 2 {
			t.Errorf("%d repeated states in 31 s of silence, want 2", got)
		}
		if last := c.states[len(c.states)-1]; last.Sequence.Seq != s.trades {
			t.Errorf("the repeated state says %v, the topic is at %d", last.Sequence, s.trades)
		}
		m.Phase(0, stream.PhaseReset, errors.New("deleted under us"))
		time.Sleep(200 * time.Millisecond)
		want("the partition starts over", "stale start", "stale start")
	})
}

// TestStartsFromSnapshots loads a state from md.snapshots, replays events from before it, and goes on.
func TestStartsFromSnapshots(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		type record struct {
			offset int64
			tpl    wire.Template
			b      []byte
		}
		s := open(t, m, 100)
		for range 30 {
			s.update(5)
			s.trade()
		}
		// A second mirror begins with the state of now.
		snap := stream.InstrumentSnapshot{
			Status:    market.Status{Head: market.Head{Inst: s.def.ID, Epoch: epoch, Seq: s.status, Prev: s.status - 1}, Instrument: s.def},
			BookSeq:   s.book.Sequence(),
			TradesSeq: market.Sequence{Epoch: epoch, Seq: s.trades},
			Series:    s.series.AppendBinary(nil),
			Book: &market.Snapshot{
				Head: market.Head{Inst: s.def.ID, Epoch: epoch, Seq: s.book.Sequence().Seq, Prev: s.book.Sequence().Seq},
				Hash: market.Hash{Sum: s.book.Hash(), OK: true}, Part: 1, Parts: 1,
				Bids: s.book.AppendLevels(nil, market.Bid, 0), Asks: s.book.AppendLevels(nil, market.Ask, 0),
			},
		}
		other, hub := newMirror(t)
		defer hub.Close()
		other.Phase(0, stream.PhaseReset, nil)
		load := func() {
			if err := other.Snapshot(0, &stream.Snapshot{Inst: s.def.ID, Kind: stream.KindInstrument, Payload: snap.Append(nil)}); err != nil {
				t.Fatal(err)
			}
		}
		load()
		// It replays what the first one has in its rings, which goes back behind the snapshot.
		in := m.Instrument("BTC-USDT")
		var replay []record
		for _, e := range in.full.topic.Entries(1) {
			tpl, err := wire.Peek(e.Native().Payload())
			if err != nil {
				t.Fatal(err)
			}
			replay = append(replay, record{e.Offset, tpl, bytes.Clone(e.Native().Payload())})
		}
		for _, r := range replay {
			if err := other.Record(0, r.offset, r.tpl, r.b); err != nil {
				t.Fatal(err)
			}
		}
		other.Phase(0, stream.PhaseReady, nil)
		s.m = other
		s.beat()
		c := newClient(t, hub, &s.def, SBE)
		r := topic(market.Books, "BTC-USDT")
		r.From = market.Sequence{Epoch: epoch, Seq: 10}
		if sub, refused := other.Subscribe(Client{Conn: c.conn}, &r); refused != nil || sub.Row.How != wire.HowReplay {
			t.Errorf("resumed by %+v (%v) from behind the snapshot", sub.Row, refused)
		}
		c.subscribe(other, topic(market.Books, "BTC-USDT"), false)
		c.subscribe(other, topic(market.Trades, "BTC-USDT"), false)
		for range 10 {
			s.update(5)
			s.trade()
		}
		synctest.Wait()
		if err := sameView(c, s); err != nil {
			t.Error(err)
		}

		// The reader starts over with a state from later: the client gets a snapshot, and a gap in its trades.
		missed := s.trades
		s.m = m
		for range 5 {
			s.update(5)
			s.trade()
		}
		snap.BookSeq, snap.TradesSeq.Seq = s.book.Sequence(), s.trades
		snap.Book.Seq, snap.Book.Prev = snap.BookSeq.Seq, snap.BookSeq.Seq
		snap.Book.Hash.Sum = s.book.Hash()
		snap.Book.Bids, snap.Book.Asks = s.book.AppendLevels(nil, market.Bid, 0), s.book.AppendLevels(nil, market.Ask, 0)
		other.Phase(0, stream.PhaseReset, errors.New("out of range"))
		load()
		for _, r := range replay {
			if err := other.Record(0, r.offset, r.tpl, r.b); err != nil {
				t.Fatal(err)
			}
		}
		other.Phase(0, stream.PhaseReady, nil)
		s.m = other
		s.update(5)
		s.trade()
		synctest.Wait()
		if err := sameView(c, s); err != nil {
			t.Error(err)
		}
		if c.gaps != 1 || c.missed != 5 || c.trades[len(c.trades)-1].Seq != missed+6 {
			t.Errorf("%d gaps with %d trades missing, the last is %d", c.gaps, c.missed, c.trades[len(c.trades)-1].Seq)
		}
	})
}

func TestViewsAreDroppedWhenUnused(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 20)
		c := newClient(t, h, &s.def, SBE)
		r := topic(market.Books, "BTC-USDT")
		r.View = market.View{Depth: 10, Millis: 100}
		c.view = r.View
		sub, _ := m.Subscribe(Client{Conn: c.conn}, &r)
		sub.Sub.Go()
		in := m.Instrument("BTC-USDT")
		count := func() (int, int, int) {
			in.mu.Lock()
			defer in.mu.Unlock()
			m.mergeMu.Lock()
			defer m.mergeMu.Unlock()
			return len(in.views), len(in.depths), len(m.merging)
		}
		time.Sleep(time.Minute)
		if v, d, g := count(); v != 1 || d != 1 || g != 1 {
			t.Errorf("in use: %d views of %d depths, %d merging", v, d, g)
		}
		sub.Sub.Cancel()
		time.Sleep(time.Minute)
		if v, d, g := count(); v != 0 || d != 0 || g != 0 {
			t.Errorf("unused: %d views of %d depths, %d merging", v, d, g)
		}
	})
}

func TestWildcard(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		open(t, m, 20)
		c := newClient(t, h, &market.Instrument{PriceScale: 2, SizeScale: 4}, SBE)
		w, n := m.SubscribeAll(Client{Conn: c.conn, Format: SBE}, market.BBOs)
		if n != 1 {
			t.Errorf("covers %d instruments", n)
		}
		w.Go()
		s := newScript(t, m, "ETH-USDT", 8192)
		s.state(market.Live, market.Live, market.NoReason)
		s.reset(3)
		synctest.Wait()
		seen := map[uint32]bool{}
		for _, b := range c.bbos {
			seen[b.Inst] = true
		}
		if !seen[4096] || !seen[8192] || w.Len() != 2 {
			t.Errorf("got %v, covers %d", seen, w.Len())
		}
		w.Cancel()
		n = len(c.bbos)
		s.reset(4)
		synctest.Wait()
		if len(c.bbos) != n {
			t.Error("goes on after the end")
		}
	})
}

// TestRestrictedWildcard shows some instruments alone, those to come included.
func TestRestrictedWildcard(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		open(t, m, 20)
		c := newClient(t, h, &market.Instrument{PriceScale: 2, SizeScale: 4}, SBE)
		only := func(prefix string) func(string) bool {
			return func(sym string) bool { return strings.HasPrefix(sym, prefix) }
		}
		w, n := m.SubscribeAll(Client{Conn: c.conn, Format: SBE, Visible: only("BTC-U")}, market.BBOs)
		w.Go()
		for i, sym := range []string{"ETH-USDT", "BTC-USDC", "BTC-EUR"} {
			s := newScript(t, m, sym, uint32(8192+4096*i))
			s.state(market.Live, market.Live, market.NoReason)
			s.reset(3)
		}
		seen := func() map[uint32]bool {
			synctest.Wait()
			seen := map[uint32]bool{}
			for _, b := range c.bbos {
				seen[b.Inst] = true
			}
			return seen
		}
		if got := seen(); n != 1 || w.Len() != 2 || len(got) != 2 || !got[4096] || !got[12288] {
			t.Errorf("%d, then %d instruments, seen %v", n, w.Len(), got)
		}
		if w.Restrict(only("BTC-USDC")) || w.Len() != 2 {
			t.Errorf("narrowed to %d", w.Len())
		}
		if !w.Restrict(only("BTC-")) || w.Len() != 3 || !seen()[16384] || seen()[8192] {
			t.Errorf("widened to %d, seen %v", w.Len(), seen())
		}
		w.Cancel()
	})
}

// TestContradictions feeds what no ingest writes: the book turns stale until the stream resets it.
func TestContradictions(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, h *fanout.Hub) {
		s := open(t, m, 20)
		c := newClient(t, h, &s.def, JSON)
		c.subscribe(m, topic(market.Books, "BTC-USDT"), false)
		d := market.Delta{Head: s.head(s.book.Sequence().Seq + 2), Bids: []market.Level{{Price: 1, Size: 1}}}
		s.send(wire.TemplateBookUpdate, wire.AppendDelta(nil, &d))
		settle()
		if m.Stats().Faults.Load() != 1 || len(c.states) == 0 || c.states[len(c.states)-1].Why != market.Mismatch {
			t.Errorf("%d faults, states %v", m.Stats().Faults.Load(), c.states)
		}
		s.book.SetSequence(market.Sequence{Epoch: epoch, Seq: d.Seq})
		s.reset(30)
		s.beat()
		s.update(3)
		settle()
		if err := sameView(c, s); err != nil {
			t.Error(err)
		}
		if err := m.Record(0, 0, wire.TemplateBookUpdate, []byte("garbage")); err == nil {
			t.Error("garbage was accepted")
		}
	})
}

// BenchmarkUpdate is a real-sized update with a few views and a subscriber to each.
func BenchmarkUpdate(b *testing.B) {
	for _, views := range []int{0, 4} {
		b.Run(fmt.Sprintf("%d views", views), func(b *testing.B) {
			hub := fanout.New(fanout.Config{})
			m := New(DefaultConfig(), hub, nopLog)
			m.Expect(1)
			hub.Start()
			defer hub.Close()
			in, events := benchmarkEvents(b, m)
			for i := range views {
				c := newSink(b, hub)
				r := topic(market.Books, in)
				r.View.Depth = []uint16{10, 25, 50, 100}[i]
				s, err := m.Subscribe(Client{Conn: c}, &r)
				if err != nil {
					b.Fatal(err)
				}
				s.Sub.Go()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := m.Record(0, 0, wire.TemplateBookUpdate, events.next()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestBarsOfAnotherEpoch: after a rescale, blocks of the old numbering still lie under their keys in md.snapshots; their
// prices have another scale and must not come back.
func TestBarsOfAnotherEpoch(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 5)
		in := m.Instrument(s.def.Sym)
		bar := market.Bar{
			Interval: market.Minute, Start: market.Time(time.Hour), Open: 1, High: 1, Low: 1, Close: 1, Volume: 1, Trades: 1, Final: true,
		}
		bar.Inst, bar.Seq = s.def.ID, 1
		var block []byte
		for _, epoch := range []uint32{s.epoch - 1, s.epoch} {
			bar.Epoch, bar.Start = epoch, bar.Start+market.Time(time.Minute)
			block = wire.AppendBar(block, &bar)
		}
		err := m.Snapshot(0, &stream.Snapshot{Inst: s.def.ID, Kind: stream.KindBars + uint8(market.Minute), Payload: block})
		if err != nil {
			t.Fatal(err)
		}
		if got := in.series.Closed(market.Minute, 10, nil); len(got) != 1 || got[0].Epoch != s.epoch {
			t.Errorf("bars %+v; want the one of epoch %d", got, s.epoch)
		}
	})
}
