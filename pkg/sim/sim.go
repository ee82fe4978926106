// Package sim is a made-up market: deterministic, seeded, and lifelike where it matters to software that carries market
// data. Orders come in clusters (a Hawkes process per instrument: each one makes the next more likely for a while), sizes
// have heavy tails, books are hundreds of levels deep and never crossed, trades are orders that hit the book, prices
// drift, and quiet times alternate with hectic ones.
//
// A [Market] yields native raw records as a connector writes them to md.raw: instruments, a snapshot of each book, then
// book updates with their first and last sequence, trades with ids that count, and a clock each second. All times are the
// market's own; whoever replays it decides how fast they pass. The same Config gives the same bytes, on every processor:
// see random.go.
package sim

import (
	"strconv"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// Config describes a market. The zero Config is the default one with its clock at 1970.
type Config struct {
	Seed        uint64
	Instruments int         // how many; 0 is 12
	Rate        int         // raw records a second, on average over all instruments; 0 is 500
	Depth       int         // levels a side, about; 0 is 400
	Start       market.Time // the first instant
	Session     string      // names the connection in the clocks; empty is sim
	Prefix      string      // before each instrument's name, for a market beside another
}

func (c Config) withDefaults() Config {
	if c.Instruments <= 0 {
		c.Instruments = len(known)
	}
	if c.Rate <= 0 {
		c.Rate = 500
	}
	if c.Depth <= 0 {
		c.Depth = 400
	}
	c.Depth = max(c.Depth, minDepth)
	c.Start = c.Start.Truncate(time.Microsecond)
	if c.Session == "" {
		c.Session = "sim"
	}
	return c
}

// Kind is what a record is.
type Kind uint8

// The kinds.
const (
	Instrument Kind = iota
	Snapshot
	Update
	Trade
	Clock
)

// Record is one raw record. Its source is tickwire.
type Record struct {
	Kind  Kind
	Time  market.Time // in whole microseconds, never before the record's before it
	Key   []byte      // the instrument's Sym; empty for a clock, which goes to each partition with instruments
	Value []byte      // native JSON
	Moot  bool        // an update that leaves the book as it was: an order came and went. Nobody hears of it
}

// Market is a simulated market. It is not for concurrent use.
type Market struct {
	cfg       Config
	books     []*instrument
	heap      []*instrument // by next event
	clock     market.Time   // the next one
	queue     []Record
	next      int // in queue
	memory    []byte
	resync    []*instrument
	available map[string]*instrument
}

// New makes a market.
func New(cfg Config) *Market {
	m := &Market{cfg: cfg.withDefaults(), available: map[string]*instrument{}}
	listings := list(m.cfg.Instruments, m.cfg.Prefix)
	weights := 0
	for i := range listings {
		weights += weight(i)
	}
	m.clock = (m.cfg.Start + market.Time(time.Second)).Truncate(time.Second)
	for i := range listings {
		in := newInstrument(&m.cfg, &listings[i], uint64(i))
		in.intensity(uint64(m.cfg.Rate)*1e6*uint64(weight(i))/uint64(weights), m.cfg.Start)
		m.books = append(m.books, in)
		m.available[in.Sym] = in
		m.push(in)
		in.define(m)
	}
	for _, in := range m.books {
		in.snapshot(m, m.cfg.Start)
	}
	return m
}

// weight is an instrument's share of all that happens: the first ones have most.
func weight(i int) int { return 100_000 / (i + 5) }

// Instruments lists what is traded.
func (m *Market) Instruments() []market.Instrument {
	all := make([]market.Instrument, 0, len(m.books))
	for _, in := range m.books {
		all = append(all, in.Instrument)
	}
	return all
}

// Book appends an instrument's book as it is after the last record, best levels first; it is what a reader of all records
// must have. An update may still be on its way when a record of a trade was the last one.
func (m *Market) Book(sym string, bids, asks []market.Level) ([]market.Level, []market.Level) {
	if in := m.available[sym]; in != nil {
		for i := len(in.bids.levels) - 1; i >= 0; i-- {
			bids = append(bids, in.bids.levels[i])
		}
		for i := len(in.asks.levels) - 1; i >= 0; i-- {
			asks = append(asks, in.asks.levels[i])
		}
	}
	return bids, asks
}

// Resync asks for a new snapshot of an instrument's book, as a connector does when its book has become stale. It comes
// with the next records. An unknown instrument is ignored.
func (m *Market) Resync(sym string) {
	if in := m.available[sym]; in != nil {
		m.resync = append(m.resync, in)
	}
}

// Next returns the next record; the market never ends. What it returns is valid until the call after.
func (m *Market) Next() *Record {
	for m.next == len(m.queue) {
		m.queue, m.next, m.memory = m.queue[:0], 0, m.memory[:0]
		m.advance()
	}
	m.next++
	return &m.queue[m.next-1]
}

// advance makes the records of the next instant at which something happens.
func (m *Market) advance() {
	in := m.heap[0]
	if m.clock <= in.due {
		m.tick()
		return
	}
	now := in.due.Truncate(time.Microsecond)
	for _, again := range m.resync {
		again.snapshot(m, now)
	}
	m.resync = m.resync[:0]
	in.act(m, now)
	in.wait()
	m.sink()
}

func (m *Market) tick() {
	start := len(m.memory)
	b := append(m.memory, `{"type":"clock","source":"tickwire","session":`...)
	b = strconv.AppendQuote(b, m.cfg.Session)
	b = strconv.AppendInt(append(b, `,"ts":`...), m.clock.Micros(), 10)
	m.memory = append(b, '}')
	m.emit(Clock, m.clock, nil, start)
	m.clock += market.Time(time.Second)
}

// emit queues the record whose value is m.memory from start on. The memory may move while the queue grows, and then the
// earlier values stay where they were.
func (m *Market) emit(kind Kind, at market.Time, key []byte, start int) {
	m.queue = append(m.queue, Record{Kind: kind, Time: at, Key: key, Value: m.memory[start:len(m.memory):len(m.memory)]})
}

// before orders instruments by their next event.
func before(a, b *instrument) bool {
	return a.due < b.due || a.due == b.due && a.index < b.index
}

func (m *Market) push(in *instrument) {
	m.heap = append(m.heap, in)
	for i := len(m.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !before(m.heap[i], m.heap[parent]) {
			break
		}
		m.heap[i], m.heap[parent] = m.heap[parent], m.heap[i]
		i = parent
	}
}

// sink puts the first instrument, whose next event has moved, where it belongs.
func (m *Market) sink() {
	h := m.heap
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && before(h[child+1], h[child]) {
			child++
		}
		if !before(h[child], h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
