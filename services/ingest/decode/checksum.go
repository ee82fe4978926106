package decode

import (
	"hash/crc32"
	"strconv"

	"github.com/tickwire/tickwire/pkg/market"
)

// checksumDepth is how many levels a side Kraken's checksum covers.
const checksumDepth = 10

// KrakenChecksum is the checksum that Kraken sends with its books: the CRC32 (IEEE) of the top ten asks from low to high,
// then of the top ten bids from high to low, each level written as price and size without decimal point and leading
// zeros. That is the mantissa, provided the instrument's scales are the decimals the venue writes. Levels are best first;
// those beyond the tenth are not looked at.
func KrakenChecksum(bids, asks []market.Level) uint32 {
	var text [40]byte // two numbers of at most 19 digits
	sum := uint32(0)
	for _, side := range [...][]market.Level{asks, bids} {
		for _, l := range side[:min(len(side), checksumDepth)] {
			b := strconv.AppendInt(text[:0], int64(l.Price), 10)
			b = strconv.AppendInt(b, int64(l.Size), 10)
			sum = crc32.Update(sum, crc32.IEEETable, b)
		}
	}
	return sum
}
