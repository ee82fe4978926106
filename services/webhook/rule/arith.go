package rule

import (
	"math"
	"math/bits"

	"github.com/tickwire/tickwire/pkg/market"
)

// u128 is an unsigned number of 128 bits.
type u128 struct{ hi, lo uint64 }

func product(a, b uint64) u128 {
	hi, lo := bits.Mul64(a, b)
	return u128{hi, lo}
}

func (a u128) add(b u128) u128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return u128{hi, lo}
}

func (a u128) sub(b u128) u128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return u128{hi, lo}
}

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// times multiplies by a number that the product has room for.
func (a u128) times(b uint64) u128 {
	p := product(a.lo, b)
	p.hi += a.hi * b
	return p
}

// over divides, rounding down. The divisor is not 0.
func (a u128) over(b u128) u128 {
	if b.hi == 0 {
		hi, rest := a.hi/b.lo, a.hi%b.lo
		lo, _ := bits.Div64(rest, a.lo, b.lo)
		return u128{hi, lo}
	}
	// The quotient fits 64 bits. Dividing by the divisor's upper 64 bits, of which the top one is set, gives it or one
	// more (Hacker's Delight, divlu).
	n := uint(bits.LeadingZeros64(b.hi))
	top := b.hi<<n | b.lo>>1>>(63-n)
	half := u128{a.hi >> 1, a.hi<<63 | a.lo>>1}
	q, _ := bits.Div64(half.hi, half.lo, top)
	q >>= 63 - n
	if q > 0 {
		q--
	}
	if !a.sub(b.times(q)).less(b) {
		q++
	}
	return u128{0, q}
}

// clamped returns the number with a sign, held at the ends of int64.
func (a u128) clamped(negative bool) int64 {
	switch {
	case negative && (a.hi != 0 || a.lo > 1<<63):
		return math.MinInt64
	case negative:
		return -int64(a.lo)
	case a.hi != 0 || a.lo > math.MaxInt64:
		return math.MaxInt64
	}
	return int64(a.lo)
}

// percent returns by how much value is above base in percent, with 4 decimals, rounded towards zero. Both are prices.
func percent(value, base market.Price) int64 {
	return market.MulDiv(int64(value-base), 1e6, int64(base))
}

// mid returns the mean of two prices at one decimal more.
func mid(bid, ask market.Price) int64 { return product(uint64(bid)+uint64(ask), 5).clamped(false) }

// spread returns the distance of two prices in basis points of their mean, with 4 decimals, rounded towards zero.
func spread(bid, ask market.Price) int64 {
	sum := uint64(bid) + uint64(ask)
	d, negative := uint64(ask-bid), false
	if ask < bid {
		d, negative = uint64(bid-ask), true
	}
	return product(d, 2e8).over(u128{0, sum}).clamped(negative)
}

// ratio returns (a/w1)/(b/w2) with 4 decimals, rounded down; b is not 0.
func ratio(a, b int64, w1, w2 uint16) int64 {
	return product(uint64(a), uint64(w2)*1e4).over(product(uint64(b), uint64(w1))).clamped(false)
}

// difference returns a/w1 - b/w2 with two decimals more, rounded towards zero.
func difference(a, b u128, w1, w2 uint16) int64 {
	a, b = a.times(uint64(w2)*100), b.times(uint64(w1)*100)
	negative := a.less(b)
	if negative {
		a, b = b, a
	}
	return a.sub(b).over(u128{0, uint64(w1) * uint64(w2)}).clamped(negative)
}
