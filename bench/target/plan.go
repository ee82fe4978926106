package target

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Epoch is the one of all topics.
const Epoch = 1_700_000_000

// Plan is a fixed schedule: the messages go round the topics, message i (from 0) to topic i modulo their number. When each is
// due follows from Start and Schedule alone. Two servers with the same plan publish the same bytes, as two edges that read the
// same log do.
type Plan struct {
	Start    int64             // µs since 1970
	Schedule schedule.Schedule // messages over all topics; unused when InFlight is set
	Count    uint64            // messages, after which publishing ends; 0 is no end
	InFlight int               // publish as fast as no more than so many are on their way to the slowest client; needs one topic
}

// due is when message i is meant to be sent, in µs.
func (p *Plan) due(i uint64) int64 { return p.Start + p.Schedule.Due(float64(i)).Microseconds() }

// Pace is the shortest sleep of a publisher: what falls due meanwhile is published in one go, late by no more than that. A
// log's reader gets its records in batches too.
const Pace = time.Millisecond

// publisher runs plans.
type publisher struct {
	sink  sink // nil: nothing is published
	late  lateness
	maker maker
	count atomic.Uint64 // messages published
	done  atomic.Uint64 // of these, how many every client has
	moved chan struct{} // done has moved; room for one
}

// sink takes messages: the same one for all subscribers of a topic.
type sink interface {
	publish(topic int, t wire.Template, payload []byte) error
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context, plan Plan) error {
	runtime.LockOSThread() // see schedule.SleepUntil
	defer runtime.UnlockOSThread()
	if p.sink == nil {
		<-ctx.Done()
		return nil
	}
	if plan.InFlight > 0 {
		return p.saturate(ctx, plan.InFlight)
	}
	start := p.count.Load()
	ended := func() bool {
		return ctx.Err() != nil || plan.Count > 0 && p.count.Load()-start >= plan.Count
	}
	var last time.Time // when messages were published
	for !ended() {
		due := plan.due(p.count.Load() - start)
		at := time.UnixMicro(due)
		if next := last.Add(Pace); next.After(at) {
			at = next
		}
		schedule.SleepUntil(ctx, at)
		last = time.Now()
		for ; due <= last.UnixMicro() && !ended(); due = plan.due(p.count.Load() - start) {
			p.late.record(time.Now().UnixMicro() - due)
			if err := p.next(due); err != nil {
				return err
			}
		}
	}
	return nil
}

// saturate keeps so many messages on their way.
func (p *publisher) saturate(ctx context.Context, inFlight int) error {
	for ctx.Err() == nil {
		if p.count.Load()-p.done.Load() < uint64(inFlight) {
			if err := p.next(time.Now().UnixMicro()); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-p.moved:
		}
	}
	return nil
}

func (p *publisher) next(due int64) error {
	i := p.count.Load()
	topic := int(i % uint64(len(p.maker.topics)))
	t, b := p.maker.make(topic, due)
	err := p.sink.publish(topic, t, b)
	p.count.Store(i + 1)
	return err
}

// maker makes the messages of a channel, of a given length as near as can be.
type maker struct {
	channel market.Channel
	topics  []topic
	levels  int // of a book update
	id      []byte
	random  *rand.Rand // for trades, which are as different as a market's are
	buf     []byte
	delta   market.Delta
}

type topic struct {
	inst market.Instrument
	seq  uint64
	book book.Book
}

const (
	depth      = 50 // levels a side of the books
	midPrice   = 100_000_00
	updateSize = 72 // bytes of a book update without levels, frame header included
	tradeSize  = 69 // of a trade without id
	levelSize  = 16
)

