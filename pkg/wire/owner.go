package wire

import (
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// Block lengths of the owner records, as in tickwire.xml.
const (
	markerLen    = 6
	heartbeatLen = 36
	batchLen     = 22
	sourceLen    = 8
	partLen      = 36
	logIDLen     = 0
)

// OwnerBatchLen is the length of every OwnerBatch message, so that a writer can reserve its place and fill it in when the
// batch is closed.
const OwnerBatchLen = headerLen + batchLen

const (
	maxInstance = 255
	maxSource   = 255
	maxLogID    = 64
	maxPayload  = 1 << 30
)

// OwnerMarker is written to md.events and md.snapshots by a process that takes over a partition. Its offset is the owner
// epoch: readers drop batches of a lower one.
type OwnerMarker struct {
	Partition uint32
	Version   uint16 // of the algorithm
	Instance  string // who, for operators
}

// AppendOwnerMarker appends m as an OwnerMarker.
func AppendOwnerMarker(dst []byte, m *OwnerMarker) []byte {
	dst, b := begin(dst, TemplateOwnerMarker, markerLen)
	le.PutUint32(b, m.Partition)
	le.PutUint16(b[4:], m.Version)
	return appendText(dst, m.Instance[:min(len(m.Instance), maxInstance)])
}

// DecodeOwnerMarker reads an OwnerMarker into m.
func DecodeOwnerMarker(b []byte, m *OwnerMarker) error {
	f, c := open(b, TemplateOwnerMarker, markerLen)
	if c.err != nil {
		return c.err
	}
	m.Partition, m.Version = le.Uint32(f), le.Uint16(f[4:])
	m.Instance = keep(m.Instance, c.text(maxInstance))
	return c.close()
}

// SourceClock is the newest event time known of a source.
type SourceClock struct {
	Source string
	Last   market.Time
}

// OwnerHeartbeat is written each second by the loop that applies input. Edges derive liveness from it.
type OwnerHeartbeat struct {
	Partition   uint32
	OwnerEpoch  int64
	InputOffset int64 // the last one applied
	InputLag    int64 // records of md.raw not yet applied
	Time        market.Time
	Sources     []SourceClock
}

// AppendOwnerHeartbeat appends m as an OwnerHeartbeat.
func AppendOwnerHeartbeat(dst []byte, m *OwnerHeartbeat) []byte {
	if len(m.Sources) > MaxGroup {
		panic("wire: more sources than an SBE group holds")
	}
	dst, b := begin(dst, TemplateOwnerHeartbeat, heartbeatLen)
	le.PutUint64(b, uint64(m.OwnerEpoch))
	le.PutUint64(b[8:], uint64(m.InputOffset))
	le.PutUint64(b[16:], uint64(m.InputLag))
	le.PutUint64(b[24:], uint64(m.Time.Micros()))
	le.PutUint32(b[32:], m.Partition)
	dst = le.AppendUint16(dst, sourceLen)
	dst = le.AppendUint16(dst, uint16(len(m.Sources)))
	for i := range m.Sources {
		s := &m.Sources[i]
		dst = le.AppendUint64(dst, uint64(s.Last.Micros()))
		dst = appendText(dst, s.Source[:min(len(s.Source), maxSource)])
	}
	return dst
}

// DecodeOwnerHeartbeat reads an OwnerHeartbeat into m, reusing the memory of its sources.
func DecodeOwnerHeartbeat(b []byte, m *OwnerHeartbeat) error {
	f, c := open(b, TemplateOwnerHeartbeat, heartbeatLen)
	if c.err != nil {
		return c.err
	}
	m.OwnerEpoch, m.InputOffset = int64(le.Uint64(f)), int64(le.Uint64(f[8:]))
	m.InputLag, m.Partition = int64(le.Uint64(f[16:])), le.Uint32(f[32:])
	m.Time = c.time(f[24:])
	block, n := c.group(sourceLen)
	if c.err != nil {
		return c.err
	}
	m.Sources = slices.Grow(m.Sources[:0], n)[:n]
	for i := range m.Sources {
		entry := c.take(block, sourceLen)
		if c.err != nil {
			return c.err
		}
		m.Sources[i].Last = c.time(entry)
		m.Sources[i].Source = keep(m.Sources[i].Source, c.text(maxSource))
	}
	return c.close()
}

// OwnerBatch is the first record of every batch in md.events: it says whose batch it is and up to which input it goes. A
// writer appends it first and appends it again over the same bytes when the batch is closed.
type OwnerBatch struct {
	Partition   uint32
	OwnerEpoch  int64
	InputOffset int64 // last input whose output the batch completes
	Version     uint16
}

// AppendOwnerBatch appends m as an OwnerBatch, OwnerBatchLen bytes.
func AppendOwnerBatch(dst []byte, m *OwnerBatch) []byte {
	dst, b := begin(dst, TemplateOwnerBatch, batchLen)
	le.PutUint64(b, uint64(m.OwnerEpoch))
	le.PutUint64(b[8:], uint64(m.InputOffset))
	le.PutUint32(b[16:], m.Partition)
	le.PutUint16(b[20:], m.Version)
	return dst
}

// DecodeOwnerBatch reads an OwnerBatch into m.
func DecodeOwnerBatch(b []byte, m *OwnerBatch) error {
	f, c := open(b, TemplateOwnerBatch, batchLen)
	if c.err != nil {
		return c.err
	}
	m.OwnerEpoch, m.InputOffset = int64(le.Uint64(f)), int64(le.Uint64(f[8:]))
	m.Partition, m.Version = le.Uint32(f[16:]), le.Uint16(f[20:])
	return c.close()
}

// SnapshotPart is a record of md.snapshots: one part of a piece of state. Readers take the complete slot with the greatest
// EventsOffset.
type SnapshotPart struct {
	Inst         uint32
	Kind         uint8 // what the payload is; package stream knows
	Slot         uint8
	Part         uint16 // counts from 1
	Parts        uint16
	EventsOffset int64
	InputOffset  int64
	OwnerEpoch   int64
	Version      uint16 // of the algorithm
	Payload      []byte
}

// AppendSnapshotPart appends m as a SnapshotPart.
func AppendSnapshotPart(dst []byte, m *SnapshotPart) []byte {
	if len(m.Payload) > maxPayload {
		panic("wire: payload of a snapshot part is too long")
	}
	dst, b := begin(dst, TemplateSnapshotPart, partLen)
	le.PutUint64(b, uint64(m.EventsOffset))
	le.PutUint64(b[8:], uint64(m.InputOffset))
	le.PutUint64(b[16:], uint64(m.OwnerEpoch))
	le.PutUint32(b[24:], m.Inst)
	le.PutUint16(b[28:], m.Part)
	le.PutUint16(b[30:], m.Parts)
	le.PutUint16(b[32:], m.Version)
	b[34], b[35] = m.Kind, m.Slot
	dst = le.AppendUint32(dst, uint32(len(m.Payload)))
	return append(dst, m.Payload...)
}

// DecodeSnapshotPart reads a SnapshotPart into m. The payload aliases b.
func DecodeSnapshotPart(b []byte, m *SnapshotPart) error {
	f, c := open(b, TemplateSnapshotPart, partLen)
	if c.err != nil {
		return c.err
	}
	m.EventsOffset, m.InputOffset, m.OwnerEpoch = int64(le.Uint64(f)), int64(le.Uint64(f[8:])), int64(le.Uint64(f[16:]))
	m.Inst, m.Part, m.Parts, m.Version = le.Uint32(f[24:]), le.Uint16(f[28:]), le.Uint16(f[30:]), le.Uint16(f[32:])
	m.Kind, m.Slot = f[34], f[35]
	if m.Part < 1 || m.Part > m.Parts {
		return ErrValue
	}
	if len(c.rest) < 4 {
		return ErrShort
	}
	n := uint64(le.Uint32(c.rest))
	switch {
	case n > maxPayload:
		return ErrValue
	case n > uint64(len(c.rest)-4):
		return ErrShort
	}
	m.Payload = c.rest[4 : 4+n : 4+n]
	c.rest = c.rest[4+n:]
	return c.close()
}

// LogID names one life of md.events: 8 random base32 characters, written once when the Kafka topic is created.
type LogID struct{ ID string }

// AppendLogID appends m as a LogId.
func AppendLogID(dst []byte, m *LogID) []byte {
	dst, _ = begin(dst, TemplateLogID, logIDLen)
	return appendText(dst, m.ID[:min(len(m.ID), maxLogID)])
}

// DecodeLogID reads a LogId into m.
func DecodeLogID(b []byte, m *LogID) error {
	_, c := open(b, TemplateLogID, logIDLen)
	id := c.text(maxLogID)
	if c.err == nil && len(id) == 0 {
		c.err = ErrValue
	}
	if c.err != nil {
		return c.err
	}
	m.ID = keep(m.ID, id)
	return c.close()
}
