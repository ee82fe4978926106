package mirror

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Page is what a topic held at one instant, as JSON: how the topic stands, and its messages as the WebSocket has them. A
// page is made once for all who ask while the topic stands still, and is not changed.
type Page struct {
	// Tag differs from that of any other content of the same question, and is the same on every edge. The times at which
	// an edge encoded the messages do not count.
	Tag  string
	JSON []byte

	packing sync.Once
	packed  []byte
}

// Packed is the page in another form, which pack makes when it is first asked for.
func (p *Page) Packed(pack func(json []byte) []byte) []byte {
	p.packing.Do(func() { p.packed = pack(p.JSON) })
	return p.packed
}

// reads are the pages of an instrument that were asked for a moment ago: one for each question, so that thousands who ask
// at once share one encoding.
type reads struct {
	mu    sync.Mutex
	slots map[question]*slot
}

// question is what pages are kept for. How many entries are asked for does not count: the newest such page is kept.
type question struct {
	ch    market.Channel
	iv    market.Interval
	depth uint16
}

// slot is the newest page of a question.
type slot struct {
	mu   sync.Mutex // taken before the instrument's lock, and held while encoding: those who come meanwhile wait for it
	at   standing
	page *Page
	used time.Duration // guarded by reads.mu
}

// standing is all that a page depends on.
type standing struct {
	seq    market.Sequence
	state  market.State
	why    market.Reason
	from   uint64        // of trades: the position of the first
	ticker market.Ticker // without its time
	limit  int           // of bars, and the rest too
	before market.Time
	trades uint64 // the newest in the open bar
}

// slot finds the place of a page.
func (r *reads) slot(q question, now time.Duration) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[q]
	if s == nil {
		s = new(slot)
		if r.slots == nil {
			r.slots = make(map[question]*slot)
		}
		r.slots[q] = s
	}
	s.used = now
	return s
}

// cool forgets what nobody has asked for lately.
func (r *reads) cool(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q, s := range r.slots {
		if now-s.used > keepHot {
			delete(r.slots, q)
		}
	}
}

