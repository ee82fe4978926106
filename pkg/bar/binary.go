package bar

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// ErrBinary is what DecodeBinary returns for anything that AppendBinary does not write.
var ErrBinary = errors.New("not the binary form of a series")

// binaryVersion is the first byte.
const binaryVersion = 1

// maxOpen bounds the open bars of an interval: of one second, three at a time are less than a Grace past their end.
const maxOpen = 3

// AppendBinary appends the series' binary form: the open bars, the last trade, the 24 h buckets, the remembered gaps, the
// edges of the newest final bars, and the time. The final bars themselves are not in it; whoever stores a series stores
// what Closed returns beside it, each bar once instead of each time. Restoring is DecodeBinary, then Final for each of those.
//
// All numbers are varints, times are in microseconds and mostly differences. A series without trades takes about 20 bytes,
// one that traded in every minute of 24 h about 30 KB.
func (s *Series) AppendBinary(dst []byte) []byte {
	dst = append(dst, binaryVersion, s.SizeScale)
	dst = binary.AppendVarint(dst, int64(s.now))
	dst = binary.AppendUvarint(dst, s.late)
	dst = s.appendLast(dst)
	dst = binary.AppendUvarint(dst, uint64(len(s.gaps)))
	for _, g := range s.gaps {
		dst = binary.AppendVarint(dst, g.from.Micros())
		dst = appendSpan(dst, g.from, g.to)
	}
	for i := range s.bars {
		dst = s.bars[i].append(dst, market.Interval(i).Duration())
	}
	return s.window.append(dst, s.now)
}

