package market

import (
	"errors"
	"math"
)

// What ParseFixed refuses.
var (
	ErrNumber = errors.New("not a decimal number")
	ErrFiner  = errors.New("finer than the scale")
	ErrRange  = errors.New("out of range")
)

var pow10 = [MaxScale + 1]int64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
}

// Pow10 returns 10^scale, for a scale of at most MaxScale.
func Pow10(scale uint8) int64 { return pow10[scale] }

// ParseFixed reads a plain decimal number (an optional minus sign, digits, optionally a point and digits) as a mantissa
// at the given scale. Zeros beyond the scale are accepted, other digits there are ErrFiner. There is no exponent, no plus
// sign, no white space, no NaN. It does not allocate.
func ParseFixed[T ~string | ~[]byte](s T, scale uint8) (int64, error) {
	i, neg, limit := 0, false, uint64(math.MaxInt64)
	if len(s) > 0 && s[0] == '-' {
		i, neg, limit = 1, true, 1<<63
	}
	var v uint64
	digits, fraction, point := 0, 0, false
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			if point || digits == 0 {
				return 0, ErrNumber
			}
			point = true
			continue
		}
		c -= '0'
		if c > 9 {
			return 0, ErrNumber
		}
		digits++
		if point {
			fraction++
			if fraction > int(scale) {
				if c != 0 {
					return 0, finer(s[i:])
				}
				continue
			}
		}
		if v > math.MaxInt64/10 {
			return 0, ErrRange
		}
		v = v*10 + uint64(c)
	}
	if digits == 0 || point && fraction == 0 {
		return 0, ErrNumber
	}
	for ; fraction < int(scale); fraction++ {
		if v > math.MaxInt64/10 {
			return 0, ErrRange
		}
		v *= 10
	}
	if v > limit {
		return 0, ErrRange
	}
	if neg {
		return -int64(v), nil
	}
	return int64(v), nil
}

// finer tells a number that is too fine from one that is not a number at all.
func finer[T ~string | ~[]byte](rest T) error {
	for i := 0; i < len(rest); i++ {
		if rest[i]-'0' > 9 {
			return ErrNumber
		}
	}
	return ErrFiner
}

// Decimals counts the digits behind the decimal point as written, trailing zeros included.
func Decimals[T ~string | ~[]byte](s T) int {
	for i := 0; i < len(s); i++ {
		if s[i] == '.' {
			return len(s) - i - 1
		}
	}
	return 0
}

// AppendFixed appends the mantissa v at the given scale as a decimal number in its shortest form: no trailing zeros, and
// no point without a fraction. ParseFixed reads it back. The scale may be up to two above MaxScale, as that of a mean of prices is.
func AppendFixed[T ~int64](dst []byte, v T, scale uint8) []byte {
	u := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		u = -u
	}
	var digits [MaxScale + 4]byte
	i, places := len(digits), int(scale)
	for places > 0 && u%10 == 0 { // trailing zeros
		u /= 10
		places--
	}
	for n := 0; u > 0 || n <= places; n++ {
		if n == places && n > 0 {
			i--
			digits[i] = '.'
		}
		i--
		digits[i] = byte('0' + u%10)
		u /= 10
	}
	return append(dst, digits[i:]...)
}

// MulFixed returns price times size at the price scale, rounded towards zero, for a size at sizeScale. It saturates.
func MulFixed(p Price, s Size, sizeScale uint8) int64 {
	return MulDiv(int64(p), int64(s), pow10[sizeScale])
}
