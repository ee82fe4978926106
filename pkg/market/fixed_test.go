package market_test

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
)

func TestParseFixed(t *testing.T) {
	f := func(s string, scale uint8, want int64, wantErr error) {
		t.Helper()
		got, err := market.ParseFixed(s, scale)
		if got != want || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("ParseFixed(%q, %d) = %d, %v; want %d, %v", s, scale, got, err, want, wantErr)
		}
		if b, err2 := market.ParseFixed([]byte(s), scale); b != got || !errors.Is(err2, err) {
			t.Errorf("ParseFixed([]byte(%q), %d) = %d, %v", s, scale, b, err2)
		}
	}
	f("0", 0, 0, nil)
	f("-0", 2, 0, nil)
	f("0.00", 0, 0, nil)
	f("61737.63", 2, 6173763, nil)
	f("61737.63000000", 2, 6173763, nil)
	f("61737.6", 8, 6173760000000, nil)
	f("007.50", 1, 75, nil)
	f("-1.5", 3, -1500, nil)
	f("0.000000000000000001", 18, 1, nil)
	f("9.223372036854775807", 18, math.MaxInt64, nil)
	f("9223372036854775807", 0, math.MaxInt64, nil)
	f("9223372036854775807.000", 0, math.MaxInt64, nil)
	f("-9223372036854775808", 0, math.MinInt64, nil)
	f("-9.223372036854775808", 18, math.MinInt64, nil)
	f("9223372036854775808", 0, 0, market.ErrRange)
	f("-9223372036854775809", 0, 0, market.ErrRange)
	f("92233720368547758.08", 2, 0, market.ErrRange)
	f("10", 18, 0, market.ErrRange)
	f("18446744073709551617", 0, 0, market.ErrRange)
	f(strings.Repeat("9", 1000), 0, 0, market.ErrRange)
	f(strings.Repeat("0", 1000)+"1", 0, 1, nil)
	f("1."+strings.Repeat("0", 1000), 2, 100, nil)
	f("1.234", 2, 0, market.ErrFiner)
	f("0.001", 2, 0, market.ErrFiner)
	f("1.2304", 2, 0, market.ErrFiner)
	for _, s := range []string{
		"", "-", "--1", "+1", ".", "-.", ".5", "5.", "-5.", "1..2", "1.2.3", "1.234.", "1e5", "1E5", "1.234e1", "0x10", " 1", "1 ", "1,5",
		"NaN", "nan", "Inf", "-Infinity", "null", "1_000", "\x00", "１", "1\n", "-1-", "1/2", "1:2",
	} {
		f(s, 2, 0, market.ErrNumber)
	}
}

func TestAppendFixed(t *testing.T) {
	f := func(v int64, scale uint8, want string) {
		t.Helper()
		if got := string(market.AppendFixed([]byte("x"), market.Price(v), scale)); got != "x"+want {
			t.Errorf("AppendFixed(%d, %d) = %q, want %q", v, scale, got[1:], want)
		}
	}
	f(0, 0, "0")
	f(0, 18, "0")
	f(6173763, 2, "61737.63")
	f(6173700, 2, "61737")
	f(6173760, 2, "61737.6")
	f(100, 0, "100")
	f(5, 1, "0.5")
	f(-5, 3, "-0.005")
	f(-1500, 3, "-1.5")
	f(1, 18, "0.000000000000000001")
	f(1e18, 18, "1")
	f(math.MaxInt64, 18, "9.223372036854775807")
	f(math.MinInt64, 18, "-9.223372036854775808")
	f(math.MinInt64, 0, "-9223372036854775808")
}

func TestFixedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, scale := rapid.Int64().Draw(t, "v"), uint8(rapid.IntRange(0, market.MaxScale).Draw(t, "scale"))
		text := market.AppendFixed(nil, market.Size(v), scale)
		if got, err := market.ParseFixed(text, scale); got != v || err != nil {
			t.Fatalf("%d at scale %d is %q, which reads as %d, %v", v, scale, text, got, err)
		}
		if r, _ := new(big.Rat).SetString(string(text)); r.Cmp(new(big.Rat).SetFrac(big.NewInt(v), pow10(scale))) != 0 {
			t.Fatalf("%d at scale %d is %q", v, scale, text)
		}
		if point := strings.IndexByte(string(text), '.'); point >= 0 && text[len(text)-1] == '0' {
			t.Fatalf("%q is not the shortest form", text)
		}
		if d := market.Decimals(text); d > int(scale) || d > 0 && d != len(text)-1-strings.IndexByte(string(text), '.') {
			t.Fatalf("%q has %d decimals", text, d)
		}
	})
}

