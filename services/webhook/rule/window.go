package rule

import (
	"slices"
	"sort"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// bucket is one minute of the log clock in which an instrument traded.
type bucket struct {
	minute int64 // since the Unix epoch
	high   market.Price
	low    market.Price
	close  market.Price
	volume market.Size // saturates
}

// history is the trades of the longest window, minute by minute, oldest first. Minutes without trades have no bucket. The
// oldest bucket may lie before the window: its close is what the window began with.
type history []bucket

func minuteOf(t market.Time) int64 { return int64(t.Truncate(time.Minute)) / int64(time.Minute) }

// add takes a trade in at a minute that is not before the newest bucket's. It tells what the price was before it, 0 if there
// was none, and by how much the minute's volume has grown.
func (h *history) add(minute int64, t *market.Trade) (before market.Price, grown market.Size) {
	n := len(*h)
	if n > 0 {
		before = (*h)[n-1].close
	}
	if n == 0 || (*h)[n-1].minute < minute {
		h.forget(minute)
		*h = append(*h, bucket{minute, t.Price, t.Price, t.Price, t.Size})
		return before, t.Size
	}
	b := &(*h)[n-1]
	b.high, b.low, b.close = max(b.high, t.Price), min(b.low, t.Price), t.Price
	grown = b.volume
	b.volume = market.AddSaturating(b.volume, t.Size)
	return before, b.volume - grown
}

// forget drops what no window that ends at minute or later can reach.
func (h *history) forget(minute int64) {
	drop := 0
	for drop+1 < len(*h) && (*h)[drop+1].minute <= minute-MaxWindow {
		drop++
	}
	*h = slices.Delete(*h, 0, drop)
}

// after returns the index of the first bucket after a minute.
func (h history) after(minute int64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].minute > minute })
}

// sumCloses adds up the closes of the window of w minutes that ends with minute, each minute without trades having that of
// the one before. There is none when the window begins before the first trade.
func (h history) sumCloses(minute int64, w uint16) (sum u128, ok bool) {
	first := minute - int64(w) + 1
	i := h.after(first) - 1
	if i < 0 {
		return u128{}, false
	}
	for end := minute + 1; i < len(h); i++ {
		until := end
		if i+1 < len(h) {
			until = h[i+1].minute
		}
		sum = sum.add(product(uint64(h[i].close), uint64(until-max(h[i].minute, first))))
	}
	return sum, true
}

// sumVolume adds up the volume of the window of w minutes that ends with minute.
func (h history) sumVolume(minute int64, w uint16) (sum u128) {
	for _, b := range h[h.after(minute-int64(w)):] {
		sum = sum.add(u128{0, uint64(b.volume)})
	}
	return sum
}

// rescale converts the history to other scales. It reports false, and has converted a part only, when something does not
// convert exactly.
func (h history) rescale(price, size func(int64) (int64, bool)) bool {
	all := true
	convert := func(v int64, how func(int64) (int64, bool)) int64 {
		v, ok := how(v)
		all = all && ok
		return v
	}
	for i := range h {
		b := &h[i]
		b.high, b.low = market.Price(convert(int64(b.high), price)), market.Price(convert(int64(b.low), price))
		b.close, b.volume = market.Price(convert(int64(b.close), price)), market.Size(convert(int64(b.volume), size))
	}
	return all
}

// rescaled returns a conversion from one scale to another, which tells whether it is exact.
func rescaled(from, to uint8) func(int64) (int64, bool) {
	return func(v int64) (int64, bool) {
		if from >= to {
			p := market.Pow10(from - to)
			return v / p, v%p == 0
		}
		p := market.Pow10(to - from)
		return v * p, v*p/p == v
	}
}
