package sim

import (
	"math/bits"
	"math/rand/v2"
)

// All randomness is integer arithmetic on PCG, whose stream is specified: floats may differ in the last bit between
// processors (fused multiply-add, assembly versions of exp and log), and one bit would make another market.

// source is the randomness of one instrument.
type source struct{ pcg rand.PCG }

func (r *source) next() uint64 { return r.pcg.Uint64() }

// below returns a uniform number in [0, n).
func (r *source) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.next(), n)
	return hi
}

// chance is true with the probability of n in 256.
func (r *source) chance(n uint64) bool { return r.next()>>56 < n }

// one is 1 in the fixed-point format of this file, 16 bits behind the point.
const one = 1 << 16

// exponential returns an exponentially distributed number with the mean 1 (one), as -ln of a uniform number. That has the
// form 2^-(k+1) * (1+m): k zeros lead its bits, m are the bits after. log2(1+m) is m + 0.3436 m(1-m) to within 0.01, and
// with that factor the mean is exact.
func (r *source) exponential() uint64 {
	u := r.next() | 1
	k := uint64(bits.LeadingZeros64(u))
	m := u << (k + 1) >> 48
	log2 := m + (m*(one-m)>>16*22519)>>16
	const ln2 = 45426
	return ((k+1)*one - log2) * ln2 >> 16
}

// pareto returns a number with the tail P(X > x) = x^-1.5, at least 1 (one) and below 2^16: each further leading zero
// bit halves the probability and multiplies the number by 2^(2/3); in between it is linear.
func (r *source) pareto() uint64 {
	u := r.next() | 1
	k := min(uint64(bits.LeadingZeros64(u)), 23)
	m := u << (k + 1) >> 48
	low, high := octave(k), octave(k+1)
	return low + (high-low)*(one-m)>>16
}

// octave returns 2^(2k/3).
func octave(k uint64) uint64 {
	third := [3]uint64{65536, 104032, 165140} // 2^(0, 2/3, 4/3)
	return third[k%3] << (k / 3 * 2)
}

// rank returns a place in [0, n), small ones being likelier: near the top of the book most happens. A number of zero bits
// picks a range of doubling width, and the place is uniform in it.
func (r *source) rank(n int) int {
	u := r.next()
	width := uint64(4) << bits.TrailingZeros16(uint16(u)|1<<8)
	return int(min((u>>16)*width>>48, uint64(n-1)))
}

// bell returns a roughly normal number with the mean 0 and the standard deviation 4, in [-32, 32].
func (r *source) bell() int64 { return int64(bits.OnesCount64(r.next())) - 32 }

// halvings is 2^(-i/256) with 32 bits behind the point.
var halvings = makeHalvings()

// makeHalvings multiplies up 2^(-1/256) with 63 bits behind the point.
func makeHalvings() (t [256]uint64) {
	const root = 9198432556164277330
	v := uint64(1 << 63)
	for i := range t {
		t[i] = v >> 31
		hi, lo := bits.Mul64(v, root)
		v = hi<<1 | lo>>63
	}
	return t
}

// decay returns v * 2^(-x), x with 16 bits behind the point.
func decay(v, x uint64) uint64 {
	if x >= 63*one {
		return 0
	}
	hi, lo := bits.Mul64(v, halvings[x>>8&255])
	return (hi<<32 | lo>>32) >> (x >> 16)
}
