package rule

import (
	"encoding/binary"

	"github.com/tickwire/tickwire/pkg/market"
)

// reader takes values off b. What is wrong sets bad and empties b, and from then on every value is 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) check(ok bool) {
	if !ok {
		r.b, r.bad = nil, true
	}
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if r.bad {
		return 0
	}
	return b[0]
}

func (r *reader) bytes(n uint64) []byte {
	r.check(n <= uint64(len(r.b)))
	if r.bad {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// uvarint takes a number in its shortest form, at most limit.
func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	r.check(n == 1 || n > 1 && r.b[n-1] != 0)
	r.check(v <= limit)
	if r.bad {
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint(1<<64 - 1)
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) sequence() market.Sequence {
	return market.Sequence{Epoch: uint32(r.uvarint(1<<32 - 1)), Seq: r.uvarint(1<<64 - 1)}
}

func appendSequence(dst []byte, s market.Sequence) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(s.Epoch)), s.Seq)
}
