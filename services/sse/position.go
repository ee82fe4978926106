package sse

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"strings"
)

// The ids of events name a place in md.events, not in this edge's memory, so that any edge can go on from them: the log id,
// a dot, and in base64url the partitions of the view as a bitmap (its length in bytes, then the bytes, least significant
// partition first) and the offset of the newest event of each as a varint. A view without positions has "s" instead.

const (
	maxID         = 200
	maxPartitions = 16 // of a view with positions, so that its ids stay below maxID
	noPosition    = "s"
)

// position is the offset of the newest event in each of some partitions, which are in ascending order.
type position struct {
	parts   []int
	offsets []int64
}

// appendID appends the id of the place.
func (p position) appendID(dst []byte, logID string) []byte {
	dst = append(append(dst, logID...), '.')
	if len(p.parts) == 0 {
		return append(dst, noPosition...)
	}
	var room [maxID]byte
	return base64.RawURLEncoding.AppendEncode(dst, p.appendBinary(room[:0]))
}

func (p position) appendBinary(b []byte) []byte {
	n := p.parts[len(p.parts)-1]/8 + 1
	b = append(b, byte(n))
	at := len(b)
	for range n {
		b = append(b, 0)
	}
	for _, part := range p.parts {
		b[at+part/8] |= 1 << (part % 8)
	}
	for _, o := range p.offsets {
		b = binary.AppendUvarint(b, uint64(o))
	}
	return b
}

// parseID takes an id apart. A place without positions has none; ok is false for what no edge can have sent.
func parseID(id string) (logID string, p position, ok bool) {
	logID, rest, found := strings.Cut(id, ".")
	if !found || logID == "" || len(id) > maxID {
		return "", p, false
	}
	if rest == noPosition {
		return logID, p, true
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || strings.ContainsAny(rest, "\r\n") || // which the decoder lets pass
		len(b) < 2 || b[0] == 0 || len(b) < int(b[0])+1 {
		return "", p, false
	}
	bitmap, b := b[1:1+int(b[0])], b[1+int(b[0]):]
	for i, octet := range bitmap {
		for ; octet != 0; octet &= octet - 1 {
			p.parts = append(p.parts, 8*i+bits.TrailingZeros8(octet))
		}
	}
	for range p.parts {
		o, n := binary.Uvarint(b)
		if n <= 0 || o >= 1<<62 {
			return "", position{}, false
		}
		p.offsets = append(p.offsets, int64(o))
		b = b[n:]
	}
	if len(b) > 0 || len(p.parts) == 0 || len(p.parts) > maxPartitions {
		return "", position{}, false
	}
	return logID, p, true
}

// of returns the offset of a partition.
func (p position) of(part int) (offset int64, ok bool) {
	for i, n := range p.parts {
		if n == part {
			return p.offsets[i], true
		}
	}
	return 0, false
}

// at returns the place restricted to some partitions. It fails when it lacks one of them.
func (p position) at(parts []int) (position, bool) {
	q := position{parts: parts, offsets: make([]int64, len(parts))}
	for i, n := range parts {
		var ok bool
		if q.offsets[i], ok = p.of(n); !ok {
			return position{}, false
		}
	}
	return q, true
}

func (p position) clone() position {
	return position{p.parts, append([]int64(nil), p.offsets...)} // which partitions does not change
}

// longest is how long the ids of the partitions become within the next years: a log of ten million records a second in each.
func (p position) longest() int {
	q := position{parts: p.parts, offsets: make([]int64, len(p.parts))}
	for i := range q.offsets {
		q.offsets[i] = 1 << 48
	}
	return len(q.appendID(nil, "12345678"))
}
