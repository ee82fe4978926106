package bar

import (
	"math"
	"math/bits"
	"sort"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// windowMinutes is how many one-minute buckets the 24 h values cover, the one that has begun included.
const windowMinutes = 1440

// window holds the 24 h values (see Series for their definition). Only minutes with trades have a bucket. The sums run
// along: a trade adds to them, a bucket that leaves the window is subtracted; they have 128 bits, since a sum that has
// saturated could not be subtracted from. The greatest and the least price come from the monotonic queues highs and lows.
type window struct {
	minute  market.Time // start of the newest minute of the window
	buckets queue[bucket]
	highs   queue[peak]
	lows    queue[peak]
	volume  sum
	quote   sum
	trades  uint64
}

// bucket is one minute of trades.
type bucket struct {
	first  market.Time // event time of open; says which minute this is
	open   market.Price
	high   market.Price
	low    market.Price
	volume market.Size
	quote  int64
	trades uint64
}

// peak is a minute whose value is greater than that of every later minute. In lows the value is the complement of the
// price, which turns least into greatest.
type peak struct {
	minute market.Time
	value  int64
}

// from returns where the window begins.
func (w *window) from() market.Time { return w.minute - (windowMinutes-1)*market.Time(time.Minute) }

// roll moves the window's end to the minute of now, never back. It tells whether a bucket has left the window.
func (w *window) roll(now market.Time) bool {
	if now < w.minute || now-w.minute < market.Time(time.Minute) {
		return false
	}
	w.minute = now.Truncate(time.Minute)
	from, n := w.from(), 0
	live := w.buckets.live()
	for n < len(live) && live[n].first < from {
		w.volume.sub(uint64(live[n].volume))
		w.quote.sub(uint64(live[n].quote))
		w.trades -= live[n].trades
		n++
	}
	if n == 0 {
		return false
	}
	w.buckets.remove(0, n)
	expire(&w.highs, from)
	expire(&w.lows, from)
	return true
}

func expire(q *queue[peak], from market.Time) {
	n := 0
	for n < q.len() && q.live()[n].minute < from {
		n++
	}
	q.remove(0, n)
}

// add counts a trade whose minute is not after the window's newest. One before the window is not counted.
func (w *window) add(t *market.Trade, quote int64) {
	if t.Time < w.from() {
		return
	}
	minute := w.minute
	if t.Time < minute {
		minute = t.Time.Truncate(time.Minute)
	}
	b := w.bucket(minute, t)
	volume := market.AddSaturating(b.volume, t.Size)
	w.volume.add(uint64(volume - b.volume))
	b.volume = volume
	total := market.AddSaturating(b.quote, quote)
	w.quote.add(uint64(total - b.quote))
	b.quote = total
	b.trades++
	w.trades++
	if t.Time < b.first {
		b.first, b.open = t.Time, t.Price
	}
	if b.trades == 1 || t.Price > b.high {
		b.high = t.Price
		raise(&w.highs, peak{minute, int64(t.Price)})
	}
	if b.trades == 1 || t.Price < b.low {
		b.low = t.Price
		raise(&w.lows, peak{minute, ^int64(t.Price)})
	}
}

// bucket returns the bucket of a minute; a new one has its first trade's price and time and has counted nothing.
func (w *window) bucket(minute market.Time, t *market.Trade) *bucket {
	n := w.buckets.len()
	if n == 0 || w.buckets.newest().first < minute {
		w.buckets.push(bucket{first: t.Time, open: t.Price})
		return w.buckets.newest()
	}
	end := minute + market.Time(time.Minute)
	live, i := w.buckets.live(), n-1
	if live[i].first >= end {
		i = sort.Search(n, func(i int) bool { return live[i].first >= minute })
	} else if i > 0 && live[i].first < minute {
		i++
	}
	if live[i].first >= end {
		w.buckets.insert(i, bucket{first: t.Time, open: t.Price})
	}
	return &w.buckets.live()[i]
}

// raise brings the monotonic queue up to a minute's new, greater value. That minute is nearly always the newest, and each
// entry goes away once, so this is O(1) amortised; a late trade searches for its place.
func raise(q *queue[peak], p peak) {
	live := q.live()
	n := len(live)
	i := n
	if n > 0 && live[n-1].minute >= p.minute {
		i = sort.Search(n, func(i int) bool { return live[i].minute >= p.minute })
	}
	switch {
	case i < n && live[i].value >= p.value:
		return // a later minute, or this one, is at least as great
	case i < n && live[i].minute == p.minute:
		live[i].value = p.value
	default:
		j := beaten(live[:i], p.value)
		if j < i {
			live[j] = p // in the place of the first it beats
			q.remove(j+1, i)
			return
		}
		q.insert(i, p)
		return
	}
	q.remove(beaten(live[:i], p.value), i)
}

// beaten returns where the tail of entries that are not above value begins.
func beaten(live []peak, value int64) int {
	i := len(live)
	for i > 0 && live[i-1].value <= value {
		i--
	}
	return i
}

// ticker fills in the 24 h values.
func (w *window) ticker(t *market.Ticker) {
	t.Open, t.High, t.Low = 0, 0, 0
	t.Volume, t.Quote, t.Trades = market.Size(w.volume.clamped()), w.quote.clamped(), w.trades
	if w.buckets.len() == 0 {
		return
	}
	t.Open = w.buckets.live()[0].open
	t.High = market.Price(w.highs.live()[0].value)
	t.Low = market.Price(^w.lows.live()[0].value)
}

// sum is a sum of 128 bits.
type sum struct{ hi, lo uint64 }

func (s *sum) add(v uint64) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, v, 0)
	s.hi += carry
}

func (s *sum) sub(v uint64) {
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, v, 0)
	s.hi -= borrow
}

func (s *sum) clamped() int64 {
	if s.hi != 0 || s.lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(s.lo)
}
