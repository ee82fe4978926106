package wire_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// prototypes is one message of each type that has a form in SBE.
func prototypes() (types []any) {
	seen := map[string]bool{}
	for _, s := range samples() {
		if frame := s.sbe(); frame != nil && !seen[string(frame[2:4])] {
			seen[string(frame[2:4])] = true
			types = append(types, s.msg)
		}
	}
	return types
}

// FuzzSBE gives any bytes to the decoder of each template: none panics, and what one takes is what it would write.
func FuzzSBE(f *testing.F) {
	for _, s := range samples() {
		if frame := s.sbe(); frame != nil {
			f.Add(frame)
		}
	}
	types := prototypes()
	var m wire.Message
	f.Fuzz(func(t *testing.T, frame []byte) {
		_ = wire.DecodeSBE(frame, &m)
		_, _ = wire.HeadOf(frame)
		for _, msg := range types {
			got, err := decodeSBE(frame, msg)
			if err != nil {
				continue
			}
			again := appendSBE(nil, got)
			if frame[6] == wire.SchemaVersion && frame[7] == 0 {
				if !bytes.Equal(again, frame) {
					t.Fatalf("read %x\nwrote %x", frame, again)
				}
			} else if back, err := decodeSBE(again, msg); err != nil || show(back) != show(got) {
				t.Fatalf("%s\nafter a trip %v %v", show(got), back, err)
			}
		}
	})
}

// FuzzJSON gives any bytes to the client's decoder: it does not panic, and what it takes survives a trip.
func FuzzJSON(f *testing.F) {
	for _, s := range samples() {
		if text := s.json(); text != nil {
			f.Add(text)
		}
	}
	var m, back wire.Message
	f.Fuzz(func(t *testing.T, text []byte) {
		if wire.DecodeJSON(text, lookup, &m) != nil || m.Kind == wire.KindUnknown {
			return
		}
		first := sample{msg: content(&m), inst: m.Inst, out: m.Out}
		wrote := first.json()
		if err := wire.DecodeJSON(wrote, lookup, &back); err != nil || back.Kind != m.Kind {
			t.Fatalf("%s\nwas written as %s\nkind %v, %v", text, wrote, back.Kind, err)
		}
		second := sample{msg: content(&back), inst: back.Inst, out: back.Out}
		if m.Kind <= wire.KindStatus && show(first.msg) != show(second.msg) {
			t.Fatalf("%s\nafter a trip %s", show(first.msg), show(second.msg))
		}
		if again := second.json(); !bytes.Equal(again, wrote) {
			t.Fatalf("%s\nwas written as %s\nand then as %s", text, wrote, again)
		}
	})
}

// FuzzRequest gives any bytes to the edge's decoder.
func FuzzRequest(f *testing.F) {
	for _, s := range requests() {
		f.Add(s.json())
	}
	var r, back wire.Request
	f.Fuzz(func(t *testing.T, text []byte) {
		if wire.DecodeRequest(text, &r) != nil {
			return
		}
		wrote := wire.AppendRequest(nil, &r)
		if err := wire.DecodeRequest(wrote, &back); err != nil || show(&r) != show(&back) {
			t.Fatalf("%s\nwas written as %s\n%s\n%s, %v", text, wrote, show(&r), show(&back), err)
		}
	})
}

// anyOf draws values that a market can have.
type anyOf struct {
	*rapid.T
	inst *market.Instrument
}

func (t anyOf) price() market.Price {
	return market.Price(rapid.Int64Range(1, 1<<62).Draw(t.T, "price"))
}

func (t anyOf) size(least int64) market.Size {
	return market.Size(rapid.OneOf(rapid.Int64Range(least, 1e6), rapid.Int64Range(least, 1<<62)).Draw(t.T, "size"))
}

func (t anyOf) time() market.Time {
	return market.FromMicros(rapid.Int64Range(1, 4e15).Draw(t.T, "time"))
}

func (t anyOf) head(follows bool) market.Head {
	h := market.Head{
		Inst: t.inst.ID, Epoch: rapid.Uint32().Draw(t.T, "epoch"), Seq: rapid.Uint64().Draw(t.T, "seq"), Time: t.time(),
	}
	if follows {
		h.Prev = rapid.Uint64().Draw(t.T, "prev")
	}
	if rapid.Bool().Draw(t.T, "in known") {
		h.In = t.time()
	}
	return h
}

func (t anyOf) levels(least int64) []market.Level {
	var l []market.Level
	for range rapid.IntRange(0, 40).Draw(t.T, "levels") {
		l = append(l, market.Level{Price: t.price(), Size: t.size(least)})
	}
	return l
}

func (t anyOf) best() market.Level {
	if rapid.Bool().Draw(t.T, "empty side") {
		return market.Level{}
	}
	return market.Level{Price: t.price(), Size: t.size(1)}
}

