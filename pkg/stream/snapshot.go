package stream

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// The kinds of md.snapshots.
const (
	KindInstrument uint8 = 0   // an InstrumentSnapshot
	KindBars       uint8 = 1   // KindBars + interval: a complete block of closed bars, in slot Block
	KindCheckpoint uint8 = 100 // the ingest's state of the partition; opaque here, but see Snapshot.EventsOffset
	KindMarker     uint8 = 101 // an owner's marker
	KindLogID      uint8 = 102 // the log's name, in partition 0
)

// BarBlocks is how many blocks of closed bars are kept per instrument and interval.
const BarBlocks = 16

// blockKind tells kinds whose slot is the number of a block, written once, from those that alternate between two slots.
func blockKind(kind uint8) bool {
	return kind >= KindBars && kind < KindBars+uint8(market.NumIntervals)
}

// Snapshot is a piece of state in md.snapshots.
type Snapshot struct {
	Inst  uint32 // 0 for what belongs to the partition
	Kind  uint8
	Block uint8 // of a bars kind: the block's number modulo BarBlocks
	// EventsOffset says that the state includes every event below it; events at or above it may be included too, which
	// their sequences tell. In a checkpoint it holds for the whole partition: all snapshots together include every event
	// below it, so that readers replay md.events from there.
	EventsOffset int64
	InputOffset  int64 // the last input applied to the state
	OwnerEpoch   int64
	Version      uint16
	Payload      []byte
}

func (s *Snapshot) snapshotID() snapshotID {
	id := snapshotID{inst: s.Inst, kind: s.Kind}
	if blockKind(s.Kind) {
		id.block = s.Block
	}
	return id
}

// snapshotID is what has one newest snapshot.
type snapshotID struct {
	inst  uint32
	kind  uint8
	block uint8
}

// slotKey is the part of a record key that the parts of a snapshot share.
type slotKey struct {
	inst uint32
	kind uint8
	slot uint8
}

// append appends the record key of a part.
func (k slotKey) append(dst []byte, part uint16) []byte {
	dst = append(dst, k.kind)
	dst = binary.BigEndian.AppendUint32(dst, k.inst)
	dst = append(dst, k.slot)
	return binary.BigEndian.AppendUint16(dst, part)
}

// appendMarkerKey appends a marker's record key. It holds the owner epoch, so that compaction keeps every marker: parts of
// a fenced owner are told by the marker that stands before them.
func appendMarkerKey(dst []byte, epoch int64) []byte {
	return binary.BigEndian.AppendUint64(slotKey{kind: KindMarker}.append(dst, 0), uint64(epoch))
}

func newLogID() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// snapshotSet assembles the snapshots of one partition from the records of md.snapshots, in log order.
type snapshotSet struct {
	epoch   int64 // newest marker so far
	markers []int64
	logID   string
	parts   map[slotKey]*partSet
	dropped uint64 // parts of fenced owners, and records that can't be read
}

type partSet struct {
	head    wire.SnapshotPart // without payload
	payload [][]byte
	have    int
	highest uint16 // parts that the slot has ever held, as far as seen
}

func newSnapshotSet() *snapshotSet {
	return &snapshotSet{epoch: -1, parts: make(map[slotKey]*partSet)}
}

// add takes one record; its bytes are copied.
func (s *snapshotSet) add(rec *Record) {
	if rec.Value == nil {
		return // a deleted part is one that no newer snapshot needs
	}
	if len(rec.Key) > 0 && rec.Key[0] == KindLogID {
		var id wire.LogID
		if wire.DecodeLogID(rec.Value, &id) == nil {
			s.logID = id.ID
		}
		return
	}
	var part wire.SnapshotPart
	if wire.DecodeSnapshotPart(rec.Value, &part) != nil || part.OwnerEpoch < s.epoch {
		s.dropped++
		return
	}
	if part.Kind == KindMarker {
		s.epoch = part.OwnerEpoch
		s.markers = append(s.markers, part.OwnerEpoch)
		return
	}
	s.addPart(&part)
}

