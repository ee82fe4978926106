package ws

import (
	"bytes"
	"testing"
	"time"
)

// FuzzGuard cuts the same bytes in two ways: the guard must decide the same, let no more through than it has seen, and
// never let a frame begin whose length is beyond the limit.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, uint8(3))
	f.Add(masked(0x81, []byte(`{"op":"ping"}`)), uint8(1))
	f.Add(append(masked(0x01, []byte("a")), masked(0x80, bytes.Repeat([]byte("b"), 300))...), uint8(7))
	f.Add(bytes.Repeat(masked(0x89, nil), 40), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		now := time.Unix(1000, 0)
		limits := newBounds(4096)
		whole, cut := newGuard(&limits), newGuard(&limits)
		whole.deflate, cut.deflate = piece&1 == 1, piece&1 == 1
		n, err := whole.scan(b, now)
		if n > len(b) || err == nil && n < len(b) {
			t.Fatalf("passed %d of %d bytes without a word", n, len(b))
		}
		if whole.left > 4096 || whole.message > 4096 {
			t.Fatalf("let a frame of %d bytes begin, message %d", whole.left, whole.message)
		}
		passed := 0
		for rest := b; len(rest) > 0; {
			part := rest[:min(len(rest), 1+int(piece))]
			m, bad := cut.scan(part, now)
			passed += m
			if bad != nil {
				if err == nil || *bad != *err {
					t.Fatalf("in pieces: %v, whole: %v", bad, err)
				}
				break
			}
			rest = rest[len(part):]
		}
		if passed != n {
			t.Fatalf("passed %d in pieces, %d whole", passed, n)
		}
	})
}
