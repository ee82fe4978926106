package stream

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// part is a record of md.snapshots; its payload says which one it is.
func part(inst uint32, kind, slot uint8, at int64, owner int64, i, n uint16) *Record {
	p := wire.SnapshotPart{
		Inst: inst, Kind: kind, Slot: slot, Part: i, Parts: n, EventsOffset: at, InputOffset: at * 10, OwnerEpoch: owner,
		Payload: fmt.Appendf(nil, "%d.%d.%d/%d ", inst, at, i, n),
	}
	return &Record{Key: slotKey{inst, kind, slot}.append(nil, i-1), Value: wire.AppendSnapshotPart(nil, &p)}
}

func marker(epoch int64) *Record {
	p := wire.SnapshotPart{Kind: KindMarker, Part: 1, Parts: 1, OwnerEpoch: epoch}
	return &Record{Key: appendMarkerKey(nil, epoch), Value: wire.AppendSnapshotPart(nil, &p)}
}

func TestNewestSnapshots(t *testing.T) {
	f := func(name, want string, recs ...*Record) {
		t.Helper()
		set := newSnapshotSet()
		for _, rec := range recs {
			set.add(rec)
		}
		got := ""
		for _, s := range set.newest() {
			got += string(s.Payload)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("the greater offset wins", "1.20.1/1 ", part(1, 0, 1, 20, 3, 1, 1), part(1, 0, 0, 10, 3, 1, 1))
	f("parts are joined", "1.20.1/2 1.20.2/2 ", part(1, 0, 0, 20, 3, 1, 2), part(1, 0, 0, 20, 3, 2, 2))
	f("a writer killed halfway leaves the other slot", "1.10.1/1 ",
		part(1, 0, 0, 10, 3, 1, 1), part(1, 0, 1, 5, 3, 1, 2), part(1, 0, 1, 5, 3, 2, 2), part(1, 0, 1, 20, 3, 1, 2))
	f("parts of two snapshots are not mixed", "", part(1, 0, 0, 10, 3, 1, 2), part(1, 0, 0, 20, 3, 2, 2))
	f("a shorter snapshot in the same slot", "1.20.1/1 ",
		part(1, 0, 0, 10, 3, 1, 2), part(1, 0, 0, 10, 3, 2, 2), part(1, 0, 0, 20, 3, 1, 1), &Record{Key: slotKey{1, 0, 0}.append(nil, 1)})
	f("an old owner's snapshot before the marker counts", "1.10.1/1 ", part(1, 0, 0, 10, 3, 1, 1), marker(15))
	f("a fenced owner's does not", "1.10.1/1 ", marker(3), part(1, 0, 0, 10, 3, 1, 1), marker(15), part(1, 0, 1, 20, 3, 1, 1))
	f("nor half of one", "1.10.1/1 ",
		marker(3), part(1, 0, 0, 10, 3, 1, 1), part(1, 0, 1, 20, 3, 1, 2), marker(15), part(1, 0, 1, 20, 3, 2, 2))
	f("blocks of bars do not replace each other", "1.10.1/1 1.5.1/1 ",
		part(1, KindBars, 0, 10, 3, 1, 1), part(1, KindBars, 1, 5, 3, 1, 1))
	f("in order of instrument and kind", "0.30.1/1 1.10.1/1 1.9.1/1 2.20.1/1 ",
		part(2, 0, 0, 20, 3, 1, 1), part(1, KindBars, 0, 9, 3, 1, 1), part(1, 0, 1, 10, 3, 1, 1), part(0, KindCheckpoint, 0, 30, 3, 1, 1))
	f("what can't be read is left out", "", &Record{Value: []byte("garbage")}, &Record{Key: []byte{KindLogID}, Value: []byte{1}})
}

func TestReplayFrom(t *testing.T) {
	f := func(want int64, recs ...*Record) {
		t.Helper()
		set := newSnapshotSet()
		for _, rec := range recs {
			set.add(rec)
		}
		if got := replayFrom(set.newest()); got != want {
			t.Errorf("replay from %d, want %d", got, want)
		}
	}
	f(0)
	f(7, part(1, 0, 0, 7, 3, 1, 1), part(2, 0, 0, 9, 3, 1, 1), part(1, KindBars, 0, 2, 3, 1, 1))
	f(8, part(1, 0, 0, 7, 3, 1, 1), part(0, KindCheckpoint, 0, 8, 3, 1, 1))
}

func TestFence(t *testing.T) {
	batchOf := func(epoch int64) []byte { return wire.AppendOwnerBatch(nil, &wire.OwnerBatch{OwnerEpoch: epoch}) }
	mark := wire.AppendOwnerMarker(nil, &wire.OwnerMarker{Instance: "x"})
	f := fence{epoch: -1}
	var owner wire.OwnerBatch
	steps := []struct {
		offset     int64
		first      []byte
		marker, ok bool
	}{
		{0, batchOf(-1), false, true},
		{5, mark, true, true},
		{6, batchOf(5), false, true},
		{7, batchOf(4), false, false},
		{8, mark, true, true},
		{9, batchOf(5), false, false},
		{10, batchOf(8), false, true},
		{20, batchOf(15), false, true}, // its marker lies where we did not read
		{21, batchOf(8), false, false},
		{22, []byte("foreign"), false, false},
		{23, nil, false, false},
	}
	for _, s := range steps {
		if marker, ok := f.admit(s.offset, s.first, &owner); marker != s.marker || ok != s.ok {
			t.Errorf("batch at %d: marker %v, admitted %v; want %v, %v", s.offset, marker, ok, s.marker, s.ok)
		}
	}
	if f.dropped != 5 {
		t.Errorf("%d dropped, want 5", f.dropped)
	}
}

func someInstrument(levels int) *InstrumentSnapshot {
	s := &InstrumentSnapshot{
		Status: market.Status{
			Head:       market.Head{Inst: 9, Epoch: 17, Prev: 3, Seq: 4, Time: 5000, In: 6000},
			Instrument: market.Instrument{ID: 9, Sym: "BTC-USDT", Source: "binance", Symbol: "BTCUSDT", PriceScale: 2, SizeScale: 5, TickSize: 1},
			Book:       market.Stale, Why: market.Venue,
		},
		Book:      &market.Snapshot{Head: market.Head{Inst: 9, Epoch: 17, Prev: 99, Seq: 100}, Hash: market.Hash{Sum: 42, OK: true}, Part: 1, Parts: 1},
		BookSeq:   market.Sequence{Epoch: 17, Seq: 100},
		TradesSeq: market.Sequence{Epoch: 17, Seq: 55},
		Series:    []byte("series"), Private: []byte("private"),
	}
	for i := range s.BarsSeq {
		s.BarsSeq[i] = market.Sequence{Epoch: 17, Seq: uint64(i)}
	}
	for i := range levels {
		s.Book.Bids = append(s.Book.Bids, market.Level{Price: market.Price(100_000 - i), Size: 1})
		s.Book.Asks = append(s.Book.Asks, market.Level{Price: market.Price(100_001 + i), Size: 2})
	}
	for i := range 3 {
		s.Bars = append(s.Bars, market.Bar{
			Head: market.Head{Inst: 9, Epoch: 17, Prev: uint64(i), Seq: uint64(i) + 1}, Interval: market.Minute,
			Start: market.Time(i) * 60e9, Open: 1, High: 3, Low: 1, Close: 2, Volume: 7, Trades: 8, Final: true,
		})
	}
	return s
}

func TestInstrumentSnapshot(t *testing.T) {
	for _, levels := range []int{0, 10, 5000, 20_000} {
		want := someInstrument(levels)
		var got InstrumentSnapshot
		if err := got.Decode(want.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if len(got.Book.Bids) == 0 {
			got.Book.Bids, got.Book.Asks = nil, nil
		}
		if !reflect.DeepEqual(&got, want) {
			t.Fatalf("%d levels a side: got\n%+v, want\n%+v", levels, got, *want)
		}
	}
	want := someInstrument(0)
	want.Book, want.Series, want.Private, want.Bars = nil, nil, nil, nil
	var got InstrumentSnapshot
	if err := got.Decode(want.Append(nil)); err != nil || !reflect.DeepEqual(&got, want) {
		t.Fatalf("without a book: %v, %+v", err, got)
	}
	for _, bad := range [][]byte{nil, {9}, {1}, {1, 1, 200, 0, 0, 0}, want.Append(nil)[:40]} {
		if got.Decode(bad) == nil {
			t.Errorf("%x: no error", bad)
		}
	}
}

func FuzzInstrumentSnapshot(f *testing.F) {
	f.Add(someInstrument(3).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s InstrumentSnapshot
		if s.Decode(b) == nil && s.Status.Instrument.ID == 0 {
			t.Fatal("no instrument, no error")
		}
	})
}

// FuzzSnapshotSet assembles whatever it is given.
func FuzzSnapshotSet(f *testing.F) {
	f.Add(part(1, 0, 0, 7, 3, 1, 2).Value, part(1, 0, 0, 7, 3, 2, 2).Value)
	f.Add(marker(3).Value, part(1, 1, 9, 7, 3, 1, 1).Value)
	f.Fuzz(func(_ *testing.T, a, b []byte) {
		set := newSnapshotSet()
		set.add(&Record{Value: a})
		set.add(&Record{Key: []byte{KindLogID}, Value: b})
		set.add(&Record{Value: b})
		replayFrom(set.newest())
	})
}
