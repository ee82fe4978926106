package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/bar"
	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// script plays the ingest of one instrument: it makes the events that a mirror reads, and keeps the truth beside them.
type script struct {
	t    *testing.T
	m    *Mirror
	rnd  *rand.Rand
	def  market.Instrument
	now  market.Time
	book book.Book // the truth

	epoch    uint32
	offset   int64
	status   uint64
	trades   uint64
	barSeq   [market.NumIntervals]uint64
	series   bar.Series
	all      []market.Trade
	finals   [market.NumIntervals][]market.Bar
	out      []byte
	lastBBO  [2]market.Level
	bboMoves int
}

const epoch = 1_700_000_000

func newScript(t *testing.T, m *Mirror, sym string, id uint32) *script {
	s := &script{
		t: t, m: m, rnd: rand.New(rand.NewPCG(uint64(id), 7)), epoch: epoch,
		def: market.Instrument{ID: id, Sym: sym, Source: "sim", Symbol: sym, PriceScale: 2, SizeScale: 4, TickSize: 1},
		now: market.FromMicros(epoch * 1_000_000),
	}
	s.series.SizeScale = s.def.SizeScale
	return s
}

func (s *script) send(tpl wire.Template, b []byte) {
	s.t.Helper()
	s.out = b
	s.offset++
	if err := s.m.Record(0, s.offset, tpl, b); err != nil {
		s.t.Fatal(err)
	}
	clear(b) // the reader's buffer is not the mirror's to keep
}

func (s *script) head(seq uint64) market.Head {
	s.now += market.Time(time.Millisecond)
	return market.Head{Inst: s.def.ID, Epoch: s.epoch, Prev: seq - 1, Seq: seq, Time: s.now, In: s.now}
}

func (s *script) state(venue, bookState market.State, why market.Reason) {
	s.status++
	st := market.Status{Head: s.head(s.status), Instrument: s.def, State: venue, Book: bookState, Why: why}
	s.send(wire.TemplateStatus, wire.AppendStatus(s.out[:0], &st))
}

// beat is the owner's heartbeat.
func (s *script) beat() {
	h := wire.OwnerHeartbeat{Time: s.now, Sources: []wire.SourceClock{{Source: "sim", Last: s.now}}}
	s.send(wire.TemplateOwnerHeartbeat, wire.AppendOwnerHeartbeat(s.out[:0], &h))
}

// reset writes a book of about n levels a side.
func (s *script) reset(n int) {
	var bids, asks []market.Level
	for i := range n {
		bids = append(bids, market.Level{Price: market.Price(100_000 - 2*i - s.rnd.IntN(2)), Size: s.size()})
		asks = append(asks, market.Level{Price: market.Price(100_010 + 2*i + s.rnd.IntN(2)), Size: s.size()})
	}
	head := s.head(s.book.Sequence().Seq + 1)
	s.book.Replace(bids, asks)
	s.book.SetSequence(head.Sequence())
	snap := market.Snapshot{Head: head, Hash: market.Hash{Sum: s.book.Hash(), OK: true}}
	snap.Bids = s.book.AppendLevels(nil, market.Bid, 0)
	snap.Asks = s.book.AppendLevels(nil, market.Ask, 0)
	parts := max(1, (len(snap.Bids)+len(snap.Asks)+market.MaxSnapshotLevels-1)/market.MaxSnapshotLevels)
	all := slices.Clone(snap.Bids)
	for i := range parts {
		part := snap
		part.Part, part.Parts = uint16(i+1), uint16(parts)
		if parts > 1 {
			lo, hi := i*market.MaxSnapshotLevels, min((i+1)*market.MaxSnapshotLevels, len(snap.Bids)+len(snap.Asks))
			cut := func(from, to int, levels []market.Level) []market.Level {
				from, to = min(max(from, 0), len(levels)), min(max(to, 0), len(levels))
				return levels[from:to]
			}
			part.Bids = cut(lo, hi, snap.Bids)
			part.Asks = cut(lo-len(all), hi-len(all), snap.Asks)
		}
		if i < parts-1 {
			part.Hash = market.Hash{}
		}
		s.send(wire.TemplateBookSnapshot, wire.AppendSnapshot(s.out[:0], &part))
	}
	s.noteBest()
}

func (s *script) size() market.Size { return market.Size(1 + s.rnd.IntN(1_000_000)) }

