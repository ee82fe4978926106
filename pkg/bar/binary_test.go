package bar_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/market"
)

// stored returns the binary form of a series of n trades.
func stored(n int, step time.Duration) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	s := bar.Series{SizeScale: 8}
	now := epoch
	for i := range n {
		now += market.Time(step) + market.FromMicros(rng.Int64N(1e6))
		tr := market.Trade{Price: market.Price(6_000_000 + rng.IntN(5000)), Size: market.Size(1 + rng.IntN(1e9))}
		tr.Time = now - market.FromMicros(rng.Int64N(3e6))
		s.Add(&tr, now, nil)
		if i%7 == 3 {
			s.Gap(now)
		}
	}
	return s.AppendBinary(nil)
}

func TestBinarySizes(t *testing.T) {
	f := func(n int, step time.Duration, limit int) {
		t.Helper()
		if size := len(stored(n, step)); size > limit {
			t.Errorf("%d trades: %d bytes, more than %d", n, size, limit)
		} else {
			t.Logf("%d trades: %d bytes", n, size)
		}
	}
	f(0, 0, 32)
	f(1, 0, 256)
	f(20, time.Hour, 3_000)
	f(5000, 20*time.Second, 45_000)
}

func TestDecodeBinaryIsStrict(t *testing.T) {
	good := stored(50, 10*time.Second)
	var s bar.Series
	if err := s.DecodeBinary(good); err != nil {
		t.Fatal(err)
	}
	before := string(s.AppendBinary(nil))
	for n := range good {
		if err := s.DecodeBinary(good[:n]); !errors.Is(err, bar.ErrBinary) {
			t.Fatalf("the first %d bytes are accepted", n)
		}
	}
	if err := s.DecodeBinary(append(good[:len(good):len(good)], 0)); !errors.Is(err, bar.ErrBinary) {
		t.Error("a byte too many is accepted")
	}
	newer := append([]byte{2}, good[1:]...)
	if err := s.DecodeBinary(newer); !errors.Is(err, bar.ErrBinary) {
		t.Error("another version is accepted")
	}
	if string(s.AppendBinary(nil)) != before {
		t.Error("a failed decode has changed the series")
	}
}

// Whatever is accepted is what AppendBinary writes, and can be worked with.
func FuzzDecodeBinary(f *testing.F) {
	f.Add([]byte{})
	f.Add(stored(0, 0))
	f.Add(stored(1, 0))
	f.Add(stored(30, time.Millisecond))
	f.Add(stored(30, 10*time.Minute))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s bar.Series
		if s.DecodeBinary(b) != nil {
			return
		}
		if again := s.AppendBinary(nil); string(again) != string(b) {
			t.Fatalf("decoded\n%x, encoded\n%x", b, again)
		}
		var v market.Ticker
		s.Ticker(&v)
		tr := market.Trade{Price: 100, Size: 1}
		for _, at := range []market.Time{epoch, epoch - market.Time(time.Hour), epoch + market.Time(48*time.Hour)} {
			tr.Time = at
			s.Add(&tr, at, nil)
			s.AddOpen(&tr)
		}
		for i, b := range s.Advance(epoch+market.Time(100*time.Hour), nil) {
			if b.High < b.Low || b.Trades == 0 {
				t.Fatalf("bar %d: %+v", i, b)
			}
		}
	})
}
