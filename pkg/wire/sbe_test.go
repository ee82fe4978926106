package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// TestSBERoundTrip holds the codec to writing exactly what it reads, for each sample.
func TestSBERoundTrip(t *testing.T) {
	for _, s := range samples() {
		frame := s.sbe()
		if frame == nil {
			continue
		}
		got, err := decodeSBE(frame, s.msg)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		} else if again := appendSBE([]byte("before"), got); !bytes.Equal(again[6:], frame) {
			t.Errorf("%s:\ngot  %x\nwant %x", s.name, again[6:], frame)
		}
	}
}

func TestPeek(t *testing.T) {
	for _, s := range samples() {
		frame := s.sbe()
		if frame == nil {
			continue
		}
		template, err := wire.Peek(frame)
		if err != nil || template == 0 {
			t.Errorf("%s: %v, %v", s.name, template, err)
		}
		head, err := wire.HeadOf(frame)
		switch {
		case template.IsEvent() && (err != nil || head.Seq == 0 && head.Epoch == 0):
			t.Errorf("%s: head %+v, %v", s.name, head, err)
		case !template.IsEvent() && !errors.Is(err, wire.ErrTemplate):
			t.Errorf("%s has a head: %v", s.name, err)
		}
	}
	future := binary.LittleEndian.AppendUint16(nil, 4)
	future = append(future, 99, 0, wire.SchemaID, 0, 7, 0, 1, 2, 3, 4)
	var m wire.Message
	if template, err := wire.Peek(future); template != 99 || err != nil {
		t.Errorf("a later template: %v, %v", template, err)
	}
	if err := wire.DecodeSBE(future, &m); err != nil || m.Kind != wire.KindUnknown {
		t.Errorf("a later template: kind %v, %v", m.Kind, err)
	}
}

// TestSBERefuses cuts and damages each sample: no decoder takes it.
func TestSBERefuses(t *testing.T) {
	refused := func(name string, frame []byte, msg any) {
		t.Helper()
		if got, err := decodeSBE(frame, msg); err == nil {
			t.Errorf("%s was taken: %s", name, show(got))
		}
	}
	for _, s := range samples() {
		frame := s.sbe()
		if frame == nil {
			continue
		}
		for n := range frame {
			refused(s.name+" cut", frame[:n], s.msg)
		}
		refused(s.name+" with a byte more", append(slices.Clone(frame), 0), s.msg)
		for at, value := range map[int]byte{0: 1, 2: 99, 4: 2} { // block length, template, schema
			bad := slices.Clone(frame)
			bad[at] += value
			refused(s.name+" with another header", bad, s.msg)
		}
	}
}

func TestSBEValues(t *testing.T) {
	const block = 8
	f := func(msg any, at int, value ...byte) {
		t.Helper()
		frame := appendSBE(nil, msg)
		copy(frame[at:], value)
		if got, err := decodeSBE(frame, msg); !errors.Is(err, wire.ErrValue) {
			t.Errorf("byte %d: %v, %s", at, err, show(got))
		}
	}
	minus := []byte{255, 255, 255, 255, 255, 255, 255, 255}
	lowest := []byte{0, 0, 0, 0, 0, 0, 0, 128}
	zero := make([]byte, 8)
	snapshot := &market.Snapshot{Head: head(1), Bids: bids}
	delta := &market.Delta{Head: head(1), Bids: bids}
	trade := &market.Trade{Head: head(1), Price: 1, Size: 1}
	for _, v := range [][]byte{minus, lowest, zero} {
		f(snapshot, block+56+4, v...)   // price
		f(snapshot, block+56+4+8, v...) // size
		f(delta, block+52+4, v...)
		f(trade, block+40, v...)
		f(trade, block+48, v...)
	}
	f(delta, block+52+4+8, minus...)
	f(snapshot, block+52, 0, 0)       // part 0
	f(snapshot, block+52, 2, 0, 1, 0) // part 2 of 1
	f(trade, block+24, lowest...)     // no time
	f(trade, block+56, 2)             // no side
	f(&market.TradeGap{}, block+48, 12)
	f(&market.TradeGap{}, block+40, minus...) // a negative number that is not null
	f(&market.Bar{}, block+100, 7)            // interval
	f(&market.Bar{}, block+101, 4)            // flag
	f(&market.Status{}, block+48, 19)         // scale
	f(&market.Status{}, block+50, 5)          // state
	f(&market.BBO{}, block+40, 1)             // price without size
	f(&market.BBO{Bid: bids[0]}, block+40, zero...)
	f(&wire.SnapshotPart{Part: 1, Parts: 1}, block+28, 0, 0)
	long := appendSBE(nil, trade)
	long = append(binary.LittleEndian.AppendUint16(long[:len(long)-2], 41), make([]byte, 41)...)
	if _, err := decodeSBE(long, trade); !errors.Is(err, wire.ErrValue) {
		t.Errorf("a trade id of 41 bytes: %v", err)
	}
	many := &market.Snapshot{Head: head(1), Bids: make([]market.Level, market.MaxSnapshotLevels+1)}
	for i := range many.Bids {
		many.Bids[i] = market.Level{Price: market.Price(i + 1), Size: 1}
	}
	if _, err := decodeSBE(appendSBE(nil, many), many); !errors.Is(err, wire.ErrValue) {
		t.Errorf("too many levels in one part: %v", err)
	}
}