func newMaker(channel market.Channel, topics, size int) maker {
	m := maker{channel: channel, levels: levels(size), id: bytes.Repeat([]byte{'7'}, idLength(size)), random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same in every server
	m.topics = make([]topic, topics)
	for i := range m.topics {
		t := &m.topics[i]
		t.inst = market.Instrument{ID: uint32(i + 1), Sym: Sym(i), Source: "bench", Symbol: Sym(i), PriceScale: 2, SizeScale: 4}
		if channel != market.Books {
			continue
		}
		for l := range depth {
			t.book.Set(market.Bid, market.Price(midPrice-l), market.Size(l+1))
			t.book.Set(market.Ask, market.Price(midPrice+1+l), market.Size(l+1))
		}
		t.seq = 1
		t.book.SetSequence(market.Sequence{Epoch: Epoch, Seq: 1})
	}
	return m
}

// FrameSize is how long frames in SBE are when size is asked for. In JSON they are longer.
func FrameSize(channel string, size int) int {
	if channel == market.Books.String() {
		return updateSize + levelSize*levels(size)
	}
	return tradeSize + idLength(size)
}

func levels(size int) int   { return min(max(1, (size-updateSize)/levelSize), depth) }
func idLength(size int) int { return min(max(1, size-tradeSize), market.MaxTradeID) }

// Sym is the name of a topic's instrument.
func Sym(topic int) string {
	return "S" + string([]byte{byte('0' + topic/1000%10), byte('0' + topic/100%10), byte('0' + topic/10%10), byte('0' + topic%10)})
}

// make makes a topic's next message. It is valid until the next call.
func (m *maker) make(n int, due int64) (wire.Template, []byte) {
	t := &m.topics[n]
	t.seq++
	head := market.Head{
		Inst: t.inst.ID, Epoch: Epoch, Prev: t.seq - 1, Seq: t.seq, Time: market.FromMicros(due), In: market.FromMicros(due),
	}
	if m.channel != market.Books {
		trade := m.trade(head)
		m.buf = wire.AppendTrade(m.buf[:0], &trade)
		return wire.TemplateTrade, m.buf
	}
	d := &m.delta
	d.Head, d.Bids, d.Asks = head, d.Bids[:0], d.Asks[:0]
	for i := range m.levels {
		level := market.Level{Size: market.Size(t.seq%1000 + uint64(i) + 1)}
		if i%2 == 0 {
			level.Price = market.Price(midPrice - i/2)
			d.Bids = append(d.Bids, level)
		} else {
			level.Price = market.Price(midPrice + 1 + i/2)
			d.Asks = append(d.Asks, level)
		}
	}
	if _, err := t.book.Apply(d); err != nil {
		panic("target: an update of our own does not fit: " + err.Error())
	}
	d.Hash = market.Hash{Sum: t.book.Hash(), OK: true}
	m.buf = wire.AppendDelta(m.buf[:0], d)
	return wire.TemplateBookUpdate, m.buf
}

// trade makes a trade near the middle, with the next id of the length that was asked for.
func (m *maker) trade(head market.Head) market.Trade {
	for i := len(m.id) - 1; i >= 0; i-- {
		if m.id[i]++; m.id[i] <= '9' {
			break
		}
		m.id[i] = '0'
	}
	t := market.Trade{Head: head, Price: market.Price(midPrice - 500 + m.random.IntN(1000)), Size: market.Size(1 + m.random.IntN(100_000)), Side: market.Bid}
	if m.random.IntN(2) == 0 {
		t.Side = market.Ask
	}
	t.ID, _ = market.MakeTradeID(m.id) // is short enough
	return t
}

// snapshot makes a topic's whole book.
func (m *maker) snapshot(n int, now market.Time) []byte {
	t := &m.topics[n]
	s := market.Snapshot{
		Head: market.Head{Inst: t.inst.ID, Epoch: Epoch, Prev: t.seq, Seq: t.seq, Time: now, In: now},
		Part: 1, Parts: 1, Hash: market.Hash{Sum: t.book.Hash(), OK: true},
	}
	s.Bids, s.Asks = t.book.AppendLevels(nil, market.Bid, 0), t.book.AppendLevels(nil, market.Ask, 0)
	return wire.AppendSnapshot(nil, &s)
}

// Last is the sequence of a topic's newest message in the lab when so many have been published over all topics.
func Last(channel string, topics, topic int, published uint64) uint64 {
	n := Share(topics, topic, published)
	if channel == market.Books.String() {
		n++ // the snapshot
	}
	return n
}

// Share is how many messages of all that were published are a topic's.
func Share(topics, topic int, published uint64) uint64 {
	return (published + uint64(topics-1-topic)) / uint64(topics)
}
