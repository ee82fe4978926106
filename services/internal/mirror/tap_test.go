package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// listener is a Tap that notes what it is told.
type listener struct {
	begun       []Look
	events      []*fanout.Entry
	changed     int
	interrupted int
}

func (l *listener) Begin(_ *Instrument, at Look)         { l.begun = append(l.begun, at) }
func (l *listener) Event(_ *Instrument, e *fanout.Entry) { l.events = append(l.events, e) }
func (l *listener) Interrupted(*Instrument)              { l.interrupted++ }
func (l *listener) Changed(*Instrument)                  { l.changed++ }
func (l *listener) offsets(t *testing.T, want ...int64) {
	t.Helper()
	if len(l.events) != len(want) {
		t.Fatalf("%d events, want %v", len(l.events), want)
	}
	for i, e := range l.events {
		if e.Offset != want[i] {
			t.Errorf("event %d stands at %d, want %d", i, e.Offset, want[i])
		}
	}
}

func TestTap(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 5)
		for range 30 {
			s.trade()
		}
		in := m.Instrument(s.def.Sym)
		trades, ticker, bbo, bars := new(listener), new(listener), new(listener), new(listener)
		what := Tapped{Channel: market.Trades, Syms: []string{s.def.Sym}, Recent: 20}
		for l, w := range map[*listener]Tapped{
			trades: what, ticker: {Channel: market.Tickers, Syms: what.Syms}, bbo: {Channel: market.BBOs, All: true},
			bars: {Channel: market.Bars, Interval: market.Second, Syms: what.Syms, Recent: 2},
		} {
			if err := m.Tap(l, w); err != nil {
				t.Fatal(err)
			}
			if len(l.begun) != 1 {
				t.Fatalf("%d instruments", len(l.begun))
			}
		}
		at := trades.begun[0]
		if at.Offset != s.offset || at.Sequence.Seq != s.trades || len(at.Recent) != 20 || at.Recent[19].Seq.Seq != s.trades {
			t.Errorf("%+v", at)
		}
		if !strings.Contains(string(ticker.begun[0].Value), `"ch":"ticker"`) || !strings.Contains(string(bbo.begun[0].Value), `"ch":"bbo"`) {
			t.Errorf("%s, %s", ticker.begun[0].Value, bbo.begun[0].Value)
		}
		before := s.offset
		s.trade()
		first := trades.events[0].Offset
		if len(trades.events) != 1 || first <= before || ticker.changed == 0 || len(ticker.events) > 0 || bars.changed == 0 {
			t.Fatalf("%+v %+v %+v", trades, ticker, bars)
		}
		if json := in.JSON(market.Trades, 0, trades.events[0]); !strings.HasPrefix(string(json), `{"ch":"trades","sym":"`+s.def.Sym) {
			t.Errorf("%s", json)
		}
		s.reset(7)
		if bbo.changed == 0 {
			t.Error("the best prices have changed, unsaid")
		}
		if entries, ok := in.Since(market.Trades, 0, first-1); !ok || len(entries) != 1 {
			t.Errorf("%d entries, %t", len(entries), ok)
		}
		if entries, ok := in.Since(market.Trades, 0, first); !ok || len(entries) != 0 {
			t.Errorf("%d entries, %t", len(entries), ok)
		}
		if _, ok := in.Since(market.Trades, 0, -1); ok {
			t.Error("it knows what was before it began")
		}
		if p, offset := in.Partition(); p != 0 || offset != s.offset {
			t.Errorf("partition %d, offset %d, want %d", p, offset, s.offset)
		}
		m.Untap(trades, what)
		s.trade()
		trades.offsets(t, first)
	})
}

// TestTapMeanwhile begins to follow all instruments while events come.
func TestTapMeanwhile(t *testing.T) {
	m, h := newMirror(t)
	defer h.Close()
	s := open(t, m, 5)
	tapped := make(chan error)
	go func() { tapped <- m.Tap(new(listener), Tapped{Channel: market.Statuses, All: true}) }()
	for {
		select {
		case err := <-tapped:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			s.trade()
		}
	}
}

