package wire_test

import (
	"math/bits"

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
