package wire

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/tickwire/tickwire/pkg/market"
)

// TestFixed holds the fast codec of levels to the plain one of package market.
func TestFixed(t *testing.T) {
	f := func(v int64, scale uint8) {
		t.Helper()
		want := string(market.AppendFixed(nil, v, scale))
		var b [maxLevelText]byte
		if got := string(b[:putFixed(b[:], 0, v, int(scale))]); got != want {
			t.Errorf("%d at scale %d: got %s, want %s", v, scale, got, want)
		}
	}
	for _, v := range []int64{0, 1, 9, 10, 99, 100, 101, 1000, 123_456_789, 1_000_000_000_000_000_000, math.MaxInt64, -1, -100, math.MinInt64} {
		for scale := range uint8(market.MaxScale + 1) {
			f(v, scale)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f(rapid.Int64().Draw(t, "v"), rapid.Uint8Range(0, market.MaxScale).Draw(t, "scale"))
	})
}

// TestFastFixed reads what looks like a number: it either agrees with the plain parser or leaves the work to it.
func TestFastFixed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[0-9]{0,20}(\.[0-9]{0,5})?|[-0-9.e"]{0,6}`).Draw(t, "text")
		scale := rapid.Uint8Range(0, market.MaxScale).Draw(t, "scale")
		v, end := fastFixed([]byte(text+`"`), 0, int(scale))
		if end == 0 {
			return
		}
		if want, err := market.ParseFixed(text[:end-1], scale); err != nil || v != want {
			t.Fatalf("%s at scale %d: got %d, want %d, %v", text, scale, v, want, err)
		}
	})
}

func TestFastFixedTakesTheUsual(t *testing.T) {
	f := func(text string, scale int, want int64) {
		t.Helper()
		if v, end := fastFixed([]byte(text+`"`), 0, scale); v != want || end != len(text)+1 {
			t.Errorf("%s at scale %d: %d, %d", text, scale, v, end)
		}
	}
	f("61737.63", 2, 6_173_763)
	f("0", 5, 0)
	f("0.00001", 5, 1)
	f("123456789.123456789", 9, 123_456_789_123_456_789)
}
