package ingest

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// topic is one numbering in md.events.
type topic struct {
	inst uint32
	kind string
}

// numbers follows the numberings of all topics, as every reader does.
type numbers map[topic]market.Sequence

// follow checks that an event continues its topic.
func (n numbers) follow(t failer, b []byte) {
	t.Helper()
	tmpl, err := wire.Peek(b)
	if err != nil {
		t.Fatal(err)
	}
	h, err := wire.HeadOf(b)
	if err != nil {
		t.Fatal(err)
	}
	k := topic{h.Inst, [...]string{1: "book", 2: "book", 3: "trades", 4: "trades", 5: "bars", 6: "status"}[tmpl]}
	if tmpl == wire.TemplateBar {
		var bar market.Bar
		if err := wire.DecodeBar(b, &bar); err != nil {
			t.Fatal(err)
		}
		k.kind += bar.Interval.String()
	}
	old := n[k]
	switch {
	case h.Epoch < old.Epoch:
		t.Fatalf("%v: epoch %d after %d", k, h.Epoch, old.Epoch)
	case h.Epoch > old.Epoch:
		old = market.Sequence{Epoch: h.Epoch}
	case tmpl == wire.TemplateBookSnapshot && h.Seq == old.Seq:
		old.Seq-- // another part
	}
	if h.Prev != old.Seq || h.Seq != old.Seq+1 {
		t.Fatalf("%v: %d-%d after %d", k, h.Prev, h.Seq, old.Seq)
	}
	n[k] = market.Sequence{Epoch: h.Epoch, Seq: h.Seq}
}

// TestRebuild takes the input away from under an owner, or changes the algorithm: the stream must go on without a jump in
// any numbering, say what was lost, and come back to life.
func TestRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScript(t)
		if len(in) < 3 {
			return
		}
		w := &world{answered: -1}
		o := w.takeOver(t, in)
		died := int64(rapid.IntRange(1, len(in)-1).Draw(t, "dies at"))
		for o.next < died {
			o.step(in)
			if rapid.IntRange(0, 9).Draw(t, "save") == 0 {
				o.ack(len(o.pending))
				o.save(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "roll") })
				o.store(len(o.waiting))
			}
		}
		o.ack(len(o.pending))
		n := make(numbers)
		for _, b := range w.events {
			n.follow(t, b)
		}
		live := make(map[uint32]bool)
		for _, it := range o.core.list {
			live[it.def.ID] = it.state != market.Delisted
		}

		why := rapid.SampledFrom([]market.Reason{market.Retention, market.Upgrade}).Draw(t, "why")
		r, err := restore(0, 1, w.newest(), 0)
		if err != nil {
			t.Fatal(err)
		}
		b := newRebuild(r.core)
		for _, ev := range w.events[r.events:] {
			tmpl, _ := wire.Peek(ev)
			if err := b.add(tmpl, ev); err != nil {
				t.Fatal(err)
			}
		}
		b.finish(w.answered, why, rapid.Bool().Draw(t, "renumber"))
		saver := saver{core: r.core, write: func(stream.Snapshot) error { t.Fatal("saved before the resets are said"); return nil }}
		if err := saver.all(); err != nil {
			t.Fatal(err)
		}
		for i := died; i < int64(len(in)); i++ {
			r.core.Apply(&in[i])
			gaps := make(map[uint32]bool)
			for e := range r.core.out.len() {
				ev := r.core.out.event(e)
				n.follow(t, ev)
				h, _ := wire.HeadOf(ev)
				if tmpl, _ := wire.Peek(ev); tmpl == wire.TemplateTradeGap {
					gaps[h.Inst] = true
				}
			}
			if i > died {
				continue
			}
			for _, it := range r.core.list {
				if live[it.def.ID] && why == market.Retention && !gaps[it.def.ID] {
					t.Fatalf("%s: no gap in the trades", it.def.Sym)
				}
			}
		}
		for _, it := range r.core.list {
			if it.feed.state == market.Stale && it.feed.book.Hash() != 0 {
				t.Fatalf("%s: stale, and has levels", it.def.Sym)
			}
		}
	})
}