func (t anyOf) hash() market.Hash {
	if rapid.Bool().Draw(t.T, "hash") {
		return market.Hash{Sum: rapid.Uint64Range(0, 1<<64-2).Draw(t.T, "sum"), OK: true}
	}
	return market.Hash{}
}

func (t anyOf) missed() int64    { return rapid.Int64Range(-1, 1<<62).Draw(t.T, "missed") }
func (t anyOf) scale() uint8     { return rapid.Uint8Range(0, market.MaxScale).Draw(t.T, "scale") }
func (t anyOf) text() string     { return rapid.StringN(0, 40, 200).Draw(t.T, "text") }
func (t anyOf) count() uint64    { return rapid.Uint64().Draw(t.T, "count") }
func (t anyOf) yes() bool        { return rapid.Bool().Draw(t.T, "yes") }
func (t anyOf) choose(n int) int { return rapid.IntRange(0, n-1).Draw(t.T, "choice") }

func (t anyOf) view() market.View {
	return market.View{Depth: rapid.Uint16().Draw(t.T, "depth"), Millis: rapid.Uint16().Draw(t.T, "ms")}
}

func (t anyOf) id() (id market.TradeID) {
	id, _ = market.MakeTradeID(rapid.StringN(0, 40, 40).Draw(t.T, "id"))
	return id
}

func (t anyOf) event() any {
	why := market.Reason(t.choose(int(market.Upgrade) + 1))
	iv := market.Interval(t.choose(market.NumIntervals))
	switch t.choose(9) {
	case 0:
		parts := rapid.Uint16Range(1, 9).Draw(t.T, "of")
		part := rapid.Uint16Range(1, parts).Draw(t.T, "part")
		return &market.Snapshot{Head: t.head(true), View: t.view(), Hash: t.hash(), Part: part, Parts: parts, Bids: t.levels(1), Asks: t.levels(1)}
	case 1:
		return &market.Delta{Head: t.head(true), View: t.view(), Hash: t.hash(), Bids: t.levels(0), Asks: t.levels(0)}
	case 2:
		side := []market.Side{market.Bid, market.Ask, market.NoSide}[t.choose(3)]
		return &market.Trade{Head: t.head(true), Price: t.price(), Size: t.size(1), Side: side, ID: t.id()}
	case 3:
		return &market.TradeGap{Head: t.head(true), Why: why, Missed: t.missed()}
	case 4:
		return &wire.BarGap{Head: t.head(true), Interval: iv, Why: why, Missed: t.missed()}
	case 5:
		final := t.yes()
		return &market.Bar{
			Head: t.head(final), Interval: iv, Start: t.time(), Open: t.price(), High: t.price(), Low: t.price(), Close: t.price(),
			Volume: t.size(0), Trades: t.count(), Final: final, Rev: rapid.Uint32().Draw(t.T, "rev"), Incomplete: t.yes(),
		}
	case 6:
		return &market.BBO{Head: t.head(false), Bid: t.best(), Ask: t.best()}
	case 7:
		return &market.Ticker{
			Head: t.head(false), Last: t.price(), LastSize: t.size(1), Bid: t.best(), Ask: t.best(), Open: t.price(), High: t.price(), Low: t.price(),
			Volume: t.size(0), Quote: int64(t.size(0)), Trades: t.count(),
		}
	}
	s := &market.Status{Head: t.head(false), State: market.State(t.choose(5)), Book: market.State(t.choose(5)), Why: why}
	s.Instrument = market.Instrument{ID: s.Inst, Sym: t.text(), Source: t.text(), Symbol: t.text(), PriceScale: t.scale(), SizeScale: t.scale(), TickSize: market.Price(t.size(0))}
	return s
}

// TestRoundTrip sends any event through both formats: what arrives is what was sent.
func TestRoundTrip(t *testing.T) {
	var bin, text wire.Message
	rapid.Check(t, func(rt *rapid.T) {
		draw := anyOf{T: rt, inst: &market.Instrument{ID: 7, Sym: rapid.String().Draw(rt, "sym")}}
		draw.inst.PriceScale, draw.inst.SizeScale = draw.scale(), draw.scale()
		s := sample{msg: draw.event(), inst: draw.inst, out: draw.time()}
		if err := wire.DecodeSBE(s.sbe(), &bin); err != nil || show(content(&bin)) != show(s.msg) {
			rt.Fatalf("SBE: %v\ngot  %v\nwant %s", err, content(&bin), show(s.msg))
		}
		err := wire.DecodeJSON(s.json(), func(sym []byte) *market.Instrument {
			if string(sym) == draw.inst.Sym {
				return draw.inst
			}
			return nil
		}, &text)
		if err != nil || show(content(&text)) != show(s.msg) || text.Out != s.out {
			rt.Fatalf("JSON: %v\ngot  %v\nwant %s\nin   %s", err, content(&text), show(s.msg), s.json())
		}
	})
}
