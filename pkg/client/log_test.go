package client_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// tradesNotes writes down what the trades callbacks are told.
func tradesNotes(cfg *client.Config, n *note) {
	cfg.Handler.OnState = nil
	cfg.Handler.OnTrade = func(t *client.Trades, m *market.Trade) { n.add("trade %v", m.Sequence()) }
	cfg.Handler.OnTradeGap = func(t *client.Trades, m *market.TradeGap) {
		n.add("gap (%d,%d] why %q missed %d", m.Prev, m.Seq, m.Why, m.Missed)
	}
	cfg.Handler.OnBar = func(t *client.Bars, m *market.Bar) {
		n.add("bar %d seq %d final %v rev %d close %d", m.Start/market.Time(time.Minute), m.Seq, m.Final, m.Rev, m.Close)
	}
	cfg.Handler.OnBarGap = func(t *client.Bars, m *client.BarGap) { n.add("bar gap (%d,%d] missed %d", m.Prev, m.Seq, m.Missed) }
	cfg.Handler.OnBBO = func(t *client.BBO, m *market.BBO) { n.add("bbo %v %d", m.Sequence(), m.Bid.Price) }
	cfg.Handler.OnTicker = func(t *client.Ticker, m *market.Ticker) { n.add("ticker %v %d", m.Sequence(), m.Last) }
	cfg.Handler.OnStatus = func(t *client.Status, m *market.Status) { n.add("status %v %v", m.Sequence(), m.State) }
}

func head(ep uint32, prev, seq uint64) market.Head {
	return market.Head{Inst: inst.ID, Epoch: ep, Prev: prev, Seq: seq, Time: market.FromMicros(int64(seq))}
}

func trade(p *peer, ep uint32, prev, seq uint64) {
	p.binary(wire.AppendTrade(nil, &market.Trade{Head: head(ep, prev, seq), Price: market.Price(seq), Size: 1, Side: market.Bid}))
}

func trades(p *peer, ep uint32, from, to uint64) {
	for seq := from; seq <= to; seq++ {
		trade(p, ep, seq-1, seq)
	}
}

func tradeLines(ep uint32, from, to uint64) (s string) {
	for seq := from; seq <= to; seq++ {
		s += fmt.Sprintf("trade %d:%d\n", ep, seq)
	}
	return s
}

func (h *harness) said(want string) {
	h.Helper()
	synctest.Wait()
	if got := h.note.take(); got != want {
		h.Errorf("callbacks:\n%swant:\n%s", got, want)
	}
}

func place(ep uint32, seq uint64) market.Sequence { return market.Sequence{Epoch: ep, Seq: seq} }

func liveTrades(t *testing.T, last int) (*harness, *peer, *client.Trades) {
	h := start(t, tradesNotes)
	tr := must(h.c.Trades(inst.Sym, last))(t)
	p := h.edge.next()
	p.hello()
	r := p.expect(wire.OpSub)
	if int(r.Topics[0].Last) != last {
		t.Errorf("asked for the last %d, want %d", r.Topics[0].Last, last)
	}
	p.accept(r, place(9, 100), wire.HowSnapshot, wire.WhyNew)
	return h, p, tr
}

func TestTrades(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, tr := liveTrades(t, 3)
		defer h.end()
		trades(p, 9, 98, 100) // history
		trades(p, 9, 101, 103)
		trade(p, 9, 101, 102) // twice
		h.said(tradeLines(9, 98, 103))
		p.binary(wire.AppendTradeGap(nil, &market.TradeGap{Head: head(9, 103, 104), Why: market.Venue, Missed: 7}))
		p.binary(wire.AppendTradeGap(nil, &market.TradeGap{Head: head(9, 104, 200), Why: market.Slow, Missed: 96}))
		trades(p, 9, 201, 201)
		h.said("gap (103,104] why \"venue\" missed 7\ngap (104,200] why \"slow\" missed 96\n" + tradeLines(9, 201, 201))
		if m, ok := tr.Last(); !ok || m.Seq != 201 || tr.Count() != 7 || tr.Gaps() != 2 || tr.Sequence() != place(9, 201) {
			t.Errorf("last %d, %d trades, %d gaps, at %v", m.Seq, tr.Count(), tr.Gaps(), tr.Sequence())
		}
		p.quiet()
	})
}

