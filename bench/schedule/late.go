package schedule

import "github.com/HdrHistogram/hdrhistogram-go"

// MaxLate is in µs; what is later counts as this.
const MaxLate = 60_000_000

// NewHistogram makes one of how late things were, in µs.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, MaxLate, 3) }

// Record records how late something came that was due, both in µs of the same clock.
func Record(h *hdrhistogram.Histogram, due, came int64) {
	_ = h.RecordValue(min(max(1, came-due), MaxLate)) // in range by construction
}
