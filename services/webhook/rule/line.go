package rule

import (
	"github.com/tickwire/tickwire/pkg/market"
)

// line is one series of one instrument, with the rules on it. There is one for each series, with its windows, that has rules.
type line struct {
	id     uint32
	in     *instrument
	series Series
	w1, w2 uint16
	rules  int

	// What the newest evaluation gave. It is always what value computes from the instrument.
	value int64
	has   bool
	gapAt int64 // offset of the record whose evaluation was the first after a gap; -1: none

	sums sums

	// The thresholds. A rule waits in rising for the value to come up to its key (key <= value), or in falling for it to
	// come down to it. Both are as the value pos left them; while it stays within [low, high] it passes no key.
	rising  index
	falling index
	pos     int64
	placed  bool // pos means something
	low     int64
	high    int64

	fresh  []uint32 // rules to be looked at with the next value; some may have gone
	freshN int      // that have not

	waiters []uint32 // the rules that are pending, and some that are not any more
	queued  int      // how many are
}

// sums is what a window series needs to know of the past, so that a trade costs the same however long the window is.
type sums struct {
	ok   bool         // the window is known from its beginning
	any  bool         // there are trades in the window
	ref  market.Price // the price when the window began, or its highest or lowest
	a, b u128         // volumes or closes of the first and second window
}

// group is what becomes stale, and has gaps, at once.
type group uint8

const (
	tradeGroup  group = 1 << iota // last
	windowGroup                   // what windows are about
	bookGroup                     // bid, ask, mid, spread
)

func (s Series) group() group {
	switch s {
	case Last:
		return tradeGroup
	case Bid, Ask, Mid, SpreadBps:
		return bookGroup
	}
	return windowGroup
}

// gapped tells that the value may be wrong until the next one comes.
func (l *line) gapped() bool { return l.in.gaps&l.series.group() != 0 }

// refresh computes the sums anew.
func (l *line) refresh(minute int64) {
	h, s := l.in.history, sums{}
	covered := minute-int64(l.w1)+1 >= l.in.from
	switch l.series {
	case ChangePct:
		if i := h.after(minute-int64(l.w1)) - 1; i >= 0 {
			s.ok, s.ref = true, h[i].close
		}
	case FromHighPct, FromLowPct:
		s.ok = covered && l.in.hasLast
		for _, b := range h[h.after(minute-int64(l.w1)):] {
			switch {
			case l.series == FromHighPct && (!s.any || b.high > s.ref):
				s.ref = b.high
			case l.series == FromLowPct && (!s.any || b.low < s.ref):
				s.ref = b.low
			}
			s.any = true
		}
	case Volume:
		s.ok, s.a = covered, h.sumVolume(minute, l.w1)
	case VolumeRatio:
		s.ok = covered && minute-int64(l.w2)+1 >= l.in.from
		s.a, s.b = h.sumVolume(minute, l.w1), h.sumVolume(minute, l.w2)
	case MADiff:
		var ok1, ok2 bool
		s.a, ok1 = h.sumCloses(minute, l.w1)
		s.b, ok2 = h.sumCloses(minute, l.w2)
		s.ok = ok1 && ok2
	}
	l.sums = s
}

// traded brings the sums up to date after a trade, which the history has already. before is the price before it.
func (l *line) traded(t *market.Trade, before market.Price, grown market.Size, minute int64) {
	s := &l.sums
	if !s.ok {
		l.refresh(minute)
		return
	}
	switch l.series {
	case FromHighPct:
		if !s.any || t.Price > s.ref {
			s.ref = t.Price
		}
		s.any = true
	case FromLowPct:
		if !s.any || t.Price < s.ref {
			s.ref = t.Price
		}
		s.any = true
	case Volume, VolumeRatio:
		s.a = s.a.add(u128{0, uint64(grown)})
		s.b = s.b.add(u128{0, uint64(grown)})
	case MADiff: // the close of the minute that has begun is another one
		s.a = s.a.add(u128{0, uint64(t.Price)}).sub(u128{0, uint64(before)})
		s.b = s.b.add(u128{0, uint64(t.Price)}).sub(u128{0, uint64(before)})
	}
}

// now computes the series' value.
func (l *line) now() (v int64, ok bool) {
	in, s := l.in, &l.sums
	switch l.series {
	case Last:
		return int64(in.last), in.hasLast
	case Bid:
		return int64(in.bid), in.bid > 0
	case Ask:
		return int64(in.ask), in.ask > 0
	}
	if l.series == Mid || l.series == SpreadBps {
		switch {
		case in.bid == 0 || in.ask == 0:
			return 0, false
		case l.series == Mid:
			return mid(in.bid, in.ask), true
		}
		return spread(in.bid, in.ask), true
	}
	if !s.ok {
		return 0, false
	}
	switch l.series {
	case FromHighPct, FromLowPct:
		if !s.any {
			return 0, true // nothing has traded in the window: the price has stood still
		}
		return percent(in.last, s.ref), true
	case ChangePct:
		return percent(in.last, s.ref), true
	case Volume:
		return s.a.clamped(false), true
	case VolumeRatio:
		if s.b == (u128{}) {
			return 0, false
		}
		return ratio(s.a.clamped(false), s.b.clamped(false), l.w1, l.w2), true
	}
	return difference(s.a, s.b, l.w1, l.w2), true
}