// Trades that are missing without a word are asked for, and come once.
func TestTradesAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, tr := liveTrades(t, 0)
		defer h.end()
		trades(p, 9, 101, 101)
		trades(p, 9, 104, 105) // 102 and 103 are lost
		r := p.expect(wire.OpSub)
		if r.Topics[0].From != place(9, 101) {
			t.Errorf("asks from %v", r.Topics[0].From)
		}
		trades(p, 9, 106, 106)
		p.accept(r, place(9, 106), wire.HowReplay, "")
		trades(p, 9, 102, 107)
		h.said(tradeLines(9, 101, 101) + "trades:BTC-USDT: client: gap: at 9:101, next message follows 9:103\n" + tradeLines(9, 102, 107))
		if tr.Gaps() != 0 || tr.State() != client.Live {
			t.Errorf("%d gaps, %v", tr.Gaps(), tr.State())
		}
		// The edge can't send them again: it says so, or simply goes on.
		trades(p, 9, 110, 110)
		p.accept(p.expect(wire.OpSub), place(9, 112), wire.HowSnapshot, wire.WhyGapTooOld)
		trades(p, 9, 113, 113)
		h.said("trades:BTC-USDT: client: gap: at 9:107, next message follows 9:109\n" +
			"gap (107,112] why \"\" missed 5\n" + tradeLines(9, 113, 113))
		trades(p, 9, 115, 115)
		p.accept(p.expect(wire.OpSub), place(9, 115), wire.HowReplay, "")
		trades(p, 9, 116, 117)
		h.said("trades:BTC-USDT: client: gap: at 9:113, next message follows 9:114\n" +
			"gap (113,115] why \"\" missed 2\n" + tradeLines(9, 116, 117))
		if tr.Gaps() != 2 {
			t.Errorf("%d gaps", tr.Gaps())
		}
		p.quiet()
	})
}

func TestTradesResume(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, tr := liveTrades(t, 10)
		defer h.end()
		trades(p, 9, 91, 95) // the connection ends within the history
		synctest.Wait()
		_ = p.conn.Close()
		p = h.edge.next()
		p.hello()
		r := p.expect(wire.OpSub)
		if r.Topics[0].From != place(9, 95) || r.Topics[0].Last != 0 {
			t.Errorf("asks for %+v", r.Topics[0])
		}
		p.accept(r, place(9, 102), wire.HowReplay, "")
		trades(p, 9, 96, 102)
		synctest.Wait()
		if tr.Gaps() != 0 || tr.Count() != 12 || tr.Sequence() != place(9, 102) {
			t.Errorf("%d trades, %d gaps, at %v", tr.Count(), tr.Gaps(), tr.Sequence())
		}
		// An edge that is behind is asked again until it has caught up.
		h.note.take()
		_ = p.conn.Close()
		p = h.edge.next()
		p.hello()
		p.refuse(p.expect(wire.OpSub), wire.CodeBehind)
		p.beats(1500 * time.Millisecond)
		p.accept(p.expect(wire.OpSub), place(9, 103), wire.HowReplay, "")
		trades(p, 9, 101, 103)
		// One that hoped to catch up says later, without being asked, that it did not.
		p.text(wire.AppendAck(nil, &wire.Ack{Errs: []wire.RowError{{Topic: wire.Topic{Channel: market.Trades, Sym: inst.Sym}, Code: wire.CodeBehind}}}))
		synctest.Wait()
		if tr.State() != client.Syncing {
			t.Errorf("%v", tr.State())
		}
		p.beats(1500 * time.Millisecond)
		p.accept(p.expect(wire.OpSub), place(9, 103), wire.HowReplay, "")
		synctest.Wait()
		if tr.Gaps() != 0 || tr.Count() != 13 || tr.State() != client.Live {
			t.Errorf("%d trades, %d gaps", tr.Count(), tr.Gaps())
		}
	})
}

