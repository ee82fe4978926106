package sim

import (
	"math/bits"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

const (
	minDepth = 10
	// recordsPerEvent is how many records an event makes on average: each makes an update, and an order that hits the
	// book a trade for each fill. In 1/1000; a test holds it to what happens.
	recordsPerEvent = 1375
	// An event raises the rate of further ones, and that decays: offspring (of 256) is how many events each one begets, and
	// memoryEvents is the decay's time constant, in mean distances between events.
	offspring    = 180
	memoryEvents = 6
	// maxFills bounds the trades that one order makes.
	maxFills = 80
	// calm and wild are the ends of an instrument's mood, which decides how often and how large orders hit the book.
	calm, wild = 0, 12
)

// instrument is one market: its book, its order flow, and its own randomness.
type instrument struct {
	listing
	index uint64
	key   []byte
	depth int
	gap   uint64 // greatest distance of neighbouring levels, deep in the book, in ticks
	random

	bids, asks side
	sequence   uint64 // of the book's last change
	trade      uint64 // the last trade's id
	mood       int    // calm to wild: volatility clusters because it changes slowly
	pressure   int64  // above 0 buyers hit the book more; it lasts, and so orders come in runs
}

// random is when an instrument's events happen: a Hawkes process, in events per million seconds.
type random struct {
	source
	base, excited, jump uint64
	halfLife            uint64 // of excited, in ns
	due                 market.Time
}

func newInstrument(cfg *Config, l *listing, index uint64) *instrument {
	ticks := int(l.price / l.TickSize)
	in := &instrument{
		listing: *l, index: index, key: []byte(l.Sym), depth: max(min(cfg.Depth, ticks/4), minDepth),
		sequence: 1_000_000 * (index + 1), mood: (calm + wild) / 2,
		// A market that starts later goes on above the ids of the one before, as a venue does: up to a thousand trades a
		// second. Otherwise its trades would be taken for those already seen.
		trade: 1_000_000 + uint64(max(0, cfg.Start.Micros()/1000)),
	}
	in.pcg = *rand.NewPCG(cfg.Seed, index)
	in.gap = uint64(min(max(ticks/(3*in.depth), 1), 96))
	in.bids.sign, in.asks.sign = 1, -1
	for _, s := range []*side{&in.bids, &in.asks} {
		p := l.price - s.sign*l.TickSize
		for i := range in.depth {
			in.addBelow(s, p)
			p -= s.sign * in.distance(i)
		}
	}
	return in
}

// addBelow adds a level that is worse than all others.
func (in *instrument) addBelow(s *side, p market.Price) {
	s.levels = append(s.levels, market.Level{})
	copy(s.levels[1:], s.levels)
	s.levels[0] = market.Level{Price: p, Size: in.size()}
}

// distance is that of the level at a rank to the next one.
func (in *instrument) distance(rank int) market.Price {
	wide := in.gap * uint64(min(rank, in.depth)) / uint64(in.depth)
	return in.TickSize * market.Price(1+in.below(1+wide))
}

// size is that of an order: heavy-tailed.
func (in *instrument) size() market.Size {
	return market.Size(uint64(in.lot) * in.pareto() >> 16)
}

// intensity sets the mean number of records per million seconds, and the first event.
func (in *instrument) intensity(records uint64, start market.Time) {
	events := max(records*1000/recordsPerEvent, 1)
	in.base = max(events*(256-offspring)/256, 1)
	in.jump = events * offspring / 256 / memoryEvents
	in.excited = events - in.base
	mean := 1e15 / events                            // ns between events
	in.halfLife = max(mean*memoryEvents*693/1000, 1) // times ln 2
	in.due = start
	in.wait()
}

// maxWait keeps times in range where next to nothing happens.
const maxWait = uint64(24 * time.Hour)

// wait moves due to the next event, by thinning: between events the rate only falls, so candidates are drawn at the rate
// after the last one and kept with the probability that the rate still has (Ogata, 1981).
func (in *random) wait() {
	for {
		rate := in.base + in.excited
		hi, lo := bits.Mul64(in.exponential(), 1e15)
		w := maxWait
		if hi < rate {
			q, _ := bits.Div64(hi, lo, rate)
			w = min(q>>16, maxWait)
		}
		in.due += market.Time(w)
		in.excited = decay(in.excited, (w<<16)/in.halfLife)
		if in.below(rate) < in.base+in.excited {
			in.excited += in.jump
			return
		}
	}
}

// act makes one event: an order that hits the book, or changes of orders in it.
func (in *instrument) act(m *Market, now market.Time) {
	if in.chance(6) {
		in.mood = min(max(in.mood+int(in.below(3))-1, calm), wild)
	}
	in.pressure += in.bell() - in.pressure/32
	if in.chance(20 + 4*uint64(in.mood)) {
		in.hit(m, now)
	} else {
		changes := 1 + bits.TrailingZeros16(uint16(in.next())|1<<8)
		if in.chance(24) {
			changes *= 8
		}
		for range changes {
			in.change()
		}
	}
	in.update(m, now)
}

// buying is the probability, in 256, that an order buys: pressure, and a pull back to where the market began.
func (in *instrument) buying() uint64 {
	away := int64((in.bids.best() - in.price) * 320 / in.price)
	return uint64(min(max(128+2*in.pressure-away, 24), 232))
}

// hit makes an order that trades against the book, level by level.
func (in *instrument) hit(m *Market, now market.Time) {
	book, aggressor := &in.bids, market.Ask
	if in.chance(in.buying()) {
		book, aggressor = &in.asks, market.Bid
	}
	left := max(in.size()*market.Size(in.mood+2)/8, 1)
	for fills := 0; left > 0 && fills < maxFills && len(book.levels) > in.depth/2; fills++ {
		l := book.levels[len(book.levels)-1]
		fill := min(left, l.Size)
		left -= fill
		book.set(l.Price, l.Size-fill)
		in.print(m, now, l.Price, fill, aggressor)
	}
}

// change is one order placed, changed or taken away.
func (in *instrument) change() {
	s, other := &in.asks, &in.bids
	if in.chance(in.buying()) {
		s, other = &in.bids, &in.asks
	}
	room := uint64(s.toward(other.best()-s.best())/in.TickSize) - 1
	missing := in.depth - len(s.levels)
	switch r := in.below(256); {
	case room > 0 && r < min(16+24*room, 176):
		s.set(s.best()+s.sign*in.TickSize*market.Price(1+in.below(min(room, 2+in.gap/8))), in.size())
	case r < 208:
		s.set(s.levels[s.at(in.rank(len(s.levels)))].Price, in.size())
	case in.chance(uint64(min(max(128+8*missing, 8), 248))):
		in.place(s)
	default:
		in.cancel(s, room)
	}
}

// place adds an order behind the best, most often near it.
func (in *instrument) place(s *side) {
	rank := len(s.levels) - 1
	if in.chance(160) {
		rank = in.rank(len(s.levels))
	}
	if p := s.levels[s.at(rank)].Price - s.sign*in.distance(rank); p > 0 {
		s.set(p, in.size())
	}
}

// cancel takes a level away; the best only from a narrow market.
func (in *instrument) cancel(s *side, room uint64) {
	if len(s.levels) <= in.depth/2 {
		return
	}
	rank := in.rank(len(s.levels))
	if in.chance(96) {
		rank = len(s.levels) - 1
	}
	if rank == 0 && room > 2+in.gap/8 {
		rank = 1
	}
	s.set(s.levels[s.at(rank)].Price, 0)
}

// define writes the instrument record.
func (in *instrument) define(m *Market) {
	start := len(m.memory)
	b := in.head(m.memory, "instrument")
	b = append(b, `,"source":"tickwire","ps":`...)
	b = strconv.AppendUint(b, uint64(in.PriceScale), 10)
	b = append(b, `,"ss":`...)
	b = strconv.AppendUint(b, uint64(in.SizeScale), 10)
	b = append(b, `,"tick":"`...)
	b = append(market.AppendFixed(b, in.TickSize, in.PriceScale), '"')
	m.memory = tail(b, m.cfg.Start)
	m.emit(Instrument, m.cfg.Start, in.key, start)
}

// snapshot writes the whole book.
func (in *instrument) snapshot(m *Market, now market.Time) {
	start := len(m.memory)
	b := in.head(m.memory, "book")
	b = append(b, `,"snapshot":true,"last":`...)
	b = strconv.AppendUint(b, in.sequence, 10)
	b = in.appendSide(append(b, `,"bids":[`...), &in.bids)
	b = in.appendSide(append(b, `],"asks":[`...), &in.asks)
	m.memory = tail(append(b, ']'), now)
	m.emit(Snapshot, now, in.key, start)
}

func (in *instrument) appendSide(b []byte, s *side) []byte {
	for i := len(s.levels) - 1; i >= 0; i-- {
		b = in.appendLevel(b, s.levels[i])
		if i > 0 {
			b = append(b, ',')
		}
	}
	return b
}

// update writes what has changed since the last update; the venue counts each changed level.
func (in *instrument) update(m *Market, now market.Time) {
	changed := uint64(len(in.bids.dirty) + len(in.asks.dirty))
	if changed == 0 {
		return
	}
	start, moot := len(m.memory), in.bids.moot() && in.asks.moot()
	b := in.head(m.memory, "book")
	b = strconv.AppendUint(append(b, `,"first":`...), in.sequence+1, 10)
	in.sequence += changed
	b = strconv.AppendUint(append(b, `,"last":`...), in.sequence, 10)
	b = in.appendChanged(append(b, `,"bids":[`...), &in.bids)
	b = in.appendChanged(append(b, `],"asks":[`...), &in.asks)
	m.memory = tail(append(b, ']'), now)
	m.emit(Update, now, in.key, start)
	m.queue[len(m.queue)-1].Moot = moot
}

func (in *instrument) appendChanged(b []byte, s *side) []byte {
	for i := range s.dirty {
		if i > 0 {
			b = append(b, ',')
		}
		b = in.appendLevel(b, s.dirty[i].Level)
	}
	s.dirty = s.dirty[:0]
	return b
}

func (in *instrument) appendLevel(b []byte, l market.Level) []byte {
	b = market.AppendFixed(append(b, `["`...), l.Price, in.PriceScale)
	b = market.AppendFixed(append(b, `","`...), l.Size, in.SizeScale)
	return append(b, `"]`...)
}

// print writes a trade.
func (in *instrument) print(m *Market, now market.Time, p market.Price, size market.Size, aggressor market.Side) {
	in.trade++
	start := len(m.memory)
	b := in.head(m.memory, "trade")
	b = market.AppendFixed(append(b, `,"price":"`...), p, in.PriceScale)
	b = market.AppendFixed(append(b, `","size":"`...), size, in.SizeScale)
	if aggressor == market.Bid {
		b = append(b, `","side":"buy","id":`...)
	} else {
		b = append(b, `","side":"sell","id":`...)
	}
	m.memory = tail(strconv.AppendUint(b, in.trade, 10), now)
	m.emit(Trade, now, in.key, start)
}

func (in *instrument) head(b []byte, kind string) []byte {
	b = append(append(b, `{"type":"`...), kind...)
	b = append(append(b, `","sym":"`...), in.Sym...)
	return append(b, '"')
}

func tail(b []byte, at market.Time) []byte {
	b = strconv.AppendInt(append(b, `,"ts":`...), at.Micros(), 10)
	return append(b, '}')
}