// TestTapInterrupted starts over where events are missing, and where none are.
func TestTapInterrupted(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 5)
		l := new(listener)
		if err := m.Tap(l, Tapped{Channel: market.Trades, Syms: []string{s.def.Sym}}); err != nil {
			t.Fatal(err)
		}
		in := m.Instrument(s.def.Sym)
		s.trade()
		known := l.events[0].Offset
		again := func() {
			m.Phase(0, stream.PhaseReset, errors.New("out of range"))
			m.Phase(0, stream.PhaseReady, nil)
		}
		again()
		s.trade()
		if l.interrupted != 0 || len(l.events) != 2 {
			t.Fatalf("%+v", l)
		}
		if _, ok := in.Since(market.Trades, 0, known); !ok {
			t.Error("nothing was missed, but it says so")
		}
		again()
		s.trades += 3
		s.offset += 3
		s.trade()
		if l.interrupted != 1 || len(l.events) != 3 {
			t.Fatalf("%+v", l)
		}
		if _, ok := in.Since(market.Trades, 0, known); ok {
			t.Error("it claims to know what was missed")
		}
		if _, ok := in.Since(market.Trades, 0, s.offset-1); !ok {
			t.Error("it does not know what came since")
		}
	})
}

// TestTapHistory starts over with a state from later, and reads what it had read before once more.
func TestTapHistory(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		s := open(t, m, 5)
		l := new(listener)
		if err := m.Tap(l, Tapped{Channel: market.Trades, Syms: []string{s.def.Sym}}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.trade()
		}
		m.Phase(0, stream.PhaseReset, errors.New("out of range"))
		s.trades += 5
		snap := stream.InstrumentSnapshot{
			Status:    market.Status{Head: market.Head{Inst: s.def.ID, Epoch: epoch, Seq: s.status, Prev: s.status - 1}, Instrument: s.def},
			TradesSeq: market.Sequence{Epoch: epoch, Seq: s.trades},
		}
		if err := m.Snapshot(0, &stream.Snapshot{Inst: s.def.ID, Kind: stream.KindInstrument, Payload: snap.Append(nil)}); err != nil {
			t.Fatal(err)
		}
		for _, e := range l.events {
			if err := m.Record(0, e.Offset, wire.TemplateTrade, e.Native().Payload()); err != nil {
				t.Fatal(err)
			}
		}
		m.Phase(0, stream.PhaseReady, nil)
		if l.interrupted != 1 || len(l.events) != 3 {
			t.Errorf("interrupted %d times, %d events", l.interrupted, len(l.events))
		}
		s.offset += 5
		s.trade()
		if l.events = l.events[3:]; len(l.events) != 1 || l.events[0].Seq.Seq != s.trades {
			t.Errorf("%d events", len(l.events))
		}
	})
}

func TestTapUnknown(t *testing.T) {
	play(t, func(t *testing.T, m *Mirror, _ *fanout.Hub) {
		if err := m.Tap(new(listener), Tapped{Channel: market.Trades, Syms: []string{"X"}}); !errors.Is(err, ErrNotReady) {
			t.Errorf("before it is ready: %v", err)
		}
		s := open(t, m, 5)
		var unknown *UnknownError
		if err := m.Tap(new(listener), Tapped{Channel: market.Trades, Syms: []string{s.def.Sym, "X"}}); !errors.As(err, &unknown) || unknown.Sym != "X" {
			t.Errorf("%v", err)
		}
		all := new(listener)
		if err := m.Tap(all, Tapped{Channel: market.Tickers, All: true}); err != nil {
			t.Fatal(err)
		}
		other := newScript(t, m, "ETH-USDT", 2)
		other.state(market.Live, market.Live, market.NoReason)
		if len(all.begun) != 2 {
			t.Errorf("%d instruments", len(all.begun))
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		name := func() string {
			switch passed := time.Since(begin); {
			case passed < 3*time.Second:
				return ""
			case passed < time.Hour:
				return "k7q2m4xw"
			}
			return "zzzzzzzz"
		}
		if err := renewal(t.Context(), name); !errors.Is(err, ErrRenewed) || time.Since(begin) > time.Hour+time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := renewal(ctx, name); err != nil {
			t.Error(err)
		}
	})
}
