package wire_test

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// mix64 is the level hash as docs/PROTOCOL.md specifies it, written for reading.
func mix64(side market.Side, price market.Price, size market.Size) uint64 {
	lo := lane(0x9747b28c^uint32(side), 0xcc9e2d51, 0x1b873593, uint64(price), uint64(size))
	hi := lane(0x3c6ef372^uint32(side), 0x239b961b, 0xab0e9789, uint64(price), uint64(size))
	return uint64(hi)<<32 | uint64(lo)
}

func lane(h, c1, c2 uint32, price, size uint64) uint32 {
	for _, k := range [4]uint32{uint32(price), uint32(price >> 32), uint32(size), uint32(size >> 32)} {
		k = bits.RotateLeft32(k*c1, 15) * c2
		h = bits.RotateLeft32(h^k, 13)*5 + 0xe6546b64
	}
	h ^= 16
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

func hashOf(bids, asks []market.Level) (sum uint64) {
	for _, l := range bids {
		sum += mix64(market.Bid, l.Price, l.Size)
	}
	for _, l := range asks {
		sum += mix64(market.Ask, l.Price, l.Size)
	}
	return sum
}

// TestHashVectors publishes the vectors of the level hash, and holds package book, the golden messages and the
// specification to the same ones.
func TestHashVectors(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("| side | price | size | mix64 |\n|---|---|---|---|\n")
	for _, l := range []market.Level{
		{Price: 1, Size: 1},
		{Price: 1, Size: 2},
		{Price: 2, Size: 1},
		{Price: 6_173_763, Size: 40_000},
		{Price: 1 << 32, Size: 1},
		{Price: 1, Size: 1 << 32},
		{Price: 0x0123456789abcdef, Size: 0x7edcba9876543210},
		{Price: math.MaxInt64, Size: math.MaxInt64},
	} {
		for side, name := range []string{"bid", "ask"} {
			sum := mix64(market.Side(side), l.Price, l.Size)
			if got := book.Mix64(market.Side(side), l.Price, l.Size); got != sum {
				t.Errorf("%s %v: package book says %016x, the vector is %016x", name, l, got, sum)
			}
			fmt.Fprintf(&doc, "| %s | %d | %d | `%016x` |\n", name, l.Price, l.Size, sum)
		}
	}
	golden(t, "hash.md", []byte(doc.String()))
	if got, want := book.HashLevels(bids, asks), hashOf(bids, asks); got != want {
		t.Errorf("package book says %016x of the golden view, it should be %016x", got, want)
	}
}