func TestTradesEpoch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, p, tr := liveTrades(t, 0)
		defer h.end()
		trades(p, 9, 101, 101)
		trades(p, 10, 1, 2) // a new numbering, from its beginning
		r := p.expect(wire.OpSub)
		if r.Topics[0].From != place(10, 0) {
			t.Errorf("asks from %v", r.Topics[0].From)
		}
		p.accept(r, place(10, 2), wire.HowReplay, "")
		trades(p, 10, 1, 3)
		h.said(tradeLines(9, 101, 101) + tradeLines(10, 1, 3))
		trades(p, 11, 8, 8) // and one whose beginning was missed
		r = p.expect(wire.OpSub)
		if r.Topics[0].From != place(11, 7) {
			t.Errorf("asks from %v", r.Topics[0].From)
		}
		p.accept(r, place(11, 8), wire.HowReplay, "")
		trades(p, 11, 8, 8)
		h.said("gap (3,7] why \"\" missed -1\n" + tradeLines(11, 8, 8))
		if tr.Gaps() != 1 {
			t.Errorf("%d gaps", tr.Gaps())
		}
		p.quiet()
	})
}

func bar(p *peer, minute int, h market.Head, final bool, rev uint32, c market.Price) {
	p.binary(wire.AppendBar(nil, &market.Bar{
		Head: h, Interval: market.Minute, Start: market.Time(minute) * market.Time(time.Minute), Open: 1, High: 9, Low: 1, Close: c,
		Volume: 1, Trades: 1, Final: final, Rev: rev,
	}))
}

func TestBars(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, tradesNotes)
		defer h.end()
		b := must(h.c.Bars(inst.Sym, market.Minute, 3))(t)
		p := h.edge.next()
		p.hello()
		r := p.expect(wire.OpSub)
		if r.Topics[0].History != 3 || r.Topics[0].Interval != market.Minute {
			t.Errorf("asks for %+v", r.Topics[0])
		}
		p.accept(r, place(9, 11), wire.HowSnapshot, wire.WhyNew)
		bar(p, 8, head(9, 10, 11), true, 1, 1) // history: the first was corrected last
		bar(p, 9, head(9, 8, 9), true, 0, 2)
		bar(p, 10, head(9, 9, 10), true, 0, 3)
		bar(p, 11, head(9, 0, 500), false, 0, 4)
		bar(p, 11, head(9, 0, 499), false, 0, 5) // older
		bar(p, 11, head(9, 0, 501), false, 0, 6)
		h.said("bar 8 seq 11 final true rev 1 close 1\nbar 9 seq 9 final true rev 0 close 2\nbar 10 seq 10 final true rev 0 close 3\n" +
			"bar 11 seq 500 final false rev 0 close 4\nbar 11 seq 501 final false rev 0 close 6\n")
		if m, ok := b.Open(); !ok || m.Close != 6 {
			t.Errorf("open %+v, %v", m, ok)
		}
		bar(p, 11, head(9, 11, 12), true, 0, 6)
		bar(p, 11, head(9, 0, 502), false, 0, 7) // overtaken by the final one
		bar(p, 10, head(9, 12, 13), true, 1, 33)
		h.said("bar 11 seq 12 final true rev 0 close 6\nbar 10 seq 13 final true rev 1 close 33\n")
		if _, ok := b.Open(); ok {
			t.Error("the bar is open and final")
		}
		got := ""
		for _, m := range b.AppendClosed(nil) {
			got += fmt.Sprintf("%d:%d ", m.Start/market.Time(time.Minute), m.Close)
		}
		if got != "9:2 10:33 11:6 " {
			t.Errorf("closed bars %s", got)
		}
		p.binary(wire.AppendBarGap(nil, &wire.BarGap{Head: head(9, 13, 15), Interval: market.Minute, Why: market.Slow, Missed: 2}))
		bar(p, 15, head(9, 15, 16), true, 0, 8)
		h.said("bar gap (13,15] missed 2\nbar 15 seq 16 final true rev 0 close 8\n")
		bar(p, 17, head(9, 17, 18), true, 0, 9) // 17 is lost
		r = p.expect(wire.OpSub)
		if r.Topics[0].From != place(9, 16) || r.Topics[0].History != 0 {
			t.Errorf("asks for %+v", r.Topics[0])
		}
		p.accept(r, place(9, 18), wire.HowSnapshot, wire.WhyGapTooOld)
		h.said("bars:BTC-USDT:1m: client: gap: at 9:16, next message follows 9:17\nbar gap (16,18] missed 2\n")
		if b.Gaps() != 2 {
			t.Errorf("%d gaps", b.Gaps())
		}
		p.quiet()
	})
}

