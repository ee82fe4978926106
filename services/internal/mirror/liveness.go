package mirror

import (
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// How long silence lasts before it means something. All ages run on this process's monotonic clock since arrival.
const (
	ownerGrace = 2 * time.Second // heartbeats come each second
	// Clocks come each second and travel in heartbeats, which come each second: just before the next one arrives, the
	// newest known clock of a healthy source is up to two seconds old.
	sourceGrace = 2250 * time.Millisecond
	quietAfter  = 5 * time.Second
	repeatState = 15 * time.Second // for silent topics
)

// liveness is what a partition's owner says of itself and of its sources.
type liveness struct {
	ready   bool
	beat    time.Duration // when the newest heartbeat since ready arrived; 0 if none has
	sources map[string]*source
}

// source is the clock of a venue connection as the heartbeats tell it.
type source struct {
	last  market.Time   // newest event time
	moved time.Duration // about when it got it, by our clock
	lag   time.Duration // least difference seen between the owner's clock and the source's, slowly forgotten
}

// forgetLag lets the least lag rise, so that a clock that was set back counts as slow for a while only.
const forgetLag = 10 * time.Millisecond

// hear updates the source by a heartbeat that arrived at now and was written at written. A clock that has moved since the
// last heartbeat did so up to a second ago; how long ago shows in how much further it lags than it could.
func (s *source) hear(last, written market.Time, now time.Duration) {
	lag := time.Duration(written - last)
	if s.moved == 0 {
		s.lag = lag
	}
	s.lag = min(s.lag+forgetLag, lag)
	if last != s.last || s.moved == 0 {
		s.moved = now - min(max(lag-s.lag, 0), time.Second)
	}
	s.last = last
}

func (p *partition) heartbeat(b []byte, now time.Duration) error {
	if err := wire.DecodeOwnerHeartbeat(b, &p.beat); err != nil {
		return err
	}
	p.m.stats.Heartbeats.Add(1)
	p.hear(now)
	for _, in := range p.insts {
		in.mu.Lock()
		in.advance(&p.beat, &p.event)
		in.mu.Unlock()
	}
	return nil
}

func (p *partition) hear(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive.ready {
		return
	}
	p.alive.beat = now
	if p.alive.sources == nil {
		p.alive.sources = make(map[string]*source)
	}
	for _, c := range p.beat.Sources {
		s := p.alive.sources[c.Source]
		if s == nil {
			s = new(source)
			p.alive.sources[c.Source] = s
		}
		s.hear(c.Last, p.beat.Time, now)
	}
}

// heard tells when the owner and a source were last heard of; zero is never.
func (p *partition) heard(sourceName string) (owner, source time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.alive.sources[sourceName]; s != nil {
		source = s.moved
	}
	return p.alive.beat, source
}

// perceive derives the instrument's state.
func (in *Instrument) perceive(now time.Duration) (market.State, market.Reason) {
	owner, source := in.part.heard(in.def.Source)
	source = max(source, in.heard)
	switch {
	case in.status.State == market.Delisted:
		return market.Delisted, market.NoReason
	case owner == 0:
		return market.Stale, market.Start
	case now-owner > ownerGrace, now-source > sourceGrace:
		return market.Stale, market.Silent
	case in.status.State == market.Halted:
		return market.Halted, market.NoReason
	case now-in.heard > quietAfter:
		return market.Quiet, market.NoReason
	}
	return market.Live, market.NoReason
}

// bookState derives the state of what comes from the book.
func (in *Instrument) bookState() (market.State, market.Reason) {
	switch {
	case in.state == market.Stale || in.state == market.Delisted:
		return in.state, in.why
	case in.broken:
		return market.Stale, market.Mismatch
	case in.status.Book == market.Stale:
		return market.Stale, in.status.Why
	case !in.hasBook:
		return market.Stale, market.Start
	}
	return in.state, in.why
}

// stateOf is the state of a channel of the instrument.
func (in *Instrument) stateOf(ch market.Channel) (market.State, market.Reason) {
	if ch == market.Books || ch == market.BBOs {
		return in.bookState()
	}
	return in.state, in.why
}

// watch looks at the clock: it tells subscribers of changed states, and repeats the states of silent topics.
func (in *Instrument) watch(now time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.state, in.why = in.perceive(now)
	for _, f := range in.feeds() {
		f.tell()
	}
}
