package pump

import (
	"sync"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/pkg/wire"
)

// ResyncEvery is how long a connector waits before it asks the venue for the same book again.
const ResyncEvery = 5 * time.Second

// Resyncer does a connector's other half: it follows md.events and asks the venue for a new snapshot of each book of its
// source that has become stale, at most every ResyncEvery per instrument. It is a stream.Handler.
type Resyncer struct {
	source string
	ask    func(sym string)
	now    func() time.Time

	mu    sync.Mutex
	ready map[int]bool
	stale map[string]bool      // by sym
	asked map[string]time.Time // by sym: when it was last asked for
}

// NewResyncer follows the books of source. ask is called from the reader's goroutines and must not block.
func NewResyncer(source string, ask func(sym string)) *Resyncer {
	return &Resyncer{source: source, ask: ask, now: time.Now, ready: make(map[int]bool), stale: make(map[string]bool), asked: make(map[string]time.Time)}
}

// Snapshot implements stream.Handler. A snapshot's status is followed by those in md.events only when it changes, so it is
// looked at as well.
func (r *Resyncer) Snapshot(_ int, s *stream.Snapshot) error {
	if s.Kind != stream.KindInstrument {
		return nil
	}
	var state stream.InstrumentSnapshot
	if err := state.Decode(s.Payload); err != nil {
		return err
	}
	r.note(&state.Status)
	return nil
}

// Phase implements stream.Handler.
func (r *Resyncer) Phase(partition int, phase stream.Phase, _ error) {
	r.mu.Lock()
	r.ready[partition] = phase == stream.PhaseReady || phase == stream.PhaseBack
	r.mu.Unlock()
	r.due()
}

// Batch implements stream.Handler.
func (r *Resyncer) Batch(b *stream.EventBatch) error {
	var ev stream.Event
	var status market.Status
	for b.Next(&ev) {
		if ev.Template != wire.TemplateStatus {
			continue
		}
		if err := wire.DecodeStatus(ev.Value, &status); err != nil {
			return err
		}
		r.note(&status)
	}
	r.mu.Lock()
	ready := r.ready[b.Partition]
	r.mu.Unlock()
	if ready { // what is old may have healed since
		r.due()
	}
	return nil
}

func (r *Resyncer) note(s *market.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sym := s.Instrument.Sym
	if s.Instrument.Source != r.source || s.Book != market.Stale || s.State == market.Delisted {
		delete(r.stale, sym)
	} else {
		r.stale[sym] = true
	}
}

// due asks for the books whose turn has come. Heartbeats bring a batch each second, so nothing waits long.
func (r *Resyncer) due() {
	now := r.now()
	var ask []string
	r.mu.Lock()
	for sym := range r.stale {
		if now.Sub(r.asked[sym]) >= ResyncEvery {
			r.asked[sym] = now
			ask = append(ask, sym)
		}
	}
	r.mu.Unlock()
	for _, sym := range ask {
		r.ask(sym)
	}
}
