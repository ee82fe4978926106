package mirror

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// partition applies the events of one partition. Its methods load and apply are called from one goroutine, the reader's.
type partition struct {
	m *Mirror
	n int

	// What belongs to the reader's goroutine.
	insts map[uint32]*Instrument
	parts []byte // the parts of a book snapshot that is still arriving, end to end
	ends  []int
	event scratch
	beat  wire.OwnerHeartbeat

	applying sync.Mutex   // held while a record or a snapshot is applied; taken before any Instrument.mu
	resumed  bool         // reading has started over, and no record has come since
	at       atomic.Int64 // offset of the record that is being applied
	since    atomic.Int64 // everything behind this offset has been read
	reached  atomic.Int64 // offset of the newest record applied; -1 before there is one

	mu    sync.Mutex // taken after an Instrument.mu
	alive liveness
}

// scratch is memory for decoding.
type scratch struct {
	snapshot market.Snapshot
	delta    market.Delta
	trade    market.Trade
	gap      market.TradeGap
	barGap   wire.BarGap
	bar      market.Bar
	status   market.Status
	bbo      market.BBO
	ticker   market.Ticker
	bids     []market.Level
	asks     []market.Level
	merge    book.Merge
	out      []byte // what is being encoded
	bytes    []byte // what it is encoded from
	inst     stream.InstrumentSnapshot
}

func newPartition(m *Mirror, n int) *partition {
	p := &partition{m: m, n: n, insts: make(map[uint32]*Instrument)}
	p.reached.Store(-1)
	return p
}

func (p *partition) setReady(ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive.ready = ready
	p.alive.beat = 0 // what was heard before does not count: the next heartbeat lies beyond the end
}

// restart notes that reading starts over.
func (p *partition) restart() {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.resumed = true
}

func (p *partition) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive.ready
}

// load takes a snapshot from md.snapshots.
func (p *partition) load(s *stream.Snapshot) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	switch {
	case s.Kind == stream.KindInstrument:
		snap := &p.event.inst
		if err := snap.Decode(s.Payload); err != nil {
			return err
		}
		in := p.define(&snap.Status)
		in.mu.Lock()
		defer in.mu.Unlock()
		return in.load(snap)
	case s.Kind >= stream.KindBars && s.Kind < stream.KindBars+uint8(market.NumIntervals):
		return p.loadBars(s)
	}
	return nil // owners' business
}

// loadBars takes a block of final bars: SBE bars, end to end.
func (p *partition) loadBars(s *stream.Snapshot) error {
	in := p.insts[s.Inst]
	if in == nil {
		p.m.stats.Orphans.Add(1)
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	err := stream.DecodeBars(s.Payload, func(b *market.Bar) error {
		if b.Epoch == in.statuses.seq.Epoch { // blocks of an earlier numbering keep their keys
			in.series.Final(b)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bars of %s: %w", in.sym, err)
	}
	return nil
}

// define returns the instrument that a status describes, which may be new.
func (p *partition) define(s *market.Status) *Instrument {
	in := p.insts[s.Instrument.ID]
	if in == nil {
		in = newInstrument(p, s)
		p.insts[s.Instrument.ID] = in
		p.m.register(in)
	}
	return in
}

// step applies one record and keeps the place. Records that were read before, because reading has started over, are met
// again; those that are missing, because retention took them, make what lies before them useless to those who resume.
func (p *partition) step(offset int64, t wire.Template, b []byte, now time.Duration) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	reached := p.reached.Load()
	if reached < 0 || p.resumed && offset > reached+1 {
		p.since.Store(offset - 1)
	}
	p.resumed = false
	p.at.Store(offset)
	err := p.apply(t, b, now)
	p.reached.Store(max(reached, offset))
	return err
}

// apply takes one record of md.events. An error means that the record is not what its template promises.
func (p *partition) apply(t wire.Template, b []byte, now time.Duration) error {
	p.m.stats.Events.Add(1)
	switch {
	case t == wire.TemplateOwnerHeartbeat:
		return p.heartbeat(b, now)
	case t == wire.TemplateStatus:
		return p.status(b, now)
	case t == wire.TemplateBookSnapshot:
		return p.snapshot(b, now)
	case !t.IsEvent():
		return nil
	}
	head, err := wire.HeadOf(b)
	if err != nil {
		return err
	}
	in := p.insts[head.Inst]
	if in == nil {
		p.m.stats.Orphans.Add(1) // from before the snapshots that we started with
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.heard = now
	switch t {
	case wire.TemplateBookUpdate:
		return in.delta(b, &p.event)
	case wire.TemplateTrade:
		return in.trade(b, &p.event)
	case wire.TemplateTradeGap:
		return in.tradeGap(b, &p.event)
	case wire.TemplateBar:
		return in.bar(b, &p.event)
	}
	return nil
}

func (p *partition) status(b []byte, now time.Duration) error {
	s := &p.event.status
	if err := wire.DecodeStatus(b, s); err != nil {
		return err
	}
	in := p.define(s)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.heard = now
	in.setStatus(s, b)
	return nil
}

// snapshot gathers the parts of a book snapshot, which stand one after the other, and applies the complete set.
func (p *partition) snapshot(b []byte, now time.Duration) error {
	s := &p.event.snapshot
	if err := wire.DecodeSnapshot(b, s); err != nil {
		return err
	}
	if s.Part <= 1 {
		p.parts, p.ends = p.parts[:0], p.ends[:0]
	} else if int(s.Part) != len(p.ends)+1 {
		p.m.stats.Orphans.Add(1) // reading began between its parts
		return nil
	}
	p.parts = append(p.parts, b...)
	p.ends = append(p.ends, len(p.parts))
	if s.Part < s.Parts {
		return nil
	}
	defer func() { p.parts, p.ends = p.parts[:0], p.ends[:0] }()
	in := p.insts[s.Inst]
	if in == nil {
		p.m.stats.Orphans.Add(1)
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.heard = now
	return in.reset(p.parts, p.ends, &p.event)
}

// broken counts what can only be a fault of ours or of the writer's, and says it once in a while.
func (p *partition) broken(in *Instrument, what string, err error) {
	p.m.stats.Faults.Add(1)
	p.m.log.Error("the stream contradicts itself", zap.String("sym", in.sym), zap.String("what", what), zap.Error(err))
}