// page answers a question. With the instrument's lock held, look says how the topic stands, and take copies what it holds,
// if there is no page of that standing yet. Without the lock, encode then appends it as a member, and returns what the page's
// tag must tell beside the place.
func (in *Instrument) page(q question, look func(*standing), take func(*scratch), encode func([]byte, *scratch) ([]byte, string)) *Page {
	f := in.feedOf(wire.Topic{Channel: q.ch, Interval: q.iv})
	s := in.reads.slot(q, in.m.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	in.mu.Lock()
	at := standing{seq: f.seq}
	at.state, at.why = in.stateOf(q.ch)
	look(&at)
	if s.page != nil && s.at == at {
		in.mu.Unlock()
		return s.page
	}
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	take(x)
	in.mu.Unlock()
	x.bytes = wire.AppendStanding(x.bytes[:0], &wire.TopicStatus{Topic: f.key, Sequence: at.seq, State: at.state, Why: at.why})
	body, more := encode(x.bytes, x)
	x.bytes = append(body, '}')
	s.at, s.page = at, &Page{Tag: at.tag(more), JSON: bytes.Clone(x.bytes)}
	return s.page
}

// tag names the content of a page.
func (a *standing) tag(more string) string {
	b := strconv.AppendUint(nil, uint64(a.seq.Epoch), 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, a.seq.Seq, 10)
	if more != "" {
		b = append(append(b, '-'), more...)
	}
	b = append(append(b, '-'), a.state.String()...)
	if a.why != market.NoReason {
		b = append(append(b, '-'), a.why.String()...)
	}
	return string(b)
}

// Book is the book at a depth, 0 for all of it, as one snapshot message whatever its size; null while there is none.
func (in *Instrument) Book(depth uint16) *Page {
	var s market.Snapshot
	var def *market.Instrument
	return in.page(question{ch: market.Books, depth: depth}, func(*standing) {}, func(x *scratch) {
		if def = in.def; in.hasBook {
			s = in.cut(depth, x)
		}
	}, func(dst []byte, _ *scratch) ([]byte, string) {
		dst = append(dst, `,"book":`...)
		if s.Parts == 0 {
			return append(dst, `null`...), "none"
		}
		if depth > 0 {
			s.Hash.Sum = book.HashLevels(s.Bids, s.Asks)
		}
		in.m.stats.Snapshots.Add(1)
		return wire.AppendSnapshotJSON(dst, def, &s, wall()), ""
	})
}

// cut copies the best levels of the book, without their hash unless it is that of all of them. The levels are in x until it
// is used again.
func (in *Instrument) cut(depth uint16, x *scratch) market.Snapshot {
	s := market.Snapshot{Head: in.bookHead, View: market.View{Depth: depth}, Hash: market.Hash{Sum: in.book.Hash(), OK: true}, Part: 1, Parts: 1}
	s.Prev = s.Seq
	x.bids = in.book.AppendLevels(x.bids[:0], market.Bid, int(depth))
	x.asks = in.book.AppendLevels(x.asks[:0], market.Ask, int(depth))
	s.Bids, s.Asks = x.bids, x.asks
	return s
}

// Trades are up to n of the newest entries of the trades' log, gaps among them, oldest first.
func (in *Instrument) Trades(n int) *Page {
	var entries []*fanout.Entry
	topic := in.trades.topic
	return in.page(question{ch: market.Trades}, func(at *standing) { at.from = topic.Back(n) },
		func(*scratch) { entries = topic.Entries(topic.Back(n)) },
		func(dst []byte, _ *scratch) ([]byte, string) {
			dst = append(dst, `,"trades":[`...)
			for i, e := range entries {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(dst, topic.Form(e, JSON).Payload()...)
			}
			return append(dst, ']'), strconv.Itoa(len(entries))
		})
}

// Ticker is the ticker; null while there has been no trade.
func (in *Instrument) Ticker() *Page {
	var def *market.Instrument
	var t market.Ticker
	var some bool
	return in.page(question{ch: market.Tickers}, func(at *standing) {
		if some = in.tickerAt(max(in.last.Time, in.clock), &t); some {
			at.seq, at.ticker = t.Sequence(), t
			at.ticker.Time = 0 // it moves on by itself, and changes nothing
		}
	}, func(*scratch) { def = in.def }, func(dst []byte, x *scratch) ([]byte, string) {
		dst = append(dst, `,"ticker":`...)
		if !some {
			return append(dst, `null`...), "none"
		}
		timeless := t
		timeless.Time, timeless.In = 0, 0
		x.out = wire.AppendTicker(x.out[:0], &timeless)
		sum := fnv.New64a()
		_, _ = sum.Write(x.out) // never fails
		return wire.AppendTickerJSON(dst, def, &t, wall()), strconv.FormatUint(sum.Sum64(), 36)
	})
}

// Bars are up to n of the newest final bars of an interval that begin before a time, oldest first, and behind them the open
// bar, if that does too. All final ones carry the topic's place, as a subscription's history does.
func (in *Instrument) Bars(iv market.Interval, n int, before market.Time) *Page {
	var bars []market.Bar
	var open market.Bar
	var shown bool
	var place market.Sequence // of the topic
	var trades uint64         // the open bar has them all
	var def *market.Instrument
	return in.page(question{ch: market.Bars, iv: iv}, func(at *standing) {
		at.limit, at.before = n, before
		if open, shown = in.bars[iv].openBar(); shown && open.Start >= before {
			shown = false
		}
		if shown {
			at.trades = in.trades.seq.Seq
		}
		place, trades = at.seq, at.trades
	}, func(*scratch) {
		def = in.def
		bars = in.series.ClosedBefore(iv, before, n, nil)
	}, func(dst []byte, _ *scratch) ([]byte, string) {
		dst = append(dst, `,"bars":[`...)
		out := wall()
		for i := range bars {
			b := &bars[i]
			b.Inst, b.Epoch, b.Prev, b.Seq = def.ID, place.Epoch, place.Seq, place.Seq
		}
		if shown {
			bars = append(bars, open)
		}
		for i := range bars {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = wire.AppendBarJSON(dst, def, &bars[i], out)
		}
		return append(dst, ']'), strconv.FormatUint(trades, 10)
	})
}

// Description is an instrument as a whole, at one instant.
type Description struct {
	market.Instrument
	Sequence market.Sequence // of its status
	Status   market.State    // the venue's word
	State    market.State    // of what comes from its trades, and of itself
	Why      market.Reason
	Book     market.State // of its book
}

// Describe tells what the instrument is.
func (in *Instrument) Describe() Description {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := Description{Instrument: *in.def, Sequence: in.statuses.seq, Status: in.status.State, State: in.state, Why: in.why}
	d.Book, _ = in.bookState()
	return d
}

// listed are instruments by sym, of the first n that became known.
type listed struct {
	n   int
	all []*Instrument
}

// Listed returns the instruments that new readers may know, by sym: not those that have long been delisted.
func (m *Mirror) Listed() []*Instrument {
	known := m.Instruments()
	l := m.listed.Load()
	if l == nil || l.n < len(known) {
		l = &listed{n: len(known), all: slices.Clone(known)}
		slices.SortFunc(l.all, func(a, b *Instrument) int { return strings.Compare(a.sym, b.sym) })
		m.listed.Store(l)
	}
	all := make([]*Instrument, 0, len(l.all))
	for _, in := range l.all {
		if !in.gone() {
			all = append(all, in)
		}
	}
	return all
}