// update touches a few levels, mostly near the best.
func (s *script) update(levels int) {
	d := market.Delta{Head: s.head(s.book.Sequence().Seq + 1)}
	for range 1 + s.rnd.IntN(levels) {
		far := s.rnd.IntN(1 << (1 + s.rnd.IntN(8)))
		size := s.size()
		if s.rnd.IntN(3) == 0 {
			size = 0
		}
		if s.rnd.IntN(2) == 0 {
			d.Bids = append(d.Bids, market.Level{Price: market.Price(100_000 - far), Size: size})
		} else {
			d.Asks = append(d.Asks, market.Level{Price: market.Price(100_010 + far), Size: size})
		}
	}
	if _, err := s.book.Apply(&d); err != nil {
		s.t.Fatal(err)
	}
	d.Hash = market.Hash{Sum: s.book.Hash(), OK: true}
	s.send(wire.TemplateBookUpdate, wire.AppendDelta(s.out[:0], &d))
	s.noteBest()
}

func (s *script) noteBest() {
	bid, ask := s.book.Best()
	if best := [2]market.Level{bid, ask}; best != s.lastBBO {
		s.lastBBO = best
		s.bboMoves++
	}
}

func (s *script) trade() {
	s.trades++
	t := market.Trade{Head: s.head(s.trades), Price: market.Price(100_000 + s.rnd.IntN(10)), Size: s.size(), Side: market.Bid, ID: market.NumericTradeID(s.trades)}
	s.all = append(s.all, t)
	s.send(wire.TemplateTrade, wire.AppendTrade(s.out[:0], &t))
	s.bars(s.series.Add(&t, s.now, nil))
}

// clock advances the source's time.
func (s *script) clock(d time.Duration) {
	s.now += market.Time(d)
	s.bars(s.series.Advance(s.now, nil))
}

func (s *script) bars(due []market.Bar) {
	for i := range due {
		b := &due[i]
		s.barSeq[b.Interval]++
		b.Head = s.head(s.barSeq[b.Interval])
		s.finals[b.Interval] = append(s.finals[b.Interval], *b)
		s.send(wire.TemplateBar, wire.AppendBar(s.out[:0], b))
	}
}

// client reads what a mirror's hub sends it, and verifies it by the protocol's rules.
type client struct {
	t      *testing.T
	format fanout.Format
	conn   *fanout.Conn
	def    *market.Instrument
	view   market.View

	mu      sync.Mutex
	left    []byte // not taken, because it was blocked
	blocked bool
	closed  bool
	msg     wire.Message
	rest    []byte

	book     book.Book
	has      bool
	verified int
	updates  int
	raw      [][]byte // binary messages as they came
	trades   []market.Trade
	gaps     int
	missed   int64
	bars     []market.Bar
	barAt    market.Sequence
	bbos     []market.BBO
	tickers  []market.Ticker
	statuses []market.Status
	states   []wire.TopicStatus
	lags     int
	err      error
}

func newClient(t *testing.T, h *fanout.Hub, def *market.Instrument, format fanout.Format) *client {
	c := &client{t: t, format: format, def: def}
	conn, err := h.Attach(c, c)
	if err != nil {
		t.Fatal(err)
	}
	c.conn = conn
	return c
}

// Write implements fanout.Writer: a blocked client takes a part of what it is given and then nothing.
func (c *client) Write(b []byte) (left int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, b...)
	if c.blocked && !c.closed {
		c.take(c.left[:len(b)/3])
		c.left = c.left[len(b)/3:]
		return len(c.left), nil
	}
	return c.flush()
}

func (c *client) Flush() (left int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush()
}

func (c *client) flush() (left int, err error) {
	switch {
	case c.closed:
		return 0, errors.New("closed")
	case !c.blocked:
		c.take(c.left)
		c.left = nil
	}
	return len(c.left), nil
}

func (c *client) Finish() error { return c.Close() }
func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *client) block(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = yes
}

func (c *client) Lag([]fanout.Lagged, time.Duration) *fanout.Frame {
	c.lags++ // under mu or not: a client's passes come one after the other, and tests look when all is quiet
	return nil
}
func (c *client) Slow() *fanout.Frame { return fanout.NewFrame(fanout.Close, []byte{15, 168}) }
func (c *client) Closed(error)        {}

