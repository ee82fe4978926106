package wire

import (
	"math/bits"
	"slices"

	"github.com/tickwire/tickwire/pkg/market"
)

// Books are long lists of short decimal numbers, so those have an encoder and a decoder of their own here. They agree with
// market.AppendFixed and market.ParseFixed, which do the same for everything else, and a test says so.

const pairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869" +
	"707172737475767778798081828384858687888990919293949596979899"

// maxLevelText is the greatest length of ,["price","size"] with 19 digits, a point and a sign each.
const maxLevelText = 2*21 + 8

// appendSide appends levels as a list without its brackets.
func appendSide(dst []byte, in *market.Instrument, levels []market.Level) []byte {
	n := len(dst)
	dst = slices.Grow(dst, len(levels)*maxLevelText)
	b := dst[:cap(dst)]
	for i := range levels {
		if i > 0 {
			b[n] = ','
			n++
		}
		n = putLevel(b, n, in, &levels[i])
	}
	return b[:n]
}

func appendLevel(dst []byte, in *market.Instrument, l market.Level) []byte {
	n := len(dst)
	dst = slices.Grow(dst, maxLevelText)
	b := dst[:cap(dst)]
	return b[:putLevel(b, n, in, &l)]
}

// putLevel writes ["price","size"] at b[n:] and returns where it ends.
func putLevel(b []byte, n int, in *market.Instrument, l *market.Level) int {
	_ = b[n+maxLevelText-2]
	b[n], b[n+1] = '[', '"'
	n = putFixed(b, n+2, int64(l.Price), int(in.PriceScale))
	b[n], b[n+1], b[n+2] = '"', ',', '"'
	n = putFixed(b, n+3, int64(l.Size), int(in.SizeScale))
	b[n], b[n+1] = '"', ']'
	return n + 2
}

// putFixed writes a mantissa as market.AppendFixed does, at b[n:], and returns where it ends.
func putFixed(b []byte, n int, v int64, scale int) int {
	u := uint64(v)
	if v < 0 {
		b[n] = '-'
		n++
		u = -u
	}
	for scale >= 4 && u%10_000 == 0 {
		u /= 10_000
		scale -= 4
	}
	for scale > 0 && u%10 == 0 {
		u /= 10
		scale--
	}
	end := n + max(digitCount(u), scale+1)
	if scale == 0 {
		putDigits(b[n:end], u)
		return end
	}
	whole := end - scale
	for i := end; i > whole; i -= 2 {
		q := u / 100
		r := (u - q*100) * 2
		if i == whole+1 { // an odd one is left
			q = u / 10
			b[i] = byte('0' + u - q*10)
			u = q
			break
		}
		b[i-1], b[i] = pairs[r], pairs[r+1]
		u = q
	}
	b[whole] = '.'
	putDigits(b[n:whole], u)
	return end + 1
}

// putDigits fills b with the digits of u, which has as many.
func putDigits(b []byte, u uint64) {
	i := len(b)
	for ; i >= 2; i -= 2 {
		q := u / 100
		r := (u - q*100) * 2
		b[i-2], b[i-1] = pairs[r], pairs[r+1]
		u = q
	}
	if i == 1 {
		b[0] = byte('0' + u)
	}
}

// digitCount returns how many digits u has; 0 has one.
func digitCount(u uint64) int {
	n := bits.Len64(u) * 1233 >> 12 // log10(2) is about 1233/4096: exact, or one too few
	if n < len(powers) && u >= powers[n] {
		n++
	}
	return max(n, 1)
}

var powers = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// fastLevel reads ["price","size"] when it is written as the encoder writes it: without white space, escapes and signs, and
// with numbers that cannot overflow. Otherwise it returns a length of 0, and the scanner takes the long way.
func fastLevel(b []byte, in *market.Instrument) (l market.Level, n int) {
	if len(b) < 2 || b[0] != '[' || b[1] != '"' {
		return l, 0
	}
	price, n := fastFixed(b, 2, int(in.PriceScale))
	if n == 0 || len(b) < n+2 || b[n] != ',' || b[n+1] != '"' {
		return l, 0
	}
	size, n := fastFixed(b, n+2, int(in.SizeScale))
	if n == 0 || n >= len(b) || b[n] != ']' {
		return l, 0
	}
	return market.Level{Price: market.Price(price), Size: market.Size(size)}, n + 1
}

// fastFixed reads a number from b[n:] up to its closing quote, and returns where that ends, or 0.
func fastFixed(b []byte, n, scale int) (v int64, end int) {
	start, point := n, -1
	for ; n < len(b); n++ {
		c := b[n] - '0'
		switch {
		case c <= 9:
			v = v*10 + int64(c)
			continue
		case b[n] == '.' && point < 0 && n > start:
			point = n
			continue
		}
		break
	}
	digits, fraction := n-start, 0
	if point >= 0 {
		digits--
		fraction = n - point - 1
		if fraction == 0 {
			return 0, 0
		}
	}
	missing := scale - fraction
	if n == len(b) || b[n] != '"' || digits == 0 || missing < 0 || digits+missing > 18 {
		return 0, 0
	}
	return v * market.Pow10(uint8(missing)), n + 1
}
