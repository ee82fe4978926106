package target

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/all"
)

// heads reads md.events from a place on until there are so many events of a kind.
func heads(t *testing.T, r *raw, ends map[int]int64, want wire.Template, count int) map[string][]market.Head {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	found, syms := map[string][]market.Head{}, map[uint32]string{}
	for i := range r.topics {
		p := r.partition(i)
		f, err := r.cluster.Begin(ctx, p, time.Hour, func(*stream.Snapshot) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		sym := r.topics[i].inst.Sym
		for len(found[sym]) < count {
			batch, err := f.Next(ctx)
			if err != nil {
				t.Fatal(sym, len(found[sym]), err)
			}
			var ev stream.Event
			for batch.Next(&ev) {
				if ev.Template == wire.TemplateStatus {
					var s market.Status
					if err := wire.DecodeStatus(ev.Value, &s); err != nil {
						t.Fatal(err)
					}
					syms[s.Inst] = s.Instrument.Sym
				}
				var h market.Head
				var err error
				switch {
				case ev.Template != want || ev.Offset < ends[p]:
					continue
				case want == wire.TemplateTrade:
					var m market.Trade
					err = wire.DecodeTrade(ev.Value, &m)
					h = m.Head
				default:
					var m market.Delta
					err = wire.DecodeDelta(ev.Value, &m)
					h = m.Head
				}
				if err != nil {
					t.Fatal(err)
				}
				if syms[h.Inst] == sym {
					found[sym] = append(found[sym], h)
				}
			}
		}
		f.Close()
	}
	return found
}

// TestRaw publishes through a broker and ingest, as one session after the other: each message must come out under the
// sequence that the base foretells, with the time at which it was due.
func TestRaw(t *testing.T) {
	addrs := servertest.Start(t, nil)
	const topics, each = 5, 40
	session := func(channel market.Channel, template wire.Template) {
		t.Helper()
		m := newMaker(channel, topics, 150)
		for i := range m.topics {
			m.topics[i].inst.Sym = strings.Replace(Sym(i), "S", "BENCH-", 1)
		}
		r, err := startRaw(&Config{Kafka: all.Kafka{Brokers: []string{addrs.Kafka}}, Subscribe: "ws://there"}, &m)
		if err != nil {
			t.Fatal(err)
		}
		if r.address() != "ws://there" {
			t.Error(r.address())
		}
		ends, err := r.ends(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now().Add(-time.Second).UnixMicro()
		for i := range topics * each {
			template, payload := m.make(i%topics, start+int64(i))
			if err := r.publish(i%topics, template, payload); err != nil {
				t.Fatal(err)
			}
		}
		all := heads(t, r, ends, template, each)
		for i := range topics {
			for n, h := range all[r.topics[i].inst.Sym] {
				want := r.base[i] + uint64(n) + 1
				if due := start + int64(n*topics+i); h.Seq != want || h.Prev != want-1 || h.Time.Micros() != due {
					t.Fatalf("%v %d of topic %d: %+v, want sequence %d and %d µs", channel, n, i, h, want, due)
				}
			}
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		session(market.Trades, wire.TemplateTrade)
		session(market.Books, wire.TemplateBookUpdate)
	}
}

func TestRawWithoutBrokers(t *testing.T) {
	m := newMaker(market.Trades, 1, 100)
	if _, err := startRaw(&Config{}, &m); err == nil || !strings.Contains(err.Error(), "brokers") {
		t.Error(err)
	}
}