func (s *snapshotSet) addPart(part *wire.SnapshotPart) {
	key := slotKey{part.Inst, part.Kind, part.Slot}
	set := s.parts[key]
	if set == nil {
		set = new(partSet)
		s.parts[key] = set
	}
	set.highest = max(set.highest, part.Parts)
	if !set.holds(part) {
		set.head = *part
		set.head.Payload = nil
		set.payload, set.have = make([][]byte, part.Parts), 0
	}
	i := part.Part - 1
	if set.payload[i] == nil {
		set.have++
	}
	set.payload[i] = append(make([]byte, 0, len(part.Payload)), part.Payload...)
}

// holds tells whether the part belongs to the snapshot at hand.
func (p *partSet) holds(part *wire.SnapshotPart) bool {
	h := &p.head
	return h.EventsOffset == part.EventsOffset && h.InputOffset == part.InputOffset && h.OwnerEpoch == part.OwnerEpoch &&
		h.Parts == part.Parts && h.Version == part.Version
}

func (p *partSet) complete() bool { return p.have > 0 && p.have == len(p.payload) }

type slottedSnapshot struct {
	Snapshot
	slot uint8
}

// newest picks the newest complete snapshot of each kind, in order of instrument, kind and block.
func (s *snapshotSet) newest() []slottedSnapshot {
	best := make(map[snapshotID]*partSet, len(s.parts))
	for key, set := range s.parts {
		if !set.complete() {
			continue
		}
		id := snapshotID{inst: key.inst, kind: key.kind}
		if blockKind(key.kind) {
			id.block = key.slot
		}
		if old := best[id]; old == nil || set.newer(old) {
			best[id] = set
		}
	}
	list := make([]slottedSnapshot, 0, len(best))
	for id, set := range best {
		list = append(list, slottedSnapshot{slot: set.head.Slot, Snapshot: set.snapshot(id)})
	}
	slices.SortFunc(list, func(a, b slottedSnapshot) int {
		switch {
		case a.Inst != b.Inst:
			return int(int64(a.Inst) - int64(b.Inst))
		case a.Kind != b.Kind:
			return int(a.Kind) - int(b.Kind)
		}
		return int(a.Block) - int(b.Block)
	})
	return list
}

func (p *partSet) newer(o *partSet) bool {
	if p.head.EventsOffset != o.head.EventsOffset {
		return p.head.EventsOffset > o.head.EventsOffset
	}
	return p.head.InputOffset > o.head.InputOffset
}

func (p *partSet) snapshot(id snapshotID) Snapshot {
	payload := p.payload[0]
	if len(p.payload) > 1 {
		payload = slices.Concat(p.payload...)
	}
	return Snapshot{
		Inst: id.inst, Kind: id.kind, Block: id.block, EventsOffset: p.head.EventsOffset, InputOffset: p.head.InputOffset,
		OwnerEpoch: p.head.OwnerEpoch, Version: p.head.Version, Payload: payload,
	}
}

// readSnapshots reads a partition of md.snapshots from its beginning up to end. Compaction may move the beginning away
// under the reader, who then starts over.
func (c *Cluster) readSnapshots(ctx context.Context, partition int, end int64) (*snapshotSet, error) {
	for {
		first, _, err := c.Offsets(ctx, c.topics.Snapshots, partition)
		if err != nil {
			return nil, err
		}
		set := newSnapshotSet()
		err = c.readInto(ctx, set, partition, first, end)
		if !errors.Is(err, ErrOffsetOutOfRange) {
			return set, err
		}
		if err := sleep(ctx, retryPause); err != nil {
			return nil, err
		}
	}
}

func (c *Cluster) readInto(ctx context.Context, set *snapshotSet, partition int, first, end int64) error {
	f := c.Fetcher(c.topics.Snapshots, partition, first)
	defer f.Close()
	var rec Record
	for f.Offset() < end {
		b, err := f.Next(ctx)
		if err != nil {
			return err
		}
		for b.Next(&rec) {
			set.add(&rec)
		}
		if err := b.Err(); err != nil {
			return err
		}
	}
	return nil
}