// FuzzApply feeds a core whatever there is: it must not panic, and what it says must be well-formed and numbered.
func FuzzApply(f *testing.F) {
	f.Add("X", "tickwire", "s1", []byte(`{"type":"trade","sym":"X","price":"1.50","size":1,"id":1,"ts":1700000000000000}`))
	f.Add("X", "tickwire", "s2", []byte(`{"type":"book","sym":"X","snapshot":true,"last":7,"bids":[["1.00",1]],"asks":[["2",1]],"ts":1700000000000000}`))
	f.Add("X", "tickwire", "s2", []byte(`{"type":"book","sym":"X","last":8,"bids":[["1.00",0]],"ts":1700000001000000}`))
	f.Add("X", "tickwire", "", []byte(`{"type":"status","sym":"X","state":"delisted"}`))
	f.Add("X", "tickwire", "", []byte(`{"type":"instrument","sym":"X","ps":3,"ss":0,"tick":"0.5"}`))
	f.Add("", "tickwire", "", []byte(`{"type":"clock","source":"tickwire","session":"a","ts":1700000009000000}`))
	f.Add("X", "binance", "", []byte(`{"e":"depthUpdate","E":1,"s":"X","U":1,"u":1,"b":[],"a":[]}`))
	f.Fuzz(func(t *testing.T, key, source, session string, value []byte) {
		r := newRig(t)
		n := make(numbers)
		r.instrument()
		r.feed(`{"type":"book","sym":"X","snapshot":true,"bids":[["1.00",1]],"asks":[["2.00",1]],"ts":%d}`, us(0))
		r.feed(`{"type":"trade","sym":"X","price":"1.50","size":1,"id":7,"ts":%d}`, us(0))
		r.key, r.source, r.sess = key, source, session
		for range 2 {
			r.raw(string(value))
		}
		r.key, r.source, r.sess = "X", "tickwire", "s1"
		r.in += 100 * sec * 1000
		r.feed(`{"type":"clock","source":"tickwire","session":"s1","ts":%d}`, us(100*sec))
		for _, b := range r.all {
			n.follow(t, b)
		}
	})
}

// FuzzState reads state that may be damaged.
func FuzzState(f *testing.F) {
	c := newCore(0, 1)
	for i, v := range []string{
		`{"type":"instrument","sym":"X","ps":2,"ss":0}`,
		`{"type":"book","sym":"X","last":3,"bids":[["1.00",1]],"ts":1700000000000000}`,
		`{"type":"trade","sym":"X","price":"1.50","size":1,"id":"n","ts":1700000000000000}`,
	} {
		c.Apply(&input{Offset: int64(i), In: t0, Key: []byte("X"), Value: []byte(v), Session: []byte("s")})
	}
	list, saved := c.snapshots(c.list[0], 0)
	saved()
	f.Add(list[0].Payload, c.saveCheckpoint(0).Payload)
	f.Fuzz(func(t *testing.T, instrument, point []byte) {
		snaps := []stream.Snapshot{
			{Kind: stream.KindCheckpoint, Version: Version, Payload: point},
			{Inst: partitionSlots, Kind: stream.KindInstrument, Version: Version, InputOffset: 2, Payload: instrument},
		}
		r, err := restore(0, 1, snaps, 0)
		if err != nil {
			return
		}
		r.core.Apply(&input{Offset: 9, In: t0, Value: []byte(`{"type":"clock","source":"tickwire","session":"a","ts":1700000009000000}`)})
	})
}

// TestStateRoundTrip saves a core with something of everything and loads it again.
func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScript(t)
		c := newCore(0, 1)
		for i := range in {
			c.Apply(&in[i])
		}
		var snaps []stream.Snapshot
		for _, it := range c.list {
			list, saved := c.snapshots(it, 0)
			snaps = append(snaps, list...)
			saved()
		}
		snaps = append([]stream.Snapshot{c.saveCheckpoint(0)}, snaps...)
		r, err := restore(0, 1, snaps, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, it := range c.list {
			a, _ := c.snapshots(it, 0)
			b, _ := r.core.snapshots(r.core.list[i], 0)
			if len(a) != len(b) || !bytes.Equal(a[len(a)-1].Payload, b[len(b)-1].Payload) {
				t.Fatalf("%s: not the same after a trip through its snapshot", it.def.Sym)
			}
		}
	})
}
