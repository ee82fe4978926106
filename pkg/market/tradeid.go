package market

import "math"

// MaxTradeID is the greatest length of a venue's trade id, in bytes.
const MaxTradeID = 40

// TradeID is a venue's trade id, held by value: comparable, usable as a map key, and free of allocation. The zero value
// is no id.
type TradeID struct {
	n uint8
	b [MaxTradeID]byte
}

// MakeTradeID copies an id; ok is false when it is longer than MaxTradeID.
func MakeTradeID[T ~string | ~[]byte](s T) (id TradeID, ok bool) {
	if len(s) > MaxTradeID {
		return TradeID{}, false
	}
	id.n = uint8(copy(id.b[:], s))
	return id, true
}

// NumericTradeID is the id whose text is the decimal form of v.
func NumericTradeID(v uint64) (id TradeID) {
	i := len(id.b)
	var text [MaxTradeID]byte
	for {
		i--
		text[i] = byte('0' + v%10)
		v /= 10
		if v == 0 {
			break
		}
	}
	id.n = uint8(copy(id.b[:], text[i:]))
	return id
}

// Append appends the id's text.
func (id *TradeID) Append(dst []byte) []byte { return append(dst, id.b[:id.n]...) }

// Len returns the length of the id's text in bytes.
func (id *TradeID) Len() int { return int(id.n) }

// String returns the id's text.
func (id TradeID) String() string { return string(id.b[:id.n]) }

// Number returns the id as a number when its text is one, in its shortest form.
func (id *TradeID) Number() (v uint64, ok bool) {
	if id.n == 0 || id.n > 20 || id.n > 1 && id.b[0] == '0' {
		return 0, false
	}
	for _, c := range id.b[:id.n] {
		if c -= '0'; c > 9 || v > (math.MaxUint64-uint64(c))/10 {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	return v, true
}
