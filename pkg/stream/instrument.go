package stream

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// InstrumentSnapshot is the payload of KindInstrument: all that a reader needs to go on with an instrument, and what only the
// ingest needs.
type InstrumentSnapshot struct {
	Status    market.Status
	Book      *market.Snapshot // the whole book in one part, best first; nil when there is none
	BookSeq   market.Sequence
	TradesSeq market.Sequence
	BarsSeq   [market.NumIntervals]market.Sequence
	Series    []byte       // pkg/bar's binary form
	Bars      []market.Bar // closed bars that no complete block holds yet
	Private   []byte       // the ingest's own
}

// The sections of the payload: a tag, a length, and bytes. Readers skip tags they do not know.
const (
	instrumentFormat = 1

	sectionStatus  = 1 // an SBE Status
	sectionBook    = 2 // an SBE BookSnapshot; repeated for the parts
	sectionSeqs    = 3 // book, trades, then the bars of each interval: epoch, seq
	sectionSeries  = 4
	sectionBar     = 5 // an SBE Bar; repeated
	sectionPrivate = 6
)

var errInstrumentSnapshot = errors.New("malformed instrument snapshot")

// Append appends the payload's bytes to dst.
func (s *InstrumentSnapshot) Append(dst []byte) []byte {
	dst = append(dst, instrumentFormat)
	dst = section(dst, sectionStatus, func(dst []byte) []byte { return wire.AppendStatus(dst, &s.Status) })
	if s.Book != nil {
		dst = appendBook(dst, s.Book)
	}
	dst = section(dst, sectionSeqs, s.appendSequences)
	if len(s.Series) > 0 {
		dst = section(dst, sectionSeries, func(dst []byte) []byte { return append(dst, s.Series...) })
	}
	for i := range s.Bars {
		dst = section(dst, sectionBar, func(dst []byte) []byte { return wire.AppendBar(dst, &s.Bars[i]) })
	}
	if len(s.Private) > 0 {
		dst = section(dst, sectionPrivate, func(dst []byte) []byte { return append(dst, s.Private...) })
	}
	return dst
}

// section appends a tagged section around what body appends.
func section(dst []byte, tag byte, body func([]byte) []byte) []byte {
	at := len(dst)
	dst = body(append(dst, tag, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-5))
	return dst
}

// appendBook cuts the book into parts as md.events does: bids first, then asks.
func appendBook(dst []byte, book *market.Snapshot) []byte {
	part := *book
	bids, asks := book.Bids, book.Asks
	part.Parts = uint16(max(1, (len(bids)+len(asks)+market.MaxSnapshotLevels-1)/market.MaxSnapshotLevels))
	for i := range part.Parts {
		b := min(len(bids), market.MaxSnapshotLevels)
		a := min(len(asks), market.MaxSnapshotLevels-b)
		part.Bids, bids = bids[:b], bids[b:]
		part.Asks, asks = asks[:a], asks[a:]
		part.Part = i + 1
		part.Hash = market.Hash{}
		if part.Part == part.Parts {
			part.Hash = book.Hash
		}
		dst = section(dst, sectionBook, func(dst []byte) []byte { return wire.AppendSnapshot(dst, &part) })
	}
	return dst
}

func (s *InstrumentSnapshot) appendSequences(dst []byte) []byte {
	dst = appendSequence(dst, s.BookSeq)
	dst = appendSequence(dst, s.TradesSeq)
	for _, seq := range s.BarsSeq {
		dst = appendSequence(dst, seq)
	}
	return dst
}

const sequenceLen = 12

func appendSequence(dst []byte, s market.Sequence) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, s.Epoch)
	return binary.LittleEndian.AppendUint64(dst, s.Seq)
}

func sequence(b []byte) market.Sequence {
	return market.Sequence{Epoch: binary.LittleEndian.Uint32(b), Seq: binary.LittleEndian.Uint64(b[4:])}
}

// Decode reads a payload into s. Series and Private alias b.
func (s *InstrumentSnapshot) Decode(b []byte) error {
	*s = InstrumentSnapshot{}
	if len(b) == 0 || b[0] != instrumentFormat {
		return fmt.Errorf("%w: unknown format", errInstrumentSnapshot)
	}
	b = b[1:]
	for len(b) > 0 {
		if len(b) < 5 {
			return errInstrumentSnapshot
		}
		tag, n := b[0], binary.LittleEndian.Uint32(b[1:])
		if uint64(n) > uint64(len(b)-5) {
			return errInstrumentSnapshot
		}
		if err := s.decodeSection(tag, b[5:5+n:5+n]); err != nil {
			return fmt.Errorf("%w: section %d: %w", errInstrumentSnapshot, tag, err)
		}
		b = b[5+n:]
	}
	if s.Status.Instrument.ID == 0 {
		return fmt.Errorf("%w: no status", errInstrumentSnapshot)
	}
	if s.Book != nil && s.Book.Part != s.Book.Parts {
		return fmt.Errorf("%w: incomplete book", errInstrumentSnapshot)
	}
	if s.Book != nil {
		s.Book.Part, s.Book.Parts = 1, 1
	}
	return nil
}

func (s *InstrumentSnapshot) decodeSection(tag byte, b []byte) error {
	switch tag {
	case sectionStatus:
		return wire.DecodeStatus(b, &s.Status)
	case sectionBook:
		return s.decodeBookPart(b)
	case sectionSeqs:
		return s.decodeSequences(b)
	case sectionSeries:
		s.Series = b
	case sectionBar:
		var bar market.Bar
		if err := wire.DecodeBar(b, &bar); err != nil {
			return err
		}
		s.Bars = append(s.Bars, bar)
	case sectionPrivate:
		s.Private = b
	}
	return nil
}

func (s *InstrumentSnapshot) decodeBookPart(b []byte) error {
	var part market.Snapshot
	if err := wire.DecodeSnapshot(b, &part); err != nil {
		return err
	}
	expected := uint16(1)
	if s.Book != nil {
		expected = s.Book.Part + 1
		part.Bids = append(s.Book.Bids, part.Bids...)
		part.Asks = append(s.Book.Asks, part.Asks...)
	}
	if part.Part != expected {
		return errors.New("parts out of order")
	}
	s.Book = &part
	return nil
}

func (s *InstrumentSnapshot) decodeSequences(b []byte) error {
	if len(b) < (2+len(s.BarsSeq))*sequenceLen {
		return errors.New("too short")
	}
	s.BookSeq, s.TradesSeq = sequence(b), sequence(b[sequenceLen:])
	b = b[2*sequenceLen:]
	for i := range s.BarsSeq {
		s.BarsSeq[i] = sequence(b[i*sequenceLen:])
	}
	return nil
}

// DecodeBars calls do with each bar of the payload of a KindBars snapshot, oldest first. The bar is do's for the call.
func DecodeBars(payload []byte, do func(*market.Bar) error) error {
	var bar market.Bar
	for len(payload) > 0 {
		n := barLen(payload)
		if err := wire.DecodeBar(payload[:n], &bar); err != nil {
			return err
		}
		if err := do(&bar); err != nil {
			return err
		}
		payload = payload[n:]
	}
	return nil
}

// barLen is the length of the SBE bar that b begins with: the header and the block, whose length the header says.
func barLen(b []byte) int {
	const header = 8
	if len(b) < header {
		return len(b)
	}
	return min(header+int(binary.LittleEndian.Uint16(b)), len(b))
}