func TestValues(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := start(t, tradesNotes)
		defer h.end()
		bbo := must(h.c.BBO(inst.Sym))(t)
		ticker := must(h.c.Ticker(inst.Sym))(t)
		status := must(h.c.Status(inst.Sym))(t)
		p := h.edge.next()
		p.hello()
		r := p.expect(wire.OpSub)
		var rows []wire.Row
		for _, topic := range r.Topics {
			rows = append(rows, rowOf(topic.Topic, place(9, 5), wire.HowSnapshot, wire.WhyNew))
		}
		p.rows(r, rows...)
		sendBBO := func(h market.Head, price market.Price) {
			p.binary(wire.AppendBBO(nil, &market.BBO{Head: h, Bid: market.Level{Price: price, Size: 1}}))
		}
		sendTicker := func(h market.Head, price market.Price) {
			p.binary(wire.AppendTicker(nil, &market.Ticker{Head: h, Last: price, LastSize: 1}))
		}
		sendBBO(head(9, 0, 5), 50)
		sendBBO(head(9, 0, 7), 70)
		sendBBO(head(9, 0, 6), 60)
		h.said("bbo 9:5 50\nbbo 9:7 70\n")
		sendTicker(head(9, 0, 5), 50)
		again := head(9, 0, 5)
		sendTicker(again, 51) // the same
		again.Time += 60_000_000_000
		sendTicker(again, 52) // the window moved
		h.said("ticker 9:5 50\nticker 9:5 52\n")
		st := market.Status{Head: head(9, 4, 5), Instrument: inst, State: market.Halted, Book: market.Live}
		st.Instrument.TickSize, st.Instrument.Source = 1, "binance"
		p.binary(wire.AppendStatus(nil, &st))
		p.binary(wire.AppendStatus(nil, &st))
		h.said("status 9:5 halted\n")
		if m, ok := bbo.Value(); !ok || m.Bid.Price != 70 {
			t.Errorf("bbo %+v, %v", m, ok)
		}
		if m, ok := ticker.Value(); !ok || m.Last != 52 {
			t.Errorf("ticker %+v, %v", m, ok)
		}
		if m, ok := status.Value(); !ok || m.Instrument.Source != "binance" || status.Instrument().TickSize != 1 {
			t.Errorf("status %+v, %v", m, ok)
		}
		// A new numbering: its scales first.
		sendBBO(head(10, 0, 1), 1)
		r = p.expect(wire.OpSub)
		sendBBO(head(10, 0, 2), 2)
		h.said("")
		p.accept(r, place(10, 2), wire.HowSnapshot, wire.WhyNew)
		sendBBO(head(10, 0, 2), 2)
		h.said("bbo 10:2 2\n")
		p.quiet()
	})
}
