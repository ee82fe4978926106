package book

import (
	"math/bits"

	"github.com/tickwire/tickwire/pkg/market"
)

// The seeds and multipliers of the two lanes. The lanes differ in their multipliers as well as in their seeds, so that no
// collision is common to both by construction.
const (
	seedLo, seedHi     = 0x9747b28c, 0x3c6ef372
	mulLo1, mulLo2     = 0xcc9e2d51, 0x1b873593
	mulHi1, mulHi2     = 0x239b961b, 0xab0e9789
	murmurAdd          = 0xe6546b64
	fmixMul1, fmixMul2 = 0x85ebca6b, 0xc2b2ae35
)

// Mix64 is the hash of one level; a book's hash is the sum of its levels' hashes modulo 2^64. It consists of two lanes of
// 32 bits (hi<<32 | lo), each the MurmurHash3_x86_32 construction over the words [price_lo, price_hi, size_lo, size_hi] in
// two's complement, with the side in the seed, so that a browser can compute it with Math.imul alone.
func Mix64(side market.Side, p market.Price, s market.Size) uint64 {
	return hashPrice(side, p).size(s)
}

// lanes is the hash of a level before its last words.
type lanes struct{ lo, hi uint32 }

// hashPrice takes the price in: what the hashes of a level before and after a change have in common.
func hashPrice(side market.Side, p market.Price) lanes {
	l := lanes{uint32(seedLo) ^ uint32(side), uint32(seedHi) ^ uint32(side)}
	return l.word(uint32(p)).word(uint32(uint64(p) >> 32))
}

// size takes the size in and ends the hash.
func (l lanes) size(s market.Size) uint64 {
	l = l.word(uint32(s)).word(uint32(uint64(s) >> 32))
	return uint64(fmix(l.hi))<<32 | uint64(fmix(l.lo))
}

func (l lanes) word(k uint32) lanes {
	return lanes{
		round(l.lo, bits.RotateLeft32(k*mulLo1, 15)*mulLo2),
		round(l.hi, bits.RotateLeft32(k*mulHi1, 15)*mulHi2),
	}
}

// difference is what a book's hash gains when a level's size changes.
func difference(side market.Side, p market.Price, from, to market.Size) (sum uint64) {
	l := hashPrice(side, p)
	if to != 0 {
		sum = l.size(to)
	}
	if from != 0 {
		sum -= l.size(from)
	}
	return sum
}

func round(h, k uint32) uint32 { return bits.RotateLeft32(h^k, 13)*5 + murmurAdd }

// fmix is MurmurHash3's end: the length in bytes, then the avalanche.
func fmix(h uint32) uint32 {
	h ^= 16
	h ^= h >> 16
	h *= fmixMul1
	h ^= h >> 13
	h *= fmixMul2
	return h ^ h>>16
}

// HashLevels is the hash of a book that consists of these levels, in any order. Levels of size 0 do not count.
func HashLevels(bids, asks []market.Level) uint64 {
	return sumLevels(market.Bid, bids) + sumLevels(market.Ask, asks)
}

func sumLevels(side market.Side, levels []market.Level) (sum uint64) {
	for _, l := range levels {
		if l.Size != 0 {
			sum += Mix64(side, l.Price, l.Size)
		}
	}
	return sum
}