func pow10(scale uint8) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
}

var decimal = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// FuzzParseFixed compares with rational numbers of any size.
func FuzzParseFixed(f *testing.F) {
	for _, s := range []string{"61737.63", "-9223372036854775808", "0.1", "1e5", "", "00.00", "92233720368547758.07", ".5", "1.005"} {
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, s string, scale uint8) {
		scale %= market.MaxScale + 1
		got, err := market.ParseFixed(s, scale)
		if !decimal.MatchString(s) {
			if !errors.Is(err, market.ErrNumber) && !errors.Is(err, market.ErrRange) {
				t.Fatalf("%q reads as %d, %v", s, got, err)
			}
			return
		}
		r, _ := new(big.Rat).SetString(s)
		r.Mul(r, new(big.Rat).SetInt(pow10(scale)))
		switch {
		case err == nil:
			if r.Cmp(new(big.Rat).SetInt64(got)) != 0 {
				t.Fatalf("%q at scale %d reads as %d", s, scale, got)
			}
		case r.IsInt() && r.Num().IsInt64():
			t.Fatalf("%q at scale %d: %v", s, scale, err)
		case got != 0:
			t.Fatalf("%q at scale %d: %d with %v", s, scale, got, err)
		case errors.Is(err, market.ErrFiner) && r.IsInt(), errors.Is(err, market.ErrNumber):
			t.Fatalf("%q at scale %d: %v", s, scale, err)
		}
	})
}

func TestMulFixed(t *testing.T) {
	f := func(p, s int64, scale uint8, want int64) {
		t.Helper()
		if got := market.MulFixed(market.Price(p), market.Size(s), scale); got != want {
			t.Errorf("MulFixed(%d, %d, %d) = %d, want %d", p, s, scale, got, want)
		}
	}
	f(6173763, 40000000, 8, 2469505)
	f(-6173763, 40000000, 8, -2469505)
	f(math.MaxInt64, 1, 0, math.MaxInt64)
	f(math.MaxInt64, 2, 0, math.MaxInt64)
	f(math.MinInt64, 1, 0, math.MinInt64)
	f(math.MinInt64, math.MinInt64, 18, math.MaxInt64)
	f(math.MinInt64, 1, 18, -9)
	f(math.MaxInt64, 1e18, 18, math.MaxInt64)
	rapid.Check(t, func(t *rapid.T) {
		p, s := rapid.Int64().Draw(t, "p"), rapid.Int64().Draw(t, "s")
		scale := uint8(rapid.IntRange(0, market.MaxScale).Draw(t, "scale"))
		want := new(big.Int).Mul(big.NewInt(p), big.NewInt(s))
		want.Quo(want, pow10(scale))
		if got := market.MulFixed(market.Price(p), market.Size(s), scale); got != saturate(want) {
			t.Fatalf("MulFixed(%d, %d, %d) = %d, want %v", p, s, scale, got, want)
		}
	})
}

func TestAddSaturating(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		want := saturate(new(big.Int).Add(big.NewInt(a), big.NewInt(b)))
		if got := market.AddSaturating(a, b); got != want {
			t.Fatalf("%d + %d = %d, want %d", a, b, got, want)
		}
		if got := market.AddSaturating(market.Size(a), market.Size(b)); int64(got) != want {
			t.Fatalf("%d + %d = %d as sizes, want %d", a, b, got, want)
		}
	})
}

func saturate(v *big.Int) int64 {
	switch {
	case v.IsInt64():
		return v.Int64()
	case v.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

func TestNumbersDoNotAllocate(t *testing.T) {
	text, dst := []byte("61737.63000000"), make([]byte, 0, 64)
	var sum int64
	allocs := testing.AllocsPerRun(1000, func() {
		v, _ := market.ParseFixed(text, 8)
		_, err := market.ParseFixed(text, 1)
		if err == nil {
			sum++
		}
		dst = market.AppendFixed(dst[:0], market.Price(v), 8)
		sum += market.MulFixed(market.Price(v), 7, 8)
	})
	if allocs != 0 {
		t.Errorf("%.0f allocations", allocs)
	}
}

func BenchmarkParseFixed(b *testing.B) {
	text := []byte("61737.63000000")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := market.ParseFixed(text, 2); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendFixed(b *testing.B) {
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		dst = market.AppendFixed(dst[:0], market.Price(6173763), 2)
	}
}

func BenchmarkMulFixed(b *testing.B) {
	b.ReportAllocs()
	var sum int64
	for b.Loop() {
		sum += market.MulFixed(6173763, 40000000, 8)
	}
}