func (s *Series) appendLast(dst []byte) []byte {
	if !s.last.any {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = binary.AppendVarint(dst, s.last.time.Micros())
	dst = binary.AppendVarint(dst, int64(s.last.price))
	return binary.AppendVarint(dst, int64(s.last.size))
}

// appendSpan appends the time from a to b, which is not before a.
func appendSpan(dst []byte, a, b market.Time) []byte {
	return binary.AppendUvarint(dst, uint64(b.Micros()-a.Micros()))
}

// append appends an interval: the open bars and the edges. Starts are counted in intervals.
func (b *bars) append(dst []byte, d time.Duration) []byte {
	var at int64
	dst = append(dst, byte(len(b.open)))
	for i := range b.open {
		o := &b.open[i]
		dst, at = appendStart(dst, at, o.start, d)
		dst = append(dst, flag(o.incomplete))
		dst = o.edges.append(dst)
		dst = binary.AppendVarint(dst, int64(o.first))
		dst = appendAbove(dst, int64(o.high), int64(o.first))
		dst = appendAbove(dst, int64(o.first), int64(o.low))
		dst = appendAbove(dst, int64(o.last), int64(o.low))
		dst = binary.AppendUvarint(dst, uint64(o.volume))
		dst = binary.AppendUvarint(dst, o.trades)
	}
	dst = append(dst, byte(b.edges.len()))
	at = 0
	for _, e := range b.edges.live() {
		dst, at = appendStart(dst, at, e.start, d)
		dst = e.append(dst)
	}
	return dst
}

// appendStart appends how many intervals start is after the one before.
func appendStart(dst []byte, before int64, start market.Time, d time.Duration) (b []byte, at int64) {
	at = int64(start) / int64(d)
	return binary.AppendVarint(dst, at-before), at
}

func (e *edges) append(dst []byte) []byte {
	return appendSpan(appendSpan(dst, e.start, e.first), e.first, e.last)
}

// appendAbove appends how far a is above b.
func appendAbove(dst []byte, a, b int64) []byte {
	return binary.AppendUvarint(dst, uint64(a)-uint64(b))
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// append appends how many minutes the window has rolled past now, and the buckets; the rest follows from them.
func (w *window) append(dst []byte, now market.Time) []byte {
	dst = binary.AppendUvarint(dst, uint64((w.minute-now.Truncate(time.Minute))/market.Time(time.Minute)))
	dst = binary.AppendUvarint(dst, uint64(w.buckets.len()))
	var minute, price int64
	for i := range w.buckets.live() {
		b := &w.buckets.live()[i]
		start := b.first.Truncate(time.Minute)
		dst, minute = appendStart(dst, minute, start, time.Minute)
		dst = appendSpan(dst, start, b.first)
		dst = binary.AppendVarint(dst, int64(b.open)-price)
		price = int64(b.open)
		dst = appendAbove(dst, int64(b.high), price)
		dst = appendAbove(dst, price, int64(b.low))
		dst = binary.AppendUvarint(dst, uint64(b.volume))
		dst = binary.AppendUvarint(dst, uint64(b.quote))
		dst = binary.AppendUvarint(dst, b.trades)
	}
	return dst
}

// DecodeBinary makes s the series that AppendBinary wrote. It accepts nothing else, keeps nothing of b, and leaves s alone
// when it fails.
func (s *Series) DecodeBinary(b []byte) error {
	r := reader{b: b}
	var d Series
	if r.byte() != binaryVersion {
		return ErrBinary
	}
	d.SizeScale = r.byte()
	d.now = market.Time(r.varint())
	r.check(d.now >= 0)
	d.late = r.uvarint()
	r.last(&d)
	r.gaps(&d)
	for i := range d.bars {
		r.bars(&d.bars[i], market.Interval(i).Duration(), d.now)
	}
	r.window(&d)
	if r.bad || len(r.b) > 0 || d.SizeScale > market.MaxScale {
		return ErrBinary
	}
	*s = d
	return nil
}

// reader takes values off b. What is wrong sets bad and empties b, and then every value is 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

// check fails unless ok.
func (r *reader) check(ok bool) {
	if !ok {
		r.fail()
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) flag() bool {
	v := r.byte()
	r.check(v <= 1)
	return v == 1
}

// uvarint takes a number in its shortest form.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// positive takes a number from 1 to the greatest int64.
func (r *reader) positive() int64 {
	v := r.uvarint()
	r.check(v > 0 && v <= math.MaxInt64)
	return int64(v)
}

// above takes a value that is not below v.
func (r *reader) above(v int64) int64 {
	d := r.uvarint()
	r.check(d <= uint64(math.MaxInt64)-uint64(v))
	return int64(uint64(v) + d)
}

// below takes a value that is not above v and greater than 0.
func (r *reader) below(v int64) int64 {
	d := r.uvarint()
	r.check(d < uint64(v))
	return int64(uint64(v) - d)
}

// maxMicros bounds the times of trades, two days from where a Time ends.
const maxMicros = (math.MaxInt64 - 2*int64(24*time.Hour)) / 1000

func (r *reader) time() market.Time {
	us := r.varint()
	r.check(us <= maxMicros && us >= -maxMicros)
	return market.FromMicros(us)
}

// after takes a time that is not before t and before end.
func (r *reader) after(t, end market.Time) market.Time {
	us := r.uvarint()
	if us > uint64(maxMicros) || t >= end || market.FromMicros(int64(us)) >= end-t {
		r.fail()
		return t
	}
	return t + market.FromMicros(int64(us))
}

// start takes the start of an interval that is after the one before, if there is one before.
func (r *reader) start(before *int64, first bool, d time.Duration) market.Time {
	n := r.varint()
	limit := maxMicros * 1000 / int64(d)
	if n > limit || n < -limit || !first && n <= 0 || *before > limit-max(n, 0) {
		r.fail()
		return 0
	}
	*before += n
	return market.Time(*before * int64(d))
}

func (r *reader) last(s *Series) {
	if !r.flag() {
		return
	}
	s.last = last{time: r.time(), price: market.Price(r.varint()), size: market.Size(r.varint()), any: true}
	r.check(s.last.price > 0 && s.last.size > 0 && s.last.time <= s.now)
}

func (r *reader) gaps(s *Series) {
	n := r.uvarint()
	r.check(n <= maxGaps)
	for i := uint64(0); i < n && !r.bad; i++ {
		from := r.time()
		to := r.after(from, market.FromMicros(maxMicros)+1)
		s.gaps = append(s.gaps, span{from, to})
	}
}

func (r *reader) bars(b *bars, d time.Duration, now market.Time) {
	n := int(r.byte())
	r.check(n <= maxOpen)
	var at int64
	for i := 0; i < n && !r.bad; i++ {
		o := open{start: r.start(&at, i == 0, d), incomplete: r.flag()}
		o.end = o.start + market.Time(d)
		r.check(o.start <= now && due(o.end) > now)
		o.edges = r.edges(o.start, o.end)
		r.check(o.edges.last <= now)
		o.first = market.Price(r.varint())
		r.check(o.first > 0)
		o.high = market.Price(r.above(int64(o.first)))
		o.low = market.Price(r.below(int64(o.first)))
		o.last = market.Price(r.above(int64(o.low)))
		r.check(o.last <= o.high)
		o.volume, o.trades = market.Size(r.positive()), uint64(r.positive())
		b.open = append(b.open, o)
	}
	n = int(r.byte())
	r.check(n <= maxEdges)
	at = 0
	for i := 0; i < n && !r.bad; i++ {
		start := r.start(&at, i == 0, d)
		end := start + market.Time(d)
		r.check(due(end) <= now)
		b.edges.push(r.edges(start, end))
	}
}

func (r *reader) edges(start, end market.Time) edges {
	first := r.after(start, end)
	return edges{start, first, r.after(first, end)}
}

func (r *reader) window(s *Series) {
	w := &s.window
	w.minute = s.now.Truncate(time.Minute)
	ahead := r.uvarint()
	r.check(ahead <= uint64(math.MaxInt64-w.minute)/uint64(time.Minute))
	if r.bad {
		return
	}
	w.minute += market.Time(ahead * uint64(time.Minute))
	n := r.uvarint()
	r.check(n <= windowMinutes)
	var minute, price int64
	for i := uint64(0); i < n && !r.bad; i++ {
		start := r.start(&minute, i == 0, time.Minute)
		r.check(start >= w.from() && start <= w.minute)
		b := bucket{first: r.after(start, start+market.Time(time.Minute))}
		price += r.varint()
		r.check(price > 0 && b.first <= s.now)
		b.open = market.Price(price)
		b.high, b.low = market.Price(r.above(price)), market.Price(r.below(price))
		b.volume, b.quote = market.Size(r.positive()), r.above(0)
		b.trades = uint64(r.positive())
		if !r.bad {
			w.load(start, b)
		}
	}
}

// load adds a bucket behind the others.
func (w *window) load(minute market.Time, b bucket) {
	w.buckets.push(b)
	w.volume.add(uint64(b.volume))
	w.quote.add(uint64(b.quote))
	w.trades += b.trades
	raise(&w.highs, peak{minute, int64(b.high)})
	raise(&w.lows, peak{minute, ^int64(b.low)})
}
