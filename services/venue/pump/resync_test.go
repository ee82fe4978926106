package pump

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
)

func TestResyncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		r := NewResyncer("tickwire", func(sym string) { asked = append(asked, sym) })
		says := func(sym, source string, book market.State) {
			s := stream.InstrumentSnapshot{Status: market.Status{
				Head: market.Head{Inst: 1, Epoch: 1, Seq: 1}, Instrument: market.Instrument{ID: 1, Sym: sym, Source: source, Symbol: sym}, Book: book,
			}}
			if err := r.Snapshot(0, &stream.Snapshot{Kind: stream.KindInstrument, Inst: 1, Payload: s.Append(nil)}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(what string, n int) {
			t.Helper()
			if len(asked) != n {
				t.Errorf("%s: asked for %v, want %d", what, asked, n)
			}
		}
		says("A", "tickwire", market.Stale)
		says("B", "tickwire", market.Live)
		says("C", "binance", market.Stale)
		expect("while the log is read", 0)
		r.Phase(0, stream.PhaseReady, nil)
		expect("one of ours is stale", 1)
		r.Phase(0, stream.PhaseReady, nil)
		expect("at once again", 1)
		time.Sleep(ResyncEvery)
		r.Phase(0, stream.PhaseReady, nil)
		expect("after a while", 2)
		says("A", "tickwire", market.Live)
		says("A", "tickwire", market.Stale)
		r.Phase(0, stream.PhaseReady, nil)
		expect("healed and stale again within the pause", 2)
		time.Sleep(ResyncEvery)
		r.Phase(0, stream.PhaseReady, nil)
		expect("and after it", 3)
		says("A", "tickwire", market.Live)
		time.Sleep(ResyncEvery)
		r.Phase(0, stream.PhaseReady, nil)
		expect("healed", 3)
	})
}
