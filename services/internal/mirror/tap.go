package mirror

import (
	"fmt"
	"slices"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Tap follows one channel of some instruments for many clients at once: it is told what happens, and makes of it what it
// likes. Its methods are called with the instrument's lock held; they must not block, nor ask the instrument anything but
// [Instrument.JSON].
type Tap interface {
	// Begin is called once for each instrument, before anything else.
	Begin(in *Instrument, at Look)
	// Event is called for each new entry of the channel's log: a trade, a gap, a final bar.
	Event(in *Instrument, e *fanout.Entry)
	// Interrupted says that the entries to come do not follow those before.
	Interrupted(in *Instrument)
	// Changed says that the channel's value or state is not what it was; Look tells what it is now.
	Changed(in *Instrument)
}

// Look is how a channel of an instrument stands.
type Look struct {
	Definition *market.Instrument
	Partition  int
	Offset     int64 // of the newest record of md.events that the partition has applied; for Begin alone
	Sequence   market.Sequence
	State      market.State
	Why        market.Reason
	Value      []byte          // JSON of what the channel holds: a ticker, a bbo, an open bar; nil if there is none
	Recent     []*fanout.Entry // the newest entries of the log, as far as they are kept; for Begin alone
	Final      [][]byte        // JSON of the newest final bars, which Recent may not reach; for Begin alone
}

// Tapped says what a Tap follows.
type Tapped struct {
	Channel  market.Channel
	Interval market.Interval // of bars
	Syms     []string
	All      bool // instead of Syms: every instrument, those to come included
	Recent   int  // how much Begin is told of what was
}

// Tap begins to follow. What Begin is told of the instruments of one partition is of one instant. It fails with ErrNotReady
// or an UnknownError.
func (m *Mirror) Tap(t Tap, what Tapped) error {
	if what.All {
		if m.Ready() != nil {
			return ErrNotReady
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.taps = append(m.taps, wideTap{t, what})
		for _, in := range m.all {
			in.tap(t, &what)
		}
		return nil
	}
	parts := map[*partition][]*Instrument{}
	for _, sym := range what.Syms {
		in, err := m.Find(sym)
		if err != nil {
			return err
		}
		parts[in.part] = append(parts[in.part], in)
	}
	for p, all := range parts {
		p.tap(t, &what, all)
	}
	return nil
}

// UnknownError is for a symbol that no instrument has.
type UnknownError struct{ Sym string }

func (e *UnknownError) Error() string { return fmt.Sprintf("there is no instrument %q", e.Sym) }

// Find returns the instrument with a sym for a new reader: not while its state is still being read (ErrNotReady), nor when
// it has long been delisted (UnknownError).
func (m *Mirror) Find(sym string) (*Instrument, error) {
	in := m.Instrument(sym)
	switch {
	case in == nil && m.Ready() != nil, in != nil && !in.part.isReady():
		return nil, ErrNotReady
	case in == nil || in.gone():
		return nil, &UnknownError{sym}
	}
	return in, nil
}

// gone tells whether the instrument is no longer known to new subscribers.
func (in *Instrument) gone() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.delisted()
}

func (p *partition) tap(t Tap, what *Tapped, all []*Instrument) {
	p.applying.Lock()
	defer p.applying.Unlock()
	for _, in := range all {
		in.tap(t, what)
	}
}

func (in *Instrument) tap(t Tap, what *Tapped) {
	in.mu.Lock()
	defer in.mu.Unlock()
	f := in.feedOf(wire.Topic{Channel: what.Channel, Interval: what.Interval})
	f.tell() // so that what t is told of next differs from what it begins with
	at := in.look(f)
	at.Offset = in.part.reached.Load()
	if what.Recent > 0 {
		at.Recent = f.topic.Entries(f.topic.Back(what.Recent))
	}
	if what.Channel == market.Bars {
		x := scratches.Get().(*scratch)
		defer scratches.Put(x)
		for _, b := range in.series.Closed(what.Interval, what.Recent, nil) {
			b.Inst, b.Epoch, b.Prev, b.Seq = in.def.ID, f.seq.Epoch, f.seq.Seq, f.seq.Seq
			at.Final = append(at.Final, wire.AppendBarJSON(nil, in.def, &b, wall()))
		}
	}
	f.taps = append(f.taps, t)
	t.Begin(in, at)
}

// Untap ends what Tap began.
func (m *Mirror) Untap(t Tap, what Tapped) {
	m.mu.Lock()
	m.taps = slices.DeleteFunc(m.taps, func(w wideTap) bool { return w.tap == t })
	all := m.all
	m.mu.Unlock()
	if !what.All {
		all = nil
		for _, sym := range what.Syms {
			if in := m.Instrument(sym); in != nil {
				all = append(all, in)
			}
		}
	}
	for _, in := range all {
		in.mu.Lock()
		f := in.feedOf(wire.Topic{Channel: what.Channel, Interval: what.Interval})
		f.taps = slices.DeleteFunc(f.taps, func(o Tap) bool { return o == t })
		in.mu.Unlock()
	}
}

// wideTap is a Tap of all instruments.
type wideTap struct {
	tap  Tap
	what Tapped
}

// Look tells how a channel that holds one value stands now.
func (in *Instrument) Look(ch market.Channel, iv market.Interval) Look {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.look(in.feedOf(wire.Topic{Channel: ch, Interval: iv}))
}

func (in *Instrument) look(f *feed) Look {
	l := Look{Definition: in.def, Partition: in.part.n, Sequence: f.seq}
	l.State, l.Why = in.stateOf(f.key.Channel)
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	switch f.key.Channel {
	case market.Tickers:
		if t := &x.ticker; in.tickerAt(max(in.last.Time, in.clock), t) {
			l.Sequence = t.Sequence()
			l.Value = wire.AppendTickerJSON(nil, in.def, t, wall())
		}
	case market.BBOs:
		if in.hasBook {
			x.bbo = in.bestNow()
			l.Sequence = x.bbo.Sequence()
			l.Value = wire.AppendBBOJSON(nil, in.def, &x.bbo, wall())
		}
	case market.Bars:
		if b, ok := in.bars[f.key.Interval].openBar(); ok {
			l.Value = wire.AppendBarJSON(nil, in.def, &b, wall())
		}
	}
	return l
}

// JSON is an entry of a channel's log as a JSON message, made once for all who want it. It must not be changed.
func (in *Instrument) JSON(ch market.Channel, iv market.Interval, e *fanout.Entry) []byte {
	return in.feedOf(wire.Topic{Channel: ch, Interval: iv}).topic.Form(e, JSON).Payload()
}

// Since returns the entries of a channel's log that stand behind an offset of md.events. It fails when some of them are no
// longer kept, or were never read.
func (in *Instrument) Since(ch market.Channel, iv market.Interval, offset int64) ([]*fanout.Entry, bool) {
	if offset < in.part.since.Load() {
		return nil, false
	}
	return in.feedOf(wire.Topic{Channel: ch, Interval: iv}).topic.From(offset)
}

// Partition is the instrument's in md.events, and how far that has been read: the offset of the newest record applied.
func (in *Instrument) Partition() (partition int, offset int64) {
	p := in.part
	return p.n, p.reached.Load()
}

// happened tells of an entry that is new, and not read once more as history.
func (f *feed) happened(e *fanout.Entry) {
	for _, t := range f.taps {
		t.Event(f.in, e)
	}
}

func (f *feed) changed() {
	for _, t := range f.taps {
		t.Changed(f.in)
	}
}

func (f *feed) interrupted() {
	for _, t := range f.taps {
		t.Interrupted(f.in)
	}
}