// TestSBELaterVersion reads frames as a later version of the schema would write them: longer blocks, more at the end.
func TestSBELaterVersion(t *testing.T) {
	longer := func(frame []byte, at int) []byte { // a field of two bytes more at the end of the block that begins at at
		n := binary.LittleEndian.Uint16(frame)
		out := slices.Insert(slices.Clone(frame), at+int(n), 7, 7)
		binary.LittleEndian.PutUint16(out, n+2)
		out[6] = 1
		return append(out, "more"...)
	}
	for _, s := range samples() {
		frame := s.sbe()
		if frame == nil {
			continue
		}
		got, err := decodeSBE(longer(frame, 8), s.msg)
		if err != nil || show(got) != show(s.msg) {
			t.Errorf("%s: %v\ngot  %v\nwant %s", s.name, err, got, show(s.msg))
		}
	}
	want := &market.Delta{Head: head(1), Bids: levels(bids[0])}
	frame := slices.Insert(appendSBE(nil, want), 8+52+4+16, 7, 7)
	frame[6], frame[8+52] = 1, 18 // version, block length of a level
	if got, err := decodeSBE(frame, want); err != nil || show(got) != show(want) {
		t.Errorf("longer levels: %v, %s", err, show(got))
	}
}

// TestOwnerBatchPatch fills in a batch record in place, as a writer does when it closes a batch.
func TestOwnerBatchPatch(t *testing.T) {
	batch := wire.AppendOwnerBatch([]byte("head"), &wire.OwnerBatch{OwnerEpoch: 5})
	batch = append(batch, "tail"...)
	wire.AppendOwnerBatch(batch[:4], &wire.OwnerBatch{OwnerEpoch: 5, InputOffset: 77})
	var m wire.OwnerBatch
	if err := wire.DecodeOwnerBatch(batch[4:4+wire.OwnerBatchLen], &m); err != nil || m.InputOffset != 77 {
		t.Errorf("%+v, %v", m, err)
	}
	if string(batch[4+wire.OwnerBatchLen:]) != "tail" {
		t.Error("the record after it was touched")
	}
}

func TestAppendPanicsBeyondGroup(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("65,535 levels were counted in 16 bits")
		}
	}()
	wire.AppendDelta(nil, &market.Delta{Bids: make([]market.Level, wire.MaxGroup+1)})
}

// TestSchema compares tickwire.xml with the frames: identity, templates, block lengths, offsets.
func TestSchema(t *testing.T) {
	schema := readSchema(t)
	if schema.ID != wire.SchemaID || schema.Version != wire.SchemaVersion {
		t.Errorf("schema %d version %d", schema.ID, schema.Version)
	}
	size := map[string]uint16{"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int64": 8, "Side": 1, "State": 1, "Reason": 1, "Interval": 1, "BarFlags": 1}
	for _, typ := range schema.Types {
		size[typ.Name] = size[typ.Type]
	}
	frames := map[uint16][]byte{}
	for _, s := range samples() {
		if frame := s.sbe(); frame != nil {
			frames[binary.LittleEndian.Uint16(frame[2:])] = frame
		}
	}
	for _, m := range schema.Messages {
		var end uint16
		for _, f := range m.Fields {
			if f.Offset != end || size[f.Type] == 0 {
				t.Errorf("%s.%s is at %d, the field before it ends at %d", m.Name, f.Name, f.Offset, end)
			}
			end += size[f.Type]
		}
		if end != m.Block {
			t.Errorf("%s: fields end at %d, blockLength is %d", m.Name, end, m.Block)
		}
		frame := frames[m.ID]
		if frame == nil {
			t.Errorf("%s has no sample", m.Name)
		} else if got := binary.LittleEndian.Uint16(frame); got != m.Block {
			t.Errorf("%s: blockLength is %d, frames have %d", m.Name, m.Block, got)
		}
	}
	if len(frames) != len(schema.Messages) {
		t.Errorf("%d templates in the samples, %d in the schema", len(frames), len(schema.Messages))
	}
}