// take reads frames.
func (c *client) take(b []byte) {
	c.rest = append(c.rest, b...)
	for {
		if len(c.rest) < 2 {
			return
		}
		head, n := 2, int(c.rest[1])
		switch n {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		if len(c.rest) < head {
			return
		}
		switch head {
		case 4:
			n = int(binary.BigEndian.Uint16(c.rest[2:]))
		case 10:
			n = int(binary.BigEndian.Uint64(c.rest[2:]))
		}
		if len(c.rest) < head+n {
			return
		}
		c.message(c.rest[0]&15, c.rest[head:head+n])
		c.rest = append(c.rest[:0], c.rest[head+n:]...)
	}
}

func (c *client) fail(format string, args ...any) {
	if c.err == nil {
		c.err = errors.New("client")
		c.t.Errorf(format, args...)
	}
}

func (c *client) message(op byte, b []byte) {
	m := &c.msg
	var err error
	switch {
	case op == byte(fanout.Binary):
		c.raw = append(c.raw, bytes.Clone(b))
		err = wire.DecodeSBE(b, m)
	case op == byte(fanout.Text):
		err = wire.DecodeJSON(b, func([]byte) *market.Instrument { return c.def }, m)
	default:
		return
	}
	if err != nil {
		c.fail("message %q: %v", b, err)
		return
	}
	switch m.Kind {
	case wire.KindSnapshot:
		c.snapshot(&m.Snapshot)
	case wire.KindDelta:
		c.delta(&m.Delta)
	case wire.KindTrade:
		c.trade(&m.Trade)
	case wire.KindTradeGap:
		c.gap(&m.TradeGap)
	case wire.KindBar:
		c.bar(&m.Bar)
	case wire.KindBBO:
		c.bbos = append(c.bbos, m.BBO)
	case wire.KindTicker:
		c.tickers = append(c.tickers, m.Ticker)
	case wire.KindStatus:
		c.statuses = append(c.statuses, m.Status)
	case wire.KindTopicStatus:
		c.states = append(c.states, m.TopicStatus)
	default:
		c.fail("unexpected %v", m.Kind)
	}
}

func (c *client) snapshot(s *market.Snapshot) {
	if s.View != c.view {
		c.fail("snapshot of view %v, want %v", s.View, c.view)
	}
	if err := c.book.Load(s); err != nil {
		c.fail("snapshot part %d of %d at %v: %v", s.Part, s.Parts, s.Sequence(), err)
	}
	if s.Hash.OK {
		c.verified++
	}
	c.has = c.has || !c.book.Loading()
}

func (c *client) delta(d *market.Delta) {
	switch {
	case c.book.Loading():
		c.fail("an update between the parts of a snapshot")
		return
	case !c.has:
		c.fail("an update before the snapshot")
		return
	case d.View != c.view:
		c.fail("update of view %v, want %v", d.View, c.view)
	}
	applied, err := c.book.Apply(d)
	if err != nil {
		c.fail("view %v: update %d..%d: %v, local %v", c.view, d.Prev, d.Seq, err, c.book.Sequence())
		return
	}
	if !applied {
		return
	}
	c.updates++
	c.book.Cut(int(c.view.Depth))
	if !d.Hash.OK || d.Hash.Sum != c.book.Hash() {
		c.fail("view %v at %v: hash %x, want %x (%v)", c.view, d.Sequence(), c.book.Hash(), d.Hash.Sum, d.Hash.OK)
		return
	}
	c.verified++
}

func (c *client) trade(t *market.Trade) {
	if n := len(c.trades); n > 0 && t.Prev != c.trades[n-1].Seq {
		c.fail("trade %d follows %d, local %d", t.Seq, t.Prev, c.trades[n-1].Seq)
	}
	c.trades = append(c.trades, *t)
}

func (c *client) gap(g *market.TradeGap) {
	if n := len(c.trades); n > 0 && g.Prev != c.trades[n-1].Seq {
		c.fail("gap %d..%d, local %d", g.Prev, g.Seq, c.trades[n-1].Seq)
	}
	c.gaps++
	c.missed += g.Missed
	c.trades = append(c.trades, market.Trade{Head: g.Head})
}

func (c *client) bar(b *market.Bar) {
	if n := len(c.bars); n > 0 && b.Rev == 0 && b.Start < c.bars[n-1].Start {
		c.fail("a bar of %v behind one of %v", b.Start.Std(), c.bars[n-1].Start.Std())
	}
	if b.Final {
		if at := (market.Sequence{Epoch: b.Epoch, Seq: b.Prev}); c.barAt != (market.Sequence{}) && at != c.barAt {
			c.fail("bar %d follows %v, local %v", b.Seq, at, c.barAt)
		}
		c.barAt = b.Sequence()
	}
	c.bars = append(c.bars, *b)
}

func (c *client) subscribe(m *Mirror, r wire.TopicRequest, lossless bool) wire.Row {
	c.t.Helper()
	if r.Channel == market.Books {
		c.view = r.View
	}
	s, err := m.Subscribe(Client{Conn: c.conn, Format: c.format, Lossless: lossless}, &r)
	if err != nil {
		c.t.Fatalf("subscribe %v: %v", r, err)
	}
	s.Sub.Go()
	return s.Row
}

func topic(ch market.Channel, sym string) wire.TopicRequest {
	return wire.TopicRequest{Topic: wire.Topic{Channel: ch, Sym: sym}}
}

func newMirror(t *testing.T) (*Mirror, *fanout.Hub) {
	t.Helper()
	hub := fanout.New(fanout.Config{Shards: 2})
	m := New(DefaultConfig(), hub, zap.NewNop())
	m.Expect(1)
	hub.Start()
	return m, hub
}
